//! When one tracker is scraped.
//!
//! Invariant: at most one scrape is on its way, and the next is due no sooner than [`SCRAPE_INTERVAL`] and what the tracker
//! itself wants after it was answered.

use super::{MAX_INTERVAL, SCRAPE_INTERVAL, ScrapeId};
use crate::announce::{ScrapeCounts, ScrapeReply};
use crate::error::{Error, RetryIn};
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::InfoHash;

/// How often the pause doubles with failures; the sixth exceeds [`MAX_INTERVAL`].
const MAX_DOUBLINGS: u32 = 6;

struct InFlight {
    id: ScrapeId,
    give_up_at: Moment,
}

/// The scrapes of one tracker.
pub(super) struct Scraping {
    /// The tracker's last reply to an announce lacked figures.
    wanted: bool,
    /// It has no scrape, or does not want to be asked.
    impossible: bool,
    in_flight: Option<InFlight>,
    next_at: Moment,
    /// The least pause that the tracker wants between announces, which holds for scrapes too.
    min_interval: Duration,
    failures: u32,
}

impl Default for Scraping {
    fn default() -> Self {
        Scraping {
            wanted: false,
            impossible: false,
            in_flight: None,
            next_at: Moment::ZERO,
            min_interval: Duration::ZERO,
            failures: 0,
        }
    }
}

impl Scraping {
    /// The tracker answered an announce with figures.
    pub(super) fn counts_are_known(&mut self) {
        self.wanted = false;
    }

    /// The tracker answered an announce without figures.
    pub(super) fn counts_are_missing(&mut self, min_interval: Duration) {
        self.wanted = true;
        self.min_interval = min_interval;
    }

    /// When the next scrape is due, if one is.
    pub(super) fn due_at(&self) -> Option<Moment> {
        let due = self.wanted && !self.impossible && self.in_flight.is_none();
        due.then_some(self.next_at)
    }

    pub(super) fn give_up_at(&self) -> Option<Moment> {
        self.in_flight.as_ref().map(|sent| sent.give_up_at)
    }

    pub(super) fn sent(&mut self, id: ScrapeId, give_up_at: Moment) {
        self.in_flight = Some(InFlight { id, give_up_at });
    }

    pub(super) fn awaits(&self, id: ScrapeId) -> bool {
        self.in_flight.as_ref().is_some_and(|sent| sent.id == id)
    }

    /// Awaits no answer any more; gives the figures that came.
    pub(super) fn answered<'r>(
        &mut self,
        now: Moment,
        result: &'r Result<ScrapeReply, Error>,
    ) -> &'r [(InfoHash, ScrapeCounts)] {
        self.in_flight = None;
        let (swarms, stated): (&[_], _) = match result {
            Ok(reply) => {
                self.failures = 0;
                (&reply.swarms, reply.min_interval)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.impossible = is_final(error);
                (&[], None)
            }
        };
        let least = self.min_interval.max(stated.unwrap_or_default());
        let pause = SCRAPE_INTERVAL * (1 << self.failures.min(MAX_DOUBLINGS));
        self.next_at = now + pause.max(least).min(MAX_INTERVAL);
        swarms
    }

    /// Counts a scrape that was not answered in time as a failure.
    pub(super) fn expire(&mut self, now: Moment) {
        if self
            .give_up_at()
            .is_some_and(|give_up_at| give_up_at <= now)
        {
            self.answered(now, &Err(Error::TimedOut));
        }
    }
}

/// Whether another attempt would come to the same.
fn is_final(error: &Error) -> bool {
    let never = Some(RetryIn::Never);
    match error {
        Error::NoScrape | Error::UnusableUrl(_) => true,
        Error::Failure { retry_in, .. } => *retry_in == never,
        _ => false,
    }
}
