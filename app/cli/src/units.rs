//! Sizes, rates and times as people read them. How they write them is the same everywhere: [`shoal_node::values`].

use std::fmt;

pub(crate) use shoal_node::values::{parse_piece_length, parse_rate, parse_ratio, parse_time};

/// The binary units, largest last; each is 1024 of the one before.
const BINARY: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/// Shows a number of bytes with three or four digits and a binary unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut units = BINARY.iter();
        let mut unit = units.next().unwrap_or(&"KiB");
        // 1023.95 would be shown as 1024.0.
        while value >= 1023.95
            && let Some(larger) = units.next()
        {
            value /= 1024.0;
            unit = larger;
        }
        f.pad(&format!("{value:.1} {unit}"))
    }
}

/// Shows a length of a piece: whole in its unit where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PieceLength(pub(crate) u32);

impl fmt::Display for PieceLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            length if length > 0 && length % (1 << 20) == 0 => write!(f, "{} MiB", length >> 20),
            length if length > 0 && length % (1 << 10) == 0 => write!(f, "{} KiB", length >> 10),
            length => write!(f, "{length} bytes"),
        }
    }
}

/// Shows a number of seconds: `8 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s < 60 => write!(f, "{s} s"),
            s if s < 3_600 => write!(f, "{} min {} s", s / 60, s % 60),
            s if s < 86_400 => write!(f, "{} h {} min", s / 3_600, s % 3_600 / 60),
            s => write!(f, "{} d {} h", s / 86_400, s % 86_400 / 3_600),
        }
    }
}

/// Shows seconds since 1970 as a date and time of UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp(pub(crate) i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The last second of the year 9999.
        const END: i64 = 253_402_300_799;
        if !(0..=END).contains(&self.0) {
            return write!(f, "{} s since 1970", self.0);
        }
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // The civil calendar from a count of days (H. Hinnant, "chrono-compatible low-level date algorithms").
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second % 3_600 / 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_shown() {
        let sizes = [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ];
        for (size, expected) in sizes {
            assert_eq!(Size(size).to_string(), expected);
        }
        assert_eq!(PieceLength(65_536).to_string(), "64 KiB");
        assert_eq!(PieceLength(1_000).to_string(), "1000 bytes");
        assert_eq!(Seconds(7_500).to_string(), "2 h 5 min");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
            (-1, "-1 s since 1970"),
            (i64::MAX, "9223372036854775807 s since 1970"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(Timestamp(seconds).to_string(), expected);
        }
    }
}
