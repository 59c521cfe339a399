//! What is asked of a node about watched folders.
//!
//! Invariant: what is told of torrents that come from a folder is said as for `shoal add`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use shoal_node::message::Afterwards;

use super::AddOptions;
use crate::args::StateArgs;

/// Have the running node add what appears in folders
///
/// Torrent files (.torrent) and magnet links, one on each line of a .magnet or .txt file. A file is added once, when it does not grow any
/// more; one that is refused stays where it is, and `shoal watch` says why.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(subcommand)]
    pub(crate) does: Option<WatchDo>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with watched folders.
#[derive(Debug, Subcommand)]
pub(crate) enum WatchDo {
    /// Show them
    List,
    /// Watch one more, or tell another thing of one
    Add(Box<WatchAddArgs>),
    /// Watch some no more; torrents stay
    Rm {
        /// The folders
        #[arg(value_name = "DIR", required = true)]
        folders: Vec<PathBuf>,
    },
}

/// A folder to watch.
#[derive(Debug, Args)]
pub(crate) struct WatchAddArgs {
    /// The folder to watch
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) add: AddOptions,
    /// Folders below it, too
    #[arg(long)]
    pub(crate) recursive: bool,
    /// What becomes of a file that was added
    #[arg(long, value_name = "WHAT", value_enum, default_value = "keep")]
    pub(crate) then: Then,
}

/// What becomes of a file that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Then {
    /// It stays
    Keep,
    /// Its name goes on with .added
    Rename,
    /// It is deleted
    Delete,
}

impl From<Then> for Afterwards {
    fn from(then: Then) -> Afterwards {
        match then {
            Then::Keep => Afterwards::Keep,
            Then::Rename => Afterwards::Rename,
            Then::Delete => Afterwards::Delete,
        }
    }
}
