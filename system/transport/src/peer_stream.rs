//! A TCP connection to a peer, driven by readiness.
//!
//! Invariant: no method buffers: what a `try_` method reports as moved has reached the kernel or the caller, nothing
//! else has.

use std::io::{self, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::SendFlags;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What the kernel keeps for a peer besides what is on its way to it. Without this bound it is what fits the send buffer, 4 MiB,
/// which peers that read slowly keep full: a few hundred of them use up the memory that the system has for TCP, and all its
/// connections crawl. Enough for what a line of 1 Gbit/s takes in 4 ms, while the event loop looks elsewhere.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT_BYTES: u32 = 512 * 1024;

/// A connection without delay (`TCP_NODELAY`), for a driver that is one loop: wait for readiness, then call the `try_`
/// methods until they say [`io::ErrorKind::WouldBlock`].
///
/// It belongs to the runtime it was made on; [`detach`](Self::detach) and [`DetachedStream::attach`] move it.
#[derive(Debug)]
pub struct PeerStream {
    stream: TcpStream,
}

impl PeerStream {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
        Ok(Self { stream })
    }

    /// The other end.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Waits until a read may succeed, tell the end, or fail. Safe to cancel.
    pub async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Waits until a write may succeed or fail. Safe to cancel.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Reads what is there: `Ok(0)` is the end of the stream if `buffer` is not empty.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        self.moved(Interest::READABLE, room, || {
            Ok(rustix::io::read(self.stream.as_fd(), buffer)?)
        })
    }

    /// Reads what is there into several buffers, in order.
    pub fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        self.moved(Interest::READABLE, room, || {
            Ok(rustix::io::readv(self.stream.as_fd(), buffers)?)
        })
    }

    /// Writes as much as the kernel takes.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.moved(Interest::WRITABLE, bytes.len(), || {
            let sent = rustix::net::send(self.stream.as_fd(), bytes, SendFlags::NOSIGNAL)?;
            Ok(sent)
        })
    }

    /// Runs `call`, which can move up to `room` bytes. Where it moves fewer, the kernel has no more bytes or room, so that
    /// the next call fails without asking it: waiting for readiness is one system call, finding out in vain another.
    fn moved(
        &self,
        interest: Interest,
        room: usize,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut count = None;
        let outcome = self.stream.try_io(interest, || {
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

    /// Tells the peer that no more will be written, or stops reading, or both. What was written still arrives.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(&self.stream).shutdown(how)
    }

    /// Takes the connection off its runtime.
    pub fn detach(self) -> io::Result<DetachedStream> {
        self.stream
            .into_std()
            .map(|stream| DetachedStream { stream })
    }
}

/// A connection on its way from one runtime to another. Dropping it closes the connection.
#[derive(Debug)]
pub struct DetachedStream {
    stream: std::net::TcpStream,
}

impl DetachedStream {
    /// Puts the connection on the runtime that calls this.
    ///
    /// # Panics
    /// Outside of a tokio runtime with IO.
    pub fn attach(self) -> io::Result<PeerStream> {
        TcpStream::from_std(self.stream).map(|stream| PeerStream { stream })
    }
}
