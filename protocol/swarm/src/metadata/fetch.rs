//! Fetching an info dictionary from peers of which some lie.
//!
//! A *copy* is an attempt to put the whole together. The first copy of a size is made by all peers that claim this size together.
//! Where it does not hash to what the magnet says, somebody lied, and from then on each peer of that size makes a copy alone: one
//! that is wrong convicts its only author, and the one that is right also convicts those whose pieces of an earlier copy differ.
//!
//! Invariant: at most [`MAX_COPIES`] are under way, so that at most as many times the largest metadata is held; and where they are
//! all in use, one that has had its turn gives way, so that no number of liars or dawdlers keeps an honest peer from its turn.

use crate::message::PeerKey;
use bytes::Bytes;
use core::net::IpAddr;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::InfoHashes;
use shoal_metainfo::metainfo::is_named;
use shoal_wire::metadata::{METADATA_PIECE_LENGTH, metadata_piece_count};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Copies under way at once.
pub(super) const MAX_COPIES: usize = 3;

/// Requests that one peer has to answer at once: the next is there when it has sent one, over any line that matters here.
const MAX_ASKED: usize = 8;

/// A peer that has not answered a request after so long is taken to have lost it.
const TIMEOUT: Duration = Duration::from_secs(8);

/// What one peer was asked for so long ago, another one without other work is asked for too.
const SECOND_CHANCE: Duration = Duration::from_secs(2);

/// A peer that rejects or does not answer is left alone for so long, and twice as long each time, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(4);

/// See [`FIRST_PAUSE`].
const MAX_PAUSE: Duration = Duration::from_secs(64);

/// A copy may keep its place for so long while another waits, and twice as long at each further attempt.
const TURN: Duration = Duration::from_secs(30);

/// After so many doublings, waits and turns do not get longer.
const MAX_DOUBLINGS: u32 = 4;

/// Pieces of wrong copies of which it is remembered who sent what: the largest metadata, three times.
const MAX_EVIDENCE: usize = 3 * 640;

/// What the fetching wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask this peer for this piece.
    Request(PeerKey, u32),
    /// This peer, at this address, has sent wrong bytes; it may have left.
    Convict(PeerKey, IpAddr),
    /// This peer contradicts itself.
    Contradiction(PeerKey),
    /// This is it.
    Done(Bytes),
}

/// A peer that offers metadata.
#[derive(Clone, Debug)]
struct Source {
    address: IpAddr,
    total_bytes: u32,
    /// What it has to answer, and since when.
    asked: BTreeMap<u32, Moment>,
    /// What it did not answer in time, and may still.
    late: BTreeSet<u32>,
    pauses: u32,
    paused_until: Moment,
    /// Turns that ended without a result.
    turns: u32,
}

impl Source {
    fn pause(&mut self, now: Moment) {
        let wait = FIRST_PAUSE * (1 << self.pauses.min(MAX_DOUBLINGS));
        self.paused_until = now + wait.min(MAX_PAUSE);
        self.pauses += 1;
    }
}

#[derive(Clone, Debug)]
struct Copy {
    total_bytes: u32,
    /// Its only author; `None` where all peers of this size work together.
    alone: Option<PeerKey>,
    pieces: Vec<Option<(PeerKey, IpAddr, Bytes)>>,
    missing: usize,
    since: Moment,
    turns: u32,
}

/// Who sent what for a copy that was wrong.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    total_bytes: u32,
    piece: u32,
    peer: PeerKey,
    address: IpAddr,
    digest: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct InfoFetch {
    named: InfoHashes,
    sources: BTreeMap<PeerKey, Source>,
    copies: Vec<Copy>,
    /// Sizes of which a copy that was made together was wrong, and which are still claimed.
    distrusted: BTreeSet<u32>,
    evidence: Vec<Evidence>,
    actions: Vec<Action>,
    done: bool,
}

impl InfoFetch {
    pub(super) const fn new(named: InfoHashes) -> Self {
        InfoFetch {
            named,
            sources: BTreeMap::new(),
            copies: Vec::new(),
            distrusted: BTreeSet::new(),
            evidence: Vec::new(),
            actions: Vec::new(),
            done: false,
        }
    }

    /// What is wanted since the last call.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.actions)
    }

    /// The size and the pieces of the copy that is nearest to its end.
    pub(super) fn best(&self) -> Option<(u32, u32)> {
        let got = |copy: &Copy| (copy.pieces.len() - copy.missing, copy.total_bytes);
        let (pieces, total_bytes) = self.copies.iter().map(got).max()?;
        Some((total_bytes, u32::try_from(pieces).unwrap_or(u32::MAX)))
    }

    /// A peer offers metadata of this size. What it has offered before is void.
    pub(super) fn offer(&mut self, now: Moment, peer: PeerKey, address: IpAddr, total_bytes: u32) {
        if let Some(source) = self.sources.get(&peer)
            && source.total_bytes == total_bytes
        {
            return;
        }
        if self.sources.contains_key(&peer) {
            return self.actions.push(Action::Contradiction(peer));
        }
        self.sources.insert(
            peer,
            Source {
                address,
                total_bytes,
                asked: BTreeMap::new(),
                late: BTreeSet::new(),
                pauses: 0,
                paused_until: Moment::ZERO,
                turns: 0,
            },
        );
        self.go_on(now);
    }

    /// A peer has gone. What it has sent stays.
    pub(super) fn leave(&mut self, now: Moment, peer: PeerKey) {
        if self.sources.remove(&peer).is_some() {
            self.go_on(now);
        }
    }

    /// A piece came.
    pub(super) fn data(
        &mut self,
        now: Moment,
        peer: PeerKey,
        piece: u32,
        total_bytes: u32,
        bytes: Bytes,
    ) {
        let Some(source) = self.sources.get_mut(&peer) else {
            return;
        };
        let asked = source.asked.remove(&piece).is_some() || source.late.remove(&piece);
        if !asked || source.total_bytes != total_bytes {
            return self.actions.push(Action::Contradiction(peer));
        }
        source.pauses = 0;
        let address = source.address;
        let copy = self.copy_of(peer, total_bytes);
        if let Some(copy) = copy.and_then(|at| self.copies.get_mut(at))
            && let Some(slot @ None) = copy.pieces.get_mut(piece as usize)
        {
            *slot = Some((peer, address, bytes));
            copy.missing -= 1;
        }
        self.go_on(now);
    }

    /// A peer does not send a piece.
    pub(super) fn reject(&mut self, now: Moment, peer: PeerKey, piece: u32) {
        if let Some(source) = self.sources.get_mut(&peer)
            && source.asked.remove(&piece).is_some()
        {
            source.pause(now);
            self.go_on(now);
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Moment) {
        self.go_on(now);
    }

    /// When time makes a difference.
    pub(super) fn deadline(&self, now: Moment) -> Option<Moment> {
        if self.done {
            return None;
        }
        let mut times = Vec::new();
        for source in self.sources.values() {
            for &since in source.asked.values() {
                times.extend([since + SECOND_CHANCE, since + TIMEOUT]);
            }
            times.push(source.paused_until);
        }
        if self.copies.len() == MAX_COPIES && self.next_copy(now).is_some() {
            times.extend(self.copies.iter().map(|copy| copy.turn_ends()));
        }
        times.into_iter().filter(|&at| at > now).min()
    }

    /// The copy that a peer works on.
    fn copy_of(&self, peer: PeerKey, total_bytes: u32) -> Option<usize> {
        let alone = self.copies.iter().position(|copy| copy.alone == Some(peer));
        let together = |copy: &Copy| copy.alone.is_none() && copy.total_bytes == total_bytes;
        alone.or_else(|| self.copies.iter().position(together))
    }

    fn go_on(&mut self, now: Moment) {
        if self.done {
            return;
        }
        self.time_out(now);
        while let Some(whole) = self.copies.iter().position(|copy| copy.missing == 0) {
            let copy = self.copies.swap_remove(whole);
            self.judge(copy);
            if self.done {
                return;
            }
        }
        self.drop_copies(now);
        while self.copies.len() < MAX_COPIES
            && let Some((total_bytes, alone)) = self.next_copy(now)
        {
            self.begin(now, total_bytes, alone);
        }
        self.ask(now);
    }

    fn time_out(&mut self, now: Moment) {
        for source in self.sources.values_mut() {
            let is_late = |since: Moment| now >= since + TIMEOUT;
            let late = source.asked.extract_if(.., |_, since| is_late(*since));
            let late: Vec<u32> = late.map(|(piece, _)| piece).collect();
            if !late.is_empty() {
                source.pause(now);
                source.late.extend(late);
            }
        }
    }

    /// What a copy that is whole says of those who made it.
    fn judge(&mut self, copy: Copy) {
        let whole: Vec<u8> = copy
            .pieces
            .iter()
            .flatten()
            .flat_map(|(_, _, bytes)| bytes.iter().copied())
            .collect();
        if is_named(&whole, &self.named) {
            return self.finish(whole.into());
        }
        let mut authors = copy.pieces.iter().flatten();
        let first = authors.next().map(|&(peer, address, _)| (peer, address));
        let only = first.filter(|(first, _)| authors.all(|(peer, _, _)| peer == first));
        if let Some((peer, address)) = only {
            return self.convict(peer, address);
        }
        self.distrusted.insert(copy.total_bytes);
        for (piece, (peer, address, bytes)) in (0..).zip(copy.pieces.into_iter().flatten()) {
            if self.evidence.len() < MAX_EVIDENCE {
                self.evidence.push(Evidence {
                    total_bytes: copy.total_bytes,
                    piece,
                    peer,
                    address,
                    digest: digest(&bytes),
                });
            }
        }
    }

    /// The right one is there: whoever sent something else for an earlier one lied.
    fn finish(&mut self, whole: Bytes) {
        self.done = true;
        let pieces: Vec<u64> = whole
            .chunks(METADATA_PIECE_LENGTH as usize)
            .map(digest)
            .collect();
        for evidence in core::mem::take(&mut self.evidence) {
            let right = pieces.get(evidence.piece as usize) == Some(&evidence.digest);
            if evidence.total_bytes as usize != whole.len() || !right {
                self.convict(evidence.peer, evidence.address);
            }
        }
        self.sources.clear();
        self.copies.clear();
        self.actions.push(Action::Done(whole));
    }

    fn convict(&mut self, peer: PeerKey, address: IpAddr) {
        let action = Action::Convict(peer, address);
        self.sources.remove(&peer);
        self.copies.retain(|copy| copy.alone != Some(peer));
        if !self.actions.contains(&action) {
            self.actions.push(action);
        }
    }

    /// Copies that nobody works on any more, and one that has had its turn while another waits.
    fn drop_copies(&mut self, now: Moment) {
        let sources = &self.sources;
        let claimed = |size: u32| sources.values().any(|source| source.total_bytes == size);
        self.distrusted.retain(|&size| claimed(size));
        let distrusted = &self.distrusted;
        self.copies.retain(|copy| match copy.alone {
            Some(peer) => sources.contains_key(&peer),
            // What peers that have left gave is worth keeping while there is room.
            None => !distrusted.contains(&copy.total_bytes),
        });
        while self.copies.len() == MAX_COPIES && self.next_copy(now).is_some() {
            let over = self
                .copies
                .iter()
                .position(|copy| self.gives_way(copy, now));
            let Some(over) = over else { return };
            let copy = self.copies.swap_remove(over);
            for (&peer, source) in &mut self.sources {
                if copy.is_by(peer, source) {
                    source.turns += 1;
                }
            }
        }
    }

    /// Whether a copy makes room where another waits: its turn is over, or all who work on it are paused.
    fn gives_way(&self, copy: &Copy, now: Moment) -> bool {
        let mut authors = self.sources.iter();
        let works = |(&peer, source): (&PeerKey, &Source)| {
            copy.is_by(peer, source) && source.paused_until <= now
        };
        copy.turn_ends() <= now || !authors.any(works)
    }

    /// The copy to begin next: of what had the fewest turns, first those that most peers can work on.
    fn next_copy(&self, now: Moment) -> Option<(u32, Option<PeerKey>)> {
        let mut together: BTreeMap<u32, (u32, usize)> = BTreeMap::new();
        let mut best = None;
        for (&peer, source) in &self.sources {
            let size = source.total_bytes;
            if source.paused_until > now || self.copy_of(peer, size).is_some() {
                continue;
            }
            if self.distrusted.contains(&size) {
                let order = (source.turns, 1, peer.0);
                best = best.into_iter().chain([(order, (size, Some(peer)))]).min();
            } else {
                let (turns, peers) = together.entry(size).or_insert((u32::MAX, 0));
                *turns = source.turns.min(*turns);
                *peers += 1;
            }
        }
        for (size, (turns, peers)) in together {
            let order = (turns, 0, u64::MAX - peers as u64);
            best = best.into_iter().chain([(order, (size, None))]).min();
        }
        best.map(|(_, copy)| copy)
    }

    fn begin(&mut self, now: Moment, total_bytes: u32, alone: Option<PeerKey>) {
        let pieces = metadata_piece_count(total_bytes) as usize;
        let mut copy = Copy {
            total_bytes,
            alone,
            pieces: vec![None; pieces],
            missing: pieces,
            since: now,
            turns: 0,
        };
        let authors = self
            .sources
            .iter()
            .filter(|(peer, source)| copy.is_by(**peer, source));
        copy.turns = authors.map(|(_, source)| source.turns).min().unwrap_or(0);
        self.copies.push(copy);
    }

    /// Gives every peer that can work as many requests as it may have.
    fn ask(&mut self, now: Moment) {
        let peers: Vec<PeerKey> = self.sources.keys().copied().collect();
        // One request each in turn, so that all take part in what is small.
        for _ in 0..MAX_ASKED {
            let before = self.actions.len();
            for &peer in &peers {
                self.ask_one(now, peer);
            }
            if self.actions.len() == before {
                return;
            }
        }
    }

    fn ask_one(&mut self, now: Moment, peer: PeerKey) {
        let Some(source) = self.sources.get(&peer) else {
            return;
        };
        if source.paused_until > now || source.asked.len() >= MAX_ASKED {
            return;
        }
        let copy = self.copy_of(peer, source.total_bytes);
        let Some(copy) = copy.and_then(|at| self.copies.get(at)) else {
            return;
        };
        let Some(piece) = self.piece_for(now, copy, source) else {
            return;
        };
        if let Some(source) = self.sources.get_mut(&peer) {
            source.asked.insert(piece, now);
            source.late.remove(&piece);
            self.actions.push(Action::Request(peer, piece));
        }
    }

    /// A missing piece that nobody who works on the copy was asked for, or one that another peer has owed for a while.
    fn piece_for(&self, now: Moment, copy: &Copy, source: &Source) -> Option<u32> {
        let mut owed: BTreeMap<u32, Moment> = BTreeMap::new();
        if copy.alone.is_none() {
            let others = self.sources.values();
            let others = others.filter(|other| other.total_bytes == copy.total_bytes);
            for (&piece, &since) in others.flat_map(|other| &other.asked) {
                let latest = owed.entry(piece).or_insert(since);
                *latest = since.max(*latest);
            }
        }
        let missing = (0u32..).zip(&copy.pieces);
        let missing = missing.filter(|(_, slot)| slot.is_none()).map(|(at, _)| at);
        let mut missing = missing.filter(|piece| !source.asked.contains_key(piece));
        let mut second = None;
        let free = missing.find(|piece| match owed.get(piece) {
            None => true,
            Some(&since) => {
                if now >= since + SECOND_CHANCE {
                    second = second.or(Some(*piece));
                }
                false
            }
        });
        free.or(second)
    }
}

impl Copy {
    /// Whether `peer` is one of those who make it.
    fn is_by(&self, peer: PeerKey, source: &Source) -> bool {
        match self.alone {
            Some(author) => author == peer,
            None => source.total_bytes == self.total_bytes,
        }
    }

    fn turn_ends(&self) -> Moment {
        self.since + TURN * (1 << self.turns.min(MAX_DOUBLINGS))
    }
}

/// Short, as it only has to tell what a peer sent from what is right.
fn digest(bytes: impl AsRef<[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.as_ref().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
