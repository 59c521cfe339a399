//! The only crate that reads and writes content: files, write cache, hashing, completion journal.
//!
//! Invariant: bytes that failed verification, or are not verified yet, are never handed out; a verified piece is recorded
//! only after its bytes were written.

mod absence;
mod adopt;
mod advance;
pub mod author;
mod check;
mod company;
mod content;
mod disk;
mod error;
mod event;
mod files;
mod home;
mod inner;
mod journal;
mod lockstep;
mod map;
mod mover;
mod note;
mod open;
mod partial;
mod pool;
mod reason;
mod relocate;
mod remove;
mod shared;
mod source;
mod spec;
pub mod state_file;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the sizes here are small")]
mod tests;
mod trash;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

pub use adopt::{Adopted, Claims, Modified, Stamp};
pub use check::Check;
pub use content::{Content, Resumed, Stored};
pub use disk::{Access, Disk, Root};
pub use error::{ReadError, StorageError};
pub use event::Event;
pub use pool::BlockBuffer;
pub use reason::Reason;
pub use relocate::{Needed, Progress, check_relocation};
pub use remove::{Fate, Removed, forget};
pub use source::{Reads, Segment, Source};
pub use spec::{ContentSpec, FileSpec, Location, Mode, StorageConfig};
pub use trash::home_trash;

use shared::Shared;

/// The storage of a process: worker threads, block buffers and open files, shared by all contents. Cloning gives another
/// handle to the same; the last one to go, those within contents included, ends the threads.
#[derive(Clone, Debug)]
pub struct Storage {
    owner: Arc<Owner>,
}

/// Ends the threads when it goes. Threads hold `Shared` only, so that none of them ever waits for itself.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks that were written before they were hashed, and read again to be hashed.
    pub blocks_read_back: u64,
    /// Blocks that were written before their piece was verified, because memory ran short.
    pub blocks_spilled: u64,
    /// Bytes of pieces written to files.
    pub bytes_written: u64,
    /// Buffers that are leased or cached.
    pub buffers_in_use: usize,
}

impl Storage {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn start(config: StorageConfig) -> Result<Storage, StorageError> {
        Storage::start_on(config, Arc::new(disk::SystemDisk))
    }

    /// As [`Storage::start`], over other operations on files than the system's, which simulations and tests let fail.
    ///
    /// # Errors
    /// As [`Storage::start`].
    pub fn start_on(config: StorageConfig, disk: Arc<dyn Disk>) -> Result<Storage, StorageError> {
        let shared = Shared::start(config, disk)?;
        Ok(Storage {
            owner: Arc::new(Owner(shared)),
        })
    }

    /// Waits for a buffer for one block. This waiting is what bounds memory: whoever receives blocks leases first.
    pub async fn lease(&self) -> BlockBuffer {
        self.shared().relieve();
        self.shared().pool.lease().await
    }

    /// A buffer for one block if there is one right away.
    #[must_use]
    pub fn try_lease(&self) -> Option<BlockBuffer> {
        self.shared().relieve();
        self.shared().pool.try_lease()
    }

    /// Opens a content. Blocks on the disk. Whoever holds the other end of `events` need not drain it while it calls
    /// anything here; while it does not, pieces wait in the cache.
    ///
    /// # Errors
    /// Before the first byte is written: a missing or read-only directory, a path that is or leads through a symbolic link,
    /// a path that is something else than a regular file, a journal that another process uses.
    pub fn open(
        &self,
        spec: ContentSpec,
        events: mpsc::Sender<Event>,
    ) -> Result<Content, StorageError> {
        let inner = open::open(self.shared(), spec, events)?;
        Ok(Content {
            inner,
            _storage: self.clone(),
        })
    }

    /// Writes the journal of a content that another client had and that was never open here, so that opening it needs no check: which of
    /// the pieces that the client verified are taken for right, and which are to be verified first. Files with names of unfinished ones get
    /// their own. `None` where there is a journal already, which then holds. Blocks on the disk, and reads no content.
    ///
    /// # Errors
    /// Before anything is written: where the directory is missing, a path is refused as in [`Storage::open`], or nothing of all that the
    /// client verified is there. What the system says; there is no journal then.
    pub fn adopt(
        &self,
        spec: &ContentSpec,
        claims: &Claims,
    ) -> Result<Option<Adopted>, StorageError> {
        adopt::adopt(&self.shared().disk, spec, claims, adopt::Manner::Earnest)
    }

    /// What would come of [`Storage::adopt`]. Nothing on the disk changes.
    ///
    /// # Errors
    /// The same.
    pub fn survey(
        &self,
        spec: &ContentSpec,
        claims: &Claims,
    ) -> Result<Option<Adopted>, StorageError> {
        adopt::adopt(&self.shared().disk, spec, claims, adopt::Manner::Trial)
    }

    /// Removes a content that is not open: its files, the folders on the way to them that are empty then, its fragments of files, and
    /// its journal. What else is there stays: links, folders, files of others, and files that are not as long as the content has them,
    /// which no journal says are its own. Blocks on the disk; `cancelled` ends it early, and a second removal carries on.
    ///
    /// # Errors
    /// Before anything is removed: where the directory is missing, a path leads out of it, the trash cannot be used, or the content is
    /// open. `Cancelled`. Where the journal stays. A file that stays is no error: what is returned says so.
    pub fn remove(
        &self,
        spec: &ContentSpec,
        fate: &Fate,
        cancelled: &AtomicBool,
    ) -> Result<Removed, StorageError> {
        let disk = &self.shared().disk;
        remove::remove(disk.as_ref(), spec, fate, cancelled)
    }

    /// As [`Content::relocate`], for a content that is not open. Where it has no journal, nothing is known to be its own, and nothing is
    /// moved.
    ///
    /// # Errors
    /// The same, and as [`Storage::open`].
    pub fn relocate(
        &self,
        spec: ContentSpec,
        to: Location,
        progress: &Progress,
    ) -> Result<(), StorageError> {
        relocate::relocate_closed(self.shared(), spec, to, progress)
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let counters = &shared.counters;
        Stats {
            blocks_read_back: counters.blocks_read_back.load(Ordering::Relaxed),
            blocks_spilled: counters.blocks_spilled.load(Ordering::Relaxed),
            bytes_written: counters.bytes_written.load(Ordering::Relaxed),
            buffers_in_use: shared.pool.capacity() - shared.pool.available(),
        }
    }

    /// Ends the threads after the work at hand, waiting for them for a few seconds at most. Contents should be closed
    /// before.
    pub fn shutdown(&self) {
        self.shared().shutdown();
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }
}
