//! Where the bytes of a verified range are, so that whoever sends them can choose how.

use std::fs::File;
use std::sync::Arc;

use crate::pool::BlockBuffer;

/// The bytes of one range, in order.
#[derive(Clone, Debug)]
pub struct Source {
    /// Consecutive parts of the range; none is empty.
    pub segments: Vec<Segment>,
}

impl Source {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}

/// One part of a [`Source`].
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes of a file. A read that comes short must be reported with [`crate::Content::doubt`].
    File {
        /// The file; stays open as long as this does.
        file: Arc<File>,
        /// Where in the file.
        offset: u64,
        /// How many bytes.
        len: u64,
    },
    /// Zeros, which are on no disk (padding).
    Zeros {
        /// How many.
        len: u64,
    },
    /// Verified bytes that are still in memory.
    Buffer {
        /// The whole block.
        block: Arc<BlockBuffer>,
        /// The part of it that is meant.
        start: usize,
        /// How many bytes.
        len: usize,
    },
}

impl Segment {
    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Segment::File { len, .. } | Segment::Zeros { len } => *len,
            Segment::Buffer { len, .. } => *len as u64,
        }
    }

    /// Never true for a segment of a [`Source`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
