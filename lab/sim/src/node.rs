//! One node as the world keeps it: its machines, its storage, its links.
//!
//! Invariant: a node that is not alive has no machines' events left that could touch its next life: `epoch` tells them apart.

use crate::disk::{Disk, DiskEvent};
use crate::libtorrent::Choker;
use crate::link::{Link, Pipe, Segment};
use crate::setup::{NodeConfig, NodeId};
use crate::world::Reading;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::{Block, PieceIndex};
use shoal_session::Session;
use shoal_session::filter::IpFilter;
use shoal_swarm::peer_session::PeerSession;
use shoal_swarm::torrent::{Origin, Torrent};
use shoal_swarm::web_session::WebSession;
use shoal_swarm::{FromPeer, PeerKey, ToPeer};
use std::collections::{BTreeMap, VecDeque};

/// One end of one connection; the other end has the number that differs in the last bit. The even one dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndId(pub(crate) u32);

impl EndId {
    pub(crate) const fn other(self) -> EndId {
        EndId(self.0 ^ 1)
    }

    pub(crate) const fn get(self) -> usize {
        self.0 as usize
    }
}

/// How far one end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits for the other side's handshake.
    Opening,
    /// Its session lives.
    Open,
    /// Its session has closed it.
    Closed,
    /// Its torrent knows that as well, or never knew of it.
    Gone,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: NodeId,
    pub(crate) remote: NodeId,
    pub(crate) key: PeerKey,
    pub(crate) origin: Origin,
    pub(crate) stage: Stage,
    pub(crate) session: Option<PeerSession>,
    /// In place of it: the other end is an HTTP origin.
    pub(crate) web: Option<WebSession>,
    /// To the other end.
    pub(crate) pipe: Pipe,
    /// It is dialled through a router, until then: its SYNs arrive when the other side has sent some as well.
    pub(crate) punch_until: Option<Moment>,
    /// The torrent refused it.
    pub(crate) refused: bool,
    /// A block for which storage had no room; nothing is read until it has.
    pub(crate) waiting: Option<(Block, u32)>,
    /// The other side sent half a block and nothing more.
    pub(crate) stalled: bool,
    /// Blocks that were read from the other end.
    pub(crate) blocks: u32,
    pub(crate) wake: Wake,
    pub(crate) to_torrent: Mail<FromPeer>,
    pub(crate) to_peer: Mail<ToPeer>,
}

impl End {
    /// When its session wants to be called.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let peer = self.session.as_ref().and_then(Machine::deadline);
        earliest(peer, self.web.as_ref().and_then(Machine::deadline))
    }
}

/// When a machine will be called, earliest first. Deadlines move to and fro many times a second; two calls that are on
/// their way save most of the new ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wake {
    first: Option<Moment>,
    then: Option<Moment>,
}

impl Wake {
    /// The machine wants to be called at `at`: true where a new call is needed for that.
    pub(crate) fn wants(&mut self, at: Moment) -> bool {
        if self.first.is_some_and(|first| first <= at) {
            return false;
        }
        self.then = self.first;
        self.first = Some(at);
        true
    }

    /// A call came: false where it was overtaken by others, so that it means nothing.
    pub(crate) fn came(&mut self, now: Moment) -> bool {
        let meant = self.first.is_some_and(|first| first <= now);
        if meant {
            self.first = self.then.take();
        }
        meant
    }
}

/// Messages of one pair on their way, in order.
#[derive(Debug)]
pub(crate) struct Mail<T> {
    pub(crate) waiting: VecDeque<T>,
    /// When the last of them is due.
    pub(crate) due: Moment,
}

impl<T> Mail<T> {
    pub(crate) const fn new() -> Self {
        Mail {
            waiting: VecDeque::new(),
            due: Moment::ZERO,
        }
    }
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) alive: bool,
    /// The run goes on until it has what it wants.
    pub(crate) awaited: bool,
    /// It has said that it goes, and does in a moment.
    pub(crate) leaves: bool,
    /// The session of several torrents that it is one of.
    pub(crate) host: Option<u32>,
    /// What is on its disk is not known.
    pub(crate) unread: bool,
    pub(crate) reading: Option<Reading>,
    pub(crate) readings: u32,
    pub(crate) filter: IpFilter,
    pub(crate) epoch: u32,
    pub(crate) part: u8,
    /// Its interface is gone.
    pub(crate) adrift: bool,
    /// Dials that it began meanwhile.
    pub(crate) dials_adrift: u32,
    pub(crate) torrent: Torrent,
    pub(crate) session: Session,
    /// Decides in place of the session, where the setup says so.
    pub(crate) libtorrent: Choker,
    pub(crate) disk: Disk,
    pub(crate) ends: BTreeMap<PeerKey, EndId>,
    pub(crate) dialling: BTreeMap<PeerKey, EndId>,
    pub(crate) up: Link,
    pub(crate) down: Link,
    /// The pipes that have something to send, in turn.
    pub(crate) round: VecDeque<EndId>,
    /// What leaves the uplink at the moment.
    pub(crate) leaving: Vec<(EndId, Segment)>,
    pub(crate) torrent_wake: Wake,
    pub(crate) session_wake: Wake,
    pub(crate) report_wake: Option<Moment>,
    /// Ends that wait for room in the cache.
    pub(crate) disk_queue: VecDeque<EndId>,
    pub(crate) from_disk: Mail<DiskEvent>,
    pub(crate) to_session: Mail<shoal_session::Input>,
    pub(crate) from_session: Mail<shoal_session::Output>,
    pub(crate) last_announce: Option<Moment>,
    pub(crate) announce_due: bool,
    pub(crate) flap_open: bool,
    pub(crate) lies: u32,
    /// When each piece was verified, in that order.
    pub(crate) verified: Vec<(PieceIndex, Moment)>,
    pub(crate) completed: Option<Moment>,
    pub(crate) last_progress: Moment,
    pub(crate) sent_bytes: u64,
    /// `sent_bytes` and `received_bytes` as of each sample.
    pub(crate) samples: Vec<(u64, u64)>,
    pub(crate) received_bytes: u64,
    pub(crate) duplicate_blocks: u64,
    pub(crate) discarded_blocks: u64,
    /// It became a super-seed when it had given enough.
    pub(crate) super_seeded: bool,
    pub(crate) bans: Vec<IpAddr>,
    pub(crate) suspensions: u32,
    /// Requests that could not be served because the volume was gone.
    pub(crate) unreadable: u32,
    pub(crate) lost_connections: u32,
}

/// Where nodes listen.
pub(crate) const PORT: u16 = 6_881;

/// The first node's address: globally routable, as far as anybody in the swarm can tell.
const FIRST_ADDRESS: u32 = 0x2d00_0001;

pub(crate) fn address_of(node: NodeId) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(FIRST_ADDRESS + node.0)), PORT)
}

pub(crate) fn node_at(address: IpAddr) -> Option<NodeId> {
    match address {
        IpAddr::V4(address) => u32::from(address).checked_sub(FIRST_ADDRESS).map(NodeId),
        IpAddr::V6(_) => None,
    }
}

/// The peer id of a node in one of its lives.
pub(crate) fn peer_id_of(node: NodeId, epoch: u32) -> [u8; 20] {
    let mut id = *b"-SH0100-____________";
    id[8..12].copy_from_slice(&node.0.to_be_bytes());
    id[12..16].copy_from_slice(&epoch.to_be_bytes());
    id
}
