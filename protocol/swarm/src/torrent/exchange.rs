//! Whom our peers are told of, and whom they tell us of (BEP 11).
//!
//! Invariant: only peers with which a connection stands are named, at an address where they can be dialled; in a torrent that keeps
//! to itself, nobody is named and nobody's word is taken.

use super::peer::Remote;
use super::{Origin, Output, Torrent};
use crate::message::{PeerKey, ToPeer};
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_wire::{Contact, ContactFlags};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Connections change all the time: they are looked at together, so often at most. Each remote hears of it once a minute at most,
/// which its session sees to.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How many are named at most: those that have been connected for longest. A remote dials no more of one peer's word.
const MAX_CONTACTS: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Whether peers are told of each other at all.
    enabled: bool,
    contacts: Arc<[Contact]>,
    looked: Option<Moment>,
    /// When to look again, where something has changed.
    pub(super) due: Option<Moment>,
}

impl Exchange {
    pub(super) fn new(enabled: bool) -> Self {
        Exchange {
            enabled,
            ..Exchange::default()
        }
    }
}

impl Torrent {
    /// Whether peers are told of each other: sessions are set up alike.
    #[must_use]
    pub const fn exchanges_peers(&self) -> bool {
        self.exchange.enabled
    }

    /// Who is connected, or what is known of them, has changed.
    pub(super) fn contacts_changed(&mut self) {
        if self.exchange.enabled && self.exchange.due.is_none() {
            let soonest = self.exchange.looked.map_or(self.now, |at| at + LOOK_EVERY);
            self.exchange.due = Some(soonest.max(self.now));
        }
    }

    /// Tells every session whom we are connected to, where that is due and has changed.
    pub(super) fn exchange_contacts(&mut self) {
        if self.exchange.due.is_none_or(|at| at > self.now) {
            return;
        }
        self.exchange.due = None;
        // Two may say that they listen at the same address.
        let mut named = BTreeSet::new();
        let contacts = self
            .contacts()
            .filter(|contact| named.insert(contact.address));
        let contacts: Arc<[Contact]> = contacts.take(MAX_CONTACTS).collect();
        if contacts != self.exchange.contacts {
            // Who joins says where it listens soon after: a look that finds nothing does not put that off.
            self.exchange.looked = Some(self.now);
            self.exchange.contacts = Arc::clone(&contacts);
            let news = ToPeer::Contacts(contacts);
            self.outputs.push_back(Output::Broadcast(news));
        }
    }

    fn contacts(&self) -> impl Iterator<Item = Contact> {
        let joined = self.open_peers().filter(|(_, peer)| peer.has.is_some());
        joined.filter_map(|(_, peer)| {
            let Remote::Peer { origin, .. } = peer.remote else {
                return None;
            };
            let address = peer.endpoint()?;
            let mut flags = ContactFlags::default();
            if origin != Origin::Incoming && !peer.punched {
                flags = flags.with(ContactFlags::REACHABLE);
            }
            if peer.over_utp {
                flags = flags.with(ContactFlags::UTP);
            }
            if peer.punching.supported {
                flags = flags.with(ContactFlags::PUNCHES);
            }
            if peer.is_seed() || peer.upload_only {
                flags = flags.with(ContactFlags::SEED);
            }
            Some(Contact { address, flags })
        })
    }

    /// A peer has joined: it hears what the others have heard, and they will hear of it.
    pub(super) fn introduce(&mut self, key: PeerKey) {
        let stays = self.peers.get(&key).is_some_and(|peer| !peer.closing);
        if stays && !self.exchange.contacts.is_empty() {
            let contacts = Arc::clone(&self.exchange.contacts);
            self.tell(key, ToPeer::Contacts(contacts));
        }
        self.contacts_changed();
    }

    pub(super) fn on_over_utp(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.over_utp = true;
        }
    }

    pub(super) fn on_introduced(&mut self, key: PeerKey, addresses: Vec<SocketAddr>) {
        if self.exchange.enabled {
            self.remember_introduced(key, &addresses);
            self.on_candidates(Origin::PeerExchange, addresses);
        }
    }
}
