//! The only crate that reads and writes content: files, write cache, hashing, completion journal.
//!
//! Invariant: bytes that failed verification, or are not verified yet, are never handed out; a verified piece is recorded
//! only after its bytes were written.

mod content;
mod error;
mod event;
mod pool;
mod source;
mod spec;

use std::sync::Arc;

use tokio::sync::mpsc;

pub use content::{Check, Content, Resumed, Stored};
pub use error::{ReadError, StorageError};
pub use event::{Event, Reason};
pub use pool::BlockBuffer;
pub use source::{Segment, Source};
pub use spec::{ContentSpec, FileSpec, Mode, StorageConfig};

/// The storage of a process: worker threads, block buffers and open files, shared by all contents. Cloning gives another
/// handle to the same; the last one to go ends the threads.
#[derive(Clone, Debug)]
pub struct Storage {
    pool: Arc<pool::Pool>,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks that were written before they were hashed, and read again to be hashed.
    pub blocks_read_back: u64,
    /// Blocks that were written before their piece was verified, because memory ran short.
    pub blocks_spilled: u64,
    /// Bytes written to content files.
    pub bytes_written: u64,
    /// Buffers that are leased or cached.
    pub buffers_in_use: usize,
}

impl Storage {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn start(_config: StorageConfig) -> Result<Storage, StorageError> {
        unreachable!()
    }

    /// Waits for a buffer for one block. This waiting is what bounds memory: whoever receives blocks leases first.
    pub async fn lease(&self) -> BlockBuffer {
        self.pool.lease().await
    }

    /// A buffer for one block if there is one right away.
    #[must_use]
    pub fn try_lease(&self) -> Option<BlockBuffer> {
        self.pool.try_lease()
    }

    /// Opens a content. Blocks on the disk. Whoever holds the other end of `events` need not drain it while it calls
    /// anything here; while it does not, pieces wait in the cache.
    ///
    /// # Errors
    /// Before the first byte is written: a missing or read-only directory, a path that is or leads through a symbolic link,
    /// a path that is something else than a regular file, a journal that another process uses.
    pub fn open(
        &self,
        _spec: ContentSpec,
        _events: mpsc::Sender<Event>,
    ) -> Result<Content, StorageError> {
        unreachable!()
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        unreachable!()
    }

    /// Ends the threads after the work at hand, waiting for them for a few seconds at most. Contents should be closed
    /// before.
    pub fn shutdown(&self) {
        unreachable!()
    }
}
