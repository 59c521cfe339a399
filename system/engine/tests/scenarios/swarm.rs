//! Several engines at once.

use crate::remote::{Remote, block};
use crate::rig::{ELSEWHERE, PATIENCE, Sample, config, engine, seed, soon, usual_seed, wait};
use shoal_engine::{AddTorrent, Engine};
use shoal_transport::RateLimits;
use std::fs::{self, OpenOptions};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use tokio::net::TcpListener;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn up(bytes_per_s: u64) -> RateLimits {
    RateLimits {
        up_bytes_per_s: NonZeroU64::new(bytes_per_s),
        ..RateLimits::default()
    }
}

/// A seed that uploads slowly, so that others get a chance.
async fn slow_seed(sample: &Sample, ip: IpAddr, bytes_per_s: u64) -> crate::rig::Seed {
    let mut config = config(ip);
    config.transport.limits = up(bytes_per_s);
    seed(sample, config, &[]).await
}

#[tokio::test]
async fn four_leeches_finish_and_exchange_among_themselves() {
    let sample = Sample::pieces(64);
    let seed = slow_seed(&sample, HERE, 1_000_000).await;
    let mut peers = seed.peers();
    let mut leeches = Vec::new();
    for _ in 0..4 {
        let (engine, target) = (engine().await, tempfile::tempdir().unwrap());
        let add = AddTorrent {
            peers: peers.clone(),
            ..sample.add(target.path())
        };
        let getting = engine.add(add).await.unwrap();
        peers.extend(engine.listening());
        leeches.push((engine, getting, target));
    }
    for (_, getting, target) in &leeches {
        wait(getting, |state| state.complete).await;
        sample.assert_is_in(target.path());
    }
    // What is uploaded is reported once a second.
    let mut watches: Vec<_> = leeches
        .iter()
        .map(|(_, getting, _)| getting.watch())
        .collect();
    let exchanged = async {
        while watches
            .iter()
            .all(|watch| watch.borrow().uploaded_bytes == 0)
        {
            watches[0].changed().await.unwrap();
        }
    };
    soon(exchanged).await;
    for (engine, ..) in leeches {
        engine.stop(PATIENCE).await;
    }
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_seed_that_dies_and_comes_back_is_gone_on_with() {
    let sample = Sample::pieces(64);
    let first = slow_seed(&sample, HERE, 400_000).await;
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let add = AddTorrent {
        peers: first.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    let midway = wait(&getting, |state| state.verified_pieces > 4).await;
    assert!(!midway.complete);
    // Dropped without taking leave, as a process that is killed.
    tokio::task::spawn_blocking(move || drop(first))
        .await
        .unwrap();
    let gone = wait(&getting, |state| state.peers.is_empty()).await;
    assert!(!gone.complete);
    let second = seed(&sample, config(HERE), leech.listening()).await;
    let done = wait(&getting, |state| state.complete).await;
    assert_eq!(done.failed_pieces, 0);
    assert!(done.downloaded_bytes < 2 * sample.bytes().len() as u64);
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    second.engine.stop(PATIENCE).await;
}

/// Downloads from a seed that changes its file midway, by `damage`, and then from an honest one.
async fn download_from_damaged(damage: impl Fn(&std::path::Path)) {
    let sample = Sample::pieces(64);
    let bad = slow_seed(&sample, ELSEWHERE, 400_000).await;
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let add = AddTorrent {
        peers: bad.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.verified_pieces > 4).await;
    damage(&sample.path(bad.directory.path(), 0));
    let good = seed(&sample, config(HERE), leech.listening()).await;
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    bad.engine.stop(PATIENCE).await;
    good.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_seed_whose_file_is_cut_short_does_no_harm() {
    download_from_damaged(|path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(100_000).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_seed_whose_file_is_altered_does_no_harm() {
    download_from_damaged(|path| {
        let mut bytes = fs::read(path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
        fs::write(path, bytes).unwrap();
    })
    .await;
}

#[tokio::test]
async fn pieces_are_fetched_in_order_where_that_is_asked_for() {
    let sample = Sample::pieces(40);
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let add = AddTorrent {
        peers: vec![listener.local_addr().unwrap()],
        sequential: true,
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    let remote = soon(Remote::accept(&listener, &sample)).await.unwrap();
    // The leech has no use for a seed once it is done, and closes.
    let requests = soon(remote.serve(|request| block(&sample, request))).await;
    let pieces: Vec<u32> = requests.iter().map(|request| request.piece.0).collect();
    assert_eq!(pieces, (0..40).collect::<Vec<u32>>());
    wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn who_only_seeds_asks_nobody_for_what_is_missing() {
    let sample = Sample::pieces(8);
    let source = tempfile::tempdir().unwrap();
    sample.write(source.path());
    let mut bytes = sample.bytes().to_vec();
    bytes[0] ^= 1;
    fs::write(sample.path(source.path(), 0), bytes).unwrap();
    let seed = Engine::start(config(HERE)).await.unwrap();
    let add = AddTorrent {
        seed_only: true,
        ..sample.add(source.path())
    };
    let seeding = seed.add(add).await.unwrap();
    let state = wait(&seeding, |state| state.verified_pieces > 0).await;
    assert_eq!((state.verified_pieces, state.complete), (7, false));
    let remote = Remote::connect(seed.listening()[0], HERE, &sample).await;
    // Neither has anything to ask of the other: the connection is of no use and ends.
    let requests = soon(remote.unwrap().serve(|request| block(&sample, request))).await;
    assert!(requests.is_empty());
    let state = wait(&seeding, |state| state.peers.is_empty()).await;
    assert_eq!((state.downloaded_bytes, state.verified_pieces), (0, 7));
    seed.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_torrent_is_added_once_and_again_when_it_has_ended() {
    let sample = Sample::pieces(4);
    let seed = usual_seed(&sample).await;
    let again = || sample.add(seed.directory.path());
    let error = seed.engine.add(again()).await.unwrap_err();
    assert_eq!(error.to_string(), "the torrent is running already");
    seed.torrent.stop().await;
    let mut watch = seed.torrent.watch();
    // The register is left with the last of the torrent.
    while soon(watch.changed()).await.is_ok() {}
    let handle = seed.engine.add(again()).await.unwrap();
    wait(&handle, |state| state.complete).await;
    seed.engine.stop(PATIENCE).await;
}
