//! Bare guests run to their end, with exactly the exits that their code makes.

mod support;

use ringside_vmm::boot::Image;
use ringside_vmm::trap::{Reason, Stop};
use ringside_vmm::vm::End;
use support::{PATIENCE, kvm, run, run_image};

const DONE: End = End::Stopped(Stop::Exited(0));

#[test]
fn hello_greets_from_ring_3_in_two_exits() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "hello", &[], PATIENCE);
    assert_eq!(outcome.end, DONE);
    assert_eq!(
        output,
        "Hello from ring 3 of a virtual machine with 64 MiB of memory.\n"
    );
    // One hypercall for the line, whatever its length, and one write to the exit port.
    assert_eq!(outcome.statistics.count(Reason::IoOut), 2);
    assert_eq!(outcome.statistics.total(), 2);
    assert!(outcome.report.is_none());
}

#[test]
fn arguments_arrive_as_they_are() {
    let Some(kvm) = kvm() else { return };
    let (_, output) = run(&kvm, "hello", &["", "two words", "ü"], PATIENCE);
    let arguments: Vec<&str> = output.lines().skip(1).collect();
    assert_eq!(
        arguments,
        ["argument: ", "argument: two words", "argument: ü"]
    );
}

#[test]
fn a_stamp_is_eight_bytes_in_three_exits() {
    let Some(kvm) = kvm() else { return };
    let image = Image::parse(ringside_guest::program("stamp").expect("it is there").elf);
    let (streams, output) = ringside_vmm::device::Streams::captured();
    let before = ringside_vmm::sys::stream::monotonic_ns();
    let mut vm = ringside_vmm::vm::Vm::new(&kvm, 8 << 20, &image.expect("an image"), &[], streams)
        .expect("a machine");
    let outcome = vm.run(PATIENCE).expect("KVM runs it");
    let after = ringside_vmm::sys::stream::monotonic_ns();
    assert_eq!((outcome.end, outcome.statistics.total()), (DONE, 3));
    let bytes = output.lock().expect("no writer panics").clone();
    let stamp = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    assert!(
        (before..=after).contains(&stamp),
        "{before} {stamp} {after}"
    );
}

#[test]
fn every_work_runs_in_ring_3_and_reports() {
    let Some(kvm) = kvm() else { return };
    for (name, line) in [
        ("primes", "events_per_second "),
        ("memory", "write_mib_per_second "),
        ("faults", "first_touch_ns "),
        ("call", "call_ns "),
        ("idle", "ready 1"),
    ] {
        let (outcome, output) = run(&kvm, name, &[], PATIENCE);
        assert_eq!(outcome.end, DONE, "{name}: {output}");
        assert!(output.starts_with(line), "{name}: {output}");
    }
    let (outcome, output) = run(&kvm, "primes", &["many"], PATIENCE);
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(2)), "{output}");
    assert!(output.contains("`many`"), "{output}");
}

#[test]
fn a_demand_page_costs_no_exit() {
    let Some(kvm) = kvm() else { return };
    let few = run(&kvm, "faults", &["64"], PATIENCE).0;
    let many = run(&kvm, "faults", &["512"], PATIENCE).0;
    // Both levels are filled without the VMM: the guest's own by its ring 0, the second by KVM.
    assert_eq!((few.end, many.end), (DONE, DONE));
    assert_eq!(few.statistics.total(), many.statistics.total());
}

#[test]
fn the_rings_are_calibrated() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "calibrate", &[], PATIENCE);
    assert_eq!(outcome.end, DONE);
    let rates: Vec<f64> = output
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.parse().ok())
        .collect();
    assert!(
        rates.len() == 2 && rates.iter().all(|rate| *rate > 1000.0),
        "{output}"
    );
}

#[test]
fn string_instructions_move_every_byte() {
    let Some(kvm) = kvm() else { return };
    // mov edx, 0x3f8; mov esi, text; mov ecx, 5; cld; rep outsb
    let mut code = vec![0xba, 0xf8, 3, 0, 0, 0xbe, 0x2b, 0, 0x20, 0];
    code.extend([0xb9, 5, 0, 0, 0, 0xfc, 0xf3, 0x6e]);
    // mov edx, 0x3fd; mov edi, heap; mov ecx, 5; rep insb; mov al, [rdi-1]; out 0xf4, al
    code.extend([0xba, 0xfd, 3, 0, 0, 0xbf, 0, 0, 0x40, 0]);
    code.extend([0xb9, 5, 0, 0, 0, 0xf3, 0x6c, 0x8a, 0x47, 0xff, 0xe6, 0xf4]);
    code.resize(0x2b, 0xf4);
    code.extend(b"bytes");
    let (outcome, output) = run_image(&kvm, &Image::flat(&code).expect("an image"), &[], PATIENCE);
    assert_eq!(output, "bytes");
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(0x60)));
    // KVM hands output over byte by byte, and reads input ahead: many accesses in one exit.
    assert_eq!(outcome.statistics.count(Reason::IoOut), 6);
    assert_eq!(outcome.statistics.count(Reason::IoString), 1);
}

#[test]
fn a_serial_line_is_one_exit_a_byte() {
    let Some(kvm) = kvm() else { return };
    // mov edx, 0x3f8; mov al, '!'; out dx, al; out dx, al; mov edx, 0x3fd; in al, dx; out 0xf4, al
    let code = [
        0xba, 0xf8, 3, 0, 0, 0xb0, b'!', 0xee, 0xee, 0xba, 0xfd, 3, 0, 0, 0xec, 0xe6, 0xf4,
    ];
    let (outcome, output) = run_image(&kvm, &Image::flat(&code).expect("an image"), &[], PATIENCE);
    assert_eq!(output, "!!");
    // The line status says that the transmitter is empty (bits 5 and 6).
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(0x60)));
    assert_eq!(outcome.statistics.count(Reason::IoOut), 3);
    assert_eq!(outcome.statistics.count(Reason::IoIn), 1);
}
