//! An entropy source under any driver, and with it the transport alone.
//!
//! `cargo +nightly fuzz run virtio_rng` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::virtio::Rng;
use ringside_vmm_fuzz::virtio::{memory, run};

fuzz_target!(|input: &[u8]| run(Rng, memory(), input, |_| ()));
