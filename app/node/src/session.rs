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
mod merging;
mod moving;
mod node;
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
use crate::error::NodeError;
use crate::import::Taking;
use crate::message::{self, FolderRequest, Reply, Request, State, Torrent};
use crate::names;
use crate::settings::Settings;
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
use shoal_store::{Database, ShareState, Totals, Wish};
use shoal_transport::{RateLimits, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

pub use node::{Node, NodeSettings};
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
