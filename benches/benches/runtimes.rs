//! What `ringside-oci` costs beside crun, runc and the floor, on the configuration that `spec` writes with
//! `/bin/true` for a program: a whole `run`, and `create` + `start` + `delete`.
//!
//! Every round runs each once, in an order that is drawn anew, so that all see the same machine and nobody has
//! the same neighbour; medians, their ratios and the 95 % intervals of those are printed. Before each there is
//! a pause: the kernel takes network namespaces and cgroups apart after their last process has ended, and
//! whoever comes next would pay for it. Time is wall-clock and, which a busy machine moves
//! less, the processor time of the runtime and what it waited for. Memory is the peak of a `run`, as
//! `busybox time -v` has it.
//!
//! Measures the `ringside-oci` beside this one's folder: `cargo build --release -p ringside-container`
//! first. `RUNTIMES_ROUNDS=N` sets the number of rounds. Needs root and busybox-static.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use ringside_benches::floor::Floor;
use ringside_benches::stats;

/// How long the kernel has to take apart what the one before has left.
const PAUSE: Duration = Duration::from_millis(60);

/// One runtime, or the floor.
struct Arm {
    name: &'static str,
    /// The program and its first arguments.
    command: Vec<String>,
    is_floor: bool,
}

/// Milliseconds of one kind for each round.
#[derive(Default)]
struct Series {
    wall: Vec<f64>,
    processor: Vec<f64>,
}

fn main() {
    let ours = env::current_exe().ok().and_then(|this| {
        // target/release/deps/runtimes-… → target/release/ringside-oci
        Some(this.ancestors().nth(2)?.join("ringside-oci"))
    });
    let Some(ours) = ours.filter(|file| file.exists()) else {
        eprintln!("skipped: no ringside-oci; cargo build --release -p ringside-container");
        return;
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let rounds = env::var("RUNTIMES_ROUNDS")
        .ok()
        .and_then(|it| it.parse().ok())
        .unwrap_or(20);
    // Where container managers have their state as a rule: in memory.
    let parent = ["/run", "/dev/shm"]
        .map(Path::new)
        .into_iter()
        .find(|it| is_in_memory(it));
    let parent = parent.map_or_else(env::temp_dir, Path::to_path_buf);
    let folder = tempfile::tempdir_in(&parent).expect("a folder for bundle and state");
    let floor = Floor::extract(&parent).expect("a folder for the floor");
    let bundle = bundle(folder.path(), &ours);
    let state = |name: &str| folder.path().join(name).display().to_string();
    let runtime = |name: &'static str, program: PathBuf| Arm {
        name,
        command: vec![program.display().to_string(), "--root".into(), state(name)],
        is_floor: false,
    };
    let floor = floor
        .path("bundle")
        .expect("it is built")
        .display()
        .to_string();
    let rootfs = bundle.join("rootfs").display().to_string();
    let mut arms = vec![
        Arm {
            name: "floor",
            command: vec![floor, rootfs, "/bin/true".into()],
            is_floor: true,
        },
        runtime("ringside-oci", ours),
    ];
    let folders = env::var_os("PATH").unwrap_or_default();
    for name in ["crun", "runc"] {
        let mut found = env::split_paths(&folders).map(|it| it.join(name));
        arms.extend(found.find(|it| it.exists()).map(|it| runtime(name, it)));
    }
    // What does not work here (crun on a hybrid host) is said, once, and left out.
    arms.retain(|arm| {
        arm.run(&bundle).is_ok_and(|()| true) || {
            eprintln!("{} cannot run this bundle here, and is left out", arm.name);
            false
        }
    });

    let mut run: Vec<Series> = arms.iter().map(|_| Series::default()).collect();
    let mut life: Vec<Series> = arms.iter().map(|_| Series::default()).collect();
    let mut chance = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut order: Vec<usize> = (0..arms.len()).collect();
    for _ in 0..rounds {
        order.shuffle(&mut chance);
        for &index in &order {
            run[index].take(|| arms[index].run(&bundle));
            if !arms[index].is_floor {
                life[index].take(|| arms[index].live(&bundle));
            }
        }
    }
    println!("{rounds} rounds");
    table("run", &arms, &run, Some("floor"));
    table("create + start + delete", &arms, &life, None);
    println!("\npeak memory of `run`, KiB");
    for arm in &arms {
        println!("  {:<14}{:>8}", arm.name, arm.peak_kib(&bundle));
    }
}

fn is_in_memory(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|it| it.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

/// A root of busybox alone, and the configuration that `spec` writes, in a version that all of them take.
fn bundle(folder: &Path, ours: &Path) -> PathBuf {
    let bundle = folder.join("bundle");
    for name in ["bin", "proc", "dev", "sys"] {
        fs::create_dir_all(bundle.join("rootfs").join(name)).expect("a folder of the root");
    }
    fs::copy("/bin/busybox", bundle.join("rootfs/bin/true"))
        .expect("busybox; apt-get install busybox-static");
    let written = Command::new(ours)
        .args(["spec", "--bundle"])
        .arg(&bundle)
        .status();
    assert!(written.is_ok_and(|it| it.success()), "ringside-oci spec");
    let config = bundle.join("config.json");
    let text = fs::read_to_string(&config).expect("it was just written");
    let mut spec: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    spec["ociVersion"] = "1.0.2".into();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = ["/bin/true"].as_slice().into();
    fs::write(config, spec.to_string()).expect("the folder is ours");
    bundle
}

impl Arm {
    fn command(&self, bundle: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        if !self.is_floor {
            command.args(arguments);
        }
        command
            .current_dir(bundle)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn go(&self, bundle: &Path, arguments: &[&str]) -> Result<(), String> {
        match self.command(bundle, arguments).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} {arguments:?}: {status}", self.name)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    fn run(&self, bundle: &Path) -> Result<(), String> {
        self.go(bundle, &["run", "ringside-bench"])
    }

    fn live(&self, bundle: &Path) -> Result<(), String> {
        for arguments in [
            ["create", "ringside-bench"].as_slice(),
            &["start", "ringside-bench"],
        ] {
            self.go(bundle, arguments)?;
        }
        self.go(bundle, &["delete", "--force", "ringside-bench"])
    }

    fn peak_kib(&self, bundle: &Path) -> u64 {
        let run = self.command(bundle, &["run", "ringside-bench"]);
        // A process begins with the peak of whoever executed it: a small one has to.
        let timed = Command::new("/bin/busybox")
            .args(["time", "-v"])
            .arg(run.get_program())
            .args(run.get_args())
            .current_dir(bundle)
            .stdin(Stdio::null())
            .output()
            .expect("busybox has `time`");
        let text = String::from_utf8_lossy(&timed.stderr).into_owned();
        let line = text.lines().find_map(|it| {
            it.trim()
                .strip_prefix("Maximum resident set size (kbytes): ")
        });
        // It takes kilobytes for pages.
        line.and_then(|it| it.parse::<u64>().ok())
            .map_or(0, |it| it / 4)
    }
}

impl Series {
    fn take(&mut self, what: impl FnOnce() -> Result<(), String>) {
        sleep(PAUSE);
        let (before, begun) = (processor_ms(), Instant::now());
        let done = what();
        self.wall.push(begun.elapsed().as_secs_f64() * 1e3);
        self.processor.push(processor_ms() - before);
        if let Err(error) = done {
            panic!("{error}");
        }
    }
}

/// What all children that were waited for have used.
fn processor_ms() -> f64 {
    let usage: Usage =
        getrusage(UsageWho::RUSAGE_CHILDREN).expect("the call has no reason to fail");
    let ms = |it: nix::sys::time::TimeVal| it.tv_sec() as f64 * 1e3 + it.tv_usec() as f64 / 1e3;
    ms(usage.user_time()) + ms(usage.system_time())
}

fn table(title: &str, arms: &[Arm], series: &[Series], floor: Option<&str>) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    println!("\n{title}");
    for (kind, of) in [
        ("wall", (|it| &it.wall) as fn(&Series) -> &Vec<f64>),
        ("processor", |it| &it.processor),
    ] {
        for (arm, own) in arms
            .iter()
            .zip(series)
            .filter(|(_, own)| !own.wall.is_empty())
        {
            let median = stats::summarize(of(own), &mut random).map_or(0.0, |it| it.median);
            print!("  {kind:<10}{:<14}{median:>8.2} ms", arm.name);
            for beside in floor
                .into_iter()
                .chain(["crun", "runc"])
                .filter(|it| *it != arm.name)
            {
                let base = arms
                    .iter()
                    .position(|it| it.name == beside)
                    .map(|at| of(&series[at]));
                if let Some(ratio) = base.and_then(|base| stats::ratio(of(own), base, &mut random))
                {
                    let (value, range) = (ratio.value, ratio.interval);
                    print!(
                        "   {value:.2} × {beside} ({:.2}–{:.2})",
                        range.low, range.high
                    );
                }
            }
            println!();
        }
    }
}
