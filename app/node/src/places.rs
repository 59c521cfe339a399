//! Where the files of a torrent lie: between what is stored of it, what a person writes, and what storage goes by.
//!
//! Invariant: a path that a person writes is taken as it is or refused, never changed.

use shoal_metainfo::{FileIndex, Metainfo};
use shoal_storage::{FileSpec, Location, StorageError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Paths of files, by their index, as they are stored.
pub(crate) type Renamed = BTreeMap<u32, Vec<String>>;

/// As storage has it.
pub(crate) fn location(directory: PathBuf, renamed: &Renamed) -> Location {
    Location {
        directory,
        renamed: paths(renamed),
    }
}

pub(crate) fn paths(renamed: &Renamed) -> BTreeMap<FileIndex, PathBuf> {
    let renamed = renamed.iter();
    let path = |(&index, parts): (&u32, &Vec<String>)| (FileIndex(index), parts.iter().collect());
    renamed.map(path).collect()
}

/// As it is stored. New names of files are text: storage refuses others.
pub(crate) fn stored(renamed: &BTreeMap<FileIndex, PathBuf>) -> Renamed {
    let part = |part: std::path::Component<'_>| part.as_os_str().to_string_lossy().into_owned();
    let renamed = renamed.iter();
    let parts = |(index, path): (&FileIndex, &PathBuf)| {
        let parts: Vec<String> = path.components().map(part).collect();
        (index.0, parts)
    };
    renamed.map(parts).collect()
}

/// Where the files are to be with that of `old` at `new`, or all of the folder `old` in the folder `new`.
///
/// # Errors
/// There is no such file, or the new path is none that a torrent could have.
pub(crate) fn renamed(
    metainfo: &Metainfo,
    before: &Location,
    old: &str,
    new: &str,
    folder: bool,
) -> Result<Location, StorageError> {
    let files = FileSpec::all_of(metainfo);
    let (old, new) = (Path::new(old), plain(new)?);
    let after = match folder {
        true => before.with_folder(&files, old, &new)?,
        false => before.with_file(&files, old, new)?,
    };
    after.check(&files)?;
    Ok(after)
}

/// A path without empty parts, `.` and the like, which would be left out unsaid.
fn plain(text: &str) -> Result<PathBuf, StorageError> {
    let path: PathBuf = text.split('/').collect();
    let parts = path.iter().map(|part| part.to_str().unwrap_or_default());
    match parts.eq(text.split('/')) {
        true => Ok(path),
        false => Err(StorageError::Path(PathBuf::from(text))),
    }
}

/// Whether the name of a file ends with this.
pub(crate) fn has_marks(renamed: &Renamed, mark: &str) -> bool {
    let mut names = renamed.values().filter_map(|parts| parts.last());
    names.any(|name| name.ends_with(mark))
}

/// What files are called that are not called as the torrent has it: the new path by the old one, of the first `most`.
pub(crate) fn shown(
    metainfo: &Metainfo,
    renamed: &Renamed,
    most: usize,
) -> BTreeMap<String, String> {
    let folder = metainfo.folder();
    let files = metainfo.files();
    let name = |(&index, parts): (&u32, &Vec<String>)| {
        let file = files.get(usize::try_from(index).ok()?)?;
        let old = match folder {
            Some(folder) => format!("{folder}/{}", file.path),
            None => file.path.clone(),
        };
        Some((old, parts.join("/")))
    };
    renamed.iter().take(most).filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn album() -> Metainfo {
        let file =
            b"d4:infod5:filesld6:lengthi1e4:pathl1:aeed6:lengthi1e4:pathl3:sub1:beee4:name5:album\
            12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
        Metainfo::parse(file, shoal_metainfo::metainfo::Limits::LOCAL).unwrap()
    }

    fn here() -> Location {
        location(PathBuf::from("/here"), &Renamed::new())
    }

    #[test]
    fn files_and_folders_get_other_names_and_their_own_again() {
        let album = album();
        let once = renamed(&album, &here(), "album/a", "album/x/y", false).unwrap();
        let twice = renamed(&album, &once, "album", "songs", true).unwrap();
        let names = stored(&twice.renamed);
        assert_eq!(location(PathBuf::from("/here"), &names), twice);
        let expected = [("album/a", "songs/x/y"), ("album/sub/b", "songs/sub/b")];
        let expected = expected.map(|(old, new)| (old.to_owned(), new.to_owned()));
        assert_eq!(shown(&album, &names, 9), BTreeMap::from(expected));
        assert_eq!(shown(&album, &names, 1).len(), 1);
        let back = renamed(&album, &twice, "songs/x/y", "album/a", false).unwrap();
        let back = renamed(&album, &back, "songs", "album", true).unwrap();
        assert_eq!(back, here());
    }

    #[test]
    fn hostile_names_are_refused() {
        let album = album();
        for new in [
            "",
            "/",
            "/etc/a",
            "..",
            "../a",
            "album/../../a",
            "a//b",
            "./a",
            "a/",
            "a/.",
            "a\\b",
            "con",
            "lpt1.txt",
            "a.",
            "a ",
            "a\u{202e}b",
            "a\nb",
            "album/sub",
        ] {
            for (old, folder) in [("album/a", false), ("album/sub", true)] {
                // A folder may be called as it is.
                let same = new == old;
                let taken = renamed(&album, &here(), old, new, folder);
                assert_eq!(taken.is_err(), !same, "{new:?} {folder}");
            }
        }
        for old in ["", "a", "album/b", "/album/a", "album"] {
            assert!(
                renamed(&album, &here(), old, "new", false).is_err(),
                "{old}"
            );
        }
        for old in ["", "a", "albu", "album/a"] {
            let taken = renamed(&album, &here(), old, "new", true);
            assert_eq!(taken.is_err(), !old.is_empty(), "{old}");
        }
    }
}
