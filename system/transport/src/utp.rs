//! uTP over UDP sockets that are shared with what else speaks UDP on the peers' port.
//!
//! Each socket has one event loop, a task, which owns the machine of all its connections ([`driver`]). A connection's bytes travel between
//! the loop and whoever uses the stream through two buffers under a lock each ([`pipe`]), so that a stream can live on another thread's
//! event loop; both sides wake each other once for many packets.
//!
//! Invariant: no connection is opened that the policy did not allow, and every socket is bound as the configuration says; who may connect
//! to us is the session's to judge, as with TCP.

mod batch;
mod driver;
mod entrance;
mod pipe;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shoal_utp::{ConnectError, is_utp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::listener::Listener;
use crate::peer_stream::PeerStream;
use crate::policy::{OriginClass, Protocol};
use crate::proxy::Endpoint;
use crate::relay::Datagrams;
use crate::transport::{DialError, Place, Transport};
use crate::tunnel::ThroughProxy;
use driver::{Command, Driver, Ends};
pub(crate) use entrance::Accepts;
use entrance::entrance;
pub(crate) use stream::UtpStream;

/// Dials that may wait for the event loop, which takes them at each turn.
const MAX_COMMANDS: usize = 64;
/// Datagrams of other protocols that may wait. A burst of answers to a DHT lookup is shorter; what is beyond is lost, as UDP may.
const MAX_DATAGRAMS: usize = 256;
/// The most bytes of a datagram that is not uTP, where nothing shares the socket; what is beyond is cut off. No packet of the Internet has more.
const MAX_OTHER_BYTES: usize = 2048;
/// How long it takes until a socket is tried again that cannot be used.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long the first datagram waits for a proxy's association: a few round trips.
const FIRST_ASSOCIATION: Duration = Duration::from_secs(3);

/// A handle to dial over uTP sockets. Clones share them; they close when all clones and streams are gone.
#[derive(Clone, Debug)]
pub struct Utp {
    transport: Transport,
    dialers: Vec<Dialer>,
}

#[derive(Clone, Debug)]
struct Dialer {
    address: SocketAddr,
    socket: watch::Receiver<Open>,
    commands: mpsc::Sender<Command>,
}

/// The socket of a place, while there is a way.
type Open = Option<Arc<Datagrams>>;

/// One socket, for those who take what comes in.
#[derive(Debug)]
pub struct UtpEndpoint {
    /// Where it is bound.
    pub address: SocketAddr,
    /// The connections that others open, once they have shown that their address is theirs.
    pub listener: Listener,
    /// Everything that is not uTP.
    pub others: OtherDatagrams,
}

/// The datagrams of a shared socket that are not uTP.
#[derive(Debug)]
pub struct OtherDatagrams {
    address: SocketAddr,
    transport: Transport,
    socket: watch::Receiver<Open>,
    received: mpsc::Receiver<(SocketAddr, Vec<u8>)>,
}

impl OtherDatagrams {
    /// Receives on a socket that nothing else shares, as a task of the runtime that calls this, until this goes.
    pub(crate) fn start(transport: Transport, place: Place) -> Self {
        let address = place.address;
        let (others, received) = mpsc::channel(MAX_DATAGRAMS);
        let first = place.socket.map(Arc::new);
        let (current, socket) = watch::channel(first.clone());
        tokio::spawn(hear(transport.clone(), address, first, current, others));
        OtherDatagrams {
            address,
            transport,
            socket,
            received,
        }
    }

    /// Where the socket is bound. Under a proxy, nowhere that anybody could send to: then the port is 0, and only the family means
    /// something.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next one and its sender; `None` when the socket is gone. Safe to cancel.
    pub async fn recv(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.received.recv().await
    }

    /// Sends a datagram to an address that `origin` named, where the policy lets it. Under a proxy it is lost while there is no association;
    /// for the first one it waits a moment.
    pub async fn send(
        &self,
        target: SocketAddr,
        origin: OriginClass,
        datagram: &[u8],
    ) -> Result<(), DialError> {
        let target = self.transport.checked(target, origin, Protocol::Peer)?;
        self.send_on(target.into(), datagram).await
    }

    /// The same to a name, which the proxy looks up. Whoever answers, its answer is from an address. Without a proxy, names are for
    /// [`Transport::resolve`].
    pub async fn send_to_name(
        &self,
        name: &str,
        port: u16,
        origin: OriginClass,
        datagram: &[u8],
    ) -> Result<(), DialError> {
        self.transport.checked_name(name, origin, Protocol::Peer)?;
        self.send_on(Endpoint::Name(name.to_owned(), port), datagram)
            .await
    }

    async fn send_on(&self, target: Endpoint, datagram: &[u8]) -> Result<(), DialError> {
        let socket = self.socket.borrow().clone();
        let socket = socket.ok_or_else(|| self.transport.shut_meanwhile())?;
        if let Some(relay) = socket.relay()
            && relay.is_new()
        {
            // Whatever comes of it, the next lines see.
            drop(timeout(FIRST_ASSOCIATION, relay.ready()).await);
        }
        let sent = socket.send_to(datagram, &target).await;
        sent.map_err(|source| DialError::Unsent { target, source })
    }
}

impl Utp {
    /// Runs the event loops of these places as tasks of the runtime that calls this.
    pub(crate) fn start(transport: &Transport, places: Vec<Place>) -> (Self, Vec<UtpEndpoint>) {
        let mut dialers = Vec::with_capacity(places.len());
        let mut endpoints = Vec::with_capacity(places.len());
        for Place { address, socket } in places {
            let first = socket.map(Arc::new);
            let (current, socket) = watch::channel(first.clone());
            let (commands, commanded) = mpsc::channel(MAX_COMMANDS);
            let (entrance, accepts) = entrance();
            let (others, received) = mpsc::channel(MAX_DATAGRAMS);
            let ends = Ends {
                commands: commanded,
                entrance,
                others,
            };
            tokio::spawn(run(transport.clone(), address, first, current, ends));
            dialers.push(Dialer {
                address,
                socket: socket.clone(),
                commands,
            });
            endpoints.push(UtpEndpoint {
                address,
                listener: Listener::over_utp(accepts, address, transport.clone()),
                others: OtherDatagrams {
                    address,
                    transport: transport.clone(),
                    socket,
                    received,
                },
            });
        }
        let transport = transport.clone();
        (Utp { transport, dialers }, endpoints)
    }

    /// Connects to a peer that `origin` named. Safe to cancel.
    pub async fn dial(
        &self,
        target: SocketAddr,
        origin: OriginClass,
    ) -> Result<PeerStream, DialError> {
        let target = self.transport.checked(target, origin, Protocol::Peer)?;
        let io_error = |source| DialError::Io { target, source };
        let fits = |dialer: &&Dialer| {
            dialer.address.is_ipv4() == target.is_ipv4() && dialer.address != target
        };
        let dialer = self
            .dialers
            .iter()
            .find(fits)
            .ok_or_else(|| io_error(io::ErrorKind::AddrNotAvailable.into()))?;
        let after = self.transport.connect_timeout();
        let socket = dialer.socket.borrow().clone();
        let socket = socket.ok_or_else(|| self.transport.shut_meanwhile())?;
        if let Some(relay) = socket.relay() {
            let ready = timeout(after, relay.ready()).await;
            let ready = ready.unwrap_or_else(|_| Err(Arc::new(ThroughProxy::TimedOut(after))));
            // Told to each that waits for it.
            ready.map_err(|why| io_error(io::Error::other(why)))?;
        }
        // It must not be kept open by who only waits.
        drop(socket);
        let (answer, answered) = oneshot::channel();
        let command = Command { target, answer };
        let gone = |()| io_error(io::ErrorKind::NotConnected.into());
        let connect = async {
            dialer.commands.send(command).await.map_err(|_| gone(()))?;
            answered.await.map_err(|_| gone(()))?.map_err(io_error)
        };
        let stream = timeout(after, connect)
            .await
            .map_err(|_| DialError::TimedOut { target, after })??;
        Ok(PeerStream::over_utp(stream))
    }

    /// Whether there is any socket to dial with: a proxy may pass on no datagrams.
    pub(crate) const fn can_dial(&self) -> bool {
        !self.dialers.is_empty()
    }
}

/// Runs the event loop of a place, anew on each way, until nobody can dial any more and every connection is over, or there will be no way.
async fn run(
    transport: Transport,
    address: SocketAddr,
    mut next: Open,
    current: watch::Sender<Open>,
    mut ends: Ends,
) {
    loop {
        let socket = match next.take() {
            Some(socket) => socket,
            None => match ends.idle_until(transport.reopen(address)).await {
                Some(socket) => Arc::new(socket),
                None => return,
            },
        };
        current.send_replace(Some(Arc::clone(&socket)));
        match Driver::new(socket, address, &mut ends) {
            Ok(driver) => {
                if !driver.run().await {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%address, %error, "no uTP there");
                sleep(AGAIN_AFTER).await;
            }
        }
        current.send_replace(None);
    }
}

/// Passes on what the socket of a place receives but uTP, anew on each way, as long as somebody takes it.
async fn hear(
    transport: Transport,
    address: SocketAddr,
    mut next: Open,
    current: watch::Sender<Open>,
    others: mpsc::Sender<(SocketAddr, Vec<u8>)>,
) {
    loop {
        let socket = match next.take() {
            Some(socket) => socket,
            None => tokio::select! {
                reopened = transport.reopen(address) => match reopened {
                    Some(socket) => Arc::new(socket),
                    None => return,
                },
                () = others.closed() => return,
            },
        };
        current.send_replace(Some(Arc::clone(&socket)));
        tokio::select! {
            () = receive(&socket, &others) => {}
            () = socket.hold().over() => {}
            () = others.closed() => return,
        }
        current.send_replace(None);
    }
}

/// Passes on what a socket receives but uTP.
async fn receive(socket: &Datagrams, others: &mpsc::Sender<(SocketAddr, Vec<u8>)>) {
    let mut buffer = vec![0; MAX_OTHER_BYTES];
    loop {
        match socket.socket.recv_from(&mut buffer).await {
            Ok((length, from)) => match socket.open(from, &buffer[..length]) {
                // Where nobody has time for it, it is lost, as UDP may.
                Some((from, bytes)) if !is_utp(bytes) => {
                    drop(others.try_send((from, bytes.to_vec())));
                }
                Some(_) | None => {}
            },
            // What an earlier datagram met; the socket is as good as before.
            Err(error) => tracing::debug!(%error, "receiving failed once"),
        }
    }
}

fn refused(error: ConnectError) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, error)
}
