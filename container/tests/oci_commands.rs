//! What commands on a container do that podman, containerd and others give, and what they read.

mod support_oci;

use serde_json::{Value, json};
use support_oci::Bundle;

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

#[test]
fn what_was_created_ends_by_a_signal() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["kill", "ID", "TERM"]).ok();
    bundle.until("stopped");
    bundle.oci(&["delete", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn kill_ends_all_processes_where_there_is_no_init_to_take_them_along() {
    let Some(bundle) = Bundle::running("sleep 600 & sleep 600 & wait", |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| it["type"] != "pid");
    }) else {
        return;
    };
    let pids: Vec<i32> = loop {
        let pids = bundle.oci(&["ps", "--format", "json", "ID"]).ok();
        let pids: Vec<i32> = serde_json::from_str(&pids).unwrap();
        if pids.len() == 3 {
            break pids;
        }
    };
    bundle.oci(&["kill", "ID", "KILL"]).ok();
    bundle.until("stopped");
    let lives = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !(stat.is_empty() || stat.contains(") Z "))
    };
    assert_eq!(pids.iter().filter(|pid| lives(pid)).count(), 0);
    bundle.oci(&["kill", "--all", "ID", "0"]).ok();
    bundle.oci(&["delete", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn exec_enters_a_group_below_the_containers() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    for group in bundle.groups() {
        std::fs::create_dir(group.join("below")).unwrap();
        // In version 1 a new group has no processors until it is given some.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(all) = std::fs::read(group.join(file)) {
                let _ = std::fs::write(group.join("below").join(file), all);
            }
        }
    }
    let seen = bundle
        .oci(&[
            "exec",
            "--cgroup",
            "below",
            "ID",
            "cat",
            "/proc/self/cgroup",
        ])
        .ok();
    assert!(
        seen.lines().filter(|it| it.ends_with("/below")).count() > 0,
        "{seen}"
    );
    let top = bundle
        .oci(&["exec", "--cgroup", "/", "ID", "cat", "/proc/self/cgroup"])
        .ok();
    assert!(!top.contains("below"), "{top}");
    for (group, said) in [
        ("..", " .. is not a sub cgroup path"),
        ("..", "bad sub cgroup path"), // later runcs' words
        (
            "nowhere",
            "/nowhere/cgroup.procs: no such file or directory",
        ),
        ("whaaat:/", "unknown controller"),
    ] {
        let error = bundle
            .oci(&["exec", "--cgroup", group, "ID", "true"])
            .failed();
        assert!(error.contains(said), "{error}");
    }
    bundle.oci(&["delete", "--force", "ID"]).ok();
    bundle.is_gone();
}

#[test]
fn a_descriptor_of_the_process_is_sent_to_a_socket() {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    use std::os::fd::AsRawFd;
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    let receive = |listener: &std::os::unix::net::UnixListener| {
        let (stream, _) = listener.accept().unwrap();
        let (mut bytes, mut space) = ([0; 64], nix::cmsg_space!([i32; 1]));
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
        let fd = message.cmsgs().unwrap().find_map(|it| match it {
            ControlMessageOwned::ScmRights(list) => list.first().copied(),
            _ => None,
        });
        let fd = fd.unwrap();
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        drop(ringside_container::runtime::own_descriptor(fd));
        info
    };
    let path = bundle.path().join("pidfd");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let log = std::fs::File::create(bundle.path().join("log")).unwrap();
    let created = bundle
        .command()
        .args(["create", "--pidfd-socket", "pidfd", &bundle.id])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap();
    assert!(created.success());
    let pid = bundle.state("pid");
    assert!(receive(&listener).contains(&format!("Pid:\t{pid}\n")));
    bundle.oci(&["start", "ID"]).ok();
    bundle
        .oci(&[
            "exec",
            "ID",
            "--pidfd-socket",
            "pidfd",
            "--pid-file",
            "pid",
            "true",
        ])
        .ok();
    let pid = std::fs::read_to_string(bundle.path().join("pid")).unwrap();
    let info = receive(&listener);
    // It may have ended by now, and then has no number any more.
    assert!(
        info.contains(&format!("Pid:\t{pid}\n")) || info.contains("Pid:\t-1\n"),
        "{info}"
    );
}

/// Callers start it beside the runtime, which may be faster.
#[test]
fn whoever_receives_a_terminal_or_a_descriptor_may_come_a_moment_later() {
    for (option, has_terminal) in [("--console-socket", true), ("--pidfd-socket", false)] {
        let Some(bundle) = Bundle::new(FOREVER, |spec| {
            spec["process"]["terminal"] = has_terminal.into();
        }) else {
            return;
        };
        let path = bundle.path().join("socket");
        let log = std::fs::File::create(bundle.path().join("log")).unwrap();
        let mut command = bundle.command();
        command.args(["run", "-d", option]).arg(&path);
        command.arg(&bundle.id).stderr(log.try_clone().unwrap());
        let mut runs = command.stdout(log).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(runs.wait().unwrap().success(), "{}", bundle.log());
        drop(listener.accept().unwrap());
        bundle.oci(&["delete", "--force", "ID"]).ok();
        bundle.is_gone();
    }
}

#[test]
fn sockets_of_a_service_manager_are_passed_on() {
    let script = "echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | grep -cx 3";
    let Some(bundle) = Bundle::new(script, |_| {}) else {
        return;
    };
    let mut command = std::process::Command::new("sh");
    let line = "exec 3</dev/null; LISTEN_FDS=1 exec \"$0\" --root \"$1\" run \"$2\"";
    command.args(["-c", line, env!("CARGO_BIN_EXE_ringside-oci")]);
    command
        .arg(bundle.state_root())
        .arg(&bundle.id)
        .current_dir(bundle.path());
    let went = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&went.stdout), "1 1\n1\n");
    bundle.is_gone();
}

#[test]
fn events_are_one_a_line_and_end_with_the_container() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    let one = bundle.oci(&["events", "--stats", "ID"]).ok();
    assert!(
        one.starts_with(&format!(
            "{{\"type\":\"stats\",\"id\":\"{}\",\"data\":",
            bundle.id
        )),
        "{one}"
    );
    let event: Value = serde_json::from_str(one.trim()).unwrap();
    assert!(event["data"]["pids"]["current"].as_u64().unwrap() >= 1);
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    let mut events = bundle
        .command()
        .args(["events", "--interval", "20ms", &bundle.id])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(events.stdout.take().unwrap()));
    for _ in 0..3 {
        assert!(lines.next().unwrap().unwrap().contains("\"stats\""));
    }
    bundle.oci(&["delete", "--force", "ID"]).ok();
    assert!(lines.all(|line| line.unwrap().starts_with('{')));
    assert!(events.wait().unwrap().success());
    let error = bundle.oci(&["events", "ID"]).failed();
    assert!(error.contains("does not exist"), "{error}");
    let error = bundle.oci(&["events", "--interval", "soon", "ID"]).failed();
    assert!(error.contains("-interval"), "{error}");
}

#[test]
fn state_and_list_have_the_fields_in_their_order() {
    let Some(bundle) = Bundle::running(FOREVER, |spec| spec["annotations"] = json!({"k": "v"}))
    else {
        return;
    };
    let all = bundle.oci(&["list", "--format", "json"]).ok();
    let begins = format!(
        "[{{\"ociVersion\":\"1.3.0\",\"id\":\"{}\",\"pid\":",
        bundle.id
    );
    assert!(all.starts_with(&begins), "{all}");
    let state: Value = serde_json::from_str(&bundle.oci(&["state", "ID"]).ok()).unwrap();
    assert_eq!(
        (&state["annotations"]["k"], &state["owner"]),
        (&json!("v"), &json!("root"))
    );
    assert_eq!(
        state["rootfs"],
        json!(bundle.rootfs().canonicalize().unwrap())
    );
    let error = bundle.oci(&["list", "--format", "odd"]).failed();
    assert!(error.contains("odd"), "{error}");
}

#[test]
fn update_takes_limits_from_standard_input_and_options() {
    use std::io::Write;
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    let mut child = bundle
        .command()
        .args(["update", "--resources", "-", &bundle.id])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let limits = json!({"pids": {"limit": 50}}).to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(limits.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    let limit = || -> Value {
        let event: Value =
            serde_json::from_str(&bundle.oci(&["events", "--stats", "ID"]).ok()).unwrap();
        event["data"]["pids"]["limit"].clone()
    };
    assert_eq!(limit(), 50);
    bundle
        .oci(&[
            "update",
            "--pids-limit",
            "60",
            "--memory",
            "64m",
            "--cpu-share",
            "512",
            "ID",
        ])
        .ok();
    assert_eq!(limit(), 60);
    // The memory that it is beside is what it has.
    let alone = ["update", "--memory-swap", "96m", "ID"];
    bundle.oci(&alone).ok();
    // Sizes of huge pages have a name that is met in two ways.
    let named = |name: &str| {
        let limit = json!({"hugepageLimits": [{name: "3MB", "limit": 1}]});
        std::fs::write(bundle.path().join("limits.json"), limit.to_string()).unwrap();
        bundle
            .oci(&["update", "--resources", "limits.json", "ID"])
            .failed()
    };
    assert_eq!(named("pageSize"), named("pagesize"));
    for idle in ["-1", "2"] {
        let error = bundle.oci(&["update", "--cpu-idle", idle, "ID"]).failed();
        assert!(error.contains("linux.resources.cpu.idle"), "{error}");
    }
}

#[test]
fn a_mount_that_may_fail_is_left_out_where_its_source_is_not() {
    let mounts = |options: serde_json::Value| {
        Bundle::new("ls -d /tmp/there /tmp/gone", move |spec| {
            let all = spec["mounts"].as_array_mut().unwrap();
            all.push(json!({"destination": "/tmp/there", "type": "bind", "source": "/usr", "options": options}));
            all.push(json!({"destination": "/tmp/gone", "type": "bind", "source": "/no/such", "options": options}));
        })
    };
    let Some(bundle) = mounts(json!(["rbind", "nofail"])) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(went.out, "/tmp/there\n", "{}", went.err);
    bundle.is_gone();
    let Some(bundle) = mounts(json!(["rbind"])) else {
        return;
    };
    let error = bundle.oci(&["run", "ID"]).failed();
    assert!(error.contains("/no/such"), "{error}");
    bundle.is_gone();
}

#[test]
fn all_whose_names_match_are_deleted() {
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    let other = format!("{}-other", bundle.id);
    let detached = |id: &str| {
        let mut command = bundle.command();
        command.args(["run", "--detach", id]);
        let nothing = std::process::Stdio::null;
        command.stdout(nothing()).stderr(nothing()).status()
    };
    assert!(detached(&other).unwrap().success());
    let error = bundle.oci(&["delete", "--regex", "("]).failed();
    assert!(error.contains("invalid regular expression"), "{error}");
    bundle.oci(&["delete", "--regex", "no-such"]).ok();
    let names = |bundle: &Bundle| bundle.oci(&["list", "--quiet"]).ok().lines().count();
    assert_eq!(names(&bundle), 2);
    bundle
        .oci(&["delete", "--force", "--regex", "^ringside-t.*-other$"])
        .ok();
    assert_eq!(names(&bundle), 1);
    bundle
        .oci(&["delete", "--force", "--regex", "ringside*"])
        .ok();
    assert_eq!(names(&bundle), 0);
}
