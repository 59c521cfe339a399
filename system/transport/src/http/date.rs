//! The dates of HTTP (RFC 9110 section 5.6.7), as far as `Retry-After` needs them.
//!
//! Invariant: only the preferred form is read; whoever writes another is as if it had written nothing.

use std::time::{Duration, SystemTime};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The moment that `text`, such as `Sun, 06 Nov 1994 08:49:37 GMT`, names.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let (_weekday, rest) = text.trim().split_once(", ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = fields[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year) = (number(day, 2)?, number(year, 4)?);
    let clock: Vec<&str> = time.split(':').collect();
    let [hours, minutes, seconds] = clock[..] else {
        return None;
    };
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    let seconds = number(seconds, 2)?;
    let sound =
        year >= 1970 && (1..=31).contains(&day) && hours < 24 && minutes < 60 && seconds <= 60;
    let days = days_since_1970(year, month, day);
    let seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    sound.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let sound = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| text.parse().ok())?
}

/// Counted in years that begin in March, so that the day that some years have more is their last (Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
const fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 {
        year.saturating_sub(1)
    } else {
        year
    };
    let since_march = (month + 9) % 12;
    let day_of_year = (153 * since_march + 2) / 5 + day.saturating_sub(1);
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    // From 1 March of the year 0 to 1 January 1970.
    days.saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_the_moment_that_it_names() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "120",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 00 Nov 1994 00:00:00 GMT",
            "Sun, 06 Foo 1994 00:00:00 GMT",
            "Sun, 06 Nov 1894 00:00:00 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
