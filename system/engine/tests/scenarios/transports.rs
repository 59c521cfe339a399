//! Transfers over TCP and uTP, encrypted and in the clear, over both address families; and remotes that fail over uTP.

use crate::rig::{ELSEWHERE, PATIENCE, Sample, Seed, config, seed, wait};
use crate::stopping::assert_stops;
use EncryptionPolicy::{Disabled, Forced};
use PeerTransports::{Both, Tcp, Utp};
use shoal_engine::{AddTorrent, EncryptionPolicy, Engine, EngineConfig, PeerTransports};
use shoal_metainfo::create::Kind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn over(peers_over: PeerTransports, ip: IpAddr) -> EngineConfig {
    EngineConfig {
        peers_over,
        ..config(ip)
    }
}

/// A leech that knows a seed: it finishes.
async fn between(seeding: EngineConfig, leeching: EngineConfig) {
    let sample = Sample::new(Kind::Hybrid, &[300_000, 0, 1, 900_000], 32 * 1024);
    let seed = seed(&sample, seeding, &[]).await;
    let leech = Engine::start(leeching).await.unwrap();
    let target = tempfile::tempdir().unwrap();
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

/// Where both ends have one transport alone, a transfer shows that one.
async fn transfer(peers_over: PeerTransports, encryption: EncryptionPolicy, ip: IpAddr) {
    let config = || EngineConfig {
        encryption,
        ..over(peers_over, ip)
    };
    between(config(), config()).await;
}

#[tokio::test]
async fn a_transfer_completes_over_tcp_in_the_clear_over_ipv4() {
    transfer(Tcp, Disabled, IPV4).await;
}

#[tokio::test]
async fn a_transfer_completes_over_tcp_in_the_clear_over_ipv6() {
    transfer(Tcp, Disabled, IPV6).await;
}

#[tokio::test]
async fn a_transfer_completes_over_tcp_encrypted_over_ipv4() {
    transfer(Tcp, Forced, IPV4).await;
}

#[tokio::test]
async fn a_transfer_completes_over_tcp_encrypted_over_ipv6() {
    transfer(Tcp, Forced, IPV6).await;
}

#[tokio::test]
async fn a_transfer_completes_over_utp_in_the_clear_over_ipv4() {
    transfer(Utp, Disabled, IPV4).await;
}

#[tokio::test]
async fn a_transfer_completes_over_utp_in_the_clear_over_ipv6() {
    transfer(Utp, Disabled, IPV6).await;
}

#[tokio::test]
async fn a_transfer_completes_over_utp_encrypted_over_ipv4() {
    transfer(Utp, Forced, IPV4).await;
}

#[tokio::test]
async fn a_transfer_completes_over_utp_encrypted_over_ipv6() {
    transfer(Utp, Forced, IPV6).await;
}

#[tokio::test]
async fn who_has_both_reaches_and_is_reached_by_who_has_one() {
    for one in [Tcp, Utp] {
        between(over(one, IPV4), over(Both, IPV4)).await;
        between(over(Both, IPV4), over(one, IPV4)).await;
    }
}

/// Other clients that are to use uTP alone listen for TCP all the same.
#[tokio::test]
async fn who_accepts_over_tcp_only_to_close_is_reached_over_utp() {
    for encryption in [Disabled, Forced, EncryptionPolicy::Enabled] {
        let sample = Sample::pieces(8);
        let config = |peers_over| EngineConfig {
            encryption,
            ..over(peers_over, IPV4)
        };
        let seed = seed(&sample, config(Utp), &[]).await;
        let address = seed.peers()[0];
        let closing = TcpListener::bind(address).await.unwrap();
        let closing = tokio::spawn(async move { while closing.accept().await.is_ok() {} });
        let leech = Engine::start(config(Both)).await.unwrap();
        let target = tempfile::tempdir().unwrap();
        let add = AddTorrent {
            peers: vec![address],
            ..sample.add(target.path())
        };
        let getting = leech.add(add).await.unwrap();
        wait(&getting, |state| state.complete).await;
        closing.abort();
        leech.stop(PATIENCE).await;
        seed.engine.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn both_families_have_utp_on_the_ports_of_tcp() {
    let mut everywhere = over(Both, IPV4);
    everywhere.transport.listen.push(SocketAddr::new(IPV6, 0));
    let engine = Engine::start(everywhere).await.unwrap();
    let listening = engine.listening().to_vec();
    assert_eq!(listening.len(), 2, "{listening:?}");
    for address in listening {
        assert!(std::net::TcpListener::bind(address).is_err());
        assert!(std::net::UdpSocket::bind(address).is_err());
    }
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn addresses_that_answer_no_syn_are_given_up_for_one_that_does() {
    let sample = Sample::pieces(32);
    let source = seed(&sample, over(Utp, IPV4), &[]).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(UdpSocket::bind((ELSEWHERE, 0)).await.unwrap());
    }
    let mut narrow = over(Utp, IPV4);
    narrow.session.max_half_open = 1;
    // Far longer than a busy machine needs for one that answers.
    narrow.transport.connect_timeout = Duration::from_secs(1);
    let leech = Engine::start(narrow).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let addresses = silent.iter().map(|socket| socket.local_addr().unwrap());
    let add = AddTorrent {
        peers: addresses.chain(source.peers()).collect(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    assert_stops(leech).await;
    source.engine.stop(PATIENCE).await;
}

/// A way to `remote` that lets pass what one other sends, until it is aborted.
async fn way_to(remote: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind((ELSEWHERE, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let carrying = tokio::spawn(async move {
        let (mut other, mut buffer) = (None, [0; 2048]);
        // A socket that hears from the system that nobody is there goes on.
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let target = match from == remote {
                true => other,
                false => Some(remote),
            };
            if from != remote {
                other = Some(from);
            }
            if let Some(target) = target {
                drop(socket.send_to(&buffer[..length], target).await);
            }
        }
    });
    (address, carrying)
}

/// A seed that takes some seconds to send all.
async fn slow(sample: &Sample) -> Seed {
    let mut config = over(Utp, IPV4);
    config.transport.limits.up_bytes_per_s = NonZeroU64::new(200_000);
    seed(sample, config, &[]).await
}

#[tokio::test]
async fn a_remote_that_vanishes_over_utp_costs_nothing_verified_and_keeps_nobody() {
    let sample = Sample::pieces(64);
    let source = slow(&sample).await;
    let (address, carrying) = way_to(source.peers()[0]).await;
    let leech = Engine::start(over(Utp, IPV4)).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: vec![address],
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.verified_pieces > 0).await;
    carrying.abort();
    let other = seed(&sample, over(Utp, IPV4), leech.listening()).await;
    let end = wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    assert_eq!(end.failed_pieces, 0);
    // Both ends of what was cut are still full of what they would send.
    assert_stops(leech).await;
    assert_stops(source.engine).await;
    other.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn engines_in_the_middle_of_a_transfer_over_utp_stop() {
    let sample = Sample::pieces(64);
    let source = slow(&sample).await;
    let leech = Engine::start(over(Utp, IPV4)).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: source.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.verified_pieces > 0).await;
    assert_stops(leech).await;
    // Who stays hears of it.
    wait(&source.torrent, |state| state.peers.is_empty()).await;
    assert_stops(source.engine).await;
}
