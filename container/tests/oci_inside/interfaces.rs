//! Interfaces of the host's that go in.

use serde_json::json;

use crate::support_oci::Bundle;

/// A pair of interfaces that goes when this does, wherever the first one is.
struct Pair {
    ours: String,
    other: String,
}

impl Pair {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = |end| format!("rs{}{end}{number}", std::process::id() % 1_000_000);
        let it = Self {
            ours: name("a"),
            other: name("b"),
        };
        it.ip("link add OURS mtu 1300 type veth peer name OTHER");
        it
    }

    fn ip(&self, line: &str) -> bool {
        let line = line
            .replace("OURS", &self.ours)
            .replace("OTHER", &self.other);
        let ran = std::process::Command::new("ip")
            .args(line.split(' '))
            .output();
        ran.unwrap().status.success()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.ip("link del OTHER");
    }
}

#[test]
fn interfaces_of_the_hosts_go_in_with_their_addresses() {
    let pair = Pair::new();
    for address in ["10.99.0.1/24", "10.98.0.1/24 scope link"] {
        assert!(pair.ip(&format!("addr add {address} dev OURS")));
    }
    let shows = "cat /sys/class/net/*/mtu; ip -o -4 addr show eth0; ip -o link show eth0";
    let Some(bundle) = Bundle::new(shows, |spec| {
        spec["linux"]["netDevices"][&pair.ours] = json!({"name": "eth%d"});
    }) else {
        return;
    };
    let out = bundle.oci(&["run", "ID"]).ok();
    assert!(out.starts_with("1300\n"), "{out}");
    assert!(out.contains("inet 10.99.0.1/24"), "{out}");
    // Of the link's own concern only, which it is on no other.
    assert!(!out.contains("10.98"), "{out}");
    assert!(out.contains(",UP"), "{out}");
    bundle.is_gone();
}

#[test]
fn an_interface_that_cannot_go_in_is_named() {
    let pair = Pair::new();
    for (name, inside, said) in [
        ("rs-no-such", "", "see `ip link`"),
        ("lo", "eth0", "stays where it was made"),
        (pair.ours.as_str(), "lo", "give another in `name`"),
        (pair.ours.as_str(), "a/b", "no interface has such a name"),
        (
            pair.ours.as_str(),
            "sixteen-letters-",
            "no interface has such a name",
        ),
    ] {
        let Some(bundle) = Bundle::new("true", |spec| {
            spec["linux"]["netDevices"][name] = json!({"name": inside});
        }) else {
            return;
        };
        let error = bundle.oci(&["run", "ID"]).failed();
        let field = format!("linux.netDevices.{name}");
        assert!(error.contains(&field) && error.contains(said), "{error}");
        bundle.is_gone();
    }
    assert!(pair.ip("link show OURS"));
}

#[test]
fn an_interface_comes_back_when_the_container_does_not_come_to_be() {
    let pair = Pair::new();
    for line in ["addr add 10.97.0.1/24 dev OURS", "link set OURS up"] {
        assert!(pair.ip(line), "{line}");
    }
    let Some(bundle) = Bundle::new("true", |spec| {
        spec["linux"]["netDevices"][&pair.ours] = json!({"name": "inside"});
        spec["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
    }) else {
        return;
    };
    let said = bundle.oci(&["run", "ID"]).failed();
    assert!(said.contains("createRuntime hook #0"), "{said}");
    let shown = std::process::Command::new("ip")
        .args(["-o", "addr", "show", "dev", &pair.ours, "up"])
        .output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    assert!(shown.contains("10.97.0.1/24"), "{shown}");
    bundle.is_gone();
}
