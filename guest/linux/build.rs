//! Builds the guest's init with a second run of cargo (it is a workspace of its own).

#[path = "../nested.rs"]
mod nested;

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for input in [
        "init/src",
        "init/Cargo.toml",
        "init/Cargo.lock",
        "init/.cargo",
        "../abi",
        "../c_memory.rs",
        "../nested.rs",
    ] {
        println!("cargo:rerun-if-changed={}", here.join(input).display());
    }
    let target = out.join("target");
    nested::build(&here.join("init"), &target);
    fs::copy(target.join("release/init"), out.join("init"))
        .expect("the init is where cargo puts it");
}
