//! The arithmetic of a rate limit, without a clock.
//!
//! Invariant: over any span of `t` seconds a bucket grants at most `rate * t + burst` bytes, plus what was given back.

use crate::Moment;

/// Credit is counted in bytes times nanoseconds per second, so that nothing is lost to rounding.
const CREDIT_PER_BYTE: u128 = 1_000_000_000;

/// A token bucket: `rate` bytes flow in each second, it holds `burst`, and starts full.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate_bytes_per_s: u64,
    burst_bytes: u64,
    credit: u128,
    filled_at: Moment,
}

impl TokenBucket {
    /// A full bucket at `now`.
    #[must_use]
    pub fn new(now: Moment, rate_bytes_per_s: u64, burst_bytes: u64) -> Self {
        Self {
            rate_bytes_per_s,
            burst_bytes,
            credit: u128::from(burst_bytes) * CREDIT_PER_BYTE,
            filled_at: now,
        }
    }

    /// Changes rate and size from `now` on. Credit beyond the new size is lost.
    pub fn set_rate(&mut self, now: Moment, rate_bytes_per_s: u64, burst_bytes: u64) {
        self.fill(now);
        self.rate_bytes_per_s = rate_bytes_per_s;
        self.burst_bytes = burst_bytes;
        self.credit = self.credit.min(self.full());
    }

    /// The bytes that could be taken at `now`.
    pub fn available(&mut self, now: Moment) -> u64 {
        self.fill(now);
        u64::try_from(self.credit / CREDIT_PER_BYTE).unwrap_or(u64::MAX)
    }

    /// Takes up to `wanted_bytes` and returns how many.
    pub fn take(&mut self, now: Moment, wanted_bytes: u64) -> u64 {
        let granted = self.available(now).min(wanted_bytes);
        self.credit -= u128::from(granted) * CREDIT_PER_BYTE;
        granted
    }

    /// Puts back bytes that were taken and not used. What no longer fits is lost.
    pub fn give_back(&mut self, unused_bytes: u64) {
        let returned = u128::from(unused_bytes) * CREDIT_PER_BYTE;
        self.credit = self.credit.saturating_add(returned).min(self.full());
    }

    /// When `wanted_bytes` (or a full bucket, if that is less) will be there if nobody takes from it meanwhile:
    /// [`Moment::NEVER`] at rate zero, a moment in the past if they are there.
    #[must_use]
    pub fn ready_at(&self, wanted_bytes: u64) -> Moment {
        let wanted = u128::from(wanted_bytes.min(self.burst_bytes)) * CREDIT_PER_BYTE;
        let missing = wanted.saturating_sub(self.credit);
        if missing == 0 {
            return self.filled_at;
        }
        if self.rate_bytes_per_s == 0 {
            return Moment::NEVER;
        }
        let wait_ns = missing.div_ceil(u128::from(self.rate_bytes_per_s));
        let wait_ns = u64::try_from(wait_ns).unwrap_or(u64::MAX);
        Moment::from_nanos(self.filled_at.as_nanos().saturating_add(wait_ns))
    }

    fn full(&self) -> u128 {
        u128::from(self.burst_bytes) * CREDIT_PER_BYTE
    }

    /// A clock that went backwards adds nothing and takes nothing.
    fn fill(&mut self, now: Moment) {
        let elapsed_ns = now.since(self.filled_at).as_nanos();
        let inflow = u128::from(self.rate_bytes_per_s).saturating_mul(elapsed_ns);
        self.credit = self.credit.saturating_add(inflow).min(self.full());
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Operation {
        Wait { ns: u64 },
        Take { bytes: u64 },
        GiveBack { bytes: u64 },
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            (0_u64..2_000_000_000).prop_map(|ns| Operation::Wait { ns }),
            (0_u64..100_000).prop_map(|bytes| Operation::Take { bytes }),
            (0_u64..1_000).prop_map(|bytes| Operation::GiveBack { bytes }),
        ]
    }

    #[test]
    fn a_clock_that_goes_back_grants_nothing_twice() {
        let mut bucket = TokenBucket::new(Moment::from_secs(10), 1000, 1000);
        assert_eq!(bucket.take(Moment::from_secs(10), 5000), 1000);
        assert_eq!(bucket.take(Moment::from_secs(5), 5000), 0);
        assert_eq!(bucket.take(Moment::from_millis(10_500), 5000), 500);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut bucket = TokenBucket::new(Moment::ZERO, u64::MAX, u64::MAX);
        assert_eq!(bucket.take(Moment::ZERO, u64::MAX), u64::MAX);
        bucket.give_back(u64::MAX);
        assert_eq!(bucket.take(Moment::NEVER, u64::MAX), u64::MAX);
        let empty = TokenBucket::new(Moment::ZERO, 0, 0);
        assert_eq!(empty.ready_at(1), Moment::ZERO);
    }

    #[test]
    fn a_lower_rate_cuts_saved_credit() {
        let mut bucket = TokenBucket::new(Moment::ZERO, 1000, 1000);
        bucket.set_rate(Moment::ZERO, 10, 10);
        assert_eq!(bucket.take(Moment::ZERO, 1000), 10);
        assert_eq!(bucket.ready_at(5), Moment::from_millis(500));
    }

    proptest! {
        #[test]
        fn no_span_grants_more_than_rate_times_time_plus_burst(
            rate in 0_u64..1_000_000,
            burst in 0_u64..50_000,
            operations in prop::collection::vec(operation(), 0..60),
        ) {
            let mut bucket = TokenBucket::new(Moment::ZERO, rate, burst);
            let mut now_ns = 0;
            // (when, net bytes granted): every span between two of them is checked below.
            let mut grants: Vec<(u64, i128)> = Vec::new();
            for operation in operations {
                match operation {
                    Operation::Wait { ns } => now_ns += ns,
                    Operation::Take { bytes } => {
                        let granted = bucket.take(Moment::from_nanos(now_ns), bytes);
                        prop_assert!(granted <= bytes);
                        grants.push((now_ns, i128::from(granted)));
                    }
                    Operation::GiveBack { bytes } => {
                        bucket.give_back(bytes);
                        grants.push((now_ns, -i128::from(bytes)));
                    }
                }
            }
            for (start, (from_ns, _)) in grants.iter().enumerate() {
                let mut granted = 0;
                let mut given_back = 0;
                for (at_ns, bytes) in &grants[start..] {
                    granted += bytes.max(&0);
                    given_back += (-bytes).max(0);
                    let inflow = i128::from(rate) * i128::from(at_ns - from_ns) / 1_000_000_000;
                    // One byte for the fraction that was there at the start of the span.
                    prop_assert!(granted <= inflow + i128::from(burst) + given_back + 1);
                }
            }
        }

        #[test]
        fn what_is_said_to_be_ready_is_there_then_and_not_before(
            rate in 1_u64..1_000_000_000,
            burst in 1_u64..1_000_000,
            taken in 0_u64..1_000_000,
            wanted in 0_u64..1_000_000,
        ) {
            let mut bucket = TokenBucket::new(Moment::ZERO, rate, burst);
            bucket.take(Moment::ZERO, taken);
            let wanted = wanted.min(burst);
            let ready = bucket.ready_at(wanted);
            prop_assert!(bucket.clone().available(ready) >= wanted);
            if ready > Moment::ZERO {
                let just_before = Moment::from_nanos(ready.as_nanos() - 1);
                prop_assert!(bucket.available(just_before) < wanted);
            }
        }
    }
}
