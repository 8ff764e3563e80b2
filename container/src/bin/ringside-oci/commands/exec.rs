//! `exec`: one more process in a container that runs.

use std::path::Path;

use ringside_container::Observer;
use ringside_container::runtime::exec::{self, Exec};
use ringside_container::runtime::foreground;

use super::{Error, check_preserved, id};
use crate::arguments::{Known, Parsed, parse};

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

pub fn execution(root: &Path, rest: &[String]) -> Result<(Exec, Foreground), Error> {
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
        user: text("user").filter(|it| !it.is_empty()),
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
    check_preserved(0, what.preserve_fds)?;
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
pub struct Foreground {
    is_detached: bool,
    adopts_orphans: bool,
}

pub fn exec_process(
    what: &Exec,
    how: Foreground,
    observer: &mut dyn Observer,
) -> Result<u8, Error> {
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
