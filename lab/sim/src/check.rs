//! What must hold in every swarm, whatever happens in it: checked by books of its own, from what crosses the borders of the
//! machines, never from what they think.
//!
//! Invariant: a check never changes what happens.

mod conduct;
mod turns;

use crate::disk::{RIGHT, Token};
use crate::setup::{HostConfig, NodeId};
use conduct::Conduct;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, Block, BlockRun, PieceIndex};
use shoal_session::queue::Activity;
pub(crate) use turns::Turn;
use turns::Turns;

/// The most violations that are told: the first one is what counts.
const MAX_TOLD: usize = 10;

/// The most blocks per piece that the books have room for.
pub(crate) const MAX_BLOCKS_PER_PIECE: u32 = 64;

/// So many inputs at one moment mean that time stands still.
const MAX_AT_ONE_MOMENT: u64 = 5_000_000;

/// The most requests that we may have at a remote: what its `reqq` says, which is ours.
const MAX_REQUESTS: u32 = shoal_swarm::peer_session::MAX_QUEUED_REQUESTS;

#[derive(Clone, Copy, Debug, Default)]
struct PieceBook {
    arrived: u64,
    wrong: u64,
}

#[derive(Clone, Debug)]
struct NodeBook {
    holds: Bitfield,
    pieces: Vec<PieceBook>,
    connections: u32,
    half_open: u32,
    unchoked: u32,
}

/// What one end of a connection owes.
#[derive(Clone, Debug, Default)]
struct EndBook {
    /// Leased by the torrent and not back at it.
    leased: Vec<u32>,
    /// Leased and known to the session, and not given back by it.
    held: Vec<u32>,
    requests: u32,
    unchoked: bool,
}

/// The books.
#[derive(Debug)]
pub(crate) struct Checks {
    nodes: Vec<NodeBook>,
    /// By the number of the end.
    ends: Vec<EndBook>,
    conduct: Conduct,
    /// Of each session of several torrents.
    turns: Vec<Turns>,
    violations: Vec<String>,
    piece_blocks: Vec<u64>,
    moment: Moment,
    at_this_moment: u64,
}

fn number(block: Block) -> u32 {
    block.piece.0 * MAX_BLOCKS_PER_PIECE + block.block.0
}

impl Checks {
    /// Books of a torrent with so many blocks in each piece.
    pub(crate) fn new(start: Vec<Bitfield>, blocks: &[u32]) -> Self {
        let book = |holds: Bitfield| NodeBook {
            holds,
            pieces: vec![PieceBook::default(); blocks.len()],
            connections: 0,
            half_open: 0,
            unchoked: 0,
        };
        Checks {
            conduct: Conduct::new(start.len()),
            turns: Vec::new(),
            nodes: start.into_iter().map(book).collect(),
            ends: Vec::new(),
            violations: Vec::new(),
            piece_blocks: blocks
                .iter()
                .map(|&count| u64::MAX >> (64 - count.clamp(1, 64)))
                .collect(),
            moment: Moment::ZERO,
            at_this_moment: 0,
        }
    }

    /// Books of sessions as well.
    pub(crate) fn with_sessions(self, hosts: &[HostConfig]) -> Self {
        let turns = hosts.iter();
        let turns = turns.map(|host| Turns::new(host.queue, host.patience));
        Checks {
            turns: turns.collect(),
            ..self
        }
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn holds(&self, node: NodeId) -> &Bitfield {
        &self.nodes[node.get()].holds
    }

    pub(crate) fn violate(&mut self, what: &str) {
        if self.violations.len() < MAX_TOLD {
            let at = self.moment.as_secs_f64();
            self.violations.push(format!("{at:.6}: {what}"));
        }
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violate(&what());
        }
    }

    fn end(&mut self, end: u32) -> &mut EndBook {
        let at = end as usize;
        if at >= self.ends.len() {
            self.ends.resize_with(at + 1, EndBook::default);
        }
        &mut self.ends[at]
    }

    /// Time goes on.
    pub(crate) fn at(&mut self, now: Moment) {
        if now > self.moment {
            (self.moment, self.at_this_moment) = (now, 0);
        }
        self.at_this_moment += 1;
        if self.at_this_moment == MAX_AT_ONE_MOMENT {
            self.violate("time stands still: events beget events at one moment");
        }
    }

    /// The bytes of a block are in a node's storage.
    pub(crate) fn stored(&mut self, node: NodeId, block: Block, token: Token) {
        let book = &mut self.nodes[node.get()].pieces[block.piece.get()];
        let bit = 1 << block.block.0;
        book.arrived |= bit;
        if token == RIGHT {
            book.wrong &= !bit;
        } else {
            book.wrong |= bit;
        }
    }

    pub(crate) fn gave_up(&mut self, node: NodeId, piece: PieceIndex) {
        self.nodes[node.get()].pieces[piece.get()] = PieceBook::default();
    }

    /// A piece turned out wrong: its blocks are forgotten.
    pub(crate) fn failed(&mut self, node: NodeId, piece: PieceIndex) {
        let book = core::mem::take(&mut self.nodes[node.get()].pieces[piece.get()]);
        self.expect(book.wrong != 0, || {
            format!("node {} took piece {piece} for wrong: {book:?}", node.0)
        });
    }

    pub(crate) fn verified(&mut self, node: NodeId, piece: PieceIndex) {
        let book = self.nodes[node.get()].pieces[piece.get()];
        let whole = book.arrived == self.piece_blocks[piece.get()] && book.wrong == 0;
        self.expect(whole, || {
            format!("node {} took piece {piece} for right: {book:?}", node.0)
        });
        self.conduct.holds(node, piece, true);
        self.nodes[node.get()].holds.insert(piece);
    }

    pub(crate) fn lost(&mut self, node: NodeId, piece: PieceIndex) {
        self.conduct.holds(node, piece, false);
        self.nodes[node.get()].holds.remove(piece);
        self.gave_up(node, piece);
    }

    /// A process with this end is gone.
    pub(crate) fn forgets(&mut self, end: u32) {
        *self.end(end) = EndBook::default();
    }

    /// What was not verified was in memory only.
    pub(crate) fn crashed(&mut self, node: NodeId) {
        self.conduct.silent(node, None);
        let book = &mut self.nodes[node.get()];
        book.pieces.fill(PieceBook::default());
        (book.connections, book.half_open, book.unchoked) = (0, 0, 0);
    }

    /// A node sends a block of a piece, or says that it has it.
    pub(crate) fn offers(&mut self, node: NodeId, piece: PieceIndex, how: &str) {
        let holds = self.nodes[node.get()].holds.get(piece);
        self.expect(holds, || {
            format!(
                "node {} {how} piece {piece}, which it has not verified",
                node.0
            )
        });
    }

    pub(crate) fn leased(&mut self, end: u32, runs: &[BlockRun]) {
        for block in runs.iter().flat_map(|run| run.blocks()) {
            let book = self.end(end);
            let again = book.leased.contains(&number(block));
            book.leased.push(number(block));
            self.expect(!again, || {
                format!("{block:?} was leased twice to end {end}")
            });
        }
    }

    /// A lease reached a session that is alive.
    pub(crate) fn accepted(&mut self, end: u32, runs: &[BlockRun]) {
        let book = self.end(end);
        book.held
            .extend(runs.iter().flat_map(|run| run.blocks()).map(number));
    }

    /// A session says that these blocks came, or will not come.
    pub(crate) fn given_back(&mut self, end: u32, runs: &[BlockRun]) {
        for block in runs.iter().flat_map(|run| run.blocks()) {
            let book = self.end(end);
            let known = take(&mut book.held, number(block));
            self.expect(known, || {
                format!("end {end} gave back {block:?}, which it did not hold")
            });
        }
    }

    /// ... and the torrent hears it.
    pub(crate) fn came_back(&mut self, end: u32, runs: &[BlockRun]) {
        for block in runs.iter().flat_map(|run| run.blocks()) {
            let book = self.end(end);
            let known = take(&mut book.leased, number(block));
            self.expect(known, || {
                format!("{block:?} came back from end {end}, which had no lease")
            });
        }
    }

    /// A session ended.
    pub(crate) fn ended(&mut self, end: u32) {
        let held = self.held(end);
        self.expect(held == 0, || {
            format!("end {end} ended with {held} leased blocks")
        });
    }

    /// A request went out, or was cancelled or answered.
    pub(crate) fn requested(&mut self, end: u32, more: bool) {
        let book = self.end(end);
        book.requests = if more {
            book.requests + 1
        } else {
            book.requests.saturating_sub(1)
        };
        let within = book.requests <= MAX_REQUESTS;
        self.expect(within, || {
            format!("end {end} has more requests than the remote queues")
        });
    }

    pub(crate) fn held(&self, end: u32) -> usize {
        self.ends
            .get(end as usize)
            .map_or(0, |book| book.held.len())
    }

    pub(crate) fn dialled(&mut self, node: NodeId, most: u32) {
        let book = &mut self.nodes[node.get()];
        book.half_open += 1;
        let count = book.half_open;
        self.expect(count <= most, || {
            format!("node {} has {count} half-open connections", node.0)
        });
    }

    pub(crate) fn dial_ended(&mut self, node: NodeId) {
        self.nodes[node.get()].half_open -= 1;
    }

    pub(crate) fn connected(&mut self, node: NodeId, most: u32) {
        let book = &mut self.nodes[node.get()];
        book.connections += 1;
        let count = book.connections;
        self.expect(count <= most, || {
            format!("node {} has {count} connections", node.0)
        });
    }

    pub(crate) fn disconnected(&mut self, node: NodeId, end: u32) {
        let unchoked = core::mem::take(self.end(end)).unchoked;
        let book = &mut self.nodes[node.get()];
        book.connections -= 1;
        book.unchoked -= u32::from(unchoked);
    }

    /// A node's torrent chokes or unchokes a peer.
    pub(crate) fn choked(&mut self, node: NodeId, end: u32, choke: bool, most: u32) {
        let was = core::mem::replace(&mut self.end(end).unchoked, !choke);
        let book = &mut self.nodes[node.get()];
        book.unchoked = book.unchoked + u32::from(!choke) - u32::from(was);
        let count = book.unchoked;
        // Within one decision, some are unchoked before others are choked.
        self.expect(count <= 2 * most, || {
            format!("node {} unchokes {count} peers", node.0)
        });
    }

    /// Between decisions.
    pub(crate) fn slots_kept(&mut self, node: NodeId, most: u32) {
        let count = self.nodes[node.get()].unchoked;
        self.expect(count <= most, || {
            format!("node {} unchokes {count} peers, {most} may be", node.0)
        });
    }

    /// From `after` on a node says nothing to anybody, until it is said to again.
    pub(crate) fn silent(&mut self, node: NodeId, after: Option<Moment>) {
        self.conduct.silent(node, after);
    }

    /// From `after` on a node has nothing to do with these, and with all others again.
    pub(crate) fn forbid(&mut self, node: NodeId, others: &[NodeId], after: Moment) {
        self.conduct.forbid(node, others, after);
    }

    /// A node dials another, or says something to it.
    pub(crate) fn speaks(&mut self, node: NodeId, other: NodeId, how: &str) {
        if let Err(why) = self.conduct.speaks(node, other, self.moment) {
            self.violate(&format!("node {} {how} node {} {why}", node.0, other.0));
        }
    }

    /// What there is on a disk.
    pub(crate) fn lies_on_disk(&mut self, node: NodeId, pieces: Bitfield) {
        self.conduct.lies_on_disk(node, pieces);
    }

    /// A piece was read, and found `right` or not: it is to be had or not from here on.
    pub(crate) fn read(&mut self, node: NodeId, piece: PieceIndex, right: bool) {
        let is_right = self.conduct.is_right(node, piece);
        self.expect(right == is_right, || {
            format!(
                "node {} read piece {piece}: {right}, it is {is_right}",
                node.0
            )
        });
        match is_right {
            true => drop(self.nodes[node.get()].holds.insert(piece)),
            false => self.lost(node, piece),
        }
    }

    /// A person wants something else of a torrent of a session.
    pub(crate) fn asked(&mut self, host: u32, node: NodeId) {
        self.turns[host as usize].asked(node);
    }

    pub(crate) fn started(&mut self, host: u32, node: NodeId, activity: Activity) {
        let started = self.turns[host as usize].started(node, activity, self.moment);
        self.tell_turn(node, started);
    }

    pub(crate) fn stopped(&mut self, host: u32, node: NodeId) {
        let stopped = self.turns[host as usize].stopped(node);
        self.tell_turn(node, stopped);
    }

    pub(crate) fn gave_enough(&mut self, host: u32, node: NodeId) {
        self.turns[host as usize].gave_enough(node);
    }

    /// What moved in a second.
    pub(crate) fn second(&mut self, host: u32, turns: &[Turn]) {
        for (node, what) in self.turns[host as usize].second(self.moment, turns) {
            self.tell_turn(node, Err(what));
        }
    }

    fn tell_turn(&mut self, node: NodeId, turn: Result<(), String>) {
        if let Err(what) = turn {
            self.violate(&format!("torrent {} {what}", node.0));
        }
    }

    /// Something that has a bound.
    pub(crate) fn bounded(&mut self, node: NodeId, what: &str, value: u64, most: u64) {
        self.expect(value <= most, || {
            format!("node {} has {value} {what}, at most {most} may be", node.0)
        });
    }
}

fn take(list: &mut Vec<u32>, number: u32) -> bool {
    let at = list.iter().position(|&other| other == number);
    at.is_some_and(|at| {
        list.swap_remove(at);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_metainfo::BlockIndex;

    const NODE: NodeId = NodeId(0);

    fn block(piece: u32, block: u32) -> Block {
        Block {
            piece: PieceIndex(piece),
            block: BlockIndex(block),
        }
    }

    fn checks() -> Checks {
        Checks::new(vec![Bitfield::empty(2)], &[2, 1])
    }

    #[test]
    fn a_piece_with_a_wrong_or_a_missing_block_cannot_be_right() {
        let mut checks = checks();
        checks.stored(NODE, block(0, 0), RIGHT);
        checks.verified(NODE, PieceIndex(0));
        checks.stored(NODE, block(1, 0), 7);
        checks.verified(NODE, PieceIndex(1));
        assert_eq!(checks.violations().len(), 2);
    }

    #[test]
    fn what_was_not_verified_is_not_served() {
        let mut checks = checks();
        checks.stored(NODE, block(1, 0), RIGHT);
        checks.offers(NODE, PieceIndex(1), "sends");
        assert_eq!(checks.violations().len(), 1);
        checks.verified(NODE, PieceIndex(1));
        checks.offers(NODE, PieceIndex(1), "sends");
        assert_eq!(checks.violations().len(), 1);
    }

    #[test]
    fn a_lease_comes_back_once() {
        let mut checks = checks();
        let run = [BlockRun::one(block(0, 1))];
        checks.leased(4, &run);
        checks.accepted(4, &run);
        checks.given_back(4, &run);
        checks.came_back(4, &run);
        assert!(checks.violations().is_empty());
        checks.given_back(4, &run);
        checks.came_back(4, &run);
        assert_eq!(checks.violations().len(), 2);
        checks.accepted(4, &run);
        checks.ended(4);
        assert_eq!(checks.violations().len(), 3);
    }
}
