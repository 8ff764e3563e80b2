use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A small configuration that every host could run.
fn good() -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {"args": ["true"], "cwd": "/", "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 9, "soft": 8}]},
        "root": {"path": "rootfs"},
        "hostname": "h",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "hooks": {"poststop": [{"path": "/bin/true", "timeout": 3}]},
        "linux": {
            "namespaces": [{"type": "uts"}, {"type": "mount"}, {"type": "user"}],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
            "maskedPaths": ["/proc/kcore"],
            "devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229}],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}
        }
    })
}

fn check(value: &Value) -> Result<(), Error> {
    Spec::parse(value.to_string().as_bytes())?.validate()
}

#[test]
fn a_small_configuration_is_good() {
    check(&good()).unwrap();
}

#[test]
fn lists_that_are_longer_than_init_counts_are_named() {
    let mount = json!({"destination": "/a", "type": "tmpfs"});
    let device = json!({"type": "p", "path": "/p"});
    for (pointer, one, field) in [
        ("/mounts", mount, "mounts"),
        ("/linux/devices", device, "linux.devices"),
        ("/linux/maskedPaths", json!("/a"), "linux.maskedPaths"),
    ] {
        let mut value = good();
        let list = |count| Value::from(vec![one.clone(); count]);
        *value.pointer_mut(pointer).unwrap() = list(10_000);
        check(&value).unwrap();
        *value.pointer_mut(pointer).unwrap() = list(10_001);
        let error = check(&value).unwrap_err();
        assert_eq!(error.field_path(), Some(field), "{error}");
    }
}

#[test]
fn null_is_absent() {
    let mut value = good();
    for pointer in [
        "/mounts",
        "/hooks",
        "/annotations",
        "/hostname",
        "/linux/sysctl",
        "/linux/resources",
        "/process/env",
        "/process/capabilities",
        "/linux/maskedPaths",
    ] {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[name] = Value::Null;
    }
    check(&value).unwrap();
}

/// Each impossible value, where it is put, and which field the error names.
#[test]
fn each_impossible_field_is_named_by_its_path() {
    let cases = [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("one"), "ociVersion"),
        ("/ociVersion", json!(1), "ociVersion"),
        ("/root", Value::Null, "root"),
        ("/root/path", json!(""), "root.path"),
        ("/root/path", json!("a\0b"), "root.path"),
        ("/process/cwd", json!("tmp"), "process.cwd"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args/0", json!("a\0"), "process.args[0]"),
        ("/process/args/0", json!(7), "process.args[0]"),
        ("/process/args/0", json!(""), "process.args[0]"),
        ("/process/env", json!(["A=1", "B"]), "process.env[1]"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("/process/user", json!({"uid": -1}), "process.user.uid"),
        (
            "/process/user",
            json!({"uid": u32::MAX}),
            "process.user.uid",
        ),
        (
            "/process/user",
            json!({"gid": u32::MAX}),
            "process.user.gid",
        ),
        (
            "/process/user",
            json!({"additionalGids": [5, u32::MAX]}),
            "process.user.additionalGids[1]",
        ),
        (
            "/process/user",
            json!({"umask": 4096}),
            "process.user.umask",
        ),
        (
            "/process/rlimits/0/type",
            json!("RLIMIT_JOY"),
            "process.rlimits[0].type",
        ),
        (
            "/process/rlimits/0/soft",
            json!(10),
            "process.rlimits[0].soft",
        ),
        ("/hostname", json!("h".repeat(65)), "hostname"),
        ("/mounts/0/destination", json!(""), "mounts[0].destination"),
        ("/mounts/0/destination", json!("/"), "mounts[0].destination"),
        (
            "/mounts/0",
            json!({"destination": "/a", "type": "bind"}),
            "mounts[0].source",
        ),
        (
            "/mounts/0/options",
            json!(["ro", "a\0"]),
            "mounts[0].options[1]",
        ),
        ("/mounts/0/options", json!("ro"), "mounts[0].options"),
        (
            "/mounts/0",
            json!({"destination": "/a", "source": "/b"}),
            "mounts[0].type",
        ),
        (
            "/mounts/0/uidMappings",
            json!([{"containerID": 0, "hostID": 1, "size": 1}]),
            "mounts[0].gidMappings",
        ),
        (
            "/hooks/poststop/0/path",
            json!("true"),
            "hooks.poststop[0].path",
        ),
        (
            "/hooks/poststop/0/timeout",
            json!(0),
            "hooks.poststop[0].timeout",
        ),
        (
            "/linux/namespaces/1/type",
            json!("uts"),
            "linux.namespaces[1].type",
        ),
        (
            "/linux/namespaces/1/type",
            json!("galaxy"),
            "linux.namespaces[1].type",
        ),
        (
            "/linux/namespaces/1",
            json!({"type": "mount", "path": "x"}),
            "linux.namespaces[1].path",
        ),
        ("/linux/uidMappings", json!([]), "linux.uidMappings"),
        (
            "/linux/uidMappings/0/size",
            json!(0),
            "linux.uidMappings[0].size",
        ),
        (
            "/linux/uidMappings/0/size",
            json!(u32::MAX),
            "linux.uidMappings[0].size",
        ),
        (
            "/linux/namespaces/2/type",
            json!("ipc"),
            "linux.uidMappings",
        ),
        (
            "/linux/timeOffsets",
            json!({"monotonic": {"secs": 1}}),
            "linux.timeOffsets.monotonic",
        ),
        (
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "1"}),
            "linux.sysctl.net.ipv4.ip_forward",
        ),
        (
            "/linux/sysctl",
            json!({"vm.swappiness": "1"}),
            "linux.sysctl.vm.swappiness",
        ),
        (
            "/linux/sysctl",
            json!({"kernel.hostname": "x"}),
            "linux.sysctl.kernel.hostname",
        ),
        (
            "/linux/sysctl",
            json!({"net../../vm": "x"}),
            "linux.sysctl.net../../vm",
        ),
        (
            "/linux/maskedPaths/0",
            json!("/a\0b"),
            "linux.maskedPaths[0]",
        ),
        (
            "/linux/rootfsPropagation",
            json!("odd"),
            "linux.rootfsPropagation",
        ),
        ("/linux/devices/0/type", json!("z"), "linux.devices[0].type"),
        (
            "/linux/devices/0/minor",
            json!(-1),
            "linux.devices[0].minor",
        ),
        (
            "/linux/personality",
            json!({"domain": "BSD"}),
            "linux.personality.domain",
        ),
        ("/linux/intelRdt", json!({}), "linux.intelRdt"),
        ("/linux/memoryPolicy", json!({}), "linux.memoryPolicy.mode"),
        (
            "/linux/netDevices",
            json!({"eth0": {}}),
            "linux.netDevices.eth0",
        ),
        (
            "/linux/seccomp/syscalls/0/names",
            json!([]),
            "linux.seccomp.syscalls[0].names",
        ),
        (
            "/linux/seccomp/syscalls/0/args/0/index",
            json!(6),
            "linux.seccomp.syscalls[0].args[0].index",
        ),
    ];
    for (pointer, replacement, expected) in cases {
        let mut value = good();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let place = value.pointer_mut(parent).unwrap();
        match place {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = replacement.clone(),
            other => other[name] = replacement.clone(),
        }
        let error = check(&value).expect_err(pointer);
        assert_eq!(error.field_path(), Some(expected), "{replacement}: {error}");
        assert!(
            error.to_string().contains(&format!("`{expected}`")),
            "{error}"
        );
    }
}

#[test]
fn what_is_not_json_is_an_error() {
    for text in ["", "{", "[]", "{\"root\": }", "\u{feff}{}", "{} {}", "null"] {
        assert!(check_bytes(text.as_bytes()).is_err(), "{text:?}");
    }
    // Nesting deeper than the parser's own limit.
    let deep = format!("{{\"linux\": {}", "[".repeat(1 << 16));
    assert!(check_bytes(deep.as_bytes()).is_err());
}

fn check_bytes(bytes: &[u8]) -> Result<(), Error> {
    Spec::parse(bytes)?.validate()
}

#[test]
fn capabilities_have_the_kernels_numbers() {
    assert_eq!(capability_number("CAP_CHOWN"), Some(0));
    assert_eq!(capability_number("cap_sys_admin"), Some(21));
    assert_eq!(capability_number("CHECKPOINT_RESTORE"), Some(40));
    assert_eq!(capability_number("CAP_FLY"), None);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-zA-Z/.\0]{0,9}".prop_map(Value::from),
        Just(json!("RLIMIT_NOFILE")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// All places of a document, as JSON pointers.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                places(value, format!("{at}/{name}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                places(value, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

proptest! {
    #[test]
    fn any_bytes_are_a_configuration_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = check_bytes(&bytes);
    }

    #[test]
    fn any_value_in_any_place_is_accepted_or_an_error(seed: prop::sample::Index, replacement in any_json()) {
        let mut value = good();
        let mut all = Vec::new();
        places(&value, String::new(), &mut all);
        *value.pointer_mut(&all[seed.index(all.len())]).unwrap() = replacement;
        if let Err(error) = check(&value) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn what_is_written_is_read_again(seed: prop::sample::Index, replacement in any_json()) {
        let mut value = good();
        let mut all = Vec::new();
        places(&value, String::new(), &mut all);
        *value.pointer_mut(&all[seed.index(all.len())]).unwrap() = replacement;
        if let Ok(spec) = Spec::parse(value.to_string().as_bytes()) {
            let again = Spec::parse(&serde_json::to_vec(&spec).unwrap()).unwrap();
            prop_assert_eq!(spec, again);
        }
    }
}

#[test]
fn no_processes_at_all_are_a_limit_since_1_3() {
    for (version, limit) in [("1.0.2", 0), ("1.2.1", 0), ("1.3.0", 1), ("1.3.0-rc.1", 1)] {
        let text = format!(
            r#"{{"ociVersion": "{version}", "linux": {{"resources": {{"pids": {{"limit": 0}}}}}}}}"#
        );
        let mut spec = Spec::parse(text.as_bytes()).unwrap();
        spec.count_zero_pids();
        let pids = spec.linux.resources.pids.unwrap();
        assert_eq!(pids.limit, Some(limit), "{version}");
    }
}
