//! The kernels on a platform whose time is what its calls cost, so that every result is known.

extern crate std;

use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use super::*;

/// Reading the clock takes 7 ns, a null call 250 ns, and nothing else any time.
#[derive(Default)]
struct Model {
    now_ns: u64,
    clock_readings: usize,
    calls: usize,
    memory_bytes: usize,
    output: Vec<u8>,
    waited: bool,
}

impl Model {
    fn with_memory(memory_bytes: usize) -> Self {
        Model {
            memory_bytes,
            ..Model::default()
        }
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.output).unwrap()
    }
}

impl Platform for Model {
    fn now_ns(&mut self) -> u64 {
        self.clock_readings += 1;
        self.now_ns += 7;
        self.now_ns
    }
    fn null_call(&mut self) {
        self.calls += 1;
        self.now_ns += 250;
    }
    fn buffer(&mut self, bytes: usize) -> Option<&'static mut [u64]> {
        (bytes <= self.memory_bytes).then(|| Box::leak(vec![0; bytes / 8].into_boxed_slice()))
    }
    fn untouched_pages(&mut self, count: usize) -> Option<&'static mut [u8]> {
        let bytes = count * PAGE_BYTES;
        (bytes <= self.memory_bytes).then(|| Box::leak(vec![0; bytes].into_boxed_slice()))
    }
    fn write(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }
    fn wait_for_end_of_input(&mut self) {
        self.waited = true;
    }
}

/// Fails like [`run`], but with the message.
fn refused(name: &str, args: &[&str]) -> String {
    run(name, args, &mut Model::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn an_event_finds_as_many_primes_as_there_are() {
    // The prime-counting function, less one for the 2 that sysbench's loop leaves out.
    for (limit, primes) in [(3, 0), (4, 1), (10, 3), (100, 24), (10_000, 1_228)] {
        assert_eq!(primes::event(limit), primes, "below {limit}");
    }
}

#[test]
fn an_event_takes_squares_for_what_they_are() {
    // The last candidate divisor is the root itself: off by one, 9 or 10201 would pass for a prime.
    for root in [2_u64, 3, 5, 7, 11, 101] {
        let square = root * root;
        assert_eq!(primes::event(square), primes::event(square + 1));
    }
}

#[test]
fn memory_is_written_and_read_to_the_last_word() {
    let mut buffer = vec![0_u64; 1027];
    memory::write_pass(&mut buffer, 3);
    assert_eq!(memory::read_pass(&buffer), 3 * 1027);
    memory::write_pass(&mut buffer, u64::MAX);
    assert_eq!(memory::read_pass(&buffer), u64::MAX.wrapping_mul(1027));
}

#[test]
fn every_page_is_touched_once() {
    let mut memory = vec![0_u8; 5 * PAGE_BYTES];
    assert_eq!(faults::touch(&mut memory), 5);
    assert_eq!(memory.iter().filter(|&&byte| byte == 1).count(), 5);
    assert!(
        memory
            .chunks(PAGE_BYTES)
            .all(|page| page[0] == 1 && page[1..].iter().all(|&byte| byte == 0))
    );
}

#[test]
fn call_divides_time_by_calls_and_reads_the_clock_rarely() {
    let mut model = Model::default();
    run("call", &["20"], &mut model).unwrap();
    // The last clock reading's 7 ns are shared by about 80,000 calls: less than a thousandth each.
    assert_eq!(model.text(), "call_ns 250.000\n");
    assert!(model.calls >= 80_000, "{}", model.calls);
    assert!(model.clock_readings <= 30, "{}", model.clock_readings);
}

#[test]
fn each_work_prints_its_lines_with_numbers() {
    for (name, args, lines) in [
        ("primes", &["1", "100"][..], &["events_per_second"][..]),
        (
            "memory",
            &["1", "1"],
            &["write_mib_per_second", "read_mib_per_second"],
        ),
        ("faults", &["3"], &["first_touch_ns"]),
        ("call", &["1"], &["call_ns"]),
        ("idle", &[], &["ready"]),
    ] {
        // Time passes with clock readings only, so let one reading take a millisecond.
        struct Slow(Model);
        impl Platform for Slow {
            fn now_ns(&mut self) -> u64 {
                self.0.now_ns += 999_993;
                self.0.now_ns()
            }
            fn null_call(&mut self) {
                self.0.null_call();
            }
            fn buffer(&mut self, bytes: usize) -> Option<&'static mut [u64]> {
                self.0.buffer(bytes)
            }
            fn untouched_pages(&mut self, count: usize) -> Option<&'static mut [u8]> {
                self.0.untouched_pages(count)
            }
            fn write(&mut self, bytes: &[u8]) {
                self.0.write(bytes);
            }
            fn wait_for_end_of_input(&mut self) {
                self.0.wait_for_end_of_input();
            }
        }
        let mut model = Slow(Model::with_memory(1 << 20));
        run(name, args, &mut model).unwrap();
        let printed: Vec<_> = model
            .0
            .text()
            .lines()
            .map(|line| {
                let (name, value) = line.split_once(' ').unwrap();
                assert!(value.parse::<f64>().unwrap() > 0.0, "{line}");
                name
            })
            .collect();
        assert_eq!(printed, lines);
        assert_eq!(model.0.waited, name == "idle");
    }
}

#[test]
fn a_clock_that_stands_still_ends_in_a_result_not_in_a_panic() {
    struct Still(usize);
    impl Platform for Still {
        fn now_ns(&mut self) -> u64 {
            5
        }
        fn null_call(&mut self) {
            self.0 += 1;
        }
        fn buffer(&mut self, _: usize) -> Option<&'static mut [u64]> {
            None
        }
        fn untouched_pages(&mut self, _: usize) -> Option<&'static mut [u8]> {
            Some(&mut [])
        }
        fn write(&mut self, _: &[u8]) {}
        fn wait_for_end_of_input(&mut self) {}
    }
    // No time at all for no page at all.
    run("faults", &["1"], &mut Still(0)).unwrap();
    // A target below eight times the least time ends at the first trial.
    let measured = timing::repeat_for(&mut Still(0), 7, |platform, count| {
        (0..count).for_each(|_| platform.null_call());
    });
    assert_eq!(measured.elapsed_ns, 1);
    assert_eq!(measured.count, 7);
}

#[test]
fn values_have_three_decimals_and_fit_the_line() {
    let mut model = Model::default();
    report::ratio(&mut model, "third", 1, 3);
    report::ratio(&mut model, "none", 5, 0);
    report::ratio(&mut model, "write_mib_per_second", u128::MAX, 1);
    let greatest = u128::MAX / 1000;
    assert_eq!(
        model.text(),
        format!("third 0.333\nnone 5.000\nwrite_mib_per_second {greatest}.455\n")
    );
}

#[test]
fn bad_arguments_are_named_with_what_would_do() {
    assert_eq!(
        refused("prime", &[]),
        "unknown work `prime`; there is primes, memory, faults, call, idle"
    );
    assert_eq!(
        refused("primes", &["fast"]),
        "MILLISECONDS is `fast`; give a whole number from 1 to 600000"
    );
    assert_eq!(
        refused("primes", &["1", "4294967296"]),
        "LIMIT is `4294967296`; give a whole number from 3 to 4294967295"
    );
    for hostile in ["", "0", "-1", "1e3", "99999999999999999999999", "1 ", "\0"] {
        assert!(refused("faults", &[hostile]).starts_with("PAGES is `"));
    }
    assert_eq!(
        refused("idle", &["now"]),
        "`now` is one argument too many; usage: idle"
    );
    assert_eq!(
        refused("memory", &["1", "1048576"]),
        "there are no 1099511627776 bytes of memory for the work; ask for less or give it more"
    );
    assert_eq!(
        refused("faults", &["268435456"]),
        "there are no 1099511627776 bytes of memory for the work; ask for less or give it more"
    );
}
