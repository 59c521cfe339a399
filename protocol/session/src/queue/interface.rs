//! The words between a queue and whoever owns it.

use super::share::{OwnLimits, ShareLimit, ShareLimits, Then};
use crate::TorrentKey;
use core::time::Duration;

/// What can be set. `None` is no limit, `Some(0)` lets nobody run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Torrents that are checked at a time. Two checks on one disk are slower than one after the other.
    pub max_checks: Option<u32>,
    /// Downloads that run and count.
    pub max_downloads: Option<u32>,
    /// Seeds that run and count.
    pub max_seeds: Option<u32>,
    /// Downloads and seeds that run, together and the slow ones too, as libtorrent's `active_limit` has it.
    pub max_active: Option<u32>,
    /// Which torrents do not count because hardly anything moves, `None` where all count.
    pub slow: Option<SlowRule>,
    /// How long a seed that got a place keeps it from other seeds. Peers need some minutes to find a seed and come up to speed;
    /// libtorrent gives 30 minutes.
    pub seed_turn: Duration,
    /// When a seed has given enough, unless it has limits of its own.
    pub share: ShareLimits,
}

impl Default for Settings {
    /// As libtorrent's defaults, except that seeds are not limited: one that nobody asks costs nothing, and those that are asked
    /// share the unchoke slots of the session anyway.
    fn default() -> Self {
        Settings {
            max_checks: Some(1),
            max_downloads: Some(3),
            max_seeds: None,
            max_active: None,
            slow: Some(SlowRule::default()),
            seed_turn: Duration::from_secs(30 * 60),
            share: ShareLimits::default(),
        }
    }
}

impl Settings {
    /// How many of an activity may run and count.
    pub(super) fn most(&self, activity: Activity) -> usize {
        limit(match activity {
            Activity::Check => self.max_checks,
            Activity::Download => self.max_downloads,
            Activity::Seed => self.max_seeds,
        })
    }

    pub(super) fn most_in_all(&self) -> usize {
        limit(self.max_active)
    }
}

fn limit(limit: Option<u32>) -> usize {
    limit.map_or(usize::MAX, |most| {
        usize::try_from(most).unwrap_or(usize::MAX)
    })
}

/// When a running torrent is slow: what moves (a download's payload that comes, a seed's that goes) has been below a rate for a
/// while. It counts again as soon as it moves at twice the rate, and what is between the two changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowRule {
    /// A download is slow below this.
    pub download_bytes_per_s: u64,
    /// A seed is slow below this.
    pub upload_bytes_per_s: u64,
    /// For so long, which is also how long each torrent counts after its start whatever it does.
    pub after: Duration,
}

impl Default for SlowRule {
    /// libtorrent's and qBittorrent's values.
    fn default() -> Self {
        SlowRule {
            download_bytes_per_s: 2 * 1024,
            upload_bytes_per_s: 2 * 1024,
            after: Duration::from_secs(60),
        }
    }
}

/// What a person wants of a torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// It shall not run.
    Paused,
    /// It shall run when there is a place.
    #[default]
    Queued,
    /// It shall run whatever the limits are, and counts in none. No share limit stops it.
    Forced,
}

/// What is to be done for a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// What it has on the disk is not known.
    Check {
        /// A person asked for this check: it is made even though the torrent is paused or has given enough. Pausing it takes that
        /// back.
        asked: bool,
    },
    /// Something is missing: pieces that are wanted, or the metadata of a magnet link.
    Download,
    /// It has all that is wanted.
    Seed,
}

/// What a torrent runs for. In this order they are served where all share one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// Its pieces are read and hashed; no peer is spoken to.
    Check,
    /// It downloads, and uploads what it has.
    Download,
    /// It seeds.
    Seed,
}

impl Activity {
    pub(super) const ALL: [Activity; 3] = [Activity::Check, Activity::Download, Activity::Seed];
}

impl Work {
    pub(super) fn activity(self) -> Activity {
        match self {
            Work::Check { .. } => Activity::Check,
            Work::Download => Activity::Download,
            Work::Seed => Activity::Seed,
        }
    }
}

/// What moves and has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Payload received a second.
    pub download_bytes_per_s: u64,
    /// Payload sent a second.
    pub upload_bytes_per_s: u64,
    /// Payload ever sent.
    pub uploaded_bytes: u64,
    /// Payload ever received.
    pub downloaded_bytes: u64,
    /// Content that is there and verified.
    pub verified_bytes: u64,
    /// How long it has seeded in all.
    pub seeding: Duration,
    /// How long it has seeded since a byte was last sent. Time that it waits in the queue is not part of it.
    pub idle: Duration,
}

/// What a scrape says, or an announce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swarm {
    /// Peers that have everything (`complete`).
    pub seeds: u32,
    /// Those that do not (`incomplete`).
    pub leeches: u32,
}

/// Seeds per leech are multiplied by this before the logarithm: 2^10.5, so that a swarm with as many seeds as leeches is in the
/// middle between two powers of two, and noise does not move it past one.
const BALANCE: u64 = 1_448;

impl Swarm {
    /// How little a seed is missed: the binary logarithm of the seeds per leech, if we seeded and one leech more came.
    ///
    /// A logarithm, so that swarms in which a seed is missed about as much take turns instead of being put in order by noise. The
    /// one more of both makes a swarm without peers, or one that nothing is known of, neither the neediest of all nor the least
    /// needy.
    pub(super) fn abundance(self) -> u32 {
        let ratio = (u64::from(self.seeds) + 1) * BALANCE / (u64::from(self.leeches) + 1);
        ratio.max(1).ilog2()
    }
}

/// A torrent as it is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torrent {
    /// What a person wants.
    pub wish: Wish,
    /// What is to be done.
    pub work: Work,
    /// Where its share limits are not the global ones.
    pub limits: OwnLimits,
    /// This share limit stopped it, in an earlier life of the session.
    pub gave_enough: Option<ShareLimit>,
    /// A person let it go on past its share limits.
    pub beyond_limits: bool,
    /// What had moved until then.
    pub progress: Progress,
}

/// Where torrents are moved. They keep their order among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// Before all others.
    Top,
    /// Past the next before it: of the incomplete ones for an incomplete torrent, of the complete ones for a complete one.
    Up,
    /// Past the next behind it, likewise.
    Down,
    /// Behind all others.
    Bottom,
}

/// What can happen to a queue. Keys that it does not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A torrent is there, at the end of the queue. Ignored where the key is there already or
    /// [`MAX_TORRENTS`](super::MAX_TORRENTS) are.
    Added(TorrentKey, Torrent),
    /// A torrent is gone; nothing more is said of it.
    Removed(TorrentKey),
    /// A person wants something else. Whoever queues a torrent that has given enough lets it go on, past the limits that it has,
    /// until these are set anew.
    Wish(TorrentKey, Wish),
    /// A torrent's work is another: a check is over or needed, a download is complete, something is missing again.
    Work(TorrentKey, Work),
    /// A torrent cannot run (its disk is missing, or full). It has stopped, or does so when told.
    Failed(TorrentKey),
    /// What was wrong is right again.
    Well(TorrentKey),
    /// What moves: when that changed, about once a second at the most. Who reports nothing moves as it last did; whoever starts
    /// moves nothing until it reports.
    Progress(TorrentKey, Progress),
    /// Who else is in its swarm. While the torrent seeds we are one of the seeds, and are not counted.
    Swarm(TorrentKey, Swarm),
    /// Other share limits of one torrent. They do not resume one that has given enough.
    Limits(TorrentKey, OwnLimits),
    /// Torrents get other positions.
    Move(Vec<TorrentKey>, Shift),
    /// Other settings. The only input that looks at all torrents.
    Settings(Settings),
    /// A deadline passed.
    Tick,
}

/// What a queue wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// This torrent shall run. A download that completes goes on as a seed, and a seed that misses something as a download,
    /// without another start.
    Start(TorrentKey, Activity),
    /// A torrent that was started shall stop, or has ended what it was started for.
    Stop(TorrentKey, Why),
    /// A seed has given enough. Where it ran and the action is not to super-seed, its `Stop` came before this, and it does not
    /// start again unless a person resumes it.
    LimitReached(TorrentKey, ShareLimit, Then),
}

/// Why a torrent stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A person paused it.
    Paused,
    /// Others come first.
    Queued,
    /// It cannot run.
    Failed,
    /// It has given enough.
    GaveEnough,
    /// Its check is over.
    Checked,
    /// It has to be checked.
    Unchecked,
}

/// What a torrent is, as a person sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs.
    Running {
        /// What for.
        activity: Activity,
        /// Hardly anything moves, so that it does not count.
        slow: bool,
    },
    /// It waits for a place to do this.
    Waiting(Activity),
    /// A person paused it.
    Paused,
    /// A share limit stopped it.
    GaveEnough(ShareLimit),
    /// It cannot run.
    Failed,
}
