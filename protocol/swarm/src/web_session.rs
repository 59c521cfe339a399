//! An HTTP origin that has the torrent's bytes (BEP 19, BEP 17), as a peer of its torrent: it has everything, it leases blocks,
//! and it delivers them.
//!
//! It decides which ranges are asked for, how many at once, and what follows from what the origin does; whoever drives it
//! makes the requests and moves the bytes.
//!
//! Invariant: at most [`MAX_FETCHES`] fetches are under way and at most the window's bytes asked for; a block is stored only
//! while it is leased, and every lease comes back once.

mod plan;
mod reply;
#[cfg(test)]
mod tests;

pub use plan::{FileKind, Part, WebFile};
pub use reply::{Failure, ReplyHead, content_range, judge};

use crate::message::{Blame, CloseReason, FromPeer, Has, Report, ReturnReason, ToPeer};
use crate::window::Window;
use core::time::Duration;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::{Bitfield, Block, BlockIndex, BlockRun, FileIndex, Layout, PieceIndex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Fetches at once from one origin: enough to hide a round trip between requests, few enough for any server's taste.
pub const MAX_FETCHES: usize = 4;

/// An origin from which no byte came for so long while we would have read it has stalled. For whoever makes the requests.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that one fetch may take: where files are small, it covers fewer blocks.
const MAX_PARTS: usize = 32;

/// The wait after the first failure; it doubles with each that follows, until a block comes.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// ... up to this.
const MAX_PAUSE: Duration = Duration::from_secs(10 * 60);

/// The longest wait that an origin is granted. Whoever asks for more is asked again all the same.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// So many replies in a row that break HTTP, without a block between them, and the origin is left alone.
const MAX_MISBEHAVIOUR: u32 = 5;

/// An origin whose bytes were wrong in so many files is left alone.
const MAX_BAD_FILES: u32 = 3;

/// A request for less is hardly worth its head.
const MIN_FETCH_BLOCKS: usize = 2;

/// A fetch of which nobody wants the rest is read to its end where that is so many blocks: less than a new connection costs.
const CHEAP_REST_BLOCKS: usize = 4;

/// Received blocks wait so long for company before the torrent hears of them,
const FLUSH: Duration = Duration::from_millis(5);

/// ... or until they are so many.
const FLUSH_BLOCKS: u32 = 16;

/// How often moving bytes are reported.
const REPORT: Duration = Duration::from_secs(1);

/// What the window may be, as HTTP has no queue of requests.
const NO_BOUND: u32 = u32::MAX;

/// How the origin is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By file and range (BEP 19).
    Files,
    /// By piece and range, of a script (BEP 17).
    Script,
}

/// One fetch of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// Blocks to be fetched with a request for each part, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Names it.
    pub id: FetchId,
    /// The blocks, each behind the other.
    pub runs: Vec<BlockRun>,
    /// What they consist of.
    pub parts: Vec<Part>,
}

/// What can happen to a web session.
#[derive(Clone, Debug)]
pub enum Input {
    /// What the torrent says.
    Torrent(ToPeer),
    /// The bytes of the next block of a fetch have come. `Output::Store` or `Output::Discard` answers.
    Block {
        /// Which fetch.
        fetch: FetchId,
        /// The block.
        block: Block,
    },
    /// The bytes of a block have been handed to storage, as `Output::Store` said.
    BlockStored(Block),
    /// In place of it: storage had the block already, and has forgotten these bytes.
    BlockKnown(Block),
    /// A fetch is over: all its blocks have come, or something went wrong with one of its parts.
    Ended {
        /// Which fetch.
        fetch: FetchId,
        /// Why it ended early, and at which file.
        failure: Option<(Failure, Option<FileIndex>)>,
    },
    /// A deadline passed.
    Tick,
}

/// What a web session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Fetch this; say `Input::Block` for each block and `Input::Ended` once.
    Fetch(Fetch),
    /// End this fetch. Nothing more is to be said of it.
    Cancel(FetchId),
    /// Hand the block to storage and say which of `BlockStored` and `BlockKnown` it was.
    Store(Block),
    /// Forget the block. It is counted as wasted.
    Discard(Block),
    /// Tell the torrent.
    Torrent(FromPeer),
    /// It is over; nothing follows. End all fetches.
    Close(CloseReason),
}

/// What a web session is made of.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// How the torrent is cut.
    pub layout: Arc<Layout>,
    /// Its files, in their order.
    pub files: Arc<[WebFile]>,
    /// How the origin is asked.
    pub form: Form,
    /// Decides how pauses differ from those of others.
    pub seed: u64,
}

/// A fetch under way.
#[derive(Debug, Default)]
struct Active {
    /// Leased blocks that have not come.
    left: BTreeSet<Block>,
    /// Blocks that have not come, whether anybody wants them or not.
    to_come: usize,
}

/// See the module.
#[derive(Debug)]
pub struct WebSession {
    layout: Arc<Layout>,
    files: Arc<[WebFile]>,
    form: Form,
    rng: fastrand::Rng,
    now: Moment,
    outputs: VecDeque<Output>,
    closed: bool,

    interested: bool,
    /// What it has, once that is not everything.
    has: Option<Bitfield>,
    bad_files: u32,
    window: Window,
    /// Leased and not asked for.
    reserve: BTreeSet<Block>,
    fetches: BTreeMap<FetchId, Active>,
    next_fetch: u64,
    /// Came, and storage has not said what it is.
    storing: BTreeSet<Block>,
    /// Blocks that the torrent was asked for and has not leased.
    wished: u32,
    /// It has delivered: several fetches at once make sense.
    proved: bool,
    /// Failures, and among them replies that break HTTP, since a block came.
    failures: u32,
    misbehaved: u32,
    /// Not asked before.
    paused_until: Option<Moment>,

    received: Vec<BlockRun>,
    received_blocks: u32,
    flush_at: Option<Moment>,
    downloaded_bytes: u64,
    report_at: Option<Moment>,
}

impl WebSession {
    /// A session that has asked for nothing. It has something to say at once: poll it.
    #[must_use]
    pub fn new(config: WebConfig, now: Moment) -> Self {
        let mut session = WebSession {
            layout: config.layout,
            files: config.files,
            form: config.form,
            rng: fastrand::Rng::with_seed(config.seed),
            now,
            outputs: VecDeque::new(),
            closed: false,
            interested: false,
            has: None,
            bad_files: 0,
            window: Window::new(Some(NO_BOUND)),
            reserve: BTreeSet::new(),
            fetches: BTreeMap::new(),
            next_fetch: 0,
            storing: BTreeSet::new(),
            wished: 0,
            proved: false,
            failures: 0,
            misbehaved: 0,
            paused_until: None,
            received: Vec::new(),
            received_blocks: 0,
            flush_at: None,
            downloaded_bytes: 0,
            report_at: None,
        };
        if session.form == Form::Files {
            session.leave_out_unnamed();
        }
        let has = session.has.clone().map_or(Has::All, Has::from_bitfield);
        session.tell(FromPeer::Joined { has, fast: false });
        session.tell(FromPeer::Choking(false));
        session
    }

    /// Whether it has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Until when the origin is not asked, where it failed or wished it so.
    #[must_use]
    pub const fn paused_until(&self) -> Option<Moment> {
        self.paused_until
    }

    fn tell(&mut self, message: FromPeer) {
        self.outputs.push_back(Output::Torrent(message));
    }

    fn give_back(&mut self, runs: Vec<BlockRun>, reason: ReturnReason) {
        if !runs.is_empty() {
            self.tell(FromPeer::Returned { runs, reason });
        }
    }

    /// What no URL can name is not there.
    fn leave_out_unnamed(&mut self) {
        let files = Arc::clone(&self.files);
        for file in files.iter().filter(|file| file.kind == FileKind::Unnamed) {
            self.leave_out(file);
        }
    }

    /// The pieces with bytes of this file cannot be had here.
    fn leave_out(&mut self, file: &WebFile) {
        let (layout, length) = (&self.layout, u64::from(self.layout.piece_length()));
        let has = self
            .has
            .get_or_insert_with(|| Bitfield::full(layout.piece_count()));
        for piece in file.range.start / length..file.range.end.div_ceil(length) {
            if let Ok(piece) = u32::try_from(piece) {
                has.remove(PieceIndex(piece));
            }
        }
    }

    fn serves(&self, piece: PieceIndex) -> bool {
        self.has.as_ref().is_none_or(|has| has.get(piece))
    }

    /// What follows from any change: fetches up to the window, a wish for more leases.
    fn pump(&mut self) {
        if self.closed {
            return;
        }
        self.start_fetches();
        self.wish();
        if self.received_blocks >= FLUSH_BLOCKS
            || (self.outstanding() == 0 && self.storing.is_empty())
        {
            self.flush();
        }
    }

    /// Leased blocks that are asked for and have not come.
    fn outstanding(&self) -> usize {
        self.fetches.values().map(|fetch| fetch.left.len()).sum()
    }

    /// Fetches are of a quarter to half a window: fewer requests than blocks, and none that outlives the next decision by much.
    fn start_fetches(&mut self) {
        let target = self.window.target_blocks() as usize;
        let most = if self.proved { MAX_FETCHES } else { 1 };
        while self.paused_until.is_none() && self.fetches.len() < most && !self.reserve.is_empty() {
            let outstanding = self.outstanding();
            let room = target.saturating_sub(outstanding);
            if room < target.div_ceil(MAX_FETCHES) && outstanding > 0 {
                return;
            }
            let half = target.div_ceil(2).max(MIN_FETCH_BLOCKS);
            self.fetch(room.clamp(1, half));
        }
    }

    /// Asks for the first run of the reserve, of at most so many blocks.
    fn fetch(&mut self, blocks: usize) {
        let (mut runs, mut count) = (Vec::new(), 0);
        let mut last: Option<Block> = None;
        for &block in self.reserve.iter().take(blocks) {
            if last.is_some_and(|last| !follows(&self.layout, last, block)) {
                break;
            }
            BlockRun::push(&mut runs, block);
            last = Some(block);
            count += 1;
        }
        let mut parts = self.parts(&runs);
        while parts.len() > MAX_PARTS && count > 1 {
            count /= 2;
            runs = Vec::new();
            for &block in self.reserve.iter().take(count) {
                BlockRun::push(&mut runs, block);
            }
            parts = self.parts(&runs);
        }
        let left: BTreeSet<Block> = runs.iter().flat_map(|run| run.blocks()).collect();
        self.reserve.retain(|block| !left.contains(block));
        self.next_fetch += 1;
        let id = FetchId(self.next_fetch);
        let to_come = left.len();
        self.fetches.insert(id, Active { left, to_come });
        self.outputs
            .push_back(Output::Fetch(Fetch { id, runs, parts }));
    }

    fn parts(&self, runs: &[BlockRun]) -> Vec<Part> {
        match self.form {
            Form::Files => plan::of_files(&self.layout, &self.files, runs),
            Form::Script => plan::of_pieces(&self.layout, runs),
        }
    }

    /// Asks for leases as a peer session does: when less than half a window is in reserve, for as many as fill the window and
    /// three quarters of another.
    fn wish(&mut self) {
        let window = self.window.target_blocks();
        let reserve = u32::try_from(self.reserve.len()).unwrap_or(u32::MAX);
        if !self.interested || self.paused_until.is_some() || reserve >= window.div_ceil(2) {
            return;
        }
        let outstanding = u32::try_from(self.outstanding()).unwrap_or(u32::MAX);
        let held = outstanding.saturating_add(reserve);
        let missing = (window + (window * 3).div_ceil(4)).saturating_sub(held);
        if missing > 0 && (self.wished == 0 || missing >= self.wished.saturating_mul(2)) {
            self.wished = missing;
            self.tell(FromPeer::Want {
                blocks: missing,
                rate_bytes_per_s: self.window.rate_bytes_per_s(self.now),
            });
        }
    }

    fn on_torrent(&mut self, message: ToPeer) {
        match message {
            ToPeer::Lease(runs) => self.on_lease(&runs),
            ToPeer::Revoke(runs) => self.on_revoke(&runs),
            ToPeer::Interested(interested) => {
                self.interested = interested;
                self.wished = 0;
            }
            ToPeer::Blamed { piece, blame } => self.on_blamed(piece, blame),
            ToPeer::Close(reason) => self.close(reason),
            // An origin hears nothing of what we have and does.
            ToPeer::Have(_)
            | ToPeer::Lost(_)
            | ToPeer::Suggest(_)
            | ToPeer::Choke(_)
            | ToPeer::UploadOnly(_) => {}
        }
    }

    fn on_lease(&mut self, runs: &[BlockRun]) {
        let mut useless = Vec::new();
        for block in runs.iter().flat_map(|run| run.blocks()) {
            self.wished = self.wished.saturating_sub(1);
            if self.paused_until.is_some() || !self.serves(block.piece) {
                BlockRun::push(&mut useless, block);
            } else {
                self.reserve.insert(block);
            }
        }
        self.give_back(useless, ReturnReason::Choked);
    }

    fn on_revoke(&mut self, runs: &[BlockRun]) {
        let revoked: BTreeSet<Block> = runs.iter().flat_map(|run| run.blocks()).collect();
        self.take_back(|block| revoked.contains(&block), ReturnReason::Cancelled);
    }

    /// Gives back what has not come of these, and ends the fetches of which nothing else is wanted.
    fn take_back(&mut self, which: impl Fn(Block) -> bool, reason: ReturnReason) {
        let mut runs = Vec::new();
        let mut take = |blocks: &mut BTreeSet<Block>| {
            blocks.retain(|&block| {
                let taken = which(block);
                if taken {
                    BlockRun::push(&mut runs, block);
                }
                !taken
            });
        };
        take(&mut self.reserve);
        let mut idle = Vec::new();
        for (&id, fetch) in &mut self.fetches {
            let before = fetch.left.len();
            take(&mut fetch.left);
            let useless = fetch.left.is_empty() && fetch.left.len() < before;
            if useless && fetch.to_come > CHEAP_REST_BLOCKS {
                idle.push(id);
            }
        }
        for id in idle {
            self.fetches.remove(&id);
            self.outputs.push_back(Output::Cancel(id));
        }
        self.give_back(runs, reason);
    }

    fn on_block(&mut self, id: FetchId, block: Block) {
        let Some(fetch) = self.fetches.get_mut(&id) else {
            return self.outputs.push_back(Output::Discard(block));
        };
        fetch.to_come = fetch.to_come.saturating_sub(1);
        if fetch.left.remove(&block) {
            self.storing.insert(block);
            self.outputs.push_back(Output::Store(block));
        } else {
            self.outputs.push_back(Output::Discard(block));
        }
    }

    fn on_stored(&mut self, block: Block, known: bool) {
        if !self.storing.remove(&block) {
            return;
        }
        let length = self.layout.block_length(block);
        self.window.on_received(self.now, length);
        self.downloaded_bytes += u64::from(length);
        self.proved = true;
        (self.failures, self.misbehaved) = (0, 0);
        self.report_at.get_or_insert(self.now + REPORT);
        if known {
            return self.give_back(vec![BlockRun::one(block)], ReturnReason::Duplicate);
        }
        BlockRun::push(&mut self.received, block);
        self.received_blocks += 1;
        self.flush_at.get_or_insert(self.now + FLUSH);
        // The last block of a piece may be the one that verification waits for.
        if block.block.0 + 1 == self.layout.block_count(block.piece) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.flush_at = None;
        self.received_blocks = 0;
        let received = core::mem::take(&mut self.received);
        if !received.is_empty() {
            self.tell(FromPeer::Received(received));
        }
    }

    fn on_ended(&mut self, id: FetchId, failure: Option<(Failure, Option<FileIndex>)>) {
        let Some(fetch) = self.fetches.remove(&id) else {
            return;
        };
        self.reserve.extend(fetch.left);
        match failure {
            None => {}
            Some((Failure::Missing(why), Some(file))) => self.lose_file(file, why),
            Some((Failure::NoRanges, Some(file))) => {
                self.lose_file(file, "it does not serve ranges");
            }
            Some((Failure::Forbidden, _)) => {
                self.close(CloseReason::Protocol("it may not be asked"));
            }
            Some((failure, _)) => self.on_failure(&failure),
        }
    }

    fn on_failure(&mut self, failure: &Failure) {
        self.failures += 1;
        self.window.on_snubbed();
        if let Failure::Misbehaved(what) = failure {
            self.misbehaved += 1;
            if self.misbehaved >= MAX_MISBEHAVIOUR {
                return self.close(CloseReason::Protocol(what));
            }
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16));
        // So that those who failed together do not come back together.
        let own = doubled.min(MAX_PAUSE).mul_f64(0.75 + 0.5 * self.rng.f64());
        let asked = match failure {
            Failure::Busy { retry_after } => retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
            _ => Duration::ZERO,
        };
        self.pause(own.max(asked));
    }

    fn pause(&mut self, time: Duration) {
        let until = self.now + time;
        if self.paused_until.is_none() {
            self.tell(FromPeer::Choking(true));
        }
        self.paused_until = self.paused_until.max(Some(until));
        self.wished = 0;
        let reserve = core::mem::take(&mut self.reserve);
        let mut runs = Vec::new();
        reserve
            .into_iter()
            .for_each(|block| BlockRun::push(&mut runs, block));
        self.give_back(runs, ReturnReason::Choked);
    }

    /// The origin does not have this file as the torrent has it.
    fn lose_file(&mut self, file: FileIndex, why: &'static str) {
        let files = Arc::clone(&self.files);
        let Some(file) = files.get(file.get()) else {
            return;
        };
        self.leave_out(file);
        if self.has.as_ref().is_some_and(Bitfield::is_clear) {
            return self.close(CloseReason::Protocol(why));
        }
        self.tell_has();
    }

    /// Says what is left of what it has, and gives back what is not among it.
    fn tell_has(&mut self) {
        let Some(has) = self.has.clone() else { return };
        self.tell(FromPeer::HasOnly(Has::from_bitfield(has.clone())));
        self.take_back(|block| !has.get(block.piece), ReturnReason::Rejected);
    }

    /// It sent bad data. Where the piece is of one file, that file may be an older one, and the others right.
    fn on_blamed(&mut self, piece: PieceIndex, blame: Blame) {
        let (files, range) = (Arc::clone(&self.files), self.layout.range_of(piece));
        let content = plan::overlapping(&files, range)
            .map(|(file, _)| file)
            .filter(|file| files[file.get()].kind != FileKind::Padding);
        let content: Vec<FileIndex> = content.collect();
        self.bad_files += 1;
        let lies = CloseReason::Banned(blame);
        match content[..] {
            [file] if self.form == Form::Files && self.bad_files < MAX_BAD_FILES => {
                self.leave_out(&files[file.get()]);
                if self.has.as_ref().is_some_and(Bitfield::is_clear) {
                    return self.close(lies);
                }
                self.tell_has();
            }
            _ => self.close(lies),
        }
    }

    /// Gives everything back, says good-bye, and is deaf from then on.
    fn close(&mut self, reason: CloseReason) {
        if self.closed {
            return;
        }
        self.flush();
        let mut leases = core::mem::take(&mut self.reserve);
        leases.append(&mut self.storing);
        for (id, mut fetch) in core::mem::take(&mut self.fetches) {
            leases.append(&mut fetch.left);
            self.outputs.push_back(Output::Cancel(id));
        }
        let mut runs = Vec::new();
        for block in leases {
            BlockRun::push(&mut runs, block);
        }
        self.give_back(runs, ReturnReason::Closed);
        self.report();
        self.tell(FromPeer::Left(reason.clone()));
        self.outputs.push_back(Output::Close(reason));
        self.closed = true;
        (self.flush_at, self.report_at, self.paused_until) = (None, None, None);
    }

    fn report(&mut self) {
        let download_rate = self.window.rate_bytes_per_s(self.now);
        self.report_at = (download_rate > 0).then_some(self.now + REPORT);
        self.tell(FromPeer::Report(Report {
            downloaded_bytes: self.downloaded_bytes,
            download_rate,
            ..Report::default()
        }));
    }

    fn on_tick(&mut self) {
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= self.now);
        let (resumes, flushes, reports) = (
            due(self.paused_until),
            due(self.flush_at),
            due(self.report_at),
        );
        if resumes {
            self.paused_until = None;
            self.wished = 0;
            self.tell(FromPeer::Choking(false));
        }
        if flushes {
            self.flush();
        }
        if reports {
            self.report();
        }
    }
}

/// Whether `block` comes right after `last`.
fn follows(layout: &Layout, last: Block, block: Block) -> bool {
    let within = last.piece == block.piece && last.block.0 + 1 == block.block.0;
    let ends = last.block.0 + 1 == layout.block_count(last.piece);
    let next = last.piece.0 + 1 == block.piece.0 && block.block == BlockIndex(0);
    within || (ends && next)
}

impl Machine for WebSession {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        self.now = self.now.max(now);
        if self.closed {
            return;
        }
        match input {
            Input::Torrent(message) => self.on_torrent(message),
            Input::Block { fetch, block } => self.on_block(fetch, block),
            Input::BlockStored(block) => self.on_stored(block, false),
            Input::BlockKnown(block) => self.on_stored(block, true),
            Input::Ended { fetch, failure } => self.on_ended(fetch, failure),
            Input::Tick => self.on_tick(),
        }
        self.pump();
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        earliest(self.paused_until, earliest(self.flush_at, self.report_at))
    }
}
