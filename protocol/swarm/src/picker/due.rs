//! The readers of a torrent and when they need which piece.
//!
//! Invariant: at most [`MAX_DEADLINE_LEASES`] leases; no piece of a lease before its `next` is wanted and missing.

use super::MAX_DEADLINE_LEASES;
use crate::message::DeadlineLease;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, PieceIndex};
use smallvec::SmallVec;

/// Only pieces due this soon are fetched by deadline. What a reader needs later is picked rarest first, for the good of
/// the swarm.
const HORIZON: Duration = Duration::from_secs(60);

/// How far one pick looks, in pieces: more than what lies within the horizon of any reader, unless its pieces are tiny.
const MAX_STEPS: usize = 512;

#[derive(Clone, Debug)]
struct Reader {
    lease: DeadlineLease,
    next: PieceIndex,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Readers {
    readers: Vec<Reader>,
}

impl Readers {
    /// Adds a lease, whose end exists, or moves the one of the same id; false where there are too many.
    pub(super) fn set(&mut self, lease: DeadlineLease) -> bool {
        let reader = Reader {
            next: lease.first,
            lease,
        };
        let known = |old: &Reader| old.lease.id == lease.id;
        if let Some(at) = self.readers.iter().position(known) {
            self.readers[at] = reader;
        } else if self.readers.len() < MAX_DEADLINE_LEASES {
            self.readers.push(reader);
        } else {
            return false;
        }
        true
    }

    pub(super) fn end(&mut self, id: u64) {
        self.readers.retain(|reader| reader.lease.id != id);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// A piece is wanted and missing that was not.
    pub(super) fn reopened(&mut self, piece: PieceIndex) {
        for reader in &mut self.readers {
            if (reader.lease.first..=reader.lease.last).contains(&piece) {
                reader.next = reader.next.min(piece);
            }
        }
    }

    /// Begins a walk over those of `missing` that are due within the horizon, and the first one of each reader in any case,
    /// earliest deadline first.
    pub(super) fn walk(&mut self, now: Moment, piece_length: u32, missing: &Bitfield) -> Walk {
        let mut walk = Walk {
            horizon: now + HORIZON,
            piece_length,
            steps: 0,
            heads: SmallVec::new(),
        };
        for (at, reader) in self.readers.iter_mut().enumerate() {
            while reader.next <= reader.lease.last
                && !missing.get(reader.next)
                && walk.steps < MAX_STEPS
            {
                reader.next.0 += 1;
                walk.steps += 1;
            }
            if reader.next <= reader.lease.last {
                let deadline = due(&reader.lease, reader.next, piece_length);
                walk.heads.push((deadline, reader.next, at));
            }
        }
        walk
    }
}

/// A walk over due pieces. The readers must not change meanwhile.
pub(super) struct Walk {
    horizon: Moment,
    piece_length: u32,
    steps: usize,
    /// Where each reader is: when its next piece is due, which that is, and the reader.
    heads: SmallVec<[(Moment, PieceIndex, usize); 4]>,
}

impl Walk {
    /// The next due piece and its deadline.
    pub(super) fn next(
        &mut self,
        readers: &Readers,
        missing: &Bitfield,
    ) -> Option<(PieceIndex, Moment)> {
        while self.steps < MAX_STEPS {
            self.steps += 1;
            let head = (0..self.heads.len()).min_by_key(|&head| self.heads[head])?;
            let (deadline, piece, reader) = self.heads[head];
            let lease = &readers.readers[reader].lease;
            let following = PieceIndex(piece.0 + 1);
            let follows = due(lease, following, self.piece_length);
            if following > lease.last || follows > self.horizon {
                self.heads.swap_remove(head);
            } else {
                self.heads[head] = (follows, following, reader);
            }
            if missing.get(piece) {
                return Some((piece, deadline));
            }
        }
        None
    }
}

/// When the reader reaches `piece`. One that does not say how fast it reads needs everything at once.
fn due(lease: &DeadlineLease, piece: PieceIndex, piece_length: u32) -> Moment {
    let bytes = u64::from(piece.0.saturating_sub(lease.first.0)) * u64::from(piece_length);
    let seconds = bytes.checked_div(lease.rate_bytes_per_s).unwrap_or(0);
    lease.deadline + Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u32 = 1 << 20;

    fn lease(id: u64, first: u32, last: u32, deadline_s: u64, rate: u64) -> DeadlineLease {
        DeadlineLease {
            id,
            first: PieceIndex(first),
            last: PieceIndex(last),
            deadline: Moment::from_secs(deadline_s),
            rate_bytes_per_s: rate,
        }
    }

    fn visited(readers: &mut Readers, have: &[u32], now_s: u64) -> Vec<u32> {
        let mut missing = Bitfield::full(2000);
        for &piece in have {
            missing.remove(PieceIndex(piece));
        }
        let mut walk = readers.walk(Moment::from_secs(now_s), PIECE, &missing);
        core::iter::from_fn(|| walk.next(readers, &missing))
            .map(|(piece, _)| piece.0)
            .collect()
    }

    #[test]
    fn two_readers_take_turns_by_deadline_and_the_horizon_ends_the_walk() {
        let mut readers = Readers::default();
        assert!(readers.set(lease(1, 10, 1000, 5, u64::from(PIECE) / 10)));
        assert!(readers.set(lease(2, 20, 22, 6, u64::from(PIECE) / 2)));
        // The first reader needs a piece every ten seconds from 5 s on, the second every two from 6 s on.
        assert_eq!(
            visited(&mut readers, &[21], 0),
            [10, 20, 22, 11, 12, 13, 14, 15]
        );
        readers.end(1);
        assert_eq!(visited(&mut readers, &[20], 0), [21, 22]);
    }

    #[test]
    fn the_first_missing_piece_counts_however_late_and_a_lost_one_comes_back() {
        let mut readers = Readers::default();
        readers.set(lease(1, 0, 9, 1000, u64::from(PIECE) / 100));
        assert_eq!(visited(&mut readers, &[0, 1], 0), [2]);
        readers.reopened(PieceIndex(1));
        assert_eq!(visited(&mut readers, &[0], 0), [1]);
        // A reader that moves on forgets what lies behind.
        readers.set(lease(1, 5, 9, 1000, 0));
        assert_eq!(visited(&mut readers, &[], 0), [5]);
        assert_eq!(visited(&mut readers, &[], 2000), [5, 6, 7, 8, 9]);
    }

    #[test]
    fn leases_are_bounded_and_hostile_numbers_are_harmless() {
        let mut readers = Readers::default();
        for id in 0..64 {
            assert!(readers.set(lease(id, 0, 1999, u64::MAX, 1)));
        }
        assert!(!readers.set(lease(64, 0, 0, 0, 0)));
        assert!(
            readers.set(lease(63, 5, 2, 0, 0)),
            "an empty range is no claim"
        );
        assert!(visited(&mut readers, &[], u64::MAX).len() <= MAX_STEPS);
    }
}
