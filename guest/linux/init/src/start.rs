//! Between fork and exec.

use crate::Failure;
use crate::sys::{self, Errno, Fd, Forked, Pid};
use crate::task::Task;

/// `man 1 env`: found but not executable, and not found.
const NOT_EXECUTABLE: u32 = 126;
const NOT_FOUND: u32 = 127;

/// Starts the command on these three streams. A program that cannot be executed is heard of through
/// a pipe that closes when another succeeds.
pub fn start(task: &Task<'_>, streams: [Fd; 3]) -> Result<Pid, Failure> {
    let failed = |what, errno| Failure::new(what, task.program.to_bytes(), errno);
    let (news, ours) = sys::pipe().map_err(|errno| failed("start", errno))?;
    let arguments = sys::pointers(&task.arguments);
    let environment = sys::pointers(&task.environment);
    match sys::fork().map_err(|errno| failed("start", errno))? {
        Forked::Child => {
            let error = become_command(task, streams, &arguments, &environment);
            let (step, errno) = error;
            sys::write_all(ours, &[step, errno.raw()]).ok();
            sys::exit(125)
        }
        Forked::Parent(pid) => {
            sys::close(ours);
            let mut said = [0; 2];
            let count = sys::read(news, &mut said);
            sys::close(news);
            let [step, errno] = said;
            match count {
                Ok(2) if step == DIRECTORY => Err(Failure::new(
                    "enter the working directory",
                    task.directory.to_bytes(),
                    Errno::from_raw(errno),
                )),
                Ok(2) => {
                    let errno = Errno::from_raw(errno);
                    let status = match errno {
                        Errno::NOT_FOUND => NOT_FOUND,
                        _ => NOT_EXECUTABLE,
                    };
                    Err(Failure {
                        status,
                        ..failed("run", errno)
                    })
                }
                _ => Ok(pid),
            }
        }
    }
}

const DIRECTORY: u8 = 1;
const OTHER: u8 = 2;

/// Returns only what stopped it.
fn become_command(
    task: &Task<'_>,
    streams: [Fd; 3],
    arguments: &sys::Pointers<'_>,
    environment: &sys::Pointers<'_>,
) -> (u8, Errno) {
    sys::new_session();
    for (number, stream) in streams.into_iter().enumerate() {
        if let Err(errno) = sys::duplicate(stream, number) {
            return (OTHER, errno);
        }
    }
    if task.terminal.is_some() {
        sys::take_terminal(Fd::STDIN);
    }
    if let Err(errno) = sys::chdir(task.directory) {
        return (DIRECTORY, errno);
    }
    sys::default_signals();
    (OTHER, sys::execute(task.program, arguments, environment))
}
