//! What is said of an import.

use serde::Serialize;
use shoal_node::message::ImportedTorrent;

/// The session of another client was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ImportBegun {
    pub(crate) client: String,
    pub(crate) folder: String,
    pub(crate) torrents: usize,
    pub(crate) dry_run: bool,
}

/// What came of one of its torrents.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ImportTorrent {
    pub(crate) number: usize,
    pub(crate) info_hash: Option<String>,
    pub(crate) name: String,
    pub(crate) directory: Option<String>,
    pub(crate) outcome: &'static str,
    pub(crate) id: Option<i64>,
    pub(crate) message: Option<String>,
    pub(crate) pieces: u32,
    pub(crate) verified_pieces: u32,
    pub(crate) suspect_pieces: u32,
    pub(crate) lost_pieces: u32,
    pub(crate) changed_files: u64,
    pub(crate) missing_files: u64,
    pub(crate) files: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl From<ImportedTorrent> for ImportTorrent {
    fn from(torrent: ImportedTorrent) -> Self {
        ImportTorrent {
            number: torrent.number,
            info_hash: torrent.info_hash,
            name: torrent.name,
            directory: torrent.directory,
            outcome: torrent.outcome.name(),
            id: torrent.id,
            message: torrent.message,
            pieces: torrent.pieces,
            verified_pieces: torrent.verified_pieces,
            suspect_pieces: torrent.suspect_pieces,
            lost_pieces: torrent.lost_pieces,
            changed_files: torrent.changed_files,
            missing_files: torrent.missing_files,
            files: torrent.files,
            notes: torrent.notes,
        }
    }
}

/// All of them were told of.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ImportDone {
    pub(crate) imported: usize,
    pub(crate) already: usize,
    pub(crate) refused: usize,
    pub(crate) left_out: usize,
}
