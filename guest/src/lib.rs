//! The bare guest programs, embedded.
//!
//! ```
//! let hello = ringside_guest::program("hello").expect("it is always there");
//! assert_eq!(&hello.elf[..4], b"\x7fELF");
//! ```

/// A program that runs in a virtual machine with nothing under it.
#[derive(Clone, Copy)]
pub struct Program {
    /// What `ringside run --in vm -- NAME` calls it.
    pub name: &'static str,
    /// One line that says what it does.
    pub about: &'static str,
    /// Its image: a static ELF, linked to the map of `ringside_abi::layout`, with symbols.
    pub elf: &'static [u8],
}

/// Every embedded program, by name.
pub const PROGRAMS: &[Program] = include!(concat!(env!("OUT_DIR"), "/programs.rs"));

/// The program of that name.
pub fn program(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}
