//! `ringside vm map`: which machine owns which pages of the host.

use super::style::{BAD, GOOD, HEADING, NOTE};
use super::{DEFAULT_MEMORY, program};
use crate::commands::ExitCode;
use crate::commands::{Failure, output::print};
use ringside_vmm::boot::{Image, bare};
use ringside_vmm::device::Streams;
use ringside_vmm::memory::{GuestMemory, MemoryImage, Owner, PAGE_BYTES, Run, Usage, owners, size};
use ringside_vmm::sys::{kvm::Kvm, signal};
use ringside_vmm::vm::{Limits, Vm};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// Run guests and show who owns which host pages, before and after they wrote
///
/// Machines of the same program begin with one image, copy-on-write.
#[derive(clap::Args)]
pub struct Args {
    /// Embedded programs or files, a machine for each; name one twice to see an image shared
    #[arg(required = true, value_name = "PROGRAM")]
    programs: Vec<String>,
    /// Each guest's memory
    #[arg(long, value_name = "SIZE", default_value = DEFAULT_MEMORY)]
    memory: String,
    /// End each guest after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    time_limit: f64,
    /// Print JSON: addresses as numbers, lengths in pages of 4 KiB and bytes
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let bytes = size::parse(&args.memory).map_err(Failure::usage)?;
    let time = Duration::try_from_secs_f64(args.time_limit).map_err(Failure::usage)?;
    let kvm = Kvm::open().map_err(Failure::of_run)?;
    signal::watch(&signal::ENDING).map_err(Failure::of_run)?;
    let mut images: HashMap<&str, (MemoryImage, bare::Entry)> = HashMap::new();
    let mut machines: Vec<Vm> = Vec::new();
    for name in &args.programs {
        if !images.contains_key(name.as_str()) {
            images.insert(name, load(name, bytes)?);
        }
        let (image, entry) = &images[name.as_str()];
        let memory = image.memory().map_err(Failure::of_run)?;
        touch(image, &memory)?;
        let streams = Streams::captured().0;
        machines.push(Vm::with_memory(&kvm, memory, *entry, streams).map_err(Failure::of_run)?);
    }
    let before = Picture::take(&machines)?;
    for machine in &mut machines {
        let limits = Limits {
            time: Some(time),
            ..Limits::default()
        };
        machine.run(limits).map_err(Failure::of_run)?;
    }
    let after = Picture::take(&machines)?;
    match args.json {
        true => print(format_args!(
            "{:#}\n",
            json!({
                "programs": args.programs,
                "before": before.json(),
                "after": after.json(),
            })
        ))?,
        false => print(format_args!(
            "before the guests run: each has looked at its image, and written nothing\n{}\nafter they ran\n{}",
            before.table(&args.programs),
            after.table(&args.programs)
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A program, loaded into memory that becomes an image.
fn load(name: &str, bytes: u64) -> Result<(MemoryImage, bare::Entry), Failure> {
    let program = program(name)?;
    let memory = GuestMemory::new(bytes).map_err(Failure::of_run)?;
    let image = Image::parse(&program).map_err(Failure::of_run)?;
    let entry = bare::load(&memory, &image, &[]).map_err(Failure::of_run)?;
    Ok((memory.freeze().map_err(Failure::of_run)?, entry))
}

/// Reads a byte of each page that the image holds, so that it is mapped.
fn touch(image: &MemoryImage, memory: &GuestMemory) -> Result<(), Failure> {
    for range in image.held().map_err(Failure::of_run)? {
        for page in (range.start.0..range.end.0).step_by(PAGE_BYTES as usize) {
            let page = ringside_vmm::memory::Gpa(page);
            memory.read_value::<u8>(page).map_err(Failure::of_run)?;
        }
    }
    Ok(())
}

/// Who owns what at one moment.
struct Picture {
    runs: Vec<Vec<Run>>,
    usages: Vec<Usage>,
}

impl Picture {
    fn take(machines: &[Vm]) -> Result<Picture, Failure> {
        let memories: Vec<&GuestMemory> = machines.iter().map(Vm::memory).collect();
        let usage = |memory: &&GuestMemory| {
            let regions = memory.usage().map_err(Failure::of_run)?;
            Ok(regions.iter().map(|region| region.usage).sum())
        };
        Ok(Picture {
            runs: owners(&memories).map_err(Failure::of_run)?,
            usages: memories.iter().map(usage).collect::<Result<_, Failure>>()?,
        })
    }

    fn table(&self, programs: &[String]) -> String {
        let mut text = format!(
            "{HEADING}{:<3} {:>4}  {:<25} {:<29} {:>6}  {:<14} whose{HEADING:#}\n",
            "vm", "slot", "guest-physical", "host-virtual", "pages", "first page at"
        );
        for (machine, runs) in self.runs.iter().enumerate() {
            for run in runs {
                let bytes = run.pages * PAGE_BYTES;
                let style = match run.owner {
                    Owner::Own => NOTE,
                    Owner::Image => GOOD,
                    Owner::Exposed => BAD,
                };
                text += &format!(
                    "{:<3} {:>4}  {:#012x}-{:#012x} {:#014x}-{:#014x} {:>6}  {:<#14x} {style}{}{style:#}\n",
                    machine,
                    run.slot,
                    run.gpa.0,
                    run.gpa.0 + bytes,
                    run.hva.0,
                    run.hva.0 + bytes,
                    run.pages,
                    run.first.0,
                    whose(run)
                );
            }
        }
        for (machine, usage) in self.usages.iter().enumerate() {
            text += &format!(
                "vm {machine} ({}): {} KiB resident, of which {} its own and {} the image's; {} KiB proportionally\n",
                programs[machine],
                usage.resident_bytes >> 10,
                usage.copied_bytes >> 10,
                (usage.resident_bytes - usage.copied_bytes) >> 10,
                usage.pss_bytes >> 10
            );
        }
        text
    }

    fn json(&self) -> Value {
        let run = |run: &Run| {
            json!({
                "slot": run.slot,
                "guest_physical": run.gpa.0,
                "host_virtual": run.hva.0,
                "host_physical": run.first.0,
                "pages": run.pages,
                "owner": word(run.owner),
                "also": run.also,
            })
        };
        let machines = self.runs.iter().zip(&self.usages);
        machines
            .map(|(runs, usage)| {
                json!({
                    "runs": runs.iter().map(run).collect::<Vec<_>>(),
                    "resident_bytes": usage.resident_bytes,
                    "shared_bytes": usage.shared_bytes,
                    "copied_bytes": usage.copied_bytes,
                    "pss_bytes": usage.pss_bytes,
                })
            })
            .collect()
    }
}

fn word(owner: Owner) -> &'static str {
    match owner {
        Owner::Own => "own",
        Owner::Image => "image",
        Owner::Exposed => "exposed",
    }
}

fn whose(run: &Run) -> String {
    let also: Vec<String> = run.also.iter().map(|vm| format!("vm {vm}")).collect();
    match (run.owner, also.is_empty()) {
        (Owner::Own, _) => "its own".to_owned(),
        (Owner::Image, true) => "the image's".to_owned(),
        (Owner::Image, false) => format!("the image's, shared with {}", also.join(", ")),
        (Owner::Exposed, _) => format!("EXPOSED to {}", also.join(", ")),
    }
}
