//! Engines that download from each other over loopback.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that panics has failed"
)]

use shoal_engine::{AddTorrent, Engine, EngineConfig, Phase, Snapshot, TorrentHandle};
use shoal_metainfo::Metainfo;
use shoal_metainfo::bencode::Limits;
use shoal_metainfo::create::{Kind, Options, Plan, SourceFile};
use shoal_transport::TransportConfig;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any of these takes on a busy machine; a test that hangs ends here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A torrent of files with these lengths, and their bytes by path below its folder.
struct Sample {
    metainfo: Arc<Metainfo>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Sample {
    fn new(kind: Kind, lengths: &[usize], piece_length: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(lengths.iter().sum::<usize>() as u64);
        let files: BTreeMap<String, Vec<u8>> = (0..)
            .zip(lengths)
            .map(|(number, &length)| {
                let mut bytes = vec![0; length];
                rng.fill(&mut bytes);
                (format!("file-{number}"), bytes)
            })
            .collect();
        let sources = files
            .iter()
            .map(|(name, bytes)| SourceFile {
                path: vec![name.clone()],
                length: bytes.len() as u64,
                ..SourceFile::default()
            })
            .collect();
        let options = Options {
            kind,
            piece_length: Some(piece_length),
            ..Options::default()
        };
        let plan = Plan::new("sample".to_owned(), sources, options).unwrap();
        let contents: Vec<&Vec<u8>> = files.values().collect();
        let hashes: Vec<_> = plan
            .layout()
            .pieces()
            .map(|piece| {
                let mut hasher = plan.hasher(piece);
                for segment in plan.segments(piece) {
                    let length = segment.length as usize;
                    match segment.source {
                        Some(source) => {
                            let start = segment.offset as usize;
                            hasher.update(&contents[source][start..start + length]);
                        }
                        None => hasher.update(&vec![0; length]),
                    }
                }
                plan.piece_hash(piece, &hasher.finish())
            })
            .collect();
        let bytes = plan.finish(&hashes).unwrap();
        let metainfo = Metainfo::parse(&bytes, Limits::LOCAL).unwrap();
        Sample {
            metainfo: Arc::new(metainfo),
            files,
        }
    }

    fn write(&self, directory: &Path) {
        let folder = directory.join("sample");
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    fn assert_is_in(&self, directory: &Path) {
        for (name, bytes) in &self.files {
            let found = fs::read(directory.join("sample").join(name)).unwrap();
            assert!(found == *bytes, "{name} differs");
        }
    }

    fn add(&self, directory: &Path) -> AddTorrent {
        AddTorrent::new(Arc::clone(&self.metainfo), directory.to_path_buf())
    }
}

async fn engine() -> Engine {
    // Shown where a test fails and RUST_LOG asks for it; a second initialisation is refused and changes nothing.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    drop(
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init(),
    );
    let transport = TransportConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        isolated: true,
        ..TransportConfig::default()
    };
    Engine::start(EngineConfig {
        transport,
        ..EngineConfig::default()
    })
    .await
    .unwrap()
}

async fn wait(torrent: &TorrentHandle, until: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    let mut watch = torrent.watch();
    let waited = tokio::time::timeout(PATIENCE, watch.wait_for(until)).await;
    let snapshot =
        waited.unwrap_or_else(|_| panic!("still {:?}", torrent.watch().borrow().clone()));
    snapshot.expect("the torrent ended").clone()
}

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
    let selection = Some(vec![false, true, false]);
    let peers = seed.listening().to_vec();
    let getting = leech
        .add(AddTorrent {
            peers,
            selection,
            ..sample.add(target.path())
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
