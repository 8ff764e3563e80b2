//! The four kinds of address between a guest's instruction and a memory chip.
//!
//! ```text
//!   guest process      Gva  guest-virtual    ─┐ the guest kernel's page tables   (first level)
//!   guest kernel       Gpa  guest-physical   ─┤ the hypervisor's memory slots
//!   hypervisor process Hva  host-virtual     ─┤ the host kernel's page tables    (second level)
//!   machine            Hpa  host-physical    ─┘
//! ```
//!
//! Each is a `u64` of its own type, so that the compiler refuses to mix them: the bug that this
//! prevents (a guest's address used as a host's) is the one that ends isolation.

use std::fmt;

/// Bytes in the smallest page, the unit of every table on x86-64.
pub const PAGE_BYTES: u64 = 4096;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// This address `bytes` further, or `None` where that wraps around 2^64.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// How many bytes this address lies past `base`, or `None` where it lies before.
            #[must_use]
            pub const fn checked_sub(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// Whether this address is a multiple of `bytes`, a power of two.
            #[must_use]
            pub const fn is_aligned(self, bytes: u64) -> bool {
                debug_assert!(bytes.is_power_of_two());
                self.0 & (bytes - 1) == 0
            }

            /// The multiple of `bytes`, a power of two, at or below this address.
            #[must_use]
            pub const fn align_down(self, bytes: u64) -> Self {
                debug_assert!(bytes.is_power_of_two());
                Self(self.0 & !(bytes - 1))
            }

            /// The first byte of the 4 KiB page that holds this address.
            #[must_use]
            pub const fn page(self) -> Self {
                self.align_down(PAGE_BYTES)
            }

            /// The offset of this address in its 4 KiB page, 0 to 4095.
            #[must_use]
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_BYTES - 1)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(self, f)
            }
        }

        /// Hexadecimal, always with `0x`; a width pads with zeros and counts the `0x`.
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#01$x}", self.0, f.width().unwrap_or(0))
            }
        }
    };
}

address! {
    /// A guest-virtual address: what a program in the guest uses.
    Gva
}
address! {
    /// A guest-physical address: what the guest's page tables hold and its kernel takes for memory.
    Gpa
}
address! {
    /// A host-virtual address: where the hypervisor process sees the guest's memory.
    Hva
}
address! {
    /// A host-physical address: where the byte is in the machine.
    Hpa
}

impl From<vm_memory::GuestAddress> for Gpa {
    fn from(address: vm_memory::GuestAddress) -> Self {
        Self(address.0)
    }
}

impl From<Gpa> for vm_memory::GuestAddress {
    fn from(address: Gpa) -> Self {
        Self(address.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_and_offset_split_an_address() {
        assert_eq!(Gva(0x1234_5678).page(), Gva(0x1234_5000));
        assert_eq!(Gva(0x1234_5678).page_offset(), 0x678);
        assert!(Gpa(0x20_0000).is_aligned(0x20_0000));
        assert!(!Gpa(0x20_1000).is_aligned(0x20_0000));
    }

    #[test]
    fn sums_do_not_wrap() {
        assert_eq!(Gpa(u64::MAX).checked_add(1), None);
        assert_eq!(Gpa(1).checked_sub(Gpa(2)), None);
        assert_eq!(Gpa(0x3000).checked_sub(Gpa(0x1000)), Some(0x2000));
    }

    #[test]
    fn printed_in_hexadecimal() {
        assert_eq!(Hva(0x7f00).to_string(), "0x7f00");
        assert_eq!(format!("{:012x}", Hva(0x7f00)), "0x0000007f00");
        assert_eq!(format!("{:?}", Hpa(16)), "Hpa(0x10)");
    }
}
