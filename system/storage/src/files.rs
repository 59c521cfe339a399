//! The files of one content, and the process-wide set of those that are open.
//!
//! Invariant: bytes of files that are not wanted are only ever written to the parts file, which is sparse and holds each
//! byte at its address in the address space: nothing in it moves or is reused, so that a source into it stays right.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::disk::{self, Access, Disk, Root};
use crate::journal::Fingerprint;
use crate::map::FileMap;
use crate::source::Segment;
use crate::spec::{ContentSpec, FileSpec, Mode};

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
    files: HashMap<(u64, usize), Handle>,
    uses: u64,
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
        key: (u64, usize),
        writable: bool,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<Arc<File>> {
        let mut known = self.lock();
        known.uses += 1;
        let used = known.uses;
        if let Some(handle) = known.files.get_mut(&key)
            && (handle.writable || !writable)
        {
            handle.used = used;
            return Ok(Arc::clone(&handle.file));
        }
        drop(known);
        let file = Arc::new(open()?);
        let handle = Handle {
            file: Arc::clone(&file),
            writable,
            used,
        };
        let mut known = self.lock();
        known.files.insert(key, handle);
        while known.files.len() > self.max {
            let oldest = known.files.iter().min_by_key(|(_, handle)| handle.used);
            let Some(oldest) = oldest.map(|(&key, _)| key) else {
                break;
            };
            known.files.remove(&oldest);
        }
        Ok(file)
    }

    fn forget(&self, key: (u64, usize)) {
        self.lock().files.remove(&key);
    }

    fn forget_content(&self, content: u64) {
        self.lock().files.retain(|key, _| key.0 != content);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a range: in the file `slot`, or zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// A file's index, or [`Files::parts_slot`]; `None` for padding.
    pub(crate) slot: Option<usize>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
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
    pub(crate) root: Root,
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    handles: Arc<Handles>,
    specs: Vec<FileSpec>,
    map: FileMap,
    parts: PathBuf,
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
        root: Root,
        disk: Arc<dyn Disk>,
        handles: Arc<Handles>,
    ) -> Self {
        let mut states = Vec::new();
        states.resize_with(spec.files.len() + 1, FileState::default);
        Files {
            content,
            root,
            parts: parts_name(&spec),
            directory: spec.directory,
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

    /// Relative to the directory.
    pub(crate) fn relative(&self, slot: usize) -> &Path {
        self.specs.get(slot).map_or(&self.parts, |spec| &spec.path)
    }

    /// For messages.
    pub(crate) fn full_path(&self, slot: usize) -> PathBuf {
        self.directory.join(self.relative(slot))
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
        if write && self.mode == Mode::Seed {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.handles.get((self.content, slot), write, || {
            let Some(spec) = self.specs.get(slot) else {
                return self
                    .disk
                    .open(&self.root, &self.parts, access(write, false));
            };
            let file = self
                .disk
                .open(&self.root, &spec.path, access(write, spec.executable))?;
            // A file has its full length from the start, so that one that is shorter was cut by somebody.
            if write && file.metadata()?.len() < spec.length {
                self.disk.set_len(&file, spec.length)?;
            }
            Ok(file)
        })
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
        // Opening counts as writing: it may make the file, or give it its length.
        state.started.fetch_add(1, Ordering::AcqRel);
        let result = self
            .open(slot, true)
            .and_then(|file| disk::write_all(self.disk.as_ref(), &file, slices, offset));
        state.finished.fetch_add(1, Ordering::AcqRel);
        state.dirty.store(true, Ordering::Release);
        result
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
    pub(crate) fn is_unchanged(&self, slot: usize, end: u64, now: bool) -> bool {
        let state = &self.states[slot];
        let mut seen = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = seen.at.is_some_and(|at| at.elapsed() < LOOK_INTERVAL);
        if fresh && !now && end <= seen.size {
            return true;
        }
        let started = state.started.load(Ordering::Acquire);
        let quiet = started == state.finished.load(Ordering::Acquire);
        let metadata = self.open(slot, false).and_then(|file| file.metadata());
        let Ok(metadata) = metadata else { return false };
        let quiet = quiet && started == state.started.load(Ordering::Acquire);
        let print = Fingerprint::of(&metadata);
        let before = seen.print.filter(|&(writes, _)| quiet && writes == started);
        let same = before.is_none_or(|(_, before)| before == print);
        *seen = Seen {
            at: Some(Instant::now()),
            size: metadata.len(),
            print: quiet.then_some((started, print)),
        };
        same && metadata.nlink() > 0 && end <= metadata.len()
    }

    /// Notes what the files of a range look like that were not looked at yet. To be called before the range is verified:
    /// whatever changes in them afterwards is noticed.
    pub(crate) fn look(&self, range: Range<u64>) {
        for slot in self.places(range).filter_map(|place| place.slot) {
            let seen = self.states[slot].seen.lock();
            let known = seen.unwrap_or_else(PoisonError::into_inner).at.is_some();
            if !known {
                // There is nothing yet that it could differ from.
                let _same = self.is_unchanged(slot, 0, false);
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

    /// What the file looks like, `None` where there is none or it is being written.
    pub(crate) fn fingerprint(&self, slot: usize) -> Option<Fingerprint> {
        let state = &self.states[slot];
        let started = state.started.load(Ordering::Acquire);
        let quiet = started == state.finished.load(Ordering::Acquire);
        let metadata = self
            .open(slot, false)
            .and_then(|file| file.metadata())
            .ok()?;
        let quiet = quiet && started == state.started.load(Ordering::Acquire);
        quiet.then(|| Fingerprint::of(&metadata))
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
        match self.root.remove(&self.parts) {
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
fn parts_name(spec: &ContentSpec) -> PathBuf {
    let hash = spec.info_hash.to_string();
    PathBuf::from(format!(".shoal-{}.parts", &hash[..16]))
}

const fn access(write: bool, executable: bool) -> Access {
    if write {
        Access::Write { executable }
    } else {
        Access::Read
    }
}
