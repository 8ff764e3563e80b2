//! What is remembered of a container may be damaged: any bytes in its directory give a record or an
//! error, and a record that is read is written as it was. `cargo +nightly fuzz run state` in `container/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_container::runtime::state::{Record, check_id};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        let _ = record.init();
        let _ = record.for_hooks(record.pid, "running");
        let text = serde_json::to_vec(&record).expect("a record can be written");
        let again: Record = serde_json::from_slice(&text).expect("what was written can be read");
        assert_eq!(format!("{record:?}"), format!("{again:?}"));
    }
    if let Ok(id) = std::str::from_utf8(bytes)
        && check_id(id).is_ok()
    {
        assert!(!id.contains('/') && id != "." && id != ".." && !id.is_empty());
    }
});
