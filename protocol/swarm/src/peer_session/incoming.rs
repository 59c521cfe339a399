//! What the remote says, judged and turned into state.
//!
//! Invariant: nothing that a remote says makes the session allocate more than a bitfield of the torrent, or keep more than
//! a named number of anything.

use super::{MAX_QUEUED_REQUESTS, Output, PeerSession, Pieces, Timer, UPLOAD_ONLY};
use crate::message::{CloseReason, FromPeer, Has, ReturnReason};
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, PieceIndex};
use shoal_wire::{ExtendedHandshake, HashRequest, Hashes, Message, Metadata};

/// The most allowed fast pieces that we take note of: BEP 6 proposes sets of 10.
const MAX_ALLOWED_FAST: usize = 64;

/// The most pieces that a statement may add to an earlier one. Who has fetched more than that in between has said so before.
const MAX_RESTATED: usize = 4_096;

/// The most suggestions that we pass on in the life of a connection: they are hints.
const MAX_SUGGESTIONS: u32 = 256;

/// The most hash requests that the driver works on for one remote.
const MAX_HASH_REQUESTS: usize = 16;

/// What a remote may take in hashes a second without being unchoked: enough for the block hashes of 256 MiB a second.
const HASHES_PER_S: u64 = 16_384;

/// Bounds how fast a remote may ask for hashes, as they are not subject to choking: a bucket of one second's worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct HashBudget {
    hashes: u64,
    since: Moment,
}

impl HashBudget {
    pub(super) const fn new(now: Moment) -> Self {
        HashBudget {
            hashes: HASHES_PER_S,
            since: now,
        }
    }

    fn take(&mut self, now: Moment, hashes: u64) -> bool {
        let elapsed_ms = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        let gained = elapsed_ms.saturating_mul(HASHES_PER_S) / 1_000;
        if gained > 0 {
            self.hashes = self.hashes.saturating_add(gained).min(HASHES_PER_S);
            self.since = now;
        }
        let enough = self.hashes >= hashes;
        self.hashes -= if enough { hashes } else { 0 };
        enough
    }
}

impl PeerSession {
    pub(super) fn on_message(&mut self, message: Message) {
        if self.needs_fast(&message) {
            return self.refuse("it used the fast extension, which was not agreed on");
        }
        if self.theirs.is_none() && self.is_statement_over(&message) {
            self.join(Has::None);
        }
        match message {
            Message::KeepAlive | Message::Port(_) | Message::Unknown(_) | Message::Hashes(_) => {}
            // We ask for no hashes over the wire, so that an answer means nothing to us.
            Message::HashReject(_) => {}
            Message::Bitfield(bytes) => self.on_bitfield(&bytes),
            Message::HaveAll => self.on_statement(Has::All),
            Message::HaveNone => self.on_statement(Has::None),
            Message::Have(piece) => self.on_have(piece),
            Message::DontHave(piece) => self.on_dont_have(piece),
            Message::Choke => self.on_choke(),
            Message::Unchoke => self.on_unchoke(),
            Message::Interested => self.on_interested(true),
            Message::NotInterested => self.on_interested(false),
            Message::Request(request) => self.on_request(request),
            Message::Cancel(request) => self.on_cancel(request),
            Message::Piece(header) => self.on_piece(header),
            Message::Reject(request) => self.on_reject(request),
            Message::Suggest(piece) => self.on_suggest(piece),
            Message::AllowedFast(piece) => self.on_allowed_fast(piece),
            Message::ExtendedHandshake(handshake) => self.on_extended_handshake(handshake),
            Message::PeerExchange(exchange) => self.on_peer_exchange(exchange),
            Message::HolePunch(message) => self.on_hole_punch(message),
            Message::Metadata(Metadata::Request { piece }) => {
                let answer = self.metadata.answer(self.now, piece);
                self.send(Message::Metadata(answer));
            }
            // Of metadata that is known, nothing is asked.
            Message::Metadata(_) => {}
            Message::Extended { id, payload } => {
                if id == UPLOAD_ONLY.1 {
                    self.on_upload_only(payload.first().is_some_and(|&byte| byte != 0));
                }
            }
            Message::HashRequest(request) => self.on_hash_request(request),
        }
    }

    /// BEP 6: whoever sends these without having agreed on the extension is to be cut off.
    const fn needs_fast(&self, message: &Message) -> bool {
        !self.negotiated.fast
            && matches!(
                message,
                Message::HaveAll
                    | Message::HaveNone
                    | Message::Suggest(_)
                    | Message::Reject(_)
                    | Message::AllowedFast(_)
            )
    }

    /// Whether nothing that says what the remote has can follow this message. BEP 3 wants the bitfield first; clients send
    /// their extension handshake, their port and more before it.
    const fn is_statement_over(&self, message: &Message) -> bool {
        matches!(
            message,
            Message::Have(_)
                | Message::DontHave(_)
                | Message::Interested
                | Message::Request(_)
                | Message::Cancel(_)
                | Message::Piece(_)
                | Message::Reject(_)
        )
    }

    fn on_bitfield(&mut self, bytes: &[u8]) {
        match Bitfield::from_wire(bytes, self.layout.piece_count()) {
            Some(field) => self.on_statement(Has::from_bitfield(field)),
            None => self.refuse("its bitfield does not fit the torrent"),
        }
    }

    fn on_statement(&mut self, has: Has) {
        if self.theirs.is_none() {
            return self.join(has);
        }
        self.restate(&has);
    }

    /// aria2 says anew what it has where that is shorter than a message for each new piece, as libtorrent and others accept.
    /// It counts as those messages. Pieces that are left out are not taken back: there is another message for that.
    fn restate(&mut self, has: &Has) {
        let Some(theirs) = &self.theirs else { return };
        // Looking for what is new takes longer than saying that it is all or nothing, so that is looked at once.
        let worn = theirs.is_unsteady() && matches!(has, Has::All);
        if worn || matches!(has, Has::None) {
            return self.refuse("it said twice, or too late, what it has");
        }
        if theirs.is_all() {
            return;
        }
        let new = |piece: &PieceIndex| has.contains(*piece) && !theirs.contains(*piece);
        let pieces = self.layout.pieces().filter(new);
        let pieces: Vec<PieceIndex> = pieces.take(MAX_RESTATED + 1).collect();
        if pieces.len() > MAX_RESTATED {
            return self.refuse("it said too late what it has");
        }
        for piece in pieces {
            self.on_have(piece);
        }
    }

    /// The remote's first statement is in: the torrent hears of it, and of what the remote said before.
    pub(super) fn join(&mut self, has: Has) {
        self.timers.stop(Timer::Statement);
        let theirs = Pieces::new(has.clone(), self.layout.piece_count());
        self.offer_allowed_fast(theirs.count());
        self.theirs = Some(theirs);
        self.tell(FromPeer::Joined {
            has,
            fast: self.negotiated.fast,
        });
        if self.remote_upload_only {
            self.tell(FromPeer::UploadOnly(true));
        }
        if self.remote_punches {
            self.tell(FromPeer::Punches(true));
        }
        if let Some(port) = self.exchange.port {
            self.tell(FromPeer::ListensAt(port));
        }
        if let Some(ip) = self.seen_at {
            self.tell(FromPeer::SeesUsAt(ip));
        }
        for piece in self.allowed_fast.clone() {
            self.tell(FromPeer::AllowedFast(piece));
        }
        if !self.remote_chokes {
            self.tell(FromPeer::Choking(false));
        }
    }

    /// Tells a remote that has next to nothing what it may fetch while choked (BEP 6).
    fn offer_allowed_fast(&mut self, their_count: u32) {
        let set = core::mem::take(&mut self.settings.allowed_fast);
        let starting = (their_count as usize) < set.len();
        if !self.negotiated.fast || !starting || matches!(self.ours.has(), Has::None) {
            return;
        }
        for &piece in &set {
            self.fast_budget_bytes += u64::from(self.layout.length_of(piece));
            self.send(Message::AllowedFast(piece));
        }
        self.granted_fast = set;
    }

    fn on_have(&mut self, piece: PieceIndex) {
        if !self.layout.contains(piece) {
            return self.refuse("it has a piece that the torrent has not");
        }
        if self
            .theirs
            .as_mut()
            .is_some_and(|theirs| theirs.insert(piece))
        {
            self.tell(FromPeer::Have(piece));
        }
    }

    fn on_dont_have(&mut self, piece: PieceIndex) {
        if self
            .theirs
            .as_mut()
            .is_some_and(|theirs| theirs.remove(piece))
        {
            self.tell(FromPeer::DontHave(piece));
        }
    }

    fn on_choke(&mut self) {
        if self.remote_chokes {
            return;
        }
        self.remote_chokes = true;
        self.wished = 0;
        if self.theirs.is_some() {
            self.tell(FromPeer::Choking(true));
        }
        let allowed = &self.allowed_fast;
        let mut runs = self.download.drop_reserve(|piece| allowed.contains(&piece));
        // Without the fast extension a choke forgets all requests; with it, each is still answered.
        if !self.negotiated.fast {
            for block in self.download.withdraw(|_| true) {
                shoal_metainfo::BlockRun::push(&mut runs, block);
            }
        }
        self.give_back(runs, ReturnReason::Choked);
    }

    fn on_unchoke(&mut self) {
        if !self.remote_chokes {
            return;
        }
        self.remote_chokes = false;
        self.wished = 0;
        if self.theirs.is_some() {
            self.tell(FromPeer::Choking(false));
        }
    }

    fn on_interested(&mut self, interested: bool) {
        if self.remote_is_interested == interested {
            return;
        }
        self.remote_is_interested = interested;
        self.tell(FromPeer::Interested(interested));
    }

    fn on_upload_only(&mut self, upload_only: bool) {
        if self.remote_upload_only == upload_only {
            return;
        }
        self.remote_upload_only = upload_only;
        if self.theirs.is_some() {
            self.tell(FromPeer::UploadOnly(upload_only));
        }
    }

    fn on_suggest(&mut self, piece: PieceIndex) {
        let room = self.suggestions < MAX_SUGGESTIONS;
        if room && self.layout.contains(piece) && self.theirs.is_some() {
            self.suggestions += 1;
            self.tell(FromPeer::Suggested(piece));
        }
    }

    fn on_allowed_fast(&mut self, piece: PieceIndex) {
        let room = self.allowed_fast.len() < MAX_ALLOWED_FAST;
        if !room || !self.layout.contains(piece) || self.allowed_fast.contains(&piece) {
            return;
        }
        self.allowed_fast.push(piece);
        if self.theirs.is_some() {
            self.tell(FromPeer::AllowedFast(piece));
        }
        if self.remote_chokes {
            self.wished = 0;
        }
    }

    fn on_extended_handshake(&mut self, handshake: ExtendedHandshake) {
        if let Some(reqq) = handshake.reqq {
            self.window.set_reqq(reqq.max(1));
        }
        self.remote_extensions.update(&handshake);
        self.review_punching();
        self.on_upload_only(handshake.upload_only);
        if let Some(port) = handshake.port {
            self.on_listen_port(port);
        }
        // It has one vote on that, and need not be heard twice.
        if let (Some(ip), None) = (handshake.your_ip, self.seen_at) {
            self.seen_at = Some(ip);
            if self.theirs.is_some() {
                self.tell(FromPeer::SeesUsAt(ip));
            }
        }
        if handshake.client.is_some() {
            self.client = handshake.client;
        }
        self.tell_contacts();
    }

    fn on_hash_request(&mut self, request: HashRequest) {
        if !self.negotiated.v2 {
            return self.refuse("it asked for v2 hashes on a v1 connection");
        }
        let hashes = u64::from(request.length) + u64::from(request.proof_layers);
        // Whether there is such a file is for whoever has the tree to say.
        let accepted = request.validate().is_ok()
            && self.hashes_in_flight.len() < MAX_HASH_REQUESTS
            && self.hash_budget.take(self.now, hashes);
        if accepted {
            self.hashes_in_flight.push(request);
            self.outputs.push_back(Output::ServeHashes(request));
        } else {
            self.count_bad_request();
            if !self.closed {
                self.send(Message::HashReject(request));
            }
        }
    }

    pub(super) fn on_hashes_served(&mut self, request: HashRequest, hashes: Option<Hashes>) {
        let at = self
            .hashes_in_flight
            .iter()
            .position(|&other| other == request);
        let Some(at) = at else { return };
        self.hashes_in_flight.remove(at);
        self.send(hashes.map_or(Message::HashReject(request), Message::Hashes));
    }

    /// Requests that cannot be served cost us an answer each; whoever sends as many as fit in a queue means harm.
    pub(super) fn count_bad_request(&mut self) {
        self.bad_requests += 1;
        if self.bad_requests > MAX_QUEUED_REQUESTS {
            self.close(CloseReason::Protocol(
                "it keeps asking for what cannot be asked for",
            ));
        }
    }
}
