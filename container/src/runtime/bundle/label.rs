//! Labels of security modules: AppArmor's profile and SELinux's context of the program
//! (`config.md`, "Linux Process"). The kernel takes them from a file of `/proc/self/attr` at `execve`.
//! A program's label that the kernel has no module for is refused: the container would be less confined
//! than its configuration says.

use std::path::Path;

use super::{c, oci};
use crate::plan::oci::OciCall;
use crate::plan::step::Step;
use crate::spec::{Error, Process};

/// A module of this kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Module {
    AppArmor,
    SeLinux,
}

impl Module {
    /// Whether the kernel has it and it is on.
    fn is_on(self) -> bool {
        match self {
            Self::AppArmor => {
                let on = std::fs::read("/sys/module/apparmor/parameters/enabled");
                on.is_ok_and(|text| text.starts_with(b"Y"))
            }
            Self::SeLinux => Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }

    /// The file that says what the next program is labelled with.
    fn file(self) -> &'static str {
        let own = "/proc/self/attr/apparmor/exec";
        match self {
            // Where several modules are on, each has files of its own.
            Self::AppArmor if Path::new(own).exists() => own,
            _ => "/proc/self/attr/exec",
        }
    }
}

/// Whether this kernel confines by AppArmor, and by SELinux.
pub fn modules() -> (bool, bool) {
    (Module::AppArmor.is_on(), Module::SeLinux.is_on())
}

/// The label of a process, the field that asked for it, and what is written.
fn of(process: &Process) -> Result<Option<(Module, &'static str, String)>, Error> {
    if !process.apparmor_profile.is_empty() {
        let field = "process.apparmorProfile";
        if !Module::AppArmor.is_on() {
            let why = "AppArmor is not enabled in this kernel; boot with apparmor=1, or remove it";
            return Err(Error::field(field, &process.apparmor_profile, why));
        }
        let text = format!("exec {}", process.apparmor_profile);
        return Ok(Some((Module::AppArmor, field, text)));
    }
    if !process.selinux_label.is_empty() {
        let field = "process.selinuxLabel";
        if !Module::SeLinux.is_on() {
            let why = "SELinux is not enabled in this kernel; boot with selinux=1, or remove it";
            return Err(Error::field(field, &process.selinux_label, why));
        }
        return Ok(Some((
            Module::SeLinux,
            field,
            process.selinux_label.clone(),
        )));
    }
    Ok(None)
}

/// The step that opens the kernel's file, while the /proc in sight is the host's.
///
/// # Errors
/// A label that this kernel has no module for.
pub fn open(steps: &mut Vec<Step>, process: &Process) -> Result<(), Error> {
    if let Some((module, field, _)) = of(process)? {
        let path = c(module.file());
        steps.push(
            oci(
                "open where its label goes",
                "a /proc of the container's could be anything",
                vec![OciCall::OpenLabel { path }],
            )
            .asked_by(field),
        );
    }
    Ok(())
}

/// The step that labels the program to come.
///
/// # Errors
/// As [`open`].
pub fn write(steps: &mut Vec<Step>, process: &Process) -> Result<(), Error> {
    if let Some((_, field, text)) = of(process)? {
        steps.push(
            oci(
                "label the program",
                "the kernel's rules are about labels",
                vec![OciCall::Label { text: c(&text) }],
            )
            .asked_by(field),
        );
    }
    Ok(())
}

/// What a label adds to the options of a file system; nothing without one, or without SELinux. It says whom
/// the files are open to: where nobody asks that, the container is no less confined without it.
pub fn context(label: &str) -> Option<String> {
    let is_heeded = !label.is_empty() && Module::SeLinux.is_on();
    is_heeded.then(|| format!("context={label:?}"))
}
