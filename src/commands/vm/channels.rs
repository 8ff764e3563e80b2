//! `ringside vm channels`: what it costs a guest to hand the same text to the VMM, by how much it knows
//! that it is a guest.

use super::style::HEADING;
use super::{finish, machine, program};
use crate::commands::{ExitCode, Failure, output::print};
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::trap::Stop;
use ringside_vmm::vm::{End, Limits};
use serde_json::json;
use std::fmt::Write;
use std::sync::PoisonError;

/// Compare the ways out of a guest: serial port, hypercalls, a ring, virtio
///
/// The same text leaves a bare guest byte by byte through a serial port (full virtualization), by a
/// hypercall for each KiB, through a ring of KiBs in shared memory, and by a virtio console. The guest
/// counts its exits and looks at the host's clock.
#[derive(clap::Args)]
pub struct Args {
    /// How much text
    #[arg(long, value_name = "KIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16384))]
    kib: u32,
    /// Print JSON: exits, and times in nanoseconds
    #[arg(long)]
    json: bool,
}

/// The ways as the guest names them, and as people do.
const WAYS: [(&str, &str); 4] = [
    ("serial", "serial port, a byte at a time"),
    ("buffer", "hypercalls, a KiB each"),
    ("ring", "hypercall ring, 64 KiB a bell"),
    ("virtio", "virtio console, 64 KiB a bell"),
];

/// One way's figures.
struct Way {
    name: &'static str,
    about: &'static str,
    exits: u64,
    ns: u64,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let program = program("channels")?;
    let image = Image::parse(&program).map_err(Failure::of_run)?;
    let (streams, output) = Streams::captured();
    let mut vm = machine(64 << 20, &image, &[&args.kib.to_string()], streams)?;
    let outcome = vm.run(Limits::default()).map_err(Failure::of_run)?;
    if outcome.end != End::Stopped(Stop::Exited(0)) {
        return finish(&outcome);
    }
    let output = output
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let text = String::from_utf8_lossy(&output);
    let ways = WAYS.iter().map(|&(name, about)| {
        let [exits, ns] = figures(&text, &format!("{name}_exits "))?;
        Some(Way {
            name,
            about,
            exits,
            ns,
        })
    });
    let ways: Option<Vec<Way>> = ways.collect();
    let set_up = figures(&text, "virtio_setup_exits ");
    let (Some(ways), Some([set_up])) = (ways, set_up) else {
        return Err(Failure::of_run(
            "the guest `channels` reports otherwise than it should",
        ));
    };
    match args.json {
        true => {
            let ways = ways.iter().map(|way| {
                json!({ "name": way.name, "about": way.about, "exits": way.exits, "ns": way.ns })
            });
            let value = json!({
                "kib": args.kib,
                "ways": ways.collect::<Vec<_>>(),
                "virtio_set_up_exits": set_up,
            });
            print(format_args!("{value:#}\n"))?;
        }
        false => print(table(args.kib, &ways, set_up))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The numbers of the line that begins so: every other word.
fn figures<const N: usize>(text: &str, start: &str) -> Option<[u64; N]> {
    let rest = text.lines().find_map(|line| line.strip_prefix(start))?;
    let numbers = rest.split(' ').step_by(2).map(|word| word.parse().ok());
    numbers.collect::<Option<Vec<u64>>>()?.try_into().ok()
}

fn table(kib: u32, ways: &[Way], set_up: u64) -> String {
    let mut text = format!(
        "{HEADING}{:<30} {:>9} {:>12} {:>12} {:>10}{HEADING:#}\n",
        format!("{kib} KiB of text"),
        "exits",
        "exits / KiB",
        "µs / KiB",
        "MiB/s"
    );
    let kib = f64::from(kib);
    for way in ways {
        let seconds = way.ns as f64 / 1e9;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<30} {:>9} {:>12.3} {:>12.2} {:>10.2}",
            way.about,
            way.exits,
            way.exits as f64 / kib,
            seconds * 1e6 / kib,
            kib / 1024.0 / seconds
        );
    }
    let _ = writeln!(
        text,
        "To find the virtio console and to agree with it took {set_up} exits, once."
    );
    text
}
