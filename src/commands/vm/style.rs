//! Colours of the views. Whatever is printed through here is plain where it goes to no terminal, or
//! where `NO_COLOR` is set.

use anstyle::{AnsiColor, Style};
use std::fmt::{Display, Write as _};
use std::io::Write as _;

/// The head of a table, and what a picture is of.
pub const HEADING: Style = Style::new().bold();
/// What went as it should.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What is worth a look.
pub const NOTE: Style = AnsiColor::Yellow.on_default();
/// What did not.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Instructions, bars.
pub const CODE: Style = AnsiColor::Cyan.on_default();
/// Details.
pub const DIM: Style = Style::new().dimmed();

/// Writes to standard error; who closed that does not want to know.
pub fn eprint(text: impl Display) {
    let _ = write!(anstream::stderr().lock(), "{text}");
}

/// Each line in a style of its own, as far as it has one.
pub fn lines(text: impl Display, style: impl Fn(&str) -> Option<Style>) -> String {
    let mut painted = String::new();
    for line in text.to_string().lines() {
        let style = style(line).filter(|_| !line.is_empty()).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(painted, "{style}{line}{style:#}");
    }
    painted
}

/// A walk, or a report with walks in it: where it ends, and what it costs.
pub fn walk(picture: impl Display) -> String {
    lines(picture, |line| {
        let words = line.trim_start();
        let begins = |any: &[&str]| any.iter().any(|word| words.starts_with(word));
        if begins(&["stop", "exit", "not merged"]) {
            Some(BAD)
        } else if begins(&["page"]) {
            Some(GOOD)
        } else if begins(&["read by", "write by", "fetch by", "sign", "rip"]) {
            Some(HEADING)
        } else if words.ends_with("memory references") {
            Some(NOTE)
        } else {
            None
        }
    })
}
