//! What a session does when disks are full, and what it reads and reserves.

use crate::giving::stranger;
use crate::support::{
    PATIENCE, add_file, ask, into, list, named, node, node_of, node_with, only, resume, sample,
    until,
};
use crate::tracker::{heard, tracker};
use shoal_engine::{Engine, EngineConfig};
use shoal_node::NodeSettings;
use shoal_node::message::{Add, Request, State};
use shoal_storage::{Disk, StorageConfig};
use shoal_store::Database;
use shoal_transport::TransportConfig;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// As the system says it.
const ENOSPC: i32 = 28;

/// A disk that is full for a while.
#[derive(Debug, Default)]
struct Full(AtomicBool);

#[derive(Debug)]
struct Usual;

impl Disk for Usual {}

impl Disk for Full {
    fn write(&self, file: &File, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::from_raw_os_error(ENOSPC)),
            false => Usual.write(file, buffers, offset),
        }
    }
}

#[tokio::test]
async fn a_full_disk_pauses_what_needs_room_and_nothing_else_until_there_is_some() {
    let state = tempfile::tempdir().unwrap();
    let [wanted, served] = [sample("wanted", 300_000), sample("served", 50_000)];
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(wanted.folder.path());
    wanted.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;

    let disk = Arc::new(Full::default());
    let engine = Engine::start(EngineConfig {
        transport: TransportConfig {
            listen: vec![([127, 0, 0, 1], 0).into()],
            isolated: true,
            ..TransportConfig::default()
        },
        workers: 1,
        disk: Some(Arc::<Full>::clone(&disk)),
        storage: StorageConfig {
            retry_pause: Duration::from_millis(50),
            ..StorageConfig::default()
        },
        ..EngineConfig::default()
    });
    let engine = engine.await.unwrap();
    let (ours, at) = (state.path().join("leech"), engine.listening()[0]);
    fs::create_dir_all(&ours).unwrap();
    let database = Database::open(&ours.join("session.db")).await.unwrap();
    let leech = node_of(&ours, engine, database, NodeSettings::default()).await;
    let at_home = into(served.folder.path());
    served.add_to(&leech, at_home).await.unwrap();
    until(&leech, State::Seeding).await;
    disk.0.store(true, Ordering::Relaxed);
    let target = tempfile::tempdir().unwrap();
    let add = Add {
        peers: vec![address],
        ..into(target.path())
    };
    wanted.add_to(&leech, add).await.unwrap();
    let suspended = async {
        loop {
            let torrents = list(&leech, &["state:suspended"]).await.unwrap();
            if let Some(torrent) = torrents.into_iter().next() {
                return torrent;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let suspended = tokio::time::timeout(PATIENCE, suspended).await.unwrap();
    assert_eq!(suspended.name, "wanted");
    assert!(suspended.message.unwrap().contains("full"));
    assert!(
        stranger(at, &served.torrent).await.is_some(),
        "others are served"
    );
    disk.0.store(false, Ordering::Relaxed);
    let done = async {
        while list(&leech, &["state:seeding"]).await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.unwrap();
    assert_eq!(
        fs::read(target.path().join("wanted")).unwrap(),
        wanted.content
    );
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_room_of_what_is_to_come_is_reserved_where_that_is_set() {
    let (sample, state) = (sample("word", 300_000), tempfile::tempdir().unwrap());
    let target = tempfile::tempdir().unwrap();
    let (ours, _) = node_with(state.path(), &[("content.preallocate", "on")]).await;
    sample.add_to(&ours, into(target.path())).await.unwrap();
    until(&ours, State::Downloading).await;
    let file = fs::metadata(target.path().join("word")).unwrap();
    assert_eq!(file.len(), 300_000);
    assert!(file.blocks() * 512 >= 300_000, "{} blocks", file.blocks());
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_read_again_loses_what_is_wrong_and_fetches_it() {
    let (sample, state) = (sample("word", 200_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;
    let target = tempfile::tempdir().unwrap();
    let (leech, _) = node(&state.path().join("leech")).await;
    let add = Add {
        peers: vec![address],
        ..into(target.path())
    };
    sample.add_to(&leech, add).await.unwrap();
    until(&leech, State::Seeding).await;
    // Nothing shows that it was changed.
    let path = target.path().join("word");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let mut rotten = sample.content.clone();
    rotten[70_000] ^= 1;
    fs::write(&path, rotten).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(before).unwrap();
    let torrents = named("word");
    ask(&leech, Request::Recheck { torrents }).await.unwrap();
    let mended = async {
        while fs::read(&path).unwrap() != sample.content {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, mended).await.unwrap();
    let whole = until(&leech, State::Seeding).await;
    assert_eq!(
        whole.downloaded_bytes,
        200_000 + 16 * 1024,
        "one piece again"
    );
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

/// That nothing at all leaves is seen for longer in simulation.
#[tokio::test]
async fn who_is_paused_says_goodbye_and_nothing_more_until_it_goes_on() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (url, announces) = tracker().await;
    let (ours, address) = node(state.path()).await;
    let add = Add {
        trackers: vec![url],
        ..into(sample.folder.path())
    };
    add_file(&ours, add, Some(sample.torrent.clone()))
        .await
        .unwrap();
    until(&ours, State::Seeding).await;
    heard(&announces, "event=started").await;
    let mut connected = stranger(address, &sample.torrent).await.unwrap();
    let torrents = named("word");
    ask(&ours, Request::Pause { torrents }).await.unwrap();
    until(&ours, State::Paused).await;
    heard(&announces, "event=stopped").await;
    let mut rest = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut connected, &mut rest);
    drop(tokio::time::timeout(PATIENCE, ended).await.unwrap());
    assert!(
        stranger(address, &sample.torrent).await.is_none(),
        "nobody is let in"
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(announces.try_recv().is_err(), "trackers hear nothing");
    assert_eq!(only(&ours).await.state, State::Paused);
    resume(&ours, "word").await;
    heard(&announces, "event=started").await;
    ours.stop(PATIENCE).await;
}
