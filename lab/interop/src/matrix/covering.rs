//! Which combinations of kind, transport, encryption and discovery are tried with a peer: not all of them, as they are nearly
//! independent, but so many that every pair of values that the peer has is in one of them.
//!
//! Invariant: what a peer is known not to have is in none of its combinations.

use super::{Found, KINDS, Transport};
use crate::client::{Client, Speech};
use crate::torrent::Kind;
use crate::tracker::{Protocol, TrackerKind};

/// The ways in which peers find each other.
pub const DISCOVERIES: [Found; 5] = [
    Found::ByTracker(TrackerKind::OpenTracker, Protocol::Http),
    Found::ByDht,
    Found::Locally,
    Found::ByExchange,
    Found::OnTheWeb,
];

/// What is the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combination {
    /// Of the torrent.
    pub kind: Kind,
    /// What connections run over.
    pub transport: Transport,
    /// Whether they are encrypted.
    pub speech: Speech,
    /// How the leech finds the seed.
    pub found: Found,
}

/// A value of one of the four dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Kind(Kind),
    Transport(Transport),
    Speech(Speech),
    Found(Found),
}

impl Combination {
    fn pairs(self) -> Vec<(Value, Value)> {
        let values = [
            Value::Kind(self.kind),
            Value::Transport(self.transport),
            Value::Speech(self.speech),
            Value::Found(self.found),
        ];
        let mut pairs = Vec::new();
        for (at, &one) in values.iter().enumerate() {
            pairs.extend(values[at + 1..].iter().map(|&other| (one, other)));
        }
        pairs
    }

    /// Whether the peer can do it, as far as is known; an HTTP server is spoken to over TCP and in its own way.
    fn fits(self, peer: Client) -> bool {
        let on_the_web = self.found == Found::OnTheWeb;
        let plain = self.transport == Transport::Tcp && self.speech == Speech::Clear;
        peer.lacks(self.kind).is_none()
            && (self.transport == Transport::Tcp || peer.lacks_utp().is_none())
            && peer.lacks_way(self.found).is_none()
            && (plain || !on_the_web)
    }
}

/// All that the peer can do.
fn possible(peer: Client) -> Vec<Combination> {
    let mut all = Vec::new();
    for found in DISCOVERIES {
        for kind in KINDS {
            for transport in [Transport::Tcp, Transport::Utp] {
                for speech in [Speech::Clear, Speech::Encrypted] {
                    all.push(Combination {
                        kind,
                        transport,
                        speech,
                        found,
                    });
                }
            }
        }
    }
    all.retain(|combination| combination.fits(peer));
    all
}

/// Combinations in which every pair of values of different dimensions is that is in any that the peer can do. Each next one is the one
/// with the most pairs that are in none before it, which makes nearly the fewest that there can be.
#[must_use]
pub fn covering(peer: Client) -> Vec<Combination> {
    let possible = possible(peer);
    let mut open: Vec<(Value, Value)> = Vec::new();
    for pair in possible.iter().flat_map(|one| one.pairs()) {
        if !open.contains(&pair) {
            open.push(pair);
        }
    }
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let gain = |one: &&Combination| {
            let pairs = one.pairs();
            pairs.iter().filter(|pair| open.contains(pair)).count()
        };
        // Of equals the first.
        let Some(&best) = possible.iter().rev().max_by_key(gain) else {
            break;
        };
        open.retain(|pair| !best.pairs().contains(pair));
        chosen.push(best);
    }
    let place = |one: &Combination| possible.iter().position(|other| other == one);
    chosen.sort_by_key(place);
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::PEERS;
    use super::*;

    #[test]
    fn every_pair_that_a_peer_can_do_is_tried_with_it_and_nothing_else() {
        for peer in PEERS.into_iter().chain([Client::Shoal]) {
            let chosen = covering(peer);
            assert!(chosen.iter().all(|one| one.fits(peer)));
            let tried: Vec<_> = chosen.iter().flat_map(|one| one.pairs()).collect();
            for pair in possible(peer).iter().flat_map(|one| one.pairs()) {
                assert!(tried.contains(&pair), "{peer}: {pair:?}");
            }
        }
    }

    #[test]
    fn a_peer_that_can_do_everything_takes_few_more_than_its_largest_pair_of_dimensions() {
        let count = covering(Client::Libtorrent).len();
        assert!((15..=24).contains(&count), "{count}");
    }
}
