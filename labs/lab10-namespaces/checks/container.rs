//! A real container of the student's making, on this host, with a root put together for it.
//!
//! ```text
//!   scratch/root/            its root
//!   ├── probe                this binary, bound
//!   ├── etc/os-release       its own
//!   ├── usr lib lib64 …      the host's, bound read-only (or the same symbolic links)
//!   ├── dev/null             the host's, bound
//!   └── proc                 empty
//!   scratch/marker           a file that no container has any business with
//! ```

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lab10::{Bind, Command, Config, Ended, Host, System, User, init};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{dup, dup2_stdout, getegid, geteuid};
use ringside_lab_harness::{Context, Failure, attempt};

use crate::recorder::Recorder;
use crate::sample;

/// Where programs and their libraries are, on one distribution or another.
const LIBRARIES: [&str; 5] = ["/usr", "/lib", "/lib64", "/nix", "/gnu"];

/// Everything that a container needs, ready.
#[derive(Debug)]
pub struct Stage {
    /// For `plan`, but for the command's arguments.
    pub config: Config,
    /// A file of the host's, outside the root, that holds [`UNTOUCHED`].
    pub marker: PathBuf,
    maker: Maker,
    program: PathBuf,
}

/// What the marker holds as long as nobody got out.
pub const UNTOUCHED: &str = "untouched";

/// How a container ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    /// Its first process's end.
    pub ended: Ended,
    /// What was written to standard output.
    pub output: String,
}

/// Who makes containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The four functions of src/lib.rs.
    Student,
    /// The library: it takes the host's whole tree as its root, copied on write.
    Library,
}

impl Stage {
    /// Puts the root together.
    ///
    /// # Errors
    ///
    /// Todo while one of the four functions is not written and no reference is to help.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        let written = || all_written(context);
        let maker = context.part("container", Maker::Student, Maker::Library, |_| {
            if let Err(Failure::Todo(what)) = written() {
                std::panic::panic_any(format!("not yet implemented: {what}"));
            }
        });
        if maker == Maker::Student {
            written()?;
        }
        let stage = || -> std::io::Result<Self> {
            protect_host()?;
            Self::build(context, maker)
        };
        stage().map_err(|error| {
            let what = "a directory with what the container inherits";
            Failure::found(
                "preparing the container's root",
                what,
                error.to_string(),
                "the host",
            )
        })
    }

    fn build(context: &Context, maker: Maker) -> std::io::Result<Self> {
        let root = context.scratch.join("root");
        let marker = context.scratch.join("marker");
        fs::write(&marker, UNTOUCHED)?;
        for directory in ["etc", "dev", "proc", "tmp"] {
            fs::create_dir_all(root.join(directory))?;
        }
        let name = context.seed.word("system");
        fs::write(
            root.join("etc/os-release"),
            format!("NAME=\"Lab {name}\"\n"),
        )?;
        let mut binds = Vec::new();
        let mut bind = |host: &Path, inside: &str, read_only| {
            binds.push(Bind {
                host: host.into(),
                inside: inside.into(),
                read_only,
            });
            root.join(inside.trim_start_matches('/'))
        };
        for name in LIBRARIES {
            let host = Path::new(name);
            if let Ok(target) = fs::read_link(host) {
                symlink(target, root.join(name.trim_start_matches('/')))?;
            } else if host.is_dir() {
                fs::create_dir(bind(host, name, true))?;
            }
        }
        let program = std::env::current_exe()?;
        File::create(bind(&program, "/probe", true))?;
        File::create(bind(Path::new("/dev/null"), "/dev/null", false))?;
        let rootless = (!geteuid().is_root()).then(|| User {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        });
        Ok(Self {
            config: Config {
                root,
                hostname: context.seed.word("host name"),
                binds,
                command: Command {
                    program: "/probe".into(),
                    arguments: Vec::new(),
                    environment: vec![format!("WORD={}", context.seed.word("environment"))],
                },
                rootless,
            },
            marker,
            maker,
            program,
        })
    }

    /// Whether the student's own code makes the containers.
    pub fn is_students(&self) -> bool {
        self.maker == Maker::Student
    }

    /// Runs the probe in a new container.
    ///
    /// # Errors
    ///
    /// When there is no container.
    pub fn probe(&self, role: &str, arguments: &[&str]) -> Result<Ran, Failure> {
        let mut all = vec!["probe", "--role", role];
        all.extend(arguments);
        self.run("/probe", &all)
    }

    /// Runs any program in a new container.
    ///
    /// # Errors
    ///
    /// When there is no container.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Ran, Failure> {
        let mut config = self.config.clone();
        config.command.program = program.into();
        config.command.arguments = arguments.iter().map(|&text| text.into()).collect();
        let result = captured(|| match self.maker {
            Maker::Student => by_student(&config),
            Maker::Library => self.by_library(&config),
        });
        let (ended, output) = result.map_err(|error| {
            let look = "standard output goes to a file in the scratch directory";
            Failure::found("a container", "its output", error.to_string(), look)
        })?;
        Ok(Ran {
            ended: ended?,
            output,
        })
    }

    fn by_library(&self, config: &Config) -> Result<Ended, Failure> {
        use ringside_container::{Config as Library, Error, NotExecuted};
        let Command {
            program, arguments, ..
        } = &config.command;
        let program = if program == Path::new("/probe") {
            &self.program
        } else {
            program
        };
        let rest = arguments.iter().skip(1).map(Into::into);
        let mut library =
            Library::new(std::iter::once(program.clone().into_os_string()).chain(rest));
        library.hostname = config.hostname.clone().into();
        let variable = |text: &String| {
            let (name, value) = text.split_once('=')?;
            Some((name.into(), value.into()))
        };
        library.env = config
            .command
            .environment
            .iter()
            .filter_map(variable)
            .collect();
        match ringside_container::run(&library, &mut ()) {
            Ok(status) => Ok(Ended::Exited(status.code().into())),
            Err(Error::NotExecuted(NotExecuted::Missing { .. })) => Ok(Ended::Exited(127)),
            Err(Error::NotExecuted(_)) => Ok(Ended::Exited(126)),
            Err(error) => Err(Failure::found(
                format!("a container of the library's for {}", program.display()),
                "its command running",
                error.to_string(),
                "`cargo lab doctor`",
            )),
        }
    }
}

/// The student's functions together, as `given.rs` joins them.
fn by_student(config: &Config) -> Result<Ended, Failure> {
    let look = "`spawn` in src/lib.rs; `container:` lines below are what it reported";
    let ran = || format!("plan and spawn of {}", config.command.program.display());
    let plan = attempt(ran, look, || lab10::plan(config))?.map_err(|error| {
        Failure::found(ran(), "a plan", error.to_string(), "`plan` in src/lib.rs")
    })?;
    let mut host = Host;
    let child = attempt(ran, look, || {
        lab10::spawn(&mut host, &plan, &mut |system| {
            init(system, &config.command)
        })
    })?;
    let child =
        child.map_err(|errno| Failure::found(ran(), "a process", errno.to_string(), look))?;
    loop {
        match host.wait() {
            Ok((pid, ended)) if pid == child => return Ok(ended),
            Ok(_) | Err(lab10::Errno::EINTR) => {}
            Err(errno) => {
                let got = format!("no such child: {errno}");
                return Err(Failure::found(ran(), "a process to wait for", got, look));
            }
        }
    }
}

/// The first of the four functions that is not written, on a kernel that does nothing.
fn all_written(context: &Context) -> Result<(), Failure> {
    let config = sample::config(context.seed);
    let plan = lab10::Plan {
        namespaces: Vec::new(),
        steps: Vec::new(),
    };
    let mut kernel = Recorder::default();
    let quiet = |call: &mut dyn FnMut()| {
        let todo = attempt(String::new, "", call).err();
        todo.filter(|failure| matches!(failure, Failure::Todo(_)))
            .map_or(Ok(()), Err)
    };
    quiet(&mut || drop(lab10::plan(&config)))?;
    quiet(&mut || {
        let _ = lab10::spawn(&mut kernel, &plan, &mut |_| 0);
    })?;
    quiet(&mut || {
        kernel.process(|system| lab10::exec(system, &config.command));
    })?;
    quiet(&mut || {
        lab10::reap(&mut kernel, 2);
    })
}

/// Whatever a wrong plan mounts or renames, it does to namespaces of this process's own. In them, mounts
/// spread, as they do on most hosts, so that a plan which does not cut that tie can be seen. An ordinary
/// user's plan cannot reach the host's anyway.
fn protect_host() -> std::io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)?;
    for flag in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | flag,
            None::<&str>,
        )?;
    }
    Ok(())
}

/// What `work` and its children write to standard output, which is a file meanwhile.
fn captured<T>(work: impl FnOnce() -> T) -> std::io::Result<(T, String)> {
    let mut file = tempfile()?;
    let before = dup(std::io::stdout())?;
    dup2_stdout(&file)?;
    let value = catch_unwind(AssertUnwindSafe(work));
    dup2_stdout(&before)?;
    let value = value.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((value, String::from_utf8_lossy(&bytes).into_owned()))
}

/// A file without a name, in this check's own directory.
fn tempfile() -> std::io::Result<File> {
    let path = Path::new("output");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}
