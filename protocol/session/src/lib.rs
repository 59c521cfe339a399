//! What spans torrents: who is unchoked, how many connections there are, how fast bytes may move, which torrents run, what was
//! said of them and when it holds, with whom we have nothing to do.
//!
//! Invariant: at most the configured number of slots, connections and half-open connections are in use at any moment, and
//! what is granted is granted to somebody who asked.

mod caps;
pub mod choker;
pub mod filter;
pub mod queue;
pub mod rules;
pub mod schedule;
pub mod session;
pub mod watch;

use shoal_swarm::PeerKey;

pub use choker::{Candidate, SeedingPolicy, Slots};
pub use session::{Input, Output, Session, Settings};
pub use shoal_machine::TokenBucket;

/// One torrent of the session. Never used twice within the session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TorrentKey(pub u64);

/// One connection, over all torrents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    /// Its torrent.
    pub torrent: TorrentKey,
    /// The connection within it.
    pub peer: PeerKey,
}
