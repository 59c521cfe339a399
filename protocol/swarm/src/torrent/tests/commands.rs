//! What a person asks of a torrent that runs.

use super::*;

fn closed(outputs: &[Output], why: &CloseReason) -> Vec<PeerKey> {
    let closed = outputs.iter().filter_map(|output| match output {
        Output::Peer {
            peer,
            message: ToPeer::Close(reason),
        } if reason == why => Some(*peer),
        _ => None,
    });
    closed.collect()
}

#[test]
fn what_is_read_again_is_not_had_before_it_is_found_right_and_then_all_goes_on() {
    let mut have = Bitfield::full(PIECES);
    have.remove(PieceIndex(7));
    let mut bench = Bench::new(config(have));
    let peer = bench.join(1, Has::All);
    let runs = bench.want(peer, BLOCKS);
    assert_eq!(count(&runs), BLOCKS);
    bench.receive(
        peer,
        vec![BlockRun {
            count: 1,
            ..runs[0]
        }],
    );
    let outputs = bench.handle(Input::Recheck);
    assert_eq!(closed(&outputs, &CloseReason::Rechecking), [peer]);
    assert!(bench.torrent.have().is_clear());
    let (_, outputs) = bench.connect(2);
    assert_eq!(refusal(&outputs), Some(CloseReason::Rechecking));
    // Storage is to forget the block that came, once no other can come.
    assert!(!outputs.contains(&Output::Forget(PieceIndex(7))));
    let outputs = bench.leave(peer);
    assert!(outputs.contains(&Output::Forget(PieceIndex(7))));
    for piece in 0..6 {
        bench.verified(piece);
    }
    assert_eq!(bench.torrent.have().count(), 6);
    bench.handle(Input::Rechecked);
    // What was wrong is fetched again.
    let peer = bench.join(3, Has::All);
    assert_eq!(count(&bench.want(peer, 100)), 2 * BLOCKS);
}

#[test]
fn a_recheck_that_finds_everything_right_changes_nothing_for_others() {
    let mut bench = Bench::new(TorrentConfig {
        super_seed: true,
        ..config(Bitfield::full(PIECES))
    });
    bench.handle(Input::Recheck);
    assert_eq!(bench.torrent.claims(), Has::None);
    let mut outputs = Vec::new();
    for piece in 0..PIECES {
        outputs.extend(bench.verified(piece));
    }
    outputs.extend(bench.handle(Input::Rechecked));
    assert!(!outputs.contains(&Output::Complete), "it was before");
    assert!(bench.torrent.is_complete() && bench.torrent.is_super_seeding());
}

#[test]
fn who_was_sent_away_for_a_recheck_is_dialled_again_at_once() {
    let mut bench = Bench::leech();
    let addresses = vec![address(4)];
    let origin = Origin::Tracker;
    bench.handle(Input::Candidates { origin, addresses });
    let outputs = bench.handle(Input::DialGranted(1));
    let Some(&Output::Dial { peer, address, .. }) = outputs.first() else {
        panic!("{outputs:?}");
    };
    let peer_id = [4; 20];
    bench.handle(Input::Connected {
        peer,
        address,
        peer_id,
        origin,
    });
    bench.handle(Input::Recheck);
    bench.says(peer, FromPeer::Left(CloseReason::Rechecking));
    let outputs = bench.handle(Input::Rechecked);
    assert!(outputs.contains(&Output::WantsDials(1)), "{outputs:?}");
}

#[test]
fn a_seed_that_was_sent_away_is_dialled_at_once_when_more_is_wanted() {
    let mut bench = Bench::leech();
    let origin = Origin::Tracker;
    let addresses = vec![address(4)];
    bench.handle(Input::Candidates { origin, addresses });
    let outputs = bench.handle(Input::DialGranted(1));
    let Some(&Output::Dial { peer, address, .. }) = outputs.first() else {
        panic!("{outputs:?}");
    };
    let peer_id = [4; 20];
    bench.handle(Input::Connected {
        peer,
        address,
        peer_id,
        origin,
    });
    let joined = FromPeer::Joined {
        has: Has::All,
        fast: true,
    };
    bench.says(peer, joined);
    bench.says(
        peer,
        FromPeer::Report(Report {
            downloaded_bytes: 1,
            ..Report::default()
        }),
    );
    let outputs = bench.handle(Input::Priorities(vec![Priority::Skip; PIECES as usize]));
    assert_eq!(closed(&outputs, &CloseReason::Useless), [peer]);
    bench.says(peer, FromPeer::Left(CloseReason::Useless));
    let wanted = vec![Priority::Normal; PIECES as usize];
    let outputs = bench.handle(Input::Priorities(wanted));
    assert!(outputs.contains(&Output::WantsDials(1)), "{outputs:?}");
}

#[test]
fn fewer_connections_cost_those_who_give_and_take_nothing() {
    let mut bench = Bench::leech();
    let peers: Vec<PeerKey> = (1..6).map(|n| bench.join(n, Has::All)).collect();
    for (rate, &peer) in [30, 0, 20, 50, 40].into_iter().zip(&peers) {
        bench.says(
            peer,
            FromPeer::Report(Report {
                download_rate: rate,
                ..Report::default()
            }),
        );
    }
    let outputs = bench.handle(Input::MaxConnections(3));
    assert_eq!(
        closed(&outputs, &CloseReason::Useless),
        [peers[1], peers[2]]
    );
    let (_, outputs) = bench.connect(9);
    assert_eq!(refusal(&outputs), Some(CloseReason::Useless));
    bench.handle(Input::MaxConnections(4));
    bench.join(10, Has::All);
    let outputs = bench.handle(Input::Shed(1));
    assert_eq!(closed(&outputs, &CloseReason::Useless).len(), 1);
}

#[test]
fn a_seed_becomes_a_super_seed_for_newcomers_and_ceases_to_be_one() {
    let mut bench = Bench::new(config(Bitfield::full(PIECES)));
    let old = bench.join(1, Has::None);
    bench.handle(Input::SuperSeed(true));
    assert_eq!(bench.torrent.claims(), Has::None);
    let (new, _) = bench.connect(2);
    let joined = FromPeer::Joined {
        has: Has::None,
        fast: true,
    };
    let outputs = bench.says(new, joined);
    let told = |key| {
        let have = |output: &&Output| {
            matches!(output, Output::Peer { peer, message: ToPeer::Have(pieces) }
                if *peer == key && pieces.len() == 1)
        };
        outputs.iter().filter(have).count()
    };
    assert_eq!((told(new), told(old)), (1, 0));
    let outputs = bench.handle(Input::SuperSeed(false));
    let all = (0..PIECES).map(PieceIndex).collect();
    assert!(outputs.contains(&Output::Broadcast(ToPeer::Have(all))));
}

#[test]
fn what_others_have_all_of_is_not_super_seeded_and_neither_is_a_part() {
    let mut bench = Bench::new(config(Bitfield::full(PIECES)));
    bench.join(1, some(&[0, 1, 2, 3]));
    bench.join(2, some(&[4, 5, 6, 7]));
    bench.handle(Input::SuperSeed(true));
    assert!(!bench.torrent.is_super_seeding());
    let mut bench = Bench::leech();
    bench.handle(Input::SuperSeed(true));
    assert!(!bench.torrent.is_super_seeding());
}

#[test]
fn who_is_forbidden_is_sent_away() {
    let mut bench = Bench::leech();
    let peer = bench.join(1, Has::All);
    let reason = CloseReason::Forbidden;
    let outputs = bench.handle(Input::Disconnect {
        peer,
        reason: reason.clone(),
    });
    assert_eq!(closed(&outputs, &reason), [peer]);
}
