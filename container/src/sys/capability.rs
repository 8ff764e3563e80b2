//! Capabilities of the calling thread (`man 7 capabilities`, `man 2 capset`).

use nix::errno::Errno;

use super::check;

/// `_LINUX_CAPABILITY_VERSION_3` of <linux/capability.h>: two words of 32 bits in each set.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The effective set: bit n is capability n.
///
/// # Errors
/// None that a current kernel gives.
pub fn effective_capabilities() -> Result<u64, Errno> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut words = [Word::default(); 2];
    // SAFETY: version 3 makes the kernel write exactly two words, which is what `words` has.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) })?;
    Ok(u64::from(words[0].effective) | u64::from(words[1].effective) << 32)
}

/// Makes everything that is permitted effective.
///
/// # Errors
/// None that a current kernel gives.
pub fn restore_effective() -> Result<(), Errno> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut words = [Word::default(); 2];
    // SAFETY: version 3 makes the kernel write exactly two words, which is what `words` has.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) })?;
    for word in &mut words {
        word.effective = word.permitted;
    }
    // SAFETY: version 3 makes the kernel read exactly two words, which is what `words` has.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) }).map(drop)
}

/// Makes the effective and permitted sets what they share with `keep`, and the inheritable set empty.
///
/// # Errors
/// `EPERM` when `keep` has a capability that the thread does not.
pub fn set_capabilities(keep: u64) -> Result<(), Errno> {
    set_capability_sets(keep, keep, 0)
}

/// Makes the three sets of `capset` these.
///
/// # Errors
/// `EPERM` when one has a capability that the thread may not have.
pub fn set_capability_sets(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let word = |shift: u32| Word {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let words = [word(0), word(32)];
    // SAFETY: version 3 makes the kernel read exactly two words, which is what `words` has.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) }).map(drop)
}

/// Removes every capability that is not in `keep` from the bounding set: no program can bring it back.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn drop_bounding(keep: u64) -> Result<(), Errno> {
    for capability in (0..64u64).filter(|bit| keep & (1 << bit) == 0) {
        // SAFETY: the call takes integers.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match check(result.into()) {
            // The first number that this kernel has no capability for ends the list.
            Err(Errno::EINVAL) => break,
            other => other?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_that_of_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .unwrap();
        let expected = u64::from_str_radix(line.trim(), 16).unwrap();
        assert_eq!(effective_capabilities(), Ok(expected));
    }
}
