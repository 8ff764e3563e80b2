//! What a program of this host needs to run elsewhere: its interpreter and its libraries, found as
//! `ldd` finds them, but by reading files only; nothing of the program runs.
//!
//! The order of search is the dynamic linker's (`man 8 ld.so`): `DT_RPATH` where there is no
//! `DT_RUNPATH`, `LD_LIBRARY_PATH`, `DT_RUNPATH`, `/etc/ld.so.cache`, the standard directories. What a
//! program opens by itself while it runs (plug-ins, data) cannot be known; it is named beside it.

use crate::ld_cache::LdCache;
use crate::tree::{Tree, TreeError};
use elf::ElfBytes;
use elf::abi::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRTAB, EM_X86_64, PT_INTERP, PT_LOAD};
use elf::endian::LittleEndian;
use std::collections::HashSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a program cannot travel.
#[derive(Debug, Error)]
pub enum ClosureError {
    /// No such program.
    #[error("there is no program {}", program.display())]
    NotFound {
        /// As it was asked for.
        program: PathBuf,
    },
    /// It is there but nobody may execute it.
    #[error("{} is not executable", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// Neither an ELF program for this processor nor a script.
    #[error("{} is neither a program for x86-64 nor a script that begins with #!", path.display())]
    NotAProgram {
        /// The file.
        path: PathBuf,
    },
    /// An ELF file whose tables lie.
    #[error("{} is a damaged program: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: elf::ParseError,
    },
    /// A library is nowhere.
    #[error("{} needs the library {library}, which is nowhere on this host; install it, or name its file with --file", user.display())]
    NoLibrary {
        /// Who needs it.
        user: PathBuf,
        /// Its name.
        library: String,
    },
    /// Scripts that interpret scripts, too many.
    #[error("{}: more than 4 interpreters of interpreters", path.display())]
    Interpreters {
        /// The script.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot go into the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The file that `execvp` would choose for a command: as it is when there is a slash in it, or the
/// first executable one on `PATH`. The path is absolute.
///
/// # Errors
/// [`ClosureError::NotFound`], [`ClosureError::NotExecutable`].
pub fn find_program(command: &OsStr) -> Result<PathBuf, ClosureError> {
    let not_found = || ClosureError::NotFound {
        program: command.into(),
    };
    if command.as_bytes().contains(&b'/') {
        let path = std::path::absolute(command).map_err(|_| not_found())?;
        return match fs::metadata(&path) {
            Err(_) => Err(not_found()),
            Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => Ok(path),
            Ok(_) => Err(ClosureError::NotExecutable { path }),
        };
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    env::split_paths(&path)
        .map(|folder| folder.join(command))
        .find(|path| {
            path.is_absolute()
                && fs::metadata(path)
                    .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(not_found)
}

/// Collects programs and what they need.
#[derive(Debug)]
pub struct Closure<'a> {
    tree: &'a mut Tree,
    cache: LdCache,
    seen: HashSet<PathBuf>,
}

/// Where the dynamic linker looks last.
const STANDARD: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib/x86_64-linux-gnu",
    "/usr/local/lib",
];

impl<'a> Closure<'a> {
    /// Collects into a tree.
    pub fn new(tree: &'a mut Tree) -> Closure<'a> {
        Closure {
            tree,
            cache: LdCache::read(Path::new("/etc/ld.so.cache")),
            seen: HashSet::new(),
        }
    }

    /// A program, its interpreters and libraries.
    ///
    /// # Errors
    /// [`ClosureError`].
    pub fn add_program(&mut self, path: &Path) -> Result<(), ClosureError> {
        self.add(path, 0)
    }

    fn add(&mut self, path: &Path, depth: u32) -> Result<(), ClosureError> {
        let real = self.tree.add(path)?;
        if !self.seen.insert(real.clone()) {
            return Ok(());
        }
        let bytes = fs::read(&real).map_err(|source| ClosureError::Read {
            path: real.clone(),
            source,
        })?;
        if bytes.starts_with(b"\x7fELF") {
            return self.add_elf(&real, &bytes);
        }
        if depth == 4 {
            return Err(ClosureError::Interpreters { path: path.into() });
        }
        let interpreter =
            interpreter(&bytes).ok_or_else(|| ClosureError::NotAProgram { path: real.clone() })?;
        self.add(Path::new(interpreter.program), depth + 1)?;
        // `#!/usr/bin/env python3` is a wish for python3.
        if Path::new(interpreter.program).ends_with("env")
            && let Some(command) = interpreter.argument
        {
            self.add(&find_program(command)?, depth + 1)?;
        }
        Ok(())
    }

    fn add_elf(&mut self, path: &Path, bytes: &[u8]) -> Result<(), ClosureError> {
        let needs = Needs::read(bytes).map_err(|source| ClosureError::Damaged {
            path: path.into(),
            source,
        })?;
        let needs = needs.ok_or_else(|| ClosureError::NotAProgram { path: path.into() })?;
        if let Some(interpreter) = &needs.interpreter {
            self.add(Path::new(OsStr::from_bytes(interpreter)), 0)?;
        }
        for library in &needs.libraries {
            let name = OsStr::from_bytes(library);
            let found =
                self.find_library(path, &needs, name)
                    .ok_or_else(|| ClosureError::NoLibrary {
                        user: path.into(),
                        library: name.to_string_lossy().into_owned(),
                    })?;
            self.add(&found, 0)?;
        }
        Ok(())
    }

    fn find_library(&self, user: &Path, needs: &Needs, name: &OsStr) -> Option<PathBuf> {
        if name.as_bytes().contains(&b'/') {
            return Some(name.into());
        }
        let environment = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let before = if needs.run_path.is_empty() {
            &needs.old_run_path
        } else {
            &Vec::new()
        };
        let listed = folders(before, user)
            .chain(env::split_paths(&environment).filter(|folder| folder.is_absolute()))
            .chain(folders(&needs.run_path, user))
            .map(|folder| folder.join(name))
            .find(|path| is_library(path));
        listed
            .or_else(|| self.cache.find(name).filter(|path| is_library(path)))
            .or_else(|| {
                let standard = STANDARD.iter().map(|folder| Path::new(folder).join(name));
                standard.into_iter().find(|path| is_library(path))
            })
    }
}

/// An ELF file for this processor: another architecture's library of the same name is passed over.
fn is_library(path: &Path) -> bool {
    let mut head = [0; 20];
    fs::File::open(path)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut head))
        .is_ok_and(|()| {
            head.starts_with(b"\x7fELF\x02\x01") && head[18..20] == EM_X86_64.to_le_bytes()
        })
}

/// A run path's folders; `$ORIGIN` is the folder of the file that has it.
fn folders(path: &[u8], user: &Path) -> impl Iterator<Item = PathBuf> {
    let origin = user
        .parent()
        .unwrap_or(Path::new("/"))
        .to_string_lossy()
        .into_owned();
    let text = String::from_utf8_lossy(path)
        .replace("${ORIGIN}", &origin)
        .replace("$ORIGIN", &origin);
    let folders: Vec<PathBuf> = text
        .split(':')
        .filter(|text| !text.is_empty())
        .map(Into::into)
        .collect();
    folders.into_iter()
}

/// What an ELF file asks for.
#[derive(Debug, Default)]
struct Needs {
    interpreter: Option<Vec<u8>>,
    libraries: Vec<Vec<u8>>,
    run_path: Vec<u8>,
    old_run_path: Vec<u8>,
}

impl Needs {
    /// `None` for another processor's file.
    fn read(bytes: &[u8]) -> Result<Option<Needs>, elf::ParseError> {
        let Ok(file) = ElfBytes::<LittleEndian>::minimal_parse(bytes) else {
            return Ok(None);
        };
        if file.ehdr.e_machine != EM_X86_64 {
            return Ok(None);
        }
        let mut needs = Needs::default();
        let segments: Vec<_> = file.segments().into_iter().flatten().collect();
        let interpreter = segments.iter().find(|segment| segment.p_type == PT_INTERP);
        if let Some(segment) = interpreter {
            let text = file.segment_data(segment)?;
            needs.interpreter = Some(text.strip_suffix(&[0]).unwrap_or(text).to_vec());
        }
        let Some(table) = file.dynamic()? else {
            return Ok(Some(needs));
        };
        // The texts are named by the address at which they will be.
        let address = table
            .iter()
            .find(|entry| entry.d_tag == DT_STRTAB)
            .map(|entry| entry.d_ptr());
        let texts = segments.iter().find_map(|segment| {
            let offset = address?.checked_sub(segment.p_vaddr)?;
            let inside = segment.p_type == PT_LOAD && offset < segment.p_filesz;
            let start = usize::try_from(segment.p_offset.checked_add(offset)?).ok()?;
            bytes.get(start..).filter(|_| inside)
        });
        let text = |offset: u64| {
            let text = texts?.get(usize::try_from(offset).ok()?..)?;
            Some(text.split(|&byte| byte == 0).next()?.to_vec())
        };
        for entry in table.iter() {
            match entry.d_tag {
                DT_NEEDED => needs.libraries.extend(text(entry.d_val())),
                DT_RUNPATH => needs.run_path = text(entry.d_val()).unwrap_or_default(),
                DT_RPATH => needs.old_run_path = text(entry.d_val()).unwrap_or_default(),
                _ => {}
            }
        }
        Ok(Some(needs))
    }
}

/// A script's first line.
#[derive(Debug, PartialEq, Eq)]
struct Interpreter<'a> {
    program: &'a OsStr,
    argument: Option<&'a OsStr>,
}

/// `#!program argument`, as `man 2 execve` has it.
fn interpreter(script: &[u8]) -> Option<Interpreter<'_>> {
    let line = script
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let mut words = line
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .map(OsStr::from_bytes);
    Some(Interpreter {
        program: words.next()?,
        argument: words.next(),
    })
}

#[cfg(test)]
mod tests;
