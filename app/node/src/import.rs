//! Taking over another client's session, torrent by torrent: read, taken over by the engine, and told to the session, which remembers it.
//!
//! Invariant: nothing of the other client's session changes. A torrent whose import was cut off is imported by the next one: what the engine
//! has written down of it by then holds, and until the session has it, it is not there.

mod torrent;

use crate::entry::Source;
use crate::error::NodeError;
use crate::journal;
use crate::message::{
    Import, ImportClient, ImportNews, ImportOutcome, ImportedTorrent, MovedFolder,
};
use crate::session::unix_now;
use shoal_engine::{AddTorrent, EngineError, EngineHandle};
use shoal_import::{Client, Imported, Torrent, Unread};
use shoal_metainfo::{FileIndex, Metainfo};
use shoal_session::rules::Told;
use shoal_storage::{Adopted, Claims, StorageError};
use shoal_store::{Database, NewTorrent, Past, StoreError, Wish};
use std::collections::VecDeque;
use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// So many torrents are taken over at once: what takes long is that the disk writes down what it has of them.
const AT_ONCE: usize = 8;

/// More folders than a person moves.
const MAX_MOVED: usize = 64;

/// More torrents than a person names.
const MAX_ONLY: usize = 1_000;

/// Fewer digits of an info hash are too easily another torrent's.
const LEAST_HASH_DIGITS: usize = 8;

/// A torrent that is to be part of the session, and what it came to elsewhere.
pub(crate) struct Takeover {
    pub(crate) torrent: NewTorrent,
    pub(crate) past: Past,
    pub(crate) source: Source,
}

/// What waits for the session to take it over, and where its number goes.
pub(crate) type Taking = (Takeover, oneshot::Sender<Result<i64, NodeError>>);

/// Takes over sessions. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Importer {
    engine: EngineHandle,
    database: Database,
    journals: PathBuf,
    takings: mpsc::Sender<Taking>,
    /// One import goes on at a time.
    turn: Arc<Semaphore>,
}

/// What is to be imported, understood.
struct Order {
    client: Client,
    folder: PathBuf,
    dry_run: bool,
    paused: bool,
    moved: Vec<(PathBuf, PathBuf)>,
    only: Vec<String>,
}

/// What reading a session comes to.
enum Read {
    /// How many torrents it has, and what a person should know.
    Opened(Result<(usize, Vec<String>), NodeError>),
    Torrent(Box<Result<Imported, Unread>>),
}

/// What is to be done with one torrent.
enum Judged {
    /// It is not meant.
    LeftOut,
    /// Nothing.
    Settled(Box<ImportedTorrent>),
    /// The session is to have it.
    Ready(Box<Takeover>, Box<ImportedTorrent>),
    /// Nothing more can be done with any.
    Failed(NodeError),
}

/// How many came to what.
#[derive(Default)]
struct Counts {
    imported: usize,
    already: usize,
    refused: usize,
    left_out: usize,
}

impl fmt::Debug for Importer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Importer").finish_non_exhaustive()
    }
}

impl Importer {
    /// Of an engine and a session that hears of `takings`.
    pub(crate) fn new(
        engine: EngineHandle,
        database: Database,
        journals: PathBuf,
        takings: mpsc::Sender<Taking>,
    ) -> Self {
        Importer {
            engine,
            database,
            journals,
            takings,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Imports, and tells of it. Ends early where nobody hears of it any more: what was imported by then stays.
    ///
    /// # Errors
    /// It makes no sense, there is no session, or its client runs.
    pub(crate) async fn run(
        &self,
        import: Import,
        news: mpsc::Sender<ImportNews>,
    ) -> Result<(), NodeError> {
        let turn = Arc::clone(&self.turn).try_acquire_owned();
        let _turn = turn.map_err(|_| {
            NodeError::Usage("another import is going on; wait for its end".to_owned())
        })?;
        // All of this looks at a disk.
        let order = tokio::task::spawn_blocking(move || Order::of(import)).await;
        let order = Arc::new(order.map_err(|_| NodeError::Stopped)??);
        let (sender, mut read) = mpsc::channel(1);
        let reading = Arc::clone(&order);
        tokio::task::spawn_blocking(move || reading.read_all(&sender));
        let Some(Read::Opened(opened)) = read.recv().await else {
            return Err(NodeError::Stopped);
        };
        let (torrents, warnings) = opened?;
        let begun = ImportNews::Begun {
            client: order.client.to_string(),
            folder: order.folder.to_string_lossy().into_owned(),
            torrents,
            dry_run: order.dry_run,
            warnings,
        };
        if news.send(begun).await.is_err() {
            return Ok(());
        }
        self.import_all(&order, &mut read, &news).await
    }

    /// Takes over several at once, and has the session take them in their order.
    async fn import_all(
        &self,
        order: &Arc<Order>,
        read: &mut mpsc::Receiver<Read>,
        news: &mpsc::Sender<ImportNews>,
    ) -> Result<(), NodeError> {
        let mut judging: VecDeque<JoinHandle<Judged>> = VecDeque::new();
        let mut numbers = 1..;
        let mut counts = Counts::default();
        let mut is_read = false;
        loop {
            while !is_read && judging.len() < AT_ONCE {
                match read.recv().await {
                    Some(Read::Torrent(torrent)) => {
                        let (importer, order) = (self.clone(), Arc::clone(order));
                        let number = numbers.next().unwrap_or(usize::MAX);
                        let judge = async move { importer.judge(&order, *torrent, number).await };
                        judging.push_back(tokio::spawn(judge));
                    }
                    Some(Read::Opened(_)) => {}
                    None => is_read = true,
                }
            }
            let Some(next) = judging.pop_front() else {
                break;
            };
            let judged = next.await.map_err(|_| NodeError::Stopped)?;
            let told = match judged {
                Judged::LeftOut => {
                    counts.left_out += 1;
                    continue;
                }
                Judged::Settled(told) => told,
                Judged::Failed(error) => return Err(error),
                Judged::Ready(takeover, told) => self.settle(*takeover, told).await?,
            };
            counts.count(told.outcome);
            if news.send(ImportNews::Torrent(told)).await.is_err() {
                return Ok(());
            }
        }
        // Whoever asked may have gone.
        drop(news.send(counts.told()).await);
        Ok(())
    }

    /// Has the session take it.
    async fn settle(
        &self,
        takeover: Takeover,
        mut told: Box<ImportedTorrent>,
    ) -> Result<Box<ImportedTorrent>, NodeError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.takings.send((takeover, answer)).await;
        sent.map_err(|_| NodeError::Stopped)?;
        match answered.await.map_err(|_| NodeError::Stopped)? {
            Ok(id) => {
                told.outcome = ImportOutcome::Imported;
                told.id = Some(id);
            }
            // Somebody added it just now.
            Err(NodeError::Store(StoreError::Duplicate)) => told.outcome = ImportOutcome::Already,
            Err(error @ (NodeError::Stopped | NodeError::Store(_))) => return Err(error),
            Err(error) => told.message = Some(error.to_string()),
        }
        Ok(told)
    }

    async fn judge(&self, order: &Order, read: Result<Imported, Unread>, number: usize) -> Judged {
        let imported = match read {
            Ok(imported) => imported,
            // Which it is is not known, so that it is not what was named.
            Err(_) if !order.only.is_empty() => return Judged::LeftOut,
            Err(unread) => return Judged::Settled(Box::new(refused(number, &unread))),
        };
        if !order.means(&imported) {
            return Judged::LeftOut;
        }
        let mut told = Box::new(described(number, &imported));
        match self.database.named(imported.info_hashes()).await {
            Ok(None) => {}
            Ok(id) => {
                told.outcome = ImportOutcome::Already;
                told.id = id;
                return Judged::Settled(told);
            }
            Err(error) => return Judged::Failed(error.into()),
        }
        match self.take_over(order, imported, &mut told).await {
            Ok(takeover) if !order.dry_run => Judged::Ready(Box::new(takeover), told),
            Ok(_) => {
                told.outcome = ImportOutcome::Importable;
                Judged::Settled(told)
            }
            Err(why) => {
                told.message = Some(why);
                Judged::Settled(told)
            }
        }
    }

    /// Has the engine take over its content, and says what the session is to have. What a person is to know of it goes to `told`.
    async fn take_over(
        &self,
        order: &Order,
        mut imported: Imported,
        told: &mut ImportedTorrent,
    ) -> Result<Takeover, String> {
        let now = unix_now();
        if let Some((bytes, metainfo)) = torrent::with_trackers(&imported) {
            let metainfo = Arc::new(metainfo);
            imported.torrent = Torrent::File { bytes, metainfo };
            imported.trackers = None;
        }
        let mut options = torrent::options(&imported, &mut told.notes);
        let selection = imported
            .metainfo()
            .and_then(|metainfo| torrent::selection(&imported, metainfo));
        let (directory, past) = match &imported.torrent {
            Torrent::File { metainfo, .. } => {
                let claims = torrent::claims(&imported, metainfo);
                let content = AddTorrent {
                    renamed: torrent::renamed(&imported)
                        .into_iter()
                        .map(|(file, parts)| (FileIndex(file), parts.iter().collect()))
                        .collect(),
                    ..AddTorrent::new(Arc::clone(metainfo), PathBuf::new())
                };
                let content = match &selection {
                    Some(wanted) => content.select(wanted),
                    None => content,
                };
                let (directory, adopted) = self.adopt(order, &imported, content, &claims).await?;
                tell(told, metainfo, &claims, adopted.as_ref());
                let (selection, adopted) = (selection.as_deref(), adopted.as_ref());
                let past = torrent::past(&imported, metainfo, selection, &claims, adopted, now);
                (directory, past)
            }
            Torrent::Magnet(_) => {
                let folders = torrent::folders(&imported, &order.moved);
                (first_of(folders).await?, torrent::past_of_link(&imported))
            }
        };
        told.directory = Some(directory.to_string_lossy().into_owned());
        // It stays where it is, whatever its category says, or goes where it was to go.
        let goes_to = torrent::folders(&imported, &order.moved).into_iter().nth(1);
        let goes_to = goes_to.filter(|folder| *folder != directory && past.completed_at.is_none());
        options.rules.folder = directory.to_str().map(str::to_owned);
        if let Some(folder) = goes_to {
            options.rules.incomplete = options
                .rules
                .folder
                .take()
                .map_or(Told::Inherit, Told::Some);
            options.rules.folder = folder.to_str().map(str::to_owned);
        }
        let (info_hashes, sequential) = (imported.info_hashes(), imported.sequential);
        let wish = match order.paused {
            true => Wish::Paused,
            false => torrent::wish(&imported),
        };
        let added_at = imported.added_at.unwrap_or(now);
        let (file, magnet, source) = match imported.torrent {
            Torrent::File { bytes, metainfo } => (Some(bytes), None, Source::Metainfo(metainfo)),
            Torrent::Magnet(magnet) => (None, Some(magnet.to_string()), Source::Magnet(magnet)),
        };
        let torrent = NewTorrent {
            info_hashes,
            file,
            magnet,
            directory,
            wish,
            selection,
            sequential,
            added_at,
            options,
        };
        Ok(Takeover {
            torrent,
            past,
            source,
        })
    }

    /// Takes over the content where it is: in the first folder that has something of what the client verified.
    async fn adopt(
        &self,
        order: &Order,
        imported: &Imported,
        mut content: AddTorrent,
        claims: &Claims,
    ) -> Result<(PathBuf, Option<Adopted>), String> {
        let mut why = None;
        for folder in torrent::folders(imported, &order.moved) {
            let directory = match canonical(folder).await {
                Ok(directory) => directory,
                Err(error) => {
                    why.get_or_insert(error);
                    continue;
                }
            };
            let name = journal::file_name(content.metainfo.info_hashes().primary(), &directory);
            content.journal = Some(self.journals.join(name));
            content.directory.clone_from(&directory);
            let adopted = match order.dry_run {
                true => self.engine.survey_content(&content, claims.clone()).await,
                false => self.engine.adopt_content(&content, claims.clone()).await,
            };
            match adopted {
                Ok(adopted) => return Ok((directory, adopted)),
                Err(error @ EngineError::Storage(StorageError::Gone(_))) => {
                    why.get_or_insert(error.to_string());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(why.unwrap_or_else(no_folder))
    }
}

impl Order {
    fn of(import: Import) -> Result<Self, NodeError> {
        let usage = |what: String| Err(NodeError::Usage(what));
        let client = match import.client {
            ImportClient::QBittorrent => Client::QBittorrent,
            ImportClient::Transmission => Client::Transmission,
            ImportClient::RTorrent => Client::RTorrent,
            ImportClient::Deluge => Client::Deluge,
        };
        let folder = match import.folder {
            Some(folder) => PathBuf::from(folder),
            None => usual_folder(client)?,
        };
        if !folder.is_absolute() {
            let shown = folder.display();
            return usage(format!("write the folder {shown} from the root"));
        }
        if import.map.len() > MAX_MOVED || import.only.len() > MAX_ONLY {
            let what = format!("{MAX_MOVED} folders and {MAX_ONLY} torrents are the most");
            return usage(what);
        }
        let mut moved = Vec::new();
        for MovedFolder { old, new } in import.map {
            if old.is_empty() || !Path::new(&new).is_absolute() {
                let what = format!("{old:?}={new:?} moves nothing; write both from the root");
                return usage(what);
            }
            moved.push((PathBuf::from(old), PathBuf::from(new)));
        }
        Ok(Order {
            client,
            folder,
            dry_run: import.dry_run,
            paused: import.paused,
            moved,
            only: import.only,
        })
    }

    /// What a person should know, where the client runs or may; an error where it does and this is in earnest.
    fn warnings(&self) -> Result<Vec<String>, NodeError> {
        let running = match self.client.rests(&self.folder) {
            Ok(()) if self.client.is_seen_running() => return Ok(Vec::new()),
            Ok(()) => format!(
                "nothing tells whether {} runs: quit it before, as two programs would write the same files",
                self.client
            ),
            Err(error) if self.dry_run => error.to_string(),
            Err(error) => return Err(NodeError::Refused(error.to_string())),
        };
        Ok(vec![running])
    }

    /// Reads the session until nobody wants more of it. Blocks on the disk.
    fn read_all(&self, read: &mpsc::Sender<Read>) {
        let session = shoal_import::Session::open(self.client, &self.folder);
        let session = session.map_err(|error| NodeError::Refused(error.to_string()));
        let opened = session.and_then(|session| Ok((self.warnings()?, session)));
        let (warnings, session) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // Who asked is waiting for exactly this.
                drop(read.blocking_send(Read::Opened(Err(error))));
                return;
            }
        };
        let opened = Read::Opened(Ok((session.len(), warnings)));
        if read.blocking_send(opened).is_err() {
            return;
        }
        for torrent in session {
            if read
                .blocking_send(Read::Torrent(Box::new(torrent)))
                .is_err()
            {
                return;
            }
        }
    }

    fn means(&self, imported: &Imported) -> bool {
        let hashes = imported.info_hashes();
        let v1 = hashes.v1().map(|hash| hash.to_string());
        let v2 = hashes.v2().map(|hash| hash.to_string());
        let names: Vec<String> = v1.into_iter().chain(v2).collect();
        let is_meant = |word: &String| match word.split_once(':') {
            Some(("category", name)) => imported.category.as_deref() == Some(name),
            Some(("tag", name)) => imported.tags.iter().any(|tag| tag == name),
            _ => {
                let digits = word.to_ascii_lowercase();
                let is_hash = digits.len() >= LEAST_HASH_DIGITS;
                is_hash && names.iter().any(|name| name.starts_with(&digits))
                    || torrent::shown_name(imported) == *word
            }
        };
        self.only.is_empty() || self.only.iter().any(is_meant)
    }
}

impl Counts {
    fn count(&mut self, outcome: ImportOutcome) {
        match outcome {
            ImportOutcome::Imported | ImportOutcome::Importable => self.imported += 1,
            ImportOutcome::Already => self.already += 1,
            ImportOutcome::Refused => self.refused += 1,
        }
    }

    fn told(&self) -> ImportNews {
        ImportNews::Done {
            imported: self.imported,
            already: self.already,
            refused: self.refused,
            left_out: self.left_out,
        }
    }
}

fn usual_folder(client: Client) -> Result<PathBuf, NodeError> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|home| home.is_absolute());
    let found = home.and_then(|home| client.usual_folder(&home));
    found.ok_or_else(|| {
        let what = format!("no session of {client} is where it usually has one; name its folder");
        NodeError::Refused(what)
    })
}

/// Without links and `..`, as journals are named by it.
async fn canonical(folder: PathBuf) -> Result<PathBuf, String> {
    let shown = folder.display().to_string();
    let why =
        |what: &str| format!("its folder {shown} {what}: bring it back, or say where it is by now");
    if !folder.is_absolute() {
        return Err(why("is none of this system"));
    }
    // A disk may not answer.
    let looked = tokio::task::spawn_blocking(move || {
        let folder = folder.canonicalize()?;
        let is_folder = folder.is_dir();
        Ok::<_, io::Error>((folder, is_folder))
    });
    match looked.await {
        Ok(Ok((folder, true))) => Ok(folder),
        Ok(Ok(_)) => Err(why("is no folder")),
        Ok(Err(error)) => Err(why(&format!("cannot be used ({error})"))),
        Err(_) => Err(why("cannot be looked at")),
    }
}

async fn first_of(folders: Vec<PathBuf>) -> Result<PathBuf, String> {
    let mut why = None;
    for folder in folders {
        match canonical(folder).await {
            Ok(folder) => return Ok(folder),
            Err(error) => drop(why.get_or_insert(error)),
        }
    }
    Err(why.unwrap_or_else(no_folder))
}

fn no_folder() -> String {
    "the client does not say where its content is: add the torrent by hand".to_owned()
}

fn described(number: usize, imported: &Imported) -> ImportedTorrent {
    ImportedTorrent {
        info_hash: Some(imported.info_hashes().primary().to_string()),
        name: torrent::shown_name(imported),
        pieces: imported
            .metainfo()
            .map_or(0, |metainfo| metainfo.layout().piece_count()),
        notes: torrent::notes(imported),
        ..nothing(number)
    }
}

fn refused(number: usize, unread: &Unread) -> ImportedTorrent {
    ImportedTorrent {
        info_hash: unread.torrent.clone(),
        name: unread.path.to_string_lossy().into_owned(),
        message: Some(unread.fault.to_string()),
        ..nothing(number)
    }
}

/// What is told of one of which nothing is known.
const fn nothing(number: usize) -> ImportedTorrent {
    ImportedTorrent {
        number,
        info_hash: None,
        name: String::new(),
        directory: None,
        outcome: ImportOutcome::Refused,
        id: None,
        message: None,
        pieces: 0,
        verified_pieces: 0,
        suspect_pieces: 0,
        lost_pieces: 0,
        changed_files: 0,
        missing_files: 0,
        files: Vec::new(),
        notes: Vec::new(),
    }
}

/// What became of the client's word for its pieces.
fn tell(
    told: &mut ImportedTorrent,
    metainfo: &Metainfo,
    claims: &Claims,
    adopted: Option<&Adopted>,
) {
    let Some(adopted) = adopted else {
        told.notes
            .push("what is there was known here before, and that holds".to_owned());
        return;
    };
    told.verified_pieces = adopted.verified;
    told.suspect_pieces = adopted.suspect;
    told.lost_pieces = adopted.lost;
    told.changed_files = adopted.changed_files;
    told.missing_files = adopted.missing_files;
    let files = adopted.named.iter();
    told.files = files
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let is_partly_there = claims.verified.count() < metainfo.layout().piece_count();
    if is_partly_there && claims.doubtful.is_clear() && !claims.verified.is_clear() {
        told.notes
            .push("pieces of which it has only a part are fetched whole".to_owned());
    }
}
