//! Which router leads out.
//!
//! Invariant: it is the one that the system's routes name for the source address that the binding gives, and it is on that address's own
//! network; nobody else is asked, and nothing is sent to find out.

use super::{Failure, PORT, SSDP};
use crate::binding::Binding;
use crate::policy::{OriginClass, Protocol};
use crate::sockets;
use crate::transport::Transport;
use crate::udp::UdpChannel;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// No host has it (RFC 5737), so that the default route leads there. Only the route is asked for.
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// The router, and we as it sees us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Router {
    pub(super) address: Ipv4Addr,
    pub(super) client: Ipv4Addr,
    /// Where searches for UPnP devices go.
    pub(super) ssdp: SocketAddrV4,
}

impl Router {
    /// The router, if there is one.
    pub(super) fn find(binding: &Binding) -> Option<Router> {
        // Connecting a datagram socket chooses the route, and sends nothing.
        let socket = sockets::udp_to(ANYWHERE, binding).ok()?;
        let IpAddr::V4(client) = socket.local_addr().ok()?.ip() else {
            return None;
        };
        let allowed = |interface: &netdev::Interface| match binding {
            Binding::Interface(name) => interface.name == *name,
            Binding::Any | Binding::Address(_) => true,
        };
        let mut interfaces = netdev::get_interfaces().into_iter().filter(allowed);
        interfaces.find_map(|interface| {
            let network = interface
                .ipv4
                .iter()
                .find(|network| network.addr() == client)?;
            let gateway = interface.gateway?;
            let address = gateway.ipv4.into_iter().find(|gateway| {
                network.contains(gateway) && !gateway.is_loopback() && *gateway != client
            })?;
            Some(Router {
                address,
                client,
                ssdp: SSDP,
            })
        })
    }

    /// A channel to where it hears PCP and NAT-PMP.
    pub(super) fn channel(&self, transport: &Transport) -> Result<UdpChannel, Failure> {
        let target = SocketAddr::from((self.address, PORT));
        let channel = transport.udp_to(target, OriginClass::Router, Protocol::PortMapping);
        channel.map_err(|error| {
            tracing::debug!(%error, "the router cannot be asked");
            Failure::Unsent
        })
    }
}
