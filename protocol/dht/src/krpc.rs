//! The messages of the DHT (BEP 5, 32, 33, 42, 43, 44, 51), as bencoded datagrams.
//!
//! Invariant: what is written is canonical bencode, and reading it gives the same message. What is read is bounded by the
//! constants here, whatever the datagram claims.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use crate::bloom::BloomFilter;
use crate::contact::{Contact, Family};
use crate::id::Id;
use crate::item::{Item, PublicKey};
use core::net::SocketAddr;
use shoal_metainfo::InfoHash;
use smallvec::SmallVec;

pub use decode::{Fault, decode};
pub use encode::{encode, encode_anonymously};

/// Datagrams longer than this are not read. An item with the longest value comes to about 1,400 bytes with 8 contacts of
/// each family; nothing longer has a use, and Ethernet carries no more at once.
pub const MAX_DATAGRAM_BYTES: usize = 1500;

/// Replies that are not items are no longer than this (BEP 32).
pub const MAX_REPLY_BYTES: usize = 1024;

/// Contacts of one family that are read of a reply: twice what BEP 5 has them be.
pub const MAX_CONTACTS: usize = 16;

/// Peers that are read of a reply: what fits into a datagram.
pub const MAX_VALUES: usize = 180;

/// Info hashes that are read of a reply: what fits into a datagram.
pub const MAX_SAMPLES: usize = 70;

/// The longest token that is kept to be given back. Those of other implementations have 4 to 20 bytes.
pub const MAX_TOKEN_BYTES: usize = 64;

/// The longest transaction id that is repeated. Others use 2 to 8 bytes, and a longer one would be carried back for nothing.
pub const MAX_TRANSACTION_BYTES: usize = 32;

/// The longest sampling interval (BEP 51).
pub const MAX_SAMPLE_INTERVAL_S: u32 = 21_600;

/// Who we are, for other people's statistics (BEP 5, key `v`): the client and its version.
pub(crate) const CLIENT: &[u8; 4] = b"SH\0\x01";

/// What a query and its reply have in common.
pub type TransactionId = SmallVec<[u8; 8]>;

/// What shows that its bearer receives at its address.
pub type Token = SmallVec<[u8; 8]>;

/// One datagram.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Repeated in the answer.
    pub transaction: TransactionId,
    /// What it says.
    pub body: Body,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Something is asked.
    Query(Query),
    /// An answer.
    Reply(Box<Reply>),
    /// A refusal.
    Error {
        /// Why, as a number: see [`ErrorCode`] for those that have a meaning.
        code: i64,
        /// The address that the refused query came from (BEP 42).
        ip: Option<SocketAddr>,
    },
}

/// The refusals of BEP 5 and BEP 44.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// 202: there is no room.
    Server,
    /// 203: malformed, an argument that cannot be, or a token that is not ours.
    Protocol,
    /// 204: no such query.
    MethodUnknown,
    /// 205: a value of more than [`crate::item::MAX_VALUE_BYTES`].
    ValueTooLong,
    /// 206: not signed by its key.
    BadSignature,
    /// 207: a salt of more than [`crate::item::MAX_SALT_BYTES`].
    SaltTooLong,
    /// 301: what is stored is not what the writer thinks.
    CasMismatch,
    /// 302: what is stored is newer.
    SequenceTooLow,
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            ErrorCode::Server => 202,
            ErrorCode::Protocol => 203,
            ErrorCode::MethodUnknown => 204,
            ErrorCode::ValueTooLong => 205,
            ErrorCode::BadSignature => 206,
            ErrorCode::SaltTooLong => 207,
            ErrorCode::CasMismatch => 301,
            ErrorCode::SequenceTooLow => 302,
        }
    }

    /// For people who look at datagrams. Short, so that a refusal is never much longer than what it refuses.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            ErrorCode::Server => "No room",
            ErrorCode::Protocol => "Protocol error",
            ErrorCode::MethodUnknown => "Method unknown",
            ErrorCode::ValueTooLong => "Value too long",
            ErrorCode::BadSignature => "Bad signature",
            ErrorCode::SaltTooLong => "Salt too long",
            ErrorCode::CasMismatch => "CAS mismatch",
            ErrorCode::SequenceTooLow => "Seq too low",
        }
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Who asks.
    pub id: Id,
    /// It answers nothing, and should be in no routing table (BEP 43).
    pub read_only: bool,
    /// What is asked.
    pub method: Method,
}

/// Which contacts are wanted (BEP 32). With neither, those of the family that the query came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// `nodes`.
    pub v4: bool,
    /// `nodes6`.
    pub v6: bool,
}

impl Want {
    /// Whether contacts of `family` are wanted by a query that came by `asked_by`.
    #[must_use]
    pub fn includes(self, family: Family, asked_by: Family) -> bool {
        match (self.v4, self.v6, family) {
            (false, false, _) => family == asked_by,
            (v4, _, Family::V4) => v4,
            (_, v6, Family::V6) => v6,
        }
    }
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Are you there?
    Ping,
    /// Whom do you know near this place?
    FindNode {
        /// The place.
        target: Id,
        /// Of which families.
        want: Want,
    },
    /// Which peers have announced themselves?
    GetPeers {
        /// In this swarm.
        info_hash: InfoHash,
        /// Of which families contacts are wanted beside.
        want: Want,
        /// Rather those that are not complete (BEP 33).
        noseed: bool,
        /// With the filters to count them (BEP 33).
        scrape: bool,
    },
    /// Here is a peer.
    AnnouncePeer {
        /// In this swarm.
        info_hash: InfoHash,
        /// At this port of the query's address.
        port: u16,
        /// No, at the port that the query came from.
        implied_port: bool,
        /// It is complete (BEP 33).
        seed: bool,
        /// From an earlier reply of the same contact.
        token: Token,
    },
    /// What is stored here? (BEP 44)
    Get {
        /// The key.
        target: Id,
        /// Only if it is newer than this.
        seq: Option<i64>,
        /// Of which families contacts are wanted beside.
        want: Want,
    },
    /// Store this (BEP 44). The signature has not been verified.
    Put {
        /// What.
        item: Item,
        /// Only if this is the number of what it replaces.
        cas: Option<i64>,
        /// From an earlier reply of the same contact.
        token: Token,
    },
    /// Which swarms have you heard of? (BEP 51)
    SampleInfohashes {
        /// Where contacts are wanted beside.
        target: Id,
        /// Of which families.
        want: Want,
    },
}

/// An answer; which parts it has depends on what was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Who answers.
    pub id: Id,
    /// The address that the query came from, as the answerer sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    /// Contacts of the IPv4 DHT near the target.
    pub nodes: Vec<Contact>,
    /// Contacts of the IPv6 DHT near the target.
    pub nodes6: Vec<Contact>,
    /// To be given back with an announce or a put.
    pub token: Option<Token>,
    /// Peers.
    pub values: Vec<SocketAddr>,
    /// How many peers there are.
    pub scrape: Option<Box<Scrape>>,
    /// What is stored.
    pub item: Option<Box<ItemReply>>,
    /// Which swarms.
    pub samples: Option<Samples>,
}

impl Reply {
    /// An answer that says only who answers.
    #[must_use]
    pub fn new(id: Id) -> Self {
        Reply {
            id,
            ip: None,
            nodes: Vec::new(),
            nodes6: Vec::new(),
            token: None,
            values: Vec::new(),
            scrape: None,
            item: None,
            samples: None,
        }
    }
}

/// The peers of a swarm that one contact knows, to be counted (BEP 33).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// Those that are complete.
    pub seeds: BloomFilter,
    /// Those that are not.
    pub peers: BloomFilter,
}

/// An item as a reply has it: without the salt, which whoever asks knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemReply {
    /// The value; `None` where only the sequence number is told.
    pub value: Option<Vec<u8>>,
    /// Of a mutable item.
    pub key: Option<PublicKey>,
    /// Of a mutable item.
    pub seq: Option<i64>,
    /// Of a mutable item.
    pub signature: Option<[u8; 64]>,
}

/// Some of the swarms that a contact has peers of (BEP 51).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Their info hashes.
    pub info_hashes: Vec<InfoHash>,
    /// How many it has peers of.
    pub total: u32,
    /// How long it gives the same answer.
    pub interval_s: u32,
}
