//! Swarms about what a person asks of a session: who runs, who stops, who is read, who is shunned.

use super::{dice, small, somewhere};
use crate::setup::{Action, Delivery, HostConfig, NodeConfig, NodeId, Setup, Start, mbit};
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, PieceIndex};
use shoal_session::queue::{Settings, ShareLimits, SlowRule, Then, Wish};

const fn at(second: u64) -> Moment {
    Moment::from_secs(second)
}

/// Every fifth second somebody pauses one of the peers, or the seed, for some seconds.
#[must_use]
pub fn pauses(seed: u64) -> Setup {
    let mut dice = dice(seed);
    let mut setup = small(seed, 4);
    setup.total_bytes = 16 * 1024 * 1024;
    for turn in 0..8 {
        let node = NodeId(dice.u32(0..5));
        let from = Moment::from_nanos(dice.u64(1_000_000_000..5_000_000_000)) + 6 * turn * SECOND;
        setup.actions.push((from, Action::Stop(node)));
        let until = from + Duration::from_millis(dice.u64(2_500..5_000));
        setup.actions.push((until, Action::Restart(node)));
    }
    // A pause may last into the next one of the same node.
    setup.actions.sort_by_key(|(at, _)| *at);
    one_at_a_time(&mut setup.actions);
    setup
}

const SECOND: Duration = Duration::from_secs(1);

/// Drops what would stop who has stopped, or start who runs.
fn one_at_a_time(actions: &mut Vec<(Moment, Action)>) {
    let mut stopped = Vec::new();
    actions.retain(|(_, action)| match action {
        Action::Stop(node) => {
            let runs = !stopped.contains(node);
            stopped.extend(runs.then_some(*node));
            runs
        }
        Action::Restart(node) => {
            let place = stopped.iter().position(|other| other == node);
            place.is_some_and(|place| stopped.remove(place) == *node)
        }
        _ => true,
    });
}

/// Node 1 has nothing to do with nodes 2 and 3 from the start, nor from the fourth second on with the seed, which is let in again
/// in the fifteenth.
#[must_use]
pub fn shunned(seed: u64) -> Setup {
    let mut setup = small(seed, 6);
    setup.total_bytes = 32 * 1024 * 1024;
    let shun = |second, others: &[u32]| {
        let others = others.iter().map(|&node| NodeId(node)).collect();
        (at(second), Action::Shun(NodeId(1), others))
    };
    setup.actions = vec![shun(0, &[2, 3]), shun(4, &[0, 2, 3]), shun(15, &[2, 3])];
    // Those who are shunned know of it nothing, and have only it and the seed to dial.
    setup.nodes[2].isolated = Some(vec![NodeId(0), NodeId(1)]);
    setup
}

/// The interface of node 1, whom nobody can dial, is gone for a minute and a half; that of node 2 goes and comes back again and again,
/// and that of the seed is gone for a while.
#[must_use]
pub fn adrift(seed: u64) -> Setup {
    let mut dice = dice(seed);
    let mut setup = small(seed, 6);
    setup.total_bytes = 64 * 1024 * 1024;
    setup.nodes[1].nat = true;
    let mut gone = |node, from: u64, for_ms: u64| {
        let from = Moment::from_nanos(from * 1_000_000);
        let actions = &mut setup.actions;
        actions.push((from, Action::InterfaceGoes(NodeId(node))));
        let until = from + Duration::from_millis(for_ms);
        actions.push((until, Action::InterfaceReturns(NodeId(node))));
    };
    gone(1, dice.u64(5_000..9_000), ADRIFT_MS);
    for turn in 0..4 {
        gone(2, 4_000 + 4_000 * turn, dice.u64(100..3_000));
    }
    gone(0, dice.u64(20_000..25_000), dice.u64(5_000..15_000));
    setup
}

/// How long node 1 of [`adrift`] has no interface, in milliseconds.
pub const ADRIFT_MS: u64 = 90_000;

/// Of a seed and of a peer some pieces rot, and a person has all of both read again while the others download.
#[must_use]
pub fn rechecked(seed: u64) -> Setup {
    let mut dice = dice(seed);
    let mut setup = small(seed, 4);
    setup.total_bytes = 16 * 1024 * 1024;
    // The seed's rotten pieces have to be at somebody else.
    setup.nodes.push(NodeConfig::seed());
    for (node, second) in [(0, 2), (1, dice.u64(3..8))] {
        let node = NodeId(node);
        let rotten = (0..64).filter(|_| dice.u8(..) < 50).map(PieceIndex);
        let rotten = rotten.collect();
        setup.actions.push((at(second), Action::Rot(node, rotten)));
        setup.actions.push((at(second), Action::Recheck(node)));
    }
    setup
}

/// Delivers what machines say to each other late.
#[must_use]
pub fn late(setup: Setup, longest: Duration) -> Setup {
    Setup {
        delivery: Delivery::Permuted { longest },
        ..setup
    }
}

/// Puts a swarm of its own around each torrent of a session: so many others, the first of which has everything where `seeded`.
fn around(setup: &mut Setup, torrent: NodeConfig, others: u32, seeded: bool) -> NodeId {
    let swarm = u8::try_from(setup.nodes.len()).unwrap_or(u8::MAX);
    let ours = NodeId(u32::try_from(setup.nodes.len()).unwrap_or(u32::MAX));
    let mut dice = dice(setup.seed ^ u64::from(swarm));
    let torrent = NodeConfig { swarm, ..torrent };
    setup.nodes.push(somewhere(torrent, &mut dice));
    for other in 0..others {
        let config = match other == 0 && seeded {
            true => NodeConfig::seed(),
            false => NodeConfig::default(),
        };
        let config = NodeConfig { swarm, ..config };
        setup.nodes.push(somewhere(config, &mut dice));
    }
    ours
}

/// Slow torrents are found after ten seconds, and a seed's turn lasts forty.
fn quick() -> Settings {
    Settings {
        max_downloads: Some(2),
        max_seeds: Some(2),
        max_active: Some(5),
        slow: Some(SlowRule {
            after: Duration::from_secs(10),
            ..SlowRule::default()
        }),
        seed_turn: Duration::from_secs(40),
        ..Settings::default()
    }
}

/// A session of eight downloads, two of which find nobody until the second minute, and one of which is forced. Two run at a time besides
/// those that hardly move.
#[must_use]
pub fn queue_of_downloads(seed: u64) -> Setup {
    let mut setup = Setup {
        seed,
        total_bytes: 16 * 1024 * 1024,
        bound: at(600),
        ..Setup::default()
    };
    let mut torrents = Vec::new();
    for number in 0..8 {
        let lonely = matches!(number, 0 | 3);
        let node = around(&mut setup, NodeConfig::default(), 1, true);
        if lonely {
            setup.nodes[node.get() + 1].arrives = at(90);
        }
        torrents.push(node);
    }
    setup.actions = vec![
        (at(1), Action::Wish(torrents[7], Wish::Forced)),
        (at(4), Action::Wish(torrents[2], Wish::Paused)),
        (at(60), Action::Wish(torrents[2], Wish::Queued)),
    ];
    setup.hosts.push(HostConfig {
        torrents,
        queue: quick(),
        patience: Duration::from_secs(120),
    });
    setup
}

/// A session of six seeds, two of which run at a time, in turn; each is asked by two peers that come one after the other, and has given
/// enough when it has sent two copies, or, where it becomes a super-seed then, half of one.
#[must_use]
pub fn queue_of_seeds(seed: u64, then: Then) -> Setup {
    let mut setup = Setup {
        seed,
        total_bytes: 8 * 1024 * 1024,
        bound: at(600),
        ..Setup::default()
    };
    let mut torrents = Vec::new();
    for number in 0..6 {
        let ours = NodeConfig {
            start: Start::Full,
            up_bytes_per_s: mbit(2),
            ..NodeConfig::default()
        };
        let node = around(&mut setup, ours, 2, false);
        // They have nobody else, and nothing to give to each other.
        for (other, arrives) in [(1, at(0)), (2, at(20 * number))] {
            let other = &mut setup.nodes[node.get() + other];
            (other.isolated, other.arrives) = (Some(vec![node]), arrives);
        }
        torrents.push(node);
    }
    setup.hosts.push(HostConfig {
        torrents,
        queue: Settings {
            max_active: None,
            share: ShareLimits {
                ratio_permille: Some(if then == Then::SuperSeed { 500 } else { 2_000 }),
                then,
                ..ShareLimits::default()
            },
            ..quick()
        },
        patience: Duration::from_secs(130),
    });
    setup
}

/// A session that begins without knowing what is on the disk of its five torrents: all, parts, and rotten parts. One is read at a time.
#[must_use]
pub fn unread(seed: u64) -> Setup {
    let mut setup = Setup {
        seed,
        bound: at(900),
        ..Setup::default()
    };
    let mut dice = dice(seed);
    let mut torrents = Vec::new();
    for number in 0..5 {
        let mut there = Bitfield::empty(16);
        for piece in (0..16).filter(|_| number == 0 || dice.bool()) {
            there.insert(PieceIndex(piece));
        }
        let rotten = there.iter().filter(|_| number != 0 && dice.u8(..) < 80);
        let ours = NodeConfig {
            rotten: rotten.collect(),
            start: Start::Some(there),
            unread: true,
            ..NodeConfig::default()
        };
        torrents.push(around(&mut setup, ours, 2, true));
    }
    setup.hosts.push(HostConfig {
        torrents,
        queue: quick(),
        patience: Duration::from_secs(120),
    });
    setup
}
