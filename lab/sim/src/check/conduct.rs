//! Who may speak, and to whom: nobody who has stopped, or reads all that it has; and nobody with whom it is to have nothing to do.
//!
//! Invariant: a rule holds from the moment on at which everything that was under way between machines has arrived.

use crate::setup::NodeId;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, PieceIndex};
use std::collections::BTreeMap;

/// What one node must not do.
#[derive(Clone, Debug, Default)]
struct Book {
    /// It says nothing after this.
    silent_after: Option<Moment>,
    /// It has nothing to do with these after that.
    forbidden_after: BTreeMap<NodeId, Moment>,
    /// What is on its disk, as it should be; `None` before it is there.
    disk: Option<Bitfield>,
}

/// The books of all nodes.
#[derive(Debug)]
pub(super) struct Conduct(Vec<Book>);

impl Conduct {
    pub(super) fn new(nodes: usize) -> Self {
        Conduct(vec![Book::default(); nodes])
    }

    pub(super) fn silent(&mut self, node: NodeId, after: Option<Moment>) {
        self.0[node.get()].silent_after = after;
    }

    /// From here on these are all that it is to have nothing to do with.
    pub(super) fn forbid(&mut self, node: NodeId, others: &[NodeId], after: Moment) {
        let book = &mut self.0[node.get()];
        let before = core::mem::take(&mut book.forbidden_after);
        let since = |other: &NodeId| before.get(other).copied().unwrap_or(after);
        book.forbidden_after = others.iter().map(|other| (*other, since(other))).collect();
    }

    /// What is wrong with `node` sending something to `other`.
    pub(super) fn speaks(
        &self,
        node: NodeId,
        other: NodeId,
        now: Moment,
    ) -> Result<(), &'static str> {
        let book = &self.0[node.get()];
        if book.silent_after.is_some_and(|after| now > after) {
            return Err("although it has stopped or is read");
        }
        let forbidden = book.forbidden_after.get(&other);
        match forbidden.is_some_and(|&after| now > after) {
            true => Err("with which it is to have nothing to do"),
            false => Ok(()),
        }
    }

    /// What is on the disk, whatever the node believes.
    pub(super) fn lies_on_disk(&mut self, node: NodeId, pieces: Bitfield) {
        self.0[node.get()].disk = Some(pieces);
    }

    /// A piece is on the disk, or not any more.
    pub(super) fn holds(&mut self, node: NodeId, piece: PieceIndex, holds: bool) {
        if let Some(disk) = &mut self.0[node.get()].disk {
            match holds {
                true => disk.insert(piece),
                false => disk.remove(piece),
            };
        }
    }

    /// Whether a piece that was read is what it should be.
    pub(super) fn is_right(&self, node: NodeId, piece: PieceIndex) -> bool {
        let disk = self.0[node.get()].disk.as_ref();
        disk.is_some_and(|pieces| pieces.get(piece))
    }
}
