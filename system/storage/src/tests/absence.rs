//! Files and directories that go, and come back.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shoal_metainfo::PieceIndex;

use super::rig::{FaultyDisk, Rig, World, config};
use crate::{Event, Mode, ReadError, Reason, StorageError};

async fn complete(world: &World) -> Rig {
    let mut rig = Rig::open(world.spec());
    rig.complete(world).await;
    rig.content.sync().unwrap();
    rig
}

async fn suspended(rig: &mut Rig) -> Reason {
    loop {
        if let Event::Suspended { reason, .. } = rig.next().await {
            return reason;
        }
    }
}

/// What comes until it goes on.
async fn resumed(rig: &mut Rig) -> Vec<Event> {
    let mut others = Vec::new();
    loop {
        match rig.next().await {
            Event::Resumed => return others,
            other => others.push(other),
        }
    }
}

#[tokio::test]
async fn a_directory_that_goes_is_missing_and_nothing_is_lost_when_it_is_back() {
    let world = World::new();
    let mut rig = complete(&world).await;
    let count = world.layout.piece_count();
    let away = world.dir.path().join("away");
    fs::rename(world.target(), &away).unwrap();
    // Nobody reads or writes: it is found all the same.
    assert_eq!(suspended(&mut rig).await, Reason::VolumeMissing);
    assert!(rig.have(&world).is_clear());
    let refused = rig.content.accept_missing();
    assert!(matches!(refused, Err(StorageError::VolumeMissing(_))));
    // An empty folder in its place on the same volume: somebody deleted the files, or so it looks.
    fs::create_dir(world.target()).unwrap();
    assert_eq!(suspended(&mut rig).await, Reason::FilesMissing);
    assert!(rig.have(&world).is_clear());
    assert_eq!(fs::read_dir(world.target()).unwrap().count(), 0);
    fs::remove_dir(world.target()).unwrap();
    rig.content.inner.look_for_return();
    assert_eq!(suspended(&mut rig).await, Reason::VolumeMissing);
    let check = rig.content.verify(world.layout.pieces().collect());
    assert!(rig.have(&world).is_clear());
    assert_eq!(check.checked(), 0, "it waits");
    fs::rename(&away, world.target()).unwrap();
    assert!(resumed(&mut rig).await.is_empty());
    for _ in 0..count {
        let event = rig.next().await;
        let right = matches!(event, Event::Checked { right: true, .. });
        assert!(right, "{event:?}");
    }
    assert_eq!(rig.have(&world).count(), count);
    rig.content.close().unwrap();
    drop(rig);
    let rig = Rig::open(world.spec());
    assert_eq!(rig.content.resumed().have.count(), count);
    assert!(rig.content.resumed().suspect.is_empty());
}

#[tokio::test]
async fn what_is_received_while_the_directory_is_missing_is_written_when_it_is_back() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.write_piece(&world, 0).await;
    rig.await_verified(1).await;
    rig.content.sync().unwrap();
    let away = world.dir.path().join("away");
    fs::rename(world.target(), &away).unwrap();
    assert_eq!(suspended(&mut rig).await, Reason::VolumeMissing);
    for piece in 1..4 {
        rig.write_piece(&world, piece).await;
    }
    assert!(!world.target().exists());
    fs::rename(&away, world.target()).unwrap();
    assert!(resumed(&mut rig).await.is_empty());
    assert!(rig.await_verified(3).await.is_empty());
    assert_eq!(rig.have(&world).count(), 4);
    rig.complete(&world).await;
    rig.content.close().unwrap();
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn a_check_that_a_drive_goes_under_is_carried_on_when_it_is_back() {
    for round in 0..20 {
        let world = World::new();
        let rig = complete(&world).await;
        rig.content.close().unwrap();
        drop(rig);
        // Nothing is known, so that all is to be checked.
        fs::remove_file(world.journal()).unwrap();
        let mut rig = Rig::open(world.spec());
        let suspect = rig.content.resumed().suspect.clone();
        let count = suspect.len();
        assert_eq!(count, world.layout.piece_count() as usize);
        let away = world.dir.path().join("away");
        let check = rig.content.verify(suspect);
        let before = rig.events.recv().await.unwrap();
        assert!(matches!(before, Event::Checked { right: true, .. }));
        fs::rename(world.target(), &away).unwrap();
        rig.content.inner.look_at_volume();
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        fs::rename(&away, world.target()).unwrap();
        let (mut checked, mut right) = (1, 1);
        while checked < count {
            match rig.next().await {
                Event::Checked { right: is, .. } => {
                    checked += 1;
                    right += usize::from(is);
                }
                // What was right and not synced is to be looked at once more.
                Event::Lost { .. } | Event::Suspended { .. } | Event::Resumed => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((right, check.checked() as usize), (count, count));
    }
}

#[tokio::test]
async fn blocks_that_left_memory_before_a_drive_went_are_fetched_again_and_nobody_is_blamed() {
    let world = World::new();
    let tiny = crate::StorageConfig {
        cache_bytes: 1,
        ..config()
    };
    let mut rig = Rig::open_on(world.spec(), tiny, FaultyDisk::sound()).unwrap();
    let blocks = world.blocks(PieceIndex(3));
    for &block in &blocks[..3] {
        rig.write(block, world.block(block)).await;
    }
    let mut held = Vec::new();
    while held.len() < 16 {
        held.push(rig.storage.lease().await);
    }
    drop(held);
    assert_eq!(rig.storage.stats().blocks_spilled, 3);
    let away = world.dir.path().join("away");
    fs::rename(world.target(), &away).unwrap();
    assert_eq!(suspended(&mut rig).await, Reason::VolumeMissing);
    // They had not arrived.
    let file = fs::File::options().write(true).open(away.join("top/d"));
    let file = file.unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 50_000], 0).unwrap();
    file.set_modified(modified).unwrap();
    fs::rename(&away, world.target()).unwrap();
    let dropped = Event::Dropped {
        piece: PieceIndex(3),
    };
    assert_eq!(resumed(&mut rig).await, [dropped]);
    rig.write_piece(&world, 3).await;
    assert!(rig.await_verified(1).await.is_empty());
}

#[tokio::test]
async fn what_was_changed_elsewhere_or_had_not_arrived_is_verified_again() {
    let world = World::new();
    let slow = crate::StorageConfig {
        sync_interval: std::time::Duration::from_secs(3_600),
        ..config()
    };
    let mut rig = Rig::open_on(world.spec(), slow, FaultyDisk::sound()).unwrap();
    rig.write_piece(&world, 0).await;
    rig.await_verified(1).await;
    rig.content.sync().unwrap();
    for piece in 2..world.layout.piece_count() {
        rig.write_piece(&world, piece).await;
    }
    let others = world.layout.piece_count() - 2;
    rig.await_verified(others as usize).await;
    let away = world.dir.path().join("away");
    fs::rename(world.target(), &away).unwrap();
    assert_eq!(suspended(&mut rig).await, Reason::VolumeMissing);
    let file = fs::File::open(away.join("top/a")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    file.set_modified(later).unwrap();
    fs::rename(&away, world.target()).unwrap();
    let mut lost = Vec::new();
    let mut goes_on = false;
    while !goes_on || lost.len() < 1 + others as usize {
        match rig.next().await {
            Event::Lost { piece } => lost.push(piece),
            Event::Resumed => goes_on = true,
            other => panic!("{other:?}"),
        }
    }
    lost.sort();
    // The first is in the file that was touched; the others were not synced.
    assert_eq!(lost.len(), 1 + others as usize);
    assert!(!lost.contains(&PieceIndex(1)));
    let right = rig.check_all(&world).await;
    assert_eq!(right.iter().filter(|&&right| right).count(), lost.len());
}

#[tokio::test]
async fn files_that_are_gone_are_waited_for_and_the_others_are_served() {
    let world = World::new();
    let mut rig = complete(&world).await;
    let count = world.layout.piece_count();
    let (path, away) = (world.file("top/d"), world.dir.path().join("d"));
    fs::rename(&path, &away).unwrap();
    // What is open stays open; a look at the path tells.
    let last = PieceIndex(count - 1);
    rig.content.inner.files.close_all();
    rig.content.doubt(last);
    assert_eq!(suspended(&mut rig).await, Reason::FilesMissing);
    let read = rig.content.source(last, 0, 1);
    assert!(matches!(read, Err(ReadError::Missing(_))), "{read:?}");
    assert_eq!(rig.have(&world).count(), count - 4);
    let right = rig.check_all(&world).await;
    assert!(right.iter().all(|&right| right), "nothing was learned");
    assert!(!path.exists());
    fs::rename(&away, &path).unwrap();
    assert!(resumed(&mut rig).await.is_empty());
    assert_eq!(rig.have(&world).count(), count);
}

#[tokio::test]
async fn a_person_can_take_what_is_gone_for_lost_and_have_it_downloaded_again() {
    let world = World::new();
    let rig = complete(&world).await;
    let count = world.layout.piece_count();
    rig.content.close().unwrap();
    drop(rig);
    fs::remove_file(world.file("top/d")).unwrap();
    fs::remove_file(world.file("top/sub/b")).unwrap();
    for mode in [Mode::Download, Mode::Seed] {
        let mut spec = world.spec();
        spec.mode = mode;
        for _ in 0..2 {
            let refused = Rig::open_on(spec.clone(), config(), FaultyDisk::sound());
            let refused = refused.map(|_| ()).unwrap_err();
            let StorageError::FilesMissing { others: 1, .. } = &refused else {
                panic!("{refused}");
            };
            assert_eq!(refused.reason(), Some(Reason::FilesMissing));
        }
    }
    assert!(!world.file("top/d").exists(), "none is made");
    let mut spec = world.spec();
    spec.accept_missing = true;
    let mut rig = Rig::open(spec);
    assert_eq!(rig.content.resumed().have.count(), count - 5);
    rig.complete(&world).await;
    world.assert_on_disk(&[true; 6]);
    rig.content.sync().unwrap();
    // While it runs as well.
    fs::remove_file(world.file("top/a")).unwrap();
    rig.content.doubt(PieceIndex(0));
    assert_eq!(suspended(&mut rig).await, Reason::FilesMissing);
    rig.content.accept_missing().unwrap();
    let mut lost = 0;
    let mut goes_on = false;
    while lost < 2 || !goes_on {
        match rig.next().await {
            Event::Lost { .. } => lost += 1,
            Event::Resumed => goes_on = true,
            other => panic!("{other:?}"),
        }
    }
    rig.complete(&world).await;
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn a_recheck_takes_missing_files_for_gone_whether_they_were_waited_for_or_not() {
    for waited_for in [false, true] {
        let world = World::new();
        let mut rig = complete(&world).await;
        let count = world.layout.piece_count();
        fs::remove_file(world.file("top/d")).unwrap();
        if waited_for {
            rig.content.doubt(PieceIndex(count - 1));
            assert_eq!(suspended(&mut rig).await, Reason::FilesMissing);
        }
        let check = rig.content.recheck();
        let (mut checked, mut right) = (0, 0);
        let mut goes_on = !waited_for;
        while checked < count || !goes_on {
            match rig.next().await {
                Event::Checked { right: is, .. } => {
                    checked += 1;
                    right += u32::from(is);
                }
                Event::Resumed => goes_on = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((check.checked(), right), (count, count - 4));
        rig.complete(&world).await;
        world.assert_on_disk(&[true; 6]);
    }
}

#[tokio::test]
async fn a_directory_that_is_missing_when_it_is_opened_is_no_new_beginning() {
    let world = World::new();
    let rig = complete(&world).await;
    rig.content.close().unwrap();
    drop(rig);
    let away = world.dir.path().join("away");
    let spec = world.spec();
    fs::rename(world.target(), &away).unwrap();
    for _ in 0..2 {
        let refused = Rig::open_on(spec.clone(), config(), FaultyDisk::sound()).map(|_| ());
        assert!(matches!(refused, Err(StorageError::VolumeMissing(_))));
    }
    fs::rename(&away, world.target()).unwrap();
    let rig = Rig::open(spec);
    let resumed = rig.content.resumed();
    assert_eq!(resumed.have.count(), world.layout.piece_count());
    assert!(resumed.suspect.is_empty());
}

#[tokio::test]
async fn too_many_open_files_are_not_taken_for_a_failing_disk() {
    let world = World::new();
    let disk = FaultyDisk::sound();
    let mut rig = Rig::open_on(world.spec(), config(), Arc::clone(&disk) as _).unwrap();
    rig.complete(&world).await;
    let count = world.layout.piece_count();
    disk.exhausted.store(1, Ordering::Relaxed);
    // Others are closed, and it is tried again.
    assert_eq!(rig.have(&world).count(), count);
    disk.exhausted.store(u64::MAX, Ordering::Relaxed);
    rig.content.inner.files.close_all();
    assert!(rig.have(&world).is_clear());
    disk.exhausted.store(0, Ordering::Relaxed);
    assert_eq!(rig.have(&world).count(), count);
    assert!(rig.events.try_recv().is_err(), "nothing was lost");
}

#[tokio::test]
async fn data_waits_for_whatever_a_person_can_mend() {
    // Read-only, permission, length, name, a server that does not answer.
    for (code, reason) in [
        (30, Reason::ReadOnly),
        (13, Reason::Denied),
        (27, Reason::TooLarge),
        (36, Reason::Name),
        (110, Reason::Unreachable),
        (116, Reason::Unreachable),
    ] {
        let world = World::new();
        let disk = FaultyDisk::sound();
        let mut rig = Rig::open_on(world.spec(), config(), Arc::clone(&disk) as _).unwrap();
        rig.write_piece(&world, 0).await;
        rig.await_verified(1).await;
        disk.refuses_with.store(code, Ordering::Relaxed);
        rig.write_piece(&world, 3).await;
        assert_eq!(suspended(&mut rig).await, reason);
        // More often than what fails for good is tried.
        let tried = disk.writes.load(Ordering::Relaxed) + 10;
        while disk.writes.load(Ordering::Relaxed) < tried {
            tokio::task::yield_now().await;
        }
        let have = rig.have(&world).count();
        assert_eq!(have, 2, "what is there is served, and what waits as well");
        disk.refuses_with.store(0, Ordering::Relaxed);
        assert!(resumed(&mut rig).await.iter().all(|event| {
            matches!(
                event,
                Event::Verified {
                    piece: PieceIndex(3),
                    ..
                }
            )
        }));
    }
}
