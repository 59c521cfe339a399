//! Peers that find each other by the DHT alone.

use crate::rig::{PATIENCE, Sample, config, seed, soon, wait};
use shoal_dht::{Dht, Input, Output, Saved, Settings};
use shoal_engine::{
    AddMagnet, AddTorrent, DhtConfig, DhtRouter, Engine, EngineConfig, PeerTransports,
};
use shoal_machine::{Machine, Moment};
use shoal_metainfo::Magnet;
use shoal_metainfo::create::{Kind, Options};
use shoal_metainfo::metainfo::Contact;
use shoal_transport::OriginClass;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Datagrams that a contact has received.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    any: usize,
    searches: usize,
    announces: usize,
}

/// A contact that has nothing but the DHT.
struct Hub {
    address: SocketAddr,
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Hub {
    async fn start() -> Self {
        let socket = UdpSocket::bind((HERE, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, heard) = watch::channel(Heard::default());
        let task = tokio::spawn(serve(socket, sender));
        Hub {
            address,
            heard,
            task,
        }
    }

    async fn hears(&self, until: impl FnMut(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.clone();
        *soon(heard.wait_for(until)).await.unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, heard: watch::Sender<Heard>) {
    let begun = Instant::now();
    let now = || Moment::ZERO + begun.elapsed();
    let settings = Settings {
        v6: false,
        ..Settings::default()
    };
    let rng = fastrand::Rng::with_seed(7);
    let mut machine = Dht::new(now(), settings, &Saved::default(), [7; 32], rng);
    let mut buffer = [0; 2048];
    loop {
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
                let says = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
                heard.send_modify(|heard| {
                    heard.any += 1;
                    heard.searches += usize::from(says(b"1:q9:get_peers"));
                    heard.announces += usize::from(says(b"1:q13:announce_peer"));
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
        let add = AddMagnet {
            magnet: Magnet::new(sample.metainfo.info_hashes()),
            peers: Vec::new(),
            trackers: Vec::new(),
            known: None,
        };
        let mut search = leech.add_magnet(add).await.unwrap();
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
    let options = Options {
        private: true,
        ..Options::default()
    };
    let (private, public) = (
        Sample::made(&[300_000], options, Vec::new()),
        Sample::pieces(3),
    );
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
