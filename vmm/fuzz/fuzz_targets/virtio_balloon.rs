//! A balloon under any driver, while the host asks for more and for less.
//!
//! `cargo +nightly fuzz run virtio_balloon` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::virtio::VirtioBalloon;
use ringside_vmm_fuzz::virtio::{memory, run};

fuzz_target!(|input: &[u8]| {
    let memory = memory();
    let (balloon, handle) = VirtioBalloon::new(&memory).expect("a balloon");
    run(balloon, memory, input, |bytes| handle.ask(bytes.number(8)));
});
