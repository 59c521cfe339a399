//! rTorrent 0.9: in the session folder `HASH.torrent`, `HASH.torrent.rtorrent` and `HASH.torrent.libtorrent_resume`. Older versions
//! have all three in the first.

use crate::error::{Fault, ImportError, Unread};
use crate::fields::{self, Urls};
use crate::imported::{Have, Imported, Modified, Note, Priority, Run, Stamp, Torrent};
use crate::limits::{MAX_FILE_BYTES, MAX_STATE_BYTES};
use crate::places::Places;
use crate::{Client, disk};
use shoal_metainfo::bencode::{Limits, Value, decode};
use shoal_metainfo::metainfo::TrackerUrl;
use shoal_metainfo::{Bitfield, File, FileIndex, Magnet, Metainfo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// In place of a file's time: the torrent was active, and what the bits say is right but for the pieces named as uncertain.
const ACTIVE: i64 = !3;

/// In place of a file's time: there is no such file, and it is still to be made, or never.
const ABSENT: [i64; 2] = [!0, !1];

/// The torrent of the three files, of which the last two may be absent.
///
/// # Errors
/// Why it cannot be taken over.
pub fn torrent(
    torrent: &[u8],
    rtorrent: Option<&[u8]>,
    libtorrent_resume: Option<&[u8]>,
) -> Result<Imported, Fault> {
    let document = decode(torrent, Limits::LOCAL)?;
    let root = document.root();
    let settings = rtorrent
        .map(|bytes| decode(bytes, Limits::LOCAL))
        .transpose()?;
    let resume = libtorrent_resume
        .map(|bytes| decode(bytes, Limits::LOCAL))
        .transpose()?;
    let settings = settings.as_ref().map(|document| document.root());
    let resume = resume.as_ref().map(|document| document.root());
    let settings = settings.or_else(|| root.get("rtorrent"));
    let resume = resume.or_else(|| root.get("libtorrent_resume"));

    let link = root.get("magnet-uri").and_then(|link| link.as_str());
    let has_content = root
        .get("info")
        .is_some_and(|info| !fields::flag(info.get("meta_download")));
    let mut imported = Imported::new(match link {
        Some(link) if !has_content => Torrent::Magnet(Box::new(Magnet::parse(link)?)),
        _ => Torrent::File {
            bytes: torrent.to_vec(),
            metainfo: Arc::new(Metainfo::parse(torrent, Limits::LOCAL)?),
        },
    });
    let directory = settings.and_then(|settings| fields::folder(settings.get("directory")));
    imported.folder = directory.unwrap_or_default();
    if let Some(settings) = settings {
        apply_settings(settings, &mut imported);
    }
    if let Torrent::File { metainfo, .. } = &imported.torrent {
        let metainfo = Arc::clone(metainfo);
        let lost = apply_folder(&metainfo, &mut imported);
        match resume {
            Some(resume) => apply_resume(resume, &metainfo, &lost, &mut imported),
            None => imported.notes.push(Note::NoResumeData),
        }
    }
    imported.notes.extend(fields::note_folder(&imported.folder));
    Ok(imported)
}

fn apply_settings(settings: Value<'_>, imported: &mut Imported) {
    imported.run = match settings.get("state").and_then(|state| state.as_int()) {
        Some(0) => Run::Paused,
        _ => Run::Queued,
    };
    // ruTorrent, which is what most labels come from, encodes them as in URLs.
    let label = settings.get("custom1").and_then(|label| label.as_bytes());
    imported.category = label.and_then(|label| fields::shown(&unescaped(label)));
    imported.uploaded_bytes = fields::bytes(settings.get("total_uploaded"));
    imported.downloaded_bytes = fields::bytes(settings.get("total_downloaded"));
    let added = settings
        .get("custom")
        .and_then(|custom| custom.get("addtime"));
    let added = added.and_then(|time| time.as_str()?.trim().parse().ok());
    imported.added_at = added.filter(|&time: &i64| time > 0);
    imported.completed_at = fields::time(settings.get("timestamp.finished"));
}

/// Undoes percent-encoding; a `%` that begins no escape stands for itself.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| first == b'%');
        let escaped = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

/// The folder that rTorrent writes is that of the files themselves, the torrent's own one included, whatever that is called; their names
/// are as the torrent has them. Returns the files of which nobody knows where they are.
fn apply_folder(metainfo: &Metainfo, imported: &mut Imported) -> Vec<FileIndex> {
    let mut above = None;
    if metainfo.folder().is_some()
        && let Some(name) = imported.folder.file_name().and_then(|name| name.to_str())
    {
        above = Some(name.to_owned());
        imported.folder.pop();
    }
    let path = |file: &File| {
        let above = above.as_deref().map(str::as_bytes);
        let components = above.into_iter().chain(file.raw_path());
        let path = components.collect::<Vec<_>>().join(&b'/');
        std::str::from_utf8(&path).is_ok().then_some(path)
    };
    let paths: Vec<Option<Vec<u8>>> = metainfo.files().iter().map(path).collect();
    let places = Places::new(metainfo, &imported.folder, |file| {
        paths.get(file.get())?.as_deref()
    });
    places.store(imported)
}

fn apply_resume(
    resume: Value<'_>,
    metainfo: &Metainfo,
    lost: &[FileIndex],
    imported: &mut Imported,
) {
    let files = resume.get("files").and_then(|files| files.as_list());
    let files: Vec<Value<'_>> = files.into_iter().flatten().collect();
    let priorities = (0..).map(FileIndex).zip(&files).map(|(file, dict)| {
        let priority = match dict.get("priority").and_then(|number| number.as_int()) {
            Some(0) => Priority::Skip,
            Some(2..) => Priority::High,
            _ => Priority::Normal,
        };
        (file, priority)
    });
    imported.priorities = fields::unusual(priorities.take(metainfo.files().len()));
    apply_trackers(resume, metainfo, imported);

    let bits = bits(resume, metainfo.layout().piece_count());
    let Some(mut verified) = bits.filter(|_| files.len() == metainfo.files().len()) else {
        imported.notes.push(Note::NoPieces);
        return;
    };
    let mut doubtful = Bitfield::empty(verified.len());
    for (index, dict) in (0..).map(FileIndex).zip(&files) {
        let pieces = metainfo.pieces_of(index);
        let time = dict.get("mtime").and_then(|time| time.as_int());
        match time {
            Some(ACTIVE) => {}
            Some(time) if time > 0 => {
                let (length, modified) = (None, Some(Modified::At(time)));
                imported.stamps.insert(index, Stamp { length, modified });
            }
            absent => {
                let gone = absent.is_some_and(|time| ABSENT.contains(&time));
                for piece in fields::take(&mut verified, pieces) {
                    if !gone {
                        doubtful.insert(piece);
                    }
                }
            }
        }
    }
    for piece in fields::take(&mut verified, uncertain(resume)) {
        doubtful.insert(piece);
    }
    for &file in lost {
        fields::take(&mut verified, metainfo.pieces_of(file));
        fields::take(&mut doubtful, metainfo.pieces_of(file));
    }
    imported.have = Have::of(verified, doubtful);
}

/// The pieces: a set, or their number where there are all or none.
fn bits(resume: Value<'_>, len: u32) -> Option<Bitfield> {
    let field = resume.get("bitfield")?;
    match field.as_int() {
        Some(0) => Some(Bitfield::empty(len)),
        Some(count) if count == i64::from(len) => Some(Bitfield::full(len)),
        Some(_) => None,
        None => fields::bits(field.as_bytes()?, len),
    }
}

/// The pieces that came within the last quarter of an hour, and may not be on the disk.
fn uncertain(resume: Value<'_>) -> impl Iterator<Item = u32> {
    let bytes = resume
        .get("uncertain_pieces")
        .and_then(|bytes| bytes.as_bytes());
    let (pieces, _) = bytes.unwrap_or_default().as_chunks::<4>();
    pieces.iter().map(|piece| u32::from_be_bytes(*piece))
}

/// The metainfo's trackers without those that are switched off, and with those that were added to a tier.
fn apply_trackers(resume: Value<'_>, metainfo: &Metainfo, imported: &mut Imported) {
    let entries = resume
        .get("trackers")
        .and_then(|trackers| trackers.as_dict());
    let entries: BTreeMap<&[u8], Value<'_>> = entries.into_iter().flatten().collect();
    let is_on = |dict: &Value<'_>| dict.get("enabled").is_none_or(|on| fields::flag(Some(on)));
    let mut tiers: BTreeMap<u32, Vec<TrackerUrl>> = BTreeMap::new();
    for (number, tier) in (0..).zip(metainfo.trackers()) {
        let on = |tracker: &&TrackerUrl| entries.get(tracker.url.as_bytes()).is_none_or(is_on);
        tiers.insert(number, tier.iter().filter(on).cloned().collect());
    }
    let mut urls = Urls::default();
    for (url, dict) in &entries {
        let added = fields::flag(dict.get("extra_tracker")) && is_on(dict);
        // The DHT counts as a tracker, too.
        if !added || url.starts_with(b"dht:") {
            continue;
        }
        let group = dict.get("group").and_then(|group| group.as_int());
        let group = group
            .and_then(|group| u32::try_from(group).ok())
            .unwrap_or(u32::MAX);
        let tier = tiers.entry(group).or_default();
        tier.extend(urls.tracker(url));
    }
    let tiers: Vec<_> = tiers
        .into_values()
        .filter(|tier| !tier.is_empty())
        .collect();
    imported.notes.extend(urls.note());
    imported.trackers = (tiers.as_slice() != metainfo.trackers()).then_some(tiers);
}

/// The session folder that the configuration in `home` names, where it does so in plain words.
pub(crate) fn named_folder(home: &Path) -> Option<PathBuf> {
    let files = [".rtorrent.rc", ".config/rtorrent/rtorrent.rc"];
    let mut texts = files
        .iter()
        .filter_map(|file| disk::read(&home.join(file), MAX_STATE_BYTES).ok());
    let text = String::from_utf8(texts.next()?).ok()?;
    let mut folders = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        let is_session = matches!(
            key.trim(),
            "session.path.set" | "session" | "set_session" | "session.path"
        );
        let value = value.trim().trim_matches('"');
        // What is computed is not followed.
        (is_session && !value.is_empty() && !value.contains(['(', '$'])).then_some(value)
    });
    // The last one holds.
    let folder = folders.next_back()?;
    let below_home = folder.strip_prefix("~/").map(|below| home.join(below));
    Some(below_home.unwrap_or_else(|| home.join(folder)))
}

/// The `.torrent` files of the session in `folder`: their names are info hashes.
pub(crate) fn find(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    if !folder.is_dir() {
        return Err(disk::nothing(Client::RTorrent, folder));
    }
    let mut files = disk::list(folder, &["torrent"])?;
    files.retain(|file| {
        let name = file.file_stem().unwrap_or_default().as_encoded_bytes();
        name.len() == 40 && name.iter().all(u8::is_ascii_hexdigit)
    });
    match files.is_empty() {
        true => Err(disk::nothing(Client::RTorrent, folder)),
        false => Ok(files),
    }
}

/// Reads one of these files, and those beside it.
pub(crate) fn read(path: PathBuf) -> Result<Imported, Unread> {
    let all = || {
        let beside =
            |suffix| disk::read_if_there(&disk::with_suffix(&path, suffix), MAX_FILE_BYTES);
        let bytes = disk::read(&path, MAX_FILE_BYTES)?;
        let settings = beside(".rtorrent")?;
        let resume = beside(".libtorrent_resume")?;
        let mut imported = torrent(&bytes, settings.as_deref(), resume.as_deref())?;
        let resume = disk::with_suffix(&path, ".libtorrent_resume");
        imported.saved_at(disk::modified_at(&resume).or_else(|| disk::modified_at(&path)));
        Ok(imported)
    };
    all().map_err(|fault| Unread::new(path, fault))
}

#[cfg(test)]
mod tests;
