//! Two machines of one process share a processor as their weights say, also when those change while
//! the machines run; and a quota throttles one of them.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, geteuid};
use ringside_benches::confine::{Confined, Share};
use ringside_container::Limits;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::memory::{Gpa, GuestMemory};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::vcpu::control::VmControl;
use ringside_vmm::vm::{self, End, Vm};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Where the heap of a small machine begins.
const COUNTER: Gpa = Gpa(0x40_0000);
/// lock inc qword [COUNTER]; jmp -11
const COUNT: [u8; 11] = [0xf0, 0x48, 0xff, 4, 0x25, 0, 0, 0x40, 0, 0xeb, 0xf5];

/// Far beyond what the machines need, so that a failure of this test is no hang.
const PATIENCE: vm::Limits = vm::Limits {
    time: Some(Duration::from_secs(120)),
    exits: None,
};

fn weight(weight: u64) -> Limits {
    Limits {
        cpu_weight: Some(weight),
        ..Limits::default()
    }
}

/// A machine that counts for as long as it is let.
struct Counting {
    control: VmControl,
    memory: GuestMemory,
}

impl Counting {
    fn count(&self) -> u64 {
        self.memory.read_value(COUNTER).expect("it is in memory")
    }

    /// Processor time that its thread had, in ns (`schedstats.rst`).
    fn used_ns(&self) -> u64 {
        let used = |thread: i32| {
            let path = format!("/proc/self/task/{thread}/schedstat");
            let text = fs::read_to_string(path).expect("the thread lives");
            let first = text.split_ascii_whitespace().next();
            first.and_then(|ns| ns.parse::<u64>().ok()).expect("a time")
        };
        self.control.threads().into_iter().map(used).sum()
    }
}

/// What each had of a second of processor time; both counted on meanwhile.
///
/// Time, not counts: where the host stops this processor for a while, the count of whoever ran stands
/// still, but its time goes on, and the scheduler makes up for it.
fn race(machines: &[Counting; 2]) -> [u64; 2] {
    let used = || machines.each_ref().map(Counting::used_ns);
    let counts = machines.each_ref().map(Counting::count);
    let before = used();
    let end = before[0] + before[1] + 1_000_000_000;
    let after = loop {
        thread::sleep(Duration::from_millis(20));
        let now = used();
        if now[0] + now[1] >= end {
            break now;
        }
    };
    for (machine, count) in machines.iter().zip(counts) {
        assert!(machine.count() > count);
    }
    [after[0] - before[0], after[1] - before[1]]
}

fn throttled(share: &Share<'_>) -> u64 {
    let stats = share.group().stats().expect("its statistics").cpu;
    let throttling = stats.and_then(|cpu| cpu.throttling);
    throttling.expect("it has a quota").throttled_periods
}

#[test]
fn weights_and_quotas_hold_at_once() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    if !geteuid().is_root() {
        return eprintln!("skipped: making cgroups needs root");
    }
    let confined = Confined::for_shares().expect("a group");
    let shares = [100, 400].map(|share| confined.share(&weight(share)).expect("a share"));

    // Both on one processor, for only there do weights matter.
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the processors that this process may use");
    let first = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.expect("there is one"))
        .expect("its number is low enough");

    let image = Image::flat(&COUNT).expect("an image");
    let mut vms = [(); 2]
        .map(|()| Vm::new(&kvm, 8 << 20, &image, &[], Streams::captured().0).expect("a machine"));
    let machines = vms.each_ref().map(|vm| Counting {
        control: vm.control(),
        memory: vm.memory().clone(),
    });
    let (races, periods, ends) = thread::scope(|scope| {
        let runners = vms.each_mut().map(|vm| {
            scope.spawn(|| {
                sched_setaffinity(this, &one).expect("it may use that processor");
                vm.run(PATIENCE).expect("KVM runs it").end
            })
        });
        for (machine, share) in machines.iter().zip(&shares) {
            while machine.count() == 0 {
                thread::yield_now();
            }
            share
                .add(&machine.control.threads())
                .expect("its thread moves");
        }
        let set = |limits: [Limits; 2]| {
            for (share, limits) in shares.iter().zip(limits) {
                share.set(&limits).expect("new limits");
            }
        };
        let mut races = vec![race(&machines)];
        set([weight(400), weight(100)]);
        races.push(race(&machines));
        let twentieth = Limits {
            cpus: Some(0.05),
            ..weight(100)
        };
        set([weight(100), twentieth]);
        races.push(race(&machines));
        let periods = throttled(&shares[1]);
        machines.iter().for_each(|machine| machine.control.stop());
        let ends = runners.map(|runner| runner.join().expect("no panic"));
        (races, periods, ends)
    });
    eprintln!("{races:?}");
    assert_eq!(ends, [End::Cancelled; 2]);
    // Four to one, and one to four; then one is held back. Other work of the host disturbs.
    assert!(races[0][1] > 2 * races[0][0], "{races:?}");
    assert!(races[1][0] > 2 * races[1][1], "{races:?}");
    assert!(races[2][0] > 3 * races[2][1], "{races:?}");
    assert!(periods > 0);

    let paths: Vec<PathBuf> = shares
        .iter()
        .flat_map(|share| share.group().paths().map(PathBuf::from))
        .collect();
    assert!(!paths.is_empty() && paths.iter().all(|path| path.exists()));
    // KVM's own threads are in the group of who made the machines, for as long as those are there.
    drop((machines, vms));
    drop(shares);
    drop(confined);
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
}
