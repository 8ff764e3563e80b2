//! `ringside container inspect`: what was asked for and what there is, side by side.

use super::super::output::print;
use super::super::vm::style;
use super::super::{ExitCode, Failure};
use ringside_container::runtime::inspect::{Fact, Inspection, inspect};
use std::fmt::Write as _;
use std::path::Path;

/// Looks and shows.
pub fn run(root: &Path, name: &str, json: bool) -> Result<ExitCode, Failure> {
    let seen = inspect(root, name)?;
    if json {
        print(format_args!("{}\n", serde_json::to_string_pretty(&seen)?))?;
    } else {
        print(table(&seen))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns as wide as what is in them, within reason.
const WIDEST: usize = 44;

fn table(seen: &Inspection) -> String {
    let mut text = format!("{} is {}, process {}\n", seen.id, seen.status, seen.pid);
    let head = style::HEADING;
    for section in &seen.sections {
        let shown = |it: &Option<String>| it.clone().unwrap_or_else(|| "-".into());
        let width = |of: &dyn Fn(&Fact) -> usize| {
            let widths = section.facts.iter().map(of);
            widths.max().unwrap_or(0).min(WIDEST)
        };
        let name = width(&|it| it.name.len()).max(section.name.len());
        let asked = width(&|it| shown(&it.asked).len()).max("ASKED FOR".len());
        let _ = writeln!(
            text,
            "\n{head}  {:name$}  {:asked$}  FOUND{head:#}",
            section.name.to_uppercase(),
            "ASKED FOR"
        );
        for fact in &section.facts {
            let (mark, style) = match (fact.differs, &fact.asked) {
                (true, _) => ("!", style::BAD),
                (false, None) => (" ", style::DIM),
                (false, Some(_)) => (" ", Default::default()),
            };
            let _ = writeln!(
                text,
                "{style}{mark} {:name$}  {:asked$}  {}{style:#}",
                fact.name,
                shown(&fact.asked),
                shown(&fact.found)
            );
        }
    }
    let _ = match seen.differences() {
        0 => writeln!(text, "\nas it was asked for"),
        1 => writeln!(text, "\n1 difference, marked with !"),
        count => writeln!(text, "\n{count} differences, marked with !"),
    };
    text
}
