//! What a torrent is: its metainfo, its identity, and how its bytes are cut into pieces, blocks and files.
//!
//! Invariant: input is data. Nothing here panics, recurses by what it reads, or allocates by a length that the input
//! merely claims.

pub mod bencode;
pub mod bitfield;
pub mod create;
pub mod geometry;
pub mod hasher;
pub mod info_hash;
mod lanes;
pub mod magnet;
pub mod merkle;
pub mod metainfo;
pub mod metalink;
pub mod names;
pub mod verifier;

pub use bitfield::Bitfield;
pub use geometry::{BLOCK_LENGTH, Block, BlockIndex, BlockRun, FileIndex, Layout, PieceIndex};
pub use hasher::PieceHasher;
pub use info_hash::{InfoHash, InfoHashV1, InfoHashV2, InfoHashes};
pub use magnet::Magnet;
pub use metainfo::{File, Metainfo};
pub use verifier::{PieceDigests, Verdict, Verifier};
