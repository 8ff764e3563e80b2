//! Which field of `linux.resources` holds a value that no kernel takes, or that this host does not: the limits
//! of a cgroup know it by the name of what it limits, and the kernel by a file.

use crate::cgroup::{self, Controller, Limits};
use crate::spec::{Error, Resources};

/// What is limited, and the field that does it.
const FIELDS: [(&str, &str); 14] = [
    ("cpu shares", "cpu.shares"),
    ("cpu quota", "cpu.quota"),
    ("cpu period", "cpu.period"),
    ("cpu burst", "cpu.burst"),
    ("cpu real-time runtime", "cpu.realtimeRuntime"),
    ("cpu real-time period", "cpu.realtimePeriod"),
    ("cpuset.cpus", "cpu.cpus"),
    ("cpuset.mems", "cpu.mems"),
    ("memory limit", "memory.limit"),
    ("memory and swap limit", "memory.swap"),
    ("memory reservation", "memory.reservation"),
    ("kernel TCP memory limit", "memory.kernelTCP"),
    ("memory swappiness", "memory.swappiness"),
    ("pids limit", "pids.limit"),
];

/// Control files, of both versions, and the field that is written to them.
const FILES: [(&str, &str); 24] = [
    ("cpu.shares", "cpu.shares"),
    ("cpu.weight", "cpu.shares"),
    ("cpu.cfs_quota_us", "cpu.quota"),
    ("cpu.max", "cpu.quota"),
    ("cpu.cfs_period_us", "cpu.period"),
    ("cpu.cfs_burst_us", "cpu.burst"),
    ("cpu.max.burst", "cpu.burst"),
    ("cpu.rt_runtime_us", "cpu.realtimeRuntime"),
    ("cpu.rt_period_us", "cpu.realtimePeriod"),
    ("cpu.idle", "cpu.idle"),
    ("cpuset.cpus", "cpu.cpus"),
    ("cpuset.mems", "cpu.mems"),
    ("memory.limit_in_bytes", "memory.limit"),
    ("memory.max", "memory.limit"),
    ("memory.memsw.limit_in_bytes", "memory.swap"),
    ("memory.swap.max", "memory.swap"),
    ("memory.soft_limit_in_bytes", "memory.reservation"),
    ("memory.low", "memory.reservation"),
    ("memory.kmem.tcp.limit_in_bytes", "memory.kernelTCP"),
    ("memory.swappiness", "memory.swappiness"),
    ("memory.oom_control", "memory.disableOOMKiller"),
    ("pids.max", "pids.limit"),
    ("net_cls.classid", "network.classID"),
    ("net_prio.ifpriomap", "network.priorities"),
];

/// What version 2 lacks, and the field that asks for it.
const LACKED: [(&str, &str); 6] = [
    ("block I/O leaf weight", "blockIO.leafWeight"),
    ("cpu real-time runtime and period", "cpu.realtimeRuntime"),
    ("disabling the OOM killer", "memory.disableOOMKiller"),
    ("kernel TCP memory limit", "memory.kernelTCP"),
    ("memory and swap limit", "memory.swap"),
    ("memory swappiness", "memory.swappiness"),
];

/// Which field of `linux.resources` a host refuses; none when it is not one of them, or nobody knows which.
pub fn refused(error: &cgroup::Error) -> Option<String> {
    use cgroup::Error;
    let known = |names: &[(&str, &'static str)], name: &str| {
        let found = names.iter().find(|it| it.0 == name);
        found.map(|it| it.1)
    };
    let field = match error {
        Error::Unified { key, .. } => return Some(format!("linux.resources.unified.{key}")),
        Error::Write { path, value, .. } | Error::Ignored { path, value, .. } => {
            let name = path.file_name()?.to_str()?;
            known(&FILES, name).or_else(|| by_family(name, value))
        }
        Error::Unsupported { knob, .. } => known(&LACKED, knob),
        Error::Invalid { knob, .. } if *knob == "huge page size" => Some("hugepageLimits"),
        Error::Invalid { knob, .. } => known(&FIELDS, knob),
        Error::Missing { controller, .. } | Error::NotJoined { controller, .. } => of(*controller),
        Error::DeviceRule { .. } | Error::Bpf { .. } => Some("devices"),
        _ => None,
    };
    field.map(|field| format!("linux.resources.{field}"))
}

/// The field of a control file that there are several of, or that several fields write to.
fn by_family(name: &str, value: &str) -> Option<&'static str> {
    let is_of_device = value.split(' ').next().is_some_and(|it| it.contains(':'));
    let throttle = |bytes: bool, read: bool| match (bytes, read) {
        (true, true) => "blockIO.throttleReadBpsDevice",
        (true, false) => "blockIO.throttleWriteBpsDevice",
        (false, true) => "blockIO.throttleReadIOPSDevice",
        (false, false) => "blockIO.throttleWriteIOPSDevice",
    };
    match name.split('.').next()? {
        "hugetlb" => Some("hugepageLimits"),
        "rdma" => Some("rdma"),
        "devices" => Some("devices"),
        "blkio" if name.contains("throttle") => {
            Some(throttle(name.contains("_bps_"), name.contains("read_")))
        }
        "io" if name == "io.max" => Some(throttle(value.contains("bps="), value.contains(" r"))),
        "blkio" | "io" if is_of_device => Some("blockIO.weightDevice"),
        "blkio" if name.contains("leaf") => Some("blockIO.leafWeight"),
        "blkio" | "io" => Some("blockIO.weight"),
        _ => None,
    }
}

/// The field that needs a controller.
const fn of(controller: Controller) -> Option<&'static str> {
    Some(match controller {
        Controller::Cpu => "cpu",
        Controller::Cpuset => "cpu.cpus",
        Controller::Memory => "memory",
        Controller::Pids => "pids",
        Controller::Io => "blockIO",
        Controller::Devices => "devices",
        Controller::Hugetlb => "hugepageLimits",
        Controller::NetCls => "network.classID",
        Controller::NetPrio => "network.priorities",
        Controller::Rdma => "rdma",
        _ => return None,
    })
}

/// Checks the limits that were made of `resources`.
///
/// # Errors
/// The first field that no kernel takes.
pub fn check(resources: &Resources, limits: &Limits) -> Result<(), Error> {
    each(resources, limits)?;
    limits.validate().map_err(by_knob)
}

/// Checks that a container can start with the limits.
///
/// # Errors
/// The first field that leaves it no memory.
pub fn check_start(limits: &Limits) -> Result<(), Error> {
    limits.memory.lets_start().map_err(by_knob)
}

fn by_knob(error: cgroup::Error) -> Error {
    let knob = match &error {
        cgroup::Error::Invalid { knob, .. } => knob,
        _ => "",
    };
    let field = FIELDS.iter().find(|it| it.0 == knob).map_or("", |it| it.1);
    named(field, error)
}

/// Of what may be given several times, each by itself.
fn each(resources: &Resources, limits: &Limits) -> Result<(), Error> {
    let alone = |field: String, one: Limits| one.validate().map_err(|error| named(&field, error));
    for (index, it) in resources.hugepage_limits.iter().enumerate() {
        let one = limits.hugetlb.get_key_value(&it.page_size);
        let hugetlb = one.map(|(size, limit)| (size.clone(), *limit));
        let one = Limits {
            hugetlb: hugetlb.into_iter().collect(),
            ..Limits::default()
        };
        alone(format!("hugepageLimits[{index}].pageSize"), one)?;
    }
    for (index, it) in limits.network_priorities.iter().enumerate() {
        let one = Limits {
            network_priorities: vec![it.clone()],
            ..Limits::default()
        };
        alone(format!("network.priorities[{index}].name"), one)?;
    }
    for (adapter, limit) in &limits.rdma {
        let one = Limits {
            rdma: [(adapter.clone(), *limit)].into(),
            ..Limits::default()
        };
        alone(format!("rdma.{adapter}"), one)?;
    }
    for (key, text) in &limits.unified {
        let one = Limits {
            unified: [(key.clone(), text.clone())].into(),
            ..Limits::default()
        };
        alone(format!("unified.{key}"), one)?;
    }
    let io = |io: cgroup::Io| Limits {
        io,
        ..Limits::default()
    };
    let (weight, leaf_weight) = (limits.io.weight, limits.io.leaf_weight);
    let one = io(cgroup::Io {
        weight,
        ..Default::default()
    });
    alone("blockIO.weight".into(), one)?;
    let one = io(cgroup::Io {
        leaf_weight,
        ..Default::default()
    });
    alone("blockIO.leafWeight".into(), one)?;
    let weights = resources.block_io.iter().flat_map(|it| &it.weight_device);
    let weights = weights.enumerate().filter(|(_, it)| it.weight.is_some());
    for ((index, _), device) in weights.zip(&limits.io.device_weights) {
        let one = io(cgroup::Io {
            device_weights: vec![*device],
            ..Default::default()
        });
        alone(format!("blockIO.weightDevice[{index}].weight"), one)?;
    }
    Ok(())
}

fn named(field: &str, error: cgroup::Error) -> Error {
    let field = format!("linux.resources.{field}");
    match error {
        cgroup::Error::Invalid {
            value, expected, ..
        } => Error::field(field, value.trim_matches('`'), expected),
        other => Error::Refused {
            field,
            source: other.into(),
        },
    }
}
