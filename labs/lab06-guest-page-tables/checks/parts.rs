//! Who walks and who maps: the student, or the library where the student has not written it yet and
//! was asked to be helped out (`--with reference`).

use std::ops::Range;

use lab06::{
    Access, Fault, Frames, Gpa, Gva, Level, MapError, PAGE_BYTES, Page, PhysicalMemory, Registers,
    Rights, Translation,
};
use ringside_lab_harness::Context;
use ringside_vmm::paging::{
    self, BuildError, Builder, Flags, Kind, Levels, PageSize, Paging, Privilege, VecMemory,
};

/// `lab06::walk`.
pub type Walk = fn(&dyn PhysicalMemory, Registers, Gva, Access) -> Result<Translation, Fault>;

/// Whoever walks.
pub fn walk(context: &Context) -> Walk {
    let nothing = VecMemory::new(Gpa(0), 0);
    context.part::<Walk>("walk", lab06::walk, library_walk, |walk| {
        let registers = Registers {
            cr3: Gpa(0),
            wp: true,
            nxe: true,
        };
        let access = super::world::ACCESSES[0];
        let _ = walk(&nothing, registers, Gva(0), access);
    })
}

/// An address space that somebody enters pages into.
pub enum Space<'m> {
    /// By the student's `map`, one call a page.
    Student {
        /// Where the tables are.
        memory: &'m dyn PhysicalMemory,
        /// What is left for tables.
        frames: Region,
        /// The root.
        cr3: Gpa,
    },
    /// By the library's builder.
    Library(Box<Builder<'m, Behind<'m>>>),
}

/// Pages set aside for tables, given out from the first to the last, as they are.
#[derive(Clone, Debug)]
pub struct Region(pub Range<Gpa>);

impl Frames for Region {
    fn take(&mut self) -> Option<Gpa> {
        let frame = self.0.start;
        self.0.start = Gpa(frame.0 + PAGE_BYTES);
        (frame < self.0.end).then_some(frame)
    }
}

impl<'m> Space<'m> {
    /// An empty one, whose tables come from `region`; the root is its first page.
    pub fn new(context: &Context, memory: &'m Behind<'m>, region: Range<Gpa>) -> Self {
        let student = context.part::<bool>("map", true, false, |_| {
            let nothing = VecMemory::new(Gpa(0), 0);
            let _ = lab06::map(&nothing, &mut Region(Gpa(0)..Gpa(0)), Gpa(0), ANY_PAGE);
        });
        let library = Builder::new(memory, Levels::Four, region.clone());
        match library {
            Ok(library) if !student => Self::Library(Box::new(library)),
            // The builder has emptied the root either way.
            _ => Self::Student {
                memory: memory.0,
                cr3: region.start,
                frames: Region(Gpa(region.start.0 + PAGE_BYTES)..region.end),
            },
        }
    }

    /// One by the library in any case.
    ///
    /// # Errors
    ///
    /// When `region` is not in memory.
    pub fn by_library(memory: &'m Behind<'m>, region: Range<Gpa>) -> Result<Self, BuildError> {
        let builder = Builder::new(memory, Levels::Four, region)?;
        Ok(Self::Library(Box::new(builder)))
    }

    /// The root.
    pub fn cr3(&self) -> Gpa {
        match self {
            Self::Student { cr3, .. } => *cr3,
            Self::Library(builder) => builder.root(),
        }
    }

    /// The first page that is no table yet.
    pub fn next_table(&self) -> Gpa {
        match self {
            Self::Student { frames, .. } => frames.0.start,
            Self::Library(builder) => Gpa(builder.root().0 + builder.tables_used() * PAGE_BYTES),
        }
    }

    /// Enters a page.
    ///
    /// # Errors
    ///
    /// Those of `lab06::map`.
    pub fn map(&mut self, page: Page) -> Result<(), MapError> {
        match self {
            Self::Student {
                memory,
                frames,
                cr3,
            } => lab06::map(*memory, frames, *cr3, page),
            Self::Library(builder) => library_map(builder, page),
        }
    }
}

const ANY_PAGE: Page = Page {
    gva: Gva(0),
    gpa: Gpa(0),
    leaf: Level::Pt,
    rights: Rights {
        writable: true,
        user: true,
        executable: true,
    },
};

fn library_map(builder: &mut Builder<'_, Behind<'_>>, page: Page) -> Result<(), MapError> {
    let size = match page.leaf {
        Level::Pdpt => PageSize::Gib1,
        Level::Pd => PageSize::Mib2,
        _ => PageSize::Kib4,
    };
    let mut flags = Flags::empty();
    flags.set(Flags::WRITABLE, page.rights.writable);
    flags.set(Flags::USER, page.rights.user);
    flags.set(Flags::NO_EXECUTE, !page.rights.executable);
    let mapped = builder.map(page.gva, page.gpa, size.bytes(), size, flags);
    mapped.map_err(|error| match error {
        BuildError::Misaligned { .. } => MapError::Misaligned,
        BuildError::Overlap { .. } => MapError::Taken,
        BuildError::OutOfTables { .. } => MapError::NoFrame,
        BuildError::OutsideMemory(_) => MapError::NoMemory,
        _ => MapError::NonCanonical,
    })
}

/// The library's functions are generic; the lab's memory is behind a reference.
pub struct Behind<'m>(pub &'m dyn PhysicalMemory);

impl PhysicalMemory for Behind<'_> {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        self.0.read_u64(at)
    }

    fn write_u64(&self, at: Gpa, value: u64) -> Option<()> {
        self.0.write_u64(at, value)
    }

    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool> {
        self.0.compare_exchange_u64(at, current, new)
    }
}

/// The hypervisor's own walker in the lab's words.
pub fn library_walk(
    memory: &dyn PhysicalMemory,
    registers: Registers,
    gva: Gva,
    access: Access,
) -> Result<Translation, Fault> {
    let paging = Paging {
        no_execute: registers.nxe,
        write_protect: registers.wp,
        ..Paging::new(registers.cr3, Levels::Four)
    };
    let kind = match (access.write, access.fetch) {
        (true, _) => Kind::Write,
        (_, true) => Kind::Fetch,
        _ => Kind::Read,
    };
    let privilege = if access.user {
        Privilege::User
    } else {
        Privilege::Supervisor
    };
    let access = paging::Access::new(kind, privilege);
    match paging.walk(&Behind(memory), gva, access).outcome {
        Ok(found) => Ok(Translation {
            gpa: found.gpa,
            page_bytes: found.size.bytes(),
            rights: Rights {
                writable: found.rights.write,
                user: found.rights.user,
                executable: found.rights.execute,
            },
        }),
        Err(paging::Fault::Page(fault)) => Err(Fault::Page {
            code: fault.code.bits(),
        }),
        Err(paging::Fault::OutsideMemory { at, .. }) => Err(Fault::NoMemory { at }),
        Err(_) => Err(Fault::NonCanonical),
    }
}
