//! A stock Linux kernel's own drivers against every virtio device, in one boot.
//!
//! The kernel is the one that `.ci/hardware-host` keeps. The guest's side of each conversation is
//! this very test binary, which travels in the initramfs and runs as `guest` there.

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::Backlog as Waiting;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, VsockAddr, accept, bind, connect, listen, recv,
    send, socket,
};
use nix::unistd::close;
use ringside_vmm::boot::linux::{Kernel, KernelCache};
use ringside_vmm::device::Streams;
use ringside_vmm::linux::{Config, LinuxMachine, Software};
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::trap::Stop;
use ringside_vmm::virtio::{
    Block, Console, CopyOnWrite, Kind, Net, Raw, Rng, Violation, VirtioBalloon, VirtioDevice, Vsock,
};
use ringside_vmm::vm::{End, Limits};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const DISK_BYTES: u64 = 8 << 20;
const CID: u64 = 9;
const GUEST_PORT: u32 = 5000;
const HOST_PORT: u32 = 80;
const HOST_ADDRESS: &str = "10.9.8.1";
const GUEST_ADDRESS: &str = "10.9.8.2";
const TCP_PORT: u16 = 7000;
const TCP_BYTES: usize = 1 << 20;
const BALLOON_BYTES: u64 = 32 << 20;

const MODULES: [&str; 7] = [
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio-rng",
    "virtio_balloon",
    "vmw_vsock_virtio_transport",
];

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin LD_LIBRARY_PATH=/lib64 RUST_BACKTRACE=1
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module"; done </modules/order
until [ -e /dev/hvc0 ]; do sleep 0.1; done
ifconfig eth0 GUEST netmask 255.255.255.0 up
/guest --ignored --exact runs_inside_of_a_guest --nocapture --test-threads 1 </dev/null >/dev/hvc0 2>&1
echo "status $?" >/dev/hvc0
poweroff -f
"#;

fn run(command: &mut Command) {
    let output = command.output().expect("the program is there");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}

/// The kernel and its modules, or why there are none.
fn kernel() -> Result<(PathBuf, PathBuf), &'static str> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = cache
        .or(home)
        .map(|cache| cache.join("ringside-hardware-host"));
    let packages = folder.and_then(|folder| fs::read_dir(folder).ok());
    let boot = |package: PathBuf| {
        let files = fs::read_dir(package.join("boot")).ok()?;
        let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
        let is_kernel = |path: &PathBuf| path.to_string_lossy().contains("/vmlinuz-");
        Some((paths.find(is_kernel)?, package))
    };
    packages
        .and_then(|mut packages| packages.find_map(|package| boot(package.ok()?.path())))
        .ok_or("no Debian kernel, which .ci/hardware-host fetches")
}

/// Writes the guest's first file system.
fn initramfs(folder: &Path, vmlinuz: &Path, package: &Path) -> File {
    let root = folder.join("root");
    for name in ["bin", "dev", "proc", "sys", "modules", "lib64", "tmp"] {
        fs::create_dir_all(root.join(name)).expect("a folder");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox is there");
    let guest = std::env::current_exe().expect("this program");
    run(Command::new("strip")
        .arg(&guest)
        .arg("-o")
        .arg(root.join("guest")));
    let maps = fs::read_to_string("/proc/self/maps").expect("this program's mappings");
    for path in maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
    {
        if path.contains(".so") {
            let name = Path::new(path).file_name().expect("a file");
            fs::copy(path, root.join("lib64").join(name)).expect("a library");
        }
    }
    let name = vmlinuz.file_name().expect("a file").to_string_lossy();
    let version = name.trim_start_matches("vmlinuz-");
    let shown = Command::new("modprobe")
        .args(["-a", "-d"])
        .arg(package)
        .args(["-S", version, "--show-depends"])
        .args(MODULES)
        .output()
        .expect("modprobe is there");
    assert!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let mut order = Vec::new();
    for line in String::from_utf8_lossy(&shown.stdout).lines() {
        let Some(path) = line.strip_prefix("insmod ") else {
            continue;
        };
        let path = Path::new(path.trim());
        let name = path.file_name().expect("a file").to_owned();
        if !order.contains(&name) {
            fs::copy(path, root.join("modules").join(&name)).expect("a module");
            order.push(name);
        }
    }
    let lines: Vec<String> = order
        .iter()
        .map(|name| name.to_string_lossy().into_owned() + "\n")
        .collect();
    fs::write(root.join("modules/order"), lines.concat()).expect("room");
    let init = root.join("init");
    fs::write(&init, INIT.replace("GUEST", GUEST_ADDRESS)).expect("room");
    run(Command::new("chmod").arg("755").arg(&init));
    let archive = folder.join("initramfs");
    run(Command::new("sh")
        .args(["-c", "find . | cpio -o -H newc --quiet >../initramfs"])
        .current_dir(&root)
        .stdin(Stdio::null()));
    File::open(archive).expect("the archive")
}

/// A tap in a network of its own, and somebody in that network who answers: it gets bytes, and
/// sends them back.
fn network() -> Net {
    let (send, receive) = std::sync::mpsc::channel();
    // A thread has its own network; the rest of the process keeps its.
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may have networks");
        run(Command::new("ip").args(["tuntap", "add", "ring0", "mode", "tap"]));
        let net = Net::tap("ring0", [2, 0, 0, 0, 0, 9]).expect("a tap");
        run(Command::new("ip").args([
            "addr",
            "add",
            &format!("{HOST_ADDRESS}/24"),
            "dev",
            "ring0",
        ]));
        run(Command::new("ip").args(["link", "set", "ring0", "up"]));
        let listener = TcpListener::bind((HOST_ADDRESS, TCP_PORT)).expect("an address");
        send.send(net).expect("somebody waits");
        let (mut stream, _) = listener.accept().expect("the guest");
        let mut bytes = vec![0; TCP_BYTES];
        stream.read_exact(&mut bytes).expect("as many as agreed");
        stream.write_all(&bytes).expect("the guest reads");
    });
    receive.recv().expect("a tap")
}

fn pattern(from: u64, count: usize) -> Vec<u8> {
    (from..)
        .take(count)
        .map(|n| (n ^ n >> 8 ^ n >> 16) as u8)
        .collect()
}

#[test]
fn a_stock_kernels_drivers_work_with_every_device() {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    // Neither module: a KVM that emulates ring 0.
    if !["kvm_amd", "kvm_intel"]
        .iter()
        .any(|name| Path::new("/sys/module").join(name).exists())
    {
        return eprintln!(
            "skipped: a stock kernel does not reach its programs where KVM is software"
        );
    }
    let (vmlinuz, package) = match kernel() {
        Ok(kernel) => kernel,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let first = initramfs(folder.path(), &vmlinuz, &package);
    let kernel = Kernel::open(&vmlinuz, &KernelCache::off()).expect("a kernel");
    for name in ["raw", "base"] {
        fs::write(path(name), pattern(0, DISK_BYTES as usize)).expect("room");
    }

    let (terminal, shown) = Streams::captured();
    let (console, typist) = Console::new(terminal.output).expect("a console");
    let config = Config::default();
    let (serial, kernel_says) = Streams::captured();
    let mut machine = LinuxMachine::new(&kvm, &config, serial.output).expect("a machine");
    let complaints = Arc::new(Mutex::new(Vec::new()));
    let (balloon, host_balloon) = VirtioBalloon::new(machine.memory()).expect("a balloon");
    let mut plug = |device: Box<dyn VirtioDevice>| {
        let list = complaints.clone();
        let complain =
            move |kind: Kind, violation: Violation| list.lock().unwrap().push((kind, violation));
        machine.plug(device, complain).expect("a line");
    };
    let copy = CopyOnWrite::open(&path("base"), &path("upper")).expect("a disk");
    plug(Box::new(Block::new(
        Raw::open(&path("raw"), false).expect("a disk"),
        "raw",
    )));
    plug(Box::new(Block::new(copy, "copy")));
    plug(Box::new(Block::new(
        Raw::open(&path("base"), true).expect("a disk"),
        "fixed",
    )));
    plug(Box::new(network()));
    plug(Box::new(console));
    plug(Box::new(Vsock::new(CID, &path("v")).expect("sockets")));
    plug(Box::new(Rng));
    plug(Box::new(balloon));

    let listener = UnixListener::bind(path(&format!("v_{HOST_PORT}"))).expect("a socket");
    let memory = machine.memory().clone();
    let software = Software {
        initramfs: Some(&first),
        ..Software::new(&kernel, "console=ttyS0 reboot=k panic=-1 quiet")
    };
    let mut vm = machine.boot(&software).expect("a machine");
    let socket = path("v");
    let host = thread::spawn(move || {
        // The guest connects, says that it listens, and is connected to.
        let (stream, _) = listener.accept().expect("the guest");
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        assert_eq!(line, "from the guest\n");
        let mut stream = UnixStream::connect(socket).expect("the device listens");
        writeln!(stream, "CONNECT {GUEST_PORT}").expect("room");
        let mut answers = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("an answer");
        assert!(answer.starts_with("OK "), "{answer}");
        stream
            .write_all(&pattern(7, TCP_BYTES))
            .expect("the guest reads");
        let mut echoed = Vec::new();
        answers.read_to_end(&mut echoed).expect("the guest's end");
        assert!(echoed == pattern(7, TCP_BYTES), "{}", echoed.len());
        typist.input(b"typed by a person\n").expect("a console");
        host_balloon.ask(BALLOON_BYTES);
        while memory.balloon().reported() < BALLOON_BYTES {
            thread::sleep(Duration::from_millis(10));
        }
        host_balloon.ask(0);
        lines
            .get_mut()
            .write_all(b"done\n")
            .expect("the guest reads");
    });
    let limits = Limits {
        time: Some(Duration::from_secs(400)),
        exits: None,
    };
    let outcome = vm.run(limits).expect("KVM runs it");
    drop(vm);
    let text = String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
    let kernel_says = String::from_utf8_lossy(&kernel_says.lock().unwrap()).into_owned();
    let both = format!("{}\n{text}\n{kernel_says}", outcome.end);
    assert!(text.contains("status 0"), "{both}");
    host.join().expect("the host's side went well");
    assert_eq!(outcome.end, End::Stopped(Stop::PoweredOff), "{both}");
    assert_eq!(*complaints.lock().unwrap(), []);

    // What the guest flushed is in the files, and the base is as it was.
    let bytes = fs::read(path("raw")).expect("the disk");
    assert!(bytes[1 << 20..][..1 << 20] == pattern(99, 1 << 20));
    assert!(bytes[2 << 20..] == pattern(0, DISK_BYTES as usize)[2 << 20..]);
    let base = fs::read(path("base")).expect("the disk");
    assert!(base == pattern(0, DISK_BYTES as usize));
}

/// Not a test of its own: what the guest's program does.
#[test]
#[ignore = "runs inside of a virtual machine that another test makes"]
fn runs_inside_of_a_guest() {
    // The disks, as the kernel's driver knows them: names, sizes, contents.
    let kind =
        |disk: &str| fs::read_to_string(format!("/sys/block/{disk}/serial")).expect("a name");
    assert_eq!(
        [kind("vda"), kind("vdb"), kind("vdc")],
        ["raw", "copy", "fixed"]
    );
    for disk in ["/dev/vda", "/dev/vdb"] {
        let file = File::options()
            .read(true)
            .write(true)
            .open(disk)
            .expect("a disk");
        let mut bytes = vec![0; DISK_BYTES as usize];
        file.read_exact_at(&mut bytes, 0).expect("sectors");
        assert!(bytes == pattern(0, DISK_BYTES as usize), "{disk}");
        file.write_all_at(&pattern(99, 1 << 20), 1 << 20)
            .expect("sectors");
        file.sync_all().expect("a flush");
        println!("{disk}: read, written, flushed");
    }
    let fixed = File::options().write(true).open("/dev/vdc");
    let refused = fixed.and_then(|file| {
        file.write_all_at(&[0; 4096], 0)
            .and_then(|()| file.sync_all())
    });
    assert!(refused.is_err(), "a read-only disk was written");

    let mut random = [0; 64];
    File::open("/dev/hwrng")
        .expect("the device")
        .read_exact(&mut random)
        .expect("bytes");
    assert_ne!(random, [0; 64]);
    println!("random bytes");

    let mut stream = TcpStream::connect((HOST_ADDRESS, TCP_PORT)).expect("the host answers");
    stream
        .write_all(&pattern(3, TCP_BYTES))
        .expect("the host reads");
    let mut back = vec![0; TCP_BYTES];
    stream.read_exact(&mut back).expect("the host's bytes");
    assert!(back == pattern(3, TCP_BYTES));
    println!("a network");

    let stream_socket = || {
        socket(
            AddressFamily::Vsock,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .expect("a socket")
    };
    let listener = stream_socket();
    bind(listener.as_raw_fd(), &VsockAddr::new(u32::MAX, GUEST_PORT)).expect("a port");
    listen(&listener, Waiting::new(1).expect("a length")).expect("a listener");
    let to_host = stream_socket();
    connect(to_host.as_raw_fd(), &VsockAddr::new(2, HOST_PORT)).expect("the host listens");
    let mut to_host = File::from(to_host);
    to_host
        .write_all(b"from the guest\n")
        .expect("the host reads");
    let from_host = accept(listener.as_raw_fd()).expect("the host connects");
    let mut bytes = vec![0; TCP_BYTES];
    let mut got = 0;
    while got < bytes.len() {
        let count = recv(from_host, &mut bytes[got..], MsgFlags::empty()).expect("bytes");
        assert_ne!(count, 0, "{got}");
        got += count;
    }
    assert!(bytes == pattern(7, TCP_BYTES));
    let mut sent = 0;
    while sent < bytes.len() {
        sent += send(from_host, &bytes[sent..], MsgFlags::empty()).expect("room");
    }
    close(from_host).expect("a descriptor");
    println!("sockets");

    let mut line = String::new();
    BufReader::new(File::open("/dev/hvc0").expect("the console"))
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line.trim(), "typed by a person");
    let mut done = [0; 5];
    to_host
        .read_exact(&mut done)
        .expect("the balloon was filled and emptied");
    println!("a console and a balloon");
}
