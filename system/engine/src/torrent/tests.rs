//! The books that a torrent keeps with its session.

use super::*;
use crate::admission::Admission;
use crate::changes::Board;
use crate::clock::Clock;
use crate::engine::AddTorrent;
use crate::mailbox::separate;
use crate::ports::OurPort;
use crate::register::Register;
use crate::route::RouteId;
use crate::snapshot::Snapshot;
use crate::start;
use crate::tracker::{AnnounceRules, Announcer, Standing, Totals, TrackerClient};
use crate::worker::Workers;
use shoal_metainfo::bencode::Limits;
use shoal_metainfo::{Bitfield, Metainfo, PieceIndex};
use shoal_session::Input as ToBooks;
use shoal_storage::{Storage, StorageConfig};
use shoal_swarm::torrent::{DEFAULT_MAX_CONNECTIONS, PeerRules, TorrentConfig};
use shoal_transport::{PeerDialer, RateLimits, Transport, TransportConfig};
use shoal_wire::PeerId;
use shoal_wire::mse::EncryptionPolicy;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// A file `hello` of five bytes.
const HELLO: &[u8] = b"d4:infod6:lengthi5e4:name5:hello12:piece lengthi16384e6:pieces20:\
    \xaa\xf4\xc6\x1d\xdc\xc5\xe8\xa2\xda\xbe\xde\x0f\x3b\x48\x2c\xd9\xae\xa9\x43\x4dee";

/// A torrent that does not run, and what it needs to be kept.
struct Still {
    task: Box<TorrentTask>,
    _workers: Workers,
    _target: tempfile::TempDir,
}

fn still() -> Still {
    still_with(Bitfield::empty(1), false)
}

/// As [`still`], with these pieces.
fn still_with(have: Bitfield, may_rest: bool) -> Still {
    let target = tempfile::tempdir().unwrap();
    let metainfo = Arc::new(Metainfo::parse(HELLO, Limits::LOCAL).unwrap());
    let add = AddTorrent::new(Arc::clone(&metainfo), target.path().to_path_buf());
    let workers = Workers::start(1).unwrap();
    let (session, _) = mpsc::channel(1);
    let clock = Clock::start();
    let transport = Transport::start(TransportConfig::default()).unwrap();
    let environment = Environment {
        clock,
        pool: workers.pool(),
        trackers: TrackerClient::new(clock, transport.clone()),
        dialer: PeerDialer::Tcp(transport.clone()),
        route: RouteId::OWN,
        transport,
        storage: Storage::start(StorageConfig::default()).unwrap(),
        session,
        port: OurPort::new(clock, None, None).1,
        local: None,
        dht: None,
        admission: Admission::default(),
        register: Register::default(),
        anonymous: false,
        exchange: true,
        peer_rules: PeerRules::default(),
        announces: AnnounceRules::default(),
        isolated: true,
        encryption: EncryptionPolicy::default(),
        tasks: TaskTracker::new(),
    };
    let introduction = Introduction {
        hashes: metainfo.info_hashes(),
        peer_id: PeerId([1; 20]),
        route: RouteId::OWN,
        dht: false,
        is_public: true,
    };
    let id = TorrentKey(1);
    let layout = Arc::new(metainfo.layout().clone());
    let torrent = Torrent::new(TorrentConfig {
        layout: Arc::clone(&layout),
        have,
        priorities: Vec::new(),
        sequential: false,
        our_peer_id: introduction.peer_id.0,
        seed: 1,
        max_connections: DEFAULT_MAX_CONNECTIONS,
        private: false,
        exchange: false,
        super_seed: false,
        peer_rules: PeerRules::default(),
    });
    let inbox = Inbox::new();
    let announcer = Announcer {
        clock: environment.clock,
        client: environment.trackers.clone(),
        peer_id: introduction.peer_id.0,
        port: environment.port.clone(),
        rules: environment.announces,
        key: 0,
        totals: Arc::new(Totals::default()),
        named_by_user: Vec::new(),
        _spoken: Register::default().spoken(introduction),
    };
    let (_, trackers) = Trackers::new(
        announcer,
        introduction.hashes.swarms(),
        &[],
        inbox.sender(),
        fastrand::Rng::with_seed(1),
        Standing::of(&torrent),
    );
    let spec = start::content_spec(&add, &[true]);
    let parts = Parts {
        info: Bytes::new(),
        id,
        introduction,
        registration: Register::default().enter(id, introduction).unwrap(),
        metainfo: Arc::clone(&metainfo),
        layout,
        on_disk: start::open(&environment.storage, spec).unwrap(),
        hashes: Arc::new(start::hash_server(&metainfo)),
        limiter: environment
            .transport
            .limiter()
            .torrent(RateLimits::default()),
        environment: Arc::new(environment),
        inbox,
        mailbox: Mailbox::new(),
        trackers,
        dht: None,
        local: None,
        wishes: Wishes::of(&add).unwrap(),
        shown: shown(id),
        seed_only: false,
        may_rest,
        names_peers: false,
    };
    Still {
        task: Box::new(TorrentTask::new(parts, torrent, Kept::new(0))),
        _workers: workers,
        _target: target,
    }
}

fn shown(id: TorrentKey) -> Shown {
    let (sender, watched) = watch::channel(Snapshot::default());
    Shown::new(sender, Board::default().post(id, watched))
}

fn dials_that_ended(task: &TorrentTask) -> usize {
    let ended = |input: &&ToBooks| matches!(input, ToBooks::DialEnded { .. });
    task.up.iter().filter(ended).count()
}

#[test]
fn what_is_not_used_of_a_grant_is_given_back() {
    let mut still = still();
    let task = &mut still.task;
    task.decided(FromSession::GrantDials(3));
    assert_eq!(dials_that_ended(task), 3);
    // Whatever comes of the dials is not heard here.
    let addresses = vec![
        "127.0.0.1:9".parse().unwrap(),
        "127.0.0.2:9".parse().unwrap(),
    ];
    let origin = Origin::User;
    task.hear(ToTorrent::Candidates(origin, addresses));
    task.up.clear();
    task.decided(FromSession::GrantDials(5));
    assert_eq!((task.dials.begun(), dials_that_ended(task)), (2, 3));
    // What it says it could use comes before, so that the session does not grant the same once more.
    assert!(matches!(task.up[0], ToBooks::WantsDials { count: 0, .. }));
}

#[test]
fn a_dial_that_failed_ends_once() {
    let mut still = still();
    let task = &mut still.task;
    task.hear(ToTorrent::Candidates(
        Origin::User,
        vec!["127.0.0.1:9".parse().unwrap()],
    ));
    task.decided(FromSession::GrantDials(1));
    task.up.clear();
    task.hear(ToTorrent::DialFailed(PeerKey(1)));
    assert_eq!(dials_that_ended(task), 1);
}

/// A future, and how often it was polled.
struct Polled<F> {
    inner: Pin<Box<F>>,
    polls: Arc<AtomicUsize>,
}

impl<F: Future> Future for Polled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.inner.as_mut().poll(context)
    }
}

fn whole() -> Bitfield {
    let mut have = Bitfield::empty(1);
    have.insert(PieceIndex(0));
    have
}

#[tokio::test(start_paused = true)]
async fn a_seed_without_peers_is_not_woken_in_an_hour() {
    let still = still_with(whole(), false);
    let mut shown = still.task.parts.shown.watch();
    let polls = Arc::new(AtomicUsize::new(0));
    let running = tokio::spawn(Polled {
        inner: Box::pin(still.task.run(Vec::new(), None)),
        polls: Arc::clone(&polls),
    });
    shown
        .wait_for(|snapshot| snapshot.phase == Phase::Seeding)
        .await
        .unwrap();
    tokio::task::yield_now().await;
    let before = polls.load(Ordering::Relaxed);
    // Time passes at once, from one timer to the next.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(polls.load(Ordering::Relaxed), before);
    running.abort();
}

#[tokio::test]
async fn a_seed_that_nobody_asks_goes_to_rest_and_gives_back_what_it_is_granted_there() {
    let (books, mut kept) = mpsc::channel(8);
    let mut still = still_with(whole(), true);
    let environment = Arc::get_mut(&mut still.task.parts.environment).unwrap();
    environment.session = books;
    let (mailbox, inbox) = (
        still.task.parts.mailbox.clone(),
        still.task.parts.inbox.sender(),
    );
    let shown = still.task.parts.shown.watch();
    let mut resting = still.task.run(Vec::new(), None).await.unwrap();
    assert_eq!(shown.borrow().phase, Phase::Seeding);
    mailbox.push(FromSession::GrantDials(2), separate);
    mailbox.push(FromSession::Unchoked(Vec::new()), separate);
    let mut given_back = 0;
    let woken = loop {
        tokio::select! {
            woken = resting.wait() => break woken,
            Some(told) = kept.recv() => {
                let ToSession::Torrent(ToBooks::DialEnded { connected: false, .. }) = told else {
                    panic!("something else is told");
                };
                given_back += 1;
                if given_back == 2 {
                    inbox.try_send(ToTorrent::Stop).unwrap();
                }
            }
        }
    };
    assert!(matches!(woken, Woken::Stopped));
}

#[tokio::test]
async fn a_seed_that_is_at_rest_wakes_up_for_peers_and_not_for_what_is_over() {
    let still = still_with(whole(), true);
    let inbox = still.task.parts.inbox.sender();
    let mut resting = still.task.run(Vec::new(), None).await.unwrap();
    let peers = ToTorrent::Candidates(Origin::Tracker, vec!["127.0.0.1:9".parse().unwrap()]);
    inbox.send(ToTorrent::DialFailed(PeerKey(1))).await.unwrap();
    inbox.send(peers).await.unwrap();
    let woken = resting.wait().await;
    assert!(matches!(
        woken,
        Woken::By(ToTorrent::Candidates(Origin::Tracker, _))
    ));
}
