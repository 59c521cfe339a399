//! A connection to a peer over TCP or uTP, driven by readiness.
//!
//! Invariant: no method buffers: what a `try_` method reports as moved has reached the kernel, for uTP the socket's event loop, or the
//! caller; nothing else has.

use std::io::{self, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::SendFlags;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::utp::UtpStream;
use crate::way::{self, Hold};

/// What the kernel keeps for a peer besides what is on its way to it. Without this bound it is what fits the send buffer, 4 MiB,
/// which peers that read slowly keep full: a few hundred of them use up the memory that the system has for TCP, and all its
/// connections crawl. Enough for what a line of 1 Gbit/s takes in 4 ms, while the event loop looks elsewhere.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT_BYTES: u32 = 512 * 1024;

/// A connection, over TCP without delay (`TCP_NODELAY`), for a driver that is one loop: wait for readiness, then call the `try_`
/// methods until they say [`io::ErrorKind::WouldBlock`].
///
/// It belongs to the runtime it was made on; [`detach`](Self::detach) and [`DetachedStream::attach`] move it.
#[derive(Debug)]
pub struct PeerStream {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream, Hold),
    /// Its event loop ends with its way.
    Utp(UtpStream),
}

impl PeerStream {
    pub(crate) fn new(stream: TcpStream, hold: &Hold) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
        Ok(Self {
            kind: Kind::Tcp(stream, hold.branch()),
        })
    }

    pub(crate) const fn over_utp(stream: UtpStream) -> Self {
        Self {
            kind: Kind::Utp(stream),
        }
    }

    /// Whether it is a uTP connection.
    #[must_use]
    pub const fn is_utp(&self) -> bool {
        matches!(self.kind, Kind::Utp(_))
    }

    /// The other end; through a proxy, over TCP, the proxy.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream, _) => stream.peer_addr(),
            Kind::Utp(stream) => Ok(stream.peer_addr()),
        }
    }

    /// This end. Of uTP, the shared socket's, whose address may be unspecified.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream, _) => stream.local_addr(),
            Kind::Utp(stream) => Ok(stream.local_addr()),
        }
    }

    /// Waits until a read may succeed, tell the end, or fail. Safe to cancel.
    pub async fn readable(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream, hold) => unless_over(hold, stream.readable()).await,
            Kind::Utp(stream) => {
                stream.readable().await;
                Ok(())
            }
        }
    }

    /// Waits until a write may succeed or fail. Safe to cancel.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream, hold) => unless_over(hold, stream.writable()).await,
            Kind::Utp(stream) => {
                stream.writable().await;
                Ok(())
            }
        }
    }

    /// Reads what is there: `Ok(0)` is the end of the stream if `buffer` is not empty.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream, hold) => {
                check(hold)?;
                let room = buffer.len();
                moved(stream, Interest::READABLE, room, || {
                    Ok(rustix::io::read(stream.as_fd(), buffer)?)
                })
            }
            Kind::Utp(stream) => stream.try_read_vectored(&mut [IoSliceMut::new(buffer)]),
        }
    }

    /// Reads what is there into several buffers, in order.
    pub fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream, hold) => {
                check(hold)?;
                let room = buffers.iter().map(|buffer| buffer.len()).sum();
                moved(stream, Interest::READABLE, room, || {
                    Ok(rustix::io::readv(stream.as_fd(), buffers)?)
                })
            }
            Kind::Utp(stream) => stream.try_read_vectored(buffers),
        }
    }

    /// Writes as much as the kernel, or the event loop of uTP, takes.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream, hold) => {
                check(hold)?;
                moved(stream, Interest::WRITABLE, bytes.len(), || {
                    let sent = rustix::net::send(stream.as_fd(), bytes, SendFlags::NOSIGNAL)?;
                    Ok(sent)
                })
            }
            Kind::Utp(stream) => stream.try_write(bytes),
        }
    }

    /// Tells the peer that no more will be written, or stops reading, or both. What was written still arrives.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream, _) => SockRef::from(stream).shutdown(how),
            Kind::Utp(stream) => {
                stream.shutdown(how);
                Ok(())
            }
        }
    }

    /// Takes the connection off its runtime. One over uTP belongs to none.
    pub fn detach(self) -> io::Result<DetachedStream> {
        let kind = match self.kind {
            Kind::Tcp(stream, hold) => Detached::Tcp(stream.into_std()?, hold),
            Kind::Utp(stream) => Detached::Utp(stream),
        };
        Ok(DetachedStream { kind })
    }
}

async fn unless_over(hold: &Hold, ready: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let ready = hold.during(ready).await;
    ready.unwrap_or_else(|| Err(way::over()))
}

/// Whether anything may still be moved.
fn check(hold: &Hold) -> io::Result<()> {
    match hold.is_over() {
        true => Err(way::over()),
        false => Ok(()),
    }
}

/// Runs `call`, which can move up to `room` bytes. Where it moves fewer, the kernel has no more bytes or room, so that
/// the next call fails without asking it: waiting for readiness is one system call, finding out in vain another.
fn moved(
    stream: &TcpStream,
    interest: Interest,
    room: usize,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut count = None;
    let outcome = stream.try_io(interest, || {
        let moved = call()?;
        count = Some(moved);
        // The end of a stream stays readable.
        if moved > 0 && moved < room {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match count {
        Some(count) => Ok(count),
        None => outcome.map(|()| 0),
    }
}

/// A connection on its way from one runtime to another. Dropping it closes the connection.
#[derive(Debug)]
pub struct DetachedStream {
    kind: Detached,
}

#[derive(Debug)]
enum Detached {
    Tcp(std::net::TcpStream, Hold),
    Utp(UtpStream),
}

impl DetachedStream {
    /// Whether it is one over uTP.
    #[must_use]
    pub const fn is_utp(&self) -> bool {
        matches!(self.kind, Detached::Utp(_))
    }

    /// Puts the connection on the runtime that calls this.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO.
    pub fn attach(self) -> io::Result<PeerStream> {
        let kind = match self.kind {
            Detached::Tcp(stream, hold) => Kind::Tcp(TcpStream::from_std(stream)?, hold),
            Detached::Utp(stream) => Kind::Utp(stream),
        };
        Ok(PeerStream { kind })
    }
}
