//! Metalink 4 (RFC 5854): where files are to be had, and what they hash to.
//!
//! Invariant: at most [`MAX_BYTES`] are read, and no more is kept of any list than its limit; there is no document type and no
//! entity but the five of XML, so that nothing expands.

#[cfg(test)]
mod tests;

use crate::geometry::{BLOCK_LENGTH, MAX_PIECE_LENGTH, MAX_PIECES};
use crate::metainfo::{MAX_URL_BYTES, PlainFile, WholeDigest};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use url::Url;

/// The longest document. Those of whole distributions, with hashes of every piece, have some hundred kilobytes.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The most files.
pub const MAX_FILES: usize = 1_000;

/// The most URLs of one file: more mirrors than anybody asks.
pub const MAX_URLS: usize = 200;

/// Elements within each other. The standard's own go five deep.
const MAX_DEPTH: usize = 32;

/// The longest text of an element that is of use: a URL.
const MAX_TEXT_BYTES: usize = MAX_URL_BYTES;

/// What a URL has that says nothing of its priority: the least (RFC 5854 section 4.2.16.1).
const LEAST_PRIORITY: u32 = 999_999;

const NAMESPACE: &str = "urn:ietf:params:xml:ns:metalink";

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetalinkError {
    /// Longer than [`MAX_BYTES`].
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
    /// No UTF-8.
    #[error("it is not in UTF-8")]
    Encoding,
    /// No well-formed XML.
    #[error("it is no well-formed XML: {0}")]
    Xml(String),
    /// A document type or an entity, which a Metalink has no use for.
    #[error("it declares or uses entities, which a Metalink does not need")]
    Entities,
    /// Elements within elements without end.
    #[error("its elements are nested too deeply")]
    TooDeep,
    /// Something else, such as a Metalink of version 3.
    #[error("it is no Metalink of version 4 (RFC 5854)")]
    NotMetalink,
    /// More than [`MAX_FILES`] or [`MAX_URLS`].
    #[error("it lists more than {0}")]
    TooMany(&'static str),
    /// A file without a usable name.
    #[error("a file has no valid name")]
    Name,
    /// A number that is none.
    #[error("the {0} of the file {1:?} is no valid number")]
    Number(&'static str, String),
    /// Nothing to download.
    #[error("it lists no files")]
    NoFiles,
}

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metalink {
    /// At least one.
    pub files: Vec<MetalinkFile>,
}

/// One file of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetalinkFile {
    /// Its path as it is written: see [`MetalinkFile::plain`].
    pub name: String,
    /// Its length in bytes.
    pub size: Option<u64>,
    /// SHA-256 of the whole.
    pub sha256: Option<[u8; 32]>,
    /// SHA-1 of the whole.
    pub sha1: Option<[u8; 20]>,
    /// The length and the SHA-1 of its pieces.
    pub pieces: Option<(u32, Vec<[u8; 20]>)>,
    /// Where it is to be had, the most preferred first; all `http` or `https`.
    pub urls: Vec<MetalinkUrl>,
    /// Torrents of it, the most preferred first.
    pub torrents: Vec<MetalinkUrl>,
}

/// One URL of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetalinkUrl {
    /// It.
    pub url: Url,
    /// From 1, the most preferred, to 999,999.
    pub priority: u32,
    /// The country in which the server is, as a code of two letters.
    pub location: Option<String>,
}

impl MetalinkFile {
    /// The strongest digest of the whole that there is.
    #[must_use]
    pub fn digest(&self) -> Option<WholeDigest> {
        let sha1 = || self.sha1.map(WholeDigest::Sha1);
        self.sha256.map(WholeDigest::Sha256).or_else(sha1)
    }

    /// As a file without a torrent; `None` where its length is not said.
    #[must_use]
    pub fn plain(&self) -> Option<PlainFile> {
        let parts = self.name.split('/');
        Some(PlainFile {
            path: parts.map(|part| part.as_bytes().to_vec()).collect(),
            length: self.size?,
            digest: self.digest(),
        })
    }
}

/// An element that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Metalink,
    File,
    Size,
    Hash,
    Pieces,
    PieceHash,
    Url,
    MetaUrl,
    Other,
}

/// The state of reading.
#[derive(Debug, Default)]
struct Reading {
    stack: Vec<Element>,
    files: Vec<MetalinkFile>,
    text: String,
    /// Of the element that is being read.
    kind: String,
    priority: u32,
    location: Option<String>,
    /// Of the pieces that are being read, where they are of use.
    piece_length: Option<u32>,
    hashes: Vec<[u8; 20]>,
}

impl Metalink {
    /// Reads a document.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetalinkError> {
        if bytes.len() > MAX_BYTES {
            return Err(MetalinkError::TooLong);
        }
        let text = core::str::from_utf8(bytes).map_err(|_| MetalinkError::Encoding)?;
        let mut reader = Reader::from_str(text);
        let mut reading = Reading::default();
        loop {
            let event = reader.read_event();
            match event.map_err(|error| MetalinkError::Xml(error.to_string()))? {
                Event::Start(start) => reading.begin(&start)?,
                Event::Empty(start) => {
                    reading.begin(&start)?;
                    reading.end()?;
                }
                Event::End(_) => reading.end()?,
                Event::Text(text) => reading.take(&text.xml10_content()),
                Event::CData(text) => reading.take(&text.xml10_content()),
                Event::GeneralRef(entity) => {
                    let character = entity.resolve_char_ref();
                    let character = character.map_err(|_| MetalinkError::Entities)?;
                    let name = entity.xml10_content();
                    let known = quick_xml::escape::resolve_predefined_entity(&name);
                    match (character, known) {
                        (Some(character), _) => reading.take(character.encode_utf8(&mut [0; 4])),
                        (None, Some(known)) => reading.take(known),
                        (None, None) => return Err(MetalinkError::Entities),
                    }
                }
                Event::DocType(_) => return Err(MetalinkError::Entities),
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        let mut files = reading.files;
        if files.is_empty() {
            return Err(MetalinkError::NoFiles);
        }
        for file in &mut files {
            file.urls.sort_by_key(|url| url.priority);
            file.torrents.sort_by_key(|url| url.priority);
        }
        Ok(Metalink { files })
    }
}

impl Reading {
    fn take(&mut self, text: &str) {
        // What is too long is cut in a place where it is of no use any more.
        if self.text.len() <= MAX_TEXT_BYTES {
            self.text.push_str(text);
        }
    }

    fn begin(&mut self, start: &BytesStart<'_>) -> Result<(), MetalinkError> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(MetalinkError::TooDeep);
        }
        let name = start.local_name();
        let element = match (self.stack.last(), name.as_ref()) {
            (None, "metalink") if is_of_version_4(start) => Element::Metalink,
            (None, _) => return Err(MetalinkError::NotMetalink),
            (Some(Element::Metalink), "file") => Element::File,
            (Some(Element::File), "size") => Element::Size,
            (Some(Element::File), "hash") => Element::Hash,
            (Some(Element::File), "pieces") => Element::Pieces,
            (Some(Element::Pieces), "hash") => Element::PieceHash,
            (Some(Element::File), "url") => Element::Url,
            (Some(Element::File), "metaurl") => Element::MetaUrl,
            _ => Element::Other,
        };
        self.stack.push(element);
        self.text.clear();
        match element {
            Element::File => self.begin_file(start)?,
            Element::Pieces => self.begin_pieces(start)?,
            Element::Hash => self.kind = attribute(start, "type").unwrap_or_default(),
            Element::Url | Element::MetaUrl => self.begin_url(start)?,
            _ => {}
        }
        Ok(())
    }

    fn begin_file(&mut self, start: &BytesStart<'_>) -> Result<(), MetalinkError> {
        if self.files.len() == MAX_FILES {
            return Err(MetalinkError::TooMany("files"));
        }
        let name = attribute(start, "name").filter(|name| is_path(name));
        self.files.push(MetalinkFile {
            name: name.ok_or(MetalinkError::Name)?,
            ..MetalinkFile::default()
        });
        Ok(())
    }

    fn begin_pieces(&mut self, start: &BytesStart<'_>) -> Result<(), MetalinkError> {
        self.hashes.clear();
        let sha1 = attribute(start, "type").is_some_and(|kind| kind == "sha-1");
        let length = attribute(start, "length").unwrap_or_default();
        let length = self.number("piece length", &length)?;
        let fits = u64::from(BLOCK_LENGTH)..=u64::from(MAX_PIECE_LENGTH);
        let of_use = sha1 && fits.contains(&length) && length % u64::from(BLOCK_LENGTH) == 0;
        let length = u32::try_from(length).ok();
        self.piece_length = length.filter(|_| of_use);
        Ok(())
    }

    fn begin_url(&mut self, start: &BytesStart<'_>) -> Result<(), MetalinkError> {
        self.kind = attribute(start, "mediatype").unwrap_or_default();
        self.location = attribute(start, "location").filter(|code| code.len() == 2);
        self.priority = match attribute(start, "priority") {
            Some(text) => u32::try_from(self.number("priority", &text)?).unwrap_or(LEAST_PRIORITY),
            None => LEAST_PRIORITY,
        };
        Ok(())
    }

    /// A number of digits.
    fn number(&self, what: &'static str, text: &str) -> Result<u64, MetalinkError> {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        let name = || {
            self.files
                .last()
                .map_or_else(String::new, |file| file.name.clone())
        };
        number.ok_or_else(|| MetalinkError::Number(what, name()))
    }

    fn end(&mut self) -> Result<(), MetalinkError> {
        let element = self.stack.pop();
        let text = core::mem::take(&mut self.text);
        let text = text.trim();
        let size = match element {
            Some(Element::Size) => Some(self.number("size", text)?),
            _ => None,
        };
        let Some(file) = self.files.last_mut() else {
            return Ok(());
        };
        match element {
            Some(Element::Size) => file.size = size,
            Some(Element::Hash) => match self.kind.as_str() {
                "sha-256" => file.sha256 = file.sha256.or_else(|| hex(text)),
                "sha-1" => file.sha1 = file.sha1.or_else(|| hex(text)),
                _ => {}
            },
            Some(Element::PieceHash) if self.hashes.len() < MAX_PIECES as usize => {
                // One that cannot be read makes all of them useless.
                match hex(text) {
                    Some(hash) => self.hashes.push(hash),
                    None => self.piece_length = None,
                }
            }
            Some(Element::Pieces) => {
                let hashes = core::mem::take(&mut self.hashes);
                if let Some(length) = self.piece_length.take() {
                    file.pieces = Some((length, hashes));
                }
            }
            Some(kind @ (Element::Url | Element::MetaUrl)) => {
                let torrent = kind == Element::MetaUrl;
                let list = if torrent {
                    &mut file.torrents
                } else {
                    &mut file.urls
                };
                let meant = !torrent || self.kind == "torrent";
                let web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
                if let Some(url) = Url::parse(text).ok().filter(web).filter(|_| meant) {
                    if list.len() == MAX_URLS {
                        return Err(MetalinkError::TooMany("URLs of one file"));
                    }
                    list.push(MetalinkUrl {
                        url,
                        priority: self.priority,
                        location: self.location.take(),
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether the root names the namespace of version 4, as its own or under a prefix.
fn is_of_version_4(start: &BytesStart<'_>) -> bool {
    let attributes = start.attributes().filter_map(Result::ok);
    let mut namespaces = attributes.filter(|attribute| {
        let key: &str = attribute.key.as_ref();
        key == "xmlns" || key.starts_with("xmlns:")
    });
    namespaces.any(|attribute| attribute.value == NAMESPACE)
}

/// The value of an attribute, without entities but those of XML.
fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = start.try_get_attribute(name).ok()??;
    let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
    (value.len() <= MAX_TEXT_BYTES).then(|| value.into_owned())
}

/// Whether a name is a path below some folder (RFC 5854 section 4.1.2.1): it does not begin or end with a slash, and has no
/// component that leads elsewhere.
fn is_path(name: &str) -> bool {
    name.split('/')
        .all(|part| !part.is_empty() && !matches!(part, "." | ".."))
}

/// The bytes of an exact number of hexadecimal digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = core::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}
