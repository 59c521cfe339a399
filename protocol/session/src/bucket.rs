//! A rate limit as arithmetic.
//!
//! Invariant: over any stretch of time `t`, no more than `rate * t + burst` bytes are granted.

use core::time::Duration;
use shoal_machine::Moment;

/// Bytes that may be granted at once when nothing was granted for a while: a quarter of a second's worth, but never less
/// than one block with its header, or a slow limit could never be met by a whole block.
const BURST_S: f64 = 0.25;
const MIN_BURST_BYTES: u64 = 16 * 1024 + 13;

/// A token bucket: fills at a rate, is emptied by grants.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate_bytes_per_s: Option<u64>,
    /// Billionths of a byte, so that a slow rate does not lose what fills in between two close calls.
    filled: u128,
    at: Moment,
}

const SCALE: u128 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket; `None` is no limit.
    #[must_use]
    pub fn new(rate_bytes_per_s: Option<u64>, now: Moment) -> Self {
        let mut bucket = TokenBucket {
            rate_bytes_per_s,
            filled: 0,
            at: now,
        };
        bucket.filled = u128::from(bucket.burst_bytes()) * SCALE;
        bucket
    }

    /// Changes the rate from now on; what is in the bucket stays, up to the new burst.
    pub fn set_rate(&mut self, rate_bytes_per_s: Option<u64>, now: Moment) {
        self.refill(now);
        self.rate_bytes_per_s = rate_bytes_per_s;
        self.filled = self.filled.min(u128::from(self.burst_bytes()) * SCALE);
    }

    /// The limit, `None` where there is none.
    #[must_use]
    pub const fn rate(&self) -> Option<u64> {
        self.rate_bytes_per_s
    }

    /// Takes up to `wanted` bytes and says how many it got.
    pub fn take(&mut self, wanted: u64, now: Moment) -> u64 {
        if self.rate_bytes_per_s.is_none() {
            return wanted;
        }
        self.refill(now);
        let granted = wanted.min(u64::try_from(self.filled / SCALE).unwrap_or(u64::MAX));
        self.filled -= u128::from(granted) * SCALE;
        granted
    }

    /// Gives back bytes that were taken and not used.
    pub fn give_back(&mut self, bytes: u64) {
        let most = u128::from(self.burst_bytes()) * SCALE;
        self.filled = (self.filled + u128::from(bytes) * SCALE).min(most);
    }

    /// When `wanted` bytes (or a full burst, if that is less) will be there; `None` where they never will be, because the rate is 0.
    #[must_use]
    pub fn ready_at(&self, wanted: u64, now: Moment) -> Option<Moment> {
        let Some(rate) = self.rate_bytes_per_s else {
            return Some(now);
        };
        if rate == 0 {
            return None;
        }
        let needed = u128::from(wanted.min(self.burst_bytes())) * SCALE;
        let missing = needed.saturating_sub(self.filled);
        if missing == 0 {
            return Some(self.at.max(now));
        }
        let wait_ns = missing.div_ceil(u128::from(rate));
        Some(self.at + Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX)))
    }

    fn burst_bytes(&self) -> u64 {
        match self.rate_bytes_per_s {
            None => u64::MAX,
            Some(0) => 0,
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            Some(rate) => ((rate as f64 * BURST_S) as u64).max(MIN_BURST_BYTES),
        }
    }

    fn refill(&mut self, now: Moment) {
        if let Some(rate) = self.rate_bytes_per_s {
            let gained = u128::from(rate) * now.since(self.at).as_nanos();
            self.filled = (self.filled + gained).min(u128::from(self.burst_bytes()) * SCALE);
        }
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_a_limit_everything_is_granted() {
        let mut bucket = TokenBucket::new(None, Moment::ZERO);
        assert_eq!(bucket.take(u64::MAX, Moment::ZERO), u64::MAX);
        assert_eq!(
            bucket.ready_at(1, Moment::from_secs(3)),
            Some(Moment::from_secs(3))
        );
    }

    #[test]
    fn a_rate_of_zero_grants_nothing_ever() {
        let mut bucket = TokenBucket::new(Some(0), Moment::ZERO);
        assert_eq!(bucket.take(1, Moment::from_secs(1_000)), 0);
        assert_eq!(bucket.ready_at(1, Moment::from_secs(1_000)), None);
    }

    #[test]
    fn a_slow_limit_still_lets_a_whole_block_through() {
        let mut bucket = TokenBucket::new(Some(1_000), Moment::ZERO);
        assert_eq!(bucket.take(16_397, Moment::ZERO), 16_397);
        assert_eq!(
            bucket.ready_at(16_397, Moment::ZERO),
            Some(Moment::from_millis(16_397))
        );
    }

    proptest! {
        #[test]
        fn never_grants_more_than_rate_and_burst(
            rate in 1u64..10_000_000,
            steps in proptest::collection::vec((0u64..2_000_000_000, 0u64..200_000), 1..200),
        ) {
            let mut bucket = TokenBucket::new(Some(rate), Moment::ZERO);
            let burst = u128::from(bucket.burst_bytes());
            let (mut now, mut granted) = (Moment::ZERO, 0u128);
            for (wait_ns, wanted) in steps {
                now = now + Duration::from_nanos(wait_ns);
                granted += u128::from(bucket.take(wanted, now));
                let most = burst + u128::from(rate) * u128::from(now.as_nanos()) / SCALE;
                prop_assert!(granted <= most, "{} granted, at most {} allowed", granted, most);
            }
        }

        #[test]
        fn what_is_ready_is_granted(rate in 1u64..10_000_000, drained in 0u64..5_000_000, wanted in 1u64..16_384) {
            let mut bucket = TokenBucket::new(Some(rate), Moment::ZERO);
            bucket.take(drained, Moment::ZERO);
            let at = bucket.ready_at(wanted, Moment::ZERO).unwrap();
            prop_assert_eq!(bucket.take(wanted, at), wanted);
        }
    }
}
