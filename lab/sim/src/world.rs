//! A swarm in virtual time.
//!
//! Invariant: one event at a time, and all that follows from it at once, before the next; nothing is decided by anything
//! but the setup.

mod adrift;
mod carry;
mod connect;
mod host;
mod life;
mod machines;
mod origin;
mod reading;
mod shunning;
mod storage;

use crate::check::{Checks, MAX_BLOCKS_PER_PIECE};
use crate::disk::{DiskEvent, RIGHT, Token};
use crate::link::Segment;
use crate::node::{End, EndId, Node};
use crate::outcome::{Failure, NodeOutcome, Outcome};
use crate::queue::EventQueue;
use crate::setup::{Behaviour, Delivery, NodeId, Setup};
use crate::trace::Trace;
use core::time::Duration;
use host::Host;
pub(crate) use reading::Reading;
use shoal_machine::Moment;
use shoal_metainfo::Layout;
use shoal_swarm::{FromPeer, peer_session};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

/// Something due.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// What an uplink sends has left.
    Left(NodeId, u32),
    /// A segment is at the receiver's downlink.
    Arrives(EndId, Segment),
    /// ... and through it.
    Delivered(EndId, Segment),
    /// An acknowledgement may have opened a window.
    Opens(EndId),
    PeerTick(EndId),
    TorrentTick(NodeId, u32),
    SessionTick(NodeId, u32),
    /// The session hears how peers are.
    Report(NodeId, u32),
    /// A dial reaches the other side.
    Reaches(EndId),
    DialFails(EndId),
    /// The other side is gone without a word.
    Breaks(EndId),
    DiskDone(NodeId, u32),
    MailToTorrent(EndId),
    MailToPeer(EndId),
    MailFromDisk(NodeId, u32),
    MailToSession(NodeId, u32),
    MailFromSession(NodeId, u32),
    Announce(NodeId, u32),
    Flap(NodeId, u32),
    Arrive(NodeId),
    Depart(NodeId),
    /// Who has taken leave is gone.
    HasLeft(NodeId, u32),
    /// A piece was read.
    Reads(NodeId, u32),
    HostTick(u32),
    /// The queue hears what moves.
    HostReport(u32),
    Act(u32),
    /// Bounds are checked.
    Watch,
}

/// Something that follows at once.
#[derive(Debug)]
enum Work {
    Peer(EndId, peer_session::Input),
    FromPeer(EndId, FromPeer),
    Session(NodeId, shoal_session::Input),
    FromSession(NodeId, shoal_session::Output),
    FromDisk(NodeId, DiskEvent),
    Read(EndId),
    Queue(u32, shoal_session::queue::Input),
}

/// How often bounds are checked and totals noted.
pub(crate) const WATCH: Duration = Duration::from_secs(5);

/// Nobody who wants something got a block for so long: they never will.
const STANDSTILL: Duration = Duration::from_secs(900);

/// Everything.
pub struct World {
    setup: Setup,
    layout: Arc<Layout>,
    now: Moment,
    queue: EventQueue<Event>,
    work: VecDeque<Work>,
    /// Decides what the network does.
    network: fastrand::Rng,
    /// Decides when messages between machines arrive.
    delivery: fastrand::Rng,
    nodes: Vec<Node>,
    hosts: Vec<Host>,
    ends: Vec<Option<Box<End>>>,
    checks: Checks,
    trace: Trace,
    messages: u64,
    unfinished: usize,
    last_completion: Moment,
    scratch: Vec<u8>,
    peer_outputs: Vec<peer_session::Output>,
    peer_inputs: VecDeque<peer_session::Input>,
    torrent_outputs: Vec<shoal_swarm::torrent::Output>,
    end_scratch: Vec<EndId>,
    /// The token of the block that is being read.
    arriving: Token,
}

impl core::fmt::Debug for World {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "World at {:?}, {:?}", self.now, self.trace)
    }
}

impl World {
    /// A swarm that has not begun.
    ///
    /// # Panics
    /// Where the setup is none: no bytes, or pieces of more than 64 blocks.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let layout = Layout::contiguous(setup.total_bytes, setup.piece_length)
            .expect("a setup has a layout that can be");
        assert!(
            layout.blocks_per_piece() <= MAX_BLOCKS_PER_PIECE,
            "pieces have at most {MAX_BLOCKS_PER_PIECE} blocks"
        );
        let layout = Arc::new(layout);
        let mut seeds = fastrand::Rng::with_seed(setup.seed);
        let blocks: Vec<u32> = layout
            .pieces()
            .map(|piece| layout.block_count(piece))
            .collect();
        let mut nodes = Vec::with_capacity(setup.nodes.len());
        for (config, id) in setup.nodes.iter().zip(0u32..) {
            nodes.push(life::newborn(
                &setup,
                &layout,
                config,
                NodeId(id),
                seeds.u64(..),
            ));
        }
        let have = nodes
            .iter()
            .map(|node| node.torrent.have().clone())
            .collect();
        let mut world = World {
            checks: Checks::new(have, &blocks).with_sessions(&setup.hosts),
            layout,
            now: Moment::ZERO,
            queue: EventQueue::new(),
            work: VecDeque::new(),
            network: fastrand::Rng::with_seed(seeds.u64(..)),
            delivery: fastrand::Rng::with_seed(seeds.u64(..)),
            nodes,
            hosts: setup.hosts.iter().map(Host::new).collect(),
            ends: Vec::new(),
            trace: Trace::new(),
            messages: 0,
            unfinished: 0,
            last_completion: Moment::ZERO,
            scratch: Vec::new(),
            peer_outputs: Vec::new(),
            peer_inputs: VecDeque::new(),
            torrent_outputs: Vec::new(),
            end_scratch: Vec::new(),
            arriving: RIGHT,
            setup,
        };
        world.schedule();
        world
    }

    /// Writes a line for everything that happens.
    pub fn trace_to(&mut self, lines: Box<dyn Write>) {
        self.trace.write_to(lines);
    }

    fn schedule(&mut self) {
        for (config, id) in self.setup.nodes.iter().zip(0u32..) {
            // Origins are there and take no part.
            if matches!(config.behaviour, Behaviour::Origin { .. }) {
                continue;
            }
            self.queue.push(config.arrives, Event::Arrive(NodeId(id)));
            if let Some(at) = config.departs {
                self.queue.push(at, Event::Depart(NodeId(id)));
            }
        }
        for ((at, _), id) in self.setup.actions.iter().zip(0u32..) {
            self.queue.push(*at, Event::Act(id));
        }
        self.queue.push(Moment::ZERO + WATCH, Event::Watch);
        self.schedule_hosts();
        for at in 0..self.nodes.len() {
            self.nodes[at].awaited = self.is_awaited(at);
        }
        self.unfinished = self.nodes.iter().filter(|node| node.awaited).count();
    }

    /// Whether the run goes on until this node has what it wants.
    fn is_awaited(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        let honest = node.config.behaviour == Behaviour::Honest;
        honest
            && node.config.departs.is_none()
            && node.completed.is_none()
            && !node.torrent.is_complete()
    }

    /// Runs until every honest node that stays has all it wants.
    ///
    /// # Errors
    /// Where a check found something, or not everybody was done in time.
    pub fn run(mut self) -> Result<Outcome, Failure> {
        while self.unfinished > 0 {
            let Some((at, event)) = self.queue.pop() else {
                return Err(self.failure("nothing will happen any more, and not everybody is done"));
            };
            if at > self.setup.bound {
                return Err(self.failure("not everybody was done in time"));
            }
            self.step(at, event);
            if !self.checks.violations().is_empty() {
                return Err(self.failure("a check failed"));
            }
        }
        Ok(self.outcome())
    }

    /// Runs until the bound, whoever is done; for what happens after completion.
    ///
    /// # Errors
    /// Where a check found something.
    pub fn run_to_bound(mut self) -> Result<Outcome, Failure> {
        while let Some((at, event)) = self.queue.pop() {
            if at > self.setup.bound {
                break;
            }
            self.step(at, event);
            if !self.checks.violations().is_empty() {
                return Err(self.failure("a check failed"));
            }
        }
        if self.unfinished > 0 {
            return Err(self.failure("not everybody was done in time"));
        }
        Ok(self.outcome())
    }

    fn step(&mut self, at: Moment, event: Event) {
        self.now = at;
        self.checks.at(at);
        self.dispatch(event);
        self.drain();
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Left(node, epoch) => self.on_left_uplink(node, epoch),
            Event::Arrives(end, segment) => self.on_arrives(end, segment),
            Event::Delivered(end, segment) => self.on_delivered(end, segment),
            Event::Opens(end) => self.offer_round(end),
            Event::PeerTick(end) => self.on_peer_tick(end),
            Event::TorrentTick(node, epoch) => self.on_torrent_tick(node, epoch),
            Event::SessionTick(node, epoch) => self.on_session_tick(node, epoch),
            Event::Report(node, epoch) => self.on_report(node, epoch),
            Event::Reaches(end) => self.on_reaches(end),
            Event::DialFails(end) => self.on_dial_fails(end),
            Event::Breaks(end) => self.on_breaks(end),
            Event::DiskDone(node, epoch) => self.on_disk_done(node, epoch),
            Event::MailToTorrent(end) => self.mail_to_torrent(end),
            Event::MailToPeer(end) => self.mail_to_peer(end),
            Event::MailFromDisk(node, epoch) => self.mail_from_disk(node, epoch),
            Event::MailToSession(node, epoch) => self.mail_to_session(node, epoch),
            Event::MailFromSession(node, epoch) => self.mail_from_session(node, epoch),
            Event::Announce(node, epoch) => self.on_announce(node, epoch),
            Event::Flap(node, epoch) => self.on_flap(node, epoch),
            Event::Arrive(node) => self.on_arrive(node),
            Event::Depart(node) => self.on_depart(node),
            Event::HasLeft(node, epoch) => self.on_has_left(node, epoch),
            Event::Reads(node, run) => self.on_reads(node, run),
            Event::HostTick(host) => self.on_host_tick(host),
            Event::HostReport(host) => self.on_host_report(host),
            Event::Act(action) => self.on_act(action),
            Event::Watch => self.on_watch(),
        }
    }

    /// All that follows from an event.
    fn drain(&mut self) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Peer(end, input) => self.peer_input(end, input),
                Work::FromPeer(end, message) => self.on_from_peer(end, message),
                Work::Session(node, input) => self.session_input(node, input),
                Work::FromSession(node, output) => self.on_session_output(node, output),
                Work::FromDisk(node, event) => self.on_disk_event(node, event),
                Work::Read(end) => self.read(end),
                Work::Queue(host, input) => self.queue_input(host, input),
            }
        }
    }

    fn end(&mut self, end: EndId) -> Option<&mut End> {
        self.ends.get_mut(end.get())?.as_deref_mut()
    }

    fn is_alive(&self, node: NodeId, epoch: u32) -> bool {
        let node = &self.nodes[node.get()];
        node.alive && node.epoch == epoch
    }

    const fn is_permuted(&self) -> bool {
        matches!(self.setup.delivery, Delivery::Permuted { .. })
    }

    /// When a message that follows one due at `after` is due.
    fn due(&mut self, after: Moment) -> Moment {
        let Delivery::Permuted { longest } = self.setup.delivery else {
            return self.now;
        };
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        // Most messages are quick, some are slow: the square of an even draw.
        let draw = self.delivery.f64();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let wait = (longest as f64 * draw * draw) as u64;
        after.max(self.now + Duration::from_nanos(wait))
    }

    fn failure(&self, reason: &str) -> Failure {
        let mut reasons = vec![format!("{:.3} s: {reason}", self.now.as_secs_f64())];
        reasons.extend_from_slice(self.checks.violations());
        Failure {
            reasons,
            state: self.dump(),
            seed: self.setup.seed,
        }
    }

    fn outcome(&self) -> Outcome {
        let nodes = self.nodes.iter().map(|node| NodeOutcome {
            completed: node.completed,
            verified: node.verified.clone(),
            sent_bytes: node.sent_bytes,
            samples: node.samples.clone(),
            received_bytes: node.received_bytes,
            duplicate_blocks: node.duplicate_blocks,
            discarded_blocks: node.discarded_blocks,
            super_seeded: node.super_seeded,
            banned: node
                .bans
                .iter()
                .filter_map(|&ip| crate::node::node_at(ip))
                .collect(),
            suspensions: node.suspensions,
            unreadable: node.unreadable,
            lost_connections: node.lost_connections,
            dials_adrift: node.dials_adrift,
            disk_operations: node.disk.operation_count(),
        });
        Outcome {
            nodes: nodes.collect(),
            last_completion: self.last_completion,
            trace: self.trace.hash(),
            events: self.trace.events(),
            messages: self.messages,
        }
    }
}
