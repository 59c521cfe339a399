//! Datagrams to and from one tracker.

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;

use tokio::net::UdpSocket;
use tokio::sync::{OnceCell, oneshot};

use crate::proxy::{Endpoint, Handshake, datagram};
use crate::relay::Association;
use crate::sockets;
use crate::transport::Transport;
use crate::tunnel::ThroughProxy;
use crate::way::{self, Ending, Hold};

/// A connected UDP socket: the kernel drops what comes from any other address or port, so that a reply can only be
/// forged by who can forge its source. Under a proxy, that is the proxy's, and what it says came from elsewhere is dropped here.
#[derive(Debug)]
pub struct UdpChannel {
    socket: UdpSocket,
    through: Option<Through>,
    ending: Ending,
}

#[derive(Debug)]
struct Through {
    transport: Transport,
    /// What stands before each datagram.
    head: Vec<u8>,
    /// Who answers: the target, or, of a name, whoever at an address of IPv4 does first.
    remote: OnceLock<SocketAddr>,
    /// Asked for when something is to be sent, and given back with this or with the way.
    association: OnceCell<Kept>,
}

/// An association that a task keeps.
#[derive(Debug)]
struct Kept {
    relay: SocketAddr,
    until_dropped: oneshot::Sender<()>,
}

impl Kept {
    fn start(mut association: Association, hold: Hold) -> Self {
        let relay = association.relay;
        let (until_dropped, dropped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            tokio::select! {
                () = association.ended() => {}
                () = hold.over() => {}
                _ = dropped => {}
            }
        });
        Kept {
            relay,
            until_dropped,
        }
    }
}

impl UdpChannel {
    pub(crate) fn new(socket: UdpSocket, hold: &Hold) -> Self {
        Self {
            socket,
            through: None,
            ending: hold.ending(),
        }
    }

    pub(crate) fn relayed(
        transport: &Transport,
        target: &Endpoint,
        hold: &Hold,
    ) -> Result<Self, ThroughProxy> {
        if let Some(proxy) = transport.proxy() {
            // Whether it can be asked at all is said at once.
            Handshake::associate(proxy)?;
        }
        let remote = OnceLock::new();
        if let Endpoint::Address(address) = target {
            remote.get_or_init(|| *address);
        }
        let through = Through {
            transport: transport.clone(),
            head: datagram::head(target)?,
            remote,
            association: OnceCell::new(),
        };
        Ok(Self {
            socket: sockets::udp_towards(transport.route()).map_err(ThroughProxy::Unreachable)?,
            through: Some(through),
            ending: hold.ending(),
        })
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one datagram. A refusal that an earlier one met (ICMP) is reported here or by [`recv`](Self::recv).
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let sent = self.ending.during(self.send_on(datagram)).await;
        sent.unwrap_or_else(|| Err(way::over()))
    }

    async fn send_on(&self, datagram: &[u8]) -> io::Result<()> {
        let Some(through) = &self.through else {
            return self.socket.send(datagram).await.map(drop);
        };
        let open = || async {
            let hold = through.transport.hold().map_err(|_| way::over())?;
            let (route, patience) = (
                through.transport.route(),
                through.transport.connect_timeout(),
            );
            let association = Association::open(route, patience).await;
            let association = association.map_err(io::Error::other)?;
            // From here on the kernel drops what is not the proxy's.
            self.socket.connect(association.relay).await?;
            Ok::<_, io::Error>(Kept::start(association, hold))
        };
        through.association.get_or_try_init(open).await?;
        let mut bytes = through.head.clone();
        bytes.extend_from_slice(datagram);
        self.socket.send(&bytes).await.map(drop)
    }

    /// Waits for one datagram and returns its length; what does not fit `buffer` is lost. Safe to cancel.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.ending.during(self.recv_on(buffer)).await;
        received.unwrap_or_else(|| Err(way::over()))
    }

    /// Whether it is of no more use, as the way that it was made for has ended, or the proxy takes nothing on it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let association = self
            .through
            .as_ref()
            .and_then(|through| through.association.get());
        self.ending.is_over() || association.is_some_and(|kept| kept.until_dropped.is_closed())
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
