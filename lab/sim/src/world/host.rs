//! Sessions of several torrents: each torrent is a node, with links and a session of its own, and runs when the queue says so.
//!
//! Invariant: a node of a host is alive from a `Start` to the end of the leave that follows its `Stop`, and at no other time.

use super::{Event, Work, World};
use crate::check::Turn;
use crate::node::Wake;
use crate::setup::{HostConfig, NodeId};
use core::time::Duration;
use shoal_machine::{Machine, Moment};
use shoal_session::TorrentKey;
use shoal_session::queue::{
    Activity, Input, Output, OwnLimits, Progress, Queue, Swarm, Then, Torrent, Wish,
};
use shoal_swarm::torrent;
use std::collections::BTreeMap;

/// How often the queue hears what moves.
const REPORT: Duration = Duration::from_secs(1);

/// One session.
#[derive(Debug)]
pub(super) struct Host {
    queue: Queue,
    wake: Wake,
    seats: BTreeMap<NodeId, Seat>,
}

/// One torrent of it.
#[derive(Debug, Default)]
struct Seat {
    wish: Wish,
    /// The queue wants it to run.
    runs: bool,
    /// As of the last report.
    sent_bytes: u64,
    received_bytes: u64,
    seeding: Duration,
    idle: Duration,
}

impl Host {
    pub(super) fn new(config: &HostConfig) -> Self {
        let seats = config.torrents.iter();
        Host {
            queue: Queue::new(config.queue),
            wake: Wake::default(),
            seats: seats.map(|&node| (node, Seat::default())).collect(),
        }
    }
}

fn key(node: NodeId) -> TorrentKey {
    TorrentKey(u64::from(node.0) + 1)
}

fn node_of(key: TorrentKey) -> NodeId {
    NodeId(u32::try_from(key.0 - 1).unwrap_or(u32::MAX))
}

impl World {
    pub(super) fn schedule_hosts(&mut self) {
        for at in (0u32..).take(self.hosts.len()) {
            self.queue
                .push(Moment::ZERO + REPORT, Event::HostReport(at));
        }
    }

    /// A torrent is added to its session.
    pub(super) fn add_to_queue(&mut self, host: u32, node: NodeId) {
        let torrent = Torrent {
            wish: Wish::Queued,
            work: self.work_of(node),
            limits: OwnLimits::default(),
            gave_enough: None,
            beyond_limits: false,
            progress: Progress::default(),
        };
        self.tell_queue(host, Input::Added(key(node), torrent));
    }

    /// What is to be done for a torrent may be something else.
    pub(super) fn work_changed(&mut self, node: NodeId) {
        if let Some(host) = self.nodes[node.get()].host {
            let work = self.work_of(node);
            self.tell_queue(host, Input::Work(key(node), work));
        }
    }

    fn work_of(&self, node: NodeId) -> shoal_session::queue::Work {
        use shoal_session::queue::Work;
        let state = &self.nodes[node.get()];
        match (state.unread, state.torrent.is_complete()) {
            (true, _) => Work::Check { asked: false },
            (false, true) => Work::Seed,
            (false, false) => Work::Download,
        }
    }

    /// A person wants something else of a torrent.
    pub(super) fn wish(&mut self, node: NodeId, wish: Wish) {
        let Some(host) = self.nodes[node.get()].host else {
            return self.checks.violate("a wish about a torrent of no session");
        };
        if let Some(seat) = self.hosts[host as usize].seats.get_mut(&node) {
            seat.wish = wish;
        }
        self.checks.asked(host, node);
        self.tell_queue(host, Input::Wish(key(node), wish));
    }

    /// What the tracker says of a torrent's swarm.
    pub(super) fn swarm_is(&mut self, node: NodeId, seeds: usize, leeches: usize) {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(host) = self.nodes[node.get()].host {
            let (seeds, leeches) = (count(seeds), count(leeches));
            self.tell_queue(host, Input::Swarm(key(node), Swarm { seeds, leeches }));
        }
    }

    fn tell_queue(&mut self, host: u32, input: Input) {
        self.work.push_back(Work::Queue(host, input));
    }

    pub(super) fn on_host_tick(&mut self, host: u32) {
        let now = self.now;
        if self.hosts[host as usize].wake.came(now) {
            self.tell_queue(host, Input::Tick);
        }
    }

    /// One input to a queue and all its outputs. What these cause is said to it afterwards.
    pub(super) fn queue_input(&mut self, host: u32, input: Input) {
        let now = self.now;
        self.trace.line(now, || format!("queue {host}: {input:?}"));
        self.hosts[host as usize].queue.handle(now, input);
        while let Some(output) = self.hosts[host as usize].queue.poll() {
            self.trace
                .line(now, || format!("queue {host} says {output:?}"));
            self.on_queue_output(host, output);
        }
        let state = &mut self.hosts[host as usize];
        if let Some(at) = state.queue.deadline()
            && state.wake.wants(at)
        {
            self.queue.push(at.max(now), Event::HostTick(host));
        }
    }

    fn on_queue_output(&mut self, host: u32, output: Output) {
        match output {
            Output::Start(key, activity) => {
                let node = node_of(key);
                self.checks.started(host, node, activity);
                self.trace
                    .note(self.now, [3 << 40 | u64::from(node.0), activity as u64, 1]);
                self.set_running(host, node, true);
                self.start_torrent(node);
            }
            Output::Stop(key, why) => {
                let node = node_of(key);
                self.checks.stopped(host, node);
                self.trace
                    .note(self.now, [3 << 40 | u64::from(node.0), why as u64, 2]);
                self.set_running(host, node, false);
                self.call_off_check(node);
                if self.nodes[node.get()].alive {
                    self.take_leave(node);
                }
            }
            Output::LimitReached(key, _, Then::SuperSeed) => {
                let node = node_of(key);
                self.torrent_input(node, torrent::Input::SuperSeed(true));
                let state = &mut self.nodes[node.get()];
                state.super_seeded |= state.torrent.is_super_seeding();
            }
            Output::LimitReached(key, ..) => self.checks.gave_enough(host, node_of(key)),
        }
    }

    fn set_running(&mut self, host: u32, node: NodeId, runs: bool) {
        if let Some(seat) = self.hosts[host as usize].seats.get_mut(&node) {
            seat.runs = runs;
        }
    }

    /// Begins what is to be done for a torrent, at once or when it has taken leave of what it did before.
    fn start_torrent(&mut self, node: NodeId) {
        let state = &self.nodes[node.get()];
        if state.leaves {
            return;
        }
        match state.unread {
            true => self.read_all(node),
            false => self.restart(node),
        }
    }

    /// A torrent has taken leave.
    pub(super) fn has_left(&mut self, node: NodeId) {
        let Some(host) = self.nodes[node.get()].host else {
            return;
        };
        let seat = self.hosts[host as usize].seats.get(&node);
        if seat.is_some_and(|seat| seat.runs) {
            self.start_torrent(node);
        }
    }

    /// The queue hears what moves, and the books look at what runs.
    pub(super) fn on_host_report(&mut self, host: u32) {
        let nodes: Vec<NodeId> = self.hosts[host as usize].seats.keys().copied().collect();
        let mut turns = Vec::with_capacity(nodes.len());
        for node in nodes {
            turns.extend(self.report_torrent(host, node));
        }
        self.checks.second(host, &turns);
        self.queue.push(self.now + REPORT, Event::HostReport(host));
    }

    fn report_torrent(&mut self, host: u32, node: NodeId) -> Option<Turn> {
        let state = &self.nodes[node.get()];
        if self.now < state.config.arrives {
            return None;
        }
        let complete = state.torrent.is_complete();
        let runs = state.alive && !state.leaves;
        let (sent, received) = (state.sent_bytes, state.received_bytes);
        let total = self.setup.total_bytes.max(1);
        let holds = self.checks.holds(node).count();
        let verified = u64::from(holds) * u64::from(self.setup.piece_length);
        let activity = match self.work_of(node) {
            shoal_session::queue::Work::Check { .. } => Activity::Check,
            shoal_session::queue::Work::Download => Activity::Download,
            shoal_session::queue::Work::Seed => Activity::Seed,
        };
        let seat = self.hosts[host as usize].seats.get_mut(&node)?;
        let up = sent - core::mem::replace(&mut seat.sent_bytes, sent);
        let down = received - core::mem::replace(&mut seat.received_bytes, received);
        if runs && complete {
            seat.seeding += REPORT;
            seat.idle = if up == 0 {
                seat.idle + REPORT
            } else {
                Duration::ZERO
            };
        }
        let progress = Progress {
            download_bytes_per_s: down,
            upload_bytes_per_s: up,
            uploaded_bytes: sent,
            downloaded_bytes: received,
            verified_bytes: verified.min(total),
            seeding: seat.seeding,
            idle: seat.idle,
        };
        let turn = Turn {
            node,
            wish: seat.wish,
            activity,
            moved_bytes: if activity == Activity::Seed { up } else { down },
            ratio_permille: sent * 1_000 / received.max(total),
        };
        if runs {
            self.tell_queue(host, Input::Progress(key(node), progress));
        }
        Some(turn)
    }
}
