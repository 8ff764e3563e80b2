//! A console under any driver, while somebody types and resizes.
//!
//! `cargo +nightly fuzz run virtio_console` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::virtio::Console;
use ringside_vmm_fuzz::virtio::{memory, run};

fuzz_target!(|input: &[u8]| {
    let (console, handle) = Console::new(std::io::sink()).expect("a console");
    let mut typed = 0;
    run(console, memory(), input, |bytes| {
        handle.resize(bytes.number(2) as u16, bytes.number(2) as u16);
        let count = bytes.number(1) as usize;
        let text = bytes.slice(count);
        // What the guest does not take would make the typist wait.
        typed += text.len();
        if typed < 60 << 10 {
            handle.input(text).expect("the console is there");
        }
    });
});
