//! Writes the .torrent file of a plan once its pieces are hashed.

use super::{CreateError, PieceHash, Plan, PlannedFile};
use crate::bencode::{Bencode, Limits};
use crate::geometry::PieceIndex;
use crate::merkle;
use std::collections::BTreeMap;

type Dict = BTreeMap<Vec<u8>, Bencode>;

impl Plan {
    /// The bytes of the .torrent file, where `hashes` has one entry for each piece, in order.
    ///
    /// # Errors
    /// Where a hash is missing, or the file would be longer than readers accept.
    pub fn finish(&self, hashes: &[PieceHash]) -> Result<Vec<u8>, CreateError> {
        if hashes.len() != self.layout.piece_count() as usize {
            return Err(CreateError::HashCount {
                given: hashes.len(),
                needed: self.layout.piece_count(),
            });
        }
        let kind = self.options.kind;
        let (mut info, mut torrent) = (self.common_info(), self.outside_info());
        if kind.has_v1() {
            self.add_v1(&mut info, gather(hashes, |hash| hash.sha1)?);
        }
        if kind.has_v2() {
            let roots = gather(hashes, |hash| hash.root)?;
            let layers = self.add_v2(&mut info, &roots);
            put(&mut torrent, "piece layers", Bencode::Dict(layers));
        }
        put(&mut torrent, "info", Bencode::Dict(info));
        let bytes = Bencode::Dict(torrent).encode();
        if bytes.len() > Limits::LOCAL.bytes {
            return Err(CreateError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// What every kind of torrent has in its info dictionary.
    fn common_info(&self) -> Dict {
        let mut info = Dict::new();
        put(&mut info, "name", self.name.as_str());
        put(&mut info, "piece length", self.layout.piece_length());
        if self.options.private {
            put(&mut info, "private", 1u32);
        }
        put_text(&mut info, "source", self.options.source.as_deref());
        info
    }

    fn add_v1(&self, info: &mut Dict, hashes: Vec<[u8; 20]>) {
        put(info, "pieces", hashes.into_flattened());
        match self.files.as_slice() {
            [file] if self.is_single_file() => {
                put(info, "length", int(file.length));
                self.put_attributes(info, file);
            }
            files => {
                let files: Vec<Bencode> = files.iter().map(|file| self.v1_file(file)).collect();
                put(info, "files", files);
            }
        }
    }

    fn v1_file(&self, file: &PlannedFile) -> Bencode {
        let path = match file.source {
            Some(source) => components(&self.sources[source].path),
            None => vec![".pad".into(), file.length.to_string().into()],
        };
        let mut entry = Dict::new();
        put(&mut entry, "length", int(file.length));
        put(&mut entry, "path", path);
        self.put_attributes(&mut entry, file);
        Bencode::Dict(entry)
    }

    /// Adds the file tree and returns the piece layers, by file root.
    fn add_v2(&self, info: &mut Dict, roots: &[[u8; 32]]) -> Dict {
        let (mut tree, mut layers) = (FileTree::default(), Dict::new());
        for file in &self.files {
            let Some(source) = file.source.map(|at| &self.sources[at]) else {
                continue;
            };
            let layer = self.layer_of(file, roots);
            let root = merkle::root_from_piece_layer(layer, self.layout.piece_length());
            let mut leaf = Dict::new();
            self.put_attributes(&mut leaf, file);
            if source.symlink.is_none() {
                put(&mut leaf, "length", int(file.length));
            }
            if !layer.is_empty() {
                put(&mut leaf, "pieces root", &root[..]);
            }
            if layer.len() > 1 {
                layers.insert(root.to_vec(), layer.as_flattened().into());
            }
            match source.path.as_slice() {
                [] => tree.add(core::slice::from_ref(&self.name), leaf),
                path => tree.add(path, leaf),
            }
        }
        put(info, "file tree", tree.finish());
        put(info, "meta version", 2u32);
        layers
    }

    /// The hashes of the pieces of `file`, which begins with a piece of its own.
    fn layer_of<'a>(&self, file: &PlannedFile, roots: &'a [[u8; 32]]) -> &'a [[u8; 32]] {
        let piece_length = u64::from(self.layout.piece_length());
        let index = |piece: u64| usize::try_from(piece).unwrap_or(usize::MAX);
        let first = index(file.offset / piece_length);
        let count = index(file.length.div_ceil(piece_length));
        roots.get(first..first.saturating_add(count)).unwrap_or(&[])
    }

    /// BEP 47's attributes, in libtorrent's order.
    fn put_attributes(&self, entry: &mut Dict, file: &PlannedFile) {
        let Some(source) = file.source.map(|at| &self.sources[at]) else {
            put(entry, "attr", "p");
            return;
        };
        let flags = [
            (source.hidden, 'h'),
            (source.executable, 'x'),
            (source.symlink.is_some(), 'l'),
        ];
        let attributes: String = flags
            .into_iter()
            .filter_map(|(set, letter)| set.then_some(letter))
            .collect();
        put_text(entry, "attr", Some(&attributes));
        if let Some(target) = &source.symlink {
            put(entry, "symlink path", components(target));
        }
    }

    /// What is not part of the torrent's identity.
    fn outside_info(&self) -> Dict {
        let options = &self.options;
        let mut torrent = Dict::new();
        let tiers = distinct_tiers(&options.trackers);
        put_text(
            &mut torrent,
            "announce",
            tiers.first().and_then(|tier| tier.first().copied()),
        );
        if tiers.iter().map(Vec::len).sum::<usize>() > 1 {
            let tiers: Vec<Bencode> = tiers.into_iter().map(|tier| list(tier).into()).collect();
            put(&mut torrent, "announce-list", tiers);
        }
        put_text(&mut torrent, "comment", options.comment.as_deref());
        put_text(&mut torrent, "created by", options.created_by.as_deref());
        if let Some(date) = options.creation_date {
            put(&mut torrent, "creation date", int(date));
        }
        match options.web_seeds.as_slice() {
            [] => {}
            [url] => put(&mut torrent, "url-list", url.as_str()),
            urls => put(&mut torrent, "url-list", components(urls)),
        }
        torrent
    }

    fn is_single_file(&self) -> bool {
        self.sources.iter().all(|source| source.path.is_empty())
    }
}

/// A file tree, written as its files come in tree order, so that paths of any depth need no recursion.
#[derive(Default)]
struct FileTree<'a> {
    encoded: Vec<u8>,
    /// The directories that are open, the last file's own dictionary included.
    open: &'a [String],
}

impl<'a> FileTree<'a> {
    fn add(&mut self, path: &'a [String], leaf: Dict) {
        let shared = self
            .open
            .iter()
            .zip(path)
            .take_while(|(a, b)| a == b)
            .count();
        self.close(self.open.len() - shared);
        for component in &path[shared..] {
            Bencode::from(component.as_str()).encode_into(&mut self.encoded);
            self.encoded.push(b'd');
        }
        Bencode::from("").encode_into(&mut self.encoded);
        Bencode::Dict(leaf).encode_into(&mut self.encoded);
        self.open = path;
    }

    fn close(&mut self, dictionaries: usize) {
        self.encoded
            .extend(core::iter::repeat_n(b'e', dictionaries));
    }

    fn finish(mut self) -> Bencode {
        self.close(self.open.len());
        self.encoded.insert(0, b'd');
        self.encoded.push(b'e');
        Bencode::Raw(self.encoded)
    }
}

/// One hash of each piece.
fn gather<T>(
    hashes: &[PieceHash],
    of: impl Fn(&PieceHash) -> Option<T>,
) -> Result<Vec<T>, CreateError> {
    (0u32..)
        .zip(hashes)
        .map(|(piece, hash)| of(hash).ok_or(CreateError::HashMissing(PieceIndex(piece))))
        .collect()
}

/// The tiers without empty URLs and without any URL that was there before.
fn distinct_tiers(tiers: &[Vec<String>]) -> Vec<Vec<&str>> {
    let mut seen = std::collections::BTreeSet::new();
    let kept = tiers.iter().map(|tier| {
        let urls = tier.iter().map(String::as_str);
        urls.filter(|&url| !url.is_empty() && seen.insert(url))
            .collect()
    });
    let kept: Vec<Vec<&str>> = kept.collect();
    kept.into_iter().filter(|tier| !tier.is_empty()).collect()
}

fn put(dict: &mut Dict, key: &str, value: impl Into<Bencode>) {
    dict.insert(key.as_bytes().to_vec(), value.into());
}

/// Puts what is there and not empty.
fn put_text(dict: &mut Dict, key: &str, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        put(dict, key, text);
    }
}

fn components(path: &[String]) -> Vec<Bencode> {
    list(path.iter().map(String::as_str))
}

fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Bencode> {
    texts.into_iter().map(Bencode::from).collect()
}

/// Bencode has no bound on integers; readers have this one, far above any length that a plan can have.
fn int(value: u64) -> Bencode {
    Bencode::Int(i64::try_from(value).unwrap_or(i64::MAX))
}
