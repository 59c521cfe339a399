//! Rate limits over the clock: one for everything, one for each torrent, and any that several torrents share; both directions apart.
//!
//! Invariant: what passes in a direction never exceeds `rate * time + burst` of the global limit, nor of its torrent's, nor of a group's
//! of which the torrent was all that time; who asked first is served first, within a torrent and between torrents.

mod gate;
mod group;

use gate::{Gate, Gates};
use group::Groups;
pub use group::{LimitGroup, MAX_LIMIT_GROUPS};
use std::num::NonZeroU64;
use std::sync::Arc;

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
            groups: Arc::new(Groups::default()),
            own: Arc::new(Gates::new(limits)),
        }
    }
}

/// The limit of one torrent and, above it, of the groups that it is in and of the process. Clones share them.
#[derive(Clone, Debug)]
pub struct TorrentLimiter {
    global: Arc<Gates>,
    groups: Arc<Groups>,
    own: Arc<Gates>,
}

impl TorrentLimiter {
    /// Changes the torrent's limits; who waits is judged by the new ones.
    pub fn set_limits(&self, limits: RateLimits) {
        self.own.set_limits(limits);
    }

    /// The groups whose limits hold from here on, in place of those before, each once. Beyond [`MAX_LIMIT_GROUPS`], the others are left
    /// out. Who waits for a group that the torrent leaves waits no longer.
    pub fn set_groups(&self, groups: &[LimitGroup]) {
        self.groups.set(groups);
    }

    /// Waits until bytes may pass and returns how many: from 1 to `wanted_bytes`, 0 only if that is 0. What is then not
    /// used belongs back ([`give_back`](Self::give_back)). Cancelling while it waits takes nothing.
    pub async fn acquire(&self, direction: Direction, wanted_bytes: u64) -> u64 {
        if self.groups.are_none() {
            return self.acquire_through(&[], direction, wanted_bytes).await;
        }
        loop {
            let changed = self.groups.changed();
            let groups = self.groups.current();
            tokio::select! {
                granted = self.acquire_through(all(&groups), direction, wanted_bytes) => {
                    return granted;
                }
                () = changed => {}
            }
        }
    }

    /// From the torrent's own limit upwards: each grants a part of what the one below it granted, which keeps the rest.
    async fn acquire_through(
        &self,
        groups: &[LimitGroup],
        direction: Direction,
        wanted_bytes: u64,
    ) -> u64 {
        let own = self.own.gate(direction);
        let mut from_own = Taken {
            bytes: own.acquire(wanted_bytes).await,
            gate: own,
        };
        let mut granted = from_own.bytes;
        let mut from_groups = Vec::new();
        for group in groups {
            let gate = group.gate(direction);
            granted = gate.acquire(granted).await;
            from_groups.push(Taken {
                bytes: granted,
                gate,
            });
        }
        granted = self.global.gate(direction).acquire(granted).await;
        from_own.bytes -= granted;
        for taken in &mut from_groups {
            taken.bytes -= granted;
        }
        granted
    }

    /// What may pass at once, up to `wanted_bytes`: 0 if too little to be worth a system call may, or others wait.
    #[must_use]
    pub fn try_acquire(&self, direction: Direction, wanted_bytes: u64) -> u64 {
        let own = self.own.gate(direction);
        let from_own = own.try_acquire(wanted_bytes);
        let groups = self.groups.current();
        let mut granted = from_own;
        let mut from_groups = Vec::new();
        for group in all(&groups) {
            let gate = group.gate(direction);
            granted = gate.try_acquire(granted);
            from_groups.push((gate, granted));
        }
        let granted = self.global.gate(direction).try_acquire(granted);
        for (gate, taken) in from_groups {
            gate.give_back(taken - granted);
        }
        own.give_back(from_own - granted);
        granted
    }

    /// Whether whatever is asked for is granted.
    #[must_use]
    pub fn is_unlimited(&self, direction: Direction) -> bool {
        let free = |gates: &Gates| gates.gate(direction).is_unlimited();
        let in_groups = || {
            let groups = self.groups.current();
            let mut groups = all(&groups).iter();
            groups.all(|group| group.gate(direction).is_unlimited())
        };
        free(&self.own) && free(&self.global) && in_groups()
    }

    /// Returns bytes that were granted and did not pass. Where the groups have changed since, those of now get them, which adds no more
    /// to a bucket than it holds after a pause.
    pub fn give_back(&self, direction: Direction, unused_bytes: u64) {
        self.own.gate(direction).give_back(unused_bytes);
        let groups = self.groups.current();
        for group in all(&groups) {
            group.gate(direction).give_back(unused_bytes);
        }
        self.global.gate(direction).give_back(unused_bytes);
    }
}

fn all(groups: &Option<Arc<[LimitGroup]>>) -> &[LimitGroup] {
    groups.as_deref().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::gate::{MIN_BURST_BYTES, burst_bytes};
    use super::*;
    use std::time::Duration;
    use tokio::time::Instant;

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

    #[tokio::test(start_paused = true)]
    async fn torrents_of_a_group_share_its_rate_and_others_do_not() {
        let global = Limiter::new(RateLimits::default());
        let group = LimitGroup::new(up(RATE));
        let (one, two, other) = (
            global.torrent(RateLimits::default()),
            global.torrent(up(RATE / 10)),
            global.torrent(up(3 * RATE)),
        );
        one.set_groups(std::slice::from_ref(&group));
        two.set_groups(&[group.clone(), group.clone()]);
        let taken = take_for(&[one.clone(), two, other], 1, 100).await;
        let shared = taken[0] + taken[1];
        assert!(shared <= RATE * 100 + burst_bytes(RATE), "{taken:?}");
        assert!(shared >= RATE * 98, "{taken:?}");
        assert!((RATE * 9..=RATE * 11).contains(&taken[1]), "{taken:?}");
        assert!(taken[2] >= RATE * 290, "{taken:?}");
        group.set_limits(up(RATE / 2));
        let taken = take_for(&[one], 3, 100).await;
        let total: u64 = taken.iter().sum();
        assert!((RATE * 49..=RATE * 52).contains(&total), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_groups_of_a_torrent_hold_at_once_and_keep_what_does_not_pass() {
        let limiter = Limiter::new(RateLimits::default()).torrent(RateLimits::default());
        let (slow, fast) = (LimitGroup::new(up(RATE / 2)), LimitGroup::new(up(RATE)));
        limiter.set_groups(&[fast.clone(), slow]);
        let total: u64 = take_for(std::slice::from_ref(&limiter), 4, 100)
            .await
            .iter()
            .sum();
        assert!((RATE * 49..=RATE * 52).contains(&total), "{total}");
        // What the slower one did not let through is there for others of the faster one.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let other = Limiter::new(RateLimits::default()).torrent(RateLimits::default());
        other.set_groups(&[fast]);
        let full = burst_bytes(RATE);
        assert!(limiter.try_acquire(Direction::Up, full) < full);
        let left = other.try_acquire(Direction::Up, full);
        assert_eq!(left, full - burst_bytes(RATE / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_a_group_waits_for_it_no_longer() {
        let limiter = Limiter::new(RateLimits::default()).torrent(RateLimits::default());
        limiter.set_groups(&[LimitGroup::new(up(1))]);
        assert!(!limiter.is_unlimited(Direction::Up));
        assert!(limiter.try_acquire(Direction::Up, u64::MAX) > 0);
        let waiting = {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.acquire(Direction::Up, 1_000_000).await })
        };
        tokio::task::yield_now().await;
        limiter.set_groups(&[]);
        assert_eq!(waiting.await.unwrap(), 1_000_000);
        assert!(limiter.is_unlimited(Direction::Up));
    }

    #[test]
    fn groups_are_bounded_and_each_counts_once() {
        let limiter = Limiter::new(RateLimits::default()).torrent(RateLimits::default());
        let group = LimitGroup::new(RateLimits::default());
        limiter.set_groups(&[group.clone(), group]);
        assert_eq!(all(&limiter.groups.current()).len(), 1);
        let many: Vec<LimitGroup> = (0..100).map(|_| LimitGroup::new(up(1))).collect();
        limiter.set_groups(&many);
        assert_eq!(all(&limiter.groups.current()).len(), MAX_LIMIT_GROUPS);
    }
}
