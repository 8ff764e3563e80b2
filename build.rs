//! Links the command at a fixed address.
//!
//! A position-independent program is relocated at every start: some five thousand words in twenty
//! pages, a twentieth of the time in which a virtual machine starts. Libraries, heap, stacks and
//! guest memory are at random addresses all the same.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bin=ringside=-no-pie");
}
