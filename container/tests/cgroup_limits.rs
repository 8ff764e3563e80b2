//! Limits that the kernel really enforces, on whichever version of control groups this host has.

mod support_cgroup;

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use ringside_container::cgroup::{
    BlockDevice, Controller, Controllers, CpuWeight, Error, Group, IoRate, IoWeight, Limit, Limits,
    Throttle, Version,
};
use support_cgroup::{TestGroup, Waiting, has, layout, shell_in, unique_name};

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

const CPU: Controllers = Controllers::of(&[Controller::Cpu, Controller::Cpuacct]);
const BUSY: &str = "while :; do :; done";

/// Keeps a shell on the first processor that it may use.
fn pin_to_one_processor(shell: &Waiting) {
    let pid = Pid::from_raw(shell.0.id() as i32);
    let allowed = sched_getaffinity(pid).expect("affinity");
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true));
    let mut one = CpuSet::new();
    one.set(first.expect("a processor"))
        .expect("a valid number");
    sched_setaffinity(pid, &one).expect("pin");
}

/// Processor time that a group has used, in µs.
fn usage_us(group: &TestGroup) -> u64 {
    let cpu = group.stats().expect("stats").cpu.expect("cpu");
    cpu.usage.expect("usage").total_us
}

#[test]
fn weights_one_to_three_divide_a_contended_processor() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CPU) {
        return;
    }
    let (one, three) = (TestGroup::new(&layout, CPU), TestGroup::new(&layout, CPU));
    let mut running = Vec::new();
    for (group, weight) in [(&one, 100), (&three, 300)] {
        let mut limits = Limits::default();
        limits.cpu.weight = Some(CpuWeight::Weight(weight));
        group.apply(&limits).expect("apply");
        let shell = shell_in(group, BUSY);
        pin_to_one_processor(&shell);
        running.push(shell);
    }
    let running: Vec<_> = running.into_iter().map(Waiting::go).collect();
    // Both run by now; what was used before does not count.
    let start = (usage_us(&one), usage_us(&three));
    let used = loop {
        std::thread::sleep(Duration::from_millis(20));
        let used = (usage_us(&one) - start.0, usage_us(&three) - start.1);
        if used.0 + used.1 > 2_000_000 {
            break used;
        }
    };
    for mut child in running {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let ratio = used.1 as f64 / used.0 as f64;
    assert!((2.4..=3.6).contains(&ratio), "{ratio} from {used:?} µs");
}

#[test]
fn a_quota_throttles_and_the_throttling_is_counted() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CPU) {
        return;
    }
    let group = TestGroup::new(&layout, CPU);
    let mut limits = Limits::default();
    limits.cpu.quota_us = Some(Limit::At(5_000));
    limits.cpu.period_us = Some(50_000);
    group.apply(&limits).expect("apply");
    let mut busy = shell_in(&group, BUSY).go();
    let stats = loop {
        std::thread::sleep(Duration::from_millis(20));
        let cpu = group.stats().expect("stats").cpu.expect("cpu");
        let stats = cpu.throttling.expect("throttling");
        if stats.throttled_periods >= 5 {
            break stats;
        }
    };
    busy.kill().expect("kill");
    busy.wait().expect("wait");
    assert!(
        stats.periods >= stats.throttled_periods && stats.throttled_us > 0,
        "{stats:?}"
    );
    // A tenth of each period, and what a tick may run over.
    assert!(
        usage_us(&group) <= (stats.periods + 5) * 15_000,
        "{stats:?}"
    );
}

#[test]
fn bandwidth_can_be_changed_in_any_order() {
    let Some(layout) = layout() else { return };
    if !has(&layout, CPU) {
        return;
    }
    let group = TestGroup::new(&layout, CPU);
    let set = |quota: Option<Limit>, period: Option<u64>, burst: Option<u64>| {
        let mut limits = Limits::default();
        limits.cpu.quota_us = quota;
        limits.cpu.period_us = period;
        limits.cpu.burst_us = burst;
        group
            .apply(&limits)
            .unwrap_or_else(|e| panic!("{quota:?} {period:?} {burst:?}: {e}"));
    };
    set(Some(Limit::At(20_000)), Some(50_000), Some(20_000));
    set(Some(Limit::At(2_000)), None, Some(1_000));
    set(None, Some(1_000_000), None);
    set(Some(Limit::Max), None, None);
    set(Some(Limit::At(900_000)), None, Some(900_000));
}

#[test]
fn memory_limits_move_up_and_down_with_their_swap() {
    let Some(layout) = layout() else { return };
    let memory = Controllers::of(&[Controller::Memory]);
    if !has(&layout, memory) {
        return;
    }
    let group = TestGroup::new(&layout, memory);
    let swap_is_accounted = ["memory.memsw.limit_in_bytes", "memory.swap.max"]
        .iter()
        .any(|file| group.directories()[0].has(file));
    for mib in [64, 256, 16, 128] {
        let mut limits = Limits::default();
        limits.memory.limit_bytes = Some(Limit::At(mib << 20));
        limits.memory.memory_and_swap_bytes =
            swap_is_accounted.then_some(Limit::At((mib + 1) << 20));
        limits.memory.reservation_bytes = Some(Limit::At(8 << 20));
        group
            .apply(&limits)
            .unwrap_or_else(|e| panic!("{mib} MiB: {e}"));
        let stats = group.stats().expect("stats").memory.expect("memory");
        assert_eq!(stats.limit, Some(Limit::At(mib << 20)));
        if swap_is_accounted {
            let swap = if layout.home(Controller::Memory).expect("home").version == Version::V1 {
                mib + 1
            } else {
                1
            };
            assert_eq!(stats.swap_limit, Some(Limit::At(swap << 20)));
        }
    }
    let mut lifted = Limits::default();
    lifted.memory.limit_bytes = Some(Limit::Max);
    group.apply(&lifted).expect("lift");
    let stats = group.stats().expect("stats").memory.expect("memory");
    assert_eq!(stats.limit, Some(Limit::Max));
    assert!(
        matches!(stats.swap_limit, None | Some(Limit::Max)),
        "{stats:?}"
    );
}

#[test]
fn a_limit_that_the_kernel_ignores_or_lacks_is_an_error() {
    let Some(layout) = layout() else { return };
    let memory = Controllers::of(&[Controller::Memory]);
    if !has(&layout, memory) {
        return;
    }
    let group = TestGroup::new(&layout, memory);
    let mut limits = Limits::default();
    limits.memory.kernel_bytes = Some(Limit::At(64 << 20));
    match group
        .apply(&limits)
        .expect_err("both hosts' kernels are newer than 5.16")
    {
        Error::Ignored { path, .. } => assert!(path.ends_with("memory.kmem.limit_in_bytes")),
        Error::Unsupported { knob, .. } => assert_eq!(knob, "kernel memory limit"),
        // Between the two, kernels said so themselves.
        other => assert_eq!(other.errno(), Some(nix::errno::Errno::EOPNOTSUPP)),
    }
}

#[test]
fn a_limit_below_what_is_used_can_be_refused_beforehand() {
    let Some(layout) = layout() else { return };
    let memory = Controllers::of(&[Controller::Memory]);
    if !has(&layout, memory) {
        return;
    }
    let group = TestGroup::new(&layout, memory);
    let mut child = shell_in(
        &group,
        "x=$(head -c 4000000 /dev/zero | tr '\\0' x); sleep 1000 & echo ready; wait",
    );
    let mut child = {
        let stdout = child.0.stdout.take().expect("a pipe");
        let child = child.go();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("read");
        assert_eq!(line, "ready\n");
        child
    };
    let mut limits = Limits::default();
    limits.memory.limit_bytes = Some(Limit::At(1 << 20));
    limits.memory.check_before_update = true;
    let error = group.apply(&limits).expect_err("4 MB are in use");
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    limits.memory.memory_and_swap_bytes = Some(Limit::At(2 << 20));
    let error = group.apply(&limits).expect_err("both, 4 MB").to_string();
    assert!(error.contains("rejecting memory+swap limit"), "{error}");
    assert!(
        child.try_wait().expect("wait").is_none(),
        "nobody was killed"
    );
    group.kill().expect("kill");
    child.wait().expect("reap");
}

#[test]
fn a_processor_set_is_inherited_and_kept() {
    let Some(layout) = layout() else { return };
    let cpuset = Controllers::of(&[Controller::Cpuset]);
    if !has(&layout, cpuset) {
        return;
    }
    let parent = unique_name();
    // Two levels in one call: the parent is new, and in version 1 as empty as the child.
    let path = format!("{parent}/child");
    let group = TestGroup(Group::create(&layout, &path, cpuset).expect("create"));
    let inherited = group.stats().expect("stats").cpuset.expect("cpuset");
    assert!(
        !inherited.cpus.is_empty() && !inherited.mems.is_empty(),
        "{inherited:?}"
    );
    let mut limits = Limits::default();
    limits.cpuset.cpus = Some("0".into());
    group.apply(&limits).expect("apply");
    assert_eq!(
        group.stats().expect("stats").cpuset.expect("cpuset").cpus,
        "0"
    );
    let output = shell_in(&group, "grep Cpus_allowed_list /proc/self/status").go();
    let output = output.wait_with_output().expect("wait");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "Cpus_allowed_list:\t0"
    );
    drop(group);
    Group::open(&layout, &parent, cpuset)
        .expect("open")
        .remove()
        .expect("remove the parent");
}

#[test]
fn block_devices_take_weights_and_ceilings() {
    let Some(layout) = layout() else { return };
    let io = Controllers::of(&[Controller::Io]);
    if !has(&layout, io) {
        return;
    }
    let group = TestGroup::new(&layout, io);
    let mut limits = Limits::default();
    limits.io.weight = Some(IoWeight::Blkio(500));
    group.apply(&limits).expect("apply a weight");
    let dir = group.directory(Controller::Io).expect("io");
    let read = |file: &str| dir.read(file).unwrap_or_default();
    let weights = [
        "io.bfq.weight",
        "io.weight",
        "blkio.weight",
        "blkio.bfq.weight",
    ]
    .map(read);
    let expected = |text: &String| text.contains("500") || text.contains("4950");
    assert!(weights.iter().any(expected), "{weights:?}");

    let Some(device) = a_disk() else {
        eprintln!("skipped: this host has no block device to put a ceiling on");
        return;
    };
    let mut limits = Limits::default();
    let throttle = |rate, limit| Throttle {
        device,
        rate,
        limit,
    };
    limits.io.throttles = vec![
        throttle(IoRate::ReadBytes, Limit::At(1 << 20)),
        throttle(IoRate::WriteOperations, Limit::At(100)),
    ];
    group.apply(&limits).expect("apply ceilings");
    let ceilings = ["io.max", "blkio.throttle.read_bps_device"]
        .map(read)
        .join("");
    assert!(ceilings.contains("1048576"), "{ceilings}");
    limits.io.throttles = vec![throttle(IoRate::ReadBytes, Limit::Max)];
    group.apply(&limits).expect("lift a ceiling");
    let ceilings = ["io.max", "blkio.throttle.read_bps_device"]
        .map(read)
        .join("");
    assert!(!ceilings.contains("1048576"), "{ceilings}");
    group.stats().expect("stats").io.expect("io");
}

/// Some whole disk of this host.
fn a_disk() -> Option<BlockDevice> {
    let disks = std::fs::read_dir("/sys/block").ok()?;
    let number = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some(BlockDevice {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    };
    disks.flatten().find_map(number)
}

#[test]
fn huge_pages_are_bounded_by_size() {
    let Some(layout) = layout() else { return };
    let hugetlb = Controllers::of(&[Controller::Hugetlb]);
    if !has(&layout, hugetlb) {
        return;
    }
    let group = TestGroup::new(&layout, hugetlb);
    let sizes: Vec<String> = group
        .stats()
        .expect("stats")
        .hugetlb
        .expect("hugetlb")
        .into_keys()
        .collect();
    assert!(!sizes.is_empty());
    let mut limits = Limits::default();
    limits.hugetlb.insert(sizes[0].clone(), Limit::At(0));
    group.apply(&limits).expect("apply");
    limits.hugetlb = [("512GB".to_owned(), Limit::At(0))].into();
    let error = group.apply(&limits).expect_err("no such pages").to_string();
    assert!(error.contains("`512GB`"), "{error}");
}

#[test]
fn unified_keys_reach_what_has_no_field() {
    let Some(layout) = layout() else { return };
    if layout.unified().is_none() {
        eprintln!("skipped: this host has no cgroup v2");
        return;
    }
    let mut limits = Limits::default();
    limits
        .unified
        .insert("memory.high".into(), "33554432".into());
    let group = TestGroup::new(&layout, limits.controllers());
    if layout.home(Controller::Memory).expect("memory").version == Version::V1 {
        let error = group
            .apply(&limits)
            .expect_err("memory is in v1")
            .to_string();
        assert!(error.contains("unified"), "{error}");
        return;
    }
    group.apply(&limits).expect("apply");
    let memory = group.directory(Controller::Memory).expect("memory");
    assert_eq!(memory.read("memory.high").expect("read").trim(), "33554432");
}

#[test]
fn what_this_host_lacks_is_refused_by_name() {
    let Some(layout) = layout() else { return };
    let missing = Controller::ALL
        .into_iter()
        .find(|c| !layout.controllers().contains(*c));
    let Some(missing) = missing else {
        eprintln!("skipped: this host has every controller");
        return;
    };
    let error = Group::create(&layout, unique_name(), Controllers::of(&[missing]));
    let error = error.expect_err("no such controller").to_string();
    assert!(error.contains(missing.v1_name()), "{error}");
}
