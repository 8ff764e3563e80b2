//! The loopback, and one network device if the host gave an address for it.

use crate::Failure;
use crate::sys::{self, Errno};
use crate::task::Task;
use core::ffi::CStr;

/// Brings up what there is.
pub fn up(task: &Task<'_>) -> Result<(), Failure> {
    // A kernel without a network has no loopback either; the command will say so if it minds.
    let Ok(socket) = sys::inet_socket() else {
        return Ok(());
    };
    sys::interface_up(socket, b"lo").ok();
    if let Some(text) = task.address {
        let bad = |errno| Failure::new("give eth0 the address", text.to_bytes(), errno);
        let (address, mask) = network(text).ok_or_else(|| bad(Errno::INVALID))?;
        sys::interface_address(socket, b"eth0", address, mask).map_err(bad)?;
        sys::interface_up(socket, b"eth0").map_err(bad)?;
    }
    if let Some(text) = task.gateway {
        let bad = |errno| Failure::new("reach the gateway", text.to_bytes(), errno);
        let address = text.to_str().ok().and_then(|text| text.parse().ok());
        let address: core::net::Ipv4Addr = address.ok_or_else(|| bad(Errno::INVALID))?;
        sys::default_route(socket, address.octets()).map_err(bad)?;
    }
    sys::close(socket);
    Ok(())
}

/// `10.0.0.2/24`, as an address and a mask.
fn network(text: &CStr) -> Option<([u8; 4], [u8; 4])> {
    let (address, bits) = text.to_str().ok()?.split_once('/')?;
    let address: core::net::Ipv4Addr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    Some((address.octets(), mask.to_be_bytes()))
}
