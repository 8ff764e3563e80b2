use super::*;

const V1: &str = "\
25 20 0:22 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw shared:12 - cgroup cgroup rw,xattr,name=systemd
";
const OWN: &[u8] = b"3:cpu,cpuacct:/user\n2:memory:/\n1:name=systemd:/init.scope\n0::/here\n";

fn layout(mounts: &str, own: &[u8]) -> Layout {
    Layout::from_parts(&mountinfo::parse(mounts.as_bytes()), own, Probe::Trust)
}

#[test]
fn version_1_controllers_live_where_the_mount_options_say() {
    let layout = layout(V1, OWN);
    assert_eq!(layout.mode(), Mode::V1);
    let cpu = layout.home(Controller::Cpu).unwrap();
    assert_eq!(cpu, layout.home(Controller::Cpuacct).unwrap());
    assert_eq!(
        cpu.own.as_deref(),
        Ok(Path::new("/sys/fs/cgroup/cpu,cpuacct/user"))
    );
    let memory = layout.home(Controller::Memory).unwrap();
    assert_eq!(
        memory.own.as_deref(),
        Ok(Path::new("/sys/fs/cgroup/memory"))
    );
    assert_eq!(layout.hierarchies().len(), 3, "the tmpfs is no hierarchy");
}

#[test]
fn a_missing_controller_is_named_with_a_remedy() {
    let error = layout(V1, OWN)
        .home(Controller::Rdma)
        .unwrap_err()
        .to_string();
    assert!(error.contains("`rdma`"), "{error}");
    let error = layout("", b"")
        .home(Controller::Memory)
        .unwrap_err()
        .to_string();
    assert!(error.contains("mount -t cgroup2"), "{error}");
}

#[test]
fn both_versions_make_a_hybrid_in_which_v1_comes_first() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(
        tree.path().join("cgroup.controllers"),
        "hugetlb memory unheard-of\n",
    )
    .unwrap();
    let v2 = format!(
        "29 25 0:26 / {} rw - cgroup2 cgroup2 rw\n",
        tree.path().display()
    );
    let layout = layout(&format!("{V1}{v2}"), OWN);
    assert_eq!(layout.mode(), Mode::Hybrid);
    assert_eq!(
        layout.home(Controller::Memory).unwrap().version,
        Version::V1
    );
    assert_eq!(
        layout.home(Controller::Hugetlb).unwrap().version,
        Version::V2
    );
    assert_eq!(
        layout.home(Controller::Freezer).unwrap().version,
        Version::V2
    );
    let unified = layout.unified().unwrap();
    assert_eq!(
        unified.own.as_deref(),
        Ok(tree.path().join("here").as_path())
    );
}

#[test]
fn a_mount_that_is_not_what_it_says_is_left_out() {
    let mounts = mountinfo::parse(V1.as_bytes());
    let layout = Layout::from_parts(&mounts, OWN, Probe::Magic);
    let real = |h: &Hierarchy| h.mount_point.starts_with("/sys/fs/cgroup/cpu,cpuacct");
    assert!(!layout.hierarchies().iter().any(real), "{layout:?}");
}

#[test]
fn our_own_group_may_be_invisible() {
    let own = |text: &str| {
        layout(V1, text.as_bytes())
            .home(Controller::Memory)
            .unwrap()
            .own
            .clone()
    };
    assert_eq!(own("2:memory:/gone (deleted)"), Err("removed already"));
    assert_eq!(
        own("2:memory:/../out"),
        Err("outside of this cgroup namespace")
    );
    assert_eq!(own("9:pids:/"), Err("not listed in /proc/self/cgroup"));
    let part = V1.replace("0:24 / ", "0:24 /docker/abc ");
    let of = |text: &str| {
        layout(&part, text.as_bytes())
            .home(Controller::Memory)
            .unwrap()
            .own
            .clone()
    };
    assert_eq!(
        of("2:memory:/docker/abc/x"),
        Ok("/sys/fs/cgroup/memory/x".into())
    );
    assert_eq!(
        of("2:memory:/docker/abcd"),
        Err("not below what is mounted here")
    );
}

#[test]
fn a_later_mount_of_the_same_hierarchy_does_not_double_it() {
    let twice = format!("{V1}40 25 0:24 /part /mnt rw - cgroup cgroup rw,memory\n");
    let layout = layout(&twice, OWN);
    assert_eq!(layout.hierarchies().len(), 3);
    let memory = layout.home(Controller::Memory).unwrap();
    assert_eq!(
        memory.mount_point,
        Path::new("/sys/fs/cgroup/memory"),
        "it shows our own group"
    );
}

#[test]
fn of_several_views_the_widest_that_shows_our_group_counts() {
    let part = |root: &str, at: &str| format!("1 1 0:9 {root} {at} rw - cgroup2 c rw\n");
    let views = [
        part("/a", "/x"),
        part("/", "/y"),
        part("/", "/z"),
        part("/b", "/w"),
    ]
    .concat();
    let layout = layout(&views, b"0::/a/b\n");
    let all = layout.hierarchies();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].own.as_deref(), Ok(Path::new("/y/a/b")));
}

#[test]
fn the_reason_of_an_absence_is_the_right_one() {
    const TABLE: &str = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n\
        cpuset\t0\t1\t1\nmemory\t0\t1\t0\nnet_cls\t0\t1\t1\npids\t5\t1\t1\n";
    let v2 = layout("1 1 0:9 / /y rw - cgroup2 c rw\n", b"0::/\n");
    let why = |layout: &Layout, controller| Absence::diagnose(controller, layout, TABLE);
    assert_eq!(
        why(&v2, Controller::Cpuset),
        Absence::NotHandedDown("/y".into())
    );
    assert_eq!(why(&v2, Controller::Memory), Absence::Disabled("memory"));
    assert_eq!(why(&v2, Controller::NetCls), Absence::OnlyV1);
    assert_eq!(why(&v2, Controller::Pids), Absence::NotMounted("pids"));
    assert_eq!(why(&v2, Controller::Rdma), Absence::NotBuilt);
    let v1 = layout(V1, OWN);
    assert_eq!(why(&v1, Controller::Cpuset), Absence::NotMounted("cpuset"));
    assert_eq!(
        why(&layout("", b""), Controller::Cpuset),
        Absence::NoCgroups
    );
}
