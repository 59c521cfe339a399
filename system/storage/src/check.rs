//! Checking: pieces are read and hashed on the worker threads, several at a time on each.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use shoal_metainfo::{PieceIndex, Verdict, hasher};

use crate::event::Event;
use crate::files::{Failure, Look};
use crate::inner::Inner;
use crate::journal::Record;
use crate::lockstep::{Lane, READ_AHEAD, hash_lanes};
use crate::reason::Reason;
use crate::shared::Job;

/// A list of pieces to check. Each runner takes as many pieces at a time as are hashed together, so that pieces in the making
/// are not kept waiting.
#[derive(Debug)]
pub(crate) struct CheckWork {
    content: Arc<Inner>,
    pieces: Vec<PieceIndex>,
    next: AtomicUsize,
    cancelled: Arc<AtomicBool>,
    checked: Arc<AtomicU32>,
    /// What is missing is taken for gone.
    accepts_missing: bool,
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
    /// Checks `pieces` of `content`; `accepts_missing` where files that are missing are taken for gone.
    pub(crate) fn start(
        content: &Arc<Inner>,
        pieces: Vec<PieceIndex>,
        accepts_missing: bool,
    ) -> Check {
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
            accepts_missing,
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
    /// Checks the next pieces and queues itself again behind more urgent work.
    pub(crate) fn step(self: Arc<Self>, scratch: &mut Vec<u8>) {
        if self.cancelled.load(Ordering::Relaxed) {
            return;
        }
        let absences = {
            let mut state = self.content.state();
            if state.closing || self.content.events.is_closed() {
                return;
            }
            if state.is_crowded() || state.is_volume_absent() {
                state.parked |= state.is_crowded();
                state.parked_checks.push(Arc::clone(&self));
                return;
            }
            state.absences
        };
        let lanes = hasher::lanes(self.content.verifier.needs());
        let first = self.next.fetch_add(lanes, Ordering::Relaxed);
        let rest = self.pieces.get(first..).unwrap_or_default();
        let pieces = &rest[..rest.len().min(lanes)];
        if pieces.is_empty() {
            return;
        }
        let content = Arc::clone(&self.content);
        let right = content.check_pieces(pieces, self.accepts_missing, scratch);
        // What was not right on a drive that went meanwhile tells nothing.
        let went = content.state().absences != absences;
        let mut again = Vec::new();
        for &piece in pieces {
            let right = right.contains(&piece);
            if went && !right {
                again.push(piece);
                continue;
            }
            self.checked.fetch_add(1, Ordering::Relaxed);
            content.emit(&mut content.state(), Event::Checked { piece, right });
        }
        if !again.is_empty() {
            content.shared.push(Job::Check(Arc::new(self.of(again))));
        }
        content.shared.push(Job::Check(self));
    }

    /// Another part of the same check.
    fn of(&self, pieces: Vec<PieceIndex>) -> CheckWork {
        CheckWork {
            content: Arc::clone(&self.content),
            pieces,
            next: AtomicUsize::new(0),
            cancelled: Arc::clone(&self.cancelled),
            checked: Arc::clone(&self.checked),
            accepts_missing: self.accepts_missing,
        }
    }
}

/// A piece that nobody else writes while it is checked.
#[derive(Debug)]
struct Claim {
    piece: PieceIndex,
    /// Whether it counted as right before.
    had: bool,
}

impl Inner {
    /// Reads and hashes pieces; what is known about them changes accordingly. A piece that is being received counts as wrong.
    /// Returns those that are right.
    fn check_pieces(
        self: &Arc<Self>,
        pieces: &[PieceIndex],
        accepts_missing: bool,
        scratch: &mut Vec<u8>,
    ) -> Vec<PieceIndex> {
        let mut claims: Vec<Claim> = Vec::with_capacity(pieces.len());
        for &piece in pieces {
            let twice = claims.iter().any(|claim| claim.piece == piece);
            if !twice && let Some(claim) = self.claim(piece) {
                self.files.look_first(self.layout.range_of(piece));
                claims.push(claim);
            }
        }
        let mut right = self.right_on_disk(&claims, scratch);
        for claim in claims {
            let is_right = right.contains(&claim.piece);
            if !is_right && self.is_out_of_reach(claim.piece, accepts_missing) {
                // Nothing was learned: it counts as what it did before.
                right.extend(claim.had.then_some(claim.piece));
                if !claim.had {
                    self.release(&mut self.state(), claim.piece);
                }
            } else {
                self.conclude(&claim, is_right);
            }
        }
        self.rested.notify_all();
        right
    }

    /// Whether a piece is not right only because a file of it is missing or cannot be looked at. Of one that was not known to have been
    /// there, nothing is missing.
    fn is_out_of_reach(self: &Arc<Self>, piece: PieceIndex, accepts_missing: bool) -> bool {
        let known = self.state().have.get(piece) || self.resumed.is_suspect(piece);
        if !known {
            return false;
        }
        self.look_at_volume();
        let slots = self.files.places(self.layout.range_of(piece));
        let slots: Vec<usize> = slots.filter_map(|place| place.slot).collect();
        let is_there = |slot: usize| match self.files.look(slot, 0, true) {
            Look::Same | Look::Changed => true,
            Look::Missing if accepts_missing => true,
            Look::Missing => {
                self.miss(slot);
                false
            }
            Look::Unknown(error) => {
                let path = self.files.full_path(slot);
                let reason = self.reason_of(&Failure { path, error });
                if reason == Reason::VolumeMissing {
                    self.vanish();
                }
                // What a medium does not give any more is lost.
                reason.is_of_the_medium()
            }
        };
        let absent = match accepts_missing {
            true => self.state().is_volume_absent(),
            false => self.is_absent(piece),
        };
        absent || !slots.into_iter().all(is_there)
    }

    fn claim(&self, piece: PieceIndex) -> Option<Claim> {
        if !self.layout.contains(piece) {
            return None;
        }
        let mut state = self.state();
        let had = state.have.get(piece);
        if !had {
            // Claiming the piece keeps others from writing it meanwhile.
            let partial = self.partial(&mut state, piece);
            if partial.busy || !partial.is_empty() {
                return None;
            }
            partial.busy = true;
        }
        Some(Claim { piece, had })
    }

    /// Notes what was found out about a piece.
    fn conclude(self: &Arc<Self>, claim: &Claim, right: bool) {
        let &Claim { piece, had } = claim;
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
                state.gain(piece);
                state.unsynced = true;
                state.partials.remove(&piece);
            } else {
                self.release(&mut state, piece);
            }
        } else if !right {
            state.lose(piece);
        }
    }

    fn right_on_disk(&self, claims: &[Claim], scratch: &mut Vec<u8>) -> Vec<PieceIndex> {
        // Where nobody promises hashes, what is found is anybody's.
        if !self.verifier.can_tell() {
            return Vec::new();
        }
        let lanes = claims.iter().map(|claim| {
            let length = self.layout.length_of(claim.piece);
            Lane::new(self.verifier.hasher(claim.piece), length)
        });
        let mut lanes: Vec<Lane> = lanes.collect();
        let read = |lane: usize, begin: u32, chunk: &mut [u8]| {
            let range = self.layout.range_of(claims[lane].piece);
            let start = range.start + u64::from(begin);
            let whole = self.files.read(start, chunk).is_ok();
            if begin.is_multiple_of(READ_AHEAD) && whole {
                let end = range.end.min(start + u64::from(READ_AHEAD));
                self.files.expect(start..end);
            }
            Ok::<bool, Infallible>(whole)
        };
        match hash_lanes(&mut lanes, scratch, read) {
            Ok(()) => {}
            Err(never) => match never {},
        }
        let is_right = |(lane, claim): (Lane, &Claim)| {
            let verdict = self.verifier.check(claim.piece, &lane.hasher.finish());
            (lane.whole && verdict == Verdict::Right).then_some(claim.piece)
        };
        lanes.into_iter().zip(claims).filter_map(is_right).collect()
    }
}
