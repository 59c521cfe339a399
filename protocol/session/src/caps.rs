//! How many slots each torrent may have, of those that are given.
//!
//! Invariant: no torrent is given more than its own most and that of the session, whichever is less.

use crate::TorrentKey;
use std::collections::BTreeMap;

/// The slots of one round, as they are given.
#[derive(Debug, Default)]
pub(crate) struct Caps {
    /// Of any torrent.
    of_each: Option<u32>,
    /// Of those that have a most of their own.
    own: BTreeMap<TorrentKey, u32>,
    given: BTreeMap<TorrentKey, u32>,
}

impl Caps {
    pub(crate) fn new(of_each: Option<u32>, own: BTreeMap<TorrentKey, u32>) -> Self {
        Caps {
            of_each,
            own,
            given: BTreeMap::new(),
        }
    }

    /// Whether the torrent may have a slot more.
    pub(crate) fn has_room(&self, torrent: TorrentKey) -> bool {
        let given = self.given.get(&torrent).copied().unwrap_or(0);
        let own = self.own.get(&torrent);
        let below = |most: &u32| given < *most;
        self.of_each.as_ref().is_none_or(below) && own.is_none_or(below)
    }

    /// Gives it one, if it may have it.
    pub(crate) fn take(&mut self, torrent: TorrentKey) -> bool {
        let has_room = self.has_room(torrent);
        // Where nothing is bounded, nothing is counted.
        let is_bounded = self.of_each.is_some() || self.own.contains_key(&torrent);
        if has_room && is_bounded {
            *self.given.entry(torrent).or_default() += 1;
        }
        has_room
    }
}
