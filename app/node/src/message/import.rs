//! Taking over the torrents of another client: what is asked for, and what is told of it as it goes on.
//!
//! Invariant: each torrent of the other session that is meant is told of once, in the order of its queue where that is known.

use serde::{Deserialize, Serialize};

/// Torrents of another client that are to be part of the session. It is answered with [`ImportNews`], as often as there is some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// Whose they are.
    pub client: ImportClient,
    /// Where its session is: an absolute path. Absent, it is where that client usually has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// It is only told what would come of it.
    #[serde(default)]
    pub dry_run: bool,
    /// All of them are to rest.
    #[serde(default)]
    pub paused: bool,
    /// Folders that are elsewhere than the client says. The first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub map: Vec<MovedFolder>,
    /// These alone: eight or more digits of info hashes, names, `category:NAME`, `tag:NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
}

/// Whose torrents are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportClient {
    /// qBittorrent 3 to 5.
    QBittorrent,
    /// Transmission 2.20 to 4.1.
    Transmission,
    /// rTorrent 0.9.
    RTorrent,
    /// Deluge 2.
    Deluge,
}

/// What was below one folder is below another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedFolder {
    /// As the client has it.
    pub old: String,
    /// An absolute path.
    pub new: String,
}

/// What is told of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub enum ImportNews {
    /// The session was found.
    Begun {
        /// Whose.
        client: String,
        /// Where.
        folder: String,
        /// How many torrents it has.
        torrents: usize,
        /// Nothing is done.
        dry_run: bool,
        /// What a person should know before it goes on.
        warnings: Vec<String>,
    },
    /// What came of one torrent.
    Torrent(Box<ImportedTorrent>),
    /// That was all.
    Done {
        /// Torrents that are part of the session from here on, or would be.
        imported: usize,
        /// Those that were before.
        already: usize,
        /// Those that are not.
        refused: usize,
        /// Those that were not meant.
        left_out: usize,
    },
}

/// What came of a torrent of another client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedTorrent {
    /// Its place among those of the session, from 1.
    pub number: usize,
    /// The v1 info hash where it has one, or else the v2 one, cut to 20 bytes; `None` where that is not known.
    pub info_hash: Option<String>,
    /// What it is called; of one that cannot be read, the file that names it.
    pub name: String,
    /// The folder that its top-level name is in.
    pub directory: Option<String>,
    /// What came of it.
    pub outcome: ImportOutcome,
    /// Its number in this session.
    pub id: Option<i64>,
    /// Why it was refused.
    pub message: Option<String>,
    /// Pieces; 0 where its metainfo is not known.
    pub pieces: u32,
    /// Those that are taken for right without being read.
    pub verified_pieces: u32,
    /// Those that are verified before it goes on.
    pub suspect_pieces: u32,
    /// Those that the client had verified and that are not there any more.
    pub lost_pieces: u32,
    /// Files that are not as the client left them.
    pub changed_files: u64,
    /// Files that should be there and are not.
    pub missing_files: u64,
    /// The first of both.
    pub files: Vec<String>,
    /// What is not taken over as it was.
    pub notes: Vec<String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportOutcome {
    /// It is part of the session.
    Imported,
    /// It would be, if this was in earnest.
    Importable,
    /// It was before.
    Already,
    /// It is not.
    Refused,
}

impl ImportOutcome {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ImportOutcome::Imported => "imported",
            ImportOutcome::Importable => "importable",
            ImportOutcome::Already => "already",
            ImportOutcome::Refused => "refused",
        }
    }
}
