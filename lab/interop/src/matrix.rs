//! What works with whom: one seed and one leech, for every peer, kind of torrent, transport, encryption, direction and way to find
//! each other.

mod covering;
mod page;
mod transfer;

pub use covering::{Combination, DISCOVERIES, covering};
pub use page::{Became, Ran, tables, write};

use crate::client::{Client, Speech};
use crate::lab::Lab;
use crate::program::Program;
use crate::torrent::Kind;
use crate::tracker::{Protocol, TrackerKind};
use anyhow::{Context, Result};
use std::fmt;

/// How the leech finds the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is told the address.
    ByAddress,
    /// Both look for peers on the local network.
    Locally,
    /// Both announce to a tracker.
    ByTracker(TrackerKind, Protocol),
    /// It is told a magnet link, and both announce to a tracker.
    ByMagnet,
    /// It is told a magnet link, and both have one DHT contact.
    ByDht,
    /// A third peer, a client as the seed is or ours in its place, tells it.
    ByExchange,
    /// The torrent names an HTTP server. That has everything, and there is no other seed; where the leech is ours, it has the largest
    /// file, and the seed is there too.
    OnTheWeb,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::ByAddress => f.pad("address"),
            Found::Locally => f.pad("LSD"),
            Found::ByTracker(kind, Protocol::Http) => f.pad(&format!("{kind}, HTTP")),
            Found::ByTracker(kind, Protocol::Udp) => f.pad(&format!("{kind}, UDP")),
            Found::ByMagnet => f.pad("magnet, opentracker"),
            Found::ByDht => f.pad("magnet, DHT"),
            Found::ByExchange => f.pad("PEX"),
            Found::OnTheWeb => f.pad("web seed"),
        }
    }
}

/// What connections to peers run over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    #[default]
    Tcp,
    /// uTP alone (BEP 29).
    Utp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Transport::Tcp => "TCP",
            Transport::Utp => "uTP",
        })
    }
}

/// One transfer.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Who has the content.
    pub seed: Client,
    /// Who fetches it.
    pub leech: Client,
    /// The torrent's kind.
    pub kind: Kind,
    /// A folder of many files, or one file.
    pub folder: bool,
    /// How the leech finds the seed.
    pub found: Found,
    /// How both begin their connections.
    pub speech: Speech,
    /// What the connections run over.
    pub transport: Transport,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { seed, leech, .. } = self;
        let shape = if self.folder { "folder" } else { "file" };
        write!(f, "{seed:<12} -> {leech:<12} {:<6} {shape:<6} ", self.kind)?;
        let speech = match self.speech {
            Speech::Usual => "",
            Speech::Clear => "clear",
            Speech::Encrypted => "encrypted",
        };
        write!(f, "{:<24}{:<4}{speech:<10}", self.found, self.transport)
    }
}

impl Cell {
    /// A folder, over TCP, to a leech that is told the address.
    #[must_use]
    pub const fn new(seed: Client, leech: Client, kind: Kind) -> Cell {
        Cell {
            seed,
            leech,
            kind,
            folder: true,
            found: Found::ByAddress,
            speech: Speech::Usual,
            transport: Transport::Tcp,
        }
    }

    /// The programs that it takes.
    #[must_use]
    pub fn needs(&self) -> Vec<Program> {
        let mut needs = vec![Program::Libtorrent];
        needs.extend(self.seed.program());
        needs.extend(self.leech.program());
        if let Some((kind, _)) = self.tracker() {
            needs.push(kind.program());
        }
        if self.found == Found::OnTheWeb {
            needs.push(Program::Nginx);
        }
        needs
    }

    /// What seed and leech, or the seed and who tells of it, find each other through.
    pub(crate) const fn tracker(&self) -> Option<(TrackerKind, Protocol)> {
        match self.found {
            Found::ByAddress | Found::Locally | Found::ByDht | Found::OnTheWeb => None,
            Found::ByTracker(kind, protocol) => Some((kind, protocol)),
            Found::ByMagnet | Found::ByExchange => Some((TrackerKind::OpenTracker, Protocol::Http)),
        }
    }

    /// Why one of the two cannot do this, where it is known not to.
    #[must_use]
    pub fn unsupported(&self) -> Option<&'static str> {
        // Whoever has only the content has no such files, and the pieces with padding fail webtorrent's check.
        if self.seed == Client::WebTorrent && self.kind == Kind::Hybrid && self.folder {
            return Some("the peer wants padding as files when it seeds");
        }
        // libtorrent 2.1 fetches ranges over the ends of files, pieces of v2 end there, and it bans the server for what it then takes
        // for wrong: of its own torrents too.
        if self.leech == Client::Libtorrent
            && self.found == Found::OnTheWeb
            && self.kind == Kind::V2
            && self.folder
        {
            return Some("the peer bans web seeds of v2 folders");
        }
        // rTorrent 0.9.8 dials 54.58.a.b where the DHT names a.b.c.d: "6:", which stands before the address, is a part of it to it.
        if self.leech == Client::RTorrent && self.found == Found::ByDht {
            return Some("the peer misreads the addresses that it has from the DHT");
        }
        if self.seed == Client::WebTorrent && self.found == Found::ByExchange {
            return Some("the peer hears of others and tells of nobody");
        }
        if self.leech == Client::WebTorrent
            && self.found == Found::OnTheWeb
            && self.kind == Kind::Hybrid
            && self.folder
        {
            return Some("the peer asks the web seed for padding");
        }
        let both = [self.seed, self.leech];
        let lacking = both.into_iter().find_map(|client| {
            client.lacks(self.kind).or_else(|| {
                client
                    .lacks_utp()
                    .filter(|_| self.transport == Transport::Utp)
            })
        });
        lacking.or_else(|| {
            both.into_iter()
                .find_map(|client| client.lacks_way(self.found))
        })
    }

    /// Moves content from the seed to the leech, and checks every file by SHA-256.
    ///
    /// # Errors
    ///
    /// What went wrong, in which step.
    pub fn run(&self, lab: &Lab) -> Result<()> {
        transfer::run(self, lab).with_context(|| self.to_string())
    }
}

/// The clients that are not ours.
pub const PEERS: [Client; 6] = [
    Client::Libtorrent,
    Client::QBittorrent,
    Client::Transmission,
    Client::Aria2,
    Client::RTorrent,
    Client::WebTorrent,
];

/// All kinds of torrents.
pub(crate) const KINDS: [Kind; 3] = [Kind::V1, Kind::V2, Kind::Hybrid];

/// All transfers from one client to another, of every kind: by address where the leech can be told one, else through a
/// tracker.
#[must_use]
pub fn cells(seed: Client, leech: Client) -> Vec<Cell> {
    let found = if leech.takes_addresses() {
        Found::ByAddress
    } else {
        Found::ByTracker(TrackerKind::OpenTracker, Protocol::Http)
    };
    let mut cells = Vec::new();
    for kind in KINDS {
        for folder in [false, true] {
            cells.push(Cell {
                folder,
                found,
                ..Cell::new(seed, leech, kind)
            });
        }
    }
    cells
}

/// Transfers in which two clients find each other through each tracker, over HTTP and UDP.
#[must_use]
pub fn tracked_cells(seed: Client, leech: Client, kind: Kind) -> Vec<Cell> {
    let mut cells = Vec::new();
    for tracker in [TrackerKind::OpenTracker, TrackerKind::BittorrentTracker] {
        for protocol in [Protocol::Http, Protocol::Udp] {
            let found = Found::ByTracker(tracker, protocol);
            cells.push(found_cell(seed, leech, kind, found));
        }
    }
    cells
}

/// Transfers in which the leech is told no more than a magnet link.
#[must_use]
pub fn magnet_cells(seed: Client, leech: Client) -> Vec<Cell> {
    KINDS
        .map(|kind| found_cell(seed, leech, kind, Found::ByMagnet))
        .to_vec()
}

/// Transfers in which the leech is told no more than a magnet link without a tracker, and both know a contact of the DHT.
#[must_use]
pub fn dht_cells(seed: Client, leech: Client) -> Vec<Cell> {
    KINDS
        .map(|kind| found_cell(seed, leech, kind, Found::ByDht))
        .to_vec()
}

/// A transfer of a folder in which two clients find each other like this.
#[must_use]
pub const fn found_cell(seed: Client, leech: Client, kind: Kind, found: Found) -> Cell {
    Cell {
        found,
        ..Cell::new(seed, leech, kind)
    }
}

/// Transfers of a folder of every kind, in which both sides speak encrypted alone, payload included.
#[must_use]
pub fn encrypted_cells(seed: Client, leech: Client) -> Vec<Cell> {
    let folders = cells(seed, leech).into_iter().filter(|cell| cell.folder);
    let speech = Speech::Encrypted;
    folders.map(|cell| Cell { speech, ..cell }).collect()
}

/// Transfers of a folder of every kind over uTP alone, and one that is encrypted too, of the kind that all know.
#[must_use]
pub fn utp_cells(seed: Client, leech: Client) -> Vec<Cell> {
    let folders = cells(seed, leech).into_iter().filter(|cell| cell.folder);
    let transport = Transport::Utp;
    let mut cells: Vec<Cell> = folders.map(|cell| Cell { transport, ..cell }).collect();
    let encrypted = cells.iter().filter(|cell| cell.kind == Kind::V1);
    let speech = Speech::Encrypted;
    let encrypted: Vec<Cell> = encrypted.map(|cell| Cell { speech, ..*cell }).collect();
    cells.extend(encrypted);
    cells
}

/// Of some cells those that are run with every change: all that both can do, or where a client takes long to begin, the last.
#[must_use]
pub fn with_every_change(cells: Vec<Cell>) -> Vec<Cell> {
    let possible = cells
        .into_iter()
        .filter(|cell| cell.unsupported().is_none());
    let mut possible: Vec<Cell> = possible.collect();
    let slow = |client| matches!(client, Client::QBittorrent | Client::Transmission);
    if possible
        .iter()
        .any(|cell| slow(cell.seed) || slow(cell.leech))
    {
        possible.drain(..possible.len() - 1);
    }
    possible
}

/// The cells between two clients, of which one is ours or both are: what covers the combinations of the other.
#[must_use]
pub fn between(seed: Client, leech: Client) -> Vec<Cell> {
    let peer = if seed == Client::Shoal { leech } else { seed };
    let cell = |of: Combination| {
        let cell = Cell {
            found: of.found,
            speech: of.speech,
            transport: of.transport,
            ..Cell::new(seed, leech, of.kind)
        };
        // Where a client cannot seed folders of this kind, it seeds a file.
        let folder = cell.unsupported().is_none();
        Cell { folder, ..cell }
    };
    covering(peer).into_iter().map(cell).collect()
}
