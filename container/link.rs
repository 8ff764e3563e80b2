//! Links a program statically, at a fixed address, where the C library can be linked so.
//!
//! A runtime or a machine monitor is started anew for every container or machine and may run for
//! milliseconds. Of its page faults half, and of its system calls fifty, would be the dynamic loader's:
//! mapping libraries and relocating them. (Our programs look up no names of hosts or users, which a
//! static C library would need its shared half for.)
//!
//! `rustc` names the libraries in their shared form (`-Bdynamic -lc`), for all programs of a target at
//! once. So linker scripts of these names, in a folder that is searched first, lead to the archives.
//!
//! Not every distribution installs the archives with its compiler. Where they are missing the program
//! is an ordinary dynamic one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Each shared library that the standard library asks for, and what stands in for it.
const LIBRARIES: [(&str, &str); 6] = [
    ("c", "libc.a"),
    ("m", "libm.a"),
    ("gcc_s", "libgcc_eh.a"),
    ("util", "libutil.a"),
    ("rt", "librt.a"),
    ("dl", "libdl.a"),
];

/// Links this package's program `name` so; to be called by its build script.
pub fn statically(name: &str) {
    for argument in arguments() {
        println!("cargo:rustc-link-arg-bin={name}={argument}");
    }
}

/// What the linker is to be told, and none where an archive is missing; to be called by a build script.
pub fn arguments() -> Vec<String> {
    let target = env::var("TARGET").unwrap_or_default();
    let native = env::var("HOST").ok().as_deref() == Some(&target);
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return Vec::new();
    };
    let stands_in = |(name, archive): &(&str, &str)| stand_in(&out, name, archive);
    if !native || !target.ends_with("-linux-gnu") || !LIBRARIES.iter().all(stands_in) {
        return Vec::new();
    }
    ["-static", "-no-pie", &format!("-L{}", out.display())]
        .map(str::to_owned)
        .into()
}

/// Writes a linker script for a library; false when the archive is not installed.
fn stand_in(folder: &Path, name: &str, archive: &str) -> bool {
    let linker = env::var("RUSTC_LINKER").unwrap_or_else(|_| "cc".into());
    let found = Command::new(linker)
        .arg(format!("-print-file-name={archive}"))
        .output();
    let found = found.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    // What it does not find, it prints as it was asked.
    match found.map(PathBuf::from) {
        Ok(path) if path.is_absolute() => {
            let script = format!("INPUT({})\n", path.display());
            fs::write(folder.join(format!("lib{name}.so")), script).is_ok()
        }
        _ => false,
    }
}
