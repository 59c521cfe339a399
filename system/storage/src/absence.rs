//! Files and volumes that are gone, and that come back.
//!
//! Invariant: what is not there is not taken for lost, and nothing is written in its place: not below the point where a volume was
//! mounted, and not to a new file where a complete one was.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use shoal_metainfo::PieceIndex;

use crate::disk::Root;
use crate::error::StorageError;
use crate::event::Event;
use crate::files::{Failure, Look};
use crate::inner::{Inner, State, journal_index};
use crate::journal::Fingerprint;
use crate::map;
use crate::open::MTIME_TOLERANCE_NS;
use crate::reason::Reason;
use crate::trash::top_of;

/// On which volume a directory is, so that it can be told later whether it still is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// A digest of the path where the volume is mounted.
    pub(crate) mount: u64,
}

impl Whereabouts {
    /// Those of `directory`, which `root` is.
    pub(crate) fn of(root: &Root, directory: &Path) -> io::Result<Self> {
        let (device, inode) = root.identity()?;
        let top = top_of(&directory.canonicalize()?);
        let digest = Sha256::digest(top.as_os_str().as_encoded_bytes());
        let mut mount = [0; 8];
        mount.copy_from_slice(&digest[..8]);
        Ok(Whereabouts {
            device,
            inode,
            mount: u64::from_be_bytes(mount),
        })
    }

    /// Whether a directory that was at `self` before is on another volume, which is mounted elsewhere: as the folder is on which a drive
    /// was mounted that is not there any more. Devices are numbered anew as drives come and go, so that their number alone tells nothing.
    pub(crate) const fn is_elsewhere(self, now: Self) -> bool {
        self.device != now.device && self.mount != now.mount
    }
}

/// The place that was looked at last: many contents are opened in one directory, one after the other.
#[derive(Debug, Default)]
pub(crate) struct LastPlace(Mutex<Option<(PathBuf, Whereabouts)>>);

impl LastPlace {
    /// As [`Whereabouts::of`].
    pub(crate) fn whereabouts(&self, root: &Root, directory: &Path) -> io::Result<Whereabouts> {
        let identity = root.identity()?;
        if let Some((path, found)) = &*self.lock()
            && path == directory
            && (found.device, found.inode) == identity
        {
            return Ok(*found);
        }
        let found = Whereabouts::of(root, directory)?;
        *self.lock() = Some((directory.to_owned(), found));
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(PathBuf, Whereabouts)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is not there.
#[derive(Debug)]
pub(crate) enum Absent {
    /// The directory, since then, in nanoseconds since 1970.
    Volume(i64),
    /// These files.
    Files(BTreeSet<usize>),
}

/// Whether a disk was pulled out under the file system on it, which stays mounted and knows nothing of that but that reading fails.
/// Says no where that cannot be told.
#[cfg(target_os = "linux")]
fn is_device_gone(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let devices = Path::new("/sys/dev/block");
    // File systems without a disk have numbers of this kind.
    let has_disk = major != 0;
    has_disk && devices.is_dir() && !devices.join(format!("{major}:{minor}")).exists()
}

#[cfg(not(target_os = "linux"))]
const fn is_device_gone(_device: u64) -> bool {
    false
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

impl Inner {
    /// Why an operation on a file failed, having looked whether its directory is still there.
    pub(crate) fn reason_of(&self, failure: &Failure) -> Reason {
        let reason = Reason::of(&failure.error, &failure.path);
        let cannot_be = [
            Reason::Full,
            Reason::OpenFiles,
            Reason::TooLarge,
            Reason::Name,
        ];
        if cannot_be.contains(&reason) || self.is_root_there() {
            reason
        } else {
            Reason::VolumeMissing
        }
    }

    /// Whether the directory is where it was. Where a network file system has forgotten what we held open, it is opened again.
    pub(crate) fn is_root_there(&self) -> bool {
        let home = self.files.homes.now();
        let Some(before) = home.identity else {
            return true;
        };
        match Root::new(&home.location.directory) {
            Ok(root) if root.identity().is_ok_and(|now| now == before) => {
                if is_device_gone(before.0) {
                    return false;
                }
                // What went is opened again by who looks for its return, which may not have been all of it.
                if !home.root.is_gone() && home.root.identity().is_err() {
                    let again = Arc::new(home.with(root));
                    if self.files.homes.replace(&home, again) {
                        self.files.close_all();
                    }
                }
                true
            }
            // What cannot be looked at now is not known to be gone.
            Err(error) => {
                let gone = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
                let reason = Reason::of(&error, &home.location.directory);
                reason != Reason::VolumeMissing && !gone.contains(&error.kind())
            }
            Ok(_) => false,
        }
    }

    /// Looks whether the directory is still there.
    pub(crate) fn look_at_volume(&self) {
        let known = self.state().absent.is_some();
        if !known && !self.is_root_there() {
            self.vanish();
        }
    }

    /// The directory is not there any more. Nothing of it is kept open, so that its volume can go and come.
    pub(crate) fn vanish(&self) {
        if self.state().is_volume_absent() {
            return;
        }
        let home = self.files.homes.now();
        let gone = Arc::new(home.with(Root::gone()));
        if !self.files.homes.replace(&home, gone) {
            // Whoever moves files finds out as well, and which are where.
            return;
        }
        self.files.close_all();
        // Only now is it looked for, by whoever opens it again.
        let mut state = self.state();
        if !state.is_volume_absent() {
            state.absent = Some(Absent::Volume(now_ns()));
            state.absences += 1;
            self.set_suspended(
                &mut state,
                Reason::VolumeMissing,
                home.location.directory.clone(),
            );
        }
    }

    /// A file of which pieces are verified is not there any more.
    pub(crate) fn miss(&self, slot: usize) {
        if !self.has_pieces_of(slot) {
            return;
        }
        if !self.is_root_there() {
            return self.vanish();
        }
        let path = self.files.full_path(slot);
        self.files.close(slot);
        let mut state = self.state();
        match &mut state.absent {
            Some(Absent::Volume(_)) => {}
            Some(Absent::Files(slots)) => {
                slots.insert(slot);
            }
            None => {
                state.absent = Some(Absent::Files(BTreeSet::from([slot])));
                self.set_suspended(&mut state, Reason::FilesMissing, path);
            }
        }
    }

    /// Whether verified pieces are in the file.
    fn has_pieces_of(&self, slot: usize) -> bool {
        let Some(spec) = self.files.specs().get(slot) else {
            return false;
        };
        let state = self.state();
        map::pieces_of(spec, &self.layout).any(|piece| state.have.get(piece))
    }

    /// Whether it cannot be told what a piece is, because a file of it is not there.
    pub(crate) fn is_absent(&self, piece: PieceIndex) -> bool {
        match &self.state().absent {
            None => false,
            Some(Absent::Volume(_)) => true,
            Some(Absent::Files(slots)) => {
                let mut places = self.files.places(self.layout.range_of(piece));
                places.any(|place| place.slot.is_some_and(|slot| slots.contains(&slot)))
            }
        }
    }

    /// Writing stops for `reason`, or another one than before.
    pub(crate) fn set_suspended(&self, state: &mut State, reason: Reason, path: PathBuf) {
        let retry_at = Instant::now() + self.shared.config.retry_pause;
        if state.suspend(reason.clone(), retry_at) {
            self.emit(state, Event::Suspended { reason, path });
        }
    }

    /// Looks whether what was missing is back, and goes on if it is.
    pub(crate) fn look_for_return(self: &Arc<Self>) {
        let missing = match &self.state().absent {
            None => None,
            Some(Absent::Volume(since_ns)) => Some(Err(*since_ns)),
            Some(Absent::Files(slots)) => Some(Ok(slots.clone())),
        };
        let back = match missing {
            None => false,
            Some(Err(since_ns)) => self.is_volume_back(since_ns),
            Some(Ok(slots)) => self.are_files_back(&slots),
        };
        if back {
            let mut state = self.state();
            state.absent = None;
            self.resume(&mut state);
        }
    }

    fn are_files_back(self: &Arc<Self>, slots: &BTreeSet<usize>) -> bool {
        if !self.is_root_there() {
            self.vanish();
            return false;
        }
        // What has no pieces any more is not missed.
        let missed = slots.iter().filter(|&&slot| self.has_pieces_of(slot));
        let missed: Vec<usize> = missed.copied().collect();
        let is_there = |&slot: &usize| self.files.look_at(slot).is_ok();
        if !missed.iter().all(is_there) {
            return false;
        }
        for slot in missed {
            let print = self.files.look_at(slot).ok();
            if print.is_none() || self.recorded(slot) != print {
                self.lose_file(slot);
            }
        }
        true
    }

    /// What a file looked like when that was last recorded.
    fn recorded(&self, slot: usize) -> Option<Fingerprint> {
        let seen = self.files.last_seen(slot);
        seen.or_else(|| {
            let journal = self.journal();
            let prints = &journal.as_ref()?.knowledge().fingerprints;
            prints.get(&journal_index(&self.files, slot)).copied()
        })
    }

    /// Opens the directory again if it is the one that was there. What was not synced when it went is verified again, and so is every
    /// file that was changed meanwhile.
    fn is_volume_back(self: &Arc<Self>, since_ns: i64) -> bool {
        let before = self.files.homes.now();
        let directory = &before.location.directory;
        let Ok(root) = Root::new(directory) else {
            return false;
        };
        let known = self.journal().as_ref().and_then(|j| j.knowledge().root);
        let known = known.or(before.whereabouts);
        let here = Whereabouts::of(&root, directory);
        let Ok(here) = here else { return false };
        if known.is_some_and(|known| known.is_elsewhere(here)) || is_device_gone(here.device) {
            return false;
        }
        let home = Arc::new(before.with(root));
        let mut changed = Vec::new();
        let mut missing = BTreeSet::new();
        for slot in self.slots_with_pieces() {
            let path = home.path(self.files.specs().get(slot));
            let metadata = home.root.open_existing(path).and_then(|f| f.metadata());
            match metadata.map(|metadata| home.print(&metadata)) {
                Ok(print) if self.is_as_before(slot, print, since_ns) => {}
                Ok(_) => changed.push(slot),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    missing.insert(slot);
                }
                Err(_) => return false,
            }
        }
        // Another drive in the same place, or a folder in place of one.
        if !missing.is_empty() && known.is_some_and(|known| known.device != here.device) {
            return false;
        }
        // First, so that nobody can read what may not have arrived.
        self.files.forget_writes();
        let unsynced = self.journal().as_ref().map(|j| j.knowledge().unsynced());
        self.lose(unsynced.unwrap_or_default().into_iter());
        self.give_up_spilled();
        for slot in changed {
            self.lose_file(slot);
        }
        if !self.files.homes.replace(&before, home) {
            return false;
        }
        if missing.is_empty() {
            return true;
        }
        let first = missing.first().map(|&slot| self.files.full_path(slot));
        let mut state = self.state();
        state.absent = Some(Absent::Files(missing));
        self.set_suspended(&mut state, Reason::FilesMissing, first.unwrap_or_default());
        false
    }

    /// Blocks of unfinished pieces that were written before the drive went may not have arrived, and nobody is to be blamed for that.
    fn give_up_spilled(self: &Arc<Self>) {
        let mut state = self.state();
        let spilled = state.partials.iter().filter(|(_, p)| p.has_spilled());
        let spilled: Vec<PieceIndex> = spilled.map(|(&piece, _)| piece).collect();
        for piece in spilled {
            match state.partials.get_mut(&piece) {
                Some(partial) if partial.busy => partial.reset(self.verifier.hasher(piece)),
                _ => drop(state.partials.remove(&piece)),
            }
            self.emit(&mut state, Event::Dropped { piece });
        }
    }

    fn is_as_before(&self, slot: usize, print: Fingerprint, since_ns: i64) -> bool {
        let same = |known: Fingerprint| known.inode == print.inode && known.size <= print.size;
        self.recorded(slot).is_none_or(same)
            && print.mtime_ns <= since_ns.saturating_add(MTIME_TOLERANCE_NS)
    }

    /// The files that verified pieces are in.
    fn slots_with_pieces(&self) -> BTreeSet<usize> {
        let have = self.state().have.clone();
        let places = have
            .iter()
            .flat_map(|piece| self.files.places(self.layout.range_of(piece)));
        places.filter_map(|place| place.slot).collect()
    }

    /// Takes files that are gone for lost, as a person wants it: see [`crate::Content::accept_missing`].
    pub(crate) fn accept_missing(self: &Arc<Self>) -> Result<(), StorageError> {
        self.look_at_volume();
        if self.state().is_volume_absent() {
            let home = self.files.homes.now();
            return Err(StorageError::VolumeMissing(home.location.directory.clone()));
        }
        for slot in self.slots_with_pieces() {
            match self.files.look_at(slot) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.lose_file(slot),
                _ => {}
            }
        }
        self.stop_waiting();
        Ok(())
    }

    /// Files that are missing are not waited for any more.
    pub(crate) fn stop_waiting(self: &Arc<Self>) {
        let mut state = self.state();
        if matches!(state.absent, Some(Absent::Files(_))) {
            state.absent = None;
            self.resume(&mut state);
        }
    }

    /// Looks at the file before `place` in it is handed out.
    pub(crate) fn look(self: &Arc<Self>, slot: usize, end: u64, now: bool) -> Look {
        let look = self.files.look(slot, end, now);
        match &look {
            Look::Same => {}
            Look::Changed => self.lose_file(slot),
            Look::Missing => self.miss(slot),
            Look::Unknown(error) => {
                tracing::debug!("{}: {error}", self.files.full_path(slot).display());
                self.look_at_volume();
            }
        }
        look
    }

    /// Somebody changed the file: its pieces are lost.
    pub(crate) fn lose_file(self: &Arc<Self>, slot: usize) {
        self.files.reconsider(slot);
        match self.files.specs().get(slot) {
            Some(spec) => self.lose(map::pieces_of(spec, &self.layout)),
            None => {
                let uses_parts = |piece: &PieceIndex| {
                    let mut places = self.files.places(self.layout.range_of(*piece));
                    places.any(|place| place.slot == Some(slot))
                };
                self.lose(self.layout.pieces().filter(uses_parts));
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_disk_that_is_there_is_told_from_one_that_is_not() {
        for path in ["/", "/proc", "/tmp"] {
            assert!(!is_device_gone(std::fs::metadata(path).unwrap().dev()));
        }
        // Where no driver has that number.
        if Path::new("/sys/dev/block").is_dir() {
            assert!(is_device_gone(rustix::fs::makedev(4_000, 1)));
        }
    }
}
