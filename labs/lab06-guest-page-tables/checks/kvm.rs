//! Check 6.9: the processor's own opinion. The same tables go into a virtual machine's memory, and
//! `KVM_TRANSLATE` says where they lead.

use lab06::{Gpa, Gva, PhysicalMemory};
use ringside_lab_harness::{Context, Failure, Missing, Outcome, attempt, ensure};
use ringside_vmm::memory::GuestMemory;
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::sys::vcpu::Vcpu;
use ringside_vmm::sys::vm::{SetUpError, VmHandle};
use ringside_vmm::vcpu::long_mode::{CR0, CR4, EFER};

use crate::parts;
use crate::world::{ACCESSES, Shape, World};

/// Room for every world: they lie in the first 5 MiB.
const MEMORY_BYTES: u64 = 8 << 20;

pub fn the_same(context: &Context) -> Outcome {
    let walk = parts::walk(context);
    let look = "`walk`, as in checks 6.2, 6.3 and 6.5: KVM_TRANSLATE reads as ring 0 does";
    // No pages of 1 GiB: not every processor has them.
    let shape = Shape {
        huge: true,
        rights: true,
        ..Shape::default()
    };
    let mut random = context.seed.rng("kvm");
    let read = ACCESSES[0];
    for _ in 0..10 {
        let world = World::new(&mut random, shape);
        let machine = Machine::new(&world).map_err(|error| no_machine(&*error))?;
        for region in &world.regions {
            let gva = World::address(&mut random, region);
            let ran = || world.describe(region, gva, read);
            let got = attempt(ran, look, || {
                walk(&world.memory, world.registers, gva, read)
            })?;
            let got = got.ok().map(|found| found.gpa);
            let kvm = machine.translate(gva);
            let show = |gpa: Option<Gpa>| gpa.map_or("a fault".into(), |gpa| gpa.to_string());
            ensure(
                got == kvm,
                ran(),
                format!("{}, says KVM", show(kvm)),
                || show(got),
                look,
            )?;
        }
    }
    Ok(())
}

fn no_machine(error: &dyn std::error::Error) -> Failure {
    Failure::Skip(Missing {
        why: format!("cannot make a virtual machine: {error}"),
        fix: "see `cargo lab doctor`".into(),
    })
}

struct Machine {
    // Dropped before the machine that it belongs to.
    vcpu: Vcpu,
    _handle: VmHandle,
    _memory: GuestMemory,
}

impl Machine {
    /// A machine whose memory holds the tables of `world`, with its vCPU in long mode over them.
    fn new(world: &World) -> Result<Self, Box<dyn std::error::Error>> {
        let memory = GuestMemory::new(MEMORY_BYTES)?;
        let base = world.memory.base();
        for word in (0..world.memory.bytes()).step_by(8) {
            let at = Gpa(base.0 + word);
            if let Some(value) = world.memory.read_u64(at) {
                memory.write_value(at, value)?;
            }
        }
        let kvm = Kvm::open()?;
        let handle = VmHandle::new(&kvm, &memory)?;
        let vcpu = handle.create_vcpu(0)?;
        vcpu.set_cpuid(&kvm.supported_cpuid()?)?;
        point(&vcpu, world)?;
        Ok(Self {
            vcpu,
            _handle: handle,
            _memory: memory,
        })
    }

    fn translate(&self, gva: Gva) -> Option<Gpa> {
        self.vcpu.translate(gva)
    }
}

fn point(vcpu: &Vcpu, world: &World) -> Result<(), SetUpError> {
    let mut system = vcpu.system_registers()?;
    let on = |on: bool, bit: u32| if on { 1 << bit } else { 0 };
    system.cr0 = CR0 & !(1 << 16) | on(world.registers.wp, 16);
    system.efer = EFER & !(1 << 11) | on(world.registers.nxe, 11);
    system.cr3 = world.registers.cr3.0;
    system.cr4 = CR4;
    system.cs.l = 1;
    system.cs.db = 0;
    vcpu.set_system_registers(&system)
}
