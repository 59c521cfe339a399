//! One node that knows no more than an info hash, among remotes that have the torrent, lie about it, dawdle or leave: the machines of
//! both ends, over links with nothing but a delay.
//!
//! Invariant: the same setup, seed included, gives the same messages in the same order.

use crate::queue::EventQueue;
use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use shoal_machine::{Machine, Moment};
use shoal_metainfo::create::{self, Options, Plan, SourceFile};
use shoal_metainfo::merkle::{Tree, file_height, piece_layer_height};
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{FileIndex, InfoHashes, Metainfo};
use shoal_swarm::metadata::search::{Found, Input, Output, Search};
use shoal_swarm::metadata::seeker::{self, Seeker, Terms};
use shoal_swarm::peer_session::{self, Negotiated, PeerSession, PeerSettings};
use shoal_swarm::torrent::Origin;
use shoal_swarm::{Has, PeerKey};
use shoal_wire::{ExtendedHandshake, Hashes, Message, Metadata};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

pub use shoal_metainfo::create::Kind;

/// Longer than any of these takes.
const LIMIT: Moment = Moment::from_secs(600);

/// How a remote treats those who ask for metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It gives what it has.
    Honest,
    /// It has the torrent, and knows only its v1 part.
    KnowsV1,
    /// One bit of this piece of metadata is wrong.
    WrongPiece(u32),
    /// It claims this size, and has as many bytes.
    WrongSize(u32),
    /// One bit of its hashes is wrong.
    WrongHashes,
    /// It offers metadata and sends none.
    Silent,
    /// It rejects every request for metadata.
    Rejects,
    /// It leaves after it has sent this many pieces.
    LeavesAfter(u32),
}

/// What a search meets.
#[derive(Clone, Debug)]
pub struct MagnetSetup {
    /// Decides delays and dice.
    pub seed: u64,
    /// The kind of torrent.
    pub kind: Kind,
    /// Pieces of 16 KiB of its one file: 20 bytes each in the metadata of v1 and hybrids, 32 in the piece layer of v2.
    pub pieces: u32,
    /// Whether the magnet has the v1 hash, where there is one, and the v2 hash.
    pub named: (bool, bool),
    /// The remotes.
    pub remotes: Vec<Manner>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MagnetOutcome {
    /// What was found, and when.
    pub found: Option<(Found, Moment)>,
    /// The remotes that were banned, by their place in the setup.
    pub banned: BTreeSet<usize>,
    /// Bytes of metadata that were sent to the search.
    pub metadata_bytes: u64,
    /// Of every message.
    pub trace: u64,
}

/// The torrent, as those know it who have it.
#[derive(Debug)]
struct Known {
    metainfo: Metainfo,
    trees: BTreeMap<[u8; 32], Tree>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The handshake of a dial is done.
    Shaken(PeerKey, usize),
    /// What waits in a stream's direction arrives.
    ToSearch(PeerKey),
    ToRemote(PeerKey),
    /// One end has closed.
    Closed(PeerKey),
    Tick,
}

#[derive(Debug)]
struct Connection {
    remote: usize,
    v2: bool,
    seeker: Seeker,
    session: PeerSession,
    /// In order of sending, each with an event of its own.
    to_search: Vec<Message>,
    to_remote: Vec<Message>,
    sent_pieces: u32,
    open: bool,
}

/// Runs one search to its end.
#[derive(Debug)]
pub struct MagnetWorld {
    setup: MagnetSetup,
    known: Known,
    search: Search,
    delays: Vec<Duration>,
    connections: BTreeMap<PeerKey, Connection>,
    queue: EventQueue<Event>,
    now: Moment,
    tick: Option<Moment>,
    /// The names under which the search introduces itself.
    names: InfoHashes,
    outcome: MagnetOutcome,
    trace: DefaultHasher,
}

fn torrent(kind: Kind, pieces: u32) -> Known {
    const PIECE: u32 = 16 * 1024;
    let length = u64::from(pieces) * u64::from(PIECE) - 100;
    let file = SourceFile {
        path: vec!["file".to_owned()],
        length,
        ..SourceFile::default()
    };
    let options = Options {
        kind,
        piece_length: Some(PIECE),
        ..Options::default()
    };
    let plan = Plan::new("sample".to_owned(), vec![file], options);
    let plan = plan.expect("one file of whole pieces can be planned");
    let hashes: Vec<create::PieceHash> = plan
        .layout()
        .pieces()
        .map(|piece| {
            let mut hasher = plan.hasher(piece);
            for segment in plan.segments(piece) {
                let fill = piece.0.to_le_bytes()[0];
                let bytes = if segment.source.is_some() { fill } else { 0 };
                let count = usize::try_from(segment.length).expect("a segment is within a piece");
                hasher.update(&vec![bytes; count]);
            }
            plan.piece_hash(piece, &hasher.finish())
        })
        .collect();
    let bytes = plan.finish(&hashes).expect("every piece has its hash");
    let metainfo = Metainfo::parse(&bytes, Limits::LOCAL).expect("what is made is right");
    let trees = (0..).zip(metainfo.files()).filter_map(|(index, file)| {
        let layer = metainfo.piece_layer(FileIndex(index));
        let tree = Tree::new(piece_layer_height(PIECE), layer, file_height(file.length))?;
        Some((file.root?, tree))
    });
    Known {
        trees: trees.collect(),
        metainfo,
    }
}

impl MagnetWorld {
    /// The world before anything happens.
    ///
    /// # Panics
    /// Where the setup names no hash that the torrent has.
    #[must_use]
    pub fn new(setup: MagnetSetup) -> Self {
        let known = torrent(setup.kind, setup.pieces);
        let all = known.metainfo.info_hashes();
        let (v1, v2) = setup.named;
        let named = InfoHashes::new(all.v1().filter(|_| v1), all.v2().filter(|_| v2));
        let named = named.expect("a magnet has a hash");
        let mut rng = fastrand::Rng::with_seed(setup.seed);
        let delay = |_: &Manner| Duration::from_millis(rng.u64(5..150));
        let delays = setup.remotes.iter().map(delay).collect();
        MagnetWorld {
            search: Search::new(named, [0; 20], setup.seed),
            setup,
            known,
            delays,
            connections: BTreeMap::new(),
            queue: EventQueue::new(),
            now: Moment::ZERO,
            tick: None,
            names: named,
            outcome: MagnetOutcome {
                found: None,
                banned: BTreeSet::new(),
                metadata_bytes: 0,
                trace: 0,
            },
            trace: DefaultHasher::new(),
        }
    }

    /// Runs until everything is found or the time is over.
    #[must_use]
    pub fn run(mut self) -> MagnetOutcome {
        let addresses = (0..self.setup.remotes.len()).map(address).collect();
        let origin = Origin::Tracker;
        self.handle(Input::Candidates { origin, addresses });
        while self.outcome.found.is_none()
            && let Some((at, event)) = self.queue.pop()
            && at <= LIMIT
        {
            self.now = at;
            self.happen(event);
        }
        self.outcome.trace = self.trace.finish();
        self.outcome
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => {
                self.tick = None;
                self.handle(Input::Tick);
            }
            Event::Shaken(peer, remote) => self.shaken(peer, remote),
            Event::ToSearch(peer) => {
                if let Some(connection) = self.connections.get_mut(&peer)
                    && connection.open
                {
                    let message = connection.to_search.remove(0);
                    self.tell_seeker(peer, seeker::Input::Message(message));
                }
            }
            Event::ToRemote(peer) => {
                if let Some(connection) = self.connections.get_mut(&peer)
                    && connection.open
                {
                    let message = connection.to_remote.remove(0);
                    self.tell_session(peer, peer_session::Input::Message(message));
                }
            }
            Event::Closed(peer) => self.tell_seeker(peer, seeker::Input::Disconnected),
        }
    }

    /// Both ends begin to speak.
    fn shaken(&mut self, peer: PeerKey, remote: usize) {
        let manner = self.setup.remotes[remote];
        let v2 =
            self.names.v2().is_some() && self.setup.kind != Kind::V1 && manner != Manner::KnowsV1;
        let terms = Terms {
            fast: true,
            extended: true,
            v2,
            port: None,
            your_ip: None,
            anonymous: false,
        };
        let negotiated = Negotiated {
            fast: true,
            extended: true,
            v2,
            ours: Has::All,
        };
        let settings = PeerSettings {
            info: self.known.metainfo.raw_info().to_vec().into(),
            ..PeerSettings::default()
        };
        let layout = Arc::new(self.known.metainfo.layout().clone());
        let connection = Connection {
            remote,
            v2,
            seeker: Seeker::new(terms, self.now),
            session: PeerSession::new(layout, negotiated, settings, self.now),
            to_search: Vec::new(),
            to_remote: Vec::new(),
            sent_pieces: 0,
            open: true,
        };
        self.connections.insert(peer, connection);
        self.handle(Input::Connected {
            peer,
            address: address(remote),
            peer_id: [u8::try_from(remote + 1).unwrap_or(u8::MAX); 20],
            origin: Origin::Tracker,
            v2,
        });
        self.drain_seeker(peer);
        self.drain_session(peer);
    }

    fn handle(&mut self, input: Input) {
        self.search.handle(self.now, input);
        while let Some(output) = self.search.poll() {
            self.carry_out(output);
        }
        if let Some(at) = self.search.deadline()
            && self.tick.is_none_or(|tick| at < tick)
        {
            self.tick = Some(at);
            self.queue.push(at.max(self.now), Event::Tick);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Peer { peer, message } => {
                self.tell_seeker(peer, seeker::Input::Search(message));
            }
            Output::Dial { peer, address, .. } => {
                let remote = usize::from(address.port()) - 1;
                let at = self.now + 4 * self.delays[remote];
                self.queue.push(at, Event::Shaken(peer, remote));
            }
            Output::WantsDials(count) => {
                // The session of an otherwise idle node grants all that is wanted.
                self.search.handle(self.now, Input::DialGranted(count));
            }
            Output::Refuse { peer, .. } => {
                self.connections.remove(&peer);
            }
            Output::Ban(ip) => {
                let remote = (0..self.setup.remotes.len()).find(|&at| address(at).ip() == ip);
                self.outcome.banned.extend(remote);
            }
            Output::Info(hashes) => self.names = hashes,
            Output::Found(found) => self.outcome.found = Some((found, self.now)),
            Output::WantsCandidates | Output::Unusable(_) => {}
        }
    }

    fn tell_seeker(&mut self, peer: PeerKey, input: seeker::Input) {
        if let Some(connection) = self.connections.get_mut(&peer) {
            connection.seeker.handle(self.now, input);
            self.drain_seeker(peer);
        }
    }

    fn drain_seeker(&mut self, peer: PeerKey) {
        while let Some(connection) = self.connections.get_mut(&peer)
            && let Some(output) = connection.seeker.poll()
        {
            match output {
                seeker::Output::Send(message) => {
                    format!("{peer:?} > {message:?}").hash(&mut self.trace);
                    connection.to_remote.push(message);
                    let at = self.now + self.delays[connection.remote];
                    self.queue.push(at, Event::ToRemote(peer));
                }
                seeker::Output::Search(message) => self.handle(Input::Peer { peer, message }),
                seeker::Output::Close(_) => connection.open = false,
            }
        }
    }

    fn tell_session(&mut self, peer: PeerKey, input: peer_session::Input) {
        if let Some(connection) = self.connections.get_mut(&peer) {
            connection.session.handle(self.now, input);
            self.drain_session(peer);
        }
    }

    fn drain_session(&mut self, peer: PeerKey) {
        while let Some(connection) = self.connections.get_mut(&peer)
            && let Some(output) = connection.session.poll()
        {
            match output {
                peer_session::Output::Send(message) => self.say(peer, message),
                peer_session::Output::ServeHashes(request) => {
                    let tree = self.known.trees.get(&request.pieces_root);
                    let hashes = tree.and_then(|tree| tree.answer(&request));
                    let hashes = hashes.map(|hashes| Hashes { request, hashes });
                    let input = peer_session::Input::HashesServed { request, hashes };
                    connection.session.handle(self.now, input);
                }
                peer_session::Output::Close(_) => self.leave(peer),
                _ => {}
            }
        }
    }

    fn leave(&mut self, peer: PeerKey) {
        if let Some(connection) = self.connections.get(&peer) {
            let at = self.now + self.delays[connection.remote];
            self.queue.push(at, Event::Closed(peer));
        }
    }

    /// What a remote says, once its manner has had its way with it.
    fn say(&mut self, peer: PeerKey, message: Message) {
        let Some(connection) = self.connections.get_mut(&peer) else {
            return;
        };
        let manner = self.setup.remotes[connection.remote];
        let Some(message) = twist(manner, message, connection.sent_pieces) else {
            if matches!(manner, Manner::LeavesAfter(_)) {
                self.leave(peer);
            }
            return;
        };
        if let Message::Metadata(Metadata::Data { bytes, .. }) = &message {
            connection.sent_pieces += 1;
            self.outcome.metadata_bytes += bytes.len() as u64;
        }
        assert!(
            connection.v2 || !matches!(message, Message::Hashes(_)),
            "hashes over v1"
        );
        format!("{peer:?} < {message:?}").hash(&mut self.trace);
        connection.to_search.push(message);
        let at = self.now + self.delays[connection.remote];
        self.queue.push(at, Event::ToSearch(peer));
    }
}

/// Every remote has an IP address of its own, as a ban is for one.
fn address(remote: usize) -> SocketAddr {
    let number = u16::try_from(remote + 1).unwrap_or(u16::MAX);
    let [high, low] = number.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 0, high, low), number))
}

/// What becomes of a message of an honest remote; `None` where it is not sent.
fn twist(manner: Manner, message: Message, sent_pieces: u32) -> Option<Message> {
    match (manner, message) {
        (Manner::WrongSize(size), Message::ExtendedHandshake(handshake)) => {
            Some(Message::ExtendedHandshake(ExtendedHandshake {
                metadata_size: Some(size),
                ..handshake
            }))
        }
        (Manner::WrongSize(total_bytes), Message::Metadata(message)) => {
            let (Metadata::Data { piece, .. } | Metadata::Reject { piece }) = message else {
                return None;
            };
            let length = shoal_wire::metadata::metadata_piece_length(piece, total_bytes)?;
            let bytes = vec![7; usize::try_from(length).ok()?].into();
            Some(Message::Metadata(Metadata::Data {
                piece,
                total_bytes,
                bytes,
            }))
        }
        (
            Manner::WrongPiece(wrong),
            Message::Metadata(Metadata::Data {
                piece,
                total_bytes,
                bytes,
            }),
        ) if wrong == piece => {
            let mut bytes = bytes.to_vec();
            bytes[0] ^= 1;
            Some(Message::Metadata(Metadata::Data {
                piece,
                total_bytes,
                bytes: bytes.into(),
            }))
        }
        (Manner::WrongHashes, Message::Hashes(mut hashes)) => {
            hashes.hashes[0][0] ^= 1;
            Some(Message::Hashes(hashes))
        }
        (Manner::Silent, Message::Metadata(_)) => None,
        (Manner::Rejects, Message::Metadata(Metadata::Data { piece, .. })) => {
            Some(Message::Metadata(Metadata::Reject { piece }))
        }
        (Manner::LeavesAfter(pieces), Message::Metadata(_)) if sent_pieces >= pieces => None,
        (_, message) => Some(message),
    }
}

impl MagnetOutcome {
    /// When everything was found, in seconds; never is infinite.
    #[must_use]
    pub fn found_s(&self) -> f64 {
        let at = self.found.as_ref().map(|(_, at)| at.as_secs_f64());
        at.unwrap_or(f64::INFINITY)
    }
}
