//! When the trackers of one swarm hear of us: tiers (BEP 12), intervals, back-off, the events that open and close a
//! session, and scrapes (BEP 48) of trackers whose replies lack figures.
//!
//! A schedule is for one info hash. A hybrid torrent is in two swarms and has a schedule for each: a tracker may refuse one
//! and serve the other, may count completions for one and not have heard of the other, so that nothing but the list of URLs
//! would be shared. Two schedules made with clones of one random generator try the trackers in the same order.
//!
//! Which trackers are spoken to: in each tier the first one that works; those before it that failed are tried again when
//! their pause is over; a tracker that answers moves to the front of its tier. All tiers are served at once unless
//! [`ScheduleSettings::announce_to_all_tiers`] is off, when a tier is served only while all before it fail.
//!
//! Scrapes are for figures alone: a tracker whose reply to an announce says how many seeds and leeches there are is never
//! scraped, and what comes of a scrape changes no announce.
//!
//! Invariant: a tracker has at most one announce and one scrape on its way. To one tracker, `Started` is announced until it succeeds once,
//! then `Completed` until it succeeds once if the torrent became complete after its start and the tracker was there by then, and `Stopped`
//! last and once, only where `Started` succeeded. After `Output::StoppedAll` nothing follows.

mod entry;
mod replace;
mod scraping;
mod tiers;

use crate::announce::{AnnounceReply, Event, ScrapeReply};
use crate::error::Error;
use core::fmt;
use core::time::Duration;
use entry::Entry;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::InfoHash;
use std::collections::VecDeque;
use tiers::{Standing, Tiers};
use url::Url;

pub use entry::check_url;

/// Public torrents carry lists of up to some dozens; more only cost packets.
pub const MAX_TRACKERS: usize = 100;

/// A longer interval is an error of the tracker's: peers would forget us first.
pub const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a torrent in need of peers may ask a tracker that names no `min interval`. Libtorrent never asks such a tracker
/// before its interval is over, which leaves a new swarm without peers for half an hour; five minutes is its floor for
/// intervals, so that trackers see no more of us than they are used to see of it.
pub const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The pause after the first failure; it doubles with each that follows.
pub const FIRST_RETRY: Duration = Duration::from_secs(15);

/// The longest pause after a failure: a tracker that is back is found within the hour.
pub const MAX_RETRY: Duration = Duration::from_secs(60 * 60);

/// How often a tracker is scraped whose replies to announces lack the figures of the swarm. A customary interval of
/// announces: figures are for people to look at, and nothing depends on them.
pub const SCRAPE_INTERVAL: Duration = crate::announce::DEFAULT_INTERVAL;

/// How long an announce or a scrape may take, over any protocol; see [`crate::udp::DEFAULT_TIME_LIMIT`]. Meanwhile the other trackers of
/// its tier wait.
pub const ANNOUNCE_TIME_LIMIT: Duration = crate::udp::DEFAULT_TIME_LIMIT;

/// What a person may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// Serve every tier at once, rather than the first that answers. On: trackers of different tiers know different peers.
    pub announce_to_all_tiers: bool,
    /// Serve every tracker of a tier at once. Off: trackers of one tier are meant to be mirrors of each other.
    pub announce_to_all_trackers: bool,
    /// The least that intervals count, whatever the tracker says; also how soon one may be asked again by a torrent in need.
    /// A minute: no honest tracker wants more.
    pub interval_floor: Duration,
    /// How long everything takes after `Input::Stop`. A second and a half: a person who ends the program waits for two at
    /// most, and disks need some of it.
    pub stop_time_limit: Duration,
    /// How many peers to ask for. 200, what trackers commonly give at most.
    pub num_want: u32,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        ScheduleSettings {
            announce_to_all_tiers: true,
            announce_to_all_trackers: false,
            interval_floor: Duration::from_secs(60),
            stop_time_limit: Duration::from_millis(1500),
            num_want: 200,
        }
    }
}

/// Names one scrape of one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScrapeId(u64);

/// Names one announce of one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnounceId(u64);

/// What can happen to a schedule. Without `Debug`, as URLs may hold secrets and replies addresses.
#[derive(Clone)]
pub enum Input {
    /// Begin.
    Start {
        /// The torrent is complete: no `Completed` will be sent.
        complete: bool,
    },
    /// The torrent has too few peers to try: announce early where `min interval` allows. Has no effect on a tracker whose
    /// answer is awaited; to be said again whenever it is so.
    WantsCandidates,
    /// The torrent became complete.
    Completed,
    /// What nobody could know at the start: the torrent was complete then. No `Completed` will be sent.
    WasComplete,
    /// The torrent has all that is wanted without being complete (true), or it wants more again (BEP 21).
    PartialSeed(bool),
    /// What came of an announce. Whoever drives takes the peers out first; here they are ignored. Replies to announces that
    /// are no longer awaited change nothing.
    Reply {
        /// Which.
        id: AnnounceId,
        /// What.
        result: Result<AnnounceReply, Error>,
    },
    /// What came of a scrape. Replies to scrapes that are no longer awaited change nothing.
    Scraped {
        /// Which.
        id: ScrapeId,
        /// What.
        result: Result<ScrapeReply, Error>,
    },
    /// A tracker more, in a tier of its own after all others. One that is there already changes nothing.
    Add(Url),
    /// These tiers in place of all. Trackers that stay go on as they were, those that go are taken leave of, and new ones hear of us.
    Replace(Vec<Vec<Url>>),
    /// A person wants an announce now: of one tracker, or of all. As soon as their `min interval` allows, and without a pause after a
    /// failure that the tracker did not ask for.
    Reannounce(Option<Url>),
    /// Take leave of the trackers. Announces on their way may be dropped, unless their event is `Completed`; so may scrapes.
    Stop,
    /// A deadline passed.
    Tick,
}

/// What a schedule wants done.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Announce, then say `Input::Reply`.
    Announce {
        /// To be named in the reply.
        id: AnnounceId,
        /// The tracker's URL. It may hold a secret (a passkey), so that `Debug` shows the host only.
        tracker: Url,
        /// The swarm.
        info_hash: InfoHash,
        /// Why, if not for time.
        event: Option<Event>,
        /// How many peers to ask for.
        num_want: u32,
        /// What the tracker wanted us to repeat.
        tracker_id: Option<Vec<u8>>,
        /// Answers after this moment come too late: the schedule will have counted a failure.
        give_up_at: Moment,
    },
    /// Scrape this swarm, then say `Input::Scraped`.
    Scrape {
        /// To be named in the reply.
        id: ScrapeId,
        /// The tracker's URL, which is that of announces. As in `Announce`, it may hold a secret.
        tracker: Url,
        /// The swarm.
        info_hash: InfoHash,
        /// Answers after this moment come too late.
        give_up_at: Moment,
    },
    /// All leave is taken, or its time is over: nothing follows.
    StoppedAll,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Output::StoppedAll => f.write_str("StoppedAll"),
            Output::Announce {
                id,
                tracker,
                info_hash,
                event,
                ..
            } => f
                .debug_struct("Announce")
                .field("id", &id.0)
                .field("tracker", &tracker.host_str())
                .field("info_hash", info_hash)
                .field("event", event)
                .finish_non_exhaustive(),
            Output::Scrape {
                id,
                tracker,
                info_hash,
                ..
            } => f
                .debug_struct("Scrape")
                .field("id", &id.0)
                .field("tracker", &tracker.host_str())
                .field("info_hash", info_hash)
                .finish_non_exhaustive(),
        }
    }
}

/// How things stand with a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerState {
    /// Not spoken to yet; it may be that another tracker of its tier works.
    Untried,
    /// An announce is on its way.
    Announcing,
    /// It answered the last announce.
    Working,
    /// It did not; it is tried again.
    Failing,
    /// It said never to ask again (BEP 31).
    Refused,
    /// We do not speak the protocol of its URL.
    Unsupported,
}

/// What a person may want to know of a tracker.
#[derive(Clone)]
pub struct TrackerStatus<'a> {
    /// Its URL, with its secrets.
    pub url: &'a Url,
    /// The tier, from 0.
    pub tier: usize,
    /// How things stand.
    pub state: TrackerState,
    /// It answered the last announce, also while the next one is on its way.
    pub answers: bool,
    /// Failures in a row.
    pub failures: u32,
    /// When the next announce is due if nothing happens before; `None` where none is planned.
    pub next_announce: Option<Moment>,
    /// Peers that are complete, as the tracker last said in an announce or a scrape.
    pub seeds: Option<u32>,
    /// Peers that are not, as the tracker last said in an announce or a scrape.
    pub leeches: Option<u32>,
    /// Completed downloads ever, as the tracker last said in an announce or a scrape.
    pub downloads: Option<u32>,
    /// The warning of the last announce, or why there was no answer.
    pub message: Option<&'a str>,
}

/// Where a schedule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before `Input::Start`.
    Idle,
    /// Trackers hear of us.
    Running,
    /// Leave is taken until then.
    Stopping(Moment),
    /// `Output::StoppedAll` was given.
    Over,
}

/// The announces of one swarm.
pub struct Schedule {
    info_hash: InfoHash,
    settings: ScheduleSettings,
    rng: fastrand::Rng,
    phase: Phase,
    /// The torrent is complete and was not at the start, so that trackers are owed a `Completed`.
    became_complete: bool,
    complete_at_start: bool,
    partial_seed: bool,
    entries: Vec<Entry>,
    tiers: Tiers,
    /// Trackers that were removed and have not answered our farewell.
    leaving: Vec<Entry>,
    next_id: u64,
    outputs: VecDeque<Output>,
}

impl Schedule {
    /// A schedule over these tiers, each shuffled (BEP 12). A URL that came before and trackers beyond [`MAX_TRACKERS`] are
    /// left out.
    #[must_use]
    pub fn new(
        info_hash: InfoHash,
        tiers: Vec<Vec<Url>>,
        settings: ScheduleSettings,
        rng: fastrand::Rng,
    ) -> Self {
        let mut schedule = Schedule {
            info_hash,
            settings,
            rng,
            phase: Phase::Idle,
            became_complete: false,
            complete_at_start: false,
            partial_seed: false,
            entries: Vec::new(),
            tiers: Tiers::default(),
            leaving: Vec::new(),
            next_id: 0,
            outputs: VecDeque::new(),
        };
        for tier in tiers {
            let mut members: Vec<usize> = tier
                .into_iter()
                .filter_map(|url| schedule.enter(url, Moment::ZERO))
                .collect();
            schedule.rng.shuffle(&mut members);
            schedule.tiers.push(members);
        }
        schedule
    }

    /// The swarm.
    #[must_use]
    pub const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// How things stand with every tracker, in the order of tiers and, in each, of preference.
    #[must_use]
    pub fn status(&self) -> Vec<TrackerStatus<'_>> {
        let served = match self.phase {
            Phase::Running => self.served(),
            Phase::Idle | Phase::Stopping(_) | Phase::Over => Vec::new(),
        };
        let members = self.tiers.members();
        members
            .map(|(tier, index)| {
                let entry = &self.entries[index];
                let next_announce = served.contains(&index).then_some(entry.next_at);
                entry.status(tier, next_announce)
            })
            .collect()
    }

    /// Keeps a tracker that is not there yet, `None` where it is or there is no room.
    fn enter(&mut self, url: Url, due_at: Moment) -> Option<usize> {
        let known = self.entries.iter().any(|entry| entry.url == url);
        if known || self.entries.len() >= MAX_TRACKERS {
            return None;
        }
        let entry = self.newcomer(url, due_at);
        self.entries.push(entry);
        Some(self.entries.len() - 1)
    }

    /// The trackers whose next announce counts.
    fn served(&self) -> Vec<usize> {
        self.tiers.served(
            self.settings.announce_to_all_tiers,
            self.settings.announce_to_all_trackers,
            |index| self.entries[index].standing(),
        )
    }

    fn announce(&mut self, index: usize, event: Option<Event>, give_up_at: Moment) {
        // Peers are of no use to who leaves.
        let leaving = event == Some(Event::Stopped) || matches!(self.phase, Phase::Stopping(_));
        let num_want = if leaving { 0 } else { self.settings.num_want };
        let id = self.next_announce();
        let announce = self.entries[index].announce(id, event, give_up_at);
        self.outputs
            .push_back(announce.output(self.info_hash, num_want));
    }

    fn next_announce(&mut self) -> AnnounceId {
        self.next_id += 1;
        AnnounceId(self.next_id - 1)
    }

    /// Announces to every served tracker that is due.
    fn announce_due(&mut self, now: Moment) {
        // Each announce makes its tracker busy, which may end the turn of others in its tier.
        while let Some(index) = self
            .served()
            .into_iter()
            .find(|&index| self.entries[index].next_at <= now)
        {
            let event = self.entries[index].event(self.became_complete, self.partial_seed);
            self.announce(index, event, now + ANNOUNCE_TIME_LIMIT);
        }
    }

    fn completed(&mut self, now: Moment) {
        if self.phase != Phase::Running || self.complete_at_start || self.became_complete {
            return;
        }
        self.became_complete = true;
        for entry in &mut self.entries {
            entry.bring_forward_completed(now);
        }
    }

    fn wants_candidates(&mut self) {
        for index in self.served() {
            self.entries[index].bring_forward();
        }
    }

    fn reply(&mut self, now: Moment, id: AnnounceId, result: Result<AnnounceReply, Error>) {
        let Some(index) = self.entries.iter().position(|entry| entry.awaits(id)) else {
            return self.farewell_answered(now, id, &result);
        };
        let entry = &mut self.entries[index];
        let event = entry.answered();
        match result {
            Ok(reply) => {
                entry.succeed(now, event, reply, self.settings.interval_floor);
                if self.became_complete {
                    entry.bring_forward_completed(now);
                }
                self.tiers.promote(index);
            }
            Err(error) => entry.fail(now, &error, &mut self.rng),
        }
        if let Phase::Stopping(until) = self.phase
            && event == Some(Event::Completed)
            && self.entries[index].standing() != Standing::Unusable
            && now < until
        {
            self.announce(index, Some(Event::Stopped), until);
        }
    }

    /// Counts announces and scrapes that were not answered in time as failures.
    fn expire(&mut self, now: Moment) {
        let all = |schedule: &Self| {
            let mut all = schedule.entries.iter().chain(&schedule.leaving);
            all.find_map(|entry| entry.expired(now))
        };
        while let Some(id) = all(self) {
            self.reply(now, id, Err(Error::TimedOut));
        }
        for entry in &mut self.entries {
            entry.scraping.expire(now);
        }
    }

    /// Scrapes every tracker of which that is due.
    fn scrape_due(&mut self, now: Moment) {
        for entry in &mut self.entries {
            if entry.scrape_at().is_none_or(|due_at| due_at > now) {
                continue;
            }
            let id = ScrapeId(self.next_id);
            self.next_id += 1;
            let give_up_at = now + ANNOUNCE_TIME_LIMIT;
            entry.scraping.sent(id, give_up_at);
            self.outputs.push_back(Output::Scrape {
                id,
                tracker: entry.url.clone(),
                info_hash: self.info_hash,
                give_up_at,
            });
        }
    }

    fn scraped(&mut self, now: Moment, id: ScrapeId, result: &Result<ScrapeReply, Error>) {
        let awaits = |entry: &&mut Entry| entry.scraping.awaits(id);
        let Some(entry) = self.entries.iter_mut().find(awaits) else {
            return;
        };
        let swarms = entry.scraping.answered(now, result);
        let ours = swarms.iter().find(|(swarm, _)| *swarm == self.info_hash);
        if let Some((_, counts)) = ours {
            entry.learn(*counts);
        }
    }

    fn stop(&mut self, now: Moment) {
        if matches!(self.phase, Phase::Stopping(_) | Phase::Over) {
            return;
        }
        let until = now + self.settings.stop_time_limit;
        self.phase = Phase::Stopping(until);
        for index in 0..self.entries.len() {
            if let Some(farewell) = self.entries[index].take_leave(self.became_complete) {
                self.announce(index, Some(farewell), until);
            }
        }
    }

    /// Ends the schedule once no answer is awaited any more, or the time for it is over.
    fn end_if_left(&mut self, now: Moment) {
        let Phase::Stopping(until) = self.phase else {
            return;
        };
        let mut all = self.entries.iter().chain(&self.leaving);
        if now >= until || !all.any(Entry::is_busy) {
            self.phase = Phase::Over;
            self.entries.iter_mut().for_each(Entry::forget_sent);
            self.leaving.clear();
            self.outputs.push_back(Output::StoppedAll);
        }
    }
}

impl Machine for Schedule {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Start { complete } if self.phase == Phase::Idle => {
                self.phase = Phase::Running;
                self.complete_at_start = complete;
            }
            Input::Start { .. } => {}
            Input::WantsCandidates => self.wants_candidates(),
            Input::Completed => self.completed(now),
            Input::WasComplete => self.complete_at_start |= !self.became_complete,
            Input::PartialSeed(partial) => self.partial_seed = partial,
            Input::Reply { id, result } => self.reply(now, id, result),
            Input::Scraped { id, result } => self.scraped(now, id, &result),
            Input::Add(url) => {
                if let Some(index) = self.enter(url, now) {
                    self.tiers.push(vec![index]);
                }
            }
            Input::Replace(tiers) => self.replace(now, tiers),
            Input::Reannounce(tracker) => self.reannounce(now, tracker.as_ref()),
            Input::Stop => self.stop(now),
            Input::Tick => self.expire(now),
        }
        match self.phase {
            Phase::Running => {
                self.announce_due(now);
                self.scrape_due(now);
            }
            Phase::Stopping(_) => self.end_if_left(now),
            Phase::Idle | Phase::Over => {}
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Idle | Phase::Over => None,
            Phase::Stopping(until) => Some(until),
            Phase::Running => {
                let due = self
                    .served()
                    .into_iter()
                    .map(|index| self.entries[index].next_at)
                    .min();
                let all = self.entries.iter().chain(&self.leaving);
                let expiry = all.filter_map(Entry::give_up_at).min();
                let scrape = self.entries.iter().filter_map(Entry::scrape_deadline);
                earliest(earliest(due, expiry), scrape.min())
            }
        }
    }
}

#[cfg(test)]
mod tests;
