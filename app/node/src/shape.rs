//! What of a new torrent is fetched and under which names, as settings have it: its layout, names that are never fetched, and a mark on
//! what is not complete.
//!
//! Invariant: a torrent gets names that storage takes, or keeps its own.

use shoal_metainfo::Metainfo;
use shoal_storage::{FileSpec, Location};
use std::path::{Path, PathBuf};

/// Whether a torrent has a folder of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As it was made.
    #[default]
    Original,
    /// Always.
    Folder,
    /// Never.
    None,
}

pub(crate) const LAYOUTS: [(&str, Layout); 3] = [
    ("original", Layout::Original),
    ("folder", Layout::Folder),
    ("none", Layout::None),
];

/// The paths of its files in this layout, in `directory`, which are marked until everything wanted is there.
pub(crate) fn named(
    metainfo: &Metainfo,
    directory: PathBuf,
    layout: Layout,
    mark: &str,
) -> Location {
    let mut location = Location {
        directory,
        ..Location::default()
    };
    let files = FileSpec::all_of(metainfo);
    for file in files.iter().filter(|file| !file.padding) {
        let path = match (layout, metainfo.folder()) {
            (Layout::Folder, None) => in_a_folder(&file.path),
            (Layout::None, Some(folder)) => {
                let below = file.path.strip_prefix(folder);
                below.unwrap_or(&file.path).to_owned()
            }
            _ => file.path.clone(),
        };
        location.rename(file, with_mark(path, mark));
    }
    match location.check(&files) {
        Ok(()) => location,
        Err(_) => Location {
            directory: location.directory,
            ..Location::default()
        },
    }
}

/// A folder that is called as the file, without its extension where that is a name.
fn in_a_folder(file: &Path) -> PathBuf {
    let name = file.to_str().unwrap_or_default();
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let sound = |stem: &&str| shoal_metainfo::names::sanitise(stem.as_bytes()) == *stem;
    Path::new(stem.filter(sound).unwrap_or(name)).join(file)
}

fn with_mark(path: PathBuf, mark: &str) -> PathBuf {
    let mut name = path.into_os_string();
    name.push(mark);
    name.into()
}

/// The same place without the marks.
pub(crate) fn unmarked(metainfo: &Metainfo, marked: &Location, mark: &str) -> Location {
    let mut location = marked.clone();
    for file in &FileSpec::all_of(metainfo) {
        let path = marked.path_of(file).to_str();
        if let Some(path) = path.and_then(|path| path.strip_suffix(mark)) {
            location.rename(file, PathBuf::from(path));
        }
    }
    location
}

/// Whether something is where the torrent's own file or folder is to be. Looks at the disk.
pub(crate) fn is_there(metainfo: &Metainfo, location: &Location) -> bool {
    let files = FileSpec::all_of(metainfo);
    let first = files.iter().find(|file| !file.padding);
    let top = first.and_then(|file| location.path_of(file).iter().next());
    top.is_some_and(|top| location.directory.join(top).symlink_metadata().is_ok())
}

/// For each file whether it is wanted, where one of these patterns fits the name of a file or of a folder that it is in; `None` is all.
pub(crate) fn wanted(metainfo: &Metainfo, excluded: &[String]) -> Option<Vec<bool>> {
    let excluded: Vec<Vec<char>> = excluded.iter().map(|pattern| folded(pattern)).collect();
    let fits = |path: &str| {
        path.split('/').any(|name| {
            let name = folded(name);
            excluded.iter().any(|pattern| matches(pattern, &name))
        })
    };
    let files = metainfo.files().iter();
    let wanted: Vec<bool> = files
        .map(|file| file.padding || !fits(&file.path))
        .collect();
    wanted.contains(&false).then_some(wanted)
}

fn folded(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Whether `*`, which stands for anything, and `?`, for one character, can be read so that the pattern is the name. In time of their
/// lengths multiplied: where something does not fit, the last `*` alone takes more.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut seen, mut star) = (0, 0, None);
    while let Some(&c) = name.get(seen) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == c => {
                at += 1;
                seen += 1;
            }
            _ => match &mut star {
                Some((place, taken)) => {
                    *taken += 1;
                    (at, seen) = (*place + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shoal_metainfo::metainfo::Limits;

    fn torrent(files: &str) -> Metainfo {
        let file =
            format!("d4:infod{files}12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee");
        Metainfo::parse(file.as_bytes(), Limits::LOCAL).unwrap()
    }

    fn album() -> Metainfo {
        torrent("5:filesld6:lengthi1e4:pathl1:aeed6:lengthi1e4:pathl3:sub5:b.EXEeee4:name5:album")
    }

    fn paths(metainfo: &Metainfo, layout: Layout, mark: &str) -> Vec<String> {
        let location = named(metainfo, PathBuf::from("/here"), layout, mark);
        let bare = unmarked(metainfo, &location, mark);
        let plain = named(metainfo, PathBuf::from("/here"), layout, "");
        assert_eq!(bare, plain);
        let files = FileSpec::all_of(metainfo);
        let path = |file| location.path_of(file).to_str().unwrap().to_owned();
        files.iter().map(path).collect()
    }

    #[test]
    fn torrents_have_a_folder_of_their_own_or_not() {
        let (album, film) = (album(), torrent("6:lengthi1e4:name8:film.mkv"));
        let (original, folder, none) = (Layout::Original, Layout::Folder, Layout::None);
        assert_eq!(paths(&album, original, ""), ["album/a", "album/sub/b.EXE"]);
        assert_eq!(paths(&album, folder, ""), ["album/a", "album/sub/b.EXE"]);
        assert_eq!(paths(&album, none, ".part"), ["a.part", "sub/b.EXE.part"]);
        assert_eq!(paths(&film, original, ".!s"), ["film.mkv.!s"]);
        assert_eq!(paths(&film, folder, ""), ["film/film.mkv"]);
        assert_eq!(paths(&film, none, ""), ["film.mkv"]);
        for (name, expected) in [("word", "word/word"), ("a .txt", "a .txt/a .txt")] {
            let odd = torrent(&format!("6:lengthi1e4:name{}:{name}", name.len()));
            assert_eq!(paths(&odd, folder, ""), [expected]);
        }
    }

    #[test]
    fn what_a_pattern_fits_is_not_wanted() {
        let wanted = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|&text| text.to_owned()).collect();
            wanted(&album(), &patterns)
        };
        assert_eq!(wanted(&[]), None);
        assert_eq!(wanted(&["*.txt", "b"]), None);
        assert_eq!(wanted(&["*.exe"]), Some(vec![true, false]));
        assert_eq!(wanted(&["SU?"]), Some(vec![true, false]));
        assert_eq!(wanted(&["b.*", "a"]), Some(vec![false, false]));
    }

    /// The same by trying everything.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                naive(rest, name) || !name.is_empty() && naive(pattern, &name[1..])
            }
            (['?', rest @ ..], [_, more @ ..]) => naive(rest, more),
            ([one, rest @ ..], [other, more @ ..]) => one == other && naive(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_fit_as_they_would_by_trying_everything(pattern in "[ab*?]{0,8}", name in "[ab]{0,10}") {
            let (pattern, name) = (folded(&pattern), folded(&name));
            prop_assert_eq!(matches(&pattern, &name), naive(&pattern, &name));
        }
    }
}
