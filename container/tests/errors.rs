//! Each cause of a failure is told apart, and says what to do.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ringside_container::{Config, Error, NotExecuted};
use support::{is_root, output, shell};

fn failure(config: &Config) -> Error {
    output(config).expect_err("a container that cannot come to be")
}

/// The error of running `program`, as a variant and as text.
fn not_executed(program: impl Into<std::ffi::OsString>) -> (NotExecuted, String, u8) {
    match failure(&Config::new([program])) {
        error @ Error::NotExecuted(_) => {
            let (text, code) = (error.to_string(), error.exit_code());
            let Error::NotExecuted(cause) = error else {
                unreachable!()
            };
            (cause, text, code)
        }
        other => panic!("{other}"),
    }
}

/// A file of the host's, executable, that the container sees at the same path.
fn file(contents: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (directory, path)
}

#[test]
fn a_program_that_is_not_there() {
    if !is_root() {
        return;
    }
    let (cause, text, code) = not_executed("/no/such/program");
    assert_eq!(
        cause,
        NotExecuted::Missing {
            program: "/no/such/program".into()
        }
    );
    assert!(text.contains("/no/such/program") && code == 127, "{text}");
    let (cause, text, code) = not_executed("no-such-program");
    assert!(matches!(cause, NotExecuted::NotFound { .. }), "{cause:?}");
    assert!(
        text.contains("/usr/bin") && text.contains("PATH") && code == 127,
        "{text}"
    );
}

#[test]
fn a_directory() {
    if !is_root() {
        return;
    }
    let (cause, _, code) = not_executed("/usr/bin");
    assert_eq!(
        (cause, code),
        (
            NotExecuted::Directory {
                program: "/usr/bin".into()
            },
            126
        )
    );
}

#[test]
fn a_file_without_the_bit_that_makes_it_a_program() {
    if !is_root() {
        return;
    }
    let (_directory, path) = file(b"#!/bin/sh\n", 0o644);
    let (cause, text, code) = not_executed(&path);
    assert_eq!(
        (cause, code),
        (
            NotExecuted::NotExecutable {
                program: path.into()
            },
            126
        )
    );
    assert!(text.contains("chmod +x"), "{text}");
}

#[test]
fn a_script_without_its_interpreter_or_with_windows_line_ends() {
    if !is_root() {
        return;
    }
    let (_directory, path) = file(b"#!/no/such/interpreter -x\n", 0o755);
    let (cause, _, code) = not_executed(&path);
    assert_eq!(
        cause,
        NotExecuted::MissingInterpreter {
            program: path.into(),
            interpreter: "/no/such/interpreter".into()
        }
    );
    assert_eq!(code, 126);
    let (_directory, path) = file(b"#!/bin/sh\r\necho hello\r\n", 0o755);
    let (cause, text, _) = not_executed(&path);
    assert_eq!(
        cause,
        NotExecuted::CarriageReturn {
            program: path.into(),
            interpreter: "/bin/sh".into()
        }
    );
    assert!(text.contains("dos2unix"), "{text}");
}

#[test]
fn a_program_without_its_loader() {
    if !is_root() {
        return;
    }
    let mut program = fs::read(fs::canonicalize("/bin/sh").unwrap()).unwrap();
    let at = program
        .windows(4)
        .position(|window| window == b"/ld-")
        .expect("/bin/sh is dynamic");
    program[at..at + 4].copy_from_slice(b"/xd-");
    let (_directory, path) = file(&program, 0o755);
    let (cause, text, _) = not_executed(&path);
    assert!(
        matches!(&cause, NotExecuted::MissingLoader { loader, .. } if loader.to_string_lossy().contains("/xd-")),
        "{cause:?}"
    );
    assert!(text.contains("statically"), "{text}");
}

#[test]
fn a_file_that_is_no_program() {
    if !is_root() {
        return;
    }
    let (_directory, path) = file(b"echo hello\n", 0o755);
    assert_eq!(
        not_executed(&path).0,
        NotExecuted::UnknownFormat {
            program: path.into()
        }
    );
    let (_directory, path) = file(b"", 0o755);
    assert_eq!(
        not_executed(&path).0,
        NotExecuted::UnknownFormat {
            program: path.into()
        }
    );
}

#[test]
fn more_arguments_than_the_kernel_takes() {
    if !is_root() {
        return;
    }
    let config = Config::new(["/bin/true".to_owned(), "x".repeat(200 << 10)]);
    let error = failure(&config);
    assert!(
        matches!(error, Error::NotExecuted(NotExecuted::TooLarge { .. })),
        "{error}"
    );
}

#[test]
fn a_working_directory_that_is_not_there() {
    if !is_root() {
        return;
    }
    let mut config = shell("true");
    config.cwd = "/no/such/directory".into();
    let error = failure(&config);
    assert!(
        matches!(&error, Error::Step { field, .. } if field == "cwd"),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains(r#"chdir("/no/such/directory")"#) && text.contains("name a directory"),
        "{text}"
    );
    assert_eq!(error.exit_code(), 125);
    config.cwd = "/etc/passwd".into();
    assert!(failure(&config).to_string().contains("Not a directory"));
}

#[test]
fn the_search_goes_on_past_what_does_not_run() {
    if !is_root() {
        return;
    }
    let (directory, _path) = file(b"#!/bin/sh\n", 0o644);
    let path = directory.path().display();
    let mut config = Config::new(["program"]);
    config.env = vec![("PATH".into(), format!("/no/such:{path}:/usr/bin").into())];
    // As a shell does: what is there and forbidden is remembered, if nothing better comes.
    assert!(matches!(
        failure(&config),
        Error::NotExecuted(NotExecuted::NotExecutable { .. })
    ));
    config.command = vec!["true".into()];
    assert!(output(&config).unwrap().status.is_success());
}

#[test]
fn impossible_configurations_are_refused_before_anything_is_done() {
    for (change, names) in [
        (
            (|c: &mut Config| c.command.clear()) as fn(&mut Config),
            "`command`",
        ),
        (|c| c.command.push("a\0b".into()), "`command`"),
        (|c| c.env.push(("A\0".into(), "b".into())), "`env`"),
        (|c| c.cwd = "relative".into(), "`cwd`"),
        (|c| c.hostname = "".into(), "`hostname`"),
        (|c| c.limits.cpus = Some(f64::INFINITY), "`limits.cpus`"),
        (|c| c.limits.memory_bytes = Some(1), "`limits.memory_bytes`"),
    ] {
        let mut config = shell("true");
        change(&mut config);
        let error = failure(&config);
        assert!(matches!(error, Error::Plan(_)), "{error:?}");
        assert!(error.to_string().contains(names), "{error}");
    }
}
