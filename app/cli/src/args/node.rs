//! What is asked of a node.
//!
//! Invariant: which torrents are meant, and what values of rules and settings may be, is decided by the node alone.

mod down;
mod filter;
mod folders;
mod hook;
mod import;
mod peer;
mod priority;
mod route;
mod schedule;
mod tracker;
mod watch;
mod webseed;

pub(crate) use down::DownArgs;
pub(crate) use filter::{FilterArgs, FilterDo};
pub(crate) use folders::MoveArgs;
pub(crate) use hook::{HookArgs, HookDo};
pub(crate) use import::ImportArgs;
pub(crate) use peer::PeerArgs;
pub(crate) use priority::PriorityArgs;
pub(crate) use route::{RouteArgs, RouteDo};
pub(crate) use schedule::{ScheduleArgs, ScheduleDo};
pub(crate) use tracker::{AnnounceArgs, TrackerArgs};
pub(crate) use watch::{WatchArgs, WatchDo};
pub(crate) use webseed::WebSeedArgs;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use shoal_node::message::Shift;
use shoal_node::values;

use super::{NetworkArgs, Selection, StateArgs, parse_peer};

/// Run a node: a session of torrents that goes on where it was
///
/// Torrents are added and looked at with `shoal add`, `list`, `pause` and others, which speak to it over a socket in its state
/// folder that only this user can open. Runs until Ctrl-C or SIGTERM.
#[derive(Debug, Args)]
#[command(mut_arg("peers", |arg| arg.hide(true)), mut_arg("trackers", |arg| arg.hide(true)))]
pub(crate) struct UpArgs {
    /// Without the web app
    #[arg(long, required = true)]
    pub(crate) headless: bool,
    /// The most downloads that run at once, in place of `queue.downloads` of the settings
    #[arg(long, value_name = "N|all", value_parser = parse_most)]
    pub(crate) max_downloads: Option<Most>,
    /// The most seeds that run at once, in place of `queue.seeds` of the settings
    #[arg(long, value_name = "N|all", value_parser = parse_most)]
    pub(crate) max_seeds: Option<Most>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// How many at the most; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most(pub(crate) Option<u32>);

fn parse_most(text: &str) -> Result<Most, String> {
    values::parse_most(text).map(Most)
}

/// Give torrents to the running node
///
/// They download what is missing and seed until they are paused or removed, or have given what their share limits ask for. Of several,
/// each is added that can be; the others are named with what is wrong.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// A torrent file, an http or https URL of one, which the node fetches, or a magnet link; several share all options
    #[arg(value_name = "FILE|URL|MAGNET", required = true)]
    pub(crate) sources: Vec<OsString>,
    /// Only these files, by their numbers in `shoal show`, such as 1,3-5; not with a magnet link, which may have a selection of its own
    #[arg(long, value_name = "FILES")]
    pub(crate) select: Option<Selection>,
    #[command(flatten)]
    pub(crate) options: AddOptions,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What is told of a torrent as it is added, by a person or from a watched folder.
#[derive(Debug, Args)]
pub(crate) struct AddOptions {
    /// The folder to download into; the torrent's own file or folder is, or comes to be, there
    /// [default: that of the category, of a tag, or `folder.data` of the settings, or else the current one]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Another folder until everything wanted is there, or `none`
    /// [default: that of the category, of a tag, or `folder.incomplete` of the settings]
    #[arg(long, value_name = "DIR")]
    pub(crate) incomplete: Option<PathBuf>,
    /// A folder of its own: as it was made (original), always (folder), or never (none) [default: `add.layout` of the settings]
    #[arg(long, value_name = "LAYOUT")]
    pub(crate) layout: Option<String>,
    /// How much files are wanted: their numbers and skip, normal, high or highest, such as 3=high
    #[arg(long = "priority", value_name = "FILES=PRIORITY", value_parser = priority::parse_wanted)]
    pub(crate) priorities: Vec<priority::Wanted>,
    /// Fetch from the beginning to the end
    #[arg(long)]
    pub(crate) sequential: bool,
    /// Fetch the first and last pieces of each file first
    #[arg(long)]
    pub(crate) first_last: bool,
    /// Do not start it yet
    #[arg(long)]
    pub(crate) paused: bool,
    /// Stop it as if it was paused: when it is known what its link means (metadata), or what of it is there (checked), or never (none)
    /// [default: `add.stop_at` of the settings]
    #[arg(long, value_name = "WHEN")]
    pub(crate) stop_at: Option<String>,
    /// Take files of the right size for right, without reading them
    #[arg(long)]
    pub(crate) trust: bool,
    /// Where it is there already, and not private, add its trackers and web seeds to those of the first
    #[arg(long)]
    pub(crate) merge: bool,
    /// Run it whatever the queue says
    #[arg(long, conflicts_with = "paused")]
    pub(crate) force: bool,
    /// Before all that wait
    #[arg(long)]
    pub(crate) top: bool,
    /// Another name in the list
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The category that it is in
    #[arg(long, value_name = "NAME")]
    pub(crate) category: Option<String>,
    /// A tag that it has
    #[arg(long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<String>,
    /// The most bytes a second from peers, such as 500K or 2M
    #[arg(long, value_name = "RATE")]
    pub(crate) download_limit: Option<String>,
    /// The most bytes a second to peers
    #[arg(long, value_name = "RATE")]
    pub(crate) upload_limit: Option<String>,
    /// It has given enough when it has sent R times what it received
    #[arg(long, value_name = "R")]
    pub(crate) seed_ratio: Option<String>,
    /// It has given enough when it has seeded for this time, such as 2h or 10d
    #[arg(long, value_name = "T")]
    pub(crate) seed_time: Option<String>,
    /// It has given enough when it has seeded for this time and nobody asked for anything
    #[arg(long, value_name = "T")]
    pub(crate) seed_idle: Option<String>,
    /// The route that it takes, also to be fetched from a URL; `none` for the default one
    #[arg(long, value_name = "NAME")]
    pub(crate) route: Option<String>,
    /// A peer to connect to
    #[arg(long = "peer", value_name = "ADDR:PORT", value_parser = parse_peer)]
    pub(crate) peers: Vec<SocketAddr>,
}

impl AddOptions {
    /// What it is told of its own.
    pub(crate) fn rules(&self) -> BTreeMap<String, String> {
        said(&[
            ("down", &self.download_limit),
            ("up", &self.upload_limit),
            ("ratio", &self.seed_ratio),
            ("time", &self.seed_time),
            ("idle", &self.seed_idle),
            ("route", &self.route),
        ])
    }
}

fn said(rules: &[(&str, &Option<String>)]) -> BTreeMap<String, String> {
    let said = rules.iter();
    said.filter_map(|(word, text)| Some(((*word).to_owned(), (*text).clone()?)))
        .collect()
}

/// Which torrents, and in which order.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// These alone: numbers and ranges such as 3,7-9, names, eight or more digits of info hashes, all, category:NAME, tag:NAME,
    /// state:STATE, tracker:HOST, private:yes
    #[arg(value_name = "TORRENT")]
    pub(crate) torrents: Vec<String>,
    /// What comes first
    #[arg(long, value_name = "KEY", value_enum, default_value = "id")]
    pub(crate) sort: SortKey,
    /// The other way round
    #[arg(long)]
    pub(crate) reverse: bool,
    /// So many at the most
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// After so many others
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) offset: usize,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What torrents can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortKey {
    /// In the order in which they were added
    Id,
    /// Their place in the queue
    Queue,
    /// Their names
    Name,
    /// What they are doing
    State,
    /// The size of what is wanted
    Size,
    /// How much of it is there
    Progress,
    /// What was sent, as a part of what was received
    Ratio,
    /// What comes in
    Down,
    /// What goes out
    Up,
}

/// Which torrents of which node.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// Torrents: numbers and ranges of `shoal list` such as 3,7-9, names, eight or more digits of info hashes, all, category:NAME,
    /// tag:NAME, state:STATE, tracker:HOST, private:yes
    #[arg(value_name = "TORRENT", required = true)]
    pub(crate) torrents: Vec<String>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Forget torrents of the running node
///
/// Their files stay where they are unless --data says otherwise. With it, a torrent's own files go, and folders that are empty then;
/// whatever else is there stays.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Torrents, as for `shoal list`
    #[arg(value_name = "TORRENT", required = true)]
    pub(crate) torrents: Vec<String>,
    /// Remove their files too
    #[arg(long)]
    pub(crate) data: bool,
    /// Put the files into the trash, from which they can be brought back
    #[arg(long, requires = "data")]
    pub(crate) trash: bool,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Give torrents of the running node another place in its queue
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// Torrents, as for `shoal list`
    #[arg(value_name = "TORRENT")]
    pub(crate) torrents: String,
    /// Where to; they keep their order among themselves
    #[arg(value_name = "WHERE", value_parser = parse_shift)]
    pub(crate) to: Shift,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

fn parse_shift(text: &str) -> Result<Shift, String> {
    match text {
        "top" => Ok(Shift::Top),
        "up" => Ok(Shift::Up),
        "down" => Ok(Shift::Down),
        "bottom" => Ok(Shift::Bottom),
        _ => Err("write top, up, down or bottom".to_owned()),
    }
}

/// Limit the rates, connections and slots of torrents of the running node, or of all of it
///
/// Rates of a torrent, its category, its tags and the session hold all at once. Without an option, shows what is set.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Torrents, as for `shoal list`, or `session`
    #[arg(value_name = "TORRENT|session")]
    pub(crate) target: String,
    /// The most bytes a second from peers, such as 500K or 2MiB, or `none`
    #[arg(long, value_name = "RATE")]
    down: Option<String>,
    /// The most bytes a second to peers
    #[arg(long, value_name = "RATE")]
    up: Option<String>,
    /// The most connections
    #[arg(long, value_name = "N")]
    peers: Option<String>,
    /// The most peers that are served at a time; of the session also `auto`, which is as many as the uplink feeds
    #[arg(long, value_name = "N")]
    slots: Option<String>,
    /// Of the session: the most connections of each torrent
    #[arg(long, value_name = "N")]
    peers_per_torrent: Option<String>,
    /// Of the session: the most peers of each torrent that are served at a time
    #[arg(long, value_name = "N")]
    slots_per_torrent: Option<String>,
    /// Of the session: the most bytes a second from peers while its alternative rates hold, as `shoal schedule` says
    #[arg(long, value_name = "RATE")]
    alternative_down: Option<String>,
    /// Of the session: the most bytes a second to peers while its alternative rates hold
    #[arg(long, value_name = "RATE")]
    alternative_up: Option<String>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

impl LimitArgs {
    /// What is said.
    pub(crate) fn rules(&self) -> BTreeMap<String, String> {
        said(&[
            ("down", &self.down),
            ("up", &self.up),
            ("peers", &self.peers),
            ("slots", &self.slots),
            ("peers_per_torrent", &self.peers_per_torrent),
            ("slots_per_torrent", &self.slots_per_torrent),
            ("alternative_down", &self.alternative_down),
            ("alternative_up", &self.alternative_up),
        ])
    }
}

/// Say how much torrents of the running node give, or all of them
///
/// What is not said of a torrent comes from its category, its tags or the session: `inherit` goes back to that, and `none` is no limit.
/// Without an option, shows what is set.
#[derive(Debug, Args)]
pub(crate) struct ShareArgs {
    /// Torrents, as for `shoal list`, or `session`
    #[arg(value_name = "TORRENT|session")]
    pub(crate) target: String,
    #[command(flatten)]
    share: ShareRules,
    /// Whether a torrent is shown piece by piece until others have all of it between them: on or off
    #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
    super_seed: Option<String>,
    /// Of the session: who gets a seed's slots: in-turn (each for a while), fastest (who takes most), or anti-leech (who begins or has
    /// nearly finished)
    #[arg(long, value_name = "WHOM")]
    slots_to: Option<String>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What is said of how much is given.
#[derive(Debug, Args)]
struct ShareRules {
    /// Until so many times what was received is sent, such as 2 or 1.5
    #[arg(long, value_name = "R")]
    ratio: Option<String>,
    /// Until it has seeded for this time, such as 2h or 10d
    #[arg(long, value_name = "T")]
    time: Option<String>,
    /// Until nobody has asked for anything for this time
    #[arg(long, value_name = "T")]
    idle: Option<String>,
    /// Which of these counts: any, the first, or all, the last
    #[arg(long, value_name = "WHICH")]
    when: Option<String>,
    /// What follows: pause, rm, rm-data or super-seed
    #[arg(long, value_name = "WHAT")]
    then: Option<String>,
}

impl ShareArgs {
    /// What is said.
    pub(crate) fn rules(&self) -> BTreeMap<String, String> {
        let mut rules = self.share.rules();
        rules.extend(said(&[
            ("super_seed", &self.super_seed),
            ("slots_to", &self.slots_to),
        ]));
        rules
    }
}

impl ShareRules {
    fn rules(&self) -> BTreeMap<String, String> {
        said(&[
            ("ratio", &self.ratio),
            ("time", &self.time),
            ("idle", &self.idle),
            ("when", &self.when),
            ("then", &self.then),
        ])
    }
}

/// What a category or tag says for its torrents.
#[derive(Debug, Args)]
pub(crate) struct RuleArgs {
    /// Its name; a category below another one is written like films/short
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The most bytes a second from peers of all its torrents together
    #[arg(long, value_name = "RATE")]
    down: Option<String>,
    /// The most bytes a second to peers of all its torrents together
    #[arg(long, value_name = "RATE")]
    up: Option<String>,
    #[command(flatten)]
    share: ShareRules,
    /// Where the data of its torrents goes, from the root
    #[arg(long, value_name = "DIR")]
    folder: Option<String>,
    /// Where it lies until everything wanted is there, from the root, or `none`
    #[arg(long, value_name = "DIR")]
    incomplete: Option<String>,
    /// The route that its torrents take; `none` for the default one
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
}

impl RuleArgs {
    /// What is said.
    pub(crate) fn rules(&self) -> BTreeMap<String, String> {
        let rates = [
            ("down", &self.down),
            ("up", &self.up),
            ("folder", &self.folder),
            ("incomplete", &self.incomplete),
            ("route", &self.route),
        ];
        let mut rules = said(&rates);
        rules.extend(self.share.rules());
        rules
    }
}

/// Show, make and change categories of the running node, and put torrents into them
///
/// A torrent is in one category or in none, and takes from it what it has not been told itself: a folder, and how much it gives. Its rates
/// are shared by all torrents in it.
#[derive(Debug, Args)]
pub(crate) struct CategoryArgs {
    #[command(subcommand)]
    pub(crate) does: Option<CategoryDo>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with categories.
#[derive(Debug, Subcommand)]
pub(crate) enum CategoryDo {
    /// Show them
    List,
    /// Make one, or change what it says
    Set(Box<RuleArgs>),
    /// Forget some, and those below them; their torrents stay
    Rm {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Put torrents into one
    Put {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The category, or `none`
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Show, make and change tags of the running node, and tag its torrents
///
/// A torrent has any number of tags, and takes from them, by name, what neither it nor its category says.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    #[command(subcommand)]
    pub(crate) does: Option<TagDo>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with tags.
#[derive(Debug, Subcommand)]
pub(crate) enum TagDo {
    /// Show them
    List,
    /// Make one, or change what it says
    Set(Box<RuleArgs>),
    /// Forget some; torrents stay
    Rm {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Tag torrents
    Put {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The tags
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// They have these and no others
        #[arg(long)]
        only: bool,
    },
    /// Take tags from torrents
    Take {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The tags
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

/// Give torrents of the running node another name or remark in its list, or their files other names
///
/// A name in the list changes no file. With --file or --folder, a file or folder of theirs gets another path, written from the folder that
/// the torrent's own file or folder is in, such as album/a.flac.
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// Torrents, as for `shoal list`
    #[arg(value_name = "TORRENT")]
    pub(crate) torrents: String,
    /// The name; empty for the torrent's own
    #[arg(value_name = "NAME", required_unless_present_any = ["comment", "file", "folder"])]
    pub(crate) name: Option<String>,
    /// A remark; empty for the torrent's own
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// Another path of a file
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with_all = ["name", "comment", "folder"])]
    pub(crate) file: Option<Vec<String>>,
    /// Another path of a folder
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with_all = ["name", "comment"])]
    pub(crate) folder: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Show and change the settings of the running node
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    #[command(subcommand)]
    pub(crate) does: Option<SettingsDo>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingsDo {
    /// Show them
    List,
    /// Change some, all of them or none where one is wrong
    Set {
        /// KEY=VALUE; of a list also KEY+=VALUE and KEY-=VALUE
        #[arg(value_name = "KEY=VALUE", required = true)]
        assignments: Vec<String>,
    },
    /// Go back to what holds where nothing was set
    Reset {
        /// Their names
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
    },
}
