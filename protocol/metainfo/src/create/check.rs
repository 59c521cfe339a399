//! What cannot be published, found before anything is hashed, and what will not arrive under its name.

use super::{
    CreateError, Kind, MAX_CREATED_PIECE_LENGTH, MAX_PATH_DEPTH, PlannedFile, Renamed, SourceFile,
};
use crate::bencode::Limits;
use crate::geometry::{Layout, LayoutError, MAX_PIECES};
use crate::names::{Names, Place, sanitise};

/// The most lists, dictionaries, strings and numbers that are not about files: trackers, web seeds and the rest.
const MAX_OTHER_ENTRIES: usize = 100_000;

/// The length of all files, so far below 2^64 that padding cannot lift it there.
pub(super) fn total_length(sources: &[SourceFile]) -> Result<u64, CreateError> {
    const MAX_TOTAL_LENGTH: u64 = MAX_PIECES as u64 * MAX_CREATED_PIECE_LENGTH as u64;
    let mut lengths = sources.iter().map(|file| file.length);
    match lengths.try_fold(0u64, u64::checked_add) {
        None => Err(LayoutError::TooLong.into()),
        Some(0) => Err(LayoutError::Empty.into()),
        Some(total) if total > MAX_TOTAL_LENGTH => Err(LayoutError::TooManyPieces.into()),
        Some(total) => Ok(total),
    }
}

/// Refuses what no file system could hold or no reader would take for the same path.
pub(super) fn names(name: &str, sources: &[SourceFile]) -> Result<(), CreateError> {
    if !is_component(name) {
        return Err(CreateError::Name(name.to_owned()));
    }
    for source in sources {
        let path = || source.path.join("/");
        let target = source.symlink.as_deref();
        let mut components = source.path.iter().chain(target.into_iter().flatten());
        if components.any(|component| !is_component(component)) {
            return Err(CreateError::Name(path()));
        }
        if source.path.len() > MAX_PATH_DEPTH {
            return Err(CreateError::TooDeep(path()));
        }
        if source.path.is_empty() && sources.len() > 1 {
            return Err(CreateError::Conflict(name.to_owned()));
        }
        if target.is_some_and(<[String]>::is_empty) || target.is_some() && source.length > 0 {
            return Err(CreateError::Symlink(path()));
        }
    }
    Ok(())
}

fn is_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

/// Refuses two files of one path, and files below a file. In tree order such two are neighbours.
pub(super) fn places(sources: &[SourceFile], order: &[usize]) -> Result<(), CreateError> {
    let paths = || order.iter().map(|&at| &sources[at].path);
    match paths()
        .zip(paths().skip(1))
        .find(|(path, next)| next.starts_with(path))
    {
        Some((path, _)) => Err(CreateError::Conflict(path.join("/"))),
        None => Ok(()),
    }
}

/// Refuses a torrent that would be too large to be read: too many bytes of hashes, or too many values, of which this counts
/// all that there can be. [`super::Plan::finish`] refuses what is too long for other reasons.
pub(super) fn size(sources: &[SourceFile], layout: &Layout, kind: Kind) -> Result<(), CreateError> {
    let (v1, v2) = (usize::from(kind.has_v1()), usize::from(kind.has_v2()));
    let hash_bytes = (v1 * 20 + v2 * 32) * layout.piece_count() as usize;
    if hash_bytes > Limits::LOCAL.bytes {
        return Err(CreateError::TooLarge(hash_bytes));
    }
    let entries = sources.iter().map(|source| {
        let link = source.symlink.as_ref().map_or(0, Vec::len);
        // In the list of files: a dictionary with attributes, length and path, and as much for padding behind it.
        let listed = 18 + source.path.len() + link;
        // In the file tree: a key and a dictionary for each component, then the same things and the root.
        let in_tree = 12 + 2 * source.path.len() + link;
        v1 * listed + v2 * in_tree
    });
    if entries.sum::<usize>() > Limits::LOCAL.tokens - MAX_OTHER_ENTRIES {
        return Err(CreateError::TooManyFiles(sources.len()));
    }
    Ok(())
}

/// What readers will call the files, where that is not their name.
pub(super) fn renamed(
    name: &str,
    sources: &[SourceFile],
    files: &[PlannedFile],
) -> Result<Vec<Renamed>, CreateError> {
    let mut renamed = Vec::new();
    let safe = sanitise(name.as_bytes());
    if safe != name {
        renamed.push(Renamed {
            published: name.to_owned(),
            becomes: safe,
        });
    }
    let mut names = Names::new();
    let (mut paths, mut places) = (Vec::new(), Vec::new());
    for source in files.iter().filter_map(|file| file.source) {
        let path = &sources[source].path;
        let Some((name, directories)) = path.split_last() else {
            continue;
        };
        let mut directory = Names::ROOT;
        for component in directories {
            directory = names.directory(directory, component.as_bytes())?;
        }
        paths.push(path);
        places.push(Place {
            directory,
            name: name.as_bytes(),
        });
    }
    let changed = names.resolve(&places)?.into_iter().zip(paths);
    renamed.extend(changed.filter(|(resolved, _)| resolved.raw.is_some()).map(
        |(resolved, path)| Renamed {
            published: path.join("/"),
            becomes: resolved.path,
        },
    ));
    Ok(renamed)
}
