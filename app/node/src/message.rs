//! What is said over the control socket: one JSON object a line. A request that names bytes is followed by them.
//!
//! Invariant: nothing here is used by the session itself; a line that cannot be read is answered by an error.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A torrent is to be part of the session.
    Add(Add),
    /// All torrents.
    List {},
    /// Some torrents.
    Show {
        /// Names of torrents.
        torrents: Vec<String>,
    },
    /// They are to rest.
    Pause {
        /// Names of torrents.
        torrents: Vec<String>,
    },
    /// They are to run.
    Resume {
        /// Names of torrents.
        torrents: Vec<String>,
    },
    /// They are to be forgotten. Their content stays where it is.
    Remove {
        /// Names of torrents.
        torrents: Vec<String>,
    },
}

/// A torrent to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// So many bytes of a .torrent file follow the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torrent_bytes: Option<usize>,
    /// In place of a file, a magnet link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnet: Option<String>,
    /// The folder that its top-level name is, or comes to be, in: an absolute path.
    pub directory: String,
    /// It is not to run yet.
    #[serde(default)]
    pub paused: bool,
    /// For each file whether it is wanted; absent is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Vec<bool>>,
    /// Pieces are fetched in order.
    #[serde(default)]
    pub sequential: bool,
    /// Peers to try first, as long as the node runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<SocketAddr>,
}

/// What the node answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The torrents that were asked for, as they are after what was asked for.
    Torrents {
        /// In the order in which they were added.
        torrents: Vec<Torrent>,
    },
    /// It cannot be done.
    Error {
        /// Of what kind.
        kind: ErrorKind,
        /// What, and what to do.
        message: String,
    },
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request makes no sense.
    Usage,
    /// What was given is no torrent, or one that cannot be used.
    Refused,
    /// There is no such torrent.
    NotFound,
    /// It is there already.
    Duplicate,
    /// Something else went wrong.
    Failure,
}

/// A torrent of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torrent {
    /// Its number in this session, which no other one ever gets.
    pub id: i64,
    /// The v1 info hash where it has one, or else the v2 one, cut to 20 bytes.
    pub info_hash: String,
    /// What it is called.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Why it does not go on, where it does not.
    pub message: Option<String>,
    /// The folder that its top-level name is in.
    pub directory: String,
    /// Bytes of what is wanted; 0 while that is not known.
    pub wanted_bytes: u64,
    /// Those that are verified.
    pub verified_bytes: u64,
    /// Payload from others, in all runs.
    pub downloaded_bytes: u64,
    /// Payload to others, in all runs.
    pub uploaded_bytes: u64,
    /// Payload from others.
    pub download_rate_bytes_per_s: u64,
    /// Payload to others.
    pub upload_rate_bytes_per_s: u64,
    /// Connected peers.
    pub peers: usize,
    /// Unix time in seconds.
    pub added_at: i64,
    /// Unix time in seconds, once everything wanted was there.
    pub completed_at: Option<i64>,
}

/// What a torrent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It rests, as a person wants.
    Paused,
    /// Nobody has told yet what the torrent of its magnet link is.
    Searching,
    /// It is being opened.
    Starting,
    /// Files are read to find out what is there.
    Checking,
    /// Wanted pieces are missing.
    Downloading,
    /// Everything wanted is there, and peers are served.
    Seeding,
    /// Nothing can be written; it goes on by itself.
    Suspended,
    /// It takes leave.
    Stopping,
    /// It cannot go on.
    Failed,
}

impl State {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Paused => "paused",
            State::Searching => "searching",
            State::Starting => "starting",
            State::Checking => "checking",
            State::Downloading => "downloading",
            State::Seeding => "seeding",
            State::Suspended => "suspended",
            State::Stopping => "stopping",
            State::Failed => "failed",
        }
    }
}
