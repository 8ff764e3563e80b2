//! A plain process: `fork`, `exec`, nothing around it. What the others are compared with.

use std::process::Command;

use super::{Contender, Program, Tools, Unsupported};

/// The host's own processes.
#[derive(Clone, Copy, Debug)]
pub struct Native;

impl Contender for Native {
    fn name(&self) -> &'static str {
        super::BASELINE
    }

    fn about(&self) -> &'static str {
        "a plain process of the host"
    }

    fn command(&self, program: &Program, tools: &Tools) -> Result<Command, Unsupported> {
        let line = program.host_command_line(tools)?;
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]);
        Ok(command)
    }
}
