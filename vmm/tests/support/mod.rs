//! What the tests of running machines share.

use ringside_guest::program;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::vm::{Limits, Outcome, Vm};
use std::time::Duration;

/// Opens KVM, or says why the test is skipped.
pub fn kvm() -> Option<Kvm> {
    Kvm::open()
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .ok()
}

/// Far beyond what any test needs, so that a guest that hangs is a failure and not a hang.
pub const PATIENCE: Limits = Limits {
    time: Some(Duration::from_secs(60)),
    exits: Some(1_000_000),
};

/// Runs an embedded program with 64 MiB of memory; its end, and what it wrote.
pub fn run(kvm: &Kvm, name: &str, arguments: &[&str], limits: Limits) -> (Outcome, String) {
    let program = program(name).expect("an embedded program");
    run_image(
        kvm,
        &Image::parse(program.elf).expect("an image"),
        arguments,
        limits,
    )
}

/// As [`run`], for any image.
pub fn run_image(
    kvm: &Kvm,
    image: &Image<'_>,
    arguments: &[&str],
    limits: Limits,
) -> (Outcome, String) {
    let (streams, output) = Streams::captured();
    let mut vm = Vm::new(kvm, 64 << 20, image, arguments, streams).expect("a machine");
    let outcome = vm.run(limits).expect("KVM runs it");
    let bytes = output.lock().expect("no writer panics").clone();
    (outcome, String::from_utf8(bytes).expect("text"))
}
