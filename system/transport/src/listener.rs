//! Accepting peers.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::peer_stream::PeerStream;
use crate::sockets;
use crate::transport::Transport;
use crate::utp::Accepts;
use crate::way::Hold;

/// How long accepting rests when the process or the system has no descriptor or memory left: the connection stays in
/// the backlog, and without the rest the listener would be ready again at once.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// How long it takes until a port is tried again that cannot be had.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A listening socket, or the uTP connections of a shared one. The policy does not judge who connects to us: that a peer reached it is for the session's
/// limits, and dialling it back is another matter ([`crate::OriginClass::Incoming`]).
///
/// Where its interface or address goes and comes back, it listens there again.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    address: SocketAddr,
    transport: Transport,
}

#[derive(Debug)]
enum Kind {
    /// Nothing while its way is over. Held for a look or a swap, never across an await.
    Tcp(Mutex<Option<Open>>),
    Utp(Accepts),
}

#[derive(Clone, Debug)]
struct Open {
    socket: Arc<TcpListener>,
    hold: Hold,
}

impl Listener {
    pub(crate) fn new(socket: TcpListener, hold: Hold, transport: Transport) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let socket = Arc::new(socket);
        let kind = Kind::Tcp(Mutex::new(Some(Open { socket, hold })));
        Ok(Self {
            kind,
            address,
            transport,
        })
    }

    /// One that listens when the way opens.
    pub(crate) const fn later(address: SocketAddr, transport: Transport) -> Self {
        let kind = Kind::Tcp(Mutex::new(None));
        Self {
            kind,
            address,
            transport,
        }
    }

    pub(crate) const fn over_utp(
        accepts: Accepts,
        address: SocketAddr,
        transport: Transport,
    ) -> Self {
        let kind = Kind::Utp(accepts);
        Self {
            kind,
            address,
            transport,
        }
    }

    /// Where it listens, with the port that the system chose if none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether it accepts connections of uTP, and not of TCP.
    #[must_use]
    pub fn is_utp(&self) -> bool {
        matches!(self.kind, Kind::Utp(_))
    }

    /// The next peer and its address. Waits where descriptors are exhausted and skips peers that left before they were
    /// accepted; an error means that the listener is of no more use. Safe to cancel.
    pub async fn accept(&self) -> io::Result<(PeerStream, SocketAddr)> {
        let place = match &self.kind {
            Kind::Tcp(place) => place,
            Kind::Utp(accepts) => {
                let next = accepts.next().await.ok_or(io::ErrorKind::NotConnected)?;
                return Ok((PeerStream::over_utp(next.0), next.1));
            }
        };
        loop {
            let open = lock(place).clone();
            let Some(Open { socket, hold }) = open else {
                let again = self.listen_again().await?;
                *lock(place) = Some(again);
                continue;
            };
            match hold.during(socket.accept()).await {
                // Nobody else has it.
                None => *lock(place) = None,
                Some(Ok((stream, peer))) => match PeerStream::new(stream, &hold) {
                    Ok(stream) => return Ok((stream, peer)),
                    Err(error) => tracing::debug!(%error, "a peer left while it was accepted"),
                },
                Some(Err(error)) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a peer left before it was accepted");
                }
                Some(Err(error)) if is_exhaustion(&error) => {
                    tracing::warn!(%error, listener = %self.address, "accepting rests");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Waits until there is a way, and the port to be had.
    async fn listen_again(&self) -> io::Result<Open> {
        loop {
            let hold = self.transport.wait_for_way().await;
            let hold = hold.ok_or(io::ErrorKind::NotConnected)?;
            match sockets::tcp_on(
                self.address,
                self.transport.binding(),
                self.transport.departure(),
            ) {
                Ok(socket) => {
                    tracing::info!(listener = %self.address, "listening again");
                    let socket = Arc::new(socket);
                    return Ok(Open { socket, hold });
                }
                Err(error) => {
                    tracing::debug!(%error, listener = %self.address, "cannot listen yet");
                    drop(hold);
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }
}

fn lock(place: &Mutex<Option<Open>>) -> MutexGuard<'_, Option<Open>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// accept(2) reports the network errors of the connection that waited.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::PermissionDenied
    ) || has_code(error, &[rustix::io::Errno::PROTO])
}

fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    has_code(
        error,
        &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM],
    )
}

fn has_code(error: &io::Error, codes: &[rustix::io::Errno]) -> bool {
    rustix::io::Errno::from_io_error(error).is_some_and(|errno| codes.contains(&errno))
}
