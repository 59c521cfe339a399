//! How a cell is run: the content, the torrent, who is started with which order, and what is checked at the end.

use super::{Cell, Found, Transport};
use crate::client::{Client, Job, Running};
use crate::content::{Content, Shape};
use crate::dht_contact::DhtContact;
use crate::lab::Lab;
use crate::origin::Origin;
use crate::torrent::{Maker, Recipe, magnet_of};
use crate::tracker::{Protocol, Tracker, TrackerKind};
use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Large enough for every client's pipeline to fill, small enough for a hundred cells; odd, so that last pieces are short.
const CONTENT_BYTES: u64 = 12 * 1024 * 1024 + 4321;
/// Two hundred pieces.
const PIECE_BYTES: u32 = 64 * 1024;
/// So many pieces that the metadata has several of its own, and that one hash request is not enough.
const MAGNET_PIECE_BYTES: u32 = 16 * 1024;
/// The slowest peer begins after 25 seconds.
const COMPLETE_WITHIN: Duration = Duration::from_secs(90);
/// Transmission tells of others every 90 seconds, rTorrent every 60.
const TOLD_AND_COMPLETE_WITHIN: Duration = Duration::from_secs(240);
/// The slowest peer announces itself after 15 seconds.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(40);
/// Searching before announcing takes some peers a minute.
const ANNOUNCED_TO_DHT_WITHIN: Duration = Duration::from_secs(90);
/// What who only tells of others may receive: a quarter of the content in the longest time that a transfer may take.
const TELLER_BYTES_PER_S: u64 = 12 * 1024;

/// What all steps of a transfer share.
struct Room<'a> {
    cell: &'a Cell,
    lab: &'a Lab,
    content: Content,
    torrent: PathBuf,
    /// Where the tracker, if there is one, or the HTTP server is.
    server: SocketAddr,
}

/// Moves the content of a cell, and checks it.
pub(super) fn run(cell: &Cell, lab: &Lab) -> Result<()> {
    let shape = match cell.folder {
        true => Shape::Folder(CONTENT_BYTES),
        false => Shape::File(CONTENT_BYTES),
    };
    let content = Content::generate(&lab.folder("source")?, "Some content", shape, 42)?;
    let room = Room {
        cell,
        lab,
        torrent: content.parent.with_extension("torrent"),
        content,
        server: lab.address(),
    };
    let target = lab.folder("target")?;
    match cell.found {
        Found::ByExchange => room.by_exchange(&target)?,
        Found::OnTheWeb => room.on_the_web(&target)?,
        _ => room.by_itself(&target)?,
    }
    match cell.leech {
        Client::Shoal => room.content.check_exactly(&target),
        // They make no empty files.
        Client::Transmission | Client::WebTorrent => room.content.check_but_empty(&target),
        _ => room.content.check(&target),
    }
}

impl Room<'_> {
    fn recipe(&self) -> Recipe {
        let pieces = match self.cell.found {
            Found::ByMagnet | Found::ByDht => MAGNET_PIECE_BYTES,
            _ => PIECE_BYTES,
        };
        Recipe::new(self.cell.kind).pieces(pieces)
    }

    fn make(&self, recipe: &Recipe, out: &Path) -> Result<()> {
        let maker = match self.cell.seed {
            Client::Shoal => Maker::Shoal,
            _ => Maker::Libtorrent,
        };
        recipe.make(maker, &self.content, out)
    }

    /// Where a client is to be. Transmission announces to the local network from the machine's first address, whichever it is
    /// bound to; nobody else is there in this case.
    fn address(&self, client: Client) -> SocketAddr {
        match client {
            Client::Transmission if self.cell.found == Found::Locally => self.server,
            _ => self.lab.address(),
        }
    }

    /// A tracker at which nobody is: rTorrent hangs where a torrent has no tracker at all.
    fn nobody(&self) -> String {
        Protocol::Http.url(self.lab.address())
    }

    /// What is in all orders of this cell.
    fn with_cell<'a>(&self, job: Job<'a>) -> Job<'a> {
        Job {
            speech: self.cell.speech,
            utp: self.cell.transport == Transport::Utp,
            local: self.cell.found == Found::Locally,
            ..job
        }
    }

    /// The leech finds the seed without a third peer.
    fn by_itself(&self, target: &Path) -> Result<()> {
        let (cell, lab) = (self.cell, self.lab);
        let mut recipe = self.recipe();
        if let Some((_, protocol)) = cell.tracker() {
            recipe = recipe.tracker(&protocol.url(self.server));
        } else if cell.seed == Client::RTorrent {
            recipe = recipe.tracker(&self.nobody());
        }
        self.make(&recipe, &self.torrent)?;
        let torrent = &self.torrent;
        let tracker = match cell.tracker() {
            Some((kind, _)) => Some(Tracker::start(lab, kind, self.server, &[torrent])?),
            None => None,
        };
        let contact = match cell.found {
            Found::ByDht => Some(DhtContact::start(lab)?),
            _ => None,
        };
        if cell.found == Found::Locally {
            lab.allow_multicast()?;
        }
        let shared = |job| Job {
            router: contact.as_ref().map(|contact| contact.address),
            ..self.with_cell(job)
        };
        let job = Job::seed(torrent, &self.content.parent, self.address(cell.seed));
        let seed = cell.seed.start(lab, &shared(job))?;
        if let Some(tracker) = &tracker {
            tracker.wait_seed(torrent, ANNOUNCED_WITHIN)?;
        }
        if let Some(contact) = &contact {
            contact.wait_announced(torrent, ANNOUNCED_TO_DHT_WITHIN)?;
        }
        let addresses = match cell.found {
            Found::ByAddress => vec![seed.address],
            _ => Vec::new(),
        };
        let link = match contact {
            // Without the trackers of the torrent.
            Some(_) => magnet_without_trackers(torrent)?,
            None => magnet_of(torrent)?,
        };
        let by_link = matches!(cell.found, Found::ByMagnet | Found::ByDht);
        let job = Job {
            magnet: by_link.then_some(link.as_str()),
            ..Job::leech(torrent, target, self.address(cell.leech)).with(&addresses)
        };
        let leech = cell.leech.start(lab, &shared(job))?;
        finish(leech, COMPLETE_WITHIN)?;
        seed.stop();
        Ok(())
    }

    /// The seed and a third peer know each other through a tracker. The leech has a torrent without one and is connected to the
    /// third peer, which receives too slowly to be of any use but to tell it of the seed. That third peer is of the seed's
    /// software: so it is ours that tells others, and others that tell us. The seed itself hears of nobody in this way.
    fn by_exchange(&self, target: &Path) -> Result<()> {
        let (cell, lab) = (self.cell, self.lab);
        let tracked = self.torrent.with_extension("tracked.torrent");
        let with_tracker = self.recipe().tracker(&Protocol::Http.url(self.server));
        self.make(&with_tracker, &tracked)?;
        let untracked = match cell.leech {
            Client::RTorrent => self.recipe().tracker(&self.nobody()),
            _ => self.recipe(),
        };
        self.make(&untracked, &self.torrent)?;
        let tracker = Tracker::start(lab, TrackerKind::OpenTracker, self.server, &[&tracked])?;
        let job = Job {
            exchange: Some(false),
            ..Job::seed(&tracked, &self.content.parent, lab.address())
        };
        let seed = cell.seed.start(lab, &self.with_cell(job))?;
        tracker.wait_seed(&tracked, ANNOUNCED_WITHIN)?;

        let (teller_at, leech_at) = (lab.address(), lab.address());
        let scratch = lab.folder("teller")?;
        let teller = |connect: &[SocketAddr]| {
            let job = Job {
                exchange: Some(true),
                download_limit: Some(TELLER_BYTES_PER_S),
                ..Job::leech(&tracked, &scratch, teller_at).with(connect)
            };
            cell.seed.start(lab, &self.with_cell(job))
        };
        let leech = |connect: &[SocketAddr]| {
            let job = Job {
                exchange: Some(true),
                ..Job::leech(&self.torrent, target, leech_at).with(connect)
            };
            cell.leech.start(lab, &self.with_cell(job))
        };
        // Who can be told addresses calls the other.
        let (teller, leech) = if cell.leech.takes_addresses() {
            let teller = teller(&[])?;
            (teller, leech(&[teller_at])?)
        } else {
            let leech = leech(&[])?;
            (teller(&[leech_at])?, leech)
        };
        finish(leech, TOLD_AND_COMPLETE_WITHIN)?;
        teller.stop();
        seed.stop();
        Ok(())
    }

    /// The torrent names an HTTP server.
    fn on_the_web(&self, target: &Path) -> Result<()> {
        let (cell, lab) = (self.cell, self.lab);
        let mut url = Origin::url(self.server);
        if !cell.folder && cell.leech == Client::WebTorrent {
            // It takes what is named for the file, and not for the folder that it is in.
            url += &self.content.name.replace(' ', "%20");
        }
        let recipe = self.recipe().web_seed(&url);
        self.make(&recipe, &self.torrent)?;
        let root = lab.folder("web")?;
        let together = cell.leech == Client::Shoal && cell.seed != Client::Shoal;
        let seed = if together {
            let job = Job::seed(&self.torrent, &self.content.parent, lab.address());
            Some(cell.seed.start(lab, &self.with_cell(job))?)
        } else {
            None
        };
        let origin = match seed {
            None => Origin::start(lab, self.server, &self.content.parent)?,
            Some(_) => {
                self.content.copy_largest(&root)?;
                Origin::start(lab, self.server, &root)?
            }
        };
        let addresses: Vec<SocketAddr> = seed.iter().map(|seed| seed.address).collect();
        let job = Job::leech(&self.torrent, target, lab.address()).with(&addresses);
        finish(
            cell.leech.start(lab, &self.with_cell(job))?,
            COMPLETE_WITHIN,
        )?;
        ensure!(
            origin.served()? > 0,
            "the HTTP server was asked for nothing"
        );
        seed.into_iter().for_each(Running::stop);
        Ok(())
    }
}

fn finish(mut leech: Running, within: Duration) -> Result<()> {
    leech.wait_complete(within)?;
    leech.stop();
    Ok(())
}

fn magnet_without_trackers(torrent: &Path) -> Result<String> {
    let link = magnet_of(torrent)?;
    let parts = link.split('&').filter(|part| !part.starts_with("tr="));
    Ok(parts.collect::<Vec<_>>().join("&"))
}
