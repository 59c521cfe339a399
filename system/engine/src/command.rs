//! What a person may ask of a torrent that is here, whether it runs already or is still being checked.
//!
//! Invariant: what one message brings is bounded where it is used, and each that wants an answer gets one, unless the torrent ends before.

use crate::lines::{FileLine, PieceLine};
use crate::priorities::FilePriority;
use crate::reader::{Need, Opened};
use crate::torrent::ToTorrent;
use shoal_metainfo::FileIndex;
use shoal_storage::{ReadError, StorageError};
use std::net::SocketAddr;
use std::ops::Range;
use tokio::sync::oneshot;
use url::Url;

/// Why a torrent does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It has ended, or is about to.
    #[error("the torrent has ended; add it again")]
    Gone,
    /// The priorities are not one for each file.
    #[error("the torrent has {files} files, and there are {given} priorities")]
    Priorities {
        /// Files of the torrent.
        files: usize,
        /// Priorities that were given.
        given: usize,
    },
    /// Others were given before these held.
    #[error("other priorities were given before these held")]
    Overtaken,
    /// There is nothing to check it by.
    #[error("nobody promises hashes of this content, so that it cannot be checked")]
    NoHashes,
    /// There are too many already.
    #[error("there are {0} web seeds, which is the most; remove some")]
    TooManyWebSeeds(usize),
    /// There is no such file, or it is shorter.
    #[error("the torrent has no such file, or it is shorter")]
    NoSuchRange,
    /// It is not fetched.
    #[error("these bytes are not there and not wanted; give their file a priority")]
    NotWanted,
    /// As many read it as may.
    #[error("as many read from the torrent as may; close some")]
    TooManyReaders,
    /// What is there cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, CommandError>>;

/// See the module.
pub(crate) enum Command {
    Priorities(Vec<FilePriority>, Reply<()>),
    Sequential(bool),
    FirstLast(bool),
    SuperSeed(bool),
    Peers(Vec<SocketAddr>),
    /// `None` is as many as the session allows.
    MaxConnections(Option<u32>),
    /// `None` is as many as the session allows.
    MaxUploads(Option<u32>),
    Trackers(Vec<Vec<Url>>),
    Reannounce(Option<Url>),
    AddWebSeed(Url, Reply<()>),
    RemoveWebSeed(Url),
    Verify(Reply<()>),
    Files(Reply<Vec<FileLine>>),
    Pieces(Reply<Vec<PieceLine>>),
    Open(FileIndex, Range<u64>, Reply<Opened>),
    Need(Need),
}

impl From<Command> for ToTorrent {
    fn from(command: Command) -> Self {
        ToTorrent::Command(Box::new(command))
    }
}
