//! The session: one owner of all torrents, who hears what a person asks and what the engine comes to, one at a time.
//!
//! Invariant: what a person asked for is in the database before it is done, so that whatever happens in between, the next start goes on
//! with it. A torrent that is wanted to run and neither runs nor has failed is about to be started.

mod adding;
mod engaged;
mod owner;
mod peer;
mod priority;
mod rates;
mod running;
mod telling;
mod tracker;
mod webseed;

use crate::connections::SessionLimits;
use crate::entry::{Entry, Run};
use crate::message::{ErrorKind, Reply, Request, Torrent};
use crate::settings::Settings;
use crate::{fetch, names};
use owner::Carriers;
use rates::Groups;
use running::{Beginning, News};
use shoal_engine::{Engine, SessionSettings};
use shoal_machine::{Machine, Moment};
use shoal_session::TorrentKey;
use shoal_session::queue::{self, Queue, ShareLimit, Then};
use shoal_store::{Database, ShareState, StoreError, Totals, Wish};
use shoal_transport::{RateLimits, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

/// How many requests and news wait for the session.
const MAILBOX: usize = 64;

/// How often it is written down what torrents have moved: what a power failure may cost of it.
const WRITE_TOTALS: Duration = Duration::from_secs(60);

/// How often it is written down how long torrents have seeded, which changes all the time for all of them.
const WRITE_SHARES: Duration = Duration::from_secs(10 * 60);

/// How often the queue hears what moves.
const TELL_QUEUE: Duration = Duration::from_secs(2);

/// So many torrents are being opened at once: more than disks that hang, fewer than the threads that may wait for a disk.
const BEGIN_AT_ONCE: usize = 64;

/// Why the node does not do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// What was given cannot be used.
    #[error("{0}")]
    Refused(String),
    /// No torrent is called that.
    #[error("no torrent here is called {0:?}; `shoal list` shows what there is")]
    NotFound(String),
    /// No category or tag is.
    #[error("there is no {0} {1:?}; make it with `shoal {0} set {1:?}`")]
    NoCarrier(&'static str, String),
    /// Several are.
    #[error("{0:?} could be more than one torrent; write its number, or more of its info hash")]
    Ambiguous(String),
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node ends.
    #[error("the node is stopping; start it again")]
    Stopped,
}

impl NodeError {
    /// Of what kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            NodeError::Usage(_) | NodeError::Ambiguous(_) => ErrorKind::Usage,
            NodeError::Refused(_) => ErrorKind::Refused,
            NodeError::NotFound(_) | NodeError::NoCarrier(..) => ErrorKind::NotFound,
            NodeError::Store(StoreError::Duplicate) => ErrorKind::Duplicate,
            NodeError::Store(_) | NodeError::Stopped => ErrorKind::Failure,
        }
    }
}

type Answer = Result<Reply, NodeError>;

/// What comes of a request.
enum Heard {
    /// It is done.
    Done(Answer),
    /// A torrent, a disk or somebody else has to be waited for, which the session does not.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// What waits for the session: what is asked, the file that goes with it, and where the answer goes.
type Asked = (Request, Option<Vec<u8>>, oneshot::Sender<Answer>);

/// What a session is told besides what its database says.
#[derive(Clone, Debug, Default)]
pub struct NodeSettings {
    /// The folder of completion journals. Must exist.
    pub journals: PathBuf,
    /// Settings that hold in this life of the node, whatever is stored: by key, as a person writes them.
    pub overrides: BTreeMap<String, String>,
    /// The rates of everything, where `shoal limit session` has said nothing.
    pub limits: RateLimits,
    /// Slots and connections that the engine was started with, where `shoal limit session` has said nothing.
    pub session: SessionSettings,
}

/// A running node. Clones speak to the same one.
#[derive(Clone, Debug)]
pub struct Node {
    transport: Transport,
    asks: mpsc::Sender<Asked>,
    stop: mpsc::Sender<(Duration, oneshot::Sender<()>)>,
}

impl Node {
    /// Takes over the engine and begins with what the database has.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn start(
        engine: Engine,
        database: Database,
        settings: NodeSettings,
    ) -> Result<Node, StoreError> {
        let transport = engine.transport().clone();
        let (asks, asked) = mpsc::channel(MAILBOX);
        let (stop, stopped) = mpsc::channel(1);
        let (news, heard) = mpsc::channel(MAILBOX);
        let (room, rooms) = mpsc::channel(BEGIN_AT_ONCE);
        let NodeSettings {
            journals,
            overrides,
            limits,
            session: started_with,
        } = settings;
        let mut stored = database.settings().await?;
        stored.extend(overrides);
        let settings = Settings::from_stored(&stored);
        let carriers = Carriers::read(&database).await?;
        let connections = owner::read_connections(&database).await?;
        let held = connections.over(&started_with);
        if let Err(error) = engine.handle().set_session(held).await {
            tracing::warn!(%error, "slots and connections are not what they were set to");
        }
        let banned = peer::tell_bans(&engine, &database).await?;
        let torrents = database.torrents().await?;
        let order: Vec<i64> = torrents.iter().map(|torrent| torrent.id).collect();
        let entries = torrents.into_iter();
        let entries = entries.map(|stored| (stored.id, adding::revived(stored)));
        let session = Session {
            started: Instant::now(),
            queue: Queue::new(settings.queue(carriers.session.share_limits())),
            engine,
            database,
            journals,
            settings,
            carriers,
            connections,
            started_with,
            banned,
            groups: Groups::default(),
            limits,
            entries: entries.collect(),
            running: BTreeMap::new(),
            moved: BTreeSet::new(),
            beginning: VecDeque::new(),
            ended_early: BTreeSet::new(),
            news,
            at_once: Arc::new(Semaphore::new(BEGIN_AT_ONCE)),
            batches: 0,
            room,
            reached: Vec::new(),
        };
        tokio::spawn(session.run(order, asked, heard, rooms, stopped));
        Ok(Node {
            transport,
            asks,
            stop,
        })
    }

    /// Asks for something; the answer is no error. `file` is the .torrent file of one that is added, if there is one.
    ///
    /// # Errors
    /// It cannot be done, and nothing of it was.
    pub async fn ask(&self, mut request: Request, file: Option<Vec<u8>>) -> Answer {
        // The session does not wait for a server.
        let file = match &mut request {
            Request::Add(add) => match add.url.take() {
                Some(url) if file.is_none() && add.magnet.is_none() => {
                    let file = fetch::torrent_at(&self.transport, &url).await;
                    Some(file.map_err(|error| NodeError::Refused(error.to_string()))?)
                }
                Some(_) => return Err(NodeError::Usage(adding::ONE_SOURCE.to_owned())),
                None => file,
            },
            _ => file,
        };
        let (answer, answered) = oneshot::channel();
        let asked = self.asks.send((request, file, answer)).await;
        asked.map_err(|_| NodeError::Stopped)?;
        answered.await.map_err(|_| NodeError::Stopped)?
    }

    /// Takes leave of everybody and writes everything down, `within` the time for leave.
    pub async fn stop(&self, within: Duration) {
        let (done, ended) = oneshot::channel();
        drop(self.stop.send((within, done)).await);
        // An error where somebody else has stopped it.
        drop(ended.await);
    }
}

struct Session {
    started: Instant,
    queue: Queue,
    engine: Engine,
    database: Database,
    journals: PathBuf,
    settings: Settings,
    carriers: Carriers,
    /// What was said of slots and connections of everything.
    connections: SessionLimits,
    /// Those that the engine was started with.
    started_with: SessionSettings,
    /// Addresses that nobody speaks to.
    banned: BTreeSet<IpAddr>,
    groups: Groups,
    /// Of everything, where the session says nothing of them.
    limits: RateLimits,
    entries: BTreeMap<i64, Entry>,
    /// Those that the engine has, by its names for them.
    running: BTreeMap<TorrentKey, i64>,
    /// Those of which something is new since the queue heard of what moves.
    moved: BTreeSet<i64>,
    /// What is about to begin.
    beginning: VecDeque<Beginning>,
    /// Those that had ended before it was heard that they had begun.
    ended_early: BTreeSet<TorrentKey>,
    news: mpsc::Sender<(i64, u64, News)>,
    at_once: Arc<Semaphore>,
    /// Batches of torrents that are being opened on disks that answer.
    batches: usize,
    /// Where is told that there is room for another.
    room: mpsc::Sender<()>,
    /// Share limits that were reached, until what follows is done.
    reached: Vec<(i64, ShareLimit, Then)>,
}

impl Session {
    async fn run(
        mut self,
        order: Vec<i64>,
        mut asked: mpsc::Receiver<Asked>,
        mut heard: mpsc::Receiver<(i64, u64, News)>,
        mut rooms: mpsc::Receiver<()>,
        mut stopped: mpsc::Receiver<(Duration, oneshot::Sender<()>)>,
    ) {
        self.limit_everything();
        self.line_up(order);
        let every = |period| {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut write = every(WRITE_TOTALS);
        let mut share = every(WRITE_SHARES);
        let mut look = every(TELL_QUEUE);
        let mut changes = self.engine.handle().changes();
        let (within, done) = loop {
            self.begin_all();
            let deadline = self.queue.deadline();
            tokio::select! {
                Some((request, file, answer)) = asked.recv() => {
                    // Whoever asked may have gone.
                    match self.hear(request, file).await {
                        Heard::Done(answered) => drop(answer.send(answered)),
                        Heard::Later(answered) => {
                            tokio::spawn(async move { drop(answer.send(answered.await)) });
                        }
                    }
                }
                Some((id, run, news)) = heard.recv() => self.learn(id, run, news).await,
                Some(changes) = changes.next() => self.follow(changes).await,
                Some(()) = rooms.recv() => self.batches -= 1,
                Some(stop) = stopped.recv() => break stop,
                () = until(self.started, deadline) => self.tell(queue::Input::Tick),
                _ = look.tick() => self.tell_progress(),
                _ = write.tick() => self.write_totals(&unwritten(&self.entries)).await,
                _ = share.tick() => self.write_shares(None).await,
                else => return,
            }
            self.follow_limits().await;
        };
        self.end(within).await;
        // Whoever waits may have gone.
        done.send(()).ok();
    }

    /// Everybody takes a place in the queue.
    fn line_up(&mut self, order: Vec<i64>) {
        for id in order {
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            if entry.removed {
                self.forget(id);
                continue;
            }
            let (queued, failed) = (self.queued(entry), entry.failure.is_some());
            self.tell_at(Moment::ZERO, queue::Input::Added(key(id), queued));
            if failed {
                self.tell_at(Moment::ZERO, queue::Input::Failed(key(id)));
            }
        }
    }

    async fn end(self, within: Duration) {
        self.write_shares(None).await;
        let Session {
            engine,
            database,
            entries,
            ..
        } = self;
        // What is shown of a torrent goes on until the engine has ended.
        engine.stop(within).await;
        write_totals(&database, &unwritten(&entries)).await;
        database.close().await;
    }

    /// The queue waits for what is told together. All that a start has to tell was told at the beginning of time, which is over when
    /// the session begins.
    fn now(&self) -> Moment {
        Moment::ZERO + queue::PASS_DELAY + self.started.elapsed()
    }

    /// Tells the queue something, and does what it says.
    fn tell(&mut self, input: queue::Input) {
        self.tell_at(self.now(), input);
    }

    fn tell_at(&mut self, now: Moment, input: queue::Input) {
        self.queue.handle(now, input);
        while let Some(output) = self.queue.poll() {
            match output {
                queue::Output::Start(key, _) => self.turn(key, true),
                queue::Output::Stop(key, _) => self.turn(key, false),
                queue::Output::LimitReached(key, limit, then) => {
                    self.reached.push((id_of(key), limit, then));
                }
            }
        }
    }

    /// A torrent's turn comes or is over.
    fn turn(&mut self, key: TorrentKey, due: bool) {
        let id = id_of(key);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.due = due;
        }
        match due {
            true => self.begin(id, None),
            false => self.halt(id),
        }
    }

    fn tell_progress(&mut self) {
        let now = self.now();
        for id in std::mem::take(&mut self.moved) {
            let entry = self.entries.get_mut(&id);
            let Some(moved) = entry.and_then(Entry::moved) else {
                continue;
            };
            let stood = self.queue.stored(now, key(id));
            let stood = stood.map_or_else(Default::default, |torrent| torrent.progress);
            let idle = match moved.uploaded_bytes > stood.uploaded_bytes {
                true => Duration::ZERO,
                false => stood.idle,
            };
            let seeding = stood.seeding;
            let moved = queue::Progress {
                seeding,
                idle,
                ..moved
            };
            self.tell(queue::Input::Progress(key(id), moved));
        }
    }

    async fn hear(&mut self, request: Request, file: Option<Vec<u8>>) -> Heard {
        Heard::Done(self.answer(request, file).await)
    }

    async fn answer(&mut self, request: Request, file: Option<Vec<u8>>) -> Answer {
        let ids = match request {
            Request::Add(add) => vec![self.add(*add, file).await?],
            Request::List { torrents } if torrents.is_empty() => {
                self.entries.keys().copied().collect()
            }
            Request::List { torrents } => self.resolve(&torrents)?,
            Request::Pause { torrents } => self.wish(&torrents, Wish::Paused).await?,
            Request::Resume { torrents } => self.wish(&torrents, Wish::Queued).await?,
            Request::Start { torrents } => self.wish(&torrents, Wish::Forced).await?,
            Request::Remove { torrents, data } => return self.remove(&torrents, data).await,
            Request::Recheck { torrents } => self.recheck(&torrents)?,
            Request::Announce { torrents } => self.announce(&torrents)?,
            Request::Change(change) => self.change(*change).await?,
            Request::Prioritize(told) => self.prioritize(*told).await?,
            Request::Tracker(request) => return self.tracker(request).await,
            Request::Peer(request) => return self.peer(request).await,
            Request::WebSeed(request) => return self.web_seed(request).await,
            Request::Queue { torrents, to } => self.shift(&torrents, to).await?,
            Request::Settings {} => {
                let settings = self.settings.shown();
                return Ok(Reply::Settings { settings });
            }
            Request::Set { assignments } => return self.set(&assignments).await,
            Request::Carriers { kind } => return Ok(self.shown_carriers(kind)),
            Request::SetCarrier { kind, name, rules } => {
                return self.set_carrier(kind, &name, &rules).await;
            }
            Request::RemoveCarriers { kind, names } => {
                return self.remove_carriers(kind, &names).await;
            }
        };
        Ok(self.torrents(&ids))
    }

    /// Which torrents are meant.
    fn resolve(&self, words: &[String]) -> Result<Vec<i64>, NodeError> {
        let standing = |id| self.queue.standing(key(id));
        names::resolve(&self.entries, &standing, words)
    }

    /// What is shown of these.
    fn torrents(&self, ids: &[i64]) -> Reply {
        let shown = |id| self.entries.get(id).filter(|entry| !entry.removed);
        // Looking at the whole queue would cost more than what is shown, where that is a few seeds.
        let mut waiting = ids.iter().filter_map(shown);
        let positions = match waiting.any(|entry| entry.completed_at.is_none()) {
            true => self.positions(),
            false => BTreeMap::new(),
        };
        let lines = ids.iter().filter_map(shown).map(|entry| Torrent {
            position: positions.get(&entry.id).copied(),
            ..entry.line(self.queue.standing(key(entry.id)))
        });
        Reply::Torrents {
            torrents: lines.collect(),
        }
    }

    /// Of the torrents that are not complete, from 1.
    fn positions(&self) -> BTreeMap<i64, usize> {
        let order = self.queue.order().into_iter().map(id_of);
        let incomplete = order.filter(|id| {
            let entry = self.entries.get(id);
            entry.is_some_and(|entry| entry.completed_at.is_none())
        });
        incomplete.zip(1..).collect()
    }

    /// It cannot go on.
    fn fail(&mut self, id: i64, why: String) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.failure = Some(why);
        }
        self.tell(queue::Input::Failed(key(id)));
    }

    /// How torrents stand with their share limits: of these, or of all that run.
    async fn write_shares(&self, these: Option<&[i64]>) {
        let now = self.now();
        let of = |entry: &Entry| Some((entry.id, self.share_state(now, entry.id)?));
        let runs = |entry: &&Entry| !matches!(entry.run, Run::Idle) && !entry.removed;
        let states: Vec<(i64, ShareState)> = match these {
            Some(ids) => {
                let entries = ids.iter().filter_map(|id| self.entries.get(id));
                entries.filter_map(of).collect()
            }
            None => self.entries.values().filter(runs).filter_map(of).collect(),
        };
        if let Err(error) = self.database.shared(&states).await {
            tracing::warn!(%error, "how long torrents have seeded is not written down");
        }
    }

    fn share_state(&self, now: Moment, id: i64) -> Option<ShareState> {
        let stored = self.queue.stored(now, key(id))?;
        Some(ShareState {
            gave_enough: stored.gave_enough,
            beyond_limits: stored.beyond_limits,
            seeding_s: stored.progress.seeding.as_secs(),
            idle_s: stored.progress.idle.as_secs(),
        })
    }

    async fn write_totals(&mut self, totals: &[(i64, Totals)]) {
        if write_totals(&self.database, totals).await {
            for (id, totals) in totals {
                if let Some(entry) = self.entries.get_mut(id) {
                    entry.written = *totals;
                }
            }
        }
    }
}

fn key(id: i64) -> TorrentKey {
    // Numbers of rows begin with 1.
    TorrentKey(id.unsigned_abs())
}

fn id_of(key: TorrentKey) -> i64 {
    i64::try_from(key.0).unwrap_or(i64::MAX)
}

async fn until(started: Instant, deadline: Option<Moment>) {
    match deadline {
        Some(at) => {
            let since = Duration::from_nanos(at.as_nanos());
            tokio::time::sleep_until(started + since.saturating_sub(queue::PASS_DELAY)).await;
        }
        None => std::future::pending().await,
    }
}

/// Whether that was done. Where not, the next time has it.
async fn write_totals(database: &Database, totals: &[(i64, Totals)]) -> bool {
    if totals.is_empty() {
        return true;
    }
    let written = database.totals(totals).await;
    if let Err(error) = &written {
        tracing::warn!(%error, "what torrents have moved is not written down");
    }
    written.is_ok()
}

/// What has changed since it was written down.
fn unwritten(entries: &BTreeMap<i64, Entry>) -> Vec<(i64, Totals)> {
    let runs = |entry: &&Entry| !matches!(entry.run, Run::Idle) && !entry.removed;
    let entries = entries.values().filter(runs);
    entries
        .map(|entry| (entry.id, entry.totals(), entry.written))
        .filter(|(_, totals, written)| totals != written)
        .map(|(id, totals, _)| (id, totals))
        .collect()
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
