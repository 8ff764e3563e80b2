//! The recorded solution passes the lab's checks on this host.

use std::path::Path;

use ringside_lab_harness::proof::solution_passes;

fn passes(student: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    solution_passes(Path::new(env!("CARGO_BIN_EXE_lab06")), folder, 6, student);
}

#[test]
fn the_solution_passes_with_its_answers() {
    passes("gate");
}

#[test]
fn the_solution_passes_for_other_students() {
    for student in ["ada", "grace", "edsger"] {
        passes(student);
    }
}
