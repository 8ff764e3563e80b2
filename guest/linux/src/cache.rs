//! Kernels that are kept: `${XDG_CACHE_HOME:-~/.cache}/ringside/kernels`, a folder for each.
//!
//! ```text
//!   kernels/
//!     lock                             who builds or fetches holds it
//!     linux-6.12.117-1~deb12u1-3f9c…/  version and digest: built once
//!       kernel.json                    what it is; the folder appears when all of it is there
//!       vmlinux | vmlinuz
//!       modules/*.ko                   for the initramfs, in the order of `kernel.json`
//!     vmlinux/                         each `vmlinuz`, decompressed: what is mapped
//! ```

use crate::build;
use nix::fcntl::{Flock, FlockArg};
use ringside_vmm::boot::linux::KernelCache;
use serde::{Deserialize, Serialize};
use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the cache cannot be used.
#[derive(Debug, Error)]
pub enum CacheError {
    /// Neither `XDG_CACHE_HOME` nor `HOME` says where.
    #[error("no folder for kernels: set HOME or XDG_CACHE_HOME to an absolute path")]
    NoHome,
    /// A file operation in it.
    #[error("cannot {verb} {}: {source}; make room there, or name another folder by XDG_CACHE_HOME", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No kernel of that name, and no such file.
    #[error(
        "there is no kernel {name}; `ringside kernel list` names those that are kept, and any other is named by its file"
    )]
    Unknown {
        /// The name.
        name: String,
    },
}

/// Whether ring 0 of a guest runs on the processor or in an emulator that lacks instructions: the one
/// takes any kernel, the other a patched one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ring0 {
    /// VT-x, AMD-V.
    Native,
    /// Software KVM.
    Emulated,
}

/// How a kernel came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Compiled here, with this project's configuration.
    Built,
    /// The distribution's own.
    Fetched,
    /// The user's file.
    File,
}

/// A kernel and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// What `--kernel` calls it.
    pub name: String,
    /// How it came here.
    pub origin: Origin,
    /// Its version, as the package has it.
    pub version: String,
    /// Whether it also runs where ring 0 is emulated.
    pub for_emulated_ring0: bool,
    /// Its file: relative to the folder in `kernel.json`, absolute in memory.
    pub image: PathBuf,
    /// Its modules for the initramfs, in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    /// A kernel of the user's: nothing is known of it, and everything must be built in.
    pub fn from_file(path: &Path) -> Kernel {
        Kernel {
            name: path.display().to_string(),
            origin: Origin::File,
            version: "unknown".into(),
            for_emulated_ring0: false,
            image: path.into(),
            modules: Vec::new(),
        }
    }

    /// Whether it can run where ring 0 is like that: a user's own kernel may.
    pub fn suits(&self, ring0: Ring0) -> bool {
        ring0 == Ring0::Native || self.for_emulated_ring0 || self.origin == Origin::File
    }
}

const RECORD: &str = "kernel.json";

/// The folder of kernels.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The user's.
    ///
    /// # Errors
    /// [`CacheError::NoHome`].
    pub fn of_user() -> Result<Cache, CacheError> {
        let absolute = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".cache")))
            .ok_or(CacheError::NoHome)?;
        Ok(Cache::at(base.join("ringside/kernels")))
    }

    /// In this folder, which is made when it is needed.
    pub fn at(folder: impl Into<PathBuf>) -> Cache {
        Cache {
            folder: folder.into(),
        }
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the kernels of compressed files are kept, decompressed.
    pub fn decompressed(&self) -> KernelCache {
        KernelCache::new(self.folder.join("vmlinux"))
    }

    /// Every kernel, the newest version last; what is no kernel is passed over.
    pub fn list(&self) -> Vec<Kernel> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut kernels: Vec<Kernel> = entries.filter_map(|entry| read(&entry.path())).collect();
        kernels.sort_by(|a, b| {
            version_key(&a.version)
                .cmp(&version_key(&b.version))
                .then_with(|| a.name.cmp(&b.name))
        });
        kernels
    }

    /// The kernel of that name, or in that file.
    ///
    /// # Errors
    /// [`CacheError::Unknown`].
    pub fn find(&self, name: &str) -> Result<Kernel, CacheError> {
        if let Some(kernel) = self.list().into_iter().find(|kernel| kernel.name == name) {
            return Ok(kernel);
        }
        match Path::new(name) {
            path if path.is_file() => Ok(Kernel::from_file(path)),
            _ => Err(CacheError::Unknown { name: name.into() }),
        }
    }

    /// The kernel to take when nobody names one: a small built one before the distribution's, the one of
    /// today's configuration and patch before older ones, of each the newest.
    pub fn best(&self, ring0: Ring0) -> Option<Kernel> {
        let today = build::digest(ring0);
        let suits = self.list().into_iter().filter(|kernel| kernel.suits(ring0));
        suits.max_by_key(|kernel| {
            let built = kernel.origin == Origin::Built;
            (built, built && kernel.name.ends_with(&today))
        })
    }

    /// One that is kept under that name.
    pub fn get(&self, name: &str) -> Option<Kernel> {
        read(&self.folder.join(name))
    }

    /// Keeps others from building or fetching at the same time, until it is dropped; what a killed
    /// one left behind goes now.
    ///
    /// # Errors
    /// [`CacheError::File`].
    pub fn lock(&self) -> Result<Lock, CacheError> {
        fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(failed("make", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("lock", &path)(errno.into()))?;
        let work = self.folder.join("work");
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &work)(error));
            }
            _ => {}
        }
        fs::create_dir(&work).map_err(failed("make", &work))?;
        Ok(Lock { work, _lock: lock })
    }

    /// Keeps a kernel whose files are in `folder`, relative to it.
    ///
    /// # Errors
    /// [`CacheError::File`].
    pub fn keep(&self, folder: &Path, kernel: &Kernel) -> Result<Kernel, CacheError> {
        let record = folder.join(RECORD);
        let text = serde_json::to_string_pretty(kernel)
            .map_err(|error| failed("write", &record)(error.into()))?;
        fs::write(&record, text).map_err(failed("write", &record))?;
        let place = self.folder.join(&kernel.name);
        fs::rename(folder, &place).map_err(failed("make", &place))?;
        Ok(placed(&place, kernel.clone()))
    }
}

/// The right to change the cache, with a folder to work in that goes with it.
#[derive(Debug)]
pub struct Lock {
    work: PathBuf,
    _lock: Flock<File>,
}

impl Lock {
    /// An empty folder, on the file system of the cache.
    pub fn work(&self) -> &Path {
        &self.work
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next who locks.
        let _ = fs::remove_dir_all(&self.work);
    }
}

pub(crate) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::File { verb, path, source }
}

fn read(folder: &Path) -> Option<Kernel> {
    let text = fs::read_to_string(folder.join(RECORD)).ok()?;
    Some(placed(folder, serde_json::from_str(&text).ok()?))
}

/// A kernel whose files are in `folder`, from its record.
fn placed(folder: &Path, mut kernel: Kernel) -> Kernel {
    kernel.image = folder.join(kernel.image);
    for module in &mut kernel.modules {
        *module = folder.join(&*module);
    }
    kernel
}

/// A version's numbers, to compare by.
pub(crate) fn version_key(version: &str) -> Vec<u64> {
    let numbers = version.split(|c: char| !c.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, origin: Origin, version: &str, emulated: bool) -> Kernel {
        Kernel {
            name: name.into(),
            origin,
            version: version.into(),
            for_emulated_ring0: emulated,
            image: "vmlinux".into(),
            modules: vec!["modules/a.ko".into()],
        }
    }

    fn keep(cache: &Cache, kernel: &Kernel) {
        let lock = cache.lock().unwrap();
        let folder = lock.work().join("new");
        fs::create_dir(&folder).unwrap();
        cache.keep(&folder, kernel).unwrap();
    }

    #[test]
    fn what_is_kept_is_found_and_the_best_fits_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("kernels"));
        assert_eq!(cache.best(Ring0::Native), None);
        keep(
            &cache,
            &kernel("cloud-a", Origin::Fetched, "6.12.99", false),
        );
        keep(
            &cache,
            &kernel("cloud-b", Origin::Fetched, "6.12.107", false),
        );
        assert_eq!(cache.best(Ring0::Native).unwrap().name, "cloud-b");
        assert_eq!(cache.best(Ring0::Emulated), None);
        let today = format!("small-{}", build::digest(Ring0::Emulated));
        keep(&cache, &kernel(&today, Origin::Built, "6.12.50", true));
        keep(&cache, &kernel("small-z", Origin::Built, "6.12.50", true));
        assert_eq!(cache.best(Ring0::Native).unwrap().name, "small-z");
        assert_eq!(cache.best(Ring0::Emulated).unwrap().name, today);
        let found = cache.find("cloud-a").unwrap();
        assert_eq!(found.modules, [cache.folder().join("cloud-a/modules/a.ko")]);
        assert!(!cache.folder().join("work").exists());
    }

    #[test]
    fn a_name_that_is_no_kernel_may_be_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let file = folder.path().join("vmlinuz");
        fs::write(&file, "").unwrap();
        let name = file.to_str().unwrap();
        assert_eq!(cache.find(name).unwrap().origin, Origin::File);
        let error = cache.find("nothing").unwrap_err().to_string();
        assert!(error.starts_with("there is no kernel nothing;"), "{error}");
    }

    #[test]
    fn what_a_killed_build_left_goes_with_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        fs::create_dir_all(folder.path().join("work/source")).unwrap();
        let lock = cache.lock().unwrap();
        assert_eq!(fs::read_dir(lock.work()).unwrap().count(), 0);
    }
}
