//! `config.json` is hostile: any bytes give a configuration or an error that names a field, and a
//! configuration gives a plan or such an error. `cargo +nightly fuzz run config` in `container/`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ringside_container::runtime::bundle::{self, Options, limits, process};
use ringside_container::spec::{Process, Resources, Spec};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(spec) = Spec::parse(bytes) {
        match spec.validate() {
            Err(error) => assert!(error.field_path().is_some(), "{error}"),
            Ok(()) => plan(&spec),
        }
    }
    if let Ok(it) = Process::parse(bytes) {
        match it.validate("process") {
            Err(error) => assert!(error.field_path().is_some(), "{error}"),
            Ok(()) => drop(process::candidates(&it)),
        }
    }
    if let Ok(resources) = Resources::parse(bytes) {
        let _ = limits::limits(&resources).map(|limits| limits.validate());
    }
});

/// What is valid can be planned, or the field that cannot is named.
fn plan(spec: &Spec) {
    let options = Options {
        waits_for_start: true,
        ..Options::default()
    };
    match bundle::init_steps(spec, Path::new("/bundle"), &options) {
        Err(error) => assert!(error.field_path().is_some(), "{error}"),
        // What is planned can be told.
        Ok(steps) => steps.iter().for_each(|step| drop(format!("{step:?}"))),
    }
    let _ = limits::limits(&spec.linux.resources).map(|limits| limits.validate());
}
