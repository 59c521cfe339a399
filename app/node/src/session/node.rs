//! The way to a session for whoever asks something of it, and how one begins.
//!
//! Invariant: what takes a server or a disk is done here, by whoever asks, before the session hears of it.

use super::gone::Gone;
use super::hook::Hooks;
use super::moving::Moves;
use super::owner::{self, Carriers};
use super::rates::Groups;
use super::route::Routes;
use super::schedule::Hours;
use super::{
    Answer, Asked, AskedWay, BEGIN_AT_ONCE, MAILBOX, Mail, NodeError, Planned, Session, adding,
    filter, folders, peer, unix_now, watch,
};
use crate::fetch;
use crate::import::Importer;
use crate::message::{self, FolderRequest, Import, ImportNews, Request};
use crate::route::Network;
use crate::settings::Settings;
use shoal_engine::{Engine, SessionSettings};
use shoal_session::queue::Queue;
use shoal_store::{Database, StoreError};
use shoal_transport::{RateLimits, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

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
        engine.handle().filter_trackers(settings.filter_trackers);
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
