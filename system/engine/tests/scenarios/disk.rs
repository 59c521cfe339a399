//! Disks that are slow, full or changed by somebody else.

use crate::rig::{PATIENCE, Sample, config, engine, seed, usual_seed, wait};
use shoal_engine::{AddTorrent, Engine, Phase};
use shoal_metainfo::create::Kind;
use shoal_storage::{Access, Disk, Reason, Root, StorageConfig};
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// A file is looked at once a second at most; what changes within it is noticed by whoever receives it.
pub(crate) async fn until_files_are_looked_at() {
    tokio::time::sleep(Duration::from_millis(1_100)).await;
}

/// As the system says it.
const ENOSPC: i32 = 28;

/// A disk that does what it is told to.
#[derive(Debug, Default)]
pub(crate) struct OddDisk {
    pub(crate) full: AtomicBool,
    /// Reading blocks its thread while this is so.
    pub(crate) reads_hang: AtomicBool,
    /// So does writing.
    pub(crate) writes_hang: AtomicBool,
    /// So does syncing.
    pub(crate) syncs_hang: AtomicBool,
    /// So does removing.
    pub(crate) removals_hang: AtomicBool,
    /// Reads and writes move less than they are asked to, by numbers of bytes that fit no block.
    pub(crate) short: AtomicBool,
    moves: AtomicUsize,
}

/// How much a short read or write moves, in turn.
const SHORT_BYTES: [usize; 5] = [1, 4_095, 17, 10_001, 333];

impl OddDisk {
    /// How many bytes of `length` this move takes.
    fn part(&self, length: usize) -> usize {
        if self.short.load(Ordering::Relaxed) {
            let turn = self.moves.fetch_add(1, Ordering::Relaxed);
            length.min(SHORT_BYTES[turn % SHORT_BYTES.len()])
        } else {
            length
        }
    }
}

impl Disk for OddDisk {
    fn open(&self, root: &Root, path: &Path, access: Access) -> io::Result<File> {
        Usual.open(root, path, access)
    }

    fn write(&self, file: &File, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        hang_while(&self.writes_hang);
        if self.full.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let whole: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let part = self.part(whole);
        if part == whole {
            return Usual.write(file, buffers, offset);
        }
        // Of the first that has any, which is less than all of them.
        let first = buffers.iter().find(|buffer| !buffer.is_empty()).unwrap();
        let first = IoSlice::new(&first[..part.min(first.len())]);
        Usual.write(file, &[first], offset)
    }

    fn read(&self, file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
        hang_while(&self.reads_hang);
        let part = self.part(out.len());
        Usual.read(file, &mut out[..part], offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        hang_while(&self.syncs_hang);
        Usual.sync(file)
    }

    fn sync_all(&self, root: &Root) -> io::Result<()> {
        hang_while(&self.syncs_hang);
        Usual.sync_all(root)
    }

    fn remove(&self, root: &Root, path: &Path) -> io::Result<()> {
        hang_while(&self.removals_hang);
        Usual.remove(root, path)
    }
}

#[derive(Debug)]
struct Usual;

impl Disk for Usual {}

fn hang_while(hangs: &AtomicBool) {
    while hangs.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_full_disk_suspends_a_download_that_goes_on_by_itself() {
    let sample = Sample::pieces(16);
    let seed = usual_seed(&sample).await;
    let disk = Arc::new(OddDisk::default());
    disk.full.store(true, Ordering::Relaxed);
    let mut config = config(Ipv4Addr::LOCALHOST.into());
    config.disk = Some(Arc::<OddDisk>::clone(&disk));
    config.storage = StorageConfig {
        retry_pause: Duration::from_millis(50),
        ..StorageConfig::default()
    };
    let leech = Engine::start(config).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    let state = wait(&getting, |state| {
        matches!(state.phase, Phase::Suspended { .. })
    })
    .await;
    let Phase::Suspended { reason, path } = state.phase else {
        unreachable!();
    };
    assert_eq!(
        (reason, path),
        (Reason::Full, sample.path(target.path(), 0))
    );
    disk.full.store(false, Ordering::Relaxed);
    let done = wait(&getting, |state| state.complete).await;
    assert_eq!((done.phase, done.failed_pieces), (Phase::Seeding, 0));
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_file_that_was_only_touched_is_verified_again_and_served() {
    let sample = Sample::pieces(32);
    let seed = usual_seed(&sample).await;
    // Without the second look, its pieces would stay lost, and nobody else has them.
    let path = sample.path(seed.directory.path(), 0);
    let later = SystemTime::now() + Duration::from_secs(100);
    File::open(path).unwrap().set_modified(later).unwrap();
    until_files_are_looked_at().await;
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    let state = wait(&seed.torrent, |state| state.complete).await;
    assert_eq!(state.verified_pieces, 32);
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_a_changed_file_does_not_have_any_more_is_not_shown_as_there() {
    let sample = Sample::pieces(32);
    let first = usual_seed(&sample).await;
    let path = sample.path(first.directory.path(), 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5 * crate::rig::PIECE as usize] ^= 1;
    fs::write(&path, bytes).unwrap();
    let later = SystemTime::now() + Duration::from_secs(100);
    File::open(path).unwrap().set_modified(later).unwrap();
    until_files_are_looked_at().await;
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let add = AddTorrent {
        peers: first.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    // All is lost at the first look, and all but one found again at the second.
    wait(&first.torrent, |state| state.verified_pieces == 31).await;
    wait(&getting, |state| state.verified_pieces == 31).await;
    assert!(!first.torrent.watch().borrow().complete);
    assert_eq!(getting.watch().borrow().failed_pieces, 0);
    let config = config(Ipv4Addr::LOCALHOST.into());
    let second = seed(&sample, config, leech.listening()).await;
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    for engine in [leech, first.engine, second.engine] {
        engine.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_disk_that_moves_less_than_it_is_asked_to_changes_nothing() {
    let sample = Sample::new(Kind::Hybrid, &[300_000, 70_001], 64 * 1024);
    let seed = usual_seed(&sample).await;
    let disk = Arc::new(OddDisk::default());
    disk.short.store(true, Ordering::Relaxed);
    let mut config = config(Ipv4Addr::LOCALHOST.into());
    config.disk = Some(Arc::<OddDisk>::clone(&disk));
    // So little that blocks are written before their piece is whole, and read again.
    config.storage.cache_bytes = 1;
    let leech = Engine::start(config).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    let done = wait(&getting, |state| state.complete).await;
    assert_eq!(done.failed_pieces, 0);
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_torrent_whose_directory_goes_and_comes_back_goes_on_without_a_recheck() {
    let sample = Sample::pieces(32);
    let seed = usual_seed(&sample).await;
    let mut config = config(Ipv4Addr::LOCALHOST.into());
    config.storage.retry_pause = Duration::from_millis(20);
    config.transport.limits.down_bytes_per_s = std::num::NonZeroU64::new(400_000);
    let leech = Engine::start(config).await.unwrap();
    let drive = tempfile::tempdir().unwrap();
    let (target, away) = (drive.path().join("mounted"), drive.path().join("away"));
    fs::create_dir(&target).unwrap();
    let state = tempfile::tempdir().unwrap();
    let add = || AddTorrent {
        peers: seed.peers(),
        journal: Some(state.path().join("journal")),
        ..sample.add(&target)
    };
    let getting = leech.add(add()).await.unwrap();
    let before = wait(&getting, |state| state.verified_pieces > 4).await;
    assert!(!before.complete, "too late");
    fs::rename(&target, &away).unwrap();
    let state = wait(&getting, |state| {
        matches!(state.phase, Phase::Suspended { .. })
    });
    let Phase::Suspended { reason, path } = state.await.phase else {
        unreachable!();
    };
    assert_eq!((reason, &path), (Reason::VolumeMissing, &target));
    assert!(!target.exists(), "nothing is made in its place");
    // Added anew, it is refused for the same reason, and not begun from zero.
    getting.stop().await;
    let mut watch = getting.watch();
    while watch.changed().await.is_ok() {}
    let refused = leech.add(add()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::VolumeMissing), "{refused}");
    fs::rename(&away, &target).unwrap();
    let again = leech.add(add()).await.unwrap();
    let done = wait(&again, |state| state.complete).await;
    // What was not synced when it went is read again, and nothing is fetched again.
    let missing = u64::from(32 - before.verified_pieces);
    assert!(done.downloaded_bytes <= missing * u64::from(crate::rig::PIECE));
    sample.assert_is_in(&target);
    // A seed whose directory is away for a while.
    fs::rename(&target, &away).unwrap();
    wait(&again, |state| {
        matches!(state.phase, Phase::Suspended { .. })
    })
    .await;
    fs::rename(&away, &target).unwrap();
    let state = wait(&again, |state| state.phase == Phase::Seeding).await;
    assert_eq!((state.verified_pieces, state.complete), (32, true));
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn files_that_are_gone_are_downloaded_again_when_a_person_says_so() {
    let sample = Sample::new(Kind::V1, &[100_000, 50_000], 16 * 1024);
    let seed = usual_seed(&sample).await;
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let state = tempfile::tempdir().unwrap();
    let add = |accept_missing| AddTorrent {
        peers: seed.peers(),
        journal: Some(state.path().join("journal")),
        accept_missing,
        ..sample.add(target.path())
    };
    let getting = leech.add(add(false)).await.unwrap();
    wait(&getting, |state| state.complete).await;
    fs::remove_file(sample.path(target.path(), 1)).unwrap();
    getting.accept_missing().await.unwrap();
    wait(&getting, |state| state.complete && state.lost_pieces > 0).await;
    sample.assert_is_in(target.path());
    getting.stop().await;
    let mut watch = getting.watch();
    while watch.changed().await.is_ok() {}
    fs::remove_file(sample.path(target.path(), 1)).unwrap();
    let refused = leech.add(add(false)).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::FilesMissing), "{refused}");
    let again = leech.add(add(true)).await.unwrap();
    let done = wait(&again, |state| state.complete).await;
    assert!(done.resumed_pieces > 0 && done.downloaded_bytes < 100_000);
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}
