//! Swarms that are worth running again, by name.
//!
//! Invariant: a scenario and a seed are a setup, the same one each time.

pub mod session;

use crate::setup::{
    Action, Behaviour, Delivery, DiskConfig, NodeConfig, NodeId, Outage, OutageKind, Proof, Setup,
    Start, mbit,
};
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::{Bitfield, PieceIndex};
use shoal_session::queue::Then;
use shoal_session::{Settings, Slots};

/// A named swarm.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub summary: &'static str,
    /// It, for a seed.
    pub setup: fn(u64) -> Setup,
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "figure-1",
        summary: "256 MiB from one seed to 1 peer of the even mix",
        setup: |seed| figure(seed, 1, even),
    },
    Scenario {
        name: "figure-50",
        summary: "256 MiB from one seed to 50 peers of the even mix",
        setup: |seed| figure(seed, 50, even),
    },
    Scenario {
        name: "figure-500",
        summary: "256 MiB from one seed to 500 peers of the even mix",
        setup: |seed| figure(seed, 500, even),
    },
    Scenario {
        name: "mixed-50",
        summary: "256 MiB from one seed to 50 peers of the mix of links",
        setup: |seed| figure(seed, 50, mixed),
    },
    Scenario {
        name: "mixed-500",
        summary: "256 MiB from one seed to 500 peers of the mix of links",
        setup: |seed| figure(seed, 500, mixed),
    },
    Scenario {
        name: "churn",
        summary: "peers come and go, some of them for good",
        setup: churn,
    },
    Scenario {
        name: "liar",
        summary: "one peer of ten sends bad blocks",
        setup: |seed| liars(seed, 1, Proof::Pieces),
    },
    Scenario {
        name: "liars",
        summary: "two peers of eleven send bad blocks",
        setup: |seed| liars(seed, 2, Proof::Pieces),
    },
    Scenario {
        name: "liars-v2",
        summary: "two peers of eleven send bad blocks of a v2 torrent",
        setup: |seed| liars(seed, 2, Proof::Blocks),
    },
    Scenario {
        name: "free-rider",
        summary: "two peers of twelve never upload",
        setup: free_riders,
    },
    Scenario {
        name: "disk-full",
        summary: "a disk is full for a minute",
        setup: disk_full,
    },
    Scenario {
        name: "missing-volume",
        summary: "the drives of the seed and of a peer are gone for a while",
        setup: missing_volume,
    },
    Scenario {
        name: "moved",
        summary: "files are moved again and again while they are downloaded",
        setup: moved,
    },
    Scenario {
        name: "slow-disk",
        summary: "a disk is slower than the network",
        setup: slow_disk,
    },
    Scenario {
        name: "permuted",
        summary: "a small swarm whose machines hear of each other late and out of order",
        setup: permuted,
    },
    Scenario {
        name: "late-liars",
        summary: "two liars, and machines that hear of each other late",
        setup: |seed| late_liars(seed, Proof::Pieces),
    },
    Scenario {
        name: "late-liars-v2",
        summary: "the same with block hashes",
        setup: |seed| late_liars(seed, Proof::Blocks),
    },
    Scenario {
        name: "late-company",
        summary: "odd company, and machines that hear of each other late",
        setup: late_company,
    },
    Scenario {
        name: "odd-company",
        summary: "rejecters, flappers, peers that stop mid-block, NAT, loss",
        setup: odd_company,
    },
    Scenario {
        name: "word-of-mouth",
        summary: "the tracker knows one seed, and its peers learn of each other by peer exchange",
        setup: word_of_mouth,
    },
    Scenario {
        name: "super-seed",
        summary: "64 MiB from one super-seed to 30 peers of the mix of links",
        setup: |seed| first_seed(seed, true),
    },
    Scenario {
        name: "origin",
        summary: "a peer and an HTTP origin of 50 Mbit/s each race for the blocks of one download",
        setup: |seed| origin(seed, mbit(50)),
    },
    Scenario {
        name: "slow-origin",
        summary: "the same with an origin of 20 KB/s",
        setup: |seed| origin(seed, 20_000),
    },
    Scenario {
        name: "lying-origin",
        summary: "an HTTP origin of which one block of ten is wrong, among honest peers",
        setup: lying_origin,
    },
    Scenario {
        name: "pauses",
        summary: "peers and the seed are paused and resumed again and again",
        setup: session::pauses,
    },
    Scenario {
        name: "shunned",
        summary: "a peer has nothing to do with some of the others",
        setup: session::shunned,
    },
    Scenario {
        name: "adrift",
        summary: "interfaces of the seed and of peers go and come back",
        setup: session::adrift,
    },
    Scenario {
        name: "rechecked",
        summary: "pieces rot, and all that a seed and a peer have is read again",
        setup: session::rechecked,
    },
    Scenario {
        name: "queue-downloads",
        summary: "a session of eight downloads, two of which run at a time",
        setup: session::queue_of_downloads,
    },
    Scenario {
        name: "queue-seeds",
        summary: "a session of six seeds, two of which run at a time until each has given enough",
        setup: |seed| session::queue_of_seeds(seed, Then::Pause),
    },
    Scenario {
        name: "unread",
        summary: "a session of five torrents that begins without knowing what is on its disk",
        setup: session::unread,
    },
    Scenario {
        name: "partial-seeds",
        summary: "nobody has everything, together they do",
        setup: partial_seeds,
    },
];

/// The scenario of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

pub(crate) fn dice(seed: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed ^ 0x5ca1_ab1e)
}

/// Somewhere on the network: 5 to 20 ms from its middle, so that round trips take 20 to 80 ms.
pub(crate) fn somewhere(config: NodeConfig, dice: &mut fastrand::Rng) -> NodeConfig {
    NodeConfig {
        latency: Duration::from_micros(dice.u64(5_000..20_000)),
        ..config
    }
}

/// The even mix: everybody has 10 Mbit/s up and 50 Mbit/s down.
#[must_use]
pub fn even(_dice: &mut fastrand::Rng) -> NodeConfig {
    NodeConfig::default()
}

/// The mix of links: 40 % at 2/16 Mbit/s, 40 % at 10/50, 20 % at 50/100 (up/down).
#[must_use]
pub fn mixed(dice: &mut fastrand::Rng) -> NodeConfig {
    let (up, down) = match dice.u32(..10) {
        0..4 => (2, 16),
        4..8 => (10, 50),
        _ => (50, 100),
    };
    NodeConfig {
        up_bytes_per_s: mbit(up),
        down_bytes_per_s: mbit(down),
        ..NodeConfig::default()
    }
}

/// Connections of each node of a figure. Half of all messages are announcements of pieces to each of them, so that more
/// would take the simulator longer, and the swarm no less.
const FIGURE_CONNECTIONS: u32 = 30;

/// One seed with 20 Mbit/s up and `peers` peers with nothing, all there from the start; 1,024 pieces of 256 KiB.
#[must_use]
pub fn figure(seed: u64, peers: u32, mix: fn(&mut fastrand::Rng) -> NodeConfig) -> Setup {
    let mut dice = dice(seed);
    let mut nodes = vec![somewhere(NodeConfig::seed(), &mut dice)];
    for _ in 0..peers {
        let config = mix(&mut dice);
        nodes.push(somewhere(config, &mut dice));
    }
    for node in &mut nodes {
        node.settings.max_connections_per_torrent = FIGURE_CONNECTIONS;
    }
    Setup {
        seed,
        total_bytes: 256 * 1024 * 1024,
        nodes,
        ..Setup::default()
    }
}

/// The least time, in seconds, in which a static swarm of one seed (node 0) and peers can be done: the seed must send
/// everything once, the slowest peer must receive everything, and all together must send it to everybody (Kumar and Ross,
/// "Peer-Assisted File Distribution: The Minimum Distribution Time", 2006).
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn fluid_bound_s(setup: &Setup) -> f64 {
    let content = setup.total_bytes as f64;
    let seed_up = setup.nodes[0].up_bytes_per_s as f64;
    let peers = &setup.nodes[1..];
    let slowest = peers.iter().map(|peer| peer.down_bytes_per_s).min();
    let all_up: u64 = setup.nodes.iter().map(|node| node.up_bytes_per_s).sum();
    let everybody = peers.len() as f64 * content / all_up as f64;
    let received = content / slowest.unwrap_or(1) as f64;
    (content / seed_up).max(received).max(everybody)
}

/// One seed and so many peers, for a small content.
#[must_use]
pub fn small(seed: u64, peers: u32) -> Setup {
    let mut dice = dice(seed);
    let mut nodes = vec![somewhere(NodeConfig::seed(), &mut dice)];
    for _ in 0..peers {
        nodes.push(somewhere(NodeConfig::default(), &mut dice));
    }
    Setup {
        seed,
        nodes,
        bound: Moment::from_secs(1_800),
        ..Setup::default()
    }
}

/// 32 MiB; peers arrive by a Poisson process for ten minutes, and half of them depart after two minutes on average.
#[must_use]
pub fn churn(seed: u64) -> Setup {
    let mut dice = dice(seed);
    let mut setup = small(seed, 10);
    setup.total_bytes = 32 * 1024 * 1024;
    let mut at = Moment::ZERO;
    loop {
        at = at + exponential(Duration::from_secs(8), &mut dice);
        if at > Moment::from_secs(600) {
            break;
        }
        let stays = dice.bool();
        let departs = at + exponential(Duration::from_secs(120), &mut dice);
        let config = NodeConfig {
            arrives: at,
            departs: (!stays).then_some(departs),
            ..NodeConfig::default()
        };
        setup.nodes.push(somewhere(config, &mut dice));
    }
    setup
}

pub(crate) fn exponential(mean: Duration, dice: &mut fastrand::Rng) -> Duration {
    mean.mul_f64(-(1.0 - dice.f64()).ln())
}

/// One seed, eight honest peers, and liars that lie three times of ten.
#[must_use]
pub fn liars(seed: u64, liars: u32, proof: Proof) -> Setup {
    let mut setup = small(seed, 8);
    setup.proof = proof;
    setup.total_bytes = 16 * 1024 * 1024;
    for _ in 0..liars {
        setup.nodes.push(NodeConfig {
            behaviour: Behaviour::Liar { permille: 300 },
            start: Start::Full,
            ..NodeConfig::default()
        });
    }
    setup
}

/// One seed, ten honest peers, and (nodes 11 and 12) two that never unchoke anybody. Scarce: the seed is slow and few are
/// unchoked at a time.
#[must_use]
pub fn free_riders(seed: u64) -> Setup {
    let mut setup = small(seed, 12);
    setup.total_bytes = 64 * 1024 * 1024;
    for node in &mut setup.nodes {
        node.settings.slots = Slots::Fixed(3);
        node.up_bytes_per_s = mbit(5);
    }
    for node in &mut setup.nodes[11..] {
        node.behaviour = Behaviour::FreeRider;
    }
    setup
}

/// Node 1's disk is full from the third to the 63rd second.
#[must_use]
pub fn disk_full(seed: u64) -> Setup {
    let mut setup = small(seed, 3);
    setup.total_bytes = 16 * 1024 * 1024;
    setup.nodes[1].disk = DiskConfig {
        outages: vec![outage(3, 63, OutageKind::Full)],
        cache_bytes: 2 * 1024 * 1024,
        ..DiskConfig::default()
    };
    setup
}

const fn outage(from_s: u64, until_s: u64, kind: OutageKind) -> Outage {
    Outage {
        from: Moment::from_secs(from_s),
        until: Moment::from_secs(until_s),
        kind,
    }
}

/// The volume of the seed is gone for the second half of a minute, and that of node 1 from the third to the 20th second.
#[must_use]
pub fn missing_volume(seed: u64) -> Setup {
    let mut setup = small(seed, 3);
    setup.total_bytes = 16 * 1024 * 1024;
    for (node, from_s, until_s) in [(0, 6, 40), (1, 3, 20)] {
        setup.nodes[node as usize].disk = DiskConfig {
            outages: vec![outage(from_s, until_s, OutageKind::Missing)],
            cache_bytes: 2 * 1024 * 1024,
            ..DiskConfig::default()
        };
        let lost = Action::LoseSince(NodeId(node), Moment::from_secs(from_s - 1));
        setup.actions.push((Moment::from_secs(until_s), lost));
    }
    setup
}

/// The files of node 1 are moved again and again, and those of the seed once, while they are downloaded and served.
#[must_use]
pub fn moved(seed: u64) -> Setup {
    let mut setup = small(seed, 4);
    setup.total_bytes = 16 * 1024 * 1024;
    let moves = (1..20).map(|turn| outage(3 * turn, 3 * turn + 2, OutageKind::Full));
    setup.nodes[1].disk = DiskConfig {
        outages: moves.collect(),
        cache_bytes: 2 * 1024 * 1024,
        ..DiskConfig::default()
    };
    setup.nodes[0].disk.outages = vec![outage(2, 12, OutageKind::Full)];
    setup
}

/// Node 1 writes half a megabyte a second, and has a cache of two pieces.
#[must_use]
pub fn slow_disk(seed: u64) -> Setup {
    let mut setup = small(seed, 4);
    setup.total_bytes = 32 * 1024 * 1024;
    setup.nodes[1].disk = DiskConfig {
        write_bytes_per_s: Some(500_000),
        cache_bytes: 512 * 1024,
        ..DiskConfig::default()
    };
    setup
}

/// One seed and four peers, 16 pieces of 8 blocks, machines up to 300 ms apart.
#[must_use]
pub fn permuted(seed: u64) -> Setup {
    let mut setup = small(seed, 4);
    setup.total_bytes = 2 * 1024 * 1024 - 5_000;
    setup.piece_length = 128 * 1024;
    setup.delivery = Delivery::Permuted {
        longest: Duration::from_millis(300),
    };
    setup
}

/// One of each kind among six honest peers, on a network that loses one segment of a hundred.
#[must_use]
pub fn odd_company(seed: u64) -> Setup {
    let mut setup = small(seed, 6);
    setup.total_bytes = 8 * 1024 * 1024;
    setup.loss_permille = 10;
    setup.nodes[2].nat = true;
    setup.nodes[3].nat = true;
    let period = Duration::from_secs(3);
    let odd = [
        Behaviour::Rejecter,
        Behaviour::Flapper { period },
        Behaviour::StopsMidBlock { after: 5 },
        Behaviour::FreeRider,
    ];
    for behaviour in odd {
        let start = Start::Full;
        setup.nodes.push(NodeConfig {
            behaviour,
            start,
            ..NodeConfig::default()
        });
    }
    setup
}

/// As [`liars`], two of them and little content, with machines up to half a second apart.
#[must_use]
pub fn late_liars(seed: u64, proof: Proof) -> Setup {
    late(liars(seed, 2, proof))
}

/// As [`odd_company`], with little content and machines up to half a second apart.
#[must_use]
pub fn late_company(seed: u64) -> Setup {
    late(odd_company(seed))
}

fn late(setup: Setup) -> Setup {
    Setup {
        total_bytes: 2 * 1024 * 1024,
        delivery: Delivery::Permuted {
            longest: Duration::from_millis(500),
        },
        ..setup
    }
}

/// One seed with 5 Mbit/s up, whom everybody has to ask for everybody else, and 20 peers.
#[must_use]
pub fn word_of_mouth(seed: u64) -> Setup {
    let mut setup = small(seed, 20);
    setup.total_bytes = 16 * 1024 * 1024;
    setup.word_of_mouth = true;
    setup.nodes[0].up_bytes_per_s = mbit(5);
    setup
}

/// One seed, whether a super-seed or not, and 30 peers of the mix of links; 256 pieces of 256 KiB.
#[must_use]
pub fn first_seed(seed: u64, super_seed: bool) -> Setup {
    let mut setup = figure(seed, 30, mixed);
    setup.total_bytes = 64 * 1024 * 1024;
    setup.nodes[0].super_seed = super_seed;
    setup
}

/// Four nodes have every fourth piece each; four have nothing.
#[must_use]
pub fn partial_seeds(seed: u64) -> Setup {
    let mut setup = small(seed, 7);
    let pieces =
        u32::try_from(setup.total_bytes.div_ceil(u64::from(setup.piece_length))).unwrap_or(0);
    for (node, residue) in setup.nodes.iter_mut().zip(0..4) {
        let mut field = Bitfield::empty(pieces);
        for piece in (0..pieces).filter(|piece| piece % 4 == residue) {
            field.insert(PieceIndex(piece));
        }
        node.start = Start::Some(field);
    }
    setup
}

/// 256 MiB for node 1, whose downlink is no bottleneck, from a seed with 50 Mbit/s up (node 0) and an HTTP origin with
/// `origin_up` bytes a second (node 2).
#[must_use]
pub fn origin(seed: u64, origin_up: u64) -> Setup {
    let mut setup = small(seed, 1);
    setup.total_bytes = 256 * 1024 * 1024;
    setup.nodes[0].up_bytes_per_s = mbit(50);
    setup.nodes[1].down_bytes_per_s = mbit(400);
    setup.nodes.push(NodeConfig::origin(origin_up));
    setup
}

/// One seed, four peers, and an origin that sends one wrong block of ten.
#[must_use]
pub fn lying_origin(seed: u64) -> Setup {
    let mut setup = small(seed, 4);
    setup.total_bytes = 16 * 1024 * 1024;
    setup.nodes.push(NodeConfig {
        behaviour: Behaviour::Origin { permille: 100 },
        ..NodeConfig::origin(mbit(20))
    });
    setup
}

/// A node that is done with its work, as an action: breaks all its connections at a moment.
#[must_use]
pub fn drop_at(second: u64, node: u32) -> (Moment, Action) {
    (
        Moment::from_secs(second),
        Action::DropConnections(NodeId(node)),
    )
}

/// Slots as few as they get.
#[must_use]
pub fn tight(config: NodeConfig) -> NodeConfig {
    let settings = Settings {
        slots: Slots::Fixed(2),
        max_connections: 6,
        max_connections_per_torrent: 6,
        max_half_open: 3,
        ..config.settings
    };
    NodeConfig { settings, ..config }
}
