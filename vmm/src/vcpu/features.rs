//! The processor that a Linux guest finds: what KVM offers of the host's, without what is masked.
//!
//! Features are masked by the names that Linux gives them in `/proc/cpuinfo`.
//! (Intel SDM vol. 2A, `CPUID`; AMD APM vol. 3, appendix E; `arch/x86/include/asm/cpufeatures.h`.)

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use thiserror::Error;

/// A register of a CPUID leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Ebx,
    Ecx,
    Edx,
}
use Register::{Ebx, Ecx, Edx};

/// A feature, and the bit by which CPUID tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Linux's name.
    pub name: &'static str,
    leaf: u32,
    index: u32,
    register: Register,
    bit: u8,
}

const fn feature(
    name: &'static str,
    leaf: u32,
    index: u32,
    register: Register,
    bit: u8,
) -> Feature {
    Feature {
        name,
        leaf,
        index,
        register,
        bit,
    }
}

/// Every feature that can be masked.
pub const FEATURES: [Feature; 45] = [
    feature("sse3", 1, 0, Ecx, 0),
    feature("pclmulqdq", 1, 0, Ecx, 1),
    feature("monitor", 1, 0, Ecx, 3),
    feature("ssse3", 1, 0, Ecx, 9),
    feature("fma", 1, 0, Ecx, 12),
    feature("cx16", 1, 0, Ecx, 13),
    feature("pcid", 1, 0, Ecx, 17),
    feature("sse4_1", 1, 0, Ecx, 19),
    feature("sse4_2", 1, 0, Ecx, 20),
    feature("x2apic", 1, 0, Ecx, 21),
    feature("movbe", 1, 0, Ecx, 22),
    feature("popcnt", 1, 0, Ecx, 23),
    feature("tsc_deadline_timer", 1, 0, Ecx, 24),
    feature("aes", 1, 0, Ecx, 25),
    feature("xsave", 1, 0, Ecx, 26),
    feature("avx", 1, 0, Ecx, 28),
    feature("f16c", 1, 0, Ecx, 29),
    feature("rdrand", 1, 0, Ecx, 30),
    feature("hypervisor", 1, 0, Ecx, 31),
    feature("mce", 1, 0, Edx, 7),
    feature("mtrr", 1, 0, Edx, 12),
    feature("pat", 1, 0, Edx, 16),
    feature("fsgsbase", 7, 0, Ebx, 0),
    feature("tsc_adjust", 7, 0, Ebx, 1),
    feature("bmi1", 7, 0, Ebx, 3),
    feature("avx2", 7, 0, Ebx, 5),
    feature("smep", 7, 0, Ebx, 7),
    feature("bmi2", 7, 0, Ebx, 8),
    feature("erms", 7, 0, Ebx, 9),
    feature("invpcid", 7, 0, Ebx, 10),
    feature("avx512f", 7, 0, Ebx, 16),
    feature("rdseed", 7, 0, Ebx, 18),
    feature("smap", 7, 0, Ebx, 20),
    feature("clwb", 7, 0, Ebx, 24),
    feature("umip", 7, 0, Ecx, 2),
    feature("pku", 7, 0, Ecx, 3),
    feature("user_shstk", 7, 0, Ecx, 7),
    feature("la57", 7, 0, Ecx, 16),
    feature("rdpid", 7, 0, Ecx, 22),
    feature("fsrm", 7, 0, Edx, 4),
    feature("ibt", 7, 0, Edx, 20),
    feature("abm", 0x8000_0001, 0, Ecx, 5),
    feature("nx", 0x8000_0001, 0, Edx, 20),
    feature("pdpe1gb", 0x8000_0001, 0, Edx, 26),
    feature("rdtscp", 0x8000_0001, 0, Edx, 27),
];

/// No such feature.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no processor feature `{name}` can be masked; there are {}", names())]
pub struct UnknownFeature {
    name: String,
}

fn names() -> String {
    FEATURES.map(|feature| feature.name).join(", ")
}

impl Feature {
    /// By its name.
    ///
    /// # Errors
    /// [`UnknownFeature`], which names all that there are.
    pub fn named(name: &str) -> Result<Feature, UnknownFeature> {
        let found = FEATURES.into_iter().find(|feature| feature.name == name);
        found.ok_or_else(|| UnknownFeature {
            name: name.to_owned(),
        })
    }

    /// Whether a processor's leaves tell of it.
    pub fn is_in(&self, cpuid: &CpuId) -> bool {
        let mut leaves = cpuid.as_slice().iter();
        leaves.any(|leaf| {
            self.is_of(leaf) && *self.register.of(&mut leaf.clone()) >> self.bit & 1 == 1
        })
    }

    fn is_of(&self, leaf: &kvm_cpuid_entry2) -> bool {
        (leaf.function, leaf.index) == (self.leaf, self.index)
    }
}

impl Register {
    fn of(self, leaf: &mut kvm_cpuid_entry2) -> &mut u32 {
        match self {
            Ebx => &mut leaf.ebx,
            Ecx => &mut leaf.ecx,
            Edx => &mut leaf.edx,
        }
    }
}

/// Takes features out of a processor's leaves.
pub fn mask(cpuid: &mut CpuId, features: &[Feature]) {
    for leaf in cpuid.as_mut_slice() {
        for feature in features {
            if feature.is_of(leaf) {
                *feature.register.of(leaf) &= !(1 << feature.bit);
            }
        }
    }
}

/// Leaf 1, EDX: several logical processors in a package.
const SEVERAL: u32 = 1 << 28;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, ECX: a timer by deadline, which KVM has with a local APIC but does not list.
const TSC_DEADLINE: u32 = 1 << 24;

/// Makes KVM's list of what it offers processor `index`'s own, out of `processors` in one package.
pub fn place(offered: &CpuId, index: u8, processors: u8) -> CpuId {
    let number = u32::from(index);
    let width = u32::from(processors).next_power_of_two().trailing_zeros();
    let mut leaves: Vec<kvm_cpuid_entry2> = Vec::new();
    for leaf in offered.as_slice() {
        let mut leaf = *leaf;
        match leaf.function {
            1 => {
                leaf.ebx = leaf.ebx & 0xffff | number << 24 | u32::from(processors) << 16;
                leaf.ecx |= HYPERVISOR | TSC_DEADLINE;
                leaf.edx &= !SEVERAL;
                leaf.edx |= if processors > 1 { SEVERAL } else { 0 };
            }
            // Caches: who shares them, and how many cores there are.
            4 if leaf.eax & 0x1f != 0 => {
                leaf.eax = leaf.eax & 0x3fff | (u32::from(processors) - 1) << 26;
            }
            // Topology is told below.
            0xb | 0x1f => continue,
            // AMD's: how many processors share the package, and which of them this is.
            0x8000_0008 => leaf.ecx = width << 12 | (u32::from(processors) - 1),
            0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (number, number, 0),
            _ => {}
        }
        leaves.push(leaf);
    }
    if offered.as_slice().iter().any(|leaf| leaf.function == 0xb) {
        // One thread a core; all cores in one package; no further level.
        let levels = [
            (0, 1, 0x100),
            (width, u32::from(processors), 0x201),
            (0, 0, 2),
        ];
        for (level, (eax, ebx, ecx)) in (0..).zip(levels) {
            leaves.push(kvm_cpuid_entry2 {
                function: 0xb,
                index: level,
                flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                eax,
                ebx,
                ecx,
                edx: number,
                ..Default::default()
            });
        }
    }
    // KVM's list has room for more; what it offered and three leaves are fewer.
    CpuId::from_entries(&leaves).unwrap_or_else(|_| offered.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_feature_is_gone_and_its_neighbours_are_not() {
        let leaf = kvm_cpuid_entry2 {
            function: 1,
            ecx: u32::MAX,
            ..Default::default()
        };
        let mut cpuid = CpuId::from_entries(&[leaf]).unwrap();
        mask(
            &mut cpuid,
            &[
                Feature::named("cx16").unwrap(),
                Feature::named("smap").unwrap(),
            ],
        );
        assert_eq!(cpuid.as_slice()[0].ecx, !(1 << 13));
        assert!(!Feature::named("cx16").unwrap().is_in(&cpuid));
        assert!(Feature::named("pcid").unwrap().is_in(&cpuid));
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let error = Feature::named("sse9").unwrap_err().to_string();
        assert!(
            error.contains("`sse9`") && error.contains("cx16"),
            "{error}"
        );
    }

    #[test]
    fn no_bit_has_two_names() {
        for (at, feature) in FEATURES.iter().enumerate() {
            let same = |other: &&Feature| {
                let place = |f: &Feature| (f.leaf, f.index, f.register, f.bit);
                other.name == feature.name || place(other) == place(feature)
            };
            assert_eq!(FEATURES[at + 1..].iter().find(same), None);
        }
    }

    #[test]
    fn each_processor_has_its_own_number() {
        let leaf = |function| kvm_cpuid_entry2 {
            function,
            ..Default::default()
        };
        let offered = CpuId::from_entries(&[leaf(1), leaf(0xb)]).unwrap();
        let second = place(&offered, 1, 3);
        let leaves = second.as_slice();
        assert_eq!(leaves[0].ebx, 1 << 24 | 3 << 16);
        let topology: Vec<_> = leaves[1..]
            .iter()
            .map(|l| (l.index, l.eax, l.ebx, l.edx))
            .collect();
        assert_eq!(topology, [(0, 0, 1, 1), (1, 2, 3, 1), (2, 0, 0, 1)]);
    }
}
