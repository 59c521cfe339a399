//! Torrents that a magnet link led to: `torrents/HASH.torrent` in the state folder, so that the next `get` of the link goes on at
//! once.
//!
//! Invariant: what is read from there is the torrent that the link names, or it counts as absent.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_engine::FoundTorrent;
use shoal_metainfo::metainfo::{Limits, is_named};
use shoal_metainfo::{InfoHash, Magnet, Metainfo};

use crate::exit::Failure;
use crate::journal_path;

/// More than the metadata and the hashes that peers give can make.
const LIMITS: Limits = Limits {
    bytes: 96 * 1024 * 1024,
    ..Limits::LOCAL
};

fn path(name: InfoHash, state_dir: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = journal_path::state_folder("torrents", state_dir)?;
    Ok(folder.join(format!("{name}.torrent")))
}

/// The torrent of `magnet`, if it is known from before.
///
/// # Errors
/// Where the state folder cannot be used.
pub(crate) fn load(
    magnet: &Magnet,
    state_dir: Option<&Path>,
) -> Result<Option<FoundTorrent>, Failure> {
    let path = path(magnet.info_hashes.primary(), state_dir)?;
    let small = |length: u64| usize::try_from(length).is_ok_and(|length| length <= LIMITS.bytes);
    let fits = fs::metadata(&path).is_ok_and(|stored| stored.is_file() && small(stored.len()));
    let Some(file) = fits.then(|| fs::read(&path).ok()).flatten() else {
        return Ok(None);
    };
    // The v1 part alone is what there was when nobody gave the hashes of the v2 part.
    let metainfo = Metainfo::parse(&file, LIMITS).or_else(|_| Metainfo::parse_v1(&file, LIMITS));
    let metainfo = metainfo.ok().filter(|metainfo| {
        let named = magnet.info_hashes;
        is_named(metainfo.raw_info(), &named)
            && (named.v1().is_some() || metainfo.info_hashes().v2() == named.v2())
    });
    Ok(metainfo.map(|metainfo| FoundTorrent {
        metainfo: Arc::new(metainfo),
        file: file.into(),
    }))
}

/// Remembers a torrent under each of its names. To have forgotten it costs a search, no more: what goes wrong is only logged.
pub(crate) fn save(found: &FoundTorrent, state_dir: Option<&Path>) {
    for name in found.metainfo.info_hashes().swarms() {
        let saved = path(name, state_dir).map(|path| write(&path, &found.file));
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot remember the torrent"),
            Err(failure) => tracing::warn!(%failure, "cannot remember the torrent"),
        }
    }
}

/// All of it or nothing, also where the program is killed meanwhile.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
