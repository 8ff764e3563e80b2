//! Links the runtime so that it starts fast.

mod link;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=link.rs");
    link::statically("ringside-oci");
}
