//! From how much each file is wanted to how much each piece is.
//!
//! Invariant: a piece is wanted as much as the file in it that is wanted most.

use shoal_metainfo::{FileIndex, Metainfo};
pub use shoal_swarm::torrent::Priority as FilePriority;
use std::ops::Range;

/// Of how many equal parts of a file the first and the last come first, where that is asked for: indices of media files are at either end and
/// take up to a hundredth.
const ENDS_ONE_IN: u64 = 100;

/// How much each piece is wanted; with `first_last`, the first and the last ones of each wanted file come first.
pub(crate) fn of_pieces(
    metainfo: &Metainfo,
    files: &[FilePriority],
    first_last: bool,
) -> Vec<FilePriority> {
    let pieces = metainfo.layout().piece_count() as usize;
    // Also those of nothing but padding: without them, a torrent of which everything is wanted would never be whole.
    let everything = files.iter().all(|file| *file != FilePriority::Skip);
    let least = if everything {
        FilePriority::Normal
    } else {
        FilePriority::Skip
    };
    let mut priorities = vec![least; pieces];
    for ((index, file), &priority) in (0..).zip(metainfo.files()).zip(files) {
        if file.padding || priority == FilePriority::Skip {
            continue;
        }
        let range = metainfo.pieces_of(FileIndex(index));
        raise(&mut priorities, range.clone(), priority);
        if first_last {
            let part = file.length.div_ceil(ENDS_ONE_IN);
            let part = part.div_ceil(u64::from(metainfo.layout().piece_length()));
            let ends = u32::try_from(part).unwrap_or(u32::MAX);
            let first = range.start..range.end.min(range.start.saturating_add(ends));
            let last = range.start.max(range.end.saturating_sub(ends))..range.end;
            raise(&mut priorities, first, FilePriority::Highest);
            raise(&mut priorities, last, FilePriority::Highest);
        }
    }
    priorities
}

/// For each file, whether it is wanted.
pub(crate) fn wanted(files: &[FilePriority]) -> Vec<bool> {
    let wanted = files.iter().map(|file| *file != FilePriority::Skip);
    wanted.collect()
}

fn raise(priorities: &mut [FilePriority], pieces: Range<u32>, priority: FilePriority) {
    let pieces = pieces.start as usize..pieces.end as usize;
    for piece in priorities.get_mut(pieces).unwrap_or_default() {
        *piece = priority.max(*piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FilePriority::{High, Highest, Normal, Skip};
    use shoal_metainfo::bencode::Limits;
    use shoal_metainfo::create::{Kind, Options, Plan, SourceFile};

    const PIECE: u64 = 16 * 1024;

    /// Files of so many bytes, one behind the other.
    fn metainfo(lengths: &[u64]) -> Metainfo {
        let files = (0..).zip(lengths).map(|(number, &length)| SourceFile {
            path: vec![format!("file-{number}")],
            length,
            ..SourceFile::default()
        });
        let options = Options {
            kind: Kind::V1,
            piece_length: Some(u32::try_from(PIECE).unwrap()),
            ..Options::default()
        };
        let plan = Plan::new("sample".to_owned(), files.collect(), options).unwrap();
        let hashes: Vec<_> = plan
            .layout()
            .pieces()
            .map(|piece| {
                let mut hasher = plan.hasher(piece);
                hasher.update(&vec![0; plan.layout().length_of(piece) as usize]);
                plan.piece_hash(piece, &hasher.finish())
            })
            .collect();
        Metainfo::parse(&plan.finish(&hashes).unwrap(), Limits::LOCAL).unwrap()
    }

    fn of_pieces(lengths: &[u64], files: &[FilePriority], first_last: bool) -> Vec<FilePriority> {
        super::of_pieces(&metainfo(lengths), files, first_last)
    }

    #[test]
    fn a_piece_of_two_files_is_wanted_as_the_one_that_is_wanted_more() {
        let lengths = [PIECE + 1, PIECE, PIECE];
        assert_eq!(
            of_pieces(&lengths, &[Normal, High, Skip], false),
            [Normal, High, High, Skip]
        );
        assert_eq!(
            of_pieces(&lengths, &[Skip, Skip, Highest], false),
            [Skip, Skip, Highest, Highest]
        );
        assert_eq!(of_pieces(&lengths, &[Normal; 3], false), [Normal; 4]);
    }

    #[test]
    fn the_ends_of_wanted_files_come_first() {
        let lengths = [5 * PIECE, 3 * PIECE];
        assert_eq!(
            of_pieces(&lengths, &[Normal, Skip], true),
            [Highest, Normal, Normal, Normal, Highest, Skip, Skip, Skip]
        );
        let long = of_pieces(&[201 * PIECE], &[High], true);
        let first: Vec<usize> = (0..201).filter(|&piece| long[piece] == Highest).collect();
        assert_eq!(first, [0, 1, 2, 198, 199, 200]);
    }
}
