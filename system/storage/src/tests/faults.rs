//! What a content does when the disk fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use shoal_metainfo::PieceIndex;

use super::rig::{FaultyDisk, Rig, World, config};
use crate::{Event, Reason, StorageConfig};

#[tokio::test]
async fn a_full_disk_suspends_and_everything_completes_when_there_is_room() {
    let world = World::new();
    let count = world.layout.piece_count();
    let disk = FaultyDisk::with_room(100_000);
    let mut rig = Rig::open_on(world.spec(), config(), Arc::clone(&disk) as _).unwrap();
    for piece in 0..count {
        rig.write_piece(&world, piece).await;
    }
    let mut verified = 0;
    loop {
        match rig.next().await {
            Event::Verified { .. } => verified += 1,
            Event::Suspended { reason, .. } => {
                assert_eq!(reason, Reason::Full);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(verified < count);
    disk.room.store(u64::MAX, Ordering::Relaxed);
    let others = rig.await_verified((count - verified) as usize).await;
    assert!(others.contains(&Event::Resumed), "{others:?}");
    assert_eq!(rig.have(&world).count(), count);
    assert_eq!(rig.storage.stats().buffers_in_use, 0);
}

#[tokio::test]
async fn a_full_disk_under_a_full_cache_holds_writers_back_and_lets_them_go_on() {
    let world = World::new();
    let disk = FaultyDisk::with_room(20_000);
    let tiny = StorageConfig {
        cache_bytes: 1,
        ..config()
    };
    let mut rig = Rig::open_on(world.spec(), tiny, Arc::clone(&disk) as _).unwrap();
    let mut blocks = world.shuffled(3).into_iter();
    let mut kept = 0;
    while let Some(mut buffer) = rig.storage.try_lease() {
        let block = blocks.next().unwrap();
        let bytes = world.block(block);
        buffer.set_len(bytes.len());
        buffer.copy_from_slice(bytes);
        rig.content.write(block, buffer);
        kept += 1;
    }
    assert!(kept >= 16);
    while !matches!(rig.next().await, Event::Suspended { .. }) {}
    disk.room.store(u64::MAX, Ordering::Relaxed);
    for block in blocks {
        rig.write(block, world.block(block)).await;
    }
    let have = rig.have(&world).count();
    let missing = (world.layout.piece_count() - have) as usize;
    // Events of the pieces that are there already may still be on their way.
    rig.await_verified(missing).await;
    while rig.have(&world).count() < world.layout.piece_count() {
        rig.next().await;
    }
}

#[tokio::test]
async fn data_that_a_broken_disk_does_not_take_is_given_up_and_fetched_again() {
    let world = World::new();
    let disk = FaultyDisk::sound();
    let mut rig = Rig::open_on(world.spec(), config(), Arc::clone(&disk) as _).unwrap();
    disk.broken.store(true, Ordering::Relaxed);
    rig.write_piece(&world, 3).await;
    let Event::Suspended {
        reason: Reason::Failing(_),
        ..
    } = rig.next().await
    else {
        panic!()
    };
    assert_eq!(
        rig.next().await,
        Event::Dropped {
            piece: PieceIndex(3)
        }
    );
    assert_eq!(rig.storage.stats().buffers_in_use, 0);
    disk.broken.store(false, Ordering::Relaxed);
    rig.write_piece(&world, 3).await;
    rig.await_verified(1).await;
}

#[tokio::test]
async fn operations_that_come_short_are_carried_on() {
    let world = World::new();
    let mut rig = Rig::open_on(world.spec(), config(), FaultyDisk::short()).unwrap();
    rig.complete(&world).await;
    assert_eq!(rig.have(&world).count(), world.layout.piece_count());
    rig.content.close().unwrap();
    world.assert_on_disk(&[true; 6]);
}

/// One whole life: a selection, half of a download under a tiny cache, a change of mind, an end.
async fn live(world: &World, disk: &Arc<FaultyDisk>, tolerate: bool) -> Vec<u32> {
    let tiny = StorageConfig {
        cache_bytes: 1,
        sync_interval: std::time::Duration::from_millis(1),
        ..config()
    };
    let mut spec = world.spec();
    spec.wanted = vec![true, true, false, true, false, false];
    let mut rig = match Rig::open_on(spec, tiny, Arc::clone(disk) as _) {
        Ok(rig) => rig,
        Err(error) if tolerate => {
            assert!(!error.to_string().is_empty());
            return Vec::new();
        }
        Err(error) => panic!("{error}"),
    };
    let mut verified: Vec<u32> = rig
        .content
        .resumed()
        .have
        .iter()
        .map(|piece| piece.0)
        .collect();
    let mut wanted: Vec<u32> = (0..5).filter(|piece| !verified.contains(piece)).collect();
    let mut blocks = world.shuffled(5);
    blocks.retain(|block| wanted.contains(&block.piece.0));
    let mut dropped = Vec::new();
    for block in blocks {
        rig.write(block, world.block(block)).await;
        while let Ok(event) = rig.events.try_recv() {
            if let Event::Dropped { piece } = event {
                dropped.push(piece.0);
            }
            note(&event, &mut wanted, &mut verified);
        }
    }
    // Some of the blocks came before their piece was dropped, and some after: those are duplicates of what is there.
    for piece in dropped {
        rig.write_piece(world, piece).await;
    }
    while !wanted.is_empty() {
        let event = rig.next().await;
        if let Event::Dropped { piece } = event {
            rig.write_piece(world, piece.0).await;
        }
        note(&event, &mut wanted, &mut verified);
    }
    let selected = rig.content.select(&[true; 6]);
    assert!(tolerate || selected.is_ok(), "{selected:?}");
    let readable = rig.have(world);
    let closed = rig.content.close();
    assert!(tolerate || closed.is_ok(), "{closed:?}");
    assert!(
        tolerate
            || verified
                .iter()
                .all(|&piece| readable.get(PieceIndex(piece)))
    );
    verified
}

fn note(event: &Event, wanted: &mut Vec<u32>, verified: &mut Vec<u32>) {
    match event {
        Event::Verified { piece, .. } => {
            wanted.retain(|other| *other != piece.0);
            verified.push(piece.0);
        }
        Event::Failed { .. } | Event::Checked { .. } => panic!("{event:?}"),
        _ => {}
    }
}

#[tokio::test]
async fn whichever_operation_fails_nothing_verified_is_lost_and_everything_completes() {
    let total = {
        let (world, disk) = (World::new(), FaultyDisk::sound());
        live(&world, &disk, false).await;
        i64::try_from(disk.operations.load(Ordering::Relaxed)).unwrap()
    };
    assert!(total > 40, "{total}");
    for operation in 0..total + 5 {
        let world = World::new();
        let verified = live(&world, &FaultyDisk::failing_at(operation), true).await;
        // On a sound disk, what was announced as verified is there, or is found again by reading.
        let mut spec = world.spec();
        spec.wanted = vec![true; 6];
        let mut rig = Rig::open(spec);
        let suspect = rig.content.resumed().suspect.clone();
        let check = rig.content.verify(suspect);
        for _ in 0..check.total() {
            let event = rig.next().await;
            assert!(
                matches!(event, Event::Checked { right: true, .. }),
                "{operation}: {event:?}"
            );
        }
        let have = rig.have(&world);
        for piece in verified {
            assert!(
                have.get(PieceIndex(piece)),
                "operation {operation} lost piece {piece}"
            );
        }
        rig.complete(&world).await;
        rig.content.close().unwrap();
        world.assert_on_disk(&[true; 6]);
    }
}

#[tokio::test]
async fn killed_at_any_operation_of_a_download_nothing_verified_is_lost() {
    /// Until all is there or the disk is dead: what was verified.
    async fn begin(world: &World, disk: &Arc<FaultyDisk>) -> Vec<u32> {
        let mut spec = world.spec();
        spec.wanted = vec![true, true, false, true, false, false];
        let often = StorageConfig {
            sync_interval: std::time::Duration::from_millis(1),
            ..config()
        };
        let Ok(mut rig) = Rig::open_on(spec, often, Arc::clone(disk) as _) else {
            return Vec::new();
        };
        for piece in 0..5 {
            rig.write_piece(world, piece).await;
        }
        let mut verified = Vec::new();
        while verified.len() < 5 {
            match rig.next().await {
                Event::Verified { piece, .. } => verified.push(piece.0),
                Event::Suspended { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        // Dies in the midst of these.
        let _ = rig.content.select(&[true; 6]);
        let _ = rig.content.sync();
        verified
    }
    let disk = FaultyDisk::sound();
    let world = World::new();
    assert_eq!(begin(&world, &disk).await.len(), 5);
    let total = i64::try_from(disk.operations.load(Ordering::Relaxed)).unwrap();
    assert!(total > 25, "{total}");
    for operation in 0..total + 3 {
        let world = World::new();
        let verified = begin(&world, &FaultyDisk::dying_at(operation)).await;
        let mut rig = Rig::open(world.spec());
        let suspect = rig.content.resumed().suspect.clone();
        let check = rig.content.verify(suspect);
        for _ in 0..check.total() {
            let event = rig.next().await;
            let right = matches!(event, Event::Checked { right: true, .. });
            assert!(right, "operation {operation}: {event:?}");
        }
        let have = rig.have(&world);
        for piece in verified {
            assert!(
                have.get(PieceIndex(piece)),
                "operation {operation}: {piece}"
            );
        }
        rig.complete(&world).await;
        rig.content.close().unwrap();
        world.assert_on_disk(&[true; 6]);
    }
}
