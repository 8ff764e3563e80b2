//! What a Linux guest is given: its initramfs (init, modules, what to do) and the image with the command.
//!
//! ```text
//!   initramfs  /init  /ringside/spec  /ringside/modules/*.ko      unpacked into memory
//!   image      the program, its libraries, files named beside it   read block by block
//! ```

use crate::INIT;
use crate::cache::Kernel;
use crate::closure::{Closure, ClosureError};
use crate::cpio::Cpio;
use crate::erofs::{self, ErofsError};
use crate::tree::{Tree, TreeError};
use ringside_abi::session::spec;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a command cannot be packed for a guest.
#[derive(Debug, Error)]
pub enum PackError {
    /// The program or its libraries.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// A file beside it.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ErofsError),
    /// An argument or a variable that no program can get.
    #[error("{0:?} has a NUL byte in it, which no program can be given")]
    Nul(OsString),
    /// A kernel module of the cache.
    #[error("cannot read the kernel module {}: {source}; fetch the kernel again", path.display())]
    Module {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No memory for the image or the initramfs.
    #[error("no memory for the guest's files: {0}")]
    Memory(io::Error),
}

/// A command of this host, for a guest.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The program's file, as [`find_program`](crate::closure::find_program) gives it.
    pub program: PathBuf,
    /// The arguments; the first is the name that the program sees.
    pub arguments: Vec<OsString>,
    /// The environment: `NAME=value` each.
    pub environment: Vec<OsString>,
    /// The working directory; made empty where no file of it travels along.
    pub directory: PathBuf,
    /// A terminal of so many rows and columns, in place of three pipes.
    pub terminal: Option<(u16, u16)>,
    /// Files and folders that travel along.
    pub files: Vec<PathBuf>,
}

/// Files that programs expect and that say nothing of this machine's secrets; those that are there.
const USUAL: [&str; 9] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/services",
    "/etc/protocols",
    "/bin/sh",
    "/etc/terminfo",
];

impl Command {
    /// The read-only image of its files.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn image(&self) -> Result<File, PackError> {
        let mut tree = Tree::default();
        for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/etc", "/root"] {
            tree.make_directory(Path::new(directory))?;
        }
        tree.make_directory(&self.directory)?;
        tree.make_file(
            Path::new("/etc/hosts"),
            0o644,
            b"127.0.0.1 localhost ringside\n".to_vec(),
        )?;
        for path in USUAL.iter().map(Path::new).filter(|path| path.exists()) {
            if !path.ends_with("sh") {
                tree.add_all(path)?;
            }
        }
        let mut closure = Closure::new(&mut tree);
        closure.add_program(&self.program)?;
        // A shell is what programs start others with.
        if Path::new("/bin/sh").exists() {
            closure.add_program(Path::new("/bin/sh"))?;
        }
        let (programs, others): (Vec<&PathBuf>, Vec<&PathBuf>) =
            self.files.iter().partition(|path| is_elf(path));
        programs
            .into_iter()
            .try_for_each(|path| closure.add_program(path))?;
        others.into_iter().try_for_each(|path| tree.add_all(path))?;
        let mut image = memory_file("image")?;
        erofs::write(&tree, &mut image)?;
        Ok(image)
    }

    /// The records for init.
    fn records(&self, out: &mut Records) -> Result<(), PackError> {
        out.push(spec::PROGRAM, self.program.as_os_str())?;
        out.push(spec::DIRECTORY, self.directory.as_os_str())?;
        for argument in &self.arguments {
            out.push(spec::ARGUMENT, argument)?;
        }
        for variable in &self.environment {
            out.push(spec::VARIABLE, variable)?;
        }
        if let Some((rows, columns)) = self.terminal {
            out.push(spec::TERMINAL, OsStr::new(&format!("{rows} {columns}")))?;
        }
        Ok(())
    }
}

fn is_elf(path: &Path) -> bool {
    let mut head = [0; 4];
    File::open(path)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut head))
        .is_ok_and(|()| head == *b"\x7fELF")
}

/// Where the guest finds what the machine gives it.
#[derive(Clone, Copy, Debug)]
pub struct Wiring<'a> {
    /// The stream to the host: `/dev/hvc0`, `vsock:PORT`.
    pub channel: &'a str,
    /// The image's block device.
    pub image: &'a str,
    /// An address with its network's bits.
    pub address: Option<&'a str>,
    /// The gateway's address.
    pub gateway: Option<&'a str>,
}

/// The first file system of a guest that runs this command on this kernel.
///
/// # Errors
/// [`PackError`].
pub fn initramfs(
    kernel: &Kernel,
    command: &Command,
    wiring: Wiring<'_>,
) -> Result<File, PackError> {
    let mut cpio = Cpio::default();
    for directory in ["dev", "ringside", "ringside/modules"] {
        cpio.directory(directory);
    }
    cpio.device("dev/console", (5, 1));
    cpio.program("init", INIT);
    let mut records = Records::default();
    for path in &kernel.modules {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("ringside/modules/{name}");
        let module = fs::read(path).map_err(|source| PackError::Module {
            path: path.clone(),
            source,
        })?;
        cpio.file(&place, &module);
        records.push(spec::MODULE, OsStr::new(&format!("/{place}")))?;
    }
    records.push(spec::CHANNEL, OsStr::new(wiring.channel))?;
    records.push(spec::IMAGE, OsStr::new(wiring.image))?;
    records.push(spec::HOSTNAME, OsStr::new("ringside"))?;
    for (tag, address) in [
        (spec::ADDRESS, wiring.address),
        (spec::GATEWAY, wiring.gateway),
    ] {
        if let Some(address) = address {
            records.push(tag, OsStr::new(address))?;
        }
    }
    command.records(&mut records)?;
    cpio.file(spec::SPEC.trim_start_matches('/'), &records.0);
    let mut file = memory_file("initramfs")?;
    file.write_all(&cpio.finish()).map_err(PackError::Memory)?;
    Ok(file)
}

/// Tags and texts, as init reads them.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn push(&mut self, tag: u8, text: &OsStr) -> Result<(), PackError> {
        if text.as_bytes().contains(&0) {
            return Err(PackError::Nul(text.into()));
        }
        self.0.push(tag);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        Ok(())
    }
}

/// A file that is gone with its last user.
fn memory_file(name: &str) -> Result<File, PackError> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC);
    fd.map(File::from)
        .map_err(|errno| PackError::Memory(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_becomes_records() {
        let command = Command {
            program: "/bin/echo".into(),
            arguments: vec!["echo".into(), "two words".into()],
            environment: vec!["A=b".into()],
            directory: "/tmp".into(),
            terminal: Some((24, 80)),
            files: Vec::new(),
        };
        let mut records = Records::default();
        command.records(&mut records).unwrap();
        assert_eq!(
            records.0,
            b"p/bin/echo\0d/tmp\0aecho\0atwo words\0eA=b\0t24 80\0"
        );
    }

    #[test]
    fn a_nul_is_refused() {
        let text = OsStr::from_bytes(b"a\0b");
        let refused = Records::default().push(spec::ARGUMENT, text);
        assert!(matches!(refused, Err(PackError::Nul(_))));
    }
}
