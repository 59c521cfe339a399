//! Flows that share one link: uTP as it is, packet for packet, beside models of TCP.
//!
//! The way there has a bottleneck, a queue before it that drops what does not fit, and a fixed delay; after it, packets may be lost,
//! come late, twice or damaged. The way back has the delay and the faults, and room for everything.
//!
//! Invariant: the same setup, seed included, gives the same packets; uTP's payload leaves when the remote has answered and no sooner, and
//! arrives in order and undamaged, or the run panics.

mod tcp;
mod utp;

use crate::queue::EventQueue;
use core::time::Duration;
use shoal_machine::Moment;
use std::collections::VecDeque;

pub use tcp::Control;

/// The longest packet of most links.
const ETHERNET_BYTES: u64 = 1_500;

/// The shared link.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// What the bottleneck carries.
    pub rate_bytes_per_s: u64,
    /// A round trip without queue.
    pub round_trip: Duration,
    /// What may wait before the bottleneck.
    pub queue_bytes: u64,
    /// Longer packets vanish, with all headers, and nobody is told.
    pub longest_bytes: u64,
    /// Of a million packets, so many are lost behind the bottleneck, and on the way back.
    pub lost_per_million: u32,
    /// ... come up to `late_by` late.
    pub late_per_million: u32,
    /// How late.
    pub late_by: Duration,
    /// ... come twice.
    pub doubled_per_million: u32,
    /// ... come with one bit of their header turned.
    pub damaged_per_million: u32,
}

impl Path {
    /// A link without faults. `queue` is how long a full queue takes to leave.
    #[must_use]
    pub fn new(mbit_per_s: u64, round_trip: Duration, queue: Duration) -> Self {
        let rate_bytes_per_s = mbit_per_s * 125_000;
        let queue_bytes = u128::from(rate_bytes_per_s) * queue.as_micros() / 1_000_000;
        Path {
            rate_bytes_per_s,
            round_trip,
            queue_bytes: u64::try_from(queue_bytes).unwrap_or(u64::MAX),
            longest_bytes: ETHERNET_BYTES,
            lost_per_million: 0,
            late_per_million: 0,
            late_by: Duration::ZERO,
            doubled_per_million: 0,
            damaged_per_million: 0,
        }
    }
}

/// What a flow speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `shoal-utp`.
    Utp,
    /// A model of TCP.
    Tcp(Control),
}

/// One flow, which sends as much as it may.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// What it speaks.
    pub kind: Kind,
    /// When it begins.
    pub start: Duration,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The link.
    pub path: Path,
    /// Who uses it.
    pub flows: Vec<Flow>,
    /// How long it is watched.
    pub time: Duration,
    /// Decides all that is left to chance.
    pub seed: u64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of each flow, what it received of its stream, second by second.
    pub received_bytes: Vec<Vec<u64>>,
    /// Of each flow, what it put through the bottleneck with all headers, second by second.
    pub carried_bytes: Vec<Vec<u64>>,
    /// The longest wait in the queue, second by second.
    pub queue: Vec<Duration>,
    /// Packets that the queue had no room for.
    pub dropped: u64,
    /// The longest packet that went there, with all headers.
    pub longest_packet_bytes: u64,
    /// What the bottleneck carries in a second.
    pub rate_bytes_per_s: u64,
}

impl Outcome {
    /// The part of the link that a flow used from one second to another.
    #[must_use]
    pub fn share(&self, flow: usize, seconds: core::ops::Range<usize>) -> f64 {
        let length = seconds.len() as u64;
        let carried: u64 = self.carried_bytes[flow][seconds].iter().sum();
        carried as f64 / (self.rate_bytes_per_s * length) as f64
    }

    /// What a flow received in a second, on average.
    #[must_use]
    pub fn goodput_bytes_per_s(&self, flow: usize, seconds: core::ops::Range<usize>) -> f64 {
        let length = seconds.len() as f64;
        let received: u64 = self.received_bytes[flow][seconds].iter().sum();
        received as f64 / length
    }

    /// The longest wait in the queue.
    #[must_use]
    pub fn longest_queue(&self, seconds: core::ops::Range<usize>) -> Duration {
        self.queue[seconds]
            .iter()
            .copied()
            .max()
            .unwrap_or_default()
    }
}

/// A packet under way.
#[derive(Clone, Debug)]
enum Packet {
    Utp(Vec<u8>),
    /// The number of a segment, or of the segment that is acknowledged.
    Tcp(u64),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Start(usize),
    /// The first packet of the queue has left the bottleneck.
    Carried,
    /// A packet reaches the receiver of a flow, or its sender.
    Arrive {
        flow: usize,
        back: bool,
        packet: usize,
    },
    /// A flow wanted to be woken.
    Wake {
        flow: usize,
        back: bool,
    },
}

/// What an end of a flow has to say: packets, and when it wants to be woken.
#[derive(Debug, Default)]
struct Said {
    packets: Vec<(Packet, u64)>,
    wake: Option<Moment>,
    received_bytes: u64,
}

#[derive(Debug)]
enum Ends {
    Utp(Box<utp::Pair>),
    Tcp(tcp::Sender),
}

struct Run<'a> {
    setup: &'a Setup,
    now: Moment,
    events: EventQueue<Event>,
    ends: Vec<Option<Ends>>,
    packets: slab::Slab<Packet>,
    queue: VecDeque<(usize, usize, u64, Moment)>,
    queue_bytes: u64,
    dice: fastrand::Rng,
    outcome: Outcome,
    /// When each end is woken next, so that it is not woken twice.
    wakes: Vec<[Moment; 2]>,
}

/// Runs a setup.
#[must_use]
pub fn run(setup: &Setup) -> Outcome {
    let seconds = usize::try_from(setup.time.as_secs()).unwrap_or(0) + 1;
    let flows = setup.flows.len();
    let mut run = Run {
        setup,
        now: Moment::ZERO,
        events: EventQueue::new(),
        ends: setup.flows.iter().map(|_| None).collect(),
        packets: slab::Slab::new(),
        queue: VecDeque::new(),
        queue_bytes: 0,
        dice: fastrand::Rng::with_seed(setup.seed),
        outcome: Outcome {
            received_bytes: vec![vec![0; seconds]; flows],
            carried_bytes: vec![vec![0; seconds]; flows],
            queue: vec![Duration::ZERO; seconds],
            dropped: 0,
            longest_packet_bytes: 0,
            rate_bytes_per_s: setup.path.rate_bytes_per_s,
        },
        wakes: vec![[Moment::NEVER; 2]; flows],
    };
    for (at, flow) in setup.flows.iter().enumerate() {
        run.events.push(Moment::ZERO + flow.start, Event::Start(at));
    }
    let end = Moment::ZERO + setup.time;
    while let Some((at, event)) = run.events.pop()
        && at < end
    {
        run.now = at;
        run.happen(event);
    }
    run.outcome
}

impl Run<'_> {
    fn second(&self) -> usize {
        usize::try_from(self.now.as_nanos() / 1_000_000_000).unwrap_or(0)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(flow) => {
                let seed = self.dice.u64(..);
                let ends = match self.setup.flows[flow].kind {
                    Kind::Utp => Ends::Utp(Box::new(utp::Pair::new(self.now, flow, seed))),
                    Kind::Tcp(control) => Ends::Tcp(tcp::Sender::new(control)),
                };
                self.ends[flow] = Some(ends);
                self.speak(flow, false, None);
            }
            Event::Carried => self.carried(),
            Event::Arrive { flow, back, packet } => {
                let packet = self.packets.remove(packet);
                self.speak(flow, back, Some(&packet));
            }
            Event::Wake { flow, back } => {
                if self.wakes[flow][usize::from(back)] <= self.now {
                    self.wakes[flow][usize::from(back)] = Moment::NEVER;
                    self.speak(flow, back, None);
                }
            }
        }
    }

    /// An end of a flow gets a packet or its turn. `back` is the end that sends on the way back.
    fn speak(&mut self, flow: usize, back: bool, packet: Option<&Packet>) {
        let said = match &mut self.ends[flow] {
            Some(Ends::Utp(pair)) => pair.turn(self.now, back, packet),
            Some(Ends::Tcp(sender)) => sender.turn(self.now, back, packet),
            None => return,
        };
        let second = self.second();
        self.outcome.received_bytes[flow][second] += said.received_bytes;
        let fits = |(_, bytes): &(Packet, u64)| *bytes <= self.setup.path.longest_bytes;
        for (packet, bytes) in said.packets.into_iter().filter(fits) {
            match back {
                false => self.enqueue(flow, packet, bytes),
                true => self.travel(flow, true, packet),
            }
        }
        let wake = &mut self.wakes[flow][usize::from(back)];
        if let Some(at) = said.wake
            && at < *wake
        {
            *wake = at.max(self.now);
            self.events.push(*wake, Event::Wake { flow, back });
        }
    }

    fn enqueue(&mut self, flow: usize, packet: Packet, bytes: u64) {
        if self.queue_bytes + bytes > self.setup.path.queue_bytes && !self.queue.is_empty() {
            self.outcome.dropped += 1;
            return;
        }
        let packet = self.packets.insert(packet);
        if self.queue.is_empty() {
            self.events
                .push(self.now + self.takes(bytes), Event::Carried);
        }
        self.queue_bytes += bytes;
        self.queue.push_back((flow, packet, bytes, self.now));
    }

    fn takes(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes * 1_000_000_000 / self.setup.path.rate_bytes_per_s)
    }

    fn carried(&mut self) {
        let Some((flow, packet, bytes, came)) = self.queue.pop_front() else {
            return;
        };
        let second = self.second();
        self.queue_bytes -= bytes;
        self.outcome.carried_bytes[flow][second] += bytes;
        self.outcome.longest_packet_bytes = self.outcome.longest_packet_bytes.max(bytes);
        let waited = (self.now - came).saturating_sub(self.takes(bytes));
        let longest = &mut self.outcome.queue[second];
        *longest = (*longest).max(waited);
        if let Some(&(_, _, bytes, _)) = self.queue.front() {
            self.events
                .push(self.now + self.takes(bytes), Event::Carried);
        }
        let packet = self.packets.remove(packet);
        self.travel(flow, false, packet);
    }

    /// The delay and the faults of one way.
    fn travel(&mut self, flow: usize, back: bool, mut packet: Packet) {
        let path = self.setup.path;
        let mut happens = |per_million| self.dice.u32(..1_000_000) < per_million;
        if happens(path.lost_per_million) {
            return;
        }
        let copies = 1 + usize::from(happens(path.doubled_per_million));
        if happens(path.damaged_per_million)
            && let Packet::Utp(bytes) = &mut packet
        {
            let at = self.dice.usize(..20);
            bytes[at] ^= 1 << self.dice.u8(..8);
            // What UDP's checksum finds does not arrive; what it misses is one in 65,536, here one in two.
            if self.dice.bool() || !(4..16).contains(&at) {
                return;
            }
        }
        for _ in 0..copies {
            let mut at = self.now + path.round_trip / 2;
            if self.dice.u32(..1_000_000) < path.late_per_million {
                let late = u64::try_from(path.late_by.as_nanos()).unwrap_or(u64::MAX);
                at = at + Duration::from_nanos(self.dice.u64(..=late));
            }
            let packet = self.packets.insert(packet.clone());
            // The receiver of what goes there is the end that sends back.
            let back = !back;
            self.events.push(at, Event::Arrive { flow, back, packet });
        }
    }
}
