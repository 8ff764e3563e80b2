//! How wide an access is.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How many bytes an access is wide: any number from 1 to 8.
///
/// An instruction's operand is 1, 2, 4 or 8 bytes wide, but one that crosses a page is two accesses:
/// eight bytes that begin three before a page's end come as three and five, or as five alone where
/// the first page is memory.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Width {
    /// 1 byte.
    Byte = 1,
    /// 2 bytes.
    Word,
    /// 3 bytes: memory only, as all that follow but 4.
    Three,
    /// 4 bytes.
    Double,
    /// 5 bytes.
    Five,
    /// 6 bytes.
    Six,
    /// 7 bytes.
    Seven,
    /// 8 bytes.
    Quad,
}

impl Width {
    /// Every width, the narrowest first.
    pub const ALL: [Width; 8] = [
        Width::Byte,
        Width::Word,
        Width::Three,
        Width::Double,
        Width::Five,
        Width::Six,
        Width::Seven,
        Width::Quad,
    ];

    /// The width of so many bytes, if there is one.
    pub const fn from_bytes(bytes: usize) -> Option<Width> {
        match bytes {
            1..=8 => Some(Width::ALL[bytes - 1]),
            _ => None,
        }
    }

    /// The width of a port access of so many bytes, if there is one.
    pub const fn of_port(bytes: usize) -> Option<Width> {
        match bytes {
            1 | 2 | 4 => Width::from_bytes(bytes),
            _ => None,
        }
    }

    /// Bytes.
    pub const fn bytes(self) -> usize {
        self as usize
    }

    /// The bits of a 64-bit value that an access of this width has.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Width::Byte => f.write_str("1 byte"),
            width => write!(f, "{} bytes", width.bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_bytes_up_to_eight_is_a_width() {
        for bytes in 1..=8 {
            let width = Width::from_bytes(bytes).expect("a width");
            assert_eq!(width.bytes(), bytes);
            assert_eq!(width.mask().count_ones() as usize, 8 * bytes);
            assert_eq!(width.mask().trailing_ones() as usize, 8 * bytes);
        }
        assert_eq!([0, 9, 255, usize::MAX].map(Width::from_bytes), [None; 4]);
        let of_ports: Vec<usize> = (0..10)
            .filter(|&bytes| Width::of_port(bytes).is_some())
            .collect();
        assert_eq!(of_ports, [1, 2, 4]);
    }
}
