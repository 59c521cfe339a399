//! What follows when a seed has given enough.

use crate::support::{PATIENCE, change, into, list, make, node, only, sample, until, words};
use shoal_node::Node;
use shoal_node::message::{Add, CarrierKind, Reply, Request, ShowRequest, Shown, State};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Messages with which a seed begins (BEP 6): it has everything, or, where it shows what it has piece by piece (BEP 16), nothing.
const HAVE_ALL: u8 = 14;
const HAVE_NONE: u8 = 15;

/// A stranger who has connected and was told who is there; `None` where it is turned away.
pub(crate) async fn stranger(address: SocketAddr, torrent: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut handshake = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
    // Between `d4:info` and the last `e`.
    let info = &torrent[7..torrent.len() - 1];
    handshake.extend(<sha1::Sha1 as sha1::Digest>::digest(info));
    handshake.extend(b"-XX0000-a stranger!!");
    stream.write_all(&handshake).await.unwrap();
    let mut answer = [0; 68];
    let read = stream.read_exact(&mut answer);
    let read = tokio::time::timeout(PATIENCE, read).await.unwrap();
    read.ok().map(|_| stream)
}

/// What a stranger who connects is told first; `None` where it is turned away, as its last connection has not ended yet.
async fn first_word(address: SocketAddr, torrent: &[u8]) -> Option<u8> {
    let mut stream = stranger(address, torrent).await?;
    let mut message = [0; 5];
    let read = stream.read_exact(&mut message);
    let read = tokio::time::timeout(PATIENCE, read).await.unwrap();
    read.ok().map(|_| message[4])
}

#[tokio::test]
async fn a_seed_that_has_reached_its_ratio_becomes_a_super_seed_where_that_follows() {
    let (sample, state) = (sample("word", 2_000_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let enough = [("ratio", "0.05"), ("then", "super-seed")];
    make(&seeding, CarrierKind::Session, "", &enough)
        .await
        .unwrap();
    sample
        .add_to(&seeding, into(sample.folder.path()))
        .await
        .unwrap();
    until(&seeding, State::Seeding).await;
    assert_eq!(first_word(address, &sample.torrent).await, Some(HAVE_ALL));

    // Slow enough that the ratio is reached long before it has everything.
    let (target, ours) = (tempfile::tempdir().unwrap(), state.path().join("leech"));
    let (leech, _) = node(&ours).await;
    let add = Add {
        peers: vec![address],
        rules: words(&[("down", "100k")]),
        ..into(target.path())
    };
    sample.add_to(&leech, add).await.unwrap();
    let shown = async {
        while first_word(address, &sample.torrent).await != Some(HAVE_NONE) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.unwrap();
    let given = only(&seeding).await;
    assert!(given.uploaded_bytes >= 100_000, "{given:?}");
    assert_eq!(given.state, State::Seeding, "it goes on");
    assert_eq!(only(&leech).await.state, State::Downloading);

    change(&leech, "word", |change| {
        change.rules = words(&[("down", "none")]);
    })
    .await
    .unwrap();
    until(&leech, State::Seeding).await;
    leech.stop(PATIENCE).await;

    // It stays one, also after the next start.
    seeding.stop(PATIENCE).await;
    let (seeding, address) = node(&state.path().join("seed")).await;
    until(&seeding, State::Seeding).await;
    assert_eq!(first_word(address, &sample.torrent).await, Some(HAVE_NONE));
    seeding.stop(PATIENCE).await;
}

/// For how long the only torrent has been a seed that runs, in seconds.
async fn seeding_s(node: &Node) -> u64 {
    let torrents = vec!["all".to_owned()];
    let show = Request::Show(ShowRequest::Torrents { torrents });
    match node.ask(show, None).await.unwrap() {
        Reply::Shown(Shown::Torrents { torrents }) => torrents[0].seeding_s,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_torrent_has_given_enough_by_any_limit_of_its_own_or_by_all_of_them() {
    let (sample, state) = (sample("word", 100_000), tempfile::tempdir().unwrap());
    let (seeding, address) = node(&state.path().join("seed")).await;
    let at_home = |rules: &[(&str, &str)]| Add {
        rules: words(rules),
        ..into(sample.folder.path())
    };
    for (rules, because) in [
        (&[("time", "1s"), ("ratio", "9")][..], "time"),
        (&[("idle", "1s"), ("ratio", "9")], "nobody"),
    ] {
        sample.add_to(&seeding, at_home(rules)).await.unwrap();
        let enough = until(&seeding, State::Enough).await;
        let message = enough.message.unwrap();
        assert!(message.contains(because), "{rules:?}: {message}");
        crate::support::remove(&seeding, "all").await;
    }
    let both = [("time", "1s"), ("ratio", "0.5"), ("when", "all")];
    sample.add_to(&seeding, at_home(&both)).await.unwrap();
    until(&seeding, State::Seeding).await;
    let long = async {
        while seeding_s(&seeding).await < 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, long).await.unwrap();
    assert_eq!(
        only(&seeding).await.state,
        State::Seeding,
        "time is not all"
    );
    let target = tempfile::tempdir().unwrap();
    let (leech, _) = node(&state.path().join("leech")).await;
    let add = Add {
        peers: vec![address],
        ..into(target.path())
    };
    sample.add_to(&leech, add).await.unwrap();
    until(&leech, State::Seeding).await;
    let enough = until(&seeding, State::Enough).await;
    assert_eq!(enough.uploaded_bytes, 100_000);
    leech.stop(PATIENCE).await;
    seeding.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_has_given_enough_rests_or_goes_with_its_data_or_without() {
    let (sample, state) = (sample("word", 50_000), tempfile::tempdir().unwrap());
    let (seeding, _) = node(state.path()).await;
    let file = sample.folder.path().join("word");
    for (then, is_there) in [("pause", true), ("rm", true), ("rm-data", false)] {
        let add = Add {
            rules: words(&[("time", "1s"), ("then", then)]),
            ..into(sample.folder.path())
        };
        sample.add_to(&seeding, add).await.unwrap();
        if then == "pause" {
            until(&seeding, State::Enough).await;
            crate::support::remove(&seeding, "all").await;
        }
        let gone = async {
            while !list(&seeding, &[]).await.unwrap().is_empty() || file.exists() != is_there {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }
    seeding.stop(PATIENCE).await;
}
