//! Mounts and device nodes.

use std::path::Path;

use super::namespaces::mappings;
use super::{absolute, no_nul, path};
use crate::spec::{Device, Error, Mount};

impl Mount {
    pub(super) fn validate(&self, at: &str) -> Result<(), Error> {
        path(&format!("{at}.destination"), &self.destination)?;
        no_nul(&format!("{at}.source"), &self.source)?;
        no_nul(&format!("{at}.type"), &self.kind)?;
        for (index, option) in self.options.iter().enumerate() {
            no_nul(&format!("{at}.options[{index}]"), option)?;
        }
        for (name, map) in [
            ("uidMappings", &self.uid_mappings),
            ("gidMappings", &self.gid_mappings),
        ] {
            mappings(&format!("{at}.{name}"), map)?;
        }
        if self.is_bind() && self.source.is_empty() {
            return Err(Error::Missing {
                field: format!("{at}.source"),
                why: "a bind mount needs something to bind",
            });
        }
        let asks_no_type = |it: &String| it == "remount";
        if self.kind.is_empty() && !self.is_bind() && !self.options.iter().any(asks_no_type) {
            return Err(Error::Missing {
                field: format!("{at}.type"),
                why: "name a file system, or give the option `bind`",
            });
        }
        if self.uid_mappings.is_empty() != self.gid_mappings.is_empty() {
            let lacks = if self.uid_mappings.is_empty() {
                "uidMappings"
            } else {
                "gidMappings"
            };
            return Err(Error::Missing {
                field: format!("{at}.{lacks}"),
                why: "users and groups are mapped together or not at all",
            });
        }
        // `..` at the top is the top; the container's links are followed inside its root.
        if Path::new(&self.destination).components().count() == 1 && self.destination == "/" {
            return Err(Error::field(
                format!("{at}.destination"),
                &self.destination,
                "nothing is mounted over the root; name a directory in it",
            ));
        }
        Ok(())
    }
}

impl Device {
    pub(super) fn validate(&self, at: &str) -> Result<(), Error> {
        absolute(&format!("{at}.path"), &self.path)?;
        match self.kind.as_str() {
            "c" | "u" | "b" => {
                for (name, number, most) in
                    [("major", self.major, 4095), ("minor", self.minor, 1048575)]
                {
                    if !(0..=most).contains(&number) {
                        return Err(Error::field(
                            format!("{at}.{name}"),
                            number,
                            "give a number that the kernel has: major to 4095, minor to 1048575",
                        ));
                    }
                }
                Ok(())
            }
            "p" => Ok(()),
            _ => Err(Error::field(
                format!("{at}.type"),
                &self.kind,
                "give c, u, b or p",
            )),
        }
    }
}
