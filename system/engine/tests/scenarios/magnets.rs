//! Torrents that begin with nothing but their info hashes.

use crate::remote::{Remote, block};
use crate::rig::{ELSEWHERE, PATIENCE, PIECE, Sample, Seed, engine, soon, usual_seed, wait};
use shoal_engine::{AddMagnet, AddTorrent, Engine, EngineError, FoundTorrent, MagnetHandle};
use shoal_metainfo::create::Kind;
use shoal_metainfo::metainfo::Limits;
use shoal_metainfo::{InfoHashes, Magnet, Metainfo};
use shoal_wire::metadata::{METADATA_PIECE_LENGTH, Metadata};
use shoal_wire::{ExtendedHandshake, Extension, Message, RemoteExtensions, encode};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use tokio::net::TcpListener;

/// Two files of several pieces, one within a piece.
fn sample(kind: Kind) -> Sample {
    Sample::new(kind, &[300_000, 5, 2_000_000], 32 * 1024)
}

fn magnet(hashes: InfoHashes, peers: &[SocketAddr]) -> AddMagnet {
    AddMagnet {
        magnet: Magnet::new(hashes),
        peers: peers.to_vec(),
        trackers: Vec::new(),
        known: None,
        route: None,
    }
}

async fn find(engine: &Engine, add: AddMagnet) -> (MagnetHandle, FoundTorrent) {
    let mut search = engine.add_magnet(add).await.unwrap();
    let found = soon(search.found()).await.unwrap();
    (search, found)
}

/// The torrent that was found, over the connections that found it.
fn go_on(search: MagnetHandle, found: &FoundTorrent, target: &Path) -> AddTorrent {
    AddTorrent {
        search: Some(search),
        ..AddTorrent::new(found.metainfo.clone(), target.to_path_buf())
    }
}

/// Gets `sample` by `hashes` alone.
async fn get(sample: &Sample, hashes: InfoHashes) -> FoundTorrent {
    let seed = usual_seed(sample).await;
    let found = get_from(sample, hashes, &seed).await;
    seed.engine.stop(PATIENCE).await;
    found
}

async fn get_from(sample: &Sample, hashes: InfoHashes, seed: &Seed) -> FoundTorrent {
    let (target, leech) = (tempfile::tempdir().unwrap(), engine().await);
    let (search, found) = find(&leech, magnet(hashes, &seed.peers())).await;
    assert_eq!(found.metainfo.info_hashes(), sample.metainfo.info_hashes());
    assert_eq!(found.metainfo.verifier(), sample.metainfo.verifier());
    let again = Metainfo::parse(&found.file, Limits::LOCAL).unwrap();
    assert_eq!(again.verifier(), sample.metainfo.verifier());
    let add = go_on(search, &found, target.path());
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    found
}

#[tokio::test]
async fn a_v1_torrent_arrives_by_its_magnet() {
    let sample = sample(Kind::V1);
    get(&sample, sample.metainfo.info_hashes()).await;
}

#[tokio::test]
async fn a_v2_torrent_arrives_by_its_magnet_and_its_layers_by_hash_requests() {
    let sample = sample(Kind::V2);
    get(&sample, sample.metainfo.info_hashes()).await;
}

#[tokio::test]
async fn a_hybrid_torrent_arrives_by_both_hashes() {
    let sample = sample(Kind::Hybrid);
    get(&sample, sample.metainfo.info_hashes()).await;
}

#[tokio::test]
async fn a_hybrid_torrent_arrives_by_its_v1_hash_with_its_v2_promises() {
    let sample = sample(Kind::Hybrid);
    let v1 = sample.metainfo.info_hashes().v1();
    get(&sample, InfoHashes::new(v1, None).unwrap()).await;
}

#[tokio::test]
async fn a_hybrid_torrent_arrives_by_its_v2_hash() {
    let sample = sample(Kind::Hybrid);
    let v2 = sample.metainfo.info_hashes().v2();
    get(&sample, InfoHashes::new(None, v2).unwrap()).await;
}

#[tokio::test]
async fn a_torrent_with_a_long_info_dictionary_arrives() {
    let sample = Sample::pieces(5_000);
    let length = u32::try_from(sample.metainfo.raw_info().len()).unwrap();
    assert!(length > 6 * METADATA_PIECE_LENGTH);
    get(&sample, sample.metainfo.info_hashes()).await;
}

#[tokio::test]
async fn who_found_it_by_a_magnet_tells_others() {
    let sample = sample(Kind::Hybrid);
    let seed = usual_seed(&sample).await;
    let hashes = sample.metainfo.info_hashes();
    let (first, second) = (engine().await, engine().await);
    // The second knows nobody but the first, which has nothing yet.
    let target = tempfile::tempdir().unwrap();
    let mut searching = second
        .add_magnet(magnet(hashes, first.listening()))
        .await
        .unwrap();
    let (search, found) = find(&first, magnet(hashes, &seed.peers())).await;
    let getting = first
        .add(go_on(search, &found, target.path()))
        .await
        .unwrap();
    let found = soon(searching.found()).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let add = go_on(searching, &found, other.path());
    let also_getting = second.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    wait(&also_getting, |state| state.complete).await;
    sample.assert_is_in(other.path());
    for engine in [first, second, seed.engine] {
        engine.stop(PATIENCE).await;
    }
}

/// As a remote that wants our extensions under our own ids: what it says, we understand.
fn said(messages: &[Message]) -> Vec<u8> {
    let mut ours = RemoteExtensions::default();
    ours.update(&offer(None));
    let mut bytes = Vec::new();
    for message in messages {
        encode(message, &ours, &mut bytes);
    }
    bytes
}

fn offer(total_bytes: Option<u32>) -> ExtendedHandshake {
    ExtendedHandshake {
        extensions: Extension::offer(),
        metadata_size: total_bytes,
        ..ExtendedHandshake::default()
    }
}

/// A peer that has metadata of its own making, and the sample's blocks; serves one connection.
async fn serve(listener: &TcpListener, sample: &Sample, info: &[u8]) {
    let remote = Remote::accept(listener, sample).await.unwrap();
    serve_on(remote, sample, info).await;
}

/// As [`serve`], on this connection until it is closed.
pub(crate) async fn serve_on(mut remote: Remote, sample: &Sample, info: &[u8]) {
    let total_bytes = u32::try_from(info.len()).unwrap();
    let begin = [
        Message::HaveAll,
        Message::ExtendedHandshake(offer(Some(total_bytes))),
        Message::Unchoke,
    ];
    if remote.send(&said(&begin)).await.is_err() {
        return;
    }
    while let Ok(message) = remote.hear().await {
        let bytes = match message {
            Message::Metadata(Metadata::Request { piece }) => {
                let begin = piece as usize * METADATA_PIECE_LENGTH as usize;
                let end = info.len().min(begin + METADATA_PIECE_LENGTH as usize);
                said(&[Message::Metadata(Metadata::Data {
                    piece,
                    total_bytes,
                    bytes: info[begin..end].to_vec().into(),
                })])
            }
            Message::Request(request) => {
                let mut bytes = said(&[Message::Piece(request)]);
                bytes.extend(block(sample, request));
                bytes
            }
            _ => continue,
        };
        if remote.send(&bytes).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn the_payload_comes_over_the_connection_that_brought_the_metadata() {
    let sample = Sample::pieces(20);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let getting = async {
        let hashes = sample.metainfo.info_hashes();
        let (search, found) = find(&leech, magnet(hashes, &[address])).await;
        let getting = leech
            .add(go_on(search, &found, target.path()))
            .await
            .unwrap();
        wait(&getting, |state| state.complete).await;
        leech.stop(PATIENCE).await;
    };
    // It is accepted once only.
    tokio::join!(
        getting,
        serve(&listener, &sample, sample.metainfo.raw_info())
    );
    assert_eq!(sample.bytes().len(), 20 * PIECE as usize);
    let written = std::fs::read(sample.path(target.path(), 0)).unwrap();
    assert!(written == sample.bytes());
}

#[tokio::test]
async fn a_liar_is_banned_and_the_right_metadata_found() {
    let sample = Sample::pieces(2_000);
    let mut lie = sample.metainfo.raw_info().to_vec();
    *lie.last_mut().unwrap() ^= 1;
    let listener = TcpListener::bind((ELSEWHERE, 0)).await.unwrap();
    let seed = usual_seed(&sample).await;
    let peers = [vec![listener.local_addr().unwrap()], seed.peers()].concat();
    let leech = engine().await;
    let hashes = sample.metainfo.info_hashes();
    let searching = async {
        let (search, found) = find(&leech, magnet(hashes, &peers)).await;
        assert_eq!(found.metainfo.raw_info(), sample.metainfo.raw_info());
        drop(search);
    };
    let lying = async {
        serve(&listener, &sample, &lie).await;
        // It was sent away before the other one was found.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = searching => {}
        () = lying => {}
    }
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_search_that_finds_nothing_says_what_it_tried_and_is_stopped_at_once() {
    let sample = sample(Kind::V1);
    let leech = engine().await;
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let hashes = sample.metainfo.info_hashes();
    let mut search = leech.add_magnet(magnet(hashes, &[nobody])).await.unwrap();
    let mut watch = search.watch();
    soon(watch.wait_for(|state| state.search.failed_dials > 0))
        .await
        .unwrap();
    assert_eq!(watch.borrow().search.candidates, 1);
    let again = leech.add_magnet(magnet(hashes, &[])).await;
    assert!(matches!(again, Err(EngineError::Duplicate)));
    leech.stop(PATIENCE).await;
    assert!(soon(search.found()).await.is_err());
}

#[tokio::test]
async fn a_search_that_is_dropped_makes_room_for_another() {
    let sample = sample(Kind::V1);
    let leech = engine().await;
    let hashes = sample.metainfo.info_hashes();
    let search = leech.add_magnet(magnet(hashes, &[])).await.unwrap();
    let mut watch = search.watch();
    drop(search);
    while soon(watch.changed()).await.is_ok() {}
    leech.add_magnet(magnet(hashes, &[])).await.unwrap();
    leech.stop(PATIENCE).await;
}
