//! qBittorrent: a `.fastresume` and a `.torrent` for each torrent in the folder `BT_backup`, and a file `queue`; or a database
//! `torrents.db` beside that folder.

mod database;

pub(crate) use database::Database;

use crate::error::{Fault, ImportError, Unread};
use crate::imported::{Imported, Limit, ShareLimits, Torrent};
use crate::limits::{MAX_FILE_BYTES, MAX_STATE_BYTES};
use crate::{Client, disk, fields, libtorrent, places};
use shoal_metainfo::bencode::{Limits, decode};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The torrent of a `.fastresume` file and of the `.torrent` file beside it, which is absent where the metainfo was never found.
///
/// # Errors
/// Why it cannot be taken over.
pub fn torrent(fastresume: &[u8], torrent: Option<&[u8]>) -> Result<Imported, Fault> {
    let document = decode(fastresume, Limits::LOCAL)?;
    let root = document.root();
    if root.as_dict().is_none() {
        return Err(Fault::Form("a dictionary"));
    }
    let mut imported = Imported::new(libtorrent::torrent(root, torrent)?);
    libtorrent::apply(root, &mut imported);
    let ratio = root.get("qBt-ratioLimit");
    let number = |key: &str| root.get(key).and_then(|number| number.as_int());
    let settings = Settings {
        name: fields::text(root.get("qBt-name")),
        category: fields::text(root.get("qBt-category")),
        tags: fields::tags(root.get("qBt-tags")),
        folder: fields::folder(root.get("qBt-savePath")),
        // Old versions wrote a text.
        ratio: match ratio.and_then(|ratio| ratio.as_int()) {
            Some(_) => fields::real(ratio).map(|thousandths| thousandths / 1000.0),
            None => fields::real(ratio),
        },
        seeding_min: number("qBt-seedingTimeLimit"),
        idle_min: number("qBt-inactiveSeedingTimeLimit"),
        first_last_first: fields::flag(root.get("qBt-firstLastPiecePriority")),
    };
    settings.apply(fields::text(root.get("name")), &mut imported);
    Ok(imported)
}

/// What is behind the names of files that are not complete, where somebody has switched that on. libtorrent knows them by these names.
const UNFINISHED_SUFFIX: &str = ".!qB";

/// Takes that suffix for what it is.
fn settle_names(imported: &mut Imported) {
    let Torrent::File { metainfo, .. } = &imported.torrent else {
        return;
    };
    let mut has_suffix = false;
    imported.paths.retain(|file, path| {
        if path.ends_with(UNFINISHED_SUFFIX) {
            path.truncate(path.len() - UNFINISHED_SUFFIX.len());
            has_suffix = true;
        }
        *path != places::standard(metainfo, *file)
    });
    imported.unfinished_suffix = has_suffix.then_some(UNFINISHED_SUFFIX);
}

/// What qBittorrent knows of a torrent beside libtorrent's resume data.
#[derive(Debug, Default)]
struct Settings {
    name: Option<String>,
    category: Option<String>,
    tags: Vec<String>,
    /// Where the content goes.
    folder: Option<PathBuf>,
    ratio: Option<f64>,
    seeding_min: Option<i64>,
    idle_min: Option<i64>,
    first_last_first: bool,
}

impl Settings {
    /// Puts them into `imported`. `link_name` is what a magnet calls itself. A limit of -1 is none and one of -2 that of the session.
    fn apply(self, link_name: Option<String>, imported: &mut Imported) {
        let name = match imported.metainfo() {
            Some(metainfo) => Some(metainfo.name().to_owned()),
            None => link_name,
        };
        imported.name = self.name.filter(|own| name.as_ref() != Some(own));
        imported.category = self.category;
        imported.tags = self.tags;
        imported.completed_folder = self.folder.filter(|folder| *folder != imported.folder);
        imported.first_last_first = self.first_last_first;
        settle_names(imported);
        let ratio = |ratio: f64| fields::ratio(ratio).unwrap_or(unset(ratio > -1.5));
        imported.share_limits = ShareLimits {
            ratio: self.ratio.map_or(Limit::Inherited, ratio),
            seeding_s: seconds(self.seeding_min),
            idle_s: seconds(self.idle_min),
        };
    }
}

fn seconds(minutes: Option<i64>) -> Limit<u64> {
    minutes.map_or(Limit::Inherited, |minutes| {
        fields::minutes(minutes).unwrap_or(unset(minutes == -1))
    })
}

fn unset<T>(unlimited: bool) -> Limit<T> {
    match unlimited {
        true => Limit::Unlimited,
        false => Limit::Inherited,
    }
}

/// The database of the session in `folder`, if it has one: then any `.fastresume` files are what was there before it.
pub(crate) fn database(folder: &Path) -> Option<PathBuf> {
    let mut above = folder
        .parent()
        .into_iter()
        .filter(|_| folder.ends_with("BT_backup"));
    let databases = [Some(folder), above.next()].into_iter().flatten();
    let mut databases = databases.map(|folder| folder.join("torrents.db"));
    databases.find(|path| path.is_file())
}

/// The `.fastresume` files of the session in `folder`, those in the queue first and in its order.
pub(crate) fn find(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let backup = folder.join("BT_backup");
    let backup = if backup.is_dir() {
        backup
    } else {
        folder.to_owned()
    };
    let mut files = disk::list(&backup, &["fastresume"])?;
    if files.is_empty() && !backup.ends_with("BT_backup") {
        return Err(disk::nothing(Client::QBittorrent, folder));
    }
    // A queue that cannot be read is an order that is not known.
    let queue = disk::read(&backup.join("queue"), MAX_STATE_BYTES).unwrap_or_default();
    let lines = queue.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let places: BTreeMap<&[u8], usize> = lines.zip(0..).collect();
    files.sort_by_cached_key(|file| {
        let id = file.file_stem().unwrap_or_default();
        let place = places.get(id.as_encoded_bytes()).copied();
        (place.unwrap_or(usize::MAX), file.clone())
    });
    Ok(files)
}

/// Reads the torrent of one `.fastresume` file.
pub(crate) fn read(path: PathBuf) -> Result<Imported, Unread> {
    let all = || {
        let fastresume = disk::read(&path, MAX_FILE_BYTES)?;
        let file = disk::read_if_there(&path.with_extension("torrent"), MAX_FILE_BYTES)?;
        let mut imported = torrent(&fastresume, file.as_deref())?;
        imported.saved_at(disk::modified_at(&path));
        Ok(imported)
    };
    all().map_err(|fault| Unread::new(path, fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imported::Modified;
    use crate::samples::{self, dict};
    use shoal_metainfo::FileIndex;
    use shoal_metainfo::bencode::Bencode;

    fn with_files(names: [&str; 2]) -> Imported {
        let names = names.map(Bencode::from).to_vec();
        let resume = dict([
            ("mapped_files", names.into()),
            ("pieces", vec![1u8, 0, 0].into()),
            ("save_path", "/srv".into()),
        ]);
        torrent(&resume.encode(), Some(&samples::torrent())).unwrap()
    }

    #[test]
    fn the_suffix_of_unfinished_files_is_no_name_of_theirs() {
        let imported = with_files(["pack/a.!qB", "other/b.!qB"]);
        assert_eq!(imported.unfinished_suffix, Some(".!qB"));
        let moved = (FileIndex(1), "other/b".to_owned());
        assert!(imported.paths.into_iter().eq([moved]));
        let imported = with_files(["pack/a", "pack/sub/b"]);
        assert_eq!(imported.unfinished_suffix, None);
        assert!(imported.paths.is_empty());
    }

    #[test]
    fn what_was_written_after_its_resume_data_is_not_known() {
        let mut imported = with_files(["pack/a", "pack/sub/b"]);
        imported.saved_at(None);
        assert!(imported.stamps.is_empty());
        imported.saved_at(Some(1_700_000_000));
        let bound = Some(Modified::NotAfter(1_700_000_000));
        assert_eq!(imported.stamps.len(), 2);
        assert!(
            imported
                .stamps
                .values()
                .all(|stamp| stamp.modified == bound)
        );
    }
}
