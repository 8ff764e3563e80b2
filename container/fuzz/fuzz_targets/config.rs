//! `config.json` is hostile: any bytes give a configuration or an error that names a field.
//! `cargo +nightly fuzz run config` in `container/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_container::spec::{Process, Resources, Spec};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(spec) = Spec::parse(bytes) {
        if let Err(error) = spec.validate() {
            assert!(error.field_path().is_some(), "{error}");
        }
    }
    if let Ok(process) = Process::parse(bytes) {
        let _ = process.validate("process");
    }
    let _ = Resources::parse(bytes);
});
