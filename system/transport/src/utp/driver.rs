//! The event loop of one UDP socket: it owns the machine of all connections, and is the only one that receives.
//!
//! Everything that the socket has is handled before anything is sent, so that one acknowledgement answers a whole batch, and one wake-up
//! tells a stream of all that came.
//!
//! Invariant: each turn handles a bounded number of datagrams and sends a bounded number of batches, so that neither direction starves
//! the other.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use shoal_machine::Moment;
use shoal_utp::{Closed, Delivery, Input, Key, Multiplexer, Output, Settings, is_utp};
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::entrance::Entrance;
use super::pipe::{Done, Pipe, Wishes, error};
use super::{UtpStream, refused};
use crate::relay::{Datagrams, Relay};
use crate::way::{self, Hold};

/// Buffers that one system call fills, of what the system coalesces at most (`UDP_GRO`) each.
const RECEIVE_BUFFERS: usize = 8;
const RECEIVE_BYTES: usize = 64 * 1024;
/// Receiving and sending calls of one turn.
const MAX_RECEIVES: usize = 4;
const MAX_SENDS: usize = 32;

/// A wish to connect.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) target: SocketAddr,
    pub(super) answer: oneshot::Sender<io::Result<UtpStream>>,
}

/// What leads to a place from outside, whatever socket it has.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) entrance: Entrance,
    pub(super) others: mpsc::Sender<(SocketAddr, Vec<u8>)>,
}

impl Ends {
    /// Refuses dials until there is a socket again; `None` where there will be none, or nobody can dial any more.
    pub(super) async fn idle_until(
        &mut self,
        reopened: impl Future<Output = Option<Datagrams>>,
    ) -> Option<Datagrams> {
        let mut reopened = std::pin::pin!(reopened);
        loop {
            tokio::select! {
                socket = &mut reopened => return socket,
                command = self.commands.recv() => drop(command?.answer.send(Err(way::over()))),
            }
        }
    }
}

#[derive(Debug)]
struct Connection {
    pipe: Arc<Pipe>,
    remote: SocketAddr,
    /// Who waits for it to open.
    dialled: Option<oneshot::Sender<io::Result<UtpStream>>>,
    finishes: bool,
}

/// The loop.
#[derive(Debug)]
pub(super) struct Driver<'a> {
    socket: Arc<Datagrams>,
    /// Under a proxy: where datagrams go changes at times, and what was begun before goes on nowhere then.
    relay: Option<Relay>,
    /// The remotes know us by an address of the proxy.
    is_known: bool,
    local: SocketAddr,
    state: UdpSocketState,
    origin: Instant,
    machine: Multiplexer,
    connections: HashMap<Key, Connection>,
    wishes: Arc<Wishes>,
    ends: &'a mut Ends,
    hold: Hold,
    /// Connections whose readers, or whose writers perhaps, are to be woken at the end of the turn.
    readers: Vec<Key>,
    writers: Vec<Key>,
    batch: Batch,
    /// The send buffer is full.
    blocked: bool,
}

/// What ended the wait.
enum Woken {
    Socket,
    Wishes,
    Command(Option<Command>),
    /// The proxy's association is another one, or gone.
    Relay,
    /// The way has ended.
    Over,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        socket: Arc<Datagrams>,
        local: SocketAddr,
        ends: &'a mut Ends,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket.socket))?;
        let hold = socket.hold().branch();
        Ok(Driver {
            relay: socket.relay().cloned(),
            is_known: false,
            local,
            socket,
            state,
            origin: Instant::now(),
            machine: Multiplexer::new(Settings::default(), fastrand::Rng::new()),
            connections: HashMap::new(),
            wishes: Arc::default(),
            ends,
            hold,
            readers: Vec::new(),
            writers: Vec::new(),
            batch: Batch::new(),
            blocked: false,
        })
    }

    /// Runs until nobody can dial any more and every connection is over, or until the way is over: then there may be another one.
    pub(super) async fn run(mut self) -> bool {
        let mut buffers = vec![0; RECEIVE_BUFFERS * RECEIVE_BYTES];
        let mut keys = Vec::new();
        let mut busy = false;
        loop {
            match self.wait(busy).await {
                Woken::Socket | Woken::Wishes => {}
                Woken::Relay => self.relay_changed(),
                Woken::Command(Some(command)) => self.connect(command),
                Woken::Command(None) if self.connections.is_empty() => return false,
                Woken::Command(None) => {}
                Woken::Over => return true,
            }
            // A busy loop does not wait, and hears of dials all the same.
            while let Ok(command) = self.ends.commands.try_recv() {
                self.connect(command);
            }
            self.wishes.take(&mut keys);
            for key in keys.drain(..) {
                self.grant(key);
            }
            busy = self.receive(&mut buffers);
            if self.machine.deadline().is_some_and(|at| at <= self.now()) {
                self.handle(Input::Tick, &[]);
            }
            self.wake_readers();
            busy |= self.send();
            self.wake_writers();
        }
    }

    fn now(&self) -> Moment {
        Moment::ZERO + self.origin.elapsed()
    }

    /// Waits until there is something to do. Where a turn ended early, gives way to others and goes on.
    async fn wait(&mut self, busy: bool) -> Woken {
        if busy {
            tokio::task::yield_now().await;
            return match self.hold.is_over() {
                true => Woken::Over,
                false => Woken::Socket,
            };
        }
        let deadline = self.machine.deadline();
        let interest = match self.blocked {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        let timer = async {
            match deadline {
                Some(at) => {
                    let at = self.origin + at.since(Moment::ZERO);
                    tokio::time::sleep_until(at.into()).await;
                }
                None => std::future::pending().await,
            }
        };
        let relay = async {
            match &mut self.relay {
                Some(relay) => relay.changed().await,
                None => std::future::pending().await,
            }
        };
        let is_open = !self.ends.commands.is_closed() || self.connections.is_empty();
        tokio::select! {
            _ = self.socket.socket.ready(interest) => Woken::Socket,
            () = self.wishes.wake.notified() => Woken::Wishes,
            command = self.ends.commands.recv(), if is_open => Woken::Command(command),
            () = relay => Woken::Relay,
            () = self.hold.over() => Woken::Over,
            () = timer => Woken::Wishes,
        }
    }

    /// Ends all connections of an association that has gone: remotes would not know us at the next one's address.
    fn relay_changed(&mut self) {
        if std::mem::take(&mut self.is_known) {
            let keys: Vec<Key> = self.connections.keys().copied().collect();
            for key in keys {
                self.handle(Input::Abort(key), &[]);
            }
        }
        self.is_known = self.relay.as_ref().is_some_and(Relay::stands);
    }

    fn connect(&mut self, command: Command) {
        let Command { target, answer } = command;
        match self.machine.connect(self.now(), target) {
            Ok(key) => self.enter(key, target, Some(answer)),
            // Who does not wait any more needs no answer.
            Err(error) => drop(answer.send(Err(refused(error)))),
        }
    }

    fn enter(
        &mut self,
        key: Key,
        remote: SocketAddr,
        dialled: Option<oneshot::Sender<io::Result<UtpStream>>>,
    ) {
        let pipe = Arc::new(Pipe::new(key, Arc::clone(&self.wishes)));
        let connection = Connection {
            pipe,
            remote,
            dialled,
            finishes: false,
        };
        self.connections.insert(key, connection);
    }

    /// Tells the machine what the user of a stream has done.
    fn grant(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let Done {
            written,
            consumed,
            finished,
            abandoned,
        } = connection.pipe.done();
        let finishes = finished && !std::mem::replace(&mut connection.finishes, finished);
        if written > 0 {
            self.handle(
                Input::Written {
                    key,
                    bytes: written,
                },
                &[],
            );
        }
        if consumed > 0 {
            self.handle(
                Input::Consumed {
                    key,
                    bytes: consumed,
                },
                &[],
            );
        }
        if abandoned {
            self.handle(Input::Abandon(key), &[]);
        } else if finishes {
            self.handle(Input::Finish(key), &[]);
        }
    }

    /// Handles what the socket has. Returns whether there may be more.
    fn receive(&mut self, buffers: &mut [u8]) -> bool {
        let mut metas = [RecvMeta::default(); RECEIVE_BUFFERS];
        for _ in 0..MAX_RECEIVES {
            let mut slices = buffers.chunks_exact_mut(RECEIVE_BYTES).map(IoSliceMut::new);
            let mut slices: [_; RECEIVE_BUFFERS] =
                std::array::from_fn(|_| slices.next().unwrap_or(IoSliceMut::new(&mut [])));
            let socket = &self.socket.socket;
            let count = socket.try_io(Interest::READABLE, || {
                self.state
                    .recv(UdpSockRef::from(socket), &mut slices, &mut metas)
            });
            let count = match count {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    // What an earlier datagram met; the socket is as good as before.
                    tracing::debug!(%error, "receiving failed once");
                    continue;
                }
            };
            for (meta, buffer) in metas
                .iter()
                .zip(buffers.chunks_exact(RECEIVE_BYTES))
                .take(count)
            {
                let stride = meta.stride.max(1);
                for datagram in buffer[..meta.len].chunks(stride) {
                    self.datagram(meta.addr, datagram);
                }
            }
        }
        true
    }

    fn datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let socket = Arc::clone(&self.socket);
        let Some((remote, bytes)) = socket.open(from, bytes) else {
            return;
        };
        if is_utp(bytes) {
            self.handle(Input::Datagram { remote, bytes }, bytes);
        } else if let Ok(place) = self.ends.others.try_reserve() {
            place.send((remote, bytes.to_vec()));
        }
    }

    /// One input, and all that it brings about.
    fn handle(&mut self, input: Input<'_>, datagram: &[u8]) {
        let now = self.now();
        self.machine.handle(now, input);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Accepted { key, remote } => self.accept(key, remote),
                Output::Connected(key) => self.connected(key),
                Output::Received { key, delivery } => self.received(key, &delivery, datagram),
                Output::Acknowledged { key, up_to } => {
                    if let Some(connection) = self.connections.get(&key) {
                        connection.pipe.release(up_to);
                        self.writers.push(key);
                    }
                }
                Output::Finished(key) => {
                    if let Some(connection) = self.connections.get(&key) {
                        connection.pipe.finish_received();
                        self.readers.push(key);
                    }
                }
                Output::Closed { key, reason } => self.closed(key, reason),
            }
        }
    }

    /// A stranger has connected. Where nobody takes it, dropping the stream ends it.
    fn accept(&mut self, key: Key, remote: SocketAddr) {
        self.enter(key, remote, None);
        if let Some(connection) = self.connections.get(&key) {
            let stream = UtpStream::new(Arc::clone(&connection.pipe), self.local, remote);
            self.ends.entrance.offer(stream, remote);
        }
    }

    fn connected(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let stream = UtpStream::new(Arc::clone(&connection.pipe), self.local, connection.remote);
        if let Some(answer) = connection.dialled.take() {
            // Who does not wait any more lets go of the stream.
            drop(answer.send(Ok(stream)));
        }
    }

    fn received(&mut self, key: Key, delivery: &Delivery, datagram: &[u8]) {
        if let Some(connection) = self.connections.get(&key) {
            connection.pipe.deliver(match delivery {
                Delivery::Datagram(length) => &datagram[datagram.len() - length..],
                Delivery::Held(bytes) => bytes,
            });
            if self.readers.last() != Some(&key) {
                self.readers.push(key);
            }
        }
    }

    fn closed(&mut self, key: Key, reason: Closed) {
        if let Some(mut connection) = self.connections.remove(&key) {
            connection.pipe.close(reason);
            if let Some(answer) = connection.dialled.take() {
                let error = match reason {
                    Closed::Reset => io::ErrorKind::ConnectionRefused.into(),
                    other => error(other),
                };
                drop(answer.send(Err(error)));
            }
        }
    }

    /// Sends what there is. Returns whether there is more that the socket would take.
    fn send(&mut self) -> bool {
        let mut sends = 0;
        // What the socket did not take stands before everything else.
        let mut goes = !self.blocked;
        self.blocked = false;
        loop {
            if !goes {
                sends += 1;
                if self.batch.send(&self.socket.socket, &self.state).is_err() {
                    self.blocked = true;
                    return false;
                }
                if sends >= MAX_SENDS {
                    return true;
                }
            }
            let Some((remote, key, datagram)) = self.machine.transmit(self.now()) else {
                break;
            };
            let connection = key.and_then(|key| self.connections.get(&key));
            let max_segments = self.state.max_gso_segments();
            // What finds no association is lost, as on the network.
            if let Some((destination, head)) = self.socket.envelope(&remote.into()) {
                let batch = &mut self.batch;
                goes = batch.append(destination, &head, &datagram, max_segments, |payload| {
                    if let Some(connection) = connection.filter(|_| !payload.is_empty()) {
                        connection.pipe.fill(&datagram.payload, payload);
                    }
                });
            } else {
                goes = true;
            }
            if let Some(key) = key.filter(|key| self.writers.last() != Some(key)) {
                self.writers.push(key);
            }
        }
        self.blocked = self.batch.send(&self.socket.socket, &self.state).is_err();
        false
    }

    /// Wakes the readers for whom this turn brought something, and tells the machine what they read meanwhile.
    fn wake_readers(&mut self) {
        for key in std::mem::take(&mut self.readers) {
            if let Some(connection) = self.connections.get(&key) {
                connection.pipe.readable.notify_one();
                let bytes = connection.pipe.take_consumed();
                if bytes > 0 {
                    self.handle(Input::Consumed { key, bytes }, &[]);
                }
            }
        }
    }

    /// Wakes the writers for whom there is room again.
    fn wake_writers(&mut self) {
        for key in self.writers.drain(..) {
            if let Some(connection) = self.connections.get(&key)
                && connection.pipe.wakes_writer()
            {
                connection.pipe.writable.notify_one();
            }
        }
    }
}

impl Drop for Driver<'_> {
    /// The runtime ends: nobody here waits for ever, and the remotes are told, as the kernel tells those of TCP.
    fn drop(&mut self) {
        let keys: Vec<Key> = self.connections.keys().copied().collect();
        for key in keys {
            self.handle(Input::Abort(key), &[]);
        }
        self.batch = Batch::new();
        self.blocked = false;
        // As far as the socket takes them at once.
        while self.send() {}
    }
}
