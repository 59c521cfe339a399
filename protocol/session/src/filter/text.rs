//! Lines of address lists.
//!
//! ```text
//! P2P   Some company: a branch:1.2.4.0-1.2.4.255
//! DAT   001.002.004.000 - 001.002.004.255 , 000 , Some company
//! CIDR  1.2.4.0/24        2001:db8::/32        1.2.4.7
//! ```
//!
//! Comments begin with `#`, `;` or `//`. Numbers are decimal, also where they begin with zeros. A DAT line of an access level above 127
//! lets pass what it names, as eMule has it, and qBittorrent after it.
//!
//! Invariant: the first address of a span is not above the last, and no span of IPv6 addresses lies among those that stand for IPv4 ones.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Above this access level, a DAT line forbids nothing.
const MAX_FORBIDDEN_LEVEL: u64 = 127;
/// The longest way to write an address, in bytes: of IPv6 with the last part as of IPv4.
const MAX_ADDRESS_BYTES: usize = 45;
/// Bits before an IPv4 address that is written as one of IPv6.
const MAPPED_BITS: u8 = 96;

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is nothing that lists have.
    #[error(
        "it is neither an address, nor addresses with a prefix length, nor a range of addresses"
    )]
    Unknown,
    /// The range ends before it begins.
    #[error("the range ends before it begins")]
    Backwards,
    /// The range begins with IPv4 and ends with IPv6, or the other way round.
    #[error("the range is from one kind of address to the other")]
    TwoFamilies,
    /// The prefix is longer than the address.
    #[error("the prefix length is more than an address has bits")]
    Prefix,
    /// It is longer than [`super::MAX_LINE_BYTES`].
    #[error("it is longer than {} bytes", super::MAX_LINE_BYTES)]
    TooLong,
    /// A binary list ends too early.
    #[error("the binary list ends in the middle of a range")]
    Truncated,
    /// A binary list of another version.
    #[error("the binary list is of version {0}, and those known are 1, 2 and 3")]
    Version(u8),
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing: it is empty, or a comment.
    Nothing,
    /// That these addresses are not forbidden.
    LetsPass,
    /// That they are.
    Forbids(Span),
}

/// From the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Span {
    pub(super) fn new(first: IpAddr, last: IpAddr) -> Result<Self, LineError> {
        let span = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Span::V4(first, last),
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                    (Some(first), Some(last)) => Span::V4(first, last),
                    _ => Span::V6(first, last),
                }
            }
            _ => return Err(LineError::TwoFamilies),
        };
        if first <= last {
            Ok(span)
        } else {
            Err(LineError::Backwards)
        }
    }

    /// The addresses that begin with the same bits.
    fn prefixed(address: IpAddr, length: u8) -> Result<Self, LineError> {
        let bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        if length > bits {
            return Err(LineError::Prefix);
        }
        match address {
            IpAddr::V4(address) => Ok(Span::prefixed_v4(address, length)),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(address) if length >= MAPPED_BITS => {
                    Ok(Span::prefixed_v4(address, length - MAPPED_BITS))
                }
                _ => {
                    let free = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
                    let bits = address.to_bits();
                    let (first, last) = (bits & !free, bits | free);
                    Ok(Span::V6(
                        Ipv6Addr::from_bits(first),
                        Ipv6Addr::from_bits(last),
                    ))
                }
            },
        }
    }

    fn prefixed_v4(address: Ipv4Addr, length: u8) -> Self {
        let free = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        let bits = address.to_bits();
        Span::V4(
            Ipv4Addr::from_bits(bits & !free),
            Ipv4Addr::from_bits(bits | free),
        )
    }
}

/// Reads one line. Names may hold anything, what separates the parts as well, so that each form is tried by what it must have at a certain
/// place: a DAT line before its first comma, a P2P line at its end.
pub(super) fn parse(line: &str) -> Result<Line, LineError> {
    let line = line.trim_start_matches('\u{feff}').trim();
    if line.is_empty() || ["#", ";", "//"].iter().any(|mark| line.starts_with(mark)) {
        return Ok(Line::Nothing);
    }
    let (head, rest) = line.split_once(',').unwrap_or((line, ""));
    let (plain, named) = (range(head), named_range(line));
    if let (None | Some(Err(_)), Some(Ok(span))) = (&plain, &named) {
        return Ok(Line::Forbids(*span));
    }
    if let Some(span) = plain {
        let level = rest.split(',').next().unwrap_or_default().trim().parse();
        let lets_pass = level.is_ok_and(|level: u64| level > MAX_FORBIDDEN_LEVEL);
        return if lets_pass {
            Ok(Line::LetsPass)
        } else {
            span.map(Line::Forbids)
        };
    }
    if let Some(Err(why)) = named {
        return Err(why);
    }
    let bare = line.split(['#', ';']).next().unwrap_or_default();
    let span = range(bare).unwrap_or_else(|| {
        let word = bare.split([' ', '\t', ',']).next().unwrap_or_default();
        prefix(word)
    });
    span.map(Line::Forbids)
}

/// `first-last`; `None` for something else.
fn range(text: &str) -> Option<Result<Span, LineError>> {
    let (first, last) = text.split_once('-')?;
    Some(Span::new(address(first)?, address(last)?))
}

/// `name:first-last`; `None` for something else. Where the name could begin the address as well (`2001:db8::1-2001:db8::9` after the
/// name `2001`), the longest address counts that is not above the last one.
fn named_range(line: &str) -> Option<Result<Span, LineError>> {
    let (before, last) = line.rsplit_once('-')?;
    let last = address(last)?;
    let mut found = None;
    for (colon, _) in before.match_indices(':') {
        let Some(first) = address(&before[colon + 1..]) else {
            continue;
        };
        match Span::new(first, last) {
            Ok(span) => return Some(Ok(span)),
            Err(why) => found = Some(Err(why)),
        }
    }
    found
}

/// An address, or the addresses with the same beginning.
fn prefix(word: &str) -> Result<Span, LineError> {
    let Some((first, length)) = word.split_once('/') else {
        let only = address(word).ok_or(LineError::Unknown)?;
        return Span::new(only, only);
    };
    let first = address(first).ok_or(LineError::Unknown)?;
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(LineError::Unknown);
    }
    Span::prefixed(first, length.parse().map_err(|_| LineError::Prefix)?)
}

fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.len() > MAX_ADDRESS_BYTES {
        return None;
    }
    match v4(text) {
        Some(address) => Some(IpAddr::V4(address)),
        None => text.parse().ok().map(IpAddr::V6),
    }
}

/// As the standard library does not read it: `001.002.003.004`.
fn v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let plain = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        *octet = part.parse().ok().filter(|_| plain)?;
    }
    parts.next().is_none().then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line forbids, as text.
    fn read(line: &str) -> String {
        match parse(line) {
            Ok(Line::Nothing) => "nothing".to_owned(),
            Ok(Line::LetsPass) => "pass".to_owned(),
            Ok(Line::Forbids(Span::V4(first, last))) => format!("{first}-{last}"),
            Ok(Line::Forbids(Span::V6(first, last))) => format!("{first}-{last}"),
            Err(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn the_three_forms_are_read_in_any_order() {
        let lines = [
            ("Some company:1.2.4.0-1.2.4.255", "1.2.4.0-1.2.4.255"),
            ("A: b-c, d #1:1.2.4.0-1.2.4.255\r", "1.2.4.0-1.2.4.255"),
            (":1.2.3.4-1.2.3.4", "1.2.3.4-1.2.3.4"),
            ("name::1.2.3.4-1.2.3.5", "1.2.3.4-1.2.3.5"),
            ("v6:2001:db8::1-2001:db8::9", "2001:db8::1-2001:db8::9"),
            ("2001:2001:db8::1-2001:db8::9", "2001:db8::1-2001:db8::9"),
            (
                "001.002.004.000 - 001.002.004.255 , 000 , A-B: c, d-e",
                "1.2.4.0-1.2.4.255",
            ),
            ("1.2.3.4 - 1.2.3.9 , 127 , level", "1.2.3.4-1.2.3.9"),
            ("1.2.3.4 - 1.2.3.9 , 128 , level", "pass"),
            ("1.2.3.4 - 1.2.3.9 , level", "1.2.3.4-1.2.3.9"),
            (
                "2001:db8::1 - 2001:db8::2 , 000 , x",
                "2001:db8::1-2001:db8::2",
            ),
            ("1.2.3.4-1.2.3.9", "1.2.3.4-1.2.3.9"),
            ("1.2.3.4 - 1.2.3.9 # why", "1.2.3.4-1.2.3.9"),
            ("010.0.0.9", "10.0.0.9-10.0.0.9"),
            ("1.2.3.4/24 ; SBL1", "1.2.3.0-1.2.3.255"),
            ("1.2.3.4/32", "1.2.3.4-1.2.3.4"),
            ("0.0.0.0/0", "0.0.0.0-255.255.255.255"),
            ("2001:db8::/127", "2001:db8::-2001:db8::1"),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::1", "2001:db8::1-2001:db8::1"),
            ("1.2.3.4,a column", "1.2.3.4-1.2.3.4"),
        ];
        for (line, expected) in lines {
            assert_eq!(read(line), expected, "{line:?}");
        }
    }

    #[test]
    fn what_is_written_as_ipv6_and_is_ipv4_is_ipv4() {
        let lines = [
            ("::ffff:1.2.3.4", "1.2.3.4-1.2.3.4"),
            ("::ffff:1.2.3.4/120", "1.2.3.0-1.2.3.255"),
            ("::ffff:1.2.3.4-::ffff:1.2.3.9", "1.2.3.4-1.2.3.9"),
        ];
        for (line, expected) in lines {
            assert_eq!(read(line), expected, "{line:?}");
        }
    }

    #[test]
    fn comments_say_nothing_and_nonsense_says_why() {
        for line in [
            "",
            " \t\r",
            "# 1.2.3.4",
            "// 1.2.3.4",
            "; 1.2.3.4",
            "\u{feff}# a",
        ] {
            assert_eq!(read(line), "nothing", "{line:?}");
        }
        let wrong = [
            ("a company", "Unknown"),
            ("1.2.3", "Unknown"),
            ("1.2.3.256", "Unknown"),
            ("1.2.3.0004", "Unknown"),
            ("1.2.3.+4", "Unknown"),
            ("1.2.3.4/", "Unknown"),
            ("1.2.3.4/+8", "Unknown"),
            ("1.2.3.4/33", "Prefix"),
            ("1.2.3.4/999", "Prefix"),
            ("2001:db8::/129", "Prefix"),
            ("a:1.2.3.4-1.2.3.3", "Backwards"),
            ("1.2.3.4 - 1.2.3.3 , 000 , a", "Backwards"),
            ("1.2.3.4-2001:db8::1", "TwoFamilies"),
            ("a:1.2.3.4-2001:db8::1", "TwoFamilies"),
        ];
        for (line, expected) in wrong {
            assert_eq!(read(line), expected, "{line:?}");
        }
    }
}
