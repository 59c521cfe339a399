//! Who fetches what: wishes become leases, leases become received blocks or come back.
//!
//! Invariant: a block is leased to a peer only if that peer's session cannot still hold an earlier lease on it.

use super::peer::Peer;
use super::{MAX_SERVED_PER_INPUT, Output, RETRY, Torrent};
use crate::message::{CloseReason, FromPeer, Has, PeerKey, ReturnReason, ToPeer};
use crate::peer_session::Pieces;
use crate::picker::{Ask, Receipt};
use shoal_machine::Sighting;
use shoal_metainfo::{BlockRun, PieceIndex};

impl Torrent {
    pub(super) fn on_peer(&mut self, key: PeerKey, message: FromPeer) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        match message {
            FromPeer::Joined { has, fast } => {
                peer.fast = fast;
                self.on_joined(key, &has);
            }
            FromPeer::Have(piece) => self.on_have(key, piece),
            FromPeer::DontHave(piece) => self.on_dont_have(key, piece),
            FromPeer::HasOnly(has) => self.on_has_only(key, &has),
            FromPeer::Interested(interested) => {
                peer.interested = interested;
                peer.indifferent_since = self.now;
            }
            FromPeer::UploadOnly(upload_only) => {
                peer.upload_only = upload_only;
                self.close_if_useless(key);
            }
            FromPeer::Want {
                blocks,
                rate_bytes_per_s,
            } => {
                peer.wish = blocks;
                peer.rate_bytes_per_s = rate_bytes_per_s;
                self.wake(key);
            }
            FromPeer::Choking(chokes) => {
                peer.chokes_us = chokes;
                peer.wish = 0;
                self.starved.remove(&key);
            }
            FromPeer::AllowedFast(piece) => peer.allowed_fast.push(piece),
            FromPeer::Suggested(piece) => peer.suggest(piece),
            FromPeer::Received(runs) => self.on_received(key, &runs),
            FromPeer::Returned { runs, reason } => self.on_returned(key, &runs, reason),
            FromPeer::Report(report) => {
                peer.report = report;
                self.offer(key);
            }
            FromPeer::ListensAt(port) => {
                peer.listens_at = Some(port);
                self.contacts_changed();
            }
            FromPeer::SeesUsAt(at) => {
                let by = peer.address().map(|address| address.ip());
                let sighting = by.map(|by| Output::Seen(Sighting { by, at }));
                self.outputs.extend(sighting);
            }
            FromPeer::Introduced(addresses) => self.on_introduced(key, addresses),
            FromPeer::Punches(supported) => self.on_punches(key, supported),
            FromPeer::HolePunch(message) => self.on_hole_punch(key, message),
            FromPeer::Left(reason) => self.on_left(key, &reason),
        }
    }

    fn on_joined(&mut self, key: PeerKey, has: &Has) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.has.is_none()) else {
            return;
        };
        let pieces = Pieces::new(has.clone(), self.layout.piece_count());
        self.picker.peer_joined(has);
        peer.has = Some(pieces);
        peer.recount(self.picker.wanted_missing());
        self.show_interest(key);
        self.introduce(key);
        self.on_first_seen(key, has);
        self.close_if_useless(key);
    }

    fn on_have(&mut self, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(has) = &mut peer.has else { return };
        if !has.insert(piece) {
            return;
        }
        self.picker.piece_gained(piece);
        // The picker counts seeds apart: whoever has become one leaves with its bitfield and joins again.
        if matches!(has.has(), Has::All) {
            let full = shoal_metainfo::Bitfield::full(self.layout.piece_count());
            self.picker.peer_left(&Has::Some(full));
            self.picker.peer_joined(&Has::All);
        }
        self.on_offer_taken(key, piece);
        self.on_seen(key, piece);
        if self.picker.wanted_missing().get(piece)
            && let Some(peer) = self.peers.get_mut(&key)
        {
            peer.interesting += 1;
            self.show_interest(key);
            if self.starved.contains(&key) {
                self.wake(key);
            }
        }
        self.close_if_useless(key);
    }

    fn on_dont_have(&mut self, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(has) = peer.has.as_mut().filter(|has| has.contains(piece)) else {
            return;
        };
        if matches!(has.has(), Has::All) {
            self.picker.peer_left(&Has::All);
            has.remove(piece);
            self.picker.peer_joined(has.has());
        } else {
            has.remove(piece);
            self.picker.piece_lost(piece);
        }
        if self.picker.wanted_missing().get(piece) {
            peer.interesting -= 1;
            self.show_interest(key);
        }
    }

    fn on_has_only(&mut self, key: PeerKey, has: &Has) {
        let pieces = self.layout.piece_count();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(before) = &mut peer.has else { return };
        self.picker.peer_left(before.has());
        self.picker.peer_joined(has);
        *before = Pieces::new(has.clone(), pieces);
        peer.recount(self.picker.wanted_missing());
        self.show_interest(key);
    }

    /// Says interested or not interested where that has changed.
    fn show_interest(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let interested = peer.interesting > 0;
        if interested == peer.we_are_interested || peer.closing {
            return;
        }
        peer.we_are_interested = interested;
        peer.indifferent_since = self.now;
        peer.wish = 0;
        self.starved.remove(&key);
        self.tell(key, ToPeer::Interested(interested));
    }

    pub(super) fn review_interest(&mut self) {
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        keys.into_iter().for_each(|key| self.show_interest(key));
    }

    /// A piece is missing that was not (true), or is not any more: counts again for those who have it.
    pub(super) fn count_missing(&mut self, piece: PieceIndex, missing: bool) {
        for peer in self.peers.values_mut().filter(|peer| peer.has(piece)) {
            if missing {
                peer.interesting += 1;
            } else {
                peer.interesting -= 1;
            }
        }
        let changed = |peer: &Peer| (peer.interesting > 0) != peer.we_are_interested;
        let keys: Vec<PeerKey> = self
            .peers
            .iter()
            .filter(|(_, peer)| changed(peer))
            .map(|(&key, _)| key)
            .collect();
        keys.into_iter().for_each(|key| self.show_interest(key));
    }

    /// Puts a peer into the queue for work.
    fn wake(&mut self, key: PeerKey) {
        self.starved.remove(&key);
        if let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.queued) {
            peer.queued = true;
            self.hungry.push_back(key);
        }
    }

    /// There may be work again for those who found none.
    pub(super) fn wake_all(&mut self) {
        for key in core::mem::take(&mut self.starved) {
            self.wake(key);
        }
    }

    /// Hands out work: to a bounded number of peers, the others come with the next tick.
    pub(super) fn feed(&mut self) {
        if self.suspended || self.stopped || self.rechecking {
            return;
        }
        let mut served = 0;
        while served < MAX_SERVED_PER_INPUT {
            let Some(key) = self.hungry.pop_front() else {
                break;
            };
            served += u32::from(self.serve(key));
        }
        if !self.starved.is_empty() && self.retry_at.is_none() {
            self.retry_at = Some(self.now + RETRY);
        }
    }

    /// Leases what one peer wishes for, as far as there is something; returns whether it was worth trying.
    fn serve(&mut self, key: PeerKey) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            return false;
        };
        peer.queued = false;
        let Some(has) = peer.has.as_ref().filter(|_| peer.can_fetch()) else {
            return false;
        };
        let ask = Ask {
            peer: key,
            has: has.has(),
            only: peer.chokes_us.then_some(peer.allowed_fast.as_slice()),
            // Until it has given a right piece, it has no say in what we fetch from it: a liar would be given more to spoil.
            suggested: if peer.proved { &peer.suggested } else { &[] },
            parole: self.smart_ban.is_on_parole(peer.source()),
            rate_bytes_per_s: peer.rate_bytes_per_s,
            in_runs: peer.is_web_seed(),
        };
        let mut picked = Vec::new();
        self.picker
            .pick(self.now, &ask, peer.wish, &mut self.rng, &mut picked);
        let mut runs = Vec::new();
        for block in picked.into_iter().flat_map(BlockRun::blocks) {
            let unsettled = self.verdicts.contains_key(&block.piece);
            if !unsettled && peer.leases.insert(block) {
                peer.wish = peer.wish.saturating_sub(1);
                BlockRun::push(&mut runs, block);
            } else {
                // Storage is done with the piece, or an earlier lease was taken back and its return is on its way: nobody
                // could tell the two apart.
                self.picker.returned(block, key);
            }
        }
        if peer.wish > 0 {
            self.starved.insert(key);
        }
        if !runs.is_empty() {
            self.tell(key, ToPeer::Lease(runs));
        }
        true
    }

    fn on_received(&mut self, key: PeerKey, runs: &[BlockRun]) {
        let mut revocations = Vec::new();
        for block in runs.iter().flat_map(|run| run.blocks()) {
            let Some(peer) = self.peers.get_mut(&key) else {
                return;
            };
            if !peer.leases.remove(&block) {
                continue;
            }
            match self.picker.received(block, key) {
                Receipt::New { others, .. } => {
                    peer.contributed = true;
                    let run = BlockRun::one(block);
                    revocations.extend(others.into_iter().map(|other| (other, run)));
                }
                receipt => {
                    if receipt == Receipt::Duplicate {
                        let sources = self.doubtful.entry(block.piece).or_default();
                        sources.insert((block.block, peer.source()));
                    }
                    self.wasted_bytes += u64::from(self.layout.block_length(block));
                }
            }
        }
        self.revoke(revocations);
        self.settle_all(runs);
    }

    /// What came back may be what the verdict on a piece waits for.
    fn settle_all(&mut self, runs: &[BlockRun]) {
        if !self.verdicts.is_empty() {
            runs.iter().for_each(|run| self.settle(run.piece));
        }
    }

    fn on_returned(&mut self, key: PeerKey, runs: &[BlockRun], reason: ReturnReason) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        for block in runs.iter().flat_map(|run| run.blocks()) {
            if !peer.leases.remove(&block) {
                continue;
            }
            if reason == ReturnReason::Duplicate {
                self.wasted_bytes += u64::from(self.layout.block_length(block));
            }
            // Whoever was first announces it. If nobody can, storage has a block of which the torrent does not know.
            if reason == ReturnReason::Duplicate && self.picker.holders(block)[..] == [key] {
                let _receipt = self.picker.received(block, key);
            } else {
                self.picker.returned(block, key);
            }
        }
        self.settle_all(runs);
        // What we took back ourselves, or have, is no new work.
        if !matches!(reason, ReturnReason::Cancelled | ReturnReason::Duplicate) {
            self.wake_all();
        }
    }

    /// The connection is over. Leases that crossed its farewell are open again.
    fn on_left(&mut self, key: PeerKey, reason: &CloseReason) {
        let Some(peer) = self.peers.remove(&key) else {
            return;
        };
        let mut leases = Vec::new();
        for &block in &peer.leases {
            self.picker.returned(block, key);
            BlockRun::push(&mut leases, block);
        }
        if let Some(has) = &peer.has {
            self.picker.peer_left(has.has());
        }
        self.open -= u32::from(!peer.closing && !peer.is_web_seed());
        self.withdraw_offers(&peer.offered);
        self.hide_again(&peer);
        self.starved.remove(&key);
        self.remember_departed(key, &peer);
        self.forget_connection(&peer, reason);
        self.settle_all(&leases);
        self.wake_all();
    }
}
