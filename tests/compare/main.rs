//! `ringside compare` from outside: what it writes, how it ends, and that nothing is left of it.

mod ends;
mod hosts;
mod place;
mod report;
mod usage;
