//! A `kvm_run` of our own, filled in as KVM would or as it never would.

use super::*;
use crate::trap::Reason;

/// A mapping as the kernel makes it: `struct kvm_run`, and the data of port accesses in a page
/// behind it.
#[repr(C)]
struct Mapping {
    run: kvm_run,
    data: [u8; 4096],
}

const BYTES: usize = size_of::<Mapping>();
const DATA: u64 = size_of::<kvm_run>() as u64;

fn mapping(reason: u32) -> Box<Mapping> {
    let mut mapping = Box::new(Mapping {
        run: kvm_run::default(),
        data: [0; 4096],
    });
    mapping.run.exit_reason = reason;
    mapping
}

/// The exit that a whole mapping tells of.
fn exit(mapping: &mut Mapping) -> Exit {
    let run: *mut kvm_run = (&raw mut *mapping).cast();
    // SAFETY: the mapping begins with it, and the pointer may be used for all of the mapping.
    owned(unsafe { &mut *run }, BYTES)
}

fn mmio(len: u32, is_write: u8) -> Box<Mapping> {
    let mut mapping = mapping(KVM_EXIT_MMIO);
    // SAFETY: plain integers, whatever they are.
    let mmio = unsafe { &mut mapping.run.__bindgen_anon_1.mmio };
    mmio.phys_addr = 0x1_0000_0ffd;
    mmio.data = [1, 2, 3, 4, 5, 6, 7, 8];
    (mmio.len, mmio.is_write) = (len, is_write);
    mapping
}

#[test]
fn memory_accesses_have_any_width_up_to_eight() {
    for (bytes, value) in (1..).zip([
        0x01,
        0x0201,
        0x03_0201,
        0x0403_0201,
        0x05_0403_0201,
        0x0605_0403_0201,
        0x07_0605_0403_0201,
        0x0807_0605_0403_0201,
    ]) {
        let width = Width::from_bytes(bytes).expect("a width");
        let address = 0x1_0000_0ffd;
        let (read, write) = (mmio(bytes as u32, 0), mmio(bytes as u32, 1));
        assert_eq!(
            [read, write].map(|mut mapping| exit(&mut mapping)),
            [
                Exit::MmioRead { address, width },
                Exit::MmioWrite {
                    address,
                    width,
                    value
                }
            ]
        );
    }
    for bytes in [0, 9, u32::MAX] {
        assert_eq!(
            exit(&mut mmio(bytes, 1)),
            Exit::Other {
                reason: KVM_EXIT_MMIO
            }
        );
    }
}

#[test]
fn port_accesses_are_one_two_or_four_bytes_wide() {
    let io = |size: u8, direction: u32, count: u32, data_offset: u64| {
        let mut mapping = mapping(KVM_EXIT_IO);
        mapping.run.__bindgen_anon_1.io = kvm_run__bindgen_ty_1__bindgen_ty_4 {
            direction: direction as u8,
            size,
            port: 0x3f8,
            count,
            data_offset,
        };
        mapping.data[..4].copy_from_slice(&[1, 2, 3, 4]);
        mapping.data[4092..].copy_from_slice(&[5, 6, 7, 8]);
        exit(&mut mapping)
    };
    let out = |width, value| Exit::IoOut {
        port: 0x3f8,
        width,
        value,
    };
    assert_eq!(io(1, KVM_EXIT_IO_OUT, 1, DATA), out(Width::Byte, 1));
    assert_eq!(io(2, KVM_EXIT_IO_OUT, 1, DATA), out(Width::Word, 0x0201));
    assert_eq!(
        io(4, KVM_EXIT_IO_OUT, 1, DATA + 4092),
        out(Width::Double, 0x0807_0605)
    );
    assert_eq!(
        io(2, KVM_EXIT_IO_IN, 7, DATA),
        Exit::IoString {
            port: 0x3f8,
            width: Width::Word,
            count: 7,
            out: false
        }
    );
    for size in [0, 3, 8, 255] {
        let other = Exit::Other {
            reason: KVM_EXIT_IO,
        };
        assert_eq!(io(size, KVM_EXIT_IO_OUT, 1, DATA), other);
    }
    // Data that would lie outside of the mapping is not read.
    for offset in [BYTES as u64 - 3, u64::MAX, u64::MAX - 3] {
        assert_eq!(io(4, KVM_EXIT_IO_OUT, 1, offset), out(Width::Double, 0));
    }
}

#[test]
fn every_reason_of_x86_has_a_kind_of_its_own() {
    // Those that other architectures have, and the first that there is not yet.
    let others = [
        13, 14, 15, 18, 19, 20, 21, 22, 23, 25, 28, 35, 36, 38, 41, 42,
    ];
    let mut kinds = Vec::new();
    for reason in 0..=42 {
        let exit = exit(&mut mapping(reason));
        if matches!(reason, KVM_EXIT_IO | KVM_EXIT_MMIO) {
            continue; // A width of zero is none.
        }
        assert_eq!(
            others.contains(&reason),
            exit == Exit::Other { reason },
            "{exit}"
        );
        if exit.reason() != Reason::Other {
            kinds.push(exit.reason());
        }
    }
    let count = kinds.len();
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds.len(), count);
    // Ports and memory make five, and `Other` is the last.
    assert_eq!(count + 6, Reason::COUNT);
}

#[test]
fn what_came_with_an_exit_is_kept() {
    let mut event = mapping(KVM_EXIT_SYSTEM_EVENT);
    // SAFETY: plain integers, whatever they are.
    let event_member = unsafe { &mut event.run.__bindgen_anon_1.system_event };
    (event_member.type_, event_member.ndata) = (KVM_SYSTEM_EVENT_CRASH, 1);
    event_member.__bindgen_anon_1.flags = 7;
    assert_eq!(
        exit(&mut event),
        Exit::SystemEvent {
            kind: KVM_SYSTEM_EVENT_CRASH,
            data: 7
        }
    );
    let mut error = mapping(KVM_EXIT_INTERNAL_ERROR);
    error.run.__bindgen_anon_1.internal = kvm_run__bindgen_ty_1__bindgen_ty_13 {
        suberror: KVM_INTERNAL_ERROR_EMULATION,
        ndata: 4,
        // The flag, then the length and the bytes; a length beyond the bytes is cut.
        data: [
            u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES),
            0x0b_0fff,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ],
    };
    let Exit::InternalError {
        suberror,
        bytes,
        len,
    } = exit(&mut error)
    else {
        panic!("another kind");
    };
    assert_eq!((suberror, len, &bytes[..2]), (1, 15, &[0x0f, 0x0b][..]));
}
