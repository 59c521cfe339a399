//! The messages, as values.
//!
//! Invariant: numbers in them are as the remote sent them. The length of each message is bounded, but that a piece, an
//! offset or a block exists is for whoever knows the torrent.

use crate::hole_punch::HolePunch;
use crate::metadata::Metadata;
use crate::pex::PeerExchange;
use shoal_metainfo::PieceIndex;
pub use shoal_metainfo::merkle::HashRequest;

/// A part of a piece, by byte offset, as request, cancel, reject and piece messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The piece.
    pub piece: PieceIndex,
    /// The offset of its first byte in the piece.
    pub begin: u32,
    /// Bytes.
    pub length: u32,
}

/// The header of a piece message. `length` bytes of payload follow it on the wire.
pub type BlockHeader = Request;

/// The answer to a [`HashRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// What was asked.
    pub request: HashRequest,
    /// The hashes of the base layer, then the uncles towards the root.
    pub hashes: Vec<[u8; 32]>,
}

/// The extension handshake (BEP 10) with the keys that we use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// Name of each extension the sender speaks and the message id it wants it under; 0 switches one off.
    pub extensions: Vec<(String, u8)>,
    /// `v`: the sender's client, cut to a bound and cleaned of control and formatting characters.
    pub client: Option<String>,
    /// `p`: the port the sender listens on, not 0.
    pub port: Option<u16>,
    /// `reqq`: how many requests the sender queues, not 0.
    pub reqq: Option<u32>,
    /// `upload_only` (BEP 21): the sender will not download.
    pub upload_only: bool,
    /// `yourip`: our address as the sender sees it.
    pub your_ip: Option<core::net::IpAddr>,
    /// `metadata_size` (BEP 9) in bytes, not 0 and bounded.
    pub metadata_size: Option<u32>,
}

/// Everything that can follow the handshake, except a block: of that, only the header is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A length of zero.
    KeepAlive,
    /// 0
    Choke,
    /// 1
    Unchoke,
    /// 2
    Interested,
    /// 3
    NotInterested,
    /// 4
    Have(PieceIndex),
    /// 5: raw, because its right length depends on the torrent: `Bitfield::from_wire` judges it.
    Bitfield(Vec<u8>),
    /// 6
    Request(Request),
    /// 7: the header of a block whose bytes follow.
    Piece(BlockHeader),
    /// 8
    Cancel(Request),
    /// 9: the DHT port (BEP 5).
    Port(u16),
    /// 13: (BEP 6)
    Suggest(PieceIndex),
    /// 14: (BEP 6)
    HaveAll,
    /// 15: (BEP 6)
    HaveNone,
    /// 16: (BEP 6)
    Reject(Request),
    /// 17: (BEP 6)
    AllowedFast(PieceIndex),
    /// 20, id 0: the extension handshake (BEP 10).
    ExtendedHandshake(ExtendedHandshake),
    /// `ut_pex` (BEP 11): whom the sender is connected to.
    PeerExchange(PeerExchange),
    /// `lt_donthave` (BEP 54): the sender no longer has the piece.
    DontHave(PieceIndex),
    /// `ut_holepunch` (BEP 55); `None` where it is none of its messages, which is ignored. Never sent without.
    HolePunch(Option<HolePunch>),
    /// `ut_metadata` (BEP 9).
    Metadata(Metadata),
    /// Another extension message: its local id and its payload, bounded.
    Extended {
        /// The id under which the receiver asked for it: ours where it came in, the remote's where it goes out.
        id: u8,
        /// What follows.
        payload: Vec<u8>,
    },
    /// 21: (BEP 52). Not judged yet: an unfair one is answered by a reject.
    HashRequest(HashRequest),
    /// 22: (BEP 52). Fair and of the right count when decoded; whether the hashes are right is for who has the root.
    Hashes(Hashes),
    /// 23: (BEP 52)
    HashReject(HashRequest),
    /// A message id that nobody defined; its payload is skipped. Never sent.
    Unknown(u8),
}
