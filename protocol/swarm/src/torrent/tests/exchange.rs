//! Who is named to whom (BEP 11).

use super::*;
use core::time::Duration;
use shoal_wire::{Contact, ContactFlags};

fn exchanging() -> Bench {
    Bench::new(TorrentConfig {
        exchange: true,
        ..config(Bitfield::empty(PIECES))
    })
}

/// The contacts that all sessions are told of, if they are.
fn told(outputs: &[Output]) -> Option<Vec<Contact>> {
    outputs.iter().find_map(|output| match output {
        Output::Broadcast(ToPeer::Contacts(contacts)) => Some(contacts.to_vec()),
        _ => None,
    })
}

fn pass(bench: &mut Bench, seconds: u64) -> Vec<Output> {
    bench.now = bench.now + Duration::from_secs(seconds);
    bench.handle(Input::Tick)
}

fn listening(n: u64, port: u16, flags: ContactFlags) -> Contact {
    let mut address = address(n);
    address.set_port(port);
    Contact { address, flags }
}

#[test]
fn peers_are_named_where_they_listen_and_only_while_they_are_connected() {
    let mut bench = exchanging();
    let first = bench.join(1, Has::All);
    // It came to us and has not said where it listens.
    assert_eq!(told(&pass(&mut bench, 60)), None);
    let second = bench.join(2, Has::None);
    bench.says(first, FromPeer::ListensAt(7_001));
    let outputs = bench.says(second, FromPeer::ListensAt(7_002));
    assert_eq!(told(&outputs), None, "changes are looked at together");
    let both = [
        listening(1, 7_001, ContactFlags::SEED),
        listening(2, 7_002, ContactFlags::default()),
    ];
    assert_eq!(told(&pass(&mut bench, 10)).as_deref(), Some(&both[..]));
    assert_eq!(told(&pass(&mut bench, 60)), None, "nothing has changed");
    // Who comes now hears at once what the others have heard.
    let (third, _) = bench.connect(3);
    let outputs = bench.says(
        third,
        FromPeer::Joined {
            has: Has::None,
            fast: true,
        },
    );
    let greeted = |output: &Output| {
        matches!(output, Output::Peer { peer, message: ToPeer::Contacts(contacts) }
            if *peer == third && contacts[..] == both)
    };
    assert!(outputs.iter().any(greeted));
    let outputs = bench.says(first, FromPeer::Left(CloseReason::Remote));
    let later = pass(&mut bench, 60);
    let told = told(&outputs).or_else(|| told(&later));
    assert_eq!(told.as_deref(), Some(&both[1..]));
}

#[test]
fn who_speaks_utp_is_named_as_such() {
    let mut bench = exchanging();
    let peer = bench.join(1, Has::None);
    bench.handle(Input::OverUtp(peer));
    let outputs = bench.says(peer, FromPeer::ListensAt(7_001));
    let named = [listening(1, 7_001, ContactFlags::UTP)];
    assert_eq!(told(&outputs).as_deref(), Some(&named[..]));
    // Where it can be brought together with others, they are to send to where it sends from.
    bench.says(peer, FromPeer::Punches(true));
    let flags = ContactFlags::UTP.with(ContactFlags::PUNCHES);
    let named = [listening(1, 6881, flags)];
    assert_eq!(told(&pass(&mut bench, 60)).as_deref(), Some(&named[..]));
}

#[test]
fn who_was_dialled_can_be_reached() {
    let mut bench = exchanging();
    let (origin, addresses) = (Origin::User, vec![address(5)]);
    bench.handle(Input::Candidates { origin, addresses });
    let outputs = bench.handle(Input::DialGranted(1));
    let dialled = outputs.iter().find_map(|output| match output {
        Output::Dial { peer, .. } => Some(*peer),
        _ => None,
    });
    let peer = dialled.expect("it dials");
    bench.handle(Input::Connected {
        peer,
        address: address(5),
        peer_id: [5; 20],
        origin: Origin::User,
    });
    let joined = FromPeer::Joined {
        has: Has::None,
        fast: true,
    };
    let outputs = bench.says(peer, joined);
    let expected = listening(5, 6881, ContactFlags::REACHABLE);
    assert_eq!(told(&outputs).as_deref(), Some(&[expected][..]));
}

#[test]
fn hearsay_is_dialled_as_such_and_not_at_all_where_a_torrent_keeps_to_itself() {
    for exchange in [true, false] {
        let mut bench = Bench::new(TorrentConfig {
            exchange,
            ..config(Bitfield::empty(PIECES))
        });
        let peer = bench.join(1, Has::None);
        let outputs = bench.says(peer, FromPeer::ListensAt(7_001));
        assert_eq!(told(&outputs).is_some(), exchange);
        bench.says(peer, FromPeer::Introduced(vec![address(9)]));
        let outputs = bench.handle(Input::DialGranted(1));
        let dialled = |output: &Output| matches!(output, Output::Dial { address: to, origin: Origin::PeerExchange, .. } if *to == address(9));
        assert_eq!(outputs.iter().any(dialled), exchange);
    }
}
