//! What a Linux guest costs the host beyond its own memory.

use super::smaps::pss_kib;
use super::{guest, has_kernel, text};
use std::fs;
use std::io::{BufRead, BufReader};

#[test]
fn a_linux_guest_takes_five_mebibytes_beyond_its_memory_at_most() {
    if !has_kernel() {
        return;
    }
    let script = "echo ready; read line; echo done";
    let mut child = guest(&["--", "sh", "-c", script]).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", child.id())).unwrap();
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    // What lies in the guest's memory: its pages, the kernel and the initramfs.
    let guest_kib = pss_kib(&smaps, |line| {
        ["/memfd:ringside-guest", "/memfd:initramfs", "/vmlinux"]
            .iter()
            .any(|name| line.contains(name))
    });
    let beyond = pss_kib(&smaps, |_| true) - guest_kib;
    assert!(guest_kib > 0, "{smaps}");
    // A debug build maps several times the code that a release build does.
    let most = if cfg!(debug_assertions) {
        24 << 10
    } else {
        5 << 10
    };
    assert!(beyond <= most, "{beyond} KiB beyond the guest's\n{smaps}");
}
