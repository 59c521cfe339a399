//! Fetching piece layers from peers by hash requests (BEP 52), and proving each answer against the root of its file.
//!
//! Invariant: hashes are kept only once they lead to the root; an answer that does not convicts its sender.

use crate::message::PeerKey;
use core::net::IpAddr;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::merkle::{self, Hash, MAX_REQUEST_LENGTH};
use shoal_metainfo::metainfo::MissingLayer;
use shoal_wire::{HashRequest, Hashes};
use std::collections::BTreeMap;

/// Requests that one peer has to answer at once. Each is up to 16 KiB.
const MAX_ASKED: usize = 4;

/// A peer that has not answered after so long is asked for something else later.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that rejects or does not answer is left alone for so long, and twice as long each time, up to 16 times.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// See [`FIRST_PAUSE`].
const MAX_DOUBLINGS: u32 = 4;

/// What the fetching wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask this peer for these hashes.
    Request(PeerKey, HashRequest),
    /// This peer, at this address, has sent wrong hashes.
    Convict(PeerKey, IpAddr),
}

/// A run of a layer that is asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chunk {
    layer: usize,
    number: u32,
}

#[derive(Clone, Debug)]
struct Source {
    address: IpAddr,
    asked: Vec<(Chunk, Moment)>,
    pauses: u32,
    paused_until: Moment,
}

impl Source {
    fn pause(&mut self, now: Moment) {
        self.paused_until = now + FIRST_PAUSE * (1 << self.pauses.min(MAX_DOUBLINGS));
        self.pauses += 1;
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct LayerFetch {
    layers: Vec<MissingLayer>,
    by_root: BTreeMap<Hash, usize>,
    /// Where the first chunk is that nobody was asked for yet; those before it that came to nothing are in `open`.
    next: Option<Chunk>,
    open: Vec<Chunk>,
    /// Chunks that are not there yet.
    missing: u64,
    got: BTreeMap<Chunk, Vec<Hash>>,
    sources: BTreeMap<PeerKey, Source>,
    actions: Vec<Action>,
    progress: Moment,
}

impl LayerFetch {
    /// Expects layers of more than one piece, each root once.
    pub(super) fn new(layers: Vec<MissingLayer>, now: Moment) -> Self {
        let by_root = layers.iter().enumerate();
        LayerFetch {
            by_root: by_root.map(|(at, layer)| (layer.root, at)).collect(),
            next: (!layers.is_empty()).then_some(Chunk {
                layer: 0,
                number: 0,
            }),
            open: Vec::new(),
            missing: layers
                .iter()
                .map(|layer| u64::from(chunk_count(layer)))
                .sum(),
            layers,
            got: BTreeMap::new(),
            sources: BTreeMap::new(),
            actions: Vec::new(),
            progress: now,
        }
    }

    /// What is wanted since the last call.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.actions)
    }

    /// When an answer was last of use.
    pub(super) const fn progress(&self) -> Moment {
        self.progress
    }

    /// Whether any peer can be asked at all.
    pub(super) fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// All layers by the roots of their files, once they are there.
    pub(super) fn whole(&self) -> Option<BTreeMap<Hash, Vec<Hash>>> {
        (self.missing == 0).then(|| {
            let mut whole: BTreeMap<Hash, Vec<Hash>> = BTreeMap::new();
            for (chunk, hashes) in &self.got {
                let layer = whole.entry(self.layers[chunk.layer].root).or_default();
                layer.extend_from_slice(hashes);
            }
            whole
        })
    }

    pub(super) fn join(&mut self, now: Moment, peer: PeerKey, address: IpAddr) {
        self.sources.entry(peer).or_insert(Source {
            address,
            asked: Vec::new(),
            pauses: 0,
            paused_until: Moment::ZERO,
        });
        self.go_on(now);
    }

    pub(super) fn leave(&mut self, now: Moment, peer: PeerKey) {
        if let Some(source) = self.sources.remove(&peer) {
            self.open
                .extend(source.asked.iter().map(|(chunk, _)| chunk));
            self.go_on(now);
        }
    }

    /// Hashes came, as many as answer the request that they repeat.
    pub(super) fn hashes(&mut self, now: Moment, peer: PeerKey, answer: &Hashes) {
        let Some(chunk) = self.answered(peer, &answer.request) else {
            return;
        };
        let layer = self.layers[chunk.layer];
        let height = merkle::file_height(layer.length);
        if !merkle::verify_proof(&answer.request, height, &answer.hashes, &layer.root) {
            self.open.push(chunk);
            if let Some(source) = self.sources.get(&peer) {
                let action = Action::Convict(peer, source.address);
                self.actions.push(action);
            }
            return self.leave(now, peer);
        }
        let first = u64::from(answer.request.index);
        let real = layer.pieces().saturating_sub(first);
        let real = usize::try_from(real).unwrap_or(usize::MAX);
        let asked = answer.request.length as usize;
        let hashes = answer.hashes.iter().take(asked.min(real));
        if self.got.insert(chunk, hashes.copied().collect()).is_none() {
            self.missing -= 1;
            self.progress = now;
        }
        if let Some(source) = self.sources.get_mut(&peer) {
            source.pauses = 0;
        }
        self.go_on(now);
    }

    /// A peer does not have these hashes.
    pub(super) fn reject(&mut self, now: Moment, peer: PeerKey, request: &HashRequest) {
        if let Some(chunk) = self.answered(peer, request) {
            self.open.push(chunk);
            if let Some(source) = self.sources.get_mut(&peer) {
                source.pause(now);
            }
            self.go_on(now);
        }
    }

    pub(super) fn tick(&mut self, now: Moment) {
        self.go_on(now);
    }

    /// When time makes a difference.
    pub(super) fn deadline(&self, now: Moment) -> Option<Moment> {
        let asked = self.sources.values().flat_map(|source| &source.asked);
        let late = asked.map(|(_, since)| *since + TIMEOUT);
        let pauses = self.sources.values().map(|source| source.paused_until);
        late.chain(pauses).filter(|&at| at > now).min()
    }

    /// The chunk that a peer was asked for by this request, which is then answered.
    fn answered(&mut self, peer: PeerKey, request: &HashRequest) -> Option<Chunk> {
        let layer = *self.by_root.get(&request.pieces_root)?;
        let number = request.index.checked_div(request.length)?;
        let chunk = Chunk { layer, number };
        let source = self.sources.get_mut(&peer)?;
        let at = source.asked.iter().position(|(asked, _)| *asked == chunk)?;
        (self
            .layers
            .get(layer)
            .map(|layer| request_for(layer, number))
            == Some(*request))
        .then(|| source.asked.swap_remove(at).0)
    }

    fn go_on(&mut self, now: Moment) {
        for source in self.sources.values_mut() {
            let late = source
                .asked
                .extract_if(.., |(_, since)| now >= *since + TIMEOUT);
            let before = self.open.len();
            self.open.extend(late.map(|(chunk, _)| chunk));
            if self.open.len() > before {
                source.pause(now);
            }
        }
        let peers: Vec<PeerKey> = self.sources.keys().copied().collect();
        for _ in 0..MAX_ASKED {
            for &peer in &peers {
                self.ask_one(now, peer);
            }
        }
    }

    fn ask_one(&mut self, now: Moment, peer: PeerKey) {
        let ready = |source: &Source| source.paused_until <= now && source.asked.len() < MAX_ASKED;
        if !self.sources.get(&peer).is_some_and(ready) {
            return;
        }
        let Some(chunk) = self.next_chunk() else {
            return;
        };
        if let Some(source) = self.sources.get_mut(&peer) {
            source.asked.push((chunk, now));
            let request = request_for(&self.layers[chunk.layer], chunk.number);
            self.actions.push(Action::Request(peer, request));
        }
    }

    fn next_chunk(&mut self) -> Option<Chunk> {
        while let Some(chunk) = self.open.pop() {
            if !self.got.contains_key(&chunk) {
                return Some(chunk);
            }
        }
        let chunk = self.next?;
        let in_layer = chunk.number + 1 < chunk_count(&self.layers[chunk.layer]);
        self.next = if in_layer {
            Some(Chunk {
                number: chunk.number + 1,
                ..chunk
            })
        } else {
            let layer = chunk.layer + 1;
            (layer < self.layers.len()).then_some(Chunk { layer, number: 0 })
        };
        Some(chunk)
    }
}

/// How many hashes one request for the layer asks for: a power of two of at least two (BEP 52).
fn chunk_length(layer: &MissingLayer) -> u32 {
    let width = u32::try_from(layer.pieces().next_power_of_two()).unwrap_or(MAX_REQUEST_LENGTH);
    width.clamp(2, MAX_REQUEST_LENGTH)
}

fn chunk_count(layer: &MissingLayer) -> u32 {
    let count = layer.pieces().div_ceil(chunk_length(layer).into());
    // The number of pieces is bounded where the dictionary is read.
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The request for a chunk, with a proof up to the root.
fn request_for(layer: &MissingLayer, number: u32) -> HashRequest {
    let base_layer = merkle::piece_layer_height(layer.piece_length);
    let length = chunk_length(layer);
    HashRequest {
        pieces_root: layer.root,
        base_layer,
        index: number.saturating_mul(length),
        length,
        proof_layers: (merkle::file_height(layer.length) - base_layer).saturating_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_metainfo::merkle::Tree;

    const PIECE: u32 = 32 * 1024;

    fn now(s: u64) -> Moment {
        Moment::from_secs(s)
    }

    fn address(peer: u64) -> IpAddr {
        IpAddr::from([10, 0, 0, u8::try_from(peer).unwrap()])
    }

    /// A file of so many pieces: what misses, and its tree from the piece layer up.
    fn file(pieces: u32, seed: u8) -> (MissingLayer, Tree, Vec<Hash>) {
        let nodes: Vec<Hash> = (0..pieces)
            .map(|at| {
                let mut hash = [seed; 32];
                hash[..4].copy_from_slice(&at.to_le_bytes());
                hash
            })
            .collect();
        let length = u64::from(pieces) * u64::from(PIECE) - 5;
        let tree = Tree::new(1, nodes.clone(), merkle::file_height(length)).unwrap();
        let layer = MissingLayer {
            root: tree.root(),
            length,
            piece_length: PIECE,
        };
        (layer, tree, nodes)
    }

    fn requests(fetch: &mut LayerFetch) -> Vec<(PeerKey, HashRequest)> {
        let actions = fetch.take_actions().into_iter();
        let request = |action| match action {
            Action::Request(peer, request) => Some((peer, request)),
            Action::Convict(..) => None,
        };
        actions.filter_map(request).collect()
    }

    #[test]
    fn layers_of_every_size_are_fetched_and_proved() {
        for pieces in [2, 3, 4, 5, 511, 512, 513, 1025, 3000] {
            let (layer, tree, nodes) = file(pieces, 1);
            let (other, other_tree, other_nodes) = file(7, 2);
            let mut fetch = LayerFetch::new(vec![layer, other], now(0));
            fetch.join(now(0), PeerKey(1), address(1));
            fetch.join(now(0), PeerKey(2), address(2));
            loop {
                let asked = requests(&mut fetch);
                if asked.is_empty() {
                    break;
                }
                for (peer, request) in asked {
                    assert_eq!(request.validate(), Ok(()));
                    let tree = [&tree, &other_tree]
                        .into_iter()
                        .find(|tree| tree.root() == request.pieces_root);
                    let hashes = tree.unwrap().answer(&request).unwrap();
                    fetch.hashes(now(1), peer, &Hashes { request, hashes });
                }
            }
            let whole = fetch.whole().unwrap();
            assert_eq!(whole[&layer.root], nodes, "{pieces}");
            assert_eq!(whole[&other.root], other_nodes);
        }
    }

    #[test]
    fn a_liar_is_convicted_at_once_and_another_peer_does_its_work() {
        let (layer, tree, nodes) = file(5, 1);
        let mut fetch = LayerFetch::new(vec![layer], now(0));
        fetch.join(now(0), PeerKey(1), address(1));
        let (_, request) = requests(&mut fetch)[0];
        let mut hashes = tree.answer(&request).unwrap();
        hashes[2][0] ^= 1;
        fetch.join(now(0), PeerKey(2), address(2));
        assert_eq!(fetch.take_actions(), []);
        fetch.hashes(now(1), PeerKey(1), &Hashes { request, hashes });
        let convict = Action::Convict(PeerKey(1), address(1));
        let again = Action::Request(PeerKey(2), request);
        assert_eq!(fetch.take_actions(), [convict, again]);
        let hashes = tree.answer(&request).unwrap();
        fetch.hashes(now(1), PeerKey(2), &Hashes { request, hashes });
        assert_eq!(fetch.whole().unwrap()[&layer.root], nodes);
    }

    #[test]
    fn who_rejects_is_silent_or_leaves_is_replaced() {
        let (layer, ..) = file(5, 1);
        let mut fetch = LayerFetch::new(vec![layer], now(0));
        fetch.join(now(0), PeerKey(1), address(1));
        let (_, request) = requests(&mut fetch)[0];
        fetch.reject(now(0), PeerKey(1), &request);
        assert_eq!(requests(&mut fetch), [], "it is left alone for a while");
        fetch.join(now(0), PeerKey(2), address(2));
        assert_eq!(requests(&mut fetch), [(PeerKey(2), request)]);
        fetch.leave(now(1), PeerKey(2));
        assert_eq!(fetch.deadline(now(1)), Some(now(2)));
        fetch.tick(now(2));
        assert_eq!(requests(&mut fetch), [(PeerKey(1), request)]);
        fetch.tick(now(12));
        fetch.join(now(12), PeerKey(3), address(3));
        assert_eq!(requests(&mut fetch), [(PeerKey(3), request)]);
        assert_eq!(fetch.whole(), None);
    }

    #[test]
    fn what_was_not_asked_for_is_ignored() {
        let (layer, tree, _) = file(5, 1);
        let mut fetch = LayerFetch::new(vec![layer], now(0));
        fetch.join(now(0), PeerKey(1), address(1));
        let (_, request) = requests(&mut fetch)[0];
        let shorter = HashRequest {
            length: 2,
            ..request
        };
        let hashes = tree.answer(&shorter).unwrap();
        let answer = Hashes {
            request: shorter,
            hashes,
        };
        fetch.hashes(now(1), PeerKey(1), &answer);
        fetch.hashes(now(1), PeerKey(9), &answer);
        assert_eq!(fetch.take_actions(), []);
        assert_eq!(fetch.whole(), None);
    }
}
