//! The session: one owner of all torrents, who hears what a person asks and what the engine comes to, one at a time.
//!
//! Invariant: what a person asked for is in the database before it is done, so that whatever happens in between, the next start goes on
//! with it. A torrent that is wanted to run and neither runs nor has failed is about to be started.

mod adding;
mod engaged;
mod filter;
mod folders;
mod gone;
mod hook;
mod importing;
mod moving;
mod owner;
mod peer;
mod priority;
mod rates;
mod route;
mod running;
mod schedule;
mod show;
mod telling;
mod tracker;
mod watch;
mod webseed;

use crate::connections::SessionLimits;
use crate::entry::{Entry, Run};
use crate::import::{Importer, Taking};
use crate::message::{
    self, ErrorKind, FolderRequest, Import, ImportNews, Reply, Request, State, Torrent,
};
use crate::route::Network;
use crate::settings::Settings;
use crate::{fetch, names};
use folders::Plan;
use gone::Gone;
use hook::Hooks;
use moving::Moves;
use owner::Carriers;
use rates::Groups;
use route::{Changed, Routes};
use running::{Beginning, News};
use schedule::Hours;
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
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

pub use route::has_own_route;

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
    /// Something else is not there.
    #[error("{0}")]
    Absent(String),
    /// No category or tag is.
    #[error("there is no {0} {1:?}; make it with `shoal {0} set {1:?}`")]
    NoCarrier(&'static str, String),
    /// No route is.
    #[error("there is no route {0:?}; make it with `shoal route set {0}`")]
    NoRoute(String),
    /// Several are.
    #[error("{0:?} could be more than one torrent; write its number, or more of its info hash")]
    Ambiguous(String),
    /// It is not known yet.
    #[error("{0}")]
    Unknown(String),
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
            NodeError::NotFound(_)
            | NodeError::NoCarrier(..)
            | NodeError::NoRoute(_)
            | NodeError::Absent(_) => ErrorKind::NotFound,
            NodeError::Store(StoreError::Duplicate) => ErrorKind::Duplicate,
            NodeError::Unknown(_) | NodeError::Store(_) | NodeError::Stopped => ErrorKind::Failure,
        }
    }
}

type Answer = Result<Reply, NodeError>;

/// What comes of a request.
enum Heard {
    /// It is done.
    Done(Reply),
    /// A torrent, a disk or somebody else has to be waited for, which the session does not.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// What waits for the session: what is asked, the file that goes with it, and where the answer goes.
type Asked = (Request, Option<Vec<u8>>, oneshot::Sender<Answer>);

/// By which network something is fetched that is about to be added.
type AskedWay = (
    Box<message::Add>,
    oneshot::Sender<Result<Transport, NodeError>>,
);

/// What is asked about data that is to be moved, and where the answer goes.
type Planned = (FolderRequest, oneshot::Sender<Result<Plan, NodeError>>);

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
    /// How routes are made.
    pub network: Network,
    /// The engine's own route is as a person said for this life of the node, whatever is stored of it. Otherwise, an engine whose own route
    /// is stored is one that has opened nothing.
    pub own_route_said: bool,
}

/// A running node. Clones speak to the same one.
#[derive(Clone, Debug)]
pub struct Node {
    ways: mpsc::Sender<AskedWay>,
    asks: mpsc::Sender<Asked>,
    importer: Importer,
    plans: mpsc::Sender<Planned>,
    stop: mpsc::Sender<(Duration, oneshot::Sender<()>)>,
    told_to_end: Arc<Notify>,
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
        let (ways, asked_ways) = mpsc::channel(MAILBOX);
        let (changed, routes_changed) = mpsc::channel(MAILBOX);
        let (asks, asked) = mpsc::channel(MAILBOX);
        let (plans, planned) = mpsc::channel(MAILBOX);
        let (stop, stopped) = mpsc::channel(1);
        let (news, heard) = mpsc::channel(MAILBOX);
        let (room, rooms) = mpsc::channel(BEGIN_AT_ONCE);
        let (takings, taken) = mpsc::channel(MAILBOX);
        let NodeSettings {
            journals,
            overrides,
            limits,
            session: started_with,
            network,
            own_route_said,
        } = settings;
        let routes = Routes::read(&database, network, own_route_said, changed).await?;
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
        let gone = Gone::read(&database).await?;
        let hours = Hours::read(&database).await?;
        let mut lists = filter::Lists::of(database.clone(), engine.handle()).await?;
        // Before anybody is spoken to.
        lists.read_all().await;
        let hooks = Hooks::read(&database).await?;
        let folders = watch::read(&database).await?;
        let (filter, filter_asked) = mpsc::channel(MAILBOX);
        tokio::spawn(lists.keep(filter_asked));
        let entries = database.torrents(|stored| (stored.id, adding::revived(stored)));
        let entries = entries.await?;
        let order: Vec<i64> = entries.iter().map(|(id, _)| *id).collect();
        let importer = Importer::new(engine.handle(), database.clone(), journals.clone(), takings);
        let told_to_end = Arc::new(Notify::new());
        let mut session = Session {
            told_to_end: Arc::clone(&told_to_end),
            filter,
            started: Instant::now(),
            started_at: unix_now(),
            queue: Queue::new(settings.queue(carriers.session.share_limits())),
            engine,
            database,
            journals,
            settings,
            carriers,
            connections,
            started_with,
            banned,
            hours,
            hooks,
            watched: BTreeMap::new(),
            asks: asks.downgrade(),
            groups: Groups::default(),
            gone,
            routes,
            shut_ways: BTreeMap::new(),
            limits,
            entries: entries.into_iter().collect(),
            running: BTreeMap::new(),
            moved: BTreeSet::new(),
            beginning: VecDeque::new(),
            ended_early: BTreeSet::new(),
            news,
            at_once: Arc::new(Semaphore::new(BEGIN_AT_ONCE)),
            batches: 0,
            room,
            reached: Vec::new(),
            moves: Moves::default(),
        };
        for (path, watch) in folders {
            session.begin_to_watch(path, watch);
        }
        let mail = Mail {
            asked,
            planned,
            ways: asked_ways,
            taken,
            routes: routes_changed,
            heard,
            rooms,
            stopped,
        };
        tokio::spawn(session.run(order, mail));
        Ok(Node {
            ways,
            asks,
            importer,
            plans,
            stop,
            told_to_end,
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
                    let transport = self.way_for(add).await?;
                    let file = fetch::torrent_at(&transport, &url).await;
                    Some(file.map_err(|error| NodeError::Refused(error.to_string()))?)
                }
                Some(_) => return Err(NodeError::Usage(adding::ONE_SOURCE.to_owned())),
                None => file,
            },
            _ => file,
        };
        // Nor for a disk.
        if let Request::Folder(folder) = request {
            request = Request::Folder(self.looked_at(folder).await?);
        }
        let (answer, answered) = oneshot::channel();
        let asked = self.asks.send((request, file, answer)).await;
        asked.map_err(|_| NodeError::Stopped)?;
        answered.await.map_err(|_| NodeError::Stopped)?
    }

    /// The network of the route that holds for what is about to be added.
    async fn way_for(&self, add: &message::Add) -> Result<Transport, NodeError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.ways.send((Box::new(add.clone()), answer)).await;
        asked.map_err(|_| NodeError::Stopped)?;
        answered.await.map_err(|_| NodeError::Stopped)?
    }

    /// Takes over torrents of another client, and tells of each; ends early where nobody hears of it any more.
    ///
    /// # Errors
    /// It makes no sense, there is no session of that client, or it runs. The node ends, or its database fails: what was taken over by
    /// then stays, and another import goes on with the rest.
    pub async fn import(
        &self,
        import: Import,
        news: mpsc::Sender<ImportNews>,
    ) -> Result<(), NodeError> {
        self.importer.run(import, news).await
    }

    /// Waits until somebody asks for the end of the node, which is for whoever has started it to bring about.
    pub async fn told_to_end(&self) {
        self.told_to_end.notified().await;
    }

    /// A request about folders of which the disks say that it can be done, with its folder as the disk knows it.
    async fn looked_at(&self, mut request: FolderRequest) -> Result<FolderRequest, NodeError> {
        if let Some(name) = folders::named(&request).map(str::to_owned) {
            let named = tokio::task::spawn_blocking(move || adding::directory(&name)).await;
            let named = named.map_err(|_| NodeError::Stopped)??;
            request = folders::renamed(request, &named)?;
        }
        let (plan, planned) = oneshot::channel();
        let asked = self.plans.send((request.clone(), plan)).await;
        asked.map_err(|_| NodeError::Stopped)?;
        let plan = planned.await.map_err(|_| NodeError::Stopped)??;
        let checked = plan.engine.check_moves(plan.moves).await;
        checked.map_err(|error| NodeError::Refused(format!("cannot move the files: {error}")))?;
        Ok(request)
    }

    /// Takes leave of everybody and writes everything down, `within` the time for leave.
    pub async fn stop(&self, within: Duration) {
        let (done, ended) = oneshot::channel();
        drop(self.stop.send((within, done)).await);
        // An error where somebody else has stopped it.
        drop(ended.await);
    }
}

/// What comes to the session.
struct Mail {
    asked: mpsc::Receiver<Asked>,
    /// Who wants to know what a request would move.
    planned: mpsc::Receiver<Planned>,
    /// Who fetches something that is to be added.
    ways: mpsc::Receiver<AskedWay>,
    /// What comes of an import.
    taken: mpsc::Receiver<Taking>,
    routes: mpsc::Receiver<Changed>,
    heard: mpsc::Receiver<(i64, u64, News)>,
    rooms: mpsc::Receiver<()>,
    stopped: mpsc::Receiver<(Duration, oneshot::Sender<()>)>,
}

struct Session {
    started: Instant,
    /// Unix time in seconds.
    started_at: i64,
    /// Whoever has started the node waits for it.
    told_to_end: Arc<Notify>,
    /// Who keeps the lists of addresses.
    filter: mpsc::Sender<filter::Asked>,
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
    hours: Hours,
    hooks: Hooks,
    watched: BTreeMap<String, watch::Watched>,
    /// For those who watch folders: as long as somebody else can ask.
    asks: mpsc::WeakSender<Asked>,
    groups: Groups,
    /// What removed torrents have moved.
    gone: Gone,
    routes: Routes,
    /// The routes by which nothing leaves at present, and why.
    shut_ways: BTreeMap<String, Arc<str>>,
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
    moves: Moves,
}

impl Session {
    async fn run(mut self, order: Vec<i64>, mut mail: Mail) {
        self.limit_everything();
        self.open_routes(&mut mail.routes).await;
        self.follow_schedule();
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
            self.move_all();
            let deadline = self.queue.deadline();
            tokio::select! {
                Some((request, file, answer)) = mail.asked.recv() => {
                    // Whoever asked may have gone.
                    match self.hear(request, file).await {
                        Ok(Heard::Done(reply)) => drop(answer.send(Ok(reply))),
                        Ok(Heard::Later(answered)) => {
                            tokio::spawn(async move { drop(answer.send(answered.await)) });
                        }
                        Err(error) => drop(answer.send(Err(error))),
                    }
                }
                Some((request, plan)) = mail.planned.recv() => {
                    // Whoever asked may have gone.
                    drop(plan.send(self.plan(&request)));
                }
                Some((add, answer)) = mail.ways.recv() => {
                    // Whoever asked may have gone.
                    drop(answer.send(self.way_for(&add)));
                }
                Some(changed) = mail.routes.recv() => self.route_changed(changed),
                Some((takeover, answer)) = mail.taken.recv() => {
                    let id = self.take_over(takeover).await;
                    // Whoever asked may have gone.
                    drop(answer.send(id));
                }
                Some((id, run, news)) = mail.heard.recv() => self.learn(id, run, news).await,
                Some(changes) = changes.next() => self.follow(changes).await,
                Some(()) = mail.rooms.recv() => self.batches -= 1,
                Some(stop) = mail.stopped.recv() => break stop,
                () = until(self.started, deadline) => self.tell(queue::Input::Tick),
                _ = look.tick() => {
                    self.follow_schedule();
                    self.tell_progress();
                    self.look_at_ways();
                }
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
            self.pursue(id);
        }
    }

    async fn end(mut self, within: Duration) {
        self.watched.clear();
        self.hooks.stop();
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

    async fn hear(&mut self, request: Request, file: Option<Vec<u8>>) -> Result<Heard, NodeError> {
        let ids = match request {
            Request::Add(add) => vec![self.add(*add, file).await?],
            Request::List { torrents } if torrents.is_empty() => {
                self.entries.keys().copied().collect()
            }
            Request::List { torrents } => self.resolve(&torrents)?,
            Request::Pause { torrents } => self.wish(&torrents, Wish::Paused).await?,
            Request::Resume { torrents } => self.wish(&torrents, Wish::Queued).await?,
            Request::Start { torrents } => self.wish(&torrents, Wish::Forced).await?,
            Request::Remove { torrents, data } => {
                return self.remove(&torrents, data).await.map(Heard::Done);
            }
            Request::Recheck { torrents } => self.recheck(&torrents)?,
            Request::Announce { torrents } => self.announce(&torrents)?,
            Request::Change(change) => self.change(*change).await?,
            Request::Prioritize(told) => self.prioritize(*told).await?,
            Request::Tracker(request) => return self.tracker(request).await.map(Heard::Done),
            Request::Peer(request) => return self.peer(request).await.map(Heard::Done),
            Request::WebSeed(request) => return self.web_seed(request).await.map(Heard::Done),
            Request::Queue { torrents, to } => self.shift(&torrents, to).await?,
            Request::Settings {} => {
                let settings = self.settings.shown();
                return Ok(Heard::Done(Reply::Settings { settings }));
            }
            Request::Set { assignments } => {
                return self.set(&assignments).await.map(Heard::Done);
            }
            Request::Carriers { kind } => return Ok(Heard::Done(self.shown_carriers(kind))),
            Request::SetCarrier { kind, name, rules } => {
                return self.set_carrier(kind, &name, &rules).await.map(Heard::Done);
            }
            Request::RemoveCarriers { kind, names } => {
                return self.remove_carriers(kind, &names).await.map(Heard::Done);
            }
            Request::Route(request) => return self.hear_of_routes(request).await,
            Request::Import(_) => {
                let what = "an import is told of torrent by torrent, to whoever waits for that";
                return Err(NodeError::Usage(what.to_owned()));
            }
            Request::Watch(request) => return self.watch(request).await.map(Heard::Done),
            Request::Hook(request) => return self.hook(request).await.map(Heard::Done),
            Request::Schedule(request) => return self.schedule(request).await.map(Heard::Done),
            Request::Filter(request) => return Ok(self.filter(request)),
            Request::Down {} => {
                self.told_to_end.notify_one();
                return Ok(Heard::Done(Reply::Ending {}));
            }
            Request::Folder(request) => self.place(&request).await?,
            Request::Show(request) => return self.show(request),
        };
        Ok(Heard::Done(self.torrents(&ids)))
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
        let hour = self.hour_message();
        let lines = ids.iter().filter_map(shown).map(|entry| {
            let line = entry.line(self.queue.standing(key(entry.id)));
            Torrent {
                position: positions.get(&entry.id).copied(),
                message: match line.state {
                    State::Queued => line.message.or_else(|| hour.clone()),
                    _ => line.message,
                },
                ..line
            }
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

pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
