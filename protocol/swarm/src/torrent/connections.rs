//! Which connections a torrent opens, accepts and ends.
//!
//! Invariant: at most `max_connections` are open or being dialled, no two to the same peer, and none to ourselves or to
//! someone banned. A connection that was told to close does not count.

use super::peer::{Peer, Remote};
use super::{Dialling, Origin, Output, PeerRules, REVIEW, Torrent};
use crate::candidates::canonical;
use crate::message::{Blame, CloseReason, PeerKey, ToPeer};
use crate::source::WebSeedIndex;
use core::cmp::Reverse;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;

/// The most addresses taken from one message of a tracker or peer: more than any sends in good faith.
const MAX_CANDIDATES_AT_ONCE: usize = 2_000;

/// When fewer addresses than this are left to try, more would help.
const FEW_CANDIDATES: usize = 10;

/// With so many connections, there is no hurry for more addresses.
const ENOUGH_CONNECTIONS: usize = 30;

/// How often more addresses are asked for at most. Whoever announces has bounds of its own.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// One connection of so many is left to peers that dial us. If all dialled until they are full, whoever comes last would find
/// nobody with room, and have few connections for as long as the others stay.
const LEFT_FOR_OTHERS: u32 = 5;

/// Two peers that want nothing of each other for so long may part when others wait.
const INDIFFERENT: Duration = Duration::from_secs(60);

/// Two connections between the same two peers crossed if the first is younger than this.
const CROSSING: Duration = Duration::from_secs(20);

/// The first port that anybody may listen at (RFC 6335 section 6).
const FIRST_USER_PORT: u16 = 1_024;

impl PeerRules {
    /// Whether who is at this address, on that word, may be dialled.
    pub(super) const fn allow(&self, address: SocketAddr, origin: Origin) -> bool {
        let named = matches!(origin, Origin::User);
        self.system_ports || named || address.port() >= FIRST_USER_PORT
    }
}

impl Torrent {
    pub(super) fn on_candidates(&mut self, origin: Origin, addresses: Vec<SocketAddr>) {
        if self.private && !origin.may_name_private_peers() {
            return;
        }
        self.connections_changed = true;
        let addresses = addresses.into_iter().take(MAX_CANDIDATES_AT_ONCE);
        for address in addresses.filter(|address| self.peer_rules.allow(*address, origin)) {
            self.candidates.add(self.now, address, origin);
        }
    }

    pub(super) fn open_peers(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        let open = self.peers.iter().filter(|(_, peer)| !peer.closing);
        open.map(|(&key, peer)| (key, peer))
    }

    /// How many connections more there may be.
    pub(super) fn room(&self) -> u32 {
        if self.stopped || self.rechecking {
            return 0;
        }
        let dialing = u32::try_from(self.dialing.len()).unwrap_or(u32::MAX);
        self.max_connections
            .saturating_sub(self.open.saturating_add(dialing))
    }

    /// Whether it waits to be dialled.
    const fn dials_nobody(&self) -> bool {
        self.complete && !self.peer_rules.dials_when_complete
    }

    /// How many of these we may dial: the rest is for those who find us.
    pub(super) fn room_for_dials(&self) -> u32 {
        if self.dials_nobody() {
            return 0;
        }
        self.room()
            .saturating_sub(self.max_connections / LEFT_FOR_OTHERS)
    }

    pub(super) fn dial(&mut self, count: u32) {
        self.connections_changed = true;
        // Whatever was granted is used up; what is needed beyond it is said anew.
        self.stated_dials = None;
        if self.dials_nobody() {
            return;
        }
        for _ in 0..count.min(self.room()) {
            // Whoever dials us at this moment does not do so for long.
            if let Some(address) = self.next_punch() {
                self.begin_dial(address, Origin::PeerExchange, true);
                continue;
            }
            let Some((address, origin)) = self.candidates.next_dial(self.now) else {
                break;
            };
            if self.is_new(address) {
                self.begin_dial(address, origin, false);
            }
        }
    }

    fn begin_dial(&mut self, address: SocketAddr, origin: Origin, punch: bool) {
        let peer = self.next_key();
        let dial = Dialling {
            address,
            punched: punch,
            asked: false,
        };
        self.dialing.insert(peer, dial);
        if !punch {
            self.watch_dial(peer, address);
        }
        self.outputs.push_back(Output::Dial {
            peer,
            address,
            origin,
            punch,
        });
    }

    /// Whether nobody is being dialled or connected at this address. An accepted connection can come from where its peer
    /// listens, and its end makes the address a candidate whose dial is still on its way.
    fn is_new(&mut self, address: SocketAddr) -> bool {
        let connected = self.is_connected(address);
        if connected {
            self.candidates.connected(self.now, address);
        }
        !connected && !self.is_dialled(address)
    }

    pub(super) fn on_dial_failed(&mut self, peer: PeerKey) {
        self.connections_changed = true;
        if let Some(dial) = self.dialing.remove(&peer) {
            self.candidates.failed(self.now, dial.address);
            self.ask_for(dial);
        }
    }

    pub(super) fn on_connected(
        &mut self,
        key: PeerKey,
        address: SocketAddr,
        peer_id: [u8; 20],
        origin: Origin,
    ) {
        self.connections_changed = true;
        // As accepted on a socket of both families; bans and duplicates are found by the plain one.
        let address = canonical(address);
        let dial = self.dialing.remove(&key);
        let dialled = dial.map(|dial| dial.address);
        if self.peers.contains_key(&key) {
            return;
        }
        let admitted = if self.private && !origin.may_name_private_peers() {
            Err(CloseReason::Private)
        } else {
            self.admit(address, peer_id, dialled.is_some())
        };
        if let Err(reason) = admitted {
            if let Some(dialled) = dialled {
                match reason {
                    CloseReason::Ourselves => self.candidates.set_ours(dialled),
                    CloseReason::Rechecking => self.candidates.parted(self.now, dialled),
                    _ => self.candidates.failed(self.now, dialled),
                }
            }
            return self.outputs.push_back(Output::Refuse { peer: key, reason });
        }
        self.candidates
            .connected(self.now, dialled.unwrap_or(address));
        self.open += 1;
        let remote = Remote::Peer {
            address,
            peer_id,
            origin,
        };
        let mut peer = Peer::new(self.now, remote);
        peer.punched = dial.is_some_and(|dial| dial.punched);
        self.peers.insert(key, peer);
    }

    /// An HTTP origin can be asked from here on.
    pub(super) fn on_web_seed(&mut self, key: PeerKey, seed: WebSeedIndex) {
        let known = |peer: &Peer| !peer.closing && peer.remote == Remote::WebSeed(seed);
        let closed = self.stopped || self.rechecking;
        if closed || self.peers.contains_key(&key) || self.peers.values().any(known) {
            let reason = CloseReason::Duplicate;
            return self.outputs.push_back(Output::Refuse { peer: key, reason });
        }
        let remote = Remote::WebSeed(seed);
        self.peers.insert(key, Peer::new(self.now, remote));
    }

    /// Whether a new connection may stay; ends the one that has to give way to it.
    fn admit(
        &mut self,
        address: SocketAddr,
        peer_id: [u8; 20],
        outgoing: bool,
    ) -> Result<(), CloseReason> {
        if self.stopped {
            return Err(CloseReason::Stopping);
        }
        if self.rechecking {
            return Err(CloseReason::Rechecking);
        }
        if peer_id == self.our_peer_id {
            return Err(CloseReason::Ourselves);
        }
        if self.candidates.is_banned(address.ip()) {
            return Err(CloseReason::Banned(Blame::Certain));
        }
        let same = |peer: &Peer| match peer.remote {
            Remote::Peer {
                address: other,
                peer_id: id,
                ..
            } => id == peer_id || other == address,
            Remote::WebSeed(_) => false,
        };
        let twin = self
            .open_peers()
            .find(|(_, peer)| same(peer))
            .map(|(key, _)| key);
        if let Some(twin) = twin {
            if !self.gives_way(twin, peer_id, outgoing) {
                return Err(CloseReason::Duplicate);
            }
            self.close(twin, CloseReason::Duplicate);
        }
        let neighbour = |peer: &Peer| peer.address().is_some_and(|at| at.ip() == address.ip());
        if self.peer_rules.one_per_address && self.open_peers().any(|(_, peer)| neighbour(peer)) {
            return Err(CloseReason::Duplicate);
        }
        if self.room() == 0 {
            let idle = self.most_indifferent();
            let idle = idle.or_else(|| self.outranked_by(address));
            let idle = idle.ok_or(CloseReason::Useless)?;
            self.close(idle, CloseReason::Useless);
        }
        Ok(())
    }

    /// Two peers that dial each other at once have two connections and must drop the same one: the one that the side with
    /// the lesser peer id opened.
    fn gives_way(&self, twin: PeerKey, peer_id: [u8; 20], outgoing: bool) -> bool {
        let Some(peer) = self.peers.get(&twin) else {
            return false;
        };
        let Remote::Peer {
            origin,
            peer_id: twin_id,
            ..
        } = peer.remote
        else {
            return false;
        };
        let twin_outgoing = origin != Origin::Incoming;
        let crossed = twin_outgoing != outgoing && self.now - peer.since < CROSSING;
        crossed && twin_id == peer_id && outgoing == (self.our_peer_id > peer_id)
    }

    /// A connection over which nothing moves, and which is to be preferred less than one with `address` (BEP 40): of all such the one to
    /// be preferred least. `None` as long as our own address is not known.
    fn outranked_by(&self, address: SocketAddr) -> Option<PeerKey> {
        let newcomer = self.candidates.priority(address)?;
        let rests = |peer: &Peer| {
            let still = peer.report.download_rate == 0 && peer.report.upload_rate == 0;
            still && peer.leases.is_empty() && self.now - peer.since >= INDIFFERENT
        };
        let resting = self.open_peers().filter(|(_, peer)| rests(peer));
        let ranked = resting.filter_map(|(key, peer)| {
            let priority = self.candidates.priority(peer.address()?)?;
            Some((priority, key))
        });
        let (least, key) = ranked.min()?;
        (least < newcomer).then_some(key)
    }

    /// Of the connections that have been of no interest to either side for long, the one that is to be preferred least (BEP 40), and where
    /// that is not known, the one for which it has been longest.
    fn most_indifferent(&self) -> Option<PeerKey> {
        let indifferent = |peer: &Peer| {
            let long = self.now - peer.indifferent_since >= INDIFFERENT;
            long && peer.is_indifferent() && !peer.is_web_seed()
        };
        self.open_peers()
            .filter(|(_, peer)| indifferent(peer))
            .min_by_key(|(_, peer)| {
                let priority = peer.address().and_then(|at| self.candidates.priority(at));
                // Of a family in which we have no known address: neither better nor worse.
                (priority.unwrap_or(u32::MAX / 2), peer.indifferent_since)
            })
            .map(|(key, _)| key)
    }

    pub(super) fn set_max_connections(&mut self, most: u32) {
        self.max_connections = most;
        self.connections_changed = true;
        self.shed(self.open.saturating_sub(most));
    }

    /// Ends so many connections, the least useful first.
    pub(super) fn shed(&mut self, count: u32) {
        let peers = self.open_peers().filter(|(_, peer)| !peer.is_web_seed());
        let mut ranked: Vec<_> = peers
            .map(|(key, peer)| {
                let rate = peer.report.download_rate + peer.report.upload_rate;
                // Of those who do the same, the newest goes.
                ((!peer.is_indifferent(), rate, Reverse(peer.since)), key)
            })
            .collect();
        ranked.sort_unstable();
        for (_, key) in ranked.into_iter().take(count as usize) {
            self.close(key, CloseReason::Useless);
        }
    }

    /// Makes room for one of those who wait, if somebody is of no use.
    pub(super) fn make_room(&mut self) {
        let wanted = self.room() == 0 && self.candidates.idle() > 0;
        if let Some(key) = self.most_indifferent().filter(|_| wanted) {
            self.close(key, CloseReason::Useless);
        }
    }

    /// Once we have all we want, whoever downloads nothing either is only a connection.
    pub(super) fn close_if_useless(&mut self, key: PeerKey) {
        // A web seed that is asked for nothing has no connection.
        let useless = |peer: &Peer| {
            let seed = peer.is_seed() || (peer.upload_only && peer.has.is_some());
            seed && !peer.is_web_seed()
        };
        if self.complete && self.peers.get(&key).is_some_and(useless) {
            self.close(key, CloseReason::Useless);
        }
    }

    pub(super) fn close_useless_seeds(&mut self) {
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        keys.into_iter().for_each(|key| self.close_if_useless(key));
    }

    pub(super) fn forget_connection(&mut self, peer: &Peer, reason: &CloseReason) {
        self.connections_changed = true;
        let Some(address) = peer.address() else {
            return;
        };
        self.contacts_changed();
        // It was of use, and will be.
        if *reason == CloseReason::Rechecking {
            return self.candidates.parted(self.now, address);
        }
        let broken = matches!(reason, CloseReason::Protocol(_)) || peer.has.is_none();
        if broken && !peer.moved_payload() {
            self.candidates.failed(self.now, address);
        } else {
            self.candidates
                .disconnected(self.now, address, peer.moved_payload());
        }
    }

    pub(super) fn on_unchoked(&mut self, keys: &[PeerKey]) {
        let unchoked: BTreeSet<PeerKey> = keys.iter().copied().collect();
        let (mut changed, mut withdrawn) = (Vec::new(), Vec::new());
        for (&key, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.closing) {
            let unchoke = unchoked.contains(&key);
            if peer.unchoked != unchoke {
                peer.unchoked = unchoke;
                changed.push((key, !unchoke));
                if !unchoke {
                    withdrawn.append(&mut peer.offered);
                }
            }
        }
        self.withdraw_offers(&withdrawn);
        for (key, choke) in changed {
            self.tell(key, ToPeer::Choke(choke));
            self.offer(key);
        }
    }

    /// Says what it could use, where that has changed: connections, addresses, a review.
    pub(super) fn state_needs(&mut self) {
        if !core::mem::take(&mut self.connections_changed) {
            return;
        }
        self.dial_at = self.candidates.deadline();
        let due = self.dial_at.is_some_and(|at| at <= self.now);
        let idle = u32::try_from(self.candidates.idle()).unwrap_or(u32::MAX);
        let dials = if due {
            self.room_for_dials().min(idle)
        } else {
            0
        };
        let punches = match self.dials_nobody() {
            true => 0,
            false => u32::try_from(self.punches_due()).unwrap_or(u32::MAX),
        };
        let dials = dials.saturating_add(punches).min(self.room());
        if self.stated_dials != Some(dials) {
            self.stated_dials = Some(dials);
            self.outputs.push_back(Output::WantsDials(dials));
        }
        let open = !self.stopped && !self.rechecking;
        let short = open && !self.complete && self.candidates.idle() < FEW_CANDIDATES;
        let few = self.peers.len() + self.dialing.len()
            < ENOUGH_CONNECTIONS.min(self.max_connections as usize);
        if short && few {
            self.ask_for_candidates();
        }
        let full = self.room() == 0 && self.candidates.idle() > 0;
        if (full || (short && few)) && self.review_at.is_none() && open {
            self.review_at = Some(self.now + REVIEW);
        }
    }

    fn ask_for_candidates(&mut self) {
        let recently = |at| self.now - at < ASK_AGAIN;
        if !self.asked_candidates.is_some_and(recently) {
            self.asked_candidates = Some(self.now);
            self.outputs.push_back(Output::WantsCandidates);
        }
    }
}
