//! A bundle of the host's own files: the container sees them all and can change them all, and what it
//! changes is a copy that goes with it.
//!
//! ```text
//! BUNDLES/NAME/config.json
//!              rootfs/            directories and links as in the host's /
//!                .ringside/       in the container a tmpfs, which begins as a copy of this
//!                  upper/0 work/0 where an overlay on the first of the host's directories writes to
//! ```
//!
//! Everything that is written lives in the container's mounts, so nothing remains on the host.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::bundle::NO_FAIL;
use super::{Error, default_spec, state};
use crate::cgroup::{Controller, Layout, Version};
use crate::config::Limits;
use crate::mount::table;
use crate::mount::view::{Way, view};

/// Where what is written goes, in the root.
const SCRATCH: &str = ".ringside";

/// A bundle to be made.
#[derive(Debug, Clone, Default)]
pub struct HostBundle {
    /// Where bundles are.
    pub bundles: PathBuf,
    /// The container's name.
    pub id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its environment, `NAME=value`.
    pub environment: Vec<String>,
    /// Where it starts.
    pub cwd: String,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// What it may use.
    pub limits: Limits,
}

impl HostBundle {
    /// Makes the bundle; gives its directory. What disappears from the host before it is mounted is left out.
    ///
    /// # Errors
    /// [`Error::HostFilesNeedRoot`]; a directory that cannot be made, or a bundle that is there already.
    pub fn make(&self) -> Result<PathBuf, Error> {
        state::check_id(&self.id)?;
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::HostFilesNeedRoot);
        }
        let bundle = self.bundles.join(&self.id);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        let make = |path: &Path, mode| {
            fs::DirBuilder::new()
                .mode(mode)
                .recursive(true)
                .create(path)
        };
        make(&bundle, 0o700).map_err(failed(&bundle))?;
        let rootfs = bundle.join("rootfs");
        // One that was left by a container that is gone.
        if rootfs.exists() {
            fs::remove_dir_all(&rootfs).map_err(failed(&rootfs))?;
        }
        make(&rootfs, 0o755).map_err(failed(&rootfs))?;
        let scratch = rootfs.join(SCRATCH);
        let mut mounts = vec![
            json!({"destination": format!("/{SCRATCH}"), "type": "tmpfs",
            "source": "ringside", "options": ["tmpcopyup", "mode=755"]}),
        ];
        let table = table::read().map_err(crate::host::Error::from);
        let table = table.map_err(crate::Error::from)?;
        for (index, place) in view(&table, false).iter().enumerate() {
            let Some(inner) = place.path.to_str().map(|it| it.trim_start_matches('/')) else {
                continue;
            };
            let path = rootfs.join(inner);
            let source = &place.path;
            match &place.way {
                Way::Link(target) => symlink(target, &path).map_err(failed(&path))?,
                Way::Directory => {
                    make(&path, place.mode).map_err(failed(&path))?;
                    let mode = fs::Permissions::from_mode(place.mode);
                    fs::set_permissions(&path, mode).map_err(failed(&path))?;
                }
                // These are punctuation in an overlay's options.
                Way::Layer if !inner.contains([':', ',', '\\']) => {
                    let (upper, work) = (
                        scratch.join("upper").join(index.to_string()),
                        scratch.join("work").join(index.to_string()),
                    );
                    make(&upper, place.mode).map_err(failed(&upper))?;
                    let mode = fs::Permissions::from_mode(place.mode);
                    fs::set_permissions(&upper, mode).map_err(failed(&upper))?;
                    make(&work, 0o700).map_err(failed(&work))?;
                    let option = |name: &str, path: &Path| format!("{name}={}", path.display());
                    mounts.push(json!({"destination": source, "type": "overlay", "source": "overlay",
                        "options": [option("lowerdir", source), option("upperdir", &upper), option("workdir", &work), NO_FAIL]}));
                }
                Way::Layer | Way::Bind => mounts
                    .push(json!({"destination": source, "type": "bind",
                    "source": source, "options": ["rbind", "ro", NO_FAIL]})),
            }
        }
        // The overlays keep what they have of it.
        mounts.push(
            json!({"destination": format!("/{SCRATCH}"), "type": "tmpfs",
            "source": "ringside", "options": ["ro", "size=0", "mode=000"]}),
        );
        let config = bundle.join("config.json");
        fs::write(&config, self.config(mounts)?.to_string()).map_err(failed(&config))?;
        Ok(bundle)
    }

    fn config(&self, mut mounts: Vec<Value>) -> Result<Value, Error> {
        let mut spec = default_spec(false);
        spec["root"] = json!({"path": "rootfs"});
        spec["hostname"] = "ringside".into();
        let process = &mut spec["process"];
        process["terminal"] = self.terminal.into();
        process["args"] = self.command.clone().into();
        process["env"] = self.environment.clone().into();
        process["cwd"] = self.cwd.clone().into();
        if let Some(others) = spec["mounts"].as_array_mut() {
            mounts.append(others);
        }
        spec["mounts"] = mounts.into();
        limit(&mut spec, &self.limits)?;
        Ok(spec)
    }
}

/// Writes limits into a configuration, in the words of this host's cgroups.
///
/// # Errors
/// A limit that no kernel takes, or when the host's cgroups cannot be looked at.
pub fn limit(spec: &mut Value, limits: &Limits) -> Result<(), Error> {
    let checked = limits.validate().map_err(crate::plan::Error::from);
    checked.map_err(crate::Error::from)?;
    let resources = &mut spec["linux"]["resources"];
    if let Some(weight) = limits.cpu_weight {
        let layout = Layout::detect()?;
        match layout.home(Controller::Cpu)?.version {
            Version::V2 => resources["unified"]["cpu.weight"] = weight.to_string().into(),
            // A weight of 100 is 1024 shares.
            Version::V1 => resources["cpu"]["shares"] = (weight * 1024 / 100).max(2).into(),
        }
    }
    if let Some(cpus) = limits.cpus {
        const PERIOD_US: u64 = 100_000;
        resources["cpu"]["period"] = PERIOD_US.into();
        resources["cpu"]["quota"] = ((cpus * PERIOD_US as f64) as u64).into();
    }
    if let Some(bytes) = limits.memory_bytes {
        resources["memory"]["limit"] = bytes.into();
    }
    if let Some(pids) = limits.pids {
        resources["pids"]["limit"] = pids.into();
    }
    Ok(())
}
