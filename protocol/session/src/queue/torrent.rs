//! One torrent of the queue: what it is, what it may do, and when that changes by itself.
//!
//! Invariant: what it runs for is always its work, except between a change of its work and the [`State::must_stop`] that follows.

use super::interface::{Activity, Progress, Settings, Standing, Swarm, Torrent, Why, Wish, Work};
use super::lanes::{Class, Place, Rank, Seat};
use super::order::Entry;
use super::pace::Pace;
use super::share::{OwnLimits, ShareLimit, ShareLimits, Then};
use crate::TorrentKey;
use core::time::Duration;
use shoal_machine::{Moment, earliest};

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    key: TorrentKey,
    pub(super) position: i64,
    wish: Wish,
    work: Work,
    failed: bool,
    limits: OwnLimits,
    /// The share limit that stopped it.
    gave_enough: Option<ShareLimit>,
    /// A person let it go on past its share limits.
    beyond: bool,
    /// It was said that it shall super-seed.
    super_seeding: bool,
    /// What it runs for.
    run: Option<Activity>,
    pace: Pace,
    /// When its turn as a seed began, while that lasts.
    turn: Option<Moment>,
    /// When its last turn began that was not cut short.
    served: Option<Moment>,
    swarm: Swarm,
    progress: Progress,
    /// When `progress` was right.
    reported: Moment,
    /// Where it is filed, and when its timer is due.
    pub(super) place: Option<Place>,
    pub(super) timer: Option<Moment>,
}

impl State {
    pub(super) fn new(now: Moment, key: TorrentKey, position: i64, torrent: Torrent) -> Self {
        State {
            key,
            position,
            wish: torrent.wish,
            work: torrent.work,
            failed: false,
            limits: torrent.limits,
            gave_enough: torrent
                .gave_enough
                .filter(|_| torrent.wish == Wish::Queued && torrent.work != Work::Download),
            beyond: torrent.beyond_limits,
            super_seeding: false,
            run: None,
            pace: Pace::default(),
            turn: None,
            served: None,
            swarm: Swarm::default(),
            progress: Progress {
                download_bytes_per_s: 0,
                upload_bytes_per_s: 0,
                ..torrent.progress
            },
            reported: now,
            place: None,
            timer: None,
        }
    }

    /// As it is to be added in the next life of the session.
    pub(super) fn stored(&self, now: Moment) -> Torrent {
        Torrent {
            wish: self.wish,
            work: self.work,
            limits: self.limits,
            gave_enough: self.gave_enough,
            beyond_limits: self.beyond,
            progress: self.progress_at(now),
        }
    }

    pub(super) fn entry(&self) -> Entry {
        Entry {
            position: self.position,
            key: self.key,
            complete: self.work == Work::Seed,
        }
    }

    pub(super) fn set_wish(&mut self, now: Moment, wish: Wish, global: &ShareLimits) {
        let resumed = self.wish == Wish::Paused || self.gave_enough.is_some();
        if wish == Wish::Queued && resumed && self.work != Work::Download {
            let limits = self.limits.over(global);
            let stops = limits.then != Then::SuperSeed;
            self.beyond = stops && limits.reached(&self.progress_at(now)).is_some();
        }
        if wish == Wish::Paused && self.work.activity() == Activity::Check {
            self.work = Work::Check { asked: false };
        }
        self.gave_enough = None;
        self.wish = wish;
    }

    pub(super) fn set_work(&mut self, work: Work) {
        if work == Work::Download {
            self.gave_enough = None;
            self.beyond = false;
        }
        self.work = work;
    }

    pub(super) fn set_failed(&mut self, failed: bool) {
        self.failed = failed;
    }

    pub(super) fn set_limits(&mut self, limits: OwnLimits) {
        self.limits = limits;
        self.beyond = false;
    }

    /// The global limits are others.
    pub(super) fn forget_beyond(&mut self) {
        self.beyond = false;
    }

    pub(super) fn set_swarm(&mut self, swarm: Swarm) {
        let ourselves = u32::from(self.run == Some(Activity::Seed));
        self.swarm = Swarm {
            seeds: swarm.seeds.saturating_sub(ourselves),
            ..swarm
        };
    }

    pub(super) fn set_progress(&mut self, now: Moment, progress: Progress) {
        self.progress = progress;
        self.reported = now;
        if self.run.is_none() {
            self.rest();
        }
    }

    /// Whether it has given enough: says so once, and no longer lets it compete where that follows.
    pub(super) fn judge(
        &mut self,
        now: Moment,
        global: &ShareLimits,
    ) -> Option<(ShareLimit, Then)> {
        if !self.is_limited() {
            return None;
        }
        let limits = self.limits.over(global);
        let Some(limit) = limits.reached(&self.progress_at(now)) else {
            self.super_seeding = false;
            return None;
        };
        if limits.then == Then::SuperSeed {
            let said = core::mem::replace(&mut self.super_seeding, true);
            return (!said).then_some((limit, limits.then));
        }
        self.gave_enough = Some(limit);
        Some((limit, limits.then))
    }

    /// Whether share limits could stop it. A person who forces or pauses it decided otherwise.
    fn is_limited(&self) -> bool {
        let free = self.beyond || self.failed || self.gave_enough.is_some();
        self.wish == Wish::Queued && self.work == Work::Seed && !free
    }

    /// Why it must not go on with what it runs for.
    pub(super) fn must_stop(&self) -> Option<Why> {
        let run = self.run?;
        if self.failed {
            return Some(Why::Failed);
        }
        match (run, self.work.activity()) {
            (Activity::Check, Activity::Check) => {}
            (Activity::Check, _) => return Some(Why::Checked),
            (_, Activity::Check) => return Some(Why::Unchecked),
            _ => {}
        }
        if self.may_run() {
            None
        } else if self.gave_enough.is_some() {
            Some(Why::GaveEnough)
        } else {
            Some(Why::Paused)
        }
    }

    /// Whether it shall run at once, without a place.
    pub(super) fn must_start(&self) -> bool {
        self.wish == Wish::Forced && self.may_run() && self.run.is_none()
    }

    fn may_run(&self) -> bool {
        let held = self.wish == Wish::Paused || self.gave_enough.is_some();
        !self.failed && (!held || self.work == Work::Check { asked: true })
    }

    /// Begins its work, and says what that is.
    pub(super) fn begin(&mut self, now: Moment) -> Activity {
        let activity = self.work.activity();
        self.set_run(now, Some(activity));
        if activity == Activity::Seed && self.wish == Wish::Queued {
            self.turn = Some(now);
        }
        activity
    }

    /// Ends what it runs for. A turn that is cut short is none.
    pub(super) fn end(&mut self, now: Moment) {
        self.set_run(now, None);
        self.rest();
    }

    pub(super) fn runs(&self) -> bool {
        self.run.is_some()
    }

    fn set_run(&mut self, now: Moment, run: Option<Activity>) {
        self.progress = self.progress_at(now);
        self.reported = now;
        self.run = run;
        self.pace = Pace::default();
        self.turn = None;
    }

    fn rest(&mut self) {
        self.progress.download_bytes_per_s = 0;
        self.progress.upload_bytes_per_s = 0;
    }

    /// What follows from time alone while it runs.
    pub(super) fn advance(&mut self, now: Moment, settings: &Settings) {
        let Some(run) = self.run else {
            return;
        };
        if run != self.work.activity() {
            self.set_run(now, Some(self.work.activity()));
        }
        self.observe_pace(now, settings);
        self.observe_turn(now, settings.seed_turn);
    }

    fn observe_pace(&mut self, now: Moment, settings: &Settings) {
        let Some(rule) = &settings.slow else {
            self.pace = Pace::default();
            return;
        };
        let (rate, threshold) = match self.work {
            Work::Check { .. } => return,
            Work::Download => (
                self.progress.download_bytes_per_s,
                rule.download_bytes_per_s,
            ),
            Work::Seed => (self.progress.upload_bytes_per_s, rule.upload_bytes_per_s),
        };
        self.pace.observe(now, rate, threshold, rule.after);
    }

    fn observe_turn(&mut self, now: Moment, lasts: Duration) {
        if self.work != Work::Seed || self.wish == Wish::Forced {
            self.turn = None;
            return;
        }
        // A download that completes while it runs has its first turn too.
        if self.served.is_none() {
            self.turn.get_or_insert(now);
        }
        if let Some(began) = self.turn.filter(|&began| now.since(began) >= lasts) {
            self.served = Some(began);
            self.turn = None;
        }
    }

    /// Where it belongs, `None` where it does not compete.
    pub(super) fn wanted_place(&self) -> Option<Place> {
        if self.wish == Wish::Forced || !self.may_run() {
            return None;
        }
        let seat = match self.run {
            None => Seat::Waiting,
            Some(_) if self.pace.is_slow() => Seat::Slow,
            Some(_) => Seat::Counted,
        };
        Some(Place {
            activity: self.work.activity(),
            seat,
            rank: self.rank(),
        })
    }

    fn rank(&self) -> Rank {
        let by_position = Rank {
            class: Class::Rest,
            abundance: 0,
            served: Moment::ZERO,
            position: self.position,
            key: self.key,
        };
        if self.work != Work::Seed {
            return by_position;
        }
        let abundance = self.swarm.abundance();
        match (self.turn, self.served) {
            (Some(began), _) => Rank {
                class: Class::InTurn,
                served: began,
                ..by_position
            },
            (None, None) => Rank {
                class: Class::Unserved,
                abundance,
                ..by_position
            },
            (None, Some(served)) => Rank {
                abundance,
                served,
                ..by_position
            },
        }
    }

    /// When something of it changes by itself: it becomes slow, its turn ends, or a limit of time is reached.
    pub(super) fn due(&self, now: Moment, settings: &Settings) -> Option<Moment> {
        let run = self.run?;
        let slow = settings.slow.and_then(|rule| self.pace.due(rule.after));
        let turn = self.turn.map(|began| began + settings.seed_turn);
        let limited = run == Activity::Seed && self.is_limited() && !self.super_seeding;
        let enough = limited.then(|| {
            let limits = self.limits.over(&settings.share);
            let left = limits.time_left(&self.progress_at(now));
            left.map(|left| now + left)
        });
        let due = earliest(earliest(slow, turn), enough.flatten());
        due.filter(|&at| at < Moment::NEVER)
    }

    /// What has moved, with the time that went by since it was reported.
    fn progress_at(&self, now: Moment) -> Progress {
        let mut progress = self.progress;
        if self.run == Some(Activity::Seed) {
            let since = now.since(self.reported);
            progress.seeding = progress.seeding.saturating_add(since);
            if progress.upload_bytes_per_s == 0 {
                progress.idle = progress.idle.saturating_add(since);
            }
        }
        progress
    }

    pub(super) fn standing(&self) -> Standing {
        if self.failed {
            return Standing::Failed;
        }
        if let Some(activity) = self.run {
            let slow = self.pace.is_slow();
            return Standing::Running { activity, slow };
        }
        match self.gave_enough {
            _ if self.may_run() => Standing::Waiting(self.work.activity()),
            Some(limit) => Standing::GaveEnough(limit),
            None => Standing::Paused,
        }
    }
}
