//! Links and the byte streams over them.
//!
//! A node has an uplink that serves its connections in turn, a burst of blocks or a batch of small messages at a time, and
//! a downlink that takes what arrives in order, except that small segments do not wait behind blocks of other connections
//! (as with fair queueing). A stream is TCP as far as it matters here: it starts slowly, has a window of twice the product of
//! rate and delay, loses nothing, and stalls for a round trip and a timeout where the network lost a segment. Every
//! segment pays for the headers of its packets.
//!
//! Invariant: a stream delivers its items whole and in order; at most its window is in flight.

use crate::disk::Token;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{Block, BlockRun};
use shoal_swarm::web_session::FetchId;
use shoal_wire::{Message, Request, encode};
use std::collections::VecDeque;

/// IPv4 and TCP headers of each packet, and what it carries besides.
const PACKET_HEADER_BYTES: u64 = 40;
const PACKET_PAYLOAD_BYTES: u64 = 1_460;

/// The initial window of TCP (RFC 6928).
const INITIAL_WINDOW_BYTES: u64 = 10 * PACKET_PAYLOAD_BYTES;

/// Windows are at least this large, whatever the link, and at most this.
const MIN_WINDOW_BYTES: u64 = 64 * 1024;
const MAX_WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// The shortest time after which a lost segment is sent again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// A segment takes items until it has so many bytes ...
pub(crate) const SEGMENT_BYTES: u64 = 16 * 1024;

/// ... or what its uplink sends in the time of a burst, where that is more, but never more than what the field's senders put
/// into a socket at once.
const MAX_BURST_BYTES: u64 = 256 * 1024;

/// Segments up to this size do not queue in a downlink.
pub(crate) const SMALL_BYTES: u64 = 2 * PACKET_PAYLOAD_BYTES;

/// One thing on a stream.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    /// The handshake of BEP 3.
    Handshake,
    /// A message; of a piece message, the block with it.
    Message(Message),
    /// A request to an HTTP origin.
    Get(FetchId, Vec<BlockRun>),
    /// A block of its reply, with the head of the reply where it is the first.
    Body {
        fetch: FetchId,
        block: Block,
        /// The reply ends with it.
        last: bool,
    },
    /// The end of the stream.
    Fin,
}

/// One thing on a stream, and how long it is.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) wire: Wire,
    pub(crate) bytes: u32,
    pub(crate) token: Token,
}

/// Part of a stream under way: so many items, so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) items: u32,
    pub(crate) bytes: u32,
}

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// First those that arrived and were not read, then those under way, then those that wait.
    items: VecDeque<Item>,
    arrived: usize,
    sent: usize,
    in_flight_bytes: u64,
    window_bytes: u64,
    threshold_bytes: u64,
    max_window_bytes: u64,
    /// When the sender hears that so many bytes were read.
    acks: VecDeque<(Moment, u64)>,
    pub(crate) latency: Duration,
    last_arrival: Moment,
    last_delivery: Moment,
    /// It is in its uplink's round.
    pub(crate) in_round: bool,
    /// It waits for an acknowledgement.
    pub(crate) blocked: bool,
}

impl Pipe {
    /// A stream over `latency` one way and a bottleneck of `rate` bytes a second.
    pub(crate) fn new(latency: Duration, rate: u64) -> Self {
        let round_trip_ms = u64::try_from(latency.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_mul(2);
        let product = rate.saturating_mul(round_trip_ms) / 1_000;
        let max_window_bytes = (2 * product).clamp(MIN_WINDOW_BYTES, MAX_WINDOW_BYTES);
        Pipe {
            items: VecDeque::new(),
            arrived: 0,
            sent: 0,
            in_flight_bytes: 0,
            window_bytes: INITIAL_WINDOW_BYTES,
            threshold_bytes: max_window_bytes,
            max_window_bytes,
            acks: VecDeque::new(),
            latency,
            last_arrival: Moment::ZERO,
            last_delivery: Moment::ZERO,
            in_round: false,
            blocked: false,
        }
    }

    pub(crate) fn push(&mut self, item: Item) {
        self.items.push_back(item);
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.sent < self.items.len()
    }

    /// Forgets what has not begun to leave.
    pub(crate) fn cut(&mut self) {
        self.items.truncate(self.sent);
    }

    /// Forgets what waits to leave of these.
    pub(crate) fn forget_waiting(&mut self, which: impl Fn(&Wire) -> bool) {
        let mut at = 0;
        let sent = self.sent;
        self.items.retain(|item| {
            at += 1;
            at <= sent || !which(&item.wire)
        });
    }

    /// Takes out the waiting block that answers `request`.
    pub(crate) fn take_back(&mut self, request: Request) -> bool {
        let same = |item: &Item| matches!(&item.wire, Wire::Message(Message::Piece(header)) if *header == request);
        let waiting = self.items.iter().skip(self.sent);
        let at = waiting.map(same).position(|same| same);
        at.is_some_and(|at| self.items.remove(self.sent + at).is_some())
    }

    /// The next segment to leave, if the window is open: of some `burst_bytes`, at least one item.
    pub(crate) fn next_segment(&mut self, now: Moment, burst_bytes: u64) -> Option<Segment> {
        while self.acks.front().is_some_and(|(at, _)| *at <= now) {
            let bytes = self.acks.pop_front().map_or(0, |(_, bytes)| bytes);
            self.acknowledged(bytes);
        }
        if self.in_flight_bytes >= self.window_bytes {
            self.blocked = true;
            return None;
        }
        let open = self.window_bytes - self.in_flight_bytes;
        let mut segment = Segment { items: 0, bytes: 0 };
        while let Some(item) = self.items.get(self.sent) {
            segment.items += 1;
            segment.bytes += item.bytes;
            self.sent += 1;
            if u64::from(segment.bytes) >= burst_bytes.min(open) {
                break;
            }
        }
        self.in_flight_bytes += u64::from(segment.bytes);
        (segment.items > 0).then_some(segment)
    }

    /// The blocks in a segment that has just left.
    pub(crate) fn blocks_of(&self, segment: Segment) -> impl Iterator<Item = Request> + '_ {
        let first = self.sent - (segment.items as usize).min(self.sent);
        self.items.range(first..self.sent).filter_map(block_of)
    }

    /// When a segment that leaves now arrives; `lost` where it has to be sent again.
    pub(crate) fn arrival(&mut self, now: Moment, lost: bool) -> Moment {
        let mut at = now + self.latency;
        if lost {
            at = at + RETRANSMISSION.max(2 * self.latency) + 2 * self.latency;
            self.threshold_bytes = (self.window_bytes / 2).max(INITIAL_WINDOW_BYTES);
            self.window_bytes = self.threshold_bytes;
        }
        self.last_arrival = self.last_arrival.max(at);
        self.last_arrival
    }

    /// When a segment that is through the downlink at `at` is delivered.
    pub(crate) fn delivery(&mut self, at: Moment) -> Moment {
        self.last_delivery = self.last_delivery.max(at);
        self.last_delivery
    }

    pub(crate) fn delivered(&mut self, segment: Segment) {
        self.arrived += segment.items as usize;
    }

    /// The next item that arrived. The sender hears of it after a latency; returns when, if it waits for that.
    pub(crate) fn read(&mut self, now: Moment) -> Option<(Item, Option<Moment>)> {
        self.arrived = self.arrived.checked_sub(1)?;
        self.sent -= 1;
        let item = self.items.pop_front()?;
        let heard = now + self.latency;
        self.acks.push_back((heard, u64::from(item.bytes)));
        let waits = core::mem::take(&mut self.blocked);
        Some((item, waits.then_some(heard)))
    }

    fn acknowledged(&mut self, bytes: u64) {
        self.in_flight_bytes -= bytes.min(self.in_flight_bytes);
        let growth = if self.window_bytes < self.threshold_bytes {
            bytes
        } else {
            bytes * PACKET_PAYLOAD_BYTES / self.window_bytes.max(1)
        };
        self.window_bytes = (self.window_bytes + growth).min(self.max_window_bytes);
    }
}

const fn block_of(item: &Item) -> Option<Request> {
    match &item.wire {
        Wire::Message(Message::Piece(header)) => Some(*header),
        _ => None,
    }
}

/// One direction of a node's link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    rate_bytes_per_s: u64,
    burst_bytes: u64,
    free_at: Moment,
}

impl Link {
    /// A link of so many bytes a second that serves one stream for `burst` before the next has its turn.
    pub(crate) fn new(rate_bytes_per_s: u64, burst: Duration) -> Self {
        let ms = u64::try_from(burst.as_millis()).unwrap_or(u64::MAX);
        let burst_bytes = rate_bytes_per_s.saturating_mul(ms) / 1_000;
        Link {
            rate_bytes_per_s,
            burst_bytes: burst_bytes.clamp(SEGMENT_BYTES, MAX_BURST_BYTES),
            free_at: Moment::ZERO,
        }
    }

    /// How much it takes of one stream before the next has its turn.
    pub(crate) const fn burst_bytes(&self) -> u64 {
        self.burst_bytes
    }

    /// Takes the link for so many bytes, headers included, as soon as it is free; returns when they are through.
    pub(crate) fn occupy(&mut self, now: Moment, bytes: u64) -> Moment {
        self.free_at = self.free_at.max(now) + self.time(bytes);
        self.free_at
    }

    /// As [`Link::occupy`] for a segment that overtakes others: it is through at once, and they are later for it.
    pub(crate) fn squeeze(&mut self, now: Moment, bytes: u64) -> Moment {
        self.occupy(now, bytes);
        now + self.time(bytes)
    }

    fn time(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.rate_bytes_per_s.max(1))
    }
}

/// So many bytes of a stream as packets, headers included.
pub(crate) const fn packed(bytes: u64) -> u64 {
    let packets = bytes.div_ceil(PACKET_PAYLOAD_BYTES);
    // Even the end of a stream is a packet.
    bytes + PACKET_HEADER_BYTES * if packets == 0 { 1 } else { packets }
}

/// How long a message is on the wire, the block of a piece message included.
pub(crate) fn wire_length(message: &Message, scratch: &mut Vec<u8>) -> u32 {
    match message {
        Message::Have(_) => 9,
        Message::Request(_) | Message::Cancel(_) | Message::Reject(_) => 17,
        Message::Piece(header) => 13 + header.length,
        other => {
            scratch.clear();
            let mut remote = shoal_wire::RemoteExtensions::default();
            remote.update(&shoal_wire::ExtendedHandshake {
                extensions: shoal_wire::Extension::offer(),
                ..shoal_wire::ExtendedHandshake::default()
            });
            encode(other, &remote, scratch);
            u32::try_from(scratch.len()).unwrap_or(u32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_metainfo::PieceIndex;

    fn request(begin: u32) -> Request {
        Request {
            piece: PieceIndex(3),
            begin,
            length: 16_384,
        }
    }

    fn block(begin: u32) -> Item {
        Item {
            wire: Wire::Message(Message::Piece(request(begin))),
            bytes: 16_397,
            token: 0,
        }
    }

    #[test]
    fn the_short_cuts_to_a_length_are_what_the_encoder_writes() {
        let messages = [
            Message::Have(PieceIndex(1)),
            Message::Request(request(0)),
            Message::Cancel(request(0)),
            Message::Reject(request(0)),
            Message::Piece(request(0)),
        ];
        for message in messages {
            let mut bytes = Vec::new();
            encode(
                &message,
                &shoal_wire::RemoteExtensions::default(),
                &mut bytes,
            );
            let payload = if let Message::Piece(header) = &message {
                header.length
            } else {
                0
            };
            let length = u32::try_from(bytes.len()).unwrap() + payload;
            assert_eq!(
                wire_length(&message, &mut Vec::new()),
                length,
                "{message:?}"
            );
        }
    }

    #[test]
    fn a_stream_keeps_order_and_its_window() {
        let latency = Duration::from_millis(10);
        let mut pipe = Pipe::new(latency, 1_000_000);
        (0..8).for_each(|n| pipe.push(block(n)));
        assert!(pipe.take_back(request(5)));
        let segment = pipe.next_segment(Moment::ZERO, MAX_BURST_BYTES).unwrap();
        assert_eq!(pipe.blocks_of(segment).collect::<Vec<_>>(), [request(0)]);
        assert_eq!(
            pipe.next_segment(Moment::ZERO, MAX_BURST_BYTES),
            None,
            "the initial window is less than a block"
        );
        let late = pipe.arrival(Moment::ZERO, true);
        assert!(late > Moment::ZERO + latency);
        pipe.delivered(segment);
        let (_, wake) = pipe.read(late).unwrap();
        assert_eq!(wake, Some(late + latency));
        assert!(pipe.read(late).is_none());
        assert!(!pipe.take_back(request(0)));
        pipe.window_bytes = MIN_WINDOW_BYTES;
        let burst = pipe.next_segment(late + latency, 2 * SEGMENT_BYTES);
        let blocks = burst.map(|burst| pipe.blocks_of(burst).collect::<Vec<_>>());
        assert_eq!(blocks, Some(vec![request(1), request(2)]));
    }

    #[test]
    fn a_link_is_as_fast_as_its_rate_with_headers_counted() {
        let mut link = Link::new(1_500_000, Duration::ZERO);
        let through = link.occupy(Moment::ZERO, packed(1_460_000));
        assert_eq!(through, Moment::from_secs(1));
        assert!(link.squeeze(Moment::ZERO, 100) < Moment::from_millis(1));
        assert!(link.occupy(Moment::ZERO, 1) > Moment::from_secs(1));
    }
}
