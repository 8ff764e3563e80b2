//! The VMM's work before a Linux guest's first instruction: from a kernel's file to a machine whose
//! processor stands at the kernel's entry.
//!
//! The kernel is made here: a bzImage of 15 MB whose payload becomes a vmlinux of 50 MB, with an
//! initramfs of 20 MB. `kept` is every start but the first, `first` the one that decompresses.

#[expect(dead_code, reason = "one format is measured, the tests read them all")]
#[path = "../tests/support/kernel.rs"]
mod kernel;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use kernel::{Format, bzimage, vmlinux};
use ringside_vmm::boot::linux::{Kernel, KernelCache};
use ringside_vmm::linux::{Config, LinuxMachine, Software};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::vm::Vm;
use std::fs::{self, File};
use std::io::sink;
use std::path::Path;
use std::time::Duration;

/// What is in the kernel: a part that cannot be compressed, and one that can.
const DENSE_BYTES: usize = 15 << 20;
const SPARSE_BYTES: usize = 35 << 20;
const INITRAMFS_BYTES: usize = 20 << 20;

fn boot(kvm: &Kvm, path: &Path, cache: &KernelCache, initramfs: &Path) -> Vm {
    let kernel = Kernel::open(path, cache).expect("a kernel");
    let initramfs = File::open(initramfs).expect("an initramfs");
    let machine = LinuxMachine::new(kvm, &Config::default(), sink()).expect("a machine");
    let software = Software {
        initramfs: Some(&initramfs),
        ..Software::new(&kernel, "console=ttyS0 reboot=k panic=-1")
    };
    machine.boot(&software).expect("it fits")
}

/// Bytes that do not compress (xorshift64, Marsaglia 2003).
fn scramble(bytes: &mut [u8]) {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    for chunk in bytes.chunks_exact_mut(8) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        chunk.copy_from_slice(&word.to_le_bytes());
    }
}

fn before_the_first_instruction(criterion: &mut Criterion) {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (path, initramfs) = (
        folder.path().join("vmlinuz"),
        folder.path().join("initramfs"),
    );
    let mut rest = vec![0; DENSE_BYTES + SPARSE_BYTES];
    scramble(&mut rest[..DENSE_BYTES]);
    let image = bzimage(&Format::Gzip.payload(&vmlinux(&rest, 60 << 20)));
    println!("a bzImage of {} bytes", image.len());
    fs::write(&path, image).expect("room for it");
    scramble(&mut rest[..INITRAMFS_BYTES]);
    fs::write(&initramfs, &rest[..INITRAMFS_BYTES]).expect("room for it");

    let cache = KernelCache::new(folder.path().join("kept"));
    let mut group = criterion.benchmark_group("boot");
    group.bench_function("kept", |bencher| {
        // Dropping the machine is no part of it.
        bencher.iter_with_large_drop(|| boot(&kvm, &path, &cache, &initramfs));
    });
    group.bench_function("open_kept", |bencher| {
        bencher.iter(|| Kernel::open(&path, &cache).expect("a kernel"));
    });
    group.bench_function("first", |bencher| {
        bencher.iter_batched(
            || drop(fs::remove_dir_all(folder.path().join("kept"))),
            |()| boot(&kvm, &path, &cache, &initramfs),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    targets = before_the_first_instruction
}
criterion_main!(benches);
