//! The one ioctl that no library here has: how large a terminal is.
#![expect(unsafe_code, reason = "an ioctl")]

use std::os::fd::{AsRawFd, BorrowedFd};

mod ioctl {
    nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
}

/// Rows and columns; `None` where there is no terminal.
pub fn window_size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = nix::libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `struct winsize`, which `size` is.
    unsafe { ioctl::window_size(terminal.as_raw_fd(), &mut size) }.ok()?;
    Some((size.ws_row, size.ws_col))
}
