//! What a driver says to the machine, and what it hears from it.

use crate::contact::Contact;
use crate::id::Id;
use crate::item::{Item, ItemName, PublicKey};
use crate::{lookup, table};
use core::net::SocketAddr;
use shoal_machine::Sighting;
use shoal_metainfo::InfoHash;

/// Names a search or something followed. Chosen by the driver, one for each that is running. More than [`MAX_SEARCHES`](crate::MAX_SEARCHES) end at
/// once, without having asked anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// What a person or the engine may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Take part over IPv4.
    pub v4: bool,
    /// Take part over IPv6.
    pub v6: bool,
    /// Ask and answer nothing (BEP 43): where nobody can reach us, or each byte costs.
    pub read_only: bool,
    /// Do not say which program we are.
    pub anonymous: bool,
    /// Paths of a search that share no informant, 1 to 8.
    pub paths: usize,
    /// One contact of a /24 or /48 in a bucket and in a search. Only global addresses count.
    pub one_per_network: bool,
    /// Rank contacts whose id follows from their address (BEP 42) beside all others.
    pub prefer_secure: bool,
    /// What our queries may take.
    pub query_rate_bytes_per_s: u64,
    /// What our answers may take: the most that somebody can have us send to a third party.
    pub answer_rate_bytes_per_s: u64,
}

impl Default for Settings {
    /// The rates are those of libtorrent, which are for both together there.
    fn default() -> Self {
        Settings {
            v4: true,
            v6: true,
            read_only: false,
            anonymous: false,
            paths: 8,
            one_per_network: true,
            prefer_secure: true,
            query_rate_bytes_per_s: 8_000,
            answer_rate_bytes_per_s: 8_000,
        }
    }
}

impl Settings {
    pub(crate) const fn table(&self) -> table::Rules {
        table::Rules {
            one_per_network: self.one_per_network,
            prefer_secure: self.prefer_secure,
        }
    }

    pub(crate) const fn lookup(&self) -> lookup::Rules {
        lookup::Rules {
            paths: self.paths,
            one_per_network: self.one_per_network,
            prefer_secure: self.prefer_secure,
        }
    }
}

/// What is worth keeping over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Our id in the IPv4 DHT.
    pub id_v4: Option<Id>,
    /// Our id in the IPv6 DHT.
    pub id_v6: Option<Id>,
    /// Contacts to begin with, for [`Input::Bootstrap`].
    pub contacts: Vec<SocketAddr>,
}

/// How a peer wants to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Where it listens.
    pub port: u16,
    /// It listens where the datagrams come from, which behind a NAT nobody else knows: `port` is for contacts that do not
    /// know `implied_port`.
    pub implied_port: bool,
    /// It is complete (BEP 33).
    pub seed: bool,
}

/// What can happen to the machine.
#[derive(Clone)]
pub enum Input {
    /// A datagram came that is not one of uTP: its first byte is `d`.
    Datagram {
        /// From there.
        from: SocketAddr,
        /// With this.
        bytes: Vec<u8>,
    },
    /// A deadline passed.
    Tick,
    /// Addresses to begin with: saved contacts, peers that said they take part (the `port` message), those of local service
    /// discovery, a torrent's `nodes`, routers. Names are resolved before.
    Bootstrap {
        /// Who.
        addresses: Vec<SocketAddr>,
        /// They are not to be kept as contacts, but to be asked again when all contacts are lost.
        are_routers: bool,
    },
    /// Look for peers of a swarm, and be known as one.
    FindPeers {
        /// To be named in what is found.
        handle: Handle,
        /// The swarm.
        info_hash: InfoHash,
        /// How to be known; `None` to only look.
        announce: Option<Announce>,
        /// Rather peers that are not complete (BEP 33).
        noseed: bool,
        /// Count them (BEP 33).
        scrape: bool,
    },
    /// Look for what is stored.
    GetItem {
        /// To be named in what is found.
        handle: Handle,
        /// What.
        name: ItemName,
    },
    /// Store something. One that does not verify ends at once, stored nowhere. It is forgotten after two hours, so that
    /// its owner stores it again each hour.
    PutItem {
        /// To be named at the end.
        handle: Handle,
        /// What.
        item: Item,
        /// Only where this is the number of what it replaces.
        cas: Option<i64>,
    },
    /// Tell what a mutable torrent (BEP 46) points to, and each time that changes, until cancelled.
    Follow {
        /// To be named each time.
        handle: Handle,
        /// Whose.
        key: PublicKey,
        /// Which of the owner's. With more than [`MAX_SALT_BYTES`](crate::item::MAX_SALT_BYTES) it ends at once, as where [`MAX_FOLLOWED`](crate::MAX_FOLLOWED) are followed.
        salt: Vec<u8>,
    },
    /// Ask contacts near a place which swarms they have heard of (BEP 51).
    Sample {
        /// To be named in what is found.
        handle: Handle,
        /// Where.
        target: Id,
    },
    /// End a search or stop following. Nothing more is said about it.
    Cancel(Handle),
    /// The end: what is worth keeping is given once more, nothing else.
    Stop,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Contacts that answered.
    pub answered: usize,
    /// Contacts that stored the announce or the item.
    pub stored: usize,
    /// About how many seeds and how many other peers there are, where that was asked (BEP 33).
    pub scrape: Option<(f64, f64)>,
}

/// What the machine wants done.
#[derive(Clone, PartialEq)]
pub enum Output {
    /// Send a datagram. It may be lost, or dropped where the socket is busy.
    Send {
        /// To whom; never an IPv4 address within IPv6.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Peers that were not named before in this search. Whether they may be dialled is for the address policy to say, with the DHT
    /// as origin.
    PeersFound {
        /// Of which search.
        handle: Handle,
        /// Some of them.
        peers: Vec<SocketAddr>,
    },
    /// What was looked for. A mutable item may be followed by a newer one.
    ItemFound {
        /// By which search.
        handle: Handle,
        /// What: it verifies, and its target is the one that was looked for.
        item: Item,
    },
    /// A mutable torrent points to this info hash.
    TorrentFound {
        /// Who follows it.
        handle: Handle,
        /// The torrent, by either version's info hash, cut to 20 bytes.
        info_hash: InfoHash,
        /// The number of the item that says so.
        seq: i64,
    },
    /// Swarms that a contact has heard of.
    Sampled {
        /// By which search.
        handle: Handle,
        /// The contact.
        from: Contact,
        /// Some of its swarms.
        info_hashes: Vec<InfoHash>,
        /// How many it says it has.
        total: u32,
    },
    /// A search is over.
    Ended {
        /// Which.
        handle: Handle,
        /// What came of it.
        outcome: Outcome,
    },
    /// A contact that was asked says where it sees us (BEP 42): a vote, for whoever elects our address.
    Seen(Sighting),
    /// To be kept over a restart.
    Save(Saved),
}

/// The kind only: datagrams, addresses and info hashes do not belong in logs.
impl core::fmt::Debug for Output {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Output::Send { .. } => "Send",
            Output::PeersFound { .. } => "PeersFound",
            Output::ItemFound { .. } => "ItemFound",
            Output::TorrentFound { .. } => "TorrentFound",
            Output::Sampled { .. } => "Sampled",
            Output::Ended { .. } => "Ended",
            Output::Seen(_) => "Seen",
            Output::Save(_) => "Save",
        })
    }
}

/// How things stand in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Our id.
    pub id: Id,
    /// Contacts that are there.
    pub contacts: usize,
    /// The nearest contacts are known: searches find what there is.
    pub has_joined: bool,
}
