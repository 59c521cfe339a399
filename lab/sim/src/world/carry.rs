//! Messages over the network: into a pipe, up a link, down a link, out of the pipe.
//!
//! Invariant: what enters a pipe leaves it once and in order, or the connection breaks.

use super::{Event, Work, World};
use crate::disk::{RIGHT, Token};
use crate::link::{Item, SMALL_BYTES, Segment, Wire, packed, wire_length};
use crate::node::{EndId, Stage};
use crate::setup::{Behaviour, NodeId};
use shoal_swarm::{Has, peer_session};
use shoal_wire::{Message, Request};

/// Bytes of the handshake of BEP 3.
const HANDSHAKE_BYTES: u32 = 68;

impl World {
    pub(super) fn push_handshake(&mut self, end: EndId) {
        let item = Item {
            wire: Wire::Handshake,
            bytes: HANDSHAKE_BYTES,
            token: RIGHT,
        };
        self.push_item(end, item);
    }

    pub(super) fn push_message(&mut self, end: EndId, message: Message, token: Token) {
        if let Some(state) = self.end(end) {
            let (node, remote) = (state.node, state.remote);
            self.checks.speaks(node, remote, "says something to");
        }
        let bytes = wire_length(&message, &mut self.scratch);
        let wire = Wire::Message(message);
        self.push_item(end, Item { wire, bytes, token });
    }

    pub(super) fn push_fin(&mut self, end: EndId) {
        if let Some(state) = self.end(end) {
            state.pipe.cut();
        }
        let item = Item {
            wire: Wire::Fin,
            bytes: 0,
            token: RIGHT,
        };
        self.push_item(end, item);
    }

    pub(super) fn push_item(&mut self, end: EndId, item: Item) {
        if let Some(state) = self.end(end) {
            state.pipe.push(item);
            self.offer_round(end);
        }
    }

    /// Puts a pipe that has something to send into its uplink's round.
    pub(super) fn offer_round(&mut self, end: EndId) {
        let Some(state) = self.end(end) else { return };
        if state.pipe.in_round || !state.pipe.has_waiting() {
            return;
        }
        state.pipe.in_round = true;
        let node = state.node;
        self.nodes[node.get()].round.push_back(end);
        self.fill_uplink(node);
    }

    /// Where an uplink is idle, takes the next of its round: a burst, or small messages of several pipes.
    fn fill_uplink(&mut self, node: NodeId) {
        if !self.nodes[node.get()].leaving.is_empty() {
            return;
        }
        let burst = self.nodes[node.get()].up.burst_bytes();
        let mut bytes = 0;
        while bytes < burst {
            let Some(end) = self.nodes[node.get()].round.pop_front() else {
                break;
            };
            let now = self.now;
            let Some(state) = self.end(end) else { continue };
            state.pipe.in_round = false;
            let Some(segment) = state.pipe.next_segment(now, burst) else {
                continue;
            };
            if state.pipe.has_waiting() {
                state.pipe.in_round = true;
                self.nodes[node.get()].round.push_back(end);
            }
            bytes += packed(u64::from(segment.bytes));
            self.nodes[node.get()].leaving.push((end, segment));
        }
        let state = &mut self.nodes[node.get()];
        if !state.leaving.is_empty() {
            let left = state.up.occupy(self.now, bytes);
            self.queue.push(left, Event::Left(node, state.epoch));
        }
    }

    pub(super) fn on_left_uplink(&mut self, node: NodeId, epoch: u32) {
        if self.nodes[node.get()].epoch != epoch {
            return;
        }
        let mut leaving = core::mem::take(&mut self.nodes[node.get()].leaving);
        for (end, segment) in leaving.drain(..) {
            self.leave(end, segment);
        }
        self.nodes[node.get()].leaving = leaving;
        self.fill_uplink(node);
    }

    fn leave(&mut self, end: EndId, segment: Segment) {
        let permille = self.setup.loss_permille;
        let lost = permille > 0 && self.network.u32(..1_000) < permille;
        let now = self.now;
        let Some(state) = self.end(end) else { return };
        let at = state.pipe.arrival(now, lost);
        let (node, open) = (state.node, state.stage == Stage::Open);
        let mut sent_bytes = 0;
        let Some(state) = self.ends[end.get()].as_deref() else {
            return;
        };
        for request in state.pipe.blocks_of(segment) {
            sent_bytes += u64::from(request.length);
            if open {
                let sent = peer_session::Input::Uploaded {
                    request,
                    sent: true,
                };
                self.work.push_back(Work::Peer(end, sent));
            }
        }
        self.nodes[node.get()].sent_bytes += sent_bytes;
        self.queue.push(at, Event::Arrives(end, segment));
    }

    /// `end` is the sender's.
    pub(super) fn on_arrives(&mut self, end: EndId, segment: Segment) {
        let receiver = match self.end(end.other()) {
            Some(other) => other.node,
            None => return,
        };
        let bytes = packed(u64::from(segment.bytes));
        let down = &mut self.nodes[receiver.get()].down;
        let through = if bytes <= SMALL_BYTES {
            down.squeeze(self.now, bytes)
        } else {
            down.occupy(self.now, bytes)
        };
        let Some(state) = self.end(end) else { return };
        let at = state.pipe.delivery(through);
        // A segment that nothing holds up takes microseconds, which nobody would notice.
        if bytes <= SMALL_BYTES && at == through {
            return self.on_delivered(end, segment);
        }
        self.queue.push(at, Event::Delivered(end, segment));
    }

    pub(super) fn on_delivered(&mut self, end: EndId, segment: Segment) {
        if let Some(state) = self.end(end) {
            state.pipe.delivered(segment);
            self.read(end.other());
        }
    }

    /// Reads what arrived at `end`, as long as somebody takes it.
    pub(super) fn read(&mut self, end: EndId) {
        loop {
            let takes = self
                .end(end)
                .is_some_and(|state| state.waiting.is_none() && !state.stalled);
            let now = self.now;
            let Some(sender) = self.end(end.other()).filter(|_| takes) else {
                return;
            };
            let Some((item, heard)) = sender.pipe.read(now) else {
                return;
            };
            if let Some(heard) = heard {
                self.queue.push(heard, Event::Opens(end.other()));
            }
            match item.wire {
                Wire::Handshake => self.on_handshake(end),
                Wire::Get(fetch, runs) => self.on_get(end, fetch, &runs),
                Wire::Body { fetch, block, last } => {
                    self.on_body(end, fetch, block, last, item.token);
                }
                Wire::Fin => self.on_fin(end),
                Wire::Message(message) => self.on_message(end, message, item.token),
            }
        }
    }

    fn on_message(&mut self, end: EndId, message: Message, token: Token) {
        if self.end(end).is_none_or(|state| state.stage != Stage::Open) {
            return;
        }
        self.messages += 1;
        let (kind, detail) = summary(&message);
        self.trace.note(self.now, [u64::from(end.0), kind, detail]);
        let now = self.now;
        self.trace
            .line(now, || format!("end {} reads {message:?} [{token}]", end.0));
        if matches!(message, Message::Piece(_) | Message::Reject(_)) {
            self.checks.requested(end.0, false);
        }
        let breaks = self.setup.drop_after_message == Some(self.messages);
        if let Message::Piece(header) = message {
            self.count_block(end, header);
        }
        self.arriving = token;
        self.peer_input(end, peer_session::Input::Message(message));
        if breaks {
            self.break_connection(end);
        }
    }

    fn count_block(&mut self, end: EndId, header: Request) {
        let Some(sender) = self.end(end.other()).map(|other| other.node) else {
            return;
        };
        let behaviour = self.nodes[sender.get()].config.behaviour;
        let Some(state) = self.end(end) else { return };
        state.blocks += 1;
        if let Behaviour::StopsMidBlock { after } = behaviour {
            state.stalled = state.blocks > after;
        }
        let node = state.node;
        self.nodes[node.get()].received_bytes += u64::from(header.length);
    }

    /// What a session sends passes the checks of what may be said.
    pub(super) fn check_sent(&mut self, end: EndId, node: NodeId, message: &Message) {
        match message {
            Message::Have(piece) => self.checks.offers(node, *piece, "announces"),
            Message::Request(_) => self.checks.requested(end.0, true),
            Message::Cancel(_) => self.checks.requested(end.0, false),
            Message::HaveAll => self.check_statement(node, &Has::All),
            Message::Bitfield(bytes) => {
                let field = shoal_metainfo::Bitfield::from_wire(bytes, self.layout.piece_count());
                let sound = field.map(|field| self.check_statement(node, &Has::Some(field)));
                if sound.is_none() {
                    self.checks
                        .violate(&format!("node {} sends what is no bitfield", node.0));
                }
            }
            _ => {}
        }
    }

    fn check_statement(&mut self, node: NodeId, has: &Has) {
        let holds = self.checks.holds(node);
        let is_true = match has {
            Has::All => holds.is_full(),
            Has::None => true,
            Has::Some(field) => !field.exceeds(holds),
        };
        if !is_true {
            self.checks
                .violate(&format!("node {} says that it has what it has not", node.0));
        }
    }
}

/// A message as two numbers.
fn summary(message: &Message) -> (u64, u64) {
    let request = |request: &Request| u64::from(request.piece.0) << 32 | u64::from(request.begin);
    match message {
        Message::KeepAlive => (1, 0),
        Message::Choke => (2, 0),
        Message::Unchoke => (3, 0),
        Message::Interested => (4, 0),
        Message::NotInterested => (5, 0),
        Message::Have(piece) => (6, u64::from(piece.0)),
        Message::Bitfield(bytes) => {
            let pieces = bytes.iter().map(|byte| u64::from(byte.count_ones()));
            (7, pieces.sum())
        }
        Message::Request(what) => (8, request(what)),
        Message::Piece(what) => (9, request(what)),
        Message::Cancel(what) => (10, request(what)),
        Message::Reject(what) => (11, request(what)),
        Message::HaveAll => (12, 0),
        Message::HaveNone => (13, 0),
        Message::Suggest(piece) => (14, u64::from(piece.0)),
        Message::AllowedFast(piece) => (15, u64::from(piece.0)),
        Message::DontHave(piece) => (16, u64::from(piece.0)),
        Message::ExtendedHandshake(handshake) => (17, u64::from(handshake.upload_only)),
        Message::Port(port) => (18, u64::from(*port)),
        Message::Extended { id, .. } => (19, u64::from(*id)),
        Message::HashRequest(_) | Message::Hashes(_) | Message::HashReject(_) => (20, 0),
        Message::PeerExchange(exchange) => {
            let count = exchange.added.len() + exchange.dropped.len();
            (22, count as u64)
        }
        Message::Unknown(id) => (21, u64::from(*id)),
        Message::Metadata(_) => (22, 0),
        Message::HolePunch(_) => (23, 0),
    }
}
