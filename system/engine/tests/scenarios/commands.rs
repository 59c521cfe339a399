//! What a person asks of torrents that are there, and of all of them.

use crate::disk::OddDisk;
use crate::remote::{Remote, block};
use crate::rig::{
    ELSEWHERE, PATIENCE, PIECE, Sample, config, engine, seed, soon, usual_seed, wait,
};
use crate::trackers::Tracker;
use crate::web::{self, Origin, Reply};
use shoal_engine::{
    AddTorrent, CommandError, Engine, FilePriority, LimitGroup, Phase, RateLimits, SessionSettings,
};
use shoal_metainfo::create::Kind;
use shoal_wire::Message;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// So low that nothing that is looked for here comes to pass before it is lifted.
fn hardly_any() -> RateLimits {
    RateLimits {
        down_bytes_per_s: NonZeroU64::new(1),
        ..RateLimits::default()
    }
}

#[tokio::test]
async fn limits_of_a_torrent_a_group_and_everything_change_while_bytes_pass() {
    let sample = Sample::pieces(40);
    let seed = usual_seed(&sample).await;
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let group = LimitGroup::new(hardly_any());
    let add = AddTorrent {
        peers: seed.peers(),
        limits: hardly_any(),
        limit_groups: vec![group.clone()],
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.peers.iter().any(|peer| peer.seed)).await;
    leech.handle().set_limits(hardly_any());
    getting.set_limits(RateLimits::default()).unwrap();
    leech.handle().set_limits(RateLimits::default());
    assert!(!getting.watch().borrow().complete);
    // The group's limit still holds; the torrent leaves it.
    getting.set_limit_groups(&[]).unwrap();
    wait(&getting, |state| state.complete).await;
    getting.stop().await;
    wait_for_the_end(&getting).await;
    assert!(matches!(
        getting.set_limits(hardly_any()),
        Err(CommandError::Gone)
    ));
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

async fn wait_for_the_end(torrent: &shoal_engine::TorrentHandle) {
    let mut watch = torrent.watch();
    let is_over = |state: &shoal_engine::Snapshot| state.phase == Phase::Stopped;
    soon(watch.wait_for(is_over)).await.unwrap();
    // The sender goes last.
    soon(async { while watch.changed().await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_torrent_that_has_ended_takes_no_commands() {
    let sample = Sample::pieces(2);
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    getting.stop().await;
    wait_for_the_end(&getting).await;
    let gone = |outcome| matches!(outcome, Err(CommandError::Gone));
    assert!(gone(getting.set_sequential(true).await));
    assert!(gone(getting.set_priorities(vec![FilePriority::High]).await));
    assert!(gone(getting.verify().await));
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn files_are_skipped_and_wanted_again_while_it_runs() {
    use FilePriority::{High, Highest, Normal, Skip};
    let sample = Sample::new(Kind::V1, &[100_000, 16 * 1024, 300_001], PIECE);
    let seed = usual_seed(&sample).await;
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: seed.peers(),
        ..sample.add(target.path()).select(&[false, true, false])
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    assert!(!sample.path(target.path(), 0).exists());
    let wrong = getting.set_priorities(vec![Normal]).await;
    let wrong = wrong.unwrap_err().to_string();
    assert_eq!(wrong, "the torrent has 3 files, and there are 1 priorities");
    getting
        .set_priorities(vec![High, Normal, Skip])
        .await
        .unwrap();
    let state = wait(&getting, |state| state.complete).await;
    assert!(state.verified_pieces < sample.piece_count());
    let first = fs::read(sample.path(target.path(), 0)).unwrap();
    assert!(first == sample.files["file-0"]);
    assert!(!sample.path(target.path(), 2).exists());
    getting
        .set_priorities(vec![Skip, Skip, Highest])
        .await
        .unwrap();
    wait(&getting, |state| {
        state.complete && state.wanted_bytes > 300_000
    })
    .await;
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
    seed.engine.stop(PATIENCE).await;
}

/// The pieces that a leech asks a peer for that has everything, in that order.
async fn asked_for(sample: &Sample, add: impl FnOnce(AddTorrent) -> AddTorrent) -> Vec<u32> {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let plain = AddTorrent {
        peers: vec![listener.local_addr().unwrap()],
        ..sample.add(target.path())
    };
    let getting = leech.add(add(plain)).await.unwrap();
    let remote = soon(Remote::accept(&listener, sample)).await.unwrap();
    let requests = soon(remote.serve(|request| block(sample, request))).await;
    wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;
    requests.iter().map(|request| request.piece.0).collect()
}

#[tokio::test]
async fn the_ends_of_a_file_come_first_where_that_is_asked_for() {
    let sample = Sample::pieces(40);
    let pieces = asked_for(&sample, |add| AddTorrent {
        first_last: true,
        sequential: true,
        ..add
    })
    .await;
    assert_eq!(pieces[..3], [0, 39, 1]);
}

#[tokio::test]
async fn an_order_and_priorities_hold_from_when_they_are_given() {
    let sample = Sample::pieces(60);
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let (leech, target) = (engine().await, tempfile::tempdir().unwrap());
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    wait(&getting, |state| state.phase == Phase::Downloading).await;
    getting.set_sequential(true).await.unwrap();
    getting.set_first_last(true).await.unwrap();
    let peer = listener.local_addr().unwrap();
    getting.add_peers(vec![peer]).await.unwrap();
    let remote = soon(Remote::accept(&listener, &sample)).await.unwrap();
    let requests = soon(remote.serve(|request| block(&sample, request))).await;
    let pieces: Vec<u32> = requests.iter().map(|request| request.piece.0).collect();
    let expected: Vec<u32> = [0, 59].into_iter().chain(1..59).collect();
    assert_eq!(pieces, expected);
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_said_while_files_are_checked_holds_when_it_runs() {
    let sample = Sample::new(Kind::V1, &[100_000, 100_000], PIECE);
    let tracker = Tracker::start().await;
    let target = tempfile::tempdir().unwrap();
    sample.write(target.path());
    let mut bytes = sample.files["file-1"].clone();
    bytes[50_000] ^= 1;
    fs::write(sample.path(target.path(), 1), bytes).unwrap();
    let disk = Arc::new(OddDisk::default());
    disk.reads_hang.store(true, Ordering::Relaxed);
    let mut config = crate::trackers::open(config(HERE));
    config.disk = Some(Arc::<OddDisk>::clone(&disk));
    let leech = Engine::start(config).await.unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    let checks = |state: &shoal_engine::Snapshot| matches!(state.phase, Phase::Checking { .. });
    wait(&getting, checks).await;
    getting
        .set_priorities(vec![FilePriority::Normal, FilePriority::Skip])
        .await
        .unwrap();
    let url = tracker.url().parse().unwrap();
    getting.set_trackers(vec![vec![url]]).await.unwrap();
    getting.set_max_connections(Some(1)).await.unwrap();
    getting.verify().await.unwrap();
    wait(&getting, checks).await;
    disk.reads_hang.store(false, Ordering::Relaxed);
    let state = wait(&getting, |state| state.complete).await;
    assert_eq!(state.verified_pieces, sample.piece_count() - 1);
    tracker.hears(1, "event=started").await;
    let one = Remote::connect(leech.listening()[0], HERE, &sample).await;
    wait(&getting, |state| state.peers.len() == 1).await;
    let two = Remote::connect(leech.listening()[0], HERE, &sample).await;
    soon(two.unwrap().hear_all()).await;
    drop(one);
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_is_doubted_is_read_again_and_what_is_wrong_is_fetched_again() {
    let sample = Sample::pieces(12);
    let source = usual_seed(&sample).await;
    let disk = Arc::new(OddDisk::default());
    let mut config = config(HERE);
    config.disk = Some(Arc::<OddDisk>::clone(&disk));
    let leech = Engine::start(config).await.unwrap();
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: source.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    // Nobody notices: size and time are as they were.
    let path = sample.path(target.path(), 0);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = sample.bytes().to_vec();
    bytes[5 * PIECE as usize] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(modified).unwrap();
    let mut remote = Remote::connect(leech.listening()[0], HERE, &sample)
        .await
        .unwrap();
    remote.say(&[Message::HaveNone]).await.unwrap();
    wait(&getting, |state| state.peers.iter().any(|peer| !peer.seed)).await;

    disk.reads_hang.store(true, Ordering::Relaxed);
    getting.verify().await.unwrap();
    let checks = |state: &shoal_engine::Snapshot| matches!(state.phase, Phase::Checking { .. });
    let state = wait(&getting, |state| checks(state) && state.peers.is_empty()).await;
    assert_eq!((state.complete, state.verified_bytes), (false, 0));
    // Who was connected is gone, and nobody is served.
    soon(remote.hear_all()).await;
    let late = Remote::connect(leech.listening()[0], HERE, &sample).await;
    if let Ok(mut late) = late {
        soon(late.hear_all()).await;
    }
    disk.reads_hang.store(false, Ordering::Relaxed);
    let state = wait(&getting, |state| state.complete).await;
    assert_eq!(state.phase, Phase::Seeding);
    sample.assert_is_in(target.path());
    assert_eq!(state.downloaded_bytes, 13 * u64::from(PIECE));
    leech.stop(PATIENCE).await;
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn whatever_a_seed_reads_again_it_serves_again() {
    let sample = Sample::pieces(12);
    let source = usual_seed(&sample).await;
    source.torrent.verify().await.unwrap();
    source.torrent.verify().await.unwrap();
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        peers: source.peers(),
        ..sample.add(target.path())
    };
    let getting = leech.add(add).await.unwrap();
    wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn trackers_are_replaced_while_it_runs_and_asked_when_a_person_wants() {
    let [first, stays, new] = [
        Tracker::start().await,
        Tracker::start().await,
        Tracker::start().await,
    ];
    let trackers = [first.url(), stays.url()];
    let sample = Sample::with(Kind::Hybrid, &[70_000], PIECE, &trackers, vec![]);
    let leech = Engine::start(crate::trackers::open(config(HERE)))
        .await
        .unwrap();
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    // In both swarms of a hybrid.
    first.hears(2, "event=started").await;
    stays.hears(2, "event=started").await;
    wait(&getting, |state| {
        state.trackers.iter().filter(|line| line.working).count() == 4
    })
    .await;
    let urls = [&stays, &new].map(|tracker| vec![tracker.url().parse().unwrap()]);
    getting.set_trackers(urls.to_vec()).await.unwrap();
    first.hears(2, "event=stopped").await;
    new.hears(2, "event=started").await;
    let hosts = [&stays, &new].map(|tracker| tracker.url().replace("/secret/announce", ""));
    let expected = BTreeSet::from(hosts);
    wait(&getting, |state| {
        let working = state.trackers.iter().filter(|line| line.working);
        working
            .map(|line| line.host.clone())
            .collect::<BTreeSet<_>>()
            == expected
    })
    .await;
    // One that stayed has heard nothing of all that.
    assert_eq!(stays.count("event=started"), 2);
    assert_eq!(stays.count("event=stopped"), 0);
    leech.stop(PATIENCE).await;
    assert_eq!((first.count(""), stays.count("event=stopped")), (4, 2));
}

#[tokio::test]
async fn web_seeds_come_and_go_while_it_runs() {
    let sample = Sample::new(Kind::V1, &[700_000], 64 * 1024);
    let bytes = sample.bytes().to_vec();
    let origin = Origin::start(move |request| web::part(&bytes, request)).await;
    let useless = Origin::start(|_| Reply::new(503)).await;
    let leech = web::leech().await;
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    getting.add_web_seed(useless.url("/")).await.unwrap();
    getting.add_web_seed(useless.url("/")).await.unwrap();
    wait(&getting, |state| {
        state.web_seeds.len() == 1 && state.web_seeds[0].message.is_some()
    })
    .await;
    getting.remove_web_seed(useless.url("/")).await.unwrap();
    wait(&getting, |state| state.web_seeds.is_empty()).await;
    let url = origin.url("/sample/file-0");
    getting.add_web_seed(url.clone()).await.unwrap();
    getting.remove_web_seed(url.clone()).await.unwrap();
    getting.add_web_seed(url).await.unwrap();
    wait(&getting, |state| state.complete).await;
    sample.assert_is_in(target.path());
    leech.stop(PATIENCE).await;
}

#[tokio::test]
async fn who_is_banned_is_sent_away_and_neither_let_in_nor_dialled() {
    let sample = Sample::pieces(4);
    let source = usual_seed(&sample).await;
    let (engine, handle) = (&source.engine, source.engine.handle());
    let mut guest = Remote::connect(engine.listening()[0], ELSEWHERE, &sample)
        .await
        .unwrap();
    guest.say(&[Message::HaveNone]).await.unwrap();
    wait(&source.torrent, |state| state.peers.len() == 1).await;
    handle.ban(ELSEWHERE).await.unwrap();
    soon(guest.hear_all()).await;
    assert_eq!(handle.banned(), [ELSEWHERE]);
    // The connection is closed before a word is said.
    assert!(
        Remote::connect(engine.listening()[0], ELSEWHERE, &sample)
            .await
            .is_err()
    );
    handle.unban(ELSEWHERE);
    let mut guest = Remote::connect(engine.listening()[0], ELSEWHERE, &sample)
        .await
        .unwrap();
    guest.say(&[Message::HaveNone]).await.unwrap();
    wait(&source.torrent, |state| state.peers.len() == 1).await;
    let filter = |address: IpAddr| address != ELSEWHERE;
    handle.set_filter(Some(Arc::new(filter))).await.unwrap();
    soon(guest.hear_all()).await;

    // Nobody there is dialled either, as long as that holds.
    let listener = TcpListener::bind((ELSEWHERE, 0)).await.unwrap();
    let there = listener.local_addr().unwrap();
    source.torrent.add_peers(vec![there]).await.unwrap();
    let here = TcpListener::bind((HERE, 0)).await.unwrap();
    let address = here.local_addr().unwrap();
    source.torrent.add_peers(vec![address]).await.unwrap();
    soon(here.accept()).await.unwrap();
    let dialled = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept());
    assert!(dialled.await.is_err());
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn fewer_connections_and_slots_hold_at_once() {
    let sample = Sample::pieces(4);
    let source = usual_seed(&sample).await;
    let at = source.engine.listening()[0];
    let mut remotes = Vec::new();
    for _ in 0..4 {
        let mut remote = Remote::connect(at, HERE, &sample).await.unwrap();
        let messages = [Message::HaveNone, Message::Interested];
        remote.say(&messages).await.unwrap();
        remote.hear_until(|said| *said == Message::Unchoke).await;
        remotes.push(remote);
    }
    source.torrent.set_max_uploads(Some(1)).await.unwrap();
    // Three of them are choked; which is chance.
    let mut choked = tokio::task::JoinSet::new();
    for mut remote in remotes {
        choked.spawn(async move {
            remote.hear_until(|said| *said == Message::Choke).await;
            remote
        });
    }
    for _ in 0..3 {
        soon(choked.join_next()).await.unwrap().unwrap();
    }
    source.torrent.set_max_connections(Some(3)).await.unwrap();
    wait(&source.torrent, |state| state.peers.len() <= 3).await;
    let settings = SessionSettings {
        max_connections: 2,
        ..SessionSettings::default()
    };
    source.engine.handle().set_session(settings).await.unwrap();
    wait(&source.torrent, |state| state.peers.len() <= 2).await;
    drop(choked);
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_seed_becomes_a_super_seed_and_a_usual_one_again() {
    let sample = Sample::pieces(8);
    let source = usual_seed(&sample).await;
    source.torrent.set_super_seed(true).await.unwrap();
    let at: SocketAddr = source.engine.listening()[0];
    // It has heard of the wish before it hears of the connection, as its state is renewed.
    wait(&source.torrent, |state| state.complete).await;
    let mut remote = soon(async {
        loop {
            let mut remote = Remote::connect(at, HERE, &sample).await.unwrap();
            remote.say(&[Message::HaveNone]).await.unwrap();
            let first = |said: &Message| {
                matches!(
                    said,
                    Message::HaveAll | Message::HaveNone | Message::Bitfield(_)
                )
            };
            if remote.hear_until(first).await == Message::HaveNone {
                return remote;
            }
        }
    })
    .await;
    let one = |said: &Message| matches!(said, Message::Have(_));
    remote.hear_until(one).await;
    source.torrent.set_super_seed(false).await.unwrap();
    let mut heard = 1;
    while heard < 8 {
        remote.hear_until(one).await;
        heard += 1;
    }
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_torrent_has_the_trackers_that_it_is_added_with_in_place_of_its_own() {
    let (own, given) = (Tracker::start().await, Tracker::start().await);
    let sample = Sample::with(Kind::V1, &[70_000], PIECE, &[own.url()], vec![]);
    let source = seed(&sample, config(HERE), &[]).await;
    // What a person names may be on this machine.
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let add = AddTorrent {
        tiers: Some(vec![vec![given.url().parse().unwrap()]]),
        ..sample.add(target.path())
    };
    leech.add(add).await.unwrap();
    given.hears(1, "event=started").await;
    assert_eq!(own.count(""), 0);
    leech.stop(PATIENCE).await;
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn one_task_follows_all_torrents_to_their_ends() {
    let samples: Vec<Sample> = (2..7).map(Sample::pieces).collect();
    let source = usual_seed(&samples[0]).await;
    let leech = engine().await;
    let handle = leech.handle();
    let mut changes = handle.changes();
    let following = tokio::spawn(async move {
        let mut known = std::collections::BTreeMap::new();
        while let Some(news) = changes.next().await {
            for change in news {
                let state = change.state.borrow().clone();
                known.insert(change.torrent, (state, change.ended));
            }
        }
        known
    });
    let target = tempfile::tempdir().unwrap();
    let mut torrents = Vec::new();
    for sample in &samples {
        let add = AddTorrent {
            peers: source.peers(),
            ..sample.add(&target.path().join(sample.piece_count().to_string()))
        };
        fs::create_dir(&add.directory).unwrap();
        torrents.push(leech.add(add).await.unwrap());
    }
    wait(&torrents[0], |state| state.complete).await;
    let ids: BTreeSet<_> = handle.snapshot().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, torrents.iter().map(|torrent| torrent.id()).collect());
    torrents[3].stop().await;
    wait_for_the_end(&torrents[3]).await;
    assert_eq!(handle.snapshot().len(), 4);
    leech.stop(PATIENCE).await;
    let known = soon(following).await.unwrap();
    for torrent in &torrents {
        let (state, ended) = &known[&torrent.id()];
        assert!(*ended);
        assert_eq!(*state, *torrent.watch().borrow());
    }
    assert!(known[&torrents[0].id()].0.complete);
    source.engine.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_torrent_at_rest_does_what_it_is_asked() {
    let sample = Sample::pieces(6);
    let tracker = Tracker::start().await;
    let seed = Engine::start(crate::trackers::open(config(HERE)))
        .await
        .unwrap();
    let source = tempfile::tempdir().unwrap();
    sample.write(source.path());
    let add = AddTorrent {
        journal: Some(source.path().join("journal")),
        ..sample.add(source.path())
    };
    let seeding = seed.add(add).await.unwrap();
    wait(&seeding, |state| state.complete).await;
    // There is nothing to do: it goes to rest with its first report.
    let url = tracker.url().parse().unwrap();
    seeding.set_trackers(vec![vec![url]]).await.unwrap();
    tracker.hears(1, "event=started").await;
    let files = seeding.files().await.unwrap();
    assert_eq!(files[0].verified_bytes, sample.bytes().len() as u64);
    seeding.verify().await.unwrap();
    wait(&seeding, |state| state.complete).await;
    seeding.set_max_connections(Some(1)).await.unwrap();
    let leech = engine().await;
    let target = tempfile::tempdir().unwrap();
    let getting = leech.add(sample.add(target.path())).await.unwrap();
    getting.add_peers(seed.listening().to_vec()).await.unwrap();
    wait(&getting, |state| state.complete).await;
    leech.stop(PATIENCE).await;
    seed.stop(PATIENCE).await;
}
