//! From bytes to a flat arena of tokens, and the view over it.

use super::error::{DecodeError, DecodeErrorKind};

/// How much a decoder reads before it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of input. Above 4 GiB - 1 it has no effect: spans are kept in 32 bits.
    pub bytes: usize,
    /// Values, dictionary keys included. Each costs 16 bytes of memory while the document lives.
    pub tokens: usize,
    /// Lists and dictionaries within each other.
    pub depth: usize,
}

impl Limits {
    /// A file that the user chose. 64 MiB hold the metainfo of some hundred thousand files; no client makes larger ones.
    pub const LOCAL: Limits = Limits {
        bytes: 64 * 1024 * 1024,
        tokens: 3_000_000,
        depth: 100,
    };

    /// What a stranger sent: a URL's answer, a peer's metadata. 10 MiB is ten times the largest torrents in circulation.
    pub const REMOTE: Limits = Limits {
        bytes: 10 * 1024 * 1024,
        ..Limits::LOCAL
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Bytes,
    List,
    Dict,
    /// A dictionary whose keys are not sorted.
    UnsortedDict,
}

/// One value. The tokens of a container's items follow it, dictionary keys being tokens of their own.
#[derive(Clone, Copy, Debug)]
struct Token {
    start: u32,
    end: u32,
    /// The index of the first token that no longer belongs to this value.
    next: u32,
    kind: Kind,
    /// Bytes before the content: those of `i`, `l`, `d`, or of a string's length and colon.
    header: u8,
}

/// A decoded value and the input it was decoded from.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    bytes: &'a [u8],
    tokens: Vec<Token>,
}

/// Decodes the value at the beginning of `bytes`.
///
/// Unsorted dictionary keys and bytes after the value are no errors here, because torrents and tracker replies with
/// them are in circulation: see [`Value::unsorted`] and [`Document::rest`].
///
/// # Errors
/// The first fault and its offset.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Document<'_>, DecodeError> {
    let limit = limits.bytes.min(u32::MAX as usize);
    if bytes.len() > limit {
        return Err(fault(0, DecodeErrorKind::TooLong(limit)));
    }
    let mut decoder = Decoder {
        bytes,
        limits,
        at: 0,
        tokens: Vec::new(),
        open: Vec::new(),
    };
    decoder.run()?;
    Ok(Document {
        bytes,
        tokens: decoder.tokens,
    })
}

/// Decodes `bytes`, which must be canonical bencode: what encoding the value again would give.
///
/// # Errors
/// As [`decode`], and for unsorted keys (at the dictionary) and bytes after the value.
pub fn decode_canonical(bytes: &[u8], limits: Limits) -> Result<Document<'_>, DecodeError> {
    let document = decode(bytes, limits)?;
    if let Some(offset) = document.root().unsorted() {
        return Err(fault(offset, DecodeErrorKind::UnsortedKeys));
    }
    match document.rest() {
        [] => Ok(document),
        rest => Err(fault(
            bytes.len() - rest.len(),
            DecodeErrorKind::TrailingBytes,
        )),
    }
}

impl<'a> Document<'a> {
    /// The value.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        Value {
            bytes: self.bytes,
            tokens: &self.tokens,
            at: 0,
        }
    }

    /// What follows the value in the input.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        let end = self.tokens.first().map_or(0, |token| token.end as usize);
        &self.bytes[end..]
    }
}

/// A list or dictionary whose end has not been read.
struct Open {
    token: usize,
    dict: bool,
    /// Whether the next string of a dictionary is a key.
    wants_key: bool,
    /// The token of the key before the next one.
    last_key: Option<usize>,
    sorted: bool,
}

struct Decoder<'a> {
    bytes: &'a [u8],
    limits: Limits,
    at: usize,
    tokens: Vec<Token>,
    open: Vec<Open>,
}

impl Decoder<'_> {
    /// Reads one value from its first byte to its last.
    fn run(&mut self) -> Result<(), DecodeError> {
        loop {
            let byte = self.peek()?;
            if byte == b'e' && !self.open.is_empty() {
                self.close()?;
            } else {
                self.open_value(byte)?;
            }
            if self.open.is_empty() {
                return Ok(());
            }
        }
    }

    fn open_value(&mut self, byte: u8) -> Result<(), DecodeError> {
        if self.tokens.len() >= self.limits.tokens {
            return self.fail(DecodeErrorKind::TooManyTokens(self.limits.tokens));
        }
        let is_key = self.open.last().is_some_and(|open| open.wants_key);
        if is_key && !byte.is_ascii_digit() {
            return self.fail(match byte {
                b'i' | b'l' | b'd' => DecodeErrorKind::KeyNotString,
                _ => DecodeErrorKind::UnexpectedByte(byte),
            });
        }
        match byte {
            b'l' | b'd' => return self.open_container(byte == b'd'),
            b'i' => self.integer()?,
            b'0'..=b'9' => self.string()?,
            _ => return self.fail(DecodeErrorKind::UnexpectedByte(byte)),
        }
        if is_key {
            self.note_key()
        } else {
            self.note_value();
            Ok(())
        }
    }

    fn open_container(&mut self, dict: bool) -> Result<(), DecodeError> {
        if self.open.len() >= self.limits.depth {
            return self.fail(DecodeErrorKind::TooDeep(self.limits.depth));
        }
        self.open.push(Open {
            token: self.tokens.len(),
            dict,
            wants_key: dict,
            last_key: None,
            sorted: true,
        });
        let kind = if dict { Kind::Dict } else { Kind::List };
        self.push(kind, self.at, self.at + 1, 1);
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), DecodeError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        if open.dict && !open.wants_key {
            return self.fail(DecodeErrorKind::MissingValue);
        }
        if !open.sorted {
            self.refuse_duplicates(open.token)?;
            self.tokens[open.token].kind = Kind::UnsortedDict;
        }
        self.at += 1;
        let next = narrow(self.tokens.len());
        let token = &mut self.tokens[open.token];
        token.end = narrow(self.at);
        token.next = next;
        self.note_value();
        Ok(())
    }

    /// A sorted dictionary shows a key's double as its neighbour; the keys of an unsorted one are sorted here to see.
    fn refuse_duplicates(&self, dict: usize) -> Result<(), DecodeError> {
        let mut keys = Vec::new();
        let mut at = dict + 1;
        while at < self.tokens.len() {
            keys.push(at);
            // The key is one token; its value ends where its `next` says.
            at = self.tokens[at + 1].next as usize;
        }
        keys.sort_by_key(|&key| (self.content(key), key));
        let double = keys
            .windows(2)
            .filter(|pair| self.content(pair[0]) == self.content(pair[1]))
            .map(|pair| self.tokens[pair[1]].start as usize)
            .min();
        match double {
            Some(offset) => Err(fault(offset, DecodeErrorKind::DuplicateKey)),
            None => Ok(()),
        }
    }

    fn note_key(&mut self) -> Result<(), DecodeError> {
        let key = self.tokens.len() - 1;
        let before = self.open.last().and_then(|open| open.last_key);
        let order = before.map(|before| self.content(before).cmp(self.content(key)));
        if order == Some(core::cmp::Ordering::Equal) {
            let offset = self.tokens[key].start as usize;
            return Err(fault(offset, DecodeErrorKind::DuplicateKey));
        }
        if let Some(open) = self.open.last_mut() {
            open.sorted &= order != Some(core::cmp::Ordering::Greater);
            open.last_key = Some(key);
            open.wants_key = false;
        }
        Ok(())
    }

    fn note_value(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.wants_key = open.dict;
        }
    }

    fn integer(&mut self) -> Result<(), DecodeError> {
        let start = self.at;
        self.at += 1;
        let negative = self.peek()? == b'-';
        if negative {
            self.at += 1;
        }
        let digits = self.at;
        let mut value = 0i64;
        loop {
            let byte = self.peek()?;
            if byte == b'e' && self.at > digits {
                break;
            }
            let digit = self.digit(byte, digits)?;
            // Built from the negative side, which reaches one further.
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_sub(digit.into()))
                .ok_or(fault(start, DecodeErrorKind::Overflow))?;
        }
        if negative && value == 0 {
            return Err(fault(start, DecodeErrorKind::NegativeZero));
        }
        if !negative && value == i64::MIN {
            return Err(fault(start, DecodeErrorKind::Overflow));
        }
        self.at += 1;
        self.push(Kind::Int, start, self.at, 1);
        Ok(())
    }

    fn string(&mut self) -> Result<(), DecodeError> {
        let start = self.at;
        let mut length = 0usize;
        loop {
            let byte = self.peek()?;
            if byte == b':' {
                break;
            }
            let digit = self.digit(byte, start)?;
            length = length
                .checked_mul(10)
                .and_then(|length| length.checked_add(digit.into()))
                .ok_or(fault(start, DecodeErrorKind::Overflow))?;
        }
        self.at += 1;
        if length > self.bytes.len() - self.at {
            return Err(fault(start, DecodeErrorKind::StringTooLong));
        }
        // A length without leading zeros that fits into a usize has at most 20 digits.
        let header = u8::try_from(self.at - start).unwrap_or(u8::MAX);
        self.at += length;
        self.push(Kind::Bytes, start, self.at, header);
        Ok(())
    }

    /// Reads one digit of the number whose digits begin at `first`.
    fn digit(&mut self, byte: u8, first: usize) -> Result<u8, DecodeError> {
        if !byte.is_ascii_digit() {
            return self.fail(DecodeErrorKind::UnexpectedByte(byte));
        }
        if self.at == first + 1 && self.bytes[first] == b'0' {
            return Err(fault(first, DecodeErrorKind::LeadingZero));
        }
        self.at += 1;
        Ok(byte - b'0')
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize, header: u8) {
        self.tokens.push(Token {
            start: narrow(start),
            end: narrow(end),
            next: narrow(self.tokens.len() + 1),
            kind,
            header,
        });
    }

    fn content(&self, token: usize) -> &[u8] {
        content(self.bytes, &self.tokens[token])
    }

    fn peek(&self) -> Result<u8, DecodeError> {
        let byte = self.bytes.get(self.at).copied();
        byte.ok_or(fault(self.at, DecodeErrorKind::UnexpectedEnd))
    }

    fn fail<T>(&self, kind: DecodeErrorKind) -> Result<T, DecodeError> {
        Err(fault(self.at, kind))
    }
}

const fn fault(offset: usize, kind: DecodeErrorKind) -> DecodeError {
    DecodeError { offset, kind }
}

/// Offsets and token indices are at most the length of the input, which `decode` bounds by `u32::MAX`.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

fn content<'a>(bytes: &'a [u8], token: &Token) -> &'a [u8] {
    &bytes[token.start as usize + usize::from(token.header)..token.end as usize]
}

/// One value of a [`Document`]: a cheap handle.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    bytes: &'a [u8],
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Value<'a> {
    /// Exactly the bytes that the value has in the input, for hashing.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        let token = self.token();
        &self.bytes[token.start as usize..token.end as usize]
    }

    /// Where in the input the value begins.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.token().start as usize
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self.token().kind {
            Kind::Int => {
                let text = content(self.bytes, self.token());
                let digits = text.strip_suffix(b"e").unwrap_or(text);
                core::str::from_utf8(digits).ok()?.parse().ok()
            }
            _ => None,
        }
    }

    /// The byte string, if it is one.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        matches!(self.token().kind, Kind::Bytes).then(|| content(self.bytes, self.token()))
    }

    /// The byte string, if it is one and is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        core::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The items, if it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<ListIter<'a>> {
        matches!(self.token().kind, Kind::List).then(|| ListIter(self.items()))
    }

    /// The entries in the order of the input, if it is a dictionary.
    #[must_use]
    pub fn as_dict(&self) -> Option<DictIter<'a>> {
        matches!(self.token().kind, Kind::Dict | Kind::UnsortedDict).then(|| DictIter(self.items()))
    }

    /// The value of `key`, if this is a dictionary that has it. Looks at one entry after the other: whoever asks a long
    /// dictionary often makes an index from [`Value::as_dict`].
    #[must_use]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        let mut entries = self.as_dict()?;
        entries.find_map(|(candidate, value)| (candidate == key.as_ref()).then_some(value))
    }

    /// The offset of the first dictionary, this value or one within it, whose keys are not sorted.
    #[must_use]
    pub fn unsorted(&self) -> Option<usize> {
        let within = &self.tokens[self.at..self.token().next as usize];
        let unsorted = within.iter().find(|token| token.kind == Kind::UnsortedDict);
        unsorted.map(|token| token.start as usize)
    }

    fn token(&self) -> &'a Token {
        &self.tokens[self.at]
    }

    fn items(&self) -> Items<'a> {
        Items {
            end: self.token().next as usize,
            next: Value {
                at: self.at + 1,
                ..*self
            },
        }
    }
}

/// Shows what kind of value it is and where, not its content: that may be long, and is a stranger's.
impl core::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let token = self.token();
        write!(f, "{:?}({}..{})", token.kind, token.start, token.end)
    }
}

#[derive(Clone, Debug)]
struct Items<'a> {
    next: Value<'a>,
    end: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let value = (self.next.at < self.end).then_some(self.next)?;
        self.next.at = value.token().next as usize;
        Some(value)
    }
}

/// The items of a list.
#[derive(Clone, Debug)]
pub struct ListIter<'a>(Items<'a>);

impl<'a> Iterator for ListIter<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.0.next()
    }
}

/// The entries of a dictionary.
#[derive(Clone, Debug)]
pub struct DictIter<'a>(Items<'a>);

impl<'a> Iterator for DictIter<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?.as_bytes()?;
        Some((key, self.0.next()?))
    }
}
