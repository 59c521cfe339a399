//! Peers that find each other because a third one is connected to both (BEP 11).

use crate::rig::{PATIENCE, Sample, config, seed, wait};
use shoal_engine::{AddTorrent, Engine, EngineConfig};
use shoal_transport::RateLimits;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A configuration that takes a peer's word, on this machine too.
pub(crate) fn sociable() -> EngineConfig {
    let mut config = config(HERE);
    config.transport.isolated = false;
    config.transport.allow_net = vec!["127.0.0.0/8".parse().unwrap()];
    config
}

/// A leech that knows one peer, and takes its time.
async fn leech(
    sample: &Sample,
    peer: SocketAddr,
) -> (Engine, shoal_engine::TorrentHandle, tempfile::TempDir) {
    let (engine, target) = (
        Engine::start(sociable()).await.unwrap(),
        tempfile::tempdir(),
    );
    let target = target.unwrap();
    let add = AddTorrent {
        peers: vec![peer],
        limits: RateLimits {
            down_bytes_per_s: NonZeroU64::new(40_000),
            ..RateLimits::default()
        },
        ..sample.add(target.path())
    };
    let torrent = engine.add(add).await.unwrap();
    (engine, torrent, target)
}

#[tokio::test]
async fn two_leeches_of_one_seed_find_each_other() {
    let sample = Sample::pieces(200);
    let seed = seed(&sample, sociable(), &[]).await;
    let (first, getting, _first_target) = leech(&sample, seed.peers()[0]).await;
    let (second, also_getting, _second_target) = leech(&sample, seed.peers()[0]).await;
    wait(&getting, |state| state.peers.len() == 2).await;
    wait(&also_getting, |state| state.peers.len() == 2).await;
    first.stop(PATIENCE).await;
    second.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn leeches_of_a_seed_that_tells_of_nobody_stay_strangers() {
    let sample = Sample::pieces(200);
    let mut silent = sociable();
    silent.sources.exchange = false;
    let silent = seed(&sample, silent, &[]).await;
    let (first, stranger, _first_target) = leech(&sample, silent.peers()[0]).await;
    let (second, other, _second_target) = leech(&sample, silent.peers()[0]).await;
    wait(&stranger, |state| state.peers.len() == 1).await;
    wait(&other, |state| state.peers.len() == 1).await;
    // As long as it takes those of another seed to find each other.
    let seed = seed(&sample, sociable(), &[]).await;
    let (third, getting, _third_target) = leech(&sample, seed.peers()[0]).await;
    let (fourth, also_getting, _fourth_target) = leech(&sample, seed.peers()[0]).await;
    wait(&getting, |state| state.peers.len() == 2).await;
    wait(&also_getting, |state| state.peers.len() == 2).await;
    assert_eq!(stranger.watch().borrow().peers.len(), 1);
    assert_eq!(other.watch().borrow().peers.len(), 1);
    for engine in [first, second, third, fourth, seed.engine, silent.engine] {
        engine.stop(PATIENCE).await;
    }
}
