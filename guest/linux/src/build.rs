//! A small kernel, built from Debian's `linux-source` with a configuration of ours, in minutes.
//!
//! ```text
//!   linux-source-6.12 ──unpack──▶ source ──patch──▶ source ──make──▶ vmlinux ──▶ the cache
//!                                        (emulated ring 0)  config
//! ```
//!
//! Nothing is installed and no root is needed. The kernel's name holds its version and a digest of what
//! it was made with, so that it is built once.

use crate::cache::{Cache, CacheError, Kernel, Origin, Ring0, failed};
use crate::package::{self, PackageError};
use sha2::{Digest, Sha256};
use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use thiserror::Error;

/// Over `make allnoconfig`.
pub const CONFIG: &str = include_str!("../config");
/// Where ring 0 is emulated: what a kernel needs to run at all, and what spares it instructions.
pub const PATCHES: [&str; 2] = [
    include_str!("../patches/ring0-emulated.patch"),
    include_str!("../patches/ring0-dear.patch"),
];

/// The package with the source.
const PACKAGE: &str = "linux-source-6.12";

/// Files that are compiled, about: for the progress only.
const STEPS: u64 = 1_290;

/// What is never compiled here and is half of the source.
const UNUSED: [&str; 9] = [
    "*/arch/[!x]*/*/*.[chS]",
    "*/drivers/gpu/drm/*.[ch]",
    "*/drivers/media/*.[ch]",
    "*/drivers/net/ethernet/*.[ch]",
    "*/drivers/net/wireless/*.[ch]",
    "*/drivers/infiniband/*.[ch]",
    "*/drivers/scsi/*.[ch]",
    "*/sound/*.[ch]",
    "*/tools/testing/*",
];

/// A program or header that compiling takes, and the package that it comes in.
const TOOLS: [(&str, &str); 10] = [
    ("make", "make"),
    ("gcc", "gcc"),
    ("ld", "binutils"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("patch", "patch"),
    ("strip", "binutils"),
];
const HEADERS: [(&str, &str); 2] = [("libelf.h", "libelf-dev"), ("stdio.h", "libc6-dev")];

/// Why there is no kernel.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Something to compile with is missing.
    #[error("to build a kernel, these packages are missing: {0}; apt-get install {0}")]
    Missing(String),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The source.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Program {
        /// Which.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A step failed.
    #[error("{step} failed: {message}; all that it printed is in {}", log.display())]
    Failed {
        /// Which step.
        step: &'static str,
        /// Its first line about an error.
        message: String,
        /// Everything.
        log: PathBuf,
    },
    /// The source has no such option, or something that is off turns it off.
    #[error(
        "the kernel's configuration does not take {0}; the source is newer than guest/linux/config"
    )]
    Configuration(String),
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A step begins.
    Step(&'a str),
    /// So many of about so many files are compiled.
    Compiled {
        /// So far.
        done: u64,
        /// Of about.
        total: u64,
    },
}

/// The version that apt would give, and the name that a kernel built from it has.
///
/// # Errors
/// [`BuildError`].
pub fn name(ring0: Ring0) -> Result<(String, String), BuildError> {
    let version = package::version(PACKAGE)?;
    let name = format!("linux-{version}-{}", digest(ring0));
    Ok((version, name))
}

/// A digest of the configuration and the patches.
pub(crate) fn digest(ring0: Ring0) -> String {
    let mut hash = Sha256::new();
    hash.update(CONFIG);
    if ring0 == Ring0::Emulated {
        PATCHES.iter().for_each(|patch| hash.update(patch));
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Builds the kernel for such a host, or finds it in the cache; gives it and whether it was there.
///
/// # Errors
/// [`BuildError`].
pub fn build(
    cache: &Cache,
    ring0: Ring0,
    jobs: usize,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Kernel, bool), BuildError> {
    let (version, name) = name(ring0)?;
    if let Some(kernel) = cache.get(&name) {
        return Ok((kernel, true));
    }
    check_tools()?;
    progress(Progress::Step("waiting for others who build"));
    let lock = cache.lock()?;
    if let Some(kernel) = cache.get(&name) {
        return Ok((kernel, true));
    }
    let log = Log::new(&cache.folder().join("build.log"))?;
    progress(Progress::Step("fetching the source"));
    let root = package::unpack(PACKAGE, lock.work())?;
    progress(Progress::Step("unpacking the source"));
    let source = unpack(&root, lock.work(), &log)?;
    if ring0 == Ring0::Emulated {
        let patch = lock.work().join("patch");
        fs::write(&patch, PATCHES.concat()).map_err(failed("write", &patch))?;
        let mut command = Command::new("patch");
        command
            .args(["--strip=1", "--fuzz=2", "--input"])
            .arg(&patch)
            .current_dir(&source);
        log.run("patching the source", "patch", command, |_| {})?;
    }
    progress(Progress::Step("configuring"));
    configure(&source, &log)?;
    compile(&source, jobs, &log, progress)?;

    let folder = lock.work().join("kernel");
    fs::create_dir(&folder).map_err(failed("make", &folder))?;
    let mut strip = Command::new("strip");
    strip
        .arg("--strip-debug")
        .arg("-o")
        .arg(folder.join("vmlinux"))
        .arg(source.join("vmlinux"));
    log.run("stripping the kernel", "strip", strip, |_| {})?;
    let config = source.join(".config");
    fs::copy(&config, folder.join("config")).map_err(failed("copy", &config))?;
    let kernel = Kernel {
        name,
        origin: Origin::Built,
        version,
        for_emulated_ring0: ring0 == Ring0::Emulated,
        image: "vmlinux".into(),
        modules: Vec::new(),
    };
    Ok((cache.keep(&folder, &kernel)?, false))
}

/// Names everything that is missing at once.
fn check_tools() -> Result<(), BuildError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path =
        |program: &str| env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let has_header = |header: &str| {
        [
            "/usr/include",
            "/usr/include/x86_64-linux-gnu",
            "/usr/local/include",
        ]
        .iter()
        .any(|folder| Path::new(folder).join(header).is_file())
    };
    let programs = TOOLS.iter().filter(|(program, _)| !on_path(program));
    let headers = HEADERS.iter().filter(|(header, _)| !has_header(header));
    let mut packages: Vec<&str> = programs
        .chain(headers)
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    Err(BuildError::Missing(packages.join(" ")))
}

/// The source without what is never compiled here; gives its folder.
fn unpack(root: &Path, work: &Path, log: &Log) -> Result<PathBuf, BuildError> {
    let archive = root
        .join("usr/src")
        .join(PACKAGE)
        .with_extension("12.tar.xz");
    let source = work.join("source");
    fs::create_dir(&source).map_err(failed("make", &source))?;
    let mut tar = Command::new("tar");
    tar.args(UNUSED.map(|pattern| format!("--exclude={pattern}")));
    tar.arg("--strip-components=1")
        .arg("--directory")
        .arg(&source)
        .arg("-xJf")
        .arg(&archive);
    log.run("unpacking the source", "tar", tar, |_| {})?;
    Ok(source)
}

/// Everything off but what the configuration names; checks that all of it was taken.
fn configure(source: &Path, log: &Log) -> Result<(), BuildError> {
    let fragment = source.join("ringside.config");
    fs::write(&fragment, CONFIG).map_err(failed("write", &fragment))?;
    let mut command = make(source);
    command
        .arg("allnoconfig")
        .env("KCONFIG_ALLCONFIG", &fragment);
    log.run("configuring the kernel", "make", command, |_| {})?;
    let path = source.join(".config");
    let config = fs::read_to_string(&path).map_err(failed("read", &path))?;
    match refused(CONFIG, &config) {
        Some(line) => Err(BuildError::Configuration(line.into())),
        None => Ok(()),
    }
}

/// The first line of a fragment that a configuration does not have.
fn refused<'a>(fragment: &'a str, config: &str) -> Option<&'a str> {
    fragment
        .lines()
        .filter(|line| line.starts_with("CONFIG_"))
        .find(|line| match line.strip_suffix("=n") {
            Some(option) => config.lines().any(|line| {
                line.strip_prefix(option)
                    .is_some_and(|rest| rest.starts_with('='))
            }),
            None => !config.lines().any(|have| have == *line),
        })
}

fn compile(
    source: &Path,
    jobs: usize,
    log: &Log,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), BuildError> {
    let mut command = make(source);
    command.arg(format!("-j{jobs}")).arg("vmlinux");
    let mut done = 0;
    log.run("compiling the kernel", "make", command, |line| {
        // "  CC      kernel/fork.o"
        done += u64::from(line.starts_with("  CC ") || line.starts_with("  AS "));
        let total = STEPS.max(done);
        progress(Progress::Compiled { done, total });
    })
}

/// `make` in the source, with nothing of the caller's build: it may be a build of cargo's or make's.
fn make(source: &Path) -> Command {
    let mut command = Command::new("make");
    command.current_dir(source).env("LC_ALL", "C");
    for (name, value) in [
        ("KBUILD_BUILD_USER", "ringside"),
        ("KBUILD_BUILD_HOST", "ringside"),
        ("KBUILD_BUILD_TIMESTAMP", "1970-01-01"),
        ("KBUILD_BUILD_VERSION", "1"),
    ] {
        command.env(name, value);
    }
    for name in [
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "ARCH",
        "CROSS_COMPILE",
        "KCFLAGS",
        "LDFLAGS",
        "CFLAGS",
        "O",
    ] {
        command.env_remove(name);
    }
    command
}

/// Keeps what the steps print.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn new(path: &Path) -> Result<Log, BuildError> {
        Ok(Log {
            path: path.into(),
            file: File::create(path).map_err(failed("make", path))?,
        })
    }

    /// Runs a program to its end, gives each line that it prints to `line`, and keeps them.
    fn run(
        &self,
        step: &'static str,
        program: &'static str,
        mut command: Command,
        mut line: impl FnMut(&str),
    ) -> Result<(), BuildError> {
        let failed = |source| BuildError::Program { program, source };
        let (reader, writer) = io::pipe().map_err(failed)?;
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer);
        let mut child = command.spawn().map_err(failed)?;
        drop(command); // with our ends of the pipe
        let mut error = None;
        for text in BufReader::new(reader).lines().map_while(Result::ok) {
            // The log is for people; a full disk is told of by the step itself.
            let _ = writeln!(&self.file, "{text}");
            let about_error =
                text.contains("error:") || text.contains("Error ") || text.contains("cannot ");
            if error.is_none() && about_error {
                error = Some(text.clone());
            }
            line(&text);
        }
        let status = child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        Err(BuildError::Failed {
            step,
            message: error.unwrap_or_else(|| status.to_string()),
            log: self.path.clone(),
        })
    }
}

/// As many jobs as there are processors for this process.
pub fn jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_was_not_taken_is_named() {
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_HZ=100\n";
        assert_eq!(
            refused("# words\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_HZ=100\n", config),
            None
        );
        assert_eq!(refused("CONFIG_A=n\n", config), Some("CONFIG_A=n"));
        assert_eq!(refused("CONFIG_B=y\n", config), Some("CONFIG_B=y"));
    }

    #[test]
    fn the_patch_makes_another_kernel() {
        assert_ne!(digest(Ring0::Native), digest(Ring0::Emulated));
        assert_eq!(digest(Ring0::Native).len(), 12);
    }

    #[test]
    fn a_failed_step_tells_its_first_error_and_keeps_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(&folder.path().join("log")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo fine; echo 'a.c:1: error: no' >&2; exit 2"]);
        let mut lines = Vec::new();
        let error = log
            .run("a test", "sh", command, |line| lines.push(line.to_owned()))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("a test failed: a.c:1: error: no;"),
            "{error}"
        );
        assert_eq!(lines, ["fine", "a.c:1: error: no"]);
        assert_eq!(
            fs::read_to_string(folder.path().join("log")).unwrap(),
            "fine\na.c:1: error: no\n"
        );
    }
}
