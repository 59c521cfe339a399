//! The control socket.

use crate::support::{PATIENCE, into, named, node, sample, torrents};
use shoal_node::message::{Add, ErrorKind, Request};
use shoal_node::{Client, ClientError, Node, serve};
use shoal_transport::ControlListener;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
