//! The gate opens for a sound lab and shuts for each way in which a lab can be unsound; and the real
//! labs pass it, here without their recorded mistakes: those are `cargo lab gate`'s.

use std::fs;
use std::process::Command;

use crate::common::{Fixture, edit, repository, text, wants_compiler};

#[test]
fn it_opens_for_a_sound_lab_and_shuts_for_each_fault() {
    wants_compiler!();
    let fixture = Fixture::new("gate");
    let gate = || {
        let output = fixture.lab(&["gate", "98", "--students", "1"]);
        (output.status.code(), text(&output))
    };
    let (code, said) = gate();
    assert!(
        code == Some(0) && said.contains("the gate is open"),
        "{said}"
    );
    assert!(
        said.contains("the solution scores full, twice: 80 of 80 (this host skips 98.3)"),
        "{said}"
    );
    assert!(said.contains("the mistake 98.1 gets FAIL"), "{said}");
    assert!(said.contains("the mistake 98.3 cannot be shown"), "{said}");

    // File, text, what stands there instead, and the complaint that it must bring.
    let faults = [
        (
            "checks/main.rs",
            "\"twice\", 40",
            "\"twice\", 41",
            "101 points",
        ),
        (
            "checks/main.rs",
            "30, &[], halves",
            "30, &[Need::Kvm], halves",
            "50 of them for any user",
        ),
        (
            "checks/main.rs",
            "compare(\"double(21)\", 42, got, look)",
            "Ok(drop(got))",
            "98.1 must get FAIL",
        ),
        (
            "src/lib.rs",
            "x / 2",
            "x / 3",
            "NO  the solution scores full, once",
        ),
        (
            "src/lib.rs",
            "// SOLUTION-BEGIN halve (task 2)",
            "",
            "a solution ends that did not begin",
        ),
        (
            "src/lib.rs",
            "    // SOLUTION-END\n}\n\n/// Half",
            "    + 0 // SOLUTION-END\n}\n\n/// Half",
            "inside a solution",
        ),
        (
            "hints.toml",
            "The quotient of x and 2.",
            "",
            "check 98.2: a hint in three steps is missing",
        ),
        (
            "answers.toml",
            "SOLUTION-BEGIN answer = \"\"",
            "SOLUTION-BEGIN answer = \"1\"",
            "NO  the handout",
        ),
        ("wrong/98.1.toml", "x + x", "x - x", "0 times, not once"),
        (
            "wrong/98.2.toml",
            "half(",
            "third(",
            "98.2 must get FAIL with the text \"third(\"",
        ),
        ("Cargo.toml", "P K", "P", "says needs \"P\", the checks P K"),
    ];
    for (file, old, new, complaint) in faults {
        let path = fixture.root().join("labs/lab98-doubling").join(file);
        let sound = fs::read_to_string(&path).expect("a file of the fixture");
        edit(&path, old, new);
        // Only a recorded mistake needs the long way.
        let long = complaint.contains("must get");
        let mut arguments = vec!["gate", "98", "--students", "0"];
        arguments.extend((!long).then_some("--quick"));
        let output = fixture.lab(&arguments);
        let said = text(&output) + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{new}: {said}");
        assert!(
            said.contains(complaint),
            "{new} should bring {complaint:?}: {said}"
        );
        fs::write(&path, sound).expect("a file of the fixture");
    }
}

#[test]
fn the_real_labs_pass_it() {
    wants_compiler!();
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["gate", "--quick", "--students", "1"])
        .current_dir(repository())
        .env("CARGO_NET_OFFLINE", "true")
        .output()
        .expect("the runner");
    let said = text(&output) + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("the gate is open"),
        "{said}"
    );
}
