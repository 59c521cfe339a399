//! The state of one open content, shared by its handles and the worker threads.
//!
//! Invariant: the state's lock is held for bookkeeping only, never during hashing or an operation on a disk. Locks are taken
//! in the order relocating, fence, syncing, journal, state.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use shoal_metainfo::{Bitfield, Block, Layout, PieceIndex, Verifier};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::absence::Absent;
use crate::check::CheckWork;
use crate::content::{Resumed, Stored};
use crate::disk;
use crate::error::StorageError;
use crate::event::Event;
use crate::files::{Failure, Files};
use crate::journal::{Journal, PARTS_FILE, Record};
use crate::partial::Partial;
use crate::pool::BlockBuffer;
use crate::reason::Reason;
use crate::shared::{Job, Shared};
use crate::spec::Mode;

/// With so many events that their owner has not taken, pieces wait.
const OUTBOX_EVENTS: usize = 1024;

/// After so many attempts to write a piece that failed for another reason than lack of room, its data is given up: another
/// copy of it may meet a sound part of the disk.
const MAX_WRITE_ATTEMPTS: u32 = 5;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) mode: Mode,
    pub(crate) files: Files,
    pub(crate) journal: Mutex<Option<Journal>>,
    pub(crate) resumed: Resumed,
    pub(crate) events: mpsc::Sender<Event>,
    /// Held shared while content is written, alone while fragments move.
    pub(crate) fence: RwLock<()>,
    /// Held while files move from one place to another.
    pub(crate) relocating: Mutex<()>,
    /// Held during a sync.
    pub(crate) syncing: Mutex<SyncState>,
    pub(crate) state: Mutex<State>,
    /// Told whenever a thread is done with a piece.
    pub(crate) rested: Condvar,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Changed by [`State::gain`] and [`State::lose`] alone.
    pub(crate) have: Bitfield,
    /// How many pieces are not in `have`.
    missing: usize,
    pub(crate) partials: HashMap<PieceIndex, Partial>,
    /// Pieces that were wrong once and not right since.
    pub(crate) failed: Bitfield,
    /// Events that the channel had no room for.
    outbox: VecDeque<Event>,
    /// Whether pieces or checks stopped because of the outbox.
    pub(crate) parked: bool,
    pub(crate) parked_checks: Vec<Arc<CheckWork>>,
    pub(crate) suspended: Option<Suspension>,
    pub(crate) unsynced: bool,
    pub(crate) sync_queued: bool,
    pub(crate) synced_at: Instant,
    pub(crate) closing: bool,
    /// Nothing is written because files move.
    pub(crate) moving: bool,
    /// What is missing, so that nothing is written either.
    pub(crate) absent: Option<Absent>,
    /// How often the directory was missing.
    pub(crate) absences: u64,
}

/// Writing is stopped until the next attempt.
#[derive(Debug)]
pub(crate) struct Suspension {
    reason: Reason,
    retry_at: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct SyncState {
    /// Whether syncing failed. The kernel may then have thrown pages away, and says so only once, so that no later success
    /// means anything.
    broken: bool,
}

impl State {
    pub(crate) fn new(have: Bitfield) -> Self {
        State {
            failed: Bitfield::empty(have.len()),
            missing: (have.len() - have.count()) as usize,
            have,
            partials: HashMap::new(),
            outbox: VecDeque::new(),
            parked: false,
            parked_checks: Vec::new(),
            suspended: None,
            unsynced: false,
            sync_queued: false,
            synced_at: Instant::now(),
            closing: false,
            moving: false,
            absent: None,
            absences: 0,
        }
    }

    /// Notes that a piece is right and written.
    pub(crate) fn gain(&mut self, piece: PieceIndex) {
        self.missing -= usize::from(self.have.insert(piece));
    }

    /// Notes that a piece is not there any more; false where it was not.
    pub(crate) fn lose(&mut self, piece: PieceIndex) -> bool {
        let had = self.have.remove(piece);
        self.missing += usize::from(had);
        had
    }

    /// Whether more pieces than those in memory are still to come, or blocks of these. Not known for a selection of files: then
    /// more is expected until the end.
    pub(crate) fn expects_more(&self) -> bool {
        self.partials.len() < self.missing || !self.partials.values().all(Partial::is_complete)
    }

    /// Whether events wait, so that no more should be made.
    pub(crate) fn is_crowded(&self) -> bool {
        self.outbox.len() >= OUTBOX_EVENTS
    }

    /// Whether writing may be tried. While it is suspended one attempt is let through after each pause.
    pub(crate) fn may_write(&mut self, pause: Duration) -> bool {
        if self.moving || self.absent.is_some() {
            return false;
        }
        let now = Instant::now();
        match &mut self.suspended {
            None => true,
            Some(suspension) if suspension.retry_at <= now => {
                suspension.retry_at = now + pause;
                true
            }
            Some(_) => false,
        }
    }
}

impl State {
    /// Writing stops; false where it had stopped for the same reason.
    pub(crate) fn suspend(&mut self, reason: Reason, retry_at: Instant) -> bool {
        let before = self.suspended.replace(Suspension { reason, retry_at });
        let now = self.suspended.as_ref().map(|suspension| &suspension.reason);
        before.map(|before| before.reason).as_ref() != now
    }

    /// Whether nothing can be read or written because the directory is not there.
    pub(crate) const fn is_volume_absent(&self) -> bool {
        matches!(self.absent, Some(Absent::Volume(_)))
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn journal(&self) -> MutexGuard<'_, Option<Journal>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the owner, at once if the channel has room.
    pub(crate) fn emit(&self, state: &mut State, event: Event) {
        state.outbox.push_back(event);
        self.flush_outbox(state);
    }

    fn flush_outbox(&self, state: &mut State) {
        while let Some(event) = state.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    state.outbox.push_front(event);
                    return;
                }
                // Nobody wants to know any more.
                Err(TrySendError::Closed(_)) => state.outbox.clear(),
            }
        }
    }

    /// Takes a received block, see [`crate::Content::write`].
    pub(crate) fn take_block(self: &Arc<Self>, block: Block, buffer: BlockBuffer) -> Stored {
        let length = self.layout.block_length(block);
        if length == 0 || buffer.len() != length as usize || self.mode == Mode::Seed {
            return Stored::Refused;
        }
        let piece = block.piece;
        let mut state = self.state();
        if state.closing || self.shared.is_closed() {
            return Stored::Refused;
        }
        if state.have.get(piece) {
            return Stored::Duplicate;
        }
        let partial = self.partial(&mut state, piece);
        if !partial.insert(block.block, buffer) {
            return Stored::Duplicate;
        }
        if partial.queue() {
            let may_wait = state.expects_more();
            self.shared.push_piece(self, piece, may_wait);
        }
        drop(state);
        self.shared.relieve();
        Stored::Kept
    }

    fn queue_if_worth_it(self: &Arc<Self>, partial: &mut Partial, piece: PieceIndex) {
        if partial.queue() {
            self.shared.push_piece(self, piece, false);
        }
    }

    /// Gives every piece that can get on to the threads.
    pub(crate) fn kick(self: &Arc<Self>, state: &mut State) {
        for (&piece, partial) in &mut state.partials {
            if partial.queue() {
                self.shared.push_piece(self, piece, true);
            }
        }
        self.shared.release();
        for work in state.parked_checks.drain(..) {
            self.shared.push(Job::Check(work));
        }
    }

    /// Drops the received blocks of a piece that is not known to be right.
    pub(crate) fn forget(&self, piece: PieceIndex) {
        let mut state = self.state();
        match state.partials.get_mut(&piece) {
            Some(partial) if partial.right => {}
            Some(partial) if partial.busy => partial.reset(self.verifier.hasher(piece)),
            Some(_) => drop(state.partials.remove(&piece)),
            None => {}
        }
    }

    /// The pieces whose blocks could leave memory: how many of them need not be read back, and how many there are.
    pub(crate) fn spillable(&self) -> Vec<(PieceIndex, usize, usize)> {
        let state = self.state();
        let idle = state
            .partials
            .iter()
            .filter(|(_, partial)| !partial.busy && !partial.right);
        idle.filter(|(_, partial)| partial.cached() > 0)
            .map(|(&piece, partial)| (piece, partial.cheap_to_spill(), partial.cached()))
            .collect()
    }

    /// Notes that writing `piece` failed. Returns false where its data was given up.
    pub(crate) fn suspend(&self, piece: PieceIndex, failure: Failure) -> bool {
        let reason = self.reason_of(&failure);
        if reason == Reason::VolumeMissing {
            self.vanish();
        }
        let waits = !reason.is_of_the_medium();
        let mut state = self.state();
        if !reason.is_absence() {
            self.set_suspended(&mut state, reason, failure.path);
        }
        let Some(partial) = state.partials.get_mut(&piece) else {
            return false;
        };
        if !waits {
            partial.attempts += 1;
        }
        if partial.attempts < MAX_WRITE_ATTEMPTS {
            return true;
        }
        self.drop_piece(&mut state, piece);
        false
    }

    /// Gives up what was received of `piece`.
    pub(crate) fn drop_piece(&self, state: &mut State, piece: PieceIndex) {
        state.partials.remove(&piece);
        self.emit(state, Event::Dropped { piece });
        self.rested.notify_all();
    }

    /// Notes that writing works.
    pub(crate) fn resume(self: &Arc<Self>, state: &mut State) {
        if state.absent.is_none() && state.suspended.take().is_some() {
            self.emit(state, Event::Resumed);
            self.kick(state);
        }
    }

    /// What is to be done from time to time.
    pub(crate) fn tick(self: &Arc<Self>, now: Instant) {
        let mut state = self.state();
        self.flush_outbox(&mut state);
        if !state.is_crowded() && std::mem::take(&mut state.parked) {
            self.kick(&mut state);
        }
        if state
            .suspended
            .as_ref()
            .is_some_and(|suspension| suspension.retry_at <= now)
        {
            self.retry(&mut state);
        }
        let due =
            now.saturating_duration_since(state.synced_at) >= self.shared.config.sync_interval;
        let can_be = state.absent.is_none() && !state.sync_queued && !state.closing;
        if state.unsynced && due && can_be {
            state.sync_queued = true;
            self.shared.push(Job::Sync(Arc::clone(self)));
        }
    }

    fn retry(self: &Arc<Self>, state: &mut State) {
        if state.absent.is_some() {
            return;
        }
        let waiting = state.partials.iter_mut().find(|(_, partial)| partial.right);
        match waiting {
            Some((&piece, partial)) => self.queue_if_worth_it(partial, piece),
            None if self.shared.is_short() => self.shared.relieve(),
            // Nothing is left that could tell whether writing works: the next write will.
            None => self.resume(state),
        }
    }

    /// Takes pieces for lost. They are not served from here on; the journal and the owner learn it from a thread. Until then
    /// nobody works on them, so that whatever becomes of them next is recorded and told after their loss.
    pub(crate) fn lose(self: &Arc<Self>, pieces: impl Iterator<Item = PieceIndex>) {
        let mut state = self.state();
        let lost: Vec<PieceIndex> = pieces.filter(|&piece| state.lose(piece)).collect();
        for &piece in &lost {
            self.partial(&mut state, piece).busy = true;
        }
        drop(state);
        if !lost.is_empty() {
            self.shared.push(Job::Lost(Arc::clone(self), lost));
        }
    }

    /// Records and tells that `pieces` are lost.
    pub(crate) fn record_lost(self: &Arc<Self>, pieces: &[PieceIndex]) {
        let records: Vec<Record> = pieces.iter().map(|&piece| Record::Suspect(piece)).collect();
        self.record_soon(&records);
        let mut state = self.state();
        for &piece in pieces {
            self.emit(&mut state, Event::Lost { piece });
            self.release(&mut state, piece);
        }
        drop(state);
        self.rested.notify_all();
    }

    /// What is known of a piece in the making, which begins with this if need be.
    pub(crate) fn partial<'a>(&self, state: &'a mut State, piece: PieceIndex) -> &'a mut Partial {
        state.partials.entry(piece).or_insert_with(|| {
            Partial::new(self.layout.block_count(piece), self.verifier.hasher(piece))
        })
    }

    /// Leaves a piece that was claimed without being worked on to the threads.
    pub(crate) fn release(self: &Arc<Self>, state: &mut State, piece: PieceIndex) {
        if let Some(partial) = state.partials.get_mut(&piece) {
            partial.busy = false;
            if partial.is_empty() {
                state.partials.remove(&piece);
            } else {
                self.queue_if_worth_it(partial, piece);
            }
        }
    }

    /// Records what is true whether it can be recorded now or later.
    pub(crate) fn record_soon(&self, records: &[Record]) {
        if let Some(journal) = self.journal().as_mut()
            && let Err(error) = journal.append_or_keep(records)
        {
            tracing::warn!("{}: {error}", journal.path().display());
        }
    }

    /// Makes everything verified so far survive a power failure.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        let mut syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut state = self.state();
            state.unsynced = false;
            state.synced_at = Instant::now();
        }
        // Records before here are about bytes that were written, to files marked dirty, before here.
        let upto = match self.journal().as_mut() {
            Some(journal) => {
                let flushed = journal.flush().and_then(|()| journal.renew());
                flushed.map_err(|error| StorageError::io(journal.path(), error))?;
                Some(journal.end())
            }
            None => None,
        };
        let dirty = self.files.take_dirty();
        if let Err(failure) = self.files.sync_all(&dirty) {
            if self.reason_of(&failure) == Reason::VolumeMissing {
                self.vanish();
            }
            syncing.broken = true;
            for &slot in &dirty {
                self.files.set_dirty(slot);
            }
            if let Some(journal) = self.journal().as_mut() {
                journal
                    .append(Record::Unsafe)
                    .map_err(|error| StorageError::io(journal.path(), error))?;
            }
            return Err(failure.into());
        }
        let (false, Some(upto)) = (syncing.broken, upto) else {
            return Ok(());
        };
        let prints = self.changed_fingerprints(dirty.into_iter());
        let mut journal = self.journal();
        let Some(open) = journal.as_mut() else {
            return Ok(());
        };
        let path = open.path().to_owned();
        let result = open.append_all(&prints).and_then(|()| open.synced(upto));
        drop(journal);
        result
            .and_then(|file| self.shared.disk.sync(&file))
            .map_err(|error| StorageError::io(path, error))
    }

    pub(crate) fn sync_in_background(&self) {
        let result = self.sync();
        let mut state = self.state();
        state.sync_queued = false;
        if let Err(error) = result {
            // Tried again after the next interval.
            state.unsynced = true;
            tracing::warn!("syncing failed: {error}");
        }
    }

    /// Fingerprints of those of `slots` that look different from what the journal says.
    fn changed_fingerprints(&self, slots: impl Iterator<Item = usize>) -> Vec<Record> {
        let mut records = Vec::new();
        for slot in slots {
            let Some(print) = self.files.fingerprint(slot) else {
                continue;
            };
            let index = journal_index(&self.files, slot);
            let journal = self.journal();
            let known = journal
                .as_ref()
                .and_then(|journal| journal.knowledge().fingerprints.get(&index).copied());
            if known != Some(print) {
                records.push(Record::Fingerprint(index, print));
            }
        }
        records
    }

    /// Records that content was written without a piece having become right, so that the files are not taken for changed
    /// by somebody else after a crash.
    pub(crate) fn record_activity(&self) {
        /// Shorter than the tolerance when a journal is opened.
        const OFTEN: Duration = Duration::from_secs(1);
        if let Some(journal) = self.journal().as_mut()
            && journal.age() >= OFTEN
            && let Err(error) = journal.append(Record::Opened)
        {
            tracing::warn!("{}: {error}", journal.path().display());
        }
    }

    /// Writes what is right, syncs, and records a clean end.
    pub(crate) fn close(self: &Arc<Self>) -> Result<(), StorageError> {
        self.state().closing = true;
        // Whoever moves files sees that and goes back.
        let _still = self
            .relocating
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        if let Some(suspension) = &mut state.suspended {
            suspension.retry_at = Instant::now();
        }
        self.kick(&mut state);
        // Every wait ends: a thread that rests tells so, and threads that ended are noticed.
        while state
            .partials
            .values()
            .any(|partial| partial.busy || partial.queued)
            && !self.shared.is_closed()
        {
            let waited = self.rested.wait_timeout(state, Duration::from_millis(50));
            state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        state.partials.clear();
        drop(state);
        if self.is_left_alone() {
            drop(self.journal().take());
            return Ok(());
        }
        self.sync()?;
        let slots = (0..=self.files.parts_slot()).filter(|&slot| self.is_on_disk(slot));
        let mut records = self.changed_fingerprints(slots);
        records.push(Record::Closed);
        // Taken out, which unlocks it for others.
        let Some(mut journal) = self.journal().take() else {
            return Ok(());
        };
        let result = journal.append_all(&records);
        result.map_err(|error| StorageError::io(journal.path(), error))
    }

    /// Whether the journal still ends with the clean end of an earlier life: nothing has happened since that it would not say.
    pub(crate) fn is_left_alone(&self) -> bool {
        let as_closed = self.journal().as_ref().is_some_and(Journal::is_as_closed);
        as_closed && self.state().partials.is_empty()
    }

    fn is_on_disk(&self, slot: usize) -> bool {
        match self.files.specs().get(slot) {
            Some(spec) => spec.length > 0 && !spec.padding && self.files.is_placed(slot),
            None => true,
        }
    }
}

/// The number that stands for a file in the journal.
pub(crate) fn journal_index(files: &Files, slot: usize) -> u32 {
    if slot == files.parts_slot() {
        PARTS_FILE
    } else {
        u32::try_from(slot).unwrap_or(PARTS_FILE)
    }
}

impl From<Failure> for StorageError {
    fn from(failure: Failure) -> Self {
        let Failure { path, error } = failure;
        let path: PathBuf = path;
        if disk::is_link(&error) {
            return StorageError::Link(path);
        }
        StorageError::Io {
            path,
            source: error,
        }
    }
}
