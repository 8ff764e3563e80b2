//! What the tests of running machines share.

use ringside_guest::program;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::trap::{Reason, Stop};
use ringside_vmm::vm::{End, Limits, Outcome, Vm};
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

/// The guest ended itself with `status`, after exactly these exits.
#[expect(clippy::allow_attributes, reason = "not every test file uses it")]
#[allow(dead_code)]
pub fn ended_with_exits(outcome: &Outcome, status: u8, exits: &[(Reason, u64)]) {
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(status)));
    let counted: Vec<(Reason, u64)> = outcome
        .statistics
        .summaries()
        .iter()
        .map(|row| (row.reason, row.count))
        .collect();
    assert_eq!(counted, exits);
}
