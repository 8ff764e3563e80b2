//! Compiles each program in `floor/` and lists them, embedded, for `src/floor.rs`.
//!
//! They are single files that need nothing but rustc and a C linker: the standard library and its
//! own `extern "C"` for what that lacks, or (a file that says `no_std`) start files of its own.

#[path = "../container/link.rs"]
#[expect(dead_code, reason = "these programs are not this package's own")]
mod link;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=floor");
    println!("cargo:rerun-if-changed=../container/link.rs");
    let out = PathBuf::from(variable("OUT_DIR"));
    let mut sources: Vec<PathBuf> = fs::read_dir("floor")
        .expect("the floor programs' folder")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    sources.sort();

    let mut list = String::new();
    for source in sources {
        let name = source.file_stem().expect("a file has a name").to_owned();
        let program = out.join("floor").join(&name);
        compile(&source, &program);
        list += &format!("({name:?}, include_bytes!({program:?})),");
    }
    fs::write(out.join("floor.rs"), format!("&[{list}]")).expect("OUT_DIR is writable");
}

fn compile(source: &Path, program: &Path) {
    fs::create_dir_all(program.parent().expect("it has one")).expect("OUT_DIR is writable");
    let text = fs::read_to_string(source).expect("a floor program is text");
    // `RUSTC` is the compiler itself even where clippy or rustdoc wraps it for this crate.
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args(["--edition", "2024", "--crate-type", "bin"])
        .args(["-O", "-C", "panic=abort", "-C", "strip=symbols"])
        .args(["--target", &variable("TARGET")])
        .arg("-o")
        .args([program, source]);
    if text.contains("#![no_std]") {
        // A static image at fixed addresses, its parts packed into one page of file.
        rustc.args(["-C", "relocation-model=static"]);
        for argument in [
            "-nostartfiles",
            "-nostdlib",
            "-static",
            "-Wl,--build-id=none,-z,noseparate-code,-z,norelro",
        ] {
            rustc.arg("-C").arg(format!("link-arg={argument}"));
        }
    } else {
        // As fast to load as what is measured against it.
        for argument in link::arguments() {
            rustc.arg("-C").arg(format!("link-arg={argument}"));
        }
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    if text.contains("Linked statically") {
        // Without the C library's archive it is a shared one's program like the others, and no worse
        // than that as a floor.
        let mut fixed = Command::new(rustc.get_program());
        fixed.args(rustc.get_args());
        fixed.args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "relocation-model=static",
        ]);
        if fixed.output().is_ok_and(|it| it.status.success()) {
            return;
        }
    }
    let status = rustc.status().expect("rustc runs");
    assert!(status.success(), "{} does not compile", source.display());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
