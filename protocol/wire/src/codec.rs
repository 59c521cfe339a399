//! Messages to and from bytes, and how long each may be.
//!
//! Invariant: a message's length is judged by its kind as soon as prefix and id are there, before anything waits for the
//! rest; so no remote makes us hold more than [`Limits::longest_frame`] bytes.

mod decode;
mod encode;

pub use decode::{DecodeError, Decoded, Decoder};
pub use encode::{encode, piece_header};

use shoal_metainfo::geometry::MAX_PIECES;
use shoal_metainfo::merkle::{MAX_HEIGHT, MAX_REQUEST_LENGTH};

/// Bytes of the length that precedes every message; it does not count itself.
const PREFIX_LENGTH: usize = 4;

/// Bytes from the start of a piece message to the payload: length, id, piece and begin.
pub const PIECE_HEADER_LENGTH: usize = 13;

/// The longest payload of a piece message. We request blocks of 16 KiB; 128 KiB is what the most generous clients serve
/// and costs nothing to allow, because no decoder holds it.
pub const MAX_BLOCK_PAYLOAD: u32 = 128 * 1024;

/// The longest message of any kind, id included. The payload of ids that nobody defined is skipped up to this length
/// without being held; beyond it, the remote is out of step or hostile. As in libtorrent.
pub const MAX_MESSAGE_LENGTH: u32 = 1024 * 1024;

/// The longest extension handshake. Those of today's clients have 100 to 500 bytes.
pub const MAX_EXTENDED_HANDSHAKE: u32 = 16 * 1024;

/// The longest payload of any other extension message: four times a piece of metadata (BEP 9), and more peers than a
/// minute of peer exchange may bring (BEP 11).
pub const MAX_EXTENDED_PAYLOAD: u32 = 64 * 1024;

/// The shortest payload of a hashes message: what was asked (the root and four numbers), and no hash.
const MIN_HASHES_PAYLOAD: u32 = 32 + 4 * 4;

/// Bytes of a hash request, as a subscript.
const HASH_REQUEST_LENGTH: usize = MIN_HASHES_PAYLOAD as usize;

/// The longest payload of a hashes message: the base layer and an uncle for each layer of the tallest tree.
const MAX_HASHES_PAYLOAD: u32 = MIN_HASHES_PAYLOAD + 32 * (MAX_REQUEST_LENGTH + MAX_HEIGHT);

/// What the torrent says about how long a remote's messages may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many pieces it has, which settles the length of a bitfield; `None` while that is unknown, as with a magnet.
    pub piece_count: Option<u32>,
}

impl Limits {
    /// The longest bitfield: of the torrent's pieces, or of the most that we accept in any torrent.
    fn max_bitfield(self) -> u32 {
        self.piece_count.unwrap_or(MAX_PIECES).div_ceil(8)
    }

    /// The most bytes, prefix included, that a decoder ever needs at once. A driver's buffer need not be larger.
    #[must_use]
    pub fn longest_frame(self) -> usize {
        let extended = 1 + MAX_EXTENDED_PAYLOAD.max(MAX_EXTENDED_HANDSHAKE);
        let payload = MAX_HASHES_PAYLOAD.max(extended).max(self.max_bitfield());
        PREFIX_LENGTH + 1 + payload as usize
    }
}

/// Message ids: BEP 3, 5, 6, 10 and 52.
mod id {
    pub(super) const CHOKE: u8 = 0;
    pub(super) const UNCHOKE: u8 = 1;
    pub(super) const INTERESTED: u8 = 2;
    pub(super) const NOT_INTERESTED: u8 = 3;
    pub(super) const HAVE: u8 = 4;
    pub(super) const BITFIELD: u8 = 5;
    pub(super) const REQUEST: u8 = 6;
    pub(super) const PIECE: u8 = 7;
    pub(super) const CANCEL: u8 = 8;
    pub(super) const PORT: u8 = 9;
    pub(super) const SUGGEST: u8 = 13;
    pub(super) const HAVE_ALL: u8 = 14;
    pub(super) const HAVE_NONE: u8 = 15;
    pub(super) const REJECT: u8 = 16;
    pub(super) const ALLOWED_FAST: u8 = 17;
    pub(super) const EXTENDED: u8 = 20;
    pub(super) const HASH_REQUEST: u8 = 21;
    pub(super) const HASHES: u8 = 22;
    pub(super) const HASH_REJECT: u8 = 23;

    /// Within an extended message: the extension handshake.
    pub(super) const EXTENDED_HANDSHAKE: u8 = 0;
}

#[cfg(test)]
mod tests;
