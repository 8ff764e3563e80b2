//! Kernels' files: each format is read, and whatever is damaged is an error that says what it is.

#[path = "support/kernel.rs"]
mod kernel;

use kernel::{BASE, FORMATS, Format, bzimage, put, vmlinux};
use proptest::prelude::*;
use ringside_vmm::boot::linux::{Kernel, KernelCache, KernelError};
use ringside_vmm::memory::Gpa;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Reads a kernel from these bytes, without a cache.
fn read(bytes: &[u8]) -> Result<Kernel, KernelError> {
    read_with(bytes, &KernelCache::off())
}

#[expect(clippy::unwrap_in_result, reason = "the result is of what is tested")]
fn read_with(bytes: &[u8], cache: &KernelCache) -> Result<Kernel, KernelError> {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    Kernel::read(file, Path::new("the-kernel"), cache)
}

/// The message of the error that these bytes are.
fn refusal(bytes: &[u8]) -> String {
    let message = read(bytes).expect_err("no kernel").to_string();
    assert!(message.contains("the-kernel"), "{message}");
    message
}

/// A kernel of some length, with bytes that do not repeat too soon.
fn plain() -> Vec<u8> {
    let rest: Vec<u8> = (0..100_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 8) as u8)
        .collect();
    vmlinux(&rest, 0x40_0000)
}

#[test]
fn a_kernel_of_every_format_is_read() {
    let plain = plain();
    let direct = read(&plain).unwrap();
    assert_eq!((direct.entry(), direct.start()), (BASE, Gpa(BASE)));
    assert_eq!(direct.pvh_entry(), Some(BASE as u32 + 0x800));
    assert_eq!(direct.end(), Gpa(0x60_0000), "a multiple of 2 MiB");
    for format in FORMATS {
        let kernel = read(&bzimage(&format.payload(&plain)));
        let kernel = kernel.unwrap_or_else(|error| panic!("{format:?}: {error}"));
        assert_eq!(kernel.segments(), direct.segments(), "{format:?}");
        assert_eq!(kernel.entry(), BASE);
    }
}

#[test]
fn what_is_no_kernel_is_told_by_what_it_is() {
    let this_test = fs::read("/proc/self/exe").unwrap();
    for (bytes, expected) in [
        (&b""[..], "not a Linux kernel"),
        (b"#!/bin/sh\necho no kernel\n", "not a Linux kernel"),
        (&[0; 5000], "not a Linux kernel"),
        (&this_test, "is no kernel: its segments are not at"),
    ] {
        let message = refusal(bytes);
        assert!(message.contains(expected), "{message}");
    }
    let missing = Kernel::open(Path::new("/nonexistent/vmlinuz"), &KernelCache::off());
    assert!(missing.unwrap_err().to_string().contains("No such file"));
    let folder = Kernel::open(Path::new("/"), &KernelCache::off());
    assert!(
        folder
            .unwrap_err()
            .to_string()
            .contains("not a Linux kernel")
    );
}

#[test]
fn a_kernel_for_another_processor_is_told_apart() {
    let mut arm = vec![0; 4096];
    put(&mut arm, 0x38, b"ARM\x64");
    let mut elf_arm = plain();
    put(&mut elf_arm, 18, &[183, 0]);
    let mut x86_32 = bzimage(&Format::Gzip.payload(&plain()));
    put(&mut x86_32, 0x236, &[0, 0]);
    for (bytes, architecture) in [
        (arm, "arm64"),
        (elf_arm, "arm64"),
        (x86_32, "x86 of 32 bits"),
    ] {
        let message = refusal(&bytes);
        assert!(
            message.contains(&format!("a kernel for {architecture}")),
            "{message}"
        );
    }
}

#[test]
fn a_kernel_that_was_cut_short_is_told_where() {
    for bytes in [plain(), bzimage(&Format::Zstd.payload(&plain()))] {
        let message = refusal(&bytes[..bytes.len() - 1]);
        let end = format!("ends at byte {}", bytes.len());
        assert!(
            message.contains("is cut short") && message.contains(&end),
            "{message}"
        );
    }
}

#[test]
fn an_unknown_compression_is_named() {
    for (payload, expected) in [
        (&b"BZh91AY&SY"[..], "bzip2, which is not supported"),
        (b"\x89LZO\0\x0d\x0a", "lzo, which is not supported"),
        (b"\x13\x37rubbish", "begins with [13, 37, 72, 75, 62, 62]"),
        (b"", "something unknown"),
    ] {
        let message = refusal(&bzimage(payload));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_damaged_payload_is_an_error_in_every_format() {
    let plain = plain();
    for format in FORMATS {
        let payload = format.payload(&plain);
        for length in [1, 9, 30, payload.len() / 2] {
            // The length at the end stays, so that the payload alone is short.
            let (rest, told) = payload.split_at(payload.len() - 4);
            let cut = [&rest[..length.min(rest.len())], told].concat();
            refusal(&bzimage(&cut));
        }
        // More comes out than the payload says.
        if !matches!(format, Format::None) {
            let mut short = payload.clone();
            let at = short.len() - 4;
            put(&mut short, at, &100_u32.to_le_bytes());
            let message = refusal(&bzimage(&short));
            assert!(
                message.contains("cannot decompress"),
                "{format:?}: {message}"
            );
        }
    }
    let mut huge = Format::Zstd.payload(&plain);
    let at = huge.len() - 4;
    put(&mut huge, at, &[0xff; 4]);
    assert!(refusal(&bzimage(&huge)).contains("more than 1 GiB"));
}

#[test]
fn headers_that_contradict_themselves_are_errors() {
    let segment = |at: usize, value: u64| {
        let mut file = plain();
        put(&mut file, 64 + at, &value.to_le_bytes());
        refusal(&file)
    };
    for (at, value, expected) in [
        (8, u64::MAX, "cut short"),            // offset
        (24, 0x1000, "not at physical"),       // address: too low
        (24, 1 << 40, "not at physical"),      // too high
        (24, u64::MAX - 7, "not at physical"), // wraps
        (32, 1 << 40, "longer in the file"),   // length in the file
        (40, 1, "longer in the file"),         // in memory
        (40, u64::MAX, "not at physical"),
        (40, 0, "nothing to load"),
    ] {
        let message = segment(at, value);
        assert!(message.contains(expected), "{at} {value:#x}: {message}");
    }
    let header = |at: usize, bytes: &[u8]| {
        let mut file = plain();
        put(&mut file, at, bytes);
        refusal(&file)
    };
    for (at, bytes, expected) in [
        (4, &[1][..], "another width"),
        (5, &[2], "another width"),
        (16, &[1, 0], "not executable"),
        (24, &[0; 8], "entry point"),
        (32, &[0xff; 8], "program headers"),
        (54, &[55, 0], "program headers"),
        (56, &[0xff, 0xff], "program headers"),
    ] {
        let message = header(at, bytes);
        assert!(message.contains(expected), "{at}: {message}");
    }
}

#[test]
fn a_kernel_is_decompressed_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::new(folder.path().join("made/when/needed"));
    let image = bzimage(&Format::Zstd.payload(&plain()));
    let kept = || {
        let entries = fs::read_dir(folder.path().join("made/when/needed")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let first = read_with(&image, &cache).unwrap();
    let names = kept();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(first.unpacking().is_some());
    // What is kept is used: it has other contents now, and the same name.
    let file = folder.path().join("made/when/needed").join(&names[0]);
    fs::remove_file(&file).unwrap();
    fs::write(&file, vmlinux(&[], 0x1000)).unwrap();
    let second = read_with(&image, &cache).unwrap();
    assert_ne!(first.segments(), second.segments());
    assert_eq!(second.unpacking(), None);
    assert_eq!(kept(), names);
    // A damaged payload leaves nothing behind.
    let mut damaged = image.clone();
    let middle = damaged.len() / 2;
    put(&mut damaged, middle, &[0; 64]);
    read_with(&damaged, &cache).unwrap_err();
    assert_eq!(kept(), names);
}

#[test]
fn only_the_kernels_last_used_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::new(folder.path());
    for number in 0..12_u8 {
        read_with(
            &bzimage(&Format::Gzip.payload(&vmlinux(&[number], 0x1001))),
            &cache,
        )
        .unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 8);
}

#[test]
fn a_folder_that_cannot_be_used_is_no_error() {
    let image = bzimage(&Format::Gzip.payload(&plain()));
    let cache = KernelCache::new("/proc/nowhere");
    read_with(&image, &cache).unwrap();
}

#[test]
fn a_kernel_whose_file_is_a_device_is_refused() {
    let file = File::open("/dev/zero").unwrap();
    let error = Kernel::read(file, Path::new("zero"), &KernelCache::off()).unwrap_err();
    assert!(error.to_string().contains("not a Linux kernel"), "{error}");
}

proptest! {
    #[test]
    fn a_changed_header_is_never_a_panic(
        changes in prop::collection::vec((0..0x270_usize, any::<u8>()), 1..8),
        format in 0..FORMATS.len(),
    ) {
        let mut image = bzimage(&FORMATS[format].payload(&vmlinux(&[7; 100], 0x2000)));
        for (at, value) in changes {
            image[at] = value;
        }
        let _: Result<Kernel, KernelError> = read(&image);
    }

    #[test]
    fn a_changed_elf_file_is_never_a_panic(
        changes in prop::collection::vec((0..0x220_usize, any::<u8>()), 1..8),
        words in prop::collection::vec((0..0x40_usize, any::<u64>()), 0..3),
    ) {
        let mut image = vmlinux(&[7; 100], 0x2000);
        for (at, word) in words {
            put(&mut image, 8 * at, &word.to_le_bytes());
        }
        put(&mut image, 0, b"\x7fELF\x02\x01\x01");
        for (at, value) in changes {
            image[at] = value;
        }
        if let Ok(kernel) = read(&image) {
            prop_assert!(kernel.start() < kernel.end());
        }
    }

    #[test]
    fn a_changed_payload_is_never_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        format in 0..FORMATS.len(),
    ) {
        let mut payload = FORMATS[format].payload(&plain()[..12_000]);
        for (at, value) in changes {
            let at = at.index(payload.len());
            payload[at] = value;
        }
        let _: Result<Kernel, KernelError> = read(&bzimage(&payload));
    }
}
