//! Which pieces wait for others to be hashed beside, and when they have waited enough.
//!
//! Several pieces side by side take little longer to hash than one of them, but they must be there. In a fast download the
//! next one is there within milliseconds, in a slow one it does not matter.
//!
//! Invariant: fewer pieces wait than there are lanes, and none where nothing tells that more come soon.

use std::time::{Duration, Instant};

/// A piece waits only where the one before came less than this ago. Then the lanes are full in three times that if pieces go
/// on coming so, and what comes slowly is never kept waiting. At half a MiB for each of them this is 25 MiB/s, below which
/// hashing one at a time costs next to nothing.
const OFTEN: Duration = Duration::from_millis(20);

/// The pieces that wait.
#[derive(Debug)]
pub(crate) struct Company<T> {
    waiting: Vec<T>,
    /// When the last one came.
    came_at: Option<Instant>,
}

impl<T> Default for Company<T> {
    fn default() -> Self {
        Company {
            waiting: Vec::new(),
            came_at: None,
        }
    }
}

impl<T> Company<T> {
    /// Takes one more. True where all are to be hashed at once: `lanes` of them are there, it is not known that more come
    /// soon, or this one may not wait.
    pub(crate) fn join(&mut self, one: T, now: Instant, lanes: usize, may_wait: bool) -> bool {
        let before = self.came_at.replace(now);
        let often = before.is_some_and(|before| now.saturating_duration_since(before) < OFTEN);
        self.waiting.push(one);
        !(may_wait && often && self.waiting.len() < lanes)
    }

    /// All that wait.
    pub(crate) fn leave(&mut self) -> Vec<T> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANES: usize = 4;

    fn after(start: Instant, pauses: &[u64]) -> Vec<Instant> {
        let times = pauses.iter().scan(start, |at, &pause_ms| {
            *at += Duration::from_millis(pause_ms);
            Some(*at)
        });
        times.collect()
    }

    #[test]
    fn what_comes_slowly_never_waits() {
        let mut company = Company::default();
        for now in after(Instant::now(), &[0, 21, 10_000, 40]) {
            assert!(company.join((), now, LANES, true));
            assert_eq!(company.leave().len(), 1);
        }
    }

    #[test]
    fn what_comes_often_waits_until_the_lanes_are_full() {
        let mut company = Company::default();
        let mut sizes = Vec::new();
        for now in after(Instant::now(), &[5; 9]) {
            if company.join((), now, LANES, true) {
                sizes.push(company.leave().len());
            }
        }
        assert_eq!(sizes, [1, 4, 4]);
    }

    #[test]
    fn one_that_may_not_wait_takes_the_others_along() {
        let mut company = Company::default();
        let mut all = Vec::new();
        for (one, now) in after(Instant::now(), &[1; 4]).into_iter().enumerate() {
            if company.join(one, now, LANES, one < 3) {
                all.push(company.leave());
            }
        }
        assert_eq!(all, [vec![0], vec![1, 2, 3]]);
        assert!(company.leave().is_empty());
    }

    #[test]
    fn after_a_pause_the_next_one_takes_the_others_along() {
        let mut company = Company::default();
        let times = after(Instant::now(), &[1, 1, 30]);
        let left: Vec<bool> = times
            .into_iter()
            .map(|now| company.join((), now, LANES, true))
            .collect();
        assert_eq!(left, [true, false, true]);
        assert_eq!(company.leave().len(), 3);
    }
}
