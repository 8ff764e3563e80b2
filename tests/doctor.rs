//! `ringside doctor`: what it finds on this host, and on hosts that lack something.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};

const RINGSIDE: &str = env!("CARGO_BIN_EXE_ringside");

fn doctor_json(command: &mut Command) -> (Value, Option<i32>) {
    let output = command.output().unwrap();
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}", text(&output)));
    (json, output.status.code())
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

/// The finding of that name.
fn finding<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    let findings = diagnosis["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("no finding {name} in {diagnosis:#}"))
}

/// Runs `doctor --json` in a mount namespace of its own, after `set_up`, a shell script.
fn on_altered_host(set_up: &str) -> Option<(Value, Option<i32>)> {
    if !is_root() {
        eprintln!("skipped: not root, who alone may mount over /dev");
        return None;
    }
    let script = format!("set -e; {set_up}; exec \"$0\" doctor --json");
    Some(doctor_json(
        Command::new("unshare").args(["-m", "sh", "-c", &script, RINGSIDE]),
    ))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn the_json_form_is_as_documented() {
    let (diagnosis, status) = doctor_json(Command::new(RINGSIDE).args(["doctor", "--json"]));
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        keys(&diagnosis),
        ["findings", "host", "ready", "schema_version"]
    );
    assert_eq!(diagnosis["schema_version"], 1);
    assert_eq!(diagnosis["ready"], status == Some(0));
    for finding in diagnosis["findings"].as_array().unwrap() {
        assert_eq!(
            keys(finding),
            ["area", "evidence", "name", "remedy", "state"]
        );
        let areas = ["contenders", "kvm", "cgroups", "container", "peers"];
        assert!(
            areas.iter().any(|area| finding["area"] == *area),
            "{finding}"
        );
        let ok = finding["state"] == "ok";
        assert!(
            ok || finding["state"] == "limited" || finding["state"] == "missing",
            "{finding}"
        );
        // Evidence always; a remedy exactly where something falls short.
        assert_ne!(finding["evidence"], "", "{finding}");
        assert_eq!(finding["remedy"].is_string(), !ok, "{finding}");
    }
}

#[test]
fn people_get_the_same_findings_as_a_table() {
    let (diagnosis, _) = doctor_json(Command::new(RINGSIDE).args(["doctor", "--json"]));
    let table = Command::new(RINGSIDE).arg("doctor").output().unwrap();
    let table = text(&table);
    for finding in diagnosis["findings"].as_array().unwrap() {
        let name = finding["name"].as_str().unwrap();
        assert!(table.contains(name), "no {name} in\n{table}");
    }
    assert!(table.contains("\nkvm      "), "no label in\n{table}");
}

#[test]
fn a_host_with_kvm_and_root_is_ready() {
    if !is_root() || !Path::new("/dev/kvm").exists() {
        return eprintln!("skipped: not root, or no /dev/kvm");
    }
    let (diagnosis, status) = doctor_json(Command::new(RINGSIDE).args(["doctor", "--json"]));
    for contender in ["native", "container", "vm"] {
        assert_eq!(
            finding(&diagnosis, contender)["state"],
            "ok",
            "{diagnosis:#}"
        );
    }
    let kind = &diagnosis["host"]["kvm"]["kind"];
    assert!(kind == "hardware" || kind == "software", "{kind}");
    assert_eq!(status, Some(0));
}

#[test]
fn a_missing_kvm_device_is_told_with_its_remedy() {
    let nodes = "for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 /dev/${node%:*} c 1 ${node#*:}; done";
    let Some((diagnosis, status)) = on_altered_host(&format!(
        "mount -t tmpfs dev /dev; {nodes}; mknod -m 666 /dev/tty c 5 0"
    )) else {
        return;
    };
    let device = finding(&diagnosis, "/dev/kvm");
    assert_eq!(device["state"], "missing");
    assert_eq!(
        device["evidence"],
        "cannot open /dev/kvm: there is no such device"
    );
    assert!(
        device["remedy"]
            .as_str()
            .unwrap()
            .contains("modprobe kvm_intel"),
        "{device}"
    );
    assert_eq!(finding(&diagnosis, "vm")["state"], "missing");
    assert_eq!(finding(&diagnosis, "native")["state"], "ok");
    assert_eq!(diagnosis["host"]["kvm"]["kind"], "none");
    assert_eq!(status, Some(1));
}

#[test]
fn a_device_without_a_driver_is_told_from_a_missing_one() {
    // A character device of misc's major number whose minor number nobody has.
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("kvm").display().to_string();
    let Some((diagnosis, status)) = on_altered_host(&format!(
        "mknod {node} c 10 199; mount --bind {node} /dev/kvm"
    )) else {
        return;
    };
    let device = finding(&diagnosis, "/dev/kvm");
    assert!(
        device["evidence"].as_str().unwrap().contains("no driver"),
        "{device}"
    );
    assert!(
        device["remedy"]
            .as_str()
            .unwrap()
            .contains("enable VT-x or AMD-V"),
        "{device}"
    );
    assert_eq!(status, Some(1));
}

#[test]
fn a_file_that_is_not_kvm_is_not_taken_for_it() {
    let Some((diagnosis, status)) = on_altered_host("mount --bind /dev/null /dev/kvm") else {
        return;
    };
    let device = finding(&diagnosis, "/dev/kvm");
    assert!(
        device["evidence"]
            .as_str()
            .unwrap()
            .contains("/dev/kvm is not KVM"),
        "{device}"
    );
    assert_eq!(status, Some(1));
}

#[test]
fn an_ordinary_user_learns_what_root_would_have() {
    if !is_root() {
        return eprintln!("skipped: not root, who alone may become nobody");
    }
    // Where nobody may enter: the build's folders are often root's own.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ringside");
    // By another process: a program that is open for writing in one that forks cannot be executed.
    let copy = Command::new("cp").arg(RINGSIDE).arg(&program).status();
    assert!(copy.unwrap().success());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--",
    ];
    let mut command = Command::new("setpriv");
    command
        .args(nobody)
        .arg(&program)
        .args(["doctor", "--json"])
        .env("TMPDIR", "/tmp")
        .current_dir("/");
    let (diagnosis, status) = doctor_json(&mut command);
    assert_eq!(finding(&diagnosis, "native")["state"], "ok");
    let capabilities = finding(&diagnosis, "capabilities");
    assert!(
        capabilities["evidence"]
            .as_str()
            .unwrap()
            .starts_with("an ordinary user, without CAP_SETGID"),
        "{capabilities}"
    );
    let open_to_all = fs::metadata("/dev/kvm").is_ok_and(|device| device.mode() & 0o006 == 0o006);
    if !open_to_all && Path::new("/dev/kvm").exists() {
        let device = finding(&diagnosis, "/dev/kvm");
        assert_eq!(
            device["evidence"],
            "cannot open /dev/kvm: permission denied"
        );
        assert!(
            device["remedy"].as_str().unwrap().contains("group"),
            "{device}"
        );
        assert_eq!(status, Some(1));
    }
}

#[test]
fn peers_are_asked_for_their_version_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    for (name, script) in [
        ("runc", "echo runc version 9.8.7"),
        ("crun", "exec sleep 1000"),
        ("sysbench", "exit 3"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\nPATH=/bin:/usr/bin\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (diagnosis, _) = doctor_json(
        Command::new(RINGSIDE)
            .args(["doctor", "--json"])
            .env("PATH", folder.path()),
    );
    let evidence = |name| finding(&diagnosis, name)["evidence"].as_str().unwrap();
    assert!(
        evidence("runc").starts_with("runc version 9.8.7 (/"),
        "{}",
        evidence("runc")
    );
    assert!(
        evidence("crun").ends_with("without a result"),
        "{}",
        evidence("crun")
    );
    assert!(
        evidence("sysbench").ends_with("printed nothing"),
        "{}",
        evidence("sysbench")
    );
    assert_eq!(evidence("QEMU"), "not installed");
    assert_eq!(
        finding(&diagnosis, "QEMU")["remedy"],
        "apt-get install qemu-system-x86"
    );
    assert_eq!(diagnosis["host"]["versions"]["runc"], "runc version 9.8.7");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for command in [
        &["vm", "list"][..],
        &["doctor"],
        &["doctor", "--json"],
        &["gc"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(RINGSIDE)
            .args(command)
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(text(&output), "", "{command:?}");
    }
}
