//! The measurement: the same questions asked on the host and in the container.

use std::fmt::Write as _;
use std::process::Command;

use lab10::{Plan, plan};
use ringside_lab_harness::{Context, Failure, Need, attempt, probe};

use crate::container::Stage;
use crate::real::Seen;

pub fn measure(context: &Context) -> Result<String, Failure> {
    probe(Need::Namespaces)?;
    let stage = Stage::new(context)?;
    let inside = Seen::new(&stage.probe("report", &[])?)?;
    let program = std::env::current_exe().unwrap_or_default();
    let output = Command::new(program).args(["--role", "report"]).output();
    let output = output.map_err(|error| {
        Failure::found(
            "the probe on the host",
            "its report",
            error.to_string(),
            "the host",
        )
    })?;
    let outside = Seen::new(&crate::container::Ran {
        ended: lab10::Ended::Exited(0),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
    })?;
    let rows = [
        ("uname -r", "kernel"),
        ("/etc/os-release", "os"),
        ("host name", "hostname"),
        ("own number", "pid"),
        ("processes it sees", "processes"),
        ("mounts it sees", "mounts"),
        ("mount namespace", "ns.mnt"),
        ("PID namespace", "ns.pid"),
        ("UTS namespace", "ns.uts"),
        ("IPC namespace", "ns.ipc"),
    ];
    let cut = |text: &str| text.chars().take(34).collect::<String>();
    let mut text = format!("  {:18}  {:34}  {}\n", "", "host", "container");
    for (name, key) in rows {
        let (host, container) = (cut(outside.get(key)), cut(inside.get(key)));
        let _ = writeln!(text, "  {name:18}  {host:34}  {container}");
    }
    if stage.is_students()
        && let Ok(plan) = attempt(String::new, "", || plan(&stage.config))?
    {
        story(&mut text, &plan);
    }
    Ok(text)
}

fn story(text: &mut String, plan: &Plan) {
    let (namespaces, steps) = (plan.namespaces.len(), plan.steps.len());
    let _ = writeln!(
        text,
        "\n  One clone with {namespaces} namespaces and {steps} system calls made this container. \
         There is no second\n  kernel in it: the same one answers, with other names."
    );
}
