use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

fn random() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(1)
}

fn close(actual: f64, expected: f64) -> bool {
    (actual - expected).abs() < 1e-12
}

#[test]
fn a_known_sample_has_its_known_summary() {
    // The R-8 quartiles of 1, 2, …, 9 are 2.75 - 1/12 and 7.25 + 1/12; an outlier moves the range.
    let summary = summarize(
        &[7.0, 3.0, 900.0, 1.0, 5.0, 2.0, 8.0, 4.0, 6.0],
        &mut random(),
    )
    .unwrap();
    assert_eq!(summary.count, 9);
    assert!(close(summary.median, 5.0));
    assert!(close(summary.deviation, 2.0));
    assert!(close(summary.quartiles.low, 8.0 / 3.0), "{summary:?}");
    assert!(close(summary.quartiles.high, 22.0 / 3.0), "{summary:?}");
    assert_eq!((summary.range.low, summary.range.high), (1.0, 900.0));
    assert!(summary.interval.contains(5.0) && summary.interval.high < 900.0);
}

#[test]
fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
    let summary = summarize(&[10.0, 1.0, 2.0, 4.0], &mut random()).unwrap();
    assert!(close(summary.median, 3.0));
    assert!(close(summary.deviation, 1.5));
}

#[test]
fn few_samples_have_a_summary_and_none_has_none() {
    assert_eq!(summarize(&[], &mut random()), None);
    let one = summarize(&[4.0], &mut random()).unwrap();
    assert_eq!((one.median, one.deviation), (4.0, 0.0));
    assert_eq!((one.interval.low, one.interval.high), (4.0, 4.0));
    assert_eq!((one.quartiles.low, one.quartiles.high), (4.0, 4.0));
}

#[test]
fn the_interval_is_the_one_that_the_binomial_distribution_gives() {
    // Of 11 samples 1, …, 11, the resampled median is at most k just if 6 or more of 11 draws are, each
    // with probability k/11. That sum passes 2.5 % first at k = 3, and 97.5 % at k = 9.
    let samples: Vec<f64> = (1..=11).map(f64::from).collect();
    let at_most = |k: f64| -> f64 {
        let choose =
            |n: i32, m: i32| (0..m).fold(1.0, |c, i| c * f64::from(n - i) / f64::from(i + 1));
        let p: f64 = k / 11.0;
        (6..=11)
            .map(|m| choose(11, m) * p.powi(m) * (1.0 - p).powi(11 - m))
            .sum()
    };
    assert!(at_most(2.0) < 0.025 && at_most(3.0) > 0.03);
    assert!(at_most(8.0) < 0.97 && at_most(9.0) > 0.975);
    let summary = summarize(&samples, &mut random()).unwrap();
    assert_eq!((summary.interval.low, summary.interval.high), (3.0, 9.0));
}

#[test]
fn intervals_cover_the_truth_about_as_often_as_they_say() {
    // The median of an exponential distribution with mean 1 is ln 2; a skewed tail, as timings have.
    let mut random = random();
    let covered = (0..100)
        .filter(|_| {
            let samples: Vec<f64> = (0..25)
                .map(|_| -(1.0 - random.random::<f64>()).ln())
                .collect();
            // Fewer than a report takes, for the sake of emulated hosts.
            let interval = middle_95_percent(medians_of_resamples(&samples, 400, &mut random));
            interval.contains(std::f64::consts::LN_2)
        })
        .count();
    assert!((88..=98).contains(&covered), "{covered} of 100");
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let samples = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
    let first = summarize(&samples, &mut random());
    assert_eq!(first, summarize(&samples, &mut random()));
}

#[test]
fn a_ratio_is_that_of_the_medians_with_an_interval_around_it() {
    let slow = [20.0, 21.0, 19.0, 20.0, 22.0];
    let fast = [10.0, 10.0, 11.0, 9.0, 10.0];
    let ratio = ratio(&slow, &fast, &mut random()).unwrap();
    assert!(close(ratio.value, 2.0));
    assert!(ratio.interval.contains(2.0));
    assert!(
        ratio.interval.low > 1.6 && ratio.interval.high < 2.5,
        "{ratio:?}"
    );
}

#[test]
fn constant_samples_leave_no_doubt() {
    let ratio = ratio(&[3.0; 7], &[2.0; 4], &mut random()).unwrap();
    assert_eq!((ratio.value, ratio.interval.width()), (1.5, 0.0));
}

#[test]
fn nothing_is_so_many_times_nothing() {
    assert_eq!(ratio(&[1.0], &[], &mut random()), None);
    assert_eq!(ratio(&[], &[1.0], &mut random()), None);
    assert_eq!(ratio(&[1.0, 2.0], &[0.0, 0.0], &mut random()), None);
    assert_eq!(ratio(&[0.0], &[2.0], &mut random()).unwrap().value, 0.0);
}
