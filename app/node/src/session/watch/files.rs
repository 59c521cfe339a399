//! What is done with files of a watched folder, on a thread that may wait for a disk.
//!
//! Others may write into the folder. So links are not followed, pipes and devices are not waited for, and what is read, counted and descended
//! into is bounded.
//!
//! Invariant: nothing is opened whose name or kind says that it is no torrent and no list of magnet links.

use rustix::fs::{Mode, OFlags, open};
use shoal_metainfo::metainfo::Limits;
use shoal_session::watch::{Kind, MAX_FILES, MAX_LINKS_BYTES, Stamp, kind, renamed};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How deep is looked for folders below folders.
const MAX_DEPTH: usize = 16;

/// How many names of all kinds are looked at: at some 100 ns each, a tenth of a second.
const MAX_NAMES: usize = 1_000_000;

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Files by their paths in the folder, in order.
    pub(super) files: Vec<(PathBuf, Stamp)>,
    /// On which volume the folder is.
    pub(super) device: u64,
    /// There is more than is looked at.
    pub(super) is_cut: bool,
}

/// Looks into a folder. One call of the system for each file that could be meant, and some for each folder.
pub(super) fn scan(folder: &Path, recursive: bool) -> io::Result<Found> {
    let mut found = Found {
        device: folder.metadata()?.dev(),
        ..Found::default()
    };
    let mut names = 0;
    let mut waiting = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = waiting.pop() {
        let entries = match fs::read_dir(folder.join(&below)) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            // It went while it was looked for, or is somebody else's.
            Err(_) => continue,
        };
        for entry in entries {
            names += 1;
            if names > MAX_NAMES || found.files.len() >= MAX_FILES {
                found.is_cut = true;
                break;
            }
            let entry = entry?;
            let name = PathBuf::from(entry.file_name());
            let is_hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
            let Ok(its) = entry.file_type() else { continue };
            if its.is_dir() && recursive && !is_hidden && depth < MAX_DEPTH {
                waiting.push((below.join(&name), depth + 1));
            } else if its.is_file()
                && kind(&name).is_some()
                && let Ok(there) = entry.metadata()
            {
                found.files.push((below.join(&name), stamp(&there)));
            }
        }
    }
    found.files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn stamp(there: &Metadata) -> Stamp {
    let since = there.modified().ok();
    let since = since.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let modified_ns = since.and_then(|since| i64::try_from(since.as_nanos()).ok());
    Stamp {
        size: there.len(),
        modified_ns: modified_ns.unwrap_or(0),
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It is gone, or its disk fails: that may be over soon.
    #[error("it cannot be read: {0}")]
    Failed(#[from] io::Error),
    /// It is what it should not be.
    #[error("{0}")]
    Refused(String),
}

/// All of a file.
pub(super) fn read(path: &Path, kind: Kind) -> Result<Vec<u8>, ReadError> {
    let most = match kind {
        Kind::Torrent => u64::try_from(Limits::LOCAL.bytes).unwrap_or(u64::MAX),
        Kind::Links => MAX_LINKS_BYTES,
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(io::Error::from)?;
    let file = File::from(file);
    let there = file.metadata()?;
    if !there.is_file() {
        return Err(ReadError::Refused("it is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        let what = format!("it is larger than {most} bytes");
        return Err(ReadError::Refused(what));
    }
    Ok(bytes)
}

/// Deletes a file that looks as it did.
pub(super) fn delete(path: &Path, as_seen: Stamp) -> io::Result<()> {
    unchanged(path, as_seen)?;
    fs::remove_file(path)
}

/// Gives a file that looks as it did a name that says that it was added.
pub(super) fn rename(path: &Path, as_seen: Stamp) -> io::Result<()> {
    unchanged(path, as_seen)?;
    let to = renamed(path);
    if to.symlink_metadata().is_ok() {
        let what = format!("{} is there already", to.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    fs::rename(path, to)
}

fn unchanged(path: &Path, as_seen: Stamp) -> io::Result<()> {
    match stamp(&path.symlink_metadata()?) == as_seen {
        true => Ok(()),
        false => Err(io::Error::other("it was changed meanwhile")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, mknodat};
    use std::os::unix::fs::symlink;

    #[test]
    fn links_pipes_and_hidden_folders_are_not_looked_into() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.torrent"), "a").unwrap();
        fs::write(path("b.zip"), "b").unwrap();
        for below in ["below/deeper", ".hidden"] {
            fs::create_dir_all(path(below)).unwrap();
            fs::write(path(below).join("c.magnet"), "c").unwrap();
        }
        fs::write(elsewhere.path().join("d.torrent"), "d").unwrap();
        symlink(elsewhere.path(), path("linked")).unwrap();
        symlink(elsewhere.path().join("d.torrent"), path("e.torrent")).unwrap();
        mknodat(CWD, path("f.torrent"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let names = |recursive: bool| {
            let found = scan(folder.path(), recursive).unwrap();
            let names = found.files.into_iter();
            let names = names.map(|(path, _)| path.to_str().unwrap().to_owned());
            names.collect::<Vec<String>>()
        };
        assert_eq!(names(false), ["a.torrent"]);
        assert_eq!(names(true), ["a.torrent", "below/deeper/c.magnet"]);
        // Whoever puts one of them there a moment later gets no more of us.
        for name in ["e.torrent", "f.torrent"] {
            assert!(read(&path(name), Kind::Torrent).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_read_and_what_has_changed_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("links.txt");
        let most = usize::try_from(MAX_LINKS_BYTES).unwrap();
        fs::write(&path, vec![b'#'; most]).unwrap();
        assert_eq!(read(&path, Kind::Links).unwrap().len(), most);
        fs::write(&path, vec![b'#'; most + 1]).unwrap();
        assert!(matches!(
            read(&path, Kind::Links),
            Err(ReadError::Refused(_))
        ));
        let seen = stamp(&path.metadata().unwrap());
        fs::write(&path, "other").unwrap();
        assert!(delete(&path, seen).is_err() && rename(&path, seen).is_err());
        let seen = stamp(&path.metadata().unwrap());
        fs::write(renamed(&path), "kept").unwrap();
        assert!(rename(&path, seen).is_err(), "another one has the name");
        delete(&path, seen).unwrap();
        assert!(!path.exists());
    }
}
