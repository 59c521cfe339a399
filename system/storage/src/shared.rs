//! What all contents of a process share: the threads with their queue, the buffers, the open files, the counters.
//!
//! Invariant: a piece, a sync, a spill and each runner of a check is in the queue at most once, pieces that wait for company
//! included, so that the queue is bounded by the pieces that are in the making and the threads.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use shoal_metainfo::{PieceIndex, hasher};

use crate::advance::advance;
use crate::check::CheckWork;
use crate::company::Company;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::files::Handles;
use crate::inner::Inner;
use crate::pool::Pool;
use crate::spec::StorageConfig;

/// How often contents are looked at for retries, background syncs, events that had no room, and pieces that wait in vain for
/// others to be hashed beside.
const TICK: Duration = Duration::from_millis(100);

/// Directories are looked at each time that so many of the pauses have passed after which a failed write is tried again.
const PAUSES: u32 = 4;

/// How long the end waits for threads: none should be busy for longer than one operation on a disk takes.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// Something for a thread to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Hash, judge and write pieces as far as their blocks arrived.
    Pieces(Vec<(Arc<Inner>, PieceIndex)>),
    /// Make room in the pool.
    Spill,
    /// Check the next piece of a list.
    Check(Arc<CheckWork>),
    /// Sync a content.
    Sync(Arc<Inner>),
    /// Record and tell that these pieces are lost.
    Lost(Arc<Inner>, Vec<PieceIndex>),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: StorageConfig,
    pub(crate) threads: usize,
    pub(crate) pool: Arc<Pool>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) handles: Arc<Handles>,
    pub(crate) counters: Counters,
    queue: Mutex<Queue>,
    wake: Condvar,
    tick: Condvar,
    volumes: Condvar,
    ended: Condvar,
    contents: Mutex<Vec<Weak<Inner>>>,
    spill_queued: AtomicBool,
    next_content: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) blocks_read_back: AtomicU64,
    pub(crate) blocks_spilled: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    /// Pieces that could be worked on and wait for others. They do not keep their content open.
    company: Company<(Weak<Inner>, PieceIndex)>,
    /// Pieces in the making, which hold memory.
    urgent: VecDeque<Job>,
    /// Checks, which can wait.
    patient: VecDeque<Job>,
    running: usize,
    closed: bool,
}

impl Queue {
    /// Lets the pieces that wait be worked on; false where there are none.
    fn release(&mut self) -> bool {
        let waiting = self.company.leave().into_iter();
        let pieces = waiting.filter_map(|(content, piece)| Some((content.upgrade()?, piece)));
        let pieces: Vec<_> = pieces.collect();
        let any = !pieces.is_empty();
        if any {
            self.urgent.push_back(Job::Pieces(pieces));
        }
        any
    }
}

impl Shared {
    pub(crate) fn start(
        config: StorageConfig,
        disk: Arc<dyn Disk>,
    ) -> Result<Arc<Self>, StorageError> {
        /// Fewer would leave nothing to spill while a few connections fill theirs.
        const MIN_BUFFERS: usize = 16;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = if config.threads == 0 {
            cores
        } else {
            config.threads
        };
        let buffers = config.cache_bytes / shoal_metainfo::BLOCK_LENGTH as usize;
        let shared = Arc::new(Shared {
            threads,
            pool: Arc::new(Pool::new(buffers.max(MIN_BUFFERS))),
            disk,
            handles: Arc::new(Handles::new(config.max_open_files)),
            config,
            counters: Counters::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            tick: Condvar::new(),
            volumes: Condvar::new(),
            ended: Condvar::new(),
            contents: Mutex::default(),
            spill_queued: AtomicBool::new(false),
            next_content: AtomicU64::new(0),
        });
        let works = std::iter::repeat_n(("storage", Shared::work as fn(&Arc<Self>)), threads);
        let others = [
            ("storage-clock", Shared::keep_house as fn(&Arc<Self>)),
            ("storage-volumes", Shared::watch_volumes),
        ];
        for (name, work) in works.chain(others) {
            let here = Arc::clone(&shared);
            shared.lock().running += 1;
            let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
                work(&here);
                here.lock().running -= 1;
                here.ended.notify_all();
            });
            if let Err(error) = spawned {
                shared.lock().running -= 1;
                shared.shutdown();
                return Err(StorageError::io("starting a thread", error));
            }
        }
        Ok(shared)
    }

    pub(crate) fn next_content(&self) -> u64 {
        self.next_content.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn register(&self, content: &Arc<Inner>) {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        // Now and then, as there may be thousands.
        if contents.len() == contents.capacity() {
            contents.retain(|content| content.strong_count() > 0);
        }
        contents.push(Arc::downgrade(content));
        self.tick.notify_one();
    }

    fn contents(&self) -> Vec<Arc<Inner>> {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.iter().filter_map(Weak::upgrade).collect()
    }

    /// Gives a job to the next free thread. After the end nothing happens.
    pub(crate) fn push(&self, job: Job) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        match job {
            Job::Check(_) => queue.patient.push_back(job),
            _ => queue.urgent.push_back(job),
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Gives a piece to the threads, at once or together with others that come soon, if it `may_wait` for them and half of
    /// memory is free: long pieces and small caches are never kept waiting. Should none come, it waits for the next
    /// [`TICK`].
    pub(crate) fn push_piece(&self, content: &Arc<Inner>, piece: PieceIndex, may_wait: bool) {
        let lanes = hasher::lanes(content.verifier.needs());
        if lanes == 1 {
            return self.push(Job::Pieces(vec![(Arc::clone(content), piece)]));
        }
        let lasts = self.pool.available() > self.pool.capacity() / 2;
        let one = (Arc::downgrade(content), piece);
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        let at_once = queue
            .company
            .join(one, Instant::now(), lanes, may_wait && lasts);
        if at_once && queue.release() {
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Lets the pieces that wait for others be worked on as they are.
    pub(crate) fn release(&self) {
        if self.lock().release() {
            self.wake.notify_one();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether so few buffers are free that pieces in the making should leave memory.
    pub(crate) fn is_short(&self) -> bool {
        self.pool.available() < (self.pool.capacity() / 8).max(2)
    }

    /// Sees to it that buffers become free if they are about to run out.
    pub(crate) fn relieve(&self) {
        if self.is_short() && !self.spill_queued.swap(true, Ordering::AcqRel) {
            self.release();
            self.push(Job::Spill);
        }
    }

    fn work(self: &Arc<Self>) {
        let mut scratch = Vec::new();
        while let Some(job) = self.next_job() {
            match job {
                Job::Pieces(pieces) => advance(pieces, false, &mut scratch),
                Job::Spill => self.spill(&mut scratch),
                Job::Check(work) => work.step(&mut scratch),
                Job::Sync(content) => content.sync_in_background(),
                Job::Lost(content, pieces) => content.record_lost(&pieces),
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.urgent.pop_front() {
                return Some(job);
            }
            if let Some(job) = queue.patient.pop_front() {
                return Some(job);
            }
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes pieces in the making, those first that need not be read back, until half of the buffers are free.
    fn spill(&self, scratch: &mut Vec<u8>) {
        self.spill_queued.store(false, Ordering::Release);
        let mut candidates = Vec::new();
        for content in self.contents() {
            for (piece, cheap, cached) in content.spillable() {
                candidates.push((cheap, cached, Arc::clone(&content), piece));
            }
        }
        candidates.sort_by_key(|&(cheap, cached, ..)| std::cmp::Reverse((cheap, cached)));
        for (_, _, content, piece) in candidates {
            if self.pool.available() >= self.pool.capacity() / 2 {
                break;
            }
            advance([(content, piece)], true, scratch);
        }
    }

    /// Finds volumes that are gone: each directory is looked at once, however many contents are in it.
    fn look_at_volumes(&self) {
        let mut directories: BTreeMap<PathBuf, Vec<Arc<Inner>>> = BTreeMap::new();
        for content in self.contents() {
            let directory = &content.files.homes.now().location.directory;
            match directories.get_mut(directory) {
                Some(contents) => contents.push(content),
                None => drop(directories.insert(directory.clone(), vec![content])),
            }
        }
        for contents in directories.values() {
            let Some(first) = contents.first() else {
                continue;
            };
            if !first.is_root_there() {
                contents.iter().for_each(|content| content.look_at_volume());
            }
        }
    }

    /// Finds what went and what came back. On a thread of its own: a share whose server does not answer keeps whoever looks at it.
    fn watch_volumes(self: &Arc<Self>) {
        for round in 1_u32.. {
            let queue = self.lock();
            if queue.closed {
                return;
            }
            let pause = self.config.retry_pause;
            drop(self.volumes.wait_timeout(queue, pause));
            if self.is_closed() {
                return;
            }
            for content in self.contents() {
                content.look_for_return();
            }
            if round.is_multiple_of(PAUSES) {
                self.look_at_volumes();
            }
        }
    }

    fn keep_house(self: &Arc<Self>) {
        loop {
            let contents = self.contents();
            let now = Instant::now();
            for content in &contents {
                content.tick(now);
            }
            let idle = contents.is_empty();
            drop(contents);
            let mut queue = self.lock();
            if queue.closed {
                return;
            }
            if queue.release() {
                self.wake.notify_one();
            }
            // Without contents there is nothing to look after until one is registered, which may just have happened.
            let pause = if idle { TICK * 20 } else { TICK };
            drop(self.tick.wait_timeout(queue, pause));
        }
    }

    /// Ends the threads after what they are doing.
    pub(crate) fn shutdown(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        let jobs = (
            std::mem::take(&mut queue.urgent),
            std::mem::take(&mut queue.patient),
        );
        self.wake.notify_all();
        self.tick.notify_all();
        self.volumes.notify_all();
        let until = Instant::now() + SHUTDOWN_PATIENCE;
        while queue.running > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(
                    "{} storage threads are still busy with the disk",
                    queue.running
                );
                break;
            }
            queue = self
                .ended
                .wait_timeout(queue, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
        }
        drop(queue);
        // Only here, because dropping a content's last job may take locks of its own.
        drop(jobs);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
