//! One limit over the clock: a bucket of tokens with a queue before it.
//!
//! Invariant: what passes never exceeds `rate * time + burst`, and who asked first is served first.

use super::{Direction, RateLimits};
use shoal_machine::Moment;
use shoal_session::TokenBucket;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// What may pass at once after a pause, as a part of a second's worth: short enough that a limit looks smooth to the
/// link, long enough to outlast a timer's granularity.
const BURST_PER_SECOND: u64 = 4;
/// The least burst: low limits still move a few packets at a time.
pub(super) const MIN_BURST_BYTES: u64 = 4096;
/// The least grant is this much or a tenth of a second's worth (or all that is wanted), so that a low limit does not
/// turn into a system call for each byte that flows in.
const MAX_QUANTUM_BYTES: u64 = 16 * 1024;

/// A limit for each direction.
#[derive(Debug)]
pub(super) struct Gates {
    pub(super) down: Gate,
    pub(super) up: Gate,
}

impl Gates {
    pub(super) fn new(limits: RateLimits) -> Self {
        Self {
            down: Gate::new(limits.down_bytes_per_s),
            up: Gate::new(limits.up_bytes_per_s),
        }
    }

    pub(super) fn gate(&self, direction: Direction) -> &Gate {
        match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        }
    }

    pub(super) fn set_limits(&self, limits: RateLimits) {
        self.down.set_rate(limits.down_bytes_per_s);
        self.up.set_rate(limits.up_bytes_per_s);
    }
}

/// One bucket with a queue before it.
#[derive(Debug)]
pub(super) struct Gate {
    /// 0 is no limit: then this is all that is read.
    rate_bytes_per_s: AtomicU64,
    /// There from the first limit on: most torrents never have one.
    queue: OnceLock<Box<Queue>>,
}

/// What it takes to limit.
#[derive(Debug)]
struct Queue {
    bucket: Mutex<TokenBucket>,
    /// One permit, handed out in order of arrival: its holder is the only one who waits for the bucket.
    turn: Semaphore,
    /// Wakes the holder of the turn when the rate changed.
    rate_changed: Notify,
    epoch: Instant,
}

impl Gate {
    fn new(rate: Option<NonZeroU64>) -> Self {
        Self {
            rate_bytes_per_s: AtomicU64::new(rate.map_or(0, NonZeroU64::get)),
            queue: OnceLock::new(),
        }
    }

    fn queue(&self) -> &Queue {
        self.queue.get_or_init(|| {
            let rate = self.rate_bytes_per_s.load(Ordering::Relaxed);
            Box::new(Queue {
                bucket: Mutex::new(TokenBucket::new(Moment::ZERO, rate, burst_bytes(rate))),
                turn: Semaphore::new(1),
                rate_changed: Notify::new(),
                epoch: Instant::now(),
            })
        })
    }

    fn set_rate(&self, rate: Option<NonZeroU64>) {
        let rate = rate.map_or(0, NonZeroU64::get);
        if rate == 0 && self.queue.get().is_none() {
            return self.rate_bytes_per_s.store(0, Ordering::Relaxed);
        }
        self.bucket().set_rate(self.now(), rate, burst_bytes(rate));
        self.rate_bytes_per_s.store(rate, Ordering::Relaxed);
        self.queue().rate_changed.notify_one();
    }

    pub(super) async fn acquire(&self, wanted_bytes: u64) -> u64 {
        if wanted_bytes == 0 || self.is_unlimited() {
            return wanted_bytes;
        }
        // The semaphore is never closed; if it were, passing nothing on would stall a torrent for good.
        let queue = self.queue();
        let Ok(_turn) = queue.turn.acquire().await else {
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
            let ready_at = queue.epoch + Duration::from_nanos(ready_at.as_nanos());
            tokio::select! {
                () = tokio::time::sleep_until(ready_at) => {}
                () = queue.rate_changed.notified() => {}
            }
        }
    }

    pub(super) fn try_acquire(&self, wanted_bytes: u64) -> u64 {
        if wanted_bytes == 0 || self.is_unlimited() {
            return wanted_bytes;
        }
        match self.queue().turn.try_acquire() {
            Ok(_turn) => self.take_quantum(wanted_bytes).unwrap_or(0),
            Err(_) => 0,
        }
    }

    pub(super) fn give_back(&self, unused_bytes: u64) {
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

    pub(super) fn is_unlimited(&self) -> bool {
        self.rate_bytes_per_s.load(Ordering::Relaxed) == 0
    }

    /// Held for arithmetic only, never across an await; a bucket is whole after any panic.
    pub(super) fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        self.queue()
            .bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Moment {
        Moment::ZERO + self.queue().epoch.elapsed()
    }
}

pub(super) fn burst_bytes(rate_bytes_per_s: u64) -> u64 {
    (rate_bytes_per_s / BURST_PER_SECOND).max(MIN_BURST_BYTES)
}
