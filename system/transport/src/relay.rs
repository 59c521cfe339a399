//! Datagrams that go through a SOCKS5 proxy (UDP ASSOCIATE), over sockets that speak to nobody but it.
//!
//! A task keeps the association while the socket is used: an association ends with the connection that it was asked for over
//! (RFC 1928 section 6), and is asked for anew when somebody wants to send.
//!
//! Invariant: a socket under a proxy sends to the proxy's own address alone, and takes datagrams from there alone; while there is no
//! association it sends nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::proxy::{Endpoint, Handshake, ProxyError, datagram};
use crate::route::Route;
use crate::sockets;
use crate::tunnel::{self, ThroughProxy};
use crate::way::{self, Hold};

/// How long a proxy is left alone that did not associate.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// An association: where the proxy takes datagrams, while the connection stands.
#[derive(Debug)]
pub(crate) struct Association {
    connection: TcpStream,
    pub(crate) relay: SocketAddr,
}

impl Association {
    /// Asks for one. A proxy that names another host than itself is taken at its port: nobody else is spoken to.
    pub(crate) async fn open(route: &Route, patience: Duration) -> Result<Self, ThroughProxy> {
        let Some(proxy) = &route.proxy else {
            return Err(ThroughProxy::Unreachable(
                io::ErrorKind::NotConnected.into(),
            ));
        };
        let handshake = Handshake::associate(proxy)?;
        let (connection, handshake) =
            tunnel::ask(proxy, handshake, &route.binding, patience).await?;
        let port = handshake.bound().map_or(0, Endpoint::port);
        if port == 0 {
            return Err(ProxyError::NotAProxy(proxy.protocol()).into());
        }
        let relay = SocketAddr::new(proxy.address().ip(), port);
        Ok(Association { connection, relay })
    }

    /// Waits until it has ended. What the proxy says on it means nothing.
    pub(crate) async fn ended(&mut self) {
        let mut ignored = [0; 64];
        while matches!(self.connection.read(&mut ignored).await, Ok(1..)) {}
    }
}

/// How things stand with the association of a socket.
#[derive(Clone, Debug)]
enum Standing {
    /// Nobody has asked for one, or it has ended.
    None,
    At(SocketAddr),
    /// There is none, and why. Counted, so that who waits can tell a new failure from an old one.
    Failed(u64, Arc<ThroughProxy>),
}

/// What users of a socket know of its association.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    standing: watch::Receiver<Standing>,
    wanted: Arc<Notify>,
}

impl Relay {
    /// Keeps an association, as a task of the runtime that calls this, until all clones have gone.
    pub(crate) fn start(route: Route, patience: Duration, hold: Hold) -> Self {
        let (sender, standing) = watch::channel(Standing::None);
        let wanted = Arc::new(Notify::new());
        tokio::spawn(keep(route, patience, sender, Arc::clone(&wanted), hold));
        Relay { standing, wanted }
    }

    /// Where datagrams go, if there is an association; asks for one otherwise.
    pub(crate) fn now(&self) -> Option<SocketAddr> {
        match *self.standing.borrow() {
            Standing::At(relay) => Some(relay),
            Standing::None | Standing::Failed(..) => {
                self.wanted.notify_one();
                None
            }
        }
    }

    /// Where datagrams go, waiting for it.
    pub(crate) async fn ready(&self) -> Result<SocketAddr, Arc<ThroughProxy>> {
        let mut standing = self.standing.clone();
        let failures = match &*standing.borrow_and_update() {
            Standing::At(relay) => return Ok(*relay),
            Standing::None => None,
            Standing::Failed(count, _) => Some(*count),
        };
        self.wanted.notify_one();
        let closed = || Arc::new(ThroughProxy::Said(ProxyError::Closed));
        loop {
            standing.changed().await.map_err(|_| closed())?;
            match &*standing.borrow_and_update() {
                Standing::At(relay) => return Ok(*relay),
                Standing::Failed(count, why) if Some(*count) != failures => {
                    return Err(Arc::clone(why));
                }
                Standing::None | Standing::Failed(..) => {}
            }
        }
    }

    /// Whether there is one.
    pub(crate) fn stands(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::At(_))
    }

    /// Whether nobody knows yet what comes of asking for one.
    pub(crate) fn is_new(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::None)
    }

    /// Waits until it is another one, or none any more.
    pub(crate) async fn changed(&mut self) {
        if self.standing.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn keep(
    route: Route,
    patience: Duration,
    standing: watch::Sender<Standing>,
    wanted: Arc<Notify>,
    hold: Hold,
) {
    let mut failures = 0;
    let work = async {
        loop {
            wanted.notified().await;
            match Association::open(&route, patience).await {
                Ok(mut association) => {
                    standing.send_replace(Standing::At(association.relay));
                    association.ended().await;
                    tracing::debug!("the proxy has ended an association");
                    standing.send_replace(Standing::None);
                }
                Err(why) => {
                    failures += 1;
                    tracing::debug!(%why, "no datagrams go through the proxy");
                    standing.send_replace(Standing::Failed(failures, Arc::new(why)));
                }
            }
            sleep(RETRY_AFTER).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = standing.closed() => {}
        () = hold.over() => {}
    }
}

/// A UDP socket, and how what it sends gets where it is to.
#[derive(Debug)]
pub(crate) struct Datagrams {
    pub(crate) socket: UdpSocket,
    relay: Option<Relay>,
    hold: Hold,
}

impl Datagrams {
    /// A socket that speaks to everybody.
    pub(crate) const fn direct(socket: UdpSocket, hold: Hold) -> Self {
        Datagrams {
            socket,
            relay: None,
            hold,
        }
    }

    /// A socket that speaks to the route's proxy, which is asked for an association when somebody wants to send.
    pub(crate) fn relayed(route: &Route, patience: Duration, hold: Hold) -> io::Result<Self> {
        let socket = sockets::udp_towards(route)?;
        let relay = Relay::start(route.clone(), patience, hold.clone());
        Ok(Datagrams {
            socket,
            relay: Some(relay),
            hold,
        })
    }

    /// The way that it was made for.
    pub(crate) const fn hold(&self) -> &Hold {
        &self.hold
    }

    /// The relay, under a proxy.
    pub(crate) const fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Where a datagram for `target` is sent, and what stands before it; `None` where it cannot be sent.
    pub(crate) fn envelope(&self, target: &Endpoint) -> Option<(SocketAddr, Vec<u8>)> {
        if self.hold.is_over() {
            return None;
        }
        match (&self.relay, target) {
            (None, Endpoint::Address(target)) => Some((*target, Vec::new())),
            (None, Endpoint::Name(..)) => None,
            (Some(relay), _) => Some((relay.now()?, datagram::head(target).ok()?)),
        }
    }

    /// Who sent a datagram, and the datagram, of what came from `from`; `None` where that is not the proxy that it has to be.
    pub(crate) fn open<'a>(
        &self,
        from: SocketAddr,
        bytes: &'a [u8],
    ) -> Option<(SocketAddr, &'a [u8])> {
        let Some(relay) = &self.relay else {
            return Some((from, bytes));
        };
        let Standing::At(relay) = *relay.standing.borrow() else {
            return None;
        };
        (from == relay).then(|| datagram::unwrap(bytes))?
    }

    /// Sends one datagram.
    pub(crate) async fn send_to(&self, bytes: &[u8], target: &Endpoint) -> io::Result<()> {
        let Some((destination, mut head)) = self.envelope(target) else {
            return Err(way::over());
        };
        let datagram = match head.is_empty() {
            true => bytes,
            false => {
                head.extend_from_slice(bytes);
                &head
            }
        };
        self.socket.send_to(datagram, destination).await.map(drop)
    }
}
