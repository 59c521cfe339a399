//! Folders whose torrents are added by themselves.

use crate::support::{PATIENCE, into, list, node, remove, sample, torrent};
use shoal_node::message::{Afterwards, Reply, Request, Watch, WatchRequest, WatchedFolder};
use shoal_node::{Node, NodeError};
use std::fs;
use std::path::Path;
use std::time::Duration;

async fn watch(node: &Node, request: WatchRequest) -> Result<Vec<WatchedFolder>, NodeError> {
    match node.ask(Request::Watch(request), None).await? {
        Reply::WatchedFolders { folders } => Ok(folders),
        other => panic!("{other:?}"),
    }
}

async fn begin(node: &Node, folder: &Path, watch: Watch) -> Vec<WatchedFolder> {
    let request = WatchRequest::Add {
        path: folder.to_str().unwrap().to_owned(),
        watch: Box::new(watch),
    };
    self::watch(node, request).await.unwrap()
}

/// Waits until the only watched folder is as it should be.
async fn until(node: &Node, fits: impl Fn(&WatchedFolder) -> bool) -> WatchedFolder {
    let waiting = async {
        loop {
            let folders = watch(node, WatchRequest::List {}).await.unwrap();
            if fits(&folders[0]) {
                return folders[0].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

async fn names(node: &Node) -> Vec<String> {
    let torrents = list(node, &[]).await.unwrap().into_iter();
    torrents.map(|torrent| torrent.name).collect()
}

#[tokio::test]
async fn what_appears_in_a_folder_is_added_with_what_is_told_of_it_and_put_away() {
    let (state, inbox, target) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let (node, _) = node(state.path()).await;
    let mut add = into(target.path());
    add.paused = Some(true);
    add.rules = [("up".to_owned(), "1KiB".to_owned())].into();
    let how = Watch {
        recursive: true,
        then: Afterwards::Delete,
        add,
    };
    begin(&node, inbox.path(), how).await;
    let path = |name: &str| inbox.path().join(name);
    fs::create_dir(path("below")).unwrap();
    fs::write(path("below/a.torrent"), torrent("a", b"aaa")).unwrap();
    let link = "magnet:?xt=urn:btih:0102030405060708090a0b0c0d0e0f1011121314&dn=linked";
    fs::write(path("b.magnet"), format!("# mine\n{link}\n")).unwrap();
    fs::write(path("c.torrent"), "this is none").unwrap();
    fs::write(path("d.zip"), torrent("d", b"ddd")).unwrap();
    let folder = until(&node, |folder| {
        folder.added == 2 && !folder.refused.is_empty()
    })
    .await;
    assert_eq!(folder.refused[0].path, "c.torrent");
    assert!(folder.refused[0].why.contains("refused"), "{folder:?}");
    let torrents = list(&node, &[]).await.unwrap();
    let mut seen: Vec<&str> = torrents
        .iter()
        .map(|torrent| torrent.name.as_str())
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, ["a", "linked"]);
    for torrent in &torrents {
        assert_eq!(torrent.state, shoal_node::message::State::Paused);
        assert_eq!(torrent.rules["up"], "1KiB");
    }
    for (name, stays) in [
        ("below/a.torrent", false),
        ("b.magnet", false),
        ("c.torrent", true),
        ("d.zip", true),
    ] {
        assert_eq!(path(name).exists(), stays, "{name}");
    }
    node.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_file_that_stays_is_added_once_whatever_goes_and_comes_back() {
    let (state, outer, target) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let inbox = outer.path().join("in");
    fs::create_dir(&inbox).unwrap();
    let (first, _) = node(state.path()).await;
    let how = Watch {
        add: into(target.path()),
        ..Watch::default()
    };
    begin(&first, &inbox, how).await;
    fs::write(inbox.join("a.torrent"), torrent("a", b"aaa")).unwrap();
    fs::write(inbox.join("no.txt"), "http://example.org/").unwrap();
    let folder = until(&first, |folder| {
        folder.added == 1 && !folder.refused.is_empty()
    })
    .await;
    assert!(folder.refused[0].why.contains("line 1"), "{folder:?}");
    remove(&first, "a").await;
    first.stop(PATIENCE).await;
    drop(first);

    // The next life knows what was given; a folder that is gone for a while is the same when it is back.
    let (second, _) = node(state.path()).await;
    let folder = until(&second, |folder| !folder.refused.is_empty()).await;
    assert_eq!(folder.refused[0].path, "no.txt");
    let away = outer.path().join("away");
    fs::rename(&inbox, &away).unwrap();
    let folder = until(&second, |folder| folder.message.is_some()).await;
    assert!(folder.message.unwrap().contains("looked into"));
    fs::rename(&away, &inbox).unwrap();
    until(&second, |folder| folder.message.is_none()).await;
    fs::write(inbox.join("b.torrent"), torrent("b", b"bbb")).unwrap();
    until(&second, |folder| folder.added == 1).await;
    assert_eq!(names(&second).await, ["b"]);
    // What has changed is another file.
    fs::write(inbox.join("no.txt"), torrent("c", b"ccc")).unwrap();
    fs::rename(inbox.join("no.txt"), inbox.join("c.torrent")).unwrap();
    let folder = until(&second, |folder| folder.added == 2).await;
    assert!(folder.refused.is_empty(), "{folder:?}");
    second.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_here_already_counts_as_added_and_its_file_gets_its_other_name() {
    let (state, inbox) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (node, _) = node(state.path()).await;
    let sample = sample("word", 20_000);
    sample
        .add_to(&node, into(sample.folder.path()))
        .await
        .unwrap();
    let how = Watch {
        then: Afterwards::Rename,
        add: into(sample.folder.path()),
        ..Watch::default()
    };
    begin(&node, inbox.path(), how).await;
    fs::write(inbox.path().join("again.torrent"), &sample.torrent).unwrap();
    let renamed = inbox.path().join("again.torrent.added");
    let waiting = async {
        while !renamed.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    assert_eq!(names(&node).await, ["word"]);
    node.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let (node, _) = node(state.path()).await;
    let mut unknown = into(state.path());
    unknown.category = Some("films".to_owned());
    let mut named = into(state.path());
    named.magnet = Some("magnet:?".to_owned());
    for (path, add, about) in [
        ("in", into(state.path()), "from the root"),
        ("/absent", into(state.path()), "create it"),
        ("/tmp", unknown, "films"),
        ("/tmp", named, "name no torrent"),
        ("/tmp", into(Path::new("/absent")), "/absent"),
    ] {
        let request = WatchRequest::Add {
            path: path.to_owned(),
            watch: Box::new(Watch {
                add,
                ..Watch::default()
            }),
        };
        let refused = watch(&node, request).await.unwrap_err();
        assert!(refused.to_string().contains(about), "{refused}");
    }
    let paths = vec!["/tmp".to_owned()];
    let refused = watch(&node, WatchRequest::Remove { paths })
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("not watched"), "{refused}");
    assert!(
        watch(&node, WatchRequest::List {})
            .await
            .unwrap()
            .is_empty()
    );
    node.stop(PATIENCE).await;
}
