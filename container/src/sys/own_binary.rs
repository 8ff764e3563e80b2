//! The file that this program runs from, out of reach of what it starts (`man 5 proc_pid_exe`).
//!
//! Whoever may look at a process finds its program's file under `/proc/PID/exe`, and a container finds
//! the runtime's there: while it sets up, or for longer, when the container asks it to execute
//! `#!/proc/self/exe`. Whoever is root may then write to it. So the file has to be one that cannot be
//! written to: the same one, seen through a mount of our own that is read-only and nowhere attached.
//! What of it is mapped is exchanged for itself, piece by piece, under the running program, and then the
//! kernel is told that this is the program's file (`man 2 PR_SET_MM`):
//!
//! ```text
//!            before                               after
//! r--  ELF   /usr/bin/oci  host's mount           /oci  our mount, read-only
//! r-x  text  /usr/bin/oci                         /oci
//! r--  relro /usr/bin/oci  (written to: copies)   /oci  (what was written to is written again)
//! rw-  data  /usr/bin/oci  (written to: copies)   /oci  (the same)
//! exe        /usr/bin/oci                         /oci
//! ```
//!
//! To execute the program once more from there would do the same and take ten times as long.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, stat};

use super::{check, clone_tree, set_mount_attributes};

/// Where the kernel shows this program's file.
pub const OWN: &CStr = c"/proc/self/exe";

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// A read-only view of this program's file, for a process to move onto.
#[derive(Debug)]
pub struct View {
    /// The mount, which is attached nowhere: when the last copy of this descriptor is closed nobody can make it
    /// writable again.
    _mount: OwnedFd,
    /// The program's file in it, until somebody has moved.
    file: Option<OwnedFd>,
}

impl View {
    /// Makes one. The calling process still runs from where it did.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN, `EBUSY` with more than one thread (which could write to what is being
    /// copied), `EINVAL` on a kernel without CONFIG_CHECKPOINT_RESTORE, on which nobody could move.
    pub fn new() -> Result<Self, Errno> {
        // A directory has a link for each in it, one for itself and one for its name.
        if stat(c"/proc/self/task")?.st_nlink != 3 {
            return Err(Errno::EBUSY);
        }
        layout_bytes()?;
        let tree = clone_tree(OWN, false)?;
        let (ours, there) = (stat(OWN)?, fstat(&tree)?);
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino) {
            return Err(Errno::ESTALE);
        }
        set_mount_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false)?;
        let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = open(path.as_str(), flags, Mode::empty())?;
        Ok(Self {
            _mount: tree,
            file: Some(file),
        })
    }

    /// Moves the calling process onto it; a second time, or in a child of one that has moved, there is nothing
    /// to do.
    ///
    /// # Errors
    /// The kernel's. What is mapped then is what was, or the same bytes of the view.
    pub fn enter(&mut self) -> Result<(), Errno> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let layout = layout()?;
        remap(file.as_fd())?;
        become_file(file.as_fd(), layout)
    }
}

/// Puts the same bytes under every segment of the program that its file is mapped to.
fn remap(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let headers = program_headers()?;
    let own = headers.iter().find(|it| it.p_type == libc::PT_PHDR);
    let base = own.map_or(0, |it| headers.as_ptr() as usize - it.p_vaddr as usize);
    let down = |address: usize| address & !(PAGE_BYTES - 1);
    let up = |address: usize| down(address + PAGE_BYTES - 1);
    for it in headers
        .iter()
        .filter(|it| it.p_type == libc::PT_LOAD && it.p_filesz > 0)
    {
        let start = down(base + it.p_vaddr as usize);
        let bytes = up(base + it.p_vaddr as usize + it.p_filesz as usize) - start;
        let is_written = it.p_flags & libc::PF_W != 0;
        let mut protection = libc::PROT_READ;
        if it.p_flags & libc::PF_X != 0 {
            protection |= libc::PROT_EXEC;
        }
        if is_written {
            protection |= libc::PROT_WRITE;
        }
        let offset = down(it.p_offset as usize) as libc::off_t;
        // SAFETY: a new mapping, where there is none.
        let fresh = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                offset,
            )
        };
        if fresh == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        if is_written {
            // SAFETY: the pages of this segment are ours and readable, the new ones are as many and writable,
            // and both begin where pages do; nobody else is there to write to them meanwhile, and this function
            // writes to its stack only.
            unsafe {
                let pages = bytes / PAGE_BYTES;
                let before = std::slice::from_raw_parts(start as *const Page, pages);
                let after = std::slice::from_raw_parts_mut(fresh.cast::<Page>(), pages);
                for (after, before) in after.iter_mut().zip(before) {
                    // Most are as the file has them.
                    if after != before {
                        *after = *before;
                    }
                }
            }
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: what is replaced is replaced by the same bytes with the same protection, in one step:
        // the file is the one that is mapped there, by device and inode, and it cannot have been written
        // to while it runs. (The part that is read-only after relocation follows below.)
        let moved = unsafe { libc::mremap(fresh, bytes, bytes, flags, start) };
        if moved == libc::MAP_FAILED {
            return Err(Errno::last());
        }
    }
    for it in headers.iter().filter(|it| it.p_type == libc::PT_GNU_RELRO) {
        let start = down(base + it.p_vaddr as usize);
        // As the loader does: a last page that is shared with data stays writable.
        let bytes = down(base + it.p_vaddr as usize + it.p_memsz as usize) - start;
        // SAFETY: these pages were read-only before.
        check(unsafe { libc::mprotect(start as *mut _, bytes, libc::PROT_READ) }.into())?;
    }
    Ok(())
}

/// The program's own headers, as the kernel loaded them.
fn program_headers() -> Result<&'static [libc::Elf64_Phdr], Errno> {
    // SAFETY: the call takes an integer.
    let (at, count, bytes) = unsafe {
        (
            libc::getauxval(libc::AT_PHDR),
            libc::getauxval(libc::AT_PHNUM),
            libc::getauxval(libc::AT_PHENT),
        )
    };
    if at == 0 || bytes as usize != size_of::<libc::Elf64_Phdr>() {
        return Err(Errno::ENOEXEC);
    }
    // SAFETY: the kernel says that this many headers of this size are mapped there; they are in a
    // read-only segment that stays as long as the program, at the same address with the same bytes.
    Ok(unsafe { std::slice::from_raw_parts(at as *const libc::Elf64_Phdr, count as usize) })
}

/// `struct prctl_mm_map` of <linux/prctl.h>.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Layout {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Where the parts of this process are, as the kernel has it (`man 5 proc_pid_stat`).
fn layout() -> Result<Layout, Errno> {
    let file = open(
        c"/proc/self/stat",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    // 52 numbers and a name of 16 bytes.
    let mut bytes = [0; 2048];
    let length = nix::unistd::read(&file, &mut bytes)?;
    let text = String::from_utf8_lossy(&bytes[..length]);
    let rest = &text[text.rfind(')').ok_or(Errno::EINVAL)? + 1..];
    // What follows the name are fields 3 and on.
    let numbers: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| {
        let text = numbers.get(number - 3).ok_or(Errno::EINVAL)?;
        text.parse::<u64>().map_err(|_| Errno::EINVAL)
    };
    // SAFETY: a change by nothing asks where the end is.
    let brk = unsafe { libc::sbrk(0) } as u64;
    Ok(Layout {
        start_code: field(26)?,
        end_code: field(27)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk,
        start_stack: field(28)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: u32::MAX,
    })
}

const PR_SET_MM: libc::c_int = 35;

/// How large the kernel has a [`Layout`], which only one that can take it knows.
fn layout_bytes() -> Result<u32, Errno> {
    const PR_SET_MM_MAP_SIZE: libc::c_ulong = 15;
    let mut bytes = 0u32;
    // SAFETY: the kernel writes one integer, which lives across the call.
    check(unsafe { libc::prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &raw mut bytes, 0, 0) }.into())?;
    Ok(bytes)
}

/// Makes `file` the program's, to all who ask; the old one may not be mapped any more.
fn become_file(file: BorrowedFd<'_>, mut layout: Layout) -> Result<(), Errno> {
    const PR_SET_MM_MAP: libc::c_ulong = 14;
    layout.exe_fd = file.as_raw_fd() as u32;
    // SAFETY: the kernel reads as many bytes of the layout as it is told, and the layout is what it has
    // already, but for the file.
    check(
        unsafe {
            libc::prctl(
                PR_SET_MM,
                PR_SET_MM_MAP,
                &raw const layout,
                size_of::<Layout>(),
                0,
            )
        }
        .into(),
    )
    .map(drop)
}

/// Becomes the program in `file`; returns only to say why not (`man 2 execveat`).
pub fn execute_file(
    file: BorrowedFd<'_>,
    arguments: &[std::ffi::CString],
    environment: &[std::ffi::CString],
) -> Errno {
    let pointers = |strings: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
        let all = strings.iter().map(|text| text.as_ptr());
        all.chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in a null pointer and point into strings that live across the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}
