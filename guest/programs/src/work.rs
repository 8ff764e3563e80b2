//! The compute kernels that `compare` measures, run in ring 3.

use crate::guest::Guest;
use crate::println;

/// Runs the work of that name; its exit status.
pub fn run(name: &str, arguments: &[&str]) -> u8 {
    match ringside_work::run(name, arguments, &mut Guest::default()) {
        Ok(()) => 0,
        Err(error) => {
            println!("{name}: {error}");
            2
        }
    }
}
