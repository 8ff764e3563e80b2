//! How many exits of each kind, and what they cost.
//!
//! Times are read off the processor's time-stamp counter, for asking the kernel's clock twice at
//! each exit takes longer than most exits take to handle. What a tick is worth comes out at the end,
//! when the clock and the counter can be compared over the guest's whole life.
//!
//! Two times are taken around each `KVM_RUN`, so a guest's life falls into two parts: *in KVM* (the
//! guest's own instructions, and the processor's and kernel's way in and out) and *in the VMM*
//! (handling, per kind of exit).

use super::Reason;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Counts and handling times of one guest's exits.
#[derive(Clone, Debug)]
pub struct Statistics {
    counts: [u64; Reason::COUNT],
    /// Ticks, made at the first exit of each kind: most guests have two or three.
    handling: [Option<Box<Histogram<u32>>>; Reason::COUNT],
    in_kvm_ticks: u64,
    in_vmm_ticks: u64,
    tick_ns: f64,
}

/// How many exits a [`Tally`] notes before it files them.
const NOTES: usize = 64;

/// Makes [`Statistics`] as exits happen.
///
/// Filing an exit under its kind and time touches memory in many places, and on the way through the
/// kernel the caches have forgotten most of them. So exits are only noted, one after the other, and
/// filed many at a time.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Those that were filed.
    statistics: Statistics,
    notes: [(u64, Reason); NOTES],
    noted: usize,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            statistics: Statistics::default(),
            notes: [(0, Reason::Other); NOTES],
            noted: 0,
        }
    }
}

impl Tally {
    /// Notes one exit, in ticks: how long the guest ran before it, and how long it took to handle.
    #[inline]
    pub fn record(&mut self, reason: Reason, in_kvm: u64, handling: u64) {
        self.statistics.in_kvm_ticks += in_kvm;
        self.notes[self.noted] = (handling, reason);
        self.noted += 1;
        if self.noted == NOTES {
            self.file();
        }
    }

    #[cold]
    fn file(&mut self) {
        for (handling, reason) in &self.notes[..self.noted] {
            self.statistics.file(*reason, *handling);
        }
        self.noted = 0;
    }

    /// All of them.
    pub fn finish(mut self) -> Statistics {
        self.file();
        self.statistics
    }
}

/// No exits yet, and a tick for a nanosecond.
impl Default for Statistics {
    fn default() -> Statistics {
        Statistics {
            counts: [0; Reason::COUNT],
            handling: [const { None }; Reason::COUNT],
            in_kvm_ticks: 0,
            in_vmm_ticks: 0,
            tick_ns: 1.0,
        }
    }
}

/// One row of the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The kind of exit.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// Time that the VMM took to handle one: half took no longer than this.
    pub median_ns: u64,
    /// 99 of a hundred took no longer than this.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// The longest handling time that is told from longer ones: a minute and more.
const LONGEST_TICKS: u64 = 1 << 38;

impl Statistics {
    /// Files one exit, which took so many ticks to handle.
    fn file(&mut self, reason: Reason, handling: u64) {
        self.counts[reason as usize] += 1;
        self.in_vmm_ticks += handling;
        // Two significant digits: a histogram of 14 KiB.
        let histogram = self.handling[reason as usize].get_or_insert_with(|| {
            let histogram = Histogram::new_with_bounds(1, LONGEST_TICKS, 2);
            Box::new(histogram.expect("the bounds are in order"))
        });
        histogram.saturating_record(handling);
    }

    /// Says how long so many ticks were.
    pub fn calibrate(&mut self, ticks: u64, time: Duration) {
        if ticks > 0 && !time.is_zero() {
            self.tick_ns = time.as_nanos() as f64 / ticks as f64;
        }
    }

    /// Adds another vCPU's exits, of the same machine and time.
    pub fn add(&mut self, other: &Statistics) {
        for reason in Reason::ALL {
            self.counts[reason as usize] += other.count(reason);
            match (
                &mut self.handling[reason as usize],
                &other.handling[reason as usize],
            ) {
                (Some(ours), Some(theirs)) => ours.add(&**theirs).expect("their bounds are equal"),
                (ours @ None, Some(theirs)) => *ours = Some(theirs.clone()),
                (_, None) => {}
            }
        }
        self.in_kvm_ticks += other.in_kvm_ticks;
        self.in_vmm_ticks += other.in_vmm_ticks;
    }

    fn ns(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.tick_ns).round() as u64
    }

    /// How many exits of a kind.
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize]
    }

    /// How many exits in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Time in `KVM_RUN`: the guest, and the way in and out; of all vCPUs together.
    pub fn in_kvm(&self) -> Duration {
        Duration::from_nanos(self.ns(self.in_kvm_ticks))
    }

    /// Time in the VMM's handling of exits.
    pub fn in_vmm(&self) -> Duration {
        Duration::from_nanos(self.ns(self.in_vmm_ticks))
    }

    /// How often each handling time occurred for a kind of exit: `(up to so many ns, count)` for
    /// powers of two, from the first that occurred to the last.
    pub fn distribution(&self, reason: Reason) -> Vec<(u64, u64)> {
        let Some(histogram) = &self.handling[reason as usize] else {
            return Vec::new();
        };
        // A power of two of ticks is none of nanoseconds, so the bars are filled value by value.
        let mut counts = [0; 64];
        for value in histogram.iter_recorded() {
            let bar = self.ns(value.value_iterated_to()).clamp(1, 1 << 63);
            counts[bar.next_power_of_two().ilog2() as usize] += value.count_at_value();
        }
        let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        let bars = counts.into_iter().enumerate().take(last + 1);
        bars.map(|(power, count)| (1 << power, u64::from(count)))
            .skip_while(|&(_, count)| count == 0)
            .collect()
    }

    /// A row for each kind that occurred, the most frequent first.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut rows: Vec<Summary> = Reason::ALL
            .into_iter()
            .filter_map(|reason| {
                let histogram = self.handling[reason as usize].as_ref()?;
                Some(Summary {
                    reason,
                    count: self.count(reason),
                    median_ns: self.ns(histogram.value_at_quantile(0.5)),
                    p99_ns: self.ns(histogram.value_at_quantile(0.99)),
                    max_ns: self.ns(histogram.max()),
                })
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_counted_by_kind_and_their_times_summed() {
        let mut tally = Tally::default();
        for handling in [100, 200, 300] {
            tally.record(Reason::IoOut, 1000, handling);
        }
        tally.record(Reason::Hlt, 5, 0);
        let statistics = tally.finish();
        assert_eq!(
            (
                statistics.count(Reason::IoOut),
                statistics.count(Reason::IoIn),
                statistics.total()
            ),
            (3, 0, 4)
        );
        assert_eq!(statistics.in_kvm(), Duration::from_nanos(3005));
        assert_eq!(statistics.in_vmm(), Duration::from_nanos(600));
        let bars = statistics.distribution(Reason::IoOut);
        assert_eq!(bars.iter().map(|bar| bar.1).sum::<u64>(), 3);
        assert!(bars[0].0 >= 100 && bars[0].1 == 1, "{bars:?}");
        assert!(statistics.distribution(Reason::IoIn).is_empty());
        let rows = statistics.summaries();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].reason, rows[0].count), (Reason::IoOut, 3));
        assert!(
            (200..=202).contains(&rows[0].median_ns) && (300..=303).contains(&rows[0].max_ns),
            "{rows:?}"
        );
    }

    #[test]
    fn a_tick_is_worth_what_the_clock_says() {
        let mut tally = Tally::default();
        tally.record(Reason::IoOut, 3000, 600);
        let mut statistics = tally.clone().finish();
        tally.record(Reason::Hlt, 300, 30);
        statistics.add(&tally.finish());
        statistics.calibrate(3, Duration::from_nanos(1));
        assert_eq!(
            (statistics.total(), statistics.count(Reason::IoOut)),
            (3, 2)
        );
        assert_eq!(statistics.in_kvm(), Duration::from_nanos(2100));
        assert_eq!(statistics.in_vmm(), Duration::from_nanos(410));
        let rows = statistics.summaries();
        assert!((199..=202).contains(&rows[0].max_ns), "{rows:?}");
    }

    #[test]
    fn no_exit_is_lost_between_two_filings() {
        for exits in [0, 1, NOTES, NOTES + 1, 10 * NOTES] {
            let mut tally = Tally::default();
            (0..exits).for_each(|_| tally.record(Reason::IoIn, 2, 3));
            let statistics = tally.finish();
            let count = exits as u64;
            assert_eq!(statistics.count(Reason::IoIn), count);
            assert_eq!(statistics.in_kvm(), Duration::from_nanos(2 * count));
            assert_eq!(statistics.in_vmm(), Duration::from_nanos(3 * count));
        }
    }
}
