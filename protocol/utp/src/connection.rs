//! One connection: what its packets say, which ones leave, and when.
//!
//! Invariant: every byte is sent and delivered in order, and acknowledged once; after [`Event::Closed`] there is no other
//! event. What bounds it: [`MAX_WINDOW_BYTES`] and [`MAX_PACKETS`](crate::outgoing::MAX_PACKETS) in flight, the receive limit for what is not read, and
//! [`MAX_TIMEOUTS`] for how long a silent remote is waited for.

mod receive;
mod send;
mod timers;

use crate::congestion::Congestion;
use crate::delay::Delays;
use crate::incoming::{Delivery, Incoming};
use crate::outgoing::Outgoing;
use crate::packet::{Datagram, HEADER_LENGTH, Header, Kind};
use crate::path_mtu::PathMtu;
use crate::round_trip::RoundTrip;
use crate::sequence::Sequence;
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::Moment;
use std::collections::VecDeque;
use timers::{Timer, Timers};

/// Timeouts in a row after which the remote is gone: 0.5, 1, 2, ... 30 s, a minute in all.
const MAX_TIMEOUTS: u32 = 7;
/// The same while the connection is not open yet: 1, 2, 4 s.
const MAX_SYN_TIMEOUTS: u32 = 3;
/// How long a connection that nobody uses any more has to deliver what was written.
const LINGER: Duration = Duration::from_secs(20);
/// An acknowledgement waits at most so long for another packet or for payload to go with (RFC 9000, `max_ack_delay`).
const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(25);
/// Packets that one acknowledgement covers, unless more came at once.
const ACKNOWLEDGE_EVERY: u32 = 2;
/// NATs forget what says nothing: most hold a UDP mapping for 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(29);
/// Acknowledgements may be overtaken by so many later ones.
const MAX_STALE: i16 = 1_024;

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// Both sides were done.
    #[error("both sides ended the connection")]
    Ended,
    /// The remote does not know the connection, or gave it up.
    #[error("the remote reset the connection")]
    Reset,
    /// The remote did not answer for too long.
    #[error("the remote does not answer")]
    TimedOut,
    /// This side gave it up.
    #[error("this side gave up the connection")]
    Aborted,
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connected,
    Received(Delivery),
    Acknowledged(u64),
    Finished,
    Closed(Closed),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A SYN was sent `times` times, the last one at that moment. `due` tells that it is to leave.
    Opening {
        times: u32,
        sent_at: Moment,
        due: bool,
    },
    Open,
    /// `owes` a last packet to the remote.
    Closed {
        owes: Option<Kind>,
    },
}

/// Which numbers a connection has, and how it was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) remote: SocketAddr,
    pub(crate) receive_id: u16,
    pub(crate) send_id: u16,
    /// The first number that we use.
    pub(crate) sequence: Sequence,
    /// The number of the last packet that came.
    pub(crate) acknowledged: Sequence,
}

/// What the remote has to be told.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    /// Packets that came since it was told.
    packets: u32,
    /// It should not wait.
    at_once: bool,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    state: State,
    receive_id: u16,
    send_id: u16,
    outgoing: Outgoing,
    incoming: Incoming,
    congestion: Congestion,
    trip: RoundTrip,
    delays: Delays,
    mtu: PathMtu,
    /// What the remote is ready to receive.
    remote_window: u64,
    /// The end of what can be sent, of what was sent, and of what was acknowledged.
    written: u64,
    sent: u64,
    released: u64,
    /// The end of the last short packet that was sent.
    short_end: u64,
    /// Whether the window was what kept the last packet back.
    limited: bool,
    /// The end of our stream is wanted, and was sent.
    finish: bool,
    fin_sent: bool,
    /// Nobody uses this side any more.
    abandoned: bool,
    /// What the remote's last packet took, by the difference of our clocks.
    difference_us: u32,
    owed: Owed,
    /// The most that one packet of the remote carried.
    longest_payload: usize,
    timers: Timers,
    last_sent: Moment,
    /// The last packet was sent again without waiting for a timeout.
    tail_probed: bool,
    /// One packet may leave although the remote's window has no room.
    probe_window: bool,
    /// Timeouts since the remote was last heard.
    silent_timeouts: u32,
    events: VecDeque<Event>,
}

impl Connection {
    /// A connection that opens itself.
    pub(crate) fn connect(now: Moment, opened: Opened, limit_bytes: u64) -> Self {
        let mut connection = Connection::new(now, opened, limit_bytes);
        connection.state = State::Opening {
            times: 0,
            sent_at: now,
            due: true,
        };
        connection
    }

    /// A connection whose remote has shown that it receives what is sent to its address. `round_trip` is how long that took.
    pub(crate) fn accept(
        now: Moment,
        opened: Opened,
        limit_bytes: u64,
        round_trip: Option<Duration>,
    ) -> Self {
        let mut connection = Connection::new(now, opened, limit_bytes);
        if let Some(round_trip) = round_trip {
            connection.trip.sample(round_trip);
            connection.delays.round_trip(now, round_trip);
        }
        connection
    }

    fn new(now: Moment, opened: Opened, limit_bytes: u64) -> Self {
        let mtu = PathMtu::new(opened.remote);
        let mut timers = Timers::default();
        timers.set(Timer::KeepAlive, now + KEEP_ALIVE);
        Connection {
            state: State::Open,
            receive_id: opened.receive_id,
            send_id: opened.send_id,
            outgoing: Outgoing::new(opened.sequence),
            incoming: Incoming::new(opened.acknowledged, limit_bytes),
            congestion: Congestion::new(mtu.datagram_bytes() - HEADER_LENGTH),
            trip: RoundTrip::default(),
            delays: Delays::new(now),
            mtu,
            remote_window: 0,
            written: 0,
            sent: 0,
            released: 0,
            short_end: 0,
            limited: false,
            finish: false,
            fin_sent: false,
            abandoned: false,
            difference_us: 0,
            owed: Owed::default(),
            longest_payload: 0,
            timers,
            last_sent: now,
            tail_probed: false,
            probe_window: false,
            silent_timeouts: 0,
            events: VecDeque::new(),
        }
    }

    /// The id that the remote's packets carry.
    pub(crate) const fn receive_id(&self) -> u16 {
        self.receive_id
    }

    /// The id that ours carry.
    pub(crate) const fn send_id(&self) -> u16 {
        self.send_id
    }

    /// The number of the next new packet.
    #[cfg(test)]
    pub(crate) fn next_sequence(&self) -> Sequence {
        self.outgoing.next_sequence()
    }

    /// What happened since the last call.
    pub(crate) fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Connection::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.timers.earliest()
    }

    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// How many bytes may wait to be read.
    pub(crate) const fn set_limit(&mut self, limit_bytes: u64) {
        self.incoming.set_limit(limit_bytes);
    }

    /// `bytes` more of the stream can be sent.
    pub(crate) const fn written(&mut self, bytes: u64) {
        if !self.finish {
            self.written += bytes;
        }
    }

    /// `bytes` of what was delivered have been read.
    pub(crate) const fn consumed(&mut self, bytes: u64) {
        if self.incoming.read(bytes) {
            self.owed.at_once = true;
        }
    }

    /// Nothing more will be written.
    pub(crate) const fn finish(&mut self) {
        self.finish = true;
    }

    /// Nobody uses the connection any more: what was written is still delivered.
    pub(crate) fn abandon(&mut self, now: Moment) {
        if matches!(self.state, State::Opening { .. }) {
            return self.close(Closed::Aborted, None);
        }
        self.abandoned = true;
        self.finish = true;
        self.incoming.discard();
        self.timers.set(Timer::Linger, now + LINGER);
        self.end_if_done();
    }

    /// Gives the connection up at once.
    pub(crate) fn abort(&mut self) {
        let owes = matches!(self.state, State::Open).then_some(Kind::Reset);
        self.close(Closed::Aborted, owes);
    }

    fn close(&mut self, reason: Closed, owes: Option<Kind>) {
        if !self.is_closed() {
            self.state = State::Closed { owes };
            self.timers = Timers::default();
            self.events.push_back(Event::Closed(reason));
        }
    }

    /// Ends once both streams have ended, or ours has where nobody is here for the other.
    fn end_if_done(&mut self) {
        let sent = self.fin_sent && self.outgoing.is_empty();
        if sent && (self.incoming.is_finished() || self.abandoned) {
            let owes = (self.owed.packets > 0 || self.owed.at_once).then_some(Kind::State);
            self.close(Closed::Ended, owes);
        }
    }

    /// The mean round trip, or a guess before it was measured.
    fn round_trip(&self) -> Duration {
        self.trip.mean().unwrap_or(Duration::from_millis(100))
    }

    fn header(&mut self, now: Moment, kind: Kind, sequence: Sequence) -> Header {
        Header {
            kind,
            connection_id: self.send_id,
            timestamp_us: microseconds(now),
            difference_us: self.difference_us,
            window_bytes: self.incoming.promise(),
            sequence,
            acknowledged: self.incoming.acknowledged(),
        }
    }
}

/// The clock of packets.
fn microseconds(now: Moment) -> u32 {
    let wrapped = now.as_nanos() / 1_000 % (1 << 32);
    u32::try_from(wrapped).unwrap_or(0)
}

/// A packet of an endpoint that keeps no state for its remote.
pub(crate) fn stateless(now: Moment, header: Header) -> Datagram {
    Datagram::bare(Header {
        timestamp_us: microseconds(now),
        ..header
    })
}

/// How long a packet that was sent at `timestamp_us` of the remote's clock took, by the difference of the clocks.
pub(crate) fn difference(now: Moment, timestamp_us: u32) -> u32 {
    microseconds(now).wrapping_sub(timestamp_us)
}
