//! The process itself: its limits, its user, its rights, its processors and its memory.

use serde_json::{Value, json};

use crate::support_oci::Bundle;
use crate::{add, inside};

const FOREVER: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

/// Scripts that look at one thing each, what is asked for, and what they see.
#[test]
fn each_field_of_a_process_is_seen_from_inside() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 11] = [
        (
            "ulimit -n; ulimit -Hn",
            |it| {
                it["process"]["rlimits"] =
                    json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}])
            },
            "77\n88\n",
        ),
        (
            "cat /proc/self/oom_score_adj; umask; touch /tmp/f; stat -c %a /tmp/f",
            |it| {
                it["process"]["oomScoreAdj"] = 555.into();
                it["process"]["user"]["umask"] = 0o27.into();
            },
            "555\n0027\n640\n",
        ),
        (
            "id -u; id -g; id -G; echo $HOME",
            |it| {
                it["process"]["user"] =
                    json!({"uid": 65534, "gid": 65533, "additionalGids": [12, 34]})
            },
            "65534\n65533\n65533 12 34\n/\n",
        ),
        (
            "uname -m",
            |it| it["linux"]["personality"] = json!({"domain": "LINUX32"}),
            "i686\n",
        ),
        (
            "chrt -p $$ | sed 's/.*: //'",
            |it| it["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7}),
            "SCHED_BATCH\n0\n",
        ),
        (
            "ionice",
            |it| it["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
            "best-effort: prio 6\n",
        ),
        (
            "echo $A-$B",
            |it| it["process"]["env"] = json!(["PATH=/usr/bin:/bin", "A=1", "B=2", "A=3"]),
            "3-2\n",
        ),
        (
            "grep -E 'Cap|NoNew' /proc/self/status | cut -f2",
            |it| {
                it["process"]["noNewPrivileges"] = false.into();
                it["process"]["user"] = json!({"uid": 7, "gid": 7});
                it["process"]["capabilities"] = json!({
                    "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SYSLOG"],
                    "permitted": ["CAP_CHOWN", "CAP_KILL"],
                    "inheritable": ["CAP_CHOWN"],
                    "effective": ["CAP_CHOWN"],
                    "ambient": ["CAP_CHOWN"],
                });
            },
            // Through `execve` an ordinary user keeps what is ambient.
            "0000000000000001\n0000000000000001\n0000000000000001\n0000000400000021\n0000000000000001\n0\n",
        ),
        (
            "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax; cat /proc/sys/kernel/domainname",
            |it| {
                it["linux"]["sysctl"] =
                    json!({"net.ipv4.ip_unprivileged_port_start": "80", "kernel.msgmax": "9000"});
                it["domainname"] = "ring".into();
            },
            "80\n9000\nring\n",
        ),
        (
            "grep Cpus_allowed_list /proc/self/status | cut -f2",
            // Only what joins by `exec` goes to processors of its own.
            |it| it["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"}),
            "ALL\n",
        ),
        (
            "stat -c '%t:%T %a %u %g %F' /dev/mine; stat -c %F /dev/pipe; readlink /dev/stdin",
            |it| {
                add(
                    it,
                    "/linux/resources/devices",
                    json!({"allow": true, "type": "c", "access": "rwm"}),
                );
                it["linux"]["devices"] = json!([
                    {"type": "c", "path": "/dev/mine", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
                    {"type": "p", "path": "/dev/pipe", "fileMode": 0o600}
                ]);
            },
            "1:3 640 3 4 character special file\nfifo\n/proc/self/fd/0\n",
        ),
    ];
    for (script, change, expected) in cases {
        let Some(out) = inside(script, change) else {
            return;
        };
        let all = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
        let expected = if expected == "ALL\n" { &all } else { expected };
        assert_eq!(&out, expected, "{script}");
    }
}

#[test]
fn exec_goes_to_its_processors_and_to_the_containers_personality() {
    let Some(bundle) = Bundle::running(FOREVER, |spec| {
        spec["linux"]["personality"] = json!({"domain": "LINUX32"});
        spec["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    }) else {
        return;
    };
    bundle.until("running");
    let script = "uname -m; grep Cpus_allowed_list /proc/self/status | cut -f2";
    assert_eq!(
        bundle.oci(&["exec", "ID", "sh", "-c", script]).ok(),
        "i686\n0\n"
    );
    let odd = json!({"args": ["true"], "cwd": "/", "execCPUAffinity": {"final": "3-1"}});
    std::fs::write(bundle.path().join("odd.json"), odd.to_string()).unwrap();
    let error = bundle
        .oci(&["exec", "--process", "odd.json", "ID"])
        .failed();
    assert!(
        error.contains("odd.json: `execCPUAffinity.final`"),
        "{error}"
    );
}

#[test]
fn its_pages_come_from_the_nodes_of_its_policy_and_exec_joins_in() {
    let command = "head -1 /proc/self/numa_maps | cut -d' ' -f2";
    let Some(bundle) = Bundle::new(&format!("{command}; sleep 60"), |spec| {
        spec["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    }) else {
        return;
    };
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    let exec = bundle.oci(&["exec", "ID", "sh", "-c", command]).ok();
    assert_eq!(exec, "bind=static:0\n");
    for _ in 0..1000 {
        if bundle.log().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    bundle.oci(&["delete", "--force", "ID"]).ok();
    assert_eq!(bundle.log(), "bind=static:0\n");

    let Some(refused) = Bundle::new("true", |spec| {
        spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_DEFAULT", "nodes": "0"});
    }) else {
        return;
    };
    let error = refused.oci(&["run", "ID"]).failed();
    assert!(
        error.contains("`linux.memoryPolicy`") && error.contains("has_memory"),
        "{error}"
    );
    refused.is_gone();
}
