//! uTP over loopback: streams between event loops, who may be dialled, and what shares the socket.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io;
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::time::Duration;

use shoal_transport::{
    DialError, OriginClass, PeerDialer, PeerStream, RefusalReason, Transport, TransportConfig, Utp,
    UtpEndpoint,
};
use tokio::runtime::Builder;

fn start(address: &str, isolated: bool) -> Transport {
    Transport::start(TransportConfig {
        listen: vec![address.parse().unwrap()],
        isolated,
        connect_timeout: Duration::from_secs(2),
        ..TransportConfig::default()
    })
    .unwrap()
}

/// A socket at a free port of `address`, and what dials through it.
fn open(address: &str) -> (Utp, UtpEndpoint) {
    let transport = start(address, false);
    let listeners = transport.listen().unwrap();
    let (utp, mut endpoints) = transport.utp(&listeners).unwrap();
    assert_eq!(endpoints[0].address, listeners[0].local_addr());
    (utp, endpoints.remove(0))
}

struct Pair {
    near: PeerStream,
    far: PeerStream,
    /// What keeps the sockets open.
    _open: (Utp, Utp, UtpEndpoint),
}

async fn connected(address: &str) -> Pair {
    let (near_utp, near_end) = open(address);
    let (far_utp, far_end) = open(address);
    let near = near_utp
        .dial(far_end.address, OriginClass::User)
        .await
        .unwrap();
    // A peer is known to be where it says once it has said something.
    assert_eq!(near.try_write(b"!").unwrap(), 1);
    let (far, from) = far_end.listener.accept().await.unwrap();
    assert_eq!(from, near_end.address);
    assert_eq!(far.peer_addr().unwrap(), near_end.address);
    assert!(near.is_utp() && far.is_utp());
    assert_eq!(read_exactly(&far, 1).await, b"!");
    Pair {
        near,
        far,
        _open: (near_utp, far_utp, far_end),
    }
}

async fn read_some(stream: &PeerStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

async fn read_exactly(stream: &PeerStream, count: usize) -> Vec<u8> {
    let mut all = vec![0; count];
    let mut at = 0;
    while at < count {
        let read = read_some(stream, &mut all[at..]).await.unwrap();
        assert!(read > 0, "the stream ended after {at} bytes");
        at += read;
    }
    all
}

async fn write_all(stream: &PeerStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.writable().await.unwrap();
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Bytes that tell where they are.
fn pattern(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[tokio::test]
async fn bytes_travel_over_both_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let pair = connected(address).await;
        write_all(&pair.near, b"abcde").await;
        assert_eq!(read_exactly(&pair.far, 5).await, b"abcde");
        write_all(&pair.far, b"xyz").await;
        assert_eq!(read_exactly(&pair.near, 3).await, b"xyz");
    }
}

#[tokio::test]
async fn streams_move_between_event_loops_and_carry_both_directions_at_once() {
    const LENGTH: usize = 24 * 1024 * 1024;
    let pair = connected("127.0.0.1:0").await;
    let ends = [(pair.near, 1, 2), (pair.far, 2, 1)];
    let threads: Vec<_> = ends
        .into_iter()
        .map(|(stream, ours, theirs)| {
            let stream = stream.detach().unwrap();
            std::thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let stream = stream.attach().unwrap();
                    let (out, expected) = (pattern(ours, LENGTH), pattern(theirs, LENGTH));
                    let (_, read) =
                        tokio::join!(write_all(&stream, &out), read_exactly(&stream, LENGTH));
                    assert!(read == expected, "the bytes differ");
                    stream.shutdown(Shutdown::Write).unwrap();
                    let end = read_some(&stream, &mut [0; 16]).await.unwrap();
                    assert_eq!(end, 0);
                });
            })
        })
        .collect();
    // The sockets' event loops are tasks of this runtime, which must not be blocked.
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|one| one.join().unwrap()))
        .await
        .unwrap();
}

#[tokio::test]
async fn who_leaves_still_delivers_and_who_stays_sees_the_end() {
    let pair = connected("127.0.0.1:0").await;
    let bytes = pattern(3, 400_000);
    write_all(&pair.near, &bytes).await;
    drop(pair.near);
    assert!(read_exactly(&pair.far, bytes.len()).await == bytes);
    assert_eq!(read_some(&pair.far, &mut [0; 8]).await.unwrap(), 0);
    // A write into the void is found out.
    loop {
        match pair.far.try_write(b"anybody?") {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_reader_that_rests_stops_the_writer_and_loses_nothing() {
    let pair = connected("127.0.0.1:0").await;
    let bytes = pattern(4, 16 * 1024 * 1024);
    let mut written = 0;
    // What the windows and buffers of both ends take.
    while let Ok(writable) =
        tokio::time::timeout(Duration::from_secs(2), pair.near.writable()).await
    {
        writable.unwrap();
        written += pair.near.try_write(&bytes[written..]).unwrap_or(0);
    }
    assert!((4 << 20..13 << 20).contains(&written), "{written}");
    let (_, read) = tokio::join!(
        write_all(&pair.near, &bytes[written..]),
        read_exactly(&pair.far, bytes.len())
    );
    assert!(read == bytes);
}

#[tokio::test]
async fn the_policy_judges_dials_as_those_of_tcp() {
    let target: SocketAddr = "127.0.0.1:6881".parse().unwrap();
    let (utp, _end) = open("127.0.0.1:0");
    let refused = utp.dial(target, OriginClass::Tracker).await.unwrap_err();
    assert!(
        matches!(refused, DialError::Refused(refusal) if refusal.reason == RefusalReason::Local)
    );
    let mapped = "[::ffff:127.0.0.1]:6881".parse().unwrap();
    let refused = utp.dial(mapped, OriginClass::PeerExchange).await;
    assert!(matches!(refused, Err(DialError::Refused(_))));
    let portless = "127.0.0.1:0".parse().unwrap();
    let error = utp.dial(portless, OriginClass::User).await.unwrap_err();
    assert!(matches!(error, DialError::NoPort(_)));

    let isolated = start("127.0.0.1:0", true);
    let (utp, _ends) = isolated.utp(&isolated.listen().unwrap()).unwrap();
    let global = "192.88.99.1:6881".parse().unwrap();
    let refused = utp.dial(global, OriginClass::Dht).await.unwrap_err();
    assert!(
        matches!(refused, DialError::Refused(refusal) if refusal.reason == RefusalReason::Isolated)
    );
}

#[tokio::test]
async fn a_dial_to_nobody_ends() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (utp, _end) = open("127.0.0.1:0");
    let target = silent.local_addr().unwrap();
    let error = utp.dial(target, OriginClass::User).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn other_datagrams_of_the_socket_are_passed_on_and_policy_judges_what_leaves() {
    let (_utp, mut end) = open("127.0.0.1:0");
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = other.local_addr().unwrap();
    // A reset of no connection is uTP, and nobody else's.
    let mut reset = [0; 20];
    reset[0] = 0x31;
    other.send_to(&reset, end.address).unwrap();
    other.send_to(b"d1:y1:qe", end.address).unwrap();
    let received = end.others.recv().await.unwrap();
    assert_eq!(received, (from, b"d1:y1:qe".to_vec()));
    let refused = end.others.send(from, OriginClass::Dht, b"d1:y1:re").await;
    assert!(matches!(refused, Err(DialError::Refused(_))));
    let sent = end.others.send(from, OriginClass::User, b"d1:y1:re").await;
    sent.unwrap();
    let mut buffer = [0; 64];
    let (length, sender) = other.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], sender), (&b"d1:y1:re"[..], end.address));
}

#[tokio::test]
async fn who_does_without_utp_has_the_other_datagrams_at_the_port_of_the_listener() {
    let transport = start("127.0.0.1:0", false);
    let listeners = transport.listen().unwrap();
    let mut end = transport.datagrams(&listeners).unwrap().remove(0);
    let address = end.address();
    assert_eq!(address, listeners[0].local_addr());
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = other.local_addr().unwrap();
    let mut syn = [0; 20];
    syn[0] = 0x41;
    other.send_to(&syn, address).unwrap();
    other.send_to(b"d1:y1:qe", address).unwrap();
    let received = end.recv().await.unwrap();
    assert_eq!(received, (from, b"d1:y1:qe".to_vec()));
    let sent = end.send(from, OriginClass::User, b"d1:y1:re").await;
    sent.unwrap();
    let mut buffer = [0; 64];
    let (length, sender) = other.recv_from(&mut buffer).unwrap();
    // Nothing was said to the SYN.
    assert_eq!((&buffer[..length], sender), (&b"d1:y1:re"[..], address));
    drop(end);
    while UdpSocket::bind(address).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_event_loop_ends_with_its_last_user_and_frees_the_port() {
    let (utp, end) = open("127.0.0.1:0");
    let address = end.address;
    drop((utp, end));
    while UdpSocket::bind(address).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_peer_is_reached_over_tcp_first_and_over_utp_where_tcp_is_not_to_be_had() {
    let transport = start("127.0.0.1:0", false);
    let (utp, _ends) = transport.utp(&transport.listen().unwrap()).unwrap();
    let both = PeerDialer::Both(transport.clone(), utp.clone());
    let remote = start("127.0.0.1:0", false);
    let listeners = remote.listen().unwrap();
    let address = listeners[0].local_addr();
    let (_remote_utp, mut ends) = remote.utp(&listeners).unwrap();
    let over_tcp = both.dial(address, OriginClass::User).await.unwrap();
    assert!(!over_tcp.is_utp());
    let over_utp = PeerDialer::Utp(utp).dial(address, OriginClass::User).await;
    assert!(over_utp.unwrap().is_utp());
    // Nobody listens for TCP there any more, and the refusal comes at once.
    drop(listeners);
    let fallback = both.dial(address, OriginClass::User).await.unwrap();
    assert!(fallback.is_utp());
    let tcp = PeerDialer::Tcp(transport)
        .dial(address, OriginClass::User)
        .await;
    assert!(matches!(tcp, Err(DialError::Io { .. })));
    // Who accepts uTP is asked as who accepts TCP. The first connection has come and gone.
    fallback.try_write(b"hello").unwrap();
    let listener = ends.remove(0).listener;
    let (gone, _) = listener.accept().await.unwrap();
    assert_eq!(read_some(&gone, &mut [0; 8]).await.unwrap(), 0);
    let (accepted, _) = listener.accept().await.unwrap();
    assert_eq!(read_exactly(&accepted, 5).await, b"hello");
    let refused = both.dial(address, OriginClass::Tracker).await;
    assert!(matches!(refused, Err(DialError::Refused(_))));
}

#[tokio::test]
async fn connections_that_nobody_accepts_end() {
    let (near, _near_end) = open("127.0.0.1:0");
    let (_far, far_end) = open("127.0.0.1:0");
    let stream = near.dial(far_end.address, OriginClass::User).await.unwrap();
    stream.try_write(b"hello").unwrap();
    drop(far_end.listener);
    assert_eq!(read_some(&stream, &mut [0; 8]).await.unwrap(), 0);
}

#[test]
fn when_a_runtime_ends_its_remotes_are_told() {
    let near_runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let far_runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (_far, far_end) = far_runtime.block_on(async { open("127.0.0.1:0") });
    let (stream, near) = near_runtime.block_on(async {
        let (utp, end) = open("127.0.0.1:0");
        let stream = utp.dial(far_end.address, OriginClass::User).await.unwrap();
        stream.try_write(b"hello").unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        (stream, (utp, end))
    });
    let (accepted, _) = far_runtime.block_on(far_end.listener.accept()).unwrap();
    drop(near_runtime);
    let error = stream.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    far_runtime.block_on(async {
        assert_eq!(read_exactly(&accepted, 5).await, b"hello");
        let error = read_some(&accepted, &mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
    drop(near);
}
