//! The container's terminal (`man 4 pts`): made inside, and its master passed out.

use std::ffi::CStr;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};

use super::Init;
use crate::runtime::root;
use crate::sys;

impl Init<'_> {
    /// The terminal is opened in the container's devpts, and everything about it is done by descriptors.
    pub(super) fn take_terminal(
        &mut self,
        owner: u32,
        size: Option<(u16, u16)>,
        is_relayed: bool,
    ) -> Result<(), Errno> {
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let master = match &self.root {
            Some(root) => sys::open_in_root(root.as_fd(), c"/dev/pts/ptmx", flags, 0)?,
            None => open(
                c"/dev/pts/ptmx",
                OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?,
        };
        let file_system = nix::sys::statfs::fstatfs(&master)?.filesystem_type();
        if file_system.0 != 0x1cd1 {
            return Err(Errno::ENOTTY);
        }
        let terminal = sys::terminal_peer(master.as_fd())?;
        let _ = fchown(&terminal, Some(Uid::from_raw(owner)), None);
        let _ = fchmod(&terminal, Mode::from_bits_truncate(0o620));
        // Whoever reads the copy knows how its own lines end.
        if is_relayed {
            let mut settings = tcgetattr(&master)?;
            settings.output_flags.remove(OutputFlags::ONLCR);
            tcsetattr(&master, SetArg::TCSANOW, &settings)?;
        }
        if let Some(size) = size {
            sys::set_terminal_size(master.as_fd(), size)?;
        }
        if let Some(root) = &self.root {
            let console = root::resolve(root.as_fd(), c"/dev/console", root::Make::File)?;
            let (from, to) = (
                root::by_descriptor(terminal.as_fd()),
                root::by_descriptor(console.as_fd()),
            );
            mount(
                Some(from.as_c_str()),
                to.as_c_str(),
                None::<&CStr>,
                MsFlags::MS_BIND,
                None::<&CStr>,
            )?;
        }
        let console = self.inheritance.console.ok_or(Errno::EBADF)?;
        let name = b"/dev/ptmx";
        let descriptors = [master.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(
            console.as_raw_fd(),
            &[IoSlice::new(name)],
            &rights,
            MsgFlags::empty(),
            None,
        )?;
        sys::control_terminal(terminal.as_fd())?;
        self.terminal = Some(terminal);
        let terminal = self.terminal.as_ref().ok_or(Errno::EBADF)?;
        dup2_stdin(terminal)?;
        dup2_stdout(terminal)?;
        // The last one: until here, failures could be written to it.
        dup2_stderr(terminal)
    }
}
