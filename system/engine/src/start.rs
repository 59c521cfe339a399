//! A torrent from its metainfo to running: opened, checked as far as it has to be, given its machine and its trackers.
//!
//! Invariant: before a torrent runs, people are the only ones who can speak to it.

use crate::command::{Command, CommandError};
use crate::connect::{Introduction, Ready};
use crate::engine::{AddTorrent, Environment};
use crate::hashes::{FileSpan, HashServer};
use crate::inbox::Sender;
use crate::lines::{self, PieceLine};
use crate::magnet::{AddMagnet, MagnetHandle};
use crate::mailbox::Mailbox;
use crate::priorities::{self, FilePriority};
use crate::register::Registration;
use crate::session::ToSession;
use crate::snapshot::{Phase, Shown, Snapshot};
use crate::torrent::{
    self, Inbox, Kept, MAX_EVENTS, OnDisk, Parts, Resting, ToTorrent, TorrentId, TorrentTask, Woken,
};
use crate::tracker::{Announcer, Standing, Totals, TrackerTask, Trackers};
use crate::web_seed::{self, Asked, Place};
use crate::whole;
use crate::wishes::Wishes;
use bytes::Bytes;
use shoal_machine::Machine;
use shoal_metainfo::metainfo::TrackerUrl;
use shoal_metainfo::{Bitfield, FileIndex, Metainfo, PieceIndex};
use shoal_storage::{ContentSpec, Event, Location, Mode, Storage, StorageError};
use shoal_swarm::torrent::{
    DEFAULT_MAX_CONNECTIONS, Input, Origin, PieceSummary, Torrent, TorrentConfig,
};
use shoal_transport::{OriginClass, TorrentLimiter};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use url::Url;

/// The most moves and readers that wait for the end of a check.
const MAX_WAITING: usize = 64;

/// How soon a disk is looked at again that did not let a torrent at rest wake up.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

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

/// The torrent's own trackers, then those that the user named, each in a tier of its own; or those that the user named in place of all. Nobody
/// else knows the name of content without a torrent.
fn tiers(add: &AddTorrent) -> Vec<Vec<Url>> {
    if add.metainfo.is_plain() {
        return Vec::new();
    }
    if let Some(tiers) = &add.tiers {
        return tiers.clone();
    }
    let parse = |tier: &Vec<TrackerUrl>| -> Vec<Url> {
        let urls = tier.iter().map(|tracker| tracker.url.parse());
        urls.filter_map(Result::ok).collect()
    };
    let own = add.metainfo.trackers().iter().map(parse);
    let named = add.trackers.iter().map(|tracker| vec![tracker.clone()]);
    own.chain(named).collect()
}

/// The trackers that are the user's word.
fn named_by_user(add: &AddTorrent) -> Vec<Url> {
    let Some(tiers) = &add.tiers else {
        return add.trackers.clone();
    };
    let own: BTreeSet<&str> = (add.metainfo.trackers().iter().flatten())
        .map(|tracker| tracker.url.as_str())
        .collect();
    let others = tiers.iter().flatten();
    let others = others.filter(|url| !own.contains(url.as_str()));
    others.cloned().collect()
}

/// The trackers of a magnet link, each a tier of its own, then those that the user named.
pub(crate) fn magnet_tiers(add: &AddMagnet) -> Vec<Vec<Url>> {
    let own = add.magnet.trackers.iter();
    let own = own.filter_map(|tracker| tracker.url.parse().ok());
    own.chain(add.trackers.iter().cloned())
        .map(|url| vec![url])
        .collect()
}

/// The web seeds and mirrors that the user named, then the torrent's own, each once, without those that the user does without.
pub(crate) fn web_seeds(add: &AddTorrent) -> Vec<Place> {
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
    let unwanted = |place: &Place| add.without_web_seeds.iter().any(|url| place.is_at(url));
    places.retain(|place| !unwanted(place) && seen.insert(place.asked.clone()));
    places
}

/// What is known of a piece while it is found out which are there.
fn summary(have: &Bitfield, priorities: &[FilePriority]) -> impl Fn(PieceIndex) -> PieceSummary {
    |piece| PieceSummary {
        have: have.get(piece),
        in_progress: false,
        priority: priorities.get(piece.get()).copied().unwrap_or_default(),
        availability: 0,
    }
}

/// For each file that storage has, whether it is wanted.
///
/// # Errors
/// Where there is not one priority for each file of the metainfo.
pub(crate) fn selection(
    metainfo: &Metainfo,
    files: &[FilePriority],
) -> Result<Vec<bool>, CommandError> {
    let all = metainfo.files();
    if files.len() != all.len() {
        return Err(CommandError::Priorities {
            files: all.len(),
            given: files.len(),
        });
    }
    let stored = all.iter().zip(priorities::wanted(files));
    let stored = stored.filter(|(file, _)| file.symlink.is_none());
    Ok(stored.map(|(_, wanted)| wanted).collect())
}

/// How a torrent came here.
pub(crate) enum Entrance {
    /// By its metainfo.
    New(Registration),
    /// By a magnet link, which was searched for.
    Search(MagnetHandle),
}

/// What it takes to open the content of a torrent again. There is one for as long as the torrent is here, so that it is small.
pub(crate) struct Order {
    metainfo: Arc<Metainfo>,
    location: Arc<Location>,
    journal: Option<PathBuf>,
    seed_only: bool,
    accept_missing: bool,
    trust: bool,
    rng: fastrand::Rng,
    /// What is verified could not be written down when it went to rest, and had to be verified again.
    is_restless: bool,
}

impl Order {
    fn of(add: &AddTorrent, location: Arc<Location>, rng: fastrand::Rng) -> Self {
        Order {
            metainfo: Arc::clone(&add.metainfo),
            location,
            journal: add.journal.clone(),
            seed_only: add.seed_only,
            accept_missing: add.accept_missing,
            trust: add.trust,
            rng,
            is_restless: false,
        }
    }

    /// What a person would add to have the same.
    fn again(&self) -> AddTorrent {
        let (metainfo, directory) = (Arc::clone(&self.metainfo), self.location.directory.clone());
        AddTorrent {
            renamed: self.location.renamed.clone(),
            journal: self.journal.clone(),
            seed_only: self.seed_only,
            accept_missing: self.accept_missing,
            trust: self.trust,
            ..AddTorrent::new(metainfo, directory)
        }
    }

    /// The machine of the torrent, which has these pieces.
    fn machine(
        &mut self,
        environment: &Environment,
        us: Introduction,
        wishes: &Wishes,
        have: Bitfield,
    ) -> Torrent {
        let metainfo = &self.metainfo;
        Torrent::new(TorrentConfig {
            layout: Arc::new(metainfo.layout().clone()),
            have,
            priorities: wishes.of_pieces(metainfo),
            sequential: wishes.sequential,
            our_peer_id: us.peer_id.0,
            seed: self.rng.u64(..),
            // Before anybody is let in, the session says how many a torrent may have.
            max_connections: (wishes.max_connections).unwrap_or(DEFAULT_MAX_CONNECTIONS),
            private: metainfo.is_private(),
            exchange: environment.exchanges_peers(metainfo),
            super_seed: wishes.super_seed,
            peer_rules: environment.peer_rules,
        })
    }

    /// The peers that a person named. What no torrent describes has none.
    fn named_peers<'a>(&self, wishes: &'a Wishes) -> &'a [SocketAddr] {
        match self.metainfo.is_plain() {
            true => &[],
            false => &wishes.peers,
        }
    }

    /// Whether the torrent may be at rest. Nothing is read again because it wakes up, so that a journal has to say what is verified.
    fn may_rest(&self) -> bool {
        let is_known = self.journal.is_some() && !self.trust && !self.is_restless;
        is_known && !self.metainfo.is_plain() && !whole::is_promised(&self.metainfo)
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
    pub(crate) limiter: TorrentLimiter,
    pub(crate) wishes: Wishes,
    pub(crate) shown: Shown,
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
    pub(crate) async fn run(self: Box<Self>, add: Box<AddTorrent>, rng: fastrand::Rng) {
        let Some((begun, mut order)) = Box::pin(self.begin(add, rng)).await else {
            return;
        };
        let mut begun = Some(begun);
        while let Some(Begun { task, met, said }) = begun {
            let Some(mut resting) = Box::pin(task.run(met, said)).await else {
                return;
            };
            let woken = resting.wait().await;
            begun = Box::pin(wake(resting, woken, &mut order)).await;
        }
    }

    /// Finds out what is there and enters; `None` where the torrent was stopped meanwhile.
    async fn begin(
        mut self: Box<Self>,
        mut add: Box<AddTorrent>,
        rng: fastrand::Rng,
    ) -> Option<(Begun, Box<Order>)> {
        let resumed_pieces = self.on_disk.content.resumed().have.count();
        let checking = Checking {
            add: &mut add,
            wishes: &mut self.wishes,
            on_disk: &mut self.on_disk,
            inbox: &mut self.inbox,
            shown: &self.shown,
            waiting: Vec::new(),
        };
        let Some(have) = checking.run().await else {
            torrent::close(&mut self.on_disk).await;
            drop(self.entrance);
            self.shown.phase(Phase::Stopped);
            return None;
        };
        let mut order = Box::new(Order::of(&add, self.on_disk.content.location(), rng));
        if add.until_checked {
            self.end_checked(&mut order, have).await;
            return None;
        }
        let begun = self.enter(&add, &mut order, have, resumed_pieces).await?;
        Some((begun, order))
    }

    /// Shows what is there, and ends.
    async fn end_checked(mut self, order: &mut Order, have: Bitfield) {
        let (environment, us) = (&self.environment, self.introduction);
        let progress = order
            .machine(environment, us, &self.wishes, have)
            .progress();
        let (wanted_bytes, missing_bytes) = torrent::wanted(&progress, order.seed_only);
        torrent::close(&mut self.on_disk).await;
        drop(self.entrance);
        self.shown.replace(Snapshot {
            phase: Phase::Stopped,
            location: Some(Arc::clone(&order.location)),
            complete: missing_bytes == 0,
            wanted_bytes,
            wanted_verified_bytes: wanted_bytes - missing_bytes,
            verified_bytes: progress.have_bytes,
            verified_pieces: progress.have_pieces,
            ..Snapshot::default()
        });
    }

    /// Makes it known to the session, to trackers and to others who look for peers.
    async fn enter(
        mut self,
        add: &AddTorrent,
        order: &mut Order,
        have: Bitfield,
        resumed_pieces: u32,
    ) -> Option<Begun> {
        let (environment, us) = (&self.environment, self.introduction);
        let mut torrent = order.machine(environment, us, &self.wishes, have);
        let named = order.named_peers(&self.wishes).to_vec();
        let mut candidates = BTreeMap::from([(Origin::User, named)]);
        let (metainfo, rng) = (&add.metainfo, &mut order.rng);
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
                        named_by_user: named_by_user(add),
                        totals: Totals::of(&torrent.progress()),
                        standing: Standing::of(&torrent),
                    },
                    self.inbox.sender(),
                    rng,
                );
                self.environment.run(task);
                Some((registration, mailbox, trackers, Vec::new()))
            }
            Entrance::Search(search) => search.hand_over().await.map(|mut met| {
                met.trackers.begin(&torrent);
                if let Some(tiers) = add.tiers.clone() {
                    let (us, sender) = (self.introduction, self.inbox.sender());
                    let environment = &self.environment;
                    replace_trackers(&mut met.trackers, environment, us, tiers, &torrent, sender);
                }
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
            environment: self.environment,
            introduction: self.introduction,
            registration,
            metainfo: Arc::clone(metainfo),
            limiter: self.limiter,
            inbox: self.inbox,
            mailbox,
            trackers,
            dht,
            local,
            wishes: self.wishes,
            shown: self.shown,
            kept: Kept::new(resumed_pieces),
            location: self.on_disk.content.location(),
            is_written_down: true,
            tries_again_at: None,
        };
        let (parts, kept) = parts(resting, self.on_disk, order);
        Some(Begun {
            task: Box::new(TorrentTask::new(parts, torrent, kept)),
            met,
            said: None,
        })
    }
}

/// Opens the content again, and finds out whether everything is still there; `None` where the torrent ends.
async fn wake(resting: Box<Resting>, woken: Woken, order: &mut Order) -> Option<Begun> {
    let mut resting = *resting;
    order.is_restless |= !resting.is_written_down;
    order.location = Arc::clone(&resting.location);
    let mut add = order.again();
    let (mut met, mut said) = match woken {
        Woken::Visited(visitors) => (visitors, None),
        Woken::ByTime => (Vec::new(), None),
        Woken::By(message) => (Vec::new(), Some(message)),
        Woken::Stopped => {
            resting.end(Phase::Stopped).await;
            return None;
        }
    };
    let mut on_disk = match reopen(&mut resting, &mut add, &mut met, &mut said).await {
        Ok(on_disk) => on_disk,
        Err(Some(phase)) => {
            resting.end(phase).await;
            return None;
        }
        // The engine ends.
        Err(None) => return None,
    };
    let still_known = on_disk.content.resumed().have.count();
    let before = resting.shown.verified_pieces();
    resting.kept.lost(before.saturating_sub(still_known));
    let checking = Checking {
        add: &mut add,
        wishes: &mut resting.wishes,
        on_disk: &mut on_disk,
        inbox: &mut resting.inbox,
        shown: &resting.shown,
        waiting: Vec::new(),
    };
    let Some(have) = checking.run().await else {
        torrent::close(&mut on_disk).await;
        resting.end(Phase::Stopped).await;
        return None;
    };
    // What a person said meanwhile holds.
    let (environment, us) = (Arc::clone(&resting.environment), resting.introduction);
    let mut torrent = order.machine(&environment, us, &resting.wishes, have);
    if let Some(tiers) = add.tiers {
        let sender = resting.inbox.sender();
        let trackers = &mut resting.trackers;
        replace_trackers(trackers, &environment, us, tiers, &torrent, sender);
    }
    let addresses = order.named_peers(&resting.wishes).to_vec();
    let origin = Origin::User;
    let now = environment.clock.now();
    torrent.handle(now, Input::Candidates { origin, addresses });
    let (parts, kept) = parts(resting, on_disk, order);
    Some(Begun {
        task: Box::new(TorrentTask::awake(parts, torrent, kept)),
        met,
        said,
    })
}

/// Opens the content as soon as its disk lets it: a drive that was taken away while nobody looked is waited for, as one that goes while it is
/// used. Those who connect meanwhile are sent away. Where it cannot be opened, gives what is to be shown of that; `None` where the engine
/// ends.
async fn reopen(
    resting: &mut Resting,
    add: &mut AddTorrent,
    met: &mut Vec<Ready>,
    said: &mut Option<ToTorrent>,
) -> Result<OnDisk, Option<Phase>> {
    loop {
        let storage = resting.environment.storage.clone();
        let spec = content_spec(add, &resting.wishes.wanted());
        let opening = tokio::task::spawn_blocking(move || open(&storage, spec));
        let error = match opening.await {
            Ok(Ok(on_disk)) => return Ok(on_disk),
            Ok(Err(error)) => error,
            Err(_) => return Err(None),
        };
        let Some(reason) = error.reason() else {
            return Err(Some(Phase::Failed(error.to_string())));
        };
        let accepts = |message: &mut ToTorrent| matches!(message, ToTorrent::AcceptMissing(_));
        if let Some(ToTorrent::AcceptMissing(reply)) = said.take_if(accepts) {
            add.accept_missing = true;
            // Whoever asked may have gone.
            drop(reply.send(Ok(())));
            continue;
        }
        resting.send_away(std::mem::take(met)).await;
        let path = resting.location.directory.clone();
        resting.shown.phase(Phase::Suspended { reason, path });
        resting.tries_again_at = None;
        match tokio::time::timeout(LOOK_AGAIN, resting.wait()).await {
            Ok(Woken::Stopped) => return Err(Some(Phase::Stopped)),
            Ok(Woken::Visited(visitors)) => resting.send_away(visitors).await,
            Ok(Woken::By(message)) => *said = Some(message),
            Ok(Woken::ByTime) | Err(_) => {}
        }
    }
}

/// Puts together what was kept and what is had anew.
fn parts(resting: Resting, on_disk: OnDisk, order: &Order) -> (Parts, Kept) {
    let names_peers = !order.named_peers(&resting.wishes).is_empty();
    let (metainfo, kept) = (resting.metainfo, resting.kept);
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
        limiter: resting.limiter,
        inbox: resting.inbox,
        mailbox: resting.mailbox,
        trackers: resting.trackers,
        dht: resting.dht,
        local: resting.local,
        wishes: resting.wishes,
        shown: resting.shown,
        seed_only: order.seed_only,
        may_rest: order.may_rest(),
        names_peers,
    };
    (parts, kept)
}

/// Finding out which pieces are there, before a torrent runs.
struct Checking<'a> {
    add: &'a mut AddTorrent,
    wishes: &'a mut Wishes,
    on_disk: &'a mut OnDisk,
    inbox: &'a mut Inbox,
    shown: &'a Shown,
    /// What waits for the end of the check.
    waiting: Vec<ToTorrent>,
}

impl Checking<'_> {
    /// Finds out which pieces are there; `None` where the torrent was stopped meanwhile.
    async fn run(mut self) -> Option<Bitfield> {
        let content = self.on_disk.content.clone();
        if self.add.trust {
            return Some(content.trust());
        }
        let resumed = content.resumed().clone();
        let mut have = resumed.have.clone();
        let doubts_all = self.check_these(resumed.suspect, &mut have).await?;
        if doubts_all {
            // Those that were not read just now.
            for piece in resumed.have.iter() {
                have.remove(piece);
            }
            let others = resumed.have.iter().collect();
            self.check_these(others, &mut have).await?;
        }
        // Of those for which there is no room any more, whoever asked learns that nothing comes of them.
        for message in std::mem::take(&mut self.waiting) {
            drop(self.inbox.sender().try_send(message));
        }
        Some(have)
    }

    /// Checks these pieces, and notes those that are right. Whether a person wants everything to be read meanwhile; `None` where the
    /// torrent was stopped.
    async fn check_these(&mut self, pieces: Vec<PieceIndex>, have: &mut Bitfield) -> Option<bool> {
        let check = self.on_disk.content.verify(pieces);
        let (mut checked, total, mut doubts_all) = (0, check.total(), false);
        while checked < total {
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
                    ToTorrent::Command(command) => doubts_all |= self.remember(*command, have).await,
                    message @ ToTorrent::Relocate(_) => self.put_off(message),
                    // Nobody else speaks to it yet.
                    _ => {}
                },
            }
        }
        Some(doubts_all)
    }

    /// What a person says before it runs is what it will run with. Whether everything is to be read again.
    async fn remember(&mut self, command: Command, have: &Bitfield) -> bool {
        let metainfo = Arc::clone(&self.add.metainfo);
        match command {
            Command::Priorities(files, reply) => {
                let outcome = self.select(&metainfo, files).await;
                drop(reply.send(outcome));
            }
            Command::Sequential(sequential) => self.wishes.sequential = sequential,
            Command::FirstLast(first_last) => self.wishes.first_last = first_last,
            Command::SuperSeed(super_seed) => self.wishes.super_seed = super_seed,
            Command::Peers(peers) => {
                self.wishes.add_peers(&peers);
            }
            Command::MaxConnections(most) => self.wishes.max_connections = most,
            Command::MaxUploads(most) => self.wishes.max_uploads = most,
            Command::Trackers(tiers) => self.add.tiers = Some(tiers),
            // They are announced to as soon as it runs.
            Command::Reannounce(_) => {}
            Command::AddWebSeed(url, reply) => {
                let all = &mut self.wishes.web_seeds;
                drop(reply.send(web_seed::add(all, Place::named(url))));
            }
            Command::RemoveWebSeed(url) => {
                self.wishes.web_seeds.retain(|place| !place.is_at(&url));
            }
            Command::Files(reply) => {
                let priorities = self.wishes.of_pieces(&metainfo);
                let known = summary(have, &priorities);
                let files = lines::files(&metainfo, &self.wishes.files, known);
                drop(reply.send(Ok(files)));
            }
            Command::Pieces(reply) => {
                let priorities = self.wishes.of_pieces(&metainfo);
                let pieces = metainfo.layout().pieces();
                let pieces = pieces.map(summary(have, &priorities));
                drop(reply.send(Ok(pieces.map(PieceLine::from).collect())));
            }
            // Nothing is read before it is known what is there.
            command @ (Command::Open(..) | Command::Need(_)) => self.put_off(command.into()),
            Command::Verify(reply) => {
                let can_tell = metainfo.verifier().can_tell();
                let outcome = if can_tell {
                    Ok(())
                } else {
                    Err(CommandError::NoHashes)
                };
                drop(reply.send(outcome));
                return can_tell;
            }
        }
        false
    }

    /// This is for a torrent that runs. Of what is too much, whoever asked learns that nothing comes of it.
    fn put_off(&mut self, message: ToTorrent) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(message);
        }
    }

    async fn select(
        &mut self,
        metainfo: &Metainfo,
        files: Vec<FilePriority>,
    ) -> Result<(), CommandError> {
        let wanted = selection(metainfo, &files)?;
        let content = self.on_disk.content.clone();
        let selecting = tokio::task::spawn_blocking(move || content.select(&wanted));
        selecting.await.map_err(|_| CommandError::Gone)??;
        self.wishes.files = files;
        Ok(())
    }
}

/// What the trackers of a torrent are to hear.
pub(crate) struct Announces<'a> {
    pub(crate) tiers: &'a [Vec<Url>],
    pub(crate) named_by_user: Vec<Url>,
    pub(crate) totals: Totals,
    pub(crate) standing: Standing,
}

/// Puts these tiers in place of all. Where there were no trackers, all of them are the user's word.
pub(crate) fn replace_trackers(
    trackers: &mut Trackers,
    environment: &Environment,
    us: Introduction,
    tiers: Vec<Vec<Url>>,
    torrent: &Torrent,
    sender: Sender<ToTorrent>,
) {
    if trackers.is_there() {
        return trackers.replace(tiers);
    }
    // Nobody else has this one, whatever else the torrent draws.
    let [.., a, b, c, d] = us.peer_id.0;
    let mut rng = fastrand::Rng::with_seed(u32::from_be_bytes([a, b, c, d]).into());
    let announces = Announces {
        tiers: &tiers,
        named_by_user: tiers.iter().flatten().cloned().collect(),
        totals: Totals::of(&torrent.progress()),
        standing: Standing::of(torrent),
    };
    let (task, begun) = announce(environment, us, announces, sender, &mut rng);
    environment.run(task);
    *trackers = begun;
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
        rules: environment.announces,
        key: rng.u32(..),
        totals: Arc::new(announces.totals),
        named_by_user: announces.named_by_user,
        _spoken: environment.register.spoken(us),
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
