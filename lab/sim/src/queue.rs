//! What happens when: events in the order of their moments.
//!
//! Invariant: of two events at one moment, the one that was scheduled first happens first, so that a run depends on nothing
//! but its seed.

use core::cmp::Ordering;
use shoal_machine::Moment;
use std::collections::{BTreeMap, BinaryHeap};

#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    at: Moment,
    sequence: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest, as the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// How much time the heap covers: what comes later waits in unsorted buckets of this width, so that the heap stays small
/// although every connection has a timer that is minutes away.
const BUCKET_NS: u64 = 50_000_000;

/// Events to come. They are small and copied, so that scheduling one allocates nothing but the queue's own growth.
#[derive(Debug)]
pub(crate) struct EventQueue<E> {
    /// Everything before the end of the present bucket.
    heap: BinaryHeap<Entry<E>>,
    /// The number of the present bucket.
    present: u64,
    later: BTreeMap<u64, Vec<Entry<E>>>,
    sequence: u64,
    len: usize,
}

impl<E: Copy> EventQueue<E> {
    pub(crate) fn new() -> Self {
        EventQueue {
            heap: BinaryHeap::new(),
            present: 0,
            later: BTreeMap::new(),
            sequence: 0,
            len: 0,
        }
    }

    pub(crate) fn push(&mut self, at: Moment, event: E) {
        self.sequence += 1;
        self.len += 1;
        let entry = Entry {
            at,
            sequence: self.sequence,
            event,
        };
        let bucket = at.as_nanos() / BUCKET_NS;
        if bucket <= self.present {
            self.heap.push(entry);
        } else {
            self.later.entry(bucket).or_default().push(entry);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, E)> {
        if self.heap.is_empty() {
            let (bucket, entries) = self.later.pop_first()?;
            self.present = bucket;
            self.heap.extend(entries);
        }
        let entry = self.heap.pop()?;
        self.len -= 1;
        Some((entry.at, entry.event))
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_moment_and_then_in_the_order_in_which_they_were_scheduled() {
        let mut queue = EventQueue::new();
        for (s, name) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            queue.push(Moment::from_secs(s), name);
        }
        let order: String = core::iter::from_fn(|| queue.pop())
            .map(|(_, name)| name)
            .collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn the_order_is_that_of_a_sorted_list_whatever_is_pushed_between() {
        let mut dice = fastrand::Rng::with_seed(3);
        let (mut queue, mut list) = (EventQueue::new(), Vec::new());
        let mut now = Moment::ZERO;
        for event in 0..5_000u32 {
            let longest = 1 << dice.u32(1..34);
            let at = Moment::from_nanos(now.as_nanos() + dice.u64(..longest));
            queue.push(at, event);
            list.push((at, event));
            if dice.bool() {
                list.sort_unstable();
                let next = list.remove(0);
                assert_eq!(queue.pop(), Some(next));
                now = next.0;
            }
        }
        assert_eq!(queue.len(), list.len());
    }
}
