//! How much files are wanted, and in which order.

use crate::support::{
    PATIENCE, add_file, all_are, ask, into, list, named, node, only, resume, until, words,
};
use shoal_node::message::{
    Add, ErrorKind, FilesPriority, Prioritize, Priority, Request, State, Torrent,
};
use shoal_node::{Node, NodeError};
use std::path::Path;

/// Pieces of one length, each a file of its own.
const PIECE: usize = 16 * 1024;

/// A folder of files of one piece each below `folder`, and its torrent.
pub(crate) fn album(folder: &Path, files: usize) -> Vec<u8> {
    let (mut list, mut hashes) = (String::new(), Vec::new());
    std::fs::create_dir_all(folder.join("album")).unwrap();
    for file in 1..=files {
        let mut content = vec![0; PIECE];
        fastrand::Rng::with_seed(file as u64).fill(&mut content);
        std::fs::write(folder.join(format!("album/{file}")), &content).unwrap();
        list += &format!("d6:lengthi{PIECE}e4:pathl1:{file}ee");
        hashes.extend(<sha1::Sha1 as sha1::Digest>::digest(&content));
    }
    let mut torrent = format!("d4:infod5:filesl{list}e4:name5:album").into_bytes();
    torrent.extend(format!("12:piece lengthi{PIECE}e6:pieces{}:", hashes.len()).bytes());
    torrent.extend(hashes);
    torrent.extend(b"ee");
    torrent
}

fn files(first: usize, last: usize, priority: Priority) -> Vec<FilesPriority> {
    vec![FilesPriority {
        first,
        last,
        priority,
    }]
}

async fn tell(node: &Node, told: Prioritize) -> Result<Torrent, NodeError> {
    let torrents = named("album");
    let told = Prioritize { torrents, ..told };
    let told = ask(node, Request::Prioritize(Box::new(told))).await;
    told.map(|torrents| torrents[0].clone())
}

async fn want(node: &Node, told: Vec<FilesPriority>) -> Result<Torrent, NodeError> {
    let files = told;
    let told = Prioritize {
        files,
        ..Prioritize::default()
    };
    tell(node, told).await
}

async fn paused(node: &Node) {
    let torrents = named("all");
    ask(node, Request::Pause { torrents }).await.unwrap();
    until(node, State::Paused).await;
}

#[tokio::test]
async fn what_is_skipped_does_not_come_until_it_is_wanted_also_after_the_next_start() {
    let state = tempfile::tempdir().unwrap();
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let torrent = album(source.path(), 5);
    let (seeding, address) = node(&state.path().join("seed")).await;
    let add = into(source.path());
    add_file(&seeding, add, Some(torrent.clone()))
        .await
        .unwrap();
    until(&seeding, State::Seeding).await;

    let ours = state.path().join("leech");
    let (leech, _) = node(&ours).await;
    let add = Add {
        selection: Some(vec![true, true, false, true, true]),
        priorities: [files(1, 1, Priority::Skip), files(5, 5, Priority::High)].concat(),
        peers: vec![address],
        ..into(target.path())
    };
    let added = add_file(&leech, add, Some(torrent)).await.unwrap();
    assert_eq!(
        added[0].priorities,
        words(&[("skip", "1,3"), ("high", "5")])
    );
    let part = until(&leech, State::Seeding).await;
    assert_eq!(part.verified_bytes, 3 * PIECE as u64);
    assert!(!target.path().join("album/1").exists());
    assert!(only(&leech).await.completed_at.is_some());

    // What is there already is complete again at once.
    want(&leech, files(2, 2, Priority::Skip)).await.unwrap();
    let more = want(&leech, files(2, 2, Priority::Normal)).await.unwrap();
    assert_eq!(more.completed_at, None);
    let whole = async {
        while only(&leech).await.completed_at.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap();

    let more = want(&leech, files(1, 1, Priority::Highest)).await.unwrap();
    assert_eq!(more.completed_at, None);
    let fetched = async {
        while only(&leech).await.verified_bytes < 4 * PIECE as u64 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, fetched).await.unwrap();
    let file = std::fs::read(target.path().join("album/1")).unwrap();
    assert_eq!(file, std::fs::read(source.path().join("album/1")).unwrap());
    until(&leech, State::Seeding).await;
    leech.stop(PATIENCE).await;

    // What is told of a torrent at rest holds when it runs.
    let (leech, _) = node(&ours).await;
    let kept = until(&leech, State::Seeding).await;
    let shown = words(&[("skip", "3"), ("high", "5"), ("highest", "1")]);
    assert_eq!(
        (&kept.priorities, kept.wanted_bytes),
        (&shown, 4 * PIECE as u64)
    );
    paused(&leech).await;
    let told = files(1, 5, Priority::Normal);
    assert_eq!(want(&leech, told).await.unwrap().priorities, words(&[]));
    leech.stop(PATIENCE).await;
    let (leech, _) = node(&ours).await;
    resume(&leech, "album").await;
    let whole = until(&leech, State::Downloading).await;
    assert_eq!(
        (whole.wanted_bytes, whole.completed_at),
        (5 * PIECE as u64, None)
    );
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_download_waits_for_its_place_again_when_more_is_wanted_of_it() {
    let (state, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let torrent = album(source.path(), 2);
    std::fs::remove_file(source.path().join("album/2")).unwrap();
    let (ours, _) = node_of_no_downloads(state.path()).await;
    let add = Add {
        selection: Some(vec![true, false]),
        force: true,
        ..into(source.path())
    };
    add_file(&ours, add, Some(torrent)).await.unwrap();
    until(&ours, State::Seeding).await;
    resume(&ours, "album").await;
    until(&ours, State::Seeding).await;
    want(&ours, files(2, 2, Priority::Normal)).await.unwrap();
    all_are(&ours, &[State::Queued]).await;
    want(&ours, files(2, 2, Priority::Skip)).await.unwrap();
    ours.stop(PATIENCE).await;
}

async fn node_of_no_downloads(folder: &Path) -> (Node, std::net::SocketAddr) {
    crate::support::node_with(folder, &[("queue.downloads", "0")]).await
}

#[tokio::test]
async fn an_order_is_kept_and_what_no_torrent_has_is_refused() {
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let torrent = album(&state.path().join("source"), 3);
    let (ours, _) = node(state.path()).await;
    let add = Add {
        first_last: true,
        ..into(target.path())
    };
    add_file(&ours, add, Some(torrent)).await.unwrap();
    let order = |sequential, first_last| Prioritize {
        sequential,
        first_last,
        ..Prioritize::default()
    };
    let told = tell(&ours, order(Some(true), None)).await.unwrap();
    assert_eq!((told.sequential, told.first_last), (true, true));
    let told = tell(&ours, order(None, Some(false))).await.unwrap();
    assert_eq!((told.sequential, told.first_last), (true, false));
    let refused = want(&ours, files(4, 4, Priority::High)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    assert!(refused.to_string().contains("has 3"), "{refused}");
    let link = Add {
        magnet: Some(format!("magnet:?xt=urn:btih:{}", "0a".repeat(20))),
        priorities: files(1, 1, Priority::High),
        ..into(target.path())
    };
    let refused = add_file(&ours, link.clone(), None).await.unwrap_err();
    assert!(refused.to_string().contains("not known yet"), "{refused}");
    let link = Add {
        priorities: Vec::new(),
        ..link
    };
    add_file(&ours, link, None).await.unwrap();
    // All of them, or none.
    let told = Prioritize {
        torrents: named("all"),
        files: files(1, 1, Priority::Skip),
        ..Prioritize::default()
    };
    let refused = ask(&ours, Request::Prioritize(Box::new(told))).await;
    assert!(refused.unwrap_err().to_string().contains("not known yet"));
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    let kept = list(&ours, &["album"]).await.unwrap();
    assert_eq!((kept[0].sequential, kept[0].first_last), (true, false));
    assert_eq!(kept[0].priorities, words(&[]));
    ours.stop(PATIENCE).await;
}
