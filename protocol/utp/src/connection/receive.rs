//! What a packet of the remote changes.
//!
//! Invariant: a packet that acknowledges what was never sent changes nothing.

use super::{
    ACKNOWLEDGE_DELAY, ACKNOWLEDGE_EVERY, Closed, Connection, Event, MAX_STALE, State, Timer,
};
use crate::congestion::Sample;
use crate::incoming::{Arrival, Incoming};
use crate::outgoing::Outcome;
use crate::packet::{HEADER_LENGTH, Header, Kind, Packet};
use shoal_machine::Moment;

/// What uTorrent sends where it measured nothing.
const UNMEASURED_US: u32 = i32::MAX.cast_unsigned();

impl Connection {
    /// A packet came whose address and id are this connection's.
    pub(crate) fn receive(&mut self, now: Moment, packet: &Packet<'_>) {
        if let State::Opening { times, sent_at, .. } = self.state {
            if !self.opens(now, packet, times, sent_at) {
                return;
            }
        } else if self.is_closed() || !self.is_plausible(&packet.header) {
            return;
        }
        match packet.header.kind {
            Kind::Reset => return self.reset(),
            // Ours was lost.
            Kind::Syn => return self.owed.at_once = true,
            Kind::Data | Kind::Fin | Kind::State => {}
        }
        self.silent_timeouts = 0;
        self.difference_us = super::difference(now, packet.header.timestamp_us);
        self.acknowledge(now, packet);
        if packet.header.kind != Kind::State {
            self.take(now, packet);
        }
        self.end_if_done();
    }

    /// The answer to a SYN. The number of the answer is that of the remote's first packet with payload, as all
    /// implementations of the field have it.
    fn opens(&mut self, now: Moment, packet: &Packet<'_>, times: u32, sent_at: Moment) -> bool {
        let header = &packet.header;
        let ours = self.outgoing.first().previous();
        if header.acknowledged != ours || header.kind == Kind::Syn {
            return false;
        }
        if header.kind == Kind::Reset {
            self.close(Closed::Reset, None);
            return false;
        }
        if times == 1 {
            self.trip.sample(now - sent_at);
            self.delays.round_trip(now, now - sent_at);
        }
        self.trip.heard();
        self.timers.stop(Timer::Retransmit);
        self.state = State::Open;
        let room = self.incoming.window_bytes();
        self.incoming = Incoming::new(header.sequence.previous(), room);
        self.remote_window = u64::from(header.window_bytes);
        // It waits to see that we receive what it sends.
        self.owed.at_once = true;
        self.events.push_back(Event::Connected);
        true
    }

    /// Whether the remote can have sent this: it acknowledges what was sent, and not long ago. A blind forger has to guess.
    fn is_plausible(&self, header: &Header) -> bool {
        let stale = self.outgoing.first().previous().after(header.acknowledged);
        // A reset of who has no state acknowledges the packet it answers, whose number may be the next one's.
        let next = match header.kind {
            Kind::Reset => self.outgoing.next_sequence(),
            _ => self.outgoing.next_sequence().previous(),
        };
        stale <= MAX_STALE && next.after(header.acknowledged) >= 0
    }

    fn reset(&mut self) {
        // Who is done forgets us, and may not have got our last acknowledgement.
        let was_done = self.fin_sent && self.released == self.written;
        let reason = match was_done {
            true => Closed::Ended,
            false => Closed::Reset,
        };
        self.close(reason, None);
    }

    fn acknowledge(&mut self, now: Moment, packet: &Packet<'_>) {
        let header = &packet.header;
        let is_latest = header.acknowledged.after(self.outgoing.first().previous()) >= 0;
        if is_latest {
            self.remote_window = u64::from(header.window_bytes);
        }
        let base = self.delays.base_round_trip().unwrap_or_default();
        let mtu = &mut self.mtu;
        let outcome = self.outgoing.acknowledge(
            now,
            header.acknowledged,
            packet.selective,
            base,
            |sequence| mtu.acknowledged(sequence),
        );
        if outcome.packets == 0 {
            return;
        }
        self.congestion
            .set_packet_bytes(mtu.datagram_bytes() - HEADER_LENGTH);
        self.measure(now, header, &outcome);
        self.adapt(now, &outcome);
        let done = self.outgoing.first_offset().unwrap_or(self.sent);
        if done > self.released {
            self.released = done;
            self.events.push_back(Event::Acknowledged(done));
        }
        self.tail_probed = false;
        self.timers.stop(Timer::TailProbe);
        match self.outgoing.is_empty() {
            true => self.timers.stop(Timer::Retransmit),
            false => self
                .timers
                .set(Timer::Retransmit, now + self.trip.timeout()),
        }
    }

    fn measure(&mut self, now: Moment, header: &Header, outcome: &Outcome) {
        self.trip.heard();
        if let Some(round_trip) = outcome.round_trip {
            self.trip.sample(round_trip);
            self.delays.round_trip(now, round_trip);
        }
        if header.difference_us != 0 && header.difference_us != UNMEASURED_US {
            self.delays.one_way(now, header.difference_us);
        }
    }

    fn adapt(&mut self, now: Moment, outcome: &Outcome) {
        let round_trip = self.round_trip();
        if let Some(window) = outcome.late {
            self.congestion.undo(window);
        }
        let window = self.congestion.window_bytes();
        let mtu = &mut self.mtu;
        if self.outgoing.detect(window, |sequence| !mtu.lost(sequence)) {
            return self.congestion.lost(now, round_trip, self.delays.queue());
        }
        if outcome.bytes > 0 {
            let sample = Sample {
                acknowledged_bytes: outcome.bytes,
                queue: self.delays.queue(),
                base: self.delays.base_round_trip().unwrap_or(round_trip),
                round_trip,
                limited: self.limited,
            };
            self.congestion.acknowledged(now, sample);
        }
    }

    /// Payload, or the end of the stream.
    fn take(&mut self, now: Moment, packet: &Packet<'_>) {
        let was_finished = self.incoming.is_finished();
        let events = &mut self.events;
        let arrival = self.incoming.receive(
            &packet.header,
            packet.header.kind == Kind::Fin,
            packet.payload,
            |delivery| events.push_back(Event::Received(delivery)),
        );
        if self.incoming.is_finished() && !was_finished && !self.abandoned {
            self.events.push_back(Event::Finished);
        }
        // A short packet ends what the remote had to say: it may wait for the answer, or for the acknowledgement.
        let is_short = packet.payload.len() < self.longest_payload;
        self.longest_payload = self.longest_payload.max(packet.payload.len());
        self.owed.packets += 1;
        if arrival == Arrival::OutOfOrder || is_short || self.incoming.has_gaps() {
            self.owed.at_once = true;
        } else if self.owed.packets < ACKNOWLEDGE_EVERY && !self.timers.is_set(Timer::Acknowledge) {
            self.timers.set(Timer::Acknowledge, now + ACKNOWLEDGE_DELAY);
        }
    }
}
