//! `create` and `run`: a container from a bundle.

use std::path::PathBuf;

use ringside_container::Observer;
use ringside_container::runtime::create::{self, Create};
use ringside_container::runtime::foreground;

use super::{Error, check_preserved, id};
use crate::arguments::{Global, Known, Parsed};

pub const CREATE: [Known; 10] = [
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

pub const RUN: [Known; 12] = {
    let mut all = [("detach", ["d"].as_slice(), false); 12];
    let mut index = 0;
    while index < CREATE.len() {
        all[index] = CREATE[index];
        index += 1;
    }
    all[11] = ("keep", &[], false);
    all
};

pub fn creation(global: &Global, parsed: &Parsed) -> Result<Create, Error> {
    // A service manager's sockets are passed on (`man 3 sd_listen_fds`).
    let listening = std::env::var("LISTEN_FDS").ok();
    let listen_fds = listening.and_then(|it| it.parse().ok()).unwrap_or(0u32);
    let preserve_fds = parsed.number("preserve-fds")?.unwrap_or(0);
    check_preserved(listen_fds, preserve_fds)?;
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
        preserve_fds,
        no_pivot: parsed.has("no-pivot"),
        no_new_keyring: parsed.has("no-new-keyring"),
    })
}

pub fn run_container(
    what: &Create,
    parsed: &Parsed,
    observer: &mut dyn Observer,
) -> Result<u8, Error> {
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
