//! Pieces that turn out right, wrong or lost, and what that says about who delivered them.
//!
//! Invariant: whoever is banned is cut off on every connection, and no address of it is dialled or accepted again.

use super::peer::Peer;
use super::{Output, Torrent};
use crate::message::{Blame, CloseReason, PeerKey, ToPeer};
use crate::source::Source;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{BlockIndex, PieceIndex};
use std::collections::BTreeSet;

/// The most peers that left whose addresses are remembered for pieces that they took part in: those of a torrent's whole
/// stock of pieces in progress, many times over.
const MAX_DEPARTED: usize = 1_024;

/// How long a verified piece waits to hear who delivered its last blocks.
const HEARSAY: Duration = Duration::from_millis(100);

/// What storage said of a piece before the sessions had said all that they delivered to it: storage is told by the
/// session's driver at once, the torrent in batches, so that its news can be older.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It is right. Waits for the names of those who delivered it, until a moment.
    Right { digests: Vec<u64>, until: Moment },
    /// It is wrong. Waits until nobody holds a lease on it: a block that was announced afterwards would count as received,
    /// and storage has forgotten it.
    Wrong {
        bad: Vec<BlockIndex>,
        digests: Vec<u64>,
    },
    /// Its blocks were not kept. Waits as a wrong one does.
    Dropped,
    /// Nobody wants it any more. Storage forgets its blocks when no more can come.
    Unwanted,
}

impl Torrent {
    pub(super) fn on_verdict(&mut self, piece: PieceIndex, verdict: Verdict) {
        if !self.layout.contains(piece) || self.picker.have().get(piece) {
            return;
        }
        if !matches!(verdict, Verdict::Right { .. }) {
            self.recall(piece);
        }
        self.verdicts.insert(piece, verdict);
        self.settle(piece);
    }

    /// Takes back all leases on a piece.
    fn recall(&mut self, piece: PieceIndex) {
        let mut recalled = Vec::new();
        for (&key, peer) in &self.peers {
            let runs = peer.leases_on(piece).into_iter().map(|run| (key, run));
            recalled.extend(runs);
        }
        self.revoke(recalled);
    }

    /// Acts on everything that has waited long enough.
    pub(super) fn settle_waiting(&mut self) {
        let waiting: Vec<PieceIndex> = self.verdicts.keys().copied().collect();
        waiting.into_iter().for_each(|piece| self.settle(piece));
    }

    /// Acts on what storage said of a piece, once all is known that bears on it.
    pub(super) fn settle(&mut self, piece: PieceIndex) {
        let ripe = match self.verdicts.get(&piece) {
            None => return,
            Some(Verdict::Right { until, .. }) => {
                *until <= self.now || self.stopped || self.is_whole(piece)
            }
            Some(_) => self
                .peers
                .values()
                .all(|peer| peer.leases_on(piece).is_empty()),
        };
        if !ripe {
            return;
        }
        let verdict = self.verdicts.remove(&piece);
        match verdict {
            None => {}
            Some(Verdict::Right { digests, .. }) => self.on_verified(piece, &digests),
            Some(Verdict::Wrong { bad, digests }) => {
                self.on_failed(piece, &bad, &digests);
                self.reopen(piece);
            }
            Some(Verdict::Dropped | Verdict::Unwanted) => self.reopen(piece),
        }
        self.doubtful.remove(&piece);
    }

    /// The blocks of a piece can be leased again. Storage forgets what it has of it: blocks that it took after its verdict
    /// may have been announced before we heard the verdict, or after, and belong to no attempt that we could tell.
    fn reopen(&mut self, piece: PieceIndex) {
        self.picker.dropped(piece);
        self.outputs.push_back(Output::Forget(piece));
        self.wake_all();
    }

    /// Whether it is known who delivered each block of a piece, or nobody was asked for any.
    fn is_whole(&self, piece: PieceIndex) -> bool {
        !self.picker.is_in_progress(piece)
            || self.picker.sources(piece).len() == self.layout.block_count(piece) as usize
    }

    /// When the next verified piece has waited long enough.
    pub(super) fn next_verdict(&self) -> Option<Moment> {
        let until = |verdict: &Verdict| match verdict {
            Verdict::Right { until, .. } => Some(*until),
            _ => None,
        };
        self.verdicts.values().filter_map(until).min()
    }

    /// The verdict of `Verified`.
    pub(super) fn right(&self, digests: Vec<u64>) -> Verdict {
        let until = self.now + HEARSAY;
        Verdict::Right { digests, until }
    }

    fn on_verified(&mut self, piece: PieceIndex, digests: &[u64]) {
        let contributors = self.picker.contributors(piece);
        if let [sole] = contributors.as_slice()
            && let Some(peer) = self.peers.get_mut(sole)
        {
            peer.proved = true;
        }
        let contributors = self.all_sources(contributors.into_iter());
        let was_missing = self.picker.wanted_missing().get(piece);
        let revocations = self.picker.verified(piece);
        self.revoke(revocations);
        self.news.push(piece);
        self.have.add(&self.layout, piece);
        let verdicts = self.smart_ban.passed(piece, &contributors, digests);
        self.punish(piece, verdicts);
        if was_missing {
            self.missing.remove(&self.layout, piece);
            self.count_missing(piece, false);
        }
        self.review_completeness();
    }

    fn on_failed(&mut self, piece: PieceIndex, bad: &[BlockIndex], digests: &[u64]) {
        let sources = self.sources_of(piece);
        self.failed_bytes += u64::from(self.layout.length_of(piece));
        let verdicts = self.smart_ban.failed(piece, &sources, bad, digests);
        // Storage has forgotten the right blocks with the wrong ones, whether it could tell them apart or not.
        self.picker.failed(piece, &[]);
        self.punish(piece, verdicts);
    }

    /// Who delivered each block of a piece. Of a block that two say to have delivered, one to an earlier attempt and one to
    /// a later one, nobody knows which was which: both took part, but are not named with the block.
    fn sources_of(&self, piece: PieceIndex) -> Vec<(BlockIndex, Source)> {
        let nobody = BTreeSet::new();
        let doubtful = self.doubtful.get(&piece).unwrap_or(&nobody);
        let known = self.picker.sources(piece).into_iter();
        let known = known.filter_map(|(block, key)| Some((block, self.source_of(key)?)));
        let in_doubt = |block| doubtful.iter().any(|&(other, _)| other == block);
        let unnamed = BlockIndex(u32::MAX);
        known
            .map(|(block, source)| (if in_doubt(block) { unnamed } else { block }, source))
            .chain(doubtful.iter().map(|&(_, source)| (unnamed, source)))
            .collect()
    }

    pub(super) fn on_lost(&mut self, piece: PieceIndex) {
        if !self.picker.have().get(piece) {
            return;
        }
        self.end_super_seeding();
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

    fn punish(&mut self, piece: PieceIndex, verdicts: Vec<(Source, Blame)>) {
        for (source, blame) in verdicts {
            let guilty = |peer: &Peer| peer.source() == source && !peer.closing;
            let keys: Vec<PeerKey> = self
                .peers
                .iter()
                .filter(|(_, peer)| guilty(peer))
                .map(|(&key, _)| key)
                .collect();
            if let Source::Peer(address) = source {
                self.candidates.ban(address);
                self.outputs.push_back(Output::Ban(address));
            }
            for key in keys {
                match source {
                    Source::Peer(_) => self.close(key, CloseReason::Banned(blame)),
                    Source::WebSeed(_) => self.tell(key, ToPeer::Blamed { piece, blame }),
                }
            }
        }
    }

    fn source_of(&self, key: PeerKey) -> Option<Source> {
        let present = self.peers.get(&key).map(Peer::source);
        present.or_else(|| self.departed.get(&key).copied())
    }

    /// The sources that these peers are, each once.
    fn all_sources(&self, keys: impl Iterator<Item = PeerKey>) -> Vec<Source> {
        let mut sources: Vec<Source> = keys.filter_map(|key| self.source_of(key)).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// Remembers who a peer was whose blocks may still turn out wrong. Beyond the bound, the oldest goes.
    pub(super) fn remember_departed(&mut self, key: PeerKey, peer: &Peer) {
        if peer.contributed {
            self.departed.insert(key, peer.source());
            if self.departed.len() > MAX_DEPARTED {
                self.departed.pop_first();
            }
        }
    }
}
