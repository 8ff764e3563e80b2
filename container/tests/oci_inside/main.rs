//! What a configuration asks for, as its container sees it.

#[path = "../support_oci/mod.rs"]
mod support_oci;

mod filters;
mod hooks;
mod interfaces;
mod mounts;
mod process;

use serde_json::Value;
use support_oci::Bundle;

fn add(spec: &mut Value, list: &str, entry: Value) {
    spec.pointer_mut(list)
        .unwrap()
        .as_array_mut()
        .unwrap()
        .push(entry);
}

/// Runs `script` in a container changed by `change`; its output.
fn inside(script: &str, change: impl FnOnce(&mut Value)) -> Option<String> {
    let bundle = Bundle::new(script, change)?;
    let out = bundle.oci(&["run", "ID"]).ok();
    bundle.is_gone();
    Some(out)
}
