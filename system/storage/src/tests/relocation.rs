//! Moving and renaming, under load, on failing disks, and in processes that are killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal_metainfo::{FileIndex, PieceIndex};

use super::rig::{FaultyDisk, Rig, World, config};
use crate::disk::Root;
use crate::{
    Content, ContentSpec, Location, Mode, Needed, Progress, Reason, Storage, StorageError,
    check_relocation,
};

/// What is below a folder, files alone.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_in(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn other(world: &World) -> PathBuf {
    let other = world.dir.path().join("other");
    fs::create_dir_all(&other).unwrap();
    other
}

fn at(directory: &Path) -> Location {
    Location {
        directory: directory.to_owned(),
        ..Location::default()
    }
}

fn spec_at(world: &World, location: &Location) -> ContentSpec {
    ContentSpec {
        directory: location.directory.clone(),
        renamed: location.renamed.clone(),
        ..world.spec()
    }
}

/// Only the first two files are wanted, and pieces 0 to 2 are there: the last of them in part among the fragments.
fn partly(world: &World, location: &Location) -> ContentSpec {
    ContentSpec {
        wanted: vec![true, true, true, false, false, false],
        ..spec_at(world, location)
    }
}

async fn half(world: &World, disk: Arc<FaultyDisk>) -> Rig {
    let spec = partly(world, &at(&world.target()));
    let mut rig = Rig::open_on(spec, config(), disk).unwrap();
    for piece in 0..3 {
        rig.write_piece(world, piece).await;
    }
    rig.await_verified(3).await;
    rig
}

async fn relocate(content: &Content, to: Location) -> Result<(), StorageError> {
    let content = content.clone();
    let moving = move || {
        let progress = Progress::default();
        let moved = content.relocate(to, &progress);
        let (done, total) = progress.bytes();
        assert!(done <= total);
        assert!(moved.is_err() || done == total);
        moved
    };
    tokio::task::spawn_blocking(moving).await.unwrap()
}

/// Nothing is left to be known.
fn assert_resumes(rig: &Rig, world: &World, pieces: u32) {
    let resumed = rig.content.resumed();
    assert_eq!(resumed.have.count(), pieces);
    assert!(resumed.suspect.is_empty(), "{:?}", resumed.suspect);
    assert_eq!(rig.have(world), resumed.have);
}

#[tokio::test]
async fn a_content_moves_and_is_found_where_it_is() {
    for copied in [false, true] {
        let world = World::new();
        let disk = FaultyDisk::sound();
        disk.volumes.store(copied, Ordering::Relaxed);
        let mut rig = half(&world, Arc::clone(&disk)).await;
        let to = at(&other(&world));
        let before = rig.content.source(PieceIndex(1), 0, 65_536).unwrap();
        relocate(&rig.content, to.clone()).await.unwrap();
        assert_eq!(*rig.content.location(), to);
        assert!(files_in(&world.target()).is_empty());
        assert_eq!(fs::read_dir(world.target()).unwrap().count(), 0);
        assert_eq!(files_in(&to.directory).len(), 4, "with fragments");
        assert_eq!(rig.have(&world).count(), 3);
        assert_eq!(before.len(), 65_536);
        rig.content.sync().unwrap();
        // A kill: whoever looks in the old place is told.
        drop(rig);
        let rig_again = Rig::open(partly(&world, &at(&world.target())));
        assert_eq!(rig_again.content.resumed().relocated, Some(to.clone()));
        assert_resumes(&rig_again, &world, 3);
        rig_again.content.close().unwrap();
        drop(rig_again);
        rig = Rig::open(spec_at(&world, &to));
        assert_eq!(rig.content.resumed().relocated, None);
        assert_resumes(&rig, &world, 3);
        rig.complete(&world).await;
        rig.content.close().unwrap();
        drop(rig);
        assert_eq!(files_in(world.dir.path()).len(), 6, "five and the journal");
        let rig = Rig::open(spec_at(&world, &to));
        assert_resumes(&rig, &world, world.layout.piece_count());
    }
}

#[tokio::test]
async fn what_is_received_while_files_move_is_kept_and_all_can_be_read_all_the_time() {
    for copied in [false, true] {
        for seed in 0..6 {
            let world = World::new();
            let disk = FaultyDisk::sound();
            disk.volumes.store(copied, Ordering::Relaxed);
            let mut rig = Rig::open_on(world.spec(), config(), disk).unwrap();
            let count = world.layout.piece_count();
            rig.write_piece(&world, 0).await;
            rig.await_verified(1).await;
            let places = [other(&world), world.target()];
            let ended = Arc::new(AtomicBool::new(false));
            let moving = {
                let (content, ended) = (rig.content.clone(), Arc::clone(&ended));
                tokio::task::spawn_blocking(move || {
                    for round in 0..5 {
                        let to = at(&places[round % 2]);
                        content.relocate(to, &Progress::default()).unwrap();
                    }
                    ended.store(true, Ordering::Relaxed);
                })
            };
            let blocks = world.shuffled(seed);
            for block in blocks.into_iter().filter(|block| block.piece.0 > 0) {
                rig.write(block, world.block(block)).await;
                // Compares what can be read.
                assert!(rig.have(&world).get(PieceIndex(0)));
                tokio::task::yield_now().await;
            }
            while !ended.load(Ordering::Relaxed) {
                assert!(rig.have(&world).get(PieceIndex(0)));
                tokio::task::yield_now().await;
            }
            moving.await.unwrap();
            let others = rig.await_verified(count as usize - 1).await;
            assert!(others.is_empty(), "{others:?}");
            assert_eq!(rig.have(&world).count(), count);
            rig.content.close().unwrap();
            assert!(files_in(&world.target()).is_empty());
            let rig = Rig::open(spec_at(&world, &at(&other(&world))));
            assert_resumes(&rig, &world, count);
        }
    }
}

/// How many operations a move takes.
async fn operations(copied: bool) -> i64 {
    let world = World::new();
    let disk = FaultyDisk::sound();
    disk.volumes.store(copied, Ordering::Relaxed);
    let rig = half(&world, Arc::clone(&disk)).await;
    let before = disk.operations.load(Ordering::Relaxed);
    relocate(&rig.content, at(&other(&world))).await.unwrap();
    i64::try_from(disk.operations.load(Ordering::Relaxed) - before).unwrap()
}

#[tokio::test]
async fn killed_at_any_operation_all_of_a_content_is_in_one_place_that_is_found() {
    for copied in [false, true] {
        let total = operations(copied).await;
        assert!(total > 10, "{total}");
        let (mut stayed, mut moved) = (0, 0);
        for operation in 0..=total {
            let world = World::new();
            let disk = FaultyDisk::sound();
            disk.volumes.store(copied, Ordering::Relaxed);
            let rig = half(&world, Arc::clone(&disk)).await;
            let to = at(&other(&world));
            disk.die_at(operation);
            let _ = relocate(&rig.content, to.clone()).await;
            drop(rig);
            let sound = FaultyDisk::sound();
            sound.volumes.store(copied, Ordering::Relaxed);
            let spec = partly(&world, &at(&world.target()));
            let rig = Rig::open_on(spec, config(), sound).unwrap();
            assert_resumes(&rig, &world, 3);
            let (place, empty) = match &rig.content.resumed().relocated {
                Some(found) => {
                    moved += 1;
                    assert_eq!(*found, to);
                    (to.clone(), world.target())
                }
                None => {
                    stayed += 1;
                    (at(&world.target()), to.directory.clone())
                }
            };
            let left = fs::read_dir(&empty).unwrap().count();
            assert_eq!(left, 0, "operation {operation}, copied {copied}");
            assert_eq!(files_in(&place.directory).len(), 4);
            drop(rig);
            let mut rig = Rig::open(spec_at(&world, &place));
            assert_resumes(&rig, &world, 3);
            rig.complete(&world).await;
        }
        assert!(stayed > 3 && moved > 1, "{stayed} {moved}");
    }
}

#[tokio::test]
async fn whichever_operation_of_a_move_fails_the_content_goes_on() {
    for copied in [false, true] {
        let total = operations(copied).await;
        let (mut failed, mut suspected) = (0, 0);
        for operation in 0..=total {
            let world = World::new();
            let disk = FaultyDisk::sound();
            disk.volumes.store(copied, Ordering::Relaxed);
            let mut rig = half(&world, Arc::clone(&disk)).await;
            let to = at(&other(&world));
            disk.fail_once_at(operation);
            let moved = relocate(&rig.content, to.clone()).await;
            disk.fail_once_at(-1);
            failed += u32::from(moved.is_err());
            assert_eq!(rig.have(&world).count(), 3, "operation {operation}");
            // Also where the disk did not even let go back.
            relocate(&rig.content, to.clone()).await.unwrap();
            rig.content.select(&[true; 6]).unwrap();
            rig.complete(&world).await;
            rig.content.close().unwrap();
            drop(rig);
            let mut rig = Rig::open(spec_at(&world, &to));
            assert!(files_in(&world.target()).is_empty());
            let resumed = rig.content.resumed().clone();
            let known = resumed.have.count() as usize + resumed.suspect.len();
            assert_eq!(known, world.layout.piece_count() as usize);
            if !resumed.suspect.is_empty() {
                // What a sync that fails leaves to be looked at.
                suspected += 1;
                assert!(rig.check_all(&world).await.iter().all(|&right| right));
            }
        }
        assert!(failed > 5, "{failed}");
        assert!(suspected < failed, "{suspected} of {failed}");
    }
}

#[tokio::test]
async fn where_there_is_no_room_everything_stays() {
    let world = World::new();
    let disk = FaultyDisk::sound();
    disk.volumes.store(true, Ordering::Relaxed);
    let mut rig = half(&world, Arc::clone(&disk)).await;
    let before = files_in(&world.target());
    disk.room.store(70_000, Ordering::Relaxed);
    let to = other(&world);
    let refused = relocate(&rig.content, at(&to)).await.unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::Full), "{refused}");
    disk.room.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(files_in(&world.target()), before);
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    rig.content.select(&[true; 6]).unwrap();
    rig.complete(&world).await;
}

#[tokio::test]
async fn what_is_in_the_new_place_is_not_overwritten() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    let to = other(&world);
    for path in ["top/sub/b", "top/sub", "top"] {
        let path = to.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "mine").unwrap();
        let refused = relocate(&rig.content, at(&to)).await;
        assert!(
            matches!(
                refused,
                Err(StorageError::Occupied(_) | StorageError::NotAFile(_))
            ),
            "{refused:?}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        fs::remove_dir_all(&to).unwrap();
        fs::create_dir(&to).unwrap();
    }
    std::os::unix::fs::symlink(world.target(), to.join("top")).unwrap();
    let refused = relocate(&rig.content, at(&to)).await;
    assert!(matches!(refused, Err(StorageError::Link(_))), "{refused:?}");
    let missing = relocate(&rig.content, at(&to.join("missing"))).await;
    assert!(matches!(missing, Err(StorageError::NoDirectory(_))));
    world.assert_on_disk(&[true; 6]);
    // Where it is already.
    relocate(&rig.content, at(&world.target())).await.unwrap();
    assert_eq!(rig.have(&world).count(), world.layout.piece_count());
}

#[tokio::test]
async fn files_and_folders_get_other_names_which_are_remembered_by_who_opens_them() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    let renamed = rig.content.with_file_at(FileIndex(0), "top/x/new".into());
    relocate(&rig.content, renamed.unwrap()).await.unwrap();
    let renamed = rig
        .content
        .with_folder_at(Path::new("top"), Path::new("Übung"));
    relocate(&rig.content, renamed.unwrap()).await.unwrap();
    let found = files_in(&world.target());
    let found = found.iter().map(|path| path.strip_prefix(world.target()));
    let found: Vec<&Path> = found.map(Result::unwrap).collect();
    let names = ["c", "d", "empty", "sub/b", "x/new"].map(|name| Path::new("Übung").join(name));
    assert_eq!(found, names);
    assert_eq!(rig.have(&world).count(), world.layout.piece_count());
    let location = rig.content.location();
    rig.content.close().unwrap();
    drop(rig);
    let rig = Rig::open(spec_at(&world, &location));
    assert_resumes(&rig, &world, world.layout.piece_count());
    for (path, why) in [
        ("../x", "climbs"),
        ("/x", "absolute"),
        ("Übung/d", "taken"),
        ("Übung/d/x", "below a file"),
        ("Übung/sub", "a folder"),
        ("Übung/con", "a device of others' systems"),
        ("Übung/a\u{202e}b", "looks like something else"),
        ("", "nothing"),
    ] {
        let location = rig.content.with_file_at(FileIndex(0), path.into()).unwrap();
        assert!(relocate(&rig.content, location).await.is_err(), "{why}");
    }
    let nothing = rig.content.with_folder_at(Path::new("top"), Path::new("x"));
    assert!(matches!(nothing, Err(StorageError::NoFile(_))));
    let nothing = rig.content.with_file_at(FileIndex(99), "x".into());
    assert!(matches!(nothing, Err(StorageError::NoFile(_))));
    // Back, where the metainfo has it.
    let location = rig.content.with_file_at(FileIndex(0), "top/a".into());
    let location = location.unwrap();
    assert!(!location.renamed.contains_key(&FileIndex(0)));
    relocate(&rig.content, location).await.unwrap();
    assert!(world.file("top/a").exists());
}

#[tokio::test]
async fn a_content_that_is_closed_goes_back_and_a_closed_one_moves() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    rig.content.close().unwrap();
    let refused = relocate(&rig.content, at(&other(&world))).await;
    assert!(matches!(refused, Err(StorageError::Cancelled)));
    world.assert_on_disk(&[true; 6]);
    drop(rig);
    let storage = Storage::start(config()).unwrap();
    let cancelled = Progress::default();
    cancelled.cancel();
    let to = at(&other(&world));
    let refused = storage.relocate(world.spec(), to.clone(), &cancelled);
    assert!(matches!(refused, Err(StorageError::Cancelled)));
    world.assert_on_disk(&[true; 6]);
    storage
        .relocate(world.spec(), to.clone(), &Progress::default())
        .unwrap();
    assert!(files_in(&world.target()).is_empty());
    let mut spec = spec_at(&world, &to);
    spec.mode = Mode::Seed;
    let rig = Rig::open(spec);
    assert_resumes(&rig, &world, world.layout.piece_count());
}

#[tokio::test]
async fn what_could_not_be_moved_is_told_before_anything_is_touched() {
    let world = World::new();
    let to = at(&other(&world));
    let check = |to: &Location, needed: &mut Needed| check_relocation(&world.spec(), to, needed);
    let mut needed = Needed::default();
    let in_the_way = to.directory.join("top/a");
    fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    fs::write(&in_the_way, "of a person").unwrap();
    // Nothing of it is known to be on the disk.
    check(&to, &mut needed).unwrap();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    let occupied = check(&to, &mut needed);
    assert!(matches!(occupied, Err(StorageError::Occupied(path)) if path == in_the_way));
    let absent = check(&at(&to.directory.join("absent")), &mut needed);
    assert!(matches!(absent, Err(StorageError::NoDirectory(_))));
    fs::remove_file(&in_the_way).unwrap();
    check(&to, &mut needed).unwrap();
    // Where it is, it is not in its own way.
    check(&at(&world.target()), &mut needed).unwrap();
    assert!(needed.0.is_empty());

    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    if Root::new(memory.path()).unwrap().device().ok()
        == Root::new(&to.directory).unwrap().device().ok()
    {
        return;
    }
    let there = at(memory.path());
    check(&there, &mut needed).unwrap();
    let once: u64 = needed.0.values().sum();
    check(&there, &mut needed).unwrap();
    assert_eq!((once > 0, needed.0.values().sum::<u64>()), (true, 2 * once));
    needed
        .0
        .values_mut()
        .for_each(|bytes| *bytes = u64::MAX - 1);
    let full = check(&there, &mut needed);
    assert!(matches!(full, Err(StorageError::NoRoom { .. })));
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn a_content_that_was_forgotten_is_begun_where_it_is_said_to_be() {
    for all in [true, false] {
        let world = World::new();
        let mut rig = Rig::open(world.spec());
        rig.complete(&world).await;
        relocate(&rig.content, at(&other(&world))).await.unwrap();
        rig.content.close().unwrap();
        drop(rig);
        if all {
            crate::forget(&world.journal()).unwrap();
            assert_eq!(files_in(world.dir.path()).len(), 5);
        } else {
            fs::remove_file(world.journal()).unwrap();
        }
        let mut rig = Rig::open(world.spec());
        assert!(rig.content.resumed().fresh && rig.content.resumed().relocated.is_none());
        rig.complete(&world).await;
        world.assert_on_disk(&[true; 6]);
    }
}

#[tokio::test]
async fn what_was_moved_is_removed_where_it_is() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    let to = other(&world);
    relocate(&rig.content, at(&to)).await.unwrap();
    rig.content.close().unwrap();
    drop(rig);
    let storage = Storage::start(config()).unwrap();
    let removed = storage.remove(
        &world.spec(),
        &crate::Fate::Deleted,
        &AtomicBool::new(false),
    );
    assert_eq!(removed.unwrap().files, 5);
    assert!(files_in(world.dir.path()).is_empty(), "no note is left");
}

#[tokio::test]
async fn a_content_without_files_is_found_where_it_was_moved_back_to() {
    let world = World::new();
    let (there, here) = (at(&other(&world)), at(&world.target()));
    let rig = half(&world, FaultyDisk::sound()).await;
    relocate(&rig.content, there.clone()).await.unwrap();
    fs::remove_dir_all(&there.directory).unwrap();
    fs::create_dir_all(&there.directory).unwrap();
    rig.content.close().unwrap();
    drop(rig);
    let mut spec = partly(&world, &there);
    spec.accept_missing = true;
    let rig = Rig::open(spec);
    relocate(&rig.content, here.clone()).await.unwrap();
    rig.content.close().unwrap();
    drop(rig);
    let rig = Rig::open(partly(&world, &here));
    assert_eq!(rig.content.resumed().relocated, None);
    assert_eq!(*rig.content.location(), here);
}
