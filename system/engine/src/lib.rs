//! The engine: torrents that run, over real sockets and real disks.
//!
//! Every decision is made by the machines of `protocol/`; what is here waits, hands one input to a machine, and does what it
//! says. An [`Engine`] owns event loops (one a core), one session, and any number of torrents.
//!
//! ```
//! use shoal_engine::{AddTorrent, Engine, EngineConfig};
//! use shoal_metainfo::{Metainfo, bencode::Limits};
//! use shoal_transport::TransportConfig;
//! use std::{sync::Arc, time::Duration};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! // One file, `hello`, of five bytes.
//! let torrent = b"d4:infod6:lengthi5e4:name5:hello12:piece lengthi16384e6:pieces20:\
//!     \xaa\xf4\xc6\x1d\xdc\xc5\xe8\xa2\xda\xbe\xde\x0f\x3b\x48\x2c\xd9\xae\xa9\x43\x4dee";
//! let metainfo = Arc::new(Metainfo::parse(torrent, Limits::LOCAL)?);
//! let loopback = || EngineConfig {
//!     transport: TransportConfig {
//!         listen: vec![([127, 0, 0, 1], 0).into()],
//!         isolated: true,
//!         ..TransportConfig::default()
//!     },
//!     ..EngineConfig::default()
//! };
//!
//! // One engine has it ...
//! let source = tempfile::tempdir()?;
//! std::fs::write(source.path().join("hello"), "hello")?;
//! let seed = Engine::start(loopback()).await?;
//! let mut add = AddTorrent::new(metainfo.clone(), source.path().into());
//! add.seed_only = true;
//! seed.add(add).await?;
//!
//! // ... and another one gets it.
//! let target = tempfile::tempdir()?;
//! let leech = Engine::start(loopback()).await?;
//! let mut add = AddTorrent::new(metainfo, target.path().into());
//! add.peers = seed.listening().to_vec();
//! let torrent = leech.add(add).await?;
//! torrent.watch().wait_for(|state| state.complete).await?;
//! assert_eq!(std::fs::read(target.path().join("hello"))?, b"hello");
//!
//! // What does not take its leave in time is cut off.
//! leech.stop(Duration::from_secs(2)).await;
//! seed.stop(Duration::from_secs(2)).await;
//! # Ok(()) })
//! # }
//! ```
//!
//! Invariant: one owner for each state. What goes up (connection to torrent to session) travels over bounded channels and may
//! wait; what goes down never waits.

mod allowance;
mod carried;
mod clock;
mod connect;
mod dht;
mod dials;
mod door;
mod engine;
mod hashes;
mod inbound;
mod inbox;
mod local;
mod magnet;
mod mailbox;
mod mse;
mod outbound;
mod peer;
mod ports;
mod recheck;
mod register;
mod relocate;
mod scrape;
mod session;
mod snapshot;
mod start;
mod torrent;
mod tracker;
mod web_seed;
mod whole;
mod worker;

pub use dht::{DhtConfig, DhtRouter};
pub use engine::{
    AddTorrent, Engine, EngineConfig, EngineError, EngineHandle, PeerTransports, PortMapping,
    TorrentHandle,
};
pub use magnet::{AddMagnet, FoundTorrent, MagnetError, MagnetHandle, MagnetSnapshot};
pub use scrape::{MAX_SCRAPED_TRACKERS, Scrapes};
pub use shoal_dht::Settings as DhtSettings;
pub use shoal_session::{SeedingPolicy, Settings as SessionSettings, Slots};
pub use shoal_storage::{Fate, Removed};
pub use shoal_swarm::metadata::search::Standing as SearchStanding;
pub use shoal_swarm::web_session::content_range;
pub use shoal_tracker::{Error as TrackerError, ScrapeCounts, ScrapeReply};
pub use shoal_transport::{Mapped, MappingProtocol};
pub use shoal_wire::mse::EncryptionPolicy;
pub use snapshot::{PeerLine, Phase, Snapshot, TrackerLine, WebSeedLine};
pub use web_seed::{Mirror, Version};
