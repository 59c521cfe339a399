//! The files and pieces of a torrent, line by line, for who asks: too much to be in every snapshot.
//!
//! Invariant: looking changes nothing.

use crate::priorities::FilePriority;
use shoal_metainfo::{File, FileIndex, Metainfo, PieceIndex};
use shoal_swarm::torrent::PieceSummary;
use std::ops::Range;

/// One file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLine {
    /// Its length.
    pub length: u64,
    /// How many of its bytes are verified.
    pub verified_bytes: u64,
    /// How much it is wanted.
    pub priority: FilePriority,
    /// The pieces that have a part in it. An empty file has none.
    pub pieces: Range<u32>,
    /// How many of these we or peers that are connected have.
    pub available_pieces: u32,
}

/// One piece of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceLine {
    /// How far it is.
    pub state: PieceState,
    /// How much it is wanted.
    pub priority: FilePriority,
    /// How many peers that are connected have it.
    pub availability: u32,
}

/// How far a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceState {
    /// Nothing of it is there that would count.
    Missing,
    /// Blocks of it are there, or asked for.
    InProgress,
    /// It is there and right.
    Verified,
}

impl From<PieceSummary> for PieceLine {
    fn from(piece: PieceSummary) -> Self {
        PieceLine {
            state: match piece {
                PieceSummary { have: true, .. } => PieceState::Verified,
                PieceSummary {
                    in_progress: true, ..
                } => PieceState::InProgress,
                _ => PieceState::Missing,
            },
            priority: piece.priority,
            availability: piece.availability,
        }
    }
}

/// One line for each file of the metainfo.
pub(crate) fn files(
    metainfo: &Metainfo,
    priorities: &[FilePriority],
    piece: impl Fn(PieceIndex) -> PieceSummary,
) -> Vec<FileLine> {
    let files = (0..).zip(metainfo.files()).zip(priorities);
    let line = |((index, file), &priority): ((u32, &File), &FilePriority)| {
        let pieces = metainfo.pieces_of(FileIndex(index));
        let (mut verified_bytes, mut available_pieces) = (0, 0);
        for number in pieces.clone().map(PieceIndex) {
            let summary = piece(number);
            available_pieces += u32::from(summary.have || summary.availability > 0);
            if summary.have {
                let range = metainfo.layout().range_of(number);
                let end = range.end.min(file.offset + file.length);
                verified_bytes += end.saturating_sub(range.start.max(file.offset));
            }
        }
        FileLine {
            length: file.length,
            verified_bytes,
            priority,
            pieces,
            available_pieces,
        }
    };
    files.map(line).collect()
}
