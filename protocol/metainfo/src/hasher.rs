//! Hashes pieces as their bytes arrive, in order and in chunks of any size, several pieces at once where that is faster.
//!
//! Invariant: the digests depend on the bytes alone, not on how they were cut or what was hashed beside them.

use smallvec::SmallVec;

use crate::geometry::{BLOCK_LENGTH, MAX_PIECE_LENGTH};
use crate::lanes::{self, Feed, MOST_LANES, Sha1Chain, Sha256Chain, ShaExtensions, Stream};
use crate::verifier::{Needs, PieceDigests};

const BLOCK_BYTES: u64 = BLOCK_LENGTH as u64;

/// The digests of one piece in the making.
#[derive(Clone, Debug)]
pub struct PieceHasher {
    sha1: Option<Stream<Sha1Chain>>,
    blocks: Option<BlockHasher>,
}

/// The next bytes of one piece, in any number of chunks.
#[derive(Debug)]
pub struct Run<'a> {
    /// Takes them.
    pub hasher: &'a mut PieceHasher,
    /// What is taken, in order.
    pub chunks: &'a [&'a [u8]],
}

/// How many pieces are hashed together at a profit: 1 where hashing one after the other is as fast. That depends on the
/// processor, and on what is hashed: the blocks of a v2 piece are messages of their own, so that one piece is enough.
#[must_use]
pub fn lanes(needs: Needs) -> usize {
    match ShaExtensions::detect() {
        Some(_) if needs.sha1 => MOST_LANES,
        _ => 1,
    }
}

/// Takes the bytes of all runs: as [`PieceHasher::update`] for each chunk of each run, but faster where [`lanes`] pieces come
/// together. Of more runs than that, the next begins when one has ended.
pub fn hash_together(runs: &mut [Run<'_>]) {
    hash_with(runs, ShaExtensions::detect());
}

fn hash_with(runs: &mut [Run<'_>], extensions: Option<ShaExtensions>) {
    let sha1 = runs.iter_mut().filter_map(|run| {
        let stream = run.hasher.sha1.as_mut()?;
        Some(Feed::new(stream, run.chunks))
    });
    let mut sha1: SmallVec<[_; MOST_LANES]> = sha1.collect();
    lanes::take_all(&mut sha1, extensions);
    drop(sha1);
    let mut leaves: Vec<Leaf<'_>> = Vec::new();
    for (owner, run) in runs.iter_mut().enumerate() {
        if let Some(blocks) = &mut run.hasher.blocks {
            blocks.cut(owner, run.chunks, &mut leaves);
        }
    }
    let feeds = leaves.iter_mut();
    let mut feeds: Vec<_> = feeds
        .map(|leaf| Feed::new(&mut leaf.stream, &leaf.chunks))
        .collect();
    lanes::take_all(&mut feeds, extensions);
    drop(feeds);
    for leaf in leaves {
        if let Some(blocks) = &mut runs[leaf.owner].hasher.blocks {
            blocks.put(leaf.stream);
        }
    }
}

impl PieceHasher {
    /// Begins a piece of which the first `content_length` bytes are content of a file; what follows is padding, which
    /// counts for SHA-1 only. At most [`MAX_PIECE_LENGTH`] bytes of content are hashed.
    #[must_use]
    pub fn new(needs: Needs, content_length: u32) -> Self {
        PieceHasher {
            sha1: needs.sha1.then(Stream::new),
            blocks: needs.blocks.then(|| BlockHasher::new(content_length)),
        }
    }

    /// Takes the next bytes of the piece.
    pub fn update(&mut self, bytes: &[u8]) {
        hash_together(&mut [Run {
            hasher: self,
            chunks: &[bytes],
        }]);
    }

    /// The digests of all bytes taken.
    #[must_use]
    pub fn finish(self) -> PieceDigests {
        PieceDigests {
            sha1: self.sha1.map(Stream::digest),
            blocks: self.blocks.map(BlockHasher::finish),
        }
    }
}

/// The leaves of a piece's Merkle tree in the making.
#[derive(Clone, Debug)]
struct BlockHasher {
    /// The current block, which is not whole.
    stream: Stream<Sha256Chain>,
    /// Bytes of content still to come.
    rest: usize,
    leaves: Vec<[u8; 32]>,
}

/// A block that is whole or begun, and what comes next of it.
struct Leaf<'b> {
    /// Which of the runs it belongs to.
    owner: usize,
    stream: Stream<Sha256Chain>,
    chunks: SmallVec<[&'b [u8]; 2]>,
    /// Bytes that it still lacks then.
    space: usize,
}

impl BlockHasher {
    fn new(content_length: u32) -> Self {
        let content_length = content_length.min(MAX_PIECE_LENGTH);
        BlockHasher {
            stream: Stream::new(),
            rest: content_length as usize,
            leaves: Vec::with_capacity(content_length.div_ceil(BLOCK_LENGTH) as usize),
        }
    }

    /// Cuts the next bytes at the ends of blocks. Each leaf comes back with [`BlockHasher::put`], in order.
    fn cut<'b>(&mut self, owner: usize, chunks: &[&'b [u8]], leaves: &mut Vec<Leaf<'b>>) {
        let leaf = |stream: Stream<Sha256Chain>| Leaf {
            owner,
            space: BLOCK_LENGTH as usize - usize::try_from(stream.length()).unwrap_or(0),
            stream,
            chunks: SmallVec::new(),
        };
        let mut current = leaf(core::mem::replace(&mut self.stream, Stream::new()));
        for chunk in chunks {
            let mut content = &chunk[..chunk.len().min(self.rest)];
            self.rest -= content.len();
            while !content.is_empty() {
                let (part, others) = content.split_at(content.len().min(current.space));
                current.space -= part.len();
                current.chunks.push(part);
                if current.space == 0 {
                    leaves.push(core::mem::replace(&mut current, leaf(Stream::new())));
                }
                content = others;
            }
        }
        leaves.push(current);
    }

    /// Takes a block back after its bytes were hashed.
    fn put(&mut self, stream: Stream<Sha256Chain>) {
        if stream.length() == BLOCK_BYTES {
            self.leaves.push(stream.digest());
        } else {
            self.stream = stream;
        }
    }

    fn finish(mut self) -> Vec<[u8; 32]> {
        if self.stream.length() > 0 {
            self.leaves.push(self.stream.digest());
        }
        self.leaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha1::{Digest, Sha1};
    use sha2::Sha256;

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

    /// A piece: how many bytes it has, how many of them are content, and where its runs and their chunks are cut.
    type Shape = (usize, u32, Vec<Vec<usize>>);

    fn shape() -> impl Strategy<Value = Shape> {
        // Mostly whole blocks of the hash functions and of the torrent, now and then anything.
        let cut = prop_oneof![
            0usize..200,
            (0usize..300).prop_map(|blocks| blocks * 64),
            Just(16_384),
            0usize..40_000
        ];
        let runs = proptest::collection::vec(proptest::collection::vec(cut, 0..5), 1..4);
        (0usize..70_000, 0u32..80_000, runs)
    }

    /// The next `length` bytes, or what is left.
    fn next<'b>(rest: &mut &'b [u8], length: usize) -> &'b [u8] {
        let (part, after) = rest.split_at(length.min(rest.len()));
        *rest = after;
        part
    }

    /// Hashes the runs of all pieces side by side; the last run of each takes what is left of it.
    fn digests(
        pieces: &[Vec<u8>],
        shapes: &[Shape],
        extensions: Option<ShaExtensions>,
    ) -> Vec<PieceDigests> {
        let mut rests: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let hashers = shapes.iter().map(|shape| PieceHasher::new(BOTH, shape.1));
        let mut hashers: Vec<PieceHasher> = hashers.collect();
        for round in 0..4 {
            let mut chunks: Vec<Vec<&[u8]>> = Vec::new();
            for (rest, shape) in rests.iter_mut().zip(shapes) {
                chunks.push(match shape.2.get(round) {
                    Some(cuts) => cuts.iter().map(|&cut| next(rest, cut)).collect(),
                    None => vec![next(rest, usize::MAX)],
                });
            }
            let runs = hashers.iter_mut().zip(&chunks);
            let mut runs: Vec<Run<'_>> = runs
                .map(|(hasher, chunks)| Run { hasher, chunks })
                .collect();
            hash_with(&mut runs, extensions);
        }
        hashers.into_iter().map(PieceHasher::finish).collect()
    }

    proptest! {
        #[test]
        fn neither_cuts_nor_company_nor_extensions_make_a_difference(
            shapes in proptest::collection::vec(shape(), 1..7),
            seed in any::<u64>(),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let pieces: Vec<Vec<u8>> = shapes
                .iter()
                .map(|shape| (0..shape.0).map(|_| rng.u8(..)).collect())
                .collect();
            let expected: Vec<PieceDigests> = pieces
                .iter()
                .zip(&shapes)
                .map(|(bytes, shape)| PieceDigests {
                    sha1: Some(Sha1::digest(bytes).into()),
                    blocks: Some(
                        bytes[..bytes.len().min(shape.1 as usize)]
                            .chunks(16_384)
                            .map(|block| Sha256::digest(block).into())
                            .collect(),
                    ),
                })
                .collect();
            for extensions in [None, ShaExtensions::detect()] {
                prop_assert_eq!(&digests(&pieces, &shapes, extensions), &expected);
            }
        }
    }
}
