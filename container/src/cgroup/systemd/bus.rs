//! A connection to systemd: over its own socket, or over a message bus.
//!
//! Both begin with the same few lines of text (D-Bus specification, "Authentication Protocol"). With
//! `EXTERNAL` and no name the other side takes who we are from the socket (`SO_PEERCRED`), so that this
//! works in a user namespace too, where our number for ourselves is not the host's.

use std::env;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::Error;
use super::message::{self, Answer, Body, PROLOGUE_BYTES, Target};

/// How long systemd may take for an answer.
const PATIENCE: Duration = Duration::from_secs(25);
/// What no answer to our calls comes near.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A connection, and the serial number of the last call on it.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
}

/// A socket where systemd may be, and whether a bus is between.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    socket: PathBuf,
    is_bus: bool,
}

/// The sockets of the system's manager, or of the manager of a user with this runtime folder and bus
/// address. Its own socket comes first: it is there without a message bus.
fn addresses(user: Option<(Option<PathBuf>, Option<String>)>) -> Vec<Address> {
    let own = |socket| Address {
        socket,
        is_bus: false,
    };
    let bus = |socket| Address {
        socket,
        is_bus: true,
    };
    let Some((folder, address)) = user else {
        return vec![
            own("/run/systemd/private".into()),
            bus("/run/dbus/system_bus_socket".into()),
        ];
    };
    let named = address.as_deref().and_then(|it| {
        let path = it.strip_prefix("unix:path=")?;
        path.split([',', ';']).next().map(PathBuf::from)
    });
    let of = |name: &str| folder.as_ref().map(|folder| folder.join(name));
    let own = of("systemd/private").map(own);
    own.into_iter()
        .chain(named.or(of("bus")).map(bus))
        .collect()
}

impl Bus {
    /// Connects to the system's manager, or to the caller's own.
    ///
    /// # Errors
    /// [`Error::NotReached`].
    pub fn connect(is_user: bool) -> Result<Self, Error> {
        let user = is_user.then(|| {
            (
                env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
                env::var("DBUS_SESSION_BUS_ADDRESS").ok(),
            )
        });
        let mut failure = (
            PathBuf::from("$XDG_RUNTIME_DIR/systemd/private"),
            io::ErrorKind::NotFound.into(),
        );
        for address in addresses(user) {
            match Self::open(&address) {
                Ok(bus) => return Ok(bus),
                Err(error) => failure = (address.socket, error),
            }
        }
        let (socket, source) = failure;
        Err(Error::NotReached { socket, source })
    }

    fn open(address: &Address) -> io::Result<Self> {
        let mut stream = UnixStream::connect(&address.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // All at once, as systemd's own programs do: a call that comes in one piece with `BEGIN` would lie
        // there until the next one comes.
        stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        while !line(&mut stream)?.starts_with("OK ") {}
        let mut bus = Self { stream, serial: 0 };
        if address.is_bus {
            const BUS: &str = "org.freedesktop.DBus";
            let hello = Target {
                destination: BUS,
                path: "/org/freedesktop/DBus",
                interface: BUS,
                member: "Hello",
            };
            bus.ask(&hello, &Body::default())?;
        }
        Ok(bus)
    }

    /// Calls a method and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Refused`] with systemd's words, [`Error::Broken`].
    pub fn call(&mut self, target: &Target<'_>, body: &Body) -> Result<Vec<u8>, Error> {
        match self.ask(target, body) {
            Ok(Answer::Done(body)) => Ok(body),
            Ok(Answer::Failed(name, text)) => Err(Error::Refused {
                member: target.member.into(),
                name,
                text,
            }),
            Err(source) => Err(Error::Broken(source)),
        }
    }

    fn ask(&mut self, target: &Target<'_>, body: &Body) -> io::Result<Answer> {
        self.serial += 1;
        self.stream
            .write_all(&message::call(self.serial, target, body))?;
        loop {
            let mut message = vec![0; PROLOGUE_BYTES];
            self.stream.read_exact(&mut message)?;
            match message::length(&message) {
                Some(length) if length <= MAX_MESSAGE_BYTES => message.resize(length, 0),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            self.stream.read_exact(&mut message[PROLOGUE_BYTES..])?;
            // Everything else is a signal that nobody asked for.
            if let Some(answer) = message::answer(&message, self.serial) {
                return Ok(answer);
            }
        }
    }
}

/// One line of the authentication, byte by byte: what follows it is not ours to read yet.
fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
        if line.len() > 512 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    match String::from_utf8_lossy(&line) {
        refused if refused.starts_with("REJECTED") => Err(io::ErrorKind::PermissionDenied.into()),
        line => Ok(line.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_manager_is_looked_for_where_the_session_says() {
        let sockets = |folder: Option<&str>, address: Option<&str>| -> Vec<String> {
            let user = (folder.map(PathBuf::from), address.map(str::to_owned));
            addresses(Some(user))
                .iter()
                .map(|it| it.socket.display().to_string())
                .collect()
        };
        assert_eq!(
            sockets(Some("/run/user/7"), None),
            ["/run/user/7/systemd/private", "/run/user/7/bus"]
        );
        assert_eq!(sockets(None, Some("unix:path=/tmp/b,guid=1")), ["/tmp/b"]);
        assert_eq!(sockets(None, None), Vec::<String>::new());
    }
}
