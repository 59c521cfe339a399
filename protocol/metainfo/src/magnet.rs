//! Magnet links: the identity of a torrent and where to ask for it (BEP 9, 52), and which of its files are meant (BEP 53).
//!
//! Invariant: a [`Magnet`] names one torrent: at least one info hash, and never two different ones of a version.

#[cfg(test)]
mod tests;

use crate::info_hash::{InfoHashV1, InfoHashV2, InfoHashes};
use crate::metainfo::{
    Collector, Contact, MAX_CONTACTS, MAX_TRACKERS, MAX_WEB_SEEDS, Metainfo, TrackerUrl, Warning,
    web_seed,
};
use core::fmt;
use core::ops::RangeInclusive;

/// The longest link accepted, in bytes: what a browser or a command line would pass on.
pub const MAX_MAGNET_BYTES: usize = 64 * 1024;

/// The most ranges of files kept of one link.
pub const MAX_SELECTED_RANGES: usize = 1000;

/// The most URLs of .torrent files kept of one link.
pub const MAX_SOURCES: usize = 8;

/// The multihash prefix of a v2 info hash: SHA2-256, 32 bytes (BEP 52).
const SHA2_256: &str = "1220";

/// A magnet link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// Which torrent it is.
    pub info_hashes: InfoHashes,
    /// What to call it until its metainfo is there. A stranger's text: not safe as a name on a disk.
    pub name: Option<String>,
    /// The trackers, each a tier of its own.
    pub trackers: Vec<TrackerUrl>,
    /// URLs of web seeds.
    pub web_seeds: Vec<String>,
    /// URLs of .torrent files that say the same as the link (`xs`), so that no peer is needed to find out what it is.
    pub sources: Vec<String>,
    /// Peers to try first.
    pub peers: Vec<Contact>,
    /// The indices of the files that are meant, `None` for all (BEP 53).
    pub selected: Option<Vec<RangeInclusive<u32>>>,
    /// The length of the content in bytes.
    pub length: Option<u64>,
    /// What was odd and did no harm.
    pub warnings: Vec<Warning>,
}

/// Why a text is not a magnet link that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// Longer than [`MAX_MAGNET_BYTES`].
    #[error("the magnet link is longer than {MAX_MAGNET_BYTES} bytes")]
    TooLong,
    /// Something else.
    #[error("this is no magnet link: it does not begin with `magnet:?`")]
    NotMagnet,
    /// No `xt` of BitTorrent.
    #[error("the magnet link has no info hash (`xt=urn:btih:` or `xt=urn:btmh:`)")]
    NoInfoHash,
    /// An `xt` of BitTorrent with something else than a hash.
    #[error("the magnet link has an info hash that is none: {0:?}")]
    BadInfoHash(String),
    /// Two torrents in one link.
    #[error("the magnet link has two different info hashes of the same version")]
    Conflict,
}

impl Magnet {
    /// A link with nothing but the identity of a torrent.
    #[must_use]
    pub const fn new(info_hashes: InfoHashes) -> Self {
        Magnet {
            info_hashes,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            sources: Vec::new(),
            peers: Vec::new(),
            selected: None,
            length: None,
            warnings: Vec::new(),
        }
    }

    /// Reads a link. Parameters that are unknown or cannot be used are left out, some with a warning.
    ///
    /// # Errors
    /// Where it does not name one torrent.
    pub fn parse(link: &str) -> Result<Self, MagnetError> {
        let link = link.trim();
        if link.len() > MAX_MAGNET_BYTES {
            return Err(MagnetError::TooLong);
        }
        let query = match link.split_at_checked("magnet:?".len()) {
            Some((scheme, query)) if scheme.eq_ignore_ascii_case("magnet:?") => query,
            _ => return Err(MagnetError::NotMagnet),
        };
        let parameters = || query.split('&').filter_map(|part| part.split_once('='));
        let values = |key| {
            let of_key = parameters().filter(move |(name, _)| is_key(name, key));
            of_key.map(|(_, value)| value)
        };
        let mut magnet = Magnet::new(info_hashes(values("xt").map(decode))?);
        let warnings = &mut magnet.warnings;

        magnet.name = values("dn")
            .next()
            .map(|name| decode(&name.replace('+', " ")));
        magnet.length = values("xl").find_map(|length| decode(length).parse().ok());
        let mut trackers = Collector::new("tr", MAX_TRACKERS, TrackerUrl::parse, warnings);
        let urls = values("tr").map(decode);
        magnet.trackers = urls.filter_map(|url| trackers.take(&url)).collect();
        let mut web_seeds = Collector::new("ws", MAX_WEB_SEEDS, web_seed, warnings);
        let urls = values("ws").map(decode);
        magnet.web_seeds = urls.filter_map(|url| web_seeds.take(&url)).collect();
        // Other kinds of sources, such as `urn:btpk:` (BEP 46), are something else.
        let mut sources = Collector::new("xs", MAX_SOURCES, web_seed, warnings);
        let urls = values("xs").map(decode).filter(|url| is_http(url));
        magnet.sources = urls.filter_map(|url| sources.take(&url)).collect();
        magnet.peers = peers(values("x.pe").map(decode), warnings);
        magnet.selected = selected(values("so").map(decode), warnings);
        Ok(magnet)
    }
}

/// The link that leads to a torrent.
impl From<&Metainfo> for Magnet {
    fn from(metainfo: &Metainfo) -> Self {
        Magnet {
            name: Some(metainfo.name().to_owned()),
            trackers: metainfo.trackers().iter().flatten().cloned().collect(),
            web_seeds: metainfo.web_seeds().to_vec(),
            length: Some(metainfo.layout().total_length()),
            ..Magnet::new(metainfo.info_hashes())
        }
    }
}

/// Whether a parameter is `key`, or `key.N`, where several of a kind are numbered. The number says nothing.
fn is_key(name: &str, key: &str) -> bool {
    let (head, tail) = match name.split_at_checked(key.len()) {
        Some(split) => split,
        None => return false,
    };
    let number = tail.strip_prefix('.');
    head.eq_ignore_ascii_case(key)
        && (tail.is_empty()
            || number.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())))
}

fn is_http(url: &str) -> bool {
    let schemes = ["http://", "https://"];
    let mut prefixes = schemes.into_iter();
    prefixes.any(|scheme| strip_prefix_ignoring_case(url.trim(), scheme).is_some())
}

fn info_hashes(topics: impl Iterator<Item = String>) -> Result<InfoHashes, MagnetError> {
    let (mut v1, mut v2) = (None, None);
    for topic in topics {
        let bad = || MagnetError::BadInfoHash(topic.chars().take(100).collect());
        if let Some(hash) = strip_prefix_ignoring_case(&topic, "urn:btih:") {
            let hash = match hash.len() {
                40 => from_hex(hash),
                32 => from_base32(hash),
                _ => None,
            };
            agree(&mut v1, InfoHashV1(hash.ok_or_else(bad)?))?;
        } else if let Some(hash) = strip_prefix_ignoring_case(&topic, "urn:btmh:") {
            let hash = hash.strip_prefix(SHA2_256).and_then(from_hex);
            agree(&mut v2, InfoHashV2(hash.ok_or_else(bad)?))?;
        }
    }
    InfoHashes::new(v1, v2).ok_or(MagnetError::NoInfoHash)
}

fn agree<T: PartialEq>(known: &mut Option<T>, hash: T) -> Result<(), MagnetError> {
    match known.as_ref().is_some_and(|known| *known != hash) {
        true => Err(MagnetError::Conflict),
        false => {
            *known = Some(hash);
            Ok(())
        }
    }
}

fn peers(values: impl Iterator<Item = String>, warnings: &mut Vec<Warning>) -> Vec<Contact> {
    let mut peers = Vec::new();
    for peer in values.filter_map(|value| Contact::parse(&value)) {
        if peers.len() == MAX_CONTACTS {
            let (field, limit) = ("x.pe", MAX_CONTACTS);
            warnings.push(Warning::TooMany { field, limit });
            break;
        }
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    peers
}

/// The ranges of all `so`, or nothing, and with that everything, if one of them is malformed: to fetch too little would
/// go unnoticed.
fn selected(
    values: impl Iterator<Item = String>,
    warnings: &mut Vec<Warning>,
) -> Option<Vec<RangeInclusive<u32>>> {
    let mut ranges = Vec::new();
    for value in values {
        for range in value.split(',') {
            let Some(range) = file_range(range) else {
                warnings.push(Warning::IgnoredField("so"));
                return None;
            };
            if ranges.len() == MAX_SELECTED_RANGES {
                let (field, limit) = ("so", MAX_SELECTED_RANGES);
                warnings.push(Warning::TooMany { field, limit });
                return Some(ranges);
            }
            ranges.push(range);
        }
    }
    (!ranges.is_empty()).then_some(ranges)
}

fn file_range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok())?
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range: RangeInclusive<u32> = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// Undoes percent-encoding (RFC 3986). A `%` that begins no escape stands for itself; what is no UTF-8 is replaced.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => hex_digit(*high)
                .zip(hex_digit(*low))
                .map(|(high, low)| (high << 4 | low, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((first, tail));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Percent-encodes everything but RFC 3986's unreserved characters and those in `kept`.
fn encode(text: &str, kept: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        match plain || kept.contains(&byte) {
            true => write!(f, "{}", char::from(byte))?,
            false => write!(f, "%{byte:02X}")?,
        }
    }
    Ok(())
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !odd.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(bytes)
}

/// Reads RFC 4648's base32: eight digits are five bytes.
fn from_base32(text: &str) -> Option<[u8; 20]> {
    let (groups, odd) = text.as_bytes().as_chunks::<8>();
    if groups.len() != 4 || !odd.is_empty() {
        return None;
    }
    let mut bytes = [0; 20];
    for (five, group) in bytes.chunks_exact_mut(5).zip(groups) {
        let mut bits = 0u64;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a',
                b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        let v1 = self.info_hashes.v1().map(|hash| format!("urn:btih:{hash}"));
        let v2 = self
            .info_hashes
            .v2()
            .map(|hash| format!("urn:btmh:{SHA2_256}{hash}"));
        let topics: Vec<String> = v1.into_iter().chain(v2).collect();
        write!(f, "xt={}", topics.join("&xt="))?;
        if let Some(name) = &self.name {
            f.write_str("&dn=")?;
            encode(name, b"", f)?;
        }
        if let Some(length) = self.length {
            write!(f, "&xl={length}")?;
        }
        for tracker in &self.trackers {
            f.write_str("&tr=")?;
            encode(&tracker.url, b"", f)?;
        }
        for url in &self.web_seeds {
            f.write_str("&ws=")?;
            encode(url, b"", f)?;
        }
        for url in &self.sources {
            f.write_str("&xs=")?;
            encode(url, b"", f)?;
        }
        for peer in &self.peers {
            f.write_str("&x.pe=")?;
            encode(&peer.to_string(), b"[]:", f)?;
        }
        if let Some(selected) = &self.selected {
            let ranges = selected
                .iter()
                .map(|range| match (range.start(), range.end()) {
                    (first, last) if first == last => first.to_string(),
                    (first, last) => format!("{first}-{last}"),
                });
            write!(f, "&so={}", ranges.collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }
}
