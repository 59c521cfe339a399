//! The routes of a session: what a person says of each, how it stands, and which torrents take it.
//!
//! Each run of a torrent is on one route, that which holds for it when it begins, and the engine lets nothing of it go another way. Where
//! another one comes to hold, or its own becomes something else, the run ends; the next begins by what holds then, when the engine has
//! nothing left of the last, the farewell to trackers included. Where what holds is not there, none begins.
//!
//! Invariant: at every moment, all that leaves for a torrent leaves by the route of its run, and a run begins only by the route that holds.

use super::{Answer, Heard, NodeError, Session, key};
use crate::entry::{Entry, Run};
use crate::message::{self, Interface, Reply, RouteRequest, RouteState, SetRoute};
use crate::route::{Network, Spec, checked_name, shown_binding};
use shoal_engine::{EngineHandle, MAX_ROUTES, OWN_ROUTE, RouteLine};
use shoal_session::queue;
use shoal_session::rules::Rules;
use shoal_store::{Database, StoreError};
use shoal_transport::Transport;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What the list is called in the database.
const KIND: &str = "route";

/// How soon one is tried again that could not be opened.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// How long torrents wait for routes at the start. Those whose routes take longer wait by themselves.
const OPEN_SOON: Duration = Duration::from_secs(3);

/// Who waits for a change. More than these hear that it goes on.
const MAX_WAITING: usize = 64;

/// Whether the database says what the engine's own route is.
///
/// # Errors
/// It cannot be read.
pub async fn has_own_route(database: &Database) -> Result<bool, StoreError> {
    Ok(database.entries(KIND).await?.contains_key(OWN_ROUTE))
}

/// What a route is to be.
#[derive(Clone, Debug)]
enum Wanted {
    /// As the engine has it.
    AsBegun,
    Said(Spec),
    /// Nobody knows: it is stored in a way that this program does not read.
    Unread(String),
    Removed,
}

/// How it stands.
#[derive(Debug)]
enum Standing {
    Open,
    Changing,
    Shut(Arc<str>),
}

/// One route.
#[derive(Debug)]
struct Known {
    wanted: Wanted,
    standing: Standing,
    /// Counts what it was wanted to be.
    change: u64,
    /// The engine is at it.
    busy: bool,
    /// Who is answered when it is what it is wanted to be, or cannot be.
    waiting: Vec<oneshot::Sender<Answer>>,
}

/// What the engine came to: of which route, at which change.
#[derive(Debug)]
pub(super) struct Changed {
    name: Arc<str>,
    change: u64,
    /// Nothing where it is time to try it again.
    outcome: Option<Result<(), String>>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Routes {
    known: BTreeMap<Arc<str>, Known>,
    network: Network,
    changed: mpsc::Sender<Changed>,
}

impl Routes {
    /// Those of the database, of which none is open yet; `own_said` where the engine's own is as it is to be, whatever is stored.
    pub(super) async fn read(
        database: &Database,
        network: Network,
        own_said: bool,
        changed: mpsc::Sender<Changed>,
    ) -> Result<Self, StoreError> {
        let mut known = BTreeMap::from([(OWN_ROUTE.into(), Known::new(Wanted::AsBegun))]);
        for (name, text) in database.entries(KIND).await? {
            if name == OWN_ROUTE && own_said {
                continue;
            }
            let wanted = match serde_json::from_str(&text) {
                Ok(spec) => Wanted::Said(spec),
                Err(error) => Wanted::Unread(format!(
                    "what is stored of the route `{name}` cannot be read: {error}; set it again"
                )),
            };
            known.insert(name.into(), Known::new(wanted));
        }
        Ok(Routes {
            known,
            network,
            changed,
        })
    }

    /// The name as all share it, and why nothing can begin by this route, where that is so.
    pub(super) fn standing(&self, name: &str) -> (Arc<str>, Result<(), Arc<str>>) {
        let Some((name, known)) = self.known.get_key_value(name) else {
            let why = format!(
                "the route `{name}` is not there, and nothing goes another way; make it with `shoal route set {name}`"
            );
            return (name.into(), Err(why.into()));
        };
        let standing = match &known.standing {
            Standing::Open => Ok(()),
            Standing::Changing => Err(format!("the route `{name}` is being opened").into()),
            Standing::Shut(why) => Err(Arc::clone(why)),
        };
        (Arc::clone(name), standing)
    }

    /// Whether what is said names a route that there is, where it names one.
    pub(super) fn check(
        &self,
        said: &BTreeMap<String, String>,
        rules: &Rules,
    ) -> Result<(), NodeError> {
        match &rules.route {
            Some(name) if said.contains_key("route") && !self.is_there(name) => {
                Err(NodeError::NoRoute(name.clone()))
            }
            _ => Ok(()),
        }
    }

    fn is_there(&self, name: &str) -> bool {
        let known = self.known.get(name);
        known.is_some_and(|known| !matches!(known.wanted, Wanted::Removed))
    }

    fn want(&mut self, name: &str, wanted: Wanted) {
        let known = self.known.entry(name.into());
        let known = known.or_insert_with(|| Known::new(Wanted::Removed));
        known.wanted = wanted;
        known.change += 1;
    }

    /// Has the engine make of it what is wanted, unless it is at it.
    fn apply(&mut self, engine: &EngineHandle, name: &str) {
        let Some((name, known)) = self.known.get_key_value(name) else {
            return;
        };
        let name = Arc::clone(name);
        if known.busy {
            return;
        }
        let (wanted, change) = (known.wanted.clone(), known.change);
        let (engine, network) = (engine.clone(), self.network.clone());
        let changed = self.changed.clone();
        if let Some(known) = self.known.get_mut(&name) {
            known.busy = true;
        }
        tokio::spawn(async move {
            let outcome = match wanted {
                Wanted::AsBegun => Ok(()),
                Wanted::Said(spec) => spec.open(&engine, &name, network).await,
                Wanted::Unread(why) => {
                    // There may be none.
                    drop(engine.remove_route(&name).await);
                    Err(why)
                }
                Wanted::Removed => {
                    drop(engine.remove_route(&name).await);
                    Ok(())
                }
            };
            let outcome = Some(outcome);
            let news = Changed {
                name,
                change,
                outcome,
            };
            drop(changed.send(news).await);
        });
    }
}

impl Known {
    fn new(wanted: Wanted) -> Self {
        Known {
            standing: match wanted {
                Wanted::AsBegun => Standing::Open,
                _ => Standing::Changing,
            },
            wanted,
            change: 0,
            busy: false,
            waiting: Vec::new(),
        }
    }
}

impl Session {
    /// Opens what is stored, before the first torrent begins.
    pub(super) async fn open_routes(&mut self, changed: &mut mpsc::Receiver<Changed>) {
        let engine = self.engine.handle();
        let names: Vec<Arc<str>> = self.routes.known.keys().cloned().collect();
        for name in names {
            self.routes.apply(&engine, &name);
        }
        let all = async {
            while self.routes.known.values().any(|known| known.busy)
                && let Some(changed) = changed.recv().await
            {
                self.route_changed(changed);
            }
        };
        // Those that take longer are heard of later.
        drop(tokio::time::timeout(OPEN_SOON, all).await);
    }

    /// The route that holds for a torrent.
    pub(super) fn route_of(&self, entry: &Entry) -> String {
        let held = self.carriers.effective(&entry.options, &self.settings);
        held.route.value.unwrap_or_else(|| OWN_ROUTE.to_owned())
    }

    /// The network by which something is fetched that is to be added with this.
    pub(super) fn way_for(&self, add: &message::Add) -> Result<Transport, NodeError> {
        let options = self.options(add)?;
        let held = self.carriers.effective(&options, &self.settings);
        let route = held.route.value;
        let (name, standing) = self.routes.standing(route.as_deref().unwrap_or(OWN_ROUTE));
        standing.map_err(|why| NodeError::Refused(format!("cannot fetch the torrent: {why}")))?;
        let transport = self.engine.handle().route_transport(&name);
        transport.map_err(|error| NodeError::Refused(format!("cannot fetch the torrent: {error}")))
    }

    /// What is asked of routes. A change is answered when it is done.
    pub(super) async fn hear_of_routes(
        &mut self,
        request: RouteRequest,
    ) -> Result<Heard, NodeError> {
        let changed = match request {
            RouteRequest::List {} => return Ok(Heard::Done(self.shown_routes())),
            RouteRequest::Interfaces {} => return interfaces().map(Heard::Done),
            RouteRequest::Set(said) => {
                self.set_route(&said).await?;
                said.name
            }
            RouteRequest::Remove { name } => {
                self.remove_route(&name).await?;
                name
            }
        };
        Ok(self.answer_when_changed(&changed))
    }

    /// Whoever asked for this route to change hears of it then.
    fn answer_when_changed(&mut self, name: &str) -> Heard {
        let known = self.routes.known.get_mut(name);
        let waits = known.filter(|known| known.busy && known.waiting.len() < MAX_WAITING);
        let Some(known) = waits else {
            return Heard::Done(self.shown_routes());
        };
        let (answer, answered) = oneshot::channel();
        known.waiting.push(answer);
        Heard::Later(Box::pin(async move {
            answered.await.map_err(|_| NodeError::Stopped)?
        }))
    }

    async fn set_route(&mut self, said: &SetRoute) -> Result<(), NodeError> {
        checked_name(&said.name).map_err(NodeError::Usage)?;
        let known = self.routes.known.get(said.name.as_str());
        if known.is_none() && self.routes.known.len() >= MAX_ROUTES {
            let what = format!("there are {MAX_ROUTES} routes, which is the most: remove one");
            return Err(NodeError::Usage(what));
        }
        let mut spec = match known.map(|known| &known.wanted) {
            Some(Wanted::Said(spec)) => spec.clone(),
            _ => Spec::default(),
        };
        spec.tell(said, &self.routes.network)
            .map_err(NodeError::Usage)?;
        let text =
            serde_json::to_string(&spec).map_err(|error| NodeError::Usage(error.to_string()))?;
        self.database
            .set_entry(KIND, &said.name, Some(&text))
            .await?;
        self.change_route(&said.name, Wanted::Said(spec));
        Ok(())
    }

    async fn remove_route(&mut self, name: &str) -> Result<(), NodeError> {
        if name == OWN_ROUTE {
            let what = "the default route stays, as torrents without it would have none: say with `shoal route set default` what it is to be";
            return Err(NodeError::Usage(what.to_owned()));
        }
        if !self.routes.is_there(name) {
            return Err(NodeError::NoRoute(name.to_owned()));
        }
        self.database.set_entry(KIND, name, None).await?;
        self.change_route(name, Wanted::Removed);
        Ok(())
    }

    /// From here on nothing begins by what it was.
    fn change_route(&mut self, name: &str, wanted: Wanted) {
        self.routes.want(name, wanted);
        if let Some(known) = self.routes.known.get_mut(name) {
            known.standing = Standing::Changing;
        }
        // The disk of one that is about to begin may take longer than the engine to open what comes then.
        for entry in self.entries.values() {
            if entry.route.as_deref() == Some(name)
                && let Some(withdrawn) = &entry.withdrawn
            {
                withdrawn.cancel();
            }
        }
        self.routes.apply(&self.engine.handle(), name);
    }

    pub(super) fn route_changed(&mut self, changed: Changed) {
        let Changed {
            name,
            change,
            outcome,
        } = changed;
        let engine = self.engine.handle();
        let Some(known) = self.routes.known.get_mut(&name) else {
            return;
        };
        let Some(outcome) = outcome else {
            if known.change == change && matches!(known.standing, Standing::Shut(_)) {
                self.routes.apply(&engine, &name);
            }
            return;
        };
        known.busy = false;
        if known.change != change {
            return self.routes.apply(&engine, &name);
        }
        let waiting = std::mem::take(&mut known.waiting);
        match outcome {
            Ok(()) if matches!(known.wanted, Wanted::Removed) => {
                self.routes.known.remove(&name);
            }
            Ok(()) => known.standing = Standing::Open,
            Err(why) => {
                tracing::warn!(route = %name, %why, "a route cannot be opened");
                let why = format!("the route `{name}` cannot be taken: {why}");
                known.standing = Standing::Shut(why.into());
                let changed = self.routes.changed.clone();
                let name = Arc::clone(&name);
                tokio::spawn(async move {
                    tokio::time::sleep(OPEN_AGAIN).await;
                    let outcome = None;
                    let again = Changed {
                        name,
                        change,
                        outcome,
                    };
                    drop(changed.send(again).await);
                });
            }
        }
        self.tell_those_who_wait(&name);
        self.look_at_ways();
        for answer in waiting {
            // Whoever asked may have gone.
            drop(answer.send(Ok(self.shown_routes())));
        }
    }

    /// Torrents that wait for this route can go on by it, or for another reason not.
    fn tell_those_who_wait(&mut self, name: &str) {
        let (_, standing) = self.routes.standing(name);
        let waits = |entry: &&mut Entry| entry.awaits_route.as_deref() == Some(name);
        let mut ready = Vec::new();
        for entry in self.entries.values_mut().filter(waits) {
            match &standing {
                Ok(()) => ready.push(entry.id),
                Err(why) => entry.failure = Some(why.to_string()),
            }
        }
        for id in ready {
            self.go_on(id);
        }
    }

    /// It waits for no route any more.
    fn go_on(&mut self, id: i64) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.awaits_route.take().is_some() {
            entry.failure = None;
            self.tell(queue::Input::Well(key(id)));
        }
    }

    /// It is to run, and its route is not there.
    pub(super) fn await_route(&mut self, id: i64, name: Arc<str>, why: &str) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.run = Run::Idle;
            entry.awaits_route = Some(name);
        }
        self.fail(id, why.to_owned());
    }

    /// What holds for a torrent is perhaps another route than that of its run.
    pub(super) fn follow_route(&mut self, id: i64) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let wanted = self.route_of(entry);
        if entry
            .awaits_route
            .as_deref()
            .is_some_and(|awaited| awaited != wanted)
        {
            self.go_on(id);
        }
        let entry = self.entries.get(&id);
        let strays = |entry: &&Entry| entry.route.as_deref().is_some_and(|name| name != wanted);
        let Some(entry) = entry.filter(strays) else {
            return;
        };
        match &entry.run {
            Run::Beginning | Run::Running(..) => self.halt(id),
            // A search is over at once, and nobody tells.
            Run::Searching(..) => {
                self.halt(id);
                self.begin(id, None);
            }
            Run::Idle | Run::Moving | Run::Stopping(_) | Run::Erasing => {}
        }
    }

    /// Learns from the engine by which routes nothing leaves at present, such as by an interface that is gone.
    pub(super) fn look_at_ways(&mut self) {
        let lines = self.engine.handle().routes().into_iter();
        let shut = lines.filter_map(|line| Some((line.name, Arc::from(line.shut_because?))));
        let shut: BTreeMap<String, Arc<str>> = shut.collect();
        if shut == self.shut_ways {
            return;
        }
        for entry in self.entries.values_mut() {
            let route = entry.route.as_deref();
            entry.no_way = route.and_then(|name| shut.get(name).cloned());
        }
        self.shut_ways = shut;
    }

    fn shown_routes(&self) -> Reply {
        let lines = self.engine.handle().routes().into_iter();
        let lines: BTreeMap<String, RouteLine> =
            lines.map(|line| (line.name.clone(), line)).collect();
        let mut torrents: BTreeMap<String, usize> = BTreeMap::new();
        for entry in self.entries.values().filter(|entry| !entry.removed) {
            *torrents.entry(self.route_of(entry)).or_default() += 1;
        }
        let routes = self.routes.known.iter().map(|(name, known)| {
            let torrents = torrents.get(&**name).copied().unwrap_or_default();
            shown(
                name,
                known,
                lines.get(&**name),
                &self.routes.network,
                torrents,
            )
        });
        let routes = routes.collect();
        Reply::Routes { routes }
    }
}

fn shown(
    name: &str,
    known: &Known,
    line: Option<&RouteLine>,
    network: &Network,
    torrents: usize,
) -> message::Route {
    let spec = match &known.wanted {
        Wanted::Said(spec) => spec.clone(),
        Wanted::AsBegun | Wanted::Unread(_) | Wanted::Removed => Spec::default(),
    };
    let transport = spec.transport(network).unwrap_or_default();
    let way_is_over = line.and_then(|line| line.shut_because.clone());
    let (state, message) = match (&known.standing, way_is_over) {
        (Standing::Changing, _) => (RouteState::Changing, None),
        (Standing::Shut(why), _) => (RouteState::Shut, Some(why.to_string())),
        (Standing::Open, Some(why)) => (RouteState::Shut, Some(why)),
        (Standing::Open, None) => (RouteState::Open, None),
    };
    message::Route {
        name: name.to_owned(),
        state,
        message,
        proxy: transport.proxy.map(|proxy| proxy.to_string()),
        password_file: spec.password_file,
        bind: shown_binding(&transport.binding),
        dns: transport.name_servers,
        listening: line.map_or_else(Vec::new, |line| line.listening.clone()),
        torrents,
    }
}

fn interfaces() -> Answer {
    let interfaces = shoal_transport::interfaces();
    let interfaces = interfaces.map_err(|error| {
        NodeError::Refused(format!(
            "the system does not say which interfaces there are: {error}"
        ))
    })?;
    let interfaces = interfaces.into_iter();
    let interface = |(name, addresses)| Interface { name, addresses };
    Ok(Reply::Interfaces {
        interfaces: interfaces.map(interface).collect(),
    })
}
