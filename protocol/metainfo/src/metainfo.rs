//! The .torrent file: v1 (BEP 3), v2 (BEP 52) and hybrid, from bytes to files, layout and verifier.
//!
//! Invariant: a [`Metainfo`] is whole and consistent. Every piece has its promise, every v2 piece layer matches the root of
//! its file, both parts of a hybrid torrent describe the same content, and every path is safe to use below a folder.

mod dictionary;
mod error;
mod info;
mod list;
mod pieces;
mod plain;
mod sources;
mod web_seed;

#[cfg(test)]
mod tests;

pub use crate::bencode::Limits;
pub use dictionary::{Dictionary, MissingLayer, is_named, torrent_file};
pub use error::{Error, HybridMismatch, UrlProblem, Warning};
pub use plain::{PlainFile, WholeDigest, WholeHasher};
pub(crate) use sources::{Collector, web_seed};
pub use sources::{
    Contact, MAX_CONTACTS, MAX_TRACKERS, MAX_URL_BYTES, MAX_WEB_SEEDS, Scheme, TrackerUrl,
};
pub use web_seed::http_seed_url;

use crate::bencode::{Document, Value, decode};
use crate::geometry::{FileIndex, Layout, PieceIndex};
use crate::info_hash::{InfoHashV1, InfoHashV2, InfoHashes};
use crate::verifier::Verifier;
use core::ops::Range;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A torrent as its metainfo describes it.
#[derive(Clone, Debug)]
pub struct Metainfo {
    raw_info: Vec<u8>,
    info_hashes: InfoHashes,
    name: String,
    raw_name: Option<Box<[u8]>>,
    folder: bool,
    files: Vec<File>,
    layout: Layout,
    verifier: Verifier,
    plain: bool,
    private: bool,
    source: Option<String>,
    trackers: Vec<Vec<TrackerUrl>>,
    web_seeds: Vec<String>,
    http_seeds: Vec<String>,
    nodes: Vec<Contact>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
    warnings: Vec<Warning>,
}

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it goes below [`Metainfo::folder`], its components joined by `/`: sanitised, and unlike the paths of all
    /// other files and directories (see [`crate::names`]). Of padding it is only something to show.
    pub path: String,
    raw_path: Option<Box<[Box<[u8]>]>>,
    /// Its length in bytes; 0 for a symlink.
    pub length: u64,
    /// Where its first byte lies in the torrent's address space (see [`Layout`]).
    pub offset: u64,
    /// Whether it only fills up a piece (BEP 47). Its bytes are zeros and are never stored.
    pub padding: bool,
    /// Whether it is meant to be executable.
    pub executable: bool,
    /// Whether it is meant to be hidden.
    pub hidden: bool,
    /// Where it points, if it is a symlink: as the torrent has it, to be shown and never to be created unchecked.
    pub symlink: Option<String>,
    /// The root of its Merkle tree, if the torrent has a v2 part and the file is not empty.
    pub root: Option<[u8; 32]>,
    /// What the whole of it hashes to, where no torrent describes it and somebody promises that.
    pub digest: Option<WholeDigest>,
}

impl File {
    /// The components of [`File::path`]. Each is safe as a name on a disk.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.path.split('/')
    }

    /// The components as the torrent has them, for URLs of web seeds. Not safe to use on a disk.
    #[must_use]
    pub fn raw_path(&self) -> Vec<&[u8]> {
        match &self.raw_path {
            Some(raw) => raw.iter().map(|component| &**component).collect(),
            None => self.components().map(str::as_bytes).collect(),
        }
    }

    /// The part of the address space it fills.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.length
    }
}

impl Metainfo {
    /// Reads a .torrent file.
    ///
    /// # Errors
    /// Why the torrent is refused. What is odd but harmless is among the [`Metainfo::warnings`].
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Self, Error> {
        Metainfo::parse_parts(bytes, false, limits)
    }

    /// As [`Metainfo::parse`], of the v1 part alone: for a hybrid torrent that was found by its v1 info hash among peers that know no
    /// more of it and cannot give the piece layers. What is there is a v1 torrent, and has no v2 info hash.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn parse_v1(bytes: &[u8], limits: Limits) -> Result<Self, Error> {
        Metainfo::parse_parts(bytes, true, limits)
    }

    fn parse_parts(bytes: &[u8], v1_only: bool, limits: Limits) -> Result<Self, Error> {
        let document = decode(bytes, limits)?;
        let root = document.root();
        if root.as_dict().is_none() {
            return Err(Error::NotADictionary);
        }
        let info = root.get("info").ok_or(Error::Missing("info"))?;
        if info.as_dict().is_none() {
            let (field, expected) = ("info", "a dictionary");
            return Err(Error::Malformed { field, expected });
        }

        let mut warnings = Vec::new();
        let parsed = info::parse(info, root.get("piece layers"), v1_only, &mut warnings)?;
        note_disorder(&document, info, &mut warnings);
        let raw_info = info.raw().to_vec();
        let v1 = parsed
            .v1
            .then(|| InfoHashV1(Sha1::digest(&raw_info).into()));
        let v2 = parsed
            .v2
            .then(|| InfoHashV2(Sha256::digest(&raw_info).into()));
        Ok(Metainfo {
            info_hashes: InfoHashes::new(v1, v2).ok_or(Error::Missing("pieces"))?,
            raw_info,
            name: parsed.name,
            raw_name: parsed.raw_name,
            folder: parsed.folder,
            files: parsed.files,
            layout: parsed.layout,
            verifier: parsed.verifier,
            plain: false,
            private: parsed.private,
            source: parsed.source,
            trackers: sources::trackers(root, &mut warnings),
            web_seeds: sources::web_seeds(root, "url-list", &mut warnings),
            http_seeds: sources::web_seeds(root, "httpseeds", &mut warnings),
            nodes: sources::nodes(root, &mut warnings),
            comment: shown_text(root, "comment", &mut warnings),
            created_by: shown_text(root, "created by", &mut warnings),
            creation_date: root.get("creation date").and_then(|date| date.as_int()),
            warnings,
        })
    }

    /// The SHA-1 of a v1 part and the SHA-256 of a v2 part.
    #[must_use]
    pub const fn info_hashes(&self) -> InfoHashes {
        self.info_hashes
    }

    /// The info dictionary, byte for byte as it was.
    #[must_use]
    pub fn raw_info(&self) -> &[u8] {
        &self.raw_info
    }

    /// The torrent's name, safe as a name on a disk.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that the paths of the files are below. `None` where the torrent is a single file, which then lies
    /// beside where the folder would be.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        self.folder.then_some(self.name.as_str())
    }

    /// All files in the order of the metainfo, padding and symlinks included. There is at least one that is neither.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Pieces and blocks.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What is promised about each piece.
    #[must_use]
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The pieces with bytes of `file`; empty where it has none or does not exist.
    #[must_use]
    pub fn pieces_of(&self, file: FileIndex) -> Range<u32> {
        let Some(file) = self.files.get(file.get()).filter(|file| file.length > 0) else {
            return 0..0;
        };
        let length = u64::from(self.layout.piece_length());
        let bounds = (file.offset / length, file.range().end.div_ceil(length));
        // The layout has bounded the number of pieces.
        let narrow = |piece| u32::try_from(piece).unwrap_or(u32::MAX);
        narrow(bounds.0)..narrow(bounds.1)
    }

    /// The piece layer of `file`: the Merkle root of each of its pieces (BEP 52). Empty where the torrent has no v2 part
    /// or the file is not longer than a piece, as its root says it all then.
    #[must_use]
    pub fn piece_layer(&self, file: FileIndex) -> Vec<[u8; 32]> {
        let pieces = match &self.verifier {
            Verifier::V2(pieces) | Verifier::Hybrid(_, pieces) => &pieces.0,
            Verifier::V1(_) | Verifier::Unhashed(_) => return Vec::new(),
        };
        let range = self.pieces_of(file);
        let has_root = |file: &File| file.root.is_some();
        if range.len() < 2 || !self.files.get(file.get()).is_some_and(has_root) {
            return Vec::new();
        }
        range
            .filter_map(|piece| pieces.get(PieceIndex(piece).get()))
            .map(|piece| piece.root)
            .collect()
    }

    /// The trackers in tiers: those of a tier are alternatives, the next tier is for when they all fail (BEP 12).
    #[must_use]
    pub fn trackers(&self) -> &[Vec<TrackerUrl>] {
        &self.trackers
    }

    /// URLs of web seeds (BEP 19), all `http` or `https`.
    #[must_use]
    pub fn web_seeds(&self) -> &[String] {
        &self.web_seeds
    }

    /// URLs of scripts that serve pieces (BEP 17), all `http` or `https`.
    #[must_use]
    pub fn http_seeds(&self) -> &[String] {
        &self.http_seeds
    }

    /// DHT nodes to begin with (BEP 5).
    #[must_use]
    pub fn nodes(&self) -> &[Contact] {
        &self.nodes
    }

    /// Whether peers may come from the trackers only (BEP 27).
    #[must_use]
    pub const fn is_private(&self) -> bool {
        self.private
    }

    /// The `source` with which private trackers tell their torrents apart. A stranger's text, as all that follow.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// A remark for people.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// The program that made the torrent.
    #[must_use]
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub const fn creation_date(&self) -> Option<i64> {
        self.creation_date
    }

    /// What was odd and did no harm.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

fn note_disorder(document: &Document<'_>, info: Value<'_>, warnings: &mut Vec<Warning>) {
    if info.unsorted().is_none()
        && let Some(offset) = document.root().unsorted()
    {
        warnings.push(Warning::UnsortedKeys(offset));
    }
    if !document.rest().is_empty() {
        warnings.push(Warning::TrailingBytes(document.rest().len()));
    }
}

/// A text for people; a value of another type is left out with a warning.
fn shown_text(dict: Value<'_>, key: &'static str, warnings: &mut Vec<Warning>) -> Option<String> {
    let Some(bytes) = list::text(dict, key)?.as_bytes() else {
        warnings.push(Warning::IgnoredField(key));
        return None;
    };
    Some(String::from_utf8_lossy(bytes).into_owned())
}
