//! Which lost pieces are verified again: a file may have been touched without having been changed.
//!
//! Invariant: a piece is verified again a bounded number of times, so that a file that somebody keeps touching does not keep
//! the disk busy; what is then not known to be right counts as missing.

use shoal_metainfo::PieceIndex;
use std::collections::BTreeMap;

/// How often a piece is verified again while its torrent runs: for a file that is copied, touched or restored now and then.
const MAX_RECHECKS: u8 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rechecks {
    /// How often each piece was.
    attempts: BTreeMap<PieceIndex, u8>,
    /// Pieces whose verification is asked for, and whether they were lost once more since.
    running: BTreeMap<PieceIndex, bool>,
    /// Pieces to verify.
    due: Vec<PieceIndex>,
}

impl Rechecks {
    /// A piece was lost.
    pub(crate) fn lost(&mut self, piece: PieceIndex) {
        if let Some(again) = self.running.get_mut(&piece) {
            *again = true;
            return;
        }
        let attempts = self.attempts.entry(piece).or_default();
        if *attempts < MAX_RECHECKS {
            *attempts += 1;
            self.running.insert(piece, false);
            self.due.push(piece);
        }
    }

    /// The pieces to verify now.
    pub(crate) fn due(&mut self) -> Vec<PieceIndex> {
        std::mem::take(&mut self.due)
    }

    /// Whether a piece was lost and is to be verified again.
    pub(crate) fn awaits(&self, piece: PieceIndex) -> bool {
        self.running.contains_key(&piece)
    }

    /// Does without those that were not begun.
    pub(crate) fn call_off(&mut self) {
        for piece in self.due.drain(..) {
            self.running.remove(&piece);
        }
    }

    /// How many pieces are being verified again.
    pub(crate) fn under_way(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// A piece was read and found to be `right` or not: whether it is to be had. What was found before it was lost once more
    /// means nothing, whatever the order in which the two are told.
    pub(crate) fn checked(&mut self, piece: PieceIndex, right: bool) -> bool {
        match self.running.remove(&piece) {
            Some(false) => right,
            Some(true) => {
                self.lost(piece);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: PieceIndex = PieceIndex(7);

    #[test]
    fn a_lost_piece_that_turns_out_right_is_to_be_had() {
        let mut rechecks = Rechecks::default();
        rechecks.lost(PIECE);
        assert_eq!(rechecks.due(), [PIECE]);
        assert!(rechecks.due().is_empty());
        assert_eq!(rechecks.under_way(), 1);
        assert!(rechecks.checked(PIECE, true));
        assert_eq!(rechecks.under_way(), 0);
        rechecks.lost(PIECE);
        assert_eq!(rechecks.due(), [PIECE]);
        assert!(!rechecks.checked(PIECE, false));
    }

    #[test]
    fn what_was_found_before_the_last_loss_means_nothing() {
        let mut rechecks = Rechecks::default();
        rechecks.lost(PIECE);
        assert_eq!(rechecks.due(), [PIECE]);
        rechecks.lost(PIECE);
        assert!(rechecks.due().is_empty());
        assert!(!rechecks.checked(PIECE, true));
        assert_eq!(rechecks.due(), [PIECE]);
        assert!(rechecks.checked(PIECE, true));
    }

    #[test]
    fn a_piece_that_is_lost_again_and_again_is_given_up() {
        let mut rechecks = Rechecks::default();
        let mut verified = 0;
        for _ in 0..100 {
            rechecks.lost(PIECE);
            verified += rechecks.due().len();
            rechecks.checked(PIECE, true);
        }
        assert_eq!(verified, usize::from(MAX_RECHECKS));
    }
}
