//! Super-seeding (BEP 16): a seed that shows each peer a few pieces at a time, so that it sends hardly a piece twice before the others
//! have all of them between them.
//!
//! It claims to have nothing. A peer is shown pieces that nobody has been seen with, and the next one when one of them was seen at somebody
//! else: whoever passes on is served. Once every piece has been seen elsewhere, it is a seed like any other, and suggests
//! ([`offers`](super::offers)).
//!
//! Invariant: a peer is shown at most [`MOST_SHOWN`] pieces that it has not passed on, as far as that could be seen or waited for.

use super::peer::Peer;
use super::{Output, PeerKey, ToPeer, Torrent};
use crate::message::Has;
use core::time::Duration;
use shoal_machine::{Moment, earliest};
use shoal_metainfo::{Bitfield, PieceIndex};

/// A peer that may fetch is shown the piece that it fetches and those that it can have passed on meanwhile.
pub(super) const MOST_SHOWN: usize = 3;

/// One that may not is shown something to be interested in.
const SHOWN_WHILE_CHOKED: usize = 1;

/// So long after a peer had a piece it is shown the next, even where nobody else was seen with it: its peers may not be ours.
const PATIENCE: Duration = Duration::from_secs(30);

/// A piece that a peer was shown and has not passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    piece: PieceIndex,
    /// When it was seen to have it.
    had_at: Option<Moment>,
}

/// What a super-seed keeps in mind. A torrent that is none has none of this.
#[derive(Debug)]
pub(super) struct SuperSeed {
    /// Pieces that nobody else has ever been seen with.
    unseen: Bitfield,
    /// To how many peers each piece is shown.
    shown_to: Vec<u16>,
    /// When somebody's patience may be over.
    pub(super) due: Option<Moment>,
}

impl SuperSeed {
    pub(super) fn new(pieces: u32) -> Self {
        SuperSeed {
            unseen: Bitfield::full(pieces),
            shown_to: vec![0; pieces as usize],
            due: None,
        }
    }

    /// The piece to show to a peer that can fetch it, from `first` on: one that is shown to nobody. Where there is none, an `idle` peer gets
    /// one that is shown to as few as possible, as those may not fetch it.
    fn choose(&self, peer: &Peer, first: u32, idle: bool) -> Option<PieceIndex> {
        let pieces = u32::try_from(self.shown_to.len()).unwrap_or(u32::MAX);
        let mut best: Option<(u16, PieceIndex)> = None;
        for piece in (first..pieces).chain(0..first).map(PieceIndex) {
            if !self.unseen.get(piece) || peer.was_shown(piece) {
                continue;
            }
            let others = self.shown_to.get(piece.get()).copied().unwrap_or(0);
            if others == 0 {
                return Some(piece);
            }
            if best.is_none_or(|(fewest, _)| others < fewest) {
                best = Some((others, piece));
            }
        }
        best.filter(|_| idle).map(|(_, piece)| piece)
    }
}

impl Torrent {
    /// Whether it is a super-seed at the moment.
    #[must_use]
    pub const fn is_super_seeding(&self) -> bool {
        self.super_seed.is_some()
    }

    /// Begins to be one, where everything is there, or ceases to. Who is connected has been told everything, and is not shown anything.
    pub(super) fn set_super_seed(&mut self, wanted: bool) {
        if self.rechecking {
            self.super_seeds_again = wanted;
            return;
        }
        if !wanted {
            return self.end_super_seeding();
        }
        if self.is_super_seeding() || !self.picker.have().is_full() {
            return;
        }
        let pieces = self.layout.piece_count();
        let mut state = SuperSeed::new(pieces);
        for piece in self.layout.pieces() {
            if self.picker.availability(piece) > 0 {
                state.unseen.remove(piece);
            }
        }
        if state.unseen.is_clear() {
            return;
        }
        self.super_seed = Some(state);
        for peer in self.peers.values_mut() {
            peer.ever_shown = Some(Bitfield::full(pieces));
        }
    }

    /// What a new session is to say that we have: nothing, where we super-seed.
    #[must_use]
    pub fn claims(&self) -> Has {
        if self.is_super_seeding() {
            return Has::None;
        }
        Has::from_bitfield(self.have().clone())
    }

    /// Whether a new session is to say that we will not download (BEP 21). A super-seed keeps that to itself, as nobody needs a peer that
    /// has nothing and wants nothing.
    #[must_use]
    pub const fn claims_upload_only(&self) -> bool {
        self.complete && !self.is_super_seeding()
    }

    /// Shows a peer as many pieces more as it may see.
    pub(super) fn show_pieces(&mut self, key: PeerKey) {
        let mut news = Vec::new();
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| is_taker(peer)) else {
            return;
        };
        let Some(state) = &mut self.super_seed else {
            return;
        };
        let most = if peer.unchoked {
            MOST_SHOWN
        } else {
            SHOWN_WHILE_CHOKED
        };
        while peer.shown.len() < most {
            let first = self.rng.u32(..self.layout.piece_count());
            let Some(piece) = state.choose(peer, first, peer.shown.is_empty()) else {
                break;
            };
            peer.show(piece, self.layout.piece_count());
            if let Some(others) = state.shown_to.get_mut(piece.get()) {
                *others = others.saturating_add(1);
            }
            news.push(piece);
        }
        if !news.is_empty() {
            self.tell(key, ToPeer::Have(news));
        }
    }

    /// A peer has joined with these pieces.
    pub(super) fn on_first_seen(&mut self, key: PeerKey, has: &Has) {
        let Some(state) = &mut self.super_seed else {
            return;
        };
        match has {
            Has::None => {}
            Has::All => state.unseen = Bitfield::empty(self.layout.piece_count()),
            Has::Some(field) => field.iter().for_each(|piece| {
                state.unseen.remove(piece);
            }),
        }
        self.end_if_all_seen();
        self.show_pieces(key);
    }

    /// A peer has got a piece: whoever was shown it may have passed it on, and is shown the next one.
    pub(super) fn on_seen(&mut self, key: PeerKey, piece: PieceIndex) {
        let Some(state) = &mut self.super_seed else {
            return;
        };
        state.unseen.remove(piece);
        self.end_if_all_seen();
        let could_take =
            |(other, peer): (PeerKey, &Peer)| other != key && is_taker(peer) && !peer.has(piece);
        let passed_on = self.picker.availability(piece) > 1 || !self.open_peers().any(could_take);
        let now = self.now;
        let mut served = Vec::new();
        for (&holder, peer) in &mut self.peers {
            let Some(at) = peer.shown.iter().position(|shown| shown.piece == piece) else {
                continue;
            };
            if holder != key || passed_on {
                peer.shown.swap_remove(at);
                served.push(holder);
            } else if let Some(shown) = peer.shown.get_mut(at) {
                shown.had_at.get_or_insert(now);
            }
        }
        if let Some(state) = &mut self.super_seed {
            state.due = earliest(state.due, Some(now + PATIENCE));
            if let Some(others) = state.shown_to.get_mut(piece.get()) {
                let served = u16::try_from(served.len()).unwrap_or(u16::MAX);
                *others = others.saturating_sub(served);
            }
        }
        served.into_iter().for_each(|key| self.show_pieces(key));
    }

    /// Shows more to those whose pieces nobody was seen with for long.
    pub(super) fn review_shown(&mut self) {
        let now = self.now;
        let Some(state) = &mut self.super_seed else {
            return;
        };
        if state.due.is_none_or(|due| due > now) {
            return;
        }
        state.due = None;
        let mut served = Vec::new();
        for (&key, peer) in &mut self.peers {
            let before = peer.shown.len();
            peer.shown.retain(|shown| {
                let until = shown.had_at.map(|at| at + PATIENCE);
                let is_over = until.is_some_and(|until| until <= now);
                if is_over {
                    if let Some(others) = state.shown_to.get_mut(shown.piece.get()) {
                        *others = others.saturating_sub(1);
                    }
                } else {
                    state.due = earliest(state.due, until);
                }
                !is_over
            });
            if peer.shown.len() < before {
                served.push(key);
            }
        }
        served.into_iter().for_each(|key| self.show_pieces(key));
    }

    /// What was shown to somebody who is gone is for others to see.
    pub(super) fn hide_again(&mut self, peer: &Peer) {
        let Some(state) = &mut self.super_seed else {
            return;
        };
        for shown in &peer.shown {
            if let Some(others) = state.shown_to.get_mut(shown.piece.get()) {
                *others = others.saturating_sub(1);
            }
        }
    }

    fn end_if_all_seen(&mut self) {
        let all_seen = |state: &SuperSeed| state.unseen.is_clear();
        if self.super_seed.as_ref().is_some_and(all_seen) {
            self.end_super_seeding();
        }
    }

    /// From here on a seed like any other: says what it has.
    pub(super) fn end_super_seeding(&mut self) {
        if self.super_seed.take().is_none() {
            return;
        }
        for peer in self.peers.values_mut() {
            (peer.shown, peer.ever_shown) = (Vec::new(), None);
        }
        let pieces = self.have().iter().collect();
        for news in [ToPeer::Have(pieces), ToPeer::UploadOnly(self.complete)] {
            self.outputs.push_back(Output::Broadcast(news));
        }
    }
}

impl Peer {
    fn was_shown(&self, piece: PieceIndex) -> bool {
        let shown = self.ever_shown.as_ref();
        self.has(piece) || shown.is_some_and(|shown| shown.get(piece))
    }

    fn show(&mut self, piece: PieceIndex, pieces: u32) {
        let ever = self
            .ever_shown
            .get_or_insert_with(|| Bitfield::empty(pieces));
        ever.insert(piece);
        self.shown.push(Shown {
            piece,
            had_at: None,
        });
    }
}

fn is_taker(peer: &Peer) -> bool {
    let joined = peer.has.is_some() && !peer.closing && !peer.is_web_seed();
    joined && !peer.is_seed() && !peer.upload_only
}
