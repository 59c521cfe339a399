//! Connections to trackers that wait to be used again, shared by everything that speaks to trackers over UDP.
//!
//! A connection is the tracker's connection id together with the socket that asked for it: BEP 15 does not say what a tracker
//! ties the id to, and some tie it to the port. So a connection serves one exchange at a time.
//!
//! Invariant: at most [`MAX_CONNECTIONS`] wait, and none is given out whose id has expired.

use super::ConnectionId;
use core::net::SocketAddr;
use shoal_machine::Moment;

/// Each holds a socket. More trackers than these are hardly spoken to within a minute, and those that are left out only cost
/// a round trip.
pub const MAX_CONNECTIONS: usize = 64;

/// Connections that wait. `S` is a socket, which nothing here looks at.
pub struct Connections<S> {
    /// The longest waiting first.
    idle: Vec<Idle<S>>,
}

struct Idle<S> {
    address: SocketAddr,
    id: ConnectionId,
    socket: S,
}

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Connections { idle: Vec::new() }
    }
}

impl<S> Connections<S> {
    /// A connection to the tracker at this address, for one exchange; the one that was used last.
    pub fn take(&mut self, now: Moment, address: SocketAddr) -> Option<(ConnectionId, S)> {
        self.expire(now);
        let position = self.idle.iter().rposition(|idle| idle.address == address)?;
        let idle = self.idle.remove(position);
        Some((idle.id, idle.socket))
    }

    /// Keeps the connection of an exchange that is over. Where there is no room, the longest waiting goes.
    pub fn keep(&mut self, now: Moment, address: SocketAddr, id: ConnectionId, socket: S) {
        self.idle.push(Idle {
            address,
            id,
            socket,
        });
        self.expire(now);
        if self.idle.len() > MAX_CONNECTIONS {
            self.idle.remove(0);
        }
    }

    fn expire(&mut self, now: Moment) {
        self.idle.retain(|idle| idle.id.is_valid(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn id(received_s: u64) -> ConnectionId {
        ConnectionId {
            id: received_s,
            received_at: Moment::from_secs(received_s),
        }
    }

    #[test]
    fn a_connection_serves_one_exchange_at_a_time() {
        let (mut connections, now) = (Connections::default(), Moment::from_secs(1));
        connections.keep(now, tracker(1), id(1), 'a');
        connections.keep(now, tracker(2), id(1), 'b');
        assert!(connections.take(now, tracker(1)) == Some((id(1), 'a')));
        assert!(connections.take(now, tracker(1)).is_none());
        connections.keep(now, tracker(1), id(1), 'a');
        assert!(connections.take(now, tracker(1)) == Some((id(1), 'a')));
    }

    #[test]
    fn a_connection_waits_no_longer_than_its_id_is_valid() {
        let mut connections = Connections::default();
        connections.keep(Moment::from_secs(50), tracker(1), id(1), 'a');
        connections.keep(Moment::from_secs(50), tracker(1), id(2), 'b');
        let late = Moment::from_secs(61);
        assert!(connections.take(late, tracker(1)) == Some((id(2), 'b')));
        assert!(connections.take(late, tracker(1)).is_none());
        // An expired one is not kept to begin with.
        connections.keep(late, tracker(1), id(1), 'a');
        assert!(connections.idle.is_empty());
    }

    #[test]
    fn the_longest_waiting_gives_way() {
        let (mut connections, now) = (Connections::default(), Moment::from_secs(1));
        for port in 0..=u16::try_from(MAX_CONNECTIONS).unwrap() {
            connections.keep(now, tracker(port), id(1), port);
        }
        assert_eq!(connections.idle.len(), MAX_CONNECTIONS);
        assert!(connections.take(now, tracker(0)).is_none());
        assert!(connections.take(now, tracker(1)).is_some());
    }
}
