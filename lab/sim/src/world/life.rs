//! Nodes come and go, ask the tracker, and are watched.
//!
//! The tracker is a model: it answers after a tenth of a second with addresses of nodes that are alive, drawn evenly; a node
//! asks when it starts, when its torrent wants more (at most once a minute), and every half an hour.
//!
//! Invariant: what a node knew in one life, except for its journal, it does not know in the next.

use super::machines::TORRENT;
use super::{Event, STANDSTILL, WATCH, World};
use crate::disk::Disk;
use crate::libtorrent::Choker;
use crate::link::Link;
use crate::node::{Mail, Node, Wake, address_of, peer_id_of};
use crate::setup::{Action, Behaviour, NodeConfig, NodeId, Setup, Start};
use core::fmt::Write;
use core::time::Duration;
use shoal_metainfo::{Bitfield, Layout, PieceIndex};
use shoal_session::filter::IpFilter;
use shoal_session::{Input as SessionInput, Session};
use shoal_swarm::torrent::{self, Origin, PeerRules, Priority, Torrent, TorrentConfig};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const TRACKER_DELAY: Duration = Duration::from_millis(100);
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(60);
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1_800);

/// How long a node that takes leave stays to say so.
const LEAVE: Duration = Duration::from_secs(2);

/// The most messages that may wait between two machines: those that a torrent says are bounded by what was asked and by
/// the number of pieces.
const MAX_MAIL: u64 = 4_096;

/// The most items that may be on one stream: requests, rejects of them, and an announcement for each piece.
const MAX_ITEMS: u64 = 3 * shoal_swarm::peer_session::MAX_QUEUED_REQUESTS as u64;

/// The most blocks that a session holds at a time: a window, and three quarters of one in reserve.
const MAX_HELD: u64 =
    2 * shoal_swarm::window::MAX_BYTES as u64 / shoal_metainfo::BLOCK_LENGTH as u64;

/// How many of those who did not finish are described.
const MAX_DUMPED: usize = 4;

fn torrent_of(
    setup: &Setup,
    layout: &Arc<Layout>,
    config: &NodeConfig,
    have: Bitfield,
    id: NodeId,
    epoch: u32,
    seed: u64,
) -> Torrent {
    Torrent::new(TorrentConfig {
        layout: Arc::clone(layout),
        have,
        priorities: config.priorities.clone(),
        sequential: config.sequential,
        our_peer_id: peer_id_of(id, epoch),
        seed,
        max_connections: config.settings.max_connections_per_torrent,
        private: false,
        exchange: setup.word_of_mouth,
        super_seed: config.super_seed,
        peer_rules: PeerRules::default(),
    })
}

/// The session of several torrents that a node is one of.
fn host_of(setup: &Setup, node: NodeId) -> Option<u32> {
    let host = setup
        .hosts
        .iter()
        .position(|host| host.torrents.contains(&node));
    host.and_then(|at| u32::try_from(at).ok())
}

pub(super) fn newborn(
    setup: &Setup,
    layout: &Arc<Layout>,
    config: &NodeConfig,
    id: NodeId,
    seed: u64,
) -> Node {
    let pieces = layout.piece_count();
    let have = match &config.start {
        Start::Empty => Bitfield::empty(pieces),
        Start::Full => Bitfield::full(pieces),
        Start::Some(field) => field.clone(),
    };
    let known = match config.unread {
        true => Bitfield::empty(pieces),
        false => have.clone(),
    };
    Node {
        config: config.clone(),
        alive: false,
        awaited: false,
        leaves: false,
        host: host_of(setup, id),
        unread: config.unread,
        reading: None,
        readings: 0,
        filter: IpFilter::default(),
        epoch: 0,
        part: 0,
        adrift: false,
        dials_adrift: 0,
        torrent: torrent_of(setup, layout, config, known, id, 0, seed),
        session: Session::new(config.settings.clone(), seed ^ 1),
        libtorrent: Choker::default(),
        disk: Disk::new(config.disk.clone(), setup.proof, Arc::clone(layout), have),
        ends: BTreeMap::new(),
        dialling: BTreeMap::new(),
        up: Link::new(config.up_bytes_per_s, setup.burst),
        down: Link::new(config.down_bytes_per_s, setup.burst),
        round: VecDeque::new(),
        leaving: Vec::new(),
        torrent_wake: Wake::default(),
        session_wake: Wake::default(),
        report_wake: None,
        disk_queue: VecDeque::new(),
        from_disk: Mail::new(),
        to_session: Mail::new(),
        from_session: Mail::new(),
        last_announce: None,
        announce_due: false,
        flap_open: false,
        lies: 0,
        verified: Vec::new(),
        completed: None,
        last_progress: config.arrives,
        sent_bytes: 0,
        samples: Vec::new(),
        received_bytes: 0,
        duplicate_blocks: 0,
        discarded_blocks: 0,
        super_seeded: false,
        bans: Vec::new(),
        suspensions: 0,
        unreadable: 0,
        lost_connections: 0,
    }
}

impl World {
    pub(super) fn on_arrive(&mut self, node: NodeId) {
        let rotten = self.nodes[node.get()].config.rotten.clone();
        self.rot(node, &rotten);
        match self.nodes[node.get()].host {
            Some(host) => self.add_to_queue(host, node),
            None => self.begin(node),
        }
    }

    /// Takes part from here on.
    fn begin(&mut self, node: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[node.get()];
        state.alive = true;
        let epoch = state.epoch;
        if let Behaviour::Flapper { period } = state.config.behaviour {
            self.queue.push(now + period, Event::Flap(node, epoch));
        }
        self.session_input(node, SessionInput::Added(TORRENT));
        self.ask_origins(node);
        self.arm_torrent(node);
        self.arm_report(node, now);
        self.announce_soon(node);
    }

    /// Asks the tracker as soon as it may be asked.
    pub(super) fn announce_soon(&mut self, node: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[node.get()];
        if core::mem::replace(&mut state.announce_due, true) {
            return;
        }
        let earliest = state
            .last_announce
            .map_or(now, |at| (at + ANNOUNCE_AGAIN).max(now));
        let event = Event::Announce(node, state.epoch);
        self.queue.push(earliest + TRACKER_DELAY, event);
    }

    pub(super) fn on_announce(&mut self, node: NodeId, epoch: u32) {
        if !self.is_alive(node, epoch) {
            return;
        }
        let now = self.now;
        let state = &mut self.nodes[node.get()];
        state.announce_due = false;
        if state.adrift {
            return;
        }
        state.last_announce = Some(now);
        let named = state.config.isolated.clone();
        let origin = if named.is_some() {
            Origin::User
        } else {
            Origin::Tracker
        };
        let ids = match named {
            Some(named) => named,
            None if self.setup.word_of_mouth => vec![NodeId(0)],
            None => {
                let swarm = self.nodes[node.get()].config.swarm;
                let is_there =
                    |other: &Node| other.alive && !other.leaves && other.config.swarm == swarm;
                let there = (0u32..)
                    .zip(&self.nodes)
                    .filter(|(_, other)| is_there(other));
                let seeds = |(_, other): &(u32, &Node)| other.torrent.is_complete();
                let (seeds, all) = (there.clone().filter(seeds).count(), there.clone().count());
                let others = there.map(|(id, _)| NodeId(id)).filter(|&id| id != node);
                let others: Vec<NodeId> = others.collect();
                self.swarm_is(node, seeds, all - seeds);
                self.network
                    .choose_multiple(others, self.setup.tracker_peers)
            }
        };
        let addresses = ids.into_iter().map(address_of).collect();
        self.torrent_input(node, torrent::Input::Candidates { origin, addresses });
        self.queue
            .push(now + ANNOUNCE_INTERVAL, Event::Announce(node, epoch));
    }

    /// A node has all it wants.
    pub(super) fn on_complete(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.get()];
        let priority = |at: usize| state.config.priorities.get(at).copied().unwrap_or_default();
        let holds = self.checks.holds(node);
        let missing = self
            .layout
            .pieces()
            .find(|&piece| priority(piece.get()) != Priority::Skip && !holds.get(piece));
        if let Some(piece) = missing {
            self.checks.violate(&format!(
                "node {} says it is complete without piece {piece}",
                node.0
            ));
        }
        self.work_changed(node);
        let state = &mut self.nodes[node.get()];
        if core::mem::take(&mut state.awaited) {
            state.completed = Some(self.now);
            self.unfinished -= 1;
            self.last_completion = self.now;
        }
        let now = self.now;
        self.trace
            .line(now, || format!("node {} is complete", node.0));
    }

    pub(super) fn on_depart(&mut self, node: NodeId) {
        self.crash(node);
    }

    /// Closes its connections, and is gone a moment later.
    pub(super) fn take_leave(&mut self, node: NodeId) {
        let after = self.when_heard();
        self.checks.silent(node, Some(after));
        self.torrent_input(node, torrent::Input::Stop);
        let state = &mut self.nodes[node.get()];
        state.leaves = true;
        let event = Event::HasLeft(node, state.epoch);
        self.queue.push(self.now + LEAVE, event);
    }

    pub(super) fn on_has_left(&mut self, node: NodeId, epoch: u32) {
        if self.is_alive(node, epoch) {
            self.crash(node);
            self.has_left(node);
        }
    }

    fn crash(&mut self, node: NodeId) {
        self.vanish(node);
        self.checks.crashed(node);
        let state = &mut self.nodes[node.get()];
        (state.alive, state.leaves) = (false, false);
        state.epoch += 1;
        state.reading = None;
        state.disk.restart();
        state.round.clear();
        state.leaving.clear();
        state.disk_queue.clear();
        (state.torrent_wake, state.session_wake) = (Wake::default(), Wake::default());
        state.report_wake = None;
        (state.from_disk, state.to_session, state.from_session) =
            (Mail::new(), Mail::new(), Mail::new());
        state.last_announce = None;
        state.announce_due = false;
    }

    pub(super) fn restart(&mut self, node: NodeId) {
        let have = self.nodes[node.get()].disk.journal().clone();
        self.make_torrent(node, have);
        if self.nodes[node.get()].torrent.is_complete() {
            self.on_complete(node);
        }
        self.begin(node);
    }

    /// New machines for a node that has these pieces.
    pub(super) fn make_torrent(&mut self, node: NodeId, have: Bitfield) {
        let seed = self.network.u64(..);
        let state = &mut self.nodes[node.get()];
        let (config, epoch) = (&state.config, state.epoch);
        state.torrent = torrent_of(&self.setup, &self.layout, config, have, node, epoch, seed);
        state.session = Session::new(config.settings.clone(), seed);
        state.libtorrent = Choker::default();
    }

    pub(super) fn on_act(&mut self, action: u32) {
        let action = self.setup.actions[action as usize].1.clone();
        let now = self.now;
        self.trace.line(now, || format!("{action:?}"));
        match action {
            Action::Crash(node) => self.crash(node),
            Action::Restart(node) => self.restart(node),
            Action::Stop(node) => self.take_leave(node),
            Action::Rot(node, pieces) => self.rot(node, &pieces),
            Action::Recheck(node) => self.recheck(node),
            Action::Shun(node, others) => self.shun(node, &others),
            Action::Wish(node, wish) => self.wish(node, wish),
            Action::Part(node, part) => self.part(node, part),
            Action::InterfaceGoes(node) => self.interface_goes(node),
            Action::InterfaceReturns(node) => self.interface_returns(node),
            Action::DropConnections(node) => self.drop_connections(node),
            Action::Priorities(node, priorities) => self.set_priorities(node, priorities),
            Action::Deadline(node, lease) => {
                self.torrent_input(node, torrent::Input::Deadline(lease));
            }
            Action::DeadlineEnded(node, id) => {
                self.torrent_input(node, torrent::Input::DeadlineEnded { id });
            }
            Action::Lose(node, piece) => self.lose(node, piece),
            Action::LoseSince(node, since) => {
                let verified = &self.nodes[node.get()].verified;
                let late = verified.iter().filter(|(_, at)| *at >= since);
                let late: Vec<PieceIndex> = late.map(|(piece, _)| *piece).collect();
                for piece in late {
                    self.lose(node, piece);
                }
            }
        }
    }

    fn lose(&mut self, node: NodeId, piece: PieceIndex) {
        if self.nodes[node.get()].disk.lose(piece) {
            // It is served until the torrent has told everybody; the books allow for that.
            self.torrent_input(node, torrent::Input::Lost { piece });
            self.drain();
            self.checks.lost(node, piece);
            self.await_again(node);
        }
    }

    fn set_priorities(&mut self, node: NodeId, priorities: Vec<Priority>) {
        self.nodes[node.get()]
            .config
            .priorities
            .clone_from(&priorities);
        self.torrent_input(node, torrent::Input::Priorities(priorities));
        self.await_again(node);
    }

    /// A node that was done may want something again.
    pub(super) fn await_again(&mut self, node: NodeId) {
        let state = &mut self.nodes[node.get()];
        if !state.torrent.is_complete() {
            state.completed = None;
        }
        let again = !self.nodes[node.get()].awaited && self.is_awaited(node.get());
        self.nodes[node.get()].awaited |= again;
        self.unfinished += usize::from(again);
    }

    pub(super) fn on_watch(&mut self) {
        let now = self.now;
        for id in 0..self.nodes.len() {
            self.watch_node(id);
        }
        let most = MAX_ITEMS + u64::from(self.layout.piece_count());
        for at in 0..self.ends.len() {
            let Some(end) = &self.ends[at] else { continue };
            let number = u32::try_from(at).unwrap_or(u32::MAX);
            let (node, items, mail) = (
                end.node,
                end.pipe.len() as u64,
                end.to_torrent.waiting.len().max(end.to_peer.waiting.len()) as u64,
            );
            let held = self.checks.held(number) as u64;
            self.checks
                .bounded(node, "messages on one stream", items, most);
            self.checks
                .bounded(node, "messages between two machines", mail, MAX_MAIL);
            self.checks
                .bounded(node, "leased blocks at one session", held, MAX_HELD);
        }
        self.watch_progress();
        self.queue.push(now + WATCH, Event::Watch);
    }

    fn watch_node(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.samples.push((node.sent_bytes, node.received_bytes));
        let id = NodeId(u32::try_from(at).unwrap_or(u32::MAX));
        let (cached, most) = (node.disk.cached_bytes(), node.config.disk.cache_bytes);
        let mail = node
            .from_disk
            .waiting
            .len()
            .max(node.to_session.waiting.len());
        self.checks.bounded(id, "cached bytes", cached, most);
        self.checks
            .bounded(id, "messages between two machines", mail as u64, MAX_MAIL);
    }

    /// While somebody wants something that somebody has, somebody gets something.
    fn watch_progress(&mut self) {
        let waiting = |at: &usize| self.nodes[*at].alive && self.is_awaited(*at);
        let mut waiting = (0..self.nodes.len()).filter(waiting).peekable();
        let still = waiting.peek().is_some()
            && waiting.all(|at| self.now - self.nodes[at].last_progress > STANDSTILL);
        if still {
            self.checks
                .violate("nobody has got a block for a long time");
        }
    }

    /// The state of those who did not finish.
    pub(super) fn dump(&self) -> String {
        let mut text = format!(
            "{} unfinished, {} events to come\n",
            self.unfinished,
            self.queue.len()
        );
        let unfinished = (0..self.nodes.len()).filter(|&at| self.is_awaited(at));
        for at in unfinished.take(MAX_DUMPED) {
            let node = &self.nodes[at];
            let progress = node.torrent.progress();
            let _infallible = writeln!(
                text,
                "node {at} (alive {}): {progress:?}, {} partials, {} bytes cached, last block at {:.3} s",
                node.alive,
                node.disk.partial_count(),
                node.disk.cached_bytes(),
                node.last_progress.as_secs_f64(),
            );
            for peer in node.torrent.peers().take(12) {
                let end = node
                    .ends
                    .get(&peer.key)
                    .and_then(|&end| self.ends[end.get()].as_deref());
                let _infallible = writeln!(
                    text,
                    "  {:?} at {}: has {}, we want {}, chokes us {}, unchoked {}, leases {}, {:?} read {} {:?}",
                    peer.key,
                    peer.address,
                    peer.has_pieces,
                    peer.we_are_interested,
                    peer.chokes_us,
                    peer.unchoked,
                    peer.leased_blocks,
                    end.map(|end| end.stage),
                    end.map_or(0, |end| end.blocks),
                    end.map(|end| (end.stalled, end.waiting)),
                );
            }
        }
        text
    }
}
