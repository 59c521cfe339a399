//! Connections: dialled, accepted, refused, closed, broken.
//!
//! Invariant: an end is freed when both sides are done with the connection, and its number is never used again.

use super::machines::TORRENT;
use super::{Event, Work, World};
use crate::link::Pipe;
use crate::node::{End, EndId, Mail, Stage, Wake, address_of, node_at, peer_id_of};
use crate::setup::NodeId;
use core::net::SocketAddr;
use core::time::Duration;
use shoal_session::Input as SessionInput;
use shoal_swarm::peer_session::{Input, Negotiated, PeerSession, PeerSettings};
use shoal_swarm::torrent::{self, Origin};
use shoal_swarm::{CloseReason, PeerKey};
use std::sync::Arc;

/// How long a dial waits for somebody who does not answer.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node dials one that dials it (BEP 55), and how often it tries.
const PUNCH: Duration = Duration::from_secs(5);
const PUNCH_AGAIN: Duration = Duration::from_secs(1);

/// Ports from which nodes dial.
const FIRST_DIAL_PORT: u16 = 40_000;
const DIAL_PORTS: u32 = 20_000;

impl World {
    fn latency(&self, a: NodeId, b: NodeId) -> Duration {
        self.nodes[a.get()].config.latency + self.nodes[b.get()].config.latency
    }

    pub(super) fn new_end(
        &self,
        node: NodeId,
        remote: NodeId,
        key: PeerKey,
        origin: Origin,
    ) -> End {
        let rate = self.nodes[node.get()].config.up_bytes_per_s;
        let rate = rate.min(self.nodes[remote.get()].config.down_bytes_per_s);
        End {
            node,
            remote,
            key,
            origin,
            stage: Stage::Opening,
            session: None,
            web: None,
            pipe: Pipe::new(self.latency(node, remote), rate),
            punch_until: None,
            refused: false,
            waiting: None,
            stalled: false,
            blocks: 0,
            wake: Wake::default(),
            to_torrent: Mail::new(),
            to_peer: Mail::new(),
        }
    }

    pub(super) fn dial(&mut self, node: NodeId, key: PeerKey, address: SocketAddr, punch: bool) {
        let known = node_at(address.ip()).filter(|id| id.get() < self.nodes.len());
        let state = &mut self.nodes[node.get()];
        let most = state.config.settings.max_half_open;
        let allowed = state
            .config
            .isolated
            .as_ref()
            .is_none_or(|only| known.is_some_and(|id| only.contains(&id)));
        let origin = match state.config.isolated {
            Some(_) => Origin::User,
            None => Origin::Tracker,
        };
        if !allowed {
            self.checks
                .violate(&format!("isolated node {} dials {address}", node.0));
        }
        let adrift = self.nodes[node.get()].adrift;
        self.nodes[node.get()].dials_adrift += u32::from(adrift);
        let allowed = !adrift && known.is_none_or(|other| self.deals_with(node, other));
        if let Some(other) = known.filter(|_| allowed) {
            self.checks.speaks(node, other, "dials");
        }
        self.checks.dialled(node, most);
        let end =
            EndId(u32::try_from(self.ends.len()).expect("a run has fewer connections than 2^32"));
        self.nodes[node.get()].dialling.insert(key, end);
        let remote = known.unwrap_or(node);
        let mut state = self.new_end(node, remote, key, origin);
        state.punch_until = punch.then_some(self.now + PUNCH);
        let latency = state.pipe.latency;
        self.ends.push(Some(Box::new(state)));
        self.ends.push(None);
        let target = &self.nodes[remote.get()];
        let let_in = punch || !target.config.nat;
        let reachable = let_in && !target.adrift && target.part == self.nodes[node.get()].part;
        let (wait, event) = match (target.alive, reachable) {
            // Nothing is sent.
            _ if !allowed => (Duration::ZERO, Event::DialFails(end)),
            (true, true) => (3 * latency, Event::Reaches(end)),
            (false, true) => (2 * latency, Event::DialFails(end)),
            (_, false) => (DIAL_TIMEOUT, Event::DialFails(end)),
        };
        self.queue.push(self.now + wait, event);
    }

    /// Whether the router of `node`, if it has one, lets in what `from` sends: an answer to what `node` sends it, as any dial tries uTP.
    fn is_let_in(&self, from: NodeId, node: NodeId) -> bool {
        let target = &self.nodes[node.get()];
        let sends = |end: &EndId| {
            let end = self.ends[end.get()].as_ref();
            end.is_some_and(|end| end.remote == from)
        };
        !target.config.nat || target.dialling.values().any(sends)
    }

    /// The dialler's handshake is there: is it taken?
    pub(super) fn on_reaches(&mut self, dialled: EndId) {
        let Some(state) = self.end(dialled) else {
            return;
        };
        let (from, node, latency) = (state.node, state.remote, state.pipe.latency);
        let until = state.punch_until;
        if self.nodes[node.get()].adrift {
            let given_up = self.now + DIAL_TIMEOUT;
            return self.queue.push(given_up, Event::DialFails(dialled));
        }
        if !self.is_let_in(from, node) {
            let again = self.now + PUNCH_AGAIN;
            let event = match until.is_some_and(|until| again < until) {
                true => Event::Reaches(dialled),
                false => Event::DialFails(dialled),
            };
            return self.queue.push(again, event);
        }
        let target = &self.nodes[node.get()];
        let open = target.alive
            && target.part == self.nodes[from.get()].part
            && self.deals_with(node, from)
            && target.session.admits(TORRENT);
        if !open || !self.accept(dialled.other(), node, from) {
            self.queue
                .push(self.now + latency, Event::DialFails(dialled));
        }
    }

    fn accept(&mut self, end: EndId, node: NodeId, from: NodeId) -> bool {
        self.session_input(node, SessionInput::Accepted(TORRENT));
        let key = self.nodes[node.get()].torrent.next_key();
        let state = self.new_end(node, from, key, Origin::Incoming);
        self.ends[end.get()] = Some(Box::new(state));
        let port = u16::try_from(end.0 % DIAL_PORTS).unwrap_or(0);
        let address = SocketAddr::new(address_of(from).ip(), FIRST_DIAL_PORT + port);
        if !self.connect(end, address) {
            self.ends[end.get()] = None;
            return false;
        }
        self.push_handshake(end);
        self.start_session(end);
        true
    }

    /// Announces a connection to the torrent; false where it refuses.
    fn connect(&mut self, end: EndId, address: SocketAddr) -> bool {
        let Some(state) = self.end(end) else {
            return false;
        };
        let (node, remote, peer, origin) = (state.node, state.remote, state.key, state.origin);
        self.nodes[node.get()].ends.insert(peer, end);
        let settings = &self.nodes[node.get()].config.settings;
        let most = settings
            .max_connections
            .min(settings.max_connections_per_torrent);
        self.checks.connected(node, most);
        let peer_id = peer_id_of(remote, self.nodes[remote.get()].epoch);
        self.trace.note(
            self.now,
            [2 << 40 | u64::from(node.0), u64::from(remote.0), peer.0],
        );
        self.torrent_input(
            node,
            torrent::Input::Connected {
                peer,
                address,
                peer_id,
                origin,
            },
        );
        let refused = self.end(end).is_none_or(|state| state.refused);
        if refused {
            self.nodes[node.get()].ends.remove(&peer);
            self.checks.disconnected(node, end.0);
            self.tell_session(node, SessionInput::Disconnected(TORRENT));
        }
        !refused
    }

    pub(super) fn on_refused(&mut self, node: NodeId, peer: PeerKey, reason: &CloseReason) {
        let now = self.now;
        self.trace.line(now, || {
            format!("node {} refuses {peer:?}: {reason:?}", node.0)
        });
        let end = self.nodes[node.get()].ends.get(&peer).copied();
        if let Some(state) = end.and_then(|end| self.end(end)) {
            state.refused = true;
        }
    }

    /// The other side's handshake is at the one that dialled.
    pub(super) fn on_handshake(&mut self, end: EndId) {
        let Some(state) = self.end(end).filter(|state| state.stage == Stage::Opening) else {
            return;
        };
        let (node, remote, key) = (state.node, state.remote, state.key);
        let latency = state.pipe.latency;
        if !self.deals_with(node, remote) {
            self.queue
                .push(self.now + latency, Event::Breaks(end.other()));
            return self.on_dial_fails(end);
        }
        self.nodes[node.get()].dialling.remove(&key);
        self.checks.dial_ended(node);
        let ended = SessionInput::DialEnded {
            torrent: TORRENT,
            connected: true,
        };
        self.tell_session(node, ended);
        if self.connect(end, address_of(remote)) {
            self.start_session(end);
        } else {
            self.push_fin(end);
            self.finish_end(end);
        }
    }

    fn start_session(&mut self, end: EndId) {
        let (layout, now) = (Arc::clone(&self.layout), self.now);
        let exchange = self.setup.word_of_mouth;
        let Some(state) = self.end(end) else { return };
        let (node, remote) = (state.node, state.remote);
        let torrent = &self.nodes[node.get()].torrent;
        let (ours, upload_only) = (torrent.claims(), torrent.claims_upload_only());
        let negotiated = Negotiated {
            fast: true,
            extended: true,
            v2: false,
            ours,
        };
        // What nobody needs is not said, as it would take its time on the links.
        let known = |id| exchange.then(|| address_of(id));
        let settings = PeerSettings {
            upload_only,
            port: known(node).map(|address| address.port()),
            your_ip: known(remote).map(|address| address.ip()),
            exchange,
            punches: exchange,
            ..PeerSettings::default()
        };
        if let Some(state) = self.end(end) {
            state.session = Some(PeerSession::new(layout, negotiated, settings, now));
            state.stage = Stage::Open;
        }
        self.start_peer(end);
    }

    pub(super) fn on_dial_fails(&mut self, end: EndId) {
        let Some(state) = self.end(end).filter(|state| state.stage == Stage::Opening) else {
            return;
        };
        let (node, peer) = (state.node, state.key);
        self.ends[end.get()] = None;
        self.nodes[node.get()].dialling.remove(&peer);
        self.checks.dial_ended(node);
        let ended = SessionInput::DialEnded {
            torrent: TORRENT,
            connected: false,
        };
        self.tell_session(node, ended);
        self.torrent_input(node, torrent::Input::DialFailed { peer });
    }

    pub(super) fn on_fin(&mut self, end: EndId) {
        self.work.push_back(Work::Peer(end, Input::Disconnected));
    }

    /// A session has closed its connection.
    pub(super) fn on_session_closed(&mut self, end: EndId) {
        if let Some(state) = self.end(end) {
            state.stage = Stage::Closed;
            state.waiting = None;
            state.stalled = false;
            // What is still on its way to us is read and forgotten, up to the end of the stream.
            self.work.push_back(Work::Read(end));
        }
        self.checks.ended(end.0);
        self.push_fin(end);
    }

    /// A torrent knows that a connection is over.
    pub(super) fn on_gone(&mut self, end: EndId) {
        if self.is_web(end) {
            return self.on_web_gone(end);
        }
        let Some(state) = self.end(end) else { return };
        let (node, key) = (state.node, state.key);
        self.nodes[node.get()].ends.remove(&key);
        self.nodes[node.get()].lost_connections += 1;
        self.checks.disconnected(node, end.0);
        self.tell_session(node, SessionInput::Disconnected(TORRENT));
        self.finish_end(end);
    }

    fn finish_end(&mut self, end: EndId) {
        if let Some(state) = self.end(end) {
            state.stage = Stage::Gone;
        }
        let other = self.end(end.other()).map(|state| state.stage);
        if matches!(other, None | Some(Stage::Gone)) {
            self.ends[end.get()] = None;
            self.ends[end.other().get()] = None;
        }
    }

    /// A connection breaks, on both sides at once. What was on its way is lost.
    pub(super) fn break_connection(&mut self, end: EndId) {
        // An origin is asked again over another one.
        if self.is_web(end) || self.is_web(end.other()) {
            return;
        }
        for side in [end, end.other()] {
            if let Some(state) = self.end(side) {
                state.stalled = true;
                self.queue.push(self.now, Event::Breaks(side));
            }
        }
    }

    pub(super) fn on_breaks(&mut self, end: EndId) {
        let Some(state) = self.end(end) else { return };
        state.stalled = true;
        match state.stage {
            Stage::Opening => self.on_dial_fails(end),
            Stage::Open => self.peer_input(end, Input::Disconnected),
            Stage::Closed | Stage::Gone => {}
        }
    }

    /// All connections of a node end without a word; the others notice when packets are answered by nobody.
    pub(super) fn vanish(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.get()];
        let ends = core::mem::take(&mut state.ends);
        let dialling = core::mem::take(&mut state.dialling);
        for &end in ends.values().chain(dialling.values()) {
            let latency = self
                .end(end)
                .map_or(Duration::ZERO, |state| state.pipe.latency);
            self.ends[end.get()] = None;
            self.checks.forgets(end.0);
            self.queue
                .push(self.now + latency, Event::Breaks(end.other()));
        }
        // Ends whose torrent had forgotten them already: what they had still to say, the end of the stream last, leaves no more.
        for id in (0..).map(EndId).take(self.ends.len()) {
            let Some(end) = self.end(id).filter(|end| end.node == node) else {
                continue;
            };
            let latency = end.pipe.latency;
            self.ends[id.get()] = None;
            self.queue
                .push(self.now + latency, Event::Breaks(id.other()));
        }
    }

    /// Ends all connections across the border of a part.
    pub(super) fn part(&mut self, node: NodeId, part: u8) {
        self.nodes[node.get()].part = part;
        let ends: Vec<EndId> = self.nodes[node.get()].ends.values().copied().collect();
        for end in ends {
            let remote = self.end(end).map(|state| state.remote);
            if remote.is_some_and(|remote| self.nodes[remote.get()].part != part) {
                self.break_connection(end);
            }
        }
    }

    pub(super) fn drop_connections(&mut self, node: NodeId) {
        let ends: Vec<EndId> = self.nodes[node.get()].ends.values().copied().collect();
        ends.into_iter().for_each(|end| self.break_connection(end));
    }
}
