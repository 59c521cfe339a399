//! Removing a content from the disk: its own files and nothing else, for good or into the trash.
//!
//! Invariant: what goes is a regular file at a path of the content that the journal vouches for, or that is exactly as long as the
//! content has it; and then the folders on the way to it, if they are empty. Nothing is reached through a symbolic link.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::absence::Whereabouts;
use crate::disk::{self, Disk, Root};
use crate::error::StorageError;
use crate::files::{Failure, parts_name};
use crate::journal::{self, Knowledge};
use crate::note::Note;
use crate::spec::{ContentSpec, FileSpec, Location};
use crate::trash::Trash;
use crate::{open, relocate};

/// The most things that stay of which [`Removed`] says why: a person reads no more.
const MAX_KEPT: usize = 16;

/// What becomes of files that are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Their room is free at once.
    Deleted,
    /// They lie in the trash of their volume, from which file browsers bring them back.
    Trashed {
        /// The person's own trash, for what lies on the same volume; see [`crate::home_trash`].
        home: Option<PathBuf>,
    },
}

/// What a removal came to.
#[derive(Debug, Default)]
pub struct Removed {
    /// Files that went.
    pub files: u64,
    /// Their lengths in bytes.
    pub bytes: u64,
    /// Folders that were empty then, and went.
    pub folders: u64,
    /// How many things stayed at paths of the content that are not its own, or could not be removed.
    pub kept: u64,
    /// Why, of the first of them.
    pub reasons: Vec<StorageError>,
}

impl Removed {
    fn keep(&mut self, reason: StorageError) {
        self.kept += 1;
        if self.reasons.len() < MAX_KEPT {
            self.reasons.push(reason);
        }
    }
}

/// A removal under way.
struct Removal<'a> {
    spec: &'a ContentSpec,
    location: &'a Location,
    disk: &'a dyn Disk,
    root: Root,
    trash: Option<Trash>,
    /// What each top-level name is in the trash.
    trashed_as: BTreeMap<PathBuf, PathBuf>,
    done: Removed,
    /// Something stayed that a second attempt may remove.
    failed: bool,
}

/// Removes a content, see [`crate::Storage::remove`].
pub(crate) fn remove(
    disk: &dyn Disk,
    spec: &ContentSpec,
    fate: &Fate,
    cancelled: &AtomicBool,
) -> Result<Removed, StorageError> {
    spec.location().check(&spec.files)?;
    let settlement = relocate::settle(disk, spec)?;
    let moved = settlement.and_then(|settlement| settlement.relocated(spec));
    let location = moved.unwrap_or_else(|| spec.location());
    location.check(&spec.files)?;
    let root = open::root(&location.directory)?;
    // Held to the end.
    let journal = match &spec.journal {
        Some(path) => journal::peek(path, spec.info_hash, spec.layout.piece_count())?,
        None => None,
    };
    let known = journal.as_ref().and_then(|(_, known)| known.as_ref());
    let whereabouts = Whereabouts::of(&root, &location.directory);
    if let (Some(before), Ok(now)) = (known.and_then(|known| known.root), whereabouts)
        && before.is_elsewhere(now)
        && !has_any(&root, spec, &location)
    {
        return Err(StorageError::VolumeMissing(location.directory));
    }
    let trash = match fate {
        Fate::Deleted => None,
        Fate::Trashed { home } => Some(Trash::open(&location.directory, &root, home.as_deref())?),
    };
    let mut removal = Removal {
        spec,
        location: &location,
        disk,
        root,
        trash,
        trashed_as: BTreeMap::new(),
        done: Removed::default(),
        failed: false,
    };
    removal.remove_files(known, cancelled)?;
    if let (Some(path), false) = (&spec.journal, removal.failed) {
        remove_journal(path, journal.is_some())?;
    }
    Ok(removal.done)
}

/// Removes the folders on the way to `files` that are empty: how many, and which could not be.
pub(crate) fn remove_folders<'a>(
    disk: &dyn Disk,
    root: &Root,
    files: impl Iterator<Item = &'a Path>,
) -> (u64, Vec<(PathBuf, io::Error)>) {
    let above = |file: &'a Path| file.ancestors().skip(1);
    let folders = files.flat_map(above);
    let folders: BTreeSet<&Path> = folders
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect();
    let (mut removed, mut failures) = (0, Vec::new());
    // What lies within another comes after it in order, and goes before.
    for folder in folders.into_iter().rev() {
        match disk.remove_folder(root, folder) {
            Ok(()) => removed += 1,
            Err(error) if is_in_use(&error) => {}
            Err(error) => failures.push((folder.to_owned(), error)),
        }
    }
    (removed, failures)
}

/// Whether any file of the content is there.
fn has_any(root: &Root, spec: &ContentSpec, location: &Location) -> bool {
    let mut files = spec.files.iter().filter(|file| !file.padding);
    files.any(|file| matches!(root.inspect(location.path_of(file)), Ok(Some(_))))
}

/// Whether a folder stays because it should: it is not empty, is none any more, or something is mounted there.
fn is_in_use(error: &io::Error) -> bool {
    let reasons = [
        Errno::NOTEMPTY,
        Errno::EXIST,
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::LOOP,
        Errno::BUSY,
    ];
    let code = error.raw_os_error();
    reasons
        .iter()
        .any(|reason| code == Some(reason.raw_os_error()))
}

/// Removes the journal at `path`, which nobody uses, with what lies beside it: whoever opens the content next knows nothing of it. What
/// is not there is removed already.
///
/// # Errors
/// What the system says.
pub fn forget(path: &Path) -> Result<(), StorageError> {
    remove_journal(path, true)
}

/// The journal goes last, so that a removal that was cut off can be carried on.
fn remove_journal(path: &Path, exists: bool) -> Result<(), StorageError> {
    let [new, bad] = journal::beside(path);
    let beside = [new, bad, Note::path(path)];
    let all = beside.iter().map(PathBuf::as_path);
    for path in all.chain(exists.then_some(path)) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StorageError::io(path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Removal<'_> {
    fn remove_files(
        &mut self,
        known: Option<&Knowledge>,
        cancelled: &AtomicBool,
    ) -> Result<(), StorageError> {
        let mut gone = Vec::new();
        for (slot, file) in (0..).zip(&self.spec.files) {
            if cancelled.load(Ordering::Relaxed) {
                return Err(StorageError::Cancelled);
            }
            if file.padding {
                continue;
            }
            let ours = known.is_some_and(|known| known.placed.contains(&slot));
            if self.remove_file(file, ours) {
                gone.push(self.location.path_of(file));
            }
        }
        let parts = parts_name(self.spec.info_hash);
        if let Err(error) = self.disk.remove(&self.root, &parts)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.fail(&parts, error);
        }
        let (removed, failures) = remove_folders(self.disk, &self.root, gone.into_iter());
        self.done.folders += removed;
        for (folder, error) in failures {
            self.fail(&folder, error);
        }
        Ok(())
    }

    /// Removes a file if it is the content's: whether nothing is left of it. `ours` says that the journal vouches for it.
    fn remove_file(&mut self, file: &FileSpec, ours: bool) -> bool {
        let below = self.location.path_of(file);
        let path = self.location.directory.join(below);
        let stat = match self.root.inspect(below) {
            Ok(Some(stat)) => stat,
            Ok(None) => return ours,
            Err(error) if error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => {
                self.done.keep(StorageError::NotAFile(path));
                return false;
            }
            Err(error) => {
                self.fail(below, error);
                return false;
            }
        };
        let length = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if !disk::is_regular(&stat) {
            self.done.keep(StorageError::NotAFile(path));
            return false;
        }
        if length > file.length || length < file.length && !ours {
            self.done.keep(StorageError::Foreign(path));
            return false;
        }
        let result = if self.trash.is_some() {
            self.discard(below)
        } else {
            self.disk.remove(&self.root, below)
        };
        if let Err(error) = result {
            self.fail(below, error);
            return false;
        }
        self.done.files += 1;
        self.done.bytes += length;
        true
    }

    /// Gives the file at `path` a place in the trash, beside what else is below the same top-level name.
    fn discard(&mut self, path: &Path) -> io::Result<()> {
        let Some(trash) = &self.trash else {
            return Ok(());
        };
        let mut components = path.components();
        let top: PathBuf = components.by_ref().take(1).collect();
        let place = match self.trashed_as.get(&top) {
            Some(place) => place.clone(),
            None => {
                let place = trash.announce(&self.location.directory.join(&top))?;
                self.trashed_as.insert(top, place.clone());
                place
            }
        };
        let rest = components.as_path();
        let place = if rest.as_os_str().is_empty() {
            place
        } else {
            place.join(rest)
        };
        self.disk.rename(&self.root, path, trash.root(), &place)
    }

    fn fail(&mut self, path: &Path, error: io::Error) {
        let path = self.location.directory.join(path);
        self.failed |= !disk::is_link(&error);
        self.done.keep(Failure { path, error }.into());
    }
}
