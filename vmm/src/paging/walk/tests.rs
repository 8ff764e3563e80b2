use super::super::{Builder, Levels, VecMemory};
use super::*;

const PAGE: Gva = Gva(0x40_0000);
/// Where the tables of [`one_page`] are, by level.
const TABLES: [(Level, Gpa); 4] = [
    (Level::Pml4, Gpa(0x1000)),
    (Level::Pdpt, Gpa(0x2000)),
    (Level::Pd, Gpa(0x3000)),
    (Level::Pt, Gpa(0x4000)),
];

/// One 4 KiB page of everything at [`PAGE`], and the paging to walk it.
fn one_page() -> (VecMemory, Paging) {
    let memory = VecMemory::new(Gpa(0), 16);
    let mut builder = Builder::new(&memory, Levels::Four, Gpa(0x1000)..Gpa(0x8000)).expect("new");
    let flags = Flags::WRITABLE | Flags::USER;
    builder
        .map(PAGE, Gpa(0x9000), 0x1000, PageSize::Kib4, flags)
        .expect("map");
    let paging = Paging::new(builder.root(), Levels::Four);
    (memory, paging)
}

/// Where [`PAGE`]'s entry at `level` is.
fn entry_at(level: Level) -> Gpa {
    let (_, table) = TABLES
        .into_iter()
        .find(|(l, _)| *l == level)
        .expect("level");
    Gpa(table.0 + level.index(PAGE) as u64 * 8)
}

fn edit(memory: &VecMemory, level: Level, change: impl Fn(Entry) -> Entry) {
    let old = Entry::from_raw(memory.read_u64(entry_at(level)).expect("table"));
    memory
        .write_u64(entry_at(level), change(old).raw())
        .expect("table");
}

fn accesses() -> impl Iterator<Item = Access> {
    let kinds = [Kind::Read, Kind::Write, Kind::Fetch];
    let privileges = [
        Privilege::User,
        Privilege::Supervisor,
        Privilege::SupervisorAc,
    ];
    kinds
        .into_iter()
        .flat_map(move |kind| privileges.map(|privilege| Access::new(kind, privilege)))
}

fn page_fault(walk: &Walk) -> PageFault {
    match walk.outcome {
        Err(Fault::Page(fault)) => fault,
        other => panic!("no page fault: {other:?}"),
    }
}

#[test]
fn every_step_is_told() {
    let (memory, paging) = one_page();
    let walk = paging.walk(&memory, Gva(PAGE.0 + 0x123), Access::READ);
    let steps: Vec<_> = walk
        .steps()
        .iter()
        .map(|s| (s.level, s.table, s.index, s.at()))
        .collect();
    assert_eq!(
        steps,
        [
            (Level::Pml4, Gpa(0x1000), 0, Gpa(0x1000)),
            (Level::Pdpt, Gpa(0x2000), 0, Gpa(0x2000)),
            (Level::Pd, Gpa(0x3000), 2, Gpa(0x3010)),
            (Level::Pt, Gpa(0x4000), 0, Gpa(0x4000)),
        ]
    );
    assert_eq!(walk.steps()[3].entry.raw(), 0x9007);
    assert_eq!(walk.outcome.expect("mapped").gpa, Gpa(0x9123));
}

/// SDM vol. 3A, 4.6.1, sentence by sentence; nothing shared with [`Rights::check`].
fn allowed_by_the_manual(
    access: Access,
    writable: bool,
    user_page: bool,
    xd: bool,
    paging: &Paging,
) -> bool {
    let explicit_with_ac = access.privilege == Privilege::SupervisorAc;
    let smap = paging.smap;
    match (access.privilege, access.kind) {
        // "For user-mode accesses": from any user-mode address with ...
        (Privilege::User, Kind::Read) => user_page,
        (Privilege::User, Kind::Write) => user_page && writable,
        (Privilege::User, Kind::Fetch) => user_page && !xd,
        // "For supervisor-mode accesses". Data reads: from any supervisor-mode address; from a
        // user-mode address if SMAP = 0, or if AC = 1 and the access is explicit.
        (_, Kind::Read) => !user_page || !smap || explicit_with_ac,
        // Data writes.
        (_, Kind::Write) => match (user_page, paging.write_protect) {
            (false, false) => true,
            (false, true) => writable,
            (true, false) => !smap || explicit_with_ac,
            (true, true) => writable && (!smap || explicit_with_ac),
        },
        // Fetches: from a supervisor-mode address by XD alone; from a user-mode one with SMEP = 0.
        (_, Kind::Fetch) => !xd && (!user_page || !paging.smep),
    }
}

#[test]
fn rights_are_those_of_the_manual_for_every_combination() {
    let mut allowed = 0;
    let mut refused = 0;
    for level in [Level::Pml4, Level::Pdpt, Level::Pd, Level::Pt] {
        for bits in 0..128_u32 {
            let bit = |n: u32| bits >> n & 1 == 1;
            let (memory, mut paging) = one_page();
            let (writable, user, xd) = (bit(0), bit(1), bit(2) && bit(3));
            paging.no_execute = bit(3);
            paging.write_protect = bit(4);
            paging.smep = bit(5);
            paging.smap = bit(6);
            edit(&memory, level, |mut entry| {
                for (set, flag) in [(writable, Flags::WRITABLE), (user, Flags::USER)] {
                    entry = if set {
                        entry.with(flag)
                    } else {
                        entry.without(flag)
                    };
                }
                if xd {
                    entry.with(Flags::NO_EXECUTE)
                } else {
                    entry
                }
            });
            for access in accesses() {
                let walk = paging.walk(&memory, PAGE, access);
                let expected = allowed_by_the_manual(access, writable, user, xd, &paging);
                assert_eq!(
                    walk.outcome.is_ok(),
                    expected,
                    "{access} {level} {paging:?} {walk:?}"
                );
                if expected {
                    allowed += 1;
                    continue;
                }
                refused += 1;
                let code = page_fault(&walk).code;
                let tells_fetch = access.kind == Kind::Fetch && (paging.no_execute || paging.smep);
                assert!(code.contains(ErrorCode::PRESENT) && !code.contains(ErrorCode::RESERVED));
                assert_eq!(code.contains(ErrorCode::WRITE), access.kind == Kind::Write);
                assert_eq!(
                    code.contains(ErrorCode::USER),
                    access.privilege == Privilege::User
                );
                assert_eq!(code.contains(ErrorCode::FETCH), tells_fetch);
            }
        }
    }
    assert_eq!(allowed + refused, 4 * 128 * 9);
    assert!(allowed > 1000 && refused > 1000);
}

#[test]
fn causes_name_the_highest_entry_that_refuses() {
    let (memory, paging) = one_page();
    edit(&memory, Level::Pt, |e| e.without(Flags::WRITABLE));
    edit(&memory, Level::Pdpt, |e| e.without(Flags::WRITABLE));
    let fault = page_fault(&paging.walk(&memory, PAGE, Access::USER_WRITE));
    assert_eq!((fault.level, fault.cause), (Level::Pdpt, Cause::ReadOnly));
    assert_eq!(fault.code.bits(), 0x7);
    let told = Fault::Page(fault).to_string();
    assert_eq!(
        told,
        "page fault at 0x400000 (error code 0x7): the PDPT entry is read-only"
    );
}

#[test]
fn not_present_stops_at_its_level_and_comes_before_rights() {
    for (steps, (level, _)) in TABLES.into_iter().enumerate() {
        let (memory, paging) = one_page();
        edit(&memory, Level::Pml4, |e| e.without(Flags::USER));
        // Reserved bits of an absent entry mean nothing.
        edit(&memory, level, |e| {
            Entry::from_raw(e.raw() | bits_of_the_guest()).without(Flags::PRESENT)
        });
        let walk = paging.walk(&memory, PAGE, Access::USER_WRITE);
        assert_eq!(walk.steps().len(), steps + 1);
        let fault = page_fault(&walk);
        assert_eq!((fault.level, fault.cause), (level, Cause::NotPresent));
        assert_eq!(fault.code, ErrorCode::WRITE | ErrorCode::USER);
    }
}

fn bits_of_the_guest() -> u64 {
    0x7fff_ffff_ffff_fffe
}

#[test]
fn reserved_bits_refuse_with_their_own_code_before_rights() {
    for (steps, (level, _)) in TABLES.into_iter().enumerate() {
        let (memory, mut paging) = one_page();
        paging.processor.physical_bits = 40;
        edit(&memory, Level::Pml4, |e| e.without(Flags::USER));
        edit(&memory, level, |e| Entry::from_raw(e.raw() | 1 << 45));
        let walk = paging.walk(&memory, PAGE, Access::USER_READ);
        assert_eq!(walk.steps().len(), steps + 1);
        let fault = page_fault(&walk);
        assert_eq!(
            (fault.level, fault.cause),
            (level, Cause::Reserved(1 << 45))
        );
        assert_eq!(
            fault.code,
            ErrorCode::PRESENT | ErrorCode::USER | ErrorCode::RESERVED
        );
    }
    // Without NXE the no-execute bit is such a bit.
    let (memory, mut paging) = one_page();
    edit(&memory, Level::Pt, |e| e.with(Flags::NO_EXECUTE));
    paging.no_execute = false;
    let fault = page_fault(&paging.walk(&memory, PAGE, Access::FETCH));
    assert_eq!(fault.code, ErrorCode::PRESENT | ErrorCode::RESERVED);
    assert_eq!(fault.cause, Cause::Reserved(1 << 63));
}

#[test]
fn addresses_that_are_not_canonical_read_nothing() {
    let (memory, paging) = one_page();
    let walk = paging.walk(&memory, Gva(1 << 47), Access::READ);
    assert_eq!(walk.outcome, Err(Fault::NotCanonical(Gva(1 << 47))));
    assert!(walk.steps().is_empty());
}

#[test]
fn tables_outside_memory_are_told_and_nothing_wraps() {
    let (memory, mut paging) = one_page();
    let far = Gpa(0x000f_ffff_ffff_f000);
    edit(&memory, Level::Pd, |e| Entry::table(far, e.flags()));
    let walk = paging.walk(&memory, PAGE, Access::READ);
    assert_eq!(walk.steps().len(), 3);
    let level = Level::Pt;
    assert_eq!(walk.outcome, Err(Fault::OutsideMemory { level, at: far }));
    // A root that no CR3 can hold, read as CR3 would be: found by fuzzing.
    paging.root = Gpa(!0);
    let walk = paging.walk(&memory, Gva(!0), Access::READ);
    let at = Gpa(0x000f_ffff_ffff_fff8);
    let level = Level::Pml4;
    assert_eq!(walk.outcome, Err(Fault::OutsideMemory { level, at }));
}

#[test]
fn marks_are_those_of_the_access_and_only_on_success() {
    let (memory, paging) = one_page();
    let flags = |level| Entry::from_raw(memory.read_u64(entry_at(level)).expect("table"));
    paging
        .walk(&memory, PAGE, Access::WRITE)
        .outcome
        .expect("mapped");
    assert!(
        TABLES
            .iter()
            .all(|(level, _)| !flags(*level).has(Flags::ACCESSED))
    );

    edit(&memory, Level::Pt, |e| e.without(Flags::WRITABLE));
    paging
        .walk_and_mark(&memory, PAGE, Access::WRITE)
        .outcome
        .expect_err("read-only");
    assert!(
        TABLES
            .iter()
            .all(|(level, _)| !flags(*level).has(Flags::ACCESSED))
    );

    edit(&memory, Level::Pt, |e| e.with(Flags::WRITABLE));
    paging
        .walk_and_mark(&memory, PAGE, Access::READ)
        .outcome
        .expect("mapped");
    assert!(
        TABLES
            .iter()
            .all(|(level, _)| flags(*level).has(Flags::ACCESSED))
    );
    assert!(
        TABLES
            .iter()
            .all(|(level, _)| !flags(*level).has(Flags::DIRTY))
    );

    let walk = paging.walk_and_mark(&memory, PAGE, Access::WRITE);
    assert!(walk.outcome.expect("mapped").entry.has(Flags::DIRTY));
    assert_eq!(walk.steps()[3].entry, flags(Level::Pt));
    assert!(flags(Level::Pt).has(Flags::DIRTY));
    assert!(!flags(Level::Pd).has(Flags::DIRTY));
}

#[test]
fn a_table_that_points_to_itself_is_walked_and_marked_like_any_other() {
    let memory = VecMemory::new(Gpa(0), 2);
    memory.write_u64(Gpa(0x1000), 0x1003).expect("table");
    for levels in [Levels::Four, Levels::Five] {
        let paging = Paging::new(Gpa(0x1000), levels);
        let walk = paging.walk_and_mark(&memory, Gva(8), Access::WRITE);
        assert_eq!(walk.steps().len(), levels.count());
        assert_eq!(walk.outcome.expect("mapped").gpa, Gpa(0x1008));
        assert_eq!(memory.read_u64(Gpa(0x1000)), Some(0x1063));
    }
}

/// Memory in which another processor changes every entry as soon as it was read.
struct Restless(VecMemory);

impl PhysicalMemory for Restless {
    fn read_u64(&self, at: Gpa) -> Option<u64> {
        let old = self.0.read_u64(at)?;
        self.0.write_u64(at, old ^ 1 << 9)?;
        Some(old)
    }

    fn write_u64(&self, at: Gpa, value: u64) -> Option<()> {
        self.0.write_u64(at, value)
    }

    fn compare_exchange_u64(&self, at: Gpa, current: u64, new: u64) -> Option<bool> {
        self.0.compare_exchange_u64(at, current, new)
    }
}

#[test]
fn a_guest_that_keeps_editing_cannot_hold_the_walker() {
    let (memory, paging) = one_page();
    let memory = Restless(memory);
    paging
        .walk(&memory, PAGE, Access::READ)
        .outcome
        .expect("mapped");
    let walk = paging.walk_and_mark(&memory, PAGE, Access::READ);
    assert_eq!(walk.outcome, Err(Fault::Unstable(PAGE)));
}
