//! Blocks in both directions: leases become requests, requests become uploads.
//!
//! Invariant: a block is requested only while the window, the remote's queue and our own storage have room for it.

use super::download::Arrival;
use super::upload::MAX_REQUEST_LENGTH;
use super::{
    FLUSH, FLUSH_BLOCKS, MAX_PATIENCE, MAX_QUEUED_REQUESTS, Output, PeerSession, REJECT_PAUSE,
    SNUB, SNUB_GAPS, Timer,
};
use crate::message::{FromPeer, ReturnReason};
use core::time::Duration;
use shoal_metainfo::{BLOCK_LENGTH, Block, BlockRun, PieceIndex};
use shoal_wire::{BlockHeader, Extension, Message, Request};

impl PeerSession {
    /// What follows from any change: requests up to the window, uploads up to the watermark, a wish for more leases.
    pub(super) fn pump(&mut self) {
        self.send_requests();
        self.start_uploads();
        self.wish();
        self.flush_if_worthwhile();
    }

    /// Whether requests make sense: not right after rejects, and not while storage has no room for the blocks.
    fn may_request(&self) -> bool {
        !self.backpressure && !self.timers.is_set(Timer::Resume)
    }

    fn send_requests(&mut self) {
        if !self.may_request() {
            return;
        }
        let window = self.window.target_blocks() as usize;
        while self.download.outstanding() < window {
            let idle = self.download.is_quiet();
            let Some((block, length)) = self.download.request(&self.layout, self.now) else {
                break;
            };
            if idle {
                self.last_block = self.now;
            }
            self.send(Message::Request(wire_name(block, length)));
        }
    }

    /// Asks for leases when less than half a window is in reserve: for as many as fill the window and three quarters of
    /// another, so that wishes are few and few blocks wait at a slow remote that another could fetch.
    fn wish(&mut self) {
        let usable = !self.remote_chokes || !self.allowed_fast.is_empty();
        if self.theirs.is_none() || !self.we_are_interested || !usable || !self.may_request() {
            return;
        }
        let window = self.window.target_blocks();
        let reserve = self.download.reserve_blocks();
        if reserve >= window.div_ceil(2) {
            return;
        }
        let spare = if self.snubbed {
            0
        } else {
            (window * 3).div_ceil(4)
        };
        let outstanding = u32::try_from(self.download.outstanding()).unwrap_or(u32::MAX);
        let missing = (window + spare).saturating_sub(outstanding.saturating_add(reserve));
        // A wish that was not met yet is repeated only when it has become much larger.
        if missing > 0 && (self.wished == 0 || missing >= self.wished.saturating_mul(2)) {
            self.wished = missing;
            self.tell(FromPeer::Want {
                blocks: missing,
                rate_bytes_per_s: self.window.rate_bytes_per_s(self.now),
            });
        }
    }

    pub(super) fn on_lease(&mut self, runs: Vec<BlockRun>) {
        let mut useless = Vec::new();
        for run in runs {
            self.wished = self.wished.saturating_sub(run.count);
            if self.remote_chokes && !self.allowed_fast.contains(&run.piece) {
                useless.push(run);
            } else {
                self.download.lease(run);
            }
        }
        self.give_back(useless, ReturnReason::Choked);
    }

    pub(super) fn on_revoke(&mut self, runs: &[BlockRun]) {
        let mut revoked = Vec::new();
        for &run in runs {
            let (reserved, requested) = self.download.revoke(run);
            revoked.extend(reserved);
            for block in requested {
                self.send_cancel(block);
                BlockRun::push(&mut revoked, block);
            }
        }
        self.give_back(revoked, ReturnReason::Cancelled);
    }

    fn send_cancel(&mut self, block: Block) {
        let length = self.layout.block_length(block);
        self.send(Message::Cancel(wire_name(block, length)));
    }

    pub(super) fn on_piece(&mut self, header: BlockHeader) {
        let block = self
            .layout
            .block_at(header.piece, header.begin, header.length);
        let arrival = block.map_or(Arrival::Unsolicited, |block| self.download.arrive(block));
        match (arrival, block) {
            (Arrival::Expected, Some(block)) => {
                self.block_gap = (3 * self.block_gap + (self.now - self.last_block)) / 4;
                self.outputs.push_back(Output::Store(block));
            }
            (Arrival::Late, _) => self.outputs.push_back(Output::Discard(header)),
            _ => return self.refuse("it sent a block that was not requested"),
        }
        self.last_block = self.now;
    }

    pub(super) fn on_stored(&mut self, block: Block) {
        if !self.count_arrival(block) {
            return;
        }
        self.received.push(block);
        self.fetched.insert(block.piece);
        if !self.timers.is_set(Timer::Flush) {
            self.timers.set(Timer::Flush, self.now + FLUSH);
        }
        // The last block of a piece may be the one that verification waits for.
        if block.block.0 + 1 == self.layout.block_count(block.piece) {
            self.flush();
        }
    }

    pub(super) fn on_known(&mut self, block: Block) {
        if self.count_arrival(block) {
            self.give_back(vec![BlockRun::one(block)], ReturnReason::Duplicate);
        }
    }

    /// The bytes of `block` have come, whether they were of use or not; false where it was not arriving.
    fn count_arrival(&mut self, block: Block) -> bool {
        if !self.download.stored(block) {
            return false;
        }
        let length = self.layout.block_length(block);
        self.window.on_received(self.now, length);
        self.downloaded_bytes += u64::from(length);
        self.last_block = self.now;
        self.snubbed = false;
        self.report_soon();
        true
    }

    pub(super) fn on_reject(&mut self, request: Request) {
        let block = self
            .layout
            .block_at(request.piece, request.begin, request.length);
        let Some(block) = block.filter(|&block| self.download.reject(block)) else {
            return;
        };
        self.rejected.push(block);
        if !self.timers.is_set(Timer::Flush) {
            self.timers.set(Timer::Flush, self.now + FLUSH);
        }
        // Rejects after a choke are its answer. Others, asked again at once, would follow each other as fast as the line allows:
        // so blocks must come first, and where none are on their way, time must pass.
        if self.remote_chokes {
            return;
        }
        let outstanding = u32::try_from(self.download.outstanding()).unwrap_or(u32::MAX);
        self.window.on_rejected(outstanding);
        if self.download.is_quiet() {
            self.timers.set(Timer::Resume, self.now + REJECT_PAUSE);
        }
    }

    /// Tells the torrent of received and rejected blocks: when they are many, when no more are on their way, and when the
    /// first of them has waited [`FLUSH`].
    fn flush_if_worthwhile(&mut self) {
        let blocks = self.received.blocks + self.rejected.blocks;
        if blocks >= FLUSH_BLOCKS || (blocks > 0 && self.download.is_quiet()) {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        self.timers.stop(Timer::Flush);
        let received = self.received.take();
        if !received.is_empty() {
            self.tell(FromPeer::Received(received));
        }
        let rejected = self.rejected.take();
        self.give_back(rejected, ReturnReason::Rejected);
    }

    /// How long no block may come before the remote counts as snubbing us.
    pub(super) fn patience(&self) -> Duration {
        (SNUB_GAPS * self.block_gap).clamp(SNUB, MAX_PATIENCE)
    }

    /// No block came for too long: others may fetch what is leased to this remote, which is tried with one block at a time.
    pub(super) fn on_snub(&mut self) {
        let mut runs = Vec::new();
        for block in self.download.withdraw(|_| true) {
            self.send_cancel(block);
            BlockRun::push(&mut runs, block);
        }
        runs.extend(self.download.drop_reserve(|_| false));
        // A choking remote owes us rejects, not blocks.
        if !self.remote_chokes {
            self.snubbed = true;
            self.window.on_snubbed();
            self.report();
        }
        self.wished = 0;
        self.give_back(runs, ReturnReason::TimedOut);
    }

    /// The remote answers others, but not its oldest request.
    pub(super) fn on_overdue(&mut self) {
        if let Some(block) = self.download.withdraw_oldest() {
            self.send_cancel(block);
            self.give_back(vec![BlockRun::one(block)], ReturnReason::TimedOut);
        }
    }

    pub(super) fn on_request(&mut self, request: Request) {
        if !self.is_possible(request) {
            self.count_bad_request();
            return self.reject_or_refuse(request, "it asked for bytes that no piece has");
        }
        if !self.ours.contains(request.piece) {
            self.count_bad_request();
            return self.reject_or_refuse(request, "it asked for a piece we do not have");
        }
        if self.we_choke && !self.grant_fast(request) {
            return self.on_choked_request(request);
        }
        if !self.upload.queue(request) {
            // Without the fast extension it cannot be told; it asks again for what does not come.
            self.count_bad_request();
            self.send_reject(request);
        }
    }

    /// Any part of a piece that exists, up to [`MAX_REQUEST_LENGTH`]: requests need not name whole blocks. Where v2 is spoken
    /// the last block of a short piece may be asked for with the padding behind it, as libtorrent 2.0 does.
    fn is_possible(&self, request: Request) -> bool {
        let there = self.layout.length_of(request.piece);
        let most = if self.negotiated.v2 {
            let padded = there.next_multiple_of(BLOCK_LENGTH);
            padded.min(self.layout.piece_length())
        } else {
            there
        };
        let end = request.begin.checked_add(request.length);
        (1..=MAX_REQUEST_LENGTH).contains(&request.length)
            && request.begin < there
            && end.is_some_and(|end| end <= most)
    }

    /// Whether a choked remote gets this after all: a piece of its allowed fast set, once, while it has next to nothing.
    fn grant_fast(&mut self, request: Request) -> bool {
        let theirs = self.theirs.as_ref().map_or(0, super::Pieces::count) as usize;
        let granted = self.granted_fast.contains(&request.piece)
            && theirs <= self.granted_fast.len()
            && self.fast_budget_bytes >= u64::from(request.length);
        if granted {
            self.fast_budget_bytes -= u64::from(request.length);
        }
        granted
    }

    /// Requests that crossed our choke are harmless, up to what the remote can have queued.
    fn on_choked_request(&mut self, request: Request) {
        self.choked_requests += 1;
        if self.choked_requests > MAX_QUEUED_REQUESTS {
            return self.refuse("it keeps asking while it is choked");
        }
        self.send_reject(request);
    }

    fn reject_or_refuse(&mut self, request: Request, why: &'static str) {
        if self.negotiated.fast {
            self.send_reject(request);
        } else {
            self.refuse(why);
        }
    }

    /// Without the fast extension there is no such message, and silence has to do.
    fn send_reject(&mut self, request: Request) {
        if self.negotiated.fast && !self.closed {
            self.send(Message::Reject(request));
        }
    }

    /// BEP 6: a cancelled request is answered too, by the block where it has begun.
    pub(super) fn on_cancel(&mut self, request: Request) {
        if self.upload.cancel(request) {
            self.send_reject(request);
        } else if self.upload.has_in_flight(request) {
            self.outputs.push_back(Output::CancelUpload(request));
        }
    }

    fn start_uploads(&mut self) {
        let rate = self.upload_rate.rate(self.now);
        if !self.upload.is_under_way() {
            self.last_upload = self.now;
        }
        while let Some(request) = self.upload.start(rate) {
            self.outputs.push_back(Output::Upload(request));
        }
    }

    pub(super) fn on_uploaded(&mut self, request: Request, sent: bool) {
        if !self.upload.finish(request) {
            return;
        }
        self.last_upload = self.now;
        if !sent {
            return self.send_reject(request);
        }
        self.last_sent = self.now;
        self.uploaded_bytes += u64::from(request.length);
        self.upload_rate.add(self.now, u64::from(request.length));
        self.report_soon();
    }

    pub(super) fn set_choke(&mut self, choke: bool) {
        if self.we_choke == choke {
            return;
        }
        self.we_choke = choke;
        self.choked_requests = 0;
        if !choke {
            return self.send(Message::Unchoke);
        }
        self.send(Message::Choke);
        let granted = self.granted_fast.clone();
        self.take_back(|piece| !granted.contains(&piece));
    }

    pub(super) fn on_our_loss(&mut self, piece: PieceIndex) {
        if !self.ours.remove(piece) {
            return;
        }
        if self.remote_extensions.id(Extension::DontHave).is_some() {
            self.send(Message::DontHave(piece));
        }
        self.take_back(|other| other == piece);
    }

    /// Rejects what waits of these pieces, and takes back what the driver has not begun to send.
    fn take_back(&mut self, which: impl Fn(PieceIndex) -> bool) {
        for request in self.upload.flush(|request| which(request.piece)) {
            self.send_reject(request);
        }
        for request in self.upload.in_flight() {
            if which(request.piece) {
                self.outputs.push_back(Output::CancelUpload(request));
            }
        }
    }
}

fn wire_name(block: Block, length: u32) -> Request {
    Request {
        piece: block.piece,
        begin: block.block.offset(),
        length,
    }
}
