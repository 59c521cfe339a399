//! Which torrents of a session run: the queue, as users of qBittorrent and libtorrent know it.
//!
//! Torrents that wait for a check or a download run in the order of the queue, seeds in the order of need: first those whose turn
//! lasts, then those that have not had one in this life of the session, then those with the fewest seeds per leech, then those
//! that waited longest. Forced ones run beside all that. A torrent that hardly moves anything does not hold a place, and a seed
//! that has given enough stops.
//!
//! What a person decides, and what a torrent can no longer do, is said at once. Who takes the places is decided in passes: a
//! moment after the first change, so that many changes at once (a session that starts, a person who pauses a thousand) are one,
//! and then once a second.
//!
//! Invariant: whoever runs may: it has not failed, runs for the work that it has, and unless that is a check that a person asked
//! for, it is not paused and has not given enough. Whoever is forced and has not failed runs. After a pass no limit is exceeded by those that count, and nobody waits while there
//! is room; between passes only forced torrents start. A `Start` and a `Stop` of a torrent alternate, beginning with a `Start`.
//!
//! Each input but new settings costs O(log n) for n torrents, a pass O(c log n) for c torrents that start or stop, and who
//! reports nothing costs nothing: each torrent is filed where only its own changes move it, and has one timer.

mod interface;
mod lanes;
mod order;
mod pace;
mod share;
#[cfg(test)]
mod tests;
mod torrent;

pub use interface::{
    Activity, Input, Output, Progress, Settings, Shift, SlowRule, Standing, Swarm, Torrent, Why,
    Wish, Work,
};
pub use share::{OwnLimits, ShareLimit, ShareLimits, Then, Told, When};

use crate::TorrentKey;
use core::time::Duration;
use lanes::{Lanes, Seat};
use order::Order;
use shoal_machine::{Machine, Moment, earliest};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use torrent::State;

/// Torrents of one queue: at some 500 bytes each, what is remembered of them stays below 50 MB.
pub const MAX_TORRENTS: usize = 100_000;
/// How long a pass waits for changes that come together.
pub const PASS_DELAY: Duration = Duration::from_millis(100);
/// Time between two passes at the least.
pub const PASS_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Queue {
    settings: Settings,
    /// Boxed, as nodes of a map that grows at its end are half empty.
    torrents: BTreeMap<TorrentKey, Box<State>>,
    order: Order,
    lanes: Lanes,
    /// One of each torrent that has something to wait for.
    timers: BTreeSet<(Moment, TorrentKey)>,
    pass_at: Option<Moment>,
    last_pass: Option<Moment>,
    outputs: VecDeque<Output>,
}

impl Queue {
    /// A queue without torrents.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Queue {
            settings,
            ..Queue::default()
        }
    }

    /// All torrents in the order of the queue, to be stored and shown: looks at all. Shown positions count the incomplete ones
    /// alone, as seeds run by need.
    #[must_use]
    pub fn order(&self) -> Vec<TorrentKey> {
        self.order.all()
    }

    /// What a torrent is, as a person sees it; `None` for one that is not there.
    #[must_use]
    pub fn standing(&self, key: TorrentKey) -> Option<Standing> {
        self.torrents.get(&key).map(|state| state.standing())
    }

    /// A torrent in the form in which it is to be stored and added again.
    #[must_use]
    pub fn stored(&self, now: Moment, key: TorrentKey) -> Option<Torrent> {
        self.torrents.get(&key).map(|state| state.stored(now))
    }

    fn add(&mut self, now: Moment, key: TorrentKey, torrent: Torrent) {
        if self.torrents.len() >= MAX_TORRENTS || self.torrents.contains_key(&key) {
            return;
        }
        let state = Box::new(State::new(now, key, self.order.end(), torrent));
        self.order.insert(state.entry());
        self.torrents.insert(key, state);
        self.refresh(now, key);
    }

    fn remove(&mut self, now: Moment, key: TorrentKey) {
        let Some(state) = self.torrents.remove(&key) else {
            return;
        };
        self.order.remove(state.entry());
        if let Some(timer) = state.timer {
            self.timers.remove(&(timer, key));
        }
        if let Some(place) = state.place {
            self.lanes.remove(place);
            self.schedule_pass(now);
        }
    }

    /// Changes what is known of one torrent, and draws the conclusions.
    fn change(&mut self, now: Moment, key: TorrentKey, by: impl FnOnce(&mut State, &Settings)) {
        let Some(state) = self.torrents.get_mut(&key) else {
            return;
        };
        let before = state.entry();
        by(state, &self.settings);
        let after = state.entry();
        if before != after {
            self.order.remove(before);
            self.order.insert(after);
        }
        self.refresh(now, key);
    }

    fn shift(&mut self, now: Moment, keys: &[TorrentKey], to: Shift) {
        let entries = keys
            .iter()
            .filter_map(|key| Some(self.torrents.get(key)?.entry()))
            .collect();
        for (key, position) in self.order.shift(entries, to) {
            if let Some(state) = self.torrents.get_mut(&key) {
                state.position = position;
            }
            self.refresh(now, key);
        }
    }

    fn set(&mut self, now: Moment, settings: Settings) {
        let other_limits = self.settings.share != settings.share;
        self.settings = settings;
        let keys: Vec<TorrentKey> = self.torrents.keys().copied().collect();
        for key in keys {
            let state = self.torrents.get_mut(&key);
            if let Some(state) = state.filter(|_| other_limits) {
                state.forget_beyond();
            }
            self.refresh(now, key);
        }
        self.schedule_pass(now);
    }

    /// Draws the conclusions from what one torrent is: the only place where it is filed and its timer is set.
    fn refresh(&mut self, now: Moment, key: TorrentKey) {
        let Some(state) = self.torrents.get_mut(&key) else {
            return;
        };
        let enough = state.judge(now, &self.settings.share);
        if let Some(why) = state.must_stop() {
            state.end(now);
            self.outputs.push_back(Output::Stop(key, why));
        }
        if let Some((limit, action)) = enough {
            self.outputs
                .push_back(Output::LimitReached(key, limit, action));
        }
        if state.must_start() {
            let activity = state.begin(now);
            self.outputs.push_back(Output::Start(key, activity));
        }
        state.advance(now, &self.settings);
        let due = state.due(now, &self.settings);
        if state.timer != due {
            let old = core::mem::replace(&mut state.timer, due);
            old.map(|at| self.timers.remove(&(at, key)));
            self.timers.extend(due.map(|at| (at, key)));
        }
        let wanted = state.wanted_place();
        if state.place != wanted {
            let old = core::mem::replace(&mut state.place, wanted);
            if let Some(place) = old {
                self.lanes.remove(place);
            }
            if let Some(place) = wanted {
                self.lanes.insert(place);
            }
            self.schedule_pass(now);
        }
    }

    fn schedule_pass(&mut self, now: Moment) {
        let earliest = self.last_pass.map_or(now, |last| last + PASS_INTERVAL);
        self.pass_at.get_or_insert(earliest.max(now + PASS_DELAY));
    }

    /// Gives the places anew. Stops are said before starts, so that what becomes free can be taken.
    fn pass(&mut self, now: Moment) {
        self.pass_at = None;
        self.last_pass = Some(now);
        let moved = self.lanes.settle(&self.settings);
        for (&key, &place) in &moved {
            let Some(state) = self.torrents.get_mut(&key) else {
                continue;
            };
            state.place = Some(place);
            if place.seat == Seat::Waiting && state.runs() {
                state.end(now);
                self.outputs.push_back(Output::Stop(key, Why::Queued));
            }
        }
        for (&key, &place) in &moved {
            let state = self.torrents.get_mut(&key);
            let starts = |state: &&mut Box<State>| place.seat != Seat::Waiting && !state.runs();
            if let Some(state) = state.filter(starts) {
                let activity = state.begin(now);
                self.outputs.push_back(Output::Start(key, activity));
            }
        }
        for &key in moved.keys() {
            self.refresh(now, key);
        }
    }

    /// Sees to the timers that are due. It ends, as `refresh` draws the conclusion for which each was set, and that has no timer.
    fn expire(&mut self, now: Moment) {
        while let Some(&(at, key)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(state) = self.torrents.get_mut(&key) {
                state.timer = None;
            }
            self.refresh(now, key);
        }
    }
}

impl Machine for Queue {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        self.expire(now);
        match input {
            Input::Added(key, torrent) => self.add(now, key, torrent),
            Input::Removed(key) => self.remove(now, key),
            Input::Wish(key, wish) => self.change(now, key, |state, settings| {
                state.set_wish(now, wish, &settings.share);
            }),
            Input::Work(key, work) => self.change(now, key, |state, _| state.set_work(work)),
            Input::Failed(key) => self.change(now, key, |state, _| state.set_failed(true)),
            Input::Well(key) => self.change(now, key, |state, _| state.set_failed(false)),
            Input::Progress(key, progress) => {
                self.change(now, key, |state, _| state.set_progress(now, progress));
            }
            Input::Swarm(key, swarm) => self.change(now, key, |state, _| state.set_swarm(swarm)),
            Input::Limits(key, limits) => {
                self.change(now, key, |state, _| state.set_limits(limits));
            }
            Input::Move(keys, to) => self.shift(now, &keys, to),
            Input::Settings(settings) => self.set(now, settings),
            Input::Tick => {}
        }
        if self.pass_at.is_some_and(|at| at <= now) {
            self.pass(now);
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|&(at, _)| at);
        earliest(timer, self.pass_at)
    }
}
