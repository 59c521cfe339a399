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
//! A torrent that runs hears what a person wants of it ([`TorrentHandle`]), one task can follow all torrents
//! ([`EngineHandle::changes`]), and files are read while they arrive:
//!
//! ```
//! use shoal_engine::{AddMagnet, AddTorrent, Engine, EngineConfig};
//! # use shoal_metainfo::{Metainfo, bencode::Limits};
//! use shoal_metainfo::{FileIndex, Magnet};
//! use shoal_transport::TransportConfig;
//! # use std::{sync::Arc, time::Duration};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let torrent = b"d4:infod6:lengthi5e4:name5:hello12:piece lengthi16384e6:pieces20:\
//! #     \xaa\xf4\xc6\x1d\xdc\xc5\xe8\xa2\xda\xbe\xde\x0f\x3b\x48\x2c\xd9\xae\xa9\x43\x4dee";
//! # let loopback = || EngineConfig {
//! #     transport: TransportConfig {
//! #         listen: vec![([127, 0, 0, 1], 0).into()],
//! #         isolated: true,
//! #         ..TransportConfig::default()
//! #     },
//! #     ..EngineConfig::default()
//! # };
//! # let metainfo = Arc::new(Metainfo::parse(torrent, Limits::LOCAL)?);
//! # let source = tempfile::tempdir()?;
//! # std::fs::write(source.path().join("hello"), "hello")?;
//! # let seed = Engine::start(loopback()).await?;
//! # let mut add = AddTorrent::new(metainfo, source.path().into());
//! # add.seed_only = true;
//! # seed.add(add).await?;
//! # let target = tempfile::tempdir()?;
//! # let engine = Engine::start(loopback()).await?;
//! let magnet = Magnet::parse("magnet:?xt=urn:btih:bdb46b45d540f614aa67b474ea1e59a0857fb38f")?;
//! let mut search = engine
//!     .add_magnet(AddMagnet {
//!         magnet,
//!         peers: seed.listening().to_vec(),
//!         trackers: Vec::new(),
//!         known: None,
//!         route: None,
//!     })
//!     .await?;
//!
//! // What the link means comes from its peers ...
//! let found = search.found().await?;
//! let mut add = AddTorrent::new(found.metainfo, target.path().into());
//! add.search = Some(search);
//! let torrent = engine.add(add).await?;
//!
//! // ... and so does what is read, before everything else.
//! let mut reader = torrent.read(FileIndex(0), 1..4).await?;
//! let mut bytes = Vec::new();
//! while let Some(chunk) = reader.next().await? {
//!     bytes.extend_from_slice(&chunk);
//! }
//! assert_eq!(bytes, b"ell");
//! # engine.stop(Duration::from_secs(2)).await;
//! # seed.stop(Duration::from_secs(2)).await;
//! # Ok(()) })
//! # }
//! ```
//!
//! Invariant: one owner for each state. What goes up (connection to torrent to session) travels over bounded channels and may
//! wait; what goes down never waits.

mod admission;
mod adopt;
mod allowance;
mod carried;
mod changes;
mod clock;
mod command;
mod connect;
mod dht;
mod dials;
mod door;
mod engine;
mod handle;
mod hashes;
mod inbound;
mod inbox;
mod lines;
mod local;
mod magnet;
mod mailbox;
mod mse;
mod outbound;
mod peer;
mod ports;
mod priorities;
mod reader;
mod recheck;
mod register;
mod relocate;
mod route;
mod scrape;
mod session;
mod snapshot;
mod start;
mod torrent;
mod tracker;
mod web_seed;
mod whole;
mod wishes;
mod worker;

pub use admission::MAX_BANS;
pub use changes::{Change, Changes, MAX_BRIEF};
pub use command::CommandError;
pub use dht::{DhtConfig, DhtRouter};
pub use engine::{
    AddTorrent, Engine, EngineConfig, EngineError, EngineHandle, PeerSources, PeerTransports,
    PortMapping,
};
pub use handle::TorrentHandle;
pub use lines::{FileLine, PieceLine, PieceState};
pub use magnet::{AddMagnet, FoundTorrent, MagnetError, MagnetHandle, MagnetSnapshot};
pub use priorities::FilePriority;
pub use reader::{FileReader, MAX_READERS};
pub use route::{MAX_ROUTES, OWN_ROUTE, RouteConfig, RouteLine};
pub use scrape::{MAX_SCRAPED_TRACKERS, Scrapes};
pub use shoal_dht::Settings as DhtSettings;
pub use shoal_session::{SeedingPolicy, Settings as SessionSettings, Slots, TorrentKey};
pub use shoal_storage::{Fate, Location, Progress, Reason, Removed, StorageError};
pub use shoal_swarm::metadata::search::Standing as SearchStanding;
pub use shoal_swarm::torrent::PeerRules;
pub use shoal_swarm::web_session::content_range;
pub use shoal_tracker::{Error as TrackerError, ScrapeCounts, ScrapeReply};
pub use shoal_transport::{
    AddressFilter, LimitGroup, MAX_LIMIT_GROUPS, Mapped, MappingProtocol, RateLimits,
};
pub use shoal_wire::mse::EncryptionPolicy;
pub use snapshot::{
    PeerLine, PeerOrigin, Phase, SecretUrl, Snapshot, TrackerLine, TrackerState, WebSeedLine,
};
pub use tracker::AnnounceRules;
pub use web_seed::{Mirror, Version};
