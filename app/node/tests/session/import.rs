//! Torrents of other clients become part of a session.

use crate::support::{
    PATIENCE, Sample, all_are, list, node, node_with, only, sample, torrents, until,
};
use shoal_metainfo::Metainfo;
use shoal_metainfo::metainfo::Limits;
use shoal_node::message::{
    Import, ImportClient, ImportNews, ImportOutcome, ImportedTorrent, MovedFolder, Request, State,
};
use shoal_node::{Node, NodeError};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// When the files were written, long before any test.
const WRITTEN_S: u64 = 1_600_000_000;

/// What rTorrent says of a torrent of one file that is in `folder`: its pieces, or those whose bits are set.
fn rtorrent(session: &Path, torrent: &[u8], folder: &Path, pieces: &[u8]) {
    let metainfo = Metainfo::parse(torrent, Limits::LOCAL).unwrap();
    let hash = metainfo.info_hashes().v1().unwrap().to_string();
    let name = session.join(format!("{}.torrent", hash.to_uppercase()));
    let with = |suffix: &str| format!("{}{suffix}", name.display());
    let folder = folder.to_str().unwrap();
    let settings = format!(
        "d7:custom18:films%219:directory{}:{folder}5:statei1e18:timestamp.finishedi1600000100e\
         16:total_downloadedi5000e14:total_uploadedi7000ee",
        folder.len()
    );
    let mut resume = format!("d8:bitfield{}:", pieces.len()).into_bytes();
    resume.extend(pieces);
    resume.extend(format!("5:filesld5:mtimei{WRITTEN_S}e8:priorityi1eeee").bytes());
    fs::write(with(""), torrent).unwrap();
    fs::write(with(".rtorrent"), settings).unwrap();
    fs::write(with(".libtorrent_resume"), resume).unwrap();
}

/// A torrent whose file was written long ago.
fn old(name: &str, length: usize) -> Sample {
    let sample = sample(name, length);
    let path = sample.folder.path().join(name);
    let file = File::options().write(true).open(path).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(WRITTEN_S);
    file.set_modified(time).unwrap();
    sample
}

fn of(session: &Path) -> Import {
    Import {
        client: ImportClient::RTorrent,
        folder: Some(session.to_str().unwrap().to_owned()),
        dry_run: false,
        paused: false,
        map: Vec::new(),
        only: Vec::new(),
    }
}

/// What is told of an import until its end.
async fn import(node: &Node, import: Import) -> Result<Vec<ImportNews>, NodeError> {
    let (news, mut told) = mpsc::channel(1);
    let hearing = async {
        let mut all = Vec::new();
        while let Some(news) = told.recv().await {
            all.push(news);
        }
        all
    };
    let both = async { tokio::join!(node.import(import, news), hearing) };
    let (done, told) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    done.map(|()| told)
}

/// By name.
fn of_torrents(news: &[ImportNews]) -> BTreeMap<String, ImportedTorrent> {
    let torrents = news.iter().filter_map(|news| match news {
        ImportNews::Torrent(torrent) => Some((torrent.name.clone(), (**torrent).clone())),
        _ => None,
    });
    torrents.collect()
}

fn counts(news: &[ImportNews]) -> (usize, usize, usize, usize) {
    match news.last() {
        Some(ImportNews::Done {
            imported,
            already,
            refused,
            left_out,
        }) => (*imported, *already, *refused, *left_out),
        other => panic!("{other:?}"),
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.display().to_string(), fs::read(path).unwrap())
    });
    files.collect()
}

#[tokio::test]
async fn torrents_of_another_client_go_on_with_what_it_knew_of_them() {
    let (state, session) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Four pieces each.
    let (whole, part, changed) = (
        old("whole", 60_000),
        old("part", 61_000),
        old("changed", 62_000),
    );
    rtorrent(session.path(), &whole.torrent, whole.folder.path(), &[0xf0]);
    rtorrent(session.path(), &part.torrent, part.folder.path(), &[0xa0]);
    rtorrent(
        session.path(),
        &changed.torrent,
        changed.folder.path(),
        &[0xf0],
    );
    fs::write(changed.folder.path().join("changed"), &changed.content).unwrap();
    let before = files(session.path());

    let (node, _) = node(state.path()).await;
    let dry = Import {
        dry_run: true,
        ..of(session.path())
    };
    let told = import(&node, dry).await.unwrap();
    assert!(
        matches!(
            &told[0],
            ImportNews::Begun {
                torrents: 3,
                dry_run: true,
                ..
            }
        ),
        "{told:?}"
    );
    assert_eq!(counts(&told), (3, 0, 0, 0));
    let would = of_torrents(&told);
    assert!(list(&node, &[]).await.unwrap().is_empty());
    assert!(files(&state.path().join("journals")).is_empty());

    let told = import(&node, of(session.path())).await.unwrap();
    assert_eq!(counts(&told), (3, 0, 0, 0));
    let came = of_torrents(&told);
    for (name, verified, suspect) in [("whole", 4, 0), ("part", 2, 0), ("changed", 0, 4)] {
        let torrent = &came[name];
        assert_eq!(torrent.outcome, ImportOutcome::Imported, "{torrent:?}");
        assert_eq!(torrent.pieces, 4);
        let found = (torrent.verified_pieces, torrent.suspect_pieces);
        assert_eq!(found, (verified, suspect), "{torrent:?}");
        assert_eq!(torrent.changed_files, u64::from(suspect > 0));
        let expected = ImportedTorrent {
            outcome: ImportOutcome::Importable,
            id: None,
            ..torrent.clone()
        };
        assert_eq!(would[name], expected);
    }
    assert_eq!(files(session.path()), before);
    let again = import(&node, of(session.path())).await.unwrap();
    assert_eq!(counts(&again), (0, 3, 0, 0));
    assert_eq!(of_torrents(&again)["part"].id, came["part"].id);

    let seeding = async {
        while list(&node, &["state:seeding"]).await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seeding).await.unwrap();
    for torrent in list(&node, &[]).await.unwrap() {
        assert_eq!(torrent.category.as_deref(), Some("films!"));
        assert_eq!(
            (torrent.downloaded_bytes, torrent.uploaded_bytes),
            (5_000, 7_000)
        );
        let is_part = torrent.name == "part";
        assert_eq!(torrent.completed_at, (!is_part).then_some(1_600_000_100));
        let there = if is_part {
            2 * 16 * 1024
        } else {
            torrent.wanted_bytes
        };
        assert_eq!(torrent.verified_bytes, there, "{torrent:?}");
    }
    node.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn what_is_elsewhere_is_refused_until_it_is_said_where_it_is() {
    let (state, session) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (moved, other) = (old("moved", 40_000), old("other", 30_000));
    let gone = Path::new("/nowhere at all/downloads");
    rtorrent(session.path(), &moved.torrent, gone, &[0xe0]);
    rtorrent(session.path(), &other.torrent, other.folder.path(), &[0xc0]);
    fs::write(
        session.path().join(format!("{}.torrent", "A".repeat(40))),
        "damaged",
    )
    .unwrap();
    let (node, _) = node(state.path()).await;
    let only = |word: &str| Import {
        only: vec![word.to_owned()],
        ..of(session.path())
    };
    let told = import(&node, only("moved")).await.unwrap();
    assert_eq!(counts(&told), (0, 0, 1, 2));
    let why = of_torrents(&told)["moved"].message.clone().unwrap();
    assert!(
        why.contains("/nowhere at all/downloads") && why.contains("where it is"),
        "{why}"
    );
    assert!(list(&node, &[]).await.unwrap().is_empty());

    let map = Import {
        map: vec![MovedFolder {
            old: "/nowhere at all".to_owned(),
            new: moved.folder.path().to_str().unwrap().to_owned(),
        }],
        paused: true,
        ..of(session.path())
    };
    fs::create_dir(moved.folder.path().join("downloads")).unwrap();
    let told = import(&node, map.clone()).await.unwrap();
    assert_eq!(
        counts(&told),
        (1, 0, 2, 0),
        "an empty folder is not where it is: {told:?}"
    );
    fs::rename(
        moved.folder.path().join("moved"),
        moved.folder.path().join("downloads/moved"),
    )
    .unwrap();
    let told = import(&node, map).await.unwrap();
    assert_eq!(counts(&told), (1, 1, 1, 0), "{told:?}");
    all_are(&node, &[State::Paused, State::Paused]).await;
    let resumed = Request::Resume {
        torrents: vec!["moved".to_owned()],
    };
    torrents(node.ask(resumed, None).await.unwrap());
    all_are(&node, &[State::Paused, State::Seeding]).await;
    node.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn an_import_that_was_cut_off_goes_on_with_the_next() {
    let (state, session) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let samples: Vec<Sample> = (1..=30)
        .map(|number| old(&format!("word-{number}"), number * 1_000))
        .collect();
    for sample in &samples {
        // Bits to spare do not count.
        rtorrent(
            session.path(),
            &sample.torrent,
            sample.folder.path(),
            &[0xc0],
        );
    }
    let (node_before, _) = node(state.path()).await;
    let (news, mut told) = mpsc::channel(1);
    let importing = node_before.import(of(session.path()), news);
    let hearing = async {
        for _ in 0..5 {
            told.recv().await.unwrap();
        }
        // Nobody hears of it any more.
        drop(told);
    };
    let (done, ()) = tokio::join!(importing, hearing);
    done.unwrap();
    let some = list(&node_before, &[]).await.unwrap().len();
    assert!((4..30).contains(&some), "{some}");
    node_before.stop(Duration::ZERO).await;
    let (node, _) = node_with(state.path(), &[("queue.seeds", "all")]).await;
    let told = import(&node, of(session.path())).await.unwrap();
    assert_eq!(counts(&told), (30 - some, some, 0, 0));
    all_are(&node, &[State::Seeding; 30]).await;
    for torrent in list(&node, &[]).await.unwrap() {
        assert_eq!(torrent.verified_bytes, torrent.wanted_bytes, "{torrent:?}");
    }
    node.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_client_that_runs_is_told_of_and_not_imported_from() {
    let (state, session) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sample = old("whole", 60_000);
    rtorrent(
        session.path(),
        &sample.torrent,
        sample.folder.path(),
        &[0xf0],
    );
    let lock = session.path().join("rtorrent.lock");
    fs::write(&lock, format!("here:+{}", std::process::id())).unwrap();
    let (node, _) = node(state.path()).await;
    let refused = import(&node, of(session.path())).await.unwrap_err();
    assert!(refused.to_string().contains("is running"), "{refused}");
    let dry = Import {
        dry_run: true,
        ..of(session.path())
    };
    let told = import(&node, dry).await.unwrap();
    assert!(
        matches!(&told[0], ImportNews::Begun { warnings, .. } if warnings.len() == 1),
        "{told:?}"
    );
    fs::remove_file(lock).unwrap();
    import(&node, of(session.path())).await.unwrap();
    let seeding = until(&node, State::Seeding).await;
    assert_eq!(only(&node).await.id, seeding.id);
    node.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_what_to_do() {
    let (state, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (node, _) = node(state.path()).await;
    let nothing = import(&node, of(empty.path())).await.unwrap_err();
    assert!(
        nothing.to_string().contains("name the folder that has"),
        "{nothing}"
    );
    let relative = Import {
        folder: Some("session".to_owned()),
        ..of(empty.path())
    };
    let relative = import(&node, relative).await.unwrap_err();
    assert!(relative.to_string().contains("from the root"), "{relative}");
    let map = Import {
        map: vec![MovedFolder {
            old: "/a".to_owned(),
            new: "b".to_owned(),
        }],
        ..of(empty.path())
    };
    let map = import(&node, map).await.unwrap_err();
    assert!(map.to_string().contains("moves nothing"), "{map}");
    let asked = Request::Import(Box::new(of(empty.path())));
    assert!(node.ask(asked, None).await.is_err());
    node.stop(Duration::ZERO).await;
}
