//! What the tests of containers share: a command in a container, with its output.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part of this"
)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use ringside_container::{Config, Container, Error, ExitStatus, Streams, spawn};

/// How a command in a container ended, and what it wrote.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Whether this process may make containers without a user namespace; says so if not.
pub fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root");
    }
    is_root
}

/// A configuration that runs a shell script.
pub fn shell(script: &str) -> Config {
    Config::new(["sh", "-c", script])
}

/// Runs the container of `config` to its end.
pub fn output(config: &Config) -> Result<Output, Error> {
    let (mut container, stdout, stderr) = piped(config)?;
    // One after the other will do: no test writes more than a pipe holds to its standard error.
    let (stdout, stderr) = (text(stdout), text(stderr));
    Ok(Output {
        status: container.wait()?,
        stdout,
        stderr,
    })
}

/// Starts the container of `config`, with the reading ends of its output and error.
pub fn piped(config: &Config) -> Result<(Container, OwnedFd, OwnedFd), Error> {
    let ((stdout, output), (stderr, error)) = (pipe(), pipe());
    let null = null();
    let streams = Streams {
        input: Some(null.as_fd()),
        output: Some(output.as_fd()),
        error: Some(error.as_fd()),
    };
    Ok((spawn(config, streams, &mut ())?, stdout, stderr))
}

/// A pipe: the reading end first.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe")
}

fn null() -> File {
    File::open("/dev/null").expect("/dev/null")
}

/// All that comes out of a pipe, lossily.
pub fn text(pipe: OwnedFd) -> String {
    let mut bytes = Vec::new();
    File::from(pipe)
        .read_to_end(&mut bytes)
        .expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a script writes in a container in which it succeeds.
pub fn says(script: &str) -> String {
    let output = output(&shell(script)).unwrap_or_else(|error| panic!("{script}: {error}"));
    assert!(output.status.is_success(), "{script}: {output:?}");
    output.stdout
}

/// What the same script writes on the host.
pub fn host_says(script: &str) -> String {
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .output()
        .expect("sh");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
