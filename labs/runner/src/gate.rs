//! The gate: what must hold before a lab is handed to anybody.
//!
//! 1. On paper: 100 points, 60 of them for any Linux user; hints and a wrong solution for each check.
//! 2. The handout builds and scores 0 on every check: no check passes without work.
//! 3. The solution scores full, twice in a row: no check is flaky. And so for other students' seeds.
//! 4. With the reference in place of what is not written, the handout is a working system.
//! 5. Each recorded wrong solution gets the verdict and the text that it must get.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use ringside_lab_harness::{CheckListing, Seed, Verdict};

use crate::commands::Trouble;
use crate::compile::Place;
use crate::grade::{Grader, LabGrade, list};
use crate::handout::{Copier, Solutions};
use crate::hints::Hints;
use crate::measure::Prepared;
use crate::render;
use crate::state::{GATE, Student};
use crate::tree::{Lab, Tree};
use crate::wrong::Wrong;

/// How much to prove.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Without the wrong solutions: each has to be built.
    pub quick: bool,
    /// How many more students' seeds the solution must satisfy.
    pub students: u32,
}

/// A directory under `target/` that only one runner uses at a time, with a copy of the tree in it.
/// It stays, so that the next time little has to be built.
#[derive(Debug)]
pub struct Workshop {
    /// The copy.
    pub tree: PathBuf,
    /// Where to build it.
    pub place: Place,
    /// For [`Copier::version`].
    pub version: String,
    _lock: Flock<File>,
}

impl Workshop {
    /// Opens the workshop `name`, empty, and waits for another runner to leave it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(tree: &Tree, name: &str) -> Result<Self, Trouble> {
        let folder = tree.root.join("target").join(name);
        fs::create_dir_all(&folder)?;
        let file = File::create(folder.join("lock"))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
        let copy = folder.join("tree");
        match fs::remove_dir_all(&copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        Ok(Self {
            place: Place {
                root: copy.clone(),
                target: Some(folder.join("target")),
                shared: Some(shared_build_directory(tree)),
                offline: true, // everything that it needs was built in this tree before
            },
            tree: copy,
            // Two trees may share a build directory: their copies are told apart too.
            version: format!(
                "0.0.0-{name}-{}",
                Seed::new(&tree.root.to_string_lossy(), 0)
            ),
            _lock: lock,
        })
    }
}

/// Where this tree's dependencies were built, as cargo's own environment variables have it.
fn shared_build_directory(tree: &Tree) -> PathBuf {
    let set = ["CARGO_BUILD_BUILD_DIR", "CARGO_TARGET_DIR"];
    let set = set.into_iter().find_map(std::env::var_os);
    set.map_or_else(|| tree.root.join("target"), PathBuf::from)
}

/// Runs the gate over `labs`; true when nothing is wrong.
///
/// # Errors
///
/// When the gate itself cannot work; a lab that does not pass is not an error.
pub fn run(
    tree: &Tree,
    labs: &[&Lab],
    options: Options,
    out: &mut dyn Write,
) -> Result<bool, Trouble> {
    if !tree.is_instructors() {
        return Err(Trouble::usage(
            "this is a student's tree: the gate needs the solutions and the recorded mistakes",
        ));
    }
    let workshop = Workshop::open(tree, "lab-gate")?;
    copier(tree, labs, Solutions::Removed, &workshop).copy()?;
    let mut sound = true;
    for lab in labs {
        writeln!(out, "lab {:02}  {}", lab.number, lab.title)?;
        let mut gate = Gate {
            tree,
            lab,
            student: GATE.parse()?,
            out: &mut *out,
            sound: true,
        };
        let checks = gate.on_paper()?;
        gate.handout(&workshop)?;
        gate.solution(&checks, options.students)?;
        if !options.quick {
            gate.wrong(&workshop)?;
        }
        sound &= gate.sound;
    }
    writeln!(out, "the gate is {}", if sound { "open" } else { "shut" })?;
    Ok(sound)
}

fn copier<'a>(
    tree: &'a Tree,
    labs: &'a [&'a Lab],
    solutions: Solutions,
    workshop: &'a Workshop,
) -> Copier<'a> {
    Copier {
        tree,
        labs,
        solutions,
        target: &workshop.tree,
        version: Some(&workshop.version),
    }
}

struct Gate<'a> {
    tree: &'a Tree,
    lab: &'a Lab,
    student: Student,
    out: &'a mut dyn Write,
    sound: bool,
}

impl Gate<'_> {
    fn say(&mut self, holds: bool, what: &str) -> io::Result<()> {
        self.sound &= holds;
        let word = if holds { "ok" } else { "NO" };
        let what = what.trim_end().replace('\n', "\n      ");
        writeln!(self.out, "  {word}  {what}")?;
        self.out.flush()
    }

    fn grader<'b>(&'b self, lab: &'b Lab, student: &'b Student) -> Grader<'b> {
        Grader {
            tree: self.tree,
            lab,
            student,
            with_reference: false,
            only: None,
        }
    }

    /// The lab as it stands in the copy.
    fn copied(&self, workshop: &Workshop) -> Lab {
        Lab {
            folder: workshop.tree.join(self.lab.place()),
            ..self.lab.clone()
        }
    }

    fn on_paper(&mut self) -> Result<Vec<CheckListing>, Trouble> {
        let binary = Place::of(self.tree.root.clone()).build(self.lab)?;
        let seed = Seed::new(GATE, self.lab.number);
        let checks = list(&binary, seed)?.checks;
        let sum: u32 = checks.iter().map(|check| check.points).sum();
        let free = checks.iter().filter(|check| check.needs.is_empty());
        let free: u32 = free.map(|check| check.points).sum();
        let what = format!(
            "{} checks, {sum} points, {free} of them for any user",
            checks.len()
        );
        self.say(sum == 100 && free >= 60, &what)?;
        let mut letters: Vec<_> = checks.iter().flat_map(|check| &check.needs).collect();
        letters.sort();
        letters.dedup();
        let letters: String = letters
            .iter()
            .map(|need| format!(" {}", need.letter()))
            .collect();
        if self.lab.needs != format!("P{letters}") {
            let what = format!(
                "Cargo.toml says needs {:?}, the checks P{letters}",
                self.lab.needs
            );
            self.say(false, &what)?;
        }
        let hints = Hints::read(self.lab)?;
        let wrong = Wrong::all(self.lab)?;
        let prefix = format!("{}.", self.lab.number);
        for check in &checks {
            let id = &check.id;
            if !id.starts_with(&prefix) {
                self.say(false, &format!("check {id}: ids here start with {prefix}"))?;
            }
            if !hints.has(id) {
                self.say(
                    false,
                    &format!("check {id}: a hint in three steps is missing"),
                )?;
            }
            if !wrong.iter().any(|wrong| wrong.check == *id) {
                self.say(false, &format!("check {id}: no wrong solution is recorded"))?;
            }
        }
        for wrong in &wrong {
            if !checks.iter().any(|check| check.id == wrong.check) {
                self.say(false, &format!("{}: no such check", wrong.path.display()))?;
            }
            if let Err(error) = wrong.apply(&self.lab.folder) {
                self.say(false, &error.to_string())?;
            }
        }
        Ok(checks)
    }

    fn handout(&mut self, workshop: &Workshop) -> Result<(), Trouble> {
        let lab = self.copied(workshop);
        let grade = self.grader(&lab, &self.student).grade_in(&workshop.place)?;
        let unwritten = |verdict| matches!(verdict, Verdict::Todo | Verdict::Skip);
        let holds = grade.build_error.is_none()
            && grade.score == 0
            && grade
                .checks
                .iter()
                .all(|check| unwritten(check.report.verdict));
        let mut what = String::from("the handout builds and scores 0 on every check");
        if !holds {
            what += "\n";
            what += &render::grade(&grade, &self.student);
        }
        self.say(holds, &what)?;
        self.reference(workshop, &lab)
    }

    /// The handout with the reference: a working system without a line of the student's.
    fn reference(&mut self, workshop: &Workshop, lab: &Lab) -> Result<(), Trouble> {
        let grader = Grader {
            with_reference: true,
            ..self.grader(lab, &self.student)
        };
        let grade = grader.grade_in(&workshop.place)?;
        let works = grade
            .checks
            .iter()
            .filter(|check| !check.report.reference.is_empty());
        let works = works.count();
        let holds = works > 0 && grade.score == 0 && !grade.is_wrong();
        let mut what = format!("with the reference, {works} checks pass without a point");
        if !holds {
            what += "\n";
            what += &render::grade(&grade, &self.student);
        }
        self.say(holds, &what)?;
        let place = &workshop.place;
        let prepared = Prepared::new(self.tree, lab, &self.student, true, place)?;
        let report = prepared.run()?;
        let skipped = report.verdict == Verdict::Skip;
        let mut what = String::from("with the reference, the measurement runs");
        if skipped {
            what += " (this host skips it)";
        } else if report.verdict != Verdict::Ok {
            what += "\n";
            what += &render::measured(lab, prepared.question(), "", &report);
        }
        Ok(self.say(skipped || report.verdict == Verdict::Ok, &what)?)
    }

    fn solution(&mut self, checks: &[CheckListing], students: u32) -> Result<(), Trouble> {
        for time in ["once", "twice"] {
            let grade = self.grader(self.lab, &self.student).grade()?;
            self.full(&grade, &format!("the solution scores full, {time}"), &[])?;
        }
        let written = checks.iter().filter(|check| check.written);
        let written: Vec<_> = written.map(|check| check.id.as_str()).collect();
        let others = (0..students).map(|number| format!("student-{number}"));
        for student in others {
            let student: Student = student.parse()?;
            let grade = self.grader(self.lab, &student).grade()?;
            // The recorded answers are the gate's own; another student's differ.
            let what = format!("the code scores full for {student}");
            self.full(&grade, &what, &written)?;
        }
        Ok(())
    }

    fn full(&mut self, grade: &LabGrade, what: &str, except: &[&str]) -> io::Result<()> {
        let full = |verdict| matches!(verdict, Verdict::Ok | Verdict::Skip);
        let mut checks = grade
            .checks
            .iter()
            .filter(|check| !except.contains(&&*check.id));
        let holds = grade.build_error.is_none() && checks.all(|c| full(c.report.verdict));
        let skipped = grade
            .checks
            .iter()
            .filter(|c| c.report.verdict == Verdict::Skip);
        let skipped: Vec<_> = skipped.map(|check| check.id.as_str()).collect();
        let mut what = format!("{what}: {} of {}", grade.score, grade.maximum);
        if !skipped.is_empty() {
            what += &format!(" (this host skips {})", skipped.join(", "));
        }
        if !holds {
            what += "\n";
            what += &render::grade(grade, &self.student);
        }
        self.say(holds, &what)
    }

    fn wrong(&mut self, workshop: &Workshop) -> Result<(), Trouble> {
        let labs = [self.lab];
        let copier = copier(self.tree, &labs, Solutions::Kept, workshop);
        copier.copy_lab(self.lab)?;
        let lab = self.copied(workshop);
        let mut complete: BTreeMap<PathBuf, String> = BTreeMap::new();
        for wrong in Wrong::all(self.lab)? {
            // The copy holds the complete lab but for the files of the mistake before this one.
            for (file, text) in std::mem::take(&mut complete) {
                copier.put(&file, text.as_bytes())?;
            }
            for (file, text) in wrong.apply(&self.lab.folder)? {
                let original = fs::read_to_string(self.lab.folder.join(&file))?;
                complete.insert(self.lab.place().join(&file), original);
                copier.put(&self.lab.place().join(&file), text.as_bytes())?;
            }
            let grader = Grader {
                only: Some(&wrong.check),
                ..self.grader(&lab, &self.student)
            };
            let grade = grader.grade_in(&workshop.place)?;
            let shown = render::grade(&grade, &self.student);
            let verdict = grade.checks.first().map(|check| check.report.verdict);
            let skipped = verdict == Some(Verdict::Skip);
            let caught = verdict == Some(wrong.verdict()) && shown.contains(wrong.prints());
            let name = wrong.path.file_stem().unwrap_or_default().to_string_lossy();
            let what = if skipped {
                format!("the mistake {name} cannot be shown on this host")
            } else if caught {
                format!(
                    "the mistake {name} gets {}: {}",
                    wrong.verdict().word(),
                    wrong.prints()
                )
            } else {
                let word = wrong.verdict().word();
                format!(
                    "the mistake {name} must get {word} with the text {:?}\n{shown}",
                    wrong.prints()
                )
            };
            self.say(skipped || caught, &what)?;
        }
        Ok(())
    }
}
