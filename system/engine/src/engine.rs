//! The engine as a library: start one, add torrents, watch them, stop.

use crate::clock::Clock;
use crate::connect::Introduction;
use crate::door::{self, Register};
use crate::hashes::{FileSpan, HashServer};
use crate::mailbox::Mailbox;
use crate::session::{SessionTask, ToSession};
use crate::snapshot::{Phase, Snapshot, TrackerLine};
use crate::torrent::{Around, MAX_EVENTS, MAX_WAITING, ToTorrent, TorrentId, TorrentTask};
use crate::tracker::{Announcer, ToTrackers, Totals, TrackerTask};
use crate::worker::{Pool, Workers};
use shoal_machine::Machine;
use shoal_metainfo::metainfo::TrackerUrl;
use shoal_metainfo::{Bitfield, File, FileIndex, Metainfo, PieceIndex};
use shoal_session::{Settings, TorrentKey};
use shoal_storage::{
    Content, ContentSpec, Event, FileSpec, Mode, Storage, StorageConfig, StorageError,
};
use shoal_swarm::torrent::{
    DEFAULT_MAX_CONNECTIONS, Input, Origin, Priority, Torrent, TorrentConfig,
};
use shoal_transport::{RateLimits, Transport, TransportConfig, TransportError};
use shoal_wire::PeerId;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
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
    /// The torrent is here already, under one of its info hashes.
    #[error("the torrent is running already")]
    Duplicate,
    /// The selection does not fit the torrent.
    #[error("the torrent has {files} files, and the selection is for {selected}")]
    Selection {
        /// Files of the torrent.
        files: usize,
        /// Entries of the selection.
        selected: usize,
    },
    /// The engine was stopped meanwhile.
    #[error("the engine has stopped")]
    Stopped,
}

/// How an engine is set up.
#[derive(Default)]
pub struct EngineConfig {
    /// The network.
    pub transport: TransportConfig,
    /// The disk.
    pub storage: StorageConfig,
    /// Slots and connections.
    pub session: Settings,
    /// Event loops; 0 is one for each core.
    pub workers: usize,
    /// Decides all dice; `None` is a new number each time.
    pub seed: Option<u64>,
}

/// A torrent to run.
pub struct AddTorrent {
    /// What it is.
    pub metainfo: Arc<Metainfo>,
    /// The folder that its top-level name is in. Must exist.
    pub directory: PathBuf,
    /// For each file of the metainfo, whether it is wanted; `None` is all.
    pub selection: Option<Vec<bool>>,
    /// Fetch pieces in order.
    pub sequential: bool,
    /// Only read and serve; fetch and write nothing.
    pub seed_only: bool,
    /// Take files of the right size for right, without reading them.
    pub trust: bool,
    /// Reserve the room when opening.
    pub preallocate: bool,
    /// Where completion is remembered; `None` is nowhere.
    pub journal: Option<PathBuf>,
    /// Peers that the user named.
    pub peers: Vec<SocketAddr>,
    /// Trackers that the user named, besides the torrent's own.
    pub trackers: Vec<Url>,
    /// Limits of this torrent.
    pub limits: RateLimits,
}

impl AddTorrent {
    /// The whole torrent, into `directory`, as usual.
    #[must_use]
    pub fn new(metainfo: Arc<Metainfo>, directory: PathBuf) -> Self {
        AddTorrent {
            metainfo,
            directory,
            selection: None,
            sequential: false,
            seed_only: false,
            trust: false,
            preallocate: false,
            journal: None,
            peers: Vec::new(),
            trackers: Vec::new(),
            limits: RateLimits::default(),
        }
    }
}

/// A running engine.
pub struct Engine {
    workers: Workers,
    clock: Clock,
    transport: Transport,
    storage: Storage,
    session: mpsc::Sender<ToSession>,
    register: Register,
    listening: Vec<SocketAddr>,
    next_id: AtomicU64,
    seeds: Mutex<fastrand::Rng>,
    tasks: TaskTracker,
    torrents: Mutex<Vec<TorrentHandle>>,
}

impl Engine {
    /// Starts listening. Nothing is sent before a torrent is added.
    ///
    /// # Errors
    /// Where the network or the disk cannot be used as configured.
    pub async fn start(config: EngineConfig) -> Result<Engine, EngineError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
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
        let storage = Storage::start(config.storage)?;
        let transport = Transport::start(config.transport)?;
        let (session_task, session) = SessionTask::new(clock, config.session, seeds.u64(..));
        pool.next().spawn(session_task.run());
        let register = Register::default();
        // Listeners belong to the event loop that they are made on.
        let listeners = {
            let transport = transport.clone();
            pool.next().spawn(async move { transport.listen() }).await
        };
        let listeners = listeners.map_err(|_| EngineError::Stopped)??;
        let listening = listeners
            .iter()
            .map(shoal_transport::Listener::local_addr)
            .collect();
        for listener in listeners {
            let door = door::stand(listener, register.clone(), session.clone(), pool.clone());
            pool.next().spawn(door);
        }
        Ok(Engine {
            workers,
            clock,
            transport,
            storage,
            session,
            register,
            listening,
            next_id: AtomicU64::new(1),
            seeds: Mutex::new(seeds),
            tasks: TaskTracker::new(),
            torrents: Mutex::new(Vec::new()),
        })
    }

    /// Where peers may connect.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// The network, for those who fetch something else through the same policy and binding.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Runs a torrent: checks what is on disk as far as it has to, then downloads what is missing and seeds.
    ///
    /// # Errors
    /// Before the first byte moves: where the target cannot be used, the selection does not fit, or the torrent is here already.
    pub async fn add(&self, add: AddTorrent) -> Result<TorrentHandle, EngineError> {
        let files = add.metainfo.files();
        let wanted = add
            .selection
            .clone()
            .unwrap_or_else(|| vec![true; files.len()]);
        if wanted.len() != files.len() {
            return Err(EngineError::Selection {
                files: files.len(),
                selected: wanted.len(),
            });
        }
        let mut rng = self
            .seeds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fork();
        let id = TorrentKey(self.next_id.fetch_add(1, Ordering::Relaxed));
        let introduction = Introduction {
            hashes: add.metainfo.info_hashes(),
            peer_id: PeerId::generate(&mut rng),
        };
        let (events, received) = mpsc::channel(MAX_EVENTS);
        let (storage, spec) = (self.storage.clone(), content_spec(&add, &wanted));
        let opening = tokio::task::spawn_blocking(move || storage.open(spec, events)).await;
        let content = opening.map_err(|_| EngineError::Stopped)??;
        if !self.register.enter(id, introduction) {
            return Err(EngineError::Duplicate);
        }
        let channel = mpsc::channel(MAX_WAITING);
        let sender = channel.0.clone();
        let (snapshot, watched) = watch::channel(Snapshot::default());
        let starting = Starting {
            id,
            clock: self.clock,
            pool: self.workers.pool(),
            transport: self.transport.clone(),
            storage: self.storage.clone(),
            session: self.session.clone(),
            register: self.register.clone(),
            tasks: self.tasks.clone(),
            port: self.listening.first().map(SocketAddr::port),
            introduction,
            content,
            events: received,
            channel,
            snapshot,
            rng,
        };
        let task = starting.run(add, wanted);
        self.tasks.spawn_on(task, self.workers.pool().next());
        let handle = TorrentHandle { sender, watched };
        self.torrents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(handle.clone());
        Ok(handle)
    }

    /// Stops every torrent: takes leave of trackers and peers, and writes down what is verified. What does not end `within`
    /// the time is cut off, which costs nothing that was verified.
    pub async fn stop(self, within: Duration) {
        let torrents =
            std::mem::take(&mut *self.torrents.lock().unwrap_or_else(PoisonError::into_inner));
        let leave = async {
            for torrent in torrents {
                torrent.stop().await;
            }
            self.tasks.close();
            self.tasks.wait().await;
        };
        if tokio::time::timeout(within, leave).await.is_err() {
            tracing::warn!("not everything ended in time; it was cut off");
        }
        let (storage, workers) = (self.storage, self.workers);
        let ended = tokio::task::spawn_blocking(move || {
            drop(workers);
            storage.shutdown();
        });
        // What blocks on a disk that does not answer cannot be ended; the process may still exit.
        drop(tokio::time::timeout(within, ended).await);
    }
}

/// A torrent that runs. Clones are the same torrent.
#[derive(Clone, Debug)]
pub struct TorrentHandle {
    sender: mpsc::Sender<ToTorrent>,
    watched: watch::Receiver<Snapshot>,
}

impl TorrentHandle {
    /// The torrent's state, and news of it. The sender goes when the torrent has ended.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.watched.clone()
    }

    /// Takes leave of trackers and peers and ends. Nothing happens where it has ended already.
    pub async fn stop(&self) {
        drop(self.sender.send(ToTorrent::Stop).await);
    }
}

fn content_spec(add: &AddTorrent, wanted: &[bool]) -> ContentSpec {
    let metainfo = &add.metainfo;
    let folder = metainfo.folder().map(PathBuf::from).unwrap_or_default();
    let stored = |file: &&File| file.symlink.is_none();
    let files = metainfo.files();
    ContentSpec {
        info_hash: metainfo.info_hashes().primary(),
        layout: Arc::new(metainfo.layout().clone()),
        verifier: Arc::new(metainfo.verifier().clone()),
        files: files
            .iter()
            .filter(stored)
            .map(|file| FileSpec {
                path: folder.join(&file.path),
                length: file.length,
                offset: file.offset,
                padding: file.padding,
                executable: file.executable,
            })
            .collect(),
        directory: add.directory.clone(),
        wanted: files
            .iter()
            .zip(wanted)
            .filter(|(file, _)| stored(file))
            .map(|(_, wanted)| *wanted)
            .collect(),
        journal: add.journal.clone(),
        mode: if add.seed_only {
            Mode::Seed
        } else {
            Mode::Download
        },
        preallocate: add.preallocate,
    }
}

/// How much each piece is wanted, where these files are.
fn priorities(metainfo: &Metainfo, wanted: &[bool]) -> Vec<Priority> {
    let mut priorities = vec![Priority::Skip; metainfo.layout().piece_count() as usize];
    for ((index, file), &wanted) in (0..).zip(metainfo.files()).zip(wanted) {
        if wanted && !file.padding {
            for piece in metainfo.pieces_of(FileIndex(index)) {
                priorities[piece as usize] = Priority::Normal;
            }
        }
    }
    priorities
}

/// A torrent between being opened and running.
struct Starting {
    id: TorrentId,
    clock: Clock,
    pool: Pool,
    transport: Transport,
    storage: Storage,
    session: mpsc::Sender<ToSession>,
    register: Register,
    tasks: TaskTracker,
    port: Option<u16>,
    introduction: Introduction,
    content: Content,
    events: mpsc::Receiver<Event>,
    channel: (mpsc::Sender<ToTorrent>, mpsc::Receiver<ToTorrent>),
    snapshot: watch::Sender<Snapshot>,
    rng: fastrand::Rng,
}

impl Starting {
    async fn run(mut self, add: AddTorrent, wanted: Vec<bool>) {
        let resumed_pieces = self.content.resumed().have.count();
        if let Some(have) = self.check(&add).await {
            self.run_with(add, &wanted, have, resumed_pieces).await;
        }
    }

    /// Finds out which pieces are there; `None` where the torrent was stopped meanwhile.
    async fn check(&mut self, add: &AddTorrent) -> Option<Bitfield> {
        let resumed = self.content.resumed().clone();
        if add.trust {
            return Some(self.content.trust());
        }
        let mut have = resumed.have;
        let suspects: Vec<PieceIndex> = if resumed.fresh {
            add.metainfo.layout().pieces().collect()
        } else {
            resumed.suspect
        };
        if suspects.is_empty() {
            return Some(have);
        }
        let check = self.content.verify(suspects);
        let mut checked = 0;
        while checked < check.total() {
            tokio::select! {
                Some(event) = self.events.recv() => {
                    if let Event::Checked { piece, right } = event {
                        checked += 1;
                        if right {
                            have.insert(piece);
                        }
                    }
                }
                // Before a torrent runs, people are the only ones who know it: they can only stop it.
                Some(ToTorrent::Stop) = self.channel.1.recv() => {
                    check.cancel();
                    self.register.leave(self.id);
                    self.snapshot.send_modify(|snapshot| snapshot.phase = Phase::Stopped);
                    return None;
                }
                else => return None,
            }
            let (checked, total) = (check.checked(), check.total());
            self.snapshot
                .send_modify(|now| now.phase = Phase::Checking { checked, total });
        }
        Some(have)
    }

    async fn run_with(
        mut self,
        add: AddTorrent,
        wanted: &[bool],
        have: Bitfield,
        resumed_pieces: u32,
    ) {
        let metainfo = &add.metainfo;
        let layout = Arc::new(metainfo.layout().clone());
        let mut torrent = Torrent::new(TorrentConfig {
            layout: Arc::clone(&layout),
            have,
            priorities: priorities(metainfo, wanted),
            sequential: add.sequential,
            our_peer_id: self.introduction.peer_id.0,
            seed: self.rng.u64(..),
            max_connections: DEFAULT_MAX_CONNECTIONS,
        });
        if !add.peers.is_empty() {
            let (origin, addresses) = (Origin::User, add.peers.clone());
            torrent.handle(self.clock.now(), Input::Candidates { origin, addresses });
        }
        let totals = Arc::new(Totals::default());
        let trackers = Mailbox::new();
        let tracker_lines = self.start_trackers(&add, &totals, &trackers, torrent.is_complete());
        let mailbox = Mailbox::new();
        // Where the session is gone the engine stops.
        drop(
            self.session
                .send(ToSession::Added(self.id, mailbox.clone()))
                .await,
        );
        let around = Around {
            id: self.id,
            clock: self.clock,
            pool: self.pool,
            transport: self.transport.clone(),
            limiter: self.transport.limiter().torrent(add.limits),
            storage: self.storage,
            content: self.content,
            hashes: Arc::new(hash_server(metainfo)),
            layout,
            introduction: self.introduction,
            port: self.port,
            session: self.session,
            trackers,
            tracker_lines,
            totals,
            resumed_pieces,
        };
        TorrentTask::new(
            around,
            torrent,
            self.channel,
            self.events,
            mailbox,
            self.snapshot,
        )
        .run()
        .await;
        self.register.leave(self.id);
    }

    fn start_trackers(
        &mut self,
        add: &AddTorrent,
        totals: &Arc<Totals>,
        mailbox: &Mailbox<ToTrackers>,
        complete: bool,
    ) -> watch::Receiver<Vec<TrackerLine>> {
        let announcer = Announcer {
            clock: self.clock,
            transport: self.transport.clone(),
            peer_id: self.introduction.peer_id.0,
            port: self.port.unwrap_or(0),
            key: self.rng.u32(..),
            totals: Arc::clone(totals),
            named_by_user: add.trackers.clone(),
        };
        let parse = |tier: &Vec<TrackerUrl>| -> Vec<Url> {
            tier.iter()
                .filter_map(|tracker| tracker.url.parse().ok())
                .collect()
        };
        let mut tiers: Vec<Vec<Url>> = add.metainfo.trackers().iter().map(parse).collect();
        tiers.extend(add.trackers.iter().map(|tracker| vec![tracker.clone()]));
        let (task, lines) = TrackerTask::new(
            announcer,
            self.introduction.hashes.swarms(),
            &tiers,
            mailbox.clone(),
            self.channel.0.clone(),
            self.rng.fork(),
        );
        self.tasks.spawn_on(task.run(complete), self.pool.next());
        lines
    }
}

fn hash_server(metainfo: &Metainfo) -> HashServer {
    let piece_length = metainfo.layout().piece_length();
    let spans = (0..).zip(metainfo.files()).filter_map(|(index, file)| {
        let first = PieceIndex(metainfo.pieces_of(FileIndex(index)).start);
        Some(FileSpan {
            root: file.root?,
            length: file.length,
            first,
        })
    });
    HashServer::new(Arc::new(metainfo.verifier().clone()), piece_length, spans)
}
