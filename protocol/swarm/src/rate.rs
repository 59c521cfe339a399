//! How fast bytes move, over the last seconds.
//!
//! Invariant: only bytes of the last [`SPAN_S`] seconds count, and a meter has the same size whatever it counted.

use shoal_machine::Moment;

/// Seconds that a rate looks back: long enough to smooth a round trip and a burst, short enough to notice a stall.
pub const SPAN_S: u64 = BUCKETS as u64;

/// A rate must not explode because its first bytes came at once: it is taken over at least this long.
const MIN_SPAN_NS: u64 = 500_000_000;

const SECOND_NS: u64 = 1_000_000_000;
const BUCKETS: usize = 5;

/// Counts bytes in a ring of one-second buckets.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Bytes of second `s` are in bucket `s % BUCKETS`.
    buckets: [u64; BUCKETS],
    /// The second of the newest bucket, counted from the origin of time.
    second: u64,
    /// When the first bytes after a silence of the whole span came.
    since: Moment,
}

impl Meter {
    /// A meter that has counted nothing.
    #[must_use]
    pub const fn new() -> Self {
        Meter {
            buckets: [0; BUCKETS],
            second: 0,
            since: Moment::ZERO,
        }
    }

    /// Counts bytes. Time never runs backwards: an earlier `now` counts as the latest.
    pub fn add(&mut self, now: Moment, bytes: u64) {
        self.advance(now);
        if self.buckets.iter().all(|&bytes| bytes == 0) {
            self.since = now;
        }
        let bucket = &mut self.buckets[slot(self.second)];
        *bucket = bucket.saturating_add(bytes);
    }

    /// Bytes a second over the last [`SPAN_S`] seconds, or since the first bytes where that is shorter.
    #[must_use]
    pub fn rate(&self, now: Moment) -> u64 {
        let newest = (now.as_nanos() / SECOND_NS).max(self.second);
        let oldest = newest.saturating_sub(SPAN_S - 1);
        let bytes = (oldest..=self.second)
            .map(|second| self.buckets[slot(second)])
            .fold(0u64, u64::saturating_add);
        let in_buckets_ns = now.as_nanos().saturating_sub(oldest * SECOND_NS);
        let counted_ns = now.as_nanos().saturating_sub(self.since.as_nanos());
        let span_ns = in_buckets_ns.min(counted_ns).max(MIN_SPAN_NS);
        let rate = u128::from(bytes) * u128::from(SECOND_NS) / u128::from(span_ns);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Empties the buckets of the seconds that passed without a byte.
    fn advance(&mut self, now: Moment) {
        let newest = now.as_nanos() / SECOND_NS;
        if newest <= self.second {
            return;
        }
        for second in (self.second + 1..=newest).take(BUCKETS) {
            self.buckets[slot(second)] = 0;
        }
        self.second = newest;
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % SPAN_S).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_steady_stream_is_measured_from_its_first_second_on() {
        let mut meter = Meter::new();
        for tick in 0..200 {
            let now = Moment::from_millis(12_340 + tick * 100);
            meter.add(now, 1_000);
            if tick >= 10 {
                assert!(
                    (9_500..=11_000).contains(&meter.rate(now)),
                    "{}",
                    meter.rate(now)
                );
            }
        }
    }

    #[test]
    fn the_first_bytes_do_not_make_an_absurd_rate() {
        let mut meter = Meter::new();
        let now = Moment::from_secs(100);
        meter.add(now, 16_384);
        assert_eq!(meter.rate(now), 32_768);
    }

    #[test]
    fn silence_brings_the_rate_to_zero_within_the_span() {
        let mut meter = Meter::new();
        for ms in (0..5_000).step_by(100) {
            meter.add(Moment::from_millis(ms), 1_000);
        }
        let rates: Vec<u64> = (5..=10).map(|s| meter.rate(Moment::from_secs(s))).collect();
        assert!(rates.is_sorted_by(|a, b| a >= b));
        assert_eq!(rates[5], 0);
        meter.add(Moment::from_secs(1_000), 1_000);
        assert_eq!(
            meter.rate(Moment::from_secs(1_000)),
            2_000,
            "it begins anew"
        );
    }

    proptest! {
        #[test]
        fn counts_what_a_list_of_all_bytes_would(
            adds in proptest::collection::vec((0u64..2_500, 0u64..100_000), 1..60),
        ) {
            let (mut meter, mut all, mut now_ms) = (Meter::new(), Vec::new(), 0);
            for (wait_ms, bytes) in adds {
                now_ms += wait_ms;
                meter.add(Moment::from_millis(now_ms), bytes);
                all.push((now_ms / 1_000, bytes));
                let recent = all.iter().filter(|(second, _)| second + SPAN_S > now_ms / 1_000);
                let bytes: u64 = recent.map(|(_, bytes)| bytes).sum();
                let rate = meter.rate(Moment::from_millis(now_ms));
                prop_assert!(rate >= bytes / SPAN_S && rate <= bytes * 2);
            }
        }
    }
}
