//! The engine as a library: start one, add torrents, watch them, stop.

use crate::admission::{Admission, MAX_BANS};
use crate::changes::{Board, Changes};
use crate::clock::Clock;
use crate::connect::{Introduction, Ready};
use crate::dht::{Acquaintance, DhtConfig, DhtPeers};
use crate::handle::TorrentHandle;
use crate::inbox::Sender;
use crate::local::LocalPeers;
use crate::magnet::{self, AddMagnet, MagnetHandle, MagnetTask};
use crate::mailbox::Mailbox;
use crate::ports::OurPort;
use crate::priorities::FilePriority;
use crate::register::{Register, Registration};
use crate::route::{self, Ground, MAX_ROUTES, RouteConfig, RouteId, Routes};
use crate::session::{SessionTask, ToSession};
use crate::snapshot::{Shown, Snapshot};
use crate::start::{self, Entrance, Starting};
use crate::torrent::{Inbox, OnDisk, ToTorrent};
use crate::tracker::{AnnounceRules, Standing, Totals, TrackerClient, TrackerTask};
use crate::web_seed::Mirror;
use crate::wishes::Wishes;
use crate::worker::{Pool, Workers};
use shoal_metainfo::{FileIndex, InfoHashes, Metainfo};
use shoal_session::{Settings, TorrentKey};
use shoal_storage::{ContentSpec, Disk, Reason, Storage, StorageConfig, StorageError};
use shoal_swarm::torrent::PeerRules;
use shoal_transport::{
    AddressFilter, LimitGroup, Mapped, OriginClass, PeerDialer, RateLimits, Transport,
    TransportConfig, TransportError,
};
use shoal_wire::PeerId;
use shoal_wire::mse::EncryptionPolicy;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

/// Why the engine cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The network cannot be used as configured.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The content cannot be used as asked.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The system refuses a thread or an event loop.
    #[error("cannot start a worker thread: {0}")]
    Threads(#[source] io::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[source] io::Error),
    /// The torrent is here already, under one of its info hashes.
    #[error("the torrent is running already")]
    Duplicate,
    /// The priorities are not one for each file.
    #[error("the torrent has {files} files, and there are {given} priorities")]
    Priorities {
        /// Files of the torrent.
        files: usize,
        /// Priorities that were given.
        given: usize,
    },
    /// No more addresses can be banned one by one.
    #[error("{MAX_BANS} addresses are banned, which is the most; use a filter for ranges of them")]
    TooManyBans,
    /// The disk did not answer in time.
    #[error(
        "the disk takes too long: what is done is done, and what is left goes with a second attempt"
    )]
    SlowDisk,
    /// There is no such route, and no other one is taken instead.
    #[error("there is no route `{0}`: make it, or give the torrent another one")]
    NoRoute(String),
    /// The route is just being changed.
    #[error("the route `{0}` is being changed: try again in a moment")]
    RouteInChange(String),
    /// There are as many routes as there can be.
    #[error("there are {MAX_ROUTES} routes, which is the most: remove one")]
    TooManyRoutes,
    /// Whoever wanted it changed their mind before it had begun.
    #[error("it is not wanted any more")]
    Withdrawn,
    /// The search went by another route.
    #[error("the search for it went by another route: search anew")]
    OtherRoute,
    /// The engine was stopped meanwhile.
    #[error("the engine has stopped")]
    Stopped,
}

impl EngineError {
    /// Why the disk does not do what it was asked for, where that may change: then the same is worth trying again.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            EngineError::Storage(error) => error.reason(),
            EngineError::SlowDisk => Some(Reason::Unreachable),
            _ => None,
        }
    }
}

/// Over what peers are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerTransports {
    /// TCP, and uTP where TCP fails or does not answer soon.
    #[default]
    Both,
    /// TCP only.
    Tcp,
    /// uTP only.
    Utp,
}

/// Whether the router is asked to pass our port on to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortMapping {
    /// While there is a torrent, where somebody outside could use it.
    #[default]
    Asked,
    /// Nobody is asked.
    Never,
}

/// By what peers are found besides trackers and the DHT. Those of a private torrent come from its trackers alone, whatever is said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSources {
    /// Peers tell of each other (BEP 11).
    pub exchange: bool,
    /// They are looked for on the local network (BEP 14).
    pub local: bool,
}

impl Default for PeerSources {
    fn default() -> Self {
        PeerSources {
            exchange: true,
            local: true,
        }
    }
}

/// How an engine is set up.
#[derive(Default)]
pub struct EngineConfig {
    /// The network.
    pub transport: TransportConfig,
    /// The disk.
    pub storage: StorageConfig,
    /// The operations on files; `None` is the system's. Tests let others fail.
    pub disk: Option<Arc<dyn Disk>>,
    /// Over what peers are spoken to.
    pub peers_over: PeerTransports,
    /// Whether the router passes our port on to us.
    pub port_mapping: PortMapping,
    /// How to take part in the DHT, where that is wanted. Nobody is asked anything before a torrent is added that may be known there.
    pub dht: Option<DhtConfig>,
    /// Nobody is told which program we are: neither peers, nor servers, nor contacts of the DHT.
    pub anonymous: bool,
    /// By what else peers are found.
    pub sources: PeerSources,
    /// Whom torrents dial and let in.
    pub peer_rules: PeerRules,
    /// Which trackers are announced to, and as what.
    pub announces: AnnounceRules,
    /// Slots and connections.
    pub session: Settings,
    /// Event loops; 0 is one for each core.
    pub workers: usize,
    /// When connections are encrypted.
    pub encryption: EncryptionPolicy,
    /// Decides all dice but those of encrypted handshakes; `None` is a new number each time.
    pub seed: Option<u64>,
}

/// A torrent to run.
pub struct AddTorrent {
    /// What it is.
    pub metainfo: Arc<Metainfo>,
    /// The folder that its top-level name is in. Must exist.
    pub directory: PathBuf,
    /// Files that have other paths below it than the metainfo says.
    pub renamed: BTreeMap<FileIndex, PathBuf>,
    /// How much each file of the metainfo is wanted; `None` is all as usual. Where nothing is fetched, it means nothing.
    pub priorities: Option<Vec<FilePriority>>,
    /// Fetch pieces in order.
    pub sequential: bool,
    /// Fetch the first and last pieces of each wanted file first.
    pub first_last: bool,
    /// Only read and serve; fetch and write nothing.
    pub seed_only: bool,
    /// Where everything is there, show it piece by piece until others have it all between them (BEP 16).
    pub super_seed: bool,
    /// Take files of the right size for right, without reading them.
    pub trust: bool,
    /// End when it is known what is there, before anybody hears of the torrent. The last snapshot says what that is.
    pub until_checked: bool,
    /// Reserve the room when opening.
    pub preallocate: bool,
    /// Take files that are missing for gone and fetch them again, as a person wants it; otherwise it is refused to add the torrent.
    pub accept_missing: bool,
    /// Where completion is remembered; `None` is nowhere.
    pub journal: Option<PathBuf>,
    /// Peers that the user named.
    pub peers: Vec<SocketAddr>,
    /// Trackers that the user named, besides the torrent's own.
    pub trackers: Vec<Url>,
    /// Trackers in tiers (BEP 12), in place of the torrent's own and of `trackers`. Those that the torrent does not name are the user's word.
    pub tiers: Option<Vec<Vec<Url>>>,
    /// The search that found this metainfo and no other: the torrent goes on over its connections and with its trackers. What `trackers`
    /// names was told to the search.
    pub search: Option<MagnetHandle>,
    /// Web seeds that the user named (BEP 19), besides the torrent's own.
    pub web_seeds: Vec<Url>,
    /// Web seeds of the torrent, of either kind (BEP 19, BEP 17), that the user does without.
    pub without_web_seeds: Vec<Url>,
    /// Origins that have its files at URLs of their own, and on whose word.
    pub mirrors: Vec<(Mirror, OriginClass)>,
    /// Limits of this torrent.
    pub limits: RateLimits,
    /// Limits that it shares with others. All hold at once.
    pub limit_groups: Vec<LimitGroup>,
    /// The most connections, never more than the session allows a torrent, which is what `None` means.
    pub max_connections: Option<u32>,
    /// The most peers that are served at a time, in the same way.
    pub max_uploads: Option<u32>,
    /// The route that everything of it takes, and nothing another; `None` is the engine's own.
    pub route: Option<String>,
    /// Nothing of it leaves or runs where this was cancelled before its content was open: that takes as long as its disk does.
    pub withdrawn: CancellationToken,
}

impl AddTorrent {
    /// The whole torrent, into `directory`, as usual.
    #[must_use]
    pub fn new(metainfo: Arc<Metainfo>, directory: PathBuf) -> Self {
        AddTorrent {
            metainfo,
            directory,
            renamed: BTreeMap::new(),
            priorities: None,
            sequential: false,
            first_last: false,
            seed_only: false,
            super_seed: false,
            trust: false,
            until_checked: false,
            preallocate: false,
            accept_missing: false,
            journal: None,
            peers: Vec::new(),
            trackers: Vec::new(),
            tiers: None,
            search: None,
            web_seeds: Vec::new(),
            without_web_seeds: Vec::new(),
            mirrors: Vec::new(),
            limits: RateLimits::default(),
            limit_groups: Vec::new(),
            max_connections: None,
            max_uploads: None,
            route: None,
            withdrawn: CancellationToken::new(),
        }
    }

    /// Only these files, as usual: for each file of the metainfo, whether it is wanted.
    #[must_use]
    pub fn select(mut self, wanted: &[bool]) -> Self {
        let priority = |&wanted: &bool| match wanted {
            true => FilePriority::Normal,
            false => FilePriority::Skip,
        };
        self.priorities = Some(wanted.iter().map(priority).collect());
        self
    }
}

/// What all torrents of an engine use.
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Environment {
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    /// Which route all of this is of.
    pub(crate) route: RouteId,
    pub(crate) transport: Transport,
    pub(crate) dialer: PeerDialer,
    pub(crate) trackers: TrackerClient,
    pub(crate) storage: Storage,
    pub(crate) session: mpsc::Sender<ToSession>,
    /// Where others find us.
    pub(crate) port: OurPort,
    /// Who looks for peers on the local network, where somebody does.
    pub(crate) local: Option<LocalPeers>,
    /// The DHT, where we take part.
    pub(crate) dht: Option<DhtPeers>,
    /// Which addresses peers may have.
    pub(crate) admission: Admission,
    /// Who is here.
    pub(crate) register: Register,
    pub(crate) encryption: EncryptionPolicy,
    /// Nobody is told which program we are.
    pub(crate) anonymous: bool,
    /// Peers tell of each other.
    pub(crate) exchange: bool,
    /// Whom torrents dial and let in.
    pub(crate) peer_rules: PeerRules,
    /// Which trackers are announced to, and as what.
    pub(crate) announces: AnnounceRules,
    /// Nobody is spoken to but those whom a person or a torrent named.
    pub(crate) isolated: bool,
    /// What is waited for at the end.
    pub(crate) tasks: TaskTracker,
}

impl Environment {
    /// Runs the announces of a torrent, where it has trackers.
    pub(crate) fn run(&self, task: Option<Box<TrackerTask>>) {
        if let Some(task) = task {
            self.tasks.spawn_on(task.run(), self.pool.next());
        }
    }

    /// Whether peers of this torrent are told of each other (BEP 11). Those of a private one come from its trackers alone (BEP 27).
    pub(crate) fn exchanges_peers(&self, metainfo: &Metainfo) -> bool {
        self.exchange && !self.isolated && !metainfo.is_private()
    }

    /// The DHT, where this torrent may be known there. A private one is known to its trackers alone (BEP 27), and what no torrent describes
    /// to nobody.
    pub(crate) fn dht_for(&self, metainfo: &Metainfo) -> Option<&DhtPeers> {
        let dht = self.dht.as_ref();
        dht.filter(|_| !metainfo.is_private() && !metainfo.is_plain())
    }

    /// Who looks for peers of this torrent on the local network, by the same rules.
    pub(crate) fn local_for(&self, metainfo: &Metainfo) -> Option<&LocalPeers> {
        let local = self.local.as_ref();
        local.filter(|_| !metainfo.is_private() && !metainfo.is_plain())
    }

    /// Why nothing leaves at present, if that is so.
    pub(crate) fn no_route(&self) -> Option<String> {
        let why = self.transport.shut_because();
        why.map(|why| why.to_string())
    }

    /// What to say and to hear about the DHT on a connection, where both sides take part.
    pub(crate) fn acquaint(&self, us: Introduction, ready: &Ready) -> Option<Acquaintance> {
        let dht = self.dht.as_ref().filter(|_| us.dht && ready.dht)?;
        dht.acquaint(ready.address.ip())
    }
}

/// A running engine.
pub struct Engine {
    workers: Workers,
    listening: Vec<SocketAddr>,
    pub(crate) handle: EngineHandle,
}

/// Adds torrents to an engine that somebody else owns. Clones are of the same engine; once that has been stopped, nothing can be added.
#[derive(Clone)]
pub struct EngineHandle {
    /// Of the own route as it began: of it, only what all routes share is used here.
    pub(crate) environment: Arc<Environment>,
    register: Register,
    tasks: TaskTracker,
    pub(crate) routes: Routes,
    torrents: Arc<Torrents>,
    board: Board,
}

/// A torrent or search, and the route that it is on.
type Running = (RouteId, Sender<ToTorrent>);

/// All that were added.
struct Torrents {
    next_id: AtomicU64,
    seeds: Mutex<fastrand::Rng>,
    /// Whom to tell of the end; `None` once they have been told.
    running: Mutex<Option<Vec<Running>>>,
}

impl Engine {
    /// Starts listening. Nothing is sent before a torrent is added.
    ///
    /// # Errors
    /// Where the network or the disk cannot be used as configured.
    pub async fn start(config: EngineConfig) -> Result<Engine, EngineError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = Workers::start(if config.workers == 0 {
            cores
        } else {
            config.workers
        })?;
        let pool = workers.pool();
        let clock = Clock::start();
        let mut seeds = match config.seed {
            Some(seed) => fastrand::Rng::with_seed(seed),
            None => fastrand::Rng::new(),
        };
        let storage = match config.disk {
            Some(disk) => Storage::start_on(config.storage, disk),
            None => Storage::start(config.storage),
        }?;
        let admission = Admission::default();
        let (session_task, session) = SessionTask::new(clock, config.session, seeds.u64(..));
        pool.next().spawn(session_task.run());
        let ground = Ground {
            clock,
            pool,
            storage,
            session,
            admission,
            encryption: config.encryption,
            anonymous: config.anonymous,
            departure: config.transport.departure.clone(),
            peer_rules: config.peer_rules,
            announces: config.announces,
            sources: config.sources,
            register: Register::default(),
            tasks: TaskTracker::new(),
        };
        let own = RouteConfig {
            transport: config.transport,
            peers_over: config.peers_over,
            port_mapping: config.port_mapping,
            dht: config.dht,
        };
        let opened = route::open(&ground, RouteId::OWN, own, seeds.fork()).await?;
        let (environment, listening) = (Arc::clone(&opened.environment), opened.listening.clone());
        let torrents = Torrents {
            next_id: AtomicU64::new(1),
            seeds: Mutex::new(seeds),
            running: Mutex::new(Some(Vec::new())),
        };
        Ok(Engine {
            workers,
            listening,
            handle: EngineHandle {
                environment,
                register: ground.register.clone(),
                tasks: ground.tasks.clone(),
                routes: Routes::new(ground, opened),
                torrents: Arc::new(torrents),
                board: Board::default(),
            },
        })
    }

    /// For whoever adds torrents and does not own the engine.
    #[must_use]
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Where peers may connect, over the engine's own route as it began.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// What the router passes on to us, if it does: the port that others are told, and the address that it says is ours.
    #[must_use]
    pub fn mapped(&self) -> Option<Mapped> {
        self.handle.own_route().port.mapped()
    }

    /// The network of the engine's own route as it is now, for those who fetch something else through the same policy and binding.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.handle.own_route().transport.clone()
    }

    /// As [`EngineHandle::add`].
    ///
    /// # Errors
    /// The same.
    pub async fn add(&self, add: AddTorrent) -> Result<TorrentHandle, EngineError> {
        self.handle.add(add).await
    }

    /// As [`EngineHandle::add_magnet`].
    ///
    /// # Errors
    /// The same.
    pub async fn add_magnet(&self, add: AddMagnet) -> Result<MagnetHandle, EngineError> {
        self.handle.add_magnet(add).await
    }

    /// Stops every torrent: takes leave of trackers and peers, and writes down what is verified. Returns `within` the time,
    /// whatever peers, trackers and disks do. What has not ended by then is cut off, which costs nothing that was verified.
    pub async fn stop(self, within: Duration) {
        let until = Instant::now() + within;
        let EngineHandle {
            environment,
            tasks,
            torrents,
            board,
            routes,
            ..
        } = self.handle;
        board.close();
        let torrents = lock(&torrents.running).take().unwrap_or_default();
        let leave = async {
            let routes = routes.end();
            routes.iter().for_each(|route| route.port.leave());
            for (_, torrent) in torrents {
                drop(torrent.send(ToTorrent::Stop).await);
            }
            let dhts = routes.iter().filter_map(|route| route.dht.as_ref());
            dhts.for_each(DhtPeers::stop);
            tasks.close();
            tasks.wait().await;
        };
        // The last quarter is for ending the threads.
        if tokio::time::timeout(within * 3 / 4, leave).await.is_err() {
            tracing::warn!("not everything ended in time; it is cut off");
        }
        let (workers, storage) = (self.workers, environment.storage.clone());
        let (done, ended) = oneshot::channel::<()>();
        // On a thread of its own: a disk that does not answer keeps it, and must not keep the caller's runtime.
        let thread = thread::Builder::new().name("shoal-end".to_owned());
        let spawned = thread.spawn(move || {
            drop(workers);
            storage.shutdown();
            drop(done);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot wait for the threads to end");
        }
        // Ends by an error in any case, as nothing is sent.
        drop(tokio::time::timeout_at(until, ended).await);
    }
}

impl EngineHandle {
    /// How many tasks there are on the engine's event loops, for those who look for some that do not end.
    #[must_use]
    pub fn alive_tasks(&self) -> usize {
        self.environment.pool.alive_tasks()
    }

    /// Runs a torrent: checks what is on disk as far as it has to, then downloads what is missing and seeds.
    ///
    /// # Errors
    /// Before the first byte moves: where the target cannot be used, the priorities do not fit, or the torrent is here already.
    pub async fn add(&self, add: AddTorrent) -> Result<TorrentHandle, EngineError> {
        let mut added = self.add_all(vec![add]).await;
        added.pop().unwrap_or(Err(EngineError::Stopped))
    }

    /// As [`EngineHandle::add`], for many: their contents are opened one after the other, on one thread. Thousands on one disk begin sooner
    /// like that; where a disk does not answer, all of them wait. The answers are in the same order.
    pub async fn add_all(
        &self,
        torrents: Vec<AddTorrent>,
    ) -> Vec<Result<TorrentHandle, EngineError>> {
        let count = torrents.len();
        let entered = torrents.into_iter().map(|add| self.enter(add));
        let entered: Vec<Result<Entered, EngineError>> = entered.collect();
        let storage = self.environment.storage.clone();
        // The registration goes with the content, so that it lasts as long even where nobody waits for this any more.
        let opening = tokio::task::spawn_blocking(move || {
            let open = |entered: Result<Entered, EngineError>| {
                let entered = entered?;
                let on_disk = start::open(&storage, entered.spec.clone())?;
                Ok((entered, on_disk))
            };
            entered.into_iter().map(open).collect::<Vec<_>>()
        });
        let Ok(opened) = opening.await else {
            return (0..count).map(|_| Err(EngineError::Stopped)).collect();
        };
        let opened = opened.into_iter();
        let run = |opened: Result<(Entered, OnDisk), EngineError>| {
            let (entered, on_disk) = opened?;
            self.run(entered, on_disk)
        };
        opened.map(run).collect()
    }

    /// Gives a torrent its place.
    fn enter(&self, mut add: AddTorrent) -> Result<Entered, EngineError> {
        let environment = self.routes.of(add.route.as_deref())?;
        // What no torrent describes has no peers.
        if !add.metainfo.is_plain() {
            environment.port.map();
        }
        let wishes = Wishes::of(&add)?;
        let mut rng = lock(&self.torrents.seeds).fork();
        let hashes = add.metainfo.info_hashes();
        let dht = environment.dht_for(&add.metainfo).is_some();
        let (id, introduction, entrance) = match add.search.take() {
            // Its connections go another way.
            Some(search) if search.introduction.route != environment.route => {
                return Err(EngineError::OtherRoute);
            }
            Some(search) => {
                let introduction = Introduction {
                    hashes,
                    dht,
                    ..search.introduction
                };
                (search.id, introduction, Entrance::Search(search))
            }
            None => {
                let is_public = !add.metainfo.is_plain();
                let (id, introduction, registration) =
                    self.register(hashes, environment.route, dht, is_public, &mut rng)?;
                (id, introduction, Entrance::New(registration))
            }
        };
        Ok(Entered {
            environment,
            spec: start::content_spec(&add, &wishes.wanted()),
            add,
            wishes,
            rng,
            id,
            introduction,
            entrance,
        })
    }

    /// Runs a torrent whose content is open.
    fn run(&self, entered: Entered, on_disk: OnDisk) -> Result<TorrentHandle, EngineError> {
        let Entered {
            environment,
            add,
            wishes,
            rng,
            id,
            introduction,
            entrance,
            ..
        } = entered;
        if add.withdrawn.is_cancelled() {
            return Err(EngineError::Withdrawn);
        }
        let inbox = Inbox::new();
        let sender = inbox.sender();
        let (snapshot, watched) = watch::channel(Snapshot::default());
        let limiter = environment.transport.limiter().torrent(add.limits);
        limiter.set_groups(&add.limit_groups);
        let starting = Box::new(Starting {
            environment: Arc::clone(&environment),
            id,
            introduction,
            entrance,
            on_disk,
            inbox,
            limiter: limiter.clone(),
            wishes,
            shown: Shown::new(snapshot, self.board.post(id, watched.clone())),
        });
        self.tasks.spawn_on(
            starting.run(Box::new(add), rng),
            self.environment.pool.next(),
        );
        self.keep(environment.route, sender.clone())?;
        Ok(TorrentHandle {
            id,
            sender,
            watched,
            limiter,
        })
    }

    /// Looks for the torrent that a magnet link names, until the handle is dropped or given to [`Engine::add`].
    ///
    /// # Errors
    /// Where the torrent is here already, under one of the link's info hashes.
    pub async fn add_magnet(&self, add: AddMagnet) -> Result<MagnetHandle, EngineError> {
        let environment = self.routes.of(add.route.as_deref())?;
        let mut rng = lock(&self.torrents.seeds).fork();
        let known = add.known.as_ref().map(|known| &known.metainfo);
        let hashes = known.map(|metainfo| metainfo.info_hashes());
        let hashes = hashes.unwrap_or(add.magnet.info_hashes);
        let dht = match known {
            Some(metainfo) => environment.dht_for(metainfo),
            None => environment.dht.as_ref(),
        };
        let (id, introduction, registration) =
            self.register(hashes, environment.route, dht.is_some(), true, &mut rng)?;
        let inbox = Inbox::new();
        let sender = inbox.sender();
        let (task, trackers) = start::announce(
            &environment,
            introduction,
            start::Announces {
                tiers: &start::magnet_tiers(&add),
                named_by_user: add.trackers.clone(),
                totals: Totals::unknown(),
                standing: Standing::Leech,
            },
            sender.clone(),
            &mut rng,
        );
        environment.run(task);
        environment.port.map();
        let mailbox = Mailbox::new();
        // Where the session is gone the engine stops.
        let added = ToSession::Added(id, mailbox.clone());
        drop(environment.session.send(added).await);
        let limiter = environment.transport.limiter();
        let parts = magnet::Parts {
            id,
            introduction,
            register: self.register.clone(),
            registration,
            inbox,
            mailbox,
            trackers,
            limiter: limiter.torrent(RateLimits::default()),
            environment: Arc::clone(&environment),
        };
        let (task, handle) = MagnetTask::new(parts, add, rng.u64(..));
        self.tasks
            .spawn_on(task.run(), self.environment.pool.next());
        self.keep(environment.route, sender)?;
        Ok(handle)
    }

    /// All torrents, and what they are like. What has changed since, [`Changes`] tell, where they were begun before.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(TorrentKey, Snapshot)> {
        self.board.all()
    }

    /// Follows all torrents: those that there are, from the first look on, and those to come. One task is enough for thousands, and where
    /// nothing changes it is not woken.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.board.follow()
    }

    /// The limits of all torrents together from here on.
    pub fn set_limits(&self, limits: RateLimits) {
        self.environment.transport.limiter().set_limits(limits);
    }

    /// Slots and connections from here on. Connections beyond them end, the least useful first.
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn set_session(&self, settings: Settings) -> Result<(), EngineError> {
        self.tell_session(ToSession::Settings(Box::new(settings)))
            .await
    }

    /// Speaks to no peer at this address from here on, whatever torrent it is of. Who is connected is sent away.
    ///
    /// # Errors
    /// Where [`MAX_BANS`] are banned, or the engine has stopped.
    pub async fn ban(&self, address: IpAddr) -> Result<(), EngineError> {
        self.environment.admission.ban(address)?;
        self.tell_session(ToSession::Review).await
    }

    /// Lifts a ban of a person. Who sent wrong data stays away from the torrent in question.
    pub fn unban(&self, address: IpAddr) {
        self.environment.admission.unban(address);
    }

    /// All addresses that were banned by a person, in order.
    #[must_use]
    pub fn banned(&self) -> Vec<IpAddr> {
        self.environment.admission.banned()
    }

    /// Speaks to no peer at an address that the filter forbids, from here on; `None` forbids none. Who is connected and forbidden is sent
    /// away.
    ///
    /// # Errors
    /// Where the engine has stopped.
    pub async fn set_filter(&self, filter: Option<AddressFilter>) -> Result<(), EngineError> {
        self.environment.admission.set_filter(filter);
        self.tell_session(ToSession::Review).await
    }

    /// Whether the filter holds for trackers, too, from their next request on; where a proxy looks names up, it alone knows what their
    /// addresses are. At first it does not.
    pub fn filter_trackers(&self, holds: bool) {
        self.environment.admission.filter_trackers(holds);
    }

    pub(crate) async fn tell_session(&self, message: ToSession) -> Result<(), EngineError> {
        let sent = self.environment.session.send(message).await;
        sent.map_err(|_| EngineError::Stopped)
    }

    /// A place among the torrents. Two contents over the same files would be in each other's way: whoever comes second gets none.
    fn register(
        &self,
        hashes: InfoHashes,
        route: RouteId,
        dht: bool,
        is_public: bool,
        rng: &mut fastrand::Rng,
    ) -> Result<(TorrentKey, Introduction, Registration), EngineError> {
        let id = TorrentKey(self.torrents.next_id.fetch_add(1, Ordering::Relaxed));
        let introduction = Introduction {
            hashes,
            peer_id: match self.environment.anonymous {
                true => PeerId::anonymous(rng),
                false => PeerId::generate(rng),
            },
            route,
            dht,
            is_public,
        };
        let registration = self.register.enter(id, introduction);
        let registration = registration.ok_or(EngineError::Duplicate)?;
        Ok((id, introduction, registration))
    }

    /// Keeps a torrent that does not run from being added.
    pub(crate) fn reserve(&self, hashes: InfoHashes) -> Result<Registration, EngineError> {
        let mut rng = lock(&self.torrents.seeds).fork();
        let route = RouteId::OWN;
        let (_, _, registration) = self.register(hashes, route, false, false, &mut rng)?;
        Ok(registration)
    }

    /// Remembers whom to tell of the end.
    ///
    /// # Errors
    /// It has come already, and this torrent goes with the engine's threads; or that of its route, and it is told.
    fn keep(&self, route: RouteId, torrent: Sender<ToTorrent>) -> Result<(), EngineError> {
        let mut running = lock(&self.torrents.running);
        let running = running.as_mut().ok_or(EngineError::Stopped)?;
        if !self.routes.is_open(route) {
            // Nobody else has told it anything yet.
            drop(torrent.try_send(ToTorrent::Stop));
            return Err(EngineError::NoRoute(ENDED_ROUTE.to_owned()));
        }
        // Now and then, as there may be thousands.
        if running.len() == running.capacity() {
            running.retain(|(_, torrent)| !torrent.is_closed());
        }
        running.push((route, torrent));
        Ok(())
    }

    /// The torrents and searches on this route.
    pub(crate) fn on_route(&self, route: RouteId) -> Vec<Sender<ToTorrent>> {
        let running = lock(&self.torrents.running);
        let all = running.iter().flatten();
        let there = all.filter(|(other, _)| *other == route);
        there.map(|(_, torrent)| torrent.clone()).collect()
    }

    /// Dice for somebody new.
    pub(crate) fn dice(&self) -> fastrand::Rng {
        lock(&self.torrents.seeds).fork()
    }

    /// The own route as it is now; where it was removed, what is left of it, over which nothing leaves.
    fn own_route(&self) -> Arc<Environment> {
        let own = self.routes.of(None);
        own.unwrap_or_else(|_| Arc::clone(&self.environment))
    }
}

/// A torrent that has its place and is not opened yet.
struct Entered {
    environment: Arc<Environment>,
    add: AddTorrent,
    wishes: Wishes,
    rng: fastrand::Rng,
    id: TorrentKey,
    introduction: Introduction,
    entrance: Entrance,
    spec: ContentSpec,
}

/// What is said of a route that ended while somebody was to go by it.
const ENDED_ROUTE: &str = "the one that it was to take";

/// Held for a push, a swap or a number, never across an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For each file, whether it is wanted.
pub(crate) fn wanted_files(add: &AddTorrent) -> Result<Vec<bool>, EngineError> {
    Ok(Wishes::of(add)?.wanted())
}
