//! HTTP origins: nodes that speak to nobody, answer requests for ranges, and are asked by every node that takes part.
//!
//! A node has one connection to an origin, over which its fetches are answered one after the other; a fetch that is given up
//! takes what has not left with it.
//!
//! Invariant: an origin's bytes leave its uplink as any others do.

use super::{Work, World};
use crate::disk::{RIGHT, Stored, Token};
use crate::link::{Item, Pipe, Wire};
use crate::node::{EndId, Stage};
use crate::setup::{Behaviour, NodeId};
use shoal_machine::Machine;
use shoal_metainfo::Block;
use shoal_swarm::torrent::{self, Origin};
use shoal_swarm::web_session::{
    Fetch, FetchId, FileKind, Form, Input, Output, WebConfig, WebFile, WebSession,
};
use shoal_swarm::{PeerKey, ToPeer, WebSeedIndex, peer_session};
use std::sync::Arc;

/// Bytes of the head of a request or a reply.
const HEAD_BYTES: u32 = 300;

impl World {
    /// A node that has arrived knows all origins.
    pub(super) fn ask_origins(&mut self, node: NodeId) {
        for at in 0..self.nodes.len() {
            let is_origin = matches!(self.nodes[at].config.behaviour, Behaviour::Origin { .. });
            if let Some(origin) = u32::try_from(at).ok().filter(|_| is_origin) {
                self.ask_origin(node, NodeId(origin));
            }
        }
    }

    fn ask_origin(&mut self, node: NodeId, origin: NodeId) {
        let peer = self.nodes[node.get()].torrent.next_key();
        let end =
            EndId(u32::try_from(self.ends.len()).expect("a run has fewer connections than 2^32"));
        let range = 0..self.layout.total_length();
        let kind = FileKind::Content;
        let config = WebConfig {
            layout: Arc::clone(&self.layout),
            files: Arc::from([WebFile { range, kind }]),
            form: Form::Files,
            seed: self.network.u64(..),
        };
        let mut ours = self.new_end(node, origin, peer, Origin::User);
        ours.web = Some(WebSession::new(config, self.now));
        ours.stage = Stage::Open;
        let mut theirs = self.new_end(origin, node, PeerKey(0), Origin::Incoming);
        theirs.stage = Stage::Open;
        self.ends.push(Some(Box::new(ours)));
        self.ends.push(Some(Box::new(theirs)));
        self.nodes[node.get()].ends.insert(peer, end);
        let seed = WebSeedIndex(origin.0);
        self.torrent_input(node, torrent::Input::WebSeed { peer, seed });
        self.drain_web(end);
        self.arm_peer(end);
    }

    pub(super) fn is_web(&self, end: EndId) -> bool {
        let state = self.ends.get(end.get()).and_then(Option::as_deref);
        state.is_some_and(|state| state.web.is_some())
    }

    /// What others say to a session, to one of an origin.
    pub(super) fn web_input(&mut self, end: EndId, input: peer_session::Input) {
        let input = match input {
            peer_session::Input::Torrent(message) => {
                if let ToPeer::Lease(runs) = &message {
                    self.checks.accepted(end.0, runs);
                }
                Input::Torrent(message)
            }
            peer_session::Input::BlockStored(block) => Input::BlockStored(block),
            peer_session::Input::BlockKnown(block) => Input::BlockKnown(block),
            peer_session::Input::Tick => Input::Tick,
            // Of these an origin knows nothing.
            _ => return,
        };
        self.handle_web(end, input);
    }

    fn handle_web(&mut self, end: EndId, input: Input) {
        let now = self.now;
        let open = self.end(end).filter(|state| state.stage == Stage::Open);
        if let Some(session) = open.and_then(|state| state.web.as_mut()) {
            session.handle(now, input);
            self.drain_web(end);
            self.arm_peer(end);
        }
    }

    fn drain_web(&mut self, end: EndId) {
        loop {
            let Some(state) = self.end(end) else { return };
            let node = state.node;
            let Some(output) = state.web.as_mut().and_then(Machine::poll) else {
                return;
            };
            match output {
                Output::Fetch(fetch) => self.push_get(end, fetch),
                Output::Cancel(fetch) => {
                    if let Some(theirs) = self.end(end.other()) {
                        theirs.pipe.give_up(fetch);
                    }
                }
                Output::Store(block) => self.store_web(end, node, block),
                Output::Discard(_) => self.nodes[node.get()].discarded_blocks += 1,
                Output::Torrent(message) => self.tell_torrent(end, node, message),
                Output::Close(_) => {
                    self.checks.ended(end.0);
                    if let Some(state) = self.end(end) {
                        state.stage = Stage::Closed;
                    }
                }
            }
        }
    }

    fn store_web(&mut self, end: EndId, node: NodeId, block: Block) {
        let token = self.arriving;
        match self.store_block(node, block, token) {
            Stored::Kept => {
                let stored = peer_session::Input::BlockStored(block);
                self.work.push_back(Work::Peer(end, stored));
            }
            Stored::Duplicate => {
                let known = peer_session::Input::BlockKnown(block);
                self.work.push_back(Work::Peer(end, known));
            }
            Stored::NoRoom => {
                self.nodes[node.get()].disk_queue.push_back(end);
                if let Some(state) = self.end(end) {
                    state.waiting = Some((block, token));
                }
            }
        }
    }

    fn push_get(&mut self, end: EndId, fetch: Fetch) {
        let requests = u32::try_from(fetch.parts.len()).unwrap_or(u32::MAX);
        let bytes = requests.saturating_mul(HEAD_BYTES);
        let wire = Wire::Get(fetch.id, fetch.runs);
        let token = RIGHT;
        self.push_item(end, Item { wire, bytes, token });
    }

    /// `end` is the origin's: it answers with the blocks.
    pub(super) fn on_get(&mut self, end: EndId, fetch: FetchId, runs: &[shoal_metainfo::BlockRun]) {
        let Some(state) = self.end(end) else { return };
        let node = state.node;
        let blocks: Vec<Block> = runs.iter().flat_map(|run| run.blocks()).collect();
        let count = blocks.len();
        for (at, block) in blocks.into_iter().enumerate() {
            let mut token = RIGHT;
            if let Behaviour::Origin { permille } = self.nodes[node.get()].config.behaviour
                && self.network.u32(..1_000) < permille
            {
                let liar = &mut self.nodes[node.get()];
                liar.lies += 1;
                token = (node.0 + 1) << 16 | (liar.lies & 0xffff);
            }
            let head = if at == 0 { HEAD_BYTES } else { 0 };
            let bytes = self.layout.block_length(block) + head;
            let last = at + 1 == count;
            let wire = Wire::Body { fetch, block, last };
            self.push_item(end, Item { wire, bytes, token });
        }
    }

    /// A block of a reply has come to who asked for it.
    pub(super) fn on_body(
        &mut self,
        end: EndId,
        fetch: FetchId,
        block: Block,
        last: bool,
        token: Token,
    ) {
        let Some(state) = self.end(end) else { return };
        state.blocks += 1;
        let node = state.node;
        let length = u64::from(self.layout.block_length(block));
        self.nodes[node.get()].received_bytes += length;
        let detail = u64::from(block.piece.0) << 32 | u64::from(block.block.0);
        self.trace
            .note(self.now, [u64::from(end.0), 1 << 20, detail]);
        self.arriving = token;
        self.handle_web(end, Input::Block { fetch, block });
        if last {
            let failure = None;
            self.handle_web(end, Input::Ended { fetch, failure });
        }
    }

    /// A torrent knows that its origin is given up.
    pub(super) fn on_web_gone(&mut self, end: EndId) {
        let Some(state) = self.end(end) else { return };
        let (node, key) = (state.node, state.key);
        self.nodes[node.get()].ends.remove(&key);
        self.ends[end.get()] = None;
        self.ends[end.other().get()] = None;
    }
}

impl Pipe {
    /// Forgets what has not begun to leave of a fetch.
    pub(super) fn give_up(&mut self, fetch: FetchId) {
        self.forget_waiting(
            |wire| matches!(wire, Wire::Body { fetch: other, .. } if *other == fetch),
        );
    }
}
