//! What is asked and told of the schedule.
//!
//! Invariant: times are of the clock on the wall where the node is.

use serde::{Deserialize, Serialize};

/// What a person asks of the schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleRequest {
    /// What it is.
    List {},
    /// One more span, which counts before those that are there.
    Add {
        /// What.
        span: Span,
    },
    /// Some spans count no more.
    Remove {
        /// Their places, from 1.
        spans: Vec<usize>,
    },
    /// What holds whatever the hour is.
    Now {
        /// Until told otherwise.
        now: Now,
    },
}

/// A part of the week, and what holds in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Such as `mon-fri 08:00-18:00`.
    pub times: String,
    /// What holds.
    pub holds: Holds,
    /// The most that comes, as a rate or `none`, where it has rates of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// The most that goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<String>,
}

/// What holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// The rates of the session.
    Normal,
    /// Its alternative rates.
    Alternative,
    /// Rates of the span.
    Rates,
    /// Nothing moves.
    Pause,
}

/// What a person wants whatever the hour is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Now {
    /// What the spans say.
    #[default]
    Auto,
    /// The rates of the session.
    Normal,
    /// Its alternative rates.
    Alternative,
}

/// The schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The last one that covers a moment counts.
    pub spans: Vec<Span>,
    /// What a person wants whatever the hour is.
    pub now: Now,
    /// What holds at present.
    pub holds: Holds,
    /// The most that comes at present in a second, in bytes; absent where there is no limit.
    pub down_bytes_per_s: Option<u64>,
    /// The most that goes.
    pub up_bytes_per_s: Option<u64>,
    /// Until when: a day and a time, such as `mon 18:00`; absent where nothing else ever holds.
    pub until: Option<String>,
}
