//! A disk under the storage of one node: a bounded cache before it, operations one after the other, faults on demand.
//!
//! Payload is not moved. A block is a token: 0 where its bytes are right, otherwise a number that stands for the wrong bytes.
//!
//! Invariant: a piece is reported as verified only after all its tokens were 0 and it was written; what the cache holds never
//! exceeds its bound.

use crate::setup::{DiskConfig, OutageKind, Proof};
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, Block, BlockIndex, Layout, PieceIndex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Stands for the bytes of a block.
pub(crate) type Token = u32;

/// The token of bytes that are right.
pub(crate) const RIGHT: Token = 0;

/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the owner of the content hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DiskEvent {
    Verified {
        piece: PieceIndex,
        blocks: Vec<u64>,
    },
    Failed {
        piece: PieceIndex,
        bad: Vec<BlockIndex>,
        blocks: Vec<u64>,
    },
    Dropped(PieceIndex),
    Suspended(bool),
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Kept,
    Duplicate,
    /// There is no room for it: ask again when an operation is done.
    NoRoom,
}

#[derive(Debug)]
struct Partial {
    tokens: Vec<Option<Token>>,
    missing: u32,
    cached_bytes: u64,
    /// An operation on it is queued or under way.
    busy: bool,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Writes what is cached of a piece that is not complete.
    Spill(PieceIndex),
    /// Verifies a complete piece and writes what is cached of it.
    Finish(PieceIndex),
}

/// The storage of one node.
#[derive(Debug)]
pub(crate) struct Disk {
    config: DiskConfig,
    proof: Proof,
    layout: Arc<Layout>,
    partials: BTreeMap<PieceIndex, Partial>,
    cached_bytes: u64,
    operations: VecDeque<Operation>,
    running: bool,
    done: u64,
    suspended: bool,
    failed_before: BTreeSet<PieceIndex>,
    /// What the journal recorded: survives a crash.
    journal: Bitfield,
    /// Pieces that it recorded and whose bytes are not any more what they were.
    rotten: BTreeSet<PieceIndex>,
}

impl Disk {
    pub(crate) fn new(
        config: DiskConfig,
        proof: Proof,
        layout: Arc<Layout>,
        have: Bitfield,
    ) -> Self {
        Disk {
            config,
            proof,
            layout,
            partials: BTreeMap::new(),
            cached_bytes: 0,
            operations: VecDeque::new(),
            running: false,
            done: 0,
            suspended: false,
            failed_before: BTreeSet::new(),
            journal: have,
            rotten: BTreeSet::new(),
        }
    }

    /// What a new process finds.
    pub(crate) fn restart(&mut self) {
        self.partials.clear();
        self.operations.clear();
        self.failed_before.clear();
        self.cached_bytes = 0;
        self.running = false;
        self.suspended = false;
    }

    pub(crate) const fn journal(&self) -> &Bitfield {
        &self.journal
    }

    pub(crate) const fn cached_bytes(&self) -> u64 {
        self.cached_bytes
    }

    pub(crate) fn partial_count(&self) -> usize {
        self.partials.len()
    }

    /// How many operations were carried out, failed ones included.
    pub(crate) const fn operation_count(&self) -> u64 {
        self.done
    }

    fn outage(&self, now: Moment) -> Option<OutageKind> {
        let mut outages = self.config.outages.iter();
        let outage = outages.find(|outage| outage.from <= now && now < outage.until);
        outage.map(|outage| outage.kind)
    }

    /// Whether what is there can be read.
    pub(crate) fn is_readable(&self, now: Moment) -> bool {
        self.outage(now) != Some(OutageKind::Missing)
    }

    /// Takes a received block.
    pub(crate) fn store(&mut self, block: Block, token: Token) -> Stored {
        let length = u64::from(self.layout.block_length(block));
        if self.journal.get(block.piece) {
            return Stored::Duplicate;
        }
        let known = self
            .partials
            .get(&block.piece)
            .is_some_and(|partial| partial.tokens[block.block.get()].is_some());
        if known {
            return Stored::Duplicate;
        }
        if self.cached_bytes + length > self.config.cache_bytes {
            self.relieve();
            return Stored::NoRoom;
        }
        let count = self.layout.block_count(block.piece);
        let partial = self.partials.entry(block.piece).or_insert_with(|| Partial {
            tokens: vec![None; count as usize],
            missing: count,
            cached_bytes: 0,
            busy: false,
        });
        partial.tokens[block.block.get()] = Some(token);
        partial.missing -= 1;
        partial.cached_bytes += length;
        self.cached_bytes += length;
        if partial.missing == 0 && !partial.busy {
            partial.busy = true;
            self.operations.push_back(Operation::Finish(block.piece));
        }
        Stored::Kept
    }

    /// Where nothing that is under way will make room, writes the piece of which most is cached.
    fn relieve(&mut self) {
        if !self.operations.is_empty() {
            return;
        }
        let idle = self
            .partials
            .iter_mut()
            .filter(|(_, partial)| !partial.busy);
        let largest = idle.max_by_key(|(piece, partial)| (partial.cached_bytes, **piece));
        if let Some((&piece, partial)) = largest {
            partial.busy = true;
            self.operations.push_back(Operation::Spill(piece));
        }
    }

    /// Gives up what was received of a piece that nobody wants any more.
    /// Too late where an operation on it is under way.
    pub(crate) fn forget(&mut self, piece: PieceIndex) -> bool {
        let idle = self
            .partials
            .get(&piece)
            .is_some_and(|partial| !partial.busy);
        if idle {
            self.drop_partial(piece);
        }
        idle
    }

    /// A verified piece is no longer what it was.
    pub(crate) fn lose(&mut self, piece: PieceIndex) -> bool {
        self.journal.remove(piece)
    }

    /// The bytes of a piece change behind everybody's back.
    pub(crate) fn rot(&mut self, piece: PieceIndex) {
        self.rotten.insert(piece);
    }

    /// The pieces that are what they should be.
    pub(crate) fn sound(&self) -> Bitfield {
        let mut sound = self.journal.clone();
        for &piece in &self.rotten {
            sound.remove(piece);
        }
        sound
    }

    /// Reads a piece, and records what it is.
    pub(crate) fn read(&mut self, piece: PieceIndex) -> bool {
        let rotten = self.rotten.remove(&piece);
        let right = self.journal.get(piece) && !rotten;
        if !right {
            self.journal.remove(piece);
        }
        right
    }

    fn drop_partial(&mut self, piece: PieceIndex) {
        if let Some(partial) = self.partials.remove(&piece) {
            self.cached_bytes -= partial.cached_bytes;
        }
    }

    /// Starts the next operation, if there is one and none is under way; says when it will be done.
    pub(crate) fn start(&mut self, now: Moment) -> Option<Moment> {
        if self.running {
            return None;
        }
        let (Operation::Spill(piece) | Operation::Finish(piece)) = *self.operations.front()?;
        self.running = true;
        let bytes = self
            .partials
            .get(&piece)
            .map_or(0, |partial| partial.cached_bytes);
        let transfer = self.config.write_bytes_per_s.map_or(0, |rate| {
            u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1)))
                .unwrap_or(u64::MAX)
        });
        Some(now + self.config.latency + Duration::from_nanos(transfer))
    }

    /// The moment that [`Disk::start`] named has come. Returns when to come again, where the disk is full.
    pub(crate) fn finish(&mut self, now: Moment, events: &mut Vec<DiskEvent>) -> Option<Moment> {
        let full = self.outage(now).is_some();
        if full != self.suspended {
            self.suspended = full;
            events.push(DiskEvent::Suspended(full));
        }
        if full {
            return Some(now + RETRY);
        }
        self.running = false;
        let operation = self.operations.pop_front()?;
        self.done += 1;
        let fails = self.config.fail_operation == Some(self.done);
        let (Operation::Spill(piece) | Operation::Finish(piece)) = operation;
        if fails {
            self.drop_partial(piece);
            events.push(DiskEvent::Dropped(piece));
            return None;
        }
        match operation {
            Operation::Spill(piece) => self.spilled(piece),
            Operation::Finish(piece) => self.verify(piece, events),
        }
        None
    }

    fn spilled(&mut self, piece: PieceIndex) {
        let Some(partial) = self.partials.get_mut(&piece) else {
            return;
        };
        self.cached_bytes -= partial.cached_bytes;
        partial.cached_bytes = 0;
        partial.busy = partial.missing == 0;
        if partial.busy {
            self.operations.push_back(Operation::Finish(piece));
        }
    }

    fn verify(&mut self, piece: PieceIndex, events: &mut Vec<DiskEvent>) {
        let Some(partial) = self.partials.get(&piece) else {
            return;
        };
        let digests = || -> Vec<u64> {
            let tokens = partial.tokens.iter().flatten();
            (0u64..)
                .zip(tokens)
                .map(|(at, &token)| digest(piece, at, token))
                .collect()
        };
        let wrong: Vec<BlockIndex> = (0u32..)
            .zip(&partial.tokens)
            .filter(|(_, token)| **token != Some(RIGHT))
            .map(|(at, _)| BlockIndex(at))
            .collect();
        if wrong.is_empty() {
            let blocks = match self.failed_before.contains(&piece) {
                true => digests(),
                false => Vec::new(),
            };
            self.journal.insert(piece);
            self.rotten.remove(&piece);
            self.drop_partial(piece);
            return events.push(DiskEvent::Verified { piece, blocks });
        }
        let blocks = digests();
        self.failed_before.insert(piece);
        let bad = match self.proof {
            Proof::Pieces => Vec::new(),
            Proof::Blocks => wrong,
        };
        self.drop_partial(piece);
        events.push(DiskEvent::Failed { piece, bad, blocks });
    }
}

/// A short digest of a block's bytes.
fn digest(piece: PieceIndex, block: u64, token: Token) -> u64 {
    let mixed = (u64::from(piece.0) << 32 | block) ^ (u64::from(token) << 48 | u64::from(token));
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
