//! One step of the story of how a container comes to be.

use std::borrow::Cow;
use std::fmt;

use super::call::Call;

/// Which process takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The process that was asked for a container.
    Runtime,
    /// The container's first process, PID 1 of its PID namespace.
    Init,
}

/// What happens when the kernel refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Otherwise {
    /// There is no container.
    Fail,
    /// A call about a path that is not there (ENOENT) is passed over.
    PassAbsent,
    /// These calls are made instead.
    Try(Vec<Call>),
}

/// A step: what is done, by whom, why, and who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Who takes it.
    pub actor: Actor,
    /// What it does, for people.
    pub what: Cow<'static, str>,
    /// Why a container needs it.
    pub why: &'static str,
    /// The configuration's field that asked for it; empty when every container has it.
    pub field: Cow<'static, str>,
    /// The system calls, in order.
    pub calls: Vec<Call>,
    /// When one of them fails.
    pub otherwise: Otherwise,
}

impl Step {
    /// A step of the runtime's that every container has and that has no alternative.
    pub fn runtime(
        what: impl Into<Cow<'static, str>>,
        why: &'static str,
        calls: Vec<Call>,
    ) -> Self {
        Self {
            actor: Actor::Runtime,
            ..Self::init(what, why, calls)
        }
    }

    /// The same, taken by the container's init.
    pub fn init(what: impl Into<Cow<'static, str>>, why: &'static str, calls: Vec<Call>) -> Self {
        Self {
            actor: Actor::Init,
            what: what.into(),
            why,
            field: Cow::Borrowed(""),
            calls,
            otherwise: Otherwise::Fail,
        }
    }

    /// Notes which field of the configuration asked for the step.
    #[must_use]
    pub fn asked_by(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = field.into();
        self
    }

    /// Chooses what happens when the kernel refuses.
    #[must_use]
    pub fn or(mut self, otherwise: Otherwise) -> Self {
        self.otherwise = otherwise;
        self
    }

    /// What it does and who asked for it, for an error.
    pub fn told(&self) -> String {
        match self.field.as_ref() {
            "" => self.what.to_string(),
            field => format!("{} (`{field}`)", self.what),
        }
    }

    /// Call number `index`, the alternative's ones counted after the others.
    pub fn call(&self, index: usize) -> Option<&Call> {
        let alternative: &[Call] = match &self.otherwise {
            Otherwise::Try(calls) => calls,
            _ => &[],
        };
        self.calls.iter().chain(alternative).nth(index)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runtime => "runtime",
            Self::Init => "init",
        })
    }
}

/// The step and its calls, one a line.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}", self.actor, self.what, self.why)?;
        match self.field.as_ref() {
            "" => writeln!(f, ")")?,
            field => writeln!(f, "; asked by `{field}`)")?,
        }
        for call in &self.calls {
            writeln!(f, "    {call}")?;
        }
        if let Otherwise::Try(calls) = &self.otherwise {
            for call in calls {
                writeln!(f, "    or else {call}")?;
            }
        }
        Ok(())
    }
}
