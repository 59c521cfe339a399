//! Hashes one piece as its bytes arrive, in order and in chunks of any size.
//!
//! Invariant: the digests depend on the bytes alone, not on how they were cut.

use crate::geometry::{BLOCK_LENGTH, MAX_PIECE_LENGTH};
use crate::verifier::{Needs, PieceDigests};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The digests of one piece in the making.
#[derive(Clone, Debug)]
pub struct PieceHasher {
    sha1: Option<Sha1>,
    blocks: Option<BlockHasher>,
}

impl PieceHasher {
    /// Begins a piece of which the first `content_length` bytes are content of a file; what follows is padding, which
    /// counts for SHA-1 only. At most [`MAX_PIECE_LENGTH`] bytes of content are hashed.
    #[must_use]
    pub fn new(needs: Needs, content_length: u32) -> Self {
        PieceHasher {
            sha1: needs.sha1.then(Sha1::new),
            blocks: needs.blocks.then(|| BlockHasher::new(content_length)),
        }
    }

    /// Takes the next bytes of the piece.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some(blocks) = &mut self.blocks {
            blocks.update(bytes);
        }
    }

    /// The digests of all bytes taken.
    #[must_use]
    pub fn finish(self) -> PieceDigests {
        PieceDigests {
            sha1: self.sha1.map(|sha1| sha1.finalize().into()),
            blocks: self.blocks.map(BlockHasher::finish),
        }
    }
}

/// The leaves of a piece's Merkle tree in the making.
#[derive(Clone, Debug)]
struct BlockHasher {
    hasher: Sha256,
    /// Bytes of the current block that `hasher` has seen, less than a block.
    filled: usize,
    /// Bytes of content still to come.
    rest: usize,
    leaves: Vec<[u8; 32]>,
}

impl BlockHasher {
    fn new(content_length: u32) -> Self {
        let content_length = content_length.min(MAX_PIECE_LENGTH);
        BlockHasher {
            hasher: Sha256::new(),
            filled: 0,
            rest: content_length as usize,
            leaves: Vec::with_capacity(content_length.div_ceil(BLOCK_LENGTH) as usize),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        let content = &bytes[..bytes.len().min(self.rest)];
        self.rest -= content.len();
        let space = BLOCK_LENGTH as usize - self.filled;
        let (head, tail) = content.split_at(content.len().min(space));
        self.fill(head);
        for block in tail.chunks(BLOCK_LENGTH as usize) {
            self.fill(block);
        }
    }

    /// Takes bytes that do not reach beyond the current block.
    fn fill(&mut self, part: &[u8]) {
        self.hasher.update(part);
        self.filled += part.len();
        if self.filled == BLOCK_LENGTH as usize {
            self.leaves.push(self.hasher.finalize_reset().into());
            self.filled = 0;
        }
    }

    fn finish(mut self) -> Vec<[u8; 32]> {
        if self.filled > 0 {
            self.leaves.push(self.hasher.finalize().into());
        }
        self.leaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: Needs = Needs {
        sha1: true,
        blocks: true,
    };

    #[test]
    fn padding_counts_for_sha1_only() {
        let bytes = vec![7; 40_000];
        let mut hasher = PieceHasher::new(BOTH, 20_000);
        hasher.update(&bytes);
        let digests = hasher.finish();
        assert_eq!(digests.sha1, Some(Sha1::digest(&bytes).into()));
        let leaves: Vec<[u8; 32]> = vec![
            Sha256::digest(&bytes[..16_384]).into(),
            Sha256::digest(&bytes[16_384..20_000]).into(),
        ];
        assert_eq!(digests.blocks, Some(leaves));
    }

    #[test]
    fn only_what_is_needed_is_hashed() {
        let none = Needs {
            sha1: false,
            blocks: false,
        };
        let mut hasher = PieceHasher::new(none, u32::MAX);
        hasher.update(&[1, 2, 3]);
        assert_eq!(hasher.finish(), PieceDigests::default());
    }

    #[test]
    fn a_piece_of_padding_has_no_leaves() {
        let mut hasher = PieceHasher::new(BOTH, 0);
        hasher.update(&[0; 16_384]);
        assert_eq!(hasher.finish().blocks, Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn the_way_bytes_are_cut_makes_no_difference(
            length in 0usize..70_000,
            content in 0u32..80_000,
            cuts in proptest::collection::vec(0usize..40_000, 0..12),
            seed in any::<u64>(),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let bytes: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
            let mut hasher = PieceHasher::new(BOTH, content);
            let mut rest = &bytes[..];
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                hasher.update(part);
                rest = after;
            }
            hasher.update(rest);
            let digests = hasher.finish();
            let content = &bytes[..length.min(content as usize)];
            let leaves: Vec<[u8; 32]> = content
                .chunks(16_384)
                .map(|block| Sha256::digest(block).into())
                .collect();
            prop_assert_eq!(digests.sha1, Some(Sha1::digest(&bytes).into()));
            prop_assert_eq!(digests.blocks, Some(leaves));
        }
    }
}
