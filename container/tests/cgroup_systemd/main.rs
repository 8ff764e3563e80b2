//! The systemd driver against a real systemd: the host's package, booted as PID 1 of namespaces of its own
//! with a cgroup tree below a group of ours, and asked over its own socket.

mod booted;
mod user;

use std::path::Path;

use booted::Systemd;

const UNIT: &str = "machine.slice/test-one.scope";

#[test]
fn a_container_lives_in_a_scope_with_its_limits() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let resources = serde_json::json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 64 << 20},
        "cpu": {"shares": 2048, "quota": 50_000, "period": 100_000},
        "pids": {"limit": 33}
    });
    systemd.configure("exec sleep 1000", "machine.slice:test:one", resources);
    systemd.oci(&["run", "--detach", "c1"]);

    // systemd knows it, and the kernel has the same numbers.
    assert_eq!(systemd.property("test-one.scope", "ActiveState"), "active");
    assert_eq!(systemd.property("test-one.scope", "Slice"), "machine.slice");
    assert_eq!(systemd.property("test-one.scope", "Delegate"), "yes");
    assert_eq!(
        systemd.property("test-one.scope", "MemoryMax"),
        (64 << 20).to_string()
    );
    assert_eq!(systemd.property("test-one.scope", "TasksMax"), "33");
    assert_eq!(systemd.file(UNIT, "memory.max"), (64 << 20).to_string());
    assert_eq!(systemd.file(UNIT, "pids.max"), "33");
    assert_eq!(systemd.file(UNIT, "cpu.max"), "50000 100000");
    assert_eq!(
        systemd.property("test-one.scope", "CPUWeight"),
        systemd.file(UNIT, "cpu.weight")
    );
    // The container is in it, and whoever held it before is not.
    assert_eq!(systemd.file(UNIT, "cgroup.procs").lines().count(), 1);

    // What systemd writes anew at any time does not undo it, after an update neither.
    systemd.oci(&["update", "--memory", "33554432", "--pids-limit", "44", "c1"]);
    assert!(
        systemd
            .inside(&["systemctl", "daemon-reload"])
            .status
            .success()
    );
    assert_eq!(
        systemd.property("test-one.scope", "MemoryMax"),
        (32 << 20).to_string()
    );
    assert_eq!(systemd.file(UNIT, "memory.max"), (32 << 20).to_string());
    assert_eq!(systemd.file(UNIT, "pids.max"), "44");

    systemd.oci(&["pause", "c1"]);
    assert!(systemd.oci(&["state", "c1"]).contains("paused"));
    systemd.oci(&["delete", "--force", "c1"]);
    systemd.until("the scope is gone", || {
        !systemd.path(UNIT).exists()
            && systemd.property("test-one.scope", "LoadState") == "not-found"
    });
}

#[test]
fn a_run_ends_with_its_status_and_its_scope_goes() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    systemd.configure("cat /proc/self/cgroup; exit 7", "", serde_json::json!({}));
    for _ in 0..3 {
        let out = systemd.oci_output(&["run", "c2"]);
        assert_eq!(
            out.status.code(),
            Some(7),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        // In a cgroup namespace of its own, the container is at the top.
        assert_eq!(String::from_utf8_lossy(&out.stdout), "0::/\n");
    }
    systemd.until("the scope is gone", || {
        !systemd.path("system.slice/ringside-c2.scope").exists()
    });

    // A configuration for the other driver is refused before anything is made.
    systemd.configure("true", "/not/three/parts", serde_json::json!({}));
    let refused = systemd.oci_output(&["run", "c3"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("slice:prefix:name"),
        "{message}"
    );
    // And so is a unit that systemd does not take.
    systemd.configure("true", "no-slice:test:one", serde_json::json!({}));
    let refused = systemd.oci_output(&["run", "c3"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && message.contains("systemd refuses"),
        "{message}"
    );
    assert!(systemd.oci(&["list", "--quiet"]).is_empty());
}

/// Its maker may be killed at any time: what it has asked systemd for goes with the next `delete`.
#[test]
fn a_scope_whose_maker_was_killed_goes_with_the_container() {
    let Some(systemd) = Systemd::boot() else {
        return;
    };
    let unit = "machine.slice/test-four.scope";
    systemd.configure(
        "exec sleep 1000",
        "machine.slice:test:four",
        serde_json::json!({}),
    );
    // It is killed once it has told of so many steps.
    let script = r#"sh -c 'echo $$ > pid; exec "$@"' sh "$@" 2>&1 >/dev/null </dev/null |
        { head -n $STEPS > told; kill -KILL $(cat pid); }"#;
    let oci = env!("CARGO_BIN_EXE_ringside-oci");
    let mut with_scope = 0;
    for steps in [2, 3, 4, 6, 9] {
        let script = script.replace("$STEPS", &steps.to_string());
        let create = [
            "--systemd-cgroup",
            "--root",
            "/run/oci",
            "--explain",
            "create",
            "c4",
        ];
        systemd.inside(&[&["sh", "-c", &script, "sh", oci], &create[..]].concat());
        let told = std::fs::read_to_string(systemd.bundle.path().join("told")).unwrap();
        with_scope += usize::from(told.contains("ask systemd for a scope"));
        systemd.oci(&["delete", "--force", "c4"]);
        systemd.until("the scope is gone", || {
            !systemd.path(unit).exists()
                && systemd.property("test-four.scope", "LoadState") == "not-found"
        });
        assert!(systemd.oci(&["list", "--quiet"]).is_empty());
    }
    assert!(with_scope > 0, "it was never killed after it had a scope");
    systemd.oci(&["run", "--detach", "c4"]);
    systemd.oci(&["delete", "--force", "c4"]);
}

/// Without systemd the driver says so.
#[test]
fn without_systemd_the_driver_says_what_to_do() {
    if !nix::unistd::geteuid().is_root() || Path::new("/run/systemd/private").exists() {
        eprintln!("skipped: needs root on a host where systemd does not run");
        return;
    }
    let error = ringside_container::cgroup::systemd::Manager::connect(false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("leave out --systemd-cgroup"), "{error}");
}
