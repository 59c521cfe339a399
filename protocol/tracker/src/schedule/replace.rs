//! Other trackers in place of those that a schedule has, and announces that a person asks for.
//!
//! Invariant: a tracker that stays keeps what is known of it; one that goes and knows of us hears a farewell, and one that comes back
//! hears of us after that.

use super::entry::Entry;
use super::tiers::{Standing, Tiers};
use super::{ANNOUNCE_TIME_LIMIT, AnnounceId, MAX_TRACKERS, Phase, Schedule};
use crate::announce::{AnnounceReply, Event};
use crate::error::Error;
use shoal_machine::Moment;
use url::Url;

impl Schedule {
    /// A tracker that was not there, or that comes back. One that is still to hear of our completion has not heard a farewell, and never
    /// left.
    pub(super) fn newcomer(&mut self, url: Url, due_at: Moment) -> Entry {
        let stays = |entry: &Entry| entry.url == url && entry.awaits_completed();
        if let Some(at) = self.leaving.iter().position(stays) {
            return self.leaving.remove(at);
        }
        let farewell = self.leaving.iter().find(|entry| entry.url == url);
        let said = farewell.and_then(Entry::give_up_at);
        let mut entry = Entry::new(url, said.map_or(due_at, |said| said.max(due_at)));
        if self.became_complete {
            entry.came_after_completion();
        }
        entry
    }

    pub(super) fn replace(&mut self, now: Moment, tiers: Vec<Vec<Url>>) {
        if matches!(self.phase, Phase::Stopping(_) | Phase::Over) {
            return;
        }
        let before = core::mem::take(&mut self.tiers);
        let mut old: Vec<Option<Entry>> = self.entries.drain(..).map(Some).collect();
        for tier in tiers {
            let (mut stay, mut come) = (Vec::new(), Vec::new());
            for url in tier {
                let known = self.entries.iter().any(|entry| entry.url == url);
                if known || self.entries.len() >= MAX_TRACKERS {
                    continue;
                }
                let at = self.entries.len();
                let is_this = |entry: &Option<Entry>| entry.as_ref().is_some_and(|e| e.url == url);
                let place = old.iter().position(is_this);
                if let Some((place, entry)) =
                    place.and_then(|place| Some((place, old[place].take()?)))
                {
                    self.entries.push(entry);
                    stay.push((before.rank(place), at));
                } else {
                    let entry = self.newcomer(url, now);
                    self.entries.push(entry);
                    come.push(at);
                }
            }
            // What works is preferred as before, and of newcomers none (BEP 12).
            stay.sort_unstable();
            self.rng.shuffle(&mut come);
            let stay = stay.into_iter().map(|(_, at)| at);
            self.tiers.push(stay.chain(come).collect());
        }
        for entry in old.into_iter().flatten() {
            self.part_with(now, entry);
        }
    }

    /// Takes leave of one tracker.
    fn part_with(&mut self, now: Moment, mut entry: Entry) {
        if let Some(farewell) = entry.take_leave(self.became_complete) {
            let id = self.next_announce();
            let announce = entry.announce(id, Some(farewell), now + ANNOUNCE_TIME_LIMIT);
            self.outputs.push_back(announce.output(self.info_hash, 0));
        }
        if entry.is_busy() {
            if self.leaving.len() == MAX_TRACKERS {
                self.leaving.remove(0);
            }
            self.leaving.push(entry);
        }
    }

    /// A tracker that was removed has answered, or will not.
    pub(super) fn farewell_answered(
        &mut self,
        now: Moment,
        id: AnnounceId,
        result: &Result<AnnounceReply, Error>,
    ) {
        let Some(at) = self.leaving.iter().position(|entry| entry.awaits(id)) else {
            return;
        };
        let mut entry = self.leaving.remove(at);
        let event = entry.answered();
        if let Err(error) = result {
            entry.fail(now, error, &mut self.rng);
        }
        let until = match self.phase {
            Phase::Stopping(until) => until,
            _ => now + ANNOUNCE_TIME_LIMIT,
        };
        if event == Some(Event::Completed) && entry.standing() != Standing::Unusable && now < until
        {
            let id = self.next_announce();
            let announce = entry.announce(id, Some(Event::Stopped), until);
            self.outputs.push_back(announce.output(self.info_hash, 0));
            self.leaving.push(entry);
        }
    }

    pub(super) fn reannounce(&mut self, now: Moment, tracker: Option<&Url>) {
        let asked = |entry: &&mut Entry| tracker.is_none_or(|url| *url == entry.url);
        for entry in self.entries.iter_mut().filter(asked) {
            entry.bring_forward_asked(now);
        }
    }
}

impl Tiers {
    /// How soon a member has its turn in its tier.
    fn rank(&self, member: usize) -> usize {
        let mut members = self.members();
        members
            .position(|(_, other)| other == member)
            .unwrap_or(usize::MAX)
    }
}
