//! Where sockets are made.
//!
//! Invariant: each is non-blocking and bound as [`Binding`] says before anyone gets hold of it. HTTP connections are
//! made by the client library, which [`crate::http`] gives the same binding.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use crate::binding::Binding;
use crate::departure::{Departure, Turn};
use crate::route::Route;

/// Connections that may wait to be accepted. A swarm that finds a new seed arrives all at once.
const LISTEN_BACKLOG: i32 = 512;

/// What a shared UDP socket may hold: 20 ms of 1 Gbit/s, as the system counts it.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A TCP socket that can connect to `target`.
pub(crate) fn tcp_to(target: SocketAddr, binding: &Binding) -> io::Result<TcpSocket> {
    let socket = new_socket(target, Type::STREAM, Protocol::TCP)?;
    binding.apply_to_client(&socket, target)?;
    socket.set_tcp_nodelay(true)?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// The same, of a peer.
pub(crate) fn tcp_to_peer(
    target: SocketAddr,
    binding: &Binding,
    departure: &Departure,
    turn: &Turn,
) -> io::Result<TcpSocket> {
    let socket = new_socket(target, Type::STREAM, Protocol::TCP)?;
    departure.mark(&socket, target)?;
    departure.apply(&socket, target, binding, turn)?;
    socket.set_tcp_nodelay(true)?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// A UDP socket that exchanges datagrams with `target` only.
pub(crate) fn udp_to(target: SocketAddr, binding: &Binding) -> io::Result<UdpSocket> {
    let socket = new_socket(target, Type::DGRAM, Protocol::UDP)?;
    binding.apply_to_client(&socket, target)?;
    socket.connect(&target.into())?;
    UdpSocket::from_std(socket.into())
}

/// A UDP socket that exchanges datagrams with the route's proxy, whose port for them is not known yet.
pub(crate) fn udp_towards(route: &Route) -> io::Result<UdpSocket> {
    let proxy = route.proxy.as_ref().ok_or(io::ErrorKind::NotConnected)?;
    let socket = new_socket(proxy.address(), Type::DGRAM, Protocol::UDP)?;
    route.binding.apply_to_client(&socket, proxy.address())?;
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    if !matches!(route.binding, Binding::Address(_)) {
        let any: IpAddr = match proxy.address() {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        socket.bind(&SocketAddr::new(any, 0).into())?;
    }
    UdpSocket::from_std(socket.into())
}

/// A UDP socket on `address` that exchanges datagrams with everybody, IPv6 without IPv4 in it.
pub(crate) fn udp_on(
    address: SocketAddr,
    binding: &Binding,
    departure: &Departure,
) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    departure.mark(&socket, address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    binding.apply_to_listener(&socket)?;
    // The system gives what it allows: without room, what comes while the event loop looks elsewhere is lost.
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// A TCP socket that listens on `address`, IPv6 without IPv4 in it.
pub(crate) fn tcp_on(
    address: SocketAddr,
    binding: &Binding,
    departure: &Departure,
) -> io::Result<TcpListener> {
    let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections that are accepted have what their listener has.
    departure.mark(&socket, address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait until the last run's closed connections are forgotten.
    socket.set_reuse_address(true)?;
    binding.apply_to_listener(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A UDP socket that hears what is sent to `group`, where it joins. Others on this machine may hear it, too.
pub(crate) fn multicast_receiver(group: SocketAddr, binding: &Binding) -> io::Result<UdpSocket> {
    let socket = new_socket(group, Type::DGRAM, Protocol::UDP)?;
    if group.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    // Without this, Linux hands over what any program on the machine has joined.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    match group {
        SocketAddr::V4(_) => socket.set_multicast_all_v4(false)?,
        SocketAddr::V6(_) => socket.set_multicast_all_v6(false)?,
    }
    binding.apply_to_listener(&socket)?;
    socket.bind(&group.into())?;
    UdpSocket::from_std(socket.into())
}

/// A UDP socket that sends to `group`, and to no other network than the nearest. Programs on this machine hear it, too.
pub(crate) fn multicast_sender(group: SocketAddr, binding: &Binding) -> io::Result<UdpSocket> {
    let socket = new_socket(group, Type::DGRAM, Protocol::UDP)?;
    match group {
        SocketAddr::V4(_) => {
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(true)?;
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_hops_v6(1)?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    binding.apply_to_client(&socket, group)?;
    UdpSocket::from_std(socket.into())
}

/// Finds out whether the system lets us use `binding`, without a packet.
pub(crate) fn probe(binding: &Binding) -> io::Result<()> {
    let any = match binding {
        Binding::Any => return Ok(()),
        Binding::Address(source) => SocketAddr::new(*source, 0),
        Binding::Interface(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
    };
    let socket = new_socket(any, Type::DGRAM, Protocol::UDP)?;
    binding.apply_to_client(&socket, any)
}

/// The addresses that the system lets packets to each of these leave from: they are those of the network that we are in. Sends nothing.
pub(crate) fn leaves_from(binding: &Binding, whither: &[SocketAddr]) -> Vec<IpAddr> {
    let source = |&address: &SocketAddr| {
        let socket = new_socket(address, Type::DGRAM, Protocol::UDP).ok()?;
        binding.apply_to_client(&socket, address).ok()?;
        // Of a datagram socket this is a look into the routing table (connect(2)).
        socket.connect(&address.into()).ok()?;
        let source = socket.local_addr().ok()?.as_socket()?.ip();
        (!source.is_unspecified()).then_some(source)
    };
    whither.iter().filter_map(source).collect()
}

/// What tells a binding from another one of the same name that comes after it; nothing while it is not there.
pub(crate) fn presence(binding: &Binding) -> Option<u32> {
    match binding {
        Binding::Any => Some(0),
        Binding::Address(_) => probe(binding).is_ok().then_some(0),
        Binding::Interface(name) => index_of(name),
    }
}

/// A socket that is bound to an interface stays with that one when another of its name comes: they differ by their number.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn index_of(name: &str) -> Option<u32> {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let socket = new_socket(any, Type::DGRAM, Protocol::UDP).ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn index_of(_name: &str) -> Option<u32> {
    None
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
