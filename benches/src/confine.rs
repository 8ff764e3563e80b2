//! Limits for this very process: how a virtual machine gets a share of the processors.
//!
//! A VMM is an ordinary process and its vCPUs are threads, so a cgroup limits a machine as it limits
//! a container. The two libraries never meet below this crate; here they do.

use ringside_container::Limits;
use ringside_container::cgroup::{self, Ephemeral, Group, Layout};
use ringside_container::config;
use std::path::PathBuf;
use thiserror::Error;

/// Why this process cannot be limited.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// Limits that make no sense.
    #[error(transparent)]
    Limits(#[from] config::Error),
    /// No such controller, no permission, or a value that the kernel refuses.
    #[error(transparent)]
    Group(#[from] cgroup::Error),
    /// The group did not let this process in.
    #[error("cannot enter the cgroup {}: {source}; run as root, or leave the limit out", path.display())]
    Enter {
        /// The file that was written to.
        path: PathBuf,
        /// The kernel's reason.
        source: cgroup::EntranceError,
    },
}

/// This process in a group of its own, until dropped. To be used while it has one thread.
#[derive(Debug)]
pub struct Confined {
    home: Group,
    /// There until this is dropped.
    group: Option<Ephemeral>,
}

impl Confined {
    /// Makes a group with these limits and enters it.
    ///
    /// # Errors
    /// A limit whose controller this host lacks is refused by name. Nothing is left behind.
    pub fn enter(limits: &Limits) -> Result<Confined, ConfineError> {
        limits.validate()?;
        let layout = Layout::detect()?;
        let wanted = limits.for_group();
        let controllers = wanted.controllers();
        let here = layout.directories_of(std::process::id() as i32)?;
        let home = Group::from_paths(&layout, here, controllers)?;
        let group = Ephemeral::create(&layout, controllers)?;
        group.group().apply(&wanted)?;
        enter(group.group())?;
        Ok(Confined {
            home,
            group: Some(group),
        })
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        let group = self.group.take();
        // Dropping a group ends whoever is still inside. Where home does not let this process back
        // in, that would be itself: then the group stays for the next run's sweep.
        match enter(&self.home) {
            Ok(()) => drop(group),
            Err(_) => std::mem::forget(group),
        }
    }
}

fn enter(group: &Group) -> Result<(), ConfineError> {
    let entrance = group.entrance()?;
    entrance.enter().map_err(|source| ConfineError::Enter {
        path: entrance
            .path(source.door)
            .map(PathBuf::from)
            .unwrap_or_default(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_make_no_sense_are_refused_before_anything_is_made() {
        let limits = Limits {
            cpus: Some(-1.0),
            ..Limits::default()
        };
        let error = Confined::enter(&limits).expect_err("no such number of processors");
        assert!(error.to_string().contains("-1"), "{error}");
    }
}
