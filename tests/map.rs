//! `ringside vm map`: what two machines of one image share, before and after they write.

use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};

fn map(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringside"));
    command
        .args(["vm", "map"])
        .args(arguments)
        .output()
        .unwrap()
}

/// Whether this host can say.
fn can() -> bool {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("skipped: not root, who alone may know the machine's page numbers");
    }
    root
}

/// How many pages of the first machine are of that owner.
fn pages(picture: &Value, owner: &str) -> u64 {
    let runs = picture[0]["runs"].as_array().unwrap();
    let of = runs.iter().filter(|run| run["owner"] == owner);
    of.map(|run| run["pages"].as_u64().unwrap()).sum()
}

#[test]
fn machines_of_one_image_share_it_until_they_write() {
    if !can() {
        return;
    }
    let output = map(&["hello", "hello", "--json"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (before, after) = (&value["before"], &value["after"]);
    assert_eq!(pages(before, "own"), 0, "{before:#}");
    assert!(pages(before, "image") > 8, "{before:#}");
    assert!(
        pages(after, "own") > 0 && pages(after, "image") > 0,
        "{after:#}"
    );
    for picture in [before, after] {
        assert_eq!(pages(picture, "exposed"), 0, "{picture:#}");
        assert_eq!(picture[0]["runs"][0]["slot"], 0);
    }
    // Of one image before: the same pages of the host behind the same guest-physical addresses.
    let places = |machine: usize| {
        let runs = before[machine]["runs"].as_array().unwrap().iter();
        let place =
            |run: &Value| [&run["guest_physical"], &run["host_physical"]].map(Value::as_u64);
        runs.map(place).collect::<Vec<_>>()
    };
    assert_eq!(places(0), places(1));
    assert!(before[0]["pss_bytes"].as_u64() < before[0]["resident_bytes"].as_u64());
}

#[test]
fn different_programs_share_nothing() {
    if !can() {
        return;
    }
    let output = map(&["hello", "primes"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("its own") && text.contains("the image's"),
        "{text}"
    );
    assert!(
        !text.contains("shared with") && !text.contains("EXPOSED"),
        "{text}"
    );
}

#[test]
fn what_is_no_program_is_named() {
    let output = map(&["hello", "nonesuch"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("`nonesuch`") && text.contains("vm list"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(2));
}
