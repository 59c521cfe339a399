//! What a connection and a search tell each other before the metainfo is known.

use crate::message::CloseReason;
use bytes::Bytes;
use core::net::SocketAddr;
use shoal_wire::{HashRequest, Hashes};

/// From a connection to its search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromSeeker {
    /// The remote has metadata of this size, as it says.
    Offers {
        /// Bytes; not 0, and bounded.
        total_bytes: u32,
    },
    /// A piece of metadata came, with as many bytes as it has in metadata of that size.
    Data {
        /// The piece.
        piece: u32,
        /// The size that the remote claims.
        total_bytes: u32,
        /// The piece's bytes.
        bytes: Bytes,
    },
    /// The remote does not send this piece.
    Rejected {
        /// The piece.
        piece: u32,
    },
    /// Hashes that answer a request came; not proved yet.
    Hashes(Hashes),
    /// The remote does not send these hashes.
    HashesRejected(HashRequest),
    /// These are peers of the torrent, as the remote says (BEP 11).
    Introduced(Vec<SocketAddr>),
    /// The connection is over. Always the last message.
    Left(CloseReason),
}

/// From a search to one of its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToSeeker {
    /// Ask for this piece of metadata.
    Request {
        /// The piece.
        piece: u32,
    },
    /// Ask for these hashes.
    RequestHashes(HashRequest),
    /// This is the info dictionary: serve it.
    Known(Bytes),
    /// End the connection.
    Close(CloseReason),
}
