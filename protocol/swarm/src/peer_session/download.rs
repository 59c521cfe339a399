//! The blocks that one connection may fetch: leased, requested, arriving, or withdrawn after they were requested.
//!
//! Invariant: a leased block is in exactly one of `reserve`, `outstanding` and `arriving`, and leaves them once: stored, or
//! given back to the caller. `withdrawn` holds no leases, only requests that the remote may still answer.

use shoal_machine::Moment;
use shoal_metainfo::{Block, BlockIndex, BlockRun, Layout, PieceIndex};
use std::collections::VecDeque;

/// How many withdrawn requests are remembered, so that their late blocks are told from unsolicited ones: twice the most
/// that can be outstanding, as everything may be withdrawn, requested anew and withdrawn again within one round trip.
const MAX_WITHDRAWN: usize = 2 * super::MAX_OUTSTANDING as usize;

/// A request that the remote has not answered.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    block: Block,
    since: Moment,
}

/// What a block's header turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// An outstanding request is answered.
    Expected,
    /// A request that was withdrawn is answered all the same.
    Late,
    /// Nobody asked.
    Unsolicited,
}

/// The leases of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Download {
    /// Leased and not yet requested, in the order of the leases.
    reserve: VecDeque<BlockRun>,
    reserve_blocks: u32,
    /// Requested, the oldest first.
    outstanding: VecDeque<Outstanding>,
    /// Blocks whose header has come and whose bytes have not been stored. One, as long as the driver keeps its rule.
    arriving: VecDeque<Block>,
    withdrawn: VecDeque<Block>,
}

impl Download {
    pub(super) const fn reserve_blocks(&self) -> u32 {
        self.reserve_blocks
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// When the oldest outstanding request was sent.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.outstanding.front().map(|request| request.since)
    }

    /// Whether no more bytes are on their way.
    pub(super) fn is_quiet(&self) -> bool {
        self.outstanding.is_empty() && self.arriving.is_empty()
    }

    pub(super) fn lease(&mut self, run: BlockRun) {
        self.reserve_blocks += run.count;
        self.reserve.push_back(run);
    }

    /// Moves the next leased block to the outstanding requests.
    pub(super) fn request(&mut self, layout: &Layout, now: Moment) -> Option<(Block, u32)> {
        let run = self.reserve.front_mut()?;
        let block = Block {
            piece: run.piece,
            block: run.first,
        };
        run.first = BlockIndex(run.first.0 + 1);
        run.count -= 1;
        if run.count == 0 {
            self.reserve.pop_front();
        }
        self.reserve_blocks -= 1;
        self.outstanding
            .push_back(Outstanding { block, since: now });
        Some((block, layout.block_length(block)))
    }

    /// The header of `block` has come.
    pub(super) fn arrive(&mut self, block: Block) -> Arrival {
        if self.take_outstanding(block) {
            self.arriving.push_back(block);
            Arrival::Expected
        } else if self.take_withdrawn(block) {
            Arrival::Late
        } else {
            Arrival::Unsolicited
        }
    }

    /// The bytes of `block` are stored; false where its header never came.
    pub(super) fn stored(&mut self, block: Block) -> bool {
        let at = self.arriving.iter().position(|&other| other == block);
        at.is_some_and(|at| self.arriving.remove(at).is_some())
    }

    /// The remote rejected `block`; true where that ends a lease. A withdrawn request is older than one that is outstanding
    /// for the same block, and its answer comes first.
    pub(super) fn reject(&mut self, block: Block) -> bool {
        !self.take_withdrawn(block) && self.take_outstanding(block)
    }

    /// Takes back what `run` names and has not begun to arrive. Returns the blocks that were only reserved, and those
    /// that were requested.
    pub(super) fn revoke(&mut self, run: BlockRun) -> (Vec<BlockRun>, Vec<Block>) {
        let mut reserved = Vec::new();
        if self
            .reserve
            .iter()
            .any(|held| overlap(*held, run).is_some())
        {
            let held = core::mem::take(&mut self.reserve);
            for held in held {
                match overlap(held, run) {
                    None => self.reserve.push_back(held),
                    Some(common) => {
                        self.reserve_blocks -= common.count;
                        self.reserve.extend(around(held, common));
                        reserved.push(common);
                    }
                }
            }
        }
        let requested = self.withdraw(|block| {
            block.piece == run.piece
                && block.block >= run.first
                && block.block.0 < run.first.0.saturating_add(run.count)
        });
        (reserved, requested)
    }

    /// Takes the reserved blocks of all pieces but those that `keep` names.
    pub(super) fn drop_reserve(&mut self, keep: impl Fn(PieceIndex) -> bool) -> Vec<BlockRun> {
        let (kept, dropped): (Vec<_>, Vec<_>) =
            self.reserve.drain(..).partition(|run| keep(run.piece));
        self.reserve = kept.into();
        self.reserve_blocks = self.reserve.iter().map(|run| run.count).sum();
        dropped
    }

    /// Withdraws the outstanding requests that `which` names; the remote may still answer them.
    pub(super) fn withdraw(&mut self, which: impl Fn(Block) -> bool) -> Vec<Block> {
        if !self.outstanding.iter().any(|request| which(request.block)) {
            return Vec::new();
        }
        let mut taken = Vec::new();
        self.outstanding.retain(|request| {
            let take = which(request.block);
            if take {
                taken.push(request.block);
            }
            !take
        });
        self.withdrawn.extend(&taken);
        let excess = self.withdrawn.len().saturating_sub(MAX_WITHDRAWN);
        self.withdrawn.drain(..excess);
        taken
    }

    /// Withdraws the oldest outstanding request.
    pub(super) fn withdraw_oldest(&mut self) -> Option<Block> {
        let oldest = self.outstanding.front()?.block;
        self.withdraw(|block| block == oldest).pop()
    }

    /// Takes every lease, blocks that are just arriving included.
    pub(super) fn take_all(&mut self) -> Vec<BlockRun> {
        let mut runs: Vec<BlockRun> = Vec::new();
        for block in self.arriving.drain(..) {
            BlockRun::push(&mut runs, block);
        }
        for request in self.outstanding.drain(..) {
            BlockRun::push(&mut runs, request.block);
        }
        runs.extend(self.reserve.drain(..));
        self.reserve_blocks = 0;
        runs
    }

    fn take_outstanding(&mut self, block: Block) -> bool {
        let at = self
            .outstanding
            .iter()
            .position(|request| request.block == block);
        at.is_some_and(|at| self.outstanding.remove(at).is_some())
    }

    fn take_withdrawn(&mut self, block: Block) -> bool {
        let at = self.withdrawn.iter().position(|&other| other == block);
        at.is_some_and(|at| self.withdrawn.remove(at).is_some())
    }
}

/// The blocks that are in both runs.
fn overlap(a: BlockRun, b: BlockRun) -> Option<BlockRun> {
    let first = a.first.max(b.first);
    let end = a
        .first
        .0
        .saturating_add(a.count)
        .min(b.first.0.saturating_add(b.count));
    (a.piece == b.piece && first.0 < end).then(|| BlockRun {
        piece: a.piece,
        first,
        count: end - first.0,
    })
}

/// What is left of `run` before and after its part `taken`.
fn around(run: BlockRun, taken: BlockRun) -> impl Iterator<Item = BlockRun> {
    let after = taken.first.0 + taken.count;
    let parts = [
        (run.first.0, taken.first.0 - run.first.0),
        (after, run.first.0 + run.count - after),
    ];
    parts
        .into_iter()
        .filter(|&(_, count)| count > 0)
        .map(move |(first, count)| BlockRun {
            piece: run.piece,
            first: BlockIndex(first),
            count,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(piece: u32, first: u32, count: u32) -> BlockRun {
        BlockRun {
            piece: PieceIndex(piece),
            first: BlockIndex(first),
            count,
        }
    }

    #[test]
    fn revoking_the_middle_of_a_run_leaves_both_ends() {
        let mut download = Download::default();
        download.lease(run(3, 0, 10));
        let (reserved, requested) = download.revoke(run(3, 4, 2));
        assert_eq!((reserved, requested), (vec![run(3, 4, 2)], vec![]));
        assert_eq!(download.reserve_blocks(), 8);
        assert_eq!(download.take_all(), [run(3, 0, 4), run(3, 6, 4)]);
    }

    #[test]
    fn the_answer_to_a_withdrawn_request_does_not_end_the_one_that_replaced_it() {
        let layout = Layout::contiguous(1 << 20, 1 << 18).unwrap();
        let mut download = Download::default();
        download.lease(run(0, 0, 1));
        let (block, _) = download.request(&layout, Moment::ZERO).unwrap();
        assert_eq!(download.withdraw(|_| true), [block]);
        download.lease(run(0, 0, 1));
        download.request(&layout, Moment::ZERO);
        assert!(!download.reject(block));
        assert_eq!(download.arrive(block), Arrival::Expected);
        assert_eq!(download.arrive(block), Arrival::Unsolicited);
    }

    #[test]
    fn withdrawn_requests_are_forgotten_beyond_their_bound() {
        let layout = Layout::contiguous(1 << 30, 1 << 28).unwrap();
        let mut download = Download::default();
        let count = u32::try_from(MAX_WITHDRAWN).unwrap() + 1;
        download.lease(run(0, 0, count));
        while download.request(&layout, Moment::ZERO).is_some() {}
        download.withdraw(|_| true);
        let block = |block| Block {
            piece: PieceIndex(0),
            block: BlockIndex(block),
        };
        assert_eq!(download.arrive(block(0)), Arrival::Unsolicited);
        assert_eq!(download.arrive(block(1)), Arrival::Late);
    }
}
