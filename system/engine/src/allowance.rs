//! What one connection may move in one direction before the rate limits are asked again.
//!
//! Invariant: between turns a connection holds nothing of a limit, so that those that are idle take nothing from those that are
//! not; a debt stays with it.

use shoal_transport::{Direction, TorrentLimiter};

/// The most payload asked of a rate limit at once: what one write can take, so that a slow limit is shared evenly.
const PORTION_BYTES: u64 = 128 * 1024;

/// See the module. A read may bring more than was allowed, by less than a block and a buffer: that is the debt.
pub(crate) struct Allowance {
    direction: Direction,
    limiter: TorrentLimiter,
    bytes: i64,
    short: bool,
}

impl Allowance {
    pub(crate) fn new(direction: Direction, limiter: &TorrentLimiter) -> Self {
        Allowance {
            direction,
            limiter: limiter.clone(),
            bytes: 0,
            short: false,
        }
    }

    /// How much may pass; 0 where it has to be waited for.
    pub(crate) fn open(&mut self) -> u64 {
        if self.bytes <= 0 {
            let bytes = self.limiter.try_acquire(self.direction, PORTION_BYTES);
            self.supply(bytes);
        }
        self.short = self.bytes <= 0;
        u64::try_from(self.bytes).unwrap_or(0)
    }

    /// Whether it has to be waited for, as of when it was last opened.
    pub(crate) const fn is_short(&self) -> bool {
        self.short
    }

    /// Waits until the limits allow more; it is to be [supplied](Self::supply). Cancelling takes nothing.
    pub(crate) async fn wait(&self) -> u64 {
        self.limiter.acquire(self.direction, PORTION_BYTES).await
    }

    pub(crate) fn supply(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add_unsigned(bytes);
        self.short = false;
    }

    pub(crate) fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub_unsigned(bytes);
    }

    /// Gives back what is left at the end of a turn.
    pub(crate) fn rest(&mut self) {
        if let Ok(bytes @ 1..) = u64::try_from(self.bytes) {
            self.limiter.give_back(self.direction, bytes);
            self.bytes = 0;
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_transport::{Limiter, RateLimits};
    use std::num::NonZeroU64;

    fn limited() -> TorrentLimiter {
        // A quarter of a second's worth may pass at once: 500,000 bytes; refills do not show within a test.
        let limits = RateLimits {
            down_bytes_per_s: NonZeroU64::new(2_000_000),
            ..RateLimits::default()
        };
        Limiter::new(limits).torrent(RateLimits::default())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_is_there_for_others() {
        let limiter = limited();
        let mut idle: Vec<Allowance> = (0..100)
            .map(|_| Allowance::new(Direction::Down, &limiter))
            .collect();
        for allowance in &mut idle {
            assert!(allowance.open() > 0);
            allowance.rest();
        }
        let mut ended = Allowance::new(Direction::Down, &limiter);
        assert!(ended.open() > 0);
        drop(ended);
        assert_eq!(limiter.try_acquire(Direction::Down, 500_000), 500_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_is_paid_before_more_may_pass() {
        let limiter = limited();
        let mut allowance = Allowance::new(Direction::Down, &limiter);
        assert_eq!(allowance.open(), PORTION_BYTES);
        allowance.spend(PORTION_BYTES + 200_000);
        allowance.rest();
        // The next portion does not cover the debt, the one after it does.
        assert_eq!(allowance.open(), 0);
        assert!(allowance.is_short());
        assert_eq!(allowance.open(), 2 * PORTION_BYTES - 200_000);
        assert!(!allowance.is_short());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_short_waits_for_the_limit_and_not_longer() {
        let limiter = limited();
        let mut allowance = Allowance::new(Direction::Down, &limiter);
        let mut passed = 0;
        loop {
            let bytes = allowance.open();
            if bytes == 0 {
                break;
            }
            allowance.spend(bytes);
            passed += bytes;
        }
        assert_eq!(passed, 500_000);
        let bytes = allowance.wait().await;
        allowance.supply(bytes);
        assert!(allowance.open() > 0);
    }
}
