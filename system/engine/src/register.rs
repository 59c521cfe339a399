//! The torrents that strangers may ask for.
//!
//! Invariant: a name, in the clear or as encrypted handshakes have it, belongs to one torrent; both go when the torrent goes. What has a name
//! is on one route: nobody enters it for another one while anything of it still speaks over the last.

use crate::connect::Introduction;
use crate::route::RouteId;
use crate::torrent::TorrentId;
use shoal_metainfo::{InfoHash, InfoHashes};
use shoal_wire::mse::SkeyHash;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

/// The torrents by the names under which strangers may ask for them. Read for every stranger, written when a torrent comes or
/// goes; the lock is never held across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    names: Arc<RwLock<Names>>,
    /// Strangers who came this way find the torrents that are on it; `None` is no way, and finds none.
    way: Option<RouteId>,
}

#[derive(Debug, Default)]
struct Names {
    torrents: BTreeMap<InfoHash, (TorrentId, Introduction)>,
    /// Encrypted handshakes name a torrent by a hash of its name, which is made once.
    hashed: BTreeMap<SkeyHash, InfoHash>,
    /// Over which route trackers are spoken to for what has this name, also in farewell, and how many do.
    spoken_over: BTreeMap<InfoHash, (RouteId, usize)>,
}

/// A part in what is said to trackers: until the last of it is dropped, the torrent can go by no other route.
#[derive(Debug)]
pub(crate) struct Spoken {
    register: Register,
    names: InfoHashes,
}

impl Drop for Spoken {
    fn drop(&mut self) {
        let mut names = self.register.write();
        for name in self.names.swarms() {
            if let Some((_, count)) = names.spoken_over.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    names.spoken_over.remove(&name);
                }
            }
        }
    }
}

/// A torrent's place in the register, which it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    register: Register,
    id: TorrentId,
    /// The names that it was entered under first. It may have got others since.
    names: InfoHashes,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut names = self.register.write();
        // The entry of any name knows them all.
        let known = self
            .names
            .swarms()
            .find_map(|name| names.names_of(self.id, name));
        names.remove(self.id, known.unwrap_or(self.names));
    }
}

impl Names {
    /// All names of the torrent that has this one, if that is the one with this id.
    fn names_of(&self, id: TorrentId, name: InfoHash) -> Option<InfoHashes> {
        let (holder, introduction) = self.torrents.get(&name)?;
        (*holder == id).then_some(introduction.hashes)
    }

    /// Of thousands of torrents, only this one is looked at.
    fn remove(&mut self, id: TorrentId, names: InfoHashes) {
        for name in names.swarms() {
            if self.names_of(id, name).is_some() {
                self.torrents.remove(&name);
                self.hashed.remove(&SkeyHash::of(name));
            }
        }
    }

    fn insert(&mut self, id: TorrentId, introduction: Introduction) {
        for name in introduction.hashes.swarms() {
            self.torrents.insert(name, (id, introduction));
            if introduction.is_public {
                self.hashed.insert(SkeyHash::of(name), name);
            }
        }
    }
}

impl Register {
    /// The same register, for those who ask for a torrent over this route.
    pub(crate) fn on(&self, route: RouteId) -> Register {
        Register {
            names: Arc::clone(&self.names),
            way: Some(route),
        }
    }

    /// Somebody speaks for a torrent that is here, over its route, and perhaps longer than it is.
    pub(crate) fn spoken(&self, introduction: Introduction) -> Spoken {
        let mut names = self.write();
        for name in introduction.hashes.swarms() {
            let spoken = names.spoken_over.entry(name);
            // All that speak at a time are on one route, as nobody is entered for another one before they have ended.
            spoken.or_insert((introduction.route, 0)).1 += 1;
        }
        drop(names);
        Spoken {
            register: self.clone(),
            names: introduction.hashes,
        }
    }

    /// Enters a torrent under all its names; `None` where one of them is taken, or was left by another route and leave is still being taken.
    pub(crate) fn enter(&self, id: TorrentId, introduction: Introduction) -> Option<Registration> {
        let mut names = self.write();
        let taken = |name| {
            let spoken = names.spoken_over.get(&name);
            names.torrents.contains_key(&name)
                || spoken.is_some_and(|(route, _)| *route != introduction.route)
        };
        if introduction.hashes.swarms().any(taken) {
            return None;
        }
        names.insert(id, introduction);
        drop(names);
        let register = self.clone();
        let names = introduction.hashes;
        Some(Registration {
            register,
            id,
            names,
        })
    }

    /// Enters a torrent that is there already under its other names too, and with what it says of itself from here on. False where one
    /// of the names is another torrent's: then nothing changes.
    pub(crate) fn extend(&self, id: TorrentId, introduction: Introduction) -> bool {
        let mut names = self.write();
        let is_anothers = |name| {
            let holder = names.torrents.get(&name);
            holder.is_some_and(|(other, _)| *other != id)
        };
        if introduction.hashes.swarms().any(is_anothers) {
            return false;
        }
        let mut swarms = introduction.hashes.swarms();
        if let Some(before) = swarms.find_map(|name| names.names_of(id, name)) {
            names.remove(id, before);
        }
        names.insert(id, introduction);
        true
    }

    /// The torrent that a stranger asks for, if strangers are answered.
    pub(crate) fn find(&self, name: InfoHash) -> Option<(TorrentId, Introduction)> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let found = names.torrents.get(&name).copied();
        found.filter(|(_, introduction)| {
            introduction.is_public && self.way == Some(introduction.route)
        })
    }

    /// The torrent that an encrypted handshake means.
    pub(crate) fn find_hashed(&self, hash: SkeyHash) -> Option<InfoHash> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let name = names.hashed.get(&hash).copied()?;
        drop(names);
        self.find(name).map(|_| name)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}
