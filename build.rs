//! Links the command so that it starts fast.

#[path = "container/link.rs"]
mod link;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=container/link.rs");
    link::statically("ringside");
}
