//! The dynamic linker's list of libraries, `/etc/ld.so.cache` (glibc `sysdeps/generic/dl-cache.h`).
//!
//! ```text
//!   0   "glibc-ld.so.cache1.1"
//!   20  number of libraries, bytes of texts, …
//!   48  24 bytes a library: flags, name, path (offsets from the start), …
//!       the texts
//! ```

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
/// A library of glibc 2 for x86-64.
const X86_64: u32 = 0x0303;

/// Names and the paths that they stand for.
#[derive(Debug, Default)]
pub struct LdCache(HashMap<OsString, PathBuf>);

impl LdCache {
    /// Reads a cache; a file that is not there, or is something else, is an empty one: the standard
    /// directories are searched all the same.
    pub fn read(path: &Path) -> LdCache {
        fs::read(path)
            .ok()
            .and_then(|file| LdCache::parse(&file))
            .unwrap_or_default()
    }

    /// Where a library is.
    pub fn find(&self, name: &OsStr) -> Option<PathBuf> {
        self.0.get(name).cloned()
    }

    fn parse(file: &[u8]) -> Option<LdCache> {
        // Older systems have an older table before this one.
        let start = file
            .windows(MAGIC.len())
            .position(|window| window == MAGIC)?;
        let file = &file[start..];
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?))
        };
        let text = |at: u32| {
            let text = file.get(usize::try_from(at).ok()?..)?;
            Some(OsStr::from_bytes(text.split(|&byte| byte == 0).next()?))
        };
        let mut libraries = HashMap::new();
        for index in 0..word(20)? as usize {
            let at = HEADER + index * ENTRY;
            if word(at)? == X86_64 {
                let (name, path) = (text(word(at + 4)?)?, text(word(at + 8)?)?);
                libraries
                    .entry(name.to_owned())
                    .or_insert_with(|| path.into());
            }
        }
        Some(LdCache(libraries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(libraries: &[(&str, &str)]) -> Vec<u8> {
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&(libraries.len() as u32).to_le_bytes());
        file.resize(HEADER, 0);
        let mut texts = Vec::new();
        for (name, path) in libraries {
            let at = HEADER + libraries.len() * ENTRY + texts.len();
            texts.extend_from_slice(format!("{name}\0{path}\0").as_bytes());
            for word in [X86_64, at as u32, (at + name.len() + 1) as u32, 0, 0, 0] {
                file.extend_from_slice(&word.to_le_bytes());
            }
        }
        file.extend_from_slice(&texts);
        file
    }

    #[test]
    fn finds_a_library_by_its_name() {
        let file = cache(&[
            ("liba.so.1", "/lib/liba.so.1"),
            ("libb.so.2", "/opt/libb.so.2"),
        ]);
        let cache = LdCache::parse(&file).unwrap();
        assert_eq!(
            cache.find("libb.so.2".as_ref()),
            Some("/opt/libb.so.2".into())
        );
        assert_eq!(cache.find("libc.so.6".as_ref()), None);
    }

    #[test]
    fn a_damaged_cache_is_none() {
        let file = cache(&[("liba.so.1", "/lib/liba.so.1")]);
        for length in 0..HEADER + ENTRY {
            assert!(LdCache::parse(&file[..length]).is_none(), "{length}");
        }
    }
}
