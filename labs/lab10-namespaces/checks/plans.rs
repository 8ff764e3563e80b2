//! Checks 10.1 to 10.3: the plan, as data. Any order that works is right; each rule is one that a
//! kernel or an attacker would enforce.

use std::path::{Path, PathBuf};

use lab10::{Bind, Config, Namespace, Plan, PlanError, Step, plan};
use ringside_lab_harness::{Context, Failure, Outcome, attempt, compare, ensure};

use crate::sample;

const LOOK: &str = "`plan` in src/lib.rs";

/// A plan, read by rules.
struct Reader<'a> {
    config: &'a Config,
    plan: &'a Plan,
}

fn planned(config: &Config) -> Result<Plan, Failure> {
    let ran = || format!("plan of {config:?}");
    attempt(ran, LOOK, || plan(config))?
        .map_err(|error| Failure::found(ran(), "a plan", format!("the refusal: {error}"), LOOK))
}

pub fn order(context: &Context) -> Outcome {
    let config = sample::config(context.seed);
    let plan = planned(&config)?;
    let reader = Reader {
        config: &config,
        plan: &plan,
    };
    use Namespace::{Ipc, Mount, Pid, Uts};
    for namespace in [Mount, Pid, Uts, Ipc] {
        let expected = format!("{namespace:?} among the namespaces");
        reader.rule(
            plan.namespaces.contains(&namespace),
            &expected,
            "`plan`: the list in its comment",
        )?;
    }
    reader.mounts()?;
    let bare = Config {
        binds: Vec::new(),
        ..config.clone()
    };
    let extra = planned(&bare)?.steps.into_iter().filter(|step| match step {
        Step::Bind { to, .. } => *to != config.root,
        Step::ReadOnly { .. } => true,
        _ => false,
    });
    let extra: Vec<_> = extra.collect();
    let ran = "plan of a configuration without binds";
    compare(
        ran,
        Vec::new(),
        extra,
        "`plan`: what the host shares is in config.binds, and nothing else",
    )
}

impl Reader<'_> {
    /// Where a step is that `is`.
    fn place(&self, is: impl Fn(&Step) -> bool) -> Option<usize> {
        self.plan.steps.iter().position(is)
    }

    fn rule(&self, holds: bool, expected: &str, look: &str) -> Outcome {
        let got = || {
            let steps = self.plan.steps.iter().enumerate();
            let lines: Vec<_> = steps.map(|(n, step)| format!("{n:2} {step:?}")).collect();
            format!(
                "namespaces {:?}\n{}",
                self.plan.namespaces,
                lines.join("\n")
            )
        };
        let Config { root, binds, .. } = self.config;
        let ran = format!(
            "plan of the root {} with {} binds",
            root.display(),
            binds.len()
        );
        ensure(holds, ran, expected, got, look)
    }

    /// `before` and `after` are both there, in this order.
    fn ordered(
        &self,
        before: Option<usize>,
        after: Option<usize>,
        what: &str,
        look: &str,
    ) -> Outcome {
        let holds = matches!((before, after), (Some(before), Some(after)) if before < after);
        self.rule(holds, what, look)
    }

    /// The mounts that are made while the host's tree can still be seen.
    fn mounts(&self) -> Outcome {
        let Config { root, binds, .. } = self.config;
        let private = self.place(|step| *step == Step::MakePrivate);
        let first_mount = self.place(|step| {
            matches!(
                step,
                Step::Bind { .. }
                    | Step::MountProc { .. }
                    | Step::PivotRoot { .. }
                    | Step::Detach { .. }
            )
        });
        let look = "`plan`: a new mount namespace is a copy that is still tied to the host's; cut the tie first";
        self.ordered(private, first_mount, "MakePrivate before every mount", look)?;
        let pivot = self.place(|step| matches!(step, Step::PivotRoot { .. }));
        let detach = self.place(|step| matches!(step, Step::Detach { .. }));
        let own_root = self
            .place(|step| matches!(step, Step::Bind { from, to } if from == root && to == root));
        let look = "`plan`: pivot_root wants a mount point, and a directory becomes one when it is bound onto itself";
        self.rule(own_root.is_some(), "the root bound onto itself", look)?;
        self.root()?;
        self.ordered(
            own_root,
            pivot,
            "the root bound onto itself, before PivotRoot",
            look,
        )?;
        for bind in binds {
            self.bind(bind, own_root, pivot)?;
        }
        let target = root.join("proc");
        let proc = self.place(|step| {
            *step
                == Step::MountProc {
                    target: target.clone(),
                }
        });
        let late = self.place(|step| {
            *step
                == Step::MountProc {
                    target: "/proc".into(),
                }
        });
        let before_pivot =
            matches!((own_root, proc, pivot), (Some(a), Some(b), Some(c)) if a < b && b < c);
        let after_pivot =
            matches!((pivot, late, detach), (Some(a), Some(b), Some(c)) if a < b && b < c);
        self.rule(
            before_pivot || after_pivot,
            &format!("MountProc at {} in the new root, while the host's /proc is there", target.display()),
            "`plan`: /proc must be the container's, and a user namespace may mount one only where another is seen",
        )
    }

    fn bind(&self, bind: &Bind, own_root: Option<usize>, pivot: Option<usize>) -> Outcome {
        let relative = bind.inside.strip_prefix("/").unwrap_or(&bind.inside);
        let to = self.config.root.join(relative);
        let is_bind = |step: &Step| {
            *step
                == Step::Bind {
                    from: bind.host.clone(),
                    to: to.clone(),
                }
        };
        let bound = self.place(is_bind);
        let (from, at) = (bind.host.display(), to.display());
        let what = format!("{from} bound at {at}, after the root is bound and before PivotRoot");
        let look =
            "`plan`: a bind's place is below the new root; after PivotRoot the host's path is gone";
        self.ordered(own_root, bound, &what, look)?;
        self.ordered(bound, pivot, &what, look)?;
        let read_only = self.place(|step| *step == Step::ReadOnly { target: to.clone() });
        if !bind.read_only {
            return self.rule(read_only.is_none(), &format!("{at} stays writable"), LOOK);
        }
        let look = "`plan`: a bind takes the flags of what it binds; read-only is a second call";
        self.ordered(
            bound,
            read_only,
            &format!("ReadOnly of {at} after its bind"),
            look,
        )?;
        self.ordered(
            read_only,
            pivot,
            &format!("ReadOnly of {at} before PivotRoot, by this name"),
            look,
        )
    }

    /// The change of root.
    fn root(&self) -> Outcome {
        let root = &self.config.root;
        let look = "`plan`: change into the root, pivot_root(\".\", \".\"), detach \".\", change to \"/\"; man 2 pivot_root";
        let pivot = self.place(|step| matches!(step, Step::PivotRoot { .. }));
        self.rule(
            pivot.is_some(),
            "PivotRoot: the host's root leaves the namespace",
            look,
        )?;
        let chroot = self.place(|step| matches!(step, Step::Chroot { .. }));
        let look_chroot =
            "`plan`: chroot only changes where paths begin; the host's tree stays mounted";
        self.rule(chroot.is_none(), "no Chroot", look_chroot)?;
        let Some(Step::PivotRoot { new_root, put_old }) = self
            .plan
            .steps
            .iter()
            .find(|step| matches!(step, Step::PivotRoot { .. }))
        else {
            return Ok(());
        };
        // The two forms of the manual: "." and ".", or a directory below the new root.
        let here = Path::new(".");
        let old_at = if new_root == here && put_old == here {
            let chdir = self.place(|step| *step == Step::ChangeDirectory(root.clone()));
            self.ordered(
                chdir,
                pivot,
                "ChangeDirectory to the root before PivotRoot of \".\"",
                look,
            )?;
            PathBuf::from(".")
        } else {
            let below = put_old.strip_prefix(root).ok();
            let expected = "PivotRoot of \".\" and \".\", or of the root and a directory below it";
            self.rule(new_root == root && below.is_some(), expected, look)?;
            Path::new("/").join(below.unwrap_or(here))
        };
        let detach = self.place(|step| {
            *step
                == Step::Detach {
                    target: old_at.clone(),
                }
        });
        let what = format!(
            "Detach of the old root at {}, after PivotRoot",
            old_at.display()
        );
        let look_detach =
            "`plan`: as long as the old root is mounted somewhere, it can be walked into";
        self.ordered(pivot, detach, &what, look_detach)?;
        let home = self
            .plan
            .steps
            .iter()
            .rposition(|step| *step == Step::ChangeDirectory("/".into()));
        let what = "ChangeDirectory to \"/\" after PivotRoot, and no other afterwards";
        self.ordered(
            pivot,
            home,
            what,
            "`plan`: the working directory is a way out like any other",
        )?;
        let name = self.place(|step| *step == Step::SetHostname(self.config.hostname.clone()));
        self.rule(name.is_some(), "SetHostname of config.hostname", LOOK)
    }
}

pub fn rootless(context: &Context) -> Outcome {
    let config = sample::config(context.seed);
    let plan = planned(&config)?;
    let reader = Reader {
        config: &config,
        plan: &plan,
    };
    let writes = |step: &Step| matches!(step, Step::WriteFile { .. });
    reader.rule(
        !plan.namespaces.contains(&Namespace::User) && !plan.steps.iter().any(writes),
        "no user namespace for root, who needs none",
        "`plan`: only with config.rootless",
    )?;
    let config = sample::rootless(context.seed);
    let Some(user) = config.rootless else {
        return Ok(());
    };
    let plan = planned(&config)?;
    let reader = Reader {
        config: &config,
        plan: &plan,
    };
    reader.rule(
        plan.namespaces.contains(&Namespace::User),
        "User among the namespaces: it gives the right to all others",
        "`plan`: config.rootless",
    )?;
    let written = |file: &str, text: String| {
        let path = Path::new("/proc/self").join(file);
        reader.place(|step| match step {
            Step::WriteFile {
                path: at,
                text: what,
            } => *at == path && what.trim_end() == text,
            _ => false,
        })
    };
    let look =
        "`plan`: man 7 user_namespaces, \"User and group ID mappings\": inside, outside, how many";
    let uid_map = written("uid_map", format!("0 {} 1", user.uid));
    let gid_map = written("gid_map", format!("0 {} 1", user.gid));
    let expected = format!("\"0 {} 1\" written to /proc/self/uid_map", user.uid);
    reader.rule(uid_map.is_some(), &expected, look)?;
    let expected = format!("\"0 {} 1\" written to /proc/self/gid_map", user.gid);
    reader.rule(gid_map.is_some(), &expected, look)?;
    let look = "`plan`: an ordinary user may map groups only after giving up setgroups; else a group that \
                denies something could be dropped";
    let setgroups = written("setgroups", "deny".into());
    reader.ordered(
        setgroups,
        gid_map,
        "\"deny\" written to /proc/self/setgroups before gid_map",
        look,
    )?;
    let first = reader.place(|step| !writes(step));
    let last = plan.steps.iter().rposition(writes);
    let look =
        "`plan`: before the maps are written nobody is anybody there, and files belong to no one";
    reader.ordered(last, first, "the three files before everything else", look)?;
    reader.mounts()
}

pub fn refused(context: &Context) -> Outcome {
    let good = sample::config(context.seed);
    planned(&good)?;
    let look = "`plan`: the list of errors above it, before any step";
    let root = |root: &str| Config {
        root: root.into(),
        ..good.clone()
    };
    let inside = |inside: &str| Config {
        binds: vec![
            good.binds[0].clone(),
            Bind {
                inside: inside.into(),
                ..good.binds[2].clone()
            },
        ],
        ..good.clone()
    };
    let hostname = |hostname: String| Config {
        hostname,
        ..good.clone()
    };
    let path = |path: &str| PlanError::Path(path.into());
    let mut program = good.clone();
    program.command.program = "env".into();
    let cases = [
        (root("srv/root"), path("srv/root")),
        (root("/srv/../etc"), path("/srv/../etc")),
        (root(""), path("")),
        (inside("data"), path("data")),
        (inside("/data/../../../etc"), path("/data/../../../etc")),
        (inside("../etc"), path("../etc")),
        (inside("/.."), path("/..")),
        (hostname(String::new()), PlanError::Hostname(String::new())),
        (
            hostname("x".repeat(65)),
            PlanError::Hostname("x".repeat(65)),
        ),
        (program, path("env")),
    ];
    for (config, error) in cases {
        let ran = || format!("plan of {config:?}");
        let got = attempt(ran, look, || plan(&config))?;
        compare(ran(), Err(error), got, look)?;
    }
    // Not too much either: the longest name, and a name that only looks like a way up.
    for config in [
        hostname("x".repeat(64)),
        inside("/data/..in"),
        root("/srv/..."),
    ] {
        planned(&config)?;
    }
    Ok(())
}
