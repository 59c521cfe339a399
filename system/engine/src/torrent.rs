//! The driver of one torrent: the owner of its [`Torrent`] machine, in the middle between its connections, storage, the
//! session and the trackers.
//!
//! Invariant: this loop never waits for a connection or for storage; both may wait for it.

mod commands;
mod connections;
mod readers;
mod report;
mod rest;
#[cfg(test)]
mod tests;
mod verify;
mod web_seeds;

use crate::command::Command;
use crate::connect::{Introduction, Ready};
use crate::dht::Membership;
use crate::dials::Dials;
use crate::engine::{EngineError, Environment};
use crate::hashes::HashServer;
use crate::inbox::{self, Receiver, Sender};
use crate::local;
use crate::mailbox::Mailbox;
use crate::recheck::Rechecks;
use crate::register::Registration;
use crate::relocate::{self, Moving, Relocate};
use crate::session::{FromSession, ToSession};
use crate::snapshot::{Phase, Shown};
use crate::tracker::Trackers;
use crate::whole;
use crate::wishes::Wishes;
use bytes::Bytes;
use commands::Selecting;
use connections::{Peer, PlainRemotes};
use readers::Readers;
use report::REPORT_INTERVAL;
pub(crate) use report::wanted;
pub(crate) use rest::{Resting, Woken};
use shoal_machine::{Machine, Moment, Sighting, earliest};
use shoal_metainfo::{Layout, Metainfo};
use shoal_session::TorrentKey;
use shoal_storage::{Content, Event, StorageError};
use shoal_swarm::torrent::{Input, Origin, Output, Progress, Torrent};
use shoal_swarm::{FromPeer, PeerKey};
use shoal_transport::TorrentLimiter;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use verify::Verifying;
use web_seeds::WebSeeds;

/// Names a torrent within its engine.
pub(crate) type TorrentId = TorrentKey;

/// Messages from connections and trackers that may wait for the torrent. Each is a batch, so that a handful for each peer
/// is enough; connections wait when it is full.
const MAX_WAITING: usize = 1024;

/// Events of storage that may wait for the torrent.
pub(crate) const MAX_EVENTS: usize = 256;

/// How many waiting messages are taken before outputs go out and others get their turn.
const MESSAGES_PER_TURN: usize = 64;

/// What connections, dials, trackers and people tell a torrent.
pub(crate) enum ToTorrent {
    Peer(PeerKey, Vec<FromPeer>),
    /// What a connection's remote calls itself.
    Client(PeerKey, Arc<str>),
    Dialled(Box<Ready>),
    DialFailed(PeerKey),
    Candidates(Origin, Vec<SocketAddr>),
    /// A tracker says where it sees us.
    Seen(Sighting),
    /// What went wrong with a web seed.
    WebSeedNews(PeerKey, String),
    /// Whether whole files are what was promised of them.
    Checked(Result<(), String>),
    /// What a person asks for.
    Command(Box<Command>),
    /// Storage has the files that are wanted, or not.
    Selected(Result<(), StorageError>),
    /// Files are to be elsewhere.
    Relocate(Box<Relocate>),
    /// They are, or that failed.
    Relocated,
    /// Missing files are to be taken for lost.
    AcceptMissing(oneshot::Sender<Result<(), EngineError>>),
    Stop,
}

/// Where a torrent hears from all of them.
pub(crate) struct Inbox {
    /// For connections, dials and trackers to come.
    sender: Sender<ToTorrent>,
    receiver: Receiver<ToTorrent>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = inbox::channel(MAX_WAITING);
        Inbox { sender, receiver }
    }

    pub(crate) fn sender(&self) -> Sender<ToTorrent> {
        self.sender.clone()
    }

    /// Hands everything that still comes here on to `sender`, in the background, until nobody is left who could send.
    pub(crate) fn forward(self, sender: Sender<ToTorrent>) {
        let mut receiver = self.receiver;
        drop(self.sender);
        tokio::spawn(async move {
            while let Some(message) = receiver.recv().await {
                // Where the torrent is gone, so is soon whoever still speaks to the search.
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Waits for the next message. May be cancelled without losing any.
    pub(crate) async fn receive(&mut self) -> ToTorrent {
        match self.receiver.recv().await {
            Some(message) => message,
            // Cannot be, as there is a sender here.
            None => std::future::pending().await,
        }
    }

    fn try_receive(&mut self) -> Option<ToTorrent> {
        self.receiver.try_recv()
    }
}

/// A torrent's content, and what storage says of it.
pub(crate) struct OnDisk {
    pub(crate) content: Content,
    pub(crate) events: mpsc::Receiver<Event>,
}

/// What came of closing a content.
pub(crate) struct Closed {
    /// What storage has told until then: of pieces that were on their way, and nobody else would listen.
    pub(crate) told: Vec<Event>,
    /// The journal says what is verified.
    pub(crate) is_written_down: bool,
}

/// Writes down what is verified.
pub(crate) async fn close(on_disk: &mut OnDisk) -> Closed {
    let content = on_disk.content.clone();
    let mut told = Vec::new();
    let closed = if content.is_left_alone() {
        content.close()
    } else {
        let mut closing = tokio::task::spawn_blocking(move || content.close());
        loop {
            tokio::select! {
                closed = &mut closing => break closed.unwrap_or(Ok(())),
                Some(event) = on_disk.events.recv() => told.push(event),
            }
        }
    };
    while let Ok(event) = on_disk.events.try_recv() {
        told.push(event);
    }
    if let Err(error) = &closed {
        tracing::warn!(%error, "the end of the torrent was not written down");
    }
    Closed {
        told,
        is_written_down: closed.is_ok(),
    }
}

/// What a torrent is put together from, besides its machine.
pub(crate) struct Parts {
    pub(crate) id: TorrentId,
    pub(crate) environment: Arc<Environment>,
    pub(crate) introduction: Introduction,
    pub(crate) registration: Registration,
    pub(crate) metainfo: Arc<Metainfo>,
    pub(crate) layout: Arc<Layout>,
    /// The info dictionary, for those who ask for it.
    pub(crate) info: Bytes,
    pub(crate) on_disk: OnDisk,
    pub(crate) hashes: Arc<HashServer>,
    pub(crate) limiter: TorrentLimiter,
    pub(crate) inbox: Inbox,
    pub(crate) mailbox: Mailbox<FromSession>,
    pub(crate) trackers: Trackers,
    /// Its being looked for in the DHT, where that may be.
    pub(crate) dht: Option<Membership>,
    /// Its being announced on the local network, where that may be.
    pub(crate) local: Option<local::Membership>,
    pub(crate) wishes: Wishes,
    pub(crate) shown: Shown,
    pub(crate) seed_only: bool,
    /// Whether it may be at rest when there is nothing to do.
    pub(crate) may_rest: bool,
    /// A person named peers, who are tried again from time to time.
    pub(crate) names_peers: bool,
}

/// What has come of a torrent since it was added.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    resumed_pieces: u32,
    downloaded_bytes: u64,
    uploaded_bytes: u64,
    /// In earlier times of being awake.
    wasted_bytes: u64,
    failed_pieces: u64,
    lost_pieces: u64,
}

impl Counts {
    fn wasted_with(&self, progress: &Progress) -> u64 {
        self.wasted_bytes + progress.wasted_bytes + progress.failed_bytes
    }

    fn add_waste(&mut self, progress: &Progress) {
        self.wasted_bytes = self.wasted_with(progress);
    }
}

/// What a torrent goes on with when it has been at rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    counts: Counts,
    /// Where the world sees us, the last word of each family.
    ours: [Option<IpAddr>; 2],
    /// The most connections of any torrent.
    session_max_connections: u32,
}

impl Kept {
    /// Of a torrent that was just added, with so many pieces that nobody had to look at.
    pub(crate) fn new(resumed_pieces: u32) -> Self {
        Kept {
            counts: Counts {
                resumed_pieces,
                ..Counts::default()
            },
            ours: [None; 2],
            session_max_connections: u32::MAX,
        }
    }

    /// So many verified pieces were in files that somebody changed while the torrent was at rest.
    pub(crate) fn lost(&mut self, pieces: u32) {
        self.counts.lost_pieces += u64::from(pieces);
    }
}

/// The driver.
pub(crate) struct TorrentTask {
    parts: Parts,
    torrent: Torrent,
    peers: BTreeMap<PeerKey, Peer>,
    web_seeds: WebSeeds,
    /// What is promised of whole files is not checked yet.
    unchecked: bool,
    /// Why it cannot go on, where no peer or origin could change that.
    failed: Option<String>,
    dials: Dials,
    plain: PlainRemotes,
    rechecks: Rechecks,
    /// Everything is being read again.
    verifying: Option<Verifying>,
    /// Other priorities that storage is to know of first.
    selecting: Selecting,
    /// Why nothing can be written, while that is so.
    suspended: Option<Phase>,
    moving: Moving,
    readers: Readers,
    /// What the session is to be told at the end of the turn.
    up: Vec<shoal_session::Input>,
    /// `None` where there is nothing to tell that was not told.
    next_report: Option<Moment>,
    last_report: Moment,
    /// The session knows of peers.
    reported_peers: bool,
    /// Something happened that the session or a person need not wait for until the next report.
    report_early: bool,
    kept: Kept,
    /// Until when it is not at rest.
    awake_until: Moment,
    stopping: bool,
}

impl TorrentTask {
    /// A torrent that was just added. Those that a person named are tried before it goes to rest.
    pub(crate) fn new(mut parts: Parts, torrent: Torrent, kept: Kept) -> Self {
        let now = parts.environment.clock.now();
        let awake_until = match parts.names_peers {
            true => now + rest::AWAKE_FOR,
            false => now,
        };
        TorrentTask {
            unchecked: whole::is_promised(&parts.metainfo),
            failed: None,
            web_seeds: WebSeeds::new(std::mem::take(&mut parts.wishes.web_seeds)),
            next_report: Some(now),
            last_report: now,
            reported_peers: false,
            parts,
            torrent,
            peers: BTreeMap::new(),
            dials: Dials::default(),
            plain: PlainRemotes::default(),
            rechecks: Rechecks::default(),
            verifying: None,
            selecting: Selecting::default(),
            suspended: None,
            moving: Moving::default(),
            readers: Readers::default(),
            up: Vec::new(),
            report_early: false,
            kept,
            awake_until,
            stopping: false,
        }
    }

    /// A torrent that was at rest.
    pub(crate) fn awake(parts: Parts, torrent: Torrent, kept: Kept) -> Self {
        let mut task = TorrentTask::new(parts, torrent, kept);
        task.awake_until = task.last_report + rest::AWAKE_FOR;
        for ip in kept.ours.into_iter().flatten() {
            task.seen_at(ip);
        }
        task.limit_connections();
        task
    }

    /// Runs until it was stopped and its last connection has gone, or until it goes to rest. `met` are connections that exist already
    /// and count as such, `said` is what was said to it and not heard.
    pub(crate) async fn run(
        mut self: Box<Self>,
        met: Vec<Ready>,
        said: Option<ToTorrent>,
    ) -> Option<Box<Resting>> {
        // What was said before it ran, such as where its first peers are.
        self.drain();
        said.into_iter().for_each(|message| self.hear(message));
        for ready in met {
            self.connected(ready);
        }
        if self.parts.wishes.max_uploads.is_some() {
            self.limit_uploads();
        }
        self.start_web_seeds();
        self.check_whole();
        loop {
            self.begin_verifying();
            self.recheck();
            self.review_readers();
            self.report();
            for input in std::mem::take(&mut self.up) {
                self.tell_session(input).await;
            }
            if self.stopping && self.peers.is_empty() {
                break;
            }
            let now = self.parts.environment.clock.now();
            if self.rests_at().is_some_and(|at| at <= now) {
                return Some(Box::new(self.go_to_rest().await));
            }
            self.turn().await;
            // Something may be new, which is told a second after the last news at the earliest.
            let at = self.last_report + REPORT_INTERVAL;
            self.next_report.get_or_insert(at);
        }
        let removed = shoal_session::Input::Removed(self.parts.id);
        self.tell_session(removed).await;
        let closed = close(&mut self.parts.on_disk).await;
        for event in closed.told {
            self.stored(event);
        }
        self.show();
        // Whoever sees that it has stopped may add it again.
        drop(self.parts.registration);
        self.parts.shown.phase(Phase::Stopped);
        None
    }

    /// Where the session is gone the engine stops, and there is nothing left to decide.
    async fn tell_session(&self, input: shoal_session::Input) {
        let session = &self.parts.environment.session;
        drop(session.send(ToSession::Torrent(input)).await);
    }

    /// When there is something to do that nobody asks for.
    fn deadline(&self) -> Option<Moment> {
        let own = earliest(self.next_report, self.rests_at());
        earliest(self.torrent.deadline(), own)
    }

    /// Waits for one thing and deals with it, and with what else is there.
    async fn turn(&mut self) {
        let deadline = self.deadline();
        let mut mail = Vec::new();
        tokio::select! {
            message = self.parts.inbox.receive() => {
                self.hear(message);
                for _ in 1..MESSAGES_PER_TURN {
                    match self.parts.inbox.try_receive() {
                        Some(message) => self.hear(message),
                        None => break,
                    }
                }
            }
            Some(event) = self.parts.on_disk.events.recv() => {
                self.stored(event);
                for _ in 1..MESSAGES_PER_TURN {
                    match self.parts.on_disk.events.try_recv() {
                        Ok(event) => self.stored(event),
                        Err(_) => break,
                    }
                }
            }
            () = self.parts.mailbox.collect(&mut mail) => {
                for message in mail {
                    self.decided(message);
                }
            }
            // What they say is in the next report.
            () = self.parts.trackers.changed() => {}
            () = self.parts.environment.clock.sleep_until(deadline) => self.handle(Input::Tick),
        }
    }

    fn hear(&mut self, message: ToTorrent) {
        match message {
            ToTorrent::Peer(peer, messages) => {
                for message in messages {
                    self.hear_peer(peer, message);
                }
            }
            ToTorrent::Client(peer, client) => self.on_client(peer, client),
            ToTorrent::Dialled(ready) => self.connected(*ready),
            ToTorrent::DialFailed(peer) => {
                self.dial_ended(false);
                self.handle(Input::DialFailed { peer });
            }
            ToTorrent::Candidates(origin, addresses) => {
                self.handle(Input::Candidates { origin, addresses });
            }
            ToTorrent::Seen(sighting) => self.up.push(shoal_session::Input::Seen(sighting)),
            ToTorrent::WebSeedNews(peer, news) => self.web_seeds.on_news(peer, news),
            ToTorrent::Checked(outcome) => self.on_checked(outcome),
            // Whoever waits for an answer learns that there is none.
            ToTorrent::Command(_) if self.stopping => {}
            ToTorrent::Command(command) => self.obey(*command),
            ToTorrent::Selected(outcome) => self.on_selected(outcome),
            ToTorrent::Relocate(relocate) => {
                let content = &self.parts.on_disk.content;
                if !self.stopping {
                    self.moving
                        .begin(*relocate, content, self.parts.inbox.sender());
                    self.rest_or_go_on();
                }
            }
            ToTorrent::AcceptMissing(reply) => {
                relocate::accept_missing(&self.parts.on_disk.content, reply);
            }
            ToTorrent::Relocated => {
                self.moving.end();
                self.rest_or_go_on();
            }
            ToTorrent::Stop => {
                self.stopping = true;
                self.moving.cancel();
                self.update_trackers();
                self.parts.trackers.stop();
                self.parts.dht = None;
                self.dials.stop();
                self.handle(Input::Stop);
            }
        }
    }

    /// What storage tells.
    fn stored(&mut self, event: Event) {
        let input = match event {
            Event::Verified { piece, blocks } => Input::Verified { piece, blocks },
            Event::Failed { piece, bad, blocks } => {
                self.kept.counts.failed_pieces += 1;
                Input::Failed { piece, bad, blocks }
            }
            Event::Lost { piece } => {
                self.kept.counts.lost_pieces += 1;
                self.rechecks.lost(piece);
                self.handle(Input::Lost { piece });
                return self.start_web_seeds();
            }
            Event::Checked { piece, right } if self.reads_everything() => {
                return self.verified_again(piece, right);
            }
            Event::Checked { piece, right } => {
                if !self.rechecks.checked(piece, right) {
                    return;
                }
                let blocks = Vec::new();
                Input::Verified { piece, blocks }
            }
            Event::Dropped { piece } => Input::Dropped { piece },
            Event::Suspended { reason, path } => {
                self.suspended = Some(Phase::Suspended { reason, path });
                return self.rest_or_go_on();
            }
            Event::Resumed => {
                self.suspended = None;
                return self.rest_or_go_on();
            }
        };
        self.handle(input);
    }

    /// Nothing is asked of peers while nothing can be written.
    fn rest_or_go_on(&mut self) {
        self.report_early = true;
        let rests = self.suspended.is_some() || self.moving.is_going_on();
        self.handle(Input::Suspended(rests));
    }

    /// Has lost pieces verified again.
    fn recheck(&mut self) {
        // Where everything is read, these come after it, as they were lost since they were read.
        if self.verifying.is_some() {
            return;
        }
        let due = self.rechecks.due();
        if !due.is_empty() && !self.stopping {
            // It goes on by itself and tells of each piece.
            let _check = self.parts.on_disk.content.verify(due);
        }
    }

    /// What the session decided.
    fn decided(&mut self, message: FromSession) {
        match message {
            FromSession::GrantDials(count) => {
                let before = self.dials.begun();
                self.handle(Input::DialGranted(count));
                // What is not used is given back: nobody else would tell that these have ended.
                for _ in self.dials.begun() - before..u64::from(count) {
                    self.dial_ended(false);
                }
            }
            FromSession::OurAddress(ip) => self.seen_at(ip),
            FromSession::Unchoked(peers) => self.handle(Input::Unchoked(peers)),
            FromSession::MaxConnections(most) => {
                self.kept.session_max_connections = most;
                self.limit_connections();
            }
            FromSession::Shed(count) => self.handle(Input::Shed(count)),
            FromSession::Review => self.send_forbidden_away(),
            FromSession::NetworkChanged(route) if route == self.parts.environment.route => {
                self.handle(Input::NetworkChanged);
                self.parts.trackers.reannounce(None);
            }
            FromSession::NetworkChanged(_) => {}
            // Content without a torrent is nobody else's business.
            FromSession::Incoming(_) if self.parts.metainfo.is_plain() => self.disconnected(),
            FromSession::Incoming(ready) => self.connected(*ready),
        }
    }

    /// The world sees us there.
    fn seen_at(&mut self, ip: IpAddr) {
        rest::remember(&mut self.kept.ours, ip);
        // Without a port of ours, nobody dials us: peers at one address have no say in each other's order.
        let port = self.parts.environment.port.announced().unwrap_or(0);
        self.handle(Input::OurAddress(SocketAddr::new(ip, port)));
    }

    /// One input and all its outputs.
    fn handle(&mut self, input: Input) {
        self.torrent
            .handle(self.parts.environment.clock.now(), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.torrent.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Peer { peer, message } => {
                if let Some(peer) = self.peers.get(&peer) {
                    peer.tell(message);
                }
            }
            Output::Broadcast(message) => {
                for peer in self.peers.values() {
                    peer.tell(message.clone());
                }
            }
            Output::Dial {
                peer,
                address,
                origin,
                punch,
            } => self.dial(peer, address, origin, punch),
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
                if let Some(dht) = &self.parts.dht {
                    dht.want_peers();
                }
            }
            Output::Seen(sighting) => self.up.push(shoal_session::Input::Seen(sighting)),
            // The machine refuses whoever comes from there.
            Output::Ban(address) => {
                tracing::info!("a peer was banned for sending bad data");
                tracing::trace!(%address, "banned");
            }
            Output::Forget(piece) => self.parts.on_disk.content.forget(piece),
            Output::Complete => {
                self.report_early = true;
                self.check_whole();
            }
        }
    }
}
