//! What is wanted arrives, whatever the kind of torrent; what is not wanted does not.

use crate::rig::{PATIENCE, Sample, engine, wait};
use shoal_engine::{AddTorrent, Phase};
use shoal_metainfo::create::{Kind, SourceFile};
use std::fs;

async fn transfer(kind: Kind, lengths: &[usize], piece_length: u32) {
    let sample = Sample::new(kind, lengths, piece_length);
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample.write(source.path());
    let (seed, leech) = (engine().await, engine().await);
    let seeding = seed
        .add(AddTorrent {
            seed_only: true,
            ..sample.add(source.path())
        })
        .await
        .unwrap();
    wait(&seeding, |state| state.complete).await;
    let peers = seed.listening().to_vec();
    let getting = leech
        .add(AddTorrent {
            peers,
            ..sample.add(target.path())
        })
        .await
        .unwrap();
    let done = wait(&getting, |state| state.complete).await;
    assert_eq!(done.phase, Phase::Seeding);
    assert_eq!(done.wanted_verified_bytes, done.wanted_bytes);
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    seed.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_v1_torrent_arrives() {
    transfer(Kind::V1, &[300_000, 0, 1, 2_000_000], 32 * 1024).await;
}

#[tokio::test]
async fn a_v2_torrent_arrives() {
    transfer(Kind::V2, &[300_000, 0, 1, 2_000_000], 32 * 1024).await;
}

#[tokio::test]
async fn a_hybrid_torrent_arrives() {
    transfer(Kind::Hybrid, &[300_000, 0, 1, 2_000_000], 32 * 1024).await;
}

#[tokio::test]
async fn a_torrent_of_one_short_piece_arrives() {
    transfer(Kind::Hybrid, &[5], 16 * 1024).await;
}

#[tokio::test]
async fn a_seed_of_damaged_files_serves_only_what_is_right() {
    let sample = Sample::new(Kind::V1, &[10 * 16 * 1024], 16 * 1024);
    let source = tempfile::tempdir().unwrap();
    sample.write(source.path());
    let path = source.path().join("sample/file-0");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3 * 16 * 1024] ^= 1;
    fs::write(&path, bytes).unwrap();
    let seed = engine().await;
    let seeding = seed
        .add(AddTorrent {
            seed_only: true,
            ..sample.add(source.path())
        })
        .await
        .unwrap();
    let state = wait(&seeding, |state| {
        state.verified_pieces > 0 && state.phase != Phase::Starting
    })
    .await;
    assert_eq!((state.verified_pieces, state.complete), (9, false));
    seed.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_download_goes_on_where_it_was() {
    let sample = Sample::new(Kind::Hybrid, &[4_000_000], 64 * 1024);
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample.write(source.path());
    let journal = target.path().join("journal");
    let add = || AddTorrent {
        journal: Some(journal.clone()),
        ..sample.add(target.path())
    };
    let seed = engine().await;
    let seeding = seed
        .add(AddTorrent {
            seed_only: true,
            ..sample.add(source.path())
        })
        .await
        .unwrap();
    wait(&seeding, |state| state.complete).await;

    let leech = engine().await;
    let peers = seed.listening().to_vec();
    let getting = leech.add(AddTorrent { peers, ..add() }).await.unwrap();
    wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;

    let again = engine().await;
    let getting = again.add(add()).await.unwrap();
    let state = wait(&getting, |state| state.complete).await;
    assert_eq!(state.resumed_pieces, sample.metainfo.layout().piece_count());
    assert_eq!(state.downloaded_bytes, 0);
    again.stop(PATIENCE).await;
    seed.stop(PATIENCE).await;
}

#[tokio::test]
async fn only_what_is_selected_is_fetched() {
    let sample = Sample::new(Kind::V1, &[100_000, 200_000, 300_000], 16 * 1024);
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample.write(source.path());
    let (seed, leech) = (engine().await, engine().await);
    let seeding = seed
        .add(AddTorrent {
            seed_only: true,
            ..sample.add(source.path())
        })
        .await
        .unwrap();
    wait(&seeding, |state| state.complete).await;
    let peers = seed.listening().to_vec();
    let getting = leech
        .add(AddTorrent {
            peers,
            ..sample.add(target.path()).select(&[false, true, false])
        })
        .await
        .unwrap();
    wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;
    let found = |name: &str| target.path().join("sample").join(name);
    assert!(fs::read(found("file-1")).unwrap() == sample.files["file-1"]);
    assert!(!found("file-0").exists() && !found("file-2").exists());
    seed.stop(PATIENCE).await;
}

#[tokio::test]
async fn nothing_is_called_complete_before_it_is_verified() {
    let sample = Sample::new(Kind::Hybrid, &[600_000, 700_000], 32 * 1024);
    let seed = crate::rig::usual_seed(&sample).await;
    let target = tempfile::tempdir().unwrap();
    let leech = engine().await;
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    let mut watch = getting.watch();
    let mut phases = Vec::new();
    loop {
        let state = watch.borrow_and_update().clone();
        let whole = state.wanted_bytes > 0 && state.wanted_verified_bytes == state.wanted_bytes;
        assert_eq!(state.complete, whole, "{state:?}");
        assert_eq!(state.phase == Phase::Seeding, state.complete, "{state:?}");
        let name = match state.phase {
            Phase::Starting => 0,
            Phase::Checking { checked, total } => {
                assert!(checked <= total);
                1
            }
            Phase::Downloading => 2,
            Phase::Seeding => 3,
            other => panic!("{other:?}"),
        };
        phases.push(name);
        if state.complete {
            break;
        }
        crate::rig::soon(watch.changed()).await.unwrap();
    }
    assert!(phases.is_sorted(), "{phases:?}");
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_selection_without_bytes_is_complete_at_once() {
    let link = SourceFile {
        path: vec!["link".to_owned()],
        symlink: Some(vec!["file-0".to_owned()]),
        ..SourceFile::default()
    };
    let sample = Sample::with(Kind::V1, &[40_000, 0], 16 * 1024, &[], vec![link]);
    let files = sample.metainfo.files();
    assert_eq!(files.len(), 3);
    let is_link: Vec<bool> = files.iter().map(|file| file.symlink.is_some()).collect();
    let is_empty: Vec<bool> = files.iter().map(|file| file.path == "file-1").collect();
    assert!(is_link.contains(&true) && is_empty.contains(&true));
    let nothing = vec![false; 3];
    for (selection, is_created) in [(is_link, false), (is_empty, true), (nothing, false)] {
        let target = tempfile::tempdir().unwrap();
        let leech = engine().await;
        let add = sample.add(target.path()).select(&selection);
        let getting = leech.add(add).await.unwrap();
        let state = wait(&getting, |state| state.complete).await;
        assert_eq!((state.phase, state.wanted_bytes), (Phase::Seeding, 0));
        leech.stop(PATIENCE).await;
        let found = |name: &str| target.path().join("sample").join(name);
        assert_eq!(found("file-1").exists(), is_created);
        assert!(!found("file-0").exists() && found("link").symlink_metadata().is_err());
    }
}

#[tokio::test]
async fn priorities_for_another_number_of_files_are_refused() {
    let sample = Sample::new(Kind::V1, &[10, 20], 16 * 1024);
    let target = tempfile::tempdir().unwrap();
    let leech = engine().await;
    let add = sample.add(target.path()).select(&[true]);
    let error = leech.add(add).await.unwrap_err().to_string();
    assert_eq!(error, "the torrent has 2 files, and there are 1 priorities");
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    wait(&getting, |state| state.phase == Phase::Downloading).await;
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_seed_that_starts_again_serves_what_its_journal_knows() {
    let sample = Sample::new(Kind::Hybrid, &[300_000, 70_000], 32 * 1024);
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample.write(source.path());
    let add = || AddTorrent {
        seed_only: true,
        journal: Some(source.path().join("journal")),
        ..sample.add(source.path())
    };
    let first = engine().await;
    let seeding = first.add(add()).await.unwrap();
    wait(&seeding, |state| state.complete).await;
    first.stop(PATIENCE).await;
    let second = engine().await;
    let seeding = second.add(add()).await.unwrap();
    let state = wait(&seeding, |state| state.complete).await;
    assert_eq!(state.resumed_pieces, sample.piece_count());
    let leech = engine().await;
    let add = AddTorrent {
        peers: second.listening().to_vec(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    second.stop(PATIENCE).await;
}
