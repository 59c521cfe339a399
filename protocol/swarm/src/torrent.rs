//! What the peers of one torrent share: who has what, what we want, who may fetch it, whom we trust.
//!
//! Invariant: each block of a wanted piece is in exactly one state: open, leased (to one peer, or in endgame to a few),
//! received, or verified with its piece.

use crate::message::{CloseReason, DeadlineLease, FromPeer, PeerKey, ToPeer};
use core::net::SocketAddr;
use shoal_metainfo::PieceIndex;

/// Where an address came from; decides where a dial may go (design: one table of origin class and target class).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A person named it.
    User,
    /// A tracker did.
    Tracker,
    /// Peer exchange (BEP 11).
    PeerExchange,
    /// The DHT (BEP 5).
    Dht,
    /// Local service discovery (BEP 14).
    Local,
    /// It connected to us.
    Incoming,
    /// It was in the resume data.
    Resume,
}

/// How much a piece is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Not at all.
    Skip,
    /// After everything else.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// Before everything else.
    High,
}

/// What can happen to a torrent.
#[derive(Clone, Debug)]
pub enum Input {
    /// Peers that may be worth a dial.
    Candidates {
        /// Where they come from.
        origin: Origin,
        /// Where they listen.
        addresses: Vec<SocketAddr>,
    },
    /// The session lets this torrent open that many connections more, now.
    DialGranted(u32),
    /// A connection exists, dialled or accepted, and its handshake is done.
    Connected {
        /// Its key: the one of `Output::Dial`, or a new one from `Torrent::next_key` for an accepted connection.
        peer: PeerKey,
        /// The remote's address.
        address: SocketAddr,
        /// The remote's peer id, to find duplicates and ourselves.
        peer_id: [u8; 20],
        /// Where the address came from.
        origin: Origin,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The key of `Output::Dial`.
        peer: PeerKey,
    },
    /// What one of the peers says.
    Peer {
        /// Which.
        peer: PeerKey,
        /// What.
        message: FromPeer,
    },
    /// Storage verified a piece: its bytes are on disk and right.
    Verified {
        /// The piece.
        piece: PieceIndex,
        /// Short digests of its blocks where an earlier attempt had failed; empty otherwise.
        blocks: Vec<u64>,
    },
    /// Storage found a piece wrong and has forgotten its bytes.
    Failed {
        /// The piece.
        piece: PieceIndex,
        /// The blocks known to be wrong; empty where only the whole is known to be.
        bad: Vec<shoal_metainfo::BlockIndex>,
        /// Short digests of all its blocks as received, to find out later who sent the wrong one.
        blocks: Vec<u64>,
    },
    /// Storage could not keep received blocks of this piece (an I/O error); they are open again.
    Dropped {
        /// The piece.
        piece: PieceIndex,
    },
    /// A piece we had is no longer there or no longer right.
    Lost {
        /// The piece.
        piece: PieceIndex,
    },
    /// Storage cannot take more (disk full or failing): hand out no leases (true), or it can again.
    Suspended(bool),
    /// The choker decided: these are unchoked, all others are choked.
    Unchoked(Vec<PeerKey>),
    /// How much each piece is wanted, from now on.
    Priorities(Vec<Priority>),
    /// Pick pieces in order (true) or rarest first.
    Sequential(bool),
    /// A reader's claim begins or moves.
    Deadline(DeadlineLease),
    /// A reader's claim ends.
    DeadlineEnded {
        /// The id of the lease.
        id: u64,
    },
    /// End all connections and open no more.
    Stop,
    /// A deadline passed.
    Tick,
}

/// What a torrent wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell one peer.
    Peer {
        /// Which.
        peer: PeerKey,
        /// What.
        message: ToPeer,
    },
    /// Tell every connected peer.
    Broadcast(ToPeer),
    /// Open a connection, then say `Connected` or `DialFailed`.
    Dial {
        /// The key it will have.
        peer: PeerKey,
        /// Where.
        address: SocketAddr,
        /// On whose word.
        origin: Origin,
    },
    /// Refuse this connection, which `Connected` announced: it is a duplicate, banned, or ourselves.
    Refuse {
        /// Which.
        peer: PeerKey,
        /// Why.
        reason: CloseReason,
    },
    /// It could use that many connections more; replaces the last statement.
    WantsDials(u32),
    /// More addresses would help: ask the trackers early.
    WantsCandidates,
    /// Accept no more connections from this address.
    Ban(core::net::IpAddr),
    /// Forget the received, unverified blocks of this piece: nobody wants it any more.
    Forget(PieceIndex),
    /// Every wanted piece is verified.
    Complete,
}
