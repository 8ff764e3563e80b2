//! The real-time clock of a PC (Motorola MC146818) with its RAM: an index port and a data port.
//!
//! A kernel without a paravirtual clock asks it once for the date, and reads its status until no
//! update is under way. Registers are binary-coded decimal, 24 hours, UTC.

use super::Device;
use crate::trap::{Reply, Width};
use std::time::{SystemTime, UNIX_EPOCH};

/// Status A: a divider for 32 kHz, a rate, and no update in progress.
const STATUS_A: u8 = 0x26;
/// Status B: 24 hours.
const STATUS_B: u8 = 0x02;
/// Status D: time and RAM are valid.
const STATUS_D: u8 = 0x80;

/// The clock. Its time is the host's; what a guest writes to it is lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rtc {
    selected: u8,
}

/// A date of the proleptic Gregorian calendar.
#[derive(Debug, PartialEq, Eq)]
struct Date {
    year: u64,
    month: u64,
    day: u64,
    /// 1 is Sunday.
    weekday: u64,
}

impl Date {
    /// `days` after 1970-01-01, a Thursday.
    fn after_epoch(days: u64) -> Date {
        // Years here begin in March, so that a leap day is a year's last: month m begins (153 m + 2)
        // / 5 days into it. Eras are 400 years; the first one began on 0000-03-01.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        Date {
            year: era * 400 + year_of_era + u64::from(month >= 10),
            month: if month < 10 { month + 3 } else { month - 9 },
            day: day_of_year - (153 * month + 2) / 5 + 1,
            weekday: (days + 4) % 7 + 1,
        }
    }
}

fn register(index: u8, seconds: u64) -> u8 {
    let decimal = |number: u64| (((number / 10 % 10) << 4) | (number % 10)) as u8;
    let date = Date::after_epoch(seconds / 86_400);
    match index {
        0 => decimal(seconds % 60),
        2 => decimal(seconds / 60 % 60),
        4 => decimal(seconds / 3600 % 24),
        6 => decimal(date.weekday),
        7 => decimal(date.day),
        8 => decimal(date.month),
        9 => decimal(date.year % 100),
        0x32 => decimal(date.year / 100),
        0x0a => STATUS_A,
        0x0b => STATUS_B,
        0x0d => STATUS_D,
        _ => 0,
    }
}

impl Device for Rtc {
    fn read(&mut self, offset: u64, _: Width) -> Reply {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Reply::Value(match offset {
            0 => 0xff,
            _ => register(self.selected, now.map_or(0, |now| now.as_secs())).into(),
        })
    }

    fn write(&mut self, offset: u64, _: Width, value: u64) -> Reply {
        if offset == 0 {
            // The top bit masks NMIs.
            self.selected = value as u8 & 0x7f;
        }
        Reply::Resume
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |year, month, day, weekday| Date {
            year,
            month,
            day,
            weekday,
        };
        for (days, expected) in [
            (0, date(1970, 1, 1, 5)),
            (789, date(1972, 2, 29, 3)),
            (11_016, date(2000, 2, 29, 3)),
            (11_017, date(2000, 3, 1, 4)),
            (20_818, date(2026, 12, 31, 5)),
            (47_541, date(2100, 3, 1, 2)),
        ] {
            assert_eq!(Date::after_epoch(days), expected, "{days}");
        }
    }

    #[test]
    fn registers_are_decimal() {
        // 2026-11-27 01:04:59
        let seconds = 1_795_741_499;
        let read = [0, 2, 4, 7, 8, 9, 0x32].map(|index| register(index, seconds));
        assert_eq!(read, [0x59, 0x04, 0x01, 0x27, 0x11, 0x26, 0x20]);
    }

    #[test]
    fn the_kernel_need_not_wait_for_an_update() {
        let mut clock = Rtc::default();
        clock.write(0, Width::Byte, 0x8a);
        assert_eq!(clock.read(1, Width::Byte), Reply::Value(STATUS_A.into()));
    }
}
