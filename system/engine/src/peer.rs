//! The driver of one connection: one loop that waits for the socket, the torrent's mail, a buffer, an allowance, hashes or a
//! deadline; hands one input to the [`PeerSession`]; and does what it says.
//!
//! Invariant: the session's outputs are drained before its next input; payload passes this loop only as leases and sources.

use crate::allowance::Allowance;
use crate::carried::Carried;
use crate::clock::Clock;
use crate::dht::Acquaintance;
use crate::hashes::HashServer;
use crate::inbound::{Found, Inbound};
use crate::inbox::Sender;
use crate::mailbox::Mailbox;
use crate::outbound::{Flushed, Next, Outbound};
use crate::torrent::ToTorrent;
use shoal_machine::Machine;
use shoal_metainfo::Layout;
use shoal_storage::{BlockBuffer, Content, Segment, Storage, Stored};
use shoal_swarm::metadata::Said;
use shoal_swarm::peer_session::{Input, Output, PeerSession};
use shoal_swarm::{CloseReason, FromPeer, PeerKey, ToPeer};
use shoal_transport::{Direction, PeerStream, TorrentLimiter};
use shoal_wire::{HashRequest, Hashes, Limits, Message, RemoteExtensions, Request};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Reads in a row before other connections of the worker get their turn.
const READS_PER_TURN: usize = 32;

/// Writes in a row before other connections of the worker get their turn: a batch of blocks and what goes before it, as many bytes as
/// reads are.
const WRITES_PER_TURN: usize = 2;

/// What a connection needs besides its socket and its session.
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) storage: Storage,
    pub(crate) layout: Arc<Layout>,
    pub(crate) content: Content,
    pub(crate) hashes: Arc<HashServer>,
    pub(crate) limiter: TorrentLimiter,
    pub(crate) torrent: Sender<ToTorrent>,
    /// The remote takes part in the DHT, as we do.
    pub(crate) dht: Option<Acquaintance>,
}

/// One connection.
pub(crate) struct PeerTask {
    key: PeerKey,
    stream: PeerStream,
    session: PeerSession,
    inbound: Inbound,
    outbound: Outbound,
    remote: RemoteExtensions,
    /// What the remote said before the session listened.
    said: Option<Said>,
    mailbox: Mailbox<ToPeer>,
    around: Surroundings,
    /// What the session is to hear next; kept for its memory.
    inputs: VecDeque<Input>,
    /// What the torrent is to be told at the end of the turn.
    up: Vec<FromPeer>,
    /// What the remote calls itself, until the torrent is told.
    client: Option<Arc<str>>,
    hashing: JoinSet<(HashRequest, Option<Hashes>)>,
    download: Allowance,
    upload: Allowance,
    /// There was more to move than a turn lets pass.
    turn_is_over: bool,
    closed: bool,
}

/// What ended the wait.
enum Woken {
    Readable,
    Writable,
    Mail(Vec<ToPeer>),
    Buffer(BlockBuffer),
    Allowance(Direction, u64),
    Hashes(HashRequest, Option<Hashes>),
    Deadline,
}

impl PeerTask {
    /// A connection whose handshake is done, and what it brings along.
    pub(crate) fn new(
        key: PeerKey,
        stream: PeerStream,
        session: PeerSession,
        carried: Carried,
        mailbox: Mailbox<ToPeer>,
        around: Surroundings,
    ) -> Self {
        let mut inbound = carried.inbound;
        inbound.set_limits(Limits {
            piece_count: Some(around.layout.piece_count()),
        });
        PeerTask {
            key,
            stream,
            session,
            inbound,
            outbound: carried.outbound,
            remote: carried.remote,
            said: carried.said,
            mailbox,
            download: Allowance::new(Direction::Down, &around.limiter),
            upload: Allowance::new(Direction::Up, &around.limiter),
            around,
            inputs: VecDeque::new(),
            up: Vec::new(),
            client: None,
            hashing: JoinSet::new(),
            turn_is_over: false,
            closed: false,
        }
    }

    /// Runs until the connection is over.
    pub(crate) async fn run(mut self) {
        // A session has something to say from the start, and the remote may have sent more than its handshake.
        self.go_on();
        // Where a search brought the connection, that was said.
        if let (Some(dht), None) = (&self.around.dht, &self.said) {
            self.outbound.message(&dht.introduction(), &self.remote);
        }
        for message in self.said.take().into_iter().flat_map(Said::replay) {
            self.learn_client(&message);
            self.handle(Input::Message(message));
        }
        self.understand();
        loop {
            self.settle();
            self.report().await;
            if self.closed {
                return;
            }
            if std::mem::take(&mut self.turn_is_over) {
                tokio::task::yield_now().await;
            }
            let woken = self.wait().await;
            self.act(woken);
        }
    }

    async fn wait(&mut self) -> Woken {
        let wants_buffer = self.inbound.needs_buffer();
        let wants_read = !wants_buffer && !self.outbound.is_crowded();
        let (next, unpaid) = (self.outbound.next(), self.upload.is_short());
        let may_write = next == Next::Messages || (next == Next::Upload && !unpaid);
        let deadline = self.session.deadline();
        let mut mail = Vec::new();
        tokio::select! {
            () = self.mailbox.collect(&mut mail) => Woken::Mail(mail),
            _ = self.stream.readable(), if wants_read && !self.download.is_short() => Woken::Readable,
            _ = self.stream.writable(), if may_write => Woken::Writable,
            buffer = self.around.storage.lease(), if wants_buffer => Woken::Buffer(buffer),
            bytes = self.download.wait(), if wants_read && self.download.is_short() => {
                Woken::Allowance(Direction::Down, bytes)
            }
            bytes = self.upload.wait(), if next == Next::Upload && unpaid => {
                Woken::Allowance(Direction::Up, bytes)
            }
            Some(done) = self.hashing.join_next(), if !self.hashing.is_empty() => {
                // A task that panicked answered nothing; the remote's request times out on its side.
                done.map_or(Woken::Deadline, |(request, hashes)| Woken::Hashes(request, hashes))
            }
            () = self.around.clock.sleep_until(deadline) => Woken::Deadline,
        }
    }

    fn act(&mut self, woken: Woken) {
        match woken {
            Woken::Readable => self.read(),
            // What follows every turn writes.
            Woken::Writable => {}
            Woken::Mail(mail) => mail
                .into_iter()
                .for_each(|message| self.handle(Input::Torrent(message))),
            Woken::Buffer(buffer) => {
                self.inbound.supply(buffer);
                self.handle(Input::Backpressure(false));
                self.understand();
            }
            Woken::Allowance(Direction::Down, bytes) => {
                self.download.supply(bytes);
                self.read();
            }
            Woken::Allowance(Direction::Up, bytes) => self.upload.supply(bytes),
            Woken::Hashes(request, hashes) => self.handle(Input::HashesServed { request, hashes }),
            Woken::Deadline => self.handle(Input::Tick),
        }
    }

    /// Reads what is there, within a turn's bound.
    fn read(&mut self) {
        self.turn_is_over |= !self.read_some();
        self.download.rest();
    }

    /// False where there is more.
    fn read_some(&mut self) -> bool {
        for _ in 0..READS_PER_TURN {
            let full = self.inbound.needs_buffer() || self.outbound.is_crowded();
            if self.closed || full || self.download.open() == 0 {
                return true;
            }
            match self.inbound.read(&self.stream) {
                Ok(0) => {
                    self.handle(Input::Disconnected);
                    return true;
                }
                Ok(count) => {
                    self.download.spend(count as u64);
                    self.understand();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.handle(Input::Disconnected);
                    return true;
                }
            }
        }
        false
    }

    /// Hands everything that was read to the session.
    fn understand(&mut self) {
        while !self.closed {
            match self.inbound.next() {
                Ok(Found::Message(message)) => {
                    self.learn_client(&message);
                    if let Message::ExtendedHandshake(handshake) = &message {
                        self.remote.update(handshake);
                    }
                    if let (Message::Port(port), Some(dht)) = (&message, &mut self.around.dht) {
                        dht.hear(*port);
                    }
                    self.handle(Input::Message(message));
                }
                Ok(Found::Block(block, buffer)) => {
                    self.handle(match self.around.content.write(block, buffer) {
                        Stored::Kept => Input::BlockStored(block),
                        Stored::Duplicate | Stored::Refused => Input::BlockKnown(block),
                    });
                }
                Ok(Found::NeedsBuffer) => return self.handle(Input::Backpressure(true)),
                Ok(Found::NeedsBytes) => return,
                Err(error) => {
                    tracing::debug!(peer = self.key.0, %error, "the remote broke the protocol");
                    let reason = CloseReason::Protocol("sent what is no message");
                    return self.handle(Input::Torrent(ToPeer::Close(reason)));
                }
            }
        }
    }

    fn learn_client(&mut self, message: &Message) {
        if let Message::ExtendedHandshake(handshake) = message
            && let Some(client) = &handshake.client
        {
            self.client = Some(Arc::from(client.as_str()));
        }
    }

    /// Sends until the socket is full or nothing is left, within a turn's bound; each upload that has left may bring the next.
    fn settle(&mut self) {
        self.turn_is_over |= !self.send_some();
        self.upload.rest();
    }

    /// False where there is more.
    fn send_some(&mut self) -> bool {
        let mut left = Vec::new();
        for _ in 0..WRITES_PER_TURN {
            if self.closed {
                return true;
            }
            let flushed = self
                .outbound
                .flush(&self.stream, &mut self.upload, &mut left);
            let sent = true;
            for request in left.drain(..) {
                self.handle(Input::Uploaded { request, sent });
            }
            match flushed {
                Ok(Flushed::More) => {}
                Ok(Flushed::Empty | Flushed::Blocked) => return true,
                Ok(Flushed::Short { request, begun }) => {
                    self.around.content.doubt(request.piece);
                    let sent = false;
                    self.handle(if begun {
                        Input::Disconnected
                    } else {
                        Input::Uploaded { request, sent }
                    });
                }
                Err(_) => {
                    self.handle(Input::Disconnected);
                    return true;
                }
            }
        }
        false
    }

    /// One input and all its outputs; and what follows from uploads that turn out to be impossible or are taken back.
    fn handle(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.go_on();
    }

    /// Carries out what the session says, and tells it what follows from that, until nothing does.
    fn go_on(&mut self) {
        loop {
            while let Some(output) = self.session.poll() {
                tracing::trace!(peer = self.key.0, ?output);
                let follows = self.carry_out(output);
                self.inputs.extend(follows);
            }
            let Some(input) = self.inputs.pop_front() else {
                return;
            };
            tracing::trace!(peer = self.key.0, ?input);
            self.session.handle(self.around.clock.now(), input);
        }
    }

    /// Does what the session says; what that leads to at once is the session's next input.
    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Send(message) => self.outbound.message(&message, &self.remote),
            Output::Store(block) => {
                let length = self.around.layout.block_length(block) as usize;
                let buffer = self.around.storage.try_lease();
                self.inbound.store(block, length, buffer);
            }
            Output::Discard(header) => self.inbound.discard(header.length as usize),
            Output::Upload(request) => return self.upload(request),
            Output::CancelUpload(request) => {
                let untouched = self.outbound.cancel(request);
                return untouched.then_some(Input::Uploaded {
                    request,
                    sent: false,
                });
            }
            Output::ServeHashes(request) => self.serve_hashes(request),
            Output::Torrent(message) => self.up.push(message),
            Output::Close(reason) => {
                tracing::debug!(peer = self.key.0, ?reason, "connection closed");
                self.closed = true;
            }
        }
        None
    }

    /// Queues the bytes of an upload, or says that they cannot be read.
    fn upload(&mut self, request: Request) -> Option<Input> {
        // A request may include the padding behind a short piece, which is on no disk.
        let piece_length = self.around.layout.length_of(request.piece);
        let there = request
            .length
            .min(piece_length.saturating_sub(request.begin));
        let padding = u64::from(request.length - there);
        let content = &self.around.content;
        match content.source(request.piece, request.begin, there) {
            Ok(mut source) => {
                if padding > 0 {
                    source.segments.push(Segment::Zeros { len: padding });
                }
                self.outbound.upload(request, source);
                None
            }
            Err(error) => {
                tracing::debug!(peer = self.key.0, %error, "cannot serve a request");
                Some(Input::Uploaded {
                    request,
                    sent: false,
                })
            }
        }
    }

    fn serve_hashes(&mut self, request: HashRequest) {
        let (server, content) = (Arc::clone(&self.around.hashes), self.around.content.clone());
        self.hashing
            .spawn_blocking(move || (request, server.answer(&content, &request)));
    }

    /// Tells the torrent what there is to tell. May wait; the torrent never waits for us.
    async fn report(&mut self) {
        if let Some(client) = self.client.take() {
            let told = ToTorrent::Client(self.key, client);
            self.closed |= self.around.torrent.send(told).await.is_err();
        }
        if self.up.is_empty() {
            return;
        }
        let messages = std::mem::take(&mut self.up);
        if self
            .around
            .torrent
            .send(ToTorrent::Peer(self.key, messages))
            .await
            .is_err()
        {
            self.closed = true;
        }
    }
}
