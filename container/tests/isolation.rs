//! What a container cannot see or reach: one test for each namespace, and for what no namespace divides.

mod support;

use support::{host_says, is_root, output, says, shell};

#[test]
fn every_namespace_is_its_own() {
    if !is_root() {
        return;
    }
    let script = "for kind in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$kind; done";
    let (inside, outside) = (says(script), host_says(script));
    assert_eq!(inside.lines().count(), 6);
    for (inside, outside) in inside.lines().zip(outside.lines()) {
        assert_ne!(inside, outside);
    }
}

#[test]
fn its_processes_are_init_and_what_init_started() {
    if !is_root() {
        return;
    }
    assert_eq!(says("echo $$"), "2\n");
    let numbers = says("cd /proc; echo [0-9]*");
    assert!(
        numbers
            .split_whitespace()
            .all(|number| number.parse::<u32>().is_ok_and(|number| number < 10)),
        "{numbers}"
    );
    // The host's processes have numbers too, but not here.
    let script = format!("kill -0 {} 2>/dev/null", std::process::id() + 100_000);
    assert!(!output(&shell(&script)).unwrap().status.is_success());
}

#[test]
fn its_hostname_is_its_own() {
    if !is_root() {
        return;
    }
    let before = host_says("hostname");
    let mut config = shell("hostname; hostname changed 2>/dev/null; hostname");
    config.hostname = "pony".into();
    // Without CAP_SYS_ADMIN it cannot even change its own.
    assert_eq!(output(&config).unwrap().stdout, "pony\npony\n");
    assert_eq!(host_says("hostname"), before);
}

#[test]
fn its_shared_memory_is_its_own() {
    if !is_root() {
        return;
    }
    let id = host_says("ipcmk -Q | tr -dc 0-9");
    assert!(host_says("ipcs -q").contains(&id), "the host has the queue");
    let queues = says("ipcs -q | grep -c 0x || true");
    host_says(&format!("ipcrm -q {id}"));
    assert_eq!(queues, "0\n");
}

#[test]
fn its_only_interface_is_a_loopback_that_works() {
    if !is_root() {
        return;
    }
    assert_eq!(says("ls /sys/class/net"), "lo\n");
    assert_eq!(says("cat /sys/class/net/lo/flags"), "0x9\n");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!(
        "perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0);exit !connect(S,sockaddr_in({port},inet_aton(\"127.0.0.1\")))'"
    );
    assert!(
        !output(&shell(&connect)).unwrap().status.is_success(),
        "the host's port answers inside"
    );
    let own = "perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0);bind(S,sockaddr_in(7,INADDR_LOOPBACK));listen(S,1);socket(T,PF_INET,SOCK_STREAM,0);exit !connect(T,sockaddr_in(7,INADDR_LOOPBACK))'";
    assert!(
        output(&shell(own)).unwrap().status.is_success(),
        "its own port does not answer"
    );
}

#[test]
fn its_cgroup_looks_like_the_topmost() {
    if !is_root() {
        return;
    }
    let mut config = shell("cut -d: -f3 /proc/self/cgroup | sort -u");
    config.limits.pids = Some(20);
    assert_eq!(output(&config).unwrap().stdout, "/\n");
}

#[test]
fn the_kernel_s_switches_and_secrets_are_shut() {
    if !is_root() {
        return;
    }
    for script in [
        "echo 1 > /proc/sys/vm/drop_caches",
        "echo h > /proc/sysrq-trigger",
        "echo x > /sys/kernel/uevent_helper",
        "mkdir /sys/fs/x",
        "mount -t tmpfs none /mnt",
        "mknod /tmp/disk b 254 0",
        "mknod /dev/kmsg c 1 11",
        "hostname x",
        "readlink /proc/1/exe",
        "readlink /proc/1/fd/3",
        "cat /proc/1/environ",
        "ls /proc/1/root/",
        "ls -A /sys/firmware | grep .",
        "chroot / sh -c 'umount /proc'",
        "unshare -m true",
    ] {
        let output = output(&shell(&format!("{script} 2>/dev/null"))).unwrap();
        assert!(
            !output.status.is_success(),
            "`{script}` succeeds in a container"
        );
    }
    assert_eq!(
        says("wc -c < /proc/keys; wc -c < /proc/timer_list"),
        "0\n0\n"
    );
}

#[test]
fn it_has_a_minimal_dev_of_its_own() {
    if !is_root() {
        return;
    }
    let devices = says("cd /dev; ls");
    assert_eq!(
        devices.split_whitespace().collect::<Vec<_>>(),
        [
            "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
            "tty", "urandom", "zero"
        ]
    );
    assert_eq!(
        says("echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c"),
        "4\n5\n"
    );
    assert_eq!(
        says("stat -c %a /dev/null /dev/shm /dev/pts/ptmx"),
        "666\n1777\n666\n"
    );
}

#[test]
fn no_descriptor_of_the_host_s_comes_along() {
    if !is_root() {
        return;
    }
    // Without close-on-exec, as a shell leaves one behind.
    let file = std::fs::File::open("/").unwrap();
    let leaked = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(30)).unwrap();
    let listed = says("ls /proc/self/fd; ls /proc/$$/fd");
    assert!(leaked >= 30);
    assert!(
        listed
            .split_whitespace()
            .all(|fd| fd.parse::<u32>().is_ok_and(|fd| fd < 20)),
        "{listed}"
    );
}

#[test]
fn its_root_keeps_only_harmless_capabilities() {
    if !is_root() {
        return;
    }
    let status = says("grep -E 'Cap|NoNewPrivs' /proc/self/status");
    let value = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap()
            .trim()
            .to_owned()
    };
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        let bits = u64::from_str_radix(&value(set), 16).unwrap();
        assert_eq!(
            bits & !ringside_container::plan::KEPT_CAPABILITIES,
            0,
            "{set}"
        );
    }
    assert_eq!(value("CapInh:"), "0000000000000000");
    assert_eq!(value("NoNewPrivs:"), "1");
}

#[test]
fn it_starts_with_the_caller_s_environment_directory_and_mask() {
    if !is_root() {
        return;
    }
    let mut config = shell("echo $A; pwd; umask; env | wc -l");
    config.env.push(("A".into(), "b c".into()));
    config.cwd = "/usr/bin".into();
    let umask = host_says("umask");
    // PATH and A, and PWD, which the shell adds.
    assert_eq!(
        output(&config).unwrap().stdout,
        format!("b c\n/usr/bin\n{umask}3\n")
    );
}
