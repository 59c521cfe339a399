//! qBittorrent: a `.fastresume` and a `.torrent` for each torrent in the folder `BT_backup`, and a file `queue`.

use crate::error::{Fault, ImportError, Unread};
use crate::imported::{Imported, Limit, ShareLimits};
use crate::limits::{MAX_FILE_BYTES, MAX_STATE_BYTES};
use crate::{Client, disk, fields, libtorrent};
use shoal_metainfo::bencode::{Limits, Value, decode};
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
    let name = match imported.metainfo() {
        Some(metainfo) => Some(metainfo.name().to_owned()),
        None => fields::text(root.get("name")),
    };
    imported.name = fields::text(root.get("qBt-name")).filter(|own| name.as_ref() != Some(own));
    imported.category = fields::text(root.get("qBt-category"));
    imported.tags = fields::tags(root.get("qBt-tags"));
    imported.completed_folder =
        fields::folder(root.get("qBt-savePath")).filter(|folder| *folder != imported.folder);
    imported.first_last_first = fields::flag(root.get("qBt-firstLastPiecePriority"));
    imported.share_limits = share_limits(root);
    Ok(imported)
}

/// A limit of -1 is none and one of -2 that of the session. Ratios are in thousandths, or texts; times in minutes.
fn share_limits(root: Value<'_>) -> ShareLimits {
    let ratio = root.get("qBt-ratioLimit");
    let ratio = match ratio.and_then(|ratio| ratio.as_int()) {
        Some(_) => fields::real(ratio).map(|thousandths| thousandths / 1000.0),
        None => fields::real(ratio),
    };
    let time = |key: &str| root.get(key).and_then(|minutes| minutes.as_int());
    ShareLimits {
        ratio: ratio.map_or(Limit::Inherited, |ratio| {
            fields::ratio(ratio).unwrap_or(unset(ratio > -1.5))
        }),
        seeding_s: seconds(time("qBt-seedingTimeLimit")),
        idle_s: seconds(time("qBt-inactiveSeedingTimeLimit")),
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

/// The `.fastresume` files of the session in `folder`, those in the queue first and in its order.
pub(crate) fn find(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let backup = folder.join("BT_backup");
    let backup = if backup.is_dir() {
        backup
    } else {
        folder.to_owned()
    };
    // Where there is a database, it has the session: the files are what was there before it.
    let databases = [folder.join("torrents.db"), backup.join("../torrents.db")];
    if let Some(path) = databases.into_iter().find(|path| path.is_file()) {
        return Err(ImportError::Database { path });
    }
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
        torrent(&fastresume, file.as_deref())
    };
    all().map_err(|fault| Unread { path, fault })
}
