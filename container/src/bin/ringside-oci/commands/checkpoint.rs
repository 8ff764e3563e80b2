//! `checkpoint` and `restore`: a container to files, and back.

use std::path::{Path, PathBuf};

use ringside_container::Observer;
use ringside_container::runtime::checkpoint::{
    CgroupMode, Checkpoint, Images, PageServer, Restore, restore,
};
use ringside_container::runtime::create::Create;
use ringside_container::runtime::{self, foreground};

use super::{Error, id};
use crate::arguments::{Global, Known, Parsed};

pub const CHECKPOINT: [Known; 17] = [
    ("image-path", &[], true),
    ("work-path", &[], true),
    ("parent-path", &[], true),
    ("leave-running", &[], false),
    ("tcp-established", &[], false),
    ("tcp-skip-in-flight", &[], false),
    ("link-remap", &[], false),
    ("ext-unix-sk", &[], false),
    ("shell-job", &[], false),
    ("lazy-pages", &[], false),
    ("status-fd", &[], true),
    ("page-server", &[], true),
    ("file-locks", &[], false),
    ("pre-dump", &[], false),
    ("manage-cgroups-mode", &[], true),
    ("empty-ns", &[], true),
    ("auto-dedup", &[], false),
];

pub const RESTORE: [Known; 18] = [
    ("console-socket", &[], true),
    ("image-path", &[], true),
    ("work-path", &[], true),
    ("tcp-established", &[], false),
    ("ext-unix-sk", &[], false),
    ("shell-job", &[], false),
    ("file-locks", &[], false),
    ("manage-cgroups-mode", &[], true),
    ("bundle", &["b"], true),
    ("detach", &["d"], false),
    ("pid-file", &[], true),
    ("no-subreaper", &[], false),
    ("no-pivot", &[], false),
    ("empty-ns", &[], true),
    ("auto-dedup", &[], false),
    ("lazy-pages", &[], false),
    ("lsm-profile", &[], true),
    ("lsm-mount-context", &[], true),
];

pub fn dumping(global: &Global, parsed: &Parsed) -> Result<Checkpoint, Error> {
    let server = parsed.value("page-server").filter(|it| !it.is_empty());
    let server = server.map(PageServer::parse).transpose();
    let status = parsed.number("status-fd")?.filter(|it| *it != -1);
    Ok(Checkpoint {
        root: global.root.clone(),
        id: id(parsed)?.into(),
        images: images(global, parsed)?,
        parent: parsed.path("parent-path"),
        leaves_running: parsed.has("leave-running"),
        is_partial: parsed.has("pre-dump"),
        tcp_skip_in_flight: parsed.has("tcp-skip-in-flight"),
        link_remap: parsed.has("link-remap"),
        page_server: server.map_err(runtime::Error::from)?,
        status_fd: status,
    })
}

pub fn restoring(global: &Global, parsed: &Parsed) -> Result<Restore, Error> {
    let text = |name: &str| {
        let value = parsed.value(name).filter(|it| !it.is_empty());
        value.map(str::to_owned)
    };
    Ok(Restore {
        create: Create {
            root: global.root.clone(),
            systemd: global.is_systemd,
            id: id(parsed)?.into(),
            bundle: parsed.path("bundle").unwrap_or_else(|| PathBuf::from(".")),
            pid_file: parsed.path("pid-file"),
            console_socket: parsed.path("console-socket"),
            // criu moves into the root by itself, with mounts of its own in between: both ways are one.
            no_pivot: parsed.has("no-pivot"),
            ..Create::default()
        },
        images: images(global, parsed)?,
        lsm_profile: text("lsm-profile"),
        lsm_mount_context: text("lsm-mount-context"),
    })
}

fn images(global: &Global, parsed: &Parsed) -> Result<Images, Error> {
    // The network is always left to others, as with runc; there is nothing else that could be.
    if let Some(other) = parsed.values("empty-ns").iter().find(|it| *it != "network") {
        return Err(
            format!("--empty-ns: namespace {other:?} is not supported; give network").into(),
        );
    }
    let mode = CgroupMode::parse(parsed.value("manage-cgroups-mode").unwrap_or_default());
    Ok(Images {
        program: global.criu.clone().unwrap_or_else(|| PathBuf::from("criu")),
        path: parsed
            .path("image-path")
            .unwrap_or_else(|| Path::new("checkpoint").into()),
        work: parsed.path("work-path"),
        tcp_established: parsed.has("tcp-established"),
        ext_unix_sk: parsed.has("ext-unix-sk"),
        shell_job: parsed.has("shell-job"),
        file_locks: parsed.has("file-locks"),
        auto_dedup: parsed.has("auto-dedup"),
        lazy_pages: parsed.has("lazy-pages"),
        cgroups: mode.map_err(runtime::Error::from)?,
    })
}

pub fn restore_container(
    what: &Restore,
    parsed: &Parsed,
    observer: &mut dyn Observer,
) -> Result<u8, Error> {
    if parsed.has("detach") {
        return Ok(restore::restore(what, observer).map(|_| 0)?);
    }
    if !parsed.has("no-subreaper") {
        foreground::adopt_orphans()?;
    }
    let (left, ended) = restore::restore_attached(what, observer)?;
    left.remove()?;
    Ok(ended.code())
}
