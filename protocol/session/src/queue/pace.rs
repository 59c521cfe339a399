//! Whether hardly anything moves.

use core::time::Duration;
use shoal_machine::Moment;

/// Who is slow counts again at so many times the rate below which it became slow: a torrent that moves just about that fast must
/// not start and stop others with each of its waverings.
const RECOVERY_FACTOR: u64 = 2;

/// One torrent's pace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    slow: bool,
    below_since: Option<Moment>,
}

impl Pace {
    /// Takes note of a rate: below `threshold` for the time `after`, it is slow.
    pub(super) fn observe(&mut self, now: Moment, rate: u64, threshold: u64, after: Duration) {
        if rate >= threshold {
            self.below_since = None;
            self.slow &= rate < threshold.saturating_mul(RECOVERY_FACTOR);
        } else {
            let since = *self.below_since.get_or_insert(now);
            self.slow |= now.since(since) >= after;
        }
    }

    /// Whether it is slow.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    /// When it becomes slow if it goes on so.
    pub(super) fn due(&self, after: Duration) -> Option<Moment> {
        self.below_since
            .filter(|_| !self.slow)
            .map(|since| since + after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wavers_about_the_threshold_is_never_slow_and_who_is_slow_has_to_recover() {
        let mut pace = Pace::default();
        let mut at = |s, rate| {
            pace.observe(Moment::from_secs(s), rate, 100, Duration::from_secs(60));
            pace.is_slow()
        };
        assert!(!at(0, 0) && !at(59, 99));
        assert!(!at(59, 100), "a minute begins anew");
        assert!(!at(60, 0) && !at(119, 0));
        assert!(at(120, 0));
        assert!(at(121, 199), "not recovered");
        assert!(!at(122, 200));
        assert!(!at(123, 0), "and slow only after another minute");
        assert_eq!(
            pace.due(Duration::from_secs(60)),
            Some(Moment::from_secs(183))
        );
    }
}
