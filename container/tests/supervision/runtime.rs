//! The runtime as a process, and what a test does with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use ringside_container::{Config, Limits};

/// The other half of this program: a command line with one verb.
pub fn run(arguments: &[String]) -> ExitCode {
    let mut arguments = arguments.iter().peekable();
    let mut number = |name: &str| {
        arguments.next_if(|argument| *argument == name)?;
        arguments.next()?.parse::<u64>().ok()
    };
    let (memory_bytes, pids, cpus) = (number("--memory"), number("--pids"), number("--cpus"));
    let limits = Limits {
        memory_bytes,
        pids,
        cpus: cpus.map(|cpus| cpus as f64),
        cpu_weight: None,
    };
    let config = Config {
        limits,
        ..Config::like_caller(arguments)
    };
    match ringside_container::run(&config, &mut ()) {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// A runtime to be started.
pub struct Runtime {
    program: PathBuf,
    before: Vec<String>,
    limits: Vec<String>,
    command: Vec<String>,
    directory: PathBuf,
}

impl Runtime {
    pub fn command(command: &[&str]) -> Self {
        Self {
            program: std::env::current_exe().expect("this program"),
            before: Vec::new(),
            limits: Vec::new(),
            command: command.iter().map(ToString::to_string).collect(),
            directory: "/".into(),
        }
    }

    pub fn shell(script: &str) -> Self {
        Self::command(&["sh", "-c", script])
    }

    pub fn with(mut self, limits: &[&str]) -> Self {
        self.limits = limits.iter().map(ToString::to_string).collect();
        self
    }

    /// From a copy of this program at `program`, and by way of another command.
    pub fn by(mut self, before: &[&str], program: PathBuf) -> Self {
        self.before = before.iter().map(ToString::to_string).collect();
        self.program = program;
        self
    }

    fn line(&self) -> Vec<String> {
        let program = self
            .program
            .to_str()
            .expect("a path that is text")
            .to_owned();
        let words = self.before.iter().cloned().chain([program, "--run".into()]);
        words
            .chain(self.limits.iter().cloned())
            .chain(self.command.iter().cloned())
            .collect()
    }

    pub fn start(&self) -> Running {
        let line = self.line();
        Running::new(
            Command::new(&line[0])
                .args(&line[1..])
                .current_dir(&self.directory),
        )
    }

    /// As [`start`](Runtime::start), in a terminal; none without the program `script`.
    pub fn in_terminal(&self) -> Option<Running> {
        self.in_terminal_of("exec ", "")
    }

    /// The same between other words of a shell's.
    pub fn in_terminal_of(&self, before: &str, after: &str) -> Option<Running> {
        Command::new("script")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .ok()?;
        let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
        let line = self.line().iter().map(quote).collect::<Vec<_>>().join(" ");
        let line = format!("{before}{line}{after}");
        let mut script = Command::new("script");
        Some(Running::new(script.args([
            "--quiet",
            "--return",
            "--command",
            &line,
            "/dev/null",
        ])))
    }
}

/// A runtime that has been started.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn new(command: &mut Command) -> Self {
        let streams = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = streams.spawn().expect("the runtime starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            input,
            output,
        }
    }

    pub fn await_line(&mut self, expected: &str) {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("a pipe can be read");
        assert_eq!(line.trim_end(), expected);
    }

    pub fn type_text(&mut self, text: &str) {
        let input = self.input.as_mut().expect("its input");
        input.write_all(text.as_bytes()).expect("it reads");
        input.flush().expect("it reads");
    }

    /// What it writes until nobody has its output any more.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.output
            .read_to_string(&mut rest)
            .expect("a pipe can be read");
        rest
    }

    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.child.id() as i32), signal)
            .expect("it has not been waited for");
    }

    /// Its exit code; none when a signal ended it.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("it can be waited for").code()
    }

    /// The cgroups that carry its number.
    pub fn groups(&self) -> Vec<PathBuf> {
        let name = format!("ringside-{}-", self.child.id());
        let mut found = Vec::new();
        let mut pending = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    match entry.file_name().to_string_lossy().starts_with(&name) {
                        true => found.push(entry.path()),
                        false => pending.push(entry.path()),
                    }
                }
            }
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The mounts of this process's namespace.
pub fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").expect("/proc")
}
