//! Reading the command line as `runc` does: `--name value`, `--name=value` or `-name`, before and after
//! the container's name. What follows the program of `exec` is the program's.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

use ringside_container::explain::Format;

/// An option: its name, its short names, whether it takes a value.
pub type Known = (&'static str, &'static [&'static str], bool);

/// What was given.
#[derive(Debug, Default)]
pub struct Parsed {
    options: BTreeMap<&'static str, Vec<String>>,
    /// What is no option.
    pub positional: Vec<String>,
}

impl Parsed {
    /// Whether an option without a value was given.
    pub fn has(&self, name: &str) -> bool {
        self.options
            .get(name)
            .is_some_and(|values| values.last().is_none_or(|it| it != "false"))
    }

    /// The value of an option, the last one.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.get(name)?.last().map(String::as_str)
    }

    /// All values of an option.
    pub fn values(&self, name: &str) -> &[String] {
        self.options.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of an option as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name)
            .filter(|it| !it.is_empty())
            .map(PathBuf::from)
    }

    /// The value of an option as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| format!("invalid value {text:?} for flag -{name}: it is no number"))
        };
        self.value(name).map(parse).transpose()
    }
}

/// Parses options of `known` and gives what is none of them; after the `last`th of those everything is
/// passed over.
pub fn parse(
    arguments: &[String],
    known: &[Known],
    last: usize,
) -> Result<(Parsed, usize), String> {
    let mut parsed = Parsed::default();
    let mut index = 0;
    while index < arguments.len() && parsed.positional.len() < last {
        let argument = &arguments[index];
        index += 1;
        if argument == "--" {
            // Nothing is an option from here on.
            let rest = arguments.len() - index;
            let rest = rest.min(last - parsed.positional.len());
            let names = &arguments[index..index + rest];
            parsed.positional.extend_from_slice(names);
            index += rest;
            break;
        }
        let Some(option) = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix('-').filter(|it| !it.is_empty()))
        else {
            parsed.positional.push(argument.clone());
            continue;
        };
        let (name, value) = option
            .split_once('=')
            .map_or((option, None), |(name, value)| {
                (name, Some(value.to_owned()))
            });
        let found = known
            .iter()
            .find(|(long, short, _)| *long == name || short.contains(&name));
        let (long, _, takes_value) =
            found.ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        let values = parsed.options.entry(long).or_default();
        match (takes_value, value) {
            (_, Some(value)) => values.push(value),
            (false, None) => {}
            (true, None) => {
                let value = arguments
                    .get(index)
                    .ok_or_else(|| format!("flag needs an argument: -{name}"))?;
                values.push(value.clone());
                index += 1;
            }
        }
    }
    Ok((parsed, index))
}

/// What holds for every command.
#[derive(Debug, Default)]
pub struct Global {
    /// Where containers are remembered.
    pub root: PathBuf,
    /// Whether cgroups are systemd's.
    pub is_systemd: bool,
    /// Whether the steps are told.
    pub explain: Explain,
    /// How they are told.
    pub format: Format,
    /// The criu that takes checkpoints, if it is not the one in `PATH`.
    pub criu: Option<PathBuf>,
    log: Option<PathBuf>,
    is_json: bool,
    /// Whether the log tells what is done.
    pub is_debug: bool,
}

/// Whether the steps are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Explain {
    /// They are not.
    #[default]
    No,
    /// As they are taken, on standard error.
    Taken,
    /// Before, on standard output; nothing is done.
    Planned,
}

const GLOBAL: [Known; 13] = [
    ("root", &[], true),
    ("log", &[], true),
    ("log-format", &[], true),
    ("log-level", &[], true),
    ("debug", &[], false),
    ("systemd-cgroup", &[], false),
    ("cgroup-manager", &[], true),
    ("rootless", &[], true),
    ("criu", &[], true),
    ("help", &["h"], false),
    ("version", &["v"], false),
    ("explain", &[], false),
    ("json", &[], false),
];

/// Options before the command; gives them and the rest.
pub fn global(arguments: &[String]) -> Result<(Global, &[String]), String> {
    let (parsed, used) = parse(arguments, &GLOBAL, 1)?;
    let is_systemd =
        parsed.has("systemd-cgroup") || parsed.value("cgroup-manager") == Some("systemd");
    let format = parsed.value("log-format").unwrap_or("text");
    if !matches!(format, "text" | "json") {
        return Err(format!("invalid log-format {format:?}: give text or json"));
    }
    let manager = parsed.value("cgroup-manager").unwrap_or("cgroupfs");
    if !matches!(manager, "" | "cgroupfs" | "systemd") {
        return Err(format!("--cgroup-manager {manager}: give cgroupfs"));
    }
    if !matches!(
        parsed.value("rootless"),
        None | Some("" | "auto" | "true" | "false")
    ) {
        return Err("--rootless: give true, false or auto".into());
    }
    let root = parsed
        .path("root")
        .unwrap_or_else(ringside_container::runtime::default_root);
    let explain = match parsed.value("explain") {
        None if !parsed.has("explain") => Explain::No,
        Some("false") => Explain::No,
        None | Some("true") => Explain::Taken,
        Some("plan") => Explain::Planned,
        Some(other) => {
            return Err(format!(
                "invalid value {other:?} for flag -explain: give none, or plan"
            ));
        }
    };
    let global = Global {
        root,
        is_systemd,
        explain,
        format: if parsed.has("json") {
            Format::Json
        } else {
            Format::Text
        },
        criu: parsed.path("criu"),
        log: parsed.path("log"),
        is_json: format == "json",
        is_debug: parsed.has("debug") || parsed.value("log-level") == Some("debug"),
    };
    let first = if parsed.has("version") {
        return Ok((global, VERSION.get_or_init(|| vec!["--version".to_owned()])));
    } else if parsed.positional.is_empty() {
        return Ok((global, HELP.get_or_init(|| vec!["help".to_owned()])));
    } else {
        used - 1
    };
    Ok((global, &arguments[first..]))
}

static VERSION: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
static HELP: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();

impl Global {
    /// Tells what is going on, if somebody wants to know: in the log, or else on standard error.
    pub fn debug(&self, message: &str) {
        match (&self.log, self.is_debug) {
            (_, false) => {}
            (Some(path), true) => append(path, &self.line("debug", message)),
            (None, true) => eprintln!("{}", self.line("debug", message)),
        }
    }

    fn line(&self, level: &str, message: &str) -> String {
        let time = ringside_container::runtime::now();
        if self.is_json {
            serde_json::json!({"level": level, "msg": message, "time": time}).to_string()
        } else {
            format!("time=\"{time}\" level={level} msg={message:?}")
        }
    }

    /// From here on the library's warnings are told: in the log, or else on standard error, where callers
    /// take what is said for the container's words.
    pub fn hear_warnings(&'static self) {
        if log::set_logger(self).is_ok() {
            log::set_max_level(log::LevelFilter::Warn);
        }
    }

    /// Tells whoever asked: on standard error, and in the log that callers read.
    pub fn log(&self, level: &str, message: &str) {
        // Callers tell a failure by this word, which every runtime has there.
        eprintln!("{level}: {message}");
        self.log_only(level, message);
    }

    /// Tells why a command failed, as [`Self::log`] does, but where standard error goes to a program while
    /// a person sits at standard input: then the person reads the reason on the terminal, and the program
    /// the line that it knows of runc, if there is one, and nothing beside it.
    pub fn fail(&self, message: &str, line_of_runc: Option<&str>) {
        let told = line_of_runc
            .filter(|_| !std::io::stderr().is_terminal() && tell_terminal(message).is_ok());
        match told {
            Some(line) => {
                eprintln!("{line}");
                self.log_only("error", message);
            }
            None => self.log("error", message),
        }
    }

    fn log_only(&self, level: &str, message: &str) {
        let Some(path) = &self.log else { return };
        let line = self.line(level, message);
        append(path, &line);
    }
}

impl log::Log for Global {
    fn enabled(&self, told: &log::Metadata<'_>) -> bool {
        told.level() <= log::Level::Warn
    }

    fn log(&self, told: &log::Record<'_>) {
        match &self.log {
            Some(_) => self.log_only("warning", &told.args().to_string()),
            None => eprintln!("warning: {}", told.args()),
        }
    }

    fn flush(&self) {}
}

/// Writes to the terminal that standard input is, if it is one.
fn tell_terminal(message: &str) -> std::io::Result<()> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(std::io::ErrorKind::NotConnected.into());
    }
    let mut terminal = std::fs::File::from(input.as_fd().try_clone_to_owned()?);
    writeln!(terminal, "error: {message}")
}

/// Whoever cannot be told here has been told on standard error.
fn append(path: &std::path::Path, line: &str) {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    let _ = file.and_then(|mut file| writeln!(file, "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str, last: usize) -> (Vec<String>, usize) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (parsed, used) = parse(&words, &[("force", &["f"], false)], last).unwrap();
        (parsed.positional, used)
    }

    #[test]
    fn after_two_dashes_nothing_is_an_option() {
        assert_eq!(
            parsed("-f -- -f b", usize::MAX),
            (vec!["-f".into(), "b".into()], 4)
        );
        assert_eq!(parsed("-- c ls -l", 1), (vec!["c".into()], 2));
        assert_eq!(parsed("c -- ls", 1), (vec!["c".into()], 1));
        assert_eq!(parsed("--", 1), (vec![], 1));
    }
}
