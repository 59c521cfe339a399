//! What holds at which hours: spans of the week with other rates, or without any traffic.
//!
//! ```text
//! span   [days ]time-time        mon-fri 08:00-18:00
//! days   one or more of day or day-day, with commas; every day where there are none
//! day    mon tue wed thu fri sat sun
//! time   hours:minutes, 00:00 to 24:00
//! ```
//!
//! A span that ends no later than it begins goes on past midnight, and belongs to the day on which it begins: `sat,sun 20:00-02:00` ends on
//! Monday. Where spans overlap, the one that was added last counts, so that an exception is added after the rule.
//!
//! Spans are of the clock on the wall. In the night in which it is put forward, a span between the two hours is left out, and where it is
//! put back it comes twice: who asks again at each [`Schedule::next_change`], and once more when the clock was set, is right.
//!
//! Invariant: what holds depends on the schedule and the local time alone.

mod times;

pub use crate::queue::Told;
pub use times::{LocalTime, Times, TimesError, Weekday};

use times::WEEK_S;

/// The most spans of a schedule: some for each day.
pub const MAX_SPANS: usize = 64;

/// When what holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    spans: Vec<Span>,
    now: Now,
}

/// A part of the week, and what holds in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When.
    pub times: Times,
    /// What.
    pub action: Action,
}

/// What holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// The rates of the session.
    #[default]
    Normal,
    /// The alternative rates of the session.
    Alternative,
    /// These rates; those of the session where they say nothing.
    Rates(Rates),
    /// Nothing moves.
    Pause,
}

/// Rates of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// The most that comes in a second, in bytes.
    pub down_bytes_per_s: Told<u64>,
    /// The most that goes in a second, in bytes.
    pub up_bytes_per_s: Told<u64>,
}

/// What a person wants, whatever the hour is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Now {
    /// What the spans say.
    #[default]
    Auto,
    /// The rates of the session, until told otherwise.
    Normal,
    /// The alternative rates of the session, until told otherwise.
    Alternative,
}

/// There are [`MAX_SPANS`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_SPANS} spans already; remove one first")]
pub struct TooManySpans;

impl Schedule {
    /// The spans in the order in which they were added.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Adds a span, which counts before those that are there.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn add(&mut self, span: Span) -> Result<(), TooManySpans> {
        if self.spans.len() >= MAX_SPANS {
            return Err(TooManySpans);
        }
        self.spans.push(span);
        Ok(())
    }

    /// Removes the span at this place, the first being 0; `None` where there is none.
    pub fn remove(&mut self, place: usize) -> Option<Span> {
        (place < self.spans.len()).then(|| self.spans.remove(place))
    }

    /// What a person wants, whatever the hour is.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Sets that.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// What holds at this time.
    #[must_use]
    pub fn at(&self, local: LocalTime) -> Action {
        self.at_second(local.second_of_week())
    }

    /// Seconds until something else holds; `None` where nothing else ever does.
    #[must_use]
    pub fn next_change(&self, local: LocalTime) -> Option<u32> {
        let now = local.second_of_week();
        let holds = self.at_second(now);
        let bounds = self.spans.iter().flat_map(|span| span.times.bounds());
        bounds
            .filter(|&bound| self.at_second(bound) != holds)
            .map(|bound| (bound + WEEK_S - now) % WEEK_S)
            .min()
    }

    fn at_second(&self, second: u32) -> Action {
        match self.now {
            Now::Auto => {
                let covers = |span: &&Span| span.times.cover(second);
                let last = self.spans.iter().rev().find(covers);
                last.map_or(Action::Normal, |span| span.action)
            }
            Now::Normal => Action::Normal,
            Now::Alternative => Action::Alternative,
        }
    }
}

impl Action {
    /// The rates that hold where the session's are these; `None` where nothing moves. The alternative ones are the normal ones as well, as
    /// far as they say nothing.
    #[must_use]
    pub fn rates(self, normal: Rates, alternative: Rates) -> Option<Rates> {
        let own = match self {
            Action::Normal => normal,
            Action::Alternative => alternative,
            Action::Rates(own) => own,
            Action::Pause => return None,
        };
        Some(Rates {
            down_bytes_per_s: own.down_bytes_per_s.before(normal.down_bytes_per_s),
            up_bytes_per_s: own.up_bytes_per_s.before(normal.up_bytes_per_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEEK_MIN: usize = 7 * 24 * 60;

    fn schedule(spans: &[(&str, Action)]) -> Schedule {
        let mut schedule = Schedule::default();
        for &(times, action) in spans {
            let times = times.parse().unwrap();
            schedule.add(Span { times, action }).unwrap();
        }
        schedule
    }

    fn time(weekday: Weekday, hour: u32, minute: u32) -> LocalTime {
        LocalTime {
            weekday,
            seconds: (hour * 60 + minute) * 60,
        }
    }

    fn rates(down: u64) -> Rates {
        Rates {
            down_bytes_per_s: Told::Some(down),
            ..Rates::default()
        }
    }

    #[test]
    fn a_span_past_midnight_belongs_to_the_day_on_which_it_begins() {
        let schedule = schedule(&[("sat,sun 20:00-02:00", Action::Alternative)]);
        let at = |weekday, hour, minute| schedule.at(time(weekday, hour, minute));
        assert_eq!(at(Weekday::Saturday, 1, 0), Action::Normal);
        assert_eq!(at(Weekday::Saturday, 19, 59), Action::Normal);
        assert_eq!(at(Weekday::Saturday, 20, 0), Action::Alternative);
        assert_eq!(at(Weekday::Sunday, 1, 59), Action::Alternative);
        assert_eq!(at(Weekday::Sunday, 2, 0), Action::Normal);
        assert_eq!(at(Weekday::Monday, 1, 59), Action::Alternative);
        assert_eq!(at(Weekday::Monday, 2, 0), Action::Normal);
        let left = schedule.next_change(time(Weekday::Sunday, 23, 0));
        assert_eq!(left, Some(3 * 3600));
        let left = schedule.next_change(time(Weekday::Monday, 2, 0));
        assert_eq!(left, Some((5 * 24 + 18) * 3600), "until Saturday, 20:00");
    }

    #[test]
    fn an_exception_is_added_after_the_rule() {
        let mut schedule = schedule(&[
            ("mon-fri 08:00-18:00", Action::Alternative),
            ("12:00-13:00", Action::Rates(rates(500))),
        ]);
        let noon = time(Weekday::Monday, 12, 0);
        assert_eq!(schedule.at(noon), Action::Rates(rates(500)));
        assert_eq!(schedule.next_change(noon), Some(3600));
        assert_eq!(
            schedule.at(time(Weekday::Monday, 13, 0)),
            Action::Alternative
        );
        assert!(schedule.remove(1).is_some() && schedule.remove(1).is_none());
        assert_eq!(schedule.at(noon), Action::Alternative);
        assert_eq!(schedule.next_change(noon), Some(6 * 3600));
    }

    #[test]
    fn what_a_person_wants_now_holds_until_told_otherwise() {
        let mut schedule = schedule(&[("00:00-12:00", Action::Pause)]);
        let morning = time(Weekday::Monday, 6, 0);
        schedule.set_now(Now::Alternative);
        assert_eq!(schedule.at(morning), Action::Alternative);
        assert_eq!(schedule.next_change(morning), None);
        schedule.set_now(Now::Normal);
        assert_eq!(schedule.at(morning), Action::Normal);
        schedule.set_now(Now::Auto);
        assert_eq!(schedule.at(morning), Action::Pause);
        assert_eq!(schedule.next_change(morning), Some(6 * 3600));
    }

    #[test]
    fn what_never_changes_never_does() {
        let whole = schedule(&[("00:00-24:00", Action::Pause)]);
        assert_eq!(whole.at(time(Weekday::Sunday, 23, 59)), Action::Pause);
        assert_eq!(whole.next_change(time(Weekday::Monday, 0, 0)), None);
        assert_eq!(
            Schedule::default().next_change(time(Weekday::Monday, 0, 0)),
            None
        );
    }

    #[test]
    fn rates_that_are_not_said_are_those_of_the_session() {
        let normal = Rates {
            up_bytes_per_s: Told::Some(7),
            ..rates(1_000)
        };
        let held = |action: Action| action.rates(normal, rates(10));
        assert_eq!(held(Action::Normal), Some(normal));
        let lower = Rates {
            up_bytes_per_s: Told::Some(7),
            ..rates(10)
        };
        assert_eq!(held(Action::Alternative), Some(lower));
        let free = Rates {
            down_bytes_per_s: Told::Inherit,
            up_bytes_per_s: Told::None,
        };
        let freed = Rates {
            down_bytes_per_s: Told::Some(1_000),
            up_bytes_per_s: Told::None,
        };
        assert_eq!(held(Action::Rates(free)), Some(freed));
        assert_eq!(held(Action::Pause), None);
    }

    #[test]
    fn there_are_so_many_spans_and_no_more() {
        let mut schedule = schedule(&[("00:00-12:00", Action::Pause); MAX_SPANS]);
        let one = schedule.spans()[0];
        assert_eq!(schedule.add(one), Err(TooManySpans));
    }

    /// Days, the minute of the day at which it begins, and how many minutes it lasts.
    type Naive = (Vec<usize>, usize, usize, Action);

    fn any_span() -> impl Strategy<Value = Naive> {
        let days = proptest::collection::vec(0usize..7, 1..4);
        let minute = || (0usize..49).prop_map(|half| half * 30);
        let action = prop_oneof![
            Just(Action::Normal),
            Just(Action::Alternative),
            Just(Action::Rates(rates(5))),
            Just(Action::Pause)
        ];
        (days, minute(), 1usize..49, action).prop_map(|(days, from, lasts, action)| {
            let from = from % (24 * 60);
            (days, from, (lasts * 30).min(24 * 60 - 30), action)
        })
    }

    fn text((days, from, lasts, _): &Naive) -> String {
        let days: Vec<&str> = days
            .iter()
            .map(|&day| ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][day])
            .collect();
        let time = |minute: usize| format!("{:02}:{:02}", minute / 60, minute % 60);
        let to = (from + lasts) % (24 * 60);
        format!("{} {}-{}", days.join(","), time(*from), time(to))
    }

    proptest! {
        #[test]
        fn what_holds_is_what_a_table_of_the_week_says(
            spans in proptest::collection::vec(any_span(), 0..6),
            second in 0u32..60,
        ) {
            let mut table = vec![Action::Normal; WEEK_MIN];
            let mut schedule = Schedule::default();
            for span in &spans {
                for day in &span.0 {
                    for minute in 0..span.2 {
                        table[(day * 24 * 60 + span.1 + minute) % WEEK_MIN] = span.3;
                    }
                }
                let times: Times = text(span).parse().unwrap();
                prop_assert_eq!(times.to_string().parse::<Times>(), Ok(times));
                schedule.add(Span { times, action: span.3 }).unwrap();
            }
            for minute in (0..WEEK_MIN).step_by(15) {
                let local = LocalTime {
                    weekday: Weekday::ALL[minute / (24 * 60)],
                    seconds: u32::try_from(minute % (24 * 60)).unwrap() * 60 + second,
                };
                prop_assert_eq!(schedule.at(local), table[minute]);
                let ahead = (1..WEEK_MIN).find(|m| table[(minute + m) % WEEK_MIN] != table[minute]);
                let left = ahead.map(|minutes| u32::try_from(minutes).unwrap() * 60 - second);
                prop_assert_eq!(schedule.next_change(local), left);
            }
        }
    }
}
