//! Whether a piece is right: what its bytes hash to, held against what the metainfo promises.
//!
//! Invariant: a piece is right only if it matches *every* promise made for it. A hybrid torrent promises twice (BEP 52:
//! clients must check both).

use crate::geometry::BlockIndex;

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
        }
    }
}
