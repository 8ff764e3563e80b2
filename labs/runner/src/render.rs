//! What people see: tables and findings, coloured on a terminal and plain in a pipe.

use std::fmt::Write as _;
use std::io::IsTerminal;

use ringside_lab_harness::{Report, Verdict};
use serde::Serialize;

use crate::commands::Trouble;
use crate::grade::{CheckGrade, LabGrade, Questions};
use crate::state::{State, Student};
use crate::tree::{Lab, Tree};

/// The version of the JSON's shape.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    student: &'a Student,
    labs: &'a [LabGrade],
}

/// `cargo lab grade --json`.
pub fn json(student: &Student, labs: &[LabGrade]) -> Result<String, Trouble> {
    let document = Document {
        schema: SCHEMA,
        student,
        labs,
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// The labs and the score so far.
pub fn list(tree: &Tree, state: &State) -> String {
    let width = tree.labs.iter().map(|lab| lab.title.chars().count()).max();
    let width = width.unwrap_or_default().max(5);
    let mut text = format!("Lab  {:width$}  Needs  Score\n", "Title");
    for lab in &tree.labs {
        let score = match state.score(lab.number) {
            Some(score) => format!("{score:3} / 100"),
            None => "  – / 100".into(),
        };
        let Lab {
            number,
            title,
            needs,
            ..
        } = lab;
        let _ = writeln!(text, " {number:02}  {title:width$}  {needs:5}  {score}");
    }
    text += "\nP any Linux user, K KVM, N root or user namespaces, C cgroups, O overlay mounts\n";
    if state.student.is_none() && !tree.is_instructors() {
        text += "Start with `cargo lab id YOUR-ID`, then read ";
    } else {
        text += "Next: `cargo lab grade N`; the text of a lab is ";
    }
    let place = tree.labs.first().map(|lab| lab.place().join("README.md"));
    let _ = writeln!(text, "{}", place.unwrap_or_default().display());
    text
}

/// One graded lab.
pub fn grade(grade: &LabGrade, student: &Student) -> String {
    let mut text = format!("Lab {:02}  {}  ({student})\n\n", grade.lab, grade.title);
    if let Some(error) = &grade.build_error {
        let _ = writeln!(
            text,
            "{error}\n  the code does not build yet: no check ran\n"
        );
        return text;
    }
    let width = grade
        .checks
        .iter()
        .map(|check| check.name.chars().count())
        .max();
    for check in &grade.checks {
        text += &one_check(check, width.unwrap_or_default());
    }
    let _ = write!(text, "\n  score {} of {}", grade.score, grade.maximum);
    let lost = grade.points - grade.maximum;
    if lost > 0 {
        let _ = write!(
            text,
            "; {lost} more points on a host that can run what was skipped"
        );
    }
    let supplied = |check: &CheckGrade| !check.report.reference.is_empty();
    if grade.checks.iter().any(supplied) {
        let _ = write!(text, "; what the reference supplied gives no points");
    }
    text += "\n\n";
    text
}

fn one_check(check: &CheckGrade, width: usize) -> String {
    let report = &check.report;
    let CheckGrade {
        id,
        name,
        points,
        worth,
        ..
    } = check;
    let word = paint(report.verdict, &format!("{:7}", report.verdict.word()));
    let mut text = format!("  {word} {id:>5}  {name:width$}  {points:2} / {worth:2}");
    if !report.reference.is_empty() {
        let _ = write!(
            text,
            "  with the reference's {}",
            report.reference.join(", ")
        );
    }
    if let (Verdict::Todo, Some(what)) = (report.verdict, &report.message) {
        let _ = write!(text, "  {what}");
    }
    text.push('\n');
    if report.verdict != Verdict::Todo {
        line(&mut text, "why", report.message.as_deref());
    }
    line(&mut text, "fix", report.fix.as_deref());
    if let Some(finding) = &report.finding {
        line(&mut text, "ran", Some(&finding.ran));
        line(&mut text, "expected", Some(&finding.expected));
        line(&mut text, "got", Some(&finding.got));
        line(&mut text, "look", Some(&finding.look));
    }
    if report.verdict.is_wrong() {
        line(&mut text, "printed", Some(check.output.trim_end()));
        line(&mut text, "hint", Some(&format!("cargo lab hint {id}")));
    }
    text
}

fn line(text: &mut String, name: &str, value: Option<&str>) {
    for (index, value) in value.unwrap_or_default().lines().enumerate() {
        let name = if index == 0 { name } else { "" };
        let _ = writeln!(text, "            {name:8}  {value}");
    }
}

/// Breaks `text` between words, so that no line is longer than `width` with its `indent`. A word
/// longer than that stays whole.
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines.join("\n")
}

fn paint(verdict: Verdict, text: &str) -> String {
    let colour = match verdict {
        Verdict::Ok => 32,
        Verdict::Todo => 33,
        Verdict::Skip => 36,
        Verdict::Fail | Verdict::Timeout | Verdict::Crash => 31,
    };
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.into()
    }
}

/// The written questions of a lab.
pub fn questions(lab: &Lab, questions: &Questions) -> String {
    let file = lab.place().join("answers.toml");
    let mut text = format!(
        "Lab {:02}: write your answers into {}\n",
        lab.number,
        file.display()
    );
    for (id, question, given, answer) in questions {
        let _ = writeln!(text, "\n{}", wrap(&format!("[{id}] {question}"), 96, ""));
        if let Some(given) = given {
            let _ = writeln!(text, "  yours:  {given}");
        }
        let answer = if answer.trim().is_empty() {
            "–"
        } else {
            answer
        };
        let _ = writeln!(text, "{}", wrap(&format!("answer: {answer}"), 96, "  "));
    }
    text
}

/// A measurement beside its prediction.
pub fn measured(lab: &Lab, question: &str, prediction: &str, report: &Report) -> String {
    let heading = format!("Lab {:02}. {question}", lab.number);
    let mut text = wrap(&heading, 96, "") + "\n\n";
    match (report.verdict, &report.message) {
        (Verdict::Ok, Some(measured)) => {
            let _ = write!(
                text,
                "you predicted   {prediction}\n\nmeasured\n\n{measured}\n"
            );
            if !report.reference.is_empty() {
                let parts = report.reference.join(", ");
                let _ = writeln!(text, "(with the reference's {parts})");
            }
        }
        (Verdict::Todo, Some(what)) => {
            let _ = writeln!(
                text,
                "your prediction is stored. Now {what}, and measure again; or see it with\n\
                 `cargo lab measure {} --with reference`",
                lab.number
            );
        }
        (verdict, message) => {
            let _ = writeln!(text, "{}", verdict.word());
            line(&mut text, "why", message.as_deref());
            line(&mut text, "fix", report.fix.as_deref());
            if let Some(finding) = &report.finding {
                line(&mut text, "ran", Some(&finding.ran));
                line(&mut text, "expected", Some(&finding.expected));
                line(&mut text, "got", Some(&finding.got));
            }
        }
    }
    text
}
