//! Which address the world sees us at, by the votes of those who answer us (BEP 42, key `ip`).
//!
//! Invariant: one vote for each network, and at most [`MAX_VOTES`]; who was not asked by us has none.

use crate::address::{Network, Reach};
use core::net::IpAddr;
use std::collections::VecDeque;

/// The votes that count: the latest ones. A new address has the majority after half of that.
const MAX_VOTES: usize = 24;

/// An address is believed when so many networks say so, and more than half of those that vote.
const QUORUM: usize = 6;

#[derive(Clone, Debug, Default)]
pub(crate) struct Voter {
    votes: VecDeque<(Network, IpAddr)>,
    elected: Option<IpAddr>,
}

impl Voter {
    /// The address that was believed last.
    pub(crate) const fn elected(&self) -> Option<IpAddr> {
        self.elected
    }

    /// Somebody at `from` sees us at `ip`. Gives an address when it is believed and another one, or none, was before.
    pub(crate) fn vote(&mut self, from: IpAddr, ip: IpAddr) -> Option<IpAddr> {
        let ip = ip.to_canonical();
        let network = Network::of(from)?;
        if Reach::of(ip) != Reach::Global || ip.is_ipv4() != from.is_ipv4() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn voter(number: u8) -> IpAddr {
        Ipv4Addr::new(11, 0, number, 1).into()
    }

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(80, 1, 1, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(80, 2, 2, 2));

    #[test]
    fn an_address_is_believed_when_many_networks_say_so() {
        let mut votes = Voter::default();
        assert!((0..200).all(|last| {
            votes
                .vote(Ipv4Addr::new(11, 0, 0, last).into(), HERE)
                .is_none()
        }));
        assert!((1..5).all(|number| votes.vote(voter(number), HERE).is_none()));
        assert_eq!(votes.vote(voter(5), HERE), Some(HERE));
        assert_eq!(votes.vote(voter(6), HERE), None, "it is said once");
    }

    #[test]
    fn a_minority_moves_nobody_and_a_move_is_seen() {
        let mut votes = Voter::default();
        let believed = (0..12).filter_map(|number| votes.vote(voter(number), HERE));
        assert_eq!(believed.count(), 1);
        assert!((50..60).all(|number| votes.vote(voter(number), THERE).is_none()));
        let moved = (0..12).find_map(|number| votes.vote(voter(number), THERE));
        assert_eq!(moved, Some(THERE));
        assert_eq!(votes.elected(), Some(THERE));
    }

    #[test]
    fn what_is_not_a_global_address_of_the_same_family_is_no_vote() {
        let mut votes = Voter::default();
        for number in 0..20 {
            assert!(
                votes
                    .vote(voter(number), Ipv4Addr::new(10, 0, 0, 1).into())
                    .is_none()
            );
            assert!(
                votes
                    .vote(voter(number), "2001:db8::1".parse().unwrap())
                    .is_none()
            );
        }
        assert!(votes.votes.is_empty());
    }
}
