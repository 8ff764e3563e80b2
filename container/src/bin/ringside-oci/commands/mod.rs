//! Each command: parse, call the library, print.

mod checkpoint;
mod create;
mod events;
mod exec;
mod list;
mod ps;
mod update;

use std::io::Write;
use std::path::Path;

use regex_lite::Regex;
use ringside_container::Observer;
use ringside_container::explain::{self, Narrator};
use ringside_container::plan::Plan;
use ringside_container::runtime::checkpoint::{dump, restore};
use ringside_container::runtime::{self, kill, status};
use serde_json::Value;

use crate::arguments::{Explain, Global, Known, Parsed, parse};
use crate::help;
use crate::journal::Journal;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// In the library.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// In `exec`, which has a status of its own for that.
    #[error("exec failed: {0}")]
    Exec(#[source] runtime::Error),
    /// On the command line.
    #[error("{0}")]
    Usage(String),
    /// While printing.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// What is told of it: of a mount in the words of runc, by which callers know it.
    pub fn told(&self, command: &str) -> String {
        match self {
            Self::Runtime(runtime::Error::Step(ringside_container::Error::Step {
                field,
                errno,
                ..
            })) if field.starts_with("mounts[") => {
                let reason = errno.desc().to_lowercase();
                format!(
                    "runc {command} failed: unable to start container process: error during container init: error mounting: {reason}: {self}"
                )
            }
            other => other.to_string(),
        }
    }

    /// What runc's init writes by itself when it cannot become the program: a whole line, by which callers
    /// know it.
    pub fn line_of_runc(&self) -> Option<String> {
        match self {
            Self::Runtime(runtime::Error::NotExecuted {
                program,
                is_there: true,
                runc,
                ..
            }) => Some(format!("exec {}: {runc}", program.display())),
            _ => None,
        }
    }

    /// As runc has it: 255 when `exec` fails, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec(_) => 255,
            _ => 1,
        }
    }
}

impl From<String> for Error {
    fn from(text: String) -> Self {
        Self::Usage(text)
    }
}

/// Whose command line this one is: callers look for it, to know what they may ask for.
const RUNC: &str = "1.3.0";

/// Runs the command that the arguments begin with.
pub fn run(global: &Global, arguments: &[String]) -> Result<u8, Error> {
    let (name, rest) = arguments
        .split_first()
        .ok_or_else(|| "name a command".to_owned())?;
    let all = |known: &[Known]| parse(rest, known, usize::MAX).map(|(parsed, _)| parsed);
    let root = global.root.as_path();
    if let Some(text) = help::on(name)
        && asks_for_help(rest)
    {
        println!("{text}");
        return Ok(0);
    }
    global.debug(&format!("command {name} with {rest:?}"));
    let mut narrator = Narrator::new(std::io::stderr(), global.format);
    let mut journal = Journal::new(global);
    let observer: &mut dyn Observer = match global.explain {
        Explain::Taken => &mut narrator,
        _ if global.is_debug => &mut journal,
        _ => &mut (),
    };
    let is_plan = global.explain == Explain::Planned;
    let print_plan = |plan: &Plan| -> Result<u8, Error> {
        match explain::print(plan, global.format, &mut std::io::stdout().lock()) {
            // A reader that has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
            told => Ok(told.map(|()| 0)?),
        }
    };
    if !is_plan && matches!(name.as_str(), "create" | "run" | "exec") {
        runtime::protect_own_binary()?;
        global.debug("own file out of reach: a read-only mount of it, or a sealed copy; runc tells of its own means as `runc exeseal: using /proc/self/exe clone` and `runc exeseal: using overlayfs for sealed /proc/self/exe`");
    }
    match name.as_str() {
        "create" => {
            let what = create::creation(global, &all(&create::CREATE)?)?;
            if is_plan {
                return print_plan(&runtime::create::dry_run(&what, true)?);
            }
            runtime::create::create(&what, observer)?;
        }
        "run" => {
            let parsed = all(&create::RUN)?;
            let what = create::creation(global, &parsed)?;
            if is_plan {
                return print_plan(&runtime::create::dry_run(&what, false)?);
            }
            return create::run_container(&what, &parsed, observer);
        }
        "start" => {
            let parsed = all(&[])?;
            let id = id(&parsed)?;
            if is_plan {
                return print_plan(&runtime::start::dry_start(root, id)?);
            }
            runtime::start::start(root, id, observer)?;
        }
        "exec" => {
            let (what, how) = exec::execution(root, rest)?;
            if is_plan {
                return print_plan(&runtime::exec::dry_run(&what).map_err(Error::Exec)?);
            }
            return exec::exec_process(&what, how, observer);
        }
        "state" => {
            let container = status::state(root, id(&all(&[])?)?)?;
            let text = serde_json::to_string_pretty(&list::State::of(&container));
            println!("{}", text.map_err(|error| Error::Output(error.into()))?);
        }
        "kill" => {
            let parsed = all(&[("all", &["a"], false), ("signal", &["s"], true)])?;
            let signal = parsed
                .value("signal")
                .or(parsed.positional.get(1).map(String::as_str))
                .unwrap_or("SIGTERM");
            kill::kill(
                root,
                id(&parsed)?,
                kill::signal_number(signal)?,
                parsed.has("all"),
            )?;
        }
        "delete" => {
            let parsed = all(&[("force", &["f"], false), ("regex", &["r"], false)])?;
            let (id, force) = (id(&parsed)?, parsed.has("force"));
            if parsed.has("regex") {
                return delete_matching(root, id, force, observer);
            }
            if is_plan {
                return print_plan(&runtime::delete::dry_delete(root, id, force)?);
            }
            runtime::delete::delete(root, id, force, observer)?;
        }
        "list" => list::list(
            root,
            &all(&[("format", &["f"], true), ("quiet", &["q"], false)])?,
        )?,
        "ps" => {
            let (parsed, used) = parse(rest, &[("format", &["f"], true)], 1)?;
            let pids = status::processes(root, id(&parsed)?)?;
            ps::ps(
                &pids,
                parsed.value("format").or(ps::format_of(&rest[used..])),
                &rest[used..],
            )?;
        }
        "pause" => status::pause(root, id(&all(&[])?)?)?,
        "resume" => status::resume(root, id(&all(&[])?)?)?,
        "update" => update::update(root, rest)?,
        "events" => {
            let parsed = all(&[("stats", &[], false), ("interval", &[], true)])?;
            let id = id(&parsed)?;
            events::events(root, id, &parsed)?;
        }
        "spec" => {
            let parsed = all(&[("bundle", &["b"], true), ("rootless", &[], false)])?;
            let path = parsed
                .path("bundle")
                .unwrap_or_else(|| ".".into())
                .join("config.json");
            if path.exists() {
                return Err(format!("File {} exists. Remove it first", path.display()).into());
            }
            std::fs::write(
                &path,
                format!("{:#}\n", runtime::default_spec(parsed.has("rootless"))),
            )?;
        }
        "features" => print(&runtime::features())?,
        "--version" | "version" => println!(
            "ringside-oci version {0}, as runc version {RUNC}\ncommit: v{0}\nspec: 1.3.0",
            env!("CARGO_PKG_VERSION")
        ),
        "help" | "--help" => match rest.first().and_then(|it| help::on(it)) {
            Some(text) => println!("{text}"),
            None => println!("{}", help::all()),
        },
        "checkpoint" => {
            let what = checkpoint::dumping(global, &all(&checkpoint::CHECKPOINT)?)?;
            if is_plan {
                return print_plan(&dump::dry_checkpoint(&what)?);
            }
            dump::checkpoint(&what, observer)?;
        }
        "restore" => {
            let parsed = all(&checkpoint::RESTORE)?;
            let what = checkpoint::restoring(global, &parsed)?;
            if is_plan {
                return print_plan(&restore::dry_restore(&what)?);
            }
            return checkpoint::restore_container(&what, &parsed, observer);
        }
        other => {
            let told = format!("No help topic for '{other}'; --help lists the commands");
            return Err(told.into());
        }
    }
    Ok(0)
}

/// Deletes every container whose name has a part that `pattern` describes, as crun does. One that cannot be
/// deleted keeps none of the others back.
fn delete_matching(
    root: &Path,
    pattern: &str,
    force: bool,
    observer: &mut dyn Observer,
) -> Result<u8, Error> {
    let pattern = Regex::new(pattern)
        .map_err(|error| format!("invalid regular expression {pattern:?}: {error}"))?;
    let mut failed = None;
    for it in status::list(root)? {
        let id = &it.record.id;
        if pattern.is_match(id)
            && let Err(error) = runtime::delete::delete(root, id, force, observer)
        {
            failed = Some(error);
        }
    }
    failed.map_or(Ok(0), |error| Err(error.into()))
}

/// Whether the first words ask for help; those of a program that `exec` is given do not.
fn asks_for_help(rest: &[String]) -> bool {
    let asks = |it: &String| matches!(it.as_str(), "-h" | "--help" | "-help");
    rest.first().is_some_and(asks)
}

pub fn id(parsed: &Parsed) -> Result<&str, Error> {
    match parsed.positional.first() {
        Some(id) if !id.is_empty() => Ok(id),
        _ => Err("container id cannot be empty".to_owned().into()),
    }
}

/// Makes sure that a single descriptor which a container is to inherit is there, after `others`. A greater number
/// may be more than there are, or all that there might be: callers written for crun and youki name a bound.
fn check_preserved(others: u32, count: u32) -> Result<(), Error> {
    let first = others.saturating_add(3);
    if count != 1 || is_inherited(first) {
        return Ok(());
    }
    Err(format!(
        "unable to stat preserved-fd 0 (of 1): descriptor {first} is not open; open it, or preserve none"
    )
    .into())
}

/// Whether a descriptor is there and not one of our own, which are all closed by `execve`
/// (`man 5 proc_pid_fdinfo`).
fn is_inherited(fd: u32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 0o2_000_000 == 0)
}

fn print(value: &Value) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout(), "{value:#}")?)
}
