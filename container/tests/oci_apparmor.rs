//! A container under a profile of AppArmor's that the kernel has loaded.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::io::Write;
use std::process::{Command, Stdio};

use support_oci::Bundle;

/// A loaded profile that allows everything but one file; it goes when this is dropped.
struct Profile {
    name: String,
}

impl Profile {
    /// None, with the reason on standard error, where this host cannot.
    fn load(kind: &str) -> Option<Self> {
        let skip = |why: &str| {
            eprintln!("skipped: {why}");
            None
        };
        if !nix::unistd::geteuid().is_root() {
            return skip("needs root");
        }
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|it| it.starts_with(b"Y")) {
            return skip("this kernel has no AppArmor, or it is off");
        }
        if Command::new("apparmor_parser")
            .arg("--version")
            .output()
            .is_err()
        {
            return skip("there is no apparmor_parser; apt-get install apparmor");
        }
        let name = format!("ringside-test-{kind}-{}", std::process::id());
        let profile = Self { name };
        profile.tell("--add");
        Some(profile)
    }

    /// Has the parser add or remove it. The file system that it does that by may not be mounted.
    fn tell(&self, what: &str) {
        let script = "[ -e /sys/kernel/security/apparmor ] || mount -t securityfs none /sys/kernel/security; \
                      exec apparmor_parser --skip-cache --quiet \"$0\"";
        let mut parser = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, what])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let text = format!(
            "profile {} flags=(attach_disconnected,mediate_deleted) {{\n\
             file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,\n\
             deny /tmp/secret rw,\n}}\n",
            self.name
        );
        let mut input = parser.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        assert!(parser.wait().unwrap().success(), "{what} {text}");
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.tell("--remove");
    }
}

const CONFINEMENT: &str = "cat /proc/self/attr/apparmor/current";

#[test]
fn a_program_and_those_that_join_it_are_confined_by_the_profile() {
    let (Some(own), Some(other)) = (Profile::load("own"), Profile::load("other")) else {
        return;
    };
    let script = format!(
        "{CONFINEMENT}; echo x > /tmp/open && echo open; echo x > /tmp/secret || echo denied; sleep 1000"
    );
    let Some(bundle) = Bundle::new(&script, |spec| {
        spec["process"]["apparmorProfile"] = own.name.as_str().into();
        spec["linux"]["maskedPaths"] = serde_json::json!([]);
    }) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    for _ in 0..1000 {
        if bundle.log().contains("denied") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let log = bundle.log();
    let enforced = format!("{} (enforce)\n", own.name);
    assert!(log.starts_with(&enforced), "{log}");
    assert!(log.contains("open\n") && log.contains("denied\n"), "{log}");
    let joins = |options: &[&str]| {
        let exec = [&["exec"], options, &["ID", "sh", "-c", CONFINEMENT]].concat();
        bundle.oci(&exec).ok()
    };
    assert_eq!(joins(&[]), enforced);
    assert_eq!(
        joins(&["--apparmor", &other.name]),
        format!("{} (enforce)\n", other.name)
    );
    let missing = bundle.oci(&["exec", "--apparmor", "no-such-profile", "ID", "true"]);
    let missing = missing.failed();
    assert!(missing.contains("process.apparmorProfile"), "{missing}");
    bundle.oci(&["delete", "--force", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn a_profile_that_is_not_loaded_is_named_by_its_field() {
    let Some(bundle) = Bundle::new("echo ran", |spec| {
        spec["process"]["apparmorProfile"] = "no-such-profile".into();
    }) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(went.out, "");
    let error = went.failed();
    assert!(error.contains("`process.apparmorProfile`"), "{error}");
    bundle.is_gone();
}
