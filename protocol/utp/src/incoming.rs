//! Packets that came: in order to whoever reads, out of order held until what is missing comes.
//!
//! Payload that comes in order is not copied here: it is delivered as what the datagram at hand carries. What comes out of order is
//! copied once, and handed over as it is.
//!
//! Invariant: every byte is delivered once and in order; what is held and what was not read yet never exceeds the limit by more
//! than one packet, nor what is held [`MAX_HELD`] packets.

use crate::packet::Header;
use crate::sequence::Sequence;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// Packets that may be held. As many as a mask of 252 bytes, the longest multiple of 4 that an extension takes, tells of.
pub(crate) const MAX_HELD: usize = 252 * 8;

/// Where the next bytes of the stream are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The whole payload of the datagram that was just handled: its last so many bytes.
    Datagram(usize),
    /// Bytes that came before others which were missing.
    Held(Box<[u8]>),
}

impl Delivery {
    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Delivery::Datagram(length) => *length,
            Delivery::Held(bytes) => bytes.len(),
        }
    }
}

#[derive(Clone, Debug)]
enum Held {
    Data(Box<[u8]>),
    Fin,
}

/// What a packet came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was the next one.
    InOrder,
    /// It was held, or is of no use: the remote has to know what is here.
    OutOfOrder,
}

/// The packets of one direction after the last that came in order.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    acknowledged: Sequence,
    /// By distance from the next packet, which is missing: the first entry is always empty.
    held: VecDeque<Option<Held>>,
    held_bytes: u64,
    unread_bytes: u64,
    limit_bytes: u64,
    /// What the remote believes that it may still send.
    promised_bytes: u64,
    fin: Option<Sequence>,
    /// The end of the stream was reached.
    finished: bool,
    /// Nobody reads any more.
    discards: bool,
}

impl Incoming {
    /// `acknowledged` is the number of the last packet that came.
    pub(crate) const fn new(acknowledged: Sequence, limit_bytes: u64) -> Self {
        Incoming {
            acknowledged,
            held: VecDeque::new(),
            held_bytes: 0,
            unread_bytes: 0,
            limit_bytes,
            promised_bytes: 0,
            fin: None,
            finished: false,
            discards: false,
        }
    }

    pub(crate) const fn acknowledged(&self) -> Sequence {
        self.acknowledged
    }

    pub(crate) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether packets are missing before others that are here.
    pub(crate) fn has_gaps(&self) -> bool {
        !self.held.is_empty()
    }

    pub(crate) const fn set_limit(&mut self, limit_bytes: u64) {
        self.limit_bytes = limit_bytes;
    }

    /// From now on, what comes is acknowledged and dropped.
    pub(crate) const fn discard(&mut self) {
        self.discards = true;
        self.unread_bytes = 0;
    }

    /// How many bytes more there is room for.
    pub(crate) const fn window_bytes(&self) -> u64 {
        self.limit_bytes
            .saturating_sub(self.unread_bytes + self.held_bytes)
    }

    /// The remote is told of the window.
    pub(crate) fn promise(&mut self) -> u32 {
        self.promised_bytes = self.window_bytes();
        u32::try_from(self.promised_bytes).unwrap_or(u32::MAX)
    }

    /// Bytes were read. Returns whether the remote should hear of it: what it may send was less than half of the limit, and
    /// becomes more by a quarter.
    pub(crate) const fn read(&mut self, bytes: u64) -> bool {
        self.unread_bytes = self.unread_bytes.saturating_sub(bytes);
        self.promised_bytes < self.limit_bytes / 2
            && self.window_bytes() >= self.promised_bytes + self.limit_bytes / 4
    }

    /// Takes a packet with payload or the end of the stream, and calls `deliver` with what is next in the stream.
    pub(crate) fn receive(
        &mut self,
        header: &Header,
        fin: bool,
        payload: &[u8],
        mut deliver: impl FnMut(Delivery),
    ) -> Arrival {
        let distance = header.sequence.after(self.acknowledged);
        let beyond = self.fin.is_some_and(|end| header.sequence.after(end) > 0);
        let at = usize::try_from(distance)
            .ok()
            .and_then(|distance| distance.checked_sub(1))
            .filter(|at| *at <= MAX_HELD && !beyond && !self.finished);
        let Some(at) = at else {
            return Arrival::OutOfOrder;
        };
        if fin {
            self.fin.get_or_insert(header.sequence);
        }
        let bytes = payload.len() as u64;
        if at > 0 {
            self.hold(at, fin, payload);
            return Arrival::OutOfOrder;
        }
        if self.unread_bytes >= self.limit_bytes && bytes > 0 {
            return Arrival::OutOfOrder;
        }
        self.promised_bytes = self.promised_bytes.saturating_sub(bytes);
        self.pass(Delivery::Datagram(payload.len()), &mut deliver);
        self.advance(fin);
        while let Some(Some(held)) = self.held.front_mut().map(Option::take) {
            let fin = match held {
                Held::Fin => true,
                Held::Data(bytes) => {
                    self.held_bytes -= bytes.len() as u64;
                    self.pass(Delivery::Held(bytes), &mut deliver);
                    false
                }
            };
            self.advance(fin);
        }
        Arrival::InOrder
    }

    fn pass(&mut self, delivery: Delivery, deliver: &mut impl FnMut(Delivery)) {
        if !self.discards && delivery.length() > 0 {
            self.unread_bytes += delivery.length() as u64;
            deliver(delivery);
        }
    }

    fn advance(&mut self, fin: bool) {
        self.acknowledged = self.acknowledged.next();
        self.held.pop_front();
        self.finished |= fin;
        if self.finished {
            self.held.clear();
            self.held_bytes = 0;
        }
    }

    fn hold(&mut self, at: usize, fin: bool, payload: &[u8]) {
        let bytes = payload.len() as u64;
        if bytes > self.window_bytes() {
            return;
        }
        if self.held.len() <= at {
            self.held.resize_with(at + 1, || None);
        }
        let place = &mut self.held[at];
        if place.is_none() {
            *place = Some(match fin {
                true => Held::Fin,
                false => Held::Data(payload.into()),
            });
            self.held_bytes += if fin { 0 } else { bytes };
        }
    }

    /// Which packets beyond the next one are here, as BEP 29 tells it.
    pub(crate) fn mask(&self) -> SmallVec<[u8; 16]> {
        let bits = self.held.len().saturating_sub(1).min(MAX_HELD);
        let mut mask: SmallVec<[u8; 16]> = SmallVec::from_elem(0, bits.div_ceil(32) * 4);
        for (bit, held) in self.held.iter().skip(1).take(bits).enumerate() {
            if held.is_some() {
                mask[bit / 8] |= 1 << (bit % 8);
            }
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Kind;
    use proptest::prelude::*;

    fn receive(incoming: &mut Incoming, sequence: u16, fin: bool, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            kind: Kind::Data,
            connection_id: 0,
            timestamp_us: 0,
            difference_us: 0,
            window_bytes: 0,
            sequence: Sequence(sequence),
            acknowledged: Sequence(0),
        };
        let mut bytes = Vec::new();
        incoming.receive(&header, fin, payload, |delivery| match delivery {
            Delivery::Datagram(length) => {
                bytes.extend_from_slice(&payload[payload.len() - length..]);
            }
            Delivery::Held(held) => bytes.extend_from_slice(&held),
        });
        bytes
    }

    #[test]
    fn what_came_early_waits_and_the_mask_tells_of_it() {
        let mut incoming = Incoming::new(Sequence(u16::MAX), 1_000);
        assert_eq!(receive(&mut incoming, 2, false, b"c"), b"");
        assert_eq!(receive(&mut incoming, 1, false, b"b"), b"");
        assert_eq!(incoming.mask()[..], [0b11, 0, 0, 0]);
        assert_eq!(receive(&mut incoming, 0, false, b"a"), b"abc");
        assert!(!incoming.has_gaps());
        assert_eq!(receive(&mut incoming, 1, false, b"b"), b"");
        assert_eq!(incoming.acknowledged(), Sequence(2));
        assert_eq!(incoming.window_bytes(), 997);
    }

    #[test]
    fn the_end_counts_once_everything_before_it_is_here() {
        let mut incoming = Incoming::new(Sequence(0), 1_000);
        receive(&mut incoming, 2, true, b"");
        assert!(!incoming.is_finished());
        assert_eq!(receive(&mut incoming, 3, false, b"after the end"), b"");
        assert_eq!(receive(&mut incoming, 1, false, b"a"), b"a");
        assert!(incoming.is_finished());
        assert_eq!(receive(&mut incoming, 3, false, b"after the end"), b"");
    }

    #[test]
    fn a_sender_that_ignores_the_window_is_not_served() {
        let mut incoming = Incoming::new(Sequence(0), 10);
        assert_eq!(receive(&mut incoming, 1, false, b"12345678"), b"12345678");
        assert_eq!(receive(&mut incoming, 3, false, b"too much"), b"");
        assert_eq!(incoming.held_bytes, 0);
        assert_eq!(receive(&mut incoming, 2, false, b"9abc"), b"9abc");
        assert_eq!(receive(&mut incoming, 3, false, b"d"), b"");
        assert_eq!(incoming.window_bytes(), 0);
        assert!(incoming.read(12));
        assert_eq!(receive(&mut incoming, 3, false, b"d"), b"d");
    }

    #[test]
    fn packets_far_ahead_take_no_memory() {
        let mut incoming = Incoming::new(Sequence(0), 1_000_000);
        receive(&mut incoming, 2_018, false, b"x");
        assert!(!incoming.has_gaps());
        receive(&mut incoming, 2_017, false, b"x");
        assert_eq!(incoming.mask().len(), 252);
    }

    proptest! {
        #[test]
        fn any_order_gives_the_stream(mut order in Just((0u16..40).collect::<Vec<_>>()).prop_shuffle(), repeats in prop::collection::vec(0u16..40, 0..40), start: u16) {
            order.extend(repeats);
            order.extend(0..40);
            let mut incoming = Incoming::new(Sequence(start), 100_000);
            let mut stream = Vec::new();
            for number in order {
                let payload = [u8::try_from(number).unwrap(); 3];
                stream.extend(receive(&mut incoming, start.wrapping_add(number + 1), false, &payload));
            }
            let expected: Vec<u8> = (0..40).flat_map(|number| [number; 3]).collect();
            prop_assert_eq!(stream, expected);
            prop_assert_eq!(incoming.held_bytes, 0);
        }
    }
}
