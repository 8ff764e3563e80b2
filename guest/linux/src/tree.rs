//! Files of this host that a guest is to see, at the paths that they have here.
//!
//! A path goes in with every symbolic link on its way, so that each name that worked here works there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use thiserror::Error;

/// Links followed on the way of one path, as the kernel has it.
const LINKS: u32 = 40;

/// Why a path cannot be put in.
#[derive(Debug, Error)]
pub enum TreeError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Too many links, or a loop of them.
    #[error("{}: more than 40 symbolic links", path.display())]
    Loop {
        /// The path.
        path: PathBuf,
    },
    /// A device, a socket or a pipe.
    #[error("{} is neither a file nor a directory nor a link, and cannot travel into a guest", path.display())]
    Special {
        /// The path.
        path: PathBuf,
    },
    /// Something else is at that place in the tree already.
    #[error("{} is a file to one path and a directory to another", path.display())]
    Clash {
        /// The path.
        path: PathBuf,
    },
}

/// A file, a directory or a link.
#[derive(Debug)]
pub struct Node {
    /// The permission bits.
    pub mode: u16,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// A directory's entries by name.
    Directory(BTreeMap<Vec<u8>, Node>),
    /// A file of the host.
    File {
        /// Where its bytes are.
        source: PathBuf,
        /// How many.
        bytes: u64,
    },
    /// A file that exists only in the guest.
    Bytes(Vec<u8>),
    /// A symbolic link's target.
    Link(Vec<u8>),
}

impl Node {
    fn directory() -> Node {
        Node {
            mode: 0o755,
            kind: Kind::Directory(BTreeMap::new()),
        }
    }
}

/// A root directory and what is below it.
#[derive(Debug)]
pub struct Tree(Node);

impl Default for Tree {
    fn default() -> Tree {
        Tree(Node::directory())
    }
}

impl Tree {
    /// The root.
    pub fn root(&self) -> &Node {
        &self.0
    }

    /// Puts in what is at an absolute path, with the links on its way. Of a directory, itself only.
    /// Gives the path without links.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn add(&mut self, path: &Path) -> Result<PathBuf, TreeError> {
        let mut real = PathBuf::from("/");
        let mut todo: Vec<Vec<u8>> = names(path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                real.pop();
                continue;
            }
            real.push(OsStr::from_bytes(&name));
            let read = |source| TreeError::Read {
                path: real.clone(),
                source,
            };
            let metadata = fs::symlink_metadata(&real).map_err(read)?;
            let mode = (metadata.mode() & 0o7777) as u16;
            let kind = if metadata.is_symlink() {
                links += 1;
                if links > LINKS {
                    return Err(TreeError::Loop { path: path.into() });
                }
                let target = fs::read_link(&real).map_err(read)?;
                let bytes = target.as_os_str().as_bytes().to_vec();
                let place = real.clone();
                real.pop();
                if target.is_absolute() {
                    real = "/".into();
                }
                todo.extend(names(&target));
                self.put(
                    &place,
                    Node {
                        mode,
                        kind: Kind::Link(bytes),
                    },
                )?;
                continue;
            } else if metadata.is_dir() {
                Kind::Directory(BTreeMap::new())
            } else if metadata.is_file() {
                Kind::File {
                    source: real.clone(),
                    bytes: metadata.len(),
                }
            } else {
                return Err(TreeError::Special { path: real });
            };
            self.put(&real, Node { mode, kind })?;
        }
        Ok(real)
    }

    /// Puts in a path and, of a directory, everything below it, without what is not a file, a
    /// directory or a link.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn add_all(&mut self, path: &Path) -> Result<(), TreeError> {
        let real = self.add(path)?;
        if !real.is_dir() {
            return Ok(());
        }
        let read = |source| TreeError::Read {
            path: real.clone(),
            source,
        };
        for entry in fs::read_dir(&real).map_err(read)? {
            let path = entry.map_err(read)?.path();
            match self.add_all(&path) {
                // A link that leads nowhere here leads nowhere there.
                Err(TreeError::Special { .. }) => {}
                Err(TreeError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes an empty directory, and those above it.
    ///
    /// # Errors
    /// [`TreeError::Clash`].
    pub fn make_directory(&mut self, path: &Path) -> Result<(), TreeError> {
        self.put(path, Node::directory())
    }

    /// Makes a file that exists only in the guest.
    ///
    /// # Errors
    /// [`TreeError::Clash`].
    pub fn make_file(&mut self, path: &Path, mode: u16, bytes: Vec<u8>) -> Result<(), TreeError> {
        self.put(
            path,
            Node {
                mode,
                kind: Kind::Bytes(bytes),
            },
        )
    }

    /// Puts a node at a path whose directories have no links; a directory that is there stays.
    fn put(&mut self, path: &Path, node: Node) -> Result<(), TreeError> {
        let clash = || TreeError::Clash { path: path.into() };
        let mut names = names(path);
        names.reverse();
        let Some((last, above)) = names.split_last() else {
            return Ok(());
        };
        let mut at = &mut self.0;
        for name in above {
            let Kind::Directory(children) = &mut at.kind else {
                return Err(clash());
            };
            at = children.entry(name.clone()).or_insert_with(Node::directory);
        }
        let Kind::Directory(children) = &mut at.kind else {
            return Err(clash());
        };
        let both_directories = |old: &Node| {
            matches!(old.kind, Kind::Directory(_)) && matches!(node.kind, Kind::Directory(_))
        };
        match children.get_mut(last) {
            Some(old) if both_directories(old) => old.mode = node.mode,
            _ => {
                children.insert(last.clone(), node);
            }
        }
        Ok(())
    }
}

/// A path's names, the last first; `..` is one of them.
fn names(path: &Path) -> Vec<Vec<u8>> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        Component::ParentDir => Some(b"..".to_vec()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}
