//! Who of those who compete runs: three lanes (checks, downloads, seeds), each in the order of its ranks, and their limits.
//!
//! What runs after [`Lanes::settle`] is what one finds who goes through all downloads and then all seeds by rank and lets run
//! whoever fits. The limits are nested: counted downloads and counted seeds within all transfers. Under such limits (a laminar
//! matroid) a choice is that one when no single addition or exchange makes it better, so that the sets are looked at from their
//! ends alone, and the work is that of the changes, whatever the number of torrents.
//!
//! Invariant: a torrent that competes is in exactly one set of one lane. After `settle`, no limit is exceeded, nobody waits while
//! there is room, and no download or seed waits while another of lower rank has the place that it could take.

use super::interface::{Activity, Settings};
use crate::TorrentKey;
use shoal_machine::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// Where a torrent stands in its lane: the least is first to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// What comes before all else.
    pub(super) class: Class,
    /// How little a seed is missed, see [`super::interface::Swarm::abundance`].
    pub(super) abundance: u32,
    /// When its last turn as a seed began.
    pub(super) served: Moment,
    /// Its queue position.
    pub(super) position: i64,
    /// Makes the order total.
    pub(super) key: TorrentKey,
}

/// The first criterion of a [`Rank`]. Checks and downloads are all of one class: they run by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// A seed in its turn.
    InTurn,
    /// A seed that has not had a turn yet.
    Unserved,
    /// Everybody else.
    Rest,
}

/// What a torrent is in its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// It does not run.
    Waiting,
    /// It runs and counts.
    Counted,
    /// It runs, and hardly anything moves: it counts in the limit of all alone.
    Slow,
}

/// One torrent's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) activity: Activity,
    pub(super) seat: Seat,
    pub(super) rank: Rank,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeSet<Rank>,
    counted: BTreeSet<Rank>,
    slow: BTreeSet<Rank>,
}

impl Lane {
    fn running(&self) -> usize {
        self.counted.len() + self.slow.len()
    }

    fn worst_counted(&self) -> Option<(Seat, Rank)> {
        self.counted.last().map(|&rank| (Seat::Counted, rank))
    }

    fn worst_running(&self) -> Option<(Seat, Rank)> {
        let slow = self.slow.last().map(|&rank| (Seat::Slow, rank));
        self.worst_counted()
            .into_iter()
            .chain(slow)
            .max_by_key(|&(_, rank)| rank)
    }
}

/// What changed places.
type Moved = BTreeMap<TorrentKey, Place>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    checks: Lane,
    downloads: Lane,
    seeds: Lane,
}

impl Lanes {
    /// Adds a torrent that is in no set.
    pub(super) fn insert(&mut self, place: Place) {
        self.set_mut(place.activity, place.seat).insert(place.rank);
    }

    /// Takes a torrent out.
    pub(super) fn remove(&mut self, place: Place) {
        self.set_mut(place.activity, place.seat).remove(&place.rank);
    }

    /// Brings the sets within the limits and lets run whoever should. Returns who changed places, with the new ones.
    pub(super) fn settle(&mut self, settings: &Settings) -> BTreeMap<TorrentKey, Place> {
        let mut moved = Moved::new();
        self.stop_excess(settings, &mut moved);
        self.fill(settings, &mut moved);
        // A running check is never stopped for another one: what it has read would be read again.
        for activity in [Activity::Download, Activity::Seed] {
            self.exchange(activity, settings, &mut moved);
        }
        moved
    }

    fn stop_excess(&mut self, settings: &Settings, moved: &mut Moved) {
        for activity in Activity::ALL {
            while self.lane(activity).counted.len() > settings.most(activity) {
                let Some((seat, rank)) = self.lane(activity).worst_counted() else {
                    break;
                };
                self.shift(activity, seat, Seat::Waiting, rank, moved);
            }
        }
        while self.transfers() > settings.most_in_all() {
            let Some((activity, seat, rank)) = self.worst_transfer() else {
                break;
            };
            self.shift(activity, seat, Seat::Waiting, rank, moved);
        }
    }

    fn fill(&mut self, settings: &Settings, moved: &mut Moved) {
        for activity in Activity::ALL {
            while self.has_room(activity, settings) {
                let Some(&best) = self.lane(activity).waiting.first() else {
                    break;
                };
                self.shift(activity, Seat::Waiting, Seat::Counted, best, moved);
            }
        }
    }

    /// While the best that waits outranks the worst of those whose place it could take, they change places.
    fn exchange(&mut self, activity: Activity, settings: &Settings, moved: &mut Moved) {
        while let Some(&best) = self.lane(activity).waiting.first() {
            let lane = self.lane(activity);
            let rival = if lane.counted.len() >= settings.most(activity) {
                let worst = lane.worst_counted();
                worst.map(|(seat, rank)| (activity, seat, rank))
            } else {
                self.worst_transfer()
            };
            // Downloads come before seeds, as a seed has time.
            let outranked = |&(of, _, rank): &(Activity, Seat, Rank)| (activity, best) < (of, rank);
            let Some((of, seat, rank)) = rival.filter(outranked) else {
                break;
            };
            self.shift(of, seat, Seat::Waiting, rank, moved);
            self.shift(activity, Seat::Waiting, Seat::Counted, best, moved);
        }
    }

    fn shift(&mut self, activity: Activity, from: Seat, to: Seat, rank: Rank, moved: &mut Moved) {
        self.set_mut(activity, from).remove(&rank);
        self.set_mut(activity, to).insert(rank);
        let place = Place {
            activity,
            seat: to,
            rank,
        };
        moved.insert(rank.key, place);
    }

    fn has_room(&self, activity: Activity, settings: &Settings) -> bool {
        let in_all = activity == Activity::Check || self.transfers() < settings.most_in_all();
        in_all && self.lane(activity).counted.len() < settings.most(activity)
    }

    fn transfers(&self) -> usize {
        self.downloads.running() + self.seeds.running()
    }

    fn worst_transfer(&self) -> Option<(Activity, Seat, Rank)> {
        [Activity::Seed, Activity::Download]
            .into_iter()
            .find_map(|activity| {
                let (seat, rank) = self.lane(activity).worst_running()?;
                Some((activity, seat, rank))
            })
    }

    fn lane(&self, activity: Activity) -> &Lane {
        match activity {
            Activity::Check => &self.checks,
            Activity::Download => &self.downloads,
            Activity::Seed => &self.seeds,
        }
    }

    fn set_mut(&mut self, activity: Activity, seat: Seat) -> &mut BTreeSet<Rank> {
        let lane = match activity {
            Activity::Check => &mut self.checks,
            Activity::Download => &mut self.downloads,
            Activity::Seed => &mut self.seeds,
        };
        match seat {
            Seat::Waiting => &mut lane.waiting,
            Seat::Counted => &mut lane.counted,
            Seat::Slow => &mut lane.slow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Goes through all by rank and lets run whoever fits.
    fn greedy(places: &[Place], settings: &Settings) -> BTreeSet<TorrentKey> {
        let mut sorted = places.to_vec();
        sorted.sort_by_key(|place| (place.activity, place.rank));
        let (mut counted, mut transfers) = (BTreeMap::new(), 0);
        let mut runs = BTreeSet::new();
        for place in sorted {
            let of_kind = counted.entry(place.activity).or_insert(0);
            let counts = place.seat != Seat::Slow;
            let transfer = place.activity != Activity::Check;
            let fits = !counts || *of_kind < settings.most(place.activity);
            if fits && (!transfer || transfers < settings.most_in_all()) {
                *of_kind += usize::from(counts);
                transfers += usize::from(transfer);
                runs.insert(place.rank.key);
            }
        }
        runs
    }

    fn place(key: u64, activity: Activity, seat: Seat, position: i64) -> Place {
        let rank = Rank {
            class: Class::Rest,
            abundance: 0,
            served: Moment::ZERO,
            position,
            key: TorrentKey(key),
        };
        Place {
            activity,
            seat,
            rank,
        }
    }

    fn settled(places: &[Place], settings: &Settings) -> (Lanes, BTreeSet<TorrentKey>) {
        let mut lanes = Lanes::default();
        for &place in places {
            lanes.insert(place);
        }
        lanes.settle(settings);
        let runs = [&lanes.checks, &lanes.downloads, &lanes.seeds]
            .into_iter()
            .flat_map(|lane| lane.counted.iter().chain(&lane.slow))
            .map(|rank| rank.key)
            .collect();
        (lanes, runs)
    }

    #[test]
    fn a_running_check_is_not_stopped_for_one_of_better_position() {
        let settings = Settings {
            max_checks: Some(1),
            ..Settings::default()
        };
        let running = place(1, Activity::Check, Seat::Counted, 9);
        let waiting = place(2, Activity::Check, Seat::Waiting, 1);
        let (_, runs) = settled(&[running, waiting], &settings);
        assert_eq!(runs, BTreeSet::from([TorrentKey(1)]));
    }

    proptest! {
        #[test]
        fn what_runs_is_what_one_finds_who_goes_through_all_of_them(
            torrents in proptest::collection::vec((any::<bool>(), 0u8..3, 0i64..100), 0..40),
            (downloads, seeds, all) in (0u32..8, 0u32..8, 0u32..16),
            unlimited in 0u8..8,
        ) {
            let limit = |bit: u8, limit: u32| (unlimited >> bit & 1 == 0).then_some(limit);
            let settings = Settings {
                max_downloads: limit(0, downloads),
                max_seeds: limit(1, seeds),
                max_active: limit(2, all),
                ..Settings::default()
            };
            let places: Vec<Place> = (0..).zip(&torrents).map(|(key, &(seed, seat, position))| {
                let activity = if seed { Activity::Seed } else { Activity::Download };
                let seat = [Seat::Waiting, Seat::Counted, Seat::Slow][usize::from(seat)];
                place(key, activity, seat, position)
            }).collect();
            let (mut lanes, runs) = settled(&places, &settings);
            prop_assert_eq!(runs, greedy(&places, &settings));
            prop_assert!(lanes.settle(&settings).is_empty(), "what is settled stays");
        }
    }
}
