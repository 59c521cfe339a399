//! Announces on the local network.

use super::SWARMS;
use core::net::{Ipv4Addr, SocketAddr};
use shoal_machine::{Machine, Moment};
use shoal_tracker::local::{
    GROUP_V6, Input, LocalAnnounce, LocalDiscovery, MAX_DATAGRAM_BYTES, Output,
};

/// One datagram, to who is in swarms.
pub fn local(input: &[u8]) {
    let mut discovery = LocalDiscovery::new(6881, &mut fastrand::Rng::with_seed(1));
    for swarm in SWARMS {
        discovery.handle(Moment::ZERO, Input::Joined(swarm.0));
    }
    let from = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 7), 6771));
    let datagram = input.to_vec();
    discovery.handle(Moment::from_secs(1), Input::Heard { from, datagram });
    let mut found = 0;
    while let Some(output) = discovery.poll() {
        let Output::Found { swarm, address } = output else {
            panic!("what others announce made us announce");
        };
        assert!(SWARMS.iter().any(|ours| ours.0 == swarm));
        assert!(address.ip() == from.ip() && address.port() != 0);
        found += 1;
    }
    assert!(found <= SWARMS.len());
    let Some(announce) = LocalAnnounce::decode(input) else {
        assert_eq!(found, 0);
        return;
    };
    // What was understood is understood again, where it is what we would say.
    let plain = LocalAnnounce {
        cookie: None,
        ..announce
    };
    let again = plain.encode(GROUP_V6);
    assert!(again.len() <= MAX_DATAGRAM_BYTES);
    assert_eq!(LocalAnnounce::decode(&again), Some(plain));
}
