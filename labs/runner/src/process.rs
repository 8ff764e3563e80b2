//! One child process for one check: bounded in time, its output kept, nothing of it left behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use ringside_lab_harness::{Report, Verdict};
use std::os::unix::process::ExitStatusExt;
use tempfile::TempDir;

/// The last bytes of what a check printed that are worth showing.
const OUTPUT_BYTES: u64 = 2000;
const PREFIX: &str = "ringside-lab-";

/// A process to run: a lab's binary with its arguments.
#[derive(Debug)]
pub struct Job<'a> {
    /// The check binary.
    pub binary: &'a Path,
    /// Its arguments, without `--result`.
    pub arguments: Vec<OsString>,
    /// Seconds of processor time that it allows itself; the wall clock gets four times as many, so
    /// that a busy machine does not turn a slow check into a wrong one.
    pub seconds: u64,
}

/// What came of a job.
#[derive(Debug)]
pub struct Ended {
    /// The report that it wrote, or one made from the way it died.
    pub report: Report,
    /// The end of what it printed, fit for a terminal.
    pub output: String,
}

/// Makes this process the parent of every orphan below it, so that [`Job::run`] finds and ends
/// whatever a check leaves (`man 2 PR_SET_CHILD_SUBREAPER`); removes what a runner that was killed
/// left in the temporary directory.
///
/// # Errors
///
/// When the kernel refuses; it has known the call since Linux 3.4.
pub fn adopt_orphans() -> io::Result<()> {
    set_child_subreaper(true)?;
    for entry in fs::read_dir(std::env::temp_dir())?.flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some((pid, _)) = rest.and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            // Another user's is not ours to remove, and then this fails, as it should.
            let _ = unmount_below(&entry.path()).and_then(|()| fs::remove_dir_all(entry.path()));
        }
    }
    Ok(())
}

impl Job<'_> {
    /// Runs the job and clears up after it.
    ///
    /// # Errors
    ///
    /// When the process cannot be started or its directory not be made; never because of what the
    /// process does.
    pub fn run(&self) -> io::Result<Ended> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let scratch = directory.path().join("scratch");
        let result = directory.path().join("result.json");
        fs::create_dir(&scratch)?;
        let output = File::create_new(directory.path().join("output"))?;
        let mut child = Command::new(self.binary)
            .args(&self.arguments)
            .arg("--result")
            .arg(&result)
            .current_dir(&scratch)
            .env("RUST_BACKTRACE", "0") // the report names the place; the rest is the harness
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let how = wait(&mut child, Duration::from_secs(4 * self.seconds));
        end_descendants();
        let report = match how? {
            How::Exited(0) => read_report(&result)
                .unwrap_or_else(|| crash("it left with status 0 before the check was finished")),
            How::Exited(status) => crash(format!("it left with status {status}")),
            How::Died(signal) if signal == Signal::SIGXCPU as i32 => Report::new(
                Verdict::Timeout,
                Some(format!("it ran for {} s of processor time", self.seconds)),
            ),
            How::Died(signal) => crash(format!("it was killed by {}", describe(signal))),
            How::TooLong => Report::new(
                Verdict::Timeout,
                Some(format!("it was not done after {} s", 4 * self.seconds)),
            ),
        };
        let output = tail(&directory.path().join("output"))?;
        remove(directory)?;
        Ok(Ended { report, output })
    }
}

enum How {
    Exited(i32),
    Died(i32),
    TooLong,
}

fn wait(child: &mut Child, limit: Duration) -> io::Result<How> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match (status.code(), status.signal()) {
                (Some(code), _) => How::Exited(code),
                (None, signal) => How::Died(signal.unwrap_or_default()),
            });
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(How::TooLong);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn crash(message: impl Into<String>) -> Report {
    Report::new(Verdict::Crash, Some(message.into()))
}

fn read_report(result: &Path) -> Option<Report> {
    serde_json::from_slice(&fs::read(result).ok()?).ok()
}

fn describe(signal: i32) -> String {
    let meaning = match Signal::try_from(signal) {
        Ok(Signal::SIGSEGV) => "a wild address, or recursion without end",
        Ok(Signal::SIGABRT) => "it gave up by itself; what it printed says why",
        Ok(Signal::SIGXFSZ) => "it printed or wrote more than 64 MiB",
        Ok(Signal::SIGKILL) => "something else ended it; out of memory?",
        Ok(Signal::SIGBUS) => "a mapping without a page behind it",
        Ok(Signal::SIGILL) => "an instruction that the processor does not have",
        _ => return format!("signal {signal}"),
    };
    match Signal::try_from(signal) {
        Ok(signal) => format!("{signal} ({meaning})"),
        Err(_) => format!("signal {signal}"),
    }
}

/// Ends every process below this one. The killed ones' children come to us next, hence the loop; a
/// container's first process takes its whole PID namespace with it.
fn end_descendants() {
    loop {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = kill(child, Signal::SIGKILL);
            while waitpid(child, None) == Err(Errno::EINTR) {}
        }
    }
}

fn children() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let me = std::process::id().to_string();
    let child = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // man 5 proc: "pid (name) state ppid …", and the name may hold anything.
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        (parent == me).then(|| Pid::from_raw(pid))
    };
    entries.flatten().filter_map(child).collect()
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
    let text: String = text.chars().filter(|&c| plain(c)).collect();
    Ok(if length > OUTPUT_BYTES {
        format!("… ({length} bytes in all)\n{text}")
    } else {
        text
    })
}

/// Removes a job's directory, but never through a mount: a check that got its namespaces wrong may
/// have bound the host's own files there.
fn remove(directory: TempDir) -> io::Result<()> {
    let path = directory.keep();
    unmount_below(&path)?;
    fs::remove_dir_all(path)
}

fn unmount_below(directory: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    // The newest last in the file; taken off in the opposite order.
    for line in mounts.lines().rev() {
        let at = line.split(' ').nth(4).unwrap_or_default();
        let at = PathBuf::from(at.replace("\\040", " "));
        if at.starts_with(directory) {
            umount2(&at, MntFlags::MNT_DETACH)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_to_its_end_and_made_harmless() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("output");
        fs::write(&path, b"\x1b[2Jred\xff\n").unwrap();
        assert_eq!(tail(&path).unwrap(), "[2Jred\u{fffd}\n");
        fs::write(&path, "x".repeat(5000)).unwrap();
        let text = tail(&path).unwrap();
        assert!(text.starts_with("… (5000 bytes in all)\n"));
        assert!(text.len() < 2100);
    }
}
