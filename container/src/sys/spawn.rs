//! Starts a program in a child that borrows our memory until it has executed (`CLONE_VM | CLONE_VFORK`):
//! no page table is copied, and a failure is simply written down for the parent to find.

use std::ffi::CString;
use std::fmt;

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

/// Room for the few frames between `clone` and `execve`.
const STACK_BYTES: usize = 32 << 10;

/// All that `execve` needs, made ready beforehand so that the child need not allocate.
pub struct Program {
    candidates: Vec<CString>,
    argument_pointers: Vec<*const libc::c_char>,
    environment_pointers: Vec<*const libc::c_char>,
    /// Never read, and written only by the child.
    stack: Vec<u128>,
    // What the pointers point into; never touched again.
    _arguments: Vec<CString>,
    _environment: Vec<CString>,
}

/// No candidate could be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpawnError {
    /// Which of the candidates decides: the one that is there but does not run, or the last.
    pub candidate: usize,
    /// Why.
    pub errno: Errno,
}

impl Program {
    /// A program that is the first of `candidates` to be found, with its arguments (the name first) and
    /// environment.
    pub fn new(
        candidates: Vec<CString>,
        arguments: Vec<CString>,
        environment: Vec<CString>,
    ) -> Self {
        let pointers = |strings: &[CString]| {
            strings
                .iter()
                .map(|text| text.as_ptr())
                .chain([std::ptr::null()])
                .collect::<Vec<_>>()
        };
        Self {
            argument_pointers: pointers(&arguments),
            environment_pointers: pointers(&environment),
            stack: Vec::with_capacity(STACK_BYTES / size_of::<u128>()),
            candidates,
            _arguments: arguments,
            _environment: environment,
        }
    }

    /// Where the program may be, in the order of the search.
    pub fn candidates(&self) -> &[CString] {
        &self.candidates
    }

    /// Becomes the first candidate that the kernel accepts, or says which one decides and why not,
    /// by the rules of `man 3 execvp`: what is missing is passed over, what is forbidden remembered.
    pub fn execute(&self) -> SpawnError {
        let mut verdict = SpawnError {
            candidate: 0,
            errno: Errno::ENOENT,
        };
        for (candidate, path) in self.candidates.iter().enumerate() {
            // SAFETY: the path is a C string, and both arrays end in a null pointer and point into
            // strings that `self` owns. `execve` returns only to report an error.
            unsafe {
                libc::execve(
                    path.as_ptr(),
                    self.argument_pointers.as_ptr(),
                    self.environment_pointers.as_ptr(),
                )
            };
            match Errno::last() {
                Errno::ENOENT | Errno::ENOTDIR => {
                    // A missing interpreter is ENOENT as well: then the file itself is there.
                    // SAFETY: the path is a C string.
                    let is_there = unsafe { libc::access(path.as_ptr(), libc::F_OK) } == 0;
                    if is_there && verdict.errno == Errno::ENOENT {
                        return SpawnError {
                            candidate,
                            errno: Errno::ENOENT,
                        };
                    }
                }
                Errno::EACCES => {
                    verdict = SpawnError {
                        candidate,
                        errno: Errno::EACCES,
                    }
                }
                errno => return SpawnError { candidate, errno },
            }
        }
        verdict
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

/// What the child finds on its side of the shared memory.
struct Shared<'a> {
    program: &'a Program,
    mask: &'a SigSet,
    failure: Option<SpawnError>,
}

/// The first and only function of the child.
extern "C" fn child(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passes a `Shared` of its own, and sleeps until this function is done with it.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    // SAFETY: without CLONE_SIGHAND the child's dispositions and mask are its own copies; the set is a
    // valid one. Rust programs ignore SIGPIPE, which a command must not inherit.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigprocmask(
            libc::SIG_SETMASK,
            shared.mask.as_ref(),
            std::ptr::null_mut(),
        );
    }
    shared.failure = Some(shared.program.execute());
    127
}

/// Starts `program` with the signal mask `mask` and returns once it has executed.
///
/// # Errors
/// [`SpawnError`] of the candidate that decides; the child that failed has been waited for. Candidate
/// `usize::MAX` means that there was no child at all.
pub fn spawn(program: &mut Program, mask: &SigSet) -> Result<Pid, SpawnError> {
    let mut stack = std::mem::take(&mut program.stack);
    let mut shared = Shared {
        program,
        mask,
        failure: None,
    };
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    // SAFETY: the stack is exclusively ours, aligned as u128 is, grows down from its end and is alive
    // until the child has executed or exited, because CLONE_VFORK keeps us asleep that long; the same
    // holds for `shared`. The child runs async-signal-safe code only.
    let pid = unsafe {
        libc::clone(
            child,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut shared).cast(),
        )
    };
    let errno = Errno::last();
    let failure = shared.failure;
    program.stack = stack;
    if pid == -1 {
        return Err(SpawnError {
            candidate: usize::MAX,
            errno,
        });
    }
    let pid = Pid::from_raw(pid);
    match failure {
        None => Ok(pid),
        Some(failure) => {
            let _ = nix::sys::wait::waitpid(pid, None);
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};

    fn c(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    fn start(candidates: &[&str], arguments: &[&str]) -> Result<WaitStatus, SpawnError> {
        let strings = |texts: &[&str]| texts.iter().map(|text| c(text)).collect();
        let mut program = Program::new(strings(candidates), strings(arguments), vec![c("A=7")]);
        spawn(&mut program, &SigSet::empty()).map(|pid| waitpid(pid, None).unwrap())
    }

    #[test]
    fn arguments_and_environment_arrive() {
        let status = start(
            &["/nowhere/sh", "/bin/sh"],
            &["sh", "-c", "exit $(($1 + A))", "sh", "3"],
        );
        assert!(
            matches!(status, Ok(WaitStatus::Exited(_, 10))),
            "{status:?}"
        );
    }

    #[test]
    fn the_candidate_that_decides_is_named() {
        let missing = SpawnError {
            candidate: 0,
            errno: Errno::ENOENT,
        };
        assert_eq!(
            start(&["/nowhere/sh", "/neither/sh"], &["sh"]),
            Err(missing)
        );
        let forbidden = SpawnError {
            candidate: 1,
            errno: Errno::EACCES,
        };
        assert_eq!(
            start(&["/nowhere/sh", "/etc", "/neither/sh"], &["sh"]),
            Err(forbidden)
        );
        let looped = SpawnError {
            candidate: 0,
            errno: Errno::ENOTDIR,
        };
        assert_eq!(
            start(&["/etc/passwd/x"], &["sh"]).map_err(|error| error.candidate),
            Err(looped.candidate)
        );
    }
}
