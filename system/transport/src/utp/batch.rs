//! Datagrams that leave with one system call (`UDP_SEGMENT`): those that follow each other to one remote and are equally long,
//! but for the last, which may be shorter.
//!
//! Invariant: what was taken into a batch is sent, or dropped by the system, before anything later is.

use std::io;
use std::net::SocketAddr;

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use shoal_utp::{Datagram, MAX_DATAGRAM_BYTES};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::proxy::datagram::MAX_HEAD_BYTES;

/// The most that one UDP send takes over IPv4, and so with segmentation.
const MAX_BYTES: usize = 65_507;

/// What is gathered.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// `bytes[..length]` are to be sent, as segments of `segment` bytes.
    length: usize,
    segment: usize,
    remote: Option<SocketAddr>,
    /// A short segment ends a batch.
    ended: bool,
    /// A datagram for this remote, of so many bytes, that does not go with the others stands behind them.
    behind: Option<(SocketAddr, usize)>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Batch {
            bytes: vec![0; MAX_BYTES + MAX_DATAGRAM_BYTES + MAX_HEAD_BYTES],
            length: 0,
            segment: 0,
            remote: None,
            ended: false,
            behind: None,
        }
    }

    /// Writes a datagram behind the others, with `head` before it; `fill` writes its payload. Returns whether there may be more: otherwise
    /// [`send`](Batch::send) comes first.
    pub(super) fn append(
        &mut self,
        remote: SocketAddr,
        head: &[u8],
        datagram: &Datagram,
        max_segments: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        let bytes = head.len() + datagram.length();
        let (at_head, rest) = self.bytes[self.length..self.length + bytes].split_at_mut(head.len());
        at_head.copy_from_slice(head);
        fill(datagram.write_head(rest));
        let goes = self.length == 0
            || (self.remote == Some(remote)
                && !self.ended
                && bytes <= self.segment
                && self.length + bytes <= MAX_BYTES
                && self.length / self.segment.max(1) < max_segments);
        match goes {
            true => self.admit(remote, bytes),
            false => self.behind = Some((remote, bytes)),
        }
        goes
    }

    fn admit(&mut self, remote: SocketAddr, bytes: usize) {
        if self.length == 0 {
            self.segment = bytes;
            self.remote = Some(remote);
        }
        self.ended = bytes < self.segment;
        self.length += bytes;
    }

    /// Sends what there is, but for the datagram that stands behind it. Only a full send buffer is an error: what the system refuses is
    /// lost, as on the network.
    pub(super) fn send(&mut self, socket: &UdpSocket, state: &UdpSocketState) -> io::Result<()> {
        let Some(destination) = self.remote.filter(|_| self.length > 0) else {
            return Ok(());
        };
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: &self.bytes[..self.length],
            segment_size: (self.length > self.segment).then_some(self.segment),
            src_ip: None,
        };
        let sent = socket.try_io(Interest::WRITABLE, || {
            state.try_send(UdpSockRef::from(socket), &transmit)
        });
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // A probe of the path's MTU may be too long for the interface.
            Err(error) if !quinn_udp::is_msg_size_err(&error) => {
                tracing::debug!(%error, "datagrams were not sent");
            }
            _ => {}
        }
        let sent = std::mem::take(&mut self.length);
        if let Some((remote, bytes)) = self.behind.take() {
            self.bytes.copy_within(sent..sent + bytes, 0);
            self.admit(remote, bytes);
        }
        Ok(())
    }
}
