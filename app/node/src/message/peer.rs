//! Peers of torrents, and addresses that nobody speaks to.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// What is asked of peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum PeerRequest {
    /// Those that are connected.
    List {
        /// Of which torrents.
        torrents: Vec<String>,
    },
    /// Some that may be worth a dial, as long as the node runs.
    Add {
        /// Of which torrents.
        torrents: Vec<String>,
        /// The peers.
        peers: Vec<SocketAddr>,
    },
    /// Addresses that nobody speaks to.
    Banned {},
    /// More of them; who is connected is sent away.
    Ban {
        /// Which.
        addresses: Vec<IpAddr>,
    },
    /// They are spoken to again.
    Unban {
        /// Which.
        addresses: Vec<IpAddr>,
    },
}

/// A connected peer of a torrent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The number of the torrent.
    pub torrent: i64,
    /// Where it is.
    pub address: SocketAddr,
    /// What it calls itself, which is a claim.
    pub client: Option<String>,
    /// Who told us of it: `user`, `magnet`, `tracker`, `peer_exchange`, `dht`, `local`, `incoming` or `resume`.
    pub origin: String,
    /// `tcp` or `utp`.
    pub transport: String,
    /// The connection is disguised.
    pub encrypted: bool,
    /// For so many seconds it has been connected.
    pub connected_s: u64,
    /// It has everything.
    pub seed: bool,
    /// How many pieces it has.
    pub pieces: u32,
    /// We want something that it has.
    pub we_are_interested: bool,
    /// It does not let us fetch.
    pub chokes_us: bool,
    /// It wants something that we have.
    pub interested: bool,
    /// We do not let it fetch.
    pub choked: bool,
    /// It lets our requests lie.
    pub snubs_us: bool,
    /// Payload from it, over this connection.
    pub downloaded_bytes: u64,
    /// Payload to it, over this connection.
    pub uploaded_bytes: u64,
    /// Payload from it.
    pub download_rate_bytes_per_s: u64,
    /// Payload to it.
    pub upload_rate_bytes_per_s: u64,
}
