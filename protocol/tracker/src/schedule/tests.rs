//! Schedules in virtual time: who hears what, and when.

use super::*;
use crate::{RetryIn, ScrapeCounts};
use proptest::prelude::*;

const HASH: InfoHash = InfoHash([7; 20]);
const MINUTE: Duration = Duration::from_secs(60);
const HALF_HOUR: Duration = Duration::from_secs(1800);

fn at(s: u64) -> Moment {
    Moment::from_secs(s)
}

fn url(name: &str) -> Url {
    Url::parse(&format!("http://{name}.example/announce")).unwrap()
}

fn reply(interval_s: u64) -> Result<AnnounceReply, Error> {
    Ok(AnnounceReply {
        interval: Duration::from_secs(interval_s),
        seeds: Some(1),
        leeches: Some(2),
        ..AnnounceReply::default()
    })
}

fn refusal(retry_in: RetryIn) -> Result<AnnounceReply, Error> {
    let reason = "no".to_owned();
    Err(Error::Failure {
        reason,
        retry_in: Some(retry_in),
    })
}

/// One announce, as the driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Announced {
    id: AnnounceId,
    tracker: String,
    event: Option<Event>,
    num_want: u32,
}

/// A schedule and its virtual time.
struct Bench {
    schedule: Schedule,
    now: Moment,
    stopped: bool,
    /// Scrapes so far: when, and of whom.
    scrapes: Vec<(Moment, ScrapeId, Url)>,
}

impl Bench {
    fn with(tiers: &[&[&str]], settings: ScheduleSettings) -> Self {
        let tiers = tiers
            .iter()
            .map(|tier| tier.iter().map(|name| url(name)).collect())
            .collect();
        let rng = fastrand::Rng::with_seed(3);
        let schedule = Schedule::new(HASH, tiers, settings, rng);
        Bench {
            schedule,
            now: Moment::ZERO,
            stopped: false,
            scrapes: Vec::new(),
        }
    }

    fn new(tiers: &[&[&str]]) -> Self {
        Bench::with(tiers, ScheduleSettings::default())
    }

    fn say(&mut self, input: Input) -> Vec<Announced> {
        self.schedule.handle(self.now, input);
        let mut announced = Vec::new();
        while let Some(output) = self.schedule.poll() {
            match output {
                Output::StoppedAll => self.stopped = true,
                Output::Scrape {
                    id,
                    tracker,
                    info_hash,
                    give_up_at,
                } => {
                    assert!(!self.stopped && give_up_at > self.now);
                    assert_eq!(info_hash, HASH);
                    self.scrapes.push((self.now, id, tracker));
                }
                Output::Announce {
                    id,
                    tracker,
                    info_hash,
                    event,
                    num_want,
                    ..
                } => {
                    assert!(!self.stopped);
                    assert_eq!(info_hash, HASH);
                    let host = tracker.host_str().unwrap();
                    let tracker = host.trim_end_matches(".example").to_owned();
                    announced.push(Announced {
                        id,
                        tracker,
                        event,
                        num_want,
                    });
                }
            }
        }
        announced
    }

    fn start(&mut self) -> Vec<Announced> {
        self.say(Input::Start { complete: false })
    }

    fn answer(&mut self, to: &Announced, result: Result<AnnounceReply, Error>) -> Vec<Announced> {
        self.say(Input::Reply { id: to.id, result })
    }

    /// Goes to the next deadline.
    fn wait(&mut self) -> Vec<Announced> {
        self.now = self.schedule.deadline().unwrap().max(self.now);
        self.say(Input::Tick)
    }

    /// Goes on by that much, ticking at every deadline.
    fn pass(&mut self, time: Duration) -> Vec<Announced> {
        let end = self.now + time;
        let mut announced = Vec::new();
        while self
            .schedule
            .deadline()
            .is_some_and(|deadline| deadline <= end)
        {
            announced.extend(self.wait());
        }
        self.now = end;
        announced
    }

    fn state(&self, tracker: &str) -> TrackerState {
        let url = url(tracker);
        let status = self.schedule.status();
        status
            .into_iter()
            .find(|status| *status.url == url)
            .unwrap()
            .state
    }
}

/// The one announce that is there.
fn one(announced: Vec<Announced>) -> Announced {
    let [announced] = <[Announced; 1]>::try_from(announced).unwrap();
    announced
}

fn trackers(announced: &[Announced]) -> Vec<&str> {
    announced
        .iter()
        .map(|announced| announced.tracker.as_str())
        .collect()
}

#[test]
fn a_tracker_hears_of_us_at_its_interval() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    assert_eq!((first.event, first.num_want), (Some(Event::Started), 200));
    assert_eq!(bench.answer(&first, reply(1800)), []);
    assert_eq!(bench.state("a"), TrackerState::Working);
    assert_eq!(bench.pass(HALF_HOUR - Duration::from_secs(1)), []);
    let second = one(bench.wait());
    assert_eq!((bench.now, second.event), (at(1800), None));
}

#[test]
fn an_interval_is_bounded_on_both_sides() {
    for (stated, kept) in [(0, 60), (59, 60), (61, 61), (u64::MAX, 86_400)] {
        let mut bench = Bench::new(&[&["a"]]);
        let first = one(bench.start());
        bench.answer(&first, reply(stated));
        assert_eq!(bench.schedule.deadline(), Some(at(kept)), "{stated}");
    }
}

#[test]
fn a_min_interval_above_the_interval_counts() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    let min_interval = Some(HALF_HOUR);
    bench.answer(
        &first,
        reply(120).map(|reply| AnnounceReply {
            min_interval,
            ..reply
        }),
    );
    assert_eq!(bench.schedule.deadline(), Some(at(1800)));
}

#[test]
fn a_torrent_in_need_asks_early_but_not_before_the_min_interval() {
    for (min_interval, expected) in [(None, 300), (Some(600), 600), (Some(1), 60)] {
        let mut bench = Bench::new(&[&["a"]]);
        let first = one(bench.start());
        let min_interval = min_interval.map(Duration::from_secs);
        bench.answer(
            &first,
            reply(1800).map(|reply| AnnounceReply {
                min_interval,
                ..reply
            }),
        );
        bench.now = at(10);
        assert_eq!(bench.say(Input::WantsCandidates), []);
        let early = one(bench.wait());
        assert_eq!((bench.now, early.event), (at(expected), None));
    }
}

#[test]
fn a_torrent_in_need_does_not_shorten_the_pause_of_a_dead_tracker() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, Err(Error::TimedOut));
    let retry_at = bench.schedule.deadline();
    assert_eq!(bench.say(Input::WantsCandidates), []);
    assert_eq!(bench.schedule.deadline(), retry_at);
}

#[test]
fn a_dead_tracker_is_retried_with_growing_pauses() {
    let mut bench = Bench::new(&[&["a"]]);
    let mut announced = one(bench.start());
    let mut pauses = Vec::new();
    for _ in 0..14 {
        assert_eq!(announced.event, Some(Event::Started));
        let failed_at = bench.now;
        assert_eq!(bench.answer(&announced, Err(Error::TimedOut)), []);
        announced = one(bench.wait());
        pauses.push(bench.now - failed_at);
    }
    assert!(
        pauses[0] >= FIRST_RETRY * 3 / 4 && pauses[0] <= FIRST_RETRY,
        "{pauses:?}"
    );
    assert!(pauses[..8].is_sorted_by(|a, b| a < b), "{pauses:?}");
    assert!(
        pauses[9..]
            .iter()
            .all(|&pause| pause >= MAX_RETRY * 3 / 4 && pause <= MAX_RETRY)
    );
    bench.answer(&announced, reply(1800));
    let next = one(bench.wait());
    bench.answer(&next, Err(Error::TimedOut));
    assert!(bench.schedule.deadline().unwrap() - bench.now <= FIRST_RETRY);
}

#[test]
fn an_announce_without_an_answer_fails_at_its_time_limit() {
    let mut bench = Bench::new(&[&["a"]]);
    let silent = one(bench.start());
    assert_eq!(bench.wait(), []);
    assert_eq!(bench.now, Moment::ZERO + ANNOUNCE_TIME_LIMIT);
    assert_eq!(bench.state("a"), TrackerState::Failing);
    // An answer that comes later than that is not listened to.
    assert_eq!(bench.answer(&silent, reply(1800)), []);
    assert_eq!(bench.state("a"), TrackerState::Failing);
}

#[test]
fn a_tracker_says_when_to_come_back_or_never() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, refusal(RetryIn::Minutes(7)));
    assert_eq!(bench.schedule.deadline(), Some(at(7 * 60)));
    let second = one(bench.wait());
    bench.answer(&second, refusal(RetryIn::Never));
    assert_eq!(bench.state("a"), TrackerState::Refused);
    assert_eq!(bench.schedule.deadline(), None);
    assert_eq!(bench.say(Input::WantsCandidates), []);
    assert_eq!(bench.say(Input::Completed), []);
}

#[test]
fn the_next_of_a_tier_is_tried_when_one_fails_and_moves_to_the_front_when_it_answers() {
    let mut bench = Bench::new(&[&["a", "b", "c"]]);
    let first = one(bench.start());
    let second = one(bench.answer(&first, Err(Error::TimedOut)));
    assert_ne!(second.tracker, first.tracker);
    assert_eq!(second.event, Some(Event::Started));
    assert_eq!(bench.answer(&second, reply(1800)), []);
    let status = bench.schedule.status();
    assert_eq!(*status[0].url, url(&second.tracker));
    assert_eq!(status[1].next_announce, None);
    // The one that failed is left alone while this one works.
    assert_eq!(one(bench.pass(HALF_HOUR)).tracker, second.tracker);
}

#[test]
fn trackers_of_a_tier_are_shuffled_and_tiers_keep_their_order() {
    let first_of = |seed| {
        let tiers = vec![vec![url("a"), url("b"), url("c")], vec![url("d")]];
        let rng = fastrand::Rng::with_seed(seed);
        let schedule = Schedule::new(HASH, tiers, ScheduleSettings::default(), rng);
        let status = schedule.status();
        assert_eq!(*status[3].url, url("d"));
        assert_eq!(status[3].tier, 1);
        status[0].url.to_string()
    };
    let firsts: std::collections::BTreeSet<String> = (0..20).map(first_of).collect();
    assert_eq!(firsts.len(), 3);
    assert_eq!(first_of(5), first_of(5));
}

#[test]
fn a_dead_tracker_does_not_delay_another_tier() {
    let mut bench = Bench::new(&[&["a"], &["b"]]);
    assert_eq!(trackers(&bench.start()), ["a", "b"]);
}

#[test]
fn one_tier_at_a_time_is_served_where_a_person_wants_that() {
    let settings = ScheduleSettings {
        announce_to_all_tiers: false,
        ..Default::default()
    };
    let mut bench = Bench::with(&[&["a"], &["b"]], settings);
    let first = one(bench.start());
    assert_eq!(first.tracker, "a");
    let second = one(bench.answer(&first, Err(Error::TimedOut)));
    assert_eq!(second.tracker, "b");
    bench.answer(&second, reply(1800));
    // The first tier is back: the second is left alone.
    let retry = one(bench.wait());
    assert_eq!(retry.tracker, "a");
    bench.answer(&retry, reply(600));
    let later = bench.pass(Duration::from_secs(599));
    assert_eq!(later, []);
    assert_eq!(trackers(&bench.wait()), ["a"]);
}

#[test]
fn all_trackers_of_a_tier_are_served_where_a_person_wants_that() {
    let settings = ScheduleSettings {
        announce_to_all_trackers: true,
        ..Default::default()
    };
    let mut bench = Bench::with(&[&["a", "b"], &["c"]], settings);
    assert_eq!(bench.start().len(), 3);
}

#[test]
fn started_is_repeated_until_it_succeeds_and_never_after() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, Err(Error::HttpStatus(502)));
    let second = one(bench.wait());
    assert_eq!(second.event, Some(Event::Started));
    bench.answer(&second, reply(60));
    let third = one(bench.wait());
    assert_eq!(third.event, None);
    bench.answer(&third, Err(Error::TimedOut));
    assert_eq!(one(bench.wait()).event, None);
}

#[test]
fn completed_is_sent_at_once_and_once() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(1800));
    bench.now = at(5);
    let completed = one(bench.say(Input::Completed));
    assert_eq!(completed.event, Some(Event::Completed));
    assert_eq!(bench.say(Input::Completed), []);
    bench.answer(&completed, reply(1800));
    assert_eq!(bench.say(Input::Completed), []);
    assert_eq!(one(bench.wait()).event, None);
}

#[test]
fn completed_waits_for_started() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    assert_eq!(bench.say(Input::Completed), []);
    let completed = one(bench.answer(&first, reply(1800)));
    assert_eq!(completed.event, Some(Event::Completed));
    bench.answer(&completed, Err(Error::TimedOut));
    assert_eq!(one(bench.wait()).event, Some(Event::Completed));
}

#[test]
fn a_completed_event_is_never_sent_for_a_torrent_that_turns_out_to_have_been_complete() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(1800));
    assert_eq!(bench.say(Input::WasComplete), []);
    assert_eq!(bench.say(Input::Completed), []);
    assert_eq!(one(bench.wait()).event, None);
}

#[test]
fn a_completed_event_is_never_sent_for_a_torrent_that_was_complete() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.say(Input::Start { complete: true }));
    bench.answer(&first, reply(1800));
    assert_eq!(bench.say(Input::Completed), []);
    assert_eq!(one(bench.wait()).event, None);
    assert_eq!(one(bench.say(Input::Stop)).event, Some(Event::Stopped));
}

#[test]
fn a_partial_seed_says_so_where_no_event_does() {
    let mut bench = Bench::new(&[&["a"]]);
    bench.say(Input::PartialSeed(true));
    let first = one(bench.start());
    assert_eq!(first.event, Some(Event::Started));
    bench.answer(&first, reply(60));
    let second = one(bench.wait());
    assert_eq!(second.event, Some(Event::Paused));
    bench.answer(&second, reply(60));
    bench.say(Input::PartialSeed(false));
    assert_eq!(one(bench.wait()).event, None);
}

#[test]
fn stopped_is_sent_only_where_started_succeeded() {
    let mut bench = Bench::new(&[&["works"], &["dead"], &["silent"]]);
    let announced = bench.start();
    bench.answer(&announced[0], reply(1800));
    bench.answer(&announced[1], Err(Error::TimedOut));
    let stopped = one(bench.say(Input::Stop));
    assert_eq!(
        (stopped.tracker.as_str(), stopped.event),
        ("works", Some(Event::Stopped))
    );
    assert_eq!(stopped.num_want, 0);
    assert!(!bench.stopped);
    assert_eq!(bench.answer(&stopped, reply(1800)), []);
    assert!(bench.stopped);
}

#[test]
fn stop_ends_at_once_where_there_is_nobody_to_tell() {
    let mut bench = Bench::new(&[&["a"]]);
    bench.start();
    assert_eq!(bench.say(Input::Stop), []);
    assert!(bench.stopped);
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.say(Input::Stop), []);
    assert!(bench.stopped);
}

#[test]
fn stop_ends_at_its_time_limit_and_nothing_follows() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(60));
    bench.now = at(10);
    let stopped = one(bench.say(Input::Stop));
    assert_eq!(bench.schedule.deadline(), Some(Moment::from_millis(11_500)));
    assert_eq!(bench.wait(), []);
    assert!(bench.stopped);
    assert_eq!(bench.schedule.deadline(), None);
    assert_eq!(bench.answer(&stopped, reply(60)), []);
    for input in [
        Input::Start { complete: false },
        Input::Completed,
        Input::Add(url("b")),
        Input::WantsCandidates,
        Input::Tick,
        Input::Stop,
    ] {
        bench.schedule.handle(at(1000), input);
        assert_eq!(bench.schedule.poll(), None);
    }
}

#[test]
fn a_torrent_that_completes_and_stops_says_both_in_order() {
    // The announce of completion is on its way when it stops.
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(1800));
    let completed = one(bench.say(Input::Completed));
    assert_eq!(bench.say(Input::Stop), []);
    let stopped = one(bench.answer(&completed, reply(1800)));
    assert_eq!(stopped.event, Some(Event::Stopped));
    assert!(!bench.stopped);
    bench.answer(&stopped, Err(Error::TimedOut));
    assert!(bench.stopped);

    // Another announce is on its way when it completes and stops.
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(60));
    let regular = one(bench.wait());
    assert_eq!(bench.say(Input::Completed), []);
    let completed = one(bench.say(Input::Stop));
    assert_eq!(completed.event, Some(Event::Completed));
    assert_eq!(bench.answer(&regular, reply(60)), []);
    let stopped = one(bench.answer(&completed, Err(Error::TimedOut)));
    assert_eq!(stopped.event, Some(Event::Stopped));
}

#[test]
fn a_tracker_that_says_never_while_leave_is_taken_hears_no_more() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(1800));
    let completed = one(bench.say(Input::Completed));
    bench.say(Input::Stop);
    assert_eq!(bench.answer(&completed, refusal(RetryIn::Never)), []);
    assert!(bench.stopped);
}

#[test]
fn a_tracker_we_do_not_speak_to_is_skipped_and_says_so() {
    let tiers = [
        ["wss://a.example/", "udp://b.example/announce"],
        ["ftp://c.example/", "http://d.example/"],
    ];
    let tiers = tiers
        .map(|tier| tier.map(|text| Url::parse(text).unwrap()).to_vec())
        .to_vec();
    let rng = fastrand::Rng::with_seed(1);
    let schedule = Schedule::new(HASH, tiers, ScheduleSettings::default(), rng);
    let mut bench = Bench {
        schedule,
        now: Moment::ZERO,
        stopped: false,
        scrapes: Vec::new(),
    };
    assert_eq!(trackers(&bench.start()), ["d"]);
    for status in bench.schedule.status() {
        let spoken_to = status.url.scheme() == "http";
        assert_eq!(status.state == TrackerState::Unsupported, !spoken_to);
        assert_eq!(status.message.is_some(), !spoken_to);
    }
}

#[test]
fn a_url_that_turns_out_unusable_is_not_tried_again() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    assert_eq!(
        bench.answer(&first, Err(Error::UnusableUrl("its query is ours"))),
        []
    );
    assert_eq!(bench.state("a"), TrackerState::Unsupported);
    assert_eq!(bench.schedule.deadline(), None);
}

#[test]
fn an_added_tracker_hears_of_us_at_once_and_a_known_one_does_not() {
    let mut bench = Bench::new(&[&["a"]]);
    bench.start();
    assert_eq!(bench.say(Input::Add(url("a"))), []);
    assert_eq!(trackers(&bench.say(Input::Add(url("b")))), ["b"]);
    assert_eq!(bench.schedule.status()[1].tier, 1);
}

#[test]
fn other_trackers_take_the_place_of_some_and_those_that_stay_go_on() {
    let mut bench = Bench::new(&[&["a"], &["b"], &["c"]]);
    for announced in bench.start() {
        bench.answer(&announced, reply(1800));
    }
    bench.now = at(100);
    let tiers = vec![vec![url("b")], vec![url("d"), url("d")]];
    let said = bench.say(Input::Replace(tiers));
    let of = |name: &str| said.iter().find(|one| one.tracker == name).cloned();
    let (a, c, d) = (of("a").unwrap(), of("c").unwrap(), of("d").unwrap());
    assert_eq!(said.len(), 3);
    assert_eq!((a.event, a.num_want), (Some(Event::Stopped), 0));
    assert_eq!(c.event, Some(Event::Stopped));
    assert_eq!(d.event, Some(Event::Started));
    bench.answer(&d, reply(1800));
    assert_eq!(bench.answer(&a, reply(1800)), []);
    let status = bench.schedule.status();
    let lines: Vec<_> = status
        .iter()
        .map(|one| (one.url.clone(), one.tier, one.next_announce))
        .collect();
    let expected = [(url("b"), 0, Some(at(1800))), (url("d"), 1, Some(at(1900)))];
    assert_eq!(lines, expected);
    // The last farewell is not awaited for longer than its time, and nobody hears another one.
    assert_eq!(bench.wait(), []);
    let left = bench.say(Input::Stop);
    assert_eq!(trackers(&left), ["b", "d"]);
}

#[test]
fn a_tracker_that_comes_back_hears_of_us_after_the_farewell_and_of_no_old_completion() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(1800));
    let completed = one(bench.say(Input::Completed));
    bench.answer(&completed, reply(1800));
    assert_eq!(
        one(bench.say(Input::Replace(Vec::new()))).event,
        Some(Event::Stopped)
    );
    assert_eq!(bench.say(Input::Replace(vec![vec![url("a")]])), []);
    assert_eq!(bench.schedule.deadline(), Some(at(0) + ANNOUNCE_TIME_LIMIT));
    let again = one(bench.wait());
    assert_eq!(again.event, Some(Event::Started));
    assert_eq!(bench.answer(&again, reply(1800)), []);
}

#[test]
fn a_tracker_that_comes_back_before_it_heard_a_farewell_hears_none() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(1800));
    let completed = one(bench.say(Input::Completed));
    assert_eq!(bench.say(Input::Replace(Vec::new())), []);
    assert_eq!(bench.say(Input::Replace(vec![vec![url("a")]])), []);
    assert_eq!(bench.answer(&completed, reply(1800)), []);
    assert_eq!(bench.state("a"), TrackerState::Working);
}

#[test]
fn a_person_is_answered_as_soon_as_the_tracker_allows() {
    let mut bench = Bench::new(&[&["a"], &["b"]]);
    for announced in bench.start() {
        let min_interval = (announced.tracker == "a").then_some(Duration::from_secs(600));
        let reply = reply(1800).map(|reply| AnnounceReply {
            min_interval,
            ..reply
        });
        bench.answer(&announced, reply);
    }
    bench.now = at(90);
    // The second one asks for nothing, and is spared for a minute.
    assert_eq!(trackers(&bench.say(Input::Reannounce(None))), ["b"]);
    assert_eq!(bench.say(Input::Reannounce(Some(url("a")))), []);
    assert_eq!(bench.schedule.status()[0].next_announce, Some(at(600)));
    // After a failure there is a pause, unless a person does not want one.
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, Err(Error::TimedOut));
    let again = one(bench.say(Input::Reannounce(Some(url("a")))));
    assert_eq!(again.event, Some(Event::Started));
    bench.answer(&again, refusal(RetryIn::Minutes(5)));
    assert_eq!(bench.say(Input::Reannounce(None)), []);
}

#[test]
fn trackers_beyond_the_bound_are_left_out() {
    let tiers = (0..MAX_TRACKERS + 5)
        .map(|i| vec![url(&format!("t{i}")), url("t0")])
        .collect();
    let rng = fastrand::Rng::with_seed(1);
    let mut schedule = Schedule::new(HASH, tiers, ScheduleSettings::default(), rng);
    assert_eq!(schedule.status().len(), MAX_TRACKERS);
    schedule.handle(at(0), Input::Add(url("more")));
    assert_eq!(schedule.status().len(), MAX_TRACKERS);
}

#[test]
fn status_tells_what_a_person_wants_to_know() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    assert_eq!(bench.state("a"), TrackerState::Announcing);
    let warning = Some("slow down".to_owned());
    bench.answer(
        &first,
        reply(1800).map(|reply| AnnounceReply { warning, ..reply }),
    );
    let status = &bench.schedule.status()[0];
    assert_eq!(
        (status.seeds, status.leeches, status.downloads),
        (Some(1), Some(2), None)
    );
    assert_eq!(status.message, Some("slow down"));
    assert_eq!(status.next_announce, Some(at(1800)));
    let second = one(bench.wait());
    bench.answer(&second, Err(Error::HttpStatus(500)));
    let status = &bench.schedule.status()[0];
    assert_eq!((status.state, status.failures), (TrackerState::Failing, 1));
    assert_eq!(
        status.message,
        Some("the tracker answered with HTTP status 500")
    );
}

#[test]
fn the_tracker_id_is_repeated_and_secrets_are_not_printed() {
    let tracker = Url::parse("http://t.example/s3cret/announce?passkey=s3cret").unwrap();
    let rng = fastrand::Rng::with_seed(1);
    let mut schedule = Schedule::new(HASH, vec![vec![tracker]], ScheduleSettings::default(), rng);
    schedule.handle(at(0), Input::Start { complete: false });
    let output = schedule.poll().unwrap();
    let shown = format!("{output:?}");
    assert!(
        shown.contains("t.example") && !shown.contains("s3cret"),
        "{shown}"
    );
    let Output::Announce { id, .. } = output else {
        panic!("{shown}")
    };
    let tracker_id = Some(b"x".to_vec());
    let result = reply(60).map(|reply| AnnounceReply {
        tracker_id,
        ..reply
    });
    schedule.handle(at(0), Input::Reply { id, result });
    schedule.handle(at(60), Input::Tick);
    let next = schedule.poll();
    assert!(matches!(next, Some(Output::Announce { tracker_id: Some(id), .. }) if id == b"x"));
}

/// What may happen, for the property test.
#[derive(Clone, Debug)]
enum Operation {
    Wait,
    Pass(u64),
    Succeed {
        which: usize,
        interval_s: u64,
        min_interval_s: Option<u64>,
        counts: bool,
    },
    Fail {
        which: usize,
        retry_in: Option<RetryIn>,
    },
    WantsCandidates,
    Completed,
    PartialSeed(bool),
    Add(u8),
    Replace(Vec<Vec<u8>>),
    Reannounce(Option<u8>),
}

fn operation() -> impl Strategy<Value = Operation> {
    let retry_in = prop_oneof![
        8 => Just(None),
        1 => Just(Some(RetryIn::Never)),
        2 => (0u32..10_000).prop_map(|minutes| Some(RetryIn::Minutes(minutes))),
    ];
    prop_oneof![
        6 => Just(Operation::Wait),
        3 => (0u64..4000).prop_map(Operation::Pass),
        6 => (any::<usize>(), 0u64..4000, prop::option::of(0u64..4000), any::<bool>()).prop_map(
            |(which, interval_s, min_interval_s, counts)| {
                Operation::Succeed { which, interval_s, min_interval_s, counts }
            }
        ),
        4 => (any::<usize>(), retry_in).prop_map(|(which, retry_in)| Operation::Fail { which, retry_in }),
        2 => Just(Operation::WantsCandidates),
        1 => Just(Operation::Completed),
        1 => any::<bool>().prop_map(Operation::PartialSeed),
        1 => (0u8..12).prop_map(Operation::Add),
        1 => prop::collection::vec(prop::collection::vec(0u8..12, 0..4), 0..4).prop_map(Operation::Replace),
        1 => prop::option::of(0u8..12).prop_map(Operation::Reannounce),
    ]
}

/// What an independent observer knows of one tracker.
#[derive(Default)]
struct Observed {
    awaited: Option<(AnnounceId, Option<Event>, Moment)>,
    started: bool,
    completed: bool,
    stopped: bool,
    /// The earliest moment for an announce without an event, by the last success.
    not_before: Moment,
    /// The earliest moment for any announce, by the last failure.
    pause_until: Moment,
    /// The earliest moment for a scrape, by the last one.
    no_scrape_before: Moment,
    /// Its last answer had no figures.
    lacks_counts: bool,
    /// The earliest moment for an announce that a person asks for, by the last success.
    not_before_asked: Moment,
    /// The tracker itself asked for the pause after its last failure.
    pause_is_theirs: bool,
    /// It was removed.
    leaving: bool,
}

struct Observer {
    schedule: Schedule,
    now: Moment,
    trackers: std::collections::BTreeMap<String, Observed>,
    complete_at_start: bool,
    completed: bool,
    stopping: bool,
    over: bool,
}

impl Observer {
    fn say(&mut self, input: Input) {
        // An announce that its limit has overtaken is a failure from the tick on.
        if matches!(input, Input::Tick) && !self.stopping {
            for tracker in self.trackers.values_mut() {
                if tracker
                    .awaited
                    .is_some_and(|(_, _, limit)| limit <= self.now)
                {
                    tracker.awaited = None;
                    tracker.pause_until = self.now + FIRST_RETRY * 3 / 4;
                    tracker.pause_is_theirs = false;
                }
            }
        }
        self.schedule.handle(self.now, input);
        while let Some(output) = self.schedule.poll() {
            self.check(output);
        }
    }

    fn check_scrape(&mut self, tracker: &Url) {
        let known = self.trackers.entry(tracker.to_string()).or_default();
        assert!(known.started && known.lacks_counts && !self.stopping);
        assert!(known.pause_until == Moment::ZERO, "it does not answer");
        assert!(self.now >= known.no_scrape_before, "too often");
        known.no_scrape_before = self.now + SCRAPE_INTERVAL;
    }

    fn check(&mut self, output: Output) {
        assert!(!self.over, "something follows StoppedAll");
        if let Output::Scrape { tracker, .. } = &output {
            self.check_scrape(tracker);
            return;
        }
        let Output::Announce {
            id,
            tracker,
            event,
            give_up_at,
            ..
        } = output
        else {
            assert!(self.stopping);
            self.over = true;
            return;
        };
        let known = self.trackers.entry(tracker.to_string()).or_default();
        assert!(
            known.awaited.is_none() || self.stopping,
            "two announces on their way"
        );
        match event {
            Some(Event::Started) => assert!(!known.started && !self.stopping),
            Some(Event::Completed) => {
                assert!(known.started && !known.completed && self.completed);
                assert!(!self.complete_at_start);
            }
            Some(Event::Stopped) => {
                assert!(known.started && !known.stopped);
                assert!(self.stopping || known.leaving);
                known.stopped = true;
            }
            Some(Event::Paused) | None => {
                assert!(known.started && !self.stopping);
                assert!(self.now >= known.not_before, "faster than the min interval");
            }
        }
        assert!(
            known.pause_until != Moment::NEVER,
            "asked again who said never"
        );
        assert!(
            self.stopping || known.leaving || self.now >= known.pause_until,
            "no pause after a failure"
        );
        known.awaited = Some((id, event, give_up_at));
    }

    fn replace(&mut self, tiers: &[Vec<u8>]) {
        let tiers: Vec<Vec<Url>> = tiers
            .iter()
            .map(|tier| tier.iter().map(|i| url(&format!("t{i}"))).collect())
            .collect();
        if self.stopping {
            return self.say(Input::Replace(tiers));
        }
        for (name, tracker) in &mut self.trackers {
            let stays = tiers.iter().flatten().any(|url| url.as_str() == name);
            if !stays && !tracker.leaving {
                tracker.leaving = true;
                tracker.awaited = tracker
                    .awaited
                    .filter(|awaited| awaited.1 == Some(Event::Completed));
            }
        }
        tiers.iter().flatten().for_each(|url| self.returns(url));
        self.say(Input::Replace(tiers));
    }

    /// A tracker that was removed begins anew.
    fn returns(&mut self, tracker: &Url) {
        let known = self.trackers.get_mut(tracker.as_str());
        if let Some(known) = known.filter(|known| known.leaving && !self.stopping) {
            // It may not have heard that we leave.
            match known.awaited {
                Some((_, Some(Event::Completed), _)) => known.leaving = false,
                _ => *known = Observed::default(),
            }
        }
    }

    /// Answers one of the awaited announces.
    fn answer(&mut self, which: usize, result: Result<AnnounceReply, Error>) {
        let mut awaited: Vec<_> = self
            .trackers
            .values_mut()
            .filter(|tracker| tracker.awaited.is_some())
            .collect();
        if awaited.is_empty() || self.over {
            return;
        }
        let index = which % awaited.len();
        let known = &mut awaited[index];
        let (id, event, _) = known.awaited.take().unwrap();
        match &result {
            Ok(reply) => {
                known.started |= event == Some(Event::Started);
                known.completed |= event == Some(Event::Completed);
                let floor = reply
                    .min_interval
                    .unwrap_or(reply.interval.min(DEFAULT_MIN_INTERVAL));
                known.not_before = self.now + floor.max(MINUTE);
                let asked = reply.min_interval.unwrap_or_default().max(MINUTE);
                known.not_before_asked = self.now + asked;
                known.pause_is_theirs = false;
                known.lacks_counts = reply.leeches.is_none();
                known.pause_until = Moment::ZERO;
            }
            Err(Error::Failure {
                retry_in: Some(RetryIn::Never),
                ..
            }) => {
                known.pause_until = Moment::NEVER;
                known.pause_is_theirs = true;
            }
            Err(Error::Failure {
                retry_in: Some(RetryIn::Minutes(minutes)),
                ..
            }) => {
                let pause = (MINUTE * *minutes).clamp(MINUTE, MAX_INTERVAL);
                known.pause_until = self.now + pause;
                known.pause_is_theirs = true;
            }
            Err(_) => {
                known.pause_until = self.now + FIRST_RETRY * 3 / 4;
                known.pause_is_theirs = false;
            }
        }
        self.say(Input::Reply { id, result });
    }

    fn operate(&mut self, operation: Operation) {
        match operation {
            Operation::Wait => {
                if let Some(deadline) = self.schedule.deadline() {
                    assert!(
                        deadline > self.now || self.now == Moment::ZERO,
                        "it wants ticks for ever"
                    );
                    self.now = deadline.max(self.now);
                    self.say(Input::Tick);
                }
            }
            Operation::Pass(s) => {
                self.now = self.now + Duration::from_secs(s);
                self.say(Input::Tick);
            }
            Operation::Succeed {
                which,
                interval_s,
                min_interval_s,
                counts,
            } => {
                let min_interval = min_interval_s.map(Duration::from_secs);
                let reply = reply(interval_s).map(|reply| AnnounceReply {
                    min_interval,
                    leeches: counts.then_some(1),
                    ..reply
                });
                self.answer(which, reply);
            }
            Operation::Fail { which, retry_in } => {
                let result = retry_in.map_or(Err(Error::TimedOut), refusal);
                self.answer(which, result);
            }
            Operation::WantsCandidates => self.say(Input::WantsCandidates),
            Operation::Completed => {
                self.completed = true;
                self.say(Input::Completed);
            }
            Operation::PartialSeed(partial) => self.say(Input::PartialSeed(partial)),
            Operation::Add(i) => {
                let url = url(&format!("t{i}"));
                self.returns(&url);
                self.say(Input::Add(url));
            }
            Operation::Replace(tiers) => self.replace(&tiers),
            Operation::Reannounce(i) => {
                let asked = i.map(|i| url(&format!("t{i}")));
                for (name, tracker) in &mut self.trackers {
                    if asked.as_ref().is_none_or(|url| url.as_str() == name) {
                        tracker.not_before = tracker.not_before_asked;
                        if !tracker.pause_is_theirs {
                            tracker.pause_until = Moment::ZERO;
                        }
                    }
                }
                self.say(Input::Reannounce(asked));
            }
        }
        let _ = self.schedule.status();
    }
}

proptest! {
    #[test]
    fn whatever_happens_trackers_are_treated_well_and_stop_ends(
        tiers in prop::collection::vec(prop::collection::vec(0u8..12, 0..4), 0..4),
        all_tiers in any::<bool>(),
        all_trackers in any::<bool>(),
        complete in any::<bool>(),
        seed in any::<u64>(),
        before in prop::collection::vec(operation(), 0..80),
        after in prop::collection::vec(operation(), 0..10),
    ) {
        let tiers = tiers
            .into_iter()
            .map(|tier| tier.into_iter().map(|i| url(&format!("t{i}"))).collect())
            .collect();
        let settings = ScheduleSettings {
            announce_to_all_tiers: all_tiers,
            announce_to_all_trackers: all_trackers,
            ..ScheduleSettings::default()
        };
        let rng = fastrand::Rng::with_seed(seed);
        let mut observer = Observer {
            schedule: Schedule::new(HASH, tiers, settings, rng),
            now: Moment::ZERO,
            trackers: std::collections::BTreeMap::new(),
            complete_at_start: complete,
            completed: false,
            stopping: false,
            over: false,
        };
        observer.say(Input::Start { complete });
        for operation in before {
            observer.operate(operation);
        }
        observer.stopping = true;
        for tracker in observer.trackers.values_mut() {
            // Of the announces on their way, only those of completion are still awaited.
            let kept = |event| event == Some(Event::Completed) || tracker.leaving;
            tracker.awaited = tracker.awaited.filter(|awaited| kept(awaited.1));
        }
        let stopped_at = observer.now;
        observer.say(Input::Stop);
        for operation in after {
            observer.operate(operation);
        }
        while let Some(deadline) = observer.schedule.deadline() {
            prop_assert!(deadline <= stopped_at + settings.stop_time_limit);
            observer.now = deadline.max(observer.now);
            observer.say(Input::Tick);
        }
        prop_assert!(observer.over);
        for (name, tracker) in &observer.trackers {
            let refused = tracker.pause_until == Moment::NEVER;
            let owes_completed =
                matches!(tracker.awaited, Some((_, Some(Event::Completed), _)));
            let expected = tracker.started && !owes_completed;
            prop_assert!(refused || tracker.stopped == expected, "{name}");
        }
    }
}

/// An answer to an announce that has no figures.
fn silent_reply() -> Result<AnnounceReply, Error> {
    reply(1800).map(|reply| AnnounceReply {
        seeds: None,
        ..reply
    })
}

fn counts(seeds: u32) -> Result<ScrapeReply, Error> {
    let counts = ScrapeCounts {
        seeds: Some(seeds),
        leeches: Some(3),
        downloads: Some(4),
        downloaders: None,
    };
    let other = (InfoHash([8; 20]), ScrapeCounts::default());
    Ok(ScrapeReply {
        swarms: vec![other, (HASH, counts)],
        min_interval: None,
    })
}

/// A schedule of one tracker that does not give figures, and the first scrape.
fn scraped_bench() -> (Bench, ScrapeId) {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    assert_eq!(bench.scrapes, []);
    bench.answer(&first, silent_reply());
    let [(when, id, tracker)] = &bench.scrapes[..] else {
        panic!("one scrape");
    };
    assert_eq!((*when, tracker), (at(0), &url("a")));
    let id = *id;
    (bench, id)
}

impl Bench {
    fn scraped(&mut self, id: ScrapeId, result: Result<ScrapeReply, Error>) {
        assert_eq!(self.say(Input::Scraped { id, result }), []);
    }

    /// Answers all announces without figures and all scrapes in this way, for that long; gives the moments of scrapes since.
    fn scrapes_in(
        &mut self,
        time: Duration,
        answer: impl Fn() -> Result<ScrapeReply, Error>,
    ) -> Vec<u64> {
        let (end, before) = (self.now + time, self.scrapes.len());
        let mut answered = before;
        while self.schedule.deadline().is_some_and(|due_at| due_at <= end) {
            for announced in self.wait() {
                assert_eq!(self.answer(&announced, silent_reply()), []);
            }
            while let Some((_, id, _)) = self.scrapes.get(answered) {
                answered += 1;
                self.scraped(*id, answer());
            }
        }
        self.now = end;
        let since = self.scrapes[before..].iter();
        since
            .map(|(when, ..)| when.since(Moment::ZERO).as_secs())
            .collect()
    }
}

#[test]
fn a_tracker_that_gives_figures_is_not_scraped() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    bench.answer(&first, reply(1800));
    for _ in 0..10 {
        let again = one(bench.wait());
        bench.answer(&again, reply(1800));
    }
    assert_eq!(bench.scrapes, []);
}

#[test]
fn a_tracker_that_gives_no_figures_is_scraped_at_an_interval() {
    let (mut bench, id) = scraped_bench();
    bench.scraped(id, counts(2));
    let schedule = bench.schedule.status();
    let figures = (
        schedule[0].seeds,
        schedule[0].leeches,
        schedule[0].downloads,
    );
    assert_eq!(figures, (Some(2), Some(3), Some(4)));
    assert!(schedule[0].answers);
    let hours = Duration::from_secs(2 * 3600);
    assert_eq!(
        bench.scrapes_in(hours, || counts(5)),
        [1800, 3600, 5400, 7200]
    );
    assert_eq!(bench.schedule.status()[0].seeds, Some(5));
}

#[test]
fn a_min_interval_holds_for_scrapes() {
    let mut bench = Bench::new(&[&["a"]]);
    let first = one(bench.start());
    let min_interval = Some(HALF_HOUR * 4);
    let stated = silent_reply().map(|reply| AnnounceReply {
        min_interval,
        ..reply
    });
    bench.answer(&first, stated);
    bench.scraped(bench.scrapes[0].1, counts(1));
    let passed = HALF_HOUR * 4 - Duration::from_secs(1);
    assert_eq!(bench.scrapes_in(passed, || counts(1)), []);
    assert_eq!(bench.scrapes_in(HALF_HOUR, || counts(1)), [7200]);
}

#[test]
fn a_min_interval_for_scrapes_holds() {
    let (mut bench, id) = scraped_bench();
    let min_interval = Some(HALF_HOUR * 3);
    let stated = |seeds| {
        let reply = counts(seeds)?;
        Ok(ScrapeReply {
            min_interval,
            ..reply
        })
    };
    bench.scraped(id, stated(1));
    let hours = Duration::from_secs(4 * 3600);
    assert_eq!(bench.scrapes_in(hours, || stated(2)), [5400, 10_800]);
}

#[test]
fn scrapes_that_fail_back_off_and_change_no_announce() {
    let (mut bench, id) = scraped_bench();
    bench.scraped(id, Err(Error::HttpStatus(404)));
    assert_eq!(bench.state("a"), TrackerState::Working);
    assert_eq!(bench.schedule.status()[0].message, None);
    let failing = || Err(Error::HttpStatus(404));
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(
        bench.scrapes_in(day, failing),
        [3600, 10_800, 25_200, 54_000]
    );
    assert_eq!(bench.schedule.deadline(), Some(at(24 * 3600 + 1800)));
}

#[test]
fn a_scrape_that_is_not_answered_is_given_up() {
    let (mut bench, id) = scraped_bench();
    assert_eq!(bench.wait(), []);
    assert_eq!(bench.now, Moment::ZERO + ANNOUNCE_TIME_LIMIT);
    bench.scraped(id, counts(1));
    assert_eq!(bench.schedule.status()[0].seeds, None, "it came too late");
    let hour = Duration::from_secs(3600);
    assert_eq!(bench.scrapes_in(hour, || counts(1)), [3645]);
}

#[test]
fn a_tracker_without_scrape_is_asked_once() {
    for error in [
        Error::NoScrape,
        Error::Failure {
            reason: "no".to_owned(),
            retry_in: Some(RetryIn::Never),
        },
    ] {
        let (mut bench, id) = scraped_bench();
        bench.scraped(id, Err(error));
        let week = Duration::from_secs(7 * 24 * 3600);
        assert_eq!(bench.scrapes_in(week, || counts(1)), []);
        assert_eq!(bench.state("a"), TrackerState::Working);
    }
}

#[test]
fn a_tracker_that_fails_is_not_scraped_until_it_answers_again() {
    let (mut bench, id) = scraped_bench();
    bench.scraped(id, counts(1));
    let again = one(bench.wait());
    assert_eq!(bench.scrapes.len(), 2);
    bench.scraped(bench.scrapes[1].1, counts(1));
    bench.answer(&again, Err(Error::TimedOut));
    let mut last = one(bench.wait());
    while bench.now < at(4 * 3600) {
        bench.answer(&last, Err(Error::TimedOut));
        last = one(bench.wait());
    }
    assert_eq!(bench.scrapes.len(), 2);
    bench.answer(&last, silent_reply());
    assert_eq!(bench.scrapes.len(), 3);
}

#[test]
fn who_leaves_scrapes_no_more() {
    let (mut bench, id) = scraped_bench();
    let farewell = one(bench.say(Input::Stop));
    bench.scraped(id, counts(1));
    bench.answer(&farewell, silent_reply());
    assert!(bench.stopped);
    assert_eq!(bench.schedule.deadline(), None);
    assert_eq!(bench.scrapes.len(), 1);
}
