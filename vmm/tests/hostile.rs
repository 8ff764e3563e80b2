//! Whatever a guest does, it ends in a report: never a panic, never a hang past its limits.

mod support;

use ringside_vmm::boot::Image;
use ringside_vmm::trap::{Exit, Reason, Stop, Width};
use ringside_vmm::vm::{End, Limits, Outcome};
use std::time::Duration;
use support::{PATIENCE, kvm, run, run_image};

/// The end of `attack NAME`, and its outcome for a closer look.
fn attack(name: &str) -> Option<(Stop, Outcome)> {
    let kvm = kvm()?;
    let (outcome, output) = run(&kvm, "attack", &[name], PATIENCE);
    match outcome.end {
        End::Stopped(stop) => Some((stop, outcome)),
        end => panic!("{name}: {end} {output}"),
    }
}

#[test]
fn a_loop_ends_at_the_time_limit_in_either_ring() {
    let Some(kvm) = kvm() else { return };
    // Time enough to get to the loop, on a slow and busy host as well.
    let time = Duration::from_millis(500);
    let limits = Limits {
        time: Some(time),
        ..PATIENCE
    };
    for (name, ring) in [("loop", 3), ("loop-ring0", 0)] {
        let (outcome, _) = run(&kvm, "attack", &[name], limits);
        assert_eq!(outcome.end, End::TimeLimit(time), "{name}");
        let report = outcome.report.expect("what it was doing");
        assert_eq!(report.ring(), Some(ring), "{report}");
        assert!(report.instruction.is_some(), "{report}");
    }
}

#[test]
fn a_storm_of_exits_ends_at_the_exit_limit() {
    let Some(kvm) = kvm() else { return };
    let limits = Limits {
        exits: Some(1000),
        ..PATIENCE
    };
    let (outcome, _) = run(&kvm, "attack", &["exits"], limits);
    assert_eq!(outcome.end, End::ExitLimit(1000));
    assert_eq!(outcome.statistics.total(), 1000);
}

#[test]
fn a_halt_that_nothing_ends_is_an_end() {
    let Some((stop, outcome)) = attack("halt") else {
        return;
    };
    assert_eq!(stop, Stop::Halted);
    assert_eq!(outcome.statistics.count(Reason::Hlt), 1);
}

#[test]
fn a_triple_fault_says_where() {
    let Some((stop, outcome)) = attack("triple-fault") else {
        return;
    };
    assert_eq!(stop, Stop::TripleFault);
    assert_eq!(outcome.statistics.count(Reason::Shutdown), 1);
    assert!(outcome.report.is_some());
}

#[test]
fn wild_reads_are_told_apart() {
    let Some((stop, outcome)) = attack("null") else {
        return;
    };
    assert!(
        matches!(
            stop,
            Stop::GuestFault {
                vector: 14,
                error_code: 4,
                cr2: 0,
                ..
            }
        ),
        "{stop}"
    );
    let report = outcome.report.expect("what it was doing");
    let instruction = report.instruction.clone().unwrap_or_default();
    assert!(instruction.starts_with("mov al,["), "{report}");
    let (stop, _) = attack("kernel").expect("KVM is here");
    assert!(
        matches!(
            stop,
            Stop::GuestFault {
                vector: 14,
                error_code: 5,
                cr2: 0x1000,
                ..
            }
        ),
        "{stop}"
    );
}

/// Where there is no memory, but page tables lead to.
const HOLE: u64 = 1 << 30;
const HOLE_END: u64 = HOLE + (2 << 20);

#[test]
fn memory_that_is_not_there_is_named_with_what_was_touched() {
    if kvm().is_none() {
        return;
    }
    let read = |address, width| Exit::MmioRead { address, width };
    let write = |address, width, value| Exit::MmioWrite {
        address,
        width,
        value,
    };
    for (name, exit) in [
        ("outside", read(HOLE, Width::Byte)),
        ("outside-write", write(HOLE, Width::Word, 0xabcd)),
        // Eight bytes, of which three are memory.
        ("outside-into", read(HOLE, Width::Five)),
        (
            "outside-into-write",
            write(HOLE, Width::Five, 0x08_0706_0504),
        ),
        ("outside-out-of", read(HOLE_END - 3, Width::Three)),
        // Sixteen bytes are two accesses; eight across two pages as well.
        ("outside-vector", read(HOLE, Width::Quad)),
        ("outside-locked", read(HOLE + 4092, Width::Double)),
    ] {
        let (stop, outcome) = attack(name).expect("KVM is here");
        assert_eq!(stop, Stop::Unclaimed(exit), "{name}");
        assert!(outcome.report.is_some(), "{name}");
    }
    let (stop, _) = attack("outside-stack").expect("KVM is here");
    let push = |exit: &Exit| matches!(exit, Exit::MmioWrite { address, width: Width::Quad, .. } if *address == HOLE + 4088);
    assert!(
        matches!(stop, Stop::Unclaimed(exit) if push(&exit)),
        "{stop}"
    );
    // An instruction cannot be fetched from a device: KVM gives up, or the processor raises #UD, and
    // the guest's handler looks for the instruction there.
    let (stop, outcome) = attack("outside-jump").expect("KVM is here");
    let fetch = |exit: &Exit| matches!(exit, Exit::MmioRead { address, .. } if (HOLE..HOLE_END).contains(address));
    assert!(
        matches!(stop, Stop::InternalError(_))
            || matches!(stop, Stop::Unclaimed(exit) if fetch(&exit)),
        "{stop}"
    );
    assert!(outcome.report.is_some());
}

#[test]
fn tables_that_point_to_themselves_are_walked_to_their_end() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "attack", &["table-self"], PATIENCE);
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(0)), "{output}");
    let (stop, outcome) = attack("table-loop").expect("KVM is here");
    assert!(
        matches!(stop, Stop::TripleFault | Stop::InternalError(_)),
        "{stop}"
    );
    let report = outcome.report.expect("what it was doing");
    if report.is_of_reset() {
        return assert!(report.to_string().contains("--trace"), "{report}");
    }
    let [of_rip, _] = report.walks.as_ref().expect("paging is on");
    assert_eq!(of_rip.steps().len(), 4, "{report}");
    let tables = of_rip.steps().iter().map(|step| step.table.0);
    assert!(tables.into_iter().all(|table| table == 4 << 20), "{report}");
}

#[test]
fn a_fault_that_cannot_be_delivered_is_a_triple_fault() {
    if kvm().is_none() {
        return;
    }
    for name in ["no-idt", "no-gdt", "no-trap-stack"] {
        let (stop, outcome) = attack(name).expect("KVM is here");
        assert_eq!(stop, Stop::TripleFault, "{name}");
        let report = outcome.report.expect("what it was doing");
        if report.is_of_reset() {
            assert!(report.to_string().contains("--trace"), "{report}");
            continue;
        }
        assert_eq!(
            report.instruction.as_deref(),
            Some("ud2"),
            "{name}: {report}"
        );
    }
}

#[test]
fn a_root_table_outside_memory_is_an_end() {
    let Some((stop, outcome)) = attack("table-outside") else {
        return;
    };
    // Nothing can be fetched any more, not even a handler: the processor gives up, or KVM does.
    assert!(
        matches!(
            stop,
            Stop::TripleFault | Stop::InternalError(_) | Stop::Unclaimed(_) | Stop::Unexpected(_)
        ),
        "{stop}"
    );
    assert!(outcome.report.is_some());
}

#[test]
fn unknown_ports_are_named() {
    let Some((stop, _)) = attack("port") else {
        return;
    };
    let write = Exit::IoOut {
        port: 0xdead,
        width: Width::Double,
        value: 0x1234_5678,
    };
    assert_eq!(stop, Stop::Unclaimed(write));
    let (stop, _) = attack("port-string").expect("KVM is here");
    assert!(
        matches!(stop, Stop::Unclaimed(Exit::IoOut { port: 0xdead, .. })),
        "{stop}"
    );
    let (stop, _) = attack("port-ring3").expect("KVM is here");
    assert!(
        matches!(stop, Stop::GuestFault { vector: 13, .. }),
        "the I/O bitmap is closed there: {stop}"
    );
}

#[test]
fn an_invalid_instruction_is_shown() {
    let Some((stop, outcome)) = attack("opcode") else {
        return;
    };
    assert!(matches!(stop, Stop::GuestFault { vector: 6, .. }), "{stop}");
    let report = outcome.report.expect("what it was doing");
    assert_eq!(
        (report.instruction.as_deref(), &report.code[..2]),
        (Some("ud2"), &[0x0f, 0x0b][..])
    );
}

#[test]
fn an_instruction_that_kvm_cannot_emulate_is_shown() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "attack", &["sse-ring0"], PATIENCE);
    match outcome.end {
        // Hardware runs it.
        End::Stopped(Stop::Exited(0)) => assert_eq!(output, "survived\n"),
        End::Stopped(Stop::InternalError(Exit::InternalError { suberror: 1, .. })) => {
            let report = outcome.report.expect("what it was doing");
            assert_eq!(report.instruction.as_deref(), Some("pxor xmm0,xmm0"));
        }
        end => panic!("{end}"),
    }
}

#[test]
fn wild_hypercalls_are_refused() {
    let Some((stop, _)) = attack("hypercall-outside") else {
        return;
    };
    assert_eq!(
        stop,
        Stop::BadRequest {
            address: 0xffff_fff8
        }
    );
    for (name, address) in [
        ("hypercall-narrow", 8),
        ("hypercall-straddles", (64 << 20) - 24),
        ("hypercall-unaligned", 0x20_0004),
        ("hypercall-string", 0xffff_ffff),
    ] {
        let (stop, _) = attack(name).expect("KVM is here");
        assert_eq!(stop, Stop::BadRequest { address }, "{name}");
    }
    let kvm = kvm().expect("KVM is here");
    let (outcome, output) = run(&kvm, "attack", &["hypercall-pointers"], PATIENCE);
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(0)), "{output}");
    let refused = output.lines().filter(|line| line.ends_with(" -14")).count();
    let senseless = output.lines().filter(|line| line.ends_with(" -22")).count();
    assert_eq!(senseless, 3, "{output}");
    assert_eq!(
        (refused, output.contains("unknown -38")),
        (18 + 6, true),
        "{output}"
    );
}

/// Small reproducible noise (SplitMix64, Steele et al. 2014).
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    (0..).flat_map(move |index: u64| {
        let mut word = seed.wrapping_add(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word ^ word >> 27).to_le_bytes()
    })
}

#[test]
fn junk_for_a_program_ends_somehow() {
    let Some(kvm) = kvm() else { return };
    let limits = Limits {
        time: Some(Duration::from_millis(100)),
        exits: Some(1000),
    };
    for seed in 0..100 {
        let junk: Vec<u8> = noise(seed * 1000).take(4096).collect();
        let image = Image::flat(&junk).expect("an image");
        let (outcome, _) = run_image(&kvm, &image, &[], limits);
        assert!(outcome.statistics.total() <= 1000, "{}", outcome.end);
    }
}
