//! What storage tells the owner of a content, over the bounded channel given to [`crate::Storage::open`].

use std::path::PathBuf;

use shoal_metainfo::{BlockIndex, PieceIndex};

use crate::reason::Reason;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All blocks of the piece arrived, it is right, written, and recorded.
    Verified {
        /// The piece.
        piece: PieceIndex,
        /// A digest of each block where the piece failed before, so that whoever sent a block that differs can be blamed;
        /// otherwise empty.
        blocks: Vec<u64>,
    },
    /// All blocks of the piece arrived and it is wrong. Its blocks are forgotten.
    Failed {
        /// The piece.
        piece: PieceIndex,
        /// The blocks known to be wrong (BEP 52); empty where only the whole piece is known to be.
        bad: Vec<BlockIndex>,
        /// A digest of each block, to compare with those of the later [`Event::Verified`].
        blocks: Vec<u64>,
    },
    /// A piece was read and hashed, as [`crate::Content::verify`] asked.
    Checked {
        /// The piece.
        piece: PieceIndex,
        /// Whether it is right.
        right: bool,
    },
    /// A verified piece is no longer to be had: its file was changed, truncated or removed by somebody else. It may turn
    /// out right when it is verified again.
    Lost {
        /// The piece.
        piece: PieceIndex,
    },
    /// Received data of the piece had to be given up, because it could not be written again and again.
    Dropped {
        /// The piece.
        piece: PieceIndex,
    },
    /// Writing stopped. It is tried again at intervals, without anybody's doing. Another one follows where the reason becomes another.
    Suspended {
        /// Why.
        reason: Reason,
        /// What could not be written.
        path: PathBuf,
    },
    /// Writing goes on after [`Event::Suspended`].
    Resumed,
}
