use proptest::prelude::*;

use super::*;

#[test]
fn shares_become_weights_as_runc_has_it() {
    let weight = |shares| CpuWeight::Shares(shares).to_weight();
    for (shares, expected) in [
        (2, 1),
        (3, 2),
        (1024, 100),
        (262_143, 10_000),
        (262_144, 10_000),
    ] {
        assert_eq!(weight(shares), expected, "{shares} shares");
    }
}

#[test]
fn weights_become_shares_as_the_kernel_has_it() {
    let shares = |weight| CpuWeight::Weight(weight).to_shares();
    for (weight, expected) in [
        (1, 10),
        (50, 512),
        (100, 1024),
        (300, 3072),
        (10_000, 102_400),
    ] {
        assert_eq!(shares(weight), expected, "weight {weight}");
    }
}

proptest! {
    #[test]
    fn more_shares_never_weigh_less(a in SHARES_RANGE, b in SHARES_RANGE) {
        let (less, more) = (a.min(b), a.max(b));
        let (less, more) = (CpuWeight::Shares(less).to_weight(), CpuWeight::Shares(more).to_weight());
        prop_assert!(less <= more && WEIGHT_RANGE.contains(&less) && WEIGHT_RANGE.contains(&more));
    }

    #[test]
    fn every_weight_has_shares_that_the_kernel_takes(weight in WEIGHT_RANGE) {
        prop_assert!(SHARES_RANGE.contains(&CpuWeight::Weight(weight).to_shares()));
    }
}

#[test]
fn what_no_kernel_takes_is_refused_by_name() {
    let refused = |cpu: Cpu| cpu.validate().unwrap_err().to_string();
    let weight = |weight| Cpu {
        weight: Some(weight),
        ..Cpu::default()
    };
    for value in [0, 10_001, u64::MAX] {
        let text = refused(weight(CpuWeight::Weight(value)));
        assert!(text.contains(&format!("cpu weight of {value}")), "{text}");
    }
    assert!(refused(weight(CpuWeight::Shares(1))).contains("the minimum allowed cpu-shares is 2"));
    let most = refused(weight(CpuWeight::Shares(262_145)));
    assert!(most.contains("the maximum allowed cpu-shares is 262144"));
    let bandwidth = |quota, period, burst| Cpu {
        quota_us: quota,
        period_us: period,
        burst_us: burst,
        ..Cpu::default()
    };
    for (cpu, name) in [
        (
            bandwidth(Some(Limit::At(999)), None, None),
            "cpu quota of 999",
        ),
        (bandwidth(Some(Limit::At(1 << 44)), None, None), "cpu quota"),
        (bandwidth(None, Some(999), None), "cpu period of 999"),
        (bandwidth(None, Some(1_000_001), None), "cpu period"),
        (
            bandwidth(Some(Limit::At(5000)), None, Some(5001)),
            "cpu burst of 5001",
        ),
        (bandwidth(None, None, Some(u64::MAX)), "cpu burst"),
    ] {
        assert!(refused(cpu).contains(name));
    }
    let realtime = Cpu {
        realtime_runtime_us: Some(Limit::At(11)),
        realtime_period_us: Some(10),
        ..Cpu::default()
    };
    assert!(refused(realtime).contains("real-time period"));
    for fine in [
        bandwidth(Some(Limit::Max), Some(1000), Some(0)),
        bandwidth(Some(Limit::At(1000)), None, Some(1000)),
    ] {
        fine.validate().unwrap();
    }
}
