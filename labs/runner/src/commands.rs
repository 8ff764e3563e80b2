//! The command line: parse, call, render.

use std::env;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringside_lab_harness::answer_probe;

use crate::compile::Place;
use crate::state::{State, Student};
use crate::tree::{Lab, Tree};
use crate::{class, doctor, gate, grade, handout, hints, measure, process, render, watch};

/// The lab course: build a hypervisor and a container runtime, piece by piece.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
struct Arguments {
    /// The tree to work in; without it, the one around the current directory
    #[arg(long, global = true, value_name = "DIR")]
    tree: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the labs with the score so far (what `cargo lab` alone does)
    List,
    /// Say who you are, or show it: your labs get their own numbers from it
    Id {
        /// Your id in the course: letters, digits, `.`, `-`, `_` and `@`
        id: Option<Student>,
    },
    /// Run the checks of a lab, or of all labs, and show the score
    Grade(Grade),
    /// Grade a lab again whenever one of its files is saved
    Watch {
        /// The lab's number
        lab: u8,
        /// What may fill in for parts that are not written yet
        #[arg(long, value_enum)]
        with: Option<With>,
    },
    /// A hint for a check, one step more each time: the concept, the place, the shape
    Hint {
        /// The check, such as 6.1
        check: String,
        /// Show this step (1, 2 or 3) and the ones before it
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=3))]
        step: Option<u8>,
    },
    /// Print a lab's written questions with your own numbers in them
    Questions {
        /// The lab's number
        lab: u8,
    },
    /// Predict, then measure
    Measure {
        /// The lab's number
        lab: u8,
        /// Your prediction, instead of being asked for it
        #[arg(long, value_name = "TEXT")]
        predict: Option<String>,
        /// What may fill in for parts that are not written yet
        #[arg(long, value_enum)]
        with: Option<With>,
    },
    /// Say what this host can and cannot run, and how to fix it
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the students' tree: without solutions, complete enough to build
    Handout {
        /// A directory that does not exist yet, or is empty
        directory: PathBuf,
        /// Only these labs
        #[arg(long, value_delimiter = ',', value_name = "N,N")]
        labs: Vec<u8>,
    },
    /// Prove the labs: the handout scores 0, the solution scores full twice, and each check fails
    /// its recorded wrong solution with the recorded text
    Gate {
        /// Only these labs
        labs: Vec<u8>,
        /// Without building the wrong solutions
        #[arg(long)]
        quick: bool,
        /// Also run the solution with the seeds of this many made-up students
        #[arg(long, default_value_t = 5, value_name = "N")]
        students: u32,
    },
    #[command(hide = true, name = "--probe")]
    Probe,
}

#[derive(Debug, Args)]
struct Grade {
    /// The labs' numbers; all labs when there is none
    labs: Vec<u8>,
    /// Only this check, such as 6.1
    #[arg(long, value_name = "CHECK", conflicts_with_all = ["labs", "class"])]
    check: Option<String>,
    /// What may fill in for parts that are not written yet (such a check passes without points)
    #[arg(long, value_enum)]
    with: Option<With>,
    /// As JSON, for machines
    #[arg(long)]
    json: bool,
    /// Grade a whole class: each directory in DIR is one student's tree, named by the student's id
    #[arg(long, value_name = "DIR")]
    class: Option<PathBuf>,
    /// Grade as this student, without storing the score
    #[arg(long, conflicts_with = "class")]
    id: Option<Student>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum With {
    /// The library's own code
    Reference,
}

/// Why a command could not do its work: a message for people and an exit code.
#[derive(Debug)]
pub struct Trouble {
    message: String,
    code: u8,
}

impl Trouble {
    /// Bad usage: the reader asked for something that is not there.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 2,
        }
    }
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        Self { message, code: 1 }
    }
}

type Done = Result<ExitCode, Trouble>;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "--probe") {
        return answer_probe(arguments);
    }
    run(Arguments::parse()).unwrap_or_else(|trouble| {
        eprintln!("cargo lab: {}", trouble.message);
        ExitCode::from(trouble.code)
    })
}

fn run(arguments: Arguments) -> Done {
    if let Some(Command::Doctor { json }) = arguments.command {
        print(&doctor::report(json))?;
        return Ok(ExitCode::SUCCESS);
    }
    let tree = match arguments.tree {
        Some(root) => Tree::at(&root)?,
        None => Tree::around(&env::current_dir()?)?,
    };
    process::adopt_orphans()?;
    match arguments.command.unwrap_or(Command::List) {
        Command::List => list(&tree),
        Command::Id { id } => identify(&tree, id),
        Command::Grade(options) => grade(&tree, options),
        Command::Watch { lab, with } => watch(&tree, lab, with),
        Command::Hint { check, step } => hint(&tree, &check, step),
        Command::Questions { lab } => questions(&tree, lab),
        Command::Measure { lab, predict, with } => measure(&tree, lab, predict, with),
        Command::Handout { directory, labs } => {
            let labs = tree.labs_by_number(&labs)?;
            let written = handout::write(&tree, &labs, &directory)?;
            print(&written)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Gate {
            labs,
            quick,
            students,
        } => {
            let labs = tree.labs_by_number(&labs)?;
            let mut out = io::stdout();
            let sound = gate::run(&tree, &labs, gate::Options { quick, students }, &mut out)?;
            Ok(code(sound))
        }
        Command::Doctor { .. } | Command::Probe => Ok(ExitCode::SUCCESS),
    }
}

fn code(good: bool) -> ExitCode {
    ExitCode::from(u8::from(!good))
}

/// Writes to standard output; a reader that has gone (`cargo lab | head`) is no trouble.
fn print(text: &str) -> Result<(), Trouble> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn list(tree: &Tree) -> Done {
    print(&render::list(tree, &State::read(tree)?))?;
    Ok(ExitCode::SUCCESS)
}

fn identify(tree: &Tree, id: Option<Student>) -> Done {
    let mut state = State::read(tree)?;
    if let Some(id) = id {
        state.student = Some(id);
        state.write(tree)?;
    }
    print(&format!("{}\n", state.student_in(tree)?))?;
    Ok(ExitCode::SUCCESS)
}

fn grade(tree: &Tree, options: Grade) -> Done {
    let with_reference = options.with.is_some();
    let labs = match &options.check {
        Some(check) => vec![tree.lab_of_check(check)?],
        None => tree.labs_by_number(&options.labs)?,
    };
    if let Some(folder) = &options.class {
        let reports = class::grade(tree, &labs, folder, with_reference, options.json)?;
        print(&reports)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut state = State::read(tree)?;
    let student = match &options.id {
        Some(id) => id.clone(),
        None => state.student_in(tree)?,
    };
    let mut grades = Vec::new();
    for lab in labs {
        let grader = grade::Grader {
            tree,
            lab,
            student: &student,
            with_reference,
            only: options.check.as_deref(),
        };
        let graded = match grader.grade() {
            Err(error @ grade::GradeError::NoCheck { .. }) => {
                return Err(Trouble::usage(error.to_string()));
            }
            graded => graded?,
        };
        if !options.json {
            print(&render::grade(&graded, &student))?;
        }
        if options.id.is_none() && !with_reference {
            state.note(&graded);
        }
        grades.push(graded);
    }
    if options.id.is_none() && !with_reference {
        state.write(tree)?;
    }
    if options.json {
        print(&render::json(&student, &grades)?)?;
    }
    Ok(code(!grades.iter().any(grade::LabGrade::is_wrong)))
}

fn watch(tree: &Tree, number: u8, with: Option<With>) -> Done {
    let lab = tree.lab(number)?;
    let student = State::read(tree)?.student_in(tree)?;
    watch::run(lab, || {
        let grader = grade::Grader {
            tree,
            lab,
            student: &student,
            with_reference: with.is_some(),
            only: None,
        };
        let graded = grader.grade()?;
        if with.is_none() {
            let mut state = State::read(tree)?;
            state.note(&graded);
            state.write(tree)?;
        }
        if io::stdout().is_terminal() {
            print("\x1b[2J\x1b[H")?; // clear, and to the top
        }
        print(&render::grade(&graded, &student))?;
        print("  waiting for the next save; Ctrl-C ends\n")
    })
}

fn hint(tree: &Tree, check: &str, step: Option<u8>) -> Done {
    let lab = tree.lab_of_check(check)?;
    let hints = hints::Hints::read(lab)?;
    let mut state = State::read(tree)?;
    let seen = state.hints.entry(check.to_string()).or_default();
    let text = hints.show(check, step.unwrap_or(*seen + 1))?;
    *seen = (*seen).max(text.step);
    print(&text.text)?;
    state.write(tree)?;
    Ok(ExitCode::SUCCESS)
}

fn questions(tree: &Tree, number: u8) -> Done {
    let lab = tree.lab(number)?;
    let student = State::read(tree)?.student_in(tree)?;
    print(&render::questions(
        lab,
        &grade::questions(tree, lab, &student)?,
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn measure(tree: &Tree, number: u8, predict: Option<String>, with: Option<With>) -> Done {
    let lab = tree.lab(number)?;
    let mut state = State::read(tree)?;
    let student = state.student_in(tree)?;
    let place = Place::of(tree.root.clone());
    let prepared = measure::Prepared::new(tree, lab, &student, with.is_some(), &place)?;
    let prediction = match (state.predictions.get(&lab.number), predict) {
        (Some(before), _) => before.prediction.clone(),
        (None, Some(text)) => text,
        (None, None) => ask(lab, prepared.question())?,
    };
    if prediction.trim().is_empty() {
        return Err(Trouble::usage(
            "no prediction: write one line, right or wrong; it is what makes the result stay",
        ));
    }
    let prediction = prediction.trim().to_string();
    state.predict(lab.number, prepared.question(), &prediction);
    state.write(tree)?; // before the run: a prediction is made without knowing
    let report = prepared.run()?;
    print(&render::measured(
        lab,
        prepared.question(),
        &prediction,
        &report,
    ))?;
    if let (ringside_lab_harness::Verdict::Ok, Some(text)) = (report.verdict, &report.message) {
        state.measured(lab.number, text);
        state.write(tree)?;
    }
    Ok(code(!report.verdict.is_wrong()))
}

fn ask(lab: &Lab, question: &str) -> Result<String, Trouble> {
    print(&format!(
        "Lab {:02}. Before it runs: {question}\n> ",
        lab.number
    ))?;
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}
