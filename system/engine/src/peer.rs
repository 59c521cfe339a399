//! The driver of one connection: one loop that waits for the socket, the torrent's mail, a buffer, an allowance, hashes or a
//! deadline; hands one input to the [`PeerSession`]; and does what it says.
//!
//! Invariant: the session's outputs are drained before its next input; payload passes this loop only as leases and sources.

use crate::clock::Clock;
use crate::hashes::HashServer;
use crate::inbound::{Found, Inbound};
use crate::mailbox::Mailbox;
use crate::outbound::{Flushed, Outbound};
use crate::torrent::ToTorrent;
use shoal_machine::Machine;
use shoal_metainfo::Layout;
use shoal_storage::{BlockBuffer, Content, Storage, Stored};
use shoal_swarm::peer_session::{Input, Output, PeerSession};
use shoal_swarm::{CloseReason, FromPeer, PeerKey, ToPeer};
use shoal_transport::{Direction, PeerStream, TorrentLimiter};
use shoal_wire::{HashRequest, Hashes, Message, RemoteExtensions, Request};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Reads in a row before other connections of the worker get their turn.
const READS_PER_TURN: usize = 32;

/// The most payload asked of a rate limit at once: what one read can bring, so that a slow limit is shared evenly.
const ALLOWANCE_BYTES: u64 = 64 * 1024;

/// What a connection needs besides its socket and its session.
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) storage: Storage,
    pub(crate) content: Content,
    pub(crate) hashes: Arc<HashServer>,
    pub(crate) limiter: TorrentLimiter,
    pub(crate) torrent: mpsc::Sender<ToTorrent>,
}

/// One connection.
pub(crate) struct PeerTask {
    key: PeerKey,
    stream: PeerStream,
    session: PeerSession,
    layout: Arc<Layout>,
    inbound: Inbound,
    outbound: Outbound,
    remote: RemoteExtensions,
    mailbox: Mailbox<ToPeer>,
    around: Surroundings,
    /// What the torrent is to be told at the end of the turn.
    up: Vec<FromPeer>,
    hashing: JoinSet<(HashRequest, Option<Hashes>)>,
    download: Allowance,
    upload: Allowance,
    closed: bool,
}

/// What may pass in one direction before the rate limits are asked again.
///
/// A read may bring more than was allowed, by less than a block; that is a debt, paid before the next.
struct Allowance {
    direction: Direction,
    limiter: TorrentLimiter,
    bytes: i64,
}

impl Allowance {
    fn new(direction: Direction, limiter: &TorrentLimiter) -> Self {
        Allowance {
            direction,
            limiter: limiter.clone(),
            bytes: 0,
        }
    }

    /// How much may pass; 0 where it has to be waited for.
    fn open(&mut self) -> u64 {
        if self.bytes <= 0 {
            let bytes = self.limiter.try_acquire(self.direction, ALLOWANCE_BYTES);
            self.add(bytes);
        }
        u64::try_from(self.bytes).unwrap_or(0)
    }

    fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add_unsigned(bytes);
    }

    fn spend(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub_unsigned(bytes);
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.limiter
            .give_back(self.direction, u64::try_from(self.bytes).unwrap_or(0));
    }
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
    /// A connection whose handshake is done; `leftover` came right behind it.
    pub(crate) fn new(
        key: PeerKey,
        stream: PeerStream,
        session: PeerSession,
        layout: Arc<Layout>,
        leftover: &[u8],
        mailbox: Mailbox<ToPeer>,
        around: Surroundings,
    ) -> Self {
        PeerTask {
            key,
            stream,
            session,
            inbound: Inbound::new(layout.piece_count(), leftover),
            layout,
            outbound: Outbound::default(),
            remote: RemoteExtensions::default(),
            mailbox,
            download: Allowance::new(Direction::Down, &around.limiter),
            upload: Allowance::new(Direction::Up, &around.limiter),
            around,
            up: Vec::new(),
            hashing: JoinSet::new(),
            closed: false,
        }
    }

    /// Runs until the connection is over.
    pub(crate) async fn run(mut self) {
        // A session has something to say from the start, and the remote may have sent more than its handshake.
        let first = self.drain();
        first.into_iter().for_each(|input| self.handle(input));
        self.understand();
        loop {
            self.settle();
            self.report().await;
            if self.closed {
                return;
            }
            let woken = self.wait().await;
            self.act(woken);
        }
    }

    async fn wait(&mut self) -> Woken {
        let wants_read = !self.inbound.needs_buffer();
        let may_read = self.download.open() > 0;
        let wants_write = !self.outbound.is_empty();
        let may_write = !self.outbound.payload_is_next() || self.upload.open() > 0;
        let deadline = self.session.deadline();
        let mut mail = Vec::new();
        let limiter = &self.around.limiter;
        tokio::select! {
            () = self.mailbox.collect(&mut mail) => Woken::Mail(mail),
            _ = self.stream.readable(), if wants_read && may_read => Woken::Readable,
            _ = self.stream.writable(), if wants_write && may_write => Woken::Writable,
            buffer = self.around.storage.lease(), if !wants_read => Woken::Buffer(buffer),
            bytes = limiter.acquire(Direction::Down, ALLOWANCE_BYTES), if wants_read && !may_read => {
                Woken::Allowance(Direction::Down, bytes)
            }
            bytes = limiter.acquire(Direction::Up, ALLOWANCE_BYTES), if wants_write && !may_write => {
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
            Woken::Writable => {}
            Woken::Mail(mail) => mail
                .into_iter()
                .for_each(|message| self.handle(Input::Torrent(message))),
            Woken::Buffer(buffer) => {
                self.inbound.supply(buffer);
                self.handle(Input::Backpressure(false));
                self.understand();
            }
            Woken::Allowance(Direction::Down, bytes) => self.download.add(bytes),
            Woken::Allowance(Direction::Up, bytes) => self.upload.add(bytes),
            Woken::Hashes(request, hashes) => self.handle(Input::HashesServed { request, hashes }),
            Woken::Deadline => self.handle(Input::Tick),
        }
    }

    /// Reads what is there, within a turn's bound.
    fn read(&mut self) {
        for _ in 0..READS_PER_TURN {
            if self.closed || self.inbound.needs_buffer() || self.download.open() == 0 {
                return;
            }
            match self.inbound.read(&self.stream) {
                Ok(0) => return self.handle(Input::Disconnected),
                Ok(count) => {
                    self.download.spend(count as u64);
                    self.understand();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.handle(Input::Disconnected),
            }
        }
    }

    /// Hands everything that was read to the session.
    fn understand(&mut self) {
        while !self.closed {
            match self.inbound.next() {
                Ok(Found::Message(message)) => {
                    if let Message::ExtendedHandshake(handshake) = &message {
                        self.remote.update(handshake);
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

    /// Sends until the socket is full or nothing is left; each upload that has left may bring the next.
    fn settle(&mut self) {
        while !self.closed {
            let mut allowance = self.upload.open();
            let before = allowance;
            let flushed = self.outbound.flush(&self.stream, &mut allowance);
            self.upload.spend(before - allowance);
            match flushed {
                Ok(Flushed::Sent(request)) => self.handle(Input::Uploaded {
                    request,
                    sent: true,
                }),
                Ok(Flushed::Empty | Flushed::Blocked) => return,
                Ok(Flushed::Short(request)) => {
                    self.around.content.doubt(request.piece);
                    return self.handle(Input::Disconnected);
                }
                Err(_) => return self.handle(Input::Disconnected),
            }
        }
    }

    /// One input and all its outputs; and what follows from uploads that turn out to be impossible or are taken back.
    fn handle(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            tracing::trace!(peer = self.key.0, ?input);
            self.session.handle(self.around.clock.now(), input);
            inputs.extend(self.drain());
        }
    }

    /// Carries out what the session says until it says no more; gives the inputs that follow from that at once.
    fn drain(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        while let Some(output) = self.session.poll() {
            tracing::trace!(peer = self.key.0, ?output);
            inputs.extend(self.carry_out(output));
        }
        inputs
    }

    /// Does what the session says; what that leads to at once is the session's next input.
    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Send(message) => self.outbound.message(&message, &self.remote),
            Output::Store(block) => {
                let length = self.layout.block_length(block) as usize;
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
        match self
            .around
            .content
            .source(request.piece, request.begin, request.length)
        {
            Ok(source) => {
                self.outbound.upload(request, source, &self.remote);
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
