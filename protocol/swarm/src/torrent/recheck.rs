//! Everything is read again, as a person who doubts it asks for.
//!
//! Invariant: meanwhile nobody is connected but those who are leaving, nothing is leased, and what counts as had was read since.

use super::trust::Verdict;
use super::{Tally, Torrent};
use crate::message::{CloseReason, PeerKey};
use shoal_metainfo::PieceIndex;

impl Torrent {
    /// Whether every piece is being read again.
    #[must_use]
    pub const fn is_rechecking(&self) -> bool {
        self.rechecking
    }

    pub(super) fn on_recheck(&mut self) {
        if self.rechecking || self.stopped {
            return;
        }
        self.rechecking = true;
        self.connections_changed = true;
        self.super_seeds_again = self.super_seed.take().is_some();
        self.news.clear();
        self.hungry.clear();
        self.starved.clear();
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.close(key, CloseReason::Rechecking);
        }
        // Blocks that were received are not read: storage would take their piece for wrong.
        let begun = |piece: &PieceIndex| self.picker.is_in_progress(*piece);
        let begun: Vec<PieceIndex> = self.layout.pieces().filter(begun).collect();
        for piece in begun {
            if !self.verdicts.contains_key(&piece) {
                self.on_verdict(piece, Verdict::Unwanted);
            }
        }
        let had: Vec<PieceIndex> = self.picker.have().iter().collect();
        for piece in had {
            self.picker.lost(piece);
        }
        self.have = Tally::default();
        self.recount();
        for peer in self.peers.values_mut() {
            (peer.shown, peer.ever_shown, peer.queued) = (Vec::new(), None, false);
            peer.recount(self.picker.wanted_missing());
        }
    }

    pub(super) fn on_rechecked(&mut self) {
        if !core::mem::take(&mut self.rechecking) {
            return;
        }
        self.connections_changed = true;
        self.review_completeness();
        if core::mem::take(&mut self.super_seeds_again) {
            self.set_super_seed(true);
        }
    }
}
