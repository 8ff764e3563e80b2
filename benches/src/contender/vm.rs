//! Our virtual machine: the same code in ring 3 of a bare guest under KVM, and programs of the host in
//! ring 3 of a Linux guest.

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
        "ring 3 under KVM: of a bare guest, and of a Linux guest for boot and sysbench"
    }

    fn command(&self, program: &Program, tools: &Tools) -> Result<Command, Unsupported> {
        let mut command = Command::new(&tools.ringside);
        command.args(["run", "--in", "vm"]);
        match *program {
            Program::Stamp => command.args(["--", "stamp"]),
            Program::Work(work) => command.arg("--").args(work),
            Program::Boot => {
                let kernel = kernel(tools)?;
                command.args(["--kernel", kernel, "--stamps", "/dev/stdout", "--", "true"])
            }
            Program::Sysbench(words) => {
                let request = super::request(words)?;
                let command = command.args(["--kernel", kernel(tools)?]);
                let command = command.args(request.guest_options());
                command.arg("--").args(request.command_line())
            }
        };
        Ok(command)
    }

    fn guest_memory(&self) -> Option<&'static str> {
        Some("/memfd:ringside-guest")
    }
}

fn kernel(tools: &Tools) -> Result<&str, Unsupported> {
    let kernel = tools.kernel.as_deref();
    kernel.map_err(|reason| Unsupported::NoKernel(reason.to_owned()))
}
