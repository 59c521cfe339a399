//! The client's own files: listed and read within limits, never written.

use crate::Client;
use crate::error::{Fault, ImportError};
use crate::limits::MAX_TORRENTS;
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The bytes of the file `path`, at most `limit`.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Fault> {
    // A pipe would never end.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Fault::Form("a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= limit => Ok(bytes),
        _ => Err(Fault::TooLong(limit)),
    }
}

/// As [`read`], `None` where there is no such file.
pub(crate) fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Fault> {
    match read(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Fault::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The files in `folder` with one of these extensions, by name.
pub(crate) fn list(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, ImportError> {
    let unreadable = |error: io::Error| ImportError::Unreadable {
        path: folder.to_owned(),
        fault: error.into(),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().unwrap_or_default();
        if !extensions.iter().any(|wanted| extension == *wanted) {
            continue;
        }
        if files.len() == MAX_TORRENTS {
            let folder = folder.to_owned();
            return Err(ImportError::TooMany { folder });
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

/// When the file `path` was last modified, in seconds since 1970.
pub(crate) fn modified_at(path: &Path) -> Option<i64> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// Whether another process holds the file `path`. Nothing is written, and our own lock goes as soon as it comes.
pub(crate) fn is_locked(path: &Path) -> bool {
    let lock = File::open(path).ok();
    let lock = lock.map(|file| fcntl_lock(&file, FlockOperation::NonBlockingLockShared));
    matches!(lock, Some(Err(Errno::AGAIN | Errno::ACCESS)))
}

/// `path` with `suffix` behind its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether `path` is a file with something in it.
pub(crate) fn is_filled(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

pub(crate) fn nothing(client: Client, folder: &Path) -> ImportError {
    let folder = folder.to_owned();
    ImportError::NothingHere { client, folder }
}
