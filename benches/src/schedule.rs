//! In which order to run: every entry once per round, in an order of its own each round.
//!
//! A machine drifts (it heats up, neighbours come and go). Measured one after the other, the
//! contenders would each get a different machine; interleaved, they share the drift, and in random
//! order none of them always follows the same neighbour's cold caches.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// A seed that nobody chose.
pub fn new_seed() -> u64 {
    // Short enough to type again.
    u64::from(rand::random::<u32>())
}

/// The rounds: the first warms up and does not count.
#[derive(Clone, Debug)]
pub struct Schedule<T> {
    entries: Vec<T>,
    random: ChaCha8Rng,
    next: u32,
    rounds: u32,
}

/// One pass over all entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round<T> {
    /// 0 for the warm-up, then 1, 2, …
    pub number: u32,
    /// Every entry, shuffled.
    pub entries: Vec<T>,
}

impl<T> Schedule<T> {
    /// A warm-up round and `rounds` that count, of `entries`. Equal seeds give equal orders.
    pub fn new(entries: Vec<T>, rounds: u32, seed: u64) -> Self {
        Schedule {
            entries,
            random: ChaCha8Rng::seed_from_u64(seed),
            next: 0,
            rounds,
        }
    }
}

impl<T: Clone> Iterator for Schedule<T> {
    type Item = Round<T>;

    fn next(&mut self) -> Option<Round<T>> {
        if self.next > self.rounds {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let mut entries = self.entries.clone();
        entries.shuffle(&mut self.random);
        Some(Round { number, entries })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn schedule(rounds: u32, seed: u64) -> Vec<Round<usize>> {
        Schedule::new((0..12).collect(), rounds, seed).collect()
    }

    #[test]
    fn each_round_has_each_entry_once_after_one_warm_up() {
        let rounds = schedule(20, 5);
        assert_eq!(rounds.len(), 21);
        for (number, round) in rounds.iter().enumerate() {
            assert_eq!(round.number as usize, number);
            let mut entries = round.entries.clone();
            entries.sort_unstable();
            assert_eq!(entries, (0..12).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rounds_differ_in_order() {
        let rounds = schedule(20, 5);
        let orders: HashSet<_> = rounds.iter().map(|round| &round.entries).collect();
        assert_eq!(orders.len(), 21);
        // No entry always follows the same one.
        let followers: HashSet<_> = rounds
            .iter()
            .flat_map(|round| round.entries.windows(2))
            .filter(|pair| pair[0] == 0)
            .map(|pair| pair[1])
            .collect();
        assert!(followers.len() > 5, "{followers:?}");
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(schedule(4, 9), schedule(4, 9));
        assert_ne!(schedule(4, 9), schedule(4, 10));
    }

    #[test]
    fn no_rounds_still_warm_up_and_no_entries_make_empty_rounds() {
        assert_eq!(schedule(0, 1).len(), 1);
        let empty: Vec<Round<u8>> = Schedule::new(Vec::new(), 2, 1).collect();
        assert!(empty.iter().all(|round| round.entries.is_empty()));
    }
}
