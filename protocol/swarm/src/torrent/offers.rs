//! What a seed suggests (BEP 6), so that it sends each piece once before it sends any twice.
//!
//! Peers cannot see what others are fetching from a seed. Left alone, each picks for itself among the pieces that nobody
//! has announced, and the more of them there are, the more of a seed's uplink goes into second copies of what others could
//! have passed on. A seed knows: it names to each peer pieces that no peer has and that it has named to nobody else. Other than
//! with superseeding (BEP 16), nothing is hidden from anybody, and who ignores suggestions loses nothing.
//!
//! Invariant: a piece is on offer to at most one peer; a piece that a peer has announced is never offered again.

use super::peer::Peer;
use super::{PeerKey, ToPeer, Torrent};
use shoal_metainfo::PieceIndex;

/// So many pieces are on offer to a peer at least: the one that it fetches and the next.
const MIN_OFFERS: u64 = 2;

/// ... and at most; receivers remember about as many.
const MAX_OFFERS: u64 = 12;

/// ... and in between, what it receives in this time: peers ask several seconds ahead.
const AHEAD_S: u64 = 6;

/// The pieces that nobody has been seen with.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// In the order of offering, the next one last. `None` until we are a seed.
    unseen: Option<Vec<PieceIndex>>,
}

impl Torrent {
    /// Suggests to a peer what it could fetch for all, as far as it has room for it.
    pub(super) fn offer(&mut self, key: PeerKey) {
        if self.is_super_seeding() {
            return self.show_pieces(key);
        }
        let Some(peer) = self.peers.get(&key).filter(|peer| is_taker(peer)) else {
            return;
        };
        if !self.picker.have().is_full() {
            return;
        }
        let unseen = self.offers.unseen.get_or_insert_with(|| {
            let mut all: Vec<PieceIndex> = self.layout.pieces().collect();
            self.rng.shuffle(&mut all);
            all
        });
        let rate = peer.report.upload_rate;
        let ahead = rate.saturating_mul(AHEAD_S) / u64::from(self.layout.piece_length());
        let most = (MIN_OFFERS + ahead).min(MAX_OFFERS);
        let mut news = Vec::new();
        while ((peer.offered.len() + news.len()) as u64) < most
            && let Some(piece) = unseen.pop()
        {
            if !self.picker.is_with_leechers(piece) {
                news.push(piece);
            }
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.offered.extend_from_slice(&news);
        }
        for piece in news {
            self.tell(key, ToPeer::Suggest(piece));
        }
    }

    /// A peer has announced a piece. If it was on offer, it is the peer's turn to get another one.
    pub(super) fn on_offer_taken(&mut self, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Some(at) = peer.offered.iter().position(|&other| other == piece) {
            peer.offered.swap_remove(at);
            self.offer(key);
        }
    }

    /// What was on offer to somebody who cannot fetch it any more is for others to have.
    pub(super) fn withdraw_offers(&mut self, offered: &[PieceIndex]) {
        if let Some(unseen) = &mut self.offers.unseen {
            unseen.extend_from_slice(offered);
        }
    }
}

fn is_taker(peer: &Peer) -> bool {
    peer.unchoked && peer.interested && peer.fast && !peer.closing && !peer.is_seed()
}
