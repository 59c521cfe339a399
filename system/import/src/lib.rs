//! The sessions of other clients: qBittorrent, Transmission, rTorrent and Deluge. For each torrent of one, what it takes to go on with it
//! without a recheck.
//!
//! ```no_run
//! use shoal_import::{Client, Session};
//! use std::path::Path;
//!
//! let session = Session::open(Client::Transmission, Path::new("/home/me/.config/transmission"))?;
//! for torrent in session {
//!     match torrent {
//!         Ok(torrent) => println!("{} in {}", torrent.info_hashes().primary(), torrent.folder.display()),
//!         Err(unread) => println!("{unread}"),
//!     }
//! }
//! # Ok::<(), shoal_import::ImportError>(())
//! ```
//!
//! The decoders below, one module for each client, are functions of bytes; a [`Session`] finds the files and reads them, one torrent at
//! a time. It reads the client's own folder and nothing else: no content, and it writes nothing. The client should not be running, as it
//! writes what it knows of its pieces when it ends.
//!
//! Invariant: foreign files are data. Nothing here panics, recurses deeper than a fixed bound, runs what a pickle says, or allocates by a
//! length that the input merely claims.

pub mod deluge;
mod disk;
mod error;
mod fields;
mod imported;
mod libtorrent;
mod limits;
mod places;
pub mod qbittorrent;
pub mod rtorrent;
mod running;
#[cfg(test)]
mod samples;
pub mod transmission;

pub use error::{Fault, ImportError, Unread};
pub use imported::{
    Have, Imported, Limit, Modified, Note, Priority, Run, ShareLimits, Stamp, Torrent,
};
pub use limits::{
    MAX_FILE_BYTES, MAX_PATH_BYTES, MAX_RESUME_BYTES, MAX_STATE_BYTES, MAX_TAGS, MAX_TEXT_BYTES,
    MAX_TORRENTS,
};

use std::fmt;
use std::path::{Path, PathBuf};
use std::vec;

/// A client whose sessions can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// qBittorrent 3 to 5, with its resume data in files or in a database.
    QBittorrent,
    /// Transmission 2.20 to 4.1.
    Transmission,
    /// rTorrent 0.9.
    RTorrent,
    /// Deluge 2.
    Deluge,
}

impl Client {
    /// Every one.
    pub const ALL: [Client; 4] = [
        Client::QBittorrent,
        Client::Transmission,
        Client::RTorrent,
        Client::Deluge,
    ];

    /// Where its sessions usually are in the home of a person on Linux. rTorrent has no such place: its configuration names one, and these are
    /// those that people write there.
    #[must_use]
    pub fn usual_folders(self, home: &Path) -> Vec<PathBuf> {
        let below: &[&str] = match self {
            Client::QBittorrent => &[
                ".local/share/qBittorrent",
                ".local/share/data/qBittorrent",
                ".var/app/org.qbittorrent.qBittorrent/data/qBittorrent",
            ],
            Client::Transmission => &[
                ".config/transmission",
                ".config/transmission-daemon",
                ".var/app/com.transmissionbt.Transmission/config/transmission",
            ],
            Client::RTorrent => &[".session", ".rtorrent/session", "rtorrent/.session"],
            Client::Deluge => &[
                ".config/deluge",
                ".var/app/org.deluge_torrent.deluge/config/deluge",
            ],
        };
        below.iter().map(|folder| home.join(folder)).collect()
    }

    /// The folder in which there is a session of it: the one that its configuration names, or the first of [`Client::usual_folders`].
    #[must_use]
    pub fn usual_folder(self, home: &Path) -> Option<PathBuf> {
        let named = match self {
            Client::RTorrent => rtorrent::named_folder(home),
            _ => None,
        };
        let mut folders = named.into_iter().chain(self.usual_folders(home));
        folders.find(|folder| {
            let session = Session::open(self, folder);
            !matches!(
                session,
                Err(ImportError::NothingHere { .. } | ImportError::Unreadable { .. })
            )
        })
    }

    /// What its session folder is known by.
    pub(crate) const fn landmark(self) -> &'static str {
        match self {
            Client::QBittorrent => "`BT_backup` with `.fastresume` files, or `torrents.db`, in it",
            Client::Transmission => "`torrents` and `resume` in it",
            Client::RTorrent => {
                "files like `0123456789ABCDEF0123456789ABCDEF01234567.torrent` in it"
            }
            Client::Deluge => "`state/torrents.state` in it",
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Client::QBittorrent => "qBittorrent",
            Client::Transmission => "Transmission",
            Client::RTorrent => "rTorrent",
            Client::Deluge => "Deluge",
        })
    }
}

/// A session of another client: an iterator over its torrents, in the order of its queue where that is known. Each is read when it is
/// asked for, so that only one is in memory.
#[derive(Debug)]
pub struct Session(Source);

#[derive(Debug)]
enum Source {
    /// A file names each torrent.
    Files(
        vec::IntoIter<PathBuf>,
        fn(PathBuf) -> Result<Imported, Unread>,
    ),
    /// A database has all.
    Database(qbittorrent::Database),
    /// One file has all; the next place in it.
    Deluge(Box<deluge::Found>, usize),
}

impl Session {
    /// Finds the session of `client` in `folder`.
    ///
    /// # Errors
    /// Where there is none, or a file cannot be read that all depends on.
    pub fn open(client: Client, folder: &Path) -> Result<Self, ImportError> {
        type Find = fn(&Path) -> Result<Vec<PathBuf>, ImportError>;
        type Read = fn(PathBuf) -> Result<Imported, Unread>;
        if client == Client::QBittorrent
            && let Some(path) = qbittorrent::database(folder)
        {
            return Ok(Session(Source::Database(qbittorrent::Database::open(
                path,
            )?)));
        }
        let (find, read): (Find, Read) = match client {
            Client::QBittorrent => (qbittorrent::find, qbittorrent::read),
            Client::Transmission => (transmission::find, transmission::read),
            Client::RTorrent => (rtorrent::find, rtorrent::read),
            Client::Deluge => {
                let found = Box::new(deluge::find(folder)?);
                return Ok(Session(Source::Deluge(found, 0)));
            }
        };
        Ok(Session(Source::Files(find(folder)?.into_iter(), read)))
    }
}

impl Iterator for Session {
    type Item = Result<Imported, Unread>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Files(files, read) => files.next().map(*read),
            Source::Database(database) => database.next(),
            Source::Deluge(found, next) => (*next < found.len()).then(|| {
                *next += 1;
                found.read(*next - 1)
            }),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Source::Files(files, _) => files.len(),
            Source::Database(database) => database.len(),
            Source::Deluge(found, next) => found.len() - next,
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Session {}
