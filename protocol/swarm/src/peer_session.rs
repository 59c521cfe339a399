//! One connection after its handshake.
//!
//! Invariant: at most the request window's bytes and the remote's `reqq` requests are outstanding; every block that arrives
//! was requested, or the connection ends.

mod download;
pub(crate) mod exchange;
mod hole_punch;
mod incoming;
mod remote;
#[cfg(test)]
mod tests;
mod timers;
mod transfer;
mod upload;

pub(crate) use remote::Pieces;
pub use upload::MAX_QUEUED_REQUESTS;

use crate::message::{CloseReason, FromPeer, Has, Report, ReturnReason, ToPeer};
use crate::metadata::MetadataOffer;
use crate::rate::Meter;
use crate::window::Window;
use bytes::Bytes;
use core::net::IpAddr;
use core::time::Duration;
use download::Download;
use shoal_machine::{Machine, Moment};
use shoal_metainfo::{BLOCK_LENGTH, Bitfield, Block, BlockRun, Layout, PieceIndex};
use shoal_wire::{
    BlockHeader, ExtendedHandshake, Extension, HashRequest, Hashes, Message, RemoteExtensions,
    Request,
};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use timers::{Timer, Timers};
use upload::Upload;

/// What can happen to a peer session.
#[derive(Clone, Debug)]
pub enum Input {
    /// The remote said this. A `Message::Piece` is a block's header, before its bytes have come.
    Message(Message),
    /// The bytes of the block announced by the last `Message::Piece` have been handed to storage.
    BlockStored(Block),
    /// In place of `BlockStored`: storage had this block already, from another peer, and has forgotten these bytes.
    BlockKnown(Block),
    /// The bytes of an `Upload` have left; `false` where they could not be read or the upload was taken back before it began,
    /// so that the remote gets a reject. Every `Upload` is answered once.
    Uploaded {
        /// What was asked.
        request: Request,
        /// Whether it was sent.
        sent: bool,
    },
    /// What the torrent says.
    Torrent(ToPeer),
    /// Answer to `Output::ServeHashes`; `None` rejects.
    HashesServed {
        /// What was asked.
        request: HashRequest,
        /// The hashes.
        hashes: Option<Hashes>,
    },
    /// Storage has no room, so that we do not read the socket (true), or it has room again. While we are the bottleneck, the
    /// remote is not snubbing us.
    Backpressure(bool),
    /// The socket is closed or broken.
    Disconnected,
    /// A deadline passed.
    Tick,
}

/// What a peer session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this, after what was asked to be sent before.
    Send(Message),
    /// Answer to `Message::Piece`: put the bytes that follow into a slot leased from storage for this block, then say
    /// `Input::BlockStored`.
    Store(Block),
    /// Answer to `Message::Piece`: read the bytes that follow and forget them. They are counted as wasted.
    Discard(BlockHeader),
    /// Send this part of a piece we have, then say `Input::Uploaded`.
    Upload(Request),
    /// Take back an `Upload` if it has not begun: the remote cancelled it, we choked the remote, or we lost the piece.
    /// `Input::Uploaded` still follows.
    CancelUpload(Request),
    /// Find these hashes and say `Input::HashesServed`.
    ServeHashes(HashRequest),
    /// Tell the torrent.
    Torrent(FromPeer),
    /// Close the socket; nothing follows.
    Close(CloseReason),
}

/// What the handshake settled.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// Both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Both sides speak the extension protocol (BEP 10).
    pub extended: bool,
    /// The connection is in the v2 swarm or was upgraded to it (BEP 52): hash messages are allowed.
    pub v2: bool,
    /// What we have at the start.
    pub ours: Has,
}

/// What we tell the remote of ourselves, and what we allow it.
#[derive(Clone, Debug, Default)]
pub struct PeerSettings {
    /// The port we listen on, where we do.
    pub port: Option<u16>,
    /// The remote's address as we see it, which it is told.
    pub your_ip: Option<IpAddr>,
    /// It is not told which program we are.
    pub anonymous: bool,
    /// We will not download (BEP 21), as of the start.
    pub upload_only: bool,
    /// The pieces that the remote may fetch while choked (BEP 6): `shoal_wire::allowed_fast_set`, or none.
    pub allowed_fast: Vec<PieceIndex>,
    /// Peers are told of each other (BEP 11): not in private torrents, and not where we keep to ourselves.
    pub exchange: bool,
    /// We can be brought together with peers over uTP, and bring others together (BEP 55), where they are told of each other at all.
    pub punches: bool,
    /// The info dictionary, which is served to whoever asks (BEP 9).
    pub info: Bytes,
    /// The connection is older than the session: what we have is told piece by piece, as nothing was said of it when that could still
    /// be said at once.
    pub introduced: bool,
}

/// What we call ourselves in the extension handshake.
pub(crate) const CLIENT: &str = concat!("Shoal ", env!("CARGO_PKG_VERSION"));

/// The name under which `upload_only` messages are known (libtorrent's extension), and the id we want them under: one that
/// no [`Extension`] has.
pub(crate) const UPLOAD_ONLY: (&str, u8) = ("upload_only", 4);

/// The most requests we ever have outstanding at one remote: what the window allows.
const MAX_OUTSTANDING: u32 = crate::window::MAX_BYTES / BLOCK_LENGTH;

/// The field's clients close a connection that was silent for two minutes, give or take (BEP 3).
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(110);

/// A remote that was silent for two keep-alives is gone.
pub(crate) const IDLE: Duration = Duration::from_secs(240);

/// A remote that took none of the blocks it asked for during two keep-alives has stopped reading, whatever it says meanwhile: it
/// must not keep its slot. An honest one that reads 2 KiB a second needs half of this time to make room in a full socket.
const STALLED: Duration = Duration::from_secs(240);

/// A remote that has anything says so right after the handshake.
const STATEMENT: Duration = Duration::from_secs(20);

/// A remote from which no block came for so long snubs us, if it is not slow anyway.
const SNUB: Duration = Duration::from_secs(20);

/// ... and where it is slow: several times the usual time between blocks,
const SNUB_GAPS: u32 = 4;

/// ... but not for ever.
const MAX_PATIENCE: Duration = Duration::from_secs(120);

/// A request that others have overtaken for so long was lost by the remote.
const OVERDUE: Duration = Duration::from_secs(60);

/// How often moving bytes are reported.
const REPORT: Duration = Duration::from_secs(1);

/// Received blocks wait so long for company before the torrent hears of them.
const FLUSH: Duration = Duration::from_millis(5);

/// ... or until they are so many.
const FLUSH_BLOCKS: u32 = 16;

/// A remote that rejects requests although it unchoked us is left alone for so long.
const REJECT_PAUSE: Duration = Duration::from_secs(1);

/// Blocks on their way to the torrent, in batches.
#[derive(Clone, Debug, Default)]
struct Batch {
    runs: Vec<BlockRun>,
    blocks: u32,
}

impl Batch {
    fn push(&mut self, block: Block) {
        BlockRun::push(&mut self.runs, block);
        self.blocks += 1;
    }

    fn take(&mut self) -> Vec<BlockRun> {
        self.blocks = 0;
        core::mem::take(&mut self.runs)
    }
}

/// One connection of one torrent, from its handshake to its end.
///
/// The driver feeds it what the remote says and what the torrent says, and moves the payload that it names. Once it has
/// said [`Output::Close`], it ignores everything.
#[derive(Debug)]
pub struct PeerSession {
    layout: Arc<Layout>,
    negotiated: Negotiated,
    settings: PeerSettings,
    now: Moment,
    outputs: VecDeque<Output>,
    timers: Timers,
    closed: bool,
    last_heard: Moment,
    last_sent: Moment,
    backpressure: bool,
    /// When storage last made room.
    reading_since: Moment,

    /// What we have, as the remote may ask for it.
    ours: Pieces,
    /// What the remote has; `None` until it has said so, which is when the torrent hears of it first.
    theirs: Option<Pieces>,
    client: Option<String>,
    remote_extensions: RemoteExtensions,
    metadata: MetadataOffer,
    remote_upload_only: bool,
    /// It and we know how to punch holes.
    remote_punches: bool,
    /// Where the remote said first that it sees us.
    seen_at: Option<IpAddr>,

    we_choke: bool,
    we_are_interested: bool,
    remote_chokes: bool,
    remote_is_interested: bool,

    download: Download,
    window: Window,
    downloaded_bytes: u64,
    received: Batch,
    /// Pieces of which blocks came from the remote and that we were not said to have since.
    fetched: BTreeSet<PieceIndex>,
    rejected: Batch,
    /// Blocks that the torrent was asked for and has not leased.
    wished: u32,
    /// When a block last came, or was last first waited for.
    last_block: Moment,
    /// The time between blocks, smoothed.
    block_gap: Duration,
    snubbed: bool,
    allowed_fast: Vec<PieceIndex>,
    suggestions: u32,

    upload: Upload,
    /// When a block last left, or was last first waited to leave.
    last_upload: Moment,
    upload_rate: Meter,
    uploaded_bytes: u64,
    /// What the remote may still fetch while choked.
    fast_budget_bytes: u64,
    granted_fast: Vec<PieceIndex>,
    /// Requests that came while we choked the remote, since we last unchoked it.
    choked_requests: u32,
    /// Requests for what cannot be asked for.
    bad_requests: u32,
    hashes_in_flight: Vec<HashRequest>,
    hash_budget: incoming::HashBudget,
    exchange: exchange::Exchange,
}

impl PeerSession {
    /// A session whose handshake is done. It has something to say at once: poll it.
    #[must_use]
    pub fn new(
        layout: Arc<Layout>,
        negotiated: Negotiated,
        settings: PeerSettings,
        now: Moment,
    ) -> Self {
        let ours = match &negotiated.ours {
            Has::Some(field) => Has::from_bitfield(field.clone()),
            has => has.clone(),
        };
        let mut session = PeerSession {
            ours: Pieces::new(ours, layout.piece_count()),
            layout,
            negotiated,
            metadata: MetadataOffer::new(settings.info.clone(), now),
            settings,
            now,
            outputs: VecDeque::new(),
            timers: Timers::default(),
            closed: false,
            last_heard: now,
            last_sent: now,
            backpressure: false,
            reading_since: now,
            theirs: None,
            client: None,
            remote_extensions: RemoteExtensions::default(),
            remote_upload_only: false,
            remote_punches: false,
            seen_at: None,
            we_choke: true,
            we_are_interested: false,
            remote_chokes: true,
            remote_is_interested: false,
            download: Download::default(),
            window: Window::new(None),
            downloaded_bytes: 0,
            received: Batch::default(),
            fetched: BTreeSet::new(),
            rejected: Batch::default(),
            wished: 0,
            last_block: now,
            block_gap: Duration::ZERO,
            snubbed: false,
            allowed_fast: Vec::new(),
            suggestions: 0,
            upload: Upload::default(),
            last_upload: now,
            upload_rate: Meter::new(),
            uploaded_bytes: 0,
            fast_budget_bytes: 0,
            granted_fast: Vec::new(),
            choked_requests: 0,
            bad_requests: 0,
            hashes_in_flight: Vec::new(),
            hash_budget: incoming::HashBudget::new(now),
            exchange: exchange::Exchange::default(),
        };
        session.introduce();
        session.timers.set(Timer::Statement, now + STATEMENT);
        session.rearm();
        session
    }

    /// What the remote calls itself, where it said so.
    #[must_use]
    pub fn client(&self) -> Option<&str> {
        self.client.as_deref()
    }

    /// Whether the session has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The first things we say: what we have, as nothing may come before it, then who we are.
    fn introduce(&mut self) {
        let fast = self.negotiated.fast;
        let statement = match self.ours.has() {
            _ if self.settings.introduced => None,
            Has::All if fast => Some(Message::HaveAll),
            Has::All => Some(Message::Bitfield(
                Bitfield::full(self.layout.piece_count()).to_wire(),
            )),
            Has::None => fast.then_some(Message::HaveNone),
            Has::Some(field) => Some(Message::Bitfield(field.to_wire())),
        };
        if let Some(statement) = statement {
            self.send(statement);
        }
        self.send_extended_handshake();
        if self.settings.introduced {
            let ours = self
                .layout
                .pieces()
                .filter(|&piece| self.ours.contains(piece));
            for piece in ours.collect::<Vec<_>>() {
                self.send(Message::Have(piece));
            }
        }
    }

    fn send_extended_handshake(&mut self) {
        if !self.negotiated.extended {
            return;
        }
        let mut extensions = Extension::offer();
        if !self.settings.exchange {
            extensions.retain(|(name, _)| name != Extension::PeerExchange.name());
        }
        if !self.may_punch() {
            extensions.retain(|(name, _)| name != Extension::HolePunch.name());
        }
        extensions.push((UPLOAD_ONLY.0.to_owned(), UPLOAD_ONLY.1));
        self.send(Message::ExtendedHandshake(ExtendedHandshake {
            extensions,
            client: (!self.settings.anonymous).then(|| CLIENT.to_owned()),
            port: self.settings.port,
            reqq: Some(MAX_QUEUED_REQUESTS),
            upload_only: self.settings.upload_only,
            your_ip: self.settings.your_ip,
            metadata_size: self.metadata.total_bytes().filter(|&size| size > 0),
        }));
    }

    fn send(&mut self, message: Message) {
        self.last_sent = self.now;
        self.outputs.push_back(Output::Send(message));
    }

    fn tell(&mut self, message: FromPeer) {
        self.outputs.push_back(Output::Torrent(message));
    }

    fn give_back(&mut self, runs: Vec<BlockRun>, reason: ReturnReason) {
        if !runs.is_empty() {
            self.tell(FromPeer::Returned { runs, reason });
        }
    }

    /// Gives everything back, says good-bye, and is deaf from then on.
    fn close(&mut self, reason: CloseReason) {
        if self.closed {
            return;
        }
        self.flush();
        let leases = self.download.take_all();
        self.give_back(leases, ReturnReason::Closed);
        // What moved since the last report counts too, for a share ratio above all.
        self.report();
        self.tell(FromPeer::Left(reason.clone()));
        self.outputs.push_back(Output::Close(reason));
        self.closed = true;
        self.timers = Timers::default();
    }

    fn refuse(&mut self, what: &'static str) {
        self.close(CloseReason::Protocol(what));
    }

    fn on_torrent(&mut self, message: ToPeer) {
        match message {
            ToPeer::Lease(runs) => self.on_lease(runs),
            ToPeer::Revoke(runs) => self.on_revoke(&runs),
            ToPeer::Have(pieces) => self.on_our_pieces(&pieces),
            ToPeer::Lost(piece) => self.on_our_loss(piece),
            ToPeer::Suggest(piece) => {
                let wants = self.theirs.as_ref().is_none_or(|has| !has.contains(piece));
                if self.negotiated.fast && wants && self.ours.contains(piece) {
                    self.send(Message::Suggest(piece));
                }
            }
            ToPeer::Interested(interested) => self.set_interested(interested),
            ToPeer::Choke(choke) => self.set_choke(choke),
            ToPeer::UploadOnly(upload_only) => {
                if self.settings.upload_only != upload_only {
                    self.settings.upload_only = upload_only;
                    self.send_extended_handshake();
                }
            }
            ToPeer::Contacts(contacts) => self.on_contacts(contacts),
            ToPeer::HolePunch(message) => self.send_hole_punch(message),
            ToPeer::Blamed { blame, .. } => self.close(CloseReason::Banned(blame)),
            ToPeer::Close(reason) => self.close(reason),
        }
    }

    /// Tells the remote of new pieces, unless it has them: it could want none of them, and the messages would be half of
    /// all that a swarm in its middle age sends. That we need nothing any more, it learns by `upload_only`. A seed is told
    /// all the same: it has to know what it need not send again, and its owner sees how far its peers are. So is whoever a piece came from:
    /// it may be a super-seed (BEP 16), which does not look like a seed and waits for that before it shows more.
    fn on_our_pieces(&mut self, pieces: &[PieceIndex]) {
        for &piece in pieces {
            let known = self
                .theirs
                .as_ref()
                .is_some_and(|theirs| theirs.contains(piece) && !theirs.is_all());
            let fetched = self.fetched.remove(&piece);
            if self.ours.insert(piece) && (!known || fetched) {
                self.send(Message::Have(piece));
            }
        }
    }

    fn set_interested(&mut self, interested: bool) {
        if self.we_are_interested == interested {
            return;
        }
        self.we_are_interested = interested;
        self.wished = 0;
        self.send(if interested {
            Message::Interested
        } else {
            Message::NotInterested
        });
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::KeepAlive => self.send(Message::KeepAlive),
            Timer::Idle | Timer::Stalled => self.close(CloseReason::Idle),
            Timer::Statement => self.join(Has::None),
            Timer::Snub => self.on_snub(),
            Timer::Overdue => self.on_overdue(),
            Timer::Report => self.report(),
            Timer::Flush => self.flush(),
            Timer::Exchange => self.tell_contacts(),
            // The end of a handled input goes on requesting.
            Timer::Resume => {}
        }
    }

    /// Bytes moved: they are reported within a second.
    fn report_soon(&mut self) {
        if !self.timers.is_set(Timer::Report) {
            self.timers.set(Timer::Report, self.now + REPORT);
        }
    }

    /// Reports, and goes on doing so until both rates have fallen to zero.
    fn report(&mut self) {
        let report = Report {
            downloaded_bytes: self.downloaded_bytes,
            uploaded_bytes: self.uploaded_bytes,
            download_rate: self.window.rate_bytes_per_s(self.now),
            upload_rate: self.upload_rate.rate(self.now),
            snubbed: self.snubbed,
        };
        if report.download_rate > 0 || report.upload_rate > 0 {
            self.timers.set(Timer::Report, self.now + REPORT);
        }
        if self.theirs.is_some() {
            self.tell(FromPeer::Report(report));
        }
    }

    /// Sets the timers that follow from the state.
    fn rearm(&mut self) {
        if self.closed {
            return;
        }
        self.timers
            .set(Timer::KeepAlive, self.last_sent + KEEP_ALIVE);
        for timer in [Timer::Idle, Timer::Snub, Timer::Overdue, Timer::Stalled] {
            self.timers.stop(timer);
        }
        if self.upload.is_under_way() {
            self.timers.set(Timer::Stalled, self.last_upload + STALLED);
        }
        // While we do not read, the remote's silence is our own doing.
        if self.backpressure {
            return;
        }
        self.timers.set(Timer::Idle, self.last_heard + IDLE);
        if let Some(oldest) = self.download.oldest() {
            self.timers
                .set(Timer::Snub, self.last_block + self.patience());
            let since = oldest.max(self.reading_since);
            self.timers
                .set(Timer::Overdue, since + OVERDUE.max(2 * self.patience()));
        }
    }
}

impl Machine for PeerSession {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        if self.closed {
            return;
        }
        self.now = self.now.max(now);
        match input {
            Input::Message(message) => {
                self.last_heard = self.now;
                self.on_message(message);
            }
            Input::BlockStored(block) => {
                self.last_heard = self.now;
                self.on_stored(block);
            }
            Input::BlockKnown(block) => {
                self.last_heard = self.now;
                self.on_known(block);
            }
            Input::Uploaded { request, sent } => self.on_uploaded(request, sent),
            Input::Torrent(message) => self.on_torrent(message),
            Input::HashesServed { request, hashes } => self.on_hashes_served(request, hashes),
            Input::Backpressure(on) => {
                self.backpressure = on;
                self.reading_since = self.now;
                (self.last_heard, self.last_block) = (self.now, self.now);
            }
            Input::Disconnected => self.close(CloseReason::Remote),
            Input::Tick => {
                while let Some(timer) = self.timers.expire(self.now) {
                    self.on_timer(timer);
                }
            }
        }
        if !self.closed {
            self.pump();
            self.rearm();
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        self.timers.next()
    }
}
