//! One connection after its handshake.
//!
//! Invariant: at most the request window's bytes and the remote's `reqq` requests are outstanding; every block that arrives
//! was requested, or the connection ends.

use crate::message::{CloseReason, FromPeer, Has, ToPeer};
use shoal_metainfo::Block;
use shoal_wire::{BlockHeader, HashRequest, Hashes, Message, Request};

/// What can happen to a peer session.
#[derive(Clone, Debug)]
pub enum Input {
    /// The remote said this. A `Message::Piece` is a block's header, before its bytes have come.
    Message(Message),
    /// The bytes of the block announced by the last `Message::Piece` have been handed to storage.
    BlockStored(Block),
    /// The bytes of an `Upload` have left; `false` where they could not be read, so that the remote gets a reject.
    Uploaded {
        /// What was asked.
        request: Request,
        /// Whether it was sent.
        sent: bool,
    },
    /// What the torrent says.
    Torrent(ToPeer),
    /// Answer to `Output::ServeHashes`; `None` rejects.
    HashesServed {
        /// What was asked.
        request: HashRequest,
        /// The hashes.
        hashes: Option<Hashes>,
    },
    /// Storage has no room, so that we do not read the socket (true), or it has room again. While we are the bottleneck, the
    /// remote is not snubbing us.
    Backpressure(bool),
    /// The socket is closed or broken.
    Disconnected,
    /// A deadline passed.
    Tick,
}

/// What a peer session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this, after what was asked to be sent before.
    Send(Message),
    /// Answer to `Message::Piece`: put the bytes that follow into a slot leased from storage for this block, then say
    /// `Input::BlockStored`.
    Store(Block),
    /// Answer to `Message::Piece`: read the bytes that follow and forget them. They are counted as wasted.
    Discard(BlockHeader),
    /// Send this part of a piece we have, then say `Input::Uploaded`.
    Upload(Request),
    /// Take back an `Upload` that has not begun: the remote cancelled it, or we choked it.
    CancelUpload(Request),
    /// Find these hashes and say `Input::HashesServed`.
    ServeHashes(HashRequest),
    /// Tell the torrent.
    Torrent(FromPeer),
    /// Close the socket; nothing follows.
    Close(CloseReason),
}

/// What the handshake settled.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// Both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub extended: bool,
    /// The connection is in the v2 swarm or was upgraded to it (BEP 52): hash messages are allowed.
    pub v2: bool,
    /// What we have at the start.
    pub ours: Has,
}
