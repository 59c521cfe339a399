//! Pieces, blocks and their places in a torrent's address space.
//!
//! Invariant: a [`Layout`] is the only code that turns an index into an offset or a length, so that a short last piece,
//! or the short piece at the end of every file of a v2 torrent (BEP 52), is dealt with once.

use core::fmt;
use core::ops::Range;

/// Bytes in a block: the unit of requests (BEP 3) and of Merkle leaves (BEP 52). The last block of a piece may be shorter.
pub const BLOCK_LENGTH: u32 = 16 * 1024;

/// The longest piece we accept: 256 MiB. Longer ones exist in no client and would defeat the write cache.
pub const MAX_PIECE_LENGTH: u32 = 256 * 1024 * 1024;

/// The most pieces we accept in one torrent: a bitfield of 256 KiB.
pub const MAX_PIECES: u32 = 2_097_152;

/// A piece, counted from zero over the whole torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub u32);

/// A block, counted from zero within its piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockIndex(pub u32);

/// A file, counted from zero in the order of the metainfo, padding files included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIndex(pub u32);

impl PieceIndex {
    /// The index as a subscript.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl BlockIndex {
    /// The index as a subscript.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// The offset of the block's first byte in its piece.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.0 * BLOCK_LENGTH
    }
}

impl FileIndex {
    /// The index as a subscript.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One block of one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The piece.
    pub piece: PieceIndex,
    /// The block within it.
    pub block: BlockIndex,
}

/// A run of consecutive blocks of one piece: what a lease consists of. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRun {
    /// The piece.
    pub piece: PieceIndex,
    /// The first block.
    pub first: BlockIndex,
    /// How many blocks, at least 1.
    pub count: u32,
}

impl BlockRun {
    /// The run of this one block.
    #[must_use]
    pub const fn one(block: Block) -> Self {
        BlockRun {
            piece: block.piece,
            first: block.block,
            count: 1,
        }
    }

    /// The blocks of the run in order.
    pub fn blocks(self) -> impl Iterator<Item = Block> {
        (self.first.0..self.first.0 + self.count).map(move |block| Block {
            piece: self.piece,
            block: BlockIndex(block),
        })
    }

    /// Appends `block` to `runs`, extending the last run where it continues it.
    pub fn push(runs: &mut Vec<BlockRun>, block: Block) {
        match runs.last_mut() {
            Some(last)
                if last.piece == block.piece && last.first.0 + last.count == block.block.0 =>
            {
                last.count += 1;
            }
            _ => runs.push(BlockRun::one(block)),
        }
    }
}

/// How a torrent's bytes are cut into pieces and blocks.
///
/// The address space is `piece_count` slots of `piece_length` bytes. A piece fills its slot, except the last one and, in
/// a v2-only torrent, the last piece of each file; what such a slot holds beyond its piece does not exist on the wire.
/// In a hybrid torrent padding files fill those gaps with bytes that do exist on the wire (BEP 47, BEP 52).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    piece_length: u32,
    piece_count: u32,
    /// Pieces shorter than `piece_length`, by rising index. At most one for each file, plus the last piece.
    short: Vec<(PieceIndex, u32)>,
    /// The sum of all piece lengths.
    total_length: u64,
}

impl Layout {
    /// A layout whose pieces lie without gaps over `total_length` bytes (v1 and hybrid torrents).
    ///
    /// # Errors
    /// Names the limit where `piece_length` is 0 or above [`MAX_PIECE_LENGTH`], or where there would be more than
    /// [`MAX_PIECES`] pieces or none.
    pub fn contiguous(total_length: u64, piece_length: u32) -> Result<Self, LayoutError> {
        let piece_count = count_pieces(total_length, piece_length)?;
        let mut short = Vec::new();
        let tail = u32::try_from(total_length % u64::from(piece_length)).unwrap_or(0);
        if tail != 0 {
            short.push((PieceIndex(piece_count - 1), tail));
        }
        Ok(Layout {
            piece_length,
            piece_count,
            short,
            total_length,
        })
    }

    /// A layout in which each file begins at a piece of its own (v2-only torrents). Empty files take no piece.
    ///
    /// # Errors
    /// As [`Layout::contiguous`].
    pub fn aligned(
        file_lengths: impl IntoIterator<Item = u64>,
        piece_length: u32,
    ) -> Result<Self, LayoutError> {
        let mut short = Vec::new();
        let (mut pieces, mut total) = (0u64, 0u64);
        for length in file_lengths.into_iter().filter(|&length| length > 0) {
            pieces += u64::from(count_pieces(length, piece_length)?);
            total = total.checked_add(length).ok_or(LayoutError::TooLong)?;
            if pieces > u64::from(MAX_PIECES) {
                return Err(LayoutError::TooManyPieces);
            }
            let tail = u32::try_from(length % u64::from(piece_length)).unwrap_or(0);
            if tail != 0 {
                short.push((PieceIndex(u32::try_from(pieces - 1).unwrap_or(0)), tail));
            }
        }
        match u32::try_from(pieces) {
            Ok(0) | Err(_) => Err(LayoutError::Empty),
            Ok(piece_count) => Ok(Layout {
                piece_length,
                piece_count,
                short,
                total_length: total,
            }),
        }
    }

    /// Bytes in a full piece.
    #[must_use]
    pub const fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// How many pieces there are.
    #[must_use]
    pub const fn piece_count(&self) -> u32 {
        self.piece_count
    }

    /// The bytes of all pieces together.
    #[must_use]
    pub const fn total_length(&self) -> u64 {
        self.total_length
    }

    /// Every piece in order.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = PieceIndex> + use<> {
        (0..self.piece_count).map(PieceIndex)
    }

    /// Whether `piece` exists.
    #[must_use]
    pub const fn contains(&self, piece: PieceIndex) -> bool {
        piece.0 < self.piece_count
    }

    /// The length of `piece` in bytes, 0 where there is no such piece.
    #[must_use]
    pub fn length_of(&self, piece: PieceIndex) -> u32 {
        if !self.contains(piece) {
            return 0;
        }
        match self.short.binary_search_by_key(&piece, |&(short, _)| short) {
            Ok(at) => self.short[at].1,
            Err(_) => self.piece_length,
        }
    }

    /// How many blocks `piece` has.
    #[must_use]
    pub fn block_count(&self, piece: PieceIndex) -> u32 {
        self.length_of(piece).div_ceil(BLOCK_LENGTH)
    }

    /// How many blocks a full piece has.
    #[must_use]
    pub const fn blocks_per_piece(&self) -> u32 {
        self.piece_length.div_ceil(BLOCK_LENGTH)
    }

    /// The length of `block` in bytes, 0 where there is no such block.
    #[must_use]
    pub fn block_length(&self, block: Block) -> u32 {
        let rest = self.length_of(block.piece).saturating_sub(
            u32::try_from(u64::from(block.block.0) * u64::from(BLOCK_LENGTH)).unwrap_or(u32::MAX),
        );
        rest.min(BLOCK_LENGTH)
    }

    /// Where `piece` lies in the address space.
    #[must_use]
    pub fn range_of(&self, piece: PieceIndex) -> Range<u64> {
        let start = u64::from(piece.0) * u64::from(self.piece_length);
        start..start + u64::from(self.length_of(piece))
    }

    /// The block that a request or piece message of the wire names by byte offset and length, `None` unless it is exactly
    /// one block of this layout.
    #[must_use]
    pub fn block_at(&self, piece: PieceIndex, begin: u32, length: u32) -> Option<Block> {
        let block = Block {
            piece,
            block: BlockIndex(begin / BLOCK_LENGTH),
        };
        let whole =
            begin.is_multiple_of(BLOCK_LENGTH) && length > 0 && length == self.block_length(block);
        whole.then_some(block)
    }
}

fn count_pieces(length: u64, piece_length: u32) -> Result<u32, LayoutError> {
    if piece_length == 0 || piece_length > MAX_PIECE_LENGTH {
        return Err(LayoutError::PieceLength(piece_length));
    }
    match u32::try_from(length.div_ceil(u64::from(piece_length))) {
        Ok(0) => Err(LayoutError::Empty),
        Ok(count) if count <= MAX_PIECES => Ok(count),
        _ => Err(LayoutError::TooManyPieces),
    }
}

/// Why a layout cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A piece length of 0 or above [`MAX_PIECE_LENGTH`].
    #[error("the piece length is {0} bytes; between 1 and {MAX_PIECE_LENGTH} is possible")]
    PieceLength(u32),
    /// More than [`MAX_PIECES`].
    #[error("the torrent has more than {MAX_PIECES} pieces")]
    TooManyPieces,
    /// Not a single byte.
    #[error("the torrent has no content: all its files are empty")]
    Empty,
    /// Lengths that add up to more than 2^64 bytes.
    #[error("the lengths of the files add up to more than 2^64 bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_piece_of_each_v2_file_is_short() {
        let layout = Layout::aligned([40_000, 0, 32_768, 1], 32_768).unwrap();
        let lengths: Vec<u32> = layout
            .pieces()
            .map(|piece| layout.length_of(piece))
            .collect();
        assert_eq!(lengths, [32_768, 7_232, 32_768, 1]);
        assert_eq!(layout.total_length(), 72_769);
        assert_eq!(layout.block_count(PieceIndex(1)), 1);
        assert_eq!(layout.length_of(PieceIndex(4)), 0);
    }

    #[test]
    fn only_whole_blocks_are_blocks() {
        let layout = Layout::contiguous(40_000, 32_768).unwrap();
        let at = |piece, begin, length| layout.block_at(PieceIndex(piece), begin, length);
        assert_eq!(at(0, 16_384, 16_384).map(|b| b.block.0), Some(1));
        assert_eq!(at(1, 0, 7_232).map(|b| b.block.0), Some(0));
        assert_eq!(at(1, 0, 16_384), None);
        assert_eq!(at(0, 1, 16_384), None);
        assert_eq!(at(0, u32::MAX, 1), None);
        assert_eq!(at(2, 0, 16_384), None);
        assert_eq!(at(0, 32_768, 0), None);
    }

    #[test]
    fn impossible_layouts_are_refused() {
        assert_eq!(Layout::contiguous(0, 1), Err(LayoutError::Empty));
        assert_eq!(Layout::contiguous(1, 0), Err(LayoutError::PieceLength(0)));
        assert_eq!(
            Layout::contiguous(u64::MAX, 16_384),
            Err(LayoutError::TooManyPieces)
        );
        assert_eq!(Layout::aligned([0, 0], 16_384), Err(LayoutError::Empty));
        assert!(Layout::aligned([u64::MAX, u64::MAX], 16_384).is_err());
    }

    proptest! {
        #[test]
        fn pieces_and_blocks_cover_every_byte_once(
            lengths in proptest::collection::vec(0u64..200_000, 1..8),
            shift in 14u32..18,
        ) {
            prop_assume!(lengths.iter().any(|&length| length > 0));
            let total: u64 = lengths.iter().sum();
            for layout in [
                Layout::contiguous(total, 1 << shift).unwrap(),
                Layout::aligned(lengths, 1 << shift).unwrap(),
            ] {
                let mut sum = 0u64;
                for piece in layout.pieces() {
                    let blocks: u64 = (0..layout.block_count(piece))
                        .map(|block| u64::from(layout.block_length(Block { piece, block: BlockIndex(block) })))
                        .sum();
                    prop_assert_eq!(blocks, u64::from(layout.length_of(piece)));
                    sum += blocks;
                }
                prop_assert_eq!(sum, total);
            }
        }
    }
}
