//! Checks 10.7 to 10.10: the student's container on the real kernel, seen from inside by the probe and
//! from outside by us.

use std::collections::BTreeMap;
use std::fs;

use lab10::Ended;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::utsname::uname;
use ringside_lab_harness::{Context, Failure, Outcome, ensure};

use crate::container::{Ran, Stage, UNTOUCHED};
use crate::probe::{OWN, mounts, namespace};

const RAN: &str = "your container with a probe in it";

/// The probe's lines, and what is expected of them.
pub struct Seen(pub BTreeMap<String, String>);

impl Seen {
    /// Reads what the probe wrote.
    ///
    /// # Errors
    ///
    /// When it did not run to its end.
    pub fn new(ran: &Ran) -> Result<Self, Failure> {
        let lines = ran.output.lines().filter_map(|line| line.split_once(' '));
        let lines = lines.map(|(name, value)| (name.to_string(), value.to_string()));
        let seen = Self(lines.collect());
        ensure(
            ran.ended == Ended::Exited(0) && !seen.0.is_empty(),
            RAN,
            "the probe's report, and exit status 0",
            || format!("{:?}, and: {}", ran.ended, ran.output.trim_end()),
            "`container:` lines below say which step was refused; checks 10.1 to 10.6 say more",
        )?;
        Ok(seen)
    }

    /// What the probe said of `name`.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("nothing", String::as_str)
    }

    fn expect(&self, name: &str, expected: &str, look: &str) -> Outcome {
        let got = self.get(name);
        let ran = format!("{RAN}: its `{name}`");
        ensure(got == expected, ran, expected, || got.into(), look)
    }
}

fn kernel() -> String {
    uname().map_or_else(
        |_| String::new(),
        |names| names.release().to_string_lossy().into_owned(),
    )
}

fn hostname() -> String {
    uname().map_or_else(
        |_| String::new(),
        |names| names.nodename().to_string_lossy().into_owned(),
    )
}

pub fn own_system(context: &Context) -> Outcome {
    let stage = Stage::new(context)?;
    let (name_before, mounts_before) = (hostname(), mounts());
    let seen = Seen::new(&stage.probe("report", &[])?)?;
    for kind in OWN {
        let (inside, outside) = (seen.get(&format!("ns.{kind}")), namespace(kind));
        ensure(
            inside != outside && inside.starts_with(kind),
            format!("{RAN}: its {kind} namespace"),
            format!("another one than {outside}"),
            || inside.into(),
            "`plan`: the list of namespaces; `spawn`: clone gets it",
        )?;
    }
    seen.expect("hostname", &stage.config.hostname, "`plan`: SetHostname")?;
    seen.expect(
        "ppid",
        "1",
        "`spawn` and given.rs: the command is a child of process 1",
    )?;
    let look = "`plan`: MountProc, made by a process that is in the new PID namespace";
    seen.expect("processes", "2", look)?;
    seen.expect(
        "kernel",
        &kernel(),
        "a container has the host's kernel: there is no other",
    )?;
    seen.expect(
        "directory",
        "/",
        "`plan`: ChangeDirectory to \"/\" at the end",
    )?;
    let word = context.seed.word("environment");
    seen.expect(
        "word",
        &word,
        "`exec`: execve gets the command's environment",
    )?;
    seen.expect(
        "variables",
        "1",
        "`exec`: the host's environment may hold secrets",
    )?;
    if stage.is_students() {
        let name = format!("NAME=\"Lab {}\"", context.seed.word("system"));
        seen.expect("os", &name, "`plan`: the root is config.root")?;
        seen.expect(
            "usr",
            "read-only",
            "`plan`: ReadOnly for binds that are read-only",
        )?;
    }
    unchanged(&name_before, &mounts_before)
}

/// The host, or what we made this process take for it, is as it was.
fn unchanged(name_before: &str, mounts_before: &[String]) -> Outcome {
    let name = hostname();
    ensure(
        name == name_before,
        format!("{RAN}: the host's name afterwards"),
        name_before,
        || name.clone(),
        "`plan`: the Uts namespace",
    )?;
    let after = mounts();
    ensure(
        after == mounts_before,
        format!("{RAN}: the host's mounts afterwards"),
        format!("the same {} as before", mounts_before.len()),
        || {
            let new = after.iter().filter(|mount| !mounts_before.contains(mount));
            format!(
                "{}; new: {:?}",
                after.len(),
                new.take(5).collect::<Vec<_>>()
            )
        },
        "`plan`: MakePrivate first, or each mount spreads to the host",
    )
}

pub fn no_way_out(context: &Context) -> Outcome {
    let stage = Stage::new(context)?;
    let (name_before, mounts_before) = (hostname(), mounts());
    // Programs leave directories open without thinking; this one is not closed by execve.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let door = open("/", flags, Mode::empty()).map_err(|errno| {
        Failure::found("opening /", "a descriptor", errno.to_string(), "the host")
    })?;
    let ran = stage.probe("escape", &[&stage.marker.to_string_lossy()])?;
    drop(door);
    Seen::new(&ran)?;
    let marker = fs::read_to_string(&stage.marker).unwrap_or_default();
    ensure(
        marker == UNTOUCHED,
        format!("{RAN} that looks for a way out"),
        format!("the host's file {} untouched", stage.marker.display()),
        || format!("it was written to through {marker}"),
        look_for(&marker),
    )?;
    unchanged(&name_before, &mounts_before)
}

fn look_for(way: &str) -> &'static str {
    match way {
        "an open descriptor" => "`exec`: close_from(3) before execve",
        "/proc/PID/root" => {
            "`plan`: this /proc shows the host's processes; mount one of your own PID namespace"
        }
        "chroot and an open directory" => {
            "`plan`: chroot leaves the host's tree mounted above; pivot_root, then Detach"
        }
        _ => "`plan`: PivotRoot, then Detach of the old root",
    }
}

pub fn orphans(context: &Context) -> Outcome {
    let stage = Stage::new(context)?;
    let ran = stage.probe("orphans", &[])?;
    let seen = Seen::new(&ran)?;
    let look = "`reap`: wait for *any* child; the kernel gives orphans to process 1";
    seen.expect("orphan", "gone", look)
}

pub fn exit_status(context: &Context) -> Outcome {
    let stage = Stage::new(context)?;
    let status = context.seed.number("status", 2..100).to_string();
    let signal = context
        .seed
        .rng("signal")
        .pick(&["1", "2", "10", "15"])
        .to_string();
    let number = |text: &str| text.parse().unwrap_or(0);
    let cases = [
        (
            "/probe",
            vec!["probe", "--role", "end", "status", &status],
            number(&status),
        ),
        (
            "/probe",
            vec!["probe", "--role", "end", "signal", &signal],
            128 + number(&signal),
        ),
        ("/not-there", vec!["not-there"], 127),
        ("/etc/os-release", vec!["os-release"], 126),
    ];
    for (program, arguments, expected) in cases {
        let ran = stage.run(program, &arguments)?;
        ensure(
            ran.ended == Ended::Exited(expected),
            format!(
                "your container with the command {program} {}",
                arguments[1..].join(" ")
            ),
            format!("exit status {expected}"),
            || format!("{:?}", ran.ended),
            "`reap` gives main's status, `exec` 127 and 126; `spawn`'s child ends with what `then` says",
        )?;
    }
    Ok(())
}
