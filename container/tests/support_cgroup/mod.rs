//! What the tests of control groups share: groups that vanish after the test, and children that
//! wait until they have been put into one.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ringside_container::cgroup::{Controllers, Group, Layout};

/// The host's layout, or `None` with the reason printed when this process cannot make groups.
pub fn layout() -> Option<Layout> {
    let layout = Layout::detect().expect("/proc can be read");
    match nix::unistd::geteuid().is_root() {
        true => Some(layout),
        false => {
            eprintln!("skipped: making control groups needs root here");
            None
        }
    }
}

/// Whether the host has the controllers that a test is about.
pub fn has(layout: &Layout, wanted: Controllers) -> bool {
    let missing = wanted.without(layout.controllers());
    if !missing.is_empty() {
        eprintln!("skipped: this host has no cgroup controller {missing:?}");
    }
    missing.is_empty()
}

/// A group with a name of its own that is removed at the end of the test, and must then be empty.
pub struct TestGroup(pub Group);

impl TestGroup {
    pub fn new(layout: &Layout, controllers: Controllers) -> TestGroup {
        TestGroup(Group::create(layout, unique_name(), controllers).expect("create a group"))
    }
}

/// A name that no other test uses at the same time.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

impl std::ops::Deref for TestGroup {
    type Target = Group;
    fn deref(&self) -> &Group {
        &self.0
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        for pid in self.0.processes().unwrap_or_default() {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        let removed = self.0.remove();
        let left: Vec<_> = self.0.paths().filter(|path| path.exists()).collect();
        if !std::thread::panicking() {
            removed.expect("remove the group");
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

/// A shell that waits for [`Waiting::go`] before it runs its script.
pub struct Waiting(pub Child);

/// Starts a shell and moves it into `group` before its script runs.
pub fn shell_in(group: &Group, script: &str) -> Waiting {
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a shell");
    group
        .add(child.id() as i32)
        .expect("add the shell to the group");
    Waiting(child)
}

impl Waiting {
    /// Lets the script run.
    pub fn go(mut self) -> Child {
        let mut stdin = self.0.stdin.take().expect("a pipe");
        stdin.write_all(b"\n").expect("the shell reads");
        self.0
    }
}
