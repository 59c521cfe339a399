//! Peers whom nobody can dial are brought together by one that both are connected to (BEP 55). A torrent is any of the three: the
//! one that asks, the one that is asked for, and the relay.
//!
//! Invariant: as a relay we speak to nobody, and name nobody, but two peers with which connections stand; what one peer makes us
//! send, to others and to addresses that it names, is bounded by the minute.

use super::peer::{Peer, Remote};
use super::{Dialling, Origin, Torrent};
use crate::candidates::{canonical, is_plausible};
use crate::message::{PeerKey, ToPeer};
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_wire::{HolePunch, HolePunchError, HolePunchKind};
use std::collections::VecDeque;

/// How often one peer may ask us to bring it together with somebody, is told to dial somebody, may tell us to, and is asked by us: each
/// of these, so many times a minute. A peer connects to a few others a minute, once it has some.
const MAX_A_MINUTE: u32 = 20;

/// A dial that nobody has answered for so long goes to somebody who may be behind a router. Most who can be reached answer within.
const UNANSWERED: Duration = Duration::from_secs(1);

/// A hole is open for so long that there is use in sending through it: routers of the field forget after 30 seconds and more, but the
/// other side dials for a few seconds only.
const OPEN_FOR: Duration = Duration::from_secs(5);

/// How many wait to be dialled at most: beyond that they are not, and ask again later.
const MAX_WAITING: usize = 32;

/// Of so many addresses it is remembered that a peer named them, the last ones: two messages' worth (BEP 11).
const MAX_INTRODUCED: usize = 100;

/// How often something happened since the minute began.
#[derive(Clone, Copy, Debug, Default)]
struct PerMinute {
    since: Option<Moment>,
    count: u32,
}

impl PerMinute {
    /// Counts it; false where it happens too often.
    fn take(&mut self, now: Moment) -> bool {
        let running = |since: &Moment| now - *since < Duration::from_secs(60);
        if !self.since.is_some_and(|since| running(&since)) {
            *self = PerMinute {
                since: Some(now),
                count: 0,
            };
        }
        self.count += 1;
        self.count <= MAX_A_MINUTE
    }
}

/// What is known of one peer.
#[derive(Debug, Default)]
pub(super) struct Punching {
    /// It knows how.
    pub(super) supported: bool,
    /// Whom it is connected to, as it says, the latest last.
    introduced: VecDeque<SocketAddr>,
    /// It asked us for somebody.
    asked_us: PerMinute,
    /// We told it to dial somebody whom it had not asked for.
    told: PerMinute,
    /// We asked it for somebody.
    asked: PerMinute,
    /// It told us to dial somebody.
    told_us: PerMinute,
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct HolePunches {
    /// Dials to those whom a peer has named, and when to ask it for them; in the order of that.
    unanswered: VecDeque<(Moment, PeerKey)>,
    /// Whom to dial, and until when.
    waiting: VecDeque<(Moment, SocketAddr)>,
}

impl HolePunches {
    /// When a dial has been without an answer for long.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.unanswered.front().map(|&(at, _)| at)
    }
}

impl Peer {
    /// Where others can reach it, as far as is known: where it was dialled, or what its router made of the socket over which it speaks
    /// uTP, which is the one at which it is punched through to; else where it says that it listens.
    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        let Remote::Peer {
            address, origin, ..
        } = self.remote
        else {
            return None;
        };
        let mapped = self.over_utp && self.punching.supported;
        match self.listens_at {
            _ if origin != Origin::Incoming || mapped => Some(address),
            port => Some(SocketAddr::new(address.ip(), port?)),
        }
    }
}

impl Torrent {
    pub(super) fn on_punches(&mut self, key: PeerKey, supported: bool) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.punching.supported = supported;
            self.contacts_changed();
        }
    }

    /// A peer says that it is connected to these.
    pub(super) fn remember_introduced(&mut self, key: PeerKey, addresses: &[SocketAddr]) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let introduced = &mut peer.punching.introduced;
        for &address in addresses {
            if introduced.len() == MAX_INTRODUCED {
                introduced.pop_front();
            }
            introduced.push_back(canonical(address));
        }
    }

    pub(super) fn on_hole_punch(&mut self, key: PeerKey, message: HolePunch) {
        let (now, enabled) = (self.now, self.exchanges_peers() && !self.stopped);
        let peer = self.peers.get_mut(&key);
        // BEP 55: who does not know how is not answered.
        let Some(peer) = peer.filter(|peer| enabled && !peer.closing && peer.punching.supported)
        else {
            return;
        };
        let (punching, address) = (&mut peer.punching, canonical(message.address));
        match message.kind {
            HolePunchKind::Rendezvous if punching.asked_us.take(now) => {
                self.relay(key, message.address);
            }
            HolePunchKind::Connect if punching.told_us.take(now) => self.punch(address),
            HolePunchKind::Failed(_) => punching.introduced.retain(|known| *known != address),
            HolePunchKind::Rendezvous | HolePunchKind::Connect => {}
        }
    }

    /// Tells two peers to dial each other, or the one that asks why not.
    fn relay(&mut self, key: PeerKey, wanted: SocketAddr) {
        let (kind, address) = match self.bring_together(key, canonical(wanted)) {
            Ok((target, initiator)) => {
                let kind = HolePunchKind::Connect;
                let address = initiator;
                self.tell(target, ToPeer::HolePunch(HolePunch { kind, address }));
                (kind, canonical(wanted))
            }
            // BEP 55: of the same address.
            Err(error) => (HolePunchKind::Failed(error), wanted),
        };
        self.tell(key, ToPeer::HolePunch(HolePunch { kind, address }));
    }

    /// Who is at `wanted`, and where it is to dial the initiator.
    fn bring_together(
        &mut self,
        initiator: PeerKey,
        wanted: SocketAddr,
    ) -> Result<(PeerKey, SocketAddr), HolePunchError> {
        if !is_plausible(wanted) {
            return Err(HolePunchError::NO_SUCH_PEER);
        }
        if self.candidates.is_ours(wanted) {
            return Err(HolePunchError::NO_SELF);
        }
        let unreachable = HolePunchError::NOT_CONNECTED;
        let target = self
            .open_peers()
            .find(|&(key, peer)| key != initiator && peer.endpoint() == Some(wanted))
            .map(|(key, _)| key)
            .ok_or(unreachable)?;
        let from = self.peers.get(&initiator).and_then(Peer::endpoint);
        let from = from.filter(|from| from.is_ipv4() == wanted.is_ipv4());
        let now = self.now;
        let target_peer = self.peers.get_mut(&target).ok_or(unreachable)?;
        if !target_peer.punching.supported {
            return Err(HolePunchError::NO_SUPPORT);
        }
        let from = from.ok_or(unreachable)?;
        if !target_peer.punching.told.take(now) {
            return Err(unreachable);
        }
        Ok((target, from))
    }

    /// A relay says that somebody dials us from this address at this moment.
    fn punch(&mut self, address: SocketAddr) {
        let refused = !is_plausible(address)
            || self.candidates.is_banned(address.ip())
            || self.candidates.is_ours(address);
        if refused || self.is_here(address) {
            return;
        }
        // What comes of a dial under way is not for sure its own doing. If nothing does, it is dialled again.
        let under_way = self
            .dialing
            .values_mut()
            .filter(|dial| dial.address == address);
        under_way.for_each(|dial| dial.punched = true);
        self.forget_late_punches();
        let waiting = &mut self.hole_punches.waiting;
        if waiting.len() < MAX_WAITING && !waiting.iter().any(|&(_, known)| known == address) {
            waiting.push_back((self.now + OPEN_FOR, address));
            self.connections_changed = true;
        }
    }

    fn forget_late_punches(&mut self) {
        let now = self.now;
        let waiting = &mut self.hole_punches.waiting;
        while waiting.front().is_some_and(|&(until, _)| until <= now) {
            waiting.pop_front();
        }
    }

    pub(super) fn is_dialled(&self, address: SocketAddr) -> bool {
        self.dialing.values().any(|dial| dial.address == address)
    }

    pub(super) fn is_connected(&self, address: SocketAddr) -> bool {
        self.open_peers()
            .any(|(_, peer)| peer.address() == Some(address))
    }

    /// Whether there is a connection with whoever is there, also where it came from another port.
    fn is_here(&self, address: SocketAddr) -> bool {
        let listens = |peer: &Peer| peer.endpoint() == Some(address);
        self.is_connected(address) || self.open_peers().any(|(_, peer)| listens(peer))
    }

    /// How many holes there are to punch at this moment. Who is being dialled is not among them: that is over uTP too.
    pub(super) fn punches_due(&mut self) -> usize {
        self.forget_late_punches();
        let waiting = self.hole_punches.waiting.iter();
        waiting
            .filter(|&&(_, address)| !self.is_dialled(address))
            .count()
    }

    /// Whom to dial through a hole.
    pub(super) fn next_punch(&mut self) -> Option<SocketAddr> {
        self.forget_late_punches();
        loop {
            let waiting = self.hole_punches.waiting.iter();
            let mut addresses = waiting.map(|&(_, address)| address);
            let at = addresses.position(|address| !self.is_dialled(address))?;
            let (_, address) = self.hole_punches.waiting.remove(at)?;
            let allowed = self.peer_rules.allow(address, Origin::PeerExchange);
            if allowed && !self.is_here(address) && !self.candidates.is_banned(address.ip()) {
                return Some(address);
            }
        }
    }

    /// A dial has begun. If nobody answers it for a while, whoever named its address is asked.
    pub(super) fn watch_dial(&mut self, key: PeerKey, address: SocketAddr) {
        if self.introducer(address).is_some() {
            let unanswered = &mut self.hole_punches.unanswered;
            unanswered.push_back((self.now + UNANSWERED, key));
        }
    }

    /// Asks for those whose dials nobody has answered.
    pub(super) fn review_dials(&mut self) {
        while let Some(&(at, key)) = self.hole_punches.unanswered.front()
            && at <= self.now
        {
            self.hole_punches.unanswered.pop_front();
            if let Some(&dial) = self.dialing.get(&key) {
                self.ask_for(dial);
                if let Some(dial) = self.dialing.get_mut(&key) {
                    dial.asked = true;
                }
            }
        }
    }

    /// Asks somebody who is connected to whom a dial goes, once for each dial.
    pub(super) fn ask_for(&mut self, dial: Dialling) {
        let Dialling { address, .. } = dial;
        if dial.asked || dial.punched || self.stopped || self.is_here(address) {
            return;
        }
        let (now, introducer) = (self.now, self.introducer(address));
        let Some(key) = introducer else { return };
        let peer = self.peers.get_mut(&key);
        if peer.is_some_and(|peer| peer.punching.asked.take(now)) {
            let kind = HolePunchKind::Rendezvous;
            self.tell(key, ToPeer::HolePunch(HolePunch { kind, address }));
        }
    }

    fn introducer(&self, address: SocketAddr) -> Option<PeerKey> {
        let knows =
            |peer: &Peer| peer.punching.supported && peer.punching.introduced.contains(&address);
        let mut open = self.open_peers();
        open.find(|(_, peer)| knows(peer)).map(|(key, _)| key)
    }
}
