//! What the peers of one torrent share: who has what, what we want, who may fetch it, whom we trust.
//!
//! Invariant: each block of a wanted piece is in exactly one state: open, leased (to one peer, or in endgame to a few),
//! received, or verified with its piece.

mod connections;
mod exchange;
mod hole_punch;
mod offers;
mod peer;
mod recheck;
mod super_seed;
#[cfg(test)]
mod tests;
mod trust;
mod view;
mod work;

pub use view::{Availability, ChokeCandidate, PeerSummary, PieceSummary, Progress, WebSeedSummary};

use crate::candidates::Candidates;
use crate::message::{CloseReason, DeadlineLease, FromPeer, PeerKey, ToPeer};
use crate::picker::{Picker, Revocations};
use crate::smart_ban::SmartBan;
use crate::source::{Source, WebSeedIndex};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use exchange::Exchange;
use hole_punch::HolePunches;
use offers::Offers;
use peer::Peer;
use shoal_machine::{Machine, Moment, Sighting, earliest};
use shoal_metainfo::{Bitfield, BlockIndex, BlockRun, Layout, PieceIndex};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use super_seed::SuperSeed;
use trust::Verdict;

/// Where an address came from; decides where a dial may go (design: one table of origin class and target class).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A person named it.
    User,
    /// The magnet link did.
    Magnet,
    /// A tracker did.
    Tracker,
    /// Peer exchange (BEP 11).
    PeerExchange,
    /// The DHT (BEP 5).
    Dht,
    /// Local service discovery (BEP 14).
    Local,
    /// It connected to us.
    Incoming,
    /// It was in the resume data.
    Resume,
}

impl Origin {
    /// Whether a private torrent (BEP 27) may be connected to whom it has from here: only its tracker and its user say who takes part.
    const fn may_name_private_peers(self) -> bool {
        !matches!(self, Origin::PeerExchange | Origin::Dht | Origin::Local)
    }
}

/// How much a piece is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Not at all.
    Skip,
    /// As usual: after everything of a higher priority.
    #[default]
    Normal,
    /// Before what is wanted as usual.
    High,
    /// Before everything else.
    Highest,
}

/// What can happen to a torrent.
#[derive(Clone, Debug)]
pub enum Input {
    /// Peers that may be worth a dial.
    Candidates {
        /// Where they come from.
        origin: Origin,
        /// Where they listen.
        addresses: Vec<SocketAddr>,
    },
    /// The session lets this torrent open that many connections more, now.
    DialGranted(u32),
    /// A connection exists, dialled or accepted, and its handshake is done.
    Connected {
        /// Its key: the one of `Output::Dial`, or a new one from `Torrent::next_key` for an accepted connection.
        peer: PeerKey,
        /// The remote's address.
        address: SocketAddr,
        /// The remote's peer id, to find duplicates and ourselves.
        peer_id: [u8; 20],
        /// Where the address came from.
        origin: Origin,
    },
    /// This connection, of which `Connected` told, is one over uTP: others may be told so.
    OverUtp(PeerKey),
    /// An HTTP origin can be asked for blocks (BEP 19, BEP 17): from here on it is a peer whose session is a `WebSession`.
    /// `Output::Refuse` follows where it is known already.
    WebSeed {
        /// A new key from `Torrent::next_key`.
        peer: PeerKey,
        /// Which it is: the same one over all its connections.
        seed: WebSeedIndex,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The key of `Output::Dial`.
        peer: PeerKey,
    },
    /// What one of the peers says.
    Peer {
        /// Which.
        peer: PeerKey,
        /// What.
        message: FromPeer,
    },
    /// Storage verified a piece: its bytes are on disk and right.
    Verified {
        /// The piece.
        piece: PieceIndex,
        /// Short digests of its blocks where an earlier attempt had failed; empty otherwise.
        blocks: Vec<u64>,
    },
    /// Storage found a piece wrong and has forgotten all its bytes.
    Failed {
        /// The piece.
        piece: PieceIndex,
        /// The blocks known to be wrong; empty where only the whole is known to be.
        bad: Vec<BlockIndex>,
        /// Short digests of all its blocks as received, to find out later who sent the wrong one.
        blocks: Vec<u64>,
    },
    /// Storage could not keep received blocks of this piece (an I/O error); they are open again.
    Dropped {
        /// The piece.
        piece: PieceIndex,
    },
    /// A piece we had is no longer there or no longer right.
    Lost {
        /// The piece.
        piece: PieceIndex,
    },
    /// Storage cannot take more (disk full or failing): hand out no leases (true), or it can again.
    Suspended(bool),
    /// The choker decided: these are unchoked, all others are choked.
    Unchoked(Vec<PeerKey>),
    /// The world sees us at this address and port (BEP 40); in place of an earlier one of its family.
    OurAddress(SocketAddr),
    /// Our network is another one, or is there again: whom we did not reach over the last one, we may reach over this.
    NetworkChanged,
    /// How much each piece is wanted, from now on.
    Priorities(Vec<Priority>),
    /// Pick pieces in order (true) or rarest first.
    Sequential(bool),
    /// A reader's claim begins or moves.
    Deadline(DeadlineLease),
    /// A reader's claim ends.
    DeadlineEnded {
        /// The id of the lease.
        id: u64,
    },
    /// Show pieces one by one until others have all of them between them (true, BEP 16), where every piece is there; or be a seed like
    /// any other.
    SuperSeed(bool),
    /// The most connections from here on, those being dialled included. Those beyond it end, the least useful first.
    MaxConnections(u32),
    /// The session has so many connections too many: they end, the least useful first.
    Shed(u32),
    /// End this connection.
    Disconnect {
        /// Which.
        peer: PeerKey,
        /// Why.
        reason: CloseReason,
    },
    /// Every piece is about to be read again: nothing counts as had any more, received blocks are forgotten, and all connections end.
    /// `Verified` follows for each piece that is right.
    Recheck,
    /// Every piece was read: go on.
    Rechecked,
    /// End all connections and open no more.
    Stop,
    /// A deadline passed.
    Tick,
}

/// What a torrent wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell one peer.
    Peer {
        /// Which.
        peer: PeerKey,
        /// What.
        message: ToPeer,
    },
    /// Tell every connected peer.
    Broadcast(ToPeer),
    /// Open a connection, then say `Connected` or `DialFailed`.
    Dial {
        /// The key it will have.
        peer: PeerKey,
        /// Where.
        address: SocketAddr,
        /// On whose word.
        origin: Origin,
        /// The remote dials us at the same time, through routers that let in answers alone (BEP 55): over uTP only, and for a few
        /// seconds.
        punch: bool,
    },
    /// Refuse this connection, which `Connected` announced: it is a duplicate, banned, or ourselves.
    Refuse {
        /// Which.
        peer: PeerKey,
        /// Why.
        reason: CloseReason,
    },
    /// It could use that many connections more; replaces the last statement.
    WantsDials(u32),
    /// A peer says where it sees us.
    Seen(Sighting),
    /// More addresses would help: ask the trackers early.
    WantsCandidates,
    /// Accept no more connections from this address.
    Ban(IpAddr),
    /// Forget the received, unverified blocks of this piece: nobody wants it any more, or it is begun anew. No block of it
    /// is leased at this moment.
    Forget(PieceIndex),
    /// Every wanted piece is verified.
    Complete,
}

/// What a torrent starts from.
#[derive(Clone, Debug)]
pub struct TorrentConfig {
    /// How it is cut.
    pub layout: Arc<Layout>,
    /// The pieces that are verified already.
    pub have: Bitfield,
    /// How much each piece is wanted; those beyond the end of the list are [`Priority::Normal`].
    pub priorities: Vec<Priority>,
    /// Pick pieces in order rather than rarest first.
    pub sequential: bool,
    /// Our peer id, to recognise ourselves and to settle which of two crossing connections stays.
    pub our_peer_id: [u8; 20],
    /// Seeds all random choices.
    pub seed: u64,
    /// The most connections, those being dialled included.
    pub max_connections: u32,
    /// Its peers come from its trackers and its user alone (BEP 27), also where others were met before that was known.
    pub private: bool,
    /// Peers are told of each other, and believed (BEP 11): not in private torrents, and not where we keep to ourselves.
    pub exchange: bool,
    /// Where everything is there at the start, it is shown piece by piece until others have it all between them (BEP 16).
    pub super_seed: bool,
    /// Whom it dials and lets in.
    pub peer_rules: PeerRules,
}

/// Whom a torrent dials and lets in, as far as a person may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRules {
    /// Who comes from an IP address that is connected already is turned away. Off: many may be behind one router.
    pub one_per_address: bool,
    /// Ports of the system, below 1,024, are dialled, where somebody else than the user names them. On: some peers are there to pass
    /// firewalls; who speaks to other services at the word of strangers (announced as peers by a liar) may not want it.
    pub system_ports: bool,
    /// A torrent that is complete dials. On: otherwise nobody whose router lets nobody in gets anything from it.
    pub dials_when_complete: bool,
}

impl Default for PeerRules {
    fn default() -> Self {
        PeerRules {
            one_per_address: false,
            system_ports: true,
            dials_when_complete: true,
        }
    }
}

/// The most connections of one torrent, unless told otherwise: enough to find fast peers in any swarm.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 200;

/// The most peers that are given work after one input; the others follow at once, with the next tick.
const MAX_SERVED_PER_INPUT: u32 = 32;

/// Peers for which there was no work are tried again after so long, as work also appears by time passing.
const RETRY: Duration = Duration::from_millis(250);

/// How often connections are reviewed while there is something to review.
const REVIEW: Duration = Duration::from_secs(10);

/// The owner of what the peers of one torrent share.
///
/// Driven like every machine; its getters show it to a person and to the choker. It says nothing on its own about pieces
/// it has at the start: whoever builds it complete knows.
#[derive(Debug)]
pub struct Torrent {
    layout: Arc<Layout>,
    our_peer_id: [u8; 20],
    max_connections: u32,
    private: bool,
    rng: fastrand::Rng,
    now: Moment,
    outputs: VecDeque<Output>,

    picker: Picker,
    smart_ban: SmartBan,
    candidates: Candidates,
    offers: Offers,
    exchange: Exchange,
    super_seed: Option<SuperSeed>,
    peers: BTreeMap<PeerKey, Peer>,
    /// How many peers were not told to close.
    open: u32,
    dialing: BTreeMap<PeerKey, Dialling>,
    hole_punches: HolePunches,
    next_key: u64,
    /// What peers were that left after they had delivered blocks, for when their pieces fail.
    departed: BTreeMap<PeerKey, Source>,

    /// Peers that want work, in the order in which they get some.
    hungry: VecDeque<PeerKey>,
    /// Peers that want more work than there was.
    starved: BTreeSet<PeerKey>,
    retry_at: Option<Moment>,
    review_at: Option<Moment>,

    /// What storage said and waits for what peers have still to say.
    verdicts: BTreeMap<PieceIndex, Verdict>,
    /// Blocks of unverified pieces that more than one peer says to have delivered, and who but the first.
    doubtful: BTreeMap<PieceIndex, BTreeSet<(BlockIndex, Source)>>,
    /// New pieces that no peer has been told of.
    news: Vec<PieceIndex>,
    suspended: bool,
    stopped: bool,
    /// Every piece is being read again.
    rechecking: bool,
    /// It is to be a super-seed again when that is over.
    super_seeds_again: bool,
    complete: bool,
    missing: Tally,
    have: Tally,
    wanted: Tally,
    wasted_bytes: u64,
    failed_bytes: u64,
    /// What `WantsDials` said last; `None` where it has to be said again.
    stated_dials: Option<u32>,
    asked_candidates: Option<Moment>,
    /// When the next address becomes worth a dial, as of the last look.
    dial_at: Option<Moment>,
    /// What is needed of connections and addresses has to be looked at again.
    connections_changed: bool,
    peer_rules: PeerRules,
}

/// A dial under way.
#[derive(Clone, Copy, Debug)]
struct Dialling {
    address: SocketAddr,
    /// The remote was told to dial us.
    punched: bool,
    /// Somebody was asked to tell it so.
    asked: bool,
}

/// Pieces and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    pieces: u32,
    bytes: u64,
}

impl Tally {
    fn of(layout: &Layout, pieces: impl Iterator<Item = PieceIndex>) -> Self {
        let mut tally = Tally::default();
        pieces.for_each(|piece| tally.add(layout, piece));
        tally
    }

    fn add(&mut self, layout: &Layout, piece: PieceIndex) {
        self.pieces += 1;
        self.bytes += u64::from(layout.length_of(piece));
    }

    fn remove(&mut self, layout: &Layout, piece: PieceIndex) {
        self.pieces -= 1;
        self.bytes -= u64::from(layout.length_of(piece));
    }
}

impl Torrent {
    /// A torrent without peers.
    #[must_use]
    pub fn new(config: TorrentConfig) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let layout = config.layout;
        let mut picker = Picker::new((*layout).clone(), &config.have, &mut rng);
        for (piece, priority) in layout.pieces().zip(config.priorities) {
            if priority != Priority::default() {
                // Nobody holds a lease yet that would have to be taken back.
                let _none = picker.set_priority(piece, priority);
            }
        }
        picker.set_sequential(config.sequential);
        let super_seed = (config.super_seed && picker.have().is_full())
            .then(|| SuperSeed::new(layout.piece_count()));
        let mut torrent = Torrent {
            have: Tally::of(&layout, picker.have().iter()),
            candidates: Candidates::new(rng.u64(..)),
            complete: picker.is_complete(),
            layout,
            our_peer_id: config.our_peer_id,
            max_connections: config.max_connections,
            private: config.private,
            rng,
            now: Moment::ZERO,
            outputs: VecDeque::new(),
            picker,
            smart_ban: SmartBan::new(),
            offers: Offers::default(),
            exchange: Exchange::new(config.exchange),
            super_seed,
            peers: BTreeMap::new(),
            open: 0,
            dialing: BTreeMap::new(),
            hole_punches: HolePunches::default(),
            next_key: 0,
            departed: BTreeMap::new(),
            hungry: VecDeque::new(),
            starved: BTreeSet::new(),
            retry_at: None,
            review_at: None,
            verdicts: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            news: Vec::new(),
            suspended: false,
            stopped: false,
            rechecking: false,
            super_seeds_again: false,
            missing: Tally::default(),
            wanted: Tally::default(),
            wasted_bytes: 0,
            failed_bytes: 0,
            stated_dials: Some(0),
            asked_candidates: None,
            dial_at: None,
            connections_changed: true,
            peer_rules: config.peer_rules,
        };
        torrent.recount();
        torrent
    }

    /// A key for an accepted connection. Never given twice.
    pub fn next_key(&mut self) -> PeerKey {
        self.next_key += 1;
        PeerKey(self.next_key)
    }

    fn tell(&mut self, peer: PeerKey, message: ToPeer) {
        self.outputs.push_back(Output::Peer { peer, message });
    }

    /// Ends a connection. It stays among the peers until it has said that it left.
    fn close(&mut self, key: PeerKey, reason: CloseReason) {
        if let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.closing) {
            peer.closing = true;
            self.open -= u32::from(!peer.is_web_seed());
            self.connections_changed = true;
            peer.wish = 0;
            self.starved.remove(&key);
            self.tell(key, ToPeer::Close(reason));
        }
    }

    /// Takes leases back from those who may still hold them.
    fn revoke(&mut self, revocations: Revocations) {
        let mut by_peer: BTreeMap<PeerKey, Vec<BlockRun>> = BTreeMap::new();
        for (key, run) in revocations {
            let Some(peer) = self.peers.get(&key) else {
                continue;
            };
            let runs = by_peer.entry(key).or_default();
            for block in run.blocks().filter(|block| peer.leases.contains(block)) {
                BlockRun::push(runs, block);
            }
        }
        for (key, runs) in by_peer.into_iter().filter(|(_, runs)| !runs.is_empty()) {
            self.tell(key, ToPeer::Revoke(runs));
        }
    }

    /// Says of all new pieces that we have them.
    fn tell_news(&mut self) {
        if !self.news.is_empty() {
            let pieces = core::mem::take(&mut self.news);
            self.outputs
                .push_back(Output::Broadcast(ToPeer::Have(pieces)));
        }
    }

    fn on_priorities(&mut self, priorities: &[Priority]) {
        let layout = self.layout.clone();
        for (piece, &priority) in layout.pieces().zip(priorities) {
            if self.picker.priority(piece) == priority {
                continue;
            }
            let forgotten = priority == Priority::Skip && self.picker.is_in_progress(piece);
            let revocations = self.picker.set_priority(piece, priority);
            if forgotten {
                self.on_verdict(piece, Verdict::Unwanted);
            } else {
                self.revoke(revocations);
            }
        }
        self.recount();
        for peer in self.peers.values_mut() {
            peer.recount(self.picker.wanted_missing());
        }
        self.review_interest();
        self.review_completeness();
        self.wake_all();
    }

    /// Counts what is wanted and what is missing anew: looks at every piece.
    fn recount(&mut self) {
        let wanted = |piece: &PieceIndex| self.picker.priority(*piece) != Priority::Skip;
        self.wanted = Tally::of(&self.layout, self.layout.pieces().filter(wanted));
        self.missing = Tally::of(&self.layout, self.picker.wanted_missing().iter());
    }

    /// Says so when the last wanted piece is verified, or when more is wanted afterwards.
    fn review_completeness(&mut self) {
        let complete = self.picker.is_complete();
        if complete == self.complete || self.rechecking {
            return;
        }
        self.complete = complete;
        self.connections_changed = true;
        if complete {
            // What completed it goes before, so that nobody hears that we are done before hearing what we have.
            self.tell_news();
            self.outputs.push_back(Output::Complete);
        } else {
            // Seeds were sent away when it was complete.
            self.candidates.want_again(self.now);
        }
        self.outputs
            .push_back(Output::Broadcast(ToPeer::UploadOnly(complete)));
        self.close_useless_seeds();
    }

    fn on_stop(&mut self) {
        self.stopped = true;
        self.connections_changed = true;
        self.hungry.clear();
        self.starved.clear();
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.close(key, CloseReason::Stopping);
        }
        self.settle_waiting();
    }

    fn on_tick(&mut self) {
        self.connections_changed = true;
        self.settle_waiting();
        if self.retry_at.is_some_and(|at| at <= self.now) {
            self.retry_at = None;
            self.wake_all();
        }
        if self.review_at.is_some_and(|at| at <= self.now) {
            self.review_at = None;
            self.make_room();
        }
        self.review_shown();
        self.review_dials();
    }
}

impl Machine for Torrent {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Candidates { origin, addresses } => self.on_candidates(origin, addresses),
            Input::DialGranted(count) => self.dial(count),
            Input::Connected {
                peer,
                address,
                peer_id,
                origin,
            } => self.on_connected(peer, address, peer_id, origin),
            Input::WebSeed { peer, seed } => self.on_web_seed(peer, seed),
            Input::OverUtp(peer) => self.on_over_utp(peer),
            Input::DialFailed { peer } => self.on_dial_failed(peer),
            Input::Peer { peer, message } => self.on_peer(peer, message),
            Input::Verified { piece, blocks } => self.on_verdict(piece, self.right(blocks)),
            Input::Failed { piece, bad, blocks } => {
                let digests = blocks;
                self.on_verdict(piece, Verdict::Wrong { bad, digests });
            }
            Input::Dropped { piece } => self.on_verdict(piece, Verdict::Dropped),
            Input::Lost { piece } => self.on_lost(piece),
            Input::Suspended(suspended) => {
                self.suspended = suspended;
                self.wake_all();
            }
            Input::Unchoked(peers) => self.on_unchoked(&peers),
            Input::OurAddress(address) => self.candidates.set_our_address(address),
            Input::NetworkChanged => {
                self.candidates.try_all_again(self.now);
                self.connections_changed = true;
            }
            Input::Priorities(priorities) => self.on_priorities(&priorities),
            Input::Sequential(sequential) => self.picker.set_sequential(sequential),
            Input::Deadline(lease) => {
                // Beyond the most claims that are kept, the newest one is not: its pieces come in their turn.
                let _kept = self.picker.set_due(lease);
                self.wake_all();
            }
            Input::DeadlineEnded { id } => self.picker.end_due(id),
            Input::SuperSeed(wanted) => self.set_super_seed(wanted),
            Input::MaxConnections(most) => self.set_max_connections(most),
            Input::Shed(count) => self.shed(count),
            Input::Disconnect { peer, reason } => self.close(peer, reason),
            Input::Recheck => self.on_recheck(),
            Input::Rechecked => self.on_rechecked(),
            Input::Stop => self.on_stop(),
            Input::Tick => self.on_tick(),
        }
        self.exchange_contacts();
        self.feed();
        self.state_needs();
    }

    fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.tell_news();
        }
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        if self.stopped {
            return None;
        }
        let work = match self.hungry.is_empty() || self.suspended || self.rechecking {
            true => self.retry_at,
            false => Some(self.now),
        };
        // Once it said that it could dial, the next address that becomes worth it changes nothing.
        let dial = self
            .dial_at
            .filter(|_| self.stated_dials == Some(0) && self.room_for_dials() > 0);
        let connections = earliest(self.review_at, dial);
        let connections = earliest(connections, self.exchange.due);
        let connections = earliest(connections, self.hole_punches.deadline());
        let shown = self.super_seed.as_ref().and_then(|state| state.due);
        let connections = earliest(connections, shown);
        earliest(earliest(work, connections), self.next_verdict())
    }
}
