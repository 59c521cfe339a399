//! Requests and replies as values, the same for HTTP and UDP.
//!
//! Invariant: a reply holds at most [`MAX_PEERS`] peers, none of which has port 0.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use shoal_metainfo::InfoHash;

/// Five times what we ask for: trackers may ignore `numwant`, but a reply that names more is not meant to help.
pub const MAX_PEERS: usize = 1000;

/// How many info hashes fit into one scrape over UDP (BEP 15), which a URL over HTTP bears as well.
pub const MAX_SCRAPE_HASHES: usize = 74;

/// A tracker id is sent back in a URL with every announce; a longer one would not fit into what servers accept.
pub const MAX_TRACKER_ID_BYTES: usize = 512;

/// What a tracker means that names no interval; the customary one.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(30 * 60);

/// Why an announce is made, where it is not just time for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// The first announce.
    Started,
    /// The download became complete. Never for a torrent that was complete at the start.
    Completed,
    /// The last announce.
    Stopped,
    /// We are a partial seed (BEP 21): incomplete, with all that is wanted. UDP has no word for it and sends none.
    Paused,
}

/// What we tell a tracker.
#[derive(Clone)]
pub struct AnnounceRequest {
    /// The swarm.
    pub info_hash: InfoHash,
    /// Who we are in this swarm.
    pub peer_id: [u8; 20],
    /// Where we listen.
    pub port: u16,
    /// Bytes of payload sent since `Started`.
    pub uploaded: u64,
    /// Bytes of payload received since `Started`.
    pub downloaded: u64,
    /// Bytes that are missing until the torrent is complete.
    pub left: u64,
    /// Why, if not for time.
    pub event: Option<Event>,
    /// How many peers we would like.
    pub num_want: u32,
    /// A random number that lets the tracker know us again when our address changes; not told to peers.
    pub key: u32,
    /// An address of ours other than the one the tracker sees (BEP 7).
    pub ipv4: Option<Ipv4Addr>,
    /// An address of ours other than the one the tracker sees (BEP 7); not sent over UDP.
    pub ipv6: Option<Ipv6Addr>,
    /// What the tracker's last reply wanted us to repeat; not sent over UDP.
    pub tracker_id: Option<Vec<u8>>,
}

/// What a tracker tells us. Its `Debug` counts peers and shows no address.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AnnounceReply {
    /// How long to wait until the next announce, as the tracker said it; the schedule bounds it.
    pub interval: Duration,
    /// How long to wait at least, if it said so.
    pub min_interval: Option<Duration>,
    /// To be repeated in the next announce, at most [`MAX_TRACKER_ID_BYTES`].
    pub tracker_id: Option<Vec<u8>>,
    /// Peers that are complete (`complete`).
    pub seeds: Option<u32>,
    /// Peers that are not (`incomplete`).
    pub leeches: Option<u32>,
    /// Completed downloads ever (`downloaded`).
    pub downloads: Option<u32>,
    /// Peers of the swarm, at most [`MAX_PEERS`].
    pub peers: Vec<SocketAddr>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// What the tracker wants people to know, cleaned.
    pub warning: Option<String>,
}

impl fmt::Debug for AnnounceReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnounceReply")
            .field("interval", &self.interval)
            .field("min_interval", &self.min_interval)
            .field("seeds", &self.seeds)
            .field("leeches", &self.leeches)
            .field("downloads", &self.downloads)
            .field("peers", &self.peers.len())
            .field("warning", &self.warning)
            .finish_non_exhaustive()
    }
}

/// The figures of one swarm (BEP 15, 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeCounts {
    /// Peers that are complete.
    pub seeds: Option<u32>,
    /// Peers that are not.
    pub leeches: Option<u32>,
    /// Completed downloads ever.
    pub downloads: Option<u32>,
    /// Of the leeches, those that still download (BEP 21); over HTTP only.
    pub downloaders: Option<u32>,
}

/// What a tracker answers to a scrape: the swarms it knows of those asked for, in the order asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeReply {
    /// Swarm and figures.
    pub swarms: Vec<(InfoHash, ScrapeCounts)>,
    /// How long to wait at least until the next scrape, if it said so; over HTTP only.
    pub min_interval: Option<Duration>,
}

/// Bytes of a compact IPv4 peer (BEP 23).
pub(crate) const COMPACT_V4_BYTES: usize = 6;
/// Bytes of a compact IPv6 peer (BEP 7).
pub(crate) const COMPACT_V6_BYTES: usize = 18;

/// Adds compact peers (BEP 23) to `peers` until there are [`MAX_PEERS`]. Peers with port 0 and a last part that is too short
/// are left out.
pub(crate) fn take_compact_v4(bytes: &[u8], peers: &mut Vec<SocketAddr>) {
    let decoded = bytes.chunks_exact(COMPACT_V4_BYTES).filter_map(|peer| {
        let (ip, port) = peer.split_first_chunk::<4>()?;
        peer_at(IpAddr::from(*ip), port)
    });
    add(decoded, peers);
}

/// As [`take_compact_v4`], of IPv6 (BEP 7).
pub(crate) fn take_compact_v6(bytes: &[u8], peers: &mut Vec<SocketAddr>) {
    let decoded = bytes.chunks_exact(COMPACT_V6_BYTES).filter_map(|peer| {
        let (ip, port) = peer.split_first_chunk::<16>()?;
        peer_at(IpAddr::from(*ip), port)
    });
    add(decoded, peers);
}

/// Adds peers until there are [`MAX_PEERS`].
pub(crate) fn add(decoded: impl Iterator<Item = SocketAddr>, peers: &mut Vec<SocketAddr>) {
    let room = MAX_PEERS.saturating_sub(peers.len());
    peers.extend(decoded.take(room));
}

fn peer_at(ip: IpAddr, port: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(port.try_into().ok()?);
    (port != 0).then_some(SocketAddr::new(ip.to_canonical(), port))
}
