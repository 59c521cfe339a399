//! What the remote asked of us and has not got: requests in the order they came, some of them handed to the driver.
//!
//! Invariant: every request that was accepted leaves once: uploaded, or returned to the caller, who rejects it.

use shoal_wire::Request;
use std::collections::VecDeque;

/// The most requests that one remote may have waiting: what libtorrent accepts, and what we announce as `reqq`.
pub const MAX_QUEUED_REQUESTS: u32 = 2_000;

/// The longest part of a piece that we send in one message: what the field's clients accept. Most ask for 16 KiB.
pub(super) const MAX_REQUEST_LENGTH: u32 = 128 * 1024;

/// Uploads handed to the driver stay below half a second's worth, so that a choke or a cancel still catches most of what
/// is queued, within bounds that keep a fast start and a bounded buffer.
const WATERMARK_BYTES: core::ops::RangeInclusive<u64> = 64 * 1024..=4 * 1024 * 1024;

/// The requests of one remote.
#[derive(Clone, Debug, Default)]
pub(super) struct Upload {
    waiting: VecDeque<Request>,
    in_flight: VecDeque<Request>,
    in_flight_bytes: u64,
}

impl Upload {
    /// Accepts `request`, unless the queue is full. What the driver has does not count: the remote may have received it, and
    /// asked for the next block, before we hear that it left.
    pub(super) fn queue(&mut self, request: Request) -> bool {
        let room = self.waiting.len() < MAX_QUEUED_REQUESTS as usize;
        if room {
            self.waiting.push_back(request);
        }
        room
    }

    /// The next request to hand to the driver, at an upload rate of `rate` bytes a second.
    pub(super) fn start(&mut self, rate: u64) -> Option<Request> {
        let watermark = (rate / 2).clamp(*WATERMARK_BYTES.start(), *WATERMARK_BYTES.end());
        if self.in_flight_bytes >= watermark {
            return None;
        }
        let request = self.waiting.pop_front()?;
        self.in_flight_bytes += u64::from(request.length);
        self.in_flight.push_back(request);
        Some(request)
    }

    /// The driver is done with `request`; false where it never had it.
    pub(super) fn finish(&mut self, request: Request) -> bool {
        let at = self.in_flight.iter().position(|&other| other == request);
        let known = at.is_some_and(|at| self.in_flight.remove(at).is_some());
        if known {
            self.in_flight_bytes -= u64::from(request.length);
        }
        known
    }

    /// Forgets a waiting request; false where there is none like it.
    pub(super) fn cancel(&mut self, request: Request) -> bool {
        let at = self.waiting.iter().position(|&other| other == request);
        at.is_some_and(|at| self.waiting.remove(at).is_some())
    }

    /// Whether the driver has `request`.
    pub(super) fn has_in_flight(&self, request: Request) -> bool {
        self.in_flight.contains(&request)
    }

    /// Takes the waiting requests that `which` names.
    pub(super) fn flush(&mut self, which: impl Fn(&Request) -> bool) -> Vec<Request> {
        let (taken, kept): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(which);
        self.waiting = kept.into();
        taken
    }

    /// Whether the driver has anything.
    pub(super) fn is_under_way(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// What the driver has.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = Request> + '_ {
        self.in_flight.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_metainfo::PieceIndex;

    fn request(begin: u32) -> Request {
        Request {
            piece: PieceIndex(0),
            begin,
            length: 16 * 1024,
        }
    }

    #[test]
    fn a_slow_remote_has_only_the_watermark_in_flight() {
        let mut upload = Upload::default();
        (0..100).for_each(|n| assert!(upload.queue(request(n))));
        let started = core::iter::from_fn(|| upload.start(0)).count();
        assert_eq!(started, 4);
        assert!(upload.finish(request(0)));
        assert_eq!(upload.start(0), Some(request(4)));
        assert_eq!(upload.start(0), None);
        assert_eq!(core::iter::from_fn(|| upload.start(512 * 1024)).count(), 12);
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut upload = Upload::default();
        (0..MAX_QUEUED_REQUESTS).for_each(|n| assert!(upload.queue(request(n))));
        assert!(!upload.queue(request(9_999)));
    }
}
