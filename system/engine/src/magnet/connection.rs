//! The driver of one connection before the metainfo is known.
//!
//! Invariant: nothing but messages moves; when the connection is handed over, its place in the stream goes with it.

use crate::allowance::Allowance;
use crate::carried::Carried;
use crate::clock::Clock;
use crate::connect::Ready;
use crate::dht::Acquaintance;
use crate::inbound::Found;
use crate::mailbox::Mailbox;
use crate::outbound::{Flushed, Next};
use shoal_machine::Machine;
use shoal_swarm::metadata::seeker::{Input, Output, Seeker, Terms};
use shoal_swarm::metadata::{FromSeeker, ToSeeker};
use shoal_swarm::{CloseReason, PeerKey};
use shoal_transport::{Direction, PeerStream, TorrentLimiter};
use shoal_wire::Message;
use std::io;
use std::net::SocketAddr;
use tokio::sync::{mpsc, oneshot};

/// Reads in a row before other connections of the worker get their turn.
const READS_PER_TURN: usize = 16;

/// What a connection is told.
pub(super) enum Order {
    Search(ToSeeker),
    /// Give the connection back. Where it has ended, the sender is dropped.
    HandOver(oneshot::Sender<Box<Ready>>),
}

/// What a connection needs besides its socket and its machine.
pub(super) struct Surroundings {
    pub(super) clock: Clock,
    pub(super) limiter: TorrentLimiter,
    pub(super) search: mpsc::Sender<(PeerKey, Vec<FromSeeker>)>,
    /// The remote takes part in the DHT, as we do.
    pub(super) dht: Option<Acquaintance>,
}

/// One connection.
pub(super) struct SeekerTask {
    key: PeerKey,
    stream: PeerStream,
    seeker: Seeker,
    /// Everything of the handshake but the stream.
    terms: Terms,
    shaken: Shaken,
    carried: Carried,
    mailbox: Mailbox<Order>,
    around: Surroundings,
    /// Metadata counts against no limit: this only satisfies whoever sends.
    free: Allowance,
    up: Vec<FromSeeker>,
    closed: bool,
}

/// What the handshake said, for whoever takes the connection over.
struct Shaken {
    address: SocketAddr,
    peer_id: shoal_wire::PeerId,
    origin: shoal_swarm::torrent::Origin,
    dht: bool,
    disguised: bool,
}

/// What ended the wait.
enum Woken {
    Readable,
    Writable,
    Mail(Vec<Order>),
    Deadline,
}

impl SeekerTask {
    /// Runs a connection whose handshake is done until it is over or handed over.
    pub(super) async fn begin(
        key: PeerKey,
        ready: Ready,
        terms: Terms,
        mailbox: Mailbox<Order>,
        around: Surroundings,
    ) {
        let shaken = Shaken {
            address: ready.address,
            peer_id: ready.peer_id,
            origin: ready.origin,
            dht: ready.dht,
            disguised: ready.disguised,
        };
        let carried = *ready.carried;
        match ready.stream.attach() {
            Ok(stream) => {
                let task = SeekerTask {
                    key,
                    stream,
                    seeker: Seeker::new(terms, around.clock.now()),
                    terms,
                    shaken,
                    carried,
                    mailbox,
                    free: Allowance::new(Direction::Up, &around.limiter),
                    around,
                    up: Vec::new(),
                    closed: false,
                };
                task.run().await;
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was lost on its way to its worker");
                let left = vec![FromSeeker::Left(CloseReason::Remote)];
                drop(around.search.send((key, left)).await);
            }
        }
    }

    async fn run(mut self) {
        self.drain();
        if let Some(introduction) = self
            .around
            .dht
            .as_ref()
            .and_then(Acquaintance::introduction)
        {
            let carried = &mut self.carried;
            carried.outbound.message(&introduction, &carried.remote);
        }
        self.understand();
        loop {
            self.send();
            self.report().await;
            if self.closed {
                return;
            }
            match self.wait().await {
                Woken::Readable => self.read(),
                // What follows every turn writes.
                Woken::Writable => {}
                Woken::Mail(mail) => {
                    for order in mail {
                        match order {
                            Order::Search(message) => self.handle(Input::Search(message)),
                            Order::HandOver(to) => return self.hand_over(to).await,
                        }
                    }
                }
                Woken::Deadline => self.handle(Input::Tick),
            }
        }
    }

    async fn wait(&self) -> Woken {
        let may_read = !self.carried.outbound.is_crowded();
        let may_write = self.carried.outbound.next() == Next::Messages;
        let mut mail = Vec::new();
        tokio::select! {
            () = self.mailbox.collect(&mut mail) => Woken::Mail(mail),
            _ = self.stream.readable(), if may_read => Woken::Readable,
            _ = self.stream.writable(), if may_write => Woken::Writable,
            () = self.around.clock.sleep_until(self.seeker.deadline()) => Woken::Deadline,
        }
    }

    fn read(&mut self) {
        for _ in 0..READS_PER_TURN {
            if self.closed || self.carried.outbound.is_crowded() {
                return;
            }
            match self.carried.inbound.read(&self.stream) {
                Ok(0) => return self.handle(Input::Disconnected),
                Ok(_) => self.understand(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.handle(Input::Disconnected),
            }
        }
    }

    /// Hands everything that was read to the machine, which ends the connection before a block could follow.
    fn understand(&mut self) {
        while !self.closed {
            match self.carried.inbound.next() {
                Ok(Found::Message(message)) => {
                    if let Message::ExtendedHandshake(handshake) = &message {
                        self.carried.remote.update(handshake);
                    }
                    if let (Message::Port(port), Some(dht)) = (&message, &mut self.around.dht) {
                        dht.hear(*port);
                    }
                    self.handle(Input::Message(message));
                }
                Ok(Found::NeedsBytes | Found::NeedsBuffer | Found::Block(..)) => return,
                Err(error) => {
                    tracing::debug!(peer = self.key.0, %error, "the remote broke the protocol");
                    let reason = CloseReason::Protocol("sent what is no message");
                    return self.handle(Input::Search(ToSeeker::Close(reason)));
                }
            }
        }
    }

    /// Sends until the socket is full or nothing is left.
    fn send(&mut self) {
        let mut left = Vec::new();
        while !self.closed {
            let outbound = &mut self.carried.outbound;
            match outbound.flush(&self.stream, &mut self.free, &mut left) {
                Ok(Flushed::More) => {}
                Ok(Flushed::Empty | Flushed::Blocked | Flushed::Short { .. }) => return,
                Err(_) => self.handle(Input::Disconnected),
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.seeker.handle(self.around.clock.now(), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.seeker.poll() {
            tracing::trace!(peer = self.key.0, ?output);
            match output {
                Output::Send(message) => {
                    self.carried
                        .outbound
                        .message(&message, &self.carried.remote);
                }
                Output::Search(message) => self.up.push(message),
                Output::Close(reason) => {
                    tracing::debug!(peer = self.key.0, ?reason, "connection closed");
                    self.closed = true;
                }
            }
        }
    }

    /// Tells the search what there is to tell. May wait; the search never waits for us.
    async fn report(&mut self) {
        if self.up.is_empty() {
            return;
        }
        let messages = std::mem::take(&mut self.up);
        if self.around.search.send((self.key, messages)).await.is_err() {
            self.closed = true;
        }
    }

    /// Gives the connection back as one whose handshake is done, with everything that was said since.
    async fn hand_over(mut self, to: oneshot::Sender<Box<Ready>>) {
        self.report().await;
        if self.closed {
            return;
        }
        let Ok(stream) = self.stream.detach() else {
            return;
        };
        self.carried.said = Some(self.seeker.into_said());
        let ready = Ready {
            stream,
            address: self.shaken.address,
            peer_id: self.shaken.peer_id,
            origin: self.shaken.origin,
            fast: self.terms.fast,
            extended: self.terms.extended,
            v2: self.terms.v2,
            dht: self.shaken.dht,
            disguised: self.shaken.disguised,
            key: None,
            carried: Box::new(self.carried),
        };
        drop(to.send(Box::new(ready)));
    }
}
