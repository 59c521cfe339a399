//! Whether a piece is right: what its bytes hash to, held against what the metainfo promises.
//!
//! Invariant: a piece is right only if it matches *every* promise made for it. A hybrid torrent promises twice (BEP 52:
//! clients must check both).

use crate::geometry::{BLOCK_LENGTH, BlockIndex, PieceIndex};
use crate::hasher::PieceHasher;
use crate::merkle;

/// What the bytes of one piece hash to. Whoever has the bytes computes what [`Verifier::needs`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PieceDigests {
    /// SHA-1 over the whole piece.
    pub sha1: Option<[u8; 20]>,
    /// SHA-256 of each block of the piece, in order: the leaves of its Merkle tree. Blocks that consist of padding only
    /// are left out (they lie beyond the end of the file, where leaves are zero).
    pub blocks: Option<Vec<[u8; 32]>>,
}

/// Which digests a verifier needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// [`PieceDigests::sha1`].
    pub sha1: bool,
    /// [`PieceDigests::blocks`].
    pub blocks: bool,
}

/// The outcome for one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what the metainfo promises.
    Right,
    /// It is not. `bad` names the blocks at fault where block hashes tell, and is empty where only the whole piece is
    /// known to be wrong.
    Wrong {
        /// The blocks known to be wrong.
        bad: Vec<BlockIndex>,
    },
}

/// What the metainfo promises about each piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verifier {
    /// SHA-1 of each piece (BEP 3).
    V1(V1Pieces),
    /// Merkle root of each piece (BEP 52).
    V2(V2Pieces),
    /// Both, each of which must hold.
    Hybrid(V1Pieces, V2Pieces),
    /// Nothing but that there are so many: content that no torrent describes. Whatever comes is taken for right.
    Unhashed(u32),
}

/// SHA-1 of each piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Pieces(pub Vec<[u8; 20]>);

/// For each piece the Merkle root over its blocks, and how many blocks of file content it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V2Pieces(pub Vec<V2Piece>);

/// One piece of a v2 torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct V2Piece {
    /// The root over the piece's blocks: an entry of the piece layer, or the file's root where the file fits in a piece.
    pub root: [u8; 32],
    /// Bytes of file content in the piece; the rest of the piece, if any, is padding.
    pub content_length: u32,
    /// Leaves of the tree under `root`, a power of two: the blocks of a full piece, or, where the file fits in a single
    /// piece, its own blocks rounded up to a power of two.
    pub leaves: u32,
}

impl Verifier {
    /// Which digests [`Verifier::check`] needs.
    #[must_use]
    pub const fn needs(&self) -> Needs {
        match self {
            Verifier::V1(_) => Needs {
                sha1: true,
                blocks: false,
            },
            Verifier::V2(_) => Needs {
                sha1: false,
                blocks: true,
            },
            Verifier::Hybrid(..) => Needs {
                sha1: true,
                blocks: true,
            },
            Verifier::Unhashed(_) => Needs {
                sha1: false,
                blocks: false,
            },
        }
    }

    /// Whether right bytes can be told from wrong ones wherever they come from. Otherwise only what was just received may be
    /// taken for right, and nothing that is found on a disk.
    #[must_use]
    pub const fn can_tell(&self) -> bool {
        !matches!(self, Verifier::Unhashed(_))
    }

    /// How many pieces are promised.
    #[must_use]
    pub fn piece_count(&self) -> u32 {
        let count = match self {
            Verifier::V1(v1) => v1.0.len(),
            Verifier::V2(v2) => v2.0.len(),
            Verifier::Hybrid(v1, v2) => v1.0.len().min(v2.0.len()),
            Verifier::Unhashed(count) => return *count,
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// A hasher for what [`Verifier::check`] needs to know about `piece`.
    #[must_use]
    pub fn hasher(&self, piece: PieceIndex) -> PieceHasher {
        let content_length = self.v2(piece).map_or(0, |v2| v2.content_length);
        PieceHasher::new(self.needs(), content_length)
    }

    /// Whether a piece with these digests is what was promised. It is wrong where there is no such piece, and where a digest is
    /// missing that [`Verifier::needs`] asks for.
    #[must_use]
    pub fn check(&self, piece: PieceIndex, digests: &PieceDigests) -> Verdict {
        let right = match self {
            Verifier::V1(v1) => v1.holds(piece, digests),
            Verifier::V2(v2) => v2.holds(piece, digests),
            Verifier::Hybrid(v1, v2) => v1.holds(piece, digests) && v2.holds(piece, digests),
            Verifier::Unhashed(count) => piece.0 < *count,
        };
        if right {
            Verdict::Right
        } else {
            Verdict::Wrong { bad: Vec::new() }
        }
    }

    /// As [`Verifier::check`], where `leaves` are said to be the block hashes of the right piece (from a peer, by a hash
    /// request). If they are, which their root tells, a wrong piece's bad blocks are named.
    #[must_use]
    pub fn check_against_leaves(
        &self,
        piece: PieceIndex,
        digests: &PieceDigests,
        leaves: &[[u8; 32]],
    ) -> Verdict {
        let Verdict::Wrong { mut bad } = self.check(piece, digests) else {
            return Verdict::Right;
        };
        let Some(blocks) = &digests.blocks else {
            return Verdict::Wrong { bad };
        };
        if self.v2(piece).is_some_and(|v2| v2.matches(leaves)) {
            bad.extend(
                (0u32..)
                    .zip(leaves)
                    .filter(|&(at, leaf)| blocks.get(at as usize) != Some(leaf))
                    .map(|(at, _)| BlockIndex(at)),
            );
        }
        Verdict::Wrong { bad }
    }

    fn v2(&self, piece: PieceIndex) -> Option<&V2Piece> {
        match self {
            Verifier::V1(_) | Verifier::Unhashed(_) => None,
            Verifier::V2(v2) | Verifier::Hybrid(_, v2) => v2.0.get(piece.get()),
        }
    }
}

impl V1Pieces {
    fn holds(&self, piece: PieceIndex, digests: &PieceDigests) -> bool {
        let promised = self.0.get(piece.get());
        promised.is_some() && promised == digests.sha1.as_ref()
    }
}

impl V2Pieces {
    fn holds(&self, piece: PieceIndex, digests: &PieceDigests) -> bool {
        match (self.0.get(piece.get()), &digests.blocks) {
            (Some(promised), Some(blocks)) => promised.matches(blocks),
            _ => false,
        }
    }
}

impl V2Piece {
    /// Whether `blocks` are the hashes of all blocks of content in this piece.
    fn matches(&self, blocks: &[[u8; 32]]) -> bool {
        blocks.len() == self.content_length.div_ceil(BLOCK_LENGTH) as usize
            && merkle::root(blocks, self.leaves) == self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pieces of four blocks; the second has two blocks of content, the last of them short, then padding.
    fn promise() -> (Verifier, Vec<PieceDigests>) {
        let needs = Needs {
            sha1: true,
            blocks: true,
        };
        let contents = [65_536u32, 20_000];
        let mut digests = Vec::new();
        let (mut v1, mut v2) = (Vec::new(), Vec::new());
        for (content_length, fill) in contents.into_iter().zip(1u8..) {
            let mut hasher = PieceHasher::new(needs, content_length);
            hasher.update(&vec![fill; content_length as usize]);
            hasher.update(&vec![0; 65_536 - content_length as usize]);
            let piece = hasher.finish();
            v1.push(piece.sha1.unwrap());
            v2.push(V2Piece {
                root: merkle::root(piece.blocks.as_ref().unwrap(), 4),
                content_length,
                leaves: 4,
            });
            digests.push(piece);
        }
        (Verifier::Hybrid(V1Pieces(v1), V2Pieces(v2)), digests)
    }

    const WRONG: Verdict = Verdict::Wrong { bad: Vec::new() };

    fn verdicts(verifier: &Verifier, digests: &[PieceDigests]) -> Vec<Verdict> {
        (0u32..)
            .zip(digests)
            .map(|(piece, digests)| verifier.check(PieceIndex(piece), digests))
            .collect()
    }

    #[test]
    fn right_pieces_are_right_for_every_kind() {
        let (hybrid, digests) = promise();
        let Verifier::Hybrid(v1, v2) = hybrid.clone() else {
            panic!("the promise is hybrid");
        };
        for verifier in [hybrid, Verifier::V1(v1), Verifier::V2(v2)] {
            assert_eq!(verifier.piece_count(), 2);
            assert_eq!(
                verdicts(&verifier, &digests),
                [Verdict::Right, Verdict::Right]
            );
        }
    }

    #[test]
    fn a_hybrid_piece_must_keep_both_promises() {
        let (verifier, mut digests) = promise();
        digests[0].sha1.as_mut().unwrap()[3] ^= 1;
        digests[1].blocks.as_mut().unwrap()[1][3] ^= 1;
        assert_eq!(verdicts(&verifier, &digests), [WRONG, WRONG]);
    }

    #[test]
    fn a_missing_digest_or_piece_is_wrong() {
        let (verifier, digests) = promise();
        let mut lacking = digests.clone();
        lacking[0].sha1 = None;
        lacking[1].blocks = None;
        assert_eq!(verdicts(&verifier, &lacking), [WRONG, WRONG]);
        assert_eq!(verifier.check(PieceIndex(2), &digests[0]), WRONG);
        assert_eq!(
            verifier.check(PieceIndex(2), &PieceDigests::default()),
            WRONG
        );
        let nothing = Verifier::V1(V1Pieces(Vec::new()));
        assert_eq!(
            nothing.check(PieceIndex(0), &PieceDigests::default()),
            WRONG
        );
    }

    #[test]
    fn a_zero_leaf_does_not_stand_for_a_missing_block() {
        let (verifier, mut digests) = promise();
        digests[1].blocks.as_mut().unwrap().push([0; 32]);
        assert_eq!(verifier.check(PieceIndex(1), &digests[1]), WRONG);
    }

    #[test]
    fn the_hasher_of_a_piece_knows_where_its_content_ends() {
        let (verifier, digests) = promise();
        let mut hasher = verifier.hasher(PieceIndex(1));
        hasher.update(&vec![2; 20_000]);
        hasher.update(&vec![0; 45_536]);
        assert_eq!(hasher.finish(), digests[1]);
        let beyond = verifier.hasher(PieceIndex(2)).finish();
        assert_eq!(verifier.check(PieceIndex(2), &beyond), WRONG);
    }

    #[test]
    fn known_leaves_name_the_bad_blocks_unless_they_are_a_lie() {
        let (verifier, digests) = promise();
        let leaves = digests[0].blocks.clone().unwrap();
        let mut damaged = digests[0].clone();
        damaged.sha1 = Some([0; 20]);
        damaged.blocks.as_mut().unwrap()[2] = [9; 32];
        let check =
            |leaves: &[[u8; 32]]| verifier.check_against_leaves(PieceIndex(0), &damaged, leaves);
        let bad = vec![BlockIndex(2)];
        assert_eq!(check(&leaves), Verdict::Wrong { bad });
        let mut lie = leaves;
        lie[0] = [1; 32];
        assert_eq!(check(&lie), WRONG);
        assert_eq!(check(&[]), WRONG);
        let right = verifier.check_against_leaves(PieceIndex(0), &digests[0], &lie);
        assert_eq!(right, Verdict::Right);
    }
}
