//! Filters of system calls.

use serde_json::{Value, json};

use crate::inside;
use crate::support_oci::Bundle;

/// A profile that allows all but what `rules` say.
fn filter(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}

#[test]
fn the_listener_of_a_filter_goes_to_whoever_listens() {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::os::fd::AsRawFd;
    // Whoever is named is told, even when nothing is asked.
    for (no_new_privileges, action, said) in [
        (false, "SCMP_ACT_NOTIFY", "1\n"),
        (true, "SCMP_ACT_NOTIFY", "1\n"),
        (true, "SCMP_ACT_ALLOW", "0\n"),
    ] {
        let mut path = Value::Null;
        let Some(bundle) = Bundle::new("mkdir /tmp/x 2>/dev/null; echo $?", |spec| {
            spec["process"]["noNewPrivileges"] = no_new_privileges.into();
            spec["linux"]["seccomp"] =
                filter(json!([{"names": ["mkdir", "mkdirat"], "action": action}]));
            spec["annotations"] = json!({"a": "b"});
        }) else {
            return;
        };
        let socket = bundle.path().join("agent");
        path.clone_from(&json!(socket));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let config = bundle.path().join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        spec["linux"]["seccomp"]["listenerPath"] = path;
        spec["linux"]["seccomp"]["listenerMetadata"] = "note".into();
        std::fs::write(&config, spec.to_string()).unwrap();
        let agent = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let (mut bytes, mut space) = ([0; 4096], nix::cmsg_space!([i32; 2]));
            let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message =
                recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
            let descriptors = message.cmsgs().unwrap().filter_map(|it| match it {
                ControlMessageOwned::ScmRights(list) => Some(list),
                _ => None,
            });
            let descriptors: Vec<i32> = descriptors.flatten().collect();
            let length = message.bytes;
            // Nobody answers: when the last copy is closed, such calls fail with ENOSYS.
            for fd in &descriptors {
                drop(ringside_container::runtime::own_descriptor(*fd));
            }
            let state: Value = serde_json::from_slice(&bytes[..length]).unwrap();
            (state, descriptors.len())
        });
        // Before the start: whoever decides is there when the program comes.
        assert_eq!(bundle.create(), 0, "{}", bundle.log());
        let (state, descriptors) = agent.join().unwrap();
        bundle.oci(&["start", "ID"]).ok();
        bundle.until("stopped");
        assert_eq!(bundle.log(), said);
        bundle.oci(&["delete", "ID"]).ok();
        assert_eq!(descriptors, 1);
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "note");
        assert_eq!(state["ociVersion"], "0.2.0");
        assert_eq!(state["state"]["ociVersion"], "1.3.0");
        assert_eq!(state["state"]["id"], bundle.id.as_str());
        assert_eq!(state["state"]["annotations"]["a"], "b");
        assert_eq!(state["pid"], state["state"]["pid"]);
        bundle.is_gone();
    }
}

#[test]
fn a_listener_that_is_not_there_is_missed_only_when_something_is_asked() {
    for (action, is_missed) in [("SCMP_ACT_ALLOW", false), ("SCMP_ACT_NOTIFY", true)] {
        let Some(bundle) = Bundle::new("echo ran", |spec| {
            let mut seccomp = filter(json!([{"names": ["mkdir"], "action": action}]));
            seccomp["listenerPath"] = "/no/such/agent".into();
            spec["linux"]["seccomp"] = seccomp;
        }) else {
            return;
        };
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.out, if is_missed { "" } else { "ran\n" });
        assert_eq!(
            went.err.contains("seccomp agent"),
            is_missed,
            "{}",
            went.err
        );
        bundle.is_gone();
    }
}

#[test]
fn filters_that_cannot_be_are_refused_by_their_field() {
    let notify = |names: Value| json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]);
    for (seccomp, field) in [
        (
            filter(notify(json!(["mkdir"]))),
            "linux.seccomp.listenerPath",
        ),
        (
            filter(notify(json!(["mkdir", "write"]))),
            "linux.seccomp.syscalls[0].names",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            "linux.seccomp.defaultAction",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}),
            "linux.seccomp.flags[0]",
        ),
    ] {
        let Some(bundle) = Bundle::new("echo ran", |spec| spec["linux"]["seccomp"] = seccomp)
        else {
            return;
        };
        let error = bundle.oci(&["run", "ID"]).failed();
        assert!(error.contains(&format!("`{field}`")), "{error}");
        bundle.is_gone();
    }
}

#[test]
fn several_conditions_on_one_argument_are_alternatives() {
    let out = inside(
        "chmod 640 /tmp && echo a; chmod 600 /tmp && echo b; chmod 700 /tmp && echo c",
        |spec| {
            let is = |value: u32| json!({"index": 2, "value": value, "op": "SCMP_CMP_EQ"});
            let rule = json!({"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "args": [is(0o640), is(0o600)]});
            spec["linux"]["seccomp"] = filter(json!([rule]));
            spec["linux"]["seccomp"]["flags"] =
                json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
        },
    );
    assert!(out.is_none_or(|out| out == "c\n"));
}

#[test]
fn a_filter_may_forbid_to_ask_for_the_directory() {
    for no_new_privileges in [false, true] {
        let out = inside("readlink /proc/$$/cwd", |spec| {
            spec["process"]["noNewPrivileges"] = no_new_privileges.into();
            spec["process"]["cwd"] = "/tmp".into();
            let rule = json!({"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"});
            spec["linux"]["seccomp"] = filter(json!([rule]));
        });
        assert!(out.is_none_or(|out| out == "/tmp\n"));
    }
}

/// Profiles older than `faccessat2` allow what they know: the program is found all the same.
#[test]
fn a_filter_may_forbid_the_call_that_looks_for_the_program() {
    let rules = json!([{"names": ["faccessat2"], "action": "SCMP_ACT_ERRNO"}]);
    let Some(bundle) = Bundle::new("echo ran", |spec| {
        spec["process"]["noNewPrivileges"] = false.into();
        spec["linux"]["seccomp"] = filter(rules);
    }) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    bundle.until("stopped");
    assert_eq!(bundle.log(), "ran\n");
    bundle.oci(&["delete", "ID"]).ok();
    bundle.is_gone();
}

/// Also those that the kernel takes with a listener only, or without one only.
#[test]
fn every_flag_that_is_said_to_be_supported_is_taken() {
    let features = ringside_container::runtime::features();
    let flags = features["linux"]["seccomp"]["supportedFlags"].clone();
    assert!(!flags.to_string().contains("WAIT_KILLABLE"), "{flags}"); // taken beside a listener only
    let each = flags.as_array().unwrap().iter().map(|flag| json!([flag]));
    for flags in each.chain([flags.clone()]) {
        let Some(out) = inside("grep ^Seccomp: /proc/self/status", |spec| {
            spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags,
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
        }) else {
            return;
        };
        assert_eq!(out, "Seccomp:\t2\n", "{flags}");
    }
}
