//! Why a program does not execute: `execve` says ENOENT for a missing program, for a missing
//! interpreter and for a missing loader alike, and EACCES for a directory as for a missing execute bit
//! (`man 2 execve`, ERRORS). The file itself tells them apart.
//!
//! The child looks, because only it sees the container's files; so nothing here allocates.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{AccessFlags, access};

use super::report::DETAIL_MAX_BYTES;

/// What stands behind an `execve` that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// No such file.
    Missing,
    /// A directory.
    Directory,
    /// A file without permission to execute it.
    NotExecutable,
    /// A file on a mount with `noexec`.
    NoExecMount,
    /// A script whose interpreter may not be executed, or is a directory.
    ForbiddenInterpreter,
    /// A program for another kind of processor.
    OtherMachine,
    /// A script whose `#!` line ends in a carriage return: it was written on Windows.
    CarriageReturn,
    /// A script whose interpreter is not there.
    MissingInterpreter,
    /// A dynamic program whose loader (`PT_INTERP`) is not there.
    MissingLoader,
    /// Neither a program for this machine nor a script with a `#!` line.
    UnknownFormat,
    /// Arguments and environment are larger than the kernel takes.
    TooLarge,
    /// Neither a file nor a directory: a FIFO, a socket, a device.
    NotFile,
    /// Its links, or the interpreters of its interpreters, go on for too long.
    Circle,
    /// Something else: the errno has to do.
    Other,
}

impl Cause {
    /// The cause of this number, as messages carry it.
    pub const fn from_number(number: u8) -> Option<Self> {
        use Cause::*;
        const ALL: [Cause; 14] = [
            Missing,
            Directory,
            NotExecutable,
            NoExecMount,
            ForbiddenInterpreter,
            OtherMachine,
            CarriageReturn,
            MissingInterpreter,
            MissingLoader,
            UnknownFormat,
            TooLarge,
            NotFile,
            Circle,
            Other,
        ];
        if (number as usize) < ALL.len() {
            Some(ALL[number as usize])
        } else {
            None
        }
    }
}

/// A cause, and the interpreter or loader that it is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Diagnosis {
    /// What it is.
    pub cause: Cause,
    interpreter: [u8; DETAIL_MAX_BYTES],
    length: usize,
}

impl std::fmt::Debug for Diagnosis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?}({:?})",
            self.cause,
            String::from_utf8_lossy(self.interpreter())
        )
    }
}

impl Diagnosis {
    /// A cause and the path that it is about (none: empty), cut to what fits.
    pub fn new(cause: Cause, interpreter: &[u8]) -> Self {
        let length = interpreter.len().min(DETAIL_MAX_BYTES);
        let mut bytes = [0; DETAIL_MAX_BYTES];
        bytes[..length].copy_from_slice(&interpreter[..length]);
        Self {
            cause,
            interpreter: bytes,
            length,
        }
    }

    /// The path of the interpreter or loader; empty when it is not about one.
    pub fn interpreter(&self) -> &[u8] {
        &self.interpreter[..self.length]
    }
}

/// Finds out why `execve(path)` failed with `errno`, by looking at the file as the caller sees it.
pub fn diagnose(path: &CStr, errno: Errno) -> Diagnosis {
    let plain = |cause| Diagnosis::new(cause, b"");
    match errno {
        Errno::E2BIG => return plain(Cause::TooLarge),
        Errno::ELOOP => return plain(Cause::Circle),
        Errno::ENOENT | Errno::EACCES | Errno::ENOEXEC | Errno::EPERM | Errno::ENOTDIR => {}
        _ => return plain(Cause::Other),
    }
    // Non-blocking, because the path may lead to a FIFO.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return plain(Cause::Missing),
        Err(_) => {
            return plain(if errno == Errno::EACCES {
                Cause::NotExecutable
            } else {
                Cause::Other
            });
        }
    };
    let kind = fstat(&file).map_or(SFlag::empty(), |stat| {
        SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
    });
    if kind == SFlag::S_IFDIR {
        return plain(Cause::Directory);
    }
    if errno == Errno::EACCES && kind != SFlag::S_IFREG {
        return plain(Cause::NotFile);
    }
    if errno == Errno::EACCES {
        // `access` says EACCES for a mount with `noexec` as well.
        if fstatvfs(&file).is_ok_and(|it| it.flags().contains(FsFlags::ST_NOEXEC)) {
            return plain(Cause::NoExecMount);
        }
        if access(path, AccessFlags::X_OK).is_err() {
            return plain(Cause::NotExecutable);
        }
    }
    let mut found = look_into(&file, errno);
    // An interpreter that is there lacks something itself.
    for _ in 0..INTERPRETERS_MAX {
        if found.cause != Cause::MissingInterpreter {
            break;
        }
        let Ok(file) = open(found.interpreter(), flags, Mode::empty()) else {
            break;
        };
        match look_into(&file, errno) {
            Diagnosis {
                cause: Cause::Other,
                ..
            } => break,
            deeper => found = deeper,
        }
    }
    // EACCES with the execute bit set, and no interpreter: a security module's word.
    if errno == Errno::EACCES && found.cause == Cause::Other {
        plain(Cause::NotExecutable)
    } else {
        found
    }
}

/// How many interpreters the kernel takes one after the other (`fs/exec.c`, `exec_binprm`).
const INTERPRETERS_MAX: usize = 5;

fn look_into(file: &OwnedFd, errno: Errno) -> Diagnosis {
    let mut head = [0; 4096];
    let length = nix::unistd::read(file.as_fd(), &mut head).unwrap_or(0);
    from_contents(&head[..length], errno)
}

/// The cause that the first bytes of a file betray.
fn from_contents(head: &[u8], errno: Errno) -> Diagnosis {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or(line);
        let line = line.trim_ascii_start();
        let interpreter = line
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .next()
            .unwrap_or(line);
        return match (line.last(), errno) {
            (Some(b'\r'), _) => Diagnosis::new(Cause::CarriageReturn, interpreter.trim_ascii_end()),
            (_, Errno::ENOENT | Errno::ENOTDIR) => {
                Diagnosis::new(Cause::MissingInterpreter, interpreter)
            }
            (_, Errno::EACCES) => Diagnosis::new(Cause::ForbiddenInterpreter, interpreter),
            _ => Diagnosis::new(Cause::UnknownFormat, interpreter),
        };
    }
    match (elf_interpreter(head), errno) {
        (Some(loader), Errno::ENOENT) => Diagnosis::new(Cause::MissingLoader, loader),
        (_, Errno::ENOEXEC) if is_for_other_machine(head) => {
            Diagnosis::new(Cause::OtherMachine, machine(head).as_bytes())
        }
        (_, Errno::ENOEXEC) => Diagnosis::new(Cause::UnknownFormat, b""),
        _ => Diagnosis::new(Cause::Other, b""),
    }
}

/// `e_machine` of an ELF file, which says for which processor it is.
fn machine_number(head: &[u8]) -> Option<u16> {
    let field = head
        .strip_prefix(b"\x7fELF")
        .and_then(|_| head.get(18..20)?.try_into().ok())?;
    // EI_DATA: 2 is big-endian.
    Some(if head.get(5) == Some(&2) {
        u16::from_be_bytes(field)
    } else {
        u16::from_le_bytes(field)
    })
}

/// Numbers of <linux/elf-em.h> with the names that `uname -m` has for them.
const MACHINES: [(u16, &str); 9] = [
    (3, "i386"),
    (8, "mips"),
    (20, "ppc"),
    (21, "ppc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv"),
];

fn machine(head: &[u8]) -> &'static str {
    let number = machine_number(head);
    let known = MACHINES.iter().find(|(it, _)| Some(*it) == number);
    known.map_or("another machine", |(_, name)| name)
}

fn is_for_other_machine(head: &[u8]) -> bool {
    machine_number(head).is_some() && machine(head) != std::env::consts::ARCH
}

/// The path in the `PT_INTERP` segment of a little-endian ELF file, if its first bytes reach
/// that far (`man 5 elf`). Compilers put it right after the program headers.
fn elf_interpreter(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| {
        Some(u16::from_le_bytes(
            head.get(at..at.checked_add(2)?)?.try_into().ok()?,
        ))
    };
    let u32_at = |at: usize| {
        Some(u32::from_le_bytes(
            head.get(at..at.checked_add(4)?)?.try_into().ok()?,
        ))
    };
    let usize_at = |at: usize| {
        let bytes = head.get(at..at.checked_add(8)?)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    // Magic, class, ELFDATA2LSB; where the header and each entry of the table have what is looked for.
    let is_64_bit = head.starts_with(b"\x7fELF\x02\x01");
    if !is_64_bit && !head.starts_with(b"\x7fELF\x01\x01") {
        return None;
    }
    let word_at = |at| {
        if is_64_bit {
            usize_at(at)
        } else {
            usize::try_from(u32_at(at)?).ok()
        }
    };
    let (table, size, count, offset_at, length_at) = if is_64_bit {
        (usize_at(32)?, u16_at(54)?, u16_at(56)?, 8, 32)
    } else {
        (word_at(28)?, u16_at(42)?, u16_at(44)?, 4, 16)
    };
    for index in 0..count {
        let header = table.checked_add(usize::from(size) * usize::from(index))?;
        if u32_at(header)? == PT_INTERP {
            let (offset, length) = (
                word_at(header.checked_add(offset_at)?)?,
                word_at(header.checked_add(length_at)?)?,
            );
            let path = head.get(offset..offset.checked_add(length)?)?;
            return path.split(|&byte| byte == 0).next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    fn looked_at(head: &[u8], errno: Errno) -> (Cause, String) {
        let diagnosis = from_contents(head, errno);
        (
            diagnosis.cause,
            String::from_utf8_lossy(diagnosis.interpreter()).into(),
        )
    }

    #[test]
    fn scripts_name_their_interpreter() {
        assert_eq!(
            looked_at(b"#! /usr/bin/perl7 -w\nprint", Errno::ENOENT),
            (Cause::MissingInterpreter, "/usr/bin/perl7".into())
        );
        assert_eq!(
            looked_at(b"#!/bin/sh\r\necho\r\n", Errno::ENOENT),
            (Cause::CarriageReturn, "/bin/sh".into())
        );
        assert_eq!(
            looked_at(b"echo hello\n", Errno::ENOEXEC),
            (Cause::UnknownFormat, String::new())
        );
        assert_eq!(
            looked_at(b"#!", Errno::ENOENT),
            (Cause::MissingInterpreter, String::new())
        );
        assert_eq!(
            looked_at(b"", Errno::ENOEXEC),
            (Cause::UnknownFormat, String::new())
        );
    }

    #[test]
    fn a_dynamic_program_names_its_loader() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let (cause, loader) = looked_at(&program[..4096], Errno::ENOENT);
        assert_eq!(cause, Cause::MissingLoader);
        assert!(loader.contains("ld-linux"), "{loader}");
    }

    #[test]
    fn a_program_for_another_machine_names_it() {
        let mut program = std::fs::read("/proc/self/exe").unwrap();
        program.truncate(4096);
        assert_eq!(
            looked_at(&program, Errno::ENOEXEC).0,
            Cause::UnknownFormat,
            "it is for this machine, but broken"
        );
        for (number, name) in [(183u16, "aarch64"), (40, "arm"), (9999, "another machine")] {
            program[18..20].copy_from_slice(&number.to_le_bytes());
            assert_eq!(
                looked_at(&program, Errno::ENOEXEC),
                (Cause::OtherMachine, name.to_owned())
            );
        }
    }

    /// ELFCLASS32: the fields are half as wide and elsewhere.
    #[test]
    fn a_32_bit_program_names_its_loader() {
        let mut program = vec![0; 256];
        program[..6].copy_from_slice(b"\x7fELF\x01\x01");
        program[28] = 52;
        program[42] = 32;
        program[44] = 1;
        program[52] = 3;
        program[56] = 100;
        program[68] = 19;
        program[100..119].copy_from_slice(b"/lib/ld-linux.so.2\0");
        assert_eq!(
            looked_at(&program, Errno::ENOENT),
            (Cause::MissingLoader, "/lib/ld-linux.so.2".to_owned())
        );
    }

    #[test]
    fn no_cut_or_wild_program_is_read_past_its_end() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        for length in 0..1024 {
            looked_at(&program[..length], Errno::ENOENT);
        }
        let mut wild = program[..1024].to_vec();
        for at in 0..wild.len() {
            let before = std::mem::replace(&mut wild[at], 0xff);
            looked_at(&wild, Errno::ENOENT);
            wild[at] = before;
        }
    }

    #[test]
    fn directories_missing_files_and_missing_bits_are_told_apart() {
        let directory =
            std::env::temp_dir().join(format!("ringside-diagnose-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("plain");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let cause = |path: &std::path::Path, errno| {
            diagnose(&CString::new(path.as_os_str().as_bytes()).unwrap(), errno).cause
        };
        assert_eq!(cause(&directory, Errno::EACCES), Cause::Directory);
        assert_eq!(cause(&file, Errno::EACCES), Cause::NotExecutable);
        assert_eq!(
            cause(&directory.join("absent"), Errno::ENOENT),
            Cause::Missing
        );
        assert_eq!(cause(&file.join("below"), Errno::ENOTDIR), Cause::Missing);
        assert_eq!(cause(&file, Errno::E2BIG), Cause::TooLarge);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn every_cause_has_its_number() {
        for number in 0..=u8::MAX {
            match Cause::from_number(number) {
                Some(cause) => assert_eq!(cause as u8, number),
                None => assert!(number > Cause::Other as u8),
            }
        }
    }
}
