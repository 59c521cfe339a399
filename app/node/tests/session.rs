//! Nodes over real engines, databases and sockets, on loopback.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use shoal_engine::{Engine, EngineConfig};
use shoal_node::message::{Add, ErrorKind, Request, State, Torrent};
use shoal_node::{Ask, Client, ClientError, Node, NodeError, NodeSettings, serve};
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
    let node = Node::start(engine, database, NodeSettings { journals });
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
        directory: folder.to_str().unwrap().to_owned(),
        ..Add::default()
    }
}

impl Sample {
    async fn add_to(&self, node: &Node, add: Add) -> Result<Torrent, NodeError> {
        let added = node.ask(Ask::Add(add, Some(self.torrent.clone()))).await;
        added.map(|torrents| torrents[0].clone())
    }
}

async fn only(node: &Node) -> Torrent {
    let torrents = node.ask(Ask::Show(None)).await.unwrap();
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
    let paused = leech.ask(Ask::Pause(named("word"))).await.unwrap();
    assert_eq!(paused[0].state, State::Stopping);
    until(&leech, State::Paused).await;
    leech.stop(PATIENCE).await;
    assert!(matches!(
        leech.ask(Ask::Show(None)).await,
        Err(NodeError::Stopped)
    ));

    let (leech, _) = node(&ours).await;
    let again = only(&leech).await;
    assert_eq!((again.id, again.state), (complete.id, State::Paused));
    assert_eq!(again.downloaded_bytes, 300_000);
    assert_eq!(
        (again.wanted_bytes, again.verified_bytes),
        (300_000, 300_000)
    );
    assert!(again.completed_at.is_some());
    leech.ask(Ask::Resume(named("all"))).await.unwrap();
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
    let removed = ours
        .ask(Ask::Remove(named(&first.info_hash)))
        .await
        .unwrap();
    assert_eq!(removed[0].id, first.id);
    // It takes leave in its own time, and is not shown meanwhile.
    assert_eq!(ours.ask(Ask::Show(None)).await.unwrap(), []);
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
    ours.ask(Ask::Remove(named("all"))).await.unwrap();
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
        paused: true,
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
        let shown = ours.ask(Ask::Show(Some(named(name)))).await;
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
    for unknown in ["three", "", "99", "abcdef", &first.info_hash[..3]] {
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
        let refused = ours.ask(Ask::Add(add.clone(), bytes.cloned())).await;
        assert_eq!(refused.unwrap_err().kind(), kind, "{add:?}");
    }
    assert_eq!(ours.ask(Ask::Show(None)).await.unwrap(), []);
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
    leech.ask(Ask::Add(link.clone(), None)).await.unwrap();
    assert_eq!(only(&leech).await.state, State::Searching);
    leech.ask(Ask::Pause(named("all"))).await.unwrap();
    assert_eq!(only(&leech).await.state, State::Paused);
    leech.ask(Ask::Remove(named("all"))).await.unwrap();
    let add = Add {
        peers: vec![address],
        ..link
    };
    // The search before may still take leave.
    leech.ask(Ask::Add(add, None)).await.unwrap();
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
    let add = Request::Add(add);
    let added = client.ask(&add, &sample.torrent).await.unwrap();
    let listed = client.ask(&Request::List {}, &[]).await.unwrap();
    assert_eq!(added[0].id, listed[0].id);
    let refused = client.ask(&add, &sample.torrent).await.unwrap_err();
    let ClientError::Refused { kind, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(kind, ErrorKind::Duplicate);
    let torrents = named("word");
    let shown = Request::Show { torrents };
    assert_eq!(client.ask(&shown, &[]).await.unwrap().len(), 1);
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
    assert_eq!(client.ask(&Request::List {}, &[]).await.unwrap(), []);
    node.stop(PATIENCE).await;
}
