//! A Linux guest's devices beside its own, by the command line's options.

use super::{guest, has_kernel, text};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

#[test]
fn a_disk_that_is_not_there_is_told_with_the_status_of_a_run() {
    if !has_kernel() {
        return;
    }
    let arguments = ["--disk", "/no/such/disk", "--", "true"];
    let output = guest(&arguments).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(
        error.contains("/no/such/disk") && error.contains("truncate"),
        "{error}"
    );
}

/// Speaks the guest's host's part of a conversation, and returns what it heard.
fn answer(stream: impl Read + Write) -> String {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    stream.get_mut().write_all(b"the host's answer\n").unwrap();
    line
}

#[test]
fn a_tap_that_is_not_there_is_refused_and_not_made() {
    if !has_kernel() {
        return;
    }
    let output = guest(&["--tap", "nowhere0", "--", "true"])
        .output()
        .unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("ip tuntap add nowhere0 mode tap"), "{error}");
}

/// In the guest: asks at the host's port 1234, and reads from the host's randomness.
const SOCKET_AND_RANDOMNESS: &str = r#"
    socket(my $s, 40, 1, 0) or die "socket: $!"; # AF_VSOCK, SOCK_STREAM
    connect($s, pack("S S L L x4", 40, 0, 1234, 2)) or die "connect: $!";
    syswrite($s, "a question
");
    print scalar <$s>;
    open(my $r, "<", "/dev/hwrng") or die "hwrng: $!";
    print sysread($r, my $bytes, 16), " bytes
";
"#;

#[test]
fn a_guest_has_a_socket_to_the_host_and_its_randomness() {
    if !has_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let listener = UnixListener::bind(folder.path().join("vsock_1234")).unwrap();
    let arguments = [
        "--vsock",
        path.to_str().unwrap(),
        "--rng",
        "--",
        "perl",
        "-e",
        SOCKET_AND_RANDOMNESS,
    ];
    let child = guest(&arguments).spawn().unwrap();
    let server = thread::spawn(move || answer(listener.accept().unwrap().0));
    let output = child.wait_with_output().unwrap();
    let (output, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output, "the host's answer\n16 bytes\n", "{error}");
    assert_eq!(server.join().unwrap(), "a question\n");
}

#[test]
fn a_guest_has_a_disk_and_a_network() {
    if !has_kernel() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::write(&disk, "what the host wrote\n".repeat(512)).unwrap();
    let name = disk.to_str().unwrap().to_owned();
    // A network namespace of this thread's own, so that nothing is left of the interface.
    let talk = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for words in [
            "tuntap add guest0 mode tap",
            "address add 10.77.0.1/24 dev guest0",
            "link set guest0 up",
        ] {
            let status = Command::new("ip").args(words.split(' ')).status().unwrap();
            assert!(status.success(), "{words}");
        }
        let listener = TcpListener::bind("10.77.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!(
            "read line </dev/vdb; echo $line; echo what the guest wrote >/dev/vdb
             exec 3<>/dev/tcp/10.77.0.1/{port}; echo a question >&3; read line <&3; echo $line"
        );
        let arguments = [
            "--disk",
            &name,
            "--tap",
            "guest0",
            "--address",
            "10.77.0.2/24",
            "--gateway",
            "10.77.0.1",
            "--",
            "bash",
            "-c",
            &script,
        ];
        let child = guest(&arguments).spawn().unwrap();
        let server = thread::spawn(move || answer(listener.accept().unwrap().0));
        let output = child.wait_with_output().unwrap();
        let (output, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(
            output, "what the host wrote\nthe host's answer\n",
            "{error}"
        );
        assert_eq!(server.join().unwrap(), "a question\n");
    });
    talk.join().unwrap();
    let bytes = fs::read(&disk).unwrap();
    assert!(
        bytes.starts_with(b"what the guest wrote\n"),
        "{}",
        text(&bytes[..64])
    );
}
