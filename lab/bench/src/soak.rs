//! A session of tiny torrents that come and go, for minutes or an hour: added, downloaded, paused, resumed, removed with their data, while
//! peers connect and vanish. After each lap everything is as it was before the first one, and so must be what the process holds.
//!
//! Two nodes run in this process: one that has everything and serves it, and one whose torrents churn.
//!
//! Invariant: what is compared was measured in the same state: every torrent is there and seeds, and nobody is connected.

use crate::load::{Swarm, Tally, start_peer};
use crate::usage::{Held, rss_bytes};
use anyhow::{Context, Result, bail, ensure};
use sha1::{Digest, Sha1};
use shoal_engine::{Engine, EngineConfig, EngineHandle};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{InfoHash, Metainfo};
use shoal_node::message::{Add, Fate, Reply, Request, State, Torrent};
use shoal_node::{Node, NodeSettings};
use shoal_store::Database;
use shoal_transport::TransportConfig;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const PIECES: usize = 4;
const PIECE_BYTES: usize = 16 * 1024;
const SHA1_BYTES: usize = 20;
/// Between two things that happen: twenty a second leave most of a core to others.
const BETWEEN: Duration = Duration::from_millis(50);
/// Things that happen while peers that come stay.
const TURN: u64 = 80;
/// A torrent that was woken goes to rest a minute after its last visitor, and a database is written to once a minute.
const REST: Duration = Duration::from_secs(75);
/// A lap takes about as long, most of it churn.
const LAP: Duration = Duration::from_secs(140);
/// Until what was interrupted is done.
const SETTLING: Duration = Duration::from_secs(5);
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LEAVE_WITHIN: Duration = Duration::from_secs(10);
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the process held at the end of a lap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lap {
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Open files and sockets.
    pub descriptors: f64,
    /// Tasks that have not ended, on all event loops.
    pub tasks: usize,
    /// What was done to torrents, since the start.
    pub operations: u64,
}

/// How long, and of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many torrents there are.
    pub torrents: usize,
    /// How often everything churns and comes to rest.
    pub laps: u32,
    /// How long it churns each time.
    pub churn: Duration,
}

impl Plan {
    /// As many laps as fit, two at the least: the first one is what the others are compared with.
    #[must_use]
    pub fn lasting(whole: Duration, torrents: usize) -> Plan {
        let laps = (whole.as_secs() / LAP.as_secs()).max(2);
        let laps = u32::try_from(laps).unwrap_or(u32::MAX);
        let churn = (whole / laps).saturating_sub(REST + SETTLING);
        Plan {
            torrents,
            laps,
            churn: churn.max(SETTLING),
        }
    }
}

/// Runs laps, and gives what was held after each. The first one warms up what is kept for later.
///
/// # Errors
/// A torrent does not get to where it should, or the system refuses something.
pub async fn run(folder: &Path, plan: Plan) -> Result<Vec<Lap>> {
    let Plan {
        torrents,
        laps,
        churn: each,
    } = plan;
    let library = Library::make(folder, torrents)?;
    let source = Party::start(folder, "source").await?;
    for tiny in library.torrents.values() {
        source.add(tiny, &library.folder, &[]).await?;
    }
    source.settled(torrents).await?;
    let churning = Party::start(folder, "churning").await?;
    let mut churn = Churn {
        rng: fastrand::Rng::with_seed(11),
        library: &library,
        source: source.address,
        party: &churning,
        operations: 0,
    };
    for tiny in library.torrents.values() {
        churn.add(tiny).await?;
    }
    let mut held = Vec::new();
    for _ in 0..laps {
        churn.lap(each).await?;
        churn.restore().await?;
        sleep(REST).await;
        let most = held.first().map(|lap: &Lap| lap.descriptors);
        let counted = at_rest(most).await?;
        let lap = Lap {
            rss_bytes: rss_bytes(std::process::id()).context("this process has no memory")?,
            descriptors: counted.descriptors,
            tasks: Handle::current().metrics().num_alive_tasks()
                + source.engine.alive_tasks()
                + churning.engine.alive_tasks(),
            operations: churn.operations,
        };
        held.push(lap);
    }
    for party in [churning, source] {
        party.node.stop(LEAVE_WITHIN).await;
    }
    Ok(held)
}

/// What is held when no more descriptors are than these. Whoever dials a torrent at rest keeps it awake for another minute; what is then
/// still open stays so.
async fn at_rest(most_descriptors: Option<f64>) -> Result<Held> {
    let start = Instant::now();
    loop {
        let held = Held::by(std::process::id())?;
        let is_more = most_descriptors.is_some_and(|most| held.descriptors > most);
        if !is_more || start.elapsed() > SETTLED_WITHIN {
            return Ok(held);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// One torrent, by its info hash.
struct Tiny {
    hash: InfoHash,
    file: Vec<u8>,
}

/// All torrents, and the folder that has their content.
struct Library {
    folder: PathBuf,
    torrents: BTreeMap<String, Tiny>,
}

impl Library {
    fn make(parent: &Path, count: usize) -> Result<Library> {
        let folder = parent.join("library");
        fs::create_dir(&folder)?;
        let mut rng = fastrand::Rng::with_seed(7);
        let mut torrents = BTreeMap::new();
        for number in 0..count {
            let mut bytes = vec![0; PIECES * PIECE_BYTES];
            rng.fill(&mut bytes);
            let name = format!("{number:04}.bin");
            fs::write(folder.join(&name), &bytes)?;
            let hashes = bytes.chunks(PIECE_BYTES).flat_map(Sha1::digest);
            let mut file = format!(
                "d4:infod6:lengthi{}e4:name{}:{name}12:piece lengthi{PIECE_BYTES}e6:pieces{}:",
                bytes.len(),
                name.len(),
                PIECES * SHA1_BYTES,
            )
            .into_bytes();
            file.extend(hashes);
            file.extend_from_slice(b"ee");
            let hash = Metainfo::parse(&file, Limits::LOCAL)?
                .info_hashes()
                .primary();
            torrents.insert(hash.to_string(), Tiny { hash, file });
        }
        Ok(Library { folder, torrents })
    }
}

/// A node in this process.
struct Party {
    node: Node,
    engine: EngineHandle,
    address: SocketAddr,
    folder: PathBuf,
}

impl Party {
    async fn start(parent: &Path, name: &str) -> Result<Party> {
        let (state, folder) = (
            parent.join(format!("{name}-state")),
            parent.join(format!("{name}-content")),
        );
        let journals = state.join("journals");
        fs::create_dir_all(&journals)?;
        fs::create_dir_all(&folder)?;
        let engine = Engine::start(EngineConfig {
            transport: TransportConfig {
                listen: vec![SocketAddr::new(HOME, 0)],
                isolated: true,
                ..TransportConfig::default()
            },
            workers: 1,
            ..EngineConfig::default()
        });
        let engine = engine.await?;
        let (handle, address) = (engine.handle(), engine.listening()[0]);
        let database = Database::open(&state.join("session.db")).await?;
        let overrides = [("queue.enabled", "off")];
        let settings = NodeSettings {
            journals,
            overrides: overrides
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..NodeSettings::default()
        };
        Ok(Party {
            node: Node::start(engine, database, settings).await?,
            engine: handle,
            address,
            folder: folder.canonicalize()?,
        })
    }

    async fn ask(&self, request: Request, file: Option<Vec<u8>>) -> Result<Vec<Torrent>> {
        match self.node.ask(request, file).await? {
            Reply::Torrents { torrents } => Ok(torrents),
            other => bail!("the node answers {other:?}"),
        }
    }

    async fn add(&self, tiny: &Tiny, folder: &Path, peers: &[SocketAddr]) -> Result<()> {
        let folder = folder.canonicalize()?;
        let add = Add {
            torrent_bytes: Some(tiny.file.len()),
            directory: folder.to_str().map(str::to_owned),
            peers: peers.to_vec(),
            ..Add::default()
        };
        self.ask(Request::Add(Box::new(add)), Some(tiny.file.clone()))
            .await?;
        Ok(())
    }

    async fn all(&self) -> Result<Vec<Torrent>> {
        let torrents = Vec::new();
        self.ask(Request::List { torrents }, None).await
    }

    /// Waits until so many torrents are there and seed, without peers.
    async fn settled(&self, count: usize) -> Result<()> {
        let start = Instant::now();
        loop {
            let all = self.all().await?;
            let done = |torrent: &&Torrent| torrent.state == State::Seeding && torrent.peers == 0;
            let settled = all.iter().filter(done).count();
            if settled == count && all.len() == count {
                return Ok(());
            }
            if start.elapsed() > SETTLED_WITHIN {
                let other = all.iter().find(|torrent| !done(torrent));
                bail!("{settled} of {count} torrents seed, and not {other:?}");
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// What happens to the torrents of one of the two.
struct Churn<'a> {
    rng: fastrand::Rng,
    library: &'a Library,
    source: SocketAddr,
    party: &'a Party,
    operations: u64,
}

impl Churn<'_> {
    async fn add(&mut self, tiny: &Tiny) -> Result<()> {
        self.operations += 1;
        let (party, peers) = (self.party, [self.source]);
        party.add(tiny, &party.folder, &peers).await
    }

    /// Things happen, one after the other.
    async fn lap(&mut self, during: Duration) -> Result<()> {
        let start = Instant::now();
        let mut known = self.names().await?;
        let names: Vec<&String> = self.library.torrents.keys().collect();
        while start.elapsed() < during {
            // Visitors of one turn vanish at the same moment.
            let (stay, fetching) = watch::channel(true);
            for number in 0..TURN {
                sleep(BETWEEN).await;
                let name = names[self.rng.usize(..names.len())];
                self.happen(name, &mut known, number, fetching.clone())
                    .await?;
            }
            drop(stay);
        }
        Ok(())
    }

    async fn happen(
        &mut self,
        name: &str,
        known: &mut Vec<String>,
        number: u64,
        fetching: watch::Receiver<bool>,
    ) -> Result<()> {
        let tiny = &self.library.torrents[name];
        let Some(at) = known.iter().position(|known| known == name) else {
            known.push(name.to_owned());
            return self.add(tiny).await;
        };
        let torrents = vec![name.to_owned()];
        self.operations += 1;
        let request = match self.rng.u8(..4) {
            0 => {
                known.swap_remove(at);
                let data = Some(Fate::Delete);
                Request::Remove { torrents, data }
            }
            1 => Request::Pause { torrents },
            2 => Request::Resume { torrents },
            _ => {
                let swarm = Swarm {
                    seed: self.party.address,
                    info_hash: tiny.hash,
                    piece_count: u32::try_from(PIECES)?,
                };
                // One that is paused, or not there any more, refuses.
                drop(start_peer(swarm, HOME, number, fetching, Arc::new(Tally::default())).await);
                return Ok(());
            }
        };
        self.party.ask(request, None).await?;
        Ok(())
    }

    async fn names(&self) -> Result<Vec<String>> {
        let all = self.party.all().await?;
        Ok(all.into_iter().map(|torrent| torrent.info_hash).collect())
    }

    /// Everything is as it was before.
    async fn restore(&mut self) -> Result<()> {
        let known = self.names().await?;
        if !known.is_empty() {
            let torrents = known.clone();
            self.party.ask(Request::Resume { torrents }, None).await?;
        }
        for (name, tiny) in &self.library.torrents {
            if !known.contains(name) {
                self.add(tiny).await?;
            }
        }
        self.party.settled(self.library.torrents.len()).await
    }
}

/// By how much RSS may differ from that after the first lap.
const FLAT_WITHIN: f64 = 0.05;

/// Whether nothing has grown from the first lap to the last.
///
/// # Errors
/// What has.
pub fn check(laps: &[Lap]) -> Result<()> {
    let (Some(first), Some(last)) = (laps.first(), laps.last()) else {
        bail!("there was no lap");
    };
    let growth = last.rss_bytes as f64 / first.rss_bytes as f64 - 1.0;
    ensure!(growth <= FLAT_WITHIN, "memory has grown: {laps:?}");
    ensure!(
        last.descriptors <= first.descriptors,
        "descriptors are left: {laps:?}"
    );
    ensure!(last.tasks <= first.tasks, "tasks are left: {laps:?}");
    Ok(())
}
