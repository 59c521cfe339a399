//! What a content does when the disk works.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shoal_metainfo::{BLOCK_LENGTH, Block, BlockIndex, PieceIndex};

use tokio::sync::mpsc;

use super::rig::{FaultyDisk, Rig, World, config};
use crate::{Event, Mode, ReadError, Segment, StorageConfig, StorageError, Stored};

#[tokio::test]
async fn a_download_is_written_once_and_read_never() {
    let world = World::new();
    let disk = FaultyDisk::sound();
    let mut rig = Rig::open_on(world.spec(), config(), Arc::clone(&disk) as _).unwrap();
    assert!(rig.content.resumed().fresh);
    for block in world.shuffled(1) {
        assert_eq!(rig.write(block, world.block(block)).await, Stored::Kept);
    }
    let others = rig
        .await_verified(world.layout.piece_count() as usize)
        .await;
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(disk.reads.load(Ordering::Relaxed), 0);
    let stats = rig.storage.stats();
    let content: u64 = world
        .files
        .iter()
        .filter(|file| !file.padding)
        .map(|file| file.length)
        .sum();
    assert_eq!((stats.bytes_written, stats.blocks_spilled), (content, 0));
    assert_eq!(stats.buffers_in_use, 0);
    rig.content.close().unwrap();
    world.assert_on_disk(&[true; 6]);
    let mode = |path| fs::metadata(world.file(path)).unwrap().permissions().mode() & 0o100;
    assert_eq!((mode("top/c"), mode("top/a")), (0o100, 0));
    assert!(!world.file(".pad").exists());
    assert_eq!(fs::read_dir(world.target()).unwrap().count(), 1);
    assert_eq!(rig.have(&world).count(), world.layout.piece_count());
    let block = world.blocks(PieceIndex(0))[0];
    assert_eq!(rig.write(block, world.block(block)).await, Stored::Refused);
}

#[tokio::test]
async fn pieces_that_wait_for_others_are_kept_when_the_content_is_closed() {
    for count in 1..6 {
        let world = World::new();
        let rig = Rig::open(world.spec());
        for piece in 0..count {
            rig.write_piece(&world, piece).await;
        }
        rig.content.close().unwrap();
        drop(rig);
        let rig = Rig::open(world.spec());
        assert_eq!(rig.content.resumed().have.count(), count);
        assert_eq!(rig.have(&world).count(), count);
    }
}

#[tokio::test]
async fn a_content_that_nobody_holds_any_more_is_not_kept_open_by_pieces_that_wait() {
    let world = World::new();
    let rig = Rig::open(world.spec());
    let storage = rig.storage.clone();
    for _ in 0..5 {
        let (sender, _events) = mpsc::channel(4);
        let mut spec = world.spec();
        (spec.journal, spec.directory) = (None, world.dir.path().to_owned());
        let content = storage.open(spec, sender).unwrap();
        for block in [0, 1].map(|piece| world.blocks(PieceIndex(piece))).concat() {
            let mut buffer = storage.lease().await;
            buffer.set_len(world.block(block).len());
            buffer.copy_from_slice(world.block(block));
            assert_eq!(content.write(block, buffer), Stored::Kept);
        }
    }
    drop(rig);
    // Buffers come back once nobody holds the pieces, those of contents that are gone included.
    for _ in 0..1_000 {
        if storage.stats().buffers_in_use == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", storage.stats());
}

#[tokio::test]
async fn a_wrong_piece_is_never_served_and_the_block_at_fault_can_be_told() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    let blocks = world.blocks(PieceIndex(1));
    for &block in &blocks {
        let mut bytes = world.block(block).to_vec();
        bytes[0] ^= u8::from(block.block.0 == 2);
        rig.write(block, &bytes).await;
    }
    let Event::Failed {
        piece,
        bad,
        blocks: wrong,
    } = rig.next().await
    else {
        panic!()
    };
    assert_eq!((piece.0, bad.len(), wrong.len()), (1, 0, 4));
    assert!(rig.have(&world).is_clear());
    rig.write_piece(&world, 1).await;
    let Event::Verified { blocks: right, .. } = rig.next().await else {
        panic!()
    };
    let differ: Vec<usize> = (0..4).filter(|&at| right[at] != wrong[at]).collect();
    assert_eq!(differ, [2]);
    rig.write_piece(&world, 2).await;
    let Event::Verified { blocks, .. } = rig.next().await else {
        panic!()
    };
    assert!(blocks.is_empty());
}

#[tokio::test]
async fn a_v2_torrent_with_gaps_between_its_files_is_downloaded() {
    let world = World::v2();
    let tiny = StorageConfig {
        cache_bytes: 1,
        ..config()
    };
    let mut rig = Rig::open_on(world.spec(), tiny, FaultyDisk::sound()).unwrap();
    let blocks = world.blocks(PieceIndex(0));
    for &block in &blocks {
        let mut bytes = world.block(block).to_vec();
        bytes[7] ^= u8::from(block.block.0 == 3);
        rig.write(block, &bytes).await;
    }
    assert!(matches!(rig.next().await, Event::Failed { .. }));
    for block in world.shuffled(2) {
        assert_eq!(rig.write(block, world.block(block)).await, Stored::Kept);
    }
    assert!(
        rig.await_verified(world.layout.piece_count() as usize)
            .await
            .is_empty()
    );
    rig.content.close().unwrap();
    world.assert_on_disk(&[true; 5]);
    drop(rig);
    let rig = Rig::open(world.spec());
    assert_eq!(rig.have(&world).count(), world.layout.piece_count());
}

#[tokio::test]
async fn after_the_end_of_the_threads_nothing_is_taken_and_nothing_hangs() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.write_piece(&world, 0).await;
    rig.await_verified(1).await;
    rig.storage.shutdown();
    let block = world.blocks(PieceIndex(1))[0];
    assert_eq!(rig.write(block, world.block(block)).await, Stored::Refused);
    assert_eq!(rig.have(&world).count(), 1);
    rig.content.close().unwrap();
}

#[tokio::test]
async fn a_half_finished_selection_can_be_seeded_from() {
    let world = World::new();
    let mut spec = world.spec();
    spec.wanted = vec![false, false, true, false, false, false];
    let mut rig = Rig::open(spec.clone());
    rig.write_piece(&world, 1).await;
    rig.await_verified(1).await;
    rig.content.close().unwrap();
    drop(rig);
    spec.mode = Mode::Seed;
    let rig = Rig::open(spec);
    assert_eq!(rig.have(&world).count(), 1);
}

#[tokio::test]
async fn duplicates_strangers_and_wrong_lengths_are_turned_away() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    let block = world.blocks(PieceIndex(0))[1];
    assert_eq!(rig.write(block, world.block(block)).await, Stored::Kept);
    assert_eq!(
        rig.write(block, world.block(block)).await,
        Stored::Duplicate
    );
    assert_eq!(rig.write(block, &[0; 5]).await, Stored::Refused);
    let stranger = Block {
        piece: PieceIndex(1_000),
        block: BlockIndex(0),
    };
    assert_eq!(rig.write(stranger, &[0; 16_384]).await, Stored::Refused);
    rig.content.forget(PieceIndex(0));
    assert_eq!(rig.storage.stats().buffers_in_use, 0);
    rig.write_piece(&world, 0).await;
    rig.await_verified(1).await;
    assert_eq!(
        rig.write(block, world.block(block)).await,
        Stored::Duplicate
    );
}

#[tokio::test]
async fn a_tiny_cache_spills_instead_of_deadlocking() {
    let world = World::new();
    let (mut spilled, mut read_back) = (0, 0);
    for seed in 0..10 {
        let world_dir = tempfile::tempdir().unwrap();
        let mut spec = world.spec();
        spec.directory = world_dir.path().to_owned();
        spec.journal = None;
        let tiny = StorageConfig {
            cache_bytes: 1,
            ..config()
        };
        let mut rig = Rig::open_on(spec, tiny, Arc::new(crate::disk::SystemDisk)).unwrap();
        let storage = rig.storage.clone();
        let content = rig.content.clone();
        // All first blocks come last, so that nothing can be hashed before it has to leave memory.
        let mut blocks = world.shuffled(seed);
        blocks.sort_by_key(|block| block.block.0 == 0);
        let mut writers = tokio::task::JoinSet::new();
        for chunk in blocks.chunks(blocks.len() / 4 + 1) {
            let chunk: Vec<(Block, Vec<u8>)> = chunk
                .iter()
                .map(|&block| (block, world.block(block).to_vec()))
                .collect();
            let (storage, content) = (storage.clone(), content.clone());
            writers.spawn(async move {
                for (block, bytes) in chunk {
                    let mut buffer = storage.lease().await;
                    assert!(storage.stats().buffers_in_use <= 16);
                    buffer.set_len(bytes.len());
                    buffer.copy_from_slice(&bytes);
                    tokio::task::yield_now().await;
                    assert_eq!(content.write(block, buffer), Stored::Kept);
                }
            });
        }
        let others = rig
            .await_verified(world.layout.piece_count() as usize)
            .await;
        assert!(others.is_empty(), "{others:?}");
        while let Some(result) = writers.join_next().await {
            result.unwrap();
        }
        let stats = rig.storage.stats();
        spilled += stats.blocks_spilled;
        read_back += stats.blocks_read_back;
        assert!(stats.blocks_read_back <= stats.blocks_spilled);
        assert_eq!(rig.have(&world).count(), world.layout.piece_count());
    }
    assert!(spilled > 0 && read_back > 0);
}

#[test]
fn what_cannot_be_written_safely_is_refused_before_the_first_byte() {
    let world = World::new();
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let open = |spec| {
        let refused = Rig::open_on(spec, config(), FaultyDisk::sound()).map(|_| ());
        refused.unwrap_err()
    };
    let mut missing = world.spec();
    missing.directory.push("missing");
    assert!(matches!(open(missing), StorageError::NoDirectory(_)));
    symlink(&outside, world.file("top")).unwrap();
    assert!(matches!(open(world.spec()), StorageError::Link(_)));
    fs::remove_file(world.file("top")).unwrap();
    fs::create_dir_all(world.file("top/a")).unwrap();
    assert!(matches!(open(world.spec()), StorageError::NotAFile(_)));
    fs::remove_dir(world.file("top/a")).unwrap();
    symlink(outside.join("x"), world.file("top/a")).unwrap();
    assert!(matches!(open(world.spec()), StorageError::Link(_)));
    fs::remove_file(world.file("top/a")).unwrap();
    fs::write(world.file("top/sub"), "").unwrap();
    assert!(matches!(open(world.spec()), StorageError::NotAFile(_)));
    for path in ["../x", "/x", "a/../../x", ""] {
        let mut bad = world.spec();
        bad.files[0].path = path.into();
        assert!(matches!(open(bad), StorageError::Path(_)), "{path}");
    }
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    assert!(!world.journal().exists());
}

#[test]
fn a_directory_that_cannot_be_written_to_is_refused_unless_one_only_reads() {
    if rustix::process::geteuid().is_root() {
        // Permissions do not bind root, and mounting something read-only is not for a test to do.
        return;
    }
    let world = World::new();
    let mut spec = world.spec();
    fs::set_permissions(world.target(), fs::Permissions::from_mode(0o555)).unwrap();
    let refused = Rig::open_on(spec.clone(), config(), FaultyDisk::sound()).map(|_| ());
    assert!(matches!(refused, Err(StorageError::ReadOnly(_))));
    spec.mode = Mode::Seed;
    assert!(Rig::open_on(spec, config(), FaultyDisk::sound()).is_ok());
    fs::set_permissions(world.target(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_link_planted_later_is_not_followed() {
    let world = World::new();
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let mut rig = Rig::open(world.spec());
    fs::remove_dir_all(world.file("top")).unwrap();
    symlink(&outside, world.file("top")).unwrap();
    rig.write_piece(&world, 0).await;
    assert!(matches!(rig.next().await, Event::Suspended { .. }));
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
    assert!(rig.have(&world).is_clear() || rig.content.source(PieceIndex(0), 0, 1).is_ok());
    fs::remove_file(world.file("top")).unwrap();
    let mut dropped = false;
    loop {
        match rig.next().await {
            Event::Dropped { .. } => dropped = true,
            Event::Resumed if dropped => rig.write_piece(&world, 0).await,
            Event::Verified { .. } => break,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_download_in_use_is_refused() {
    let world = World::new();
    let rig = Rig::open(world.spec());
    let again = Rig::open_on(world.spec(), config(), FaultyDisk::sound());
    assert!(matches!(again.map(|_| ()), Err(StorageError::Locked(_))));
    drop(rig);
}

#[tokio::test]
async fn files_that_are_not_wanted_are_not_made_and_their_fragments_move_when_they_are() {
    let world = World::new();
    let only_b = vec![false, false, true, false, false, false];
    let spec = |wanted: &[bool]| {
        let mut spec = world.spec();
        spec.wanted = wanted.to_vec();
        spec
    };
    let mut rig = Rig::open(spec(&only_b));
    rig.write_piece(&world, 1).await;
    rig.await_verified(1).await;
    assert_eq!(fs::read_dir(world.file("top")).unwrap().count(), 1);
    assert_eq!(rig.have(&world).count(), 1);
    let old = rig.content.source(PieceIndex(1), 0, 100).unwrap();
    rig.content
        .select(&[true, true, true, false, false, false])
        .unwrap();
    assert_eq!(rig.have(&world).count(), 1);
    assert!(world.file("top/a").exists() && world.file("top/empty").exists());
    let Segment::File { file, offset, .. } = &old.segments[0] else {
        panic!()
    };
    let mut bytes = [0; 100];
    file.read_exact_at(&mut bytes, *offset).unwrap();
    assert_eq!(bytes[..], world.bytes[65_536..65_636]);
    drop(rig);
    let mut rig = Rig::open(spec(&[true; 6]));
    assert_eq!(rig.content.resumed().have.count(), 1);
    assert_eq!(rig.have(&world).count(), 1);
    rig.complete(&world).await;
    rig.content.close().unwrap();
    world.assert_on_disk(&[true; 6]);
    assert_eq!(
        fs::read_dir(world.target()).unwrap().count(),
        1,
        "the parts file is gone"
    );
}

#[tokio::test]
async fn blocks_that_left_memory_move_along_when_their_file_becomes_wanted() {
    let world = World::new();
    let mut spec = world.spec();
    spec.wanted = vec![false, false, true, false, false, false];
    let tiny = StorageConfig {
        cache_bytes: 1,
        ..config()
    };
    let mut rig = Rig::open_on(spec, tiny, FaultyDisk::sound()).unwrap();
    let blocks = world.blocks(PieceIndex(1));
    for &block in &blocks[1..] {
        rig.write(block, world.block(block)).await;
    }
    let mut held = Vec::new();
    while held.len() < 16 {
        held.push(rig.storage.lease().await);
    }
    drop(held);
    assert_eq!(rig.storage.stats().blocks_spilled, 3);
    rig.content.select(&[true; 6]).unwrap();
    rig.write(blocks[0], world.block(blocks[0])).await;
    assert!(rig.await_verified(1).await.is_empty());
    assert_eq!(rig.storage.stats().blocks_read_back, 3);
    assert_eq!(rig.have(&world).count(), 1);
}

#[tokio::test]
async fn checking_tells_right_from_wrong_and_can_be_cancelled() {
    let world = World::new();
    let _ = world.spec();
    world.materialise();
    let mut spec = world.spec();
    spec.mode = Mode::Seed;
    spec.journal = None;
    let mut rig = Rig::open(spec.clone());
    assert!(rig.check_all(&world).await.iter().all(|&right| right));
    assert_eq!(rig.have(&world).count(), world.layout.piece_count());
    let path = world.file("top/d");
    let mut bytes = fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::remove_file(world.file("top/sub/b")).unwrap();
    let mut rig = Rig::open(spec.clone());
    let found = rig.check_all(&world).await;
    let first_of_d = (world.files[5].offset / 65_536) as usize;
    let wrong: BTreeSet<usize> = (0..found.len()).filter(|&at| !found[at]).collect();
    assert_eq!(wrong, BTreeSet::from([1, first_of_d + 1]));
    assert_eq!(rig.have(&world).count() as usize, found.len() - 2);
    let block = world.blocks(PieceIndex(1))[0];
    assert_eq!(rig.write(block, world.block(block)).await, Stored::Refused);
    let check = rig.content.verify(vec![PieceIndex(0); 1_000_000]);
    check.cancel();
    rig.content.close().unwrap();
    assert!(check.checked() < check.total());
}

#[tokio::test]
async fn data_is_trusted_where_it_is_long_enough() {
    let world = World::new();
    let _ = world.spec();
    world.materialise();
    fs::OpenOptions::new()
        .write(true)
        .open(world.file("top/a"))
        .unwrap()
        .set_len(100)
        .unwrap();
    let mut spec = world.spec();
    (spec.mode, spec.journal) = (Mode::Seed, None);
    let rig = Rig::open(spec);
    let have = rig.content.trust();
    assert_eq!(have.count(), world.layout.piece_count() - 2);
    assert!(!have.get(PieceIndex(0)) && !have.get(PieceIndex(1)));
}

#[tokio::test]
async fn a_file_changed_by_somebody_else_is_noticed_before_it_is_served() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    let whole = rig.content.source(PieceIndex(1), 0, 65_536).unwrap();
    assert_eq!((whole.len(), whole.segments.len()), (65_536, 3));
    let last = world.layout.piece_count() - 1;
    fs::OpenOptions::new()
        .write(true)
        .open(world.file("top/d"))
        .unwrap()
        .set_len(9)
        .unwrap();
    // Whoever sends from the source finds that it comes short.
    rig.content.doubt(PieceIndex(last));
    let lost: BTreeSet<u32> = {
        let mut lost = BTreeSet::new();
        while lost.len() < 4 {
            let Event::Lost { piece } = rig.next().await else {
                continue;
            };
            lost.insert(piece.0);
        }
        lost
    };
    assert_eq!(lost, (last - 3..=last).collect());
    let read = rig.content.source(PieceIndex(last), 0, 1);
    assert!(matches!(read, Err(ReadError::NotVerified(_))));
    assert_eq!(rig.have(&world).count(), world.layout.piece_count() - 4);
    rig.complete(&world).await;
    // Another one in its place.
    fs::remove_file(world.file("top/a")).unwrap();
    fs::write(world.file("top/a"), "another").unwrap();
    rig.content.doubt(PieceIndex(0));
    let Event::Lost { .. } = rig.next().await else {
        panic!()
    };
}

#[tokio::test]
async fn a_file_changed_after_it_was_checked_is_noticed() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    drop(rig);
    let mut spec = world.spec();
    (spec.mode, spec.journal) = (Mode::Seed, None);
    let mut rig = Rig::open(spec);
    assert!(rig.check_all(&world).await.iter().all(|&right| right));
    let file = fs::File::open(world.file("top/d")).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60))
        .unwrap();
    // Nobody has read from it since, and the doubt about one piece shows what became of the others.
    let last = world.layout.piece_count() - 1;
    rig.content.doubt(PieceIndex(last));
    for _ in 0..4 {
        assert!(matches!(rig.next().await, Event::Lost { .. }));
    }
}

#[tokio::test]
async fn padding_is_served_without_a_file_and_ranges_are_checked() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    let pad = &world.files[4];
    let piece = PieceIndex((pad.offset / 65_536) as u32);
    let source = rig.content.source(piece, 0, 65_536).unwrap();
    let zeros = source
        .segments
        .iter()
        .filter(|segment| matches!(segment, Segment::Zeros { .. }));
    assert_eq!(zeros.map(Segment::len).sum::<u64>(), pad.length);
    for (begin, length) in [(65_536, 1), (1, 65_536), (u32::MAX, 2)] {
        let outside = rig.content.source(piece, begin, length);
        assert!(matches!(outside, Err(ReadError::OutOfRange(_))));
    }
    assert!(
        rig.content
            .source(piece, BLOCK_LENGTH, 0)
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn preallocated_files_have_their_room_from_the_start() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new();
    let mut spec = world.spec();
    spec.preallocate = true;
    spec.wanted[5] = false;
    let rig = Rig::open(spec);
    let metadata = fs::metadata(world.file("top/c")).unwrap();
    assert_eq!(metadata.len(), world.files[3].length);
    assert!(metadata.blocks() * 512 >= metadata.len());
    assert!(!world.file("top/d").exists());
    drop(rig);
}
