//! Reads .torrent files.
//!
//! Invariant: at most [`Limits::LOCAL`] bytes are read, whatever the path leads to.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use shoal_metainfo::Metainfo;
use shoal_metainfo::metainfo::Limits;

use crate::exit::{Exit, Failure};

/// Reads the torrent at `path`.
///
/// # Errors
/// Where the file cannot be read ([`Exit::Failure`]), or is no torrent that can be used ([`Exit::Refused`]).
pub(crate) fn read(path: &Path) -> Result<Metainfo, Failure> {
    parse(&bytes(path)?, Limits::LOCAL, &path.display().to_string())
}

/// The bytes of the file at `path`.
///
/// # Errors
/// Where it cannot be read ([`Exit::Failure`]).
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    read_bounded(path).map_err(|error| {
        let then = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
            io::ErrorKind::IsADirectory => {
                "it is a folder; name a .torrent file instead".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "permission denied; change its permissions".to_owned()
            }
            _ => error.to_string(),
        };
        Failure::at(Exit::Failure, "cannot read the torrent", path, then)
    })
}

/// Reads the torrent in `bytes`, which came from `origin`.
///
/// # Errors
/// Why it is refused.
pub(crate) fn parse(bytes: &[u8], limits: Limits, origin: &str) -> Result<Metainfo, Failure> {
    Metainfo::parse(bytes, limits).map_err(|error| {
        let message = format!("torrent refused: {origin}: {error}");
        Failure::new(Exit::Refused, message)
    })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // One byte more than allowed, so that the parser sees that it is too long.
    let limit = u64::try_from(Limits::LOCAL.bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
