//! Links `ringside-oci` statically, at a fixed address, where the C library can be linked so.
//!
//! A runtime is started for every step of a container's life and runs for milliseconds. Of its page
//! faults half, and of its system calls fifty, are the dynamic loader's: mapping three libraries and
//! relocating them. (`ringside-oci` looks up no names of hosts or users, which a static C library
//! would need its shared half for.)
//!
//! `rustc` names the libraries in their shared form (`-Bdynamic -lc`), for all programs of a target at
//! once. So linker scripts of these names, in a folder that is searched first, lead to the archives.

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

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    if !target.ends_with("-linux-gnu") || env::var("HOST").ok().as_deref() != Some(&target) {
        return;
    }
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return;
    };
    if LIBRARIES
        .iter()
        .all(|(name, archive)| stand_in(&out, name, archive))
    {
        for argument in ["-static", "-no-pie", &format!("-L{}", out.display())] {
            println!("cargo:rustc-link-arg-bin=ringside-oci={argument}");
        }
    }
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
