//! Whoever names peers, trackers and contacts can name this machine's own services. Each source of addresses names a trap, which has
//! to stay empty, and a witness, who shows that the source was heard and believed in everything else.
//!
//! 127.0.0.1 is opened in the policy and plays the Internet; 127.0.0.2 is not and plays this machine. Of web seeds and
//! links to torrent files `web` has the scenarios, of redirects and names `shoal_transport`, of routers its `port_mapping`.

use crate::hole_punch::{is_dialled, joined, punch, say};
use crate::rig::{PATIENCE, Sample, config, seed, soon};
use crate::web::{Origin, Reply, leech, open};
use shoal_dht::Settings;
use shoal_engine::{AddMagnet, AddTorrent, DhtConfig, DhtRouter, Engine, EngineConfig};
use shoal_metainfo::Magnet;
use shoal_metainfo::create::Kind;
use shoal_transport::OriginClass;
use shoal_wire::{Contact, ContactFlags, HolePunchKind, Message, PeerExchange};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// So long a forged dial has after the witness's.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// One port of TCP and UDP.
struct Place {
    tcp: TcpListener,
    udp: UdpSocket,
    address: SocketAddr,
}

impl Place {
    async fn at(ip: Ipv4Addr) -> Place {
        // The port of one may be taken for the other.
        for _ in 0..20 {
            let tcp = TcpListener::bind((ip, 0)).await.unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address).await {
                return Place { tcp, udp, address };
            }
        }
        panic!("no port was free for both");
    }

    async fn trap() -> Place {
        Place::at(Ipv4Addr::new(127, 0, 0, 2)).await
    }

    async fn witness() -> Place {
        Place::at(HERE).await
    }

    async fn is_met(&self) {
        soon(self.tcp.accept()).await.unwrap();
    }

    async fn stays_empty(&self) {
        let mut datagram = [0; 2_048];
        let somebody = async {
            tokio::select! {
                came = self.tcp.accept() => came.map(|(_, from)| from),
                came = self.udp.recv_from(&mut datagram) => came.map(|(_, from)| from),
            }
        };
        let came = tokio::time::timeout(AFTERWARDS, somebody).await;
        assert!(came.is_err(), "the trap was reached: {came:?}");
    }

    /// The form of BEP 23 and BEP 5.
    fn compact(&self) -> Vec<u8> {
        let IpAddr::V4(ip) = self.address.ip() else {
            panic!("IPv4 alone is bound");
        };
        let port = self.address.port().to_be_bytes();
        [&ip.octets()[..], &port].concat()
    }
}

async fn getting(engine: &Engine, sample: &Sample, peers: Vec<SocketAddr>) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers,
        ..sample.add(target.path())
    };
    engine.add(add).await.unwrap();
    target
}

#[tokio::test]
async fn by_the_peers_of_a_tracker() {
    let (trap, witness) = (Place::trap().await, Place::witness().await);
    let named = [trap.compact(), witness.compact()].concat();
    let tracker = Origin::start(move |_| Reply {
        body: [&b"d8:intervali1800e5:peers12:"[..], &named, b"e"].concat(),
        ..Reply::new(200)
    })
    .await;
    let url = tracker.url("/announce").to_string();
    let sample = Sample::with(Kind::V1, &[100_000], 16 * 1024, &[url], vec![]);
    let engine = leech().await;
    let _target = getting(&engine, &sample, Vec::new()).await;
    witness.is_met().await;
    trap.stays_empty().await;
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn by_the_trackers_of_a_torrent_and_their_redirects() {
    let (trap, witness) = (Place::trap().await, Place::witness().await);
    let inside = trap.address;
    let tracker = Origin::start(move |_| Reply::redirect(&format!("http://{inside}/a"))).await;
    let urls = [
        format!("http://{inside}/announce"),
        format!("udp://{inside}/announce"),
        tracker.url("/announce").to_string(),
        format!("http://{}/announce", witness.address),
    ];
    let sample = Sample::with(Kind::V1, &[100_000], 16 * 1024, &urls, vec![]);
    let engine = leech().await;
    let _target = getting(&engine, &sample, Vec::new()).await;
    witness.is_met().await;
    trap.stays_empty().await;
    assert_eq!(tracker.requests().len(), 1);
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn by_peer_exchange() {
    let (trap, witness) = (Place::trap().await, Place::witness().await);
    let sample = Sample::pieces(2);
    let seed = seed(&sample, open(config(HERE.into())), &[]).await;
    let mut liar = joined(&sample, &seed, 7_001).await;
    let contact = |place: &Place| Contact {
        address: place.address,
        // Who can be brought together with us is asked for where no dial leads to it.
        flags: ContactFlags::PUNCHES,
    };
    let exchange = PeerExchange {
        added: vec![contact(&trap), contact(&witness)],
        dropped: Vec::new(),
    };
    say(&mut liar, &[Message::PeerExchange(exchange)]).await;
    witness.is_met().await;
    trap.stays_empty().await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn by_hole_punching() {
    let (trap, witness) = (Place::trap().await, Place::witness().await);
    let sample = Sample::pieces(2);
    let seed = seed(&sample, open(config(HERE.into())), &[]).await;
    let mut liar = joined(&sample, &seed, 7_001).await;
    let told = [&trap, &witness].map(|place| punch(HolePunchKind::Connect, place.address));
    say(&mut liar, &told).await;
    is_dialled(&witness.udp, seed.peers()[0]).await;
    trap.stays_empty().await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn by_a_magnet_link() {
    let (trap, witness) = (Place::trap().await, Place::witness().await);
    let (sample, engine) = (Sample::pieces(2), leech().await);
    let link = |place: &Place| format!("&x.pe={}", place.address);
    let trackers = format!("&tr=http://{0}/a&tr=udp://{0}/a", trap.address);
    let plain = Magnet::new(sample.metainfo.info_hashes()).to_string();
    let link = plain + &link(&trap) + &link(&witness) + &trackers;
    let magnet = Magnet::parse(&link).unwrap();
    let search = engine.add_magnet(AddMagnet {
        magnet,
        peers: Vec::new(),
        trackers: Vec::new(),
        known: None,
        route: None,
    });
    let _search = search.await.unwrap();
    witness.is_met().await;
    trap.stays_empty().await;
    engine.stop(PATIENCE).await;
}

/// A contact of the DHT who answers everything with these places, as contacts and as peers.
async fn contact(places: Vec<u8>) -> SocketAddr {
    let socket = UdpSocket::bind((HERE, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut datagram = [0; 2_048];
        while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            let transaction = transaction(&datagram[..length]);
            let nodes = places.chunks(6).enumerate().flat_map(|(number, place)| {
                let mut node = vec![number as u8 + 1; 20];
                node.extend(place);
                node
            });
            let nodes: Vec<u8> = nodes.collect();
            let mut answer = b"d1:rd2:id20:abcdefghij01234567895:nodes".to_vec();
            answer.extend(format!("{}:", nodes.len()).bytes().chain(nodes));
            answer.extend(b"5:token1:x6:valuesl");
            for place in places.chunks(6) {
                answer.extend(b"6:".iter().chain(place));
            }
            answer.extend([b"ee1:t", &transaction[..], b"1:y1:re"].concat());
            drop(socket.send_to(&answer, from).await);
        }
    });
    address
}

/// What a query is answered under, as it was encoded.
fn transaction(query: &[u8]) -> Vec<u8> {
    let at = query.windows(3).rposition(|part| part == b"1:t").unwrap() + 3;
    let length = usize::from(query[at] - b'0');
    query[at..at + 2 + length].to_vec()
}

#[tokio::test]
async fn by_the_dht() {
    let (trap, witness) = (Place::trap().await, Place::witness().await);
    let liar = contact([trap.compact(), witness.compact()].concat()).await;
    let router = DhtRouter {
        contact: shoal_metainfo::metainfo::Contact::parse(&liar.to_string()).unwrap(),
        origin: OriginClass::User,
    };
    let engine = Engine::start(EngineConfig {
        dht: Some(DhtConfig {
            routers: vec![router],
            saved: None,
            settings: Settings::default(),
        }),
        ..open(config(HERE.into()))
    });
    let (engine, sample) = (engine.await.unwrap(), Sample::pieces(2));
    let _target = getting(&engine, &sample, Vec::new()).await;
    witness.is_met().await;
    trap.stays_empty().await;
    engine.stop(PATIENCE).await;
}
