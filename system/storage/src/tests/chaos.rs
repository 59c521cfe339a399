//! Everything at once, in an order that nobody thought of.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shoal_metainfo::PieceIndex;

use super::rig::{FaultyDisk, Rig, World, config};
use crate::{Event, Location, Progress, StorageConfig};

#[tokio::test]
async fn whatever_is_done_at_once_only_right_bytes_are_served_and_it_can_be_completed() {
    for seed in 0..12 {
        let world = if seed % 2 == 0 {
            World::new()
        } else {
            World::v2()
        };
        let disk = FaultyDisk::sound();
        let tiny = StorageConfig {
            cache_bytes: 1,
            max_open_files: 1,
            sync_interval: std::time::Duration::from_millis(1),
            ..config()
        };
        let mut rig = Rig::open_on(world.spec(), tiny, Arc::clone(&disk) as _).unwrap();
        rig.content.select(&vec![true; world.files.len()]).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = world.layout.piece_count();
        let away = world.dir.path().join("away");
        for _ in 0..400 {
            let piece = PieceIndex(rng.u32(0..count));
            if rig.storage.stats().buffers_in_use > 8 && away.exists() {
                // What waits for it would keep us waiting for good.
                come_back(&rig, &away);
            }
            match rng.u32(0..40) {
                0 => rig.content.forget(piece),
                1 => drop(rig.content.verify(vec![piece; 3])),
                2 => disk.room.store(rng.u64(0..60_000), Ordering::Relaxed),
                3 => rig.content.doubt(piece),
                4 => drop(rig.content.sync()),
                5 => drop(rig.have(&world)),
                7 => {
                    let directory = world.dir.path().join(["target", "other"][rng.usize(..2)]);
                    if away.exists() && directory == rig.content.location().directory {
                        // Nobody makes a folder in place of one that is away.
                        continue;
                    }
                    std::fs::create_dir_all(&directory).unwrap();
                    disk.volumes.store(rng.bool(), Ordering::Relaxed);
                    let to = Location {
                        directory,
                        ..Location::default()
                    };
                    // May meet a full disk, or find it gone.
                    let _ = rig.content.relocate(to, &Progress::default());
                }
                8 if !away.exists() => {
                    std::fs::rename(&rig.content.location().directory, &away).unwrap();
                    rig.content.inner.look_at_volume();
                }
                9 if away.exists() => come_back(&rig, &away),
                6 => {
                    let wanted: Vec<bool> = world.files.iter().map(|_| rng.bool()).collect();
                    // May meet a full disk.
                    let _ = rig.content.select(&wanted);
                }
                _ => write_something(&rig, &world, piece, &disk, &mut rng).await,
            }
            while rng.u8(..) > 64 && rig.events.try_recv().is_ok() {}
        }
        if away.exists() {
            come_back(&rig, &away);
        }
        disk.room.store(u64::MAX, Ordering::Relaxed);
        finish(&mut rig, &world).await;
        rig.content.close().unwrap();
        assert_eq!(rig.storage.stats().buffers_in_use, 0);
        let directory = rig.content.location().directory.clone();
        drop(rig);
        let mut spec = world.spec();
        spec.directory = directory;
        let rig = Rig::open(spec);
        assert_eq!(rig.have(&world), rig.content.resumed().have);
        assert_eq!(rig.content.resumed().have.count(), count);
    }
}

/// The directory that was away is where it was.
fn come_back(rig: &Rig, away: &Path) {
    let directory = rig.content.location().directory.clone();
    std::fs::rename(away, &directory).unwrap();
}

async fn write_something(
    rig: &Rig,
    world: &World,
    piece: PieceIndex,
    disk: &FaultyDisk,
    rng: &mut fastrand::Rng,
) {
    let blocks = world.blocks(piece);
    for _ in 0..rng.usize(1..=blocks.len()) {
        let block = blocks[rng.usize(..blocks.len())];
        let mut bytes = world.block(block).to_vec();
        bytes[0] ^= u8::from(rng.u8(..) < 8);
        if rig.storage.stats().buffers_in_use > 12 {
            // A full disk would keep us waiting for good.
            disk.room.store(u64::MAX, Ordering::Relaxed);
        }
        rig.write(block, &bytes).await;
    }
}

/// Writes what is missing again and again, as a swarm would, until there is nothing missing.
async fn finish(rig: &mut Rig, world: &World) {
    loop {
        let have = rig.have(world);
        let missing = world.layout.pieces().find(|&piece| !have.get(piece));
        let Some(piece) = missing else { return };
        rig.write_piece(world, piece.0).await;
        // It becomes right, or wrong because of an earlier block, or is lost to an earlier doubt, or was there while its drive was away and
        // is lost when that comes back.
        loop {
            match rig.next().await {
                Event::Verified { piece: done, .. } if done == piece => break,
                Event::Failed { piece: done, .. } if done == piece => break,
                Event::Dropped { piece: done } | Event::Lost { piece: done } if done == piece => {
                    break;
                }
                _ if rig.have(world).get(piece) => break,
                _ => {}
            }
        }
    }
}
