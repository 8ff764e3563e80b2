//! Which field of `linux.resources` holds a value that no kernel takes: the limits of a cgroup know it by the
//! name of what it limits.

use crate::cgroup::{self, Limits};
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

/// Checks the limits that were made of `resources`.
///
/// # Errors
/// The first field that no kernel takes.
pub fn check(resources: &Resources, limits: &Limits) -> Result<(), Error> {
    each(resources, limits)?;
    limits.validate().map_err(|error| {
        let knob = match &error {
            cgroup::Error::Invalid { knob, .. } => knob,
            _ => "",
        };
        let field = FIELDS.iter().find(|it| it.0 == knob).map_or("", |it| it.1);
        named(field, error)
    })
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
