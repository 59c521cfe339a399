//! Rates and numbers of connections stay within what was set.

use crate::remote::{Remote, request};
use crate::rig::{PATIENCE, Sample, config, seed, usual_seed, wait};
use shoal_engine::{AddTorrent, Engine, PeerTransports};
use shoal_transport::RateLimits;
use shoal_wire::Message;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const RATE: u64 = 500_000;

/// What may have passed a limit of `RATE` after `time`: a quarter of a second's worth at once, and a read beyond what was
/// allowed for each of a few connections.
fn bound(time: Duration) -> u64 {
    let time_ms = u64::try_from(time.as_millis()).unwrap() + 1;
    RATE / 4 + 128 * 1024 + RATE * time_ms / 1000
}

#[tokio::test]
async fn a_torrent_keeps_its_limit_for_downloads() {
    let sample = Sample::pieces(80);
    let seed = usual_seed(&sample).await;
    let leech = Engine::start(config(HERE)).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        limits: RateLimits {
            down_bytes_per_s: NonZeroU64::new(RATE),
            ..RateLimits::default()
        },
        ..sample.add(target.path())
    };
    let begun = Instant::now();
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    let most = bound(begun.elapsed());
    assert!(sample.bytes().len() as u64 <= most, "more than {most}");
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn all_torrents_and_connections_share_the_limit_for_uploads() {
    let samples = [Sample::pieces(40), Sample::pieces(41)];
    let mut limited = config(HERE);
    limited.transport.limits.up_bytes_per_s = NonZeroU64::new(RATE);
    let source = seed(&samples[0], limited, &[]).await;
    let other = tempfile::tempdir().unwrap();
    samples[1].write(other.path());
    let add = AddTorrent {
        seed_only: true,
        ..samples[1].add(other.path())
    };
    let second = source.engine.add(add).await.unwrap();
    wait(&second, |state| state.complete).await;
    let begun = Instant::now();
    let mut leeches = Vec::new();
    for sample in &samples {
        let (engine, target) = (
            Engine::start(config(HERE)).await.unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let add = AddTorrent {
            peers: source.peers(),
            ..sample.add(target.path())
        };
        let getting = engine.add(add).await.unwrap();
        leeches.push((engine, getting, target));
    }
    for (_, getting, _) in &leeches {
        wait(getting, |state| state.complete).await;
    }
    let total: usize = samples.iter().map(|sample| sample.bytes().len()).sum();
    let most = bound(begun.elapsed());
    assert!(total as u64 <= most, "more than {most}");
    for (engine, ..) in leeches {
        engine.stop(PATIENCE).await;
    }
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn connections_that_come_and_go_leave_the_room_as_it_was() {
    let sample = Sample::pieces(4);
    let mut narrow = config(HERE);
    narrow.session.max_connections = 3;
    let leech = Engine::start(narrow).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    wait(&getting, |state| state.wanted_bytes > 0).await;
    // Some of them are refused, as their predecessors have not gone yet, or have the same peer id as another.
    for _ in 0..300 {
        drop(Remote::connect(leech.listening()[0], HERE, &sample).await);
    }
    let seed = seed(&sample, config(HERE), leech.listening()).await;
    wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn addresses_where_nobody_is_use_up_no_dials() {
    let sample = Sample::new(shoal_metainfo::create::Kind::Hybrid, &[70_000], 16 * 1024);
    let source = usual_seed(&sample).await;
    let mut narrow = config(HERE);
    narrow.session.max_half_open = 2;
    // These refuse at once. Over uTP each would be given two seconds, and it is chance how many come before the source.
    narrow.peers_over = PeerTransports::Tcp;
    let leech = Engine::start(narrow).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    // Nobody listens on the lowest ports of this address.
    let nobody = |port| SocketAddr::new(Ipv4Addr::new(127, 0, 0, 77).into(), port);
    let mut peers: Vec<SocketAddr> = (1..=40).map(nobody).collect();
    peers.extend(source.peers());
    let add = AddTorrent {
        peers,
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn an_answer_does_not_wait_for_blocks_that_a_limit_holds_back() {
    let sample = Sample::pieces(8);
    let mut limited = config(HERE);
    limited.transport.limits.up_bytes_per_s = NonZeroU64::new(64 * 1024);
    let seed = seed(&sample, limited, &[]).await;
    let mut remote = Remote::connect(seed.peers()[0], HERE, &sample)
        .await
        .unwrap();
    remote
        .say(&[Message::HaveNone, Message::Interested])
        .await
        .unwrap();
    remote
        .hear_until(|message| *message == Message::Unchoke)
        .await;
    let mut asked: Vec<Message> = (0..8)
        .map(|piece| Message::Request(request(piece)))
        .collect();
    let absurd = request(8);
    asked.push(Message::Request(absurd));
    remote.say(&asked).await.unwrap();
    // At the most those pass before it that the limit let through at once, and the one that has begun.
    let mut blocks = 0;
    loop {
        match remote.hear().await.unwrap() {
            Message::Reject(rejected) if rejected == absurd => break,
            Message::Piece(_) => blocks += 1,
            _ => {}
        }
    }
    assert!(blocks <= 2, "{blocks} blocks came first");
    seed.engine.stop(PATIENCE).await;
}
