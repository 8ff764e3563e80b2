//! Where a user is at home, by the container's /etc/passwd (`man 5 passwd`).

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Larger files are not read to the end.
const MAX_BYTES: u64 = 1 << 20;

/// The home directory of `uid`; `/` when the file does not know.
pub fn find(uid: u32) -> Vec<u8> {
    // The image may have put anything there: nothing that blocks is opened.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/etc/passwd");
    let mut text = Vec::new();
    if let Ok(file) = file
        && file.metadata().is_ok_and(|it| it.is_file())
    {
        let _ = file.take(MAX_BYTES).read_to_end(&mut text);
    }
    home_in(&text, uid).unwrap_or(b"/").to_vec()
}

/// The sixth field of the first line whose third is `uid`.
fn home_in(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    let uid = uid.to_string();
    passwd
        .split(|&byte| byte == b'\n')
        .map(|line| line.split(|&byte| byte == b':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&uid.as_bytes()))
        .and_then(|fields| fields.get(5).copied())
        .filter(|home| !home.is_empty() && !home.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nu:x:7:8::/home/u:/bin/sh\nv:x:9:9:::\nodd\n";
        assert_eq!(home_in(passwd, 0), Some(&b"/root"[..]));
        assert_eq!(home_in(passwd, 7), Some(&b"/home/u"[..]));
        assert_eq!(home_in(passwd, 9), None);
        assert_eq!(home_in(passwd, 8), None);
    }
}
