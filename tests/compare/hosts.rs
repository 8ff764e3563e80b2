//! Hosts and users that cannot run every contender.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use crate::place::{Place, array, assert_status, named, results, text, unavailable};

/// Starts `command` where there is nothing behind /dev/kvm; `None` if this host does not let us hide
/// it.
fn output_without_kvm(mut command: Command) -> Option<Output> {
    // A mount namespace belongs to a thread, and its children inherit it.
    let hidden = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).ok()?;
        mount(Some("/dev/null"), "/dev/kvm", none, MsFlags::MS_BIND, none).ok()?;
        Some(command.output().unwrap())
    });
    hidden.join().unwrap()
}

#[test]
fn without_kvm_the_others_still_run() {
    let place = Place::new();
    let command = place.ringside("compare --runs 2 --workloads start,call --json report.json");
    let Some(output) = output_without_kvm(command) else {
        eprintln!("skipped: /dev/kvm cannot be hidden here (it takes root)");
        return;
    };
    assert_status(&output, 0);
    let report = place.json("report.json");
    let reason = unavailable(&report, "vm").expect("no KVM and still a VM");
    assert!(reason.contains("/dev/kvm"), "{reason}");
    assert!(unavailable(&report, "floor-vm").is_some());
    assert_eq!(report["host"]["kvm"]["kind"], "none");
    let calls = results(&report, "call", "call_ns");
    named(calls, "contender", "native");
    if unavailable(&report, "container").is_none() {
        named(calls, "contender", "container");
    }
    assert!(calls.iter().all(|result| result["contender"] != "vm"));
    let line = format!("vm cannot run on this host: {reason}");
    let table = text(&output.stdout);
    assert!(
        table.lines().any(|found| found == line),
        "no `{line}` in\n{table}"
    );
    place.assert_empty();
}

#[test]
fn nothing_but_a_missing_contender_is_skipped() {
    let place = Place::new();
    let Some(output) = output_without_kvm(place.ringside("compare --runs 1 --contenders vm"))
    else {
        eprintln!("skipped: /dev/kvm cannot be hidden here (it takes root)");
        return;
    };
    assert_status(&output, 77);
    assert!(text(&output.stdout).contains("nothing was measured"));
    place.assert_empty();
}

/// An ordinary user: the customary number of nobody.
const USER: u32 = 65534;

#[test]
fn a_user_who_is_not_root_gets_what_that_user_may() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let place = Place::new();
    // Everything where that user can reach it.
    let program = place.path().join("ringside");
    // By another process: a program that is open for writing in one that forks cannot be executed.
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_ringside")).arg(&program);
    assert!(copy.status().unwrap().success());
    for path in [place.path().to_owned(), place.temporary()] {
        chown(&path, Some(USER), Some(USER)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let line = "compare --runs 1 --workloads start,footprint --json report.json";
    let output = Command::new(program)
        .args(line.split(' '))
        .current_dir(place.path())
        .env("TMPDIR", place.temporary())
        .uid(USER)
        .gid(USER)
        .output()
        .unwrap();
    assert_status(&output, 0);
    let report = place.json("report.json");
    named(results(&report, "start", "time"), "contender", "native");
    let footprint = named(array(&report, "/workloads"), "name", "footprint");
    for contender in ["container", "vm"] {
        // Either it ran, or there is a reason.
        if unavailable(&report, contender).is_none() {
            named(results(&report, "start", "time"), "contender", contender);
            let refused = array(footprint, "/not_run")
                .iter()
                .any(|other| other["contender"] == contender);
            if !refused {
                named(
                    results(&report, "footprint", "overhead"),
                    "contender",
                    contender,
                );
            }
        }
    }
    place.assert_empty();
}
