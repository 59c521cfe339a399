//! uTP: packets that a stranger wrote, and two machines over a channel that loses, repeats, permutes and damages.

use crate::operations::Operations;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_utp::packet::{DecodeError, HEADER_LENGTH, Packet};
use shoal_utp::{
    Closed, Delivery, Input, Key, MAX_DATAGRAM_BYTES, Multiplexer, Output, Settings, is_utp,
};
use std::net::SocketAddr;

/// Datagrams that may be under way; further ones are lost.
const MAX_UNDER_WAY: usize = 256;
/// What a machine may send without hearing anything in between: all windows, and acknowledgements.
const MAX_AT_ONCE: usize = 8_192;
/// Payload that is written in all, so that a run ends.
const MAX_WRITTEN: u64 = 4 << 20;
/// What a side lets wait to be read.
const LIMIT: u64 = 64 * 1024;

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], if side == 0 { 1_000 } else { 2_000 }))
}

fn settings() -> Settings {
    Settings {
        max_connections: 2,
        max_receive_bytes: LIMIT,
        max_receive_bytes_of_all: LIMIT,
    }
}

/// A packet is read within its bounds, and a machine that knows nobody answers it with one datagram that is not longer, if at all.
pub fn packet(input: &[u8]) {
    let decoded = Packet::decode(input);
    assert_eq!(decoded == Err(DecodeError::NotUtp), !is_utp(input));
    if let Ok(packet) = decoded {
        assert!(input.ends_with(packet.payload));
        assert!(packet.payload.len() + HEADER_LENGTH <= input.len());
        let mut last = 1;
        for distance in packet.selective.iter().flat_map(|mask| mask.distances()) {
            assert!(distance > last && distance <= 255 * 8 + 1);
            last = distance;
        }
    }
    let mut machine = Multiplexer::new(settings(), fastrand::Rng::with_seed(1));
    let (now, remote) = (Moment::from_secs(1), address(1));
    let bytes = input;
    machine.handle(now, Input::Datagram { remote, bytes });
    assert_eq!(machine.poll(), None);
    assert_eq!(machine.deadline(), None);
    let mut answered = 0;
    while let Some((to, key, datagram)) = machine.transmit(now) {
        assert_eq!((to, key), (remote, None));
        assert_eq!(datagram.payload_length(), 0);
        answered += datagram.length();
    }
    assert!(answered <= input.len());
}

/// One machine and what its driver knows.
struct Side {
    machine: Multiplexer,
    key: Option<Key>,
    written: u64,
    acknowledged: u64,
    received: u64,
    unread: u64,
    ends: bool,
    finished: bool,
    closed: Option<Closed>,
}

impl Side {
    fn new(seed: u64) -> Self {
        Side {
            machine: Multiplexer::new(settings(), fastrand::Rng::with_seed(seed)),
            key: None,
            written: 0,
            acknowledged: 0,
            received: 0,
            unread: 0,
            ends: false,
            finished: false,
            closed: None,
        }
    }
}

struct Run {
    now: Moment,
    sides: [Side; 2],
    /// To whom, and what.
    under_way: Vec<(usize, Vec<u8>)>,
    /// Whether everything that arrived was sent as it is.
    honest: bool,
    /// Whether both users want the connection to last.
    wanted: bool,
}

/// What is at an offset of the stream that `side` sends.
fn content(side: usize, offset: u64) -> u8 {
    let [.., low] = (offset.wrapping_mul(167) + offset / 256 + side as u64).to_be_bytes();
    low
}

/// Two machines keep their promises whatever the channel and their users do; where the channel damages nothing and nobody gives up, every
/// byte arrives in the end.
pub fn connections(input: &[u8]) {
    let mut operations = Operations::new(input);
    let mut run = Run {
        now: Moment::from_secs(1),
        sides: [Side::new(1), Side::new(2)],
        under_way: Vec::new(),
        honest: true,
        wanted: true,
    };
    let key = run.sides[0].machine.connect(run.now, address(1));
    run.sides[0].key = key.ok();
    run.flush();
    while let Some(kind) = operations.next_kind() {
        run.step(kind, &mut operations);
        run.flush();
    }
    if run.honest && run.wanted {
        run.finish();
    }
}

impl Run {
    fn step(&mut self, kind: u8, operations: &mut Operations<'_>) {
        let side = operations.below(2);
        let key = self.sides[side].key;
        match (kind % 16, key) {
            (0..=2, Some(_)) => self.write(side, u64::from(operations.number())),
            (3, Some(_)) => self.read(side),
            (4, Some(key)) if operations.one_in(4) => {
                self.sides[side].ends = true;
                self.input(side, Input::Finish(key));
            }
            (5, Some(key)) if operations.one_in(8) => {
                self.wanted = false;
                self.sides[side].ends = true;
                let input = match operations.flag() {
                    true => Input::Abandon(key),
                    false => Input::Abort(key),
                };
                self.input(side, input);
            }
            (6, _) => {
                self.now = self.now + operations.step();
                self.tick();
            }
            (7, _) => self.tamper(operations),
            (8, _) => {
                let bytes = operations.bytes();
                self.honest = false;
                let remote = address(1 - side);
                self.input(side, Input::Datagram { remote, bytes });
            }
            (9, _) => {
                self.now = self.now + Duration::from_micros(u64::from(operations.byte()) * 300);
                self.tick();
            }
            _ => self.deliver(operations),
        }
    }

    /// One of the datagrams under way arrives.
    fn deliver(&mut self, operations: &mut Operations<'_>) {
        if self.under_way.is_empty() {
            return;
        }
        let at = operations.below(self.under_way.len().min(256));
        let (side, bytes) = self.under_way.remove(at);
        let remote = address(1 - side);
        let bytes = &bytes[..];
        self.input(side, Input::Datagram { remote, bytes });
    }

    /// A datagram is lost, comes twice, or is damaged.
    fn tamper(&mut self, operations: &mut Operations<'_>) {
        if self.under_way.is_empty() {
            return;
        }
        let at = operations.below(self.under_way.len().min(256));
        match operations.below(8) {
            0..4 => drop(self.under_way.remove(at)),
            4..7 => {
                let twin = self.under_way[at].clone();
                self.under_way.push(twin);
            }
            _ => {
                self.honest = false;
                let bytes = &mut self.under_way[at].1;
                let place = operations.below(HEADER_LENGTH);
                bytes[place] ^= 1 << operations.below(8);
            }
        }
    }

    fn write(&mut self, side: usize, bytes: u64) {
        let this = &mut self.sides[side];
        let bytes = bytes.min(MAX_WRITTEN.saturating_sub(this.written));
        if let Some(key) = this.key.filter(|_| !this.ends && this.closed.is_none()) {
            this.written += bytes;
            self.input(side, Input::Written { key, bytes });
        }
    }

    fn read(&mut self, side: usize) {
        let this = &mut self.sides[side];
        let bytes = core::mem::take(&mut this.unread);
        if let Some(key) = this.key {
            self.input(side, Input::Consumed { key, bytes });
        }
    }

    fn tick(&mut self) {
        for side in 0..2 {
            let deadline = self.sides[side].machine.deadline();
            if deadline.is_some_and(|at| at <= self.now) {
                self.input(side, Input::Tick);
                let next = self.sides[side].machine.deadline();
                assert!(
                    next.is_none_or(|at| at > self.now),
                    "a timer fires without end"
                );
            }
        }
    }

    fn input(&mut self, side: usize, input: Input<'_>) {
        let datagram = match input {
            Input::Datagram { bytes, .. } => bytes,
            _ => &[],
        };
        let honest = self.honest;
        let (sent, other_ends) = {
            let other = &self.sides[1 - side];
            (other.written, other.ends || !self.wanted)
        };
        let this = &mut self.sides[side];
        this.machine.handle(self.now, input);
        while let Some(output) = this.machine.poll() {
            if let Output::Accepted { key, .. } = output {
                // With forged datagrams there may be several.
                assert!(this.key.is_none() || !honest);
                this.key.get_or_insert(key);
                continue;
            }
            if key_of(&output) != this.key {
                assert!(!honest);
                continue;
            }
            assert_eq!(this.closed, None, "{output:?} after the end");
            match output {
                Output::Received { delivery, .. } => {
                    let payload = match &delivery {
                        Delivery::Datagram(length) => &datagram[datagram.len() - length..],
                        Delivery::Held(held) => held,
                    };
                    let right = payload
                        .iter()
                        .zip(this.received..)
                        .all(|(byte, offset)| *byte == content(1 - side, offset));
                    assert!(right || !honest, "other bytes at {}", this.received);
                    this.received += payload.len() as u64;
                    this.unread += payload.len() as u64;
                    assert!(this.received <= sent || !honest);
                    assert!(this.unread <= LIMIT + 65_536);
                }
                Output::Acknowledged { up_to, .. } => {
                    assert!(up_to > this.acknowledged && up_to <= this.written);
                    this.acknowledged = up_to;
                }
                Output::Finished(_) => {
                    assert!(!this.finished);
                    assert!(!honest || (other_ends && this.received == sent));
                    this.finished = true;
                }
                Output::Closed { reason, .. } => this.closed = Some(reason),
                Output::Accepted { .. } | Output::Connected(_) => {}
            }
        }
    }

    /// What both have to send goes under way.
    fn flush(&mut self) {
        for side in 0..2 {
            let this = &mut self.sides[side];
            let mut count = 0;
            while let Some((remote, key, datagram)) = this.machine.transmit(self.now) {
                count += 1;
                assert!(count <= MAX_AT_ONCE);
                assert_eq!(remote, address(1 - side));
                assert!(datagram.length() <= MAX_DATAGRAM_BYTES);
                if key.is_some() && key == this.key {
                    assert!(datagram.payload.end <= this.written);
                    let empty = datagram.payload_length() == 0;
                    assert!(empty || datagram.payload.start >= this.acknowledged);
                }
                let mut bytes = vec![0; datagram.length()];
                let offsets = datagram.payload.clone();
                for (byte, offset) in datagram.write_head(&mut bytes).iter_mut().zip(offsets) {
                    *byte = content(side, offset);
                }
                if self.under_way.len() < MAX_UNDER_WAY {
                    self.under_way.push((1 - side, bytes));
                }
            }
        }
    }

    /// From here on nothing is lost, and everybody reads: all that was written arrives, unless the channel was silent for so long that
    /// an end was given up before.
    fn finish(&mut self) {
        for _ in 0..20_000 {
            for (side, bytes) in core::mem::take(&mut self.under_way) {
                let (remote, bytes) = (address(1 - side), &bytes[..]);
                self.input(side, Input::Datagram { remote, bytes });
            }
            (0..2).for_each(|side| self.read(side));
            self.now = self.now + Duration::from_millis(20);
            self.tick();
            self.flush();
            let gave_up = |side: &Side| side.closed.is_some_and(|reason| reason != Closed::Ended);
            let is_done = |side: usize| self.sides[1 - side].received == self.sides[side].written;
            let never_said = self.sides[1].key.is_none() && self.sides[0].written == 0;
            if self.sides.iter().any(gave_up) || never_said || (is_done(0) && is_done(1)) {
                return;
            }
        }
        let [near, far] = &self.sides;
        panic!(
            "{} of {} and {} of {} bytes arrived",
            far.received, near.written, near.received, far.written
        );
    }
}

fn key_of(output: &Output) -> Option<Key> {
    Some(match output {
        Output::Accepted { key, .. }
        | Output::Received { key, .. }
        | Output::Acknowledged { key, .. }
        | Output::Closed { key, .. }
        | Output::Connected(key)
        | Output::Finished(key) => *key,
    })
}
