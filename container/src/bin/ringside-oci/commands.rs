//! Each command: parse, call the library, print.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringside_container::Observer;
use ringside_container::explain::{self, Narrator};
use ringside_container::plan::Plan;
use ringside_container::runtime::create::{self, Create};
use ringside_container::runtime::events::{self, Event};
use ringside_container::runtime::exec::{self, Exec};
use ringside_container::runtime::{self, foreground, status};
use serde_json::Value;

use crate::arguments::{Explain, Global, Known, Parsed, parse};
use crate::journal::Journal;
use crate::{help, update};

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

const CREATE: [Known; 10] = [
    ("bundle", &["b"], true),
    ("config", &["f"], true),
    ("console-socket", &[], true),
    ("pidfd-socket", &[], true),
    ("pid-file", &[], true),
    ("preserve-fds", &[], true),
    ("no-pivot", &[], false),
    ("no-new-keyring", &[], false),
    ("no-subreaper", &[], false),
    ("help", &["h"], false),
];

const RUN: [Known; 12] = {
    let mut all = [("detach", ["d"].as_slice(), false); 12];
    let mut index = 0;
    while index < CREATE.len() {
        all[index] = CREATE[index];
        index += 1;
    }
    all[11] = ("keep", &[], false);
    all
};

const EXEC: [Known; 20] = [
    ("process", &["p"], true),
    ("cwd", &[], true),
    ("env", &["e"], true),
    ("tty", &["t"], false),
    ("user", &["u"], true),
    ("additional-gids", &["g"], true),
    ("detach", &["d"], false),
    ("pid-file", &[], true),
    ("console-socket", &[], true),
    ("pidfd-socket", &[], true),
    ("process-label", &[], true),
    ("apparmor", &[], true),
    ("no-new-privs", &[], false),
    ("cap", &["c"], true),
    ("preserve-fds", &[], true),
    ("no-subreaper", &[], false),
    ("ignore-paused", &[], false),
    ("interactive", &["i"], false),
    ("cgroup", &[], true),
    ("help", &["h"], false),
];

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
    }
    match name.as_str() {
        "create" => {
            let what = creation(global, &all(&CREATE)?)?;
            if is_plan {
                return print_plan(&create::dry_run(&what, true)?);
            }
            create::create(&what, observer)?;
        }
        "run" => {
            let parsed = all(&RUN)?;
            let what = creation(global, &parsed)?;
            if is_plan {
                return print_plan(&create::dry_run(&what, false)?);
            }
            return run_container(&what, &parsed, observer);
        }
        "start" => {
            let parsed = all(&[])?;
            let id = id(&parsed)?;
            if is_plan {
                return print_plan(&create::dry_start(root, id)?);
            }
            create::start(root, id, observer)?;
        }
        "exec" => {
            let (what, how) = execution(root, rest)?;
            if is_plan {
                return print_plan(&exec::dry_run(&what).map_err(Error::Exec)?);
            }
            return exec_process(&what, how, observer);
        }
        "state" => {
            let container = status::state(root, id(&all(&[])?)?)?;
            let text = serde_json::to_string_pretty(&State::of(&container));
            println!("{}", text.map_err(|error| Error::Output(error.into()))?);
        }
        "kill" => {
            let parsed = all(&[("all", &["a"], false), ("signal", &["s"], true)])?;
            let signal = parsed
                .value("signal")
                .or(parsed.positional.get(1).map(String::as_str))
                .unwrap_or("SIGTERM");
            status::kill(
                root,
                id(&parsed)?,
                status::signal_number(signal)?,
                parsed.has("all"),
            )?;
        }
        "delete" => {
            let parsed = all(&[("force", &["f"], false)])?;
            let (id, force) = (id(&parsed)?, parsed.has("force"));
            if is_plan {
                return print_plan(&status::dry_delete(root, id, force)?);
            }
            status::delete(root, id, force, observer)?;
        }
        "list" => list(
            root,
            &all(&[("format", &["f"], true), ("quiet", &["q"], false)])?,
        )?,
        "ps" => {
            let (parsed, used) = parse(rest, &[("format", &["f"], true)], 1)?;
            let pids = status::processes(root, id(&parsed)?)?;
            ps(
                &pids,
                parsed.value("format").or(format_of(&rest[used..])),
                &rest[used..],
            )?;
        }
        "pause" => status::pause(root, id(&all(&[])?)?)?,
        "resume" => status::resume(root, id(&all(&[])?)?)?,
        "update" => update::update(root, rest)?,
        "events" => {
            let parsed = all(&[("stats", &[], false), ("interval", &[], true)])?;
            let id = id(&parsed)?;
            events(root, id, &parsed)?;
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
            "ringside-oci version {0}, as runc version {RUNC}\ncommit: v{0}\nspec: 1.2.0",
            env!("CARGO_PKG_VERSION")
        ),
        "help" | "--help" => match rest.first().and_then(|it| help::on(it)) {
            Some(text) => println!("{text}"),
            None => println!("{}", help::all()),
        },
        "checkpoint" | "restore" => {
            return Err(format!("{name}: checkpoints are not supported").into());
        }
        other => return Err(format!("No help topic for '{other}'").into()),
    }
    Ok(0)
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

fn print(value: &Value) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout(), "{value:#}")?)
}

fn creation(global: &Global, parsed: &Parsed) -> Result<Create, Error> {
    // A service manager's sockets are passed on (`man 3 sd_listen_fds`).
    let listening = std::env::var("LISTEN_FDS").ok();
    let listen_fds = listening.and_then(|it| it.parse().ok()).unwrap_or(0);
    Ok(Create {
        pidfd_socket: parsed.path("pidfd-socket"),
        listen_fds,
        root: global.root.clone(),
        systemd: global.is_systemd,
        id: id(parsed)?.into(),
        bundle: parsed.path("bundle").unwrap_or_else(|| PathBuf::from(".")),
        config: parsed.path("config"),
        pid_file: parsed.path("pid-file"),
        console_socket: parsed.path("console-socket"),
        preserve_fds: parsed.number("preserve-fds")?.unwrap_or(0),
        no_pivot: parsed.has("no-pivot"),
        no_new_keyring: parsed.has("no-new-keyring"),
    })
}

fn run_container(what: &Create, parsed: &Parsed, observer: &mut dyn Observer) -> Result<u8, Error> {
    if parsed.has("detach") {
        return Ok(create::run(what, None, observer).map(|_| 0)?);
    }
    if !parsed.has("no-subreaper") {
        foreground::adopt_orphans()?;
    }
    let (left, ended) = create::run_attached(what, observer)?;
    if !parsed.has("keep") {
        left.remove()?;
    }
    Ok(ended.code())
}

fn execution(root: &Path, rest: &[String]) -> Result<(Exec, Foreground), Error> {
    let (parsed, used) = parse(rest, &EXEC, 1)?;
    // Options may follow the name; the first word that is none is the program.
    let (more, after) = match rest.get(used) {
        Some(_) => parse(&rest[used..], &EXEC, 1)?,
        None => (Parsed::default(), 0),
    };
    let mut args: Vec<String> = more.positional.clone();
    args.extend(rest[used + after..].iter().cloned());
    let value = |name| more.path(name).or(parsed.path(name));
    let text = |name| more.value(name).or(parsed.value(name)).map(str::to_owned);
    let list = |name| [parsed.values(name), more.values(name)].concat();
    let has = |name| parsed.has(name) || more.has(name);
    let gids = list("additional-gids")
        .iter()
        .map(|gid| gid.parse().map_err(|_| format!("invalid group {gid:?}")))
        .collect::<Result<_, _>>()?;
    let what = Exec {
        root: root.into(),
        id: id(&parsed)?.into(),
        process: value("process"),
        args,
        cwd: text("cwd"),
        env: list("env"),
        tty: has("tty"),
        user: text("user"),
        additional_gids: gids,
        capabilities: list("cap"),
        no_new_privs: has("no-new-privs"),
        pid_file: value("pid-file"),
        pidfd_socket: value("pidfd-socket"),
        process_label: text("process-label").filter(|it| !it.is_empty()),
        apparmor: text("apparmor").filter(|it| !it.is_empty()),
        sub_groups: list("cgroup"),
        console_socket: value("console-socket"),
        preserve_fds: parsed
            .number("preserve-fds")?
            .or(more.number("preserve-fds")?)
            .unwrap_or(0),
        ignore_paused: has("ignore-paused"),
    };
    if what.process.is_none() && what.args.is_empty() {
        return Err("process args cannot be empty".to_owned().into());
    }
    Ok((
        what,
        Foreground {
            is_detached: has("detach"),
            adopts_orphans: !has("no-subreaper"),
        },
    ))
}

/// Whether a command stays, and what for.
struct Foreground {
    is_detached: bool,
    adopts_orphans: bool,
}

fn exec_process(what: &Exec, how: Foreground, observer: &mut dyn Observer) -> Result<u8, Error> {
    if how.is_detached {
        return exec::exec(what, None, observer)
            .map(|_| 0)
            .map_err(Error::Exec);
    }
    if how.adopts_orphans {
        foreground::adopt_orphans()?;
    }
    let ended = exec::exec_attached(what, observer).map_err(Error::Exec)?;
    Ok(ended.code())
}

/// What `state` and `list` print, in the order in which callers expect it.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: String,
}

impl<'a> State<'a> {
    fn of(container: &'a status::Container) -> Self {
        let record = &container.record;
        let is_gone = container.status == runtime::state::Status::Stopped;
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            pid: if is_gone { 0 } else { record.pid },
            status: container.status.name(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: owner(record.owner),
        }
    }
}

/// The name of who made a container, or the number of who has none.
fn owner(uid: u32) -> String {
    let user = if uid == 0 {
        Some("root".to_owned())
    } else {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten();
        user.map(|user| user.name)
    };
    user.unwrap_or_else(|| format!("#{uid}"))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Output(error.into()))
}

fn list(root: &Path, parsed: &Parsed) -> Result<(), Error> {
    let all = status::list(root)?;
    let mut out = std::io::stdout().lock();
    if parsed.has("quiet") {
        return Ok(all
            .iter()
            .try_for_each(|it| writeln!(out, "{}", it.record.id))?);
    }
    match parsed.value("format").unwrap_or("table") {
        "table" => {}
        "json" => {
            let all: Vec<State<'_>> = all.iter().map(State::of).collect();
            return Ok(writeln!(out, "{}", to_json(&all)?)?);
        }
        other => return Err(format!("invalid format {other:?}: give table or json").into()),
    }
    let width = all
        .iter()
        .map(|it| it.record.id.len())
        .max()
        .unwrap_or(0)
        .max(11);
    writeln!(
        out,
        "{:width$} {:<11} {:<11} {:<19} {:<30} OWNER",
        "ID", "PID", "STATUS", "BUNDLE", "CREATED"
    )?;
    for it in &all {
        let pid = if it.status == runtime::state::Status::Stopped {
            0
        } else {
            it.record.pid
        };
        writeln!(
            out,
            "{:width$} {pid:<11} {:<11} {:<19} {:<30} {}",
            it.record.id,
            it.status.name(),
            it.record.bundle.display(),
            it.record.created,
            owner(it.record.owner)
        )?;
    }
    Ok(())
}

fn format_of(rest: &[String]) -> Option<&str> {
    let at = rest.iter().position(|it| it == "--format" || it == "-f")?;
    rest.get(at + 1).map(String::as_str)
}

fn ps(pids: &[i32], format: Option<&str>, rest: &[String]) -> Result<(), Error> {
    if format == Some("json") {
        println!("{}", Value::from(pids));
        return Ok(());
    }
    // As runc: the lines of `ps` that are about these processes.
    let arguments = if rest.is_empty() {
        &["-ef".to_owned()][..]
    } else {
        rest
    };
    let output = std::process::Command::new("ps").args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|it| it == "PID")
        .ok_or_else(|| "ps shows no column PID".to_owned())?;
    println!("{head}");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|it| it.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(())
}

/// A line now with `--stats`; else one every `--interval` and at every event, until the container ends.
fn events(root: &Path, id: &str, parsed: &Parsed) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    if parsed.has("stats") {
        let event = Event::Stats(Box::new(status::stats(root, id)?));
        return Ok(writeln!(out, "{}", event.line(id))?);
    }
    let interval = match parsed.value("interval") {
        None => Duration::from_secs(5),
        Some(text) => duration(text).ok_or_else(|| {
            format!("invalid value {text:?} for flag -interval: give a time such as 5s or 500ms")
        })?,
    };
    // Whoever reads them may have had enough.
    let observe = &mut |event: Event| writeln!(out, "{}", event.line(id)).is_ok();
    Ok(events::watch(root, id, interval, observe)?)
}

/// A time as Go writes it, in one unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let time = Duration::try_from_secs_f64(number * unit).ok()?;
    (!time.is_zero()).then_some(time)
}
