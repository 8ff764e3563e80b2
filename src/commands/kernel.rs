//! `ringside kernel`: kernels for Linux guests.

use super::{ExitCode, Failure, output::print};
use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ringside_benches::host::KvmLabel;
use ringside_benches::linux;
use ringside_linux::build::{self, Progress};
use ringside_linux::cache::{Cache, Kernel, Origin, Ring0};
use ringside_linux::fetch;

/// Kernels for Linux guests: fetched, built, kept
///
/// They are kept in ${XDG_CACHE_HOME:-~/.cache}/ringside/kernels. Nothing is installed and no root is
/// needed: sources and kernels come from the distribution's own packages.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build a small kernel from Debian's linux-source, in some minutes
    Build {
        /// For which kind of KVM [default: this host's]
        #[arg(long = "for", value_enum, value_name = "KVM")]
        kvm: Option<Kvm>,
        /// Compile so many files at once [default: as many as there are processors]
        #[arg(long, short, value_name = "N")]
        jobs: Option<usize>,
    },
    /// Fetch Debian's newest kernel for clouds
    Fetch {
        /// Another package with a kernel
        #[arg(long, value_name = "NAME")]
        package: Option<String>,
    },
    /// List the kernels that are kept
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What stands behind `/dev/kvm`.
#[derive(Clone, Copy, ValueEnum)]
enum Kvm {
    /// VT-x or AMD-V
    Hardware,
    /// An emulator of ring 0: the source is patched
    Software,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let cache = Cache::of_user()?;
    match &args.command {
        Command::Build { kvm, jobs } => {
            let ring0 = match kvm {
                Some(Kvm::Hardware) => Ring0::Native,
                Some(Kvm::Software) => Ring0::Emulated,
                None => linux::ring0(&KvmLabel::calibrated()).unwrap_or(Ring0::Native),
            };
            let bar = ProgressBar::new(0);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:24} {percent:>3} % {eta:>4}  {msg}")
            {
                bar.set_style(style);
            }
            let watched = !bar.is_hidden();
            let show = &mut |progress: Progress<'_>| match progress {
                Progress::Step(step) if watched => bar.set_message(step.to_owned()),
                Progress::Step(step) => eprintln!("{step}"),
                Progress::Compiled { done, total } => {
                    bar.set_length(total);
                    bar.set_position(done);
                    bar.set_message("compiling");
                }
            };
            let built = build::build(&cache, ring0, jobs.unwrap_or_else(build::jobs), show);
            bar.finish_and_clear();
            let (kernel, was_there) = built?;
            said("built", &kernel, was_there)
        }
        Command::Fetch { package } => {
            let (kernel, was_there) = fetch::fetch(&cache, package.as_deref())?;
            said("fetched", &kernel, was_there)
        }
        Command::List { json: true } => {
            print(format_args!(
                "{}\n",
                serde_json::to_string_pretty(&cache.list())?
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::List { json: false } => {
            for kernel in cache.list() {
                print(format_args!("{:<48} {}\n", kernel.name, about(&kernel)))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn said(done: &str, kernel: &Kernel, was_there: bool) -> Result<ExitCode, Failure> {
    let how = if was_there { "already there" } else { done };
    print(format_args!(
        "{} {how}: {}\n",
        kernel.name,
        kernel.image.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn about(kernel: &Kernel) -> String {
    let origin = match kernel.origin {
        Origin::Built => "built here",
        Origin::Fetched => "the distribution's",
        Origin::File => "a file",
    };
    let hosts = if kernel.for_emulated_ring0 {
        "any KVM"
    } else {
        "VT-x and AMD-V"
    };
    format!("{origin}, for {hosts}, {} modules", kernel.modules.len())
}
