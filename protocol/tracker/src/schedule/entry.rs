//! What a schedule knows of one tracker.
//!
//! Invariant: `started` and `completed` turn true once, when the tracker answered such an announce (or came after the completion), and never
//! back.

use super::scraping::Scraping;
use super::tiers::Standing;
use super::{
    AnnounceId, DEFAULT_MIN_INTERVAL, FIRST_RETRY, MAX_INTERVAL, MAX_RETRY, Output, TrackerState,
    TrackerStatus,
};
use crate::announce::{AnnounceReply, Event, ScrapeCounts};
use crate::error::{Error, RetryIn};
use crate::udp;
use core::time::Duration;
use shoal_machine::{Moment, earliest};
use shoal_metainfo::InfoHash;
use url::Url;

/// The least pause that a tracker can ask for (BEP 31 counts in minutes).
const MIN_RETRY_IN: Duration = Duration::from_secs(60);

/// Whether a tracker is spoken to at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Usable,
    /// It said never (BEP 31).
    Refused,
    Unsupported,
}

struct InFlight {
    id: AnnounceId,
    event: Option<Event>,
    give_up_at: Moment,
}

/// What an entry knows of an announce.
pub(super) struct Announce {
    id: AnnounceId,
    tracker: Url,
    event: Option<Event>,
    tracker_id: Option<Vec<u8>>,
    give_up_at: Moment,
}

impl Announce {
    pub(super) fn output(self, info_hash: InfoHash, num_want: u32) -> Output {
        Output::Announce {
            id: self.id,
            tracker: self.tracker,
            info_hash,
            event: self.event,
            num_want,
            tracker_id: self.tracker_id,
            give_up_at: self.give_up_at,
        }
    }
}

/// One tracker.
pub(super) struct Entry {
    pub(super) url: Url,
    /// When it may hear of us next, if its tier lets it.
    pub(super) next_at: Moment,
    pub(super) tracker_id: Option<Vec<u8>>,
    pub(super) scraping: Scraping,
    usable: Use,
    in_flight: Option<InFlight>,
    /// The earliest moment for an announce that is not for an event.
    not_before: Moment,
    /// The earliest moment for one that a person asks for.
    not_before_asked: Moment,
    failures: u32,
    started: bool,
    completed: bool,
    seeds: Option<u32>,
    leeches: Option<u32>,
    downloads: Option<u32>,
    message: Option<String>,
}

impl Entry {
    pub(super) fn new(url: Url, due_at: Moment) -> Self {
        let unusable = check_url(&url).err();
        Entry {
            url,
            next_at: due_at,
            tracker_id: None,
            scraping: Scraping::default(),
            usable: if unusable.is_none() {
                Use::Usable
            } else {
                Use::Unsupported
            },
            in_flight: None,
            not_before: due_at,
            not_before_asked: due_at,
            failures: 0,
            started: false,
            completed: false,
            seeds: None,
            leeches: None,
            downloads: None,
            message: unusable.map(|error| error.to_string()),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let busy = self.is_busy();
        match (self.usable, self.failures) {
            (Use::Refused | Use::Unsupported, _) => Standing::Unusable,
            (Use::Usable, 0) => Standing::Sound { busy },
            (Use::Usable, _) => Standing::Failing { busy },
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn give_up_at(&self) -> Option<Moment> {
        self.in_flight.as_ref().map(|sent| sent.give_up_at)
    }

    pub(super) fn awaits(&self, id: AnnounceId) -> bool {
        self.in_flight.as_ref().is_some_and(|sent| sent.id == id)
    }

    /// The announce that was not answered in time.
    pub(super) fn expired(&self, now: Moment) -> Option<AnnounceId> {
        let sent = self.in_flight.as_ref()?;
        (sent.give_up_at <= now).then_some(sent.id)
    }

    /// Why the next announce is made.
    pub(super) fn event(&self, became_complete: bool, partial_seed: bool) -> Option<Event> {
        if !self.started {
            Some(Event::Started)
        } else if became_complete && !self.completed {
            Some(Event::Completed)
        } else {
            partial_seed.then_some(Event::Paused)
        }
    }

    /// It came after the torrent was complete, and is owed no news of that.
    pub(super) fn came_after_completion(&mut self) {
        self.completed = true;
    }

    /// An announce that is on its way from here on.
    pub(super) fn announce(
        &mut self,
        id: AnnounceId,
        event: Option<Event>,
        give_up_at: Moment,
    ) -> Announce {
        self.in_flight = Some(InFlight {
            id,
            event,
            give_up_at,
        });
        Announce {
            id,
            tracker: self.url.clone(),
            event,
            tracker_id: self.tracker_id.clone(),
            give_up_at,
        }
    }

    /// An announce of completion is on its way.
    pub(super) fn awaits_completed(&self) -> bool {
        let sent = self.in_flight.as_ref();
        sent.is_some_and(|sent| sent.event == Some(Event::Completed))
    }

    /// Awaits no answer any more; says what the announce was for.
    pub(super) fn answered(&mut self) -> Option<Event> {
        self.in_flight.take().and_then(|sent| sent.event)
    }

    /// Awaits no answer any more.
    pub(super) fn forget_sent(&mut self) {
        self.in_flight = None;
    }

    pub(super) fn succeed(
        &mut self,
        now: Moment,
        event: Option<Event>,
        reply: AnnounceReply,
        floor: Duration,
    ) {
        self.failures = 0;
        self.started |= event == Some(Event::Started);
        self.completed |= event == Some(Event::Completed);
        let bounded = |interval: Duration| interval.max(floor).min(MAX_INTERVAL);
        let stated_min = reply.min_interval.map_or(Duration::ZERO, bounded);
        let interval = bounded(reply.interval).max(stated_min);
        let min_interval = match reply.min_interval {
            Some(_) => stated_min,
            None => bounded(DEFAULT_MIN_INTERVAL).min(interval),
        };
        self.next_at = now + interval;
        self.not_before = now + min_interval;
        self.not_before_asked = now + stated_min.max(floor);
        if reply.tracker_id.is_some() {
            self.tracker_id = reply.tracker_id;
        }
        self.message = reply.warning;
        if reply.seeds.is_some() && reply.leeches.is_some() {
            self.scraping.counts_are_known();
        } else {
            self.scraping.counts_are_missing(min_interval);
        }
        self.learn(ScrapeCounts {
            seeds: reply.seeds,
            leeches: reply.leeches,
            downloads: reply.downloads,
            downloaders: None,
        });
    }

    /// Keeps the figures that a tracker gave. What it does not say this time is what it said before.
    pub(super) fn learn(&mut self, counts: ScrapeCounts) {
        self.seeds = counts.seeds.or(self.seeds);
        self.leeches = counts.leeches.or(self.leeches);
        self.downloads = counts.downloads.or(self.downloads);
    }

    /// When a scrape is due: only of a tracker that answers announces.
    pub(super) fn scrape_at(&self) -> Option<Moment> {
        self.answers().then(|| self.scraping.due_at()).flatten()
    }

    /// When something is to be done about scrapes.
    pub(super) fn scrape_deadline(&self) -> Option<Moment> {
        earliest(self.scrape_at(), self.scraping.give_up_at())
    }

    /// It answered the last announce.
    fn answers(&self) -> bool {
        self.usable == Use::Usable && self.started && self.failures == 0
    }

    pub(super) fn fail(&mut self, now: Moment, error: &Error, rng: &mut fastrand::Rng) {
        self.failures = self.failures.saturating_add(1);
        self.message = Some(error.to_string());
        let pause = match error {
            Error::Failure {
                retry_in: Some(RetryIn::Never),
                ..
            } => {
                self.usable = Use::Refused;
                MAX_INTERVAL
            }
            Error::Failure {
                retry_in: Some(RetryIn::Minutes(minutes)),
                ..
            } => {
                let stated = Duration::from_secs(u64::from(*minutes) * 60);
                let pause = stated.clamp(MIN_RETRY_IN, MAX_INTERVAL);
                self.not_before_asked = self.not_before_asked.max(now + pause);
                pause
            }
            Error::UnusableUrl(_) => {
                self.usable = Use::Unsupported;
                MAX_INTERVAL
            }
            _ => retry_pause(self.failures, rng),
        };
        self.next_at = now + pause;
    }

    /// The torrent needs peers: announce as soon as the tracker allows, if it works and has answered before.
    pub(super) fn bring_forward(&mut self) {
        if self.started && self.failures == 0 {
            self.next_at = self.next_at.min(self.not_before);
        }
    }

    /// A person wants an announce: as soon as the tracker allows.
    pub(super) fn bring_forward_asked(&mut self, now: Moment) {
        if self.usable == Use::Usable {
            self.next_at = self.next_at.min(now.max(self.not_before_asked));
        }
    }

    /// The tracker is owed a `Completed`: at once if it works, else with the next attempt.
    pub(super) fn bring_forward_completed(&mut self, now: Moment) {
        if self.started && !self.completed && self.failures == 0 {
            self.next_at = now;
        }
    }

    /// The first announce of leave, if one is to be made at once: none to who never heard of us, and none yet where a
    /// `Completed` is on its way, as `Stopped` comes after its answer. Other announces on their way are forgotten.
    pub(super) fn take_leave(&mut self, became_complete: bool) -> Option<Event> {
        if self.awaits_completed() {
            return None;
        }
        self.in_flight = None;
        let hears = self.started && self.usable == Use::Usable;
        let owed = if became_complete && !self.completed {
            Event::Completed
        } else {
            Event::Stopped
        };
        hears.then_some(owed)
    }

    pub(super) fn status(&self, tier: usize, next_announce: Option<Moment>) -> TrackerStatus<'_> {
        let state = match self.usable {
            Use::Unsupported => TrackerState::Unsupported,
            Use::Refused => TrackerState::Refused,
            Use::Usable if self.is_busy() => TrackerState::Announcing,
            Use::Usable if self.failures > 0 => TrackerState::Failing,
            Use::Usable if self.started => TrackerState::Working,
            Use::Usable => TrackerState::Untried,
        };
        TrackerStatus {
            url: &self.url,
            tier,
            state,
            answers: self.answers(),
            failures: self.failures,
            next_announce,
            seeds: self.seeds,
            leeches: self.leeches,
            downloads: self.downloads,
            message: self.message.as_deref(),
        }
    }
}

/// Whether a tracker can be spoken to at all.
///
/// # Errors
///
/// [`Error::UnusableUrl`] where it cannot.
pub fn check_url(tracker: &Url) -> Result<(), Error> {
    match tracker.scheme() {
        "http" | "https" => Ok(()),
        "udp" => udp::endpoint(tracker).map(drop),
        "ws" | "wss" => Err(Error::UnusableUrl(
            "trackers over WebSocket are not spoken to",
        )),
        _ => Err(Error::UnusableUrl(
            "trackers are spoken to over http, https and udp",
        )),
    }
}

/// How long to pause after that many failures in a row: doubling, to a cap. Up to a quarter less by chance, so that clients
/// that lost a tracker at the same moment do not all come back at the same moment.
fn retry_pause(failures: u32, rng: &mut fastrand::Rng) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let pause = (FIRST_RETRY * (1 << doublings)).min(MAX_RETRY);
    pause.mul_f64(0.75 + 0.25 * rng.f64())
}
