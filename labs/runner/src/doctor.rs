//! What this host can run, each line with its evidence or its remedy.

use std::fmt::Write as _;

use ringside_lab_harness::{Need, probe};
use serde_json::json;

/// The table, or the same as JSON.
pub fn report(as_json: bool) -> String {
    let probed = Need::ALL.map(|need| (need, probe(need)));
    if as_json {
        let line = |(need, found): &(Need, Result<String, _>)| match found {
            Ok(evidence) => json!({
                "need": need, "name": need.name(), "works": true, "evidence": evidence,
            }),
            Err(ringside_lab_harness::Missing { why, fix }) => json!({
                "need": need, "name": need.name(), "works": false, "why": why, "fix": fix,
            }),
        };
        let lines: Vec<_> = probed.iter().map(line).collect();
        return format!("{:#}\n", json!({ "schema": 1, "needs": lines }));
    }
    let mut text = String::from("  yes  P  any Linux user\n");
    for (need, found) in probed {
        let (letter, name) = (need.letter(), need.name());
        let _ = match found {
            Ok(evidence) => writeln!(text, "  yes  {letter}  {name}: {evidence}"),
            Err(missing) => writeln!(
                text,
                "  no   {letter}  {name}: {}\n          fix: {}",
                missing.why, missing.fix
            ),
        };
    }
    text + "\nChecks that need what is missing say `skip`, and the score's maximum is lower.\n\
            At least 60 points of every lab need P only.\n"
}
