//! Datagrams to and from one tracker.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

/// A connected UDP socket: the kernel drops what comes from any other address or port, so that a reply can only be
/// forged by who can forge its source.
#[derive(Debug)]
pub struct UdpChannel {
    socket: UdpSocket,
}

impl UdpChannel {
    pub(crate) fn new(socket: UdpSocket) -> Self {
        Self { socket }
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one datagram. A refusal that an earlier one met (ICMP) is reported here or by [`recv`](Self::recv).
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram).await.map(|_| ())
    }

    /// Waits for one datagram and returns its length; what does not fit `buffer` is lost. Safe to cancel.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer).await
    }
}
