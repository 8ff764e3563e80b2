//! Limits that bite, and limits that are refused by name.

mod support;

use ringside_container::{ExitStatus, Limits};
use support::{is_root, output, piped, shell, text};

#[test]
fn memory_beyond_the_limit_kills_inside_the_container() {
    if !is_root() {
        return;
    }
    let mut config = shell(
        "tail -c 200M /dev/zero | tail -c 1 | wc -c; head -c 200M /dev/zero | tail -c 150M >/dev/null; echo survived",
    );
    config.limits.memory_bytes = Some(32 << 20);
    let script = "head -c 100M /dev/zero | tail -c 100M > /dev/null";
    config.command = vec![
        "sh".into(),
        "-c".into(),
        format!("{script}; echo $?").into(),
    ];
    let output = output(&config).unwrap();
    // `tail` keeps what it will print in memory: it dies of SIGKILL, and its shell tells.
    assert_eq!(output.stdout, "137\n", "{output:?}");
}

#[test]
fn what_is_written_counts_as_memory() {
    if !is_root() {
        return;
    }
    // The upper layer is a tmpfs, and its pages belong to whoever wrote them.
    let mut config = shell("head -c 64M /dev/zero > /file; echo $?");
    config.limits.memory_bytes = Some(32 << 20);
    let output = output(&config).unwrap();
    assert_ne!(output.stdout, "0\n", "{output:?}");
}

#[test]
fn a_fork_bomb_stays_within_its_number_of_processes() {
    if !is_root() {
        return;
    }
    let mut config = shell(
        "for i in $(seq 100); do sleep 100 & done 2>/dev/null; echo $(ls -d /proc/[0-9]* | wc -l)",
    );
    config.limits.pids = Some(12);
    let output = output(&config).unwrap();
    let count = output.stdout.trim().parse::<u32>().unwrap_or(12);
    assert!(count <= 12, "{output:?}");
}

#[test]
fn a_quota_throttles_and_the_kernel_counts_it() {
    if !is_root() {
        return;
    }
    let mut config = shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
    config.limits.cpus = Some(0.1);
    let (mut container, stdout, _stderr) = piped(&config).unwrap();
    let pidfd = container.pidfd().try_clone_to_owned().unwrap();
    // Statistics go with the group, so they are read while it still runs.
    let mut throttled = 0;
    while throttled == 0 && nix::poll::poll(&mut [poll_for(&pidfd)], 10u16).unwrap() == 0 {
        throttled = container
            .stats()
            .map(|stats| {
                stats
                    .cpu
                    .and_then(|cpu| cpu.throttling)
                    .map_or(0, |t| t.throttled_periods)
            })
            .unwrap_or(0);
    }
    container.kill(libc::SIGKILL).unwrap();
    container.wait().unwrap();
    drop(stdout);
    assert!(throttled > 0);
}

fn poll_for(pidfd: &std::os::fd::OwnedFd) -> nix::poll::PollFd<'_> {
    use std::os::fd::AsFd;
    nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)
}

#[test]
fn a_limit_is_what_the_kernel_has_while_the_container_runs() {
    if !is_root() {
        return;
    }
    let mut config = shell("read x");
    config.limits = Limits {
        cpus: Some(1.5),
        cpu_weight: Some(300),
        memory_bytes: Some(64 << 20),
        pids: Some(9),
    };
    let (reader, writer) = support::pipe();
    use std::os::fd::AsFd;
    let streams = ringside_container::Streams {
        input: Some(reader.as_fd()),
        ..Default::default()
    };
    let mut container = ringside_container::spawn(&config, streams, &mut ()).unwrap();
    let stats = container.stats().unwrap();
    assert_eq!(stats.pids.unwrap().limit.bounded(), Some(9));
    assert_eq!(
        stats.memory.unwrap().limit.unwrap().bounded(),
        Some(64 << 20)
    );
    let processes = container.group().unwrap().processes().unwrap();
    assert!(
        processes.contains(&container.pid()),
        "init is in the group: {processes:?}"
    );
    assert_eq!(processes.len(), 2, "init and the command");
    let paths: Vec<_> = container
        .group()
        .unwrap()
        .paths()
        .map(std::path::PathBuf::from)
        .collect();
    assert!(!paths.is_empty() && paths.iter().all(|path| path.is_dir()));
    drop((reader, writer));
    assert_eq!(container.wait().unwrap(), ExitStatus::Exited(1));
    assert!(paths.iter().all(|path| !path.exists()), "{paths:?}");
}

#[test]
fn nothing_is_made_when_nothing_is_limited() {
    if !is_root() {
        return;
    }
    let (mut container, stdout, _stderr) = piped(&shell("exit 0")).unwrap();
    assert!(container.group().is_none());
    assert_eq!(container.stats().unwrap(), Default::default());
    assert_eq!(text(stdout), "");
    assert!(container.wait().unwrap().is_success());
}
