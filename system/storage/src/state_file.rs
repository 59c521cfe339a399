//! Small files in which the program remembers something between two runs: read whole, replaced whole.
//!
//! Invariant: whoever reads one finds all of what was written last, or all of what was written before, also where the program was killed
//! meanwhile.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::process;

/// What is in the file at `path`; `None` where there is none. Blocks on the disk.
///
/// # Errors
/// What the system says, and `FileTooLarge` for more than `max_bytes`.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let length = file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if length as u64 > max_bytes {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

/// Puts `bytes` in the place of what is in the file at `path`, which is made where there is none; its folder exists. Blocks on the disk.
///
/// # Errors
/// What the system says: the file is as it was before.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Of several programs that do this at the same time, the last one wins.
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", process::id()));
    let new = path.with_file_name(name);
    let written = write(&new, bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // It may never have been there; what counts is why nothing was written.
        drop(fs::remove_file(&new));
    }
    written
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_is_read_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(read(&path, 3).unwrap(), None);
        for bytes in [&b"one"[..], b"2"] {
            replace(&path, bytes).unwrap();
            assert_eq!(read(&path, 3).unwrap().unwrap(), bytes);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, b"four").unwrap();
        let error = read(&path, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn where_nothing_can_be_written_nothing_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("state");
        assert!(replace(&path, b"one").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
