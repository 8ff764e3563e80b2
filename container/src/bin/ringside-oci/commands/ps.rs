//! `ps`: the processes of a container, as `ps` of the host shows them.

use serde_json::Value;

use super::Error;

/// The format that follows the name, if one does; `ps` itself has an option `-f` as well.
pub fn format_of(rest: &[String]) -> Option<&str> {
    let at = rest.iter().position(|it| it == "--format" || it == "-f")?;
    let format = rest.get(at + 1).map(String::as_str);
    format.filter(|it| *it == "json")
}

pub fn ps(pids: &[i32], format: Option<&str>, rest: &[String]) -> Result<(), Error> {
    match format {
        Some("json") => {
            println!("{}", Value::from(pids));
            return Ok(());
        }
        Some("table") | None => {}
        Some(other) => return Err(format!("invalid format {other:?}: give table or json").into()),
    }
    // As runc: the lines of `ps` that are about these processes.
    let rest = match rest {
        [dashes, rest @ ..] if dashes == "--" => rest,
        rest => rest,
    };
    let arguments = if rest.is_empty() {
        &["-ef".to_owned()][..]
    } else {
        rest
    };
    let output = std::process::Command::new("ps").args(arguments).output();
    let output = output.map_err(|error| format!("cannot run `ps`: {error}; install procps"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said
            .trim()
            .lines()
            .next()
            .unwrap_or("it says nothing")
            .to_owned();
        return Err(format!("`ps {}` failed: {said}", arguments.join(" ")).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|it| it == "PID")
        .ok_or_else(|| {
            "couldn't find PID field in ps output; let it show one, as with `-o pid,args`"
                .to_owned()
        })?;
    println!("{head}");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|it| it.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(())
}
