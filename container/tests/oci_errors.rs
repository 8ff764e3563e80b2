//! What goes wrong in the child is told by the command, on its last line: what, where, why, and what the
//! reader can do about it. Nothing is left of the container.

#[expect(dead_code, reason = "what other tests of bundles use")]
mod support_oci;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use support_oci::Bundle;

/// A program of the host's, whose bytes a test changes.
fn program() -> Vec<u8> {
    std::fs::read("/bin/true").unwrap()
}

/// `from` replaced by `to`, which is as long.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|it| it == from);
    let at = at.expect("it is there");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

/// Runs `/w/x` of a bundle that has these bytes there; gives the last line of the error.
fn last_line(command: &str, bytes: &[u8], mode: u32) -> Option<String> {
    let bundle = Bundle::new("", |spec| {
        if let [name, rest @ ..] = &command.split(' ').collect::<Vec<_>>()[..] {
            spec["process"]["args"] = [&[*name], rest].concat().into();
        }
        spec["process"]["env"] = json!(["PATH=/w:/nowhere"]);
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/n", "type": "bind", "source": "rootfs/w", "options": ["bind", "noexec"]}));
    })?;
    let directory = bundle.rootfs().join("w");
    std::fs::create_dir_all(directory.join("d")).unwrap();
    write(&directory.join("x"), bytes, mode);
    write(&directory.join("plain"), b"echo\n", 0o644);
    write(&directory.join("script"), b"#!/no/perl\n", 0o755);
    nix::unistd::mkfifo(&directory.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = bundle.oci(&["run", "ID"]).failed();
    bundle.is_gone();
    // `create` and `start` together say the same.
    let status = bundle.create();
    let created = if status == 0 {
        bundle.oci(&["start", "ID"]).failed()
    } else {
        bundle.log()
    };
    let last = |text: &str| text.lines().last().unwrap_or_default().to_owned();
    assert_eq!(last(&created), last(&error));
    if status == 0 {
        bundle.oci(&["delete", "ID"]).ok();
    }
    bundle.is_gone();
    Some(last(&error))
}

fn write(path: &Path, bytes: &[u8], mode: u32) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_program_that_does_not_start_says_which_way() {
    let loader: &[u8] = b"/lib64/ld-linux-x86-64.so.2";
    let mut other_machine = program();
    other_machine[18..20].copy_from_slice(&183u16.to_le_bytes());
    let script = b"#!/bin/sh\necho\n".to_vec();
    let cases: [(&str, Vec<u8>, u32, &[&str]); 14] = [
        (
            "/w/none",
            script.clone(),
            0o755,
            &["\"/w/none\" is not there", "no such file or directory"],
        ),
        (
            "none",
            script.clone(),
            0o755,
            &["PATH (/w, /nowhere)", "executable file not found in $PATH"],
        ),
        (
            "/w/d",
            script.clone(),
            0o755,
            &["is a directory", "permission denied"],
        ),
        (
            "/w/x",
            script.clone(),
            0o644,
            &["chmod +x", "permission denied"],
        ),
        (
            "/n/x",
            script.clone(),
            0o755,
            &["is on a mount with noexec", "permission denied"],
        ),
        (
            "x",
            b"#!/bin/sh\r\necho\r\n".to_vec(),
            0o755,
            &["Windows line ends", "\"/bin/sh\"", "dos2unix"],
        ),
        (
            "x",
            b"#!/no/perl -w\n".to_vec(),
            0o755,
            &[
                "interpreter \"/no/perl\" is not",
                "no such file or directory",
            ],
        ),
        (
            "x",
            b"#!/w/plain\n".to_vec(),
            0o755,
            &["interpreter \"/w/plain\" may not", "permission denied"],
        ),
        (
            "x",
            b"#!/w/script\n".to_vec(),
            0o755,
            &[
                "\"/w/x\" is there",
                "interpreter \"/no/perl\" is not",
                "no such file or directory",
            ],
        ),
        (
            "x",
            b"#!/w/x\n".to_vec(),
            0o755,
            &["leads in a circle", "too many levels of symbolic links"],
        ),
        (
            "/w/fifo",
            script.clone(),
            0o755,
            &["is a FIFO, a socket or a device", "permission denied"],
        ),
        (
            "x",
            replaced(program(), loader, b"/lib64/ld-none0-x86-64.so.2"),
            0o755,
            &[
                "loader \"/lib64/ld-none0-x86-64.so.2\" is not",
                "no such file",
            ],
        ),
        (
            "x",
            other_machine,
            0o755,
            &["is a program for aarch64", "x86_64", "exec format error"],
        ),
        (
            "x",
            b"echo\n".to_vec(),
            0o755,
            &[
                "neither a program for this machine nor a script",
                "exec format error",
            ],
        ),
    ];
    for (command, bytes, mode, parts) in cases {
        let Some(last) = last_line(command, &bytes, mode) else {
            return;
        };
        for part in parts {
            assert!(last.contains(part), "{part:?} is not in {last}");
        }
        assert!(last.contains("; "), "no remedy in {last}");
    }
}

/// Adds a mount, at /x unless it says.
fn mount(spec: &mut serde_json::Value, mut mount: serde_json::Value) {
    if mount["destination"].is_null() {
        mount["destination"] = json!("/x");
    }
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn a_step_that_the_kernel_refuses_names_field_path_errno_and_remedy() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &[&str]); 12] = [
        (
            |spec| mount(spec, json!({"type": "nofs", "source": "x"})),
            &[
                "mount /x (`mounts[",
                "ROOT/x",
                "\"nofs\"",
                "ENODEV",
                "; this kernel has no such file system",
            ],
        ),
        (
            |spec| spec["process"]["cwd"] = json!("/usr/bin/env"),
            &["chdir(\"/usr/bin/env\")", "ENOTDIR", "; name a directory"],
        ),
        (
            |spec| spec["linux"]["sysctl"] = json!({"net.no.such": "1"}),
            &[
                "(`linux.sysctl.net.no.such`)",
                "/proc/sys/net/no/such",
                "ENOENT",
                "; this kernel has no such parameter",
            ],
        ),
        (
            |spec| spec["linux"]["namespaces"][1]["path"] = json!("/proc/1/ns/none"),
            &[
                "linux.namespaces[1].path",
                "/proc/1/ns/none",
                "ENOENT",
                "; name a namespace's file",
            ],
        ),
        (
            |spec| {
                spec["hooks"] = json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 4"]}]})
            },
            &["createContainer hook #0", "/bin/sh", "exit status: 4"],
        ),
        (
            |spec| spec["hooks"] = json!({"startContainer": [{"path": "/no/hook"}]}),
            &[
                "startContainer hook #0",
                "/no/hook",
                "`hooks.startContainer[0]`",
                "ENOENT",
                "; ",
            ],
        ),
        (
            |spec| mount(spec, json!({"type": "bind", "source": "/no/source"})),
            &[
                "mount /x (`mounts[",
                "\"/no/source\"",
                "ENOENT",
                "; what it binds is not there",
            ],
        ),
        (
            // A directory of the root's, under a file.
            |spec| {
                mount(
                    spec,
                    json!({"destination": "/tmp", "type": "bind", "source": "config.json"}),
                )
            },
            &["mount /tmp (`mounts[", "ENOTDIR", "; a file fits on a file"],
        ),
        (
            // The kernel's files have the owners that they have.
            |spec| {
                let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
                let mapped = json!({"type": "bind", "source": "/proc", "uidMappings": map, "gidMappings": map});
                mount(spec, mapped)
            },
            &["mount /x (`mounts[", "EINVAL", "; its file system cannot"],
        ),
        (
            |spec| {
                let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({"type": "time"}));
                spec["linux"]["timeOffsets"] = json!({"monotonic": {"secs": -4_000_000_000i64}});
            },
            &["(`linux.timeOffsets`)", "ERANGE", "; no clock goes below"],
        ),
        (
            |spec| {
                let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
                namespaces.push(json!({"type": "user"}));
                let map = json!({"containerID": 0, "hostID": 1, "size": 9});
                spec["linux"]["uidMappings"] = json!([map, map]);
                spec["linux"]["gidMappings"] = json!([map]);
            },
            &["(`linux.uidMappings`)", "EINVAL", "; each number may be"],
        ),
        (
            |spec| {
                let sets = &mut spec["process"]["capabilities"];
                *sets = json!({"inheritable": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]});
            },
            &["capset(", "EPERM", "; what is inheritable has to be in"],
        ),
    ];
    for (change, parts) in cases {
        let Some(bundle) = Bundle::new("", change) else {
            return;
        };
        let error = bundle.oci(&["run", "ID"]).failed();
        let last = error.lines().last().unwrap_or_default();
        for part in parts {
            assert!(last.contains(part), "{part:?} is not in {error}");
        }
        bundle.is_gone();
    }
}

/// Too little memory for init itself: the kernel kills it before it has said anything.
#[test]
fn an_init_without_a_word_is_told_all_the_same() {
    let Some(bundle) = Bundle::new("echo ran", |spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 4096});
    }) else {
        return;
    };
    let went = bundle.oci(&["run", "ID"]);
    assert_eq!(went.out, "");
    let error = went.failed();
    assert!(
        error.contains("memory"),
        "neither an out-of-memory kill nor a limit is told of: {error}"
    );
    bundle.is_gone();
}

/// Who reads standard error is a program then, which knows runc's line and no other; the person at the terminal
/// reads what runc does not tell. Callers' logs have it as well.
#[test]
fn a_person_at_the_terminal_reads_the_reason_where_a_program_reads_the_line_of_runc() {
    let Some(bundle) = Bundle::new("", |spec| spec["process"]["args"] = json!(["/x"])) else {
        return;
    };
    write(&bundle.rootfs().join("x"), b"#!/no/perl -w\n", 0o755);
    let reason = "\"/x\" is there, but its interpreter \"/no/perl\" is not";
    let pair = nix::pty::openpty(None, None).unwrap();
    let log = bundle.path().join("runtime.log");
    let mut command = bundle.command();
    command.arg("--log").arg(&log).args(["run", &bundle.id]);
    let output = command.stdin(pair.slave).output().unwrap();
    drop(command); // and with it the last end of the slave
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "exec /x: no such file or directory\n"
    );
    let mut terminal = [0; 1024];
    let length = nix::unistd::read(&pair.master, &mut terminal).unwrap();
    let terminal = String::from_utf8_lossy(&terminal[..length]);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(terminal.contains(reason), "{terminal}");
    assert!(log.contains(&reason.replace('"', "\\\"")), "{log}");
    bundle.is_gone();
}
