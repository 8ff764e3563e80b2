//! One machine's share of its process's processor time.
//!
//! A weight or a quota holds for a group, and a group can hold single threads: in version 1 any, in
//! version 2 a *threaded* one (`cgroup-v2.rst`, "Threads"), which lies below its process's own group
//! and has only controllers that can tell threads apart, `cpu` among them.

use super::ConfineError;
use ringside_container::Limits;
use ringside_container::cgroup::{Controller, Controllers, Group, Layout, Version};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A group for the threads of one machine's vCPUs, until dropped; then those that still live go
/// back to their process's group.
#[derive(Debug)]
pub struct Share<'a> {
    home: &'a Group,
    group: Group,
}

/// The file that threads' numbers are written to, one at a time.
const fn threads_file(version: Version) -> &'static str {
    match version {
        Version::V1 => "tasks",
        Version::V2 => "cgroup.threads",
    }
}

impl<'a> Share<'a> {
    pub(super) fn new(home: &'a Group, limits: &Limits) -> Result<Share<'a>, ConfineError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        limits.validate()?;
        let layout = Layout::detect()?;
        let name = format!("machine-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let above = home.directory(Controller::Cpu);
        let path: Option<PathBuf> = above.map(|directory| directory.path().join(name));
        let of_cpu = |path| Group::from_paths(&layout, path, Controllers::of(&[Controller::Cpu]));
        if let Some(path) = &path {
            fs::create_dir(path).map_err(|source| ConfineError::Make {
                path: path.clone(),
                source,
            })?;
        }
        let mut share = Share {
            home,
            group: of_cpu(path.clone())?,
        };
        for (above, directory) in above.into_iter().zip(share.group.directories()) {
            if directory.version() == Version::V2 {
                directory.write("cgroup.type", "threaded")?;
                above.write("cgroup.subtree_control", "+cpu")?;
            }
        }
        // Now it has the controller.
        share.group = of_cpu(path)?;
        share.set(limits)?;
        Ok(share)
    }

    /// Moves threads in, such as [`VmControl::threads`](ringside_vmm::vcpu::control::VmControl::threads)
    /// names them. Those that ended meanwhile are none.
    ///
    /// # Errors
    /// The kernel's, with the file.
    pub fn add(&self, threads: &[i32]) -> Result<(), ConfineError> {
        move_threads(&self.group, threads)
    }

    /// Changes limits; what is `None` stays as it is.
    ///
    /// # Errors
    /// Limits that make no sense, or of something other than processor time.
    pub fn set(&self, limits: &Limits) -> Result<(), ConfineError> {
        limits.validate()?;
        Ok(self.group.apply(&limits.for_group())?)
    }

    /// The group, for its statistics.
    pub fn group(&self) -> &Group {
        &self.group
    }
}

fn move_threads(group: &Group, threads: &[i32]) -> Result<(), ConfineError> {
    const NO_SUCH_THREAD: nix::errno::Errno = nix::errno::Errno::ESRCH;
    for directory in group.directories() {
        for thread in threads {
            match directory.write(threads_file(directory.version()), &thread.to_string()) {
                Err(error) if error.errno() == Some(NO_SUCH_THREAD) => {}
                moved => moved?,
            }
        }
    }
    Ok(())
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        // Nobody is left to tell: what stays here goes with the process's own group.
        for directory in self.group.directories() {
            let inside = directory.read(threads_file(directory.version()));
            let threads: Vec<i32> = inside
                .iter()
                .flat_map(|text| text.lines())
                .filter_map(|line| line.parse().ok())
                .collect();
            let _ = move_threads(self.home, &threads);
        }
        let _ = self.group.remove();
    }
}
