//! What a process keeps in memory, mapping by mapping (`man 5 proc_pid_smaps`).

/// The proportional set size of the mappings whose line in `smaps` satisfies `wanted`, KiB.
pub fn pss_kib(smaps: &str, wanted: impl Fn(&str) -> bool) -> u64 {
    let mut counts = false;
    let mut sum = 0;
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Pss:") {
            let size = size.trim().trim_end_matches(" kB");
            sum += if counts {
                size.parse().expect("a number")
            } else {
                0
            };
        } else if line.split_once(' ').is_some_and(|(range, _)| {
            range.contains('-') && !range.ends_with(':') // 7f…-7f… rw-p …
        }) {
            counts = wanted(line);
        }
    }
    sum
}
