//! Sockets that take and give bytes in odd parts: what is said must not depend on how it is cut.

use crate::remote::{Remote, block, encoded};
use crate::rig::{PATIENCE, PIECE, Sample, config, seed, soon, usual_seed, wait};
use crate::sockets::narrow_the_other_end;
use shoal_engine::{AddTorrent, EncryptionPolicy, Engine, EngineConfig};
use shoal_metainfo::PieceIndex;
use shoal_wire::mse::Methods;
use shoal_wire::{Message, Request};
use std::net::{IpAddr, Ipv4Addr};
use tokio::net::TcpListener;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Bytes at a time: one, so that every cut is made; a number that meets no boundary; and any.
fn portions() -> [Vec<usize>; 3] {
    let mut rng = fastrand::Rng::with_seed(9);
    let any = (0..997).map(|_| rng.usize(1..9_000)).collect();
    [vec![1], vec![17], any]
}

/// What a remote has room for, so that a seed cannot write all at once. Windows may be counted in KiB: where there is no room for one,
/// the other end only asks whether there is, a few times in a second.
const ROOM_BYTES: u32 = 4 * 1024;

/// Every piece, whole or in parts of many lengths.
fn requests(pieces: u32) -> Vec<Request> {
    let mut requests = Vec::new();
    for piece in 0..pieces {
        let mut begin = 0;
        while begin < PIECE {
            let length = match piece % 3 {
                0 => PIECE,
                1 => 5_000,
                _ => 811,
            };
            let length = length.min(PIECE - begin);
            requests.push(Request {
                piece: PieceIndex(piece),
                begin,
                length,
            });
            begin += length;
        }
    }
    requests
}

/// The next message that is no suggestion: a seed makes some whenever it likes.
async fn hear_answer(remote: &mut Remote) -> (Message, Vec<u8>) {
    loop {
        let heard = remote.hear_whole().await.unwrap();
        if !matches!(heard.0, Message::Suggest(_)) {
            return heard;
        }
    }
}

#[tokio::test]
async fn a_seed_is_understood_by_remotes_that_read_in_odd_parts() {
    let sample = Sample::pieces(6);
    let seed = usual_seed(&sample).await;
    for portions in portions() {
        let to = seed.peers()[0];
        let remote = Remote::connect_with(to, HERE, &sample, ROOM_BYTES)
            .await
            .unwrap();
        fetch_in_parts(remote, &sample, portions).await;
    }
    let uploaded = 3 * sample.bytes().len() as u64;
    wait(&seed.torrent, |state| state.uploaded_bytes == uploaded).await;
    seed.engine.stop(PATIENCE).await;
}

/// What the socket does not take of an encrypted batch must be sent as it was encrypted.
#[tokio::test]
async fn a_seed_that_encrypts_is_understood_by_remotes_that_read_in_odd_parts() {
    let sample = Sample::pieces(6);
    let seed = seed(&sample, encrypting(), &[]).await;
    for portions in portions() {
        let to = seed.peers()[0];
        let remote = Remote::connect_encrypted(to, HERE, &sample, ROOM_BYTES, Methods::RC4);
        fetch_in_parts(remote.await.unwrap(), &sample, portions).await;
    }
    let uploaded = 3 * sample.bytes().len() as u64;
    wait(&seed.torrent, |state| state.uploaded_bytes == uploaded).await;
    seed.engine.stop(PATIENCE).await;
}

fn encrypting() -> EngineConfig {
    EngineConfig {
        encryption: EncryptionPolicy::Forced,
        ..config(HERE)
    }
}

/// Asks for everything at once, reads it in parts, and says something in between.
async fn fetch_in_parts(mut remote: Remote, sample: &Sample, portions: Vec<usize>) {
    narrow_the_other_end(&remote.stream);
    remote.portions = portions;
    let greeting = [Message::HaveNone, Message::Interested];
    remote.say(&greeting).await.unwrap();
    remote
        .hear_until(|message| *message == Message::Unchoke)
        .await;
    let requests = requests(6);
    let asked: Vec<Message> = requests.iter().copied().map(Message::Request).collect();
    remote.say(&asked).await.unwrap();
    for request in requests {
        let (message, payload) = hear_answer(&mut remote).await;
        assert_eq!(message, Message::Piece(request));
        assert!(payload == block(sample, request), "{request:?}");
    }
}

#[tokio::test]
async fn a_leech_understands_seeds_that_write_in_odd_parts() {
    serve_a_leech(|| config(HERE)).await;
}

#[tokio::test]
async fn a_leech_understands_seeds_that_encrypt_and_write_in_odd_parts() {
    serve_a_leech(encrypting).await;
}

async fn serve_a_leech(config: impl Fn() -> EngineConfig) {
    let sample = Sample::pieces(6);
    for portions in portions() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let config = config();
        let encrypted = config.encryption == EncryptionPolicy::Forced;
        let leech = Engine::start(config).await.unwrap();
        let target = tempfile::tempdir().unwrap();
        let add = AddTorrent {
            peers: vec![listener.local_addr().unwrap()],
            ..sample.add(target.path())
        };
        let getting = leech.add(add).await.unwrap();
        let remote = match encrypted {
            true => soon(Remote::accept_encrypted(&listener, &sample, Methods::RC4)).await,
            false => soon(Remote::accept(&listener, &sample)).await,
        };
        let remote = remote.unwrap();
        // It lasts until the leech has all and parts from a seed that it cannot serve.
        soon(serve_in_parts(remote, &sample, &portions)).await;
        let done = wait(&getting, |state| state.complete).await;
        assert_eq!((done.failed_pieces, done.wasted_bytes), (0, 0));
        sample.assert_is_in(target.path());
        leech.stop(PATIENCE).await;
    }
}

/// Says and sends everything in parts, each in a segment of its own.
async fn serve_in_parts(mut remote: Remote, sample: &Sample, portions: &[usize]) {
    let mut portions = portions.iter().copied().cycle();
    let mut waiting = encoded(&[Message::HaveAll, Message::Unchoke]);
    loop {
        let mut rest = &waiting[..];
        while let Some(portion) = portions.next().filter(|_| !rest.is_empty()) {
            let (part, others) = rest.split_at(portion.min(rest.len()));
            if remote.send(part).await.is_err() {
                return;
            }
            rest = others;
        }
        waiting.clear();
        match remote.hear().await {
            Ok(Message::Request(request)) => {
                waiting = encoded(&[Message::Piece(request)]);
                waiting.extend(block(sample, request));
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
