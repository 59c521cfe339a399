//! Accepting peers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::hold::Hold;
use crate::peer_stream::PeerStream;
use crate::utp::Accepts;

/// How long accepting rests when the process or the system has no descriptor or memory left: the connection stays in
/// the backlog, and without the rest the listener would be ready again at once.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// A listening socket, or the uTP connections of a shared one. The policy does not judge who connects to us: that a peer reached it is for the session's
/// limits, and dialling it back is another matter ([`crate::OriginClass::Incoming`]).
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    address: SocketAddr,
    hold: Hold,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Utp(Accepts),
}

impl Listener {
    pub(crate) fn new(socket: TcpListener, hold: Hold) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let kind = Kind::Tcp(socket);
        Ok(Self {
            kind,
            address,
            hold,
        })
    }

    pub(crate) const fn over_utp(accepts: Accepts, address: SocketAddr, hold: Hold) -> Self {
        let kind = Kind::Utp(accepts);
        Self {
            kind,
            address,
            hold,
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
        let socket = match &self.kind {
            Kind::Tcp(socket) => socket,
            Kind::Utp(accepts) => {
                let next = accepts.next().await.ok_or(io::ErrorKind::NotConnected)?;
                return Ok((PeerStream::over_utp(next.0, self.hold.clone()), next.1));
            }
        };
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => match PeerStream::new(stream, self.hold.clone()) {
                    Ok(stream) => return Ok((stream, peer)),
                    Err(error) => tracing::debug!(%error, "a peer left while it was accepted"),
                },
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a peer left before it was accepted");
                }
                Err(error) if is_exhaustion(&error) => {
                    tracing::warn!(%error, listener = %self.address, "accepting rests");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
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
