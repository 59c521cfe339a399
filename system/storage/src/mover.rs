//! The steps of a move, one operation on the disk at a time, and the way back.
//!
//! Invariant: nothing is overwritten, and no file is removed that is not in the other place, of the same length and time.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::disk::{self, Access, Disk, Root};
use crate::error::StorageError;
use crate::files::{Failure, Files};
use crate::home::Home;
use crate::journal::{self, Fingerprint, PARTS_FILE};
use crate::note::{Note, Stage};
use crate::relocate::Progress;
use crate::remove::remove_folders;
use crate::spec::FileSpec;

/// As much as is copied at a time, between two looks at whether it is to go on.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// A move that is going on, or that another process began.
pub(crate) struct Mover<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) specs: &'a [FileSpec],
    pub(crate) from: Arc<Home>,
    pub(crate) to: Arc<Home>,
    /// Below the new root, where copies are before they get their names.
    pub(crate) staging: PathBuf,
    pub(crate) note: Note,
    /// Where the note is, if there is one.
    pub(crate) path: Option<PathBuf>,
    /// Who reads the files meanwhile.
    pub(crate) readers: Option<&'a Files>,
}

impl Mover<'_> {
    fn spec(&self, slot: u32) -> Option<&FileSpec> {
        self.specs.get(usize::try_from(slot).unwrap_or(usize::MAX))
    }

    fn old_path(&self, slot: u32) -> &Path {
        self.from.path(self.spec(slot))
    }

    fn new_path(&self, slot: u32) -> &Path {
        self.to.path(self.spec(slot))
    }

    fn staged(&self, slot: u32) -> PathBuf {
        self.staging.join(slot.to_string())
    }

    fn failure(&self, home: &Home, path: &Path, error: io::Error) -> StorageError {
        let path = home.location.directory.join(path);
        if error.kind() == io::ErrorKind::AlreadyExists {
            return StorageError::Occupied(path);
        }
        Failure { path, error }.into()
    }

    /// Notes how far it is.
    pub(crate) fn keep(&mut self, stage: Stage) -> Result<(), StorageError> {
        self.note.stage = stage;
        let Some(path) = &self.path else {
            return Ok(());
        };
        match self.note.write(self.disk, path) {
            // What counts is what a later process would find.
            Err(_) if Note::read(path).is_ok_and(|found| found.as_ref() == Some(&self.note)) => {
                Ok(())
            }
            written => written.map_err(|error| StorageError::io(path, error)),
        }
    }

    fn forget(&self) -> Result<(), StorageError> {
        match &self.path {
            Some(path) => {
                let removed = self.disk.note(path, None);
                removed.map_err(|error| StorageError::io(path, error))
            }
            None => Ok(()),
        }
    }

    /// Moves a file so that whoever reads finds it.
    pub(crate) fn shift(
        &self,
        slot: u32,
        to_next: bool,
        how: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        match self.readers {
            Some(files) => files.move_file(slot_of(files, slot), to_next, self.note.copied, how),
            None => how(),
        }
    }

    /// Renames all files. `None` where one of them turns out to be on another volume.
    pub(crate) fn rename_all(
        &self,
        progress: &Progress,
        may_go_on: &dyn Fn() -> Result<(), StorageError>,
    ) -> Result<Option<()>, StorageError> {
        for &slot in &self.note.slots {
            may_go_on()?;
            let (old, new) = (self.old_path(slot), self.new_path(slot));
            let length = allocated(&self.from.root, old);
            let rename = || self.disk.rename(&self.from.root, old, &self.to.root, new);
            match self.shift(slot, true, rename) {
                Ok(()) => progress.add(length),
                Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                    return Ok(None);
                }
                Err(error) => return Err(self.failure(&self.to, new, error)),
            }
        }
        Ok(Some(()))
    }

    /// Copies all files to where they have no names yet.
    pub(crate) fn copy_all(
        &self,
        progress: &Progress,
        may_go_on: &dyn Fn() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for &slot in &self.note.slots {
            self.copy(slot, progress, may_go_on)?;
        }
        Ok(())
    }

    fn copy(
        &self,
        slot: u32,
        progress: &Progress,
        may_go_on: &dyn Fn() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let (old, staged) = (self.old_path(slot), self.staged(slot));
        let source_failed = |error| self.failure(&self.from, old, error);
        let failed = |error| self.failure(&self.to, &staged, error);
        let source = self.disk.open(&self.from.root, old, Access::Read);
        let source = source.map_err(source_failed)?;
        let before = source.metadata().map_err(source_failed)?;
        let executable = before.mode() & 0o100 != 0;
        let access = Access::Write { executable };
        let copy = self.disk.open(&self.to.root, &staged, access);
        let copy = copy.map_err(failed)?;
        let (mut at, mut bytes) = (0, Vec::new());
        while let Some(data) = data_after(&source, at, before.len()).map_err(source_failed)? {
            at = data.start;
            while at < data.end {
                may_go_on()?;
                let length = CHUNK_BYTES.min(data.end - at);
                bytes.resize(usize::try_from(length).unwrap_or(0), 0);
                let read = disk::read_exact(self.disk, &source, &mut bytes, at);
                read.map_err(source_failed)?;
                let mut slices = [IoSlice::new(&bytes)];
                disk::write_all(self.disk, &copy, &mut slices, at).map_err(failed)?;
                progress.add(length);
                at += length;
            }
        }
        self.disk.set_len(&copy, before.len()).map_err(failed)?;
        let times = before
            .modified()
            .map(|modified| FileTimes::new().set_modified(modified));
        let dated = times.and_then(|times| copy.set_times(times));
        dated.map_err(failed)?;
        self.disk.sync(&copy).map_err(failed)?;
        let after = source.metadata().map_err(source_failed)?;
        let unchanged =
            (before.len(), journal::mtime_ns(&before)) == (after.len(), journal::mtime_ns(&after));
        let whole = copy.metadata().map_err(failed)?.len() == before.len();
        if unchanged && whole {
            Ok(())
        } else {
            Err(StorageError::Changed(
                self.from.location.directory.join(old),
            ))
        }
    }

    /// Gives copies their names.
    pub(crate) fn place_all(&self) -> Result<(), StorageError> {
        for &slot in &self.note.slots {
            let (root, new) = (&self.to.root, self.new_path(slot));
            let placed = self.disk.rename(root, &self.staged(slot), root, new);
            placed.map_err(|error| self.failure(&self.to, new, error))?;
        }
        self.remove_staging();
        Ok(())
    }

    fn remove_staging(&self) {
        // Where it stays it is empty, and in nobody's way.
        let _ = self.disk.remove_folder(&self.to.root, &self.staging);
    }

    /// What the files in the new place look like.
    pub(crate) fn prints(&self) -> Result<Vec<(u32, Fingerprint)>, StorageError> {
        let print = |&slot: &u32| {
            let new = self.new_path(slot);
            let file = self.to.root.open_existing(new);
            let metadata = file.and_then(|file| file.metadata());
            let metadata = metadata.map_err(|error| self.failure(&self.to, new, error))?;
            Ok((slot, self.to.print(&metadata)))
        };
        self.note.slots.iter().map(print).collect()
    }

    /// Makes names survive a power failure.
    pub(crate) fn sync_names(&self) -> Result<(), StorageError> {
        match self.disk.sync_all(&self.to.root) {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                Err(self.failure(&self.to, Path::new(""), error))
            }
            _ => Ok(()),
        }
    }

    /// Puts everything back in the old place, from before the commitment. What was done already is not done again.
    pub(crate) fn undo(&self) -> Result<(), StorageError> {
        for &slot in self.note.slots.iter().rev() {
            if self.note.copied {
                self.drop_copy(slot)?;
            } else {
                self.rename_back(slot)?;
            }
        }
        if self.note.copied {
            self.remove_staging();
        }
        let folders = self.note.slots.iter().map(|&slot| self.new_path(slot));
        remove_folders(self.disk, &self.to.root, folders);
        self.forget()
    }

    fn rename_back(&self, slot: u32) -> Result<(), StorageError> {
        let (old, new) = (self.old_path(slot), self.new_path(slot));
        if print_of(&self.from.root, old).is_some() || print_of(&self.to.root, new).is_none() {
            return Ok(());
        }
        let rename = || self.disk.rename(&self.to.root, new, &self.from.root, old);
        let renamed = self.shift(slot, false, rename);
        renamed.map_err(|error| self.failure(&self.from, old, error))
    }

    pub(crate) fn drop_copy(&self, slot: u32) -> Result<(), StorageError> {
        let remove = |path: &Path| match self.disk.remove(&self.to.root, path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failure(&self.to, path, error))
            }
            _ => Ok(()),
        };
        let staged = self.staged(slot);
        if print_of(&self.to.root, &staged).is_some() {
            return remove(&staged);
        }
        // Only when all were copied does one get its name; until then what has it is somebody else's.
        let new = self.new_path(slot);
        let original = print_of(&self.from.root, self.old_path(slot));
        let placed = print_of(&self.to.root, new);
        match (self.note.stage, original, placed) {
            (Stage::Placing, Some(original), Some(placed)) if looks_like(original, placed) => {
                remove(new)
            }
            _ => Ok(()),
        }
    }

    /// After the commitment: what is left in the old place goes. False where some of it does not.
    pub(crate) fn clear_old(&self) -> bool {
        let mut cleared = true;
        let prints: BTreeMap<u32, Fingerprint> = self.note.prints.iter().copied().collect();
        for &slot in &self.note.slots {
            let old = self.old_path(slot);
            let left = print_of(&self.from.root, old);
            if self.note.copied
                && let (Some(left), Some(&copy)) = (left, prints.get(&slot))
                && looks_like(left, copy)
                && let Err(error) = self.disk.remove(&self.from.root, old)
            {
                cleared = false;
                tracing::warn!(
                    "{}: {error}: it was moved and is not removed",
                    old.display()
                );
            }
        }
        let folders = self.note.slots.iter().map(|&slot| self.old_path(slot));
        let (_, failures) = remove_folders(self.disk, &self.from.root, folders);
        cleared && failures.is_empty()
    }
}

/// The same bytes, as far as length and time tell.
const fn looks_like(one: Fingerprint, other: Fingerprint) -> bool {
    one.size == other.size && one.mtime_ns == other.mtime_ns
}

/// What the regular file at `path` looks like, if there is one.
fn print_of(root: &Root, path: &Path) -> Option<Fingerprint> {
    let metadata = root.open_existing(path).ok()?.metadata().ok()?;
    Some(Fingerprint::of(&metadata))
}

/// How many bytes of the disk the file at `path` takes, without its holes.
pub(crate) fn allocated(root: &Root, path: &Path) -> u64 {
    let metadata = root.open_existing(path).and_then(|file| file.metadata());
    metadata.map_or(0, |metadata| {
        metadata.len().min(metadata.blocks().saturating_mul(512))
    })
}

/// The next range of `file`, from `at` to `end`, that is no hole.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn data_after(file: &File, at: u64, end: u64) -> io::Result<Option<std::ops::Range<u64>>> {
    use rustix::fs::SeekFrom;
    if at >= end {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // The file system knows of no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(at..end)),
        Err(error) => return Err(error.into()),
    };
    let hole = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(end);
    let stop = hole.min(end);
    Ok((start < stop).then_some(start..stop))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn data_after(_file: &File, at: u64, end: u64) -> io::Result<Option<std::ops::Range<u64>>> {
    Ok((at < end).then_some(at..end))
}

fn slot_of(files: &Files, slot: u32) -> usize {
    if slot == PARTS_FILE {
        files.parts_slot()
    } else {
        usize::try_from(slot).unwrap_or(usize::MAX)
    }
}

/// Where copies of one content are before they get their names.
pub(crate) fn staging(parts: &Path) -> PathBuf {
    parts.with_extension("moving")
}
