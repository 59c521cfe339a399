//! What a connection has promised to its torrent, its driver and its remote, followed from outside.
//!
//! Invariant: written from the rules, not from the code: it knows only what went in and what came out.

use crate::operations::Operations;
use shoal_metainfo::{BLOCK_LENGTH, Block, BlockRun, Layout, PieceIndex};
use shoal_swarm::peer_session::{MAX_QUEUED_REQUESTS, Negotiated, Output, PeerSettings};
use shoal_swarm::window::{DEFAULT_REQQ, MAX_BYTES};
use shoal_swarm::{FromPeer, Has, ToPeer};
use shoal_wire::{HashRequest, Message, Metadata, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most withdrawn requests whose answers are told from unsolicited ones: as many as a session remembers.
const MAX_WITHDRAWN: usize = 2 * (MAX_BYTES / BLOCK_LENGTH) as usize;

/// The most hash requests that a driver is given at a time.
const MAX_HASH_REQUESTS: usize = 16;

/// See the module.
pub(super) struct Watch {
    pub(super) layout: Arc<Layout>,
    pub(super) negotiated: Negotiated,
    settings: PeerSettings,
    /// The pieces that we have.
    ours: BTreeSet<PieceIndex>,
    said_anything: bool,
    pub(super) joined: bool,
    /// It said where it sees us.
    voted: bool,
    /// It and we know how to punch holes, as the torrent has heard.
    punches: bool,
    left: bool,
    pub(super) closed: bool,

    /// Blocks that the torrent has leased and that have not come back.
    pub(super) leased: BTreeSet<Block>,
    /// Requests that wait for an answer.
    pub(super) outstanding: Vec<Request>,
    /// The last requests that were taken back.
    pub(super) withdrawn: Vec<Request>,
    /// Blocks whose bytes are coming.
    arriving: Vec<Block>,
    /// Leased blocks whose bytes are stored.
    stored: BTreeSet<Block>,
    reqq: u32,
    remote_chokes: bool,
    allowed_fast: BTreeSet<PieceIndex>,
    interested: bool,
    remote_dont_have: bool,

    we_choke: bool,
    granted_fast: BTreeSet<PieceIndex>,
    /// How many answers the remote still gets for each of its requests.
    pub(super) owed: BTreeMap<Request, u32>,
    uploading: Vec<Request>,
    hashes: Vec<HashRequest>,
}

impl Watch {
    pub(super) fn new(layout: Arc<Layout>, negotiated: Negotiated, settings: PeerSettings) -> Self {
        let ours = match &negotiated.ours {
            Has::All => layout.pieces().collect(),
            Has::None => BTreeSet::new(),
            Has::Some(field) => field.iter().collect(),
        };
        Watch {
            layout,
            negotiated,
            settings,
            ours,
            said_anything: false,
            joined: false,
            voted: false,
            punches: false,
            left: false,
            closed: false,
            leased: BTreeSet::new(),
            outstanding: Vec::new(),
            withdrawn: Vec::new(),
            arriving: Vec::new(),
            stored: BTreeSet::new(),
            reqq: DEFAULT_REQQ,
            remote_chokes: true,
            allowed_fast: BTreeSet::new(),
            interested: false,
            remote_dont_have: false,
            we_choke: true,
            granted_fast: BTreeSet::new(),
            owed: BTreeMap::new(),
            uploading: Vec::new(),
            hashes: Vec::new(),
        }
    }

    /// How the wire names a block.
    pub(super) fn name(&self, block: Block) -> Request {
        Request {
            piece: block.piece,
            begin: block.block.offset(),
            length: self.layout.block_length(block),
        }
    }

    /// The torrent leases `block`; false where the session holds it already, or is gone.
    pub(super) fn lease(&mut self, block: Block) -> bool {
        !self.closed && self.leased.insert(block)
    }

    /// The bytes of a block have come, to be stored or, where it is `known`, to be given back.
    pub(super) fn take_arriving(
        &mut self,
        operations: &mut Operations<'_>,
        known: bool,
    ) -> Option<Block> {
        let block = operations.one_of(&self.arriving)?;
        self.arriving.retain(|&other| other != block);
        if !known {
            self.stored.insert(block);
        }
        Some(block)
    }

    pub(super) fn take_uploading(&mut self, operations: &mut Operations<'_>) -> Option<Request> {
        let request = operations.one_of(&self.uploading)?;
        let at = self.uploading.iter().position(|&other| other == request)?;
        Some(self.uploading.remove(at))
    }

    pub(super) fn is_uploading(&self, request: Request) -> bool {
        self.uploading.contains(&request)
    }

    pub(super) fn take_hashes(&mut self, operations: &mut Operations<'_>) -> Option<HashRequest> {
        let request = operations.one_of(&self.hashes)?;
        let at = self.hashes.iter().position(|&other| other == request)?;
        Some(self.hashes.remove(at))
    }

    /// The remote says something.
    pub(super) fn on_message(&mut self, message: &Message) {
        match message {
            _ if self.closed => {}
            Message::Choke => {
                self.remote_chokes = true;
                if !self.negotiated.fast {
                    self.withdraw(|_| true);
                }
            }
            Message::Unchoke => self.remote_chokes = false,
            Message::AllowedFast(piece) => {
                self.allowed_fast.insert(*piece);
            }
            Message::ExtendedHandshake(handshake) => {
                self.reqq = handshake.reqq.unwrap_or(self.reqq);
                let mut offered = handshake.extensions.iter();
                if let Some((_, id)) = offered.find(|(name, _)| name == "lt_donthave") {
                    self.remote_dont_have = *id != 0;
                }
            }
            Message::Request(request) => *self.owed.entry(*request).or_default() += 1,
            Message::Reject(request) if self.negotiated.fast => {
                // The answer to an earlier request that was taken back comes first.
                match self.withdrawn.iter().position(|other| other == request) {
                    Some(at) => drop(self.withdrawn.remove(at)),
                    None => self.outstanding.retain(|other| other != request),
                }
            }
            _ => {}
        }
    }

    fn withdraw(&mut self, which: impl Fn(&Request) -> bool) {
        let (taken, kept) = self.outstanding.iter().partition(|request| which(request));
        self.outstanding = kept;
        self.withdrawn.extend::<Vec<Request>>(taken);
        let excess = self.withdrawn.len().saturating_sub(MAX_WITHDRAWN);
        self.withdrawn.drain(..excess);
    }

    pub(super) fn on_torrent(&mut self, message: &ToPeer) {
        match message {
            ToPeer::Have(pieces) => self.ours.extend(pieces),
            ToPeer::Lost(piece) => {
                self.ours.remove(piece);
            }
            ToPeer::Interested(interested) => self.interested = *interested,
            ToPeer::Choke(choke) => self.we_choke = *choke,
            _ => {}
        }
    }

    pub(super) fn on_uploaded(&mut self, request: Request, sent: bool) {
        if sent {
            self.answer(request);
        }
    }

    fn answer(&mut self, request: Request) {
        match self.owed.get_mut(&request) {
            Some(owed) if *owed > 1 => *owed -= 1,
            Some(_) => drop(self.owed.remove(&request)),
            None => panic!("an answer that nobody waits for: {request:?}"),
        }
    }

    pub(super) fn on_output(&mut self, output: Output) {
        assert!(!self.closed, "there is something after the end: {output:?}");
        match output {
            Output::Send(message) => self.on_send(message),
            Output::Store(block) => {
                let name = self.name(block);
                let before = self.outstanding.len();
                self.outstanding.retain(|&other| other != name);
                assert_eq!(before, self.outstanding.len() + 1, "it was not asked for");
                self.arriving.push(block);
            }
            Output::Discard(header) => {
                let at = self.withdrawn.iter().position(|&other| other == header);
                // Requests that were taken back long ago are not remembered here.
                if let Some(at) = at {
                    self.withdrawn.remove(at);
                }
            }
            Output::Upload(request) => self.on_upload(request),
            Output::CancelUpload(request) => assert!(self.uploading.contains(&request)),
            Output::ServeHashes(request) => {
                assert!(
                    self.negotiated.v2 && request.validate().is_ok(),
                    "{request:?}"
                );
                self.hashes.push(request);
                assert!(self.hashes.len() <= MAX_HASH_REQUESTS);
            }
            Output::Torrent(message) => self.on_tell(message),
            Output::Close(_) => {
                assert!(self.left, "the torrent was not told");
                self.closed = true;
            }
        }
    }

    /// Whether a request names bytes of a piece that we have.
    pub(super) fn can_serve(&self, request: Request) -> bool {
        let end = u64::from(request.begin) + u64::from(request.length);
        let exists = request.length > 0 && end <= u64::from(self.layout.length_of(request.piece));
        exists && self.ours.contains(&request.piece)
    }

    fn on_upload(&mut self, request: Request) {
        assert!(!self.we_choke || self.granted_fast.contains(&request.piece));
        assert!(self.can_serve(request), "a part of no piece that we have");
        self.uploading.push(request);
        assert!(self.uploading.len() <= MAX_QUEUED_REQUESTS as usize);
    }

    fn on_send(&mut self, message: Message) {
        let first = !core::mem::replace(&mut self.said_anything, true);
        match message {
            Message::Bitfield(_) => assert!(first),
            Message::HaveAll | Message::HaveNone => assert!(first && self.negotiated.fast),
            Message::AllowedFast(piece) => {
                assert!(self.negotiated.fast && self.settings.allowed_fast.contains(&piece));
                self.granted_fast.insert(piece);
            }
            Message::Reject(request) => {
                assert!(self.negotiated.fast);
                self.answer(request);
            }
            Message::Have(piece) => assert!(self.ours.contains(&piece)),
            Message::DontHave(piece) => {
                assert!(self.remote_dont_have && !self.ours.contains(&piece));
            }
            Message::ExtendedHandshake(_) => assert!(self.negotiated.extended),
            Message::Request(request) => self.on_request(request),
            Message::Cancel(request) => {
                assert!(self.outstanding.contains(&request), "nothing to take back");
                self.withdraw(|other| *other == request);
            }
            Message::HashReject(_) => assert!(self.negotiated.v2),
            Message::Metadata(answer) => assert!(matches!(
                answer,
                Metadata::Data { .. } | Metadata::Reject { .. }
            )),
            // The torrent is told of a remote that does not know how any more, and may speak before it hears that.
            Message::HolePunch(_) => assert!(self.settings.punches),
            Message::KeepAlive
            | Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested => {}
            other => panic!("we never say {other:?}"),
        }
    }

    fn on_request(&mut self, request: Request) {
        let block = self
            .layout
            .block_at(request.piece, request.begin, request.length);
        let leased = |block| self.leased.contains(&block) && !self.stored.contains(&block);
        assert!(block.is_some_and(leased), "not leased: {request:?}");
        assert!(block.is_some_and(|block| !self.arriving.contains(&block)));
        assert!(
            !self.outstanding.contains(&request),
            "asked for twice: {request:?}"
        );
        assert!(!self.remote_chokes || self.allowed_fast.contains(&request.piece));
        self.outstanding.push(request);
        let bytes: u64 = self
            .outstanding
            .iter()
            .map(|request| u64::from(request.length))
            .sum();
        assert!(bytes <= u64::from(MAX_BYTES));
        assert!(self.outstanding.len() <= self.reqq as usize);
    }

    fn on_tell(&mut self, message: FromPeer) {
        assert!(
            !self.left,
            "the torrent hears of it after it left: {message:?}"
        );
        match message {
            FromPeer::Joined { .. } => assert!(!core::mem::replace(&mut self.joined, true)),
            FromPeer::Left(_) => self.left = true,
            FromPeer::Received(runs) => {
                assert!(!runs.is_empty());
                for block in runs.into_iter().flat_map(BlockRun::blocks) {
                    assert!(self.stored.remove(&block), "it is not stored");
                    assert!(self.leased.remove(&block), "it is not leased");
                }
            }
            FromPeer::Returned { runs, .. } => {
                assert!(!runs.is_empty());
                for block in runs.into_iter().flat_map(BlockRun::blocks) {
                    assert!(!self.stored.contains(&block), "it is stored");
                    assert!(self.leased.remove(&block), "it is not leased");
                }
            }
            FromPeer::Want { blocks, .. } => {
                let most = 2 * MAX_BYTES / BLOCK_LENGTH;
                assert!(self.joined && self.interested && blocks > 0 && blocks <= most);
                assert!(!self.remote_chokes || !self.allowed_fast.is_empty());
            }
            FromPeer::Have(piece) | FromPeer::DontHave(piece) => {
                assert!(self.joined && self.layout.contains(piece));
            }
            FromPeer::HasOnly(_) => panic!("only an origin takes back so much at once"),
            FromPeer::AllowedFast(piece) | FromPeer::Suggested(piece) => {
                assert!(self.joined && self.layout.contains(piece) && self.negotiated.fast);
            }
            FromPeer::Choking(chokes) => {
                assert!(self.joined && chokes == self.remote_chokes);
            }
            FromPeer::ListensAt(port) => assert!(port > 0 && self.joined),
            FromPeer::Introduced(addresses) => assert!((1..=50).contains(&addresses.len())),
            FromPeer::Punches(punches) => {
                assert!(self.joined && self.settings.punches);
                assert_ne!(core::mem::replace(&mut self.punches, punches), punches);
            }
            FromPeer::HolePunch(_) => assert!(self.joined && self.punches),
            FromPeer::SeesUsAt(_) => assert!(!core::mem::replace(&mut self.voted, true)),
            FromPeer::Interested(_) | FromPeer::UploadOnly(_) | FromPeer::Report(_) => {
                assert!(self.joined);
            }
        }
    }

    /// What holds between two inputs.
    pub(super) fn check_at_rest(&self) {
        if self.closed {
            assert!(self.leased.is_empty(), "leases that never came back");
            return;
        }
        let owed: u32 = self.owed.values().sum();
        if self.negotiated.fast {
            assert!(owed <= MAX_QUEUED_REQUESTS, "{owed} requests");
            assert!(
                !self.uploading.is_empty() || owed == 0,
                "requests that nobody works on"
            );
        }
    }
}
