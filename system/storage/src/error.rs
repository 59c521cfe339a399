//! What can go wrong, in sentences that say where and what to do.

use std::io;
use std::path::PathBuf;

use shoal_metainfo::PieceIndex;

use crate::reason::Reason;

/// Why content could not be opened, hashed or kept.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The target directory does not exist or is not a directory.
    #[error("{}: there is no such directory; create it or choose another", .0.display())]
    NoDirectory(PathBuf),
    /// The target directory cannot be written to.
    #[error("{}: the directory cannot be written to; change its permissions or choose another", .0.display())]
    ReadOnly(PathBuf),
    /// None of the files that should be there is.
    #[error("{}: none of the files that should be there is; plug in their volume, or say where they are", .0.display())]
    Gone(PathBuf),
    /// A path of the content is a symbolic link, or leads through one.
    #[error("{}: refused, because it is a symbolic link or leads through one; move it away", .0.display())]
    Link(PathBuf),
    /// A path of the content exists and is a directory, a device or the like.
    #[error("{}: refused, because it exists and is not a regular file; move it away", .0.display())]
    NotAFile(PathBuf),
    /// A file at a path of the content that does not look like its own.
    #[error("{}: left where it is, because its length is not the torrent's; remove it if you do not need it", .0.display())]
    Foreign(PathBuf),
    /// A file or folder that is to be renamed and is none of the content's.
    #[error("{}: there is no such file or folder in the torrent", .0.display())]
    NoFile(PathBuf),
    /// A path that a file was to get and that something has.
    #[error("{}: refused, because something is there already; move it away or choose another place", .0.display())]
    Occupied(PathBuf),
    /// Files were to be copied to where there is no room for them.
    #[error(
        "{}: there is room for {free_bytes} bytes, and {needed_bytes} are needed; make room or choose another place",
        directory.display()
    )]
    NoRoom {
        /// Where to.
        directory: PathBuf,
        /// So much the files take.
        needed_bytes: u64,
        /// So much is free.
        free_bytes: u64,
    },
    /// The files are being moved.
    #[error("{}: the files are being moved; try again when they are there", .0.display())]
    Moving(PathBuf),
    /// A path that is absolute, empty, or has a component such as `..`.
    #[error("{}: refused, because it is not a plain relative path", .0.display())]
    Path(PathBuf),
    /// The specification contradicts itself.
    #[error("the content is described inconsistently: {0}")]
    Spec(&'static str),
    /// Another process downloads to the same journal.
    #[error("{}: another process is using this download; stop it first", .0.display())]
    Locked(PathBuf),
    /// A file changed its length while it was hashed.
    #[error("{}: the file changed while it was read; try again when nothing writes to it", .0.display())]
    Changed(PathBuf),
    /// A name that is not UTF-8.
    #[error("{}: the name is not UTF-8, as torrents need it; rename it", .0.display())]
    NotText(PathBuf),
    /// Directories nested deeper than other programs read.
    #[error("{}: the directories are nested too deeply to be published; move them up", .0.display())]
    TooDeep(PathBuf),
    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
    /// The directory, or the volume that it was on when something was downloaded there, is not there.
    #[error("{}: {}", .0.display(), Reason::VolumeMissing)]
    VolumeMissing(PathBuf),
    /// Files of which pieces were verified are not there any more.
    #[error("{}, and {others} more: {}", first.display(), Reason::FilesMissing)]
    FilesMissing {
        /// One of them.
        first: PathBuf,
        /// How many others there are.
        others: usize,
    },
    /// Any other failure of the file system.
    #[error("{}: {}", path.display(), Reason::of(source, path))]
    Io {
        /// What the operation was about.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StorageError {
    /// Why the disk does not do what it was asked for, where it is the disk and may change: then the same is worth trying again.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            StorageError::NoDirectory(_) | StorageError::VolumeMissing(_) => {
                Some(Reason::VolumeMissing)
            }
            StorageError::FilesMissing { .. } => Some(Reason::FilesMissing),
            StorageError::NoRoom { .. } => Some(Reason::Full),
            StorageError::ReadOnly(_) => Some(Reason::Denied),
            StorageError::Io { path, source } => Some(Reason::of(source, path)),
            _ => None,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        StorageError::Io {
            path: path.into(),
            source,
        }
    }
}

/// Why bytes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The piece is not verified: nothing of it is ever shown.
    #[error("piece {0} is not verified")]
    NotVerified(PieceIndex),
    /// The range is not within the piece.
    #[error("the range lies outside piece {0}")]
    OutOfRange(PieceIndex),
    /// A file of the piece was changed, truncated or removed by somebody else; `Lost` events follow.
    #[error("{}: the file was changed by somebody else", .0.display())]
    Changed(PathBuf),
    /// A file of the piece, or its volume, is not there; [`crate::Event::Suspended`] follows.
    #[error("{}: the file is missing", .0.display())]
    Missing(PathBuf),
    /// Any other failure of the file system.
    #[error("{}: {}", path.display(), Reason::of(source, path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
