//! How many exits of each kind, and what they cost.
//!
//! Two times are taken around each `KVM_RUN`, so a guest's life falls into two parts: *in KVM* (the
//! guest's own instructions, and the processor's and kernel's way in and out) and *in the VMM*
//! (handling, per kind of exit).

use super::Reason;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Counts and handling times of one guest's exits.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    counts: [u64; Reason::COUNT],
    /// Nanoseconds, made at the first exit of each kind: most guests have two or three.
    handling_ns: [Option<Box<Histogram<u32>>>; Reason::COUNT],
    in_kvm: Duration,
    in_vmm: Duration,
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

/// The longest handling time that is told from longer ones.
const LONGEST_NS: u64 = 60_000_000_000;

impl Statistics {
    /// Records one exit: how long the guest ran before it, and how long it took to handle.
    pub fn record(&mut self, reason: Reason, in_kvm: Duration, handling: Duration) {
        self.counts[reason as usize] += 1;
        self.in_kvm += in_kvm;
        self.in_vmm += handling;
        // Two significant digits: a histogram of 14 KiB.
        let histogram = self.handling_ns[reason as usize].get_or_insert_with(|| {
            Box::new(Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("the bounds are in order"))
        });
        histogram.saturating_record(handling.as_nanos() as u64);
    }

    /// How many exits of a kind.
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize]
    }

    /// How many exits in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Time in `KVM_RUN`: the guest, and the way in and out.
    pub fn in_kvm(&self) -> Duration {
        self.in_kvm
    }

    /// Time in the VMM's handling of exits.
    pub fn in_vmm(&self) -> Duration {
        self.in_vmm
    }

    /// How often each handling time occurred for a kind of exit: `(up to so many ns, count)` for
    /// powers of two, from the first that occurred to the last.
    pub fn distribution(&self, reason: Reason) -> Vec<(u64, u64)> {
        let Some(histogram) = &self.handling_ns[reason as usize] else {
            return Vec::new();
        };
        let bars = histogram.iter_log(1, 2.0);
        let bars = bars.map(|bar| (bar.value_iterated_to(), bar.count_since_last_iteration()));
        bars.skip_while(|&(_, count)| count == 0).collect()
    }

    /// A row for each kind that occurred, the most frequent first.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut rows: Vec<Summary> = ALL
            .into_iter()
            .filter_map(|reason| {
                let histogram = self.handling_ns[reason as usize].as_ref()?;
                Some(Summary {
                    reason,
                    count: self.count(reason),
                    median_ns: histogram.value_at_quantile(0.5),
                    p99_ns: histogram.value_at_quantile(0.99),
                    max_ns: histogram.max(),
                })
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.count));
        rows
    }
}

const ALL: [Reason; Reason::COUNT] = [
    Reason::IoOut,
    Reason::IoIn,
    Reason::IoString,
    Reason::MmioRead,
    Reason::MmioWrite,
    Reason::Hlt,
    Reason::Shutdown,
    Reason::InternalError,
    Reason::FailEntry,
    Reason::Debug,
    Reason::MsrRead,
    Reason::MsrWrite,
    Reason::SystemEvent,
    Reason::MemoryFault,
    Reason::Hypercall,
    Reason::IoapicEoi,
    Reason::Exception,
    Reason::IrqWindowOpen,
    Reason::Interrupted,
    Reason::TprAccess,
    Reason::Nmi,
    Reason::Other,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_counted_by_kind_and_their_times_summed() {
        let mut statistics = Statistics::default();
        for handling_ns in [100, 200, 300] {
            statistics.record(
                Reason::IoOut,
                Duration::from_nanos(1000),
                Duration::from_nanos(handling_ns),
            );
        }
        statistics.record(Reason::Hlt, Duration::from_nanos(5), Duration::ZERO);
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
    fn every_kind_has_its_place() {
        assert!(
            ALL.iter()
                .enumerate()
                .all(|(index, reason)| *reason as usize == index)
        );
    }
}
