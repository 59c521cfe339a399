//! A torrent from its metainfo to running: opened, checked as far as it has to be, given its machine and its trackers.
//!
//! Invariant: before a torrent runs, people are the only ones who can speak to it.

use crate::connect::Introduction;
use crate::engine::{AddTorrent, Environment};
use crate::hashes::{FileSpan, HashServer};
use crate::magnet::{AddMagnet, MagnetHandle};
use crate::mailbox::Mailbox;
use crate::register::Registration;
use crate::session::ToSession;
use crate::snapshot::{Phase, Shown};
use crate::torrent::{self, Inbox, MAX_EVENTS, OnDisk, Parts, ToTorrent, TorrentId, TorrentTask};
use crate::tracker::{Announcer, Standing, Totals, TrackerTask, Trackers};
use crate::web_seed::{Asked, Place};
use bytes::Bytes;
use shoal_machine::Machine;
use shoal_metainfo::metainfo::TrackerUrl;
use shoal_metainfo::{Bitfield, FileIndex, Metainfo, PieceIndex};
use shoal_storage::{ContentSpec, Event, Mode, Storage, StorageError};
use shoal_swarm::torrent::{Input, Origin, Priority, Torrent, TorrentConfig};
use shoal_transport::OriginClass;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use url::Url;

/// What storage is to know of the content of a torrent.
pub(crate) fn content_spec(add: &AddTorrent, wanted: &[bool]) -> ContentSpec {
    ContentSpec {
        journal: add.journal.clone(),
        renamed: add.renamed.clone(),
        mode: if add.seed_only {
            Mode::Seed
        } else {
            Mode::Download
        },
        preallocate: add.preallocate,
        accept_missing: add.accept_missing,
        ..ContentSpec::new(&add.metainfo, add.directory.clone(), wanted)
    }
}

/// Opens a content. Blocks on the disk.
pub(crate) fn open(storage: &Storage, spec: ContentSpec) -> Result<OnDisk, StorageError> {
    let (sender, events) = mpsc::channel(MAX_EVENTS);
    let content = storage.open(spec, sender)?;
    Ok(OnDisk { content, events })
}

/// How much each piece is wanted, where these files are. Whoever only seeds fetches nothing.
fn priorities(add: &AddTorrent, wanted: &[bool]) -> Vec<Priority> {
    let metainfo = &add.metainfo;
    let pieces = metainfo.layout().piece_count() as usize;
    if add.seed_only {
        return vec![Priority::Skip; pieces];
    }
    // Also those of nothing but padding: without them, the torrent would never be whole.
    if wanted.iter().all(|&wanted| wanted) {
        return vec![Priority::Normal; pieces];
    }
    let mut priorities = vec![Priority::Skip; pieces];
    for ((index, file), &wanted) in (0..).zip(metainfo.files()).zip(wanted) {
        if wanted && !file.padding {
            for piece in metainfo.pieces_of(FileIndex(index)) {
                priorities[piece as usize] = Priority::Normal;
            }
        }
    }
    priorities
}

/// What answers hash requests.
pub(crate) fn hash_server(metainfo: &Metainfo) -> HashServer {
    let piece_length = metainfo.layout().piece_length();
    let spans = (0..).zip(metainfo.files()).filter_map(|(index, file)| {
        let first = PieceIndex(metainfo.pieces_of(FileIndex(index)).start);
        Some(FileSpan {
            root: file.root?,
            length: file.length,
            first,
        })
    });
    HashServer::new(Arc::new(metainfo.verifier().clone()), piece_length, spans)
}

/// The torrent's own trackers, then those that the user named, each in a tier of its own. Nobody else knows the name of content
/// without a torrent.
fn tiers(add: &AddTorrent) -> Vec<Vec<Url>> {
    if add.metainfo.is_plain() {
        return Vec::new();
    }
    let parse = |tier: &Vec<TrackerUrl>| -> Vec<Url> {
        let urls = tier.iter().map(|tracker| tracker.url.parse());
        urls.filter_map(Result::ok).collect()
    };
    let own = add.metainfo.trackers().iter().map(parse);
    let named = add.trackers.iter().map(|tracker| vec![tracker.clone()]);
    own.chain(named).collect()
}

/// The trackers of a magnet link, each a tier of its own, then those that the user named.
pub(crate) fn magnet_tiers(add: &AddMagnet) -> Vec<Vec<Url>> {
    let own = add.magnet.trackers.iter();
    let own = own.filter_map(|tracker| tracker.url.parse().ok());
    own.chain(add.trackers.iter().cloned())
        .map(|url| vec![url])
        .collect()
}

/// The web seeds and mirrors that the user named, then the torrent's own, each once.
fn web_seeds(add: &AddTorrent) -> Vec<Place> {
    let own = |urls: &[String], asked: fn(Url) -> Asked| -> Vec<Place> {
        let urls = urls.iter().filter_map(|url| url.parse().ok());
        let origin = OriginClass::Metainfo;
        let place = |url| Place {
            asked: asked(url),
            origin,
        };
        urls.map(place).collect()
    };
    let named = add.web_seeds.iter().cloned().map(Asked::Files);
    let mut places: Vec<Place> = named
        .map(|asked| Place {
            asked,
            origin: OriginClass::User,
        })
        .collect();
    places.extend(add.mirrors.iter().map(|(mirror, origin)| Place {
        asked: Asked::Mirror(mirror.clone()),
        origin: *origin,
    }));
    places.extend(own(add.metainfo.web_seeds(), Asked::Files));
    places.extend(own(add.metainfo.http_seeds(), Asked::Script));
    let mut seen = BTreeSet::new();
    places.retain(|place| seen.insert(place.asked.clone()));
    places
}

/// How a torrent came here.
pub(crate) enum Entrance {
    /// By its metainfo.
    New(Registration),
    /// By a magnet link, which was searched for.
    Search(MagnetHandle),
}

/// A torrent that is opened and does not run yet.
pub(crate) struct Starting {
    pub(crate) environment: Environment,
    pub(crate) id: TorrentId,
    pub(crate) introduction: Introduction,
    pub(crate) entrance: Entrance,
    pub(crate) on_disk: OnDisk,
    pub(crate) inbox: Inbox,
    pub(crate) shown: Shown,
    pub(crate) tasks: TaskTracker,
    pub(crate) rng: fastrand::Rng,
}

impl Starting {
    /// Runs the torrent until it has ended.
    pub(crate) async fn run(mut self, add: AddTorrent, wanted: Vec<bool>) {
        let resumed_pieces = self.on_disk.content.resumed().have.count();
        match self.check(&add).await {
            Some(have) => self.run_with(add, &wanted, have, resumed_pieces).await,
            None => {
                torrent::close(&mut self.on_disk).await;
                drop(self.entrance);
                self.shown.phase(Phase::Stopped);
            }
        }
    }

    /// Finds out which pieces are there; `None` where the torrent was stopped meanwhile.
    async fn check(&mut self, add: &AddTorrent) -> Option<Bitfield> {
        let content = &self.on_disk.content;
        if add.trust {
            return Some(content.trust());
        }
        let resumed = content.resumed().clone();
        let mut have = resumed.have;
        let check = content.verify(resumed.suspect);
        let (mut checked, mut moves) = (0, Vec::new());
        while checked < check.total() {
            let total = check.total();
            self.shown.phase(Phase::Checking { checked, total });
            tokio::select! {
                event = self.on_disk.events.recv() => match event {
                    Some(Event::Checked { piece, right }) => {
                        checked += 1;
                        if right {
                            have.insert(piece);
                        }
                    }
                    // Its drive went and came back, and it had not been synced.
                    Some(Event::Lost { piece }) => {
                        have.remove(piece);
                    }
                    // Nothing was received that could be anything else.
                    Some(_) => {}
                    None => return None,
                },
                message = self.inbox.receive() => match message {
                    ToTorrent::Stop => {
                        check.cancel();
                        return None;
                    }
                    ToTorrent::Relocate(relocate) => moves.push(relocate),
                    _ => {}
                },
            }
        }
        // Of those for which there is no room any more, whoever asked learns that nothing comes of them.
        for relocate in moves {
            drop(self.inbox.sender().try_send(ToTorrent::Relocate(relocate)));
        }
        Some(have)
    }

    async fn run_with(
        mut self,
        add: AddTorrent,
        wanted: &[bool],
        have: Bitfield,
        resumed_pieces: u32,
    ) {
        let metainfo = &add.metainfo;
        let layout = Arc::new(metainfo.layout().clone());
        let mut torrent = Torrent::new(TorrentConfig {
            layout: Arc::clone(&layout),
            have,
            priorities: priorities(&add, wanted),
            sequential: add.sequential,
            our_peer_id: self.introduction.peer_id.0,
            seed: self.rng.u64(..),
            max_connections: self.environment.max_connections,
            private: metainfo.is_private(),
            exchange: self.environment.exchanges_peers(metainfo),
            super_seed: add.super_seed,
        });
        // What no torrent describes has no peers.
        let named = if metainfo.is_plain() {
            Vec::new()
        } else {
            add.peers.clone()
        };
        let mut candidates = BTreeMap::from([(Origin::User, named)]);
        let entered = match self.entrance {
            Entrance::New(registration) => {
                let mailbox = Mailbox::new();
                // Where the session is gone the engine stops.
                let added = ToSession::Added(self.id, mailbox.clone());
                drop(self.environment.session.send(added).await);
                let (sender, rng) = (self.inbox.sender(), &mut self.rng);
                let (task, trackers) = announce(
                    &self.environment,
                    self.introduction,
                    Announces {
                        tiers: &tiers(&add),
                        named_by_user: add.trackers.clone(),
                        totals: Totals::of(&torrent.progress()),
                        standing: Standing::of(&torrent),
                    },
                    sender,
                    rng,
                );
                self.tasks
                    .spawn_on(task.run(), self.environment.pool.next());
                Some((registration, mailbox, trackers, Vec::new()))
            }
            Entrance::Search(search) => search.hand_over().await.map(|mut met| {
                met.trackers.begin(&torrent);
                for (address, origin) in met.candidates {
                    candidates.entry(origin).or_default().push(address);
                }
                met.inbox.forward(self.inbox.sender());
                (met.registration, met.mailbox, met.trackers, met.connections)
            }),
        };
        let Some((registration, mailbox, trackers, met)) = entered else {
            // The search was stopped, and with it the torrent.
            torrent::close(&mut self.on_disk).await;
            return self.shown.phase(Phase::Stopped);
        };
        for (origin, addresses) in candidates {
            let now = self.environment.clock.now();
            torrent.handle(now, Input::Candidates { origin, addresses });
        }
        // Until the torrent has ended.
        let local = self.environment.local_for(metainfo);
        let _announced =
            local.map(|local| local.join(self.introduction.hashes.swarms(), &self.inbox.sender()));
        let sender = self.inbox.sender();
        let dht = self.environment.dht_for(metainfo).map(|dht| {
            let swarms = self.introduction.hashes.swarms();
            let is_seed = torrent.have().is_full();
            dht.join(swarms, is_seed, metainfo.nodes(), &sender)
        });
        let limiter = self.environment.transport.limiter().torrent(add.limits);
        let parts = Parts {
            id: self.id,
            environment: self.environment,
            introduction: self.introduction,
            registration,
            metainfo: Arc::clone(metainfo),
            layout,
            info: Bytes::copy_from_slice(metainfo.raw_info()),
            on_disk: self.on_disk,
            hashes: Arc::new(hash_server(metainfo)),
            limiter,
            inbox: self.inbox,
            mailbox,
            trackers,
            dht,
            web_seeds: web_seeds(&add),
            shown: self.shown,
            seed_only: add.seed_only,
            resumed_pieces,
        };
        TorrentTask::new(parts, torrent).run(met).await;
    }
}

/// What the trackers of a torrent are to hear.
pub(crate) struct Announces<'a> {
    pub(crate) tiers: &'a [Vec<Url>],
    pub(crate) named_by_user: Vec<Url>,
    pub(crate) totals: Totals,
    pub(crate) standing: Standing,
}

/// Both ends of a torrent's announces.
pub(crate) fn announce(
    environment: &Environment,
    us: Introduction,
    announces: Announces<'_>,
    torrent: mpsc::Sender<ToTorrent>,
    rng: &mut fastrand::Rng,
) -> (TrackerTask, Trackers) {
    let announcer = Announcer {
        clock: environment.clock,
        client: environment.trackers.clone(),
        peer_id: us.peer_id.0,
        port: environment.port.clone(),
        key: rng.u32(..),
        totals: Arc::new(announces.totals),
        named_by_user: announces.named_by_user,
    };
    Trackers::new(
        announcer,
        us.hashes.swarms(),
        announces.tiers,
        torrent,
        rng.fork(),
        announces.standing,
    )
}
