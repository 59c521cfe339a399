//! Why a session, or one torrent of it, cannot be taken over: sentences for the person who asked for it.

use crate::Client;
use crate::deluge::PickleError;
use shoal_metainfo::bencode::DecodeError;
use shoal_metainfo::magnet::MagnetError;
use shoal_metainfo::metainfo;
use std::io;
use std::path::PathBuf;

/// Why nothing of a session can be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Nothing of the client is where it was looked for.
    #[error(
        "there is no session of {client} in {}: name the folder that has {}",
        folder.display(),
        client.landmark()
    )]
    NothingHere {
        /// Whose session was looked for.
        client: Client,
        /// Where.
        folder: PathBuf,
    },
    /// The client has not written everything where it belongs yet.
    #[error(
        "{}: {client} is running, or did not end in order: start it once more, quit it, and import again",
        path.display()
    )]
    Running {
        /// Whose session it is.
        client: Client,
        /// The file with what it has still to write.
        path: PathBuf,
    },
    /// More torrents than [`MAX_TORRENTS`](crate::MAX_TORRENTS).
    #[error("{} has more than {} torrents: import it in parts", folder.display(), crate::MAX_TORRENTS)]
    TooMany {
        /// The folder that lists them.
        folder: PathBuf,
    },
    /// A file or folder that the whole session depends on.
    #[error("{}: {fault}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// A torrent of a session that cannot be taken over. The others can.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {fault}", path.display(), torrent.as_ref().map(|id| format!(" (torrent {id})")).unwrap_or_default())]
pub struct Unread {
    /// The file that names the torrent in the session.
    pub path: PathBuf,
    /// Which torrent of that file, where it has several.
    pub torrent: Option<String>,
    /// What is wrong with it, or with what belongs to it.
    pub fault: Fault,
}

impl Unread {
    /// Of a file that names one torrent.
    pub(crate) const fn new(path: PathBuf, fault: Fault) -> Self {
        Unread {
            path,
            torrent: None,
            fault,
        }
    }
}

/// What is wrong with a file of another client.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system gives no bytes.
    #[error(
        "it cannot be read ({0}): check that it is there and that you may read it, and import again"
    )]
    Io(#[from] io::Error),
    /// Longer than any such file is.
    #[error("it is longer than {0} bytes, which no client writes: add the torrent by hand")]
    TooLong(u64),
    /// Broken bencode.
    #[error("it is damaged ({0}): add the torrent by hand")]
    Bencode(#[from] DecodeError),
    /// A pickle that is broken, or is more than values.
    #[error(
        "it is damaged, or was not written by Deluge ({0}): try the file with `.bak` behind its name in its place"
    )]
    Pickle(#[from] PickleError),
    /// A database that cannot be read.
    #[error(
        "the database cannot be read ({0}): start the client once more, quit it, and import again"
    )]
    Database(String),
    /// Not what the client writes.
    #[error("it does not have the form that the client gives it ({0}): add the torrent by hand")]
    Form(&'static str),
    /// A .torrent file that is refused.
    #[error("its torrent is refused: {0}")]
    Torrent(#[from] metainfo::Error),
    /// A magnet link that is refused.
    #[error("its magnet link is refused: {0}")]
    Magnet(#[from] MagnetError),
    /// Resume data without a .torrent file or an info hash.
    #[error("nothing says which torrent it is for: add the torrent by hand")]
    NoTorrent,
    /// Resume data of another torrent.
    #[error(
        "it is the resume data of another torrent: add the torrent by hand, and its content is checked"
    )]
    OtherTorrent,
}
