//! Transmission 2.20 to 4.1: `torrents/*.torrent` and `*.magnet`, and a `.resume` file of the same name in `resume/`.
//!
//! It verifies a piece again before it sends it, where a file has changed since. So a piece is taken over as verified where all its
//! blocks are there and it was checked; each file's time tells whether it has changed.

use crate::error::{Fault, ImportError, Unread};
use crate::fields::{self, loose};
use crate::imported::{
    Have, Imported, Limit, Modified, Note, Priority, Run, ShareLimits, Stamp, Torrent,
};
use crate::limits::MAX_FILE_BYTES;
use crate::places::Places;
use crate::{Client, disk};
use shoal_metainfo::bencode::{Limits, Value, decode};
use shoal_metainfo::{
    BLOCK_LENGTH, Bitfield, FileIndex, InfoHashV1, InfoHashes, Magnet, Metainfo, PieceIndex,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is behind the names of files that are not complete, unless somebody has switched that off.
const UNFINISHED_SUFFIX: &str = ".part";

/// How long after its check a piece may still be in its cache, in seconds: it is written when the file is complete, or nothing more comes.
const FLUSH_WITHIN_S: i64 = 60;

/// The torrent of a `.torrent` file and of its `.resume` file, which may be absent. Up to version 3, magnets are such files too.
///
/// # Errors
/// Why it cannot be taken over.
pub fn torrent(torrent: &[u8], resume: Option<&[u8]>) -> Result<Imported, Fault> {
    let magnet = {
        let document = decode(torrent, Limits::LOCAL)?;
        let link = document.root().get("magnet-info");
        link.map(|link| old_magnet(document.root(), link))
            .transpose()?
    };
    let torrent = match magnet {
        Some(magnet) => Torrent::Magnet(Box::new(magnet)),
        None => Torrent::File {
            bytes: torrent.to_vec(),
            metainfo: Arc::new(Metainfo::parse(torrent, Limits::LOCAL)?),
        },
    };
    resumed(torrent, resume)
}

/// The torrent of a `.magnet` file, which has a link in it, and of its `.resume` file.
///
/// # Errors
/// Why it cannot be taken over.
pub fn magnet(link: &[u8], resume: Option<&[u8]>) -> Result<Imported, Fault> {
    let link = std::str::from_utf8(link).map_err(|_| Fault::Form("a magnet link"))?;
    resumed(Torrent::Magnet(Box::new(Magnet::parse(link)?)), resume)
}

/// A magnet as a .torrent file without an info dictionary.
fn old_magnet(root: Value<'_>, link: Value<'_>) -> Result<Magnet, Fault> {
    let hash = link.get("info_hash").and_then(|hash| hash.as_bytes());
    let hash = hash.and_then(|hash| hash.try_into().ok());
    let hashes = InfoHashes::new(hash.map(InfoHashV1), None).ok_or(Fault::NoTorrent)?;
    let mut magnet = Magnet::new(hashes);
    magnet.name = fields::text(link.get("display-name"));
    let mut urls = fields::Urls::default();
    let tiers = root.get("announce-list").and_then(|list| list.as_list());
    let listed = tiers
        .into_iter()
        .flatten()
        .filter_map(|tier| tier.as_list());
    let all = listed.flatten().chain(root.get("announce"));
    for tracker in all.filter_map(|url| urls.tracker(url.as_bytes()?)) {
        if !magnet.trackers.contains(&tracker) {
            magnet.trackers.push(tracker);
        }
    }
    Ok(magnet)
}

fn resumed(torrent: Torrent, resume: Option<&[u8]>) -> Result<Imported, Fault> {
    let mut imported = Imported::new(torrent);
    let Some(resume) = resume else {
        imported.notes.extend([Note::NoFolder, Note::NoResumeData]);
        return Ok(imported);
    };
    let document = decode(resume, Limits::LOCAL)?;
    let root = document.root();
    if root.as_dict().is_none() {
        return Err(Fault::Form("a dictionary"));
    }
    imported.tags = fields::tags(root.get("labels"));
    imported.run = match fields::flag(root.get("paused")) {
        true => Run::Paused,
        false => Run::Queued,
    };
    imported.uploaded_bytes = fields::bytes(root.get("uploaded"));
    imported.downloaded_bytes = fields::bytes(root.get("downloaded"));
    imported.seeding_s = fields::bytes(loose(root, "seeding-time-seconds"));
    imported.added_at = fields::time(loose(root, "added-date"));
    imported.completed_at = fields::time(loose(root, "done-date"));
    imported.sequential = fields::flag(loose(root, "sequential-download"));
    imported.upload_bytes_per_s = rate(root, "speed-limit-up");
    imported.download_bytes_per_s = rate(root, "speed-limit-down");
    imported.share_limits = share_limits(root);
    let destination = fields::folder(root.get("destination")).unwrap_or_default();
    imported.folder.clone_from(&destination);
    if let Torrent::File { metainfo, .. } = &imported.torrent {
        let metainfo = Arc::clone(metainfo);
        let name = fields::text(root.get("name"));
        imported.name = name.filter(|name| name != metainfo.name());
        apply_content(root, &metainfo, &mut imported);
    }
    // It looks for each file in both folders.
    let incomplete = fields::folder(loose(root, "incomplete-dir"));
    if let Some(folder) = incomplete.filter(|_| imported.have != Have::All) {
        imported.folder = folder;
        imported.completed_folder = Some(destination);
    }
    imported.notes.extend(fields::note_folder(&imported.folder));
    Ok(imported)
}

fn rate(root: Value<'_>, key: &str) -> Option<u64> {
    let limit = loose(root, key)?;
    let used = fields::flag(loose(limit, "use-speed-limit"));
    fields::rate(loose(limit, "speed-Bps")).filter(|_| used)
}

/// Modes are 0 for what the session says, 1 for a limit of its own and 2 for none.
fn share_limits(root: Value<'_>) -> ShareLimits {
    fn limit<T>(mode: Option<Value<'_>>, own: Option<Limit<T>>) -> Limit<T> {
        match mode.and_then(|mode| mode.as_int()) {
            Some(1) => own.unwrap_or(Limit::Inherited),
            Some(2) => Limit::Unlimited,
            _ => Limit::Inherited,
        }
    }
    let mut limits = ShareLimits::default();
    let ratio = loose(root, "ratio-limit").or_else(|| loose(root, "seed-ratio-limit"));
    if let Some(dict) = ratio {
        let own = loose(dict, "ratio-limit").or_else(|| loose(dict, "seed-ratio-limit"));
        let own = fields::real(own).and_then(fields::ratio);
        limits.ratio = limit(loose(dict, "ratio-mode"), own);
    }
    if let Some(dict) = loose(root, "idle-limit") {
        let own = loose(dict, "idle-limit").and_then(|minutes| minutes.as_int());
        limits.idle_s = limit(loose(dict, "idle-mode"), own.and_then(fields::minutes));
    }
    limits
}

/// The items of a list that must have as many as there are files.
fn for_files<'a>(list: Option<Value<'a>>, metainfo: &Metainfo) -> Option<Vec<Value<'a>>> {
    let files = metainfo.files().len();
    let items: Vec<_> = list?.as_list()?.take(files + 1).collect();
    (items.len() == files).then_some(items)
}

fn apply_content(root: Value<'_>, metainfo: &Metainfo, imported: &mut Imported) {
    let names = for_files(root.get("files"), metainfo).unwrap_or_default();
    let places = Places::new(metainfo, &imported.folder, |file| {
        let name = names.get(file.get())?.as_bytes()?;
        (!name.is_empty()).then_some(name)
    });
    let lost = places.store(imported);
    imported.unfinished_suffix = Some(UNFINISHED_SUFFIX);

    let unwanted = for_files(root.get("dnd"), metainfo).unwrap_or_default();
    let priorities = for_files(root.get("priority"), metainfo).unwrap_or_default();
    let priority = |file: FileIndex| {
        if fields::flag(unwanted.get(file.get()).copied()) {
            return Priority::Skip;
        }
        match priorities.get(file.get()).and_then(|value| value.as_int()) {
            Some(1..) => Priority::High,
            _ => Priority::Normal,
        }
    };
    let files = (0..).map(FileIndex).take(metainfo.files().len());
    imported.priorities = fields::unusual(files.map(|file| (file, priority(file))));

    let progress = root.get("progress");
    let blocks = progress.and_then(|progress| complete_pieces(progress, metainfo));
    let Some((progress, mut there)) = progress.zip(blocks) else {
        imported.notes.push(Note::NoPieces);
        return;
    };
    for file in lost {
        fields::take(&mut there, metainfo.pieces_of(file));
    }
    let mut verified = there.clone();
    if let Some(checked) = checked_pieces(progress, metainfo) {
        let unchecked: Vec<_> = verified.difference(&checked).collect();
        fields::take(&mut verified, unchecked.into_iter().map(|piece| piece.0));
    }
    stamp_files(progress, metainfo, &mut verified, imported);
    imported.have = Have::of(verified, there);
}

/// The pieces of which every block is there.
fn complete_pieces(progress: Value<'_>, metainfo: &Metainfo) -> Option<Bitfield> {
    let layout = metainfo.layout();
    let pieces = layout.piece_count();
    let blocks = progress.get("blocks").or_else(|| progress.get("bitfield"));
    let bytes = blocks?.as_bytes()?;
    match bytes {
        b"" | b"none" => return Some(Bitfield::empty(pieces)),
        b"all" => return Some(Bitfield::full(pieces)),
        _ => {}
    }
    // Blocks are counted through the whole content, which has no gaps in the versions of torrents that Transmission knows.
    let block = u64::from(BLOCK_LENGTH);
    let count = layout.total_length().div_ceil(block);
    if u64::try_from(bytes.len()).ok()? != count.div_ceil(8) {
        return None;
    }
    let has = |number: u64| {
        let byte = usize::try_from(number / 8)
            .ok()
            .and_then(|at| bytes.get(at));
        byte.is_some_and(|byte| byte & (0x80 >> (number % 8)) != 0)
    };
    let mut complete = Bitfield::empty(pieces);
    for piece in layout.pieces() {
        let range = layout.range_of(piece);
        let end = range.end.min(layout.total_length());
        if (range.start / block..end.div_ceil(block)).all(has) {
            complete.insert(piece);
        }
    }
    Some(complete)
}

/// The pieces that were checked since their files last changed, which version 4 writes.
fn checked_pieces(progress: Value<'_>, metainfo: &Metainfo) -> Option<Bitfield> {
    let pieces = metainfo.layout().piece_count();
    match progress.get("pieces")?.as_bytes()? {
        b"" | b"none" => Some(Bitfield::empty(pieces)),
        b"all" => Some(Bitfield::full(pieces)),
        bytes => Some(fields::bits(bytes, pieces).unwrap_or_else(|| Bitfield::empty(pieces))),
    }
}

/// Keeps when each file was modified (versions before 2.20 and from 4 on) or checked (between). Where that is by piece, those pieces
/// that were not checked are no longer verified.
fn stamp_files(
    progress: Value<'_>,
    metainfo: &Metainfo,
    verified: &mut Bitfield,
    imported: &mut Imported,
) {
    let modified = for_files(progress.get("mtimes"), metainfo);
    let checked = for_files(loose(progress, "time-checked"), metainfo);
    for (index, file) in (0..).map(FileIndex).zip(metainfo.files()) {
        let modified = modified.as_ref().and_then(|times| times.get(index.get()));
        let checked = checked.as_ref().and_then(|times| times.get(index.get()));
        let modified = match (modified, checked) {
            (Some(time), _) => fields::time(Some(*time)).map(Modified::At),
            (None, Some(time)) => {
                let time = match time.as_list() {
                    Some(times) => bound_of_checks(times, metainfo.pieces_of(index), verified),
                    None => fields::time(Some(*time)),
                };
                time.map(Modified::NotAfter)
            }
            (None, None) => None,
        };
        if modified.is_none() && file.length > 0 {
            fields::take(verified, metainfo.pieces_of(index));
        }
        if modified.is_some() {
            let length = None;
            imported.stamps.insert(index, Stamp { length, modified });
        }
    }
}

/// The bound that a list gives: a base, and for each piece 0 or how long after the base it was checked. Pieces of a file that came one after
/// the other were checked as they came, so that the file is as old as its last piece; those that were checked together tell exactly.
fn bound_of_checks<'a>(
    mut times: impl Iterator<Item = Value<'a>>,
    pieces: std::ops::Range<u32>,
    verified: &mut Bitfield,
) -> Option<i64> {
    let base = times.next()?.as_int()?;
    let mut span: Option<(i64, i64)> = None;
    for piece in pieces {
        let after = times.next().and_then(|after| after.as_int()).unwrap_or(0);
        if after <= 0 {
            verified.remove(PieceIndex(piece));
            continue;
        }
        let time = base.saturating_add(after);
        let (oldest, newest) = span.unwrap_or((time, time));
        span = Some((oldest.min(time), newest.max(time)));
    }
    let (oldest, newest) = span.filter(|(oldest, _)| *oldest > 0)?;
    Some(match oldest == newest {
        true => newest,
        false => newest.saturating_add(FLUSH_WITHIN_S),
    })
}

/// The `.torrent` and `.magnet` files of the session in `folder`.
pub(crate) fn find(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let torrents = folder.join("torrents");
    match torrents.is_dir() {
        true => disk::list(&torrents, &["torrent", "magnet"]),
        false => Err(disk::nothing(Client::Transmission, folder)),
    }
}

/// Reads one of these files, and its `.resume` file.
pub(crate) fn read(path: PathBuf) -> Result<Imported, Unread> {
    let all = || {
        let bytes = disk::read(&path, MAX_FILE_BYTES)?;
        let name = path.with_extension("resume");
        let folder = path.parent().and_then(Path::parent).unwrap_or(&path);
        let resume = folder
            .join("resume")
            .join(name.file_name().unwrap_or_default());
        let saved_at = disk::modified_at(&resume);
        let resume = disk::read_if_there(&resume, MAX_FILE_BYTES)?;
        let is_link = path
            .extension()
            .is_some_and(|extension| extension == "magnet");
        if is_link {
            return magnet(&bytes, resume.as_deref());
        }
        let mut imported = torrent(&bytes, resume.as_deref())?;
        imported.written_until(saved_at);
        Ok(imported)
    };
    all().map_err(|fault| Unread::new(path, fault))
}

#[cfg(test)]
mod tests;
