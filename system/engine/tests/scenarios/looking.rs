//! What a torrent shows of its files, pieces, peers and trackers, and reading its files while they arrive.

use crate::disk::OddDisk;
use crate::remote::{Remote, block, request};
use crate::rig::{PATIENCE, PIECE, Sample, config, engine, seed, soon, usual_seed, wait};
use crate::trackers::Tracker;
use shoal_engine::{
    AddTorrent, CommandError, Engine, EngineConfig, FilePriority, FileReader, PeerOrigin, Phase,
    PieceState, TrackerState,
};
use shoal_metainfo::FileIndex;
use shoal_metainfo::create::Kind;
use shoal_transport::RateLimits;
use shoal_wire::{ExtendedHandshake, Message};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn files_and_pieces_are_shown_line_by_line() {
    let sample = Sample::new(Kind::V1, &[40_000, 0, 100_000], PIECE);
    let seed = usual_seed(&sample).await;
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let getting = leech
        .add(sample.add(target.path()).select(&[true, true, false]))
        .await
        .unwrap();
    wait(&getting, |state| state.phase == Phase::Downloading).await;
    let files = getting.files().await.unwrap();
    assert_eq!(files[0].pieces, 0..3);
    assert_eq!((files[0].verified_bytes, files[0].available_pieces), (0, 0));
    getting.add_peers(seed.peers()).await.unwrap();
    wait(&getting, |state| state.complete).await;
    let files = getting.files().await.unwrap();
    let verified: Vec<u64> = files.iter().map(|file| file.verified_bytes).collect();
    // The last piece of the first file has the beginning of the last one.
    assert_eq!(verified, [40_000, 0, 3 * u64::from(PIECE) - 40_000]);
    assert_eq!(files[2].priority, FilePriority::Skip);
    let pieces = getting.pieces().await.unwrap();
    let there = pieces
        .iter()
        .take_while(|line| line.state == PieceState::Verified);
    assert_eq!((there.count(), pieces.len()), (3, 9));
    assert_eq!(pieces[3].priority, FilePriority::Skip);
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_peer_is_shown_with_what_it_says_and_how_it_is_connected() {
    let sample = Sample::pieces(8);
    let seed = usual_seed(&sample).await;
    let mut remote = Remote::connect(seed.peers()[0], HERE, &sample)
        .await
        .unwrap();
    wait(&seed.torrent, |state| {
        let line = state.peers.first();
        let client = line.and_then(|line| line.client.clone());
        client.is_some_and(|client| client.starts_with("Shoal "))
    })
    .await;
    let handshake = ExtendedHandshake {
        client: Some("Test 1.0".to_owned()),
        ..ExtendedHandshake::default()
    };
    let messages = [
        Message::HaveNone,
        Message::ExtendedHandshake(handshake),
        Message::Interested,
        Message::Have(shoal_metainfo::PieceIndex(3)),
    ];
    remote.say(&messages).await.unwrap();
    remote.hear_until(|said| *said == Message::Unchoke).await;
    remote.say(&[Message::Request(request(5))]).await.unwrap();
    remote
        .hear_until(|said| matches!(said, Message::Piece(_)))
        .await;
    let state = wait(&seed.torrent, |state| {
        let line = state.peers.first();
        line.is_some_and(|line| {
            line.client.as_deref() == Some("Test 1.0") && line.uploaded_bytes > 0
        })
    })
    .await;
    let line = &state.peers[0];
    assert_eq!(line.origin, PeerOrigin::Incoming);
    assert!(!line.over_utp && !line.encrypted && !line.seed && line.chokes_us);
    assert!(line.interested && !line.choked && !line.we_are_interested);
    assert_eq!((line.pieces, line.uploaded_bytes), (1, u64::from(PIECE)));
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_tracker_is_shown_with_its_tier_and_its_next_announce() {
    let (one, two) = (Tracker::start().await, Tracker::start().await);
    let sample = Sample::with(Kind::V1, &[70_000], PIECE, &[one.url(), two.url()], vec![]);
    let leech = Engine::start(crate::trackers::open(config(HERE)))
        .await
        .unwrap();
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    let state = wait(&getting, |state| {
        state.trackers.iter().filter(|line| line.working).count() == 2
    })
    .await;
    let tiers: Vec<usize> = state.trackers.iter().map(|line| line.tier).collect();
    assert_eq!(tiers, [0, 1]);
    for line in &state.trackers {
        assert_eq!(line.state, TrackerState::Working);
        assert_eq!(line.swarm, sample.metainfo.info_hashes().primary());
        assert!(line.next_announce.unwrap() > std::time::Instant::now());
    }
    leech.stop(PATIENCE).await;
}

async fn read(mut reader: FileReader) -> Result<Vec<u8>, CommandError> {
    let mut all = Vec::new();
    while let Some(bytes) = soon(reader.next()).await? {
        assert!(!bytes.is_empty());
        all.extend_from_slice(&bytes);
    }
    assert_eq!(reader.left(), 0);
    Ok(all)
}

#[tokio::test]
async fn a_range_is_read_as_it_arrives_and_before_everything_else() {
    let sample = Sample::pieces(60);
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    let (begin, end) = (40 * u64::from(PIECE) + 100, 44 * u64::from(PIECE) + 7);
    let reader = getting.read(FileIndex(0), begin..end).await.unwrap();
    let reading = tokio::spawn(read(reader));
    // Its claim is there before somebody to fetch from is.
    tokio::task::yield_now().await;
    wait(&getting, |state| state.phase == Phase::Downloading).await;
    let peer = listener.local_addr().unwrap();
    getting.add_peers(vec![peer]).await.unwrap();
    let remote = soon(Remote::accept(&listener, &sample)).await.unwrap();
    let requests = soon(remote.serve(|request| block(&sample, request))).await;
    let first: Vec<u32> = requests[..5].iter().map(|asked| asked.piece.0).collect();
    assert_eq!(first, [40, 41, 42, 43, 44]);
    let bytes = soon(reading).await.unwrap().unwrap();
    let expected = usize::try_from(begin).unwrap()..usize::try_from(end).unwrap();
    assert!(bytes == sample.bytes()[expected]);
    // What is there is read again, and an empty range is nothing.
    let reader = getting.read(FileIndex(0), 0..300_000).await.unwrap();
    assert!(read(reader).await.unwrap() == sample.bytes()[..300_000]);
    let reader = getting.read(FileIndex(0), 7..7).await.unwrap();
    assert!(read(reader).await.unwrap().is_empty());
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn who_reads_over_the_border_of_files_or_what_is_not_wanted_is_told() {
    let sample = Sample::new(Kind::Hybrid, &[40_000, 50_000], PIECE);
    let seed = usual_seed(&sample).await;
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let add = sample.add(target.path());
    let names = sample
        .metainfo
        .files()
        .iter()
        .map(|file| !file.padding && file.length == 40_000);
    let wanted: Vec<bool> = names.collect();
    let add = AddTorrent {
        peers: seed.peers(),
        ..add.select(&wanted)
    };
    let getting = leech.add(add).await.unwrap();
    let file = |length| {
        let files = (0..).zip(sample.metainfo.files());
        let mut found = files.filter(|(_, file)| file.length == length && !file.padding);
        FileIndex(found.next().unwrap().0)
    };
    let (first, second) = (file(40_000), file(50_000));
    let beyond = getting.read(first, 0..40_001).await;
    assert!(matches!(beyond, Err(CommandError::NoSuchRange)));
    let nothing = getting.read(FileIndex(99), 0..1).await;
    assert!(matches!(nothing, Err(CommandError::NoSuchRange)));
    let reader = getting.read(first, 0..40_000).await.unwrap();
    assert!(read(reader).await.unwrap() == sample.files["file-0"]);
    let mut reader = getting.read(second, 0..50_000).await.unwrap();
    assert!(matches!(
        soon(reader.next()).await,
        Err(CommandError::NotWanted)
    ));
    let wanted = vec![FilePriority::Normal; sample.metainfo.files().len()];
    getting.set_priorities(wanted).await.unwrap();
    assert!(read(reader).await.unwrap() == sample.files["file-1"]);
    getting.stop().await;
    let mut ended = getting.watch();
    soon(ended.wait_for(|state| state.phase == Phase::Stopped))
        .await
        .unwrap();
    soon(async { while ended.changed().await.is_ok() {} }).await;
    let gone = getting.read(first, 0..1).await;
    assert!(matches!(gone, Err(CommandError::Gone)));
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_reader_that_comes_while_files_are_checked_reads_when_they_are() {
    let sample = Sample::pieces(20);
    let target = tempfile::tempdir().unwrap();
    sample.write(target.path());
    let disk = Arc::new(OddDisk::default());
    disk.reads_hang.store(true, Ordering::Relaxed);
    let mut config = config(HERE);
    config.disk = Some(Arc::<OddDisk>::clone(&disk));
    let leech = Engine::start(config).await.unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    wait(&getting, |state| {
        matches!(state.phase, Phase::Checking { .. })
    })
    .await;
    let handle = getting.clone();
    let reading = tokio::spawn(async move {
        let reader = handle.read(FileIndex(0), 5..20 * u64::from(PIECE)).await;
        read(reader.unwrap()).await
    });
    let files = soon(getting.files()).await.unwrap();
    assert_eq!(files[0].verified_bytes, 0);
    disk.reads_hang.store(false, Ordering::Relaxed);
    let bytes = soon(reading).await.unwrap().unwrap();
    assert!(bytes == sample.bytes()[5..]);
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn of_whoever_is_anonymous_a_peer_learns_no_name() {
    let sample = Sample::pieces(200);
    let nameless = EngineConfig {
        anonymous: true,
        ..config(HERE)
    };
    let seed = seed(&sample, nameless, &[]).await;
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        limits: RateLimits {
            down_bytes_per_s: NonZeroU64::new(40_000),
            ..RateLimits::default()
        },
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    // What it says of itself comes before what it has.
    let state = wait(&getting, |state| {
        state.downloaded_bytes > 0 && !state.peers.is_empty()
    });
    assert_eq!(state.await.peers[0].client, None);
    let named = wait(&seed.torrent, |state| {
        let line = state.peers.first();
        line.is_some_and(|line| line.client.is_some())
    });
    named.await;
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}
