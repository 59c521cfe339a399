//! Torrents that come, run, go on at the next start, and go.

use crate::support::{
    PATIENCE, add_file, into, list, node, node_with, only, pause, remove, resume, sample, until,
};
use shoal_node::NodeError;
use shoal_node::message::{Add, ErrorKind, State};
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn a_session_goes_on_where_it_was() {
    let (sample, state) = (sample("word", 300_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;

    let (target, ours) = (tempfile::tempdir().unwrap(), state.path().join("leech"));
    let (leech, _) = node(&ours).await;
    let add = Add {
        peers: vec![address],
        ..into(target.path())
    };
    sample.add_to(&leech, add).await.unwrap();
    let complete = until(&leech, State::Seeding).await;
    assert_eq!(
        std::fs::read(target.path().join("word")).unwrap(),
        sample.content
    );
    let paused = pause(&leech, "word").await;
    assert_eq!(paused[0].state, State::Stopping);
    until(&leech, State::Paused).await;
    leech.stop(PATIENCE).await;
    assert!(matches!(list(&leech, &[]).await, Err(NodeError::Stopped)));

    let (leech, _) = node(&ours).await;
    let again = only(&leech).await;
    assert_eq!((again.id, again.state), (complete.id, State::Paused));
    assert_eq!(again.downloaded_bytes, 300_000);
    assert_eq!(
        (again.wanted_bytes, again.verified_bytes),
        (300_000, 300_000)
    );
    assert!(again.completed_at.is_some());
    resume(&leech, "all").await;
    let seeding_again = until(&leech, State::Seeding).await;
    // It is known from the journal, and nothing of it was fetched again.
    assert_eq!(seeding_again.downloaded_bytes, 300_000);
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_removed_is_gone_and_its_content_stays() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    let first = sample
        .add_to(&ours, into(sample.folder.path()))
        .await
        .unwrap();
    until(&ours, State::Seeding).await;
    let again = sample.add_to(&ours, into(sample.folder.path())).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Duplicate);
    let removed = remove(&ours, &first.info_hash).await;
    assert_eq!(removed[0].id, first.id);
    // It takes leave in its own time, and is not shown meanwhile.
    assert_eq!(list(&ours, &[]).await.unwrap(), []);
    let gone = async {
        while std::fs::read_dir(state.path().join("journals"))
            .unwrap()
            .count()
            > 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(
        std::fs::read(sample.folder.path().join("word")).unwrap(),
        sample.content
    );
    let second = sample
        .add_to(&ours, into(sample.folder.path()))
        .await
        .unwrap();
    assert!(second.id > first.id);
    until(&ours, State::Seeding).await;
    // Whoever does not wait until it has taken leave waits for that unseen.
    remove(&ours, "all").await;
    let folder = sample.folder.path();
    sample.add_to(&ours, into(folder)).await.unwrap();
    until(&ours, State::Seeding).await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn torrents_have_names_and_what_could_mean_several_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let (ours, _) = node(state.path()).await;
    let samples = [sample("one", 1_000), sample("two", 2_000)];
    let paused = |folder: &Path| Add {
        paused: Some(true),
        ..into(folder)
    };
    let mut torrents = Vec::new();
    for sample in &samples {
        let add = paused(sample.folder.path());
        torrents.push(sample.add_to(&ours, add).await.unwrap());
    }
    // Another torrent with the name of the first.
    let twin = sample("one", 3_000);
    let third = twin
        .add_to(&ours, paused(twin.folder.path()))
        .await
        .unwrap();
    let show = async |name: &str| {
        let shown = list(&ours, &[name]).await;
        shown.map(|torrents| {
            torrents
                .iter()
                .map(|torrent| torrent.id)
                .collect::<Vec<_>>()
        })
    };
    let [first, second] = [torrents[0].clone(), torrents[1].clone()];
    assert_eq!(show("two").await.unwrap(), [second.id]);
    assert_eq!(show(&first.id.to_string()).await.unwrap(), [first.id]);
    assert_eq!(show(&first.info_hash[..8]).await.unwrap(), [first.id]);
    assert_eq!(
        show(&first.info_hash.to_uppercase()).await.unwrap(),
        [first.id]
    );
    let all = [first.id, second.id, third.id];
    assert_eq!(show("all").await.unwrap(), all);
    assert_eq!(show("one").await.unwrap_err().kind(), ErrorKind::Usage);
    let ends = format!("{},{}-{}", third.id, first.id, second.id);
    assert_eq!(show(&ends).await.unwrap(), all);
    assert_eq!(show("state:paused").await.unwrap(), all);
    for none in ["state:seeding", "private:yes", "tracker:tracker.example"] {
        assert_eq!(show(none).await.unwrap(), [0; 0], "{none}");
    }
    for nonsense in ["state:happy", "private:perhaps", "3-1"] {
        let refused = show(nonsense).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{nonsense}");
    }
    for unknown in ["three", "", "99", "abcdef", &first.info_hash[..7]] {
        let refused = show(unknown).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{unknown}");
    }
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_cannot_be_added_is_refused_and_leaves_nothing() {
    let (sample, state) = (sample("word", 1_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    let folder = sample.folder.path();
    let file = folder.join("word");
    let magnet = Some("magnet:?dn=nothing".to_owned());
    let selection = Some(vec![true, false]);
    for (add, bytes, kind) in [
        (
            into(Path::new("relative")),
            Some(&sample.torrent),
            ErrorKind::Refused,
        ),
        (
            into(&folder.join("absent")),
            Some(&sample.torrent),
            ErrorKind::Refused,
        ),
        (into(&file), Some(&sample.torrent), ErrorKind::Refused),
        (
            into(folder),
            Some(&b"no torrent".to_vec()),
            ErrorKind::Refused,
        ),
        (into(folder), None, ErrorKind::Usage),
        (
            Add {
                magnet: magnet.clone(),
                ..into(folder)
            },
            None,
            ErrorKind::Refused,
        ),
        (
            Add {
                magnet,
                ..into(folder)
            },
            Some(&sample.torrent),
            ErrorKind::Usage,
        ),
        (
            Add {
                selection,
                ..into(folder)
            },
            Some(&sample.torrent),
            ErrorKind::Usage,
        ),
    ] {
        let refused = add_file(&ours, add.clone(), bytes.cloned()).await;
        assert_eq!(refused.unwrap_err().kind(), kind, "{add:?}");
    }
    assert_eq!(list(&ours, &[]).await.unwrap(), []);
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_magnet_link_becomes_a_torrent_that_the_next_start_knows() {
    let (sample, state) = (sample("word", 200_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let torrent = sample
        .add_to(&seeding, into(sample.folder.path()))
        .await
        .unwrap();
    until(&seeding, State::Seeding).await;
    let (target, ours) = (tempfile::tempdir().unwrap(), state.path().join("leech"));
    let (leech, _) = node(&ours).await;
    let link = Add {
        magnet: Some(format!("magnet:?xt=urn:btih:{}", torrent.info_hash)),
        ..into(target.path())
    };
    // Nobody is named who would know it.
    add_file(&leech, link.clone(), None).await.unwrap();
    until(&leech, State::Searching).await;
    pause(&leech, "all").await;
    until(&leech, State::Paused).await;
    remove(&leech, "all").await;
    let add = Add {
        peers: vec![address],
        ..link
    };
    // The search before may still take leave.
    add_file(&leech, add, None).await.unwrap();
    until(&leech, State::Seeding).await;
    leech.stop(PATIENCE).await;
    let (leech, _) = node(&ours).await;
    let known = until(&leech, State::Seeding).await;
    assert_eq!(
        (known.name.as_str(), known.downloaded_bytes),
        ("word", 200_000)
    );
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn as_many_downloads_run_as_may_and_the_next_one_takes_a_free_place() {
    let state = tempfile::tempdir().unwrap();
    let (ours, _) = node_with(state.path(), &[("queue.downloads", "2")]).await;
    let target = tempfile::tempdir().unwrap();
    for length in 1..=4 {
        let sample = sample(&format!("word-{length}"), length * 1_000);
        sample.add_to(&ours, into(target.path())).await.unwrap();
    }
    let states = async |wanted: [State; 4]| {
        let waiting = async {
            loop {
                let torrents = list(&ours, &[]).await.unwrap();
                let states: Vec<State> = torrents.iter().map(|torrent| torrent.state).collect();
                if states == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    };
    use State::{Downloading, Paused, Queued};
    states([Downloading, Downloading, Queued, Queued]).await;
    pause(&ours, "word-1").await;
    states([Paused, Downloading, Downloading, Queued]).await;
    // It has kept its position, and whoever runs is stopped for it.
    resume(&ours, "word-1").await;
    states([Downloading, Downloading, Queued, Queued]).await;
    ours.stop(PATIENCE).await;
}
