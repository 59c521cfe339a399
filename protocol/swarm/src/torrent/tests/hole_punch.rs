//! Who is brought together with whom (BEP 55), by whom, and how often.

use super::*;
use core::time::Duration;
use shoal_wire::{ContactFlags, HolePunch, HolePunchError, HolePunchKind};

fn exchanging() -> Bench {
    Bench::new(TorrentConfig {
        exchange: true,
        ..config(Bitfield::empty(PIECES))
    })
}

/// Where peer `n` says that it listens.
fn listens(n: u64) -> SocketAddr {
    SocketAddr::new(address(n).ip(), 7_000)
}

/// A peer that came over TCP, says where it listens, and knows how.
fn punching(bench: &mut Bench, n: u64) -> PeerKey {
    let peer = bench.join(n, Has::None);
    bench.says(peer, FromPeer::ListensAt(7_000));
    bench.says(peer, FromPeer::Punches(true));
    peer
}

fn message(kind: HolePunchKind, address: SocketAddr) -> HolePunch {
    HolePunch { kind, address }
}

fn failed(error: HolePunchError, address: SocketAddr) -> HolePunch {
    message(HolePunchKind::Failed(error), address)
}

/// Who is told what of hole punching.
fn told(outputs: &[Output]) -> Vec<(PeerKey, HolePunch)> {
    let punch = |output: &Output| match output {
        Output::Peer {
            peer,
            message: ToPeer::HolePunch(message),
        } => Some((*peer, *message)),
        _ => None,
    };
    outputs.iter().filter_map(punch).collect()
}

fn ask(bench: &mut Bench, peer: PeerKey, wanted: SocketAddr) -> Vec<(PeerKey, HolePunch)> {
    let rendezvous = message(HolePunchKind::Rendezvous, wanted);
    told(&bench.says(peer, FromPeer::HolePunch(rendezvous)))
}

fn dials(outputs: &[Output]) -> Vec<(PeerKey, SocketAddr, bool)> {
    let dial = |output: &Output| match output {
        Output::Dial {
            peer,
            address,
            punch,
            ..
        } => Some((*peer, *address, *punch)),
        _ => None,
    };
    outputs.iter().filter_map(dial).collect()
}

fn wanted_dials(outputs: &[Output]) -> Option<u32> {
    outputs.iter().rev().find_map(|output| match output {
        Output::WantsDials(count) => Some(*count),
        _ => None,
    })
}

fn pass(bench: &mut Bench, ms: u64) -> Vec<Output> {
    bench.now = bench.now + Duration::from_millis(ms);
    bench.handle(Input::Tick)
}

#[test]
fn a_relay_tells_both_to_dial_each_other() {
    let mut bench = exchanging();
    let [first, second] = [1, 2].map(|n| punching(&mut bench, n));
    let connect = |address| message(HolePunchKind::Connect, address);
    assert_eq!(
        ask(&mut bench, first, listens(2)),
        [(second, connect(listens(1))), (first, connect(listens(2)))]
    );
    // Over uTP, where a router has made an address of the socket that dials, that is the one to send to.
    bench.handle(Input::OverUtp(second));
    assert_eq!(
        ask(&mut bench, first, address(2)),
        [(second, connect(listens(1))), (first, connect(address(2)))]
    );
    assert_eq!(
        ask(&mut bench, second, listens(1)),
        [(first, connect(address(2))), (second, connect(listens(1)))]
    );
}

#[test]
fn a_relay_says_why_it_can_do_nothing() {
    let mut bench = exchanging();
    let first = punching(&mut bench, 1);
    let unable = bench.join(2, Has::None);
    bench.says(unable, FromPeer::ListensAt(7_000));
    let nobody = SocketAddr::from(([10, 0, 0, 250], 0));
    let ours = address(200);
    bench.torrent.candidates.set_ours(ours);
    let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 6881));
    let far = bench.torrent.next_key();
    bench.handle(Input::Connected {
        peer: far,
        address: v6,
        peer_id: [77; 20],
        origin: Origin::Incoming,
    });
    bench.handle(Input::OverUtp(far));
    let has = Has::None;
    bench.says(far, FromPeer::Joined { has, fast: true });
    bench.says(far, FromPeer::Punches(true));
    for (wanted, error) in [
        (nobody, HolePunchError::NO_SUCH_PEER),
        (address(9), HolePunchError::NOT_CONNECTED),
        // Itself, and somebody whose family it does not have.
        (listens(1), HolePunchError::NOT_CONNECTED),
        (v6, HolePunchError::NOT_CONNECTED),
        (listens(2), HolePunchError::NO_SUPPORT),
        (ours, HolePunchError::NO_SELF),
    ] {
        assert_eq!(
            ask(&mut bench, first, wanted),
            [(first, failed(error, wanted))]
        );
    }
    assert_eq!(
        ask(&mut bench, unable, listens(1)),
        [],
        "BEP 55: not answered"
    );
    bench.leave(first);
    assert_eq!(
        ask(&mut bench, far, listens(1)),
        [(far, failed(HolePunchError::NOT_CONNECTED, listens(1)))],
        "it has left"
    );
}

#[test]
fn nobody_makes_a_relay_or_its_peers_send_without_bounds() {
    let mut bench = exchanging();
    let peers = [1, 2, 3].map(|n| punching(&mut bench, n));
    let [first, second, third] = peers;
    let answered = |bench: &mut Bench, peer| {
        (0..30)
            .map(|_| ask(bench, peer, listens(3)))
            .collect::<Vec<_>>()
    };
    let answers = answered(&mut bench, first);
    assert_eq!(answers.iter().filter(|told| told.len() == 2).count(), 20);
    assert_eq!(answers.iter().filter(|told| told.is_empty()).count(), 10);
    // The one who is asked for has heard enough, whoever asks.
    let answers = answered(&mut bench, second);
    let refused = failed(HolePunchError::NOT_CONNECTED, listens(3));
    assert!(
        answers[..20]
            .iter()
            .all(|told| told[..] == [(second, refused)])
    );
    assert_eq!(ask(&mut bench, third, listens(1)).len(), 2);
    pass(&mut bench, 60_000);
    assert_eq!(ask(&mut bench, first, listens(3)).len(), 2);
    // A relay that invents: as many are dialled.
    for n in 0..40 {
        let address = SocketAddr::from(([10, 9, 0, n], 6881));
        let connect = message(HolePunchKind::Connect, address);
        bench.says(second, FromPeer::HolePunch(connect));
    }
    assert_eq!(bench.torrent.punches_due(), 20);
}

/// A torrent that was told of an address by a peer and dials it. Room for the punch, too.
fn dialling(named: SocketAddr) -> (Bench, PeerKey, PeerKey) {
    let mut bench = exchanging();
    let introducer = punching(&mut bench, 1);
    bench.says(introducer, FromPeer::Introduced(vec![named]));
    let dialled = dials(&bench.handle(Input::DialGranted(1)));
    let [(dial, to, false)] = dialled[..] else {
        panic!("no plain dial: {dialled:?}");
    };
    assert_eq!(to, named);
    (bench, introducer, dial)
}

#[test]
fn whoever_named_an_address_is_asked_once_when_nobody_answers_there() {
    let named = address(9);
    let rendezvous = message(HolePunchKind::Rendezvous, named);
    // After a while,
    let (mut bench, introducer, dial) = dialling(named);
    assert_eq!(told(&pass(&mut bench, 500)), []);
    assert!(bench.torrent.deadline() <= Some(bench.now + Duration::from_millis(500)));
    assert_eq!(told(&pass(&mut bench, 500)), [(introducer, rendezvous)]);
    assert_eq!(told(&pass(&mut bench, 1_000)), []);
    assert_eq!(told(&bench.handle(Input::DialFailed { peer: dial })), []);
    // or at once where it is refused.
    let (mut bench, introducer, dial) = dialling(named);
    let outputs = bench.handle(Input::DialFailed { peer: dial });
    assert_eq!(told(&outputs), [(introducer, rendezvous)]);
    assert_eq!(told(&pass(&mut bench, 1_000)), []);
    // Who has left, or does not know the address any more, is not asked.
    for says in [
        FromPeer::Left(CloseReason::Remote),
        FromPeer::HolePunch(failed(HolePunchError::NOT_CONNECTED, named)),
        FromPeer::Punches(false),
    ] {
        let (mut bench, introducer, _) = dialling(named);
        bench.says(introducer, says);
        assert_eq!(told(&pass(&mut bench, 2_000)), []);
    }
}

#[test]
fn a_hole_is_dialled_through_when_both_are_told() {
    let named = address(9);
    let (mut bench, introducer, dial) = dialling(named);
    pass(&mut bench, 1_000);
    let connect = FromPeer::HolePunch(message(HolePunchKind::Connect, named));
    bench.says(introducer, connect);
    // The dial under way is over uTP, too: a second one follows when it has failed.
    assert_eq!(dials(&bench.handle(Input::DialGranted(1))), []);
    let outputs = bench.handle(Input::DialFailed { peer: dial });
    assert_eq!(wanted_dials(&outputs), Some(1));
    let outputs = bench.handle(Input::DialGranted(1));
    let [(key, to, true)] = dials(&outputs)[..] else {
        panic!("no dial through the hole");
    };
    assert_eq!(to, named);
    bench.handle(Input::Connected {
        peer: key,
        address: named,
        peer_id: [9; 20],
        origin: Origin::PeerExchange,
    });
    let has = Has::None;
    bench.says(key, FromPeer::Joined { has, fast: true });
    let outputs = pass(&mut bench, 10_000);
    let contacts = outputs.iter().find_map(|output| match output {
        Output::Broadcast(ToPeer::Contacts(contacts)) => Some(contacts.to_vec()),
        _ => None,
    });
    let flags = contacts.and_then(|contacts| {
        let found = contacts
            .into_iter()
            .find(|contact| contact.address == named);
        found.map(|contact| contact.flags)
    });
    assert_eq!(
        flags,
        Some(ContactFlags::default()),
        "not for others to dial"
    );
}

#[test]
fn whoever_is_asked_for_dials_at_once_and_nobody_twice_nor_too_late() {
    let mut bench = Bench::new(TorrentConfig {
        exchange: true,
        ..config(Bitfield::full(PIECES))
    });
    let relay = punching(&mut bench, 1);
    let connect = |n| FromPeer::HolePunch(message(HolePunchKind::Connect, address(n)));
    let outputs = bench.says(relay, connect(9));
    assert_eq!(wanted_dials(&outputs), Some(1));
    let dialled = dials(&bench.handle(Input::DialGranted(1)));
    assert!(
        matches!(dialled[..], [(_, to, true)] if to == address(9)),
        "{dialled:?}"
    );
    bench.says(relay, connect(9));
    assert_eq!(dials(&bench.handle(Input::DialGranted(1))), []);
    // Who is connected.
    bench.join(8, Has::None);
    bench.says(relay, connect(8));
    assert_eq!(dials(&bench.handle(Input::DialGranted(1))), []);
    // What was granted too late.
    bench.says(relay, connect(7));
    pass(&mut bench, 5_000);
    assert_eq!(dials(&bench.handle(Input::DialGranted(1))), []);
}

#[test]
fn a_torrent_that_keeps_to_itself_brings_nobody_together_and_is_not() {
    let mut bench = Bench::leech();
    let [first, _] = [1, 2].map(|n| punching(&mut bench, n));
    assert_eq!(ask(&mut bench, first, listens(2)), []);
    let connect = message(HolePunchKind::Connect, address(9));
    bench.says(first, FromPeer::HolePunch(connect));
    assert_eq!(dials(&bench.handle(Input::DialGranted(1))), []);
}
