//! What is remembered, whatever happened meanwhile. Dropping a content without closing it stands for `kill -9`: nothing is
//! written on the way out.

use std::fs::{self, OpenOptions};
use std::time::{Duration, SystemTime};

use shoal_metainfo::PieceIndex;

use super::rig::{Rig, World};
use crate::Mode;

#[tokio::test]
async fn a_killed_download_goes_on_without_reading_anything() {
    let world = World::new();
    let count = world.layout.piece_count();
    for round in 0..count {
        let mut rig = Rig::open(world.spec());
        assert_eq!(rig.content.resumed().have.count(), round);
        assert!(rig.content.resumed().suspect.is_empty());
        assert_eq!(rig.content.resumed().fresh, round == 0);
        assert_eq!(rig.have(&world).count(), round);
        rig.write_piece(&world, (round * 5) % count).await;
        let unfinished = world.blocks(PieceIndex((round * 5 + 5) % count))[0];
        rig.write(unfinished, world.block(unfinished)).await;
        rig.await_verified(1).await;
    }
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn a_journal_cut_anywhere_never_makes_a_piece_of_nothing() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.write_piece(&world, 0).await;
    rig.write_piece(&world, 5).await;
    rig.await_verified(2).await;
    drop(rig);
    let journal = fs::read(world.journal()).unwrap();
    for cut in (0..journal.len()).rev().step_by(7) {
        fs::write(world.journal(), &journal[..cut]).unwrap();
        let rig = Rig::open(world.spec());
        for piece in rig.content.resumed().have.iter() {
            assert!([0, 5].contains(&piece.0));
        }
        // `have` compares every byte that can be read.
        assert_eq!(rig.have(&world), rig.content.resumed().have);
    }
}

#[tokio::test]
async fn a_file_younger_than_the_journal_is_suspect_until_it_was_read() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    drop(rig);
    let file = OpenOptions::new()
        .write(true)
        .open(world.file("top/a"))
        .unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(60))
        .unwrap();
    // Twice, because opening makes the journal younger than the file.
    for _ in 0..2 {
        let rig = Rig::open(world.spec());
        let suspect: Vec<u32> = rig
            .content
            .resumed()
            .suspect
            .iter()
            .map(|piece| piece.0)
            .collect();
        assert_eq!(suspect, [0, 1]);
        assert_eq!(rig.have(&world), rig.content.resumed().have);
    }
    let mut rig = Rig::open(world.spec());
    assert!(rig.check_all(&world).await.iter().all(|&right| right));
    rig.content.close().unwrap();
    drop(rig);
    let rig = Rig::open(world.spec());
    assert_eq!(
        rig.content.resumed().have.count(),
        world.layout.piece_count()
    );
    assert!(rig.content.resumed().suspect.is_empty());
}

#[tokio::test]
async fn after_a_clean_end_the_slightest_change_is_noticed() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    rig.content.close().unwrap();
    drop(rig);
    let path = world.file("top/c");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    file.set_modified(before - Duration::from_millis(3))
        .unwrap();
    let rig = Rig::open(world.spec());
    assert_eq!(rig.content.resumed().suspect.len(), 2);
}

#[tokio::test]
async fn what_a_shorter_or_missing_file_lacks_is_lost() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    rig.content.close().unwrap();
    drop(rig);
    let count = world.layout.piece_count();
    fs::remove_file(world.file("top/sub/b")).unwrap();
    let cut = OpenOptions::new()
        .write(true)
        .open(world.file("top/d"))
        .unwrap();
    cut.set_len(world.files[5].length - 1).unwrap();
    let mut spec = world.spec();
    // Otherwise it is waited for.
    spec.accept_missing = true;
    let rig = Rig::open(spec);
    let resumed = rig.content.resumed();
    assert!(!resumed.have.get(PieceIndex(1)) && !resumed.suspect.contains(&PieceIndex(1)));
    assert!(!resumed.have.get(PieceIndex(count - 1)));
    assert_eq!(
        resumed.suspect.len(),
        3,
        "the rest of the file that was cut"
    );
    assert_eq!(rig.have(&world), resumed.have);
}

#[tokio::test]
async fn fragments_survive_a_kill() {
    let world = World::new();
    let mut spec = world.spec();
    spec.wanted = vec![false, false, true, false, false, false];
    let mut rig = Rig::open(spec.clone());
    rig.write_piece(&world, 1).await;
    rig.await_verified(1).await;
    drop(rig);
    let rig = Rig::open(spec.clone());
    assert_eq!(rig.content.resumed().have.count(), 1);
    assert_eq!(rig.have(&world).count(), 1);
    drop(rig);
    let parts = fs::read_dir(world.target())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let parts = parts.filter(|path| path.extension().is_some_and(|e| e == "parts"));
    parts.for_each(|path| fs::remove_file(path).unwrap());
    let rig = Rig::open(spec);
    assert!(rig.content.resumed().have.is_clear());
}

#[tokio::test]
async fn a_check_that_is_cut_off_goes_on_where_it_was() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    drop(rig);
    fs::remove_file(world.journal()).unwrap();
    fs::remove_file(world.file("top/d")).unwrap();
    let there = |rig: &Rig| -> Vec<u32> {
        let suspect = rig.content.resumed().suspect.iter();
        suspect.map(|piece| piece.0).collect()
    };
    let mut rig = Rig::open(world.spec());
    // The last four are of the file that is missing.
    let last = world.layout.piece_count() - 4;
    assert_eq!(there(&rig), (0..last).collect::<Vec<u32>>());
    rig.content.verify(vec![PieceIndex(1)]);
    rig.next().await;
    drop(rig);
    let mut rig = Rig::open(world.spec());
    assert!(!rig.content.resumed().fresh);
    assert_eq!(there(&rig).len() as u32, last - 1);
    assert!(rig.content.resumed().have.get(PieceIndex(1)));
    rig.content.verify(rig.content.resumed().suspect.clone());
    for _ in 1..last {
        rig.next().await;
    }
    drop(rig);
    let rig = Rig::open(world.spec());
    assert!(there(&rig).is_empty());
    assert_eq!(rig.content.resumed().have.count(), last);
}

#[tokio::test]
async fn a_seed_goes_on_from_what_was_checked() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    drop(rig);
    fs::remove_file(world.journal()).unwrap();
    let mut spec = world.spec();
    spec.mode = Mode::Seed;
    let mut rig = Rig::open(spec.clone());
    assert!(rig.check_all(&world).await.iter().all(|&right| right));
    rig.content.close().unwrap();
    drop(rig);
    let rig = Rig::open(spec);
    assert_eq!(
        rig.content.resumed().have.count(),
        world.layout.piece_count()
    );
    assert_eq!(rig.have(&world), rig.content.resumed().have);
}
