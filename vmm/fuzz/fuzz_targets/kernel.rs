#![no_main]
//! A kernel's file, of any bytes: reading it gives a kernel or an error. The first byte chooses what
//! is put around the rest: nothing, or a bzImage's header before a payload.

use libfuzzer_sys::fuzz_target;
use ringside_vmm::boot::linux::{Kernel, KernelCache};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A bzImage with this payload.
fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 0x600];
    file[0x1f1] = 2;
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
    file[0x236] = 1;
    file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend_from_slice(payload);
    file
}

fn open(bytes: &[u8]) -> std::io::Result<File> {
    let path = std::env::temp_dir().join(format!("ringside-fuzz-{}", std::process::id()));
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
    std::fs::remove_file(&path)?;
    file.write_all(bytes)?;
    Ok(file)
}

fuzz_target!(|input: &[u8]| {
    let Some((&shape, rest)) = input.split_first() else { return };
    let bytes = if shape & 1 == 0 { rest.to_vec() } else { bzimage(rest) };
    let file = open(&bytes).expect("a temporary file");
    if let Ok(kernel) = Kernel::read(file, Path::new("kernel"), &KernelCache::off()) {
        assert!(kernel.start() < kernel.end());
        assert!(!kernel.segments().is_empty());
    }
});
