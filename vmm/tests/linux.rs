//! Linux guests: what a kernel finds when it begins. The kernels here are a few bytes long; each
//! boots as the real ones do.

#[path = "support/kernel.rs"]
mod kernel;

use kernel::{FORMATS, bzimage, vmlinux};
use ringside_vmm::boot::linux::{Kernel, KernelCache, Protocol};
use ringside_vmm::device::{Backlog, SharedOutput};
use ringside_vmm::linux::{Config, LinuxMachine, LinuxMachineError, PROCESSORS_MAX, Software};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::trap::{Reason, Stop};
use ringside_vmm::vm::{End, Limits, Outcome};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

fn kvm() -> Option<Kvm> {
    Kvm::open()
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

const PATIENCE: Limits = Limits {
    time: Some(Duration::from_secs(60)),
    exits: Some(1_000_000),
};

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room for it");
    file
}

fn read(bytes: &[u8]) -> Kernel {
    Kernel::read(file(bytes), Path::new("the-kernel"), &KernelCache::off()).expect("a kernel")
}

/// Boots to the end; how that was, and what was on the console.
#[expect(clippy::unwrap_in_result, reason = "the result is of what is tested")]
fn boot(
    kvm: &Kvm,
    config: &Config,
    software: &Software<'_>,
) -> Result<(Outcome, String), LinuxMachineError> {
    let (output, captured) = SharedOutput::captured();
    let output = Backlog::new(output, || false).expect("a thread");
    let machine = LinuxMachine::new(kvm, config, output.clone())?;
    let outcome = machine.boot(software)?.run(PATIENCE).expect("KVM runs it");
    output.finish();
    let bytes = captured.lock().expect("no writer panics").clone();
    Ok((outcome, String::from_utf8(bytes).expect("text")))
}

#[test]
fn a_kernel_finds_its_command_line_its_initramfs_and_its_tables() {
    let Some(kvm) = kvm() else { return };
    let initramfs = file(b"the first files");
    let small = vmlinux(&[], 0x1000);
    for protocol in [Protocol::Linux64, Protocol::Pvh] {
        for format in FORMATS {
            let kernel = read(&bzimage(&format.payload(&small)));
            let software = Software {
                initramfs: Some(&initramfs),
                protocol,
                ..Software::new(&kernel, "quiet root=/dev/vda")
            };
            let (outcome, output) = boot(&kvm, &Config::default(), &software).unwrap();
            assert_eq!(output, "quiet root=/dev/vda|the first files|RSD PTR ");
            assert_eq!(outcome.end, End::Stopped(Stop::Reset));
            // A byte an exit, and the reset.
            let exits = outcome.statistics.count(Reason::IoOut);
            assert_eq!(exits, output.len() as u64 + 1, "{protocol:?} {format:?}");
        }
    }
}

#[test]
fn an_initramfs_need_not_be() {
    let Some(kvm) = kvm() else { return };
    let kernel = read(&vmlinux(&[], 0x1000));
    for protocol in [Protocol::Linux64, Protocol::Pvh] {
        let software = Software {
            protocol,
            ..Software::new(&kernel, "")
        };
        let config = Config {
            processors: 4,
            memory_bytes: 4 << 30,
            ..Config::default()
        };
        let (outcome, output) = boot(&kvm, &config, &software).unwrap();
        // The other processors wait for a start-up message that never comes.
        assert_eq!(outcome.end, End::Stopped(Stop::Reset));
        assert_eq!(output, "||RSD PTR ");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let Some(kvm) = kvm() else { return };
    let kernel = read(&vmlinux(&[], 0x40_0000));
    let large = file(&vec![7; 2 << 20]);
    let long = "x".repeat(300);
    let header = read(&bzimage(
        &kernel::Format::None.payload(&vmlinux(&[], 0x1000)),
    ));
    let config = |memory_bytes| Config {
        memory_bytes,
        ..Config::default()
    };
    let with = |kernel, initramfs, command_line, protocol| Software {
        kernel,
        command_line,
        initramfs,
        protocol,
    };
    let refuse = |config: Config, software: Software<'_>| {
        boot(&kvm, &config, &software).unwrap_err().to_string()
    };
    let long64 = Protocol::Linux64;
    for (message, expected) in [
        (
            refuse(config(2 << 20), with(&kernel, None, "", long64)),
            "the kernel takes guest-physical 0x100000 to 0x600000, and low memory ends at 0x200000",
        ),
        (
            refuse(config(7 << 20), with(&kernel, Some(&large), "", long64)),
            "an initramfs of 2097152 bytes does not fit",
        ),
        (
            refuse(config(64 << 20), with(&header, None, &long, long64)),
            "has 300 bytes, and this kernel reads 255",
        ),
        (
            refuse(config(64 << 20), with(&kernel, None, "a\0b", long64)),
            "NUL",
        ),
        (
            refuse(config(4097), with(&kernel, None, "", long64)),
            "whole pages",
        ),
    ] {
        assert!(message.contains(expected), "{message}");
    }
    // One MiB more, and it does.
    let output = std::io::sink();
    let machine = LinuxMachine::new(&kvm, &config(8 << 20), output).unwrap();
    let fits = with(&kernel, Some(&large), "", long64);
    machine.boot(&fits).unwrap();
    for processors in [0, PROCESSORS_MAX + 1] {
        let config = Config {
            processors,
            ..Config::default()
        };
        let message = refuse(config, with(&kernel, None, "", long64));
        assert!(message.contains("ask for 1 to 64"), "{message}");
    }
}

#[test]
fn a_kernel_without_pvh_says_so() {
    let Some(kvm) = kvm() else { return };
    let mut image = vmlinux(&[], 0x1000);
    kernel::put(&mut image, 0x208, &[17]); // another type of note
    let kernel = read(&image);
    let software = Software {
        protocol: Protocol::Pvh,
        ..Software::new(&kernel, "")
    };
    let error = boot(&kvm, &Config::default(), &software).unwrap_err();
    assert!(error.to_string().contains("CONFIG_PVH"), "{error}");
}
