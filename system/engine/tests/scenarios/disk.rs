//! Disks that are slow, full or changed by somebody else.

use crate::rig::{PATIENCE, Sample, config, engine, seed, usual_seed, wait};
use shoal_engine::{AddTorrent, Engine, Phase};
use shoal_storage::{Access, Disk, Reason, Root, StorageConfig};
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// A file is looked at once a second at most; what changes within it is noticed by whoever receives it.
async fn until_files_are_looked_at() {
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
    /// So does syncing.
    pub(crate) syncs_hang: AtomicBool,
}

impl Disk for OddDisk {
    fn open(&self, root: &Root, path: &Path, access: Access) -> io::Result<File> {
        Usual.open(root, path, access)
    }

    fn write(&self, file: &File, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Usual.write(file, buffers, offset)
    }

    fn read(&self, file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
        hang_while(&self.reads_hang);
        Usual.read(file, out, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        hang_while(&self.syncs_hang);
        Usual.sync(file)
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
