//! What is told of a torrent as it is added: when it stops by itself, what is trusted, which of its files are wanted.

use crate::support::{
    PATIENCE, add_file, into, list, named, node, node_with, only, pause, resume, sample, set, until,
};
use shoal_node::Node;
use shoal_node::message::{Add, ErrorKind, Reply, Request, State, TrackerRequest, WebSeedRequest};
use std::path::Path;

fn stops_at(when: &str, folder: &Path) -> Add {
    Add {
        stop_at: Some(when.to_owned()),
        ..into(folder)
    }
}

#[tokio::test]
async fn a_torrent_stops_where_it_was_told_to_and_goes_on_when_a_person_says_so() {
    let (sample, state) = (sample("word", 200_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let folder = into(sample.folder.path());
    let torrent = sample.add_to(&seeding, folder).await.unwrap();
    until(&seeding, State::Seeding).await;
    let (target, ours) = (tempfile::tempdir().unwrap(), state.path().join("leech"));
    let (leech, _) = node_with(&ours, &[("add.stop_at", "metadata")]).await;
    let link = Add {
        magnet: Some(format!("magnet:?xt=urn:btih:{}", torrent.info_hash)),
        peers: vec![address],
        ..into(target.path())
    };
    add_file(&leech, link, None).await.unwrap();
    let known = until(&leech, State::Paused).await;
    assert_eq!((known.name.as_str(), known.downloaded_bytes), ("word", 0));
    leech.stop(PATIENCE).await;
    let (leech, _) = node(&ours).await;
    let known = until(&leech, State::Paused).await;
    assert_eq!((known.name.as_str(), known.downloaded_bytes), ("word", 0));
    resume(&leech, "word").await;
    until(&leech, State::Downloading).await;
    pause(&leech, "word").await;
    leech.stop(PATIENCE).await;

    // Half of it is right.
    let there = tempfile::tempdir().unwrap();
    let mut half = sample.content.clone();
    half[100_000..].fill(0);
    std::fs::write(there.path().join("word"), half).unwrap();
    let (leech, _) = node(&state.path().join("second")).await;
    let add = Add {
        peers: vec![address],
        ..stops_at("checked", there.path())
    };
    sample.add_to(&leech, add).await.unwrap();
    let checked = until(&leech, State::Paused).await;
    assert_eq!(checked.verified_bytes, 6 * 16 * 1024);
    resume(&leech, "word").await;
    until(&leech, State::Seeding).await;
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_known_already_stops_at_once_and_who_is_forced_does_not() {
    let state = tempfile::tempdir().unwrap();
    let (ours, _) = node(state.path()).await;
    let [one, two] = [sample("one", 1_000), sample("two", 2_000)];
    let add = stops_at("metadata", one.folder.path());
    let added = one.add_to(&ours, add).await.unwrap();
    assert_eq!(added.state, State::Paused);
    set(&ours, &[("add.stop_at", "metadata")]).await.unwrap();
    let forced = Add {
        force: true,
        ..into(two.folder.path())
    };
    two.add_to(&ours, forced).await.unwrap();
    let list = list(&ours, &["two"]).await.unwrap();
    assert_ne!(list[0].state, State::Paused);
    let add = stops_at("dawn", two.folder.path());
    let refused = one.add_to(&ours, add).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    assert!(refused.to_string().contains("metadata"), "{refused}");
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_trusted_is_served_unread_where_it_is_long_enough() {
    let (sample, state) = (sample("word", 100_000), tempfile::tempdir().unwrap());
    let folder = sample.folder.path();
    // Nobody would take it for right who read it.
    std::fs::write(folder.join("word"), vec![7; 100_000]).unwrap();
    let (ours, _) = node(state.path()).await;
    let trusted = || Add {
        trust: true,
        ..into(folder)
    };
    sample.add_to(&ours, trusted()).await.unwrap();
    let seeding = until(&ours, State::Seeding).await;
    assert_eq!(seeding.verified_bytes, seeding.wanted_bytes);
    crate::support::remove(&ours, "all").await;

    std::fs::write(folder.join("word"), vec![7; 99_999]).unwrap();
    sample.add_to(&ours, trusted()).await.unwrap();
    let short = until(&ours, State::Downloading).await;
    assert!(short.verified_bytes < short.wanted_bytes, "{short:?}");
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_link_says_which_files_come_unless_a_person_does() {
    let state = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    let torrent = crate::priority::album(source.path(), 5);
    let (seeding, address) = node(&state.path().join("seed")).await;
    let add = into(source.path());
    add_file(&seeding, add, Some(torrent)).await.unwrap();
    let hash = until(&seeding, State::Seeding).await.info_hash;
    let target = tempfile::tempdir().unwrap();
    let ours = state.path().join("leech");
    let (leech, _) = node(&ours).await;
    // Files are counted from 0 there (BEP 53).
    let link = Add {
        magnet: Some(format!("magnet:?xt=urn:btih:{hash}&so=0,3-4")),
        peers: vec![address],
        ..into(target.path())
    };
    add_file(&leech, link, None).await.unwrap();
    let done = until(&leech, State::Seeding).await;
    assert_eq!(done.verified_bytes, 3 * 16 * 1024);
    assert_eq!(done.priorities["skip"], "2-3");
    assert!(target.path().join("album/4").exists());
    assert!(!target.path().join("album/3").exists());
    leech.stop(PATIENCE).await;
    // The link says nothing of a torrent that a person has told otherwise since.
    let (leech, _) = node(&ours).await;
    let kept = until(&leech, State::Seeding).await;
    assert_eq!(kept.priorities["skip"], "2-3");
    assert_eq!(only(&leech).await.verified_bytes, 3 * 16 * 1024);
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

/// A torrent of `word` with more than its info.
fn with(torrent: &[u8], before: &str, after: &str) -> Vec<u8> {
    let info = &torrent[1..torrent.len() - 1];
    [b"d", before.as_bytes(), info, after.as_bytes(), b"e"].concat()
}

#[tokio::test]
async fn a_second_copy_gives_its_trackers_and_web_seeds_to_the_first_unless_it_is_private() {
    let state = tempfile::tempdir().unwrap();
    let (ours, _) = node(state.path()).await;
    let sample = sample("word", 1_000);
    let paused = |merge| Add {
        paused: Some(true),
        merge,
        ..into(sample.folder.path())
    };
    let (tracker, seed) = ("http://127.0.0.1:9/a", "http://127.0.0.1:9/w");
    let copy_of = |torrent: &[u8]| {
        let (announce, list) = (
            format!("8:announce20:{tracker}"),
            format!("8:url-list20:{seed}"),
        );
        with(torrent, &announce, &list)
    };
    let first = sample.add_to(&ours, paused(None)).await.unwrap();
    let copy = copy_of(&sample.torrent);
    let refused = add_file(&ours, paused(None), Some(copy.clone())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Duplicate);
    assert_eq!(known(&ours).await, (vec![], vec![]));
    for _ in 0..2 {
        let merged = add_file(&ours, paused(Some(true)), Some(copy.clone())).await;
        assert_eq!(merged.unwrap()[0].id, first.id);
        let both = (vec![tracker.to_owned()], vec![seed.to_owned()]);
        assert_eq!(known(&ours).await, both);
    }
    // A link is a copy, too.
    set(&ours, &[("add.merge", "on")]).await.unwrap();
    let link = Add {
        magnet: Some(format!(
            "magnet:?xt=urn:btih:{}&tr=udp://127.0.0.1:8",
            first.info_hash
        )),
        ..paused(None)
    };
    add_file(&ours, link, None).await.unwrap();
    assert_eq!(known(&ours).await.0.len(), 2);
    crate::support::remove(&ours, "all").await;

    let mut private = sample.torrent.clone();
    private.truncate(private.len() - 2);
    private.extend(b"7:privatei1eee");
    add_file(&ours, paused(None), Some(private.clone()))
        .await
        .unwrap();
    let refused = add_file(&ours, paused(None), Some(copy_of(&private))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Duplicate);
    assert_eq!(known(&ours).await, (vec![], vec![]));
    ours.stop(PATIENCE).await;
}

/// The trackers and web seeds of the only torrent.
async fn known(node: &Node) -> (Vec<String>, Vec<String>) {
    let torrents = named("all");
    let list = TrackerRequest::List {
        torrents: torrents.clone(),
    };
    let Reply::Trackers { trackers } = node.ask(Request::Tracker(list), None).await.unwrap() else {
        panic!("no trackers");
    };
    let list = WebSeedRequest::List { torrents };
    let Reply::WebSeeds { web_seeds } = node.ask(Request::WebSeed(list), None).await.unwrap()
    else {
        panic!("no web seeds");
    };
    let trackers = trackers.into_iter().map(|tracker| tracker.url);
    let web_seeds = web_seeds.into_iter().map(|seed| seed.url);
    (trackers.collect(), web_seeds.collect())
}
