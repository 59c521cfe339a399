//! Opening a content: what is refused, what the journal says, and what of that still holds.
//!
//! Invariant: whatever is refused is refused before a byte of content is written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

use rustix::io::Errno;
use shoal_metainfo::{Bitfield, Layout, PieceIndex};
use tokio::sync::mpsc;

use crate::content::Resumed;
use crate::disk::{self, Root};
use crate::error::StorageError;
use crate::event::Event;
use crate::files::{Files, parts_name};
use crate::home::Home;
use crate::inner::{Inner, State, SyncState, journal_index};
use crate::journal::{self, Identity, Journal, Record};
use crate::map::{self, FileMap};
use crate::relocate;
use crate::shared::Shared;
use crate::spec::{ContentSpec, Mode};

/// A file may be this much younger than the journal: a piece is written before its record is, and file systems count time
/// coarsely.
pub(crate) const MTIME_TOLERANCE_NS: i64 = 2_000_000_000;

/// Opens the content, see [`crate::Storage::open`].
pub(crate) fn open(
    shared: &Arc<Shared>,
    mut spec: ContentSpec,
    events: mpsc::Sender<Event>,
) -> Result<Arc<Inner>, StorageError> {
    if spec.wanted.len() != spec.files.len() {
        return Err(StorageError::Spec("its selection is not over its files"));
    }
    if spec.verifier.piece_count() != spec.layout.piece_count() {
        return Err(StorageError::Spec("its hashes are not one for each piece"));
    }
    let map = FileMap::new(&spec.files, &spec.layout)?;
    spec.location().check(&spec.files)?;
    let settlement = relocate::settle(shared.disk.as_ref(), &spec)?;
    let relocated = settlement.as_ref().and_then(|s| s.relocated(&spec));
    if let Some(location) = &relocated {
        location.check(&spec.files)?;
        spec.directory.clone_from(&location.directory);
        spec.renamed.clone_from(&location.renamed);
    }
    let ContentSpec {
        info_hash, mode, ..
    } = spec;
    let used_before = match &spec.journal {
        Some(path) => journal::is_begun(path),
        None => false,
    };
    let (root, writable) = open_root(&spec, used_before)?;
    let home = Home::new(root, spec.location(), parts_name(info_hash));
    let (layout, verifier) = (Arc::clone(&spec.layout), Arc::clone(&spec.verifier));
    let (wanted, preallocates) = (spec.wanted.clone(), spec.preallocate);
    let accept_missing = spec.accept_missing;
    let journal_path = spec.journal.clone();
    let id = shared.next_content();
    let (disk, handles) = (Arc::clone(&shared.disk), Arc::clone(&shared.handles));
    let files = Files::new(id, spec, map, home, Arc::clone(&disk), handles);
    let vacant = is_vacant(&files)?;
    for (slot, file) in files.specs().iter().enumerate() {
        if !vacant && wanted[slot] && !file.padding {
            inspect(&files, slot)?;
        }
    }
    let (journal, resumed) = match journal_path {
        Some(path) => {
            let identity = Identity {
                info_hash,
                piece_count: layout.piece_count(),
                boot: journal::boot_id(),
            };
            let (mut journal, fresh) = Journal::open(Arc::clone(&disk), &path, identity)?;
            let fail = |error| StorageError::io(&path, error);
            if let Some(settlement) = &settlement {
                // What copies look like is known before they are looked at.
                journal.append_all(&settlement.records()).map_err(fail)?;
                let acknowledged = settlement.acknowledge(disk.as_ref(), relocated.is_some());
                acknowledged.map_err(fail)?;
            }
            let absence = Absence {
                vacant,
                accepted: accept_missing,
            };
            let resumed = resume(&files, &layout, &mut journal, fresh, absence)?;
            let resumed = Resumed {
                relocated,
                ..resumed
            };
            (Some(journal), resumed)
        }
        None => {
            let nothing = Resumed {
                have: Bitfield::empty(layout.piece_count()),
                suspect: Vec::new(),
                fresh: true,
                relocated: None,
            };
            (None, nothing)
        }
    };
    let mut state = State::new(resumed.have.clone());
    state.unsynced = journal
        .as_ref()
        .is_some_and(|journal| journal.knowledge().has_unsynced());
    if state.unsynced {
        // Written by a process that ended: the next sync is to cover it.
        for slot in 0..=files.parts_slot() {
            if files.fingerprint(slot).is_some() {
                files.set_dirty(slot);
            }
        }
    }
    let mut inner = Inner {
        shared: Arc::clone(shared),
        layout,
        verifier,
        mode,
        files,
        journal: Mutex::new(journal),
        resumed,
        events,
        fence: RwLock::new(()),
        relocating: Mutex::new(()),
        syncing: Mutex::new(SyncState::default()),
        state: Mutex::new(state),
        rested: Condvar::new(),
    };
    inner.place(&wanted, true)?;
    if inner.resumed.fresh && !vacant {
        inner.resumed.suspect = inner.survey()?;
    }
    let inner = Arc::new(inner);
    if writable {
        create_empty(&inner.files, &wanted)?;
        if preallocates {
            preallocate(&inner.files, &wanted)?;
        }
    }
    shared.register(&inner);
    Ok(inner)
}

/// The directory, and whether it can be written to, as one must be that nothing was downloaded to before.
fn open_root(spec: &ContentSpec, used_before: bool) -> Result<(Root, bool), StorageError> {
    let root = match root(&spec.directory) {
        Err(StorageError::NoDirectory(directory)) if used_before => {
            return Err(StorageError::VolumeMissing(directory));
        }
        root => root?,
    };
    let writable = spec.mode == Mode::Download && root.is_writable();
    if spec.mode == Mode::Download && !writable && !used_before {
        return Err(StorageError::ReadOnly(spec.directory.clone()));
    }
    Ok((root, writable))
}

/// The directory that a content lies in.
pub(crate) fn root(directory: &Path) -> Result<Root, StorageError> {
    Root::new(directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            StorageError::NoDirectory(directory.to_owned())
        }
        _ => StorageError::io(directory, error),
    })
}

/// Whether nothing of the content is there, going by the files and folders directly below the root: of a torrent with
/// 100,000 files that is usually one.
fn is_vacant(files: &Files) -> Result<bool, StorageError> {
    if !matches!(files.inspect(files.parts_slot()), Ok(None)) {
        return Ok(false);
    }
    let mut known: Option<&OsStr> = None;
    let home = files.homes.now();
    for (slot, file) in files.specs().iter().enumerate() {
        let first = home.path(Some(file)).iter().next();
        if first.is_none() || first == known {
            continue;
        }
        known = first;
        match home.root.inspect(Path::new(first.unwrap_or_default())) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(false),
            // What stands in the way is said by file.
            Err(_) => return inspect(files, slot).map(|_| false),
        }
    }
    Ok(true)
}

/// Refuses a path that is not a regular file or leads through something that is not a folder.
fn inspect(files: &Files, slot: usize) -> Result<Option<rustix::fs::Stat>, StorageError> {
    let path = files.full_path(slot);
    match files.inspect(slot) {
        Ok(Some(stat)) if !disk::is_regular(&stat) => Err(StorageError::NotAFile(path)),
        Ok(stat) => Ok(stat),
        Err(error) if disk::is_link(&error) => Err(StorageError::Link(path)),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(StorageError::NotAFile(path))
        }
        Err(error) => Err(StorageError::io(path, error)),
    }
}

/// Creates wanted files without bytes.
pub(crate) fn create_empty(files: &Files, wanted: &[bool]) -> Result<(), StorageError> {
    for (slot, file) in files.specs().iter().enumerate() {
        if wanted[slot] && !file.padding && file.length == 0 {
            files
                .open(slot, true)
                .map_err(|error| files.failure(slot, error))?;
        }
    }
    Ok(())
}

/// Reserves room for the wanted files.
fn preallocate(files: &Files, wanted: &[bool]) -> Result<(), StorageError> {
    for (slot, file) in files.specs().iter().enumerate() {
        if wanted[slot] && !file.padding && file.length > 0 {
            files
                .open(slot, true)
                .and_then(|opened| disk::reserve(&opened, file.length))
                .map_err(|error| files.failure(slot, error))?;
        }
    }
    Ok(())
}

/// What is left of a file.
#[derive(Clone, Copy, Debug)]
struct Health {
    size: u64,
    changed: bool,
    missing: bool,
}

/// What is to be made of files that are not there.
#[derive(Clone, Copy, Debug)]
struct Absence {
    /// None of them is.
    vacant: bool,
    /// They are taken for gone.
    accepted: bool,
}

/// What the journal says and the files do not contradict. Refuses to take what is missing for lost.
fn resume(
    files: &Files,
    layout: &Layout,
    journal: &mut Journal,
    fresh: bool,
    absence: Absence,
) -> Result<Resumed, StorageError> {
    for &slot in &journal.knowledge().placed {
        if (slot as usize) < files.specs().len() {
            files.set_placed(slot as usize);
        }
    }
    let mut health = BTreeMap::new();
    let mut records = Vec::new();
    let known = journal.knowledge();
    let candidates: Vec<PieceIndex> = known
        .have
        .iter()
        .chain(known.suspect.iter().copied())
        .collect();
    for piece in candidates {
        let (mut gone, mut changed) = (false, false);
        for place in files.places(layout.range_of(piece)) {
            let Some(slot) = place.slot else { continue };
            let health = match health.entry(slot) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(entry) => *entry.insert(examine(files, journal, slot)?),
            };
            gone |= place.offset + place.len > health.size;
            changed |= health.changed;
        }
        if gone {
            records.push(Record::Lost(piece));
        } else if changed && journal.knowledge().have.get(piece) {
            records.push(Record::Suspect(piece));
        }
    }
    let missing = health.iter().filter(|(_, health)| health.missing);
    let missing: Vec<usize> = missing.map(|(&slot, _)| slot).collect();
    let home = files.homes.now();
    let root = journal.knowledge().root;
    let moved = root.zip(home.whereabouts);
    let elsewhere = moved.is_some_and(|(before, now)| before.is_elsewhere(now));
    // Whatever a person says of files: nothing is written below where a volume was mounted.
    if elsewhere && (absence.vacant || !missing.is_empty()) {
        let directory = home.location.directory.clone();
        return Err(StorageError::VolumeMissing(directory));
    }
    if let Some(&first) = missing.first().filter(|_| !absence.accepted) {
        return Err(StorageError::FilesMissing {
            first: files.full_path(first),
            others: missing.len() - 1,
        });
    }
    let here = home.whereabouts.filter(|&here| root != Some(here));
    records.extend(here.map(Record::Root));
    // Of a content that is whole and as it was closed there is nothing to remember until something of it is lost. Otherwise the
    // journal becomes younger than the files here, which is why it has to remember what is suspect.
    if !(records.is_empty() && known.closed && known.have.is_full()) {
        records.push(Record::Opened);
    }
    let recorded = journal.append_all(&records);
    recorded.map_err(|error| StorageError::io(journal.path(), error))?;
    Ok(Resumed {
        have: journal.knowledge().have.clone(),
        suspect: journal.knowledge().suspect.iter().copied().collect(),
        fresh,
        relocated: None,
    })
}

fn examine(files: &Files, journal: &Journal, slot: usize) -> Result<Health, StorageError> {
    let gone = Health {
        size: 0,
        changed: true,
        missing: false,
    };
    let print = match files.look_at(slot) {
        Ok(print) => print,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Fragments are fetched again: nobody would know what to bring back.
            let missing = slot != files.parts_slot();
            return Ok(Health { missing, ..gone });
        }
        Err(error) if is_replaced(&error) => return Ok(gone),
        Err(error) => return Err(StorageError::io(files.full_path(slot), error)),
    };
    let before = journal
        .knowledge()
        .fingerprints
        .get(&journal_index(files, slot));
    let changed = match before {
        Some(before) if journal.knowledge().closed => *before != print,
        Some(before) if before.inode != print.inode => true,
        _ => print.mtime_ns > journal.mtime_ns.saturating_add(MTIME_TOLERANCE_NS),
    };
    Ok(Health {
        size: print.size,
        changed,
        missing: false,
    })
}

/// Whether something else is where a file was.
fn is_replaced(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::INVAL)
    )
}

impl Inner {
    /// The pieces whose files reach that far, of which nothing is known. The journal remembers that they are to be verified, so
    /// that a check that is cut off goes on where it was.
    fn survey(&self) -> Result<Vec<PieceIndex>, StorageError> {
        let mut sizes = BTreeMap::new();
        let mut is_there = |piece: &PieceIndex| {
            let mut places = self.files.places(self.layout.range_of(*piece));
            places.all(|place| {
                place.slot.is_none_or(|slot| {
                    let size = sizes.entry(slot).or_insert_with(|| {
                        let print = self.files.look_at(slot);
                        print.map_or(0, |print| print.size)
                    });
                    place.offset + place.len <= *size
                })
            })
        };
        let there: Vec<PieceIndex> = self.layout.pieces().filter(&mut is_there).collect();
        if let Some(journal) = self.journal().as_mut() {
            let records: Vec<Record> = there.iter().copied().map(Record::Suspect).collect();
            let result = journal.append_all(&records);
            result.map_err(|error| StorageError::io(journal.path(), error))?;
        }
        Ok(there)
    }

    /// Sees to it that the bytes of the wanted files are in the files themselves. A file that was placed once stays so,
    /// wanted or not. `inspected` says that nothing that must not be there is.
    pub(crate) fn place(&self, wanted: &[bool], inspected: bool) -> Result<(), StorageError> {
        let _still = self.keep_still()?;
        let _fence = self.fence.write().unwrap_or_else(PoisonError::into_inner);
        let specs = self.files.specs();
        let mut slots = Vec::new();
        for (slot, spec) in specs.iter().enumerate() {
            // Whoever only reads goes by what a download left, or by the files alone.
            let needed = match self.mode {
                Mode::Download => wanted.get(slot) == Some(&true),
                Mode::Seed => self.resumed.fresh,
            };
            if needed && !spec.padding && !self.files.is_placed(slot) {
                if self.mode == Mode::Download {
                    if !inspected {
                        inspect(&self.files, slot)?;
                    }
                    self.move_in(slot)?;
                }
                slots.push(slot);
            }
        }
        let indices = slots.iter().map(|&slot| journal_index(&self.files, slot));
        let records: Vec<Record> = indices.map(Record::Placed).collect();
        if let Some(journal) = self.journal().as_mut() {
            let result = journal.append_all(&records);
            result.map_err(|error| StorageError::io(journal.path(), error))?;
        }
        for &slot in &slots {
            self.files.set_placed(slot);
        }
        let all = specs
            .iter()
            .enumerate()
            .all(|(slot, spec)| spec.padding || spec.length == 0 || self.files.is_placed(slot));
        if all && !slots.is_empty() && self.mode == Mode::Download {
            let parts = self.files.parts_slot();
            self.files
                .remove_parts()
                .map_err(|error| self.files.failure(parts, error))?;
        }
        Ok(())
    }

    /// Copies what the parts file has of a file into it, and syncs that.
    fn move_in(&self, slot: usize) -> Result<(), StorageError> {
        let spec = &self.files.specs()[slot];
        let mut moved = false;
        for piece in map::pieces_of(spec, &self.layout) {
            let there = {
                let state = self.state();
                let spilled = state.partials.get(&piece).is_some_and(|p| p.has_spilled());
                state.have.get(piece) || spilled || self.resumed.is_suspect(piece)
            };
            if there {
                let range = self.layout.range_of(piece);
                let end = range.end.min(spec.offset + spec.length);
                self.files
                    .move_fragment(slot, range.start.max(spec.offset)..end)?;
                moved = true;
            }
        }
        if moved {
            self.files.sync(slot)?;
        }
        Ok(())
    }
}
