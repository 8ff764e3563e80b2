//! A group that is there already: taken over when it is vacant, and refused when somebody is in it.

mod support_cgroup;

use ringside_container::cgroup::{Controller, Controllers, Error, Group};
use support_cgroup::{TestGroup, has, layout, shell_in, unique_name};

const CONTROLLERS: Controllers = Controllers::of(&[Controller::Pids, Controller::Freezer]);

#[test]
fn a_vacant_group_is_taken_over() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CONTROLLERS) {
        return;
    }
    let name = unique_name();
    let first = TestGroup(Group::create_vacant(&layout, &name, CONTROLLERS).expect("a new group"));
    let second = Group::create_vacant(&layout, &name, CONTROLLERS).expect("a vacant one");
    assert!(first.paths().eq(second.paths()));
}

#[test]
fn a_group_with_processes_is_refused_and_nothing_is_made() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CONTROLLERS) {
        return;
    }
    let name = unique_name();
    let pids = Controllers::of(&[Controller::Pids]);
    let group = TestGroup(Group::create(&layout, &name, pids).expect("create"));
    let shell = shell_in(&group, "exit 0");
    let pid = shell.0.id() as i32;
    match Group::create_vacant(&layout, &name, CONTROLLERS) {
        Err(Error::Occupied { processes, .. }) => assert_eq!(processes, [pid]),
        other => panic!("{other:?}"),
    }
    // What was missing of it (on a hybrid host the freezer's directory) was not left behind.
    let home = layout.home(Controller::Freezer).expect("it has one");
    let freezer = home.own.clone().expect("we see our group").join(&name);
    let is_apart = group.paths().all(|path| path != freezer);
    assert!(!is_apart || !freezer.exists(), "{}", freezer.display());
    assert!(shell.go().wait().expect("reap").success());
}

#[test]
fn a_frozen_group_is_refused() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CONTROLLERS) {
        return;
    }
    let name = unique_name();
    let group = TestGroup(Group::create(&layout, &name, CONTROLLERS).expect("create"));
    group.freeze().expect("freeze");
    let refused = Group::create_vacant(&layout, &name, CONTROLLERS);
    assert!(matches!(refused, Err(Error::Frozen { .. })), "{refused:?}");
    group.thaw().expect("thaw");
    Group::create_vacant(&layout, &name, CONTROLLERS).expect("it runs again");
}

#[test]
fn killing_a_group_that_is_gone_is_no_error() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CONTROLLERS) {
        return;
    }
    let group = TestGroup::new(&layout, CONTROLLERS);
    group.remove().expect("remove");
    group.kill().expect("nobody is left");
}
