//! `ps`: the processes of a container, as `ps` of the host shows them.

use serde_json::Value;

use super::Error;

pub fn format_of(rest: &[String]) -> Option<&str> {
    let at = rest.iter().position(|it| it == "--format" || it == "-f")?;
    rest.get(at + 1).map(String::as_str)
}

pub fn ps(pids: &[i32], format: Option<&str>, rest: &[String]) -> Result<(), Error> {
    if format == Some("json") {
        println!("{}", Value::from(pids));
        return Ok(());
    }
    // As runc: the lines of `ps` that are about these processes.
    let arguments = if rest.is_empty() {
        &["-ef".to_owned()][..]
    } else {
        rest
    };
    let output = std::process::Command::new("ps").args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head
        .split_whitespace()
        .position(|it| it == "PID")
        .ok_or_else(|| "ps shows no column PID".to_owned())?;
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
