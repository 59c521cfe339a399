//! Nodes over real engines, databases and sockets, on loopback.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use shoal_engine::{Engine, EngineConfig};
use shoal_node::message::{
    Add, Assignment, Carrier, CarrierKind, Change, ErrorKind, Fate, Reply, Request, Shift, State,
    Torrent,
};
use shoal_node::{Client, ClientError, Node, NodeError, NodeSettings, serve};
use shoal_store::Database;
use shoal_transport::{ControlListener, TransportConfig};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(30);

/// A node whose state is in `folder`, and where peers reach it.
async fn node(folder: &Path) -> (Node, SocketAddr) {
    node_with(folder, &[]).await
}

async fn node_with(folder: &Path, told: &[(&str, &str)]) -> (Node, SocketAddr) {
    let engine = Engine::start(EngineConfig {
        transport: TransportConfig {
            listen: vec![([127, 0, 0, 1], 0).into()],
            isolated: true,
            ..TransportConfig::default()
        },
        workers: 1,
        ..EngineConfig::default()
    });
    let engine = engine.await.unwrap();
    let address = engine.listening()[0];
    let journals = folder.join("journals");
    std::fs::create_dir_all(&journals).unwrap();
    let database = Database::open(&folder.join("session.db")).await.unwrap();
    let told = told.iter();
    let settings = NodeSettings {
        journals,
        overrides: told
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..NodeSettings::default()
    };
    let node = Node::start(engine, database, settings);
    (node.await.unwrap(), address)
}

/// Noise, its torrent, and a folder that has it.
struct Sample {
    torrent: Vec<u8>,
    content: Vec<u8>,
    folder: TempDir,
}

fn sample(name: &str, length: usize) -> Sample {
    let folder = tempfile::tempdir().unwrap();
    let mut content = vec![0; length];
    fastrand::Rng::with_seed(length as u64).fill(&mut content);
    std::fs::write(folder.path().join(name), &content).unwrap();
    let torrent = torrent(name, &content);
    Sample {
        torrent,
        content,
        folder,
    }
}

fn torrent(name: &str, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let piece = 16 * 1024;
    let hashes = content
        .chunks(piece)
        .flat_map(|piece| <sha1::Sha1 as sha1::Digest>::digest(piece).to_vec());
    let hashes: Vec<u8> = hashes.collect();
    let mut file = format!("d4:infod6:lengthi{length}e4:name{}:{name}", name.len()).into_bytes();
    file.extend(format!("12:piece lengthi{piece}e6:pieces{}:", hashes.len()).bytes());
    file.extend(hashes);
    file.extend(b"ee");
    file
}

fn into(folder: &Path) -> Add {
    Add {
        directory: Some(folder.to_str().unwrap().to_owned()),
        ..Add::default()
    }
}

impl Sample {
    async fn add_to(&self, node: &Node, add: Add) -> Result<Torrent, NodeError> {
        let added = add_file(node, add, Some(self.torrent.clone())).await;
        added.map(|torrents| torrents[0].clone())
    }
}

fn torrents(reply: Reply) -> Vec<Torrent> {
    match reply {
        Reply::Torrents { torrents } => torrents,
        other => panic!("{other:?}"),
    }
}

async fn ask(node: &Node, request: Request) -> Result<Vec<Torrent>, NodeError> {
    node.ask(request, None).await.map(torrents)
}

async fn add_file(node: &Node, add: Add, file: Option<Vec<u8>>) -> Result<Vec<Torrent>, NodeError> {
    node.ask(Request::Add(Box::new(add)), file)
        .await
        .map(torrents)
}

async fn list(node: &Node, words: &[&str]) -> Result<Vec<Torrent>, NodeError> {
    let torrents = words.iter().map(|word| (*word).to_owned()).collect();
    ask(node, Request::List { torrents }).await
}

async fn pause(node: &Node, name: &str) -> Vec<Torrent> {
    let torrents = named(name);
    ask(node, Request::Pause { torrents }).await.unwrap()
}

async fn resume(node: &Node, name: &str) -> Vec<Torrent> {
    let torrents = named(name);
    ask(node, Request::Resume { torrents }).await.unwrap()
}

async fn remove(node: &Node, name: &str) -> Vec<Torrent> {
    let torrents = named(name);
    let data = None;
    ask(node, Request::Remove { torrents, data }).await.unwrap()
}

async fn only(node: &Node) -> Torrent {
    let torrents = list(node, &[]).await.unwrap();
    assert_eq!(torrents.len(), 1, "{torrents:?}");
    torrents[0].clone()
}

/// Waits for a state of the only torrent.
async fn until(node: &Node, state: State) -> Torrent {
    let waiting = async {
        loop {
            let torrent = only(node).await;
            if torrent.state == state {
                return torrent;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

fn named(name: &str) -> Vec<String> {
    vec![name.to_owned()]
}

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

fn everything() -> Request {
    Request::List {
        torrents: Vec::new(),
    }
}

/// A node that listens for requests.
async fn served(folder: &Path) -> (Node, PathBuf) {
    let (node, _) = node(folder).await;
    let path = folder.join("node.sock");
    let listener = ControlListener::bind(&path).await.unwrap();
    tokio::spawn(serve(listener, node.clone()));
    (node, path)
}

#[tokio::test]
async fn requests_over_the_socket_do_what_they_say() {
    let (sample, state) = (sample("word", 1_000), tempfile::tempdir().unwrap());
    let absent = Client::connect(&state.path().join("node.sock")).await;
    assert!(matches!(absent, Err(ClientError::Absent)));
    let (node, path) = served(state.path()).await;
    let mut client = Client::connect(&path).await.unwrap();
    let add = Add {
        torrent_bytes: Some(sample.torrent.len()),
        ..into(sample.folder.path())
    };
    let add = Request::Add(Box::new(add));
    let added = torrents(client.ask(&add, &sample.torrent).await.unwrap());
    let listed = client.ask(&everything(), &[]).await.unwrap();
    let listed = torrents(listed);
    assert_eq!(added[0].id, listed[0].id);
    let refused = client.ask(&add, &sample.torrent).await.unwrap_err();
    let ClientError::Refused { kind, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(kind, ErrorKind::Duplicate);
    let shown = Request::List {
        torrents: named("word"),
    };
    assert_eq!(torrents(client.ask(&shown, &[]).await.unwrap()).len(), 1);
    node.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_by_an_error_and_hurts_nobody() {
    let state = tempfile::tempdir().unwrap();
    let (node, path) = served(state.path()).await;
    let huge = usize::MAX;
    let too_large =
        format!("{{\"command\":\"add\",\"directory\":\"/\",\"torrent_bytes\":{huge}}}\n");
    for (line, answered) in [
        ("\n", true),
        ("hello\n", true),
        ("{\"command\":\"dance\"}\n", true),
        ("{\"command\":\"list\",\"extra\":1}\n", true),
        ("{\"command\":\"pause\"}\n", true),
        (too_large.as_str(), true),
        // The end comes before the line's, or before the torrent's.
        ("{\"command\":\"list\"}", false),
        (
            "{\"command\":\"add\",\"directory\":\"/\",\"torrent_bytes\":9}\nabc",
            false,
        ),
    ] {
        let mut stream = shoal_transport::connect_control(&path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert_eq!(
            answer.starts_with("{\"reply\":\"error\""),
            answered,
            "{line}: {answer}"
        );
    }
    let mut client = Client::connect(&path).await.unwrap();
    let listed = client.ask(&everything(), &[]).await.unwrap();
    assert_eq!(torrents(listed), []);
    node.stop(PATIENCE).await;
}

fn words(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(word, text)| ((*word).to_owned(), (*text).to_owned()))
        .collect()
}

async fn change(
    node: &Node,
    name: &str,
    tell: impl FnOnce(&mut Change),
) -> Result<Torrent, NodeError> {
    let mut change = Change {
        torrents: named(name),
        ..Change::default()
    };
    tell(&mut change);
    let changed = ask(node, Request::Change(Box::new(change))).await;
    changed.map(|torrents| torrents[0].clone())
}

async fn make(
    node: &Node,
    kind: CarrierKind,
    name: &str,
    rules: &[(&str, &str)],
) -> Result<Vec<Carrier>, NodeError> {
    let request = Request::SetCarrier {
        kind,
        name: name.to_owned(),
        rules: words(rules),
    };
    node.ask(request, None).await.map(carriers)
}

fn carriers(reply: Reply) -> Vec<Carrier> {
    match reply {
        Reply::Carriers { carriers } => carriers,
        other => panic!("{other:?}"),
    }
}

async fn set(node: &Node, pairs: &[(&str, &str)]) -> Result<Reply, NodeError> {
    let pairs = pairs.iter().map(|(key, value)| Assignment::Set {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    });
    let assignments = pairs.collect();
    node.ask(Request::Set { assignments }, None).await
}

/// Waits until all torrents are in these states.
async fn all_are(node: &Node, wanted: &[State]) {
    let waiting = async {
        loop {
            let torrents = list(node, &[]).await.unwrap();
            let states: Vec<State> = torrents.iter().map(|torrent| torrent.state).collect();
            if states == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

/// Downloads that find nobody: `word-1`, `word-2` and so on.
async fn downloads(node: &Node, folder: &Path, count: usize) {
    for number in 1..=count {
        let sample = sample(&format!("word-{number}"), number * 1_000);
        sample.add_to(node, into(folder)).await.unwrap();
    }
}

#[tokio::test]
async fn settings_hold_at_once_and_after_the_next_start() {
    use State::{Downloading, Queued};
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    set(&ours, &[("queue.downloads", "1")]).await.unwrap();
    downloads(&ours, target.path(), 3).await;
    all_are(&ours, &[Downloading, Queued, Queued]).await;
    set(&ours, &[("queue.downloads", "2")]).await.unwrap();
    all_are(&ours, &[Downloading, Downloading, Queued]).await;
    let wrong = set(&ours, &[("queue.downloads", "3"), ("queue.dance", "1")]).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Usage);
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    all_are(&ours, &[Downloading, Downloading, Queued]).await;
    set(&ours, &[("queue.enabled", "off")]).await.unwrap();
    all_are(&ours, &[Downloading, Downloading, Downloading]).await;
    let reset = |key: &str| Assignment::Reset {
        key: key.to_owned(),
    };
    let assignments = vec![reset("queue.enabled"), reset("queue.downloads")];
    ours.ask(Request::Set { assignments }, None).await.unwrap();
    set(&ours, &[("queue.torrents", "1")]).await.unwrap();
    all_are(&ours, &[Downloading, Queued, Queued]).await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn torrents_keep_their_places_in_the_queue_and_those_that_are_forced_need_none() {
    use State::{Downloading, Paused, Queued};
    let (state, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    set(&ours, &[("queue.downloads", "1"), ("add.top", "on")])
        .await
        .unwrap();
    downloads(&ours, target.path(), 3).await;
    // The last one came before those that waited.
    all_are(&ours, &[Queued, Queued, Downloading]).await;
    let shift = async |name: &str, to| {
        let torrents = named(name);
        ask(&ours, Request::Queue { torrents, to }).await.unwrap()
    };
    assert_eq!(shift("word-1", Shift::Up).await[0].position, Some(2));
    shift("word-3,word-1", Shift::Bottom).await;
    all_are(&ours, &[Queued, Downloading, Queued]).await;
    let torrents = named("word-1");
    ask(&ours, Request::Start { torrents }).await.unwrap();
    all_are(&ours, &[Downloading, Downloading, Queued]).await;
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    all_are(&ours, &[Downloading, Downloading, Queued]).await;
    let listed = list(&ours, &[]).await.unwrap();
    let positions: Vec<Option<usize>> = listed.iter().map(|torrent| torrent.position).collect();
    assert_eq!(positions, [Some(3), Some(1), Some(2)]);
    assert_eq!(
        listed
            .iter()
            .map(|torrent| torrent.forced)
            .collect::<Vec<_>>(),
        [true, false, false]
    );
    resume(&ours, "word-1").await;
    all_are(&ours, &[Queued, Downloading, Queued]).await;
    set(&ours, &[("add.paused", "on")]).await.unwrap();
    let more = sample("word-4", 4_000);
    let add = into(target.path());
    assert_eq!(more.add_to(&ours, add).await.unwrap().state, Paused);
    let forced = sample("word-5", 5_000);
    let add = Add {
        force: true,
        ..into(target.path())
    };
    assert!(forced.add_to(&ours, add).await.unwrap().forced);
    all_are(&ours, &[Queued, Downloading, Queued, Paused, Downloading]).await;
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_seed_that_has_given_enough_rests_until_it_is_told_to_go_on() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    sample
        .add_to(&ours, into(sample.folder.path()))
        .await
        .unwrap();
    until(&ours, State::Seeding).await;
    make(&ours, CarrierKind::Session, "", &[("time", "0s")])
        .await
        .unwrap();
    let rests = until(&ours, State::Enough).await;
    assert!(rests.message.unwrap().contains("resume"));
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    // It is not begun only to rest again.
    assert_eq!(only(&ours).await.state, State::Enough);
    resume(&ours, "all").await;
    until(&ours, State::Seeding).await;
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    until(&ours, State::Seeding).await;
    // What it is told itself goes before what the session says.
    change(&ours, "word", |change| {
        change.rules = words(&[("time", "none")]);
    })
    .await
    .unwrap();
    until(&ours, State::Seeding).await;
    let told = words(&[("time", "inherit"), ("then", "rm")]);
    change(&ours, "word", |change| change.rules = told)
        .await
        .unwrap();
    let gone = async {
        while !list(&ours, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert!(sample.folder.path().join("word").exists());
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn categories_and_tags_say_what_torrents_do_not() {
    use CarrierKind::{Category, Tag};
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let folder = sample.folder.path().canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    let (ours, _) = node(state.path()).await;
    let made = make(&ours, Category, "films/short", &[("folder", folder)])
        .await
        .unwrap();
    let names: Vec<&str> = made.iter().map(|carrier| carrier.name.as_str()).collect();
    assert_eq!(names, ["films", "films/short"]);
    make(&ours, Tag, "site", &[("time", "0s")]).await.unwrap();
    let add = Add {
        category: Some("films/short".to_owned()),
        ..Add::default()
    };
    let absent = Add {
        category: Some("music".to_owned()),
        ..add.clone()
    };
    let refused = sample.add_to(&ours, absent).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound);
    let added = sample.add_to(&ours, add).await.unwrap();
    assert_eq!(added.directory, folder);
    until(&ours, State::Seeding).await;
    for (word, count) in [
        ("category:films", 1),
        ("category:none", 0),
        ("tag:none", 1),
        ("tag:site", 0),
    ] {
        assert_eq!(list(&ours, &[word]).await.unwrap().len(), count, "{word}");
    }
    let tag = |name: &str| std::collections::BTreeSet::from([name.to_owned()]);
    change(&ours, "word", |change| change.tags_too = tag("site"))
        .await
        .unwrap();
    until(&ours, State::Enough).await;
    // A category goes before a tag.
    let made = make(&ours, Category, "films", &[("time", "none")])
        .await
        .unwrap();
    assert_eq!(made[0].torrents, 1);
    resume(&ours, "word").await;
    until(&ours, State::Seeding).await;
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    let again = until(&ours, State::Seeding).await;
    assert_eq!(
        (again.category.as_deref(), again.tags),
        (Some("films/short"), tag("site"))
    );
    let forget = |kind, name: &str| Request::RemoveCarriers {
        kind,
        names: named(name),
    };
    let left = ours
        .ask(forget(Category, "films"), None)
        .await
        .map(carriers);
    assert_eq!(left.unwrap(), []);
    assert_eq!(until(&ours, State::Enough).await.category, None);
    ours.ask(forget(Tag, "site"), None).await.unwrap();
    assert!(only(&ours).await.tags.is_empty());
    for (kind, name) in [(Category, "films"), (Tag, "site")] {
        let refused = ours.ask(forget(kind, name), None).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
    }
    for name in ["", "a//b", "none", "a,b"] {
        let refused = make(&ours, Category, name, &[]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{name}");
    }
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_torrent_has_the_name_and_tags_that_it_is_given() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    for tag in ["a", "b", "c"] {
        make(&ours, CarrierKind::Tag, tag, &[]).await.unwrap();
    }
    let tags = |names: &[&str]| -> std::collections::BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let add = Add {
        name: Some("saying".to_owned()),
        tags: tags(&["a", "b"]),
        ..into(sample.folder.path())
    };
    sample.add_to(&ours, add).await.unwrap();
    let told = change(&ours, "saying", |change| {
        change.tags_too = tags(&["c"]);
        change.tags_not = tags(&["a"]);
    });
    assert_eq!(told.await.unwrap().tags, tags(&["b", "c"]));
    let only_a = change(&ours, "saying", |change| change.tags = Some(tags(&["a"])));
    assert_eq!(only_a.await.unwrap().tags, tags(&["a"]));
    let unknown = change(&ours, "saying", |change| change.tags_too = tags(&["d"]));
    assert_eq!(unknown.await.unwrap_err().kind(), ErrorKind::NotFound);
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    assert_eq!(
        list(&ours, &["saying"]).await.unwrap()[0].tags,
        tags(&["a"])
    );
    let own = change(&ours, "saying", |change| change.name = Some(String::new()));
    assert_eq!(own.await.unwrap().name, "word");
    let lines = change(&ours, "word", |change| {
        change.name = Some("a\nb".to_owned());
    });
    assert_eq!(lines.await.unwrap_err().kind(), ErrorKind::Usage);
    ours.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_removed_with_its_data_takes_its_own_files_and_nothing_else() {
    let state = tempfile::tempdir().unwrap();
    let (ours, _) = node(state.path()).await;
    let samples = [sample("one", 50_000), sample("two", 60_000)];
    for sample in &samples {
        std::fs::write(sample.folder.path().join("mine"), "mine").unwrap();
        sample
            .add_to(&ours, into(sample.folder.path()))
            .await
            .unwrap();
    }
    all_are(&ours, &[State::Seeding, State::Seeding]).await;
    let request = Request::Remove {
        torrents: named("one"),
        data: Some(Fate::Delete),
    };
    assert_eq!(ask(&ours, request).await.unwrap()[0].name, "one");
    // What share limits say removes data too.
    let told = words(&[("time", "0s"), ("then", "rm-data")]);
    change(&ours, "two", |change| change.rules = told)
        .await
        .unwrap();
    for (sample, name) in samples.iter().zip(["one", "two"]) {
        let gone = async {
            while sample.folder.path().join(name).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
        assert!(sample.folder.path().join("mine").exists());
    }
    ours.stop(PATIENCE).await;
    let (ours, _) = node(state.path()).await;
    assert_eq!(list(&ours, &[]).await.unwrap(), []);
    let journals = std::fs::read_dir(state.path().join("journals")).unwrap();
    assert_eq!(journals.count(), 0);
    ours.stop(PATIENCE).await;
}

/// Rates that are said of a torrent, a category or the session hold while it runs, and as soon as they are lifted they do not.
#[tokio::test]
async fn rates_hold_for_torrents_that_run_whoever_says_them() {
    const SLOW: (&str, &str) = ("down", "16KiB");
    const LIFTED: (&str, &str) = ("down", "none");
    let (sample, state) = (sample("word", 1 << 20), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;
    for who in ["torrent", "category", "session"] {
        let target = tempfile::tempdir().unwrap();
        let (leech, _) = node(&state.path().join(who)).await;
        make(&leech, CarrierKind::Category, "slow", &[])
            .await
            .unwrap();
        let add = Add {
            peers: vec![address],
            category: Some("slow".to_owned()),
            // It begins at a rate of its own, so that the others come while it runs.
            rules: words(&[SLOW]),
            ..into(target.path())
        };
        sample.add_to(&leech, add).await.unwrap();
        until(&leech, State::Downloading).await;
        let say = async |rule: (&str, &str)| match who {
            "torrent" => {
                let told = change(&leech, "word", |change| change.rules = words(&[rule])).await;
                told.map(drop)
            }
            "category" => make(&leech, CarrierKind::Category, "slow", &[rule])
                .await
                .map(drop),
            _ => make(&leech, CarrierKind::Session, "", &[rule])
                .await
                .map(drop),
        };
        say(SLOW).await.unwrap();
        if who != "torrent" {
            let own = change(&leech, "word", |change| change.rules = words(&[LIFTED]));
            own.await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(only(&leech).await.state, State::Downloading, "{who}");
        // At that rate it would take a minute.
        say(LIFTED).await.unwrap();
        until(&leech, State::Seeding).await;
        leech.stop(PATIENCE).await;
    }
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn files_that_are_missing_are_waited_for_unless_a_person_has_them_verified() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;
    let (target, ours) = (tempfile::tempdir().unwrap(), state.path().join("leech"));
    let file = target.path().join("word");
    let (leech, _) = node(&ours).await;
    let add = Add {
        peers: vec![address],
        ..into(target.path())
    };
    sample.add_to(&leech, add).await.unwrap();
    until(&leech, State::Seeding).await;
    leech.stop(PATIENCE).await;
    let away = target.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    let (leech, _) = node(&ours).await;
    assert!(until(&leech, State::Missing).await.message.is_some());
    std::fs::rename(&away, &file).unwrap();
    // By itself, and without fetching anything.
    let back = until(&leech, State::Seeding).await;
    assert_eq!(back.downloaded_bytes, 50_000);
    leech.stop(PATIENCE).await;
    std::fs::remove_file(&file).unwrap();
    let (leech, _) = node(&ours).await;
    until(&leech, State::Missing).await;
    let torrents = named("word");
    ask(&leech, Request::Recheck { torrents }).await.unwrap();
    // Its peers were named in an earlier life.
    until(&leech, State::Downloading).await;
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_seed_at_rest_waits_for_files_that_went_while_nobody_looked() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (ours, _) = node(state.path()).await;
    sample
        .add_to(&ours, into(sample.folder.path()))
        .await
        .unwrap();
    until(&ours, State::Seeding).await;
    let (file, away) = (
        sample.folder.path().join("word"),
        sample.folder.path().join("away"),
    );
    std::fs::rename(&file, &away).unwrap();
    let noticed = async {
        while only(&ours).await.state != State::Missing {
            // Whatever is said to it wakes it.
            let torrents = named("word");
            ask(&ours, Request::Announce { torrents }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap();
    std::fs::rename(&away, &file).unwrap();
    until(&ours, State::Seeding).await;
    ours.stop(PATIENCE).await;
}
