//! The runner as students and instructors use it, over made-up labs and over the real ones.

mod common;
mod gate;
mod hostile;
mod student;
mod texts;
