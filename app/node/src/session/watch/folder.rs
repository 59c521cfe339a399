//! One watched folder: looked into again and again, as no notification comes from folders on other machines.
//!
//! Invariant: a file is added once as long as it stays as it is, also over the lives of the node: what was given is in the database before it
//! is looked at again. Only a look that shows the folder itself makes anything forgotten, and not the empty one of a volume that is gone.

use super::files::{self, Found, ReadError};
use crate::error::NodeError;
use crate::message::{Add, Afterwards, ErrorKind, RefusedFile, Reply, Request, Watch};
use crate::session::Asked;
use serde::{Deserialize, Serialize};
use shoal_session::watch::{Kind, Stamp, Watch as Machine, links};
use shoal_store::{Database, StoreError};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

/// A file is added at the second look that shows it as it is. An idle folder costs six calls of the system each time.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Refused files that are shown; what the log says of each is said of all.
const MAX_SHOWN: usize = 100;

/// How a folder stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) added: u64,
    pub(super) trouble: Option<String>,
    pub(super) refused: Vec<RefusedFile>,
}

/// A file that was given, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    size: u64,
    modified_ns: i64,
    /// Why it was refused, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl Given {
    fn looks_like(&self, stamp: Stamp) -> bool {
        (self.size, self.modified_ns) == (stamp.size, stamp.modified_ns)
    }
}

/// See the module.
pub(super) struct Folder {
    path: String,
    watch: Watch,
    database: Database,
    asks: mpsc::WeakSender<Asked>,
    machine: Machine,
    /// What the database has of it.
    stored: BTreeMap<PathBuf, Given>,
    /// Why files that were given are refused, until that is stored.
    refused: BTreeMap<PathBuf, String>,
    last: Option<Found>,
    /// How often the same was seen.
    unchanged: u32,
    /// The volume on which there were files.
    device: Option<u64>,
    standing: watch::Sender<Standing>,
}

/// What the files of a folder are called in the database.
fn kind_of(path: &str) -> String {
    format!("watch {path}")
}

/// Nothing is remembered of its files.
pub(super) async fn forget(database: &Database, path: &str) -> Result<(), StoreError> {
    let kind = kind_of(path);
    for name in database.entries(&kind).await?.into_keys() {
        database.set_entry(&kind, &name, None).await?;
    }
    Ok(())
}

impl Folder {
    pub(super) fn new(
        path: String,
        watch: Watch,
        database: Database,
        asks: mpsc::WeakSender<Asked>,
    ) -> (Self, watch::Receiver<Standing>) {
        let (standing, shown) = watch::channel(Standing::default());
        let folder = Folder {
            path,
            watch,
            database,
            asks,
            machine: Machine::default(),
            stored: BTreeMap::new(),
            refused: BTreeMap::new(),
            last: None,
            unchanged: 0,
            device: None,
            standing,
        };
        (folder, shown)
    }

    /// Until it is watched no more.
    pub(super) async fn keep(mut self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Err(error) = self.remembered().await {
            self.trouble(format!("what was added before is not known: {error}"));
            ticks.tick().await;
        }
        loop {
            ticks.tick().await;
            self.look().await;
        }
    }

    async fn remembered(&mut self) -> Result<(), StoreError> {
        let entries = self.database.entries(&kind_of(&self.path)).await?;
        let read = |(name, text): (String, String)| {
            let given: Given = serde_json::from_str(&text).ok()?;
            Some((PathBuf::from(name), given))
        };
        self.stored = entries.into_iter().filter_map(read).collect();
        let given = self.stored.iter().map(|(path, given)| {
            let stamp = Stamp {
                size: given.size,
                modified_ns: given.modified_ns,
            };
            (path.clone(), stamp)
        });
        self.machine = Machine::knowing(given);
        self.show();
        Ok(())
    }

    async fn look(&mut self) {
        let (path, recursive) = (PathBuf::from(&self.path), self.watch.recursive);
        let looking = tokio::task::spawn_blocking(move || files::scan(&path, recursive));
        let found = match looking.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                return self.trouble(format!("it cannot be looked into: {error}"));
            }
            // The node ends.
            Err(_) => return,
        };
        if found.files.is_empty() && self.device != Some(found.device) {
            // Perhaps the place where a volume was.
            return self.well();
        }
        self.device = Some(found.device);
        match found.is_cut {
            true => self.trouble("there is too much in it; not all is looked at".to_owned()),
            false => self.well(),
        }
        let same = self.last.as_ref() == Some(&found);
        self.unchanged = if same {
            self.unchanged.saturating_add(1)
        } else {
            0
        };
        // The first look makes it known, the second one gives it.
        if self.unchanged > 1 {
            return;
        }
        let stamps: BTreeMap<&Path, Stamp> = found
            .files
            .iter()
            .map(|(path, stamp)| (path.as_path(), *stamp))
            .collect();
        for (path, kind) in self.machine.look(found.files.iter().cloned()) {
            if let Some(&stamp) = stamps.get(path.as_path()) {
                self.give(&path, kind, stamp).await;
            }
        }
        self.last = Some(found);
        if let Err(error) = self.remember().await {
            tracing::warn!(folder = %self.path, %error, "what was added is not written down");
            self.unchanged = 0;
        }
    }

    /// Adds what a file says.
    async fn give(&mut self, path: &Path, kind: Kind, stamp: Stamp) {
        let whole = Path::new(&self.path).join(path);
        let (place, log) = (whole.clone(), whole.display().to_string());
        let reading = tokio::task::spawn_blocking(move || files::read(&place, kind));
        let added = match reading.await {
            Ok(Ok(bytes)) => self.add(kind, bytes).await,
            Ok(Err(ReadError::Refused(why))) => Err(Refusal::Final(why)),
            Ok(Err(error)) => Err(Refusal::ForNow(error.to_string())),
            Err(_) => return,
        };
        match added {
            Ok(()) if path.to_str().is_none() && self.watch.then == Afterwards::Keep => {
                let why = "it was added, and its name is no UTF-8, so that this is not remembered; rename it";
                tracing::warn!(file = %log, why);
            }
            Ok(()) => {
                self.refused.remove(path);
                tracing::info!(file = %log, "a file of a watched folder was added");
                self.put_away(whole, stamp).await;
            }
            Err(Refusal::Final(why)) => {
                tracing::warn!(file = %log, why, "a file of a watched folder is refused");
                self.refused.insert(path.to_owned(), why);
            }
            Err(Refusal::ForNow(why)) => {
                if self.refused.insert(path.to_owned(), why.clone()) != Some(why.clone()) {
                    tracing::warn!(file = %log, why, "a file of a watched folder waits");
                }
                self.machine.again(path);
                self.unchanged = 0;
            }
        }
    }

    async fn add(&self, kind: Kind, bytes: Vec<u8>) -> Result<(), Refusal> {
        match kind {
            Kind::Torrent => self.ask(self.watch.add.clone(), Some(bytes)).await,
            Kind::Links => {
                let text = String::from_utf8_lossy(&bytes);
                let links = links(&text).map_err(|error| Refusal::Final(error.to_string()))?;
                let mut first = Ok(());
                for link in links {
                    let add = Add {
                        magnet: Some(link.to_owned()),
                        ..self.watch.add.clone()
                    };
                    match self.ask(add, None).await {
                        Err(Refusal::ForNow(why)) => return Err(Refusal::ForNow(why)),
                        // One that is wrong keeps the others from nothing.
                        Err(refusal) => first = first.and(Err(refusal)),
                        Ok(()) => {}
                    }
                }
                first
            }
        }
    }

    async fn ask(&self, add: Add, file: Option<Vec<u8>>) -> Result<(), Refusal> {
        let stopping = || Refusal::ForNow("the node is stopping".to_owned());
        let asks = self.asks.upgrade().ok_or_else(stopping)?;
        let (answer, answered) = oneshot::channel();
        let request = Request::Add(Box::new(add));
        let asked = asks.send((request, file, answer)).await;
        asked.map_err(|_| stopping())?;
        match answered.await.map_err(|_| stopping())? {
            Ok(Reply::Torrents { .. }) => {
                self.standing.send_modify(|standing| standing.added += 1);
                Ok(())
            }
            Ok(_) => Ok(()),
            // Whoever was added before the last life of the node ended, or by somebody else, is where it should be.
            Err(NodeError::Store(StoreError::Duplicate)) => Ok(()),
            Err(error) => match error.kind() {
                ErrorKind::Failure => Err(Refusal::ForNow(error.to_string())),
                _ => Err(Refusal::Final(error.to_string())),
            },
        }
    }

    /// What becomes of a file that was added. Where that fails it stays, and is not added again.
    async fn put_away(&self, path: PathBuf, stamp: Stamp) {
        let then = self.watch.then;
        let log = path.display().to_string();
        let work = move || match then {
            Afterwards::Keep => Ok(()),
            Afterwards::Delete => files::delete(&path, stamp),
            Afterwards::Rename => files::rename(&path, stamp),
        };
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = done {
            tracing::warn!(file = %log, %error, "a file that was added stays as it is");
        }
    }

    /// Writes down what has changed of what was given.
    async fn remember(&mut self) -> Result<(), StoreError> {
        let given = self.machine.given().map(|(path, stamp)| {
            let before = self.stored.get(path);
            let same = before.filter(|before| before.looks_like(stamp));
            let refused = self.refused.get(path);
            let refused = refused.or_else(|| same?.refused.as_ref());
            let given = Given {
                size: stamp.size,
                modified_ns: stamp.modified_ns,
                refused: refused.cloned(),
            };
            (path.to_owned(), given)
        });
        let given: BTreeMap<PathBuf, Given> = given.collect();
        let kind = kind_of(&self.path);
        for (path, given) in &given {
            if let (Some(name), true) = (path.to_str(), self.stored.get(path) != Some(given)) {
                let text = serde_json::to_string(given);
                let text = text.map_err(|error| StoreError::Damaged(error.to_string()))?;
                self.database.set_entry(&kind, name, Some(&text)).await?;
            }
        }
        for path in self.stored.keys() {
            if let (Some(name), false) = (path.to_str(), given.contains_key(path)) {
                self.database.set_entry(&kind, name, None).await?;
            }
        }
        let waits = |path: &PathBuf| !given.contains_key(path);
        self.refused.retain(|path, _| {
            waits(path)
                && self
                    .last
                    .as_ref()
                    .is_some_and(|last| last.files.iter().any(|(there, _)| there == path))
        });
        self.stored = given;
        self.show();
        Ok(())
    }

    fn show(&self) {
        let stored = self.stored.iter();
        let stored = stored.filter_map(|(path, given)| Some((path, given.refused.as_ref()?)));
        let refused = stored.chain(&self.refused).take(MAX_SHOWN);
        let refused = refused.map(|(path, why)| RefusedFile {
            path: path.to_string_lossy().into_owned(),
            why: why.clone(),
        });
        let refused = refused.collect();
        self.standing
            .send_modify(|standing| standing.refused = refused);
    }

    fn trouble(&self, why: String) {
        let known = self.standing.borrow().trouble.as_ref() == Some(&why);
        if !known {
            tracing::warn!(folder = %self.path, why, "a watched folder");
            self.standing
                .send_modify(|standing| standing.trouble = Some(why));
        }
    }

    fn well(&self) {
        if self.standing.borrow().trouble.is_some() {
            tracing::info!(folder = %self.path, "a watched folder is looked into again");
            self.standing
                .send_modify(|standing| standing.trouble = None);
        }
    }
}

/// Why a file was not added.
enum Refusal {
    /// It will be no other as long as it stays as it is.
    Final(String),
    /// It may be over by itself.
    ForNow(String),
}
