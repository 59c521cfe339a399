//! The handle through which everything else reaches the network.
//!
//! Invariant: each of its methods asks the policy before it opens a socket.

use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::address_class::TargetClass;
use crate::binding::Binding;
use crate::departure::{Departure, Turn};
use crate::http::{Clients, HttpClient};
use crate::interfaces::shared_networks;
use crate::ip_net::IpNet;
use crate::limiter::{Limiter, RateLimits};
use crate::listener::Listener;
use crate::multicast::Multicast;
use crate::name_server;
use crate::peer_stream::PeerStream;
use crate::policy::{NameRefusal, OriginClass, Policy, Protocol, Refusal, RefusalReason};
use crate::proxy::{Endpoint, Proxy, ProxyError, ProxyProtocol};
use crate::relay::Datagrams;
use crate::resolver::{self, AddressFamily, Resolve, ResolveError, SystemResolver};
use crate::route::Route;
use crate::sockets;
use crate::tunnel::{self, ProxyFailure, ThroughProxy};
use crate::udp::UdpChannel;
use crate::utp::{OtherDatagrams, Utp, UtpEndpoint};
use crate::way::{Hold, Ways};

/// How often is looked whether an interface or address is there: what it is bound to fails at once when it has gone, and nobody waits
/// long for what is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often is looked which network we are in.
const LOOK_AT_NETWORK_EVERY: Duration = Duration::from_secs(5);

/// Addresses that are nobody's (RFC 5737, RFC 3849): the way to them is that to everybody.
const ANYBODY: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        9,
    ),
];

/// Ports that are nobody's (RFC 6335 section 6), for who is to listen where nothing can be asked yet.
const FREE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// Tries for one free port on every address that asked for any.
const PORT_ATTEMPTS: usize = 16;

/// Whether an address may be spoken to. Asked often, so that it has to answer at once; IPv4 addresses are never in IPv6 clothing.
pub type AddressFilter = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// How the process reaches the network.
#[derive(Clone)]
pub struct TransportConfig {
    /// Where peers may connect. An unspecified address means the binding's; addresses with port 0 share one port that
    /// the system chooses.
    pub listen: Vec<SocketAddr>,
    /// What every socket is bound to.
    pub binding: Binding,
    /// A binding that is not there yet is waited for, by [`Transport::keep`], and is no error.
    pub waits_for_binding: bool,
    /// Who everything goes through. Then nobody can connect to us: `listen` is not used.
    pub proxy: Option<Proxy>,
    /// Ranges that everybody's addresses may lie in.
    pub allow_net: Vec<IpNet>,
    /// Dial only what the user named or opened; accept who comes.
    pub isolated: bool,
    /// HTTP requests do not say which program we are.
    pub anonymous: bool,
    /// How packets to peers leave, where no proxy sends them.
    pub departure: Departure,
    /// Addresses that a tracker may have, besides what the policy says; asked before each request. Where a proxy looks names up,
    /// it alone knows the address.
    pub tracker_filter: Option<AddressFilter>,
    /// Limits of all torrents together.
    pub limits: RateLimits,
    /// The limits of another transport, which hold for both together, in place of `limits`.
    pub limiter: Option<Limiter>,
    /// How long a peer or an HTTP server has to answer a dial.
    pub connect_timeout: Duration,
    /// How long a look-up may take.
    pub resolve_timeout: Duration,
    /// Who resolves names, where no server is named.
    pub resolver: Arc<dyn Resolve>,
    /// Who is asked for names, under the binding as all else. Nobody knows more of names than they, not even this machine's files.
    pub name_servers: Vec<SocketAddr>,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            binding: Binding::Any,
            waits_for_binding: false,
            proxy: None,
            allow_net: Vec::new(),
            isolated: false,
            anonymous: false,
            departure: Departure::default(),
            tracker_filter: None,
            limits: RateLimits::default(),
            limiter: None,
            // Two lost SYNs cost 1 s and 2 s; who needs a third is no peer worth a half-open slot.
            connect_timeout: Duration::from_secs(10),
            resolve_timeout: Duration::from_secs(10),
            resolver: Arc::new(SystemResolver::default()),
            name_servers: Vec::new(),
        }
    }
}

/// Why the network cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The system does not let us use the address or interface.
    #[error("cannot use {binding}: {source}; {}", advice(source))]
    Binding {
        /// What was configured.
        binding: Binding,
        /// What the system said.
        source: io::Error,
    },
    /// A listening address that the binding does not cover.
    #[error("cannot listen on {address}, which is not {binding}: listen there or bind elsewhere")]
    ListenOutsideBinding {
        /// What was configured.
        address: SocketAddr,
        /// The route in force.
        binding: Binding,
    },
    /// The binding and the proxy are of different families.
    #[error(
        "the proxy {proxy} cannot be reached from {binding}: bind to an address of the other family, or to an interface"
    )]
    ProxyOutOfReach {
        /// What was configured.
        proxy: Proxy,
        /// The same.
        binding: Binding,
    },
    /// The system does not let us listen.
    #[error("cannot listen on {address}: {source}; {}", advice(source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do about an error of bind(2) and its like.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop the other program or choose another port",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: check its interfaces",
        io::ErrorKind::PermissionDenied => "choose a port from 1024 up, or run with the permission",
        io::ErrorKind::NotFound => "check the interface's name",
        io::ErrorKind::Unsupported => "this system cannot do that: bind to an address instead",
        _ if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NODEV) => {
            "check the interface's name"
        }
        _ => "check the address and this machine's network",
    }
}

/// Why a peer was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The policy does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Port 0.
    #[error("{0} has no port to connect to")]
    NoPort(SocketAddr),
    /// The binding is of the other family.
    #[error("{target} cannot be reached from {binding}")]
    OutOfReach {
        /// The address.
        target: SocketAddr,
        /// The route in force.
        binding: Binding,
    },
    /// No answer in time.
    #[error("{target} did not answer within {} s", after.as_secs())]
    TimedOut {
        /// The address.
        target: SocketAddr,
        /// How long was waited.
        after: Duration,
    },
    /// The route has ended, or there is none yet.
    #[error("nothing leaves: {0}")]
    Shut(Arc<str>),
    /// The policy does not let a proxy be asked for the name.
    #[error(transparent)]
    NameRefused(#[from] NameRefusal),
    /// The system or the peer refused.
    #[error("cannot connect to {target}: {source}")]
    Io {
        /// The address.
        target: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system, or the way there, takes no datagram.
    #[error("cannot send to {target}: {source}")]
    Unsent {
        /// Whom it was for.
        target: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The proxy is not there, or does not connect.
    #[error(transparent)]
    Proxy(#[from] Box<ProxyFailure>),
}

impl DialError {
    /// Whether the host was found, and refused: nothing listens at the port.
    #[must_use]
    pub fn is_refused_by_host(&self) -> bool {
        use crate::proxy::Denial;
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::ConnectionRefused,
            Self::Proxy(failure) => matches!(
                failure.why,
                ThroughProxy::Said(ProxyError::Refused(Denial::HostRefuses))
            ),
            _ => false,
        }
    }
}

/// The network, as far as this process may use it. Clones share it.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

struct Inner {
    listen: Vec<SocketAddr>,
    route: Route,
    policy: Policy,
    anonymous: bool,
    departure: Departure,
    turn: Turn,
    tracker_filter: Option<AddressFilter>,
    limiter: Limiter,
    connect_timeout: Duration,
    resolve_timeout: Duration,
    resolver: Arc<dyn Resolve>,
    name_servers: Vec<SocketAddr>,
    http_clients: Clients,
    ways: Ways,
    /// How often we came into a network.
    networks: watch::Sender<u64>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("listen", &self.inner.listen)
            .field("route", &self.inner.route)
            .field("policy", &self.inner.policy)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Checks the configuration against this machine. Opens nothing that stays open and sends nothing.
    pub fn start(config: TransportConfig) -> Result<Self, TransportError> {
        let absent = match sockets::probe(&config.binding) {
            Err(_) if config.waits_for_binding => Some(config.binding.absence()),
            Err(source) => {
                let binding = config.binding;
                return Err(TransportError::Binding { binding, source });
            }
            Ok(()) => None,
        };
        if let Some(proxy) = &config.proxy
            && !config.binding.reaches(proxy.address().ip())
        {
            return Err(TransportError::ProxyOutOfReach {
                proxy: proxy.clone(),
                binding: config.binding,
            });
        }
        let listen = match config.proxy {
            None => listen_addresses(&config.listen, &config.binding)?,
            Some(_) => Vec::new(),
        };
        let inner = Inner {
            listen,
            route: Route {
                binding: config.binding,
                proxy: config.proxy,
            },
            policy: Policy {
                allow_net: config.allow_net,
                isolated: config.isolated,
            },
            anonymous: config.anonymous,
            departure: config.departure,
            turn: Turn::default(),
            tracker_filter: config.tracker_filter,
            limiter: match config.limiter {
                Some(limiter) => limiter,
                None => Limiter::new(config.limits),
            },
            connect_timeout: config.connect_timeout,
            resolve_timeout: config.resolve_timeout,
            resolver: config.resolver,
            name_servers: config.name_servers,
            http_clients: Clients::default(),
            ways: Ways::new(absent),
            networks: watch::Sender::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Follows the binding, for good: when the interface or address goes, everything that was made on it ends; when it is back, it can be
    /// used again, and listeners listen again. Follows, too, which network we are in, for [`Self::networks`]. Returns when this is
    /// [closed](Self::close).
    pub async fn keep(&self) {
        let binding = self.binding();
        let every = match binding {
            Binding::Any => LOOK_AT_NETWORK_EVERY,
            Binding::Interface(_) | Binding::Address(_) => LOOK_EVERY,
        };
        let proxy = self.proxy().map(Proxy::address);
        let whither = proxy.as_ref().map_or(&ANYBODY[..], std::slice::from_ref);
        let mut sources = sockets::leaves_from(binding, whither);
        let mut there = match self.inner.ways.hold() {
            Ok(_) => sockets::presence(binding),
            Err(_) => None,
        };
        while !self.inner.ways.is_shut_for_good() {
            tokio::time::sleep(every).await;
            let now = sockets::presence(binding);
            if now == there {
                let before = match now {
                    Some(_) => mem::replace(&mut sources, sockets::leaves_from(binding, whither)),
                    None => mem::take(&mut sources),
                };
                if sources.iter().any(|source| !before.contains(source)) {
                    self.enter_network();
                }
                continue;
            }
            sources.clear();
            let absence = binding.absence();
            tracing::warn!(%absence, is_back = now.is_some(), "the route has ended");
            self.shut(&absence, false);
            there = now;
            if now.is_some() {
                self.emptied().await;
                self.inner.ways.open();
                self.enter_network();
            }
        }
    }

    fn enter_network(&self) {
        tracing::info!("the network is another one, or is there again");
        self.inner.networks.send_modify(|count| *count += 1);
    }

    /// How often we came into a network since the start, as far as [`Self::keep`] sees it: another one than before, or the same one after
    /// there was none. Whom nobody could reach before may be reached now, and others know us by an address that is not ours any more.
    #[must_use]
    pub fn networks(&self) -> watch::Receiver<u64> {
        self.inner.networks.subscribe()
    }

    /// Ends everything that goes this way, for good, and says why to whoever tries it again.
    pub fn close(&self, why: &str) {
        self.shut(why, true);
    }

    fn shut(&self, why: &str, for_good: bool) {
        self.inner.ways.shut(why, for_good);
        self.inner.http_clients.clear();
    }

    /// Waits until nothing is left of what was ended: no socket, no connection. May be cancelled, and called again.
    pub async fn emptied(&self) {
        self.inner.ways.emptied().await;
    }

    /// Why nothing can leave at present, if that is so.
    #[must_use]
    pub fn shut_because(&self) -> Option<Arc<str>> {
        self.inner.ways.hold().err()
    }

    /// What is to be held by all that goes this way.
    pub(crate) fn hold(&self) -> Result<Hold, Arc<str>> {
        self.inner.ways.hold()
    }

    /// Waits until something can leave; `None` where nothing will any more.
    pub(crate) async fn wait_for_way(&self) -> Option<Hold> {
        self.inner.ways.wait().await
    }

    /// Starts to listen on every configured address. IPv6 is skipped where the machine has none and IPv4 was asked for
    /// too. Under a proxy, there is none.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO.
    pub fn listen(&self) -> Result<Vec<Listener>, TransportError> {
        let mut attempt = 1;
        loop {
            match self.listen_once() {
                Err(TransportError::Listen { address, source })
                    if source.kind() == io::ErrorKind::AddrInUse
                        && attempt < PORT_ATTEMPTS
                        && !self.inner.listen.contains(&address) =>
                {
                    // The port that the system chose for one address is taken on another: let it choose again.
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    fn listen_once(&self) -> Result<Vec<Listener>, TransportError> {
        let mut listeners: Vec<Listener> = Vec::with_capacity(self.inner.listen.len());
        let mut chosen_port = 0;
        for configured in &self.inner.listen {
            let mut address = *configured;
            if address.port() == 0 {
                address.set_port(chosen_port);
            }
            let Ok(hold) = self.hold() else {
                if address.port() == 0 {
                    chosen_port = fastrand::u16(FREE_PORTS);
                    address.set_port(chosen_port);
                }
                listeners.push(Listener::later(address, self.clone()));
                continue;
            };
            let socket = sockets::tcp_on(address, self.binding(), self.departure());
            let listener = socket.and_then(|socket| Listener::new(socket, hold, self.clone()));
            match listener {
                Ok(listener) => {
                    if configured.port() == 0 {
                        chosen_port = listener.local_addr().port();
                    }
                    listeners.push(listener);
                }
                Err(error) if self.may_lack(address, &error) => {
                    tracing::info!(%address, %error, "this machine has no IPv6: not listening there");
                }
                Err(source) => return Err(TransportError::Listen { address, source }),
            }
        }
        Ok(listeners)
    }

    /// Opens the UDP sockets that uTP and everything else on the peers' port shares: one at each of `listeners`, at the same port, and where
    /// there is none in a family, one at a port that the system chooses, for dialling. Runs them as tasks of the runtime that calls this.
    /// Under a proxy that takes datagrams, two sockets speak to that, one for the peers of each family; under any other there is none.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO and time.
    pub fn utp(&self, listeners: &[Listener]) -> Result<(Utp, Vec<UtpEndpoint>), TransportError> {
        let places = self.shared_places(listeners)?;
        Ok(Utp::start(self, places))
    }

    /// Opens the same UDP sockets as [`utp`](Self::utp) for whoever does without uTP, whose packets are thrown away.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO.
    pub fn datagrams(&self, listeners: &[Listener]) -> Result<Vec<OtherDatagrams>, TransportError> {
        let places = self.shared_places(listeners)?.into_iter();
        let start = |place| OtherDatagrams::start(self.clone(), place);
        Ok(places.map(start).collect())
    }

    fn nowhere(&self, source: io::Error) -> TransportError {
        TransportError::Binding {
            binding: self.binding().clone(),
            source,
        }
    }

    /// Where the shared sockets are: under a proxy their addresses only tell families.
    fn shared_places(&self, listeners: &[Listener]) -> Result<Vec<Place>, TransportError> {
        let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let any = any.map(|ip: IpAddr| SocketAddr::new(ip, 0));
        if let Some(proxy) = self.proxy() {
            let families = any.into_iter();
            let families = families.filter(|_| proxy.protocol().takes_datagrams());
            let places = families.map(|address| {
                let socket = self.relayed();
                let socket = socket.transpose().map_err(|source| self.nowhere(source))?;
                Ok(Place { address, socket })
            });
            return places.collect();
        }
        let mut addresses: Vec<SocketAddr> = listeners.iter().map(Listener::local_addr).collect();
        for mut address in any {
            let is_there = addresses
                .iter()
                .any(|there| there.is_ipv4() == address.is_ipv4());
            if is_there || !self.binding().reaches(address.ip()) {
                continue;
            }
            if let Binding::Address(bound) = self.binding() {
                address.set_ip(*bound);
            }
            addresses.push(address);
        }
        let mut places = Vec::with_capacity(addresses.len());
        for address in addresses {
            match self.direct(address) {
                None => places.push(Place {
                    address,
                    socket: None,
                }),
                Some(Ok(socket)) => places.push(self.place(socket)?),
                // Only for dialling, and nobody can be dialled there.
                Some(Err(error)) if address.port() == 0 => {
                    tracing::info!(%address, %error, "no uTP in this family");
                }
                // The port that the system chose for TCP is another program's for UDP: peers will find us by TCP only.
                Some(Err(error))
                    if error.kind() == io::ErrorKind::AddrInUse
                        && !self.inner.listen.contains(&address) =>
                {
                    let any_port = SocketAddr::new(address.ip(), 0);
                    tracing::warn!(%address, %error, "uTP uses another port");
                    if let Some(socket) = self.direct(any_port) {
                        let socket = socket.map_err(|source| TransportError::Listen {
                            address: any_port,
                            source,
                        })?;
                        places.push(self.place(socket)?);
                    }
                }
                Some(Err(source)) => return Err(TransportError::Listen { address, source }),
            }
        }
        Ok(places)
    }

    fn place(&self, socket: Datagrams) -> Result<Place, TransportError> {
        let address = socket.socket.local_addr();
        let address = address.map_err(|source| self.nowhere(source))?;
        let socket = Some(socket);
        Ok(Place { address, socket })
    }

    /// A socket that speaks to the proxy, if there is a way.
    fn relayed(&self) -> Option<io::Result<Datagrams>> {
        let hold = self.hold().ok()?;
        let route = &self.inner.route;
        Some(Datagrams::relayed(route, self.connect_timeout(), hold))
    }

    /// A socket that speaks to everybody, if there is a way.
    fn direct(&self, address: SocketAddr) -> Option<io::Result<Datagrams>> {
        let hold = self.hold().ok()?;
        let socket = sockets::udp_on(address, self.binding(), self.departure());
        Some(socket.map(|socket| Datagrams::direct(socket, hold)))
    }

    /// Waits until the socket of a place can be opened again; `None` where it never can.
    pub(crate) async fn reopen(&self, address: SocketAddr) -> Option<Datagrams> {
        loop {
            drop(self.wait_for_way().await?);
            let opened = match self.proxy() {
                Some(_) => self.relayed(),
                None => self.direct(address),
            };
            match opened {
                Some(Ok(socket)) => return Some(socket),
                Some(Err(error)) => {
                    tracing::debug!(%address, %error, "no datagrams there yet");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                None => {}
            }
        }
    }

    fn may_lack(&self, address: SocketAddr, error: &io::Error) -> bool {
        let without_ipv6 = error.kind() == io::ErrorKind::AddrNotAvailable
            || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT);
        let is_any_v6 = address.is_ipv6() && address.ip().is_unspecified();
        is_any_v6 && without_ipv6 && self.inner.listen.iter().any(SocketAddr::is_ipv4)
    }

    /// Connects to a peer that `origin` named. Safe to cancel.
    pub async fn dial(
        &self,
        target: SocketAddr,
        origin: OriginClass,
    ) -> Result<PeerStream, DialError> {
        let target = self.checked(target, origin, Protocol::Peer)?;
        let hold = self.hold().map_err(DialError::Shut)?;
        let stream = hold.during(self.connect(target)).await;
        let stream = stream.ok_or_else(|| self.shut_meanwhile())??;
        PeerStream::new(stream, &hold).map_err(|source| DialError::Io { target, source })
    }

    async fn connect(&self, target: SocketAddr) -> Result<TcpStream, DialError> {
        let io_error = |source| DialError::Io { target, source };
        let after = self.inner.connect_timeout;
        if let Some(proxy) = self.proxy() {
            let through = target.into();
            let stream = tunnel::open(proxy, &through, self.binding(), after).await;
            return stream.map_err(|why| ProxyFailure::of(proxy, through, why));
        }
        let (departure, turn) = (self.departure(), &self.inner.turn);
        let socket = sockets::tcp_to_peer(target, self.binding(), departure, turn);
        let socket = socket.map_err(io_error)?;
        let stream = tokio::time::timeout(after, socket.connect(target))
            .await
            .map_err(|_| DialError::TimedOut { target, after })?
            .map_err(io_error)?;
        // A dial to a free local port may pick that very port as its source and meet itself (simultaneous open).
        match stream.local_addr().map_err(io_error)? == target {
            true => Err(io_error(io::ErrorKind::ConnectionRefused.into())),
            false => Ok(stream),
        }
    }

    /// What is said to whoever was under way when it ended.
    pub(crate) fn shut_meanwhile(&self) -> DialError {
        let why = self.hold().err();
        DialError::Shut(why.unwrap_or_else(|| "it ended meanwhile".into()))
    }

    /// A channel to a UDP tracker that `origin` named: at an address, or at a name that the proxy looks up. Nothing is sent yet.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO.
    pub fn udp(
        &self,
        target: impl Into<Endpoint>,
        origin: OriginClass,
    ) -> Result<UdpChannel, DialError> {
        self.udp_to(target, origin, Protocol::TrackerUdp)
    }

    /// A channel over which `protocol` is spoken.
    pub(crate) fn udp_to(
        &self,
        target: impl Into<Endpoint>,
        origin: OriginClass,
        protocol: Protocol,
    ) -> Result<UdpChannel, DialError> {
        let target = match target.into() {
            Endpoint::Address(address) => self.checked(address, origin, protocol)?.into(),
            Endpoint::Name(name, port) => {
                self.checked_name(&name, origin, protocol)?;
                Endpoint::Name(name, port)
            }
        };
        let hold = self.hold().map_err(DialError::Shut)?;
        if let Some(proxy) = self.proxy() {
            let channel = UdpChannel::relayed(self, &target, &hold);
            return channel.map_err(|why| ProxyFailure::of(proxy, target, why));
        }
        let Endpoint::Address(target) = target else {
            // Names have passed only where there is a proxy.
            return Err(self.shut_meanwhile());
        };
        let socket = sockets::udp_to(target, self.binding());
        let socket = socket.map_err(|source| DialError::Io { target, source })?;
        Ok(UdpChannel::new(socket, &hold))
    }

    /// Everybody on the local networks who listens to `group`; nobody (`None`) in isolation, under a proxy, and in a family that the
    /// binding does not reach. Nothing is sent yet.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO.
    pub fn multicast(&self, group: SocketAddr) -> io::Result<Option<Multicast>> {
        let named = self.inner.policy.names(OriginClass::Local, Protocol::Peer);
        let is_near = self.proxy().is_none() && self.binding().reaches(group.ip());
        if !named || !is_near {
            return Ok(None);
        }
        let hold = self
            .hold()
            .map_err(|why| io::Error::other(why.to_string()))?;
        Multicast::new(group, self.binding().clone(), hold).map(Some)
    }

    /// Makes HTTP requests.
    #[must_use]
    pub fn http(&self) -> HttpClient {
        HttpClient::new(self.clone())
    }

    /// The limit of all torrents together, and the source of each torrent's.
    #[must_use]
    pub fn limiter(&self) -> &Limiter {
        &self.inner.limiter
    }

    /// What every socket is bound to.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.inner.route.binding
    }

    /// How packets to peers leave.
    pub(crate) fn departure(&self) -> &Departure {
        &self.inner.departure
    }

    /// Who everything goes through, if there is such a proxy.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        self.inner.route.proxy.as_ref()
    }

    pub(crate) fn route(&self) -> &Route {
        &self.inner.route
    }

    pub(crate) fn http_clients(&self) -> &Clients {
        &self.inner.http_clients
    }

    /// Whether HTTP requests say which program we are.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.inner.anonymous
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.inner.connect_timeout
    }

    /// Whether isolation, if there is any, lets `origin` name anything to speak `protocol` to.
    pub(crate) fn names(&self, origin: OriginClass, protocol: Protocol) -> bool {
        self.inner.policy.names(origin, protocol)
    }

    /// Whether the policy lets `origin` make us speak `protocol` to `target`, for those who want to know before they
    /// spend a slot on it.
    pub fn check(
        &self,
        target: IpAddr,
        origin: OriginClass,
        protocol: Protocol,
    ) -> Result<(), Refusal> {
        // Networks come and go with cables and tunnels, so they are read when they matter. Those behind a proxy are not ours.
        let shared = match TargetClass::of(target) {
            TargetClass::Private if self.proxy().is_none() => shared_networks(self.binding()),
            _ => Vec::new(),
        };
        self.inner.policy.check(target, origin, protocol, &shared)?;
        let is_tracker = matches!(protocol, Protocol::TrackerHttp | Protocol::TrackerUdp);
        let filter = self.inner.tracker_filter.as_ref();
        match filter.is_none_or(|admits| !is_tracker || admits(target.to_canonical())) {
            true => Ok(()),
            false => Err(Refusal {
                target: target.to_canonical(),
                class: TargetClass::of(target),
                origin,
                protocol,
                reason: RefusalReason::Listed,
            }),
        }
    }

    /// The addresses of `host` (a name, an address, or an IPv6 address in brackets) that `origin` may make us speak
    /// `protocol` to: at least one.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        origin: OriginClass,
        protocol: Protocol,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        self.resolve_for(host, port, &[origin], protocol, None)
            .await
    }

    /// What to connect to for `host`, as [`resolve`](Self::resolve); under a proxy that looks names up, a name stays one.
    pub async fn endpoints(
        &self,
        host: &str,
        port: u16,
        origin: OriginClass,
        protocol: Protocol,
    ) -> Result<Vec<Endpoint>, ResolveError> {
        self.endpoints_for(host, port, &[origin], protocol, None)
            .await
    }

    /// As [`endpoints`](Self::endpoints), where every one of `origins` must be allowed, and, of addresses, only over `family`.
    pub(crate) async fn endpoints_for(
        &self,
        host: &str,
        port: u16,
        origins: &[OriginClass],
        protocol: Protocol,
        family: Option<AddressFamily>,
    ) -> Result<Vec<Endpoint>, ResolveError> {
        let is_address = resolver::literal(host).is_some() || resolver::is_localhost(host);
        let Some(proxy) = self.proxy().filter(|_| !is_address) else {
            let found = self.resolve_for(host, port, origins, protocol, family);
            return Ok(found.await?.into_iter().map(Endpoint::Address).collect());
        };
        resolver::check_name(host)?;
        if !proxy.protocol().takes_names() {
            return Err(self.only_at_the_proxy(host, proxy.protocol()));
        }
        let check = |origin: &OriginClass| self.inner.policy.check_name(host, *origin, protocol);
        origins.iter().try_for_each(check)?;
        Ok(vec![Endpoint::Name(host.to_owned(), port)])
    }

    fn only_at_the_proxy(&self, host: &str, protocol: ProxyProtocol) -> ResolveError {
        ResolveError::BehindProxy {
            host: host.to_owned(),
            protocol,
        }
    }

    /// As [`resolve`](Self::resolve), where every one of `origins` must be allowed, and only over `family`.
    pub(crate) async fn resolve_for(
        &self,
        host: &str,
        port: u16,
        origins: &[OriginClass],
        protocol: Protocol,
        family: Option<AddressFamily>,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = self.lookup(host, origins, protocol).await?;
        let mut reachable = Vec::new();
        let mut first_refusal = None;
        for address in found.into_iter().map(|address| address.to_canonical()) {
            let wanted = family.is_none_or(|family| family.holds(address));
            let target = SocketAddr::new(address, port);
            if !wanted || !self.inner.route.reaches(address) || reachable.contains(&target) {
                continue;
            }
            match origins
                .iter()
                .try_for_each(|origin| self.check(address, *origin, protocol))
            {
                Ok(()) => reachable.push(target),
                Err(refusal) => first_refusal = first_refusal.or(Some(refusal)),
            }
        }
        if !reachable.is_empty() {
            return Ok(reachable);
        }
        let host = host.to_owned();
        Err(match first_refusal {
            Some(refusal) => ResolveError::Refused { host, refusal },
            None => ResolveError::WrongFamily {
                host,
                binding: self.binding().clone(),
            },
        })
    }

    /// What the name stands for, unfiltered.
    async fn lookup(
        &self,
        host: &str,
        origins: &[OriginClass],
        protocol: Protocol,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        resolver::check_name(host)?;
        if let Some(address) = resolver::literal(host) {
            return Ok(vec![address]);
        }
        if resolver::is_localhost(host) {
            return Ok(resolver::LOCALHOST.to_vec());
        }
        if let Some(proxy) = self.proxy() {
            return Err(self.only_at_the_proxy(host, proxy.protocol()));
        }
        if !origins
            .iter()
            .all(|origin| self.inner.policy.names(*origin, protocol))
        {
            return Err(ResolveError::Isolated {
                host: host.to_owned(),
            });
        }
        let shut = |why| ResolveError::Shut {
            host: host.to_owned(),
            why,
        };
        let hold = self.hold().map_err(shut)?;
        let looking = async {
            match &self.inner.name_servers[..] {
                [] => self.inner.resolver.lookup(host).await,
                servers => Box::pin(name_server::look_up(servers, host, self.binding())).await,
            }
        };
        let after = self.inner.resolve_timeout;
        let found = hold.during(tokio::time::timeout(after, looking)).await;
        let mut found = found
            .ok_or_else(|| shut("the route has ended".into()))?
            .map_err(|_| ResolveError::TimedOut {
                host: host.to_owned(),
                after,
            })?
            .map_err(|source| ResolveError::Lookup {
                host: host.to_owned(),
                source,
            })?;
        found.truncate(resolver::MAX_ADDRESSES_PER_NAME);
        Ok(found)
    }

    /// What has to hold of a name that a proxy is to look up.
    pub(crate) fn checked_name(
        &self,
        name: &str,
        origin: OriginClass,
        protocol: Protocol,
    ) -> Result<(), NameRefusal> {
        if self.proxy().is_none() {
            return Err(NameRefusal {
                host: name.to_owned(),
                origin,
                protocol,
                reason: RefusalReason::Unusable,
            });
        }
        self.inner.policy.check_name(name, origin, protocol)
    }

    /// What every dial has in common before its socket exists.
    pub(crate) fn checked(
        &self,
        target: SocketAddr,
        origin: OriginClass,
        protocol: Protocol,
    ) -> Result<SocketAddr, DialError> {
        let target = canonical(target);
        self.check(target.ip(), origin, protocol)?;
        if target.port() == 0 {
            return Err(DialError::NoPort(target));
        }
        if let (Some(proxy), Protocol::PortMapping) = (self.proxy(), protocol) {
            return Err(ProxyFailure::of(
                proxy,
                target,
                ProxyError::Unsupported(proxy.protocol(), "port mapping").into(),
            ));
        }
        if !self.inner.route.reaches(target.ip()) {
            return Err(DialError::OutOfReach {
                target,
                binding: self.binding().clone(),
            });
        }
        Ok(target)
    }
}

/// A socket that is shared, and is opened again where it was.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    /// Nothing where there is no way yet.
    pub(crate) socket: Option<Datagrams>,
}

/// An IPv4-mapped address as IPv4, so that it takes the route that the policy looked at.
fn canonical(target: SocketAddr) -> SocketAddr {
    match target.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), target.port()),
        IpAddr::V6(_) => target,
    }
}

/// Where to listen under `binding`. "Everywhere" narrows to the bound address, and to nothing in the other family, since
/// nothing there could be bound; any other address outside the binding is a contradiction.
fn listen_addresses(
    configured: &[SocketAddr],
    binding: &Binding,
) -> Result<Vec<SocketAddr>, TransportError> {
    let Binding::Address(bound) = binding else {
        return Ok(configured.to_vec());
    };
    let mut narrowed = Vec::with_capacity(configured.len());
    for address in configured {
        let same_family = address.is_ipv4() == bound.is_ipv4();
        if address.ip().is_unspecified() && same_family {
            narrowed.push(SocketAddr::new(*bound, address.port()));
        } else if address.ip() == *bound {
            narrowed.push(*address);
        } else if !address.ip().is_unspecified() {
            return Err(outside(*address, binding));
        }
    }
    match configured.first() {
        Some(address) if narrowed.is_empty() => Err(outside(*address, binding)),
        _ => Ok(narrowed),
    }
}

fn outside(address: SocketAddr, binding: &Binding) -> TransportError {
    TransportError::ListenOutsideBinding {
        address,
        binding: binding.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(configured: &[&str], bound: &str) -> Result<Vec<String>, TransportError> {
        let configured: Vec<SocketAddr> = configured
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let binding = Binding::Address(bound.parse().unwrap());
        let addresses = listen_addresses(&configured, &binding)?;
        Ok(addresses.iter().map(SocketAddr::to_string).collect())
    }

    #[test]
    fn listening_everywhere_narrows_to_the_bound_address() {
        assert_eq!(
            listen(&["0.0.0.0:7", "[::]:7"], "10.1.1.1").unwrap(),
            ["10.1.1.1:7"]
        );
        assert_eq!(
            listen(&["0.0.0.0:7", "[::]:7"], "fd00::1").unwrap(),
            ["[fd00::1]:7"]
        );
        assert_eq!(listen(&["10.1.1.1:7"], "10.1.1.1").unwrap(), ["10.1.1.1:7"]);
        assert!(listen(&[], "10.1.1.1").unwrap().is_empty());
    }

    #[test]
    fn listening_outside_the_binding_is_an_error_and_not_a_leak() {
        for configured in [
            &["10.2.2.2:7"][..],
            &["0.0.0.0:7", "127.0.0.1:7"],
            &["[::]:7"],
        ] {
            let error = listen(configured, "10.1.1.1").unwrap_err();
            assert!(
                matches!(error, TransportError::ListenOutsideBinding { .. }),
                "{error}"
            );
        }
    }
}
