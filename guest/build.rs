//! Builds the bare guest programs with a second run of cargo (they are a workspace of their own)
//! and lists them for `lib.rs`.

mod nested;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

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
        "c_memory.rs",
        "nested.rs",
    ] {
        println!("cargo:rerun-if-changed={}", here.join(input).display());
    }

    nested::build(&programs, &out.join("target"));

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
