//! One pick while it goes on: who asks, how much is left to find, and when the next block would arrive.

use super::{Ask, Block, BlockRun, PieceIndex};
use crate::message::Has;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::BLOCK_LENGTH;
use smallvec::SmallVec;

/// A peer that fetches a whole piece within this time gets pieces for itself: nobody holds up its piece, and a bad piece has
/// one author.
const WHOLE_PIECE_S: u64 = 30;

/// When a block is expected from a peer whose rate is unknown.
const UNKNOWN_ARRIVAL: Duration = Duration::from_secs(10);

pub(super) struct Hunt<'a> {
    pub(super) now: Moment,
    pub(super) ask: &'a Ask<'a>,
    /// Blocks still to find.
    pub(super) left: u32,
    pub(super) fast: bool,
    /// Live leases of the peer, those of this pick included.
    pub(super) leased: u32,
    /// The pieces in which the peer had live leases before, by their keys.
    pub(super) own: SmallVec<[usize; 4]>,
    /// What a block takes; 0 where the peer's rate is unknown.
    per_block_ns: u64,
    /// When one block more than it has been asked for would be here.
    arrival: Moment,
    pub(super) rng: &'a mut fastrand::Rng,
    out: &'a mut Vec<BlockRun>,
}

impl<'a> Hunt<'a> {
    pub(super) fn new(
        now: Moment,
        ask: &'a Ask<'a>,
        blocks: u32,
        piece_length: u32,
        rng: &'a mut fastrand::Rng,
        out: &'a mut Vec<BlockRun>,
    ) -> Self {
        let rate = ask.rate_bytes_per_s;
        let per_block_ns = (u64::from(BLOCK_LENGTH) * 1_000_000_000).checked_div(rate);
        let first = per_block_ns.map_or(UNKNOWN_ARRIVAL, Duration::from_nanos);
        Hunt {
            now,
            ask,
            left: blocks,
            fast: rate.saturating_mul(WHOLE_PIECE_S) >= u64::from(piece_length),
            leased: 0,
            own: SmallVec::new(),
            per_block_ns: per_block_ns.unwrap_or(0),
            arrival: now + first,
            rng,
            out,
        }
    }

    /// Whether the peer would serve a piece now.
    pub(super) fn serves(&self, piece: PieceIndex) -> bool {
        holds(self.ask.has, piece) && self.ask.only.is_none_or(|only| only.contains(&piece))
    }

    /// Counts the leases that the peer had before, and the pieces that they are in.
    pub(super) fn resume(&mut self, leased: u32, own: &[usize]) {
        self.leased = leased;
        self.own = SmallVec::from_slice(own);
        self.arrival = self.later(leased);
    }

    /// The last piece of which it was given blocks in this pick.
    pub(super) fn last_piece(&self) -> Option<PieceIndex> {
        self.out.last().map(|run| run.piece)
    }

    /// When one block more than it has been asked for would be here.
    pub(super) fn arrival(&self) -> Moment {
        self.arrival
    }

    /// When so many blocks more would be here.
    fn later(&self, blocks: u32) -> Moment {
        let blocks_ns = self.per_block_ns.saturating_mul(u64::from(blocks));
        Moment::from_nanos(self.arrival.as_nanos().saturating_add(blocks_ns))
    }

    /// Notes a lease; returns when its block is expected.
    pub(super) fn take(&mut self, block: Block) -> Moment {
        let arrival = self.arrival;
        BlockRun::push(self.out, block);
        self.left -= 1;
        self.leased += 1;
        self.arrival = self.later(1);
        arrival
    }
}

pub(super) fn holds(has: &Has, piece: PieceIndex) -> bool {
    match has {
        Has::All => true,
        Has::None => false,
        Has::Some(pieces) => pieces.get(piece),
    }
}
