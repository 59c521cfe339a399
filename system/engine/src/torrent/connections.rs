//! A torrent's connections: dialled, accepted, spoken to, gone.
//!
//! Invariant: the session is told of the end of each dial it granted and of each connection, once.

use super::{ToTorrent, TorrentTask};
use crate::connect::{Dial, Ready};
use crate::mailbox::Mailbox;
use crate::peer::{PeerTask, Surroundings};
use shoal_machine::Moment;
use shoal_metainfo::BlockRun;
use shoal_swarm::peer_session::{Negotiated, PeerSession, PeerSettings};
use shoal_swarm::torrent::{Input, Origin};
use shoal_swarm::{CloseReason, FromPeer, PeerKey, Report, ToPeer};
use shoal_wire::allowed_fast_set;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// How many pieces a peer may fetch while choked (BEP 6): enough to have something to give, too few to live on.
const ALLOWED_FAST_PIECES: u32 = 5;

/// How many remotes are remembered to speak in the clear alone: more than a torrent connects to in an hour. The oldest are forgotten
/// first, which costs them a connection in vain.
const MAX_PLAIN_REMOTES: usize = 512;

/// A connection as its torrent sees it.
pub(super) struct Peer {
    mailbox: Mailbox<ToPeer>,
    /// What it last reported, so that totals outlive connections.
    report: Report,
    /// Payload that it said it received. Reports come once a second, this with every batch of blocks: a torrent that is
    /// complete has counted what it fetched.
    received_bytes: u64,
    /// What it calls itself.
    pub(super) client: Option<Arc<str>>,
    /// The connection is disguised.
    pub(super) encrypted: bool,
    /// It is an HTTP origin, of which the session keeps no books.
    web_seed: bool,
}

impl Peer {
    /// An HTTP origin.
    pub(super) fn web_seed(mailbox: Mailbox<ToPeer>) -> Self {
        Peer {
            mailbox,
            report: Report::default(),
            received_bytes: 0,
            client: None,
            encrypted: false,
            web_seed: true,
        }
    }

    pub(super) fn tell(&self, message: ToPeer) {
        self.mailbox.push(message, absorb);
    }
}

/// Remotes that a dial reached in the clear alone: the next one begins with what worked. One that fails is forgotten, so that the one
/// after it begins encrypted again.
#[derive(Debug, Default)]
pub(super) struct PlainRemotes(VecDeque<SocketAddr>);

impl PlainRemotes {
    fn remember(&mut self, address: SocketAddr) {
        if self.0.len() == MAX_PLAIN_REMOTES {
            self.0.pop_front();
        }
        self.0.push_back(address);
    }

    /// Whether it is one of them; it is none any more.
    fn forget(&mut self, address: SocketAddr) -> bool {
        let found = self.0.iter().position(|known| *known == address);
        found.is_some_and(|at| self.0.remove(at).is_some())
    }
}

/// Haves merge into haves that wait, and the last word on whom we are connected to replaces one that waits, so that the mail of a
/// connection that dawdles is bounded by the number of pieces.
fn absorb(last: &mut ToPeer, message: ToPeer) -> Option<ToPeer> {
    match (last, message) {
        (ToPeer::Have(waiting), ToPeer::Have(pieces)) => {
            waiting.extend(pieces);
            None
        }
        (ToPeer::Contacts(waiting), ToPeer::Contacts(contacts)) => {
            *waiting = contacts;
            None
        }
        (_, message) => Some(message),
    }
}

impl TorrentTask {
    /// One message of a connection.
    pub(super) fn hear_peer(&mut self, peer: PeerKey, message: FromPeer) {
        let left = matches!(message, FromPeer::Left(_));
        self.report_early |= matches!(message, FromPeer::Interested(true));
        match &message {
            FromPeer::Report(report) => self.count(peer, *report),
            FromPeer::Received(runs) => self.count_received(peer, runs),
            _ => {}
        }
        self.handle(Input::Peer { peer, message });
        let gone = if left { self.peers.remove(&peer) } else { None };
        match gone {
            Some(gone) if gone.web_seed => {
                self.web_seeds.on_left(peer);
                self.start_web_seeds();
                self.review_sources();
            }
            Some(_) => self.disconnected(),
            None => {}
        }
    }

    /// A connection knows what its remote calls itself.
    pub(super) fn on_client(&mut self, peer: PeerKey, client: Arc<str>) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.client = Some(client);
        }
    }

    /// Counts received blocks, as far as they are not in a report yet.
    fn count_received(&mut self, peer: PeerKey, runs: &[BlockRun]) {
        let blocks = runs.iter().flat_map(|run| run.blocks());
        let bytes: u64 = blocks
            .map(|block| u64::from(self.torrent.layout().block_length(block)))
            .sum();
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.received_bytes += bytes;
            let known = Report {
                downloaded_bytes: peer.received_bytes.max(peer.report.downloaded_bytes),
                ..peer.report
            };
            let last = std::mem::replace(&mut peer.report, known);
            self.kept.counts.downloaded_bytes += known.downloaded_bytes - last.downloaded_bytes;
        }
    }

    /// Counts what moved since a connection's last report.
    fn count(&mut self, peer: PeerKey, report: Report) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            let last = std::mem::replace(&mut peer.report, report);
            self.kept.counts.downloaded_bytes += report
                .downloaded_bytes
                .saturating_sub(last.downloaded_bytes);
            self.kept.counts.uploaded_bytes +=
                report.uploaded_bytes.saturating_sub(last.uploaded_bytes);
        }
    }

    /// Opens a connection; its end is told in any case, unless the torrent stops before.
    pub(super) fn dial(&mut self, peer: PeerKey, address: SocketAddr, origin: Origin, punch: bool) {
        let dial = Dial {
            key: peer,
            address,
            origin,
            encryption: self.parts.environment.encryption,
            known_plain: self.plain.forget(address),
            punch,
        };
        let (us, inbox) = (self.parts.introduction, self.parts.inbox.sender());
        self.dials.begin(&self.parts.environment, us, dial, inbox);
    }

    pub(super) fn dial_ended(&mut self, connected: bool) {
        let torrent = self.parts.id;
        self.up
            .push(shoal_session::Input::DialEnded { torrent, connected });
    }

    pub(super) fn disconnected(&mut self) {
        self.up
            .push(shoal_session::Input::Disconnected(self.parts.id));
    }

    /// A handshake is done: the machine says whether the connection stays.
    pub(super) fn connected(&mut self, ready: Ready) {
        if !self.parts.environment.admission.allows(ready.address.ip()) {
            return self.turned_away(&ready);
        }
        if ready.key.is_some() {
            self.dial_ended(true);
            if !ready.disguised {
                self.plain.remember(ready.address);
            }
        }
        let peer = ready.key.unwrap_or_else(|| self.torrent.next_key());
        let now = self.parts.environment.clock.now();
        let mailbox = Mailbox::new();
        let entry = Peer {
            mailbox: mailbox.clone(),
            report: Report::default(),
            received_bytes: 0,
            client: ready.peer_id.client().map(Arc::from),
            encrypted: ready.disguised,
            web_seed: false,
        };
        self.peers.insert(peer, entry);
        self.handle(Input::Connected {
            peer,
            address: ready.address,
            peer_id: ready.peer_id.0,
            origin: ready.origin,
        });
        // The machine refused it: its socket closes when `ready` is dropped.
        if !self.peers.contains_key(&peer) {
            return self.disconnected();
        }
        if ready.stream.is_utp() {
            self.handle(Input::OverUtp(peer));
        }
        let session = self.peer_session(&ready, now);
        let surroundings = self.surroundings(&ready);
        self.parts.environment.pool.seat().spawn(async move {
            match ready.stream.attach() {
                Ok(stream) => {
                    let carried = *ready.carried;
                    let task = PeerTask::new(peer, stream, session, carried, mailbox, surroundings);
                    task.run().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was lost on its way to its worker");
                    let left = vec![FromPeer::Left(CloseReason::Remote)];
                    let left = ToTorrent::Peer(peer, left);
                    drop(surroundings.torrent.send(left).await);
                }
            }
        });
    }

    /// Its address was forbidden after its handshake had begun. The socket closes when `ready` is dropped.
    fn turned_away(&mut self, ready: &Ready) {
        match ready.key {
            Some(peer) => {
                self.dial_ended(false);
                self.handle(Input::DialFailed { peer });
            }
            None => self.disconnected(),
        }
    }

    fn surroundings(&self, ready: &Ready) -> Surroundings {
        let parts = &self.parts;
        let (us, environment) = (parts.introduction, &parts.environment);
        Surroundings {
            clock: parts.environment.clock,
            storage: parts.environment.storage.clone(),
            layout: Arc::clone(&parts.layout),
            content: parts.on_disk.content.clone(),
            hashes: Arc::clone(&parts.hashes),
            limiter: parts.limiter.clone(),
            torrent: parts.inbox.sender(),
            dht: environment.acquaint(us, ready),
        }
    }

    fn peer_session(&self, ready: &Ready, now: Moment) -> PeerSession {
        let layout = &self.parts.layout;
        let negotiated = Negotiated {
            fast: ready.fast,
            extended: ready.extended,
            v2: ready.v2,
            ours: self.torrent.claims(),
        };
        let ip = ready.address.ip();
        let allowed_fast = if ready.fast {
            let name = self.parts.introduction.hashes.primary();
            allowed_fast_set(ALLOWED_FAST_PIECES, layout.piece_count(), name, ip)
        } else {
            Vec::new()
        };
        let settings = PeerSettings {
            port: self.parts.environment.port.told_to(ip),
            your_ip: Some(ip),
            anonymous: self.parts.environment.anonymous,
            upload_only: self.torrent.claims_upload_only(),
            allowed_fast,
            exchange: self.torrent.exchanges_peers(),
            punches: self.parts.environment.dialer.can_punch(),
            info: self.parts.info.clone(),
            introduced: ready.carried.said.is_some(),
        };
        PeerSession::new(Arc::clone(layout), negotiated, settings, now)
    }
}
