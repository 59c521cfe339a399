//! Pieces that turn out right, wrong or lost, and what that says about who delivered them.
//!
//! Invariant: whoever is banned is cut off on every connection, and no address of it is dialled or accepted again.

use super::peer::Peer;
use super::{Output, Torrent};
use crate::message::{Blame, CloseReason, PeerKey, ToPeer};
use core::net::IpAddr;
use shoal_metainfo::{BlockIndex, PieceIndex};

/// The most peers that left whose addresses are remembered for pieces that they took part in: those of a torrent's whole
/// stock of pieces in progress, many times over.
const MAX_DEPARTED: usize = 1_024;

impl Torrent {
    pub(super) fn on_verified(&mut self, piece: PieceIndex, digests: &[u64]) {
        if !self.layout.contains(piece) || self.picker.have().get(piece) {
            return;
        }
        let contributors = self.addresses_of(self.picker.contributors(piece).into_iter());
        let was_missing = self.picker.wanted_missing().get(piece);
        let revocations = self.picker.verified(piece);
        self.revoke(revocations);
        self.news.push(piece);
        self.have.add(&self.layout, piece);
        let verdicts = self.smart_ban.passed(piece, &contributors, digests);
        self.punish(verdicts);
        if was_missing {
            self.missing.remove(&self.layout, piece);
            self.count_missing(piece, false);
        }
        self.review_completeness();
    }

    pub(super) fn on_failed(&mut self, piece: PieceIndex, bad: &[BlockIndex], digests: &[u64]) {
        if !self.layout.contains(piece) || self.picker.have().get(piece) {
            return;
        }
        let sources = self.picker.sources(piece);
        let sources: Vec<(BlockIndex, IpAddr)> = sources
            .into_iter()
            .filter_map(|(block, key)| self.address_of(key).map(|address| (block, address)))
            .collect();
        let length = |&block| {
            self.layout
                .block_length(shoal_metainfo::Block { piece, block })
        };
        self.failed_bytes += match bad {
            [] => u64::from(self.layout.length_of(piece)),
            bad => bad.iter().map(|block| u64::from(length(block))).sum(),
        };
        let verdicts = self.smart_ban.failed(piece, &sources, bad, digests);
        self.picker.failed(piece, bad);
        self.punish(verdicts);
        self.wake_all();
    }

    pub(super) fn on_lost(&mut self, piece: PieceIndex) {
        if !self.picker.have().get(piece) {
            return;
        }
        // Whoever has not heard of the piece yet must not hear of its loss first.
        self.tell_news();
        self.picker.lost(piece);
        self.have.remove(&self.layout, piece);
        self.outputs
            .push_back(Output::Broadcast(ToPeer::Lost(piece)));
        if self.picker.wanted_missing().get(piece) {
            self.missing.add(&self.layout, piece);
            self.count_missing(piece, true);
        }
        self.review_completeness();
        self.wake_all();
    }

    fn punish(&mut self, verdicts: Vec<(IpAddr, Blame)>) {
        for (address, blame) in verdicts {
            self.candidates.ban(address);
            self.outputs.push_back(Output::Ban(address));
            let guilty = |peer: &Peer| peer.address.ip() == address;
            let keys: Vec<PeerKey> = self
                .peers
                .iter()
                .filter(|(_, peer)| guilty(peer))
                .map(|(&key, _)| key)
                .collect();
            for key in keys {
                self.close(key, CloseReason::Banned(blame));
            }
        }
    }

    fn address_of(&self, key: PeerKey) -> Option<IpAddr> {
        let present = self.peers.get(&key).map(|peer| peer.address.ip());
        present.or_else(|| self.departed.get(&key).copied())
    }

    /// The addresses of these peers, each once.
    fn addresses_of(&self, keys: impl Iterator<Item = PeerKey>) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = keys.filter_map(|key| self.address_of(key)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Remembers who a peer was whose blocks may still turn out wrong. Beyond the bound, the oldest goes.
    pub(super) fn remember_departed(&mut self, key: PeerKey, peer: &Peer) {
        if peer.contributed {
            self.departed.insert(key, peer.address.ip());
            if self.departed.len() > MAX_DEPARTED {
                self.departed.pop_first();
            }
        }
    }
}
