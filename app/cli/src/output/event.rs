//! Everything that a command may say, as it stands in JSON.
//!
//! Invariant: `docs/json.md` describes every event with all its fields; fields are `snake_case` with their unit last. A field
//! is never left out: what is unknown or absent is `null`.

mod import;

pub(crate) use import::{ImportBegun, ImportDone, ImportTorrent};

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use shoal_engine::TrackerLine;
use shoal_node::message::{
    self, Afterwards, Holds, Now, Occasion, ShownFile, ShownHash, ShownPieces, ShownSession,
    ShownTorrent, Torrent,
};

use crate::exit::Failure;

/// One JSON object.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    Listening(Listening),
    Torrent(Box<TorrentEvent>),
    Magnet(Box<MagnetEvent>),
    Scrape(Scrape),
    Metadata(Metadata),
    Hashing(Hashing),
    Created(Created),
    Checking(Checking),
    Started(Started),
    Progress(Progress),
    Tracker(Tracker),
    WebSeed(WebSeed),
    Suspended(Suspended),
    Continued(Continued),
    Complete(Complete),
    Stopped(Stopped),
    File(FileEvent),
    Checked(Checked),
    SessionTorrent(Box<SessionTorrent>),
    NotAdded(NotAdded),
    TorrentTracker(TorrentTracker),
    Peer(Box<Peer>),
    Banned(Banned),
    TorrentWebSeed(TorrentWebSeed),
    Setting(Setting),
    Rules(Rules),
    Session(Box<ShownSession>),
    SessionTorrentDetails(Box<ShownTorrent>),
    SessionFile(Box<ShownFile>),
    SessionPieces(Box<ShownPieces>),
    SessionPieceHash(ShownHash),
    Saved(Saved),
    Route(Route),
    Interface(Interface),
    ImportBegun(ImportBegun),
    ImportTorrent(Box<ImportTorrent>),
    ImportDone(ImportDone),
    AddressList(AddressList),
    Address(Address),
    Span(Span),
    Schedule(Schedule),
    Watch(Box<Watch>),
    Hook(Hook),
    Warning(Warning),
    Error(ErrorEvent),
}

/// How much is done, in whatever unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Event {
    /// Comes many times a second, each replacing the one before.
    pub(super) const fn is_progress(&self) -> bool {
        matches!(
            self,
            Event::Metadata(_) | Event::Hashing(_) | Event::Checking(_) | Event::Progress(_)
        )
    }

    /// Is worth saying to whoever asked for quiet.
    pub(super) const fn is_result(&self) -> bool {
        matches!(
            self,
            Event::Listening(_)
                | Event::Torrent(_)
                | Event::Magnet(_)
                | Event::Scrape(_)
                | Event::Created(_)
                | Event::Suspended(_)
                | Event::Complete(_)
                | Event::File(_)
                | Event::Checked(_)
                | Event::SessionTorrent(_)
                | Event::NotAdded(_)
                | Event::TorrentTracker(_)
                | Event::Peer(_)
                | Event::Banned(_)
                | Event::TorrentWebSeed(_)
                | Event::Setting(_)
                | Event::Rules(_)
                | Event::Session(_)
                | Event::SessionTorrentDetails(_)
                | Event::SessionFile(_)
                | Event::SessionPieces(_)
                | Event::SessionPieceHash(_)
                | Event::Saved(_)
                | Event::Route(_)
                | Event::Interface(_)
                | Event::ImportTorrent(_)
                | Event::ImportDone(_)
                | Event::AddressList(_)
                | Event::Address(_)
                | Event::Span(_)
                | Event::Schedule(_)
                | Event::Watch(_)
                | Event::Hook(_)
                | Event::Error(_)
        )
    }

    /// Ends what a progress bar was about.
    pub(super) const fn ends_progress(&self) -> bool {
        matches!(
            self,
            Event::Created(_)
                | Event::Torrent(_)
                | Event::Started(_)
                | Event::Complete(_)
                | Event::Stopped(_)
                | Event::File(_)
                | Event::Checked(_)
                | Event::Error(_)
        )
    }

    /// What a progress bar shows.
    pub(super) fn amount(&self) -> Option<Amount> {
        let (done, total) = match self {
            Event::Metadata(metadata) => {
                (metadata.received_bytes, metadata.total_bytes.unwrap_or(1))
            }
            Event::Hashing(hashing) => (hashing.done_bytes, hashing.total_bytes),
            Event::Checking(checking) => {
                (checking.checked_pieces.into(), checking.total_pieces.into())
            }
            Event::Progress(progress) => (progress.verified_bytes, progress.wanted_bytes),
            _ => return None,
        };
        Some(Amount { done, total })
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Listening {
    pub(crate) addresses: Vec<SocketAddr>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct TorrentEvent {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) info_hash_v1: Option<String>,
    pub(crate) info_hash_v2: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) piece_length_bytes: u32,
    pub(crate) piece_count: u32,
    pub(crate) files: Vec<TorrentFile>,
    pub(crate) trackers: Vec<Vec<String>>,
    pub(crate) web_seeds: Vec<String>,
    pub(crate) private: bool,
    pub(crate) source: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) created_by: Option<String>,
    pub(crate) creation_date_unix_s: Option<i64>,
    pub(crate) magnet: String,
    pub(crate) warnings: Vec<String>,
}

/// One file of a [`TorrentEvent`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TorrentFile {
    /// As `--select` counts it; padding has none.
    pub(crate) number: Option<usize>,
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    pub(crate) padding: bool,
    pub(crate) executable: bool,
    pub(crate) symlink: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct MagnetEvent {
    pub(crate) name: Option<String>,
    pub(crate) kind: &'static str,
    pub(crate) info_hash_v1: Option<String>,
    pub(crate) info_hash_v2: Option<String>,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) trackers: Vec<String>,
    pub(crate) web_seeds: Vec<String>,
    pub(crate) peers: Vec<String>,
    /// Numbers counted from 1, as `--select` takes them.
    pub(crate) selected: Option<String>,
    pub(crate) warnings: Vec<String>,
}

/// What a tracker answered to a scrape.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Scrape {
    pub(crate) tracker: String,
    pub(crate) error: Option<String>,
    /// Of each swarm that was asked for; none where there is an error.
    pub(crate) swarms: Vec<SwarmFigures>,
}

/// One swarm of a [`Scrape`].
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SwarmFigures {
    pub(crate) kind: &'static str,
    pub(crate) seeds: Option<u32>,
    pub(crate) leeches: Option<u32>,
    pub(crate) completed: Option<u32>,
}

/// How far the search for a magnet link's torrent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Metadata {
    pub(crate) candidates: u32,
    pub(crate) failed_dials: u32,
    pub(crate) peers: u32,
    pub(crate) offers: u32,
    pub(crate) liars: u32,
    pub(crate) received_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
    pub(crate) wants_hashes: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Hashing {
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) rate_bytes_per_s: u64,
    pub(crate) time_left_s: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Created {
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) info_hash_v1: Option<String>,
    pub(crate) info_hash_v2: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) piece_length_bytes: u32,
    pub(crate) piece_count: u32,
    pub(crate) file_count: usize,
    pub(crate) magnet: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checking {
    pub(crate) checked_pieces: u32,
    pub(crate) total_pieces: u32,
    pub(crate) time_left_s: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Started {
    pub(crate) name: String,
    pub(crate) info_hash_v1: Option<String>,
    pub(crate) info_hash_v2: Option<String>,
    pub(crate) directory: String,
    pub(crate) wanted_bytes: u64,
    pub(crate) verified_bytes: u64,
    pub(crate) verified_pieces: u32,
    pub(crate) resumed_pieces: u32,
    pub(crate) piece_count: u32,
}

/// One of several that was not given to a node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotAdded {
    pub(crate) source: String,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

impl NotAdded {
    pub(crate) fn new(source: &OsStr, failure: &Failure) -> Self {
        NotAdded {
            source: source.to_string_lossy().into_owned(),
            kind: failure.exit.kind(),
            message: failure.message.clone(),
        }
    }
}

/// A torrent of a node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionTorrent {
    pub(crate) id: i64,
    pub(crate) info_hash: String,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) message: Option<String>,
    pub(crate) directory: String,
    pub(crate) home: Option<String>,
    pub(crate) moving_to: Option<String>,
    pub(crate) renamed: BTreeMap<String, String>,
    pub(crate) category: Option<String>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) position: Option<usize>,
    pub(crate) forced: bool,
    pub(crate) rules: BTreeMap<String, String>,
    pub(crate) sequential: bool,
    pub(crate) first_last: bool,
    pub(crate) priorities: BTreeMap<String, String>,
    pub(crate) wanted_bytes: u64,
    pub(crate) verified_bytes: u64,
    pub(crate) downloaded_bytes: u64,
    pub(crate) uploaded_bytes: u64,
    pub(crate) download_rate_bytes_per_s: u64,
    pub(crate) upload_rate_bytes_per_s: u64,
    pub(crate) peers: usize,
    pub(crate) added_unix_s: i64,
    pub(crate) completed_unix_s: Option<i64>,
}

impl From<Torrent> for SessionTorrent {
    fn from(torrent: Torrent) -> Self {
        SessionTorrent {
            id: torrent.id,
            info_hash: torrent.info_hash,
            name: torrent.name,
            state: torrent.state.name(),
            message: torrent.message,
            directory: torrent.directory,
            home: torrent.home,
            moving_to: torrent.moving_to,
            renamed: torrent.renamed,
            category: torrent.category,
            tags: torrent.tags,
            position: torrent.position,
            forced: torrent.forced,
            rules: torrent.rules,
            sequential: torrent.sequential,
            first_last: torrent.first_last,
            priorities: torrent.priorities,
            wanted_bytes: torrent.wanted_bytes,
            verified_bytes: torrent.verified_bytes,
            downloaded_bytes: torrent.downloaded_bytes,
            uploaded_bytes: torrent.uploaded_bytes,
            download_rate_bytes_per_s: torrent.download_rate_bytes_per_s,
            upload_rate_bytes_per_s: torrent.upload_rate_bytes_per_s,
            peers: torrent.peers,
            added_unix_s: torrent.added_at,
            completed_unix_s: torrent.completed_at,
        }
    }
}

/// A tracker of a torrent of a node, in one swarm.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TorrentTracker {
    pub(crate) torrent: i64,
    pub(crate) url: String,
    pub(crate) tier: usize,
    pub(crate) swarm: Option<String>,
    pub(crate) state: &'static str,
    pub(crate) message: Option<String>,
    pub(crate) seeds: Option<u32>,
    pub(crate) leeches: Option<u32>,
    pub(crate) completed: Option<u32>,
    pub(crate) next_announce_s: Option<u64>,
}

impl From<message::Tracker> for TorrentTracker {
    fn from(tracker: message::Tracker) -> Self {
        TorrentTracker {
            torrent: tracker.torrent,
            url: tracker.url,
            tier: tracker.tier,
            swarm: tracker.swarm,
            state: tracker.state.name(),
            message: tracker.message,
            seeds: tracker.seeds,
            leeches: tracker.leeches,
            completed: tracker.completed,
            next_announce_s: tracker.next_announce_s,
        }
    }
}

/// A peer of a torrent of a node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) torrent: i64,
    pub(crate) address: SocketAddr,
    pub(crate) client: Option<String>,
    pub(crate) origin: String,
    pub(crate) transport: String,
    pub(crate) encrypted: bool,
    pub(crate) connected_s: u64,
    pub(crate) seed: bool,
    pub(crate) pieces: u32,
    pub(crate) we_are_interested: bool,
    pub(crate) chokes_us: bool,
    pub(crate) interested: bool,
    pub(crate) choked: bool,
    pub(crate) snubs_us: bool,
    pub(crate) downloaded_bytes: u64,
    pub(crate) uploaded_bytes: u64,
    pub(crate) download_rate_bytes_per_s: u64,
    pub(crate) upload_rate_bytes_per_s: u64,
}

impl From<message::Peer> for Peer {
    fn from(peer: message::Peer) -> Self {
        Peer {
            torrent: peer.torrent,
            address: peer.address,
            client: peer.client,
            origin: peer.origin,
            transport: peer.transport,
            encrypted: peer.encrypted,
            connected_s: peer.connected_s,
            seed: peer.seed,
            pieces: peer.pieces,
            we_are_interested: peer.we_are_interested,
            chokes_us: peer.chokes_us,
            interested: peer.interested,
            choked: peer.choked,
            snubs_us: peer.snubs_us,
            downloaded_bytes: peer.downloaded_bytes,
            uploaded_bytes: peer.uploaded_bytes,
            download_rate_bytes_per_s: peer.download_rate_bytes_per_s,
            upload_rate_bytes_per_s: peer.upload_rate_bytes_per_s,
        }
    }
}

/// An address that a node speaks to nobody at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Banned {
    pub(crate) address: IpAddr,
}

/// A web seed of a torrent of a node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TorrentWebSeed {
    pub(crate) torrent: i64,
    pub(crate) url: String,
}

impl From<message::WebSeed> for TorrentWebSeed {
    fn from(seed: message::WebSeed) -> Self {
        TorrentWebSeed {
            torrent: seed.torrent,
            url: seed.url,
        }
    }
}

/// A setting of a node.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) default: String,
    pub(crate) help: String,
}

impl From<message::Setting> for Setting {
    fn from(setting: message::Setting) -> Self {
        Setting {
            key: setting.key,
            value: setting.value,
            default: setting.default,
            help: setting.help,
        }
    }
}

/// What a category, a tag or the session says for its torrents.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rules {
    pub(crate) name: String,
    pub(crate) rules: BTreeMap<String, String>,
    pub(crate) torrents: usize,
}

impl From<message::Carrier> for Rules {
    fn from(carrier: message::Carrier) -> Self {
        Rules {
            name: carrier.name,
            rules: carrier.rules,
            torrents: carrier.torrents,
        }
    }
}

/// A torrent file of a node was written.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Saved {
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
}

/// What torrents of a node may leave by.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) message: Option<String>,
    pub(crate) proxy: Option<String>,
    pub(crate) password_file: Option<String>,
    pub(crate) bind: Option<String>,
    pub(crate) dns: Vec<SocketAddr>,
    pub(crate) listening: Vec<SocketAddr>,
    pub(crate) torrents: usize,
}

impl From<message::Route> for Route {
    fn from(route: message::Route) -> Self {
        Route {
            name: route.name,
            state: route.state.name(),
            message: route.message,
            proxy: route.proxy,
            password_file: route.password_file,
            bind: route.bind,
            dns: route.dns,
            listening: route.listening,
            torrents: route.torrents,
        }
    }
}

/// What a route can be bound to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
}

impl From<message::Interface> for Interface {
    fn from(interface: message::Interface) -> Self {
        Interface {
            name: interface.name,
            addresses: interface.addresses,
        }
    }
}

/// A list of addresses that peers must not have.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AddressList {
    pub(crate) path: String,
    pub(crate) ranges: u64,
    pub(crate) let_pass: u64,
    pub(crate) bad: u64,
    pub(crate) first_bad: Vec<BadLine>,
    pub(crate) left_out: u64,
    pub(crate) read_unix_s: Option<i64>,
    pub(crate) message: Option<String>,
}

/// A line that makes no sense.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct BadLine {
    pub(crate) line: u32,
    pub(crate) why: String,
}

impl From<message::AddressList> for AddressList {
    fn from(list: message::AddressList) -> Self {
        let bad = list.first_bad.into_iter().map(|bad| BadLine {
            line: bad.line,
            why: bad.why,
        });
        AddressList {
            path: list.path,
            ranges: list.ranges,
            let_pass: list.let_pass,
            bad: list.bad,
            first_bad: bad.collect(),
            left_out: list.left_out,
            read_unix_s: list.read_at,
            message: list.message,
        }
    }
}

/// Whether peers may have an address.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Address {
    pub(crate) address: IpAddr,
    pub(crate) allowed: bool,
    pub(crate) path: Option<String>,
    pub(crate) line: Option<u32>,
    pub(crate) first: Option<IpAddr>,
    pub(crate) last: Option<IpAddr>,
}

impl From<message::TestedAddress> for Address {
    fn from(tested: message::TestedAddress) -> Self {
        let forbidden = tested.forbidden;
        Address {
            address: tested.address,
            allowed: forbidden.is_none(),
            line: forbidden.as_ref().map(|forbidden| forbidden.line),
            first: forbidden.as_ref().map(|forbidden| forbidden.first),
            last: forbidden.as_ref().map(|forbidden| forbidden.last),
            path: forbidden.map(|forbidden| forbidden.path),
        }
    }
}

/// A span of the schedule.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Span {
    pub(crate) number: usize,
    pub(crate) times: String,
    pub(crate) holds: Holds,
    pub(crate) down: Option<String>,
    pub(crate) up: Option<String>,
}

impl Span {
    /// Those of a schedule, as commands number them.
    pub(crate) fn all(schedule: &message::Schedule) -> Vec<Span> {
        let spans = (1..).zip(&schedule.spans);
        let shown = |(number, span): (usize, &message::Span)| Span {
            number,
            times: span.times.clone(),
            holds: span.holds,
            down: span.down.clone(),
            up: span.up.clone(),
        };
        spans.map(shown).collect()
    }
}

/// What holds at present.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Schedule {
    pub(crate) now: Now,
    pub(crate) holds: Holds,
    pub(crate) down_bytes_per_s: Option<u64>,
    pub(crate) up_bytes_per_s: Option<u64>,
    pub(crate) until: Option<String>,
}

impl From<message::Schedule> for Schedule {
    fn from(schedule: message::Schedule) -> Self {
        Schedule {
            now: schedule.now,
            holds: schedule.holds,
            down_bytes_per_s: schedule.down_bytes_per_s,
            up_bytes_per_s: schedule.up_bytes_per_s,
            until: schedule.until,
        }
    }
}

/// A watched folder.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Watch {
    pub(crate) path: String,
    pub(crate) recursive: bool,
    pub(crate) then: Afterwards,
    pub(crate) directory: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) rules: BTreeMap<String, String>,
    pub(crate) added: u64,
    pub(crate) message: Option<String>,
    pub(crate) refused: Vec<RefusedFile>,
}

/// A file of a watched folder that was refused.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RefusedFile {
    pub(crate) path: String,
    pub(crate) why: String,
}

impl From<message::WatchedFolder> for Watch {
    fn from(folder: message::WatchedFolder) -> Self {
        let message::Watch {
            recursive,
            then,
            add,
        } = folder.watch;
        let refused = folder.refused.into_iter().map(|file| RefusedFile {
            path: file.path,
            why: file.why,
        });
        Watch {
            path: folder.path,
            recursive,
            then,
            directory: add.directory,
            category: add.category,
            tags: add.tags,
            rules: add.rules,
            added: folder.added,
            message: folder.message,
            refused: refused.collect(),
        }
    }
}

/// A program that runs when something happens.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Hook {
    pub(crate) on: Occasion,
    pub(crate) program: Vec<String>,
}

impl From<message::Hook> for Hook {
    fn from(hook: message::Hook) -> Self {
        Hook {
            on: hook.on,
            program: hook.program,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Progress {
    pub(crate) phase: &'static str,
    pub(crate) wanted_bytes: u64,
    pub(crate) verified_bytes: u64,
    pub(crate) downloaded_bytes: u64,
    pub(crate) uploaded_bytes: u64,
    pub(crate) wasted_bytes: u64,
    pub(crate) failed_pieces: u64,
    pub(crate) download_rate_bytes_per_s: u64,
    pub(crate) upload_rate_bytes_per_s: u64,
    pub(crate) peers: usize,
    pub(crate) seeds: usize,
    pub(crate) time_left_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Tracker {
    pub(crate) host: String,
    pub(crate) working: bool,
    pub(crate) message: Option<String>,
    pub(crate) seeds: Option<u32>,
    pub(crate) leeches: Option<u32>,
    pub(crate) completed: Option<u32>,
}

impl From<&TrackerLine> for Tracker {
    fn from(line: &TrackerLine) -> Self {
        Tracker {
            host: line.host.clone(),
            working: line.working,
            message: line.message.clone(),
            seeds: line.seeds,
            leeches: line.leeches,
            completed: line.completed,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct WebSeed {
    pub(crate) host: String,
    pub(crate) working: bool,
    pub(crate) message: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Suspended {
    pub(crate) reason: String,
    pub(crate) path: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Continued {}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Complete {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) wanted_bytes: u64,
    pub(crate) verified_pieces: u32,
    pub(crate) resumed_pieces: u32,
    pub(crate) downloaded_bytes: u64,
    pub(crate) wasted_bytes: u64,
    pub(crate) failed_pieces: u64,
    pub(crate) time_s: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stopped {
    pub(crate) reason: &'static str,
    pub(crate) complete: bool,
    pub(crate) verified_pieces: u32,
    pub(crate) downloaded_bytes: u64,
    pub(crate) uploaded_bytes: u64,
}

/// A file of which something is wrong.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FileEvent {
    pub(crate) number: usize,
    pub(crate) path: String,
    pub(crate) state: &'static str,
    pub(crate) size_bytes: u64,
    pub(crate) found_bytes: Option<u64>,
    /// First and last piece of each run.
    pub(crate) wrong_pieces: Vec<[u32; 2]>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) right: bool,
    pub(crate) right_pieces: u32,
    pub(crate) wrong_pieces: u32,
    pub(crate) right_files: usize,
    pub(crate) wrong_files: usize,
    pub(crate) time_s: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Warning {
    pub(crate) message: String,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct ErrorEvent {
    pub(crate) message: String,
    pub(crate) kind: &'static str,
    pub(crate) exit_code: u8,
}

impl From<&Failure> for ErrorEvent {
    fn from(failure: &Failure) -> ErrorEvent {
        ErrorEvent {
            message: failure.message.clone(),
            kind: failure.exit.kind(),
            exit_code: failure.exit.code(),
        }
    }
}

#[cfg(test)]
mod tests;
