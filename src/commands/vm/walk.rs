//! `ringside vm walk` and `vm translate`: from a guest's address to a memory chip, level by level.

use super::GuestArgs;
use super::style::{self, BAD, HEADING};
use crate::commands::ExitCode;
use crate::commands::Failure;
use crate::commands::output::print;
use clap::ValueEnum;
use ringside_vmm::boot::Image;
use ringside_vmm::device::Streams;
use ringside_vmm::memory::{Gva, Hpa, Hva};
use ringside_vmm::paging::shadow::{ShadowHooks, ShadowMmu, Verdict};
use ringside_vmm::paging::tlb::Tlb;
use ringside_vmm::paging::{Access, NestedWalk, Paging, Slots, Step, Walk};
use ringside_vmm::sys::pagemap::Pagemap;
use ringside_vmm::trap::paging_of;
use ringside_vmm::vm::{Limits, Vm};
use rustc_demangle::demangle;
use serde_json::{Value, json};

/// Walk a guest's page tables at an address, through both levels to the machine's memory
///
/// The guest stands at its first instruction, or at the exit that --exit-limit names.
#[derive(clap::Args)]
pub struct WalkArgs {
    #[command(flatten)]
    guest: GuestArgs,
    /// A symbol of the program, or a guest-virtual address such as 0x200000
    #[arg(long, value_name = "SYMBOL|GVA")]
    at: String,
    /// What the guest would do there
    #[arg(long, value_enum, default_value_t = Kind::Read)]
    access: Kind,
    /// Also show the one merged table that a hypervisor without nested paging would make
    #[arg(long)]
    shadow: bool,
    /// Print JSON: addresses as hexadecimal strings
    #[arg(long)]
    json: bool,
}

/// Translate addresses of a guest: guest-virtual → guest-physical → host-virtual → host-physical
#[derive(clap::Args)]
pub struct TranslateArgs {
    #[command(flatten)]
    guest: GuestArgs,
    /// Symbols of the program, or guest-virtual addresses; without any, every symbol
    #[arg(long, value_name = "SYMBOL|GVA", num_args = 1..)]
    at: Vec<String>,
    /// Print JSON: addresses as hexadecimal strings
    #[arg(long)]
    json: bool,
}

/// Ring 3's three kinds of access, and ring 0's.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Read,
    Write,
    Fetch,
    UserRead,
    UserWrite,
    UserFetch,
}

impl Kind {
    fn access(self) -> Access {
        match self {
            Kind::Read => Access::READ,
            Kind::Write => Access::WRITE,
            Kind::Fetch => Access::FETCH,
            Kind::UserRead => Access::USER_READ,
            Kind::UserWrite => Access::USER_WRITE,
            Kind::UserFetch => Access::USER_FETCH,
        }
    }
}

/// A guest that stands still, with its tables and its slots.
struct Standing<'i> {
    vm: Vm,
    image: &'i Image<'i>,
    paging: Paging,
    pagemap: Option<Pagemap>,
}

impl<'i> Standing<'i> {
    fn new(guest: &GuestArgs, image: &'i Image<'i>) -> Result<Self, Failure> {
        let (streams, _output) = Streams::captured();
        let mut vm = guest.machine(image, streams)?;
        let limits = guest.limits()?;
        if limits != Limits::default() {
            vm.run(limits).map_err(Failure::of_run)?;
        }
        let paging = vm.system_registers().and_then(|system| paging_of(&system));
        Ok(Standing {
            paging: paging.ok_or_else(|| Failure::usage("the guest has switched paging off"))?,
            vm,
            image,
            pagemap: Pagemap::open().ok(),
        })
    }

    /// The slots, down to the machine's pages where this process may know them.
    fn slots(&self) -> Slots<impl Fn(Hva) -> Option<Hpa>> {
        let slots = Slots::new(self.vm.memory().slots());
        slots.with_pagemap(|address| self.pagemap.as_ref()?.host_physical(address))
    }

    fn address(&self, text: &str) -> Result<Gva, Failure> {
        if let Some(address) = self.image.address_of(text) {
            return Ok(Gva(address));
        }
        let demangled = |name: &str| format!("{:#}", demangle(name)) == text;
        let symbols = self.image.symbols();
        if let Some(symbol) = symbols.iter().find(|symbol| demangled(symbol.name)) {
            return Ok(Gva(symbol.address));
        }
        let digits = text
            .strip_prefix("0x")
            .map(|digits| u64::from_str_radix(digits, 16));
        let number = digits.unwrap_or_else(|| text.parse());
        number.map(Gva).map_err(|_| {
            Failure::usage(format!(
                "`{text}` is no symbol of the program (`vm translate` lists them) and no address such as 0x200000"
            ))
        })
    }

    fn walk(&self, address: Gva, access: Access) -> NestedWalk {
        let memory = self.vm.memory().physical();
        self.paging
            .walk_nested(memory, &self.slots(), address, access)
    }
}

/// Walks once, and draws it.
pub fn walk(args: &WalkArgs) -> Result<ExitCode, Failure> {
    let program = args.guest.program()?;
    let image = args.guest.image(&program)?;
    let standing = Standing::new(&args.guest, &image)?;
    let address = standing.address(&args.at)?;
    let access = args.access.access();
    let walk = standing.walk(address, access);
    let merged = args.shadow.then(|| shadow(&standing, address, access));
    if args.json {
        let mut value = as_json(&args.at, &walk);
        if let Some(merged) = merged {
            value["shadow"] = match merged {
                Merged::Filled(walk) => {
                    json!({"steps": steps(&walk), "references": walk.steps().len()})
                }
                Merged::Not(why) => json!({"not_merged": why}),
            };
        }
        print(format_args!("{value:#}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(style::walk(walk))?;
    match merged {
        Some(Merged::Filled(walk)) => print(format_args!(
            "\nmerged by one exit (a fill), and from then on the processor's own walk:\n\n{}",
            style::walk(walk)
        ))?,
        Some(Merged::Not(why)) => print(style::walk(format_args!("\nnot merged: {why}")))?,
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What a hypervisor without nested paging makes of an address.
enum Merged {
    /// An entry of the one merged table, as this walk finds it.
    Filled(Walk),
    /// None, and why.
    Not(String),
}

/// The walk of the merged table, which holds host-virtual addresses: a hypervisor in the kernel
/// would put host-physical ones there.
fn shadow(standing: &Standing<'_>, address: Gva, access: Access) -> Merged {
    const CAPACITY: usize = 64;
    // The merged table maps to what it is given as the machine's address.
    let second = Slots::new(standing.vm.memory().slots()).with_pagemap(|hva| Some(Hpa(hva.0)));
    let memory = standing.vm.memory().physical();
    let mut mmu = ShadowMmu::new(memory, &second, standing.paging, CAPACITY);
    let mut tlb = Tlb::new(CAPACITY);
    match mmu.on_fault(&mut tlb, 1, address, access) {
        Verdict::Retry => {
            let merged = mmu.merged_paging(&standing.paging);
            Merged::Filled(merged.walk(mmu.tables(), address, access))
        }
        Verdict::Emulate { at, .. } => Merged::Not(format!(
            "{at:?} holds a page table, and each write of it exits"
        )),
        Verdict::Refuse(fault) => Merged::Not(fault.to_string()),
    }
}

/// Translates many addresses, a line each.
pub fn translate(args: &TranslateArgs) -> Result<ExitCode, Failure> {
    let program = args.guest.program()?;
    let image = args.guest.image(&program)?;
    let standing = Standing::new(&args.guest, &image)?;
    let mut rows = Vec::new();
    for text in &args.at {
        rows.push((text.clone(), standing.address(text)?));
    }
    if args.at.is_empty() {
        let symbols = image.symbols();
        let named = symbols.iter().map(|symbol| {
            let name = format!("{:#}", demangle(symbol.name));
            (name, Gva(symbol.address))
        });
        rows.extend(named);
        rows.sort_by_key(|row| row.1);
    }
    let walks = rows
        .iter()
        .map(|(name, address)| (name, standing.walk(*address, Access::READ)));
    if args.json {
        let values: Vec<Value> = walks.map(|(name, walk)| as_json(name, &walk)).collect();
        print(format_args!("{:#}\n", Value::from(values)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = format!(
        "{HEADING}{:>18}  {:>18}  {:>4}  {:>18}  {:>18}  name{HEADING:#}\n",
        "guest-virtual", "guest-physical", "slot", "host-virtual", "host-physical"
    );
    for (name, walk) in walks {
        let gva = walk.guest.address.0;
        match walk.outcome {
            Ok(found) => {
                let gpa = found.guest.gpa.0;
                let slot = found
                    .host
                    .slot
                    .map_or("-".to_owned(), |slot| slot.to_string());
                let hex = |address: Option<u64>| {
                    address.map_or("-".to_owned(), |address| format!("{address:#018x}"))
                };
                let hva = hex(found.host.hva.map(|address| address.0));
                let hpa = hex(found.host.hpa.map(|address| address.0));
                table +=
                    &format!("{gva:#018x}  {gpa:#018x}  {slot:>4}  {hva:>18}  {hpa:>18}  {name}\n");
            }
            Err(fault) => table += &format!("{gva:#018x}  {BAD}{fault}{BAD:#}  {name}\n"),
        }
    }
    print(table)?;
    Ok(ExitCode::SUCCESS)
}

/// The steps of a guest's walk, or of a merged table's.
fn steps(walk: &Walk) -> Value {
    let step = |step: &Step| {
        json!({
            "level": step.level.to_string(),
            "table": hex(step.table.0),
            "index": step.index,
            "entry": hex(step.entry.raw()),
        })
    };
    walk.steps().iter().map(step).collect()
}

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

fn as_json(name: &str, walk: &NestedWalk) -> Value {
    let mut value = json!({
        "name": name,
        "guest_virtual": hex(walk.guest.address.0),
        "steps": steps(&walk.guest),
        "references": walk.references(),
    });
    match walk.outcome {
        Ok(found) => {
            value["guest_physical"] = json!(hex(found.guest.gpa.0));
            value["slot"] = json!(found.host.slot);
            value["host_virtual"] = json!(found.host.hva.map(|address| hex(address.0)));
            value["host_physical"] = json!(found.host.hpa.map(|address| hex(address.0)));
        }
        Err(fault) => value["fault"] = json!(fault.to_string()),
    }
    value
}
