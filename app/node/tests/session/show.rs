//! What a node shows of its session and of single torrents.

use crate::support::{
    PATIENCE, add_file, all_are, downloads, into, make, named, node, pause, resume, sample, set,
    until, words,
};
use shoal_node::message::{
    Add, CarrierKind, ErrorKind, Fate, Holds, Priority, Reply, Request, ShowRequest, Shown,
    ShownFile, ShownPieces, ShownSession, ShownTorrent, State, StateCount,
};
use shoal_node::{Node, NodeError};
use std::time::Duration;

async fn show(node: &Node, request: ShowRequest) -> Result<Shown, NodeError> {
    match node.ask(Request::Show(request), None).await? {
        Reply::Shown(shown) => Ok(shown),
        other => panic!("{other:?}"),
    }
}

async fn torrent(node: &Node, name: &str) -> ShownTorrent {
    let torrents = named(name);
    match show(node, ShowRequest::Torrents { torrents })
        .await
        .unwrap()
    {
        Shown::Torrents { mut torrents } => torrents.remove(0),
        other => panic!("{other:?}"),
    }
}

async fn session(node: &Node) -> ShownSession {
    match show(node, ShowRequest::Session {}).await.unwrap() {
        Shown::Session(session) => *session,
        other => panic!("{other:?}"),
    }
}

async fn files(node: &Node, name: &str) -> Vec<ShownFile> {
    let (torrents, from) = (named(name), 1);
    let request = ShowRequest::Files { torrents, from };
    match show(node, request).await.unwrap() {
        Shown::Files { files, next: None } => files,
        other => panic!("{other:?}"),
    }
}

async fn pieces(node: &Node, name: &str) -> ShownPieces {
    let torrents = named(name);
    match show(node, ShowRequest::Pieces { torrents }).await.unwrap() {
        Shown::Pieces(pieces) => *pieces,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_of_a_torrent_is_shown_while_it_runs_and_what_is_known_while_it_does_not() {
    let sample = sample("word", 50_000);
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = tempfile::tempdir().unwrap();
    let (seed, address) = node(theirs.path()).await;
    sample
        .add_to(&seed, into(sample.folder.path()))
        .await
        .unwrap();
    until(&seed, State::Seeding).await;
    let (leech, _) = node(ours.path()).await;
    make(&leech, CarrierKind::Category, "films", &[("ratio", "2")])
        .await
        .unwrap();
    let add = Add {
        category: Some("films".to_owned()),
        rules: words(&[("up", "1MiB")]),
        peers: vec![address],
        ..into(target.path())
    };
    sample.add_to(&leech, add).await.unwrap();
    until(&leech, State::Seeding).await;
    let runs = torrent(&leech, "1").await;
    assert_eq!(runs.name, "word");
    assert_eq!(
        (runs.size_bytes, runs.verified_bytes, runs.left_bytes),
        (Some(50_000), 50_000, 0)
    );
    assert_eq!((runs.piece_count, runs.verified_pieces), (Some(4), Some(4)));
    assert_eq!(
        (runs.downloaded_bytes, runs.started_downloaded_bytes),
        (50_000, 50_000)
    );
    assert_eq!(runs.ratio_permille, Some(0));
    // Ours at least.
    assert!(runs.availability_permille.unwrap() >= 1_000, "{runs:?}");
    assert!(runs.magnet.contains(runs.info_hash_v1.as_ref().unwrap()));
    let path = target.path().canonicalize().unwrap().join("word");
    assert_eq!(runs.content_path.as_deref(), path.to_str());
    assert!(runs.run_s.is_some() && runs.completed_unix_s.is_some());
    let held = |word: &str| {
        let mut rules = runs.held.iter().filter(|rule| rule.rule == word);
        let held = rules.next().unwrap();
        (
            held.value.as_str(),
            held.from.as_deref(),
            held.name.as_deref(),
        )
    };
    assert_eq!(held("ratio"), ("2", Some("category"), Some("films")));
    assert_eq!(held("up"), ("1MiB", Some("torrent"), None));
    assert_eq!(held("time"), ("none", None, None));

    pause(&leech, "1").await;
    until(&leech, State::Paused).await;
    leech.stop(PATIENCE).await;
    let (leech, _) = node(ours.path()).await;
    let rests = torrent(&leech, "1").await;
    assert_eq!((rests.state, rests.piece_count), (State::Paused, Some(4)));
    assert_eq!((rests.run_s, rests.verified_pieces), (None, None));
    assert_eq!(rests.availability_permille, None);
    assert_eq!(
        (rests.downloaded_bytes, rests.started_downloaded_bytes),
        (50_000, 0)
    );
    assert_eq!(rests.content_path.as_deref(), path.to_str());
    resume(&leech, "1").await;
    until(&leech, State::Seeding).await;
    for node in [seed, leech] {
        node.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn files_and_pieces_of_a_torrent_are_shown_and_its_file_given_back() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    let add = Add {
        paused: Some(true),
        selection: Some(vec![false]),
        ..into(sample.folder.path())
    };
    sample.add_to(&ours, add).await.unwrap();
    let unknown = &files(&ours, "word").await[0];
    assert_eq!(
        (unknown.verified_bytes, unknown.available_pieces),
        (None, None)
    );
    assert_eq!((unknown.number, unknown.pieces), (1, Some([0, 3])));
    assert_eq!(unknown.priority, Priority::Skip);
    let unknown = pieces(&ours, "word").await;
    assert_eq!(
        (unknown.piece_count, unknown.piece_length_bytes),
        (4, 16 * 1024)
    );
    assert_eq!((unknown.verified, unknown.availability), (None, None));
    ours.ask(
        Request::Remove {
            torrents: named("all"),
            data: None,
        },
        None,
    )
    .await
    .unwrap();

    sample
        .add_to(&ours, into(sample.folder.path()))
        .await
        .unwrap();
    until(&ours, State::Seeding).await;
    let known = &files(&ours, "2").await[0];
    assert_eq!(
        (known.verified_bytes, known.available_pieces),
        (Some(50_000), Some(4))
    );
    assert_eq!(known.priority, Priority::Normal);
    assert_eq!(std::fs::read(&known.location).unwrap(), sample.content);
    let known = pieces(&ours, "2").await;
    assert_eq!(known.verified, Some(vec![[0, 3]]));
    assert_eq!(known.in_progress, Some(vec![]));
    assert_eq!(known.availability, Some(vec![[0, 3, 0]]));

    let (torrents, from) = (named("2"), 1);
    let hashes = show(&ours, ShowRequest::Hashes { torrents, from }).await;
    let Shown::Hashes { hashes, next: None } = hashes.unwrap() else {
        panic!("there is more");
    };
    let second = <sha1::Sha1 as sha1::Digest>::digest(&sample.content[16 * 1024..32 * 1024]);
    let second: String = second.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((hashes.len(), hashes[0].piece), (3, 1));
    assert_eq!((&hashes[0].sha1, &hashes[0].root), (&Some(second), &None));

    let part = async |from: u64| {
        let torrents = named("2");
        match show(&ours, ShowRequest::File { torrents, from })
            .await
            .unwrap()
        {
            Shown::File { total_bytes, part } => (total_bytes, part),
            other => panic!("{other:?}"),
        }
    };
    let length = sample.torrent.len() as u64;
    let digits: String = sample
        .torrent
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(part(0).await, (length, digits.clone()));
    assert_eq!(
        part(length - 2).await,
        (length, digits[digits.len() - 4..].to_owned())
    );
    assert_eq!(part(length).await, (length, String::new()));
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn the_session_is_shown_with_what_its_torrents_come_to() {
    use State::{Downloading, Paused, Queued};
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, address) = node(state.path()).await;
    make(&ours, CarrierKind::Session, "", &[("down", "2MiB")])
        .await
        .unwrap();
    set(&ours, &[("queue.downloads", "1")]).await.unwrap();
    downloads(&ours, target.path(), 3).await;
    pause(&ours, "word-3").await;
    all_are(&ours, &[Downloading, Queued, Paused]).await;
    let shown = session(&ours).await;
    let count = |state| StateCount { state, count: 1 };
    assert_eq!(shown.torrents, 3);
    assert_eq!(
        shown.states,
        [count(Downloading), count(Paused), count(Queued)]
    );
    assert_eq!(shown.listening, [address]);
    assert_eq!(shown.download_limit_bytes_per_s, Some(2 << 20));
    assert_eq!(
        (shown.upload_limit_bytes_per_s, shown.ratio_permille),
        (None, None)
    );
    assert_eq!(shown.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(shown.holds, Holds::Normal);
    assert!(shown.started_unix_s > 1_700_000_000);
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_removed_torrents_moved_counts_for_all_times() {
    let sample = sample("word", 50_000);
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = tempfile::tempdir().unwrap();
    let (seed, address) = node(theirs.path()).await;
    sample
        .add_to(&seed, into(sample.folder.path()))
        .await
        .unwrap();
    until(&seed, State::Seeding).await;
    let (leech, _) = node(ours.path()).await;
    let moved = async |node: &Node| {
        let shown = session(node).await;
        (shown.downloaded_bytes, shown.started_downloaded_bytes)
    };
    // Without its data, and then with it.
    for (round, data) in [(1, None), (2, Some(Fate::Delete))] {
        let folder = target.path().join(round.to_string());
        std::fs::create_dir(&folder).unwrap();
        let add = Add {
            peers: vec![address],
            ..into(&folder)
        };
        sample.add_to(&leech, add).await.unwrap();
        until(&leech, State::Seeding).await;
        assert_eq!(moved(&leech).await, (round * 50_000, round * 50_000));
        let torrents = named("all");
        let request = Request::Remove { torrents, data };
        leech.ask(request, None).await.unwrap();
        assert_eq!(moved(&leech).await, (round * 50_000, round * 50_000));
    }
    let gone = async {
        while target.path().join("2/word").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(session(&leech).await.torrents, 0);
    leech.stop(PATIENCE).await;
    let (leech, _) = node(ours.path()).await;
    assert_eq!(moved(&leech).await, (100_000, 0));
    for node in [seed, leech] {
        node.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn what_cannot_be_shown_is_refused() {
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    set(&ours, &[("add.paused", "on")]).await.unwrap();
    downloads(&ours, target.path(), 2).await;
    let pieces = |name: &str| ShowRequest::Pieces {
        torrents: named(name),
    };
    let refused = show(&ours, pieces("all")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    assert!(refused.to_string().contains("2 torrents"), "{refused}");
    for nobody in ["tag:none,category:none,7", "state:failed"] {
        let refused = show(&ours, pieces(nobody)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    }
    let add = Add {
        magnet: Some(format!("magnet:?xt=urn:btih:{}&dn=far", "5a".repeat(20))),
        ..into(target.path())
    };
    add_file(&ours, add, None).await.unwrap();
    let far = torrent(&ours, "far").await;
    assert_eq!(
        (far.has_metadata, far.size_bytes, far.private),
        (false, None, None)
    );
    let (torrents, from) = (named("far"), 1);
    for request in [
        pieces("far"),
        ShowRequest::Files {
            torrents: torrents.clone(),
            from,
        },
        ShowRequest::File { torrents, from: 0 },
    ] {
        let refused = show(&ours, request).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Failure);
        assert!(refused.to_string().contains("magnet"), "{refused}");
    }
    ours.stop(PATIENCE).await;
}
