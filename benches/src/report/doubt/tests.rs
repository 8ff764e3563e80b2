use super::*;
use crate::report::tests::{constant, report_of};

/// `count` figures around `middle`, `spread` apart at most.
fn figures(middle: f64, spread: f64, count: u32) -> Vec<f64> {
    (0..count)
        .map(|n| middle + spread * (f64::from(n * 7 % count) / f64::from(count - 1) - 0.5))
        .collect()
}

fn kinds(report: &Report) -> Vec<Kind> {
    warnings(report)
        .iter()
        .map(|warning| warning.kind)
        .collect()
}

#[test]
fn clear_differences_and_clear_equality_leave_no_doubt() {
    let report = report_of(&[
        ("native", figures(10.0, 0.2, 20)),
        ("container", figures(10.0, 0.2, 20)),
        ("vm", figures(20.0, 8.0, 20)),
    ]);
    assert_eq!(warnings(&report), []);
}

#[test]
fn noise_that_hides_a_difference_is_told_with_what_would_help() {
    let report = report_of(&[
        ("native", figures(10.0, 4.0, 20)),
        ("vm", figures(10.5, 4.0, 20)),
    ]);
    let found = warnings(&report);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind, Kind::CannotTell);
    assert_eq!(found[0].contenders, ["native", "vm"]);
    let message = &found[0].message;
    assert!(
        message.starts_with("start: too noisy to tell vm from native"),
        "{message}"
    );
    let runs = found[0].runs_needed.unwrap();
    assert!(runs > 20 && runs.is_multiple_of(10), "{runs}");
    assert!(message.ends_with(&format!("--runs {runs}")), "{message}");
}

#[test]
fn hopeless_noise_asks_for_quiet_not_for_runs() {
    let mut wild: Vec<f64> = figures(10.0, 19.0, 20);
    wild.extend([0.01; 20]);
    let report = report_of(&[("native", wild.clone()), ("vm", wild)]);
    let found = warnings(&report);
    assert!(found.iter().any(|warning| warning.kind == Kind::WideSpread));
    let doubt = found
        .iter()
        .find(|warning| warning.kind == Kind::CannotTell)
        .unwrap();
    assert!(
        doubt
            .message
            .ends_with("no number of runs makes up for this")
    );
}

#[test]
fn a_floor_is_compared_with_its_own_contender_only() {
    let noisy = || figures(10.0, 4.0, 20);
    let report = report_of(&[
        ("native", constant(1.0, 20)),
        ("container", noisy()),
        ("vm", constant(99.0, 20)),
        ("floor-container", noisy()),
        ("floor-vm", noisy()),
    ]);
    let found = warnings(&report);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].contenders, ["container", "floor-container"]);
}

#[test]
fn few_runs_are_told_once() {
    let report = report_of(&[("native", constant(1.0, 3)), ("vm", constant(2.0, 3))]);
    assert_eq!(kinds(&report), [Kind::FewRuns]);
}

#[test]
fn nothing_is_said_of_zeros_and_of_nothing() {
    let report = report_of(&[("native", constant(0.0, 20)), ("vm", constant(0.0, 20))]);
    assert_eq!(warnings(&report), []);
    assert_eq!(warnings(&report_of(&[])), []);
}
