//! The blocks of one piece in progress.
//!
//! Invariant: `open`, `received` and `asked` count what the cells say, every open cell is at or after `next_open`, and
//! `workers` has each peer with live leases once.

use crate::message::PeerKey;
use shoal_machine::Moment;
use shoal_metainfo::{BlockIndex, PieceIndex};
use smallvec::SmallVec;

/// A lease on a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) peer: PeerKey,
    /// When the block should be here, going by the peer's rate and what it was asked for before.
    pub(super) expected: Moment,
    /// The lease was taken back, but the peer has not answered yet. Until then it gets no other lease on this block, so
    /// that its answer can only mean this one.
    revoked: bool,
}

/// A block. Open: not received and without live lease.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    /// Who delivered it.
    pub(super) from: Option<PeerKey>,
    holders: SmallVec<[Holder; 1]>,
}

impl Cell {
    /// The live leases.
    pub(super) fn holders(&self) -> impl Iterator<Item = Holder> + '_ {
        self.holders
            .iter()
            .copied()
            .filter(|holder| !holder.revoked)
    }

    pub(super) fn is_open(&self) -> bool {
        self.from.is_none() && self.holders().next().is_none()
    }

    /// Whether the peer has a lease, live or taken back.
    pub(super) fn knows(&self, peer: PeerKey) -> bool {
        self.holders.iter().any(|holder| holder.peer == peer)
    }
}

/// Who delivered the received blocks of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Givers {
    Nobody,
    One(PeerKey),
    Many,
}

impl Givers {
    fn and(self, peer: PeerKey) -> Self {
        match self {
            Givers::Nobody => Givers::One(peer),
            Givers::One(one) if one == peer => self,
            _ => Givers::Many,
        }
    }
}

/// A peer that holds live leases of a piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub(super) peer: PeerKey,
    pub(super) leases: u32,
    /// It fetches whole pieces alone.
    pub(super) fast: bool,
}

/// Who works on a piece that has open blocks: decides who else may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attendance {
    /// Nobody.
    Orphaned,
    /// Slow peers, who share.
    Slow,
    /// At least one fast peer.
    Fast,
    /// A peer on parole, alone.
    Exclusive,
}

/// What became of a lease that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// There was none.
    Unknown,
    /// It had been taken back.
    Revoked,
    /// It was live.
    Live,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    pub(super) piece: PieceIndex,
    pub(super) cells: Box<[Cell]>,
    pub(super) open: u32,
    pub(super) received: u32,
    /// Leases, live or taken back, that have not come back.
    asked: u32,
    next_open: u32,
    pub(super) workers: SmallVec<[Worker; 2]>,
    pub(super) givers: Givers,
    /// The only worker is on parole. Ends when it has no lease left.
    pub(super) exclusive: bool,
    /// The list of open pieces in which it is, and where.
    pub(super) listed: Option<(usize, usize)>,
}

impl Partial {
    pub(super) fn new(piece: PieceIndex, blocks: u32) -> Self {
        Partial {
            piece,
            cells: (0..blocks).map(|_| Cell::default()).collect(),
            open: blocks,
            received: 0,
            asked: 0,
            next_open: 0,
            workers: SmallVec::new(),
            givers: Givers::Nobody,
            exclusive: false,
            listed: None,
        }
    }

    /// Nothing of it is received or asked for: it need not be remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.received == 0 && self.asked == 0
    }

    pub(super) fn is_complete(&self) -> bool {
        self.received as usize == self.cells.len()
    }

    pub(super) fn attendance(&self) -> Attendance {
        if self.workers.is_empty() {
            Attendance::Orphaned
        } else if self.exclusive {
            Attendance::Exclusive
        } else if self.workers.iter().any(|worker| worker.fast) {
            Attendance::Fast
        } else {
            Attendance::Slow
        }
    }

    pub(super) fn has_worker(&self, peer: PeerKey) -> bool {
        self.workers.iter().any(|worker| worker.peer == peer)
    }

    /// Nobody else works on it or delivered a block of it.
    pub(super) fn belongs_to(&self, peer: PeerKey) -> bool {
        let given = match self.givers {
            Givers::Nobody => true,
            Givers::One(one) => one == peer,
            Givers::Many => false,
        };
        given && self.workers.iter().all(|worker| worker.peer == peer)
    }

    /// Whether an open block can be leased to this peer. Only a peer whose lease was just taken back may have to wait.
    pub(super) fn has_open_for(&self, peer: PeerKey) -> bool {
        let live: u32 = self.workers.iter().map(|worker| worker.leases).sum();
        if self.open == 0 || self.asked == live {
            return self.open > 0;
        }
        self.cells
            .iter()
            .any(|cell| cell.is_open() && !cell.knows(peer))
    }

    /// The blocks with an index, rising.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (BlockIndex, &Cell)> {
        (0u32..).map(BlockIndex).zip(&self.cells)
    }

    /// Leases open blocks in order, as long as `lease` says when the next one would be here. Counts the worker once.
    pub(super) fn lease_open(
        &mut self,
        peer: PeerKey,
        fast: bool,
        mut limit: u32,
        mut lease: impl FnMut(BlockIndex) -> Moment,
    ) -> u32 {
        let (mut taken, mut first_left) = (0, None);
        let mut at = self.next_open;
        limit = limit.min(self.open);
        while taken < limit && (at as usize) < self.cells.len() {
            let cell = &mut self.cells[at as usize];
            if cell.is_open() {
                if cell.knows(peer) {
                    first_left.get_or_insert(at);
                } else {
                    cell.holders.push(Holder {
                        peer,
                        expected: lease(BlockIndex(at)),
                        revoked: false,
                    });
                    taken += 1;
                }
            }
            at += 1;
        }
        self.next_open = first_left.unwrap_or(at);
        self.open -= taken;
        self.employ(peer, fast, taken);
        taken
    }

    /// Leases a block that others hold already.
    pub(super) fn lease_again(
        &mut self,
        peer: PeerKey,
        fast: bool,
        block: BlockIndex,
        expected: Moment,
    ) {
        self.cells[block.get()].holders.push(Holder {
            peer,
            expected,
            revoked: false,
        });
        self.employ(peer, fast, 1);
    }

    /// The peer's lease on a block is over.
    pub(super) fn end_lease(&mut self, block: BlockIndex, peer: PeerKey) -> Ended {
        let cell = &mut self.cells[block.get()];
        let Some(at) = cell.holders.iter().position(|holder| holder.peer == peer) else {
            return Ended::Unknown;
        };
        let revoked = cell.holders.remove(at).revoked;
        let opened = !revoked && cell.is_open();
        self.asked -= 1;
        if opened {
            self.reopened(block);
        }
        if revoked {
            return Ended::Revoked;
        }
        self.dismiss(peer);
        Ended::Live
    }

    /// Takes every live lease on a block back and says whose they were.
    pub(super) fn revoke(&mut self, block: BlockIndex) -> SmallVec<[PeerKey; 2]> {
        let cell = &mut self.cells[block.get()];
        let peers: SmallVec<[PeerKey; 2]> = cell.holders().map(|holder| holder.peer).collect();
        for holder in &mut cell.holders {
            holder.revoked = true;
        }
        if !peers.is_empty() && cell.is_open() {
            self.reopened(block);
        }
        for &peer in &peers {
            self.dismiss(peer);
        }
        peers
    }

    /// The block is here. Its live leases are to be ended or revoked first or next by the caller.
    pub(super) fn receive(&mut self, block: BlockIndex, peer: PeerKey) {
        let cell = &mut self.cells[block.get()];
        if cell.is_open() {
            self.open -= 1;
        }
        cell.from = Some(peer);
        self.received += 1;
        self.givers = self.givers.and(peer);
    }

    /// Forgets those of `blocks` that are received; returns how many were.
    pub(super) fn forget(&mut self, blocks: impl Iterator<Item = BlockIndex>) -> u32 {
        let before = self.received;
        for block in blocks {
            let Some(cell) = self.cells.get_mut(block.get()) else {
                continue;
            };
            if cell.from.take().is_some() {
                self.received -= 1;
                self.reopened(block);
            }
        }
        let left = self.cells.iter().filter_map(|cell| cell.from);
        self.givers = left.fold(Givers::Nobody, Givers::and);
        before - self.received
    }

    fn reopened(&mut self, block: BlockIndex) {
        self.open += 1;
        self.next_open = self.next_open.min(block.0);
    }

    fn employ(&mut self, peer: PeerKey, fast: bool, leases: u32) {
        self.asked += leases;
        match self.workers.iter_mut().find(|worker| worker.peer == peer) {
            Some(worker) => {
                worker.leases += leases;
                worker.fast = fast;
            }
            None if leases > 0 => self.workers.push(Worker { peer, leases, fast }),
            None => {}
        }
    }

    fn dismiss(&mut self, peer: PeerKey) {
        if let Some(at) = self.workers.iter().position(|worker| worker.peer == peer) {
            self.workers[at].leases -= 1;
            if self.workers[at].leases == 0 {
                self.workers.swap_remove(at);
            }
        }
        self.exclusive &= !self.workers.is_empty();
    }
}
