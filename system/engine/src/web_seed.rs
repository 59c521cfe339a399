//! The driver of one HTTP origin: hands what happens to its [`WebSession`], makes the requests that it asks for, and moves what
//! they bring into buffers leased from storage.
//!
//! Invariant: the session's outputs are drained before its next input; a block is written only where the session says so, at
//! that moment.

mod fetch;

use crate::clock::Clock;
use crate::command::CommandError;
use crate::inbox::Sender;
use crate::mailbox::Mailbox;
use crate::torrent::ToTorrent;
pub(crate) use fetch::CHANGED;
use fetch::Progress;
use shoal_machine::Machine;
use shoal_metainfo::metainfo::http_seed_url;
use shoal_metainfo::{FileIndex, Layout, Metainfo};
use shoal_storage::{BlockBuffer, Content, Storage, Stored};
use shoal_swarm::web_session::{
    FetchId, FileKind, Form, Input, Output, Part, WebConfig, WebFile, WebSession,
};
use shoal_swarm::{CloseReason, FromPeer, PeerKey, ToPeer};
use shoal_transport::{OriginClass, TorrentLimiter, Transport};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use url::Url;

/// Blocks that wait to be written: more would only be memory.
const MAX_WAITING: usize = 16;

/// What an origin is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// The files below a URL, or the one file at it (BEP 19).
    Files(Url),
    /// Pieces, of a script (BEP 17).
    Script(Url),
    /// The files at URLs of their own.
    Mirror(Mirror),
}

/// An origin that has each file of a content at a URL of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mirror {
    /// Of each file of the metainfo; `None` where it does not have the file.
    pub urls: Vec<Option<Url>>,
    /// Which version of the file is meant, where there is only one file and the origin says which it has.
    pub version: Option<Version>,
}

/// What an origin calls a version of a file (RFC 9110 section 8.8).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

impl Version {
    /// What a request for a range may depend on: a weak tag may stay the same where bytes differ.
    fn validator(&self) -> Option<String> {
        let strong = |tag: &&String| !tag.starts_with("W/");
        let etag = self.etag.as_ref().filter(strong);
        etag.or(self.last_modified.as_ref()).cloned()
    }

    /// Whether a reply that says this is of another version. What it does not say is no difference.
    fn differs(&self, etag: Option<&String>, last_modified: Option<&String>) -> bool {
        let differ = |ours: &Option<String>, theirs: Option<&String>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours != theirs,
            _ => false,
        };
        match (&self.etag, etag) {
            (Some(_), Some(_)) => differ(&self.etag, etag),
            _ => differ(&self.last_modified, last_modified),
        }
    }
}

/// An origin, and on whose word it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) asked: Asked,
    pub(crate) origin: OriginClass,
}

/// The most web seeds that a torrent has: more than any names.
pub(crate) const MAX_WEB_SEEDS: usize = 1_000;

/// One more, if it is not there.
///
/// # Errors
/// Where there are too many.
pub(crate) fn add(places: &mut Vec<Place>, place: Place) -> Result<(), CommandError> {
    if places.iter().any(|other| other.asked == place.asked) {
        return Ok(());
    }
    if places.len() >= MAX_WEB_SEEDS {
        return Err(CommandError::TooManyWebSeeds(places.len()));
    }
    places.push(place);
    Ok(())
}

impl Place {
    /// One that a person names (BEP 19).
    pub(crate) fn named(url: Url) -> Self {
        Place {
            asked: Asked::Files(url),
            origin: OriginClass::User,
        }
    }

    /// Whether it is the one at this URL, of either kind.
    pub(crate) fn is_at(&self, url: &Url) -> bool {
        match &self.asked {
            Asked::Files(own) | Asked::Script(own) => own == url,
            Asked::Mirror(_) => false,
        }
    }

    /// Scheme, host and port: the rest of a URL may hold a secret.
    pub(crate) fn site(&self) -> String {
        let url = match &self.asked {
            Asked::Files(url) | Asked::Script(url) => Some(url),
            Asked::Mirror(mirror) => mirror.urls.iter().flatten().next(),
        };
        url.map_or_else(String::new, |url| url.origin().ascii_serialization())
    }

    fn form(&self) -> Form {
        match &self.asked {
            Asked::Script(_) => Form::Script,
            Asked::Files(_) | Asked::Mirror(_) => Form::Files,
        }
    }

    fn version(&self) -> Option<&Version> {
        match &self.asked {
            Asked::Mirror(mirror) => mirror.version.as_ref(),
            _ => None,
        }
    }

    fn file_url(&self, metainfo: &Metainfo, file: FileIndex) -> Option<Url> {
        match &self.asked {
            Asked::Files(base) => metainfo.web_seed_url(base, file),
            Asked::Mirror(mirror) => mirror.urls.get(file.get()).cloned().flatten(),
            Asked::Script(_) => None,
        }
    }

    /// What is requested for a part; `None` where no URL can name it.
    fn url(&self, metainfo: &Metainfo, part: &Part) -> Option<Url> {
        match (part, &self.asked) {
            (Part::File { file, .. }, _) => self.file_url(metainfo, *file),
            (
                Part::Piece {
                    piece,
                    range,
                    whole,
                },
                Asked::Script(base),
            ) => {
                let swarm = metainfo.info_hashes().primary();
                Some(http_seed_url(base, swarm, *piece, range, *whole))
            }
            _ => None,
        }
    }

    /// What its session is made of.
    pub(crate) fn config(&self, metainfo: &Metainfo, layout: &Arc<Layout>, seed: u64) -> WebConfig {
        let files = (0..).zip(metainfo.files()).map(|(index, file)| {
            let named = || self.file_url(metainfo, FileIndex(index)).is_some();
            let kind = if file.padding {
                FileKind::Padding
            } else if file.length == 0 || named() {
                FileKind::Content
            } else {
                FileKind::Unnamed
            };
            let range = file.range();
            WebFile { range, kind }
        });
        WebConfig {
            layout: Arc::clone(layout),
            files: files.collect(),
            form: self.form(),
            seed,
        }
    }
}

/// What an origin needs besides its session.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) storage: Storage,
    pub(crate) transport: Transport,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) content: Content,
    pub(crate) limiter: TorrentLimiter,
    pub(crate) torrent: Sender<ToTorrent>,
}

/// One origin.
pub(crate) struct WebTask {
    key: PeerKey,
    place: Place,
    session: WebSession,
    mailbox: Mailbox<ToPeer>,
    around: Surroundings,
    fetches: JoinSet<()>,
    running: BTreeMap<FetchId, AbortHandle>,
    /// For fetches to come.
    sender: mpsc::Sender<(FetchId, Progress)>,
    progress: mpsc::Receiver<(FetchId, Progress)>,
    /// The bytes of the block of which the session hears.
    arriving: Option<BlockBuffer>,
    /// What the torrent is to be told at the end of the turn.
    up: Vec<FromPeer>,
    /// What a person may want to know, where that has changed.
    news: Option<String>,
    closed: bool,
}

enum Woken {
    Mail(Vec<ToPeer>),
    Progress(FetchId, Progress),
    Deadline,
}

impl WebTask {
    pub(crate) fn new(
        key: PeerKey,
        place: Place,
        config: WebConfig,
        mailbox: Mailbox<ToPeer>,
        around: Surroundings,
    ) -> Self {
        let (sender, progress) = mpsc::channel(MAX_WAITING);
        WebTask {
            key,
            place,
            session: WebSession::new(config, around.clock.now()),
            mailbox,
            around,
            fetches: JoinSet::new(),
            running: BTreeMap::new(),
            sender,
            progress,
            arriving: None,
            up: Vec::new(),
            news: None,
            closed: false,
        }
    }

    /// Runs until the torrent or the session has had enough. Fetches under way end with it.
    pub(crate) async fn run(mut self) {
        self.drain();
        loop {
            self.report().await;
            if self.closed {
                return;
            }
            match self.wait().await {
                Woken::Mail(mail) => mail
                    .into_iter()
                    .for_each(|message| self.handle(Input::Torrent(message))),
                Woken::Progress(id, progress) => self.on_progress(id, progress),
                Woken::Deadline => self.handle(Input::Tick),
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let deadline = self.session.deadline();
        let mut mail = Vec::new();
        tokio::select! {
            () = self.mailbox.collect(&mut mail) => Woken::Mail(mail),
            Some((id, progress)) = self.progress.recv() => Woken::Progress(id, progress),
            () = self.around.clock.sleep_until(deadline) => Woken::Deadline,
        }
    }

    fn on_progress(&mut self, fetch: FetchId, progress: Progress) {
        match progress {
            Progress::Block(block, buffer) => {
                self.arriving = Some(buffer);
                self.handle(Input::Block { fetch, block });
                self.arriving = None;
            }
            Progress::Ended(failure) => {
                self.running.remove(&fetch);
                // What has ended is not kept until all have.
                while self.fetches.try_join_next().is_some() {}
                let failure = failure.map(|failed| {
                    tracing::debug!(peer = self.key.0, reason = failed.words, "a fetch failed");
                    self.news = Some(failed.words);
                    (failed.failure, failed.file)
                });
                self.handle(Input::Ended { fetch, failure });
            }
        }
    }

    /// One input and all its outputs, and the inputs that are their answers.
    fn handle(&mut self, input: Input) {
        self.session.handle(self.around.clock.now(), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll() {
            if let Some(answer) = self.carry_out(output) {
                self.session.handle(self.around.clock.now(), answer);
            }
        }
    }

    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Fetch(fetch) => {
                let id = fetch.id;
                let job = fetch::Job {
                    place: self.place.clone(),
                    around: self.around.clone(),
                    sender: self.sender.clone(),
                };
                let handle = self.fetches.spawn(job.run(fetch));
                self.running.insert(id, handle);
            }
            Output::Cancel(id) => {
                if let Some(handle) = self.running.remove(&id) {
                    handle.abort();
                }
            }
            Output::Store(block) => {
                let buffer = self.arriving.take()?;
                return Some(match self.around.content.write(block, buffer) {
                    Stored::Kept => Input::BlockStored(block),
                    Stored::Duplicate | Stored::Refused => Input::BlockKnown(block),
                });
            }
            Output::Discard(_) => self.arriving = None,
            Output::Torrent(message) => self.up.push(message),
            Output::Close(reason) => {
                tracing::debug!(peer = self.key.0, ?reason, "a web seed is done with");
                self.news = words(&reason);
                self.closed = true;
            }
        }
        None
    }

    /// Tells the torrent what there is to tell. May wait; the torrent never waits for us.
    async fn report(&mut self) {
        if let Some(news) = self.news.take() {
            let told = ToTorrent::WebSeedNews(self.key, news);
            self.closed |= self.around.torrent.send(told).await.is_err();
        }
        if self.up.is_empty() {
            return;
        }
        let messages = std::mem::take(&mut self.up);
        let told = ToTorrent::Peer(self.key, messages);
        self.closed |= self.around.torrent.send(told).await.is_err();
    }
}

/// Why an origin is not asked any more, for people.
fn words(reason: &CloseReason) -> Option<String> {
    match reason {
        CloseReason::Protocol(what) => Some((*what).to_owned()),
        CloseReason::Banned(_) => Some("it sent wrong data".to_owned()),
        _ => None,
    }
}
