//! `delete`: what there is of a container goes, in whatever state it is.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::Error;
use super::executor::Runtime;
use super::state::{Directory, Record};
use super::status::{group, refuse, status};
use crate::Observer;
use crate::cgroup::Group;
use crate::execute::take_steps;
use crate::plan::Plan;
use crate::spec::Spec;

/// What [`delete`] knows before it does anything.
struct Doomed {
    directory: Directory,
    record: Record,
    spec: Option<Spec>,
    group: Option<Group>,
    init: Option<OwnedFd>,
    plan: Plan,
}

impl Doomed {
    fn open(root: &Path, id: &str, force: bool) -> Result<Self, Error> {
        let directory = Directory::open(root, id)?;
        let spec = Spec::read(&directory.path.join("config.json")).ok();
        let record = match directory.load() {
            // Its maker was killed before it wrote it down.
            Err(Error::File { .. }) => None,
            Err(Error::Json { .. }) if force => None,
            other => Some(other?),
        };
        let lives = record.as_ref().and_then(|it| it.waiting(&directory.path));
        let (init, waits) = lives.unzip();
        // One that was created and never started has nothing to lose.
        if let Some(record) = &record
            && waits == Some(false)
            && !force
        {
            return Err(refuse(
                "delete",
                id,
                status(&directory.path, record),
                " that is not stopped; end it, or give --force",
            ));
        }
        let scope = record.is_none().then(|| directory.scope()).flatten();
        let group = match (&record, &spec) {
            (Some(record), _) if init.is_some() => group(record).ok(),
            // Its directories are systemd's, and go with it.
            (None, _) if scope.is_some() => None,
            (None, Some(spec)) => Some(super::create::unfinished_group(spec, id)?),
            // Where nobody is left, or nothing was made, nobody is to be killed.
            _ => None,
        };
        let pid = init.as_ref().and(record.as_ref()).map(|record| record.pid);
        let record = record.unwrap_or_else(|| Record {
            id: id.into(),
            cgroup_paths: group
                .iter()
                .flat_map(Group::paths)
                .map(Path::to_owned)
                .collect(),
            scope,
            ..Record::default()
        });
        let path = &directory.path;
        Ok(Self {
            plan: super::plan::delete(spec.as_ref(), &record, path, pid),
            record,
            directory,
            spec,
            group,
            init,
        })
    }
}

/// Removes a container that has ended, or with `force` one that has not.
///
/// # Errors
/// [`Error::NotFound`], or [`Error::State`] for one that still runs.
pub fn delete(
    root: &Path,
    id: &str,
    force: bool,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    let doomed = match Doomed::open(root, id, force) {
        Err(Error::NotFound(_)) if force => return Ok(()),
        other => other?,
    };
    let mut runtime = Runtime {
        spec: doomed.spec.as_ref(),
        record: doomed.record,
        directory: Some(doomed.directory),
        group: doomed.group,
        target: doomed.init,
        ..Runtime::new(&doomed.plan, observer)
    };
    take_steps(&mut runtime, &doomed.plan)
}

/// What [`delete`] would do.
///
/// # Errors
/// As [`delete`].
pub fn dry_delete(root: &Path, id: &str, force: bool) -> Result<Plan, Error> {
    Ok(Doomed::open(root, id, force)?.plan)
}
