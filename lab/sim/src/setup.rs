//! What a simulated swarm is made of.
//!
//! Invariant: everything here is a plain value; two runs of the same setup are the same run.

use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, PieceIndex};
use shoal_session::Settings;
use shoal_session::queue::{self, Wish};
use shoal_swarm::message::DeadlineLease;
use shoal_swarm::torrent::Priority;

/// One node of the swarm, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    pub(crate) const fn get(self) -> usize {
        self.0 as usize
    }
}

/// What a node has when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    #[default]
    Empty,
    /// Everything.
    Full,
    /// These pieces.
    Some(Bitfield),
}

/// How a node behaves towards others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// As our engine does.
    #[default]
    Honest,
    /// So many of a thousand blocks that it sends are wrong.
    Liar {
        /// Of a thousand.
        permille: u32,
    },
    /// Never unchokes anybody.
    FreeRider,
    /// Is no peer but an HTTP origin, which every node asks: it speaks to nobody and serves ranges.
    Origin {
        /// So many of a thousand blocks that it sends are wrong.
        permille: u32,
    },
    /// Unchokes, and rejects every request.
    Rejecter,
    /// Unchokes and chokes everybody in turn.
    Flapper {
        /// How long either lasts.
        period: Duration,
    },
    /// Sends so many blocks over a connection, then half a block, and nothing ever after.
    StopsMidBlock {
        /// Blocks.
        after: u32,
    },
}

/// Who decides whom an honest node unchokes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choking {
    /// Our session.
    #[default]
    Ours,
    /// The rules of [`crate::libtorrent`].
    Libtorrent,
}

/// The storage of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// How fast it writes; as fast as anybody asks where `None`.
    pub write_bytes_per_s: Option<u64>,
    /// What each operation takes besides.
    pub latency: Duration,
    /// The most received bytes that are in memory.
    pub cache_bytes: u64,
    /// The operation that fails, counted from 1.
    pub fail_operation: Option<u64>,
    /// When nothing can be written.
    pub outages: Vec<Outage>,
}

/// A time in which a disk does not do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Its beginning.
    pub from: Moment,
    /// Its end.
    pub until: Moment,
    /// What it is.
    pub kind: OutageKind,
}

/// Why a disk does not do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// There is no room, or files move: what is there can be read.
    Full,
    /// The volume is gone: nothing can be read either.
    Missing,
}

impl Default for DiskConfig {
    fn default() -> Self {
        DiskConfig {
            write_bytes_per_s: None,
            latency: Duration::from_millis(2),
            cache_bytes: 64 * 1024 * 1024,
            fail_operation: None,
            outages: Vec::new(),
        }
    }
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// What it has at its start.
    pub start: Start,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// Who decides whom it unchokes.
    pub choking: Choking,
    /// Its swarm: nodes of different ones never hear of each other, as those of different torrents.
    pub swarm: u8,
    /// What is on its disk is not known, and is read first. Of a torrent of a session only.
    pub unread: bool,
    /// Pieces on its disk that are not what they should be.
    pub rotten: Vec<PieceIndex>,
    /// When it arrives.
    pub arrives: Moment,
    /// When it departs, without a word.
    pub departs: Option<Moment>,
    /// Bytes a second that it can send.
    pub up_bytes_per_s: u64,
    /// Bytes a second that it can receive.
    pub down_bytes_per_s: u64,
    /// How far it is from the middle of the network, one way.
    pub latency: Duration,
    /// Nobody can connect to it.
    pub nat: bool,
    /// It knows these nodes only, and asks no tracker.
    pub isolated: Option<Vec<NodeId>>,
    /// How much it wants each piece; those beyond the end are wanted as usual.
    pub priorities: Vec<Priority>,
    /// Whether it shows what it has piece by piece, if it has everything at its start.
    pub super_seed: bool,
    /// Whether it picks pieces in order.
    pub sequential: bool,
    /// Its storage.
    pub disk: DiskConfig,
    /// Limits and slots.
    pub settings: Settings,
}

/// Bytes a second of a link of so many Mbit/s.
#[must_use]
pub const fn mbit(rate: u64) -> u64 {
    rate * 1_000_000 / 8
}

impl Default for NodeConfig {
    /// An honest peer with nothing, on 10 Mbit/s up and 50 Mbit/s down.
    fn default() -> Self {
        NodeConfig {
            start: Start::Empty,
            behaviour: Behaviour::Honest,
            choking: Choking::Ours,
            swarm: 0,
            unread: false,
            rotten: Vec::new(),
            arrives: Moment::ZERO,
            departs: None,
            up_bytes_per_s: mbit(10),
            down_bytes_per_s: mbit(50),
            latency: Duration::from_millis(15),
            nat: false,
            isolated: None,
            priorities: Vec::new(),
            super_seed: false,
            sequential: false,
            disk: DiskConfig::default(),
            settings: Settings {
                max_connections_per_torrent: 50,
                ..Settings::default()
            },
        }
    }
}

impl NodeConfig {
    /// An HTTP origin with so many bytes a second up.
    #[must_use]
    pub fn origin(up_bytes_per_s: u64) -> Self {
        NodeConfig {
            start: Start::Full,
            behaviour: Behaviour::Origin { permille: 0 },
            up_bytes_per_s,
            ..NodeConfig::default()
        }
    }

    /// A seed with 20 Mbit/s up.
    #[must_use]
    pub fn seed() -> Self {
        NodeConfig {
            start: Start::Full,
            up_bytes_per_s: mbit(20),
            ..NodeConfig::default()
        }
    }
}

/// How a wrong piece is found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// By the hash of the piece (v1): which block is wrong is not known.
    #[default]
    Pieces,
    /// By the hashes of its blocks (v2).
    Blocks,
}

/// How messages between the machines of one node travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// At once, in the order in which they were said.
    #[default]
    Immediate,
    /// Late and in any order that keeps the order of each pair, in batches.
    Permuted {
        /// The longest delay.
        longest: Duration,
    },
}

/// Something done to the swarm from outside.
#[derive(Clone, Debug)]
pub enum Action {
    /// The process of a node ends without a word, its disk stays.
    Crash(NodeId),
    /// It begins again, with what its journal recorded.
    Restart(NodeId),
    /// It takes leave: closes its connections and is gone a moment later.
    Stop(NodeId),
    /// Nodes of different parts cannot reach each other; at the start all are in part 0.
    Part(NodeId, u8),
    /// The interface of a node goes, and with it all its connections. The others hear nothing of that.
    InterfaceGoes(NodeId),
    /// It is back. Who still sends to a connection from before learns that it is over.
    InterfaceReturns(NodeId),
    /// All connections of a node break.
    DropConnections(NodeId),
    /// How much a node wants each piece.
    Priorities(NodeId, Vec<Priority>),
    /// A reader claims a range.
    Deadline(NodeId, DeadlineLease),
    /// Its claim ends.
    DeadlineEnded(NodeId, u64),
    /// A node's copy of a piece rots: it has it no longer.
    Lose(NodeId, PieceIndex),
    /// So do all that it has verified since then: what was not synced when a drive went.
    LoseSince(NodeId, Moment),
    /// A node's copies of pieces rot, and nobody notices.
    Rot(NodeId, Vec<PieceIndex>),
    /// Somebody who doubts a node's copy has it read again.
    Recheck(NodeId),
    /// A node has nothing to do with these from here on, and with everybody else.
    Shun(NodeId, Vec<NodeId>),
    /// What a person wants of a torrent of a session.
    Wish(NodeId, Wish),
}

/// A session of several torrents, which run as its queue says. Each of them is a node, which has links of its own.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Its torrents, each of which is added when its node arrives.
    pub torrents: Vec<NodeId>,
    /// How many run, and when they have given enough.
    pub queue: queue::Settings,
    /// The longest that any of them is to wait for its turn.
    pub patience: Duration,
}

/// A swarm.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Bytes of the content.
    pub total_bytes: u64,
    /// Bytes of a piece, at most 64 blocks.
    pub piece_length: u32,
    /// Who takes part.
    pub nodes: Vec<NodeConfig>,
    /// Which of them are torrents of one session.
    pub hosts: Vec<HostConfig>,
    /// How wrong pieces are found out.
    pub proof: Proof,
    /// How messages within a node travel.
    pub delivery: Delivery,
    /// How long an uplink serves one stream before the next has its turn, where that is more than a block. Nobody notices who
    /// is first within a hundredth of a second, and a burst costs a run as much as a block.
    pub burst: Duration,
    /// Of a thousand segments on the way, so many are lost and sent again.
    pub loss_permille: u32,
    /// The connection over which the N-th message of the run travels breaks after it, counted from 1.
    pub drop_after_message: Option<u64>,
    /// What is done from outside, and when.
    pub actions: Vec<(Moment, Action)>,
    /// How many addresses the tracker gives.
    pub tracker_peers: usize,
    /// The tracker names node 0 alone, and nodes tell each other of their peers (BEP 11).
    pub word_of_mouth: bool,
    /// When a run ends at the latest: whoever is expected to finish must have by then.
    pub bound: Moment,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            seed: 1,
            total_bytes: 4 * 1024 * 1024,
            piece_length: 256 * 1024,
            nodes: Vec::new(),
            hosts: Vec::new(),
            proof: Proof::Pieces,
            delivery: Delivery::Immediate,
            burst: Duration::from_millis(10),
            loss_permille: 0,
            drop_after_message: None,
            actions: Vec::new(),
            tracker_peers: 50,
            word_of_mouth: false,
            bound: Moment::from_secs(3_600),
        }
    }
}
