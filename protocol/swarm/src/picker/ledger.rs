//! The picker's books: what moves a piece between idle, in progress and had, and keeps every list and count in step.
//!
//! Invariant: an idle wanted piece is in the order of its priority and nowhere else; a partial with open blocks is in the list
//! of its priority and attendance; a peer's work names exactly the partials in which it has live leases.

use super::partial::Partial;
use super::{
    Block, BlockIndex, BlockRun, PeerKey, Picker, PieceIndex, Priority, Revocations, State,
    class_of, list_of,
};

impl Picker {
    /// The key of a piece in progress.
    pub(super) fn key_of(&self, piece: PieceIndex) -> usize {
        self.places[piece.get()] as usize
    }

    pub(super) fn partial_of(&self, piece: PieceIndex) -> Option<&Partial> {
        let partial = self.is_in_progress(piece);
        partial.then(|| &self.partials[self.key_of(piece)])
    }

    /// Counts a missing piece as wanted.
    pub(super) fn want(&mut self, piece: PieceIndex) {
        let (blocks, bytes) = self.unreceived(piece);
        self.remaining_blocks += blocks;
        self.remaining_bytes += bytes;
        self.missing_count += 1;
        self.wanted_missing.insert(piece);
        self.settled.remove(piece);
        self.readers.reopened(piece);
    }

    pub(super) fn unwant(&mut self, piece: PieceIndex) {
        let (blocks, bytes) = self.unreceived(piece);
        self.remaining_blocks -= blocks;
        self.remaining_bytes -= bytes;
        self.missing_count -= 1;
        self.wanted_missing.remove(piece);
        self.settled.insert(piece);
    }

    /// The blocks of a missing piece that are not received, and their bytes.
    fn unreceived(&self, piece: PieceIndex) -> (u64, u64) {
        let all = u64::from(self.layout.block_count(piece));
        let bytes = u64::from(self.layout.length_of(piece));
        let Some(partial) = self.partial_of(piece) else {
            return (all, bytes);
        };
        let received = partial.blocks().filter(|(_, cell)| cell.from.is_some());
        let received_bytes: u64 = received
            .map(|(block, _)| u64::from(self.layout.block_length(Block { piece, block })))
            .sum();
        (all - u64::from(partial.received), bytes - received_bytes)
    }

    /// Lets an idle piece be begun, if it is wanted.
    pub(super) fn enter_order(&mut self, piece: PieceIndex) {
        let priority = self.priorities[piece.get()];
        if priority != Priority::Skip && self.closed.remove(piece) {
            let availability = self.availability[piece.get()];
            self.orders[class_of(priority)].insert(piece, availability, &mut self.places);
        }
    }

    pub(super) fn leave_order(&mut self, piece: PieceIndex) {
        if self.closed.insert(piece) {
            let order = &mut self.orders[class_of(self.priorities[piece.get()])];
            order.remove(piece, self.availability[piece.get()], &mut self.places);
        }
    }

    /// Begins an idle wanted piece.
    pub(super) fn begin(&mut self, piece: PieceIndex) -> usize {
        self.leave_order(piece);
        let blocks = self.layout.block_count(piece);
        self.cells += u64::from(blocks);
        let key = self.partials.insert(Partial::new(piece, blocks));
        self.states[piece.get()] = State::Partial;
        // No more partials than pieces exist, and those are counted in 32 bits.
        self.places[piece.get()] = u32::try_from(key).unwrap_or(u32::MAX);
        key
    }

    /// After any change to a partial: puts it into the list where it belongs, or back among the idle pieces.
    pub(super) fn settle(&mut self, key: usize) {
        let partial = &self.partials[key];
        if partial.is_idle() {
            let piece = partial.piece;
            self.remove_partial(key);
            self.states[piece.get()] = State::Idle;
            self.enter_order(piece);
            return;
        }
        let priority = self.priorities[partial.piece.get()];
        let belongs = (partial.open > 0 && priority != Priority::Skip)
            .then(|| list_of(class_of(priority), partial.attendance()));
        if partial.listed.map(|(list, _)| list) == belongs {
            return;
        }
        self.unlist(key);
        if let Some(list) = belongs {
            self.partials[key].listed = Some((list, self.lists[list].len()));
            self.lists[list].push(key);
        }
    }

    fn unlist(&mut self, key: usize) {
        if let Some((list, at)) = self.partials[key].listed.take() {
            self.lists[list].swap_remove(at);
            if let Some(&moved) = self.lists[list].get(at) {
                self.partials[moved].listed = Some((list, at));
            }
        }
    }

    /// Takes all live leases of a partial back and forgets its received blocks.
    pub(super) fn abandon(&mut self, key: usize) -> Revocations {
        let partial = &mut self.partials[key];
        let piece = partial.piece;
        let blocks = u32::try_from(partial.cells.len()).unwrap_or(u32::MAX);
        let mut revoked = Vec::new();
        for block in (0..blocks).map(BlockIndex) {
            let peers = partial.revoke(block);
            revoked.extend(peers.into_iter().map(|peer| (peer, block)));
        }
        partial.forget((0..blocks).map(BlockIndex));
        revoked.sort_unstable();
        let mut revocations = Revocations::new();
        for (peer, block) in revoked {
            self.unemploy(peer, key, 1);
            match revocations.last_mut() {
                Some((last, run)) if *last == peer && run.first.0 + run.count == block.0 => {
                    run.count += 1;
                }
                _ => revocations.push((peer, BlockRun::one(Block { piece, block }))),
            }
        }
        revocations
    }

    pub(super) fn remove_partial(&mut self, key: usize) {
        self.unlist(key);
        let partial = self.partials.remove(key);
        self.cells -= partial.cells.len() as u64;
    }

    /// Opens received blocks again; returns how many.
    pub(super) fn reopen(
        &mut self,
        piece: PieceIndex,
        blocks: impl Iterator<Item = BlockIndex>,
    ) -> u32 {
        if !self.is_in_progress(piece) {
            return 0;
        }
        let key = self.key_of(piece);
        let wanted = self.wanted_missing.get(piece);
        if wanted {
            self.unwant(piece);
        }
        let opened = self.partials[key].forget(blocks);
        if wanted {
            self.want(piece);
        }
        self.settle(key);
        opened
    }

    pub(super) fn employ(&mut self, peer: PeerKey, key: usize, leases: u32) {
        let work = self.work.entry(peer).or_default();
        work.leases += leases;
        if !work.partials.contains(&key) {
            work.partials.push(key);
        }
    }

    /// Live leases of a peer on a partial have ended there already.
    pub(super) fn unemploy(&mut self, peer: PeerKey, key: usize, leases: u32) {
        let Some(work) = self.work.get_mut(&peer) else {
            return;
        };
        work.leases -= leases;
        if !self.partials[key].has_worker(peer) {
            work.partials.retain(|&mut partial| partial != key);
        }
        if work.leases == 0 {
            self.work.remove(&peer);
        }
    }
}
