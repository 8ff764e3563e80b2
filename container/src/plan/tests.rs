//! The story of a plan: who does what, in which order, and that no part of it can fail in silence.

use nix::errno::Errno;
use proptest::prelude::*;

use super::*;
use crate::cgroup::Layout;
use crate::config::Config;
use crate::execute::tests::Recorder;
use crate::execute::{Kernel, perform};
use crate::mount::view::{Place, Way};
use crate::plan::step::Otherwise;

fn root_host() -> Host {
    let root = Place {
        path: "/".into(),
        way: Way::Layer,
        mode: 0o755,
        owner: (0, 0),
        flags: nix::mount::MsFlags::empty(),
        is_directory: true,
        is_mount: false,
    };
    let home = Place {
        path: "/home".into(),
        is_mount: true,
        ..root.clone()
    };
    Host {
        places: vec![root, home],
        ..Host::for_tests()
    }
}

fn user_host() -> Host {
    let mut host = root_host();
    host.places[0].way = Way::Directory;
    Host {
        user: 1000,
        group: 100,
        is_privileged: false,
        capabilities: 0,
        ..host
    }
}

fn story(config: &Config, host: &Host) -> String {
    plan(config, host).expect("a plan").to_string()
}

/// That each of `parts` comes after the one before it.
#[track_caller]
fn assert_in_order(story: &str, parts: &[&str]) {
    let mut rest = story;
    for part in parts {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("{part:?} is not in its place in\n{story}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn root_needs_no_user_namespace_and_waits_for_nobody() {
    let story = story(&Config::new(["true"]), &root_host());
    assert_in_order(
        &story,
        &[
            "clone3(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)",
            "close_range",
            "PR_SET_DUMPABLE",
            "unshare(CLONE_NEWCGROUP)",
            "MS_REC | MS_PRIVATE",
            r#""tmpfs""#,
            "lowerdir=/,",
            "lowerdir=/home,",
            r#"mount("proc""#,
            "pivot_root",
            "umount2",
            "capset(0xa00425fb)",
            "PR_SET_NO_NEW_PRIVS",
            r#"chdir("/")"#,
            "execve",
        ],
    );
    for absent in [
        "CLONE_NEWUSER",
        "uid_map",
        "read(the runtime)",
        "mkdir(a cgroup",
    ] {
        assert!(!story.contains(absent), "{absent:?} is in\n{story}");
    }
}

#[test]
fn a_user_is_mapped_before_anything_needs_privilege() {
    let story = story(&Config::new(["true"]), &user_host());
    assert_in_order(
        &story,
        &[
            "clone3(CLONE_NEWUSER | CLONE_NEWNS",
            r#"uid_map, "0 1000 1""#,
            r#"setgroups, "deny""#,
            r#"gid_map, "0 100 1""#,
            "go on",
            "close_range",
            "read(the runtime)",
            "PR_SET_DUMPABLE",
            "sethostname",
            "MS_PRIVATE",
            r#"mount("ringside", "root", "tmpfs""#,
            "userxattr",
            r#"mount("/dev/null", "root/dev/null", NULL, MS_BIND"#,
        ],
    );
    assert!(
        !story.contains("mknod"),
        "a user makes no device nodes:\n{story}"
    );
}

#[test]
fn a_limit_makes_a_cgroup_and_names_who_asked() {
    let Ok(layout) = Layout::detect() else { return };
    if !layout
        .controllers()
        .contains(crate::cgroup::Controller::Pids)
    {
        eprintln!("skipped: this host has no cgroup controller pids");
        return;
    }
    let mut config = Config::new(["true"]);
    config.limits.pids = Some(7);
    let host = Host {
        cgroups: Some(layout),
        ..root_host()
    };
    let story = story(&config, &host);
    assert_in_order(
        &story,
        &[
            "mkdir(a cgroup with pids)",
            "write(pids.max = 7)",
            "clone3(",
            "close_range",
        ],
    );
    assert!(story.contains("asked by `limits`"), "{story}");
    // Born in it, or entering by itself before anything else.
    let enters = story
        .find("write(the cgroup's tasks")
        .is_some_and(|at| at < story.find("close_range").unwrap());
    assert_ne!(story.contains("CLONE_INTO_CGROUP"), enters, "{story}");
}

#[test]
fn a_limit_on_a_host_that_nobody_looked_at_is_refused() {
    let mut config = Config::new(["true"]);
    config.limits.pids = Some(7);
    assert!(matches!(plan(&config, &root_host()), Err(Error::NoCgroups)));
}

#[test]
fn candidates_follow_the_path_of_the_command_s_environment() {
    let mut config = Config::new(["sh"]);
    config.env = vec![("PATH".into(), "/a::/b/".into())];
    let paths = |config: &Config| plan(config, &root_host()).unwrap().candidates;
    assert_eq!(
        paths(&config),
        [c"/a/sh".to_owned(), c"./sh".to_owned(), c"/b/sh".to_owned()]
    );
    config.command = vec!["./sh".into()];
    assert_eq!(paths(&config), [c"./sh".to_owned()]);
}

/// Every call of a plan, refused once: the step fails at that very call, or has something else to do.
#[test]
fn no_refusal_goes_unnoticed() {
    struct Refusing {
        made: usize,
        refused: usize,
    }
    impl Kernel for Refusing {
        fn call(&mut self, _: &Call) -> Result<(), Errno> {
            self.made += 1;
            if self.made - 1 == self.refused {
                Err(Errno::EPERM)
            } else {
                Ok(())
            }
        }
    }
    for host in [root_host(), user_host()] {
        for step in plan(&Config::new(["true"]), &host).unwrap().steps {
            for refused in 0..step.calls.len() {
                let outcome = perform(&mut Refusing { made: 0, refused }, &step);
                match &step.otherwise {
                    Otherwise::Try(_) => assert!(outcome.is_ok(), "{step}"),
                    _ => assert_eq!(outcome, Err((refused as u16, Errno::EPERM)), "{step}"),
                }
                let error = crate::Error::step(&step, refused as u16, Errno::EPERM).to_string();
                assert!(
                    error.contains(&step.calls[refused].to_string()) && error.contains(&*step.what),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_plan_runs_against_a_recorder_as_it_reads() {
    let plan = plan(&Config::new(["true"]), &root_host()).unwrap();
    let mut kernel = Recorder::default();
    for step in plan.steps_of(Actor::Init) {
        perform(&mut kernel, step).unwrap();
    }
    let planned = plan
        .steps_of(Actor::Init)
        .flat_map(|step| &step.calls)
        .map(ToString::to_string);
    assert_eq!(kernel.calls, planned.collect::<Vec<_>>());
}

proptest! {
    /// Whatever bytes a configuration has, there is a plan or an error that names a field.
    #[test]
    fn any_configuration_is_planned_or_refused_by_name(
        command in prop::collection::vec("\\PC{0,20}|[\\x00-\\x1f]{0,3}", 0..4),
        name in "[A-Z=\\x00]{0,4}", value in "[a-z\\x00:/]{0,20}",
        cwd in "[/a.\\x00]{0,9}", hostname in "[a-z\\x00]{0,70}",
        cpus in prop::option::of(any::<f64>()), pids in prop::option::of(any::<u64>()),
    ) {
        let mut config = Config::new(command);
        config.env = vec![(name.into(), value.clone().into()), ("PATH".into(), value.into())];
        config.cwd = cwd.into();
        config.hostname = hostname.into();
        config.limits.cpus = cpus;
        config.limits.pids = pids;
        match plan(&config, &root_host()) {
            Ok(plan) => prop_assert!(plan.candidates.iter().all(|path| !path.is_empty())),
            Err(error) => prop_assert!(error.to_string().contains('`'), "{error}"),
        }
    }
}
