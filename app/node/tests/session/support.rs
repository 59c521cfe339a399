//! What the tests share.

use shoal_engine::{Engine, EngineConfig};
use shoal_node::message::{
    Add, Assignment, Carrier, CarrierKind, Change, Reply, Request, State, Torrent,
};
use shoal_node::{Node, NodeError, NodeSettings};
use shoal_store::Database;
use shoal_transport::TransportConfig;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A node whose state is in `folder`, and where peers reach it.
pub(crate) async fn node(folder: &Path) -> (Node, SocketAddr) {
    node_with(folder, &[]).await
}

pub(crate) async fn node_with(folder: &Path, told: &[(&str, &str)]) -> (Node, SocketAddr) {
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
    std::fs::create_dir_all(folder).unwrap();
    let database = Database::open(&folder.join("session.db")).await.unwrap();
    let told = told.iter();
    let settings = NodeSettings {
        overrides: told
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..NodeSettings::default()
    };
    (node_of(folder, engine, database, settings).await, address)
}

/// A node that keeps its journals in `folder`.
pub(crate) async fn node_of(
    folder: &Path,
    engine: Engine,
    database: Database,
    settings: NodeSettings,
) -> Node {
    let journals = folder.join("journals");
    std::fs::create_dir_all(&journals).unwrap();
    let settings = NodeSettings {
        journals,
        ..settings
    };
    Node::start(engine, database, settings).await.unwrap()
}

/// Noise, its torrent, and a folder that has it.
pub(crate) struct Sample {
    pub(crate) torrent: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) folder: TempDir,
}

pub(crate) fn sample(name: &str, length: usize) -> Sample {
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

pub(crate) fn torrent(name: &str, content: &[u8]) -> Vec<u8> {
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

pub(crate) fn into(folder: &Path) -> Add {
    Add {
        directory: Some(folder.to_str().unwrap().to_owned()),
        ..Add::default()
    }
}

impl Sample {
    pub(crate) async fn add_to(&self, node: &Node, add: Add) -> Result<Torrent, NodeError> {
        let added = add_file(node, add, Some(self.torrent.clone())).await;
        added.map(|torrents| torrents[0].clone())
    }
}

pub(crate) fn torrents(reply: Reply) -> Vec<Torrent> {
    match reply {
        Reply::Torrents { torrents } => torrents,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn ask(node: &Node, request: Request) -> Result<Vec<Torrent>, NodeError> {
    node.ask(request, None).await.map(torrents)
}

pub(crate) async fn add_file(
    node: &Node,
    add: Add,
    file: Option<Vec<u8>>,
) -> Result<Vec<Torrent>, NodeError> {
    node.ask(Request::Add(Box::new(add)), file)
        .await
        .map(torrents)
}

pub(crate) async fn list(node: &Node, words: &[&str]) -> Result<Vec<Torrent>, NodeError> {
    let torrents = words.iter().map(|word| (*word).to_owned()).collect();
    ask(node, Request::List { torrents }).await
}

pub(crate) async fn pause(node: &Node, name: &str) -> Vec<Torrent> {
    let torrents = named(name);
    ask(node, Request::Pause { torrents }).await.unwrap()
}

pub(crate) async fn resume(node: &Node, name: &str) -> Vec<Torrent> {
    let torrents = named(name);
    ask(node, Request::Resume { torrents }).await.unwrap()
}

pub(crate) async fn remove(node: &Node, name: &str) -> Vec<Torrent> {
    let torrents = named(name);
    let data = None;
    ask(node, Request::Remove { torrents, data }).await.unwrap()
}

pub(crate) async fn only(node: &Node) -> Torrent {
    let torrents = list(node, &[]).await.unwrap();
    assert_eq!(torrents.len(), 1, "{torrents:?}");
    torrents[0].clone()
}

/// Waits for a state of the only torrent.
pub(crate) async fn until(node: &Node, state: State) -> Torrent {
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

pub(crate) fn named(name: &str) -> Vec<String> {
    vec![name.to_owned()]
}

pub(crate) fn words(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(word, text)| ((*word).to_owned(), (*text).to_owned()))
        .collect()
}

pub(crate) async fn change(
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

pub(crate) async fn make(
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

pub(crate) fn carriers(reply: Reply) -> Vec<Carrier> {
    match reply {
        Reply::Carriers { carriers } => carriers,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn set(node: &Node, pairs: &[(&str, &str)]) -> Result<Reply, NodeError> {
    let pairs = pairs.iter().map(|(key, value)| Assignment::Set {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    });
    let assignments = pairs.collect();
    node.ask(Request::Set { assignments }, None).await
}

/// Waits until all torrents are in these states.
pub(crate) async fn all_are(node: &Node, wanted: &[State]) {
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
pub(crate) async fn downloads(node: &Node, folder: &Path, count: usize) {
    for number in 1..=count {
        let sample = sample(&format!("word-{number}"), number * 1_000);
        sample.add_to(node, into(folder)).await.unwrap();
    }
}
