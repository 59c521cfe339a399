//! What a worker thread does with one piece: hash what arrived, judge it, write it, record it.
//!
//! Invariant: a piece is recorded after it was written and announced after it was recorded.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use sha2::{Digest, Sha256};
use shoal_metainfo::{BLOCK_LENGTH, Block, BlockIndex, PieceHasher, PieceIndex, Verdict};

use crate::event::Event;
use crate::files::Failure;
use crate::inner::{Inner, State};
use crate::journal::Record;
use crate::partial::{Cached, HashRun, Partial};

/// What is to be done next. The number is the epoch that it is about.
enum Step {
    Hash(u64, HashRun, PieceHasher),
    Judge(u64, PieceHasher),
    Write(Vec<Cached>),
    Spill(u64, Vec<Cached>),
    Rest,
}

/// Whether the piece is still there to be worked on.
#[derive(PartialEq)]
enum After {
    GoOn,
    Rest,
    Gone,
}

impl Inner {
    /// Works on `piece` until there is nothing more to do; spills it then where `spill` says so and it is not complete.
    pub(crate) fn advance(self: &Arc<Self>, piece: PieceIndex, spill: bool, scratch: &mut Vec<u8>) {
        let mut spill = spill;
        {
            let mut state = self.state();
            let Some(partial) = state.partials.get_mut(&piece) else {
                return;
            };
            if partial.busy {
                return;
            }
            partial.busy = true;
            partial.queued = false;
        }
        loop {
            let step = self.next_step(&mut self.state(), piece, spill);
            let after = match step {
                Step::Hash(epoch, run, hasher) => self.hash(piece, epoch, run, hasher, scratch),
                Step::Judge(epoch, hasher) => self.judge(piece, epoch, hasher, scratch),
                Step::Write(blocks) => self.write_right(piece, blocks, scratch),
                Step::Spill(epoch, blocks) => {
                    spill = false;
                    self.spill_blocks(piece, epoch, blocks)
                }
                Step::Rest => After::Rest,
            };
            match after {
                After::GoOn => {}
                After::Gone => break,
                After::Rest if self.rest(piece) => break,
                After::Rest => {}
            }
        }
        self.rested.notify_all();
    }

    fn next_step(&self, state: &mut State, piece: PieceIndex, spill: bool) -> Step {
        let crowded = state.is_crowded();
        let pause = self.shared.config.retry_pause;
        let Some(partial) = state.partials.get_mut(&piece) else {
            return Step::Rest;
        };
        if partial.right {
            let blocks = partial.cached_blocks();
            return if state.may_write(pause) {
                Step::Write(blocks)
            } else {
                Step::Rest
            };
        }
        if let Some((run, hasher)) = partial.take_run() {
            return Step::Hash(partial.epoch, run, hasher);
        }
        if partial.is_complete() && partial.is_hashed() {
            if crowded {
                state.parked = true;
                return Step::Rest;
            }
            let epoch = partial.epoch;
            return partial
                .hasher
                .take()
                .map_or(Step::Rest, |hasher| Step::Judge(epoch, hasher));
        }
        let wanted = (spill || self.shared.is_short()) && partial.cached() > 0;
        let (epoch, blocks) = (
            partial.epoch,
            if wanted {
                partial.cached_blocks()
            } else {
                Vec::new()
            },
        );
        if wanted && state.may_write(pause) {
            return Step::Spill(epoch, blocks);
        }
        Step::Rest
    }

    /// Leaves the piece to others; false where more arrived meanwhile.
    fn rest(&self, piece: PieceIndex) -> bool {
        let mut state = self.state();
        let (suspended, crowded) = (state.suspended.is_some(), state.is_crowded());
        let Some(partial) = state.partials.get_mut(&piece) else {
            return true;
        };
        let stuck = if partial.right { suspended } else { crowded };
        if !stuck && (partial.right || partial.wants_work()) {
            return false;
        }
        partial.busy = false;
        if partial.is_empty() {
            state.partials.remove(&piece);
        }
        state.parked |= crowded;
        true
    }

    fn hash(
        &self,
        piece: PieceIndex,
        epoch: u64,
        run: HashRun,
        mut hasher: PieceHasher,
        scratch: &mut Vec<u8>,
    ) -> After {
        let count = match run {
            HashRun::Cached(buffers) => {
                for buffer in &buffers {
                    hasher.update(buffer);
                }
                buffers.len()
            }
            HashRun::Spilled(first, count) => {
                if let Err(failure) = self.read_blocks(piece, first, count, scratch) {
                    return self.give_up(piece, &failure);
                }
                let blocks = &self.shared.counters.blocks_read_back;
                blocks.fetch_add(u64::from(count), Ordering::Relaxed);
                hasher.update(scratch);
                count as usize
            }
        };
        if let Some(partial) = self.current(&mut self.state(), piece, epoch) {
            partial.put_run(hasher, count);
        }
        After::GoOn
    }

    fn judge(
        &self,
        piece: PieceIndex,
        epoch: u64,
        hasher: PieceHasher,
        scratch: &mut Vec<u8>,
    ) -> After {
        let verdict = self.verifier.check(piece, &hasher.finish());
        let Verdict::Wrong { bad } = verdict else {
            if let Some(partial) = self.current(&mut self.state(), piece, epoch) {
                partial.right = true;
            }
            return After::GoOn;
        };
        let blocks = self.block_digests(piece, scratch);
        let mut state = self.state();
        if self.current(&mut state, piece, epoch).is_none() {
            return After::GoOn;
        }
        state.partials.remove(&piece);
        state.failed.insert(piece);
        self.emit(&mut state, Event::Failed { piece, bad, blocks });
        After::Gone
    }

    /// Writes a piece that is right, and records and announces it.
    fn write_right(
        self: &Arc<Self>,
        piece: PieceIndex,
        blocks: Vec<Cached>,
        scratch: &mut Vec<u8>,
    ) -> After {
        let fence = self.fence.read().unwrap_or_else(PoisonError::into_inner);
        let result = self
            .write_blocks(piece, &blocks)
            .and_then(|()| self.record_verified(piece));
        drop(fence);
        // Whoever hears of the piece finds its buffers in the pool.
        drop(blocks);
        if let Err(failure) = result {
            return if self.suspend(piece, failure) {
                After::Rest
            } else {
                After::Gone
            };
        }
        let failed_before = self.state().failed.get(piece);
        let blocks = if failed_before {
            self.block_digests(piece, scratch)
        } else {
            Vec::new()
        };
        let mut state = self.state();
        state.partials.remove(&piece);
        state.failed.remove(piece);
        state.have.insert(piece);
        state.unsynced = true;
        self.emit(&mut state, Event::Verified { piece, blocks });
        self.resume(&mut state);
        After::Gone
    }

    fn spill_blocks(self: &Arc<Self>, piece: PieceIndex, epoch: u64, blocks: Vec<Cached>) -> After {
        let fence = self.fence.read().unwrap_or_else(PoisonError::into_inner);
        let result = self.write_blocks(piece, &blocks);
        if let Err(failure) = result {
            drop((fence, blocks));
            return if self.suspend(piece, failure) {
                After::Rest
            } else {
                After::Gone
            };
        }
        let count = blocks.len() as u64;
        self.shared
            .counters
            .blocks_spilled
            .fetch_add(count, Ordering::Relaxed);
        let mut state = self.state();
        if let Some(partial) = self.current(&mut state, piece, epoch) {
            partial.spilled(&blocks);
        }
        self.resume(&mut state);
        drop(state);
        drop(fence);
        // The buffers go back to the pool here.
        drop(blocks);
        self.record_activity();
        After::GoOn
    }

    /// The piece, unless its blocks were forgotten meanwhile.
    fn current<'a>(
        &self,
        state: &'a mut State,
        piece: PieceIndex,
        epoch: u64,
    ) -> Option<&'a mut Partial> {
        state
            .partials
            .get_mut(&piece)
            .filter(|partial| partial.epoch == epoch)
    }

    fn give_up(&self, piece: PieceIndex, failure: &Failure) -> After {
        tracing::warn!("{}: {}", failure.path.display(), failure.error);
        self.drop_piece(&mut self.state(), piece);
        After::Gone
    }

    /// Writes blocks to their places, consecutive ones together.
    fn write_blocks(&self, piece: PieceIndex, blocks: &[Cached]) -> Result<(), Failure> {
        let start = self.layout.range_of(piece).start;
        for run in blocks.chunk_by(|(a, _), (b, _)| a.0 + 1 == b.0) {
            let Some((first, _)) = run.first() else {
                continue;
            };
            let chunks: Vec<&[u8]> = run.iter().map(|(_, buffer)| &buffer[..]).collect();
            let written = self
                .files
                .write(start + u64::from(first.offset()), &chunks)?;
            self.shared
                .counters
                .bytes_written
                .fetch_add(written, Ordering::Relaxed);
        }
        Ok(())
    }

    fn record_verified(&self, piece: PieceIndex) -> Result<(), Failure> {
        let mut journal = self.journal();
        let Some(journal) = journal.as_mut() else {
            return Ok(());
        };
        journal
            .append(Record::Verified(piece))
            .map_err(|error| Failure {
                path: journal.path().to_owned(),
                error,
            })
    }

    /// Reads `count` blocks of `piece` from their places into `out`.
    fn read_blocks(
        &self,
        piece: PieceIndex,
        first: BlockIndex,
        count: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let begin = u64::from(first.offset());
        let end = (begin + u64::from(count) * u64::from(BLOCK_LENGTH))
            .min(u64::from(self.layout.length_of(piece)));
        out.resize(usize::try_from(end - begin).unwrap_or(0), 0);
        self.files
            .read(self.layout.range_of(piece).start + begin, out)
    }

    /// A digest of each block of a piece that arrived as a whole; empty where a block cannot be read back.
    fn block_digests(&self, piece: PieceIndex, scratch: &mut Vec<u8>) -> Vec<u64> {
        let mut digests = Vec::new();
        for block in (0..self.layout.block_count(piece)).map(BlockIndex) {
            let cached = {
                let state = self.state();
                state
                    .partials
                    .get(&piece)
                    .and_then(|partial| partial.cached_block(block))
            };
            let digest = if let Some(buffer) = cached {
                Sha256::digest(&buffer[..])
            } else {
                match self.read_blocks(piece, block, 1, scratch) {
                    Ok(()) => Sha256::digest(&scratch[..]),
                    Err(_) => return Vec::new(),
                }
            };
            let mut head = [0; 8];
            head.copy_from_slice(&digest[..8]);
            digests.push(u64::from_be_bytes(head));
        }
        digests
    }

    /// The buffer with a block of a piece that is right and still to be written.
    pub(crate) fn cached_right(&self, block: Block) -> Option<Arc<crate::pool::BlockBuffer>> {
        let state = self.state();
        let partial = state
            .partials
            .get(&block.piece)
            .filter(|partial| partial.right)?;
        partial.cached_block(block.block)
    }
}
