use super::*;

fn memory(limit: Option<Limit>, both: Option<Limit>) -> Memory {
    Memory {
        limit_bytes: limit,
        memory_and_swap_bytes: both,
        ..Memory::default()
    }
}

#[test]
fn swap_alone_is_what_is_left_after_the_memory() {
    const MIB: u64 = 1 << 20;
    let swap = |limit, both| memory(limit, both).swap_alone().unwrap();
    assert_eq!(
        swap(Some(Limit::At(MIB)), Some(Limit::At(3 * MIB))),
        Some(Limit::At(2 * MIB))
    );
    assert_eq!(
        swap(Some(Limit::At(MIB)), Some(Limit::At(MIB))),
        Some(Limit::At(0))
    );
    assert_eq!(
        swap(Some(Limit::At(MIB)), Some(Limit::Max)),
        Some(Limit::Max)
    );
    assert_eq!(
        swap(Some(Limit::Max), None),
        Some(Limit::Max),
        "lifting lifts both"
    );
    assert_eq!(
        swap(Some(Limit::Max), Some(Limit::At(MIB))),
        Some(Limit::At(MIB))
    );
    assert_eq!(swap(Some(Limit::At(MIB)), None), None);
    assert_eq!(swap(None, None), None);
    let none = Some(Limit::At(0));
    assert_eq!(swap(None, none), none, "no swap for as much as there is");
}

#[test]
fn what_no_kernel_takes_is_refused_by_name() {
    let refused = |memory: Memory| memory.validate().unwrap_err().to_string();
    let at = |n| Some(Limit::At(n));
    assert!(refused(memory(at(u64::MAX), None)).contains("63 bits"));
    assert!(refused(memory(at(1 << 20), at(1 << 19))).contains("memory and swap limit of 524288"));
    assert!(refused(memory(None, at(1 << 20))).contains("memory limit beside it"));
    let swappiness = Memory {
        swappiness: Some(201),
        ..Memory::default()
    };
    assert!(refused(swappiness).contains("swappiness of 201"));
    memory(at(4096), at(4096)).validate().unwrap();
}

#[test]
fn below_a_page_nobody_starts() {
    let refused = |memory: Memory| memory.lets_start().unwrap_err().to_string();
    let at = |n| Some(Limit::At(n));
    assert!(refused(memory(at(100), None)).contains("memory limit of 100"));
    assert!(refused(memory(at(0), None)).contains("memory limit of 0"));
    assert!(refused(memory(at(4096), at(0))).contains("memory and swap limit of 0"));
    memory(at(4096), at(4096)).lets_start().unwrap();
    // Whoever is there already is killed, if that is what is asked for.
    memory(at(100), None).validate().unwrap();
}
