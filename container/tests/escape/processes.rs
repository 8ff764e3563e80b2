//! Ways out through processes: descriptors, directories and rights that the runtime leaves with them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::json;

use crate::support_oci::Bundle;
use crate::{SECRET, Treasure, grant, host};

const FOREVER: &str = "while :; do sleep 0.05; done";

/// The runtime, started by a shell that leaves it a directory of the host's as descriptor 7, and others before.
fn with_directory(bundle: &Bundle, treasure: &Treasure, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new("sh");
    let script = "exec 3< /dev/null 4<&3 5<&3 6<&3 7< \"$1\"; shift; exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(treasure.path());
    let runtime = bundle.command();
    command.arg(runtime.get_program()).args(runtime.get_args());
    let arguments = arguments
        .iter()
        .map(|it| if *it == "ID" { &bundle.id } else { *it });
    command.args(arguments).current_dir(bundle.path());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

/// CVE-2024-21626: a descriptor of the host's is still open in the container, or is its working directory.
#[test]
fn no_descriptor_of_the_host_s_is_left() {
    let treasure = Treasure::new();
    let script =
        "ls /proc/self/fd /proc/1/fd; cat /proc/self/fd/*/secret /proc/1/fd/*/secret ./secret";
    let Some(bundle) = Bundle::new(script, |_| {}) else {
        return;
    };
    let (out, _) = with_directory(&bundle, &treasure, &["run", "ID"]);
    assert!(out.contains("/proc/1/fd:\n0\n1\n2\n"), "{out}");
    assert!(!out.contains(SECRET), "{out}");
    // The caller may give it one, and then the attack works.
    let (out, _) = with_directory(&bundle, &treasure, &["run", "--preserve-fds", "5", "ID"]);
    assert!(out.contains(SECRET), "{out}");
}

#[test]
fn no_descriptor_is_a_working_directory() {
    let treasure = Treasure::new();
    for number in 0..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let Some(bundle) = Bundle::new("pwd; cat secret ../*/secret", |spec| {
            spec["process"]["cwd"] = json!(cwd);
        }) else {
            return;
        };
        for preserved in ["0", "5"] {
            let arguments = ["run", "--preserve-fds", preserved, "ID"];
            let (out, err) = with_directory(&bundle, &treasure, &arguments);
            assert_eq!(out, "", "descriptor {number}");
            assert!(
                err.contains("working directory") || err.contains("chdir"),
                "{err}"
            );
            bundle.is_gone();
        }
    }
    let Some(bundle) = Bundle::running(FOREVER, |_| {}) else {
        return;
    };
    for number in 0..20 {
        let cwd = format!("--cwd=/proc/self/fd/{number}");
        let arguments = ["exec", "--preserve-fds", "5", &cwd, "ID", "cat", "secret"];
        let (out, err) = with_directory(&bundle, &treasure, &arguments);
        assert_eq!(out, "", "descriptor {number}");
        assert!(err.contains("exec failed"), "{err}");
    }
    // A program is found there only by whoever was given the directory.
    let by_path = |preserved| {
        let arguments = [
            "exec",
            "--preserve-fds",
            preserved,
            "ID",
            "cat",
            "/proc/self/fd/7/secret",
        ];
        with_directory(&bundle, &treasure, &arguments).0
    };
    assert_eq!(by_path("0"), "");
    assert_eq!(by_path("5"), SECRET);
}

/// What a container's process does all the time to others that come: look behind their links for a file of
/// the host's, and write down which link led there.
fn watcher(treasure: &Treasure) -> String {
    let path = treasure.secret();
    let path = path.display();
    format!(
        "cd /proc; echo watching; while :; do for p in [2-9]* 1[0-9]*; do \
           for way in root cwd fd/3/root fd/3 fd/4 fd/5 fd/6 fd/7 fd/8 fd/9; do \
             if read -r it < $p/$way{path} 2>/dev/null || [ -n \"$it\" ]; then echo \"$way $it\"; it=; fi; \
           done; done; done 2>/dev/null"
    )
}

/// CVE-2016-9962: what joins a container is still the runtime for a moment; a process that is there already
/// looks at it then, and finds the host behind its root and its descriptors. With CAP_SYS_PTRACE in the
/// container, `PR_SET_DUMPABLE` stops nobody.
#[test]
fn whoever_joins_has_nothing_of_the_host_s() {
    for capabilities in [&[][..], &["CAP_SYS_PTRACE"]] {
        let treasure = Treasure::new();
        let Some(bundle) = Bundle::new(&watcher(&treasure), |spec| grant(spec, capabilities))
        else {
            return;
        };
        assert_eq!(bundle.create(), 0, "{}", bundle.log());
        bundle.oci(&["start", "ID"]).ok();
        while bundle.log() != "watching\n" {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        for _ in 0..40 {
            bundle.oci(&["exec", "ID", "true"]).ok();
        }
        let seen = bundle.log().lines().nth(1).map(str::to_owned);
        assert_eq!(seen, None, "with {capabilities:?}");

        // Whoever joins with the host behind it is seen, if the container may look.
        if !capabilities.is_empty() {
            let pid = bundle.state("pid");
            host(&format!("nsenter -t {pid} -p sleep 2"));
            assert!(bundle.log().contains(SECRET), "{}", bundle.log());
        }
    }
}

/// CVE-2022-29162, CVE-2022-27650: inheritable capabilities that nobody asked for come back to programs
/// with file capabilities.
#[test]
fn no_capability_is_inheritable_unasked() {
    let script = "grep -E 'Cap(Inh|Amb)' /proc/self/status";
    let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    let Some(bundle) = Bundle::running(&format!("{script}; {FOREVER}"), |_| {}) else {
        return;
    };
    let exec = |arguments: &[&str]| {
        let all = [&["exec"], arguments, &["ID", "sh", "-c", script]].concat();
        bundle.oci(&all).ok()
    };
    assert_eq!(exec(&[]), none);
    assert_eq!(
        exec(&["--cap", "CAP_KILL", "--cap", "CAP_SYS_PTRACE"]),
        none
    );
    assert_eq!(exec(&["--user", "7:7"]), none);
    assert_eq!(bundle.log(), none);

    let asked = Bundle::new(script, |spec| {
        spec["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    });
    let out = asked.unwrap().oci(&["run", "ID"]).ok();
    assert_eq!(
        out,
        none.replacen("0\nCapAmb", "20\nCapAmb", 1).replacen(
            "000000000000002",
            "00000000000002",
            1
        )
    );
}

/// CVE-2020-15257: a socket of the runtime's without a path can be reached from every container in the
/// host's network.
#[test]
fn the_socket_of_start_has_a_path_that_the_container_does_not_see() {
    let Some(bundle) = Bundle::new("cat /proc/net/unix", |spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|it| it["type"] != "network");
    }) else {
        return;
    };
    bundle.create();
    let sockets = host("cat /proc/net/unix");
    let ours: Vec<_> = sockets
        .lines()
        .filter(|it| it.contains(&bundle.id))
        .collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    let path = ours[0].split_whitespace().last().unwrap();
    assert!(path.starts_with('/'), "{path}");
    assert_eq!(host(&format!("stat -c %a \"$(dirname {path})\"")), "700\n");
    assert!(!bundle.rootfs().join(&path[1..]).exists());
    // When the container's program begins, it is gone.
    bundle.oci(&["start", "ID"]).ok();
    bundle.until("stopped");
    assert!(bundle.log().contains("RefCount"));
    assert!(!bundle.log().contains(&bundle.id));
}

/// A process that is left the caller's terminal types commands into it (TIOCSTI).
#[test]
fn the_caller_s_terminal_stays_behind() {
    let Some(bundle) = Bundle::new(
        "(: < /dev/tty) 2>/dev/null && echo has a terminal || echo has none",
        |_| {},
    ) else {
        return;
    };
    let in_terminal = |command: &Command| {
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .collect();
        let words: Vec<_> = words
            .iter()
            .map(|it| format!("'{}'", it.to_str().unwrap()))
            .collect();
        let mut script = Command::new("script");
        script.args(["-qec", &words.join(" "), "/dev/null"]);
        let output = script
            .current_dir(bundle.path())
            .process_group(0)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let mut command = bundle.command();
    command.args(["run", &bundle.id]);
    assert!(in_terminal(&command).contains("has none"));
    let mut control = Command::new("sh");
    control.args(["-c", "(: < /dev/tty) && echo has a terminal"]);
    assert!(in_terminal(&control).contains("has a terminal"));
}
