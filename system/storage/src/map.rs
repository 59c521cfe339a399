//! Which bytes of which file a range of the address space is.
//!
//! Invariant: the spans of a range follow each other without gaps or overlaps and none is empty.

use std::ops::Range;

use shoal_metainfo::{FileIndex, Layout, PieceIndex};

use crate::error::StorageError;
use crate::spec::FileSpec;

/// The files of a content by their place in the address space. Files without bytes have none.
#[derive(Debug)]
pub(crate) struct FileMap {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    file: FileIndex,
    start: u64,
    end: u64,
    padding: bool,
}

/// A part of a range that lies within one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) file: FileIndex,
    /// In the file.
    pub(crate) offset: u64,
    /// In the address space.
    pub(crate) address: u64,
    pub(crate) len: u64,
    pub(crate) padding: bool,
}

impl FileMap {
    /// Refuses files that overlap, are out of order, or leave a byte of a piece without a file.
    pub(crate) fn new(files: &[FileSpec], layout: &Layout) -> Result<Self, StorageError> {
        let mut entries = Vec::with_capacity(files.len());
        let mut end = 0;
        for (index, file) in (0..).map(FileIndex).zip(files) {
            if file.length == 0 {
                continue;
            }
            if file.offset < end {
                return Err(StorageError::Spec("its files overlap or are out of order"));
            }
            end = file
                .offset
                .checked_add(file.length)
                .ok_or(StorageError::Spec("a file ends beyond 2^64 bytes"))?;
            entries.push(Entry {
                file: index,
                start: file.offset,
                end,
                padding: file.padding,
            });
        }
        let map = FileMap { entries };
        for piece in layout.pieces() {
            let covered: u64 = map.spans(layout.range_of(piece)).map(|span| span.len).sum();
            if covered != u64::from(layout.length_of(piece)) {
                return Err(StorageError::Spec("a piece has bytes that are in no file"));
            }
        }
        Ok(map)
    }

    /// The parts of `range`, in order.
    pub(crate) fn spans(&self, range: Range<u64>) -> impl Iterator<Item = Span> + '_ {
        let first = self
            .entries
            .partition_point(|entry| entry.end <= range.start);
        let end = range.end;
        self.entries[first..]
            .iter()
            .take_while(move |entry| entry.start.max(range.start) < end)
            .map(move |entry| {
                let address = entry.start.max(range.start);
                Span {
                    file: entry.file,
                    offset: address - entry.start,
                    address,
                    len: entry.end.min(range.end) - address,
                    padding: entry.padding,
                }
            })
    }
}

/// The pieces that hold bytes of `file`.
pub(crate) fn pieces_of(
    file: &FileSpec,
    layout: &Layout,
) -> impl Iterator<Item = PieceIndex> + use<> {
    let length = u64::from(layout.piece_length());
    let first = file.offset / length;
    let end = if file.length == 0 {
        first
    } else {
        (file.offset + file.length).div_ceil(length)
    };
    let piece = |at: u64| {
        u32::try_from(at)
            .unwrap_or(u32::MAX)
            .min(layout.piece_count())
    };
    (piece(first)..piece(end)).map(PieceIndex)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the sizes here are small")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(offset: u64, length: u64, padding: bool) -> FileSpec {
        FileSpec {
            index: FileIndex(0),
            path: "f".into(),
            length,
            offset,
            padding,
            executable: false,
        }
    }

    #[test]
    fn contradictory_files_are_refused() {
        let layout = Layout::contiguous(100, 64).unwrap();
        assert!(FileMap::new(&[file(0, 60, false), file(50, 50, false)], &layout).is_err());
        assert!(FileMap::new(&[file(0, 60, false), file(61, 39, false)], &layout).is_err());
        assert!(FileMap::new(&[file(0, 60, false)], &layout).is_err());
        assert!(FileMap::new(&[file(0, 60, false), file(60, u64::MAX, false)], &layout).is_err());
        assert!(FileMap::new(&[file(0, 60, false), file(60, 40, true)], &layout).is_ok());
    }

    proptest! {
        #[test]
        fn every_byte_of_a_range_is_where_a_naive_model_has_it(
            files in proptest::collection::vec((prop_oneof![Just(0u64), 1u64..200], any::<bool>()), 1..20),
            cut in any::<(u16, u16)>(),
        ) {
            let total: u64 = files.iter().map(|&(length, _)| length).sum();
            prop_assume!(total > 0);
            let mut model = Vec::new();
            let mut specs = Vec::new();
            for (index, &(length, padding)) in (0u32..).zip(&files) {
                specs.push(file(model.len() as u64, length, padding));
                model.extend((0..length).map(|offset| (index, offset, padding)));
            }
            let layout = Layout::contiguous(total, 64).unwrap();
            let map = FileMap::new(&specs, &layout).unwrap();
            let (a, b) = (u64::from(cut.0) % (total + 1), u64::from(cut.1) % (total + 1));
            let range = a.min(b)..a.max(b);
            let mut found = Vec::new();
            for span in map.spans(range.clone()) {
                prop_assert!(span.len > 0);
                prop_assert_eq!(span.address, range.start + found.len() as u64);
                found.extend((0..span.len).map(|at| (span.file.0, span.offset + at, span.padding)));
            }
            prop_assert_eq!(&found[..], &model[range.start as usize..range.end as usize]);
            for (index, spec) in (0u32..).zip(&specs) {
                let pieces: Vec<u32> = pieces_of(spec, &layout).map(|piece| piece.0).collect();
                let naive: std::collections::BTreeSet<u32> = model.iter().enumerate()
                    .filter(|(_, byte)| byte.0 == index)
                    .map(|(at, _)| (at / 64) as u32)
                    .collect();
                prop_assert_eq!(pieces, naive.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
