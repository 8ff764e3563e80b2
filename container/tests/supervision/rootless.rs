//! Containers of an ordinary user: a user namespace makes them root of what is theirs, and of no more.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::runtime::{Running, Runtime};

/// `nobody`.
const USER: u32 = 65534;

/// Starts a script in a container of `nobody`'s; none where this host forbids it, with the reason.
fn start(script: &str, limits: &[&str]) -> (Running, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .expect("our directory");
    let program = directory.path().join("runtime");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("a copy");
    let user = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    (
        Runtime::shell(script)
            .with(limits)
            .by(&user, program)
            .start(),
        directory,
    )
}

/// What a script writes that succeeds.
fn says(script: &str) -> String {
    let (mut running, _directory) = start(script, &[]);
    let output = running.rest();
    assert_eq!(running.wait(), Some(0), "{script}: {output}");
    output
}

pub fn a_user_runs_a_container() {
    assert_eq!(
        says("id -u; id -g; echo $$; hostname; cat /proc/self/uid_map"),
        format!("0\n0\n2\nringside\n{:>10} {USER:>10} {:>10}\n", 0, 1)
    );
    assert_eq!(
        says("echo x > /new; cat /new; echo x > /dev/null; ls /sys/class/net"),
        "x\nlo\n"
    );
    assert!(!std::path::Path::new("/new").exists());
    let (mut running, _directory) = start("exit 42", &[]);
    assert_eq!(running.wait(), Some(42));
}

/// Root of a user namespace has every capability, and still is not root of the host.
pub fn root_of_a_user_namespace_runs_a_container() {
    let program = std::env::current_exe().expect("this program");
    let inner = ["unshare", "--user", "--map-root-user", "--mount"];
    let mut running = Runtime::shell("id -u; echo x > /new; cat /new")
        .by(&inner, program)
        .start();
    assert_eq!(running.rest(), "0\nx\n");
    assert_eq!(running.wait(), Some(0));
    assert!(!std::path::Path::new("/new").exists());
}

pub fn a_user_s_container_reads_no_more_than_the_user() {
    for script in [
        "cat /etc/shadow",
        "ls /root",
        "echo x >> /etc/passwd",
        "mknod /x b 254 0",
        "mount -t tmpfs none /mnt",
    ] {
        let (mut running, _directory) = start(&format!("{script} 2>/dev/null"), &[]);
        assert_ne!(
            running.wait(),
            Some(0),
            "`{script}` succeeds in a user's container"
        );
    }
}

pub fn a_user_s_limits_are_refused_by_name() {
    let (mut running, _directory) = start("true", &["--memory", "100000000"]);
    assert_eq!(running.wait(), Some(125));
}

pub fn a_user_s_own_files_are_copied_on_write() {
    let home = tempfile::tempdir_in(top_of_a_layer()).expect("a directory");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("our directory");
    fs::write(home.path().join("file"), "kept\n").expect("our directory");
    fs::create_dir(home.path().join("below")).expect("our directory");
    for path in [
        home.path().to_path_buf(),
        home.path().join("file"),
        home.path().join("below"),
    ] {
        chown(path, Some(USER), Some(USER)).expect("we are root");
    }
    let path = home.path().display();
    let script = format!("cd {path}; cat file; echo changed > file; cat file; rmdir below; ls");
    assert_eq!(says(&script), "kept\nchanged\nfile\n");
    if marks_work() {
        let script = format!("cd {path}; rmdir below; mkdir below; touch below/new; ls below");
        assert_eq!(says(&script), "new\n");
    }
    assert_eq!(
        fs::read_to_string(home.path().join("file")).expect("still there"),
        "kept\n"
    );
    assert_eq!(
        fs::read_dir(home.path().join("below"))
            .expect("still there")
            .count(),
        0
    );
}

/// Where a user's own directory can be written to: at the top of a layer, since overlayfs copies no directory
/// up whose owner the user namespace lacks. A crowded one is no layer as soon as anybody mounts something
/// somewhere in it, and the root's entries always are.
fn top_of_a_layer() -> &'static str {
    let is_crowded = fs::read_dir("/tmp").is_ok_and(|entries| entries.count() > 64);
    if is_crowded { "/" } else { "/tmp" }
}

/// Whether a tmpfs takes attributes of users (`user.*`), by which an overlay of a user's marks a
/// directory that replaces one of the host's: since Linux 6.6.
fn marks_work() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc");
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|number| number.parse::<u32>().ok());
    let works = (numbers.next(), numbers.next()) >= (Some(6), Some(6));
    if !works {
        eprintln!("skipped: a user cannot replace a directory of the host's before Linux 6.6");
    }
    works
}
