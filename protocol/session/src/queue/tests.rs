//! Scenarios of whole queues, with an owner that honours their deadlines.

mod day;
mod model;

use super::*;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
/// Well above the threshold of slowness.
const FAST: u64 = 1 << 20;

/// The owner of a queue: honours its deadlines, and knows what runs by its outputs alone.
struct Owner {
    queue: Queue,
    now: Moment,
    running: BTreeMap<TorrentKey, Activity>,
    said: Vec<Output>,
}

impl Owner {
    fn new(settings: Settings) -> Self {
        Owner {
            queue: Queue::new(settings),
            now: Moment::ZERO,
            running: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// An owner of torrents with the keys 1, 2, ... that have this to do.
    fn of(settings: Settings, works: &[Work]) -> Self {
        let mut owner = Owner::new(settings);
        for (key, &work) in (1..).zip(works) {
            owner.tell(Input::Added(TorrentKey(key), torrent(work)));
        }
        owner.pass(5);
        owner
    }

    fn tell(&mut self, input: Input) {
        if let Input::Removed(key) = input {
            self.running.remove(&key);
        }
        self.queue.handle(self.now, input);
        while let Some(output) = self.queue.poll() {
            match output {
                Output::Start(key, activity) => {
                    let before = self.running.insert(key, activity);
                    assert_eq!(before, None, "{key:?} is started twice");
                }
                Output::Stop(key, why) => {
                    let before = self.running.remove(&key);
                    assert!(before.is_some(), "{key:?} is stopped, {why:?}, and was not");
                }
                Output::LimitReached(..) => {}
            }
            self.said.push(output);
        }
    }

    /// Lets so many seconds go by.
    fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some(at) = self.queue.deadline().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.tell(Input::Tick);
        }
        self.now = until;
    }

    fn wish(&mut self, key: u64, wish: Wish) {
        self.tell(Input::Wish(TorrentKey(key), wish));
    }

    fn work(&mut self, key: u64, work: Work) {
        self.tell(Input::Work(TorrentKey(key), work));
    }

    /// Reports that a torrent moves so much both ways.
    fn moves(&mut self, key: u64, rate: u64) {
        self.tell(Input::Progress(TorrentKey(key), moving(rate)));
    }

    fn runs(&self) -> Vec<u64> {
        self.running.keys().map(|key| key.0).collect()
    }

    /// What was said since it was last asked.
    fn said(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.said)
    }

    fn standing(&self, key: u64) -> Option<Standing> {
        self.queue.standing(TorrentKey(key))
    }

    fn is_slow(&self, key: u64) -> bool {
        matches!(self.standing(key), Some(Standing::Running { slow, .. }) if slow)
    }
}

fn torrent(work: Work) -> Torrent {
    Torrent {
        wish: Wish::Queued,
        work,
        limits: OwnLimits::default(),
        gave_enough: None,
        beyond_limits: false,
        progress: Progress::default(),
    }
}

fn moving(rate: u64) -> Progress {
    Progress {
        download_bytes_per_s: rate,
        upload_bytes_per_s: rate,
        ..Progress::default()
    }
}

/// Limits on downloads, on seeds, and on all.
fn limits(downloads: Option<u32>, seeds: Option<u32>, all: Option<u32>) -> Settings {
    Settings {
        max_downloads: downloads,
        max_seeds: seeds,
        max_active: all,
        ..Settings::default()
    }
}

fn share(share: ShareLimits) -> Settings {
    Settings {
        share,
        ..Settings::default()
    }
}

const T1: TorrentKey = TorrentKey(1);
const T2: TorrentKey = TorrentKey(2);
const CHECK: Work = Work::Check { asked: false };
const ASKED: Work = Work::Check { asked: true };

#[test]
fn downloads_run_in_the_order_of_the_queue() {
    let mut owner = Owner::of(limits(Some(2), None, None), &[Work::Download; 4]);
    assert_eq!(owner.runs(), [1, 2]);
    assert_eq!(
        owner.standing(3),
        Some(Standing::Waiting(Activity::Download))
    );
    owner.tell(Input::Removed(T1));
    owner.pass(2);
    assert_eq!(owner.runs(), [2, 3]);
}

#[test]
fn who_moves_to_the_top_takes_the_place_of_the_last() {
    let mut owner = Owner::of(limits(Some(2), None, None), &[Work::Download; 4]);
    owner.said();
    owner.tell(Input::Move(vec![TorrentKey(4)], Shift::Top));
    owner.pass(2);
    assert_eq!(owner.queue.order(), [4, 1, 2, 3].map(TorrentKey));
    let swap = [
        Output::Stop(T2, Why::Queued),
        Output::Start(TorrentKey(4), Activity::Download),
    ];
    assert_eq!(owner.said(), swap);
    owner.tell(Input::Move(vec![T1], Shift::Down));
    owner.pass(2);
    assert_eq!(owner.runs(), [2, 4]);
}

#[test]
fn a_pause_stops_at_once_and_the_next_takes_the_place() {
    let mut owner = Owner::of(limits(Some(1), None, None), &[Work::Download; 2]);
    owner.said();
    owner.wish(1, Wish::Paused);
    assert_eq!(owner.said(), [Output::Stop(T1, Why::Paused)]);
    assert_eq!(owner.standing(1), Some(Standing::Paused));
    owner.pass(2);
    assert_eq!(owner.runs(), [2]);
    owner.wish(1, Wish::Queued);
    owner.pass(2);
    assert_eq!(owner.runs(), [1], "its position is as before");
}

#[test]
fn pausing_all_starts_nobody_in_between() {
    let mut owner = Owner::of(limits(Some(3), None, None), &[Work::Download; 1_000]);
    owner.said();
    for key in 1..=1_000 {
        owner.wish(key, Wish::Paused);
    }
    owner.pass(10);
    assert_eq!(owner.said().len(), 3);
    assert_eq!(owner.queue.deadline(), None);
}

#[test]
fn who_is_forced_runs_at_once_and_takes_no_place() {
    let mut owner = Owner::of(limits(Some(1), None, Some(1)), &[Work::Download; 3]);
    owner.said();
    owner.wish(3, Wish::Forced);
    let start = Output::Start(TorrentKey(3), Activity::Download);
    assert_eq!(owner.said(), [start]);
    owner.pass(10);
    assert_eq!(owner.runs(), [1, 3]);
    owner.wish(1, Wish::Forced);
    owner.pass(10);
    assert_eq!(owner.runs(), [1, 2, 3], "its place is free for another");
    owner.wish(3, Wish::Queued);
    owner.pass(10);
    assert_eq!(owner.runs(), [1, 2]);
}

#[test]
fn who_fails_holds_no_place_and_comes_back_at_its_position() {
    let mut owner = Owner::of(limits(Some(1), None, None), &[Work::Download; 2]);
    owner.said();
    owner.tell(Input::Failed(T1));
    assert_eq!(owner.said(), [Output::Stop(T1, Why::Failed)]);
    owner.pass(2);
    assert_eq!(owner.runs(), [2]);
    owner.wish(1, Wish::Forced);
    assert_eq!(owner.standing(1), Some(Standing::Failed));
    owner.wish(1, Wish::Queued);
    owner.tell(Input::Well(T1));
    owner.pass(2);
    assert_eq!(owner.runs(), [1]);
}

#[test]
fn a_download_that_stalls_for_a_minute_lets_another_start() {
    let mut owner = Owner::of(limits(Some(1), None, None), &[Work::Download; 3]);
    owner.moves(1, FAST);
    owner.pass(10 * MINUTE);
    owner.moves(1, 2_047);
    owner.pass(59);
    assert_eq!(owner.runs(), [1]);
    owner.pass(3);
    assert_eq!(owner.runs(), [1, 2]);
    owner.moves(2, FAST);
    assert!(owner.is_slow(1) && !owner.is_slow(2));
    owner.moves(1, 4_095);
    owner.pass(HOUR);
    assert_eq!(owner.runs(), [1, 2], "it has not recovered");
    owner.moves(1, 4_096);
    owner.pass(2);
    assert_eq!(owner.runs(), [1], "it counts again, and comes first");
}

#[test]
fn who_starts_moves_nothing_until_it_reports() {
    let mut owner = Owner::of(limits(Some(1), None, None), &[Work::Download; 2]);
    owner.moves(1, FAST);
    owner.wish(1, Wish::Paused);
    owner.pass(2);
    owner.wish(1, Wish::Queued);
    owner.moves(2, FAST);
    owner.pass(2);
    assert_eq!(owner.runs(), [1]);
    owner.moves(2, FAST);
    owner.pass(HOUR);
    assert!(owner.is_slow(1) && owner.is_slow(2), "old rates are none");
}

#[test]
fn without_the_rule_a_stalled_download_keeps_its_place() {
    let settings = Settings {
        slow: None,
        ..limits(Some(1), None, None)
    };
    let mut owner = Owner::of(settings, &[Work::Download; 3]);
    owner.pass(HOUR);
    assert_eq!(owner.runs(), [1]);
    assert_eq!(owner.queue.deadline(), None);
    let settings = limits(Some(1), None, None);
    owner.tell(Input::Settings(settings));
    owner.pass(62);
    assert_eq!(owner.runs(), [1, 2], "it is looked at from then on");
    owner.tell(Input::Settings(Settings {
        slow: None,
        ..settings
    }));
    owner.pass(2);
    assert_eq!(owner.runs(), [1]);
}

#[test]
fn the_slow_count_in_the_limit_of_all() {
    let mut owner = Owner::of(limits(Some(1), None, Some(3)), &[Work::Download; 5]);
    owner.pass(HOUR);
    assert_eq!(owner.runs(), [1, 2, 3]);
    owner.tell(Input::Move(vec![TorrentKey(5)], Shift::Top));
    owner.pass(2);
    assert_eq!(owner.runs(), [1, 2, 5]);
}

#[test]
fn torrents_are_checked_one_after_the_other_and_then_compete() {
    let mut owner = Owner::of(limits(Some(1), None, None), &[CHECK; 3]);
    assert_eq!(owner.said(), [Output::Start(T1, Activity::Check)]);
    owner.tell(Input::Move(vec![TorrentKey(3)], Shift::Top));
    owner.pass(HOUR);
    assert_eq!(owner.said(), [], "a check goes on");
    owner.work(1, Work::Download);
    assert_eq!(owner.said(), [Output::Stop(T1, Why::Checked)]);
    owner.pass(2);
    let then = [
        Output::Start(T1, Activity::Download),
        Output::Start(TorrentKey(3), Activity::Check),
    ];
    assert_eq!(owner.said(), then);
    owner.work(1, CHECK);
    assert_eq!(owner.said(), [Output::Stop(T1, Why::Unchecked)]);
}

#[test]
fn a_check_that_a_person_asks_for_is_made_though_the_torrent_is_paused() {
    let mut owner = Owner::of(Settings::default(), &[Work::Seed]);
    owner.wish(1, Wish::Paused);
    owner.work(1, CHECK);
    owner.pass(10);
    assert_eq!(owner.runs(), []);
    owner.work(1, ASKED);
    assert_eq!(owner.standing(1), Some(Standing::Waiting(Activity::Check)));
    owner.pass(10);
    assert_eq!(owner.running.get(&T1), Some(&Activity::Check));
    owner.wish(1, Wish::Paused);
    assert_eq!(owner.runs(), [], "which takes it back");
    owner.work(1, ASKED);
    owner.pass(10);
    owner.work(1, Work::Seed);
    owner.pass(10);
    assert_eq!(owner.runs(), []);
    assert_eq!(owner.standing(1), Some(Standing::Paused));
}

#[test]
fn a_download_that_completes_goes_on_as_a_seed_unless_others_come_first() {
    let works = [Work::Download, Work::Download, Work::Download];
    let mut owner = Owner::of(limits(Some(2), Some(1), None), &works);
    owner.said();
    owner.work(1, Work::Seed);
    owner.pass(2);
    assert_eq!(
        owner.said(),
        [Output::Start(TorrentKey(3), Activity::Download)]
    );
    let seeds = Standing::Running {
        activity: Activity::Seed,
        slow: false,
    };
    assert_eq!(owner.standing(1), Some(seeds));
    owner.work(2, Work::Seed);
    owner.pass(2);
    assert_eq!(owner.said(), [Output::Stop(T2, Why::Queued)]);
    owner.work(1, Work::Download);
    owner.pass(2);
    assert_eq!(owner.runs(), [1, 2, 3], "a piece was lost, and it goes on");
}

#[test]
fn downloads_come_before_seeds_where_all_share_a_limit() {
    let works = [Work::Seed, Work::Seed, Work::Download];
    let mut owner = Owner::of(limits(None, None, Some(2)), &works);
    assert_eq!(owner.runs(), [1, 3]);
    owner.tell(Input::Added(TorrentKey(4), torrent(Work::Download)));
    owner.pass(2);
    assert_eq!(owner.runs(), [3, 4]);
    owner.wish(3, Wish::Paused);
    owner.pass(2);
    assert_eq!(owner.runs(), [1, 4]);
}

/// An owner of seeds in swarms of so many seeds and leeches each, all of which move something.
fn seeds(settings: Settings, swarms: &[(u32, u32)]) -> Owner {
    let mut owner = Owner::new(settings);
    for (key, &(seeds, leeches)) in (1..).zip(swarms) {
        let key = TorrentKey(key);
        owner.tell(Input::Added(key, torrent(Work::Seed)));
        owner.tell(Input::Swarm(key, Swarm { seeds, leeches }));
    }
    owner.pass(5);
    owner
}

/// Lets minutes go by in which all that run move something.
fn busy(owner: &mut Owner, minutes: u64) {
    for _ in 0..minutes {
        for key in owner.runs() {
            owner.moves(key, FAST);
        }
        owner.pass(MINUTE);
    }
}

/// Who runs after each of so many busy hours.
fn hours(owner: &mut Owner, hours: usize) -> Vec<Vec<u64>> {
    let each = |_| {
        busy(owner, 60);
        owner.runs()
    };
    (0..hours).map(each).collect()
}

/// One seed at a time, a little less than an hour each.
fn one_seed() -> Settings {
    Settings {
        seed_turn: Duration::from_secs(HOUR - 30),
        ..limits(None, Some(1), None)
    }
}

#[test]
fn seeds_run_where_they_are_missed_most_and_each_has_a_turn_first() {
    let swarms = [(100, 1), (1, 100), (0, 0), (5, 5), (0, 5)];
    let mut owner = seeds(one_seed(), &swarms);
    assert_eq!(owner.runs(), [2]);
    busy(&mut owner, 59);
    assert_eq!(owner.runs(), [2], "its turn lasts");
    busy(&mut owner, 1);
    assert_eq!(owner.runs(), [5], "the next by need");
    let turns = hours(&mut owner, 6);
    assert_eq!(turns, [[3], [4], [1], [2], [2], [2]]);
}

#[test]
fn seeds_that_are_missed_about_as_much_take_turns() {
    let mut owner = seeds(one_seed(), &[(10, 10), (11, 10), (10, 11)]);
    assert_eq!(owner.runs(), [1]);
    let turns = hours(&mut owner, 7);
    assert_eq!(turns, [[2], [3], [1], [2], [3], [1], [2]]);
}

#[test]
fn a_turn_that_is_cut_short_is_none() {
    let mut owner = seeds(limits(None, None, Some(1)), &[(1, 100), (0, 0)]);
    assert_eq!(owner.runs(), [1]);
    let download = TorrentKey(3);
    owner.tell(Input::Added(download, torrent(Work::Download)));
    owner.pass(MINUTE);
    assert_eq!(owner.runs(), [3]);
    owner.wish(3, Wish::Paused);
    owner.pass(MINUTE);
    assert_eq!(owner.runs(), [1], "its turn is still to come");
    owner.wish(3, Wish::Queued);
    owner.pass(MINUTE);
    let many = Swarm {
        seeds: 100,
        leeches: 1,
    };
    owner.tell(Input::Swarm(T1, many));
    owner.wish(3, Wish::Paused);
    owner.pass(MINUTE);
    assert_eq!(owner.runs(), [2], "and is not kept for it");
}

#[test]
fn a_download_that_completes_has_its_first_turn_as_a_seed() {
    let mut owner = Owner::of(limits(None, Some(1), None), &[Work::Download]);
    owner.work(1, Work::Seed);
    owner.pass(2);
    owner.tell(Input::Added(T2, torrent(Work::Seed)));
    let needy = Swarm {
        seeds: 0,
        leeches: 100,
    };
    owner.tell(Input::Swarm(T2, needy));
    busy(&mut owner, 29);
    assert_eq!(owner.runs(), [1]);
    busy(&mut owner, 2);
    assert_eq!(owner.runs(), [2]);
}

#[test]
fn we_are_not_one_of_the_seeds_that_a_swarm_has() {
    let mut owner = seeds(one_seed(), &[(0, 0), (0, 0)]);
    busy(&mut owner, 1);
    // Both have one seed: we are that of the first one.
    for (key, seeds) in [(T1, 1), (T2, 1)] {
        owner.tell(Input::Swarm(key, Swarm { seeds, leeches: 0 }));
    }
    let turns = hours(&mut owner, 4);
    assert_eq!(turns, [[2], [1], [1], [1]]);
}

#[test]
fn a_seed_that_sent_its_ratio_stops_and_says_why() {
    let mut owner = Owner::of(
        share(ShareLimits {
            ratio_permille: Some(1_500),
            ..ShareLimits::default()
        }),
        &[Work::Seed, Work::Download],
    );
    owner.said();
    let sent = |uploaded_bytes| Progress {
        uploaded_bytes,
        downloaded_bytes: 1_000,
        verified_bytes: 1_000,
        ..Progress::default()
    };
    owner.tell(Input::Progress(T1, sent(1_499)));
    owner.tell(Input::Progress(T2, sent(9_999)));
    assert_eq!(owner.said(), [], "a download gives as much as it likes");
    owner.tell(Input::Progress(T1, sent(1_500)));
    let enough = [
        Output::Stop(T1, Why::GaveEnough),
        Output::LimitReached(T1, ShareLimit::Ratio, Then::Pause),
    ];
    assert_eq!(owner.said(), enough);
    assert_eq!(
        owner.standing(1),
        Some(Standing::GaveEnough(ShareLimit::Ratio))
    );
    owner.pass(HOUR);
    assert_eq!(owner.runs(), [2]);
}

#[test]
fn limits_of_time_are_reached_without_a_report() {
    let idle = Duration::from_secs(10 * MINUTE);
    let seeding = Duration::from_secs(HOUR);
    let mut owner = Owner::of(
        share(ShareLimits {
            seeding: Some(seeding),
            idle: Some(idle),
            ..ShareLimits::default()
        }),
        &[Work::Seed, Work::Seed, Work::Seed],
    );
    owner.moves(1, FAST);
    let own = OwnLimits {
        idle: Told::None,
        then: Some(Then::RemoveData),
        ..OwnLimits::default()
    };
    owner.tell(Input::Limits(T2, own));
    owner.said();
    owner.pass(10 * MINUTE);
    let enough = [
        Output::Stop(TorrentKey(3), Why::GaveEnough),
        Output::LimitReached(TorrentKey(3), ShareLimit::IdleTime, Then::Pause),
    ];
    assert_eq!(owner.said(), enough);
    owner.pass(HOUR);
    let (limit, action) = (ShareLimit::SeedingTime, Then::RemoveData);
    assert!(
        owner
            .said()
            .contains(&Output::LimitReached(T2, limit, action))
    );
    // A report set back its time: an hour from then.
    assert_eq!(
        owner.standing(1),
        Some(Standing::GaveEnough(ShareLimit::SeedingTime))
    );
}

#[test]
fn time_in_the_queue_is_no_time_as_a_seed() {
    let settings = Settings {
        share: ShareLimits {
            seeding: Some(Duration::from_secs(2 * HOUR)),
            ..ShareLimits::default()
        },
        ..limits(None, Some(0), None)
    };
    let mut owner = Owner::of(settings, &[Work::Seed]);
    owner.pass(100 * HOUR);
    owner.tell(Input::Settings(Settings {
        max_seeds: None,
        ..settings
    }));
    owner.pass(HOUR);
    assert_eq!(owner.runs(), [1]);
    owner.pass(HOUR + 10);
    assert_eq!(owner.runs(), []);
}

#[test]
fn to_super_seed_is_said_once_and_the_seed_goes_on() {
    let mut owner = Owner::of(
        share(ShareLimits {
            seeding: Some(Duration::from_secs(HOUR)),
            then: Then::SuperSeed,
            ..ShareLimits::default()
        }),
        &[Work::Seed],
    );
    owner.said();
    owner.pass(10 * HOUR);
    let said = Output::LimitReached(T1, ShareLimit::SeedingTime, Then::SuperSeed);
    assert_eq!(owner.said(), [said]);
    assert_eq!(owner.runs(), [1]);
    assert_eq!(owner.queue.deadline(), None);
}

#[test]
fn who_resumes_a_seed_that_gave_enough_lets_it_go_on_until_its_limits_are_set_anew() {
    let own = OwnLimits {
        seeding: Told::Some(Duration::from_secs(HOUR)),
        ..OwnLimits::default()
    };
    let mut owner = Owner::of(Settings::default(), &[Work::Seed]);
    owner.tell(Input::Limits(T1, own));
    owner.pass(2 * HOUR);
    let enough = Some(Standing::GaveEnough(ShareLimit::SeedingTime));
    assert_eq!(owner.standing(1), enough);
    owner.wish(1, Wish::Queued);
    owner.pass(HOUR);
    assert_eq!(owner.runs(), [1]);
    let stored = owner.queue.stored(owner.now, T1).unwrap();
    assert!(stored.beyond_limits && stored.progress.seeding > Duration::from_secs(HOUR));
    owner.tell(Input::Limits(T1, own));
    assert_eq!(owner.standing(1), enough);
}

#[test]
fn limits_that_are_set_anew_hold_for_who_went_on_beyond_them() {
    let hour = |seeding| {
        share(ShareLimits {
            seeding: Some(Duration::from_secs(seeding)),
            ..ShareLimits::default()
        })
    };
    let mut owner = Owner::of(hour(HOUR), &[Work::Seed]);
    owner.pass(2 * HOUR);
    owner.wish(1, Wish::Queued);
    owner.tell(Input::Settings(Settings {
        max_seeds: Some(5),
        ..hour(HOUR)
    }));
    owner.pass(2);
    assert_eq!(owner.runs(), [1], "other settings are none of its limits");
    owner.tell(Input::Settings(hour(HOUR - 1)));
    assert_eq!(owner.runs(), []);
    owner.wish(1, Wish::Queued);
    owner.pass(2);
    owner.work(1, Work::Download);
    owner.pass(2);
    assert_eq!(owner.runs(), [1]);
    owner.work(1, Work::Seed);
    assert_eq!(owner.runs(), [], "it is complete for the second time");
}

#[test]
fn to_super_seed_is_said_again_where_a_higher_limit_is_reached() {
    let limit = |seeding| {
        share(ShareLimits {
            seeding: Some(Duration::from_secs(seeding)),
            then: Then::SuperSeed,
            ..ShareLimits::default()
        })
    };
    let mut owner = Owner::of(limit(HOUR), &[Work::Seed]);
    owner.pass(2 * HOUR);
    owner.tell(Input::Settings(limit(3 * HOUR)));
    owner.said();
    owner.pass(2 * HOUR);
    let said = Output::LimitReached(T1, ShareLimit::SeedingTime, Then::SuperSeed);
    assert_eq!(owner.said(), [said]);
}

#[test]
fn a_seed_whose_disk_is_missing_is_not_removed() {
    let removes = share(ShareLimits {
        ratio_permille: Some(1_000),
        then: Then::RemoveData,
        ..ShareLimits::default()
    });
    let mut owner = Owner::of(removes, &[Work::Seed]);
    owner.tell(Input::Failed(T1));
    owner.said();
    let sent = Progress {
        uploaded_bytes: 1,
        ..Progress::default()
    };
    owner.tell(Input::Progress(T1, sent));
    assert_eq!(owner.said(), []);
    owner.tell(Input::Well(T1));
    let (limit, action) = (ShareLimit::Ratio, Then::RemoveData);
    assert_eq!(owner.said(), [Output::LimitReached(T1, limit, action)]);
}

#[test]
fn a_person_s_pause_is_stored_as_that() {
    let stored = Torrent {
        wish: Wish::Paused,
        gave_enough: Some(ShareLimit::Ratio),
        ..torrent(Work::Seed)
    };
    let mut owner = Owner::new(Settings::default());
    owner.tell(Input::Added(T1, stored));
    assert_eq!(owner.standing(1), Some(Standing::Paused));
}

#[test]
fn another_life_of_the_session_goes_on_where_this_one_was() {
    let settings = share(ShareLimits {
        seeding: Some(Duration::from_secs(HOUR)),
        then: Then::Remove,
        ..ShareLimits::default()
    });
    let works = [Work::Seed, Work::Seed, Work::Download, CHECK];
    let mut owner = Owner::of(settings, &works);
    owner.pass(2 * HOUR);
    owner.wish(1, Wish::Queued);
    owner.wish(3, Wish::Forced);
    owner.tell(Input::Move(vec![TorrentKey(4)], Shift::Up));
    owner.pass(5);
    let mut next = Owner::new(settings);
    for key in owner.queue.order() {
        let stored = owner.queue.stored(owner.now, key).unwrap();
        next.tell(Input::Added(key, stored));
        assert_eq!(next.queue.stored(next.now, key), Some(stored));
    }
    next.pass(5);
    assert_eq!(next.queue.order(), owner.queue.order());
    assert_eq!(next.runs(), owner.runs());
    assert_eq!(next.standing(2), owner.standing(2));
}

#[test]
fn unknown_keys_are_ignored_and_a_known_one_is_not_added_again() {
    let mut owner = Owner::of(Settings::default(), &[Work::Download]);
    owner.pass(HOUR);
    owner.said();
    let before = owner.queue.stored(owner.now, T1);
    let inputs = [
        Input::Added(T1, torrent(Work::Seed)),
        Input::Removed(T2),
        Input::Wish(T2, Wish::Forced),
        Input::Work(T2, Work::Seed),
        Input::Failed(T2),
        Input::Well(T2),
        Input::Progress(T2, moving(FAST)),
        Input::Swarm(T2, Swarm::default()),
        Input::Limits(T2, OwnLimits::default()),
        Input::Move(vec![T2, T2], Shift::Top),
    ];
    for input in inputs {
        owner.tell(input);
    }
    assert_eq!(owner.said(), []);
    assert_eq!(owner.queue.stored(owner.now, T1), before);
    assert_eq!(owner.queue.deadline(), None);
}

#[test]
fn ten_thousand_idle_seeds_wait_for_nothing() {
    let mut owner = Owner::of(Settings::default(), &[Work::Seed; 10_000]);
    owner.pass(HOUR);
    assert_eq!(owner.running.len(), 10_000);
    assert_eq!(owner.queue.deadline(), None);
    owner.said();
    owner.moves(7_777, FAST);
    owner.pass(10);
    assert_eq!(owner.said(), []);
    assert_eq!(owner.queue.deadline(), None);
}

#[test]
fn moments_at_the_end_of_time_do_no_harm() {
    let mut owner = Owner::new(share(ShareLimits {
        seeding: Some(Duration::MAX),
        ..ShareLimits::default()
    }));
    owner.tell(Input::Added(T1, torrent(Work::Seed)));
    owner.now = Moment::NEVER;
    owner.tell(Input::Tick);
    owner.tell(Input::Tick);
    assert_eq!(owner.runs(), [1]);
}
