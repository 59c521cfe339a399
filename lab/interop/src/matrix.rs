//! What works with whom: one seed and one leech, for every peer, kind of torrent, direction and way to find each other.

use crate::client::{Client, Job, Speech};
use crate::content::{Content, Shape};
use crate::dht_contact::DhtContact;
use crate::lab::Lab;
use crate::program::Program;
use crate::torrent::{Kind, Maker, Recipe, magnet_of};
use crate::tracker::{Protocol, Tracker, TrackerKind};
use anyhow::{Context, Result};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Large enough for every client's pipeline to fill, small enough for a hundred cells; odd, so that last pieces are short.
const CONTENT_BYTES: u64 = 12 * 1024 * 1024 + 4321;
/// Two hundred pieces.
const PIECE_BYTES: u32 = 64 * 1024;
/// So many pieces that the metadata has several of its own, and that one hash request is not enough.
const MAGNET_PIECE_BYTES: u32 = 16 * 1024;
/// The slowest peer begins after 25 seconds.
const COMPLETE_WITHIN: Duration = Duration::from_secs(90);

/// The slowest peer announces itself after 15 seconds.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(40);

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
    /// It is told a magnet link, and both begin in the DHT with one contact.
    ByDht,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::ByAddress => f.pad("address"),
            Found::Locally => f.pad("LSD"),
            Found::ByTracker(kind, Protocol::Http) => f.pad(&format!("{kind}, HTTP")),
            Found::ByMagnet => f.pad("magnet, opentracker"),
            Found::ByDht => f.pad("magnet, DHT"),
            Found::ByTracker(kind, Protocol::Udp) => f.pad(&format!("{kind}, UDP")),
        }
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
        write!(f, "{:<24}{speech:<10}", self.found)
    }
}

impl Cell {
    /// The programs that it takes.
    #[must_use]
    pub fn needs(&self) -> Vec<Program> {
        let mut needs = vec![Program::Libtorrent];
        needs.extend(self.seed.program());
        needs.extend(self.leech.program());
        if let Some((kind, _)) = self.tracker() {
            needs.push(kind.program());
        }
        needs
    }

    /// What they find each other through.
    const fn tracker(&self) -> Option<(TrackerKind, Protocol)> {
        match self.found {
            Found::ByAddress | Found::Locally | Found::ByDht => None,
            Found::ByTracker(kind, protocol) => Some((kind, protocol)),
            Found::ByMagnet => Some((TrackerKind::OpenTracker, Protocol::Http)),
        }
    }

    /// Why one of the two cannot do this, where it is known not to.
    #[must_use]
    pub fn unsupported(&self) -> Option<&'static str> {
        // Whoever has only the content has no such files, and the pieces with padding fail webtorrent's check.
        if self.seed == Client::WebTorrent && self.kind == Kind::Hybrid && self.folder {
            return Some("the peer wants padding as files when it seeds");
        }
        let both = [self.seed, self.leech];
        if self.found == Found::Locally && !both.iter().all(|client| client.finds_locals()) {
            return Some("the peer has no local service discovery");
        }
        if self.found == Found::ByDht && !both.iter().all(|client| client.has_dht()) {
            return Some("the peer cannot be told where the DHT begins");
        }
        both.into_iter().find_map(|client| client.lacks(self.kind))
    }

    /// Moves content from the seed to the leech, and checks every file by SHA-256.
    ///
    /// # Errors
    ///
    /// What went wrong, in which step.
    pub fn run(&self, lab: &Lab) -> Result<()> {
        self.transfer(lab).with_context(|| self.to_string())
    }

    fn transfer(&self, lab: &Lab) -> Result<()> {
        let shape = match self.folder {
            true => Shape::Folder(CONTENT_BYTES),
            false => Shape::File(CONTENT_BYTES),
        };
        let content = Content::generate(&lab.folder("source")?, "Some content", shape, 42)?;
        let pieces = match self.found {
            Found::ByMagnet | Found::ByDht => MAGNET_PIECE_BYTES,
            _ => PIECE_BYTES,
        };
        let tracker_address = lab.address();
        let mut recipe = Recipe::new(self.kind).pieces(pieces);
        if let Some((_, protocol)) = self.tracker() {
            recipe = recipe.tracker(&protocol.url(tracker_address));
        }
        if self.found == Found::ByAddress && self.seed == Client::RTorrent {
            // It hangs where a torrent has no tracker at all. Nobody is at this one.
            recipe = recipe.tracker(&Protocol::Http.url(tracker_address));
        }
        let maker = if self.seed == Client::Shoal {
            Maker::Shoal
        } else {
            Maker::Libtorrent
        };
        let torrent = content.parent.with_extension("torrent");
        recipe.make(maker, &content, &torrent)?;
        let tracker = match self.tracker() {
            Some((kind, _)) => Some(Tracker::start(lab, kind, tracker_address, &[&torrent])?),
            None => None,
        };
        let contact = match self.found {
            Found::ByDht => Some(DhtContact::start(lab)?),
            _ => None,
        };
        let begins: Vec<SocketAddr> = contact.iter().map(|contact| contact.address).collect();
        let link = magnet_of(&torrent)?;
        let local = self.found == Found::Locally;
        if local {
            lab.allow_multicast()?;
        }

        // Transmission announces from the machine's first address, whichever it is bound to. No tracker is there in this case.
        let address = |client| match client {
            Client::Transmission if local => tracker_address,
            _ => lab.address(),
        };
        let job = Job {
            local,
            dht: &begins,
            speech: self.speech,
            ..Job::seed(&torrent, &content.parent, address(self.seed))
        };
        let seed = self.seed.start(lab, &job)?;
        if let Some(tracker) = &tracker {
            tracker.wait_seed(&torrent, ANNOUNCED_WITHIN)?;
        }
        if let Some(contact) = &contact {
            contact.wait_announced(&torrent, ANNOUNCED_WITHIN)?;
        }
        let addresses = match self.found {
            Found::ByAddress => vec![seed.address],
            Found::ByTracker(..) | Found::ByMagnet | Found::ByDht | Found::Locally => Vec::new(),
        };
        let target = lab.folder("target")?;
        let job = Job {
            local,
            dht: &begins,
            speech: self.speech,
            magnet: matches!(self.found, Found::ByMagnet | Found::ByDht).then_some(link.as_str()),
            ..Job::leech(&torrent, &target, address(self.leech)).with(&addresses)
        };
        let mut leech = self.leech.start(lab, &job)?;
        leech.wait_complete(COMPLETE_WITHIN)?;
        leech.stop();
        seed.stop();
        match self.leech {
            Client::Shoal => content.check_exactly(&target),
            // They make no empty files.
            Client::Transmission | Client::WebTorrent => content.check_but_empty(&target),
            _ => content.check(&target),
        }
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
    for kind in [Kind::V1, Kind::V2, Kind::Hybrid] {
        for folder in [false, true] {
            cells.push(Cell {
                seed,
                leech,
                kind,
                folder,
                found,
                speech: Speech::Usual,
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
            cells.push(Cell {
                seed,
                leech,
                kind,
                folder: true,
                found,
                speech: Speech::Usual,
            });
        }
    }
    cells
}

/// Transfers in which the leech is told no more than a magnet link.
#[must_use]
pub fn magnet_cells(seed: Client, leech: Client) -> Vec<Cell> {
    [Kind::V1, Kind::V2, Kind::Hybrid]
        .map(|kind| Cell {
            seed,
            leech,
            kind,
            folder: true,
            found: Found::ByMagnet,
            speech: Speech::Usual,
        })
        .to_vec()
}

/// Transfers in which the leech is told no more than a magnet link without a tracker, and both know a contact of the DHT.
#[must_use]
pub fn dht_cells(seed: Client, leech: Client) -> Vec<Cell> {
    let cells = magnet_cells(seed, leech).into_iter();
    let found = Found::ByDht;
    cells.map(|cell| Cell { found, ..cell }).collect()
}

/// A transfer in which two clients find each other on the local network.
#[must_use]
pub fn local_cell(seed: Client, leech: Client, kind: Kind) -> Cell {
    Cell {
        seed,
        leech,
        kind,
        folder: true,
        found: Found::Locally,
        speech: Speech::Usual,
    }
}

/// Transfers of a folder of every kind, in which both sides speak encrypted alone, payload included.
#[must_use]
pub fn encrypted_cells(seed: Client, leech: Client) -> Vec<Cell> {
    let folders = cells(seed, leech).into_iter().filter(|cell| cell.folder);
    let speech = Speech::Encrypted;
    folders.map(|cell| Cell { speech, ..cell }).collect()
}

/// All of the above, with the kind that all know where they find each other.
#[must_use]
pub fn between(seed: Client, leech: Client) -> Vec<Cell> {
    let mut all = cells(seed, leech);
    all.extend(encrypted_cells(seed, leech));
    all.extend(tracked_cells(seed, leech, Kind::V1));
    all.extend(magnet_cells(seed, leech));
    all.extend(dht_cells(seed, leech));
    all.push(local_cell(seed, leech, Kind::V1));
    all
}
