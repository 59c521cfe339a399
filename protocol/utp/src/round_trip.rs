//! The round trip's mean and spread, and how long to wait for an acknowledgement (RFC 6298).

use core::time::Duration;

/// Before anything was measured (RFC 6298, section 2.1).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The shortest wait (BEP 29).
const MIN_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest wait, however often it was doubled. RFC 6298 asks for at least a minute where there is a bound; a peer that is silent
/// for half of that is replaced.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of the round trip.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTrip {
    mean: Option<Duration>,
    spread: Duration,
    /// Timeouts in a row.
    doublings: u32,
}

impl RoundTrip {
    /// Takes a sample of a packet that was sent once.
    pub(crate) fn sample(&mut self, sample: Duration) {
        match self.mean {
            None => {
                self.mean = Some(sample);
                self.spread = sample / 2;
            }
            Some(mean) => {
                self.spread = (self.spread * 3 + mean.abs_diff(sample)) / 4;
                self.mean = Some((mean * 7 + sample) / 8);
            }
        }
    }

    /// The mean, `None` before the first sample.
    pub(crate) const fn mean(&self) -> Option<Duration> {
        self.mean
    }

    /// How long to wait for an acknowledgement.
    pub(crate) fn timeout(&self) -> Duration {
        let timeout = self.mean.map_or(INITIAL_TIMEOUT, |mean| {
            (mean + self.spread * 4).max(MIN_TIMEOUT)
        });
        timeout
            .saturating_mul(1 << self.doublings.min(16))
            .min(MAX_TIMEOUT)
    }

    /// The wait was in vain: the next one is twice as long.
    pub(crate) const fn back_off(&mut self) {
        self.doublings += 1;
    }

    /// Something was acknowledged.
    pub(crate) const fn heard(&mut self) {
        self.doublings = 0;
    }

    /// Waits in vain in a row.
    pub(crate) const fn timeouts(&self) -> u32 {
        self.doublings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_follow_the_round_trip_double_in_vain_and_are_bounded() {
        let mut trip = RoundTrip::default();
        assert_eq!(trip.timeout(), INITIAL_TIMEOUT);
        trip.sample(Duration::from_millis(400));
        assert_eq!(trip.timeout(), Duration::from_millis(1_200));
        for _ in 0..50 {
            trip.sample(Duration::from_millis(10));
        }
        assert_eq!(trip.timeout(), MIN_TIMEOUT);
        trip.back_off();
        trip.back_off();
        assert_eq!(trip.timeout(), MIN_TIMEOUT * 4);
        (0..40).for_each(|_| trip.back_off());
        assert_eq!(trip.timeout(), MAX_TIMEOUT);
        trip.heard();
        assert_eq!(trip.timeout(), MIN_TIMEOUT);
    }
}
