//! The books that a torrent keeps with its session.

use super::*;
use crate::admission::Admission;
use crate::changes::Board;
use crate::clock::Clock;
use crate::engine::AddTorrent;
use crate::ports::OurPort;
use crate::register::Register;
use crate::snapshot::Snapshot;
use crate::start;
use crate::tracker::{Announcer, Standing, Totals, TrackerClient};
use crate::worker::Workers;
use shoal_metainfo::bencode::Limits;
use shoal_metainfo::{Bitfield, Metainfo};
use shoal_session::Input as ToBooks;
use shoal_storage::{Storage, StorageConfig};
use shoal_swarm::torrent::{DEFAULT_MAX_CONNECTIONS, TorrentConfig};
use shoal_transport::{PeerDialer, RateLimits, Transport, TransportConfig};
use shoal_wire::PeerId;
use shoal_wire::mse::EncryptionPolicy;
use tokio::sync::watch;

/// A file `hello` of five bytes.
const HELLO: &[u8] = b"d4:infod6:lengthi5e4:name5:hello12:piece lengthi16384e6:pieces20:\
    \xaa\xf4\xc6\x1d\xdc\xc5\xe8\xa2\xda\xbe\xde\x0f\x3b\x48\x2c\xd9\xae\xa9\x43\x4dee";

/// A torrent that does not run, and what it needs to be kept.
struct Still {
    task: TorrentTask,
    _workers: Workers,
    _target: tempfile::TempDir,
}

fn still() -> Still {
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
        transport,
        storage: Storage::start(StorageConfig::default()).unwrap(),
        session,
        port: OurPort::new(clock, None, None).1,
        local: None,
        dht: None,
        admission: Admission::default(),
        isolated: true,
        encryption: EncryptionPolicy::default(),
    };
    let introduction = Introduction {
        hashes: metainfo.info_hashes(),
        peer_id: PeerId([1; 20]),
        dht: false,
        is_public: true,
    };
    let id = TorrentKey(1);
    let layout = Arc::new(metainfo.layout().clone());
    let torrent = Torrent::new(TorrentConfig {
        layout: Arc::clone(&layout),
        have: Bitfield::empty(1),
        priorities: Vec::new(),
        sequential: false,
        our_peer_id: introduction.peer_id.0,
        seed: 1,
        max_connections: DEFAULT_MAX_CONNECTIONS,
        private: false,
        exchange: false,
        super_seed: false,
    });
    let inbox = Inbox::new();
    let announcer = Announcer {
        clock: environment.clock,
        client: environment.trackers.clone(),
        peer_id: introduction.peer_id.0,
        port: environment.port.clone(),
        key: 0,
        totals: Arc::new(Totals::default()),
        named_by_user: Vec::new(),
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
        environment,
        inbox,
        mailbox: Mailbox::new(),
        trackers,
        dht: None,
        wishes: Wishes::of(&add).unwrap(),
        shown: shown(id),
        seed_only: false,
        resumed_pieces: 0,
    };
    Still {
        task: TorrentTask::new(parts, torrent),
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
