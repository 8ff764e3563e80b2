//! Whatever one field of a configuration is spoilt with, the error names that field by its path.
//!
//! A configuration that has everything loses some of it at random, and is still good; then one place of
//! what is left gets a value of another type, out of range, or with a byte that no kernel takes.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use serde_json::{Value, json};

use super::{Options, init_steps, limit_fields, limits};
use crate::spec::{Error, Spec};

/// A configuration with every field that does not need something of the host's.
fn everything() -> Value {
    let hook = json!([{"path": "/bin/true", "args": ["true", "a"], "env": ["A=b"], "timeout": 3}]);
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 10, "hostID": 5000, "size": 1}]);
    let sets = json!(["CAP_CHOWN", "CAP_KILL"]);
    let rates = json!([{"major": 8, "minor": 0, "rate": 9}, {"major": 8, "minor": 16, "rate": 7}]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true,
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
            "args": ["true", "a"],
            "env": ["A=b", "PATH=/bin"],
            "cwd": "/tmp",
            "capabilities": {"bounding": sets, "effective": sets, "inheritable": sets, "permitted": sets, "ambient": sets},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 9, "soft": 8}, {"type": "RLIMIT_CORE", "hard": 2, "soft": 1}],
            "noNewPrivileges": true,
            "oomScoreAdj": 7,
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                "runtime": 0, "deadline": 0, "period": 0},
            "execCPUAffinity": {"initial": "0-1", "final": "0"}
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "h",
        "domainname": "d",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/a", "type": "bind", "source": "/usr", "options": ["rbind", "ro"], "uidMappings": map, "gidMappings": map},
            {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}
        ],
        "hooks": {"prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": hook,
            "poststart": hook, "poststop": hook},
        "annotations": {"org.x": "y"},
        "linux": {
            "namespaces": [{"type": "uts"}, {"type": "mount"}, {"type": "user"}, {"type": "time"}, {"type": "ipc"},
                {"type": "network", "path": "/proc/1/ns/net"}, {"type": "pid"}, {"type": "cgroup"}],
            "uidMappings": map,
            "gidMappings": map,
            "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
            "sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9"},
            "cgroupsPath": "/x",
            "devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 1, "gid": 2},
                {"type": "p", "path": "/dev/pipe"}],
            "rootfsPropagation": "slave",
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
            "personality": {"domain": "LINUX"},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 38,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/run/listener",
                "listenerMetadata": "m",
                "syscalls": [{"names": ["mkdir", "read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                    "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]},
                    {"names": ["rmdir"], "action": "SCMP_ACT_ALLOW"}]
            },
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
                "memory": {"limit": 67108864, "reservation": 33554432, "swap": 134217728, "kernelTCP": 4096, "swappiness": 7,
                    "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
                "cpu": {"shares": 1024, "quota": 50000, "burst": 1000, "period": 100000, "realtimeRuntime": 950, "realtimePeriod": 1000,
                    "cpus": "0-1", "mems": "0", "idle": 0},
                "pids": {"limit": 100},
                "blockIO": {"weight": 10, "leafWeight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
                    "throttleReadBpsDevice": rates, "throttleWriteBpsDevice": rates,
                    "throttleReadIOPSDevice": rates, "throttleWriteIOPSDevice": rates},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 9}, {"pageSize": "1GB", "limit": 8}],
                "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 5}]},
                "rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 4}},
                "unified": {"memory.high": "9"}
            }
        }
    })
}

/// What a configuration can do without.
const OPTIONAL: [&str; 51] = [
    "/process/terminal",
    "/process/consoleSize",
    "/process/user",
    "/process/env",
    "/process/capabilities",
    "/process/capabilities/ambient",
    "/process/rlimits",
    "/process/noNewPrivileges",
    "/process/oomScoreAdj",
    "/process/ioPriority",
    "/process/scheduler",
    "/process/scheduler/flags",
    "/process/execCPUAffinity",
    "/root/readonly",
    "/hostname",
    "/domainname",
    "/mounts",
    "/hooks",
    "/hooks/prestart",
    "/hooks/createRuntime",
    "/hooks/createContainer",
    "/hooks/startContainer",
    "/hooks/poststart",
    "/hooks/poststop",
    "/annotations",
    "/linux/timeOffsets",
    "/linux/sysctl",
    "/linux/cgroupsPath",
    "/linux/devices",
    "/linux/rootfsPropagation",
    "/linux/maskedPaths",
    "/linux/readonlyPaths",
    "/linux/personality",
    "/linux/seccomp",
    "/linux/seccomp/syscalls",
    "/linux/seccomp/architectures",
    "/linux/seccomp/flags",
    "/linux/resources",
    "/linux/resources/devices",
    "/linux/resources/memory",
    "/linux/resources/memory/swappiness",
    "/linux/resources/cpu",
    "/linux/resources/cpu/shares",
    "/linux/resources/cpu/burst",
    "/linux/resources/pids",
    "/linux/resources/blockIO",
    "/linux/resources/blockIO/weight",
    "/linux/resources/hugepageLimits",
    "/linux/resources/network",
    "/linux/resources/rdma",
    "/linux/resources/unified",
];

/// Values of the right type that no kernel takes: where, and each.
fn impossible() -> Vec<(&'static str, Vec<Value>)> {
    let word = || vec![json!("odd"), json!("")];
    let numbers = |low: i64, high: i64| vec![json!(low - 1), json!(high + 1)];
    vec![
        ("/ociVersion", vec![json!("2.0.0"), json!("1"), json!("")]),
        ("/process/user/umask", vec![json!(512)]),
        ("/process/cwd", vec![json!("tmp"), json!("")]),
        ("/process/args", vec![json!([])]),
        ("/process/rlimits/1/type", word()),
        ("/process/rlimits/0/soft", vec![json!(10)]),
        ("/process/oomScoreAdj", numbers(-1000, 1000)),
        ("/process/ioPriority/class", word()),
        ("/process/ioPriority/priority", numbers(0, 7)),
        ("/process/scheduler/policy", word()),
        ("/process/scheduler/nice", numbers(-20, 19)),
        (
            "/process/scheduler/priority",
            vec![json!(-1), json!(100), json!(5)],
        ),
        ("/process/scheduler/flags/0", word()),
        (
            "/process/execCPUAffinity/initial",
            vec![json!("1-"), json!("a"), json!("3-1")],
        ),
        (
            "/process/execCPUAffinity/final",
            vec![json!("-"), json!("4096")],
        ),
        ("/root/path", vec![json!("")]),
        ("/hostname", vec![json!("h".repeat(65))]),
        ("/domainname", vec![json!("d".repeat(65))]),
        ("/mounts/0/destination", vec![json!(""), json!("/")]),
        ("/mounts/1/source", vec![json!("")]),
        (
            "/mounts/1/uidMappings/1/size",
            vec![json!(0), json!(u32::MAX)],
        ),
        (
            "/hooks/createContainer/0/path",
            vec![json!("true"), json!("")],
        ),
        ("/hooks/poststop/0/timeout", vec![json!(0), json!(-1)]),
        ("/linux/namespaces/5/type", word()),
        ("/linux/namespaces/6/type", vec![json!("uts")]),
        ("/linux/namespaces/5/path", vec![json!("ns")]),
        ("/linux/uidMappings", vec![json!([])]),
        ("/linux/uidMappings/0/size", vec![json!(0), json!(u32::MAX)]),
        ("/linux/gidMappings/1/size", vec![json!(0)]),
        (
            "/linux/timeOffsets/monotonic/nanosecs",
            vec![json!(1_000_000_000)],
        ),
        ("/linux/devices/0/type", word()),
        ("/linux/devices/0/path", vec![json!("fuse"), json!("")]),
        ("/linux/devices/0/major", numbers(0, 4095)),
        ("/linux/devices/0/minor", numbers(0, 1_048_575)),
        ("/linux/rootfsPropagation", vec![json!("odd")]),
        ("/linux/maskedPaths/1", vec![json!("/proc\0kcore")]),
        ("/linux/readonlyPaths/0", vec![json!("/proc\0sys")]),
        ("/linux/personality/domain", word()),
        ("/linux/seccomp/defaultAction", word()),
        ("/linux/seccomp/defaultErrnoRet", vec![json!(4096)]),
        ("/linux/seccomp/architectures/1", word()),
        ("/linux/seccomp/flags/0", word()),
        ("/linux/seccomp/syscalls/0/names", vec![json!([])]),
        ("/linux/seccomp/syscalls/0/action", word()),
        ("/linux/seccomp/syscalls/0/errnoRet", vec![json!(4096)]),
        ("/linux/seccomp/syscalls/0/args/0/index", vec![json!(6)]),
        ("/linux/seccomp/syscalls/0/args/0/op", word()),
        ("/linux/resources/devices/1/type", vec![json!("odd")]),
        ("/linux/resources/devices/1/major", numbers(-1, 4095)),
        ("/linux/resources/devices/1/minor", numbers(-1, 1_048_575)),
        ("/linux/resources/devices/1/access", vec![json!("x")]),
        ("/linux/resources/memory/limit", vec![json!(-2)]),
        ("/linux/resources/memory/reservation", vec![json!(-2)]),
        (
            "/linux/resources/memory/swap",
            vec![json!(1), json!(-2), json!(67_108_863)],
        ),
        ("/linux/resources/memory/kernelTCP", vec![json!(-2)]),
        ("/linux/resources/memory/swappiness", vec![json!(201)]),
        ("/linux/resources/memory/useHierarchy", vec![json!(false)]),
        (
            "/linux/resources/cpu/shares",
            vec![json!(1), json!(262_145)],
        ),
        ("/linux/resources/cpu/quota", vec![json!(999)]),
        ("/linux/resources/cpu/burst", vec![json!(50_001)]),
        (
            "/linux/resources/cpu/period",
            vec![json!(999), json!(1_000_001)],
        ),
        ("/linux/resources/cpu/realtimeRuntime", vec![json!(1001)]),
        ("/linux/resources/cpu/realtimePeriod", vec![json!(u64::MAX)]),
        ("/linux/resources/cpu/cpus", vec![json!("a"), json!("1-")]),
        ("/linux/resources/cpu/mems", vec![json!("0-")]),
        ("/linux/resources/pids/limit", vec![json!(4_194_305)]),
        ("/linux/resources/blockIO/weight", numbers(10, 1000)),
        ("/linux/resources/blockIO/leafWeight", numbers(10, 1000)),
        (
            "/linux/resources/blockIO/weightDevice/0/major",
            vec![json!(-1)],
        ),
        (
            "/linux/resources/blockIO/weightDevice/0/weight",
            numbers(10, 1000),
        ),
        (
            "/linux/resources/blockIO/throttleReadBpsDevice/1/minor",
            vec![json!(-1)],
        ),
        (
            "/linux/resources/hugepageLimits/1/pageSize",
            vec![json!("3MB"), json!("")],
        ),
        (
            "/linux/resources/network/priorities/0/name",
            vec![json!(""), json!("a b")],
        ),
    ]
}

/// Where any text is as good as another: notes, and names of what a kernel may not have.
const ANY_TEXT: [&str; 4] = [
    "annotations.",
    "process.capabilities.",
    ".names[",
    "listenerMetadata",
];

fn check(value: &Value) -> Result<(), Error> {
    let spec = Spec::parse(value.to_string().as_bytes())?;
    spec.validate()?;
    limit_fields::check_start(&limits::limits(&spec.linux.resources)?)?;
    init_steps(&spec, Path::new("/bundle"), &Options::default()).map(drop)
}

/// A JSON pointer as errors write it.
fn path(pointer: &str) -> String {
    let mut path = String::new();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => path += &format!("[{index}]"),
            Err(_) if path.is_empty() => path += part,
            Err(_) => path += &format!(".{part}"),
        }
    }
    path
}

/// Every place but the whole, as a JSON pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |name: &str, value: &Value| {
        let at = format!("{at}/{name}");
        places(value, &at, found);
        found.push(at);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, it)| below(name, it)),
        Value::Array(list) => {
            let each = list.iter().enumerate();
            each.for_each(|(index, it)| below(&index.to_string(), it));
        }
        _ => {}
    }
}

/// Values of other types than `value`.
fn other_types(value: &Value) -> Vec<Value> {
    let all = [json!("text"), json!(7), json!(true), json!({}), json!([])];
    let kind = std::mem::discriminant(value);
    let mut others: Vec<Value> = all
        .into_iter()
        .filter(|it| std::mem::discriminant(it) != kind)
        // A list in the place of an object is its fields in order.
        .filter(|it| !(value.is_object() && it.is_array()))
        .collect();
    if value.is_number() {
        others.extend([json!(1.5), json!(1e30), json!(-1e30)]);
    }
    others
}

#[track_caller]
fn is_named(value: &Value, pointer: &str) {
    let spoilt = value.pointer(pointer).unwrap();
    match check(value) {
        Ok(()) => panic!("{spoilt} in {pointer} is accepted"),
        Err(error) => {
            let expected = path(pointer);
            assert_eq!(
                error.field_path(),
                Some(expected.as_str()),
                "{spoilt}: {error}"
            );
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
}

/// Without some of what it can do without.
fn some() -> impl Strategy<Value = Value> {
    subsequence(&OPTIONAL, 0..OPTIONAL.len()).prop_map(|without| {
        let mut value = everything();
        for pointer in without {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            if let Some(Value::Object(map)) = value.pointer_mut(parent) {
                map.remove(name);
            }
        }
        value
    })
}

#[test]
fn a_configuration_with_everything_is_good() {
    check(&everything()).unwrap();
}

#[test]
fn every_value_that_no_kernel_takes_is_named_by_its_path() {
    for (pointer, values) in impossible() {
        for value in values {
            let mut spoilt = everything();
            *spoilt.pointer_mut(pointer).expect(pointer) = value;
            is_named(&spoilt, pointer);
        }
    }
}

#[test]
fn a_policy_has_the_values_that_it_takes() {
    let with = |scheduler: Value| {
        let mut value = everything();
        value["process"]["scheduler"] = scheduler;
        value
    };
    for good in [
        json!({"policy": "SCHED_FIFO", "priority": 1}),
        json!({"policy": "SCHED_RR", "priority": 99}),
        json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000}),
        json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 2000, "period": 2000}),
    ] {
        check(&with(good)).unwrap();
    }
    for (bad, name) in [
        (json!({"policy": "SCHED_FIFO", "priority": 0}), "priority"),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 3000}),
            "runtime",
        ),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 1999}),
            "deadline",
        ),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 2999}),
            "period",
        ),
    ] {
        is_named(&with(bad), &format!("/process/scheduler/{name}"));
    }
}

proptest! {
    #[test]
    fn a_part_of_everything_is_good(value in some()) {
        check(&value).unwrap();
    }

    #[test]
    fn a_value_that_no_kernel_takes_is_named_whatever_else_there_is(mut value in some(), which: Index, how: Index) {
        let all = impossible();
        let (pointer, values) = &all[which.index(all.len())];
        let Some(place) = value.pointer_mut(pointer) else { return Ok(()) };
        *place = values[how.index(values.len())].clone();
        is_named(&value, pointer);
    }

    #[test]
    fn a_value_of_another_type_is_named_by_its_path(mut value in some(), which: Index, how: Index) {
        let mut all = Vec::new();
        places(&value, "", &mut all);
        let pointer = &all[which.index(all.len())];
        let place = value.pointer_mut(pointer).unwrap();
        let others = other_types(place);
        *place = others[how.index(others.len())].clone();
        is_named(&value, pointer);
    }

    #[test]
    fn a_byte_that_no_kernel_takes_is_named_by_its_path(mut value in some(), which: Index) {
        let mut all = Vec::new();
        places(&value, "", &mut all);
        all.retain(|it| value.pointer(it).is_some_and(Value::is_string));
        all.retain(|it| !ANY_TEXT.iter().any(|any| path(it).contains(any)));
        let pointer = &all[which.index(all.len())];
        let place = value.pointer_mut(pointer).unwrap();
        *place = format!("{}\0", place.as_str().unwrap()).into();
        is_named(&value, pointer);
    }
}
