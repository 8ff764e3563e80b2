//! What a handful of noisy samples can tell: a median, a spread, and how far to trust them.
//!
//! Medians and quartiles, because timings have a long tail on one side. Intervals by the percentile
//! bootstrap (Efron, "Bootstrap methods", 1979), because it assumes nothing about how they are
//! distributed: the samples stand for all that might have been drawn, and are drawn from again.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use statrs::statistics::{Data, OrderStatistics};

/// How often the samples are drawn again. The ends of a 95 % interval then rest on 50 draws each.
const RESAMPLES: usize = 2000;

/// What the samples of one measurement come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples, at least 1.
    pub count: usize,
    /// The middle sample, or the mean of the middle two.
    pub median: f64,
    /// The bootstrap 95 % confidence interval of the median.
    pub interval: Interval,
    /// The first and third quartile, between which half of the samples are.
    pub quartiles: Interval,
    /// Median absolute deviation: the median of the distances from the median.
    pub deviation: f64,
    /// The least and the greatest sample.
    pub range: Interval,
}

/// From here to there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// One median over another, and the bootstrap 95 % confidence interval of that.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The ratio of the medians.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

impl Interval {
    /// Whether `value` is inside, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// The distance between the ends.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// Sums up `samples`, all finite; `None` if there are none.
pub fn summarize(samples: &[f64], random: &mut impl RngExt) -> Option<Summary> {
    if samples.is_empty() {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = median(&mut sorted);
    let mut distances: Vec<f64> = sorted
        .iter()
        .map(|sample| (sample - median).abs())
        .collect();
    let mut data = Data::new(sorted.clone());
    Some(Summary {
        count: samples.len(),
        median,
        interval: middle_95_percent(medians_of_resamples(samples, RESAMPLES, random)),
        quartiles: Interval {
            low: data.lower_quartile(),
            high: data.upper_quartile(),
        },
        deviation: self::median(&mut distances),
        range: Interval {
            low: sorted[0],
            high: sorted[sorted.len() - 1],
        },
    })
}

/// The ratio of the medians of `samples` and of `baseline`; `None` if either has no samples or could
/// be zero, for then the ratio says nothing.
///
/// The two are drawn again independently. Interleaved runs share some of their noise, so the
/// interval is on the wide side.
pub fn ratio(samples: &[f64], baseline: &[f64], random: &mut impl RngExt) -> Option<Ratio> {
    if samples.is_empty() || baseline.is_empty() || baseline.iter().any(|&sample| sample <= 0.0) {
        return None;
    }
    let value = median(&mut samples.to_vec()) / median(&mut baseline.to_vec());
    let above = medians_of_resamples(samples, RESAMPLES, random);
    let below = medians_of_resamples(baseline, RESAMPLES, random);
    let ratios = above.iter().zip(&below).map(|(above, below)| above / below);
    Some(Ratio {
        value,
        interval: middle_95_percent(ratios.collect()),
    })
}

fn medians_of_resamples(samples: &[f64], count: usize, random: &mut impl RngExt) -> Vec<f64> {
    let mut drawn = vec![0.0; samples.len()];
    (0..count)
        .map(|_| {
            for slot in &mut drawn {
                *slot = samples[random.random_range(0..samples.len())];
            }
            median(&mut drawn)
        })
        .collect()
}

/// The middle of `samples`, which are not empty; reorders them.
fn median(samples: &mut [f64]) -> f64 {
    Data::new(samples).median()
}

fn middle_95_percent(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    let cut = values.len() * 25 / 1000;
    Interval {
        low: values[cut],
        high: values[values.len() - 1 - cut],
    }
}

#[cfg(test)]
mod tests;
