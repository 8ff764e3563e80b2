//! Our virtual machine: the same code in ring 3 of a bare guest under KVM.

use std::process::Command;

use super::{Contender, Program, Tools, Unsupported};

/// `ringside run --in vm`.
#[derive(Clone, Copy, Debug)]
pub struct Vm;

impl Contender for Vm {
    fn name(&self) -> &'static str {
        "vm"
    }

    fn about(&self) -> &'static str {
        "ring 3 of a bare guest under KVM"
    }

    fn command(&self, program: &Program, tools: &Tools) -> Result<Command, Unsupported> {
        let line: &[&str] = match *program {
            Program::Stamp => &["stamp"],
            Program::Work(work) => work,
            Program::Installed(line) => {
                let program = line.first().copied().unwrap_or_default();
                return Err(Unsupported::NeedsLinux { program });
            }
        };
        let mut command = Command::new(&tools.ringside);
        command.args(["run", "--in", "vm", "--"]).args(line);
        Ok(command)
    }

    fn guest_memory(&self) -> Option<&'static str> {
        Some("/memfd:ringside-guest")
    }
}
