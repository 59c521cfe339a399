//! All connections of one UDP socket.
//!
//! Invariant: a key names one connection for ever; every connection whose key was given out ends with one [`Output::Closed`], after which
//! its key means nothing; connections are served in turn, a burst each.

use crate::connection::{Closed, Connection, Event, Opened, difference, stateless};
use crate::half_open::{HalfOpens, Name};
use crate::incoming::Delivery;
use crate::packet::{Datagram, Header, Kind, Packet};
use crate::sequence::Sequence;
use core::net::SocketAddr;
use core::time::Duration;
use fastrand::Rng;
use shoal_machine::Moment;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Packets that one connection sends before it is another one's turn: as many as the system takes in one call (`UDP_MAX_SEGMENTS`
/// is 64 or 128, and 64 KiB hold 44 of ordinary length).
const BURST: u32 = 44;
/// Answers to strangers that wait to be sent. They are dropped beyond that: who is flooded answers a part.
const MAX_REPLIES: usize = 256;
/// Resets sent to strangers in a second. Each is no longer than what it answers, but they need not all be answered.
const RESETS_PER_S: u32 = 100;
/// Tries for an id that the remote's other connections do not have.
const ID_ATTEMPTS: usize = 16;
/// Room that connections leave for those that are yet to come, in bytes: less of it than they could use is left to each.
const MIN_RECEIVE_BYTES: u64 = 64 * 1024;

/// What bounds a multiplexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections at once. SYNs beyond that are not answered.
    pub max_connections: usize,
    /// Payload of one connection that may wait to be read, and so how much it may receive in a round trip.
    pub max_receive_bytes: u64,
    /// Payload of all connections that may wait to be read. Each gets an equal part of it, but never less than 64 KiB.
    pub max_receive_bytes_of_all: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_connections: 4_096,
            max_receive_bytes: 4 * 1024 * 1024,
            max_receive_bytes_of_all: 256 * 1024 * 1024,
        }
    }
}

/// One connection of a multiplexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    slot: usize,
    serial: u64,
}

/// Why no connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// There are as many as may be.
    #[error("there are as many uTP connections as are allowed: wait until one ends")]
    Full,
    /// All ids that were tried are taken by connections with the same remote.
    #[error("there are too many uTP connections with that address")]
    Crowded,
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A datagram came.
    Datagram {
        /// Who sent it.
        remote: SocketAddr,
        /// All of it.
        bytes: &'a [u8],
    },
    /// The user wrote so many bytes more; they have to be kept until they are acknowledged.
    Written {
        /// The connection.
        key: Key,
        /// How many.
        bytes: u64,
    },
    /// The user read so many bytes of what was delivered.
    Consumed {
        /// The connection.
        key: Key,
        /// How many.
        bytes: u64,
    },
    /// The user will write no more.
    Finish(Key),
    /// The user is gone. What was written is still delivered, if the remote takes it in time.
    Abandon(Key),
    /// The connection ends at once, and the remote is told.
    Abort(Key),
    /// The deadline has passed.
    Tick,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A remote opened a connection.
    Accepted {
        /// The connection.
        key: Key,
        /// Its remote.
        remote: SocketAddr,
    },
    /// The remote answered to [`Multiplexer::connect`].
    Connected(Key),
    /// Here are the next bytes of the remote's stream. Those in the datagram are gone with it.
    Received {
        /// The connection.
        key: Key,
        /// Where they are.
        delivery: Delivery,
    },
    /// The bytes of our stream before this offset are not needed any more.
    Acknowledged {
        /// The connection.
        key: Key,
        /// The offset.
        up_to: u64,
    },
    /// The remote's stream has ended; all of it was delivered.
    Finished(Key),
    /// The connection is over.
    Closed {
        /// The connection.
        key: Key,
        /// Why.
        reason: Closed,
    },
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    remote: SocketAddr,
    connection: Connection,
    /// When the timer index thinks that it is due: never later than it is.
    indexed: Option<Moment>,
    /// Whether it is in the queue of those that may have something to send.
    queued: bool,
}

/// All connections of one UDP socket.
///
/// The rule for its driver: after each [`handle`](Multiplexer::handle) call [`poll`](Multiplexer::poll) until it returns `None`, while the datagram is still at hand.
/// After one or several of these, call [`transmit`](Multiplexer::transmit) until it returns `None` or the socket takes no more: whoever handles all that the socket has
/// before it sends anything acknowledges it with one packet. When [`deadline`](Multiplexer::deadline) has passed, `handle` [`Input::Tick`].
#[derive(Debug)]
pub struct Multiplexer {
    settings: Settings,
    dice: Rng,
    entries: Slab<Entry>,
    names: BTreeMap<Name, usize>,
    half_open: HalfOpens,
    timers: BTreeSet<(Moment, usize)>,
    ready: VecDeque<usize>,
    /// Packets that the first of `ready` has sent in its turn.
    burst: u32,
    replies: VecDeque<(SocketAddr, Header)>,
    resets: u32,
    resets_since: Moment,
    outputs: VecDeque<Output>,
    serial: u64,
}

impl Multiplexer {
    /// A multiplexer without connections.
    #[must_use]
    pub fn new(settings: Settings, dice: Rng) -> Self {
        Multiplexer {
            settings,
            dice,
            entries: Slab::new(),
            names: BTreeMap::new(),
            half_open: HalfOpens::default(),
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            burst: 0,
            replies: VecDeque::new(),
            resets: 0,
            resets_since: Moment::ZERO,
            outputs: VecDeque::new(),
            serial: 0,
        }
    }

    /// How many connections there are, with those that are not open yet or not quite over.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.entries.len()
    }

    /// Opens a connection to `remote`. [`Output::Connected`] or [`Output::Closed`] follows.
    pub fn connect(&mut self, now: Moment, remote: SocketAddr) -> Result<Key, ConnectError> {
        if self.entries.len() >= self.settings.max_connections {
            return Err(ConnectError::Full);
        }
        let dice = &mut self.dice;
        let mut ids = core::iter::repeat_with(|| dice.u16(..)).take(ID_ATTEMPTS);
        // The remote's answers carry our id; a connection that it opened has the id after the one it chose.
        let receive_id = ids
            .find(|id| !self.names.contains_key(&(remote, *id)))
            .ok_or(ConnectError::Crowded)?;
        let opened = Opened {
            remote,
            receive_id,
            send_id: receive_id.wrapping_add(1),
            sequence: Sequence(self.dice.u16(..)),
            acknowledged: Sequence(0),
        };
        let connection = Connection::connect(now, opened, self.receive_limit());
        Ok(self.enter(remote, connection))
    }

    /// One mutation, but for [`connect`](Multiplexer::connect) and [`transmit`](Multiplexer::transmit), whose answers cannot wait.
    pub fn handle(&mut self, now: Moment, input: Input<'_>) {
        match input {
            Input::Datagram { remote, bytes } => self.datagram(now, remote, bytes),
            Input::Written { key, bytes } => self.with(key, |entry| entry.written(bytes)),
            Input::Consumed { key, bytes } => {
                let limit = self.receive_limit();
                self.with(key, |entry| {
                    entry.set_limit(limit);
                    entry.consumed(bytes);
                });
            }
            Input::Finish(key) => self.with(key, Connection::finish),
            Input::Abandon(key) => self.with(key, |entry| entry.abandon(now)),
            Input::Abort(key) => self.with(key, Connection::abort),
            Input::Tick => self.tick(now),
        }
    }

    /// What has happened, until there is no more.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next datagram, where it goes and whose stream its payload is of; `None` where nothing is to be sent before something
    /// happens. Datagrams of one connection follow each other, so that the system can be given several at once. The bytes are those of
    /// the moment: the driver takes a datagram only when it can send it.
    pub fn transmit(&mut self, now: Moment) -> Option<(SocketAddr, Option<Key>, Datagram)> {
        if let Some((remote, header)) = self.replies.pop_front() {
            return Some((remote, None, stateless(now, header)));
        }
        while let Some(&slot) = self.ready.front() {
            let entry = &mut self.entries[slot];
            if let Some(datagram) = entry.connection.transmit(now) {
                let key = Key {
                    slot,
                    serial: entry.serial,
                };
                let remote = entry.remote;
                self.burst += 1;
                if self.burst == BURST {
                    self.burst = 0;
                    self.ready.rotate_left(1);
                }
                return Some((remote, Some(key), datagram));
            }
            entry.queued = false;
            self.burst = 0;
            self.ready.pop_front();
            self.settle(slot);
        }
        None
    }

    fn datagram(&mut self, now: Moment, remote: SocketAddr, bytes: &[u8]) {
        let Ok(packet) = Packet::decode(bytes) else {
            return;
        };
        let header = &packet.header;
        // A SYN names the id of the answers; all that follows has the next one.
        let id = match header.kind {
            Kind::Syn => header.connection_id.wrapping_add(1),
            _ => header.connection_id,
        };
        let slot = self.find(remote, id, header.kind);
        if let Some(slot) = slot {
            self.entries[slot].connection.receive(now, &packet);
            return self.touch(slot);
        }
        match header.kind {
            Kind::Syn => self.syn(now, (remote, id), header),
            Kind::Reset => {}
            Kind::Data | Kind::Fin | Kind::State => self.stranger(now, (remote, id), &packet),
        }
    }

    /// The connection that a packet belongs to. A reset carries the id that its sender received, or the one it would send.
    fn find(&self, remote: SocketAddr, id: u16, kind: Kind) -> Option<usize> {
        let found = self.names.get(&(remote, id)).copied();
        if found.is_some() || kind != Kind::Reset {
            return found;
        }
        let near = [id.wrapping_add(1), id.wrapping_sub(1)];
        let mut slots = near.iter().filter_map(|id| self.names.get(&(remote, *id)));
        slots
            .find(|slot| self.entries[**slot].connection.send_id() == id)
            .copied()
    }

    fn syn(&mut self, now: Moment, name: Name, header: &Header) {
        if self.entries.len() >= self.settings.max_connections {
            return;
        }
        let entry = self
            .half_open
            .syn(now, name, header.sequence, &mut self.dice);
        let window = u32::try_from(self.receive_limit()).unwrap_or(u32::MAX);
        self.reply(
            name.0,
            Header {
                kind: Kind::State,
                connection_id: header.connection_id,
                timestamp_us: 0,
                difference_us: difference(now, header.timestamp_us),
                window_bytes: window,
                sequence: entry.sequence,
                acknowledged: entry.acknowledged,
            },
        );
    }

    /// A packet of no connection: the remote proves that it got our answer to its SYN, or has to know that we do not know it.
    fn stranger(&mut self, now: Moment, name: Name, packet: &Packet<'_>) {
        let header = &packet.header;
        let Some((entry, sequence)) = self.half_open.prove(now, name, header.acknowledged) else {
            if !self.half_open.contains(name) {
                self.reset(now, name.0, header);
            }
            return;
        };
        if self.entries.len() >= self.settings.max_connections {
            return self.reset(now, name.0, header);
        }
        let (remote, receive_id) = name;
        let opened = Opened {
            remote,
            receive_id,
            send_id: receive_id.wrapping_sub(1),
            sequence,
            acknowledged: entry.acknowledged,
        };
        let round_trip: Option<Duration> = (!entry.repeated).then(|| now - entry.began);
        let connection = Connection::accept(now, opened, self.receive_limit(), round_trip);
        let key = self.enter(remote, connection);
        self.outputs.push_back(Output::Accepted { key, remote });
        self.entries[key.slot].connection.receive(now, packet);
        self.touch(key.slot);
    }

    fn reset(&mut self, now: Moment, remote: SocketAddr, header: &Header) {
        if now - self.resets_since >= Duration::from_secs(1) {
            self.resets_since = now;
            self.resets = 0;
        }
        if self.resets >= RESETS_PER_S {
            return;
        }
        self.resets += 1;
        let sequence = Sequence(self.dice.u16(..));
        self.reply(
            remote,
            Header {
                kind: Kind::Reset,
                connection_id: header.connection_id,
                timestamp_us: 0,
                difference_us: difference(now, header.timestamp_us),
                window_bytes: 0,
                sequence,
                acknowledged: header.sequence,
            },
        );
    }

    fn reply(&mut self, remote: SocketAddr, header: Header) {
        if self.replies.len() < MAX_REPLIES {
            self.replies.push_back((remote, header));
        }
    }

    fn tick(&mut self, now: Moment) {
        while let Some(&(at, slot)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let entry = &mut self.entries[slot];
            entry.indexed = None;
            entry.connection.tick(now);
            self.touch(slot);
        }
    }

    /// An equal part of all room for payload that waits to be read.
    fn receive_limit(&self) -> u64 {
        let connections = self.entries.len().max(1) as u64;
        let part = self.settings.max_receive_bytes_of_all / connections;
        part.clamp(
            MIN_RECEIVE_BYTES,
            self.settings.max_receive_bytes.max(MIN_RECEIVE_BYTES),
        )
    }

    fn enter(&mut self, remote: SocketAddr, connection: Connection) -> Key {
        self.serial += 1;
        let name = (remote, connection.receive_id());
        let slot = self.entries.insert(Entry {
            serial: self.serial,
            remote,
            connection,
            indexed: None,
            queued: false,
        });
        self.names.insert(name, slot);
        self.touch(slot);
        Key {
            slot,
            serial: self.serial,
        }
    }

    fn with(&mut self, key: Key, change: impl FnOnce(&mut Connection)) {
        let entry = self.entries.get_mut(key.slot);
        if let Some(entry) = entry.filter(|entry| entry.serial == key.serial) {
            change(&mut entry.connection);
            self.touch(key.slot);
        }
    }

    /// After anything happened to a connection: passes on what it has to say, and gives it a turn to send.
    fn touch(&mut self, slot: usize) {
        let entry = &mut self.entries[slot];
        let key = Key {
            slot,
            serial: entry.serial,
        };
        while let Some(event) = entry.connection.poll() {
            self.outputs.push_back(match event {
                Event::Connected => Output::Connected(key),
                Event::Received(delivery) => Output::Received { key, delivery },
                Event::Acknowledged(up_to) => Output::Acknowledged { key, up_to },
                Event::Finished => Output::Finished(key),
                Event::Closed(reason) => Output::Closed { key, reason },
            });
        }
        if !entry.queued {
            entry.queued = true;
            self.ready.push_back(slot);
        }
        self.index(slot);
    }

    /// A connection has nothing to send: forgets it where it is over.
    fn settle(&mut self, slot: usize) {
        let entry = &self.entries[slot];
        if !entry.connection.is_closed() {
            return self.index(slot);
        }
        let name = (entry.remote, entry.connection.receive_id());
        if let Some(at) = entry.indexed {
            self.timers.remove(&(at, slot));
        }
        self.names.remove(&name);
        self.entries.remove(slot);
    }

    /// Sees that the connection's deadline is not missed. An entry that is too early costs one tick in vain, moving it each time that
    /// a deadline is put off would cost more.
    fn index(&mut self, slot: usize) {
        let entry = &mut self.entries[slot];
        let Some(at) = entry.connection.deadline() else {
            return;
        };
        if entry.indexed.is_none_or(|indexed| at < indexed) {
            if let Some(indexed) = entry.indexed.replace(at) {
                self.timers.remove(&(indexed, slot));
            }
            self.timers.insert((at, slot));
        }
    }
}

#[cfg(test)]
mod tests;
