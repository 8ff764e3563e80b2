//! `ringside container run`: a container in the foreground, with what it used at the end, or with
//! `--detach` in the background.

use super::super::explain::{self, Explain};
use super::super::output::print;
use super::super::{ExitCode, Failure};
use super::{LimitArgs, usage};
use ringside_container::Observer;
use ringside_container::runtime::create::{self, Create};
use ringside_container::runtime::host_bundle::{self, HostBundle};
use std::fs;
use std::path::{Path, PathBuf};

/// Run a command in a container
///
/// Without a bundle it sees this machine's files; what it writes there is a copy that goes with it. In the
/// foreground, signals and the exit status pass through, and at the end standard error has what the
/// container used; it is removed then.
#[derive(clap::Args)]
pub struct Args {
    /// Its name; chosen for it unless told
    #[arg(long)]
    name: Option<String>,
    /// An OCI bundle to run instead of the host's files
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Leave it to itself in the background; `ringside container logs` has what it writes
    #[arg(short, long)]
    detach: bool,
    /// Give it a terminal: this one, in the foreground
    #[arg(short, long, conflicts_with = "detach")]
    tty: bool,
    /// For those used to it: standard input is passed on anyway
    #[arg(short, long)]
    interactive: bool,
    /// Say nothing of what it used
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    explain: explain::Args,
    /// The command and its arguments; a bundle has its own unless told
    #[arg(trailing_var_arg = true, required_unless_present = "bundle")]
    command: Vec<String>,
}

/// Where the bundles of this command are.
fn bundles(root: &Path) -> PathBuf {
    let mut name = root.as_os_str().to_owned();
    name.push("-bundles");
    name.into()
}

/// What a container in the background has written.
pub fn log(root: &Path, name: &str) -> Result<Vec<u8>, Failure> {
    ringside_container::runtime::state::check_id(name)?;
    let path = bundles(root).join(name).join("log");
    fs::read(&path).map_err(|error| {
        Failure::from(std::io::Error::other(format!(
            "{}: {error}; only what was started with `ringside container run --detach` has a log",
            path.display()
        )))
    })
}

/// Removes the bundle that this command has made for a container.
pub fn forget(root: &Path, name: &str) {
    let _ = fs::remove_dir_all(bundles(root).join(name));
}

/// Runs it.
pub fn run(root: &Path, args: &Args) -> Result<ExitCode, Failure> {
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| format!("run-{}", std::process::id()));
    let what = prepare(root, &name, args)?;
    let outcome = prepared(&what, args);
    if !args.detach || outcome.is_err() || args.explain.explain == Some(Explain::Plan) {
        forget(root, &name);
    }
    outcome
}

/// Makes what the container is made of, as far as it is not there.
fn prepare(root: &Path, name: &str, args: &Args) -> Result<Create, Failure> {
    let limits = args.limits.limits()?;
    // Before a bundle is made that might be another's.
    ringside_container::runtime::state::check_id(name).map_err(Failure::usage)?;
    if root.join(name).exists() {
        return Err(Failure::of_runtime(
            ringside_container::runtime::Error::Exists(name.to_owned()),
        ));
    }
    let mut what = Create {
        root: root.into(),
        id: name.into(),
        ..Create::default()
    };
    let Some(bundle) = &args.bundle else {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        let variables = std::env::vars_os();
        what.bundle = HostBundle {
            bundles: bundles(root),
            id: name.into(),
            command: args.command.clone(),
            environment: variables
                .filter_map(|(name, value)| Some(format!("{}={}", text(name)?, text(value)?)))
                .collect(),
            cwd: std::env::current_dir()
                .ok()
                .and_then(|it| text(it.into()))
                .unwrap_or_else(|| "/".into()),
            terminal: args.tty,
            limits,
        }
        .make()
        .map_err(Failure::of_runtime)?;
        return Ok(what);
    };
    let config = bundle.join("config.json");
    let bytes = fs::read(&config)
        .map_err(|error| Failure::usage(format!("{}: {error}; name a bundle", config.display())))?;
    let mut spec: serde_json::Value = serde_json::from_slice(&bytes).map_err(Failure::usage)?;
    if !args.command.is_empty() {
        spec["process"]["args"] = args.command.clone().into();
    }
    if args.tty || args.detach {
        spec["process"]["terminal"] = args.tty.into();
    }
    host_bundle::limit(&mut spec, &limits).map_err(Failure::of_runtime)?;
    let own = bundles(root).join(name);
    fs::create_dir_all(&own)?;
    fs::write(own.join("config.json"), spec.to_string())?;
    what.bundle = bundle.clone();
    what.config = Some(own.join("config.json"));
    Ok(what)
}

fn prepared(what: &Create, args: &Args) -> Result<ExitCode, Failure> {
    let mut narrator = args.explain.narrator();
    let observer: &mut dyn Observer = match args.explain.explain {
        None => &mut (),
        Some(Explain::Run) => &mut narrator,
        Some(Explain::Plan) => {
            let plan = create::dry_run(what, false).map_err(Failure::of_runtime)?;
            args.explain.print(&plan)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if args.detach {
        let log = bundles(&what.root).join(&what.id).join("log");
        create::run_detached(what, &log, observer).map_err(Failure::of_runtime)?;
        print(format_args!("{}\n", what.id))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (left, ended) = create::run_attached(what, observer).map_err(Failure::of_runtime)?;
    let used = left.stats();
    left.remove()?;
    if let (false, Ok(used)) = (args.quiet, used) {
        super::super::vm::style::eprint(usage::report(&used));
    }
    Ok(ExitCode::from(ended.code()))
}
