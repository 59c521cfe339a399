//! What is asked and told of watched folders.
//!
//! Invariant: a folder is named by its path from the root.

use super::Add;
use serde::{Deserialize, Serialize};

/// What a person asks of the folders whose torrents and magnet links are added by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum WatchRequest {
    /// Which there are.
    List {},
    /// One more is watched, or another thing is told of one.
    Add {
        /// The folder.
        path: String,
        /// How.
        watch: Box<Watch>,
    },
    /// Some are watched no more.
    Remove {
        /// The folders.
        paths: Vec<String>,
    },
}

/// How a folder is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Folders below it, too.
    pub recursive: bool,
    /// What becomes of a file that was added.
    pub then: Afterwards,
    /// What is told of its torrents; it names none.
    pub add: Add,
}

/// What becomes of a file that was added. One that was refused stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Afterwards {
    /// It stays, and is not added again.
    #[default]
    Keep,
    /// Its name goes on with `.added`.
    Rename,
    /// It is deleted.
    Delete,
}

/// A watched folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedFolder {
    /// The folder.
    pub path: String,
    /// How it is watched.
    pub watch: Watch,
    /// Torrents that came from it in this life of the node.
    pub added: u64,
    /// Why it cannot be looked into at present.
    pub message: Option<String>,
    /// Files that were refused and are still there, as many as are told.
    pub refused: Vec<RefusedFile>,
}

/// A file that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedFile {
    /// Its path in the folder.
    pub path: String,
    /// Why.
    pub why: String,
}
