//! When a swarm is looked for in the DHT.
//!
//! Invariant: one search of a swarm at a time, and none within [`AGAIN`] of an earlier one that somebody answered.

use shoal_machine::Moment;
use std::time::Duration;

/// Contacts forget who has announced after 45 minutes, so that two announces may be lost.
const EVERY: Duration = Duration::from_secs(15 * 60);

/// Spread, so that the torrents of an engine are not all looked for at once.
const SPREAD: Duration = Duration::from_secs(5 * 60);

/// Where too few peers are known.
const AGAIN: Duration = Duration::from_secs(60);

/// Where nobody answered, as where no contacts were known: asking again costs nobody anything. Who becomes known is asked at once.
const AFTER_SILENCE: Duration = Duration::from_secs(10);

/// The searches of one swarm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    is_running: bool,
    begun_at: Option<Moment>,
    next_at: Moment,
    /// Few peers are known, as far as was said since some were found.
    is_wanted: bool,
    /// Nobody answered the last one.
    met_nobody: bool,
}

impl Schedule {
    /// The first one is due.
    pub(super) const fn new(now: Moment) -> Self {
        Schedule {
            is_running: false,
            begun_at: None,
            next_at: now,
            is_wanted: false,
            met_nobody: false,
        }
    }

    /// When the next one is due, unless one is running.
    pub(super) fn due_at(&self) -> Option<Moment> {
        (!self.is_running).then_some(self.next_at)
    }

    pub(super) const fn begun(&mut self, now: Moment) {
        self.is_running = true;
        self.begun_at = Some(now);
    }

    /// Few peers are known.
    pub(super) fn wanted(&mut self) {
        self.is_wanted = true;
        if let Some(begun_at) = self.begun_at {
            self.next_at = self.next_at.min(begun_at + AGAIN);
        }
    }

    /// The running search has found some.
    pub(super) const fn found(&mut self) {
        self.is_wanted = false;
    }

    /// There is somebody to ask, perhaps.
    pub(super) fn met_somebody(&mut self, now: Moment) {
        if std::mem::take(&mut self.met_nobody) {
            self.next_at = self.next_at.min(now);
        }
    }

    /// The running search is over; `answered` contacts did.
    pub(super) fn ended(&mut self, now: Moment, answered: usize, rng: &mut fastrand::Rng) {
        self.is_running = false;
        self.met_nobody = answered == 0;
        let begun_at = self.begun_at.unwrap_or(now);
        self.next_at = if answered == 0 {
            now + AFTER_SILENCE
        } else if self.is_wanted {
            begun_at + AGAIN
        } else {
            begun_at + EVERY + SPREAD.mul_f64(rng.f64())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(answered: usize, before: impl FnOnce(&mut Schedule)) -> Schedule {
        let mut schedule = Schedule::new(Moment::from_secs(1));
        schedule.begun(Moment::from_secs(1));
        before(&mut schedule);
        assert_eq!(schedule.due_at(), None);
        let mut rng = fastrand::Rng::with_seed(1);
        schedule.ended(Moment::from_secs(6), answered, &mut rng);
        schedule
    }

    #[test]
    fn a_swarm_is_announced_before_it_is_forgotten() {
        let due = ended(8, |_| {}).due_at().unwrap();
        assert!(due >= Moment::from_secs(1) + EVERY);
        assert!(due <= Moment::from_secs(1) + EVERY + SPREAD);
    }

    #[test]
    fn a_swarm_of_few_is_looked_for_again_soon_but_not_where_some_were_found() {
        let soon = Some(Moment::from_secs(1) + AGAIN);
        assert_eq!(ended(8, Schedule::wanted).due_at(), soon);
        let found = ended(8, |schedule| {
            schedule.wanted();
            schedule.found();
        });
        assert!(found.due_at() > soon);
        let mut later = ended(8, |_| {});
        later.wanted();
        assert_eq!(later.due_at(), soon);
    }

    #[test]
    fn where_nobody_answered_it_is_tried_again_at_once() {
        let due = Some(Moment::from_secs(6) + AFTER_SILENCE);
        assert_eq!(ended(0, |_| {}).due_at(), due);
    }

    #[test]
    fn who_becomes_known_is_asked_at_once_where_nobody_answered() {
        let now = Moment::from_secs(7);
        let mut schedule = ended(0, |_| {});
        schedule.met_somebody(now);
        assert_eq!(schedule.due_at(), Some(now));
        let mut answered = ended(8, |_| {});
        answered.met_somebody(now);
        assert!(answered.due_at() > Some(now));
    }
}
