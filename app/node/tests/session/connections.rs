//! Connections and slots of torrents and of the session, and super-seeds.

use crate::support::{PATIENCE, carriers, change, into, make, named, node, sample, until, words};
use shoal_node::Node;
use shoal_node::message::{
    Add, CarrierKind, ErrorKind, PeerRequest, Reply, Request, State, Torrent,
};
use std::time::Duration;

/// Waits until so many peers are connected.
async fn connected(node: &Node, count: usize) {
    let waiting = async {
        loop {
            let torrents = named("word");
            let list = Request::Peer(PeerRequest::List { torrents });
            match node.ask(list, None).await.unwrap() {
                Reply::Peers { peers } if peers.len() == count => return,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

/// What it was told besides the folder that it was added into.
fn own(mut torrent: Torrent) -> std::collections::BTreeMap<String, String> {
    torrent.rules.remove("folder");
    torrent.rules
}

#[tokio::test]
async fn connections_and_slots_hold_at_once_and_after_the_next_start() {
    let (sample, state) = (sample("word", 1 << 20), tempfile::tempdir().unwrap());
    let ours = state.path().join("seed");
    let (seeding, address) = node(&ours).await;
    let at_home = into(sample.folder.path());
    sample.add_to(&seeding, at_home).await.unwrap();
    until(&seeding, State::Seeding).await;
    let mut leeches = Vec::new();
    for name in ["one", "two"] {
        let target = tempfile::tempdir().unwrap();
        let (leech, _) = node(&state.path().join(name)).await;
        let add = Add {
            peers: vec![address],
            rules: words(&[("down", "1KiB")]),
            ..into(target.path())
        };
        sample.add_to(&leech, add).await.unwrap();
        leeches.push((leech, target));
    }
    connected(&seeding, 2).await;
    let told = words(&[("peers", "1"), ("slots", "2"), ("super_seed", "on")]);
    let shown = change(&seeding, "word", |change| change.rules = told.clone()).await;
    assert_eq!(own(shown.unwrap()), told);
    connected(&seeding, 1).await;
    let back = change(&seeding, "word", |change| {
        change.rules = words(&[("peers", "inherit"), ("super_seed", "off")]);
    });
    assert_eq!(own(back.await.unwrap()), words(&[("slots", "2")]));

    let told = words(&[
        ("peers", "1"),
        ("peers_per_torrent", "7"),
        ("slots", "auto"),
    ]);
    let pairs = [
        ("peers", "1"),
        ("peers_per_torrent", "7"),
        ("slots", "auto"),
    ];
    let shown = make(&seeding, CarrierKind::Session, "", &pairs)
        .await
        .unwrap();
    assert_eq!(shown[0].rules, told);
    for wrong in [
        ("peers", "0"),
        ("slots", "some"),
        ("slots_per_torrent", "auto"),
    ] {
        let refused = make(&seeding, CarrierKind::Session, "", &[("up", "1MiB"), wrong]).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage, "{wrong:?}");
    }
    for (leech, _) in leeches {
        leech.stop(PATIENCE).await;
    }
    seeding.stop(PATIENCE).await;
    let (seeding, _) = node(&ours).await;
    assert_eq!(
        own(until(&seeding, State::Seeding).await),
        words(&[("slots", "2")])
    );
    let kind = CarrierKind::Session;
    let shown = seeding.ask(Request::Carriers { kind }, None).await;
    assert_eq!(carriers(shown.unwrap())[0].rules, told);
    seeding.stop(PATIENCE).await;
}
