//! Between the sessions, the disk model and the torrent of a node.
//!
//! Invariant: a connection whose block finds no room is not read until there is room, in the order in which they asked.

use super::{Event, Work, World};
use crate::disk::{DiskEvent, Stored, Token};
use crate::setup::NodeId;
use shoal_metainfo::Block;
use shoal_swarm::peer_session::Input;
use shoal_swarm::torrent;

impl World {
    pub(super) fn store_block(&mut self, node: NodeId, block: Block, token: Token) -> Stored {
        let stored = self.nodes[node.get()].disk.store(block, token);
        match stored {
            Stored::Kept => {
                self.checks.stored(node, block, token);
                self.nodes[node.get()].last_progress = self.now;
            }
            Stored::Duplicate => self.nodes[node.get()].duplicate_blocks += 1,
            Stored::NoRoom => {}
        }
        self.run_disk(node);
        stored
    }

    fn run_disk(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.get()];
        if let Some(at) = state.disk.start(self.now) {
            let event = Event::DiskDone(node, state.epoch);
            self.queue.push(at, event);
        }
    }

    pub(super) fn on_disk_done(&mut self, node: NodeId, epoch: u32) {
        if !self.is_alive(node, epoch) {
            return;
        }
        let mut events = Vec::new();
        let again = self.nodes[node.get()].disk.finish(self.now, &mut events);
        for event in events {
            self.book(node, &event);
            self.tell_of_disk(node, event);
        }
        match again {
            Some(at) => self.queue.push(at, Event::DiskDone(node, epoch)),
            None => {
                self.run_disk(node);
                self.serve_disk_queue(node);
            }
        }
    }

    fn book(&mut self, node: NodeId, event: &DiskEvent) {
        let now = self.now;
        self.trace
            .line(now, || format!("disk {}: {event:?}", node.0));
        match event {
            DiskEvent::Verified { piece, .. } => {
                self.checks.verified(node, *piece);
                self.trace
                    .note(now, [1 << 40 | u64::from(node.0), u64::from(piece.0), 1]);
                self.nodes[node.get()].verified.push((*piece, now));
            }
            DiskEvent::Failed { piece, .. } => {
                self.checks.failed(node, *piece);
                self.trace
                    .note(now, [1 << 40 | u64::from(node.0), u64::from(piece.0), 2]);
            }
            DiskEvent::Dropped(piece) => self.checks.gave_up(node, *piece),
            DiskEvent::Suspended(on) => self.nodes[node.get()].suspensions += u32::from(*on),
        }
    }

    /// Stores what waited for room, and reads on.
    fn serve_disk_queue(&mut self, node: NodeId) {
        while let Some(end) = self.nodes[node.get()].disk_queue.pop_front() {
            let Some((block, token)) = self.end(end).and_then(|state| state.waiting) else {
                continue;
            };
            let input = match self.store_block(node, block, token) {
                Stored::Kept => Input::BlockStored(block),
                Stored::Duplicate => Input::BlockKnown(block),
                Stored::NoRoom => return self.nodes[node.get()].disk_queue.push_front(end),
            };
            if let Some(state) = self.end(end) {
                state.waiting = None;
            }
            self.work.push_back(Work::Peer(end, input));
            self.work
                .push_back(Work::Peer(end, Input::Backpressure(false)));
            self.work.push_back(Work::Read(end));
        }
    }

    pub(super) fn mail_from_disk(&mut self, node: NodeId, epoch: u32) {
        if !self.is_alive(node, epoch) {
            return;
        }
        if let Some(event) = self.nodes[node.get()].from_disk.waiting.pop_front() {
            self.on_disk_event(node, event);
        }
    }

    pub(super) fn on_disk_event(&mut self, node: NodeId, event: DiskEvent) {
        let input = match event {
            DiskEvent::Verified { piece, blocks } => torrent::Input::Verified { piece, blocks },
            DiskEvent::Failed { piece, bad, blocks } => {
                torrent::Input::Failed { piece, bad, blocks }
            }
            DiskEvent::Dropped(piece) => torrent::Input::Dropped { piece },
            DiskEvent::Suspended(suspended) => torrent::Input::Suspended(suspended),
        };
        self.torrent_input(node, input);
    }
}
