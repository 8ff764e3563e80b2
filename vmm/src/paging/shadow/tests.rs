use super::super::{
    Access, Builder, Entry, Flags, GuestState, Levels, Mmu, PageSize, Privilege, Slot, Slots,
    Through, VecMemory,
};
use super::*;
use crate::memory::Hva;

const HOST: u64 = 0x5000_0000;
const PAGE: Gva = Gva(0x40_0000);
/// The entry that maps [`PAGE`], and the tables above it: 0x1000, 0x2000, 0x3000, 0x4000.
const ENTRY: Gpa = Gpa(0x4000);
const RW: Flags = Flags::WRITABLE.union(Flags::USER);

/// Memory in which [`PAGE`] and the two pages behind it are mapped to 0x9000 and on.
fn memory() -> (VecMemory, Slots, GuestState) {
    let host = VecMemory::new(Gpa(HOST), 16);
    let second = Slots::new([Slot {
        number: 0,
        gpa: Gpa(0),
        bytes: 16 << 12,
        hva: Hva(HOST),
        read_only: false,
    }]);
    let guest = Through::new(&host, &second);
    let mut builder = Builder::new(&guest, Levels::Four, Gpa(0x1000)..Gpa(0x8000)).expect("new");
    builder
        .map(PAGE, Gpa(0x9000), 0x3000, PageSize::Kib4, RW)
        .expect("map");
    let state = GuestState::new(Paging::new(builder.root(), Levels::Four));
    (host, second, state)
}

type Shadow<'m> = ShadowMmu<'m, Through<'m, VecMemory, Slots>, Slots>;

/// Runs `check` on a machine with that memory.
fn machine(check: impl FnOnce(&mut ShadowMachine<'_, VecMemory, Shadow<'_>>, &VecMemory)) {
    let (host, second, state) = memory();
    let guest = Through::new(&host, &second);
    let hypervisor = ShadowMmu::new(&guest, &second, state.paging, 64);
    let mut machine = ShadowMachine::new(&host, hypervisor, state, Tlb::new(16));
    check(&mut machine, &host);
    let paging = machine.state().paging;
    audit(machine.hypervisor(), &paging, &guest, &second).expect("nothing stale");
}

fn guest_entry(host: &VecMemory, at: Gpa) -> Entry {
    Entry::from_raw(host.read_u64(Gpa(HOST + at.0)).expect("guest memory"))
}

#[test]
fn the_merged_table_leads_to_the_host_in_four_references() {
    machine(|machine, _| {
        let found = machine.access(Gva(PAGE.0 + 8), Access::USER_READ);
        assert_eq!(found, Ok(Hpa(HOST + 0x9008)));
        let paging = machine.hypervisor().merged_paging(&machine.state().paging);
        let walk = paging.walk(machine.hypervisor().tables(), PAGE, Access::USER_READ);
        assert_eq!(walk.steps().len(), 4);
        assert_eq!(walk.outcome.expect("merged").gpa, Gpa(HOST + 0x9000));
        assert_eq!(machine.costs().exits.fill, 1);
        machine.access(PAGE, Access::USER_READ).expect("mapped");
        assert_eq!(
            (machine.costs().exits.total(), machine.costs().tlb_hits),
            (1, 1)
        );
    });
}

#[test]
fn accessed_and_dirty_flow_back_each_when_it_is_due() {
    machine(|machine, host| {
        machine.access(PAGE, Access::USER_READ).expect("mapped");
        let entry = guest_entry(host, ENTRY);
        assert!(entry.has(Flags::ACCESSED) && !entry.has(Flags::DIRTY));
        assert!(guest_entry(host, Gpa(0x1000)).has(Flags::ACCESSED));
        // The page is merged read-only, so the first write exits once more.
        machine.access(PAGE, Access::USER_WRITE).expect("mapped");
        assert!(guest_entry(host, ENTRY).has(Flags::DIRTY));
        assert_eq!(machine.costs().exits.fill, 2);
        machine.access(PAGE, Access::USER_WRITE).expect("mapped");
        assert_eq!(machine.costs().exits.total(), 2);
    });
}

#[test]
fn an_edit_exits_and_takes_effect_with_the_flush() {
    machine(|machine, _| {
        machine.access(PAGE, Access::USER_READ).expect("mapped");
        let flags = RW | Flags::PRESENT;
        machine.edit(ENTRY, Entry::page(Gpa(0xb000), PageSize::Kib4, flags).raw());
        assert_eq!(machine.costs().exits.table_write, 1);
        // Stale, as the architecture permits; then not.
        assert_eq!(
            machine.access(PAGE, Access::USER_READ),
            Ok(Hpa(HOST + 0x9000))
        );
        machine.invlpg(PAGE);
        assert_eq!(
            machine.access(PAGE, Access::USER_READ),
            Ok(Hpa(HOST + 0xb000))
        );
        // Data pages are no tables.
        machine.edit(Gpa(0xb000), 7);
        assert_eq!(machine.costs().exits.table_write, 1);
    });
}

#[test]
fn a_table_that_the_guest_maps_for_itself_cannot_be_written_behind_the_hypervisor() {
    machine(|machine, host| {
        // The guest's page table, writable in its own address space.
        let flags = RW | Flags::PRESENT | Flags::DIRTY;
        let window = Entry::page(ENTRY, PageSize::Kib4, flags);
        machine.edit(Gpa(ENTRY.0 + 8), window.raw());
        let window = Gva(PAGE.0 + 0x1000);
        machine.access(PAGE, Access::USER_READ).expect("mapped");
        let new = Entry::page(Gpa(0xa000), PageSize::Kib4, flags).raw();
        machine
            .store(window, Privilege::User, new)
            .expect("the guest's right");
        assert_eq!(machine.costs().exits.table_write, 1);
        assert_eq!(guest_entry(host, ENTRY).raw(), new);
        machine.invlpg(PAGE);
        assert_eq!(
            machine.access(PAGE, Access::USER_READ),
            Ok(Hpa(HOST + 0xa000))
        );
    });
}

#[test]
fn a_page_that_is_no_table_any_more_is_written_without_exits() {
    machine(|machine, _| {
        let lone = Gva(PAGE.0 + 0x2000);
        machine.access(lone, Access::USER_READ).expect("mapped");
        assert!(machine.hypervisor().is_guest_table(Gpa(0x4000)));
        // The page directory's entry goes; the page table hangs on nothing, and its next edit says
        // that it is an ordinary page now.
        machine.edit(Gpa(0x3010), 0);
        assert!(machine.hypervisor().is_guest_table(Gpa(0x4000)));
        machine.edit(Gpa(0x4010), 0x1234);
        assert!(!machine.hypervisor().is_guest_table(Gpa(0x4000)));
        let exits = machine.costs().exits;
        machine.edit(Gpa(0x4018), 0x1234);
        assert_eq!(machine.costs().exits, exits);
    });
}

#[test]
fn with_write_protection_off_the_supervisor_writes_through_the_hypervisor() {
    machine(|machine, host| {
        let read_only = Entry::page(Gpa(0x9000), PageSize::Kib4, Flags::PRESENT);
        machine.edit(ENTRY, read_only.raw());
        let refused = machine.store(PAGE, Privilege::Supervisor, 5);
        assert!(matches!(refused, Err(NestedFault::Guest(_))));
        let off = Paging {
            write_protect: false,
            ..machine.state().paging
        };
        machine.set_controls(off);
        for value in [5, 6] {
            machine
                .store(PAGE, Privilege::Supervisor, value)
                .expect("WP is off");
            assert_eq!(host.read_u64(Gpa(HOST + 0x9000)), Some(value));
        }
        assert_eq!(machine.costs().exits.emulated_write, 2);
    });
}

#[test]
fn faults_are_the_guests_own_and_nothing_is_where_no_slot_is() {
    machine(|machine, _| {
        let absent = machine.access(Gva(0), Access::USER_READ);
        assert!(matches!(absent, Err(NestedFault::Guest(_))));
        let beyond = Entry::page(Gpa(0xfee0_0000), PageSize::Kib4, Flags::PRESENT | RW);
        machine.edit(ENTRY, beyond.raw());
        let violation = NestedFault::Violation {
            at: Gpa(0xfee0_0000),
            level: None,
            write: false,
        };
        assert_eq!(machine.access(PAGE, Access::USER_READ), Err(violation));
        let odd = machine.access(Gva(1 << 63), Access::USER_READ);
        assert!(matches!(odd, Err(NestedFault::Guest(_))));
        let exits = machine.costs().exits;
        assert_eq!((exits.guest_fault, exits.violation), (1, 1));
    });
}

#[test]
fn edits_of_no_word_change_nothing() {
    machine(|machine, host| {
        machine.access(PAGE, Access::USER_READ).expect("mapped");
        let entry = guest_entry(host, ENTRY);
        for at in [ENTRY.0 + 4, ENTRY.0 + 1, 0xffff_0000, u64::MAX] {
            machine.edit(Gpa(at), 0);
        }
        machine.invlpg(PAGE);
        assert_eq!(
            machine.access(PAGE, Access::USER_READ),
            Ok(Hpa(HOST + 0x9000))
        );
        assert_eq!(guest_entry(host, ENTRY), entry);
    });
}

#[test]
fn each_kind_of_stale_entry_is_told() {
    let (host, second, state) = memory();
    let guest = Through::new(&host, &second);
    let paging = state.paging;
    let hypervisor = ShadowMmu::new(&guest, &second, paging, 64);
    let mut machine = ShadowMachine::new(&host, hypervisor, state, Tlb::new(0));
    machine.access(PAGE, Access::USER_WRITE).expect("mapped");
    let told = || audit(machine.hypervisor(), &paging, &guest, &second);
    assert_eq!(told(), Ok(1));
    // Edits behind the hypervisor's back.
    let entry = guest_entry(&host, ENTRY);
    let set = |entry: Entry| {
        host.write_u64(Gpa(HOST + ENTRY.0), entry.raw())
            .expect("memory")
    };
    set(entry.without(Flags::PRESENT));
    assert!(matches!(told(), Err(Stale::Gone { address: PAGE, .. })));
    set(Entry::from_raw(entry.raw() ^ 0x3000));
    assert!(matches!(
        told(),
        Err(Stale::Moved {
            nested: Hpa(0x5000_a000),
            ..
        })
    ));
    set(entry.without(Flags::WRITABLE));
    assert!(matches!(told(), Err(Stale::Rights { .. })));
    set(entry.with(Flags::NO_EXECUTE));
    assert!(matches!(told(), Err(Stale::Rights { .. })));
    set(entry.without(Flags::DIRTY));
    assert!(matches!(told(), Err(Stale::Unmarked { address: PAGE })));
    set(entry);
    assert_eq!(told(), Ok(1));
}
