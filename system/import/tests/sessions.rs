//! Sessions that real clients wrote, taken over; what is in `fixtures/README.md` was done to them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its fixtures fails"
)]

use shoal_import::{
    Client, Fault, Have, ImportError, Imported, Limit, Modified, Note, Priority, Run, Session,
    Torrent, deluge,
};
use shoal_metainfo::{FileIndex, PieceIndex};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Every torrent of a session by the info hash that names its swarm.
fn all(client: Client, folder: &Path) -> BTreeMap<String, Imported> {
    let session = Session::open(client, folder).unwrap();
    let torrents = session.map(|torrent| torrent.unwrap());
    torrents
        .map(|torrent| (torrent.info_hashes().primary().to_string(), torrent))
        .collect()
}

const V1: &str = "b57d6d4ea108f4ec6cca0fd3d11c0acd7c4adb6e";
const V2: &str = "f03ab27456e15d5ec8394e79476a79546ab38ed6";
const HYBRID: &str = "b256e4dd97908b796f52ff3856cfe7c9bfb4a497";
const SINGLE: &str = "bf435bcd3325c48e5058400bbc4bd4ba81f36e93";
const MAGNET: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The verified pieces, and those that must be verified.
fn pieces(have: &Have) -> (Vec<u32>, Vec<u32>) {
    match have {
        Have::Pieces { verified, doubtful } => (
            verified.iter().map(|piece| piece.0).collect(),
            doubtful.iter().map(|piece| piece.0).collect(),
        ),
        other => panic!("{other:?}"),
    }
}

/// What the session says of the file that the torrent calls `path`.
fn index(torrent: &Imported, path: &str) -> FileIndex {
    let files = torrent.metainfo().unwrap().files();
    let at = files.iter().position(|file| file.path == path).unwrap();
    FileIndex(u32::try_from(at).unwrap())
}

fn renamed(torrent: &Imported) -> Vec<(FileIndex, &str)> {
    let paths = torrent.paths.iter();
    paths.map(|(file, path)| (*file, path.as_str())).collect()
}

fn urls(torrent: &Imported) -> Vec<Vec<&str>> {
    let tiers = torrent.trackers.as_deref().unwrap().iter();
    tiers
        .map(|tier| tier.iter().map(|tracker| tracker.url.as_str()).collect())
        .collect()
}

/// What was done to the torrents of libtorrent's clients alike.
fn check_libtorrent(torrents: &BTreeMap<String, Imported>) {
    assert_eq!(pieces(&torrents[V1].have), (vec![0, 1, 2], vec![]));
    assert_eq!(pieces(&torrents[V2].have), (vec![2, 3, 4, 5], vec![]));
    assert_eq!(torrents[HYBRID].have, Have::All);
    for hash in [V1, V2, HYBRID] {
        let torrent = &torrents[hash];
        let moved = index(torrent, "sub/b.bin");
        assert_eq!(renamed(torrent), [(moved, "pack/other/b renamed.bin")]);
        let priorities = [
            (index(torrent, "a.bin"), Priority::High),
            (index(torrent, "c.txt"), Priority::Skip),
        ];
        assert_eq!(torrent.priorities, BTreeMap::from(priorities), "{hash}");
        assert_eq!(torrent.notes, []);
    }
}

fn check_magnet(torrent: &Imported) {
    let Torrent::Magnet(magnet) = &torrent.torrent else {
        panic!("{:?}", torrent.torrent);
    };
    assert_eq!(magnet.name.as_deref(), Some("a magnet"));
    let trackers = magnet.trackers.iter().map(|tracker| tracker.url.as_str());
    assert!(trackers.eq(["http://tracker.example/announce"]));
    assert_eq!(torrent.have, Have::None);
}

#[test]
fn a_session_of_qbittorrent_goes_on() {
    let torrents = all(Client::QBittorrent, &fixture("qbittorrent"));
    assert_eq!(torrents.len(), 4);
    check_libtorrent(&torrents);
    check_magnet(&torrents[MAGNET]);
    assert_eq!(torrents[MAGNET].run, Run::Queued);

    let v1 = &torrents[V1];
    assert_eq!(v1.folder, Path::new("/tmp/imp/v1"));
    assert_eq!(v1.completed_folder, None);
    assert_eq!(v1.name.as_deref(), Some("My pack"));
    assert_eq!(v1.category.as_deref(), Some("films"));
    assert_eq!(v1.tags, ["good", "old"]);
    assert_eq!(v1.run, Run::Paused);
    assert_eq!(v1.share_limits.ratio, Limit::At(1.5));
    assert_eq!(v1.share_limits.seeding_s, Limit::At(90 * 60));
    assert_eq!(v1.share_limits.idle_s, Limit::Inherited);
    assert_eq!(v1.upload_bytes_per_s, Some(10240));
    assert_eq!(v1.download_bytes_per_s, Some(20480));
    assert!(v1.sequential && !v1.first_last_first);
    assert_eq!(v1.added_at, Some(1_795_471_501));
    assert_eq!(
        (v1.completed_at, torrents[HYBRID].completed_at),
        (None, Some(1_795_471_505))
    );
    let tier = vec![
        "http://tracker.example/announce",
        "udp://added.example:6969/announce",
    ];
    assert_eq!(urls(v1), [tier]);
    assert_eq!(
        v1.web_seeds.as_deref(),
        Some(&["http://seed.example/files/".to_owned()][..])
    );
    assert_eq!(torrents[MAGNET].share_limits.ratio, Limit::Inherited);
}

#[test]
fn the_order_of_qbittorrents_queue_is_kept() {
    let session = Session::open(Client::QBittorrent, &fixture("qbittorrent/BT_backup")).unwrap();
    assert_eq!(session.len(), 4);
    let order = session.map(|torrent| torrent.unwrap().info_hashes().primary().to_string());
    assert_eq!(order.collect::<Vec<_>>(), [V1, V2, MAGNET, HYBRID]);
}

#[test]
fn a_v2_torrent_of_qbittorrent_gets_its_piece_layers_back() {
    let torrents = all(Client::QBittorrent, &fixture("qbittorrent"));
    let Torrent::File { bytes, metainfo } = &torrents[V2].torrent else {
        panic!("a magnet");
    };
    let file = fs::read(fixture("deluge/state").join(format!("{V2}.torrent"))).unwrap();
    let whole = shoal_metainfo::Metainfo::parse(&file, shoal_metainfo::bencode::Limits::LOCAL);
    let whole = whole.unwrap();
    assert_eq!(metainfo.verifier(), whole.verifier());
    assert_ne!(bytes, &file, "trackers are beside it");
}

#[test]
fn a_session_of_deluge_goes_on() {
    let torrents = all(Client::Deluge, &fixture("deluge"));
    assert_eq!(torrents.len(), 4);
    check_libtorrent(&torrents);
    check_magnet(&torrents[MAGNET]);
    let v1 = &torrents[V1];
    assert_eq!(v1.folder, Path::new("/tmp/imp/dl_v1"));
    assert_eq!(
        v1.completed_folder.as_deref(),
        Some(Path::new("/tmp/imp/done"))
    );
    assert_eq!(v1.name.as_deref(), Some("My pack"));
    assert_eq!(v1.category.as_deref(), Some("films"));
    assert_eq!((v1.run, torrents[HYBRID].run), (Run::Paused, Run::Forced));
    assert_eq!(v1.share_limits.ratio, Limit::At(1.5));
    assert_eq!(torrents[V2].share_limits.ratio, Limit::Unlimited);
    assert_eq!(
        (v1.upload_bytes_per_s, v1.download_bytes_per_s),
        (Some(10752), Some(20480))
    );
    assert!(v1.sequential && v1.first_last_first);
    assert_eq!(
        (&v1.trackers, &v1.web_seeds),
        (&None, &None),
        "as in the torrent"
    );

    let order: Vec<_> = Session::open(Client::Deluge, &fixture("deluge/state"))
        .unwrap()
        .map(|torrent| torrent.unwrap().info_hashes().primary().to_string())
        .collect();
    assert_eq!(order, [MAGNET, HYBRID, V2, V1], "that of its queue");
}

#[test]
fn without_resume_data_deluge_still_knows_where_the_content_is() {
    let read = |name: &str| fs::read(fixture("deluge/state").join(name)).unwrap();
    let state = deluge::State::decode(read("torrents.state")).unwrap();
    let place = state.ids().position(|id| id == V1).unwrap();
    let file = read(&format!("{V1}.torrent"));
    let torrent = state.torrent(place, Some(&file), None, None).unwrap();
    assert_eq!(torrent.folder, Path::new("/tmp/imp/dl_v1"));
    assert_eq!(
        (torrent.have, torrent.notes),
        (Have::Unknown, vec![Note::NoResumeData])
    );
    assert_eq!(torrent.priorities.len(), 2);

    let other = read(&format!("{V2}.torrent"));
    let refused = state.torrent(place, Some(&other), None, None);
    assert!(matches!(refused, Err(Fault::OtherTorrent)));
}

#[test]
fn the_state_of_deluge_is_the_same_in_three_protocols() {
    let ids = |name: &str| {
        let bytes = fs::read(fixture("deluge/state").join(name)).unwrap();
        let state = deluge::State::decode(bytes).unwrap();
        state.ids().map(str::to_owned).collect::<Vec<_>>()
    };
    let two = ids("torrents.state");
    assert_eq!(two.len(), 4);
    assert_eq!(ids("torrents.state.protocol3"), two);
    assert_eq!(ids("torrents.state.protocol4"), two);
}

#[test]
fn a_session_of_transmission_goes_on() {
    let torrents = all(Client::Transmission, &fixture("transmission"));
    assert_eq!(torrents.len(), 4);
    check_magnet(&torrents[MAGNET]);

    let v1 = &torrents[V1];
    assert_eq!(v1.have, Have::All);
    assert_eq!(
        v1.folder,
        Path::new("/tmp/imp/trdl"),
        "nothing is in the other folder"
    );
    assert_eq!(v1.completed_folder, None);
    assert_eq!(v1.name.as_deref(), Some("my pack"));
    assert_eq!(v1.tags, ["films", "old"]);
    let paths = [
        "my pack/a.bin",
        "my pack/empty",
        "my pack/sub/b renamed.bin",
        "my pack/c.txt",
    ];
    assert!(v1.paths.values().eq(paths));
    let priorities = [
        (FileIndex(0), Priority::High),
        (FileIndex(3), Priority::Skip),
    ];
    assert_eq!(v1.priorities, BTreeMap::from(priorities));
    assert_eq!(v1.share_limits.ratio, Limit::At(1.5));
    assert_eq!(v1.share_limits.idle_s, Limit::At(30 * 60));
    assert_eq!(
        (v1.upload_bytes_per_s, v1.download_bytes_per_s),
        (Some(10_000), Some(20_000))
    );
    assert_eq!(v1.run, Run::Paused);
    let checked = Some(Modified::NotAfter(1_795_471_547));
    assert!(v1.stamps.len() == 4 && v1.stamps.values().all(|stamp| stamp.modified == checked));

    let single = &torrents[SINGLE];
    assert_eq!(pieces(&single.have), (vec![0, 2, 3], vec![]));
    assert_eq!(single.folder, Path::new("/tmp/imp/trinc"));
    assert_eq!(
        single.completed_folder.as_deref(),
        Some(Path::new("/tmp/imp/tr2"))
    );
    assert_eq!(single.share_limits.ratio, Limit::Unlimited);
    assert_eq!((single.upload_bytes_per_s, &single.name), (None, &None));
    let nothing = torrents
        .values()
        .filter(|torrent| torrent.have == Have::None);
    assert_eq!(nothing.count(), 2);
}

#[test]
fn a_session_of_rtorrent_goes_on() {
    let torrents = all(Client::RTorrent, &fixture("rtorrent"));
    assert_eq!(torrents.len(), 3);
    check_magnet(&torrents[MAGNET]);

    let v1 = &torrents[V1];
    assert_eq!(v1.have, Have::All);
    assert_eq!(
        v1.folder,
        Path::new("/tmp/imp/rt1"),
        "above the torrent's own folder"
    );
    assert_eq!(v1.paths, BTreeMap::new());
    assert_eq!(v1.category.as_deref(), Some("films old"));
    assert_eq!(v1.run, Run::Paused);
    assert_eq!(
        (v1.added_at, v1.completed_at),
        (Some(1_700_000_000), Some(1_795_471_601))
    );
    let priorities = [
        (FileIndex(0), Priority::High),
        (FileIndex(3), Priority::Skip),
    ];
    assert_eq!(v1.priorities, BTreeMap::from(priorities));
    let modified = Some(Modified::At(1_795_471_598));
    assert!(v1.stamps.len() == 4 && v1.stamps.values().all(|stamp| stamp.modified == modified));
    let tiers = [
        "http://tracker.example/announce",
        "udp://added.example:6969/announce",
    ];
    assert_eq!(
        urls(v1),
        tiers.map(|url| vec![url]),
        "one is off, one was added"
    );

    let single = &torrents[SINGLE];
    assert_eq!(pieces(&single.have), (vec![0, 2, 3], vec![]));
    assert_eq!((single.run, &single.trackers), (Run::Queued, &None));
}

#[test]
fn one_damaged_file_costs_one_torrent() {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture("rtorrent")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let damaged = copy
        .path()
        .join(format!("{}.torrent", SINGLE.to_uppercase()));
    fs::write(&damaged, b"d4:info").unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = Session::open(Client::RTorrent, copy.path())
        .unwrap()
        .partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (2, 1));
    let unread = bad.into_iter().next().unwrap().unwrap_err();
    assert_eq!(unread.path, damaged);
    assert!(matches!(unread.fault, Fault::Bencode(_)));
    let sentence = unread.to_string();
    assert!(sentence.contains("add the torrent by hand"), "{sentence}");
}

#[test]
fn resume_data_that_is_missing_means_a_check() {
    let copy = tempfile::tempdir().unwrap();
    let name = format!("{V1}.torrent");
    fs::create_dir(copy.path().join("torrents")).unwrap();
    let from = fixture("transmission/torrents").join(&name);
    fs::copy(from, copy.path().join("torrents").join(&name)).unwrap();
    let torrents = all(Client::Transmission, copy.path());
    assert_eq!(torrents[V1].have, Have::Unknown);
    assert_eq!(torrents[V1].notes, [Note::NoFolder, Note::NoResumeData]);
}

#[test]
fn the_resume_data_of_another_torrent_is_refused() {
    let backup = fixture("qbittorrent/BT_backup");
    let resume = fs::read(backup.join(format!("{V1}.fastresume"))).unwrap();
    let other = fs::read(backup.join(format!("{V2}.torrent"))).unwrap();
    let single =
        fs::read(fixture("transmission/torrents").join(format!("{SINGLE}.torrent"))).unwrap();
    let refused = shoal_import::qbittorrent::torrent(&resume, Some(&single));
    assert!(matches!(refused, Err(Fault::OtherTorrent)));
    let refused = shoal_import::qbittorrent::torrent(&resume, Some(&other));
    assert!(
        matches!(refused, Err(Fault::Torrent(_))),
        "nobody has its piece layers"
    );
}

#[test]
fn an_empty_folder_has_no_session_and_says_what_to_name() {
    let empty = tempfile::tempdir().unwrap();
    for client in Client::ALL {
        let error = Session::open(client, empty.path()).map(|_| ()).unwrap_err();
        assert!(matches!(error, ImportError::NothingHere { .. }), "{error}");
        assert!(
            error.to_string().contains("name the folder that has"),
            "{error}"
        );
    }
}

#[test]
fn a_database_of_qbittorrent_says_the_same_as_its_files() {
    let folder = fixture("qbittorrent-database");
    let session = Session::open(Client::QBittorrent, &folder).unwrap();
    assert_eq!(session.len(), 4);
    let order = session.map(|torrent| torrent.unwrap().info_hashes().primary().to_string());
    assert_eq!(order.collect::<Vec<_>>(), [V1, V2, MAGNET, HYBRID]);

    let torrents = all(Client::QBittorrent, &folder);
    check_libtorrent(&torrents);
    check_magnet(&torrents[MAGNET]);
    let files = all(Client::QBittorrent, &fixture("qbittorrent"));
    for (hash, torrent) in &torrents {
        let file = &files[hash];
        assert_eq!(torrent.folder, file.folder);
        assert_eq!(torrent.completed_folder, file.completed_folder);
        assert_eq!(torrent.category, file.category);
        assert_eq!(torrent.tags, file.tags);
        assert_eq!(torrent.run, file.run);
        assert_eq!(torrent.share_limits, file.share_limits);
        assert_eq!(torrent.upload_bytes_per_s, file.upload_bytes_per_s);
        assert_eq!(torrent.sequential, file.sequential);
    }
    assert_eq!(torrents[HYBRID].name.as_deref(), Some("My pack"));
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        1,
        "nothing was written beside it"
    );
}

#[test]
fn a_database_is_read_from_within_a_runtime_and_may_be_left_half_way() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut session =
            Session::open(Client::QBittorrent, &fixture("qbittorrent-database")).unwrap();
        assert!(session.next().unwrap().is_ok());
        assert_eq!(session.len(), 3);
    });
}

#[test]
fn a_database_counts_more_than_the_files_from_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("BT_backup");
    fs::create_dir(&backup).unwrap();
    let stale = format!("{V1}.fastresume");
    fs::copy(
        fixture("qbittorrent/BT_backup").join(&stale),
        backup.join(&stale),
    )
    .unwrap();
    let database = folder.path().join("torrents.db");
    fs::copy(fixture("qbittorrent-database/torrents.db"), &database).unwrap();
    assert_eq!(
        Session::open(Client::QBittorrent, &backup).unwrap().len(),
        4
    );

    fs::write(
        folder.path().join("torrents.db-wal"),
        b"what is still to be written",
    )
    .unwrap();
    let error = Session::open(Client::QBittorrent, folder.path())
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, ImportError::Running { .. }), "{error}");
}

#[test]
fn a_damaged_database_is_refused_or_costs_torrents() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("torrents.db");
    let whole = fs::read(fixture("qbittorrent-database/torrents.db")).unwrap();
    fs::write(&database, b"SQLite format 3\0").unwrap();
    let error = Session::open(Client::QBittorrent, folder.path())
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(&error, ImportError::Unreadable { .. }), "{error}");
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..][..600].fill(0x5a);
        fs::write(&database, damaged).unwrap();
        if let Ok(session) = Session::open(Client::QBittorrent, folder.path()) {
            let length = session.len();
            assert_eq!(session.count(), length);
        }
    }
}

#[test]
fn what_is_had_is_asked_by_piece() {
    let torrents = all(Client::RTorrent, &fixture("rtorrent"));
    let single = &torrents[SINGLE].have;
    let had = (0..5).map(|piece| single.has(PieceIndex(piece)));
    assert_eq!(had.collect::<Vec<_>>(), [true, false, true, true, false]);
}
