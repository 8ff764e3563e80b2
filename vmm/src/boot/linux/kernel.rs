//! A kernel's file, read and checked: a bzImage (`vmlinuz`) or an ELF image (`vmlinux`). Nothing in
//! it is trusted.
//!
//! ```text
//!   bzImage   │ real-mode setup, with the header at 0x1f1 │ decompressor │ payload │ … │
//!   vmlinux   │ ELF header │ program headers │ segments …                             │
//! ```

use super::cache::{Copy, KernelCache, Part, Sparse, UnpackError};
use super::payload::{Compression, PayloadError};
use super::{map, zero_page};
use crate::memory::{Gpa, GuestMemory, MemoryError};
use elf::abi::{EM_386, EM_AARCH64, EM_RISCV, EM_X86_64, ET_DYN, ET_EXEC, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;
use linux_loader::loader::bootparam::setup_header;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;
use vm_memory::ByteValued;

/// Why a file is no kernel for this machine.
#[derive(Debug, Error)]
pub enum KernelError {
    /// No such file, or no reading it.
    #[error("cannot read the kernel {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system call's error.
        source: io::Error,
    },
    /// Neither bzImage nor ELF.
    #[error("{} is not a Linux kernel (a bzImage or an ELF vmlinux); the kernel's file is named vmlinuz or bzImage, as a rule", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
    },
    /// A kernel for another processor.
    #[error("{} is a kernel for {architecture}, and this machine's processors are x86-64; take one built for x86-64", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// For which it is.
        architecture: &'static str,
    },
    /// A bzImage from before the header told where its payload is.
    #[error("{} has a boot protocol of version {}.{:02}, and its kernel is found since 2.08 (Linux 2.6.26); take a newer one", path.display(), version >> 8, version & 0xff)]
    Protocol {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A file that ends before it should.
    #[error("{} is cut short: {what} ends at byte {end}, and the file has {bytes}; fetch it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is not all there.
        what: &'static str,
        /// Where that would end.
        end: u64,
        /// How long the file is.
        bytes: u64,
    },
    /// The payload.
    #[error("cannot use the kernel {}: {source}", path.display())]
    Payload {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: UnpackError,
    },
    /// A program for an operating system.
    #[error("{} is no kernel: its segments are not at physical addresses from {} to {}", path.display(), map::KERNEL_MIN, map::KERNEL_MAX)]
    Misplaced {
        /// The file.
        path: PathBuf,
    },
    /// ELF headers that contradict themselves.
    #[error("{} has a damaged ELF header: {what}; fetch or build it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong there.
        what: &'static str,
    },
}

/// A piece of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it goes.
    pub start: Gpa,
    /// Its length there; what its file lacks is zeros.
    pub memory_bytes: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length in the file.
    pub file_bytes: u64,
}

/// A kernel, ready to be put into any number of guests.
#[derive(Debug)]
pub struct Kernel {
    vmlinux: File,
    header: Option<setup_header>,
    compression: Option<Compression>,
    unpacking: Option<Duration>,
    /// In ascending order of addresses.
    segments: Vec<Segment>,
    entry: u64,
    pvh_entry: Option<u32>,
}

/// How much of a file is looked at to tell what it is.
const HEAD_BYTES: usize = 0x270;
/// The first byte of the header, and of its boot flag and magic.
const HEADER: usize = 0x1f1;
/// A decompressed kernel is at most so long; the longest that distributions ship have about 80 MiB.
const VMLINUX_MAX: u64 = 1 << 30;
/// Of a compressed kernel, so much is in memory at once.
const PIECE_BYTES: usize = 128 << 10;
/// What ELF headers are looked at, at most.
const SEGMENTS_MAX: u16 = 64;
const NOTES_MAX: u64 = 64 << 10;

impl Kernel {
    /// Opens a kernel's file; a bzImage's kernel is decompressed, unless `cache` has it.
    ///
    /// # Errors
    /// What the file is, if not a kernel for x86-64; where it is damaged.
    pub fn open(path: &Path, cache: &KernelCache) -> Result<Kernel, KernelError> {
        let file = File::open(path).map_err(|source| KernelError::File {
            path: path.to_owned(),
            source,
        })?;
        Kernel::read(file, path, cache)
    }

    /// The same, for a file that is open; `path` is what errors call it.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn read(file: File, path: &Path, cache: &KernelCache) -> Result<Kernel, KernelError> {
        let unreadable = |source| KernelError::File {
            path: path.to_owned(),
            source,
        };
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(KernelError::NotAKernel {
                path: path.to_owned(),
            });
        }
        let named = Named {
            path,
            bytes: metadata.len(),
            file,
        };
        let mut head = [0; HEAD_BYTES];
        let known = HEAD_BYTES.min(usize::try_from(named.bytes).unwrap_or(HEAD_BYTES));
        named.read(&mut head[..known], 0, "its header")?;
        if head.starts_with(&elf::abi::ELFMAGIC) {
            return named.vmlinux(None, None);
        }
        let header = named.header(&head)?;
        let (offset, bytes) = named.payload(&header)?;
        let failed = |source| KernelError::Payload {
            path: path.to_owned(),
            source,
        };
        let mut magic = [0; 8];
        let known = magic.len().min(bytes as usize);
        named.read(&mut magic[..known], offset, "its payload")?;
        let compression = Compression::of(&magic[..known]).map_err(|error| failed(error.into()))?;
        let payload = Part {
            file: &named.file,
            offset,
            bytes,
        };
        let mut unpacking = None;
        let vmlinux = cache.get(payload, |sparse| {
            let begin = Instant::now();
            decompress(compression, payload, sparse)?;
            unpacking = Some(begin.elapsed());
            Ok(())
        });
        let vmlinux = vmlinux.map_err(failed)?;
        let bytes = vmlinux.metadata().map_err(unreadable)?.len();
        let inner = Named {
            path,
            file: vmlinux,
            bytes,
        };
        Ok(Kernel {
            unpacking,
            ..inner.vmlinux(Some(header), Some(compression))?
        })
    }

    /// Maps the kernel's segments, copy-on-write, to where they want to be.
    pub(super) fn load(&self, memory: &GuestMemory) -> Result<(), MemoryError> {
        self.segments.iter().try_for_each(|segment| {
            memory.map_file(
                segment.start,
                &self.vmlinux,
                segment.offset,
                segment.file_bytes,
            )
        })
    }

    /// The lowest address that it takes.
    pub fn start(&self) -> Gpa {
        self.segments[0].start
    }

    /// One past the highest. Linux takes room behind its segments (for its first page tables), which
    /// its header knows.
    pub fn end(&self) -> Gpa {
        let ends = self
            .segments
            .iter()
            .map(|segment| segment.start.0 + segment.memory_bytes);
        let end = ends.max().unwrap_or(0);
        Gpa(end.next_multiple_of(0x20_0000))
    }

    /// The first instruction in long mode.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The first instruction in protected mode, if it has one.
    pub fn pvh_entry(&self) -> Option<u32> {
        self.pvh_entry
    }

    /// What a bzImage's payload was compressed by; `None` for a vmlinux.
    pub fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// How long it was decompressed just now; `None` where the cache had it, or nothing was to do.
    pub fn unpacking(&self) -> Option<Duration> {
        self.unpacking
    }

    /// Its pieces, in ascending order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn header(&self) -> Option<setup_header> {
        self.header
    }

    /// The longest command line that it reads.
    pub(super) fn command_line_max(&self) -> usize {
        /// Of kernels for x86 without a header (`COMMAND_LINE_SIZE`, with its NUL).
        const DEFAULT: u32 = 2047;
        /// The room at [`map::COMMAND_LINE`].
        const ROOM: u64 = map::MP_POINTER.0 - map::COMMAND_LINE.0 - 1;
        let told = self.header.map_or(DEFAULT, |header| header.cmdline_size);
        u64::from(told).min(ROOM) as usize
    }

    /// Where an initramfs must end.
    pub(super) fn initramfs_end(&self) -> u64 {
        let last = self
            .header
            .map_or(u32::MAX, |header| header.initrd_addr_max);
        (u64::from(last) + 1) & !0xfff
    }
}

fn decompress(
    compression: Compression,
    payload: Part<'_>,
    sparse: &mut Sparse<'_>,
) -> Result<(), UnpackError> {
    let damaged = |source| PayloadError::Damaged {
        compression,
        source,
    };
    // Linux appends the length of what comes out, four bytes, least significant first.
    let (compressed, told) = match compression {
        Compression::None => (payload, payload.bytes),
        _ => {
            let rest = payload.bytes.checked_sub(4);
            let rest = rest.ok_or_else(|| damaged(io::ErrorKind::UnexpectedEof.into()))?;
            let mut told = [0; 4];
            let read = payload.file.read_exact_at(&mut told, payload.offset + rest);
            read.map_err(UnpackError::Read)?;
            let compressed = Part {
                bytes: rest,
                ..payload
            };
            (compressed, u64::from(u32::from_le_bytes(told)))
        }
    };
    // Gzip ends in that same length, and Linux appends no other.
    let compressed = match compression {
        Compression::Gzip => payload,
        _ => compressed,
    };
    let too_long = || io::Error::other("it is longer than it says");
    if told > VMLINUX_MAX {
        return Err(damaged(io::Error::other("it says that it has more than 1 GiB")).into());
    }
    let pieces = BufReader::with_capacity(PIECE_BYTES, compressed);
    let mut reader = compression.reader(pieces)?;
    sparse
        .fill(&mut *reader, told)
        .map_err(|error| match error {
            Copy::Read(source) => damaged(source).into(),
            Copy::TooLong => damaged(too_long()).into(),
            Copy::Write(source) => UnpackError::Write(source),
        })?;
    match sparse.bytes() {
        bytes if bytes == told => Ok(()),
        _ => Err(damaged(io::ErrorKind::UnexpectedEof.into()).into()),
    }
}

/// A file with its name, for errors.
struct Named<'p> {
    path: &'p Path,
    file: File,
    bytes: u64,
}

impl Named<'_> {
    fn path(&self) -> PathBuf {
        self.path.to_owned()
    }

    /// Reads all of `into`, or says that the file is too short for `what`.
    fn read(&self, into: &mut [u8], offset: u64, what: &'static str) -> Result<(), KernelError> {
        self.contains(offset, into.len() as u64, what)?;
        self.file
            .read_exact_at(into, offset)
            .map_err(|source| KernelError::File {
                path: self.path(),
                source,
            })
    }

    fn contains(&self, offset: u64, bytes: u64, what: &'static str) -> Result<(), KernelError> {
        let end = offset.saturating_add(bytes);
        match end <= self.bytes {
            true => Ok(()),
            false => Err(KernelError::Truncated {
                path: self.path(),
                what,
                end,
                bytes: self.bytes,
            }),
        }
    }

    /// The setup header of a bzImage for x86-64.
    fn header(&self, head: &[u8; HEAD_BYTES]) -> Result<setup_header, KernelError> {
        let architecture = |architecture| KernelError::Architecture {
            path: self.path(),
            architecture,
        };
        // The arm64 and RISC-V images' magic numbers (their boot documents under `Documentation/arch`).
        match &head[0x38..0x3c] {
            b"ARM\x64" => return Err(architecture("arm64")),
            b"RSC\x05" => return Err(architecture("RISC-V")),
            _ => {}
        }
        let mut header = setup_header::default();
        let len = header.as_slice().len();
        header
            .as_mut_slice()
            .copy_from_slice(&head[HEADER..HEADER + len]);
        if header.boot_flag != 0xaa55 || header.header != zero_page::HEADER {
            return Err(KernelError::NotAKernel { path: self.path() });
        }
        let version = header.version;
        if version < 0x0208 {
            return Err(KernelError::Protocol {
                path: self.path(),
                version,
            });
        }
        // Since 2.12 a header tells whether its kernel is for 64 bits; before that, its ELF does.
        if version >= 0x020c && header.xloadflags & 1 == 0 {
            return Err(architecture("x86 of 32 bits"));
        }
        Ok(header)
    }

    /// Where a bzImage's payload is, and its length.
    fn payload(&self, header: &setup_header) -> Result<(u64, u64), KernelError> {
        // Zero stands for four, from the days of boot floppies.
        let sectors = match header.setup_sects {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let offset = (sectors + 1) * 512 + u64::from(header.payload_offset);
        let bytes = u64::from(header.payload_length);
        self.contains(offset, bytes, "its payload")?;
        Ok((offset, bytes))
    }

    /// Reads ELF headers, and takes the file over.
    fn vmlinux(
        self,
        header: Option<setup_header>,
        compression: Option<Compression>,
    ) -> Result<Kernel, KernelError> {
        let damaged = |what| KernelError::Damaged {
            path: self.path(),
            what,
        };
        let mut ehdr = [0; 64];
        self.read(&mut ehdr, 0, "its ELF header")?;
        let u16_at = |at: usize| u16::from_le_bytes([ehdr[at], ehdr[at + 1]]);
        let u64_at = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&ehdr[at..at + 8]);
            u64::from_le_bytes(word)
        };
        if !ehdr.starts_with(&elf::abi::ELFMAGIC) {
            return Err(KernelError::NotAKernel { path: self.path() });
        }
        let architecture = match u16_at(18) {
            EM_X86_64 => None,
            EM_386 => Some("x86 of 32 bits"),
            EM_AARCH64 => Some("arm64"),
            EM_RISCV => Some("RISC-V"),
            _ => Some("another processor"),
        };
        // Class and byte order: 64 bits, least significant first.
        match architecture {
            None if ehdr[4..6] == [2, 1] => {}
            None => return Err(damaged("x86-64 with another width or byte order")),
            Some(architecture) => {
                return Err(KernelError::Architecture {
                    path: self.path(),
                    architecture,
                });
            }
        }
        if ![ET_EXEC, ET_DYN].contains(&u16_at(16)) {
            return Err(damaged("it is not executable"));
        }
        let (entry, at, size, count) = (u64_at(24), u64_at(32), u16_at(54), u16_at(56));
        if usize::from(size) != PROGRAM_HEADER_BYTES || count > SEGMENTS_MAX {
            return Err(damaged("odd program headers"));
        }
        let mut headers = vec![0; PROGRAM_HEADER_BYTES * usize::from(count)];
        self.read(&mut headers, at, "its program headers")?;
        let mut segments = Vec::new();
        let mut pvh_entry = None;
        let mut next = 0;
        while next < headers.len() {
            let header = ProgramHeader::parse_at(LittleEndian, Class::ELF64, &mut next, &headers)
                .map_err(|_| damaged("odd program headers"))?;
            match header.p_type {
                PT_LOAD if header.p_memsz > 0 => segments.push(self.segment(&header)?),
                PT_NOTE if header.p_filesz <= NOTES_MAX => {
                    let mut notes = vec![0; header.p_filesz as usize];
                    self.read(&mut notes, header.p_offset, "a note")?;
                    pvh_entry = pvh_entry.or(pvh_entry_of(&notes));
                }
                _ => {}
            }
        }
        segments.sort_unstable_by_key(|segment| segment.start);
        let end = |segment: &Segment| segment.start.0 + segment.memory_bytes;
        if segments.windows(2).any(|two| end(&two[0]) > two[1].start.0) {
            return Err(damaged("its segments overlap"));
        }
        let inside = |address: u64| {
            segments
                .iter()
                .any(|segment| (segment.start.0..end(segment)).contains(&address))
        };
        if !inside(entry) {
            return Err(match segments.is_empty() {
                true => damaged("it has nothing to load"),
                false => damaged("its entry point is in no segment"),
            });
        }
        let pvh_entry = pvh_entry.filter(|entry| inside((*entry).into()));
        Ok(Kernel {
            vmlinux: self.file,
            header,
            compression,
            unpacking: None,
            segments,
            entry,
            pvh_entry,
        })
    }

    fn segment(&self, header: &ProgramHeader) -> Result<Segment, KernelError> {
        let start = Gpa(header.p_paddr);
        let end = start.checked_add(header.p_memsz);
        if start < map::KERNEL_MIN || end.is_none_or(|end| end > map::KERNEL_MAX) {
            return Err(KernelError::Misplaced { path: self.path() });
        }
        if header.p_filesz > header.p_memsz {
            return Err(KernelError::Damaged {
                path: self.path(),
                what: "a segment is longer in the file than in memory",
            });
        }
        self.contains(header.p_offset, header.p_filesz, "a segment")?;
        Ok(Segment {
            start,
            memory_bytes: header.p_memsz,
            offset: header.p_offset,
            file_bytes: header.p_filesz,
        })
    }
}

const PROGRAM_HEADER_BYTES: usize = 56;

/// The entry that a note `XEN_ELFNOTE_PHYS32_ENTRY` of `Xen` names (`include/xen/interface/elfnote.h`).
fn pvh_entry_of(notes: &[u8]) -> Option<u32> {
    const PHYS32_ENTRY: u64 = 18;
    let notes = elf::note::NoteIterator::new(LittleEndian, Class::ELF64, 4, notes);
    notes.into_iter().find_map(|note| match note {
        elf::note::Note::Unknown(note)
            if note.n_type == PHYS32_ENTRY && note.name_str().is_ok_and(|name| name == "Xen") =>
        {
            let (entry, _) = note.desc.split_first_chunk::<4>()?;
            Some(u32::from_le_bytes(*entry))
        }
        _ => None,
    })
}
