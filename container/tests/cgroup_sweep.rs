//! Groups of runs that were killed are swept away; groups of runs that live are not.

mod support_cgroup;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringside_container::cgroup::{Controller, Controllers, Ephemeral, Layout, Swept, evict, sweep};
use support_cgroup::{TestGroup, has, layout, shell_in};

const CONTROLLERS: Controllers = Controllers::of(&[Controller::Memory, Controller::Pids]);

/// Set for the copy of this program that plays a run.
const ROLE: &str = "RINGSIDE_TEST_RUN";

/// Not a test of its own: makes a group, tells where, and waits to be killed.
#[test]
fn run_that_will_be_killed() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let layout = Layout::detect().expect("detect");
    let group = Ephemeral::create(&layout, CONTROLLERS).expect("create");
    for path in group.paths() {
        eprintln!("{}", path.display());
    }
    eprintln!("ready");
    std::thread::sleep(std::time::Duration::from_secs(1000));
}

fn start_run() -> (Child, Vec<PathBuf>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "run_that_will_be_killed", "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let lines = lines
        .map_while(Result::ok)
        .take_while(|line| line != "ready");
    let paths = lines
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .collect();
    (child, paths)
}

/// One after the other: a sweep takes away what any test's killed run has left, before that test has looked.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static SWEEPS: Mutex<()> = Mutex::new(());
    SWEEPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sweeps until it looks as it should. Once would do, were nobody else on this machine: of two sweeps at
/// the same moment, one finds a group locked by the other and passes it over.
fn sweep_until(layout: &Layout, mut done: impl FnMut(&Swept) -> bool) {
    for _ in 0..100 {
        if done(&sweep(layout).expect("sweep")) {
            return;
        }
    }
    panic!("a hundred sweeps did not do it");
}

#[test]
fn a_killed_runs_group_is_swept_and_a_living_ones_is_not() {
    let Some(layout) = layout() else { return };
    let _sweeps = one_at_a_time();
    if !has(&layout, CONTROLLERS) {
        return;
    }
    let (mut run, paths) = start_run();
    assert!(!paths.is_empty());
    let swept = sweep(&layout).expect("sweep");
    assert!(
        paths.iter().all(|path| path.exists()),
        "swept away under a living run"
    );
    assert!(
        !paths.iter().any(|path| swept.occupied.contains(path)),
        "{swept:?}"
    );

    run.kill().expect("kill -9");
    run.wait().expect("reap");
    assert!(
        paths.iter().all(|path| path.exists()),
        "a killed run cleans nothing up"
    );
    sweep_until(&layout, |_| !paths.iter().any(|path| path.exists()));
}

#[test]
fn a_killed_runs_processes_are_left_alone_and_told_until_they_are_evicted() {
    let Some(layout) = layout() else { return };
    let _sweeps = one_at_a_time();
    if !has(&layout, CONTROLLERS) {
        return;
    }
    let (mut run, paths) = start_run();
    let group = ringside_container::cgroup::Group::from_paths(&layout, &paths, CONTROLLERS);
    let group = TestGroup(group.expect("open"));
    let mut orphan = shell_in(&group, "exec sleep 1000").go();
    run.kill().expect("kill -9");
    run.wait().expect("reap");
    let mut occupied = BTreeSet::new();
    sweep_until(&layout, |swept| {
        occupied.extend(swept.occupied.clone());
        paths.iter().all(|path| occupied.contains(path))
    });
    assert!(
        orphan.try_wait().expect("wait").is_none(),
        "the orphan lives"
    );
    while paths.iter().any(|path| path.exists()) {
        evict(&layout).expect("evict");
    }
    assert!(!orphan.wait().expect("reap").success());
}

#[test]
fn runs_and_sweeps_at_once_do_not_hurt_each_other() {
    let Some(layout) = layout() else { return };
    let _sweeps = one_at_a_time();
    if !has(&layout, CONTROLLERS) {
        return;
    }
    // All that there are: each of them reads and writes something of its own in a new group.
    let run = || {
        for _ in 0..100 {
            let group = Ephemeral::create(&layout, layout.controllers()).expect("create");
            let paths: Vec<PathBuf> = group.paths().map(PathBuf::from).collect();
            assert!(paths.iter().all(|path| path.exists()), "made and gone");
            group.stats().expect("the group is there");
            group.finish().expect("finish");
            assert!(!paths.iter().any(|path| path.exists()), "left behind");
        }
    };
    std::thread::scope(|scope| {
        let runs = [scope.spawn(run), scope.spawn(run)];
        while !runs.iter().all(|run| run.is_finished()) {
            sweep(&layout).expect("sweep");
        }
    });
}

#[test]
fn groups_of_others_are_not_swept() {
    let Some(layout) = layout() else { return };
    let _sweeps = one_at_a_time();
    if !has(&layout, CONTROLLERS) {
        return;
    }
    let group = TestGroup::new(&layout, CONTROLLERS);
    sweep(&layout).expect("sweep");
    assert!(group.paths().all(|path| path.exists()));
}

#[test]
fn a_dropped_run_takes_its_processes_along() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CONTROLLERS) {
        return;
    }
    let group = Ephemeral::create(&layout, CONTROLLERS).expect("create");
    let paths: Vec<PathBuf> = group.paths().map(PathBuf::from).collect();
    let mut child = shell_in(&group, "exec sleep 1000").go();
    drop(group);
    assert!(!child.wait().expect("reap").success());
    assert!(!paths.iter().any(|path| path.exists()));
}
