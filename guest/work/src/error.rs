//! Why a piece of work did not run.

use core::fmt;

use crate::WORKS;

/// Why a piece of work did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<'a> {
    /// No work has this name.
    UnknownWork {
        /// The name that was asked for.
        name: &'a str,
    },
    /// An argument is not a whole number, or outside what the work can do.
    Argument {
        /// What the argument is, as the usage line calls it.
        what: &'static str,
        /// What was given.
        value: &'a str,
        /// The least value.
        least: u64,
        /// The greatest value.
        greatest: u64,
    },
    /// More arguments than the work takes.
    TooManyArguments {
        /// The first one too many.
        value: &'a str,
        /// The work's usage line.
        usage: &'static str,
    },
    /// The platform has not so much memory.
    Memory {
        /// How much the work asked for.
        bytes: u64,
    },
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::UnknownWork { name } => {
                write!(f, "unknown work `{name}`; there is")?;
                for (index, work) in WORKS.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma} {}", work.name)?;
                }
                Ok(())
            }
            Error::Argument {
                what,
                value,
                least,
                greatest,
            } => write!(
                f,
                "{what} is `{value}`; give a whole number from {least} to {greatest}"
            ),
            Error::TooManyArguments { value, usage } => {
                write!(f, "`{value}` is one argument too many; usage: {usage}")
            }
            Error::Memory { bytes } => write!(
                f,
                "there are no {bytes} bytes of memory for the work; ask for less or give it more"
            ),
        }
    }
}

impl core::error::Error for Error<'_> {}
