//! One content: the handle through which its owner writes, reads and verifies it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use shoal_metainfo::{Bitfield, Block, PieceIndex};

use crate::error::{ReadError, StorageError};
use crate::pool::BlockBuffer;
use crate::source::Source;

/// What the journal knew when the content was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Pieces that are known to be right, without having been read.
    pub have: Bitfield,
    /// Pieces that were right and must be verified again: not synced before a power failure, or in a file that changed.
    pub suspect: Vec<PieceIndex>,
    /// Whether there was no journal to go by: whatever is on disk is unknown.
    pub fresh: bool,
}

/// What became of a block given to [`Content::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is kept.
    Kept,
    /// It was there already.
    Duplicate,
    /// There is no such block, its length is wrong, or the content is closed or read-only.
    Refused,
}

/// A content that is open. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Content {}

impl Content {
    /// What the journal knew, without any content having been read.
    #[must_use]
    pub fn resumed(&self) -> &Resumed {
        unreachable!()
    }

    /// Takes a received block. Never blocks; events follow when the piece is complete.
    pub fn write(&self, _block: Block, _buffer: BlockBuffer) -> Stored {
        unreachable!()
    }

    /// Drops the received blocks of a piece that is not verified yet.
    pub fn forget(&self, _piece: PieceIndex) {
        unreachable!()
    }

    /// Reads and hashes `pieces` on the worker threads; one [`crate::Event::Checked`] follows for each.
    pub fn verify(&self, _pieces: Vec<PieceIndex>) -> Check {
        unreachable!()
    }

    /// Takes every piece of the wanted files for right where the files have their full size, without reading them.
    /// Returns the pieces that are to be had.
    pub fn trust(&self) -> Bitfield {
        unreachable!()
    }

    /// Where the bytes of a range of a verified piece are. Reads nothing; looks at a file's state at most once a second.
    ///
    /// # Errors
    /// Where the piece is not verified, the range not within it, or a file is not what it was.
    pub fn source(&self, _piece: PieceIndex, _begin: u32, _length: u32) -> Result<Source, ReadError> {
        unreachable!()
    }

    /// Reads a range of a verified piece: `out` is filled. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Content::source`], and where the file system fails.
    pub fn read(&self, _piece: PieceIndex, _begin: u32, _out: &mut [u8]) -> Result<(), ReadError> {
        unreachable!()
    }

    /// Tells that reading from a source of `piece` came short: the piece is lost, an event follows.
    pub fn doubt(&self, _piece: PieceIndex) {
        unreachable!()
    }

    /// Changes which files are wanted. Fragments of a file that becomes wanted move from the parts file into it, so that
    /// this blocks on the disk.
    ///
    /// # Errors
    /// Where the file system fails; the selection is then as it was.
    pub fn select(&self, _wanted: Vec<bool>) -> Result<(), StorageError> {
        unreachable!()
    }

    /// Makes everything verified so far survive a power failure. Blocks on the disk.
    ///
    /// # Errors
    /// Where the file system fails.
    pub fn sync(&self) -> Result<(), StorageError> {
        unreachable!()
    }

    /// Writes what is verified, syncs, and records a clean end. Blocks on the disk. Afterwards writes are refused; other
    /// handles may still read.
    ///
    /// # Errors
    /// Where the file system fails; everything recorded before stays good.
    pub fn close(&self) -> Result<(), StorageError> {
        unreachable!()
    }
}

/// A check that is going on. Dropping it does not stop it.
#[derive(Clone, Debug)]
pub struct Check {
    cancelled: Arc<AtomicBool>,
    checked: Arc<AtomicU32>,
    total: u32,
}

impl Check {
    /// Stops it soon; no event follows for the pieces that were left.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// How many pieces were checked so far.
    #[must_use]
    pub fn checked(&self) -> u32 {
        self.checked.load(Ordering::Relaxed)
    }

    /// How many pieces were to be checked.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }
}
