//! What is asked of a node that takes over another client's torrents.
//!
//! Invariant: where a client usually has its session is decided by the node alone.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use shoal_node::message::{ImportClient, MovedFolder};

use crate::args::StateArgs;

/// Take over the torrents of another client, with what it knows of their content
///
/// Nothing is read again but files that changed since, and nothing of the other client's session changes. Quit it before: two programs would
/// write the same files. What was cut off goes on with a second import.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Whose they are
    #[arg(long, value_name = "CLIENT", value_enum)]
    pub(crate) from: ImportFrom,
    /// The folder of its session
    /// [default: where that client usually has it]
    #[arg(value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Only say what would come of it
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What was below the folder OLD, as the client has it, is below NEW
    #[arg(long, value_name = "OLD=NEW", value_parser = parse_moved)]
    pub(crate) map: Vec<MovedFolder>,
    /// Do not start them yet
    #[arg(long)]
    pub(crate) paused: bool,
    /// Only these: names, eight or more digits of info hashes, category:NAME, tag:NAME
    #[arg(long, value_name = "TORRENT")]
    pub(crate) only: Vec<String>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Clients that people come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFrom {
    /// qBittorrent 3 to 5
    Qbittorrent,
    /// Transmission 2.20 to 4.1
    Transmission,
    /// rTorrent 0.9
    Rtorrent,
    /// Deluge 2
    Deluge,
}

impl ImportFrom {
    pub(crate) const fn client(self) -> ImportClient {
        match self {
            ImportFrom::Qbittorrent => ImportClient::QBittorrent,
            ImportFrom::Transmission => ImportClient::Transmission,
            ImportFrom::Rtorrent => ImportClient::RTorrent,
            ImportFrom::Deluge => ImportClient::Deluge,
        }
    }
}

fn parse_moved(text: &str) -> Result<MovedFolder, String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok(MovedFolder {
            old: old.to_owned(),
            new: new.to_owned(),
        }),
        _ => Err("write OLD=NEW, two folders from the root".to_owned()),
    }
}
