//! Asking the router to pass a port on to us: PCP, then NAT-PMP, then UPnP.
//!
//! Invariant: only the router that the system's own routes name is spoken to, by sockets under the binding; what it says our address is
//! counts only where the policy lets peers be told of it; and what it may have mapped is known until it is taken back.

mod nat_pmp;
mod pcp;
mod router;
mod upnp;

use crate::http::{HttpError, HttpLimits};
use crate::policy::{OriginClass, Protocol, Refusal};
use crate::sockets;
use crate::transport::Transport;
use crate::udp::UdpChannel;
use router::Router;
use socket2::SockRef;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use upnp::{Action, Service};
use url::Url;

/// Where routers listen for PCP (RFC 6887 section 19.1) and NAT-PMP.
const PORT: u16 = 5351;
/// Where devices hear searches (UPnP Device Architecture 1.1 section 1.3.2).
const SSDP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);
/// How long we ask for. A router that restarts forgets its mappings, and one that we cannot tell of our end keeps them: both last no
/// longer than this, but for devices of UPnP whose mappings have no end ([`upnp::ONLY_PERMANENT`]).
const LIFETIME_S: u32 = 20 * 60;
/// No mapping is renewed more often than for this lifetime, whatever a router grants.
const MIN_LIFETIME_S: u32 = 2 * 60;
/// A request is sent anew after these times without an answer (RFC 6886 section 3.1, cut short: a router that speaks the protocol is one
/// hop away).
const RESEND_MS: [u64; 3] = [250, 500, 1_000];
/// The same where a mapping is taken back: nobody waits long for a router when they want to leave.
const RESEND_LEAVING_MS: [u64; 2] = [150, 300];
/// The largest message of PCP (RFC 6887 section 7).
const MAX_DATAGRAM_BYTES: usize = 1_100;
/// An answer to a search has a few headers.
const MAX_SEARCH_ANSWER_BYTES: usize = 2_048;
/// Answers to one search that are looked at, so that nobody keeps us busy.
const MAX_SEARCH_ANSWERS: usize = 64;
/// How long devices have to answer a search, which is repeated once, as datagrams get lost. They may wait a second.
const SEARCH_MS: [u64; 2] = [1_200, 1_500];
/// Descriptions of real devices have less than 20 KiB.
const MAX_BODY_BYTES: usize = 64 * 1_024;
const HTTP_TIMEOUT: Duration = Duration::from_secs(3);
const HTTP_TIMEOUT_LEAVING: Duration = Duration::from_millis(700);
/// External ports that are tried: ours, then any two.
const MAX_PORTS: usize = 3;
/// Ports that are nobody's (RFC 6335 section 6).
const FREE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// What a router shows to the person who looks at its mappings.
const MAPPING_NAME: &str = "Shoal";

/// What a port is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
}

impl Kind {
    /// As IANA counts them, and PCP.
    const fn number(self) -> u8 {
        match self {
            Kind::Tcp => 6,
            Kind::Udp => 17,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "TCP",
            Kind::Udp => "UDP",
        }
    }
}

/// How a router is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingProtocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// A UPnP Internet Gateway Device, version 1 or 2.
    Upnp,
}

impl MappingProtocol {
    /// All, in the order in which they are tried: the newest says best what it means.
    pub const ALL: [MappingProtocol; 3] = [
        MappingProtocol::Pcp,
        MappingProtocol::NatPmp,
        MappingProtocol::Upnp,
    ];
}

impl fmt::Display for MappingProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MappingProtocol::Pcp => "PCP",
            MappingProtocol::NatPmp => "NAT-PMP",
            MappingProtocol::Upnp => "UPnP",
        })
    }
}

/// A port of the router that it passes on to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The router's address on its far side, as it says itself, and the port there, of TCP and UDP alike.
    pub address: SocketAddrV4,
    /// How it was asked.
    pub by: MappingProtocol,
    /// When it is to be asked again.
    pub renew_after: Duration,
}

/// The port that is to be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedPort {
    /// Its number.
    pub port: u16,
    /// Whether we listen there for TCP.
    pub tcp: bool,
    /// Whether we listen there for UDP.
    pub udp: bool,
}

/// Why no port is mapped.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// There is no route out, or none over a router.
    #[error("no router is known that leads out by {0}")]
    NoRouter(crate::Binding),
    /// Our own address is one that everybody can connect to.
    #[error("{0} is no address behind a router")]
    NotNeeded(Ipv4Addr),
    /// The policy does not let us speak to it, or believe it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody answered, or not as was asked.
    #[error("the router maps no port: {0}")]
    NotMapped(String),
}

/// Why one protocol did not map a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Nobody answered in time.
    Silence,
    /// The router does not speak the protocol.
    Unsupported,
    /// It refuses, with the protocol's code.
    Refused(u32),
    /// It answers, and the answer is of no use.
    Unusable,
    /// The system does not let us ask.
    Unsent,
}

/// What a router says it passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grant {
    address: Ipv4Addr,
    port: u16,
    lifetime_s: u32,
}

/// A protocol, ready to ask.
#[derive(Clone, Debug)]
enum Asker {
    Pcp([u8; 12]),
    NatPmp,
    Upnp(Service),
}

impl Asker {
    const fn protocol(&self) -> MappingProtocol {
        match self {
            Asker::Pcp(_) => MappingProtocol::Pcp,
            Asker::NatPmp => MappingProtocol::NatPmp,
            Asker::Upnp(_) => MappingProtocol::Upnp,
        }
    }
}

/// What a router may have mapped for us.
#[derive(Clone, Debug)]
struct Held {
    router: Router,
    asker: Asker,
    /// What was asked for, answered or not: kind and external port.
    asked: Vec<(Kind, u16)>,
}

/// Maps one port of this process.
#[derive(Debug)]
pub struct PortMapper {
    transport: Transport,
    wanted: WantedPort,
    /// The address that is listened at, if it is a single one.
    listening: Ipv4Addr,
    /// Proves to a router of PCP that it is us again.
    nonce: [u8; 12],
    held: Option<Held>,
    /// Instead of the one that the routes name.
    #[cfg(test)]
    router: Option<Router>,
}

impl Transport {
    /// What maps the port at which `listening` says that we listen; `None` where nobody outside could use it: in isolation, on loopback
    /// alone, over IPv6 alone. Nothing is sent yet.
    #[must_use]
    pub fn port_mapper(&self, listening: SocketAddr, wanted: WantedPort) -> Option<PortMapper> {
        let IpAddr::V4(address) = listening.ip() else {
            return None;
        };
        let bound_to_loopback = match self.binding() {
            crate::Binding::Address(bound) => bound.is_loopback() || bound.is_ipv6(),
            crate::Binding::Any | crate::Binding::Interface(_) => false,
        };
        let allowed =
            self.proxy().is_none() && self.names(OriginClass::Router, Protocol::PortMapping);
        if !allowed || bound_to_loopback || address.is_loopback() || !(wanted.tcp || wanted.udp) {
            return None;
        }
        let mut nonce = [0; 12];
        // What a stranger on the network must not guess; without the system's randomness nothing is mapped.
        getrandom::fill(&mut nonce).ok()?;
        Some(PortMapper {
            transport: self.clone(),
            wanted,
            listening: address,
            nonce,
            held: None,
            #[cfg(test)]
            router: None,
        })
    }
}

impl PortMapper {
    /// Maps the port, or renews what is mapped. May be cancelled: what was asked for until then is taken back by
    /// [`release`](Self::release).
    ///
    /// # Errors
    /// Where there is no router, or it maps nothing that is of use.
    pub async fn map(&mut self) -> Result<Mapped, MappingError> {
        let router = self.router()?;
        // What another router holds is out of reach, and ends by itself.
        self.held = self.held.take().filter(|held| held.router == router);
        if let Some(Held { asker, asked, .. }) = self.held.clone() {
            let external = asked.last().map_or(self.wanted.port, |(_, port)| *port);
            match self.map_by(&router, asker, &[external]).await {
                Ok(mapped) => return Ok(mapped),
                Err(error) => tracing::debug!(%error, "the router does not renew what it mapped"),
            }
            self.release().await;
        }
        let mut said = Vec::new();
        for protocol in MappingProtocol::ALL {
            for asker in self.askers(&router, protocol).await {
                match self.map_by(&router, asker, &self.ports()).await {
                    Ok(mapped) => return Ok(mapped),
                    Err(MappingError::NotMapped(why)) => said.push(format!("{protocol}: {why}")),
                    Err(error) => said.push(format!("{protocol}: {error}")),
                }
                self.release().await;
            }
        }
        if said.is_empty() {
            said.push("it was not asked".to_owned());
        }
        Err(MappingError::NotMapped(said.join("; ")))
    }

    /// Takes back what the router may have mapped. May be cancelled, and called again then.
    pub async fn release(&mut self) {
        let Some(held) = self.held.clone() else {
            return;
        };
        // Each kind once; the external port only matters to UPnP, and there every one that was tried and not refused does.
        let mut asked = held.asked;
        if !matches!(held.asker, Asker::Upnp(_)) {
            asked.dedup_by_key(|(kind, _)| *kind);
        }
        let mut tasks = tokio::task::JoinSet::new();
        for (kind, external) in asked {
            let (transport, router, asker) =
                (self.transport.clone(), held.router, held.asker.clone());
            let internal = self.wanted.port;
            tasks.spawn(async move {
                unmap(&transport, &router, &asker, kind, internal, external).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            if let Ok(Err(failure)) = done {
                tracing::debug!(%failure, "the router does not take a mapping back");
            }
        }
        self.held = None;
    }

    fn router(&self) -> Result<Router, MappingError> {
        #[cfg(test)]
        if let Some(router) = self.router {
            return Ok(router);
        }
        let binding = self.transport.binding();
        let router = Router::find(binding);
        let router = router.ok_or_else(|| MappingError::NoRouter(binding.clone()))?;
        let elsewhere = !self.listening.is_unspecified() && self.listening != router.client;
        if elsewhere {
            return Err(MappingError::NoRouter(binding.clone()));
        }
        if crate::TargetClass::of(router.client.into()) == crate::TargetClass::Global {
            return Err(MappingError::NotNeeded(router.client));
        }
        let address = IpAddr::V4(router.address);
        self.transport
            .check(address, OriginClass::Router, Protocol::PortMapping)?;
        Ok(router)
    }

    /// The external ports that are tried.
    fn ports(&self) -> Vec<u16> {
        let mut ports = vec![self.wanted.port];
        ports.resize_with(MAX_PORTS, || fastrand::u16(FREE_PORTS));
        ports
    }

    /// Who can ask by this protocol. Only for UPnP it has to be found out.
    async fn askers(&self, router: &Router, protocol: MappingProtocol) -> Vec<Asker> {
        match protocol {
            MappingProtocol::Pcp => vec![Asker::Pcp(self.nonce)],
            MappingProtocol::NatPmp => vec![Asker::NatPmp],
            MappingProtocol::Upnp => {
                let services = discover(&self.transport, router).await;
                services.into_iter().map(Asker::Upnp).collect()
            }
        }
    }

    /// Maps TCP and UDP at one external port, the first of `ports` that both get.
    async fn map_by(
        &mut self,
        router: &Router,
        asker: Asker,
        ports: &[u16],
    ) -> Result<Mapped, MappingError> {
        let by = asker.protocol();
        let mut last = Failure::Unusable;
        for external in ports {
            match self.map_at(router, &asker, *external).await {
                Ok(grant) => {
                    // Peers are told of the port as if it were at this address.
                    self.transport.check(
                        grant.address.into(),
                        OriginClass::Router,
                        Protocol::Peer,
                    )?;
                    let lifetime_s = grant.lifetime_s.clamp(MIN_LIFETIME_S, LIFETIME_S);
                    return Ok(Mapped {
                        address: SocketAddrV4::new(grant.address, grant.port),
                        by,
                        renew_after: Duration::from_secs(u64::from(lifetime_s / 2)),
                    });
                }
                // Another port may be free.
                Err(failure @ Failure::Refused(_)) => last = failure,
                Err(failure) => return Err(MappingError::NotMapped(failure.to_string())),
            }
        }
        Err(MappingError::NotMapped(last.to_string()))
    }

    async fn map_at(
        &mut self,
        router: &Router,
        asker: &Asker,
        external: u16,
    ) -> Result<Grant, Failure> {
        let (mut granted, mut external): (Option<Grant>, u16) = (None, external);
        let kinds = [(Kind::Tcp, self.wanted.tcp), (Kind::Udp, self.wanted.udp)];
        for (kind, _) in kinds.into_iter().filter(|(_, wanted)| *wanted) {
            let held = self.held.get_or_insert_with(|| Held {
                router: *router,
                asker: asker.clone(),
                asked: Vec::new(),
            });
            let is_new = !held.asked.contains(&(kind, external));
            if is_new {
                held.asked.push((kind, external));
            }
            let wish = Wish {
                kind,
                internal: self.wanted.port,
                external,
            };
            let grant = map_one(&self.transport, router, asker, wish).await;
            // The port may be another machine's, and a device of UPnP forgets what anybody tells it to.
            if let (Asker::Upnp(_), true, Err(Failure::Refused(_)), Some(held)) =
                (asker, is_new, &grant, &mut self.held)
            {
                held.asked.pop();
            }
            let grant = match (grant, granted) {
                (Ok(grant), Some(before)) if grant.port != before.port => {
                    // Nobody can be told of two ports. Another pair may be free.
                    Err(Failure::Refused(upnp::CONFLICT))
                }
                (grant, _) => grant,
            };
            match grant {
                Ok(grant) => {
                    external = grant.port;
                    granted = Some(grant);
                }
                Err(failure) => {
                    self.release().await;
                    return Err(failure);
                }
            }
        }
        granted.ok_or(Failure::Unusable)
    }
}

/// One mapping to ask for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    kind: Kind,
    internal: u16,
    external: u16,
}

async fn map_one(
    transport: &Transport,
    router: &Router,
    asker: &Asker,
    wish: Wish,
) -> Result<Grant, Failure> {
    let Wish {
        kind,
        internal,
        external,
    } = wish;
    match asker {
        Asker::Pcp(nonce) => {
            let request = pcp::Request {
                nonce: *nonce,
                kind,
                client: router.client,
                internal,
                external,
                lifetime_s: LIFETIME_S,
            };
            let channel = router.channel(transport)?;
            ask(&channel, &request.encode(), &RESEND_MS, |answer| {
                request.granted(answer)
            })
            .await
        }
        Asker::NatPmp => {
            let request = nat_pmp::Request {
                kind,
                internal,
                external,
                lifetime_s: LIFETIME_S,
            };
            let channel = router.channel(transport)?;
            let address = ask(
                &channel,
                &nat_pmp::ADDRESS_REQUEST,
                &RESEND_MS,
                nat_pmp::address,
            );
            let address = address.await?;
            let encoded = request.encode();
            let granted = ask(&channel, &encoded, &RESEND_MS, |answer| {
                request.granted(answer)
            });
            let (port, lifetime_s) = granted.await?;
            Ok(Grant {
                address,
                port,
                lifetime_s,
            })
        }
        Asker::Upnp(service) => map_by_upnp(transport, router, service, wish).await,
    }
}

async fn map_by_upnp(
    transport: &Transport,
    router: &Router,
    service: &Service,
    wish: Wish,
) -> Result<Grant, Failure> {
    let address = Action::external_address();
    let (status, body) = act(transport, service, &address, HTTP_TIMEOUT).await?;
    let address = upnp::external_address(status, &body)?;
    let add = |lifetime_s| {
        Action::add(
            wish.kind,
            wish.external,
            router.client,
            wish.internal,
            lifetime_s,
        )
    };
    let (status, body) = act(transport, service, &add(LIFETIME_S), HTTP_TIMEOUT).await?;
    match upnp::done(status, &body) {
        Ok(()) => {}
        Err(Failure::Refused(upnp::ONLY_PERMANENT)) => {
            let (status, body) = act(transport, service, &add(0), HTTP_TIMEOUT).await?;
            upnp::done(status, &body)?;
        }
        Err(failure) => return Err(failure),
    }
    Ok(Grant {
        address,
        port: wish.external,
        lifetime_s: LIFETIME_S,
    })
}

async fn unmap(
    transport: &Transport,
    router: &Router,
    asker: &Asker,
    kind: Kind,
    internal: u16,
    external: u16,
) -> Result<(), Failure> {
    match asker {
        Asker::Pcp(nonce) => {
            let request = pcp::Request {
                nonce: *nonce,
                kind,
                client: router.client,
                internal,
                external: 0,
                lifetime_s: 0,
            };
            let channel = router.channel(transport)?;
            // Whatever is said of a mapping that is gone, it is gone.
            ask(&channel, &request.encode(), &RESEND_LEAVING_MS, |answer| {
                request.granted(answer).map(|_| Ok(()))
            })
            .await
        }
        Asker::NatPmp => {
            let request = nat_pmp::Request {
                kind,
                internal,
                external: 0,
                lifetime_s: 0,
            };
            let channel = router.channel(transport)?;
            ask(&channel, &request.encode(), &RESEND_LEAVING_MS, |answer| {
                request.granted(answer).map(|granted| granted.map(drop))
            })
            .await
        }
        Asker::Upnp(service) => {
            let delete = Action::delete(kind, external);
            let (status, body) = act(transport, service, &delete, HTTP_TIMEOUT_LEAVING).await?;
            upnp::done(status, &body)
        }
    }
}

/// Sends a request until it is answered.
async fn ask<T>(
    channel: &UdpChannel,
    request: &[u8],
    resend_ms: &[u64],
    read: impl Fn(&[u8]) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    for wait_ms in resend_ms {
        let until = Instant::now() + Duration::from_millis(*wait_ms);
        // A router where nobody listens refuses at once (ICMP), which may also be meant for the request before.
        if channel.send(request).await.is_err() && channel.send(request).await.is_err() {
            return Err(Failure::Unsupported);
        }
        while let Ok(received) = timeout_at(until, channel.recv(&mut buffer)).await {
            let length = received.map_err(|_| Failure::Unsupported)?;
            if let Some(answer) = read(&buffer[..length]) {
                return answer;
            }
        }
    }
    Err(Failure::Silence)
}

/// The services of the router that map ports.
async fn discover(transport: &Transport, router: &Router) -> Vec<Service> {
    let found = match search(transport, router).await {
        Ok(Some(found)) => found,
        Ok(None) => return Vec::new(),
        Err(error) => {
            tracing::debug!(%error, "cannot search for UPnP devices");
            return Vec::new();
        }
    };
    match timeout(HTTP_TIMEOUT, fetch(transport, &found)).await {
        Ok(Ok(description)) => upnp::services(&description, &found, router.address),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the router does not describe its UPnP device");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// Where the router says that its description is.
async fn search(transport: &Transport, router: &Router) -> io::Result<Option<Url>> {
    let socket = sockets::multicast_sender(router.ssdp.into(), transport.binding())?;
    SockRef::from(&socket).set_multicast_if_v4(&router.client)?;
    let mut buffer = [0; MAX_SEARCH_ANSWER_BYTES];
    let mut heard = 0;
    for wait_ms in SEARCH_MS {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        for target in upnp::SEARCHED {
            let datagram = upnp::search(target);
            socket
                .send_to(datagram.as_bytes(), SocketAddr::from(router.ssdp))
                .await?;
        }
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut buffer)).await {
            let (length, from) = received?;
            heard += 1;
            if heard > MAX_SEARCH_ANSWERS {
                return Ok(None);
            }
            let of_router = from.ip() == IpAddr::V4(router.address);
            match upnp::location(&buffer[..length], router.address) {
                Some(location) if of_router => return Ok(Some(location)),
                _ => {
                    tracing::debug!(%from, "an answer that names nothing at the router is not followed");
                }
            }
        }
    }
    Ok(None)
}

fn limits(timeout: Duration) -> HttpLimits {
    HttpLimits {
        protocol: Protocol::PortMapping,
        max_body_bytes: MAX_BODY_BYTES,
        timeout,
        // A redirect would lead to where the router's word does not reach.
        max_redirects: 0,
        family: None,
    }
}

async fn fetch(transport: &Transport, url: &Url) -> Result<Vec<u8>, HttpError> {
    let client = transport.http();
    let reply = client.get(url.clone(), OriginClass::Router, limits(HTTP_TIMEOUT));
    reply.await.map(|reply| reply.body)
}

/// What the router says to an action.
async fn act(
    transport: &Transport,
    service: &Service,
    action: &Action,
    timeout: Duration,
) -> Result<(u16, Vec<u8>), Failure> {
    let (header, body) = (action.header(service), action.body(service));
    let url = service.control.clone();
    let client = transport.http();
    let reply = client.post_action(url, OriginClass::Router, limits(timeout), &header, body);
    match reply.await {
        Ok(reply) => Ok((reply.status, reply.body)),
        Err(error) => {
            tracing::debug!(%error, "the router does not answer to UPnP");
            Err(Failure::Silence)
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Silence => f.write_str("no answer"),
            Failure::Unsupported => f.write_str("not spoken"),
            Failure::Refused(code) => write!(f, "refused (code {code})"),
            Failure::Unusable => f.write_str("an answer that is of no use"),
            Failure::Unsent => f.write_str("cannot be asked"),
        }
    }
}

#[cfg(test)]
mod tests;
