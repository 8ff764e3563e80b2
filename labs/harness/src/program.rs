//! The check binary's `main`: one process for one check, and a report when it ends.

use std::any::Any;
use std::cell::Cell;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::PathBuf;
use std::process::{ExitCode, id};
use std::{env, fs};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use crate::check::{Check, Context, Failure, Lab};
use crate::host::{answer_probe, probe};
use crate::report::{Listing, Report, Verdict};
use crate::seed::Seed;

/// A check needs a few MiB; more than this is a loop that allocates.
const MEMORY_BYTES: u64 = 4 << 30;
/// What a check may print before it is stopped.
const FILE_BYTES: u64 = 64 << 20;
/// A measurement may take longer than a check.
const MEASURE_SECONDS: u64 = 30;

/// What every lab's binary does. The runner starts it; a person may too:
/// `lab06 --list`, `lab06 --check 6.1 --seed 0 --folder labs/lab06-… --result /dev/stdout`.
#[must_use]
pub fn main(lab: &'static Lab) -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let first = arguments.next();
    match first.as_deref().and_then(|first| first.to_str()) {
        Some("--role") => return play(lab, arguments),
        Some("--probe") => return answer_probe(arguments),
        _ => {}
    }
    match Request::parse(first.into_iter().chain(arguments)) {
        Ok(request) => request.answer(lab),
        Err(message) => {
            eprintln!("{message}; `cargo lab grade` starts this program with what it needs");
            ExitCode::from(2)
        }
    }
}

fn play(lab: &Lab, mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let name = arguments.next().unwrap_or_default();
    let role = lab.roles.iter().find(|role| name == role.name);
    let Some(role) = role else {
        eprintln!("no role {name:?}");
        return ExitCode::from(2);
    };
    ExitCode::from((role.run)(&arguments.collect::<Vec<_>>()))
}

#[derive(Debug, Default)]
struct Request {
    list: bool,
    measure: bool,
    check: Option<String>,
    seed: Option<Seed>,
    folder: PathBuf,
    result: PathBuf,
    with_reference: bool,
}

impl Request {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut request = Self::default();
        while let Some(name) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{} needs a value", name.display()))
            };
            match name.to_str().unwrap_or_default() {
                "--list" => request.list = true,
                "--measure" => request.measure = true,
                "--with-reference" => request.with_reference = true,
                "--check" => request.check = Some(value()?.to_string_lossy().into_owned()),
                "--folder" => request.folder = value()?.into(),
                "--result" => request.result = value()?.into(),
                "--seed" => {
                    let text = value()?;
                    let seed = text.to_string_lossy().parse();
                    request.seed = Some(seed.map_err(|e| format!("seed {text:?}: {e}"))?);
                }
                _ => return Err(format!("unknown argument {}", name.display())),
            }
        }
        Ok(request)
    }

    fn answer(self, lab: &'static Lab) -> ExitCode {
        let seed = self.seed.unwrap_or(Seed(0));
        if self.list {
            match serde_json::to_string(&Listing::new(lab, seed)) {
                Ok(listing) => println!("{listing}"),
                Err(error) => eprintln!("cannot write the listing: {error}"),
            }
            return ExitCode::SUCCESS;
        }
        let scratch = env::current_dir().unwrap_or_default();
        let mut context = Context::new(seed, self.folder, scratch, self.with_reference);
        context.questions = lab.questions;
        let report = if self.measure {
            limit(MEASURE_SECONDS);
            conduct(&context, |context| {
                (lab.measure)(context).map(|text| Report::new(Verdict::Ok, Some(text)))
            })
        } else {
            let id = self.check.unwrap_or_default();
            let Some(check) = lab.checks.iter().find(|check| check.id == id) else {
                eprintln!("no check {id:?}");
                return ExitCode::from(2);
            };
            limit(check.seconds);
            conduct(&context, |context| run(check, context))
        };
        let json = serde_json::to_string(&report).unwrap_or_default();
        match fs::write(&self.result, json) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cannot write {}: {error}", self.result.display());
                ExitCode::FAILURE
            }
        }
    }
}

fn run(check: &Check, context: &Context) -> Result<Report, Failure> {
    for &need in check.needs {
        probe(need)?;
    }
    (check.run)(context).map(|()| Report::new(Verdict::Ok, None))
}

/// Runs `work` so that a panic in it, ours or the student's, becomes a report.
fn conduct(context: &Context, work: impl FnOnce(&Context) -> Result<Report, Failure>) -> Report {
    note_panics();
    let process = id();
    let result = catch_unwind(AssertUnwindSafe(|| work(context)));
    if id() != process {
        // A student's child process that came back from where it should have called exec or exit.
        eprintln!("a child process returned into the check");
        std::process::exit(125);
    }
    let mut report = match result {
        Ok(Ok(report)) => report,
        Ok(Err(failure)) => failure.into(),
        Err(panic) => panic_failure(&*panic, || "the check".into(), "the line above").into(),
    };
    let supplied = context.supplied.lock().unwrap_or_else(|e| e.into_inner());
    report.reference.clone_from(&supplied);
    report
}

/// Calls a student's function; a panic in it becomes a failure that names the call, and `todo!`
/// becomes [`Failure::Todo`].
///
/// # Errors
///
/// When `call` panics.
pub fn attempt<T>(
    ran: impl FnOnce() -> String,
    look: &str,
    call: impl FnOnce() -> T,
) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panic_failure(&*panic, ran, look))
}

fn panic_failure(panic: &(dyn Any + Send), ran: impl FnOnce() -> String, look: &str) -> Failure {
    if let Some(what) = todo_message(panic) {
        return Failure::Todo(what);
    }
    let got = LAST_PANIC.take().unwrap_or_else(|| "a panic".into());
    Failure::found(ran(), "a value: no panic, whatever the input", got, look)
}

/// The message of a `todo!`, when that is what this panic is.
pub(crate) fn todo_message(panic: &(dyn Any + Send)) -> Option<String> {
    let text = panic_text(panic)?;
    let rest = text.strip_prefix("not yet implemented")?;
    Some(rest.trim_start_matches(": ").to_string())
}

fn panic_text(panic: &(dyn Any + Send)) -> Option<&str> {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied())
}

thread_local! {
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

/// A panic belongs into the report, not on the terminal between other checks' lines.
fn note_panics() {
    let process = id();
    set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = panic_text(info.payload()).unwrap_or("(no text)");
        // A child process has no report to write, and in unit tests the hook is everybody's.
        if id() != process || cfg!(test) {
            eprintln!("{info}");
        }
        LAST_PANIC.set(Some(format!("a panic at {place}: {text}")));
    }));
}

/// Bounds what a wild check can take from the machine. Nothing here can fail on a host where a
/// lower bound is not set already, and then that one holds.
fn limit(seconds: u64) {
    let bounds = [
        // SIGXCPU at the first, which the runner calls TIMEOUT; SIGKILL at the second.
        (Resource::RLIMIT_CPU, seconds, seconds + 1),
        (Resource::RLIMIT_AS, MEMORY_BYTES, MEMORY_BYTES),
        (Resource::RLIMIT_FSIZE, FILE_BYTES, FILE_BYTES),
        (Resource::RLIMIT_CORE, 0, 0),
    ];
    for (resource, soft, hard) in bounds {
        let _ = setrlimit(resource, soft, hard);
    }
    // When the runner is killed, so is the check.
    let _ = set_pdeathsig(Signal::SIGKILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conducted(work: impl FnOnce(&Context) -> Result<Report, Failure>) -> Report {
        conduct(&Context::example(), work)
    }

    #[test]
    fn a_panic_is_a_failure_and_a_todo_is_not() {
        let report = conducted(|_| panic!("index out of bounds"));
        assert_eq!(report.verdict, Verdict::Fail);
        let got = report.finding.unwrap().got;
        assert!(
            got.contains("program.rs") && got.contains("index out of bounds"),
            "{got}"
        );

        let report = conducted(|_| {
            attempt(
                || unreachable!(),
                "",
                || panic!("not yet implemented: write walk"),
            )
        });
        assert_eq!(report.verdict, Verdict::Todo);
        assert_eq!(report.message.as_deref(), Some("write walk"));
    }

    #[test]
    fn an_attempt_names_the_call() {
        let failure = attempt(
            || "walk(0x1000)".into(),
            "src/lib.rs",
            || -> u8 { panic!("no") },
        );
        assert!(matches!(failure, Err(Failure::Found(f)) if f.ran == "walk(0x1000)"));
        assert_eq!(attempt(String::new, "", || 5), Ok(5));
    }
}
