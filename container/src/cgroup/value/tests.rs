use proptest::prelude::*;

use super::*;

#[test]
fn no_limit_has_many_spellings() {
    for text in [
        "max\n",
        "-1",
        "9223372036854771712\n",
        "9223372036854710272",
        "18446744073709551615",
    ] {
        assert_eq!(Limit::parse(text), Some(Limit::Max), "{text}");
    }
    assert_eq!(Limit::parse(" 4096\n"), Some(Limit::At(4096)));
    for text in [
        "",
        "-2",
        "MAX",
        "1 2",
        "0x10",
        "99999999999999999999",
        "1\n2",
    ] {
        assert_eq!(Limit::parse(text), None, "{text}");
    }
    assert_eq!(Limit::from_signed(-1), Some(Limit::Max));
    assert_eq!(Limit::from_signed(-2), None);
    assert_eq!(Limit::from_signed(7), Some(Limit::At(7)));
    assert_eq!(
        (Limit::Max.to_string(), Limit::Max.to_v1()),
        ("max".into(), "-1".into())
    );
}

#[test]
fn keyed_lines_are_read_and_others_skipped() {
    let text =
        "anon 1\nfile 2\nN0=3\nbad -1\nbad x\nbad 1 2\n\nanon 4\nhuge 99999999999999999999\n";
    let all = keyed(text);
    assert_eq!(
        all.into_iter().collect::<Vec<_>>(),
        [("anon".into(), 4), ("file".into(), 2)]
    );
    let (device, values) = nested("8:0 rbytes=1 odd wbytes=x=y").unwrap();
    assert_eq!(
        (device, values["rbytes"], values["wbytes"], values.len()),
        ("8:0", "1", "x=y", 2)
    );
    assert!(nested(" \t").is_none());
}

#[test]
fn process_numbers_are_never_negative() {
    let path = Path::new("cgroup.procs");
    assert_eq!(pids(path, "12\n0\n4194304\n").unwrap(), [12, 0, 4_194_304]);
    // Signalling -1 would signal everybody.
    for bad in ["-1\n", "1\n\n2", "x", "4294967297"] {
        pids(path, bad).expect_err(bad);
    }
}

proptest! {
    #[test]
    fn nothing_panics_on_any_text(text in any::<String>()) {
        let path = Path::new("f");
        let _ = (Limit::parse(&text), keyed(&text), nested(&text));
        let _ = (number(path, &text), limit(path, &text), pids(path, &text));
    }

    #[test]
    fn a_limit_is_read_as_it_is_written(value in 0..V1_UNLIMITED) {
        let limit = Limit::At(value);
        prop_assert_eq!(Limit::parse(&limit.to_string()), Some(limit));
        prop_assert_eq!(Limit::parse(&limit.to_v1()), Some(limit));
    }
}
