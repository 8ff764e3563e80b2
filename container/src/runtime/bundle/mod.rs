//! From a bundle to a plan: every step of the container that a configuration describes, as data, in the
//! order in which they are taken. Nothing is looked at but the configuration and what is known of the
//! host.

pub mod label;
pub mod limit_fields;
pub mod limits;
mod mounts;
pub mod process;
pub mod seccomp;
mod syscalls;

pub use mounts::{NO_FAIL, default_devices, options as mount_options, target as mount_target};

use std::ffi::CString;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use crate::namespace::{Namespace, Namespaces};
use crate::plan::call::{Call, text};
use crate::plan::oci::{HookKind, OciCall};
use crate::plan::step::{Otherwise, Step};
use crate::spec::{Error, NamespaceKind, Spec};

/// What a command says about the container besides its bundle.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The root is moved instead of pivoted.
    pub no_pivot: bool,
    /// The caller's session keyring stays.
    pub no_new_keyring: bool,
    /// Whether an ordinary user makes it.
    pub is_rootless: bool,
    /// Whether the terminal is the runtime's own to copy.
    pub is_relayed: bool,
    /// Whether `start` is waited for.
    pub waits_for_start: bool,
}

/// The root directory of a bundle's container.
pub fn root(spec: &Spec, bundle: &Path) -> PathBuf {
    bundle.join(
        spec.root
            .as_ref()
            .map_or("rootfs", |root| root.path.as_str()),
    )
}

/// The namespaces that init is born with.
pub fn new_namespaces(spec: &Spec) -> Namespaces {
    let new = spec.linux.namespaces.iter().filter(|it| it.path.is_empty());
    // The others are entered later: cgroup when the group is, time when its clocks are set.
    new.map(|it| it.kind.kernel())
        .filter(|kind| !matches!(kind, Namespace::Cgroup | Namespace::Time))
        .collect()
}

/// The namespaces that are joined by the runtime before it clones init.
pub fn joins(spec: &Spec) -> impl Iterator<Item = (usize, Namespace, &str)> {
    let listed = spec.linux.namespaces.iter().enumerate();
    listed
        .filter(|(_, it)| !it.path.is_empty())
        .map(|(index, it)| (index, it.kind.kernel(), it.path.as_str()))
}

/// Whether `kind` is made anew.
pub fn is_new(spec: &Spec, kind: NamespaceKind) -> bool {
    spec.namespace(kind).is_some_and(|it| it.path.is_empty())
}

/// Init's steps.
///
/// # Errors
/// A field that cannot be mapped to what the kernel has.
pub fn init_steps(spec: &Spec, bundle: &Path, options: &Options) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::with_capacity(64);
    prepare(&mut steps, spec, options)?;
    build_root(&mut steps, spec, bundle, options)?;
    if let Some(process) = &spec.process {
        process::steps(&mut steps, process, spec, options)?;
    }
    Ok(steps)
}

fn oci(
    what: impl Into<std::borrow::Cow<'static, str>>,
    why: &'static str,
    calls: Vec<OciCall>,
) -> Step {
    Step::init(what, why, calls.into_iter().map(Call::Oci).collect())
}

fn prepare(steps: &mut Vec<Step>, spec: &Spec, options: &Options) -> Result<(), Error> {
    if is_new(spec, NamespaceKind::Time) && !spec.linux.time_offsets.is_empty() {
        steps.push(
            oci(
                "open what sets its clocks",
                "when nobody may look into it, it may not either",
                vec![OciCall::OpenClocks],
            )
            .asked_by("linux.timeOffsets"),
        );
    }
    if let Some(process) = &spec.process {
        label::open(steps, process)?;
    }
    let mut alone = vec![Call::CloseDescriptors, Call::DieWithRuntime];
    // An ordinary user could not map the users of a process that is not dumpable (`man 5 proc`); in its
    // new user namespace nobody else is yet, and it becomes so below.
    if !is_new(spec, NamespaceKind::User) {
        alone.push(Call::NotDumpable);
    }
    steps.push(Step::init(
        "let go of the host's descriptors",
        "an open directory of the host is a way out",
        alone,
    ));
    steps.push(Step::init(
        "wait until it is written down",
        "whatever happens from here on, it can be found again",
        vec![Call::AwaitRelease],
    ));
    if spec.has(NamespaceKind::User) {
        let mut calls = vec![Call::Oci(OciCall::BecomeRoot)];
        // Of a process that is not dumpable an ordinary user could neither take a filter's listener nor enter the
        // namespaces. In one of their own nobody else is, and what is open here is that user's.
        if !(options.is_rootless && is_new(spec, NamespaceKind::User)) {
            calls.push(Call::NotDumpable);
        }
        calls.push(Call::DieWithRuntime);
        steps.push(
            Step::init(
                "become root of its user namespace",
                "before its users were mapped, nobody was anybody",
                calls,
            )
            .asked_by("linux.uidMappings"),
        );
    }
    let mut session = vec![Call::Oci(OciCall::NewSession)];
    if !options.no_new_keyring {
        session.push(Call::NewKeyring);
    }
    steps.push(Step::init(
        "begin a session",
        "the caller's terminal and keys stay behind",
        session,
    ));
    if is_new(spec, NamespaceKind::Cgroup) {
        steps.push(
            Step::init(
                "make its cgroup look like the topmost",
                "the host's names for groups are none of its business",
                vec![Call::Unshare {
                    namespaces: Namespaces::NONE.with(Namespace::Cgroup),
                }],
            )
            .asked_by("linux.namespaces"),
        );
    }
    if is_new(spec, NamespaceKind::Time) {
        let offsets: String = spec
            .linux
            .time_offsets
            .iter()
            .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs, offset.nanosecs))
            .collect();
        let mut calls = vec![Call::Unshare {
            namespaces: Namespaces::NONE.with(Namespace::Time),
        }];
        if !offsets.is_empty() {
            calls.push(Call::Oci(OciCall::SetClocks {
                offsets: text(offsets),
            }));
        }
        calls.push(Call::Oci(OciCall::Join {
            kind: Namespace::Time,
            path: text("/proc/self/ns/time_for_children"),
        }));
        steps.push(
            Step::init(
                "set its clocks",
                "they can only be set while nobody is in the namespace",
                calls,
            )
            .asked_by("linux.timeOffsets"),
        );
    }
    if is_new(spec, NamespaceKind::Network) {
        steps.push(
            Step::init(
                "bring the loopback interface up",
                "127.0.0.1 starts out down",
                vec![Call::LoopbackUp],
            )
            .asked_by("linux.namespaces"),
        );
    }
    if let Some(name) = spec.hostname.as_ref().filter(|name| !name.is_empty()) {
        let call = Call::SetHostname {
            name: text(name.as_str()),
        };
        steps.push(
            Step::init(
                "name the host",
                "the UTS namespace starts as a copy",
                vec![call],
            )
            .asked_by("hostname"),
        );
    }
    if let Some(name) = spec.domainname.as_ref().filter(|name| !name.is_empty()) {
        let name = text(name.as_str());
        steps.push(
            oci(
                "name its domain",
                "the UTS namespace starts as a copy",
                vec![OciCall::SetDomainname { name }],
            )
            .asked_by("domainname"),
        );
    }
    // Through the host's /proc, which the container has had no hand in; init's namespaces decide.
    let sysctls = spec.linux.sysctl.iter().map(|(name, value)| {
        let path = if name.contains('/') {
            name.clone()
        } else {
            name.replace('.', "/")
        };
        (path, value.as_str(), format!("linux.sysctl.{name}"))
    });
    for (path, value, field) in sysctls {
        let call = OciCall::Write {
            path: text(format!("/proc/sys/{path}")),
            text: text(value),
        };
        steps.push(
            oci(
                "set a kernel parameter",
                "it belongs to one of its namespaces",
                vec![call],
            )
            .asked_by(field),
        );
    }
    Ok(())
}

/// From the host's mounts to the container's.
fn build_root(
    steps: &mut Vec<Step>,
    spec: &Spec,
    bundle: &Path,
    options: &Options,
) -> Result<(), Error> {
    let path = root(spec, bundle);
    let has_own_mounts = is_new(spec, NamespaceKind::Mount);
    // The files and modes that follow are to be as they are asked for.
    steps.push(
        Step::init(
            "make the root a mount",
            "only a mount can be pivoted to",
            vec![
                Call::Umask { mask: 0 },
                Call::Oci(OciCall::OpenRoot {
                    path: text(path.as_os_str().as_encoded_bytes()),
                    // Others' mounts are left as they are.
                    propagation: has_own_mounts.then(|| {
                        let asked = propagation(&spec.linux.rootfs_propagation)
                            .unwrap_or(MsFlags::MS_SLAVE | MsFlags::MS_REC);
                        // The root itself is still to be bound.
                        if asked.contains(MsFlags::MS_UNBINDABLE) {
                            MsFlags::MS_PRIVATE | MsFlags::MS_REC
                        } else {
                            asked
                        }
                    }),
                }),
            ],
        )
        .asked_by("root.path"),
    );
    mounts::steps(steps, spec, bundle)?;
    if let Some(process) = &spec.process
        && process.terminal
    {
        let size = process.console_size.map(|size| (size.height, size.width));
        steps.push(
            oci(
                "give it a terminal",
                "programs for people need one",
                vec![OciCall::Terminal {
                    owner: process.user.uid,
                    size,
                    is_relayed: options.is_relayed,
                }],
            )
            .asked_by("process.terminal"),
        );
    }
    mounts::hide(steps, spec);
    if !spec.hooks.prestart.is_empty() || !spec.hooks.create_runtime.is_empty() {
        steps.push(
            oci(
                "wait for the runtime's hooks",
                "they may change its namespaces from outside",
                vec![OciCall::AwaitHooks],
            )
            .asked_by("hooks.createRuntime"),
        );
    }
    if !spec.hooks.create_container.is_empty() {
        steps.push(
            oci(
                "run hooks in its namespaces",
                "the host's files are still in sight",
                vec![OciCall::RunHooks {
                    kind: HookKind::CreateContainer,
                }],
            )
            .asked_by("hooks.createContainer"),
        );
    }
    let enter = match (has_own_mounts, options.no_pivot) {
        (true, false) => OciCall::PivotRoot,
        (true, true) => OciCall::MoveRoot,
        // `pivot_root` would change the root of everybody in that namespace.
        (false, _) => OciCall::Chroot,
    };
    steps.push(oci(
        "enter the root",
        "from here on there is no way to the host's files",
        vec![enter],
    ));
    let mut last = Vec::new();
    if let Some(flags) = propagation(&spec.linux.rootfs_propagation) {
        last.push(OciCall::RootPropagation { flags });
    }
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        last.push(OciCall::RootReadOnly);
    }
    if !last.is_empty() {
        steps.push(
            oci(
                "finish the root",
                "now that everything is in its place",
                last,
            )
            .asked_by("root.readonly"),
        );
    }
    Ok(())
}

fn propagation(name: &str) -> Option<MsFlags> {
    let flags = match name.strip_prefix('r').unwrap_or(name) {
        "shared" => MsFlags::MS_SHARED,
        "slave" => MsFlags::MS_SLAVE,
        "private" => MsFlags::MS_PRIVATE,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        _ => return None,
    };
    Some(flags | MsFlags::MS_REC)
}

/// A path or text of the configuration, which was checked for NUL bytes.
fn c(value: &str) -> CString {
    text(value)
}

/// Passing over what is not there.
fn if_there(step: Step) -> Step {
    step.or(Otherwise::PassAbsent)
}

#[cfg(test)]
mod tests;
