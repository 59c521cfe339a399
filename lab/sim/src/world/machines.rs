//! The machines of a node and what they tell each other.
//!
//! Invariant: the rule of every machine is kept: one input, then all outputs, before the next input. What one machine tells
//! another keeps its order, whatever its delay.

use super::{Event, Work, World};
use crate::disk::{DiskEvent, RIGHT, Stored, Token};
use crate::node::{End, EndId, Mail, Stage, node_at};
use crate::setup::{Behaviour, Choking, NodeId};
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::{Machine, Moment};
use shoal_metainfo::Block;
use shoal_session::{Candidate, PeerId, TorrentKey};
use shoal_swarm::peer_session::{Input, Output};
use shoal_swarm::{CloseReason, FromPeer, ToPeer, torrent};
use shoal_wire::{Message, Request};
use std::collections::VecDeque;

/// Every node has one torrent.
pub(super) const TORRENT: TorrentKey = TorrentKey(1);

/// How often the session hears how peers are ...
const REPORT: Duration = Duration::from_secs(1);
/// ... and how soon when one has become interested.
const REPORT_SOON: Duration = Duration::from_millis(10);

impl World {
    /// One input to a session, all its outputs, and the inputs that are their answers.
    pub(super) fn peer_input(&mut self, end: EndId, input: Input) {
        if self.is_web(end) {
            return self.web_input(end, input);
        }
        let mut inputs = core::mem::take(&mut self.peer_inputs);
        inputs.push_back(input);
        while let Some(input) = inputs.pop_front() {
            let now = self.now;
            let open = |state: &&mut End| state.stage == Stage::Open;
            let state = self.end(end).filter(open);
            let Some(session) = state.and_then(|state| state.session.as_mut()) else {
                break;
            };
            if let Input::Torrent(ToPeer::Lease(runs)) = &input {
                let runs = runs.clone();
                session.handle(now, input);
                self.checks.accepted(end.0, &runs);
            } else {
                session.handle(now, input);
            }
            self.drain_peer(end, &mut inputs);
        }
        inputs.clear();
        self.peer_inputs = inputs;
        self.arm_peer(end);
    }

    /// What a new session has to say at once.
    pub(super) fn start_peer(&mut self, end: EndId) {
        let mut inputs = VecDeque::new();
        self.drain_peer(end, &mut inputs);
        self.arm_peer(end);
    }

    fn drain_peer(&mut self, end: EndId, inputs: &mut VecDeque<Input>) {
        let mut outputs = core::mem::take(&mut self.peer_outputs);
        let Some(state) = self.end(end) else { return };
        let node = state.node;
        while let Some(output) = state.session.as_mut().and_then(Machine::poll) {
            outputs.push(output);
        }
        for output in outputs.drain(..) {
            inputs.extend(self.on_peer_output(end, node, output));
        }
        self.peer_outputs = outputs;
    }

    fn on_peer_output(&mut self, end: EndId, node: NodeId, output: Output) -> Option<Input> {
        match output {
            Output::Send(Message::Suggest(_)) if self.is_libtorrent(node) => None,
            Output::Send(message) => {
                self.check_sent(end, node, &message);
                self.push_message(end, message, RIGHT);
                None
            }
            Output::Store(block) => self.store(end, node, block, self.arriving),
            Output::Discard(_) => {
                self.nodes[node.get()].discarded_blocks += 1;
                None
            }
            Output::Upload(request) => self.upload(end, node, request),
            Output::CancelUpload(request) => {
                let taken = self
                    .end(end)
                    .is_some_and(|state| state.pipe.take_back(request));
                taken.then_some(Input::Uploaded {
                    request,
                    sent: false,
                })
            }
            Output::ServeHashes(request) => Some(Input::HashesServed {
                request,
                hashes: None,
            }),
            Output::Torrent(message) => {
                self.tell_torrent(end, node, message);
                None
            }
            Output::Close(reason) => {
                let now = self.now;
                self.trace
                    .line(now, || format!("end {} closes: {reason:?}", end.0));
                self.check_closing(end, &reason);
                self.on_session_closed(end);
                None
            }
        }
    }

    /// Its seeds suggest nothing, unless they are told to.
    fn is_libtorrent(&self, node: NodeId) -> bool {
        self.nodes[node.get()].config.choking == Choking::Libtorrent
    }

    /// Honest peers keep the protocol and are not silent: nobody closes a connection to one for that.
    fn check_closing(&mut self, end: EndId, reason: &CloseReason) {
        let blames = matches!(reason, CloseReason::Protocol(_) | CloseReason::Idle);
        let remote = self.end(end).map(|state| state.remote);
        let honest = remote.is_some_and(|remote| {
            let behaviour = self.nodes[remote.get()].config.behaviour;
            !matches!(behaviour, Behaviour::StopsMidBlock { .. })
        });
        if blames && honest {
            self.checks
                .violate(&format!("end {} closes for {reason:?}", end.0));
        }
    }

    fn store(&mut self, end: EndId, node: NodeId, block: Block, token: Token) -> Option<Input> {
        if self.end(end).is_some_and(|state| state.stalled) {
            return None;
        }
        match self.store_block(node, block, token) {
            Stored::Kept => Some(Input::BlockStored(block)),
            Stored::Duplicate => Some(Input::BlockKnown(block)),
            Stored::NoRoom => {
                self.nodes[node.get()].disk_queue.push_back(end);
                if let Some(state) = self.end(end) {
                    state.waiting = Some((block, token));
                }
                Some(Input::Backpressure(true))
            }
        }
    }

    fn upload(&mut self, end: EndId, node: NodeId, request: Request) -> Option<Input> {
        if !self.nodes[node.get()].disk.is_readable(self.now) {
            self.nodes[node.get()].unreadable += 1;
            return Some(Input::Uploaded {
                request,
                sent: false,
            });
        }
        self.checks.offers(node, request.piece, "sends a block of");
        let mut token = RIGHT;
        match self.nodes[node.get()].config.behaviour {
            Behaviour::Rejecter => {
                return Some(Input::Uploaded {
                    request,
                    sent: false,
                });
            }
            Behaviour::Liar { permille } if self.network.u32(..1_000) < permille => {
                let liar = &mut self.nodes[node.get()];
                liar.lies += 1;
                token = (node.0 + 1) << 16 | (liar.lies & 0xffff);
            }
            _ => {}
        }
        self.push_message(end, Message::Piece(request), token);
        None
    }

    pub(super) fn tell_torrent(&mut self, end: EndId, node: NodeId, message: FromPeer) {
        match &message {
            FromPeer::Received(runs) | FromPeer::Returned { runs, .. } => {
                self.checks.given_back(end.0, runs);
            }
            FromPeer::Interested(true) => self.report_soon(node),
            _ => {}
        }
        if !self.is_permuted() {
            return self.work.push_back(Work::FromPeer(end, message));
        }
        let after = self
            .end(end)
            .map_or(Moment::ZERO, |state| state.to_torrent.due);
        let due = self.due(after);
        if let Some(state) = self.end(end) {
            state.to_torrent.waiting.push_back(message);
            state.to_torrent.due = due;
            self.queue.push(due, Event::MailToTorrent(end));
        }
    }

    pub(super) fn mail_to_torrent(&mut self, end: EndId) {
        let more = self.delivery.u64(..4);
        for _ in 0..=more {
            let mail = self
                .end(end)
                .and_then(|state| state.to_torrent.waiting.pop_front());
            let Some(message) = mail else { break };
            self.on_from_peer(end, message);
        }
    }

    pub(super) fn on_from_peer(&mut self, end: EndId, message: FromPeer) {
        let Some(state) = self.end(end) else { return };
        let (node, peer) = (state.node, state.key);
        match &message {
            FromPeer::Received(runs) | FromPeer::Returned { runs, .. } => {
                self.checks.came_back(end.0, runs);
            }
            _ => {}
        }
        let left = matches!(message, FromPeer::Left(_));
        let now = self.now;
        self.trace.line(now, || {
            format!("node {} hears of end {} {message:?}", node.0, end.0)
        });
        self.torrent_input(node, torrent::Input::Peer { peer, message });
        if left {
            self.on_gone(end);
        }
    }

    fn tell_peer(&mut self, end: EndId, node: NodeId, message: ToPeer) {
        match &message {
            ToPeer::Lease(runs) => self.checks.leased(end.0, runs),
            ToPeer::Choke(choke) => {
                let most = self.most_unchoked(node);
                self.checks.choked(node, end.0, *choke, most);
            }
            _ => {}
        }
        if !self.is_permuted() {
            return self.on_to_peer(end, message);
        }
        let after = self
            .end(end)
            .map_or(Moment::ZERO, |state| state.to_peer.due);
        let due = self.due(after);
        if let Some(state) = self.end(end) {
            state.to_peer.waiting.push_back(message);
            state.to_peer.due = due;
            self.queue.push(due, Event::MailToPeer(end));
        }
    }

    pub(super) fn mail_to_peer(&mut self, end: EndId) {
        let more = self.delivery.u64(..4);
        for _ in 0..=more {
            let mail = self
                .end(end)
                .and_then(|state| state.to_peer.waiting.pop_front());
            let Some(message) = mail else { break };
            self.on_to_peer(end, message);
            self.drain();
        }
    }

    /// A message of the torrent is at its session: in the queue of what is done next, or lost where the session has ended.
    fn on_to_peer(&mut self, end: EndId, message: ToPeer) {
        self.work
            .push_back(Work::Peer(end, Input::Torrent(message)));
    }

    /// One input to a torrent and all its outputs.
    pub(super) fn torrent_input(&mut self, node: NodeId, input: torrent::Input) {
        let now = self.now;
        let state = &mut self.nodes[node.get()];
        if !state.alive {
            return;
        }
        state.torrent.handle(now, input);
        let mut outputs = core::mem::take(&mut self.torrent_outputs);
        while let Some(output) = self.nodes[node.get()].torrent.poll() {
            outputs.push(output);
        }
        for output in outputs.drain(..) {
            self.on_torrent_output(node, output);
        }
        self.torrent_outputs = outputs;
        self.arm_torrent(node);
    }

    fn on_torrent_output(&mut self, node: NodeId, output: torrent::Output) {
        match output {
            torrent::Output::Peer { peer, message } => {
                let end = self.nodes[node.get()].ends.get(&peer).copied();
                if let Some(end) = end {
                    self.tell_peer(end, node, message);
                }
            }
            torrent::Output::Broadcast(message) => {
                let mut ends = core::mem::take(&mut self.end_scratch);
                ends.extend(self.nodes[node.get()].ends.values());
                for end in ends.drain(..) {
                    self.tell_peer(end, node, message.clone());
                }
                self.end_scratch = ends;
            }
            torrent::Output::Dial {
                peer,
                address,
                punch,
                ..
            } => self.dial(node, peer, address, punch),
            torrent::Output::Refuse { peer, reason } => self.on_refused(node, peer, &reason),
            torrent::Output::WantsDials(count) => {
                let torrent = TORRENT;
                self.tell_session(node, shoal_session::Input::WantsDials { torrent, count });
            }
            torrent::Output::Seen(sighting) => {
                self.tell_session(node, shoal_session::Input::Seen(sighting));
            }
            torrent::Output::WantsCandidates => self.announce_soon(node),
            torrent::Output::Ban(address) => {
                let guilty = node_at(address).map(|id| self.nodes[id.get()].config.behaviour);
                if !matches!(guilty, Some(Behaviour::Liar { .. })) {
                    self.checks.violate(&format!(
                        "node {} bans {address}, which told no lies",
                        node.0
                    ));
                }
                self.nodes[node.get()].bans.push(address);
            }
            torrent::Output::Forget(piece) => {
                if self.nodes[node.get()].disk.forget(piece) {
                    self.checks.gave_up(node, piece);
                }
            }
            torrent::Output::Complete => self.on_complete(node),
        }
    }

    /// How many peers a node may have unchoked.
    pub(super) fn most_unchoked(&self, node: NodeId) -> u32 {
        let by_rank = match self.nodes[node.get()].config.settings.slots {
            shoal_session::Slots::Fixed(count) => count,
            shoal_session::Slots::Automatic => shoal_session::choker::MAX_AUTOMATIC_SLOTS,
        };
        by_rank + (by_rank / shoal_session::session::SLOTS_PER_OPTIMISTIC).max(1)
    }

    pub(super) fn tell_session(&mut self, node: NodeId, input: shoal_session::Input) {
        if !self.is_permuted() {
            return self.work.push_back(Work::Session(node, input));
        }
        let due = self.due(self.nodes[node.get()].to_session.due);
        let state = &mut self.nodes[node.get()];
        post(&mut state.to_session, due, input);
        let event = Event::MailToSession(node, state.epoch);
        self.queue.push(due, event);
    }

    pub(super) fn mail_to_session(&mut self, node: NodeId, epoch: u32) {
        if !self.is_alive(node, epoch) {
            return;
        }
        if let Some(input) = self.nodes[node.get()].to_session.waiting.pop_front() {
            self.session_input(node, input);
        }
    }

    pub(super) fn session_input(&mut self, node: NodeId, input: shoal_session::Input) {
        let now = self.now;
        if !self.nodes[node.get()].alive {
            return;
        }
        self.nodes[node.get()].session.handle(now, input);
        while let Some(output) = self.nodes[node.get()].session.poll() {
            if !self.is_permuted() {
                self.work.push_back(Work::FromSession(node, output));
                continue;
            }
            let due = self.due(self.nodes[node.get()].from_session.due);
            let state = &mut self.nodes[node.get()];
            post(&mut state.from_session, due, output);
            let event = Event::MailFromSession(node, state.epoch);
            self.queue.push(due, event);
        }
        let state = &mut self.nodes[node.get()];
        if let Some(at) = state.session.deadline()
            && state.session_wake.wants(at)
        {
            let event = Event::SessionTick(node, state.epoch);
            self.queue.push(at.max(now), event);
        }
    }

    pub(super) fn mail_from_session(&mut self, node: NodeId, epoch: u32) {
        if !self.is_alive(node, epoch) {
            return;
        }
        if let Some(output) = self.nodes[node.get()].from_session.waiting.pop_front() {
            self.on_session_output(node, output);
        }
    }

    pub(super) fn on_session_output(&mut self, node: NodeId, output: shoal_session::Output) {
        let input = match output {
            shoal_session::Output::GrantDials { count, .. } => torrent::Input::DialGranted(count),
            shoal_session::Output::Shed { count, .. } => torrent::Input::Shed(count),
            shoal_session::Output::OurAddress(ip) => {
                let port = crate::node::PORT;
                torrent::Input::OurAddress(SocketAddr::new(ip, port))
            }
            shoal_session::Output::Unchoked { peers, .. } => {
                match self.nodes[node.get()].config.behaviour {
                    // These decide for themselves.
                    Behaviour::FreeRider | Behaviour::Flapper { .. } => return,
                    _ => torrent::Input::Unchoked(peers),
                }
            }
        };
        self.torrent_input(node, input);
        let most = self.most_unchoked(node);
        self.checks.slots_kept(node, most);
    }

    pub(super) fn on_flap(&mut self, node: NodeId, epoch: u32) {
        let Behaviour::Flapper { period } = self.nodes[node.get()].config.behaviour else {
            return;
        };
        if !self.is_alive(node, epoch) {
            return;
        }
        let state = &mut self.nodes[node.get()];
        state.flap_open = !state.flap_open;
        let peers = match state.flap_open {
            true => state.ends.keys().copied().take(4).collect(),
            false => Vec::new(),
        };
        self.torrent_input(node, torrent::Input::Unchoked(peers));
        self.queue.push(self.now + period, Event::Flap(node, epoch));
    }

    /// The session hears how peers are before long, because one wants something.
    fn report_soon(&mut self, node: NodeId) {
        self.arm_report(node, self.now + REPORT_SOON);
    }

    pub(super) fn arm_report(&mut self, node: NodeId, at: Moment) {
        let state = &mut self.nodes[node.get()];
        if state.report_wake.is_none_or(|wake| at < wake) {
            state.report_wake = Some(at);
            let event = Event::Report(node, state.epoch);
            self.queue.push(at, event);
        }
    }

    pub(super) fn on_report(&mut self, node: NodeId, epoch: u32) {
        let now = self.now;
        if !self.is_alive(node, epoch) || self.nodes[node.get()].report_wake != Some(now) {
            return;
        }
        let state = &mut self.nodes[node.get()];
        state.report_wake = None;
        self.arm_report(node, now + REPORT);
        let state = &mut self.nodes[node.get()];
        let seeding = state.torrent.is_complete();
        if state.config.choking == Choking::Libtorrent {
            let peers: Vec<_> = state.torrent.choke_candidates().collect();
            let piece_length = self.layout.piece_length();
            let unchoked = (state.libtorrent).peers(now, seeding, piece_length, &peers);
            if let Some(unchoked) = unchoked {
                self.torrent_input(node, torrent::Input::Unchoked(unchoked));
            }
            return;
        }
        let pieces = u64::from(self.layout.piece_count().max(1));
        let candidates = state.torrent.choke_candidates().map(|peer| Candidate {
            id: PeerId {
                torrent: TORRENT,
                peer: peer.key,
            },
            interested: peer.interested,
            seeding,
            snubbed: peer.report.snubbed,
            download_rate: peer.report.download_rate,
            upload_rate: peer.report.upload_rate,
            uploaded_bytes: peer.report.uploaded_bytes,
            downloaded_bytes: peer.report.downloaded_bytes,
            has_permille: u16::try_from(u64::from(peer.has_pieces) * 1_000 / pieces)
                .unwrap_or(1_000),
            joined: peer.since,
        });
        let peers = candidates.collect();
        let torrent = TORRENT;
        self.tell_session(node, shoal_session::Input::Peers { torrent, peers });
    }

    /// Asks to be called when the session's next deadline has come.
    pub(super) fn arm_peer(&mut self, end: EndId) {
        let now = self.now;
        let Some(state) = self.end(end) else { return };
        let deadline = state.deadline();
        if let Some(at) = deadline
            && state.wake.wants(at)
        {
            self.queue.push(at.max(now), Event::PeerTick(end));
        }
    }

    pub(super) fn on_peer_tick(&mut self, end: EndId) {
        let now = self.now;
        let Some(state) = self.end(end) else { return };
        if !state.wake.came(now) {
            return;
        }
        let deadline = state.deadline();
        match deadline {
            Some(at) if at <= now => self.peer_input(end, Input::Tick),
            _ => self.arm_peer(end),
        }
    }

    pub(super) fn arm_torrent(&mut self, node: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[node.get()];
        if let Some(at) = state.torrent.deadline()
            && state.torrent_wake.wants(at)
        {
            let event = Event::TorrentTick(node, state.epoch);
            self.queue.push(at.max(now), event);
        }
    }

    pub(super) fn on_torrent_tick(&mut self, node: NodeId, epoch: u32) {
        let now = self.now;
        if !self.is_alive(node, epoch) {
            return;
        }
        let state = &mut self.nodes[node.get()];
        if !state.torrent_wake.came(now) {
            return;
        }
        match state.torrent.deadline() {
            Some(at) if at <= now => self.torrent_input(node, torrent::Input::Tick),
            _ => self.arm_torrent(node),
        }
    }

    pub(super) fn on_session_tick(&mut self, node: NodeId, epoch: u32) {
        let now = self.now;
        if !self.is_alive(node, epoch) {
            return;
        }
        let state = &mut self.nodes[node.get()];
        if !state.session_wake.came(now) {
            return;
        }
        self.session_input(node, shoal_session::Input::Tick);
    }

    pub(super) fn tell_of_disk(&mut self, node: NodeId, event: DiskEvent) {
        if !self.is_permuted() {
            return self.work.push_back(Work::FromDisk(node, event));
        }
        let due = self.due(self.nodes[node.get()].from_disk.due);
        let state = &mut self.nodes[node.get()];
        post(&mut state.from_disk, due, event);
        let event = Event::MailFromDisk(node, state.epoch);
        self.queue.push(due, event);
    }
}

fn post<T>(mail: &mut Mail<T>, due: Moment, message: T) {
    mail.waiting.push_back(message);
    mail.due = due;
}
