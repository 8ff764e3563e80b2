//! Builds the guest's init with a second run of cargo (it is a workspace of its own). Needs no second
//! toolchain or target and no network.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for input in [
        "init/src",
        "init/Cargo.toml",
        "init/Cargo.lock",
        "init/.cargo",
        "../abi",
    ] {
        println!("cargo:rerun-if-changed={}", here.join(input).display());
    }
    let target = out.join("target");
    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    cargo
        .current_dir(here.join("init"))
        .args([
            "build",
            "--release",
            "--locked",
            "--offline",
            "--target-dir",
        ])
        .arg(&target);
    // What the outer build was told (flags, wrappers such as clippy's, a target) is not for this one.
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
    assert!(status.success(), "the init of Linux guests does not build");
    fs::copy(target.join("release/init"), out.join("init"))
        .expect("the init is where cargo puts it");
}
