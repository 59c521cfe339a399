//! Where peers and bytes can be asked for: trackers (BEP 3, 12), web seeds (BEP 19) and DHT nodes (BEP 5).
//!
//! Invariant: nothing in here is a reason to refuse a torrent. What cannot be used is left out with a warning.

use super::error::{UrlProblem, Warning};
use crate::bencode::Value;
use core::fmt;
use std::collections::BTreeSet;
use url::{Host, Url};

/// The most trackers kept of one torrent or magnet. The longest lists in circulation have some hundreds.
pub const MAX_TRACKERS: usize = 1000;

/// The most web seeds kept of one torrent or magnet.
pub const MAX_WEB_SEEDS: usize = 1000;

/// The most DHT nodes or peers kept of one torrent or magnet.
pub const MAX_CONTACTS: usize = 100;

/// The longest URL kept, in bytes. Servers refuse longer request lines.
pub const MAX_URL_BYTES: usize = 8 * 1024;

/// How a tracker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
    /// `udp` (BEP 15).
    Udp,
    /// `ws`, for browsers.
    Ws,
    /// `wss`, for browsers.
    Wss,
}

impl Scheme {
    /// Whether announces to such a tracker are implemented. The others are kept to be shown and passed on.
    #[must_use]
    pub const fn is_supported(self) -> bool {
        matches!(self, Scheme::Http | Scheme::Https | Scheme::Udp)
    }
}

/// The URL of a tracker, known to have a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerUrl {
    /// The URL as the torrent has it.
    pub url: String,
    /// Its scheme.
    pub scheme: Scheme,
}

impl TrackerUrl {
    /// Checks `text`, without the white space around it.
    ///
    /// # Errors
    /// Why it cannot be a tracker.
    pub fn parse(text: &str) -> Result<Self, UrlProblem> {
        let (text, url) = parse_url(text)?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "udp" => Scheme::Udp,
            "ws" => Scheme::Ws,
            "wss" => Scheme::Wss,
            _ => return Err(UrlProblem::Scheme),
        };
        has_host(&url)?;
        if scheme == Scheme::Udp && url.port().is_none() {
            return Err(UrlProblem::NoPort);
        }
        let url = text.to_owned();
        Ok(TrackerUrl { url, scheme })
    }
}

/// A host and a port: a DHT node of a torrent, or a peer of a magnet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// A host name or an address; IPv6 addresses without brackets.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

impl Contact {
    /// Checks a host and a port. Accepts IPv6 addresses with and without brackets.
    #[must_use]
    pub fn new(host: &str, port: i64) -> Option<Self> {
        let port = u16::try_from(port).ok().filter(|&port| port != 0)?;
        let host = match host.parse::<core::net::Ipv6Addr>() {
            Ok(address) => address.to_string(),
            Err(_) => match Host::parse(host).ok()? {
                Host::Ipv6(address) => address.to_string(),
                host => host.to_string(),
            },
        };
        Some(Contact { host, port })
    }

    /// Reads `host:port` or `[address]:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare_v6 = host.contains(':') && !host.starts_with('[');
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        (digits && !bare_v6).then(|| Contact::new(host, port.parse().ok()?))?
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Checks the URL of a web seed.
pub(crate) fn web_seed(text: &str) -> Result<String, UrlProblem> {
    let (text, url) = parse_url(text)?;
    match url.scheme() {
        "http" | "https" => has_host(&url).map(|()| text.to_owned()),
        _ => Err(UrlProblem::Scheme),
    }
}

fn parse_url(text: &str) -> Result<(&str, Url), UrlProblem> {
    let text = text.trim();
    if text.len() > MAX_URL_BYTES {
        return Err(UrlProblem::TooLong);
    }
    let url = Url::parse(text).map_err(|_| UrlProblem::Invalid)?;
    Ok((text, url))
}

/// To be asked after the scheme: a URL of another kind, such as a path on a disk, may be valid without one.
fn has_host(url: &Url) -> Result<(), UrlProblem> {
    match url.host_str() {
        None | Some("") => Err(UrlProblem::Invalid),
        Some(_) => Ok(()),
    }
}

/// Collects what can be used of a list of URLs, each once.
#[derive(Debug)]
pub(crate) struct Collector<'w, T> {
    field: &'static str,
    limit: usize,
    check: fn(&str) -> Result<T, UrlProblem>,
    seen: BTreeSet<String>,
    warnings: &'w mut Vec<Warning>,
}

impl<'w, T> Collector<'w, T> {
    pub(crate) fn new(
        field: &'static str,
        limit: usize,
        check: fn(&str) -> Result<T, UrlProblem>,
        warnings: &'w mut Vec<Warning>,
    ) -> Self {
        let seen = BTreeSet::new();
        Collector {
            field,
            limit,
            check,
            seen,
            warnings,
        }
    }

    /// What `text` stands for, if it is new and can be used. An empty one is nothing at all: some programs write it for
    /// "none". What exceeds the limit is not looked at, so that a hostile list makes at most `limit` warnings.
    pub(crate) fn take(&mut self, text: &str) -> Option<T> {
        let text = text.trim();
        if text.is_empty() || self.is_full() || !self.seen.insert(text.to_owned()) {
            return None;
        }
        if self.is_full() {
            self.warnings.push(Warning::TooMany {
                field: self.field,
                limit: self.limit,
            });
            return None;
        }
        match (self.check)(text) {
            Ok(good) => Some(good),
            Err(reason) => {
                let url = text.chars().take(200).collect();
                self.warnings.push(Warning::IgnoredUrl { url, reason });
                None
            }
        }
    }

    /// Whether an entry beyond the limit was seen.
    pub(crate) fn is_full(&self) -> bool {
        self.seen.len() > self.limit
    }
}

/// The trackers of a torrent in tiers: those of `announce-list`, or else `announce` (BEP 12).
pub(super) fn trackers(root: Value<'_>, warnings: &mut Vec<Warning>) -> Vec<Vec<TrackerUrl>> {
    let list = root.get("announce-list");
    let announce = root.get("announce");
    if list.is_some_and(|list| list.as_list().is_none()) {
        warnings.push(Warning::IgnoredField("announce-list"));
    }
    if announce.is_some_and(|url| url.as_bytes().is_none()) {
        warnings.push(Warning::IgnoredField("announce"));
    }
    let mut odd = false;
    let mut collector = Collector::new("announce-list", MAX_TRACKERS, TrackerUrl::parse, warnings);
    let mut tiers = Vec::new();
    for tier in list.and_then(|list| list.as_list()).into_iter().flatten() {
        if collector.is_full() {
            break;
        }
        // A list of bare URLs, which some programs write, is read as tiers of one.
        odd |= is_odd(tier);
        let good = texts(tier).filter_map(|url| collector.take(&text(url)));
        let good: Vec<_> = good.collect();
        if !good.is_empty() {
            tiers.push(good);
        }
    }
    if tiers.is_empty()
        && let Some(url) = announce.and_then(|url| url.as_bytes())
    {
        tiers.extend(collector.take(&text(url)).map(|url| vec![url]));
    }
    if odd {
        warnings.push(Warning::IgnoredEntries("announce-list"));
    }
    tiers
}

/// The web seeds of a torrent: `url-list` (BEP 19) or `httpseeds` (BEP 17), which is a string or a list of them.
pub(super) fn web_seeds(
    root: Value<'_>,
    field: &'static str,
    warnings: &mut Vec<Warning>,
) -> Vec<String> {
    let Some(list) = root.get(field) else {
        return Vec::new();
    };
    if is_odd(list) {
        warnings.push(match list.as_list() {
            Some(_) => Warning::IgnoredEntries(field),
            None => Warning::IgnoredField(field),
        });
    }
    let mut collector = Collector::new(field, MAX_WEB_SEEDS, web_seed, warnings);
    texts(list)
        .filter_map(|url| collector.take(&text(url)))
        .collect()
}

/// The strings of a value that is one or a list of them.
fn texts<'a>(value: Value<'a>) -> impl Iterator<Item = &'a [u8]> {
    let items = value.as_list().into_iter().flatten();
    let of_list = items.filter_map(|item| item.as_bytes());
    value.as_bytes().into_iter().chain(of_list)
}

/// Whether a value has something else than [`texts`] gives.
fn is_odd(value: Value<'_>) -> bool {
    match value.as_list() {
        Some(mut items) => items.any(|item| item.as_bytes().is_none()),
        None => value.as_bytes().is_none(),
    }
}

/// DHT nodes to begin with: `nodes`, a list of host and port.
pub(super) fn nodes(root: Value<'_>, warnings: &mut Vec<Warning>) -> Vec<Contact> {
    let Some(list) = root.get("nodes") else {
        return Vec::new();
    };
    let read = |node: Value<'_>| {
        let mut pair = node.as_list()?;
        let host = pair.next()?.as_str()?;
        Contact::new(host, pair.next()?.as_int()?)
    };
    let mut nodes = Vec::new();
    for node in list.as_list().into_iter().flatten() {
        if nodes.len() == MAX_CONTACTS {
            let (field, limit) = ("nodes", MAX_CONTACTS);
            warnings.push(Warning::TooMany { field, limit });
            break;
        }
        nodes.extend(read(node));
    }
    nodes
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
