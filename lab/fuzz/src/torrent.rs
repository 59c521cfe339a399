//! One torrent: peers that come, lie, choke and leave, storage that verifies, fails and loses, a person who changes
//! priorities.
//!
//! Half of the inputs keep to what sessions and storage promise, in any order that delays allow; those must end with a
//! whole torrent once an honest seed comes. The others break every promise but those of types.
//!
//! Invariant: as for the whole crate.

mod storage;
mod watch;

use crate::operations::{Operations, drain, is_due};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use shoal_machine::{Machine, Moment};
use shoal_metainfo::{BLOCK_LENGTH, Bitfield, Block, BlockIndex, BlockRun, Layout, PieceIndex};
use shoal_swarm::message::DeadlineLease;
use shoal_swarm::torrent::{Input, Origin, Output, PeerRules, Priority, Torrent, TorrentConfig};
use shoal_swarm::{CloseReason, FromPeer, Has, PeerKey, Report, ReturnReason};
use shoal_wire::{HolePunch, HolePunchError, HolePunchKind};
use std::sync::Arc;
use storage::Storage;
use watch::Watch;

/// The most outputs of one input: some for each peer and each piece.
const MAX_OUTPUTS: usize = 512;

/// The most ticks that one moment may take.
const MAX_TICKS: usize = 64;

/// The most connections of the torrent.
const MAX_CONNECTIONS: u32 = 6;

const OUR_PEER_ID: [u8; 20] = [5; 20];

/// What [`Watch`] says at every step, and an end for honest inputs.
pub fn torrent(input: &[u8]) {
    let mut operations = Operations::new(input);
    let mut run = Run::new(&mut operations);
    run.watch_outputs();
    if operations.flag() {
        (1..=3).for_each(|host| run.begin(host));
    }
    while let Some(kind) = operations.next_kind() {
        run.operate(kind, &mut operations);
    }
    if run.honest {
        run.finish();
    }
}

fn layout(operations: &mut Operations<'_>) -> Layout {
    let block = u64::from(BLOCK_LENGTH);
    let layout = match operations.below(5) {
        0 => Layout::contiguous(1, BLOCK_LENGTH),
        1 => Layout::contiguous(5 * 2 * block + 5, 2 * BLOCK_LENGTH),
        2 => Layout::aligned([1, 3 * block, 0, 2 * block + 1], 2 * BLOCK_LENGTH),
        3 => Layout::contiguous(12 * block, BLOCK_LENGTH),
        _ => Layout::contiguous(30 * block, 16 * BLOCK_LENGTH),
    };
    match layout {
        Ok(layout) => layout,
        Err(error) => panic!("{error}"),
    }
}

fn priority(operations: &mut Operations<'_>) -> Priority {
    let all = [
        Priority::Normal,
        Priority::Skip,
        Priority::High,
        Priority::Highest,
    ];
    all[operations.below(all.len())]
}

fn origin(operations: &mut Operations<'_>) -> Origin {
    let all = [
        Origin::Tracker,
        Origin::User,
        Origin::PeerExchange,
        Origin::Dht,
        Origin::Incoming,
    ];
    all[operations.below(all.len())]
}

/// Of few hosts, so that they meet; some cannot be.
fn address(operations: &mut Operations<'_>) -> SocketAddr {
    let choice = operations.byte();
    let v4 = Ipv4Addr::new(10, 0, 0, choice % 8);
    let ip = match choice >> 5 {
        7 => IpAddr::V4(Ipv4Addr::BROADCAST),
        6 => IpAddr::V6(v4.to_ipv6_mapped()),
        _ => IpAddr::V4(v4),
    };
    SocketAddr::new(ip, u16::from(choice >> 3 & 3))
}

fn hole_punch(operations: &mut Operations<'_>) -> HolePunch {
    let kind = match operations.below(4) {
        0 | 1 => HolePunchKind::Rendezvous,
        2 => HolePunchKind::Connect,
        _ => HolePunchKind::Failed(HolePunchError::NOT_CONNECTED),
    };
    let mut address = address(operations);
    if operations.flag() {
        // Where those are who say where they listen.
        address.set_port(6881);
    }
    HolePunch { kind, address }
}

/// A torrent, what surrounds it, and who watches.
struct Run {
    torrent: Torrent,
    layout: Arc<Layout>,
    watch: Watch,
    storage: Storage,
    honest: bool,
    now: Moment,
}

impl Run {
    fn new(operations: &mut Operations<'_>) -> Self {
        let honest = operations.flag();
        let layout = Arc::new(layout(operations));
        let mut have = Bitfield::empty(layout.piece_count());
        let bits = operations.byte();
        for piece in layout
            .pieces()
            .take(8)
            .filter(|piece| bits >> piece.0 & 1 == 1)
        {
            have.insert(piece);
        }
        let priorities: Vec<_> = match operations.flag() {
            true => layout.pieces().map(|_| priority(operations)).collect(),
            false => vec![Priority::Normal; layout.piece_count() as usize],
        };
        let config = TorrentConfig {
            layout: layout.clone(),
            have: have.clone(),
            priorities: priorities.clone(),
            sequential: operations.flag(),
            our_peer_id: OUR_PEER_ID,
            seed: operations.byte().into(),
            max_connections: MAX_CONNECTIONS,
            private: false,
            exchange: true,
            super_seed: false,
            peer_rules: PeerRules::default(),
        };
        Run {
            torrent: Torrent::new(config),
            watch: Watch::new(layout.clone(), &have, priorities),
            storage: Storage::new(layout.clone()),
            layout,
            honest,
            now: Moment::from_secs(1_000),
        }
    }

    /// A peer that has everything and wants to give it.
    fn begin(&mut self, host: u8) {
        let key = self.torrent.next_key();
        let address = SocketAddr::from(([10, 0, 0, host], 6881));
        self.watch.on_connected(key, address);
        self.handle(Input::Connected {
            peer: key,
            address,
            peer_id: [100 + host; 20],
            origin: Origin::Incoming,
        });
        for message in [
            FromPeer::Joined {
                has: Has::All,
                fast: true,
            },
            FromPeer::Choking(false),
            FromPeer::Want {
                blocks: 5,
                rate_bytes_per_s: 0,
            },
        ] {
            self.say(key, message);
        }
    }

    fn operate(&mut self, kind: u8, operations: &mut Operations<'_>) {
        match kind % 16 {
            0..=4 => self.peer(operations),
            5 | 6 => self.deliver(operations),
            7 => self.give_back(operations),
            8 => self.verdict(operations),
            9 => self.connect(operations),
            10 => self.dial(operations),
            11 | 12 => self.pass(operations),
            13 => self.change_wishes(operations),
            14 => {
                let keys: Vec<PeerKey> = self.watch.peers.keys().copied().collect();
                let chosen = operations.byte();
                let chosen = (0u8..8).zip(keys).filter(|(at, _)| chosen >> at & 1 == 1);
                self.handle(Input::Unchoked(chosen.map(|(_, key)| key).collect()));
            }
            _ => self.rare(operations),
        }
    }

    fn pass(&mut self, operations: &mut Operations<'_>) {
        if operations.flag() {
            self.now = self.now + operations.step();
        } else if let Some(at) = self.torrent.deadline() {
            self.now = self.now.max(at);
        }
        self.tick();
    }

    /// Ticks until the next deadline is in the future.
    fn tick(&mut self) {
        for _ in 0..MAX_TICKS {
            self.handle(Input::Tick);
            if !is_due(&self.torrent, self.now) {
                return;
            }
        }
        panic!("it wants a tick again and again");
    }

    fn rare(&mut self, operations: &mut Operations<'_>) {
        match operations.below(16) {
            0 if operations.byte() == 1 => self.handle(Input::Stop),
            1 => self.handle(Input::Suspended(operations.one_in(4))),
            2 => self.handle(Input::Sequential(operations.flag())),
            3..=5 => {
                let lease = DeadlineLease {
                    id: operations.below(4) as u64,
                    first: self.piece(operations),
                    last: self.piece(operations),
                    deadline: self.now + operations.step(),
                    rate_bytes_per_s: operations.number().into(),
                };
                self.handle(Input::Deadline(lease));
            }
            6 => self.handle(Input::DeadlineEnded {
                id: operations.below(4) as u64,
            }),
            7 | 8 => {
                let piece = self.piece(operations);
                if !self.honest || self.torrent.have().get(piece) {
                    self.storage.forget(piece);
                    self.handle(Input::Lost { piece });
                }
            }
            9 => {
                let piece = self.piece(operations);
                if !self.honest || self.storage.drop_received(piece) {
                    self.handle(Input::Dropped { piece });
                }
            }
            _ => self.handle(Input::Tick),
        }
    }

    /// A piece that exists; of liars, seldom one that does not.
    fn piece(&self, operations: &mut Operations<'_>) -> PieceIndex {
        let choice = operations.byte();
        if choice == 255 && !self.honest {
            return PieceIndex(operations.number());
        }
        PieceIndex(u32::from(choice) % self.layout.piece_count())
    }

    fn change_wishes(&mut self, operations: &mut Operations<'_>) {
        let count = self.layout.piece_count() as usize;
        let count = if operations.one_in(8) {
            operations.below(2 * count)
        } else {
            count
        };
        let priorities: Vec<_> = (0..count).map(|_| priority(operations)).collect();
        self.watch.on_priorities(&priorities);
        self.handle(Input::Priorities(priorities));
    }

    fn connect(&mut self, operations: &mut Operations<'_>) {
        let dialling: Vec<PeerKey> = self.watch.dialling.keys().copied().collect();
        let dialled = operations.one_of(&dialling).filter(|_| operations.flag());
        let (peer, address, origin) = match dialled {
            Some(key) if operations.one_in(4) => {
                self.watch.dialling.remove(&key);
                return self.handle(Input::DialFailed { peer: key });
            }
            Some(key) => (key, self.watch.dialling[&key], Origin::Tracker),
            None => (
                self.torrent.next_key(),
                address(operations),
                Origin::Incoming,
            ),
        };
        let peer_id = [operations.byte() % 16; 20];
        self.watch.on_connected(peer, address);
        self.handle(Input::Connected {
            peer,
            address,
            peer_id,
            origin,
        });
        if peer.0 % 2 == 0 {
            self.handle(Input::OverUtp(peer));
        }
    }

    fn dial(&mut self, operations: &mut Operations<'_>) {
        if operations.flag() {
            let count = operations.number().min(u32::from(u16::MAX));
            self.watch.granted = count;
            self.handle(Input::DialGranted(count));
            self.watch.granted = 0;
        } else {
            let origin = origin(operations);
            let addresses = (0..operations.below(6))
                .map(|_| address(operations))
                .collect();
            self.handle(Input::Candidates { origin, addresses });
        }
    }

    /// A key, most often one of a peer.
    fn key(&self, operations: &mut Operations<'_>) -> Option<PeerKey> {
        let keys: Vec<PeerKey> = self.watch.peers.keys().copied().collect();
        match operations.one_of(&keys) {
            None if !self.honest => Some(PeerKey(operations.number().into())),
            key => key,
        }
    }

    fn peer(&mut self, operations: &mut Operations<'_>) {
        let Some(peer) = self.key(operations) else {
            return;
        };
        let joined = self.watch.has_joined(peer);
        if self.honest && !joined {
            let has = self.has(operations);
            return self.say(peer, FromPeer::Joined { has, fast: true });
        }
        let message = match operations.below(16) {
            0 => FromPeer::Joined {
                has: self.has(operations),
                fast: true,
            },
            1 | 2 => FromPeer::Have(self.piece(operations)),
            3 => FromPeer::DontHave(self.piece(operations)),
            4 => FromPeer::Interested(operations.flag()),
            5 if operations.flag() => FromPeer::UploadOnly(operations.flag()),
            6..=9 => FromPeer::Want {
                blocks: operations.number(),
                rate_bytes_per_s: u64::from(operations.number()) * 1_000,
            },
            10 | 11 => FromPeer::Choking(operations.one_in(4)),
            12 => FromPeer::AllowedFast(self.piece(operations)),
            13 => FromPeer::Suggested(self.piece(operations)),
            15 if operations.flag() => FromPeer::Introduced(vec![address(operations)]),
            15 if operations.flag() => FromPeer::ListensAt(6881),
            15 if operations.flag() => FromPeer::Punches(!operations.one_in(8)),
            15 if operations.flag() => FromPeer::HolePunch(hole_punch(operations)),
            14 => FromPeer::Report(Report {
                downloaded_bytes: operations.number().into(),
                ..Report::default()
            }),
            _ if operations.one_in(8) => return self.leave(peer, operations.flag()),
            _ => FromPeer::Choking(false),
        };
        if !self.honest || !matches!(message, FromPeer::Joined { .. }) {
            self.say(peer, message);
        }
    }

    fn has(&self, operations: &mut Operations<'_>) -> Has {
        match operations.below(4) {
            0 => Has::None,
            1 => Has::All,
            _ => {
                let mut field = Bitfield::empty(self.layout.piece_count());
                let bits = operations.byte();
                for piece in self
                    .layout
                    .pieces()
                    .take(8)
                    .filter(|piece| bits >> piece.0 & 1 == 1)
                {
                    field.insert(piece);
                }
                Has::from_bitfield(field)
            }
        }
    }

    /// A peer goes: with all its leases returned, or, where they cross its farewell, without.
    fn leave(&mut self, peer: PeerKey, returns: bool) {
        self.announce(peer);
        let runs = self.watch.leases_of(peer, usize::MAX);
        if returns && !runs.is_empty() {
            self.say(
                peer,
                FromPeer::Returned {
                    runs,
                    reason: ReturnReason::Closed,
                },
            );
        }
        self.say(peer, FromPeer::Left(CloseReason::Remote));
    }

    /// Blocks reach storage, and later or at once the torrent hears of it.
    fn deliver(&mut self, operations: &mut Operations<'_>) {
        let Some(peer) = self.key(operations) else {
            return;
        };
        if !self.honest && operations.one_in(4) {
            let runs = self.lie(operations);
            return self.say(peer, FromPeer::Received(runs));
        }
        self.store(peer, 1 + operations.below(8));
        if operations.flag() {
            self.announce(peer);
        }
    }

    /// The first blocks that a peer's session holds come. Those that storage knows go back at once.
    fn store(&mut self, peer: PeerKey, most: usize) {
        let blocks: Vec<Block> = (self.watch.leases_of(peer, usize::MAX).into_iter())
            .flat_map(BlockRun::blocks)
            .filter(|&block| !self.storage.is_unannounced(peer, block))
            .take(most)
            .collect();
        for block in blocks {
            if !self.storage.store(peer, block) {
                let (runs, reason) = (vec![BlockRun::one(block)], ReturnReason::Duplicate);
                self.say(peer, FromPeer::Returned { runs, reason });
            }
        }
    }

    /// The torrent hears of what a peer delivered.
    fn announce(&mut self, peer: PeerKey) {
        let blocks = self.storage.take_unannounced(peer);
        let mut runs = Vec::new();
        for block in blocks
            .into_iter()
            .filter(|&block| self.watch.holds(peer, block))
        {
            BlockRun::push(&mut runs, block);
        }
        if !runs.is_empty() {
            self.say(peer, FromPeer::Received(runs));
        }
    }

    /// Blocks that were leased or not.
    fn lie(&self, operations: &mut Operations<'_>) -> Vec<BlockRun> {
        let run = |operations: &mut Operations<'_>| BlockRun {
            piece: self.piece(operations),
            first: BlockIndex(operations.number() & 0x00ff_ffff),
            count: 1 + operations.number() % 20,
        };
        (0..=operations.below(3)).map(|_| run(operations)).collect()
    }

    fn give_back(&mut self, operations: &mut Operations<'_>) {
        let Some(peer) = self.key(operations) else {
            return;
        };
        let reasons = [
            ReturnReason::Choked,
            ReturnReason::Rejected,
            ReturnReason::TimedOut,
            ReturnReason::Cancelled,
        ];
        let reason = reasons[operations.below(reasons.len())];
        let runs = if self.honest || operations.flag() {
            self.announce(peer);
            self.watch.leases_of(peer, 1 + operations.below(8))
        } else {
            self.lie(operations)
        };
        self.say(peer, FromPeer::Returned { runs, reason });
    }

    fn say(&mut self, peer: PeerKey, message: FromPeer) {
        self.watch.on_said(peer, &message);
        self.handle(Input::Peer { peer, message });
    }

    /// Storage has hashed a piece. Liars have not even received it.
    fn verdict(&mut self, operations: &mut Operations<'_>) {
        let whole = self.storage.take_whole();
        let piece = if self.honest {
            whole
        } else {
            Some(self.piece(operations))
        };
        let Some(piece) = piece else { return };
        let digests = (0..self.layout.block_count(piece).min(64)).map(u64::from);
        if operations.byte() % 4 != 1 {
            self.storage.verified(piece);
            return self.handle(Input::Verified {
                piece,
                blocks: digests.collect(),
            });
        }
        let wrong = operations.byte();
        let blocks = digests
            .map(|block| block ^ u64::from(wrong >> (block & 7) & 1))
            .collect();
        let bad = match operations.below(3) {
            0 => vec![BlockIndex(
                u32::from(wrong) % self.layout.block_count(piece).max(1),
            )],
            _ => Vec::new(),
        };
        self.storage.failed(piece, &bad);
        self.handle(Input::Failed { piece, bad, blocks });
    }

    fn handle(&mut self, input: Input) {
        self.watch.before(self.now, &input);
        self.torrent.handle(self.now, input);
        self.watch_outputs();
    }

    fn watch_outputs(&mut self) {
        for output in drain(&mut self.torrent, MAX_OUTPUTS) {
            if let Output::Forget(piece) = output {
                self.storage.forget(piece);
            }
            self.watch.on_output(&self.torrent, output);
        }
        self.watch.check_at_rest(&self.torrent);
    }

    /// Everybody leaves and an honest seed comes: whatever happened before, it completes the torrent.
    fn finish(&mut self) {
        self.handle(Input::Suspended(false));
        let keys: Vec<PeerKey> = self.watch.peers.keys().copied().collect();
        keys.into_iter().for_each(|peer| self.leave(peer, true));
        if self.torrent.is_stopped() {
            return assert!(self.watch.peers.is_empty());
        }
        let dialling: Vec<PeerKey> = self.watch.dialling.keys().copied().collect();
        for peer in dialling {
            self.watch.dialling.remove(&peer);
            self.handle(Input::DialFailed { peer });
        }
        let seed = self.torrent.next_key();
        let address = SocketAddr::from(([10, 9, 9, 9], 6881));
        self.watch.on_connected(seed, address);
        let (peer_id, origin) = ([99; 20], Origin::Incoming);
        self.handle(Input::Connected {
            peer: seed,
            address,
            peer_id,
            origin,
        });
        self.say(
            seed,
            FromPeer::Joined {
                has: Has::All,
                fast: true,
            },
        );
        self.say(seed, FromPeer::Choking(false));
        for _ in 0..8 * (self.layout.piece_count() + 1) {
            if self.torrent.is_complete() {
                return;
            }
            self.seed_once(seed);
        }
        panic!(
            "a seed is there and does not help: {:?}",
            self.torrent.progress()
        );
    }

    fn seed_once(&mut self, seed: PeerKey) {
        self.say(
            seed,
            FromPeer::Want {
                blocks: 64,
                rate_bytes_per_s: 1_000_000,
            },
        );
        self.store(seed, usize::MAX);
        self.announce(seed);
        while let Some(piece) = self.storage.take_whole() {
            self.storage.verified(piece);
            self.handle(Input::Verified {
                piece,
                blocks: Vec::new(),
            });
        }
        self.now = self.now + Duration::from_millis(300);
        self.tick();
    }
}
