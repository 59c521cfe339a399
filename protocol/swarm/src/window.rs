//! How many blocks to have requested from one peer: enough to fill its link, no more than it or we can queue.
//!
//! Invariant: the target is at least [`MIN_BLOCKS`], or exactly 1 while the peer snubs us, and never above the remote's
//! `reqq` or [`MAX_BYTES`].

use crate::rate::Meter;
use shoal_machine::Moment;
use shoal_metainfo::BLOCK_LENGTH;

/// Fewer would leave the link idle for a round trip after every block.
pub const MIN_BLOCKS: u32 = 2;

/// The most bytes requested from one peer: 2.5 Gbit/s over 100 ms, and what a leaving peer makes us ask for again.
pub const MAX_BYTES: u32 = 32 * 1024 * 1024;

/// What a remote queues that does not say (BEP 10, `reqq`): the value of libtorrent and most others.
pub const DEFAULT_REQQ: u32 = 250;

/// Requested bytes last this long at the present rate: the round trip and the remote's disk, with room to spare.
pub const REQUEST_TIME_S: u64 = 3;

/// The request window of one connection.
#[derive(Clone, Debug)]
pub struct Window {
    meter: Meter,
    reqq: u32,
    target: u32,
}

impl Window {
    /// The window of a remote that queues `reqq` requests, [`DEFAULT_REQQ`] where it did not say.
    #[must_use]
    pub fn new(reqq: Option<u32>) -> Self {
        Window {
            meter: Meter::new(),
            reqq: reqq.unwrap_or(DEFAULT_REQQ),
            target: MIN_BLOCKS,
        }
    }

    /// The remote said how many requests it queues.
    pub fn set_reqq(&mut self, reqq: u32) {
        self.reqq = reqq;
    }

    /// Payload of requested blocks arrived. Ends a snub.
    pub fn on_received(&mut self, now: Moment, bytes: u32) {
        self.meter.add(now, u64::from(bytes));
    }

    /// Nothing came for too long: one block at a time until something comes.
    pub fn on_snubbed(&mut self) {
        self.target = 1;
    }

    /// How many blocks should be requested and not yet received.
    #[must_use]
    pub fn target_blocks(&self) -> u32 {
        self.target.min(MAX_BYTES / BLOCK_LENGTH).min(self.reqq)
    }

    /// The rate at which the remote delivers.
    #[must_use]
    pub fn rate_bytes_per_s(&self, now: Moment) -> u64 {
        self.meter.rate(now)
    }
}
