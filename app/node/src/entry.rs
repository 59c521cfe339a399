//! One torrent of the session: what is known of it, and what it is doing.
//!
//! Invariant: it runs at most once at a time; each run has a number, and news of an earlier run is not taken for that of a later one.

use crate::connections;
use crate::message::{State, Torrent};
use crate::places;
use crate::wanted::Wanted;
use shoal_engine::{FilePriority, MagnetSnapshot, Phase, Snapshot, TorrentHandle};
use shoal_metainfo::{FileIndex, InfoHashes, Magnet, Metainfo, PieceIndex};
use shoal_session::queue::{self, ShareLimit, Standing};
use shoal_storage::{Progress, Reason};
use shoal_store::{NewTorrent, Removing, ShareState, StoredTorrent, TorrentOptions, Totals, Wish};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

/// What leads to the content.
pub(crate) enum Source {
    Metainfo(Arc<Metainfo>),
    Magnet(Box<Magnet>),
}

/// What it is doing.
pub(crate) enum Run {
    /// Nothing.
    Idle,
    /// The engine is asked to run it: that takes as long as its disk does.
    Beginning,
    /// It asks peers what it is. Whoever aborts this ends that.
    Searching(AbortHandle, watch::Receiver<MagnetSnapshot>),
    /// The engine has it. The queue has heard of what the second one has seen.
    Running(TorrentHandle, watch::Receiver<Snapshot>),
    /// The engine still has it, and was told to let it go.
    Stopping(watch::Receiver<Snapshot>),
    /// It does not run, and its data is being moved.
    Moving,
    /// Its data is being removed.
    Erasing,
}

/// Other names of files that are shown of one torrent: a list of torrents is no list of files.
const MOST_RENAMED: usize = 100;

pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) hashes: InfoHashes,
    pub(crate) source: Source,
    pub(crate) directory: PathBuf,
    pub(crate) selection: Option<Vec<bool>>,
    pub(crate) sequential: bool,
    pub(crate) wish: Wish,
    /// That a person named, in this life of the node.
    pub(crate) peers: Vec<SocketAddr>,
    /// Its files are taken for right at the next run.
    pub(crate) trust: bool,
    pub(crate) added_at: i64,
    pub(crate) completed_at: Option<i64>,
    /// Those of most torrents are none, and the same ones.
    pub(crate) options: Arc<TorrentOptions>,
    /// As it was when the node started.
    pub(crate) share: ShareState,
    /// The queue wants it to run.
    pub(crate) due: bool,
    /// Of all runs before this one.
    totals: Totals,
    /// What the database has of it.
    pub(crate) written: Totals,
    /// Of all earlier lives of the node.
    pub(crate) before: Totals,
    /// Since when the engine has it.
    pub(crate) runs_since: Option<Instant>,
    pub(crate) run: Run,
    pub(crate) run_number: u64,
    /// In this run, everything wanted has been there.
    pub(crate) is_complete: bool,
    /// Why it cannot go on.
    pub(crate) failure: Option<String>,
    /// Where that may be over by itself, what it is.
    pub(crate) obstacle: Option<Reason>,
    /// The route that it waits for, where it does: then it has failed until that is there.
    pub(crate) awaits_route: Option<Arc<str>>,
    /// The route of its run.
    pub(crate) route: Option<Arc<str>>,
    /// Why nothing leaves by that at present.
    pub(crate) no_way: Option<Arc<str>>,
    /// Keeps its run from beginning, where it has not.
    pub(crate) withdrawn: Option<CancellationToken>,
    /// How far the move of its data is that goes on.
    pub(crate) mover: Option<Arc<Progress>>,
    /// Why its data is not where it was to be moved.
    pub(crate) unmoved: Option<String>,
    /// In this run, the engine has told where its files are.
    pub(crate) is_located: bool,
    /// How often it was told how much its files are wanted, and that does not hold yet.
    pub(crate) settling: u32,
    /// Something was told of it while the engine was asked to run it.
    pub(crate) told_late: bool,
    /// A person wants everything verified again, and missing files taken for gone.
    pub(crate) recheck: bool,
    /// It is to be forgotten when it has stopped.
    pub(crate) removed: bool,
    /// Before that, its data goes.
    pub(crate) removing: Option<Removing>,
}

/// The options that most torrents have are in memory once.
fn shared(options: TorrentOptions) -> Arc<TorrentOptions> {
    static NONE: LazyLock<Arc<TorrentOptions>> = LazyLock::new(Arc::default);
    match options == **NONE {
        true => Arc::clone(&NONE),
        false => Arc::new(options),
    }
}

impl Entry {
    pub(crate) fn new(stored: StoredTorrent, source: Source) -> Self {
        let StoredTorrent {
            id,
            torrent,
            completed_at,
            totals,
            share,
            removing,
        } = stored;
        let NewTorrent {
            info_hashes,
            directory,
            wish,
            selection,
            sequential,
            added_at,
            options,
            ..
        } = torrent;
        Entry {
            id,
            hashes: info_hashes,
            source,
            directory,
            selection,
            sequential,
            wish,
            peers: Vec::new(),
            trust: false,
            added_at,
            completed_at,
            options: shared(options),
            share,
            due: false,
            totals,
            written: totals,
            before: totals,
            runs_since: None,
            run: Run::Idle,
            run_number: 0,
            is_complete: false,
            failure: None,
            obstacle: None,
            awaits_route: None,
            route: None,
            no_way: None,
            withdrawn: None,
            mover: None,
            unmoved: None,
            is_located: false,
            settling: 0,
            told_late: false,
            recheck: false,
            removed: removing.is_some(),
            removing,
        }
    }

    pub(crate) fn name(&self) -> String {
        if let Some(name) = &self.options.name {
            return name.clone();
        }
        match &self.source {
            Source::Metainfo(metainfo) => metainfo.name().to_owned(),
            Source::Magnet(magnet) => match &magnet.name {
                Some(name) => name.clone(),
                None => self.hash_text(),
            },
        }
    }

    /// The folder that it lies in, or does when everything wanted is there.
    pub(crate) fn folder(&self) -> String {
        let home = self.options.home.clone();
        home.unwrap_or_else(|| self.directory.to_string_lossy().into_owned())
    }

    /// It lies in another folder than its own until everything wanted is there.
    pub(crate) fn is_away(&self) -> bool {
        self.options.home.is_some() && self.completed_at.is_none()
    }

    fn moving_to(&self) -> Option<String> {
        let moving = self.options.moving.as_ref()?;
        let here = || self.directory.to_string_lossy().into_owned();
        Some(moving.directory.clone().unwrap_or_else(here))
    }

    fn renamed(&self) -> BTreeMap<String, String> {
        match &self.source {
            Source::Metainfo(metainfo) => {
                places::shown(metainfo, &self.options.renamed, MOST_RENAMED)
            }
            Source::Magnet(_) => BTreeMap::new(),
        }
    }

    pub(crate) fn hash_text(&self) -> String {
        self.hashes.primary().to_string()
    }

    /// Whether one of its info hashes begins with these digits.
    pub(crate) fn is_called(&self, digits: &str) -> bool {
        let v1 = self.hashes.v1().map(|hash| hash.to_string());
        let v2 = self.hashes.v2().map(|hash| hash.to_string());
        v1.into_iter()
            .chain(v2)
            .any(|name| name.starts_with(digits))
    }

    /// How much its files are wanted, as it is stored.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            selection: self.selection.clone(),
            priorities: self.options.priorities.clone(),
        }
    }

    /// How much each file is wanted; `None` is all as usual.
    pub(crate) fn file_priorities(&self) -> Option<Vec<FilePriority>> {
        match &self.source {
            Source::Metainfo(metainfo) => self.wanted().of_files(metainfo),
            Source::Magnet(_) => None,
        }
    }

    /// Whether the engine has everything that is wanted by now.
    pub(crate) fn completes(&self) -> bool {
        match &self.run {
            Run::Running(handle, _) => self.settling == 0 && handle.watch().borrow().complete,
            _ => false,
        }
    }

    /// Peers of it come from its trackers alone (BEP 27).
    pub(crate) fn is_private(&self) -> bool {
        match &self.source {
            Source::Metainfo(metainfo) => metainfo.is_private(),
            Source::Magnet(_) => false,
        }
    }

    /// The hosts of its trackers, without ports.
    pub(crate) fn tracker_hosts(&self) -> Vec<String> {
        let urls: Vec<&str> = match (&self.options.trackers, &self.source) {
            (Some(tiers), _) => tiers.iter().flatten().map(String::as_str).collect(),
            (None, Source::Metainfo(metainfo)) => {
                let urls = metainfo.trackers().iter().flatten();
                urls.map(|tracker| tracker.url.as_str()).collect()
            }
            (None, Source::Magnet(magnet)) => {
                let urls = magnet.trackers.iter();
                urls.map(|tracker| tracker.url.as_str()).collect()
            }
        };
        let urls = urls.into_iter().filter_map(|url| Url::parse(url).ok());
        urls.filter_map(|url| url.host_str().map(str::to_owned))
            .collect()
    }

    /// What the queue has to know of it.
    pub(crate) fn queued(&self, limits: queue::OwnLimits) -> queue::Torrent {
        queue::Torrent {
            wish: match self.wish {
                Wish::Queued => queue::Wish::Queued,
                Wish::Paused => queue::Wish::Paused,
                Wish::Forced => queue::Wish::Forced,
            },
            work: match self.completed_at {
                None if !self.options.seed_only => queue::Work::Download,
                _ => queue::Work::Seed,
            },
            limits,
            gave_enough: self.share.gave_enough,
            beyond_limits: self.share.beyond_limits,
            progress: queue::Progress {
                uploaded_bytes: self.totals.uploaded_bytes,
                downloaded_bytes: self.totals.downloaded_bytes,
                verified_bytes: self.totals.verified_bytes,
                seeding: Duration::from_secs(self.share.seeding_s),
                idle: Duration::from_secs(self.share.idle_s),
                ..queue::Progress::default()
            },
        }
    }

    /// What moves, where that is news; not how long it has seeded.
    pub(crate) fn moved(&mut self) -> Option<queue::Progress> {
        let Run::Running(_, seen) = &mut self.run else {
            return None;
        };
        // A torrent that has ended is told of by another way.
        if !seen.has_changed().unwrap_or(false) {
            return None;
        }
        let snapshot = seen.borrow_and_update().clone();
        let totals = self.with(&snapshot);
        Some(queue::Progress {
            download_bytes_per_s: snapshot.download_rate,
            upload_bytes_per_s: snapshot.upload_rate,
            uploaded_bytes: totals.uploaded_bytes,
            downloaded_bytes: totals.downloaded_bytes,
            verified_bytes: totals.verified_bytes,
            ..queue::Progress::default()
        })
    }

    /// What the engine says of it, while it has it.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        match &self.run {
            Run::Running(handle, _) => Some(handle.watch().borrow().clone()),
            Run::Stopping(watched) => Some(watched.borrow().clone()),
            Run::Idle | Run::Beginning | Run::Searching(..) | Run::Moving | Run::Erasing => None,
        }
    }

    /// What it has come to, this run included.
    pub(crate) fn totals(&self) -> Totals {
        self.snapshot()
            .map_or(self.totals, |snapshot| self.with(&snapshot))
    }

    fn with(&self, snapshot: &Snapshot) -> Totals {
        // Before it has been looked at, what was seen in the run before is closer to the truth than nothing.
        let looked_at = !matches!(snapshot.phase, Phase::Starting | Phase::Checking { .. });
        let (wanted, verified) = match looked_at {
            true => (snapshot.wanted_bytes, snapshot.wanted_verified_bytes),
            false => (self.totals.wanted_bytes, self.totals.verified_bytes),
        };
        let Totals {
            downloaded_bytes: down,
            uploaded_bytes: up,
            ..
        } = self.totals;
        Totals {
            wanted_bytes: wanted,
            verified_bytes: verified,
            downloaded_bytes: down.saturating_add(snapshot.downloaded_bytes),
            uploaded_bytes: up.saturating_add(snapshot.uploaded_bytes),
        }
    }

    /// Its run is over.
    pub(crate) fn ended(&mut self) {
        if let Some(snapshot) = self.snapshot() {
            self.totals = self.with(&snapshot);
            if let Phase::Failed(why) = snapshot.phase {
                self.failure = Some(why);
            }
        }
        self.run = Run::Idle;
        self.runs_since = None;
    }

    /// Why nothing of it leaves, where its route has no way at present and that keeps it from something.
    fn no_way(&self, snapshot: Option<&Snapshot>) -> Option<String> {
        let speaks = match (&self.run, snapshot) {
            (Run::Searching(..), _) => true,
            (Run::Running(..), Some(snapshot)) => {
                matches!(snapshot.phase, Phase::Downloading | Phase::Seeding)
            }
            _ => false,
        };
        let known = self.no_way.as_deref().map(str::to_owned);
        let seen = || snapshot?.no_route.clone();
        known.or_else(seen).filter(|_| speaks)
    }

    fn state(
        &self,
        snapshot: Option<&Snapshot>,
        standing: Option<Standing>,
    ) -> (State, Option<String>) {
        if let (Run::Moving, Some(progress)) = (&self.run, &self.mover) {
            return (State::Moving, Some(moved(progress.bytes())));
        }
        if let Some(why) = &self.failure {
            let state = match &self.obstacle {
                _ if self.awaits_route.is_some() => State::NoRoute,
                Some(reason) => obstructed(reason),
                None => State::Failed,
            };
            return (state, Some(why.clone()));
        }
        if let Some(why) = self.no_way(snapshot) {
            return (State::NoRoute, Some(why));
        }
        let phase = match (&self.run, snapshot) {
            (Run::Searching(..), _) => return (State::Searching, None),
            (Run::Stopping(_) | Run::Erasing, _) => return (State::Stopping, None),
            (Run::Beginning, _) => return (State::Starting, None),
            (_, Some(snapshot)) => &snapshot.phase,
            (_, None) => match self.wish {
                Wish::Paused => return (State::Paused, None),
                Wish::Queued | Wish::Forced if self.due => return (State::Starting, None),
                Wish::Queued | Wish::Forced => match standing {
                    Some(Standing::GaveEnough(limit)) => {
                        return (State::Enough, Some(reached(limit).to_owned()));
                    }
                    _ => return (State::Queued, None),
                },
            },
        };
        match phase {
            Phase::Starting => (State::Starting, None),
            Phase::Checking { .. } => (State::Checking, None),
            Phase::Downloading => (State::Downloading, None),
            Phase::Seeding => (State::Seeding, None),
            Phase::Suspended { reason, path } => (
                obstructed(reason),
                Some(format!("{}: {reason}", path.display())),
            ),
            Phase::Moving {
                done_bytes,
                total_bytes,
            } => (State::Moving, Some(moved((*done_bytes, *total_bytes)))),
            Phase::Stopped => (State::Stopping, None),
            Phase::Failed(why) => (State::Failed, Some(why.clone())),
        }
    }

    /// Bytes of the pieces that are wanted, from the metainfo alone: what a torrent says that has not run yet.
    fn wanted_bytes(&self) -> u64 {
        let Source::Metainfo(metainfo) = &self.source else {
            return 0;
        };
        let layout = metainfo.layout();
        let Some(selection) = &self.selection else {
            return layout.total_length();
        };
        let files = (0..).zip(metainfo.files()).zip(selection);
        let wanted = files.filter(|((_, file), wanted)| **wanted && !file.padding);
        let (mut bytes, mut counted) = (0, 0);
        for ((index, _), _) in wanted {
            // Where one file ends in the piece in which the next begins, that is wanted once.
            let pieces = metainfo.pieces_of(FileIndex(index));
            for piece in pieces.start.max(counted)..pieces.end {
                bytes += u64::from(layout.length_of(PieceIndex(piece)));
            }
            counted = counted.max(pieces.end);
        }
        bytes
    }

    /// What is shown of it, where the queue says how it stands; its position is not known here.
    pub(crate) fn line(&self, standing: Option<Standing>) -> Torrent {
        let snapshot = self.snapshot();
        let (state, message) = self.state(snapshot.as_ref(), standing);
        let totals = self.totals();
        let peers = match &self.run {
            Run::Searching(_, watched) => {
                usize::try_from(watched.borrow().search.peers).unwrap_or(usize::MAX)
            }
            _ => snapshot.as_ref().map_or(0, |snapshot| snapshot.peers.len()),
        };
        let rate = |rate: fn(&Snapshot) -> u64| snapshot.as_ref().map_or(0, rate);
        Torrent {
            id: self.id,
            info_hash: self.hash_text(),
            name: self.name(),
            state,
            message: message.or_else(|| self.unmoved.clone()),
            directory: self.directory.to_string_lossy().into_owned(),
            home: self.options.home.clone(),
            moving_to: self.moving_to(),
            renamed: self.renamed(),
            category: self.options.category.clone(),
            tags: self.options.tags.clone(),
            position: None,
            forced: self.wish == Wish::Forced,
            rules: connections::shown_of_torrent(&self.options),
            sequential: self.sequential,
            first_last: self.options.first_last,
            priorities: match &self.source {
                Source::Metainfo(metainfo) => self.wanted().shown(metainfo),
                Source::Magnet(_) => BTreeMap::new(),
            },
            wanted_bytes: match totals.wanted_bytes {
                0 => self.wanted_bytes(),
                known => known,
            },
            verified_bytes: totals.verified_bytes,
            downloaded_bytes: totals.downloaded_bytes,
            uploaded_bytes: totals.uploaded_bytes,
            download_rate_bytes_per_s: rate(|snapshot| snapshot.download_rate),
            upload_rate_bytes_per_s: rate(|snapshot| snapshot.upload_rate),
            wasted_bytes: rate(|snapshot| snapshot.wasted_bytes),
            failed_pieces: rate(|snapshot| snapshot.failed_pieces),
            peers,
            seeds: snapshot.as_ref().map_or(0, |snapshot| {
                snapshot.peers.iter().filter(|peer| peer.seed).count()
            }),
            added_at: self.added_at,
            completed_at: self.completed_at,
        }
    }
}

fn moved((done_bytes, total_bytes): (u64, u64)) -> String {
    format!("files are being moved: {done_bytes} of {total_bytes} bytes")
}

/// The state of a torrent that goes on by itself when this is over.
const fn obstructed(reason: &Reason) -> State {
    match reason {
        Reason::VolumeMissing | Reason::FilesMissing => State::Missing,
        _ => State::Suspended,
    }
}

/// Why it rests.
const fn reached(limit: ShareLimit) -> &'static str {
    match limit {
        ShareLimit::Ratio => "it has reached its ratio; `shoal resume` lets it go on",
        ShareLimit::SeedingTime => "it has seeded for its time; `shoal resume` lets it go on",
        ShareLimit::IdleTime => {
            "nobody has asked for anything for its time; `shoal resume` lets it go on"
        }
    }
}
