//! User namespaces: how an ordinary user becomes root of their own container
//! (`man 7 user_namespaces`, "User and group ID mappings").

use std::fmt;

/// One line of `uid_map` or `gid_map`: `length` numbers from `inside` on stand for those from
/// `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The first number as the container sees it.
    pub inside: u32,
    /// The first number as the parent namespace sees it.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

impl Mapping {
    /// Root inside is `id` outside and nobody else exists: all that the kernel lets an unprivileged
    /// process map on its own.
    pub const fn root_is(id: u32) -> Self {
        Self {
            inside: 0,
            outside: id,
            length: 1,
        }
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_prints_as_the_kernel_reads_it() {
        assert_eq!(Mapping::root_is(1000).to_string(), "0 1000 1");
    }
}
