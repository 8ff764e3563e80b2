//! Lab 10: a container by hand. You write this file; `README.md` tells how, `given.rs` has the types.

mod given;
mod host;
mod sys;

pub use given::*;
pub use host::Host;

/// Tasks 1 to 3. Everything that turns a fresh process into a container, as data, in order: nothing is
/// done here, so that it can be read, checked and explained before it happens.
///
/// The namespaces are mount, PID, UTS and IPC, and user when [`Config::rootless`] says so.
///
/// # Errors
///
/// For a configuration that would be dangerous or pointless; see [`PlanError`].
pub fn plan(config: &Config) -> Result<Plan, PlanError> {
    // SOLUTION-BEGIN plan the steps of a container (tasks 1 to 3)
    use std::path::{Component, Path, PathBuf};
    /// An absolute path without `..`, relative to `/`.
    fn inside(path: &Path) -> Result<PathBuf, PlanError> {
        let mut names = path.components();
        let plain = names.next() == Some(Component::RootDir)
            && names.all(|name| matches!(name, Component::Normal(_)));
        match path.strip_prefix("/") {
            Ok(relative) if plain => Ok(relative.into()),
            _ => Err(PlanError::Path(path.into())),
        }
    }
    inside(&config.root)?;
    if config.hostname.is_empty() || config.hostname.len() > 64 {
        return Err(PlanError::Hostname(config.hostname.clone()));
    }
    if !config.command.program.is_absolute() {
        return Err(PlanError::Path(config.command.program.clone()));
    }
    let root = &config.root;
    let mut namespaces = vec![
        Namespace::Mount,
        Namespace::Pid,
        Namespace::Uts,
        Namespace::Ipc,
    ];
    let mut steps = Vec::new();
    if let Some(user) = config.rootless {
        namespaces.push(Namespace::User);
        let write = |file: &str, text: String| Step::WriteFile {
            path: Path::new("/proc/self").join(file),
            text,
        };
        steps.push(write("uid_map", format!("0 {} 1", user.uid)));
        steps.push(write("setgroups", "deny".into()));
        steps.push(write("gid_map", format!("0 {} 1", user.gid)));
    }
    steps.push(Step::MakePrivate);
    steps.push(Step::Bind {
        from: root.clone(),
        to: root.clone(),
    });
    for bind in &config.binds {
        let to = root.join(inside(&bind.inside)?);
        steps.push(Step::Bind {
            from: bind.host.clone(),
            to: to.clone(),
        });
        if bind.read_only {
            steps.push(Step::ReadOnly { target: to });
        }
    }
    steps.push(Step::MountProc {
        target: root.join("proc"),
    });
    steps.push(Step::SetHostname(config.hostname.clone()));
    steps.push(Step::ChangeDirectory(root.clone()));
    steps.push(Step::PivotRoot {
        new_root: ".".into(),
        put_old: ".".into(),
    });
    steps.push(Step::Detach { target: ".".into() });
    steps.push(Step::ChangeDirectory("/".into()));
    Ok(Plan { namespaces, steps })
    // SOLUTION-END
}

/// Task 4. Starts a process in the plan's namespaces, which takes the plan's steps and then does `then`;
/// what `then` returns is its exit status. Answers with the new process's number, without waiting.
///
/// Where a step is refused, the new process says which ([`System::report`]) and ends with status 125,
/// without `then`.
///
/// # Errors
///
/// What `clone` says.
pub fn spawn(
    system: &mut dyn System,
    plan: &Plan,
    then: &mut dyn FnMut(&mut dyn System) -> i32,
) -> Result<Pid, Errno> {
    // SOLUTION-BEGIN start a process that takes the steps (task 4)
    system.clone(&plan.namespaces, &mut |system| {
        for step in &plan.steps {
            if let Err(errno) = system.perform(step) {
                system.report(&format!("{step:?}: {errno}"));
                return 125;
            }
        }
        then(system)
    })
    // SOLUTION-END
}

/// Task 5. Becomes the command. Returns only when that fails, with the status that shells use: 127 for
/// a program that is not there, 126 for one that cannot be executed.
///
/// Nothing of the host's may be left open: descriptors 0, 1 and 2 are the command's, and no other.
pub fn exec(system: &mut dyn System, command: &Command) -> i32 {
    // SOLUTION-BEGIN become the command (task 5)
    if let Err(errno) = system.close_from(3) {
        system.report(&format!("close_range: {errno}"));
        return 126;
    }
    let errno = system.execve(command);
    system.report(&format!("{}: {errno}", command.program.display()));
    if errno == Errno::ENOENT { 127 } else { 126 }
    // SOLUTION-END
}

/// Task 6. The life of process 1: waits for every child, its own and the orphans that the kernel gives
/// it, until `main` has ended. Returns `main`'s exit status, or 128 and the signal's number.
///
/// Without children and without news of `main` there is nothing to wait for: 125.
pub fn reap(system: &mut dyn System, main: Pid) -> i32 {
    // SOLUTION-BEGIN wait as process 1 does (task 6)
    loop {
        match system.wait() {
            Ok((pid, Ended::Exited(status))) if pid == main => return status,
            Ok((pid, Ended::Killed(signal))) if pid == main => return 128 + signal,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 125,
        }
    }
    // SOLUTION-END
}
