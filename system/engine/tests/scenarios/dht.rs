//! Peers that find each other by the DHT alone.

use crate::magnets::serve_on;
use crate::remote::Remote;
use crate::rig::{PATIENCE, PIECE, Sample, config, seed, soon, usual_seed, wait};
use shoal_dht::{Announce, Dht, Handle, Input, Output, Saved, Settings};
use shoal_engine::{
    AddMagnet, AddTorrent, DhtConfig, DhtRouter, Engine, EngineConfig, MagnetHandle, PeerTransports,
};
use shoal_machine::{Machine, Moment};
use shoal_metainfo::bencode::Limits;
use shoal_metainfo::create::{Kind, Options};
use shoal_metainfo::metainfo::Contact;
use shoal_metainfo::{InfoHash, Magnet, Metainfo};
use shoal_transport::OriginClass;
use shoal_wire::Feature;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a search or an announce has before the name of its swarm.
const SWARM: &[u8] = b"9:info_hash20:";

/// Datagrams that a contact has received.
#[derive(Clone, Debug, Default)]
struct Heard {
    any: usize,
    searches: usize,
    announces: usize,
    /// What was looked for or announced.
    swarms: BTreeSet<InfoHash>,
}

/// A contact that has nothing but the DHT.
struct Hub {
    address: SocketAddr,
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Hub {
    async fn start() -> Self {
        Hub::begin(Vec::new()).await
    }

    /// One that knows this contact, and tells it of a peer on this port.
    async fn announcing(swarm: InfoHash, port: u16, contact: &Hub) -> Self {
        let announce = Announce {
            port,
            implied_port: false,
            seed: true,
        };
        let inputs = vec![
            Input::Bootstrap {
                addresses: vec![contact.address],
                are_routers: false,
            },
            Input::FindPeers {
                handle: Handle(0),
                info_hash: swarm,
                announce: Some(announce),
                noseed: false,
                scrape: false,
            },
        ];
        Hub::begin(inputs).await
    }

    async fn begin(inputs: Vec<Input>) -> Self {
        let socket = UdpSocket::bind((HERE, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, heard) = watch::channel(Heard::default());
        let task = tokio::spawn(serve(socket, sender, inputs));
        Hub {
            address,
            heard,
            task,
        }
    }

    async fn hears(&self, until: impl FnMut(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.clone();
        soon(heard.wait_for(until)).await.unwrap().clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, heard: watch::Sender<Heard>, inputs: Vec<Input>) {
    let begun = Instant::now();
    let now = || Moment::ZERO + begun.elapsed();
    let settings = Settings {
        v6: false,
        ..Settings::default()
    };
    let port = socket.local_addr().unwrap().port();
    let rng = fastrand::Rng::with_seed(port.into());
    let mut machine = Dht::new(now(), settings, &Saved::default(), [7; 32], rng);
    let mut inputs = inputs.into_iter();
    let mut buffer = [0; 2048];
    loop {
        if let Some(input) = inputs.next() {
            machine.handle(now(), input);
        }
        while let Some(output) = machine.poll() {
            if let Output::Send { to, bytes } = output {
                socket.send_to(&bytes, to).await.unwrap();
            }
        }
        let wait = machine.deadline().unwrap().since(now());
        let input = match tokio::time::timeout(wait, socket.recv_from(&mut buffer)).await {
            Ok(received) => {
                let (length, from) = received.unwrap();
                let bytes = buffer[..length].to_vec();
                let named = bytes.windows(SWARM.len()).position(|part| part == SWARM);
                let named = named.and_then(|at| bytes.get(at + SWARM.len()..at + SWARM.len() + 20));
                let named = named.map(|name| InfoHash(name.try_into().unwrap()));
                let says = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
                heard.send_modify(|heard| {
                    heard.any += 1;
                    heard.searches += usize::from(says(b"1:q9:get_peers"));
                    heard.announces += usize::from(says(b"1:q13:announce_peer"));
                    heard.swarms.extend(named);
                });
                Input::Datagram { from, bytes }
            }
            Err(_) => Input::Tick,
        };
        machine.handle(now(), input);
    }
}

/// A configuration that takes part, and begins with `hub`.
fn taking_part(hub: Option<&Hub>, saved: Option<PathBuf>) -> EngineConfig {
    let mut config = config(HERE);
    config.transport.allow_net = vec!["127.0.0.0/8".parse().unwrap()];
    let router = |hub: &Hub| DhtRouter {
        contact: Contact::parse(&hub.address.to_string()).unwrap(),
        origin: OriginClass::User,
    };
    config.dht = Some(DhtConfig {
        routers: hub.map(router).into_iter().collect(),
        saved,
        settings: Settings::default(),
    });
    config
}

/// A leech that is told of nobody gets the sample.
async fn gets(sample: &Sample, config: EngineConfig) {
    let engine = Engine::start(config).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let torrent = engine.add(sample.add(target.path())).await.unwrap();
    wait(&torrent, |state| state.complete).await;
    sample.assert_is_in(target.path());
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn two_engines_find_each_other_by_a_third_that_has_the_dht_alone() {
    let (sample, hub) = (Sample::pieces(20), Hub::start().await);
    let seed = seed(&sample, taking_part(Some(&hub), None), &[]).await;
    hub.hears(|heard| heard.announces > 0).await;
    gets(&sample, taking_part(Some(&hub), None)).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn engines_without_utp_find_each_other_too() {
    let (sample, hub) = (Sample::pieces(20), Hub::start().await);
    let without_utp = || EngineConfig {
        peers_over: PeerTransports::Tcp,
        ..taking_part(Some(&hub), None)
    };
    let seed = seed(&sample, without_utp(), &[]).await;
    hub.hears(|heard| heard.announces > 0).await;
    gets(&sample, without_utp()).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_magnet_link_that_names_nobody_leads_to_its_torrent() {
    for kind in [Kind::V1, Kind::V2, Kind::Hybrid] {
        let sample = Sample::new(kind, &[300_000, 5, 2_000_000], 32 * 1024);
        let hub = Hub::start().await;
        let seed = seed(&sample, taking_part(Some(&hub), None), &[]).await;
        let swarms = sample.metainfo.info_hashes().swarms().count();
        hub.hears(|heard| heard.announces >= swarms).await;
        let leech = Engine::start(taking_part(Some(&hub), None)).await.unwrap();
        let mut search = search(&leech, &sample, Vec::new()).await;
        let found = soon(search.found()).await.unwrap();
        let target = tempfile::tempdir().unwrap();
        let add = AddTorrent {
            search: Some(search),
            ..AddTorrent::new(found.metainfo, target.path().to_path_buf())
        };
        let torrent = leech.add(add).await.unwrap();
        wait(&torrent, |state| state.complete).await;
        sample.assert_is_in(target.path());
        leech.stop(PATIENCE).await;
        seed.engine.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_private_torrent_is_never_asked_for() {
    let (private, public) = (private(300_000), Sample::pieces(3));
    let hub = Hub::start().await;
    let seed = seed(&private, taking_part(Some(&hub), None), &[]).await;
    let leech = Engine::start(taking_part(Some(&hub), None)).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..private.add(target.path())
    };
    let torrent = leech.add(add).await.unwrap();
    wait(&torrent, |state| state.complete).await;
    assert_eq!(hub.heard.borrow().any, 0, "nobody had a public torrent");
    // Another torrent of the same engine is one search and one announce.
    leech.add(public.add(target.path())).await.unwrap();
    let heard = hub.hears(|heard| heard.announces > 0).await;
    assert_eq!((heard.searches, heard.announces), (1, 1));
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

fn private(length: usize) -> Sample {
    let options = Options {
        kind: Kind::V1,
        private: true,
        piece_length: Some(PIECE),
        ..Options::default()
    };
    Sample::made(&[length], options, Vec::new())
}

fn swarm_of(sample: &Sample) -> InfoHash {
    sample.metainfo.info_hashes().primary()
}

/// The same v1 torrent, which names a contact of the DHT.
fn with_node(sample: &Sample, node: SocketAddr) -> Arc<Metainfo> {
    let (host, port) = (node.ip().to_string(), node.port());
    let mut file = b"d4:info".to_vec();
    file.extend(sample.metainfo.raw_info());
    file.extend(format!("5:nodesll{}:{host}i{port}eeee", host.len()).bytes());
    Arc::new(Metainfo::parse(&file, Limits::LOCAL).unwrap())
}

#[tokio::test]
async fn the_nodes_of_a_torrent_bring_it_into_the_dht() {
    let (sample, hub) = (Sample::pieces(3), Hub::start().await);
    let engine = Engine::start(taking_part(None, None)).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let metainfo = with_node(&sample, hub.address);
    let add = AddTorrent::new(metainfo, target.path().to_path_buf());
    engine.add(add).await.unwrap();
    let heard = hub.hears(|heard| heard.announces > 0).await;
    assert!(heard.swarms.iter().eq([&swarm_of(&sample)]));
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_handshake_says_whether_we_take_part_with_this_torrent() {
    let (public, private) = (Sample::pieces(3), private(300_000));
    let target = tempfile::tempdir().unwrap();
    for (config, expected) in [(taking_part(None, None), true), (config(HERE), false)] {
        let engine = Engine::start(config).await.unwrap();
        for (sample, expected) in [(&public, expected), (&private, false)] {
            engine.add(sample.add(target.path())).await.unwrap();
            let to = engine.listening()[0];
            let remote = Remote::connect(to, HERE, sample).await.unwrap();
            assert_eq!(remote.reserved.has(Feature::Dht), expected);
        }
        engine.stop(PATIENCE).await;
    }
}

async fn search(engine: &Engine, sample: &Sample, peers: Vec<SocketAddr>) -> MagnetHandle {
    let add = AddMagnet {
        magnet: Magnet::new(sample.metainfo.info_hashes()),
        peers,
        trackers: Vec::new(),
        known: None,
        route: None,
    };
    engine.add_magnet(add).await.unwrap()
}

#[tokio::test]
async fn a_magnet_that_turns_out_to_be_private_leaves_the_dht() {
    let (private, public) = (private(300_000), Sample::pieces(3));
    let (seed, hub) = (usual_seed(&private).await, Hub::start().await);
    // It wants to ask for what it takes for public, and knows nobody.
    let leech = Engine::start(taking_part(None, None)).await.unwrap();
    let mut search = search(&leech, &private, seed.peers()).await;
    let found = soon(search.found()).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        search: Some(search),
        ..AddTorrent::new(found.metainfo, target.path().to_path_buf())
    };
    let torrent = leech.add(add).await.unwrap();
    wait(&torrent, |state| state.complete).await;
    let metainfo = with_node(&public, hub.address);
    let add = AddTorrent::new(metainfo, target.path().to_path_buf());
    leech.add(add).await.unwrap();
    let heard = hub.hears(|heard| heard.announces > 0).await;
    assert!(heard.swarms.iter().eq([&swarm_of(&public)]));
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_private_torrent_parts_with_whom_its_magnet_met_in_the_dht() {
    let (sample, hub) = (private(20 * PIECE as usize), Hub::start().await);
    let stranger = TcpListener::bind((HERE, 0)).await.unwrap();
    let friend = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = stranger.local_addr().unwrap().port();
    let _announcing = Hub::announcing(swarm_of(&sample), port, &hub).await;
    hub.hears(|heard| heard.announces > 0).await;
    let leech = Engine::start(taking_part(Some(&hub), None)).await.unwrap();
    let mut search = search(&leech, &sample, Vec::new()).await;
    let met = soon(Remote::accept(&stranger, &sample)).await.unwrap();
    assert!(met.reserved.has(Feature::Dht));
    let target = tempfile::tempdir().unwrap();
    let getting = async {
        let found = soon(search.found()).await.unwrap();
        let add = AddTorrent {
            search: Some(search),
            peers: vec![friend.local_addr().unwrap()],
            ..AddTorrent::new(found.metainfo, target.path().to_path_buf())
        };
        leech.add(add).await.unwrap()
    };
    // It has everything, and is parted with.
    let serving = soon(serve_on(met, &sample, sample.metainfo.raw_info()));
    let (torrent, ()) = tokio::join!(getting, serving);
    let friend = soon(Remote::accept(&friend, &sample)).await.unwrap();
    assert!(!friend.reserved.has(Feature::Dht));
    assert_eq!(torrent.watch().borrow().verified_bytes, 0);
    leech.stop(PATIENCE).await;
}

/// Whether the file names the contact.
fn names(saved: &Path, contact: SocketAddr) -> bool {
    let mut bytes = vec![127, 0, 0, 1];
    bytes.extend(contact.port().to_be_bytes());
    let file = fs::read(saved).unwrap();
    file.windows(6).any(|part| part == bytes)
}

#[tokio::test]
async fn saved_contacts_bring_it_back_without_a_router() {
    let (sample, hub) = (Sample::pieces(3), Hub::start().await);
    let state = tempfile::tempdir().unwrap();
    let saved = state.path().join("contacts");
    // What is in the way is overwritten.
    fs::write(&saved, b"d8:contacts3:no!e").unwrap();
    let first = seed(&sample, taking_part(Some(&hub), Some(saved.clone())), &[]).await;
    hub.hears(|heard| heard.announces >= 1).await;
    first.engine.stop(PATIENCE).await;
    assert!(names(&saved, hub.address));
    let second = seed(&sample, taking_part(None, Some(saved)), &[]).await;
    hub.hears(|heard| heard.announces >= 2).await;
    second.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn peers_tell_each_other_where_their_dht_is() {
    let (sample, hub) = (Sample::pieces(40), Hub::start().await);
    let seed = seed(&sample, taking_part(Some(&hub), None), &[]).await;
    hub.hears(|heard| heard.announces >= 1).await;
    let state = tempfile::tempdir().unwrap();
    let saved = state.path().join("contacts");
    // It knows nobody but a peer.
    let leech = taking_part(None, Some(saved.clone()));
    let leech = Engine::start(leech).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let torrent = leech.add(add).await.unwrap();
    wait(&torrent, |state| state.complete).await;
    // The peer has told it of the hub.
    hub.hears(|heard| heard.announces >= 2).await;
    leech.stop(PATIENCE).await;
    assert!(names(&saved, seed.peers()[0]) && names(&saved, hub.address));
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn routers_that_do_not_answer_keep_nobody_from_stopping() {
    let silent = UdpSocket::bind((HERE, 0)).await.unwrap();
    let mut config = taking_part(None, None);
    config.dht = Some(DhtConfig {
        routers: vec![DhtRouter {
            contact: Contact::parse(&silent.local_addr().unwrap().to_string()).unwrap(),
            origin: OriginClass::User,
        }],
        ..DhtConfig::default()
    });
    let sample = Sample::pieces(3);
    let seed = seed(&sample, config, &[]).await;
    soon(silent.recv(&mut [0; 2048])).await.unwrap();
    let begun = Instant::now();
    seed.engine.stop(Duration::from_secs(20)).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}
