//! The files of one content, and the process-wide set of those that are open.
//!
//! Invariant: bytes of files that are not wanted are only ever written to the parts file, which is sparse and holds each
//! byte at its address in the address space: nothing in it moves or is reused, so that a source into it stays right.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, Stat};
use rustix::io::Errno;
use shoal_metainfo::InfoHash;

use crate::disk::{self, Access, Disk};
use crate::home::{Home, Homes};
use crate::journal::Fingerprint;
use crate::map::FileMap;
use crate::source::Segment;
use crate::spec::{ContentSpec, FileSpec, Mode};

/// So many files that are to be synced are synced by one call for their device. Few in tests, so that it happens there.
const MANY_FILES: usize = if cfg!(test) { 3 } else { 256 };

/// A file's state is looked at this often at most before its bytes are served.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The open files of the process, the least recently used of which are closed where there are too many.
#[derive(Debug)]
pub(crate) struct Handles {
    max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<Key, Handle>,
    /// Every handle by its last use.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
}

/// A content, and a slot of it.
type Key = (u64, usize);

impl Open {
    /// The handle, if it serves; it is then the last used.
    fn touch(&mut self, key: Key, writable: bool) -> Option<Arc<File>> {
        let handle = self.files.get_mut(&key)?;
        if writable && !handle.writable {
            return None;
        }
        if handle.used < self.uses {
            self.uses += 1;
            self.by_use.remove(&handle.used);
            self.by_use.insert(self.uses, key);
            handle.used = self.uses;
        }
        Some(Arc::clone(&handle.file))
    }

    fn keep(&mut self, key: Key, file: Arc<File>, writable: bool) {
        self.forget(key);
        self.uses += 1;
        let used = self.uses;
        self.by_use.insert(used, key);
        let handle = Handle {
            file,
            writable,
            used,
        };
        self.files.insert(key, handle);
    }

    fn forget(&mut self, key: Key) {
        if let Some(handle) = self.files.remove(&key) {
            self.by_use.remove(&handle.used);
        }
    }
}

#[derive(Debug)]
struct Handle {
    file: Arc<File>,
    writable: bool,
    used: u64,
}

impl Handles {
    pub(crate) fn new(max: usize) -> Self {
        Handles {
            max: max.max(1),
            open: Mutex::default(),
        }
    }

    fn get(
        &self,
        key: Key,
        writable: bool,
        open: impl Fn() -> io::Result<File>,
    ) -> io::Result<Arc<File>> {
        if let Some(file) = self.lock().touch(key, writable) {
            return Ok(file);
        }
        let file = match open() {
            Err(error) if is_exhausted(&error) => {
                self.close_half();
                open()?
            }
            opened => opened?,
        };
        let file = Arc::new(file);
        let mut known = self.lock();
        known.keep(key, Arc::clone(&file), writable);
        let mut closed = Vec::new();
        while known.files.len() > self.max {
            let Some((_, oldest)) = known.by_use.pop_first() else {
                break;
            };
            closed.extend(known.files.remove(&oldest));
        }
        // Closing a file may wait for a disk, which nobody else should.
        drop(known);
        drop(closed);
        Ok(file)
    }

    /// Closes the files that were not used for longest: others need what the system has left.
    fn close_half(&self) {
        let mut known = self.lock();
        let mut closed = Vec::new();
        for _ in 0..known.files.len().div_ceil(2) {
            let oldest = known.by_use.pop_first();
            closed.extend(oldest.and_then(|(_, oldest)| known.files.remove(&oldest)));
        }
        drop(known);
        drop(closed);
    }

    /// The file, if it is open.
    fn peek(&self, key: Key) -> Option<Arc<File>> {
        let known = self.lock();
        known.files.get(&key).map(|handle| Arc::clone(&handle.file))
    }

    fn forget(&self, key: Key) {
        self.lock().forget(key);
    }

    fn forget_content(&self, content: u64) {
        let mut known = self.lock();
        known.files.retain(|key, _| key.0 != content);
        known.by_use.retain(|_, key| key.0 != content);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process, or the system, can have no more files open.
fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}

/// A part of a range: in the file `slot`, or zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// A file's index, or [`Files::parts_slot`]; `None` for padding.
    pub(crate) slot: Option<usize>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// What a look at a file showed.
#[derive(Debug)]
pub(crate) enum Look {
    /// Nothing else than before.
    Same,
    /// Somebody changed it, or put something else in its place.
    Changed,
    /// It is not there.
    Missing,
    /// That cannot be told.
    Unknown(io::Error),
}

/// An operation on a file failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

/// The files of one content.
#[derive(Debug)]
pub(crate) struct Files {
    content: u64,
    pub(crate) homes: Homes,
    pub(crate) disk: Arc<dyn Disk>,
    handles: Arc<Handles>,
    specs: Vec<FileSpec>,
    map: FileMap,
    mode: Mode,
    /// One for each file, and one for the parts file.
    states: Vec<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    /// Whether the file's bytes are in the file rather than in the parts file.
    placed: AtomicBool,
    /// Whether bytes were written that are not synced.
    dirty: AtomicBool,
    /// Whether it is known to lie on the root's device: another may be mounted below the root.
    beside_root: AtomicBool,
    started: AtomicU64,
    finished: AtomicU64,
    seen: Mutex<Seen>,
}

/// What the file looked like when it was last looked at.
#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    size: u64,
    /// With how many writes had been made by then; only known when none was going on.
    print: Option<(u64, Fingerprint)>,
}

impl Files {
    pub(crate) fn new(
        content: u64,
        spec: ContentSpec,
        map: FileMap,
        home: Home,
        disk: Arc<dyn Disk>,
        handles: Arc<Handles>,
    ) -> Self {
        let mut states = Vec::new();
        states.resize_with(spec.files.len() + 1, FileState::default);
        Files {
            content,
            homes: Homes::new(home),
            disk,
            handles,
            specs: spec.files,
            map,
            mode: spec.mode,
            states,
        }
    }

    pub(crate) fn specs(&self) -> &[FileSpec] {
        &self.specs
    }

    /// The slot of the file that holds fragments of files that are not wanted.
    pub(crate) const fn parts_slot(&self) -> usize {
        self.specs.len()
    }

    /// For messages.
    pub(crate) fn full_path(&self, slot: usize) -> PathBuf {
        let place = |home: &Home| {
            home.location
                .directory
                .join(home.path(self.specs.get(slot)))
        };
        self.homes.with(slot, place)
    }

    fn print(&self, slot: usize, metadata: &Metadata) -> Fingerprint {
        self.homes.with(slot, |home| home.print(metadata))
    }

    /// What is in the place of the file, see [`Root::inspect`].
    pub(crate) fn inspect(&self, slot: usize) -> io::Result<Option<Stat>> {
        let inspect = |home: &Home| home.root.inspect(home.path(self.specs.get(slot)));
        self.homes.with(slot, inspect)
    }

    /// What the file looks like, without it being held open.
    pub(crate) fn look_at(&self, slot: usize) -> io::Result<Fingerprint> {
        let open = |home: &Home| home.root.open_existing(home.path(self.specs.get(slot)));
        let metadata = self.homes.with(slot, open)?.metadata()?;
        Ok(self.print(slot, &metadata))
    }

    /// What the file looked like when it was last looked at, if nothing was written since.
    pub(crate) fn last_seen(&self, slot: usize) -> Option<Fingerprint> {
        let state = &self.states[slot];
        let seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let started = state.started.load(Ordering::Acquire);
        let (writes, print) = seen.print?;
        (writes == started).then_some(print)
    }

    /// Closes the file.
    pub(crate) fn close(&self, slot: usize) {
        self.handles.forget((self.content, slot));
    }

    /// Closes all files.
    pub(crate) fn close_all(&self) {
        self.handles.forget_content(self.content);
    }

    /// What was written and not synced is not known to have arrived.
    pub(crate) fn forget_writes(&self) {
        for state in &self.states {
            state.dirty.store(false, Ordering::Release);
            *state.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
        }
    }

    /// Moves the file as `how` does it; `copied` where what is there then is another file of the same bytes.
    pub(crate) fn move_file(
        &self,
        slot: usize,
        to_next: bool,
        copied: bool,
        how: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let seen = self.states[slot].seen.lock();
        let mut seen = seen.unwrap_or_else(PoisonError::into_inner);
        self.homes.move_file(slot, to_next, || {
            how()?;
            if copied {
                self.handles.forget((self.content, slot));
            }
            Ok::<(), io::Error>(())
        })?;
        if copied {
            *seen = Seen::default();
        }
        Ok(())
    }

    pub(crate) fn is_placed(&self, slot: usize) -> bool {
        self.states[slot].placed.load(Ordering::Acquire)
    }

    pub(crate) fn set_placed(&self, slot: usize) {
        self.states[slot].placed.store(true, Ordering::Release);
    }

    /// Where the bytes of `range` are, in order.
    pub(crate) fn places(&self, range: Range<u64>) -> impl Iterator<Item = Place> + '_ {
        self.map.spans(range).map(|span| {
            let slot = span.file.get();
            let (slot, offset) = if span.padding {
                (None, span.offset)
            } else if self.is_placed(slot) {
                (Some(slot), span.offset)
            } else {
                (Some(self.parts_slot()), span.address)
            };
            Place {
                slot,
                offset,
                len: span.len,
            }
        })
    }

    /// The file, opened.
    pub(crate) fn open(&self, slot: usize, write: bool) -> io::Result<Arc<File>> {
        self.open_for(slot, write, false)
    }

    /// The file, opened; `whole` where all of it is about to be written, so that it gets its length by that.
    fn open_for(&self, slot: usize, write: bool, whole: bool) -> io::Result<Arc<File>> {
        if write && self.mode == Mode::Seed {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let spec = self.specs.get(slot);
        let open = |home: &Home| {
            let executable = spec.is_some_and(|spec| spec.executable);
            let (path, access) = (home.path(spec), access(write, executable));
            let file = self.disk.open(&home.root, path, access)?;
            // A file has its full length from the start, so that one that is shorter was cut by somebody.
            if let Some(spec) = spec
                && write
                && !whole
                && file.metadata()?.len() < spec.length
            {
                self.disk.set_len(&file, spec.length)?;
            }
            Ok(file)
        };
        let key = (self.content, slot);
        self.homes
            .with(slot, |home| self.handles.get(key, write, || open(home)))
    }

    /// Writes consecutive `chunks` from `address` on, by one operation for each file where the system allows.
    pub(crate) fn write(&self, address: u64, chunks: &[&[u8]]) -> Result<u64, Failure> {
        let len: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let (mut chunks, mut skip) = (chunks.iter(), 0usize);
        let mut chunk: &[u8] = &[];
        let mut written = 0;
        for place in self.places(address..address + len) {
            let mut slices = Vec::new();
            let mut rest = usize::try_from(place.len).unwrap_or(usize::MAX);
            while rest > 0 {
                if skip == chunk.len() {
                    let Some(next) = chunks.next() else { break };
                    (chunk, skip) = (next, 0);
                }
                let take = rest.min(chunk.len() - skip);
                slices.push(IoSlice::new(&chunk[skip..skip + take]));
                skip += take;
                rest -= take;
            }
            if let Some(slot) = place.slot {
                self.write_slot(slot, place.offset, &mut slices)
                    .map_err(|error| self.failure(slot, error))?;
                written += place.len;
            }
        }
        Ok(written)
    }

    fn write_slot(&self, slot: usize, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let state = &self.states[slot];
        let len: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        let whole = offset == 0 && self.specs.get(slot).is_some_and(|spec| spec.length == len);
        // Opening counts as writing: it may make the file, or give it its length.
        state.started.fetch_add(1, Ordering::AcqRel);
        let result = self.open_for(slot, true, whole).and_then(|file| {
            disk::write_all(self.disk.as_ref(), &file, slices, offset)?;
            Ok(file)
        });
        let writes = 1 + state.finished.fetch_add(1, Ordering::AcqRel);
        state.dirty.store(true, Ordering::Release);
        let file = result?;
        if whole && writes == state.started.load(Ordering::Acquire) {
            self.note(slot, &file, writes);
        }
        Ok(())
    }

    /// Remembers what a file looks like that is likely to be complete. One of many small ones is then not opened again for that.
    fn note(&self, slot: usize, file: &File, writes: u64) {
        let state = &self.states[slot];
        if let Ok(metadata) = file.metadata()
            && writes == state.started.load(Ordering::Acquire)
        {
            let beside = self.homes.now().device == Some(metadata.dev());
            state.beside_root.store(beside, Ordering::Release);
            *state.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen {
                at: Some(Instant::now()),
                size: metadata.len(),
                print: Some((writes, self.print(slot, &metadata))),
            };
        }
    }

    /// Reads the bytes from `address` on. `UnexpectedEof` where a file is too short or missing.
    pub(crate) fn read(&self, address: u64, mut out: &mut [u8]) -> Result<(), Failure> {
        for place in self.places(address..address + out.len() as u64) {
            let len = usize::try_from(place.len)
                .unwrap_or(usize::MAX)
                .min(out.len());
            let (part, rest) = out.split_at_mut(len);
            match place.slot {
                None => part.fill(0),
                Some(slot) => self
                    .read_slot(slot, place.offset, part)
                    .map_err(|error| self.failure(slot, error))?,
            }
            out = rest;
        }
        Ok(())
    }

    /// Tells the kernel that a range is about to be read, as far as its files are open.
    pub(crate) fn expect(&self, range: Range<u64>) {
        for place in self.places(range) {
            let open = |slot| self.handles.peek((self.content, slot));
            if let Some(file) = place.slot.and_then(open) {
                // A hint: where it is not taken, reading is merely slower.
                let length = NonZeroU64::new(place.len);
                let _ = rustix::fs::fadvise(&file, place.offset, length, Advice::WillNeed);
            }
        }
    }

    fn read_slot(&self, slot: usize, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.open(slot, false).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::ErrorKind::UnexpectedEof.into(),
            _ => error,
        })?;
        disk::read_exact(self.disk.as_ref(), &file, out, offset)
    }

    /// The bytes of `place` as they can be sent.
    pub(crate) fn segment(&self, place: Place) -> io::Result<Segment> {
        Ok(match place.slot {
            None => Segment::Zeros { len: place.len },
            Some(slot) => Segment::File {
                file: self.open(slot, false)?,
                offset: place.offset,
                len: place.len,
            },
        })
    }

    /// Whether the file is still what we left, as far as its state tells, and reaches to `end`. Looks at most once in
    /// [`LOOK_INTERVAL`] unless `now` says otherwise.
    pub(crate) fn look(&self, slot: usize, end: u64, now: bool) -> Look {
        let state = &self.states[slot];
        let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = seen.at.is_some_and(|at| at.elapsed() < LOOK_INTERVAL);
        if fresh && !now && end <= seen.size {
            return Look::Same;
        }
        let started = state.started.load(Ordering::Acquire);
        let quiet = started == state.finished.load(Ordering::Acquire);
        let metadata = match self.open(slot, false).and_then(|file| file.metadata()) {
            Ok(metadata) => metadata,
            Err(error) => return self.why_not(slot, error),
        };
        if metadata.nlink() == 0 {
            // It may have been replaced by another one.
            return match self.inspect(slot) {
                Ok(None) => self.why_not(slot, io::ErrorKind::NotFound.into()),
                Ok(Some(_)) => Look::Changed,
                Err(error) => self.why_not(slot, error),
            };
        }
        let quiet = quiet && started == state.started.load(Ordering::Acquire);
        let print = self.print(slot, &metadata);
        let before = seen.print.filter(|&(writes, _)| quiet && writes == started);
        let same = before.is_none_or(|(_, before)| before == print);
        *seen = Seen {
            at: Some(Instant::now()),
            size: metadata.len(),
            print: quiet.then_some((started, print)),
        };
        match same && end <= metadata.len() {
            true => Look::Same,
            false => Look::Changed,
        }
    }

    /// What it means that the file cannot be opened.
    fn why_not(&self, slot: usize, error: io::Error) -> Look {
        let code = error.raw_os_error().map(Errno::from_raw_os_error);
        match code {
            // Fragments are fetched again: nobody would know what to bring back.
            _ if slot == self.parts_slot() && error.kind() == io::ErrorKind::NotFound => {
                Look::Changed
            }
            _ if error.kind() == io::ErrorKind::NotFound => Look::Missing,
            // Something else is in its place.
            Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::INVAL) => Look::Changed,
            _ => Look::Unknown(error),
        }
    }

    /// Notes what the files of a range look like that were not looked at yet. To be called before the range is verified:
    /// whatever changes in them afterwards is noticed.
    pub(crate) fn look_first(&self, range: Range<u64>) {
        for slot in self.places(range).filter_map(|place| place.slot) {
            let seen = self.states[slot].seen.lock();
            let known = seen.unwrap_or_else(PoisonError::into_inner).at.is_some();
            if !known {
                // There is nothing yet that it could differ from.
                let _same = self.look(slot, 0, false);
            }
        }
    }

    /// Forgets what was known about the file, which somebody changed.
    pub(crate) fn reconsider(&self, slot: usize) {
        self.handles.forget((self.content, slot));
        let mut seen = self.states[slot]
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *seen = Seen::default();
    }

    /// What the file looks like, or looked like after it was last written; `None` where there is none or it is being written.
    pub(crate) fn fingerprint(&self, slot: usize) -> Option<Fingerprint> {
        let state = &self.states[slot];
        let started = state.started.load(Ordering::Acquire);
        let quiet = started == state.finished.load(Ordering::Acquire);
        if let Some(print) = self.last_seen(slot).filter(|_| quiet) {
            // Whatever somebody did to it since then makes it differ from this, as it should.
            return Some(print);
        }
        let file = match self.handles.peek((self.content, slot)) {
            Some(file) => file,
            None => self.open(slot, false).ok()?,
        };
        let metadata = file.metadata().ok()?;
        let quiet = quiet && started == state.started.load(Ordering::Acquire);
        quiet.then(|| self.print(slot, &metadata))
    }

    /// The files with bytes that are not synced; they are taken for synced from here on.
    pub(crate) fn take_dirty(&self) -> Vec<usize> {
        let states = self.states.iter().enumerate();
        states
            .filter(|(_, state)| state.dirty.swap(false, Ordering::AcqRel))
            .map(|(slot, _)| slot)
            .collect()
    }

    pub(crate) fn set_dirty(&self, slot: usize) {
        self.states[slot].dirty.store(true, Ordering::Release);
    }

    /// Makes what was written to these files survive a power failure: each by itself, or all of a device where there are many,
    /// which costs what others wrote there too, but not two operations a file.
    pub(crate) fn sync_all(&self, slots: &[usize]) -> Result<(), Failure> {
        let at_once = slots.len() >= MANY_FILES
            && match self.disk.sync_all(&self.homes.now().root) {
                Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                    return Err(Failure {
                        path: self.homes.now().location.directory.clone(),
                        error,
                    });
                }
                result => result.is_ok(),
            };
        for &slot in slots {
            if !at_once || !self.states[slot].beside_root.load(Ordering::Acquire) {
                self.sync(slot)?;
            }
        }
        Ok(())
    }

    /// Makes what was written to the file survive a power failure. A file that somebody removed has nothing to survive.
    pub(crate) fn sync(&self, slot: usize) -> Result<(), Failure> {
        match self
            .open(slot, false)
            .and_then(|file| self.disk.sync(&file))
        {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failure(slot, error)),
            _ => Ok(()),
        }
    }

    /// Removes the parts file; sources into it that are still around stay right.
    pub(crate) fn remove_parts(&self) -> io::Result<()> {
        self.handles.forget((self.content, self.parts_slot()));
        let remove = |home: &Home| self.disk.remove(&home.root, home.path(None));
        match self.homes.with(self.parts_slot(), remove) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Copies what the parts file has of `range`, which lies in the file `slot`, into that file.
    pub(crate) fn move_fragment(&self, slot: usize, range: Range<u64>) -> Result<(), Failure> {
        /// As much as is copied at a time.
        const CHUNK: u64 = 256 * 1024;
        let mut at = range.start;
        let mut bytes = vec![0; usize::try_from(CHUNK.min(range.end - at)).unwrap_or(0)];
        while at < range.end {
            let len = usize::try_from(CHUNK.min(range.end - at)).unwrap_or(0);
            let part = &mut bytes[..len];
            match self.read_slot(self.parts_slot(), at, part) {
                // Nothing was ever written there.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other.map_err(|error| self.failure(self.parts_slot(), error))?,
            }
            let offset = at - self.specs[slot].offset;
            self.write_slot(slot, offset, &mut [IoSlice::new(part)])
                .map_err(|error| self.failure(slot, error))?;
            at += len as u64;
        }
        Ok(())
    }

    pub(crate) fn failure(&self, slot: usize, error: io::Error) -> Failure {
        Failure {
            path: self.full_path(slot),
            error,
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.handles.forget_content(self.content);
    }
}

/// Beside the files, hidden, and told apart by the info hash: two torrents of one name may be in one directory.
pub(crate) fn parts_name(info_hash: InfoHash) -> PathBuf {
    let hash = info_hash.to_string();
    PathBuf::from(format!(".shoal-{}.parts", &hash[..16]))
}

const fn access(write: bool, executable: bool) -> Access {
    if write {
        Access::Write { executable }
    } else {
        Access::Read
    }
}
