//! Datagrams to and from everybody on the local networks.
//!
//! Invariant: a group is joined and spoken to on interfaces that the binding lets us use, and on no others; nothing passes a router.

use crate::binding::Binding;
use crate::sockets;
use crate::way::{self, Hold};
use if_addrs::IfAddr;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::net::UdpSocket;

/// An interface that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    /// As the system counts it; IPv6 knows interfaces by that.
    index: u32,
    /// IPv4 knows them by their address.
    address: IpAddr,
}

/// One group of one family on all local networks.
#[derive(Debug)]
pub struct Multicast {
    group: SocketAddr,
    binding: Binding,
    receiver: UdpSocket,
    sender: UdpSocket,
    /// By name, those that were joined.
    joined: BTreeMap<String, Interface>,
    hold: Hold,
}

impl Multicast {
    /// Listens on every interface that there is now.
    pub(crate) fn new(group: SocketAddr, binding: Binding, hold: Hold) -> io::Result<Self> {
        let mut multicast = Multicast {
            receiver: sockets::multicast_receiver(group, &binding)?,
            sender: sockets::multicast_sender(group, &binding)?,
            group,
            binding,
            joined: BTreeMap::new(),
            hold,
        };
        multicast.look_around()?;
        Ok(multicast)
    }

    /// Joins the group on interfaces that have come. Those that have gone have left it by that.
    ///
    /// # Errors
    /// Where the system does not list its interfaces.
    pub fn look_around(&mut self) -> io::Result<()> {
        let found = interfaces(self.group.is_ipv4(), &self.binding)?;
        for (name, interface) in &found {
            if self.joined.get(name) == Some(interface) {
                continue;
            }
            if let Err(error) = self.join(*interface) {
                tracing::debug!(%name, group = %self.group, %error, "cannot listen for announces there");
            }
        }
        self.joined = found;
        Ok(())
    }

    fn join(&self, interface: Interface) -> io::Result<()> {
        let joined = match (self.group.ip(), interface.address) {
            (IpAddr::V4(group), IpAddr::V4(address)) => {
                self.receiver.join_multicast_v4(group, address)
            }
            (IpAddr::V6(group), _) => self.receiver.join_multicast_v6(&group, interface.index),
            (IpAddr::V4(_), IpAddr::V6(_)) => Ok(()),
        };
        match joined {
            // It has another address than before, and we are in already.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
            other => other,
        }
    }

    /// Where datagrams go.
    #[must_use]
    pub fn group(&self) -> SocketAddr {
        self.group
    }

    /// Sends one datagram on every interface. One that does not take it loses it, as any datagram may be lost.
    pub async fn send(&self, datagram: &[u8]) {
        self.hold.during(self.send_everywhere(datagram)).await;
    }

    async fn send_everywhere(&self, datagram: &[u8]) {
        for (name, interface) in &self.joined {
            let outgoing = SockRef::from(&self.sender);
            let chosen = match interface.address {
                IpAddr::V4(address) => outgoing.set_multicast_if_v4(&address),
                IpAddr::V6(_) => outgoing.set_multicast_if_v6(interface.index),
            };
            let sent = match chosen {
                Ok(()) => self.sender.send_to(datagram, self.group).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                tracing::debug!(%name, group = %self.group, %error, "cannot announce there");
            }
        }
    }

    /// Waits for one datagram and returns its length and source; what does not fit `buffer` is lost. Safe to cancel.
    ///
    /// # Errors
    /// What the system says.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let received = self.hold.during(self.receiver.recv_from(buffer)).await;
        received.unwrap_or_else(|| Err(way::over()))
    }
}

/// The interfaces of this family that `binding` lets us use, by name, each once.
fn interfaces(ipv4: bool, binding: &Binding) -> io::Result<BTreeMap<String, Interface>> {
    let mut found = BTreeMap::new();
    for interface in if_addrs::get_if_addrs()? {
        let allowed = match binding {
            Binding::Any => true,
            Binding::Address(address) => interface.ip() == *address,
            Binding::Interface(name) => interface.name == *name,
        };
        let usable = match &interface.addr {
            IfAddr::V4(v4) => ipv4 && v4.ip != Ipv4Addr::UNSPECIFIED,
            // An interface index is all that IPv6 asks for.
            IfAddr::V6(_) => !ipv4 && interface.index.is_some(),
        };
        if allowed && usable && !interface.is_loopback() {
            let (index, address) = (interface.index.unwrap_or(0), interface.ip());
            found
                .entry(interface.name)
                .or_insert(Interface { index, address });
        }
    }
    Ok(found)
}
