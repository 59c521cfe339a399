//! What a worker thread does with pieces: hash what arrived, judge it, write it, record it.
//!
//! Invariant: a piece is recorded after it was written and announced after it was recorded.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use sha2::{Digest, Sha256};
use shoal_metainfo::hasher::{Run, hash_together};
use shoal_metainfo::{BLOCK_LENGTH, Block, BlockIndex, PieceHasher, PieceIndex, Verdict};

use crate::event::Event;
use crate::files::Failure;
use crate::inner::{Inner, State};
use crate::journal::Record;
use crate::partial::{Cached, HashRun, Partial};
use crate::pool::BlockBuffer;

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

/// A piece that this thread works on, and nobody else meanwhile.
struct Claimed {
    content: Arc<Inner>,
    piece: PieceIndex,
    /// Whether it is to leave memory where it is not complete.
    spill: bool,
}

/// The next bytes of a claimed piece, which are to be hashed.
struct Hashing {
    epoch: u64,
    bytes: Bytes,
    blocks: usize,
    hasher: PieceHasher,
}

enum Bytes {
    Cached(Vec<Arc<BlockBuffer>>),
    ReadBack(Vec<u8>),
}

impl Bytes {
    fn chunks(&self) -> Vec<&[u8]> {
        match self {
            Bytes::Cached(buffers) => buffers.iter().map(|buffer| &buffer[..]).collect(),
            Bytes::ReadBack(bytes) => vec![bytes],
        }
    }
}

/// Works on pieces until there is nothing more to do, those that are not complete then are spilled where `spill` says so.
/// They are hashed side by side, as many as there are.
pub(crate) fn advance(
    pieces: impl IntoIterator<Item = (Arc<Inner>, PieceIndex)>,
    spill: bool,
    scratch: &mut Vec<u8>,
) {
    let pieces = pieces.into_iter();
    let claimed = pieces.filter_map(|(content, piece)| Claimed::new(content, piece, spill));
    let mut claimed: Vec<Claimed> = claimed.collect();
    while !claimed.is_empty() {
        // What is not complete rests first, so that it can wait for company again while the others are written.
        claimed.sort_by_key(Claimed::is_complete);
        let mut runs = Vec::with_capacity(claimed.len());
        claimed.retain_mut(|claimed| {
            let next = claimed.next_run(scratch);
            next.is_some_and(|hashing| {
                runs.push(hashing);
                true
            })
        });
        hash(&mut runs);
        for (claimed, hashing) in claimed.iter().zip(runs) {
            let content = &claimed.content;
            let mut state = content.state();
            if let Some(partial) = content.current(&mut state, claimed.piece, hashing.epoch) {
                partial.put_run(hashing.hasher, hashing.blocks);
            }
        }
    }
}

fn hash(hashings: &mut [Hashing]) {
    let mut all: Vec<(&mut PieceHasher, Vec<&[u8]>)> = hashings
        .iter_mut()
        .map(|hashing| (&mut hashing.hasher, hashing.bytes.chunks()))
        .collect();
    let runs = all
        .iter_mut()
        .map(|(hasher, chunks)| Run { hasher, chunks });
    hash_together(&mut runs.collect::<Vec<_>>());
}

impl Claimed {
    /// Claims a piece that can be worked on.
    fn new(content: Arc<Inner>, piece: PieceIndex, spill: bool) -> Option<Self> {
        {
            let mut state = content.state();
            let partial = state.partials.get_mut(&piece)?;
            if partial.busy {
                return None;
            }
            partial.busy = true;
            partial.queued = false;
        }
        Some(Claimed {
            content,
            piece,
            spill,
        })
    }

    fn is_complete(&self) -> bool {
        let state = self.content.state();
        let partial = state.partials.get(&self.piece);
        partial.is_some_and(Partial::is_complete)
    }

    /// Does what is to be done until bytes are to be hashed. `None` where nothing is left to do; others may claim the piece
    /// then.
    fn next_run(&mut self, scratch: &mut Vec<u8>) -> Option<Hashing> {
        let (content, piece) = (&self.content, self.piece);
        loop {
            let step = content.next_step(&mut content.state(), piece, self.spill);
            let after = match step {
                Step::Hash(epoch, run, hasher) => match content.bytes_of(piece, run) {
                    Ok((bytes, blocks)) => {
                        return Some(Hashing {
                            epoch,
                            bytes,
                            blocks,
                            hasher,
                        });
                    }
                    Err(failure) => content.give_up(piece, &failure),
                },
                Step::Judge(epoch, hasher) => content.judge(piece, epoch, hasher, scratch),
                Step::Write(blocks) => content.write_right(piece, blocks, scratch),
                Step::Spill(epoch, blocks) => {
                    self.spill = false;
                    content.spill_blocks(piece, epoch, blocks)
                }
                Step::Rest => After::Rest,
            };
            if after == After::Gone || after == After::Rest && content.rest(piece) {
                content.rested.notify_all();
                return None;
            }
        }
    }
}

impl Inner {
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
        let pressed = spill || self.shared.is_short();
        // Fewer blocks are worth it only if they would have to be read back otherwise.
        if (pressed || partial.wants_work())
            && let Some((run, hasher)) = partial.take_run()
        {
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
        let wanted = pressed && partial.cached() > 0;
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
        let suspended = state.suspended.is_some() || state.moving;
        let crowded = state.is_crowded();
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

    /// The bytes of a run, and how many blocks it has.
    fn bytes_of(&self, piece: PieceIndex, run: HashRun) -> Result<(Bytes, usize), Failure> {
        match run {
            HashRun::Cached(buffers) => {
                let count = buffers.len();
                Ok((Bytes::Cached(buffers), count))
            }
            HashRun::Spilled(first, count) => {
                let mut bytes = Vec::new();
                self.read_blocks(piece, first, count, &mut bytes)?;
                let blocks = &self.shared.counters.blocks_read_back;
                blocks.fetch_add(u64::from(count), Ordering::Relaxed);
                Ok((Bytes::ReadBack(bytes), count as usize))
            }
        }
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
        let absences = {
            let state = self.state();
            if state.moving {
                return After::Rest;
            }
            state.absences
        };
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
        if state.absences != absences {
            // Of what was written when the drive went, nobody knows whether it arrived.
            drop(state);
            self.record_soon(&[Record::Suspect(piece)]);
            self.drop_piece(&mut self.state(), piece);
            return After::Gone;
        }
        state.partials.remove(&piece);
        state.failed.remove(piece);
        state.gain(piece);
        state.unsynced = true;
        self.emit(&mut state, Event::Verified { piece, blocks });
        self.resume(&mut state);
        After::Gone
    }

    fn spill_blocks(self: &Arc<Self>, piece: PieceIndex, epoch: u64, blocks: Vec<Cached>) -> After {
        let fence = self.fence.read().unwrap_or_else(PoisonError::into_inner);
        let absences = {
            let state = self.state();
            if state.moving {
                return After::Rest;
            }
            state.absences
        };
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
        let arrived = state.absences == absences;
        let partial = self.current(&mut state, piece, epoch);
        if let Some(partial) = partial.filter(|_| arrived) {
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
    pub(crate) fn cached_right(&self, block: Block) -> Option<Arc<BlockBuffer>> {
        let state = self.state();
        let partial = state
            .partials
            .get(&block.piece)
            .filter(|partial| partial.right)?;
        partial.cached_block(block.block)
    }
}
