//! libtorrent's resume data, which qBittorrent and Deluge keep (versions 1 and 2 of its format).
//!
//! Its files are counted with the padding that it puts behind each file of a v2 torrent, whether the torrent has that or not.

mod layers;

use crate::error::Fault;
use crate::fields::{self, Urls};
use crate::imported::{Have, Imported, Modified, Note, Priority, Run, Stamp, Torrent};
use crate::places::Places;
use shoal_metainfo::bencode::{Limits, Value};
use shoal_metainfo::metainfo::TrackerUrl;
use shoal_metainfo::{
    Bitfield, FileIndex, InfoHashV1, InfoHashV2, InfoHashes, Magnet, Metainfo, PieceIndex,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The priority from which on files come before others: 4 is libtorrent's default, 1 what qBittorrent calls normal.
const HIGH: i64 = 5;

/// Which torrent the resume data is for: of a hash that there is none of it has only zeros.
pub(crate) fn info_hashes(root: Value<'_>) -> Option<InfoHashes> {
    fn hash<const N: usize>(root: Value<'_>, key: &str) -> Option<[u8; N]> {
        let bytes: [u8; N] = root.get(key)?.as_bytes()?.try_into().ok()?;
        (bytes != [0; N]).then_some(bytes)
    }
    let v1 = hash(root, "info-hash").map(InfoHashV1);
    InfoHashes::new(v1, hash(root, "info-hash2").map(InfoHashV2))
}

/// What the resume data `root` and the .torrent file beside it are for. That file may lack what the resume data has: the piece layers,
/// or everything.
pub(crate) fn torrent(root: Value<'_>, file: Option<&[u8]>) -> Result<Torrent, Fault> {
    let hashes = info_hashes(root);
    let Some(bytes) = file.map(<[u8]>::to_vec).or_else(|| rebuilt(root)) else {
        return Ok(Torrent::Magnet(Box::new(magnet(
            root,
            hashes.ok_or(Fault::NoTorrent)?,
        ))));
    };
    let (bytes, metainfo) = match Metainfo::parse(&bytes, Limits::LOCAL) {
        Ok(metainfo) => (bytes, metainfo),
        Err(refused) => {
            let bytes = layers::complete(root, &bytes).ok_or(refused)?;
            let metainfo = Metainfo::parse(&bytes, Limits::LOCAL)?;
            (bytes, metainfo)
        }
    };
    let own = metainfo.info_hashes();
    let differs = |hashes: InfoHashes| {
        hashes.v1().is_some_and(|hash| own.v1() != Some(hash))
            || hashes.v2().is_some_and(|hash| own.v2() != Some(hash))
    };
    if hashes.is_some_and(differs) {
        return Err(Fault::OtherTorrent);
    }
    let metainfo = Arc::new(metainfo);
    Ok(Torrent::File { bytes, metainfo })
}

/// A .torrent file of the info dictionary in the resume data, if that is there.
fn rebuilt(root: Value<'_>) -> Option<Vec<u8>> {
    let info = root.get("info").filter(|info| info.as_dict().is_some())?;
    Some([b"d4:info".as_slice(), info.raw(), b"e"].concat())
}

fn magnet(root: Value<'_>, info_hashes: InfoHashes) -> Magnet {
    let mut magnet = Magnet::new(info_hashes);
    let mut urls = Urls::default();
    magnet.name = fields::text(root.get("name"));
    magnet.trackers = trackers(root, &mut urls).unwrap_or_default().concat();
    magnet.web_seeds = web_seeds(root, &mut Urls::default()).unwrap_or_default();
    magnet
}

/// Puts everything else into `imported`.
pub(crate) fn apply(root: Value<'_>, imported: &mut Imported) {
    imported.folder = fields::folder(root.get("save_path")).unwrap_or_default();
    imported.notes.extend(fields::note_folder(&imported.folder));
    imported.uploaded_bytes = fields::bytes(root.get("total_uploaded"));
    imported.downloaded_bytes = fields::bytes(root.get("total_downloaded"));
    imported.seeding_s = fields::bytes(root.get("seeding_time"));
    imported.added_at = fields::time(root.get("added_time"));
    imported.completed_at = fields::time(root.get("completed_time"));
    imported.upload_bytes_per_s = fields::rate(root.get("upload_rate_limit"));
    imported.download_bytes_per_s = fields::rate(root.get("download_rate_limit"));
    imported.sequential = fields::flag(root.get("sequential_download"));
    imported.super_seeding = fields::flag(root.get("super_seeding"));
    let paused = fields::flag(root.get("paused"));
    let managed = root.get("auto_managed").is_none() || fields::flag(root.get("auto_managed"));
    imported.run = match (paused, managed) {
        (true, false) => Run::Paused,
        (false, false) => Run::Forced,
        (_, true) => Run::Queued,
    };
    if let Torrent::File { metainfo, .. } = &imported.torrent {
        let metainfo = Arc::clone(metainfo);
        apply_content(root, &metainfo, imported);
        apply_sources(root, &metainfo, imported);
    }
}

/// What is about files and pieces.
fn apply_content(root: Value<'_>, metainfo: &Metainfo, imported: &mut Imported) {
    let numbers = numbers(metainfo);
    let renamed = list(root, "mapped_files");
    let places = Places::new(metainfo, &imported.folder, |file| {
        let name = renamed.get(*numbers.get(&file)?)?.as_bytes()?;
        (!name.is_empty()).then_some(name)
    });
    let lost = places.store(imported);
    let priorities = list(root, "file_priority");
    imported.priorities = unusual(&numbers, |number| priorities.get(number)?.as_int());
    match have(root, metainfo.layout().piece_count()) {
        Some((mut verified, mut doubtful)) => {
            let shared = shared_with_skipped(metainfo, &imported.priorities);
            for piece in fields::take(&mut verified, shared) {
                doubtful.insert(piece);
            }
            for file in lost {
                fields::take(&mut verified, metainfo.pieces_of(file));
                fields::take(&mut doubtful, metainfo.pieces_of(file));
            }
            imported.have = Have::of(verified, doubtful);
        }
        None => imported.notes.push(Note::NoPieces),
    }
    imported.stamps = stamps(root, &numbers, imported.have == Have::All);
}

/// What is about trackers and web seeds. An empty list says that all were removed, none that there is nothing to say.
fn apply_sources(root: Value<'_>, metainfo: &Metainfo, imported: &mut Imported) {
    let mut tracker_urls = Urls::default();
    let mut seed_urls = Urls::default();
    imported.trackers =
        trackers(root, &mut tracker_urls).filter(|tiers| tiers.as_slice() != metainfo.trackers());
    imported.web_seeds =
        web_seeds(root, &mut seed_urls).filter(|seeds| seeds.as_slice() != metainfo.web_seeds());
    tracker_urls.left_out += seed_urls.left_out;
    imported.notes.extend(tracker_urls.note());
}

/// The files that are not as files are. `of` gives the priority of a file by libtorrent's number of it.
pub(crate) fn priorities(
    metainfo: &Metainfo,
    of: impl Fn(usize) -> Option<i64>,
) -> BTreeMap<FileIndex, Priority> {
    unusual(&numbers(metainfo), of)
}

fn unusual(
    numbers: &BTreeMap<FileIndex, usize>,
    of: impl Fn(usize) -> Option<i64>,
) -> BTreeMap<FileIndex, Priority> {
    let known = |(&file, &number)| Some((file, priority(of(number)?)));
    fields::unusual(numbers.iter().filter_map(known))
}

fn priority(number: i64) -> Priority {
    match number {
        ..=0 => Priority::Skip,
        1..HIGH => Priority::Normal,
        HIGH.. => Priority::High,
    }
}

/// The pieces that a file that is skipped has in common with one that is not. What of them lies in the former may be in a file
/// `.HASH.parts` instead, which is libtorrent's own.
fn shared_with_skipped(
    metainfo: &Metainfo,
    priorities: &BTreeMap<FileIndex, Priority>,
) -> Vec<u32> {
    let mut shared = Vec::new();
    let mut before: Option<(u32, bool)> = None;
    for (index, file) in (0..).map(FileIndex).zip(metainfo.files()) {
        let pieces = metainfo.pieces_of(index);
        if file.padding || pieces.is_empty() {
            continue;
        }
        let skipped = priorities.get(&index) == Some(&Priority::Skip);
        if before.is_some_and(|(last, other)| last == pieces.start && other != skipped) {
            shared.push(pieces.start);
        }
        before = Some((pieces.end - 1, skipped));
    }
    shared
}

/// The items of a list, none where there is no list.
fn list<'a>(root: Value<'a>, key: &str) -> Vec<Value<'a>> {
    let items = root.get(key).and_then(|list| list.as_list());
    items.into_iter().flatten().collect()
}

/// libtorrent's number of each of our files that is no padding.
fn numbers(metainfo: &Metainfo) -> BTreeMap<FileIndex, usize> {
    let piece_length = u64::from(metainfo.layout().piece_length());
    let v2_only = metainfo.info_hashes().v1().is_none();
    let mut numbers = BTreeMap::new();
    let mut next = 0;
    for (index, file) in (0..).map(FileIndex).zip(metainfo.files()) {
        if !file.padding {
            numbers.insert(index, next);
        }
        let padded = v2_only && file.length % piece_length != 0;
        next += 1 + usize::from(padded);
    }
    numbers
}

/// The pieces that are verified and those that may be there. `None` where it does not say.
fn have(root: Value<'_>, len: u32) -> Option<(Bitfield, Bitfield)> {
    let bytes = root.get("pieces")?.as_bytes()?;
    let bytewise = fields::bytes(root.get("file-version")) != 2;
    let marked = |bytes: &[u8], mark: u8| {
        if bytes.len() != len as usize {
            return None;
        }
        let mut set = Bitfield::empty(len);
        for (piece, _) in (0..).zip(bytes).filter(|(_, byte)| **byte & mark != 0) {
            set.insert(PieceIndex(piece));
        }
        Some(set)
    };
    let set = match bytewise {
        true => marked(bytes, 1)?,
        false => fields::bits(bytes, len)?,
    };
    if !fields::flag(root.get("seed_mode")) {
        return Some((set, Bitfield::empty(len)));
    }
    // Somebody has said that all is there, and what has been asked for since was verified.
    let verified = match bytewise {
        true => marked(bytes, 2),
        false => root
            .get("verified")
            .and_then(|bytes| fields::bits(bytes.as_bytes()?, len)),
    };
    let verified = verified.unwrap_or_else(|| Bitfield::empty(len));
    Some((verified, Bitfield::full(len)))
}

/// Lengths and times of files, which versions before 1.2 wrote. While a torrent is incomplete, its files change.
fn stamps(
    root: Value<'_>,
    numbers: &BTreeMap<FileIndex, usize>,
    complete: bool,
) -> BTreeMap<FileIndex, Stamp> {
    let sizes = list(root, "file sizes");
    let stamp = |number: usize| {
        let mut pair = sizes.get(number)?.as_list()?;
        let length = u64::try_from(pair.next()?.as_int()?).ok();
        let modified = fields::time(pair.next()).filter(|_| complete);
        let modified = modified.map(Modified::At);
        Some(Stamp { length, modified })
    };
    let stamped = |(&file, &number)| Some((file, stamp(number)?));
    numbers.iter().filter_map(stamped).collect()
}

fn trackers(root: Value<'_>, urls: &mut Urls) -> Option<Vec<Vec<TrackerUrl>>> {
    let tiers = root.get("trackers")?.as_list()?;
    let mut tier = |tier: Value<'_>| -> Vec<TrackerUrl> {
        let items = tier.as_list().into_iter().flatten();
        items
            .filter_map(|url| urls.tracker(url.as_bytes()?))
            .collect()
    };
    Some(
        tiers
            .map(&mut tier)
            .filter(|tier| !tier.is_empty())
            .collect(),
    )
}

fn web_seeds(root: Value<'_>, urls: &mut Urls) -> Option<Vec<String>> {
    let seeds = root.get("url-list")?.as_list()?;
    let named = seeds.filter_map(|url| url.as_bytes().filter(|url| !url.is_empty()));
    Some(named.filter_map(|url| urls.web_seed(url)).collect())
}

#[cfg(test)]
mod tests;
