//! A torrent from its metainfo to running: opened, checked as far as it has to be, given its machine and its trackers.
//!
//! Invariant: before a torrent runs, people are the only ones who can speak to it.

use crate::connect::Introduction;
use crate::door::Registration;
use crate::engine::{AddTorrent, Environment};
use crate::hashes::{FileSpan, HashServer};
use crate::mailbox::Mailbox;
use crate::session::ToSession;
use crate::snapshot::{Phase, Shown};
use crate::torrent::{self, Inbox, MAX_EVENTS, OnDisk, Parts, ToTorrent, TorrentId, TorrentTask};
use crate::tracker::{Announcer, Standing, Totals, Trackers};
use crate::web_seed::{Asked, Place};
use shoal_machine::Machine;
use shoal_metainfo::metainfo::TrackerUrl;
use shoal_metainfo::{Bitfield, FileIndex, Metainfo, PieceIndex};
use shoal_storage::{ContentSpec, Event, Mode, Storage, StorageError};
use shoal_swarm::torrent::{Input, Origin, Priority, Torrent, TorrentConfig};
use shoal_transport::OriginClass;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use url::Url;

/// What storage is to know of the content of a torrent.
pub(crate) fn content_spec(add: &AddTorrent, wanted: &[bool]) -> ContentSpec {
    ContentSpec {
        journal: add.journal.clone(),
        mode: if add.seed_only {
            Mode::Seed
        } else {
            Mode::Download
        },
        preallocate: add.preallocate,
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

/// A torrent that is opened and does not run yet.
pub(crate) struct Starting {
    pub(crate) environment: Environment,
    pub(crate) id: TorrentId,
    pub(crate) introduction: Introduction,
    pub(crate) registration: Registration,
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
                drop(self.registration);
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
        let mut checked = 0;
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
                    // Nothing was verified that could be lost, and nothing received that could be anything else.
                    Some(_) => {}
                    None => return None,
                },
                message = self.inbox.receive() => if matches!(message, ToTorrent::Stop) {
                    check.cancel();
                    return None;
                },
            }
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
        });
        if !add.peers.is_empty() && !metainfo.is_plain() {
            let (origin, addresses) = (Origin::User, add.peers.clone());
            let now = self.environment.clock.now();
            torrent.handle(now, Input::Candidates { origin, addresses });
        }
        let trackers = self.start_trackers(&add, &torrent);
        let mailbox = Mailbox::new();
        // Where the session is gone the engine stops.
        let added = ToSession::Added(self.id, mailbox.clone());
        drop(self.environment.session.send(added).await);
        let limiter = self.environment.transport.limiter().torrent(add.limits);
        let parts = Parts {
            id: self.id,
            environment: self.environment,
            introduction: self.introduction,
            registration: self.registration,
            metainfo: Arc::clone(metainfo),
            layout,
            on_disk: self.on_disk,
            hashes: Arc::new(hash_server(metainfo)),
            limiter,
            inbox: self.inbox,
            mailbox,
            trackers,
            web_seeds: web_seeds(&add),
            shown: self.shown,
            seed_only: add.seed_only,
            resumed_pieces,
        };
        TorrentTask::new(parts, torrent).run().await;
    }

    fn start_trackers(&mut self, add: &AddTorrent, torrent: &Torrent) -> Trackers {
        let totals = Arc::new(Totals::default());
        totals.set(0, 0, &torrent.progress());
        let standing = Standing::of(torrent);
        let announcer = Announcer {
            clock: self.environment.clock,
            client: self.environment.trackers.clone(),
            peer_id: self.introduction.peer_id.0,
            port: self.environment.port.unwrap_or(0),
            key: self.rng.u32(..),
            totals: Arc::clone(&totals),
            named_by_user: add.trackers.clone(),
        };
        let (task, trackers) = Trackers::new(
            announcer,
            self.introduction.hashes.swarms(),
            &tiers(add),
            self.inbox.sender(),
            self.rng.fork(),
            standing,
        );
        self.tasks
            .spawn_on(task.run(), self.environment.pool.next());
        trackers
    }
}
