//! Builds the bare guest programs with a second run of cargo (they are a workspace of their own)
//! and lists them for `lib.rs`. Needs no second toolchain or target and no network.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let programs = here.join("programs");
    for input in [
        "programs/src",
        "programs/Cargo.toml",
        "programs/Cargo.lock",
        "programs/.cargo",
        "programs/program.ld",
        "abi",
        "work",
    ] {
        println!("cargo:rerun-if-changed={}", here.join(input).display());
    }

    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    cargo
        .current_dir(&programs)
        .args([
            "build",
            "--release",
            "--bins",
            "--locked",
            "--offline",
            "--target-dir",
        ])
        .arg(out.join("target"));
    // What the outer build was told (flags, wrappers such as clippy's, a target) is not for these.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let of_outer_build = name.starts_with("CARGO") && !matches!(&*name, "CARGO" | "CARGO_HOME");
        if of_outer_build
            || name.starts_with("RUSTFLAGS")
            || (name.starts_with("RUSTC_") && name.ends_with("WRAPPER"))
            || name.starts_with("CLIPPY")
        {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo.status().expect("cargo runs");
    assert!(
        status.success(),
        "the guest programs in {} do not build",
        programs.display()
    );

    let mut names: Vec<String> = fs::read_dir(programs.join("src/bin"))
        .expect("the programs' folder")
        .map(|entry| entry.expect("an entry of it").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    let mut list = String::new();
    for name in names {
        let path = out.join("target/release").join(&name);
        let source = programs.join(format!("src/bin/{name}.rs"));
        let text = fs::read_to_string(&source).expect("the program's source");
        let about = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("//! "))
            .expect("a first line that says what the program is");
        writeln!(
            list,
            "Program {{ name: {name:?}, about: {about:?}, elf: include_bytes!({path:?}) }},"
        )
        .expect("a string grows");
    }
    fs::write(out.join("programs.rs"), format!("&[{list}]")).expect("the list is written");
}
