//! A lab as a student meets it: handed out, unwritten, half written, done.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::common::{Fixture, check, edit, text, wants_compiler};
use ringside_lab_harness::Seed;

const LIB: &str = "labs/lab98-doubling/src/lib.rs";

#[test]
fn a_student_goes_from_nothing_to_everything() {
    wants_compiler!();
    let fixture = Fixture::new("student");
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("labs");
    let output = fixture.lab(&["handout", &tree.to_string_lossy(), "--labs", "98"]);
    assert!(output.status.success(), "{output:?}");
    edit(
        &tree.join("Cargo.toml"),
        "0.0.0-fixture-student",
        "0.0.0-fixture-handout",
    );

    let handed = fs::read_to_string(tree.join(LIB)).unwrap();
    assert!(
        handed.contains("    todo!(\"double {{x}} (task 1)\")\n"),
        "{handed}"
    );
    assert!(
        !handed.contains("SOLUTION") && !handed.contains("x + x"),
        "{handed}"
    );
    let answers = fs::read_to_string(tree.join("labs/lab98-doubling/answers.toml")).unwrap();
    assert!(answers.contains("answer = \"\"\n\n[open]"), "{answers}");
    assert!(!tree.join("labs/lab98-doubling/wrong").exists());
    assert!(!tree.join("labs/lab99-hostile").exists());

    let lab = |arguments: &[&str]| fixture.lab_in(&tree, arguments);
    let code = |arguments: &[&str]| lab(arguments).status.code();
    let error = |arguments: &[&str]| String::from_utf8(lab(arguments).stderr).unwrap();
    // Nobody yet, then somebody.
    assert!(text(&lab(&[])).contains("cargo lab id YOUR-ID"));
    assert_eq!(code(&["grade"]), Some(2));
    assert!(error(&["grade"]).contains("who are you?"));
    assert_eq!(code(&["id", "no good"]), Some(2));
    assert_eq!(text(&lab(&["id", "Ada.L"])), "ada.l\n");
    assert_eq!(text(&lab(&["id"])), "ada.l\n");
    // What is not there.
    assert_eq!(code(&["grade", "99"]), Some(2));
    assert!(error(&["grade", "99"]).contains("there are: 98"));
    assert_eq!(code(&["grade", "--check", "98.9"]), Some(2));
    assert_eq!(code(&["grade", "--check", "x"]), Some(2));
    assert_eq!(code(&["hint", "98.9"]), Some(2));
    assert_eq!(code(&["gate"]), Some(2));
    assert_eq!(
        code(&["handout", &tree.join("inside").to_string_lossy()]),
        Some(1)
    );
    assert_eq!(code(&["handout", &tree.to_string_lossy()]), Some(1));

    // Unwritten: todo everywhere, which is not wrong.
    let output = lab(&["grade", "98"]);
    assert_eq!(output.status.code(), Some(0));
    let shown = text(&output);
    assert!(
        shown.contains("todo     98.1  twice") && shown.contains("double {x} (task 1)"),
        "{shown}"
    );
    assert!(
        shown.contains("skip     98.3") && shown.contains("look up at night"),
        "{shown}"
    );
    assert!(shown.contains("score 0 of 80"), "{shown}");

    // With the reference it works, and earns nothing.
    let grade = fixture.grade(&tree, &["98", "--with", "reference"]);
    assert_eq!(check(&grade, "98.1")["verdict"], "ok");
    assert_eq!(check(&grade, "98.1")["reference"][0], "double");
    assert_eq!(check(&grade, "98.1")["points"], 0);
    assert!(
        text(&lab(&[])).contains("0 / 100"),
        "and the score is not stored"
    );

    // One task, wrong, then right: the score rises.
    let file = tree.join(LIB);
    edit(&file, "todo!(\"double {{x}} (task 1)\")", "x * 3");
    let output = lab(&["grade", "98"]);
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output);
    assert!(
        shown.contains("expected  42") && shown.contains("got       63"),
        "{shown}"
    );
    assert_eq!(
        fixture.grade(&tree, &["98", "--with", "reference"])["labs"][0]["score"],
        0
    );
    edit(&file, "x * 3", "x * 2");
    assert!(text(&lab(&["grade", "98"])).contains("score 40 of 80"));
    assert!(text(&lab(&["list"])).contains("40 / 100"));

    // Code that does not build is said in the compiler's words.
    edit(&file, "todo!(\"halve (task 2)\")", "x / \"2\"");
    let output = lab(&["grade", "98"]);
    assert!(
        text(&output).contains("cannot divide `u64`"),
        "{}",
        text(&output)
    );
    assert_eq!(output.status.code(), Some(1));
    edit(&file, "x / \"2\"", "x / 2");
    assert!(text(&lab(&["grade", "98"])).contains("score 70 of 80"));

    answers_and_questions(&fixture, &tree);
    hints_and_measure(&fixture, &tree);
    watching(&fixture, &tree);
}

fn answers_and_questions(fixture: &Fixture, tree: &Path) {
    let lab = |arguments: &[&str]| text(&fixture.lab_in(tree, arguments));
    let number = Seed::new("ada.l", 98).0 % 1000;
    assert!(lab(&["questions", "98"]).contains(&format!("x = {number}")));
    let file = tree.join("labs/lab98-doubling/answers.toml");
    // The neighbour's answer, then her own.
    let other = Seed::new("bob", 98).0 % 1000 * 2;
    edit(
        &file,
        "answer = \"\"\n\n",
        &format!("answer = \"{other}\"\n\n"),
    );
    assert!(lab(&["grade", "98"]).contains("your answer to [double]"));
    edit(
        &file,
        &format!("\"{other}\""),
        &format!("\" {} \"", number * 2),
    );
    assert!(lab(&["grade", "98"]).contains("score 80 of 80"));
    let grade = fixture.grade(tree, &["98", "--id", "bob"]);
    assert_eq!(check(&grade, "98.4")["verdict"], "FAIL");
    assert_eq!(grade["student"], "bob");
    assert!(
        lab(&["list"]).contains("80 / 100"),
        "grading as somebody else stores nothing"
    );
    assert_eq!(grade["labs"][0]["answers"]["open"]["question"], "Why?");
}

fn hints_and_measure(fixture: &Fixture, tree: &Path) {
    let lab = |arguments: &[&str]| text(&fixture.lab_in(tree, arguments));
    let first = lab(&["hint", "98.1"]);
    assert!(
        first.contains("add a number to itself") && !first.contains("one line"),
        "{first}"
    );
    let second = lab(&["hint", "98.1"]);
    assert!(
        second.contains("one line") && !second.contains("two times x"),
        "{second}"
    );
    assert!(lab(&["hint", "98.1"]).contains("two times x"));
    assert!(!lab(&["hint", "98.1", "--step", "1"]).contains("one line"));

    // No prediction, no measurement; the first prediction stays.
    let none = fixture
        .command(tree, &["measure", "98"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(2));
    let shown = lab(&["measure", "98", "--predict", "forty"]);
    assert!(
        shown.contains("you predicted   forty") && shown.contains("twice 21 is 42"),
        "{shown}"
    );
    let shown = lab(&["measure", "98", "--predict", "42, of course"]);
    assert!(shown.contains("you predicted   forty"), "{shown}");
}

fn watching(fixture: &Fixture, tree: &Path) {
    let mut command = fixture.command(tree, &["watch", "98"]);
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut score = || {
        let line = lines.find(|line| line.as_ref().unwrap().contains("  score "));
        line.unwrap().unwrap()
    };
    assert!(score().contains("score 80 of 80"));
    edit(&tree.join(LIB), "x * 2", "x * 5");
    assert!(score().contains("score 40 of 80"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_class_is_graded_by_the_instructors_checks() {
    wants_compiler!();
    let fixture = Fixture::new("class");
    let class = tempfile::tempdir().unwrap();
    let hand_in = |student: &str, code: Option<&str>| {
        let lab = class.path().join(student).join("labs/lab98-doubling");
        fs::create_dir_all(lab.join("src")).unwrap();
        let number = Seed::new(student, 98).0 % 1000 * 2;
        let answers = format!("[double]\nquestion = ''\nanswer = '{number}'\n");
        fs::write(lab.join("answers.toml"), answers).unwrap();
        if let Some(code) = code {
            fs::write(lab.join("src/lib.rs"), code).unwrap();
        }
        // Whatever else is in there is not looked at.
        fs::create_dir_all(lab.join("checks")).unwrap();
        fs::write(lab.join("checks/main.rs"), "fn main() {}").unwrap();
    };
    let code = |double: &str| {
        format!(
            "pub fn double(x: u64) -> u64 {{ {double} }}\npub fn half(x: u64) -> u64 {{ x / 2 }}\n"
        )
    };
    hand_in("ada", Some(&code("x + x")));
    hand_in("bob", Some(&code("x + 1")));
    hand_in("carl", Some("pub fn double("));
    hand_in("dora", None);
    hand_in("not an id", Some(&code("x + x")));
    fs::create_dir_all(class.path().join("ada/.lab")).unwrap();
    fs::write(
        class.path().join("ada/.lab/state.json"),
        "{\"student\":\"eve\"}",
    )
    .unwrap();

    let folder = class.path().to_string_lossy().into_owned();
    let output = fixture.lab(&["grade", "98", "--class", &folder, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let marks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| {
        let students = marks["students"].as_array().unwrap();
        students
            .iter()
            .find(|student| student["student"] == name)
            .unwrap()
    };
    assert_eq!(
        (&of("ada")["score"], &of("ada")["maximum"]),
        (&80.into(), &80.into())
    );
    assert!(of("ada")["problems"][0].as_str().unwrap().contains("eve"));
    assert_eq!(of("bob")["score"], 40);
    assert_eq!(of("carl")["score"], 0);
    assert!(of("carl")["labs"][0]["build_error"].is_string());
    assert_eq!(of("dora")["score"], 10, "the answers alone");
    assert!(
        of("dora")["problems"][0]
            .as_str()
            .unwrap()
            .contains("src/lib.rs")
    );
    assert!(
        of("not an id")["problems"][0]
            .as_str()
            .unwrap()
            .contains("is not an id")
    );

    let table = text(&fixture.lab(&["grade", "98", "--class", &folder]));
    assert!(
        table
            .lines()
            .any(|line| line.starts_with("bob ") && line.contains("40 / 80")),
        "{table}"
    );
    let nowhere = fixture.lab(&["grade", "--class", "/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(2));
}
