//! Torrents and engines end when they are told to, whatever others do, and lose nothing.

use crate::disk::OddDisk;
use crate::remote::{Remote, request};
use crate::rig::{PATIENCE, Sample, config, engine, seed, soon, usual_seed, wait};
use crate::trackers::Tracker;
use shoal_engine::{AddTorrent, Engine, EngineConfig, EngineError, Phase};
use shoal_metainfo::create::Kind;
use shoal_wire::Message;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What an engine is given to stop, where something hinders it; and what a busy machine may add.
const WITHIN: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(4);

fn odd() -> (Arc<OddDisk>, EngineConfig) {
    let disk = Arc::new(OddDisk::default());
    let config = EngineConfig {
        disk: Some(Arc::<OddDisk>::clone(&disk)),
        ..config(HERE)
    };
    (disk, config)
}

pub(crate) async fn assert_stops(engine: Engine) {
    let begun = Instant::now();
    soon(engine.stop(WITHIN)).await;
    let took = begun.elapsed();
    assert!(took < WITHIN + SLACK, "it took {took:?}");
}

fn with_journal(sample: &Sample, directory: &Path) -> AddTorrent {
    AddTorrent {
        journal: Some(directory.join("journal")),
        ..sample.add(directory)
    }
}

#[tokio::test]
async fn a_torrent_that_is_being_checked_can_be_stopped_and_added_again() {
    let sample = Sample::pieces(64);
    let directory = tempfile::tempdir().unwrap();
    sample.write(directory.path());
    let (disk, config) = odd();
    disk.reads_hang.store(true, Ordering::Relaxed);
    let engine = Engine::start(config).await.unwrap();
    let add = || with_journal(&sample, directory.path());
    let first = engine.add(add()).await.unwrap();
    wait(&first, |state| {
        matches!(state.phase, Phase::Checking { .. })
    })
    .await;
    // The second one does not come near the journal, which the first one holds.
    let second = engine.add(add()).await;
    assert!(matches!(second, Err(EngineError::Duplicate)), "{second:?}");
    first.stop().await;
    disk.reads_hang.store(false, Ordering::Relaxed);
    wait(&first, |state| state.phase == Phase::Stopped).await;
    let again = engine.add(add()).await.unwrap();
    wait(&again, |state| state.complete).await;
    again.stop().await;
    wait(&again, |state| state.phase == Phase::Stopped).await;
    // Stopping what has ended changes nothing.
    again.stop().await;
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_verified_while_a_torrent_stops_is_in_its_last_snapshot() {
    let sample = Sample::pieces(32);
    let (disk, config) = odd();
    let leech = Engine::start(config).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = with_journal(&sample, target.path());
    let first = leech.add(add).await.unwrap();
    disk.writes_hang.store(true, Ordering::Relaxed);
    let seed = seed(&sample, crate::rig::config(HERE), leech.listening()).await;
    wait(&first, |state| state.downloaded_bytes > 0).await;
    first.stop().await;
    // Meanwhile it waits for the disk; nothing depends on how far it has come.
    tokio::time::sleep(Duration::from_millis(100)).await;
    disk.writes_hang.store(false, Ordering::Relaxed);
    let last = wait(&first, |state| state.phase == Phase::Stopped).await;
    assert!(last.verified_pieces > 0, "{last:?}");
    let again = leech
        .add(with_journal(&sample, target.path()))
        .await
        .unwrap();
    // The seed comes back at some moment.
    let state = wait(&again, |state| {
        matches!(state.phase, Phase::Downloading | Phase::Seeding)
    });
    assert_eq!(state.await.resumed_pieces, last.verified_pieces);
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_torrent_that_cannot_be_opened_can_be_added_when_it_can() {
    let sample = Sample::pieces(2);
    let parent = tempfile::tempdir().unwrap();
    let missing = parent.path().join("missing");
    let engine = engine().await;
    let error = engine.add(sample.add(&missing)).await.unwrap_err();
    assert!(matches!(error, EngineError::Storage(_)), "{error}");
    std::fs::create_dir(&missing).unwrap();
    let handle = engine.add(sample.add(&missing)).await.unwrap();
    wait(&handle, |state| state.phase == Phase::Downloading).await;
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_tracker_that_does_not_answer_any_more_does_not_keep_an_engine() {
    let tracker = Tracker::start().await;
    let sample = Sample::with(Kind::Hybrid, &[40_000], 16 * 1024, &[tracker.url()], vec![]);
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::start(crate::trackers::open(config(HERE)))
        .await
        .unwrap();
    engine.add(sample.add(directory.path())).await.unwrap();
    // One for each of its two swarms.
    tracker.hears(2, "event=started").await;
    tracker.be_silent();
    assert_stops(engine).await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_does_not_keep_an_engine() {
    let sample = Sample::pieces(512);
    let seed = usual_seed(&sample).await;
    let mut deaf = Remote::connect(seed.peers()[0], HERE, &sample)
        .await
        .unwrap();
    deaf.say(&[Message::HaveNone, Message::Interested])
        .await
        .unwrap();
    deaf.hear_until(|message| *message == Message::Unchoke)
        .await;
    let all: Vec<Message> = (0..512)
        .map(|piece| Message::Request(request(piece)))
        .collect();
    deaf.say(&all).await.unwrap();
    wait(&seed.torrent, |state| state.uploaded_bytes > 0).await;
    assert_stops(seed.engine).await;
    drop(deaf);
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_keep_an_engine_and_costs_nothing_verified() {
    let sample = Sample::pieces(32);
    let seed = usual_seed(&sample).await;
    let (disk, config) = odd();
    let leech = Engine::start(config).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..with_journal(&sample, target.path())
    };
    let getting = leech.add(add).await.unwrap();
    disk.syncs_hang.store(true, Ordering::Relaxed);
    wait(&getting, |state| state.complete).await;
    assert_stops(leech).await;
    assert!(matches!(getting.watch().borrow().phase, Phase::Failed(_)));
    disk.syncs_hang.store(false, Ordering::Relaxed);

    let again = engine().await;
    let open = async {
        // The threads that hung let go of the journal when they get on.
        loop {
            match again.add(with_journal(&sample, target.path())).await {
                Ok(handle) => return handle,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let handle = soon(open).await;
    let state = wait(&handle, |state| state.complete).await;
    assert_eq!((state.resumed_pieces, state.downloaded_bytes), (32, 0));
    again.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn an_engine_without_torrents_stops() {
    assert_stops(engine().await).await;
}
