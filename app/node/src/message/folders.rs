//! What is said of where data lies and what its files are called.

use serde::{Deserialize, Serialize};

/// What is to become of the data of torrents, whether they run or not. Nothing of them changes where one of them cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum FolderRequest {
    /// It goes to another folder, which is the torrent's own from then on.
    Move {
        /// Which torrents.
        torrents: Vec<String>,
        /// The folder: an absolute path.
        directory: String,
    },
    /// Another folder until everything wanted is there.
    Incomplete {
        /// Which torrents.
        torrents: Vec<String>,
        /// An absolute path, `none`, or `inherit`.
        directory: String,
    },
    /// It lies where its category, its tags or the session say, and goes there.
    Inherit {
        /// Which torrents.
        torrents: Vec<String>,
    },
    /// It stays where it is, whatever others say.
    Stay {
        /// Which torrents.
        torrents: Vec<String>,
    },
    /// One of its files gets another path.
    RenameFile {
        /// Which torrents.
        torrents: Vec<String>,
        /// Its path, from the folder that the data is in.
        old: String,
        /// The one that it gets, from there too.
        new: String,
    },
    /// One of its folders gets another path.
    RenameFolder {
        /// Which torrents.
        torrents: Vec<String>,
        /// Its path, from the folder that the data is in.
        old: String,
        /// The one that it gets, from there too.
        new: String,
    },
}

impl FolderRequest {
    /// Which torrents are meant.
    #[must_use]
    pub fn torrents(&self) -> &[String] {
        match self {
            FolderRequest::Move { torrents, .. }
            | FolderRequest::Incomplete { torrents, .. }
            | FolderRequest::Inherit { torrents }
            | FolderRequest::Stay { torrents }
            | FolderRequest::RenameFile { torrents, .. }
            | FolderRequest::RenameFolder { torrents, .. } => torrents,
        }
    }
}
