//! The storage of a torrent: knows blocks before the torrent does, and keeps the first copy of each.

use shoal_metainfo::{Block, BlockIndex, Layout, PieceIndex};
use shoal_swarm::PeerKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// See the module.
pub(super) struct Storage {
    layout: Arc<Layout>,
    received: BTreeMap<PieceIndex, BTreeSet<BlockIndex>>,
    /// Pieces that are being hashed.
    whole: VecDeque<PieceIndex>,
    verified: BTreeSet<PieceIndex>,
    /// What sessions have delivered and not announced.
    unannounced: BTreeMap<PeerKey, Vec<Block>>,
}

impl Storage {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        Storage {
            layout,
            received: BTreeMap::new(),
            whole: VecDeque::new(),
            verified: BTreeSet::new(),
            unannounced: BTreeMap::new(),
        }
    }

    /// A session delivers a block; false where it is known already.
    pub(super) fn store(&mut self, peer: PeerKey, block: Block) -> bool {
        if self.verified.contains(&block.piece) || self.whole.contains(&block.piece) {
            return false;
        }
        let received = self.received.entry(block.piece).or_default();
        if !received.insert(block.block) {
            return false;
        }
        if received.len() == self.layout.block_count(block.piece) as usize {
            self.whole.push_back(block.piece);
        }
        self.unannounced.entry(peer).or_default().push(block);
        true
    }

    /// Whether a session has delivered a block and not announced it.
    pub(super) fn is_unannounced(&self, peer: PeerKey, block: Block) -> bool {
        self.unannounced
            .get(&peer)
            .is_some_and(|blocks| blocks.contains(&block))
    }

    pub(super) fn take_unannounced(&mut self, peer: PeerKey) -> Vec<Block> {
        self.unannounced.remove(&peer).unwrap_or_default()
    }

    /// The next piece whose hash is known.
    pub(super) fn take_whole(&mut self) -> Option<PieceIndex> {
        self.whole.pop_front()
    }

    pub(super) fn verified(&mut self, piece: PieceIndex) {
        self.received.remove(&piece);
        self.verified.insert(piece);
    }

    /// Forgets the bad blocks of a piece, all where none is named.
    pub(super) fn failed(&mut self, piece: PieceIndex, bad: &[BlockIndex]) {
        if bad.is_empty() {
            self.received.remove(&piece);
        } else if let Some(received) = self.received.get_mut(&piece) {
            received.retain(|block| !bad.contains(block));
        }
    }

    /// The received blocks of a piece cannot be kept; false where there are none, or they are being hashed.
    pub(super) fn drop_received(&mut self, piece: PieceIndex) -> bool {
        !self.whole.contains(&piece) && self.received.remove(&piece).is_some()
    }

    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.received.remove(&piece);
        self.verified.remove(&piece);
        self.whole.retain(|&other| other != piece);
    }
}
