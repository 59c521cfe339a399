//! Checking: pieces are read and hashed on the worker threads, several at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use shoal_metainfo::{PieceIndex, Verdict};

use crate::event::Event;
use crate::inner::Inner;
use crate::journal::Record;
use crate::shared::Job;

/// As much as is read at a time: enough for a disk to stream, little enough to stay in a core's cache.
const READ_CHUNK: u32 = 512 * 1024;

/// A list of pieces to check. Each runner takes one piece at a time, so that pieces in the making are not kept waiting.
#[derive(Debug)]
pub(crate) struct CheckWork {
    content: Arc<Inner>,
    pieces: Vec<PieceIndex>,
    next: AtomicUsize,
    cancelled: Arc<AtomicBool>,
    checked: Arc<AtomicU32>,
}

/// A check that is going on. Dropping it does not stop it; closing the content does, and so does dropping the receiver of
/// its events.
#[derive(Clone, Debug)]
pub struct Check {
    cancelled: Arc<AtomicBool>,
    checked: Arc<AtomicU32>,
    total: u32,
}

impl Check {
    /// Checks `pieces` of `content`.
    pub(crate) fn start(content: &Arc<Inner>, pieces: Vec<PieceIndex>) -> Check {
        let check = Check {
            cancelled: Arc::default(),
            checked: Arc::default(),
            total: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
        };
        let runners = content.shared.threads.min(pieces.len());
        let work = Arc::new(CheckWork {
            content: Arc::clone(content),
            pieces,
            next: AtomicUsize::new(0),
            cancelled: Arc::clone(&check.cancelled),
            checked: Arc::clone(&check.checked),
        });
        for _ in 0..runners {
            content.shared.push(Job::Check(Arc::clone(&work)));
        }
        check
    }

    /// Stops it soon; no event follows for the pieces that were left.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// How many pieces were checked so far.
    #[must_use]
    pub fn checked(&self) -> u32 {
        self.checked.load(Ordering::Relaxed)
    }

    /// How many pieces were to be checked.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }
}

impl CheckWork {
    /// Checks the next piece and queues itself again behind more urgent work.
    pub(crate) fn step(self: Arc<Self>, scratch: &mut Vec<u8>) {
        if self.cancelled.load(Ordering::Relaxed) {
            return;
        }
        {
            let mut state = self.content.state();
            if state.closing || self.content.events.is_closed() {
                return;
            }
            if state.is_crowded() {
                state.parked = true;
                state.parked_checks.push(Arc::clone(&self));
                return;
            }
        }
        let Some(&piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
            return;
        };
        let right = self.content.check_piece(piece, scratch);
        self.checked.fetch_add(1, Ordering::Relaxed);
        let content = Arc::clone(&self.content);
        content.emit(&mut content.state(), Event::Checked { piece, right });
        content.shared.push(Job::Check(self));
    }
}

impl Inner {
    /// Reads and hashes a piece; what is known about it changes accordingly. A piece that is being received counts as
    /// wrong.
    fn check_piece(self: &Arc<Self>, piece: PieceIndex, scratch: &mut Vec<u8>) -> bool {
        if !self.layout.contains(piece) {
            return false;
        }
        let had = {
            let mut state = self.state();
            let had = state.have.get(piece);
            if !had {
                // Claiming the piece keeps others from writing it meanwhile.
                let partial = self.partial(&mut state, piece);
                if partial.busy || !partial.is_empty() {
                    return false;
                }
                partial.busy = true;
            }
            had
        };
        self.files.look(self.layout.range_of(piece));
        let right = self.is_right_on_disk(piece, scratch);
        if right && !had {
            for place in self.files.places(self.layout.range_of(piece)) {
                place
                    .slot
                    .into_iter()
                    .for_each(|slot| self.files.set_dirty(slot));
            }
            self.record_soon(&[Record::Verified(piece)]);
        } else if !right && (had || self.resumed.is_suspect(piece)) {
            self.record_soon(&[Record::Lost(piece)]);
        }
        let mut state = self.state();
        if !had {
            if right {
                state.have.insert(piece);
                state.unsynced = true;
                state.partials.remove(&piece);
            } else {
                self.release(&mut state, piece);
            }
        } else if !right {
            state.have.remove(piece);
        }
        drop(state);
        self.rested.notify_all();
        right
    }

    fn is_right_on_disk(&self, piece: PieceIndex, scratch: &mut Vec<u8>) -> bool {
        if !self.verifier.can_tell() {
            return false;
        }
        let mut hasher = self.verifier.hasher(piece);
        let start = self.layout.range_of(piece).start;
        let length = self.layout.length_of(piece);
        let mut begin = 0;
        while begin < length {
            let len = READ_CHUNK.min(length - begin);
            scratch.resize(len as usize, 0);
            if self.files.read(start + u64::from(begin), scratch).is_err() {
                return false;
            }
            hasher.update(scratch);
            begin += len;
        }
        self.verifier.check(piece, &hasher.finish()) == Verdict::Right
    }
}
