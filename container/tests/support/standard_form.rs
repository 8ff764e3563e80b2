//! Tests with a main of their own, which the standard harness's threads would disturb, told in its form for
//! those who count.

use std::process::ExitCode;

/// A test: its name and itself.
pub type Test = (&'static str, fn());

/// Runs, one after the other, the tests whose names contain one of the arguments that are no options; all of
/// them when there is none such.
pub fn run(tests: &[Test], arguments: &[String]) -> ExitCode {
    let filters: Vec<&String> = arguments.iter().filter(|it| !it.starts_with('-')).collect();
    let is_chosen = |name: &str| filters.is_empty() || filters.iter().any(|it| name.contains(*it));
    let chosen: Vec<&Test> = tests.iter().filter(|(name, _)| is_chosen(name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        println!("---- {name} stdout ----");
        let verdict = match std::panic::catch_unwind(test) {
            Ok(()) => "ok",
            Err(_) => "FAILED",
        };
        failed += usize::from(verdict != "ok");
        println!("test {name} ... {verdict}");
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out\n",
        if failed == 0 { "ok" } else { "FAILED" },
        chosen.len() - failed,
        tests.len() - chosen.len()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
