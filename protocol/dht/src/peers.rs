//! The peers that have announced themselves to us, by swarm (BEP 5), as sets of addresses (BEP 33), and samples of the
//! swarms (BEP 51).
//!
//! Invariant: at most [`MAX_SWARMS`] swarms, [`MAX_PEERS_PER_SWARM`] peers in each and [`MAX_PEERS`] in all; one peer for
//! each address of a swarm; none is given out that was not announced within [`PEER_LIFETIME`].

use crate::id::Id;
use crate::krpc::{MAX_SAMPLE_INTERVAL_S, Samples, Scrape};
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_metainfo::InfoHash;
use std::collections::BTreeMap;

/// Libtorrent keeps as many. A contact of a table of millions is near to some hundred swarms.
pub(crate) const MAX_SWARMS: usize = 2_000;

/// Ten times what a reply has room for; a swarm of more is known to many contacts.
pub(crate) const MAX_PEERS_PER_SWARM: usize = 500;

/// 32 bytes each, 1 MiB in all.
pub(crate) const MAX_PEERS: usize = 30_000;

/// Clients announce every 15 to 30 minutes; one announce may be lost.
pub(crate) const PEER_LIFETIME: Duration = Duration::from_secs(45 * 60);

/// How long a sample stays the same, so that asking more often gives nothing (BEP 51).
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// As many as fit into [`crate::krpc::MAX_REPLY_BYTES`] beside contacts.
const SAMPLE: usize = 30;

#[derive(Clone, Copy, Debug)]
struct Peer {
    address: SocketAddr,
    seed: bool,
    announced_at: Moment,
}

impl Peer {
    fn is_here(&self, now: Moment) -> bool {
        now - self.announced_at < PEER_LIFETIME
    }
}

/// The peers of one family.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerStore {
    swarms: BTreeMap<InfoHash, Vec<Peer>>,
    /// All peers together.
    len: usize,
    sample: Vec<InfoHash>,
    sampled_at: Option<Moment>,
}

impl PeerStore {
    /// Keeps a peer. False where there is no room: then the swarms that are nearer to `own`, our id, are kept.
    pub(crate) fn announce(
        &mut self,
        now: Moment,
        own: &Id,
        swarm: InfoHash,
        address: SocketAddr,
        seed: bool,
    ) -> bool {
        let is_new = !self.swarms.contains_key(&swarm);
        if (is_new && self.swarms.len() >= MAX_SWARMS) || self.len >= MAX_PEERS {
            self.expire(now);
            if !self.make_room(own, swarm, is_new) {
                return false;
            }
        }
        let peer = Peer {
            address,
            seed,
            announced_at: now,
        };
        let peers = self.swarms.entry(swarm).or_default();
        if let Some(known) = peers.iter_mut().find(|p| p.address.ip() == address.ip()) {
            *known = peer;
        } else if peers.len() < MAX_PEERS_PER_SWARM {
            peers.push(peer);
            self.len += 1;
        } else if let Some(oldest) = peers.iter_mut().min_by_key(|peer| peer.announced_at) {
            *oldest = peer;
        }
        true
    }

    /// Gives up the swarm that is farthest from us, unless that is the one to be kept.
    fn make_room(&mut self, own: &Id, swarm: InfoHash, is_new: bool) -> bool {
        if self.len < MAX_PEERS && (!is_new || self.swarms.len() < MAX_SWARMS) {
            return true;
        }
        let far = |swarm: &InfoHash| own.distance(&Id::from(*swarm));
        let farthest = self.swarms.keys().copied().max_by_key(far);
        let Some(farthest) = farthest.filter(|other| far(other) > far(&swarm)) else {
            return false;
        };
        self.len -= self.swarms.remove(&farthest).map_or(0, |peers| peers.len());
        true
    }

    /// Forgets who has not announced itself for long.
    pub(crate) fn expire(&mut self, now: Moment) {
        self.swarms.retain(|_, peers| {
            peers.retain(|peer| peer.is_here(now));
            !peers.is_empty()
        });
        self.len = self.swarms.values().map(Vec::len).sum();
    }

    /// Some peers of a swarm, at most `most`; where `noseed` is set, those that are complete only where there is room left.
    pub(crate) fn sample_peers(
        &self,
        now: Moment,
        swarm: InfoHash,
        most: usize,
        noseed: bool,
        rng: &mut fastrand::Rng,
    ) -> Vec<SocketAddr> {
        let peers = self.swarms.get(&swarm).map_or(&[][..], Vec::as_slice);
        let mut here: Vec<Peer> = peers.iter().copied().filter(|p| p.is_here(now)).collect();
        rng.shuffle(&mut here);
        if noseed {
            here.sort_by_key(|peer| peer.seed);
        }
        here.into_iter()
            .take(most)
            .map(|peer| peer.address)
            .collect()
    }

    /// The peers of a swarm, to be counted; `None` where there are none (BEP 33).
    pub(crate) fn scrape(&self, now: Moment, swarm: InfoHash) -> Option<Scrape> {
        let mut scrape = Scrape::default();
        for peer in self
            .swarms
            .get(&swarm)?
            .iter()
            .filter(|peer| peer.is_here(now))
        {
            let filter = if peer.seed {
                &mut scrape.seeds
            } else {
                &mut scrape.peers
            };
            filter.insert(peer.address.ip());
        }
        Some(scrape)
    }

    /// Some swarms: the same ones for a while (BEP 51).
    pub(crate) fn samples(&mut self, now: Moment, most: usize, rng: &mut fastrand::Rng) -> Samples {
        let is_old = |at: Moment| now - at >= SAMPLE_INTERVAL;
        if self.sampled_at.is_none_or(is_old) {
            self.expire(now);
            let swarms = self.swarms.keys().copied();
            self.sample = rng.choose_multiple(swarms, SAMPLE);
            self.sampled_at = Some(now);
        }
        let interval_s = u32::try_from(SAMPLE_INTERVAL.as_secs()).unwrap_or(MAX_SAMPLE_INTERVAL_S);
        Samples {
            info_hashes: self.sample.iter().copied().take(most).collect(),
            total: u32::try_from(self.swarms.len()).unwrap_or(u32::MAX),
            interval_s,
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.swarms.len(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const SWARM: InfoHash = InfoHash([1; 20]);
    const OWN: Id = Id([0; 20]);

    fn peer(number: u32) -> SocketAddr {
        (Ipv4Addr::from_bits(0x0b00_0000 + number), 6881).into()
    }

    fn rng() -> fastrand::Rng {
        fastrand::Rng::with_seed(1)
    }

    #[test]
    fn an_address_is_one_peer_whatever_its_port() {
        let mut store = PeerStore::default();
        store.announce(Moment::ZERO, &OWN, SWARM, peer(1), false);
        let moved = SocketAddr::new(peer(1).ip(), 7000);
        store.announce(Moment::ZERO, &OWN, SWARM, moved, true);
        assert_eq!(
            store.sample_peers(Moment::ZERO, SWARM, 9, false, &mut rng()),
            [moved]
        );
        assert_eq!(store.len(), (1, 1));
    }

    #[test]
    fn who_does_not_announce_again_is_forgotten() {
        let mut store = PeerStore::default();
        store.announce(Moment::ZERO, &OWN, SWARM, peer(1), false);
        let later = Moment::ZERO + PEER_LIFETIME;
        assert!(
            store
                .sample_peers(later, SWARM, 9, false, &mut rng())
                .is_empty()
        );
        store.expire(later);
        assert_eq!(store.len(), (0, 0));
    }

    #[test]
    fn seeds_come_last_where_they_are_not_wanted() {
        let mut store = PeerStore::default();
        for number in 0..20 {
            store.announce(Moment::ZERO, &OWN, SWARM, peer(number), number % 2 == 0);
        }
        let found = store.sample_peers(Moment::ZERO, SWARM, 10, true, &mut rng());
        let odd: Vec<SocketAddr> = (0..20).filter(|number| number % 2 == 1).map(peer).collect();
        assert!(found.iter().all(|peer| odd.contains(peer)));
        let scrape = store.scrape(Moment::ZERO, SWARM).unwrap();
        assert!((scrape.seeds.estimate() - 10.0).abs() < 0.5);
        assert!(store.scrape(Moment::ZERO, InfoHash([2; 20])).is_none());
    }

    #[test]
    fn a_flood_of_swarms_pushes_out_far_ones_and_no_near_one() {
        let mut store = PeerStore::default();
        let near = InfoHash([0; 20]);
        store.announce(Moment::ZERO, &OWN, near, peer(1), false);
        let mut rng = rng();
        for _ in 0..2 * MAX_SWARMS {
            let swarm = InfoHash(Id::random(&mut rng).0);
            store.announce(Moment::ZERO, &OWN, swarm, peer(2), false);
        }
        assert_eq!(store.len(), (MAX_SWARMS, MAX_SWARMS));
        assert_eq!(
            store
                .sample_peers(Moment::ZERO, near, 9, false, &mut rng)
                .len(),
            1
        );
        for number in 0..100 * 500 {
            let swarm = InfoHash([u8::try_from(number % 100).unwrap(); 20]);
            store.announce(Moment::ZERO, &OWN, swarm, peer(number), false);
        }
        assert!(store.len().1 <= MAX_PEERS);
    }

    #[test]
    fn a_sample_stays_the_same_for_its_interval() {
        let (mut store, mut rng) = (PeerStore::default(), rng());
        for number in 0..100 {
            store.announce(Moment::ZERO, &OWN, InfoHash([number; 20]), peer(1), false);
        }
        let first = store.samples(Moment::ZERO, 20, &mut rng);
        assert_eq!((first.info_hashes.len(), first.total), (20, 100));
        assert_eq!(store.samples(Moment::from_secs(299), 20, &mut rng), first);
        assert_ne!(store.samples(Moment::from_secs(300), 20, &mut rng), first);
    }
}
