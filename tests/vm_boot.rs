//! `ringside vm boot` from outside: a kernel with its console on a terminal of the test's.

use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use std::fs;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Echoes what is typed, until a `q` switches the machine off.
const ECHO: [u8; 33] = [
    0xba, 0xf8, 0x03, 0, 0, //    mov edx, 0x3f8
    0xb2, 0xfd, 0xec, //      05: mov dl, 0xfd; in al, dx      line status
    0xa8, 0x01, 0x74, 0xf9, //    test al, 1; jz 05            nothing there
    0xb2, 0xf8, 0xec, //          mov dl, 0xf8; in al, dx
    0x3c, b'q', 0x74, 0x03, //    cmp al, 'q'; je 16
    0xee, 0xeb, 0xef, //          out dx, al; jmp 05
    0xb0, 0x24, //            16: mov al, 0x24
    0xba, 0x00, 0x06, 0, 0, //    mov edx, 0x600               sleep control
    0xb0, 0x34, 0xee, 0xf4, //    mov al, 0x34; out dx, al; hlt
];

/// A vmlinux of one segment, at 1 MiB.
fn vmlinux(code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    let words = |file: &mut Vec<u8>, words: &[u64]| {
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    words(&mut file, &[0x10_0000, 64, 0]); // entry, program headers, no sections
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    let length = code.len() as u64;
    words(&mut file, &[120, 0x10_0000, 0x10_0000, length, length, 1]);
    file.extend(code);
    file
}

fn has_kvm() -> bool {
    let opened = ringside_vmm::sys::kvm::Kvm::open();
    opened
        .inspect_err(|error| eprintln!("skipped: {error}"))
        .is_ok()
}

/// A guest with its console on a terminal.
struct Session {
    terminal: OpenptyResult,
    before: Termios,
    ringside: Child,
    _folder: tempfile::TempDir,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Session {
    fn begin() -> Session {
        let folder = tempfile::tempdir().expect("a folder");
        let kernel = kernel(folder.path(), &ECHO);
        let terminal = openpty(None, None).expect("a terminal");
        let before = tcgetattr(&terminal.slave).expect("its mode");
        let end = || Stdio::from(terminal.slave.try_clone().expect("a descriptor"));
        // Signals that whoever started the tests ignores (a background job's) are not ignored here.
        let ringside = Command::new("env")
            .args(["--default-signal", env!("CARGO_BIN_EXE_ringside")])
            .args(["vm", "boot", "--console", "--quiet"])
            .arg(kernel)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("ringside runs");
        let session = Session {
            terminal,
            before,
            ringside,
            _folder: folder,
        };
        session.until("the terminal is raw", || !session.echoes());
        session
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn echoes(&self) -> bool {
        let mode = tcgetattr(&self.terminal.slave).expect("its mode");
        mode.local_flags.contains(LocalFlags::ECHO)
    }

    fn terminal(&self) -> File {
        File::from(self.terminal.master.try_clone().expect("a descriptor"))
    }

    fn keys(&self, keys: &[u8]) {
        self.terminal().write_all(keys).expect("a terminal");
    }

    /// Waits for the end, and sees to it that the terminal is as it was.
    fn end(mut self) -> ExitStatus {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.ringside.try_wait().expect("a child") {
                break status;
            }
            if start.elapsed() > PATIENCE {
                self.ringside.kill().expect("a child");
                panic!("it did not end");
            }
            thread::sleep(Duration::from_millis(5));
        };
        let after = tcgetattr(&self.terminal.slave).expect("its mode");
        assert_eq!(after, self.before, "the terminal is not as it was");
        status
    }
}

fn kernel(folder: &Path, code: &[u8]) -> PathBuf {
    let path = folder.join("vmlinux");
    fs::write(&path, vmlinux(code)).expect("room for it");
    path
}

#[test]
fn what_is_typed_reaches_the_guest_and_its_answer_the_terminal() {
    if !has_kvm() {
        return;
    }
    let session = Session::begin();
    // Ctrl-C is a key like others; Ctrl-A twice is one.
    session.keys(b"hello\x03\x01\x01");
    let mut echoed = [0; 7];
    session.terminal().read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"hello\x03\x01");
    session.keys(b"q");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn control_a_and_x_leave_a_guest() {
    if !has_kvm() {
        return;
    }
    let session = Session::begin();
    session.keys(b"\x01x");
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn a_signal_ends_the_guest_and_restores_the_terminal() {
    if !has_kvm() {
        return;
    }
    for signal in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGABRT,
        Signal::SIGALRM,
    ] {
        let session = Session::begin();
        let pid = Pid::from_raw(session.ringside.id() as i32);
        kill(pid, signal).unwrap();
        let status = session.end();
        assert!(!status.success(), "{signal}: {status}");
    }
}

#[test]
fn errors_name_the_file_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    fs::write(&file, "no kernel").unwrap();
    let boot = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringside"))
            .args(["vm", "boot"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    let name = file.to_str().unwrap();
    let (status, text) = boot(&[name]);
    assert_eq!(status, Some(1));
    assert!(
        text.contains(name) && text.contains("not a Linux kernel"),
        "{text}"
    );
    let (status, text) = boot(&[name, "--mask", "sse9"]);
    assert_eq!(status, Some(2));
    assert!(text.contains("`sse9`") && text.contains("cx16"), "{text}");
}
