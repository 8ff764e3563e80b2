//! `ringside sysbench`: the real sysbench under each model, side by side.

use super::{ExitCode, Failure, output::print};
use comfy_table::{ContentArrangement, Table, presets};
use ringside_benches::host::{HostLabel, KvmLabel};
use ringside_benches::interrupt::Interrupt;
use ringside_benches::sysbench::{self, Figure, Request};
use serde::Serialize;
use std::env;

/// Run the real sysbench natively, in a container and in a virtual machine, side by side
///
/// Takes sysbench's own words, old and new, after the options below:
/// `ringside sysbench --test=cpu --num-threads=100 --max-requests=50000` or `ringside sysbench cpu
/// --threads=2 --time=5`. In the virtual machine sysbench runs on a Linux kernel (`ringside kernel`).
#[derive(clap::Args)]
pub struct Args {
    /// Under these models only
    #[arg(
        long = "in",
        value_name = "MODELS",
        value_delimiter = ',',
        default_value = "native,container,vm"
    )]
    models: Vec<String>,
    /// The virtual machine's kernel: a name of `ringside kernel list`, or a file
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// The virtual machine's memory
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The virtual machine's processors [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    cpus: Option<u8>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV: model, figure, unit, value
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// The test (cpu, memory, threads, mutex or fileio) and sysbench's options
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "SYSBENCH"
    )]
    words: Vec<String>,
}

const MODELS: [&str; 3] = ["native", "container", "vm"];

/// What every model said.
#[derive(Serialize)]
struct Comparison {
    schema_version: u32,
    request: Request,
    host: HostLabel,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Run {
    model: String,
    figures: Vec<Figure>,
    error: Option<String>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let request = Request::read(&args.words).map_err(Failure::usage)?;
    if let Some(model) = args
        .models
        .iter()
        .find(|model| !MODELS.contains(&model.as_str()))
    {
        return Err(Failure::usage(format!(
            "there is no model `{model}`; take of {}",
            MODELS.join(", ")
        )));
    }
    let mut options = Vec::new();
    let cpus = args.cpus.map(|cpus| cpus.to_string());
    for (name, value) in [
        ("--kernel", &args.kernel),
        ("--memory", &args.memory),
        ("--cpus", &cpus),
    ] {
        options.extend(
            value
                .iter()
                .flat_map(|value| [name.to_owned(), value.clone()]),
        );
    }
    let interrupt = Interrupt::on_signals()?;
    let folder = env::temp_dir().join(format!("ringside-sysbench-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let ringside = env::current_exe()?;
    let runs = args.models.iter().map(|model| {
        let options: &[String] = if model == "vm" { &options } else { &[] };
        let result = sysbench::run(&ringside, model, options, &request, &folder, &interrupt);
        let (figures, error) = match result {
            Ok(figures) => (figures, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Run {
            model: model.clone(),
            figures,
            error,
        }
    });
    let runs: Vec<Run> = runs.collect();
    std::fs::remove_dir_all(&folder)?;
    let failed = runs.iter().any(|run| run.error.is_some());
    let comparison = Comparison {
        schema_version: 2,
        request,
        host: HostLabel::read(KvmLabel::calibrated()),
        runs,
    };
    if args.json {
        print(format_args!(
            "{}\n",
            serde_json::to_string_pretty(&comparison)?
        ))?;
    } else if args.csv {
        print(csv(&comparison))?;
    } else {
        print(table(&comparison))?;
    }
    for run in &comparison.runs {
        if let Some(error) = &run.error {
            eprintln!("ringside: {}: {error}", run.model);
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn csv(comparison: &Comparison) -> String {
    let mut text = String::from("model,figure,unit,value\n");
    for run in &comparison.runs {
        for figure in &run.figures {
            text += &format!(
                "{},{},{},{}\n",
                run.model, figure.name, figure.unit, figure.value
            );
        }
    }
    text
}

/// A row a figure, a column a model; beside each value its ratio to the first model.
fn table(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    let mut header = vec![
        format!("sysbench {}", comparison.request.test),
        String::new(),
    ];
    header.extend(comparison.runs.iter().map(|run| run.model.clone()));
    table.set_header(header);
    let named = |run: &Run, name| {
        run.figures
            .iter()
            .find(|figure| figure.name == name)
            .map(|figure| figure.value)
    };
    let longest = comparison.runs.iter().max_by_key(|run| run.figures.len());
    for figure in longest.map(|run| &run.figures[..]).unwrap_or_default() {
        let mut row = vec![figure.title.to_owned(), figure.unit.to_owned()];
        let base = named(&comparison.runs[0], figure.name);
        for (index, run) in comparison.runs.iter().enumerate() {
            row.push(match (named(run, figure.name), base) {
                (Some(value), Some(base)) if index > 0 && base != 0.0 => {
                    format!("{value:.2} ({:.2}×)", value / base)
                }
                (Some(value), _) => format!("{value:.2}"),
                (None, _) => "–".to_owned(),
            });
        }
        table.add_row(row);
    }
    format!("{}\n\n{}\n", comparison.host, table.trim_fmt())
}
