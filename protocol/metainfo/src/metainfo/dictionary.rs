//! An info dictionary that came alone, as peers send it (BEP 9): what is missing beside it, and the file that it makes with that.
//!
//! Invariant: piece layers are not part of the info dictionary (BEP 52), so that whoever has no more than that cannot verify a v2
//! file of several pieces yet.

use super::error::Error;
use super::sources::TrackerUrl;
use super::{info, list};
use crate::bencode::{Bencode, Limits, Value, decode};
use crate::info_hash::{InfoHashV1, InfoHashV2, InfoHashes};
use crate::merkle::Hash;
use crate::names::Names;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What an info dictionary says of itself before its piece layers are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dictionary {
    /// Its hash by each version that it has a part of.
    pub info_hashes: InfoHashes,
    /// The roots of the v2 files of several pieces, in order, each once: their piece layers are needed.
    pub missing: Vec<MissingLayer>,
}

/// A file whose piece layer is needed to verify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingLayer {
    /// The root of the file's tree.
    pub root: Hash,
    /// Bytes of the file, more than a piece.
    pub length: u64,
    /// Bytes of a piece.
    pub piece_length: u32,
}

impl MissingLayer {
    /// How many hashes the layer has: one for each piece.
    #[must_use]
    pub const fn pieces(&self) -> u64 {
        self.length.div_ceil(self.piece_length as u64)
    }
}

/// Whether `info` is the info dictionary that `hashes` name: every hash must hold.
#[must_use]
pub fn is_named(info: &[u8], hashes: &InfoHashes) -> bool {
    let v1 = hashes.v1().is_none_or(|hash| hash == v1_of(info));
    v1 && hashes.v2().is_none_or(|hash| hash == v2_of(info))
}

fn v1_of(info: &[u8]) -> InfoHashV1 {
    InfoHashV1(Sha1::digest(info).into())
}

fn v2_of(info: &[u8]) -> InfoHashV2 {
    InfoHashV2(Sha256::digest(info).into())
}

impl Dictionary {
    /// Reads an info dictionary as far as it takes to know what else is needed.
    ///
    /// # Errors
    /// Why no torrent with this info dictionary is accepted. Others are found when the whole is parsed.
    pub fn read(info: &[u8], limits: Limits) -> Result<Self, Error> {
        let document = decode(info, limits)?;
        let root = document.root();
        let (field, expected) = ("info", "a dictionary");
        let malformed = || Error::Malformed { field, expected };
        root.as_dict().ok_or_else(malformed)?;
        if !document.rest().is_empty() {
            return Err(malformed());
        }
        let (v1, v2) = info::parts(root)?;
        let missing = if v2 { missing(root)? } else { Vec::new() };
        let info_hashes = InfoHashes::new(v1.then(|| v1_of(info)), v2.then(|| v2_of(info)));
        Ok(Dictionary {
            info_hashes: info_hashes.ok_or(Error::Missing("pieces"))?,
            missing,
        })
    }
}

fn missing(root: Value<'_>) -> Result<Vec<MissingLayer>, Error> {
    let piece_length = info::piece_length(root, true)?;
    let mut names = Names::new();
    let tree = root.get("file tree").ok_or(Error::Missing("file tree"))?;
    let files = list::v2(tree, &mut names)?;
    // Bounds the number of pieces, and with that what is asked for.
    info::layout(&files, piece_length, true)?;
    let mut missing: Vec<MissingLayer> = Vec::new();
    let mut seen = BTreeMap::new();
    for file in files {
        let Some(root) = file.root.filter(|_| file.length > u64::from(piece_length)) else {
            continue;
        };
        match seen.insert(root, file.length) {
            None => missing.push(MissingLayer {
                root,
                length: file.length,
                piece_length,
            }),
            Some(length) if length == file.length => {}
            // One tree has one length: for one of them there is no layer at all.
            Some(_) => {
                return Err(Error::WrongPieceLayer(
                    file.place
                        .map(|place| names.display(place))
                        .unwrap_or_default(),
                ));
            }
        }
    }
    Ok(missing)
}

/// The bytes of a .torrent file around an info dictionary, with the piece layers and trackers that are known.
#[must_use]
pub fn torrent_file(
    info: &[u8],
    layers: &BTreeMap<Hash, Vec<Hash>>,
    trackers: &[TrackerUrl],
    web_seeds: &[String],
) -> Vec<u8> {
    let mut entries = vec![("info", Bencode::Raw(info.to_vec()))];
    if !layers.is_empty() {
        let layers = layers
            .iter()
            .map(|(root, layer)| (root.to_vec(), Bencode::from(layer.as_flattened())));
        entries.push(("piece layers", Bencode::dict(layers)));
    }
    let url = |tracker: &TrackerUrl| Bencode::from(tracker.url.as_str());
    if let Some(first) = trackers.first() {
        let tiers = trackers
            .iter()
            .map(|tracker| Bencode::List(vec![url(tracker)]));
        entries.push(("announce-list", Bencode::List(tiers.collect())));
        entries.push(("announce", url(first)));
    }
    if !web_seeds.is_empty() {
        let urls = web_seeds.iter().map(|url| Bencode::from(url.as_str()));
        entries.push(("url-list", Bencode::List(urls.collect())));
    }
    Bencode::dict(entries).encode()
}
