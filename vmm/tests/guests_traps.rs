//! Guests about traps: which of them reach the VMM, and how often.

mod support;

use ringside_vmm::trap::Reason;
use support::{PATIENCE, ended_with_exits, kvm, run};

#[test]
fn system_calls_stay_in_the_guest_and_hypercalls_do_not() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "syscalls", &[], PATIENCE);
    let expected = "\
this program runs in ring 3
its system calls run in ring 0
500 system calls, and back 500 times
100 hypercalls
system call 12345 says -38
cli without asking: exception 13
";
    assert_eq!(output, expected);
    // Six lines, a hundred hypercalls, and the exit.
    ended_with_exits(&outcome, 0, &[(Reason::IoOut, 107)]);
}

#[test]
fn a_batch_of_buffers_is_one_exit_and_a_byte_of_a_serial_line_is_one_too() {
    let Some(kvm) = kvm() else { return };
    // All ways; and those that do not exit for each byte, with more than one batch of theirs.
    for (kib, first) in [(1, 0), (65, 1)] {
        let names = ["serial", "buffer", "ring", "virtio"];
        let size = kib.to_string();
        let arguments = [&[&*size][..], &names[first..]].concat();
        let (outcome, output) = run(&kvm, "channels", &arguments, PATIENCE);
        let mut lines = output.lines();
        // What it took to find the console and to agree with it: registers read, and written.
        let (reads, writes) = (5, 16);
        let set_up = format!("virtio_setup_exits {}", reads + writes);
        assert_eq!(lines.next(), Some(&*set_up));
        let batches = u64::div_ceil(kib, 64);
        let exits = [1024 * kib, kib, batches, batches];
        for (way, exits) in names.into_iter().zip(exits).skip(first) {
            for letter in (b'a'..=b'z').cycle().take(16 * kib as usize) {
                let line = lines.next().expect("sixteen lines a KiB").as_bytes();
                assert!(line.len() == 63 && line.starts_with(way.as_bytes()));
                assert_eq!(line[62], letter);
            }
            let result = lines.next().expect("a line about it");
            assert!(
                result.starts_with(&format!("{way}_exits {exits} ns ")),
                "{result}"
            );
        }
        assert_eq!(lines.next(), None);
        // What the guest says it made; two looks at the clock and a line a way, one more, and the exit.
        let ways = (names.len() - first) as u64;
        let ports = exits[first..3].iter().sum::<u64>() + 3 * ways + 1 + 1;
        let mut counted: Vec<(Reason, u64)> = vec![
            (Reason::IoOut, ports),
            (Reason::MmioRead, reads),
            (Reason::MmioWrite, writes + batches),
        ];
        counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        ended_with_exits(&outcome, 0, &counted);
    }
}

#[test]
fn interrupts_and_the_timer_are_the_kernels() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "interrupts", &[], PATIENCE);
    let expected = "\
to itself: 3 sent, 3 came
periods, while ring 3 ran: 3 came
periods, while it slept: 3 came, awake again: true
at a deadline: 1 came, not before it: true
masked, no more periods: true
";
    assert_eq!(output, expected);
    // Five lines, and the exit. Neither an interrupt, nor its end, nor `hlt` leaves the kernel.
    ended_with_exits(&outcome, 0, &[(Reason::IoOut, 6)]);
}

#[test]
fn sensitive_instructions_trap_or_lie() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "sensitive", &[], PATIENCE);
    let row = |name: &str| {
        let mut rows = output.lines();
        rows.find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("no row of {name}: {output}"))
    };
    for privileged in [
        "cli",
        "hlt",
        "mov rax, cr0",
        "mov cr3, rax",
        "rdmsr",
        "wrmsr",
        "lgdt",
        "invlpg",
        "in al, 0x80",
        "out 0x80, al",
    ] {
        let row = row(privileged);
        assert!(
            row.contains("traps   exception 13, error code 0x0"),
            "{row}"
        );
    }
    assert!(row("popf").contains("lies"), "{output}");
    assert!(row("mov rax, cs").ends_with("tells  0x33"), "{output}");
    assert!(row("lsl").ends_with("tells  0xffffffff"), "{output}");
    // The first of each: without UMIP.
    for (store, value) in [("sgdt", "0x1000"), ("sidt", "0x2000"), ("str", "0x40")] {
        assert!(row(store).ends_with(&format!("tells  {value}")), "{output}");
    }
    let prevented = ["sgdt", "sidt", "sldt", "smsw", "str"].map(|store| {
        let trap = |line: &&str| line.starts_with(store) && line.contains("traps   exception 13");
        output.lines().filter(trap).count()
    });
    if output.contains("no UMIP here") {
        eprintln!("skipped: UMIP, which this processor or its KVM does not have");
        assert_eq!(prevented, [0; 5]);
    } else {
        assert_eq!(prevented, [1; 5]);
    }
    let lines = output.lines().count() as u64;
    ended_with_exits(&outcome, 0, &[(Reason::IoOut, lines + 1)]);
}
