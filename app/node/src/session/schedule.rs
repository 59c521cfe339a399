//! What holds at which hours: the clock on the wall, and what the session does as it says.
//!
//! The clock is looked at again and again, as it may be set, the machine may have slept, and the zone may be another one; what holds follows
//! from what it shows and from nothing before.
//!
//! Invariant: while the schedule lets nothing move, no torrent runs, whoever forces it.

use super::rates::rates;
use super::{Answer, NodeError, Session, key};
use crate::message::{self, Holds, Reply, ScheduleRequest};
use crate::rules_text;
use jiff::Zoned;
use serde::{Deserialize, Serialize};
use shoal_session::queue;
use shoal_session::rules::{Rules, Told};
use shoal_session::schedule::{Action, LocalTime, Now, Rates, Schedule, Span, Times, Weekday};
use shoal_store::{Database, StoreError, Wish};
use shoal_transport::RateLimits;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// What it is called in the database.
const KIND: &str = "schedule";

/// The spans, and what a person wants at present.
const SPANS: &str = "spans";

/// The alternative rates of the session.
const ALTERNATIVE: &str = "alternative";

/// How its words begin among those of the session.
const PREFIX: &str = "alternative_";

/// The schedule, and what of it holds.
#[derive(Debug, Default)]
pub(super) struct Hours {
    schedule: Schedule,
    /// As they are written.
    spans: Vec<message::Span>,
    alternative: Rules,
    holds: Action,
}

/// As it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    spans: Vec<message::Span>,
    now: message::Now,
}

impl Hours {
    /// What was told before. What cannot be read (a newer program wrote it) does not count, and is told of.
    pub(super) async fn read(database: &Database) -> Result<Self, StoreError> {
        let mut hours = Hours::default();
        let entries = database.entries(KIND).await?;
        let read = |name: &str| entries.get(name).map_or("{}", String::as_str);
        match serde_json::from_str(read(ALTERNATIVE)) {
            Ok(words) => {
                let told = rules_text::tell(&mut hours.alternative, &words);
                told.unwrap_or_else(|error| {
                    tracing::warn!(%error, "the alternative rates are not what they were set to");
                });
            }
            Err(error) => tracing::warn!(%error, "there are no alternative rates"),
        }
        let stored = entries.get(SPANS).map(|text| serde_json::from_str(text));
        let stored: Stored = stored
            .unwrap_or(Ok(Stored::default()))
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "the schedule cannot be read");
                Stored::default()
            });
        hours.schedule.set_now(wanted(stored.now));
        for span in stored.spans {
            if let Err(error) = hours.add(span) {
                tracing::warn!(%error, "a span of the schedule cannot be read");
            }
        }
        Ok(hours)
    }

    fn add(&mut self, span: message::Span) -> Result<(), String> {
        let read = read(&span)?;
        let added = self.schedule.add(read);
        added.map_err(|error| error.to_string())?;
        let times = read.times.to_string();
        self.spans.push(message::Span { times, ..span });
        Ok(())
    }

    fn stored(&self) -> Stored {
        Stored {
            spans: self.spans.clone(),
            now: told(self.schedule.now()),
        }
    }

    /// What holds at present.
    pub(super) const fn shown(&self) -> Holds {
        match self.holds {
            Action::Normal => Holds::Normal,
            Action::Alternative => Holds::Alternative,
            Action::Rates(_) => Holds::Rates,
            Action::Pause => Holds::Pause,
        }
    }

    /// Whether nothing is to move.
    pub(super) fn hold_everything(&self) -> bool {
        self.holds == Action::Pause
    }

    /// The rates that hold where the session has these.
    pub(super) fn limits(&self, normal: RateLimits) -> RateLimits {
        let told =
            |rate: Option<NonZeroU64>| rate.map_or(Told::None, |rate| Told::Some(rate.get()));
        let normal = Rates {
            down_bytes_per_s: told(normal.down_bytes_per_s),
            up_bytes_per_s: told(normal.up_bytes_per_s),
        };
        let held = self.holds.rates(normal, of(&self.alternative));
        // Where nothing runs, the rates are of no account.
        let Rates {
            down_bytes_per_s,
            up_bytes_per_s,
        } = held.unwrap_or(normal);
        rates(&Rules {
            down_bytes_per_s,
            up_bytes_per_s,
            ..Rules::default()
        })
    }

    /// What the session says of alternative rates, by word.
    pub(super) fn alternative_words(&self) -> impl Iterator<Item = (String, String)> {
        let words = rules_text::shown(&self.alternative);
        words
            .into_iter()
            .map(|(word, text)| (format!("{PREFIX}{word}"), text))
    }

    /// Until when that holds which holds now, by the clock on the wall.
    pub(super) fn until(&self, local: LocalTime) -> Option<String> {
        let left = self.schedule.next_change(local)?;
        let day = 24 * 60 * 60;
        let then = local.seconds.saturating_add(left);
        let later = usize::try_from(then / day).unwrap_or(0);
        let weekday = Weekday::ALL[(local.weekday as usize + later) % 7];
        let minute = then % day / 60;
        let (hours, minutes) = (minute / 60, minute % 60);
        Some(format!("{} {hours:02}:{minutes:02}", short(weekday)))
    }
}

impl Session {
    pub(super) async fn schedule(&mut self, request: ScheduleRequest) -> Answer {
        let mut hours = Hours {
            schedule: self.hours.schedule.clone(),
            spans: self.hours.spans.clone(),
            ..Hours::default()
        };
        match request {
            ScheduleRequest::List {} => return Ok(self.shown_schedule()),
            ScheduleRequest::Add { span } => hours.add(span).map_err(NodeError::Usage)?,
            ScheduleRequest::Remove { mut spans } => {
                spans.sort_unstable();
                spans.dedup();
                // From the end, as the places of those behind change.
                for place in spans.into_iter().rev() {
                    let at = place.checked_sub(1);
                    if at.and_then(|at| hours.schedule.remove(at)).is_none() {
                        let what =
                            format!("there is no span {place}; `shoal schedule` numbers them");
                        return Err(NodeError::Absent(what));
                    }
                    hours.spans.remove(place - 1);
                }
            }
            ScheduleRequest::Now { now } => hours.schedule.set_now(wanted(now)),
        }
        self.store(SPANS, &hours.stored()).await?;
        self.hours.schedule = hours.schedule;
        self.hours.spans = hours.spans;
        self.follow_schedule();
        Ok(self.shown_schedule())
    }

    async fn store(&self, name: &str, value: &impl Serialize) -> Result<(), NodeError> {
        let text = serde_json::to_string(value);
        let text = text.map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok(self.database.set_entry(KIND, name, Some(&text)).await?)
    }

    /// Takes what is said of the alternative rates out of what is said of the session.
    pub(super) fn told_alternative(
        &self,
        said: &mut BTreeMap<String, String>,
    ) -> Result<Option<Rules>, NodeError> {
        let is_ours = |(word, _): &(String, String)| word.starts_with(PREFIX);
        let (ours, others): (Vec<_>, Vec<_>) = std::mem::take(said).into_iter().partition(is_ours);
        said.extend(others);
        let ours = ours.into_iter();
        let ours = ours.map(|(word, text)| (word[PREFIX.len()..].to_owned(), text));
        let ours: BTreeMap<String, String> = ours.collect();
        if ours.is_empty() {
            return Ok(None);
        }
        if let Some(word) = ours
            .keys()
            .find(|word| !matches!(word.as_str(), "down" | "up"))
        {
            let what = format!("{PREFIX}{word}: nothing is called that");
            return Err(NodeError::Usage(what));
        }
        let mut rules = self.hours.alternative.clone();
        let told = rules_text::tell(&mut rules, &ours);
        told.map_err(|error| NodeError::Usage(format!("{PREFIX}{error}")))?;
        Ok(Some(rules))
    }

    pub(super) async fn set_alternative(&mut self, rules: Rules) -> Result<(), NodeError> {
        self.store(ALTERNATIVE, &rules_text::shown(&rules)).await?;
        self.hours.alternative = rules;
        Ok(())
    }

    /// Does what the hour says, where that is something else than before.
    pub(super) fn follow_schedule(&mut self) {
        let holds = self.hours.schedule.at(local(&Zoned::now()));
        if holds == self.hours.holds {
            return;
        }
        let held = self.hours.hold_everything();
        self.hours.holds = holds;
        tracing::info!(?holds, "the schedule says something else");
        self.limit_everything();
        if held == self.hours.hold_everything() {
            return;
        }
        self.tell_queue_settings();
        // What is forced asks for no place.
        let forced = self
            .entries
            .values()
            .filter(|entry| entry.wish == Wish::Forced);
        let forced: Vec<i64> = forced.map(|entry| entry.id).collect();
        for id in forced {
            self.tell(queue::Input::Wish(
                key(id),
                self.wish_at_this_hour(Wish::Forced),
            ));
        }
    }

    /// What the queue is told that a person wants.
    pub(super) fn wish_at_this_hour(&self, wish: Wish) -> queue::Wish {
        match wish {
            Wish::Paused => queue::Wish::Paused,
            Wish::Forced if self.hours.hold_everything() => queue::Wish::Paused,
            Wish::Queued => queue::Wish::Queued,
            Wish::Forced => queue::Wish::Forced,
        }
    }

    /// Why torrents wait for no other.
    pub(super) fn hour_message(&self) -> Option<String> {
        let why = "the schedule lets nothing move";
        self.hours.hold_everything().then(|| {
            let until = self.hours.until(local(&Zoned::now()));
            until.map_or_else(|| why.to_owned(), |until| format!("{why} until {until}"))
        })
    }

    fn shown_schedule(&self) -> Reply {
        let hours = &self.hours;
        let limits = self.limits_of_everything();
        Reply::Schedule(message::Schedule {
            spans: hours.spans.clone(),
            now: told(hours.schedule.now()),
            holds: hours.shown(),
            down_bytes_per_s: limits.down_bytes_per_s.map(NonZeroU64::get),
            up_bytes_per_s: limits.up_bytes_per_s.map(NonZeroU64::get),
            until: hours.until(local(&Zoned::now())),
        })
    }
}

fn read(span: &message::Span) -> Result<Span, String> {
    let times: Times = span.times.parse().map_err(|error| format!("{error}"))?;
    let words = [("down", &span.down), ("up", &span.up)].into_iter();
    let words = words.filter_map(|(word, text)| Some((word.to_owned(), (*text).clone()?)));
    let words: BTreeMap<String, String> = words.collect();
    let action = match (span.holds, words.is_empty()) {
        (Holds::Normal, true) => Action::Normal,
        (Holds::Alternative, true) => Action::Alternative,
        (Holds::Pause, true) => Action::Pause,
        (Holds::Rates, false) => {
            let mut rules = Rules::default();
            rules_text::tell(&mut rules, &words)?;
            Action::Rates(of(&rules))
        }
        (Holds::Rates, true) => return Err("a span with rates of its own names one".to_owned()),
        (_, false) => return Err("a span has rates of its own, or none".to_owned()),
    };
    Ok(Span { times, action })
}

fn of(rules: &Rules) -> Rates {
    Rates {
        down_bytes_per_s: rules.down_bytes_per_s,
        up_bytes_per_s: rules.up_bytes_per_s,
    }
}

const fn wanted(now: message::Now) -> Now {
    match now {
        message::Now::Auto => Now::Auto,
        message::Now::Normal => Now::Normal,
        message::Now::Alternative => Now::Alternative,
    }
}

const fn told(now: Now) -> message::Now {
    match now {
        Now::Auto => message::Now::Auto,
        Now::Normal => message::Now::Normal,
        Now::Alternative => message::Now::Alternative,
    }
}

const fn short(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}

/// What the clock on the wall shows, in the zone of the system.
fn local(now: &Zoned) -> LocalTime {
    let since_monday = usize::try_from(now.weekday().to_monday_zero_offset()).unwrap_or(0);
    let part = |part: i8| u32::try_from(part).unwrap_or(0);
    LocalTime {
        weekday: Weekday::ALL[since_monday % 7],
        seconds: (part(now.hour()) * 60 + part(now.minute())) * 60 + part(now.second()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    fn span(times: &str, holds: Holds) -> message::Span {
        message::Span {
            times: times.to_owned(),
            holds,
            down: None,
            up: None,
        }
    }

    /// What holds at a moment in central Europe.
    fn at(hours: &Hours, moment: &str) -> Action {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let moment: Timestamp = moment.parse().unwrap();
        hours.schedule.at(local(&moment.to_zoned(zone)))
    }

    #[test]
    fn spans_follow_the_clock_on_the_wall_through_both_nights_in_which_it_is_put() {
        let mut hours = Hours::default();
        hours.add(span("02:15-02:45", Holds::Pause)).unwrap();
        hours.add(span("08:00-09:00", Holds::Alternative)).unwrap();
        // Winter and summer: one hour apart for the rest of the world.
        assert_eq!(at(&hours, "2026-01-05T07:30:00Z"), Action::Alternative);
        assert_eq!(at(&hours, "2026-07-06T06:30:00Z"), Action::Alternative);
        assert_eq!(at(&hours, "2026-07-06T07:30:00Z"), Action::Normal);
        // At 02:00 it is put forward to 03:00, and nothing of the span comes.
        for minute in 0..180 {
            let moment: Timestamp = "2026-03-29T00:00:00Z".parse().unwrap();
            let moment = moment + jiff::SignedDuration::from_mins(minute);
            assert_eq!(at(&hours, &moment.to_string()), Action::Normal, "{moment}");
        }
        // At 03:00 it is put back to 02:00, and the span comes twice.
        for (moment, expected) in [
            ("2026-10-25T00:14:59Z", Action::Normal),
            ("2026-10-25T00:30:00Z", Action::Pause),
            ("2026-10-25T00:50:00Z", Action::Normal),
            ("2026-10-25T01:30:00Z", Action::Pause),
            ("2026-10-25T01:45:00Z", Action::Normal),
        ] {
            assert_eq!(at(&hours, moment), expected, "{moment}");
        }
    }

    #[test]
    fn it_is_told_until_when_something_holds() {
        let mut hours = Hours::default();
        let monday = LocalTime {
            weekday: Weekday::Monday,
            seconds: 7 * 3600,
        };
        assert_eq!(hours.until(monday), None);
        hours
            .add(span("sat,sun 20:00-02:00", Holds::Pause))
            .unwrap();
        assert_eq!(hours.until(monday).as_deref(), Some("sat 20:00"));
        let sunday = LocalTime {
            weekday: Weekday::Sunday,
            seconds: 23 * 3600,
        };
        assert_eq!(hours.until(sunday).as_deref(), Some("mon 02:00"));
    }

    #[test]
    fn a_span_makes_sense_or_is_refused_with_what_to_write() {
        let rates = message::Span {
            down: Some("500K".to_owned()),
            ..span("18:00-20:00", Holds::Rates)
        };
        assert!(read(&rates).is_ok());
        for (wrong, about) in [
            (span("18-20", Holds::Pause), "18"),
            (span("someday 18:00-20:00", Holds::Pause), "mon"),
            (span("18:00-20:00", Holds::Rates), "names one"),
            (
                message::Span {
                    holds: Holds::Pause,
                    ..rates.clone()
                },
                "or none",
            ),
            (
                message::Span {
                    down: Some("0".to_owned()),
                    ..rates
                },
                "stop everything",
            ),
        ] {
            let refused = read(&wrong).unwrap_err();
            assert!(refused.contains(about), "{refused}");
        }
    }
}
