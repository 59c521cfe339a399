//! Many remotes at once that take what they asked for slowly, or not at all.
//!
//! They and the engine share a process, so what is bounded is the memory of both ends.

use crate::remote::{Remote, request};
use crate::rig::{PATIENCE, Sample, Seed, config, engine, seed, wait};
use crate::sockets::{descriptors, may_open, resident_bytes};
use shoal_engine::{AddTorrent, EngineConfig, SessionSettings, Slots};
use shoal_wire::Message;
use std::net::{IpAddr, Ipv4Addr};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PIECES: u32 = 512;
const CROWD: u32 = 1_000;
/// What one of them may cost, at both ends, with its queue of requests full.
const BYTES_A_PEER: u64 = 64 * 1024;
/// What a read of a slow remote takes, and how many there are.
const SIP_BYTES: usize = 3_000;
const SIPS: usize = 5;

/// A seed that lets everybody in, and unchokes everybody.
fn open_to_all() -> EngineConfig {
    EngineConfig {
        session: SessionSettings {
            slots: Slots::Fixed(CROWD + 10),
            max_connections: CROWD + 10,
            max_connections_per_torrent: CROWD + 10,
            ..SessionSettings::default()
        },
        ..config(HERE)
    }
}

/// A remote that is unchoked and has asked for everything, as often as `rounds`.
async fn asking(seed: &Seed, sample: &Sample, rounds: u32) -> Remote {
    let to = seed.peers()[0];
    let mut remote = Remote::connect_with(to, HERE, sample, 4_096).await.unwrap();
    let greeting = [Message::HaveNone, Message::Interested];
    remote.say(&greeting).await.unwrap();
    remote
        .hear_until(|message| *message == Message::Unchoke)
        .await;
    let all: Vec<Message> = (0..rounds * PIECES)
        .map(|n| Message::Request(request(n % PIECES)))
        .collect();
    remote.say(&all).await.unwrap();
    remote
}

/// Somebody who reads as fast as it comes gets everything.
async fn a_fast_leech_finishes(seed: &Seed, sample: &Sample) {
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
}

#[allow(clippy::print_stderr, reason = "a skipped test speaks to people")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

#[tokio::test]
async fn a_thousand_slow_readers_cost_little_and_hurt_nobody() {
    // Both ends of each connection, and what everything else needs.
    if !may_open(2 * u64::from(CROWD) + 500) {
        skip("the system allows too few descriptors");
        return;
    }
    let sample = Sample::pieces(PIECES as usize);
    let seed = seed(&sample, open_to_all(), &[]).await;
    // Whatever a first download brings along is there before the crowd comes.
    a_fast_leech_finishes(&seed, &sample).await;
    wait(&seed.torrent, |state| state.peers.is_empty()).await;
    let (memory, open) = (resident_bytes(), descriptors().len());
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(asking(&seed, &sample, 1).await);
    }
    for _ in 0..SIPS {
        for remote in &mut crowd {
            remote.portions = vec![SIP_BYTES];
            remote.sip().await.unwrap();
        }
    }
    let grown = resident_bytes().saturating_sub(memory) / u64::from(CROWD);
    assert!(grown <= BYTES_A_PEER, "{grown} bytes a peer");
    a_fast_leech_finishes(&seed, &sample).await;
    // Nobody was shown out for it.
    wait(&seed.torrent, |state| state.peers.len() == CROWD as usize).await;
    drop(crowd);
    wait(&seed.torrent, |state| state.peers.is_empty()).await;
    let left = descriptors().len();
    assert!(left <= open + 5, "{left} are open, which were {open}");
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn remotes_that_read_nothing_cost_little_and_hurt_nobody() {
    const DEAF: u32 = 50;
    let sample = Sample::pieces(PIECES as usize);
    let seed = seed(&sample, open_to_all(), &[]).await;
    a_fast_leech_finishes(&seed, &sample).await;
    wait(&seed.torrent, |state| state.peers.is_empty()).await;
    let memory = resident_bytes();
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        // More than a queue takes: the rest is rejected, and that is not read either.
        deaf.push(asking(&seed, &sample, 8).await);
    }
    a_fast_leech_finishes(&seed, &sample).await;
    let grown = resident_bytes().saturating_sub(memory) / u64::from(DEAF);
    // The queue of requests is 24 KiB longer, and as many rejects wait.
    assert!(grown <= 4 * BYTES_A_PEER, "{grown} bytes a peer");
    assert_eq!(deaf.len(), DEAF as usize);
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_slot_goes_to_the_next_as_soon_as_its_remote_is_gone() {
    let sample = Sample::pieces(PIECES as usize);
    let mut narrow = open_to_all();
    // And one that is given by need or luck.
    narrow.session.slots = Slots::Fixed(1);
    let seed = seed(&sample, narrow, &[]).await;
    let mut served = Vec::new();
    for _ in 0..2 {
        served.push(asking(&seed, &sample, 1).await);
    }
    let mut next = Remote::connect(seed.peers()[0], HERE, &sample)
        .await
        .unwrap();
    let greeting = [Message::HaveNone, Message::Interested];
    next.say(&greeting).await.unwrap();
    wait(&seed.torrent, |state| state.peers.len() == 3).await;
    // It gets nothing yet but what anybody may have while choked.
    let some: Vec<Message> = (0..20).map(|n| Message::Request(request(n))).collect();
    next.say(&some).await.unwrap();
    next.hear_until(|message| {
        assert_ne!(*message, Message::Unchoke);
        matches!(message, Message::Reject(_))
    })
    .await;
    served.pop();
    next.hear_until(|message| *message == Message::Unchoke)
        .await;
    seed.engine.stop(PATIENCE).await;
}
