//! The command line: parses, calls a library, renders. No logic lives here.
#![cfg_attr(not(test), no_main)]

mod commands;
#[cfg(not(test))]
mod sys;

use clap::{ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};
use commands::{
    ExitCode, Failure, compare, container, doctor, gc, kernel, run, sysbench, vm, workload,
};

/// A command: its name, its line in the list, what adds its options, and what runs it.
struct Entry {
    name: &'static str,
    about: &'static str,
    define: fn(Command) -> Command,
    run: fn(&ArgMatches) -> Result<ExitCode, Failure>,
}

/// The entry for a module of `commands`.
macro_rules! entry {
    ($module:ident, $about:literal) => {
        Entry {
            name: stringify!($module),
            about: $about,
            define: $module::Args::augment_args,
            run: |matches| {
                let args = $module::Args::from_arg_matches(matches);
                $module::run(&args.unwrap_or_else(|error| error.exit()))
            },
        }
    };
}

/// Every command, in the order of `--help`; those without a line are hidden there.
const COMMANDS: [Entry; 9] = [
    entry!(
        compare,
        "Measure the same work natively, in a container and in a virtual machine"
    ),
    entry!(
        run,
        "Run a command natively, in a container or in a virtual machine"
    ),
    entry!(container, "Containers that live on between commands"),
    entry!(vm, "Virtual machines with bare guests"),
    entry!(
        sysbench,
        "Run the real sysbench under each model, side by side"
    ),
    entry!(kernel, "Kernels for Linux guests: fetch, build, list"),
    entry!(
        doctor,
        "Say what this host can do, and how to mend the rest"
    ),
    entry!(gc, "Remove what killed runs left behind"),
    entry!(workload, ""),
];

/// A command's options are defined only once it is chosen: defining them all would take a tenth of
/// the time in which a virtual machine starts.
fn command_line() -> Command {
    let root = Command::new("ringside")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Two isolation models in one ring: a KVM virtual machine and a container, built from scratch, measured head to head.")
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true);
    COMMANDS.iter().fold(root, |root, entry| {
        let command = Command::new(entry.name).hide(entry.about.is_empty());
        root.subcommand(command.about(entry.about).defer(entry.define))
    })
}

/// Tells the libraries' warnings on standard error; what crates below them say is not for users.
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, told: &log::Metadata<'_>) -> bool {
        told.target().starts_with("ringside")
    }

    fn log(&self, told: &log::Record<'_>) {
        if self.enabled(told.metadata()) {
            eprintln!("ringside: warning: {}", told.args());
        }
    }

    fn flush(&self) {}
}

/// What `sys` runs as the program.
fn run_command_line() -> u8 {
    if log::set_logger(&Warnings).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    let matches = command_line().get_matches();
    let entry = matches.subcommand().and_then(|(name, matches)| {
        let entry = COMMANDS.iter().find(|entry| entry.name == name)?;
        Some((entry, matches))
    });
    let Some((entry, matches)) = entry else {
        command_line()
            .error(ErrorKind::MissingSubcommand, "no command")
            .exit()
    };
    let code = (entry.run)(matches).unwrap_or_else(|failure| {
        eprintln!("ringside: {failure}");
        failure.exit_code()
    });
    code.number()
}

/// Unit tests have an entry of their own, and a program whose parts are all in use.
#[cfg(test)]
fn main() {
    run_command_line();
}
