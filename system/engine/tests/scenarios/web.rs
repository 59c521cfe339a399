//! Downloads from HTTP origins that are made here, with and without peers, and from origins that do as they please.
//!
//! 127.0.0.1 is opened in the policy and plays the Internet; 127.0.0.2 is not and plays this machine.

use crate::rig::{PATIENCE, Sample, config, soon, usual_seed, wait};
use shoal_engine::{AddMagnet, AddTorrent, Engine, EngineConfig, Snapshot, TorrentHandle};
use shoal_metainfo::create::{Kind, Options};
use shoal_metainfo::metainfo::PlainFile;
use shoal_metainfo::{Magnet, Metainfo};
use shoal_transport::RateLimits;
use shoal_wire::{Handshake, PeerId, Reserved};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One request, as the origin hears it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    path: String,
    range: Option<(usize, usize)>,
    head: String,
}

/// What the origin sends.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// The connection breaks after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// So many bytes at a time, each after a pause.
    pub(crate) drip: Option<(usize, Duration)>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            drip: None,
        }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        let mut reply = Reply::new(302);
        reply.headers.push(format!("Location: {to}"));
        reply
    }
}

type Respond = dyn Fn(&Request) -> Reply + Send + Sync;

pub(crate) struct Origin {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    /// The most requests at once.
    peak: Arc<AtomicUsize>,
}

impl Origin {
    pub(crate) async fn start(
        respond: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Origin {
        Origin::at(HERE, respond).await
    }

    async fn at(ip: IpAddr, respond: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let origin = Origin {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
            peak: Arc::default(),
        };
        let respond: Arc<Respond> = Arc::new(respond);
        let (requests, connections) = (origin.requests.clone(), origin.connections.clone());
        let (peak, active) = (origin.peak.clone(), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (respond, requests) = (respond.clone(), requests.clone());
                let (peak, active) = (peak.clone(), active.clone());
                tokio::spawn(async move {
                    let mut stream = stream;
                    while let Some(request) = hear(&mut stream).await {
                        requests.lock().unwrap().push(request.clone());
                        let now = active.fetch_add(1, Ordering::SeqCst) + 1;
                        peak.fetch_max(now, Ordering::SeqCst);
                        let more = answer(&mut stream, respond(&request)).await;
                        active.fetch_sub(1, Ordering::SeqCst);
                        if !more {
                            return;
                        }
                    }
                });
            }
        });
        origin
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn hear(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let range = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": bytes=")?;
        let (first, last) = value.split_once('-')?;
        let range = (first.parse().unwrap(), last.parse::<usize>().unwrap() + 1);
        name.eq_ignore_ascii_case("range").then_some(range)
    });
    let path = head.split(' ').nth(1).unwrap().to_owned();
    Some(Request { path, range, head })
}

/// False where the connection is over.
async fn answer(stream: &mut TcpStream, reply: Reply) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for header in &reply.headers {
        head += &format!("{header}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    let (portion, pause) = reply.drip.unwrap_or((body.len().max(1), Duration::ZERO));
    let mut sent = stream.write_all(head.as_bytes()).await.is_ok();
    for part in body.chunks(portion) {
        tokio::time::sleep(pause).await;
        sent = sent && stream.write_all(part).await.is_ok();
    }
    sent && reply.cut.is_none()
}

/// The files of a sample by their paths on a server, as a proper server serves them.
fn files(sample: &Sample) -> Arc<BTreeMap<String, Vec<u8>>> {
    let files = sample.files.iter();
    let files = files.map(|(name, bytes)| (format!("/pub/sample/{name}"), bytes.clone()));
    Arc::new(files.collect())
}

fn serve(files: &BTreeMap<String, Vec<u8>>, request: &Request) -> Reply {
    let Some(bytes) = files.get(&request.path) else {
        return Reply::new(404);
    };
    part(bytes, request)
}

/// What a request asks for, of this file.
pub(crate) fn part(bytes: &[u8], request: &Request) -> Reply {
    match request.range {
        Some((first, end)) => {
            let mut reply = Reply::new(206);
            let (last, length) = (end - 1, bytes.len());
            reply
                .headers
                .push(format!("Content-Range: bytes {first}-{last}/{length}"));
            reply.body = bytes[first..end].to_vec();
            reply
        }
        None => Reply {
            body: bytes.to_vec(),
            ..Reply::new(200)
        },
    }
}

/// Torrents may name what is at 127.0.0.1, and nothing else here.
pub(crate) fn open(mut config: EngineConfig) -> EngineConfig {
    config.transport.isolated = false;
    config.transport.allow_net = vec!["127.0.0.1".parse().unwrap()];
    config
}

pub(crate) async fn leech() -> Engine {
    Engine::start(open(config(HERE))).await.unwrap()
}

fn made(kind: Kind, lengths: &[usize], web_seeds: Vec<String>) -> Sample {
    let options = Options {
        kind,
        piece_length: Some(64 * 1024),
        web_seeds,
        ..Options::default()
    };
    Sample::made(lengths, options, Vec::new())
}

/// The same files with another origin: the torrents differ in nothing that an origin sees.
fn again(kind: Kind, lengths: &[usize], origin: &Origin) -> Sample {
    made(kind, lengths, vec![origin.url("/pub/").to_string()])
}

const LENGTHS: &[usize] = &[700_000, 1, 100, 65_536, 0, 300_001, 16_384 * 9];

fn web_line(state: &Snapshot) -> shoal_engine::WebSeedLine {
    state.web_seeds[0].clone()
}

async fn given_up(torrent: &TorrentHandle) -> Snapshot {
    wait(torrent, |state| {
        let line = state.web_seeds.first();
        line.is_some_and(|line| !line.working && line.message.is_some())
    })
    .await
}

#[tokio::test]
async fn every_kind_of_torrent_is_downloaded_from_a_web_server_alone() {
    for kind in [Kind::V1, Kind::V2, Kind::Hybrid] {
        let content = files(&made(kind, LENGTHS, Vec::new()));
        let origin = Origin::start(move |request| serve(&content, request)).await;
        let sample = again(kind, LENGTHS, &origin);
        let engine = leech().await;
        let target = tempfile::tempdir().unwrap();
        let getting = engine.add(sample.add(target.path())).await.unwrap();
        let state = wait(&getting, |state| state.complete).await;
        sample.assert_is_in(target.path());
        assert_eq!(state.wasted_bytes, 0, "{kind:?}");
        engine.stop(PATIENCE).await;
        for request in origin.requests() {
            assert!(!request.path.contains(".pad"), "{request:?}");
            assert!(request.range.is_some(), "{request:?}");
            let plain = request.head.to_ascii_lowercase();
            assert!(plain.contains("accept-encoding: identity"), "{plain}");
        }
        assert!(origin.peak.load(Ordering::SeqCst) <= 4);
        assert!(origin.connections.load(Ordering::SeqCst) <= 8);
    }
}

#[tokio::test]
async fn peers_and_an_origin_give_their_parts_of_one_download() {
    let lengths = [4_000_000];
    let content = files(&made(Kind::V1, &lengths, Vec::new()));
    let origin = Origin::start(move |request| {
        let mut reply = serve(&content, request);
        reply.drip = Some((16 * 1024, Duration::from_millis(10)));
        reply
    })
    .await;
    let sample = again(Kind::V1, &lengths, &origin);
    let mut slow = config(HERE);
    slow.transport.limits = RateLimits {
        up_bytes_per_s: NonZeroU64::new(2_000_000),
        ..RateLimits::default()
    };
    let seed = crate::rig::seed(&sample, slow, &[]).await;
    let engine = leech().await;
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let getting = engine.add(add).await.unwrap();
    let state = wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    assert_eq!(state.failed_pieces, 0);
    // What moved is reported once a second.
    wait(&getting, |state| web_line(state).downloaded_bytes > 0).await;
    wait(&seed.torrent, |state| state.uploaded_bytes > 0).await;
    engine.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_script_serves_pieces_and_says_when_to_come_back() {
    let lengths = [200_000, 100_000];
    let sample = made(Kind::V1, &lengths, Vec::new());
    let content: Vec<u8> = sample.files.values().flatten().copied().collect();
    let refusals = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        if refusals.fetch_add(1, Ordering::SeqCst) == 0 {
            let body = b"1".to_vec();
            return Reply {
                body,
                ..Reply::new(503)
            };
        }
        let url: Url = format!("http://x{}", request.path).parse().unwrap();
        let query: BTreeMap<_, _> = url
            .query()
            .unwrap()
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .collect();
        let piece: usize = query["piece"].parse().unwrap();
        let slot = &content[piece * 65_536..((piece + 1) * 65_536).min(content.len())];
        let body = match query.get("ranges") {
            Some(ranges) => {
                let (first, last) = ranges.split_once('-').unwrap();
                &slot[first.parse().unwrap()..=last.parse().unwrap()]
            }
            None => slot,
        };
        Reply {
            body: body.to_vec(),
            ..Reply::new(200)
        }
    })
    .await;
    // There is no option for `httpseeds`: the key is put into the torrent's bytes.
    let bytes = [
        &b"d9:httpseedsl"[..],
        format!("{}:{}", origin.url("/s").as_str().len(), origin.url("/s")).as_bytes(),
        b"e4:info",
        sample.metainfo.raw_info(),
        b"e",
    ]
    .concat();
    let limits = shoal_metainfo::bencode::Limits::LOCAL;
    let metainfo = Metainfo::parse(&bytes, limits).unwrap();
    let engine = leech().await;
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent::new(Arc::new(metainfo), target.path().to_path_buf());
    let getting = engine.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_credentials_and_never_to_where_others_may_not_send_us()
{
    let content = files(&made(Kind::V1, LENGTHS, Vec::new()));
    let inside = Origin::at("127.0.0.2".parse().unwrap(), |_| Reply::new(404)).await;
    let mirror = Origin::start(move |request| serve(&content, request)).await;
    let (to, trap) = (mirror.url(""), inside.url(""));
    let trapping = Arc::new(AtomicUsize::new(0));
    let first = Origin::start(move |request| {
        let base = if request.path.starts_with("/trap") {
            trapping.fetch_add(1, Ordering::SeqCst);
            &trap
        } else {
            &to
        };
        let path = request
            .path
            .trim_start_matches("/trap")
            .trim_start_matches('/');
        Reply::redirect(&format!("{base}{path}"))
    })
    .await;
    let mut with_password = first.url("/pub/");
    with_password.set_username("me").unwrap();
    with_password.set_password(Some("secret")).unwrap();
    let web_seeds = vec![first.url("/trap/").to_string(), with_password.to_string()];
    let sample = made(Kind::V1, LENGTHS, web_seeds);
    let engine = leech().await;
    let target = tempfile::tempdir().unwrap();
    let getting = engine.add(sample.add(target.path())).await.unwrap();
    let state = wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    let says = |origin: &Origin| {
        let requests = origin.requests();
        requests
            .iter()
            .filter(|request| request.head.to_ascii_lowercase().contains("authorization"))
            .count()
    };
    assert!(says(&first) > 0);
    assert_eq!(says(&mirror), 0);
    assert_eq!(inside.requests().len(), 0);
    let trap = &state.web_seeds[0];
    assert!(!trap.working, "{trap:?}");
    let shown = format!("{:?}", state.web_seeds);
    assert!(!shown.contains("secret"), "{shown}");
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn an_origin_of_this_machine_is_not_asked_on_a_torrents_word() {
    let inside = Origin::at("127.0.0.2".parse().unwrap(), |_| Reply::new(404)).await;
    let sample = again(Kind::V1, &[100_000], &inside);
    let engine = leech().await;
    let target = tempfile::tempdir().unwrap();
    let getting = engine.add(sample.add(target.path())).await.unwrap();
    let state = given_up(&getting).await;
    assert_eq!(inside.requests().len(), 0);
    assert_eq!(web_line(&state).host, format!("http://{}", inside.address));
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn an_origin_that_lies_about_one_file_still_gives_the_others_and_peers_the_one() {
    let lengths = [6 * 65_536, 6 * 65_536];
    let content = files(&made(Kind::V1, &lengths, Vec::new()));
    let origin = Origin::start(move |request| {
        let mut reply = serve(&content, request);
        if request.path.ends_with("file-0") {
            reply.body.iter_mut().for_each(|byte| *byte ^= 1);
        }
        reply
    })
    .await;
    let sample = again(Kind::V1, &lengths, &origin);
    let engine = leech().await;
    let target = tempfile::tempdir().unwrap();
    let getting = engine.add(sample.add(target.path())).await.unwrap();
    let state = wait(&getting, |state| {
        state.verified_pieces == 6 && state.failed_pieces > 0
    })
    .await;
    assert!(state.failed_pieces <= 6, "{state:?}");
    engine.stop(PATIENCE).await;

    let seed = usual_seed(&sample).await;
    let engine = leech().await;
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path())
    };
    let getting = engine.add(add).await.unwrap();
    // Peers and the origin share an address here: whoever is blamed by address would take the peer with it.
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    engine.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn an_origin_that_is_busy_breaks_off_or_sends_another_range_is_tried_again_later() {
    let content = files(&made(Kind::V1, &[500_000], Vec::new()));
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let mut reply = serve(&content, request);
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => {
                reply = Reply::new(503);
                reply.headers.push("Retry-After: 1".to_owned());
            }
            1 => reply.headers = vec!["Content-Range: bytes 7-16390/500000".to_owned()],
            3 => reply.cut = Some(10_000),
            _ => {}
        }
        reply
    })
    .await;
    let sample = again(Kind::V1, &[500_000], &origin);
    let engine = leech().await;
    let target = tempfile::tempdir().unwrap();
    let getting = engine.add(sample.add(target.path())).await.unwrap();
    let state = wait(&getting, |state| state.complete).await;
    assert_eq!(state.failed_pieces, 0, "wrong ranges are not even stored");
    sample.assert_is_in(target.path());
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn origins_that_can_be_of_no_use_are_given_up_with_the_reason() {
    let length = 2_000_000;
    let content = files(&made(Kind::V1, &[length], Vec::new()));
    let whole = content.clone();
    let (zipped, longer) = (content.clone(), content.clone());
    let origins = [
        (Origin::start(|_| Reply::new(404)).await, "does not have"),
        (
            Origin::start(move |request| {
                let range = None;
                serve(
                    &whole,
                    &Request {
                        range,
                        ..request.clone()
                    },
                )
            })
            .await,
            "does not serve ranges",
        ),
        (
            Origin::start(move |request| {
                let mut reply = serve(&zipped, request);
                reply.headers.push("Content-Encoding: gzip".to_owned());
                reply
            })
            .await,
            "compresses",
        ),
        (
            Origin::start(move |request| {
                let mut reply = serve(&longer, request);
                for header in &mut reply.headers {
                    *header = header.replace("/2000000", "/2000001");
                }
                reply
            })
            .await,
            "it has a file of another length",
        ),
    ];
    for (origin, reason) in &origins {
        let sample = again(Kind::V1, &[length], origin);
        let engine = leech().await;
        let target = tempfile::tempdir().unwrap();
        let getting = engine.add(sample.add(target.path())).await.unwrap();
        let state = wait(&getting, |state| {
            let message = state
                .web_seeds
                .first()
                .and_then(|line| line.message.as_ref());
            message.is_some_and(|message| message.contains(reason))
        })
        .await;
        assert!(!state.complete);
        engine.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn the_rate_limit_holds_for_web_seeds() {
    let length = 3_000_000;
    let content = files(&made(Kind::V1, &[length], Vec::new()));
    let origin = Origin::start(move |request| serve(&content, request)).await;
    let sample = again(Kind::V1, &[length], &origin);
    let mut limited = open(config(HERE));
    limited.transport.limits = RateLimits {
        down_bytes_per_s: NonZeroU64::new(500_000),
        ..RateLimits::default()
    };
    let engine = Engine::start(limited).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let getting = engine.add(sample.add(target.path())).await.unwrap();
    wait(&getting, |state| state.complete).await;
    // A quarter of a second's worth may pass at once; and each of four connections is read ahead of by the HTTP client, by
    // 418 KB at the most.
    assert!(begun.elapsed() > Duration::from_secs(2));
    engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn who_knows_the_url_of_a_download_is_not_told_that_it_is_under_way() {
    let file = PlainFile {
        path: vec![b"file".to_vec()],
        length: 100_000,
        digest: None,
    };
    let metainfo = Metainfo::plain(&[file], None, b"https://example.org/file").unwrap();
    let name = metainfo.info_hashes().primary();
    let (engine, target) = (leech().await, tempfile::tempdir().unwrap());
    let add = AddTorrent::new(Arc::new(metainfo), target.path().to_path_buf());
    engine.add(add).await.unwrap();
    let mut stream = TcpStream::connect(engine.listening()[0]).await.unwrap();
    let asked = Handshake {
        reserved: Reserved::default(),
        info_hash: name,
        peer_id: PeerId([7; 20]),
    };
    stream.write_all(&asked.encode()).await.unwrap();
    let mut answer = Vec::new();
    // Closed or reset, whichever comes first.
    drop(soon(stream.read_to_end(&mut answer)).await);
    assert!(answer.is_empty(), "{answer:?}");
    engine.stop(PATIENCE).await;
}

/// A search for `sample` by files at these URLs alone.
fn by_files(sample: &Sample, sources: Vec<Url>) -> AddMagnet {
    let sources = sources.into_iter().map(String::from).collect();
    AddMagnet {
        magnet: Magnet {
            sources,
            ..Magnet::new(sample.metainfo.info_hashes())
        },
        peers: Vec::new(),
        trackers: Vec::new(),
        known: None,
    }
}

#[tokio::test]
async fn a_link_that_names_its_torrent_file_needs_no_peer() {
    for kind in [Kind::V1, Kind::V2, Kind::Hybrid] {
        let lengths = &[700_000, 100_000, 5];
        let plain = made(kind, lengths, Vec::new());
        let other = made(kind, &[1_000], Vec::new());
        let mut content = (*files(&plain)).clone();
        content.insert("/right.torrent".to_owned(), plain.torrent_file.clone());
        content.insert("/other.torrent".to_owned(), other.torrent_file.clone());
        content.insert("/none.torrent".to_owned(), b"<html>".to_vec());
        let origin = Origin::start(move |request| serve(&content, request)).await;
        let sample = again(kind, lengths, &origin);
        let names = ["/gone", "/none.torrent", "/other.torrent", "/right.torrent"];
        let mut add = by_files(&sample, names.map(|name| origin.url(name)).to_vec());
        add.magnet.web_seeds = vec![origin.url("/pub/").to_string()];
        let engine = leech().await;
        let mut search = engine.add_magnet(add).await.unwrap();
        let found = soon(search.found()).await.unwrap();
        assert_eq!(found.metainfo.verifier(), sample.metainfo.verifier());
        let target = tempfile::tempdir().unwrap();
        let add = AddTorrent {
            search: Some(search),
            ..AddTorrent::new(found.metainfo.clone(), target.path().to_path_buf())
        };
        let getting = engine.add(add).await.unwrap();
        wait(&getting, |state| state.complete).await;
        sample.assert_is_in(target.path());
        engine.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_link_cannot_have_us_fetch_a_torrent_file_from_this_machine() {
    let sample = made(Kind::V1, &[1_000], Vec::new());
    let file = sample.torrent_file.clone();
    let forbidden = Origin::at(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), move |_| Reply {
        body: file.clone(),
        ..Reply::new(200)
    })
    .await;
    let (direct, name) = (forbidden.url("/a.torrent"), forbidden.url("/b.torrent"));
    let redirects = Origin::start(move |_| Reply::redirect(name.as_str())).await;
    let engine = leech().await;
    let add = by_files(&sample, vec![direct, redirects.url("/")]);
    let mut search = engine.add_magnet(add).await.unwrap();
    let found = tokio::time::timeout(Duration::from_secs(1), search.found()).await;
    assert!(found.is_err(), "it was found");
    assert_eq!(redirects.requests().len(), 1);
    assert_eq!(forbidden.connections.load(Ordering::SeqCst), 0);
    engine.stop(PATIENCE).await;
}
