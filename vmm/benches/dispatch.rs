//! What this crate adds to a port exit: [`Vm::run`] beside a loop of bare `KVM_RUN`s that handles the
//! same exit (a write to the serial port's scratch register) in a match.
//!
//! Both machines run the same guest, in turns of a few hundred exits, so that whatever disturbs the
//! host disturbs both. `added` is the difference: what is asked of it is 150 ns. On a busy host, only the
//! fastest turns are undisturbed; they are compared by themselves. `without_kvm` is the loop's own
//! work, with nothing of the host's in it, and can be counted in instructions:
//!
//! ```sh
//! valgrind --tool=callgrind --toggle-collect='dispatch::one_exit' BENCH --bench without_kvm --profile-time 1
//! ```

use criterion::{Criterion, criterion_group, criterion_main};
use kvm_ioctls::VcpuExit;
use ringside_vmm::boot::{Image, bare};
use ringside_vmm::device::{Buses, Streams};
use ringside_vmm::memory::GuestMemory;
use ringside_vmm::sys::clock;
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::sys::vcpu::Vcpu;
use ringside_vmm::sys::vm::VmHandle;
use ringside_vmm::trap::{Exit, Reason, Reply, Stop, Tally, Width, dispatch};
use ringside_vmm::vcpu::{cpuid, long_mode};
use ringside_vmm::vm::{End, Limits, Vm};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Exits of a turn, and one more that ends it.
const TURN: u32 = 500;
const SCRATCH: u16 = 0x3ff;
const MEMORY_BYTES: u64 = 8 << 20;

/// mov edx, SCRATCH; mov ecx, TURN; (out dx, al; dec ecx; jnz -5); out 0xf4, al; jmp to the start
fn guest() -> Vec<u8> {
    let mut code = vec![0xba];
    code.extend(u32::from(SCRATCH).to_le_bytes());
    code.push(0xb9);
    code.extend(TURN.to_le_bytes());
    code.extend([0xee, 0xff, 0xc9, 0x75, 0xfb, 0xe6, 0xf4, 0xeb, 0xed]);
    code
}

/// The least that a VMM can do: run, look, handle.
struct Bare {
    vcpu: Vcpu,
    _machine: VmHandle,
    scratch: u8,
}

impl Bare {
    fn new(kvm: &Kvm, image: &Image<'_>) -> Bare {
        let memory = GuestMemory::new(MEMORY_BYTES).expect("memory");
        let entry = bare::load(&memory, image, &[]).expect("it fits");
        let machine = VmHandle::new(kvm, &memory).expect("a machine");
        let vcpu = machine.create_vcpu(0).expect("a vCPU");
        vcpu.set_cpuid(&cpuid::baseline(0, image.needs))
            .expect("its CPUID");
        long_mode::enter(&vcpu, entry, 0).expect("its registers");
        Bare {
            vcpu,
            _machine: machine,
            scratch: 0,
        }
    }

    fn turn(&mut self) -> Duration {
        let start = Instant::now();
        loop {
            match self.vcpu.run_raw().expect("KVM runs it") {
                VcpuExit::IoOut(SCRATCH, &[value]) => self.scratch = black_box(value),
                VcpuExit::IoOut(0xf4, _) => return start.elapsed(),
                exit => panic!("{exit:?}"),
            }
        }
    }
}

fn turn_of_ours(vm: &mut Vm) -> Duration {
    let start = Instant::now();
    let outcome = vm.run(Limits::default()).expect("KVM runs it");
    let elapsed = start.elapsed();
    assert_eq!(outcome.end, End::Stopped(Stop::Exited(0)));
    assert_eq!(outcome.statistics.count(Reason::IoOut), u64::from(TURN) + 1);
    elapsed
}

/// The loop's work about one exit without the kernel's: two looks at the time, dispatch, the record.
#[inline(never)]
fn one_exit(exit: Exit, buses: &Buses, tally: &mut Tally, resumed: &mut u64) -> Reply {
    let exited = clock::ticks();
    let reply = dispatch(exit, buses);
    let handled = clock::ticks();
    tally.record(
        exit.reason(),
        exited.saturating_sub(*resumed),
        handled.saturating_sub(exited),
    );
    *resumed = handled;
    reply
}

fn without_kvm(criterion: &mut Criterion) {
    let memory = GuestMemory::new(MEMORY_BYTES).expect("memory");
    let buses = Buses::bare(&memory, Streams::captured().0);
    let exit = Exit::IoOut {
        port: SCRATCH,
        width: Width::Byte,
        value: 0,
    };
    let mut tally = Tally::default();
    let mut resumed = clock::ticks();
    criterion.bench_function("port_exit/without_kvm", |bencher| {
        bencher.iter(|| one_exit(black_box(exit), &buses, &mut tally, &mut resumed))
    });
}

fn with_kvm(criterion: &mut Criterion) {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let code = guest();
    let image = Image::flat(&code).expect("an image");
    let mut bare = Bare::new(&kvm, &image);
    let streams = Streams::captured().0;
    let mut ours = Vm::new(&kvm, MEMORY_BYTES, &image, &[], streams).expect("a machine");

    // Every turn of either kind, in pairs; Criterion's iterations are exits.
    let (mut bare_ns, mut ours_ns, mut differences_ns) = (Vec::new(), Vec::new(), Vec::new());
    let mut pairs = |exits: u64, part: fn(Duration, Duration) -> Duration| {
        let mut sum = Duration::ZERO;
        let turns = exits.div_ceil(TURN.into());
        for turn in 0..turns {
            // Who goes first changes, for the first may find the caches colder.
            let (of_bare, of_ours) = if turn % 2 == 0 {
                (bare.turn(), turn_of_ours(&mut ours))
            } else {
                let of_ours = turn_of_ours(&mut ours);
                (bare.turn(), of_ours)
            };
            let an_exit = |turn: Duration| turn.as_secs_f64() * 1e9 / f64::from(TURN);
            bare_ns.push(an_exit(of_bare));
            ours_ns.push(an_exit(of_ours));
            differences_ns.push(an_exit(of_ours) - an_exit(of_bare));
            sum += part(of_bare, of_ours);
        }
        sum.mul_f64(exits as f64 / (turns * u64::from(TURN)) as f64)
    };
    let mut group = criterion.benchmark_group("port_exit");
    group.bench_function("bare", |bencher| {
        bencher.iter_custom(|exits| pairs(exits, |bare, _| bare))
    });
    group.bench_function("ours", |bencher| {
        bencher.iter_custom(|exits| pairs(exits, |_, ours| ours))
    });
    group.finish();
    for values in [&mut bare_ns, &mut ours_ns, &mut differences_ns] {
        values.sort_by(f64::total_cmp);
    }
    let quantile = |values: &[f64], part: f64| values[(values.len() as f64 * part) as usize];
    println!(
        "port_exit/added         median {:.0} ns an exit (quartiles {:.0} to {:.0}) of {} pairs of {TURN} exits",
        quantile(&differences_ns, 0.5),
        quantile(&differences_ns, 0.25),
        quantile(&differences_ns, 0.75),
        differences_ns.len()
    );
    for part in [0.02, 0.1, 0.5] {
        let (bare, ours) = (quantile(&bare_ns, part), quantile(&ours_ns, part));
        println!(
            "  fastest {:>2.0} %          bare {bare:.0} ns, ours {ours:.0} ns, added {:.0} ns",
            part * 100.0,
            ours - bare
        );
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
    targets = without_kvm, with_kvm
}
criterion_main!(benches);
