//! The command line: one definition from which parsing, `--help`, the man page and completions come.
//!
//! Invariant: what leaves here is well-formed by itself. Whether it fits a torrent, the disk or the network is decided
//! where those are known.

mod node;
mod proxy;
mod selection;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use shoal_engine::{DhtRouter, EncryptionPolicy, PeerTransports, SessionSettings};
use shoal_metainfo::create::Kind;
use shoal_metainfo::metainfo::{Contact, TrackerUrl};
use shoal_node::values;
use shoal_transport::{Binding, IpNet, OriginClass, Proxy, RateLimits};
use url::Url;

use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::units;

pub(crate) use node::{
    AddArgs, AddOptions, CategoryArgs, CategoryDo, DownArgs, FilterArgs, FilterDo, HookArgs,
    HookDo, ImportArgs, LimitArgs, ListArgs, MoveArgs, NamedArgs, QueueArgs, RemoveArgs,
    RenameArgs, RouteArgs, RouteDo, RuleArgs, ScheduleArgs, ScheduleDo, SettingsArgs, SettingsDo,
    ShareArgs, SortKey, TagArgs, TagDo, UpArgs, WatchArgs, WatchDo,
};
pub(crate) use node::{AnnounceArgs, PeerArgs, PriorityArgs, TrackerArgs, WebSeedArgs};
pub(crate) use selection::{Selection, numbered};

/// Publish and fetch files over a peer-to-peer network
///
/// Shoal makes, shows, downloads, seeds and checks BitTorrent torrents: v1, v2 and hybrid ones.
#[derive(Debug, Parser)]
#[command(name = "shoal", version, max_term_width = 100)]
#[command(
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command has, before or after its name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Global {
    /// Print one JSON object a line, as docs/json.md describes
    #[arg(long, global = true)]
    json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Write a log to standard error; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Global {
    /// How to speak to whoever reads.
    pub(crate) fn format(&self) -> Format {
        Format {
            json: self.json,
            quiet: self.quiet,
            // A log and a progress bar would draw over each other.
            bars: self.verbose == 0,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    Show(ShowArgs),
    Get(Box<GetArgs>),
    Seed(Box<SeedArgs>),
    Check(CheckArgs),
    Up(Box<UpArgs>),
    Add(Box<AddArgs>),
    /// Show torrents of the running node
    List(ListArgs),
    /// Let torrents of the running node rest, also after its next start
    Pause(NamedArgs),
    /// Let torrents of the running node go on when it is their turn; those that had failed begin anew
    Resume(NamedArgs),
    /// Let torrents of the running node run whatever its queue and share limits say; `resume` takes it back
    Start(NamedArgs),
    /// Verify everything of torrents of the running node again, and fetch what is missing then
    Recheck(NamedArgs),
    Announce(AnnounceArgs),
    Tracker(TrackerArgs),
    Peer(PeerArgs),
    #[command(name = "webseed")]
    WebSeed(WebSeedArgs),
    Priority(PriorityArgs),
    Queue(QueueArgs),
    Limit(LimitArgs),
    Share(ShareArgs),
    Category(CategoryArgs),
    Tag(TagArgs),
    Route(RouteArgs),
    Move(MoveArgs),
    Rename(RenameArgs),
    Rm(RemoveArgs),
    Settings(SettingsArgs),
    Import(ImportArgs),
    Filter(FilterArgs),
    Schedule(ScheduleArgs),
    Watch(WatchArgs),
    Hook(HookArgs),
    Down(DownArgs),
    /// Print the manual page, for `man -l -`
    Man,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Make a torrent of a file or folder
///
/// Hidden files are included unless told otherwise, and symbolic links are left out. The torrent is hybrid, for v1 and v2 clients alike, unless
/// told otherwise.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The file or folder to publish
    pub(crate) path: PathBuf,
    /// For clients of BitTorrent v1 only
    #[arg(long, group = "kind")]
    v1: bool,
    /// For clients of BitTorrent v2 only
    #[arg(long, group = "kind")]
    v2: bool,
    /// For clients of both versions (the default)
    #[arg(long, group = "kind")]
    hybrid: bool,
    /// A tracker to announce to, or several that share a tier, as 'URL URL'; tiers are tried in this order
    #[arg(long = "tracker", value_name = "URL", value_parser = parse_tier)]
    pub(crate) trackers: Vec<Tier>,
    /// An HTTP server that has the same files
    #[arg(long = "web-seed", value_name = "URL", value_parser = parse_web_seed)]
    pub(crate) web_seeds: Vec<String>,
    /// Peers may come from the trackers only
    #[arg(long)]
    pub(crate) private: bool,
    /// The length of a piece, such as 16KiB, 1M or 65536; chosen by the total size by default
    #[arg(long, value_name = "N", value_parser = units::parse_piece_length)]
    pub(crate) piece_size: Option<u32>,
    /// A remark for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) comment: Option<String>,
    /// A word that gives the same files an info hash of their own, as private trackers ask for
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,
    /// Leave out the date, so that the same files always make the same torrent
    #[arg(long)]
    pub(crate) no_date: bool,
    /// Leave out files and folders whose names begin with a dot
    #[arg(long)]
    pub(crate) skip_hidden: bool,
    /// Give it to the running node, which serves it at once and reads nothing again
    #[arg(long)]
    pub(crate) add: bool,
    /// The torrent file to write [default: NAME.torrent in the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Overwrite the torrent file if it is there already
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Trackers that stand for each other.
#[derive(Clone, Debug)]
pub(crate) struct Tier(pub(crate) Vec<String>);

impl CreateArgs {
    /// Which protocols the torrent is for.
    pub(crate) const fn kind(&self) -> Kind {
        match (self.v1, self.v2) {
            (true, _) => Kind::V1,
            (_, true) => Kind::V2,
            _ => Kind::Hybrid,
        }
    }
}

/// Show what is inside of a torrent or magnet link, or what the running node has
///
/// Of a torrent file or magnet link: files, sizes, both info hashes, trackers, and what is odd about it. What is odd does no harm; a
/// torrent that would is refused. Of torrents of the running node, said as for `shoal list`: all that it knows of them. Of nothing: the
/// node itself. What reads as a number, digits of an info hash or a choice is no file; a file of such a name is written ./3.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Torrents of the running node, a torrent file, or a magnet link
    #[arg(value_name = "ID|FILE|MAGNET")]
    pub(crate) source: Option<OsString>,
    /// Of a file: list padding files too
    #[arg(long, requires = "source")]
    pub(crate) all: bool,
    /// Of a file or link: ask the trackers how many seeds and leeches there are, for ten seconds at most; nobody is contacted otherwise
    #[arg(long, requires = "source")]
    pub(crate) scrape: bool,
    /// Of a torrent of the node: its files, where they are, and how far
    #[arg(long, group = "part", requires = "source")]
    pub(crate) files: bool,
    /// Of a torrent of the node: which of its pieces are there and under way, and how many peers have each
    #[arg(long, group = "part", requires = "source")]
    pub(crate) pieces: bool,
    /// Of a torrent of the node: what each of its pieces hashes to
    #[arg(long, group = "part", requires = "source")]
    pub(crate) hashes: bool,
    /// Of a torrent of the node: write its torrent file
    #[arg(long, value_name = "FILE", group = "part", requires = "source")]
    pub(crate) save: Option<PathBuf>,
    /// Overwrite a file that is there already
    #[arg(long, requires = "save")]
    pub(crate) force: bool,
    /// A range of addresses that trackers may have, local or not, such as 192.168.0.0/16
    #[arg(
        long,
        value_name = "CIDR",
        requires = "scrape",
        help_heading = "Network"
    )]
    pub(crate) allow_net: Vec<IpNet>,
    /// The address or interface that everything goes through, or nothing goes at all
    #[arg(
        long,
        value_name = "ADDR|IFACE",
        value_parser = values::parse_binding,
        requires = "scrape",
        help_heading = "Network"
    )]
    pub(crate) bind: Option<Binding>,
    /// The proxy that everything goes through, or nothing goes at all
    #[arg(
        long,
        value_name = "URL",
        value_parser = proxy::parse,
        requires = "scrape",
        help_heading = "Network"
    )]
    proxy: Option<Proxy>,
    /// A file with the password for the name in the URL of --proxy
    #[arg(
        long,
        value_name = "FILE",
        requires = "proxy",
        help_heading = "Network"
    )]
    proxy_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

impl ShowArgs {
    /// The proxy, told its password.
    ///
    /// # Errors
    /// Where the password cannot be read or said.
    pub(crate) fn proxy(&self) -> Result<Option<Proxy>, Failure> {
        proxy::read(self.proxy.as_ref(), self.proxy_password_file.as_deref())
    }
}

/// Download a torrent, or a file from the web
///
/// Goes on where it was: what is known to be good is neither fetched nor read again. Ends as soon as everything wanted is
/// verified, unless told to seed. With a magnet link, peers are asked first what the torrent is, and its files are shown as soon as
/// that is known; this is remembered too. Where a node runs, it is given the torrent, downloads it and seeds it from then on; the command
/// shows how far that is.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// A torrent or metalink file, an http or https URL of one or of any other file, or a magnet link
    #[arg(value_name = "FILE|URL|MAGNET")]
    pub(crate) source: OsString,
    /// The folder to download into; the torrent's own file or folder goes there
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) output: PathBuf,
    /// Only these files, by their numbers in `shoal show`, such as 1,3-5; a magnet link may have a selection of its own
    #[arg(long, value_name = "FILES")]
    pub(crate) select: Option<Selection>,
    /// Give up where nobody has told within this time what the torrent of a magnet link is, such as 30s or 10m
    /// [default: keep looking]
    #[arg(long, value_name = "T", value_parser = units::parse_time)]
    pub(crate) metadata_timeout: Option<Duration>,
    /// Fetch from the beginning to the end
    #[arg(long)]
    pub(crate) sequential: bool,
    /// Reserve the room on the disk first
    #[arg(long)]
    pub(crate) preallocate: bool,
    /// Afterwards seed, until R times the size of what was wanted is uploaded
    #[arg(long, value_name = "R", value_parser = units::parse_ratio, conflicts_with = "seed_time")]
    pub(crate) seed_ratio: Option<f64>,
    /// Afterwards seed for this time, such as 90s, 10m, 2h or 1d
    #[arg(long, value_name = "T", value_parser = units::parse_time)]
    pub(crate) seed_time: Option<Duration>,
    /// Do it here, also while a node runs that could
    #[arg(long)]
    pub(crate) alone: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Serve the data of a torrent
///
/// Checks the data first, as far as it is not known to be good. Runs until Ctrl-C or SIGTERM; where a node runs, it is given the torrent,
/// and the command ends when it is served.
#[derive(Debug, Args)]
pub(crate) struct SeedArgs {
    /// The torrent file
    pub(crate) file: PathBuf,
    /// The folder that the torrent's own file or folder is in
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Take files of the right size for right, without reading them
    #[arg(long)]
    pub(crate) trust: bool,
    /// Show each peer a few pieces at a time until others have all of them between them, so that hardly a byte is sent twice; for the first
    /// seed of a new torrent
    #[arg(long)]
    pub(crate) super_seed: bool,
    /// Do it here, also while a node runs that could
    #[arg(long)]
    pub(crate) alone: bool,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Find out which files and pieces of a torrent are wrong or missing
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The torrent file
    pub(crate) file: PathBuf,
    /// The folder that the torrent's own file or folder is in
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

/// How to reach others.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// A peer to connect to
    #[arg(long = "peer", value_name = "ADDR:PORT", value_parser = parse_peer)]
    pub(crate) peers: Vec<SocketAddr>,
    /// A tracker to ask besides those of the torrent
    #[arg(long = "tracker", value_name = "URL", value_parser = parse_tracker)]
    pub(crate) trackers: Vec<Url>,
    /// Where peers may connect; port 0 is any free one, a loopback address implies --isolated
    /// [default: the first free port of 6881 to 6889, on every address]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Connect to nobody but the peers and trackers named here
    #[arg(long)]
    isolated: bool,
    /// Neither ask the DHT for peers nor be known there; private torrents never are
    #[arg(long, conflicts_with = "dht_routers")]
    no_dht: bool,
    /// Whom to ask for the first contacts of the DHT, where none is known from before; with --isolated, only those in a range of
    /// --allow-net, and nobody by default
    /// [default: dht.libtorrent.org:25401, router.bittorrent.com:6881, dht.transmissionbt.com:6881]
    #[arg(long = "dht-router", value_name = "HOST:PORT", value_parser = parse_router)]
    dht_routers: Vec<Contact>,
    /// A range of addresses that others may name, local or not, such as 192.168.0.0/16
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow_net: Vec<IpNet>,
    /// The address or interface that everything goes through, or nothing goes at all; 0.0.0.0 is any
    /// [default: the address of --listen if it is a single one, or else any]
    #[arg(long, value_name = "ADDR|IFACE", value_parser = values::parse_binding)]
    bind: Option<Binding>,
    /// A name server to ask instead of the system's, which does not follow --bind: this one is asked over the same way as all else
    #[arg(long = "dns", value_name = "ADDR[:PORT]", value_parser = values::parse_name_server, conflicts_with = "proxy")]
    pub(crate) name_servers: Vec<SocketAddr>,
    /// The proxy that everything goes through, or nothing goes at all: socks4://, socks4a://, socks5:// or http://, a name where it wants
    /// one, its address and port. Names are looked up by it. Nobody can connect to us then, and uTP and the DHT work with socks5 alone
    #[arg(
        long,
        value_name = "URL",
        value_parser = proxy::parse,
        conflicts_with = "listen"
    )]
    proxy: Option<Proxy>,
    /// A file with the password for the name in the URL of --proxy
    #[arg(long, value_name = "FILE", requires = "proxy")]
    proxy_password_file: Option<PathBuf>,
    /// Do not ask the router (PCP, NAT-PMP, UPnP) to let peers connect from outside; in isolation it is never asked
    #[arg(long)]
    pub(crate) no_port_mapping: bool,
    /// Whether connections to peers are disguised: enabled calls and answers encrypted where the peer knows how, and otherwise in
    /// the clear; forced speaks only to peers that encrypt everything. It is no privacy: whoever knows the torrent can read along
    /// [default: enabled, or what a node's settings say]
    #[arg(long, value_name = "POLICY", value_parser = encryption_policies())]
    pub(crate) encryption: Option<EncryptionPolicy>,
    /// Over what peers are spoken to: both calls over TCP, and over uTP too where TCP fails or takes long, and answers both
    /// [default: both, or what a node's settings say]
    #[arg(long, value_name = "TRANSPORT", value_parser = transports())]
    pub(crate) transport: Option<PeerTransports>,
    /// The most peers connected at once
    #[arg(long, value_name = "N", default_value_t = SessionSettings::default().max_connections_per_torrent,
          value_parser = clap::value_parser!(u32).range(1..=20_000))]
    max_peers: u32,
    /// The most bytes a second from peers, such as 500K or 2M
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    download_limit: Option<NonZeroU64>,
    /// The most bytes a second to peers
    #[arg(long, value_name = "RATE", value_parser = units::parse_rate)]
    upload_limit: Option<NonZeroU64>,
}

/// Who keeps a place for everybody to begin.
const DHT_ROUTERS: [&str; 3] = [
    "dht.libtorrent.org:25401",
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
];

impl NetworkArgs {
    /// Whom to ask for the first contacts of the DHT; `None` where it is off.
    pub(crate) fn dht_routers(&self) -> Option<Vec<DhtRouter>> {
        let routers = |contacts: Vec<Contact>, origin| {
            let routers = contacts.into_iter();
            Some(
                routers
                    .map(|contact| DhtRouter { contact, origin })
                    .collect(),
            )
        };
        let named = self.dht_routers.clone();
        if self.no_dht {
            None
        } else if self.is_isolated() {
            // By address, as a name could stand for any.
            let is_allowed = |router: &Contact| {
                let ip = router.host.parse::<IpAddr>();
                ip.is_ok_and(|ip| self.allow_net.iter().any(|net| net.contains(ip)))
            };
            let allowed: Vec<Contact> = named.into_iter().filter(is_allowed).collect();
            match allowed.is_empty() {
                true => None,
                false => routers(allowed, OriginClass::User),
            }
        } else if named.is_empty() {
            let usual = DHT_ROUTERS.into_iter().filter_map(Contact::parse);
            routers(usual.collect(), OriginClass::Dht)
        } else {
            routers(named, OriginClass::User)
        }
    }

    /// Whether nobody but those named here is to be reached.
    pub(crate) fn is_isolated(&self) -> bool {
        let loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        self.isolated || (!self.listen.is_empty() && self.listen.iter().all(loopback))
    }

    /// An option that says how to reach others, where one was given: a torrent of a node is reached as the node is.
    pub(crate) fn of_its_own(&self) -> Option<&'static str> {
        let given = [
            (!self.listen.is_empty(), "--listen"),
            (self.isolated, "--isolated"),
            (self.no_dht, "--no-dht"),
            (!self.dht_routers.is_empty(), "--dht-router"),
            (!self.allow_net.is_empty(), "--allow-net"),
            (self.bind.is_some(), "--bind"),
            (self.proxy.is_some(), "--proxy"),
            (!self.name_servers.is_empty(), "--dns"),
            (self.no_port_mapping, "--no-port-mapping"),
            (self.encryption.is_some(), "--encryption"),
            (self.transport.is_some(), "--transport"),
            (
                self.max_peers != SessionSettings::default().max_connections_per_torrent,
                "--max-peers",
            ),
        ];
        let mut given = given.into_iter();
        given.find_map(|(given, option)| given.then_some(option))
    }

    /// Whether somebody is named to ask for contacts of the DHT.
    pub(crate) fn names_dht_routers(&self) -> bool {
        !self.dht_routers.is_empty()
    }

    /// Whether a person says by what all leaves.
    pub(crate) fn says_route(&self) -> bool {
        let bound = self.bind.is_some() || self.binding() != Binding::Any;
        bound || self.proxy.is_some() || !self.name_servers.is_empty()
    }

    /// What sockets are bound to. Whoever listens on one address of several is known to peers and trackers by that
    /// address, so that connections leave from it too. One that listens on loopback alone may still be told to go elsewhere.
    pub(crate) fn binding(&self) -> Binding {
        let listening: BTreeSet<IpAddr> = self
            .listen
            .iter()
            .map(|address| address.ip().to_canonical())
            .collect();
        let only = match listening.first() {
            Some(address) if listening.len() == 1 => Some(*address),
            _ => None,
        };
        let of_listener = || match only {
            Some(address) if !address.is_unspecified() && !address.is_loopback() => {
                Binding::Address(address)
            }
            _ => Binding::Any,
        };
        self.bind.clone().unwrap_or_else(of_listener)
    }

    /// Who everything goes through, told its password.
    ///
    /// # Errors
    /// Where the password cannot be read or said.
    pub(crate) fn proxy(&self) -> Result<Option<Proxy>, Failure> {
        proxy::read(self.proxy.as_ref(), self.proxy_password_file.as_deref())
    }

    /// Slots and connections, for the one torrent that a command runs.
    pub(crate) fn session(&self) -> SessionSettings {
        SessionSettings {
            max_connections: self.max_peers,
            max_connections_per_torrent: self.max_peers,
            ..SessionSettings::default()
        }
    }

    /// The limits of everything.
    pub(crate) const fn limits(&self) -> RateLimits {
        RateLimits {
            down_bytes_per_s: self.download_limit,
            up_bytes_per_s: self.upload_limit,
        }
    }
}

/// Where the program remembers.
#[derive(Debug, Args)]
#[command(next_help_heading = "State")]
pub(crate) struct StateArgs {
    /// Where to remember which pieces are verified [default: $XDG_STATE_HOME/shoal, else ~/.local/state/shoal]
    #[arg(
        long,
        value_name = "DIR",
        // Also behind the words of `shoal settings set` and its like.
        global = true,
        env = "SHOAL_STATE_DIR",
        hide_env_values = true
    )]
    pub(crate) state_dir: Option<PathBuf>,
}

fn parse_tier(text: &str) -> Result<Tier, String> {
    let tracker = |text| {
        let tracker = TrackerUrl::parse(text).map(|tracker| tracker.url);
        tracker.map_err(|problem| {
            format!("{problem}; write a URL like https://tracker.example/announce")
        })
    };
    // Where nothing is written, what a URL looks like is said all the same.
    match text.split_whitespace().next() {
        None => tracker(text).map(|url| Tier(vec![url])),
        Some(_) => text
            .split_whitespace()
            .map(tracker)
            .collect::<Result<_, _>>()
            .map(Tier),
    }
}

fn parse_tracker(text: &str) -> Result<Url, String> {
    let tracker = TrackerUrl::parse(text).map_err(|problem| {
        format!("{problem}; write a URL like https://tracker.example/announce")
    })?;
    if !tracker.scheme.is_supported() {
        return Err("only http, https and udp trackers can be asked".to_owned());
    }
    Url::parse(&tracker.url).map_err(|error| error.to_string())
}

fn parse_web_seed(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(text.to_owned()),
        _ => Err("a web seed is an http or https URL".to_owned()),
    }
}

fn parse_peer(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "write an address and a port, like 192.0.2.1:6881 or [2001:db8::1]:6881")?;
    match address.port() {
        0 => Err("a peer has a port other than 0".to_owned()),
        _ => Ok(address),
    }
}

fn parse_router(text: &str) -> Result<Contact, String> {
    let contact = Contact::parse(text);
    contact.ok_or_else(|| "write a name or an address and a port, like dht.example:6881".to_owned())
}

/// The names of the policies, as other clients have them.
fn encryption_policies() -> impl TypedValueParser<Value = EncryptionPolicy> {
    PossibleValuesParser::new(["disabled", "enabled", "forced"]).map(|name| match name.as_str() {
        "disabled" => EncryptionPolicy::Disabled,
        "forced" => EncryptionPolicy::Forced,
        _ => EncryptionPolicy::Enabled,
    })
}

fn transports() -> impl TypedValueParser<Value = PeerTransports> {
    PossibleValuesParser::new(["both", "tcp", "utp"]).map(|name| match name.as_str() {
        "tcp" => PeerTransports::Tcp,
        "utp" => PeerTransports::Utp,
        _ => PeerTransports::Both,
    })
}

/// The definition, with the exit codes at the end of every help text.
pub(crate) fn definition() -> clap::Command {
    let help = Exit::help();
    CommandLine::command()
        .after_help(help.clone())
        .mut_subcommands(move |command| command.after_help(help.clone()))
}

/// Reads a command line.
///
/// # Errors
/// What to say instead of running: help, the version, or what is wrong.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<CommandLine, Said> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    definition()
        .try_get_matches_from(arguments)
        .and_then(|matches| CommandLine::from_arg_matches(&matches))
        .map_err(|error| Said { error, json })
}

/// What to say instead of running a command.
#[derive(Debug)]
pub(crate) struct Said {
    error: clap::Error,
    json: bool,
}

impl Said {
    /// Says it, and gives the exit code.
    pub(crate) fn show(&self) -> Exit {
        let asked_for = matches!(
            self.error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        );
        if self.json && !asked_for {
            let text = self.error.render().to_string();
            // What is missing, or could be meant, stands in lines of its own before the first empty one.
            let lines = text.lines().map(str::trim);
            let lines: Vec<&str> = lines.take_while(|line| !line.is_empty()).collect();
            let message = lines.join(" ");
            let message = message.strip_prefix("error: ").unwrap_or(&message);
            let format = Format {
                json: true,
                ..Format::default()
            };
            output::fail(format, &Failure::new(Exit::Usage, message));
            return Exit::Usage;
        }
        // A closed output leaves nobody to tell.
        drop(self.error.print());
        if asked_for { Exit::Ok } else { Exit::Usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<CommandLine, Said> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn network(line: &str) -> NetworkArgs {
        match read(line).unwrap().command {
            Command::Get(args) => args.network,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["shoal --json -q show x", "shoal show x --json -q"] {
            let format = read(line).unwrap().global.format();
            assert!(format.json && format.quiet, "{line}");
        }
    }

    #[test]
    fn a_loopback_listener_isolates_and_another_does_not() {
        assert!(network("shoal get x --listen 127.0.0.1:0").is_isolated());
        assert!(network("shoal get x --listen [::1]:0 --listen 127.0.0.1:0").is_isolated());
        assert!(!network("shoal get x --listen 127.0.0.1:0 --listen 0.0.0.0:0").is_isolated());
        assert!(!network("shoal get x").is_isolated());
        assert!(network("shoal get x --isolated").is_isolated());
    }

    #[test]
    fn connections_leave_from_the_one_address_that_listens() {
        let address = |text: &str| Binding::Address(text.parse().unwrap());
        for (options, expected) in [
            ("", Binding::Any),
            ("--listen 10.1.1.1:0", address("10.1.1.1")),
            (
                "--listen 10.1.1.1:1 --listen 10.1.1.1:2",
                address("10.1.1.1"),
            ),
            ("--listen [::ffff:10.1.1.1]:1", address("10.1.1.1")),
            ("--listen 10.1.1.1:0 --listen 10.1.1.2:0", Binding::Any),
            ("--listen 0.0.0.0:0", Binding::Any),
            ("--listen 127.0.0.1:0", Binding::Any),
            ("--listen 10.1.1.1:0 --bind 0.0.0.0", Binding::Any),
            ("--listen 10.1.1.1:0 --bind fd00::1", address("fd00::1")),
        ] {
            let read = network(&format!("shoal get x {options}"));
            assert_eq!(read.binding(), expected, "{options}");
        }
        let interface = network("shoal get x --bind eth0").binding();
        assert_eq!(interface, Binding::Interface("eth0".to_owned()));
    }

    #[test]
    fn connections_are_encrypted_by_one_of_three_policies() {
        let policy = |options: &str| network(&format!("shoal get x {options}")).encryption;
        assert_eq!(policy(""), None);
        for (name, expected) in [
            ("disabled", EncryptionPolicy::Disabled),
            ("enabled", EncryptionPolicy::Enabled),
            ("forced", EncryptionPolicy::Forced),
        ] {
            assert_eq!(policy(&format!("--encryption {name}")), Some(expected));
        }
        assert!(read("shoal get x --encryption sometimes").is_err());
    }

    #[test]
    fn peers_are_spoken_to_over_both_transports_or_one() {
        let transport = |options: &str| network(&format!("shoal get x {options}")).transport;
        assert_eq!(transport(""), None);
        for (name, expected) in [
            ("both", PeerTransports::Both),
            ("tcp", PeerTransports::Tcp),
            ("utp", PeerTransports::Utp),
        ] {
            assert_eq!(transport(&format!("--transport {name}")), Some(expected));
        }
        assert!(read("shoal get x --transport pigeon").is_err());
    }

    #[test]
    fn name_servers_are_addresses_and_have_the_usual_port() {
        let servers =
            network("shoal get x --dns 10.8.0.1 --dns [fd00::1]:5353 --dns fd00::2").name_servers;
        let expected = ["10.8.0.1:53", "[fd00::1]:5353", "[fd00::2]:53"];
        assert_eq!(servers, expected.map(|text| text.parse().unwrap()));
        assert!(read("shoal get x --dns dns.example").is_err());
        assert!(read("shoal get x --dns 10.8.0.1 --proxy socks5://10.0.0.1:1").is_err());
    }

    #[test]
    fn a_torrent_is_not_handed_over_to_a_node_that_takes_another_way() {
        let of_its_own = |options: &str| network(&format!("shoal get x {options}")).of_its_own();
        assert_eq!(
            of_its_own("--proxy socks5://10.0.0.1:1080"),
            Some("--proxy")
        );
        assert_eq!(of_its_own("--bind wg0"), Some("--bind"));
        assert_eq!(of_its_own("--dns 10.8.0.1"), Some("--dns"));
        assert_eq!(of_its_own(""), None);
    }

    #[test]
    fn a_proxy_gets_its_password_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let with_file = |url: &str| {
            let line = format!(
                "shoal get x --proxy {url} --proxy-password-file {}",
                file.display()
            );
            network(&line).proxy()
        };
        assert_eq!(
            with_file("socks5://me@10.0.0.1:1080").unwrap_err().exit,
            Exit::Unusable
        );
        std::fs::write(&file, "a word\r\n").unwrap();
        let expected: Proxy = "socks5://me@10.0.0.1:1080".parse().unwrap();
        let expected = expected.with_password("a word").unwrap();
        assert_eq!(
            with_file("socks5://me@10.0.0.1:1080").unwrap(),
            Some(expected)
        );
        assert_eq!(
            with_file("socks4://me@10.0.0.1:1080").unwrap_err().exit,
            Exit::Usage
        );
        assert_eq!(network("shoal get x").proxy().unwrap(), None);
        let plain = network("shoal get x --proxy http://10.0.0.1:3128").proxy();
        assert_eq!(
            plain.unwrap(),
            Some("http://10.0.0.1:3128".parse().unwrap())
        );
        for options in [
            "--proxy socks5://me:word@10.0.0.1:1080",
            "--proxy socks5://proxy.example:1080",
            "--proxy socks5://10.0.0.1:1080 --listen 10.0.0.2:0",
            "--proxy-password-file x",
        ] {
            assert!(
                read(&format!("shoal get x {options}")).is_err(),
                "{options}"
            );
        }
        assert!(read("shoal show x --proxy http://10.0.0.1:3128").is_err());
    }

    #[test]
    fn the_dht_is_asked_unless_nobody_is_to_be() {
        let routers = |options: &str| -> Option<Vec<(String, OriginClass)>> {
            let routers = network(&format!("shoal get x {options}")).dht_routers()?;
            let shown = routers.iter();
            Some(
                shown
                    .map(|router| (router.contact.to_string(), router.origin))
                    .collect(),
            )
        };
        let named = |text: &str| Some(vec![(text.to_owned(), OriginClass::User)]);
        let usual = DHT_ROUTERS.map(|text| (text.to_owned(), OriginClass::Dht));
        assert_eq!(routers(""), Some(usual.to_vec()));
        let help = get_help();
        assert!(DHT_ROUTERS.iter().all(|router| help.contains(router)));
        assert_eq!(
            routers("--dht-router dht.example:7"),
            named("dht.example:7")
        );
        for off in [
            "--no-dht",
            "--isolated",
            "--listen 127.0.0.1:0",
            "--isolated --dht-router 10.1.1.1:7",
            "--isolated --dht-router 10.1.1.1:7 --allow-net 10.2.0.0/16",
            "--isolated --dht-router dht.example:7 --allow-net 0.0.0.0/0",
            "--isolated --allow-net 10.1.0.0/16",
        ] {
            assert_eq!(routers(off), None, "{off}");
        }
        let allowed = "--isolated --dht-router 10.1.1.1:7 --allow-net 10.1.0.0/16";
        assert_eq!(routers(allowed), named("10.1.1.1:7"));
    }

    fn get_help() -> String {
        let mut definition = definition();
        let get = definition.find_subcommand_mut("get").unwrap();
        get.render_long_help().to_string()
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "shoal",
            "shoal create",
            "shoal create x --v1 --v2",
            "shoal create x --tracker nonsense",
            "shoal create x --web-seed ftp://host/",
            "shoal create x --piece-size many",
            "shoal show x --allow-net 127.0.0.0/8",
            "shoal show x --bind 127.0.0.1",
            "shoal get x --select 0",
            "shoal get x --select 3-1",
            "shoal get x --peer 127.0.0.1",
            "shoal get x --peer 127.0.0.1:0",
            "shoal get x --tracker wss://host/",
            "shoal get x --allow-net 10.0.0.0/33",
            "shoal get x --allow-net 10.0.0.1/8",
            "shoal get x --seed-ratio 1 --seed-time 1s",
            "shoal get x --dht-router dht.example",
            "shoal get x --dht-router dht.example:0",
            "shoal get x --no-dht --dht-router dht.example:1",
            "shoal seed x",
            "shoal check x",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
