//! Shadow tables translate exactly as a nested walk does, whatever the guest does to its tables, and
//! no stale entry survives.
//!
//! Random sequences of edits, stores, flushes, CR3 writes and moved host pages, a third of them in a
//! soup of tables that are shared, point to themselves and serve at several levels. Hundreds of
//! sequences run by default, thousands in a release build. CI makes the whole run:
//! `PROPTEST_CASES=100000 cargo test --release -p ringside-vmm --test shadow`.

mod oracle;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use ringside_vmm::memory::Gpa;
use ringside_vmm::paging::shadow::{ShadowMachine, ShadowMmu, audit};
use ringside_vmm::paging::tlb::Tlb;
use ringside_vmm::paging::{Mmu, NestedMmu, Op, PhysicalMemory, Through};

use oracle::{Oracle, Permitted};
use world::{Act, World, choose, intents};

/// Sequences of each property, unless `PROPTEST_CASES` says another number.
const SEQUENCES: u64 = if cfg!(debug_assertions) { 400 } else { 5_000 };
/// Merged tables: few enough that the shadow runs out of them now and then.
const MERGED_TABLES: usize = 32;
/// Steps from one audit of the merged tables to the next; what is stale stays so for a while.
const AUDIT_EVERY: usize = 5;
/// TLB entries: few enough that some are crowded out.
const TLB_ENTRIES: usize = 16;

/// How many sequences: what the environment says, or the default.
fn sequences() -> u64 {
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => Config::default().cases.into(),
        Err(_) => SEQUENCES,
    }
}

/// Runs `check` over random seeds, each with a list of numbers that choose what the guest does.
fn over_sequences(check: impl Fn(u64, Vec<u64>) -> Result<(), TestCaseError>) {
    let mut config = Config {
        cases: sequences() as u32,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    if config.rng_seed == RngSeed::Random {
        // The same sequences each time; `PROPTEST_RNG_SEED` has others.
        config.rng_seed = RngSeed::Fixed(1);
    }
    let sequence = (any::<u64>(), proptest::collection::vec(any::<u64>(), 1..40));
    TestRunner::new(config)
        .run(&sequence, |(seed, choices)| check(seed, choices))
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn without_a_tlb_shadow_and_nested_agree_on_every_access_and_every_mark() {
    over_sequences(|seed, choices| {
        let (one, two) = (World::new(seed), World::new(seed));
        let guest = Through::new(&two.host, &two.second);
        let mut nested = NestedMmu::new(&one.host, &one.second, one.state, Tlb::new(0));
        let hypervisor = ShadowMmu::new(&guest, &two.second, two.state.paging, MERGED_TABLES);
        let mut shadow = ShadowMachine::new(&two.host, hypervisor, two.state, Tlb::new(0));
        for (number, (intent, choice)) in intents(&choices, &one).into_iter().enumerate() {
            let act = choose(intent, choice, &one, shadow.state());
            let (left, right) = match act {
                Act::Guest(op) => (nested.run(op), shadow.run(op)),
                Act::HostMoves(at) => {
                    one.move_host_page(at);
                    two.move_host_page(at);
                    nested.host_moved(at);
                    shadow.host_moved(at);
                    (None, None)
                }
            };
            prop_assert_eq!(left, right, "step {}, nested left: {:?}", number, act);
            if number % AUDIT_EVERY != 0 {
                continue;
            }
            let paging = shadow.state().paging;
            let checked = audit(shadow.hypervisor(), &paging, &guest, &two.second);
            prop_assert!(
                checked.is_ok(),
                "step {}: {:?}: {}",
                number,
                act,
                checked.unwrap_err()
            );
        }
        // The stores went to the same places, and the accessed and dirty bits flowed back alike.
        for at in one.host.words() {
            let (left, right) = (one.host.read_u64(at), two.host.read_u64(at));
            prop_assert_eq!(left, right, "host word {}, nested left", at);
        }
        Ok(())
    });
}

/// Runs a sequence on one technique with a TLB, and holds each access against what the
/// architecture permits: the tables as they are, or as they were at some time since the guest last
/// flushed that translation. `check` looks at the machine between steps.
fn permitted<M: Mmu>(
    world: &World,
    mmu: &mut M,
    choices: &[u64],
    check: impl Fn(&M) -> Result<(), TestCaseError>,
) -> Result<Permitted, TestCaseError> {
    let mut oracle = Oracle::new(world);
    let mut seen = Permitted::default();
    for (number, (intent, choice)) in intents(choices, world).into_iter().enumerate() {
        let act = choose(intent, choice, world, oracle.state());
        oracle.begin(act);
        match act {
            Act::Guest(op) => {
                // What the tables say before the access itself changes anything.
                let expected = oracle.expected(op);
                let outcome = mmu.run(op);
                if let (Some(expected), Some(outcome)) = (expected, outcome) {
                    let verdict = expected.judge(outcome);
                    prop_assert!(
                        verdict.is_some(),
                        "step {number}: {op:?}: {outcome:?} of {expected:?}"
                    );
                    seen.count(verdict.expect("just checked"));
                    let marked = !expected.must_mark || oracle.is_marked(op);
                    prop_assert!(marked, "step {number}: {op:?} left its entries unmarked");
                }
                oracle.end(op);
            }
            Act::HostMoves(at) => {
                world.move_host_page(at);
                mmu.host_moved(at);
                oracle.flush_everything();
            }
        }
        if number % AUDIT_EVERY == 0 {
            check(mmu)?;
        }
    }
    // After everything is flushed nothing stale is left.
    let controls = Op::Controls(oracle.state().paging);
    mmu.run(controls);
    oracle.end(controls);
    for address in world.addresses() {
        let op = World::read(*address);
        oracle.begin(Act::Guest(op));
        let expected = oracle.expected(op).expect("an access");
        let outcome = mmu.run(op).expect("an access");
        prop_assert!(
            expected.is_fresh(outcome),
            "after the last flush: {outcome:?} of {expected:?}"
        );
        oracle.end(op);
    }
    Ok(seen)
}

#[test]
fn with_a_tlb_the_shadow_is_never_staler_than_the_architecture_permits() {
    let stale = std::cell::Cell::new(0_u64);
    over_sequences(|seed, choices| {
        let world = World::new(seed);
        let guest = Through::new(&world.host, &world.second);
        let hypervisor = ShadowMmu::new(&guest, &world.second, world.state.paging, MERGED_TABLES);
        let mut shadow =
            ShadowMachine::new(&world.host, hypervisor, world.state, Tlb::new(TLB_ENTRIES));
        let seen = permitted(&world, &mut shadow, &choices, |shadow| {
            let paging = shadow.state().paging;
            let checked = audit(shadow.hypervisor(), &paging, &guest, &world.second);
            prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
            // Nothing that the TLB remembers lets the guest write a table without an exit.
            for entry in shadow.tlb().entries().filter(|entry| entry.rights.write) {
                let at = world.second.guest_page(entry.host).map_or(Gpa(0), |at| at);
                let table = ringside_vmm::paging::shadow::ShadowHooks::is_guest_table(
                    shadow.hypervisor(),
                    at,
                );
                prop_assert!(!table, "{:?} is writable in the TLB, and a table", at);
            }
            Ok(())
        })?;
        stale.set(stale.get() + seen.stale);
        Ok(())
    });
    // The property is about staleness, so there has to be some.
    assert!(stale.get() > 0 || sequences() < SEQUENCES);
}

#[test]
fn with_a_tlb_nested_paging_is_never_staler_than_the_architecture_permits() {
    let stale = std::cell::Cell::new(0_u64);
    over_sequences(|seed, choices| {
        let world = World::new(seed);
        let tlb = Tlb::new(TLB_ENTRIES);
        let mut nested = NestedMmu::new(&world.host, &world.second, world.state, tlb);
        let seen = permitted(&world, &mut nested, &choices, |_| Ok(()))?;
        stale.set(stale.get() + seen.stale);
        Ok(())
    });
    assert!(stale.get() > 0 || sequences() < SEQUENCES);
}
