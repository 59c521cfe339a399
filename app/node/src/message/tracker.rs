//! Trackers of torrents.

use serde::{Deserialize, Serialize};

/// What is asked of the trackers of torrents. URLs are secrets of private trackers: they are shown to the owner, and stand in no log or
/// error.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum TrackerRequest {
    /// All of them.
    List {
        /// Of which torrents.
        torrents: Vec<String>,
    },
    /// Some more; those that are there stay where they are.
    Add {
        /// Of which torrents.
        torrents: Vec<String>,
        /// The trackers.
        urls: Vec<String>,
        /// Their tier, from 1; absent, each is one of its own behind all others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<usize>,
    },
    /// Another URL or tier for one.
    Set {
        /// Of which torrents.
        torrents: Vec<String>,
        /// The tracker.
        url: String,
        /// The URL that it gets.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// The tier that it gets, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<usize>,
    },
    /// Some are not asked any more.
    Remove {
        /// Of which torrents.
        torrents: Vec<String>,
        /// The trackers.
        urls: Vec<String>,
    },
    /// One of them hears of the torrents, as soon as it lets them.
    Announce {
        /// Which torrents.
        torrents: Vec<String>,
        /// The tracker.
        url: String,
    },
}

impl std::fmt::Debug for TrackerRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TrackerRequest")
    }
}

/// A tracker of a torrent, and how things stand with it in one swarm: a hybrid torrent is in two.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracker {
    /// The number of the torrent.
    pub torrent: i64,
    /// Its URL, with its secrets.
    pub url: String,
    /// Its tier, from 1.
    pub tier: usize,
    /// The info hash of the swarm; absent where the torrent does not run.
    pub swarm: Option<String>,
    /// How things stand.
    pub state: TrackerState,
    /// Why it did not answer, or what it warns of.
    pub message: Option<String>,
    /// Complete peers, as it says.
    pub seeds: Option<u32>,
    /// Incomplete peers, as it says.
    pub leeches: Option<u32>,
    /// Completed downloads ever, as it says.
    pub completed: Option<u32>,
    /// In so many seconds it hears of us again, if nothing happens before.
    pub next_announce_s: Option<u64>,
}

impl std::fmt::Debug for Tracker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Tracker");
        shown.field("torrent", &self.torrent);
        shown.field("tier", &self.tier);
        shown.field("state", &self.state).finish_non_exhaustive()
    }
}

/// How things stand with a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackerState {
    /// The torrent does not run.
    Idle,
    /// Not spoken to yet; it may be that another one of its tier works.
    Untried,
    /// An announce is on its way.
    Announcing,
    /// It answered the last announce.
    Working,
    /// It did not; it is tried again.
    Failing,
    /// It said never to ask again.
    Refused,
    /// Nobody here speaks the protocol of its URL.
    Unsupported,
}

impl TrackerState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TrackerState::Idle => "idle",
            TrackerState::Untried => "untried",
            TrackerState::Announcing => "announcing",
            TrackerState::Working => "working",
            TrackerState::Failing => "failing",
            TrackerState::Refused => "refused",
            TrackerState::Unsupported => "unsupported",
        }
    }
}
