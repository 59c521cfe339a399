//! The info dictionary as one connection serves it (BEP 9).
//!
//! Invariant: a remote gets the whole of it twice as fast as it likes, and then no faster than [`BYTES_PER_S`]: metadata is not
//! subject to choking, and must not be a way to take bandwidth.

use bytes::Bytes;
use shoal_machine::Moment;
use shoal_wire::Metadata;
use shoal_wire::metadata::{METADATA_PIECE_LENGTH, metadata_piece_length};

/// What a remote gets of it a second once its first helpings are used up. Who asks a third time has lost what it got.
const BYTES_PER_S: u64 = 2 * METADATA_PIECE_LENGTH as u64;

/// See the module.
#[derive(Clone, Debug)]
pub struct MetadataOffer {
    info: Bytes,
    budget_bytes: u64,
    since: Moment,
}

impl MetadataOffer {
    /// Serves `info` from `now` on.
    #[must_use]
    pub fn new(info: Bytes, now: Moment) -> Self {
        MetadataOffer {
            budget_bytes: helpings(&info),
            info,
            since: now,
        }
    }

    /// Bytes of the info dictionary; `None` where it is too long for any message to say so.
    #[must_use]
    pub fn total_bytes(&self) -> Option<u32> {
        u32::try_from(self.info.len()).ok()
    }

    /// The answer to a request: the piece, which shares its bytes with all other answers, or a reject where there is no such piece or
    /// the remote has had enough.
    pub fn answer(&mut self, now: Moment, piece: u32) -> Metadata {
        self.earn(now);
        self.data(piece).unwrap_or(Metadata::Reject { piece })
    }

    fn earn(&mut self, now: Moment) {
        let elapsed_ms = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        let earned = elapsed_ms.saturating_mul(BYTES_PER_S) / 1_000;
        if earned > 0 {
            let most = helpings(&self.info);
            self.budget_bytes = self.budget_bytes.saturating_add(earned).min(most);
            self.since = now;
        }
    }

    fn data(&mut self, piece: u32) -> Option<Metadata> {
        let total_bytes = self.total_bytes()?;
        let length = metadata_piece_length(piece, total_bytes)?;
        self.budget_bytes = self.budget_bytes.checked_sub(length.into())?;
        let begin = piece as usize * METADATA_PIECE_LENGTH as usize;
        Some(Metadata::Data {
            piece,
            total_bytes,
            bytes: self.info.slice(begin..begin + length as usize),
        })
    }
}

fn helpings(info: &Bytes) -> u64 {
    2 * info.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_served(offer: &mut MetadataOffer, s: u64, piece: u32) -> bool {
        match offer.answer(Moment::from_secs(s), piece) {
            Metadata::Data { .. } => true,
            Metadata::Reject { piece: other } => {
                assert_eq!(other, piece);
                false
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_pieces_make_up_the_whole_and_there_are_no_others() {
        let info: Bytes = (0..40_000u32).map(|at| at.to_le_bytes()[0]).collect();
        let mut offer = MetadataOffer::new(info.clone(), Moment::ZERO);
        let mut got = Vec::new();
        for piece in 0..3 {
            match offer.answer(Moment::ZERO, piece) {
                Metadata::Data {
                    total_bytes, bytes, ..
                } => {
                    assert_eq!(total_bytes, 40_000);
                    got.extend_from_slice(&bytes);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, info);
        assert!(!is_served(&mut offer, 0, 3));
        assert!(!is_served(&mut offer, 0, u32::MAX));
    }

    #[test]
    fn who_asks_without_end_is_served_slowly() {
        let mut offer = MetadataOffer::new(vec![7; 40_000].into(), Moment::ZERO);
        let served = (0..100).filter(|at| is_served(&mut offer, 0, at % 2));
        assert_eq!(served.count(), 4, "80,000 bytes are four whole pieces");
        assert!(is_served(&mut offer, 1, 0) && is_served(&mut offer, 1, 1));
        assert!(!is_served(&mut offer, 1, 0));
        let later = (0..100).filter(|_| is_served(&mut offer, 3_600, 0));
        assert_eq!(later.count(), 4, "what is not asked for is not saved up");
    }
}
