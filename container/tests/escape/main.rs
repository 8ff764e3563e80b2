//! The escapes from runc, crun and youki that were published, tried on `ringside-oci`.
//!
//! Every test takes the attack's steps with a hostile image or container and then looks at the host. And
//! each has a second half that shows that the trap was armed: the same steps, where nothing stands in
//! their way, are seen to succeed.

#[path = "../support_oci/mod.rs"]
mod support_oci;

mod files;
mod kernel;
mod own_binary;
mod proc;
mod processes;
mod users;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// A directory of the host's that no container was given, with a file in it.
struct Treasure {
    directory: tempfile::TempDir,
}

const SECRET: &str = "only the host may read this";

impl Treasure {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("secret"), SECRET).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn secret(&self) -> PathBuf {
        self.path().join("secret")
    }

    /// What is in it besides the secret.
    fn others(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "secret").collect()
    }

    /// Nobody has made, changed or covered anything.
    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(self.others(), Vec::<String>::new());
        assert_eq!(std::fs::read_to_string(self.secret()).unwrap(), SECRET);
    }
}

/// Adds a mount to a configuration.
fn add_mount(spec: &mut Value, destination: &str, kind: &str, source: &Path, options: &[&str]) {
    spec["mounts"].as_array_mut().unwrap().push(
        json!({"destination": destination, "type": kind, "source": source, "options": options}),
    );
}

/// Gives a configuration's process capabilities in the three sets that matter to root.
fn grant(spec: &mut Value, names: &[&str]) {
    for set in ["bounding", "effective", "permitted"] {
        let set = spec["process"]["capabilities"][set].as_array_mut().unwrap();
        set.extend(names.iter().map(|name| json!(name)));
    }
}

/// Runs a script of the host's, which has to succeed, and gives its output.
#[track_caller]
fn host(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}{error}");
    text
}
