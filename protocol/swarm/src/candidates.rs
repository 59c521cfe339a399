//! Addresses that may be worth a dial.
//!
//! Invariant: at most [`MAX_CANDIDATES`] addresses and [`MAX_BANNED`] banned IP addresses are kept, each address once, and
//! none that is banned, our own, or cannot be a remote peer.

use crate::peer_priority::peer_priority;
use crate::torrent::Origin;
use core::cmp::Reverse;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use shoal_machine::Moment;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most addresses kept for one torrent. More do not help: only some hundred can be connected.
pub const MAX_CANDIDATES: usize = 2_000;

/// The most banned IP addresses. The oldest ban is forgotten first.
pub const MAX_BANNED: usize = 4_096;

/// The most addresses known to be our own: one for each interface, and what a router makes of it.
pub const MAX_OURS: usize = 64;

/// The wait after the first failure, and after a connection that was of use; it doubles with each further failure.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(10);

/// The longest wait. Peers come back in the evening.
pub const MAX_BACKOFF: Duration = Duration::from_secs(30 * 60);

/// More failures than this make no difference.
const MAX_FAILURES: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// May be dialled once its back-off is over.
    Idle,
    Dialling,
    Connected,
}

/// What makes one address better than another: the least is the best.
type Worth = (u32, u8, Reverse<u64>, u32);

#[derive(Clone, Copy, Debug)]
struct Candidate {
    origin: Origin,
    state: State,
    failures: u32,
    /// When somebody last named it, or it was connected.
    last_seen: Moment,
    /// Not to be dialled before.
    eligible: Moment,
    /// Decides among equals, the least first: the canonical priority turned round (BEP 40), and chance where our address is not known.
    order: u32,
}

impl Candidate {
    fn worth(&self) -> Worth {
        // By the minute, so that the order of a tracker's list decides nothing.
        let minute = self.last_seen.as_nanos() / 60_000_000_000;
        (
            self.failures,
            rank(self.origin),
            Reverse(minute),
            self.order,
        )
    }
}

/// Who is to be believed first: people, what is near, what answers, what is watched, then hearsay.
const fn rank(origin: Origin) -> u8 {
    match origin {
        Origin::User => 0,
        Origin::Local => 1,
        Origin::Incoming => 2,
        Origin::Magnet => 3,
        Origin::Tracker => 4,
        Origin::Resume => 5,
        Origin::PeerExchange => 6,
        Origin::Dht => 7,
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Candidates {
    known: BTreeMap<SocketAddr, Candidate>,
    /// The idle ones, the best first.
    by_worth: BTreeSet<(Worth, SocketAddr)>,
    /// The idle ones by when they may be dialled.
    by_time: BTreeSet<(Moment, SocketAddr)>,
    banned: BTreeSet<IpAddr>,
    /// The banned ones, the oldest ban first.
    bans: VecDeque<IpAddr>,
    ours: Vec<SocketAddr>,
    /// Where the world sees us, over IPv4 and over IPv6.
    seen_at: [Option<SocketAddr>; 2],
    rng: fastrand::Rng,
}

impl Candidates {
    /// No candidates. `seed` decides the order among equals.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Candidates {
            known: BTreeMap::new(),
            by_worth: BTreeSet::new(),
            by_time: BTreeSet::new(),
            banned: BTreeSet::new(),
            bans: VecDeque::new(),
            ours: Vec::new(),
            seen_at: [None; 2],
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Learns an address; returns whether it was new and is kept. An address known already keeps its better origin. Where
    /// the list is full, the worst address gives way to a better one.
    pub fn add(&mut self, now: Moment, address: SocketAddr, origin: Origin) -> bool {
        let address = canonical(address);
        if self.known.contains_key(&address) {
            self.change(address, |candidate| {
                candidate.last_seen = now;
                if rank(origin) < rank(candidate.origin) {
                    candidate.origin = origin;
                }
            });
            return false;
        }
        let refused = !is_plausible(address)
            || self.banned.contains(&address.ip())
            || self.ours.contains(&address);
        if refused || !self.make_room(origin) {
            return false;
        }
        let candidate = Candidate {
            origin,
            state: State::Idle,
            failures: 0,
            last_seen: now,
            eligible: now,
            order: match self.priority(address) {
                Some(priority) => !priority,
                None => self.rng.u32(..),
            },
        };
        self.known.insert(address, candidate);
        self.list(address, candidate);
        true
    }

    /// This address is our own: forget it, and never take it again.
    pub fn set_ours(&mut self, address: SocketAddr) {
        let address = canonical(address);
        self.forget(address);
        if self.ours.len() < MAX_OURS && !self.ours.contains(&address) {
            self.ours.push(address);
        }
    }

    /// Whether this address is our own, as far as is known.
    #[must_use]
    pub fn is_ours(&self, address: SocketAddr) -> bool {
        self.ours.contains(&canonical(address))
    }

    /// The world sees us here: from now on, priorities decide among equals of this family (BEP 40). It is not taken for our own: a
    /// router may give the same one to others.
    pub fn set_our_address(&mut self, address: SocketAddr) {
        let address = canonical(address);
        self.seen_at[usize::from(address.is_ipv6())] = Some(address);
        let known: Vec<SocketAddr> = self.known.keys().copied().collect();
        for other in known {
            if let Some(priority) = peer_priority(address, other) {
                self.change(other, |candidate| candidate.order = !priority);
            }
        }
    }

    /// How much a connection with this address is to be preferred (BEP 40), where our own address is known.
    #[must_use]
    pub fn priority(&self, address: SocketAddr) -> Option<u32> {
        let address = canonical(address);
        let ours = self.seen_at[usize::from(address.is_ipv6())]?;
        peer_priority(ours, address)
    }

    /// The best address to dial now: of the fewest failures, of the best origin, seen most lately. It counts as being dialled
    /// until [`connected`](Self::connected) or [`failed`](Self::failed).
    pub fn next_dial(&mut self, now: Moment) -> Option<(SocketAddr, Origin)> {
        if self.deadline()? > now {
            return None;
        }
        let ready =
            |address: &SocketAddr| self.known.get(address).is_some_and(|c| c.eligible <= now);
        let addresses = self.by_worth.iter().map(|&(_, address)| address);
        let address = addresses.into_iter().find(ready)?;
        self.change(address, |candidate| candidate.state = State::Dialling);
        self.known
            .get(&address)
            .map(|candidate| (address, candidate.origin))
    }

    /// A connection to or from this address exists. An address that was not known is not learnt: what an accepted
    /// connection comes from is not where the peer listens.
    pub fn connected(&mut self, now: Moment, address: SocketAddr) {
        self.change(address, |candidate| {
            candidate.state = State::Connected;
            candidate.last_seen = now;
        });
    }

    /// The connection ended; `useful` where it had moved payload, which forgives earlier failures. Otherwise it counts as
    /// one.
    pub fn disconnected(&mut self, now: Moment, address: SocketAddr, useful: bool) {
        if !useful {
            return self.failed(now, address);
        }
        self.change(address, |candidate| {
            candidate.state = State::Idle;
            candidate.failures = 0;
            candidate.last_seen = now;
            candidate.eligible = now + FIRST_BACKOFF;
        });
    }

    /// The connection ended by our doing, and would be of use: it may be dialled again at once.
    pub fn parted(&mut self, now: Moment, address: SocketAddr) {
        self.change(address, |candidate| {
            candidate.state = State::Idle;
            candidate.last_seen = now;
            candidate.eligible = now;
        });
    }

    /// Those that were of use are wanted again: they may be dialled at once.
    pub fn want_again(&mut self, now: Moment) {
        let waits = |candidate: &Candidate| candidate.failures == 0 && candidate.eligible > now;
        let useful: Vec<SocketAddr> = (self.by_time.iter())
            .filter(|(_, address)| self.known.get(address).is_some_and(waits))
            .map(|&(_, address)| address)
            .collect();
        for address in useful {
            self.change(address, |candidate| candidate.eligible = now);
        }
    }

    /// Our network is another one, or is there again: what failed may have failed for that. Everybody may be dialled at once; who fails
    /// again waits as long as before.
    pub fn try_all_again(&mut self, now: Moment) {
        let waiting = (self.by_time.iter()).filter(|(eligible, _)| *eligible > now);
        let waiting: Vec<SocketAddr> = waiting.map(|&(_, address)| address).collect();
        for address in waiting {
            self.change(address, |candidate| {
                candidate.eligible = now;
                candidate.failures = candidate.failures.saturating_sub(1);
            });
        }
    }

    /// A dial failed, or the connection broke before it was of use. It is tried again later.
    pub fn failed(&mut self, now: Moment, address: SocketAddr) {
        self.change(address, |candidate| {
            candidate.eligible = now + backoff(candidate.failures);
            candidate.failures = (candidate.failures + 1).min(MAX_FAILURES);
            candidate.state = State::Idle;
        });
    }

    /// Forgets all addresses of this IP address and takes none of it again.
    pub fn ban(&mut self, address: IpAddr) {
        let address = address.to_canonical();
        let guilty: Vec<SocketAddr> = (self.known.keys().copied())
            .filter(|known| known.ip() == address)
            .collect();
        for address in guilty {
            self.forget(address);
        }
        if self.banned.insert(address) {
            self.bans.push_back(address);
        }
        while self.bans.len() > MAX_BANNED
            && let Some(oldest) = self.bans.pop_front()
        {
            self.banned.remove(&oldest);
        }
    }

    /// All addresses and on whose word they are known, in the order of the addresses.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, Origin)> {
        let known = self.known.iter();
        known.map(|(&address, candidate)| (address, candidate.origin))
    }

    /// Whether this IP address is banned.
    #[must_use]
    pub fn is_banned(&self, address: IpAddr) -> bool {
        self.banned.contains(&address.to_canonical())
    }

    /// When the next address becomes worth a dial: in the past where one is already, `None` where there is none.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.by_time.first().map(|&(eligible, _)| eligible)
    }

    /// How many addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How many could be dialled, at once or after their back-off: neither connected nor being dialled.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.by_time.len()
    }

    /// Whether there is a place for a new address of this origin, if need be that of a worse one that is idle. Among
    /// equals the known ones stay, so that a flood of inventions does not wash them away.
    fn make_room(&mut self, origin: Origin) -> bool {
        if self.known.len() < MAX_CANDIDATES {
            return true;
        }
        let Some(&((failures, worst, ..), address)) = self.by_worth.last() else {
            return false;
        };
        let gives_way = (failures, worst) > (0, rank(origin));
        if gives_way {
            self.forget(address);
        }
        gives_way
    }

    /// Changes a candidate, if there is one, and its place in the lists.
    fn change(&mut self, address: SocketAddr, change: impl FnOnce(&mut Candidate)) {
        let address = canonical(address);
        let Some(&candidate) = self.known.get(&address) else {
            return;
        };
        self.unlist(address, candidate);
        let mut changed = candidate;
        change(&mut changed);
        self.known.insert(address, changed);
        self.list(address, changed);
    }

    fn forget(&mut self, address: SocketAddr) {
        if let Some(candidate) = self.known.remove(&address) {
            self.unlist(address, candidate);
        }
    }

    fn list(&mut self, address: SocketAddr, candidate: Candidate) {
        if candidate.state == State::Idle {
            self.by_worth.insert((candidate.worth(), address));
            self.by_time.insert((candidate.eligible, address));
        }
    }

    fn unlist(&mut self, address: SocketAddr, candidate: Candidate) {
        self.by_worth.remove(&(candidate.worth(), address));
        self.by_time.remove(&(candidate.eligible, address));
    }
}

/// An IPv4 address in IPv6 clothing is the same peer.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether a peer can listen there at all. Which networks may be dialled is decided where sockets are opened.
pub(crate) fn is_plausible(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

fn backoff(earlier_failures: u32) -> Duration {
    FIRST_BACKOFF
        .saturating_mul(1 << earlier_failures.min(MAX_FAILURES))
        .min(MAX_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};
    use proptest::prelude::*;

    const NOW: Moment = Moment::from_secs(1_000);

    fn at(n: u32) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 6881)
    }

    fn after(seconds: u64) -> Moment {
        NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn in_another_network_everybody_is_tried_at_once_and_who_fails_again_waits_as_long_as_before() {
        let mut candidates = Candidates::new(1);
        assert!(candidates.add(NOW, at(1), Origin::Tracker));
        let mut now = NOW;
        for pause in [10, 20, 40] {
            assert!(candidates.next_dial(now).is_some());
            candidates.failed(now, at(1));
            assert_eq!(
                candidates.deadline(),
                Some(now + Duration::from_secs(pause))
            );
            now = now + Duration::from_secs(pause);
        }
        assert!(candidates.next_dial(now).is_some());
        candidates.failed(now, at(1));
        now = now + Duration::from_secs(1);
        assert!(candidates.next_dial(now).is_none());
        candidates.try_all_again(now);
        assert!(candidates.next_dial(now).is_some());
        candidates.failed(now, at(1));
        assert_eq!(candidates.deadline(), Some(now + Duration::from_secs(80)));
    }

    #[test]
    fn the_best_origin_is_dialled_first_and_nobody_twice() {
        let mut candidates = Candidates::new(1);
        assert!(candidates.add(NOW, at(1), Origin::Dht));
        assert!(candidates.add(NOW, at(2), Origin::Tracker));
        assert!(candidates.add(NOW, at(3), Origin::User));
        assert!(
            !candidates.add(NOW, at(1), Origin::Local),
            "it is known, if not as good"
        );
        let order: Vec<_> = core::iter::from_fn(|| candidates.next_dial(NOW)).collect();
        let expected = [(3, Origin::User), (1, Origin::Local), (2, Origin::Tracker)];
        assert_eq!(order, expected.map(|(n, origin)| (at(n), origin)));
        assert_eq!((candidates.idle(), candidates.deadline()), (0, None));
    }

    #[test]
    fn failures_count_more_than_origin_and_wait_ever_longer() {
        let mut candidates = Candidates::new(1);
        candidates.add(NOW, at(1), Origin::User);
        let mut now = NOW;
        for wait_s in [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800] {
            assert_eq!(candidates.next_dial(now), Some((at(1), Origin::User)));
            candidates.failed(now, at(1));
            assert_eq!(candidates.next_dial(now), None);
            now = now + Duration::from_secs(wait_s);
            assert_eq!(candidates.deadline(), Some(now));
        }
        candidates.add(now, at(2), Origin::Dht);
        assert_eq!(candidates.next_dial(now), Some((at(2), Origin::Dht)));
    }

    #[test]
    fn a_useful_connection_forgives_and_a_useless_one_does_not() {
        let mut candidates = Candidates::new(1);
        candidates.add(NOW, at(1), Origin::Tracker);
        for (useful, wait_s) in [(false, 10), (false, 20), (true, 10), (false, 10)] {
            candidates.connected(NOW, at(1));
            assert_eq!(candidates.deadline(), None, "connected");
            candidates.disconnected(NOW, at(1), useful);
            assert_eq!(candidates.deadline(), Some(after(wait_s)));
        }
        candidates.connected(NOW, at(9));
        assert_eq!(
            candidates.len(),
            1,
            "an accepted connection is no candidate"
        );
    }

    #[test]
    fn among_equals_chance_decides() {
        let firsts = (0..20).map(|seed| {
            let mut candidates = Candidates::new(seed);
            (1..10).for_each(|n| assert!(candidates.add(NOW, at(n), Origin::Tracker)));
            candidates.next_dial(NOW)
        });
        assert!(
            firsts
                .map(|first| first.unwrap().0)
                .collect::<BTreeSet<_>>()
                .len()
                > 3
        );
    }

    #[test]
    fn among_equals_priority_decides_where_our_address_is_known() {
        let us: SocketAddr = "80.1.1.1:7".parse().unwrap();
        for early in [true, false] {
            let mut candidates = Candidates::new(1);
            if early {
                candidates.set_our_address(us);
            }
            (1..50).for_each(|n| assert!(candidates.add(NOW, at(n), Origin::Tracker)));
            candidates.add(NOW, at(99), Origin::User);
            candidates.set_our_address(us);
            let mut expected: Vec<SocketAddr> = (1..50).map(at).collect();
            expected.sort_by_key(|&other| Reverse(peer_priority(us, other)));
            expected.insert(0, at(99));
            let dialled = core::iter::from_fn(|| candidates.next_dial(NOW));
            assert!(dialled.map(|(address, _)| address).eq(expected));
        }
    }

    #[test]
    fn what_cannot_be_a_peer_is_refused() {
        let mut candidates = Candidates::new(1);
        for address in [
            "1.2.3.4:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
        ] {
            assert!(!candidates.add(NOW, address.parse().unwrap(), Origin::Tracker));
        }
        assert!(!candidates.add(NOW, "255.255.255.255:1".parse().unwrap(), Origin::Tracker));
        candidates.add(NOW, at(1), Origin::Tracker);
        candidates.set_ours(at(1));
        assert!(candidates.is_empty() && !candidates.add(NOW, at(1), Origin::User));
    }

    #[test]
    fn a_banned_address_is_gone_on_every_port_and_in_every_spelling() {
        let mut candidates = Candidates::new(1);
        let other_port = SocketAddr::new(at(1).ip(), 1);
        candidates.add(NOW, at(1), Origin::User);
        candidates.add(NOW, other_port, Origin::User);
        candidates.ban(at(1).ip());
        assert!(candidates.is_empty() && candidates.is_banned(at(1).ip()));
        let mapped = Ipv4Addr::from(0x0a00_0001).to_ipv6_mapped();
        assert!(!candidates.add(NOW, SocketAddr::new(mapped.into(), 2), Origin::User));
        for n in 0..5_000u32 {
            candidates.ban(Ipv6Addr::from(u128::from(n)).into());
        }
        assert_eq!(candidates.banned.len(), MAX_BANNED);
        assert!(
            !candidates.is_banned(at(1).ip()),
            "the oldest ban is forgotten"
        );
    }

    #[test]
    fn a_full_list_gives_up_the_worst_for_the_better_only() {
        let mut candidates = Candidates::new(1);
        for n in 0..2_000 {
            assert!(candidates.add(NOW, at(n), Origin::PeerExchange));
        }
        assert!(
            !candidates.add(NOW, at(5_000), Origin::PeerExchange),
            "a flood changes nothing"
        );
        candidates.failed(NOW, at(7));
        assert!(
            candidates.add(NOW, at(5_000), Origin::Dht),
            "untried is better than failed"
        );
        assert!(!candidates.known.contains_key(&at(7)));
        assert!(candidates.add(NOW, at(5_001), Origin::Tracker));
        assert!(
            !candidates.known.contains_key(&at(5_000)),
            "the worst origin went"
        );
        assert_eq!(candidates.len(), MAX_CANDIDATES);
    }

    proptest! {
        #[test]
        fn the_lists_hold_exactly_the_idle_ones(
            seed in any::<u64>(),
            ops in proptest::collection::vec((0u8..8, 0u32..6, 0u64..100), 0..100),
        ) {
            let mut candidates = Candidates::new(seed);
            let mut now = NOW;
            for (op, n, wait_s) in ops {
                match op {
                    0 | 1 => { candidates.add(now, at(n), Origin::Tracker); }
                    2 => candidates.failed(now, at(n)),
                    3 => candidates.connected(now, at(n)),
                    4 => candidates.disconnected(now, at(n), wait_s > 50),
                    5 => now = now + Duration::from_secs(wait_s),
                    6 if wait_s > 90 => candidates.ban(at(n).ip()),
                    _ => {
                        let due = candidates.deadline().is_some_and(|deadline| deadline <= now);
                        prop_assert_eq!(candidates.next_dial(now).is_some(), due);
                    }
                }
                let idle = candidates.known.iter().filter(|(_, c)| c.state == State::Idle);
                let mut worth: Vec<_> = idle.clone().map(|(&at, c)| (c.worth(), at)).collect();
                let mut times: Vec<_> = idle.map(|(&at, c)| (c.eligible, at)).collect();
                worth.sort_unstable();
                times.sort_unstable();
                prop_assert!(candidates.by_worth.iter().copied().eq(worth));
                prop_assert!(candidates.by_time.iter().copied().eq(times));
            }
        }
    }
}
