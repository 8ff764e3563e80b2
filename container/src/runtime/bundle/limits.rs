//! From `linux.resources` to limits of a cgroup.

use super::limit_fields;
use crate::cgroup::{
    BlockDevice, CpuWeight, DeviceAccess, DeviceKind, DeviceRule, IoRate, IoWeight, Limit, Limits,
    RdmaLimit, Throttle,
};
use crate::spec::{self, Error, Resources};

/// Devices that every container may use, whatever its rules say: `mknod` of any, and those that it is
/// given (`config-linux.md`, "Default Devices").
const ALLOWED: [(DeviceKind, Option<u32>, Option<u32>, DeviceAccess); 10] = {
    use DeviceKind::{Block, Char};
    const ALL: DeviceAccess = DeviceAccess::ALL;
    [
        (Char, None, None, DeviceAccess::MKNOD),
        (Block, None, None, DeviceAccess::MKNOD),
        (Char, Some(1), Some(3), ALL),
        (Char, Some(1), Some(8), ALL),
        (Char, Some(1), Some(7), ALL),
        (Char, Some(5), Some(0), ALL),
        (Char, Some(1), Some(5), ALL),
        (Char, Some(1), Some(9), ALL),
        (Char, Some(136), None, ALL),
        (Char, Some(5), Some(2), ALL),
    ]
};

/// The limits that `resources` ask for.
///
/// # Errors
/// A field whose value means nothing, or that no kernel takes.
pub fn limits(resources: &Resources) -> Result<Limits, Error> {
    let limits = translate(resources)?;
    limit_fields::check(resources, &limits)?;
    Ok(limits)
}

fn translate(resources: &Resources) -> Result<Limits, Error> {
    let mut limits = Limits {
        unified: resources.unified.clone(),
        ..Limits::default()
    };
    devices(resources, &mut limits)?;
    if let Some(memory) = &resources.memory {
        let at = |name: &str, value: Option<i64>| {
            bytes(&format!("linux.resources.memory.{name}"), value)
        };
        limits.memory.limit_bytes = at("limit", memory.limit)?;
        limits.memory.memory_and_swap_bytes = match (memory.limit, memory.swap) {
            // Said by itself, none is meant (as with crun); beside others, nothing is.
            (None, Some(0)) => Some(Limit::At(0)),
            (_, swap) => at("swap", swap)?,
        };
        limits.memory.reservation_bytes = at("reservation", memory.reservation)?;
        // Every kernel of our time has hierarchical accounting, and no other.
        if memory.use_hierarchy == Some(false) {
            let why = "what a group uses counts for those above it, always; remove it";
            return Err(Error::field(
                "linux.resources.memory.useHierarchy",
                false,
                why,
            ));
        }
        limits.memory.kernel_tcp_bytes = at("kernelTCP", memory.kernel_tcp)?;
        limits.memory.swappiness = memory.swappiness;
        limits.memory.disable_oom_killer = memory.disable_oom_killer.filter(|disable| *disable);
        limits.memory.check_before_update = memory.check_before_update.unwrap_or(false);
    }
    if let Some(cpu) = &resources.cpu {
        limits.cpu.weight = cpu
            .shares
            .filter(|shares| *shares != 0)
            .map(CpuWeight::Shares);
        limits.cpu.quota_us = match cpu.quota {
            None | Some(0) => None,
            Some(value) if value < 0 => Some(Limit::Max),
            Some(value) => Some(Limit::At(value as u64)),
        };
        limits.cpu.period_us = cpu.period.filter(|period| *period != 0);
        limits.cpu.burst_us = cpu.burst;
        limits.cpu.realtime_runtime_us = cpu
            .realtime_runtime
            .filter(|it| *it != 0)
            .and_then(Limit::from_signed);
        limits.cpu.realtime_period_us = cpu.realtime_period.filter(|it| *it != 0);
        limits.cpu.idle = cpu.idle.map(is_idle).transpose()?;
        limits.cpuset.cpus = Some(cpu.cpus.clone()).filter(|list| !list.is_empty());
        limits.cpuset.mems = Some(cpu.mems.clone()).filter(|list| !list.is_empty());
    }
    limits.pids.max = match resources.pids.as_ref().and_then(|pids| pids.limit) {
        None | Some(0) => None,
        Some(value) if value < 0 => Some(Limit::Max),
        Some(value) => Some(Limit::At(value as u64)),
    };
    if let Some(io) = &resources.block_io {
        block_io(io, &mut limits)?;
    }
    limits.hugetlb = resources
        .hugepage_limits
        .iter()
        .map(|it| (it.page_size.clone(), Limit::At(it.limit)))
        .collect();
    if let Some(network) = &resources.network {
        limits.network_class = network.class_id.filter(|class| *class != 0);
        limits.network_priorities = network
            .priorities
            .iter()
            .map(|it| (it.name.clone(), it.priority))
            .collect();
    }
    limits.rdma = resources
        .rdma
        .iter()
        .map(|(adapter, it)| {
            let at = |value: Option<u32>| value.map(|value| Limit::At(value.into()));
            (
                adapter.clone(),
                RdmaLimit {
                    handles: at(it.hca_handles),
                    objects: at(it.hca_objects),
                },
            )
        })
        .collect();
    Ok(limits)
}

/// Tells of a limit that will not hold: that is no error, in any runtime.
pub fn warn(resources: &Resources) {
    let kernel = resources.memory.as_ref().and_then(|it| it.kernel);
    if kernel.is_some_and(|it| it != 0) {
        log::warn!(
            "ignoring `linux.resources.memory.kernel`: kernels do not limit their own memory \
             alone any more; use `limit`"
        );
    }
}

fn is_idle(value: i64) -> Result<bool, Error> {
    match value {
        0 | 1 => Ok(value == 1),
        other => Err(Error::field(
            "linux.resources.cpu.idle",
            other,
            "give 1 for work that may wait, or 0",
        )),
    }
}

fn bytes(field: &str, value: Option<i64>) -> Result<Option<Limit>, Error> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) => Limit::from_signed(value)
            .map(Some)
            .ok_or_else(|| Error::field(field, value, "give bytes, or -1 for no limit")),
    }
}

fn devices(resources: &Resources, limits: &mut Limits) -> Result<(), Error> {
    for (index, rule) in resources.devices.iter().enumerate() {
        let at = |name: &str| format!("linux.resources.devices[{index}].{name}");
        let kind = match rule.kind.as_str() {
            "" | "a" => DeviceKind::All,
            "c" | "u" => DeviceKind::Char,
            "b" => DeviceKind::Block,
            other => return Err(Error::field(at("type"), other, "give a, b or c")),
        };
        let number = |name: &str, value: Option<i64>, most: u32| match value {
            None | Some(-1) => Ok(None),
            Some(value) => {
                let number = u32::try_from(value).ok().filter(|it| *it <= most);
                let why = "give a device number, or -1 for all: major to 4095, minor to 1048575";
                let refused = || Error::field(at(name), value, why);
                number.map(Some).ok_or_else(refused)
            }
        };
        // As runc has it, letters that mean nothing are passed over, as long as one means something.
        let is_word = rule.access.bytes().all(|it| it.is_ascii_lowercase());
        let known: String = rule
            .access
            .chars()
            .filter(|it| "rwm".contains(*it))
            .collect();
        let access = match known.as_str() {
            _ if rule.access.is_empty() => Some(DeviceAccess::ALL),
            known if is_word && !known.is_empty() => DeviceAccess::parse(known),
            _ => None,
        };
        let access = access
            .ok_or_else(|| Error::field(at("access"), &rule.access, "give some of r, w and m"))?;
        limits.devices.push(if kind == DeviceKind::All {
            DeviceRule::everything(rule.allow)
        } else {
            DeviceRule {
                allow: rule.allow,
                kind,
                major: number("major", rule.major, 4095)?,
                minor: number("minor", rule.minor, 1_048_575)?,
                access,
            }
        });
    }
    if !limits.devices.is_empty() {
        limits
            .devices
            .extend(ALLOWED.map(|(kind, major, minor, access)| DeviceRule {
                allow: true,
                kind,
                major,
                minor,
                access,
            }));
    }
    Ok(())
}

fn block_io(io: &spec::BlockIo, limits: &mut Limits) -> Result<(), Error> {
    let device = |field: String, major: i64, minor: i64| {
        let number = |name: &str, value: i64| {
            let why = "give the numbers of a block device";
            u32::try_from(value).map_err(|_| Error::field(format!("{field}.{name}"), value, why))
        };
        let (major, minor) = (number("major", major)?, number("minor", minor)?);
        Ok::<_, Error>(BlockDevice { major, minor })
    };
    let weight = |weight: u16| IoWeight::Blkio(weight.into());
    limits.io.weight = io.weight.filter(|it| *it != 0).map(weight);
    limits.io.leaf_weight = io.leaf_weight.filter(|it| *it != 0).map(u64::from);
    for (index, it) in io.weight_device.iter().enumerate() {
        let device = device(
            format!("linux.resources.blockIO.weightDevice[{index}]"),
            it.major,
            it.minor,
        )?;
        if let Some(leaf) = it.leaf_weight.filter(|leaf| *leaf != 0) {
            return Err(Error::field(
                format!("linux.resources.blockIO.weightDevice[{index}].leafWeight"),
                leaf,
                "kernels have no such weight since Linux 5.0; use `weight`",
            ));
        }
        if let Some(share) = it.weight {
            limits.io.device_weights.push((device, weight(share)));
        }
    }
    for (name, rate, list) in [
        (
            "throttleReadBpsDevice",
            IoRate::ReadBytes,
            &io.throttle_read_bps_device,
        ),
        (
            "throttleWriteBpsDevice",
            IoRate::WriteBytes,
            &io.throttle_write_bps_device,
        ),
        (
            "throttleReadIOPSDevice",
            IoRate::ReadOperations,
            &io.throttle_read_iops_device,
        ),
        (
            "throttleWriteIOPSDevice",
            IoRate::WriteOperations,
            &io.throttle_write_iops_device,
        ),
    ] {
        for (index, it) in list.iter().enumerate() {
            let device = device(
                format!("linux.resources.blockIO.{name}[{index}]"),
                it.major,
                it.minor,
            )?;
            let limit = if it.rate == 0 {
                Limit::Max
            } else {
                Limit::At(it.rate)
            };
            limits.io.throttles.push(Throttle {
                device,
                rate,
                limit,
            });
        }
    }
    Ok(())
}
