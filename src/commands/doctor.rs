//! `ringside doctor`: what this host can do.

use super::{Failure, output::print};
use crate::commands::ExitCode;
use comfy_table::{ContentArrangement, Table, presets};
use ringside_benches::doctor::{Area, Diagnosis, State, diagnose};
use ringside_benches::interrupt::Interrupt;

/// Tell what this host can do, with evidence, and how to mend what it cannot
///
/// Exits with 0 when `ringside compare` can run fully here, with 1 otherwise.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON: `schema_version` 1, `ready`, `host`, and `findings` with `area`, `name`,
    /// `state` (ok, limited or missing), `evidence` and `remedy`
    #[arg(long)]
    json: bool,
}

/// Of the table, in columns, when standard output is no terminal that knows its own.
const WIDTH: u16 = 110;

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let diagnosis = diagnose(&Interrupt::on_signals()?)?;
    let text = if args.json {
        serde_json::to_string_pretty(&diagnosis)?
    } else {
        table(&diagnosis)
    };
    print(format_args!("{text}\n"))?;
    Ok(ExitCode::from(u8::from(!diagnosis.ready)))
}

fn table(diagnosis: &Diagnosis) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(WIDTH);
    }
    let mut area = None;
    for finding in &diagnosis.findings {
        if area.replace(finding.area) != Some(finding.area) {
            table.add_row(["", title(finding.area)]);
        }
        let remedy = finding.remedy.as_ref();
        let remedy = remedy.map_or(String::new(), |remedy| format!("\n→ {remedy}"));
        table.add_row([
            state(finding.state),
            &finding.name,
            &format!("{}{remedy}", finding.evidence),
        ]);
    }
    format!("{}\n\n{}", diagnosis.host, table.trim_fmt())
}

fn title(area: Area) -> &'static str {
    match area {
        Area::Contenders => "CONTENDERS",
        Area::Kvm => "KVM",
        Area::Cgroups => "CONTROL GROUPS",
        Area::Container => "CONTAINER",
        Area::Peers => "PEERS AND TOOLS",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Limited => "limited",
        State::Missing => "MISSING",
    }
}
