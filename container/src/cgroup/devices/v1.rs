//! Version 1 knows a default (allow or deny everything) and exceptions from it, but no exceptions
//! from exceptions: so the list of rules is brought into that shape first.
//!
//! ```text
//! echo a            > devices.deny      nothing, and forget all exceptions
//! echo 'c 1:3 rwm'  > devices.allow     except /dev/null
//! cat devices.list                      c 1:3 rwm
//! ```

use super::super::directory::Directory;
use super::super::{Error, Result};
use super::{DeviceAccess, DeviceKind, DeviceRule};

/// Write a rule to allow it, or `a` for everything.
const ALLOW: &str = "devices.allow";
/// Write a rule to deny it, or `a` for everything.
const DENY: &str = "devices.deny";
/// `a *:* rwm` while everything is allowed by default (exceptions are not shown), else the
/// exceptions.
const LIST: &str = "devices.list";

/// A default and the exceptions from it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub allow: bool,
    pub exceptions: Vec<DeviceRule>,
}

/// The text of a rule in the control files.
pub(super) fn text(rule: &DeviceRule) -> String {
    let number = |n: Option<u32>| n.map_or("*".into(), |n| n.to_string());
    let kind = match rule.kind {
        DeviceKind::All => 'a',
        DeviceKind::Char => 'c',
        DeviceKind::Block => 'b',
    };
    format!(
        "{kind} {}:{} {}",
        number(rule.major),
        number(rule.minor),
        rule.access
    )
}

/// Reads a line of `devices.list`.
fn parse(line: &str) -> Option<DeviceRule> {
    let mut words = line.split_ascii_whitespace();
    let kind = match words.next()? {
        "a" => DeviceKind::All,
        "c" => DeviceKind::Char,
        "b" => DeviceKind::Block,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |n: &str| match n {
        "*" => Some(None),
        n => n.parse().ok().map(Some),
    };
    Some(DeviceRule {
        allow: true,
        kind,
        major: number(major)?,
        minor: number(minor)?,
        access: DeviceAccess::parse(words.next()?)?,
    })
}

/// Whether `a` means every device that `b` means, or some of them.
fn covers(a: &DeviceRule, b: &DeviceRule) -> bool {
    let number = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
    (a.kind == DeviceKind::All || a.kind == b.kind)
        && number(a.major, b.major)
        && number(a.minor, b.minor)
}

fn overlaps(a: &DeviceRule, b: &DeviceRule) -> bool {
    let number = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    let kind = a.kind == DeviceKind::All || b.kind == DeviceKind::All || a.kind == b.kind;
    kind && number(a.major, b.major) && number(a.minor, b.minor)
}

/// Brings rules into version 1's shape, with the same meaning.
pub(super) fn shape(rules: &[DeviceRule]) -> Result<Shape> {
    let mut shape = Shape {
        allow: false,
        exceptions: Vec::new(),
    };
    for (index, rule) in rules.iter().enumerate() {
        let fail = |why| {
            Err(Error::DeviceRule {
                index,
                rule: *rule,
                why,
            })
        };
        let everything = DeviceRule::everything(rule.allow);
        if covers(rule, &everything) && rule.access == DeviceAccess::ALL {
            shape.allow = rule.allow;
            shape.exceptions.clear();
            continue;
        }
        // The kernel reads only the letter of a rule for `a`, and takes it for everything.
        for kind in kinds(rule.kind) {
            let rule = DeviceRule { kind, ..*rule };
            if rule.allow != shape.allow {
                shape.add(rule);
            } else if !shape.narrow(&rule) {
                return fail(
                    "cgroup v1 cannot make an exception from a wider rule before it; name the \
                     devices of the wider rule one by one",
                );
            }
        }
    }
    Ok(shape)
}

fn kinds(kind: DeviceKind) -> Vec<DeviceKind> {
    match kind {
        DeviceKind::All => vec![DeviceKind::Char, DeviceKind::Block],
        one => vec![one],
    }
}

impl Shape {
    fn add(&mut self, rule: DeviceRule) {
        let same =
            |e: &&mut DeviceRule| (e.kind, e.major, e.minor) == (rule.kind, rule.major, rule.minor);
        match self.exceptions.iter_mut().find(same) {
            Some(e) => e.access = DeviceAccess::of(e.access.bits() | rule.access.bits()),
            None => self.exceptions.push(rule),
        }
    }

    /// Takes what `rule` covers out of the exceptions; false if only part of an exception's devices
    /// would go, which version 1 cannot say.
    fn narrow(&mut self, rule: &DeviceRule) -> bool {
        for e in &mut self.exceptions {
            let left = e.access.bits() & !rule.access.bits();
            if covers(rule, e) {
                e.access = DeviceAccess::of(left);
            } else if overlaps(rule, e) && left != e.access.bits() {
                return false;
            }
        }
        self.exceptions.retain(|e| e.access.bits() != 0);
        true
    }
}

/// Makes `rules` hold in the group. When the group denies by default before and after, only the
/// differences are written: running processes never lose what they keep, and groups below (in
/// which the kernel forbids a change of the default) are no obstacle.
pub(super) fn apply(rules: &[DeviceRule], dir: &Directory) -> Result<()> {
    let wanted = shape(rules)?;
    let list = dir.read(LIST)?;
    let old: Vec<DeviceRule> = list.lines().filter_map(parse).collect();
    let allows = old.iter().any(|rule| rule.kind == DeviceKind::All);
    if allows || wanted.allow {
        let (default, except) = if wanted.allow {
            (ALLOW, DENY)
        } else {
            (DENY, ALLOW)
        };
        dir.write(default, "a")?;
        return dir.write_each(except, wanted.exceptions.iter().map(text));
    }
    let new = wanted.exceptions.iter().filter(|rule| !old.contains(rule));
    dir.write_each(ALLOW, new.map(text))?;
    for rule in &old {
        // The kernel takes away from exceptions with exactly these numbers only.
        let same =
            |e: &&DeviceRule| (e.kind, e.major, e.minor) == (rule.kind, rule.major, rule.minor);
        let kept = wanted
            .exceptions
            .iter()
            .find(same)
            .map_or(0, |e| e.access.bits());
        let gone = DeviceAccess::of(rule.access.bits() & !kept);
        if gone.bits() != 0 {
            dir.write(
                DENY,
                &text(&DeviceRule {
                    access: gone,
                    ..*rule
                }),
            )?;
        }
    }
    Ok(())
}
