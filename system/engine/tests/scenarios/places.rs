//! Torrents whose files go away.

use crate::disk::OddDisk;
use crate::rig::{PATIENCE, Sample, config, engine, usual_seed, wait};
use shoal_engine::{AddTorrent, Engine, EngineError, Fate};
use shoal_metainfo::create::Kind;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn the_data_of_a_torrent_is_removed_when_it_does_not_run_and_other_files_stay() {
    let sample = Sample::new(Kind::V1, &[100_000, 50_000], 16 * 1024);
    let seed = usual_seed(&sample).await;
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let state = tempfile::tempdir().unwrap();
    let add = || AddTorrent {
        peers: seed.peers(),
        journal: Some(state.path().join("journal")),
        ..sample.add(target.path())
    };
    let getting = leech.add(add()).await.unwrap();
    wait(&getting, |state| state.complete).await;
    fs::write(target.path().join("sample/mine"), "stays").unwrap();
    let handle = leech.handle();
    let refused = handle.remove_content(&add(), Fate::Deleted, PATIENCE).await;
    assert!(matches!(refused, Err(EngineError::Duplicate)));
    sample.assert_is_in(target.path());
    getting.stop().await;
    let mut watch = getting.watch();
    while watch.changed().await.is_ok() {}
    let removed = handle.remove_content(&add(), Fate::Deleted, PATIENCE).await;
    let removed = removed.unwrap();
    assert_eq!((removed.files, removed.bytes), (2, 150_000));
    assert_eq!((removed.kept, removed.folders), (0, 0));
    assert_eq!(count(&target.path().join("sample")), 1);
    assert_eq!(count(state.path()), 0);
    // Its place is free again.
    let again = leech.add(add()).await.unwrap();
    let state = wait(&again, |state| state.complete).await;
    assert_eq!(state.resumed_pieces, 0);
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_disk_that_does_not_answer_does_not_keep_whoever_removes_data() {
    let sample = Sample::pieces(2);
    let disk = Arc::new(OddDisk::default());
    let mut config = config(Ipv4Addr::LOCALHOST.into());
    config.disk = Some(Arc::<OddDisk>::clone(&disk));
    let engine = Engine::start(config).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    sample.write(target.path());
    disk.removals_hang.store(true, Ordering::Relaxed);
    let handle = engine.handle();
    let add = sample.add(target.path());
    let short = Duration::from_millis(50);
    let removed = handle.remove_content(&add, Fate::Deleted, short).await;
    assert!(matches!(removed, Err(EngineError::SlowDisk)));
    // Until it has ended, nobody gets in its way.
    let refused = engine.add(sample.add(target.path())).await;
    assert!(matches!(refused, Err(EngineError::Duplicate)));
    disk.removals_hang.store(false, Ordering::Relaxed);
    engine.stop(PATIENCE).await;
}
