//! Configurations for the checks that only look at data: nothing here exists on any disk.

use lab10::{Bind, Command, Config, User};
use ringside_lab_harness::Seed;

/// A configuration with the student's own names.
pub fn config(seed: Seed) -> Config {
    let bind = |host: &str, inside: &str, read_only| Bind {
        host: host.into(),
        inside: inside.into(),
        read_only,
    };
    Config {
        root: format!("/srv/{}/root", seed.word("root")).into(),
        hostname: seed.word("host name"),
        binds: vec![
            bind("/usr", "/usr", true),
            bind("/etc/resolv.conf", "/etc/resolv.conf", true),
            bind(&format!("/home/{}", seed.word("home")), "/data/in", false),
        ],
        command: Command {
            program: "/usr/bin/env".into(),
            arguments: vec!["env".into(), seed.word("argument")],
            environment: vec![format!("WORD={}", seed.word("environment"))],
        },
        rootless: None,
    }
}

/// The same for an ordinary user.
pub fn rootless(seed: Seed) -> Config {
    Config {
        rootless: Some(User {
            uid: seed.number("uid", 1001..60_000) as u32,
            gid: seed.number("gid", 1001..60_000) as u32,
        }),
        ..config(seed)
    }
}
