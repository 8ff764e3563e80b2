//! Shadow and nested paging in lockstep, over memory and operations from the fuzzer: they agree on
//! every access, and nothing merged is ever stale.
//!
//! `cargo +nightly fuzz run shadow` in `vmm/`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringside_vmm::memory::{Gpa, Gva, Hva};
use ringside_vmm::paging::arbitrary::{self, Random};
use ringside_vmm::paging::shadow::{ShadowMachine, ShadowMmu, audit};
use ringside_vmm::paging::tlb::Tlb;
use ringside_vmm::paging::{
    GuestState, Mmu, NestedMmu, Op, PhysicalMemory, Processor, Slot, Slots, Through, VecMemory,
};
use ringside_vmm_fuzz::Words;

const HOST: u64 = 0x10_0000;
const PAGES: u64 = 10;

/// One operation, from two words of the input.
fn op(words: &mut Words, state: &GuestState) -> Op {
    let (what, value) = (words.take(), words.take());
    let random = &mut Random::new(what);
    let levels = state.paging.levels;
    // Addresses and entries as in the soup, or just what the fuzzer says.
    let address = if what & 8 == 0 {
        arbitrary::address(random, levels)
    } else {
        Gva(value)
    };
    let access = arbitrary::access(random);
    let all = Gpa(0)..Gpa(PAGES << 12);
    let value = if what & 16 == 0 {
        arbitrary::entry(random, &all).raw()
    } else {
        value
    };
    let slot = random.pick(&arbitrary::INDICES) as u64 * 8;
    match what & 7 {
        0..3 => Op::Access { address, access },
        3 => Op::Store {
            address: levels.canonical(Gva(address.0 & !0xfff | slot)),
            privilege: access.privilege,
            value,
        },
        4 | 5 => Op::Edit {
            at: Gpa(random.below(PAGES) << 12 | slot),
            value,
        },
        6 if what & 32 == 0 => Op::Cr3(value),
        6 => Op::Controls(arbitrary::paging(random, &all, state.paging.processor)),
        _ => Op::Invlpg(address),
    }
}

fuzz_target!(|input: &[u8]| {
    let words = &mut Words(input);
    let seed = words.take();
    let random = &mut Random::new(seed);
    let second = Slots::new([Slot {
        number: 0,
        gpa: Gpa(0),
        bytes: PAGES << 12,
        hva: Hva(HOST),
        read_only: false,
    }]);
    let one = VecMemory::new(Gpa(HOST), PAGES as usize);
    let all = Gpa(0)..Gpa(PAGES << 12);
    arbitrary::fill(
        random,
        &Through::new(&one, &second),
        all.clone(),
        all.clone(),
    );
    let two = one.clone();
    let mut state = GuestState::new(arbitrary::paging(random, &all, Processor::default()));
    state.pcids = random.one_in(2);

    let mut nested = NestedMmu::new(&one, &second, state, Tlb::new(0));
    let guest = Through::new(&two, &second);
    let hypervisor = ShadowMmu::new(&guest, &second, state.paging, 16);
    let mut shadow = ShadowMachine::new(&two, hypervisor, state, Tlb::new(0));
    while !words.is_empty() {
        let op = op(words, &shadow.state());
        assert_eq!(nested.run(op), shadow.run(op), "{op:?}");
    }
    audit(shadow.hypervisor(), &shadow.state().paging, &guest, &second).expect("nothing stale");
    for at in (HOST..HOST + one.bytes()).step_by(8).map(Gpa) {
        assert_eq!(one.read_u64(at), two.read_u64(at), "host word {at}");
    }
});
