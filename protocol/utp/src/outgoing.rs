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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Datagram, Header, Kind, Packet};
    use proptest::prelude::*;

    const BASE: Duration = Duration::from_millis(100);

    fn sent(count: u64) -> Outgoing {
        let mut outgoing = Outgoing::new(Sequence(u16::MAX));
        for at in 0..count {
            outgoing.send(Moment::from_millis(at), at * 10, 10, false);
        }
        outgoing
    }

    /// Acknowledges up to `up_to` and what `beyond` lists, by distance from `up_to`.
    fn acknowledge(outgoing: &mut Outgoing, ms: u64, up_to: u16, beyond: &[usize]) -> Outcome {
        let mut datagram = Datagram::bare(Header {
            kind: Kind::State,
            connection_id: 0,
            timestamp_us: 0,
            difference_us: 0,
            window_bytes: 0,
            sequence: Sequence(0),
            acknowledged: Sequence(up_to),
        });
        if let Some(most) = beyond.iter().max() {
            datagram.selective.resize(most.div_ceil(32) * 4, 0);
        }
        for distance in beyond {
            datagram.selective[(distance - 2) / 8] |= 1 << ((distance - 2) % 8);
        }
        let mut bytes = vec![0; datagram.length()];
        datagram.write_head(&mut bytes);
        let selective = Packet::decode(&bytes).unwrap().selective;
        let now = Moment::from_millis(ms);
        outgoing.acknowledge(now, Sequence(up_to), selective, BASE, |_| {})
    }

    #[test]
    fn three_later_packets_tell_of_a_loss_and_the_window_answers_once_a_round_trip() {
        let mut outgoing = sent(10);
        // The first is 65535; 0 is missing, then 1 to 3 come.
        let outcome = acknowledge(&mut outgoing, 100, u16::MAX, &[2, 3]);
        assert_eq!((outcome.packets, outcome.bytes), (3, 30));
        assert!(!outgoing.detect(50_000, |_| true));
        acknowledge(&mut outgoing, 101, u16::MAX, &[2, 3, 4]);
        assert!(outgoing.detect(50_000, |sequence| sequence == Sequence(0)));
        assert_eq!(outgoing.in_flight_bytes(), 50);
        let (at, packet) = outgoing.first_lost().unwrap();
        assert_eq!((at, packet.offset), (0, 10));
        assert_eq!(outgoing.resend(Moment::from_millis(102), at), Sequence(0));
        // 4 is missing as well: it left before the window answered.
        acknowledge(&mut outgoing, 103, u16::MAX, &[2, 3, 4, 6, 7, 8]);
        assert!(!outgoing.detect(50_000, |_| true));
        assert_eq!(outgoing.first_lost().map(|(at, _)| at), Some(4));
    }

    #[test]
    fn what_was_only_late_is_no_loss_and_makes_for_more_patience() {
        let mut outgoing = sent(10);
        acknowledge(&mut outgoing, 100, u16::MAX, &[2, 3, 4]);
        assert!(outgoing.detect(50_000, |_| true));
        outgoing.resend(Moment::from_millis(101), 0);
        // A tenth of the round trip later it cannot be the second transmission.
        let outcome = acknowledge(&mut outgoing, 110, 3, &[]);
        assert_eq!((outcome.late, outcome.round_trip), (Some(50_000), None));
        acknowledge(&mut outgoing, 120, 3, &[2, 3, 4]);
        assert!(!outgoing.detect(50_000, |_| true));
    }

    #[test]
    fn a_second_transmission_that_is_lost_is_found_without_a_timeout() {
        let mut outgoing = sent(5);
        acknowledge(&mut outgoing, 100, u16::MAX, &[2, 3, 4]);
        outgoing.detect(50_000, |_| true);
        outgoing.resend(Moment::from_millis(101), 0);
        for at in 5..9 {
            outgoing.send(Moment::from_millis(102), at * 10, 10, false);
        }
        acknowledge(&mut outgoing, 203, u16::MAX, &[2, 3, 4, 5, 6, 7, 8]);
        outgoing.detect(50_000, |_| true);
        assert_eq!(outgoing.first_lost().map(|(at, _)| at), Some(0));
    }

    #[test]
    fn the_round_trip_is_that_of_packets_sent_once() {
        let mut outgoing = sent(3);
        outgoing.give_up_last();
        let (at, _) = outgoing.first_lost().unwrap();
        outgoing.resend(Moment::from_millis(50), at);
        let outcome = acknowledge(&mut outgoing, 121, 1, &[]);
        assert_eq!(outcome.round_trip, Some(Duration::from_millis(120)));
        assert!(outgoing.is_empty() && outgoing.in_flight_bytes() == 0);
    }

    proptest! {
        #[test]
        fn the_books_are_those_of_a_naive_list(operations in prop::collection::vec((0u8..6, 0u16..40), 1..200)) {
            let mut outgoing = sent(0);
            // Of each packet: acknowledged, given up.
            let mut list: Vec<(bool, bool)> = Vec::new();
            for (turn, (kind, number)) in (0u64..).zip(operations) {
                let first = list.iter().take_while(|(acknowledged, _)| *acknowledged).count();
                match kind {
                    0 | 1 => {
                        let offset = list.len() as u64 * 10;
                        outgoing.send(Moment::from_millis(turn), offset, 10, false);
                        list.push((false, false));
                    }
                    2 => if let Some((at, _)) = outgoing.first_lost() {
                        prop_assert!(list[first + at].1);
                        outgoing.resend(Moment::from_millis(turn), at);
                        list[first + at].1 = false;
                    },
                    3 => {
                        outgoing.give_up_all(|_| {});
                        list.iter_mut().filter(|(acknowledged, _)| !acknowledged).for_each(|packet| packet.1 = true);
                    }
                    _ => {
                        // One packet beyond the first missing one, and all up to there where that is the next.
                        let at = first + usize::from(number);
                        let up_to = u16::MAX.wrapping_add(u16::try_from(first).unwrap()).wrapping_sub(1);
                        if number == 0 && first < list.len() {
                            acknowledge(&mut outgoing, turn, up_to.wrapping_add(1), &[]);
                            list[first].0 = true;
                        } else if at < list.len() {
                            acknowledge(&mut outgoing, turn, up_to, &[usize::from(number) + 1]);
                            list[at].0 = true;
                        }
                    }
                }
                let in_flight = list.iter().filter(|(acknowledged, lost)| !acknowledged && !lost).count();
                prop_assert_eq!(outgoing.in_flight_bytes(), in_flight as u64 * 10);
                let is_empty = list.iter().all(|(acknowledged, _)| *acknowledged);
                prop_assert_eq!(outgoing.is_empty(), is_empty);
                let lost = list.iter().any(|(acknowledged, lost)| !acknowledged && *lost);
                prop_assert_eq!(outgoing.first_lost().is_some(), lost);
            }
        }
    }
}
