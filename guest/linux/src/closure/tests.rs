use super::*;
use crate::tree::{Kind, Node};

/// Every file's path in a tree.
fn files(node: &Node, path: &str, found: &mut Vec<String>) {
    match &node.kind {
        Kind::Directory(children) => {
            for (name, child) in children {
                files(
                    child,
                    &format!("{path}/{}", String::from_utf8_lossy(name)),
                    found,
                );
            }
        }
        _ => found.push(path.to_owned()),
    }
}

fn closure_of(path: &Path) -> Result<Vec<String>, ClosureError> {
    let mut tree = Tree::default();
    Closure::new(&mut tree).add_program(path)?;
    let mut found = Vec::new();
    files(tree.root(), "", &mut found);
    Ok(found)
}

#[test]
fn a_program_comes_with_what_ldd_lists() {
    let program = find_program(OsStr::new("sh")).unwrap();
    let found = closure_of(&program).unwrap();
    let ldd = std::process::Command::new("ldd")
        .arg(&program)
        .output()
        .unwrap();
    let ldd = String::from_utf8(ldd.stdout).unwrap();
    let listed: Vec<&str> = ldd
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .collect();
    assert!(!listed.is_empty(), "{ldd}");
    for library in listed {
        let real = fs::canonicalize(library).unwrap();
        assert!(
            found.contains(&real.display().to_string()),
            "{library} not in {found:?}"
        );
    }
}

#[test]
fn a_script_comes_with_its_interpreter() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/usr/bin/env sh\necho\n").unwrap();
    let found = closure_of(&script).unwrap();
    for program in ["/usr/bin/env", "/bin/sh"] {
        let real = fs::canonicalize(program).unwrap();
        assert!(
            found.contains(&real.display().to_string()),
            "{program} not in {found:?}"
        );
    }
}

#[test]
fn what_is_no_program_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    fs::write(&path, "hello").unwrap();
    assert!(matches!(
        closure_of(&path),
        Err(ClosureError::NotAProgram { .. })
    ));
    fs::write(&path, b"\x7fELF\x02\x01\x01").unwrap();
    assert!(matches!(
        closure_of(&path),
        Err(ClosureError::NotAProgram { .. })
    ));
    fs::write(&path, format!("#!{}\n", path.display())).unwrap();
    assert!(
        closure_of(&path).is_ok(),
        "the kernel refuses it, and says so"
    );
}

#[test]
fn damaged_programs_are_errors_and_nothing_else() {
    let program = find_program(OsStr::new("sh")).unwrap();
    let whole = fs::read(program).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    for length in (0..4096).step_by(61) {
        let mut bytes = whole.clone();
        bytes[length % 512..]
            .iter_mut()
            .step_by(97)
            .for_each(|byte| *byte ^= length as u8);
        fs::write(&path, &bytes[..whole.len().min(length * 64)]).unwrap();
        let _ = closure_of(&path);
    }
}

#[test]
fn commands_are_found_as_execvp_finds_them() {
    assert!(find_program(OsStr::new("sh")).unwrap().is_absolute());
    let missing = find_program(OsStr::new("ringside-no-such-program"));
    assert!(matches!(missing, Err(ClosureError::NotFound { .. })));
    let folder = find_program(OsStr::new("/tmp"));
    assert!(matches!(folder, Err(ClosureError::NotExecutable { .. })));
}

#[test]
fn a_first_line_names_a_program_and_an_argument() {
    let line = |text: &'static str| interpreter(text.as_bytes());
    let sh = Interpreter {
        program: OsStr::new("/bin/sh"),
        argument: Some(OsStr::new("-e")),
    };
    assert_eq!(line("#! /bin/sh -e x\n"), Some(sh));
    assert_eq!(line("#!\n"), None);
    assert_eq!(line("echo\n"), None);
}
