//! uTP (BEP 29) with LEDBAT++: connections that use what others leave of a path, as datagrams in and datagrams out.
//!
//! A [`Multiplexer`] is all connections of one UDP socket. Its driver hands it datagrams, the clock and what its user does,
//! drains [`Multiplexer::poll`] after each, and sends what [`Multiplexer::transmit`] gives whenever the socket takes it.
//!
//! Payload is not kept by the machine. On its way out it is named by its range of the stream, and the driver writes it behind
//! the header that [`Datagram::write_head`] writes, straight into the buffer that the system gets: one copy, and one more each time that a packet is
//! lost. On its way in it is delivered as the payload of the datagram at hand, without a copy; packets that came before others are
//! copied once, and handed over as they are. With a driver that keeps one buffer for each direction, a byte is copied twice on each
//! side between the user's memory and the system.
//!
//! Invariant: a datagram from an address that has not shown that it receives what is sent to it costs a bounded entry and an
//! answer that is not longer than it.

pub mod packet;

mod congestion;
mod connection;
mod delay;
mod half_open;
mod incoming;
mod multiplexer;
mod outgoing;
mod path_mtu;
mod round_trip;
mod sequence;

pub use connection::Closed;
pub use incoming::Delivery;
pub use multiplexer::{ConnectError, Input, Key, Multiplexer, Output, Settings};
pub use packet::{Datagram, is_utp};
pub use sequence::Sequence;

/// The longest datagram that is ever sent.
pub const MAX_DATAGRAM_BYTES: usize = 1_472;

/// How much may be unacknowledged: a driver that keeps as much of the stream, and some more that was not sent, never makes the
/// machine wait.
pub const MAX_IN_FLIGHT_BYTES: u64 = congestion::MAX_WINDOW_BYTES;
