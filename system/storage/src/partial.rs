//! A piece that is not verified yet: which of its blocks arrived, which are still in memory, and how far they are hashed.
//!
//! Invariant: a block is missing, cached or spilled; `hashed <= ready`, and all blocks before `ready` arrived. Whoever sets
//! `busy` is the only one that hashes or writes the piece until it clears it.

use std::sync::Arc;

use shoal_metainfo::{BlockIndex, PieceHasher};

use crate::pool::BlockBuffer;

/// So many blocks are hashed at a time: enough to be worth waking a thread, few enough that those of all lanes are still near
/// a core when they are hashed. 64 measured no better for lanes, with more memory and later announcements.
const HASH_RUN: usize = 32;

/// Where a block is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Slot {
    /// It did not arrive.
    #[default]
    Missing,
    /// It is in memory.
    Cached(Arc<BlockBuffer>),
    /// It was written to its place before the piece was verified, because memory ran short.
    Spilled,
}

/// A block in memory.
pub(crate) type Cached = (BlockIndex, Arc<BlockBuffer>);

/// A run of blocks that can be hashed.
#[derive(Debug)]
pub(crate) enum HashRun {
    /// From memory.
    Cached(Vec<Arc<BlockBuffer>>),
    /// So many blocks that must be read back, the first of which is the given one.
    Spilled(BlockIndex, u32),
}

/// A piece that is not verified yet.
#[derive(Debug)]
pub(crate) struct Partial {
    slots: Box<[Slot]>,
    received: usize,
    cached: usize,
    ready: usize,
    hashed: usize,
    /// Away while a thread hashes.
    pub(crate) hasher: Option<PieceHasher>,
    /// Whether a thread works on the piece.
    pub(crate) busy: bool,
    /// Whether the piece waits for a thread.
    pub(crate) queued: bool,
    /// Whether it is right; it is still to be written then.
    pub(crate) right: bool,
    /// Changes whenever the blocks are forgotten, so that a thread notices that its results are about other blocks.
    pub(crate) epoch: u64,
    /// How often writing it failed.
    pub(crate) attempts: u32,
}

impl Partial {
    pub(crate) fn new(block_count: u32, hasher: PieceHasher) -> Self {
        Partial {
            slots: vec![Slot::Missing; block_count as usize].into_boxed_slice(),
            received: 0,
            cached: 0,
            ready: 0,
            hashed: 0,
            hasher: Some(hasher),
            busy: false,
            queued: false,
            right: false,
            epoch: 0,
            attempts: 0,
        }
    }

    /// Takes a block; false where it is there already.
    pub(crate) fn insert(&mut self, block: BlockIndex, buffer: BlockBuffer) -> bool {
        match self.slots.get_mut(block.get()) {
            Some(slot @ Slot::Missing) => *slot = Slot::Cached(Arc::new(buffer)),
            _ => return false,
        }
        self.received += 1;
        self.cached += 1;
        while matches!(
            self.slots.get(self.ready),
            Some(Slot::Cached(_) | Slot::Spilled)
        ) {
            self.ready += 1;
        }
        true
    }

    /// Forgets all blocks.
    pub(crate) fn reset(&mut self, hasher: PieceHasher) {
        *self = Partial {
            busy: self.busy,
            queued: self.queued,
            epoch: self.epoch + 1,
            ..Partial::new(u32::try_from(self.slots.len()).unwrap_or(u32::MAX), hasher)
        };
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.received == 0
    }

    pub(crate) const fn is_complete(&self) -> bool {
        self.received == self.slots.len()
    }

    pub(crate) const fn is_hashed(&self) -> bool {
        self.hashed == self.slots.len()
    }

    /// How many blocks are in memory.
    pub(crate) const fn cached(&self) -> usize {
        self.cached
    }

    /// How many blocks are in memory that need not be read back if they are spilled.
    pub(crate) const fn cheap_to_spill(&self) -> usize {
        if self.hashed < self.cached {
            self.hashed
        } else {
            self.cached
        }
    }

    pub(crate) fn has_spilled(&self) -> bool {
        self.received > self.cached
    }

    /// Whether it is worth waking a thread.
    pub(crate) const fn wants_work(&self) -> bool {
        self.is_complete() || self.ready - self.hashed >= HASH_RUN
    }

    /// Whether the piece is to be given to the threads, which counts as done then.
    pub(crate) const fn queue(&mut self) -> bool {
        let queue = self.wants_work() && !self.busy && !self.queued;
        self.queued |= queue;
        queue
    }

    /// The next blocks to hash, together with the hasher.
    pub(crate) fn take_run(&mut self) -> Option<(HashRun, PieceHasher)> {
        let unhashed = &self.slots[self.hashed..self.ready];
        let first = unhashed.first()?;
        let hasher = self.hasher.take()?;
        let run = if let Slot::Spilled = first {
            let same = unhashed
                .iter()
                .take(HASH_RUN)
                .take_while(|slot| matches!(slot, Slot::Spilled));
            HashRun::Spilled(index(self.hashed), index(same.count()).0)
        } else {
            let buffers = unhashed.iter().take(HASH_RUN).map_while(|slot| match slot {
                Slot::Cached(buffer) => Some(Arc::clone(buffer)),
                _ => None,
            });
            HashRun::Cached(buffers.collect())
        };
        Some((run, hasher))
    }

    /// Gives the hasher back after `count` blocks more.
    pub(crate) fn put_run(&mut self, hasher: PieceHasher, count: usize) {
        self.hashed += count;
        self.hasher = Some(hasher);
    }

    /// Every block that is in memory, in order.
    pub(crate) fn cached_blocks(&self) -> Vec<Cached> {
        let cached = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(at, slot)| match slot {
                Slot::Cached(buffer) => Some((index(at), Arc::clone(buffer))),
                _ => None,
            });
        cached.collect()
    }

    /// The block, if it is in memory.
    pub(crate) fn cached_block(&self, block: BlockIndex) -> Option<Arc<BlockBuffer>> {
        match self.slots.get(block.get()) {
            Some(Slot::Cached(buffer)) => Some(Arc::clone(buffer)),
            _ => None,
        }
    }

    /// Notes that `blocks` were written; their buffers go back to the pool. Returns how many.
    pub(crate) fn spilled(&mut self, blocks: &[Cached]) {
        for (block, _) in blocks {
            if let Some(slot @ Slot::Cached(_)) = self.slots.get_mut(block.get()) {
                *slot = Slot::Spilled;
                self.cached -= 1;
            }
        }
    }
}

fn index(at: usize) -> BlockIndex {
    BlockIndex(u32::try_from(at).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use shoal_metainfo::verifier::Needs;

    fn hasher() -> PieceHasher {
        let needs = Needs {
            sha1: true,
            blocks: false,
        };
        PieceHasher::new(needs, 0)
    }

    #[test]
    fn blocks_become_ready_in_order_and_spilled_ones_are_read_back() {
        let pool = Arc::new(Pool::new(8));
        let mut partial = Partial::new(4, hasher());
        let insert = |partial: &mut Partial, block| {
            partial.insert(BlockIndex(block), pool.try_lease().unwrap())
        };
        assert!(insert(&mut partial, 1) && !insert(&mut partial, 1));
        assert!(partial.take_run().is_none());
        assert!(insert(&mut partial, 0));
        let blocks = partial.cached_blocks();
        partial.spilled(&blocks[1..]);
        drop(blocks);
        assert_eq!((partial.cached(), pool.available()), (1, 7));
        let (run, back) = partial.take_run().unwrap();
        assert!(matches!(run, HashRun::Cached(buffers) if buffers.len() == 1));
        partial.put_run(back, 1);
        let (run, back) = partial.take_run().unwrap();
        assert!(matches!(run, HashRun::Spilled(BlockIndex(1), 1)));
        partial.put_run(back, 1);
        assert!(insert(&mut partial, 3) && !partial.is_complete());
        assert!(insert(&mut partial, 2) && partial.is_complete() && !partial.is_hashed());
        assert!(!insert(&mut partial, 4));
        partial.reset(hasher());
        assert!(partial.is_empty() && partial.epoch == 1 && pool.available() == 8);
    }
}
