//! A program for a bare guest: a static ELF image, or flat bytes.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, PF_W, PF_X, PT_INTERP, PT_LOAD, PT_NOTE, SHN_ABS, STT_SECTION};
use elf::endian::LittleEndian;
use elf::note::Note;
use ringside_abi::layout;
use ringside_abi::needs::{self, Needs};
use thiserror::Error;

/// Why a file is no program for a bare guest.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Not ELF, or cut short.
    #[error("not a readable ELF image: {0}")]
    Unreadable(#[from] elf::ParseError),
    /// For another processor.
    #[error("an image for machine type {machine}, not x86-64; build it for this machine")]
    Machine {
        /// `e_machine`.
        machine: u16,
    },
    /// A program of a host's.
    #[error(
        "a program for Linux (it asks for a dynamic loader), and a bare guest has no Linux; give the name of an embedded program or a static image linked at {:#x}",
        layout::IMAGE
    )]
    NeedsLinux,
    /// Nothing to load.
    #[error("an image without anything to load")]
    Empty,
    /// A segment where a guest has no room.
    #[error(
        "segment at {start:#x}, {bytes} bytes long, is not between {:#x} and the end of the guest's memory; link it there, or give the guest more memory",
        layout::IMAGE
    )]
    Misplaced {
        /// Where it should go.
        start: u64,
        /// Its length in memory.
        bytes: u64,
    },
    /// A segment that does not begin on a page, or two on one page.
    #[error(
        "segment at {start:#x} shares a page with another or does not begin on one; align segments to 4096"
    )]
    Unaligned {
        /// Where it should go.
        start: u64,
    },
    /// A note of ours that says nothing that we know.
    #[error(
        "an image that asks for a machine unknown to this version of Ringside; rebuild one of the two"
    )]
    Needs,
    /// An entry point outside the image.
    #[error("entry point {entry:#x} is in no segment of the image")]
    Entry {
        /// The entry point.
        entry: u64,
    },
}

/// One piece of an image, with its rights.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// Guest-physical (and -virtual) start, page-aligned.
    pub start: u64,
    /// Its contents.
    pub bytes: &'a [u8],
    /// Its length in memory; beyond `bytes` it is zero.
    pub memory_bytes: u64,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
    /// Only for ring 0.
    pub ring0_only: bool,
}

/// A name for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The name, as the linker knows it.
    pub name: &'a str,
    /// Guest-virtual.
    pub address: u64,
    /// Length of what is there, bytes; 0 if unknown.
    pub bytes: u64,
}

/// A program, parsed and checked but not loaded.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// What to load, in ascending order, without overlap.
    pub segments: Vec<Segment<'a>>,
    /// Where ring 0 begins.
    pub entry: u64,
    /// What the program asks of its machine; a caller may give it another one.
    pub needs: Needs,
    file: &'a [u8],
}

impl<'a> Image<'a> {
    /// Reads an ELF image, or takes anything else as flat bytes (as [`flat`](Self::flat)).
    ///
    /// # Errors
    /// What is wrong with the image, which is not trusted in any way.
    pub fn parse(file: &'a [u8]) -> Result<Image<'a>, ImageError> {
        match file.starts_with(&elf::abi::ELFMAGIC) {
            true => Image::elf(file),
            false => Image::flat(file),
        }
    }

    /// Bytes that are loaded at [`layout::IMAGE`] and entered at their first, in ring 0, which may
    /// do anything with them.
    ///
    /// # Errors
    /// [`ImageError::Empty`].
    pub fn flat(bytes: &'a [u8]) -> Result<Image<'a>, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let segment = Segment {
            start: layout::IMAGE,
            bytes,
            memory_bytes: bytes.len() as u64,
            writable: true,
            executable: true,
            ring0_only: true,
        };
        Ok(Image {
            segments: vec![segment],
            entry: layout::IMAGE,
            needs: Needs::default(),
            file: bytes,
        })
    }

    fn elf(file: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file)?;
        if elf.ehdr.e_machine != EM_X86_64 {
            return Err(ImageError::Machine {
                machine: elf.ehdr.e_machine,
            });
        }
        let mut segments: Vec<Segment<'a>> = Vec::new();
        let mut needs = Needs::default();
        for header in elf.segments().into_iter().flatten() {
            if header.p_type == PT_INTERP {
                return Err(ImageError::NeedsLinux);
            }
            if header.p_type == PT_NOTE {
                for note in elf.segment_data_as_notes(&header)? {
                    if let Note::Unknown(note) = note
                        && note.name_str().is_ok_and(|name| name == needs::NAME)
                        && note.n_type == u64::from(needs::TYPE)
                    {
                        needs = Needs::from_description(note.desc).ok_or(ImageError::Needs)?;
                    }
                }
            }
            if header.p_type != PT_LOAD || header.p_memsz == 0 {
                continue;
            }
            let (start, memory_bytes) = (header.p_paddr, header.p_memsz);
            let bytes = elf.segment_data(&header)?;
            let end = start
                .checked_add(memory_bytes)
                .ok_or(ImageError::Misplaced {
                    start,
                    bytes: memory_bytes,
                })?;
            if start < layout::IMAGE
                || end > layout::DEMAND_ZONE
                || bytes.len() as u64 > memory_bytes
            {
                return Err(ImageError::Misplaced {
                    start,
                    bytes: memory_bytes,
                });
            }
            let free_from = segments.last().map_or(0, |last| {
                (last.start + last.memory_bytes).next_multiple_of(layout::PAGE)
            });
            if !start.is_multiple_of(layout::PAGE) || start < free_from {
                return Err(ImageError::Unaligned { start });
            }
            segments.push(Segment {
                start,
                bytes,
                memory_bytes,
                writable: header.p_flags & PF_W != 0,
                executable: header.p_flags & PF_X != 0,
                ring0_only: header.p_flags & layout::SEGMENT_RING0 != 0,
            });
        }
        if segments.is_empty() {
            return Err(ImageError::Empty);
        }
        let entry = elf.ehdr.e_entry;
        if !segments
            .iter()
            .any(|segment| (segment.start..segment.start + segment.memory_bytes).contains(&entry))
        {
            return Err(ImageError::Entry { entry });
        }
        Ok(Image {
            segments,
            entry,
            needs,
            file,
        })
    }

    /// One past the last byte in memory.
    pub fn end(&self) -> u64 {
        self.segments
            .last()
            .map_or(layout::IMAGE, |last| last.start + last.memory_bytes)
    }

    /// The symbol that an address is in, or behind, and how far: what a person calls the address.
    pub fn symbol_at(&self, address: u64) -> Option<(&'a str, u64)> {
        self.symbols()
            .into_iter()
            .filter(|symbol| symbol.address <= address && address < self.end())
            .max_by_key(|symbol| symbol.address)
            .map(|symbol| (symbol.name, address - symbol.address))
    }

    /// The address of a symbol.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        let symbols = self.symbols();
        let found = symbols.iter().find(|symbol| symbol.name == name)?;
        Some(found.address)
    }

    /// The image's names, in the file's order; none in a flat image or a stripped one.
    pub fn symbols(&self) -> Vec<Symbol<'a>> {
        let Ok(elf) = ElfBytes::<LittleEndian>::minimal_parse(self.file) else {
            return Vec::new();
        };
        let Ok(Some((symbols, names))) = elf.symbol_table() else {
            return Vec::new();
        };
        symbols
            .iter()
            .filter(|symbol| {
                !symbol.is_undefined()
                    // The assembler's constants are no places.
                    && symbol.st_shndx != SHN_ABS
                    && symbol.st_symtype() != STT_SECTION && symbol.st_value != 0
            })
            .filter_map(|symbol| {
                let name = names
                    .get(symbol.st_name as usize)
                    .ok()
                    .filter(|name| !name.is_empty())?;
                Some(Symbol {
                    name,
                    address: symbol.st_value,
                    bytes: symbol.st_size,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> &'static [u8] {
        ringside_guest::program("hello").unwrap().elf
    }

    #[test]
    fn an_embedded_program_is_read_with_its_rights() {
        let image = Image::parse(hello()).unwrap();
        let ring0 = &image.segments[0];
        assert_eq!(ring0.start, layout::IMAGE);
        assert!(ring0.ring0_only && ring0.executable && !ring0.writable);
        assert!(
            image
                .segments
                .iter()
                .all(|segment| !(segment.writable && segment.executable)),
            "nothing is writable code"
        );
        assert!(
            image
                .symbols()
                .iter()
                .any(|symbol| symbol.name == "ring3_start")
        );
        let start = image.address_of("ring3_start").unwrap();
        assert_eq!(image.symbol_at(start + 1), Some(("ring3_start", 1)));
        assert_eq!(image.symbol_at(0), None);
    }

    #[test]
    fn a_cut_or_changed_image_is_an_error_and_never_a_panic() {
        let hello = hello();
        for length in (0..hello.len()).step_by(97) {
            if let Ok(image) = Image::parse(&hello[..length]) {
                image.symbols();
            }
        }
        let mut changed = hello.to_vec();
        for position in 0..0x200 {
            for value in [0, 0x7f, 0xff] {
                let old = std::mem::replace(&mut changed[position], value);
                if let Ok(image) = Image::parse(&changed) {
                    image.symbols();
                }
                changed[position] = old;
            }
        }
    }

    #[test]
    fn a_linux_program_is_told_apart() {
        let this_test = std::fs::read("/proc/self/exe").unwrap();
        assert!(matches!(
            Image::parse(&this_test),
            Err(ImageError::NeedsLinux)
        ));
    }

    #[test]
    fn anything_else_is_flat() {
        let image = Image::parse(&[0xf4]).unwrap();
        assert_eq!(
            (image.entry, image.end()),
            (layout::IMAGE, layout::IMAGE + 1)
        );
        assert!(matches!(Image::parse(&[]), Err(ImageError::Empty)));
    }
}
