//! Packets that were sent and are not acknowledged, and which of them are lost.
//!
//! Invariant: a packet keeps its number, its place in the stream and its length for as long as it lives; the bytes counted as in
//! flight are those of packets that are neither acknowledged nor given up.

use crate::packet::SelectiveAck;
use crate::sequence::Sequence;
use core::time::Duration;
use shoal_machine::Moment;
use std::collections::VecDeque;

/// Packets that may be unacknowledged. More than the greatest window holds in packets of ordinary length, and far less than half of
/// the sequence numbers.
pub(crate) const MAX_PACKETS: usize = 4_096;

/// A packet is lost when one that left so many packets later was acknowledged (RFC 5681, RFC 9002).
const REORDERING: u64 = 3;
/// Where the network reorders more than that, the distance grows to at most this.
const MAX_REORDERING: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InFlight,
    Lost,
    Acknowledged,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) offset: u64,
    pub(crate) length: u16,
    pub(crate) fin: bool,
    fate: Fate,
    /// Transmissions.
    times: u8,
    sent_at: Moment,
    /// The number of its last transmission among all of the connection.
    order: u64,
    /// What the window was before this packet was given up, where it was.
    window_before: u64,
}

/// What an acknowledgement came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Payload that was acknowledged for the first time.
    pub(crate) bytes: u64,
    /// Packets that were.
    pub(crate) packets: usize,
    /// The round trip of the packet that left last among those that were sent once.
    pub(crate) round_trip: Option<Duration>,
    /// A packet that had been given up was only late: the window before that.
    pub(crate) late: Option<u64>,
}

/// The packets of one direction from the first that is not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    packets: VecDeque<Sent>,
    /// The number of the first packet of `packets`, or of the next one to be sent.
    first: Sequence,
    in_flight_bytes: u64,
    lost: usize,
    next_order: u64,
    latest_acknowledged: Option<u64>,
    reordering: u64,
    /// Losses of packets that left before this transmission were answered.
    recovery: u64,
}

impl Outgoing {
    /// `first` is the number of the first packet.
    pub(crate) const fn new(first: Sequence) -> Self {
        Outgoing {
            packets: VecDeque::new(),
            first,
            in_flight_bytes: 0,
            lost: 0,
            next_order: 0,
            latest_acknowledged: None,
            reordering: REORDERING,
            recovery: 0,
        }
    }

    /// The number of the next new packet.
    pub(crate) fn next_sequence(&self) -> Sequence {
        Sequence(self.first.0.wrapping_add(self.count()))
    }

    /// The first number that is not acknowledged.
    pub(crate) const fn first(&self) -> Sequence {
        self.first
    }

    fn count(&self) -> u16 {
        u16::try_from(self.packets.len()).unwrap_or(u16::MAX)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.packets.len() >= MAX_PACKETS
    }

    /// Payload that is neither acknowledged nor given up.
    pub(crate) const fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Where the stream is not acknowledged yet, `None` where all is.
    pub(crate) fn first_offset(&self) -> Option<u64> {
        self.packets.front().map(|packet| packet.offset)
    }

    /// Adds a packet that leaves, and returns its number.
    pub(crate) fn send(&mut self, now: Moment, offset: u64, length: u16, fin: bool) -> Sequence {
        let sequence = self.next_sequence();
        self.packets.push_back(Sent {
            offset,
            length,
            fin,
            fate: Fate::InFlight,
            times: 1,
            sent_at: now,
            order: self.next_order,
            window_before: 0,
        });
        self.next_order += 1;
        self.in_flight_bytes += u64::from(length);
        sequence
    }

    /// The first packet that was given up.
    pub(crate) fn first_lost(&self) -> Option<(usize, Sent)> {
        if self.lost == 0 {
            return None;
        }
        let at = self
            .packets
            .iter()
            .position(|packet| packet.fate == Fate::Lost)?;
        Some((at, self.packets[at]))
    }

    /// The packet at `at` leaves again. Returns its number.
    pub(crate) fn resend(&mut self, now: Moment, at: usize) -> Sequence {
        let packet = &mut self.packets[at];
        packet.fate = Fate::InFlight;
        packet.times = packet.times.saturating_add(1);
        packet.sent_at = now;
        packet.order = self.next_order;
        self.next_order += 1;
        self.lost -= 1;
        self.in_flight_bytes += u64::from(packet.length);
        let distance = u16::try_from(at).unwrap_or(u16::MAX);
        Sequence(self.first.0.wrapping_add(distance))
    }

    /// Takes an acknowledgement of all up to `up_to` and of those beyond it that `selective` lists. `base` is the least round trip:
    /// what is acknowledged sooner after it left again was not lost. Calls `each` with the numbers.
    pub(crate) fn acknowledge(
        &mut self,
        now: Moment,
        up_to: Sequence,
        selective: Option<SelectiveAck<'_>>,
        base: Duration,
        mut each: impl FnMut(Sequence),
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let first = self.first;
        let cumulative = usize::try_from(up_to.after(first) + 1).unwrap_or(0);
        for at in 0..cumulative.min(self.packets.len()) {
            self.take(now, at, base, &mut outcome, &mut each);
        }
        if let Some(selective) = selective {
            for distance in selective.distances() {
                let at = isize::from(up_to.after(first)) + isize::try_from(distance).unwrap_or(0);
                match usize::try_from(at) {
                    Ok(at) if at >= self.packets.len() => break,
                    Ok(at) => self.take(now, at, base, &mut outcome, &mut each),
                    Err(_) => {}
                }
            }
        }
        while let Some(packet) = self.packets.front()
            && packet.fate == Fate::Acknowledged
        {
            self.packets.pop_front();
            self.first = self.first.next();
        }
        outcome
    }

    fn take(
        &mut self,
        now: Moment,
        at: usize,
        base: Duration,
        outcome: &mut Outcome,
        each: &mut impl FnMut(Sequence),
    ) {
        let packet = &mut self.packets[at];
        match packet.fate {
            Fate::Acknowledged => return,
            Fate::InFlight => self.in_flight_bytes -= u64::from(packet.length),
            Fate::Lost => self.lost -= 1,
        }
        let was_lost = packet.fate == Fate::Lost;
        packet.fate = Fate::Acknowledged;
        outcome.bytes += u64::from(packet.length);
        outcome.packets += 1;
        let took = now - packet.sent_at;
        let (times, order, window_before) = (packet.times, packet.order, packet.window_before);
        let distance = u16::try_from(at).unwrap_or(u16::MAX);
        each(Sequence(self.first.0.wrapping_add(distance)));
        if times == 1 && !was_lost {
            outcome.round_trip = Some(took);
        }
        // Acknowledged although it was given up, or too soon after it left again: the first transmission had arrived.
        if window_before > 0 && (was_lost || took < base / 2) {
            outcome.late = outcome.late.max(Some(window_before));
            self.reordering = (self.reordering * 2).min(MAX_REORDERING);
        } else {
            self.latest_acknowledged = self.latest_acknowledged.max(Some(order));
        }
    }

    /// Gives up packets that left before others which were acknowledged. `lost` is asked about each number whether its loss says
    /// something about congestion. Returns whether the window has to answer.
    pub(crate) fn detect(&mut self, window: u64, mut lost: impl FnMut(Sequence) -> bool) -> bool {
        let Some(latest) = self.latest_acknowledged else {
            return false;
        };
        let mut answer = false;
        for (at, packet) in self.packets.iter_mut().enumerate() {
            if packet.fate == Fate::Acknowledged {
                continue;
            }
            if packet.fate == Fate::InFlight && packet.order + self.reordering <= latest {
                packet.fate = Fate::Lost;
                packet.window_before = window;
                self.lost += 1;
                self.in_flight_bytes -= u64::from(packet.length);
                let distance = u16::try_from(at).unwrap_or(u16::MAX);
                let counts = lost(Sequence(self.first.0.wrapping_add(distance)));
                answer |= counts && packet.order >= self.recovery;
            } else if packet.times == 1 && packet.fate == Fate::InFlight {
                // All that follow left later.
                break;
            }
        }
        if answer {
            self.recovery = self.next_order;
        }
        answer
    }

    /// Gives up everything that is in flight. Calls `each` with the numbers.
    pub(crate) fn give_up_all(&mut self, mut each: impl FnMut(Sequence)) {
        for (at, packet) in self.packets.iter_mut().enumerate() {
            if packet.fate == Fate::InFlight {
                packet.fate = Fate::Lost;
                packet.window_before = 0;
                self.lost += 1;
                let distance = u16::try_from(at).unwrap_or(u16::MAX);
                each(Sequence(self.first.0.wrapping_add(distance)));
            }
        }
        self.in_flight_bytes = 0;
        self.recovery = self.next_order;
    }

    /// Gives up the last packet, so that it leaves again and its acknowledgement tells which others are missing (RFC 8985, tail loss
    /// probe).
    pub(crate) fn give_up_last(&mut self) {
        if let Some(packet) = self.packets.back_mut()
            && packet.fate == Fate::InFlight
        {
            packet.fate = Fate::Lost;
            packet.window_before = 0;
            self.lost += 1;
            self.in_flight_bytes -= u64::from(packet.length);
        }
    }
}
