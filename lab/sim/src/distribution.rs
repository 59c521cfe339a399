//! Large swarms on listed links: how long until everybody has everything, over the least time in which that can be done.
//!
//! Invariant: a swarm is decided by its [`Plan`]; all policies get the same nodes on the same links.

use crate::scenario::{dice, exponential, fluid_bound_s, somewhere};
use crate::setup::{Choking, NodeConfig, Setup, mbit};
use crate::{Outcome, libtorrent};
use core::time::Duration;
use shoal_machine::Moment;
use shoal_session::Slots;

/// A kind of link: how many of a hundred peers have it, and Mbit/s up and down.
#[derive(Clone, Copy, Debug)]
pub struct LinkShare {
    /// Of a hundred peers.
    pub percent: u32,
    /// Mbit/s that it sends.
    pub up: u64,
    /// Mbit/s that it receives.
    pub down: u64,
}

const fn share(percent: u32, down: u64, up: u64) -> LinkShare {
    LinkShare { percent, up, down }
}

/// Links of a population, and its seed's.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// What it is called on the command line.
    pub name: &'static str,
    /// The kinds of links, shares adding up to a hundred.
    pub links: &'static [LinkShare],
    /// Mbit/s that the seed sends.
    pub seed_up: u64,
}

/// Homes as they are: cable and copper for most, some on fibre. The bound is what all can send together.
pub const HOMES: Mix = Mix {
    name: "homes",
    links: &[
        share(20, 20, 5),
        share(30, 50, 10),
        share(30, 100, 20),
        share(20, 250, 25),
    ],
    seed_up: 20,
};

/// The same with one of twenty on symmetric fibre, which can send more than all others. The bound is what the slowest can
/// receive.
pub const FIBRE: Mix = Mix {
    name: "fibre",
    links: &[
        share(20, 20, 5),
        share(30, 50, 10),
        share(30, 100, 20),
        share(15, 250, 25),
        share(5, 1_000, 1_000),
    ],
    seed_up: 100,
};

/// Links so uneven that all can send little more than the slowest must receive: they have to receive at nearly full rate
/// from the first second to the last, from peers to whom they can give next to nothing.
pub const STEEP: Mix = Mix {
    name: "steep",
    links: &[share(40, 16, 2), share(40, 50, 10), share(20, 100, 50)],
    seed_up: 20,
};

/// All of them.
pub const MIXES: &[Mix] = &[HOMES, FIBRE, STEEP];

/// What is to be distributed to whom.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides who has which link, and all that is left to chance.
    pub seed: u64,
    /// Peers besides the seed.
    pub peers: u32,
    /// Their links.
    pub mix: Mix,
    /// Bytes of the content, in [`PIECES`] pieces.
    pub total_bytes: u64,
    /// Content and links are divided by this: the same swarm in the same time, with fewer and, relatively, larger blocks.
    pub scale: u64,
    /// The most connections of a node.
    pub connections: u32,
    /// How long an uplink serves one stream at a time.
    pub burst: Duration,
    /// Who decides whom everybody unchokes.
    pub choking: Choking,
    /// Half of the peers arrive during the time of the bound, and leave when they are done or lose patience.
    pub churn: bool,
}

/// Pieces of the content.
pub const PIECES: u64 = 1_024;

/// How much longer than the bound a run may take.
const PATIENCE: f64 = 6.0;

impl Plan {
    /// The swarm.
    #[must_use]
    pub fn setup(&self) -> Setup {
        let mut dice = dice(self.seed);
        let total_bytes = self.total_bytes / self.scale;
        let mut nodes = vec![NodeConfig {
            up_bytes_per_s: mbit(self.mix.seed_up) / self.scale,
            ..NodeConfig::seed()
        }];
        for peer in 0..self.peers {
            let link = self.link_of(peer);
            let config = NodeConfig {
                up_bytes_per_s: mbit(link.up) / self.scale,
                down_bytes_per_s: mbit(link.down) / self.scale,
                ..NodeConfig::default()
            };
            nodes.push(config);
        }
        // The links are the listed shares exactly; who has which is left to chance.
        dice.shuffle(&mut nodes[1..]);
        for node in &mut nodes {
            *node = somewhere(node.clone(), &mut dice);
            node.settings.max_connections_per_torrent = self.connections;
            node.choking = self.choking;
            if self.choking == Choking::Libtorrent {
                node.settings.slots = Slots::Fixed(libtorrent::SLOTS);
            }
        }
        let mut setup = Setup {
            seed: self.seed,
            total_bytes,
            piece_length: u32::try_from(total_bytes.div_ceil(PIECES)).unwrap_or(u32::MAX),
            nodes,
            burst: self.burst,
            ..Setup::default()
        };
        let bound = fluid_bound_s(&setup);
        setup.bound = Moment::ZERO + Duration::from_secs_f64(bound * PATIENCE);
        if self.churn {
            for node in setup.nodes[1..].iter_mut().step_by(2) {
                node.arrives = Moment::ZERO + Duration::from_secs_f64(bound * dice.f64());
                let stay = exponential(Duration::from_secs_f64(bound), &mut dice);
                node.departs = Some(node.arrives + stay);
            }
        }
        setup
    }

    fn link_of(&self, peer: u32) -> LinkShare {
        let mut place = u64::from(peer) * 100 / u64::from(self.peers.max(1));
        for link in self.mix.links {
            if place < u64::from(link.percent) {
                return *link;
            }
            place -= u64::from(link.percent);
        }
        self.mix.links[0]
    }
}

/// What came of one kind of link.
#[derive(Clone, Debug)]
pub struct Class {
    /// The link.
    pub link: LinkShare,
    /// Peers that had to fetch everything, and did.
    pub peers: usize,
    /// When they had everything, over the bound: the median and the last.
    pub median: f64,
    /// See `median`.
    pub last: f64,
    /// The share of their uplinks that carried payload, by tenths of the time to the last completion.
    pub up_busy: [f64; TENTHS],
    /// The same of their downlinks.
    pub down_busy: [f64; TENTHS],
}

/// In so many parts the time is cut.
const TENTHS: usize = 10;

/// What came of a plan.
#[derive(Clone, Debug)]
pub struct Result {
    /// The fluid bound, seconds.
    pub bound_s: f64,
    /// The last completion of those who stay, seconds.
    pub last_s: f64,
    /// When each piece was at some peer, seconds.
    pub copied_s: f64,
    /// Payload received beyond what was needed, over what was needed.
    pub vain: f64,
    /// By link, the seed first.
    pub classes: Vec<Class>,
}

impl Result {
    /// Reads it from an outcome.
    #[must_use]
    pub fn of(plan: &Plan, setup: &Setup, outcome: &Outcome) -> Self {
        let bound_s = fluid_bound_s(setup);
        let seed = share(0, plan.mix.seed_up, plan.mix.seed_up);
        let mut classes = vec![Class::of(plan, setup, outcome, seed, &[0])];
        for &link in plan.mix.links {
            let (up, down) = (mbit(link.up) / plan.scale, mbit(link.down) / plan.scale);
            let has_it = |&node: &usize| {
                let config = &setup.nodes[node];
                (config.up_bytes_per_s, config.down_bytes_per_s) == (up, down)
            };
            let nodes: Vec<usize> = (1..setup.nodes.len()).filter(has_it).collect();
            classes.push(Class::of(plan, setup, outcome, link, &nodes));
        }
        Result {
            bound_s,
            last_s: outcome.last_completion.as_secs_f64(),
            copied_s: outcome.last_first_copy().as_secs_f64(),
            vain: outcome.overhead(setup) - 1.0,
            classes,
        }
    }

    /// The last completion over the bound.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.last_s / self.bound_s
    }
}

impl Class {
    #[allow(clippy::cast_precision_loss)]
    fn of(plan: &Plan, setup: &Setup, outcome: &Outcome, link: LinkShare, nodes: &[usize]) -> Self {
        let bound = fluid_bound_s(setup);
        let done = |&node: &usize| outcome.nodes[node].completed.map(Moment::as_secs_f64);
        let mut done: Vec<f64> = nodes.iter().filter_map(done).collect();
        done.sort_by(f64::total_cmp);
        let samples: Vec<(u64, u64)> = totals(outcome, nodes);
        let busy = |mbit_per_s: u64, of: fn(&(u64, u64)) -> u64| {
            let capacity = (mbit(mbit_per_s) / plan.scale) as f64 * nodes.len() as f64;
            let bytes_in_step = capacity * Outcome::SAMPLE.as_secs_f64();
            core::array::from_fn(|tenth| {
                let at = |tenth: usize| (samples.len() - 1) * tenth / TENTHS;
                let (from, to) = (at(tenth), at(tenth + 1));
                let bytes = of(&samples[to]).saturating_sub(of(&samples[from]));
                bytes as f64 / (bytes_in_step * (to - from) as f64).max(1.0)
            })
        };
        Class {
            link,
            peers: done.len(),
            median: done.get(done.len() / 2).copied().unwrap_or(0.0) / bound,
            last: done.last().copied().unwrap_or(0.0) / bound,
            up_busy: busy(link.up, |&(sent, _)| sent),
            down_busy: busy(link.down, |&(_, received)| received),
        }
    }
}

/// What these nodes had sent and received together as of each sample, from nothing on.
fn totals(outcome: &Outcome, nodes: &[usize]) -> Vec<(u64, u64)> {
    let mut totals = vec![(0, 0)];
    for at in 0.. {
        let samples = nodes
            .iter()
            .filter_map(|&node| outcome.nodes[node].samples.get(at));
        let sum = samples.copied().reduce(|a, b| (a.0 + b.0, a.1 + b.1));
        match sum {
            Some(sum) => totals.push(sum),
            None => break,
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_each_mix_add_up_and_are_kept() {
        for mix in MIXES {
            let sum: u32 = mix.links.iter().map(|link| link.percent).sum();
            assert_eq!(sum, 100, "{}", mix.name);
            let plan = Plan {
                seed: 1,
                peers: 200,
                mix: *mix,
                total_bytes: 1 << 30,
                scale: 4,
                connections: 50,
                burst: Duration::ZERO,
                choking: Choking::Ours,
                churn: false,
            };
            let setup = plan.setup();
            for link in mix.links {
                let rate = mbit(link.up) / 4;
                let count = setup.nodes[1..]
                    .iter()
                    .filter(|node| node.up_bytes_per_s == rate)
                    .count();
                assert_eq!(count, 2 * link.percent as usize, "{}", mix.name);
            }
        }
    }
}
