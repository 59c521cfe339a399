//! The shape that every decision-maker in `protocol/` has: time is an argument, one input changes the state, outputs
//! are drained until there are none. And what several of them need: the arithmetic of moments and rates, and of addresses, which
//! are near, which belong together and which is ours.
//!
//! Invariant: nothing here, and nothing that implements [`Machine`], reads a clock, opens a socket or file, or starts a
//! thread. The same inputs at the same moments give the same outputs.

mod address;
mod crc32c;
mod token_bucket;
mod voter;

pub use address::{Network, Reach};
pub use crc32c::crc32c;
pub use token_bucket::TokenBucket;
pub use voter::{ExternalAddresses, Sighting, Voter};

use core::ops::{Add, Sub};
use core::time::Duration;

/// Nanoseconds since an origin that the driver chose, usually its own start.
///
/// A plain number rather than [`std::time::Instant`], so that a trace can be stored, replayed and simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The origin.
    pub const ZERO: Moment = Moment(0);
    /// A moment that never comes: 584 years after the origin.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `ns` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Moment(ns)
    }

    /// The moment `ms` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Moment(ms.saturating_mul(1_000_000))
    }

    /// The moment `s` seconds after the origin.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Moment(s.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the origin.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_nanos(self.0).as_secs_f64()
    }

    /// The time from `earlier` to this moment, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    /// Saturates at [`Moment::NEVER`].
    fn add(self, duration: Duration) -> Moment {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(ns))
    }
}

impl Sub<Moment> for Moment {
    type Output = Duration;

    /// Saturates at zero.
    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

/// A state machine without input or output of its own.
///
/// The rule for whoever drives one: after each [`handle`](Machine::handle), call [`poll`](Machine::poll) until it returns
/// `None`, before the next `handle`. When [`deadline`](Machine::deadline) has passed, `handle` the machine's tick.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it wants done.
    type Output;

    /// One mutation: the only way to change the machine.
    fn handle(&mut self, now: Moment, input: Self::Input);

    /// The next thing it wants done, `None` once drained.
    fn poll(&mut self) -> Option<Self::Output>;

    /// When it wants its tick, `None` while nothing is due. A deadline in the past means at once.
    fn deadline(&self) -> Option<Moment>;
}

/// The earlier of two deadlines, where `None` is never.
#[must_use]
pub fn earliest(a: Option<Moment>, b: Option<Moment>) -> Option<Moment> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate_instead_of_wrapping() {
        assert_eq!(Moment::NEVER + Duration::from_secs(1), Moment::NEVER);
        assert_eq!(Moment::ZERO - Moment::from_secs(1), Duration::ZERO);
        assert_eq!(
            Moment::from_millis(1500) - Moment::from_secs(1),
            Duration::from_millis(500)
        );
    }

    #[test]
    fn the_earlier_deadline_wins_and_none_is_never() {
        let (a, b) = (Moment::from_secs(1), Moment::from_secs(2));
        assert_eq!(earliest(Some(a), Some(b)), Some(a));
        assert_eq!(earliest(None, Some(b)), Some(b));
        assert_eq!(earliest(None, None), None);
    }
}
