//! A machine with Linux in it: its devices, the tables that tell of them, and the kernel.
//!
//! ```no_run
//! use ringside_vmm::boot::linux::{Kernel, KernelCache};
//! use ringside_vmm::linux::{Config, LinuxMachine, Software};
//! use ringside_vmm::{sys::kvm::Kvm, vm::Limits};
//! use std::{io::stdout, path::Path};
//!
//! let kernel = Kernel::open(Path::new("vmlinuz"), &KernelCache::of_user())?;
//! let machine = LinuxMachine::new(&Kvm::open()?, &Config::default(), stdout())?;
//! let mut vm = machine.boot(&Software::new(&kernel, "console=ttyS0 reboot=k panic=-1"))?;
//! println!("{}", vm.run(Limits::default())?.end);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::boot::linux::{
    self, Boot, Kernel, LinuxEntry, LinuxError, Platform, Protocol, VirtioMmio,
};
use crate::device::io_apic::PINS;
use crate::device::linux::{SERIAL_LINE, serial_line};
use crate::device::{Buses, Console, IoApic, Overlap};
use crate::memory::layout::VIRTIO;
use crate::memory::{Gpa, GuestMemory, Layout, MemoryError, Pages};
use crate::sys::kvm::Kvm;
use crate::sys::vcpu::Vcpu;
use crate::sys::vm::{SetUpError, VmHandle};
use crate::vcpu::features::{self, Feature};
use crate::vcpu::linux as registers;
use crate::virtio::{Kind, Mmio, Transport, Violation, VirtioDevice};
use crate::vm::{Unclaimed, Vm, VmError};
use kvm_bindings::CpuId;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use thiserror::Error;

/// The most processors: the tables number them in a byte, and the I/O APIC has a number of its own.
pub const PROCESSORS_MAX: u8 = 64;

/// The pins that virtio devices get, lowest first.
const VIRTIO_LINES: std::ops::Range<u8> = linux::PC_LINES..PINS;

/// Why no machine can be made for Linux.
#[derive(Debug, Error)]
pub enum LinuxMachineError {
    /// What keeps any machine from being made.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The kernel and what goes with it.
    #[error(transparent)]
    Boot(#[from] LinuxError),
    /// A number of processors that no machine has.
    #[error("a machine cannot have {processors} processors; ask for 1 to {PROCESSORS_MAX}")]
    Processors {
        /// The number asked for.
        processors: u8,
    },
    /// More devices than there are interrupt lines.
    #[error("a machine has interrupt lines for {} devices; give it fewer", VIRTIO_LINES.len())]
    Lines,
    /// The host has no descriptors for a device.
    #[error("cannot make the queues of a virtio device: {0}")]
    Device(io::Error),
    /// Two devices at one address.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// KVM does not say what processor it offers.
    #[error("cannot ask KVM what processor it offers: {0}")]
    Cpuid(io::Error),
}

/// A machine's size.
#[derive(Clone, Debug)]
pub struct Config {
    /// Guest memory.
    pub memory_bytes: u64,
    /// How many processors.
    pub processors: u8,
    /// Features that they are not to have.
    pub masked: Vec<Feature>,
}

impl Default for Config {
    /// 256 MiB and one processor with all that KVM offers.
    fn default() -> Config {
        Config {
            memory_bytes: 256 << 20,
            processors: 1,
            masked: Vec::new(),
        }
    }
}

/// What runs on a machine.
#[derive(Debug)]
pub struct Software<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Its command line; devices that a kernel without ACPI must be told of are appended.
    pub command_line: &'a str,
    /// Its first file system.
    pub initramfs: Option<&'a File>,
    /// How it is entered.
    pub protocol: Protocol,
}

impl<'a> Software<'a> {
    /// A kernel, entered in long mode, without an initramfs.
    pub fn new(kernel: &'a Kernel, command_line: &'a str) -> Software<'a> {
        Software {
            kernel,
            command_line,
            initramfs: None,
            protocol: Protocol::default(),
        }
    }
}

/// A machine that is put together and has no software yet.
#[derive(Debug)]
pub struct LinuxMachine {
    // Field order is drop order.
    handle: VmHandle,
    memory: GuestMemory,
    io_apic: IoApic,
    buses: Buses,
    console: Console,
    platform: Platform,
    /// What KVM offers, and what of that the guest is not to have.
    offered: CpuId,
    masked: Vec<Feature>,
}

impl LinuxMachine {
    /// A machine whose console writes to `output`.
    ///
    /// # Errors
    /// What KVM or the host's memory forbids.
    pub fn new(
        kvm: &Kvm,
        config: &Config,
        output: impl Write + Send + 'static,
    ) -> Result<LinuxMachine, LinuxMachineError> {
        let processors = config.processors;
        if !(1..=PROCESSORS_MAX).contains(&processors) {
            return Err(LinuxMachineError::Processors { processors });
        }
        let layout = Layout::linux(config.memory_bytes).map_err(MemoryError::from);
        let memory = layout.and_then(|layout| GuestMemory::with_layout(layout, Pages::Small));
        let memory = memory.map_err(VmError::from)?;
        let handle = VmHandle::create(kvm, &memory, true).map_err(VmError::from)?;
        let io_apic = IoApic::new(handle.messages());
        let console = Console::new(serial_line(&io_apic), output);
        let offered = kvm.supported_cpuid().map_err(LinuxMachineError::Cpuid)?;
        Ok(LinuxMachine {
            buses: Buses::linux(&io_apic, console.clone())?,
            handle,
            memory,
            io_apic,
            console,
            platform: Platform {
                processors,
                virtio: Vec::new(),
            },
            offered,
            masked: config.masked.clone(),
        })
    }

    /// Adds a virtio device; `complain` is told of the rules that its driver breaks, and the
    /// transport tells how it is.
    ///
    /// # Errors
    /// [`LinuxMachineError::Lines`] when all lines are in use; no descriptors for its queues.
    pub fn plug(
        &mut self,
        device: impl VirtioDevice + 'static,
        complain: impl Fn(Kind, Violation) + Send + Sync + 'static,
    ) -> Result<Arc<Transport>, LinuxMachineError> {
        let count = self.platform.virtio.len();
        let line = VIRTIO_LINES.clone().nth(count);
        let line = line.ok_or(LinuxMachineError::Lines)?;
        let interrupt = self.io_apic.line(line).ok_or(LinuxMachineError::Lines)?;
        let address = Gpa(VIRTIO.0 + count as u64 * linux::VIRTIO_WINDOW);
        let transport = Transport::new(device, self.memory.clone(), interrupt, complain);
        let transport = Arc::new(transport.map_err(LinuxMachineError::Device)?);
        let registers = Mmio::with_doorbells(transport.clone(), address, self.handle.doorbells());
        self.buses
            .memory
            .insert(address.0, linux::VIRTIO_WINDOW, registers)?;
        self.platform.virtio.push(VirtioMmio { address, line });
        Ok(transport)
    }

    /// The console, for who types at it.
    pub fn console(&self) -> Console {
        self.console.clone()
    }

    /// Guest memory.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Loads the software and makes the processors; the first stands at the kernel's first
    /// instruction.
    ///
    /// # Errors
    /// What does not fit or cannot be read, and what KVM forbids.
    pub fn boot(self, software: &Software<'_>) -> Result<Vm, LinuxMachineError> {
        let command_line = software.command_line.to_owned() + &self.platform.command_line();
        let boot = Boot {
            kernel: software.kernel,
            initramfs: software.initramfs,
            command_line: &command_line,
            protocol: software.protocol,
        };
        let entry = linux::load(&self.memory, &boot, &self.platform)?;
        let processors = self.platform.processors;
        let mut vcpus = Vec::new();
        for index in 0..processors {
            let mut cpuid = features::place(&self.offered, index, processors);
            features::mask(&mut cpuid, &self.masked);
            let entry = (index == 0).then_some(entry);
            let vcpu = processor(&self.handle, index, &cpuid, entry).map_err(VmError::from)?;
            vcpus.push(vcpu);
        }
        Ok(Vm::assemble(
            vcpus,
            self.handle,
            self.memory,
            self.buses,
            Unclaimed::Floats,
        ))
    }
}

/// A processor; the first stands at the kernel's first instruction.
fn processor(
    handle: &VmHandle,
    index: u8,
    cpuid: &CpuId,
    entry: Option<LinuxEntry>,
) -> Result<Vcpu, SetUpError> {
    let vcpu = handle.create_vcpu(index.into())?;
    vcpu.set_cpuid(cpuid)?;
    if let Some(entry) = entry {
        registers::enter(&vcpu, entry)?;
    }
    Ok(vcpu)
}

const _: () = assert!(VIRTIO_LINES.start > SERIAL_LINE);
