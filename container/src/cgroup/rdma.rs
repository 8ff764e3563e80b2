//! Controller `rdma`: how many resources of an InfiniBand adapter a group may hold.
//!
//! Sources: `cgroup-v1/rdma.rst`, `cgroup-v2.rst` ("RDMA"). Both versions use the same files.

use std::collections::BTreeMap;

use super::{Controller, Error, Group, Limit, Result, value};

/// `DEVICE hca_handle=N hca_object=N`, each a number or `max`.
const MAX: &str = "rdma.max";
/// The same: what is held now.
const CURRENT: &str = "rdma.current";

/// What may be held of one adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RdmaLimit {
    /// Open handles of the adapter.
    pub handles: Option<Limit>,
    /// Objects: memory regions, queues and the like.
    pub objects: Option<Limit>,
}

/// Limits of `rdma`, for each adapter by its name.
pub type Rdma = BTreeMap<String, RdmaLimit>;

pub(super) fn validate(limits: &Rdma) -> Result<()> {
    for (device, limit) in limits {
        if device.is_empty() || device.bytes().any(|b| b.is_ascii_whitespace() || b == 0) {
            let expected = "it must be a word such as mlx5_0";
            return Err(Error::invalid(
                "rdma device",
                format!("`{device}`"),
                expected,
            ));
        }
        // The kernel keeps these as positive ints.
        for bound in [limit.handles, limit.objects].into_iter().flatten() {
            if bound.bounded().is_some_and(|bound| bound > i32::MAX as u64) {
                return Err(Error::invalid(
                    "rdma limit",
                    bound,
                    "it must be below 2^31, or max",
                ));
            }
        }
        if *limit == RdmaLimit::default() {
            let expected = "it limits nothing; give handles, objects or both";
            return Err(Error::invalid(
                "rdma device",
                format!("`{device}`"),
                expected,
            ));
        }
    }
    Ok(())
}

pub(super) fn apply(limits: &Rdma, group: &Group) -> Result<()> {
    let dir = group.joined(Controller::Rdma)?;
    for (device, limit) in limits {
        let mut line = device.clone();
        for (key, bound) in [("hca_handle", limit.handles), ("hca_object", limit.objects)] {
            if let Some(bound) = bound {
                line += &format!(" {key}={bound}");
            }
        }
        dir.write(MAX, &line)?;
    }
    Ok(())
}

/// Reads what is held, if the group joined the controller.
pub(super) fn stats(group: &Group) -> Result<Option<Rdma>> {
    let Some(dir) = group.directory(Controller::Rdma) else {
        return Ok(None);
    };
    let text = dir.read_optional(CURRENT)?.unwrap_or_default();
    let line = |line: &str| {
        let (device, values) = value::nested(line)?;
        let get = |key| values.get(key).and_then(|v| Limit::parse(v));
        let held = RdmaLimit {
            handles: get("hca_handle"),
            objects: get("hca_object"),
        };
        Some((device.to_owned(), held))
    };
    Ok(Some(text.lines().filter_map(line).collect()))
}
