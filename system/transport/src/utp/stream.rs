//! One end of a uTP connection, driven by readiness as a TCP one is.
//!
//! Invariant: dropping it still delivers what was written, if the remote takes it in time; it belongs to no runtime.

use std::io::{self, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use super::pipe::Pipe;

#[derive(Debug)]
pub(crate) struct UtpStream {
    pipe: Arc<Pipe>,
    local: SocketAddr,
    remote: SocketAddr,
}

impl UtpStream {
    pub(super) const fn new(pipe: Arc<Pipe>, local: SocketAddr, remote: SocketAddr) -> Self {
        UtpStream {
            pipe,
            local,
            remote,
        }
    }

    pub(crate) const fn peer_addr(&self) -> SocketAddr {
        self.remote
    }

    pub(crate) const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) async fn readable(&self) {
        while !self.pipe.is_readable() {
            self.pipe.readable.notified().await;
        }
    }

    pub(crate) async fn writable(&self) {
        while !self.pipe.is_writable() {
            self.pipe.writable.notified().await;
        }
    }

    pub(crate) fn try_read_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.pipe.read(buffers)
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.pipe.write(bytes)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Read {
            self.pipe.finish();
        }
        if how != Shutdown::Write {
            self.pipe.stop_reading();
        }
    }
}

impl Drop for UtpStream {
    fn drop(&mut self) {
        self.pipe.abandon();
    }
}
