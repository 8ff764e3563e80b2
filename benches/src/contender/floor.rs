//! The floors: what `start` would take if nothing but the kernel calls were left.

use std::process::Command;

use super::{Contender, Program, Tools, Unsupported};

/// A program of `floor/` that starts a container or a virtual machine by hand.
#[derive(Clone, Copy, Debug)]
pub struct FloorOf {
    name: &'static str,
    about: &'static str,
    program: &'static str,
}

impl FloorOf {
    /// The least that `ringside run --in container` could take.
    pub const CONTAINER: FloorOf = FloorOf {
        name: "floor-container",
        about: "the container's kernel calls, written by hand",
        program: "container",
    };

    /// The least that `ringside run --in vm` could take.
    pub const VM: FloorOf = FloorOf {
        name: "floor-vm",
        about: "the virtual machine's kernel calls, written by hand",
        program: "vm",
    };
}

impl Contender for FloorOf {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    /// The floor program, with the host's command line of what it starts. (A virtual machine brings
    /// its own first instruction and ignores that.)
    fn command(&self, program: &Program, tools: &Tools) -> Result<Command, Unsupported> {
        if *program != Program::Stamp {
            return Err(Unsupported::OnlyStarts);
        }
        let file = tools
            .floor
            .path(self.program)
            .ok_or(Unsupported::NotBuilt {
                program: self.program,
            })?;
        let mut command = Command::new(file);
        command.args(program.host_command_line(tools)?);
        Ok(command)
    }

    fn floor_of(&self) -> Option<&'static str> {
        Some(self.program)
    }
}
