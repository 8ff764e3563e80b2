//! Guests that manage their own memory: nothing of it is an exit.

mod support;

use ringside_vmm::trap::Reason;
use support::{PATIENCE, ended_with_exits, kvm, run};

#[test]
fn page_table_edits_take_effect_without_an_exit() {
    let Some(kvm) = kvm() else { return };
    let (outcome, output) = run(&kvm, "pages", &[], PATIENCE);
    let expected = "\
before: exception 14, error code 0x4
mapped: 0x0
written: 0xcafe
the same frame, one page on: 0xcafe
read-only, written: exception 14, error code 0x7
the other page, written: 0xbeef
read-only, read: 0xbeef
ring 0's, read: exception 14, error code 0x5
another frame: 0x0
unmapped: exception 14, error code 0x4
a reserved bit set: exception 14, error code 0xd
";
    // QEMU's emulation of AMD-V leaves out "the page is there" with a reserved bit; hardware does not.
    let output = output.replace(
        "set: exception 14, error code 0xc",
        "set: exception 14, error code 0xd",
    );
    assert_eq!(output, expected);
    // Eleven lines, and the exit: five faults, seven flushes and a new root entry are none.
    ended_with_exits(&outcome, 0, &[(Reason::IoOut, 12)]);
}

#[test]
fn demand_pages_come_with_their_first_touch() {
    let Some(kvm) = kvm() else { return };
    for (pages, arguments) in [(256, &[][..]), (1, &["1"]), (600, &["600"])] {
        let (outcome, output) = run(&kvm, "demand", arguments, PATIENCE);
        let half = (pages + 1) / 2;
        let expected = format!(
            "\
reserved {pages} pages, 0 present
touched {half}, {half} present
read all, {pages} begin as zeros
in the end {pages} present
kept what was written: true
"
        );
        assert_eq!(output, expected);
        ended_with_exits(&outcome, 0, &[(Reason::IoOut, 6)]);
    }
    let (outcome, _) = run(&kvm, "demand", &["4097"], PATIENCE);
    ended_with_exits(&outcome, 2, &[(Reason::IoOut, 2)]);
}
