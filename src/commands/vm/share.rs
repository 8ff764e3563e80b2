//! A machine's share of the processors, at its start and `ringside vm update` while it runs.

use crate::commands::ExitCode;
use crate::commands::Failure;
use ringside_benches::confine::{self, Confined};
use ringside_container::Limits;

/// How much of the processors a machine gets. Its memory is a size, and no limit.
#[derive(clap::Args)]
pub struct ShareArgs {
    /// Processor time a second, in processors, such as 1 or 0.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<f64>,
    /// Share of contended processors, 1 to 10000, where everybody else has 100
    #[arg(long, value_name = "N")]
    pub cpu_weight: Option<u64>,
}

impl ShareArgs {
    fn limits(&self) -> Limits {
        Limits {
            cpus: self.cpus,
            cpu_weight: self.cpu_weight,
            ..Limits::default()
        }
    }

    /// Limits this process, for as long as the value lives, if it is to be limited at all.
    pub fn enter(&self) -> Result<Option<Confined>, Failure> {
        let limits = self.limits();
        (limits != Limits::default())
            .then(|| Confined::enter(&limits))
            .transpose()
            .map_err(Failure::of_run)
    }
}

/// Change a running machine's share of the processors
///
/// The machine was started with --cpus or --cpu-weight (of `vm run`, `vm boot`, `vm exits` or `run --in vm`).
#[derive(clap::Args)]
#[group(required = true, multiple = true, id = "share", args = ["cpus", "cpu_weight"])]
pub struct UpdateArgs {
    /// The process that runs it
    pid: i32,
    #[command(flatten)]
    share: ShareArgs,
}

/// Changes it.
pub fn update(args: &UpdateArgs) -> Result<ExitCode, Failure> {
    confine::update(args.pid, &args.share.limits())?;
    Ok(ExitCode::SUCCESS)
}
