use super::*;

/// A recording made without KVM: a serial byte, a line by hypercall, some input, the end.
fn recording() -> Vec<u8> {
    let memory = GuestMemory::new(1 << 20).unwrap();
    let (mut streams, _) = Streams::captured();
    streams.input = Box::new(&b"typed"[..]);
    let buses = Buses::bare(&memory, streams);
    let mut file = Vec::new();
    let mut recorder = Recorder::new(&mut file, "test", memory.bytes()).unwrap();
    let request = |number, arguments: [u64; 2]| {
        let words = [number, arguments[0], arguments[1], 0, 0, 0];
        memory.write_value(Gpa(0x1000), words).unwrap();
        let (port, width) = (port::HYPERCALL, Width::Double);
        Exit::IoOut {
            port,
            width,
            value: 0x1000,
        }
    };
    memory.write(Gpa(0x2000), b"a line\n").unwrap();
    let byte = |port, value| Exit::IoOut {
        port,
        width: Width::Byte,
        value,
    };
    let ring = || {
        let mut ring = [0_u64; 6];
        // Filled twice, served never; the pieces are twice the line's beginning.
        (ring[0], ring[2], ring[3], ring[4], ring[5]) = (2, 0x2000, 2, 0x2000, 2);
        memory.write_value(Gpa(0x4000), ring).unwrap();
        request(Number::Ring as u64, [0x4000, 0])
    };
    let steps: [&dyn Fn() -> Exit; 7] = [
        &|| byte(port::SERIAL, b'>'.into()),
        &|| request(Number::Write as u64, [0x2000, 7]),
        &|| request(Number::Read as u64, [0x3000, 100]),
        &|| request(Number::Write as u64, [u64::MAX, 7]),
        &|| request(999, [0, 0]),
        &ring,
        &|| byte(port::DEBUG_EXIT, 3),
    ];
    for step in steps {
        let exit = step();
        recorder.exited(exit, &kvm_regs::default(), &memory);
        let reply = dispatch(exit, &buses);
        recorder.handled(exit, reply, &memory);
    }
    recorder.finish().unwrap();
    file
}

#[test]
fn a_recording_replays_without_kvm() {
    let file = recording();
    assert!(String::from_utf8_lossy(&file).contains(&to_hex(b"typed")));
    let replayed = replay(&*file, "test").unwrap();
    assert_eq!(replayed.accesses, 7);
    assert_eq!(replayed.output, b">a line\na a ");
    assert_eq!(replayed.stop, Some(Stop::Exited(3)));
}

#[test]
fn another_decision_is_shown_with_its_line() {
    let text = String::from_utf8(recording()).unwrap();
    let changed = text.replace("\"value\":3", "\"value\":4");
    assert_ne!(text, changed);
    let error = replay(changed.as_bytes(), "test").unwrap_err();
    assert!(
        matches!(error, ReplayError::Diverged { line: 8, .. }),
        "{error}"
    );
}

#[test]
fn what_is_no_recording_is_an_error_that_says_why() {
    let message = |text: &str| replay(text.as_bytes(), "test").unwrap_err().to_string();
    let header = r#"{"format":"ringside trap log 1","program":"test","memory_bytes":4096}"#;
    assert!(message("").contains("empty"));
    assert!(message("hello").contains("line 1"));
    assert!(
        message(r#"{"format":"other","program":"test","memory_bytes":4096}"#).contains("`other`")
    );
    assert!(
        message(r#"{"format":"ringside trap log 1","program":"test","memory_bytes":5}"#)
            .contains("5 bytes")
    );
    assert!(message(&format!("{header}\n{{}}")).contains("line 2"));
    let other = header.replace("test", "another");
    assert!(message(&other).contains("of `another`, not of `test`"));
    let record = |address: &str, bytes: &str| {
        format!(
            r#"{header}
{{"exit":"Hlt","memory":[{{"address":{address},"bytes":"{bytes}"}}],"reply":"Resume"}}"#
        )
    };
    assert!(message(&record("4096", "00")).contains("0x1000"));
    assert!(message(&record("18446744073709551615", "0000")).contains("guest memory"));
    assert!(message(&record("0", "0")).contains("hexadecimal"));
    assert!(message(&record("0", "zz")).contains("hexadecimal"));
    assert!(message(&record("0", "ü")).contains("hexadecimal"));
}

#[test]
fn a_cut_recording_is_an_error_or_a_shorter_replay() {
    let file = recording();
    for length in 0..file.len() {
        match replay(&file[..length], "test") {
            Ok(replayed) => assert!(replayed.accesses <= 7),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
