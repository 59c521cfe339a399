//! What goes when a content is removed, and what stays.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::rig::{FaultyDisk, Rig, World, config};
use crate::{ContentSpec, Fate, Removed, Storage, StorageError};

fn remove(spec: &ContentSpec, fate: &Fate) -> Result<Removed, StorageError> {
    let storage = Storage::start(config()).unwrap();
    storage.remove(spec, fate, &AtomicBool::new(false))
}

fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

async fn downloaded(world: &World) {
    let mut rig = Rig::open(world.spec());
    rig.complete(world).await;
    rig.content.close().unwrap();
}

#[tokio::test]
async fn all_of_a_content_goes_and_nothing_is_left_of_it() {
    let world = World::new();
    downloaded(&world).await;
    let removed = remove(&world.spec(), &Fate::Deleted).unwrap();
    let on_disk = world.files.iter().filter(|file| !file.padding);
    let bytes: u64 = on_disk.map(|file| file.length).sum();
    assert_eq!(
        (removed.files, removed.bytes, removed.folders),
        (5, bytes, 2)
    );
    assert_eq!(removed.kept, 0, "{:?}", removed.reasons);
    assert!(names(world.target()).is_empty());
    assert!(!world.journal().exists());
}

#[tokio::test]
async fn what_is_not_of_the_content_stays() {
    let world = World::new();
    downloaded(&world).await;
    let outside = world.dir.path().join("outside");
    fs::write(&outside, "others'").unwrap();
    fs::write(world.file("top/sub/note"), "mine").unwrap();
    fs::write(world.file("other"), "mine").unwrap();
    fs::create_dir(world.file("top/empty folder")).unwrap();
    // What was the content's and has become something else.
    fs::remove_file(world.file("top/a")).unwrap();
    symlink(&outside, world.file("top/a")).unwrap();
    fs::remove_file(world.file("top/c")).unwrap();
    fs::create_dir(world.file("top/c")).unwrap();
    let longer = vec![0; world.files[5].length as usize + 1];
    fs::write(world.file("top/d"), longer).unwrap();
    let removed = remove(&world.spec(), &Fate::Deleted).unwrap();
    assert_eq!((removed.files, removed.folders, removed.kept), (2, 0, 3));
    let why = |at: usize| &removed.reasons[at];
    assert!(matches!(why(0), StorageError::Link(_)), "{:?}", why(0));
    assert!(matches!(why(1), StorageError::NotAFile(_)));
    assert!(matches!(why(2), StorageError::Foreign(_)));
    assert_eq!(names(world.target()), ["other", "top"]);
    assert_eq!(
        names(world.file("top")),
        ["a", "c", "d", "empty folder", "sub"]
    );
    assert_eq!(names(world.file("top/sub")), ["note"]);
    assert_eq!(fs::read_to_string(outside).unwrap(), "others'");
}

#[tokio::test]
async fn nothing_is_removed_through_a_link() {
    let world = World::new();
    downloaded(&world).await;
    let elsewhere = world.dir.path().join("elsewhere");
    fs::rename(world.file("top"), &elsewhere).unwrap();
    symlink(&elsewhere, world.file("top")).unwrap();
    let removed = remove(&world.spec(), &Fate::Deleted).unwrap();
    assert_eq!((removed.files, removed.folders), (0, 0));
    assert_eq!(removed.kept, 5);
    assert_eq!(names(&elsewhere), ["a", "c", "d", "empty", "sub"]);
}

#[tokio::test]
async fn of_a_half_download_files_and_fragments_go_and_files_that_it_never_made_stay() {
    let world = World::new();
    let mut spec = world.spec();
    spec.wanted = vec![true, false, false, false, false, false];
    let mut rig = Rig::open(spec.clone());
    rig.write_piece(&world, 0).await;
    rig.write_piece(&world, 1).await;
    rig.await_verified(2).await;
    rig.content.close().unwrap();
    drop(rig);
    // Somebody's own, at a path of the torrent that was not wanted.
    fs::create_dir_all(world.file("top/sub")).unwrap();
    fs::write(world.file("top/sub/b"), "mine").unwrap();
    assert_eq!(names(world.target()).len(), 2, "fragments");
    let removed = remove(&spec, &Fate::Deleted).unwrap();
    assert_eq!((removed.files, removed.kept), (1, 1));
    assert_eq!(names(world.target()), ["top"]);
    assert_eq!(names(world.file("top")), ["sub"]);
    assert!(!world.journal().exists());
}

#[test]
fn without_a_journal_the_length_tells_what_is_of_the_content() {
    let world = World::new();
    let mut spec = world.spec();
    world.materialise();
    fs::write(world.file("top/a"), "shorter").unwrap();
    for journal in [None, Some(world.journal())] {
        spec.journal = journal;
        world.files[1..].iter().for_each(|file| {
            if !file.padding {
                fs::create_dir_all(world.file(&file.path).parent().unwrap()).unwrap();
                fs::write(world.file(&file.path), world.bytes_of(file)).unwrap();
            }
        });
        let removed = remove(&spec, &Fate::Deleted).unwrap();
        assert_eq!((removed.files, removed.kept), (4, 1));
        assert_eq!(names(world.file("top")), ["a"]);
        assert!(!world.journal().exists(), "none is made");
    }
}

#[tokio::test]
async fn what_is_open_or_has_no_folder_is_not_removed() {
    let world = World::new();
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    let refused = remove(&world.spec(), &Fate::Deleted);
    assert!(matches!(refused, Err(StorageError::Locked(_))));
    rig.content.close().unwrap();
    let away = world.dir.path().join("away");
    fs::rename(world.target(), &away).unwrap();
    let spec = world.spec();
    // The rig makes it.
    fs::remove_dir(world.target()).unwrap();
    let refused = remove(&spec, &Fate::Deleted);
    assert!(matches!(refused, Err(StorageError::NoDirectory(_))));
    assert!(world.journal().exists(), "it may come back");
}

#[tokio::test]
async fn a_removal_that_is_cut_off_can_be_carried_on() {
    let operations = 1 + 5 + 2;
    for operation in 0..operations {
        let world = World::new();
        downloaded(&world).await;
        let disk = FaultyDisk::dying_at(operation);
        let storage = Storage::start_on(config(), Arc::clone(&disk) as _).unwrap();
        let cut = storage.remove(&world.spec(), &Fate::Deleted, &AtomicBool::new(false));
        let cut = cut.unwrap();
        assert!(cut.kept > 0, "{operation}: {cut:?}");
        let rest = remove(&world.spec(), &Fate::Deleted).unwrap();
        assert_eq!(cut.files + rest.files, 5, "{operation}");
        assert!(names(world.target()).is_empty(), "{operation}");
        assert!(!world.journal().exists());
    }
    let world = World::new();
    downloaded(&world).await;
    let storage = Storage::start(config()).unwrap();
    let cancelled = storage.remove(&world.spec(), &Fate::Deleted, &AtomicBool::new(true));
    assert!(matches!(cancelled, Err(StorageError::Cancelled)));
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn the_trash_gets_a_content_as_one_thing_that_can_be_put_back() {
    let world = World::new();
    downloaded(&world).await;
    fs::write(world.file("top/mine"), "stays").unwrap();
    let home = world.dir.path().join("share/Trash");
    let fate = Fate::Trashed {
        home: Some(home.clone()),
    };
    let removed = remove(&world.spec(), &fate).unwrap();
    assert_eq!((removed.files, removed.kept), (5, 0));
    assert_eq!(names(world.target()), ["top"]);
    assert_eq!(names(world.file("top")), ["mine"]);
    assert_eq!(names(home.join("info")), ["top.trashinfo"]);
    let note = fs::read_to_string(home.join("info/top.trashinfo")).unwrap();
    let path = format!("Path={}\n", world.file("top").display());
    assert!(note.contains(&path), "{note}");
    fs::remove_dir_all(world.file("top")).unwrap();
    fs::rename(home.join("files/top"), world.file("top")).unwrap();
    world.assert_on_disk(&[true; 6]);
}
