//! From making a group to removing it: entering, freezing, killing, hearing of events, cleaning up.

#![expect(
    unsafe_code,
    reason = "a forked child enters its group by itself, before exec"
)]

mod support_cgroup;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, mkdirat};
use ringside_container::cgroup::{
    Controller, Controllers, Error, FreezerState, Group, Limit, Limits, OomEvent, Pids, Version,
};
use support_cgroup::{TestGroup, has, layout, shell_in, unique_name};

const CPU_MEMORY_PIDS: Controllers =
    Controllers::of(&[Controller::Cpu, Controller::Memory, Controller::Pids]);
const FREEZER: Controllers =
    Controllers::of(&[Controller::Freezer, Controller::Cpuacct, Controller::Pids]);
const BUSY: &str = "while :; do :; done";

/// Of two that come to a new parent, the second sees that it hands down its controllers before it has.
#[test]
fn groups_made_at_once_below_a_new_parent_take_their_limits() {
    let Some(layout) = layout() else { return };
    let limits = Limits {
        pids: Pids {
            max: Some(Limit::At(100)),
        },
        ..Limits::default()
    };
    if !has(&layout, CPU_MEMORY_PIDS) {
        return;
    }
    for _ in 0..100 {
        let parent = unique_name();
        let make = |name: &str| {
            let group = Group::create(&layout, format!("{parent}/{name}"), CPU_MEMORY_PIDS)?;
            let limited = group.apply(&limits);
            group.remove()?;
            limited
        };
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(|| make("other"));
            (make("one"), other.join().expect("no panic"))
        });
        let above = Group::open(&layout, &parent, CPU_MEMORY_PIDS).and_then(|it| it.remove());
        first.and(second).and(above).expect("both have their files");
    }
}

#[test]
fn a_child_enters_by_itself_and_is_in_every_hierarchy() {
    let Some(layout) = layout() else { return };
    // Few hierarchies, and all that there are: on a hybrid host some of each version.
    for controllers in [CPU_MEMORY_PIDS, layout.controllers()] {
        if !has(&layout, controllers) {
            continue;
        }
        let group = TestGroup::new(&layout, controllers);
        let entrance = group.entrance().expect("open");
        let mut command = Command::new("cat");
        command.arg("/proc/self/cgroup");
        // SAFETY: between fork and exec `enter` only calls write(2).
        unsafe {
            command.pre_exec(move || entrance.enter().map_err(|e| e.errno.into()));
        }
        let output = command.output().expect("run");
        let text = String::from_utf8(output.stdout).expect("text");
        let name = group
            .paths()
            .next()
            .and_then(Path::file_name)
            .expect("a name");
        let name = name.to_str().expect("ASCII");
        let inside = text.lines().filter(|line| line.ends_with(name)).count();
        assert_eq!(inside, group.directories().len(), "{text}");
    }
}

#[test]
fn a_process_is_moved_and_seen_where_it_is() {
    let Some(layout) = layout() else { return };
    let controllers = layout.controllers();
    let group = TestGroup::new(&layout, controllers);
    let mut child = shell_in(&group, "exec sleep 1000").go();
    let pid = child.id() as i32;
    assert_eq!(group.processes().expect("list"), [pid]);
    let seen = layout.directories_of(pid).expect("read");
    assert!(
        group
            .paths()
            .all(|path| seen.iter().any(|seen| seen == path)),
        "{seen:?}"
    );
    child.kill().expect("kill");
    child.wait().expect("reap");
    layout.directories_of(pid).expect_err("it is gone");
}

#[test]
fn limits_hold_for_a_child_that_enters_by_itself() {
    let Some(layout) = layout() else { return };
    let mut limits = Limits::default();
    limits.pids.max = Some(Limit::At(1));
    if !has(&layout, limits.controllers()) {
        return;
    }
    let group = TestGroup::new(&layout, limits.controllers());
    group.apply(&limits).expect("apply");
    let entrance = group.entrance().expect("open");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "(exit 0)"]);
    // SAFETY: between fork and exec `enter` only calls write(2).
    unsafe {
        command.pre_exec(move || entrance.enter().map_err(|e| e.errno.into()));
    }
    assert!(!command.output().expect("run").status.success());
    assert!(group.stats().expect("stats").pids.expect("pids").refused >= 1);
}

#[test]
fn a_group_is_found_again_by_its_paths() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CPU_MEMORY_PIDS) {
        return;
    }
    let group = TestGroup::new(&layout, CPU_MEMORY_PIDS);
    let paths: Vec<PathBuf> = group.paths().map(PathBuf::from).collect();
    let again = Group::from_paths(&layout, &paths, CPU_MEMORY_PIDS).expect("open");
    assert_eq!(again.controllers(), CPU_MEMORY_PIDS);
    assert_eq!(again.paths().collect::<Vec<_>>(), paths);
    for wrong in ["/tmp", "/", "/sys/fs/cgroup/../../../tmp"] {
        Group::from_paths(&layout, [wrong], CPU_MEMORY_PIDS).expect_err(wrong);
    }
    drop(group);
    let gone = Group::from_paths(&layout, &paths, CPU_MEMORY_PIDS).expect("open");
    assert_eq!(gone.directories().len(), 0);
}

#[test]
fn nothing_is_made_where_something_fails() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CPU_MEMORY_PIDS) {
        return;
    }
    let before = layout
        .home(Controller::Cpu)
        .expect("cpu")
        .mount_point
        .clone();
    for path in ["", "/", ".", "a/../b", "/../a", "a\nb"] {
        let error = Group::create(&layout, path, CPU_MEMORY_PIDS).expect_err(path);
        assert!(matches!(error, Error::Path { .. }), "{path:?}: {error}");
    }
    // The last hierarchy refuses: a name that is taken by a control file of one of them.
    let name = format!("{}/pids.max", unique_name());
    let parent = Path::new(&name).parent().expect("a parent").to_owned();
    let parent = Group::create(&layout, parent, CPU_MEMORY_PIDS).expect("create");
    let parent = TestGroup(parent);
    Group::create(&layout, &name, CPU_MEMORY_PIDS).expect_err("a file is in the way");
    for path in parent.paths() {
        let child = path.join("pids.max");
        assert!(!child.is_dir(), "left behind: {child:?}");
    }
    assert!(before.exists());
}

#[test]
fn a_frozen_group_stands_still_until_it_is_thawed() {
    let Some(layout) = layout() else { return };
    if !has(&layout, FREEZER) {
        return;
    }
    let group = TestGroup::new(&layout, FREEZER);
    freeze_and_thaw(&group);
}

#[test]
fn on_a_hybrid_host_version_2_freezes_too() {
    let Some(layout) = layout() else { return };
    // hugetlb is what this project's hybrid host has in version 2.
    let in_v2 = Controllers::of(&[Controller::Hugetlb]);
    match layout.home(Controller::Hugetlb) {
        Ok(home) if home.version == Version::V2 => {}
        _ => return eprintln!("skipped: hugetlb is not in version 2 here"),
    }
    let group = TestGroup::new(&layout, in_v2);
    freeze_and_thaw(&group);
}

fn freeze_and_thaw(group: &TestGroup) {
    let usage = || {
        let cpu = group.stats().expect("stats").cpu.expect("cpu");
        cpu.usage.expect("usage").total_us
    };
    let mut busy = shell_in(group, BUSY).go();
    let wait_for_more = || {
        let start = usage();
        while usage() < start + 1000 {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    assert_eq!(group.freezer_state().expect("state"), FreezerState::Thawed);
    wait_for_more();
    group.freeze().expect("freeze");
    assert_eq!(group.freezer_state().expect("state"), FreezerState::Frozen);
    let stopped = usage();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(usage(), stopped, "a frozen group uses no processor time");
    group.thaw().expect("thaw");
    assert_eq!(group.freezer_state().expect("state"), FreezerState::Thawed);
    wait_for_more();

    group.freeze().expect("freeze");
    group.kill().expect("kill what is frozen");
    busy.wait().expect("reap");
    assert_eq!(group.processes().expect("list"), Vec::<i32>::new());
}

#[test]
fn a_fork_bomb_is_killed_with_and_without_a_freezer() {
    let Some(layout) = layout() else { return };
    for controllers in [FREEZER, Controllers::of(&[Controller::Pids])] {
        if !has(&layout, controllers) {
            continue;
        }
        let group = TestGroup::new(&layout, controllers);
        let mut limits = Limits::default();
        limits.pids.max = Some(Limit::At(60));
        group.apply(&limits).expect("apply");
        let bomb = "bomb() { while :; do (bomb) & done; }; bomb 2>/dev/null";
        let mut bomb = shell_in(&group, bomb).go();
        while group.stats().expect("stats").pids.expect("pids").refused == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        group.kill().expect("kill");
        assert_eq!(group.processes().expect("list"), Vec::<i32>::new());
        bomb.wait().expect("reap");
    }
}

#[test]
fn a_signal_reaches_every_process_once() {
    let Some(layout) = layout() else { return };
    let pids = Controllers::of(&[Controller::Pids]);
    if !has(&layout, pids) {
        return;
    }
    let group = TestGroup::new(&layout, pids);
    let mut children: Vec<_> = (0..3)
        .map(|_| shell_in(&group, "exec sleep 1000").go())
        .collect();
    assert_eq!(group.signal(Signal::SIGTERM).expect("signal"), 3);
    for child in &mut children {
        assert!(!child.wait().expect("reap").success());
    }
}

#[test]
fn a_process_that_lives_keeps_its_group_and_is_named() {
    let Some(layout) = layout() else { return };
    let pids = Controllers::of(&[Controller::Pids]);
    if !has(&layout, pids) {
        return;
    }
    let group = TestGroup::new(&layout, pids);
    let mut child = shell_in(&group, "exec sleep 1000").go();
    match group.remove_at_once() {
        Err(Error::Busy { processes, .. }) => assert_eq!(processes, [child.id() as i32]),
        other => panic!("{other:?}"),
    }
    child.kill().expect("kill");
    child.wait().expect("reap");
}

#[test]
fn groups_below_are_removed_however_deep() {
    let Some(layout) = layout() else { return };
    let pids = Controllers::of(&[Controller::Pids]);
    if !has(&layout, pids) {
        return;
    }
    let group = TestGroup::new(&layout, pids);
    // Deeper than a path can say, as a container may make it that was given its own groups.
    let mut here: OwnedFd = group.directories()[0]
        .as_fd()
        .try_clone_to_owned()
        .expect("dup");
    for _ in 0..60 {
        let name = "n".repeat(100);
        mkdirat(&here, name.as_str(), Mode::from_bits_truncate(0o755)).expect("mkdir");
        mkdirat(&here, "beside", Mode::from_bits_truncate(0o755)).expect("mkdir");
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        here = openat(&here, name.as_str(), flags, Mode::empty()).expect("open");
    }
    drop(here);
    group.remove().expect("remove");
    assert!(group.paths().all(|path| !path.exists()));
    group.remove().expect("removing again is no error");
}

#[test]
fn running_out_of_memory_is_heard_and_so_is_the_end() {
    let Some(layout) = layout() else { return };
    let mut limits = Limits::default();
    limits.memory.limit_bytes = Some(Limit::At(16 << 20));
    if !has(&layout, limits.controllers()) {
        return;
    }
    let group = TestGroup::new(&layout, limits.controllers());
    group.apply(&limits).expect("apply");
    let mut events = group.oom_events().expect("listen");
    assert_eq!(
        events.wait(Some(Duration::ZERO)).expect("wait"),
        OomEvent::Nothing
    );
    let greedy = shell_in(&group, "exec tail /dev/zero").go();
    assert_eq!(events.wait(None).expect("wait"), OomEvent::OutOfMemory);
    greedy.wait_with_output().expect("reap");
    assert_eq!(
        group
            .stats()
            .expect("stats")
            .memory
            .expect("memory")
            .oom_kills,
        1
    );
    group.remove().expect("remove");
    while events.wait(None).expect("wait") != OomEvent::Ended {}
}
