//! A disk over a raw file, and one with a copy-on-write upper file, under any driver; the host cuts
//! the file short now and then.
//!
//! `cargo +nightly fuzz run virtio_block` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::virtio::{Block, CopyOnWrite, Raw};
use ringside_vmm_fuzz::virtio::{Bytes, memory, run};
use std::fs::{self, File};
use std::path::PathBuf;

const DISK_BYTES: u64 = 20 << 12 | 512;

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!(
        "/dev/shm/ringside-fuzz-{name}-{}",
        std::process::id()
    ))
}

fuzz_target!(|input: &[u8]| {
    let Some((&kind, input)) = input.split_first() else {
        return;
    };
    let (base, upper) = (path("base"), path("upper"));
    let file = File::create(&base).expect("a file");
    file.set_len(DISK_BYTES).expect("room");
    let cut = |file: &File, bytes: &mut Bytes<'_>| {
        let _ = file.set_len(bytes.number(3) % (2 * DISK_BYTES));
    };
    if kind & 1 == 0 {
        let disk = Raw::open(&base, kind & 2 != 0).expect("a disk");
        run(Block::new(disk, "fuzz"), memory(), input, |bytes| {
            cut(&file, bytes)
        });
    } else {
        let disk = CopyOnWrite::open(&base, &upper).expect("a disk");
        let upper_file = File::options().write(true).open(&upper).expect("made");
        run(Block::new(disk, "fuzz"), memory(), input, |bytes| {
            let which = if bytes.number(1) & 1 == 0 {
                &file
            } else {
                &upper_file
            };
            cut(which, bytes);
        });
    }
    let _ = fs::remove_file(&base);
    let _ = fs::remove_file(&upper);
});
