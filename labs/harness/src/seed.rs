//! Seeds: what makes one student's lab differ from the neighbour's.

use std::fmt;
use std::num::ParseIntError;
use std::ops::Range;
use std::str::FromStr;

/// Sixty-four bits that a student's id and a lab's number decide, and nothing else: the same on the
/// student's laptop and in the instructor's CI, today and next year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of `student` in lab `number`.
    #[must_use]
    pub fn new(student: &str, number: u8) -> Self {
        Self(mix(hash(&format!("ringside/{number}/{student}"))))
    }

    /// A generator for one `purpose`: what one check draws does not move what another draws.
    #[must_use]
    pub fn rng(self, purpose: &str) -> Rng {
        Rng(self.0 ^ hash(purpose))
    }

    /// A number in `range` that is this student's own, such as a port or a hypercall number.
    #[must_use]
    pub fn number(self, purpose: &str, range: Range<u64>) -> u64 {
        self.rng(purpose).range(range)
    }

    /// A word that is this student's own, such as a host name: eight lower-case letters.
    #[must_use]
    pub fn word(self, purpose: &str) -> String {
        let mut rng = self.rng(purpose);
        let pairs = (0..4).flat_map(|_| {
            [
                *rng.pick(b"bdfgklmnprstvz"), // a consonant and a vowel: it can be said aloud
                *rng.pick(b"aeiou"),
            ]
        });
        pairs.map(char::from).collect()
    }
}

/// Sixteen hexadecimal digits, as [`Seed::from_str`] reads them.
impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Seed {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// A small generator of random numbers (SplitMix64, Steele, Lea and Flood 2014). It is here, and not
/// from a crate, because a student's marks must not change with a crate's version.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Any 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is below 2^-32 for the small ends that checks use.
        self.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// A number in `range`; its start when it is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// True once in `n` times on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

/// FNV-1a, 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// SplitMix64's finalizer: every bit of the input moves every bit of the output.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_students_and_the_labs() {
        assert_eq!(Seed::new("alice", 6), Seed::new("alice", 6));
        assert_ne!(Seed::new("alice", 6), Seed::new("bob", 6));
        assert_ne!(Seed::new("alice", 6), Seed::new("alice", 7));
    }

    /// Marks are compared across years and machines: these numbers may never change.
    #[test]
    fn seeds_stay_what_they_were() {
        let seed = Seed::new("alice", 6);
        assert_eq!(seed.to_string(), SEED_OF_ALICE_6);
        assert_eq!(seed.to_string().parse(), Ok(seed));
        assert_eq!(seed.word("host name"), WORD_OF_ALICE_6);
        assert_eq!(Rng(0).next_u64(), 0xe220_a839_7b1d_cdaf); // the published first value
    }
    const SEED_OF_ALICE_6: &str = "a30fb8d84f2c6c6f";
    const WORD_OF_ALICE_6: &str = "pekilabe";

    #[test]
    fn purposes_are_independent_and_ranges_hold() {
        let seed = Seed::new("alice", 6);
        assert_ne!(seed.rng("a").next_u64(), seed.rng("b").next_u64());
        for i in 0..100 {
            let port = seed.number(&format!("port {i}"), 0x200..0x400);
            assert!((0x200..0x400).contains(&port), "{port:#x}");
        }
        assert_eq!(seed.number("nothing", 5..5), 5);
        assert_eq!(Rng(1).below(0), 0);
    }
}
