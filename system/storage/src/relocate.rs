//! Moving the files of a content to another place: other names, another directory, another volume.
//!
//! A note beside the journal says how far a move is (see [`Stage`]). What comes before the commitment is undone where something fails,
//! at once or when the content is opened next; what comes after it is carried on.
//!
//! Invariant: all of a content is in the old place or in the new one whenever a process opens it, and the note says in which.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use tokio::sync::mpsc;

use crate::disk::{self, Disk, Root};
use crate::error::StorageError;
use crate::files::{Failure, parts_name};
use crate::home::Home;
use crate::inner::{Inner, journal_index};
use crate::journal::{self, Fingerprint, Record};
use crate::mover::{Mover, allocated, staging};
use crate::note::{Note, Stage};
use crate::open;
use crate::shared::Shared;
use crate::spec::{ContentSpec, Location, Mode};

/// How far a move is, and whether it is to go on.
#[derive(Debug, Default)]
pub struct Progress {
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Bytes that are in the new place, and how many there are.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let total = self.total_bytes.load(Ordering::Relaxed);
        (self.done_bytes.load(Ordering::Relaxed).min(total), total)
    }

    /// Everything goes back where it was, unless it is too late for that.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// How much room files take is not known to the byte.
    fn complete(&self) {
        let total = self.total_bytes.load(Ordering::Relaxed);
        self.done_bytes.store(total, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Inner {
    /// See [`crate::Content::relocate`].
    pub(crate) fn relocate(
        self: &Arc<Self>,
        to: Location,
        progress: &Progress,
    ) -> Result<(), StorageError> {
        let _still = self.keep_still()?;
        to.check(self.files.specs())?;
        let root = open::root(&to.directory)?;
        if !root.is_writable() {
            return Err(StorageError::ReadOnly(to.directory));
        }
        self.hold_writes()?;
        let moved = self.relocate_held(Home::new(root, to, self.parts_path()), progress);
        if moved.is_ok() {
            progress.complete();
        }
        let mut state = self.state();
        state.moving = false;
        self.kick(&mut state);
        moved
    }

    /// Keeps files from being moved, while what is returned lives.
    pub(crate) fn keep_still(&self) -> Result<MutexGuard<'_, ()>, StorageError> {
        match self.relocating.try_lock() {
            Ok(still) => Ok(still),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                let home = self.files.homes.now();
                Err(StorageError::Moving(home.location.directory.clone()))
            }
        }
    }

    fn parts_path(&self) -> PathBuf {
        self.files.homes.now().path(None).to_owned()
    }

    /// From here on nothing is written, and what was being written is.
    fn hold_writes(&self) -> Result<(), StorageError> {
        {
            let mut state = self.state();
            if state.closing {
                return Err(StorageError::Cancelled);
            }
            state.moving = true;
        }
        drop(self.fence.write().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn may_go_on(&self, progress: &Progress) -> Result<(), StorageError> {
        let cancelled = progress.cancelled.load(Ordering::Relaxed);
        match cancelled || self.state().closing || self.shared.is_closed() {
            true => Err(StorageError::Cancelled),
            false => Ok(()),
        }
    }

    fn relocate_held(&self, to: Home, progress: &Progress) -> Result<(), StorageError> {
        if self.mode == Mode::Download {
            self.sync()?;
        }
        if self.files.homes.is_split() {
            self.go_back()?;
        }
        let (from, to) = (self.files.homes.now(), Arc::new(to));
        let slots = self.moving_slots(&from, &to)?;
        let allocated =
            |&slot: &usize| allocated(&from.root, from.path(self.files.specs().get(slot)));
        let total: u64 = slots.iter().map(allocated).sum();
        progress.total_bytes.store(total, Ordering::Relaxed);
        if slots.is_empty() {
            self.forget_way_from(&to.location)?;
            self.files.homes.settle(to);
            return Ok(());
        }
        let index = |slot: &usize| journal_index(&self.files, *slot);
        let note = Note {
            stage: Stage::Moving,
            copied: from.device != to.device,
            from: (*from.location).clone(),
            to: (*to.location).clone(),
            slots: slots.iter().map(index).collect(),
            prints: Vec::new(),
        };
        self.files.homes.begin(Arc::clone(&to));
        let mut mover = Mover {
            disk: self.files.disk.as_ref(),
            specs: self.files.specs(),
            staging: staging(to.path(None)),
            from,
            to,
            note,
            path: self.note_path(),
            readers: Some(&self.files),
        };
        let mut moved = self.rename_or_copy(&mut mover, progress);
        if moved.is_ok() {
            moved = self.commit(&mut mover);
        }
        if let Err(error) = moved {
            let undone = mover.undo();
            if mover.note.copied || undone.is_ok() {
                // Copies that could not be cleared away are in nobody's way, and are tried again when the content is opened next.
                self.files.homes.settle(Arc::clone(&mover.from));
                return Err(error);
            }
            // Files stay where they are, and are found there.
            return undone;
        }
        // What is left is tried again when the content is opened next.
        if mover.clear_old() {
            mover.note.prints.clear();
            if let Err(error) = mover.keep(Stage::Settled) {
                tracing::warn!("{error}");
            }
        }
        Ok(())
    }

    /// Forgets what an earlier move said that led away from the place `to`, where everything is from here on.
    fn forget_way_from(&self, to: &Location) -> Result<(), StorageError> {
        let Some(path) = self.note_path() else {
            return Ok(());
        };
        let read = Note::read(&path).map_err(|error| StorageError::io(&path, error))?;
        if read.is_none_or(|note| note.from != *to) {
            return Ok(());
        }
        let forgotten = self.files.disk.note(&path, None);
        forgotten.map_err(|error| StorageError::io(path, error))
    }

    fn note_path(&self) -> Option<PathBuf> {
        let journal = self.journal();
        journal.as_ref().map(|journal| Note::path(journal.path()))
    }

    /// Puts back what an earlier move left in two places.
    fn go_back(&self) -> Result<(), StorageError> {
        let Some(path) = self.note_path() else {
            return Err(StorageError::Moving(
                self.files.homes.now().location.directory.clone(),
            ));
        };
        let note = Note::read(&path).map_err(|error| StorageError::io(&path, error))?;
        let Some(note) = note else { return Ok(()) };
        let from = self.files.homes.now();
        let to = home_at(&note.to, from.path(None))?;
        let mover = Mover {
            disk: self.files.disk.as_ref(),
            specs: self.files.specs(),
            staging: staging(to.path(None)),
            from: Arc::clone(&from),
            to: Arc::new(to),
            note,
            path: Some(path),
            readers: Some(&self.files),
        };
        mover.undo()?;
        self.files.homes.settle(from);
        Ok(())
    }

    /// The files that are there and are to be elsewhere, where nothing is.
    fn moving_slots(&self, from: &Home, to: &Home) -> Result<Vec<usize>, StorageError> {
        let same_root = is_same(&from.root, &to.root);
        let mut slots = Vec::new();
        for slot in 0..=self.files.parts_slot() {
            let spec = self.files.specs().get(slot);
            let placed = spec.is_none_or(|spec| !spec.padding && self.files.is_placed(slot));
            let (old, new) = (from.path(spec), to.path(spec));
            if !placed || same_root && old == new {
                continue;
            }
            match inspect(from, old)? {
                None => continue,
                Some(stat) if !disk::is_regular(&stat) => {
                    return Err(StorageError::NotAFile(from.location.directory.join(old)));
                }
                Some(_) => {}
            }
            if inspect(to, new)?.is_some() {
                return Err(StorageError::Occupied(to.location.directory.join(new)));
            }
            slots.push(slot);
        }
        Ok(slots)
    }

    fn rename_or_copy(
        &self,
        mover: &mut Mover<'_>,
        progress: &Progress,
    ) -> Result<(), StorageError> {
        let may_go_on = || self.may_go_on(progress);
        if !mover.note.copied {
            mover.keep(Stage::Moving)?;
            if mover.rename_all(progress, &may_go_on)?.is_some() {
                return mover.sync_names();
            }
            mover.undo()?;
            mover.note.copied = true;
            progress.done_bytes.store(0, Ordering::Relaxed);
        }
        has_room(&mover.to, progress)?;
        mover.keep(Stage::Moving)?;
        // What an attempt left there that nobody could clear away.
        for &slot in &mover.note.slots {
            mover.drop_copy(slot)?;
        }
        mover.copy_all(progress, &may_go_on)?;
        mover.sync_names()?;
        mover.keep(Stage::Placing)?;
        mover.place_all()?;
        mover.sync_names()
    }

    /// Everything is in the new place: it counts from here on.
    fn commit(&self, mover: &mut Mover<'_>) -> Result<(), StorageError> {
        // What files look like is asked of one place, until the journal knows about the other one.
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let placing = mover.note.stage;
        if mover.note.copied {
            mover.note.prints = mover.prints()?;
        }
        if let Err(error) = mover.keep(Stage::Committed) {
            mover.note.stage = placing;
            return Err(error);
        }
        if mover.note.copied {
            for &slot in &mover.note.slots {
                // Nothing is done that could fail.
                let _ = mover.shift(slot, true, || Ok(()));
            }
        }
        self.files.homes.settle(Arc::clone(&mover.to));
        let mut records = prints_of(&mover.note);
        records.extend(mover.to.whereabouts.map(Record::Root));
        if let Some(journal) = self.journal().as_mut()
            && let Err(error) = journal.append_all(&records)
        {
            // The files are taken for changed when they are opened next, and verified.
            tracing::warn!("{}: {error}", journal.path().display());
        }
        Ok(())
    }
}

fn prints_of(note: &Note) -> Vec<Record> {
    let record = |&(slot, print): &(u32, Fingerprint)| Record::Fingerprint(slot, print);
    note.prints.iter().map(record).collect()
}

fn inspect(home: &Home, path: &Path) -> Result<Option<rustix::fs::Stat>, StorageError> {
    let full = || home.location.directory.join(path);
    home.root.inspect(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotADirectory {
            return StorageError::NotAFile(full());
        }
        let path = full();
        Failure { path, error }.into()
    })
}

fn is_same(one: &Root, other: &Root) -> bool {
    match (one.identity(), other.identity()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn has_room(to: &Home, progress: &Progress) -> Result<(), StorageError> {
    has_room_for(to, progress.bytes().1)
}

fn has_room_for(to: &Home, needed_bytes: u64) -> Result<(), StorageError> {
    match to.root.free_bytes() {
        Ok(Some(free_bytes)) if free_bytes < needed_bytes => Err(StorageError::NoRoom {
            directory: to.location.directory.clone(),
            needed_bytes,
            free_bytes,
        }),
        _ => Ok(()),
    }
}

fn home_at(location: &Location, parts: &Path) -> Result<Home, StorageError> {
    let root = open::root(&location.directory)?;
    Ok(Home::new(root, location.clone(), parts.to_owned()))
}

/// The room that moves which were looked at together need, in bytes, by volume.
#[derive(Debug, Default)]
pub struct Needed(pub(crate) BTreeMap<u64, u64>);

/// Whether a content can be moved to another place, as far as can be told without moving it: `needed` is what others need that are to be
/// moved too. Where nothing of it is known to be on the disk, nothing is in its way. Blocks on the disk.
///
/// # Errors
/// As [`crate::Content::relocate`].
pub fn check_relocation(
    spec: &ContentSpec,
    to: &Location,
    needed: &mut Needed,
) -> Result<(), StorageError> {
    to.check(&spec.files)?;
    let target = open::root(&to.directory)?;
    if !target.is_writable() {
        return Err(StorageError::ReadOnly(to.directory.clone()));
    }
    let begun = spec.journal.as_deref().is_some_and(journal::is_begun);
    // Where its old place is not there, the move waits for that.
    let Some(source) = open::root(&spec.directory).ok().filter(|_| begun) else {
        return Ok(());
    };
    let parts = parts_name(spec.info_hash);
    let from = Home::new(source, spec.location(), parts.clone());
    let to = Home::new(target, to.clone(), parts);
    let same_root = is_same(&from.root, &to.root);
    let files = spec.files.iter().filter(|file| !file.padding);
    let mut bytes: u64 = 0;
    for file in files.map(Some).chain([None]) {
        let (old, new) = (from.path(file), to.path(file));
        if same_root && old == new || inspect(&from, old)?.is_none() {
            continue;
        }
        if inspect(&to, new)?.is_some() {
            return Err(StorageError::Occupied(to.location.directory.join(new)));
        }
        bytes = bytes.saturating_add(allocated(&from.root, old));
    }
    match to.device.filter(|_| from.device != to.device) {
        Some(device) => {
            let all = needed.0.entry(device).or_default();
            *all = all.saturating_add(bytes);
            has_room_for(&to, *all)
        }
        None => Ok(()),
    }
}

/// Moves a content that is not open, see [`crate::Storage::relocate`].
pub(crate) fn relocate_closed(
    shared: &Arc<Shared>,
    spec: ContentSpec,
    to: Location,
    progress: &Progress,
) -> Result<(), StorageError> {
    to.check(&spec.files)?;
    let known = match &spec.journal {
        Some(path) => journal::peek(path, spec.info_hash, spec.layout.piece_count())?,
        None => None,
    };
    // Without a journal, no file is known to be its own.
    if known.is_none_or(|(_, known)| known.is_none()) {
        return Ok(());
    }
    let spec = ContentSpec {
        mode: Mode::Seed,
        ..spec
    };
    // Nobody listens, as nothing happens.
    let (events, _) = mpsc::channel(1);
    let content = open::open(shared, spec, events)?;
    content.relocate(to, progress)?;
    content.close()
}

/// What a move that an earlier process made came to.
#[derive(Debug)]
pub(crate) struct Settlement {
    note: Note,
    path: PathBuf,
}

/// Ends what an earlier process began, before anybody opens the content. `None` where nothing was moved.
pub(crate) fn settle(
    disk: &dyn Disk,
    spec: &ContentSpec,
) -> Result<Option<Settlement>, StorageError> {
    let Some(journal) = &spec.journal else {
        return Ok(None);
    };
    let path = Note::path(journal);
    let read = || Note::read(&path).map_err(|error| StorageError::io(&path, error));
    match read()? {
        None => return Ok(None),
        // Somebody forgot the torrent, and begins anew.
        Some(note) if note.stage == Stage::Settled && !journal::is_begun(journal) => {
            let forgotten = disk.note(&path, None);
            forgotten.map_err(|error| StorageError::io(&path, error))?;
            return Ok(None);
        }
        Some(note) if note.stage == Stage::Settled => return Ok(Some(Settlement { note, path })),
        Some(_) => {}
    }
    // Held until files are where they belong.
    let _lock = journal::peek(journal, spec.info_hash, spec.layout.piece_count())?;
    let Some(note) = read()? else {
        return Ok(None);
    };
    let parts = parts_name(spec.info_hash);
    let (from, to) = (home_at(&note.from, &parts), home_at(&note.to, &parts));
    let (from, to) = match (from, to) {
        (Ok(from), Ok(to)) => (from, to),
        // Of a volume that is not there nothing can be cleared away, which must not keep anybody from the other one.
        (Err(_), Ok(_)) if note.stage == Stage::Committed => {
            return Ok(Some(Settlement { note, path }));
        }
        (Ok(_), Err(_)) if note.stage != Stage::Committed && note.copied => {
            disk.note(&path, None)
                .map_err(|error| StorageError::io(&path, error))?;
            return Ok(None);
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    let mover = Mover {
        disk,
        specs: &spec.files,
        from: Arc::new(from),
        to: Arc::new(to),
        staging: staging(&parts),
        note,
        path: Some(path.clone()),
        readers: None,
    };
    match mover.note.stage {
        Stage::Moving | Stage::Placing => {
            mover.undo()?;
            Ok(None)
        }
        Stage::Committed | Stage::Settled => {
            // Tried once for each time it is opened.
            let _cleared = mover.clear_old();
            let note = mover.note;
            Ok(Some(Settlement { note, path }))
        }
    }
}

impl Settlement {
    /// Where the content is, for whoever looks for it where it was.
    pub(crate) fn relocated(&self, spec: &ContentSpec) -> Option<Location> {
        let moved = self.note.from != self.note.to && spec.location() == self.note.from;
        moved.then(|| self.note.to.clone())
    }

    /// What copies look like.
    pub(crate) fn records(&self) -> Vec<Record> {
        prints_of(&self.note)
    }

    /// The journal has it. The note is kept for as long as somebody looks in the old place.
    pub(crate) fn acknowledge(&self, disk: &dyn Disk, relocated: bool) -> io::Result<()> {
        if !relocated {
            return disk.note(&self.path, None);
        }
        if self.note.stage == Stage::Settled {
            return Ok(());
        }
        let note = Note {
            stage: Stage::Settled,
            prints: Vec::new(),
            ..self.note.clone()
        };
        note.write(disk, &self.path)
    }
}
