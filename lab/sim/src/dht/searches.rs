//! Who has announced what, who looks for it, and what they find: books of their own, beside the machines.
//!
//! Invariant: what a search is to find is known before it begins: the peers whose announce has ended and that have not left.

use super::PersonId;
use core::net::SocketAddr;
use core::time::Duration;
use shoal_dht::{Announce, Handle, Input, Outcome};
use shoal_machine::Moment;
use shoal_metainfo::InfoHash;
use std::collections::{BTreeMap, BTreeSet};

/// The port that peers listen at.
const PEER_PORT: u16 = 7000;

/// Announces have handles from here on, searches those before.
const FIRST_ANNOUNCE: u64 = 1 << 32;

struct Search {
    swarm: u32,
    began_at: Moment,
    expected: BTreeSet<SocketAddr>,
    found: BTreeSet<SocketAddr>,
}

#[derive(Default)]
pub(super) struct Searches {
    /// By swarm and peer, whether its last announce has ended.
    announced: BTreeMap<(u32, PersonId), (SocketAddr, bool)>,
    announces: BTreeMap<u64, (u32, PersonId)>,
    next_announce: u64,
    running: BTreeMap<u64, Search>,
    figures: Figures,
    waited: Vec<Duration>,
}

/// What came of all searches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Searches that ended, or were still running at the end: those have found what they had found.
    pub searches: u32,
    /// Those that found every peer that had announced itself and was still there at their end.
    pub found_all: u32,
    /// Those that found at least one of them.
    pub found_one: u32,
    /// Announces that ended.
    pub announces: u32,
    /// Contacts that said they had stored one, in all.
    pub stored: u64,
    /// Contacts that answered in searches, in all.
    pub answered: u64,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct DhtOutcome {
    /// What was found.
    pub figures: Figures,
    /// How long half of the searches took at most.
    pub median: Duration,
    /// How long 99 of 100 took at most.
    pub slowest_but_one_percent: Duration,
    /// Datagrams sent by all.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl DhtOutcome {
    /// Of the searches, the part that found every peer.
    #[must_use]
    pub fn found_all(&self) -> f64 {
        f64::from(self.figures.found_all) / f64::from(self.figures.searches.max(1))
    }

    /// Of the searches, the part that found at least one.
    #[must_use]
    pub fn found_one(&self) -> f64 {
        f64::from(self.figures.found_one) / f64::from(self.figures.searches.max(1))
    }
}

impl Searches {
    pub(super) fn announce(&mut self, swarm: u32, person: PersonId, address: SocketAddr) -> Input {
        let peer = SocketAddr::new(address.ip(), PEER_PORT);
        self.announced
            .entry((swarm, person))
            .or_insert((peer, false));
        self.next_announce += 1;
        self.announces.insert(self.next_announce, (swarm, person));
        Input::FindPeers {
            handle: Handle(FIRST_ANNOUNCE + self.next_announce),
            info_hash: info_hash(swarm),
            announce: Some(Announce {
                port: PEER_PORT,
                implied_port: false,
                seed: false,
            }),
            noseed: false,
            scrape: false,
        }
    }

    /// A search by somebody who is not in the swarm; `None` where there is nobody to be found.
    pub(super) fn begin(
        &mut self,
        now: Moment,
        number: u32,
        swarm: u32,
        person: PersonId,
    ) -> Option<Input> {
        if self.announced.contains_key(&(swarm, person)) {
            return None;
        }
        let peers = self.announced.range((swarm, 0)..=(swarm, PersonId::MAX));
        let expected: BTreeSet<SocketAddr> = peers
            .filter(|(_, (_, is_known))| *is_known)
            .map(|(_, (peer, _))| *peer)
            .collect();
        if expected.is_empty() {
            return None;
        }
        let search = Search {
            swarm,
            began_at: now,
            expected,
            found: BTreeSet::new(),
        };
        self.running.insert(u64::from(number), search);
        Some(Input::FindPeers {
            handle: Handle(u64::from(number)),
            info_hash: info_hash(swarm),
            announce: None,
            noseed: false,
            scrape: false,
        })
    }

    pub(super) fn found(&mut self, handle: Handle, peers: &[SocketAddr]) {
        if let Some(search) = self.running.get_mut(&handle.0) {
            search.found.extend(peers);
        }
    }

    pub(super) fn ended(&mut self, now: Moment, handle: Handle, outcome: &Outcome) {
        if let Some(announce) = handle.0.checked_sub(FIRST_ANNOUNCE) {
            if let Some(key) = self.announces.remove(&announce)
                && let Some((_, is_known)) = self.announced.get_mut(&key)
            {
                *is_known = true;
                self.figures.announces += 1;
                self.figures.stored += outcome.stored as u64;
            }
        } else if let Some(search) = self.running.remove(&handle.0) {
            self.figures.answered += outcome.answered as u64;
            self.waited.push(now - search.began_at);
            self.count(&search);
        }
    }

    fn count(&mut self, search: &Search) {
        let still_there: BTreeSet<SocketAddr> = self
            .announced
            .range((search.swarm, 0)..=(search.swarm, PersonId::MAX))
            .map(|(_, (peer, _))| *peer)
            .collect();
        let expected: Vec<&SocketAddr> = search.expected.intersection(&still_there).collect();
        if expected.is_empty() {
            return;
        }
        self.figures.searches += 1;
        let found = expected
            .iter()
            .filter(|peer| search.found.contains(peer))
            .count();
        self.figures.found_one += u32::from(found > 0);
        self.figures.found_all += u32::from(found == expected.len());
    }

    /// Somebody has left: nobody has to find it, and what it looked for is nobody's concern.
    pub(super) fn forget(&mut self, person: PersonId) {
        self.announced.retain(|(_, other), _| *other != person);
    }

    pub(super) fn outcome(mut self, datagrams: u64, bytes: u64) -> DhtOutcome {
        for search in core::mem::take(&mut self.running).into_values() {
            self.count(&search);
        }
        self.waited.sort_unstable();
        let at = |percent: usize| {
            let index = self.waited.len() * percent / 100;
            self.waited.get(index).copied().unwrap_or_default()
        };
        DhtOutcome {
            median: at(50),
            slowest_but_one_percent: at(99),
            figures: self.figures,
            datagrams,
            bytes,
        }
    }
}

fn info_hash(swarm: u32) -> InfoHash {
    let mut rng = fastrand::Rng::with_seed(u64::from(swarm));
    let mut hash = [0; 20];
    rng.fill(&mut hash);
    InfoHash(hash)
}
