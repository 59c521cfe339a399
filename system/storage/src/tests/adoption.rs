//! What another client says of a content, against what is on the disk.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use shoal_metainfo::{Bitfield, PieceIndex};

use super::rig::{FaultyDisk, Rig, World, config};
use crate::{Adopted, Claims, ContentSpec, FileSpec, Mode, Modified, Stamp, Storage, StorageError};

/// Long before any test, so that a change is seen in whole seconds.
const WRITTEN_S: u64 = 1_700_000_000;

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn open_for_writing(path: impl AsRef<Path>) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// A world whose files another client has, all written at [`WRITTEN_S`].
fn others() -> World {
    let world = World::new();
    fs::create_dir_all(world.target()).unwrap();
    world.materialise();
    for file in world.files.iter().filter(|file| !file.padding) {
        let file = open_for_writing(world.file(&file.path));
        file.set_modified(time(WRITTEN_S) + Duration::from_millis(700))
            .unwrap();
    }
    world
}

fn all(world: &World) -> Claims {
    let pieces = world.layout.piece_count();
    Claims {
        verified: Bitfield::full(pieces),
        doubtful: Bitfield::empty(pieces),
        stamps: Vec::new(),
        unfinished_suffix: None,
    }
}

fn adopt(spec: &ContentSpec, claims: &Claims) -> Result<Option<Adopted>, StorageError> {
    Storage::start(config()).unwrap().adopt(spec, claims)
}

/// Pieces that are taken for right, and those to be verified, once it is open. Nothing is read for that.
fn resumed(world: &World, mode: Mode) -> (Vec<u32>, Vec<u32>) {
    let disk = FaultyDisk::sound();
    let spec = ContentSpec {
        mode,
        ..world.spec()
    };
    let rig = Rig::open_on(spec, config(), Arc::<FaultyDisk>::clone(&disk)).unwrap();
    assert_eq!(disk.reads.load(Ordering::Relaxed), 0);
    let resumed = rig.content.resumed().clone();
    assert!(!resumed.fresh);
    // All that can be read is right.
    assert_eq!(rig.have(world), resumed.have);
    let have = resumed.have.iter().map(|piece| piece.0).collect();
    (have, resumed.suspect.iter().map(|piece| piece.0).collect())
}

#[tokio::test]
async fn what_another_client_verified_is_had_without_reading_it() {
    let world = others();
    let adopted = adopt(&world.spec(), &all(&world)).unwrap().unwrap();
    let pieces = world.layout.piece_count();
    let whole = Adopted {
        verified: pieces,
        ..Adopted::default()
    };
    assert_eq!(adopted, whole);
    for mode in [Mode::Seed, Mode::Download] {
        let (have, suspect) = resumed(&world, mode);
        assert_eq!((have, suspect), ((0..pieces).collect(), vec![]));
    }
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn what_was_taken_over_survives_a_power_failure() {
    let world = others();
    adopt(&world.spec(), &all(&world)).unwrap().unwrap();
    // Another run of the kernel: the boot id is in the header, before its CRC.
    let mut journal = fs::read(world.journal()).unwrap();
    journal[36..52].fill(0x77);
    let crc = crc32fast::hash(&journal[..60]).to_le_bytes();
    journal[60..64].copy_from_slice(&crc);
    fs::write(world.journal(), journal).unwrap();
    let (have, suspect) = resumed(&world, Mode::Download);
    assert_eq!(
        (have.len() as u32, suspect),
        (world.layout.piece_count(), vec![])
    );
}

#[tokio::test]
async fn what_changed_since_it_was_taken_over_is_noticed() {
    let world = others();
    adopt(&world.spec(), &all(&world)).unwrap().unwrap();
    let file = open_for_writing(world.file("top/c"));
    file.set_modified(time(WRITTEN_S)).unwrap();
    let (have, suspect) = resumed(&world, Mode::Download);
    assert_eq!(suspect, [1, 2]);
    assert_eq!(have.len() as u32, world.layout.piece_count() - 2);
}

#[tokio::test]
async fn a_file_that_differs_is_verified_and_one_that_is_gone_is_not_there() {
    let world = others();
    let stamp = |length, modified| Stamp { length, modified };
    let claims = Claims {
        stamps: vec![
            stamp(
                Some(world.files[0].length),
                Some(Modified::At(WRITTEN_S as i64)),
            ),
            Stamp::default(),
            Stamp::default(),
            stamp(None, Some(Modified::At(WRITTEN_S as i64 - 1))),
        ],
        ..all(&world)
    };
    fs::remove_file(world.file("top/sub/b")).unwrap();
    let adopted = adopt(&world.spec(), &claims).unwrap().unwrap();
    let pieces = world.layout.piece_count();
    assert_eq!((adopted.suspect, adopted.lost), (1, 1));
    assert_eq!(adopted.verified, pieces - 2);
    assert_eq!((adopted.changed_files, adopted.missing_files), (1, 1));
    assert_eq!(adopted.named, [Path::new("top/sub/b"), Path::new("top/c")]);
    let (have, suspect) = resumed(&world, Mode::Download);
    assert_eq!((have.contains(&1), suspect), (false, vec![2]));
}

#[tokio::test]
async fn doubtful_pieces_are_verified_first_and_others_are_fetched() {
    let world = others();
    let pieces = world.layout.piece_count();
    let mut claims = all(&world);
    claims.verified = Bitfield::empty(pieces);
    claims.verified.insert(PieceIndex(0));
    claims.doubtful.insert(PieceIndex(0));
    claims.doubtful.insert(PieceIndex(3));
    let adopted = adopt(&world.spec(), &claims).unwrap().unwrap();
    assert_eq!((adopted.verified, adopted.suspect), (1, 1));
    assert_eq!(resumed(&world, Mode::Download), (vec![0], vec![3]));
    let mut rig = Rig::open(world.spec());
    rig.complete(&world).await;
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn an_unfinished_file_gets_its_own_name_and_goes_on() {
    let world = others();
    fs::rename(world.file("top/d"), world.file("top/d.part")).unwrap();
    let claims = Claims {
        unfinished_suffix: Some(".part".to_owned()),
        ..all(&world)
    };
    // Whoever only reads leaves it as it is.
    let seed = ContentSpec {
        mode: Mode::Seed,
        ..world.spec()
    };
    let adopted = adopt(&seed, &claims).unwrap().unwrap();
    assert_eq!((adopted.missing_files, adopted.verified), (1, 3));
    assert!(world.file("top/d.part").exists());
    fs::remove_file(world.journal()).unwrap();
    let adopted = adopt(&world.spec(), &claims).unwrap().unwrap();
    assert_eq!(adopted.verified, world.layout.piece_count());
    assert!(!world.file("top/d.part").exists());
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn a_survey_says_what_would_come_of_it_and_changes_nothing() {
    let world = others();
    fs::rename(world.file("top/d"), world.file("top/d.part")).unwrap();
    fs::remove_file(world.file("top/sub/b")).unwrap();
    let claims = Claims {
        unfinished_suffix: Some(".part".to_owned()),
        ..all(&world)
    };
    let storage = Storage::start(config()).unwrap();
    let told = storage.survey(&world.spec(), &claims).unwrap().unwrap();
    assert_eq!((told.lost, told.missing_files), (1, 1));
    assert!(world.file("top/d.part").exists() && !world.journal().exists());
    assert_eq!(storage.adopt(&world.spec(), &claims).unwrap(), Some(told));
    assert!(world.file("top/d").exists() && world.journal().exists());
    assert_eq!(storage.survey(&world.spec(), &claims).unwrap(), None);
}

#[tokio::test]
async fn files_that_the_client_renamed_are_found_where_they_are() {
    let world = others();
    fs::create_dir(world.file("elsewhere")).unwrap();
    fs::rename(world.file("top/d"), world.file("elsewhere/d 2.part")).unwrap();
    let spec = || ContentSpec {
        renamed: [(world.files[5].index, "elsewhere/d 2".into())].into(),
        ..world.spec()
    };
    let claims = Claims {
        unfinished_suffix: Some(".part".to_owned()),
        ..all(&world)
    };
    let adopted = adopt(&spec(), &claims).unwrap().unwrap();
    assert_eq!(adopted.verified, world.layout.piece_count());
    let rig = Rig::open(spec());
    assert_eq!(rig.have(&world).count(), world.layout.piece_count());
    assert!(world.file("elsewhere/d 2").exists() && !world.file("top/d").exists());
}

#[tokio::test]
async fn what_is_not_wanted_and_is_there_stays_where_it_is() {
    let world = others();
    adopt(&world.spec(), &all(&world)).unwrap().unwrap();
    let spec = ContentSpec {
        wanted: vec![true, true, false, true, true, false],
        ..world.spec()
    };
    let rig = Rig::open(spec);
    assert_eq!(
        rig.content.resumed().have.count(),
        world.layout.piece_count()
    );
    assert_eq!(rig.have(&world).count(), world.layout.piece_count());
    world.assert_on_disk(&[true; 6]);
}

#[tokio::test]
async fn where_nothing_is_left_of_what_was_there_nothing_is_begun_anew() {
    let world = others();
    fs::remove_dir_all(world.file("top")).unwrap();
    let gone = adopt(&world.spec(), &all(&world));
    assert!(matches!(gone, Err(StorageError::Gone(_))), "{gone:?}");
    fs::remove_dir_all(world.target()).unwrap();
    let mut spec = world.spec();
    fs::remove_dir_all(world.target()).unwrap();
    let missing = adopt(&spec, &all(&world));
    assert!(
        matches!(missing, Err(StorageError::NoDirectory(_))),
        "{missing:?}"
    );
    assert!(!world.journal().exists());
    spec.journal = None;
    assert!(matches!(
        adopt(&spec, &all(&world)),
        Err(StorageError::Spec(_))
    ));
}

#[tokio::test]
async fn a_journal_that_is_there_holds() {
    let world = others();
    let mut claims = all(&world);
    claims.verified = Bitfield::empty(world.layout.piece_count());
    let nothing = adopt(&world.spec(), &claims).unwrap();
    assert_eq!(nothing, Some(Adopted::default()));
    assert_eq!(adopt(&world.spec(), &all(&world)).unwrap(), None);
    assert_eq!(resumed(&world, Mode::Seed), (vec![], vec![]));
    let rig = Rig::open(world.spec());
    let used = adopt(&world.spec(), &all(&world));
    assert!(matches!(used, Err(StorageError::Locked(_))), "{used:?}");
    drop(rig);
}

#[tokio::test]
async fn links_are_not_followed_and_nothing_is_renamed_where_something_is_refused() {
    let world = others();
    fs::rename(world.file("top/a"), world.file("top/a.part")).unwrap();
    fs::rename(world.file("top/d"), world.dir.path().join("d")).unwrap();
    symlink(world.dir.path().join("d"), world.file("top/d")).unwrap();
    let claims = Claims {
        unfinished_suffix: Some(".part".to_owned()),
        ..all(&world)
    };
    let refused = adopt(&world.spec(), &claims);
    assert!(matches!(refused, Err(StorageError::Link(_))), "{refused:?}");
    assert!(world.file("top/a.part").exists() && !world.journal().exists());
}

#[tokio::test]
async fn wherever_it_fails_there_is_a_whole_journal_or_none() {
    for operation in 0.. {
        let world = others();
        let disk = FaultyDisk::dying_at(operation);
        let storage = Storage::start_on(config(), Arc::<FaultyDisk>::clone(&disk)).unwrap();
        let adopted = storage.adopt(&world.spec(), &all(&world));
        drop(storage);
        let again = adopt(&world.spec(), &all(&world)).unwrap();
        assert_eq!(again.is_none(), adopted.is_ok(), "{operation}");
        let (have, _) = resumed(&world, Mode::Download);
        assert_eq!(have.len() as u32, world.layout.piece_count());
        if adopted.is_ok() {
            assert!(operation > 5, "files are opened and synced");
            break;
        }
    }
}

/// What somebody did to a file since the client knew it.
#[derive(Clone, Copy, Debug)]
enum Since {
    Nothing,
    Cut,
    Longer,
    Touched,
    Removed,
}

/// What the client remembers of it.
#[derive(Clone, Copy, Debug)]
enum Remembers {
    Nothing,
    Length,
    Time,
    Check,
    Both,
}

fn any_file() -> impl Strategy<Value = (Since, Remembers)> {
    let since = prop_oneof![
        4 => Just(Since::Nothing),
        1 => Just(Since::Cut),
        1 => Just(Since::Longer),
        1 => Just(Since::Touched),
        1 => Just(Since::Removed)
    ];
    let remembers = prop_oneof![
        Just(Remembers::Nothing),
        Just(Remembers::Length),
        Just(Remembers::Time),
        Just(Remembers::Check),
        Just(Remembers::Both)
    ];
    (since, remembers)
}

fn alter(world: &World, place: usize, since: Since) {
    let path = world.file(&world.files[place].path);
    let length = world.files[place].length;
    let keep_time = |file: &File| file.set_modified(time(WRITTEN_S)).unwrap();
    match since {
        Since::Nothing => {}
        Since::Cut if length == 0 => {}
        Since::Cut => {
            let file = open_for_writing(path);
            file.set_len(length - 1).unwrap();
            keep_time(&file);
        }
        Since::Longer => {
            let file = open_for_writing(path);
            file.set_len(length + 1).unwrap();
            keep_time(&file);
        }
        Since::Touched => open_for_writing(path)
            .set_modified(time(WRITTEN_S + 5))
            .unwrap(),
        Since::Removed => fs::remove_file(path).unwrap(),
    }
}

fn stamp(world: &World, place: usize, remembers: Remembers) -> Stamp {
    let length = Some(world.files[place].length);
    let (at, check) = (WRITTEN_S as i64, WRITTEN_S as i64 + 3);
    match remembers {
        Remembers::Nothing => Stamp::default(),
        Remembers::Length => Stamp {
            length,
            modified: None,
        },
        Remembers::Time => Stamp {
            length: None,
            modified: Some(Modified::At(at)),
        },
        Remembers::Check => Stamp {
            length: None,
            modified: Some(Modified::NotAfter(check)),
        },
        Remembers::Both => Stamp {
            length,
            modified: Some(Modified::At(at)),
        },
    }
}

/// Whether anything could tell that the file is not as it was.
fn is_noticed(since: Since, remembers: Remembers, end_is_claimed: bool) -> bool {
    use Remembers::{Both, Check, Length, Time};
    match since {
        Since::Nothing => false,
        Since::Removed | Since::Longer => true,
        Since::Cut => end_is_claimed || matches!(remembers, Length | Both),
        Since::Touched => matches!(remembers, Time | Check | Both),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_is_trusted_whose_length_or_time_differs(
        files in proptest::collection::vec(any_file(), 6),
        verified in proptest::collection::vec(any::<bool>(), 8),
        doubtful in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let world = others();
        let mut claims = all(&world);
        for piece in world.layout.pieces() {
            if !verified[piece.get()] {
                claims.verified.remove(piece);
            }
            if doubtful[piece.get()] {
                claims.doubtful.insert(piece);
            }
        }
        let last = |file: &FileSpec| {
            let begins_before = |piece: &PieceIndex| world.layout.range_of(*piece).start < file.offset + file.length;
            world.layout.pieces().rfind(begins_before)
        };
        let mut noticed = Vec::new();
        for (place, &(since, remembers)) in files.iter().enumerate() {
            let file = &world.files[place];
            if file.padding {
                noticed.push((false, 0));
                claims.stamps.push(Stamp::default());
                continue;
            }
            alter(&world, place, since);
            claims.stamps.push(stamp(&world, place, remembers));
            let end_is_claimed = last(file).is_some_and(|piece| claims.verified.get(piece));
            let size = fs::metadata(world.file(&file.path)).map_or(0, |metadata| metadata.len());
            noticed.push((is_noticed(since, remembers, end_is_claimed), size));
        }
        let (mut have, mut suspect, mut lost) = (vec![], vec![], 0);
        for piece in world.layout.pieces() {
            let range = world.layout.range_of(piece);
            let of = |file: &FileSpec| {
                !file.padding && file.length > 0 && file.offset < range.end && range.start < file.offset + file.length
            };
            let mine: Vec<usize> = (0..6).filter(|&place| of(&world.files[place])).collect();
            let is_there = mine.iter().all(|&place| {
                let file = &world.files[place];
                range.end.min(file.offset + file.length) - file.offset <= noticed[place].1
            });
            let is_changed = mine.iter().any(|&place| noticed[place].0);
            match (claims.verified.get(piece), claims.doubtful.get(piece)) {
                (true, _) if !is_there => lost += 1,
                (true, _) if is_changed => suspect.push(piece.0),
                (true, _) => have.push(piece.0),
                (false, true) if is_there => suspect.push(piece.0),
                _ => {}
            }
        }
        let adopted = adopt(&world.spec(), &claims);
        if lost > 0 && have.is_empty() && suspect.is_empty() {
            prop_assert!(matches!(adopted, Err(StorageError::Gone(_))));
            return Ok(());
        }
        let adopted = adopted.unwrap().unwrap();
        prop_assert_eq!((adopted.verified, adopted.suspect, adopted.lost), (have.len() as u32, suspect.len() as u32, lost));
        prop_assert_eq!(resumed(&world, Mode::Download), (have, suspect));
    }
}
