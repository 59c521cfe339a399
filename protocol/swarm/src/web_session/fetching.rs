//! Leases become fetches, fetches become stored blocks or come back.
//!
//! Invariant: a leased block is in the reserve, in one fetch, or on its way to storage.

use super::{
    Active, CHEAP_REST_BLOCKS, FLUSH, FLUSH_BLOCKS, Fetch, FetchId, Form, MAX_FETCHES, MAX_PARTS,
    MIN_FETCH_BLOCKS, Output, Part, REPORT, WebSession, plan,
};
use crate::message::{FromPeer, ReturnReason};
use shoal_metainfo::{Block, BlockIndex, BlockRun, Layout, PieceIndex};
use std::collections::BTreeSet;

impl WebSession {
    pub(super) fn serves(&self, piece: PieceIndex) -> bool {
        self.has.as_ref().is_none_or(|has| has.get(piece))
    }

    /// What follows from any change: fetches up to the window, a wish for more leases.
    pub(super) fn pump(&mut self) {
        if self.closed {
            return;
        }
        self.start_fetches();
        self.wish();
        if self.received_blocks >= FLUSH_BLOCKS
            || (self.outstanding() == 0 && self.storing.is_empty())
        {
            self.flush();
        }
    }

    /// Leased blocks that are asked for and have not come.
    pub(super) fn outstanding(&self) -> usize {
        self.fetches.values().map(|fetch| fetch.left.len()).sum()
    }

    /// Fetches are of a quarter to half a window: fewer requests than blocks, and none that outlives the next decision by much.
    pub(super) fn start_fetches(&mut self) {
        let target = self.window.target_blocks() as usize;
        let most = if self.proved { MAX_FETCHES } else { 1 };
        while self.paused_until.is_none() && self.fetches.len() < most && !self.reserve.is_empty() {
            let outstanding = self.outstanding();
            let room = target.saturating_sub(outstanding);
            if room < target.div_ceil(MAX_FETCHES) && outstanding > 0 {
                return;
            }
            let half = target.div_ceil(2).max(MIN_FETCH_BLOCKS);
            self.fetch(room.clamp(1, half));
        }
    }

    /// Asks for the first run of the reserve, of at most so many blocks.
    pub(super) fn fetch(&mut self, blocks: usize) {
        let (mut runs, mut count) = (Vec::new(), 0);
        let mut last: Option<Block> = None;
        for &block in self.reserve.iter().take(blocks) {
            if last.is_some_and(|last| !follows(&self.layout, last, block)) {
                break;
            }
            BlockRun::push(&mut runs, block);
            last = Some(block);
            count += 1;
        }
        let mut parts = self.parts(&runs);
        while parts.len() > MAX_PARTS && count > 1 {
            count /= 2;
            runs = Vec::new();
            for &block in self.reserve.iter().take(count) {
                BlockRun::push(&mut runs, block);
            }
            parts = self.parts(&runs);
        }
        let left: BTreeSet<Block> = runs.iter().flat_map(|run| run.blocks()).collect();
        self.reserve.retain(|block| !left.contains(block));
        self.next_fetch += 1;
        let id = FetchId(self.next_fetch);
        let to_come = left.len();
        self.fetches.insert(id, Active { left, to_come });
        self.outputs
            .push_back(Output::Fetch(Fetch { id, runs, parts }));
    }

    pub(super) fn parts(&self, runs: &[BlockRun]) -> Vec<Part> {
        match self.form {
            Form::Files => plan::of_files(&self.layout, &self.files, runs),
            Form::Script => plan::of_pieces(&self.layout, runs),
        }
    }

    /// Asks for leases as a peer session does: when less than half a window is in reserve, for as many as fill the window and
    /// three quarters of another.
    pub(super) fn wish(&mut self) {
        let window = self.window.target_blocks();
        let reserve = u32::try_from(self.reserve.len()).unwrap_or(u32::MAX);
        if !self.interested || self.paused_until.is_some() || reserve >= window.div_ceil(2) {
            return;
        }
        let outstanding = u32::try_from(self.outstanding()).unwrap_or(u32::MAX);
        let held = outstanding.saturating_add(reserve);
        let missing = (window + (window * 3).div_ceil(4)).saturating_sub(held);
        if missing > 0 && (self.wished == 0 || missing >= self.wished.saturating_mul(2)) {
            self.wished = missing;
            self.tell(FromPeer::Want {
                blocks: missing,
                rate_bytes_per_s: self.window.rate_bytes_per_s(self.now),
            });
        }
    }

    pub(super) fn on_lease(&mut self, runs: &[BlockRun]) {
        let mut useless = Vec::new();
        for block in runs.iter().flat_map(|run| run.blocks()) {
            self.wished = self.wished.saturating_sub(1);
            if self.paused_until.is_some() || !self.serves(block.piece) {
                BlockRun::push(&mut useless, block);
            } else {
                self.reserve.insert(block);
            }
        }
        self.give_back(useless, ReturnReason::Choked);
    }

    pub(super) fn on_revoke(&mut self, runs: &[BlockRun]) {
        let revoked: BTreeSet<Block> = runs.iter().flat_map(|run| run.blocks()).collect();
        self.take_back(|block| revoked.contains(&block), ReturnReason::Cancelled);
    }

    /// Gives back what has not come of these, and ends the fetches of which nothing else is wanted.
    pub(super) fn take_back(&mut self, which: impl Fn(Block) -> bool, reason: ReturnReason) {
        let mut runs = Vec::new();
        let mut take = |blocks: &mut BTreeSet<Block>| {
            blocks.retain(|&block| {
                let taken = which(block);
                if taken {
                    BlockRun::push(&mut runs, block);
                }
                !taken
            });
        };
        take(&mut self.reserve);
        let mut idle = Vec::new();
        for (&id, fetch) in &mut self.fetches {
            let before = fetch.left.len();
            take(&mut fetch.left);
            let useless = fetch.left.is_empty() && fetch.left.len() < before;
            if useless && fetch.to_come > CHEAP_REST_BLOCKS {
                idle.push(id);
            }
        }
        for id in idle {
            self.fetches.remove(&id);
            self.outputs.push_back(Output::Cancel(id));
        }
        self.give_back(runs, reason);
    }

    pub(super) fn on_block(&mut self, id: FetchId, block: Block) {
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return self.outputs.push_back(Output::Discard(block));
        };
        fetch.to_come = fetch.to_come.saturating_sub(1);
        if fetch.left.remove(&block) {
            self.storing.insert(block);
            self.outputs.push_back(Output::Store(block));
        } else {
            self.outputs.push_back(Output::Discard(block));
        }
    }

    pub(super) fn on_stored(&mut self, block: Block, known: bool) {
        if !self.storing.remove(&block) {
            return;
        }
        let length = self.layout.block_length(block);
        self.window.on_received(self.now, length);
        self.downloaded_bytes += u64::from(length);
        self.proved = true;
        (self.failures, self.misbehaved) = (0, 0);
        self.report_at.get_or_insert(self.now + REPORT);
        if known {
            return self.give_back(vec![BlockRun::one(block)], ReturnReason::Duplicate);
        }
        BlockRun::push(&mut self.received, block);
        self.received_blocks += 1;
        self.flush_at.get_or_insert(self.now + FLUSH);
        // The last block of a piece may be the one that verification waits for.
        if block.block.0 + 1 == self.layout.block_count(block.piece) {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        self.flush_at = None;
        self.received_blocks = 0;
        let received = core::mem::take(&mut self.received);
        if !received.is_empty() {
            self.tell(FromPeer::Received(received));
        }
    }
}

/// Whether `block` comes right after `last`.
fn follows(layout: &Layout, last: Block, block: Block) -> bool {
    let within = last.piece == block.piece && last.block.0 + 1 == block.block.0;
    let ends = last.block.0 + 1 == layout.block_count(last.piece);
    let next = last.piece.0 + 1 == block.piece.0 && block.block == BlockIndex(0);
    within || (ends && next)
}
