//! Whom a torrent dials and lets in, where a person has chosen.

use super::*;

fn ruled(have: Bitfield, rules: PeerRules) -> Bench {
    Bench::new(TorrentConfig {
        peer_rules: rules,
        ..config(have)
    })
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1], port))
}

/// The ports of those that it dials, of these that somebody named.
fn dialled(bench: &mut Bench, origin: Origin, ports: &[u16]) -> Vec<u16> {
    let addresses = ports.iter().map(|&port| at(port)).collect();
    bench.handle(Input::Candidates { origin, addresses });
    let outputs = bench.handle(Input::DialGranted(8));
    let dials = outputs.iter().filter_map(|output| match output {
        Output::Dial { address, .. } => Some(address.port()),
        _ => None,
    });
    let mut dials: Vec<u16> = dials.collect();
    dials.sort_unstable();
    dials
}

#[test]
fn ports_of_the_system_are_dialled_at_the_users_word_alone_where_that_is_chosen() {
    let ports = [22, 1_023, 1_024];
    let usual = PeerRules::default();
    let mut bench = ruled(Bitfield::empty(PIECES), usual);
    assert_eq!(dialled(&mut bench, Origin::Tracker, &ports), ports);
    let chosen = PeerRules {
        system_ports: false,
        ..usual
    };
    for origin in [Origin::Tracker, Origin::PeerExchange, Origin::Dht] {
        let mut bench = ruled(Bitfield::empty(PIECES), chosen);
        assert_eq!(dialled(&mut bench, origin, &ports), [1_024]);
    }
    let mut bench = ruled(Bitfield::empty(PIECES), chosen);
    assert_eq!(dialled(&mut bench, Origin::User, &ports), ports);
}

#[test]
fn who_is_complete_waits_to_be_dialled_where_that_is_chosen() {
    let rules = PeerRules {
        dials_when_complete: false,
        ..PeerRules::default()
    };
    let mut seed = ruled(Bitfield::full(PIECES), rules);
    assert_eq!(dialled(&mut seed, Origin::Tracker, &[2_000]), []);
    let wants = |outputs: &[Output]| {
        let wants = |output: &Output| matches!(output, Output::WantsDials(count) if *count > 0);
        outputs.iter().any(wants)
    };
    let outputs = seed.handle(Input::Tick);
    assert!(!wants(&outputs), "{outputs:?}");
    // Who comes by itself is let in.
    seed.join(1, Has::None);
    // And what is wanted again is fetched from whoever is known.
    let outputs = seed.handle(Input::Lost {
        piece: PieceIndex(0),
    });
    assert!(wants(&outputs), "{outputs:?}");
    let outputs = seed.handle(Input::DialGranted(1));
    let dials = |output: &Output| matches!(output, Output::Dial { .. });
    assert!(outputs.iter().any(dials), "{outputs:?}");
    let mut usual = ruled(Bitfield::full(PIECES), PeerRules::default());
    assert_eq!(dialled(&mut usual, Origin::Tracker, &[2_000]), [2_000]);
}

#[test]
fn a_second_peer_at_an_address_is_turned_away_where_one_is_chosen() {
    for one_per_address in [false, true] {
        let rules = PeerRules {
            one_per_address,
            ..PeerRules::default()
        };
        let mut bench = ruled(Bitfield::empty(PIECES), rules);
        for (id, port) in [(1u8, 3_000), (2, 3_001)] {
            let peer = bench.torrent.next_key();
            let outputs = bench.handle(Input::Connected {
                peer,
                address: at(port),
                peer_id: [id; 20],
                origin: Origin::Incoming,
            });
            let refused = outputs.iter().any(|output| {
                let reason = CloseReason::Duplicate;
                *output == Output::Refuse { peer, reason }
            });
            assert_eq!(refused, one_per_address && id == 2);
        }
        // Somebody else is somebody else.
        bench.join(7, Has::All);
    }
}
