//! One source: the solution between two markers becomes what the student is handed.
//!
//! ```text
//!   // SOLUTION-BEGIN walk the tables        todo!("walk the tables")
//!   …the solution…                     ─►
//!   // SOLUTION-END
//!
//!   # SOLUTION-BEGIN answer = ""             answer = ""
//!   answer = "4"                       ─►
//!   # SOLUTION-END
//! ```
//!
//! In Rust the text after the marker is the message of a `todo!`; anywhere else it stands as it is.

use std::path::{Path, PathBuf};

const BEGIN: &str = "SOLUTION-BEGIN";
const END: &str = "SOLUTION-END";

/// Markers that do not pair up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}: {what}", path = path.display())]
pub struct StripError {
    path: PathBuf,
    line: usize,
    what: &'static str,
}

/// The student's version of a file, or `None` where it holds no solution.
///
/// # Errors
///
/// When a marker is without its partner, nested, or a beginning says nothing.
pub fn strip(path: &Path, text: &str) -> Result<Option<String>, StripError> {
    let rust = path.extension().is_some_and(|extension| extension == "rs");
    let comment = if rust { "//" } else { "#" };
    let error = |index: usize, what| StripError {
        path: path.into(),
        line: index + 1,
        what,
    };
    let mut out = String::with_capacity(text.len());
    let mut begun = None;
    let mut found = false;
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let marker = content
            .strip_prefix(comment)
            .map(str::trim)
            .unwrap_or_default();
        if let Some(message) = marker.strip_prefix(BEGIN) {
            if begun.replace(index).is_some() {
                return Err(error(index, "a solution begins inside a solution"));
            }
            let message = message.trim();
            if message.is_empty() {
                return Err(error(index, "SOLUTION-BEGIN says nothing to the student"));
            }
            let indent = &line[..line.len() - content.len()];
            out.push_str(indent);
            out.push_str(&if rust { todo(message) } else { message.into() });
            out.push('\n');
            found = true;
        } else if marker == END {
            if begun.take().is_none() {
                return Err(error(index, "a solution ends that did not begin"));
            }
        } else if begun.is_none() {
            out.push_str(line);
            out.push('\n');
        }
    }
    match begun {
        Some(index) => Err(error(index, "this solution does not end")),
        None => Ok(found.then_some(out)),
    }
}

fn todo(message: &str) -> String {
    // It becomes a format string inside a string literal.
    let message = message.replace('{', "{{").replace('}', "}}");
    format!("todo!({message:?})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(name: &str, text: &str) -> Result<Option<String>, StripError> {
        strip(Path::new(name), text)
    }

    #[test]
    fn rust_gets_a_todo_and_keeps_its_indentation() {
        let text =
            "fn f() -> u8 {\n    // SOLUTION-BEGIN say \"{5}\"\n    5\n    // SOLUTION-END\n}\n";
        let expected = "fn f() -> u8 {\n    todo!(\"say \\\"{{5}}\\\"\")\n}\n";
        assert_eq!(stripped("lib.rs", text), Ok(Some(expected.into())));
    }

    #[test]
    fn toml_gets_the_text_itself() {
        let text = "[a]\n# SOLUTION-BEGIN answer = \"\"\nanswer = \"4\"\n# SOLUTION-END\n";
        let expected = "[a]\nanswer = \"\"\n";
        assert_eq!(stripped("answers.toml", text), Ok(Some(expected.into())));
    }

    #[test]
    fn a_file_without_solutions_is_left_alone() {
        assert_eq!(stripped("lib.rs", "fn f() {}\n"), Ok(None));
        // A text that speaks of the markers holds none.
        assert_eq!(
            stripped("x.rs", "//! between SOLUTION-BEGIN and SOLUTION-END\n"),
            Ok(None)
        );
    }

    #[test]
    fn markers_that_do_not_pair_up_are_named() {
        let line = |text: &str| stripped("lib.rs", text).map_err(|error| error.line);
        assert_eq!(line("a\n// SOLUTION-BEGIN x\nb\n"), Err(2));
        assert_eq!(line("a\n\n// SOLUTION-END\n"), Err(3));
        assert_eq!(
            line("// SOLUTION-BEGIN x\n// SOLUTION-BEGIN y\n// SOLUTION-END\n"),
            Err(2)
        );
        assert_eq!(line("// SOLUTION-BEGIN\n// SOLUTION-END\n"), Err(1));
    }
}
