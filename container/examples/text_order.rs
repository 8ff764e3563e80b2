//! Writes `container/text-order.ld`: the functions that a command enters, in the order of their first use.
//!
//! ```sh
//! cargo build --release -p ringside-container
//! cargo run --release -p ringside-container --example text_order -- container/text-order.ld \
//!     target/release/ringside-oci run --bundle BUNDLE NAME >new.ld
//! ```
//!
//! Steps through the command and its children one instruction at a time (`man 2 ptrace`, PTRACE_SINGLESTEP),
//! until a child becomes another program. That takes a minute, and ten where the host is emulated. What the
//! earlier script names and this command does not enter comes after what it enters, so that the orders of
//! several hosts (version 1 and version 2 of cgroups, say) are put into one by giving each the last one's.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, fs};

use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use regex_lite::Regex;

/// Functions of one name (a generic one's instances) that take more bytes than this together come last: most
/// of them are not entered.
const MANY: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [earlier, command @ ..] = &arguments[..] else {
        return Err("usage: text_order EARLIER-SCRIPT COMMAND...".into());
    };
    let [program, ..] = command else {
        return Err("no command to follow: give one after the earlier script".into());
    };
    let earlier = fs::read_to_string(earlier).map_err(|e| format!("{earlier}: {e}"))?;
    let symbols = Symbols::of(program)?;
    let (parent, child) = entered(command, &symbols)?;

    // A child has the fewest functions and the least time: its own come first and lie closest.
    let entered = child.iter().chain(&parent);
    let entered = entered.flat_map(|&at| symbols.patterns(at));
    let kept = earlier
        .lines()
        .map(str::trim)
        .filter(|it| it.starts_with('*'));
    let mut seen = HashSet::new();
    let ordered = entered
        .chain(kept.map(str::to_owned))
        .filter(|it| seen.insert(it.clone()));
    let sizes = symbols.sizes();
    let size = |pattern: &String| sizes.get(pattern).copied().unwrap_or_default();
    let (mut many, few): (Vec<_>, Vec<_>) = ordered.partition(|it| size(it) > MANY);
    many.sort_by_key(size);

    let header = earlier
        .split_inclusive('\n')
        .take_while(|it| !it.starts_with("SECTIONS"));
    println!(
        "{}SECTIONS {{\n  .text.run : {{",
        header.collect::<String>()
    );
    for pattern in few.iter().chain(&many) {
        println!("    {pattern}");
    }
    println!("  }}\n}} INSERT BEFORE .text;");
    Ok(())
}

struct Function {
    start: u64,
    size: u64,
    name: String,
}

/// A program's functions by address, and the members of the C library that are linked for each name.
struct Symbols {
    functions: Vec<Function>,
    members: HashMap<String, String>,
    /// What differs between two builds: a hash in the older mangling, a crate's disambiguator in the newer.
    hash: Regex,
    disambiguator: Regex,
}

impl Symbols {
    fn of(program: &str) -> Result<Symbols, Box<dyn Error>> {
        let mut functions = Vec::new();
        for line in output("nm", &["-S", "--defined-only", program])?.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            if let [start, size, "t" | "T" | "w" | "W" | "i", name] = fields[..] {
                functions.push(Function {
                    start: u64::from_str_radix(start, 16)?,
                    size: u64::from_str_radix(size, 16)?,
                    name: name.into(),
                });
            }
        }
        functions.sort_by_key(|it| it.start);
        let library = output("cc", &["-print-file-name=libc.a"])?;
        let mut members = HashMap::new();
        // "/usr/lib/libc.a:malloc.o:0000000000002a60 T malloc"
        for line in output("nm", &["-A", "--defined-only", library.trim()])?.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            if let ([_, member, _], [_, "t" | "T" | "w" | "W" | "i", name]) =
                (&line.split(':').collect::<Vec<_>>()[..], &fields[..])
            {
                members
                    .entry(name.to_string())
                    .or_insert_with(|| member.to_string());
            }
        }
        Ok(Symbols {
            functions,
            members,
            hash: Regex::new("17h[0-9a-f]{16}E.*")?,
            disambiguator: Regex::new("Cs[0-9A-Za-z]{8,14}_")?,
        })
    }

    /// The function that holds an address, as an index.
    fn at(&self, address: u64) -> Option<usize> {
        let at = self
            .functions
            .partition_point(|it| it.start <= address)
            .checked_sub(1)?;
        let function = &self.functions[at];
        (address < function.start + function.size.max(1)).then_some(at)
    }

    /// What the linker is to look for: one piece of text may have several names.
    fn patterns(&self, at: usize) -> Vec<String> {
        let start = self.functions[at].start;
        let first = self.functions.partition_point(|it| it.start < start);
        let names = self.functions[first..]
            .iter()
            .take_while(|it| it.start == start);
        names.filter_map(|it| self.pattern(&it.name)).collect()
    }

    /// What the linker is to look for, so that the next build's function of this name is found as well.
    /// (A function that is rarely called may be in `.text.unlikely`.)
    fn pattern(&self, name: &str) -> Option<String> {
        if !name.starts_with("_ZN") && !name.starts_with("_R") {
            let member = self.members.get(name)?;
            return Some(format!("*libc.a:{member}(.text .text.*)"));
        }
        let name = name.split(".llvm.").next().unwrap_or(name);
        let name = self.hash.replace(name, "17h");
        Some(format!(
            "*(.text*{}*)",
            self.disambiguator.replace_all(&name, "Cs*_")
        ))
    }

    /// How many bytes each pattern finds that finds several functions.
    fn sizes(&self) -> HashMap<String, u64> {
        let mut sizes: HashMap<String, Vec<u64>> = HashMap::new();
        for function in &self.functions {
            if let Some(pattern) = self.pattern(&function.name) {
                sizes.entry(pattern).or_default().push(function.size);
            }
        }
        sizes.retain(|pattern, found| found.len() > 1 && !pattern.starts_with("*libc.a"));
        let sum = |(pattern, found): (_, Vec<u64>)| (pattern, found.iter().sum());
        sizes.into_iter().map(sum).collect()
    }
}

/// The functions that a command enters, and those that its children enter before they execute another program.
fn entered(
    command: &[String],
    symbols: &Symbols,
) -> Result<(Vec<usize>, Vec<usize>), Box<dyn Error>> {
    let mut start = Command::new(&command[0]);
    start.args(&command[1..]);
    #[expect(
        unsafe_code,
        reason = "what runs between fork and exec is unsafe to give"
    )]
    // SAFETY: ptrace(2) alone is called between fork and exec.
    unsafe {
        start.pre_exec(|| Ok(ptrace::traceme()?))
    };
    let parent = Pid::from_raw(start.spawn()?.id().try_into()?);
    waitpid(parent, None)?;
    let follow = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(parent, follow)?;
    ptrace::step(parent, None)?;

    let mut order = [Vec::new(), Vec::new()];
    let mut seen = [HashSet::new(), HashSet::new()];
    loop {
        let signal = match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Err(nix::Error::ECHILD) => break,
            Ok(WaitStatus::PtraceEvent(process, _, event)) => {
                if event == Event::PTRACE_EVENT_EXEC as i32 {
                    ptrace::detach(process, None)?;
                    continue;
                }
                (process, None)
            }
            Ok(WaitStatus::Stopped(process, Signal::SIGTRAP)) => {
                let who = usize::from(process != parent);
                if let Some(at) = symbols.at(ptrace::getregs(process)?.rip)
                    && seen[who].insert(at)
                {
                    order[who].push(at);
                }
                (process, None)
            }
            Ok(WaitStatus::Stopped(process, Signal::SIGSTOP)) => (process, None),
            Ok(WaitStatus::Stopped(process, signal)) => (process, Some(signal)),
            Ok(WaitStatus::Exited(process, status)) if process == parent && status != 0 => {
                return Err(format!("{} ended with {status}", command.join(" ")).into());
            }
            Ok(_) => continue,
            Err(error) => return Err(error.into()),
        };
        // One that was killed meanwhile is told by the next wait.
        let _ = ptrace::step(signal.0, signal.1);
    }
    let [parent, child] = order;
    Ok((parent, child))
}

fn output(program: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|e| format!("{program}: {e}; install binutils and a C compiler"))?;
    if !output.status.success() {
        return Err(format!("{program} {}: {}", arguments.join(" "), output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
