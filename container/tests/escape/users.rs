//! Who a process becomes, whatever an image's user files hold.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::support_oci::Bundle;

const FOREVER: &str = "while :; do sleep 0.05; done";

/// CVE-2026-30892: `exec --user 1` was root. CVE-2016-3697, CVE-2026-46680: a number is looked up as a name,
/// and an image whose user of that name is root makes it root. CVE-2024-40635: a number that no user can have
/// wraps around to root.
#[test]
fn a_number_of_a_user_is_that_user_or_nobody() {
    let Some(bundle) = Bundle::new(FOREVER, |_| {}) else {
        return;
    };
    let etc = bundle.rootfs().join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    let names = [
        "1",
        "1000",
        "4294967295",
        "4294967296",
        "-1",
        "9999999999999",
    ];
    let (mut passwd, mut group) = (String::new(), String::new());
    for name in names {
        passwd += &format!("{name}:x:0:0::/:/bin/sh\n");
        group += &format!("{name}:x:0:\n");
    }
    std::fs::write(etc.join("passwd"), passwd).unwrap();
    std::fs::write(etc.join("group"), group).unwrap();
    assert_eq!(bundle.create(), 0, "{}", bundle.log());
    bundle.oci(&["start", "ID"]).ok();
    let status = "sed -n 's/^[UG]id:\\t//p' /proc/self/status";
    let ids = |user: &str| bundle.oci(&["exec", "--user", user, "ID", "sh", "-c", status]);
    for (user, uid, gid) in [
        ("0", 0, 0),
        ("1", 1, 0),
        ("1:2", 1, 2),
        ("1000:1000", 1000, 1000),
        ("2147483648:4294967294", 2_147_483_648u32, 4_294_967_294u32),
    ] {
        let four = |number: u32| vec![number.to_string(); 4].join("\t");
        let expected = format!("{}\n{}\n", four(uid), four(gid));
        assert_eq!(ids(user).ok(), expected, "{user}");
    }
    for user in [
        "4294967295",
        "0:4294967295",
        "4294967296",
        "18446744073709551616",
        "9999999999999",
        "-1",
        "1:-1",
        "1:",
        ":1",
        ":",
        " 0",
        "0x0",
        "root",
    ] {
        let went = ids(user);
        assert_eq!(went.out, "", "{user}");
        went.failed();
    }
    // Whoever looks the name up is root.
    let looked_up = bundle.oci(&[
        "exec",
        "ID",
        "sh",
        "-c",
        "id -u ./1 || grep ^1000: /etc/passwd",
    ]);
    assert!(looked_up.out.contains("1000:x:0:0"), "{}", looked_up.out);
}

/// The same numbers in the configuration.
#[test]
fn a_configuration_s_number_that_is_no_user_is_refused() {
    for user in [
        json!({"uid": u32::MAX, "gid": 0}),
        json!({"uid": 0, "gid": u32::MAX}),
        json!({"uid": 1, "gid": 1, "additionalGids": [u32::MAX]}),
        json!({"uid": 1u64 << 32, "gid": 0}),
        json!({"uid": -1, "gid": 0}),
    ] {
        let Some(bundle) = Bundle::new("id -u", |spec| spec["process"]["user"] = user) else {
            return;
        };
        let went = bundle.oci(&["run", "ID"]);
        assert_eq!(went.out, "");
        let error = went.failed();
        assert!(error.contains("process.user."), "{error}");
        bundle.is_gone();
    }
}

/// The same of a bundle's configuration, which its maker wrote as well.
#[test]
fn a_configuration_without_an_end_is_not_read_to_it() {
    let Some(bundle) = Bundle::new("true", |_| {}) else {
        return;
    };
    let config = bundle.path().join("config.json");
    let read = || {
        let mut command = std::process::Command::new("prlimit");
        let runtime = bundle.command();
        command.args(["--as=500000000", "timeout", "-s", "KILL", "60"]);
        command.arg(runtime.get_program()).args(runtime.get_args());
        command.args(["run", &bundle.id]).current_dir(bundle.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    std::fs::remove_file(&config).unwrap();
    symlink("/dev/zero", &config).unwrap();
    assert!(read().contains("is larger than 16 MiB"), "{}", read());
    std::fs::remove_file(&config).unwrap();
    let file = std::fs::File::create(&config).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(read().contains("is larger than 16 MiB"), "{}", read());
}

/// CVE-2026-135844: a file of users without an end is read to its end, to find a home directory.
#[test]
fn a_file_of_users_without_an_end_is_not_read_to_it() {
    let Some(bundle) = Bundle::new("echo $HOME", |spec| {
        spec["process"]["env"] = json!(["PATH=/usr/bin:/bin"]);
    }) else {
        return;
    };
    let etc = bundle.rootfs().join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    let passwd = etc.join("passwd");
    let run = || {
        // Long before it would have come to the end.
        let mut command = std::process::Command::new("timeout");
        let runtime = bundle.command();
        command
            .args(["-s", "KILL", "60"])
            .arg(runtime.get_program());
        command.args(runtime.get_args()).args(["run", &bundle.id]);
        let output = command.current_dir(bundle.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let file = std::fs::File::create(&passwd).unwrap();
    file.set_len(1 << 40).unwrap();
    drop(file);
    assert_eq!(run(), "/\n");
    for endless in ["/dev/zero", "/proc/kmsg", "/proc/self/fd/0"] {
        std::fs::remove_file(&passwd).unwrap();
        symlink(endless, &passwd).unwrap();
        assert_eq!(run(), "/\n", "{endless}");
    }
    std::fs::remove_file(&passwd).unwrap();
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(run(), "/\n");
    // One with an end is read.
    std::fs::remove_file(&passwd).unwrap();
    std::fs::write(&passwd, "r:x:0:0::/tmp:\n").unwrap();
    assert_eq!(run(), "/tmp\n");
}
