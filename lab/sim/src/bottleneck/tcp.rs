//! A model of TCP: Reno (RFC 5681) or Cubic (RFC 9438), with perfect selective acknowledgements.
//!
//! Every transmission has a number of its own, so that the sender knows exactly which of them arrived: what real TCP comes close
//! to with SACK and timestamps. Segments are acknowledged one by one; windows grow by what is acknowledged.

use super::{Packet, Said};
use core::time::Duration;
use shoal_machine::Moment;
use std::collections::VecDeque;

/// Ethernet's MTU, and the payload of a segment with timestamps.
const SEGMENT_BYTES: u64 = 1_500;
const PAYLOAD_BYTES: u64 = 1_448;

const INITIAL_WINDOW: f64 = 10.0;
const MIN_TIMEOUT: Duration = Duration::from_millis(200);
/// Later segments that are acknowledged before one is lost.
const REORDERING: u64 = 3;

/// How fast Cubic grows, and what a loss leaves of its window (RFC 9438, section 4).
const CUBIC_C: f64 = 0.4;
const CUBIC_BETA: f64 = 0.7;

/// What decides the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// One segment a round trip, halved by a loss.
    Reno,
    /// What Linux does.
    Cubic,
}

#[derive(Debug)]
pub(super) struct Sender {
    control: Control,
    window: f64,
    threshold: f64,
    next: u64,
    outstanding: VecDeque<(u64, Moment)>,
    highest: u64,
    recovery: u64,
    round_trip: Duration,
    timeout_at: Moment,
    /// Cubic: the window before the last loss, and when that was.
    window_max: f64,
    epoch: Option<Moment>,
    /// Cubic: what Reno's window would be.
    reno: f64,
}

impl Sender {
    pub(super) const fn new(control: Control) -> Self {
        Sender {
            control,
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            next: 1,
            outstanding: VecDeque::new(),
            highest: 0,
            recovery: 0,
            round_trip: Duration::from_millis(200),
            timeout_at: Moment::NEVER,
            window_max: 0.0,
            epoch: None,
            reno: 0.0,
        }
    }

    /// The sender gets an acknowledgement or its timer; the receiver, with `back`, a segment.
    pub(super) fn turn(&mut self, now: Moment, back: bool, packet: Option<&Packet>) -> Said {
        let mut said = Said::default();
        let number = match packet {
            Some(Packet::Tcp(number)) => Some(*number),
            _ => None,
        };
        if back {
            // The end that sends back only acknowledges.
            if let Some(number) = number {
                said.received_bytes = PAYLOAD_BYTES;
                said.packets.push((Packet::Tcp(number), 52));
            }
            return said;
        }
        match number {
            Some(number) => self.acknowledged(now, number),
            None if now >= self.timeout_at => self.timed_out(),
            None => {}
        }
        while (self.outstanding.len() as f64) < self.window.floor().max(1.0) {
            self.outstanding.push_back((self.next, now));
            said.packets.push((Packet::Tcp(self.next), SEGMENT_BYTES));
            self.next += 1;
        }
        if number.is_some() || self.timeout_at == Moment::NEVER {
            self.timeout_at = now + (self.round_trip * 2).max(MIN_TIMEOUT);
        }
        said.wake = Some(self.timeout_at);
        said
    }

    fn acknowledged(&mut self, now: Moment, number: u64) {
        let Ok(at) = self
            .outstanding
            .binary_search_by_key(&number, |(number, _)| *number)
        else {
            return;
        };
        if let Some((_, sent_at)) = self.outstanding.remove(at) {
            self.round_trip = (self.round_trip * 7 + (now - sent_at)) / 8;
        }
        self.highest = self.highest.max(number);
        let mut lost = false;
        while let Some((first, _)) = self.outstanding.front()
            && first + REORDERING <= self.highest
        {
            lost |= *first >= self.recovery;
            self.outstanding.pop_front();
        }
        if lost {
            self.lost();
        } else if self.window < self.threshold {
            self.window += 1.0;
        } else {
            self.grow(now);
        }
    }

    fn lost(&mut self) {
        self.recovery = self.next;
        self.window_max = self.window;
        self.epoch = None;
        let left = match self.control {
            Control::Reno => 0.5,
            Control::Cubic => CUBIC_BETA,
        };
        self.window = (self.window * left).max(2.0);
        self.threshold = self.window;
    }

    fn timed_out(&mut self) {
        self.outstanding.clear();
        self.lost();
        self.window = 1.0;
        self.timeout_at = Moment::NEVER;
    }

    fn grow(&mut self, now: Moment) {
        if self.control == Control::Reno {
            self.window += 1.0 / self.window;
            return;
        }
        let began = *self.epoch.get_or_insert_with(|| {
            self.reno = self.window;
            now
        });
        let to_max = ((self.window_max - self.window_max * CUBIC_BETA).max(0.0) / CUBIC_C).cbrt();
        let since = (now - began + self.round_trip).as_secs_f64() - to_max;
        let target = CUBIC_C * since * since * since + self.window_max;
        self.reno += 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA) / self.window;
        let target = target.clamp(self.window, self.window * 1.5).max(self.reno);
        self.window += (target - self.window) / self.window;
    }
}
