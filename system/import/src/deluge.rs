//! Deluge 2: in the folder `state` of its configuration `torrents.state` (a Python pickle), `torrents.fastresume` (libtorrent's resume
//! data by info hash) and `HASH.torrent`; beside that folder `label.conf`.

mod pickle;

pub use pickle::{MAX_CONTAINERS, MAX_VALUES, PickleError, PickleErrorKind};

use crate::error::{Fault, ImportError, Unread};
use crate::fields::{self, Urls};
use crate::imported::{Imported, Limit, Note, Priority, Run, Torrent};
use crate::limits::{
    MAX_FILE_BYTES, MAX_PATH_BYTES, MAX_RESUME_BYTES, MAX_STATE_BYTES, MAX_TORRENTS,
};
use crate::{Client, disk, libtorrent};
use pickle::{Pickle, Value};
use shoal_metainfo::bencode::{self, Limits, decode};
use shoal_metainfo::metainfo::{MAX_TRACKERS, TrackerUrl};
use shoal_metainfo::{FileIndex, Magnet, Metainfo};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most attributes of an instance that are looked at. Deluge 2.1 has 26 of a torrent.
const MAX_ATTRIBUTES: usize = 200;

/// The settings of all torrents: what `torrents.state` says.
#[derive(Debug)]
pub struct State {
    pickle: Pickle,
    /// Info hash and instance of each torrent, in the order of the queue.
    torrents: Vec<(String, Value)>,
}

impl State {
    /// Reads `torrents.state`.
    ///
    /// # Errors
    /// Where it is not a pickle of plain values, or no session of Deluge.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, Fault> {
        let pickle = Pickle::decode(bytes)?;
        let list = pickle.get(pickle.root(), "torrents", MAX_ATTRIBUTES);
        let list = list.and_then(|list| pickle.items(list));
        let list = list.ok_or(Fault::Form("a list of torrents"))?;
        if list.len() > MAX_TORRENTS {
            return Err(Fault::Form("fewer torrents"));
        }
        let mut seen = BTreeSet::new();
        let mut torrents = Vec::new();
        for &torrent in list {
            let id = pickle.get(torrent, "torrent_id", MAX_ATTRIBUTES);
            let id = id.and_then(|id| std::str::from_utf8(pickle.bytes(id)?).ok());
            // It names files, so it must be what it claims to be. Without the double the work stays in proportion to the files.
            let Some(id) = id.filter(|id| is_id(id)).map(str::to_ascii_lowercase) else {
                continue;
            };
            let place = match pickle.get(torrent, "queue", MAX_ATTRIBUTES) {
                Some(Value::Int(place @ 0..)) => place,
                _ => i64::MAX,
            };
            if seen.insert(id.clone()) {
                torrents.push((place, id, torrent));
            }
        }
        torrents.sort_by_key(|(place, ..)| *place);
        let torrents = torrents.into_iter();
        Ok(State {
            torrents: torrents.map(|(_, id, torrent)| (id, torrent)).collect(),
            pickle,
        })
    }

    /// The info hashes of the torrents in the order of the queue, in hexadecimal.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.torrents.iter().map(|(id, _)| id.as_str())
    }

    /// The torrent at `place` of that order, with its `.torrent` file, resume data and label as far as they are there.
    ///
    /// # Errors
    /// Why it cannot be taken over.
    pub fn torrent(
        &self,
        place: usize,
        torrent: Option<&[u8]>,
        resume: Option<&[u8]>,
        label: Option<&str>,
    ) -> Result<Imported, Fault> {
        let (id, instance) = self.torrents.get(place).ok_or(Fault::NoTorrent)?;
        let of = Attributes {
            pickle: &self.pickle,
            instance: *instance,
        };
        let mut imported = match resume {
            Some(resume) => {
                let document = decode(resume, Limits::LOCAL)?;
                let root = document.root();
                let mut imported = Imported::new(libtorrent::torrent(root, torrent)?);
                libtorrent::apply(root, &mut imported);
                imported
            }
            None => without_resume(torrent, of)?,
        };
        let mut swarms = imported.info_hashes().swarms();
        if !swarms.any(|hash| hash.to_string() == *id) {
            return Err(Fault::OtherTorrent);
        }
        of.apply(&mut imported);
        imported.category = label.and_then(|label| fields::shown(label.as_bytes()));
        Ok(imported)
    }
}

fn without_resume(torrent: Option<&[u8]>, of: Attributes<'_>) -> Result<Imported, Fault> {
    let mut imported = Imported::new(match (torrent, of.text("magnet")) {
        (Some(bytes), _) => Torrent::File {
            bytes: bytes.to_vec(),
            metainfo: Arc::new(Metainfo::parse(bytes, Limits::LOCAL)?),
        },
        (None, Some(link)) => {
            let link = std::str::from_utf8(link).map_err(|_| Fault::Form("a magnet link"))?;
            Torrent::Magnet(Box::new(Magnet::parse(link)?))
        }
        (None, None) => return Err(Fault::NoTorrent),
    });
    imported.notes.push(Note::NoFolder);
    if imported.metainfo().is_some() {
        imported.notes.push(Note::NoResumeData);
    }
    Ok(imported)
}

/// The attributes of a torrent.
#[derive(Clone, Copy)]
struct Attributes<'a> {
    pickle: &'a Pickle,
    instance: Value,
}

impl<'a> Attributes<'a> {
    fn get(self, key: &str) -> Option<Value> {
        self.pickle.get(self.instance, key, MAX_ATTRIBUTES)
    }

    fn flag(self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Bool(true) | Value::Int(1..)))
    }

    fn real(self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(number) if number.is_finite() => Some(number),
            Value::Int(number) => i32::try_from(number).ok().map(f64::from),
            _ => None,
        }
    }

    fn text(self, key: &str) -> Option<&'a [u8]> {
        let bytes = self.pickle.bytes(self.get(key)?)?;
        (!bytes.is_empty() && bytes.len() <= MAX_PATH_BYTES).then_some(bytes)
    }

    fn path(self, key: &str) -> Option<PathBuf> {
        fields::path(self.text(key)?)
    }

    /// A rate in KiB per second, with -1 for none, in bytes per second.
    fn rate(self, key: &str) -> Option<u64> {
        let rate = self.real(key).filter(|rate| *rate > 0.0)?;
        // Faster than a terabyte a second is no limit.
        let bytes = (rate * 1024.0).min(1e12);
        format!("{bytes:.0}").parse().ok().filter(|&rate| rate > 0)
    }

    /// Deluge's own settings, which count more than what libtorrent keeps of them.
    fn apply(self, imported: &mut Imported) {
        if let Some(folder) = self.path("save_path") {
            let of_folder = |note: &Note| matches!(note, Note::NoFolder | Note::FolderElsewhere(_));
            imported.notes.retain(|note| !of_folder(note));
            imported.notes.extend(fields::note_folder(&folder));
            imported.folder = folder;
        }
        imported.run = match (self.flag("paused"), self.flag("auto_managed")) {
            (true, _) => Run::Paused,
            (false, true) => Run::Queued,
            (false, false) => Run::Forced,
        };
        let name = imported
            .metainfo()
            .map(|metainfo| metainfo.name().to_owned());
        let own = self.text("name").and_then(fields::shown);
        imported.name = own.filter(|own| name.as_ref() != Some(own));
        if self.flag("move_completed") {
            let folder = self.path("move_completed_path");
            imported.completed_folder = folder.filter(|folder| *folder != imported.folder);
        }
        imported.upload_bytes_per_s = self.rate("max_upload_speed");
        imported.download_bytes_per_s = self.rate("max_download_speed");
        imported.sequential = self.flag("sequential_download");
        imported.first_last_first = self.flag("prioritize_first_last");
        imported.super_seeding = self.flag("super_seeding");
        imported.share_limits.ratio = match self.flag("stop_at_ratio") {
            true => self.real("stop_ratio").and_then(fields::ratio),
            false => Some(Limit::Unlimited),
        }
        .unwrap_or_default();
        let Torrent::File { metainfo, .. } = &imported.torrent else {
            return;
        };
        let mut urls = Urls::default();
        let tiers = self.trackers(&mut urls);
        let priorities = self.priorities(metainfo);
        if let Some(tiers) = tiers {
            let same = tiers.as_slice() == metainfo.trackers();
            imported.trackers = (!same).then_some(tiers);
        }
        if let Some(priorities) = priorities {
            imported.priorities = priorities;
        }
    }

    /// The trackers by tier. None at all is what a torrent has that was never changed in an old version.
    fn trackers(self, urls: &mut Urls) -> Option<Vec<Vec<TrackerUrl>>> {
        let list = self.pickle.items(self.get("trackers")?)?;
        let mut tiers: BTreeMap<i64, Vec<TrackerUrl>> = BTreeMap::new();
        for &tracker in list.iter().take(MAX_TRACKERS) {
            let get = |key| self.pickle.get(tracker, key, MAX_ATTRIBUTES);
            let url = get("url").and_then(|url| self.pickle.bytes(url));
            let tier = match get("tier") {
                Some(Value::Int(tier)) => tier,
                _ => 0,
            };
            if let Some(url) = url.and_then(|url| urls.tracker(url)) {
                tiers.entry(tier).or_default().push(url);
            }
        }
        Some(tiers.into_values().collect()).filter(|tiers: &Vec<_>| !tiers.is_empty())
    }

    /// None where there are not as many as there are files: then libtorrent's own count.
    fn priorities(self, metainfo: &Metainfo) -> Option<BTreeMap<FileIndex, Priority>> {
        let list = self.pickle.items(self.get("file_priorities")?)?;
        (!list.is_empty()).then(|| {
            libtorrent::priorities(metainfo, |number| match list.get(number)? {
                Value::Int(priority) => Some(*priority),
                _ => None,
            })
        })
    }
}

fn is_id(id: &str) -> bool {
    id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Where in `torrents.fastresume` the resume data of each torrent is: a dictionary of info hashes in hexadecimal to bencode, mostly as
/// a text.
///
/// # Errors
/// Where it is not that.
pub fn resume_data(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, Fault> {
    let limits = Limits {
        bytes: bytes.len(),
        ..Limits::LOCAL
    };
    let document = decode(bytes, limits)?;
    let entries = document.root().as_dict();
    let entries = entries.ok_or(Fault::Form("a dictionary"))?;
    let mut found = BTreeMap::new();
    for (id, value) in entries {
        let Some(id) = std::str::from_utf8(id).ok().filter(|id| is_id(id)) else {
            continue;
        };
        found.insert(id.to_ascii_lowercase(), inside(value));
    }
    Ok(found)
}

/// The bytes of a value, without the length of a text.
fn inside(value: bencode::Value<'_>) -> Range<usize> {
    let end = value.offset() + value.raw().len();
    let length = value.as_bytes().map_or(value.raw().len(), <[u8]>::len);
    end - length..end
}

/// The label of each torrent by its info hash: `label.conf` is two JSON values, of which the second has them.
#[must_use]
pub fn labels(conf: &[u8]) -> BTreeMap<String, String> {
    let values = serde_json::Deserializer::from_slice(conf).into_iter::<serde_json::Value>();
    let mut labels = BTreeMap::new();
    for value in values.take(2).map_while(Result::ok) {
        let of_torrents = value
            .get("torrent_labels")
            .and_then(|labels| labels.as_object());
        for (id, label) in of_torrents.into_iter().flatten() {
            if let Some(label) = label.as_str() {
                labels.insert(id.to_ascii_lowercase(), label.to_owned());
            }
        }
    }
    labels
}

/// A session that was found.
#[derive(Debug)]
pub(crate) struct Found {
    folder: PathBuf,
    state: State,
    resume: Vec<u8>,
    ranges: BTreeMap<String, Range<usize>>,
    /// When the resume data was written.
    saved_at: Option<i64>,
    labels: BTreeMap<String, String>,
}

/// The session in `folder`, which is Deluge's configuration or the folder `state` in it.
pub(crate) fn find(folder: &Path) -> Result<Found, ImportError> {
    let below = folder.join("state");
    let folder = match below.join("torrents.state").is_file() {
        true => below,
        false => folder.to_owned(),
    };
    let state = folder.join("torrents.state");
    if !state.is_file() {
        return Err(disk::nothing(Client::Deluge, &folder));
    }
    let unreadable = |path: &Path, fault| ImportError::Unreadable {
        path: path.to_owned(),
        fault,
    };
    let decoded = disk::read(&state, MAX_STATE_BYTES).and_then(State::decode);
    let decoded = decoded.map_err(|fault| unreadable(&state, fault))?;
    let path = folder.join("torrents.fastresume");
    let resume = disk::read_if_there(&path, MAX_RESUME_BYTES)
        .map_err(|fault| unreadable(&path, fault))?
        .unwrap_or_default();
    let ranges = match resume.is_empty() {
        true => BTreeMap::new(),
        false => resume_data(&resume).map_err(|fault| unreadable(&path, fault))?,
    };
    // Labels are a plugin's and can be given again; a session is not refused for them.
    let conf = disk::read(&folder.join("../label.conf"), MAX_STATE_BYTES);
    let labels = labels(&conf.unwrap_or_default());
    Ok(Found {
        folder,
        state: decoded,
        resume,
        ranges,
        saved_at: disk::modified_at(&path),
        labels,
    })
}

impl Found {
    pub(crate) fn len(&self) -> usize {
        self.state.torrents.len()
    }

    /// Reads the torrent at `place`.
    pub(crate) fn read(&self, place: usize) -> Result<Imported, Unread> {
        let id = self.state.torrents.get(place).map_or("", |(id, _)| id);
        let path = self.folder.join(format!("{id}.torrent"));
        let all = || {
            let torrent = disk::read_if_there(&path, MAX_FILE_BYTES)?;
            let range = self.ranges.get(id).cloned();
            let resume = range.and_then(|range| self.resume.get(range));
            let label = self.labels.get(id).map(String::as_str);
            let torrent = torrent.as_deref();
            let mut imported = self.state.torrent(place, torrent, resume, label)?;
            imported.saved_at(self.saved_at);
            Ok(imported)
        };
        all().map_err(|fault| Unread::new(path, fault))
    }
}
