use super::*;

const LONG: Duration = Duration::from_secs(60);

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn run(script: &str, limit: Duration) -> Result<Vec<u8>, ChildError> {
    let interrupt = Interrupt::never()?;
    Child::spawn(shell(script), limit, &interrupt)?.finish()
}

/// Whether a living process is in the group that `leader` leads or led. (A zombie is its parent's
/// to reap, and an orphan's parent is the host's init.)
fn group_exists(leader: u32) -> bool {
    let stats = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    // pid (name) state parent group …
    stats
        .filter_map(|stat| {
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let state = fields.next()?;
            let group: u32 = fields.nth(1)?.parse().ok()?;
            Some((state.to_owned(), group))
        })
        .any(|(state, group)| group == leader && state != "Z")
}

/// What was killed without being ours to wait for is gone soon, not at once.
fn assert_group_ends(leader: u32) {
    let deadline = Instant::now() + LONG;
    while group_exists(leader) {
        assert!(Instant::now() < deadline, "the group of {leader} lives on");
        thread::sleep(LOOK_AGAIN);
    }
}

#[test]
fn output_comes_back_and_input_ends() {
    assert_eq!(run("cat; echo done", LONG).unwrap(), b"done\n");
}

#[test]
fn a_failure_is_told_in_the_childs_last_words() {
    let error = run(
        "echo first >&2; echo '  the cause ' >&2; echo >&2; exit 3",
        LONG,
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "the cause");
    assert!(matches!(error, ChildError::Failed { status, .. } if status.code() == Some(3)));
    assert_eq!(
        run("exit 4", LONG).unwrap_err().to_string(),
        "exit status: 4"
    );
    assert_eq!(
        run("kill -9 $$", LONG).unwrap_err().to_string(),
        "signal: 9 (SIGKILL)"
    );
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let interrupt = Interrupt::never().unwrap();
    let error = Child::spawn(Command::new("/no/such/program"), LONG, &interrupt).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot run \"/no/such/program\": No such file or directory (os error 2)"
    );
}

#[test]
fn output_can_be_waited_for_while_the_child_goes_on() {
    let interrupt = Interrupt::never().unwrap();
    let mut child = Child::spawn(shell("echo ready; cat; echo over"), LONG, &interrupt).unwrap();
    let output = child.read_until(|output| output.ends_with(b"\n")).unwrap();
    assert_eq!(output, b"ready\n");
    assert!(group_exists(child.id()));
    assert_eq!(child.finish().unwrap(), b"ready\nover\n");
}

#[test]
fn a_child_that_hangs_is_ended_with_all_that_it_started() {
    let interrupt = Interrupt::never().unwrap();
    let limit = Duration::from_millis(200);
    // It hangs on, deaf to SIGTERM, in a process of its own.
    let child = Child::spawn(
        shell("trap '' TERM; sleep 1000 & wait; wait"),
        limit,
        &interrupt,
    )
    .unwrap();
    let id = child.id();
    assert!(matches!(child.finish(), Err(ChildError::Timeout(_))));
    assert_group_ends(id);
}

#[test]
fn what_outlives_its_leader_is_ended_too() {
    let interrupt = Interrupt::never().unwrap();
    let limit = Duration::from_millis(200);
    // The leader ends at SIGTERM; its child is deaf to it, and holds the output open.
    let child = Child::spawn(
        shell("(trap '' TERM; sleep 1000; :) & wait"),
        limit,
        &interrupt,
    )
    .unwrap();
    let id = child.id();
    assert!(matches!(child.finish(), Err(ChildError::Timeout(_))));
    assert_group_ends(id);
}

#[test]
fn a_child_that_closes_its_output_and_hangs_is_ended_too() {
    let interrupt = Interrupt::never().unwrap();
    let limit = Duration::from_millis(200);
    let child = Child::spawn(shell("exec >&- 2>&-; sleep 1000"), limit, &interrupt).unwrap();
    let id = child.id();
    assert!(matches!(child.finish(), Err(ChildError::Timeout(_))));
    assert_group_ends(id);
}

#[test]
fn a_child_that_will_not_stop_talking_is_cut_off() {
    let error = run("yes", LONG).unwrap_err();
    assert!(matches!(error, ChildError::TooMuchOutput));
}
