//! CVE-2019-5736: a container finds the runtime's own file behind `/proc/PID/exe`, and overwrites it.
//!
//! The attackers are given all the time that they need: the runtime is made to wait for its standard input
//! *as a program of the container's*, which the container executes as `/proc/self/exe`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::grant;
use crate::support_oci::Bundle;

/// A file of the runtime that may be destroyed.
struct Runtime {
    _directory: tempfile::TempDir,
    path: PathBuf,
    before: Vec<u8>,
}

impl Runtime {
    fn new(original: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory
            .path()
            .join(Path::new(original).file_name().unwrap());
        // By another process: a program that is open for writing in one that forks cannot be executed.
        let copy = std::process::Command::new("cp")
            .arg(original)
            .arg(&path)
            .status();
        assert!(copy.unwrap().success());
        let before = std::fs::read(original).unwrap();
        Self {
            _directory: directory,
            path,
            before,
        }
    }

    fn is_untouched(&self) -> bool {
        std::fs::read(&self.path).unwrap() == self.before
    }
}

/// A process of the container's that waits for one whose command line has the word `$1`, opens its program's
/// file, waits until it has ended, and writes to that file; again and again, for another process may run it.
const ATTACK: &str = r#"
    echo ready
    while :; do
        for p in /proc/[0-9]*; do
            read -r line < $p/cmdline || [ -n "$line" ] || continue
            case $p/$line in /proc/$$/*) continue ;; *PREY*) ;; *) continue ;; esac
            { exec 9< $p/exe; } 2>/dev/null || continue
            echo caught
            while [ -d $p ]; do :; done
            for try in {1..10000}; do
                echo overwritten > /proc/self/fd/9 && exit
            done
            { echo overwritten > /proc/self/fd/9; } 2>&1 || echo refused
            exit
        done
    done 2>/dev/null
"#;

/// Starts the attack with `start`, and gives it and what it says.
fn attack(mut start: Command) -> (Child, impl Iterator<Item = String>) {
    let mut attacker = start.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(attacker.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    (attacker, lines)
}

fn script() -> String {
    // So that the attacker's own command line does not have the word.
    ATTACK.replace("PREY", "p\\rey")
}

/// Executes the runtime as a program of the container's, by `command` of `runtime`'s, while the attack runs
/// in it by `exec`; tells whether the file could be opened, and what became of it.
fn exec_own(bundle: &Bundle, runtime: &Runtime) {
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    let mut start = bundle.command();
    start.args(["exec", &bundle.id, "bash", "-c", &script()]);
    let (mut attacker, mut said) = attack(start);
    assert_eq!(said.next().as_deref(), Some("ready"));
    let mut victim = bundle.command_of(&runtime.path);
    // What is executed is `/proc/self/exe update /entry --resources - prey`, which reads its input first.
    victim.args(["exec", &bundle.id, "/entry", "--resources", "-", "prey"]);
    let mut victim = victim
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(said.next().as_deref(), Some("caught"));
    drop(victim.stdin.take());
    victim.wait().unwrap();
    let rest: Vec<String> = said.collect();
    attacker.wait().unwrap();
    assert!(rest.iter().any(|it| it.contains("refused")), "{rest:?}");
    assert!(runtime.is_untouched());
}

fn hostile(change: impl FnOnce(&mut serde_json::Value)) -> Option<Bundle> {
    let bundle = Bundle::new("while :; do sleep 0.05; done", change)?;
    let entry = bundle.rootfs().join("entry");
    std::fs::write(&entry, "#!/proc/self/exe update\n").unwrap();
    executable(&entry);
    Some(bundle)
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const OCI: &str = env!("CARGO_BIN_EXE_ringside-oci");

#[test]
fn exec_does_not_give_the_runtime_s_file_away() {
    for capabilities in [
        &[][..],
        &["CAP_SYS_PTRACE"],
        &["CAP_SYS_PTRACE", "CAP_SYS_ADMIN"],
    ] {
        let Some(bundle) = hostile(|spec| grant(spec, capabilities)) else {
            return;
        };
        exec_own(&bundle, &Runtime::new(OCI));
    }
}

#[test]
fn exec_in_a_user_namespace_does_not_either() {
    let Some(bundle) = hostile(|spec| {
        // Root of the container is root of the host, so that the file's mode does not forbid it.
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
    }) else {
        return;
    };
    exec_own(&bundle, &Runtime::new(OCI));
}

#[test]
fn run_does_not_give_the_runtime_s_file_away() {
    let runtime = Runtime::new(OCI);
    let Some(bundle) = hostile(|spec| {
        spec["process"]["args"] = json!(["/entry", "--resources", "-", "prey"]);
    }) else {
        return;
    };
    let mut victim = bundle.command_of(&runtime.path);
    victim
        .args(["run", &bundle.id])
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let mut victim = victim.spawn().unwrap();
    while bundle.oci(&["state", "ID"]).code != 0 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bundle.until("running");
    // As PID 1 ends, the attacker does too, with the file open: so it writes while the file is in use, which
    // only a file that cannot be written to at all answers with another reason than "busy".
    let mut start = bundle.command();
    let script = script().replace("while [ -d $p ]; do :; done", "");
    start.args(["exec", &bundle.id, "bash", "-c", &script]);
    let (mut attacker, said) = attack(start);
    let said: Vec<String> = said.collect();
    attacker.wait().unwrap();
    assert_eq!(&said[..2], ["ready", "caught"]);
    assert!(said[2].contains("Read-only file system"), "{said:?}");
    drop(victim.stdin.take());
    victim.wait().unwrap();
    assert!(runtime.is_untouched());
}

/// The attack is a real one: a program of the host's that joins the container as it is, is overwritten.
#[test]
fn an_unprotected_program_is_overwritten() {
    let Some(bundle) = hostile(|spec| grant(spec, &["CAP_SYS_PTRACE"])) else {
        return;
    };
    let prey = Runtime::new("/bin/busybox");
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    let mut start = bundle.command();
    start.args(["exec", &bundle.id, "bash", "-c", &script()]);
    let (mut attacker, mut said) = attack(start);
    assert_eq!(said.next().as_deref(), Some("ready"));
    // The one that brings it there is a copy as well: it is caught first.
    let bringer = Runtime::new("/usr/bin/nsenter");
    let mut victim = Command::new(&bringer.path);
    let pid = bundle.state("pid").to_string();
    victim
        .args(["-t", &pid, "-p"])
        .arg(&prey.path)
        .args(["sh", "-c", "read -r prey"]);
    let mut victim = victim.stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(said.next().as_deref(), Some("caught"));
    drop(victim.stdin.take());
    victim.wait().unwrap();
    attacker.wait().unwrap();
    assert!(!prey.is_untouched() || !bringer.is_untouched());
}

/// Where it may make no mounts, it runs from a copy in memory that nobody can write to, ended or not.
#[test]
fn without_the_right_to_mount_it_runs_from_a_sealed_copy() {
    use std::io::Write;
    let Some(bundle) = hostile(|_| {}) else {
        return;
    };
    let runtime = Runtime::new(OCI);
    // It waits there for its configuration.
    let config = bundle.path().join("config.fifo");
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut victim = Command::new("setpriv");
    victim.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
    victim
        .arg(&runtime.path)
        .arg("--root")
        .arg(bundle.state_root());
    victim
        .args(["create", "--config"])
        .arg(&config)
        .arg(&bundle.id);
    victim.current_dir(bundle.path()).stderr(Stdio::null());
    let mut victim = victim.spawn().unwrap();
    // Opens when it has come there.
    let input = std::fs::OpenOptions::new()
        .write(true)
        .open(&config)
        .unwrap();
    let exe = format!("/proc/{}/exe", victim.id());
    let name = std::fs::read_link(&exe).unwrap();
    assert_eq!(name, Path::new("/memfd:ringside-oci (deleted)"));
    let file = std::fs::File::open(&exe).unwrap();
    drop(input);
    assert!(!victim.wait().unwrap().success());
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let opened = std::fs::OpenOptions::new().write(true).open(again);
    let written = opened.and_then(|mut file| file.write_all(b"overwritten"));
    assert_eq!(
        written.unwrap_err().kind(),
        std::io::ErrorKind::PermissionDenied
    );
    assert!(runtime.is_untouched());
    bundle.is_gone();
}
