//! Where the bytes of a verified range are, so that whoever sends them can choose how and when to read them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
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

    /// Copies the bytes from `at` on to `out`, as many as there are room and bytes for. Returns how many; fewer mean that a
    /// file came short, which must be reported with [`crate::Content::doubt`]. Blocks on the disk where it is not cached.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn read(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        let (mut skip, mut filled) = (at, 0);
        for segment in &self.segments {
            if skip >= segment.len() {
                skip -= segment.len();
                continue;
            }
            let there = usize::try_from(segment.len() - skip).unwrap_or(usize::MAX);
            let wanted = there.min(out.len() - filled);
            let count = segment.read(skip, &mut out[filled..filled + wanted])?;
            filled += count;
            if count < wanted || filled == out.len() {
                break;
            }
            skip = 0;
        }
        Ok(filled)
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

    /// Fills `out` with the bytes from `at` on, of which there are that many. Fewer where a file came short.
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Segment::File { file, offset, .. } => read_full(file, offset + at, out),
            Segment::Zeros { .. } => {
                out.fill(0);
                Ok(out.len())
            }
            Segment::Buffer { block, start, .. } => {
                // What lies in memory is shorter than a block.
                let from = start + usize::try_from(at).unwrap_or(usize::MAX);
                out.copy_from_slice(&block[from..from + out.len()]);
                Ok(out.len())
            }
        }
    }

    /// Never true for a segment of a [`Source`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads until `out` is full or the file ends.
fn read_full(file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match file.read_at(&mut out[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use std::io::Write;

    /// `abcdefghij` in a file, of which 2 to 8 are meant; three zeros; and `yz` in memory.
    fn mixed() -> (Source, &'static [u8], Arc<File>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdefghij").unwrap();
        let file = Arc::new(file);
        let mut buffer = Arc::new(Pool::new(1)).try_lease().unwrap();
        buffer[..4].copy_from_slice(b"xyz!");
        let segments = vec![
            Segment::File {
                file: Arc::clone(&file),
                offset: 2,
                len: 6,
            },
            Segment::Zeros { len: 3 },
            Segment::Buffer {
                block: Arc::new(buffer),
                start: 1,
                len: 2,
            },
        ];
        (Source { segments }, b"cdefgh\0\0\0yz", file)
    }

    #[test]
    fn every_part_of_a_source_is_read_from_every_kind_of_place() {
        let (source, whole, _file) = mixed();
        assert_eq!(source.len(), whole.len() as u64);
        for from in 0..=whole.len() {
            for length in 0..=whole.len() + 1 {
                let mut out = vec![7; length];
                let there = &whole[from..whole.len().min(from + length)];
                assert_eq!(source.read(from as u64, &mut out).unwrap(), there.len());
                assert_eq!(&out[..there.len()], there);
                assert!(out[there.len()..].iter().all(|byte| *byte == 7));
            }
        }
    }

    #[test]
    fn a_file_that_came_short_ends_what_is_read() {
        let (source, whole, file) = mixed();
        file.set_len(5).unwrap();
        let mut out = [7; 11];
        assert_eq!(source.read(0, &mut out).unwrap(), 3);
        assert_eq!((&out[..3], &out[3..]), (&whole[..3], &[7; 8][..]));
        assert_eq!(source.read(4, &mut out).unwrap(), 0);
        assert_eq!(source.read(6, &mut out).unwrap(), 5);
    }
}
