//! Links the runtime so that it starts fast.

use std::env;

mod link;

/// The order of the runtime's functions in its text, which a linker script gives.
const ORDER: &str = "text-order.ld";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.rs");
    println!("cargo:rerun-if-changed={ORDER}");
    link::statically("ringside-oci");
    if env::var("PROFILE").is_ok_and(|it| it == "release") && takes_scripts() {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bin=ringside-oci=-Wl,-T,{folder}/{ORDER}");
    }
}

/// Of the linkers that people choose, `mold` alone refuses linker scripts with sections.
fn takes_scripts() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    !flags.contains("mold")
}
