use super::*;

#[test]
fn each_kvm_error_has_its_own_remedy() {
    let fix = |errno: Errno| kvm(Some(errno.into())).unwrap_err().fix;
    assert!(fix(Errno::ENOENT).contains("load the module"));
    assert!(fix(Errno::EACCES).contains("group `kvm`"));
    assert!(fix(Errno::ENODEV).contains("no module stands behind it"));
    assert!(fix(Errno::EBUSY).contains("other hypervisor"));
    assert!(kvm(None).is_ok());
}

#[test]
fn refused_namespaces_name_the_error_and_the_settings() {
    let missing = namespaces(Ok(Errno::EPERM as u8)).unwrap_err();
    assert!(missing.why.contains("EPERM"), "{}", missing.why);
    assert!(missing.fix.contains("max_user_namespaces"));
}

const V1: &str = "\
31 24 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

#[test]
fn a_hybrid_host_has_its_controllers_below_a_tmpfs() {
    let hugetlb = |path: &str| {
        assert_eq!(path, "/sys/fs/cgroup/unified/cgroup.controllers");
        "hugetlb\n".to_string()
    };
    let found = cgroups(V1, &hugetlb, &|at| at.ends_with("/memory"));
    assert_eq!(
        found.unwrap(),
        "cgroup at /sys/fs/cgroup/memory is writable"
    );
    let missing = cgroups(V1, &hugetlb, &|_| false).unwrap_err();
    assert!(missing.why.contains("/sys/fs/cgroup/memory"));
}

#[test]
fn version_two_counts_when_it_has_a_controller() {
    let v2 = "31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert!(cgroups(v2, &|_| "cpu memory\n".into(), &|_| true).is_ok());
    let missing = cgroups(v2, &|_| "hugetlb\n".into(), &|_| true).unwrap_err();
    assert!(missing.why.contains("no cgroup hierarchy"));
    assert!(cgroups("", &|_| String::new(), &|_| true).is_err());
}

#[test]
fn letters_and_needs_are_one_to_one() {
    for need in Need::ALL {
        assert_eq!(Need::from_letter(&need.letter().to_string()), Some(need));
    }
    assert_eq!(Need::from_letter("KN"), None);
    assert_eq!(Need::from_letter(""), None);
}
