//! The settings of a session: what each is called, how its value is read, and what holds where nothing was set.
//!
//! Invariant: a setting has one key, one default and one reader; what is not readable is not set.

use crate::message::{Assignment, Setting};
use crate::network::{self, NetworkSettings};
use crate::shape::{LAYOUTS, Layout};
use crate::values;
use shoal_session::queue::{self, ShareLimits, SlowRule};
use shoal_store::StopAt;
use std::collections::BTreeMap;
use std::path::Path;
use url::Url;

/// What holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// Whether new torrents have a folder of their own.
    pub(crate) layout: Layout,
    /// New torrents do not start by themselves.
    pub(crate) add_paused: bool,
    /// New torrents come before those that wait.
    pub(crate) add_top: bool,
    /// Of a torrent that is there already, trackers and web seeds are taken over.
    pub(crate) add_merge: bool,
    /// When new torrents stop by themselves.
    pub(crate) stop_at: Option<StopAt>,
    /// Announced to by each new torrent that is not private.
    pub(crate) add_trackers: Vec<String>,
    /// Address lists hold for trackers, too.
    pub(crate) filter_trackers: bool,
    /// Names that are never fetched: patterns.
    pub(crate) exclude: Vec<String>,
    /// What names of files end with until everything wanted is there; empty is nothing.
    pub(crate) incomplete_suffix: String,
    /// The room on the disk is reserved first.
    pub(crate) preallocate: bool,
    /// Everything is read again once it is there.
    pub(crate) recheck_when_complete: bool,
    /// Where data goes that is told no other folder.
    pub(crate) folder_data: Option<String>,
    /// Of how others are reached, from the next start on.
    pub(crate) network: NetworkSettings,
    /// Where it lies until everything wanted is there.
    pub(crate) folder_incomplete: Option<String>,
    /// What new torrents without a folder of their own take their folder from.
    pub(crate) follow: Follow,
    pub(crate) when_category_set: WhenMoved,
    pub(crate) when_category_moved: WhenMoved,
    pub(crate) when_session_moved: WhenMoved,
    queue_enabled: bool,
    downloads: Option<u32>,
    seeds: Option<u32>,
    torrents: Option<u32>,
    ignore_slow: bool,
    slow: SlowRule,
}

/// What new torrents without a folder of their own take their folder from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Follow {
    /// What their category, tags and the session say, also later.
    #[default]
    Always,
    /// What those say as they are added.
    Once,
    /// What the session says as they are added.
    Never,
}

/// What becomes of data where others say something else of its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenMoved {
    /// It goes there.
    Move,
    /// It stays, in a folder of its own from then on.
    Stay,
}

const FOLLOW: [(&str, Follow); 3] = [
    ("always", Follow::Always),
    ("once", Follow::Once),
    ("never", Follow::Never),
];

const WHEN_MOVED: [(&str, WhenMoved); 2] = [("move", WhenMoved::Move), ("stay", WhenMoved::Stay)];

impl Default for Settings {
    fn default() -> Self {
        let queue = queue::Settings::default();
        Settings {
            layout: Layout::Original,
            add_paused: false,
            add_top: false,
            add_merge: false,
            stop_at: None,
            add_trackers: Vec::new(),
            filter_trackers: false,
            exclude: Vec::new(),
            incomplete_suffix: String::new(),
            preallocate: false,
            recheck_when_complete: false,
            folder_data: None,
            network: NetworkSettings::default(),
            folder_incomplete: None,
            follow: Follow::Always,
            when_category_set: WhenMoved::Move,
            when_category_moved: WhenMoved::Stay,
            when_session_moved: WhenMoved::Stay,
            queue_enabled: true,
            downloads: queue.max_downloads,
            seeds: queue.max_seeds,
            torrents: queue.max_active,
            ignore_slow: true,
            slow: SlowRule::default(),
        }
    }
}

/// When new torrents stop by themselves.
pub(crate) const STOPS_AT: [(&str, Option<StopAt>); 3] = [
    ("metadata", Some(StopAt::Metadata)),
    ("checked", Some(StopAt::Checked)),
    ("none", None),
];

/// Trackers that a person adds to a torrent: more would be a burden on all of them.
const MAX_ADDED_TRACKERS: usize = 64;

/// One setting.
struct Key {
    name: &'static str,
    help: &'static str,
    read: fn(&mut Settings, &str) -> Result<(), String>,
    show: fn(&Settings) -> String,
    /// Its value is words, of which some can be added and taken.
    list: bool,
}

const fn key(
    name: &'static str,
    help: &'static str,
    read: fn(&mut Settings, &str) -> Result<(), String>,
    show: fn(&Settings) -> String,
) -> Key {
    Key {
        name,
        help,
        read,
        show,
        list: false,
    }
}

const KEYS: [Key; 47] = [
    key(
        "add.layout",
        "whether new torrents have a folder of their own: original, folder or none",
        |settings, text| put(&mut settings.layout, choice(text, &LAYOUTS)),
        |settings| word(settings.layout, &LAYOUTS),
    ),
    key(
        "add.merge",
        "of a torrent that is added and there already, trackers and web seeds are taken over, unless it is private: on or off",
        |settings, text| put(&mut settings.add_merge, values::parse_switch(text)),
        |settings| values::show_switch(settings.add_merge).to_owned(),
    ),
    key(
        "add.paused",
        "new torrents wait until they are told to go on: on or off",
        |settings, text| put(&mut settings.add_paused, values::parse_switch(text)),
        |settings| values::show_switch(settings.add_paused).to_owned(),
    ),
    key(
        "add.stop_at",
        "new torrents stop as if they were paused: when it is known what their link means (metadata), or what of them is there (checked), or never (none)",
        |settings, text| put(&mut settings.stop_at, choice(text, &STOPS_AT)),
        |settings| word(settings.stop_at, &STOPS_AT),
    ),
    key(
        "add.top",
        "new torrents come before those that wait: on or off",
        |settings, text| put(&mut settings.add_top, values::parse_switch(text)),
        |settings| values::show_switch(settings.add_top).to_owned(),
    ),
    Key {
        name: "add.trackers",
        help: "announced to by every new torrent that is not private: URLs",
        read: |settings, text| put(&mut settings.add_trackers, trackers(text)),
        show: |settings| settings.add_trackers.join(" "),
        list: true,
    },
    key(
        "announce.address",
        "another address than the one where trackers see us, which some of them believe: an address, or seen; holds from the next start",
        |settings, text| {
            let address = &mut settings.network.announces.address;
            put(address, network::parse_announced_address(text))
        },
        |settings| network::show_announced_address(settings.network.announces.address),
    ),
    key(
        "announce.port",
        "another port for trackers than ours, or the one that the router passes on: a port, or ours; holds from the next start",
        |settings, text| {
            let port = &mut settings.network.announces.port;
            put(port, network::parse_announced_port(text))
        },
        |settings| network::show_announced_port(settings.network.announces.port),
    ),
    key(
        "announce.tiers",
        "which tiers of trackers hear of a torrent: all at once, or one, the first that answers; holds from the next start",
        |settings, text| {
            let all = &mut settings.network.announces.all_tiers;
            put(all, network::parse_at_once(text))
        },
        |settings| network::show_at_once(settings.network.announces.all_tiers),
    ),
    key(
        "announce.trackers",
        "which trackers of a tier hear of a torrent: all at once, or one, the first that answers; holds from the next start",
        |settings, text| {
            let all = &mut settings.network.announces.all_trackers;
            put(all, network::parse_at_once(text))
        },
        |settings| network::show_at_once(settings.network.announces.all_trackers),
    ),
    Key {
        name: "content.exclude",
        help: "names of files and folders that new torrents do not fetch where nobody selects files: patterns like *.exe",
        read: |settings, text| put(&mut settings.exclude, patterns(text)),
        show: |settings| settings.exclude.join(" "),
        list: true,
    },
    key(
        "content.incomplete_suffix",
        "what names of files of new torrents end with until everything wanted is there, such as .part; empty is nothing",
        |settings, text| put(&mut settings.incomplete_suffix, suffix(text)),
        |settings| settings.incomplete_suffix.clone(),
    ),
    key(
        "content.preallocate",
        "the room on the disk is reserved first: on or off",
        |settings, text| put(&mut settings.preallocate, values::parse_switch(text)),
        |settings| values::show_switch(settings.preallocate).to_owned(),
    ),
    key(
        "content.recheck_when_complete",
        "everything is read again once it is there: on or off",
        |settings, text| {
            put(
                &mut settings.recheck_when_complete,
                values::parse_switch(text),
            )
        },
        |settings| values::show_switch(settings.recheck_when_complete).to_owned(),
    ),
    key(
        "dht.enabled",
        "peers of torrents that are not private come from the DHT, too: on or off; holds from the next start",
        |settings, text| put(&mut settings.network.dht, values::parse_switch(text)),
        |settings| values::show_switch(settings.network.dht).to_owned(),
    ),
    Key {
        name: "dht.routers",
        help: "asked for the first contacts of the DHT: HOST:PORT; nobody named means the usual ones; holds from the next start",
        read: |settings, text| {
            let routers = &mut settings.network.dht_routers;
            put(routers, network::parse_routers(text))
        },
        show: |settings| network::show_routers(&settings.network.dht_routers),
        list: true,
    },
    key(
        "disk.cache",
        "memory for blocks on their way to the disk: a size from 4MiB to 16GiB; holds from the next start",
        |settings, text| {
            let cache = &mut settings.network.disk.cache_bytes;
            put(cache, network::parse_cache(text))
        },
        |settings| values::show_size(settings.network.disk.cache_bytes as u64),
    ),
    key(
        "disk.open_files",
        "files that are held open at a time: a number from 16 to 500000; holds from the next start",
        |settings, text| {
            let files = &mut settings.network.disk.open_files;
            put(files, network::parse_open_files(text))
        },
        |settings| settings.network.disk.open_files.to_string(),
    ),
    key(
        "disk.threads",
        "threads that hash, read and write: a number from 1 to 256, or auto, which is one for each core; holds from the next start",
        |settings, text| {
            let threads = &mut settings.network.disk.threads;
            put(threads, network::parse_threads(text))
        },
        |settings| network::show_threads(settings.network.disk.threads),
    ),
    key(
        "filter.trackers",
        "address lists hold for trackers too: on or off",
        |settings, text| put(&mut settings.filter_trackers, values::parse_switch(text)),
        |settings| values::show_switch(settings.filter_trackers).to_owned(),
    ),
    key(
        "folder.data",
        "where data goes that is told no other folder: an absolute path; empty is the folder that `shoal add` is called in",
        |settings, text| put(&mut settings.folder_data, folder(text)),
        |settings| settings.folder_data.clone().unwrap_or_default(),
    ),
    key(
        "folder.follow",
        "a new torrent without a folder of its own takes that of its category, tags or the session: always, also when they change, once, or never, but for folder.data",
        |settings, text| put(&mut settings.follow, choice(text, &FOLLOW)),
        |settings| word(settings.follow, &FOLLOW),
    ),
    key(
        "folder.incomplete",
        "where data lies until everything wanted is there: an absolute path; empty is where it lies then",
        |settings, text| put(&mut settings.folder_incomplete, folder(text)),
        |settings| settings.folder_incomplete.clone().unwrap_or_default(),
    ),
    key(
        "folder.when_category_moved",
        "when a category or tag gets another folder, its torrents without one of their own: move or stay",
        |settings, text| put(&mut settings.when_category_moved, choice(text, &WHEN_MOVED)),
        |settings| word(settings.when_category_moved, &WHEN_MOVED),
    ),
    key(
        "folder.when_category_set",
        "when a torrent without a folder of its own gets another category or tag with a folder: move or stay",
        |settings, text| put(&mut settings.when_category_set, choice(text, &WHEN_MOVED)),
        |settings| word(settings.when_category_set, &WHEN_MOVED),
    ),
    key(
        "folder.when_session_moved",
        "when folder.data or folder.incomplete change, torrents that lie there: move or stay",
        |settings, text| put(&mut settings.when_session_moved, choice(text, &WHEN_MOVED)),
        |settings| word(settings.when_session_moved, &WHEN_MOVED),
    ),
    key(
        "listen.port",
        "where peers connect: a port, any that is free, or usual, which is the first free one of 6881 to 6889; holds from the next start",
        |settings, text| put(&mut settings.network.port, network::parse_port(text)),
        |settings| network::show_port(settings.network.port),
    ),
    key(
        "listen.port_mapping",
        "the router is asked to let peers in: on or off; holds from the next start",
        |settings, text| {
            let mapping = &mut settings.network.port_mapping;
            put(mapping, values::parse_switch(text))
        },
        |settings| values::show_switch(settings.network.port_mapping).to_owned(),
    ),
    key(
        "peers.anonymous",
        "nobody is told which program this is; trackers that let in known programs only refuse it: on or off; holds from the next start",
        |settings, text| {
            let anonymous = &mut settings.network.anonymous;
            put(anonymous, values::parse_switch(text))
        },
        |settings| values::show_switch(settings.network.anonymous).to_owned(),
    ),
    key(
        "peers.dial_when_seeding",
        "torrents that are complete dial: on, or off, where they wait to be dialled; holds from the next start",
        |settings, text| {
            let dials = &mut settings.network.peer_rules.dials_when_complete;
            put(dials, values::parse_switch(text))
        },
        |settings| {
            let dials = settings.network.peer_rules.dials_when_complete;
            values::show_switch(dials).to_owned()
        },
    ),
    key(
        "peers.dials",
        "so many peers are dialled at a time: a number from 1 to 1000; holds from the next start",
        |settings, text| put(&mut settings.network.dials, network::parse_dials(text)),
        |settings| settings.network.dials.to_string(),
    ),
    key(
        "peers.dscp",
        "the class of service of all that goes to peers, which routers may heed: a code point from 0 to 63, such as 8 (CS1), which is behind all else; holds from the next start",
        |settings, text| {
            let dscp = &mut settings.network.departure.dscp;
            put(dscp, network::parse_dscp(text))
        },
        |settings| settings.network.departure.dscp.to_string(),
    ),
    key(
        "peers.encryption",
        "whether connections to peers are disguised: disabled, enabled or forced; holds from the next start",
        |settings, text| {
            let policy = &mut settings.network.encryption;
            put(policy, network::parse_encryption(text))
        },
        |settings| network::show_encryption(settings.network.encryption),
    ),
    key(
        "peers.exchange",
        "peers of torrents that are not private tell of each other: on or off; holds from the next start",
        |settings, text| {
            let exchange = &mut settings.network.sources.exchange;
            put(exchange, values::parse_switch(text))
        },
        |settings| values::show_switch(settings.network.sources.exchange).to_owned(),
    ),
    key(
        "peers.from_ports",
        "where TCP connections to peers begin: ports such as 50000-50100, or any; uTP has listen.port; holds from the next start",
        |settings, text| {
            let ports = &mut settings.network.departure.from_ports;
            put(ports, network::parse_ports(text))
        },
        |settings| network::show_ports(settings.network.departure.from_ports.as_ref()),
    ),
    key(
        "peers.local",
        "peers are looked for on the local network, too: on or off; holds from the next start",
        |settings, text| {
            let local = &mut settings.network.sources.local;
            put(local, values::parse_switch(text))
        },
        |settings| values::show_switch(settings.network.sources.local).to_owned(),
    ),
    key(
        "peers.same_address",
        "how many peers of a torrent may have one address: one or several; holds from the next start",
        |settings, text| {
            let one = &mut settings.network.peer_rules.one_per_address;
            put(one, network::parse_same_address(text))
        },
        |settings| network::show_same_address(settings.network.peer_rules.one_per_address),
    ),
    key(
        "peers.system_ports",
        "whoever others name at a port below 1024 is dialled: on or off; holds from the next start",
        |settings, text| {
            let ports = &mut settings.network.peer_rules.system_ports;
            put(ports, values::parse_switch(text))
        },
        |settings| values::show_switch(settings.network.peer_rules.system_ports).to_owned(),
    ),
    key(
        "peers.transport",
        "over what peers are spoken to: both, tcp or utp; holds from the next start",
        |settings, text| {
            let transports = &mut settings.network.transports;
            put(transports, network::parse_transports(text))
        },
        |settings| network::show_transports(settings.network.transports),
    ),
    key(
        "queue.downloads",
        "downloads that run at a time: a number or all",
        |settings, text| put(&mut settings.downloads, values::parse_most(text)),
        |settings| values::show_most(settings.downloads),
    ),
    key(
        "queue.enabled",
        "torrents wait for each other: on or off",
        |settings, text| put(&mut settings.queue_enabled, values::parse_switch(text)),
        |settings| values::show_switch(settings.queue_enabled).to_owned(),
    ),
    key(
        "queue.ignore_slow",
        "torrents of which hardly a byte moves do not count: on or off",
        |settings, text| put(&mut settings.ignore_slow, values::parse_switch(text)),
        |settings| values::show_switch(settings.ignore_slow).to_owned(),
    ),
    key(
        "queue.seeds",
        "seeds that run at a time, in turn: a number or all",
        |settings, text| put(&mut settings.seeds, values::parse_most(text)),
        |settings| values::show_most(settings.seeds),
    ),
    key(
        "queue.slow_after",
        "for so long a torrent counts whatever moves: a time like 60s",
        |settings, text| put(&mut settings.slow.after, values::parse_time(text)),
        |settings| values::show_time(settings.slow.after),
    ),
    key(
        "queue.slow_down",
        "a download below this rate is slow: a rate like 2KiB",
        |settings, text| {
            let rate = &mut settings.slow.download_bytes_per_s;
            put(rate, values::parse_size(text))
        },
        |settings| values::show_size(settings.slow.download_bytes_per_s),
    ),
    key(
        "queue.slow_up",
        "a seed below this rate is slow: a rate like 2KiB",
        |settings, text| {
            let rate = &mut settings.slow.upload_bytes_per_s;
            put(rate, values::parse_size(text))
        },
        |settings| values::show_size(settings.slow.upload_bytes_per_s),
    ),
    key(
        "queue.torrents",
        "downloads and seeds that run at a time together: a number or all",
        |settings, text| put(&mut settings.torrents, values::parse_most(text)),
        |settings| values::show_most(settings.torrents),
    ),
];

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// Patterns of names: more would be a burden on each torrent with many files.
const MAX_PATTERNS: usize = 256;

/// In a pattern or suffix: no name is longer.
const MAX_NAME_BYTES: usize = 255;

/// What names end with: what is left of a name of the greatest length is still one.
const MAX_SUFFIX_BYTES: usize = 16;

fn patterns(text: &str) -> Result<Vec<String>, String> {
    let patterns: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if patterns.len() > MAX_PATTERNS {
        return Err(format!("{MAX_PATTERNS} patterns are the most"));
    }
    let wrong = |pattern: &&String| pattern.len() > MAX_NAME_BYTES || pattern.contains('/');
    match patterns.iter().find(wrong) {
        Some(pattern) => Err(format!("{pattern:?} fits no name; write one like *.exe")),
        None => Ok(patterns),
    }
}

fn suffix(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '!' | '-' | '_');
    let ends = text.ends_with(|c: char| c != '.');
    let sound = text.is_empty() || text.starts_with('.') && ends && text.chars().all(plain);
    match sound && text.len() <= MAX_SUFFIX_BYTES {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "write something like .part, of {MAX_SUFFIX_BYTES} characters at the most"
        )),
    }
}

pub(crate) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == text);
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let what = || format!("write one of {}", words.join(", "));
    found.map(|(_, value)| *value).ok_or_else(what)
}

pub(crate) fn word<T: Copy + PartialEq>(value: T, choices: &[(&str, T)]) -> String {
    let found = choices.iter().find(|(_, known)| *known == value);
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

pub(crate) fn trackers(text: &str) -> Result<Vec<String>, String> {
    let urls: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if urls.len() > MAX_ADDED_TRACKERS {
        return Err(format!("{MAX_ADDED_TRACKERS} trackers are the most"));
    }
    for url in &urls {
        let scheme = Url::parse(url).map(|url| url.scheme().to_owned());
        if !matches!(scheme.as_deref(), Ok("http" | "https" | "udp")) {
            return Err(format!(
                "{url:?} is no tracker; write a URL like https://tracker.example/announce"
            ));
        }
    }
    Ok(urls)
}

fn folder(text: &str) -> Result<Option<String>, String> {
    match text {
        "" => Ok(None),
        text if Path::new(text).is_absolute() => Ok(Some(text.to_owned())),
        text => Err(format!(
            "write {text:?} from the root, as the node has a current folder of its own"
        )),
    }
}

fn find(name: &str) -> Result<&'static Key, String> {
    let key = KEYS.iter().find(|key| key.name == name);
    key.ok_or_else(|| format!("there is no setting {name:?}; `shoal settings` shows all"))
}

impl Settings {
    /// From what is stored. What cannot be read (an older program wrote it) is as if it had not been set, and is told of.
    pub(crate) fn from_stored(stored: &BTreeMap<String, String>) -> Settings {
        let mut settings = Settings::default();
        for (name, text) in stored {
            let read = find(name).and_then(|key| (key.read)(&mut settings, text));
            if let Err(error) = read {
                tracing::warn!(setting = %name, %error, "a setting is not what it was set to");
            }
        }
        settings
    }

    /// All of these, or none. Gives what is to be stored: no value where a setting is as if it had never been set.
    pub(crate) fn assign(
        &mut self,
        assignments: &[Assignment],
    ) -> Result<Vec<(String, Option<String>)>, String> {
        let mut settings = self.clone();
        let mut stored = Vec::new();
        for assignment in assignments {
            let (name, text) = settings.value(assignment)?;
            let key = find(name)?;
            let read = match &text {
                Some(text) => (key.read)(&mut settings, text),
                None => (key.read)(&mut settings, &(key.show)(&Settings::default())),
            };
            read.map_err(|error| format!("{name}: {error}"))?;
            stored.push((name.to_owned(), text.map(|_| (key.show)(&settings))));
        }
        *self = settings;
        Ok(stored)
    }

    fn value<'a>(&self, assignment: &'a Assignment) -> Result<(&'a str, Option<String>), String> {
        Ok(match assignment {
            Assignment::Set { key, value } => (key, Some(value.clone())),
            Assignment::Reset { key } => (key, None),
            Assignment::Insert { key, value } => {
                let mut words = self.words(key)?;
                if !words.contains(value) {
                    words.push(value.clone());
                }
                (key, Some(words.join(" ")))
            }
            Assignment::Take { key, value } => {
                let mut words = self.words(key)?;
                if !words.contains(value) {
                    return Err(format!("{key} has no {value:?}"));
                }
                words.retain(|word| word != value);
                (key, Some(words.join(" ")))
            }
        })
    }

    fn words(&self, name: &str) -> Result<Vec<String>, String> {
        let key = find(name)?;
        if !key.list {
            return Err(format!(
                "{name} is one value, and no list; write {name}=VALUE"
            ));
        }
        let text = (key.show)(self);
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// All of them, by key.
    pub(crate) fn shown(&self) -> Vec<Setting> {
        let default = Settings::default();
        let setting = |key: &Key| Setting {
            key: key.name.to_owned(),
            value: (key.show)(self),
            default: (key.show)(&default),
            help: key.help.to_owned(),
        };
        KEYS.iter().map(setting).collect()
    }

    /// What the queue is to know.
    pub(crate) fn queue(&self, share: ShareLimits) -> queue::Settings {
        let most = |most: Option<u32>| most.filter(|_| self.queue_enabled);
        queue::Settings {
            max_downloads: most(self.downloads),
            max_seeds: most(self.seeds),
            max_active: most(self.torrents),
            slow: self.ignore_slow.then_some(self.slow),
            share,
            ..queue::Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> Assignment {
        Assignment::Set {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn every_key_stands_once_in_order_and_reads_what_it_shows() {
        assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
        for key in &KEYS {
            let mut settings = Settings::default();
            let text = (key.show)(&settings);
            (key.read)(&mut settings, &text).unwrap();
            assert_eq!(settings, Settings::default(), "{}", key.name);
        }
    }

    #[test]
    fn all_are_set_or_none() {
        let mut settings = Settings::default();
        let wrong = [set("queue.downloads", "7"), set("queue.seeds", "many")];
        let refused = settings.assign(&wrong).unwrap_err();
        assert!(
            refused.contains("queue.seeds") && refused.contains("all"),
            "{refused}"
        );
        assert_eq!(settings, Settings::default());
        let right = [set("queue.downloads", "7"), set("queue.slow_after", "120")];
        let stored = settings.assign(&right).unwrap();
        let seven = ("queue.downloads".to_owned(), Some("7".to_owned()));
        let after = ("queue.slow_after".to_owned(), Some("2m".to_owned()));
        assert_eq!(stored, [seven.clone(), after]);
        assert_eq!(
            settings.queue(ShareLimits::default()).max_downloads,
            Some(7)
        );
        let stored = BTreeMap::from([
            (seven.0, "7".to_owned()),
            ("gone".to_owned(), String::new()),
        ]);
        assert_eq!(Settings::from_stored(&stored).downloads, Some(7));
        let reset = [Assignment::Reset {
            key: "queue.downloads".to_owned(),
        }];
        assert_eq!(
            settings.assign(&reset).unwrap(),
            [("queue.downloads".to_owned(), None)]
        );
        assert_eq!(
            settings.queue(ShareLimits::default()).max_downloads,
            Some(3)
        );
        assert!(
            settings
                .assign(&[set("queue.dwonloads", "7")])
                .unwrap_err()
                .contains("no setting")
        );
    }

    #[test]
    fn words_are_added_to_a_list_and_taken() {
        let mut settings = Settings::default();
        let (key, value) = ("add.trackers".to_owned(), "udp://a.example:1/".to_owned());
        let add = Assignment::Insert {
            key: key.clone(),
            value: value.clone(),
        };
        settings.assign(&[add.clone(), add]).unwrap();
        assert_eq!(settings.add_trackers, std::slice::from_ref(&value));
        let take = [Assignment::Take { key, value }];
        settings.assign(&take).unwrap();
        assert!(settings.add_trackers.is_empty());
        assert!(settings.assign(&take).is_err());
        assert!(settings.assign(&[set("add.trackers", "nonsense")]).is_err());
        let scalar = Assignment::Insert {
            key: "queue.seeds".to_owned(),
            value: "1".to_owned(),
        };
        assert!(settings.assign(&[scalar]).unwrap_err().contains("no list"));
    }

    #[test]
    fn without_a_queue_nobody_waits() {
        let mut settings = Settings::default();
        settings
            .assign(&[set("queue.enabled", "off"), set("queue.ignore_slow", "off")])
            .unwrap();
        let queue = settings.queue(ShareLimits::default());
        assert_eq!(
            (queue.max_downloads, queue.max_seeds, queue.slow),
            (None, None, None)
        );
    }
}
