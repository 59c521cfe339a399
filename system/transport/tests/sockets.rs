//! Peers, listeners, datagrams and name resolution over loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shoal_transport::{
    Binding, Departure, DialError, HttpError, HttpLimits, Listener, Lookup, OriginClass,
    PeerStream, Protocol, RefusalReason, Resolve, ResolveError, Transport, TransportConfig,
    TransportError,
};

/// Answers every name with the same addresses and counts the questions.
struct Scripted {
    answer: Vec<IpAddr>,
    asked: Arc<AtomicUsize>,
}

impl Resolve for Scripted {
    fn lookup(&self, _host: &str) -> Lookup {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.clone();
        Box::pin(async move { Ok(answer) })
    }
}

fn scripted(answer: &[&str]) -> (Arc<Scripted>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let resolver = Scripted {
        answer: answer.iter().map(|text| text.parse().unwrap()).collect(),
        asked: Arc::clone(&asked),
    };
    (Arc::new(resolver), asked)
}

fn listening_on(address: &str) -> (Transport, Listener) {
    let transport = Transport::start(TransportConfig {
        listen: vec![address.parse().unwrap()],
        ..TransportConfig::default()
    })
    .unwrap();
    let listener = transport.listen().unwrap().remove(0);
    (transport, listener)
}

async fn connected(address: &str) -> (PeerStream, PeerStream) {
    let (transport, listener) = listening_on(address);
    let dialled = transport
        .dial(listener.local_addr(), OriginClass::User)
        .await
        .unwrap();
    let (accepted, from) = listener.accept().await.unwrap();
    assert_eq!(from, dialled.local_addr().unwrap());
    (dialled, accepted)
}

#[tokio::test]
async fn a_dial_begins_at_the_ports_that_are_named() {
    let (_, listener) = listening_on("127.0.0.1:0");
    // One that is free now; others who use this machine may take it, but not ten of them.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let first = free.local_addr().unwrap().port().min(65_525);
    drop(free);
    let transport = Transport::start(TransportConfig {
        departure: Departure {
            from_ports: Some(first..=first + 9),
            dscp: 8,
        },
        ..TransportConfig::default()
    });
    let transport = transport.unwrap();
    for _ in 0..3 {
        let dialled = transport.dial(listener.local_addr(), OriginClass::User);
        let dialled = dialled.await.unwrap();
        let from = dialled.local_addr().unwrap().port();
        assert!((first..=first + 9).contains(&from), "{from}");
        let (_, seen) = listener.accept().await.unwrap();
        assert_eq!(seen.port(), from);
    }
}

async fn read_to_end(stream: &PeerStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        stream.readable().await.unwrap();
        match stream.try_read(&mut buffer) {
            Ok(0) => return all,
            Ok(len) => all.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn bytes_travel_over_both_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (near, far) = connected(address).await;
        near.writable().await.unwrap();
        assert_eq!(near.try_write(b"ab").unwrap(), 2);
        assert_eq!(near.try_write(b"cde").unwrap(), 3);
        near.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&far).await, b"abcde");
        assert_eq!(near.peer_addr().unwrap(), far.local_addr().unwrap());
    }
}

#[tokio::test]
async fn whatever_the_kernel_takes_at_once_everything_arrives_in_order() {
    let (near, far) = connected("127.0.0.1:0").await;
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = content.clone();
    let sender = tokio::spawn(async move {
        let (mut sent, mut partial) = (0, 0);
        while sent < content.len() {
            near.writable().await.unwrap();
            let rest = &content[sent..];
            match near.try_write(rest) {
                Ok(count) => {
                    sent += count;
                    // Where the kernel took less than all, it has no room, and is not asked again before it has.
                    if count < rest.len() {
                        partial += 1;
                        let full = near.try_write(&content[sent..]).unwrap_err();
                        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
                    }
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        partial
    });
    // Reads of odd sizes, each followed by one that finds out whether there is more.
    let mut received = Vec::new();
    let mut sizes = (1..).map(|turn| 1 + (turn * 7919) % 300_000);
    while received.len() < expected.len() {
        far.readable().await.unwrap();
        let mut buffer = vec![0; sizes.next().unwrap()];
        let (first, second) = buffer.split_at_mut(1);
        let mut parts = [io::IoSliceMut::new(first), io::IoSliceMut::new(second)];
        match far.try_read_vectored(&mut parts) {
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    assert!(received == expected);
    assert!(sender.await.unwrap() > 0, "the socket never was full");
    far.readable().await.unwrap();
    assert_eq!(far.try_read(&mut [0; 10]).unwrap(), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn little_waits_in_the_kernel_for_a_peer_that_does_not_read() {
    let (transport, listener) = listening_on("127.0.0.1:0");
    let remote = tokio::net::TcpSocket::new_v4().unwrap();
    // What it has not read is with it, and not with us.
    remote.set_recv_buffer_size(4_096).unwrap();
    let remote = remote.connect(listener.local_addr());
    let (remote, accepted) = tokio::join!(remote, listener.accept());
    let (_remote, (near, _)) = (remote.unwrap(), accepted.unwrap());
    let mut written = 0;
    // A write that takes less than it was given is the last one that the kernel has room for.
    near.writable().await.unwrap();
    let full = loop {
        match near.try_write(&[7; 16 * 1024]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    // The bound may be overstepped by one write.
    assert!(written <= (512 + 64) * 1024, "{written} bytes");
    drop(transport);
}

#[test]
fn a_connection_moves_to_another_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let (near, far) = first.block_on(async {
        let (near, far) = connected("127.0.0.1:0").await;
        near.writable().await.unwrap();
        near.try_write(b"before").unwrap();
        (near.detach().unwrap(), far.detach().unwrap())
    });
    drop(first);
    runtime().block_on(async {
        let (near, far) = (near.attach().unwrap(), far.attach().unwrap());
        near.writable().await.unwrap();
        near.try_write(b" and after").unwrap();
        drop(near);
        assert_eq!(read_to_end(&far).await, b"before and after");
    });
}

#[tokio::test]
async fn ipv4_and_ipv6_share_the_port_that_the_system_chose() {
    let transport = Transport::start(TransportConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()],
        ..TransportConfig::default()
    })
    .unwrap();
    let listeners = transport.listen().unwrap();
    let addresses: Vec<SocketAddr> = listeners.iter().map(Listener::local_addr).collect();
    assert_eq!(addresses.len(), 2);
    assert_ne!(addresses[0].port(), 0);
    assert_eq!(addresses[0].port(), addresses[1].port());
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let (_transport, listener) = listening_on("127.0.0.1:0");
    let taken = listener.local_addr();
    let second = Transport::start(TransportConfig {
        listen: vec![taken],
        ..TransportConfig::default()
    })
    .unwrap();
    let error = second.listen().unwrap_err().to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
    assert!(error.contains("choose another port"), "{error}");
}

#[tokio::test]
async fn a_binding_that_does_not_exist_is_refused_at_the_start() {
    for (binding, advice) in [
        (
            Binding::Address("192.0.2.77".parse().unwrap()),
            "no such address",
        ),
        (
            Binding::Address("2001:db8::77".parse().unwrap()),
            "no such address",
        ),
        (
            Binding::Interface("shoal-no-such".into()),
            "interface's name",
        ),
        (Binding::Interface(String::new()), "check"),
    ] {
        let error = Transport::start(TransportConfig {
            binding: binding.clone(),
            ..TransportConfig::default()
        })
        .unwrap_err();
        assert!(matches!(error, TransportError::Binding { .. }));
        let text = error.to_string();
        assert!(
            text.contains(advice) && text.contains(&binding.to_string()),
            "{text}"
        );
    }
}

#[tokio::test]
async fn every_kind_of_socket_leaves_from_the_bound_address() {
    let bound: IpAddr = "127.0.0.9".parse().unwrap();
    let transport = Transport::start(TransportConfig {
        listen: vec!["0.0.0.0:0".parse().unwrap(), "[::]:0".parse().unwrap()],
        binding: Binding::Address(bound),
        ..TransportConfig::default()
    })
    .unwrap();
    let listeners = transport.listen().unwrap();
    assert_eq!(listeners.len(), 1);
    assert_eq!(listeners[0].local_addr().ip(), bound);

    let (_other, target) = listening_on("127.0.0.1:0");
    let _near = transport
        .dial(target.local_addr(), OriginClass::User)
        .await
        .unwrap();
    assert_eq!(target.accept().await.unwrap().1.ip(), bound);

    let channel = transport
        .udp(
            "127.0.0.1:9".parse::<SocketAddr>().unwrap(),
            OriginClass::User,
        )
        .unwrap();
    assert_eq!(channel.local_addr().unwrap().ip(), bound);

    let url = format!("http://{}/", target.local_addr()).parse().unwrap();
    let http = transport.http();
    let (reply, accepted) = tokio::join!(http.get(url, OriginClass::User, quick()), async {
        // Closing at once ends the request.
        target.accept().await.unwrap().1
    });
    assert_eq!(accepted.ip(), bound);
    assert!(matches!(reply, Err(HttpError::Failed { .. })), "{reply:?}");
}

#[tokio::test]
async fn the_other_family_is_out_of_reach_of_a_bound_address() {
    let transport = Transport::start(TransportConfig {
        binding: Binding::Address("127.0.0.1".parse().unwrap()),
        ..TransportConfig::default()
    })
    .unwrap();
    let (_other, target) = listening_on("[::1]:0");
    let address = target.local_addr();
    let error = transport
        .dial(address, OriginClass::User)
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::OutOfReach { .. }), "{error}");
    let error = transport.udp(address, OriginClass::User).unwrap_err();
    assert!(matches!(error, DialError::OutOfReach { .. }), "{error}");
    let url = format!("http://{address}/").parse().unwrap();
    let error = transport
        .http()
        .get(url, OriginClass::User, quick())
        .await
        .unwrap_err();
    let expected = matches!(error, HttpError::Resolve(ResolveError::WrongFamily { .. }));
    assert!(expected, "{error}");
    assert_nobody_came(&target).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn sockets_bound_to_the_loopback_device_reach_loopback() {
    let transport = Transport::start(TransportConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        binding: Binding::Interface("lo".into()),
        ..TransportConfig::default()
    })
    .unwrap();
    let listener = transport.listen().unwrap().remove(0);
    let _near = transport
        .dial(listener.local_addr(), OriginClass::User)
        .await
        .unwrap();
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn strangers_do_not_make_us_dial_this_machine_and_opened_ranges_let_them() {
    let (transport, listener) = listening_on("127.0.0.1:0");
    let address = listener.local_addr();
    for origin in OriginClass::ALL
        .into_iter()
        .filter(|origin| *origin != OriginClass::User)
    {
        let error = transport.dial(address, origin).await.unwrap_err();
        assert!(
            matches!(error, DialError::Refused(_)),
            "{origin:?}: {error}"
        );
        let error = transport.udp(address, origin).unwrap_err();
        assert!(
            matches!(error, DialError::Refused(_)),
            "{origin:?}: {error}"
        );
    }
    assert_nobody_came(&listener).await;

    let open = Transport::start(TransportConfig {
        allow_net: vec!["127.0.0.0/8".parse().unwrap()],
        ..TransportConfig::default()
    })
    .unwrap();
    open.dial(address, OriginClass::PeerExchange).await.unwrap();
}

#[tokio::test]
async fn isolation_dials_only_what_was_named_and_asks_no_name_server_for_others() {
    let (resolver, asked) = scripted(&["1.1.1.1"]);
    let transport = Transport::start(TransportConfig {
        isolated: true,
        allow_net: vec!["127.0.0.0/8".parse().unwrap()],
        resolver,
        ..TransportConfig::default()
    })
    .unwrap();
    let refusal = transport
        .check(
            "1.1.1.1".parse().unwrap(),
            OriginClass::Tracker,
            Protocol::Peer,
        )
        .unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Isolated);

    let resolve = |host, origin| transport.resolve(host, 80, origin, Protocol::TrackerUdp);
    let error = resolve("tracker.test", OriginClass::Redirect)
        .await
        .unwrap_err();
    assert!(matches!(error, ResolveError::Isolated { .. }), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    // What lies in an opened range was named by the user too.
    let found = resolve("localhost", OriginClass::Metainfo).await.unwrap();
    assert_eq!(found, ["127.0.0.1:80".parse().unwrap()]);
    // Trackers are named by the user or by the torrent.
    for origin in [OriginClass::User, OriginClass::Metainfo] {
        let found = resolve("tracker.test", origin).await.unwrap();
        assert_eq!(found, ["1.1.1.1:80".parse().unwrap()]);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_port_of_zero_is_no_target() {
    let transport = Transport::start(TransportConfig::default()).unwrap();
    let target = "127.0.0.1:0".parse().unwrap();
    let error = transport.dial(target, OriginClass::User).await.unwrap_err();
    assert!(matches!(error, DialError::NoPort(_)), "{error}");
}

#[tokio::test]
async fn names_keep_only_the_addresses_that_may_be_reached() {
    let mixed = [
        "127.0.0.1",
        "8.8.8.8",
        "::ffff:10.0.0.1",
        "8.8.8.8",
        "2600::1",
        "0.0.0.0",
    ];
    let (resolver, _) = scripted(&mixed);
    let transport = Transport::start(TransportConfig {
        resolver,
        ..TransportConfig::default()
    })
    .unwrap();
    let found = transport
        .resolve(
            "tracker.test",
            6969,
            OriginClass::Metainfo,
            Protocol::TrackerUdp,
        )
        .await
        .unwrap();
    assert_eq!(
        found,
        [
            "8.8.8.8:6969".parse().unwrap(),
            "[2600::1]:6969".parse().unwrap()
        ]
    );
}

#[tokio::test]
async fn a_name_that_only_leads_to_this_machine_is_refused() {
    let (resolver, asked) = scripted(&["127.0.0.1", "64:ff9b::7f00:1", "fe80::1"]);
    let transport = Transport::start(TransportConfig {
        resolver,
        ..TransportConfig::default()
    })
    .unwrap();
    for host in [
        "rebinding.test",
        "localhost",
        "LOCALHOST.",
        "x.localhost",
        "127.0.0.1",
        "[::1]",
    ] {
        let error = transport
            .resolve(host, 80, OriginClass::Metainfo, Protocol::TrackerUdp)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ResolveError::Refused { .. }),
            "{host}: {error}"
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    for host in ["", "a b", "a\nb", &"a".repeat(300)] {
        let error = transport
            .resolve(host, 80, OriginClass::User, Protocol::TrackerUdp)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ResolveError::InvalidName(_)),
            "{host}: {error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_never_answers_costs_the_time_out() {
    struct Silent;
    impl Resolve for Silent {
        fn lookup(&self, _host: &str) -> Lookup {
            Box::pin(std::future::pending())
        }
    }
    let transport = Transport::start(TransportConfig {
        resolver: Arc::new(Silent),
        ..TransportConfig::default()
    })
    .unwrap();
    let error = transport
        .resolve("tracker.test", 80, OriginClass::User, Protocol::Http)
        .await
        .unwrap_err();
    assert!(matches!(error, ResolveError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn datagrams_come_back_from_their_tracker_only() {
    let tracker = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let transport = Transport::start(TransportConfig::default()).unwrap();
    let channel = transport
        .udp(tracker.local_addr().unwrap(), OriginClass::User)
        .unwrap();
    channel.send(b"connect").await.unwrap();
    let mut buffer = [0; 64];
    let (len, from) = tracker.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"connect");

    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"forged", from).unwrap();
    tracker.send_to(b"reply", from).unwrap();
    let len = channel.recv(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..len], b"reply");
}

fn quick() -> HttpLimits {
    HttpLimits {
        protocol: Protocol::TrackerHttp,
        max_body_bytes: 1024,
        timeout: Duration::from_secs(20),
        max_redirects: 3,
        family: None,
    }
}

/// Nothing waits in the backlog: a connection of our own is the first to be accepted.
async fn assert_nobody_came(listener: &Listener) {
    let own = std::net::TcpStream::connect(listener.local_addr()).unwrap();
    let (_, first) = listener.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap());
}
