//! Limits for this very process: how a virtual machine gets a share of the processors.
//!
//! A VMM is an ordinary process and its vCPUs are threads, so a cgroup limits a machine as it limits
//! a container. The two libraries never meet below this crate; here they do.
//!
//! ```text
//!   ringside-PID-0          this process (Confined); what another process changes (update)
//!   ├── machine-0           the vCPUs' threads of one machine (Share)
//!   └── machine-1           those of another
//! ```
//!
//! Limits can be changed while machines run: the kernel looks at them whenever it schedules.

mod share;

pub use share::Share;

use ringside_container::Limits;
use ringside_container::cgroup::{self, Controller, Controllers, Ephemeral, Group, Layout};
use ringside_container::config;
use std::io;
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
    /// A process that is not in a group of its own.
    #[error(
        "process {pid} is in no group of its own that could be changed; start the machine with --cpus or --cpu-weight (--cpu-weight 100 changes nothing yet)"
    )]
    NotConfined {
        /// Its number.
        pid: i32,
    },
    /// No group below this process's own.
    #[error("cannot make the cgroup {}: {source}", path.display())]
    Make {
        /// Its directory.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The group did not let this process in.
    #[error("cannot enter the cgroup {}: {source}; run as root, or leave the limit out", path.display())]
    Enter {
        /// The file that was written to.
        path: PathBuf,
        /// The kernel's reason.
        source: cgroup::EntranceError,
    },
}

/// This process in a group of its own, until dropped. To be used while it has one thread, and dropped
/// after the machines: a thread of the kernel's (`kvm-nx-lpage-recovery`) is in the group of who made
/// one until that machine is gone, and dropping the group waits for it.
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
        Confined::enter_with(limits, Controllers::NONE)
    }

    /// The same without limits, for who shares this process's processor time out among several
    /// machines: [`share`](Confined::share).
    ///
    /// # Errors
    /// As of [`enter`](Confined::enter).
    pub fn for_shares() -> Result<Confined, ConfineError> {
        Confined::enter_with(&Limits::default(), Controllers::of(&[Controller::Cpu]))
    }

    fn enter_with(limits: &Limits, more: Controllers) -> Result<Confined, ConfineError> {
        limits.validate()?;
        let layout = Layout::detect()?;
        let wanted = limits.for_group();
        let controllers = wanted.controllers().union(more);
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

    /// A share of this process's processor time for one machine, whose threads are to be
    /// [added](Share::add).
    ///
    /// # Errors
    /// As of [`enter`](Confined::enter); a limit of something other than processor time is refused.
    pub fn share(&self, limits: &Limits) -> Result<Share<'_>, ConfineError> {
        let home = self.group.as_deref().expect("it is there until dropped");
        Share::new(home, limits)
    }
}

/// Changes limits of a process that runs confined, `ringside vm run --cpus 0.5` among them: what
/// is `None` stays as it is.
///
/// # Errors
/// [`ConfineError::NotConfined`] for any other process; as of [`Confined::enter`] for the limits.
pub fn update(pid: i32, limits: &Limits) -> Result<(), ConfineError> {
    limits.validate()?;
    let layout = Layout::detect()?;
    let wanted = limits.for_group();
    let begin = format!("{}{pid}-", cgroup::PREFIX);
    let is_own = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(&begin)
    };
    let mut directories = layout.directories_of(pid)?;
    directories.retain(is_own);
    if directories.is_empty() {
        return Err(ConfineError::NotConfined { pid });
    }
    Group::from_paths(&layout, directories, wanted.controllers())?.apply(&wanted)?;
    Ok(())
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

    #[test]
    fn a_process_without_a_group_of_its_own_is_left_alone() {
        let limits = Limits {
            cpu_weight: Some(200),
            ..Limits::default()
        };
        let error = update(std::process::id() as i32, &limits).expect_err("tests run unconfined");
        assert!(error.to_string().contains("--cpu-weight"), "{error}");
    }
}
