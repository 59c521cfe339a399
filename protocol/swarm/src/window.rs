//! How many blocks to have requested from one peer: enough to fill its link, no more than it or we can queue.
//!
//! Invariant: the target is at least [`MIN_BLOCKS`], or exactly 1 while the peer snubs us, and never above the remote's
//! `reqq` or [`MAX_BYTES`].

use crate::rate::Meter;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::BLOCK_LENGTH;

/// Fewer would leave the link idle for a round trip after every block.
pub const MIN_BLOCKS: u32 = 2;

/// The most bytes requested from one peer: 2.5 Gbit/s over 100 ms, and what a leaving peer makes us ask for again.
pub const MAX_BYTES: u32 = 32 * 1024 * 1024;

/// What a remote queues that does not say (BEP 10, `reqq`): the value of libtorrent and most others.
pub const DEFAULT_REQQ: u32 = 250;

/// Requested bytes last this long at the present rate: the round trip and the remote's disk, with room to spare.
pub const REQUEST_TIME_S: u64 = 3;

/// How often slow start looks whether the rate still grows. Longer than most round trips: within one, nothing grows.
const GROWTH_INTERVAL: Duration = Duration::from_millis(500);

/// After a silence of this length the rate says nothing about the link any more, and slow start begins again.
const SILENCE: Duration = Duration::from_secs(5);

/// The request window of one connection.
///
/// It begins in slow start: a block more for each block received, which doubles it every round trip. When an interval
/// brought less than a tenth more than the one before, it follows the rate: [`REQUEST_TIME_S`] seconds of it, which is many
/// round trips, so that a slow start which ended early costs little.
#[derive(Clone, Debug)]
pub struct Window {
    meter: Meter,
    reqq: u32,
    target: u32,
    snubbed: bool,
    last: Option<Moment>,
    /// `None` once it has ended.
    slow_start: Option<SlowStart>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SlowStart {
    /// When the present interval began.
    since: Option<Moment>,
    bytes: u64,
    /// Bytes of the interval before.
    before: u64,
}

impl Window {
    /// The window of a remote that queues `reqq` requests, [`DEFAULT_REQQ`] where it did not say.
    #[must_use]
    pub fn new(reqq: Option<u32>) -> Self {
        Window {
            meter: Meter::new(),
            reqq: reqq.unwrap_or(DEFAULT_REQQ),
            target: MIN_BLOCKS,
            snubbed: false,
            last: None,
            slow_start: Some(SlowStart::default()),
        }
    }

    /// The remote said how many requests it queues.
    pub fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq;
    }

    /// Payload of a requested block arrived. Ends a snub.
    pub fn on_received(&mut self, now: Moment, bytes: u32) {
        let silent = self.last.is_none_or(|last| now - last > SILENCE);
        if silent || self.snubbed {
            self.slow_start = Some(SlowStart::default());
            self.target = MIN_BLOCKS;
        }
        self.snubbed = false;
        self.last = Some(now);
        self.meter.add(now, u64::from(bytes));
        let grows = |start: &mut SlowStart| start.goes_on(now, bytes);
        if self.slow_start.as_mut().is_some_and(grows) {
            self.target = (self.target + 1).min(MAX_BYTES / BLOCK_LENGTH);
        } else {
            self.slow_start = None;
            self.target = self.for_rate(now);
        }
    }

    /// Nothing came for too long: one block at a time until something comes.
    pub fn on_snubbed(&mut self) {
        self.snubbed = true;
    }

    /// The remote would not queue a request while it holds `outstanding` others: no more than these until blocks come.
    pub fn on_rejected(&mut self, outstanding: u32) {
        self.slow_start = None;
        self.target = self.target.min(outstanding.max(1));
    }

    /// How many blocks should be requested and not yet received.
    #[must_use]
    pub fn target_blocks(&self) -> u32 {
        if self.snubbed {
            return 1;
        }
        // A remote that claims to queue nothing is still asked for one block at a time.
        self.target.min(self.reqq.max(1))
    }

    /// The rate at which the remote delivers.
    #[must_use]
    pub fn rate_bytes_per_s(&self, now: Moment) -> u64 {
        self.meter.rate(now)
    }

    fn for_rate(&self, now: Moment) -> u32 {
        let bytes = self.meter.rate(now).saturating_mul(REQUEST_TIME_S);
        let bytes = u32::try_from(bytes).map_or(MAX_BYTES, |bytes| bytes.min(MAX_BYTES));
        (bytes / BLOCK_LENGTH).max(MIN_BLOCKS)
    }
}

impl SlowStart {
    /// Counts bytes; returns whether the rate still grows.
    fn goes_on(&mut self, now: Moment, bytes: u32) -> bool {
        let since = *self.since.get_or_insert(now);
        self.bytes += u64::from(bytes);
        if now - since < GROWTH_INTERVAL {
            return true;
        }
        let grew = self.bytes > self.before + self.before / 10;
        *self = SlowStart {
            since: Some(now),
            bytes: 0,
            before: self.bytes,
        };
        grew
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn a_remote_that_rejects_gets_no_more_than_it_holds_until_blocks_come() {
        let mut window = Window::new(Some(500));
        for ms in 0..100 {
            window.on_received(Moment::from_millis(ms), BLOCK_LENGTH);
        }
        assert!(window.target_blocks() > 40);
        window.on_rejected(40);
        assert_eq!(window.target_blocks(), 40);
        for ms in 100..1_000 {
            window.on_received(Moment::from_millis(ms), BLOCK_LENGTH);
        }
        assert!(window.target_blocks() > 40);
    }

    /// A link that delivers requested blocks in order after `rtt_ms`, at most `capacity` bytes a second. Returns the bytes
    /// delivered in each second.
    fn over_link(window: &mut Window, rtt_ms: u64, capacity: u64, seconds: u64) -> Vec<u64> {
        let block_ns = u64::from(BLOCK_LENGTH) * 1_000_000_000 / capacity;
        let mut arrivals = VecDeque::new();
        let (mut now_ns, mut free_ns) = (0, 0u64);
        let mut delivered = vec![0; usize::try_from(seconds).unwrap()];
        loop {
            while arrivals.len() < window.target_blocks() as usize {
                free_ns = free_ns.max(now_ns + rtt_ms * 1_000_000) + block_ns;
                arrivals.push_back(free_ns);
            }
            now_ns = arrivals.pop_front().unwrap();
            let second = usize::try_from(now_ns / 1_000_000_000).unwrap();
            match delivered.get_mut(second) {
                Some(bytes) => *bytes += u64::from(BLOCK_LENGTH),
                None => return delivered,
            }
            window.on_received(Moment::from_nanos(now_ns), BLOCK_LENGTH);
        }
    }

    #[test]
    fn a_link_of_100_ms_is_full_within_seconds() {
        for capacity in [100_000, 1_000_000, 12_500_000, 125_000_000] {
            let delivered = over_link(&mut Window::new(Some(5_000)), 100, capacity, 10);
            for (second, &bytes) in delivered.iter().enumerate().skip(3) {
                assert!(
                    bytes * 100 >= capacity * 80,
                    "{bytes} of {capacity} in second {second}"
                );
            }
            assert!(
                delivered[9] * 100 >= capacity * 95,
                "{} of {capacity}",
                delivered[9]
            );
        }
    }

    #[test]
    fn slow_start_adds_a_block_for_each_received_until_the_rate_stops_growing() {
        let mut window = Window::new(None);
        let mut receive = |half_second: u64, blocks: u32| {
            let now = Moment::from_millis(10_000 + half_second * 500);
            (0..blocks).for_each(|_| window.on_received(now, BLOCK_LENGTH));
            window.target_blocks()
        };
        assert_eq!(receive(0, 10), MIN_BLOCKS + 10);
        assert_eq!(receive(1, 20), MIN_BLOCKS + 30);
        assert_eq!(receive(2, 20), MIN_BLOCKS + 50);
        // The next interval brought no more than the last one: three seconds at the rate of these.
        assert!((80..=130).contains(&receive(3, 1)));
    }

    #[test]
    fn a_window_holds_no_more_than_some_seconds_of_a_slow_link() {
        let mut window = Window::new(None);
        over_link(&mut window, 100, 100_000, 20);
        assert!(
            (15..=25).contains(&window.target_blocks()),
            "{}",
            window.target_blocks()
        );
    }

    #[test]
    fn the_remote_and_the_byte_limit_bound_the_window() {
        let mut window = Window::new(None);
        over_link(&mut window, 100, 1_250_000_000, 5);
        assert_eq!(window.target_blocks(), DEFAULT_REQQ);
        window.set_reqq(u32::MAX);
        over_link(&mut window, 100, 1_250_000_000, 5);
        assert_eq!(window.target_blocks(), MAX_BYTES / BLOCK_LENGTH);
        window.set_reqq(0);
        assert_eq!(window.target_blocks(), 1);
    }

    #[test]
    fn a_snubbing_peer_is_asked_for_one_block_until_something_comes() {
        let mut window = Window::new(None);
        over_link(&mut window, 10, 10_000_000, 5);
        window.on_snubbed();
        assert_eq!(window.target_blocks(), 1);
        window.on_received(Moment::from_secs(6), BLOCK_LENGTH);
        assert_eq!(
            window.target_blocks(),
            MIN_BLOCKS + 1,
            "slow start begins again"
        );
    }

    #[test]
    fn after_a_long_silence_the_window_grows_anew() {
        let mut window = Window::new(None);
        over_link(&mut window, 10, 10_000_000, 5);
        window.on_received(Moment::from_secs(60), BLOCK_LENGTH);
        assert_eq!(window.target_blocks(), MIN_BLOCKS + 1);
    }
}
