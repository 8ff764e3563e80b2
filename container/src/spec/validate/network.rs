//! Interfaces of the host's that go in.

use crate::spec::{Error, NamespaceKind, Spec};

impl Spec {
    /// Names that the kernel takes, each once, for a network that is not the host's.
    pub(super) fn interfaces(&self) -> Result<(), Error> {
        let mut taken = Vec::new();
        for (name, device) in &self.linux.net_devices {
            let at = format!("linux.netDevices.{name}");
            if !self.has(NamespaceKind::Network) {
                let why = "it would stay with the host; add a namespace of type network";
                return Err(Error::field(at, "an object", why));
            }
            let is_template = device.name.ends_with("%d");
            let fixed = device.name.strip_suffix("%d").unwrap_or(&device.name);
            interface(&at, name)?;
            if !device.name.is_empty() {
                let field = format!("{at}.name");
                // The number takes the place of the template's two characters, or one more.
                interface(
                    &field,
                    if is_template && fixed.is_empty() {
                        "x"
                    } else {
                        fixed
                    },
                )?;
            }
            let inside = if device.name.is_empty() {
                name
            } else {
                &device.name
            };
            if !is_template && taken.contains(&inside) {
                let why = "two interfaces would have this name; give another";
                return Err(Error::field(format!("{at}.name"), inside, why));
            }
            taken.push(inside);
        }
        Ok(())
    }
}

/// A name as the kernel takes it for an interface (`dev_valid_name`).
fn interface(field: &str, name: &str) -> Result<(), Error> {
    let is_bad = |byte: u8| matches!(byte, b'/' | b':' | b'%' | 0) || byte.is_ascii_whitespace();
    if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.bytes().any(is_bad)
    {
        let why = "no interface has such a name: 1 to 15 bytes without blanks, `/`, `:` and `%`";
        return Err(Error::field(field, name, why));
    }
    Ok(())
}
