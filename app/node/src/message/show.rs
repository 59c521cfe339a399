//! What is shown of the session and of single torrents, all at once: names and units are those of `docs/json.md`.
//!
//! Invariant: what is not known is absent; nothing stands in its place. What has no bound of its own comes in parts.

use super::{Holds, Priority, State};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum ShowRequest {
    /// The session.
    Session {},
    /// All that is known of some torrents.
    Torrents {
        /// Which torrents.
        torrents: Vec<String>,
    },
    /// The files of one, a part of them at a time.
    Files {
        /// Which torrent.
        torrents: Vec<String>,
        /// The number of the first one, from 1.
        from: usize,
    },
    /// The pieces of one.
    Pieces {
        /// Which torrent.
        torrents: Vec<String>,
    },
    /// What its pieces hash to, a part of them at a time.
    Hashes {
        /// Which torrent.
        torrents: Vec<String>,
        /// The number of the first one, from 0.
        from: u32,
    },
    /// The .torrent file of one, a part of it at a time.
    File {
        /// Which torrent.
        torrents: Vec<String>,
        /// Where the part begins, in bytes.
        from: u64,
    },
}

/// What was to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Shown {
    /// The session.
    Session(Box<ShownSession>),
    /// Torrents.
    Torrents {
        /// In the order in which they were added.
        torrents: Vec<ShownTorrent>,
    },
    /// Files of a torrent.
    Files {
        /// By number.
        files: Vec<ShownFile>,
        /// The number of the next one, where there is one.
        next: Option<usize>,
    },
    /// Pieces of a torrent.
    Pieces(Box<ShownPieces>),
    /// What pieces of a torrent hash to.
    Hashes {
        /// By number.
        hashes: Vec<ShownHash>,
        /// The number of the next one, where there is one.
        next: Option<u32>,
    },
    /// A part of a .torrent file.
    File {
        /// The length of the whole, in bytes.
        total_bytes: u64,
        /// The part in hexadecimal digits. Empty at the end.
        part: String,
    },
}

/// The session as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownSession {
    /// Of the program that runs.
    pub version: String,
    /// Since when it runs.
    pub started_unix_s: i64,
    /// Where peers connect to.
    pub listening: Vec<SocketAddr>,
    /// Where the router says that they reach us from outside.
    pub mapped: Option<SocketAddr>,
    /// Payload from others.
    pub download_rate_bytes_per_s: u64,
    /// Payload to others.
    pub upload_rate_bytes_per_s: u64,
    /// The most of it that holds for all torrents together.
    pub download_limit_bytes_per_s: Option<u64>,
    /// Likewise.
    pub upload_limit_bytes_per_s: Option<u64>,
    /// What holds at this hour.
    pub holds: Holds,
    /// Payload of all torrents, ever, those that were removed included.
    pub downloaded_bytes: u64,
    /// Likewise.
    pub uploaded_bytes: u64,
    /// Sent for what was received, in thousandths, where anything was received.
    pub ratio_permille: Option<u64>,
    /// Of it, since the node runs.
    pub started_downloaded_bytes: u64,
    /// Likewise.
    pub started_uploaded_bytes: u64,
    /// Payload from others that was of no use, in the runs that go on.
    pub wasted_bytes: u64,
    /// Connected peers.
    pub peers: usize,
    /// Those of them that have everything.
    pub seeds: usize,
    /// All torrents.
    pub torrents: usize,
    /// How many of them are in each state that any is in.
    pub states: Vec<StateCount>,
}

/// How many torrents are in a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCount {
    /// The state.
    pub state: State,
    /// How many.
    pub count: usize,
}

/// All that is known of a torrent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownTorrent {
    /// Its number in this session.
    pub id: i64,
    /// What it is called.
    pub name: String,
    /// 40 hexadecimal digits.
    pub info_hash_v1: Option<String>,
    /// 64 hexadecimal digits.
    pub info_hash_v2: Option<String>,
    /// A link to it.
    pub magnet: String,
    /// Whether it is known what it is, and not its link alone.
    pub has_metadata: bool,
    /// Whether peers come from its trackers alone (BEP 27).
    pub private: Option<bool>,
    /// The remark of whoever has it, or else of whoever made it.
    pub comment: Option<String>,
    /// A word of private trackers.
    pub source: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// When it was made.
    pub created_unix_s: Option<i64>,
    /// What it is doing.
    pub state: State,
    /// Why it does not go on, where it does not.
    pub message: Option<String>,
    /// All files together, without padding.
    pub size_bytes: Option<u64>,
    /// Bytes of pieces with something wanted; 0 while that is not known.
    pub wanted_bytes: u64,
    /// Those of them that are verified.
    pub verified_bytes: u64,
    /// Those of them that are missing.
    pub left_bytes: u64,
    /// Of every piece that is not shorter because something ends.
    pub piece_length_bytes: Option<u32>,
    /// Of the whole torrent.
    pub piece_count: Option<u32>,
    /// Those that are there, while it runs.
    pub verified_pieces: Option<u32>,
    /// Without padding.
    pub file_count: Option<usize>,
    /// Until all that is wanted is there, if the rate stays.
    pub time_left_s: Option<u64>,
    /// Payload from others, ever.
    pub downloaded_bytes: u64,
    /// Payload to others, ever.
    pub uploaded_bytes: u64,
    /// Sent for what was received, in thousandths, where anything was received.
    pub ratio_permille: Option<u64>,
    /// Payload from others since the node runs.
    pub started_downloaded_bytes: u64,
    /// Payload to others since the node runs.
    pub started_uploaded_bytes: u64,
    /// Payload from others that was of no use, in this run.
    pub wasted_bytes: u64,
    /// Pieces that failed their check, in this run.
    pub failed_pieces: u64,
    /// Payload from others.
    pub download_rate_bytes_per_s: u64,
    /// Payload to others.
    pub upload_rate_bytes_per_s: u64,
    /// Payload from others on average of this run.
    pub average_download_bytes_per_s: Option<u64>,
    /// Payload to others on average of this run.
    pub average_upload_bytes_per_s: Option<u64>,
    /// Connected peers.
    pub peers: usize,
    /// Those of them that have everything.
    pub seeds: usize,
    /// The most connections, where it was told so.
    pub max_peers: Option<u32>,
    /// Complete peers in all, as the tracker that knows of most says.
    pub known_seeds: Option<u32>,
    /// Incomplete peers in all, likewise.
    pub known_leeches: Option<u32>,
    /// Copies of it that we and connected peers have between us, in thousandths: the whole ones are what everybody has of the rarest
    /// piece, and the rest is the share of pieces that there is more of.
    pub availability_permille: Option<u64>,
    /// Trackers that it is announced to, while it runs.
    pub trackers: Option<usize>,
    /// Those of them that answered their last announce.
    pub working_trackers: Option<usize>,
    /// What one of the others says.
    pub tracker_message: Option<String>,
    /// Until the next announce.
    pub next_announce_s: Option<u64>,
    /// Web seeds that are or were asked, while it runs.
    pub web_seeds: Option<usize>,
    /// When it became part of the session.
    pub added_unix_s: i64,
    /// When everything wanted was there for the first time.
    pub completed_unix_s: Option<i64>,
    /// How long it runs.
    pub run_s: Option<u64>,
    /// How long it has seeded, ever.
    pub seeding_s: u64,
    /// How much of that since a byte was last sent.
    pub idle_s: u64,
    /// The folder that its own file or folder is in.
    pub directory: String,
    /// The folder that it goes to when everything wanted is there, where that is another.
    pub home: Option<String>,
    /// The folder that its data is being moved to.
    pub moving_to: Option<String>,
    /// Its own file or folder.
    pub content_path: Option<String>,
    /// Its place among the torrents that are not complete, from 1.
    pub position: Option<usize>,
    /// It runs whatever the queue says.
    pub forced: bool,
    /// The category that it is in.
    pub category: Option<String>,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Pieces are fetched in order.
    pub sequential: bool,
    /// First and last pieces of files come first.
    pub first_last: bool,
    /// Once it is whole, it is shown piece by piece.
    pub super_seed: bool,
    /// Only what is there is served.
    pub seed_only: bool,
    /// The room on the disk is reserved first.
    pub preallocate: bool,
    /// Its own rules, by word.
    pub rules: BTreeMap<String, String>,
    /// What holds for it, and who says so.
    pub held: Vec<HeldRule>,
}

/// A rule that holds for a torrent. Of rates there may be several, which hold at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRule {
    /// Its word.
    pub rule: String,
    /// As a person writes it.
    pub value: String,
    /// `torrent`, `category`, `tag` or `session`; absent where nobody has said anything.
    pub from: Option<String>,
    /// The name of the category or tag.
    pub name: Option<String>,
}

/// A file of a torrent. What is only there to fill up pieces is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownFile {
    /// From 1.
    pub number: usize,
    /// Below the torrent's own folder, as the torrent has it.
    pub path: String,
    /// Where it is, or comes to be.
    pub location: String,
    /// Its length.
    pub size_bytes: u64,
    /// Those that are verified, while the torrent runs.
    pub verified_bytes: Option<u64>,
    /// How much it is wanted.
    pub priority: Priority,
    /// First and last piece with a part of it; an empty file has none.
    pub pieces: Option<[u32; 2]>,
    /// How many of these we or connected peers have, while the torrent runs.
    pub available_pieces: Option<u32>,
}

/// How far the pieces of a torrent are: runs of numbers from 0, first and last of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownPieces {
    /// The torrent's number in this session.
    pub id: i64,
    /// All of them.
    pub piece_count: u32,
    /// Of every piece that is not shorter because something ends.
    pub piece_length_bytes: u32,
    /// Those that are there and right, while the torrent runs.
    pub verified: Option<Vec<[u32; 2]>>,
    /// Those of which something is there or asked for, while it runs.
    pub in_progress: Option<Vec<[u32; 2]>>,
    /// Of each run in order also how many connected peers have its pieces, while it runs.
    pub availability: Option<Vec<[u32; 3]>>,
}

/// What a piece of a torrent hashes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownHash {
    /// The number of the piece, from 0.
    pub piece: u32,
    /// SHA-1 of all of it, in 40 hexadecimal digits, of a torrent with a v1 part (BEP 3).
    pub sha1: Option<String>,
    /// The root of its blocks' Merkle tree, in 64 hexadecimal digits, of a torrent with a v2 part (BEP 52).
    pub root: Option<String>,
}
