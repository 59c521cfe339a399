//! How packets to peers leave this machine: from which ports, and in which class of service.
//!
//! Invariant: it says nothing of where they may go or by which way, which the policy and the binding do.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::net::sockopt;
use socket2::Socket;

use crate::binding::Binding;

/// Ports that are tried for one connection. Each serves many at a time, as long as they lead to different peers.
const TRIES: u16 = 16;

/// The largest code point of a class of service (RFC 2474): six bits.
pub const MAX_DSCP: u8 = 63;

/// See the module. What is not said is as the system has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    /// Connections to peers that we dial over TCP begin at one of these ports. uTP and the DHT have the port where peers connect.
    pub from_ports: Option<RangeInclusive<u16>>,
    /// The class of service of all that goes to peers, of [`MAX_DSCP`] at the most: routers that know it put 8 (CS1) behind all else.
    pub dscp: u8,
}

/// Which port is next.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicU16);

impl Departure {
    /// Puts a socket that speaks to `address`, or listens there, into the class.
    pub(crate) fn mark(&self, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        // The two lowest bits are for congestion (RFC 3168).
        let octet = self.dscp.min(MAX_DSCP) << 2;
        match address {
            _ if octet == 0 => Ok(()),
            SocketAddr::V4(_) => Ok(sockopt::set_ip_tos(socket, octet)?),
            SocketAddr::V6(_) => Ok(sockopt::set_ipv6_tclass(socket, octet.into())?),
        }
    }

    /// Binds a socket that will connect to a peer at `target`.
    pub(crate) fn apply(
        &self,
        socket: &Socket,
        target: SocketAddr,
        binding: &Binding,
        turn: &Turn,
    ) -> io::Result<()> {
        let Some(ports) = &self.from_ports else {
            return binding.apply_to_client(socket, target);
        };
        // Other connections may begin at the same port, to other peers.
        socket.set_reuse_address(true)?;
        let source = match (binding, target) {
            (Binding::Address(source), _) if source.is_ipv4() == target.is_ipv4() => *source,
            (Binding::Address(_), _) => return Err(io::ErrorKind::AddrNotAvailable.into()),
            (_, SocketAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            (_, SocketAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        binding.apply_to_listener(socket)?;
        let count = u32::from(*ports.end() - *ports.start()) + 1;
        for _ in 0..TRIES {
            let turn = u32::from(turn.0.fetch_add(1, Ordering::Relaxed)) % count;
            let port = *ports.start() + u16::try_from(turn).unwrap_or(0);
            match socket.bind(&SocketAddr::new(source, port).into()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                done => return done,
            }
        }
        let (first, last) = (ports.start(), ports.end());
        let what =
            format!("none of the ports {first} to {last} is free: name others, or more of them");
        Err(io::Error::new(io::ErrorKind::AddrInUse, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Type};
    use std::net::TcpListener;

    fn socket() -> Socket {
        Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
    }

    /// Two ports in a row, the first of which somebody has.
    fn ports() -> (TcpListener, RangeInclusive<u16>) {
        loop {
            let taken = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = taken.local_addr().unwrap().port();
            if let Some(next) = port.checked_add(1)
                && TcpListener::bind(("127.0.0.1", next)).is_ok()
            {
                return (taken, port..=next);
            }
        }
    }

    #[test]
    fn connections_begin_at_the_ports_that_are_named_and_at_no_other() {
        let (taken, ports) = ports();
        let target = taken.local_addr().unwrap();
        let binding = Binding::Address(target.ip());
        let departure = |from_ports| Departure {
            from_ports: Some(from_ports),
            dscp: 0,
        };
        let turn = Turn::default();
        // Both at the one that is left.
        let mut open = Vec::new();
        for _ in 0..2 {
            let socket = socket();
            let both = departure(ports.clone());
            both.apply(&socket, target, &binding, &turn).unwrap();
            let from = socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(from.port(), *ports.end());
            open.push(socket);
        }
        let none = departure(*ports.start()..=*ports.start());
        let error = none.apply(&socket(), target, &binding, &turn).unwrap_err();
        assert!(error.to_string().contains("none of the ports"), "{error}");
    }

    #[test]
    fn what_goes_to_peers_is_in_the_class_that_is_named() {
        let departure = Departure {
            from_ports: None,
            dscp: 8,
        };
        let socket = socket();
        let v4 = SocketAddr::from(([127, 0, 0, 1], 1));
        departure.mark(&socket, v4).unwrap();
        assert_eq!(sockopt::ip_tos(&socket).unwrap(), 8 << 2);
        let Ok(socket) = Socket::new(Domain::IPV6, Type::DGRAM, None) else {
            return;
        };
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
        departure.mark(&socket, v6).unwrap();
        assert_eq!(sockopt::ipv6_tclass(&socket).unwrap(), 8 << 2);
    }
}
