//! Our container: the same process behind namespaces, a cgroup and a root of its own.

use std::process::Command;

use super::{Contender, Program, Tools, Unsupported};

/// `ringside run --in container`.
#[derive(Clone, Copy, Debug)]
pub struct Container;

impl Contender for Container {
    fn name(&self) -> &'static str {
        "container"
    }

    fn about(&self) -> &'static str {
        "namespaces, a cgroup and an overlay over the host's files"
    }

    fn command(&self, program: &Program, tools: &Tools) -> Result<Command, Unsupported> {
        let mut command = Command::new(&tools.ringside);
        command
            .args(["run", "--in", "container", "--"])
            .args(program.host_command_line(tools)?);
        Ok(command)
    }
}
