//! What the remote asked of us and has not got: requests in the order they came, some of them handed to the driver.
//!
//! Invariant: every request that was accepted leaves once: uploaded, or returned to the caller, who rejects it.

use shoal_metainfo::BLOCK_LENGTH;
use shoal_wire::Request;
use std::collections::VecDeque;

/// The requests that any remote may have waiting: what libtorrent accepts, and what we announce as `reqq`.
pub const MAX_QUEUED_REQUESTS: u32 = 2_000;

/// A remote that receives fast may have so many seconds' worth of blocks waiting, if that is more. rTorrent asks for two seconds ahead at the
/// rate of its last half minute, whatever `reqq` says, and has no fast extension by which it could be told.
const AHEAD_S: u64 = 4;

/// However fast it is: 1 MiB of requests.
const MOST_WAITING: usize = 65_536;

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
    /// The highest rate so far, in bytes a second.
    peak: u64,
}

impl Upload {
    /// How many may wait. Who was fast once has room for what it asked for then.
    fn room(&self) -> usize {
        let ahead = self.peak.saturating_mul(AHEAD_S) / u64::from(BLOCK_LENGTH);
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        ahead.clamp(MAX_QUEUED_REQUESTS as usize, MOST_WAITING)
    }

    /// Accepts `request`, unless the queue is full. What the driver has does not count: the remote may have received it, and
    /// asked for the next block, before we hear that it left.
    pub(super) fn queue(&mut self, request: Request) -> bool {
        let room = self.waiting.len() < self.room();
        if room {
            self.waiting.push_back(request);
        }
        room
    }

    /// The next request to hand to the driver, at an upload rate of `rate` bytes a second.
    pub(super) fn start(&mut self, rate: u64) -> Option<Request> {
        self.peak = self.peak.max(rate);
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

    #[test]
    fn who_receives_fast_may_ask_far_ahead_and_still_when_it_has_become_slow() {
        let mut upload = Upload::default();
        // Two seconds at 128 MiB a second are 16,384 blocks.
        assert_eq!(upload.start(128 << 20), None);
        assert_eq!(upload.start(1 << 20), None);
        let taken = (0..100_000).take_while(|&n| upload.queue(request(n)));
        assert_eq!(taken.count(), 2 * 16_384);
        let mut fastest = Upload::default();
        assert_eq!(fastest.start(u64::from(u32::MAX)), None);
        let taken = (0..100_000).take_while(|&n| fastest.queue(request(n)));
        assert_eq!(taken.count(), MOST_WAITING);
    }
}
