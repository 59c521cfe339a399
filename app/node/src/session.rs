//! The session: one owner of all torrents, who hears what a person asks and what the engine comes to, one at a time.
//!
//! Invariant: what a person asked for is in the database before it is done, so that whatever happens in between, the next start goes on
//! with it. A torrent that is wanted to run and neither runs nor has failed is about to be started.

use crate::entry::{Entry, Run, Source};
use crate::message::{self, ErrorKind, Torrent};
use crate::{journal, names};
use shoal_engine::{
    AddMagnet, AddTorrent, Engine, EngineError, FoundTorrent, MagnetError, MagnetHandle,
    TorrentHandle,
};
use shoal_machine::{Machine, Moment};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{InfoHashes, Magnet, Metainfo};
use shoal_session::TorrentKey;
use shoal_session::queue::{self, Queue, Settings as QueueSettings};
use shoal_store::{Database, NewTorrent, StoreError, StoredTorrent, Totals, Wish};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

/// How many requests and news wait for the session.
const MAILBOX: usize = 64;

/// How often it is written down what torrents have moved: what a power failure may cost of it.
const WRITE_TOTALS: Duration = Duration::from_secs(60);

/// How often the queue hears what moves.
const TELL_QUEUE: Duration = Duration::from_secs(2);

/// So many torrents are opened at once: more than disks that hang, fewer than the threads that may wait for a disk.
const BEGIN_AT_ONCE: usize = 64;

/// How soon a torrent is tried again whose name is still in use.
const BEGIN_AGAIN: Duration = Duration::from_millis(200);

/// More torrents than a session has room for.
const MAX_TORRENTS: usize = 100_000;

/// A torrent from peers can be larger than a person's file, by the hashes that they give.
const FOUND: Limits = Limits {
    bytes: 96 * 1024 * 1024,
    ..Limits::LOCAL
};

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
            NodeError::NotFound(_) => ErrorKind::NotFound,
            NodeError::Store(StoreError::Duplicate) => ErrorKind::Duplicate,
            NodeError::Store(_) | NodeError::Stopped => ErrorKind::Failure,
        }
    }
}

/// Something that a person asks of the session.
#[derive(Debug)]
pub enum Ask {
    /// A torrent is to be part of it: what, and the bytes of its .torrent file if there are some.
    Add(message::Add, Option<Vec<u8>>),
    /// What there is; these alone where some are named.
    Show(Option<Vec<String>>),
    /// They are to rest.
    Pause(Vec<String>),
    /// They are to run; those that had failed begin anew.
    Resume(Vec<String>),
    /// They are to be forgotten.
    Remove(Vec<String>),
}

type Answer = Result<Vec<Torrent>, NodeError>;

/// Where a session keeps what is no database.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The folder of completion journals. Must exist.
    pub journals: PathBuf,
    /// How many torrents run at a time.
    pub queue: QueueSettings,
}

/// A running node. Clones speak to the same one.
#[derive(Clone, Debug)]
pub struct Node {
    asks: mpsc::Sender<(Ask, oneshot::Sender<Answer>)>,
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
        let (asks, asked) = mpsc::channel(MAILBOX);
        let (stop, stopped) = mpsc::channel(1);
        let (news, heard) = mpsc::channel(MAILBOX);
        let entries = database.torrents().await?.into_iter();
        let entries: BTreeMap<i64, Entry> =
            entries.map(|stored| (stored.id, revived(stored))).collect();
        let session = Session {
            started: Instant::now(),
            queue: Queue::new(settings.queue),
            engine,
            database,
            settings,
            entries,
            news,
            at_once: Arc::new(Semaphore::new(BEGIN_AT_ONCE)),
        };
        tokio::spawn(session.run(asked, heard, stopped));
        Ok(Node { asks, stop })
    }

    /// Asks for something; the answer shows the torrents that it is about.
    ///
    /// # Errors
    /// It cannot be done, and nothing of it was.
    pub async fn ask(&self, ask: Ask) -> Answer {
        let (answer, answered) = oneshot::channel();
        let asked = self.asks.send((ask, answer)).await;
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

/// What the engine is asked to run.
enum Begin {
    Torrent(Box<AddTorrent>),
    Magnet(Box<AddMagnet>),
}

/// What it runs.
enum Begun {
    Torrent(TorrentHandle),
    Search(MagnetHandle),
}

/// What the engine came to, of one run of one torrent.
enum News {
    /// Everything wanted is there.
    Completed,
    /// It has ended.
    Ended,
    /// The engine has it, or does not take it.
    Begun(Result<Begun, EngineError>),
    /// It could not be started, and now perhaps can.
    Again,
    /// What a magnet link means.
    Found(Box<MagnetHandle>, Result<FoundTorrent, MagnetError>),
}

struct Session {
    started: Instant,
    queue: Queue,
    engine: Engine,
    database: Database,
    settings: NodeSettings,
    entries: BTreeMap<i64, Entry>,
    news: mpsc::Sender<(i64, u64, News)>,
    at_once: Arc<Semaphore>,
}

impl Session {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<(Ask, oneshot::Sender<Answer>)>,
        mut heard: mpsc::Receiver<(i64, u64, News)>,
        mut stopped: mpsc::Receiver<(Duration, oneshot::Sender<()>)>,
    ) {
        let entries = self.entries.values();
        let queued = entries.map(|entry| (entry.id, entry.queued(), entry.failure.is_some()));
        let queued: Vec<(i64, queue::Torrent, bool)> = queued.collect();
        for (id, torrent, failed) in queued {
            self.tell(queue::Input::Added(key(id), torrent));
            if failed {
                self.tell(queue::Input::Failed(key(id)));
            }
        }
        let mut write = tokio::time::interval(WRITE_TOTALS);
        write.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(TELL_QUEUE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (within, done) = loop {
            let deadline = self.queue.deadline();
            tokio::select! {
                Some((ask, answer)) = asked.recv() => {
                    let answered = self.hear(ask).await;
                    // Whoever asked may have gone.
                    drop(answer.send(answered));
                }
                Some((id, run, news)) = heard.recv() => self.learn(id, run, news).await,
                Some(stop) = stopped.recv() => break stop,
                () = until(self.started, deadline) => self.tell(queue::Input::Tick),
                _ = look.tick() => self.tell_progress(),
                _ = write.tick() => self.write_totals(&unwritten(&self.entries)).await,
                else => return,
            }
        };
        self.end(within).await;
        // Whoever waits may have gone.
        done.send(()).ok();
    }

    async fn end(self, within: Duration) {
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

    /// Tells the queue something, and does what it says.
    fn tell(&mut self, input: queue::Input) {
        let since = self.started.elapsed().as_nanos();
        let now = Moment::from_nanos(u64::try_from(since).unwrap_or(u64::MAX));
        self.queue.handle(now, input);
        while let Some(output) = self.queue.poll() {
            match output {
                queue::Output::Start(key, _) => self.turn(key, true),
                queue::Output::Stop(key, _) => self.turn(key, false),
                // Nobody has set a limit.
                queue::Output::LimitReached(..) => {}
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
        let entries = self.entries.values_mut();
        let news = entries.filter_map(|entry| Some((entry.id, entry.progress()?)));
        let news: Vec<(i64, queue::Progress)> = news.collect();
        for (id, progress) in news {
            self.tell(queue::Input::Progress(key(id), progress));
        }
    }

    /// It cannot go on.
    fn fail(&mut self, id: i64, why: String) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.failure = Some(why);
        }
        self.tell(queue::Input::Failed(key(id)));
    }

    async fn hear(&mut self, ask: Ask) -> Answer {
        let ids = match ask {
            Ask::Add(add, file) => vec![self.add(add, file).await?],
            Ask::Show(None) => self.entries.keys().copied().collect(),
            Ask::Show(Some(named)) => names::resolve(&self.entries, &named)?,
            Ask::Pause(named) => self.wish(&named, Wish::Paused).await?,
            Ask::Resume(named) => self.wish(&named, Wish::Queued).await?,
            Ask::Remove(named) => return self.remove(&named).await,
        };
        let shown = |id| self.entries.get(&id).filter(|entry| !entry.removed);
        let lines = ids.into_iter().filter_map(shown);
        Ok(lines.map(Entry::line).collect())
    }

    async fn add(&mut self, add: message::Add, file: Option<Vec<u8>>) -> Result<i64, NodeError> {
        if self.entries.len() >= MAX_TORRENTS {
            let what = format!("there are {MAX_TORRENTS} torrents already; remove some");
            return Err(NodeError::Refused(what));
        }
        let directory = directory(&add.directory)?;
        let (hashes, source) = source(&add, file.as_deref())?;
        if let (Source::Metainfo(metainfo), Some(selection)) = (&source, &add.selection)
            && selection.len() != metainfo.files().len()
        {
            let (files, selected) = (metainfo.files().len(), selection.len());
            let what = format!("the torrent has {files} files, and the selection is of {selected}");
            return Err(NodeError::Usage(what));
        }
        let torrent = NewTorrent {
            info_hashes: hashes,
            file,
            magnet: add.magnet,
            directory,
            wish: if add.paused {
                Wish::Paused
            } else {
                Wish::Queued
            },
            selection: add.selection,
            sequential: add.sequential,
            added_at: unix_now(),
        };
        let id = self.database.add_torrent(&torrent).await?;
        let stored = StoredTorrent {
            id,
            torrent,
            completed_at: None,
            totals: Totals::default(),
        };
        let mut entry = Entry::new(stored, source);
        entry.peers = add.peers;
        let queued = entry.queued();
        self.entries.insert(id, entry);
        self.tell(queue::Input::Added(key(id), queued));
        Ok(id)
    }

    async fn wish(&mut self, named: &[String], wish: Wish) -> Result<Vec<i64>, NodeError> {
        let ids = names::resolve(&self.entries, named)?;
        for &id in &ids {
            self.database.wish(id, wish).await?;
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.wish = wish;
            }
            match wish {
                Wish::Paused => self.tell(queue::Input::Wish(key(id), queue::Wish::Paused)),
                Wish::Queued => {
                    if let Some(entry) = self.entries.get_mut(&id) {
                        entry.failure = None;
                    }
                    self.tell(queue::Input::Well(key(id)));
                    self.tell(queue::Input::Wish(key(id), queue::Wish::Queued));
                }
            }
        }
        Ok(ids)
    }

    /// The answer shows them as they were.
    async fn remove(&mut self, named: &[String]) -> Answer {
        let ids = names::resolve(&self.entries, named)?;
        let mut lines = Vec::new();
        for id in ids {
            self.database.remove_torrent(id).await?;
            if let Some(entry) = self.entries.get_mut(&id) {
                lines.push(entry.line());
                entry.removed = true;
            }
            self.tell(queue::Input::Removed(key(id)));
            self.halt(id);
            self.forget(id);
        }
        Ok(lines)
    }

    /// Drops an entry that is to be forgotten, once it has stopped, with its journal.
    fn forget(&mut self, id: i64) {
        let rests = |entry: &&Entry| entry.removed && matches!(entry.run, Run::Idle);
        let Some(entry) = self.entries.get(&id).filter(rests) else {
            return;
        };
        // The same torrent may have been added again meanwhile, and goes on with the journal.
        let same = |other: &Entry| {
            let name = other.hashes.primary();
            name == entry.hashes.primary() && other.directory == entry.directory
        };
        let mut others = self.entries.values().filter(|other| other.id != id);
        if !others.any(same) {
            drop(fs::remove_file(journal(entry, &self.settings.journals)));
        }
        self.entries.remove(&id);
    }

    /// Stops whatever it does.
    fn halt(&mut self, id: i64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut entry.run, Run::Idle) {
            Run::Searching(task, _) => task.abort(),
            Run::Running(handle, _) => {
                entry.run = Run::Stopping(handle.watch());
                // It hears of it when it has room for messages, and the session does not wait for that.
                tokio::spawn(async move { handle.stop().await });
            }
            other => entry.run = other,
        }
    }

    /// Starts what is wanted to run and does not. What a search has found goes on with its connections.
    fn begin(&mut self, id: i64, search: Option<MagnetHandle>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let rests = matches!(entry.run, Run::Idle) && entry.failure.is_none();
        if !entry.due || entry.removed || !rests {
            return;
        }
        entry.run_number += 1;
        entry.run = Run::Beginning;
        let begin = begin(entry, &self.settings.journals, search);
        let (run, engine, news) = (entry.run_number, self.engine.handle(), self.news.clone());
        let at_once = Arc::clone(&self.at_once);
        // A disk that does not answer keeps this task, and not the session.
        tokio::spawn(async move {
            let Ok(_permit) = at_once.acquire().await else {
                return;
            };
            let begun = match begin {
                Begin::Torrent(add) => engine.add(*add).await.map(Begun::Torrent),
                Begin::Magnet(add) => engine.add_magnet(*add).await.map(Begun::Search),
            };
            drop(news.send((id, run, News::Begun(begun))).await);
        });
    }

    fn begun(&mut self, id: i64, run: u64, begun: Result<Begun, EngineError>) {
        let run = match begun {
            Ok(Begun::Torrent(handle)) => self.follow(id, run, handle),
            Ok(Begun::Search(search)) => self.wait_for(id, run, search),
            Err(error) => {
                // No two torrents of a session share a name: this one's is that of a removed one, which takes leave.
                let later = matches!(error, EngineError::Duplicate);
                if later {
                    self.begin_later(id, run);
                }
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.run = Run::Idle;
                }
                if !later {
                    self.fail(id, error.to_string());
                }
                return self.forget(id);
            }
        };
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.run = run;
        if !entry.due || entry.removed {
            self.halt(id);
            self.forget(id);
        }
    }

    fn begin_later(&self, id: i64, run: u64) {
        let news = self.news.clone();
        tokio::spawn(async move {
            tokio::time::sleep(BEGIN_AGAIN).await;
            drop(news.send((id, run, News::Again)).await);
        });
    }

    fn follow(&self, id: i64, run: u64, handle: TorrentHandle) -> Run {
        let (mut watched, news) = (handle.watch(), self.news.clone());
        tokio::spawn(async move {
            if watched.wait_for(|state| state.complete).await.is_ok() {
                drop(news.send((id, run, News::Completed)).await);
            }
            while watched.changed().await.is_ok() {}
            drop(news.send((id, run, News::Ended)).await);
        });
        let seen = handle.watch();
        Run::Running(handle, seen)
    }

    fn wait_for(&self, id: i64, run: u64, mut search: MagnetHandle) -> Run {
        let (watched, news) = (search.watch(), self.news.clone());
        let task = tokio::spawn(async move {
            let found = search.found().await;
            let found = News::Found(Box::new(search), found);
            drop(news.send((id, run, found)).await);
        });
        Run::Searching(task.abort_handle(), watched)
    }

    async fn learn(&mut self, id: i64, run: u64, news: News) {
        let current = |entry: &&mut Entry| entry.run_number == run;
        let Some(entry) = self.entries.get_mut(&id).filter(current) else {
            return;
        };
        match news {
            News::Completed => {
                let totals = entry.totals();
                // Most that run were complete in an earlier life of the node, which is written down.
                if entry.completed_at.is_none() {
                    let at = unix_now();
                    entry.completed_at = Some(at);
                    if let Err(error) = self.database.completed(id, at).await {
                        tracing::warn!(%error, "a completion is not written down");
                    }
                    self.write_totals(&[(id, totals)]).await;
                }
                self.tell(queue::Input::Work(key(id), queue::Work::Seed));
            }
            News::Ended => {
                entry.ended();
                let (totals, failed) = (entry.totals(), entry.failure.is_some());
                self.write_totals(&[(id, totals)]).await;
                self.forget(id);
                match failed {
                    true => self.tell(queue::Input::Failed(key(id))),
                    false => self.begin(id, None),
                }
            }
            News::Begun(begun) => self.begun(id, run, begun),
            News::Again => self.begin(id, None),
            News::Found(search, found) => {
                entry.run = Run::Idle;
                match found {
                    Ok(found) => self.found(id, *search, found).await,
                    Err(error) => self.fail(id, error.to_string()),
                }
            }
        }
    }

    /// A magnet link has become a torrent.
    async fn found(&mut self, id: i64, search: MagnetHandle, found: FoundTorrent) {
        let hashes = found.metainfo.info_hashes();
        let kept = self.database.found(id, hashes, &found.file).await;
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if let Err(error) = kept {
            return self.fail(id, error.to_string());
        }
        if let (Source::Magnet(magnet), None) = (&entry.source, &entry.selection) {
            entry.selection = selected(magnet, &found.metainfo);
        }
        entry.hashes = hashes;
        entry.source = Source::Metainfo(found.metainfo);
        self.begin(id, Some(search));
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
        Some(at) => tokio::time::sleep_until(started + Duration::from_nanos(at.as_nanos())).await,
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

fn journal(entry: &Entry, journals: &Path) -> PathBuf {
    journals.join(journal::file_name(entry.hashes.primary(), &entry.directory))
}

fn begin(entry: &Entry, journals: &Path, search: Option<MagnetHandle>) -> Begin {
    match &entry.source {
        Source::Metainfo(metainfo) => {
            let mut add = AddTorrent::new(Arc::clone(metainfo), entry.directory.clone());
            add.selection = entry.selection.clone();
            add.sequential = entry.sequential;
            add.peers = entry.peers.clone();
            add.journal = Some(journal(entry, journals));
            add.search = search;
            Begin::Torrent(Box::new(add))
        }
        Source::Magnet(magnet) => Begin::Magnet(Box::new(AddMagnet {
            magnet: (**magnet).clone(),
            peers: entry.peers.clone(),
            trackers: Vec::new(),
            known: None,
        })),
    }
}

/// What the database has, as far as it can be read.
fn revived(stored: StoredTorrent) -> Entry {
    let torrent = &stored.torrent;
    let source = match (&torrent.file, &torrent.magnet) {
        (Some(file), _) => Metainfo::parse(file, FOUND)
            .or_else(|_| Metainfo::parse_v1(file, FOUND))
            .map(|metainfo| Source::Metainfo(Arc::new(metainfo)))
            .map_err(|error| error.to_string()),
        (None, magnet) => Magnet::parse(magnet.as_deref().unwrap_or_default())
            .map(|magnet| Source::Magnet(Box::new(magnet)))
            .map_err(|error| error.to_string()),
    };
    match source {
        Ok(source) => Entry::new(stored, source),
        Err(why) => {
            let nothing = Magnet::new(torrent.info_hashes);
            let mut entry = Entry::new(stored, Source::Magnet(Box::new(nothing)));
            entry.failure = Some(format!(
                "the stored torrent cannot be read: {why}; add it again"
            ));
            entry
        }
    }
}

fn source(add: &message::Add, file: Option<&[u8]>) -> Result<(InfoHashes, Source), NodeError> {
    match (file, &add.magnet) {
        (Some(file), None) => {
            let metainfo = Metainfo::parse(file, Limits::LOCAL);
            let refused = |error| NodeError::Refused(format!("torrent refused: {error}"));
            let metainfo = Arc::new(metainfo.map_err(refused)?);
            Ok((metainfo.info_hashes(), Source::Metainfo(metainfo)))
        }
        (None, Some(link)) => {
            let refused = |error| NodeError::Refused(format!("magnet link refused: {error}"));
            let magnet = Magnet::parse(link).map_err(refused)?;
            Ok((magnet.info_hashes, Source::Magnet(Box::new(magnet))))
        }
        _ => {
            let what = "a torrent is added by its file or by a magnet link, one of them";
            Err(NodeError::Usage(what.to_owned()))
        }
    }
}

/// Without links and `..`, as journals are named by it.
fn directory(text: &str) -> Result<PathBuf, NodeError> {
    let path = Path::new(text);
    let refused = |why: &str| {
        let what = format!("cannot use the folder {text}: {why}");
        Err(NodeError::Refused(what))
    };
    if !path.is_absolute() {
        return refused("write it from the root, as the node has a current folder of its own");
    }
    match path.canonicalize() {
        Ok(path) if path.is_dir() => Ok(path),
        Ok(_) => refused("it is no folder; choose another"),
        Err(error) => refused(&format!("{error}; create it, or choose another")),
    }
}

/// For each file whether the link selects it (BEP 53); `None` is all.
fn selected(magnet: &Magnet, metainfo: &Metainfo) -> Option<Vec<bool>> {
    let ranges = magnet.selected.as_ref()?;
    let files = (0u32..).zip(metainfo.files());
    let wanted = files
        .map(|(index, file)| !file.padding && ranges.iter().any(|range| range.contains(&index)));
    let wanted: Vec<bool> = wanted.collect();
    // A link that selects nothing that there is means nothing by it.
    wanted.contains(&true).then_some(wanted)
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
