//! Several vCPUs on threads: they share memory, end together, and obey one handle.

mod support;

use kvm_bindings::kvm_regs;
use ringside_guest::program;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::memory::{Gpa, GuestMemory};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::trap::{Exit, Observer, Reason, Reply, Stop};
use ringside_vmm::vcpu::control::VmControl;
use ringside_vmm::vm::{End, Limits, Vm};
use std::thread;
use std::time::Duration;
use support::{PATIENCE, kvm, run, run_image};

const DONE: End = End::Stopped(Stop::Exited(0));

fn image(name: &str) -> Image<'static> {
    Image::parse(program(name).expect("an embedded program").elf).expect("an image")
}

/// A flat program on so many vCPUs.
fn flat(code: &[u8], processors: u32) -> Image<'_> {
    let mut image = Image::flat(code).expect("an image");
    image.needs.processors = processors;
    image
}

fn values(output: &str) -> Vec<u64> {
    let values = output.lines().filter_map(|line| line.split_once(' '));
    values
        .map(|(_, value)| value.parse().expect("a number"))
        .collect()
}

#[test]
fn processors_share_memory_and_lock_it() {
    let Some(kvm) = kvm() else { return };
    for processors in [1, 2, 4, 8] {
        let mut image = image("smp");
        assert_eq!(image.needs.processors, 2, "its note says so");
        image.needs.processors = processors;
        let (outcome, output) = run_image(&kvm, &image, &["2000"], PATIENCE);
        assert_eq!(outcome.end, DONE, "{output}");
        let all = u64::from(processors) * 2000;
        let [count, expected, atomic, locked, neither] = values(&output)[..] else {
            panic!("{output}");
        };
        assert_eq!(
            (count, expected, atomic, locked),
            (processors.into(), all, all, all)
        );
        assert!((1..=all).contains(&neither), "{output}");
        // Five lines and the exit; sharing memory and taking locks are none, and a processor that
        // is through may have halted or not.
        assert_eq!(outcome.statistics.count(Reason::IoOut), 6);
        let halts = outcome.statistics.count(Reason::Hlt);
        assert!(halts < processors.into(), "{halts}");
    }
}

#[test]
fn a_program_gets_the_processors_that_it_asks_for() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "smp", &[], PATIENCE);
    assert_eq!(outcome.end, DONE);
    assert_eq!(values(&output)[..4], [2, 200_000, 200_000, 200_000]);
    let (outcome, output) = run(&kvm, "smp", &["0"], PATIENCE);
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(2)));
    assert!(output.contains("`0`"), "{output}");
}

#[test]
fn too_many_processors_are_refused() {
    let Some(kvm) = kvm() else { return };
    for processors in [0, 9, u32::MAX] {
        let image = flat(&[0xf4], processors);
        let error = Vm::new(&kvm, 8 << 20, &image, &[], Streams::captured().0).unwrap_err();
        assert!(error.to_string().contains("1 to 8"), "{error}");
    }
}

#[test]
fn the_machine_halts_when_its_last_processor_does() {
    let Some(kvm) = kvm() else { return };
    // cli; hlt
    let (outcome, _) = run_image(&kvm, &flat(&[0xfa, 0xf4], 3), &[], PATIENCE);
    assert_eq!(outcome.end, End::Stopped(Stop::Halted));
    assert_eq!(outcome.statistics.count(Reason::Hlt), 3);
}

#[test]
fn one_processor_ends_all() {
    let Some(kvm) = kvm() else { return };
    // cmp edi, 2; je +2; jmp $; mov al, 7; out 0xf4, al
    let code = [0x83, 0xff, 2, 0x74, 2, 0xeb, 0xfe, 0xb0, 7, 0xe6, 0xf4];
    let (outcome, _) = run_image(&kvm, &flat(&code, 4), &[], PATIENCE);
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(7)));
    assert_eq!(outcome.statistics.count(Reason::IoOut), 1);
    // cmp edi, 2; je +2; jmp $; out 0x80, al: nothing is there, which is the end of all
    let code = [0x83, 0xff, 2, 0x74, 2, 0xeb, 0xfe, 0xe6, 0x80];
    let (outcome, _) = run_image(&kvm, &flat(&code, 4), &[], PATIENCE);
    assert!(matches!(outcome.end, End::Stopped(_)), "{}", outcome.end);
    assert!(outcome.report.is_some());
}

#[test]
fn limits_hold_for_all_processors_together() {
    let Some(kvm) = kvm() else { return };
    // jmp $
    let time = Duration::from_millis(30);
    let limits = Limits {
        time: Some(time),
        exits: None,
    };
    let (outcome, _) = run_image(&kvm, &flat(&[0xeb, 0xfe], 2), &[], limits);
    assert_eq!(outcome.end, End::TimeLimit(time));
    // cmp edi, 0; je +2; jmp $; cli; hlt: the time is watched when the first processor halted, too.
    let code = [0x83, 0xff, 0, 0x74, 2, 0xeb, 0xfe, 0xfa, 0xf4];
    let (outcome, _) = run_image(&kvm, &flat(&code, 2), &[], limits);
    assert_eq!(outcome.end, End::TimeLimit(time));
    // mov edx, 0x3ff; out dx, al; jmp -3
    let limits = Limits {
        exits: Some(500),
        ..PATIENCE
    };
    let code = [0xba, 0xff, 3, 0, 0, 0xee, 0xeb, 0xfd];
    let (outcome, _) = run_image(&kvm, &flat(&code, 2), &[], limits);
    assert_eq!(outcome.end, End::ExitLimit(500));
    // The other may have been in one more.
    let total = outcome.statistics.total();
    assert!((500..=503).contains(&total), "{total}");
}

/// Where the heap of a small machine begins.
const COUNTER: Gpa = Gpa(0x40_0000);
/// lock inc qword [COUNTER]; jmp -11
const COUNT: [u8; 11] = [0xf0, 0x48, 0xff, 4, 0x25, 0, 0, 0x40, 0, 0xeb, 0xf5];

/// Runs counting processors on a thread, while `meanwhile` has the handle and reads the counter.
fn count_while(kvm: &Kvm, processors: u32, meanwhile: impl FnOnce(&VmControl, &dyn Fn() -> u64)) {
    let image = flat(&COUNT, processors);
    let mut vm = Vm::new(kvm, 8 << 20, &image, &[], Streams::captured().0).expect("a machine");
    let (control, memory) = (vm.control(), vm.memory().clone());
    let count = || memory.read_value::<u64>(COUNTER).expect("it is in memory");
    let outcome = thread::scope(|scope| {
        let runner = scope.spawn(|| vm.run(PATIENCE).expect("KVM runs it"));
        meanwhile(&control, &count);
        control.stop();
        assert!(control.threads().len() <= processors as usize);
        runner.join().expect("no panic")
    });
    assert_eq!(outcome.end, End::Cancelled);
    assert!(outcome.report.is_some(), "what it was doing");
    let again = vm.run(PATIENCE).expect("it does not even begin");
    assert_eq!((again.end, again.statistics.total()), (End::Cancelled, 0));
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

#[test]
fn a_paused_machine_stands_still_and_a_resumed_one_goes_on() {
    let Some(kvm) = kvm() else { return };
    for processors in [1, 2] {
        count_while(&kvm, processors, |control, count| {
            for _ in 0..20 {
                let before = count();
                until(|| count() > before);
                control.pause();
                let paused = count();
                thread::sleep(Duration::from_millis(5));
                assert_eq!(count(), paused, "{processors} processors");
                assert_eq!(control.threads().len(), processors as usize);
                control.resume();
            }
        });
    }
}

#[test]
fn a_machine_can_begin_paused_and_end_so() {
    let Some(kvm) = kvm() else { return };
    for processors in [1, 2] {
        let image = flat(&COUNT, processors);
        let mut vm = Vm::new(&kvm, 8 << 20, &image, &[], Streams::captured().0).expect("a machine");
        let control = vm.control();
        control.pause();
        let time = Duration::from_millis(30);
        let limits = Limits {
            time: Some(time),
            exits: None,
        };
        let outcome = vm.run(limits).expect("KVM runs it");
        // Standing still, it still has no more time than any other.
        assert_eq!(outcome.end, End::TimeLimit(time));
        let counted: u64 = vm.memory().read_value(COUNTER).expect("it is in memory");
        assert_eq!(counted, 0, "no instruction ran");
        assert_eq!(control.threads(), [0; 0], "and nothing runs any more");
    }
}

#[test]
fn a_watched_machine_handles_one_exit_at_a_time() {
    let Some(kvm) = kvm() else { return };

    /// Pairs what comes before dispatch with what comes after.
    #[derive(Default)]
    struct Pairs {
        open: Option<Exit>,
        closed: u64,
    }

    impl Observer for Pairs {
        const WANTS_REGISTERS: bool = true;

        fn exited(&mut self, exit: Exit, registers: &kvm_regs, _: &GuestMemory) {
            assert_eq!(self.open.replace(exit), None);
            assert_ne!(registers.rip, 0);
        }

        fn handled(&mut self, exit: Exit, _: Reply, _: &GuestMemory) {
            assert_eq!(self.open.take(), Some(exit));
            self.closed += 1;
        }
    }

    // mov edx, 0x3ff; mov ecx, 1000; out dx, al; dec ecx; jnz -5; cli; hlt
    let code = [
        0xba, 0xff, 3, 0, 0, 0xb9, 0xe8, 3, 0, 0, 0xee, 0xff, 0xc9, 0x75, 0xfb, 0xfa, 0xf4,
    ];
    let image = flat(&code, 2);
    let mut vm = Vm::new(&kvm, 8 << 20, &image, &[], Streams::captured().0).expect("a machine");
    let mut pairs = Pairs::default();
    let outcome = vm.run_observed(PATIENCE, &mut pairs).expect("KVM runs it");
    assert_eq!(outcome.end, End::Stopped(Stop::Halted));
    assert_eq!((pairs.closed, pairs.open), (2002, None));
    assert_eq!(outcome.statistics.count(Reason::IoOut), 2000);
}
