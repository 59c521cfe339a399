//! Whose connection is worth more (BEP 40), and where others see us.

use super::*;
use crate::peer_priority::peer_priority;

const LONG: Duration = Duration::from_secs(61);

fn ours() -> SocketAddr {
    SocketAddr::from(([80, 1, 1, 1], 7))
}

/// A full torrent whose peers have been silent for long but remain of interest, and the peers.
fn full(known: bool) -> (Bench, Vec<PeerKey>) {
    let mut bench = Bench::leech();
    if known {
        bench.handle(Input::OurAddress(ours()));
    }
    let peers = (1..9).map(|n| bench.join(n, Has::All)).collect();
    bench.now = bench.now + LONG;
    (bench, peers)
}

/// Those of the peers and newcomers that are preferred least and most.
fn extremes(of: core::ops::Range<u64>) -> (u64, u64) {
    let rank = |n: &u64| peer_priority(ours(), address(*n));
    (
        of.clone().min_by_key(rank).unwrap(),
        of.max_by_key(rank).unwrap(),
    )
}

fn closed(outputs: &[Output]) -> Vec<PeerKey> {
    let closed = outputs.iter().filter_map(|output| match output {
        Output::Peer {
            peer,
            message: ToPeer::Close(CloseReason::Useless),
        } => Some(*peer),
        _ => None,
    });
    closed.collect()
}

fn refused(outputs: &[Output]) -> bool {
    outputs
        .iter()
        .any(|output| matches!(output, Output::Refuse { .. }))
}

#[test]
fn who_is_preferred_more_takes_the_place_of_who_is_preferred_least() {
    let (least, _) = extremes(1..9);
    let (worst, best) = extremes(20..200);
    let (mut bench, peers) = full(true);
    let (_, outputs) = bench.connect(worst);
    assert!(refused(&outputs) && closed(&outputs).is_empty());
    let (_, outputs) = bench.connect(best);
    let gone = peers[usize::try_from(least - 1).unwrap()];
    assert!(!refused(&outputs));
    assert_eq!(closed(&outputs), [gone]);
}

#[test]
fn where_our_address_is_not_known_nobody_gives_way_who_is_of_interest() {
    let (_, best) = extremes(20..200);
    let (mut bench, _) = full(false);
    let (_, outputs) = bench.connect(best);
    assert!(refused(&outputs) && closed(&outputs).is_empty());
}

#[test]
fn over_a_connection_that_moves_something_nobody_is_preferred() {
    let (_, best) = extremes(20..200);
    let (mut bench, peers) = full(true);
    for (at, &peer) in peers.iter().enumerate() {
        let mut report = Report {
            download_rate: 1,
            ..Report::default()
        };
        if at % 2 == 0 {
            report = Report {
                upload_rate: 1,
                ..Report::default()
            };
        }
        bench.says(peer, FromPeer::Report(report));
    }
    assert!(refused(&bench.connect(best).1));
}

#[test]
fn of_those_who_want_nothing_the_one_preferred_least_goes() {
    let mut bench = Bench::new(config(Bitfield::full(PIECES)));
    bench.handle(Input::OurAddress(ours()));
    let peers: Vec<PeerKey> = (1..9).map(|n| bench.join(n, Has::None)).collect();
    bench.now = bench.now + LONG;
    let (least, _) = extremes(1..9);
    let (worst, _) = extremes(20..200);
    let (_, outputs) = bench.connect(worst);
    let gone = peers[usize::try_from(least - 1).unwrap()];
    assert_eq!(closed(&outputs), [gone]);
}

#[test]
fn where_a_peer_sees_us_is_told_with_its_own_address() {
    let mut bench = Bench::leech();
    let peer = bench.join(3, Has::None);
    let at = ours().ip();
    let outputs = bench.says(peer, FromPeer::SeesUsAt(at));
    let by = address(3).ip();
    assert!(outputs.contains(&Output::Seen(Sighting { by, at })));
}
