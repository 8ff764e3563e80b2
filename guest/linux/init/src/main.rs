//! The first process of a Linux guest: makes the file system, loads modules, runs one command, carries
//! its streams to the host and back, and powers the machine off.
//!
//! ```text
//!   host  ═══ channel (vsock, virtio console) ═══  init ── pipes or a terminal ── the command
//! ```
//!
//! It is told what to do by the file [`SPEC`](ringside_abi::session::spec::SPEC) and has no options.
#![no_std]
#![no_main]

extern crate alloc;

mod channel;
mod network;
mod root;
mod run;
mod start;
mod sys;
mod task;

use alloc::vec::Vec;
use channel::Channel;
use ringside_abi::session::{Kind, spec};
use sys::{Errno, Fd};
use task::Task;

/// What went wrong, and on what.
pub struct Failure {
    /// The step, as the host's user shall read it.
    pub what: &'static str,
    /// Its object: a path or a number, if it has one.
    pub object: Vec<u8>,
    /// What the kernel said.
    pub errno: Errno,
    /// The status that `ringside run` is to end with.
    pub status: u32,
}

impl Failure {
    /// A failure of the guest itself, not of the command.
    pub fn new(what: &'static str, object: &[u8], errno: Errno) -> Failure {
        Failure {
            what,
            object: object.to_vec(),
            errno,
            status: 125,
        }
    }
}

/// Comes from `_start`, as process 1.
fn main() -> ! {
    // The console is for init's own words; a command gets its own streams.
    let failure = work().err();
    if let Some(failure) = failure {
        sys::write_all(Fd::STDERR, &text(&failure)).ok();
    }
    sys::sync();
    sys::reboot()
}

fn work() -> Result<(), Failure> {
    root::kernel_files()?;
    let file = sys::read_file(c"/ringside/spec")
        .map_err(|errno| Failure::new("read", spec::SPEC.as_bytes(), errno))?;
    let task = Task::read(&file)?;
    for module in &task.modules {
        sys::load_module(module)
            .map_err(|errno| Failure::new("load the module", module.to_bytes(), errno))?;
    }
    let mut channel = Channel::open(task.channel)?;
    channel.send(Kind::Ready, &[])?;
    let ending = prepare(&task).and_then(|()| run::run(&task, &mut channel));
    match ending {
        Ok(Ending::Exited(status)) => channel.send(Kind::Exited, &status.to_le_bytes())?,
        Ok(Ending::Killed(signal)) => channel.send(Kind::Killed, &signal.to_le_bytes())?,
        Err(failure) => {
            let mut payload = failure.status.to_le_bytes().to_vec();
            payload.extend_from_slice(&text(&failure));
            channel.send(Kind::Failed, &payload)?;
        }
    }
    channel.wait_for_goodbye();
    Ok(())
}

fn prepare(task: &Task<'_>) -> Result<(), Failure> {
    root::enter(task)?;
    network::up(task)
}

/// How the command ended.
pub enum Ending {
    /// With this status.
    Exited(u32),
    /// By this signal.
    Killed(u32),
}

/// `cannot mount /dev/vda: errno 6`
fn text(failure: &Failure) -> Vec<u8> {
    let mut text = Vec::from(&b"cannot "[..]);
    text.extend_from_slice(failure.what.as_bytes());
    text.push(b' ');
    text.extend_from_slice(&failure.object);
    text.extend_from_slice(b": ");
    text.extend_from_slice(&failure.errno.text());
    text.push(b'\n');
    text
}
