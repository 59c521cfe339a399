//! SHA-256 trees over a file's blocks, and the hash lists with which peers prove parts of them (BEP 52).
//!
//! Invariant: a tree is as high as its promise says, whatever is known of it: nodes beyond the end of the file are pad
//! hashes, and no number in a request makes more than [`MAX_HEIGHT`] steps or [`MAX_REQUEST_LENGTH`] hashes.

mod hash_request;

pub use hash_request::{HashRequest, HashRequestError, MAX_REQUEST_LENGTH};

use crate::geometry::BLOCK_LENGTH;
use sha2::{Digest, Sha256};

/// A node of a tree: SHA-256 of a block, or of the two nodes below.
pub type Hash = [u8; 32];

/// The highest tree we deal with, in layers above the blocks: 2^50 blocks are more than any file has.
pub const MAX_HEIGHT: u32 = 50;

/// The node above two others.
#[must_use]
pub fn hash_pair(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// The node at `height` above leaves that all lie beyond the end of the file. Such leaves are zero. Heights above
/// [`MAX_HEIGHT`] count as that.
#[must_use]
pub fn pad_hash(height: u32) -> Hash {
    (0..height.min(MAX_HEIGHT)).fold([0; 32], |pad, _| hash_pair(&pad, &pad))
}

/// How many layers a tree has above `leaves` leaves, once these are filled up to a power of two.
#[must_use]
pub const fn height_over(leaves: u64) -> u32 {
    match leaves {
        0 | 1 => 0,
        more => (more - 1).ilog2() + 1,
    }
}

/// How high the tree of a file of `length` bytes is, in layers above its blocks.
#[must_use]
pub const fn file_height(length: u64) -> u32 {
    height_over(length.div_ceil(BLOCK_LENGTH as u64))
}

/// How high the piece layer lies above the blocks.
#[must_use]
pub const fn piece_layer_height(piece_length: u32) -> u32 {
    height_over(piece_length.div_ceil(BLOCK_LENGTH) as u64)
}

/// The root over `leaves`, filled up with zeros to `width` leaves. A width that is no power of two, or less than there
/// are leaves, is rounded up.
#[must_use]
pub fn root(leaves: &[Hash], width: u32) -> Hash {
    let width = u64::from(width).max(leaves.len() as u64);
    root_above(leaves, 0, height_over(width))
}

/// The root of a file whose piece layer is `layer`: one node for each of its pieces of `piece_length` bytes.
#[must_use]
pub fn root_from_piece_layer(layer: &[Hash], piece_length: u32) -> Hash {
    let levels = height_over(layer.len() as u64);
    root_above(layer, piece_layer_height(piece_length), levels)
}

/// The node `levels` above `nodes`, which lie at `height` and are followed by padding. Nodes that are more than `levels`
/// can hold make it higher.
///
/// Works like a binary counter: after `n` nodes, `waiting[k]` is in use where bit `k` of `n` is set, and is the root of
/// 2^k of them. So a layer of any length takes no memory beside it.
fn root_above(nodes: &[Hash], height: u32, levels: u32) -> Hash {
    let levels = levels.max(height_over(nodes.len() as u64)).min(MAX_HEIGHT);
    let mut waiting = vec![[0; 32]; levels as usize + 1];
    for (at, node) in nodes.iter().enumerate() {
        let complete = at.trailing_ones() as usize;
        let carry = waiting[..complete]
            .iter()
            .fold(*node, |right, left| hash_pair(left, &right));
        waiting[complete] = carry;
    }
    let (mut carry, mut pad) = (None, pad_hash(height));
    for (level, left) in waiting.iter().enumerate().take(levels as usize) {
        carry = match (nodes.len() >> level & 1 == 1, carry) {
            (true, Some(right)) => Some(hash_pair(left, &right)),
            (true, None) => Some(hash_pair(left, &pad)),
            (false, Some(left)) => Some(hash_pair(&left, &pad)),
            (false, None) => None,
        };
        pad = hash_pair(&pad, &pad);
    }
    match carry {
        Some(root) => root,
        None if nodes.is_empty() => pad,
        None => waiting[levels as usize],
    }
}

/// The place of a node in a tree, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The layer, counted from the blocks.
    pub layer: u32,
    /// Counted within the layer.
    pub index: u32,
    /// The node.
    pub hash: Hash,
}

/// The highest node that `hashes`, an answer to `request`, lead to: whoever knows that node from elsewhere (a file's root,
/// a hash of its piece layer) knows that the hashes are right. `None` where the request does not fit a tree of `height`
/// layers or the answer has another number of hashes.
#[must_use]
pub fn proved_node(request: &HashRequest, height: u32, hashes: &[Hash]) -> Option<Node> {
    if !request.fits(height) || hashes.len() != request.hash_count() as usize {
        return None;
    }
    let (asked, uncles) = hashes.split_at(request.length as usize);
    let covered = request.covered_layers();
    let start = Node {
        layer: request.base_layer + covered,
        index: request.index >> covered,
        hash: root_above(asked, request.base_layer, covered),
    };
    let top = uncles.iter().fold(start, |node, uncle| Node {
        layer: node.layer + 1,
        index: node.index / 2,
        hash: match node.index % 2 {
            0 => hash_pair(&node.hash, uncle),
            _ => hash_pair(uncle, &node.hash),
        },
    });
    Some(top)
}

/// Whether `hashes`, an answer to `request`, belong to the file with this root, whose tree is `height` layers high. Only
/// an answer that reaches the root can: one whose `proof_layers` is `height - base_layer - 1`.
#[must_use]
pub fn verify_proof(request: &HashRequest, height: u32, hashes: &[Hash], root: &Hash) -> bool {
    proved_node(request, height, hashes)
        .is_some_and(|node| node.layer == height && node.hash == *root)
}

/// A tree from one of its layers upwards: what it takes to answer hash requests. Twice the memory of that layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The lowest known layer, counted from the blocks.
    bottom: u32,
    /// The known layers, rising, without their padding. The last one is the root alone.
    layers: Vec<Vec<Hash>>,
}

impl Tree {
    /// The tree of `height` layers above the blocks, of which `nodes` is the layer `bottom` without padding. `None` where
    /// there are no nodes or more than that layer holds.
    #[must_use]
    pub fn new(bottom: u32, nodes: Vec<Hash>, height: u32) -> Option<Self> {
        let levels = height.checked_sub(bottom)?;
        if height > MAX_HEIGHT || nodes.is_empty() || height_over(nodes.len() as u64) > levels {
            return None;
        }
        let mut pad = pad_hash(bottom);
        let mut layers = Vec::with_capacity(levels as usize + 1);
        let mut below = nodes;
        for _ in 0..levels {
            let above = below
                .chunks(2)
                .map(|pair| hash_pair(&pair[0], pair.get(1).unwrap_or(&pad)))
                .collect();
            layers.push(core::mem::replace(&mut below, above));
            pad = hash_pair(&pad, &pad);
        }
        layers.push(below);
        Some(Tree { bottom, layers })
    }

    /// How many layers the tree has above the blocks.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.bottom + height_of(&self.layers)
    }

    /// The file's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.node(self.height(), 0).unwrap_or_default()
    }

    /// The node at `index` of `layer`, `None` where the layer is not known or holds no such node.
    #[must_use]
    pub fn node(&self, layer: u32, index: u32) -> Option<Hash> {
        let known = self.layers.get(layer.checked_sub(self.bottom)? as usize)?;
        match known.get(index as usize) {
            Some(node) => Some(*node),
            None if u64::from(index) < 1 << (self.height() - layer) => Some(pad_hash(layer)),
            None => None,
        }
    }

    /// The hashes that answer `request`, `None` where it does not fit or reaches below what is known.
    #[must_use]
    pub fn answer(&self, request: &HashRequest) -> Option<Vec<Hash>> {
        if request.base_layer < self.bottom || !request.fits(self.height()) {
            return None;
        }
        self.answer_with(request, |layer, index| self.node(layer, index))
    }

    /// As [`Tree::answer`], for a request that begins below what is known: `leaves` are the hashes of the blocks (without
    /// padding) under the one known node that the request lies under, which is a piece where the piece layer is what is
    /// known. `None` also where the request reaches beyond that node or the leaves do not belong to it.
    #[must_use]
    pub fn answer_from_leaves(&self, request: &HashRequest, leaves: &[Hash]) -> Option<Vec<Hash>> {
        let inside = self.bottom.checked_sub(request.base_layer)?;
        if !request.fits(self.height()) || request.covered_layers() > inside {
            return None;
        }
        let parent = request.index.checked_shr(inside)?;
        let below = Tree::new(0, leaves.to_vec(), self.bottom)?;
        if below.root() != self.node(self.bottom, parent)? {
            return None;
        }
        self.answer_with(request, |layer, index| {
            match self.bottom.checked_sub(layer) {
                Some(depth @ 1..) => {
                    let first = u64::from(parent) << depth;
                    let local = u64::from(index).checked_sub(first)?;
                    below.node(layer, u32::try_from(local).ok()?)
                }
                _ => self.node(layer, index),
            }
        })
    }

    /// Lays out an answer from single nodes. The request must fit.
    fn answer_with(
        &self,
        request: &HashRequest,
        node: impl Fn(u32, u32) -> Option<Hash>,
    ) -> Option<Vec<Hash>> {
        let covered = request.covered_layers();
        let asked = (0..request.length).map(|at| node(request.base_layer, request.index + at));
        let uncles = (0..request.uncle_count()).map(|step| {
            let own = (request.index >> covered).checked_shr(step).unwrap_or(0);
            node(request.base_layer + covered + step, own ^ 1)
        });
        asked.chain(uncles).collect()
    }
}

fn height_of(layers: &[Vec<Hash>]) -> u32 {
    u32::try_from(layers.len().saturating_sub(1)).unwrap_or(MAX_HEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// BEP 52 read literally: fill up with zeros, then split in halves.
    fn naive_root(leaves: &[Hash], width: usize) -> Hash {
        let mut all = leaves.to_vec();
        all.resize(width.max(leaves.len()).next_power_of_two(), [0; 32]);
        fn half(nodes: &[Hash]) -> Hash {
            match nodes {
                [single] => *single,
                _ => {
                    let (left, right) = nodes.split_at(nodes.len() / 2);
                    hash_pair(&half(left), &half(right))
                }
            }
        }
        half(&all)
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count)
            .map(|at| Sha256::digest(at.to_le_bytes()).into())
            .collect()
    }

    /// The layer of piece hashes over these leaves, without padding.
    fn piece_layer(leaves: &[Hash], height: u32) -> Vec<Hash> {
        leaves
            .chunks(1 << height)
            .map(|piece| root(piece, 1 << height))
            .collect()
    }

    #[test]
    fn heights_are_those_of_the_next_power_of_two() {
        let heights: Vec<u32> = [0, 1, 2, 3, 4, 5, 8, 9].map(height_over).to_vec();
        assert_eq!(heights, [0, 0, 1, 2, 2, 3, 3, 4]);
        assert_eq!(height_over(u64::MAX), 64);
        assert_eq!(file_height(0), 0);
        assert_eq!(file_height(16_385), 1);
        assert_eq!(piece_layer_height(16_384), 0);
        assert_eq!(piece_layer_height(1 << 20), 6);
    }

    #[test]
    fn the_pad_of_a_layer_is_the_root_of_zeros() {
        for height in 0..6 {
            assert_eq!(pad_hash(height), naive_root(&[], 1 << height));
        }
        assert_eq!(pad_hash(u32::MAX), pad_hash(MAX_HEIGHT));
        assert_eq!(root(&[], 8), pad_hash(3));
        assert_eq!(root(&[], 0), [0; 32]);
    }

    #[test]
    fn numbers_beyond_the_tree_are_refused() {
        let tree = Tree::new(0, leaves(5), 3).unwrap();
        let request = |base_layer, index, length, proof_layers| HashRequest {
            pieces_root: [9; 32],
            base_layer,
            index,
            length,
            proof_layers,
        };
        assert!(tree.answer(&request(0, 4, 4, 2)).is_some());
        for bad in [
            request(0, 0, 1, 2),
            request(0, 0, 3, 2),
            request(0, 2, 4, 2),
            request(0, 8, 2, 2),
            request(0, 0, 16, 2),
            request(0, 0, 2, 3),
            request(3, 0, 2, 0),
            request(u32::MAX, u32::MAX, u32::MAX, u32::MAX),
            request(0, 1 << 31, 1 << 31, 0),
            request(0, 0, 0, 0),
        ] {
            assert_eq!(tree.answer(&bad), None, "{bad:?}");
            assert_eq!(tree.answer_from_leaves(&bad, &leaves(5)), None, "{bad:?}");
            assert_eq!(proved_node(&bad, 3, &leaves(2)), None, "{bad:?}");
        }
        assert!(!request(0, 0, 16_384, 0).fits(20));
        assert!(!request(0, 0, 2, 0).fits(MAX_HEIGHT + 1));
        assert!(!request(0, 0, 2, 0).fits(0));
        assert_eq!(request(0, 0, 2, u32::MAX).hash_count(), u32::MAX);
    }

    #[test]
    fn impossible_trees_are_refused() {
        assert_eq!(Tree::new(0, Vec::new(), 3), None);
        assert_eq!(Tree::new(0, leaves(9), 3), None);
        assert_eq!(Tree::new(4, leaves(1), 3), None);
        assert_eq!(Tree::new(0, leaves(1), MAX_HEIGHT + 1), None);
        let tree = Tree::new(0, leaves(5), 3).unwrap();
        assert_eq!(tree.node(0, 7), Some([0; 32]));
        assert_eq!(tree.node(0, 8), None);
        assert_eq!(tree.node(4, 0), None);
    }

    /// Every request that fits a tree of `height` layers, from `base` up.
    fn requests(height: u32, base: u32) -> Vec<HashRequest> {
        let mut all = Vec::new();
        for base_layer in base..height {
            let width = 1u32 << (height - base_layer);
            for length in (1..=height - base_layer).map(|log| 1 << log) {
                for index in (0..width).step_by(length as usize) {
                    all.extend((0..height - base_layer).map(|proof_layers| HashRequest {
                        pieces_root: [9; 32],
                        base_layer,
                        index,
                        length,
                        proof_layers,
                    }));
                }
            }
        }
        all
    }

    /// Checks one answer against the tree it came from, and that no flipped bit goes unnoticed.
    fn is_proof(tree: &Tree, request: &HashRequest, hashes: &[Hash]) {
        let height = tree.height();
        assert_eq!(hashes.len(), request.hash_count() as usize);
        for (at, hash) in (0u32..).zip(&hashes[..request.length as usize]) {
            assert_eq!(
                tree.node(request.base_layer, request.index + at),
                Some(*hash)
            );
        }
        let top = proved_node(request, height, hashes).unwrap();
        assert_eq!(tree.node(top.layer, top.index), Some(top.hash));
        let covered = request.length.ilog2();
        let complete = covered == height - request.base_layer
            || request.proof_layers == height - request.base_layer - 1;
        assert_eq!(
            verify_proof(request, height, hashes, &tree.root()),
            complete
        );
        for at in 0..hashes.len() {
            let mut changed = hashes.to_vec();
            changed[at][at % 32] ^= 1 << (at % 8);
            let other = proved_node(request, height, &changed).unwrap();
            assert_ne!(other.hash, top.hash);
            assert!(!verify_proof(request, height, &changed, &tree.root()));
        }
        assert_eq!(proved_node(request, height, &hashes[1..]), None);
    }

    #[test]
    fn every_request_is_answered_with_a_proof() {
        for count in 1..=17 {
            let height = height_over(count as u64);
            let tree = Tree::new(0, leaves(count), height).unwrap();
            for request in requests(height, 0) {
                is_proof(&tree, &request, &tree.answer(&request).unwrap());
            }
        }
    }

    #[test]
    fn a_piece_layer_and_the_leaves_of_one_piece_answer_as_the_whole_tree_does() {
        for (count, bottom) in [(13, 2), (16, 2), (17, 3), (9, 1), (5, 3)] {
            let height = height_over(count as u64).max(bottom);
            let all = leaves(count);
            let whole = Tree::new(0, all.clone(), height).unwrap();
            let upper = Tree::new(bottom, piece_layer(&all, bottom), height).unwrap();
            assert_eq!(upper.root(), whole.root());
            for request in requests(height, 0) {
                let expected = whole.answer(&request);
                if request.base_layer >= bottom {
                    assert_eq!(upper.answer(&request), expected);
                    continue;
                }
                assert_eq!(upper.answer(&request), None);
                let piece = (request.index >> (bottom - request.base_layer)) as usize;
                let Some(own) = all.chunks(1 << bottom).nth(piece) else {
                    continue;
                };
                let inside = request.length <= 1 << (bottom - request.base_layer);
                let answer = upper.answer_from_leaves(&request, own);
                assert_eq!(answer, expected.filter(|_| inside), "{request:?}");
                let mut lie = own.to_vec();
                lie[0][0] ^= 1;
                assert_eq!(upper.answer_from_leaves(&request, &lie), None);
            }
        }
    }

    proptest! {
        #[test]
        fn the_root_is_the_naive_one(count in 0usize..70, width in 0u32..130) {
            let leaves = leaves(count);
            prop_assert_eq!(root(&leaves, width), naive_root(&leaves, width as usize));
        }

        #[test]
        fn the_root_over_a_piece_layer_is_the_root_over_the_blocks(count in 1usize..200, bottom in 0u32..5) {
            let leaves = leaves(count);
            let layer = piece_layer(&leaves, bottom);
            let width = layer.len().next_power_of_two() << bottom;
            prop_assert_eq!(root_from_piece_layer(&layer, 16_384 << bottom), naive_root(&leaves, width));
            let height = width.ilog2();
            let tree = Tree::new(bottom, layer, height).unwrap();
            prop_assert_eq!(tree.height(), height);
            prop_assert_eq!(tree.root(), naive_root(&leaves, width));
        }

        #[test]
        fn no_request_and_no_answer_panics(
            base_layer in any::<u32>(),
            index in any::<u32>(),
            length in prop_oneof![any::<u32>(), (0u32..32).prop_map(|log| 1 << log)],
            proof_layers in any::<u32>(),
            height in any::<u32>(),
            count in 0usize..40,
        ) {
            let tree = Tree::new(1, leaves(11), 5).unwrap();
            for (base_layer, proof_layers) in [(base_layer, proof_layers), (base_layer % 6, proof_layers % 6)] {
                let request = HashRequest { pieces_root: [9; 32], base_layer, index, length, proof_layers };
                let small = HashRequest { index: index % 64, ..request };
                for request in [request, small] {
                    for height in [height, height % 64] {
                        let _ = proved_node(&request, height, &leaves(count));
                    }
                    let _ = tree.answer(&request);
                    let _ = tree.answer_from_leaves(&request, &leaves(2));
                }
            }
        }
    }
}
