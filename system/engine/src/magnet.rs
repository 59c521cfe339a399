//! A torrent that begins without metainfo: the driver of its [`Search`], until the torrent itself takes the connections over.
//!
//! Invariant: what was begun here (the place in the register, the trackers, dials, connections, and what the session counts of them)
//! is handed over as a whole, or ended here.

mod connection;
mod source;

use crate::connect::{Dial, Introduction, Ready};
use crate::dht::Membership;
use crate::dials::Dials;
use crate::engine::Environment;
use crate::local::{self, LocalPeers};
use crate::mailbox::{Mailbox, separate};
use crate::register::{Register, Registration};
use crate::session::{FromSession, ToSession};
use crate::snapshot::TrackerLine;
use crate::torrent::{Inbox, ToTorrent, TorrentId};
use crate::tracker::Trackers;
use bytes::Bytes;
use connection::{Order, SeekerTask, Surroundings};
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::metainfo::{Contact, Error, torrent_file};
use shoal_metainfo::{InfoHashes, Magnet, Metainfo, bencode};
use shoal_swarm::PeerKey;
use shoal_swarm::metadata::search::{Found, Input, Output, Search, Standing};
use shoal_swarm::metadata::seeker::Terms;
use shoal_swarm::metadata::{FromSeeker, ToSeeker};
use shoal_swarm::torrent::Origin;
use shoal_transport::policy::Protocol;
use shoal_transport::{OriginClass, TorrentLimiter};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use url::Url;

/// Messages of connections that may wait for the search; connections wait when it is full.
const MAX_WAITING: usize = 256;

/// How often the snapshot is renewed.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// The most bytes of the file that an info dictionary from peers and its piece layers make up: those of the largest of both.
const FILE_LIMITS: bencode::Limits = bencode::Limits {
    bytes: 96 * 1024 * 1024,
    ..bencode::Limits::LOCAL
};

/// A magnet link to look for.
pub struct AddMagnet {
    /// The link.
    pub magnet: Magnet,
    /// Peers that the user named.
    pub peers: Vec<SocketAddr>,
    /// Trackers that the user named, besides the link's own.
    pub trackers: Vec<Url>,
    /// The torrent, where it is known from before: then nothing is searched for, and it is to go on with the link's trackers and
    /// peers.
    pub known: Option<FoundTorrent>,
    /// The route that the search takes, and the torrent after it; `None` is the engine's own.
    pub route: Option<String>,
}

/// Why a magnet link leads to no torrent.
#[derive(Debug, thiserror::Error)]
pub enum MagnetError {
    /// The link's info dictionary was found, and is none that can be used.
    #[error("the torrent that the magnet link names is refused: {0}")]
    Refused(Box<Error>),
    /// It is the torrent of another link or file that is here.
    #[error("the torrent is running already, under another of its info hashes")]
    Duplicate,
    /// The engine or the search was stopped meanwhile.
    #[error("the search for the torrent was stopped")]
    Stopped,
}

/// How far a search is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MagnetSnapshot {
    /// Of peers, and of what they gave.
    pub search: Standing,
    /// Trackers, of each swarm.
    pub trackers: Vec<TrackerLine>,
}

/// A torrent that a magnet link led to.
#[derive(Clone, Debug)]
pub struct FoundTorrent {
    /// The torrent.
    pub metainfo: Arc<Metainfo>,
    /// The bytes of a .torrent file that says the same.
    pub file: Arc<[u8]>,
}

/// A search that runs, and ends when this is dropped; or goes on as a torrent, when this is given to
/// [`AddTorrent::search`](crate::AddTorrent::search).
#[derive(Debug)]
pub struct MagnetHandle {
    pub(crate) id: TorrentId,
    pub(crate) introduction: Introduction,
    watched: watch::Receiver<MagnetSnapshot>,
    found: watch::Receiver<Option<Result<FoundTorrent, Ended>>>,
    hand_over: mpsc::Sender<oneshot::Sender<Met>>,
}

/// A cause that can be told more than once.
#[derive(Clone, Debug)]
enum Ended {
    Refused(Error),
    Duplicate,
}

impl MagnetHandle {
    /// How far it is, and news of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<MagnetSnapshot> {
        self.watched.clone()
    }

    /// Waits for the torrent. May be cancelled and called again.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn found(&mut self) -> Result<FoundTorrent, MagnetError> {
        let found = self.found.wait_for(Option::is_some).await;
        let found = found.map_err(|_| MagnetError::Stopped)?.clone();
        found
            .ok_or(MagnetError::Stopped)?
            .map_err(|ended| match ended {
                Ended::Refused(error) => MagnetError::Refused(Box::new(error)),
                Ended::Duplicate => MagnetError::Duplicate,
            })
    }

    /// Everything that the search has begun; `None` where it was stopped. The search ends.
    pub(crate) async fn hand_over(self) -> Option<Met> {
        let (sender, met) = oneshot::channel();
        self.hand_over.send(sender).await.ok()?;
        met.await.ok()
    }
}

/// What a search hands to its torrent.
pub(crate) struct Met {
    pub(crate) registration: Registration,
    pub(crate) mailbox: Mailbox<FromSession>,
    pub(crate) trackers: Trackers,
    /// Where trackers and dials of the search still send what they find.
    pub(crate) inbox: Inbox,
    pub(crate) candidates: Vec<(SocketAddr, Origin)>,
    pub(crate) connections: Vec<Ready>,
}

/// What a search is put together from, besides its machine.
pub(crate) struct Parts {
    pub(crate) id: TorrentId,
    pub(crate) environment: Arc<Environment>,
    pub(crate) introduction: Introduction,
    pub(crate) register: Register,
    pub(crate) registration: Registration,
    pub(crate) inbox: Inbox,
    pub(crate) mailbox: Mailbox<FromSession>,
    pub(crate) trackers: Trackers,
    pub(crate) limiter: TorrentLimiter,
}

/// A connection as the search sees it.
struct Peer {
    mailbox: Mailbox<Order>,
}

/// The driver.
pub(crate) struct MagnetTask {
    parts: Parts,
    magnet: Arc<Magnet>,
    search: Search,
    peers: BTreeMap<PeerKey, Peer>,
    /// For connections to come.
    from_peers: mpsc::Sender<(PeerKey, Vec<FromSeeker>)>,
    inbox: mpsc::Receiver<(PeerKey, Vec<FromSeeker>)>,
    hand_over: mpsc::Receiver<oneshot::Sender<Met>>,
    /// Where the world sees us, the last word of each family.
    ours: BTreeMap<bool, IpAddr>,
    /// The most connections of a torrent, the session's last word.
    max_connections: Option<u32>,
    shown: watch::Sender<MagnetSnapshot>,
    found: watch::Sender<Option<Result<FoundTorrent, Ended>>>,
    dials: Dials,
    /// Files that the link names, on their way.
    sources: JoinSet<Option<Found>>,
    /// Its being looked for in the DHT, where that may be.
    dht: Option<Membership>,
    /// Who is to look for it on the local network, until it runs.
    local: Option<LocalPeers>,
    /// Its being announced there.
    announced: Option<local::Membership>,
    up: Vec<shoal_session::Input>,
    next_report: Moment,
    stopping: bool,
}

/// What ended a turn for good.
enum Over {
    HandOver(oneshot::Sender<Met>),
    Stopped,
}

impl MagnetTask {
    pub(crate) fn new(parts: Parts, add: AddMagnet, seed: u64) -> (Self, MagnetHandle) {
        let (from_peers, inbox) = mpsc::channel(MAX_WAITING);
        let (orders, hand_over) = mpsc::channel(1);
        let (shown, watched) = watch::channel(MagnetSnapshot::default());
        let (sender, found) = watch::channel(None);
        let handle = MagnetHandle {
            id: parts.id,
            introduction: parts.introduction,
            watched,
            found,
            hand_over: orders,
        };
        let (named, us) = (parts.introduction.hashes, parts.introduction.peer_id.0);
        let mut search = match &add.known {
            Some(known) => {
                let info = Bytes::copy_from_slice(known.metainfo.raw_info());
                Search::known(named, info, us, seed)
            }
            None => Search::new(named, us, seed),
        };
        let environment = &parts.environment;
        let local = match &add.known {
            Some(known) => environment.local_for(&known.metainfo),
            // It may turn out to be private.
            None => environment.local.as_ref(),
        };
        let local = local.cloned();
        sender.send_replace(add.known.map(Ok));
        let (origin, addresses) = (Origin::User, add.peers);
        let now = parts.environment.clock.now();
        search.handle(now, Input::Candidates { origin, addresses });
        let task = MagnetTask {
            parts,
            magnet: Arc::new(add.magnet),
            search,
            peers: BTreeMap::new(),
            from_peers,
            inbox,
            hand_over,
            ours: BTreeMap::new(),
            max_connections: None,
            shown,
            found: sender,
            dials: Dials::default(),
            sources: JoinSet::new(),
            dht: None,
            local,
            announced: None,
            up: Vec::new(),
            next_report: now,
            stopping: false,
        };
        (task, handle)
    }

    /// Runs until it was handed over, or was stopped and its last connection has gone.
    pub(crate) async fn run(mut self) {
        for peer in self.magnet.peers.clone() {
            self.resolve(peer);
        }
        self.drain();
        self.fetch_sources();
        self.join_local();
        self.join_dht();
        let over = loop {
            self.report();
            for input in std::mem::take(&mut self.up) {
                self.tell_session(input).await;
            }
            if self.stopping && self.peers.is_empty() {
                break Over::Stopped;
            }
            if let Some(over) = self.turn().await {
                break over;
            }
        };
        drop((self.announced.take(), self.dht.take()));
        match over {
            Over::HandOver(sender) => self.carry_over(sender).await,
            Over::Stopped => {
                let removed = shoal_session::Input::Removed(self.parts.id);
                self.tell_session(removed).await;
            }
        }
    }

    fn fetch_sources(&mut self) {
        if self.found.borrow().is_some() {
            return;
        }
        for url in &self.magnet.sources {
            let transport = self.parts.environment.transport.clone();
            self.sources.spawn(source::fetch(transport, url.clone()));
        }
    }

    /// Until the torrent does so itself.
    fn join_local(&mut self) {
        let swarms = self.parts.introduction.hashes.swarms();
        let sender = self.parts.inbox.sender();
        let local = self.local.take();
        self.announced = local.map(|local| local.join(swarms, &sender));
    }

    /// Until the torrent does so itself.
    fn join_dht(&mut self) {
        let us = self.parts.introduction;
        let dht = self.parts.environment.dht.as_ref().filter(|_| us.dht);
        let sender = self.parts.inbox.sender();
        self.dht = dht.map(|dht| dht.join(us.hashes.swarms(), false, &[], &sender));
    }

    /// Finds the addresses of a peer that the link names.
    fn resolve(&self, peer: Contact) {
        let (transport, sender) = (
            self.parts.environment.transport.clone(),
            self.parts.inbox.sender(),
        );
        let (origin, protocol) = (OriginClass::Metainfo, Protocol::Peer);
        tokio::spawn(async move {
            let found = transport
                .resolve(&peer.host, peer.port, origin, protocol)
                .await;
            match found {
                Ok(addresses) => {
                    let found = ToTorrent::Candidates(Origin::Magnet, addresses);
                    drop(sender.send(found).await);
                }
                Err(error) => tracing::debug!(%error, "a peer of the magnet link cannot be used"),
            }
        });
    }

    async fn tell_session(&self, input: shoal_session::Input) {
        let session = &self.parts.environment.session;
        drop(session.send(ToSession::Torrent(input)).await);
    }

    /// Waits for one thing and deals with it.
    async fn turn(&mut self) -> Option<Over> {
        let deadline = earliest(self.search.deadline(), Some(self.next_report));
        let mut mail = Vec::new();
        tokio::select! {
            message = self.parts.inbox.receive() => self.hear(message),
            Some((peer, messages)) = self.inbox.recv() => {
                messages.into_iter().for_each(|message| self.hear_peer(peer, message));
            }
            () = self.parts.mailbox.collect(&mut mail) => {
                mail.into_iter().for_each(|message| self.decided(message));
            }
            Some(fetched) = self.sources.join_next() => {
                if let Ok(Some(found)) = fetched {
                    self.handle(Input::Fetched(found));
                }
            }
            order = self.hand_over.recv(), if !self.stopping => match order {
                Some(sender) => return Some(Over::HandOver(sender)),
                // Nobody wants the torrent any more.
                None => self.stop(),
            },
            () = self.parts.environment.clock.sleep_until(deadline) => self.handle(Input::Tick),
        }
        None
    }

    fn hear(&mut self, message: ToTorrent) {
        match message {
            ToTorrent::Dialled(ready) => self.connected(*ready),
            ToTorrent::DialFailed(peer) => {
                self.dial_ended(false);
                self.handle(Input::DialFailed { peer });
            }
            ToTorrent::Candidates(origin, addresses) => {
                self.handle(Input::Candidates { origin, addresses });
            }
            ToTorrent::Seen(sighting) => self.up.push(shoal_session::Input::Seen(sighting)),
            ToTorrent::Stop => self.stop(),
            // Connections of a search speak to it elsewhere, and it has neither origins nor files.
            ToTorrent::Peer(..)
            | ToTorrent::Client(..)
            | ToTorrent::WebSeedNews(..)
            | ToTorrent::Checked(_)
            | ToTorrent::Selected(_)
            | ToTorrent::Command(_) => {}
            // There are no files yet.
            ToTorrent::Relocate(_) | ToTorrent::Relocated | ToTorrent::AcceptMissing(_) => {}
        }
    }

    fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.parts.trackers.stop();
            (self.announced, self.dht) = (None, None);
            self.dials.stop();
            self.sources.abort_all();
            self.handle(Input::Stop);
        }
    }

    fn hear_peer(&mut self, peer: PeerKey, message: FromSeeker) {
        // In isolation, nobody's word is taken.
        if self.parts.environment.isolated && matches!(message, FromSeeker::Introduced(_)) {
            return;
        }
        let left = matches!(message, FromSeeker::Left(_));
        self.handle(Input::Peer { peer, message });
        if left && self.peers.remove(&peer).is_some() {
            self.disconnected();
        }
    }

    fn decided(&mut self, message: FromSession) {
        match message {
            FromSession::GrantDials(count) => {
                let before = self.dials.begun();
                self.handle(Input::DialGranted(count));
                for _ in self.dials.begun() - before..u64::from(count) {
                    self.dial_ended(false);
                }
            }
            FromSession::Incoming(ready) => self.connected(*ready),
            // Nobody is interested in a torrent of which we have nothing, and a search has few connections, and not for long.
            FromSession::Unchoked(_) | FromSession::Shed(_) | FromSession::Review => {}
            FromSession::NetworkChanged(route) if route == self.parts.environment.route => {
                self.handle(Input::NetworkChanged);
                self.parts.trackers.reannounce(None);
            }
            FromSession::NetworkChanged(_) => {}
            FromSession::MaxConnections(most) => self.max_connections = Some(most),
            FromSession::OurAddress(address) => {
                self.ours.insert(address.is_ipv4(), address);
            }
        }
    }

    /// One input and all its outputs.
    fn handle(&mut self, input: Input) {
        self.search
            .handle(self.parts.environment.clock.now(), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.search.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Peer { peer, message } => self.tell(peer, message),
            Output::Dial {
                peer,
                address,
                origin,
            } => self.dial(peer, address, origin),
            Output::Refuse { peer, reason } => {
                tracing::debug!(peer = peer.0, ?reason, "connection refused");
                self.peers.remove(&peer);
            }
            Output::WantsDials(count) => {
                let torrent = self.parts.id;
                self.up
                    .push(shoal_session::Input::WantsDials { torrent, count });
            }
            Output::WantsCandidates => {
                self.parts.trackers.want_candidates();
                if let Some(dht) = &self.dht {
                    dht.want_peers();
                }
            }
            Output::Ban(address) => {
                tracing::info!("a peer was banned for sending wrong metadata");
                tracing::trace!(%address, "banned");
            }
            Output::Info(hashes) => self.named(hashes),
            Output::Unusable(error) => self.end(Ended::Refused(error)),
            Output::Found(found) => self.found(&found),
        }
    }

    fn tell(&self, peer: PeerKey, message: ToSeeker) {
        if let Some(peer) = self.peers.get(&peer) {
            peer.mailbox.push(Order::Search(message), separate);
        }
    }

    /// All names of the torrent are known: it is to be found under each of them.
    fn named(&mut self, hashes: InfoHashes) {
        let known = self.parts.introduction.hashes;
        let introduction = Introduction {
            hashes,
            ..self.parts.introduction
        };
        if !self.parts.register.extend(self.parts.id, introduction) {
            return self.end(Ended::Duplicate);
        }
        self.parts.introduction = introduction;
        for swarm in hashes.swarms() {
            if known.swarms().all(|other| other != swarm) {
                self.parts.trackers.join(swarm);
                if let Some(dht) = &mut self.dht {
                    dht.add(swarm);
                }
            }
        }
    }

    fn end(&mut self, ended: Ended) {
        self.found.send_replace(Some(Err(ended)));
        self.stop();
    }

    fn found(&mut self, found: &Found) {
        let magnet = &self.magnet;
        let file = torrent_file(
            &found.info,
            &found.layers,
            &magnet.trackers,
            &magnet.web_seeds,
        );
        let parsed = if found.v1_only {
            Metainfo::parse_v1(&file, FILE_LIMITS)
        } else {
            Metainfo::parse(&file, FILE_LIMITS)
        };
        match parsed {
            Ok(metainfo) => {
                if metainfo.is_private() {
                    self.keep_to_itself();
                }
                let found = FoundTorrent {
                    metainfo: Arc::new(metainfo),
                    file: file.into(),
                };
                self.found.send_replace(Some(Ok(found)));
            }
            Err(error) => self.end(Ended::Refused(error)),
        }
    }

    /// The torrent is private, which nobody knew: from here on, it is known to its trackers alone (BEP 27).
    fn keep_to_itself(&mut self) {
        (self.announced, self.dht) = (None, None);
        let introduction = Introduction {
            dht: false,
            ..self.parts.introduction
        };
        self.parts.introduction = introduction;
        // Its names are its own already.
        self.parts.register.extend(self.parts.id, introduction);
    }

    fn dial(&mut self, peer: PeerKey, address: SocketAddr, origin: Origin) {
        let dial = Dial {
            key: peer,
            address,
            origin,
            encryption: self.parts.environment.encryption,
            known_plain: false,
            punch: false,
        };
        let (us, inbox) = (self.parts.introduction, self.parts.inbox.sender());
        self.dials.begin(&self.parts.environment, us, dial, inbox);
    }

    fn dial_ended(&mut self, connected: bool) {
        let torrent = self.parts.id;
        self.up
            .push(shoal_session::Input::DialEnded { torrent, connected });
    }

    fn disconnected(&mut self) {
        self.up
            .push(shoal_session::Input::Disconnected(self.parts.id));
    }

    /// A handshake is done: the machine says whether the connection stays.
    fn connected(&mut self, ready: Ready) {
        if !self.parts.environment.admission.allows(ready.address.ip()) {
            match ready.key {
                Some(peer) => {
                    self.dial_ended(false);
                    self.handle(Input::DialFailed { peer });
                }
                None => self.disconnected(),
            }
            return;
        }
        if ready.key.is_some() {
            self.dial_ended(true);
        }
        let peer = ready.key.unwrap_or_else(|| self.search.next_key());
        let mailbox = Mailbox::new();
        let entry = Peer {
            mailbox: mailbox.clone(),
        };
        self.peers.insert(peer, entry);
        self.handle(Input::Connected {
            peer,
            address: ready.address,
            peer_id: ready.peer_id.0,
            origin: ready.origin,
            v2: ready.v2,
        });
        // The machine refused it: its socket closes when `ready` is dropped.
        if !self.peers.contains_key(&peer) {
            return self.disconnected();
        }
        let surroundings = Surroundings {
            clock: self.parts.environment.clock,
            limiter: self.parts.limiter.clone(),
            search: self.from_peers.clone(),
            dht: self
                .parts
                .environment
                .acquaint(self.parts.introduction, &ready),
        };
        let terms = Terms {
            fast: ready.fast,
            extended: ready.extended,
            v2: ready.v2,
            port: self.parts.environment.port.told_to(ready.address.ip()),
            your_ip: Some(ready.address.ip()),
            anonymous: self.parts.environment.anonymous,
        };
        let seat = self.parts.environment.pool.seat();
        seat.spawn(SeekerTask::begin(peer, ready, terms, mailbox, surroundings));
    }

    /// Renews the snapshot when it is time to.
    fn report(&mut self) {
        let now = self.parts.environment.clock.now();
        if now < self.next_report {
            return;
        }
        self.next_report = now + REPORT_INTERVAL;
        self.shown.send_replace(MagnetSnapshot {
            search: self.search.standing(),
            trackers: self.parts.trackers.lines(),
        });
    }

    /// Collects the connections and hands everything over. What a connection still has to say is of no use any more, and is heard so
    /// that none of them waits.
    async fn carry_over(mut self, to: oneshot::Sender<Met>) {
        let mut replies = JoinSet::new();
        for peer in self.peers.values() {
            let (sender, reply) = oneshot::channel();
            peer.mailbox.push(Order::HandOver(sender), separate);
            replies.spawn(reply);
        }
        let mut connections = Vec::new();
        loop {
            tokio::select! {
                reply = replies.join_next() => match reply {
                    Some(Ok(Ok(ready))) => connections.push(*ready),
                    // It has gone meanwhile.
                    Some(_) => self.disconnected(),
                    None => break,
                },
                Some(_) = self.inbox.recv() => {}
            }
        }
        for input in std::mem::take(&mut self.up) {
            self.tell_session(input).await;
        }
        // A search has no use for it, and the torrent has.
        for address in self.ours.into_values() {
            let news = FromSession::OurAddress(address);
            self.parts.mailbox.push(news, separate);
        }
        if let Some(most) = self.max_connections {
            let news = FromSession::MaxConnections(most);
            self.parts.mailbox.push(news, separate);
        }
        let met = Met {
            registration: self.parts.registration,
            mailbox: self.parts.mailbox,
            trackers: self.parts.trackers,
            inbox: self.parts.inbox,
            candidates: self.search.candidates().collect(),
            connections,
        };
        if to.send(met).is_err() {
            // The torrent was stopped before it ran; trackers take leave on being dropped.
            let removed = shoal_session::Input::Removed(self.parts.id);
            let session = &self.parts.environment.session;
            drop(session.send(ToSession::Torrent(removed)).await);
        }
    }
}
