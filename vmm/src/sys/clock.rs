//! The processor's time-stamp counter.

/// The counter now. It counts at a constant rate on every processor of the last fifteen years, and
/// reading it is a single instruction (SDM vol. 2B, `RDTSC`).
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets user space use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}
