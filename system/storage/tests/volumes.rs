//! Volumes that are mounted and unmounted, full, and read-only: real ones, in a mount namespace of its own.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sha1::{Digest, Sha1};
use shoal_metainfo::verifier::V1Pieces;
use shoal_metainfo::{
    BLOCK_LENGTH, Block, BlockIndex, FileIndex, InfoHash, Layout, PieceIndex, Verifier,
};
use shoal_storage::{
    Content, ContentSpec, Event, Fate, FileSpec, Location, Mode, Progress, Reason, Storage,
    StorageConfig, StorageError,
};
use tokio::sync::mpsc;

/// Set in the child process that runs inside the namespace.
const INSIDE: &str = "SHOAL_TEST_INSIDE_NAMESPACE";

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

const PIECES: u32 = 32;
const PIECE: u32 = 4 * BLOCK_LENGTH;

/// Runs the test of this name, which `body` is, where it can mount what it likes and nobody else sees it.
fn among_mounts<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(body());
    }
    let namespace = || {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.arg("--mount");
        command
    };
    let possible = namespace()
        .args(["mount", "-t", "tmpfs", "none", "/tmp"])
        .stderr(Stdio::null())
        .status();
    assert!(
        possible.is_ok_and(|status| status.success()),
        "there is no right to mount anything: run as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
    );
    let child = namespace()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn system(command: &str, arguments: &[&str]) {
    let ran = Command::new(command).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command} {arguments:?}: {said}");
}

/// A place to mount things below, and a content with known bytes.
struct World {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    layout: Arc<Layout>,
    verifier: Arc<Verifier>,
}

impl World {
    fn new() -> Self {
        let mut bytes = vec![0; (PIECES * PIECE) as usize];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        let hashes = bytes.chunks(PIECE as usize);
        let hashes = hashes.map(|piece| Sha1::digest(piece).into()).collect();
        World {
            dir: tempfile::tempdir().unwrap(),
            layout: Arc::new(Layout::contiguous(bytes.len() as u64, PIECE).unwrap()),
            verifier: Arc::new(Verifier::V1(V1Pieces(hashes))),
            bytes,
        }
    }

    /// A folder of this name.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// A new volume of that many KiB.
    fn volume(&self, name: &str, kib: u32) -> PathBuf {
        let folder = self.folder(name);
        let size = format!("size={kib}k");
        let path = folder.to_str().unwrap();
        system("mount", &["-t", "tmpfs", "-o", &size, "none", path]);
        folder
    }

    /// Two files, of a quarter and three quarters of the bytes.
    fn spec(&self, directory: &Path) -> ContentSpec {
        let quarter = self.bytes.len() as u64 / 4;
        let file = |index: u32, offset: u64, length: u64| FileSpec {
            index: FileIndex(index),
            path: Path::new("top").join(format!("file-{index}")),
            length,
            offset,
            padding: false,
            executable: false,
        };
        ContentSpec {
            info_hash: InfoHash([7; 20]),
            layout: Arc::clone(&self.layout),
            verifier: Arc::clone(&self.verifier),
            files: vec![file(0, 0, quarter), file(1, quarter, 3 * quarter)],
            directory: directory.to_owned(),
            renamed: std::collections::BTreeMap::new(),
            wanted: vec![true; 2],
            journal: Some(self.dir.path().join("journal")),
            mode: Mode::Download,
            preallocate: false,
            accept_missing: false,
        }
    }

    fn open(&self, directory: &Path) -> Result<Rig, StorageError> {
        self.open_spec(self.spec(directory))
    }

    fn open_spec(&self, spec: ContentSpec) -> Result<Rig, StorageError> {
        let storage = Storage::start(StorageConfig {
            threads: 2,
            cache_bytes: 1024 * 1024,
            retry_pause: Duration::from_millis(10),
            sync_interval: Duration::from_millis(50),
            ..StorageConfig::default()
        });
        let storage = storage.unwrap();
        let (sender, events) = mpsc::channel(1024);
        let content = storage.open(spec, sender)?;
        Ok(Rig {
            storage,
            content,
            events,
        })
    }
}

struct Rig {
    storage: Storage,
    content: Content,
    events: mpsc::Receiver<Event>,
}

impl Rig {
    async fn write(&self, world: &World, pieces: std::ops::Range<u32>) {
        for piece in pieces.map(PieceIndex) {
            for block in (0..4).map(BlockIndex) {
                let start = (piece.0 * PIECE + block.offset()) as usize;
                let lease = tokio::time::timeout(PATIENCE, self.storage.lease()).await;
                let mut buffer = lease.expect("no buffer");
                buffer.copy_from_slice(&world.bytes[start..start + BLOCK_LENGTH as usize]);
                self.content.write(Block { piece, block }, buffer);
            }
        }
    }

    async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("no event came").unwrap()
    }

    /// Takes events until that many pieces were verified. Nothing else comes but what two threads tell one after the other.
    async fn verified(&mut self, count: u32) {
        let mut verified = 0;
        while verified < count {
            match self.next().await {
                Event::Verified { .. } => verified += 1,
                Event::Suspended { .. } | Event::Resumed => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What comes until it is suspended, and why that is.
    async fn suspended(&mut self) -> (u32, Reason) {
        let mut verified = 0;
        loop {
            match self.next().await {
                Event::Verified { .. } => verified += 1,
                Event::Suspended { reason, .. } => return (verified, reason),
                other => panic!("{other:?}"),
            }
        }
    }

    async fn resumed(&mut self) -> u32 {
        let mut verified = 0;
        loop {
            match self.next().await {
                Event::Verified { .. } => verified += 1,
                Event::Resumed => return verified,
                other => panic!("{other:?}"),
            }
        }
    }

    /// How many pieces can be read; all that can be read is right.
    fn have(&self, world: &World) -> u32 {
        let mut have = 0;
        let mut bytes = vec![0; PIECE as usize];
        for piece in world.layout.pieces() {
            if self.content.read(piece, 0, &mut bytes).is_ok() {
                let start = (piece.0 * PIECE) as usize;
                assert!(bytes == world.bytes[start..start + PIECE as usize]);
                have += 1;
            }
        }
        have
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn nothing_is_lost_with_a_drive_and_nothing_is_written_where_it_was_mounted() {
    let name = "nothing_is_lost_with_a_drive_and_nothing_is_written_where_it_was_mounted";
    among_mounts(name, || async {
        let world = World::new();
        // What is on the drive survives that it is unplugged.
        let drive = world.volume("drive", 8 * 1024);
        let point = world.folder("point");
        let (drive, point_text) = (drive.to_str().unwrap(), point.to_str().unwrap());
        let plug = || system("mount", &["--bind", drive, point_text]);
        let unplug = || system("umount", &["--lazy", point_text]);
        plug();
        let mut rig = world.open(&point).unwrap();
        rig.write(&world, 0..8).await;
        rig.verified(8).await;
        rig.content.sync().unwrap();
        unplug();
        // Nobody has to read or write for that.
        assert_eq!(rig.suspended().await, (0, Reason::VolumeMissing));
        rig.write(&world, 8..12).await;
        assert!(rig.have(&world) <= 4, "of those in memory alone");
        assert!(is_empty(&point));
        plug();
        let verified = rig.resumed().await;
        rig.verified(4 - verified).await;
        assert_eq!(rig.have(&world), 12);
        rig.content.close().unwrap();
        drop(rig);
        // A new process finds an empty folder.
        unplug();
        for accept_missing in [false, true] {
            let spec = ContentSpec {
                accept_missing,
                ..world.spec(&point)
            };
            let refused = world.open_spec(spec).map(|_| ()).unwrap_err();
            assert!(
                matches!(refused, StorageError::VolumeMissing(_)),
                "{refused}"
            );
        }
        let storage = Storage::start(StorageConfig::default()).unwrap();
        let spec = world.spec(&point);
        let removed = storage.remove(&spec, &Fate::Deleted, &AtomicBool::new(false));
        assert!(matches!(removed, Err(StorageError::VolumeMissing(_))));
        assert!(is_empty(&point));
        plug();
        let mut rig = world.open(&point).unwrap();
        let resumed = rig.content.resumed();
        assert_eq!((resumed.have.count(), resumed.suspect.len()), (12, 0));
        rig.write(&world, 12..PIECES).await;
        rig.verified(PIECES - 12).await;
        assert_eq!(rig.have(&world), PIECES);
    });
}

#[test]
fn before_its_first_piece_a_download_is_not_begun_below_an_unmounted_drive_either() {
    let name = "before_its_first_piece_a_download_is_not_begun_below_an_unmounted_drive_either";
    among_mounts(name, || async {
        let world = World::new();
        let point = world.volume("drive", 8 * 1024);
        let rig = world.open(&point).unwrap();
        rig.content.close().unwrap();
        drop(rig);
        system("umount", &[point.to_str().unwrap()]);
        let refused = world.open(&point).map(|_| ()).unwrap_err();
        assert!(
            matches!(refused, StorageError::VolumeMissing(_)),
            "{refused}"
        );
        assert!(is_empty(&point));
        // Another drive may be mounted there, which is a person's word.
        world.volume("drive", 8 * 1024);
        assert!(world.open(&point).is_ok());
    });
}

#[test]
fn a_full_volume_keeps_what_needs_room_waiting_and_nobody_else() {
    let name = "a_full_volume_keeps_what_needs_room_waiting_and_nobody_else";
    among_mounts(name, || async {
        let world = World::new();
        let point = world.volume("drive", 1024);
        let mut rig = world.open(&point).unwrap();
        let other = World::new();
        let mut beside = other.open(&other.folder("target")).unwrap();
        // As much as waits in memory.
        rig.write(&world, 0..24).await;
        let (verified, reason) = rig.suspended().await;
        assert_eq!(reason, Reason::Full);
        assert!((8..=16).contains(&verified), "{verified}");
        beside.write(&other, 0..PIECES).await;
        beside.verified(PIECES).await;
        assert_eq!(beside.have(&other), PIECES);
        let size = "remount,size=8m";
        system("mount", &["-o", size, point.to_str().unwrap()]);
        let more = rig.resumed().await;
        rig.verified(24 - verified - more).await;
        rig.write(&world, 24..PIECES).await;
        rig.verified(PIECES - 24).await;
        assert_eq!(rig.have(&world), PIECES);
        rig.content.close().unwrap();
    });
}

#[test]
fn a_volume_that_can_only_be_read_is_served_from() {
    let name = "a_volume_that_can_only_be_read_is_served_from";
    among_mounts(name, || async {
        let world = World::new();
        let point = world.volume("drive", 8 * 1024);
        let text = point.to_str().unwrap();
        let mut rig = world.open(&point).unwrap();
        rig.write(&world, 0..8).await;
        rig.verified(8).await;
        rig.content.close().unwrap();
        drop(rig);
        system("mount", &["-o", "remount,ro", text]);
        let mut rig = world.open(&point).unwrap();
        assert_eq!(rig.have(&world), 8);
        rig.write(&world, 8..10).await;
        assert_eq!(rig.suspended().await, (0, Reason::ReadOnly));
        assert!(rig.have(&world) >= 8);
        system("mount", &["-o", "remount,rw", text]);
        let verified = rig.resumed().await;
        rig.verified(2 - verified).await;
    });
}

#[test]
fn a_content_moves_to_another_volume_if_there_is_room_and_into_the_trash_of_that() {
    let name = "a_content_moves_to_another_volume_if_there_is_room_and_into_the_trash_of_that";
    among_mounts(name, || async {
        let world = World::new();
        let first = world.volume("first", 8 * 1024);
        let (small, large) = (world.volume("small", 1024), world.volume("large", 8 * 1024));
        let mut rig = world.open(&first).unwrap();
        rig.write(&world, 0..PIECES).await;
        rig.verified(PIECES).await;
        let at = |directory: &Path| Location {
            directory: directory.to_owned(),
            ..Location::default()
        };
        let refused = rig.content.relocate(at(&small), &Progress::default());
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), Some(Reason::Full), "{refused}");
        assert!(is_empty(&small) && rig.have(&world) == PIECES);
        let progress = Progress::default();
        rig.content.relocate(at(&large), &progress).unwrap();
        let length = world.bytes.len() as u64;
        assert_eq!(progress.bytes(), (length, length));
        assert!(is_empty(&first) && rig.have(&world) == PIECES);
        rig.content.close().unwrap();
        drop(rig);
        let rig = world.open(&large).unwrap();
        let resumed = rig.content.resumed();
        assert_eq!((resumed.have.count(), resumed.suspect.len()), (PIECES, 0));
        rig.content.close().unwrap();
        drop(rig);
        let storage = Storage::start(StorageConfig::default()).unwrap();
        let fate = Fate::Trashed {
            // On another volume.
            home: Some(first.join("Trash")),
        };
        let removed = storage.remove(&world.spec(&large), &fate, &AtomicBool::new(false));
        assert_eq!(removed.unwrap().files, 2);
        let trash = large.join(".Trash-0");
        assert!(trash.join("files/top/file-1").exists() && is_empty(&first));
        let note = fs::read_to_string(trash.join("info/top.trashinfo")).unwrap();
        assert!(note.contains("\nPath=top\n"), "{note}");
    });
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_disk_that_is_taken_out_is_let_go_and_goes_on_as_another_device() {
    let name = "a_disk_that_is_taken_out_is_let_go_and_goes_on_as_another_device";
    among_mounts(name, || async {
        let world = World::new();
        let image = world.dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let (image, point) = (image.to_str().unwrap(), world.folder("point"));
        let point_text = point.to_str().unwrap();
        system("mkfs.ext4", &["-q", image]);
        let mount = || system("mount", &["-o", "loop", image, point_text]);
        mount();
        let mut rig = world.open(&point).unwrap();
        rig.write(&world, 0..8).await;
        rig.verified(8).await;
        rig.content.sync().unwrap();
        system("umount", &["--lazy", point_text]);
        assert_eq!(rig.suspended().await, (0, Reason::VolumeMissing));
        let is_held = || {
            let devices = Command::new("losetup").args(["-j", image]).output();
            !devices.unwrap().stdout.is_empty()
        };
        // Nothing of it is open any more.
        while is_held() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The number that it had is another's.
        let other = world.dir.path().join("other");
        fs::File::create(&other).unwrap().set_len(1 << 20).unwrap();
        let other = other.to_str().unwrap();
        system("losetup", &["--find", other]);
        mount();
        assert_eq!(rig.resumed().await, 0);
        let devices = Command::new("losetup").args(["-j", other]).output();
        let devices = String::from_utf8(devices.unwrap().stdout).unwrap();
        system("losetup", &["--detach", devices.split(':').next().unwrap()]);
        assert_eq!(rig.have(&world), 8);
        rig.write(&world, 8..PIECES).await;
        rig.verified(PIECES - 8).await;
        rig.content.close().unwrap();
        drop(rig);
        let rig = world.open(&point).unwrap();
        let resumed = rig.content.resumed();
        assert_eq!((resumed.have.count(), resumed.suspect.len()), (PIECES, 0));
    });
}
