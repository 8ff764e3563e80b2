//! Sockets under any driver, while programs of the host's connect, write, read and hang up.
//!
//! `cargo +nightly fuzz run virtio_vsock` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::virtio::Vsock;
use ringside_vmm_fuzz::virtio::{memory, run};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

fuzz_target!(|input: &[u8]| {
    let path = format!("/dev/shm/ringside-fuzz-vsock-{}", std::process::id());
    let (path, at_80) = (std::path::Path::new(&path), format!("{path}_80"));
    let _ = fs::remove_file(path);
    let _ = fs::remove_file(&at_80);
    let device = Vsock::new(3, path).expect("sockets");
    let listener = UnixListener::bind(&at_80).expect("a listener");
    listener.set_nonblocking(true).expect("a flag");
    let mut streams: Vec<UnixStream> = Vec::new();
    run(device, memory(), input, |bytes| {
        let deed = bytes.number(1);
        let which = (deed >> 3) as usize;
        match deed & 7 {
            0 => streams.extend(UnixStream::connect(path)),
            1 => streams.extend(listener.accept().map(|(stream, _)| stream)),
            2 if !streams.is_empty() => drop(streams.swap_remove(which % streams.len())),
            _ => {
                let count = streams.len().max(1);
                let Some(stream) = streams.get_mut(which % count) else {
                    return;
                };
                let _ = stream.set_nonblocking(true);
                match deed & 7 {
                    3 => drop(stream.write(b"CONNECT 1024\n")),
                    4 => drop(stream.read(&mut [0; 4096])),
                    _ => {
                        let count = bytes.number(1) as usize;
                        drop(stream.write(bytes.slice(count)));
                    }
                }
            }
        }
    });
    let _ = fs::remove_file(&at_80);
});
