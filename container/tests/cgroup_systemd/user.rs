//! A user's own manager, and the containers of that user.

use std::path::Path;
use std::process::{Command, Output};

use crate::booted::Systemd;

/// `nobody`: systemd wants one whom it can look up.
const USER: &str = "65534";
/// The group of the user's manager, which is the user's.
const MANAGER: &str = "system.slice/manager.service";

/// Starts the user's manager as `user@.service` does, with nothing to start in its turn.
const START: &str = r#"
set -e
mkdir -p /run/user/65534/systemd/user
printf '[Unit]\nDefaultDependencies=no\n' > /run/user/65534/systemd/user/ringside.target
chown -R 65534:65534 /run/user/65534
cat > /run/systemd/system/manager.service <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Type=notify
User=65534
Group=65534
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/65534 HOME=/run/user/65534
ExecStart=/lib/systemd/systemd --user --unit=ringside.target --log-target=null
UNIT
systemctl daemon-reload
systemctl start manager.service
"#;

/// A systemd, a manager of the user's in it, and a bundle that is the user's.
struct Session(Systemd);

impl Session {
    /// None, with the reason on standard error, where this host cannot.
    fn begin() -> Option<Self> {
        let systemd = Systemd::boot()?;
        let started = systemd.inside(&["sh", "-c", START]);
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success(), "{said}");
        Some(Self(systemd))
    }

    /// `script`, with the configuration for users and this limit of memory.
    fn configure(&self, script: &str, memory: u64) {
        let mut spec = ringside_container::runtime::default_spec(true);
        let user: u32 = USER.parse().unwrap();
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(["sh", "-c", script]);
        for name in ["uidMappings", "gidMappings"] {
            spec["linux"][name] =
                serde_json::json!([{"containerID": 0, "hostID": user, "size": 1}]);
        }
        spec["linux"]["resources"] = serde_json::json!({"memory": {"limit": memory}});
        let usr = serde_json::json!({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]});
        spec["mounts"].as_array_mut().unwrap().push(usr);
        let bundle = self.0.bundle.path();
        std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_ringside-oci"));
        for (command, arguments) in [
            ("cp", vec![program, &bundle.join("ringside-oci")]),
            ("chown", vec!["-R".as_ref(), USER.as_ref(), bundle]),
        ] {
            let status = Command::new(command).args(arguments).status();
            assert!(status.unwrap().success(), "{command}");
        }
    }

    /// Runs `ringside-oci` as the user, whose session is below the user's manager.
    fn oci(&self, arguments: &[&str]) -> Output {
        let own = [
            "env",
            "XDG_RUNTIME_DIR=/run/user/65534",
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "./ringside-oci",
            "--systemd-cgroup",
            "--root=/run/user/65534/oci",
        ];
        let group = format!("{MANAGER}/init.scope");
        self.0.inside_of(&group, &[&own, arguments].concat())
    }

    #[track_caller]
    fn oci_ok(&self, arguments: &[&str]) -> String {
        let out = self.oci(arguments);
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

#[test]
fn a_users_container_lives_in_a_scope_of_the_users_manager() {
    let Some(session) = Session::begin() else {
        return;
    };
    let scope = format!("{MANAGER}/user.slice/ringside-c1.scope");
    session.configure("exec sleep 1000", 64 << 20);
    session.oci_ok(&["run", "--detach", "c1"]);
    let file = |name: &str| session.0.file(&scope, name);
    assert_eq!(file("memory.max"), (64 << 20).to_string());
    assert_eq!(file("cgroup.procs").lines().count(), 1);

    session.oci_ok(&["update", "--memory", "33554432", "c1"]);
    assert_eq!(file("memory.max"), (32 << 20).to_string());
    session.oci_ok(&["pause", "c1"]);
    assert_eq!(file("cgroup.freeze"), "1");
    session.oci_ok(&["resume", "c1"]);
    assert_eq!(
        session.oci_ok(&["exec", "c1", "sh", "-c", "echo in"]),
        "in\n"
    );

    session.oci_ok(&["delete", "--force", "c1"]);
    let is_gone = || !session.0.path(&scope).exists();
    session.0.until("the scope is gone", is_gone);
}
