//! Which blocks a peer is asked for: availability, wishes, pieces in progress, deadlines and endgame of one torrent.
//!
//! Invariant: each block of a wanted piece is in exactly one state: open, leased to 1 to [`MAX_HOLDERS`] peers, received,
//! or verified with its piece.

mod choose;
mod due;
mod hunt;
mod ledger;
mod order;
mod partial;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;

use crate::message::{DeadlineLease, Has, PeerKey};
use crate::torrent::Priority;
use due::Readers;
use hunt::Hunt;
use order::Order;
use partial::{Attendance, Ended, Partial};
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, Block, BlockIndex, BlockRun, Layout, PieceIndex};
use slab::Slab;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// How many peers may be asked for one block at once (in endgame, or where a deadline would be missed).
pub const MAX_HOLDERS: usize = 3;

/// How many readers' claims are kept: more than any player, library or web seed opens at once.
pub const MAX_DEADLINE_LEASES: usize = 64;

/// Leases that have to be taken back: whose, and which blocks.
pub type Revocations = Vec<(PeerKey, BlockRun)>;

/// A peer's request for work.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who asks.
    pub peer: PeerKey,
    /// What it has.
    pub has: &'a Has,
    /// Only these pieces: those it serves although it chokes us (BEP 6). `None` where it does not choke us.
    pub only: Option<&'a [PieceIndex]>,
    /// Pieces it would like to be asked for (BEP 6); the last one counts most.
    pub suggested: &'a [PieceIndex],
    /// It is suspected of bad data, so that it gets pieces of its own.
    pub parole: bool,
    /// The rate at which it delivers, 0 while unknown.
    pub rate_bytes_per_s: u64,
    /// It is best asked for pieces one behind the other: one request to a web server covers them all.
    pub in_runs: bool,
}

/// What a received block was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The first copy.
    New {
        /// It was the last block that its piece missed: the piece can be verified.
        piece_complete: bool,
        /// Who else was asked for it: take those leases back.
        others: SmallVec<[PeerKey; 2]>,
    },
    /// Somebody else had delivered it. The lease is over.
    Duplicate,
    /// The peer held no lease on it, or one that had been taken back. The bytes do not count.
    Unleased,
}

/// Where a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Missing, and nothing of it is leased or received. Where it is wanted, `places` has its position in its order.
    Idle,
    /// In progress: `places` has its key among the partials.
    Partial,
    /// Verified.
    Have,
}

/// What a peer works on.
#[derive(Clone, Debug, Default)]
struct Work {
    /// Its live leases.
    leases: u32,
    /// The pieces in which it has live leases, by their keys.
    partials: SmallVec<[usize; 4]>,
}

/// Priorities above [`Priority::Skip`].
const CLASSES: usize = 3;
/// Kinds of [`Attendance`].
const ATTENDANCES: usize = 4;

/// See the module. An idle piece takes 14 bytes and five bits.
#[derive(Clone, Debug)]
pub struct Picker {
    layout: Layout,
    /// Every piece: what a seed has.
    all: Bitfield,
    have: Bitfield,
    wanted_missing: Bitfield,
    /// The complement of `wanted_missing`.
    settled: Bitfield,
    /// The complement of what the orders hold.
    closed: Bitfield,
    states: Vec<State>,
    priorities: Vec<Priority>,
    places: Vec<u32>,
    /// How many peers that are not seeds have each piece.
    availability: Vec<u32>,
    /// Idle wanted pieces by priority, the highest first.
    orders: [Order; CLASSES],
    partials: Slab<Partial>,
    /// The partials with open blocks, by priority and attendance: see [`list_of`].
    lists: [Vec<usize>; CLASSES * ATTENDANCES],
    work: BTreeMap<PeerKey, Work>,
    readers: Readers,
    sequential: bool,
    peers: u32,
    seeds: u32,
    have_count: u32,
    missing_count: u32,
    /// Blocks of all partials.
    cells: u64,
    remaining_blocks: u64,
    remaining_bytes: u64,
}

impl Picker {
    /// A picker that wants every piece of `layout` that is not in `have`.
    #[must_use]
    pub fn new(layout: Layout, have: &Bitfield, rng: &mut fastrand::Rng) -> Self {
        let count = layout.piece_count();
        let mut picker = Picker {
            all: Bitfield::full(count),
            have: Bitfield::empty(count),
            wanted_missing: Bitfield::empty(count),
            settled: Bitfield::full(count),
            closed: Bitfield::full(count),
            states: vec![State::Idle; count as usize],
            priorities: vec![Priority::Normal; count as usize],
            places: vec![0; count as usize],
            availability: vec![0; count as usize],
            orders: core::array::from_fn(|_| Order::new()),
            partials: Slab::new(),
            lists: core::array::from_fn(|_| Vec::new()),
            work: BTreeMap::new(),
            readers: Readers::default(),
            sequential: false,
            peers: 0,
            seeds: 0,
            have_count: 0,
            missing_count: 0,
            cells: 0,
            remaining_blocks: 0,
            remaining_bytes: 0,
            layout,
        };
        let mut missing = Vec::new();
        for piece in picker.layout.pieces() {
            if have.get(piece) {
                picker.states[piece.get()] = State::Have;
                picker.have.insert(piece);
                picker.have_count += 1;
            } else {
                missing.push(piece);
                picker.closed.remove(piece);
                picker.want(piece);
            }
        }
        rng.shuffle(&mut missing);
        picker.orders[class_of(Priority::Normal)] = Order::of(missing, &mut picker.places);
        picker
    }

    /// Counts a peer and what it has. Constant for [`Has::All`].
    pub fn peer_joined(&mut self, has: &Has) {
        self.peers += 1;
        match has {
            Has::All => self.seeds += 1,
            Has::None => {}
            Has::Some(pieces) => pieces.iter().for_each(|piece| self.piece_gained(piece)),
        }
    }

    /// Takes back what [`peer_joined`](Self::peer_joined) and [`piece_gained`](Self::piece_gained) counted: `has` is what
    /// the peer has at its end. Its leases have been returned before.
    pub fn peer_left(&mut self, has: &Has) {
        self.peers = self.peers.saturating_sub(1);
        match has {
            Has::All => self.seeds = self.seeds.saturating_sub(1),
            Has::None => {}
            Has::Some(pieces) => pieces.iter().for_each(|piece| self.piece_lost(piece)),
        }
    }

    /// A peer that is not counted as [`Has::All`] got this piece.
    pub fn piece_gained(&mut self, piece: PieceIndex) {
        let Some(availability) = self.availability.get_mut(piece.get()) else {
            return;
        };
        let before = *availability;
        *availability += 1;
        if !self.closed.get(piece) {
            let order = &mut self.orders[class_of(self.priorities[piece.get()])];
            order.raise(piece, before, &mut self.places);
        }
    }

    /// A peer that is not counted as [`Has::All`] lost this piece. One that is has to leave as that and to join again.
    pub fn piece_lost(&mut self, piece: PieceIndex) {
        let Some(availability) = self.availability.get_mut(piece.get()) else {
            return;
        };
        let before = *availability;
        if before == 0 {
            return;
        }
        *availability -= 1;
        if !self.closed.get(piece) {
            let order = &mut self.orders[class_of(self.priorities[piece.get()])];
            order.lower(piece, before, &mut self.places);
        }
    }

    /// Wishes for a piece. [`Priority::Skip`] forgets what was received of it and takes its leases back.
    pub fn set_priority(&mut self, piece: PieceIndex, priority: Priority) -> Revocations {
        let before = self.priority(piece);
        if before == priority || !self.layout.contains(piece) {
            return Vec::new();
        }
        let state = self.states[piece.get()];
        if state == State::Idle {
            self.leave_order(piece);
        }
        if state != State::Have && before != Priority::Skip {
            self.unwant(piece);
        }
        self.priorities[piece.get()] = priority;
        let mut revocations = Vec::new();
        if state == State::Partial && priority == Priority::Skip {
            revocations = self.abandon(self.key_of(piece));
        }
        if state != State::Have && priority != Priority::Skip {
            self.want(piece);
        }
        match self.states[piece.get()] {
            State::Idle => self.enter_order(piece),
            State::Partial => self.settle(self.key_of(piece)),
            State::Have => {}
        }
        revocations
    }

    /// Whether pieces are begun in order (true) or rarest first.
    pub fn set_sequential(&mut self, sequential: bool) {
        self.sequential = sequential;
    }

    /// A reader's claim begins or moves. Pieces that are skipped stay so. False where [`MAX_DEADLINE_LEASES`] exist.
    pub fn set_due(&mut self, lease: DeadlineLease) -> bool {
        let end = PieceIndex(self.layout.piece_count() - 1);
        self.readers.set(DeadlineLease {
            last: lease.last.min(end),
            ..lease
        })
    }

    /// A reader's claim ends.
    pub fn end_due(&mut self, id: u64) {
        self.readers.end(id);
    }

    /// Leases up to `blocks` blocks to the peer that asks and appends them to `out`.
    ///
    /// The order: what is due, what the peer works on already, what it suggests, then by priority pieces that others left
    /// or share, new pieces (the rarest first), pieces of others. Where all that is wanted and available is leased, blocks
    /// that others hold (endgame).
    pub fn pick(
        &mut self,
        now: Moment,
        ask: &Ask<'_>,
        blocks: u32,
        rng: &mut fastrand::Rng,
        out: &mut Vec<BlockRun>,
    ) {
        if blocks == 0 || self.missing_count == 0 {
            return;
        }
        let mut hunt = Hunt::new(now, ask, blocks, self.layout.piece_length(), rng, out);
        if let Some(work) = self.work.get(&ask.peer) {
            hunt.resume(work.leases, &work.partials);
        }
        self.choose(&mut hunt);
    }

    /// A peer delivered a block.
    pub fn received(&mut self, block: Block, peer: PeerKey) -> Receipt {
        if self.layout.block_length(block) == 0 {
            return Receipt::Unleased;
        }
        match self.states[block.piece.get()] {
            State::Idle => return Receipt::Unleased,
            State::Have => return Receipt::Duplicate,
            State::Partial => {}
        }
        let key = self.key_of(block.piece);
        let partial = &mut self.partials[key];
        let known = partial.cells[block.block.get()].from.is_some();
        let ended = partial.end_lease(block.block, peer);
        if ended != Ended::Live {
            self.settle(key);
            return if known {
                Receipt::Duplicate
            } else {
                Receipt::Unleased
            };
        }
        let others = partial.revoke(block.block);
        partial.receive(block.block, peer);
        let piece_complete = partial.is_complete();
        self.remaining_blocks -= 1;
        self.remaining_bytes -= u64::from(self.layout.block_length(block));
        self.unemploy(peer, key, 1);
        for &other in &others {
            self.unemploy(other, key, 1);
        }
        self.settle(key);
        Receipt::New {
            piece_complete,
            others,
        }
    }

    /// A lease is over without its block. Ignored where there is none.
    pub fn returned(&mut self, block: Block, peer: PeerKey) {
        if self.layout.block_length(block) == 0 || !self.is_in_progress(block.piece) {
            return;
        }
        let key = self.key_of(block.piece);
        if self.partials[key].end_lease(block.block, peer) == Ended::Live {
            self.unemploy(peer, key, 1);
        }
        self.settle(key);
    }

    /// We have this piece. The leases that still exist on it, if any, have to be taken back.
    pub fn verified(&mut self, piece: PieceIndex) -> Revocations {
        if !self.layout.contains(piece) || self.have.get(piece) {
            return Vec::new();
        }
        if self.priority(piece) != Priority::Skip {
            self.unwant(piece);
        }
        let mut revocations = Vec::new();
        if self.states[piece.get()] == State::Partial {
            let key = self.key_of(piece);
            revocations = self.abandon(key);
            self.remove_partial(key);
        } else {
            self.leave_order(piece);
        }
        self.states[piece.get()] = State::Have;
        self.have.insert(piece);
        self.have_count += 1;
        revocations
    }

    /// The piece was complete and wrong: these blocks are open again, or all of them where `bad` names none that was
    /// received. Ask for [`sources`](Self::sources) before.
    pub fn failed(&mut self, piece: PieceIndex, bad: &[BlockIndex]) {
        if self.reopen(piece, bad.iter().copied()) == 0 {
            self.dropped(piece);
        }
    }

    /// The received blocks of a piece could not be kept and are open again.
    pub fn dropped(&mut self, piece: PieceIndex) {
        self.reopen(piece, (0..self.layout.block_count(piece)).map(BlockIndex));
    }

    /// We do not have this piece any more.
    pub fn lost(&mut self, piece: PieceIndex) {
        if !self.have.remove(piece) {
            return;
        }
        self.have_count -= 1;
        self.states[piece.get()] = State::Idle;
        if self.priority(piece) != Priority::Skip {
            self.want(piece);
        }
        self.enter_order(piece);
    }

    /// Who delivered each received block of a piece that is not verified yet, by rising block.
    #[must_use]
    pub fn sources(&self, piece: PieceIndex) -> Vec<(BlockIndex, PeerKey)> {
        self.partial_of(piece)
            .into_iter()
            .flat_map(Partial::blocks)
            .filter_map(|(block, cell)| cell.from.map(|from| (block, from)))
            .collect()
    }

    /// Who delivered blocks of a piece that is not verified yet, each once, rising.
    #[must_use]
    pub fn contributors(&self, piece: PieceIndex) -> SmallVec<[PeerKey; 4]> {
        let mut peers: SmallVec<[PeerKey; 4]> = self
            .partial_of(piece)
            .into_iter()
            .flat_map(|partial| partial.cells.iter().filter_map(|cell| cell.from))
            .collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    /// Who is asked for a block, in the order of asking.
    #[must_use]
    pub fn holders(&self, block: Block) -> SmallVec<[PeerKey; 2]> {
        self.partial_of(block.piece)
            .and_then(|partial| partial.cells.get(block.block.get()))
            .into_iter()
            .flat_map(|cell| cell.holders().map(|holder| holder.peer))
            .collect()
    }

    /// Whether blocks of this piece are leased or received, but the piece is not verified.
    #[must_use]
    pub fn is_in_progress(&self, piece: PieceIndex) -> bool {
        self.states.get(piece.get()) == Some(&State::Partial)
    }

    /// How many connected peers have this piece, seeds included.
    #[must_use]
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        let counted = self.availability.get(piece.get());
        counted.map_or(0, |counted| counted + self.seeds)
    }

    /// Whether a connected peer that is no seed has this piece.
    #[must_use]
    pub fn is_with_leechers(&self, piece: PieceIndex) -> bool {
        self.availability
            .get(piece.get())
            .is_some_and(|&counted| counted > 0)
    }

    /// How much this piece is wanted; [`Priority::Skip`] beyond the end.
    #[must_use]
    pub fn priority(&self, piece: PieceIndex) -> Priority {
        let known = self.priorities.get(piece.get());
        known.copied().unwrap_or(Priority::Skip)
    }

    /// Whether a peer with these pieces has one that we want and do not have.
    #[must_use]
    pub fn is_interesting(&self, has: &Has) -> bool {
        match has {
            Has::All => self.missing_count > 0,
            Has::None => false,
            Has::Some(pieces) => pieces.exceeds(&self.settled),
        }
    }

    /// The pieces we have: verified.
    #[must_use]
    pub const fn have(&self) -> &Bitfield {
        &self.have
    }

    /// The pieces we want and do not have.
    #[must_use]
    pub const fn wanted_missing(&self) -> &Bitfield {
        &self.wanted_missing
    }

    /// Wanted blocks that were not received yet.
    #[must_use]
    pub const fn remaining_blocks(&self) -> u64 {
        self.remaining_blocks
    }

    /// Bytes of the wanted blocks that were not received yet.
    #[must_use]
    pub const fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    /// Whether every wanted piece is verified.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing_count == 0
    }

    /// How the torrent is cut.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }
}

/// The order and lists of a priority above [`Priority::Skip`], the highest first.
const fn class_of(priority: Priority) -> usize {
    match priority {
        Priority::Highest => 0,
        Priority::High => 1,
        Priority::Normal | Priority::Skip => 2,
    }
}

const fn list_of(class: usize, attendance: Attendance) -> usize {
    class * ATTENDANCES + attendance as usize
}
