//! Why a torrent is refused, and what was odd about one that is not.

use crate::bencode::DecodeError;
use crate::geometry::{LayoutError, MAX_PIECE_LENGTH};
use crate::names::NameError;

/// Why bytes are not a torrent that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not bencode, or more of it than the limits allow.
    #[error("this is no torrent: {0}")]
    Bencode(#[from] DecodeError),
    /// Bencode, but something else than a dictionary.
    #[error("this is no torrent: it is not a dictionary")]
    NotADictionary,
    /// A field without which there is no torrent.
    #[error("the torrent has no `{0}`")]
    Missing(&'static str),
    /// A field of the wrong type or with an impossible value.
    #[error("`{field}` of the torrent must be {expected}")]
    Malformed {
        /// The key.
        field: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// A `meta version` after 2.
    #[error("the torrent is of version {0}, which this program is too old for: it knows 1 and 2")]
    NewerVersion(i64),
    /// A v1 piece length outside the possible.
    #[error("the piece length is {0} bytes; between 1 and {MAX_PIECE_LENGTH} is possible")]
    PieceLength(i64),
    /// A v2 piece length that is not a power of two of at least 16 KiB (BEP 52).
    #[error(
        "the piece length is {0} bytes; a v2 torrent needs a power of two between 16384 and \
         {MAX_PIECE_LENGTH}"
    )]
    PieceLengthV2(i64),
    /// An empty list of files.
    #[error("the torrent has no files")]
    NoFiles,
    /// A file without a length, or with a negative one.
    #[error("the file {0:?} has no valid length")]
    FileLength(String),
    /// An entry of the list of files without a usable path.
    #[error("file {0} of the torrent has no valid path")]
    FilePath(u32),
    /// Content that does not make a layout: none at all, too many pieces, lengths that overflow.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Names that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `pieces` of another length than the files ask for.
    #[error("`pieces` has {found} bytes where the files need {expected}")]
    PiecesLength {
        /// 20 for each piece.
        expected: u64,
        /// What there is.
        found: usize,
    },
    /// An info dictionary with a file tree, whose keys are not sorted: the order of the files would depend on the reader.
    #[error("the keys of the info dictionary at byte {0} are not sorted, which a v2 torrent needs")]
    UnsortedV2(usize),
    /// A malformed place in the file tree.
    #[error("the file tree is malformed at byte {offset}: {reason}")]
    FileTree {
        /// Where in the input.
        offset: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A v2 file that is not empty and has no `pieces root`.
    #[error("the file {0:?} has no `pieces root` of 32 bytes")]
    MissingRoot(String),
    /// A v2 file of more than a piece, without which its pieces cannot be verified.
    #[error("the piece layer of the file {0:?} is missing")]
    MissingPieceLayer(String),
    /// A piece layer of another length than the file asks for.
    #[error("the piece layer of the file {file:?} has {found} bytes where it needs {expected}")]
    PieceLayerLength {
        /// The file.
        file: String,
        /// 32 for each piece.
        expected: u64,
        /// What there is.
        found: usize,
    },
    /// A piece layer that does not hash to the file's root.
    #[error("the piece layer of the file {0:?} does not match its `pieces root`")]
    WrongPieceLayer(String),
    /// A hybrid torrent whose v1 and v2 parts describe different content. To download either would be a guess.
    #[error("the v1 and v2 parts of the torrent do not describe the same files: {0}")]
    Hybrid(#[from] HybridMismatch),
}

/// The first difference between the parts of a hybrid torrent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HybridMismatch {
    /// One part has more files; padding does not count.
    #[error("the number of files is {v1} in v1 and {v2} in v2")]
    FileCount {
        /// Files of the v1 part.
        v1: usize,
        /// Files of the v2 part.
        v2: usize,
    },
    /// The files at one place have different paths.
    #[error("file {at} is {v1:?} in v1 and {v2:?} in v2")]
    Path {
        /// The place, counted from zero without padding.
        at: usize,
        /// The path in the v1 part.
        v1: String,
        /// The path in the v2 part.
        v2: String,
    },
    /// A file has two lengths.
    #[error("the file {file:?} has {v1} bytes in v1 and {v2} in v2")]
    Length {
        /// The file.
        file: String,
        /// Its length in the v1 part.
        v1: u64,
        /// Its length in the v2 part.
        v2: u64,
    },
    /// A file is a symlink in one part, or they point to different places.
    #[error("the file {0:?} is not the same symlink in both")]
    Symlink(String),
    /// A file does not begin where its first v2 piece does.
    #[error("the file {file:?} begins at byte {found} of the v1 content instead of {expected}")]
    Alignment {
        /// The file.
        file: String,
        /// Where the v2 part has it.
        expected: u64,
        /// Where the v1 part has it.
        found: u64,
    },
    /// Padding after the last file that adds pieces of nothing but zeros.
    #[error("the number of pieces is {v1} in v1 and {v2} in v2")]
    PieceCount {
        /// Pieces of the v1 part.
        v1: u32,
        /// Pieces of the v2 part.
        v2: u32,
    },
}

/// Something odd that does not keep the torrent from being used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Keys of the info dictionary out of order. The info hash is that of the bytes as they are.
    #[error("the keys of the info dictionary at byte {0} are not sorted")]
    UnsortedInfo(usize),
    /// Keys outside the info dictionary out of order.
    #[error("the keys of the dictionary at byte {0} are not sorted")]
    UnsortedKeys(usize),
    /// Bytes after the end of the torrent.
    #[error("{0} bytes after the end of the torrent are ignored")]
    TrailingBytes(usize),
    /// A field that is not used because it is of the wrong type.
    #[error("`{0}` is malformed and is ignored")]
    IgnoredField(&'static str),
    /// A list of which those entries are not used that are of the wrong type.
    #[error("`{0}` has malformed entries, which are ignored")]
    IgnoredEntries(&'static str),
    /// A URL that is not used.
    #[error("the URL {url:?} is ignored: {reason}")]
    IgnoredUrl {
        /// The URL, cut if it is very long.
        url: String,
        /// Why.
        reason: UrlProblem,
    },
    /// More entries than are kept.
    #[error("`{field}` has more than {limit} entries; the rest is ignored")]
    TooMany {
        /// The key.
        field: &'static str,
        /// How many are kept.
        limit: usize,
    },
    /// A file that is stored under another name because its own is taken.
    #[error("the file {path:?} has this name because its own is taken")]
    Renamed {
        /// The path it has here.
        path: String,
    },
    /// The name of the torrent could not be used as it is.
    #[error("the name of the torrent was made safe: it is {0:?} here")]
    SanitisedName(String),
    /// Files whose paths could not be used as they are; those of [`Warning::Renamed`] do not count.
    #[error("{count} files have paths that were made safe, the first is {first:?} here")]
    Sanitised {
        /// How many.
        count: usize,
        /// The path of the first as it is here.
        first: String,
    },
    /// Piece layers that belong to no file.
    #[error("{0} piece layers belong to no file")]
    SparePieceLayers(usize),
}

/// Why a URL of a tracker or web seed is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// Not a URL with a host.
    #[error("it is not a valid URL")]
    Invalid,
    /// Longer than any real one.
    #[error("it is too long")]
    TooLong,
    /// A scheme that nothing here speaks.
    #[error("its scheme is not supported")]
    Scheme,
    /// A UDP tracker without a port.
    #[error("it names no port")]
    NoPort,
}
