//! Where the bytes of a verified range are, so that whoever sends them can choose when to read them, and how many at once.

use crate::pool::BlockBuffer;
use smallvec::{SmallVec, smallvec};
use std::fs::File;
use std::io;
use std::ptr;
use std::sync::Arc;

/// So many parts are one system call at most; the least that systems allow is 1,024.
const MAX_PARTS: usize = 256;

/// The bytes of one range, in order.
#[derive(Clone, Debug)]
pub struct Source {
    /// Consecutive parts of the range; none is empty.
    pub segments: SmallVec<[Segment; 1]>,
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

/// Reads of several sources, of which those that lie one behind the other in a file are one system call.
#[derive(Debug, Default)]
pub struct Reads<'a> {
    runs: Vec<Run<'a>>,
}

/// Where consecutive bytes of one place go.
#[derive(Debug)]
enum Run<'a> {
    File {
        file: &'a File,
        /// Where the first of them is.
        offset: u64,
        len: u64,
        outs: SmallVec<[io::IoSliceMut<'a>; 1]>,
    },
    Zeros(&'a mut [u8]),
    Buffer(&'a [u8], &'a mut [u8]),
}

impl<'a> Reads<'a> {
    /// Wants the bytes of `source` from `at` on in `out`, as many as there are room and bytes for. Returns how many.
    pub fn add(&mut self, source: &'a Source, at: u64, mut out: &'a mut [u8]) -> usize {
        let (mut skip, mut wanted) = (at, 0);
        for segment in &source.segments {
            if skip >= segment.len() {
                skip -= segment.len();
                continue;
            }
            let there = usize::try_from(segment.len() - skip).unwrap_or(usize::MAX);
            let (part, rest) = out.split_at_mut(there.min(out.len()));
            wanted += part.len();
            self.add_part(segment, skip, part);
            (skip, out) = (0, rest);
        }
        wanted
    }

    fn add_part(&mut self, segment: &'a Segment, at: u64, part: &'a mut [u8]) {
        if part.is_empty() {
            return;
        }
        match segment {
            Segment::Zeros { .. } => self.runs.push(Run::Zeros(part)),
            Segment::Buffer { block, start, .. } => {
                // What lies in memory is shorter than a block.
                let from = start + usize::try_from(at).unwrap_or(usize::MAX);
                self.runs
                    .push(Run::Buffer(&block[from..from + part.len()], part));
            }
            Segment::File {
                file, offset: base, ..
            } => {
                let from = base + at;
                let added = part.len() as u64;
                let part = io::IoSliceMut::new(part);
                if let Some(Run::File {
                    file: last,
                    offset,
                    len,
                    outs,
                }) = self.runs.last_mut()
                    && ptr::eq(&**file, *last)
                    && *offset + *len == from
                    && outs.len() < MAX_PARTS
                {
                    *len += added;
                    outs.push(part);
                } else {
                    self.runs.push(Run::File {
                        file,
                        offset: from,
                        len: added,
                        outs: smallvec![part],
                    });
                }
            }
        }
    }

    /// Reads them, in the order in which they were added. Returns how many bytes, of all that are wanted, are there: the first
    /// ones, as far as no file came short or failed. Blocks on the disk where it is not cached.
    ///
    /// # Errors
    /// Where the first byte cannot be read.
    pub fn read(self) -> io::Result<u64> {
        let mut done = 0;
        for run in self.runs {
            match run {
                Run::Zeros(out) => {
                    out.fill(0);
                    done += out.len() as u64;
                }
                Run::Buffer(from, out) => {
                    out.copy_from_slice(from);
                    done += out.len() as u64;
                }
                Run::File {
                    file,
                    offset,
                    len,
                    mut outs,
                } => {
                    let read = match read_full(file, offset, &mut outs) {
                        Err(error) if done == 0 => return Err(error),
                        other => other.unwrap_or(0),
                    };
                    done += read;
                    if read < len {
                        break;
                    }
                }
            }
        }
        Ok(done)
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

/// Reads until `outs` are full, the file ends or fails. Returns how many bytes that are; an error where there are none.
fn read_full(file: &File, mut offset: u64, mut outs: &mut [io::IoSliceMut<'_>]) -> io::Result<u64> {
    let from = offset;
    while !outs.is_empty() {
        match rustix::io::preadv(file, outs, offset) {
            Ok(0) => break,
            Ok(count) => {
                offset += count as u64;
                io::IoSliceMut::advance_slices(&mut outs, count);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) if offset == from => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(offset - from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use std::io::Write;

    fn read(source: &Source, at: usize, out: &mut [u8]) -> usize {
        let mut reads = Reads::default();
        reads.add(source, at as u64, out);
        usize::try_from(reads.read().unwrap()).unwrap()
    }

    /// `abcdefghij` in a file, of which 2 to 8 are meant; three zeros; and `yz` in memory.
    fn mixed() -> (Source, &'static [u8], Arc<File>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdefghij").unwrap();
        let file = Arc::new(file);
        let mut buffer = Arc::new(Pool::new(1)).try_lease().unwrap();
        buffer[..4].copy_from_slice(b"xyz!");
        let segments = smallvec![
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
                assert_eq!(read(&source, from, &mut out), there.len());
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
        assert_eq!(read(&source, 0, &mut out), 3);
        assert_eq!((&out[..3], &out[3..]), (&whole[..3], &[7; 8][..]));
        assert_eq!(read(&source, 4, &mut out), 0);
        assert_eq!(read(&source, 6, &mut out), 5);
    }

    #[test]
    fn what_several_sources_have_is_there_as_far_as_none_came_short() {
        let (source, whole, file) = mixed();
        let mut outs = vec![vec![7; 4]; 6];
        // From 0 and from 4 are one run of the file, and end in what is elsewhere; the others begin again.
        let wanted = [(0_usize, 4), (4, 4), (8, 3), (2, 4), (0, 1), (1, 4)];
        let all = |outs: &mut Vec<Vec<u8>>| {
            let mut reads = Reads::default();
            for ((at, count), out) in wanted.iter().zip(outs) {
                let there = reads.add(&source, *at as u64, &mut out[..*count]);
                assert_eq!(there, *count);
            }
            reads.read().unwrap()
        };
        assert_eq!(all(&mut outs), 20);
        for ((at, count), out) in wanted.iter().zip(&outs) {
            assert_eq!(out[..*count], whole[*at..][..*count]);
        }
        // Four bytes of the source are left.
        file.set_len(6).unwrap();
        assert_eq!(all(&mut outs), 4);
    }
}
