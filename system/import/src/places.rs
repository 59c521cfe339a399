//! Where a client has the files of a torrent, compared with where its metainfo puts them.
//!
//! Invariant: every path that leaves here stays below its folder.

use crate::fields::is_windows;
use crate::imported::{Imported, Note};
use crate::limits::MAX_PATH_BYTES;
use shoal_metainfo::metainfo::Warning;
use shoal_metainfo::{File, FileIndex, Metainfo};
use std::collections::BTreeMap;
use std::path::Path;

/// The files that lie elsewhere, and those of which nobody knows where.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) paths: BTreeMap<FileIndex, String>,
    pub(crate) lost: Vec<FileIndex>,
    notes: Vec<Note>,
}

impl Places {
    /// Of a torrent whose content is in `folder`. `renamed` gives the path of a file below that folder, torrent's folder included, where
    /// the client has written one.
    pub(crate) fn new<'a>(
        metainfo: &Metainfo,
        folder: &Path,
        renamed: impl Fn(FileIndex) -> Option<&'a [u8]>,
    ) -> Self {
        let mut places = Places::default();
        let windows = is_windows(folder);
        let renames_folder = |warning| matches!(warning, &Warning::SanitisedName(_));
        let odd_folder =
            metainfo.folder().is_some() && metainfo.warnings().iter().any(renames_folder);
        let mut outside = (0, String::new());
        let mut odd = (0, String::new());
        for (index, file) in (0..).map(FileIndex).zip(metainfo.files()) {
            if file.padding || file.symlink.is_some() {
                continue;
            }
            match renamed(index) {
                Some(raw) => match below(raw, windows) {
                    Some(path) if path != standard(metainfo, index) => {
                        places.paths.insert(index, path);
                    }
                    Some(_) => {}
                    None => {
                        outside.0 += 1;
                        if places.lost.is_empty() {
                            outside.1 = String::from_utf8_lossy(raw).chars().take(200).collect();
                        }
                        places.lost.push(index);
                    }
                },
                None if odd_folder || is_odd(file) => {
                    odd.0 += 1;
                    if odd.0 == 1 {
                        odd.1.clone_from(&file.path);
                    }
                }
                None => {}
            }
        }
        let (count, first) = outside;
        if count > 0 {
            places.notes.push(Note::PathsOutside { count, first });
        }
        let (count, first) = odd;
        if count > 0 {
            places.notes.push(Note::OddNames { count, first });
        }
        places
    }

    /// Puts them into `imported`, with what has to be said of them. The lost ones stay.
    pub(crate) fn store(self, imported: &mut Imported) -> Vec<FileIndex> {
        imported.paths = self.paths;
        imported.notes.extend(self.notes);
        self.lost
    }
}

/// Where the metainfo puts a file, below the folder that has the content.
pub(crate) fn standard(metainfo: &Metainfo, file: FileIndex) -> String {
    let path = metainfo
        .files()
        .get(file.get())
        .map_or("", |file| &file.path);
    match metainfo.folder() {
        Some(folder) => format!("{folder}/{path}"),
        None => path.to_owned(),
    }
}

/// Whether the torrent writes the file's path with something that we do not.
fn is_odd(file: &File) -> bool {
    let raw = file.raw_path();
    !raw.into_iter().eq(file.components().map(str::as_bytes))
}

/// `raw` with `/` between its components, if it stays below where it begins.
fn below(raw: &[u8], windows: bool) -> Option<String> {
    if raw.len() > MAX_PATH_BYTES {
        return None;
    }
    let text = std::str::from_utf8(raw).ok()?;
    let text = if windows {
        text.replace('\\', "/")
    } else {
        text.to_owned()
    };
    let safe = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    // A drive letter, and on Windows a stream.
    let anywhere = !(cfg!(windows) && text.contains([':', '\\']));
    (anywhere && text.split('/').all(safe)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_folder_or_is_none() {
        let unix = |raw: &[u8]| below(raw, false);
        assert_eq!(unix(b"a/b c"), Some("a/b c".to_owned()));
        for bad in [
            &b""[..],
            b"/etc/passwd",
            b"a/../b",
            b"a//b",
            b"./a",
            b"a/\0",
            b"\xff",
            b"a/",
        ] {
            assert_eq!(unix(bad), None, "{bad:?}");
        }
        assert_eq!(below(br"a\b", true), Some("a/b".to_owned()));
        assert_eq!(below(br"a\..\b", true), None);
        #[cfg(unix)]
        assert_eq!(unix(br"a\b"), Some(r"a\b".to_owned()));
    }
}
