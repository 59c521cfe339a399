//! Queries on their way: to whom, what for, and until when an answer is waited for.
//!
//! Invariant: at most [`MAX_ON_THEIR_WAY`]; an answer counts only from the address that was asked and with the id that was
//! sent there; every query ends, by its answer or by [`GIVE_UP_AFTER`].

use crate::id::Id;
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::Moment;
use std::collections::{BTreeMap, BTreeSet};

/// More wait for their turn. With answers in 100 ms this is 2,500 queries a second, which the limit of bytes never allows.
pub(crate) const MAX_ON_THEIR_WAY: usize = 256;

/// A search goes on without who has not answered by then: nine of ten that answer do within a second.
const SLOW_AFTER: Duration = Duration::from_millis(1_500);

/// After that no answer counts.
const GIVE_UP_AFTER: Duration = Duration::from_secs(8);

/// What a query is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To get to know the first contacts.
    Seed {
        /// It serves to begin with, and is no contact to keep.
        is_router: bool,
    },
    /// To see whether a contact of the table is there.
    Table,
    /// For a search.
    Search(u64),
    /// To store what a search was for.
    Store(u64),
}

/// A query on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub to: SocketAddr,
    /// Who is said to be there.
    pub expected: Option<Id>,
    pub purpose: Purpose,
    sent_at: Moment,
    is_slow: bool,
}

/// What time does to a query.
pub(crate) enum Overdue {
    /// Its answer takes long.
    Slow(Waiting),
    /// No answer is waited for any more.
    Lost(Waiting),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Transactions {
    waiting: BTreeMap<u32, Waiting>,
    timers: BTreeSet<(Moment, u32)>,
}

impl Transactions {
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_ON_THEIR_WAY
    }

    pub(crate) fn is_used(&self, id: u32) -> bool {
        self.waiting.contains_key(&id)
    }

    /// Keeps a query whose id [`Transactions::is_used`] does not know.
    pub(crate) fn begin(
        &mut self,
        now: Moment,
        id: u32,
        to: SocketAddr,
        expected: Option<Id>,
        purpose: Purpose,
    ) {
        let waiting = Waiting {
            to,
            expected,
            purpose,
            sent_at: now,
            is_slow: false,
        };
        self.waiting.insert(id, waiting);
        self.timers.insert((now + SLOW_AFTER, id));
    }

    /// Ends the query that `from` answers.
    pub(crate) fn answered(&mut self, id: &[u8], from: SocketAddr) -> Option<Waiting> {
        let id = u32::from_be_bytes(id.try_into().ok()?);
        let waiting = *self.waiting.get(&id).filter(|waiting| waiting.to == from)?;
        self.waiting.remove(&id);
        self.timers.remove(&(waiting.timer(), id));
        Some(waiting)
    }

    /// The next query that time has done something to.
    pub(crate) fn overdue(&mut self, now: Moment) -> Option<Overdue> {
        let &(at, id) = self.timers.first().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&(at, id));
        let waiting = self.waiting.get_mut(&id)?;
        if waiting.is_slow {
            return self.waiting.remove(&id).map(Overdue::Lost);
        }
        waiting.is_slow = true;
        self.timers.insert((waiting.timer(), id));
        Some(Overdue::Slow(*waiting))
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }
}

impl Waiting {
    fn timer(&self) -> Moment {
        self.sent_at
            + if self.is_slow {
                GIVE_UP_AFTER
            } else {
                SLOW_AFTER
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_from_who_was_asked_and_in_time_only() {
        let mut transactions = Transactions::default();
        let asked: SocketAddr = "11.0.0.1:1".parse().unwrap();
        let other: SocketAddr = "11.0.0.1:2".parse().unwrap();
        transactions.begin(Moment::ZERO, 7, asked, None, Purpose::Table);
        assert!(transactions.answered(&[0, 0, 0, 7], other).is_none());
        assert!(transactions.answered(&[0, 0, 0, 8], asked).is_none());
        assert!(transactions.answered(&[7], asked).is_none());
        assert!(transactions.overdue(Moment::from_millis(1_499)).is_none());
        let slow = transactions.overdue(Moment::from_millis(1_500));
        assert!(matches!(slow, Some(Overdue::Slow(_))));
        assert_eq!(transactions.deadline(), Some(Moment::from_secs(8)));
        assert!(
            transactions
                .clone()
                .answered(&[0, 0, 0, 7], asked)
                .is_some()
        );
        let lost = transactions.overdue(Moment::from_secs(8));
        assert!(matches!(lost, Some(Overdue::Lost(_))));
        assert!(transactions.answered(&[0, 0, 0, 7], asked).is_none());
        assert_eq!(transactions.deadline(), None);
    }
}
