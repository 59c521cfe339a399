//! What follows when a seed has given enough.

use crate::support::{PATIENCE, change, into, make, node, only, sample, until, words};
use shoal_node::message::{Add, CarrierKind, State};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Messages with which a seed begins (BEP 6): it has everything, or, where it shows what it has piece by piece (BEP 16), nothing.
const HAVE_ALL: u8 = 14;
const HAVE_NONE: u8 = 15;

/// What a stranger who connects is told first; `None` where it is turned away, as its last connection has not ended yet.
async fn first_word(address: SocketAddr, torrent: &[u8]) -> Option<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut handshake = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
    // Between `d4:info` and the last `e`.
    let info = &torrent[7..torrent.len() - 1];
    handshake.extend(<sha1::Sha1 as sha1::Digest>::digest(info));
    handshake.extend(b"-XX0000-a stranger!!");
    stream.write_all(&handshake).await.unwrap();
    let mut answer = [0; 68 + 5];
    let read = stream.read_exact(&mut answer);
    let read = tokio::time::timeout(PATIENCE, read).await.unwrap();
    read.ok().map(|_| answer[72])
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
