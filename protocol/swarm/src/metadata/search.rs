//! What the connections of a torrent share until its metainfo is known: whom to dial, whom to ask for what, whom to trust.
//!
//! Invariant: at most [`MAX_CONNECTIONS`] are open or being dialled, no two to the same peer, none to ourselves or to someone banned;
//! [`Output::Found`] comes once, with an info dictionary that every hash of the magnet holds for and piece layers that every root does.

use super::fetch::{self, InfoFetch};
use super::layers::{self, LayerFetch};
use super::message::{FromSeeker, ToSeeker};
use crate::candidates::{Candidates, canonical};
use crate::message::{Blame, CloseReason, PeerKey};
use crate::torrent::Origin;
use bytes::Bytes;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::InfoHashes;
use shoal_metainfo::metainfo::{Dictionary, Error, Limits};
use std::collections::{BTreeMap, VecDeque};

/// Connections of a search: the metadata of most torrents has a handful of pieces.
pub const MAX_CONNECTIONS: u32 = 40;

/// The most addresses taken from one message of a tracker, as a torrent does.
const MAX_CANDIDATES_AT_ONCE: usize = 2_000;

/// With fewer addresses left to try than this, more would help.
const FEW_CANDIDATES: usize = 10;

/// How often more addresses are asked for at most.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Connected peers that can give nothing make room for others after so long.
const USELESS: Duration = Duration::from_secs(60);

/// A hybrid torrent that was found by its v1 hash goes on without the piece layers when nobody has given any for so long,
const LAYER_PATIENCE: Duration = Duration::from_secs(10);

/// ... or for so long, where nobody who could is in sight.
const LAYER_HASTE: Duration = Duration::from_secs(3);

/// Keys begin here, so that the torrent that takes connections over never gives the same.
const FIRST_KEY: u64 = 1 << 63;

/// What can happen to a search.
#[derive(Clone, Debug)]
pub enum Input {
    /// Peers that may be worth a dial.
    Candidates {
        /// Where they come from.
        origin: Origin,
        /// Where they listen.
        addresses: Vec<SocketAddr>,
    },
    /// The session lets this search open that many connections more, now.
    DialGranted(u32),
    /// A connection exists, dialled or accepted, and its handshake is done.
    Connected {
        /// Its key: the one of `Output::Dial`, or a new one from `Search::next_key` for an accepted connection.
        peer: PeerKey,
        /// The remote's address.
        address: SocketAddr,
        /// The remote's peer id, to find duplicates and ourselves.
        peer_id: [u8; 20],
        /// Where the address came from.
        origin: Origin,
        /// Hash requests may be sent (BEP 52).
        v2: bool,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The key of `Output::Dial`.
        peer: PeerKey,
    },
    /// Our network is another one, or is there again: whom we did not reach over the last one, we may reach over this.
    NetworkChanged,
    /// What one of the peers says.
    Peer {
        /// Which.
        peer: PeerKey,
        /// What.
        message: FromSeeker,
    },
    /// What a metainfo file says that was fetched from somewhere, its piece layers checked against their roots. It is let pass where an
    /// info hash that the search is for does not hold for it.
    Fetched(Found),
    /// End all connections and open no more.
    Stop,
    /// A deadline passed.
    Tick,
}

/// What a search wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell one peer.
    Peer {
        /// Which.
        peer: PeerKey,
        /// What.
        message: ToSeeker,
    },
    /// Open a connection, then say `Connected` or `DialFailed`.
    Dial {
        /// The key it will have.
        peer: PeerKey,
        /// Where.
        address: SocketAddr,
        /// On whose word.
        origin: Origin,
    },
    /// Refuse this connection, which `Connected` announced.
    Refuse {
        /// Which.
        peer: PeerKey,
        /// Why.
        reason: CloseReason,
    },
    /// It could use that many connections more; replaces the last statement.
    WantsDials(u32),
    /// More addresses would help: ask the trackers early.
    WantsCandidates,
    /// Accept no more connections from this address.
    Ban(IpAddr),
    /// The info dictionary is there, and these are all hashes of the torrent: it may be in another swarm besides.
    Info(InfoHashes),
    /// The info dictionary is the one that the magnet names, and no torrent that can be used.
    Unusable(Error),
    /// Everything is there.
    Found(Found),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The info dictionary.
    pub info: Bytes,
    /// The piece layers by the roots of their files.
    pub layers: BTreeMap<[u8; 32], Vec<[u8; 32]>>,
    /// Piece layers are missing, so that only the v1 part can be used.
    pub v1_only: bool,
}

/// How far a search is, for whoever waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Connected peers.
    pub peers: u32,
    /// Of these, those that offer metadata.
    pub offers: u32,
    /// Addresses that are known, those connected included.
    pub candidates: u32,
    /// Dials that came to nothing so far.
    pub failed_dials: u32,
    /// Peers banned for wrong metadata so far.
    pub liars: u32,
    /// Bytes and received pieces of the metadata that is nearest to its end, as peers claim; all of it once it is known.
    pub total_bytes: Option<u32>,
    /// See `total_bytes`.
    pub pieces: u32,
    /// The info dictionary is known, and piece layers are missing.
    pub wants_layers: bool,
}

#[derive(Clone, Debug)]
struct Peer {
    address: SocketAddr,
    peer_id: [u8; 20],
    origin: Origin,
    v2: bool,
    since: Moment,
    offers: bool,
    closing: bool,
    /// To be dialled anew once it has left, under all names of the torrent.
    again: bool,
}

#[derive(Debug)]
enum Stage {
    Info(InfoFetch),
    Layers {
        info: Bytes,
        fetch: LayerFetch,
        since: Moment,
        /// The torrent can do without.
        optional: bool,
    },
    Over,
}

impl Stage {
    /// A peer is not to be asked any more.
    fn leave(&mut self, now: Moment, peer: PeerKey) {
        match self {
            Stage::Info(fetch) => fetch.leave(now, peer),
            Stage::Layers { fetch, .. } => fetch.leave(now, peer),
            Stage::Over => {}
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Search {
    named: InfoHashes,
    our_peer_id: [u8; 20],
    stage: Stage,
    /// Once it is known, for those who connect later.
    info: Option<Bytes>,
    candidates: Candidates,
    peers: BTreeMap<PeerKey, Peer>,
    dialing: BTreeMap<PeerKey, (SocketAddr, Origin)>,
    /// Peers to connect to anew, before all others.
    again: VecDeque<(SocketAddr, Origin)>,
    next_key: u64,
    now: Moment,
    outputs: VecDeque<Output>,
    stopped: bool,
    stated_dials: u32,
    asked_candidates: Option<Moment>,
    failed_dials: u32,
    liars: u32,
}

impl Search {
    /// A search for the info dictionary that `named` names. `seed` decides all dice.
    #[must_use]
    pub fn new(named: InfoHashes, our_peer_id: [u8; 20], seed: u64) -> Self {
        Search {
            named,
            our_peer_id,
            stage: Stage::Info(InfoFetch::new(named)),
            info: None,
            candidates: Candidates::new(seed),
            peers: BTreeMap::new(),
            dialing: BTreeMap::new(),
            again: VecDeque::new(),
            next_key: FIRST_KEY,
            now: Moment::ZERO,
            outputs: VecDeque::new(),
            stopped: false,
            stated_dials: 0,
            asked_candidates: None,
            failed_dials: 0,
            liars: 0,
        }
    }

    /// A search that is over before it begins, as `info` is known from before: it only collects addresses, and serves the info
    /// dictionary to who connects.
    #[must_use]
    pub fn known(named: InfoHashes, info: Bytes, our_peer_id: [u8; 20], seed: u64) -> Self {
        Search {
            stage: Stage::Over,
            info: Some(info),
            ..Search::new(named, our_peer_id, seed)
        }
    }

    /// A key for an accepted connection. Never given twice.
    pub const fn next_key(&mut self) -> PeerKey {
        self.next_key += 1;
        PeerKey(self.next_key)
    }

    /// How far it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let best = match &self.stage {
            Stage::Info(fetch) => fetch.best(),
            _ => None,
        };
        let known = self.info.as_ref().map(|info| count(info.len()));
        Standing {
            peers: count(self.peers.len()),
            offers: count(self.peers.values().filter(|peer| peer.offers).count()),
            candidates: count(self.candidates.len()),
            failed_dials: self.failed_dials,
            liars: self.liars,
            total_bytes: known.or(best.map(|(total_bytes, _)| total_bytes)),
            pieces: known.map_or(best.map_or(0, |(_, pieces)| pieces), piece_count),
            wants_layers: matches!(self.stage, Stage::Layers { .. }),
        }
    }

    /// The addresses that are known, for the torrent that goes on with them.
    pub fn candidates(&self) -> impl Iterator<Item = (SocketAddr, Origin)> {
        self.candidates.iter()
    }

    /// Nothing is told to those who were told to close.
    fn tell(&mut self, peer: PeerKey, message: ToSeeker) {
        if self.peers.get(&peer).is_some_and(|peer| !peer.closing) {
            self.outputs.push_back(Output::Peer { peer, message });
        }
    }

    fn close(&mut self, peer: PeerKey, reason: CloseReason) {
        if let Some(entry) = self.peers.get_mut(&peer).filter(|entry| !entry.closing) {
            entry.closing = true;
            let message = ToSeeker::Close(reason);
            self.outputs.push_back(Output::Peer { peer, message });
            self.stage.leave(self.now, peer);
        }
    }

    fn room(&self) -> usize {
        let open = self.peers.values().filter(|peer| !peer.closing).count();
        let most = if self.stopped {
            0
        } else {
            MAX_CONNECTIONS as usize
        };
        most.saturating_sub(open + self.dialing.len())
    }

    fn dial(&mut self, count: u32) {
        self.stated_dials = 0;
        for _ in 0..self.room().min(count as usize) {
            let again = self.again.pop_front();
            let Some((address, origin)) = again.or_else(|| self.candidates.next_dial(self.now))
            else {
                break;
            };
            let connected = self
                .peers
                .values()
                .any(|peer| peer.address == address && !peer.closing);
            if connected || self.dialing.values().any(|(other, _)| *other == address) {
                continue;
            }
            let peer = self.next_key();
            self.dialing.insert(peer, (address, origin));
            self.outputs.push_back(Output::Dial {
                peer,
                address,
                origin,
            });
        }
    }

    fn on_dial_failed(&mut self, peer: PeerKey) {
        if let Some((address, _)) = self.dialing.remove(&peer) {
            self.failed_dials = self.failed_dials.saturating_add(1);
            self.candidates.failed(self.now, address);
        }
    }

    fn on_connected(&mut self, key: PeerKey, mut peer: Peer) {
        peer.address = canonical(peer.address);
        let dialled = self.dialing.remove(&key).map(|(address, _)| address);
        if let Err(reason) = self.admit(&peer) {
            match (dialled, &reason) {
                (Some(dialled), CloseReason::Ourselves) => self.candidates.set_ours(dialled),
                (Some(dialled), _) => self.candidates.failed(self.now, dialled),
                (None, _) => {}
            }
            return self.outputs.push_back(Output::Refuse { peer: key, reason });
        }
        let address = dialled.unwrap_or(peer.address);
        self.candidates.connected(self.now, address);
        let (v2, ip) = (peer.v2, peer.address.ip());
        self.peers.insert(key, peer);
        if let Some(info) = self.info.clone() {
            self.tell(key, ToSeeker::Known(info));
        }
        if let Stage::Layers { fetch, .. } = &mut self.stage
            && v2
        {
            fetch.join(self.now, key, ip);
        }
    }

    fn admit(&mut self, new: &Peer) -> Result<(), CloseReason> {
        if self.stopped {
            return Err(CloseReason::Stopping);
        }
        if new.peer_id == self.our_peer_id {
            return Err(CloseReason::Ourselves);
        }
        if self.candidates.is_banned(new.address.ip()) {
            return Err(CloseReason::Banned(Blame::Certain));
        }
        let same = |peer: &Peer| peer.peer_id == new.peer_id || peer.address == new.address;
        if self.peers.values().any(|peer| !peer.closing && same(peer)) {
            return Err(CloseReason::Duplicate);
        }
        if self.room() == 0 {
            let useless = self.useless().ok_or(CloseReason::Useless)?;
            self.close(useless, CloseReason::Useless);
        }
        Ok(())
    }

    /// A peer that has had its time and offers nothing.
    fn useless(&self) -> Option<PeerKey> {
        let wants_info = matches!(self.stage, Stage::Info(_));
        let is_useless = |peer: &Peer| {
            let of_use = if wants_info { peer.offers } else { peer.v2 };
            !peer.closing && !of_use && self.now >= peer.since + USELESS
        };
        let mut peers = self.peers.iter();
        peers
            .find(|(_, peer)| is_useless(peer))
            .map(|(&key, _)| key)
    }

    fn add(&mut self, origin: Origin, addresses: Vec<SocketAddr>) {
        for address in addresses.into_iter().take(MAX_CANDIDATES_AT_ONCE) {
            self.candidates.add(self.now, address, origin);
        }
    }

    fn on_peer(&mut self, key: PeerKey, message: FromSeeker) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let (now, ip) = (self.now, peer.address.ip());
        if let FromSeeker::Left(_) = message {
            return self.on_left(key);
        }
        peer.offers |= matches!(message, FromSeeker::Offers { .. });
        if peer.closing {
            return;
        }
        match (&mut self.stage, message) {
            (_, FromSeeker::Introduced(addresses)) => {
                self.add(Origin::PeerExchange, addresses);
            }
            (Stage::Info(fetch), FromSeeker::Offers { total_bytes }) => {
                fetch.offer(now, key, ip, total_bytes);
            }
            (
                Stage::Info(fetch),
                FromSeeker::Data {
                    piece,
                    total_bytes,
                    bytes,
                },
            ) => fetch.data(now, key, piece, total_bytes, bytes),
            (Stage::Info(fetch), FromSeeker::Rejected { piece }) => fetch.reject(now, key, piece),
            (Stage::Layers { fetch, .. }, FromSeeker::Hashes(hashes)) => {
                fetch.hashes(now, key, &hashes);
            }
            (Stage::Layers { fetch, .. }, FromSeeker::HashesRejected(request)) => {
                fetch.reject(now, key, &request);
            }
            // What is not of use any more, or not yet.
            _ => {}
        }
    }

    fn on_left(&mut self, key: PeerKey) {
        let now = self.now;
        self.stage.leave(now, key);
        if let Some(peer) = self.peers.remove(&key) {
            self.candidates.disconnected(now, peer.address, peer.offers);
            if peer.again {
                self.again.push_back((peer.address, peer.origin));
            }
        }
    }

    /// Carries out what the fetching wants, until it wants nothing more.
    fn follow(&mut self) {
        if let Stage::Info(fetch) = &mut self.stage {
            for action in fetch.take_actions() {
                match action {
                    fetch::Action::Request(peer, piece) => {
                        self.tell(peer, ToSeeker::Request { piece });
                    }
                    fetch::Action::Convict(peer, address) => self.convict(peer, address),
                    fetch::Action::Contradiction(peer) => {
                        let what = "it contradicts itself about the metadata";
                        self.close(peer, CloseReason::Protocol(what));
                    }
                    fetch::Action::Done(info) => self.on_info(info),
                }
            }
        }
        if let Stage::Layers { fetch, .. } = &mut self.stage {
            for action in fetch.take_actions() {
                match action {
                    layers::Action::Request(peer, request) => {
                        self.tell(peer, ToSeeker::RequestHashes(request));
                    }
                    layers::Action::Convict(peer, address) => self.convict(peer, address),
                }
            }
        }
        self.review_layers();
    }

    fn convict(&mut self, peer: PeerKey, address: IpAddr) {
        self.liars = self.liars.saturating_add(1);
        self.close(peer, CloseReason::Banned(Blame::Certain));
        if !self.candidates.is_banned(address) {
            self.candidates.ban(address);
            self.outputs.push_back(Output::Ban(address));
        }
    }

    /// The info dictionary is there, and is the right one.
    fn on_info(&mut self, info: Bytes) {
        self.stage = Stage::Over;
        let dictionary = match Dictionary::read(&info, Limits::REMOTE) {
            Ok(dictionary) => dictionary,
            Err(error) => return self.outputs.push_back(Output::Unusable(error)),
        };
        self.info = Some(info.clone());
        let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
        for &peer in &peers {
            self.tell(peer, ToSeeker::Known(info.clone()));
        }
        let hashes = dictionary.info_hashes;
        self.outputs.push_back(Output::Info(hashes));
        let mut fetch = LayerFetch::new(dictionary.missing, self.now);
        for (&key, peer) in self.peers.iter().filter(|(_, peer)| !peer.closing) {
            if peer.v2 {
                fetch.join(self.now, key, peer.address.ip());
            }
        }
        let wanted = fetch.whole().is_none();
        self.stage = Stage::Layers {
            info,
            fetch,
            since: self.now,
            optional: self.named.v1().is_some() && hashes.v1().is_some(),
        };
        // Those who know the torrent by a v1 hash alone were not told that we know its v2 hash: a new handshake says so.
        if wanted && self.named.v2().is_none() {
            self.connect_anew();
        }
    }

    fn on_fetched(&mut self, found: Found) {
        if matches!(self.stage, Stage::Over) {
            return;
        }
        let read = Dictionary::read(&found.info, Limits::REMOTE);
        if !read.is_ok_and(|dictionary| holds(self.named, dictionary.info_hashes)) {
            return;
        }
        if matches!(self.stage, Stage::Info(_)) {
            self.on_info(found.info.clone());
        }
        self.stage = Stage::Over;
        self.outputs.push_back(Output::Found(found));
    }

    fn connect_anew(&mut self) {
        let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in peers {
            if let Some(peer) = self.peers.get_mut(&key)
                && peer.origin != Origin::Incoming
                && !peer.closing
            {
                peer.again = true;
                self.close(key, CloseReason::Useless);
            }
        }
    }

    /// Whether all layers are there, or nobody will give them.
    fn review_layers(&mut self) {
        let waited = self.layers_wait_until();
        let Stage::Layers { info, fetch, .. } = &self.stage else {
            return;
        };
        let (layers, v1_only) = match fetch.whole() {
            Some(layers) => (layers, false),
            None if waited.is_some_and(|until| until <= self.now) => (BTreeMap::new(), true),
            None => return,
        };
        let found = Found {
            info: info.clone(),
            layers,
            v1_only,
        };
        self.stage = Stage::Over;
        self.outputs.push_back(Output::Found(found));
    }

    /// Until when layers are waited for, where the torrent can do without.
    fn layers_wait_until(&self) -> Option<Moment> {
        let Stage::Layers {
            fetch,
            since,
            optional: true,
            ..
        } = &self.stage
        else {
            return None;
        };
        let in_sight = fetch.has_sources() || !self.dialing.is_empty() || !self.again.is_empty();
        Some(if in_sight {
            fetch.progress() + LAYER_PATIENCE
        } else {
            (*since + LAYER_HASTE).max(self.now)
        })
    }

    /// Says what it could use, where that has changed.
    fn state_needs(&mut self) {
        let due = self.candidates.deadline().is_some_and(|at| at <= self.now);
        let idle = if due { self.candidates.idle() } else { 0 };
        let wanted = !matches!(self.stage, Stage::Over);
        let dials = self.room().min(idle + self.again.len());
        let dials = if wanted {
            u32::try_from(dials).unwrap_or(u32::MAX)
        } else {
            0
        };
        if self.stated_dials != dials {
            self.stated_dials = dials;
            self.outputs.push_back(Output::WantsDials(dials));
        }
        let short = wanted && !self.stopped && self.candidates.idle() < FEW_CANDIDATES;
        let recently = |at: Moment| self.now < at + ASK_AGAIN;
        if short && !self.asked_candidates.is_some_and(recently) {
            self.asked_candidates = Some(self.now);
            self.outputs.push_back(Output::WantsCandidates);
        }
    }
}

/// Whether each hash of `named` is one of `hashes`.
fn holds(named: InfoHashes, hashes: InfoHashes) -> bool {
    let v1 = named.v1().is_none_or(|hash| hashes.v1() == Some(hash));
    let v2 = named.v2().is_none_or(|hash| hashes.v2() == Some(hash));
    v1 && v2
}

fn piece_count(total_bytes: u32) -> u32 {
    shoal_wire::metadata::metadata_piece_count(total_bytes)
}

impl Machine for Search {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Moment, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Candidates { origin, addresses } => {
                self.add(origin, addresses);
            }
            Input::DialGranted(count) => self.dial(count),
            Input::Connected {
                peer,
                address,
                peer_id,
                origin,
                v2,
            } => {
                let since = self.now;
                let entry = Peer {
                    address,
                    peer_id,
                    origin,
                    v2,
                    since,
                    offers: false,
                    closing: false,
                    again: false,
                };
                self.on_connected(peer, entry);
            }
            Input::DialFailed { peer } => self.on_dial_failed(peer),
            Input::NetworkChanged => self.candidates.try_all_again(self.now),
            Input::Peer { peer, message } => self.on_peer(peer, message),
            Input::Fetched(found) => self.on_fetched(found),
            Input::Stop => {
                self.stopped = true;
                self.stage = Stage::Over;
                let peers: Vec<PeerKey> = self.peers.keys().copied().collect();
                for peer in peers {
                    self.close(peer, CloseReason::Stopping);
                }
            }
            Input::Tick => match &mut self.stage {
                Stage::Info(fetch) => fetch.tick(self.now),
                Stage::Layers { fetch, .. } => fetch.tick(self.now),
                Stage::Over => {}
            },
        }
        self.follow();
        self.state_needs();
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Moment> {
        let stage = match &self.stage {
            Stage::Info(fetch) => fetch.deadline(self.now),
            Stage::Layers { fetch, .. } => {
                earliest(fetch.deadline(self.now), self.layers_wait_until())
            }
            Stage::Over => return None,
        };
        let dial = self.candidates.deadline().filter(|&at| at > self.now);
        let ask = self.asked_candidates.map(|at| at + ASK_AGAIN);
        earliest(earliest(stage, dial), ask)
    }
}
