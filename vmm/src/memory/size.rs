//! Sizes as people write them: `64M`, `1G`, `8192`.

use thiserror::Error;

/// A size that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{text}` is no size; write a number of bytes, or one with K, M, G or T (powers of 1024), such as 64M"
)]
pub struct BadSize {
    text: String,
}

/// Reads a size in bytes, with an optional unit of 1024s: `K`, `KiB`, `M`, `MiB`, …, in either case.
///
/// # Errors
/// [`BadSize`] for anything else, and for what does not fit 64 bits.
pub fn parse(text: &str) -> Result<u64, BadSize> {
    let bad = || BadSize {
        text: text.to_owned(),
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit
        .to_ascii_lowercase()
        .trim_end_matches("ib")
        .trim_end_matches('b')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// Writes a size with the largest unit that keeps it whole: `64 MiB`.
pub fn display(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut number = bytes;
    while unit + 1 < units.len() && number != 0 && number.is_multiple_of(1024) {
        number /= 1024;
        unit += 1;
    }
    format!("{number} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("0", 0),
            ("8192", 8192),
            ("64M", 64 << 20),
            ("1g", 1 << 30),
            ("2KiB", 2048),
            ("3tb", 3 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        assert_eq!(display(64 << 20), "64 MiB");
        assert_eq!(display(1000), "1000 B");
    }

    #[test]
    fn what_is_no_size_is_refused_by_name() {
        for text in [
            "",
            "M",
            "-1",
            "1.5G",
            "1X",
            "99999999999999999999",
            "20000000T",
            "1 M",
        ] {
            assert!(
                parse(text)
                    .unwrap_err()
                    .to_string()
                    .contains(&format!("`{text}`")),
                "{text}"
            );
        }
    }
}
