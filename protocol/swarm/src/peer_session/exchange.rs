//! What the remote is told of our connections, and what it tells of its own (BEP 11).
//!
//! Invariant: at most one message a minute goes out, and it names at most [`MAX_TOLD_AT_ONCE`] new and as many lost contacts, none of
//! them twice; in a torrent that keeps to itself, nothing is told and nothing is heard.

use super::{Output, PeerSession, Timer};
use crate::message::FromPeer;
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::Moment;
use shoal_wire::{Contact, Extension, Message, PeerExchange};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// How often the remote is told at most (BEP 11).
const EVERY: Duration = Duration::from_secs(60);

/// How many of each a message names at most (BEP 11).
const MAX_TOLD_AT_ONCE: usize = 50;

/// So many messages may come within a minute, as clocks and queues stretch them; who sends more floods us. As in libtorrent.
const MAX_HEARD_A_MINUTE: usize = 6;

/// So many contacts of one remote are taken, those that it takes back not counted: no remote fills our list alone. As in libtorrent.
const MAX_INTRODUCED: usize = 50;

/// Why a remote that tells more than that is left.
pub(crate) const FLOOD: &str = "it keeps telling of peers";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Whom we are connected to, as of the last time that the torrent said so.
    contacts: Arc<[Contact]>,
    /// Whom the remote knows from us.
    told: BTreeSet<SocketAddr>,
    /// The remote may not be told before.
    not_before: Moment,
    heard: Heard,
    /// Where it listens, as it says.
    pub(super) port: Option<u16>,
}

/// What one remote has told of its own connections.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// When it last told us, the oldest first.
    at: VecDeque<Moment>,
    /// Whom we know from it.
    introduced: BTreeSet<SocketAddr>,
}

impl Heard {
    /// Gives the addresses that are new, and nothing where the remote floods us.
    pub(crate) fn hear(&mut self, now: Moment, exchange: PeerExchange) -> Option<Vec<SocketAddr>> {
        while self.at.front().is_some_and(|at| *at + EVERY <= now) {
            self.at.pop_front();
        }
        if self.at.len() == MAX_HEARD_A_MINUTE {
            return None;
        }
        self.at.push_back(now);
        for address in exchange.dropped {
            self.introduced.remove(&address);
        }
        let mut news = Vec::new();
        for contact in exchange.added {
            if self.introduced.len() < MAX_INTRODUCED && self.introduced.insert(contact.address) {
                news.push(contact.address);
            }
        }
        Some(news)
    }
}

impl PeerSession {
    pub(super) fn on_contacts(&mut self, contacts: Arc<[Contact]>) {
        self.exchange.contacts = contacts;
        self.tell_contacts();
    }

    /// Tells the remote what has changed, or sets the timer for when it may be told.
    pub(super) fn tell_contacts(&mut self) {
        let wants = self.remote_extensions.id(Extension::PeerExchange).is_some();
        if !self.settings.exchange || !wants {
            return;
        }
        if self.now < self.exchange.not_before {
            return self.timers.set(Timer::Exchange, self.exchange.not_before);
        }
        let changes = self.changes();
        if changes == PeerExchange::default() {
            return;
        }
        let told = &mut self.exchange.told;
        changes.dropped.iter().for_each(|address| {
            told.remove(address);
        });
        told.extend(changes.added.iter().map(|contact| contact.address));
        self.exchange.not_before = self.now + EVERY;
        // Where there is more than one message takes, or by then.
        self.timers.set(Timer::Exchange, self.exchange.not_before);
        self.send(Message::PeerExchange(changes));
    }

    fn changes(&self) -> PeerExchange {
        let Exchange { contacts, told, .. } = &self.exchange;
        let itself = |address: SocketAddr| {
            Some(address.ip()) == self.settings.your_ip
                && Some(address.port()) == self.exchange.port
        };
        let new = |contact: &&Contact| !told.contains(&contact.address) && !itself(contact.address);
        let added = contacts.iter().filter(new).take(MAX_TOLD_AT_ONCE);
        let lost =
            |address: &&SocketAddr| !contacts.iter().any(|contact| contact.address == **address);
        let dropped = told.iter().filter(lost).take(MAX_TOLD_AT_ONCE);
        PeerExchange {
            added: added.copied().collect(),
            dropped: dropped.copied().collect(),
        }
    }

    pub(super) fn on_peer_exchange(&mut self, exchange: PeerExchange) {
        if !self.settings.exchange {
            return;
        }
        let Some(news) = self.exchange.heard.hear(self.now, exchange) else {
            return self.refuse(FLOOD);
        };
        if !news.is_empty() {
            self.outputs
                .push_back(Output::Torrent(FromPeer::Introduced(news)));
        }
    }

    /// The remote says where it listens.
    pub(super) fn on_listen_port(&mut self, port: u16) {
        if self.exchange.port != Some(port) {
            self.exchange.port = Some(port);
            if self.theirs.is_some() {
                self.tell(FromPeer::ListensAt(port));
            }
        }
    }
}
