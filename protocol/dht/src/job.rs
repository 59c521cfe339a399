//! What a search is for, what it has found, and what is stored at its end.
//!
//! Invariant: what a search has found is bounded by [`MAX_PEERS_FOUND`] and [`crate::lookup::MAX_ASKED`]; an item is found
//! only where it verifies and is the one that was looked for.

use crate::bloom::BloomFilter;
use crate::contact::{Contact, Family};
use crate::id::Id;
use crate::item::{Item, ItemName, MutableItem};
use crate::krpc::{ItemReply, Method, Scrape, Token, Want};
use crate::lookup::{Lookup, STORERS};
use crate::machine::{Announce, Handle};
use core::net::{IpAddr, SocketAddr};
use shoal_machine::Moment;
use shoal_metainfo::InfoHash;
use std::collections::{BTreeMap, BTreeSet};

/// Peers that one search gives: more than a torrent keeps as candidates.
pub(crate) const MAX_PEERS_FOUND: usize = 2_000;

/// Stores of one search on their way at the same time.
const MAX_STORING: usize = 8;

/// What a search is for.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// To know who is near us.
    Join,
    /// Peers, and being known as one.
    Peers {
        info_hash: InfoHash,
        announce: Option<Announce>,
        noseed: bool,
        scrape: bool,
    },
    Get(ItemName),
    Put {
        item: Item,
        cas: Option<i64>,
    },
    /// What a mutable torrent points to, and keeping that alive.
    Follow(ItemName),
    /// Which swarms there are.
    Sample,
}

/// A search in one family.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// The table knows nobody yet.
    Waiting,
    Searching(Lookup),
    Storing {
        left: Vec<(Contact, Token)>,
        on_their_way: usize,
    },
    Done,
}

/// What somebody is to be asked for a job.
pub(crate) enum Ask {
    /// The next contact of the search.
    Search(Contact),
    /// To store, with this query.
    Store(Contact, Method),
}

/// A search in all families.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub handle: Option<Handle>,
    pub goal: Goal,
    pub target: Id,
    /// It begins then at the latest, whoever is known.
    pub begins_by: Moment,
    pub parts: [Part; 2],
    pub answered: usize,
    pub stored: usize,
    pub best: Option<Item>,
    peers: BTreeSet<SocketAddr>,
    scrape: Scrape,
    /// Peers that contacts without filters gave: they may be seeds of others' filters.
    uncounted: BTreeSet<IpAddr>,
    /// The numbers of the items that contacts have.
    holders: BTreeMap<SocketAddr, i64>,
}

impl Job {
    pub(crate) fn new(
        handle: Option<Handle>,
        goal: Goal,
        target: Id,
        families: [bool; 2],
        begins_by: Moment,
    ) -> Self {
        let part = |is_on| if is_on { Part::Waiting } else { Part::Done };
        Job {
            handle,
            goal,
            target,
            begins_by,
            parts: families.map(part),
            answered: 0,
            stored: 0,
            best: None,
            peers: BTreeSet::new(),
            scrape: Scrape::default(),
            uncounted: BTreeSet::new(),
            holders: BTreeMap::new(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Done))
    }

    pub(crate) fn part(&mut self, family: Family) -> &mut Part {
        &mut self.parts[family as usize]
    }

    pub(crate) fn lookup(&mut self, family: Family) -> Option<&mut Lookup> {
        match self.part(family) {
            Part::Searching(lookup) => Some(lookup),
            Part::Waiting | Part::Storing { .. } | Part::Done => None,
        }
    }

    /// Whom to ask next, in either family.
    pub(crate) fn next(&mut self) -> Option<Ask> {
        for family in Family::ALL {
            match self.part(family) {
                Part::Searching(lookup) => {
                    if let Some(contact) = lookup.next() {
                        return Some(Ask::Search(contact));
                    }
                }
                Part::Storing { left, on_their_way } if *on_their_way < MAX_STORING => {
                    if let Some((contact, token)) = left.pop() {
                        *on_their_way += 1;
                        if let Some(method) = self.store(&contact, token) {
                            return Some(Ask::Store(contact, method));
                        }
                    }
                }
                Part::Waiting | Part::Storing { .. } | Part::Done => {}
            }
        }
        None
    }

    /// What a contact of the search is asked.
    pub(crate) fn question(&self, want: Want) -> Method {
        let target = self.target;
        match &self.goal {
            Goal::Join => Method::FindNode { target, want },
            Goal::Peers {
                info_hash,
                noseed,
                scrape,
                ..
            } => Method::GetPeers {
                info_hash: *info_hash,
                want,
                noseed: *noseed,
                scrape: *scrape,
            },
            Goal::Get(_) | Goal::Put { .. } | Goal::Follow(_) => Method::Get {
                target,
                seq: None,
                want,
            },
            Goal::Sample => Method::SampleInfohashes { target, want },
        }
    }

    fn store(&self, contact: &Contact, token: Token) -> Option<Method> {
        match &self.goal {
            Goal::Peers {
                info_hash,
                announce: Some(announce),
                ..
            } => Some(Method::AnnouncePeer {
                info_hash: *info_hash,
                port: announce.port,
                implied_port: announce.implied_port,
                seed: announce.seed,
                token,
            }),
            Goal::Put { item, cas } => Some(Method::Put {
                item: item.clone(),
                // Who has nothing has nothing to compare with (BEP 44).
                cas: cas.filter(|_| self.holders.contains_key(&contact.address)),
                token,
            }),
            Goal::Follow(_) => Some(Method::Put {
                item: self.best.clone()?,
                cas: None,
                token,
            }),
            Goal::Peers { .. } | Goal::Join | Goal::Get(_) | Goal::Sample => None,
        }
    }

    /// The search of a family is over: what remains to be stored, if anything.
    pub(crate) fn end_search(&mut self, family: Family) {
        let Some(lookup) = self.lookup(family) else {
            return;
        };
        let (answers, mut storers) = (lookup.answers(), lookup.storers());
        self.answered += answers;
        match &self.goal {
            Goal::Peers {
                announce: Some(_), ..
            }
            | Goal::Put { .. } => {}
            Goal::Follow(_) => self.keep_alive(&mut storers),
            Goal::Peers { announce: None, .. } | Goal::Join | Goal::Get(_) | Goal::Sample => {
                storers.clear();
            }
        }
        // The nearest are stored to first.
        storers.reverse();
        *self.part(family) = Part::Storing {
            left: storers,
            on_their_way: 0,
        };
    }

    /// A reader stores an item again where it is missing, unless there are copies enough (BEP 44).
    fn keep_alive(&self, storers: &mut Vec<(Contact, Token)>) {
        let newest = self.best.as_ref().and_then(Item::seq);
        let has_it =
            |address: &SocketAddr| newest.is_some() && self.holders.get(address).copied() == newest;
        let copies = self
            .holders
            .keys()
            .filter(|address| has_it(address))
            .count();
        let nearest = storers.iter().take(STORERS);
        let enough = copies > STORERS && nearest.clone().all(|(near, _)| has_it(&near.address));
        if newest.is_none() || enough {
            storers.clear();
        }
        storers.retain(|(contact, _)| !has_it(&contact.address));
    }

    /// A contact has stored, or has not.
    pub(crate) fn end_store(&mut self, family: Family, stored: bool) {
        if let Part::Storing { on_their_way, .. } = self.part(family) {
            *on_their_way = on_their_way.saturating_sub(1);
            self.stored += usize::from(stored);
        }
    }

    /// Those of `peers` that are new.
    pub(crate) fn take_peers(&mut self, peers: &[SocketAddr]) -> Vec<SocketAddr> {
        let room = MAX_PEERS_FOUND - self.peers.len();
        let new = peers.iter().filter(|peer| !self.peers.contains(peer));
        let new: BTreeSet<SocketAddr> = new.take(room).copied().collect();
        self.peers.extend(&new);
        new.into_iter().collect()
    }

    /// Counts what one contact knows (BEP 33).
    pub(crate) fn count(&mut self, scrape: Option<&Scrape>, peers: &[SocketAddr]) {
        if let Some(scrape) = scrape {
            self.scrape.seeds.unite(&scrape.seeds);
            self.scrape.peers.unite(&scrape.peers);
        } else {
            let room = MAX_PEERS_FOUND - self.uncounted.len().min(MAX_PEERS_FOUND);
            let ips = peers.iter().take(room).map(|peer| peer.ip());
            self.uncounted.extend(ips);
        }
    }

    /// About how many seeds and how many other peers there are.
    pub(crate) fn counted(&self) -> (f64, f64) {
        let mut peers = self.scrape.peers;
        for ip in &self.uncounted {
            let mut one = BloomFilter::default();
            one.insert(*ip);
            let mut both = self.scrape.seeds;
            both.unite(&one);
            if both != self.scrape.seeds {
                peers.insert(*ip);
            }
        }
        (self.scrape.seeds.estimate(), peers.estimate())
    }

    /// A contact sent something that is stored. Gives it where it is what was looked for, and newer than what came before.
    pub(crate) fn take_item(&mut self, from: SocketAddr, reply: &ItemReply) -> Option<Item> {
        if let Some(seq) = reply.seq {
            self.holders.insert(from, seq);
        }
        let name = match &self.goal {
            Goal::Get(name) | Goal::Follow(name) => name,
            Goal::Put { .. } | Goal::Join | Goal::Peers { .. } | Goal::Sample => return None,
        };
        let value = reply.value.clone()?;
        let item = match name {
            ItemName::Immutable(_) => Item::Immutable(value),
            ItemName::Mutable { key, salt } => Item::Mutable(MutableItem {
                key: reply.key.filter(|claimed| claimed == key)?,
                salt: salt.clone(),
                seq: reply.seq?,
                value,
                signature: reply.signature?,
            }),
        };
        let is_newer = self
            .best
            .as_ref()
            .is_none_or(|best| item.seq() > best.seq());
        let is_found = is_newer && item.target() == self.target && item.verify().is_ok();
        if !is_found {
            return None;
        }
        self.best = Some(item.clone());
        Some(item)
    }
}
