use proptest::prelude::*;

use super::*;

#[test]
fn escapes_and_optional_fields_are_read() {
    let line =
        br"36 35 98:7 /a\040b /mnt\0117\134x\12 rw shared:1 master:2 - cgroup dev\040ice rw,cpu";
    let [mount] = &parse(line)[..] else {
        panic!("one mount");
    };
    assert_eq!(mount.device, (98, 7));
    assert_eq!(mount.root, Path::new("/a b"));
    assert_eq!(mount.mount_point, Path::new("/mnt\t7\\x\\12"));
    assert_eq!(
        (mount.kind.as_str(), mount.super_options.as_str()),
        ("cgroup", "rw,cpu")
    );
}

#[test]
fn lines_that_break_the_format_are_skipped() {
    for line in [
        "",
        "1 2 3",
        "1 2 3:x / / rw - cgroup c rw",
        "1 2 3:4 / / rw cgroup c rw",
        "1 2 3:4 / / rw - cgroup",
    ] {
        assert_eq!(parse(line.as_bytes()), [], "{line}");
    }
}

proptest! {
    #[test]
    fn no_content_of_either_file_panics(
        mounts in prop::collection::vec(any::<u8>(), 0..400),
        own in prop::collection::vec(any::<u8>(), 0..200),
        options in "[a-z=,]{0,40}",
    ) {
        let _ = parse(&mounts);
        for version in [Version::V1, Version::V2] {
            let _ = path_in(&own, version, Controllers::parse(version, &options), None);
        }
    }

    #[test]
    fn a_path_survives_being_escaped(path in "/[ -~\\t\\n]{0,60}") {
        let escape = |b: u8| match b {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{b:03o}").into_bytes(),
            other => vec![other],
        };
        let field: Vec<u8> = path.bytes().flat_map(escape).collect();
        prop_assert_eq!(unescape(&field), PathBuf::from(path));
    }
}
