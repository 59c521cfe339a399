//! Whole swarms in memory: torrents, their sessions and a pretended disk, with every queue between them delivered in an
//! order that a seed chooses.

use super::*;
use crate::peer_session::{self, Negotiated, PeerSession, PeerSettings};
use core::net::IpAddr;
use shoal_wire::{Message, Request};

/// What a block's bytes are: right, or the doing of somebody.
type Content = u64;
const RIGHT: Content = 0;

/// One end of a connection, with what is on its way to it.
struct Seat {
    session: PeerSession,
    remote: (usize, PeerKey),
    /// From the remote, in order; the content belongs to a block's header.
    wire: VecDeque<(Message, Content)>,
    /// From the driver, in order.
    local: VecDeque<peer_session::Input>,
    from_torrent: VecDeque<ToPeer>,
    to_torrent: VecDeque<FromPeer>,
    /// The block whose bytes are arriving.
    arriving: Option<(Block, Content)>,
    held: BTreeSet<Block>,
    over: bool,
}

struct Node {
    torrent: Torrent,
    seats: BTreeMap<PeerKey, Seat>,
    store: BTreeMap<Block, Content>,
    verified: Bitfield,
    /// What storage and the rest of the engine say.
    inbox: VecDeque<Input>,
    liar: bool,
    completions: u32,
    banned: BTreeSet<IpAddr>,
}

struct Swarm {
    nodes: Vec<Node>,
    now: Moment,
    rng: fastrand::Rng,
}

/// What can be delivered next.
#[derive(Clone, Copy)]
enum Delivery {
    Inbox,
    Wire(PeerKey),
    Local(PeerKey),
    ToSession(PeerKey),
    ToTorrent(PeerKey),
}

fn node_address(node: usize) -> SocketAddr {
    address(u64::try_from(node).unwrap())
}

impl Node {
    fn new(node: usize, seed: u64, have: Bitfield) -> Self {
        let config = TorrentConfig {
            our_peer_id: [u8::try_from(node).unwrap() + 1; 20],
            seed,
            ..config(have.clone())
        };
        Node {
            torrent: Torrent::new(config),
            seats: BTreeMap::new(),
            store: BTreeMap::new(),
            verified: have,
            inbox: VecDeque::new(),
            liar: false,
            completions: 0,
            banned: BTreeSet::new(),
        }
    }

    fn deliveries(&self) -> Vec<Delivery> {
        let mut ready = Vec::new();
        if !self.inbox.is_empty() {
            ready.push(Delivery::Inbox);
        }
        for (&key, seat) in &self.seats {
            // The bytes of a block come before the next message.
            if !seat.wire.is_empty() && seat.arriving.is_none() {
                ready.push(Delivery::Wire(key));
            }
            if !seat.local.is_empty() || seat.arriving.is_some() {
                ready.push(Delivery::Local(key));
            }
            if !seat.from_torrent.is_empty() {
                ready.push(Delivery::ToSession(key));
            }
            if !seat.to_torrent.is_empty() {
                ready.push(Delivery::ToTorrent(key));
            }
        }
        ready
    }

    /// Keeps a block unless it is there already, and judges its piece when that is whole.
    fn store(&mut self, block: Block, content: Content) -> peer_session::Input {
        let piece = block.piece;
        if self.verified.get(piece) || self.store.contains_key(&block) {
            return peer_session::Input::BlockKnown(block);
        }
        self.store.insert(block, content);
        self.judge(piece);
        peer_session::Input::BlockStored(block)
    }

    fn judge(&mut self, piece: PieceIndex) {
        let blocks = whole(piece.0)
            .blocks()
            .map(|block| self.store.get(&block).copied());
        let Some(blocks) = blocks.collect::<Option<Vec<Content>>>() else {
            return;
        };
        if blocks.iter().all(|&content| content == RIGHT) {
            self.verified.insert(piece);
            self.inbox.push_back(Input::Verified { piece, blocks });
        } else {
            self.store.retain(|block, _| block.piece != piece);
            let bad = Vec::new();
            self.inbox.push_back(Input::Failed { piece, bad, blocks });
        }
    }
}

impl Swarm {
    /// One seed and some leeches, all connected to each other.
    fn new(seed: u64, leeches: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let have = |node| {
            if node == 0 {
                Bitfield::full(PIECES)
            } else {
                Bitfield::empty(PIECES)
            }
        };
        let mut swarm = Swarm {
            nodes: (0..=leeches)
                .map(|node| Node::new(node, rng.u64(..), have(node)))
                .collect(),
            now: Moment::from_secs(1),
            rng,
        };
        for a in 0..=leeches {
            for b in 0..a {
                swarm.connect(a, b);
            }
        }
        swarm
    }

    fn connect(&mut self, a: usize, b: usize) {
        let keys = [a, b].map(|node| self.nodes[node].torrent.next_key());
        let fast = self.rng.bool();
        for (at, (node, remote)) in [(a, b), (b, a)].into_iter().enumerate() {
            let connected = Input::Connected {
                peer: keys[at],
                address: node_address(remote),
                peer_id: [u8::try_from(remote).unwrap() + 1; 20],
                origin: Origin::Incoming,
            };
            self.nodes[node].torrent.handle(self.now, connected);
            let ours = Has::from_bitfield(self.nodes[node].torrent.have().clone());
            let negotiated = Negotiated {
                fast,
                extended: true,
                v2: false,
                ours,
            };
            let layout = self.nodes[node].torrent.layout.clone();
            let settings = PeerSettings::default();
            let seat = Seat {
                session: PeerSession::new(layout, negotiated, settings, self.now),
                remote: (remote, keys[1 - at]),
                wire: VecDeque::new(),
                local: VecDeque::new(),
                from_torrent: VecDeque::new(),
                to_torrent: VecDeque::new(),
                arriving: None,
                held: BTreeSet::new(),
                over: false,
            };
            self.nodes[node].seats.insert(keys[at], seat);
        }
        for (node, key) in [(a, keys[0]), (b, keys[1])] {
            self.drain_torrent(node);
            self.drain_session(node, key);
        }
    }

    /// The socket of a seat closes: the remote notices some time.
    fn hang_up(&mut self, node: usize, key: PeerKey) {
        let Some(seat) = self.nodes[node].seats.get_mut(&key) else {
            return;
        };
        seat.over = true;
        seat.wire.clear();
        seat.arriving = None;
        let (remote, remote_key) = seat.remote;
        if let Some(other) = self.nodes[remote].seats.get_mut(&remote_key) {
            other.local.push_back(peer_session::Input::Disconnected);
        }
    }

    fn handle_session(&mut self, node: usize, key: PeerKey, input: peer_session::Input) {
        let now = self.now;
        let Some(seat) = self.nodes[node].seats.get_mut(&key) else {
            return;
        };
        let open = !seat.session.is_closed();
        if let (true, peer_session::Input::Torrent(ToPeer::Lease(runs))) = (open, &input) {
            for block in runs.iter().flat_map(|run| run.blocks()) {
                assert!(seat.held.insert(block), "{block:?} was leased twice");
            }
        }
        seat.session.handle(now, input);
        self.drain_session(node, key);
    }

    fn drain_session(&mut self, node: usize, key: PeerKey) {
        loop {
            let at = &mut self.nodes[node];
            let Some(seat) = at.seats.get_mut(&key) else {
                return;
            };
            let Some(output) = seat.session.poll() else {
                return;
            };
            match output {
                peer_session::Output::Send(message) => self.carry(node, key, message, RIGHT),
                peer_session::Output::Store(block) => {
                    let content = seat.arriving.map_or(RIGHT, |(_, content)| content);
                    seat.arriving = Some((block, content));
                }
                peer_session::Output::Discard(_) => seat.arriving = None,
                peer_session::Output::Upload(request) => {
                    assert!(
                        at.verified.get(request.piece),
                        "it serves what is not verified"
                    );
                    let sent = true;
                    let lie = at.liar && self.rng.u8(0..3) == 0;
                    let content = if lie {
                        u64::try_from(node).unwrap()
                    } else {
                        RIGHT
                    };
                    seat.local
                        .push_back(peer_session::Input::Uploaded { request, sent });
                    self.carry(node, key, Message::Piece(request), content);
                }
                peer_session::Output::Torrent(message) => {
                    if let FromPeer::Received(runs) | FromPeer::Returned { runs, .. } = &message {
                        for block in runs.iter().flat_map(|run| run.blocks()) {
                            assert!(seat.held.remove(&block), "{block:?} came back twice");
                        }
                    }
                    if matches!(message, FromPeer::Left(_)) {
                        assert!(seat.held.is_empty(), "leases got lost");
                    }
                    seat.to_torrent.push_back(message);
                }
                peer_session::Output::Close(reason) => {
                    let honest = !matches!(reason, CloseReason::Protocol(_));
                    assert!(honest, "node {node} closed: {reason:?}");
                    self.hang_up(node, key);
                }
                _ => {}
            }
        }
    }

    fn carry(&mut self, node: usize, key: PeerKey, message: Message, content: Content) {
        let (remote, remote_key) = self.nodes[node].seats[&key].remote;
        if let Some(seat) = self.nodes[remote]
            .seats
            .get_mut(&remote_key)
            .filter(|seat| !seat.over)
        {
            seat.wire.push_back((message, content));
        }
    }

    fn handle_torrent(&mut self, node: usize, input: Input) {
        self.nodes[node].torrent.handle(self.now, input);
        self.drain_torrent(node);
    }

    fn drain_torrent(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        while let Some(output) = at.torrent.poll() {
            match output {
                Output::Peer { peer, message } => {
                    if let Some(seat) = at.seats.get_mut(&peer) {
                        seat.from_torrent.push_back(message);
                    }
                }
                Output::Broadcast(message) => {
                    let seats = at.seats.values_mut();
                    seats.for_each(|seat| seat.from_torrent.push_back(message.clone()));
                }
                Output::Refuse { peer, .. } => {
                    let refused = peer_session::Input::Disconnected;
                    if let Some(seat) = at.seats.get_mut(&peer) {
                        seat.local.push_back(refused);
                    }
                }
                Output::Ban(address) => drop(at.banned.insert(address)),
                Output::Complete => at.completions += 1,
                Output::Forget(piece) => {
                    at.store
                        .retain(|block, _| block.piece != piece || at.verified.get(piece));
                }
                _ => {}
            }
        }
    }

    fn deliver(&mut self, node: usize, delivery: Delivery) {
        let at = &mut self.nodes[node];
        match delivery {
            Delivery::Inbox => {
                if let Some(input) = at.inbox.pop_front() {
                    self.handle_torrent(node, input);
                }
            }
            Delivery::ToTorrent(peer) => {
                let message = at
                    .seats
                    .get_mut(&peer)
                    .and_then(|seat| seat.to_torrent.pop_front());
                let Some(message) = message else { return };
                let left = matches!(message, FromPeer::Left(_));
                self.handle_torrent(node, Input::Peer { peer, message });
                if left {
                    self.nodes[node].seats.remove(&peer);
                }
            }
            Delivery::ToSession(key) => {
                let message = at
                    .seats
                    .get_mut(&key)
                    .and_then(|seat| seat.from_torrent.pop_front());
                if let Some(message) = message {
                    self.handle_session(node, key, peer_session::Input::Torrent(message));
                }
            }
            Delivery::Wire(key) => {
                let Some(seat) = at.seats.get_mut(&key) else {
                    return;
                };
                let Some((message, content)) = seat.wire.pop_front() else {
                    return;
                };
                if let Message::Piece(Request { piece, .. }) = message {
                    // Until the session says whether it is stored or discarded.
                    let block = BlockIndex(u32::MAX);
                    seat.arriving = Some((Block { piece, block }, content));
                }
                self.handle_session(node, key, peer_session::Input::Message(message));
            }
            Delivery::Local(key) => {
                let Some(seat) = at.seats.get_mut(&key) else {
                    return;
                };
                let input = match seat.local.pop_front() {
                    Some(input) => input,
                    None => {
                        let Some((block, content)) = seat.arriving.take() else {
                            return;
                        };
                        at.store(block, content)
                    }
                };
                self.handle_session(node, key, input);
            }
        }
    }

    /// Every machine whose deadline has passed gets its tick.
    fn tick(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node]
                .torrent
                .deadline()
                .is_some_and(|at| at <= self.now)
            {
                self.handle_torrent(node, Input::Tick);
            }
            let keys: Vec<PeerKey> = self.nodes[node].seats.keys().copied().collect();
            for key in keys {
                let seat = &self.nodes[node].seats[&key];
                if seat.session.deadline().is_some_and(|at| at <= self.now) {
                    self.handle_session(node, key, peer_session::Input::Tick);
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        let of_node = |node: &Node| {
            let sessions = node.seats.values().map(|seat| seat.session.deadline());
            sessions.fold(node.torrent.deadline(), earliest)
        };
        self.nodes.iter().map(of_node).fold(None, earliest)
    }

    /// Unchokes everybody with probability `odds` in 4.
    fn choke(&mut self, odds: u8) {
        for node in 0..self.nodes.len() {
            let rng = &mut self.rng;
            let candidates = self.nodes[node].torrent.choke_candidates();
            let unchoked = candidates
                .filter(|_| rng.u8(0..4) < odds)
                .map(|one| one.key)
                .collect();
            self.handle_torrent(node, Input::Unchoked(unchoked));
        }
    }

    /// Delivers what is on its way, in any order, and lets time pass where nothing is.
    fn run(&mut self, steps: u32, mut meddle: impl FnMut(&mut Swarm, u32)) {
        for step in 0..steps {
            if step % 100 == 0 {
                let odds = if step < steps / 2 { 3 } else { 4 };
                self.choke(odds);
            }
            meddle(self, step);
            let ready: Vec<(usize, Delivery)> = (0..self.nodes.len())
                .flat_map(|node| {
                    self.nodes[node]
                        .deliveries()
                        .into_iter()
                        .map(move |d| (node, d))
                })
                .collect();
            if let Some(&(node, delivery)) = self.rng.choice(&ready) {
                self.now = self.now + Duration::from_micros(self.rng.u64(0..200));
                self.deliver(node, delivery);
            } else if let Some(deadline) = self.next_deadline() {
                self.now = self
                    .now
                    .max(deadline.min(self.now + Duration::from_secs(1)));
            }
            self.tick();
        }
    }

    fn assert_all_complete(&self, seed: u64) {
        for (node, at) in self.nodes.iter().enumerate().skip(1) {
            let progress = at.torrent.progress();
            assert!(
                at.torrent.is_complete(),
                "seed {seed}: node {node} is at {progress:?}"
            );
            assert_eq!(at.completions, 1, "seed {seed}: node {node}");
            assert!(at.verified.is_full());
        }
    }
}

#[test]
fn every_leech_completes_in_any_order_of_delivery() {
    for seed in 0..12 {
        let mut swarm = Swarm::new(seed, 3);
        swarm.run(12_000, |_, _| {});
        swarm.assert_all_complete(seed);
        let wasted: u64 = swarm
            .nodes
            .iter()
            .map(|node| node.torrent.progress().wasted_bytes)
            .sum();
        let total = 3 * swarm.nodes[0].torrent.progress().total_bytes;
        assert!(
            wasted * 3 < total,
            "seed {seed}: {wasted} of {total} bytes were wasted"
        );
    }
}

#[test]
fn connections_that_break_at_any_moment_lose_no_block() {
    for seed in 100..112 {
        let mut swarm = Swarm::new(seed, 3);
        swarm.run(20_000, |swarm, step| {
            if step < 10_000 && swarm.rng.u32(0..400) == 0 {
                let (a, b) = (swarm.rng.usize(0..4), swarm.rng.usize(0..4));
                let keys: Vec<PeerKey> = swarm.nodes[a].seats.keys().copied().collect();
                if let Some(&key) = swarm.rng.choice(&keys) {
                    let seat = swarm.nodes[a].seats.get_mut(&key).unwrap();
                    seat.local.push_back(peer_session::Input::Disconnected);
                }
                if a != b {
                    swarm.connect(a, b);
                }
            }
            // In the end everybody can reach the seed.
            if step == 10_000 {
                (1..4).for_each(|leech| swarm.connect(leech, 0));
            }
        });
        swarm.assert_all_complete(seed);
    }
}

#[test]
fn a_liar_is_found_and_the_others_complete() {
    for seed in 200..212 {
        let mut swarm = Swarm::new(seed, 3);
        // Node 1 has everything and spoils a third of what it sends.
        let have = Bitfield::full(PIECES);
        swarm.nodes.push(Node::new(4, seed, have));
        swarm.nodes[4].liar = true;
        (0..4).for_each(|node| swarm.connect(4, node));
        swarm.run(25_000, |swarm, step| {
            // Whoever was sent away for nothing gets a second chance.
            if step == 12_500 {
                (1..4).for_each(|leech| swarm.connect(leech, 0));
            }
        });
        swarm.nodes.truncate(4);
        swarm.assert_all_complete(seed);
        let banned: BTreeSet<IpAddr> = swarm
            .nodes
            .iter()
            .flat_map(|node| node.banned.iter().copied())
            .collect();
        assert_eq!(
            banned,
            BTreeSet::from([node_address(4).ip()]),
            "seed {seed}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let mut swarm = Swarm::new(seed, 2);
        swarm.run(4_000, |_, _| {});
        let progress: Vec<Progress> = swarm
            .nodes
            .iter()
            .map(|node| node.torrent.progress())
            .collect();
        (swarm.now, progress, swarm.rng.u64(..))
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7).2, trace(8).2);
}
