//! The engine as a library: start one, add torrents, watch them, stop.

use crate::admission::{AddressFilter, Admission, MAX_BANS};
use crate::changes::{Board, Changes};
use crate::clock::Clock;
use crate::connect::{Introduction, Ready};
use crate::dht::{self, Acquaintance, DhtConfig, DhtPeers, DhtTask};
use crate::door;
use crate::handle::TorrentHandle;
use crate::inbox::Sender;
use crate::local::LocalPeers;
use crate::magnet::{self, AddMagnet, MagnetHandle, MagnetTask};
use crate::mailbox::Mailbox;
use crate::ports::OurPort;
use crate::priorities::FilePriority;
use crate::register::{Register, Registration};
use crate::session::{SessionTask, ToSession};
use crate::snapshot::{Shown, Snapshot};
use crate::start::{self, Entrance, Starting};
use crate::torrent::{Inbox, OnDisk, ToTorrent};
use crate::tracker::{Standing, Totals, TrackerClient, TrackerTask};
use crate::web_seed::Mirror;
use crate::wishes::Wishes;
use crate::worker::{Pool, Workers};
use shoal_metainfo::{FileIndex, InfoHashes, Metainfo};
use shoal_session::{Settings, TorrentKey};
use shoal_storage::{ContentSpec, Disk, Reason, Storage, StorageConfig, StorageError};
use shoal_transport::{
    LimitGroup, Listener, Mapped, OriginClass, OtherDatagrams, PeerDialer, RateLimits, Transport,
    TransportConfig, TransportError, UtpEndpoint, WantedPort,
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
            preallocate: false,
            accept_missing: false,
            journal: None,
            peers: Vec::new(),
            trackers: Vec::new(),
            tiers: None,
            search: None,
            web_seeds: Vec::new(),
            mirrors: Vec::new(),
            limits: RateLimits::default(),
            limit_groups: Vec::new(),
            max_connections: None,
            max_uploads: None,
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
pub(crate) struct Environment {
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
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
    pub(crate) encryption: EncryptionPolicy,
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
        !self.isolated && !metainfo.is_private()
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
    pub(crate) environment: Arc<Environment>,
    register: Register,
    tasks: TaskTracker,
    torrents: Arc<Torrents>,
    board: Board,
}

/// All that were added.
struct Torrents {
    next_id: AtomicU64,
    seeds: Mutex<fastrand::Rng>,
    /// Whom to tell of the end; `None` once they have been told.
    running: Mutex<Option<Vec<Sender<ToTorrent>>>>,
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
        let isolated = config.transport.isolated;
        let transport = Transport::start(config.transport)?;
        let admission = Admission::default();
        let (session_task, session) = SessionTask::new(clock, config.session, seeds.u64(..));
        pool.next().spawn(session_task.run());
        let register = Register::default();
        // Listeners belong to the event loop that they are made on.
        let entrance = pool.next();
        let (peers_over, port_mapping) = (config.peers_over, config.port_mapping);
        let datagrams_too = config.dht.is_some();
        let opening = {
            let transport = transport.clone();
            entrance.spawn(async move { open(&transport, peers_over, datagrams_too) })
        };
        let opened = opening.await.map_err(|_| EngineError::Stopped)??;
        let (dialer, listeners) = (opened.dialer, opened.listeners);
        let mut listening: Vec<SocketAddr> = listeners.iter().map(Listener::local_addr).collect();
        let wanted = wanted_ports(&listeners, port_mapping);
        // uTP has the ports of TCP.
        listening.dedup();
        for listener in listeners {
            let guests = door::Guests {
                register: register.clone(),
                session: session.clone(),
                admission: admission.clone(),
                policy: config.encryption,
            };
            entrance.spawn(door::stand(listener, guests));
        }
        let mapper = wanted.and_then(|(address, wanted)| transport.port_mapper(address, wanted));
        let local_port = listening.first().map(SocketAddr::port);
        let (ports, port) = OurPort::new(clock, local_port, mapper);
        let tasks = TaskTracker::new();
        if let Some(ports) = ports {
            tasks.spawn_on(ports.run(), pool.next());
        }
        let dht = config.dht.map(|config| {
            let parts = dht::Parts {
                clock,
                transport: transport.clone(),
                config,
                sockets: opened.datagrams,
                session: session.clone(),
                port: port.clone(),
                implied_port: peers_over != PeerTransports::Tcp,
                secret: secret()?,
                rng: seeds.fork(),
            };
            let (task, dht) = DhtTask::new(parts);
            tasks.spawn_on(task.run(), entrance);
            Ok::<_, EngineError>(dht)
        });
        let dht = dht.transpose()?;
        // Where others cannot connect there is nothing to announce to them.
        let reachable = listening
            .iter()
            .find(|address| !isolated && !address.ip().is_loopback());
        let local = reachable.map(|&first| {
            let (transport, dht) = (transport.clone(), dht.clone());
            let (task, local) =
                LocalPeers::new(clock, transport, first, &listening, dht, &mut seeds);
            pool.next().spawn(task.run());
            local
        });
        let environment = Environment {
            clock,
            pool,
            trackers: TrackerClient::new(clock, transport.clone()),
            transport,
            dialer,
            storage,
            session,
            port,
            local,
            dht,
            admission,
            encryption: config.encryption,
            isolated,
            tasks: tasks.clone(),
        };
        let torrents = Torrents {
            next_id: AtomicU64::new(1),
            seeds: Mutex::new(seeds),
            running: Mutex::new(Some(Vec::new())),
        };
        Ok(Engine {
            workers,
            listening,
            handle: EngineHandle {
                environment: Arc::new(environment),
                register,
                tasks,
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

    /// Where peers may connect.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// What the router passes on to us, if it does: the port that others are told, and the address that it says is ours.
    #[must_use]
    pub fn mapped(&self) -> Option<Mapped> {
        self.handle.environment.port.mapped()
    }

    /// The network, for those who fetch something else through the same policy and binding.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.handle.environment.transport
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
            ..
        } = self.handle;
        board.close();
        let torrents = lock(&torrents.running).take().unwrap_or_default();
        let leave = async {
            environment.port.leave();
            for torrent in torrents {
                drop(torrent.send(ToTorrent::Stop).await);
            }
            if let Some(dht) = &environment.dht {
                dht.stop();
            }
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
        // What no torrent describes has no peers.
        if !add.metainfo.is_plain() {
            self.environment.port.map();
        }
        let wishes = Wishes::of(&add)?;
        let mut rng = lock(&self.torrents.seeds).fork();
        let hashes = add.metainfo.info_hashes();
        let dht = self.environment.dht_for(&add.metainfo).is_some();
        let (id, introduction, entrance) = match add.search.take() {
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
                    self.register(hashes, dht, is_public, &mut rng)?;
                (id, introduction, Entrance::New(registration))
            }
        };
        Ok(Entered {
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
            add,
            wishes,
            rng,
            id,
            introduction,
            entrance,
            ..
        } = entered;
        let inbox = Inbox::new();
        let sender = inbox.sender();
        let (snapshot, watched) = watch::channel(Snapshot::default());
        let limiter = self.environment.transport.limiter().torrent(add.limits);
        limiter.set_groups(&add.limit_groups);
        let starting = Box::new(Starting {
            environment: Arc::clone(&self.environment),
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
        self.keep(sender.clone())?;
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
        let mut rng = lock(&self.torrents.seeds).fork();
        let known = add.known.as_ref().map(|known| &known.metainfo);
        let hashes = known.map(|metainfo| metainfo.info_hashes());
        let hashes = hashes.unwrap_or(add.magnet.info_hashes);
        let dht = match known {
            Some(metainfo) => self.environment.dht_for(metainfo),
            None => self.environment.dht.as_ref(),
        };
        let (id, introduction, registration) =
            self.register(hashes, dht.is_some(), true, &mut rng)?;
        let inbox = Inbox::new();
        let sender = inbox.sender();
        let environment = Arc::clone(&self.environment);
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
            environment,
        };
        let (task, handle) = MagnetTask::new(parts, add, rng.u64(..));
        self.tasks
            .spawn_on(task.run(), self.environment.pool.next());
        self.keep(sender)?;
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

    async fn tell_session(&self, message: ToSession) -> Result<(), EngineError> {
        let sent = self.environment.session.send(message).await;
        sent.map_err(|_| EngineError::Stopped)
    }

    /// A place among the torrents. Two contents over the same files would be in each other's way: whoever comes second gets none.
    fn register(
        &self,
        hashes: InfoHashes,
        dht: bool,
        is_public: bool,
        rng: &mut fastrand::Rng,
    ) -> Result<(TorrentKey, Introduction, Registration), EngineError> {
        let id = TorrentKey(self.torrents.next_id.fetch_add(1, Ordering::Relaxed));
        let introduction = Introduction {
            hashes,
            peer_id: PeerId::generate(rng),
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
        let (_, _, registration) = self.register(hashes, false, false, &mut rng)?;
        Ok(registration)
    }

    /// Remembers whom to tell of the end.
    ///
    /// # Errors
    /// It has come already, and this torrent goes with the engine's threads.
    fn keep(&self, torrent: Sender<ToTorrent>) -> Result<(), EngineError> {
        let mut running = lock(&self.torrents.running);
        let running = running.as_mut().ok_or(EngineError::Stopped)?;
        // Now and then, as there may be thousands.
        if running.len() == running.capacity() {
            running.retain(|torrent| !torrent.is_closed());
        }
        running.push(torrent);
        Ok(())
    }
}

/// A torrent that has its place and is not opened yet.
struct Entered {
    add: AddTorrent,
    wishes: Wishes,
    rng: fastrand::Rng,
    id: TorrentKey,
    introduction: Introduction,
    entrance: Entrance,
    spec: ContentSpec,
}

/// What peers connect to, and what they are dialled with.
struct Opened {
    dialer: PeerDialer,
    listeners: Vec<Listener>,
    /// What comes to the UDP sockets besides.
    datagrams: Vec<OtherDatagrams>,
}

/// Opens it, with UDP sockets only where something speaks UDP.
fn open(
    transport: &Transport,
    over: PeerTransports,
    datagrams_too: bool,
) -> Result<Opened, TransportError> {
    let mut listeners = transport.listen()?;
    if over == PeerTransports::Tcp {
        let mut datagrams = match datagrams_too {
            true => transport.datagrams(&listeners)?,
            false => Vec::new(),
        };
        keep_reachable(&mut datagrams, listeners.len());
        return Ok(Opened {
            dialer: PeerDialer::Tcp(transport.clone()),
            listeners,
            datagrams,
        });
    }
    let (utp, endpoints) = transport.utp(&listeners)?;
    let count = listeners.len();
    let (mut over_utp, mut datagrams): (Vec<Listener>, _) = endpoints
        .into_iter()
        .map(
            |UtpEndpoint {
                 listener, others, ..
             }| (listener, others),
        )
        .unzip();
    over_utp.truncate(count);
    keep_reachable(&mut datagrams, count);
    let dialer = match over {
        PeerTransports::Utp => {
            listeners.clear();
            PeerDialer::Utp(utp)
        }
        _ => PeerDialer::Both(transport.clone(), utp),
    };
    listeners.extend(over_utp);
    listeners.sort_by_key(Listener::local_addr);
    Ok(Opened {
        dialer,
        listeners,
        datagrams,
    })
}

/// Of the sockets, those at the addresses where peers connect, which are the first. Where that is nowhere, all.
fn keep_reachable(datagrams: &mut Vec<OtherDatagrams>, listeners: usize) {
    if listeners > 0 {
        datagrams.truncate(listeners);
    }
}

/// What others must not guess.
fn secret() -> Result<[u8; 32], EngineError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| EngineError::Random(error.into()))?;
    Ok(secret)
}

/// Where we listen for IPv4, and the port there that the router is to pass on: that of TCP, and of UDP where it is the same.
fn wanted_ports(listeners: &[Listener], mapping: PortMapping) -> Option<(SocketAddr, WantedPort)> {
    let mut addresses = listeners.iter().map(Listener::local_addr);
    let address = addresses.find(|address| address.is_ipv4() && !address.ip().is_loopback())?;
    let there = |utp| {
        let mut listeners = listeners.iter();
        listeners.any(|listener| listener.is_utp() == utp && listener.local_addr() == address)
    };
    let wanted = WantedPort {
        port: address.port(),
        tcp: there(false),
        udp: there(true),
    };
    (mapping == PortMapping::Asked).then_some((address, wanted))
}

/// Held for a push, a swap or a number, never across an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For each file, whether it is wanted.
pub(crate) fn wanted_files(add: &AddTorrent) -> Result<Vec<bool>, EngineError> {
    Ok(Wishes::of(add)?.wanted())
}
