//! Images are read back with a reader of the same few structures.

use super::*;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

struct Reader(File);

/// An inode's mode, and its bytes.
struct Read {
    mode: u16,
    bytes: Vec<u8>,
}

impl Reader {
    fn at<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    fn inode(&self, number: u64) -> Read {
        let inode: [u8; 32] = self.at(INODES * BLOCK + number * INODE);
        let word = |at: usize| u32::from_le_bytes(inode[at..at + 4].try_into().unwrap());
        assert_eq!(inode[..4], [0; 4], "compact, flat, no attributes");
        assert_eq!(u64::from(word(20)), number);
        let mut bytes = vec![0; word(8) as usize];
        self.0
            .read_exact_at(&mut bytes, u64::from(word(16)) * BLOCK)
            .unwrap();
        Read {
            mode: u16::from_le_bytes([inode[4], inode[5]]),
            bytes,
        }
    }

    /// Names and numbers, in the order of the blocks.
    fn directory(&self, number: u64) -> Vec<(String, u64)> {
        let mut entries = Vec::new();
        for block in self.inode(number).bytes.chunks(BLOCK as usize) {
            let name_at = |index: usize| {
                let at = index * ENTRY + 8;
                usize::from(u16::from_le_bytes([block[at], block[at + 1]]))
            };
            let count = name_at(0) / ENTRY;
            for index in 0..count {
                let end = if index + 1 < count {
                    name_at(index + 1)
                } else {
                    block.len()
                };
                let name = &block[name_at(index)..end];
                let name = name.split(|&byte| byte == 0).next().unwrap();
                let number = block[index * ENTRY..index * ENTRY + 8].try_into().unwrap();
                entries.push((
                    String::from_utf8(name.to_vec()).unwrap(),
                    u64::from_le_bytes(number),
                ));
            }
        }
        entries
    }

    fn find(&self, path: &str) -> Read {
        let number = path
            .split('/')
            .filter(|name| !name.is_empty())
            .fold(ROOT, |number, name| {
                self.directory(number)
                    .into_iter()
                    .find(|entry| entry.0 == name)
                    .unwrap()
                    .1
            });
        self.inode(number)
    }
}

fn image(tree: &Tree) -> Reader {
    let mut file = tempfile::tempfile().unwrap();
    write(tree, &mut file).unwrap();
    assert_eq!(file.metadata().unwrap().len() % BLOCK, 0);
    Reader(file)
}

#[test]
fn files_links_and_directories_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let contents: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
    fs::write(&path, &contents).unwrap();
    std::os::unix::fs::symlink("data", folder.path().join("link")).unwrap();
    let mut tree = Tree::default();
    tree.add(&folder.path().join("link")).unwrap();
    tree.make_file(Path::new("/etc/hostname"), 0o600, b"guest\n".to_vec())
        .unwrap();

    let image = image(&tree);
    let magic: [u8; 4] = image.at(SUPER_BLOCK);
    assert_eq!(u32::from_le_bytes(magic), MAGIC);
    let file = image.find(path.to_str().unwrap());
    assert_eq!((file.mode & 0o170_000, file.bytes), (0o100_000, contents));
    let link = image.find(folder.path().join("link").to_str().unwrap());
    assert_eq!(
        (link.mode & 0o170_000, link.bytes),
        (0o120_000, b"data".to_vec())
    );
    let hostname = image.find("/etc/hostname");
    assert_eq!(
        (hostname.mode, hostname.bytes),
        (0o100_600, b"guest\n".to_vec())
    );
}

#[test]
fn a_directory_of_many_blocks_is_sorted_throughout() {
    let mut tree = Tree::default();
    let names: Vec<String> = (0..700)
        .map(|number| format!("a-rather-long-name-{number}"))
        .collect();
    for name in &names {
        tree.make_file(&Path::new("/many").join(name), 0o644, Vec::new())
            .unwrap();
    }
    // These come before `.`, as bytes.
    tree.make_file(Path::new("/many/!"), 0o644, Vec::new())
        .unwrap();
    let image = image(&tree);
    let many = image.directory(image.directory(ROOT)[2].1);
    assert_eq!(many.len(), names.len() + 3);
    assert!(many.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(many[0].0, "!");
    assert_eq!(many[2], ("..".into(), ROOT));
}

#[test]
fn the_same_tree_gives_the_same_image() {
    let make = || {
        let mut tree = Tree::default();
        tree.make_file(Path::new("/a/b"), 0o644, b"c".to_vec())
            .unwrap();
        let reader = image(&tree);
        let mut bytes = vec![0; reader.0.metadata().unwrap().len() as usize];
        reader.0.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    assert_eq!(make(), make());
}
