//! What a person's programs say to a node and what it answers. Over the control socket that is one JSON object a line; a request that
//! names bytes is followed by them.
//!
//! Invariant: what is absent of a request means that nothing is said of it.

mod peer;
mod show;

pub use show::{
    HeldRule, ShowRequest, Shown, ShownFile, ShownHash, ShownPieces, ShownSession, ShownTorrent,
    StateCount,
};
mod route;

pub use route::{Interface, Route, RouteRequest, RouteState, SetRoute};

mod import;

pub use import::{Import, ImportClient, ImportNews, ImportOutcome, ImportedTorrent, MovedFolder};

mod filter;
mod hook;
mod schedule;
mod watch;

pub use filter::{AddressList, BadLine, FilterRequest, Forbidden, TestedAddress};
pub use hook::{Hook, HookRequest, Occasion};
pub use schedule::{Holds, Now, Schedule, ScheduleRequest, Span};
pub use watch::{Afterwards, RefusedFile, Watch, WatchRequest, WatchedFolder};

mod folders;

mod priority;
mod tracker;
mod webseed;

pub use peer::{Peer, PeerRequest};
pub use priority::{FilesPriority, Prioritize, Priority};
pub use tracker::{Tracker, TrackerRequest, TrackerState};
pub use webseed::{WebSeed, WebSeedRequest};

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

pub use folders::FolderRequest;

/// What a person asks for. Which torrents are meant is said as for `shoal list`: numbers, ranges, info hashes, names, `all`,
/// `category:NAME`, `tag:NAME`, `state:STATE`, `tracker:HOST`, `private:yes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A torrent is to be part of the session.
    Add(Box<Add>),
    /// What there is; all of it where nothing is named.
    List {
        /// Which torrents.
        #[serde(default)]
        torrents: Vec<String>,
    },
    /// They are to rest.
    Pause {
        /// Which torrents.
        torrents: Vec<String>,
    },
    /// They are to run when it is their turn; those that had failed begin anew.
    Resume {
        /// Which torrents.
        torrents: Vec<String>,
    },
    /// They are to run, whatever the queue and share limits say.
    Start {
        /// Which torrents.
        torrents: Vec<String>,
    },
    /// They are to be forgotten.
    Remove {
        /// Which torrents.
        torrents: Vec<String>,
        /// What becomes of their data; absent, it stays where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<Fate>,
    },
    /// Everything of them is verified again, and what is missing then is fetched: at once where they run, or else when they do.
    Recheck {
        /// Which torrents.
        torrents: Vec<String>,
    },
    /// They are announced to all their trackers, as soon as those let them.
    Announce {
        /// Which torrents.
        torrents: Vec<String>,
    },
    /// Something else is told of them.
    Change(Box<Change>),
    /// Files of them are wanted more or less, or in another order.
    Prioritize(Box<Prioritize>),
    /// The trackers of torrents.
    Tracker(TrackerRequest),
    /// Peers of torrents, and addresses that nobody speaks to.
    Peer(PeerRequest),
    /// The web seeds of torrents.
    WebSeed(WebSeedRequest),
    /// They get another place in the queue, and keep their order among themselves.
    Queue {
        /// Which torrents.
        torrents: Vec<String>,
        /// Where to.
        to: Shift,
    },
    /// The settings of the session.
    Settings {},
    /// Some of them change, all or none.
    Set {
        /// In this order.
        assignments: Vec<Assignment>,
    },
    /// All categories, all tags, or the session: what torrents take rules from.
    Carriers {
        /// Which of them.
        kind: CarrierKind,
    },
    /// One of them is made, or its rules change.
    SetCarrier {
        /// What it is.
        kind: CarrierKind,
        /// Its name; empty for the session.
        #[serde(default)]
        name: String,
        /// What is said, by word.
        #[serde(default)]
        rules: BTreeMap<String, String>,
    },
    /// Categories or tags are forgotten, and those below them; torrents stay.
    RemoveCarriers {
        /// What they are.
        kind: CarrierKind,
        /// Their names.
        names: Vec<String>,
    },
    /// All of something is shown.
    Show(ShowRequest),
    /// What torrents' bytes may leave by.
    Route(RouteRequest),
    /// Torrents of another client are to be part of the session.
    Import(Box<Import>),
    /// The lists of addresses that peers must not have.
    Filter(FilterRequest),
    /// What holds at which hours.
    Schedule(ScheduleRequest),
    /// Folders whose torrents and magnet links are added by themselves.
    Watch(WatchRequest),
    /// Programs that run when something happens.
    Hook(HookRequest),
    /// The node is to end, as by SIGTERM. It has when the connection breaks.
    Down {},
    /// Something is said of where data lies, or of what its files are called.
    Folder(FolderRequest),
}

/// What becomes of data that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its room is free at once.
    Delete,
    /// It lies in the trash of its volume.
    Trash,
}

/// What torrents take rules from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CarrierKind {
    /// Categories, of which a torrent is in one or none.
    Category,
    /// Tags, of which it has any number.
    Tag,
    /// All torrents.
    Session,
}

/// One of what torrents take rules from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carrier {
    /// Its name; empty for the session.
    pub name: String,
    /// What it says, by word: `down`, `up`, `ratio`, `time`, `idle`, `when`, `then`, `folder`, `incomplete`, `route`.
    pub rules: BTreeMap<String, String>,
    /// How many torrents it has.
    pub torrents: usize,
}

/// Where torrents go in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shift {
    /// Before all others.
    Top,
    /// Past the next before.
    Up,
    /// Past the next behind.
    Down,
    /// Behind all others.
    Bottom,
}

/// Something else that is told of torrents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Which torrents.
    pub torrents: Vec<String>,
    /// Another name in the list; empty for the torrent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Another remark; empty for the torrent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The category that they are to be in; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The tags that they are to have, and no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeSet<String>>,
    /// Tags that they are to have too.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags_too: BTreeSet<String>,
    /// Tags that they are not to have.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags_not: BTreeSet<String>,
    /// Their own rules, by word.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
}

/// One change of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Assignment {
    /// It gets a value.
    Set {
        /// Its name.
        key: String,
        /// As a person writes it.
        value: String,
    },
    /// Its list has this too.
    Insert {
        /// Its name.
        key: String,
        /// One word.
        value: String,
    },
    /// Its list has this no more.
    Take {
        /// Its name.
        key: String,
        /// One word.
        value: String,
    },
    /// It is as if it had never been set.
    Reset {
        /// Its name.
        key: String,
    },
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// What holds, as a person writes it.
    pub value: String,
    /// What would hold if it had never been set.
    pub default: String,
    /// What it is for.
    pub help: String,
}

/// A torrent to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// So many bytes of a .torrent file follow the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torrent_bytes: Option<usize>,
    /// In place of a file, a magnet link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnet: Option<String>,
    /// In place of both, an http or https URL where the .torrent file is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The folder that its top-level name is, or comes to be, in: an absolute path. Absent, it is that of the category, of a tag or
    /// of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Where whoever asks is: the folder where nobody has said another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Whether it is not to run yet; absent is as the session has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// It is to run whatever the queue says.
    #[serde(default)]
    pub force: bool,
    /// Whether it comes before those that wait; absent is as the session has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<bool>,
    /// Another name in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The category that it is in, which is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Its own rules, by word.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, String>,
    /// For each file whether it is wanted; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Vec<bool>>,
    /// Whether it has a folder of its own: `original`, `folder` or `none`; absent is as the session has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Pieces are fetched in order.
    #[serde(default)]
    pub sequential: bool,
    /// How much some files are wanted, after the selection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<FilesPriority>,
    /// The first and last pieces of each wanted file come first.
    #[serde(default)]
    pub first_last: bool,
    /// When it stops as if it was paused: `metadata` (it is known what its link means), `checked` (it is known what of it is there) or `none`;
    /// absent is as the session has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<String>,
    /// Only what is there is served: nothing is fetched or written.
    #[serde(default)]
    pub seed_only: bool,
    /// Files of the right size are taken for right without being read, once.
    #[serde(default)]
    pub trust: bool,
    /// Once it is whole, it is shown piece by piece (BEP 16).
    #[serde(default)]
    pub super_seed: bool,
    /// Whether the room on the disk is reserved first; absent is as the session has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preallocate: Option<bool>,
    /// Where it is there already, its trackers and web seeds are added to those of the first, unless it is private; absent is as the session
    /// has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<bool>,
    /// Trackers besides its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trackers: Vec<String>,
    /// Peers to try first, as long as the node runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<SocketAddr>,
}

/// What the node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The torrents that were asked for, as they are after what was asked for.
    Torrents {
        /// In the order in which they were added.
        torrents: Vec<Torrent>,
    },
    /// Settings.
    Settings {
        /// By name.
        settings: Vec<Setting>,
    },
    /// What torrents take rules from.
    Carriers {
        /// By name.
        carriers: Vec<Carrier>,
    },
    /// Trackers.
    Trackers {
        /// By torrent and tier.
        trackers: Vec<Tracker>,
    },
    /// Connected peers.
    Peers {
        /// By torrent.
        peers: Vec<Peer>,
    },
    /// Addresses that nobody speaks to.
    Banned {
        /// In order.
        addresses: Vec<IpAddr>,
    },
    /// Web seeds.
    WebSeeds {
        /// By torrent.
        web_seeds: Vec<WebSeed>,
    },
    /// What was to be shown.
    Shown(Shown),
    /// What torrents' bytes may leave by.
    Routes {
        /// By name.
        routes: Vec<Route>,
    },
    /// What a route can be bound to.
    Interfaces {
        /// By name.
        interfaces: Vec<Interface>,
    },
    /// What is told of an import: as often as there is something, until it is done.
    Import {
        /// This.
        news: ImportNews,
    },
    /// Lists of addresses that peers must not have.
    AddressLists {
        /// By path.
        lists: Vec<AddressList>,
    },
    /// Whether peers may have an address.
    Address(TestedAddress),
    /// What holds at which hours.
    Schedule(Schedule),
    /// Folders whose torrents and magnet links are added by themselves.
    WatchedFolders {
        /// By path.
        folders: Vec<WatchedFolder>,
    },
    /// Programs that run when something happens.
    Hooks {
        /// By what happens.
        hooks: Vec<Hook>,
    },
    /// The node ends.
    Ending {},
    /// It cannot be done.
    Error {
        /// Of what kind.
        kind: ErrorKind,
        /// What, and what to do.
        message: String,
    },
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request makes no sense.
    Usage,
    /// What was given is no torrent, or one that cannot be used.
    Refused,
    /// There is no such torrent.
    NotFound,
    /// It is there already.
    Duplicate,
    /// Something else went wrong.
    Failure,
}

/// A torrent of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torrent {
    /// Its number in this session, which no other one ever gets.
    pub id: i64,
    /// The v1 info hash where it has one, or else the v2 one, cut to 20 bytes.
    pub info_hash: String,
    /// What it is called.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Why it does not go on, where it does not; or why its files were not moved.
    pub message: Option<String>,
    /// The folder that its top-level name is in.
    pub directory: String,
    /// Where it goes when everything wanted is there, if that is another one.
    pub home: Option<String>,
    /// The folder that it is being moved to, or waits to be.
    pub moving_to: Option<String>,
    /// Other paths of files than its own, by these; of the first 100.
    pub renamed: BTreeMap<String, String>,
    /// The category that it is in.
    pub category: Option<String>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Its place among the torrents that are not complete, from 1.
    pub position: Option<usize>,
    /// It runs whatever the queue says.
    pub forced: bool,
    /// Its own rules, by word.
    pub rules: BTreeMap<String, String>,
    /// Pieces are fetched in order.
    pub sequential: bool,
    /// The first and last pieces of each wanted file come first.
    pub first_last: bool,
    /// The numbers of files by the word for how much they are wanted, such as `1,3-5`; none of those that are wanted as usual.
    pub priorities: BTreeMap<String, String>,
    /// Bytes of what is wanted; 0 while that is not known.
    pub wanted_bytes: u64,
    /// Those that are verified.
    pub verified_bytes: u64,
    /// Payload from others, in all runs.
    pub downloaded_bytes: u64,
    /// Payload to others, in all runs.
    pub uploaded_bytes: u64,
    /// Payload from others.
    pub download_rate_bytes_per_s: u64,
    /// Payload to others.
    pub upload_rate_bytes_per_s: u64,
    /// Payload from others that was of no use, in this run.
    pub wasted_bytes: u64,
    /// Pieces that failed their check, in this run.
    pub failed_pieces: u64,
    /// Connected peers.
    pub peers: usize,
    /// Those of them that have everything.
    pub seeds: usize,
    /// Unix time in seconds.
    pub added_at: i64,
    /// Unix time in seconds, once everything wanted was there; not where more is wanted since.
    pub completed_at: Option<i64>,
}

/// What a torrent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It rests, as a person wants.
    Paused,
    /// Others come first.
    Queued,
    /// It has given as much as its share limits ask for.
    Enough,
    /// Nobody has told yet what the torrent of its magnet link is.
    Searching,
    /// It is being opened.
    Starting,
    /// Files are read to find out what is there.
    Checking,
    /// Wanted pieces are missing.
    Downloading,
    /// Everything wanted is there, and peers are served.
    Seeding,
    /// Nothing can be written; it goes on by itself.
    Suspended,
    /// Its files or their drive are not there; it goes on by itself when they are back.
    Missing,
    /// Its route is not there, and nothing of it goes another way; it goes on by itself when that is back.
    NoRoute,
    /// Its files are being moved; what is there is served meanwhile, if it runs.
    Moving,
    /// It takes leave.
    Stopping,
    /// It cannot go on.
    Failed,
}

impl State {
    /// All of them.
    pub const ALL: [State; 14] = [
        State::Paused,
        State::Queued,
        State::Enough,
        State::Searching,
        State::Starting,
        State::Checking,
        State::Downloading,
        State::Seeding,
        State::Suspended,
        State::Missing,
        State::NoRoute,
        State::Moving,
        State::Stopping,
        State::Failed,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Paused => "paused",
            State::Queued => "queued",
            State::Enough => "enough",
            State::Searching => "searching",
            State::Starting => "starting",
            State::Checking => "checking",
            State::Downloading => "downloading",
            State::Seeding => "seeding",
            State::Suspended => "suspended",
            State::Missing => "missing",
            State::NoRoute => "no_route",
            State::Moving => "moving",
            State::Stopping => "stopping",
            State::Failed => "failed",
        }
    }
}
