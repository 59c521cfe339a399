//! The DHT, as torrents and connections see it: one participant for all torrents, over the UDP sockets of the peers' port.
//!
//! [`driver`] drives the machine, [`schedule`] says when a swarm is looked for, and [`saved`] is what is kept over a restart.
//!
//! Invariant: nothing is sent and nothing that comes is answered before a torrent wants to be found; a private torrent never does, nor
//! what no torrent describes; no torrent and no connection is waited for.

mod driver;
mod saved;
mod schedule;

use crate::inbox::Sender;
use crate::mailbox::{Mailbox, separate};
use crate::torrent::ToTorrent;
pub(crate) use driver::{DhtTask, Parts};
use shoal_dht::{Family, Settings};
use shoal_metainfo::InfoHash;
use shoal_metainfo::metainfo::Contact;
use shoal_transport::OriginClass;
use shoal_wire::Message;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// How the engine takes part in the DHT.
#[derive(Clone, Debug, Default)]
pub struct DhtConfig {
    /// Whom to ask for the first contacts.
    pub routers: Vec<DhtRouter>,
    /// The file that keeps contacts over a restart, whose folder exists; `None` keeps none.
    pub saved: Option<PathBuf>,
    /// Limits and rules. A family without a socket is off in any case.
    pub settings: Settings,
}

/// A contact that everybody begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhtRouter {
    /// Where it is.
    pub contact: Contact,
    /// Who named it: one that the user named may be anywhere, and counts as any other contact besides.
    pub origin: OriginClass,
}

/// Addresses that may wait for the driver; others are not missed.
const MAX_KNOWN: usize = 64;

/// What torrents tell the driver.
#[derive(Debug)]
enum ToDht {
    Join {
        swarm: InfoHash,
        is_seed: bool,
        torrent: Sender<ToTorrent>,
    },
    Leave(InfoHash),
    /// A swarm has few peers.
    Want(InfoHash),
    /// Whether we have everything of a swarm.
    IsSeed(InfoHash, bool),
    /// Where to ask as well.
    Nodes(Vec<Contact>),
    Stop,
}

/// Addresses that somebody takes for participants.
#[derive(Debug)]
enum Known {
    /// By a connection, or by local service discovery; or the names of a torrent's nodes stand for them.
    Contacts(Vec<SocketAddr>),
    /// A router's name stands for them.
    Routers(Vec<SocketAddr>, OriginClass),
}

/// How everybody speaks to the driver. Clones speak to the same.
#[derive(Clone, Debug)]
pub(crate) struct DhtPeers {
    mailbox: Mailbox<ToDht>,
    known: mpsc::Sender<Known>,
    /// Where it listens, for each family.
    ports: [Option<u16>; 2],
}

impl DhtPeers {
    /// Looks for peers of these swarms and makes us known to them, until what this returns is dropped. `nodes` are contacts that the torrent
    /// names.
    pub(crate) fn join(
        &self,
        swarms: impl Iterator<Item = InfoHash>,
        is_seed: bool,
        nodes: &[Contact],
        torrent: &Sender<ToTorrent>,
    ) -> Membership {
        let mut membership = Membership {
            swarms: Vec::new(),
            is_seed,
            torrent: torrent.clone(),
            mailbox: self.mailbox.clone(),
        };
        swarms.for_each(|swarm| membership.add(swarm));
        if !nodes.is_empty() {
            self.mailbox.push(ToDht::Nodes(nodes.to_vec()), separate);
        }
        membership
    }

    /// Somebody on the local network who may take part, on the port where peers connect.
    pub(crate) fn meet(&self, address: SocketAddr) {
        // Where there is no room, enough are known.
        drop(self.known.try_send(Known::Contacts(vec![address])));
    }

    /// What a connection says and hears about the DHT, where the remote is at `ip` and takes part too.
    pub(crate) fn acquaint(&self, ip: IpAddr) -> Option<Acquaintance> {
        let ip = ip.to_canonical();
        Some(Acquaintance {
            our_port: self.ports[Family::of(ip) as usize]?,
            ip,
            known: self.known.clone(),
            was_told: false,
        })
    }

    /// Writes down what is worth keeping, and ends.
    pub(crate) fn stop(&self) {
        self.mailbox.push(ToDht::Stop, separate);
    }
}

/// A torrent's being looked for and known.
#[derive(Debug)]
pub(crate) struct Membership {
    swarms: Vec<InfoHash>,
    is_seed: bool,
    torrent: Sender<ToTorrent>,
    mailbox: Mailbox<ToDht>,
}

impl Membership {
    /// In this swarm too.
    pub(crate) fn add(&mut self, swarm: InfoHash) {
        self.swarms.push(swarm);
        let (is_seed, torrent) = (self.is_seed, self.torrent.clone());
        let join = ToDht::Join {
            swarm,
            is_seed,
            torrent,
        };
        self.mailbox.push(join, separate);
    }

    /// More addresses would help.
    pub(crate) fn want_peers(&self) {
        for swarm in &self.swarms {
            self.mailbox.push(ToDht::Want(*swarm), separate);
        }
    }

    /// What is announced is to say whether we have everything (BEP 33).
    pub(crate) fn update(&mut self, is_seed: bool) {
        if std::mem::replace(&mut self.is_seed, is_seed) != is_seed {
            for swarm in &self.swarms {
                self.mailbox.push(ToDht::IsSeed(*swarm, is_seed), separate);
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        for swarm in &self.swarms {
            self.mailbox.push(ToDht::Leave(*swarm), separate);
        }
    }
}

/// A remote that said in its handshake, as we did, that it takes part: each tells the other where (BEP 5).
#[derive(Debug)]
pub(crate) struct Acquaintance {
    our_port: u16,
    ip: IpAddr,
    known: mpsc::Sender<Known>,
    was_told: bool,
}

impl Acquaintance {
    /// What we say.
    pub(crate) const fn introduction(&self) -> Message {
        Message::Port(self.our_port)
    }

    /// What the remote says. Only the first word of a connection counts, as each costs us a datagram.
    pub(crate) fn hear(&mut self, port: u16) {
        if !std::mem::replace(&mut self.was_told, true) && port != 0 {
            let address = SocketAddr::new(self.ip, port);
            drop(self.known.try_send(Known::Contacts(vec![address])));
        }
    }
}
