//! The driver of one torrent: the owner of its [`Torrent`] machine, in the middle between its connections, storage, the
//! session and the trackers.
//!
//! Invariant: this loop never waits for a connection or for storage; both may wait for it.

use crate::clock::Clock;
use crate::connect::{self, Introduction, Ready};
use crate::hashes::HashServer;
use crate::mailbox::{Mailbox, separate};
use crate::peer::{PeerTask, Surroundings};
use crate::session::{FromSession, ToSession};
use crate::snapshot::{PeerLine, Phase, Snapshot, TrackerLine};
use crate::tracker::{ToTrackers, Totals};
use crate::worker::Pool;
use shoal_machine::{Machine, Moment, earliest};
use shoal_metainfo::Layout;
use shoal_session::{Candidate, PeerId, TorrentKey};
use shoal_storage::{Content, Event, Storage};
use shoal_swarm::peer_session::{Negotiated, PeerSession, PeerSettings};
use shoal_swarm::torrent::{Input, Origin, Output, Torrent};
use shoal_swarm::{CloseReason, FromPeer, Has, PeerKey, Report, ToPeer};
use shoal_transport::{TorrentLimiter, Transport};
use shoal_wire::allowed_fast_set;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Names a torrent within its engine.
pub(crate) type TorrentId = TorrentKey;

/// How often peers are reported to the session and the snapshot is renewed.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Messages from connections and trackers that may wait for the torrent. Each is a batch, so that a handful for each peer
/// is enough; connections wait when it is full.
pub(crate) const MAX_WAITING: usize = 1024;

/// Events of storage that may wait for the torrent.
pub(crate) const MAX_EVENTS: usize = 256;

/// How many pieces a peer may fetch while choked (BEP 6): enough to have something to give, too few to live on.
const ALLOWED_FAST_PIECES: u32 = 5;

/// How many waiting messages are taken before outputs go out and others get their turn.
const MESSAGES_PER_TURN: usize = 64;

/// What connections, dials, trackers and people tell a torrent.
pub(crate) enum ToTorrent {
    Peer(PeerKey, Vec<FromPeer>),
    Dialled(Box<Ready>),
    DialFailed(PeerKey),
    Candidates(Origin, Vec<SocketAddr>),
    Stop,
}

/// What a torrent needs besides its machine.
pub(crate) struct Around {
    pub(crate) id: TorrentId,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) transport: Transport,
    pub(crate) limiter: TorrentLimiter,
    pub(crate) storage: Storage,
    pub(crate) content: Content,
    pub(crate) layout: Arc<Layout>,
    pub(crate) hashes: Arc<HashServer>,
    pub(crate) introduction: Introduction,
    pub(crate) port: Option<u16>,
    pub(crate) session: mpsc::Sender<ToSession>,
    pub(crate) trackers: Mailbox<ToTrackers>,
    pub(crate) tracker_lines: watch::Receiver<Vec<TrackerLine>>,
    pub(crate) totals: Arc<Totals>,
    pub(crate) resumed_pieces: u32,
}

/// The driver.
pub(crate) struct TorrentTask {
    around: Around,
    torrent: Torrent,
    inbox: mpsc::Receiver<ToTorrent>,
    /// For connections, dials and trackers to speak to us.
    sender: mpsc::Sender<ToTorrent>,
    events: mpsc::Receiver<Event>,
    mailbox: Mailbox<FromSession>,
    peers: BTreeMap<PeerKey, Peer>,
    snapshot: watch::Sender<Snapshot>,
    /// Why nothing can be written, while that is so.
    suspended: Option<Phase>,
    /// What the session is to be told at the end of the turn.
    up: Vec<shoal_session::Input>,
    next_report: Moment,
    /// Somebody became interested since the last report, and need not wait for the next.
    report_early: bool,
    downloaded_bytes: u64,
    uploaded_bytes: u64,
    failed_pieces: u64,
    complete: bool,
    stopping: bool,
}

/// A connection as its torrent sees it.
struct Peer {
    mailbox: Mailbox<ToPeer>,
    /// What it last reported, so that totals outlive connections.
    report: Report,
}

impl TorrentTask {
    pub(crate) fn new(
        around: Around,
        torrent: Torrent,
        channel: (mpsc::Sender<ToTorrent>, mpsc::Receiver<ToTorrent>),
        events: mpsc::Receiver<Event>,
        mailbox: Mailbox<FromSession>,
        snapshot: watch::Sender<Snapshot>,
    ) -> Self {
        let (sender, inbox) = channel;
        TorrentTask {
            next_report: around.clock.now(),
            around,
            inbox,
            sender,
            events,
            mailbox,
            peers: BTreeMap::new(),
            snapshot,
            suspended: None,
            up: Vec::new(),
            report_early: false,
            downloaded_bytes: 0,
            uploaded_bytes: 0,
            failed_pieces: 0,
            complete: torrent.is_complete(),
            torrent,
            stopping: false,
        }
    }

    /// Runs until it was stopped and its last connection has gone.
    pub(crate) async fn run(mut self) {
        // What was said before it ran, such as where its first peers are.
        self.drain();
        self.show();
        loop {
            self.report();
            for input in std::mem::take(&mut self.up) {
                // Where the session is gone the engine stops, and there is nothing left to decide.
                drop(self.around.session.send(ToSession::Torrent(input)).await);
            }
            if self.stopping && self.peers.is_empty() {
                break;
            }
            self.turn().await;
        }
        let removed = shoal_session::Input::Removed(self.around.id);
        drop(self.around.session.send(ToSession::Torrent(removed)).await);
        self.close().await;
    }

    /// Waits for one thing and deals with it, and with what else is there.
    async fn turn(&mut self) {
        let deadline = earliest(self.torrent.deadline(), Some(self.next_report));
        let mut mail = Vec::new();
        tokio::select! {
            Some(message) = self.inbox.recv() => {
                self.hear(message);
                for _ in 1..MESSAGES_PER_TURN {
                    match self.inbox.try_recv() {
                        Ok(message) => self.hear(message),
                        Err(_) => break,
                    }
                }
            }
            Some(event) = self.events.recv() => {
                self.stored(event);
                for _ in 1..MESSAGES_PER_TURN {
                    match self.events.try_recv() {
                        Ok(event) => self.stored(event),
                        Err(_) => break,
                    }
                }
            }
            () = self.mailbox.collect(&mut mail) => {
                for message in mail {
                    self.decided(message);
                }
            }
            () = self.around.clock.sleep_until(deadline) => self.handle(Input::Tick),
        }
    }

    fn hear(&mut self, message: ToTorrent) {
        match message {
            ToTorrent::Peer(peer, messages) => {
                for message in messages {
                    let left = matches!(message, FromPeer::Left(_));
                    self.report_early |= matches!(message, FromPeer::Interested(true));
                    if let FromPeer::Report(report) = &message {
                        self.count(peer, *report);
                    }
                    self.handle(Input::Peer { peer, message });
                    if left && self.peers.remove(&peer).is_some() {
                        self.up
                            .push(shoal_session::Input::Disconnected(self.around.id));
                    }
                }
            }
            ToTorrent::Dialled(ready) => self.connected(*ready),
            ToTorrent::DialFailed(peer) => {
                self.dial_ended(false);
                self.handle(Input::DialFailed { peer });
            }
            ToTorrent::Candidates(origin, addresses) => {
                self.handle(Input::Candidates { origin, addresses });
            }
            ToTorrent::Stop => {
                self.stopping = true;
                self.around.trackers.push(ToTrackers::Stop, separate);
                self.handle(Input::Stop);
            }
        }
    }

    /// What storage tells.
    fn stored(&mut self, event: Event) {
        let input = match event {
            Event::Verified { piece, blocks } => Input::Verified { piece, blocks },
            Event::Failed { piece, bad, blocks } => {
                self.failed_pieces += 1;
                Input::Failed { piece, bad, blocks }
            }
            Event::Lost { piece } => Input::Lost { piece },
            Event::Dropped { piece } => Input::Dropped { piece },
            Event::Suspended { reason, path } => {
                self.suspended = Some(Phase::Suspended { reason, path });
                self.show_soon();
                Input::Suspended(true)
            }
            Event::Resumed => {
                self.suspended = None;
                self.show_soon();
                Input::Suspended(false)
            }
            // Checks happen before a torrent runs.
            Event::Checked { .. } => return,
        };
        self.handle(input);
    }

    /// What the session decided.
    fn decided(&mut self, message: FromSession) {
        match message {
            FromSession::GrantDials(count) => self.handle(Input::DialGranted(count)),
            FromSession::Unchoked(peers) => self.handle(Input::Unchoked(peers)),
            FromSession::Incoming(ready) => self.connected(*ready),
        }
    }

    /// A handshake is done: the machine says whether the connection stays.
    fn connected(&mut self, ready: Ready) {
        if ready.key.is_some() {
            self.dial_ended(true);
        }
        let peer = ready.key.unwrap_or_else(|| self.torrent.next_key());
        let now = self.around.clock.now();
        let mailbox = Mailbox::new();
        self.peers.insert(
            peer,
            Peer {
                mailbox: mailbox.clone(),
                report: Report::default(),
            },
        );
        let (address, origin) = (ready.address, ready.origin);
        self.handle(Input::Connected {
            peer,
            address,
            peer_id: ready.peer_id.0,
            origin,
        });
        // The machine refused it: its socket closes when `ready` is dropped.
        if !self.peers.contains_key(&peer) {
            self.up
                .push(shoal_session::Input::Disconnected(self.around.id));
            return;
        }
        let session = self.peer_session(&ready, now);
        let surroundings = Surroundings {
            clock: self.around.clock,
            storage: self.around.storage.clone(),
            content: self.around.content.clone(),
            hashes: Arc::clone(&self.around.hashes),
            limiter: self.around.limiter.clone(),
            torrent: self.sender.clone(),
        };
        let (layout, sender) = (Arc::clone(&self.around.layout), self.sender.clone());
        self.around.pool.next().spawn(async move {
            match ready.stream.attach() {
                Ok(stream) => {
                    let task = PeerTask::new(
                        peer,
                        stream,
                        session,
                        layout,
                        &ready.leftover,
                        mailbox,
                        surroundings,
                    );
                    task.run().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was lost on its way to its worker");
                    let left = vec![FromPeer::Left(CloseReason::Remote)];
                    drop(sender.send(ToTorrent::Peer(peer, left)).await);
                }
            }
        });
    }

    fn peer_session(&self, ready: &Ready, now: Moment) -> PeerSession {
        let have = self.torrent.have();
        let ours = if have.is_full() {
            Has::All
        } else if have.is_clear() {
            Has::None
        } else {
            Has::Some(have.clone())
        };
        let negotiated = Negotiated {
            fast: ready.fast,
            extended: ready.extended,
            v2: ready.v2,
            ours,
        };
        let (hashes, pieces) = (
            self.around.introduction.hashes,
            self.around.layout.piece_count(),
        );
        let ip = ready.address.ip();
        let allowed_fast = if ready.fast {
            allowed_fast_set(ALLOWED_FAST_PIECES, pieces, hashes.primary(), ip)
        } else {
            Vec::new()
        };
        let settings = PeerSettings {
            port: self.around.port,
            your_ip: Some(ip),
            upload_only: self.complete,
            allowed_fast,
        };
        PeerSession::new(Arc::clone(&self.around.layout), negotiated, settings, now)
    }

    fn dial_ended(&mut self, connected: bool) {
        let torrent = self.around.id;
        self.up
            .push(shoal_session::Input::DialEnded { torrent, connected });
    }

    /// One input and all its outputs.
    fn handle(&mut self, input: Input) {
        self.torrent.handle(self.around.clock.now(), input);
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
                    peer.mailbox.push(message, absorb);
                }
            }
            Output::Broadcast(message) => {
                for peer in self.peers.values() {
                    peer.mailbox.push(message.clone(), absorb);
                }
            }
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
                let torrent = self.around.id;
                self.up
                    .push(shoal_session::Input::WantsDials { torrent, count });
            }
            Output::WantsCandidates => {
                self.around
                    .trackers
                    .push(ToTrackers::WantsCandidates, separate);
            }
            Output::Ban(address) => tracing::info!(%address, "banned for sending bad data"),
            Output::Forget(piece) => self.around.content.forget(piece),
            Output::Complete => {
                self.complete = true;
                self.around.trackers.push(ToTrackers::Completed, separate);
                self.show();
            }
        }
    }

    fn dial(&self, peer: PeerKey, address: SocketAddr, origin: Origin) {
        let (transport, us) = (self.around.transport.clone(), self.around.introduction);
        let sender = self.sender.clone();
        self.around.pool.next().spawn(async move {
            let outcome = match connect::dial(&transport, us, address, origin, peer).await {
                Ok(ready) => ToTorrent::Dialled(Box::new(ready)),
                Err(error) => {
                    tracing::debug!(%error, peer = peer.0, "a dial came to nothing");
                    ToTorrent::DialFailed(peer)
                }
            };
            drop(sender.send(outcome).await);
        });
    }

    /// Counts what moved since a connection's last report.
    fn count(&mut self, peer: PeerKey, report: Report) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            let last = std::mem::replace(&mut peer.report, report);
            self.downloaded_bytes += report
                .downloaded_bytes
                .saturating_sub(last.downloaded_bytes);
            self.uploaded_bytes += report.uploaded_bytes.saturating_sub(last.uploaded_bytes);
        }
    }

    fn show_soon(&mut self) {
        self.next_report = self.around.clock.now();
    }

    /// Once a second: the peers to the session, the totals to the trackers, the state to whoever looks.
    fn report(&mut self) {
        let now = self.around.clock.now();
        if now < self.next_report && !self.report_early {
            return;
        }
        self.report_early = false;
        self.next_report = now + REPORT_INTERVAL;
        let (torrent, seeding) = (self.around.id, self.complete);
        let pieces = u64::from(self.around.layout.piece_count().max(1));
        let peers = self
            .torrent
            .choke_candidates()
            .map(|peer| Candidate {
                id: PeerId {
                    torrent,
                    peer: peer.key,
                },
                interested: peer.interested,
                seeding,
                snubbed: peer.report.snubbed,
                download_rate: peer.report.download_rate,
                upload_rate: peer.report.upload_rate,
                uploaded_bytes: peer.report.uploaded_bytes,
                has_permille: u16::try_from(u64::from(peer.has_pieces) * 1000 / pieces)
                    .unwrap_or(1000),
                joined: peer.since,
            })
            .collect();
        self.up.push(shoal_session::Input::Peers { torrent, peers });
        self.show();
    }

    /// Renews the snapshot.
    fn show(&mut self) {
        let progress = self.torrent.progress();
        let totals = &self.around.totals;
        totals
            .downloaded
            .store(self.downloaded_bytes, Ordering::Relaxed);
        totals
            .uploaded
            .store(self.uploaded_bytes, Ordering::Relaxed);
        totals.left.store(
            progress.total_bytes - progress.have_bytes,
            Ordering::Relaxed,
        );
        let pieces = self.around.layout.piece_count();
        let peers: Vec<PeerLine> = self
            .torrent
            .peers()
            .map(|peer| PeerLine {
                address: peer.address,
                seed: peer.has_pieces == pieces,
                download_rate: peer.report.download_rate,
                upload_rate: peer.report.upload_rate,
            })
            .collect();
        let running = if self.complete {
            Phase::Seeding
        } else {
            Phase::Downloading
        };
        self.snapshot.send_replace(Snapshot {
            phase: self.suspended.clone().unwrap_or(running),
            complete: self.complete,
            wanted_bytes: progress.wanted_bytes,
            wanted_verified_bytes: progress.wanted_bytes - progress.missing_bytes,
            verified_bytes: progress.have_bytes,
            verified_pieces: progress.have_pieces,
            resumed_pieces: self.around.resumed_pieces,
            downloaded_bytes: self.downloaded_bytes,
            uploaded_bytes: self.uploaded_bytes,
            wasted_bytes: progress.wasted_bytes + progress.failed_bytes,
            failed_pieces: self.failed_pieces,
            download_rate: peers.iter().map(|peer| peer.download_rate).sum(),
            upload_rate: peers.iter().map(|peer| peer.upload_rate).sum(),
            peers,
            trackers: self.around.tracker_lines.borrow().clone(),
        });
    }

    /// Writes down what is verified. Storage may still have something to say meanwhile, and nobody else will listen.
    async fn close(mut self) {
        let content = self.around.content.clone();
        let mut closing = tokio::task::spawn_blocking(move || content.close());
        let closed = loop {
            tokio::select! {
                closed = &mut closing => break closed,
                Some(_) = self.events.recv() => {}
            }
        };
        if let Ok(Err(error)) = closed {
            tracing::warn!(%error, "the end of the download was not written down");
        }
        self.show();
        self.snapshot
            .send_modify(|snapshot| snapshot.phase = Phase::Stopped);
    }
}

/// Haves merge into haves that wait, so that the mail of a connection that dawdles is bounded by the number of pieces.
fn absorb(last: &mut ToPeer, message: ToPeer) -> Option<ToPeer> {
    match (last, message) {
        (ToPeer::Have(waiting), ToPeer::Have(pieces)) => {
            waiting.extend(pieces);
            None
        }
        (_, message) => Some(message),
    }
}
