//! A kernel that makes no system call and writes every one down.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use lab10::{Command, Ended, Errno, Namespace, Pid, Step, System};

/// What it was asked, by which process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A child was made.
    Clone(Vec<Namespace>),
    /// A step was taken.
    Perform(Step),
    /// Descriptors from here on were closed.
    CloseFrom(u32),
    /// The process became a command.
    Execve(Command),
    /// Somebody waited.
    Wait,
    /// Something was said.
    Report(String),
    /// The check's own mark.
    Mark(&'static str),
    /// A child ended with this status.
    End(i32),
}

/// The record, and what the kernel answers.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Each event with the number of the process: 1 is whoever called the student's function.
    pub events: Vec<(Pid, Event)>,
    /// The step that is refused, by its number, and why.
    pub refuse: Option<(usize, Errno)>,
    /// What `clone` says, when not yes.
    pub no_child: Option<Errno>,
    /// What `close_range` says, when not yes.
    pub no_close: Option<Errno>,
    /// What `execve` says, when not yes.
    pub no_exec: Option<Errno>,
    /// What `wait` says, one after the other; then `ECHILD`.
    pub waits: VecDeque<Result<(Pid, Ended), Errno>>,
    /// Who is running; 0 until the first child is made.
    pub process: Pid,
    /// How many steps were taken.
    pub steps: usize,
    /// How many children were made.
    pub children: Pid,
}

/// How a process leaves the student's code when `execve` succeeds.
struct Became;

/// No right answer needs a hundredth of this; a loop without end would fill the memory.
const MANY: usize = 10_000;

/// The first child's number.
pub const FIRST_CHILD: Pid = 2;

impl Recorder {
    /// A mark of the check's own, from the process that is running.
    pub fn mark(&mut self, mark: &'static str) {
        self.note(Event::Mark(mark));
    }

    /// Runs `code` as a process: its status, or `None` when it became a command.
    pub fn process(&mut self, code: impl FnOnce(&mut dyn System) -> i32) -> Option<i32> {
        match catch_unwind(AssertUnwindSafe(|| code(self))) {
            Ok(status) => Some(status),
            Err(panic) if panic.is::<Became>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// What process `pid` did, without its reports.
    pub fn of(&self, pid: Pid) -> Vec<&Event> {
        let events = self.events.iter().filter(|(who, _)| *who == pid);
        let events = events.map(|(_, event)| event);
        events
            .filter(|event| !matches!(event, Event::Report(_)))
            .collect()
    }

    /// Everything that was said.
    pub fn reports(&self) -> Vec<&str> {
        let texts = self.events.iter().filter_map(|(_, event)| match event {
            Event::Report(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    fn note(&mut self, event: Event) {
        assert!(
            self.events.len() < MANY,
            "the kernel was asked {MANY} times, and there is no end"
        );
        self.events.push((self.process.max(1), event));
    }
}

impl System for Recorder {
    fn clone(
        &mut self,
        namespaces: &[Namespace],
        child: &mut dyn FnMut(&mut dyn System) -> i32,
    ) -> Result<Pid, Errno> {
        self.note(Event::Clone(namespaces.to_vec()));
        if let Some(errno) = self.no_child {
            return Err(errno);
        }
        self.children += 1;
        let (parent, pid) = (self.process, self.children + FIRST_CHILD - 1);
        self.process = pid;
        if let Some(status) = self.process(|system| child(system)) {
            self.note(Event::End(status));
        }
        self.process = parent;
        Ok(pid)
    }

    fn perform(&mut self, step: &Step) -> Result<(), Errno> {
        self.note(Event::Perform(step.clone()));
        self.steps += 1;
        match self.refuse {
            Some((number, errno)) if number == self.steps - 1 => Err(errno),
            _ => Ok(()),
        }
    }

    fn close_from(&mut self, first: u32) -> Result<(), Errno> {
        self.note(Event::CloseFrom(first));
        self.no_close.map_or(Ok(()), Err)
    }

    fn execve(&mut self, command: &Command) -> Errno {
        self.note(Event::Execve(command.clone()));
        self.no_exec
            .unwrap_or_else(|| resume_unwind(Box::new(Became)))
    }

    fn wait(&mut self) -> Result<(Pid, Ended), Errno> {
        self.note(Event::Wait);
        self.waits.pop_front().unwrap_or(Err(Errno::ECHILD))
    }

    fn report(&mut self, message: &str) {
        self.note(Event::Report(message.into()));
    }
}

/// `process 2: Perform(…)`, one a line.
impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.events.is_empty() {
            return f.write_str("nothing");
        }
        for (number, (pid, event)) in self.events.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}process {pid}: {event:?}")?;
        }
        Ok(())
    }
}
