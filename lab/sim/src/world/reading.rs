//! All that is on a disk is read, piece after piece: at the start, where nothing is known of it, or because somebody doubts it.
//!
//! Invariant: whose disk is read says nothing to anybody until all of it was, and has then what was found right.

use super::{Event, World};
use crate::setup::NodeId;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, PieceIndex};
use shoal_swarm::torrent::Input;

/// What reading and hashing a piece takes.
const PIECE_TAKES: Duration = Duration::from_millis(100);

/// How soon it is looked again whether those who are leaving have left.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A disk that is being read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    next: u32,
    /// Tells the steps of one reading from those of an earlier one.
    run: u32,
}

impl World {
    /// Reads the disk of a node that does not take part meanwhile.
    pub(super) fn read_all(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.get()];
        state.readings += 1;
        let run = state.readings;
        state.reading = Some(Reading { next: 0, run });
        self.queue
            .push(self.now + PIECE_TAKES, Event::Reads(node, run));
    }

    /// Reads the disk of a node that takes part, as a person asks for.
    pub(super) fn recheck(&mut self, node: NodeId) {
        let after = self.when_heard();
        self.checks.silent(node, Some(after));
        self.torrent_input(node, Input::Recheck);
        self.read_all(node);
    }

    pub(super) fn call_off_check(&mut self, node: NodeId) {
        self.nodes[node.get()].reading = None;
    }

    /// When everybody within a node has heard of what is said now.
    pub(super) fn when_heard(&self) -> Moment {
        match self.setup.delivery {
            crate::setup::Delivery::Immediate => self.now,
            crate::setup::Delivery::Permuted { longest } => self.now + longest,
        }
    }

    pub(super) fn on_reads(&mut self, node: NodeId, run: u32) {
        let state = &mut self.nodes[node.get()];
        let Some(reading) = state.reading.filter(|reading| reading.run == run) else {
            return;
        };
        let busy = !state.ends.is_empty() || state.disk.partial_count() > 0;
        if state.alive && reading.next == 0 && busy {
            return self
                .queue
                .push(self.now + LOOK_AGAIN, Event::Reads(node, run));
        }
        let piece = PieceIndex(reading.next);
        if !self.layout.contains(piece) {
            return self.has_read(node);
        }
        self.nodes[node.get()].reading = Some(Reading {
            next: reading.next + 1,
            run,
        });
        let right = self.nodes[node.get()].disk.read(piece);
        self.checks.read(node, piece, right);
        if self.nodes[node.get()].alive {
            let blocks = Vec::new();
            let input = match right {
                true => Input::Verified { piece, blocks },
                false => Input::Lost { piece },
            };
            self.torrent_input(node, input);
        }
        self.queue
            .push(self.now + PIECE_TAKES, Event::Reads(node, run));
    }

    /// Everything was read.
    fn has_read(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.get()];
        (state.reading, state.unread) = (None, false);
        if state.alive {
            self.checks.silent(node, None);
            self.torrent_input(node, Input::Rechecked);
            return self.await_again(node);
        }
        let have = self.nodes[node.get()].disk.journal().clone();
        self.make_torrent(node, have);
        self.work_changed(node);
    }

    /// The bytes of pieces are not any more what they were, and nobody knows.
    pub(super) fn rot(&mut self, node: NodeId, pieces: &[PieceIndex]) {
        let state = &mut self.nodes[node.get()];
        pieces.iter().for_each(|&piece| state.disk.rot(piece));
        let left: Bitfield = state.disk.sound();
        self.checks.lies_on_disk(node, left);
    }
}
