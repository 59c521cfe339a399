//! Where data lies: moved, renamed, elsewhere until it is complete, and as categories say.

use crate::support::{
    PATIENCE, Sample, ask, change, into, list, make, named, node, node_with, only, pause, remove,
    resume, sample, set, until,
};
use shoal_node::message::CarrierKind::{Category, Session};
use shoal_node::message::{Add, ErrorKind, FolderRequest, Request, State, Torrent};
use shoal_node::{Node, NodeError};
use shoal_store::{Database, Moving, TorrentOptions};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

fn text(path: &Path) -> String {
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// Folders that are there.
fn folders<const N: usize>() -> (TempDir, [String; N]) {
    let folder = tempfile::tempdir().unwrap();
    let made = std::array::from_fn(|number| {
        let path = folder.path().join(number.to_string());
        fs::create_dir(&path).unwrap();
        text(&path)
    });
    (folder, made)
}

async fn place(node: &Node, request: FolderRequest) -> Result<Vec<Torrent>, NodeError> {
    ask(node, Request::Folder(request)).await
}

async fn move_to(node: &Node, name: &str, directory: &str) -> Result<Vec<Torrent>, NodeError> {
    let (torrents, directory) = (named(name), directory.to_owned());
    place(
        node,
        FolderRequest::Move {
            torrents,
            directory,
        },
    )
    .await
}

async fn rename(node: &Node, old: &str, new: &str, folder: bool) -> Result<Torrent, NodeError> {
    let (torrents, old, new) = (named("all"), old.to_owned(), new.to_owned());
    let request = match folder {
        true => FolderRequest::RenameFolder { torrents, old, new },
        false => FolderRequest::RenameFile { torrents, old, new },
    };
    place(node, request)
        .await
        .map(|torrents| torrents[0].clone())
}

/// Waits until the torrent of this name is so.
async fn until_it(node: &Node, name: &str, is_so: impl Fn(&Torrent) -> bool) -> Torrent {
    let waiting = async {
        loop {
            let torrent = list(node, &[name]).await.unwrap()[0].clone();
            if is_so(&torrent) {
                return torrent;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, waiting).await;
    match seen {
        Ok(torrent) => torrent,
        Err(_) => panic!("it stays {:?}", list(node, &[name]).await),
    }
}

/// Waits until it lies in this folder for good, in this state.
async fn until_in(node: &Node, name: &str, folder: &str, state: State) -> Torrent {
    until_it(node, name, |torrent| {
        let rests = torrent.moving_to.is_none() && torrent.home.is_none();
        rests && torrent.directory == folder && torrent.state == state
    })
    .await
}

fn names(folder: &str) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    names
        .map(|name| name.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn assert_there(sample: &Sample, folder: &str, name: &str) {
    let path = Path::new(folder).join(name);
    assert!(fs::read(&path).unwrap() == sample.content, "{path:?}");
}

#[tokio::test]
async fn data_is_moved_whether_its_torrent_runs_or_not() {
    let (sample, state) = (sample("word", 300_000), tempfile::tempdir().unwrap());
    let first = text(sample.folder.path());
    let (_folder, [second, third]) = folders();
    let (ours, _) = node(state.path()).await;
    let added = sample.add_to(&ours, into(sample.folder.path())).await;
    let added = added.unwrap();
    until(&ours, State::Seeding).await;
    move_to(&ours, "word", &second).await.unwrap();
    let moved = until_in(&ours, "word", &second, State::Seeding).await;
    assert_eq!((moved.id, moved.verified_bytes), (added.id, 300_000));
    // From then on it stays there, whatever others say.
    assert_eq!(moved.rules["folder"], second);
    assert_there(&sample, &second, "word");
    assert_eq!(names(&first), [""; 0]);

    pause(&ours, "word").await;
    until(&ours, State::Paused).await;
    move_to(&ours, "word", &third).await.unwrap();
    until_in(&ours, "word", &third, State::Paused).await;
    assert_there(&sample, &third, "word");
    assert_eq!(names(&second), [""; 0]);
    ours.stop(PATIENCE).await;

    let (ours, _) = node(state.path()).await;
    assert_eq!(only(&ours).await.directory, third);
    resume(&ours, "word").await;
    let again = until(&ours, State::Seeding).await;
    assert_eq!(again.verified_bytes, 300_000);
    // The same torrent in its first folder, while this one takes leave, has nothing of it.
    remove(&ours, "word").await;
    sample.add_to(&ours, into(Path::new(&first))).await.unwrap();
    let anew = until(&ours, State::Downloading).await;
    assert_eq!((anew.directory.as_str(), anew.verified_bytes), (&*first, 0));
    remove(&ours, "word").await;
    let journals = text(&state.path().join("journals"));
    while !names(&journals).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_cannot_be_moved_stays_and_so_do_those_that_were_to_go_with_it() {
    let (one, two) = (sample("one", 50_000), sample("two", 60_000));
    let state = tempfile::tempdir().unwrap();
    let (_folder, [target]) = folders();
    let (ours, _) = node(state.path()).await;
    for sample in [&one, &two] {
        let home = sample.folder.path();
        sample.add_to(&ours, into(home)).await.unwrap();
    }
    let seeds = |torrent: &Torrent| torrent.state == State::Seeding;
    for name in ["one", "two"] {
        until_it(&ours, name, seeds).await;
    }
    let taken = Path::new(&target).join("two");
    fs::write(&taken, "something of a person").unwrap();
    let file = text(&taken);
    let absent = format!("{target}/absent");
    for (directory, words) in [
        ("relative", "from the root"),
        (absent.as_str(), "create it"),
        (file.as_str(), "no folder"),
        (target.as_str(), "something is there already"),
    ] {
        let refused = move_to(&ours, "all", directory).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.to_string().contains(words), "{refused}");
    }
    assert_eq!(fs::read(&taken).unwrap(), b"something of a person");
    for sample in [&one, &two] {
        let name = if sample.content.len() == 50_000 {
            "one"
        } else {
            "two"
        };
        let stays = text(sample.folder.path());
        until_in(&ours, name, &stays, State::Seeding).await;
        assert_there(sample, &stays, name);
    }
    // What nobody looked at before, as they follow a category, is said where it is seen.
    make(&ours, Category, "films", &[("folder", &target)])
        .await
        .unwrap();
    let inherit = FolderRequest::Inherit {
        torrents: named("two"),
    };
    place(&ours, inherit).await.unwrap();
    change(&ours, "two", |change| {
        change.category = Some("films".to_owned());
    })
    .await
    .unwrap();
    let stays = until_it(&ours, "two", |torrent| torrent.message.is_some()).await;
    let why = stays.message.unwrap();
    assert!(
        why.contains("not moved") && why.contains("already"),
        "{why}"
    );
    assert_eq!(stays.directory, text(two.folder.path()));
    assert_eq!((stays.state, stays.moving_to), (State::Seeding, None));
    fs::remove_file(&taken).unwrap();
    move_to(&ours, "all", &target).await.unwrap();
    for name in ["one", "two"] {
        let moved = until_in(&ours, name, &target, State::Seeding).await;
        assert_eq!(moved.message, None);
    }
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_person_who_has_moved_files_says_where_they_are() {
    let (sample, state) = (sample("word", 100_000), tempfile::tempdir().unwrap());
    let (_folder, [target]) = folders();
    let (ours, _) = node(state.path()).await;
    let home = sample.folder.path();
    sample.add_to(&ours, into(home)).await.unwrap();
    until(&ours, State::Seeding).await;
    pause(&ours, "word").await;
    until(&ours, State::Paused).await;
    fs::copy(home.join("word"), Path::new(&target).join("word")).unwrap();
    fs::remove_file(home.join("word")).unwrap();
    resume(&ours, "word").await;
    until(&ours, State::Missing).await;
    move_to(&ours, "word", &target).await.unwrap();
    let there = until_in(&ours, "word", &target, State::Seeding).await;
    assert_eq!(there.verified_bytes, 100_000);
    assert_there(&sample, &target, "word");
    ours.stop(PATIENCE).await;
}

/// As if the node had ended when this had been written down.
async fn written_down(state: &Path, directory: &str, tell: impl FnOnce(&mut TorrentOptions)) {
    let database = Database::open(&state.join("session.db")).await.unwrap();
    let stored = database.torrents(std::convert::identity).await.unwrap();
    let mut options = stored[0].torrent.options.clone();
    tell(&mut options);
    let written = database.moved(stored[0].id, Path::new(directory), &options);
    written.await.unwrap();
    database.close().await;
}

#[tokio::test]
async fn a_move_that_a_node_did_not_live_to_end_is_ended_by_the_next_one() {
    let (sample, state) = (sample("word", 200_000), tempfile::tempdir().unwrap());
    let first = text(sample.folder.path());
    let (_folder, [second, third]) = folders();
    let (ours, _) = node(state.path()).await;
    sample.add_to(&ours, into(Path::new(&first))).await.unwrap();
    until(&ours, State::Seeding).await;
    pause(&ours, "word").await;
    until(&ours, State::Paused).await;
    ours.stop(PATIENCE).await;
    let journal = names(&text(&state.path().join("journals")));
    let to = |directory: &str| Moving {
        directory: Some(directory.to_owned()),
        own: true,
        ..Moving::default()
    };
    // It was written down, and nothing had moved.
    written_down(state.path(), &first, |options| {
        options.journal = Some(journal[0].clone());
        options.moving = Some(to(&second));
    })
    .await;
    let (ours, _) = node(state.path()).await;
    let moved = until_in(&ours, "word", &second, State::Paused).await;
    assert_eq!(moved.rules["folder"], second);
    assert_there(&sample, &second, "word");
    resume(&ours, "word").await;
    assert_eq!(until(&ours, State::Seeding).await.verified_bytes, 200_000);
    move_to(&ours, "word", &third).await.unwrap();
    until_in(&ours, "word", &third, State::Seeding).await;
    ours.stop(PATIENCE).await;

    // All had moved, and that it was to move was lost with the rest.
    written_down(state.path(), &second, |options| options.moving = None).await;
    let (ours, _) = node(state.path()).await;
    let found = until_in(&ours, "word", &third, State::Seeding).await;
    assert_eq!(found.verified_bytes, 200_000);
    move_to(&ours, "word", &first).await.unwrap();
    until_in(&ours, "word", &first, State::Seeding).await;
    ours.stop(PATIENCE).await;
    // All had moved, and it was not written down that it had.
    written_down(state.path(), &third, |options| {
        options.moving = Some(to(&first));
    })
    .await;
    let (ours, _) = node(state.path()).await;
    let found = until_in(&ours, "word", &first, State::Seeding).await;
    assert_eq!(found.verified_bytes, 200_000);
    assert_there(&sample, &first, "word");
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn files_get_other_names_that_the_next_start_knows() {
    let (sample, state) = (sample("word", 100_000), tempfile::tempdir().unwrap());
    let folder = text(sample.folder.path());
    let (ours, _) = node(state.path()).await;
    sample
        .add_to(&ours, into(Path::new(&folder)))
        .await
        .unwrap();
    until(&ours, State::Seeding).await;
    rename(&ours, "word", "deep/er", false).await.unwrap();
    let called = |name: &'static str| {
        move |torrent: &Torrent| {
            let now = torrent.renamed.get("word").map_or("word", String::as_str);
            now == name && torrent.moving_to.is_none()
        }
    };
    until_it(&ours, "all", called("deep/er")).await;
    assert_there(&sample, &folder, "deep/er");
    for (old, new) in [
        ("word", "other"),
        ("deep/er", "../other"),
        ("deep/er", "/tmp/other"),
        ("deep/er", "a//b"),
        ("deep/er", "a\\b"),
        ("deep/er", "nul"),
        ("deep/er", ""),
    ] {
        let refused = rename(&ours, old, new, false).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{new}: {refused}");
    }
    let in_the_way = Path::new(&folder).join("taken");
    fs::write(&in_the_way, "of a person").unwrap();
    let refused = rename(&ours, "deep/er", "taken", false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");

    pause(&ours, "all").await;
    until(&ours, State::Paused).await;
    rename(&ours, "deep", "deeper", true).await.unwrap();
    until_it(&ours, "all", called("deeper/er")).await;
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    resume(&ours, "all").await;
    let seeding = until(&ours, State::Seeding).await;
    assert_eq!(seeding.renamed["word"], "deeper/er");
    assert_there(&sample, &folder, "deeper/er");
    rename(&ours, "deeper/er", "word", false).await.unwrap();
    let own = until_it(&ours, "all", called("word")).await;
    assert!(own.renamed.is_empty());
    assert_there(&sample, &folder, "word");
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_not_complete_lies_elsewhere_and_goes_home_by_itself() {
    let (sample, state) = (sample("word", 300_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;

    let (_folder, [until_then, other, first, second]) = folders();
    let ours = state.path().join("leech");
    let (leech, _) = node_with(&ours, &[("folder.incomplete", &until_then)]).await;
    let add = Add {
        rules: crate::support::words(&[("down", "1")]),
        ..into(Path::new(&first))
    };
    let added = sample.add_to(&leech, add).await.unwrap();
    let places = (added.directory.as_str(), added.home.as_deref());
    assert_eq!(places, (&*until_then, Some(&*first)));
    until(&leech, State::Downloading).await;
    // Where it goes then is one thing, and where it lies until then another.
    let told = move_to(&leech, "word", &second).await.unwrap();
    assert_eq!(told[0].home.as_deref(), Some(&*second));
    assert_eq!(told[0].moving_to, None);
    let elsewhere = FolderRequest::Incomplete {
        torrents: named("word"),
        directory: other.clone(),
    };
    place(&leech, elsewhere).await.unwrap();
    let moved = until_it(&leech, "word", |torrent| torrent.moving_to.is_none()).await;
    let places = (moved.directory.as_str(), moved.home.as_deref());
    assert_eq!(places, (&*other, Some(&*second)));
    leech.stop(PATIENCE).await;

    let (leech, _) = node(&ours).await;
    remove(&leech, "word").await;
    let add = Add {
        peers: vec![address],
        rules: crate::support::words(&[("incomplete", &other)]),
        ..into(Path::new(&second))
    };
    let added = sample.add_to(&leech, add).await.unwrap();
    assert_eq!(added.directory, other);
    until_in(&leech, "word", &second, State::Seeding).await;
    assert_there(&sample, &second, "word");
    for empty in [&until_then, &other, &first] {
        assert_eq!(names(empty), [""; 0]);
    }
    // What is there already is not looked for elsewhere.
    remove(&leech, "word").await;
    let add = Add {
        rules: crate::support::words(&[("incomplete", &other)]),
        ..into(Path::new(&second))
    };
    sample.add_to(&leech, add).await.unwrap();
    until_in(&leech, "word", &second, State::Seeding).await;
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_torrent_without_a_folder_of_its_own_goes_where_its_category_does() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (_folder, [films, songs, more, own]) = folders();
    fs::write(Path::new(&films).join("word"), &sample.content).unwrap();
    let (ours, _) = node(state.path()).await;
    make(&ours, Category, "films", &[("folder", &films)])
        .await
        .unwrap();
    make(&ours, Category, "songs", &[("folder", &songs)])
        .await
        .unwrap();
    let add = Add {
        category: Some("films".to_owned()),
        ..Add::default()
    };
    sample.add_to(&ours, add).await.unwrap();
    until_in(&ours, "word", &films, State::Seeding).await;
    let put = |name: &'static str| {
        move |change: &mut shoal_node::message::Change| {
            change.category = Some(name.to_owned());
        }
    };
    change(&ours, "word", put("songs")).await.unwrap();
    until_in(&ours, "word", &songs, State::Seeding).await;

    // As nothing else was said, what lies in the category's folder stays when that is another one.
    make(&ours, Category, "songs", &[("folder", &more)])
        .await
        .unwrap();
    let stays = until_in(&ours, "word", &songs, State::Seeding).await;
    assert_eq!(stays.rules["folder"], songs);
    let inherit = FolderRequest::Inherit {
        torrents: named("word"),
    };
    place(&ours, inherit.clone()).await.unwrap();
    let follows = until_in(&ours, "word", &more, State::Seeding).await;
    assert!(follows.rules.is_empty());
    set(&ours, &[("folder.when_category_moved", "move")])
        .await
        .unwrap();
    make(&ours, Category, "songs", &[("folder", &songs)])
        .await
        .unwrap();
    until_in(&ours, "word", &songs, State::Seeding).await;

    let stay = FolderRequest::Stay {
        torrents: named("word"),
    };
    assert_eq!(place(&ours, stay).await.unwrap()[0].rules["folder"], songs);
    change(&ours, "word", put("films")).await.unwrap();
    until_in(&ours, "word", &songs, State::Seeding).await;
    move_to(&ours, "word", &own).await.unwrap();
    until_in(&ours, "word", &own, State::Seeding).await;
    place(&ours, inherit).await.unwrap();
    until_in(&ours, "word", &films, State::Seeding).await;

    // Without a category it lies where the session has it.
    set(
        &ours,
        &[("folder.data", &own), ("folder.when_session_moved", "move")],
    )
    .await
    .unwrap();
    change(&ours, "word", put("")).await.unwrap();
    until_in(&ours, "word", &own, State::Seeding).await;
    set(&ours, &[("folder.data", &more)]).await.unwrap();
    until_in(&ours, "word", &more, State::Seeding).await;
    let wrong = make(&ours, Session, "", &[("folder", &own)]).await;
    assert!(wrong.unwrap_err().to_string().contains("folder.data"));
    let wrong = change(&ours, "word", |change| {
        change.rules = crate::support::words(&[("folder", "/")]);
    });
    assert!(wrong.await.unwrap_err().to_string().contains("shoal move"));
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn new_torrents_follow_their_category_always_once_or_never() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (_folder, [films, data]) = folders();
    let (ours, _) = node(state.path()).await;
    make(&ours, Category, "films", &[("folder", &films)])
        .await
        .unwrap();
    set(&ours, &[("folder.data", &data)]).await.unwrap();
    for (follow, directory, own) in [
        ("always", &films, None),
        ("once", &films, Some(&films)),
        ("never", &data, Some(&data)),
    ] {
        set(&ours, &[("folder.follow", follow)]).await.unwrap();
        let add = Add {
            category: Some("films".to_owned()),
            paused: Some(true),
            ..Add::default()
        };
        let added = sample.add_to(&ours, add).await.unwrap();
        assert_eq!(&added.directory, directory, "{follow}");
        assert_eq!(added.rules.get("folder"), own, "{follow}");
        remove(&ours, "word").await;
    }
    ours.stop(PATIENCE).await;
}

/// A torrent of two files with one piece each.
fn album(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut file =
        b"d4:infod5:filesld6:lengthi16384e4:pathl1:aeed6:lengthi16384e4:pathl3:sub5:b.EXEeee"
            .to_vec();
    file.extend(b"4:name5:album12:piece lengthi16384e6:pieces40:");
    for content in [first, second] {
        file.extend(<sha1::Sha1 as sha1::Digest>::digest(content));
    }
    file.extend(b"ee");
    file
}

#[tokio::test]
async fn new_torrents_get_the_names_and_files_that_settings_say() {
    let state = tempfile::tempdir().unwrap();
    let (_folder, [folder, other]) = folders();
    let (a, b) = (vec![1; 16_384], vec![2; 16_384]);
    fs::write(Path::new(&folder).join("a"), &a).unwrap();
    let (ours, _) = node(state.path()).await;
    set(
        &ours,
        &[("content.exclude", "*.exe *.url"), ("add.layout", "none")],
    )
    .await
    .unwrap();
    let file = album(&a, &b);
    let added = crate::support::add_file(&ours, into(Path::new(&folder)), Some(file.clone()));
    let added = added.await.unwrap();
    assert_eq!(added[0].renamed["album/sub/b.EXE"], "sub/b.EXE");
    // What is left of it is there under the names that it has.
    let seeding = until(&ours, State::Seeding).await;
    assert_eq!(
        (seeding.wanted_bytes, seeding.verified_bytes),
        (16_384, 16_384)
    );
    assert_eq!(names(&folder), ["a"]);
    remove(&ours, "all").await;
    let add = Add {
        layout: Some("original".to_owned()),
        selection: Some(vec![false, true]),
        ..into(Path::new(&other))
    };
    let added = crate::support::add_file(&ours, add.clone(), Some(file.clone()));
    assert!(added.await.unwrap()[0].renamed.is_empty());
    // Who selects files means them.
    let fetching = until(&ours, State::Downloading).await;
    assert_eq!(
        (fetching.wanted_bytes, fetching.verified_bytes),
        (16_384, 0)
    );
    remove(&ours, "all").await;
    let wrong = Add {
        layout: Some("flat".to_owned()),
        ..add
    };
    let refused = crate::support::add_file(&ours, wrong, Some(file))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("original, folder, none"),
        "{refused}"
    );
    for (key, value) in [
        ("add.layout", "flat"),
        ("content.exclude", "a/b"),
        ("content.incomplete_suffix", "part"),
        ("content.incomplete_suffix", ".a/b"),
        ("content.incomplete_suffix", ".part."),
    ] {
        assert!(set(&ours, &[(key, value)]).await.is_err(), "{key}={value}");
    }
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_complete_is_read_again_and_loses_its_mark() {
    let (sample, state) = (sample("word", 300_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    let seed = sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;
    let (_folder, [elsewhere, home]) = folders();
    for by_link in [false, true] {
        let ours = state.path().join(if by_link { "link" } else { "file" });
        let told = [
            ("content.incomplete_suffix", ".part"),
            ("content.recheck_when_complete", "on"),
            ("folder.incomplete", elsewhere.as_str()),
        ];
        let (leech, _) = node_with(&ours, &told).await;
        let add = Add {
            magnet: by_link.then(|| format!("magnet:?xt=urn:btih:{}", seed.info_hash)),
            peers: vec![address],
            rules: crate::support::words(&[("down", "200K")]),
            sequential: true,
            ..into(Path::new(&home))
        };
        let file = (!by_link).then(|| sample.torrent.clone());
        crate::support::add_file(&leech, add, file).await.unwrap();
        let marked = until_it(&leech, "all", |torrent| {
            torrent.verified_bytes > 0 && torrent.completed_at.is_none()
        })
        .await;
        assert_eq!(marked.renamed["word"], "word.part");
        assert_eq!(names(&elsewhere), ["word.part"]);
        // What is wrong by then is found.
        let mut file = fs::File::options();
        let file = file
            .write(true)
            .open(Path::new(&elsewhere).join("word.part"));
        file.unwrap().write_all(&[0; 9_000]).unwrap();
        let there = until_in(&leech, "word", &home, State::Seeding).await;
        assert!(there.renamed.is_empty());
        let path = Path::new(&home).join("word");
        let right = async {
            while fs::read(&path).unwrap() != sample.content {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, right).await.unwrap();
        assert_eq!(names(&elsewhere), [""; 0]);
        leech.stop(PATIENCE).await;
        fs::remove_file(Path::new(&home).join("word")).unwrap();
    }
    seeding.stop(PATIENCE).await;
}
