//! The engine: torrents that run, over real sockets and real disks.
//!
//! Every decision is made by the machines of `protocol/`; what is here waits, hands one input to a machine, and does what it
//! says. An [`Engine`] owns event loops (one a core), one session, and any number of torrents.
//!
//! Invariant: one owner for each state. What goes up (connection to torrent to session) travels over bounded channels and may
//! wait; what goes down never waits.

mod clock;
mod connect;
mod door;
mod engine;
mod hashes;
mod inbound;
mod mailbox;
mod outbound;
mod peer;
mod session;
mod snapshot;
mod torrent;
mod tracker;
mod worker;

pub use engine::{AddTorrent, Engine, EngineConfig, EngineError, TorrentHandle};
pub use shoal_session::{SeedingPolicy, Settings as SessionSettings, Slots};
pub use snapshot::{PeerLine, Phase, Snapshot, TrackerLine};
