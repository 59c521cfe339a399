//! Who speaks to whom, encrypted or in the clear.

use crate::remote::{Remote, block};
use crate::rig::{ELSEWHERE, PATIENCE, Sample, config, seed, soon, wait};
use shoal_engine::{AddTorrent, EncryptionPolicy, Engine, EngineConfig};
use shoal_metainfo::create::Kind;
use shoal_wire::handshake::{HANDSHAKE_LENGTH, Progress};
use shoal_wire::mse::Methods;
use shoal_wire::{Handshake, Message};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

use EncryptionPolicy::{Disabled, Enabled, Forced};

fn with(encryption: EncryptionPolicy) -> EngineConfig {
    EngineConfig {
        encryption,
        ..config(HERE)
    }
}

/// A leech that knows a seed: it finishes.
async fn transfer(sample: &Sample, seeding: EncryptionPolicy, leeching: EncryptionPolicy) {
    let seed = seed(sample, with(seeding), &[]).await;
    let (leech, target) = (
        Engine::start(with(leeching)).await.unwrap(),
        tempfile::tempdir(),
    );
    let target = target.unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn policies_that_have_something_in_common_find_it() {
    let sample = Sample::new(Kind::V1, &[300_000, 0, 1, 500_000], 32 * 1024);
    for (seeding, leeching) in [
        (Enabled, Enabled),
        (Enabled, Disabled),
        (Disabled, Enabled),
        (Enabled, Forced),
        (Forced, Enabled),
        (Forced, Forced),
    ] {
        transfer(&sample, seeding, leeching).await;
    }
}

#[tokio::test]
async fn encrypted_handshakes_know_v2_and_hybrid_torrents() {
    for kind in [Kind::V2, Kind::Hybrid] {
        let sample = Sample::new(kind, &[300_000, 0, 1, 500_000], 32 * 1024);
        transfer(&sample, Forced, Forced).await;
        transfer(&sample, Disabled, Enabled).await;
    }
}

#[tokio::test]
async fn who_must_encrypt_takes_nothing_from_who_must_not() {
    let sample = Sample::pieces(16);
    let open = seed(&sample, with(Disabled), &[]).await;
    let (leech, target) = (
        Engine::start(with(Forced)).await.unwrap(),
        tempfile::tempdir(),
    );
    let target = target.unwrap();
    let add = AddTorrent {
        peers: open.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.wanted_bytes > 0).await;
    // Called from the other side it is no other.
    let calling = seed(&sample, with(Disabled), leech.listening()).await;
    let encrypting = seed(&sample, with(Enabled), leech.listening()).await;
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    for silent in [&open, &calling] {
        assert_eq!(silent.torrent.watch().borrow().uploaded_bytes, 0);
    }
    leech.stop(PATIENCE).await;
    for seed in [open, calling, encrypting] {
        seed.engine.stop(PATIENCE).await;
    }
}

/// What follows a handshake is up to both: RC4 where one of them insists, nothing where both may do without.
#[tokio::test]
async fn rc4_follows_where_one_side_insists_on_it() {
    let sample = Sample::pieces(4);
    for (policy, methods, encrypted) in [
        (Enabled, Methods::ALL, false),
        (Enabled, Methods::PLAINTEXT, false),
        (Enabled, Methods::RC4, true),
        (Forced, Methods::ALL, true),
    ] {
        let seed = seed(&sample, with(policy), &[]).await;
        let to = seed.peers()[0];
        let remote = Remote::connect_encrypted(to, HERE, &sample, 65_536, methods).await;
        let mut remote = remote.unwrap();
        assert_eq!(remote.is_encrypted(), encrypted);
        remote
            .hear_until(|message| matches!(message, Message::HaveAll))
            .await;
        seed.engine.stop(PATIENCE).await;
    }
    let seed = seed(&sample, with(Forced), &[]).await;
    let (to, methods) = (seed.peers()[0], Methods::PLAINTEXT);
    let refused = Remote::connect_encrypted(to, HERE, &sample, 65_536, methods).await;
    assert!(refused.is_err_and(|error| is_end(error.kind())));
    seed.engine.stop(PATIENCE).await;
}

/// The end of a connection, from the side that did not end it.
fn is_end(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(kind, UnexpectedEof | ConnectionReset | BrokenPipe)
}

#[tokio::test]
async fn strangers_who_begin_as_the_policy_forbids_are_told_nothing() {
    let sample = Sample::pieces(4);
    let forced = seed(&sample, with(Forced), &[]).await;
    let refused = Remote::connect(forced.peers()[0], HERE, &sample).await;
    assert!(refused.is_err_and(|error| is_end(error.kind())));
    let disabled = seed(&sample, with(Disabled), &[]).await;
    let to = disabled.peers()[0];
    let refused = Remote::connect_encrypted(to, HERE, &sample, 65_536, Methods::ALL).await;
    assert!(refused.is_err_and(|error| is_end(error.kind())));
    // Noise that is no key finds out nothing but another key.
    let mut stream = TcpStream::connect(forced.peers()[0]).await.unwrap();
    stream.write_all(&[0x77; 2_000]).await.unwrap();
    let mut heard = Vec::new();
    drop(soon(stream.read_to_end(&mut heard)).await);
    assert!(heard.len() <= 96 + 512);
    for seed in [forced, disabled] {
        seed.engine.stop(PATIENCE).await;
    }
}

/// A remote that does not know how to encrypt closes the connection, and is called again in the clear.
#[tokio::test]
async fn a_remote_that_knows_no_encryption_is_called_again_in_the_clear_and_remembered() {
    let sample = Sample::pieces(4);
    let listener = TcpListener::bind((ELSEWHERE, 0)).await.unwrap();
    let (leech, target) = (
        Engine::start(with(Enabled)).await.unwrap(),
        tempfile::tempdir(),
    );
    let target = target.unwrap();
    let add = AddTorrent {
        peers: vec![listener.local_addr().unwrap()],
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut first = [0; HANDSHAKE_LENGTH];
    soon(stream.read_exact(&mut first)).await.unwrap();
    assert!(
        Handshake::decode(&first).is_err(),
        "the first try is encrypted"
    );
    drop(stream);
    // It serves a block and leaves.
    let mut remote = soon(Remote::accept(&listener, &sample)).await.unwrap();
    let greeting = [Message::HaveAll, Message::Unchoke];
    remote.say(&greeting).await.unwrap();
    let asked = remote
        .hear_until(|message| matches!(message, Message::Request(_)))
        .await;
    let Message::Request(request) = asked else {
        unreachable!("it was waited for")
    };
    remote.say(&[Message::Piece(request)]).await.unwrap();
    remote.send(&block(&sample, request)).await.unwrap();
    wait(&getting, |state| state.verified_pieces == 1).await;
    drop(remote);
    // The next call begins with what worked.
    let (mut stream, _) = soon(listener.accept()).await.unwrap();
    let mut first = [0; HANDSHAKE_LENGTH];
    soon(stream.read_exact(&mut first)).await.unwrap();
    let known = Handshake::decode(&first);
    assert!(matches!(known, Ok(Progress::Complete(_))), "{known:?}");
    leech.stop(PATIENCE).await;
}
