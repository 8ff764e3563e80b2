use super::*;
use crate::report::tests::{constant, report_of};
use crate::report::{Failure, NotRun};

#[test]
fn numbers_have_three_digits_and_thousands() {
    for (value, text) in [
        (0.0, "0"),
        (0.4123, "0.412"),
        (2.5, "2.50"),
        (31.26, "31.3"),
        (999.6, "1,000"),
        (3_120.4, "3,120"),
        (1_234_567.0, "1,234,567"),
        (-1_234.0, "-1,234"),
        (-123.0, "-123"),
    ] {
        assert_eq!(number(value, decimals(value)), text, "{value}");
    }
}

#[test]
fn the_table_shows_every_result_its_ratio_and_its_floor() {
    let report = report_of(&[
        ("native", constant(0.5, 9)),
        ("container", constant(3.0, 9)),
        ("floor-container", constant(2.0, 9)),
    ]);
    let text = render(&report, Look::Plain);
    let expected = "
-----------------------------------------------------------
                  native               container
===========================================================
 start                0.500 ±0.000 (0.500–0.500)  3.00 ±0.00 (3.00–3.00)
 ms, less is better                        6.00× (6.00–6.00)
                                       by hand 2.00 (2.00–2.00)
                                       1.50× (1.50–1.50) by hand
";
    for line in expected
        .lines()
        .filter(|line| !line.starts_with(['-', '=']))
    {
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted = squeezed(line);
        assert!(
            text.lines().any(|line| squeezed(line) == wanted),
            "no line `{wanted}` in\n{text}"
        );
    }
    assert!(!text.contains("floor-container"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
}

#[test]
fn a_narrow_terminal_gets_the_same_in_80_columns() {
    let report = report_of(&[
        ("native", constant(20_000.0, 9)),
        ("container", constant(19_000.0, 9)),
        ("vm", constant(18_000.0, 9)),
        ("floor-vm", constant(18_000.0, 9)),
    ]);
    let wide = arranged(&report, Look::Plain, Intervals::Beside).to_string();
    let narrow = arranged(&report, Look::Plain, Intervals::Beneath).to_string();
    let width = |text: &str| text.lines().map(|line| line.chars().count()).max();
    assert!(width(&wide) > Some(80), "{wide}");
    assert!(width(&narrow) <= Some(80), "{narrow}");
    let words = |text: &str| {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        words.retain(|word| !word.starts_with(['-', '=']));
        words.sort();
        words
    };
    assert_eq!(words(&wide), words(&narrow));
}

#[test]
fn a_floor_alone_has_a_column_of_its_own() {
    let report = report_of(&[("floor-vm", constant(2.0, 9))]);
    let text = render(&report, Look::Plain);
    assert!(
        text.contains("floor-vm") && text.contains("2.00 ±0.00 (2.00–2.00)"),
        "{text}"
    );
}

#[test]
fn what_is_missing_is_said_with_the_reason() {
    let mut report = report_of(&[
        ("native", constant(1.0, 9)),
        ("vm", Vec::new()),
        ("container", Vec::new()),
    ]);
    report.contenders[1].unavailable = Some("cannot open /dev/kvm: gone".to_owned());
    report.interrupted = true;
    report.workloads[0].not_run.push(NotRun {
        contender: "container".to_owned(),
        reason: "none is kept; `ringside kernel build` builds one".to_owned(),
    });
    report.workloads[0].failures.push(Failure {
        contender: "native".to_owned(),
        round: 3,
        reason: "it broke".to_owned(),
    });
    let text = render(&report, Look::Plain);
    for line in [
        "interrupted: this is what there was by then",
        "vm cannot run on this host: cannot open /dev/kvm: gone",
        "start under native failed in round 3: it broke",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    for part in ["none is kept; `ringside", "kernel build` builds one"] {
        assert!(
            text.lines().any(|line| line.ends_with(part)),
            "{part} in\n{text}"
        );
    }
}

#[test]
fn a_report_of_nothing_says_so() {
    let text = render(&report_of(&[]), Look::Plain);
    assert!(text.contains("\nnothing was measured\n"), "{text}");
}

#[test]
fn warnings_of_one_kind_are_put_together() {
    let mut report = report_of(&[("native", constant(1.0, 9)), ("vm", constant(2.0, 9))]);
    let warning = |kind, contenders: &[&str], runs_needed| Warning {
        kind,
        workload: Some("start".to_owned()),
        metric: Some("time".to_owned()),
        contenders: contenders.iter().map(|&name| name.to_owned()).collect(),
        runs_needed,
        message: "in full".to_owned(),
    };
    report.warnings = vec![
        warning(Kind::FewRuns, &[], Some(8)),
        warning(Kind::CannotTell, &["native", "vm"], Some(90)),
        warning(Kind::CannotTell, &["vm", "container"], Some(60)),
        warning(Kind::CannotTell, &["native", "vm"], Some(30)),
        warning(Kind::WideSpread, &["vm", "native"], None),
    ];
    assert_eq!(
        doubts(&report),
        [
            "warning: in full",
            "warning: too noisy to tell apart: native and vm in start, start; vm and container in start; quiet the machine, or give --runs 90",
            "warning: widely spread figures: vm, native in start; see what else runs on this machine",
        ]
    );
    report.warnings = vec![
        warning(Kind::CannotTell, &["native", "vm"], Some(90)),
        warning(Kind::CannotTell, &["native", "vm"], None),
    ];
    assert!(doubts(&report)[0].ends_with("no number of runs makes up for this"));
}
