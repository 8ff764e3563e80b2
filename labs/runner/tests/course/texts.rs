//! What students read: every link leads somewhere, the book has every lab, and the handout of this
//! repository holds no solution.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{repository, text};

/// Every file below `folder` whose name ends in `ending`.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let below = entries.flat_map(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => files(&path, ending),
            false => vec![path],
        }
    });
    below
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

fn labs() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("labs"))
        .expect("labs")
        .flatten();
    let lab = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("lab"))
    };
    let mut labs: Vec<_> = entries.map(|entry| entry.path()).filter(lab).collect();
    labs.sort();
    labs
}

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for file in files(&repository().join("labs"), ".md") {
        let text = fs::read_to_string(&file).expect("a text");
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            let (path, _) = link.split_once('#').unwrap_or((link, ""));
            if path.is_empty() || path.starts_with("http") {
                continue;
            }
            let target = file.parent().expect("a folder").join(path);
            assert!(target.exists(), "{}: the link to {link}", file.display());
            checked += 1;
        }
        for part in text.split("{{#include ").skip(1) {
            let path = part.split("}}").next().unwrap_or_default();
            let target = file.parent().expect("a folder").join(path);
            assert!(target.exists(), "{}: the text {path}", file.display());
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} links were found");
}

#[test]
fn the_book_has_every_lab_and_its_picture() {
    let book = repository().join("labs/book/src");
    let summary = fs::read_to_string(book.join("SUMMARY.md")).expect("SUMMARY.md");
    for lab in labs() {
        let name = lab
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let chapter = format!("{name}.md");
        assert!(
            summary.contains(&format!("]({chapter})")),
            "SUMMARY.md lacks {chapter}"
        );
        let text = fs::read_to_string(book.join(&chapter)).expect("a chapter");
        assert!(
            text.contains(&format!("{{{{#include ../../{name}/README.md}}}}")),
            "{chapter}"
        );
        assert!(
            text.contains(&format!("{{{{#include pictures/{name}.txt}}}}")),
            "{chapter}"
        );
        for task in [
            "## The idea",
            "## Predict",
            "## Tasks",
            "## Check",
            "## Measure",
        ] {
            let text = fs::read_to_string(lab.join("README.md")).expect("README.md");
            assert!(text.contains(task), "{name}/README.md has no {task:?}");
        }
    }
}

#[test]
fn the_handout_holds_no_solution() {
    let place = tempfile::tempdir().expect("a directory");
    let tree = place.path().join("handout");
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["handout", &tree.to_string_lossy()])
        .current_dir(repository())
        .output()
        .expect("the runner");
    assert!(output.status.success(), "{output:?}");
    let said = text(&output);
    for lab in labs() {
        let name = lab
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        assert!(said.contains(&name[3..5]), "{said}");
        let handed = tree.join("labs").join(&name);
        for file in files(&handed, "") {
            let bytes = fs::read(&file).expect("a file");
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("SOLUTION-"), "{}", file.display());
        }
        let student = fs::read_to_string(handed.join("src/lib.rs")).expect("src/lib.rs");
        let complete = fs::read_to_string(lab.join("src/lib.rs")).expect("src/lib.rs");
        let begun = complete.matches("// SOLUTION-BEGIN").count();
        assert!(begun > 0, "{name} leaves nothing to write");
        assert_eq!(student.matches("    todo!(\"").count(), begun, "{name}");
        assert!(
            !handed.join("wrong").exists() && !handed.join("tests").exists(),
            "{name}"
        );
    }
    assert!(tree.join("README.md").is_file() && tree.join("Cargo.lock").is_file());
    for manifest in files(&tree, "Cargo.toml") {
        let text = fs::read_to_string(&manifest).expect("a manifest");
        for part in text.split("path = \"").skip(1) {
            let path = part.split('"').next().unwrap_or_default();
            let target = manifest.parent().expect("a folder").join(path);
            assert!(
                target.exists(),
                "{}: {path} was not copied",
                manifest.display()
            );
        }
    }
}
