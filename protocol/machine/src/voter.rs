//! Which address the world sees us at, by the votes of those who see us: peers (BEP 10, `yourip`), trackers (BEP 24), contacts of the DHT
//! (BEP 42, `ip`).
//!
//! Invariant: one vote for each network, and at most [`MAX_VOTES`]; whoever is on no global network has none.

use crate::{Network, Reach};
use core::net::IpAddr;
use std::collections::VecDeque;

/// The votes that count: the latest ones. A new address has the majority after half of that.
const MAX_VOTES: usize = 24;

/// An address is believed when so many networks say so, and more than half of those that vote.
const QUORUM: usize = 6;

/// Somebody says where it sees us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who says so: the address that it speaks from.
    pub by: IpAddr,
    /// Where it sees us.
    pub at: IpAddr,
}

/// Elects our address in one family.
#[derive(Clone, Debug, Default)]
pub struct Voter {
    votes: VecDeque<(Network, IpAddr)>,
    elected: Option<IpAddr>,
}

impl Voter {
    /// The address that was believed last.
    #[must_use]
    pub const fn elected(&self) -> Option<IpAddr> {
        self.elected
    }

    /// One vote. Gives an address when it is believed and another one, or none, was before.
    pub fn vote(&mut self, Sighting { by, at }: Sighting) -> Option<IpAddr> {
        let (by, ip) = (by.to_canonical(), at.to_canonical());
        let network = Network::of(by)?;
        if !is_one_host(ip) || ip.is_ipv4() != by.is_ipv4() {
            return None;
        }
        self.votes.retain(|(voter, _)| *voter != network);
        if self.votes.len() >= MAX_VOTES {
            self.votes.pop_front();
        }
        self.votes.push_back((network, ip));
        let count = self.votes.iter().filter(|(_, voted)| *voted == ip).count();
        let is_believed = count >= QUORUM && 2 * count > self.votes.len();
        if !is_believed || self.elected == Some(ip) {
            return None;
        }
        self.elected = Some(ip);
        self.elected
    }
}

/// Elects our addresses, one of each family.
#[derive(Clone, Debug, Default)]
pub struct ExternalAddresses {
    v4: Voter,
    v6: Voter,
}

impl ExternalAddresses {
    /// The addresses that were believed last.
    pub fn elected(&self) -> impl Iterator<Item = IpAddr> {
        let elected = [self.v4.elected(), self.v6.elected()];
        elected.into_iter().flatten()
    }

    /// One vote, for an address of the family that the voter speaks. Gives an address when it is believed and another one of its family,
    /// or none, was before.
    pub fn vote(&mut self, sighting: Sighting) -> Option<IpAddr> {
        let voter = match sighting.by.to_canonical() {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        };
        voter.vote(sighting)
    }
}

/// Whether somebody on the Internet can have this address.
fn is_one_host(ip: IpAddr) -> bool {
    let reserved = match ip {
        // 0.0.0.0/8 is "this network", 240.0.0.0/4 is reserved and ends with the broadcast address.
        IpAddr::V4(ip) => matches!(ip.octets(), [0 | 240.., ..]),
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    Reach::of(ip) == Reach::Global && !ip.is_multicast() && !reserved
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    fn voter(number: u8) -> IpAddr {
        Ipv4Addr::new(11, 0, number, 1).into()
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(80, 1, 1, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(80, 2, 2, 2));

    const fn seen(by: IpAddr, at: IpAddr) -> Sighting {
        Sighting { by, at }
    }

    #[test]
    fn an_address_is_believed_when_many_networks_say_so() {
        let mut votes = Voter::default();
        assert!((0..200).all(|last| {
            votes
                .vote(seen(Ipv4Addr::new(11, 0, 0, last).into(), HERE))
                .is_none()
        }));
        assert!((1..5).all(|number| votes.vote(seen(voter(number), HERE)).is_none()));
        assert_eq!(votes.vote(seen(voter(5), HERE)), Some(HERE));
        assert_eq!(votes.vote(seen(voter(6), HERE)), None, "it is said once");
    }

    #[test]
    fn a_minority_moves_nobody_and_a_move_is_seen() {
        let mut votes = Voter::default();
        let believed = (0..12).filter_map(|number| votes.vote(seen(voter(number), HERE)));
        assert_eq!(believed.count(), 1);
        assert!((50..60).all(|number| votes.vote(seen(voter(number), THERE)).is_none()));
        let moved = (0..12).find_map(|number| votes.vote(seen(voter(number), THERE)));
        assert_eq!(moved, Some(THERE));
        assert_eq!(votes.elected(), Some(THERE));
    }

    #[test]
    fn what_is_not_a_global_address_of_the_same_family_is_no_vote() {
        let mut votes = Voter::default();
        for number in 0..20 {
            assert!(
                votes
                    .vote(seen(voter(number), Ipv4Addr::new(10, 0, 0, 1).into()))
                    .is_none()
            );
            assert!(
                votes
                    .vote(seen(voter(number), "2001:db8::1".parse().unwrap()))
                    .is_none()
            );
        }
        assert!(votes.votes.is_empty());
    }

    #[test]
    fn families_are_elected_apart() {
        let mut ours = ExternalAddresses::default();
        let six: IpAddr = "2a00:1::1".parse().unwrap();
        for number in 0..6_u16 {
            let by = Ipv6Addr::new(0x2a01, number, number, 0, 0, 0, 0, 1).into();
            ours.vote(seen(by, six));
            // Said by a socket of both families.
            let clothed = Ipv4Addr::new(11, 0, u8::try_from(number).unwrap(), 1).to_ipv6_mapped();
            ours.vote(seen(clothed.into(), HERE));
        }
        assert!(ours.elected().eq([HERE, six]));
        let nobody = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST];
        assert!(nobody.iter().all(|ip| !is_one_host((*ip).into())));
    }
}
