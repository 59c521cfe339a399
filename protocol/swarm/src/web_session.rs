//! An HTTP origin that has the torrent's bytes (BEP 19, BEP 17), as a peer of its torrent: it has everything, it leases blocks,
//! and it delivers them.
//!
//! It decides which ranges are asked for, how many at once, and what follows from what the origin does; whoever drives it
//! makes the requests and moves the bytes.
//!
//! Invariant: at most [`MAX_FETCHES`] fetches are under way and at most the window's bytes asked for; a block is stored only
//! while it is leased, and every lease comes back once.

mod fetching;
mod plan;
mod reply;
#[cfg(test)]
mod tests;
mod trouble;

pub use plan::{FileKind, Part, WebFile};
pub use reply::{Failure, ReplyHead, content_range, judge};

use crate::message::{CloseReason, FromPeer, Has, Report, ReturnReason, ToPeer};
use crate::window::Window;
use core::time::Duration;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::{Bitfield, Block, BlockRun, FileIndex, Layout};
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
const MAX_BAD_FILES: usize = 3;

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
    bad_files: BTreeSet<FileIndex>,
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
            bad_files: BTreeSet::new(),
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
            | ToPeer::UploadOnly(_)
            | ToPeer::Contacts(_)
            | ToPeer::HolePunch(_) => {}
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
