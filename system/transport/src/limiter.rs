//! Rate limits over the clock: one for everything, one for each torrent, both directions apart.
//!
//! Invariant: what passes in a direction never exceeds `rate * time + burst` of the global limit, nor of its torrent's;
//! who asked first is served first, within a torrent and between torrents.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_machine::Moment;
use shoal_session::TokenBucket;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// What may pass at once after a pause, as a part of a second's worth: short enough that a limit looks smooth to the
/// link, long enough to outlast a timer's granularity.
const BURST_PER_SECOND: u64 = 4;
/// The least burst: low limits still move a few packets at a time.
const MIN_BURST_BYTES: u64 = 4096;
/// The least grant is this much or a tenth of a second's worth (or all that is wanted), so that a low limit does not
/// turn into a system call for each byte that flows in.
const MAX_QUANTUM_BYTES: u64 = 16 * 1024;

/// Which way bytes travel, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From peers to us.
    Down,
    /// From us to peers.
    Up,
}

/// Limits in bytes per second, `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// From peers to us.
    pub down_bytes_per_s: Option<NonZeroU64>,
    /// From us to peers.
    pub up_bytes_per_s: Option<NonZeroU64>,
}

/// The limit of the whole process. Clones share it.
#[derive(Clone, Debug)]
pub struct Limiter {
    gates: Arc<Gates>,
}

impl Limiter {
    /// A limiter whose buckets are full.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        Self {
            gates: Arc::new(Gates::new(limits)),
        }
    }

    /// Changes the limits; who waits is judged by the new ones.
    pub fn set_limits(&self, limits: RateLimits) {
        self.gates.set_limits(limits);
    }

    /// A torrent's limit below this one.
    #[must_use]
    pub fn torrent(&self, limits: RateLimits) -> TorrentLimiter {
        TorrentLimiter {
            global: Arc::clone(&self.gates),
            own: Arc::new(Gates::new(limits)),
        }
    }
}

/// The limit of one torrent and, above it, of the process. Clones share both.
#[derive(Clone, Debug)]
pub struct TorrentLimiter {
    global: Arc<Gates>,
    own: Arc<Gates>,
}

impl TorrentLimiter {
    /// Changes the torrent's limits; who waits is judged by the new ones.
    pub fn set_limits(&self, limits: RateLimits) {
        self.own.set_limits(limits);
    }

    /// Waits until bytes may pass and returns how many: from 1 to `wanted_bytes`, 0 only if that is 0. What is then not
    /// used belongs back ([`give_back`](Self::give_back)). Cancelling while it waits takes nothing.
    pub async fn acquire(&self, direction: Direction, wanted_bytes: u64) -> u64 {
        let own = self.own.gate(direction);
        let mut from_own = Taken {
            bytes: own.acquire(wanted_bytes).await,
            gate: own,
        };
        let granted = self.global.gate(direction).acquire(from_own.bytes).await;
        from_own.bytes -= granted;
        granted
    }

    /// What may pass at once, up to `wanted_bytes`: 0 if too little to be worth a system call may, or others wait.
    #[must_use]
    pub fn try_acquire(&self, direction: Direction, wanted_bytes: u64) -> u64 {
        let own = self.own.gate(direction);
        let from_own = own.try_acquire(wanted_bytes);
        let granted = self.global.gate(direction).try_acquire(from_own);
        own.give_back(from_own - granted);
        granted
    }

    /// Whether whatever is asked for is granted.
    #[must_use]
    pub fn is_unlimited(&self, direction: Direction) -> bool {
        self.own.gate(direction).is_unlimited() && self.global.gate(direction).is_unlimited()
    }

    /// Returns bytes that were granted and did not pass.
    pub fn give_back(&self, direction: Direction, unused_bytes: u64) {
        self.own.gate(direction).give_back(unused_bytes);
        self.global.gate(direction).give_back(unused_bytes);
    }
}

/// Bytes taken from a gate that go back if they are not used, also when the taker is cancelled.
struct Taken<'a> {
    gate: &'a Gate,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.gate.give_back(self.bytes);
    }
}

#[derive(Debug)]
struct Gates {
    down: Gate,
    up: Gate,
}

impl Gates {
    fn new(limits: RateLimits) -> Self {
        Self {
            down: Gate::new(limits.down_bytes_per_s),
            up: Gate::new(limits.up_bytes_per_s),
        }
    }

    fn gate(&self, direction: Direction) -> &Gate {
        match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        }
    }

    fn set_limits(&self, limits: RateLimits) {
        self.down.set_rate(limits.down_bytes_per_s);
        self.up.set_rate(limits.up_bytes_per_s);
    }
}

/// One bucket with a queue before it.
#[derive(Debug)]
struct Gate {
    /// 0 is no limit: then this is all that is read.
    rate_bytes_per_s: AtomicU64,
    bucket: Mutex<TokenBucket>,
    /// One permit, handed out in order of arrival: its holder is the only one who waits for the bucket.
    turn: Semaphore,
    /// Wakes the holder of the turn when the rate changed.
    rate_changed: Notify,
    epoch: Instant,
}

impl Gate {
    fn new(rate: Option<NonZeroU64>) -> Self {
        let rate = rate.map_or(0, NonZeroU64::get);
        Self {
            rate_bytes_per_s: AtomicU64::new(rate),
            bucket: Mutex::new(TokenBucket::new(Moment::ZERO, rate, burst_bytes(rate))),
            turn: Semaphore::new(1),
            rate_changed: Notify::new(),
            epoch: Instant::now(),
        }
    }

    fn set_rate(&self, rate: Option<NonZeroU64>) {
        let rate = rate.map_or(0, NonZeroU64::get);
        self.bucket().set_rate(self.now(), rate, burst_bytes(rate));
        self.rate_bytes_per_s.store(rate, Ordering::Relaxed);
        self.rate_changed.notify_one();
    }

    async fn acquire(&self, wanted_bytes: u64) -> u64 {
        if wanted_bytes == 0 || self.is_unlimited() {
            return wanted_bytes;
        }
        // The semaphore is never closed; if it were, passing nothing on would stall a torrent for good.
        let Ok(_turn) = self.turn.acquire().await else {
            return wanted_bytes;
        };
        loop {
            if self.is_unlimited() {
                return wanted_bytes;
            }
            let ready_at = match self.take_quantum(wanted_bytes) {
                Ok(granted) => return granted,
                Err(ready_at) => ready_at,
            };
            let ready_at = self.epoch + Duration::from_nanos(ready_at.as_nanos());
            tokio::select! {
                () = tokio::time::sleep_until(ready_at) => {}
                () = self.rate_changed.notified() => {}
            }
        }
    }

    fn try_acquire(&self, wanted_bytes: u64) -> u64 {
        if wanted_bytes == 0 || self.is_unlimited() {
            return wanted_bytes;
        }
        match self.turn.try_acquire() {
            Ok(_turn) => self.take_quantum(wanted_bytes).unwrap_or(0),
            Err(_) => 0,
        }
    }

    fn give_back(&self, unused_bytes: u64) {
        if unused_bytes > 0 && !self.is_unlimited() {
            self.bucket().give_back(unused_bytes);
        }
    }

    /// Takes what is there if that is worth waking for, or tells when it will be.
    fn take_quantum(&self, wanted_bytes: u64) -> Result<u64, Moment> {
        let rate = self.rate_bytes_per_s.load(Ordering::Relaxed);
        let quantum = (rate / 10).clamp(1, MAX_QUANTUM_BYTES).min(wanted_bytes);
        let mut bucket = self.bucket();
        let now = self.now();
        if bucket.available(now) >= quantum {
            Ok(bucket.take(now, wanted_bytes))
        } else {
            Err(bucket.ready_at(quantum))
        }
    }

    fn is_unlimited(&self) -> bool {
        self.rate_bytes_per_s.load(Ordering::Relaxed) == 0
    }

    /// Held for arithmetic only, never across an await; a bucket is whole after any panic.
    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment::ZERO + self.epoch.elapsed()
    }
}

fn burst_bytes(rate_bytes_per_s: u64) -> u64 {
    (rate_bytes_per_s / BURST_PER_SECOND).max(MIN_BURST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 100_000;

    fn up(rate: u64) -> RateLimits {
        RateLimits {
            up_bytes_per_s: NonZeroU64::new(rate),
            ..RateLimits::default()
        }
    }

    /// Bytes that `tasks` greedy takers of each limiter get within `seconds`.
    async fn take_for(limiters: &[TorrentLimiter], tasks: usize, seconds: u64) -> Vec<u64> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut running = Vec::new();
        for limiter in limiters {
            for _ in 0..tasks {
                let limiter = limiter.clone();
                running.push(tokio::spawn(async move {
                    let mut taken = 0;
                    let endless = async {
                        loop {
                            taken += limiter.acquire(Direction::Up, 16 * 1024).await;
                        }
                    };
                    let _: Result<(), _> = tokio::time::timeout_at(end, endless).await;
                    taken
                }));
            }
        }
        let mut taken = Vec::new();
        for task in running {
            taken.push(task.await.unwrap());
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn many_takers_together_get_the_rate_and_each_its_share() {
        let limiter = Limiter::new(up(RATE)).torrent(RateLimits::default());
        let taken = take_for(&[limiter], 20, 100).await;
        let total: u64 = taken.iter().sum();
        assert!(total <= RATE * 100 + burst_bytes(RATE), "{total}");
        assert!(total >= RATE * 99, "{total}");
        let share = RATE * 100 / 20;
        for one in taken {
            assert!(
                (share * 8 / 10..=share * 12 / 10).contains(&one),
                "{one} of {share}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_torrent_keeps_its_own_limit_and_leaves_the_rest_to_others() {
        let global = Limiter::new(up(RATE));
        let slow = global.torrent(up(RATE / 10));
        let free = global.torrent(RateLimits::default());
        let taken = take_for(&[slow, free], 1, 100).await;
        assert!(taken[0] <= RATE * 10 + burst_bytes(RATE / 10), "{taken:?}");
        assert!(taken[0] >= RATE * 9, "{taken:?}");
        assert!(
            taken.iter().sum::<u64>() <= RATE * 100 + burst_bytes(RATE),
            "{taken:?}"
        );
        assert!(taken.iter().sum::<u64>() >= RATE * 98, "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_very_low_limit_still_flows() {
        let limiter = Limiter::new(up(10)).torrent(RateLimits::default());
        let total: u64 = take_for(&[limiter], 3, 1000).await.iter().sum();
        assert!(
            (9_900..=10_000 + MIN_BURST_BYTES).contains(&total),
            "{total}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn directions_do_not_share() {
        let limiter = Limiter::new(up(1)).torrent(RateLimits::default());
        assert_eq!(limiter.acquire(Direction::Down, u64::MAX).await, u64::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn lifting_a_limit_frees_who_waits() {
        let global = Limiter::new(up(1));
        let limiter = global.torrent(RateLimits::default());
        assert_eq!(
            limiter.acquire(Direction::Up, MIN_BURST_BYTES).await,
            MIN_BURST_BYTES
        );
        let waiting = {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.acquire(Direction::Up, 1_000_000).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(limiter.try_acquire(Direction::Up, 1), 0, "others wait");
        global.set_limits(RateLimits::default());
        assert_eq!(waiting.await.unwrap(), 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_takes_nothing() {
        let global = Limiter::new(up(1000));
        let limiter = global.torrent(up(1_000_000));
        let full = burst_bytes(1000);
        assert_eq!(limiter.try_acquire(Direction::Up, full), full);
        let before = limiter.own.up.bucket().available(limiter.own.up.now());
        let wait = limiter.acquire(Direction::Up, 16 * 1024);
        assert!(
            tokio::time::timeout(Duration::from_millis(1), wait)
                .await
                .is_err()
        );
        let after = limiter.own.up.bucket().available(limiter.own.up.now());
        assert!(after >= before, "{after} < {before}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_can_be_taken_again() {
        let limiter = Limiter::new(up(1000)).torrent(RateLimits::default());
        let full = burst_bytes(1000);
        assert_eq!(limiter.try_acquire(Direction::Up, u64::MAX), full);
        assert_eq!(limiter.try_acquire(Direction::Up, 500), 0);
        limiter.give_back(Direction::Up, 500);
        assert_eq!(limiter.try_acquire(Direction::Up, u64::MAX), 500);
    }
}
