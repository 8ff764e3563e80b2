//! The virtio devices that a Linux guest is given by options.

use crate::commands::Failure;
use ringside_vmm::linux::LinuxMachine;
use ringside_vmm::virtio::{
    Block, CopyOnWrite, Kind, Medium, Net, Raw, Rng, Violation, VirtioDevice, Vsock,
};
use std::path::{Path, PathBuf};

/// The guest's number among sockets.
const CID: u64 = 3;
/// The first card's address; each further one's is one higher.
const MAC: [u8; 6] = [0x02, b'r', b'i', b'n', b'g', 0];

/// Devices that know that they are virtual
#[derive(clap::Args)]
pub struct Devices {
    /// A disk (/dev/vda, …; under `run`, whose own disk that is, from /dev/vdb on): FILE, FILE:ro for one that is only read, or BASE:UPPER for one that stays
    /// as it is while UPPER gets what is written
    #[arg(long, value_name = "FILE")]
    disk: Vec<String>,
    /// A network card at the host's tap NAME
    #[arg(long, value_name = "NAME")]
    tap: Vec<String>,
    /// Sockets between host and guest: the host's are at PATH and, for what the guest connects to, at
    /// PATH_PORT
    #[arg(long, value_name = "PATH")]
    vsock: Option<PathBuf>,
    /// The host's randomness
    #[arg(long)]
    rng: bool,
}

impl Devices {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        !self.disk.is_empty() || !self.tap.is_empty() || self.vsock.is_some() || self.rng
    }

    /// Opens what they stand for, in the order of the options above.
    pub fn open(&self) -> Result<Vec<Box<dyn VirtioDevice>>, Failure> {
        let mut devices: Vec<Box<dyn VirtioDevice>> = Vec::new();
        for name in &self.disk {
            let (file, rest) = name.rsplit_once(':').unwrap_or((name, ""));
            let path = Path::new(file);
            let medium: Box<dyn Medium> = match rest {
                "" => Box::new(Raw::open(path, false)?),
                "ro" => Box::new(Raw::open(path, true)?),
                upper => Box::new(CopyOnWrite::open(path, Path::new(upper))?),
            };
            let called = path.file_name().unwrap_or_default().to_string_lossy();
            let disk = Block::new(medium, &called);
            devices.push(Box::new(
                disk.telling(|failure| eprintln!("ringside: {failure}")),
            ));
        }
        for (index, name) in (0..).zip(&self.tap) {
            let [a, b, c, d, e, _] = MAC;
            devices.push(Box::new(Net::tap(name, [a, b, c, d, e, index])?));
        }
        if let Some(path) = &self.vsock {
            devices.push(Box::new(Vsock::new(CID, path)?));
        }
        if self.rng {
            devices.push(Box::new(Rng));
        }
        Ok(devices)
    }

    /// Plugs them into a machine.
    pub fn plug(&self, machine: &mut LinuxMachine) -> Result<(), Failure> {
        let complain = |kind: Kind, violation: Violation| {
            eprintln!(
                "ringside: the guest's {} device waits to be reset: {violation}",
                kind.name
            );
        };
        for device in self.open()? {
            machine.plug(device, complain)?;
        }
        Ok(())
    }
}
