//! A schedule whose trackers answer, refuse and stay silent in any order.

use crate::operations::{Operations, drain, is_due};
use core::time::Duration;
use shoal_machine::{Machine, Moment};
use shoal_metainfo::InfoHash;
use shoal_tracker::schedule::{Input, Output, SCRAPE_INTERVAL};
use shoal_tracker::{
    AnnounceId, AnnounceReply, Error, Event, RetryIn, Schedule, ScheduleSettings, ScrapeCounts,
    ScrapeId, ScrapeReply, TrackerState,
};
use std::collections::BTreeMap;
use url::Url;

/// Trackers, two of which cannot be spoken to.
const URLS: [&str; 7] = [
    "http://a.example/announce",
    "https://b.example/announce?passkey=1",
    "udp://c.example:1/",
    "udp://d.example/",
    "wss://e.example/",
    "http://f.example/announce",
    "http://g.example/announce",
];

/// What one announce is waiting for.
struct Waiting {
    url: Url,
    event: Option<Event>,
    give_up_at: Moment,
}

/// What one tracker has heard.
#[derive(Default)]
struct Heard {
    started: bool,
    completed: bool,
    stopped: bool,
    refused: bool,
    answered_at: Option<Moment>,
    /// Its last answer to an announce had no figures.
    lacks_figures: bool,
    scraped_at: Option<Moment>,
}

/// The promises of a schedule, followed from outside.
struct Run {
    schedule: Schedule,
    settings: ScheduleSettings,
    now: Moment,
    waiting: BTreeMap<AnnounceId, Waiting>,
    ids: Vec<AnnounceId>,
    scrapes: Vec<ScrapeId>,
    heard: BTreeMap<Url, Heard>,
    complete_at_start: Option<bool>,
    became_complete: bool,
    stopping_since: Option<Moment>,
    over: bool,
}

/// At most one announce to a tracker on its way, events in order and once, nobody asked too often or after it refused, only
/// who gives no figures scraped, an end in time and silence after it.
pub fn schedule(input: &[u8]) {
    let mut operations = Operations::new(input);
    let settings = ScheduleSettings {
        announce_to_all_tiers: operations.flag(),
        announce_to_all_trackers: operations.flag(),
        ..ScheduleSettings::default()
    };
    let tiers = (0..operations.below(4))
        .map(|_| {
            (0..operations.below(4))
                .filter_map(|_| url(&mut operations))
                .collect()
        })
        .collect();
    let random = fastrand::Rng::with_seed(operations.byte().into());
    let mut run = Run {
        schedule: Schedule::new(InfoHash([1; 20]), tiers, settings, random),
        settings,
        now: Moment::from_secs(1_000),
        waiting: BTreeMap::new(),
        ids: Vec::new(),
        scrapes: Vec::new(),
        heard: BTreeMap::new(),
        complete_at_start: None,
        became_complete: false,
        stopping_since: None,
        over: false,
    };
    while let Some(kind) = operations.next_kind() {
        run.operate(kind, &mut operations);
    }
    run.stop();
    run.now = run.now + settings.stop_time_limit;
    run.handle(Input::Tick);
    assert!(run.over, "it takes leave for longer than it may");
    run.handle(Input::WantsCandidates);
}

fn scrape_result(operations: &mut Operations<'_>) -> Result<ScrapeReply, Error> {
    if operations.flag() {
        return Err(match operations.below(3) {
            0 => Error::NoScrape,
            1 => Error::TimedOut,
            _ => Error::HttpStatus(404),
        });
    }
    let counts = ScrapeCounts {
        seeds: Some(operations.number()),
        ..ScrapeCounts::default()
    };
    let min_interval = Duration::from_secs(operations.number().into());
    Ok(ScrapeReply {
        swarms: vec![(InfoHash([operations.byte() % 2; 20]), counts)],
        min_interval: operations.flag().then_some(min_interval),
    })
}

fn url(operations: &mut Operations<'_>) -> Option<Url> {
    Url::parse(URLS[operations.below(URLS.len())]).ok()
}

impl Run {
    fn operate(&mut self, kind: u8, operations: &mut Operations<'_>) {
        match kind % 12 {
            0 => {
                let complete = operations.flag();
                self.complete_at_start.get_or_insert(complete);
                self.handle(Input::Start { complete });
            }
            1 => self.handle(Input::WantsCandidates),
            2 => {
                let runs = self.complete_at_start == Some(false) && self.stopping_since.is_none();
                self.became_complete |= runs;
                self.handle(Input::Completed);
            }
            3 => self.handle(Input::PartialSeed(operations.flag())),
            4 => {
                if let Some(url) = url(operations) {
                    let status = self.schedule.status();
                    if self.became_complete && !status.iter().any(|known| *known.url == url) {
                        // Who comes after the completion is owed no news of it.
                        self.heard.entry(url.clone()).or_default().completed = true;
                    }
                    self.handle(Input::Add(url));
                }
            }
            5 if operations.byte() == 1 => self.stop(),
            5 | 6 => {
                self.now = self.now + operations.step();
                self.tick();
            }
            7 => {
                if let Some(at) = self.schedule.deadline() {
                    self.now = self.now.max(at);
                    self.tick();
                }
            }
            8 if !self.scrapes.is_empty() => {
                let last = &self.scrapes[self.scrapes.len().saturating_sub(4)..];
                if let Some(id) = operations.one_of(last) {
                    let result = scrape_result(operations);
                    self.handle(Input::Scraped { id, result });
                }
            }
            _ => {
                let ids = &self.ids[self.ids.len().saturating_sub(4)..];
                if let Some(id) = operations.one_of(ids) {
                    self.reply(id, operations);
                }
            }
        }
    }

    fn tick(&mut self) {
        self.handle(Input::Tick);
        assert!(
            !is_due(&self.schedule, self.now),
            "it wants a tick again and again"
        );
    }

    fn stop(&mut self) {
        if self.stopping_since.is_none() {
            self.stopping_since = Some(self.now);
            // Only the answer to a `Completed` is still awaited.
            let awaited = |waiting: &Waiting| waiting.event == Some(Event::Completed);
            self.waiting.retain(|_, waiting| awaited(waiting));
        }
        self.handle(Input::Stop);
    }

    fn reply(&mut self, id: AnnounceId, operations: &mut Operations<'_>) {
        let result = match operations.below(6) {
            0 => Err(Error::TimedOut),
            1 => Err(Error::Failure {
                reason: "no".to_owned(),
                retry_in: operations.flag().then_some(RetryIn::Never),
            }),
            2 => Err(Error::Failure {
                reason: "later".to_owned(),
                retry_in: Some(RetryIn::Minutes(operations.number())),
            }),
            _ => Ok(AnnounceReply {
                interval: Duration::from_secs(operations.number().into()),
                min_interval: operations
                    .flag()
                    .then(|| Duration::from_secs(operations.number().into())),
                tracker_id: operations.flag().then(|| b"id".to_vec()),
                seeds: operations.flag().then_some(1),
                leeches: Some(1),
                ..AnnounceReply::default()
            }),
        };
        if let Some(waiting) = self.waiting.remove(&id) {
            let heard = self.heard.entry(waiting.url).or_default();
            match &result {
                Ok(reply) => {
                    heard.lacks_figures = reply.seeds.is_none();
                    heard.started |= waiting.event == Some(Event::Started);
                    heard.completed |= waiting.event == Some(Event::Completed);
                    heard.answered_at = Some(self.now);
                }
                Err(Error::Failure {
                    retry_in: Some(RetryIn::Never),
                    ..
                }) => heard.refused = true,
                Err(_) => {}
            }
        }
        self.handle(Input::Reply { id, result });
    }

    fn handle(&mut self, input: Input) {
        if matches!(input, Input::Tick) {
            let now = self.now;
            self.waiting.retain(|_, waiting| waiting.give_up_at > now);
        }
        self.schedule.handle(self.now, input);
        for output in drain(&mut self.schedule, 2 * URLS.len() + 1) {
            assert!(!self.over, "there is something after the end");
            match output {
                Output::StoppedAll => {
                    assert!(self.stopping_since.is_some());
                    self.over = true;
                    self.waiting.clear();
                }
                Output::Scrape {
                    id,
                    tracker,
                    give_up_at,
                    ..
                } => {
                    assert!(give_up_at > self.now);
                    self.on_scrape(id, tracker);
                }
                Output::Announce {
                    id,
                    tracker,
                    event,
                    num_want,
                    give_up_at,
                    ..
                } => {
                    assert_eq!(num_want == 0, self.stopping_since.is_some());
                    self.on_announce(
                        id,
                        Waiting {
                            url: tracker,
                            event,
                            give_up_at,
                        },
                    );
                }
            }
        }
        let busy = |state| state == TrackerState::Announcing;
        let status = self.schedule.status();
        assert!(status.len() <= URLS.len());
        let announcing = status.iter().filter(|tracker| busy(tracker.state)).count();
        assert!(announcing <= self.waiting.len());
        if self.over {
            assert_eq!(self.schedule.deadline(), None);
        }
    }

    fn on_scrape(&mut self, id: ScrapeId, url: Url) {
        let heard = self.heard.entry(url).or_default();
        assert!(heard.started && heard.lacks_figures && !heard.refused);
        assert!(self.stopping_since.is_none());
        let since = heard.scraped_at.map(|at| self.now - at);
        assert!(since.is_none_or(|since| since >= SCRAPE_INTERVAL));
        heard.scraped_at = Some(self.now);
        self.scrapes.push(id);
    }

    fn on_announce(&mut self, id: AnnounceId, waiting: Waiting) {
        let url = &waiting.url;
        assert!(self.complete_at_start.is_some() && waiting.give_up_at > self.now);
        assert!(matches!(url.scheme(), "http" | "https" | "udp") && url.as_str() != URLS[3]);
        assert!(
            !self.waiting.values().any(|other| other.url == *url),
            "two at once"
        );
        let heard = self.heard.entry(url.clone()).or_default();
        assert!(!heard.refused && !heard.stopped);
        let owes_completed = self.became_complete && !heard.completed;
        match waiting.event {
            Some(Event::Started) => assert!(!heard.started && self.stopping_since.is_none()),
            Some(Event::Completed) => assert!(heard.started && owes_completed),
            Some(Event::Stopped) => {
                assert!(heard.started && self.stopping_since.is_some());
                heard.stopped = true;
            }
            None | Some(Event::Paused) => {
                assert!(heard.started && !owes_completed && self.stopping_since.is_none());
                let since = heard.answered_at.map(|at| self.now - at);
                assert!(since.is_none_or(|since| since >= self.settings.interval_floor));
            }
        }
        self.ids.push(id);
        self.waiting.insert(id, waiting);
    }
}
