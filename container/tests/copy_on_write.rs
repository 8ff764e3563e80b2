//! The host's files are there to read, and stay as they are whatever the container does to them.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::{host_says, is_root, says};

/// A directory of the host's with something in it, for a container to spoil.
fn prey() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("kept"), "kept\n").unwrap();
    fs::create_dir(directory.path().join("below")).unwrap();
    fs::write(directory.path().join("below/kept"), "kept below\n").unwrap();
    directory
}

#[test]
fn what_a_container_writes_it_reads_and_nobody_else() {
    if !is_root() {
        return;
    }
    let prey = prey();
    let path = prey.path().display();
    let script = format!(
        "cd {path}; cat kept; echo changed > kept; cat kept; rm -r below; mkdir below; echo new > below/new; \
         mv kept moved; ln -s moved link; chmod 600 moved; cat link; ls below"
    );
    assert_eq!(says(&script), "kept\nchanged\nchanged\nnew\n");
    assert_eq!(
        host_says(&format!("cd {path}; ls; cat kept below/*")),
        "below\nkept\nkept\nkept below\n"
    );
}

#[test]
fn nothing_survives_into_the_next_container() {
    if !is_root() {
        return;
    }
    let script = "test ! -e /survivor && echo clean; echo x > /survivor; cat /survivor";
    assert_eq!(says(script), "clean\nx\n");
    assert_eq!(says(script), "clean\nx\n");
    assert!(!std::path::Path::new("/survivor").exists());
}

#[test]
fn even_the_whole_root_can_be_removed() {
    if !is_root() {
        return;
    }
    let prey = prey();
    let path = prey.path().display();
    let script = format!(
        "cp $(command -v rm) {path}/; rm -rf {path} /etc /usr/share/doc; ls /etc {path} 2>/dev/null | wc -l"
    );
    assert_eq!(says(&script), "0\n");
    assert_eq!(
        fs::read_to_string(prey.path().join("below/kept")).unwrap(),
        "kept below\n"
    );
    assert!(fs::read_dir("/etc").unwrap().count() > 10);
}

#[test]
fn a_mount_of_the_host_s_is_seen_and_not_written() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let mounted = format!(
        "mount -t tmpfs -o mode=1770,uid=7,nosuid,noexec none {path}; echo there > {path}/file; \
         mkdir {path}/in; mount -t tmpfs none {path}/in; echo deep > {path}/in/file"
    );
    // In a mount namespace of its own, so that nothing has to be unmounted whatever happens.
    let runtime = std::env::current_exe().unwrap();
    let script = format!(
        "{mounted}; exec {} --ignored --exact --nocapture reads_and_spoils",
        runtime.display()
    );
    let status = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("RINGSIDE_TEST_MOUNT", directory.path())
        .status()
        .expect("unshare");
    assert!(status.success());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// The inner half of the test above.
#[test]
#[ignore = "runs inside of a mount namespace that another test makes"]
fn reads_and_spoils() {
    let path = std::env::var("RINGSIDE_TEST_MOUNT").unwrap();
    let script = format!(
        "cd {path}; cat file in/file; stat -c '%a %u' .; echo spoiled | tee file > in/file; cat file in/file; \
         cp /bin/true .; ./true 2>/dev/null || echo noexec"
    );
    assert_eq!(
        says(&script),
        "there\ndeep\n1770 7\nspoiled\nspoiled\nnoexec\n"
    );
    assert_eq!(
        host_says(&format!("cat {path}/file {path}/in/file")),
        "there\ndeep\n"
    );
}

#[test]
fn a_mounted_file_is_seen_read_only() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "covered\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let runtime = std::env::current_exe().unwrap();
    let script = format!(
        "mount --bind /etc/hostname {0}; exec {1} --ignored --exact --nocapture reads_a_mounted_file",
        file.display(),
        runtime.display()
    );
    let status = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("RINGSIDE_TEST_MOUNT", &file)
        .status()
        .expect("unshare");
    assert!(status.success());
    assert_eq!(fs::read_to_string(file).unwrap(), "covered\n");
}

/// The inner half of the test above.
#[test]
#[ignore = "runs inside of a mount namespace that another test makes"]
fn reads_a_mounted_file() {
    let file = std::env::var("RINGSIDE_TEST_MOUNT").unwrap();
    let script = format!("cat {file}; echo x 2>/dev/null > {file} || echo read-only");
    assert_eq!(
        says(&script),
        format!(
            "{}read-only\n",
            fs::read_to_string("/etc/hostname").unwrap()
        )
    );
}
