//! Addresses that we have nothing to do with, from lists as people publish them.
//!
//! A list is text, one range on a line, in any of three ways and mixed as it comes ([`text`]), or PeerGuardian's binary file
//! ([`binary`]). A line that makes no sense is counted and told, and the others hold.
//!
//! Invariant: the ranges of a filter are sorted and do not overlap, and each of them is forbidden by the line that it names. So an
//! address is looked up by one binary search, and memory is bounded by the number of ranges alone.

mod binary;
mod text;

use binary::Binary;
use core::cmp::Ordering;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
pub use text::LineError;
use text::{Line, Span};

/// The most ranges of IPv4 addresses: at 16 bytes each they take 18 MiB. The largest lists in use have some 700,000.
pub const MAX_V4_RANGES: usize = 9 << 17;
/// The most ranges of IPv6 addresses: at 40 bytes each they take 10 MiB.
pub const MAX_V6_RANGES: usize = 1 << 18;
/// The most lists of one filter.
pub const MAX_LISTS: usize = 1_000;
/// The longest line of a list, in bytes. What precedes a range is the name of a company.
pub const MAX_LINE_BYTES: usize = 4_096;
/// How many bad lines of a list are told one by one.
pub const MAX_TOLD: usize = 10;

/// Which addresses are forbidden. An IPv4 address written as an IPv6 one (`::ffff:1.2.3.4`) is the IPv4 one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpFilter {
    v4: Vec<Range<Ipv4Addr>>,
    v6: Vec<Range<Ipv6Addr>>,
}

/// What forbids an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which {
    /// The place of the list among those of the filter: 0 is the first.
    pub list: usize,
    /// The line of that list, or the number of the range in a binary one: 1 is the first.
    pub line: u32,
    /// The first address that this line forbids and no other line of this filter did before.
    pub first: IpAddr,
    /// The last of them.
    pub last: IpAddr,
}

/// What became of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListReport {
    /// Ranges that were read.
    pub ranges: u64,
    /// Ranges that the list itself lets pass: of an access level above 127.
    pub let_pass: u64,
    /// Lines that make no sense.
    pub bad: u64,
    /// The first of those, [`MAX_TOLD`] at the most.
    pub first_bad: Vec<BadLine>,
    /// Ranges that are not in the filter, because it is full.
    pub left_out: u64,
}

/// A line that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number: 1 is the first.
    pub line: u32,
    /// What is wrong.
    pub why: LineError,
}

/// There are [`MAX_LISTS`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_LISTS} address lists already; put several into one file")]
pub struct TooManyLists;

impl IpFilter {
    /// Whether we have something to do with an address.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.which(address).is_none()
    }

    /// What forbids an address.
    #[must_use]
    pub fn which(&self, address: IpAddr) -> Option<Which> {
        match address.to_canonical() {
            IpAddr::V4(address) => find(&self.v4, address),
            IpAddr::V6(address) => find(&self.v6, address),
        }
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether all addresses are allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Makes a filter from lists, one after another.
#[derive(Debug)]
pub struct IpFilterBuilder {
    v4: Collection<Ipv4Addr>,
    v6: Collection<Ipv6Addr>,
    lists: u16,
}

impl Default for IpFilterBuilder {
    fn default() -> Self {
        IpFilterBuilder::new()
    }
}

impl IpFilterBuilder {
    /// Without lists.
    #[must_use]
    pub fn new() -> Self {
        IpFilterBuilder {
            v4: Collection::new(MAX_V4_RANGES),
            v6: Collection::new(MAX_V6_RANGES),
            lists: 0,
        }
    }

    /// Begins the next list.
    ///
    /// # Errors
    /// Where there are too many.
    pub fn list(&mut self) -> Result<ListReader<'_>, TooManyLists> {
        let list = self.lists;
        if usize::from(list) >= MAX_LISTS {
            return Err(TooManyLists);
        }
        self.lists += 1;
        Ok(ListReader {
            into: Sink {
                builder: self,
                list,
                report: ListReport::default(),
            },
            form: Form::Open(Vec::new()),
        })
    }

    /// The filter of all lists so far.
    #[must_use]
    pub fn build(self) -> IpFilter {
        IpFilter {
            v4: self.v4.settled(),
            v6: self.v6.settled(),
        }
    }
}

/// Reads one list.
#[derive(Debug)]
pub struct ListReader<'a> {
    into: Sink<'a>,
    form: Form,
}

/// What a list is.
#[derive(Debug)]
enum Form {
    /// Not known: it began with these bytes.
    Open(Vec<u8>),
    Text(Lines),
    Binary(Binary),
}

impl ListReader<'_> {
    /// Takes the next bytes of the list, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        match &mut self.form {
            Form::Open(begin) => {
                begin.extend_from_slice(bytes);
                if begin.len() >= binary::MAGIC_BYTES {
                    let begin = core::mem::take(begin);
                    self.begin(&begin);
                }
            }
            Form::Text(lines) => lines.feed(bytes, &mut self.into),
            Form::Binary(binary) => binary.feed(bytes, |number, found| {
                self.into.take(number, found.map(Line::Forbids));
            }),
        }
    }

    /// The list is at its end.
    #[must_use]
    pub fn finish(mut self) -> ListReport {
        if let Form::Open(begin) = &mut self.form {
            let begin = core::mem::take(begin);
            self.begin(&begin);
        }
        match &mut self.form {
            Form::Open(_) => {}
            Form::Text(lines) => lines.end(&mut self.into),
            Form::Binary(binary) => binary.end(|number, why| self.into.take(number, Err(why))),
        }
        self.into.report
    }

    /// Finds out what the list is.
    fn begin(&mut self, begin: &[u8]) {
        let (form, rest) = match binary::version(begin) {
            Some((version, rest)) => (Form::Binary(Binary::new(version)), rest),
            None => (Form::Text(Lines::default()), begin),
        };
        self.form = form;
        self.feed(rest);
    }
}

/// Where the ranges of one list go.
#[derive(Debug)]
struct Sink<'a> {
    builder: &'a mut IpFilterBuilder,
    list: u16,
    report: ListReport,
}

impl Sink<'_> {
    fn take(&mut self, line: u32, read: Result<Line, LineError>) {
        match read {
            Ok(Line::Nothing) => {}
            Ok(Line::LetsPass) => self.report.let_pass += 1,
            Ok(Line::Forbids(span)) => {
                self.report.ranges += 1;
                let list = self.list;
                let kept = match span {
                    Span::V4(first, last) => self.builder.v4.push(Range {
                        first,
                        last,
                        line,
                        list,
                    }),
                    Span::V6(first, last) => self.builder.v6.push(Range {
                        first,
                        last,
                        line,
                        list,
                    }),
                };
                self.report.left_out += u64::from(!kept);
            }
            Err(why) => {
                self.report.bad += 1;
                if self.report.first_bad.len() < MAX_TOLD {
                    self.report.first_bad.push(BadLine { line, why });
                }
            }
        }
    }
}

/// Cuts text into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The line so far, as far as it may be long.
    line: Vec<u8>,
    is_too_long: bool,
    /// Lines that ended.
    ended: u32,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], into: &mut Sink<'_>) {
        let mut parts = bytes.split(|&byte| byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.extend(part);
            self.end(into);
        }
        self.extend(last);
    }

    fn extend(&mut self, part: &[u8]) {
        let room = MAX_LINE_BYTES - self.line.len();
        self.is_too_long |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end(&mut self, into: &mut Sink<'_>) {
        self.ended = self.ended.saturating_add(1);
        let read = if core::mem::take(&mut self.is_too_long) {
            Err(LineError::TooLong)
        } else {
            // Names are in any encoding; addresses are not.
            text::parse(&String::from_utf8_lossy(&self.line))
        };
        self.line.clear();
        into.take(self.ended, read);
    }
}

/// Addresses that follow each other, and who forbids them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range<A> {
    first: A,
    last: A,
    line: u32,
    list: u16,
}

/// An address of one family, in the order of its number.
trait Address: Copy + Ord + Into<IpAddr> {
    /// The address behind it.
    fn next(self) -> Option<Self>;
}

impl Address for Ipv4Addr {
    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Ipv4Addr::from_bits)
    }
}

impl Address for Ipv6Addr {
    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Ipv6Addr::from_bits)
    }
}

/// Ranges of one family, as they come.
#[derive(Debug)]
struct Collection<A> {
    ranges: Vec<Range<A>>,
    most: usize,
    is_full: bool,
}

impl<A: Address> Collection<A> {
    fn new(most: usize) -> Self {
        Collection {
            ranges: Vec::new(),
            most,
            is_full: false,
        }
    }

    /// Whether there was room. Where it runs short, what several lists have in common is taken together; where that gains little it
    /// is not tried again, so that it is done a few times only.
    fn push(&mut self, range: Range<A>) -> bool {
        if !self.is_full && self.ranges.len() >= self.most {
            settle(&mut self.ranges);
            self.is_full = self.ranges.len() > self.most / 8 * 7;
        }
        if !self.is_full {
            self.ranges.push(range);
        }
        !self.is_full
    }

    fn settled(mut self) -> Vec<Range<A>> {
        settle(&mut self.ranges);
        self.ranges.shrink_to_fit();
        self.ranges
    }
}

/// Sorts ranges, and takes from each what one before it has already. Their number does not grow, as none is ever cut in two.
fn settle<A: Address>(ranges: &mut Vec<Range<A>>) {
    ranges.sort_unstable_by_key(|range| (range.first, range.list, range.line));
    let mut covered: Option<A> = None;
    ranges.retain_mut(|range| {
        if let Some(covered) = covered.filter(|&covered| range.first <= covered) {
            match covered.next() {
                Some(next) if next <= range.last => range.first = next,
                _ => return false,
            }
        }
        covered = Some(range.last);
        true
    });
}

fn find<A: Address>(ranges: &[Range<A>], address: A) -> Option<Which> {
    let place = ranges.binary_search_by(|range| {
        if range.last < address {
            Ordering::Less
        } else if range.first > address {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    });
    let range = ranges.get(place.ok()?)?;
    Some(Which {
        list: usize::from(range.list),
        line: range.line,
        first: range.first.into(),
        last: range.last.into(),
    })
}

#[cfg(test)]
mod tests;
