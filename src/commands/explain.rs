//! `--explain`: the story of how a container comes to be.

use clap::ValueEnum;
use ringside_container::explain::{self, Format, Narrator};
use ringside_container::plan::Plan;
use std::io::{self, Stderr, stderr};

use super::output;

/// When the steps are told.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Explain {
    /// Each as it is taken, on standard error
    Run,
    /// All of them on standard output, and none is taken
    Plan,
}

/// The options of every command that makes a container.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Tell each step of making the container as it happens; with =plan, without doing any of it
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "run"
    )]
    pub explain: Option<Explain>,
    /// Tell the steps in JSON
    #[arg(long, requires = "explain")]
    pub json: bool,
}

impl Args {
    /// How the steps are told.
    pub fn format(&self) -> Format {
        if self.json {
            Format::Json
        } else {
            Format::Text
        }
    }

    /// Prints a plan.
    pub fn print(&self, plan: &Plan) -> io::Result<()> {
        let mut story = Vec::new();
        explain::print(plan, self.format(), &mut story)?;
        output::print(String::from_utf8_lossy(&story))
    }

    /// Who tells them.
    pub fn narrator(&self) -> Narrator<Stderr> {
        Narrator::new(stderr(), self.format())
    }
}
