//! Routes: the ways that torrents of an engine take, each with sockets, listeners, trackers and a DHT of its own.
//!
//! A torrent is on one route, for as long as it runs. A route that is changed or removed ends first: what was made on it is closed at once,
//! its torrents stop, and nothing of another route is opened for its name before the last socket has gone.
//!
//! Invariant: a name leads to one open route or to none; whoever is on a route has nothing of another one.

use crate::admission::Admission;
use crate::clock::Clock;
use crate::dht::{self, DhtConfig, DhtPeers, DhtTask};
use crate::door;
use crate::engine::{
    EngineError, EngineHandle, Environment, PeerSources, PeerTransports, PortMapping,
};
use crate::local::LocalPeers;
use crate::ports::OurPort;
use crate::register::Register;
use crate::session::ToSession;
use crate::torrent::ToTorrent;
use crate::tracker::{AnnounceRules, TrackerClient};
use crate::worker::Pool;
use shoal_storage::Storage;
use shoal_swarm::torrent::PeerRules;
use shoal_transport::{
    Binding, Departure, Listener, OtherDatagrams, PeerDialer, Transport, TransportConfig,
    TransportError, UtpEndpoint, WantedPort,
};
use shoal_wire::mse::EncryptionPolicy;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

/// The name of the engine's own route, which torrents take of whom nothing else is said.
pub const OWN_ROUTE: &str = "default";

/// Each has sockets and event loops; nobody has more ways out of a machine.
pub const MAX_ROUTES: usize = 32;

/// How often is looked whether a torrent has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How a route is set up.
#[derive(Clone, Default)]
pub struct RouteConfig {
    /// The network. Its limits mean nothing but for the engine's own route: those hold for all.
    pub transport: TransportConfig,
    /// Over what peers are spoken to.
    pub peers_over: PeerTransports,
    /// Whether the router passes our port on to us.
    pub port_mapping: PortMapping,
    /// How to take part in the DHT, where that is wanted: under an identity of its own.
    pub dht: Option<DhtConfig>,
}

/// A route as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLine {
    /// Its name.
    pub name: String,
    /// What its sockets are bound to.
    pub binding: Binding,
    /// The proxy that everything goes through, without its name and password.
    pub proxy: Option<String>,
    /// Where peers may connect.
    pub listening: Vec<SocketAddr>,
    /// Why nothing leaves by it at present, if that is so.
    pub shut_because: Option<String>,
}

/// Tells a route from all others that an engine ever has, also from one of the same name before it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteId(u64);

impl RouteId {
    /// The engine's own, as it began.
    pub(crate) const OWN: RouteId = RouteId(0);
}

/// What all routes stand on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) storage: Storage,
    pub(crate) session: mpsc::Sender<ToSession>,
    pub(crate) admission: Admission,
    pub(crate) encryption: EncryptionPolicy,
    pub(crate) anonymous: bool,
    pub(crate) departure: Departure,
    pub(crate) peer_rules: PeerRules,
    pub(crate) announces: AnnounceRules,
    pub(crate) sources: PeerSources,
    pub(crate) register: Register,
    pub(crate) tasks: TaskTracker,
}

/// A route that is open.
pub(crate) struct Open {
    pub(crate) environment: Arc<Environment>,
    pub(crate) listening: Vec<SocketAddr>,
    /// What runs for it and for no torrent.
    tasks: Vec<AbortHandle>,
}

/// What a name stands for.
enum State {
    Open(Box<Open>),
    /// It is being changed, or removed.
    InChange,
}

/// All routes. Clones are of the same engine.
#[derive(Clone)]
pub(crate) struct Routes(Arc<Shared>);

struct Shared {
    ground: Ground,
    next_id: AtomicU64,
    /// Held for a look or a swap, never across an await.
    states: Mutex<BTreeMap<String, State>>,
}

impl Routes {
    pub(crate) fn new(ground: Ground, own: Open) -> Self {
        let own = (OWN_ROUTE.to_owned(), State::Open(Box::new(own)));
        Routes(Arc::new(Shared {
            ground,
            next_id: AtomicU64::new(RouteId::OWN.0 + 1),
            states: Mutex::new(BTreeMap::from([own])),
        }))
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        let states = self.0.states.lock();
        states.unwrap_or_else(PoisonError::into_inner)
    }

    /// What torrents on the route of this name use.
    pub(crate) fn of(&self, name: Option<&str>) -> Result<Arc<Environment>, EngineError> {
        let name = name.unwrap_or(OWN_ROUTE);
        match self.states().get(name) {
            Some(State::Open(open)) => Ok(Arc::clone(&open.environment)),
            Some(State::InChange) => Err(EngineError::RouteInChange(name.to_owned())),
            None => Err(EngineError::NoRoute(name.to_owned())),
        }
    }

    /// The own route with something else in it.
    #[cfg(test)]
    pub(crate) fn edit_own(&self, edit: impl FnOnce(&mut Environment)) {
        let mut states = self.states();
        if let Some(State::Open(open)) = states.get_mut(OWN_ROUTE) {
            let mut environment = Environment::clone(&open.environment);
            edit(&mut environment);
            open.environment = Arc::new(environment);
        }
    }

    /// Whether it has not ended.
    pub(crate) fn is_open(&self, route: RouteId) -> bool {
        let states = self.states();
        let mut open = states.values().filter_map(State::open);
        open.any(|open| open.environment.route == route)
    }

    /// Every one that is open, at the end of the engine; none can be opened any more.
    pub(crate) fn end(&self) -> Vec<Arc<Environment>> {
        let mut states = self.states();
        let open = states.values().filter_map(State::open);
        let environments = open.map(|open| Arc::clone(&open.environment)).collect();
        states
            .values_mut()
            .for_each(|state| *state = State::InChange);
        environments
    }

    /// Puts a name aside, and gives what it stood for.
    fn begin(&self, name: &str, is_new: bool) -> Result<Option<Box<Open>>, EngineError> {
        let mut states = self.states();
        let there = states.len();
        match states.get_mut(name) {
            Some(State::InChange) => return Err(EngineError::RouteInChange(name.to_owned())),
            Some(state) => match std::mem::replace(state, State::InChange) {
                State::Open(open) => return Ok(Some(open)),
                State::InChange => {}
            },
            None if !is_new => return Err(EngineError::NoRoute(name.to_owned())),
            None if there >= MAX_ROUTES => return Err(EngineError::TooManyRoutes),
            None => drop(states.insert(name.to_owned(), State::InChange)),
        }
        Ok(None)
    }

    /// The name stands for this, or for nothing.
    fn finish(&self, name: &str, open: Option<Open>) {
        let mut states = self.states();
        match open {
            Some(open) => states.insert(name.to_owned(), State::Open(Box::new(open))),
            None => states.remove(name),
        };
    }

    fn lines(&self) -> Vec<RouteLine> {
        let states = self.states();
        let line = |(name, state): (&String, &State)| {
            let open = state.open()?;
            let transport = &open.environment.transport;
            Some(RouteLine {
                name: name.clone(),
                binding: transport.binding().clone(),
                proxy: transport.proxy().map(ToString::to_string),
                listening: open.listening.clone(),
                shut_because: transport.shut_because().map(|why| why.to_string()),
            })
        };
        states.iter().filter_map(line).collect()
    }
}

impl State {
    fn open(&self) -> Option<&Open> {
        match self {
            State::Open(open) => Some(open),
            State::InChange => None,
        }
    }
}

impl EngineHandle {
    /// Makes a route of this name, or changes the one that there is. Of one that is changed everything is closed before anything of the new
    /// one is opened, and the torrents and searches on it stop: they are to be added again. Goes on where nobody waits for it any more.
    ///
    /// # Errors
    /// Where the network cannot be used as configured: then there is no route of this name any more. Where it is just being changed, or
    /// there are [`MAX_ROUTES`].
    pub async fn set_route(&self, name: &str, config: RouteConfig) -> Result<(), EngineError> {
        self.change_route(name, Some(config)).await
    }

    /// Ends a route. The torrents and searches on it stop, and none can be added to it; none of them takes another one.
    ///
    /// # Errors
    /// Where there is none of this name, or it is just being changed.
    pub async fn remove_route(&self, name: &str) -> Result<(), EngineError> {
        self.change_route(name, None).await
    }

    /// All routes that are there, by name.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteLine> {
        self.routes.lines()
    }

    /// The network of a route as it is, for those who fetch something else by it. Where the route ends, this ends with it.
    ///
    /// # Errors
    /// Where there is none of this name, or it is just being changed.
    pub fn route_transport(&self, name: &str) -> Result<Transport, EngineError> {
        Ok(self.routes.of(Some(name))?.transport.clone())
    }

    async fn change_route(
        &self,
        name: &str,
        config: Option<RouteConfig>,
    ) -> Result<(), EngineError> {
        let before = self.routes.begin(name, config.is_some())?;
        let (engine, name) = (self.clone(), name.to_owned());
        let (done, outcome) = oneshot::channel();
        let work = async move {
            if let Some(before) = before {
                let why = match config {
                    Some(_) => format!("the route `{name}` was changed"),
                    None => format!("the route `{name}` was removed"),
                };
                engine.close(*before, &why).await;
            }
            let opened = match config {
                Some(config) => engine.open_route(config).await.map(Some),
                None => Ok(None),
            };
            let (opened, outcome) = match opened {
                Ok(opened) => (opened, Ok(())),
                Err(error) => (None, Err(error)),
            };
            engine.routes.finish(&name, opened);
            // Nobody may be waiting.
            drop(done.send(outcome));
        };
        self.routes.0.ground.pool.next().spawn(work);
        outcome.await.map_err(|_| EngineError::Stopped)?
    }

    async fn open_route(&self, mut config: RouteConfig) -> Result<Open, EngineError> {
        let id = RouteId(self.routes.0.next_id.fetch_add(1, Ordering::Relaxed));
        let limiter = self.environment.transport.limiter();
        config.transport.limiter = Some(limiter.clone());
        open(&self.routes.0.ground, id, config, self.dice()).await
    }

    /// Returns when nothing of it is left.
    async fn close(&self, open: Open, why: &str) {
        let Open {
            environment, tasks, ..
        } = open;
        let transport = environment.transport.clone();
        transport.close(why);
        tasks.iter().for_each(AbortHandle::abort);
        environment.port.leave();
        if let Some(dht) = &environment.dht {
            dht.stop();
        }
        let torrents = self.on_route(environment.route);
        drop(environment);
        for torrent in &torrents {
            drop(torrent.send(ToTorrent::Stop).await);
        }
        for torrent in torrents {
            while !torrent.is_closed() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        transport.emptied().await;
    }
}

/// Opens a route: listens, and has everything ready that its torrents use. Nothing is sent before there is one.
pub(crate) async fn open(
    ground: &Ground,
    id: RouteId,
    mut config: RouteConfig,
    mut dice: fastrand::Rng,
) -> Result<Open, EngineError> {
    let (clock, pool) = (ground.clock, &ground.pool);
    let isolated = config.transport.isolated;
    config.transport.anonymous = ground.anonymous;
    config.transport.departure = ground.departure.clone();
    let admission = ground.admission.clone();
    config.transport.tracker_filter =
        Some(Arc::new(move |address| admission.allows_tracker(address)));
    let transport = Transport::start(config.transport)?;
    // Listeners belong to the event loop that they are made on.
    let entrance = pool.next();
    let (peers_over, datagrams_too) = (config.peers_over, config.dht.is_some());
    let opening = {
        let transport = transport.clone();
        entrance.spawn(async move { open_sockets(&transport, peers_over, datagrams_too) })
    };
    let opened = opening.await.map_err(|_| EngineError::Stopped)??;
    let (dialer, listeners) = (opened.dialer, opened.listeners);
    let mut listening: Vec<SocketAddr> = listeners.iter().map(Listener::local_addr).collect();
    let wanted = wanted_ports(&listeners, config.port_mapping);
    // uTP has the ports of TCP.
    listening.dedup();
    let mut tasks = Vec::new();
    let keeping = transport.clone();
    tasks.push(
        entrance
            .spawn(async move { keeping.keep().await })
            .abort_handle(),
    );
    let (mut networks, session) = (transport.networks(), ground.session.clone());
    let following = async move {
        while networks.changed().await.is_ok() {
            // Where the session is gone the engine stops.
            drop(session.send(ToSession::NetworkChanged(id)).await);
        }
    };
    tasks.push(pool.next().spawn(following).abort_handle());
    for listener in listeners {
        let guests = door::Guests {
            register: ground.register.on(id),
            session: ground.session.clone(),
            admission: ground.admission.clone(),
            policy: ground.encryption,
        };
        let standing = entrance.spawn(door::stand(listener, guests));
        tasks.push(standing.abort_handle());
    }
    let mapper = wanted.and_then(|(address, wanted)| transport.port_mapper(address, wanted));
    let local_port = listening.first().map(SocketAddr::port);
    let (ports, port) = OurPort::new(clock, local_port, mapper);
    if let Some(ports) = ports {
        ground.tasks.spawn_on(ports.run(), pool.next());
    }
    let dht = config.dht.map(|mut config| {
        config.settings.anonymous = ground.anonymous;
        let parts = dht::Parts {
            clock,
            transport: transport.clone(),
            config,
            sockets: opened.datagrams,
            session: ground.session.clone(),
            port: port.clone(),
            implied_port: peers_over != PeerTransports::Tcp,
            secret: secret()?,
            rng: dice.fork(),
        };
        let (task, dht) = DhtTask::new(parts);
        ground.tasks.spawn_on(task.run(), entrance);
        Ok::<_, EngineError>(dht)
    });
    let dht: Option<DhtPeers> = dht.transpose()?;
    // Where others cannot connect there is nothing to announce to them.
    let reachable = listening
        .iter()
        .find(|address| ground.sources.local && !isolated && !address.ip().is_loopback());
    let local = reachable.map(|&first| {
        let (transport, dht) = (transport.clone(), dht.clone());
        let (task, local) = LocalPeers::new(clock, transport, first, &listening, dht, &mut dice);
        tasks.push(pool.next().spawn(task.run()).abort_handle());
        local
    });
    let environment = Environment {
        clock,
        pool: pool.clone(),
        route: id,
        trackers: TrackerClient::new(clock, transport.clone()),
        transport,
        dialer,
        storage: ground.storage.clone(),
        session: ground.session.clone(),
        port,
        local,
        dht,
        admission: ground.admission.clone(),
        register: ground.register.clone(),
        anonymous: ground.anonymous,
        exchange: ground.sources.exchange,
        peer_rules: ground.peer_rules,
        announces: ground.announces,
        encryption: ground.encryption,
        isolated,
        tasks: ground.tasks.clone(),
    };
    Ok(Open {
        environment: Arc::new(environment),
        listening,
        tasks,
    })
}

/// What peers connect to, and what they are dialled with.
struct Opened {
    dialer: PeerDialer,
    listeners: Vec<Listener>,
    /// What comes to the UDP sockets besides.
    datagrams: Vec<OtherDatagrams>,
}

/// Opens it, with UDP sockets only where something speaks UDP.
fn open_sockets(
    transport: &Transport,
    over: PeerTransports,
    datagrams_too: bool,
) -> Result<Opened, TransportError> {
    let mut listeners = transport.listen()?;
    if over == PeerTransports::Tcp {
        let mut datagrams = match datagrams_too {
            true => transport.datagrams(&listeners)?,
            false => Vec::new(),
        };
        keep_reachable(&mut datagrams, listeners.len());
        return Ok(Opened {
            dialer: PeerDialer::Tcp(transport.clone()),
            listeners,
            datagrams,
        });
    }
    let (utp, endpoints) = transport.utp(&listeners)?;
    let count = listeners.len();
    let (mut over_utp, mut datagrams): (Vec<Listener>, _) = endpoints
        .into_iter()
        .map(
            |UtpEndpoint {
                 listener, others, ..
             }| (listener, others),
        )
        .unzip();
    over_utp.truncate(count);
    keep_reachable(&mut datagrams, count);
    let dialer = match over {
        PeerTransports::Utp => {
            listeners.clear();
            PeerDialer::Utp(utp)
        }
        _ => PeerDialer::Both(transport.clone(), utp),
    };
    listeners.extend(over_utp);
    listeners.sort_by_key(Listener::local_addr);
    Ok(Opened {
        dialer,
        listeners,
        datagrams,
    })
}

/// Of the sockets, those at the addresses where peers connect, which are the first. Where that is nowhere, all.
fn keep_reachable(datagrams: &mut Vec<OtherDatagrams>, listeners: usize) {
    if listeners > 0 {
        datagrams.truncate(listeners);
    }
}

/// What others must not guess.
fn secret() -> Result<[u8; 32], EngineError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| EngineError::Random(error.into()))?;
    Ok(secret)
}

/// Where we listen for IPv4, and the port there that the router is to pass on: that of TCP, and of UDP where it is the same.
fn wanted_ports(listeners: &[Listener], mapping: PortMapping) -> Option<(SocketAddr, WantedPort)> {
    let mut addresses = listeners.iter().map(Listener::local_addr);
    let address = addresses.find(|address| address.is_ipv4() && !address.ip().is_loopback())?;
    let there = |utp| {
        let mut listeners = listeners.iter();
        listeners.any(|listener| listener.is_utp() == utp && listener.local_addr() == address)
    };
    let wanted = WantedPort {
        port: address.port(),
        tcp: there(false),
        udp: there(true),
    };
    (mapping == PortMapping::Asked).then_some((address, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{AddTorrent, Engine, EngineConfig};
    use shoal_metainfo::Metainfo;
    use shoal_metainfo::bencode::Limits;
    use std::time::Duration;

    /// A file `hello` of five bytes.
    const HELLO: &[u8] = b"d4:infod6:lengthi5e4:name5:hello12:piece lengthi16384e6:pieces20:\
        \xaa\xf4\xc6\x1d\xdc\xc5\xe8\xa2\xda\xbe\xde\x0f\x3b\x48\x2c\xd9\xae\xa9\x43\x4dee";

    /// Shorter than the pause after a first failure.
    const AT_ONCE: Duration = Duration::from_secs(10);

    /// Somebody who can be connected to at `address`.
    fn stand_at(address: SocketAddr) -> Listener {
        let transport = Transport::start(TransportConfig {
            listen: vec![address],
            ..TransportConfig::default()
        });
        transport.unwrap().listen().unwrap().remove(0)
    }

    #[tokio::test]
    async fn who_comes_into_another_network_announces_again_at_once() {
        let engine = Engine::start(EngineConfig {
            transport: TransportConfig {
                listen: vec![([127, 0, 0, 1], 0).into()],
                isolated: true,
                ..TransportConfig::default()
            },
            workers: 1,
            ..EngineConfig::default()
        });
        let engine = engine.await.unwrap();
        let at = stand_at(([127, 0, 0, 1], 0).into()).local_addr();
        let folder = tempfile::tempdir().unwrap();
        let metainfo = Arc::new(Metainfo::parse(HELLO, Limits::LOCAL).unwrap());
        let mut add = AddTorrent::new(metainfo, folder.path().to_path_buf());
        add.trackers = vec![format!("http://{at}/announce").parse().unwrap()];
        let torrent = engine.handle().add(add).await.unwrap();
        let mut watched = torrent.watch();
        let failed = watched.wait_for(|seen| {
            seen.trackers
                .iter()
                .any(|line| line.state == crate::snapshot::TrackerState::Failing)
        });
        drop(failed.await.unwrap());
        let tracker = stand_at(at);
        let other = ToSession::NetworkChanged(RouteId(7));
        engine.handle().tell_session(other).await.unwrap();
        let asked = tokio::time::timeout(Duration::from_millis(300), tracker.accept());
        assert!(asked.await.is_err(), "another route's network changed");
        let ours = ToSession::NetworkChanged(RouteId::OWN);
        engine.handle().tell_session(ours).await.unwrap();
        let asked = tokio::time::timeout(AT_ONCE, tracker.accept()).await;
        assert!(asked.is_ok(), "the tracker is asked again");
        engine.stop(Duration::from_secs(5)).await;
    }
}
