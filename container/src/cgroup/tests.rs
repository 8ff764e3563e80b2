//! Groups on a fake tree: what is written where, and that no content of a control file does harm.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::directory::Probe;
use super::*;

/// A tree of plain files that is trusted to be a hierarchy.
struct Fake {
    tree: tempfile::TempDir,
    layout: Layout,
}

/// The controllers of a fake tree, as its version names them.
const V1_OPTIONS: &str =
    "rw,cpu,cpuacct,cpuset,memory,pids,blkio,devices,freezer,hugetlb,net_cls,net_prio,rdma";
const V2_CONTROLLERS: &str = "cpuset cpu io memory hugetlb pids rdma";

/// Control files that tests write to or read from.
const V1_FILES: &[&str] = &[
    "cgroup.procs",
    "tasks",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.stat",
    "cpuacct.usage",
    "cpuset.cpus",
    "cpuset.mems",
    "cpuset.effective_cpus",
    "cpuset.effective_mems",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.stat",
    "memory.usage_in_bytes",
    "memory.oom_control",
    "memory.swappiness",
    "pids.max",
    "pids.current",
    "pids.events",
    "blkio.bfq.weight",
    "blkio.throttle.read_bps_device",
    "blkio.throttle.io_service_bytes_recursive",
    "hugetlb.2MB.limit_in_bytes",
    "hugetlb.2MB.usage_in_bytes",
    "net_cls.classid",
    "net_prio.ifpriomap",
    "rdma.max",
    "rdma.current",
    "freezer.state",
    "devices.list",
];
const V2_FILES: &[&str] = &[
    "cgroup.procs",
    "cgroup.events",
    "cgroup.freeze",
    "cpu.weight",
    "cpu.max",
    "cpu.stat",
    "cpuset.cpus",
    "cpuset.mems",
    "cpuset.cpus.effective",
    "cpuset.mems.effective",
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "memory.high",
    "memory.stat",
    "memory.current",
    "memory.events",
    "pids.max",
    "pids.current",
    "pids.events",
    "io.weight",
    "io.max",
    "io.stat",
    "hugetlb.2MB.max",
    "hugetlb.2MB.current",
    "rdma.max",
    "rdma.current",
];

impl Fake {
    fn new(version: Version) -> Fake {
        Fake::filled(version, |_| b"")
    }

    /// A tree in which the control file of each index holds what `content` says.
    fn filled<'a>(version: Version, content: impl Fn(usize) -> &'a [u8]) -> Fake {
        let tree = tempfile::tempdir().unwrap();
        let at = tree.path();
        let (line, files) = match version {
            Version::V1 => (
                format!("1 1 0:1 / {} rw - cgroup c {V1_OPTIONS}", at.display()),
                V1_FILES,
            ),
            Version::V2 => (
                format!("1 1 0:1 / {} rw - cgroup2 c rw", at.display()),
                V2_FILES,
            ),
        };
        fs::write(at.join("cgroup.controllers"), V2_CONTROLLERS).unwrap();
        fs::write(at.join("cgroup.subtree_control"), V2_CONTROLLERS).unwrap();
        fs::write(at.join("cgroup.procs"), "").unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(at.join(file), "0\n").unwrap();
        }
        // A real mkdir makes the control files.
        fs::create_dir(at.join("g")).unwrap();
        for (i, file) in files.iter().enumerate() {
            fs::write(at.join("g").join(file), content(i)).unwrap();
        }
        let own = format!("0::/\n1:{}:/\n", V1_OPTIONS.trim_start_matches("rw,"));
        let mounts = mountinfo::parse(line.as_bytes());
        let layout = Layout::from_parts(&mounts, own.as_bytes(), Probe::Trust);
        Fake { tree, layout }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.tree.path().join("g").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    fn group(&self, controllers: Controllers) -> Group {
        Group::create(&self.layout, "/g", controllers).unwrap()
    }
}

fn some_of_everything() -> Limits {
    Limits {
        cpu: Cpu {
            weight: Some(CpuWeight::Weight(200)),
            quota_us: Some(Limit::At(50_000)),
            period_us: Some(100_000),
            ..Cpu::default()
        },
        cpuset: Cpuset {
            cpus: Some("0-1".into()),
            mems: Some("0".into()),
        },
        memory: Memory {
            reservation_bytes: Some(Limit::At(1 << 20)),
            ..Memory::default()
        },
        pids: Pids {
            max: Some(Limit::Max),
        },
        io: Io {
            weight: Some(IoWeight::Blkio(500)),
            throttles: vec![Throttle {
                device: BlockDevice { major: 8, minor: 0 },
                rate: IoRate::ReadBytes,
                limit: Limit::At(1000),
            }],
            ..Io::default()
        },
        hugetlb: Hugetlb::from([("2MB".into(), Limit::At(2 << 20))]),
        rdma: Rdma::from([(
            "mlx5_0".into(),
            RdmaLimit {
                handles: Some(Limit::At(2)),
                objects: Some(Limit::Max),
            },
        )]),
        ..Limits::default()
    }
}

#[test]
fn version_1_files_get_version_1_values() {
    let fake = Fake::new(Version::V1);
    let mut limits = some_of_everything();
    limits.network_class = Some(0x0010_0001);
    limits.network_priorities = vec![("eth0".into(), 5)];
    fs::write(fake.file("cpuset.cpus"), "0").unwrap();
    let group = fake.group(limits.controllers());
    fs::write(fake.file("cpuset.cpus"), "").unwrap();
    group.apply(&limits).unwrap();
    for (file, value) in [
        ("cpu.shares", "2048"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.cfs_period_us", "100000"),
        ("cpuset.cpus", "0-1"),
        ("memory.soft_limit_in_bytes", "1048576"),
        ("pids.max", "max"),
        ("blkio.bfq.weight", "500"),
        ("blkio.throttle.read_bps_device", "8:0 1000"),
        ("hugetlb.2MB.limit_in_bytes", "2097152"),
        ("rdma.max", "mlx5_0 hca_handle=2 hca_object=max"),
        ("net_cls.classid", "1048577"),
        ("net_prio.ifpriomap", "eth0 5"),
    ] {
        assert_eq!(fake.read(file), value, "{file}");
    }
}

#[test]
fn version_2_files_get_version_2_values() {
    let fake = Fake::new(Version::V2);
    let mut limits = some_of_everything();
    limits.memory.limit_bytes = Some(Limit::At(4 << 20));
    limits.memory.memory_and_swap_bytes = Some(Limit::At(5 << 20));
    limits
        .unified
        .insert("memory.high".into(), "3145728".into());
    fake.group(limits.controllers()).apply(&limits).unwrap();
    for (file, value) in [
        ("cpu.weight", "200"),
        ("cpu.max", "50000 100000"),
        ("cpuset.cpus", "0-1"),
        ("memory.max", "4194304"),
        ("memory.swap.max", "1048576"),
        ("memory.low", "1048576"),
        ("memory.high", "3145728"),
        ("pids.max", "max"),
        ("io.weight", "default 4950"),
        ("io.max", "8:0 rbps=1000"),
        ("hugetlb.2MB.max", "2097152"),
        ("rdma.max", "mlx5_0 hca_handle=2 hca_object=max"),
    ] {
        assert_eq!(fake.read(file), value, "{file}");
    }
}

#[test]
fn an_invalid_value_is_found_before_anything_is_written() {
    let fake = Fake::new(Version::V2);
    let mut limits = some_of_everything();
    let group = fake.group(limits.controllers());
    limits.rdma.insert("two words".into(), RdmaLimit::default());
    let error = group.apply(&limits).unwrap_err().to_string();
    assert!(error.contains("`two words`"), "{error}");
    assert_eq!(fake.read("pids.max"), "");
}

#[test]
fn what_a_version_lacks_is_refused_by_name() {
    let v2 = Fake::new(Version::V2);
    let group = v2.group(v2.layout.controllers());
    let mut swappiness = Limits::default();
    swappiness.memory.swappiness = Some(10);
    let error = group.apply(&swappiness).unwrap_err().to_string();
    assert!(
        error.contains("`memory swappiness` does not exist in cgroup v2"),
        "{error}"
    );
    let mut realtime = Limits::default();
    realtime.cpu.realtime_period_us = Some(1000);
    group.apply(&realtime).unwrap_err();
    let class = Limits {
        network_class: Some(1),
        ..Limits::default()
    };
    assert!(matches!(
        Group::create(&v2.layout, "/g", class.controllers()),
        Err(Error::Missing {
            controller: Controller::NetCls,
            absence: Absence::OnlyV1
        })
    ));

    let v1 = Fake::new(Version::V1);
    let mut unified = Limits::default();
    unified.unified.insert("memory.high".into(), "1".into());
    let error = v1
        .group(unified.controllers())
        .apply(&unified)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`unified` does not exist in cgroup v1"),
        "{error}"
    );
}

#[test]
fn a_limit_without_its_controller_in_the_group_is_refused() {
    let fake = Fake::new(Version::V1);
    let group = fake.group(Controllers::of(&[Controller::Memory]));
    let mut limits = Limits::default();
    limits.pids.max = Some(Limit::At(1));
    assert!(matches!(
        group.apply(&limits),
        Err(Error::NotJoined {
            controller: Controller::Pids,
            ..
        })
    ));
}

#[test]
fn no_control_file_is_ever_created() {
    let fake = Fake::new(Version::V1);
    let group = fake.group(Controllers::of(&[Controller::Pids]));
    fs::remove_file(fake.file("pids.max")).unwrap();
    let mut limits = Limits::default();
    limits.pids.max = Some(Limit::At(1));
    let error = group.apply(&limits).unwrap_err();
    assert_eq!(error.errno(), Some(nix::errno::Errno::ENOENT));
    assert!(!fake.file("pids.max").exists());
}

#[test]
fn a_plain_directory_is_no_group() {
    let mut fake = Fake::new(Version::V1);
    fake.layout.probe = Probe::Magic;
    let error = Group::create(&fake.layout, "/g", Controllers::of(&[Controller::Pids]));
    let error = error.unwrap_err();
    assert!(matches!(error, Error::NotCgroup { .. }), "{error}");
}

#[test]
fn an_empty_processor_set_is_filled_from_above() {
    let fake = Fake::new(Version::V1);
    fake.group(Controllers::of(&[Controller::Cpuset]));
    assert_eq!(
        (fake.read("cpuset.cpus"), fake.read("cpuset.mems")),
        ("0".into(), "0".into())
    );
}

#[test]
fn groups_with_processes_are_not_asked_to_have_children() {
    let fake = Fake::new(Version::V2);
    let own = fake.tree.path().join("g");
    for (file, text) in [
        ("cgroup.procs", "1\n"),
        ("cgroup.type", "domain\n"),
        ("cgroup.subtree_control", ""),
        ("cgroup.controllers", "pids\n"),
    ] {
        fs::write(own.join(file), text).unwrap();
    }
    let line = format!("1 1 0:1 / {} rw - cgroup2 c rw", fake.tree.path().display());
    let mounts = mountinfo::parse(line.as_bytes());
    let layout = Layout::from_parts(&mounts, b"0::/g\n", Probe::Trust);
    // Beside our own group, because that has processes.
    let group = Group::create(&layout, "new", Controllers::of(&[Controller::Pids])).unwrap();
    assert_eq!(
        group.paths().collect::<Vec<_>>(),
        [fake.tree.path().join("new")]
    );
    // The topmost group hands nothing down and has processes too.
    fs::write(fake.tree.path().join("cgroup.subtree_control"), "").unwrap();
    fs::write(fake.tree.path().join("cgroup.procs"), "1\n").unwrap();
    fs::write(fake.tree.path().join("cgroup.type"), "domain\n").unwrap();
    let error = Group::create(&layout, "new", Controllers::of(&[Controller::Pids])).unwrap_err();
    assert!(matches!(error, Error::InternalProcesses { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Statistics of any content end in numbers or an error that names a file of the group.
    #[test]
    fn hostile_control_files_do_no_harm(
        v1 in any::<bool>(),
        contents in prop::collection::btree_map(0..32usize, hostile(), 0..6),
    ) {
        let version = if v1 { Version::V1 } else { Version::V2 };
        // Sane where nothing hostile is, so that reading gets to what is not.
        let fake = Fake::filled(version, |i| contents.get(&i).map_or(b"0\n", Vec::as_slice));
        let errors = match Group::create(&fake.layout, "/g", fake.layout.controllers()) {
            Ok(group) => vec![
                group.stats().err(),
                group.processes().err(),
                group.freezer_state().err(),
            ],
            Err(error) => vec![Some(error)],
        };
        for error in errors.into_iter().flatten() {
            let text = error.to_string();
            prop_assert!(text.contains(&*fake.tree.path().to_string_lossy()), "{text}");
            prop_assert!(text.len() < 1000, "{text}");
        }
    }
}

/// What one would not expect in a control file.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[a-z_]{1,12} -?[0-9]{1,25}\n".prop_map(String::into_bytes),
        "([0-9]{1,12}:[0-9]{1,12} [a-zA-Z]{1,8}[= ]-?[0-9]{1,25}\n){0,4}"
            .prop_map(String::into_bytes),
        Just(b"max\n".to_vec()),
        Just(b"18446744073709551616\n".to_vec()),
        Just(vec![b'9'; 5000]),
    ]
}

#[test]
fn paths_that_leave_the_hierarchy_are_refused() {
    let fake = Fake::new(Version::V1);
    for path in ["", "/", "//", ".", "..", "/g/../..", "g/..", "a\nb", "a\0b"] {
        let error = Group::create(
            &fake.layout,
            Path::new(path),
            Controllers::of(&[Controller::Pids]),
        );
        assert!(matches!(error, Err(Error::Path { .. })), "{path:?}");
    }
}
