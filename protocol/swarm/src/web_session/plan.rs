//! Which bytes of which files blocks consist of.
//!
//! Invariant: the parts of a fetch, one after the other, are its blocks, one after the other, byte for byte.

use core::ops::Range;
use shoal_metainfo::{BlockRun, FileIndex, Layout, PieceIndex};

/// A file of the torrent, as far as an origin is asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebFile {
    /// The part of the address space that it fills. Files rise and do not overlap.
    pub range: Range<u64>,
    /// What the origin can be asked for.
    pub kind: FileKind,
}

/// What an origin can be asked for of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Its bytes.
    Content,
    /// Nothing: it is zeros (BEP 47), and on no server.
    Padding,
    /// Nothing, as no URL can name it.
    Unnamed,
}

/// Part of a fetch. They follow each other, and so do their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A range of a file, to be asked for with one request (BEP 19).
    File {
        /// The file.
        file: FileIndex,
        /// The range within it. Never empty.
        range: Range<u64>,
        /// The length of the whole file.
        length: u64,
    },
    /// A range of a piece, to be asked of a script with one request (BEP 17).
    Piece {
        /// The piece.
        piece: PieceIndex,
        /// The range within it. Never empty.
        range: Range<u32>,
        /// Whether that is the whole piece.
        whole: bool,
    },
    /// So many zeros, which nobody is asked for.
    Zeros {
        /// How many.
        length: u64,
    },
}

impl Part {
    /// The bytes that it consists of.
    #[must_use]
    pub const fn length(&self) -> u64 {
        match self {
            Part::File { range, .. } => range.end - range.start,
            Part::Piece { range, .. } => (range.end - range.start) as u64,
            Part::Zeros { length } => *length,
        }
    }

    /// The file that is asked for.
    #[must_use]
    pub const fn file(&self) -> Option<FileIndex> {
        match self {
            Part::File { file, .. } => Some(*file),
            _ => None,
        }
    }
}

/// Where a run lies within its piece.
fn within(layout: &Layout, run: BlockRun) -> Range<u32> {
    let length = layout.length_of(run.piece);
    let end = run.first.0.saturating_add(run.count);
    let end = end.saturating_mul(shoal_metainfo::BLOCK_LENGTH);
    run.first.offset().min(length)..end.min(length)
}

/// The parts of runs, of files.
pub(super) fn of_files(layout: &Layout, files: &[WebFile], runs: &[BlockRun]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for &run in runs {
        let (slot, inside) = (layout.range_of(run.piece), within(layout, run));
        let range = slot.start + u64::from(inside.start)..slot.start + u64::from(inside.end);
        for (file, covered) in overlapping(files, range) {
            let WebFile { range, kind } = &files[file.get()];
            let length = range.end - range.start;
            let begin = covered.start - range.start;
            let end = covered.end - range.start;
            match (parts.last_mut(), kind) {
                (Some(Part::Zeros { length }), FileKind::Padding) => *length += end - begin,
                (_, FileKind::Padding) => parts.push(Part::Zeros {
                    length: end - begin,
                }),
                (
                    Some(Part::File {
                        file: last, range, ..
                    }),
                    _,
                ) if *last == file && range.end == begin => {
                    range.end = end;
                }
                _ => parts.push(Part::File {
                    file,
                    range: begin..end,
                    length,
                }),
            }
        }
    }
    parts
}

/// The parts of runs, of a script.
pub(super) fn of_pieces(layout: &Layout, runs: &[BlockRun]) -> Vec<Part> {
    let part = |&run: &BlockRun| {
        let range = within(layout, run);
        Part::Piece {
            piece: run.piece,
            whole: range == (0..layout.length_of(run.piece)),
            range,
        }
    };
    runs.iter().map(part).collect()
}

/// The files with bytes in `range`, and which.
pub(super) fn overlapping(
    files: &[WebFile],
    range: Range<u64>,
) -> impl Iterator<Item = (FileIndex, Range<u64>)> {
    let first = files.partition_point(|file| file.range.end <= range.start);
    let following = (first..).zip(&files[first..]);
    following
        .take_while(move |(_, file)| file.range.start < range.end)
        .filter_map(move |(index, file)| {
            let covered = file.range.start.max(range.start)..file.range.end.min(range.end);
            let index = FileIndex(u32::try_from(index).ok()?);
            (!covered.is_empty()).then_some((index, covered))
        })
}
