//! What a torrent has promised to its peers, its storage and its person, followed from outside.
//!
//! Invariant: written from the rules, not from the code: it knows only what went in and what came out.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use shoal_machine::{Machine, Moment};
use shoal_metainfo::{Bitfield, Block, BlockRun, Layout, PieceIndex};
use shoal_swarm::picker::MAX_HOLDERS;
use shoal_swarm::torrent::{Input, Output, Priority, Progress, Torrent};
use shoal_swarm::{FromPeer, Has, PeerKey, ToPeer};
use shoal_wire::{HolePunch, HolePunchKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often a torrent may ask for addresses.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// So many suggestions to a peer may be open.
const MOST_ON_OFFER: usize = 12;

/// One peer as the torrent has heard of it.
pub(super) struct Peer {
    address: SocketAddr,
    has: Option<BTreeSet<PieceIndex>>,
    chokes: bool,
    allowed_fast: BTreeSet<PieceIndex>,
    wish: u32,
    /// What its session may hold, and whether that was taken back.
    leases: BTreeMap<Block, bool>,
    closing: bool,
    we_are_interested: bool,
    unchoked: bool,
    punches: bool,
    /// Whom it named.
    introduced: BTreeSet<SocketAddr>,
    /// What was suggested to it since it was unchoked, and not announced by it since.
    offered: BTreeSet<PieceIndex>,
}

/// See the module.
pub(super) struct Watch {
    layout: Arc<Layout>,
    priorities: Vec<Priority>,
    pub(super) peers: BTreeMap<PeerKey, Peer>,
    pub(super) dialling: BTreeMap<PeerKey, SocketAddr>,
    /// How many dials the input at hand allows.
    pub(super) granted: u32,
    banned: BTreeSet<IpAddr>,
    /// What all peers were told that we have.
    announced: BTreeSet<PieceIndex>,
    complete: bool,
    suspended: bool,
    stopped: bool,
    now: Moment,
    asked_candidates: Option<Moment>,
    /// Who asked last to be brought together with whom.
    asker: Option<(PeerKey, SocketAddr)>,
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Watch {
    pub(super) fn new(layout: Arc<Layout>, have: &Bitfield, priorities: Vec<Priority>) -> Self {
        let mut watch = Watch {
            layout,
            priorities,
            peers: BTreeMap::new(),
            dialling: BTreeMap::new(),
            granted: 0,
            banned: BTreeSet::new(),
            announced: have.iter().collect(),
            complete: false,
            suspended: false,
            stopped: false,
            now: Moment::ZERO,
            asked_candidates: None,
            asker: None,
        };
        watch.complete = watch.missing(have).is_empty();
        watch
    }

    fn is_wanted(&self, piece: PieceIndex) -> bool {
        self.priorities
            .get(piece.get())
            .is_some_and(|&priority| priority != Priority::Skip)
    }

    fn missing(&self, have: &Bitfield) -> BTreeSet<PieceIndex> {
        let missing = |&piece: &PieceIndex| self.is_wanted(piece) && !have.get(piece);
        self.layout.pieces().filter(missing).collect()
    }

    pub(super) fn on_priorities(&mut self, priorities: &[Priority]) {
        for (priority, &wish) in self.priorities.iter_mut().zip(priorities) {
            *priority = wish;
        }
    }

    /// A connection is about to be announced.
    pub(super) fn on_connected(&mut self, key: PeerKey, address: SocketAddr) {
        self.dialling.remove(&key);
        let peer = Peer {
            address,
            has: None,
            chokes: true,
            allowed_fast: BTreeSet::new(),
            wish: 0,
            leases: BTreeMap::new(),
            closing: false,
            we_are_interested: false,
            unchoked: false,
            offered: BTreeSet::new(),
            punches: false,
            introduced: BTreeSet::new(),
        };
        self.peers.insert(key, peer);
    }

    pub(super) fn has_joined(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|peer| peer.has.is_some())
    }

    pub(super) fn holds(&self, key: PeerKey, block: Block) -> bool {
        self.peers
            .get(&key)
            .is_some_and(|peer| peer.leases.contains_key(&block))
    }

    /// Up to so many blocks that the peer's session holds.
    pub(super) fn leases_of(&self, key: PeerKey, most: usize) -> Vec<BlockRun> {
        let mut runs = Vec::new();
        let peer = self.peers.get(&key);
        for &block in peer.iter().flat_map(|peer| peer.leases.keys()).take(most) {
            BlockRun::push(&mut runs, block);
        }
        runs
    }

    /// A peer is about to say something.
    pub(super) fn on_said(&mut self, key: PeerKey, message: &FromPeer) {
        let exists = |piece: PieceIndex| self.layout.contains(piece);
        self.asker = None;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        match message {
            FromPeer::Joined { has, .. } if peer.has.is_none() => {
                peer.has = Some(match has {
                    Has::All => self.layout.pieces().collect(),
                    Has::None => BTreeSet::new(),
                    Has::Some(field) => field.iter().collect(),
                });
            }
            FromPeer::Have(piece) if exists(*piece) => {
                if let Some(has) = &mut peer.has {
                    has.insert(*piece);
                }
                peer.offered.remove(piece);
            }
            FromPeer::DontHave(piece) => {
                if let Some(has) = &mut peer.has {
                    has.remove(piece);
                }
            }
            FromPeer::Want { blocks, .. } => peer.wish = *blocks,
            FromPeer::Choking(chokes) => {
                peer.chokes = *chokes;
                peer.wish = 0;
            }
            FromPeer::AllowedFast(piece) => drop(peer.allowed_fast.insert(*piece)),
            FromPeer::Received(runs) | FromPeer::Returned { runs, .. } => {
                for block in runs.iter().flat_map(|run| run.blocks()) {
                    peer.leases.remove(&block);
                }
            }
            FromPeer::Punches(punches) => peer.punches = *punches,
            FromPeer::Introduced(addresses) => {
                peer.introduced
                    .extend(addresses.iter().copied().map(canonical));
            }
            FromPeer::HolePunch(message) if message.kind == HolePunchKind::Rendezvous => {
                self.asker = Some((key, message.address));
            }
            FromPeer::Left(_) => drop(self.peers.remove(&key)),
            _ => {}
        }
    }

    pub(super) fn before(&mut self, now: Moment, input: &Input) {
        self.now = now;
        match input {
            Input::Suspended(suspended) => self.suspended = *suspended,
            Input::Stop => self.stopped = true,
            Input::Unchoked(keys) => {
                for (key, peer) in &mut self.peers {
                    peer.unchoked = keys.contains(key);
                    if !peer.unchoked {
                        peer.offered.clear();
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_output(&mut self, torrent: &Torrent, output: Output) {
        match output {
            Output::Peer { peer, message } => self.on_told(torrent, peer, message),
            Output::Broadcast(message) => self.on_broadcast(&message),
            // Through a hole or not.
            Output::Dial { peer, address, .. } => {
                assert!(self.granted > 0 && !self.stopped);
                self.granted -= 1;
                assert!(!self.banned.contains(&address.ip()) && address.port() != 0);
                assert!(
                    !self.dialling.values().any(|&other| other == address),
                    "dialled twice"
                );
                let open = |peer: &Peer| !peer.closing && canonical(peer.address) == address;
                assert!(
                    !self.peers.values().any(open),
                    "dialled although it is here"
                );
                assert!(self.dialling.insert(peer, address).is_none());
            }
            Output::Refuse { peer, .. } => assert!(self.peers.remove(&peer).is_some()),
            Output::Seen(sighting) => {
                let known = |peer: &Peer| canonical(peer.address).ip() == sighting.by;
                assert!(self.peers.values().any(known));
            }
            Output::WantsDials(count) => assert!(count == 0 || !self.stopped),
            Output::WantsCandidates => {
                assert!(!self.stopped);
                let before = self.asked_candidates.replace(self.now);
                assert!(before.is_none_or(|before| self.now - before >= ASK_AGAIN));
            }
            Output::Ban(ip) => drop(self.banned.insert(ip)),
            Output::Forget(piece) => {
                assert!(!torrent.have().get(piece));
                let leased = |peer: &Peer| peer.leases.keys().any(|block| block.piece == piece);
                assert!(!self.peers.values().any(leased), "it may still come");
            }
            Output::Complete => assert!(!self.complete && torrent.is_complete()),
        }
    }

    fn on_broadcast(&mut self, message: &ToPeer) {
        match message {
            ToPeer::Have(pieces) => {
                for piece in pieces {
                    assert!(self.announced.insert(*piece), "announced twice: {piece}");
                }
            }
            ToPeer::Lost(piece) => assert!(self.announced.remove(piece), "never announced"),
            ToPeer::UploadOnly(complete) => {
                assert!(self.complete != *complete, "nothing new");
                self.complete = *complete;
            }
            ToPeer::Contacts(contacts) => {
                let addresses: BTreeSet<_> =
                    contacts.iter().map(|contact| contact.address).collect();
                assert_eq!(addresses.len(), contacts.len(), "named twice");
                assert!(
                    contacts.len() <= self.peers.len().min(100),
                    "nobody else is connected"
                );
            }
            other => panic!("not for everybody: {other:?}"),
        }
    }

    fn on_told(&mut self, torrent: &Torrent, key: PeerKey, message: ToPeer) {
        let peer = self.peers.get_mut(&key);
        let Some(peer) = peer.filter(|peer| !peer.closing || matches!(message, ToPeer::Revoke(_)))
        else {
            panic!("told who is gone: {message:?}");
        };
        match message {
            ToPeer::Lease(runs) => self.on_lease(torrent, key, &runs),
            ToPeer::Revoke(runs) => {
                for block in runs.into_iter().flat_map(BlockRun::blocks) {
                    let Some(revoked) = peer.leases.get_mut(&block) else {
                        panic!("took back what it does not hold: {block:?}");
                    };
                    *revoked = true;
                }
            }
            ToPeer::Interested(interested) => {
                assert_ne!(interested, peer.we_are_interested);
                peer.we_are_interested = interested;
                peer.wish = 0;
            }
            ToPeer::Choke(choke) => assert_eq!(choke, !peer.unchoked),
            ToPeer::Suggest(piece) => self.on_suggest(torrent, key, piece),
            ToPeer::Close(_) => {
                peer.closing = true;
                peer.wish = 0;
            }
            ToPeer::Contacts(contacts) => assert!(!contacts.is_empty(), "nothing to hear"),
            ToPeer::HolePunch(message) => self.on_hole_punch(key, message),
            other => panic!("not for one: {other:?}"),
        }
    }

    /// A relay speaks to two who know how, names each to the other, and nobody else to anybody.
    fn on_hole_punch(&self, key: PeerKey, message: HolePunch) {
        let peer = &self.peers[&key];
        assert!(peer.punches && !self.stopped);
        let HolePunch { kind, address } = message;
        let asker = || match self.asker {
            Some(asker) => asker,
            None => panic!("nobody asked"),
        };
        match kind {
            HolePunchKind::Rendezvous => assert!(peer.introduced.contains(&address)),
            HolePunchKind::Failed(_) => assert_eq!(asker(), (key, address)),
            HolePunchKind::Connect => {
                let (initiator, wanted) = asker();
                let is_at = |peer: &Peer, address: SocketAddr| {
                    let open = !peer.closing && peer.punches;
                    open && canonical(peer.address).ip() == address.ip()
                };
                let wanted = canonical(wanted);
                if key == initiator {
                    assert_eq!(address, wanted);
                    let mut others = self.peers.iter().filter(|(other, _)| **other != key);
                    assert!(
                        others.any(|(_, peer)| is_at(peer, address)),
                        "not connected"
                    );
                } else {
                    assert!(is_at(peer, wanted), "it was not asked for");
                    assert!(is_at(&self.peers[&initiator], address), "not the initiator");
                }
            }
        }
    }

    /// A seed names to one peer at a time what nobody has who still needs something.
    fn on_suggest(&mut self, torrent: &Torrent, key: PeerKey, piece: PieceIndex) {
        assert!(torrent.have().is_full() && self.layout.contains(piece));
        let all = self.layout.pieces().count();
        for peer in self.peers.values().filter(|peer| !peer.closing) {
            assert!(!peer.offered.contains(&piece), "suggested twice: {piece}");
            let needs = |has: &&BTreeSet<PieceIndex>| has.len() < all;
            let has = peer.has.as_ref().filter(needs);
            assert!(!has.is_some_and(|has| has.contains(&piece)), "it is there");
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        assert!(peer.unchoked && peer.has.as_ref().is_some_and(|has| has.len() < all));
        peer.offered.insert(piece);
        assert!(peer.offered.len() <= MOST_ON_OFFER);
    }

    fn on_lease(&mut self, torrent: &Torrent, key: PeerKey, runs: &[BlockRun]) {
        assert!(!self.suspended && !self.stopped && !runs.is_empty());
        for block in runs.iter().flat_map(|run| run.blocks()) {
            let piece = block.piece;
            assert!(
                self.layout.block_length(block) > 0,
                "there is no such block"
            );
            assert!(self.is_wanted(piece) && !torrent.have().get(piece));
            let Some(peer) = self.peers.get_mut(&key) else {
                return;
            };
            assert!(
                peer.has.as_ref().is_some_and(|has| has.contains(&piece)),
                "has it not"
            );
            assert!(
                !peer.chokes || peer.allowed_fast.contains(&piece),
                "chokes us"
            );
            assert!(peer.wish > 0, "more than it wished for");
            peer.wish -= 1;
            assert!(
                peer.leases.insert(block, false).is_none(),
                "holds it already"
            );
            let live = |peer: &&Peer| peer.leases.get(&block) == Some(&false);
            assert!(self.peers.values().filter(live).count() <= MAX_HOLDERS);
        }
    }

    /// What holds between two inputs.
    pub(super) fn check_at_rest(&self, torrent: &Torrent) {
        let have = torrent.have();
        assert!(
            have.iter().eq(self.announced.iter().copied()),
            "not all is announced"
        );
        let missing = self.missing(have);
        assert_eq!(torrent.is_complete(), missing.is_empty());
        assert_eq!(self.complete, missing.is_empty());
        assert_eq!(torrent.is_stopped(), self.stopped);
        self.check_progress(torrent.progress(), have, &missing);
        self.check_peers(torrent, &missing);
        self.check_availability(torrent);
        let open = self.peers.values().filter(|peer| !peer.closing).count();
        assert!(open + self.dialling.len() <= super::MAX_CONNECTIONS as usize);
        assert!(!self.stopped || (open == 0 && torrent.deadline().is_none()));
    }

    fn check_progress(&self, found: Progress, have: &Bitfield, missing: &BTreeSet<PieceIndex>) {
        let length = |piece: PieceIndex| u64::from(self.layout.length_of(piece));
        let wanted = self.layout.pieces().filter(|&piece| self.is_wanted(piece));
        let expected = Progress {
            total_bytes: self.layout.total_length(),
            have_bytes: have.iter().map(length).sum(),
            wanted_bytes: wanted.map(length).sum(),
            missing_bytes: missing.iter().copied().map(length).sum(),
            have_pieces: have.count(),
            missing_pieces: u32::try_from(missing.len()).unwrap_or(u32::MAX),
            ..found
        };
        assert_eq!(found, expected);
    }

    fn check_peers(&self, torrent: &Torrent, missing: &BTreeSet<PieceIndex>) {
        assert_eq!(torrent.peer_count(), self.peers.len());
        for (found, (key, peer)) in torrent.peers().zip(&self.peers) {
            let none = BTreeSet::new();
            let has = peer.has.as_ref().unwrap_or(&none);
            assert_eq!(found.key, *key);
            assert_eq!(found.has_pieces as usize, has.len());
            assert_eq!(found.leased_blocks, peer.leases.len());
            if peer.closing {
                continue;
            }
            assert!(
                !self.banned.contains(&canonical(peer.address).ip()),
                "banned, and still here"
            );
            assert_eq!(found.we_are_interested, peer.we_are_interested);
            assert_eq!(found.we_are_interested, !has.is_disjoint(missing));
            assert_eq!(found.unchoked, peer.unchoked);
        }
    }

    fn check_availability(&self, torrent: &Torrent) {
        let copies = |piece| {
            let has = |peer: &&Peer| peer.has.as_ref().is_some_and(|has| has.contains(&piece));
            self.peers.values().filter(has).count()
        };
        let rarest = self.layout.pieces().map(copies).min();
        assert_eq!(Some(torrent.availability().copies as usize), rarest);
    }
}
