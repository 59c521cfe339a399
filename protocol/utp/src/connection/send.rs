//! Which packet leaves next.
//!
//! Order: what was lost, then what is new, then the end of the stream; an acknowledgement travels with these where it can, and alone
//! where packets are missing, since the mask of those that came would take room from payload.
//!
//! Invariant: no payload leaves beyond the congestion window, but for one packet after a timeout or to ask whether a closed window
//! is still closed.

use super::{
    ACKNOWLEDGE_DELAY, ACKNOWLEDGE_EVERY, Connection, KEEP_ALIVE, State, Timer, stateless,
};
use crate::packet::{Datagram, HEADER_LENGTH, Kind, MAX_PADDING};
use crate::sequence::Sequence;
use shoal_machine::Moment;

impl Connection {
    /// The next packet, `None` where nothing is to be sent before something happens.
    pub(crate) fn transmit(&mut self, now: Moment) -> Option<Datagram> {
        let datagram = match self.state {
            State::Opening { due, times, .. } => due.then(|| self.syn(now, times)),
            State::Closed { owes } => owes.map(|kind| self.last(now, kind)),
            State::Open => self.next_packet(now),
        }?;
        self.last_sent = now;
        if !self.is_closed() {
            self.timers.set(Timer::KeepAlive, now + KEEP_ALIVE);
        }
        Some(datagram)
    }

    fn syn(&mut self, now: Moment, times: u32) -> Datagram {
        self.state = State::Opening {
            times: times + 1,
            sent_at: now,
            due: false,
        };
        self.timers
            .set(Timer::Retransmit, now + self.trip.timeout());
        let sequence = self.outgoing.first().previous();
        let mut header = self.header(now, Kind::Syn, sequence);
        // The one packet that names the id of the other direction (BEP 29).
        header.connection_id = self.receive_id;
        header.acknowledged = Sequence(0);
        Datagram::bare(header)
    }

    fn last(&mut self, now: Moment, kind: Kind) -> Datagram {
        self.state = State::Closed { owes: None };
        let sequence = self.outgoing.next_sequence();
        let header = self.header(now, kind, sequence);
        stateless(now, header)
    }

    fn next_packet(&mut self, now: Moment) -> Option<Datagram> {
        let owes = self.owed.at_once || self.owed.packets >= ACKNOWLEDGE_EVERY;
        if owes && self.incoming.has_gaps() {
            return Some(self.acknowledgement(now));
        }
        let payload = self
            .resend(now)
            .or_else(|| self.send_new(now))
            .or_else(|| self.fin(now));
        if payload.is_some() {
            self.acknowledged();
            return payload;
        }
        owes.then(|| self.acknowledgement(now))
    }

    fn acknowledgement(&mut self, now: Moment) -> Datagram {
        let sequence = self.outgoing.next_sequence();
        let header = self.header(now, Kind::State, sequence);
        self.acknowledged();
        Datagram {
            selective: self.incoming.mask(),
            ..Datagram::bare(header)
        }
    }

    const fn acknowledged(&mut self) {
        self.owed.packets = 0;
        self.owed.at_once = false;
        self.timers.stop(Timer::Acknowledge);
    }

    /// The payload of a full packet.
    pub(super) const fn packet_bytes(&self) -> u64 {
        (self.mtu.datagram_bytes() - HEADER_LENGTH) as u64
    }

    fn resend(&mut self, now: Moment) -> Option<Datagram> {
        let (at, packet) = self.outgoing.first_lost()?;
        let in_flight = self.outgoing.in_flight_bytes();
        let room = self.congestion.window_bytes();
        if in_flight > 0 && in_flight + u64::from(packet.length) > room && !self.tail_probed {
            self.limited = true;
            return None;
        }
        let sequence = self.outgoing.resend(now, at);
        self.arm(now);
        let kind = match packet.fin {
            true => Kind::Fin,
            false => Kind::Data,
        };
        let header = self.header(now, kind, sequence);
        let payload = packet.offset..packet.offset + u64::from(packet.length);
        Some(Datagram {
            payload,
            ..Datagram::bare(header)
        })
    }

    fn send_new(&mut self, now: Moment) -> Option<Datagram> {
        let length = self.new_payload(now)?;
        if self.outgoing.is_empty() && now - self.last_sent > self.trip.timeout() {
            self.congestion.idle();
        }
        self.probe_window = false;
        self.timers.stop(Timer::WindowProbe);
        let offset = self.sent;
        self.sent += u64::from(length);
        if u64::from(length) < self.packet_bytes() {
            self.short_end = self.sent;
        }
        let sequence = self.outgoing.send(now, offset, length, false);
        self.arm(now);
        let header = self.header(now, Kind::Data, sequence);
        Some(Datagram {
            padding: self.padding(sequence, length),
            payload: offset..self.sent,
            ..Datagram::bare(header)
        })
    }

    /// How much new payload leaves with the next packet. Notes what keeps it back.
    fn new_payload(&mut self, now: Moment) -> Option<u16> {
        let available = self.written - self.sent;
        let full = self.packet_bytes();
        let length = available.min(full);
        let in_flight = self.outgoing.in_flight_bytes();
        if available == 0 || self.outgoing.is_full() {
            self.limited = false;
            return None;
        }
        if in_flight > 0 && in_flight + length > self.congestion.window_bytes() {
            self.limited = true;
            return None;
        }
        self.limited = false;
        if in_flight + length > self.remote_window {
            if self.outgoing.is_empty() && !self.probe_window {
                if !self.timers.is_set(Timer::WindowProbe) {
                    self.timers
                        .set(Timer::WindowProbe, now + self.trip.timeout());
                }
                return None;
            }
            if !self.outgoing.is_empty() {
                return None;
            }
        }
        // Short packets wait for each other (Minshall's variant of RFC 896): at most one is under way.
        let waits = length < full && !self.finish && self.released < self.short_end;
        (!waits).then(|| u16::try_from(length).unwrap_or(u16::MAX))
    }

    /// What fills a packet up to the length of a probe, where one is due and the packet is full.
    fn padding(&mut self, sequence: Sequence, length: u16) -> usize {
        let datagram = HEADER_LENGTH + usize::from(length);
        if datagram < self.mtu.datagram_bytes() {
            return 0;
        }
        let Some(bytes) = self.mtu.probe_bytes() else {
            return 0;
        };
        let padding = bytes - datagram;
        if !(2..=MAX_PADDING).contains(&padding) {
            return 0;
        }
        self.mtu.sent(sequence, bytes);
        padding
    }

    fn fin(&mut self, now: Moment) -> Option<Datagram> {
        let due = self.finish && !self.fin_sent && self.sent == self.written;
        if !due || self.outgoing.is_full() {
            return None;
        }
        self.fin_sent = true;
        let sequence = self.outgoing.send(now, self.sent, 0, true);
        self.arm(now);
        let header = self.header(now, Kind::Fin, sequence);
        Some(Datagram::bare(header))
    }

    /// Something is in flight.
    fn arm(&mut self, now: Moment) {
        let timeout = self.trip.timeout();
        if !self.timers.is_set(Timer::Retransmit) {
            self.timers.set(Timer::Retransmit, now + timeout);
        }
        let Some(mean) = self.trip.mean().filter(|_| !self.tail_probed) else {
            return;
        };
        let probe = mean * 2 + ACKNOWLEDGE_DELAY;
        if probe < timeout {
            self.timers.set(Timer::TailProbe, now + probe);
        }
    }
}
