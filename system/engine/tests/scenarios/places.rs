//! Torrents whose files are moved, renamed and removed.

use crate::disk::OddDisk;
use crate::rig::{PATIENCE, Sample, config, engine, usual_seed, wait};
use shoal_engine::{AddTorrent, Engine, EngineError, Fate, Location, Progress};
use shoal_metainfo::Bitfield;
use shoal_metainfo::create::Kind;
use shoal_storage::{Claims, Modified, Stamp, StorageError};
use std::fs;
use std::net::Ipv4Addr;
use std::num::NonZeroU64;
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
async fn what_another_client_had_is_taken_over_while_nobody_runs_it() {
    let sample = Sample::new(Kind::V1, &[100_000, 50_000], 16 * 1024);
    let (engine, target) = (engine().await, tempfile::tempdir().unwrap());
    let state = tempfile::tempdir().unwrap();
    let add = || AddTorrent {
        journal: Some(state.path().join("journal")),
        ..sample.add(target.path())
    };
    let content = add();
    sample.write(target.path());
    let pieces = sample.piece_count();
    let claims = |modified| Claims {
        verified: Bitfield::full(pieces),
        doubtful: Bitfield::empty(pieces),
        stamps: vec![Stamp {
            length: None,
            modified: Some(modified),
        }],
        unfinished_suffix: None,
    };
    let handle = engine.handle();
    // The first file is younger than the client remembers it.
    let would = handle.survey_content(&content, claims(Modified::NotAfter(1)));
    let would = would.await.unwrap().unwrap();
    assert_eq!((would.suspect, would.changed_files), (7, 1));
    assert_eq!(count(state.path()), 0);
    let came = handle.adopt_content(&content, claims(Modified::NotAfter(1)));
    assert_eq!(came.await.unwrap(), Some(would));
    let running = engine.add(add()).await.unwrap();
    let snapshot = wait(&running, |state| state.complete).await;
    assert_eq!(snapshot.resumed_pieces, pieces - 7);
    let refused = handle.adopt_content(&content, claims(Modified::NotAfter(1)));
    assert!(matches!(refused.await, Err(EngineError::Duplicate)));
    running.stop().await;
    let mut watch = running.watch();
    while watch.changed().await.is_ok() {}
    let again = handle.adopt_content(&content, claims(Modified::NotAfter(1)));
    assert_eq!(again.await.unwrap(), None, "what is known here holds");
    engine.stop(PATIENCE).await;
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

#[tokio::test]
async fn a_torrent_is_moved_and_renamed_while_it_is_downloaded_and_served() {
    let sample = Sample::new(Kind::V1, &[1_500_000, 700_000], 16 * 1024);
    let seed = usual_seed(&sample).await;
    let mut slow = config(Ipv4Addr::LOCALHOST.into());
    slow.transport.limits.down_bytes_per_s = NonZeroU64::new(1_000_000);
    let middle = Engine::start(slow).await.unwrap();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        journal: Some(state.path().join("journal")),
        ..sample.add(first.path())
    };
    let getting = middle.add(add).await.unwrap();
    let last = engine().await;
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: middle.listening().to_vec(),
        ..sample.add(target.path())
    };
    let last_one = last.add(add).await.unwrap();
    for round in 0..6 {
        let state = wait(&getting, |state| state.verified_pieces > 10 * round).await;
        assert!(round > 0 || !state.complete, "too late");
        let to = [second.path(), first.path()][round as usize % 2];
        let location = getting.relocate(to.to_path_buf()).await.unwrap();
        assert_eq!(location.directory, to);
    }
    let renamed = getting.rename_folder(Path::new("sample"), Path::new("other/name"));
    let location = renamed.await.unwrap();
    assert_eq!(location.renamed.len(), 2);
    wait(&getting, |state| state.location.as_ref() == Some(&location)).await;
    let done = wait(&getting, |state| state.complete).await;
    assert_eq!((done.failed_pieces, done.lost_pieces), (0, 0));
    assert_eq!(count(second.path()), 0);
    let done = wait(&last_one, |state| state.complete).await;
    assert_eq!(done.failed_pieces, 0);
    sample.assert_is_in(target.path());
    let back = getting.rename_folder(Path::new("other/name"), Path::new("sample"));
    assert_eq!(back.await.unwrap().renamed.len(), 0);
    sample.assert_is_in(first.path());
    let refused = getting.relocate(target.path().to_path_buf()).await;
    assert!(matches!(
        refused,
        Err(EngineError::Storage(StorageError::Occupied(_)))
    ));
    for engine in [middle, last, seed.engine] {
        engine.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_torrent_that_does_not_run_is_moved_and_goes_on_where_it_is() {
    let sample = Sample::pieces(8);
    let seed = usual_seed(&sample).await;
    let leech = engine().await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = tempfile::tempdir().unwrap();
    let add = |directory: &Path| AddTorrent {
        peers: seed.peers(),
        journal: Some(state.path().join("journal")),
        ..sample.add(directory)
    };
    let getting = leech.add(add(first.path())).await.unwrap();
    wait(&getting, |state| state.complete).await;
    getting.stop().await;
    let mut watch = getting.watch();
    while watch.changed().await.is_ok() {}
    assert!(matches!(
        getting.relocate(second.path().to_path_buf()).await,
        Err(EngineError::Stopped)
    ));
    let to = Location {
        directory: second.path().to_path_buf(),
        ..Location::default()
    };
    let (handle, progress) = (leech.handle(), Arc::new(Progress::default()));
    let before = add(first.path());
    let moving = handle.relocate_content(&before, to, Arc::clone(&progress));
    moving.await.unwrap();
    assert_eq!(progress.bytes().0, progress.bytes().1);
    sample.assert_is_in(second.path());
    assert_eq!(count(first.path()), 0);
    // Whoever does not know is told.
    let again = leech.add(before).await.unwrap();
    let state = wait(&again, |state| state.complete).await;
    assert_eq!(state.resumed_pieces, 8);
    assert_eq!(state.location.unwrap().directory, second.path());
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}
