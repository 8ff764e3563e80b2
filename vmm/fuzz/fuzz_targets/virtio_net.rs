//! A network card under any driver, while frames of any shape come.
//!
//! `cargo +nightly fuzz run virtio_net` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::virtio::Net;
use ringside_vmm_fuzz::virtio::{memory, run};
use std::os::unix::net::UnixDatagram;

fuzz_target!(|input: &[u8]| {
    let (ours, theirs) = UnixDatagram::pair().expect("sockets");
    ours.set_nonblocking(true).expect("a flag");
    theirs.set_nonblocking(true).expect("a flag");
    run(
        Net::over(ours.into(), [2, 0, 0, 0, 0, 1]),
        memory(),
        input,
        |bytes| {
            let count = bytes.number(1) as usize;
            let _ = theirs.send(bytes.slice(count));
            let _ = theirs.recv(&mut [0; 4096]);
        },
    );
});
