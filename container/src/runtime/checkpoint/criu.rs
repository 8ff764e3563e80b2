//! criu as a worker: a child that listens on a socket for one request, tells of what happens meanwhile, and
//! answers (`criu swrk`, <https://criu.org/Directly_from_swrk>).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::error::{Error, Log};
use super::rpc::{self, Answer, Kind};
use super::wire::Message;
use crate::runtime::{self, own_descriptor};
use crate::sys;

/// The longest answer: messages keep their ends, and criu's have some hundred bytes.
const MAX_BYTES: usize = 40_960;

/// Hears of what happens: the moment, and a descriptor that came with it.
pub type Listener<'a> = dyn FnMut(&Answer, Option<OwnedFd>) -> Result<(), runtime::Error> + 'a;

/// A criu that waits for a request.
pub struct Worker {
    child: Child,
    socket: OwnedFd,
}

impl Worker {
    /// Starts one with the caller's streams and `inherited` descriptors, under their own numbers.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Start`].
    pub fn start(program: &Path, inherited: &[BorrowedFd<'_>]) -> Result<Self, Error> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing {
                program: program.into(),
            },
            _ => Error::Start {
                program: program.into(),
                source,
            },
        };
        let (socket, theirs) = sys::socket_pair().map_err(|errno| failed(errno.into()))?;
        // This process has one thread that starts others: nobody else's child gets them meanwhile.
        for fd in inherited.iter().chain([&theirs.as_fd()]) {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|errno| failed(errno.into()))?;
        }
        let number = theirs.as_raw_fd().to_string();
        let child = Command::new(program).args(["swrk", &number]).spawn();
        Ok(Self {
            child: child.map_err(failed)?,
            socket,
        })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Makes a request, and hears what is told until it is done. The log is where criu is to write, to be
    /// quoted if that fails.
    ///
    /// # Errors
    /// That of `listener`, who need not hear more then; or why criu did not do it.
    pub fn ask(
        mut self,
        kind: Kind,
        request: &Message,
        log: &Path,
        listener: &mut Listener<'_>,
    ) -> Result<Answer, runtime::Error> {
        let mut refusal = None;
        let answer = self.talk(kind, request, &mut |answer, descriptor| {
            let heard = listener(answer, descriptor);
            let is_well = heard.is_ok();
            if let Err(error) = heard {
                refusal.get_or_insert(error);
            }
            is_well
        });
        drop(self.socket);
        let status = self.child.wait().map_err(errno);
        let status = status.map_err(runtime::Error::system("waitid"))?;
        if let Some(error) = refusal {
            return Err(error);
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(Talk::Wrong(error)) => return Err(error.into()),
            Err(Talk::Over) => return Err(ended(status, log)),
        };
        if !answer.is_success {
            return Err(Error::Failed {
                what: name(answer.kind),
                errno: answer.errno,
                log: Log::read(log, answer.message),
            }
            .into());
        }
        // After a first, partial dump it waits for the next one, and is sorry that there is none.
        if !status.success() && kind != Kind::PreDump {
            return Err(ended(status, log));
        }
        Ok(answer)
    }

    fn talk(
        &mut self,
        kind: Kind,
        request: &Message,
        told: &mut dyn FnMut(&Answer, Option<OwnedFd>) -> bool,
    ) -> Result<Answer, Talk> {
        self.send(request)?;
        loop {
            let (answer, descriptor) = self.receive()?;
            if answer.is_success && answer.kind == Kind::Notify as i32 {
                let is_well = told(&answer, descriptor);
                self.send(&rpc::heard(is_well))?;
            } else if !answer.is_success || answer.kind == kind as i32 {
                return Ok(answer);
            } else {
                return Err(Talk::Wrong(Error::Unexpected(answer.kind)));
            }
        }
    }

    fn send(&self, message: &Message) -> Result<(), Talk> {
        let parts = [IoSlice::new(message.as_bytes())];
        let flags = MsgFlags::MSG_NOSIGNAL;
        let sent = sendmsg::<()>(self.socket.as_raw_fd(), &parts, &[], flags, None);
        sent.map(drop).map_err(|_| Talk::Over)
    }

    fn receive(&self) -> Result<(Answer, Option<OwnedFd>), Talk> {
        let mut bytes = vec![0; MAX_BYTES];
        let mut space = nix::cmsg_space!([i32; 4]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let fd = self.socket.as_raw_fd();
        let message = loop {
            match recvmsg::<()>(fd, &mut parts, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                other => break other.map_err(|_| Talk::Over)?,
            }
        };
        let mut descriptors = Vec::new();
        for part in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                descriptors.extend(numbers.into_iter().map(own_descriptor));
            }
        }
        let length = message.bytes;
        if length == 0 {
            return Err(Talk::Over);
        }
        let answer = Answer::parse(&bytes[..length]).map_err(|error| Talk::Wrong(error.into()))?;
        Ok((answer, descriptors.into_iter().next()))
    }
}

/// Why a conversation broke off.
enum Talk {
    /// Nobody is there any more.
    Over,
    /// What was said makes no sense.
    Wrong(Error),
}

fn ended(status: ExitStatus, log: &Path) -> runtime::Error {
    let log = Log::read(log, String::new());
    Error::Ended { status, log }.into()
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// A kind of request by the protocol's name.
fn name(kind: i32) -> &'static str {
    match kind {
        1 => "DUMP",
        2 => "RESTORE",
        4 => "PRE_DUMP",
        6 => "NOTIFY",
        9 => "FEATURE_CHECK",
        10 => "VERSION",
        _ => "EMPTY",
    }
}

/// The oldest criu that is asked: it knows external PID namespaces and tells when lazy pages are ready.
const OLDEST: [i32; 3] = [3, 15, 0];

/// Whether criu is there and not too old; gives its version.
///
/// # Errors
/// [`Error::Missing`], [`Error::Old`], or what it fails with.
pub fn check(program: &Path) -> Result<[i32; 3], runtime::Error> {
    let request = rpc::request(Kind::Version);
    let worker = Worker::start(program, &[])?;
    let answer = worker.ask(Kind::Version, &request, Path::new(""), &mut |_, _| Ok(()))?;
    needs(answer.version, "checkpoints", OLDEST)?;
    Ok(answer.version)
}

/// Whether this version has `what`.
///
/// # Errors
/// [`Error::Old`].
pub fn needs(version: [i32; 3], what: &'static str, needed: [i32; 3]) -> Result<(), Error> {
    if version >= needed {
        return Ok(());
    }
    Err(Error::Old {
        version,
        what,
        needed,
    })
}

/// Whether this kernel, by criu's word, can track memory (for `--pre-dump`) and give pages lazily, as far as
/// that is `asked` for.
///
/// # Errors
/// [`Error::Lacks`], or what criu fails with.
pub fn check_features(program: &Path, asked: [bool; 2]) -> Result<(), runtime::Error> {
    if asked == [false; 2] {
        return Ok(());
    }
    let kind = Kind::FeatureCheck;
    let request = rpc::feature_check(asked);
    let worker = Worker::start(program, &[])?;
    let answer = worker.ask(kind, &request, Path::new(""), &mut |_, _| Ok(()))?;
    let names = [
        (
            "--pre-dump",
            "tracking of dirty memory",
            "CONFIG_MEM_SOFT_DIRTY",
        ),
        (
            "--lazy-pages",
            "userfaultfd for other processes",
            "CONFIG_USERFAULTFD",
        ),
    ];
    for ((option, feature, config), (is_asked, is_there)) in names
        .into_iter()
        .zip(asked.into_iter().zip(answer.features))
    {
        if is_asked && is_there == Some(false) {
            return Err(Error::Lacks {
                option,
                feature,
                config,
            }
            .into());
        }
    }
    Ok(())
}
