//! Finding the hierarchies of this host, and where groups may go in them.

#![expect(
    unsafe_code,
    reason = "one thread changes its user, which only a raw system call does"
)]

mod support_cgroup;

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use ringside_container::cgroup::{
    Controller, Controllers, Error, Group, Layout, Limit, Limits, Version,
};
use support_cgroup::{TestGroup, has, layout, shell_in, unique_name};

const PIDS: Controllers = Controllers::of(&[Controller::Pids]);

/// A controller that version 2 has on this host and that must be enabled from above.
fn a_v2_controller(layout: &Layout) -> Option<Controllers> {
    let candidates = [Controller::Memory, Controller::Hugetlb];
    let in_v2 = |c: &Controller| layout.home(*c).is_ok_and(|h| h.version == Version::V2);
    let found = candidates
        .into_iter()
        .find(in_v2)
        .map(|c| Controllers::of(&[c]));
    if found.is_none() {
        eprintln!("skipped: this host has neither memory nor hugetlb in cgroup v2");
    }
    found
}

#[test]
fn every_controller_that_the_kernel_has_bound_is_found() {
    let layout = Layout::detect().expect("detect");
    let table = std::fs::read_to_string("/proc/cgroups").expect("/proc/cgroups");
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let in_v1 = columns[1] != "0";
        let controller = Controller::from_name(Version::V1, columns[0]);
        if let Some(controller) = controller.filter(|_| in_v1) {
            let home = layout
                .home(controller)
                .expect("its hierarchy is mounted on these hosts");
            assert_eq!(home.version, Version::V1, "{line}");
        }
    }
    for hierarchy in layout.hierarchies() {
        assert!(
            hierarchy.mount_point.join("cgroup.procs").exists(),
            "{hierarchy:?}"
        );
    }
}

#[test]
fn our_own_group_lists_us() {
    let Some(layout) = layout() else { return };
    let own = std::process::id().to_string();
    for hierarchy in layout.hierarchies() {
        let directory = hierarchy.own.as_ref().expect("visible on these hosts");
        let procs = std::fs::read_to_string(directory.join("cgroup.procs")).expect("readable");
        assert!(procs.lines().any(|pid| pid == own), "{directory:?}");
    }
}

#[test]
fn a_file_system_on_top_of_a_hierarchy_hides_it() {
    let Some(layout) = layout() else { return };
    if !has(&layout, PIDS) {
        return;
    }
    let top = layout
        .home(Controller::Pids)
        .expect("pids")
        .mount_point
        .clone();
    let inside = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace for this thread");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
        mount(Some("tmpfs"), &top, Some("tmpfs"), MsFlags::empty(), none).expect("mount");
        // A layout from before must not be fooled either: mkdir succeeds on a tmpfs.
        let made = Group::create(&layout, format!("/{}", unique_name()), PIDS);
        (
            Layout::detect().expect("detect"),
            made.expect_err("a plain directory"),
        )
    });
    let (layout, error) = inside.join().expect("no panic");
    let missing = layout
        .home(Controller::Pids)
        .expect_err("hidden")
        .to_string();
    assert!(missing.contains("`pids`"), "{missing}");
    assert!(
        matches!(
            error,
            Error::NotCgroup { .. } | Error::Read { .. } | Error::Open { .. }
        ),
        "{error}"
    );
}

#[test]
fn a_group_with_processes_cannot_have_children_with_controllers() {
    let Some(layout) = layout() else { return };
    let Some(controllers) = a_v2_controller(&layout) else {
        return;
    };
    let parent = TestGroup::new(&layout, controllers);
    let mut child = shell_in(&parent, "exec sleep 1000").go();
    let top = &layout.unified().expect("v2").mount_point;
    let path = parent
        .paths()
        .next()
        .expect("a path")
        .strip_prefix(top)
        .expect("inside");
    let error = Group::create(
        &layout,
        Path::new("/").join(path).join("child"),
        controllers,
    );
    let error = error.expect_err("the kernel says EBUSY");
    assert!(matches!(error, Error::InternalProcesses { .. }), "{error}");
    assert!(
        !parent.paths().any(|path| path.join("child").exists()),
        "left behind"
    );
    child.kill().expect("kill");
    child.wait().expect("reap");
}

/// Set for the copy of this program that makes a group from inside of one.
const ROLE: &str = "RINGSIDE_TEST_INSIDE";

/// Not a test of its own: makes a group with a relative path and tells where it is.
#[test]
fn from_inside_of_a_group() {
    let Ok(controller) = std::env::var(ROLE) else {
        return;
    };
    let controller = Controller::from_name(Version::V2, &controller).expect("a name");
    let layout = Layout::detect().expect("detect");
    let group = Group::create(&layout, unique_name(), Controllers::of(&[controller]));
    let group = TestGroup(group.expect("create"));
    println!("made {}", group.paths().next().expect("a path").display());
}

#[test]
fn a_relative_group_goes_beside_ours_when_it_cannot_go_below() {
    let Some(layout) = layout() else { return };
    let Some(controllers) = a_v2_controller(&layout) else {
        return;
    };
    let outer = TestGroup::new(&layout, controllers);
    let outer_path = outer.paths().next().expect("a path").to_owned();
    let top = &layout.unified().expect("v2").mount_point;
    let leaf = Path::new("/")
        .join(outer_path.strip_prefix(top).expect("inside"))
        .join("leaf");
    let leaf = TestGroup(Group::create(&layout, leaf, controllers).expect("create"));

    let entrance = leaf.entrance().expect("open");
    let name = controllers.iter().next().expect("one");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "from_inside_of_a_group", "--nocapture"])
        .env(ROLE, name.v1_name());
    // SAFETY: between fork and exec `enter` only calls write(2).
    unsafe {
        command.pre_exec(move || entrance.enter().map_err(|e| e.errno.into()));
    }
    let output = command.output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    let made = text
        .lines()
        .find_map(|line| line.split_once("made "))
        .map(|(_, path)| path);
    let made = PathBuf::from(made.unwrap_or_else(|| panic!("{output:?}")));
    assert_eq!(
        made.parent(),
        Some(outer_path.as_path()),
        "beside the leaf, which has processes"
    );
}

#[test]
fn a_delegated_group_is_enough_for_a_user_and_others_are_refused_by_owner() {
    const NOBODY: u32 = 65534;
    let Some(layout) = layout() else { return };
    if !has(&layout, PIDS) {
        return;
    }
    let delegated = TestGroup::new(&layout, PIDS);
    let path = delegated.paths().next().expect("a path").to_owned();
    for file in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
        "tasks",
    ] {
        let file = path.join(file);
        if file.exists() {
            chown(file, Some(NOBODY), Some(NOBODY)).expect("chown");
        }
    }
    let top = layout
        .home(Controller::Pids)
        .expect("pids")
        .mount_point
        .clone();
    let as_nobody = std::thread::spawn(move || {
        // SAFETY: setresuid takes three integers; the raw call changes this thread only, which ends
        // with the closure.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, -1, NOBODY, -1) };
        assert_eq!(changed, 0);
        let inside = Path::new("/")
            .join(path.strip_prefix(&top).expect("inside"))
            .join("mine");
        let mut limits = Limits::default();
        limits.pids.max = Some(Limit::At(5));
        let mine = TestGroup(Group::create(&layout, inside, PIDS).expect("create"));
        mine.apply(&limits).expect("apply");
        assert_eq!(
            mine.stats().expect("stats").pids.expect("pids").limit,
            Limit::At(5)
        );
        Group::create(&layout, format!("/{}", unique_name()), PIDS).expect_err("not ours")
    });
    match as_nobody.join().expect("no panic") {
        Error::NotDelegated { owner, user, .. } => assert_eq!((owner, user), (0, NOBODY)),
        other => panic!("{other}"),
    }
}
