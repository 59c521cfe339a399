//! PeerGuardian's binary list, P2B, versions 1 to 3.
//!
//! ```text
//! magic     FF FF FF FF "P2B", version u8
//! 1 and 2   any number of: name up to a zero byte, first u32, last u32
//! 3         count u32, so many names up to a zero byte, count u32, so many of: name u32, first u32, last u32
//! ```
//!
//! Integers are big endian. Versions 1 and 2 differ in the encoding of names, which are not kept.
//!
//! Invariant: what a file claims to have is counted down, and nothing is set aside for it.

use super::text::{LineError, Span};
use core::net::Ipv4Addr;

/// What a binary list begins with, before its version.
const MAGIC: &[u8] = b"\xff\xff\xff\xffP2B";
/// How long that is with the version.
pub(super) const MAGIC_BYTES: usize = MAGIC.len() + 1;

/// The version of a binary list, and what follows; `None` for text.
pub(super) fn version(begin: &[u8]) -> Option<(u8, &[u8])> {
    let (&version, rest) = begin.strip_prefix(MAGIC)?.split_first()?;
    Some((version, rest))
}

/// Reads a binary list.
#[derive(Debug)]
pub(super) struct Binary {
    version: u8,
    state: State,
    /// The part of a field that is there.
    field: Vec<u8>,
    /// Ranges that were read.
    ranges: u32,
}

/// What is read next.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The name of the range that follows, of which something was read or nothing.
    Name { is_begun: bool },
    /// The range of that name.
    Range,
    /// How many names there are.
    NameCount,
    /// So many names.
    Names(u32),
    /// How many ranges there are.
    RangeCount,
    /// So many ranges.
    Ranges(u32),
    /// Nothing.
    End,
}

impl Binary {
    pub(super) fn new(version: u8) -> Self {
        Binary {
            version,
            state: match version {
                1 | 2 => State::Name { is_begun: false },
                3 => State::NameCount,
                _ => State::End,
            },
            field: Vec::new(),
            ranges: 0,
        }
    }

    /// Takes the next bytes, and gives the number of each range that they complete, and the range.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut found: impl FnMut(u32, Result<Span, LineError>),
    ) {
        while !bytes.is_empty() {
            match self.state {
                State::Name { .. } => {
                    let ended = skip_name(&mut bytes);
                    self.state = if ended {
                        State::Range
                    } else {
                        State::Name { is_begun: true }
                    };
                }
                State::Names(left) => {
                    if skip_name(&mut bytes) {
                        self.state = names(left - 1);
                    }
                }
                State::NameCount => {
                    if let Some([count]) = self.integers(&mut bytes) {
                        self.state = names(count);
                    }
                }
                State::RangeCount => {
                    if let Some([count]) = self.integers(&mut bytes) {
                        self.state = ranges(count);
                    }
                }
                State::Range => {
                    if let Some([first, last]) = self.integers(&mut bytes) {
                        self.state = State::Name { is_begun: false };
                        self.range(first, last, &mut found);
                    }
                }
                State::Ranges(left) => {
                    if let Some([_, first, last]) = self.integers(&mut bytes) {
                        self.state = ranges(left - 1);
                        self.range(first, last, &mut found);
                    }
                }
                State::End => return,
            }
        }
    }

    /// The file is at its end: tells what is wrong with that.
    pub(super) fn end(&self, mut wrong: impl FnMut(u32, LineError)) {
        let number = self.ranges.saturating_add(1);
        match self.state {
            State::End if !(1..=3).contains(&self.version) => {
                wrong(number, LineError::Version(self.version));
            }
            State::End | State::Name { is_begun: false } => {}
            _ => wrong(number, LineError::Truncated),
        }
    }

    fn range(
        &mut self,
        first: u32,
        last: u32,
        found: &mut impl FnMut(u32, Result<Span, LineError>),
    ) {
        self.ranges = self.ranges.saturating_add(1);
        let [first, last] = [first, last].map(Ipv4Addr::from_bits);
        found(self.ranges, Span::new(first.into(), last.into()));
    }

    /// The next integers, once all of them are there.
    fn integers<const N: usize>(&mut self, bytes: &mut &[u8]) -> Option<[u32; N]> {
        let missing = (4 * N).saturating_sub(self.field.len());
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        self.field.extend_from_slice(taken);
        *bytes = rest;
        if self.field.len() < 4 * N {
            return None;
        }
        let mut integers = [0; N];
        for (integer, octets) in integers.iter_mut().zip(self.field.chunks_exact(4)) {
            *integer = octets
                .iter()
                .fold(0, |all, &octet| all << 8 | u32::from(octet));
        }
        self.field.clear();
        Some(integers)
    }
}

fn names(left: u32) -> State {
    match left {
        0 => State::RangeCount,
        _ => State::Names(left),
    }
}

fn ranges(left: u32) -> State {
    match left {
        0 => State::End,
        _ => State::Ranges(left),
    }
}

/// Skips to behind the next zero byte; `false` where there is none.
fn skip_name(bytes: &mut &[u8]) -> bool {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(at) => {
            *bytes = &bytes[at + 1..];
            true
        }
        None => {
            *bytes = &[];
            false
        }
    }
}
