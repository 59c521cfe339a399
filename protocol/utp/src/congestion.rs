//! How much may be in flight: LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus, over RFC 6817), which uses what others leave.
//!
//! Below the target delay the window grows by a fixed amount a round trip; above it, it loses a part of itself, so that flows with the
//! same view of the path converge to the same window. A loss halves it as TCP's, or leaves five eighths where there is no queue. At times it falls to two packets for two
//! round trips, so that the queue runs empty and its length is measured against the true base delay: otherwise a flow that comes
//! late takes the queue of the others for the path, and starves them.
//!
//! Where this departs from the draft, and why (docs/simulation.md has the figures):
//! - Delays are those of one direction, bounded by the round trip's (`delay`): uTP measures both.
//! - Without losses the window grows by up to four packets a round trip, in proportion to the base delay, instead of a
//!   sixteenth to one: two flows on a fast path otherwise take many minutes to converge. After a loss it grows by one where there is no
//!   queue, since nobody is in the way and a flow would stay below what TCP reaches, and as the draft says where there is one.
//! - Above the target it loses at least an eighth at once, rather than a little with each acknowledgement: all flows do so in the same
//!   round trip, and converge.
//! - Slow start slows down to a quarter once a queue shows, as HyStart++ (RFC 9406) does, so that it does not overshoot by a round
//!   trip's growth. What it comes to is halved, since flows that start together end it with very different windows.
//! - A queue that overflows before it is as long as the target is shorter than the target: for a while half of it is the target. The draft leaves short
//!   buffers to losses, and takes a large part of them from TCP.
//! - A slowdown returns by doubling from half of what the queue held, as the path is known to carry it, and so takes a few round
//!   trips; the next one waits 15 times as long rather than 9. It is left out where the queue has just been empty anyway.
//!
//! Invariant: the window is within [`MIN_PACKETS`] packets and [`MAX_WINDOW_BYTES`]; it only grows while it is what bounds the flow, and shrinks
//! for losses at most once a round trip.

use core::time::Duration;
use shoal_machine::Moment;

/// How long our packets may wait in queues. LEDBAT++ takes 60 ms where RFC 6817 allows 100 ms: flows that take 100 ms fill the
/// buffers of many home routers, which then drop everybody's packets, and calls suffer.
pub(crate) const TARGET: Duration = Duration::from_millis(60);
/// Slow start ends at three quarters of the target (the draft's section 4.3).
const SLOW_START_END: Duration = Duration::from_millis(45);
/// A queue shorter than this is none: timestamps and schedulers are no more precise.
const NO_QUEUE: Duration = Duration::from_micros(7_500);
/// The part of a packet by which the window grows in a round trip is at least the 16th (the draft's section 4.2).
const MAX_GAIN_DIVISOR: u64 = 16;
/// The least window (the draft's section 4.4): one packet and the one that makes the remote acknowledge at once.
const MIN_PACKETS: u64 = 2;
/// The first window (RFC 6928).
const INITIAL_PACKETS: u64 = 10;
/// The greatest window, 330 Mbit/s over 100 ms: what a connection buffers until it is acknowledged.
pub(crate) const MAX_WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// Round trips that a slowdown stays down (the draft's section 4.5).
const FROZEN_ROUND_TRIPS: u32 = 2;
/// After a slowdown the next one waits for so many times as long as it took, so that a 16th of the time goes into them.
const SLOWDOWN_INTERVAL: u32 = 15;
/// Without losses, a flow grows as fast as one over a path of this round trip grows by a packet a round trip.
const GAIN_UNIT: Duration = Duration::from_millis(40);
/// ... but by at most so many packets.
const MAX_GAIN: u128 = 4;
/// So long after a loss, the path counts as one without losses.
const QUIET: Duration = Duration::from_secs(30);
/// Above the target the window loses at least this part of itself: steps that all flows make at once let their windows converge.
const MIN_DECREASE_DIVISOR: u64 = 8;
/// Windows are kept in 2^16ths of a byte, since an acknowledgement adds less than a byte where they are large.
const FRACTION_BITS: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The window grows in proportion to itself until it has `threshold_bytes`, there is a queue, or a loss.
    SlowStart { threshold_bytes: u64, first: bool },
    /// It follows the delay.
    Avoidance,
    /// It is as small as it gets, to see the path without our queue.
    Frozen {
        until: Moment,
        start_bytes: u64,
        resume_bytes: u64,
    },
}

/// What an acknowledgement tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) acknowledged_bytes: u64,
    /// How long our packets wait, where it is known.
    pub(crate) queue: Option<Duration>,
    /// The least round trip, and the mean.
    pub(crate) base: Duration,
    pub(crate) round_trip: Duration,
    /// Whether the window was what kept more from being sent.
    pub(crate) limited: bool,
}

/// The window of one direction.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    window: u64,
    packet_bytes: u64,
    phase: Phase,
    /// When the next slowdown is due.
    slowdown_at: Moment,
    /// How long the last slowdown took makes the interval between them.
    interval: Duration,
    slowdown_began: Option<Moment>,
    /// The target until the last loss is long ago: half of a queue that overflowed.
    target: Duration,
    /// When the window may become smaller for the queue again.
    decrease_at: Moment,
    /// Whether there was a slowdown.
    is_settled: bool,
    /// When the last loss is long ago.
    quiet_at: Moment,
    /// Whether the path was seen without a queue in the later half of the interval.
    seen_empty: bool,
}

impl Congestion {
    pub(crate) fn new(packet_bytes: usize) -> Self {
        let packet_bytes = packet_bytes as u64;
        Congestion {
            window: (INITIAL_PACKETS * packet_bytes) << FRACTION_BITS,
            packet_bytes,
            phase: Phase::SlowStart {
                threshold_bytes: MAX_WINDOW_BYTES,
                first: true,
            },
            slowdown_at: Moment::NEVER,
            interval: Duration::ZERO,
            slowdown_began: None,
            target: TARGET,
            decrease_at: Moment::ZERO,
            is_settled: false,
            quiet_at: Moment::ZERO,
            seen_empty: false,
        }
    }

    /// How many bytes of payload may be in flight.
    pub(crate) const fn window_bytes(&self) -> u64 {
        self.window >> FRACTION_BITS
    }

    /// Packets became longer.
    pub(crate) const fn set_packet_bytes(&mut self, packet_bytes: usize) {
        self.packet_bytes = packet_bytes as u64;
    }

    /// Bytes were acknowledged.
    pub(crate) fn acknowledged(&mut self, now: Moment, sample: Sample) {
        let queue = sample.queue.unwrap_or(Duration::ZERO);
        // Just after a slowdown the queue is short because of it.
        let is_late = now + self.interval / 2 >= self.slowdown_at;
        self.seen_empty |= is_late && queue < NO_QUEUE;
        match self.phase {
            Phase::SlowStart {
                threshold_bytes,
                first,
            } => self.slow_start(now, sample, queue, threshold_bytes, first),
            Phase::Avoidance => self.avoid(now, sample, queue),
            Phase::Frozen {
                until,
                start_bytes,
                resume_bytes,
            } if now >= until => {
                self.window = start_bytes << FRACTION_BITS;
                self.phase = Phase::SlowStart {
                    threshold_bytes: resume_bytes,
                    first: false,
                };
            }
            Phase::Frozen { .. } => {}
        }
        self.bound();
    }

    fn slow_start(
        &mut self,
        now: Moment,
        sample: Sample,
        queue: Duration,
        threshold_bytes: u64,
        first: bool,
    ) {
        if sample.limited {
            let divisor = match (first, queue < NO_QUEUE) {
                (true, true) => gain_divisor(sample.base),
                (true, false) => gain_divisor(sample.base) * 4,
                (false, _) => 1,
            };
            self.window += (sample.acknowledged_bytes << FRACTION_BITS) / divisor;
        }
        if self.window_bytes() >= threshold_bytes {
            self.window = threshold_bytes << FRACTION_BITS;
        } else if queue < SLOW_START_END {
            return;
        }
        self.leave_slow_start(now, sample.round_trip);
    }

    /// Goes on in avoidance. The first slowdown comes two round trips after the first slow start (the draft's section 4.5).
    fn leave_slow_start(&mut self, now: Moment, round_trip: Duration) {
        self.phase = Phase::Avoidance;
        if let Some(began) = self.slowdown_began.take() {
            self.interval = (now - began) * SLOWDOWN_INTERVAL;
            self.slowdown_at = now + self.interval;
            self.seen_empty = false;
        } else if self.slowdown_at == Moment::NEVER {
            self.interval = round_trip * FROZEN_ROUND_TRIPS;
            self.slowdown_at = now + self.interval;
            self.seen_empty = false;
        }
    }

    fn avoid(&mut self, now: Moment, sample: Sample, queue: Duration) {
        if now >= self.slowdown_at {
            if !self.seen_empty {
                return self.slow_down(now, sample.round_trip, queue);
            }
            self.slowdown_at = now + self.interval;
            self.seen_empty = false;
        }
        let acknowledged = sample.acknowledged_bytes;
        let growth = match sample.limited {
            true => {
                let full = u128::from(acknowledged * self.packet_bytes) << FRACTION_BITS;
                let part = full * self.gain_us(now, sample.base, queue)
                    / (u128::from(self.window_bytes().max(1)) * GAIN_UNIT.as_micros());
                u64::try_from(part).unwrap_or(0)
            }
            false => 0,
        };
        self.window += growth;
        let target = match now < self.quiet_at {
            true => self.target,
            false => TARGET,
        };
        if queue > target && now >= self.decrease_at {
            // The excess over the target, but at least an eighth and at most half.
            let excess = u64::try_from((queue - target).as_micros()).unwrap_or(u64::MAX);
            let target = u64::try_from(target.as_micros()).unwrap_or(1);
            let excess = excess.clamp(target / MIN_DECREASE_DIVISOR, target / 2);
            self.window -= self.window / target * excess;
            // The queue shows it a round trip later.
            self.decrease_at = now + sample.round_trip * 2;
        }
    }

    /// How many packets the window grows by in a round trip, in parts of [`GAIN_UNIT`].
    fn gain_us(&self, now: Moment, base: Duration, queue: Duration) -> u128 {
        let unit = GAIN_UNIT.as_micros();
        if now >= self.quiet_at {
            return base
                .as_micros()
                .clamp(unit / u128::from(MAX_GAIN_DIVISOR), unit * MAX_GAIN);
        }
        match queue < NO_QUEUE {
            true => unit,
            false => unit / u128::from(gain_divisor(base)),
        }
    }

    fn slow_down(&mut self, now: Moment, round_trip: Duration, queue: Duration) {
        let window = self.window_bytes();
        // What waited in the queue fits the queue: half of it may come back at once.
        let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        let queue_us = u64::try_from(queue.min(round_trip).as_micros()).unwrap_or(0);
        self.phase = Phase::Frozen {
            until: now + round_trip * FROZEN_ROUND_TRIPS,
            start_bytes: window * queue_us / (2 * round_trip_us.max(1)),
            resume_bytes: if self.is_settled { window } else { window / 2 },
        };
        self.is_settled = true;
        self.slowdown_began = Some(now);
        self.window = (MIN_PACKETS * self.packet_bytes) << FRACTION_BITS;
    }

    /// Packets were lost that had left after the window was last made smaller for a loss.
    pub(crate) fn lost(&mut self, now: Moment, round_trip: Duration, queue: Option<Duration>) {
        self.target = match queue {
            Some(queue) if queue >= NO_QUEUE => (queue / 2).clamp(NO_QUEUE, TARGET),
            _ if now < self.quiet_at => self.target,
            _ => TARGET,
        };
        self.quiet_at = now + QUIET;
        match &mut self.phase {
            // What is lost in a slowdown was sent before it.
            Phase::Frozen {
                start_bytes,
                resume_bytes,
                ..
            } => {
                *start_bytes = 0;
                *resume_bytes /= 2;
            }
            _ => {
                // Without a queue the loss is likely to have other reasons (RFC 9438 leaves 7/10 in any case).
                let eighths = if queue.is_some_and(|queue| queue < NO_QUEUE) {
                    5
                } else {
                    4
                };
                self.window = self.window / 8 * eighths;
                self.leave_slow_start(now, round_trip);
            }
        }
        self.bound();
    }

    /// Nothing was acknowledged for too long: starts again from the least window.
    pub(crate) fn timed_out(&mut self, now: Moment, round_trip: Duration) {
        self.quiet_at = now + QUIET;
        let before = match self.phase {
            Phase::Frozen { resume_bytes, .. } => resume_bytes,
            _ => self.window_bytes(),
        };
        self.leave_slow_start(now, round_trip);
        self.window = 0;
        self.phase = Phase::SlowStart {
            threshold_bytes: before / 2,
            first: false,
        };
        self.bound();
    }

    /// The loss was none: the packets were late.
    pub(crate) fn undo(&mut self, window_bytes: u64) {
        if matches!(self.phase, Phase::Avoidance) {
            self.window = self.window.max(window_bytes << FRACTION_BITS);
            self.bound();
        }
    }

    /// Nothing was in flight for longer than a timeout: what the path carries is not known any more (RFC 5681, section 4.1).
    pub(crate) fn idle(&mut self) {
        let restart = (INITIAL_PACKETS * self.packet_bytes) << FRACTION_BITS;
        if self.window > restart && !matches!(self.phase, Phase::Frozen { .. }) {
            self.phase = Phase::SlowStart {
                threshold_bytes: self.window_bytes(),
                first: false,
            };
            self.window = restart;
        }
    }

    fn bound(&mut self) {
        let least = (MIN_PACKETS * self.packet_bytes) << FRACTION_BITS;
        self.window = self.window.clamp(least, MAX_WINDOW_BYTES << FRACTION_BITS);
    }
}

/// `1 / GAIN` of the draft's section 4.2: short paths grow more slowly, as their round trips are more.
fn gain_divisor(base: Duration) -> u64 {
    let base_us = base.as_micros().max(1);
    let divisor = (2 * TARGET.as_micros()).div_ceil(base_us);
    u64::try_from(divisor).map_or(MAX_GAIN_DIVISOR, |divisor| divisor.min(MAX_GAIN_DIVISOR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACKET: u64 = 1_000;
    const BASE: Duration = Duration::from_millis(100);

    fn sample(queue_ms: u64, acknowledged_bytes: u64) -> Sample {
        let queue = Duration::from_millis(queue_ms);
        Sample {
            acknowledged_bytes,
            queue: Some(queue),
            base: BASE,
            round_trip: BASE + queue,
            limited: true,
        }
    }

    /// Acknowledges a window's worth, a packet at a time.
    fn round(congestion: &mut Congestion, now: Moment, queue_ms: u64) {
        for _ in 0..congestion.window_bytes() / PACKET {
            congestion.acknowledged(now, sample(queue_ms, PACKET));
        }
    }

    fn in_avoidance(packets: u64) -> Congestion {
        let mut congestion = Congestion::new(1_000);
        congestion.window = (packets * PACKET) << FRACTION_BITS;
        congestion.phase = Phase::Avoidance;
        congestion
    }

    #[test]
    fn slow_start_grows_by_half_a_round_trip_and_ends_before_the_target() {
        let mut congestion = Congestion::new(1_000);
        round(&mut congestion, Moment::ZERO, 0);
        assert_eq!(congestion.window_bytes(), 15_000);
        round(&mut congestion, Moment::ZERO, 20);
        assert!((16_000..17_000).contains(&congestion.window_bytes()));
        round(&mut congestion, Moment::ZERO, 45);
        assert_eq!(congestion.phase, Phase::Avoidance);
    }

    #[test]
    fn a_short_path_grows_by_a_sixteenth() {
        assert_eq!(gain_divisor(Duration::from_millis(1)), 16);
        assert_eq!(gain_divisor(Duration::from_millis(30)), 4);
        assert_eq!(gain_divisor(BASE), 2);
        assert_eq!(gain_divisor(Duration::from_millis(500)), 1);
    }

    #[test]
    fn above_the_target_the_window_loses_an_eighth_to_a_half_once_in_two_round_trips() {
        let mut congestion = in_avoidance(1_000);
        round(&mut congestion, Moment::ZERO, 61);
        assert!((874_000..880_000).contains(&congestion.window_bytes()));
        let mut congestion = in_avoidance(1_000);
        round(&mut congestion, Moment::ZERO, 10_000);
        assert!((499_000..505_000).contains(&congestion.window_bytes()));
    }

    #[test]
    fn after_a_loss_it_grows_as_tcp_does_and_without_one_in_proportion_to_the_round_trip() {
        let mut congestion = in_avoidance(100);
        round(&mut congestion, Moment::ZERO, 0);
        assert!((102_400..102_600).contains(&congestion.window_bytes()));
        congestion.lost(Moment::ZERO, BASE, None);
        assert!((51_200..51_300).contains(&congestion.window_bytes()));
        round(&mut congestion, Moment::from_secs(1), 0);
        assert!((52_100..52_300).contains(&congestion.window_bytes()));
        round(&mut congestion, Moment::from_secs(31), 0);
        assert!((54_500..54_800).contains(&congestion.window_bytes()));
    }

    #[test]
    fn flows_of_different_windows_converge() {
        let (mut small, mut large) = (in_avoidance(10), in_avoidance(90));
        for turn in 0..800 {
            // Both see the queue that both make, on a path that holds 50 packets.
            let both = (small.window_bytes() + large.window_bytes()) / PACKET;
            let queue_ms = both.saturating_sub(50) * 2;
            let now = Moment::from_millis(turn * 160);
            round(&mut small, now, queue_ms);
            round(&mut large, now, queue_ms);
        }
        let ratio = small.window_bytes() * 100 / large.window_bytes();
        assert!(ratio > 80, "{ratio} %");
    }

    #[test]
    fn a_slowdown_empties_the_queue_returns_and_waits_for_many_times_as_long() {
        let mut congestion = Congestion::new(1_000);
        let mut now = Moment::ZERO;
        while congestion.phase != Phase::Avoidance {
            round(&mut congestion, now, 45);
        }
        let before = congestion.window_bytes();
        now = now + Duration::from_millis(290);
        round(&mut congestion, now, 45);
        assert_eq!(congestion.window_bytes(), 2 * PACKET);
        now = now + Duration::from_millis(290);
        while congestion.phase != Phase::Avoidance {
            round(&mut congestion, now, 0);
            now = now + BASE;
        }
        assert!((before / 2..before / 2 + 3 * PACKET).contains(&congestion.window_bytes()));
        let took = now - (Moment::from_millis(290) + BASE);
        assert_eq!(congestion.interval, took * SLOWDOWN_INTERVAL);
        // The queue was there all the time, so the next one comes.
        round(&mut congestion, now, 50);
        round(&mut congestion, now + took * SLOWDOWN_INTERVAL, 50);
        assert_eq!(congestion.window_bytes(), 2 * PACKET);
    }

    #[test]
    fn a_queue_that_ran_empty_by_itself_needs_no_slowdown() {
        let mut congestion = in_avoidance(100);
        congestion.slowdown_at = Moment::from_secs(1);
        congestion.interval = Duration::from_secs(1);
        round(&mut congestion, Moment::from_millis(600), 0);
        round(&mut congestion, Moment::from_secs(1), 50);
        assert!(congestion.window_bytes() >= 100 * PACKET);
        round(&mut congestion, Moment::from_secs(2), 50);
        assert_eq!(congestion.window_bytes(), 2 * PACKET);
    }

    #[test]
    fn a_flow_with_nothing_to_send_does_not_grow() {
        let mut congestion = in_avoidance(10);
        let idle = Sample {
            limited: false,
            ..sample(0, PACKET)
        };
        (0..1_000).for_each(|_| congestion.acknowledged(Moment::ZERO, idle));
        assert_eq!(congestion.window_bytes(), 10 * PACKET);
    }

    proptest! {
        #[test]
        fn the_window_keeps_its_bounds(events in prop::collection::vec((0u8..6, 0u64..2_000, 1u64..200_000), 1..300)) {
            let mut congestion = Congestion::new(1_000);
            let mut now = Moment::ZERO;
            for (kind, number, bytes) in events {
                now = now + Duration::from_millis(number);
                match kind {
                    0 => congestion.lost(now, BASE, Some(Duration::from_millis(number))),
                    1 => congestion.timed_out(now, BASE),
                    2 => congestion.idle(),
                    3 => congestion.undo(bytes * 100),
                    _ => congestion.acknowledged(now, sample(number, bytes)),
                }
                prop_assert!((2 * PACKET..=MAX_WINDOW_BYTES).contains(&congestion.window_bytes()));
            }
        }
    }
}
