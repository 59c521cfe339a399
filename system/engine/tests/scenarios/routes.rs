//! Routes of one engine: who is on one has nothing of another, and nothing of a new one begins before the old one has ended.

use crate::rig::{PATIENCE, Sample, config, engine, soon, usual_seed, wait};
use shoal_engine::{AddMagnet, AddTorrent, Engine, EngineError, OWN_ROUTE, Phase, RouteConfig};
use shoal_metainfo::Magnet;
use shoal_transport::{Binding, TransportConfig};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const THIRD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// A route that everything leaves by from this address, where peers may connect.
fn from(ip: IpAddr) -> RouteConfig {
    RouteConfig {
        transport: TransportConfig {
            listen: vec![SocketAddr::new(ip, 0)],
            binding: Binding::Address(ip),
            isolated: true,
            ..TransportConfig::default()
        },
        ..RouteConfig::default()
    }
}

fn listening(engine: &Engine, route: &str) -> SocketAddr {
    let lines = engine.handle().routes();
    let line = lines.into_iter().find(|line| line.name == route).unwrap();
    line.listening[0]
}

/// Whether a stranger who asks there for a torrent is answered.
fn is_answered(at: SocketAddr, sample: &Sample) -> bool {
    let mut stream = std::net::TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    let name = sample.metainfo.info_hashes().primary();
    hello.extend_from_slice(&name.0);
    hello.extend_from_slice(b"-XX0000-123456789012");
    stream.write_all(&hello).unwrap();
    let mut answer = [0; 48];
    match stream.read_exact(&mut answer) {
        Ok(()) => true,
        Err(error) => {
            let closed = [
                std::io::ErrorKind::UnexpectedEof,
                std::io::ErrorKind::ConnectionReset,
            ];
            assert!(closed.contains(&error.kind()), "{error}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_is_found_at_the_listener_of_its_own_route_alone() {
    let sample = Sample::pieces(4);
    let engine = engine().await;
    engine
        .handle()
        .set_route("second", from(SECOND))
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    sample.write(directory.path());
    let add = AddTorrent {
        seed_only: true,
        route: Some("second".to_owned()),
        ..sample.add(directory.path())
    };
    let torrent = engine.add(add).await.unwrap();
    wait(&torrent, |state| state.complete).await;
    assert!(!is_answered(engine.listening()[0], &sample));
    assert!(is_answered(listening(&engine, "second"), &sample));
    torrent.stop().await;
    let mut watch = torrent.watch();
    soon(watch.wait_for(|state| state.phase == Phase::Stopped))
        .await
        .unwrap();
    // The same torrent on the own route: it is the other way round.
    let add = AddTorrent {
        seed_only: true,
        ..sample.add(directory.path())
    };
    let torrent = engine.add(add).await.unwrap();
    wait(&torrent, |state| state.complete).await;
    assert!(is_answered(engine.listening()[0], &sample));
    assert!(!is_answered(listening(&engine, "second"), &sample));
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_no_route_that_there_is_gets_none() {
    let sample = Sample::pieces(4);
    let engine = engine().await;
    let directory = tempfile::tempdir().unwrap();
    let add = || AddTorrent {
        route: Some("vpn".to_owned()),
        ..sample.add(directory.path())
    };
    let refused = engine.add(add()).await.err().unwrap();
    assert!(matches!(refused, EngineError::NoRoute(_)), "{refused}");
    let magnet = AddMagnet {
        magnet: Magnet::new(sample.metainfo.info_hashes()),
        peers: Vec::new(),
        trackers: Vec::new(),
        known: None,
        route: Some("vpn".to_owned()),
    };
    assert!(engine.add_magnet(magnet).await.is_err());
    assert!(engine.handle().remove_route("vpn").await.is_err());
    // One that cannot be used is none.
    let nowhere = from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    assert!(engine.handle().set_route("vpn", nowhere).await.is_err());
    assert!(matches!(
        engine.add(add()).await,
        Err(EngineError::NoRoute(_))
    ));
    // A search goes by one route, and its torrent by no other.
    engine
        .handle()
        .set_route("vpn", from(SECOND))
        .await
        .unwrap();
    let magnet = AddMagnet {
        magnet: Magnet::new(sample.metainfo.info_hashes()),
        peers: Vec::new(),
        trackers: Vec::new(),
        known: None,
        route: None,
    };
    let search = engine.add_magnet(magnet).await.unwrap();
    let add = AddTorrent {
        search: Some(search),
        ..add()
    };
    assert!(matches!(
        engine.add(add).await,
        Err(EngineError::OtherRoute)
    ));
    engine.stop(PATIENCE).await;
}

/// The next request with this in it, and from where it comes.
async fn asked(tracker: &TcpListener, word: &str) -> (TcpStream, IpAddr) {
    loop {
        let (mut stream, from) = soon(tracker.accept()).await.unwrap();
        let mut head = vec![0; 4096];
        let length = soon(stream.read(&mut head)).await.unwrap_or(0);
        if String::from_utf8_lossy(&head[..length]).contains(word) {
            return (stream, from.ip());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_by_another_route_while_leave_is_taken_by_the_last() {
    let sample = Sample::pieces(4);
    let engine = engine().await;
    let handle = engine.handle();
    handle.set_route("second", from(SECOND)).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    // A tracker that answers, and takes no leave.
    let tracker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", tracker.local_addr().unwrap());
    let add = |route: Option<&str>| AddTorrent {
        trackers: vec![url.parse().unwrap()],
        route: route.map(str::to_owned),
        ..sample.add(directory.path())
    };
    let torrent = engine.add(add(None)).await.unwrap();
    let (mut first, _) = asked(&tracker, "event=started").await;
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\nConnection: close\r\n\r\nd8:intervali1800e5:peers0:e";
    tokio::io::AsyncWriteExt::write_all(&mut first, &answer[..])
        .await
        .unwrap();
    wait(&torrent, |state| {
        state.trackers.iter().any(|tracker| tracker.working)
    })
    .await;
    torrent.stop().await;
    let mut watch = torrent.watch();
    soon(watch.wait_for(|state| state.phase == Phase::Stopped))
        .await
        .unwrap();
    let (farewell, peer) = asked(&tracker, "event=stopped").await;
    assert_ne!(peer, SECOND);
    let left = tokio::spawn(last_until_the_end(farewell));
    let refused = engine.add(add(Some("second"))).await.err().unwrap();
    assert!(matches!(refused, EngineError::Duplicate), "{refused}");
    soon(left).await.unwrap();
    let again = async {
        loop {
            match engine.add(add(Some("second"))).await {
                Ok(torrent) => return torrent,
                Err(EngineError::Duplicate) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let torrent = soon(again).await;
    let (_, peer) = asked(&tracker, "event=started").await;
    assert_eq!(peer, SECOND);
    drop(torrent);
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_before_it_has_begun_never_does() {
    let sample = Sample::pieces(4);
    let engine = engine().await;
    let directory = tempfile::tempdir().unwrap();
    let remote = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let add = || AddTorrent {
        peers: vec![remote.local_addr().unwrap()],
        ..sample.add(directory.path())
    };
    let withdrawn = add();
    withdrawn.withdrawn.cancel();
    let refused = engine.add(withdrawn).await.err().unwrap();
    assert!(matches!(refused, EngineError::Withdrawn), "{refused}");
    let came = tokio::time::timeout(Duration::from_millis(300), remote.accept()).await;
    assert!(came.is_err());
    // Its place is free.
    engine.add(add()).await.unwrap();
    soon(remote.accept()).await.unwrap();
    engine.stop(PATIENCE).await;
}

/// Accepts a connection, and reads until it ends.
async fn last_until_the_end(mut stream: TcpStream) {
    let mut ignored = [0; 1024];
    while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_a_route_end_before_anything_of_what_it_becomes_begins() {
    let sample = Sample::pieces(4);
    let engine = engine().await;
    let directory = tempfile::tempdir().unwrap();
    for name in ["out", OWN_ROUTE] {
        let remote = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = remote.local_addr().unwrap();
        let add = || AddTorrent {
            peers: vec![address],
            route: Some(name.to_owned()),
            ..sample.add(directory.path())
        };
        let set = |ip| {
            let handle = engine.handle();
            async move { handle.set_route(name, from(ip)).await.unwrap() }
        };
        set(SECOND).await;
        let torrent = engine.add(add()).await.unwrap();
        let (stream, peer) = soon(remote.accept()).await.unwrap();
        assert_eq!(peer.ip(), SECOND);
        let old = listening(&engine, name);
        let ended = tokio::spawn(last_until_the_end(stream));
        set(THIRD).await;
        // By now all of the old one has gone, and its torrents with it.
        soon(ended).await.unwrap();
        assert!(TcpStream::connect(old).await.is_err());
        assert_eq!(torrent.watch().borrow().phase, Phase::Stopped);
        let again = engine.add(add()).await.unwrap();
        let (stream, peer) = soon(remote.accept()).await.unwrap();
        assert_eq!(peer.ip(), THIRD);
        let ended = tokio::spawn(last_until_the_end(stream));
        engine.handle().remove_route(name).await.unwrap();
        soon(ended).await.unwrap();
        assert_eq!(again.watch().borrow().phase, Phase::Stopped);
        assert!(matches!(
            engine.add(add()).await,
            Err(EngineError::NoRoute(_))
        ));
        // Nobody came another way meanwhile.
        let more = tokio::time::timeout(Duration::from_millis(300), remote.accept()).await;
        assert!(more.is_err());
    }
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_comes_over_the_route_of_a_torrent_while_others_take_theirs() {
    let (one, other) = (Sample::pieces(40), Sample::pieces(41));
    let (first, second) = (usual_seed(&one).await, usual_seed(&other).await);
    let leech = Engine::start(config(Ipv4Addr::LOCALHOST.into()))
        .await
        .unwrap();
    leech
        .handle()
        .set_route("second", from(SECOND))
        .await
        .unwrap();
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let add =
        |sample: &Sample, directory: &tempfile::TempDir, peers, route: Option<&str>| AddTorrent {
            peers,
            route: route.map(str::to_owned),
            ..sample.add(directory.path())
        };
    let here = add(&one, &directories[0], first.peers(), None);
    let there = add(&other, &directories[1], second.peers(), Some("second"));
    let torrents = [
        leech.add(here).await.unwrap(),
        leech.add(there).await.unwrap(),
    ];
    for torrent in &torrents {
        wait(torrent, |state| state.complete).await;
    }
    let seen = |torrent: &shoal_engine::TorrentHandle| {
        let snapshot = torrent.watch().borrow().clone();
        snapshot.peers.first().map(|peer| peer.address.ip())
    };
    if let Some(address) = seen(&second.torrent) {
        assert_eq!(address, SECOND);
    }
    one.assert_is_in(directories[0].path());
    other.assert_is_in(directories[1].path());
    for engine in [first.engine, second.engine, leech] {
        engine.stop(PATIENCE).await;
    }
}
