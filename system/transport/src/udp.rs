//! Datagrams to and from one tracker.

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::OnceCell;

use crate::proxy::{Endpoint, datagram};
use crate::relay::Association;
use crate::route::Route;
use crate::sockets;
use crate::tunnel::ThroughProxy;
use crate::way::{self, Hold};

/// A connected UDP socket: the kernel drops what comes from any other address or port, so that a reply can only be
/// forged by who can forge its source. Under a proxy, that is the proxy's, and what it says came from elsewhere is dropped here.
#[derive(Debug)]
pub struct UdpChannel {
    socket: UdpSocket,
    through: Option<Through>,
    hold: Hold,
}

#[derive(Debug)]
struct Through {
    route: Route,
    patience: Duration,
    /// What stands before each datagram.
    head: Vec<u8>,
    /// Who answers: the target, or, of a name, whoever at an address of IPv4 does first.
    remote: OnceLock<SocketAddr>,
    /// Asked for when something is to be sent, and given back with this.
    association: OnceCell<Association>,
}

impl UdpChannel {
    pub(crate) const fn new(socket: UdpSocket, hold: Hold) -> Self {
        Self {
            socket,
            through: None,
            hold,
        }
    }

    pub(crate) fn relayed(
        route: &Route,
        target: &Endpoint,
        patience: Duration,
        hold: Hold,
    ) -> Result<Self, ThroughProxy> {
        let remote = OnceLock::new();
        if let Endpoint::Address(address) = target {
            remote.get_or_init(|| *address);
        }
        let through = Through {
            route: route.clone(),
            patience,
            head: datagram::head(target)?,
            remote,
            association: OnceCell::new(),
        };
        Ok(Self {
            socket: sockets::udp_towards(route).map_err(ThroughProxy::Unreachable)?,
            through: Some(through),
            hold,
        })
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one datagram. A refusal that an earlier one met (ICMP) is reported here or by [`recv`](Self::recv).
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let sent = self.hold.during(self.send_on(datagram)).await;
        sent.unwrap_or_else(|| Err(way::over()))
    }

    async fn send_on(&self, datagram: &[u8]) -> io::Result<()> {
        let Some(through) = &self.through else {
            return self.socket.send(datagram).await.map(drop);
        };
        let open = || async {
            let association = Association::open(&through.route, through.patience).await;
            let association = association.map_err(io::Error::other)?;
            // From here on the kernel drops what is not the proxy's.
            self.socket.connect(association.relay).await?;
            Ok::<_, io::Error>(association)
        };
        through.association.get_or_try_init(open).await?;
        let mut bytes = through.head.clone();
        bytes.extend_from_slice(datagram);
        self.socket.send(&bytes).await.map(drop)
    }

    /// Waits for one datagram and returns its length; what does not fit `buffer` is lost. Safe to cancel.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.hold.during(self.recv_on(buffer)).await;
        received.unwrap_or_else(|| Err(way::over()))
    }

    /// Whether it is of no more use, as the way that it was made for has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.hold.is_over()
    }

    async fn recv_on(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(through) = &self.through else {
            return self.socket.recv(buffer).await;
        };
        let mut wrapped = vec![0; buffer.len() + datagram::MAX_HEAD_BYTES];
        loop {
            let (count, sender) = self.socket.recv_from(&mut wrapped).await?;
            let association = through.association.get();
            let Some((from, payload)) = datagram::unwrap(&wrapped[..count]) else {
                continue;
            };
            // Somebody else may have been quicker than the connection to the proxy.
            if association.is_none_or(|association| association.relay != sender) {
                continue;
            }
            if from.is_ipv6() && through.remote.get().is_none() {
                continue;
            }
            if *through.remote.get_or_init(|| from) == from {
                let count = payload.len().min(buffer.len());
                buffer[..count].copy_from_slice(&payload[..count]);
                return Ok(count);
            }
        }
    }
}
