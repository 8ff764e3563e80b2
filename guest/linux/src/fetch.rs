//! The distribution's own kernel for virtual machines, unpacked into the cache; nothing is installed.

use crate::cache::{Cache, CacheError, Kernel, Origin, failed};
use crate::package::{self, PackageError};
use lzma_rust2::XzReader;
use ringside_vmm::boot::linux::{Kernel as Image, KernelError};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What a guest of ours needs and Debian builds as modules; each brings what it depends on.
const MODULES: [&str; 11] = [
    "virtio_mmio",
    "virtio_console",
    "virtio_blk",
    "erofs",
    "overlay",
    "virtio_net",
    "vmw_vsock_virtio_transport",
    "virtio-rng",
    "virtio_balloon",
    "ext4",
    "af_packet",
];

/// Why there is no kernel.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The package is not as expected.
    #[error("the package {package} has no {what}; fetch another one with --package")]
    Unexpected {
        /// Its name.
        package: String,
        /// What is missing.
        what: &'static str,
    },
    /// The kernel's file in it is none.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A module cannot be decompressed.
    #[error("cannot decompress {}: {source}", path.display())]
    Module {
        /// The module.
        path: PathBuf,
        /// What the decoder said.
        source: io::Error,
    },
}

/// Fetches the newest cloud kernel that apt knows, or the package that is named; gives it and whether
/// it was there already. It is decompressed here, so that no start of a guest has to wait for that.
///
/// # Errors
/// [`FetchError`].
pub fn fetch(cache: &Cache, package: Option<&str>) -> Result<(Kernel, bool), FetchError> {
    let (kernel, was_there) = compressed(cache, package)?;
    Image::open(&kernel.image, &cache.decompressed())?;
    Ok((kernel, was_there))
}

fn compressed(cache: &Cache, package: Option<&str>) -> Result<(Kernel, bool), FetchError> {
    let package = match package {
        Some(package) => package.to_owned(),
        None => package::newest(
            "linux-image-",
            "linux-image-*-cloud-amd64-unsigned",
            |name| name.ends_with("-cloud-amd64-unsigned"),
        )?,
    };
    let version = package::version(&package)?;
    let name = format!("{}-{version}", package.trim_end_matches("-unsigned"));
    let lock = cache.lock()?;
    if let Some(kernel) = cache.get(&name) {
        return Ok((kernel, true));
    }
    let root = package::unpack(&package, lock.work())?;
    let unexpected = |what| FetchError::Unexpected {
        package: package.clone(),
        what,
    };
    let folder = lock.work().join("kernel");
    fs::create_dir_all(folder.join("modules")).map_err(failed("make", &folder))?;

    let image = entries(&root.join("boot"))
        .find(|path| file_name(path).starts_with("vmlinuz-"))
        .ok_or_else(|| unexpected("boot/vmlinuz"))?;
    fs::rename(&image, folder.join("vmlinuz")).map_err(failed("move", &image))?;

    let library = ["lib/modules", "usr/lib/modules"]
        .iter()
        .find_map(|below| entries(&root.join(below)).next())
        .ok_or_else(|| unexpected("lib/modules"))?;
    let modules = copy_modules(&library, &folder.join("modules"))?;
    let kernel = Kernel {
        name,
        origin: Origin::Fetched,
        version,
        for_emulated_ring0: false,
        image: "vmlinuz".into(),
        modules: modules
            .iter()
            .map(|name| Path::new("modules").join(name))
            .collect(),
    };
    Ok((cache.keep(&folder, &kernel)?, false))
}

/// Copies the wanted modules and what they depend on, decompressed; gives their names in the order in
/// which they can be loaded. A module that is not there is built in.
fn copy_modules(library: &Path, to: &Path) -> Result<Vec<String>, FetchError> {
    let files = find_modules(library);
    let mut copied: Vec<String> = Vec::new();
    for name in MODULES {
        copy_module(&module_name(name), &files, to, &mut copied)?;
    }
    Ok(copied)
}

fn copy_module(
    name: &str,
    files: &HashMap<String, PathBuf>,
    to: &Path,
    copied: &mut Vec<String>,
) -> Result<(), FetchError> {
    let file = format!("{name}.ko");
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    if copied.contains(&file) {
        return Ok(());
    }
    let bytes = decompress(path)?;
    for dependency in dependencies(&bytes) {
        copy_module(&module_name(&dependency), files, to, copied)?;
    }
    let place = to.join(&file);
    fs::write(&place, bytes).map_err(failed("write", &place))?;
    copied.push(file);
    Ok(())
}

/// Names use `-` and `_` alike.
fn module_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Every module below a folder, by name.
fn find_modules(folder: &Path) -> HashMap<String, PathBuf> {
    let mut found = HashMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if let Some((name, _)) = file_name(&path).split_once(".ko") {
                found.insert(module_name(name), path);
            }
        }
    }
    found
}

/// A module's bytes, from `.ko` or `.ko.xz`.
fn decompress(path: &Path) -> Result<Vec<u8>, FetchError> {
    let file = File::open(path).map_err(failed("read", path))?;
    let mut file = BufReader::new(file);
    let mut bytes = Vec::new();
    let read = if file_name(path).ends_with(".xz") {
        XzReader::new(file, true).read_to_end(&mut bytes)
    } else {
        file.read_to_end(&mut bytes)
    };
    read.map_err(|source| FetchError::Module {
        path: path.into(),
        source,
    })?;
    Ok(bytes)
}

/// What a module says that it depends on: `depends=a,b` among the texts of its section `.modinfo`.
fn dependencies(module: &[u8]) -> Vec<String> {
    let file = elf::ElfBytes::<elf::endian::LittleEndian>::minimal_parse(module).ok();
    let texts = file.and_then(|file| {
        let header = file.section_header_by_name(".modinfo").ok()??;
        Some(file.section_data(&header).ok()?.0)
    });
    let mut texts = texts.unwrap_or_default().split(|&byte| byte == 0);
    let depends = texts
        .find_map(|text| text.strip_prefix(b"depends="))
        .unwrap_or_default();
    let names = String::from_utf8_lossy(depends);
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
