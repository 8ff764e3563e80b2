//! A run of cargo within a build script, for what runs inside of a guest: a workspace of its own, with flags that
//! nothing else may get. Needs no second toolchain or target and no network.

use std::env;
use std::path::Path;
use std::process::Command;

/// Builds the binaries of the workspace in `folder` into `target`/release.
pub fn build(folder: &Path, target: &Path) {
    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    cargo
        .current_dir(folder)
        .args([
            "build",
            "--release",
            "--bins",
            "--locked",
            "--offline",
            "--target-dir",
        ])
        .arg(target);
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
        "what is in {} does not build",
        folder.display()
    );
}
