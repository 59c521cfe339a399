//! Which files of a watched folder are to be added.
//!
//! Whoever copies a file into the folder may be in the middle of it. A file is given when it looked the same at two looks in a row, and has
//! something in it. It is given once: what was refused, or stays after it was added, comes again only when it has changed. Programs give
//! files that are not complete another ending or hide them, so that names tell the rest.
//!
//! Invariant: as long as a file stays as it is, it is given once, and again only where that is asked for.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The most files of one folder that are looked at: what is known of them stays below 20 MB where paths are of 100 bytes.
pub const MAX_FILES: usize = 100_000;
/// The longest file of links, in bytes.
pub const MAX_LINKS_BYTES: u64 = 1 << 20;
/// The most links of one file.
pub const MAX_LINKS: usize = 1_000;
/// How the name of a file goes on that was added, where it is renamed.
const ADDED: &str = ".added";

/// What a file has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A torrent, in a name that ends with `.torrent`.
    Torrent,
    /// Magnet links, one on each line, in a name that ends with `.magnet` or `.txt`.
    Links,
}

/// How a file looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// In bytes.
    pub size: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified_ns: i64,
}

/// Why a file of links is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinksError {
    /// There is none.
    #[error("there is no link in it")]
    Empty,
    /// A line is something else.
    #[error("line {0} is no magnet link")]
    NotALink(usize),
    /// There are more than [`MAX_LINKS`].
    #[error("it has more than {MAX_LINKS} links; split it")]
    TooMany,
}

/// What is known of a watched folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    files: BTreeMap<PathBuf, Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    stamp: Stamp,
    /// As it looks like this, it was given.
    is_given: bool,
}

/// What a file of this name, relative to the folder, has in it; `None` for one that is hidden, in a hidden folder, not complete, or something
/// else.
#[must_use]
pub fn kind(path: &Path) -> Option<Kind> {
    let is_hidden = |component: Component<'_>| {
        let name = component.as_os_str().as_encoded_bytes();
        name.starts_with(b".")
    };
    if path.components().any(is_hidden) {
        return None;
    }
    let ending = path.extension()?.to_str()?;
    let is = |other: &str| ending.eq_ignore_ascii_case(other);
    if is("torrent") {
        Some(Kind::Torrent)
    } else if is("magnet") || is("txt") {
        Some(Kind::Links)
    } else {
        None
    }
}

/// The name that a file gets which was added, where it is renamed: one that is not looked at.
#[must_use]
pub fn renamed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ADDED);
    name.into()
}

/// The magnet links of a file of links. Empty lines, and those that begin with `#`, are comments.
///
/// # Errors
/// Where it has none, too many, or something else.
pub fn links(text: &str) -> Result<Vec<&str>, LinksError> {
    const SCHEME: &str = "magnet:";
    let text = text.trim_start_matches('\u{feff}');
    let mut links = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let scheme = line.get(..SCHEME.len()).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(LinksError::NotALink(number));
        }
        if links.len() == MAX_LINKS {
            return Err(LinksError::TooMany);
        }
        links.push(line);
    }
    if links.is_empty() {
        return Err(LinksError::Empty);
    }
    Ok(links)
}

impl Watch {
    /// A folder of which these files were given before, as [`Watch::given`] told: none of them comes again unless it has changed.
    pub fn knowing(given: impl IntoIterator<Item = (PathBuf, Stamp)>) -> Self {
        let known = given.into_iter().take(MAX_FILES).map(|(path, stamp)| {
            let known = Known {
                stamp,
                is_given: true,
            };
            (path, known)
        });
        Watch {
            files: known.collect(),
        }
    }

    /// Takes all files that are in the folder, by their paths in it, and gives those that are to be added, in the order of their paths. What
    /// is not among them is forgotten.
    pub fn look(
        &mut self,
        found: impl IntoIterator<Item = (PathBuf, Stamp)>,
    ) -> Vec<(PathBuf, Kind)> {
        let mut before = core::mem::take(&mut self.files);
        let mut given = Vec::new();
        for (path, stamp) in found {
            let Some(kind) = kind(&path).filter(|_| self.files.len() < MAX_FILES) else {
                continue;
            };
            let same = before.remove(&path).filter(|known| known.stamp == stamp);
            let was_given = same.is_some_and(|known| known.is_given);
            let is_given = was_given || (same.is_some() && stamp.size > 0);
            if is_given && !was_given {
                given.push((path.clone(), kind));
            }
            self.files.insert(path, Known { stamp, is_given });
        }
        given.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        given
    }

    /// A file that was given could not be looked into for a reason that is not its own: it comes again at the next look.
    pub fn again(&mut self, path: &Path) {
        if let Some(known) = self.files.get_mut(path) {
            known.is_given = false;
        }
    }

    /// The files that were given and are still there as they were: what has to be remembered for the next life of the session.
    pub fn given(&self) -> impl Iterator<Item = (&Path, Stamp)> {
        self.files
            .iter()
            .filter(|(_, known)| known.is_given)
            .map(|(path, known)| (path.as_path(), known.stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(path: &str, size: u64, modified_ns: i64) -> (PathBuf, Stamp) {
        (path.into(), Stamp { size, modified_ns })
    }

    /// The paths that one look gives.
    fn look(watch: &mut Watch, files: &[(PathBuf, Stamp)]) -> Vec<String> {
        let given = watch.look(files.iter().cloned());
        let text = |(path, _): (PathBuf, Kind)| path.to_str().unwrap().to_owned();
        given.into_iter().map(text).collect()
    }

    #[test]
    fn a_file_is_taken_when_it_looks_the_same_twice_and_only_then() {
        let mut watch = Watch::default();
        assert_eq!(look(&mut watch, &[file("a.torrent", 5, 1)]), [""; 0]);
        assert_eq!(look(&mut watch, &[file("a.torrent", 9, 1)]), [""; 0]);
        assert_eq!(look(&mut watch, &[file("a.torrent", 9, 2)]), [""; 0]);
        let here = [file("a.torrent", 9, 2)];
        assert_eq!(look(&mut watch, &here), ["a.torrent"]);
        assert_eq!(look(&mut watch, &here), [""; 0]);
        let changed = [file("a.torrent", 9, 3)];
        assert_eq!(look(&mut watch, &changed), [""; 0]);
        assert_eq!(look(&mut watch, &changed), ["a.torrent"]);
        assert_eq!(look(&mut watch, &[]), [""; 0]);
        assert_eq!(look(&mut watch, &changed), [""; 0], "it is a new one");
        assert_eq!(look(&mut watch, &changed), ["a.torrent"]);
    }

    #[test]
    fn an_empty_file_is_waited_for() {
        let mut watch = Watch::default();
        let empty = [file("a.magnet", 0, 1)];
        assert_eq!(look(&mut watch, &empty), [""; 0]);
        assert_eq!(look(&mut watch, &empty), [""; 0]);
        let full = [file("a.magnet", 60, 1)];
        assert_eq!(look(&mut watch, &full), [""; 0]);
        assert_eq!(look(&mut watch, &full), ["a.magnet"]);
    }

    #[test]
    fn what_was_given_is_remembered_and_what_failed_for_now_comes_again() {
        let mut watch = Watch::default();
        let files = [file("a.torrent", 5, 1), file("b.txt", 6, 2)];
        look(&mut watch, &files);
        assert_eq!(look(&mut watch, &files), ["a.torrent", "b.txt"]);
        watch.again(Path::new("b.txt"));
        let given = watch.given();
        let mut next = Watch::knowing(given.map(|(path, stamp)| (path.to_owned(), stamp)));
        assert_eq!(look(&mut watch, &files), ["b.txt"]);
        assert_eq!(look(&mut next, &files), [""; 0]);
        assert_eq!(look(&mut next, &files), ["b.txt"]);
    }

    #[test]
    fn names_tell_what_is_not_to_be_looked_at() {
        let kinds = [
            ("a.torrent", Some(Kind::Torrent)),
            ("below/A.TORRENT", Some(Kind::Torrent)),
            ("a.magnet", Some(Kind::Links)),
            ("links.txt", Some(Kind::Links)),
            (".a.torrent", None),
            (".trash/a.torrent", None),
            ("a.torrent.part", None),
            ("a.torrent.!qB", None),
            ("a.torrent.crdownload", None),
            ("torrent", None),
            ("a.zip", None),
        ];
        for (path, expected) in kinds {
            assert_eq!(kind(Path::new(path)), expected, "{path}");
        }
        let added = renamed(Path::new("below/a.torrent"));
        assert_eq!(added, Path::new("below/a.torrent.added"));
        assert_eq!(kind(&added), None);
    }

    #[test]
    fn links_are_read_line_by_line() {
        let text = "\u{feff}# mine\r\n\r\n magnet:?xt=1 \r\nMAGNET:?xt=2";
        assert_eq!(links(text), Ok(vec!["magnet:?xt=1", "MAGNET:?xt=2"]));
        assert_eq!(links("# nothing\n"), Err(LinksError::Empty));
        assert_eq!(links("magnet:?a\nhttp://a"), Err(LinksError::NotALink(2)));
        assert_eq!(
            links("\u{e9}\u{e9}\u{e9}\u{e9}"),
            Err(LinksError::NotALink(1))
        );
        let many = "magnet:?a\n".repeat(MAX_LINKS + 1);
        assert_eq!(links(&many), Err(LinksError::TooMany));
    }

    proptest! {
        #[test]
        fn a_file_is_given_where_a_history_of_looks_says_so(
            looks in proptest::collection::vec((any::<bool>(), 0u64..3, 0i64..2), 0..30),
        ) {
            let mut watch = Watch::default();
            let mut past: Vec<Option<(u64, i64)>> = Vec::new();
            for (is_there, size, time) in looks {
                let here = is_there.then_some((size, time));
                let files: Vec<_> = here.map(|(size, time)| file("a.torrent", size, time)).into_iter().collect();
                // It looks as it did at the last look, and at the one before that it did not.
                let run = past.iter().rev().take_while(|past| **past == here).count();
                let expected = is_there && size > 0 && run == 1;
                prop_assert_eq!(look(&mut watch, &files).len(), usize::from(expected));
                past.push(here);
            }
        }
    }
}
