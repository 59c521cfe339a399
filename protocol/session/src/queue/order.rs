//! The order of the queue.
//!
//! Invariant: no two torrents have the same position. Positions have gaps, as only their order has a meaning.
//!
//! Complete and incomplete torrents are kept apart so that a step up or down passes a torrent of the same kind: seeds run by
//! need, and passing one of them would change nothing that a person sees.

use super::interface::Shift;
use crate::TorrentKey;
use std::collections::{BTreeMap, BTreeSet};

/// See the module. Each move uses up one number at most, and 2^63 of them are never made.
#[derive(Debug, Default)]
pub(super) struct Order {
    incomplete: BTreeMap<i64, TorrentKey>,
    complete: BTreeMap<i64, TorrentKey>,
}

/// A torrent as the order knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// Where it is.
    pub(super) position: i64,
    /// Which.
    pub(super) key: TorrentKey,
    /// Whether it is complete.
    pub(super) complete: bool,
}

impl Order {
    /// The position behind all.
    pub(super) fn end(&self) -> i64 {
        let last = [&self.incomplete, &self.complete]
            .into_iter()
            .filter_map(|of| of.last_key_value())
            .map(|(&position, _)| position)
            .max();
        last.map_or(0, |last| last.saturating_add(1))
    }

    /// The position before all.
    fn front(&self) -> i64 {
        let first = [&self.incomplete, &self.complete]
            .into_iter()
            .filter_map(|of| of.first_key_value())
            .map(|(&position, _)| position)
            .min();
        first.map_or(0, |first| first.saturating_sub(1))
    }

    /// Adds a torrent at a position that nobody has.
    pub(super) fn insert(&mut self, entry: Entry) {
        self.of_mut(entry.complete)
            .insert(entry.position, entry.key);
    }

    /// Takes a torrent out.
    pub(super) fn remove(&mut self, entry: Entry) {
        self.of_mut(entry.complete).remove(&entry.position);
    }

    /// All torrents, first to last.
    pub(super) fn all(&self) -> Vec<TorrentKey> {
        let both = self.incomplete.iter().chain(&self.complete);
        let mut all: Vec<(i64, TorrentKey)> = both.map(|(&at, &key)| (at, key)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, key)| key).collect()
    }

    /// Moves some torrents, which keep their order among themselves. Returns the new positions of all that changed theirs.
    pub(super) fn shift(&mut self, mut these: Vec<Entry>, to: Shift) -> BTreeMap<TorrentKey, i64> {
        these.sort_unstable();
        these.dedup();
        // Whoever is nearest to where all go makes room first, except where each goes past all others.
        if matches!(to, Shift::Top | Shift::Down) {
            these.reverse();
        }
        let chosen: BTreeSet<TorrentKey> = these.iter().map(|entry| entry.key).collect();
        let mut moved = BTreeMap::new();
        for entry in these {
            match to {
                Shift::Top => {
                    let front = self.front();
                    self.put(entry, front, &mut moved);
                }
                Shift::Bottom => {
                    let end = self.end();
                    self.put(entry, end, &mut moved);
                }
                Shift::Up | Shift::Down => {
                    let neighbour = self.neighbour(entry, to);
                    if let Some(neighbour) = neighbour.filter(|next| !chosen.contains(&next.key)) {
                        self.swap(entry, neighbour, &mut moved);
                    }
                }
            }
        }
        moved
    }

    fn neighbour(&self, entry: Entry, to: Shift) -> Option<Entry> {
        let of = self.of(entry.complete);
        let found = if to == Shift::Up {
            of.range(..entry.position).next_back()
        } else {
            of.range(entry.position.saturating_add(1)..).next()
        };
        found.map(|(&position, &key)| Entry {
            position,
            key,
            complete: entry.complete,
        })
    }

    fn put(&mut self, entry: Entry, position: i64, moved: &mut BTreeMap<TorrentKey, i64>) {
        self.remove(entry);
        self.insert(Entry { position, ..entry });
        moved.insert(entry.key, position);
    }

    fn swap(&mut self, a: Entry, b: Entry, moved: &mut BTreeMap<TorrentKey, i64>) {
        for (entry, position) in [(a, b.position), (b, a.position)] {
            self.insert(Entry { position, ..entry });
            moved.insert(entry.key, position);
        }
    }

    fn of(&self, complete: bool) -> &BTreeMap<i64, TorrentKey> {
        if complete {
            &self.complete
        } else {
            &self.incomplete
        }
    }

    fn of_mut(&mut self, complete: bool) -> &mut BTreeMap<i64, TorrentKey> {
        if complete {
            &mut self.complete
        } else {
            &mut self.incomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The torrents 0 to 7 in order, of which 3 and 4 are complete.
    fn order() -> Order {
        let mut order = Order::default();
        for key in 0..8 {
            let position = order.end();
            order.insert(Entry {
                position,
                key: TorrentKey(key),
                complete: key == 3 || key == 4,
            });
        }
        order
    }

    fn shifted(keys: &[u64], to: Shift) -> Vec<u64> {
        let mut order = order();
        let entry = |&key: &u64| Entry {
            position: i64::try_from(key).unwrap(),
            key: TorrentKey(key),
            complete: key == 3 || key == 4,
        };
        let moved = order.shift(keys.iter().map(entry).collect(), to);
        for (key, position) in moved {
            let at = |of: &BTreeMap<i64, TorrentKey>| of.get(&position) == Some(&key);
            assert!(at(&order.incomplete) || at(&order.complete));
        }
        order.all().iter().map(|key| key.0).collect()
    }

    #[test]
    fn several_move_to_an_end_and_keep_their_order() {
        assert_eq!(shifted(&[5, 2, 5], Shift::Top), [2, 5, 0, 1, 3, 4, 6, 7]);
        assert_eq!(shifted(&[5, 2], Shift::Bottom), [0, 1, 3, 4, 6, 7, 2, 5]);
    }

    #[test]
    fn a_step_passes_the_next_of_the_same_kind() {
        assert_eq!(shifted(&[5], Shift::Up), [0, 1, 5, 3, 4, 2, 6, 7]);
        assert_eq!(shifted(&[2], Shift::Down), [0, 1, 5, 3, 4, 2, 6, 7]);
        assert_eq!(shifted(&[4], Shift::Up), [0, 1, 2, 4, 3, 5, 6, 7]);
    }

    #[test]
    fn a_block_moves_as_one_and_stays_where_it_cannot_go_on() {
        assert_eq!(shifted(&[1, 2], Shift::Up), [1, 2, 0, 3, 4, 5, 6, 7]);
        assert_eq!(shifted(&[1, 2], Shift::Down), [0, 5, 1, 3, 4, 2, 6, 7]);
        assert_eq!(shifted(&[0, 1], Shift::Up), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(shifted(&[6, 7], Shift::Down), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
