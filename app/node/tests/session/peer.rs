//! Peers that are shown, named and banned.

use crate::support::{PATIENCE, into, named, node, sample, until};
use shoal_node::message::{ErrorKind, Peer, PeerRequest, Reply, Request, State};
use shoal_node::{Node, NodeError};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

async fn tell(node: &Node, request: PeerRequest) -> Result<Reply, NodeError> {
    node.ask(Request::Peer(request), None).await
}

async fn peers(node: &Node) -> Vec<Peer> {
    let torrents = named("word");
    match tell(node, PeerRequest::List { torrents }).await.unwrap() {
        Reply::Peers { peers } => peers,
        other => panic!("{other:?}"),
    }
}

fn banned(reply: Reply) -> Vec<IpAddr> {
    match reply {
        Reply::Banned { addresses } => addresses,
        other => panic!("{other:?}"),
    }
}

async fn name(node: &Node, peers: Vec<SocketAddr>) -> Result<Reply, NodeError> {
    let torrents = named("word");
    tell(node, PeerRequest::Add { torrents, peers }).await
}

/// Waits for so many of them.
async fn connected(node: &Node, count: usize) -> Vec<Peer> {
    let waiting = async {
        loop {
            let peers = peers(node).await;
            if peers.len() == count {
                return peers;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap()
}

#[tokio::test]
async fn peers_are_named_shown_and_banned_also_after_the_next_start() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (target, ours) = (tempfile::tempdir().unwrap(), state.path().join("leech"));
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;
    // Two seeds have nothing to say to each other: the leech misses a file that nobody has.
    let (leech, _) = node(&ours).await;
    let mut held = into(target.path());
    held.rules = crate::support::words(&[("down", "1KiB")]);
    sample.add_to(&leech, held).await.unwrap();
    until(&leech, State::Downloading).await;
    name(&leech, vec![address]).await.unwrap();
    let peer = connected(&leech, 1).await.remove(0);
    assert_eq!((peer.address, peer.origin.as_str()), (address, "user"));
    assert!(peer.client.is_some_and(|client| client.contains("Shoal")));

    let addresses = vec![address.ip()];
    let ban = PeerRequest::Ban {
        addresses: addresses.clone(),
    };
    assert_eq!(banned(tell(&leech, ban).await.unwrap()), addresses);
    connected(&leech, 0).await;
    leech.stop(PATIENCE).await;
    let (leech, _) = node(&ours).await;
    until(&leech, State::Downloading).await;
    name(&leech, vec![address]).await.unwrap();
    let shown = tell(&leech, PeerRequest::Banned {}).await.unwrap();
    assert_eq!(banned(shown), addresses);
    // Whoever may be dialled is within a moment.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(peers(&leech).await, []);
    let unban = PeerRequest::Unban { addresses };
    assert_eq!(
        banned(tell(&leech, unban.clone()).await.unwrap()),
        [] as [IpAddr; 0]
    );
    name(&leech, vec![address]).await.unwrap();
    connected(&leech, 1).await;
    let refused = tell(&leech, unban).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Usage);
    let many = vec![address; 201];
    let refused = name(&leech, many).await.unwrap_err();
    assert!(refused.to_string().contains("200"), "{refused}");
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}
