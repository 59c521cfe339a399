//! What is set of how a node reaches others, and of what its disks get: it holds from its next start on.
//!
//! Invariant: what is shown here is read back as the same.

use crate::settings::Settings;
use crate::values;
use shoal_engine::{
    AnnounceRules, EncryptionPolicy, PeerRules, PeerSources, PeerTransports, SessionSettings,
};
use shoal_metainfo::metainfo::Contact;
use shoal_storage::StorageConfig;
use shoal_store::{Database, StoreError};
use shoal_transport::{Departure, MAX_DSCP};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// More hosts than anybody asks for a first contact.
const MAX_ROUTERS: usize = 16;

const ENCRYPTION: [(&str, EncryptionPolicy); 3] = [
    ("disabled", EncryptionPolicy::Disabled),
    ("enabled", EncryptionPolicy::Enabled),
    ("forced", EncryptionPolicy::Forced),
];

const TRANSPORTS: [(&str, PeerTransports); 3] = [
    ("both", PeerTransports::Both),
    ("tcp", PeerTransports::Tcp),
    ("utp", PeerTransports::Utp),
];

/// Words for ports that are not said by number.
const USUAL: &str = "usual";
const ANY: &str = "any";

/// As many threads as there are cores.
const AUTO: &str = "auto";

/// Where peers connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenPort {
    /// At the first free one of those that BitTorrent clients have always used.
    #[default]
    Usual,
    /// At any that is free.
    Any,
    /// At this one, or not at all.
    This(u16),
}

/// Memory for blocks on their way to the disk: less stalls connections all the time, and more helps nobody.
const CACHE_BYTES: RangeInclusive<u64> = 4 << 20..=16 << 30;

/// Descriptors are shared with connections.
const OPEN_FILES: RangeInclusive<u64> = 16..=500_000;

/// More threads than disks and cores have work for.
const MAX_THREADS: u64 = 256;

/// What storage gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSettings {
    /// The most bytes that received blocks take in memory.
    pub cache_bytes: usize,
    /// The most files that are held open.
    pub open_files: usize,
    /// Threads that hash, read and write; 0 is one for each core.
    pub threads: usize,
}

impl Default for DiskSettings {
    fn default() -> Self {
        let usual = StorageConfig::default();
        DiskSettings {
            cache_bytes: usual.cache_bytes,
            open_files: usual.max_open_files,
            threads: usual.threads,
        }
    }
}

impl DiskSettings {
    /// What storage is started with.
    #[must_use]
    pub fn config(&self) -> StorageConfig {
        StorageConfig {
            threads: self.threads,
            cache_bytes: self.cache_bytes,
            max_open_files: self.open_files,
            ..StorageConfig::default()
        }
    }
}

/// How a node reaches others, where its command line does not say otherwise, and what its disks get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// It takes part in the DHT.
    pub dht: bool,
    /// Whom it asks for the first contacts there; the usual ones where nobody is named.
    pub dht_routers: Vec<Contact>,
    /// Where peers connect.
    pub port: ListenPort,
    /// The router is asked to let them in.
    pub port_mapping: bool,
    /// Nobody is told which program we are.
    pub anonymous: bool,
    /// When connections are encrypted.
    pub encryption: EncryptionPolicy,
    /// By what else peers are found.
    pub sources: PeerSources,
    /// Over what peers are spoken to.
    pub transports: PeerTransports,
    /// From which ports and in which class packets to peers leave.
    pub departure: Departure,
    /// Whom torrents dial and let in.
    pub peer_rules: PeerRules,
    /// So many are dialled at a time.
    pub dials: u32,
    /// Which trackers are announced to, and as what.
    pub announces: AnnounceRules,
    /// What its disks get.
    pub disk: DiskSettings,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        NetworkSettings {
            dht: true,
            dht_routers: Vec::new(),
            port: ListenPort::default(),
            port_mapping: true,
            anonymous: false,
            encryption: EncryptionPolicy::default(),
            sources: PeerSources::default(),
            transports: PeerTransports::default(),
            departure: Departure::default(),
            peer_rules: PeerRules::default(),
            dials: SessionSettings::default().max_half_open,
            announces: AnnounceRules::default(),
            disk: DiskSettings::default(),
        }
    }
}

impl NetworkSettings {
    /// What is stored.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn read(database: &Database) -> Result<Self, StoreError> {
        let stored = database.settings().await?;
        Ok(Settings::from_stored(&stored).network)
    }
}

pub(crate) fn parse_port(text: &str) -> Result<ListenPort, String> {
    match text {
        USUAL => Ok(ListenPort::Usual),
        ANY => Ok(ListenPort::Any),
        number => {
            let port = number.parse().ok().filter(|&port| port != 0);
            let port = port.map(ListenPort::This);
            port.ok_or_else(|| format!("write a port like 51413, `{ANY}` or `{USUAL}`"))
        }
    }
}

pub(crate) fn show_port(port: ListenPort) -> String {
    match port {
        ListenPort::Usual => USUAL.to_owned(),
        ListenPort::Any => ANY.to_owned(),
        ListenPort::This(port) => port.to_string(),
    }
}

/// `any`, a port, or the first and the last of a range.
pub(crate) fn parse_ports(text: &str) -> Result<Option<RangeInclusive<u16>>, String> {
    if text == ANY {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse().ok().filter(|&port: &u16| port != 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Some(first..=last)),
        _ => Err(format!("write ports like 50000-50100, or `{ANY}`")),
    }
}

pub(crate) fn show_ports(ports: Option<&RangeInclusive<u16>>) -> String {
    match ports {
        None => ANY.to_owned(),
        Some(ports) if ports.start() == ports.end() => ports.start().to_string(),
        Some(ports) => format!("{}-{}", ports.start(), ports.end()),
    }
}

/// Connections that are being opened: home routers fall over when too many are.
const MAX_DIALS: u32 = 1_000;

pub(crate) fn parse_dials(text: &str) -> Result<u32, String> {
    let dials = text
        .parse()
        .ok()
        .filter(|dials| (1..=MAX_DIALS).contains(dials));
    dials.ok_or_else(|| format!("write a number from 1 to {MAX_DIALS}"))
}

const SAME_ADDRESS: [(&str, bool); 2] = [("one", true), ("several", false)];

pub(crate) fn parse_same_address(text: &str) -> Result<bool, String> {
    choice(text, &SAME_ADDRESS)
}

pub(crate) fn show_same_address(one: bool) -> String {
    word(one, &SAME_ADDRESS)
}

const AT_ONCE: [(&str, bool); 2] = [("all", true), ("one", false)];

pub(crate) fn parse_at_once(text: &str) -> Result<bool, String> {
    choice(text, &AT_ONCE)
}

pub(crate) fn show_at_once(all: bool) -> String {
    word(all, &AT_ONCE)
}

/// What trackers see, and nothing else is said.
const SEEN: &str = "seen";

pub(crate) fn parse_announced_address(text: &str) -> Result<Option<IpAddr>, String> {
    match text {
        SEEN => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| format!("write an address like 192.0.2.1, or `{SEEN}`")),
    }
}

pub(crate) fn show_announced_address(address: Option<IpAddr>) -> String {
    address.map_or_else(|| SEEN.to_owned(), |address| address.to_string())
}

/// The port where peers connect, or that the router passes on.
const OURS: &str = "ours";

pub(crate) fn parse_announced_port(text: &str) -> Result<Option<u16>, String> {
    match text {
        OURS => Ok(None),
        text => {
            let port = text.parse().ok().filter(|&port| port != 0);
            port.map(Some)
                .ok_or_else(|| format!("write a port like 51413, or `{OURS}`"))
        }
    }
}

pub(crate) fn show_announced_port(port: Option<u16>) -> String {
    port.map_or_else(|| OURS.to_owned(), |port| port.to_string())
}

pub(crate) fn parse_dscp(text: &str) -> Result<u8, String> {
    let number = text.parse().ok().filter(|&number| number <= MAX_DSCP);
    number.ok_or_else(|| format!("write a code point from 0 to {MAX_DSCP}, such as 8"))
}

pub(crate) fn parse_cache(text: &str) -> Result<usize, String> {
    let bytes = values::parse_size(text)?;
    let bytes = usize::try_from(bytes)
        .ok()
        .filter(|_| CACHE_BYTES.contains(&bytes));
    bytes.ok_or_else(|| "write a size from 4MiB to 16GiB".to_owned())
}

pub(crate) fn parse_open_files(text: &str) -> Result<usize, String> {
    let files = text.parse().ok().filter(|files| OPEN_FILES.contains(files));
    let files = files.and_then(|files| usize::try_from(files).ok());
    let (least, most) = (OPEN_FILES.start(), OPEN_FILES.end());
    files.ok_or_else(|| format!("write a number from {least} to {most}"))
}

pub(crate) fn parse_threads(text: &str) -> Result<usize, String> {
    if text == AUTO {
        return Ok(0);
    }
    let threads = text
        .parse()
        .ok()
        .filter(|threads| (1..=MAX_THREADS).contains(threads));
    let threads = threads.and_then(|threads| usize::try_from(threads).ok());
    threads.ok_or_else(|| format!("write a number from 1 to {MAX_THREADS}, or `{AUTO}`"))
}

pub(crate) fn show_threads(threads: usize) -> String {
    match threads {
        0 => AUTO.to_owned(),
        threads => threads.to_string(),
    }
}

pub(crate) fn parse_routers(text: &str) -> Result<Vec<Contact>, String> {
    let routers = text.split_whitespace().map(|word| {
        let what =
            || format!("{word:?} is no router; write a name and a port like dht.example:6881");
        Contact::parse(word).ok_or_else(what)
    });
    let routers: Vec<Contact> = routers.collect::<Result<_, _>>()?;
    match routers.len() > MAX_ROUTERS {
        true => Err(format!("{MAX_ROUTERS} routers are the most")),
        false => Ok(routers),
    }
}

pub(crate) fn show_routers(routers: &[Contact]) -> String {
    let words: Vec<String> = routers.iter().map(ToString::to_string).collect();
    words.join(" ")
}

pub(crate) fn parse_encryption(text: &str) -> Result<EncryptionPolicy, String> {
    choice(text, &ENCRYPTION)
}

pub(crate) fn show_encryption(policy: EncryptionPolicy) -> String {
    word(policy, &ENCRYPTION)
}

pub(crate) fn parse_transports(text: &str) -> Result<PeerTransports, String> {
    choice(text, &TRANSPORTS)
}

pub(crate) fn show_transports(transports: PeerTransports) -> String {
    word(transports, &TRANSPORTS)
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == text);
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let what = || format!("write one of {}", words.join(", "));
    found.map(|(_, value)| *value).ok_or_else(what)
}

fn word<T: Copy + PartialEq>(value: T, choices: &[(&str, T)]) -> String {
    let found = choices.iter().find(|(_, known)| *known == value);
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back_and_nonsense_is_refused_with_what_to_write() {
        for (_, policy) in ENCRYPTION {
            assert_eq!(parse_encryption(&show_encryption(policy)), Ok(policy));
        }
        for (_, transports) in TRANSPORTS {
            assert_eq!(
                parse_transports(&show_transports(transports)),
                Ok(transports)
            );
        }
        for port in [ListenPort::Usual, ListenPort::Any, ListenPort::This(65_535)] {
            assert_eq!(parse_port(&show_port(port)), Ok(port));
        }
        for (text, address) in [("seen", None), ("192.0.2.1", Some([192, 0, 2, 1].into()))] {
            assert_eq!(parse_announced_address(text), Ok(address));
            assert_eq!(show_announced_address(address), text);
        }
        for (text, port) in [("ours", None), ("7", Some(7))] {
            assert_eq!(parse_announced_port(text), Ok(port));
            assert_eq!(show_announced_port(port), text);
        }
        for one in [true, false] {
            assert_eq!(parse_same_address(&show_same_address(one)), Ok(one));
            assert_eq!(parse_at_once(&show_at_once(one)), Ok(one));
        }
        for wrong in [
            parse_announced_address("here").unwrap_err(),
            parse_announced_port("0").unwrap_err(),
            parse_same_address("two").unwrap_err(),
            parse_at_once("none").unwrap_err(),
            parse_dials("0").unwrap_err(),
        ] {
            assert!(wrong.contains("write"), "{wrong}");
        }
        for ports in [None, Some(7..=7), Some(50_000..=50_100)] {
            assert_eq!(parse_ports(&show_ports(ports.as_ref())), Ok(ports));
        }
        for threads in [0, 1, 8] {
            assert_eq!(parse_threads(&show_threads(threads)), Ok(threads));
        }
        assert_eq!(parse_cache("256MiB"), Ok(256 << 20));
        assert_eq!(
            (parse_dscp("63"), parse_open_files("512")),
            (Ok(63), Ok(512))
        );
        for wrong in ["", "0", "9-8", "1-65536", "1-2-3"] {
            assert!(
                parse_ports(wrong).unwrap_err().contains("50000-50100"),
                "{wrong}"
            );
        }
        for (refused, words) in [
            (parse_dscp("64").unwrap_err(), "63"),
            (parse_cache("1MiB").unwrap_err(), "4MiB"),
            (parse_cache("1TiB").unwrap_err(), "65536"),
            (parse_cache("32GiB").unwrap_err(), "16GiB"),
            (parse_open_files("8").unwrap_err(), "16"),
            (parse_threads("0").unwrap_err(), "auto"),
            (parse_threads("257").unwrap_err(), "256"),
        ] {
            assert!(refused.contains(words), "{refused}");
        }
        let routers = parse_routers("dht.example:1 192.0.2.1:6881").unwrap();
        assert_eq!(parse_routers(&show_routers(&routers)).unwrap(), routers);
        for wrong in ["0", "65536", "-1", "", "many"] {
            assert!(parse_port(wrong).unwrap_err().contains("51413"), "{wrong}");
        }
        assert!(parse_encryption("yes").unwrap_err().contains("forced"));
        assert!(parse_transports("quic").unwrap_err().contains("utp"));
        assert!(
            parse_routers("dht.example")
                .unwrap_err()
                .contains("dht.example:6881")
        );
        assert!(parse_routers(&"a:1 ".repeat(MAX_ROUTERS + 1)).is_err());
    }
}
