//! Limits that the kernel really enforces, on whichever version of control groups this host has.

mod support_cgroup;

use std::os::unix::process::ExitStatusExt;

use ringside_container::cgroup::{Controller, Controllers, CpuWeight, Limit, Limits};
use support_cgroup::{TestGroup, has, layout, shell_in};

const CPU_MEMORY_PIDS: Controllers =
    Controllers::of(&[Controller::Cpu, Controller::Memory, Controller::Pids]);

#[test]
fn limits_are_what_the_kernel_says_afterwards() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CPU_MEMORY_PIDS) {
        return;
    }
    let group = TestGroup::new(&layout, CPU_MEMORY_PIDS);
    let mut limits = Limits::default();
    limits.cpu.weight = Some(CpuWeight::Weight(300));
    limits.cpu.quota_us = Some(Limit::At(50_000));
    limits.cpu.period_us = Some(100_000);
    limits.memory.limit_bytes = Some(Limit::At(64 << 20));
    limits.pids.max = Some(Limit::At(17));
    assert_eq!(limits.controllers(), CPU_MEMORY_PIDS);
    group.apply(&limits).expect("apply");

    let stats = group.stats().expect("stats");
    assert_eq!(
        stats.memory.expect("memory").limit,
        Some(Limit::At(64 << 20))
    );
    assert_eq!(stats.pids.expect("pids").limit, Limit::At(17));
    let cpu = group.directory(Controller::Cpu).expect("cpu");
    let read = |file: &str| cpu.read(file).expect("read").trim().to_owned();
    if cpu.has("cpu.weight") {
        assert_eq!(
            (read("cpu.weight"), read("cpu.max")),
            ("300".into(), "50000 100000".into())
        );
    } else {
        assert_eq!(
            (read("cpu.shares"), read("cpu.cfs_quota_us")),
            ("3072".into(), "50000".into())
        );
    }
}

#[test]
fn beyond_pids_max_fork_fails_and_is_counted() {
    let Some(layout) = layout() else { return };
    if !has(&layout, Controllers::of(&[Controller::Pids])) {
        return;
    }
    let group = TestGroup::new(&layout, Controllers::of(&[Controller::Pids]));
    let mut limits = Limits::default();
    limits.pids.max = Some(Limit::At(1));
    group.apply(&limits).expect("apply");
    // The shell itself is the one task; the subshell cannot be forked.
    let output = shell_in(&group, "(exit 0)")
        .go()
        .wait_with_output()
        .expect("wait");
    assert!(!output.status.success(), "{output:?}");
    let pids = group.stats().expect("stats").pids.expect("pids");
    assert!(pids.refused >= 1, "{pids:?}");
}

#[test]
fn running_out_of_memory_kills_inside_the_group_only() {
    let Some(layout) = layout() else { return };
    if !has(&layout, Controllers::of(&[Controller::Memory])) {
        return;
    }
    let mut limits = Limits::default();
    limits.memory.limit_bytes = Some(Limit::At(16 << 20));
    let (greedy, bystander) = (
        TestGroup::new(&layout, limits.controllers()),
        TestGroup::new(&layout, limits.controllers()),
    );
    greedy.apply(&limits).expect("apply");
    bystander.apply(&limits).expect("apply");
    let mut quiet = shell_in(&bystander, "exec sleep 1000").go();

    // tail keeps the last line, and this one never ends.
    let output = shell_in(&greedy, "exec tail /dev/zero")
        .go()
        .wait_with_output()
        .expect("wait");
    assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{output:?}");
    let memory = greedy.stats().expect("stats").memory.expect("memory");
    assert_eq!(memory.oom_kills, 1, "{memory:?}");
    assert!(
        memory.peak_bytes.is_none_or(|peak| peak <= 16 << 20),
        "{memory:?}"
    );
    assert!(memory.limit_hits > 0, "{memory:?}");

    assert!(
        quiet.try_wait().expect("wait").is_none(),
        "the other group's process lives on"
    );
    assert_eq!(
        bystander
            .stats()
            .expect("stats")
            .memory
            .expect("memory")
            .oom_kills,
        0
    );
    quiet.kill().expect("kill");
    quiet.wait().expect("wait");
}
