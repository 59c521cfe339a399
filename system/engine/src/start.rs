//! A torrent from its metainfo to running: opened, checked as far as it has to be, given its machine and its trackers.
//!
//! Invariant: before a torrent runs, people are the only ones who can speak to it.

use crate::connect::{Introduction, Ready};
use crate::engine::{AddTorrent, Environment};
use crate::hashes::{FileSpan, HashServer};
use crate::inbox::Sender;
use crate::magnet::{AddMagnet, MagnetHandle};
use crate::mailbox::Mailbox;
use crate::register::Registration;
use crate::session::ToSession;
use crate::snapshot::{Phase, Shown};
use crate::torrent::{
    self, Counts, Inbox, MAX_EVENTS, OnDisk, Parts, Resting, ToTorrent, TorrentId, TorrentTask,
    Woken,
};
use crate::tracker::{Announcer, Standing, Totals, TrackerTask, Trackers};
use crate::web_seed::{Asked, Place};
use crate::whole;
use bytes::Bytes;
use shoal_machine::Machine;
use shoal_metainfo::metainfo::TrackerUrl;
use shoal_metainfo::{Bitfield, FileIndex, Metainfo, PieceIndex};
use shoal_storage::{ContentSpec, Event, Mode, Storage, StorageError};
use shoal_swarm::torrent::{Input, Origin, Priority, Torrent, TorrentConfig};
use shoal_transport::{OriginClass, RateLimits};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
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

/// What a person ordered, for as long as the torrent is here.
pub(crate) struct Order {
    pub(crate) add: AddTorrent,
    /// For each file, whether it is wanted.
    pub(crate) wanted: Vec<bool>,
    pub(crate) rng: fastrand::Rng,
    /// What is verified could not be written down when it went to rest, and had to be verified again.
    pub(crate) is_restless: bool,
}

impl Order {
    /// The machine of the torrent, which has these pieces.
    fn machine(&mut self, environment: &Environment, us: Introduction, have: Bitfield) -> Torrent {
        let add = &self.add;
        Torrent::new(TorrentConfig {
            layout: Arc::new(add.metainfo.layout().clone()),
            have,
            priorities: priorities(add, &self.wanted),
            sequential: add.sequential,
            our_peer_id: us.peer_id.0,
            seed: self.rng.u64(..),
            max_connections: environment.max_connections,
            private: add.metainfo.is_private(),
            exchange: environment.exchanges_peers(&add.metainfo),
            super_seed: add.super_seed,
        })
    }

    /// The peers that a person named. What no torrent describes has none.
    fn named_peers(&self) -> &[SocketAddr] {
        match self.add.metainfo.is_plain() {
            true => &[],
            false => &self.add.peers,
        }
    }

    /// Whether the torrent may be at rest. Nothing is read again because it wakes up, so that a journal has to say what is verified;
    /// and what was shown to others piece by piece is not shown anew.
    fn may_rest(&self) -> bool {
        let add = &self.add;
        let is_known = add.journal.is_some() && !add.trust && !self.is_restless;
        let is_usual = !add.metainfo.is_plain() && !whole::is_promised(&add.metainfo);
        is_known && is_usual && !add.super_seed
    }
}

/// A torrent that is opened and does not run yet.
pub(crate) struct Starting {
    pub(crate) environment: Arc<Environment>,
    pub(crate) id: TorrentId,
    pub(crate) introduction: Introduction,
    pub(crate) entrance: Entrance,
    pub(crate) on_disk: OnDisk,
    pub(crate) inbox: Inbox,
    pub(crate) shown: Shown,
    pub(crate) tasks: TaskTracker,
}

/// A torrent that begins to run, or goes on.
struct Begun {
    task: Box<TorrentTask>,
    /// Connections that exist already.
    met: Vec<Ready>,
    /// What was said to it and not heard.
    said: Option<ToTorrent>,
}

impl Starting {
    /// Runs the torrent until it has ended. What a stage of its life takes is given back at its end, so that a torrent at rest is as
    /// small as what is left of it.
    pub(crate) async fn run(self: Box<Self>, mut order: Box<Order>) {
        let mut begun = Box::pin(self.begin(&mut order)).await;
        while let Some(Begun { task, met, said }) = begun {
            let Some(mut resting) = Box::pin(task.run(met, said)).await else {
                return;
            };
            let woken = resting.wait().await;
            begun = Box::pin(wake(resting, woken, &mut order)).await;
        }
    }

    /// Finds out what is there and enters; `None` where the torrent was stopped meanwhile.
    async fn begin(mut self: Box<Self>, order: &mut Order) -> Option<Begun> {
        let resumed_pieces = self.on_disk.content.resumed().have.count();
        let checked = check(&order.add, &mut self.on_disk, &mut self.inbox, &self.shown);
        let Some(have) = checked.await else {
            torrent::close(&mut self.on_disk).await;
            drop(self.entrance);
            self.shown.phase(Phase::Stopped);
            return None;
        };
        self.enter(order, have, resumed_pieces).await
    }

    /// Makes it known to the session, to trackers and to others who look for peers.
    async fn enter(
        mut self,
        order: &mut Order,
        have: Bitfield,
        resumed_pieces: u32,
    ) -> Option<Begun> {
        let mut torrent = order.machine(&self.environment, self.introduction, have);
        let mut candidates = BTreeMap::from([(Origin::User, order.named_peers().to_vec())]);
        let Order { add, rng, .. } = order;
        let metainfo = &add.metainfo;
        let entered = match self.entrance {
            Entrance::New(registration) => {
                let mailbox = Mailbox::new();
                // Where the session is gone the engine stops.
                let added = ToSession::Added(self.id, mailbox.clone());
                drop(self.environment.session.send(added).await);
                let (task, trackers) = announce(
                    &self.environment,
                    self.introduction,
                    Announces {
                        tiers: &tiers(add),
                        named_by_user: add.trackers.clone(),
                        totals: Totals::of(&torrent.progress()),
                        standing: Standing::of(&torrent),
                    },
                    self.inbox.sender(),
                    rng,
                );
                if let Some(task) = task {
                    let worker = self.environment.pool.next();
                    self.tasks.spawn_on(task.run(), worker);
                }
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
            self.shown.phase(Phase::Stopped);
            return None;
        };
        for (origin, addresses) in candidates {
            let now = self.environment.clock.now();
            torrent.handle(now, Input::Candidates { origin, addresses });
        }
        let (swarms, sender) = (self.introduction.hashes, self.inbox.sender());
        let local = self.environment.local_for(metainfo);
        let local = local.map(|local| local.join(swarms.swarms(), &sender));
        let dht = self.environment.dht_for(metainfo).map(|dht| {
            let is_seed = torrent.have().is_full();
            dht.join(swarms.swarms(), is_seed, metainfo.nodes(), &sender)
        });
        let resting = Resting {
            id: self.id,
            introduction: self.introduction,
            registration,
            metainfo: Arc::clone(metainfo),
            limiter: Some(self.environment.transport.limiter().torrent(add.limits)),
            environment: self.environment,
            inbox: self.inbox,
            mailbox,
            trackers,
            dht,
            local,
            shown: self.shown,
            counts: Counts::new(resumed_pieces),
            ours: [None; 2],
            is_written_down: true,
            tries_again_at: None,
        };
        let (parts, counts, ours) = parts(resting, self.on_disk, order);
        let task = match parts.names_peers {
            true => TorrentTask::awake(parts, torrent, counts, ours),
            false => TorrentTask::new(parts, torrent, counts),
        };
        Some(Begun {
            task: Box::new(task),
            met,
            said: None,
        })
    }
}

/// Opens the content again, and finds out whether everything is still there; `None` where the torrent ends.
async fn wake(resting: Box<Resting>, woken: Woken, order: &mut Order) -> Option<Begun> {
    let mut resting = *resting;
    order.is_restless |= !resting.is_written_down;
    let (met, said) = match woken {
        Woken::Visited(visitors) => (visitors, None),
        Woken::ByTime => (Vec::new(), None),
        Woken::By(message) => (Vec::new(), Some(message)),
        Woken::Stopped => {
            resting.end(Phase::Stopped).await;
            return None;
        }
    };
    let storage = resting.environment.storage.clone();
    let spec = content_spec(&order.add, &order.wanted);
    let opening = tokio::task::spawn_blocking(move || open(&storage, spec));
    let mut on_disk = match opening.await {
        Ok(Ok(on_disk)) => on_disk,
        Ok(Err(error)) => {
            resting.end(Phase::Failed(error.to_string())).await;
            return None;
        }
        // The engine ends.
        Err(_) => return None,
    };
    let checked = check(&order.add, &mut on_disk, &mut resting.inbox, &resting.shown);
    let Some(have) = checked.await else {
        torrent::close(&mut on_disk).await;
        resting.end(Phase::Stopped).await;
        return None;
    };
    let mut torrent = order.machine(&resting.environment, resting.introduction, have);
    let (origin, addresses) = (Origin::User, order.named_peers().to_vec());
    let now = resting.environment.clock.now();
    torrent.handle(now, Input::Candidates { origin, addresses });
    let (parts, counts, ours) = parts(resting, on_disk, order);
    Some(Begun {
        task: Box::new(TorrentTask::awake(parts, torrent, counts, ours)),
        met,
        said,
    })
}

/// Puts together what was kept and what is had anew.
fn parts(resting: Resting, on_disk: OnDisk, order: &Order) -> (Parts, Counts, [Option<IpAddr>; 2]) {
    let Resting {
        metainfo,
        counts,
        ours,
        ..
    } = resting;
    let limiter = resting.limiter.unwrap_or_else(|| {
        let limiter = resting.environment.transport.limiter();
        limiter.torrent(RateLimits::default())
    });
    let parts = Parts {
        id: resting.id,
        environment: resting.environment,
        introduction: resting.introduction,
        registration: resting.registration,
        layout: Arc::new(metainfo.layout().clone()),
        info: Bytes::copy_from_slice(metainfo.raw_info()),
        on_disk,
        hashes: Arc::new(hash_server(&metainfo)),
        metainfo,
        limiter,
        inbox: resting.inbox,
        mailbox: resting.mailbox,
        trackers: resting.trackers,
        dht: resting.dht,
        local: resting.local,
        web_seeds: web_seeds(&order.add),
        shown: resting.shown,
        seed_only: order.add.seed_only,
        may_rest: order.may_rest(),
        names_peers: !order.named_peers().is_empty(),
    };
    (parts, counts, ours)
}

/// Finds out which pieces are there; `None` where the torrent was stopped meanwhile.
async fn check(
    add: &AddTorrent,
    on_disk: &mut OnDisk,
    inbox: &mut Inbox,
    shown: &Shown,
) -> Option<Bitfield> {
    let content = &on_disk.content;
    if add.trust {
        return Some(content.trust());
    }
    let resumed = content.resumed().clone();
    let mut have = resumed.have;
    let check = content.verify(resumed.suspect);
    let mut checked = 0;
    while checked < check.total() {
        let total = check.total();
        shown.phase(Phase::Checking { checked, total });
        tokio::select! {
            event = on_disk.events.recv() => match event {
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
            message = inbox.receive() => if matches!(message, ToTorrent::Stop) {
                check.cancel();
                return None;
            },
        }
    }
    Some(have)
}

/// What the trackers of a torrent are to hear.
pub(crate) struct Announces<'a> {
    pub(crate) tiers: &'a [Vec<Url>],
    pub(crate) named_by_user: Vec<Url>,
    pub(crate) totals: Totals,
    pub(crate) standing: Standing,
}

/// Both ends of a torrent's announces, as [`Trackers::new`].
pub(crate) fn announce(
    environment: &Environment,
    us: Introduction,
    announces: Announces<'_>,
    torrent: Sender<ToTorrent>,
    rng: &mut fastrand::Rng,
) -> (Option<Box<TrackerTask>>, Trackers) {
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
