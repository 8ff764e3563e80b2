//! One run: start a workload under a contender, listen, and take the figures.

use std::time::Duration;

use crate::child::{Child, ChildError};
use crate::contender::{Contender, Program, Tools, Unsupported};
use crate::footprint::{self, ProcError};
use crate::interrupt::Interrupt;
use crate::sysbench;
use crate::workload::{Method, Workload};

/// How long one run may take. The longest of ours takes a second; an emulated host is a hundred
/// times slower than that only at starting things.
pub const RUN_LIMIT: Duration = Duration::from_secs(30);

/// The same with a Linux kernel to boot first, which takes an emulated host ten seconds alone.
const LINUX_RUN_LIMIT: Duration = Duration::from_secs(180);

/// Why a run gave no figures.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// This contender cannot run this program anywhere.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The child process failed.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// It wrote something else than it should.
    #[error("printed no {wanted} but {output:?}")]
    Output {
        /// What was looked for.
        wanted: &'static str,
        /// The start of what came.
        output: String,
    },
    /// The stamp is not a time between the start and now.
    #[error("claims to have started {0} ns after it was started")]
    Stamp(i128),
    /// The footprint cannot be read.
    #[error(transparent)]
    Footprint(#[from] ProcError),
}

impl MeasureError {
    /// Whether the run was only stopped because this process is to stop.
    pub fn is_interrupt(&self) -> bool {
        matches!(self, MeasureError::Child(ChildError::Interrupted))
    }

    /// Whether this user may not see what there is to measure; nobody and nothing failed.
    pub fn is_refusal(&self) -> bool {
        matches!(self, MeasureError::Footprint(error) if error.is_refusal())
    }
}

/// Runs `workload` once under `contender`; returns a figure for each of the workload's metrics, `None`
/// for one that does not exist there (guest memory without a guest).
///
/// # Errors
///
/// [`MeasureError`]; no process is left of the run then.
pub fn measure(
    workload: &Workload,
    contender: &dyn Contender,
    tools: &Tools,
    interrupt: &Interrupt,
) -> Result<Vec<Option<f64>>, MeasureError> {
    let mut command = contender.command(&workload.program, tools)?;
    let limit = match workload.program {
        Program::Stamp | Program::Work(_) => RUN_LIMIT,
        Program::Sysbench(_) | Program::Boot => LINUX_RUN_LIMIT,
    };
    if let Program::Sysbench(_) = workload.program {
        // It writes its files where it is.
        command.current_dir(tools.floor.folder());
    }
    let mut child = Child::spawn(command, limit, interrupt)?;
    match workload.method {
        Method::Start => {
            let spawned_ns = child.spawned_ns();
            let output = child.finish()?;
            Ok(vec![Some(start_ms(&output, spawned_ns)?)])
        }
        Method::Lines => {
            let output = text(child.finish()?);
            let figures = workload.metrics.iter().map(|metric| {
                let figure = line_value(&output, metric.name);
                figure
                    .map(Some)
                    .ok_or_else(|| unexpected(metric.name, &output))
            });
            figures.collect()
        }
        Method::Boot => {
            let spawned_ns = child.spawned_ns();
            let output = text(child.finish()?);
            Ok(boot_ms(&output, spawned_ns)?.map(Some).to_vec())
        }
        Method::Sysbench => {
            let output = text(child.finish()?);
            let all = sysbench::figures(&output);
            let figures = workload.metrics.iter().map(|metric| {
                let figure = all.iter().find(|figure| figure.name == metric.name);
                let value = figure.map(|figure| figure.value).filter(is_measure);
                value
                    .map(Some)
                    .ok_or_else(|| unexpected(metric.name, &output))
            });
            figures.collect()
        }
        Method::Footprint => {
            let output = child.read_until(|output| output.ends_with(b"\n"))?;
            if line_value(&String::from_utf8_lossy(output), "ready").is_none() {
                // It will not come any more: its end says why better than we could.
                let output = text(child.finish()?);
                return Err(unexpected("ready", &output));
            }
            let work = workload.program.host_command_line(tools)?;
            let held = footprint::of_tree(child.id(), &work, contender.guest_memory())?;
            child.finish()?;
            Ok(vec![Some(held.overhead_kib), held.guest_kib])
        }
    }
}

/// Milliseconds from `spawned_ns` to the stamp in `output`.
fn start_ms(output: &[u8], spawned_ns: u64) -> Result<f64, MeasureError> {
    let stamp: [u8; 8] = output
        .try_into()
        .map_err(|_| unexpected("stamp of 8 bytes", &text(output.to_vec())))?;
    let elapsed_ns = i128::from(u64::from_le_bytes(stamp)) - i128::from(spawned_ns);
    if elapsed_ns <= 0 || elapsed_ns > RUN_LIMIT.as_nanos().cast_signed() {
        return Err(MeasureError::Stamp(elapsed_ns));
    }
    Ok(elapsed_ns as f64 / 1e6)
}

/// Milliseconds from `spawned_ns` to user space; to the guest's first instruction; and between the two.
fn boot_ms(output: &str, spawned_ns: u64) -> Result<[f64; 3], MeasureError> {
    let since_spawn = |name| {
        let since = line_value(output, name).map(|stamp| stamp - spawned_ns as f64);
        since.ok_or_else(|| unexpected(name, output))
    };
    let (entered, ready) = (since_spawn("entered_ns")?, since_spawn("ready_ns")?);
    for ns in [entered, ready - entered] {
        if ns <= 0.0 || ns > LINUX_RUN_LIMIT.as_nanos() as f64 {
            return Err(MeasureError::Stamp(ns as i128));
        }
    }
    Ok([ready, entered, ready - entered].map(|ns| ns / 1e6))
}

/// The value in the line `name value`.
fn line_value(output: &str, name: &str) -> Option<f64> {
    let lines = output.lines().filter_map(|line| line.split_once(' '));
    let value = lines
        .filter(|(first, _)| *first == name)
        .map(|(_, value)| value)
        .next()?;
    value.trim().parse().ok().filter(is_measure)
}

/// Whether a number can be a measured quantity: what a guest prints may be anything.
fn is_measure(value: &f64) -> bool {
    value.is_finite() && *value >= 0.0
}

fn text(output: Vec<u8>) -> String {
    String::from_utf8_lossy(&output).into_owned()
}

fn unexpected(wanted: &'static str, output: &str) -> MeasureError {
    MeasureError::Output {
        wanted,
        output: output.chars().take(80).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_counts_from_the_start() {
        let stamp = |ns: u64| start_ms(&ns.to_le_bytes(), 1_000_000);
        assert_eq!(stamp(3_500_000).unwrap(), 2.5);
        assert!(matches!(stamp(1_000_000), Err(MeasureError::Stamp(0))));
        assert!(matches!(stamp(0), Err(MeasureError::Stamp(-1_000_000))));
        assert!(matches!(stamp(u64::MAX), Err(MeasureError::Stamp(_))));
        let error = start_ms(b"no stamp", 0).unwrap_err();
        assert!(matches!(error, MeasureError::Stamp(_)));
        let error = start_ms(b"short", 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "printed no stamp of 8 bytes but \"short\""
        );
    }

    #[test]
    fn a_boot_has_two_parts() {
        let boot = |text: &str| boot_ms(text, 1_000_000);
        assert_eq!(
            boot("entered_ns 3000000\nready_ns 9000000\n").unwrap(),
            [8.0, 2.0, 6.0]
        );
        for hostile in [
            "entered_ns 3000000\n",
            "entered_ns 9000000\nready_ns 3000000\n",
            "entered_ns 0\nready_ns 3000000\n",
            "entered_ns 3000000\nready_ns 1e30\n",
        ] {
            assert!(boot(hostile).is_err(), "{hostile}");
        }
    }

    #[test]
    fn a_line_is_found_by_its_whole_name_and_its_value_is_a_quantity() {
        let output = "reads 1\nread 2.5\nread 3\n";
        assert_eq!(line_value(output, "read"), Some(2.5));
        assert_eq!(line_value(output, "write"), None);
        for hostile in [
            "read NaN", "read inf", "read -1", "read", "read  ", "read x 1",
        ] {
            assert_eq!(line_value(hostile, "read"), None, "{hostile}");
        }
    }
}
