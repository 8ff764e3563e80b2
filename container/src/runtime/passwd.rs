//! What /etc/passwd says of a user (`man 5 passwd`), the host's or the container's. Other sources of names are code
//! that a program which brings its own libraries cannot load (`man 5 nsswitch.conf`).

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Larger files are not read to the end.
const MAX_BYTES: u64 = 1 << 20;

/// The home directory of `uid`; `/` when the file does not know.
pub fn home(uid: u32) -> Vec<u8> {
    field_in(&text(), uid, 5).unwrap_or(b"/").to_vec()
}

/// The name of `uid`; none when the file does not know.
pub fn user_name(uid: u32) -> Option<String> {
    let text = text();
    let name = field_in(&text, uid, 0)?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn text() -> Vec<u8> {
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
    text
}

/// A field, counted from 0, of the first line whose third is `uid`.
fn field_in(passwd: &[u8], uid: u32, index: usize) -> Option<&[u8]> {
    let uid = uid.to_string();
    passwd
        .split(|&byte| byte == b'\n')
        .map(|line| line.split(|&byte| byte == b':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&uid.as_bytes()))
        .and_then(|fields| fields.get(index).copied())
        .filter(|field| !field.is_empty() && !field.contains(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_s_name_and_home_are_found_by_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nu:x:7:8::/home/u:/bin/sh\nv:x:9:9:::\nodd\n";
        assert_eq!(field_in(passwd, 0, 5), Some(&b"/root"[..]));
        assert_eq!(field_in(passwd, 7, 5), Some(&b"/home/u"[..]));
        assert_eq!(field_in(passwd, 9, 5), None);
        assert_eq!(field_in(passwd, 9, 0), Some(&b"v"[..]));
        assert_eq!(field_in(passwd, 8, 0), None);
    }
}
