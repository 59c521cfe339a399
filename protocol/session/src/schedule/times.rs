//! Days and times of day, and how they are written.
//!
//! Invariant: a span of time is at least a minute long and at most a day, and what is written is read as the same.

use core::fmt;
use core::str::FromStr;

const DAY_MIN: u16 = 24 * 60;
const DAY_S: u32 = 24 * 60 * 60;
pub(super) const WEEK_S: u32 = 7 * DAY_S;
/// So much of what was written is repeated in an error.
const MAX_SHOWN_CHARS: usize = 40;

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// A moment of a week, by the clock on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The day.
    pub weekday: Weekday,
    /// Seconds since midnight. A leap second is the one before it.
    pub seconds: u32,
}

/// A part of some days of each week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A bit for each day on which it begins, the lowest for Monday. Not zero.
    days: u8,
    /// Minute of the day, below [`DAY_MIN`].
    begins: u16,
    /// In minutes, from 1 to [`DAY_MIN`].
    lasts: u16,
}

/// Why text is no part of the week.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// It is something else.
    #[error(
        "{0:?} is no span; write it as in 08:00-18:00, mon-fri 08:00-18:00 or sat,sun 20:00-02:00"
    )]
    Form(String),
    /// A day is none.
    #[error("{0:?} is no day; the days are mon, tue, wed, thu, fri, sat and sun")]
    Day(String),
    /// A time is none.
    #[error("{0:?} is no time of day; write it as in 08:30, from 00:00 to 24:00")]
    Time(String),
    /// It is over when it begins.
    #[error("the span ends when it begins; write 00:00-24:00 for whole days")]
    Empty,
}

impl Weekday {
    /// All of them, from Monday.
    pub const ALL: [Weekday; 7] = [
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
        Weekday::Sunday,
    ];

    fn name(self) -> &'static str {
        match self {
            Weekday::Monday => "mon",
            Weekday::Tuesday => "tue",
            Weekday::Wednesday => "wed",
            Weekday::Thursday => "thu",
            Weekday::Friday => "fri",
            Weekday::Saturday => "sat",
            Weekday::Sunday => "sun",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The second of the week at which it begins.
    fn begins(self) -> u32 {
        self as u32 * DAY_S
    }
}

impl LocalTime {
    pub(super) fn second_of_week(self) -> u32 {
        self.weekday.begins() + self.seconds.min(DAY_S - 1)
    }
}

impl Times {
    fn days(self) -> impl Iterator<Item = Weekday> {
        let days = self.days;
        Weekday::ALL
            .into_iter()
            .filter(move |day| days & day.bit() != 0)
    }

    fn begins_on(self, day: Weekday) -> u32 {
        day.begins() + u32::from(self.begins) * 60
    }

    fn lasts_s(self) -> u32 {
        u32::from(self.lasts) * 60
    }

    /// Whether a second of the week is in it.
    pub(super) fn cover(self, second: u32) -> bool {
        self.days()
            .any(|day| (second + WEEK_S - self.begins_on(day)) % WEEK_S < self.lasts_s())
    }

    /// The seconds of the week at which it begins and is over.
    pub(super) fn bounds(self) -> impl Iterator<Item = u32> {
        self.days().flat_map(move |day| {
            let begins = self.begins_on(day);
            [begins, (begins + self.lasts_s()) % WEEK_S]
        })
    }
}

impl FromStr for Times {
    type Err = TimesError;

    fn from_str(text: &str) -> Result<Self, TimesError> {
        let form = || TimesError::Form(shown(text));
        let words: Vec<&str> = text.split_whitespace().take(3).collect();
        let (days, times) = match words[..] {
            [times] => (None, times),
            [days, times] => (Some(days), times),
            _ => return Err(form()),
        };
        let (from, to) = times.split_once('-').ok_or_else(form)?;
        let (from, to) = (minute(from)?, minute(to)?);
        if from == DAY_MIN {
            return Err(TimesError::Time(shown(times)));
        }
        if from == to {
            return Err(TimesError::Empty);
        }
        Ok(Times {
            days: days.map_or(Ok(EVERY_DAY), read_days)?,
            begins: from,
            lasts: if from < to {
                to - from
            } else {
                DAY_MIN - from + to
            },
        })
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest: &[Weekday] = &self.days().collect::<Vec<_>>();
        let mut separator = "";
        while let Some(&first) = rest.first().filter(|_| self.days != EVERY_DAY) {
            let follow = rest
                .windows(2)
                .take_while(|pair| pair[0] as u8 + 1 == pair[1] as u8);
            // Two days are no range: people write sat,sun.
            let more = Some(follow.count()).filter(|&more| more > 1).unwrap_or(0);
            write!(f, "{separator}{}", first.name())?;
            if more > 0 {
                write!(f, "-{}", rest[more].name())?;
            }
            separator = ",";
            rest = &rest[more + 1..];
        }
        let space = if separator.is_empty() { "" } else { " " };
        let ends = self.begins + self.lasts;
        let ends = if ends > DAY_MIN { ends - DAY_MIN } else { ends };
        let [from, to] = [self.begins, ends].map(|at| (at / 60, at % 60));
        write!(
            f,
            "{space}{:02}:{:02}-{:02}:{:02}",
            from.0, from.1, to.0, to.1
        )
    }
}

const EVERY_DAY: u8 = 0x7f;

fn read_days(text: &str) -> Result<u8, TimesError> {
    text.split(',').try_fold(0, |days, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let from_first = Weekday::ALL.iter().cycle().skip(first as usize);
        let until_last = from_first.take_while(|&&day| day != last);
        Ok(until_last.fold(days | last.bit(), |days, day| days | day.bit()))
    })
}

fn day(text: &str) -> Result<Weekday, TimesError> {
    let found = Weekday::ALL
        .into_iter()
        .find(|day| day.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| TimesError::Day(shown(text)))
}

/// The minute of the day, up to its end.
fn minute(text: &str) -> Result<u16, TimesError> {
    let read = || {
        let (hours, minutes) = text.split_once(':')?;
        let hours = number(hours, 1..=2)?;
        let minutes = number(minutes, 2..=2).filter(|&minutes| minutes < 60)?;
        Some(hours * 60 + minutes).filter(|&at| at <= DAY_MIN)
    };
    read().ok_or_else(|| TimesError::Time(shown(text)))
}

fn number(text: &str, digits: core::ops::RangeInclusive<usize>) -> Option<u16> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> String {
        text.parse::<Times>().unwrap().to_string()
    }

    #[test]
    fn spans_are_written_as_people_write_them() {
        let written = [
            ("08:00-18:00", "08:00-18:00"),
            ("  mon-fri  8:00-18:30 ", "mon-fri 08:00-18:30"),
            ("sat,sun 20:00-02:00", "sat,sun 20:00-02:00"),
            ("sat-sun 20:00-02:00", "sat,sun 20:00-02:00"),
            ("mon-sun 00:00-24:00", "00:00-24:00"),
            ("Fri-Mon 22:00-24:00", "mon,fri-sun 22:00-24:00"),
            ("22:00-00:00", "22:00-24:00"),
            ("tue,tue,wed-tue 00:00-00:01", "00:00-00:01"),
            (
                "mon,wed,thu,fri,sun 01:00-02:00",
                "mon,wed-fri,sun 01:00-02:00",
            ),
        ];
        for (text, expected) in written {
            assert_eq!(again(text), expected, "{text:?}");
            assert_eq!(again(expected), expected, "{text:?}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_what_to_write() {
        let wrong = [
            ("", "is no span"),
            ("08:00", "is no span"),
            ("mon 08:00-18:00 tue", "is no span"),
            ("monday 08:00-18:00", "is no day"),
            ("mon, 08:00-18:00", "is no day"),
            ("mon-fri- 08:00-18:00", "is no day"),
            ("08:00-25:00", "\"25:00\" is no time"),
            ("08:00-24:01", "\"24:01\" is no time"),
            ("24:00-08:00", "is no time"),
            ("08:60-09:00", "\"08:60\" is no time"),
            ("8-18", "\"8\" is no time"),
            ("08:0-18:00", "is no time"),
            ("+8:00-18:00", "is no time"),
            ("08:00-08:00", "write 00:00-24:00"),
        ];
        for (text, expected) in wrong {
            let error = text.parse::<Times>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let long = "x".repeat(10_000).parse::<Times>().unwrap_err();
        assert!(long.to_string().len() < 200);
    }
}
