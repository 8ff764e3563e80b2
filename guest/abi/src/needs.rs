//! What a program asks of its machine: an ELF note, so that a file says by itself how it wants to
//! run, and a machine is given nothing that its program does not ask for.
//!
//! ```text
//! namesz = 9   descsz = 8   type = 1   "Ringside\0" + 3   processors   flags
//! ```

/// The note's owner, without its NUL.
pub const NAME: &str = "Ringside";
/// The note's type.
pub const TYPE: u32 = 1;
/// Flag: a local interrupt controller and its timer for each processor.
pub const INTERRUPTS: u32 = 1;
/// Flag: a virtio console at [`layout::CONSOLE`](crate::layout::CONSOLE).
pub const CONSOLE: u32 = 2;

/// The note, as it lies in the file: a program puts one into its section `.note.ringside`.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    name_len: u32,
    description_len: u32,
    kind: u32,
    name: [u8; 12],
    processors: u32,
    flags: u32,
}

impl Note {
    /// Asks for so many processors, and for what `flags` say.
    pub const fn new(processors: u32, flags: u32) -> Note {
        Note {
            name_len: NAME.len() as u32 + 1,
            description_len: 8,
            kind: TYPE,
            name: *b"Ringside\0\0\0\0",
            processors,
            flags,
        }
    }
}

/// What a program asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// How many virtual processors.
    pub processors: u32,
    /// Whether each has a local interrupt controller with a timer (an x2APIC, reached by MSRs).
    /// With one, `hlt` waits for an interrupt in the kernel and is no exit.
    pub interrupts: bool,
    /// Whether there is a virtio console, whose output is the machine's.
    pub console: bool,
}

/// Without a note: one processor, no interrupts, no console.
impl Default for Needs {
    fn default() -> Needs {
        Needs {
            processors: 1,
            interrupts: false,
            console: false,
        }
    }
}

impl Needs {
    /// Reads a note's description; `None` if it is not two words, or has flags that this version
    /// does not know.
    pub fn from_description(bytes: &[u8]) -> Option<Needs> {
        let (processors, flags) = bytes.split_at_checked(4)?;
        let processors = u32::from_le_bytes(processors.try_into().ok()?);
        let flags = u32::from_le_bytes(flags.try_into().ok()?);
        (flags & !(INTERRUPTS | CONSOLE) == 0).then_some(Needs {
            processors,
            interrupts: flags & INTERRUPTS != 0,
            console: flags & CONSOLE != 0,
        })
    }
}
