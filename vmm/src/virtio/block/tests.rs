//! The disk, over files that are well and files that are not.

use super::*;
use crate::virtio::driver::Driver;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const OK: u8 = VIRTIO_BLK_S_OK as u8;
const IOERR: u8 = VIRTIO_BLK_S_IOERR as u8;
const UNSUPP: u8 = VIRTIO_BLK_S_UNSUPP as u8;
const SECTORS: u64 = 64;

struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        Files { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file in which each sector is filled with its number.
    fn disk(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let bytes: Vec<u8> = (0..SECTORS * SECTOR_BYTES)
            .map(|at| (at / SECTOR_BYTES) as u8)
            .collect();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn raw(&self) -> Driver {
        drive(Raw::open(&self.disk("disk"), false).unwrap())
    }
}

fn drive(medium: impl Medium + 'static) -> Driver {
    Driver::running(Block::new(medium, "a disk"), 0)
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn read(driver: &mut Driver, sector: u64, sectors: usize) -> (u8, Vec<u8>) {
    let bytes = sectors * SECTOR_BYTES as usize;
    let header = header(VIRTIO_BLK_T_IN, sector);
    let (written, mut buffers) = driver.request(0, &[&header], &[bytes, 1]);
    let status = buffers[1][0];
    let expected = if status == OK { bytes as u32 + 1 } else { 0 };
    assert_eq!(written, expected);
    (status, buffers.remove(0))
}

fn write(driver: &mut Driver, sector: u64, byte: u8, bytes: usize) -> u8 {
    let header = header(VIRTIO_BLK_T_OUT, sector);
    let (_, buffers) = driver.request(0, &[&header, &vec![byte; bytes]], &[1]);
    buffers[0][0]
}

fn simple(driver: &mut Driver, kind: u32) -> u8 {
    let (_, buffers) = driver.request(0, &[&header(kind, 0)], &[1]);
    buffers[0][0]
}

fn zero(driver: &mut Driver, kind: u32, sector: u64, sectors: u32, flags: u32) -> u8 {
    let range = [
        &sector.to_le_bytes()[..],
        &sectors.to_le_bytes(),
        &flags.to_le_bytes(),
    ]
    .concat();
    let (_, buffers) = driver.request(0, &[&header(kind, 0), &range], &[1]);
    buffers[0][0]
}

#[test]
fn sectors_are_read_and_written() {
    let files = Files::new();
    let mut driver = files.raw();
    let (status, bytes) = read(&mut driver, 3, 2);
    assert_eq!(status, OK);
    assert_eq!((bytes[0], bytes[511], bytes[512]), (3, 3, 4));
    assert_eq!(write(&mut driver, 4, 0xaa, 512), OK);
    assert_eq!(simple(&mut driver, VIRTIO_BLK_T_FLUSH), OK);
    let file = fs::read(files.path("disk")).unwrap();
    assert_eq!(
        (file[4 * 512 - 1], file[4 * 512], file[5 * 512]),
        (3, 0xaa, 5)
    );
    assert_eq!(file.len() as u64, SECTORS * SECTOR_BYTES);
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let files = Files::new();
    let mut driver = files.raw();
    let header = header(VIRTIO_BLK_T_IN, 7);
    let (head, tail) = header.split_at(5);
    // The last buffer holds the end of the data and the status.
    let (written, buffers) = driver.request(0, &[head, tail], &[100, 412, 100, 413]);
    assert_eq!(written, 1025);
    assert_eq!((buffers[0][0], buffers[1][411], buffers[2][0]), (7, 7, 8));
    assert_eq!((buffers[3][411], buffers[3][412]), (8, OK));
}

#[test]
fn what_is_not_on_the_disk_is_an_error() {
    let files = Files::new();
    let mut driver = files.raw();
    assert_eq!(read(&mut driver, SECTORS - 1, 1).0, OK);
    for (sector, sectors) in [(SECTORS, 1), (SECTORS - 1, 2), (u64::MAX, 1), (1 << 55, 1)] {
        assert_eq!(read(&mut driver, sector, sectors).0, IOERR);
        assert_eq!(write(&mut driver, sector, 1, sectors * 512), IOERR);
        let kind = VIRTIO_BLK_T_DISCARD;
        assert_eq!(zero(&mut driver, kind, sector, sectors as u32, 0), IOERR);
    }
    assert_eq!(write(&mut driver, 0, 1, 513), IOERR);
    assert_eq!(simple(&mut driver, 99), UNSUPP);
    assert_eq!(driver.judged(), None);
}

#[test]
fn requests_that_are_none_cost_the_device() {
    let files = Files::new();
    for (readable, writable) in [(15, 1), (16, 0)] {
        let mut driver = files.raw();
        driver.put(
            0,
            &[&vec![0; readable]],
            if writable == 0 { &[] } else { &[1] },
        );
        driver.notify(0);
        assert!(matches!(driver.judged(), Some(Violation::Request { .. })));
    }
}

#[test]
fn a_disk_says_its_name_and_its_size() {
    let files = Files::new();
    let mut driver = files.raw();
    let (_, buffers) = driver.request(0, &[&header(VIRTIO_BLK_T_GET_ID, 0)], &[20, 1]);
    assert_eq!(&buffers[0][..7], b"a disk\0");
    assert_eq!(buffers[1][0], OK);
    let at = |offset: u64| {
        driver
            .transport
            .read(0x100 + offset, crate::trap::Width::Double)
    };
    assert_eq!((at(0), at(4), at(12), at(20)), (SECTORS, 0, 254, 512));
}

#[test]
fn zeroed_ranges_are_zeros_and_take_no_room() {
    use std::os::unix::fs::MetadataExt;
    let files = Files::new();
    let mut driver = files.raw();
    let before = fs::metadata(files.path("disk")).unwrap().blocks();
    for kind in [VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_DISCARD] {
        assert_eq!(zero(&mut driver, kind, 8, 33, 0), OK);
        let (_, bytes) = read(&mut driver, 7, 36);
        assert!(bytes[512..34 * 512].iter().all(|&byte| byte == 0));
        assert_eq!((bytes[0], bytes[34 * 512]), (7, 41));
        assert_eq!(write(&mut driver, 8, 9, 512), OK);
    }
    assert!(fs::metadata(files.path("disk")).unwrap().blocks() < before);
    assert_eq!(zero(&mut driver, VIRTIO_BLK_T_DISCARD, 0, 1, 1), UNSUPP);
    assert_eq!(zero(&mut driver, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 1), OK);
}

#[test]
fn a_read_only_disk_says_so_and_stays_as_it_is() {
    let files = Files::new();
    let path = files.disk("disk");
    let mut driver = drive(Raw::open(&path, true).unwrap());
    assert_ne!(driver.offered() & 1 << VIRTIO_BLK_F_RO, 0);
    assert_eq!(write(&mut driver, 0, 9, 512), IOERR);
    assert_eq!(zero(&mut driver, VIRTIO_BLK_T_DISCARD, 1, 1, 0), IOERR);
    assert_eq!(read(&mut driver, 1, 1), (OK, vec![1; 512]));
}

#[test]
fn a_file_cut_short_is_an_error_and_stays_short() {
    let files = Files::new();
    let mut driver = files.raw();
    let file = File::options()
        .write(true)
        .open(files.path("disk"))
        .unwrap();
    file.set_len(10 * SECTOR_BYTES).unwrap();
    assert_eq!(read(&mut driver, 9, 1), (OK, vec![9; 512]));
    assert_eq!(read(&mut driver, 9, 2).0, IOERR);
    assert_eq!(write(&mut driver, 20, 1, 512), IOERR);
    assert_eq!(simple(&mut driver, VIRTIO_BLK_T_FLUSH), IOERR);
    assert_eq!(file.metadata().unwrap().len(), 10 * SECTOR_BYTES);
}

/// A disk that counts flushes, and fails when it is told to.
#[derive(Debug, Default)]
struct Failing {
    flushes: std::sync::Arc<std::sync::atomic::AtomicU64>,
    errno: Option<i32>,
}

impl Failing {
    fn fail(&self) -> io::Result<()> {
        self.errno
            .map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

impl Medium for Failing {
    fn name(&self) -> String {
        "a medium that fails".to_owned()
    }
    fn bytes(&self) -> u64 {
        SECTORS * SECTOR_BYTES
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read(&mut self, _: &mut Buffers<'_>, _: u64) -> io::Result<()> {
        self.fail()
    }
    fn write(&mut self, _: &mut Buffers<'_>, _: u64) -> io::Result<()> {
        self.fail()
    }
    fn zero(&mut self, _: u64, _: u64) -> io::Result<()> {
        self.fail()
    }
    fn flush(&mut self) -> io::Result<()> {
        self.flushes
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.fail()
    }
}

#[test]
fn what_the_host_cannot_do_the_guest_is_told() {
    for errno in [libc::EIO, libc::ENOSPC, libc::EDQUOT] {
        let errno = Some(errno);
        let mut driver = drive(Failing {
            errno,
            ..Failing::default()
        });
        assert_eq!(read(&mut driver, 0, 1).0, IOERR);
        assert_eq!(write(&mut driver, 0, 1, 512), IOERR);
        assert_eq!(zero(&mut driver, VIRTIO_BLK_T_DISCARD, 0, 1, 0), IOERR);
        assert_eq!(simple(&mut driver, VIRTIO_BLK_T_FLUSH), IOERR);
        assert_eq!(driver.judged(), None);
    }
}

#[test]
fn what_the_host_cannot_do_it_is_told_once_for_each_kind() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let driver = |medium: Box<dyn Medium>| {
        let list = told.clone();
        let tell = move |failure: &DiskFailure| list.lock().unwrap().push(failure.to_string());
        Driver::running(Block::new(medium, "").telling(tell), 0)
    };
    let errno = Some(libc::ENOSPC);
    let mut full = driver(Box::new(Failing {
        errno,
        ..Failing::default()
    }));
    let files = Files::new();
    let path = files.disk("short");
    let mut short = driver(Box::new(Raw::open(&path, false).unwrap()));
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(10 * SECTOR_BYTES).unwrap();
    for sector in [7, 8, 9] {
        assert_eq!(write(&mut full, sector, 1, 512), IOERR);
        assert_eq!(read(&mut short, sector + 10, 1).0, IOERR);
        // The guest's own fault is nothing that the host's people can mend.
        assert_eq!(read(&mut short, SECTORS, 1).0, IOERR);
    }
    assert_eq!(simple(&mut full, VIRTIO_BLK_T_FLUSH), IOERR);
    let told = told.lock().unwrap();
    let begin = [
        "cannot write to the disk a medium that fails (sector 7): No space left on device"
            .to_owned(),
        format!("cannot read the disk {} (sector 17): ", path.display()),
        "cannot flush what was written to the disk a medium that fails".to_owned(),
    ];
    assert_eq!(told.len(), begin.len(), "{told:#?}");
    for (told, begin) in told.iter().zip(&begin) {
        assert!(told.starts_with(begin), "{told}");
    }
    assert!(told[0].ends_with("; make room where the file is, and have the guest try again"));
    assert!(told[1].contains("somebody made the file shorter"));
}

#[test]
fn a_driver_without_flushes_gets_one_after_each_write() {
    let flushes = |without| {
        let medium = Failing::default();
        let count = medium.flushes.clone();
        let mut driver = Driver::running(Block::new(medium, ""), without);
        write(&mut driver, 0, 1, 512);
        read(&mut driver, 0, 1);
        zero(&mut driver, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0);
        count.load(std::sync::atomic::Ordering::SeqCst)
    };
    assert_eq!((flushes(0), flushes(1 << VIRTIO_BLK_F_FLUSH)), (0, 2));
}

#[test]
fn a_flush_that_failed_never_succeeds_again() {
    let mut lost = false;
    let fails = raw::flush(&mut lost, || Err(io::ErrorKind::StorageFull.into()));
    assert!(fails.is_err());
    let later = raw::flush(&mut lost, || panic!("the host is not asked again"));
    assert_eq!(later.unwrap_err().raw_os_error(), Some(libc::EIO));
}

fn over(base: &Path, upper: &Path) -> Driver {
    drive(CopyOnWrite::open(base, upper).unwrap())
}

#[test]
fn an_upper_file_holds_what_was_written_and_the_base_stays() {
    let files = Files::new();
    let base = files.disk("base");
    let original = fs::read(&base).unwrap();
    let upper = files.path("upper");
    {
        let mut driver = over(&base, &upper);
        // Within a cluster, over two, a whole one, and zeros.
        assert_eq!(write(&mut driver, 1, 0xa1, 512), OK);
        assert_eq!(write(&mut driver, 15, 0xa2, 1024), OK);
        assert_eq!(write(&mut driver, 24, 0xa3, 4096), OK);
        assert_eq!(zero(&mut driver, VIRTIO_BLK_T_DISCARD, 41, 2, 0), OK);
        assert_eq!(write(&mut driver, SECTORS - 1, 0xa4, 512), OK);
        assert_eq!(simple(&mut driver, VIRTIO_BLK_T_FLUSH), OK);
    }
    let mut expected = original.clone();
    for (sector, sectors, byte) in [
        (1, 1, 0xa1),
        (15, 2, 0xa2),
        (24, 8, 0xa3),
        (41, 2, 0),
        (63, 1, 0xa4),
    ] {
        expected[sector * 512..(sector + sectors) * 512].fill(byte);
    }
    // Another machine, from the files alone.
    let mut driver = over(&base, &upper);
    let (status, bytes) = read(&mut driver, 0, SECTORS as usize);
    assert_eq!(status, OK);
    assert!(bytes == expected);
    assert_eq!(fs::read(&base).unwrap(), original);
}

#[test]
fn what_was_flushed_survives_a_machine_that_ends_at_once() {
    let files = Files::new();
    let (base, upper) = (files.disk("base"), files.path("upper"));
    let mut driver = over(&base, &upper);
    write(&mut driver, 3, 0xb1, 512);
    simple(&mut driver, VIRTIO_BLK_T_FLUSH);
    write(&mut driver, 11, 0xb2, 512);
    // What the host has at this moment is what it would have if the machine ended now.
    let copy = files.path("copy");
    fs::copy(&upper, &copy).unwrap();
    let mut later = over(&base, &copy);
    assert_eq!(read(&mut later, 3, 1).1, vec![0xb1; 512]);
    assert_eq!(read(&mut later, 2, 1).1, vec![2; 512]);
    // Not flushed: the base's, and nothing in between.
    assert_eq!(read(&mut later, 11, 1).1, vec![11; 512]);
}

#[test]
fn a_base_is_shared_and_what_is_written_is_not() {
    let files = Files::new();
    let (base, upper) = (files.disk("base"), files.path("upper"));
    let one = CopyOnWrite::open(&base, &upper).unwrap();
    let two = CopyOnWrite::open(&base, &files.path("other")).unwrap();
    let busy = |result: Result<CopyOnWrite, DiskError>| {
        assert!(matches!(result, Err(DiskError::Busy { .. })), "{result:?}");
    };
    busy(CopyOnWrite::open(&base, &upper));
    assert!(matches!(
        Raw::open(&base, false),
        Err(DiskError::Busy { .. })
    ));
    assert!(Raw::open(&base, true).is_ok());
    drop((one, two));
    let _writer = Raw::open(&base, false).unwrap();
    busy(CopyOnWrite::open(&base, &upper));
}

#[test]
fn files_that_are_no_disks_are_refused() {
    let files = Files::new();
    let base = files.disk("base");
    let small = files.path("small");
    fs::write(&small, [0; 511]).unwrap();
    assert!(matches!(
        Raw::open(&small, true),
        Err(DiskError::Small { bytes: 511, .. })
    ));
    assert!(matches!(
        Raw::open(&files.path("none"), true),
        Err(DiskError::File { .. })
    ));
    let wrong = CopyOnWrite::open(&base, &small).unwrap_err();
    assert!(
        wrong.to_string().contains("no copy-on-write upper"),
        "{wrong}"
    );
    let upper = files.path("upper");
    drop(CopyOnWrite::open(&base, &upper).unwrap());
    let other = files.path("other");
    fs::write(&other, [1; 4096]).unwrap();
    let wrong = CopyOnWrite::open(&other, &upper).unwrap_err();
    assert!(
        matches!(
            wrong,
            DiskError::OtherBase {
                was: 32768,
                is: 4096,
                ..
            }
        ),
        "{wrong}"
    );
    File::options()
        .write(true)
        .open(&upper)
        .unwrap()
        .set_len(9000)
        .unwrap();
    let cut = CopyOnWrite::open(&base, &upper);
    assert!(matches!(cut, Err(DiskError::NoUpper { .. })));
}
