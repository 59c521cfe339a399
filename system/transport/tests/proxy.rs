//! Under a proxy that is not there, or is and says no: nothing is sent to anybody else, and nobody is asked for a name.
//!
//! What goes through a proxy that does its work, packet for packet, is in `lab/interop`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shoal_transport::{
    DialError, Endpoint, HttpError, HttpLimits, Lookup, OriginClass, Protocol, ProxyError, Resolve,
    ResolveError, ThroughProxy, Transport, TransportConfig, WantedPort,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

const SCHEMES: [&str; 4] = ["socks4", "socks4a", "socks5", "http"];
const USER: OriginClass = OriginClass::User;

/// Counts who asks, and knows nothing.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Resolve for Counting {
    fn lookup(&self, _host: &str) -> Lookup {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }
}

fn under(scheme: &str, proxy: SocketAddr, resolver: &Arc<Counting>) -> Transport {
    let resolver: Arc<dyn Resolve> = Arc::<Counting>::clone(resolver);
    Transport::start(TransportConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        proxy: Some(format!("{scheme}://{proxy}").parse().unwrap()),
        connect_timeout: Duration::from_secs(5),
        resolver,
        ..TransportConfig::default()
    })
    .unwrap()
}

async fn fetch(transport: &Transport, url: &str, origin: OriginClass) -> Result<(), HttpError> {
    let limits = HttpLimits::file(1024);
    let client = transport.http();
    let fetched = client.get(url.parse().unwrap(), origin, limits);
    fetched.await.map(drop)
}

/// Somebody who fails the test where anybody comes.
struct Nobody {
    tcp: TcpListener,
    udp: UdpSocket,
    address: SocketAddr,
}

impl Nobody {
    async fn new() -> Nobody {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        Nobody { tcp, udp, address }
    }

    async fn was_left_alone(self) {
        let mut buffer = [0; 64];
        let visited = async {
            tokio::select! {
                _ = self.tcp.accept() => {}
                _ = self.udp.recv_from(&mut buffer) => {}
            }
        };
        let visited = tokio::time::timeout(Duration::from_millis(200), visited).await;
        assert!(visited.is_err(), "somebody came another way");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_not_gone_around() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let absent = free.local_addr().unwrap();
    drop(free);
    for scheme in SCHEMES {
        let (resolver, nobody) = (Arc::<Counting>::default(), Nobody::new().await);
        let transport = under(scheme, absent, &resolver);
        let target = nobody.address;
        let error = transport.dial(target, USER).await.unwrap_err();
        let DialError::Proxy(failure) = error else {
            panic!("{error}");
        };
        assert!(
            matches!(failure.why, ThroughProxy::Unreachable(_)),
            "{failure}"
        );
        if let Ok(channel) = transport.udp(target, USER) {
            assert_eq!(scheme, "socks5");
            channel.send(b"leak").await.unwrap_err();
        }
        let (utp, endpoints) = transport.utp(&transport.listen().unwrap()).unwrap();
        utp.dial(target, USER).await.unwrap_err();
        for endpoint in &endpoints {
            assert_eq!(scheme, "socks5");
            endpoint
                .others
                .send(target, USER, b"leak")
                .await
                .unwrap_err();
        }
        for url in [
            format!("http://{target}/"),
            format!("https://{target}/"),
            format!("http://localhost:{}/", target.port()),
            "http://name.example/".to_owned(),
        ] {
            fetch(&transport, &url, USER).await.unwrap_err();
        }
        assert_eq!(resolver.0.load(Ordering::SeqCst), 0, "{scheme}");
        nobody.was_left_alone().await;
    }
}

#[tokio::test]
async fn nobody_listens_and_nobody_near_is_spoken_to() {
    for scheme in SCHEMES {
        let resolver = Arc::<Counting>::default();
        let transport = under(scheme, "127.0.0.1:9".parse().unwrap(), &resolver);
        assert!(transport.listen().unwrap().is_empty());
        let group = "239.192.152.143:6771".parse().unwrap();
        assert!(transport.multicast(group).unwrap().is_none());
        let wanted = WantedPort {
            port: 6881,
            tcp: true,
            udp: true,
        };
        let here = "0.0.0.0:6881".parse().unwrap();
        assert!(transport.port_mapper(here, wanted).is_none());
        // Those that share a network with us do not share it with the proxy.
        for address in ["10.0.0.1", "192.168.1.1", "fd00::1", "127.0.0.1"] {
            let address: IpAddr = address.parse().unwrap();
            let stranger = OriginClass::PeerExchange;
            assert!(transport.check(address, stranger, Protocol::Peer).is_err());
            assert!(transport.check(address, USER, Protocol::Peer).is_ok());
        }
    }
}

#[tokio::test]
async fn names_are_the_proxys_to_look_up_or_nobodys() {
    for scheme in SCHEMES {
        let resolver = Arc::<Counting>::default();
        let transport = under(scheme, "127.0.0.1:9".parse().unwrap(), &resolver);
        let ask = |host, origin| transport.endpoints(host, 80, origin, Protocol::TrackerHttp);
        let found = ask("tracker.example", OriginClass::Metainfo).await;
        match scheme {
            "socks4" => assert!(matches!(found, Err(ResolveError::BehindProxy { .. }))),
            _ => {
                let name = Endpoint::Name("tracker.example".to_owned(), 80);
                assert_eq!(found.unwrap(), [name]);
                let local = ask("nas.local", OriginClass::Metainfo).await;
                assert!(matches!(local, Err(ResolveError::NameRefused(_))));
                assert!(ask("nas.local", USER).await.is_ok());
            }
        }
        let literal = ask("[2600::1]", OriginClass::Metainfo).await.unwrap();
        assert_eq!(
            literal,
            [Endpoint::Address("[2600::1]:80".parse().unwrap())]
        );
        assert!(ask("127.0.0.1", OriginClass::Metainfo).await.is_err());
        let addresses = transport.resolve("tracker.example", 80, USER, Protocol::Peer);
        assert!(matches!(
            addresses.await,
            Err(ResolveError::BehindProxy { .. })
        ));
        assert_eq!(resolver.0.load(Ordering::SeqCst), 0, "{scheme}");
    }
}

#[tokio::test]
async fn the_first_bytes_of_a_connection_are_behind_the_last_of_the_answer() {
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = proxy.local_addr().unwrap();
    let target: SocketAddr = "192.0.2.7:6881".parse().unwrap();
    let target = SocketAddr::new("44.1.1.1".parse().unwrap(), target.port());
    for (scheme, answers) in [
        ("socks4", &[&b"\0\x5a\0\0\0\0\0\0first"[..]][..]),
        ("socks5", &[b"\x05\0", b"\x05\0\0\x01\0\0\0\0\0\0first"]),
        ("http", &[b"HTTP/1.1 200 ok\r\n\r\nfirst"]),
    ] {
        let transport = under(scheme, address, &Arc::default());
        let serving = async {
            let (mut stream, _) = proxy.accept().await.unwrap();
            for answer in answers {
                let mut asked = [0; 256];
                assert!(stream.read(&mut asked).await.unwrap() > 0);
                stream.write_all(answer).await.unwrap();
            }
            stream
        };
        let (dialled, _stream) = tokio::join!(transport.dial(target, USER), serving);
        let dialled = dialled.unwrap();
        let mut first = [0; 16];
        let count = loop {
            dialled.readable().await.unwrap();
            match dialled.try_read(&mut first) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read.unwrap(),
            }
        };
        assert_eq!(&first[..count], b"first", "{scheme}");
    }
    // One that closes without an answer is told from one that is not there.
    let transport = under("socks5", address, &Arc::default());
    let closing = async { drop(proxy.accept().await.unwrap()) };
    let (dialled, ()) = tokio::join!(transport.dial(target, USER), closing);
    let error = dialled.unwrap_err();
    let DialError::Proxy(failure) = error else {
        panic!("{error}");
    };
    assert!(
        matches!(failure.why, ThroughProxy::Said(ProxyError::Closed)),
        "{failure}"
    );
}
