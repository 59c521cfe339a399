//! What trackers hear, and what their peers are good for.

use crate::rig::{PATIENCE, Sample, config, soon, usual_seed, wait};
use shoal_engine::{AddMagnet, AddTorrent, Engine, EngineConfig, FoundTorrent};
use shoal_metainfo::Magnet;
use shoal_metainfo::create::Kind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An HTTP tracker that knows nobody and writes down what it hears.
pub(crate) struct Tracker {
    address: SocketAddr,
    heard: watch::Receiver<Vec<String>>,
    silent: Arc<AtomicBool>,
}

/// Lets an engine speak to trackers of torrents here, and to the peers that they name.
pub(crate) fn open(mut config: EngineConfig) -> EngineConfig {
    config.transport.isolated = false;
    config.transport.allow_net = vec!["127.0.0.0/8".parse().unwrap()];
    config
}

impl Tracker {
    pub(crate) async fn start() -> Tracker {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heard) = watch::channel(Vec::new());
        let silent = Arc::new(AtomicBool::new(false));
        let is_silent = Arc::clone(&silent);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, sender.clone(), Arc::clone(&is_silent)));
            }
        });
        Tracker {
            address,
            heard,
            silent,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/secret/announce", self.address)
    }

    /// Announces there are answered without figures.
    fn url_without_figures(&self) -> String {
        format!("http://{}/terse/announce", self.address)
    }

    /// From here on it hears everything and says nothing.
    pub(crate) fn be_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// How many announces and scrapes with this in their query it has heard.
    pub(crate) fn count(&self, what: &str) -> usize {
        let heard = self.heard.borrow();
        heard.iter().filter(|one| one.contains(what)).count()
    }

    /// Waits for `count` announces with this in their query; gives the last one.
    pub(crate) async fn hears(&self, count: usize, what: &str) -> String {
        let mut heard = self.heard.clone();
        let matching = |all: &Vec<String>| all.iter().filter(|one| one.contains(what)).count();
        let all = soon(heard.wait_for(|all| matching(all) >= count)).await;
        let all = all.unwrap();
        all.iter().rfind(|one| one.contains(what)).unwrap().clone()
    }
}

async fn answer(mut stream: TcpStream, heard: watch::Sender<Vec<String>>, silent: Arc<AtomicBool>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let text = String::from_utf8_lossy(&request);
    let line = text.lines().next().unwrap().to_owned();
    let is_silent = silent.load(Ordering::Relaxed);
    heard.send_modify(|all| all.push(line));
    if is_silent {
        return std::future::pending().await;
    }
    let body = if text.starts_with("GET /terse/announce") {
        b"d8:intervali1800e5:peers0:e".to_vec()
    } else if text.starts_with("GET /terse/scrape") {
        let figures = b"d8:completei5e10:downloadedi7e10:incompletei6ee";
        [b"d5:filesd20:", &info_hash(&text)[..], figures, b"ee"].concat()
    } else {
        b"d8:completei1e10:incompletei2e8:intervali1800e5:peers0:e".to_vec()
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
    let head = format!("{head}Connection: close\r\n\r\n");
    drop(stream.write_all(&[head.as_bytes(), &body].concat()).await);
}

/// The info hash in the query of a request.
fn info_hash(request: &str) -> Vec<u8> {
    let (_, line) = request.split_once('?').unwrap();
    let query = line.split(' ').next().unwrap();
    let (_, encoded) = query.split_once("info_hash=").unwrap();
    let mut bytes = Vec::new();
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            }
            b'&' => break,
            byte => bytes.push(byte),
        }
    }
    bytes
}

/// The value of a key in the query of a request line.
fn value(line: &str, key: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("{key}=")).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

#[tokio::test]
async fn a_tracker_hears_of_the_start_the_completion_and_the_end() {
    let tracker = Tracker::start().await;
    let sample = Sample::with(Kind::V1, &[400_000], 16 * 1024, &[tracker.url()], vec![]);
    let seed = usual_seed(&sample).await;
    let leech = Engine::start(open(config(HERE))).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    let started = tracker.hears(1, "event=started").await;
    assert_eq!(value(&started, "left"), 400_000);
    assert_eq!(
        value(&started, "port"),
        u64::from(leech.listening()[0].port())
    );
    let line = |state: &shoal_engine::Snapshot| state.trackers.first().cloned();
    let state = wait(&getting, |state| {
        line(state).is_some_and(|line| line.working)
    })
    .await;
    let line = line(&state).unwrap();
    assert_eq!(line.host, tracker.url().replace("/secret/announce", ""));
    assert_eq!((line.seeds, line.leeches), (Some(1), Some(2)));

    // Its peers are not the tracker's business here: it is dialled.
    let again = AddTorrent {
        seed_only: true,
        peers: leech.listening().to_vec(),
        ..sample.add(seed.directory.path())
    };
    let dialler = Engine::start(config(HERE)).await.unwrap();
    dialler.add(again).await.unwrap();
    wait(&getting, |state| state.complete).await;
    let completed = tracker.hears(1, "event=completed").await;
    assert_eq!(value(&completed, "left"), 0);
    leech.stop(PATIENCE).await;
    let stopped = tracker.hears(1, "event=stopped").await;
    assert_eq!(
        (value(&stopped, "left"), value(&stopped, "numwant")),
        (0, 0)
    );
    dialler.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_tracker_does_not_hear_that_what_was_there_before_its_magnet_was_completed() {
    let tracker = Tracker::start().await;
    let sample = Sample::pieces(20);
    let target = tempfile::tempdir().unwrap();
    sample.write(target.path());
    let engine = Engine::start(open(config(HERE))).await.unwrap();
    let add = AddMagnet {
        magnet: Magnet::new(sample.metainfo.info_hashes()),
        peers: Vec::new(),
        trackers: vec![tracker.url().parse().unwrap()],
        known: Some(FoundTorrent {
            metainfo: Arc::clone(&sample.metainfo),
            file: Arc::from([]),
        }),
    };
    let search = engine.add_magnet(add).await.unwrap();
    tracker.hears(1, "event=started").await;
    let add = AddTorrent {
        search: Some(search),
        ..sample.add(target.path())
    };
    let getting = engine.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    engine.stop(PATIENCE).await;
    let stopped = tracker.hears(1, "event=stopped").await;
    assert_eq!(value(&stopped, "left"), 0);
    let heard = tracker.heard.borrow().clone();
    let completed = heard.iter().any(|line| line.contains("event=completed"));
    assert!(!completed, "{heard:?}");
}

#[tokio::test]
async fn a_tracker_does_not_hear_that_a_selection_is_the_whole() {
    let tracker = Tracker::start().await;
    let sample = Sample::with(
        Kind::V1,
        &[100_000, 16 * 1024, 300_000],
        16 * 1024,
        &[tracker.url()],
        vec![],
    );
    let seed = usual_seed(&sample).await;
    let leech = Engine::start(open(config(HERE))).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path()).select(&[false, true, false])
    };
    let getting = leech.add(add).await.unwrap();
    tracker.hears(1, "event=started").await;
    let state = wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;
    let stopped = tracker.hears(1, "event=stopped").await;
    let total = 100_000 + 16 * 1024 + 300_000;
    assert_eq!(value(&stopped, "left"), total - state.verified_bytes);
    let heard = tracker.heard.borrow().clone();
    assert!(
        !heard.iter().any(|line| line.contains("event=completed")),
        "{heard:?}"
    );
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_went_wrong_with_a_tracker_is_told_without_its_secrets() {
    // Nobody listens on this port any more.
    let gone = TcpListener::bind((HERE, 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://user:word@{gone}/hunter2/announce?pass=hunter3");
    let sample = Sample::with(Kind::V1, &[10_000], 16 * 1024, &[url], vec![]);
    let leech = Engine::start(open(config(HERE))).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    let failed = |state: &shoal_engine::Snapshot| {
        let line = state.trackers.first();
        line.is_some_and(|line| line.message.is_some() && !line.working)
    };
    let state = wait(&getting, failed).await;
    let line = &state.trackers[0];
    let shown = format!("{} {}", line.host, line.message.as_ref().unwrap());
    assert!(
        !shown.contains("hunter") && !shown.contains("word"),
        "{shown}"
    );
    assert!(shown.contains("cannot be reached"), "{shown}");
    leech.stop(PATIENCE).await;
}

/// A UDP tracker that gives one peer to everybody, and counts connect requests.
async fn udp_tracker(peer: SocketAddr) -> (SocketAddr, Arc<AtomicU32>) {
    let connects = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connects);
    let socket = UdpSocket::bind((HERE, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let IpAddr::V4(ip) = peer.ip() else {
        panic!("an IPv4 tracker");
    };
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut datagram).await {
            let (action, transaction) = (&datagram[8..12], &datagram[12..16]);
            let mut reply = [action, transaction].concat();
            if action == [0; 4] {
                counted.fetch_add(1, Ordering::Relaxed);
                reply.extend(77_u64.to_be_bytes());
            } else {
                assert_eq!(datagram[..8], 77_u64.to_be_bytes());
                for number in [1800_u32, 0, 1] {
                    reply.extend(number.to_be_bytes());
                }
                reply.extend(ip.octets());
                reply.extend(peer.port().to_be_bytes());
            }
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (address, connects)
}

#[tokio::test]
async fn a_peer_from_a_udp_tracker_is_dialled_and_downloaded_from() {
    let sample = Sample::pieces(8);
    let seed = usual_seed(&sample).await;
    let (tracker, _) = udp_tracker(seed.peers()[0]).await;
    let leech = Engine::start(open(config(HERE))).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        trackers: vec![format!("udp://{tracker}/announce").parse().unwrap()],
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn torrents_share_the_connection_to_a_udp_tracker() {
    let nobody = TcpListener::bind((HERE, 0)).await.unwrap();
    let (tracker, connects) = udp_tracker(nobody.local_addr().unwrap()).await;
    let leech = Engine::start(open(config(HERE))).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let answers = |state: &shoal_engine::Snapshot| state.trackers.iter().any(|line| line.working);
    for (folder, pieces) in [("a", 2), ("b", 3)] {
        let sample = Sample::pieces(pieces);
        let folder = target.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        let add = AddTorrent {
            trackers: vec![format!("udp://{tracker}").parse().unwrap()],
            ..sample.add(&folder)
        };
        let getting = leech.add(add).await.unwrap();
        wait(&getting, answers).await;
    }
    assert_eq!(connects.load(Ordering::Relaxed), 1);
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_tracker_that_answers_without_figures_is_scraped_for_them() {
    let tracker = Tracker::start().await;
    let url = tracker.url_without_figures();
    let sample = Sample::with(Kind::V1, &[10_000], 16 * 1024, &[url], vec![]);
    let leech = Engine::start(open(config(HERE))).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    let state = wait(&getting, |state| {
        let line = state.trackers.first();
        line.is_some_and(|line| line.seeds.is_some())
    })
    .await;
    let line = &state.trackers[0];
    assert!(line.working && line.message.is_none(), "{line:?}");
    let figures = (line.seeds, line.leeches, line.completed);
    assert_eq!(figures, (Some(5), Some(6), Some(7)));
    leech.stop(PATIENCE).await;
    let heard = tracker.heard.borrow().clone();
    let scrapes = heard.iter().filter(|line| line.contains("/terse/scrape"));
    assert_eq!(scrapes.count(), 1, "{heard:?}");
}
