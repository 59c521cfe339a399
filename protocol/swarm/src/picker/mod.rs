//! Which blocks a peer is asked for: availability, wishes, pieces in progress, deadlines and endgame of one torrent.
//!
//! Invariant: each block of a wanted piece is in exactly one state: open, leased to 1 to [`MAX_HOLDERS`] peers, received,
//! or verified with its piece.

use crate::message::{DeadlineLease, Has, PeerKey};
use crate::torrent::Priority;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, Block, BlockIndex, BlockRun, Layout, PieceIndex};
use smallvec::SmallVec;

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

/// See the module.
#[derive(Clone, Debug)]
pub struct Picker {
    layout: Layout,
    have: Bitfield,
    wanted_missing: Bitfield,
}

impl Picker {
    /// A picker that wants every piece of `layout` that is not in `have`.
    #[must_use]
    pub fn new(layout: Layout, have: &Bitfield, _rng: &mut fastrand::Rng) -> Self {
        Picker {
            wanted_missing: Bitfield::empty(layout.piece_count()),
            have: have.clone(),
            layout,
        }
    }

    /// Counts a peer and what it has. Constant for [`Has::All`].
    pub fn peer_joined(&mut self, _has: &Has) {}

    /// Takes back what [`peer_joined`](Self::peer_joined) and [`piece_gained`](Self::piece_gained) counted: `has` is what the peer has
    /// at its end. Its leases have been returned before.
    pub fn peer_left(&mut self, _has: &Has) {}

    /// A peer that is not counted as [`Has::All`] got this piece.
    pub fn piece_gained(&mut self, _piece: PieceIndex) {}

    /// A peer that is not counted as [`Has::All`] lost this piece. One that is has to leave as that and to join again.
    pub fn piece_lost(&mut self, _piece: PieceIndex) {}

    /// Wishes for a piece. [`Priority::Skip`] forgets what was received of it and takes its leases back.
    pub fn set_priority(&mut self, _piece: PieceIndex, _priority: Priority) -> Revocations {
        Vec::new()
    }

    /// Whether pieces are begun in order (true) or rarest first.
    pub fn set_sequential(&mut self, _sequential: bool) {}

    /// A reader's claim begins or moves. Pieces that are skipped stay so. False where [`MAX_DEADLINE_LEASES`] exist.
    pub fn set_due(&mut self, _lease: DeadlineLease) -> bool {
        true
    }

    /// A reader's claim ends.
    pub fn end_due(&mut self, _id: u64) {}

    /// Leases up to `blocks` blocks to the peer that asks and appends them to `out`.
    pub fn pick(
        &mut self,
        _now: Moment,
        _ask: &Ask<'_>,
        _blocks: u32,
        _rng: &mut fastrand::Rng,
        _out: &mut Vec<BlockRun>,
    ) {
    }

    /// A peer delivered a block.
    pub fn received(&mut self, _block: Block, _peer: PeerKey) -> Receipt {
        Receipt::Unleased
    }

    /// A lease is over without its block. Ignored where there is none.
    pub fn returned(&mut self, _block: Block, _peer: PeerKey) {}

    /// We have this piece. The leases that still exist on it, if any, have to be taken back.
    pub fn verified(&mut self, _piece: PieceIndex) -> Revocations {
        Vec::new()
    }

    /// The piece was complete and wrong: these blocks are open again, or all of them where `bad` is empty. Ask for
    /// [`sources`](Self::sources) before.
    pub fn failed(&mut self, _piece: PieceIndex, _bad: &[BlockIndex]) {}

    /// The received blocks of a piece could not be kept and are open again.
    pub fn dropped(&mut self, _piece: PieceIndex) {}

    /// We do not have this piece any more.
    pub fn lost(&mut self, _piece: PieceIndex) {}

    /// Who delivered each received block of a piece that is not verified yet, by rising block.
    #[must_use]
    pub fn sources(&self, _piece: PieceIndex) -> Vec<(BlockIndex, PeerKey)> {
        Vec::new()
    }

    /// Who delivered blocks of a piece that is not verified yet, each once, rising.
    #[must_use]
    pub fn contributors(&self, _piece: PieceIndex) -> SmallVec<[PeerKey; 4]> {
        SmallVec::new()
    }

    /// Who is asked for a block, in the order of asking.
    #[must_use]
    pub fn holders(&self, _block: Block) -> SmallVec<[PeerKey; 2]> {
        SmallVec::new()
    }

    /// Whether blocks of this piece are leased or received, but the piece is not verified.
    #[must_use]
    pub fn is_in_progress(&self, _piece: PieceIndex) -> bool {
        false
    }

    /// How many connected peers have this piece, seeds included.
    #[must_use]
    pub fn availability(&self, _piece: PieceIndex) -> u32 {
        0
    }

    /// How much this piece is wanted; [`Priority::Skip`] beyond the end.
    #[must_use]
    pub fn priority(&self, _piece: PieceIndex) -> Priority {
        Priority::Skip
    }

    /// Whether a peer with these pieces has one that we want and do not have.
    #[must_use]
    pub fn is_interesting(&self, _has: &Has) -> bool {
        false
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
        0
    }

    /// Bytes of the wanted blocks that were not received yet.
    #[must_use]
    pub const fn remaining_bytes(&self) -> u64 {
        0
    }

    /// Whether every wanted piece is verified.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        false
    }

    /// How the torrent is cut.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }
}
