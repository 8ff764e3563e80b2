//! A read-only image of a file tree, made in this process: EROFS, uncompressed (kernel
//! `fs/erofs/erofs_fs.h`). The guest reads only the blocks that it touches, and the host need not
//! mount anything.
//!
//! ```text
//!   block 0        super block at byte 1024
//!   block 1 …      inodes, 32 bytes each; an inode's number is its place
//!   then           each directory's entries, each file's bytes, from a block of its own
//! ```

use crate::tree::{Kind, Node, Tree};
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;
use thiserror::Error;

/// A block, and the page that it becomes in the guest.
const BLOCK: u64 = 4096;
const MAGIC: u32 = 0xe0f5_e1e2;
const SUPER_BLOCK: u64 = 1024;
const INODE: u64 = 32;
const ENTRY: usize = 12;
/// The first block with inodes.
const INODES: u64 = 1;
/// The root's inode. Number 0 would not be shown in listings.
const ROOT: u64 = 1;

/// Why there is no image.
#[derive(Debug, Error)]
pub enum ErofsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file was cut or grew meanwhile.
    #[error("{} changed while it was read; try again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The image cannot be written.
    #[error("cannot write the guest's image: {0}; is there room for it in memory?")]
    Write(#[from] io::Error),
    /// A file is too long for the small inodes that are used here.
    #[error("{} is {bytes} bytes long, and an image takes files up to 4 GiB", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
}

/// Writes the image of a tree.
///
/// # Errors
/// [`ErofsError`]: a file that cannot be read, or no room.
pub fn write(tree: &Tree, file: &mut File) -> Result<(), ErofsError> {
    let mut layout = Layout::default();
    layout.place(tree.root(), ROOT, ROOT);
    let count = layout.inodes.len() as u64 + ROOT;
    let mut next = INODES + (count * INODE).div_ceil(BLOCK);
    for inode in &mut layout.inodes {
        inode.block = next;
        next += inode.data.len()?.div_ceil(BLOCK);
    }
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&super_block(next, count))?;
    out.seek(SeekFrom::Start(INODES * BLOCK + ROOT * INODE))?;
    for inode in &layout.inodes {
        out.write_all(&inode.bytes()?)?;
    }
    for inode in &layout.inodes {
        out.seek(SeekFrom::Start(inode.block * BLOCK))?;
        inode.data.copy_to(&mut out)?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.set_len(next * BLOCK)?;
    Ok(())
}

/// What an inode's blocks hold.
enum Data<'a> {
    Bytes(Vec<u8>),
    File(&'a PathBuf, u64),
}

impl Data<'_> {
    fn len(&self) -> Result<u64, ErofsError> {
        match self {
            Data::Bytes(bytes) => Ok(bytes.len() as u64),
            Data::File(path, bytes) if *bytes > u64::from(u32::MAX) => Err(ErofsError::TooLong {
                path: path.to_path_buf(),
                bytes: *bytes,
            }),
            Data::File(_, bytes) => Ok(*bytes),
        }
    }

    fn copy_to(&self, out: &mut impl Write) -> Result<(), ErofsError> {
        match self {
            Data::Bytes(bytes) => out.write_all(bytes)?,
            Data::File(path, bytes) => {
                let read = |source| ErofsError::Read {
                    path: path.to_path_buf(),
                    source,
                };
                let mut file = File::open(path).map_err(read)?;
                let copied = io::copy(&mut io::Read::take(&mut file, *bytes), out)?;
                if copied != *bytes {
                    return Err(ErofsError::Changed {
                        path: path.to_path_buf(),
                    });
                }
            }
        }
        Ok(())
    }
}

struct Inode<'a> {
    mode: u16,
    links: u16,
    number: u64,
    data: Data<'a>,
    block: u64,
}

impl Inode<'_> {
    /// `struct erofs_inode_compact`, its data flat in whole blocks.
    fn bytes(&self) -> Result<[u8; INODE as usize], ErofsError> {
        let mut bytes = [0; INODE as usize];
        bytes[4..6].copy_from_slice(&self.mode.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.links.to_le_bytes());
        bytes[8..12].copy_from_slice(&(self.data.len()? as u32).to_le_bytes());
        bytes[16..20].copy_from_slice(&(self.block as u32).to_le_bytes());
        bytes[20..24].copy_from_slice(&(self.number as u32).to_le_bytes());
        Ok(bytes)
    }
}

/// Every inode, in the order of its number from [`ROOT`] on.
#[derive(Default)]
struct Layout<'a> {
    inodes: Vec<Inode<'a>>,
}

impl<'a> Layout<'a> {
    /// Gives `node` the next number, which is `number`, and its children theirs.
    fn place(&mut self, node: &'a Node, number: u64, parent: u64) {
        let at = self.inodes.len();
        self.inodes.push(Inode {
            mode: kind_bits(&node.kind) | node.mode,
            links: 1,
            number,
            data: Data::Bytes(Vec::new()),
            block: 0,
        });
        let (data, links) = match &node.kind {
            Kind::File { source, bytes } => (Data::File(source, *bytes), 1),
            Kind::Link(target) => (Data::Bytes(target.clone()), 1),
            Kind::Bytes(bytes) => (Data::Bytes(bytes.clone()), 1),
            Kind::Directory(children) => {
                let mut entries: Vec<(&[u8], u64, u8)> =
                    vec![(b".", number, 2), (b"..", parent, 2)];
                let mut links = 2;
                for (name, child) in children {
                    let next = ROOT + self.inodes.len() as u64;
                    self.place(child, next, number);
                    links += u16::from(matches!(child.kind, Kind::Directory(_)));
                    entries.push((name, next, file_type(&child.kind)));
                }
                entries.sort_unstable();
                (Data::Bytes(directory(&entries)), links)
            }
        };
        self.inodes[at].data = data;
        self.inodes[at].links = links;
    }
}

/// A directory's blocks: in each the entries, then their names; the last block ends with them.
fn directory(entries: &[(&[u8], u64, u8)]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        let mut used = 0;
        let fits = |(name, ..): &&(&[u8], u64, u8)| {
            used += ENTRY + name.len();
            used <= BLOCK as usize
        };
        let count = rest.iter().take_while(fits).count();
        let (block, others) = rest.split_at(count);
        let mut name_at = ENTRY * count;
        for (name, number, kind) in block {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&(name_at as u16).to_le_bytes());
            out.extend_from_slice(&[*kind, 0]);
            name_at += name.len();
        }
        block
            .iter()
            .for_each(|(name, ..)| out.extend_from_slice(name));
        rest = others;
    }
    out
}

/// `man 7 inode`.
fn kind_bits(kind: &Kind) -> u16 {
    match kind {
        Kind::Directory(_) => 0o040_000,
        Kind::Link(_) => 0o120_000,
        Kind::File { .. } | Kind::Bytes(_) => 0o100_000,
    }
}

/// As directory entries name it.
fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } | Kind::Bytes(_) => 1,
        Kind::Directory(_) => 2,
        Kind::Link(_) => 7,
    }
}

/// Everything up to the first inode.
fn super_block(blocks: u64, inodes: u64) -> Vec<u8> {
    let mut out = vec![0; SUPER_BLOCK as usize];
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 8]); // no checksum, no compatible features
    out.extend_from_slice(&[BLOCK.trailing_zeros() as u8, 0]);
    out.extend_from_slice(&(ROOT as u16).to_le_bytes());
    out.extend_from_slice(&inodes.to_le_bytes());
    out.extend_from_slice(&[0; 12]); // built at the epoch: the same tree gives the same image
    out.extend_from_slice(&(blocks as u32).to_le_bytes());
    out.extend_from_slice(&(INODES as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]); // no extended attributes
    out.extend_from_slice(&[0; 16]); // no UUID
    out.extend_from_slice(b"ringside\0\0\0\0\0\0\0\0");
    out
}

#[cfg(test)]
mod tests;
