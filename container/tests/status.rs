//! How a container ends is how its command ends.

mod support;

use std::io::Read;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringside_container::{Config, ExitStatus};
use support::{is_root, output, piped, shell, text};

#[test]
fn the_exit_status_is_the_command_s() {
    if !is_root() {
        return;
    }
    for code in [0, 1, 42, 125, 126, 127, 255] {
        let status = output(&shell(&format!("exit {code}"))).unwrap().status;
        assert_eq!(status, ExitStatus::Exited(code));
    }
}

#[test]
fn so_is_the_signal() {
    if !is_root() {
        return;
    }
    // A real-time one as well.
    for signal in [1u8, 2, 6, 9, 11, 15, 40] {
        let output = output(&shell(&format!("kill -{signal} $$; sleep 100"))).unwrap();
        assert_eq!(output.status, ExitStatus::Signaled(signal));
        assert_eq!(output.status.code(), 128 + signal);
    }
}

#[test]
fn a_signal_to_the_container_reaches_the_command() {
    if !is_root() {
        return;
    }
    for signal in [
        libc::SIGHUP,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGWINCH,
        34,
    ] {
        let script = format!("trap 'exit 7' {signal}; echo ready; while :; do sleep 0.01; done");
        let (mut container, stdout, _stderr) = piped(&shell(&script)).unwrap();
        let mut ready = [0; 6];
        std::fs::File::from(stdout.try_clone().unwrap())
            .read_exact(&mut ready)
            .unwrap();
        container.kill(signal).unwrap();
        assert_eq!(
            container.wait().unwrap(),
            ExitStatus::Exited(7),
            "signal {signal}"
        );
        // An answer given twice is the same.
        assert_eq!(container.wait().unwrap(), ExitStatus::Exited(7));
    }
}

#[test]
fn killing_the_container_kills_all_of_it() {
    if !is_root() {
        return;
    }
    let (mut container, stdout, _stderr) =
        piped(&shell("sleep 1000 & sleep 1000 & echo ready; wait")).unwrap();
    let mut ready = [0; 6];
    let mut reader = std::fs::File::from(stdout);
    reader.read_exact(&mut ready).unwrap();
    container.kill(libc::SIGKILL).unwrap();
    assert_eq!(container.wait().unwrap(), ExitStatus::Signaled(9));
    // The pipe ends only when the last process that has it is gone.
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(
        container.kill(libc::SIGTERM).is_ok(),
        "a container that has ended is no error"
    );
}

#[test]
fn a_container_that_is_dropped_ends() {
    if !is_root() {
        return;
    }
    let (container, stdout, _stderr) = piped(&shell("exec sleep 1000")).unwrap();
    drop(container);
    assert_eq!(text(stdout), "");
}

#[test]
fn what_the_command_leaves_behind_ends_with_it() {
    if !is_root() {
        return;
    }
    // An orphan, and a whole session of its own.
    let output = output(&shell("(sleep 1000 &); setsid sleep 1000 & exit 3")).unwrap();
    assert_eq!(output.status, ExitStatus::Exited(3));
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    if !is_root() {
        return;
    }
    let script = "for i in 1 2 3 4 5 6 7 8; do (sh -c 'exit 1' &); done; sleep 0.2; grep -l 'State:.Z' /proc/[0-9]*/status";
    assert_eq!(output(&shell(script)).unwrap().stdout, "");
}

#[test]
fn the_descriptor_says_when_it_has_ended() {
    if !is_root() {
        return;
    }
    let mut config = Config::new(["cat"]);
    config.hostname = "poll".into();
    let (reader, writer) = support::pipe();
    let streams = ringside_container::Streams {
        input: Some(reader.as_fd()),
        ..Default::default()
    };
    let mut container = ringside_container::spawn(&config, streams, &mut ()).unwrap();
    drop(reader);
    let ended = |timeout: PollTimeout| {
        poll(
            &mut [PollFd::new(container.pidfd(), PollFlags::POLLIN)],
            timeout,
        )
        .unwrap()
    };
    assert_eq!(ended(PollTimeout::ZERO), 0);
    drop(writer);
    assert_eq!(ended(PollTimeout::NONE), 1);
    assert_eq!(container.wait().unwrap(), ExitStatus::Exited(0));
}

#[test]
fn the_command_inherits_no_blocked_or_ignored_signal() {
    if !is_root() {
        return;
    }
    // What the caller itself was started with, it passes on; but a Rust program ignores SIGPIPE, and
    // `spawn` blocks signals while it clones. (glibc keeps 32 and 33 for itself, and ignores them now
    // and then.)
    let masks = |text: String| -> Vec<u64> {
        let hex = text
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1));
        hex.map(|mask| u64::from_str_radix(mask, 16).unwrap() & !(3 << 31))
            .collect()
    };
    let script = "grep -E 'SigBlk|SigIgn' /proc/self/status";
    let inside = masks(output(&shell(script)).unwrap().stdout);
    assert_eq!(inside, masks(support::host_says(script)));
    assert_eq!(inside[1] & 1 << (libc::SIGPIPE - 1), 0);
}

#[test]
fn many_threads_start_containers_at_once() {
    if !is_root() {
        return;
    }
    // Each keeps another thread busy with the allocator, whose lock a child may find held.
    let work = |thread: u8| {
        for round in 0..8 {
            let noise = std::thread::spawn(|| {
                (0..2000)
                    .map(|size| vec![0u8; size % 700].len())
                    .sum::<usize>()
            });
            let output = output(&shell(&format!("exit {}", thread + round))).unwrap();
            assert_eq!(output.status, ExitStatus::Exited(thread + round));
            assert!(noise.join().unwrap() > 0);
        }
    };
    std::thread::scope(|scope| {
        (0..6).for_each(|thread| drop(scope.spawn(move || work(thread * 20))))
    });
}
