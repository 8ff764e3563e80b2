//! For a lab's own tests: its solution passes its own checks, on whatever host the test runs.
//!
//! `cargo lab gate` proves more, and needs a compiler for it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::report::{Listing, Report, Verdict};
use crate::seed::Seed;

/// Runs every check of a lab's `binary` for `student`. What this host cannot run is said on standard
/// error. Written answers are right for the student `gate` only, and left out for others.
///
/// # Panics
///
/// With the report, when a check does not pass.
pub fn solution_passes(binary: &Path, folder: &Path, number: u8, student: &str) {
    let seed = Seed::new(student, number).to_string();
    let listing = Command::new(binary)
        .args(["--list", "--seed", &seed])
        .output();
    let listing = listing.expect("the lab's binary lists its checks").stdout;
    let listing: Listing = serde_json::from_slice(&listing).expect("a listing");
    for check in listing.checks {
        if check.written && student != "gate" {
            continue;
        }
        let name = format!(
            "ringside-proof-{}-{student}-{}",
            std::process::id(),
            check.id
        );
        let scratch = std::env::temp_dir().join(name);
        let result = scratch.join("result.json");
        let place = scratch.join("scratch");
        fs::create_dir_all(&place).expect("a scratch directory");
        let output = Command::new(binary)
            .args(["--check", &check.id, "--seed", &seed, "--folder"])
            .arg(folder)
            .arg("--result")
            .arg(&result)
            .current_dir(&place)
            .output()
            .expect("the lab's binary runs a check");
        let report = fs::read(&result).unwrap_or_default();
        let _ = fs::remove_dir_all(&scratch);
        let report: Report = serde_json::from_slice(&report)
            .unwrap_or_else(|error| panic!("check {}: no report ({error}): {output:?}", check.id));
        match report.verdict {
            Verdict::Ok => {}
            Verdict::Skip => {
                let why = report.message.unwrap_or_default();
                eprintln!("skipped: check {}: {why}", check.id);
            }
            _ => panic!("check {} for {student}: {report:#?}\n{output:?}", check.id),
        }
    }
}
